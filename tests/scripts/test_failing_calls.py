"""Each call of a run fails, in each way: the run ends as if nothing had happened, or says what failed.

Whatever fails, nothing of others changes, events go on reaching the queue, nothing is said that is not known, and the
same run completes it later. By day each operation of each step of a deployment fails once, with the step alone: in one
of the ways, and a write also without being made, and so that it is the last; and some calls of whole runs do. At night
each call of each of these fails in each way.
"""

import copy
import functools
import hashlib
import json
import os
import random
import shlex
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from call import READ
from documents import Ran, Scripts, scripts_of_module
from failing import (
    HEDGED,
    KINDS,
    RUNS,
    STEP,
    STEPS_OF,
    Key,
    OneCall,
    Run,
    before,
    has_way,
    names_call,
    of_others,
    statements,
    steps,
)
from oracles import changed_things, errors_of_tools
from paper_account import PaperAccount

Kept = dict[str, Any]
WAYS = list(KINDS)
NOT_MADE = ("unreachable", "denied", "throttled")  # if such an error is swallowed, something is not written
# Whole runs, and how many of their calls fail by day.
BY_DAY = {"no change": 2, "to sqs": 2, "a plan": 2, "removal": 5, "removal of eventbridge": 5, "its rehearsal": 2}
IS_NIGHT = os.environ.get("NIGHTLY") == "1"
AT_NIGHT = [(name, kind) for name in RUNS for kind in WAYS] if IS_NIGHT else []

scripts = scripts_of_module()


def run_in(scripts: Scripts, run: Run, kept: Kept, fault: OneCall | None = None) -> tuple[Ran, Kept]:
    """(what the run did, what the account has then)"""
    scripts.account = PaperAccount()
    scripts.account.kept = copy.deepcopy(kept)
    scripts.fault = fault
    try:
        if run.program == STEP:
            ran = scripts.step(*run.options, status=None, **run.settings)
        else:
            ran = scripts.program(run.program, *run.options, status=None, **run.settings)
    finally:
        scripts.fault = None
    return ran, json.loads(json.dumps(scripts.account.kept))


class Whole(NamedTuple):
    """A run of which nothing fails: what the account had and has, what of it is theirs, what it did, and its calls.
    `later` has what is wrong after another run, by what the account had before that."""

    run: Run
    kept: Kept
    theirs: Kept
    ran: Ran
    end: Kept
    calls: list[Key]
    later: dict[str, list[str]]


def whole_of(scripts: Scripts, run: Run, kept: Kept, theirs: Kept) -> Whole:
    calls = OneCall()
    ran, end = run_in(scripts, run, kept, calls)
    assert ran.status == run.status, ran.output + ran.errors
    assert changed_things(theirs, of_others(end, theirs)) == []
    return Whole(run, kept, theirs, ran, end, calls.keys(), {})


@functools.cache
def whole(scripts: Scripts, name: str) -> Whole:
    return whole_of(scripts, RUNS[name], *before(scripts, RUNS[name]))


def wrong_later(scripts: Scripts, known: Whole, kept: Kept) -> list[str]:
    """What is wrong after the same run without a fault, in an account that has this."""
    key = hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()
    if kept != known.kept and key not in known.later:
        ran, end = run_in(scripts, known.run, kept)
        ends_badly = [] if ran.status in (0, known.run.status) else [f"status {ran.status}: {ran.errors}"]
        known.later[key] = ends_badly + changed_things(known.end, end)
    return known.later.get(key, [])


def wrong_with(scripts: Scripts, known: Whole, call: Key, kind: str) -> Iterator[str]:
    """What does not hold if that call fails so."""
    run = known.run
    ran, end = run_in(scripts, run, known.kept, OneCall(call, kind))
    yield from errors_of_tools(ran)
    yield from changed_things(known.theirs, of_others(end, known.theirs))
    if run.program != "cleanup.sh" and has_way(known.kept) and not has_way(end):
        yield "no event reaches the queue"
    said, usual = statements(ran, run), statements(known.ran, run)
    for line in sorted(said - usual):
        if not HEDGED.search(line):
            yield f"it says: {line}"
    if ran.status == known.ran.status and end == known.end and said >= usual:
        return
    lines = {*ran.errors.splitlines(), *ran.output.splitlines()}
    if not any(names_call(line, call[0]) for line in lines):
        yield f"status {ran.status}, and nothing names the call"
    if ran.status == known.ran.status and not any("left to you" in line for line in said):
        yield f"status {ran.status}, but it is not done: {changed_things(known.end, end)}; {usual - said}"
    yield from wrong_later(scripts, known, end)


def check(scripts: Scripts, known: Whole, call: Key, kind: str) -> list[str]:
    """What is wrong if that call fails so, and which call it was."""
    again = f"{known.run.program} {known.run.options} with {kind}: {call[0][:200]}"
    return [f"{wrong}\n  {again}" for wrong in wrong_with(scripts, known, call, kind)]


def each_step(scripts: Scripts, run: Run) -> Iterator[tuple[Whole, list[Key]]]:
    """Each step of a deployment, in an account that has what those before it made, and the calls of the step itself.
    Together they do what the deployment does."""
    kept, theirs = before(scripts, run)
    deployed = whole_of(scripts, run, kept, theirs).end
    in_each = set(whole_of(scripts, Run(STEP, settings=run.settings), kept, theirs).calls)
    for step in steps(run):
        known = whole_of(scripts, Run(STEP, (step,), run.settings), kept, theirs)
        yield known, [call for call in known.calls if call not in in_each]
        kept = known.end
    assert changed_things(deployed, kept) == []


# --- the tests ------------------------------------------------------------------------------------------------------


def operation_of(call: Key) -> str:
    return shlex.split(call[0])[1].title().replace("-", "")


def kinds_of(call: Key, number: int) -> list[str]:
    """One way after the other; a write also fails without being made, and so that it is the last that a run makes."""
    if IS_NIGHT:
        return WAYS
    one_of_them = WAYS[number % len(WAYS)]
    if READ.match(operation_of(call)):
        return [one_of_them]
    return list(dict.fromkeys([one_of_them, NOT_MADE[number % len(NOT_MADE)], "cut"]))


def test_a_step_of_which_any_call_fails(scripts: Scripts) -> None:
    found, failed = [], set[tuple[str, str]]()
    for run in STEPS_OF:
        for known, calls in each_step(scripts, run):
            for call in calls:
                # The same code makes them for the next resource, and in the next situation.
                alike = known.run.options[0].split()[0], operation_of(call)
                if IS_NIGHT or alike not in failed:
                    for kind in kinds_of(call, len(failed)):
                        found += check(scripts, known, call, kind)
                    failed.add(alike)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", BY_DAY)
def test_a_run_of_which_some_calls_fail(name: str, scripts: Scripts) -> None:
    known, found = whole(scripts, name), []
    for number, call in enumerate(random.Random(name).sample(known.calls, BY_DAY[name])):
        found += check(scripts, known, call, WAYS[number % len(WAYS)])
    assert not found, "\n".join(found)


@pytest.mark.parametrize(("name", "kind"), AT_NIGHT)
def test_a_run_of_which_any_call_fails(name: str, kind: str, scripts: Scripts) -> None:
    known = whole(scripts, name)
    found = [wrong for call in known.calls for wrong in check(scripts, known, call, kind)]
    assert not found, "\n".join(found)
