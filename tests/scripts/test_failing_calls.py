"""Each call of a run fails, in each way: the run ends as if nothing had happened, or says what failed.

Whatever fails, nothing of others changes, events go on reaching the queue, nothing is said that is not known, and the
same run completes it later.
"""

import copy
import functools
import hashlib
import json
import os
import random
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from documents import Ran, Scripts, scripts_of_module
from failing import HEDGED, KINDS, RUNS, Key, OneCall, Run, before, has_way, names_call, of_others, statements
from oracles import changed_things, errors_of_tools
from paper_account import PaperAccount

Kept = dict[str, Any]
DRAWN = 24
AT_NIGHT = [(name, kind) for name in RUNS for kind in KINDS] if os.environ.get("NIGHTLY") == "1" else []

scripts = scripts_of_module()


def run_in(scripts: Scripts, run: Run, kept: Kept, fault: OneCall | None = None) -> tuple[Ran, Kept]:
    """(what the run did, what the account has then)"""
    scripts.account = PaperAccount()
    scripts.account.kept = copy.deepcopy(kept)
    scripts.fault = fault
    try:
        ran = scripts.program(run.program, *run.options, status=None, **run.settings)
    finally:
        scripts.fault = None
    return ran, json.loads(json.dumps(scripts.account.kept))


class Whole(NamedTuple):
    """A run of which nothing fails: what the account had and has, what of it is theirs, what it did, and its calls.
    `later` has what is wrong after another run, by what the account had before that."""

    kept: Kept
    theirs: Kept
    ran: Ran
    end: Kept
    calls: list[Key]
    later: dict[str, list[str]]


@functools.cache
def whole(scripts: Scripts, name: str) -> Whole:
    kept, theirs = before(scripts, RUNS[name])
    calls = OneCall()
    ran, end = run_in(scripts, RUNS[name], kept, calls)
    assert ran.status == RUNS[name].status, ran.output + ran.errors
    assert changed_things(theirs, of_others(end, theirs)) == []
    return Whole(kept, theirs, ran, end, calls.keys(), {})


def wrong_later(scripts: Scripts, name: str, kept: Kept) -> list[str]:
    """What is wrong after the same run without a fault, in an account that has this."""
    known, run = whole(scripts, name), RUNS[name]
    key = hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()
    if kept != known.kept and key not in known.later:
        ran, end = run_in(scripts, run, kept)
        ends_badly = [] if ran.status in (0, run.status) else [f"status {ran.status}: {ran.errors}"]
        known.later[key] = ends_badly + changed_things(known.end, end)
    return known.later.get(key, [])


def wrong_with(scripts: Scripts, name: str, number: int, kind: str) -> Iterator[str]:
    """What does not hold if that call fails so."""
    known, run = whole(scripts, name), RUNS[name]
    call = known.calls[number]
    ran, end = run_in(scripts, run, known.kept, OneCall(call, kind))
    yield from errors_of_tools(ran)
    yield from changed_things(known.theirs, of_others(end, known.theirs))
    if run.program == "deploy.sh" and run.before is not None and not has_way(end):
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
    yield from wrong_later(scripts, name, end)


def check(scripts: Scripts, name: str, number: int, kind: str) -> list[str]:
    call = whole(scripts, name).calls[number][0][:200]
    again = f"FAILING='{name},{number},{kind}' .venv/bin/pytest tests/scripts/test_failing_calls.py"
    return [f"{found}\n  with {call}\n  {again}" for found in wrong_with(scripts, name, number, kind)]


def drawn(draw: int) -> tuple[str, float, str]:
    """A run, how far into the list of its calls, and how that one fails, which is another way in each round."""
    rounds, place = divmod(draw, len(RUNS))
    return list(RUNS)[place], random.Random(draw).random(), list(KINDS)[(place + rounds) % len(KINDS)]


@pytest.mark.parametrize("draw", range(DRAWN))
def test_a_run_of_which_one_call_fails(draw: int, scripts: Scripts) -> None:
    name, part, kind = drawn(draw)
    number = int(part * len(whole(scripts, name).calls))
    if "FAILING" in os.environ:
        name, chosen, kind = os.environ["FAILING"].split(",")
        number = int(chosen)
    assert check(scripts, name, number, kind) == []


@pytest.mark.parametrize(("name", "kind"), AT_NIGHT)
def test_a_run_of_which_any_call_fails(name: str, kind: str, scripts: Scripts) -> None:
    numbers = range(len(whole(scripts, name).calls))
    assert [found for number in numbers for found in check(scripts, name, number, kind)] == []
