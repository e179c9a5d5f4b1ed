"""KEEP_DAYS: in every schedule what is in time is there, and what is expired is gone or equal. See keeping.py."""

import pytest
from fakes import LARGE, NIGHTLY
from interleave import Case
from keeping import Keeping, KeepingReaders, with_days
from planted import changed

from mirror.protocol.buckets import CONDITIONAL_WRITES

pytestmark = pytest.mark.usefixtures("quick")

HELD = Case((), ("put a",), keep_days=1, removals=1)
NEW = HELD._replace(before=(), changes=("put a",))
RESTORED = Case(("delete-newest-version",), ("put a", "day", "put b"), versioned=True, keep_days=1, removals=1)

# The case, and how many midnights pass.
CASES = {
    "nothing but days, two removals": (HELD._replace(removals=2, crashes=1), 3),
    "new, with a crash": (NEW._replace(crashes=1), 3),
    "new, with a lost answer": (NEW._replace(losses=1), 2),
    "overwritten, with a crash": (HELD._replace(changes=("put b",), crashes=1), 3),
    "overwritten, with SIGTERM": (HELD._replace(changes=("put b",), stops=1), 2),
    "overwritten, joined by another message": (HELD._replace(changes=("put b",), joins=1, crashes=1), 2),
    "touched, with a lost answer": (HELD._replace(changes=("touch",), losses=1), 2),
    "touched, two removals": (HELD._replace(changes=("touch",), removals=2), 3),
    "touched, a message delivered twice": (HELD._replace(changes=("touch",), duplicates=1, workers=1), 2),
    "overwritten and deleted, one worker": (HELD._replace(changes=("put b", "delete"), workers=1, crashes=1), 2),
    "deleted, with a crash": (HELD._replace(changes=("delete",), crashes=1), 3),
    "an old version restored": (RESTORED._replace(crashes=1, losses=1), 2),
    "a delete marker removed": (HELD._replace(changes=("delete", "delete-newest-version"), versioned=True), 2),
    "no conditional writes": (
        HELD._replace(changes=("put b",), unconditional=CONDITIONAL_WRITES, removals=0, crashes=1),
        2,
    ),
    "no provenance, touched": (HELD._replace(changes=("touch",), opaque=True), 2),
    "two parts, with a crash": (NEW._replace(size=LARGE, crashes=1), 3),
    "two parts, overwritten": (HELD._replace(changes=("put b",), size=LARGE, losses=1), 2),
    "kept for two days": (HELD._replace(changes=("put b",), keep_days=2, workers=1, crashes=1), 4),
}
NIGHTLY_CASES = {
    "touched twice": (HELD._replace(changes=("touch", "touch")), 2),
    "deleted and put again": (HELD._replace(changes=("delete", "put b")), 2),
    "put, overwritten and deleted": (NEW._replace(changes=("put a", "put b", "delete"), workers=1), 2),
    "overwritten and restored": (HELD._replace(changes=("put b", "delete-newest-version"), versioned=True), 2),
    "overwritten, a message delivered twice": (HELD._replace(changes=("put b",), duplicates=1), 3),
    "overwritten, every fault": (HELD._replace(changes=("put b",), crashes=1, losses=1, stops=1, workers=1), 2),
    "overwritten and deleted": (HELD._replace(changes=("put b", "delete"), crashes=1), 2),
    "a delete marker removed, with a crash": (
        HELD._replace(changes=("delete", "delete-newest-version"), versioned=True, crashes=1),
        3,
    ),
}


# With a marker, data/_SUCCESS.
MARKED = Case((), ("put a x", "put _SUCCESS"), keep_days=1)
MARKERS = {
    "a file and a marker": (MARKED._replace(before=(), changes=("put a x", "put _SUCCESS")), 2),
    "both overwritten": (MARKED._replace(changes=("put a y", "put _SUCCESS"), workers=1), 1),
    "both deleted": (MARKED._replace(changes=("delete _SUCCESS", "delete a")), 2),
}
NIGHTLY_MARKERS = {
    "both overwritten, with a crash": (MARKED._replace(changes=("put a y", "put _SUCCESS"), workers=1, crashes=1), 2),
    "both overwritten, two workers": (MARKED._replace(changes=("put a y", "put _SUCCESS")), 2),
    "both touched": (MARKED._replace(changes=("touch a new", "touch _SUCCESS new")), 2),
    "one file deleted": (MARKED._replace(before=("put a x", "put b x"), changes=("delete b", "put _SUCCESS")), 2),
    "the marker put again": (MARKED._replace(changes=("delete _SUCCESS", "put a y", "put _SUCCESS"), workers=1), 2),
}


def searches(kind, case, days):
    return (kind(case._replace(changes=changes)) for changes in with_days(case.changes, days))


@pytest.mark.parametrize("name", CASES | (NIGHTLY_CASES if NIGHTLY else {}))
def test_every_schedule_ends_with_what_is_in_time(name, passes):
    passes(name, searches(Keeping, *(CASES | NIGHTLY_CASES)[name]))


@pytest.mark.parametrize("name", MARKERS | (NIGHTLY_MARKERS if NIGHTLY else {}))
def test_a_reader_sees_no_marker_before_what_is_in_time(name, passes):
    passes(name, searches(KeepingReaders, *(MARKERS | NIGHTLY_MARKERS)[name]))


# The file's event is lost, and the marker, which is younger, is in time for longer.
LOST_FILE = MARKED._replace(before=(), changes=("put a x", "day", "put _SUCCESS", "day"), eventless="put a")


def test_a_marker_waits_for_what_is_in_time_and_no_longer(passes):
    search = KeepingReaders(LOST_FILE)
    passes("a file that never comes, then its marker", [search])
    waiting = [state for state in search.schedules if any(not parked.calls for parked in state.parked)]
    assert {search.day(state) for state in waiting} == {1}


# What each step is for; those of a removal, and the removal of what is stale and expired, are in mutants.py.


OLD = NEW._replace(changes=("put a", "day", "day"))
TOUCHED = HELD._replace(changes=("day", "day", "touch"))
# what is left out -> the case that shows it, the fault that is found, texts of the code and what they become
LEFT_OUT = {
    "the condition of a removal": (
        TOUCHED._replace(workers=1),
        "the live object disappears",
        {'{"IfMatch": existing.etag} if existing': "{} if existing"},
    ),
    "a look at the age": (OLD._replace(coded_days=0), "a copy is begun"),
    "the last day": (OLD._replace(keep_days=2, coded_days=1), "at rest the destination is None, the source a"),
    "the end of the last day": (OLD._replace(coded_days=2), "a copy is begun"),
    "the event of what is touched": (TOUCHED._replace(eventless="touch"), "at rest the destination is"),
}


@pytest.mark.parametrize("left_out", LEFT_OUT)
def test_the_search_finds_what_goes_wrong_without(left_out, finds):
    case, expected, *changes = LEFT_OUT[left_out]
    with changed(dict(*changes), "keeping") as world:
        finds(f"without {left_out}", world.Keeping(case), expected)


def test_what_is_not_promised_without_provenance(finds):
    """A copy of the version before, that lands after the new one has expired, counts as its copy: the lifecycle or a
    removal takes it."""
    search = Keeping(NEW._replace(changes=("put a", "put b", "day", "day"), opaque=True))
    expected = "at rest the destination is ('a', 1, 'label'), the source ('b', 1, 'label')"
    finds("not promised without provenance", search, expected)
