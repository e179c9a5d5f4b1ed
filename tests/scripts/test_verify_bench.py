"""What ./sync.sh verify --bench adds: its figures, its pause, and removals of thousands of objects.

Its functions are called alone, with what AWS would answer. A whole run is in test_workflows.py.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import sourced

from mirror.model.log_lines import LAG, SYNCED, quoted, summary
from mirror.protocol.multipart import BEGUN

NAME = "sync-verify-20261127T010203Z-1"
BENCH = f"p/{NAME}/bench/0/small-"
LARGE = f"p/{NAME}/large.bin"
START = f"""
TEMP_DIR='%s' VERIFY_NAME={NAME} VERIFY_FOLDER=p/{NAME}/ VERIFY_SMALL_OBJECTS=300 VIA='' RESOURCE=verify
VERIFY_DIR=$TEMP_DIR VERIFY_STARTED=0
set_account 123456789012
mkdir -p "$TEMP_DIR/facts"
"""


def bash(script: str, folder: Path, **variables: Any) -> subprocess.CompletedProcess[str]:
    return sourced.bash(START % folder + script, **variables)


# The figures


def at(second: float, text: str) -> str:
    return f"2026-11-27T01:02:{second:06.3f}Z INFO {text}"


def synced(key: str, action: str = "copied", size: int = 1024, seconds: float = 0.1) -> str:
    return SYNCED % (quoted(key), action, size, seconds, LAG % 1.5)


# Two workers copy 11 objects within 5 s, the first of them 9 within 2 s; it deletes 3 within 1 s.
FIRST = [at(10 + n / 4, synced(f"{BENCH}{n}")) for n in range(9)] + [
    at(20 + n / 2, synced(f"{BENCH}{n}", "deleted", 0)) for n in range(3)
]
SECOND = [at(15, synced(f"{BENCH}x")), at(14.5, synced(f"{BENCH}y"))]
PARTS = [
    at(1, BEGUN % (quoted(LARGE), 6442450944, 96, 67108864, 0)),
    at(2, f"Progress: 20/96 parts (20%) key={quoted(LARGE)}"),
    at(3, f"Progress: 96/96 parts (100%) key={quoted(LARGE)}"),
    at(3.2, synced(LARGE, size=6442450944, seconds=2.4)),
]  # fmt: skip
OTHERS = [at(0, synced(f"p/{NAME}/small.txt")), at(1, BEGUN % (quoted(f"p/{NAME}/multipart.bin"), 9, 3, 3, 0))]
COUNTS = {"copied": 9, "deleted": 3, "busy": 2}


def figures(folder: Path, lines: dict[str, list[str]], *summaries: tuple[str, str]) -> dict[str, Any]:
    events = [{"logStreamName": stream, "message": f"{text}\n"} for stream, text in summaries]
    found = [{"stream": stream, "message": line} for stream, texts in lines.items() for line in texts]
    (folder / "worker.lines").write_text("".join(json.dumps(line) + "\n" for line in found))
    (folder / "in_source.pages").write_text("[0.3, 0.1, 0.2]")
    (folder / "in_mirror.pages").write_text("[]")
    script = 'aws_or_nothing() { printf "%s" "$EVENTS"; }\nVERIFY_BEGAN=0\nread_summaries\nbench_figures'
    done = bash(script, folder, EVENTS={"events": events})
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_the_figures_are_those_of_the_log(tmp_path: Path) -> None:
    ended = [(task, at(40, summary(COUNTS, 30, 0.24, False))) for task in ("worker/a", "worker/b", "worker/before")]
    found = figures(tmp_path, {"worker/a": OTHERS + PARTS + FIRST, "worker/b": SECOND}, *ended)
    assert found["copied"] == {"count": 11, "workers": 2, "rate": 2, "one": 4}
    assert found["deleted"] == {"count": 3, "rate": 2}
    assert found["cpu_ms"] == pytest.approx(20)  # of the two that copied small objects
    assert found["busy"] == 6  # of all three
    assert found["large"] == {"size": 6442450944, "parts": 96, "rate": 48, "gb_s": pytest.approx(2.684, abs=0.001)}
    assert found["pages"]["source"] == {"count": 3, "least": 3, "median": 0.2, "keys": 100}
    assert found["running"] == 0


def test_the_report_shows_what_is_left_and_the_lag_over_time(tmp_path: Path) -> None:
    """300 objects were put; 11 are copied within 5 s, and the lag is the same all the time."""
    found = figures(tmp_path, {"worker/a": FIRST, "worker/b": SECOND})
    assert found["over_time"]["seconds"] == 5
    assert found["over_time"]["waiting"][::10] == [299, 295, 291, 291, 291]
    (tmp_path / "result").write_text(json.dumps({"bench": found}))
    done = bash('print_bench <"$TEMP_DIR/result"', tmp_path)
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    waiting, lag, time = done.stdout.split("```\n")[1].splitlines()
    assert (waiting, time) == (f"waiting {'█' * 50} 299 at first", "        the first copy, and 5 s later the last one")
    assert (set(lag[8:58]), lag[58:]) == ({" ", "█"}, " 1.5 s at most")


def test_what_the_log_does_not_say_is_not_known(tmp_path: Path) -> None:
    old = at(40, "summary copied=9 deleted=3 skipped=0 failed=0 handed_back=0 bytes=9 seconds=30.0 objects/s=0.4")
    found = figures(
        tmp_path,
        {"worker/a": FIRST, "worker/b": SECOND, "f/[$LATEST]1": [at(9, synced(f"{BENCH}z"))]},
        ("worker/a", old),
    )
    assert (found["cpu_ms"], found["busy"], found["large"], found["running"]) == (None, None, None, 2)
    assert found["copied"]["workers"] == 3
    assert found["pages"]["destination"]["median"] is None


# As both generations of the CLI write it, without the rest of the lines.
DEBUG = """\
2026-11-27 01:02:03,000 - MainThread - botocore.endpoint - DEBUG - Making request for OperationModel(name=ListObjectsV2)
2026-11-27 01:02:03,100 - MainThread - botocore.endpoint - DEBUG - Sending http request: <url=https://b/?session, >
2026-11-27 01:02:03,200 - MainThread - botocore.parsers - DEBUG - Response headers: {}
2026-11-27 01:02:03,900 - MainThread - botocore.endpoint - DEBUG - Sending http request: <url=https://b/?list-type=2, >
2026-11-27 01:02:04,150 - MainThread - botocore.parsers - DEBUG - Response headers: {}
2026-11-27 01:02:04,160 - MainThread - botocore.parsers - DEBUG - Response body:
b'<SecretAccessKey>'
2026-11-27 01:02:04,500 - MainThread - botocore.endpoint - DEBUG - Sending http request: <url=https://b/?list-type=2, >
2026-11-27 01:02:05,000 - MainThread - botocore.parsers - DEBUG - Response headers: {}
"""


@pytest.mark.parametrize(
    ("log", "status", "pages"), [(DEBUG, 0, [0.25, 0.5]), ("other words\n", 0, []), ("", 255, None)]
)
def test_pages_are_timed_without_the_cli(log: str, status: int, pages: list[float] | None, tmp_path: Path) -> None:
    script = (
        'aws() { printf "%s" "$LOG" >&2; return "$STATUS"; }\ntime_pages in_mirror\ncat "$VERIFY_DIR/in_mirror.pages"'
    )
    done = bash(script, tmp_path, LOG=log, STATUS=status, DST_BUCKET="mirror", DST_BUCKET_OWNER="1")
    assert (done.returncode, "mirror could not be listed" in done.stderr) == (int(pages is None), pages is None)
    assert pages is None or json.loads(done.stdout) == pytest.approx(pages)


# The pause

VERIFY = """
start_verb() { start_run; set_account 123456789012; }
need_deployment() { :; }
deployed_setting() { :; }
run_rounds() { VERIFY_TOUCHED=true; "$@"; }
clean_up_objects() { echo cleaned; }
abort_uploads() { :; }
ask_starter() { cat "$STATE"; }
starter_setting() { ask_starter | jq -r --arg name "$1" '.[$name] // ""'; }
paused_since() { starter_setting PAUSED_SINCE; }
change_function() { # as of the AWS that keeps one variable
  local now
  now=$(jq '{Environment: {Variables: .}}' "$STATE" | "$@")
  jq .Environment.Variables <<<"$now" >"$STATE"
}
end_work() { "$PAUSED"; }
await_small() { jq -r '.PAUSED_SINCE // "running"' "$STATE"; exit 9; }
put_small_objects() { :; }
interrupted() { kill -INT "$MAIN"; }
failing() { die "no"; }
paused_by_others() { :; }
MAIN=$BASHPID
verb_verify --bench --yes
"""


@pytest.mark.parametrize(
    ("moment", "others", "status", "printed", "after"),
    [
        (":", None, 9, "running\ncleaned\n", {}),
        ("interrupted", None, 130, "cleaned\n", {}),
        ("failing", None, 1, "cleaned\n", {}),
        # Paused by somebody else after the run began.
        (":", "2026-11-27T00:00:00Z", 1, "cleaned\n", {"PAUSED_SINCE": "2026-11-27T00:00:00Z"}),
    ],
)
def test_its_pause_ends_whatever_happens_and_that_of_others_does_not(
    moment: str, others: str | None, status: int, printed: str, after: dict[str, str], tmp_path: Path
) -> None:
    state = tmp_path / "state"
    state.write_text(json.dumps({"PAUSED_SINCE": others} if others else {}))
    done = bash(VERIFY, tmp_path, STATE=state, PAUSED=moment, SRC_BUCKET="source")
    assert (done.returncode, done.stdout) == (status, printed), done.stderr
    assert json.loads(state.read_text()) == after
    assert ("somebody has paused the sync since 2026-11-27T00:00:00Z" in done.stderr) == bool(others)


# Removals

REMOVE = """
in_source() {
  if [[ $1 == list-* ]]; then jq -n '{Contents: [range(2500) | {Key: "k\\(.)", ETag: "e", Size: 1, LastModified: 0}]}'
  else jq -c '.Objects | [length, .[0].Key]' "${3#file://}"; fi
}
must_be_zero() { cat; }
remove_folder in_source
"""


def test_thousands_of_objects_are_removed_a_thousand_at_a_time(tmp_path: Path) -> None:
    done = bash(REMOVE, tmp_path)
    assert done.stdout.splitlines() == ['[1000,"k0"]', '[1000,"k1000"]', '[500,"k2000"]'], done.stderr
