"""Verbs of which one call of the AWS CLI fails, each in turn, in each of five ways (failing.py).

Whatever fails, a verb states nothing that it does not know: what it says is what it says without the failure, or that
this is not known, with the error.
"""

from __future__ import annotations

import copy
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from account import MIRROR
from failing import KINDS, Key, OneCall
from operated import PARKED, Operated, Ran, Verbs, deployed, stamp, verbs
from test_cost_verb import busy as with_usage

from mirror.model.log_lines import (
    AUDITED,
    DIFFERENCE,
    FAILED,
    LACKING,
    LAG,
    OUTAGE,
    OUTAGE_OVER,
    RECONCILED,
    SYNCED,
    WAITED,
    WAITS,
    quoted,
)

__all__ = ["verbs"]
# Without these, nobody knows whether the sync works.
DECIDING = {"source", "destination", "function", "queue", "dead_letters", "workers", "rule"}
WAITED_SINCE = "2026-11-24T11:00:00Z"
WHY = 'operation=CopyObject error=AccessDenied message="no"'
# What the shell, jq or Python print of a mistake, and nobody can act on.
RAW = re.compile(r"Traceback|line \d+|jq: |parse error|unbound variable|No such file|ambiguous redirect|syntax error")
# What is said of a resource that does not exist; in these accounts, all do.
NONE = re.compile("there is no (?:function|queue|task definition|rule) ")
# What is said of a task that is left.
TASK_LEFT = re.compile("keeps running|may still be running|may have been started")
# Parts that say something else if another one is not known, beside itself.
DEPENDS = {
    "function": {"options", "audit", "markers", "function_age", "faults", "events", "paused", "starter", "alarms"},
    "queue": {"faults", "events"},
    "dead_letters": {"faults"},
    "rule": {"faults"},
    "event_rule": {"faults", "events"},
    "permissions": {"faults", "events"},
    "oldest": {"queue"},
    "outages": {"outage"},
    "alarms": {"faults"},
    "topic": {"alarms", "faults"},
    "metric_filters": {"alarms", "faults"},
    "workers": {"outage"},
}


def busy() -> Operated:
    """An account in which everything that status shows is to be seen, and nothing is wrong."""
    found = deployed(AUDIT_DAYS="7", COPY_LAST="_SUCCESS", EVENT_SOURCE="eventbridge")
    found.waiting[""] = 3
    found.figures = [{"Timestamp": "2026-11-25T12:00:00Z", "Maximum": 5.0}]
    found.start("a")
    found.kept[f"request-metrics {MIRROR}"] = {"s3-to-s3express-sync-reads-1790000000-99-0": "models/"}
    lines = (
        (86400, "INFO " + AUDITED % ("complete", 0, 0, "foreign=2 seconds=1.0")),
        (60, "INFO " + SYNCED % (quoted("k"), "copied", 1, 0.1, LAG % 2)),
        (50, "ERROR " + FAILED % (quoted("k"), 1, 3, WHY)),
        (40, "INFO " + WAITS % (quoted("a/_SUCCESS"), 1, quoted("a/"), quoted("a/x"), "archived", WAITED_SINCE)),
        (35, "ERROR " + OUTAGE % (10, WHY)),
        (30, "INFO " + OUTAGE_OVER % 5),
    )  # fmt: skip
    for ago, line in lines:
        found.write(f"{stamp(ago)} {line}", ago=ago)
    return found


def with_metrics() -> Operated:
    """An account in which request metrics of a folder are on."""
    found = deployed()
    found.copies["models/a"] = {"Body": b"abc", "ETag": '"e"'}
    filters = {f"s3-to-s3express-sync-reads-{int(time.time()) - 86400}-99-1": "models/"}
    found.kept[f"request-metrics {MIRROR}"] = filters
    found.counted_from = {name: (folder, 0) for name, folder in filters.items()}
    return found


def of_one_key() -> Operated:
    """An account in which there is something to say of models/parked in every part."""
    found = busy()
    found.objects["models/parked"] = {"Body": b"abc", "ETag": '"e"', "Size": 3}
    found.parked = [json.dumps(PARKED)]
    found.write(f"{stamp(20)} ERROR {FAILED % (quoted('models/parked'), 3, 3, WHY)}", ago=20)
    return found


def of_a_task(*lines: str) -> Operated:
    """The same, and what the task says that a verb starts."""
    found = of_one_key()
    found.task_log = [[f"{stamp()} {line}" for line in lines]]
    return found


def waiting() -> Operated:
    lacking = [f"WARNING {LACKING % (quoted(key), 'waiting')}" for key in ("models/parked", "models/other")]
    return of_a_task(*lacking, f"INFO {WAITED % ('timeout', 1, 'keys=5 here=3 lacking=2 seconds=60.1')}")


def comparing() -> Operated:
    difference = f"INFO {DIFFERENCE % (1, 'foreign', quoted('models/x'))}"
    return of_a_task(difference, f"INFO {RECONCILED % ('complete', 1, 'listed=5 foreign=1 differences=1 reported=1')}")


Check = Callable[[Ran, Any], Iterator[str]]


class Runs:
    """Of a verb on such an account, each with a fault or none."""

    def __init__(self, verbs: Verbs, words: str, account: Operated, check: Check) -> None:
        self.verbs, self.words, self.account, self.check = verbs, words, account, check
        self.whole, calls = self.run(OneCall())
        self.keys = calls.keys()

    def run(self, fault: OneCall) -> tuple[Ran, OneCall]:
        self.verbs.account, self.verbs.fault = copy.copy(self.account), fault
        self.verbs.account.kept = json.loads(json.dumps(self.account.kept))
        self.verbs.account.queries = {}
        self.verbs.account.parked, self.verbs.account.taken = list(self.account.parked), []
        self.verbs.account.decide()  # the starter runs every minute
        try:
            return self.verbs.sync(f"{self.words} --json", None, RETRY_PAUSE="0"), fault
        finally:
            self.verbs.fault = None

    def violations(self, key: Key, kind: str) -> Iterator[str]:
        ran, fault = self.run(OneCall(key, kind))
        if fault.seen[key[0]] < key[1]:
            yield "was not made"
        wrong = list(wrong_words(ran.output + ran.errors))
        if wrong:
            yield from wrong
        elif not ran.output:
            if not ran.status or not re.search("^sync.sh: ", ran.errors, re.MULTILINE):
                yield f"nothing is said: status {ran.status}, {ran.errors}"
            if ran.sent("RunTask") and not ran.sent("StopTask") and not TASK_LEFT.search(ran.errors):
                yield f"nothing is said of the task: {ran.errors}"
        else:
            yield from self.check(ran, self.whole.json)


def wrong_words(printed: str) -> Iterator[str]:
    if RAW.search(printed):
        yield f"a raw error: {printed}"
    if NONE.search(printed):
        yield f"what could not be read is said not to exist: {printed}"


def timeless(part: Any) -> Any:
    """Without what depends on the time of day."""
    if isinstance(part, dict):
        return {name: timeless(one) for name, one in part.items() if name not in ("at", "seconds_ago", "next", "hours")}
    return part


def wrong_statements(ran: Ran, whole: dict[str, Any]) -> Iterator[str]:
    found = ran.json
    unread = {*found.get("not_known", [])}
    may_differ = {"state", "reasons", "not_known", "errors", "function_age", *unread}
    may_differ |= {part for name in unread for part in DEPENDS.get(name, ())}
    if found["events"]["error"]:
        may_differ |= {"events", "faults"}
    for name in sorted(whole.keys() | found.keys()):
        if name not in may_differ and timeless(found.get(name)) != timeless(whole.get(name)):
            yield f"{name} is {found.get(name)}, not {whole.get(name)}"

    decides = bool(unread & DECIDING)
    fails = {name for name in ("source", "destination") if found[name]["error"] and name not in unread}
    wanted = ("failing", 1) if fails else ("unknown", 3) if decides else (whole["state"], 0)
    if (found["state"], ran.status) != wanted:
        yield f"the word is {found['state']}, status {ran.status}, without {sorted(unread)}"
    if unread != found.get("errors", {}).keys() or not all(found.get("errors", {}).values()):
        yield f"no error of {sorted(unread)}"


def wrong_explanation(ran: Ran, whole: dict[str, Any]) -> Iterator[str]:
    found = ran.json
    unread = {*found["not_known"]}
    may_differ = {"not_known", "errors", "advice", "is_right", *unread}
    unknown = [name for name in ("source", "destination") if (found[name] or {}).get("problem")]
    if unknown:
        may_differ |= {"verdict", "meaning", "checksums", "of_unknown_origin", *unknown}
    if "not shown" in (found["checksums"] or ""):
        may_differ |= {"checksums"}
    if "log" in unread:
        may_differ |= {"waits"}
    if all(one["reason"].startswith("not known: ") for one in found["dead_letters"]):
        may_differ |= {"dead_letters"}
    for name in sorted(whole.keys() | found.keys()):
        if name not in may_differ and timeless(found.get(name)) != timeless(whole.get(name)):
            yield f"{name} is {found.get(name)}, not {whole.get(name)}"

    if (found["verdict"] == "unknown") != bool(unknown) or ran.status != 1:
        yield f"the word is {found['verdict']}, status {ran.status}, without {unknown}"
    if unread != found.get("errors", {}).keys() or not all(found.get("errors", {}).values()):
        yield f"no error of {sorted(unread)}"


def wrong_messages(ran: Ran, whole: list[dict[str, Any]]) -> Iterator[str]:
    """What is shown of messages, and whether they were moved."""
    for found, one in zip(ran.json, whole, strict=True):
        reasons = {key["reason"].partition(": ")[0] for key in found["keys"]}
        if found != one and (found["id"] != one["id"] or reasons != {"not known"}):
            yield f"{found}, not {one}"
    if ("1 message moved back" in ran.errors) != (ran.status == 0):
        yield f"status {ran.status}: {ran.errors}"


def wrong_wait(ran: Ran, whole: dict[str, Any]) -> Iterator[str]:
    """Without their reasons, the keys are still listed."""
    for found, one in zip(ran.json["missing_keys"], whole["missing_keys"], strict=True):
        if found != one and (found != one | {"why": "waiting"} or "fail could not be read: " not in ran.errors):
            yield f"{found}, not {one}"
    if ran.status != 1 or ran.json | {"missing_keys": []} != whole | {"missing_keys": []}:
        yield f"status {ran.status}: {ran.json}"


def wrong_comparison(ran: Ran, whole: dict[str, Any]) -> Iterator[str]:
    if ran.status != 1 or ran.json != whole:
        yield f"status {ran.status}: {ran.json}"
    if ("3 messages are in the queue" in ran.errors) == ("in the queue is not known: " in ran.errors):
        yield f"of the queue: {ran.errors}"


def wrong_bill(ran: Ran, whole: dict[str, Any]) -> Iterator[str]:
    """There is no sum of a part."""
    if timeless(ran.json) != timeless(whole) or ran.status:
        yield f"status {ran.status}: {ran.output}"


def wrong_reads(ran: Ran, whole: dict[str, Any]) -> Iterator[str]:
    """The report is whole, or there is none; whether the metrics stay on may not be known."""
    if timeless(ran.json) != timeless(whole):
        yield ran.output
    if ran.status and "the request metrics may still be on: " not in ran.errors:
        yield f"status {ran.status}: {ran.errors}"


RUNS: dict[str, tuple[Callable[[], Operated], Check]] = {
    "status": (busy, wrong_statements),
    "explain models/parked": (of_one_key, wrong_explanation),
    "redrive": (of_one_key, wrong_messages),
    "wait": (waiting, wrong_wait),
    "reconcile --report /dev/null": (comparing, wrong_comparison),
    "cost": (with_usage, wrong_bill),
    "cost --reads 99": (with_metrics, wrong_reads),
}


@pytest.fixture(scope="module", params=RUNS)
def runs(verbs: Verbs, request: pytest.FixtureRequest) -> Runs:
    account, check = RUNS[request.param]
    found = Runs(verbs, request.param, account(), check)
    assert (list(check(found.whole, found.whole.json)), "not known" in found.whole.output) == ([], False)
    assert len(found.keys) > 6
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_verb_states_nothing_that_it_does_not_know(runs: Runs, kind: str) -> None:
    """Each call fails in one way; NIGHTLY=1 in all of them."""
    ways = len(KINDS)
    turn = list(KINDS).index(kind)
    is_all = os.environ.get("NIGHTLY") == "1"
    keys = [key for number, key in enumerate(runs.keys) if is_all or number * 7 // 5 % ways == turn]
    assert [f"{key} {said}" for key in keys for said in runs.violations(key, kind)] == []


# verify, whose result is Markdown, and whose objects have other keys in each run


class OneOfVerify(OneCall):
    """A call is known by its operation and by what its first option names."""

    def name_of(self, call: list[str]) -> str:
        return " ".join(call[:4])


class Verifications(Runs):
    """With a large object, and a worker that writes of each copy."""

    def __init__(self, verbs: Verbs) -> None:
        super().__init__(verbs, "verify --yes --large", deployed(EVENT_SOURCE="eventbridge"), lambda _ran, _whole: [])

    def run(self, fault: OneCall) -> tuple[Ran, OneCall]:
        account = self.verbs.account = copy.copy(self.account)
        account.kept, account.log = json.loads(json.dumps(self.account.kept)), []
        account.objects, account.copies = {}, {}
        account.as_copied = lambda key, found: self.written(account, key, found)
        account.start("a")
        account.decide()
        self.verbs.fault = OneOfVerify(fault.key, fault.kind)
        try:
            return self.verbs.sync(self.words, None, **QUICKLY), self.verbs.fault
        finally:
            self.verbs.fault = None

    def written(self, account: Operated, key: str, found: dict[str, Any]) -> dict[str, Any]:
        account.write(f"{stamp()} INFO {SYNCED % (quoted(key), 'copied', len(found['Body']), 0.1, LAG % 2)}")
        return found

    def violations(self, key: Key, kind: str) -> Iterator[str]:
        ran, fault = self.run(OneCall(key, kind))
        if fault.seen[key[0]] < key[1]:
            yield "was not made"
        yield from wrong_words(ran.errors)
        yield from wrong_report(ran, self.whole)

        left = [*self.verbs.account.objects, *self.verbs.account.copies]
        if left and ("objects may be left" not in ran.errors or ran.status == 0):
            yield f"{left} is left: {ran.errors}"


QUICKLY = {
    "RETRY_PAUSE": "0", "FOLLOW_PAUSE": "0.1", "VERIFY_FOLLOW_SECONDS": "1",
    "VERIFY_LARGE_PARTS": "2", "VERIFY_LARGE_PART_BYTES": "9",
}  # fmt: skip


OUTCOME = re.compile(r"^\| `([a-z-]+)` +\| ([a-z][a-z :-]*[a-z]) +\|$", re.MULTILINE)


def wrong_report(ran: Ran, whole: Ran) -> Iterator[str]:
    """All is well if everything is as without the failure; otherwise there is an error. Nothing is refuted by it."""
    rows = [found.output.partition("\n\n| from")[0].partition("| object")[2] for found in (ran, whole)]
    seen = [re.sub(r"[0-9.]+ s ", "", found) for found in rows]
    if ran.status == 0 and seen[0] != seen[1]:
        yield f"all is well: {ran.output}"
    outcomes = dict(OUTCOME.findall(whole.output))
    for assumption, outcome in OUTCOME.findall(ran.output):
        if outcome not in (outcomes[assumption], "not tested"):
            yield f"{assumption} is {outcome}"
    if ran.status and not re.search("^(sync.sh|verify): ", ran.errors, re.MULTILINE):
        yield f"nothing is said: status {ran.status}, {ran.errors}"


@pytest.fixture(scope="module")
def verifications(verbs: Verbs) -> Verifications:
    found = Verifications(verbs)
    assert found.whole.status == 0, found.whole
    assert len(found.keys) > 80
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_verify_says_that_all_is_well_only_if_it_is_and_what_it_leaves(verifications: Verifications, kind: str) -> None:
    """Two calls fail in each way; NIGHTLY=1 the first two of each name in all ways."""
    keys = [key for key in verifications.keys if key[1] <= 2]
    if os.environ.get("NIGHTLY") != "1":
        keys = keys[5 * list(KINDS).index(kind) :: len(keys) // 2]
    assert [f"{key} {said}" for key in keys for said in verifications.violations(key, kind)] == []
