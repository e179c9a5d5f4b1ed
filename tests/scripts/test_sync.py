"""sync.sh without a cloud: how it is called, what it makes of the dashboard's queries, and what status says."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from insights import answer, widgets
from sourced import bash, printed, unfolded
from status_parts import IDLE, NUMBERS
from world import MIRROR, SOURCE, World

from mirror.model.log_lines import OUTAGE, OUTAGE_ENDS, OUTAGE_OVER

ROOT = Path(__file__).parents[2]
NOON = 1795608000  # 2026-11-25
WHY = "operation=CopyObject error=AccessDenied"
DENIED_STARTER = "An error occurred (AccessDeniedException): it is not authorized to perform: ecs:RunTask"
BEGAN = f"ERROR {OUTAGE % (10, WHY)}"
OVER, ENDED = f"INFO {OUTAGE_OVER % 90}", f"ERROR {OUTAGE_ENDS % (600, WHY)}"


def test_the_queries_of_the_dashboard_read_what_a_worker_writes(world: World) -> None:
    world.put("a b", 12_582_913)
    world.put("refused")
    world.put("gone")
    world.standin.put(MIRROR, "gone", 10)
    world.standin.delete(SOURCE, "gone")
    world.standin.fault("HeadObject", "error", key="^refused$", status=403, code="403", times=0)
    lines = world.run_worker(EMPTY_POLLS_BEFORE_EXIT="1", RETRY_BASE_SECONDS="1").splitlines()
    lines.append(outage := f"2026-11-25T00:01:04.000Z {BEGAN}")
    rows = [{"@timestamp": 65.0, "@logStream": "worker/worker/1", "@message": line} for line in lines]
    found = {
        widget["properties"]["title"]: answer(widget["properties"]["query"], rows)
        for widget in widgets()
        if widget["type"] == "log"
    }
    failed = [line for line in lines if ' ERROR failed key="refused" ' in line]
    assert failed
    assert found["Copies, deletes and failures a minute"] == [
        {"bin": 60, "copies": 1, "deletes": 1, "failures": len(failed)}
    ]
    assert found["Bytes a minute"] == [{"bin": 60, "bytes": 12_582_913}]
    assert found["Workers"] == [{"bin": 60, "workers": 1}]
    assert [row["@message"] for row in found["Last failures"]] == [*failed, outage]
    (lag,) = found["Lag from event to copy (s)"]
    assert 0 < lag["p50"] <= lag["p99"] < 60


ENTRY_POINTS = ("deploy.sh", "cleanup.sh", "sync.sh")
VERBS = re.findall(r"\w+", re.findall(r"^readonly VERBS=\((.*)\)$", (ROOT / "sync.sh").read_text(), re.MULTILINE)[0])
EVERY_HELP = [*((script, "--help") for script in ENTRY_POINTS), *(("sync.sh", verb, "--help") for verb in VERBS)]


def called(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """One of the scripts, where no call can reach AWS."""
    command = [ROOT / script, *arguments]
    environment = {"PATH": "/usr/bin:/bin", "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
    return subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)


@pytest.mark.parametrize("command", EVERY_HELP, ids=" ".join)
def test_every_help_is_the_head_of_its_file_in_80_columns(command: tuple[str, ...]) -> None:
    done = called(*command)
    assert (done.returncode, done.stderr) == (0, "")
    file = f"lib/verbs/{command[1]}.sh" if len(command) == 3 else command[0]
    head = re.search(r"^# usage: .*?(?=\n\n)", (ROOT / file).read_text(), re.MULTILINE | re.DOTALL)
    assert head and done.stdout.startswith(re.sub("^# ?", "", head[0], flags=re.MULTILINE))
    assert done.stdout.startswith(f"usage: ./{' '.join(command[:-1])}")
    assert [line for line in done.stdout.splitlines() if len(line) > 80] == []


def test_the_help_of_sync_names_every_verb() -> None:
    assert re.findall(r"^  ([a-z]+)  +\w", called("sync.sh", "--help").stdout, re.MULTILINE) == VERBS


@pytest.mark.parametrize("script", ENTRY_POINTS)
def test_help_and_version_have_their_usual_names(script: str) -> None:
    texts = {called(script, *words).stdout for words in (["--help"], ["-h"], ["help"], ["--local", "-h"])}
    assert len(texts) == 1
    assert re.fullmatch(
        r"s3-to-s3express-sync \d+\.\d+\.\d+(-dev)?(, commit \w+)?\n", called(script, "--version").stdout
    )


def test_the_help_of_a_verb_has_all_of_its_names() -> None:
    ways = [
        "wait --help",
        "wait -h",
        "help wait",
        "--help wait",
        "--local wait --prefix a -h",
        "wait --json --local -h",
    ]
    assert len({called("sync.sh", *way.split()).stdout for way in ways}) == 1


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        ("sync.sh", "name a verb"),
        ("sync.sh --json", "name a verb"),
        ("sync.sh destroy", "unknown verb destroy"),
        ("sync.sh help destroy", "unknown verb destroy"),
        ("sync.sh 'status logs'", "unknown verb status logs"),
        ("sync.sh status --wrong", "unknown option --wrong"),
        ("sync.sh --wrong status", "unknown option --wrong"),
        ("sync.sh logs --since 5x", "--since 5x is not a duration"),
        ("sync.sh logs --since", "--since needs a value"),
        ("sync.sh reconcile --max-delete", "--max-delete needs a value"),
        ("sync.sh reconcile --max-delete x", "reconcile: --max-delete x is not a whole number"),
        ("sync.sh reconcile --examples 1e3", "reconcile: --examples 1e3 is not a whole number"),
        ("sync.sh reconcile --audit --remove-unwanted", "--audit removes nothing"),
        ("sync.sh reconcile --audit --remove-foreign", "--audit removes nothing: leave out --remove-foreign"),
        ("sync.sh redrive everything", "unknown option everything"),
        ("sync.sh verify --timeout soon", "--timeout soon is not a duration"),
        ("sync.sh verify --report /nowhere/report.md", "there is no such folder"),
        ("sync.sh verify --report .", "--report .: this file cannot be written"),
        ("deploy.sh extra", "unknown option: extra"),
        ("deploy.sh --once", "--once needs --local"),
        ("deploy.sh --once --dry-run --local", "--local has no dry run"),
        ("cleanup.sh --once", "unknown option: --once"),
        ("cleanup.sh --local --dry-run", "--local has no dry run"),
    ],
)
def test_wrong_usage_ends_with_2_and_says_what_is_wrong(command: str, complaint: str) -> None:
    done = called(*shlex.split(command))
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"\w+\.sh: .*\(use --help\)\n", done.stderr)
    assert complaint in done.stderr


@pytest.mark.parametrize("words", ["status --json", "--json status", "--local --json status", "status --json --local"])
def test_options_stand_in_any_order(words: str) -> None:
    script = 'use_local_cloud() { echo local; }; verb_status() { echo "$@"; }\n'
    assert printed(f"{script}main {words}").split() == [*(["local"] * ("--local" in words)), "--json"]


def test_thousands_of_failures_give_their_reasons(tmp_path: Path) -> None:
    lines = [f'2026-01-01T00:00:00Z ERROR failed key="key {n}" attempt=1/3 operation=X error=403' for n in range(5000)]
    lines.append('2025-12-31T00:00:00Z ERROR failed key="key 7" attempt=1/3 operation=X error=older')
    (tmp_path / "rows.json").write_text(json.dumps([{"@message": line} for line in lines]))
    messages = [{"id": str(n), "body": "", "sent": 1767225600, "keys": [f"key {n}"]} for n in (7, 5001)]
    output = printed(f"start_run; query() {{ cat '{tmp_path}/rows.json'; }}; with_reasons", json.dumps(messages))
    first, second = json.loads(output)
    assert first["keys"] == [{"at": "2026-01-01T00:00:00Z", "key": "key 7", "reason": "operation=X error=403"}]
    assert second["keys"] == [{"at": None, "key": "key 5001", "reason": "not in the log any more"}]


def test_messages_are_shown_and_moved_without_their_reasons_if_the_log_cannot_be_read() -> None:
    """Slow, denied or throttled: what the query says of that is printed."""
    messages = [{"id": "m", "body": "{}", "sent": 1767225600, "keys": ["a"]}]
    slow = "start_run; query() { die 'a query did not end in 120 s'; }"
    done = bash(f'{slow}; found=$(with_reasons); echo "$found"; hint_at_missing <<<$found', json.dumps(messages))
    assert done.returncode == 0, done.stderr
    (message,) = json.loads(done.stdout)
    assert message["keys"] == [{"at": None, "key": "a", "reason": "not known: the log could not be read"}]
    assert re.fullmatch("[^:]+: a query did not end in 120 s\n", done.stderr)


@pytest.mark.parametrize("via", ["", " --local"])
@pytest.mark.parametrize("keys", [[["a"]], [[]], [["a"], [], []]])
def test_redrive_says_that_what_is_no_event_would_come_back(keys: list[list[str]], via: str) -> None:
    done = bash(f"VIA='{via}'; hint_at_unreadable", json.dumps([{"keys": found} for found in keys]))
    poison = keys.count([])
    assert done.returncode == 0
    assert (f"{poison} of these are not S3 events" in done.stderr) == bool(poison)
    assert (f"./sync.sh{via} redrive --purge" in done.stderr) == bool(poison)


def test_status_has_nobody_redrive_what_comes_back() -> None:
    """Whether a message is an event is seen when it is looked at, which status does not do: it would hide it."""
    reasons = [judged({"dead_letters": {"visible": count}})["reasons"] for count in (1, 3)]
    assert reasons == [
        [f"{count} in the dead-letter queue: ./sync.sh redrive --list"] for count in ("1 message", "3 messages")
    ]


def test_what_no_message_may_be_nested_like_is_shown_as_no_event() -> None:
    body = "[" * 100_000
    assert json.loads(printed("with_keys", json.dumps([{"body": body}]))) == [{"body": body, "keys": []}]


def test_a_task_gets_each_argument_as_it_is() -> None:
    prefix = "a\n--remove-unwanted"
    script = """starter_setting() { :; }; network_configuration() { :; }
        aws_or_die() {
          while [[ $1 != --overrides ]]; do shift; done
          jq '{tasks: [{taskArn: (.containerOverrides[0].command | @base64)}]}' <<<"$2"
        }
        start_one_task me reconcile --prefix "$PREFIX" | base64 -d"""
    assert json.loads(printed(script, PREFIX=prefix)) == ["reconcile", "--prefix", prefix]


# status


def judged(parts: dict[str, Any]) -> dict[str, Any]:
    return json.loads(printed("judge", json.dumps(IDLE | parts)))


def test_what_the_guard_failed_with_is_said_once() -> None:
    fault = {"link": "no event", "fault": "the rule x is disabled", "cure": "./deploy.sh"}
    said = f"{fault['fault']}: {fault['cure']}"
    for error, more in ((said, []), (f"no workers; {said}", ["the starter failed: no workers"])):
        failed = {**IDLE["starter"], "error": f"[ERROR] RuntimeError: {error}\nTraceback", "decision": None}
        reasons = judged({"faults": [fault], "starter": failed})["reasons"]
        assert [reason.replace("[ERROR] RuntimeError: ", "") for reason in reasons] == [said, *more]


def test_right_after_a_repair_what_the_guard_failed_with_is_said_to_be_fixed() -> None:
    said = "the rule x is disabled: ./deploy.sh, then ./sync.sh reconcile (look at what it calls foreign)"
    failed = {**IDLE["starter"], "at": "NOON", "error": f"[ERROR] RuntimeError: {said}\nTraceback", "decision": None}
    found, output = status_of({"starter": failed})
    assert (found["state"], found["starter"]["fixed"]) == ("idle", True)
    assert f"starter       NOON: failed, which has been fixed since: {said}\n" in output
    mixed = failed | {"error": f"[ERROR] RuntimeError: no workers; none; {said}"}
    assert judged({"starter": mixed})["reasons"] == ["the starter failed: [ERROR] RuntimeError: no workers; none"]
    unread = {"events": {**IDLE["events"], "source": "unknown", "error": "AccessDenied"}}  # so nobody knows
    assert status_of({"starter": failed} | unread)[0]["state"] == "failing"


@pytest.mark.parametrize(
    ("error", "cure"),
    [
        (f"RuntimeError: workers of x were not started: {DENIED_STARTER}", "./deploy.sh restores its role"),
        (f"ClientError: {DENIED_STARTER}", '"Denied" in docs/troubleshooting.md'),
        ("Runtime.ImportModuleError: Unable to import module 'starter'", "./deploy.sh restores the function"),
        ("KeyError: 'QUEUE_URL'", "./deploy.sh restores the function"),
        ("EndpointConnectionError: Could not connect", ""),
    ],
)
def test_a_starter_that_was_denied_or_changed_has_its_cure(error: str, cure: str) -> None:
    failed = {**IDLE["starter"], "error": f"[ERROR] {error}\nTraceback", "decision": None}
    (reason,) = judged({"starter": failed})["reasons"]
    said = f"the starter failed: [ERROR] {error}"
    assert reason.startswith(said)
    assert cure in reason
    assert (reason == said) == (cure == "")


def gathered(name: str, command: str) -> str:
    """What adds a part of the status that a command prints."""
    return f"parts=$({command} | jq --argjson parts \"$parts\" '$parts + {{{name}: .}}')\n"


def status_of(parts: dict[str, Any], script: str = "", **variables: Any) -> tuple[dict[str, Any], str]:
    """(what is judged, all that is printed) at noon; the script may add to the parts, in the variable of that name."""
    piece = f"""now() {{ echo {NOON}; }}; query() {{ printf '%s' "$ROWS"; }}; parts=$(cat)
        {script}
        judged=$(judge <<<"$parts"); jq -c . <<<"$judged"; print_status <<<"$judged\""""
    found, _, output = printed(piece, json.dumps(IDLE | parts), **variables).partition("\n")
    return json.loads(found), unfolded(output)


@pytest.mark.parametrize(
    ("changed", "state"),
    [
        ({}, "idle"),
        ({"queue": {**IDLE["queue"], "visible": 1}}, "working"),
        ({"queue": {**IDLE["queue"], "delayed": 1}}, "working"),
        ({"workers": [{"id": "1"}]}, "working"),
        ({"workers": [{"id": "1", "stays": True}]}, "idle"),
        ({"workers": [{"id": "1", "stays": True}, {"id": "2"}]}, "working"),
        ({"workers": [{"id": "1", "stays": True}], "queue": {**IDLE["queue"], "in_flight": 1}}, "working"),
        ({"queue": {**IDLE["queue"], "in_flight": 1}}, "working"),  # the function copies
        ({"events": {**IDLE["events"], "source": "eventbridge"}}, "idle"),
        ({"events": {**IDLE["events"], "source": "both"}}, "idle"),
        ({"events": {**IDLE["events"], "source": "unknown", "error": "AccessDenied"}}, "idle"),
        ({"faults": [{"link": "no event", "fault": "the rule is disabled", "cure": "./deploy.sh"}]}, "failing"),
        ({"queue": {**IDLE["queue"], "visible": 1, "oldest_seconds": 901}}, "behind"),
        ({"queue": {**IDLE["queue"], "oldest_seconds": 901}}, "idle"),
        (
            {
                "queue": {**IDLE["queue"], "visible": 1},
                "starter": {**IDLE["starter"], "decision": {"failures": ["Capacity is unavailable at this time"]}},
            },
            "behind",
        ),
        ({"dead_letters": {"visible": 1}}, "failing"),
        ({"starter": None}, "failing"),
        ({"starter": None, "function_age": 179}, "idle"),
        ({"starter": None, "function_age": 181}, "failing"),
        ({"starter": {**IDLE["starter"], "error": "[ERROR] ValueError", "decision": None}}, "failing"),
        ({"starter": {**IDLE["starter"], "decision": {"failures": [], "failing": ""}}}, "idle"),
        ({"starter": {**IDLE["starter"], "decision": {"failures": [], "failing": "CannotPull"}}}, "failing"),
        ({"starter": {**IDLE["starter"], "seconds_ago": 200}}, "failing"),
        ({"rule": {"enabled": True, "minutes": 5}, "starter": {**IDLE["starter"], "seconds_ago": 200}}, "idle"),
        ({"rule": {"enabled": True, "minutes": 120}, "starter": None}, "idle"),
        ({"source": {"name": "a", "error": "NoSuchBucket"}}, "failing"),
        ({"starter": None, "not_known": ["starter"]}, "idle"),
    ],
)
def test_the_one_word_of_status(changed: dict[str, Any], state: str) -> None:
    found = judged(changed)
    assert found["state"] == state, found
    assert bool(found["reasons"]) == (state in ("behind", "failing"))


@pytest.mark.parametrize(
    ("until", "said"),
    [
        ("2126-01-01T00:00:00Z", "are on until 2126-01-01T00:00:00Z: ./sync.sh cost --reads 1 --stop"),
        ("2026-01-01T00:00:00Z", "were for the time until 2026-01-01T00:00:00Z, and are still charged: ./sync.sh cost"),
    ],
)
def test_request_metrics_that_are_overdue_are_told(until: str, said: str) -> None:
    assert f"request metrics of 2 folders {said}" in status_of({"reads": {"folders": 2, "until": until}})[1]


NO_MESSAGES = {"Attributes": {f"ApproximateNumberOfMessages{which}": "0" for which in ("", "NotVisible", "Delayed")}}
COLLECTED = """
start_run
describe_bucket() { printf '{"name": "%s", "error": ""}' "$1"; }
read_path() {
  for part in queue dead_letters; do printf '%s' "$QUEUES" >"$TEMP_DIR/path.$part"; done
  echo '{"State": "ENABLED", "ScheduleExpression": "rate(1 minute)"}' >"$TEMP_DIR/path.rule"
}
oldest_message() { echo null; }
describe_tasks() { echo '[]'; }
ask_starter() { :; }
starter_setting() { [[ $1 != AUDIT_DAYS ]] || echo 7; }
find_faults() { jq -n '{faults: (env.FAULTS | fromjson)}'; }
describe_events() { echo '{"source": "sqs"}'; }
describe_options() { echo '{}'; }
describe_version() { echo '{"error": "not asked"}'; }
describe_request_metrics() { echo null; }
function_age() { echo 7200; }
query() { die "a query did not end"; }
found=$(collect_status)
echo "$found"
print_status <<<"$found" >&2
"""


@pytest.mark.parametrize(
    ("numbers", "faults", "state", "said"),
    [
        (NO_MESSAGES, [], "idle", "queue         0 waiting"),
        (None, [{"fault": "there is no queue q", "cure": "./deploy.sh"}], "failing", "queue         gone"),
    ],
)
def test_status_ends_with_what_it_knows(
    numbers: dict[str, Any] | None, faults: list[dict[str, str]], state: str, said: str
) -> None:
    """The log cannot be read; in the second case both queues are gone, too."""
    done = bash("SRC_BUCKET=a DST_BUCKET=b\n" + COLLECTED, QUEUES=numbers, FAULTS=json.dumps(faults))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["state"] == state, found
    assert set(found["not_known"]) == {"starter", "failures", "lag", "outages", "audit"}
    assert said in done.stderr
    for row in ("starter", "lag", "outage", "failures", "audit"):
        assert f"\n{row:<14}not known: the log could not be read\n" in done.stderr, done.stderr
    assert "a query did not end" in done.stderr


@pytest.mark.parametrize("via", ["", " --local"])
def test_a_cure_names_the_cloud_that_it_is_for(via: str) -> None:
    """Pasted, it would go to an account of AWS otherwise."""
    parts = {"dead_letters": {"visible": 1}, "function_age": 10 * 86_400, "audit": {"days": 1, "last": {"status": 1}}}
    said = "\n".join(json.loads(printed(f"VIA='{via}'; judge", json.dumps(IDLE | parts)))["reasons"])
    cures = re.findall(r"\./(?:deploy|sync)\.sh( --local)?", said)
    assert len(cures) == 3
    assert {*cures} == {via}


def log_row(task: str, clock: str, line: str) -> dict[str, str]:
    return {"@logStream": f"worker/worker/{task}", "@message": f"2026-11-25T{clock}:00.000Z {line}"}


def status_with(rows: list[dict[str, str]], parts: dict[str, Any]) -> tuple[str, str]:
    """(the one word, all that is printed) at noon, with these lines of workers in the log."""
    script = gathered("outages", "last_outages") + 'parts=$(choose_outage <<<"$parts")'
    found, output = status_of(parts, script, ROWS=rows)
    assert output.startswith(f"{found['state']}\n")
    return found["state"], output


RUNNING = {"workers": [{"id": "a", "capacity": "FARGATE_SPOT", "status": "RUNNING"}]}
WAITING = {"queue": IDLE["queue"] | {"visible": 4000}}


@pytest.mark.parametrize(
    ("rows", "parts", "word", "told"),
    [
        ([], {}, "idle", "none in the last hour"),
        ([("a", "11:55", BEGAN)], RUNNING | WAITING, "failing", f"since 2026-11-25T11:55:00.000Z, it goes on: {WHY}"),
        ([("a", "10:10", BEGAN)], RUNNING | WAITING, "failing", f"since 2026-11-25T10:10:00.000Z, it goes on: {WHY}"),
        (
            [("a", "11:55", BEGAN), ("a", "11:57", OVER)],
            RUNNING | WAITING,
            "working",
            f"since 2026-11-25T11:55:00.000Z, over after 90 s: {WHY}",
        ),
        (
            [("a", "11:40", BEGAN), ("a", "11:50", ENDED), ("b", "11:20", BEGAN), ("b", "11:22", OVER)],
            WAITING,
            "failing",
            f"since 2026-11-25T11:40:00.000Z, after 600 s the worker ended (exit status 3): {WHY}",
        ),
        (
            [("b", "11:40", BEGAN), ("b", "11:50", ENDED), ("a", "11:55", BEGAN)],
            RUNNING | WAITING,
            "failing",
            f"since 2026-11-25T11:55:00.000Z, it goes on: {WHY}",
        ),
        ([("b", "11:55", BEGAN)], RUNNING, "working", f"its worker was stopped before the end: {WHY}"),
        ([("[$LATEST]0f", "11:55", BEGAN)], WAITING, "working", f"the starter handed its messages to a worker: {WHY}"),
        (
            [("[$LATEST]0f", "11:50", BEGAN), ("a", "11:55", BEGAN)],
            RUNNING | WAITING,
            "failing",
            f"since 2026-11-25T11:55:00.000Z, it goes on: {WHY}",
        ),
        ([("a", "10:40", BEGAN), ("a", "10:50", OVER)], RUNNING, "working", "none in the last hour"),
        (
            [("b", "11:40", BEGAN), ("b", "11:50", ENDED)],
            RUNNING | WAITING | {"lag": {"count": 1, "p50": 1, "p99": 1, "newest": "2026-11-25T11:58:00.000Z"}},
            "working",
            "after 600 s the worker ended (exit status 3)",
        ),
    ],
)
def test_status_tells_an_outage_since_when_why_and_how_it_ended(
    rows: list[tuple[str, str, str]], parts: dict[str, Any], word: str, told: str
) -> None:
    newest_first = sorted((log_row(*row) for row in rows), key=lambda row: row["@message"], reverse=True)
    found, output = status_with(newest_first, parts)
    assert (found, told in output) == (word, True), output
    assert ("no key can be synced since" in output) == ("it goes on" in told)
    assert ("fix the reason" in output) == ("none in" not in told and "over after" not in told)


def decided(copied: dict[str, int]) -> dict[str, Any]:
    return {"starter": IDLE["starter"] | {"decision": NUMBERS | {"copied": copied}}}


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({}, "events        sqs: a notification of the bucket\nqueue "),  # and no line on options
        (
            {"events": {"source": "eventbridge", "at_once": True}},
            "eventbridge: a rule, which also starts the starter at",
        ),
        ({"events": {"source": "eventbridge", "at_once": False}}, "events        eventbridge: a rule\nqueue "),
        ({"events": {"source": "both"}}, "both (the source is being changed: run ./deploy.sh again)"),
        ({"events": {"source": "unknown", "error": "AccessDenied"}}, "events        unknown: AccessDenied"),
        (
            {"options": {"starter_copies": True, "starter_max_size": 67108864, "min_workers": 2}},
            "options       the starter copies objects up to 64 MiB itself, 2 workers are kept running\n",
        ),
        (
            {"options": {"starter_copies": True, "starter_max_size": 1000, "min_workers": 0}},
            "options       the starter copies objects up to 1000 bytes itself\n",
        ),
        ({"options": {"starter_copies": False, "min_workers": 1}}, "options       1 worker is kept running\n"),
        (
            {"options": {"starter_copies": False, "min_workers": 0, "copy_last": "_SUCCESS,*.done", "announce": "all"}},
            "options       _SUCCESS,*.done are copied last, events announce all\n",
        ),
        (
            {"options": IDLE["options"] | {"prefixes": ["a/", "b c/"], "exclude": ["*.tmp", "x,y"], "keep_days": 30}},
            "\nwanted        2 prefixes: a/, b c/; nothing like *.tmp, x,y; what changed within 30 days\nqueue ",
        ),
        ({"options": IDLE["options"] | {"keep_days": 1}}, "\nwanted        what changed within 1 day\nqueue "),
        (decided({"copied": 12, "deleted": 1, "skipped": 5}), "started none, copied 12, deleted 1 itself\n"),
        (decided({"failed": 2, "handed_back": 3}), "none, copied nothing itself, failed 2, handed back 3\n"),
    ],
)
def test_status_tells_the_event_source_and_the_options_that_are_on(parts: dict[str, Any], told: str) -> None:
    assert told in status_of(parts)[1]


def test_status_names_the_newest_failure_of_each_key() -> None:
    failures = [("b", 3, "X"), ("a", 2, "new"), ("a", 1, "old")]
    rows = [
        log_row("a", f"11:5{9 - n}", f'ERROR failed key="{key}" attempt={attempt}/3 operation={why}')
        for n, (key, attempt, why) in enumerate(failures)
    ]
    _, output = status_of({}, gathered("failures", "last_failures"), ROWS=rows)
    assert output.endswith("""
failures      3 in the last hour
  "b" failed at 2026-11-25T11:59:00.000Z: attempt=3/3 operation=X
  "a" failed 2 times, the last at 2026-11-25T11:58:00.000Z: attempt=2/3 operation=new
""")


def test_status_has_the_lag_of_half_and_of_nearly_all_keys() -> None:
    lines = [f'INFO synced key="{n}" action=copied size=1 seconds=0.1 lag={101 - n}.5' for n in range(101)]
    rows = [log_row("a", f"11:{59 - n // 60:02}", line) for n, line in enumerate(lines)]
    found = json.loads(printed("query() { printf '%s' \"$ROWS\"; }; last_lags", ROWS=rows))
    assert found == {"count": 101, "newest": "2026-11-25T11:59:00.000Z", "p50": 51.5, "p99": 100.5}


def test_a_bucket_that_answers_has_no_error_and_one_that_does_not_has_what_it_said() -> None:
    script = "aws_or_error() { printf 'said'; return \"$STATUS\"; }; describe_bucket b"
    errors = [json.loads(printed(script, STATUS=status))["error"] for status in (0, 254)]
    assert errors == ["", "said"]


def test_status_shows_the_first_line_of_the_starter_s_error_once() -> None:
    error = "[ERROR] AccessDeniedException: no\nTraceback (most recent call last):\n  File"
    found, output = status_of({"starter": IDLE["starter"] | {"decision": None, "error": error}})
    assert found["state"] == "failing"
    assert output.count("AccessDeniedException") == 1
    assert "the starter failed: [ERROR] AccessDeniedException: no: ./deploy.sh" in output
    assert ": failed, as said above\nlag " in output
    assert "Traceback" not in output


PULL = "TaskFailedToStart: CannotPullContainerError: i/o timeout"


@pytest.mark.parametrize(
    "starter",
    [
        {"decision": {"failures": [], "failing": PULL}, "error": ""},
        {"decision": None, "error": f"[ERROR] RuntimeError: {PULL}\nTraceback (most recent call last):\n  File"},
    ],
)
def test_status_says_why_workers_do_not_get_to_work(starter: dict[str, Any]) -> None:
    """The decision and the error come in the same second: the newest line says so."""
    found = judged({"starter": IDLE["starter"] | starter, "queue": IDLE["queue"] | {"visible": 1}})
    assert found["state"] == "failing"
    assert PULL in found["reasons"][0]
    assert "Traceback" not in found["reasons"][0]


WAITS = 'marker key="a/_SUCCESS" waits for %d keys under "a/", such as "a/x": %s'
WAITING_MARKERS = """starter_setting() { printf '%s' "$COPIED_LAST"; }
query() { jq -c --arg pattern "${3#*like /}" '($pattern | split("/ |")[0]) as $pattern
  | map(select(.["@message"] | test($pattern)))' <<<"$ROWS"; }
"""
CAME = 'synced key="a/_SUCCESS" action=copied size=0 seconds=0.1 lag=2.0'


@pytest.mark.parametrize(
    ("copy_last", "lines", "told"),
    [
        ("", ["INFO " + WAITS % (3, "archived")], None),
        ("_SUCCESS", [], None),
        (
            "_SUCCESS",
            ["INFO " + WAITS % (9, "not equal yet"), "WARNING " + WAITS % (3, "archived")],
            '1 waits, at 2026-11-25T11:01:00.000Z "a/_SUCCESS" for 3 keys under "a/", such as "a/x": archived',
        ),
        ("_SUCCESS", ["INFO " + WAITS % (9, "not equal yet"), "INFO " + CAME], None),
        (
            "_SUCCESS",
            [
                "INFO " + CAME,
                "INFO " + WAITS % (1, "archived") + " since=2026-11-24T11:00:00Z",
                "INFO " + WAITS.replace("a/", "b/") % (2, "archived"),
            ],
            '2 wait, at 2026-11-25T11:02:00.000Z "b/_SUCCESS" for 2 keys under "b/", such as "b/x": archived\n'
            '  at 2026-11-25T11:01:00.000Z "a/_SUCCESS" for 1 keys under "a/", such as "a/x": archived, '
            "since 2026-11-24T11:00:00Z",
        ),
    ],
)
def test_status_tells_which_markers_wait(copy_last: str, lines: list[str], told: str | None) -> None:
    rows = [log_row("a", f"11:{minute:02}", text) for minute, text in enumerate(lines)][::-1]
    _, output = status_of({}, WAITING_MARKERS + gathered("markers", "last_markers"), ROWS=rows, COPIED_LAST=copy_last)
    assert f"\nmarkers       {told}\noutage " in output if told else "markers" not in output
