"""pause, resume and logs of which one call of the AWS CLI fails, each in turn, in each of five ways (failing.py).

Whatever fails, what is said of the pause is what the account has, and what is shown of a log is what it has.
"""

from __future__ import annotations

import copy
import json
import os
import re
from collections.abc import Callable, Iterator

import pytest
from account import APP
from failing import KINDS, LASTING, Key, OneCall
from operated import STARTER, Operated, Ran, Verbs, deployed, stamp, verbs
from test_failing_verbs import RAW
from test_pause import LONG_AGO, of_function, of_rule, pause

__all__ = ["verbs"]
RECONCILE = f"{APP}-reconcile", "reconcile"
WAITS_A_MINUTE = "lambda invoke"  # for the last run to end, if it cannot be known


def at_work() -> Operated:
    found = deployed()
    found.waiting[""] = 3
    found.figures = [{"Timestamp": "2026-11-25T12:00:00Z", "Maximum": 5.0}]
    found.start("worker")
    found.start("removes", *RECONCILE, "--remove-unwanted")
    found.start("compares", *RECONCILE)
    return found


def paused() -> Operated:
    found = at_work()
    pause(found.kept)
    return found


def with_logs() -> Operated:
    found = deployed(STARTER_COPIES="true")
    found.page = 5
    for n in range(12):
        found.write(f"{stamp(600 - n)} INFO of a worker {n}", ago=600 - n)
        found.write(f"{stamp(600 - n)} INFO of the function {n}", group=STARTER, ago=600 - n)
    return found


Check = Callable[[Ran, Operated, Ran], Iterator[str]]


def wrong_pause(ran: Ran, account: Operated, _whole: Ran) -> Iterator[str]:
    since, is_told = of_function(account), "so only the function knows whether the sync is paused" in ran.errors
    is_said = (
        f"paused since {since}: no worker runs, and nothing is copied. Events wait in the queue until " in ran.errors
    )
    if is_said != (ran.status == 0):
        yield f"status {ran.status}: {ran.errors}"
    if is_said and (not since or account.running() != {"compares"}):
        yield f"{account.running()} run, paused since {since!r}"
    if since and of_rule(account) != since and not is_told:
        yield f"the rule says {of_rule(account)!r}: {ran.errors}"


def wrong_resumption(ran: Ran, account: Operated, _whole: Ran) -> Iterator[str]:
    since = of_function(account)
    if since and "the sync continues" in ran.errors:
        yield f"it is paused since {since}: {ran.errors}"
    if ran.status == 0 and (since or (of_rule(account) and "could not be changed" not in ran.errors)):
        yield f"status 0, paused since {since!r}, the rule says {of_rule(account)!r}: {ran.errors}"
    if ran.status == 0 and f"after a pause since {LONG_AGO}, with 3 messages in the queue" not in ran.errors:
        yield ran.errors


def wrong_lines(ran: Ran, _account: Operated, whole: Ran) -> Iterator[str]:
    if not whole.output.startswith(ran.output) or (ran.status == 0) != (ran.output == whole.output):
        yield f"status {ran.status}: {ran.output}"


RUNS: dict[str, tuple[Callable[[], Operated], Check]] = {
    "pause": (at_work, wrong_pause),
    "resume": (paused, wrong_resumption),
    "logs": (with_logs, wrong_lines),
}


class Runs:
    """Of a verb on such an account, each with a fault or none."""

    def __init__(self, verbs: Verbs, verb: str) -> None:
        self.verbs, self.verb = verbs, verb
        account, self.check = RUNS[verb]
        self.account = account()
        self.whole, _, calls = self.run(OneCall())
        self.keys = calls.keys()

    def run(self, fault: OneCall) -> tuple[Ran, Operated, OneCall]:
        account = self.verbs.account = copy.copy(self.account)
        account.kept, account.log = json.loads(json.dumps(account.kept)), list(account.log)
        self.verbs.fault = fault
        try:
            return self.verbs.sync(self.verb, None, RETRY_PAUSE="0"), account, fault
        finally:
            self.verbs.fault = None

    def violations(self, key: Key, kind: str) -> Iterator[str]:
        ran, account, fault = self.run(OneCall(key, kind))
        if fault.seen[key[0]] < key[1]:
            yield "was not made"
        if RAW.search(ran.output + ran.errors):
            yield f"a raw error: {ran.errors}"
        if ran.status and not re.search("^sync.sh: ", ran.errors, re.MULTILINE):
            yield f"nothing is said: status {ran.status}, {ran.errors}"
        yield from self.check(ran, account, self.whole)


@pytest.fixture(scope="module", params=RUNS)
def runs(verbs: Verbs, request: pytest.FixtureRequest) -> Runs:
    found = Runs(verbs, request.param)
    assert found.whole.status == 0
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_pause_and_a_log_are_what_is_said_of_them(runs: Runs, kind: str) -> None:
    """Each call fails in one way; NIGHTLY=1 in all of them."""
    ways = len(KINDS)
    turn = list(KINDS).index(kind)
    is_all = os.environ.get("NIGHTLY") == "1"
    keys = [key for number, key in enumerate(runs.keys) if is_all or number * 7 // 5 % ways == turn]
    keys = [key for key in keys if kind not in LASTING or not key[0].startswith(WAITS_A_MINUTE)]
    assert [f"{key} {said}" for key in keys for said in runs.violations(key, kind)] == []
