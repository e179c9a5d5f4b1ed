"""KEEP_DAYS: in every schedule what is in time is there, and what is expired goes or is equal. See keeping.py."""

import os
import time

import pytest
from fakes import LARGE
from interleave import Case
from keeping import Keeping, with_days

pytestmark = pytest.mark.usefixtures("quick")

NIGHTLY = os.environ.get("NIGHTLY") == "1"
HELD = Case((), ("put a",), keep_days=1, removals=1)

# The case, and how many midnights pass.
CASES = {
    "nothing but days": (HELD._replace(removals=2), 3),
    "new, with a crash": (HELD._replace(changes=("put a",), before=(), crashes=1), 3),
    "overwritten, with a crash": (HELD._replace(changes=("put b",), crashes=1), 3),
    "touched, with a lost answer": (HELD._replace(changes=("touch",), losses=1), 3),
    "touched": (HELD._replace(changes=("touch",), removals=2), 3),
    "deleted, with a crash": (HELD._replace(changes=("delete",), crashes=1), 3),
}


def cases_of(name):
    case, days = (CASES)[name]
    return [case._replace(changes=changes) for changes in with_days(case.changes, days)]


@pytest.mark.parametrize("name", CASES)
def test_every_schedule_ends_with_what_is_in_time(name, show):
    began, schedules, states, steps = time.monotonic(), 0, 0, 0
    for case in cases_of(name):
        search = Keeping(case)
        schedules += search.run()
        states += len(search.schedules)
        steps += search.transitions
    seconds = time.monotonic() - began
    show(f"{name}: {schedules:.2g} schedules, {states} states, {steps} steps, {seconds:.1f} s")
