"""What a terminal shows of the scripts: colours, tables in 80 columns, and that something goes on."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cost import SETUP, STORED, USED
from status_parts import IDLE, NUMBERS
from test_sync import bash, judged, printed

ROOT = Path(__file__).parents[2]
PARTS = ("say", "aws", "result", "log_lines", "one_task", "verbs/status", "verbs/redrive", "verify/table")
START = "set -euo pipefail\n" + "".join(f'source "$0/lib/{name}.sh"\n' for name in PARTS) + "TEMP_DIR=$1\n"
GREEN, AMBER, RED = "\x1b[32m", "\x1b[33m", "\x1b[31m"
CODES = re.compile("\x1b\\[[0-9]+m")


def shown(script: str, folder: Path, shows: str = "", text: str = "", **settings: str) -> str:
    """What comes to stdout and stderr of the script, of which a terminal shows those that are named."""
    screen, terminal = pty.openpty()
    try:
        done = subprocess.run(
            ["bash", "-c", START + script, ROOT, folder],
            input=text.encode(),
            stdout=terminal if "stdout" in shows else subprocess.PIPE,
            stderr=terminal if "stderr" in shows else subprocess.PIPE,
            env={"PATH": os.environ["PATH"]} | settings,
            check=True,
        )
    finally:
        os.close(terminal)
    seen = b""
    try:
        while shows and (part := os.read(screen, 65536)):
            seen += part
    except OSError:  # all of it was read
        pass
    finally:
        os.close(screen)
    return ((done.stdout or b"") + seen + (done.stderr or b"")).decode().replace("\r\n", "\n")


# Colour

STATUS = """VIA=''; start_verb() { :; }; collect_status() { printf '{"state": "idle"}'; }; status_lines() { :; }
verb_status"""
VERIFIED = "show_result <<<'# sync.sh verify: all is well'"


@pytest.mark.parametrize(
    ("script", "shows", "settings", "is_coloured"),
    [
        (STATUS, "stdout", {}, True),
        (STATUS, "stdout", {"NO_COLOR": ""}, True),
        (STATUS, "stdout", {"NO_COLOR": "1"}, False),
        (STATUS, "stderr", {}, False),
        (STATUS, "", {}, False),
        (STATUS + " --json", "stdout", {}, False),
        (STATUS + " --json", "", {"NO_COLOR": "1"}, False),
        (VERIFIED, "stdout", {}, True),
        (VERIFIED, "stdout", {"NO_COLOR": "1"}, False),
        (VERIFIED, "", {}, False),
    ],
)
def test_results_have_colours_only_on_a_terminal_that_wants_them(
    script: str, shows: str, settings: dict[str, str], is_coloured: bool, tmp_path: Path
) -> None:
    output = shown(script, tmp_path, shows, **settings)
    assert bool(CODES.search(output)) == is_coloured, output
    if script.endswith("--json"):
        assert json.loads(output)["state"] == "idle"


@pytest.mark.parametrize(
    ("state", "colour"), [("idle", GREEN), ("working", GREEN), ("behind", AMBER), ("failing", RED)]
)
def test_the_word_of_status_has_the_colour_of_its_meaning(state: str, colour: str, tmp_path: Path) -> None:
    script = STATUS.replace("idle", state) + " || true"
    assert f"{colour}{state}\x1b[0m\n" in shown(script, tmp_path, "stdout")


RESULT = """\
# sync.sh verify: not all is well

- **no copy**: because
| object  | seen | bytes  | metadata | lag |
| `a.txt` | yes  | equal  | equal    | 1 s |
| `b.txt` | no   | -      | -        | -   |
| `c.txt` | yes  | differ | equal    | 1 s |
| `d.txt` | yes  | equal  | differ   | 1 s |
"""


def test_rows_that_differ_are_red(tmp_path: Path) -> None:
    output = shown("show_result", tmp_path, "stdout", RESULT)
    assert CODES.sub("", output) == RESULT
    red = [CODES.sub("", line)[2:7] for line in output.splitlines() if line.startswith(RED)]
    assert red == ["sync.", "**no ", "`b.tx", "`c.tx", "`d.tx"]


# Something goes on

ERASED = "\r\x1b[K"
# The work is a run of its own, as that of deploy.sh is within the run of --local.
SLOW = """
source "$0/lib/run.sh"
source "$0/lib/names.sh"
APP_NAME=app
work() (start_run; read -r; say 'a message')
say_while 'status: asking AWS' work
say done
"""


def on_one_line(text: str) -> str:
    return f"{ERASED}\x1b[?7l{text}\x1b[?7h"


def test_a_terminal_shows_long_work_on_one_line_and_nothing_else_shows_it(tmp_path: Path) -> None:
    screen, terminal = pty.openpty()
    command, pipe = ["bash", "-c", START + SLOW, ROOT, tmp_path], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stderr=terminal) as process:
        os.close(terminal)
        seen = b""
        while not re.search(b"[0-9] s", seen):
            seen += os.read(screen, 65536)
        process.communicate(b"\n")
    with contextlib.suppress(OSError):  # all of it was read
        while part := os.read(screen, 65536):
            seen += part
    os.close(screen)
    text = seen.decode().replace("\r\n", "\n")
    first, second = on_one_line("status: asking AWS"), on_one_line("status: asking AWS: 1 s")
    assert text.startswith(first + second), repr(text)
    assert f"{ERASED}a message\n" in text, repr(text)
    assert text.endswith(f"{ERASED}done\n"), repr(text)
    assert text.count("\n") == 2
    for shows in ("stdout", ""):
        assert shown(SLOW, tmp_path, shows, "\n") == "a message\ndone\n"


def test_of_what_is_waited_for_a_terminal_shows_the_last_line_and_a_log_has_all(tmp_path: Path) -> None:
    script = "RETRY_LIMIT=9 RETRY_PAUSE=0; pause 1 'SQS is late'; pause 2 'SQS is late'; say done"
    first, second = (f"      waiting: SQS is late (try {number} of 9, next in 0 s)" for number in (1, 2))
    assert shown(script, tmp_path, "stderr") == f"{on_one_line(first)}{ERASED}{on_one_line(second)}{ERASED}done\n"
    assert shown(script, tmp_path) == f"{first}\n{second}\ndone\n"


# Answers


@pytest.mark.parametrize(
    ("typed", "status", "said"),
    [("y\n", 0, ""), ("n\n", 1, f"{ROOT.name}: nothing was done\n"), ("\x04", 1, f"\n{ROOT.name}: nothing was done\n")],
)
def test_a_question_takes_a_yes_and_after_any_other_answer_says_that_nothing_was_done(
    typed: str, status: int, said: str
) -> None:
    keyboard, terminal = pty.openpty()
    os.write(keyboard, typed.encode())
    command = ["bash", "-c", START + "need_yes 'Continue?' 'nothing was done'", ROOT, "."]
    done = subprocess.run(command, stdin=terminal, capture_output=True, text=True)
    os.close(keyboard)
    os.close(terminal)
    assert (done.returncode, done.stderr.endswith(said)) == (status, True), done.stderr


# Messages

REFUSED = (
    "SUBNETS=subnet-1: " + "AWS says of it that it does not exist, and more " * 3 + "run ./sync.sh --local reconcile"
)


@pytest.mark.parametrize("shows", ["stderr", ""])
def test_a_message_has_80_columns_on_a_terminal_and_is_one_line_elsewhere(shows: str, tmp_path: Path) -> None:
    script = f"begin_checks; problem '{REFUSED}'; (stop_on_problems) || say '      {REFUSED}'"
    lines = shown(script, tmp_path, shows).splitlines()
    if shows:
        assert max(map(len, lines)) <= 80
        assert [len(line) - len(line.lstrip()) for line in lines] == [0, 0, 2, 2, 6, 6, 6]
        assert " ".join(map(str.strip, lines[1:])) == f"- {REFUSED} {REFUSED}"
    else:
        assert lines[1:] == [f"- {REFUSED}", f"      {REFUSED}"]


# 80 columns. What may be longer: a line of one word, which nothing can break, as it is to be copied.

BUCKETS = ("s" * 63, f"{'d' * 47}--euw1-az1--x-s3")
TIME = "2026-11-26T02:14:07.212Z"
KEY = f"datasets/2026/a long {'k' * 40}.parquet"
WHY = f'operation=CopyObject error=AccessDenied message="Access Denied" advice="allow the role s3:GetObject" {"w" * 50}'
DECISION = NUMBERS | {
    "visible": 1234567,
    "in_flight": 119_999,
    "running": 100,
    "wanted": 100,
    "started": {"FARGATE_SPOT": 40, "FARGATE": 60},
    "failures": ["Capacity is unavailable at this time. Please try again later or in a different availability zone"],
    "copied": {"copied": 1000, "deleted": 100, "failed": 10, "handed_back": 100},
    "trial": "one worker alone until it has shown that it works",
}
WAITING = {
    "at": TIME,
    "key": KEY,
    "keys": 12345,
    "prefix": "datasets/2026/",
    "example": KEY,
    "why": "failing",
    "since": TIME,
}
LONG_STATUS: dict[str, Any] = IDLE | {
    "source": {"name": BUCKETS[0], "error": "An error occurred (AccessDenied) when calling ListObjectsV2: no"},
    "destination": {"name": BUCKETS[1], "error": ""},
    "queue": {"visible": 12345678, "in_flight": 119999, "delayed": 119999, "oldest_seconds": 1209600},
    "dead_letters": {"visible": 12345678},
    "version": {"deployed": "1.0.0", "checkout": "1.10.10", "older": True, "error": ""},
    "workers": [
        {"id": f"{kind}{state}", "capacity": kind, "status": state}
        for kind in ("FARGATE_SPOT", "FARGATE")
        for state in ("PROVISIONING", "RUNNING", "DEPROVISIONING")
    ],
    "rule": None,
    "events": IDLE["events"] | {"source": "both", "problems": [f"no policy lets the bucket {BUCKETS[0]} send"]},
    "options": {
        "starter_copies": True, "starter_max_size": 67108864, "min_workers": 12, "copy_last": "_SUCCESS,*.done",
        "announce": "markers", "prefixes": ["datasets/2026/", "models/"] * 9, "keep_days": 365,
        "exclude": ["*.tmp", "*/_temporary/*"] * 9,
    },
    "starter": {"at": TIME, "seconds_ago": 86399, "decision": DECISION, "error": ""},
    "lag": {"count": 1000, "p50": 123.456, "p99": 123456.789, "newest": TIME},
    "markers": {"count": 12, "newest": WAITING, "others": [WAITING]},
    "outage": {"state": "goes on", "since": TIME, "at": TIME, "reason": WHY, "event": "began"},
    "audit": {
        "days": 9, "next": TIME, "last": {"at": TIME, "seconds_ago": 10**7, "end": "complete", "status": 1, "found": 9},
    },
    "failures": {"count": 1000, "newest": [{"key": KEY, "times": 999, "at": TIME, "reason": WHY}]},
}  # fmt: skip
MESSAGES = [
    {"id": "1", "sent": TIME, "keys": [{"key": KEY, "at": TIME, "reason": WHY}] * 2},
    {"id": "2", "sent": TIME, "keys": [], "body": "what somebody sent to it " * 8},
]
LACKING = {
    "lacking": 999,
    "missing_keys": [{"key": KEY, "why": f"failing: {WHY}; it is in the queue: ./sync.sh redrive"}],
}
CASES = ("with space/größe € +%.txt", "nested/deeper/file.json")
VERIFY: dict[str, Any] = {
    "results": [
        {"name": name, "key": f"p/sync-verify-1/{name}", "state": state, "bytes": "different", "checksum": "different",
         "metadata": "different: ContentType, CacheControl, ContentDisposition, ContentEncoding"}
        for name, state in zip((*CASES, "encoded"), ("arrived", "not asked", "arrived"), strict=True)
    ] + [{"name": name, "key": f"p/sync-verify-1/{name}", "state": "missing", "bytes": "-", "metadata": "-",
          "checksum": "-"}
         for name in ("double", "trailing", "removed")],
    "synced": [{"key": f"p/sync-verify-1/{name}", "action": "copied", "size": 6442450944, "seconds": 1234.567,
                "lag": 999.999, "by": "starter"} for name in CASES],
    "times": {"event": None, "busy": True, "by": "starter", "created": 1234.5, "first": 1234.5, "last": 12345.5},
    "breaks": [{"link": "no event", "why": f"the bucket sends no events {WHY}", "command": "aws s3api x " + "y" * 90}],
    "versions": [["image", f"123456789012.dkr.ecr.eu-west-1.amazonaws.com/{'a' * 50}:{'0' * 40}"],
                 ["function", f"python3.13, code 0123456789ab, changed {TIME}"],
                 ["options", "EVENT_SOURCE=eventbridge, STARTER_COPIES=true, STARTER_MAX_SIZE=1048576, MIN_WORKERS=9"]],
    "encoding": "", "mirror": BUCKETS[1], "source": BUCKETS[0], "copying": True,
    "bench": {
        "bytes": 1024, "copied": {"count": 99999, "workers": 99, "rate": 99999.9, "one": 0.04},
        "deleted": {"count": 99999, "rate": None}, "cpu_ms": 1234.5, "busy": 99999, "events": 30,
        "large": {"size": 6442450944, "parts": 96, "rate": 12345.6, "gb_s": 123.45},
        "pages": {side: {"count": 3, "median": 12.3456, "keys": 1000} for side in ("source", "destination")},
    },
}  # fmt: skip


def lines_of_cost() -> str:
    prices = json.loads((ROOT / "lib/prices.json").read_text())
    used = USED | {
        "copies": 10**9, "large": 10**6, "parts": 10**8, "deletes": 10**8, "bytes": 10**15, "announced": 10**9,
        "tasks": 10**5, "worker_seconds": 10**8, "runs": 10**6, "run_seconds": 10**7, "log_bytes": 10**13,
        "spot_share": 0.75,
    }  # fmt: skip
    setup = SETUP | {"has_events": True, "endpoints": 2, "alarms": 6, "min_workers": 12, "region": "ap-southeast-2"}
    stored = dict.fromkeys(STORED, 10**15) | {"kept_7_bytes": 1, "kept_30_bytes": 2, "kept_90_bytes": 3}
    figures = {"prices": prices, "hours": 730, "setup": setup | {"arch": "X86_64"}, "used": used, "stored": stored}
    program = '"$(jq_folded)$(cat "$PROJECT_DIR/lib/cost.jq") bill | table | folded(51)"'
    return printed(f"jq -r {program}", json.dumps(figures))


TABLES = {
    "status": lambda: printed("print_status", json.dumps(judged(LONG_STATUS))),
    "redrive": lambda: printed("print_messages", json.dumps(MESSAGES)),
    "wait": lambda: printed(f"print_lacking '{json.dumps(LACKING)}'"),
    "cost": lines_of_cost,
    "verify": lambda: printed('start_run; cat >"$TEMP_DIR/r"; print_result "$TEMP_DIR/r"', json.dumps(VERIFY)),
    "verify, of workers": lambda: printed(
        'start_run; cat >"$TEMP_DIR/r"; print_result "$TEMP_DIR/r"', json.dumps(VERIFY | {"copying": False})
    ),
    "verify, asking": lambda: bash(
        """SRC_BUCKET=$BUCKET DST_BUCKET=$BUCKET VERIFY_FOLDER=sync-verify-20261127T015124Z-26155/
        choose_cases true 5368709; ask_to_verify true bench""",
        BUCKET="b" * 20,
    ).stderr,
    "deploy, at its end": lambda: printed(
        "synced_part() { echo s3://b; }; DST_BUCKET=c; print_next_commands"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_a_table_has_80_columns(name: str) -> None:
    lines = TABLES[name]().splitlines()
    assert len(lines) > 4
    too_long = [line for line in lines if len(line) > 80]
    assert [line for line in too_long if not is_one_word(line)] == []


def is_one_word(line: str) -> bool:
    """After what introduces it."""
    word = r'"[^"]*"|`[^`]*`|\S+'
    return bool(re.fullmatch(rf"(?: *| *[a-z]+ {{2,}}|  Look closer: |- [a-z]+: )(?:{word})[:;,]?", line))


# The log of a task

AT = "2026-11-25T01:02:03.456Z"
PROGRESS = f"{AT} INFO progress listed=%d missing=0 seconds=9.0 keys/s=90 folders=2/9 left=estimating\n"
DIFFERENCE = f'{AT} INFO difference number=1 what=stale key="a"\n'
LOG = f"{AT} INFO comparing\n{PROGRESS % 1}{PROGRESS % 22}{DIFFERENCE}{AT} INFO end\n"
SHORT = "progress: listed=%d keys/s=90 folders=2/9 left=estimating"


def test_a_terminal_shows_the_progress_on_one_line_that_is_written_over(tmp_path: Path) -> None:
    assert shown("show_lines; end_progress", tmp_path, "stdout", LOG) == (
        f"{AT} INFO comparing\n{on_one_line(SHORT % 1)}{on_one_line(SHORT % 22)}{ERASED}{AT} INFO end\n"
    )
    assert shown("show_lines; end_progress", tmp_path, "", LOG) == LOG.replace(DIFFERENCE, "")
