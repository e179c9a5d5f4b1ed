"""./sync.sh status: what it says of parts (operate/health.py, operate/report.py), and which parts it makes of what AWS
answers."""

from __future__ import annotations

import json
import re
import signal
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from account import APP, MIRROR, SOURCE
from documents import unfolded
from operated import PARKED, Operated, Verbs, account, deployed, stamp, verbs

from launch.audit import next_slot
from mirror.model.log_lines import AUDITED, OUTAGE, OUTAGE_ENDS, OUTAGE_OVER
from mirror.version import VERSION
from operate import health, report

__all__ = ["account", "verbs"]
NUMBERS = {"visible": 0, "in_flight": 0, "running": 0, "wanted": 0, "started": {}, "failures": []}
IDLE: dict[str, Any] = {
    "source": {"name": "a", "error": ""},
    "destination": {"name": "b", "error": ""},
    "queue": {"visible": 0, "in_flight": 0, "delayed": 0, "oldest_seconds": None},
    "dead_letters": {"visible": 0, "in_flight": 0, "delayed": 0},
    "workers": [],
    "rule": {"enabled": True, "minutes": 1},
    "events": {"source": "sqs", "at_once": False, "problems": [], "error": ""},
    "faults": [],
    "options": {"starter_copies": False, "starter_max_size": 0, "min_workers": 0},
    "function_age": 7200,
    "starter": {"at": "", "seconds_ago": 30, "decision": NUMBERS, "error": ""},
    "lag": {"count": 0, "newest": ""},
    "failures": {"count": 0, "newest": []},
    "outage": None,
}
NOON = 1795608000  # 2026-11-25
DAY = 86_400
# As long as they are in the field: what status prints has 80 columns (operated.py).
WHY = f'operation=CopyObject error=AccessDenied message="Access Denied" advice="allow s3:GetObject" {"w" * 50}'
LONG_KEY = f"datasets/2026/a long {'k' * 40}.parquet"
DENIED_STARTER = "An error occurred (AccessDeniedException): it is not authorized to perform: ecs:RunTask"

# The judgement


def named(via: str = "") -> health.Names:
    return health.Names(via, "starter-role", "task-role")


def judged(parts: dict[str, Any], via: str = "", **unread: str) -> tuple[str, list[str]]:
    """The word and its reasons, of these parts beside the idle ones."""
    whole = IDLE | parts
    if health.is_fixed(whole):
        whole["starter"] = whole["starter"] | {"fixed": True}
    return health.judge(whole, unread, named(via))


def told(parts: dict[str, Any], **unread: str) -> str:
    """What is below the word, before it is put into 80 columns."""
    whole = IDLE | parts
    if health.is_fixed(whole):
        whole["starter"] = whole["starter"] | {"fixed": True}
    _, reasons = health.judge(whole, unread, named())
    return "\n".join([*report.rows(whole, unread, named(), reasons, NOON), ""])


def starter(**more: Any) -> dict[str, Any]:
    return {"starter": IDLE["starter"] | more}


def decided(**more: Any) -> dict[str, Any]:
    return starter(decision=NUMBERS | more)


def queue(**more: Any) -> dict[str, Any]:
    return {"queue": IDLE["queue"] | more}


def failed(error: str) -> dict[str, Any]:
    return starter(error=f"[ERROR] {error}\nTraceback", decision=None, at="NOON")


def audit(days: float, end: str, status: int, found: int, **more: Any) -> dict[str, Any]:
    """Of a week, with a last one that ended this many days ago."""
    last = {"at": "2026-11-18T02:01:00Z", "end": end, "status": status, "found": found, "foreign": 0} | more
    return {"audit": {"days": 7, "last": last | {"seconds_ago": int(days * DAY)}, "next": "2026-11-26T02:00:00Z"}}


NO_AUDIT = {"audit": {"days": 7, "last": None, "next": "2026-11-26T02:00:00Z"}}
RULE = {"link": "no event", "fault": "the rule is disabled", "cure": "./deploy.sh"}
UNREAD = {"events": IDLE["events"] | {"source": "unknown", "error": "AccessDenied"}}
FIXED = "the rule x is disabled: ./deploy.sh, then ./sync.sh reconcile (look at what it calls foreign)"
PULL = "TaskFailedToStart: CannotPullContainerError: i/o timeout"
COPYING = {"at": "2026-11-25T02:00:07Z", "why": f"no key can be synced: {WHY}", "times": 2, "failing": True}
ENDED = {"outage": {"state": "ended", "since": "1", "at": "2", "seconds": 600, "reason": WHY}}
GOES_ON = {"outage": {"state": "goes on", "since": "1", "at": "2", "seconds": None, "reason": WHY}}
NO_ROOM = {"audit": {"problem": "no audit could be started: no room"}}


@pytest.mark.parametrize(
    ("parts", "state", "reason"),
    [
        ({}, "idle", ""),
        (queue(visible=1), "working", ""),
        (queue(in_flight=1), "working", ""),  # the function copies
        ({"workers": [{"id": "1", "stays": True}]}, "idle", ""),
        ({"workers": [{"id": "1", "stays": True}, {"id": "2"}]}, "working", ""),
        (UNREAD, "idle", ""),
        ({"faults": [RULE]}, "failing", "the rule is disabled: ./deploy.sh"),
        (queue(visible=1, oldest_seconds=901), "behind", "the oldest message has been waiting for 15 min"),
        (queue(oldest_seconds=901), "idle", ""),
        (queue(visible=1, oldest_seconds=1380) | {"rule": {"minutes": 60}}, "working", ""),
        (queue(visible=1, oldest_seconds=4201) | {"rule": {"minutes": 60}}, "behind", "has been waiting for 70 min"),
        (queue(visible=1) | decided(failures=["no capacity"]), "behind", "a worker was not started: no capacity"),
        (decided(failures=["no capacity"]), "idle", ""),
        ({"dead_letters": {"visible": 1}}, "failing", "1 message in the dead-letter queue: ./sync.sh redrive --list"),
        ({"starter": None}, "failing", "the starter has not run for an hour"),
        ({"starter": None, "function_age": 179}, "idle", ""),
        ({"starter": None, "function_age": 181}, "failing", "the starter has not run for an hour"),
        (starter(seconds_ago=200), "failing", "the starter has not run for 200 s"),
        (starter(seconds_ago=180), "idle", ""),
        (starter(seconds_ago=200) | {"rule": {"minutes": 5}}, "idle", ""),
        ({"starter": None, "rule": {"minutes": 120}}, "idle", ""),
        (decided(failing=PULL), "failing", f"workers do not get to work: {PULL}"),
        (decided(copying_failed=COPYING), "failing", "the function could not copy at 2026-11-25T02:00:07Z and has"),
        (decided(copying_failed=COPYING | {"failing": False}), "idle", ""),
        (failed(f"RuntimeError: {PULL}"), "failing", f"the starter failed: [ERROR] RuntimeError: {PULL}"),
        (starter(seconds_ago=253), "failing", "253 s: ./deploy.sh --dry-run shows what was changed, such as its"),
        ({"source": {"name": "a", "error": "NoSuchBucket"}}, "failing", "the bucket a does not answer: NoSuchBucket"),
        (ENDED | queue(visible=1), "failing", f"a worker ended in an outage, and none has synced a key since: {WHY}"),
        (ENDED | queue(visible=1) | {"lag": {"newest": "3", "count": 0}}, "working", ""),
        (ENDED, "idle", ""),
        # What a worker says to do about it is not said again.
        (GOES_ON, "failing", f"no key can be synced since 1: {WHY}"),
        # What the guard failed with is said once; what was fixed since, which a look at the path shows, is no reason.
        (failed("RuntimeError: the rule is disabled: ./deploy.sh") | {"faults": [RULE]}, "failing",
         "the rule is disabled: ./deploy.sh"),
        (failed(f"RuntimeError: {FIXED}"), "idle", ""),
        (failed(f"RuntimeError: no workers; {FIXED}"), "failing", "[ERROR] RuntimeError: no workers"),
        (failed(f"RuntimeError: {FIXED}") | UNREAD, "failing", f"the starter failed: [ERROR] RuntimeError: {FIXED}"),
        # The cure of a starter that was denied or changed.
        (failed(f"RuntimeError: no worker: {DENIED_STARTER}"), "failing",
         f"{DENIED_STARTER}: ./deploy.sh restores its role"),
        (failed(f"RuntimeError: no worker: {DENIED_STARTER} because no permissions boundary allows it"), "failing",
         "leaves that boundary: aws iam delete-role-permissions-boundary --role-name starter-role, or name one that"),
        (failed("KeyError: 'QUEUE_URL'"), "failing", "KeyError: 'QUEUE_URL': ./deploy.sh restores the function"),
        (failed("EndpointConnectionError: no"), "failing", "the starter failed: [ERROR] EndpointConnectionError: no"),
        # Audits.
        (audit(2, "complete", 0, 0), "idle", ""),
        (audit(2, "stopped", 3, 0), "failing", "the last audit failed: it was stopped; repeat it: ./sync.sh reconcile"),
        (audit(2, "complete", 1, 2), "failing", "it could not fix all differences; repeat it: ./sync.sh reconcile"),
        (audit(7.9, "complete", 0, 0), "idle", ""),
        (audit(8.1, "complete", 0, 0), "failing", "no audit has finished for 8 days: ./sync.sh logs starter says why"),
        (NO_AUDIT | {"function_age": 7 * DAY}, "idle", ""),
        (NO_AUDIT | {"function_age": 8 * DAY + 60}, "failing", "no audit has finished for 8 days"),
        (audit(2, "complete", 0, 0) | decided(**NO_ROOM), "failing", "an audit was to start or run: no audit could be"),
    ],
)  # fmt: skip
def test_the_one_word_of_status_and_its_reason(parts: dict[str, Any], state: str, reason: str) -> None:
    found, reasons = judged(parts)
    assert found == state, reasons
    assert len(reasons) == (reason != ""), reasons
    assert all(reason in one for one in reasons), reasons
    for one in judged(parts, " --local")[1]:  # pasted, it would go to an account of AWS otherwise
        assert not re.search(r"\./(deploy|sync)\.sh(?! --local)", one.replace(FIXED, "").replace(RULE["cure"], ""))


@pytest.mark.parametrize(
    ("days", "hour", "day"),
    [(1, 12, "11-26"), (7, 12, "11-26"), (90, 12, "12-03"), (1, 1, "11-25"), (7, 1, "11-26"), (1, 3, "11-26")],
)
def test_the_next_audit_is_at_two_on_a_day_whose_number_is_a_multiple(days: int, hour: int, day: str) -> None:
    """As the starter has it (test_starter_worlds.py)."""
    found = next_slot(NOON + (hour - 12) * 3600, days)
    assert datetime.fromtimestamp(found, UTC).isoformat() == f"2026-{day}T02:00:00+00:00"


@pytest.mark.parametrize(
    ("older", "newer"), [("1.9.0", "1.10.0"), ("9.0.0", "10.0.0"), ("1.9.0", "1.10.0-dev"), ("1.10.0-dev", "1.10.0")]
)
def test_releases_are_compared_number_by_number(older: str, newer: str) -> None:
    for deployed_one, checkout, said in (
        (older, newer, f"{older} is deployed, older than this checkout ({newer}): run ./deploy.sh\n"),
        (newer, older, f"{newer} is deployed, newer than this checkout ({older})\n"),
        (newer, newer, f"{newer}\n"),
    ):
        version = {"deployed": deployed_one, "checkout": checkout, "error": ""}
        assert f"version       {said}" in told({"version": version})
    assert "\nversion       not known: AccessDenied\n" in told({"version": None}, version="AccessDenied")


def options(**more: Any) -> dict[str, Any]:
    return {"options": IDLE["options"] | more}


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({}, "events        sqs: a notification of the bucket\nqueue "),  # and no line on options
        ({"events": {"source": "eventbridge", "at_once": True, "error": ""}}, "a rule, which also starts the starter"),
        ({"events": {"source": "eventbridge", "at_once": False, "error": ""}}, "   eventbridge: a rule\nqueue "),
        ({"events": {"source": "both", "error": ""}}, "both (the source is being changed: run ./deploy.sh again)"),
        (UNREAD, "events        unknown: AccessDenied"),
        (options(starter_copies=True, starter_max_size=67108864, min_workers=2),
         "options       the starter copies objects up to 64 MiB itself, 2 workers are kept running\n"),
        (options(copy_last="_SUCCESS,*.done", tables="delta", announce="all"),
         ".done are copied last, delta tables are copied in order, events announce all\n"),
        (options(prefixes=["a/", "b c/"], exclude=["*.tmp", "x,y"], keep_days=30),
         "\nwanted        2 prefixes: a/, b c/; nothing like *.tmp, x,y; what changed within 30 days\nqueue "),
        ({"queue": None, "dead_letters": None}, "queue         gone\ndead letters  gone\n"),
        ({"dead_letters": {"visible": 0, "in_flight": 1}}, "dead letters  1, 1 of them in flight: somebody"),
        (decided(copied={"copied": 12, "deleted": 1, "skipped": 5}), "started none, copied 12, deleted 1 itself\n"),
        (decided(copied={"failed": 2, "handed_back": 3}), "none, copied nothing itself, failed 2, handed back 3\n"),
        (failed(f"RuntimeError: {FIXED}"), f"NOON: failed, which has been fixed since: {FIXED}"),
        (failed("KeyError: 'x'"), ": failed, as said above\nlag "),
        ({"reads": {"folders": 2, "until": "2126-01-01T00:00:00Z"}}, "are on until 2126-01-01T00:00:00Z: ./sync.sh"),
        ({"reads": {"folders": 2, "until": "2026-01-01T00:00:00Z"}}, "2026-01-01T00:00:00Z, and are still charged: ./"),
        (audit(2, "complete", 0, 0), "2 days ago: both buckets equal; the next one 20"),
        (audit(2, "complete", 0, 0, foreign=5), "both buckets equal, and 5 foreign objects, which"),
        (audit(0.5, "complete", 0, 3), "12 h ago: 3 differences, put on the queue; "),
        (audit(2, "stopped", 3, 0), "it was stopped (exit status 3), its log says why; "),
        (audit(2, "complete", 1, 2), "2 differences, not all of them fixed; "),
        (NO_AUDIT, "audit         none in the log; the next one 20"),
        (audit(2, "complete", 0, 0) | {"paused": {"since": "2026-01-01T00:00:00Z"}}, "the next one after the pause"),
    ],
)  # fmt: skip
def test_status_tells_what_is_on_and_how_it_went(parts: dict[str, Any], said: str) -> None:
    assert said in told(parts)


# What AWS answers


BEGAN = f"ERROR {OUTAGE % (10, WHY)}"
OVER, ENDS = f"INFO {OUTAGE_OVER % 90}", f"ERROR {OUTAGE_ENDS % (600, WHY)}"
COLOURS = {"failing": "\x1b[31m", "idle": "\x1b[32m", "working": "\x1b[32m"}


@pytest.mark.parametrize(
    ("lines", "running", "state", "said"),
    [
        ([], False, "idle", "none in the last hour"),
        ([("a", 110, BEGAN)], True, "failing", "it goes on"),
        ([("a", 5, BEGAN), ("a", 3, OVER)], True, "working", "over after 90 s"),
        ([("b", 40, BEGAN), ("b", 38, OVER), ("a", 20, BEGAN), ("a", 10, ENDS)], False, "failing",
         "after 600 s the worker ended (exit status 3)"),
        ([("a", 80, BEGAN), ("a", 70, OVER)], True, "working", "none in the last hour"),
    ],
)  # fmt: skip
def test_status_tells_an_outage_since_when_why_and_how_it_ended(
    verbs: Verbs, account: Operated, lines: list[tuple[str, float, str]], running: bool, state: str, said: str
) -> None:
    for task, minutes, line in lines:
        account.write(f"{stamp(minutes * 60)} {line}", stream=f"worker/worker/{task}", ago=minutes * 60)
    account.waiting[""] = 4000 if lines else 0
    account.variables["COPY_LAST"] = "_SUCCESS"
    if running:
        account.start("a")
    output = unfolded(verbs.run_words("status", status=int(state == "failing"), shows="stdout").output)
    row = re.findall(r"^outage +(.*)$", output, re.MULTILINE)[0]
    assert output.startswith(f"{COLOURS[state]}{state}\x1b[0m\n")
    assert said in row, output
    assert output.count(WHY) == (said == "it goes on" or said.startswith("after 600")), output  # once, or no advice
    assert ("error=AccessDenied" in output) == ("none in" not in said)
    assert ("no key can be synced since" in output) == (said == "it goes on")
    assert ("fix the reason" in output) == ("none in" not in said and "over after" not in said)
    assert "\nmarkers" not in output


@pytest.mark.parametrize(
    ("tasks", "state", "said"),
    [
        (("b ended", "a began"), "failing", "it goes on"),
        (("b began",), "working", "its worker was stopped before the end"),
        (("[$LATEST]0f began",), "working", "the starter handed its messages to a worker"),
        (("[$LATEST]0f began", "a began"), "failing", "it goes on"),
    ],
)
def test_of_several_outages_status_tells_the_one_that_goes_on(tasks: tuple[str, ...], state: str, said: str) -> None:
    """Of those while one worker, a, is running."""
    names = ("task", "event", "at", "since", "reason")
    outages = [dict(zip(names, (*task.split(), f"{9 - n}", "1", WHY), strict=True)) for n, task in enumerate(tasks)]
    parts = IDLE | queue(visible=1) | {"workers": [{"id": "a", "capacity": "FARGATE", "status": "RUNNING"}]}
    found = parts | {"outage": health.choose_outage(outages, ["a"])}
    row = re.findall(r"^outage +(.*)$", told(found), re.MULTILINE)[0]
    assert (judged(found)[0], said in row) == (state, True), found


A, B, C = (f"datasets/2026/a long {letter * 40}/" for letter in "abc")
EARLIER = " since=2026-11-24T11:00:00Z"
LONG_AGO, TOO_LONG_AGO = 3000, 3700  # seconds: within the last hour, and before it


def waits(folder: str, keys: int, why: str) -> str:
    return f'marker key="{folder}_SUCCESS" waits for {keys} keys under "{folder}", such as "{folder}x": {why}'


def came(folder: str) -> str:
    return f'INFO synced key="{folder}_SUCCESS" action=copied size=0 seconds=0.1 lag=2.0'


def test_status_tells_which_markers_wait(verbs: Verbs, account: Operated) -> None:
    """The newest line on each counts, and only what has not come since."""
    account.variables["COPY_LAST"] = "_SUCCESS"
    lines = [
        *("INFO " + waits(C, 9, "not equal yet"), came(A), "INFO " + waits(A, 9, "not equal yet"), came(C)),
        *("WARNING " + waits(A, 1, "archived") + EARLIER, "INFO " + waits(B, 2, "archived")),
    ]
    times = [stamp(LONG_AGO - n) for n in range(len(lines))]
    for n, line in enumerate(lines):
        account.write(f"{times[n]} {line}", ago=LONG_AGO - n)
    account.write(f"{stamp(TOO_LONG_AGO)} INFO {waits(A + 'old/', 1, 'archived')}", ago=TOO_LONG_AGO)
    output = unfolded(verbs.sync("status").output)
    said = [f'at {{}} "{one}_SUCCESS" for {keys} under "{one}", such as "{one}x": archived'
            for one, keys in ((B, "2 keys"), (A, "1 key"))]  # fmt: skip
    assert f"\nmarkers       2 wait, {said[0].format(times[-1])}\n  {said[1].format(times[-2])}" in output
    assert output.count(EARLIER.strip().replace("=", " ")) == 1
    assert C not in output


def test_status_has_the_figures_of_the_last_hour(verbs: Verbs, account: Operated) -> None:
    def write(line: str, ago: float) -> None:
        account.write(f"{stamp(LONG_AGO + ago)} {line}", ago=LONG_AGO + ago)

    def copied(key: str, lag: str = "") -> str:
        return f'INFO synced key="{key}" action=copied size=1 seconds=0.1{lag}'

    def failed(key: str, attempt: int = 1, why: str = "X") -> str:
        return f'ERROR failed key="{key}" attempt={attempt}/3 operation={why}'

    for n in range(101):
        write(copied(str(n), f" lag={n}.5"), 101 - n)
    for n, line in enumerate((failed(LONG_KEY, 1, "old"), failed(LONG_KEY, 2, WHY), failed("b", 3))):
        write(line, 9 - n)
    ages = [("12:02", 5.0), ("12:00", 900.0), ("12:01", 905.4)]
    account.figures = [{"Timestamp": f"2026-11-25T{at}:00Z", "Maximum": age} for at, age in ages]
    account.waiting[""] = 1
    account.kept[f"function {APP}-starter"]["tags"]["version"] = "0.10.0"
    write(copied("b"), 8)  # before its last failure
    write(copied("only synced"), 7)  # of a key that never failed
    for n, key in enumerate(("fixed", "gone", "fixed")):
        write(failed(key), 20 - n)
        write(f'INFO synced key="{key}" action=deleted size=0 seconds=0.1', 5)
    for n in range(101):  # more than one answer of ECS has
        account.start(f"worker-{n}")
    del account.kept["running worker-0"]["overrides"]
    for line in (copied("a", " lag=900.5"), failed("a")):
        write(line, TOO_LONG_AGO - LONG_AGO)
    output = unfolded(verbs.sync("status").output)
    assert "from event to copy p50 50.5 s, p99 99.5 s of the newest 101 keys\n" in output
    assert "\nqueue         1 waiting, 0 in flight, 0 delayed, the oldest for 5 s\n" in output
    assert "\nworkers       101 FARGATE_SPOT RUNNING\n" in output
    assert f"0.10.0 is deployed, older than this checkout ({VERSION}): run ./deploy.sh" in output
    assert "failures      6 in the last hour; 2 keys of these have been synced since\n" in output
    rows = [line for line in output.splitlines() if " failed " in line]
    ends = (": attempt=3/3 operation=X", f": attempt=2/3 operation={WHY}")
    assert [row.endswith(end) for row, end in zip(rows, ends, strict=True)] == [True, True], rows
    assert rows[1].startswith(f'  "{LONG_KEY}" failed 2 times, the last at ')


def test_the_last_audit_is_looked_for_first_where_that_of_a_daily_one_is(verbs: Verbs) -> None:
    """A query costs by what it reads."""
    account = verbs.account = deployed(AUDIT_DAYS="7")
    for ago, spans, foreign in ((DAY, [2], "foreign=2 "), (5 * DAY, [2, 9], "")):  # 1.2.0 did not write the last
        account.log = [row for row in account.log if " audited " not in row[1]["message"]]
        line = f"{stamp(ago)} ERROR {AUDITED % ('complete', 0, 3, f'listed=5 {foreign}seconds=0.2 keys/s=25')}"
        account.write(line, ago=ago)
        done = verbs.sync("status --json")
        last = done.json["audit"]["last"]
        assert (last["found"], last["foreign"], abs(last["seconds_ago"] - ago) < 60) == (3, 2 if foreign else 0, True)
        asked = [given for given in done.sent("StartQuery") if "audited" in given["queryString"]]
        assert [round((given["endTime"] - given["startTime"]) / DAY) for given in asked] == spans


def test_status_ends_with_what_it_knows(verbs: Verbs, account: Operated) -> None:
    """The log cannot be read, a bucket does not answer, the path is denied, and then the queues are gone, too."""
    account.variables["AUDIT_DAYS"] = "7"
    account.query_ends = ["Failed"] * 99
    account.deny("ListObjectsV2", "NoSuchBucket", Bucket=MIRROR)
    account.deny("GetPolicy", "AccessDeniedException")
    account.deny("ListTags", "AccessDeniedException")
    done = verbs.sync("status", 1)
    output = unfolded(done.output)
    assert f"the bucket {MIRROR} does not answer: " in output and "NoSuchBucket" in output
    assert f"s3://{SOURCE}  answers" in output
    for row in ("starter", "lag", "outage", "failures", "audit"):
        assert re.search(f"^{row:<14}not known: log group .* a query ended as Failed; try again$", output, re.M), output
    for row, call in (("permissions", "GetPolicy"), ("version", "ListTags")):
        assert re.search(f"^{row:<14}not known: .*AccessDenied.*{call}", output, re.M), output
    for name in (f"queue {APP}-q", f"queue {APP}-dlq"):
        del account.kept[name]
    found = verbs.sync("status --json", 1).json
    assert {"starter", "failures", "lag", "outages", "audit"} <= {*found["not_known"]}
    assert (found["queue"], found["dead_letters"]) == (None, None)


def test_the_newest_that_the_starter_wrote_counts(verbs: Verbs, account: Operated) -> None:
    account.write("[ERROR] RuntimeError: no worker\nTraceback", stream="f", group=f"/aws/lambda/{APP}-starter", ago=9)
    account.parked = [json.dumps(PARKED)]
    found = verbs.sync("status --json", 1).json
    reasons = ["the starter failed: [ERROR] RuntimeError: no worker", "1 message in the dead-letter queue"]
    assert [reason in one for reason, one in zip(reasons, found["reasons"], strict=True)] == [True, True]
    account.decide()
    assert len(verbs.sync("status --json", 1).json["reasons"]) == 1


def test_a_status_of_nothing_is_one_fault(verbs: Verbs, account: Operated) -> None:
    """Of a mistyped APP_NAME, with both buckets named."""
    buckets = {"SRC_BUCKET": SOURCE, "DST_BUCKET": MIRROR}
    done = verbs.sync("status", 2, APP_NAME="s3-to-s3express-snyc", **buckets)
    said = "nothing is deployed as s3-to-s3express-snyc in us-east-1: set REGION and APP_NAME"
    assert (done.output, done.errors.splitlines()[-1]) == ("", f"sync.sh: {said}")
    account.deny("GetFunctionConfiguration", "AccessDeniedException")  # then it may be there
    assert verbs.sync("status --json", 1, APP_NAME="s3-to-s3express-snyc", **buckets).json["state"] == "failing"


@pytest.mark.parametrize("gone", [f"function {APP}-starter", f"rule {APP}-starter-rule", f"queue {APP}-q"])
def test_status_has_a_row_for_each_part_without_one_of_them(verbs: Verbs, account: Operated, gone: str) -> None:
    del account.kept[gone]
    output = unfolded(verbs.sync("status", 1).output)
    assert output.startswith("failing\n  there is no ") or "no rule runs the starter" in output
    for row in ("source", "destination", "events", "queue", "dead letters", "workers", "starter", "lag", "failures"):
        assert f"\n{row:<14}" in output, output
    assert "not known" not in output


def test_status_and_pause_name_one_deadline(verbs: Verbs, account: Operated) -> None:
    said = re.findall(r"wait in the queue until (\S+)\. ", verbs.sync("pause").errors)
    assert [verbs.sync("status --json").json["paused"]["events_until"]] == said
    account.waiting[""] = 1
    reasons = verbs.sync("status --json").json["reasons"]
    assert (
        len(reasons) == 1
        and f"nothing is copied, until ./sync.sh resume; events wait in the queue until {said[0]}" in reasons[0]
    )


@pytest.mark.parametrize(
    ("call", "code", "state", "status"),
    [
        ("ListTasks", "AccessDeniedException", "unknown", 3),
        ("GetFunctionConfiguration", "AccessDeniedException", "unknown", 3),
        ("GetMetricStatistics", "AccessDenied", "idle", 0),  # which decides nothing
        ("GetPolicy", "AccessDeniedException", "idle", 0),
        ("StartQuery", "AccessDeniedException", "idle", 0),
        ("ListObjectsV2", "AccessDenied", "unknown", 3),
        ("ListObjectsV2", "InternalError", "failing", 1),
    ],
)
def test_a_part_that_decides_and_is_not_known_is_the_word(
    verbs: Verbs, account: Operated, call: str, code: str, state: str, status: int
) -> None:
    account.deny(call, code)
    done = verbs.sync("status", status)
    assert done.output.startswith(f"{state}\n")
    rows = unfolded(done.output).partition("\n\n")[2]
    assert call in rows or (call, state) == ("GetMetricStatistics", "idle"), done.output  # whose row has no messages
    assert "idle" not in done.output or state == "idle"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_status_at_once_and_says_nothing(
    verbs: Verbs, account: Operated, number: int, status: int
) -> None:
    account.before = {"ListTasks": [lambda: (verbs.interrupt(number), time.sleep(0.5))]}
    done = verbs.sync("status", status)
    assert (done.output, done.errors) == ("", "")
