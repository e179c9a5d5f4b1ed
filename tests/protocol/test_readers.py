"""A reader never sees a marker before what it announced, in any schedule; and does without a step of mirror/markers.py."""

import os
import time

import pytest
from interleave import Answers, Case
from readers import FILES, MARKERS, Readers, stand_in

from mirror import completeness, markers, sync
from mirror.completeness import Completeness

pytestmark = pytest.mark.usefixtures("quick")

NIGHTLY = os.environ.get("NIGHTLY") == "1"
HELD = ("put a x", "put _SUCCESS")  # before
RENEWED = Case(("delete _SUCCESS", "put a y", "put _SUCCESS"), HELD)
OVERWRITTEN = Case(("put a y", "put _SUCCESS"), HELD)
REMOVED = Case(("delete _SUCCESS", "delete a"), HELD)
GHOST = Case(("delete b", "put _SUCCESS"), ("put a x", "put b x"))
SHORT_LIVED = Case(("put b y", "delete b", "put _SUCCESS"), ("put a x",))
WITHDRAWN = Case(("put _SUCCESS", "delete _SUCCESS", "put a y"), ("put a x",))
UPLOADED = Case(("put a x", "put b x", "put _SUCCESS"))
NESTED = Case(("put s/a x", "put s/_SUCCESS", "put _SUCCESS"))
ALIKE = Case(("delete _SUCCESS", "put a y", "delete-newest-version _SUCCESS"), HELD, versioned=True)
SOME_AGAIN = ("delete _SUCCESS", "put a y", "put b y", "put _SUCCESS")

CASES = {
    "two files and a marker, with a crash": UPLOADED._replace(crashes=1),
    "two files and a marker, three syncs": UPLOADED._replace(workers=3),
    "a large file": Case(("put-large a x", "put _SUCCESS"), crashes=1, losses=1),
    "overwritten, with a crash": OVERWRITTEN._replace(crashes=1),
    "overwritten, with a lost answer": OVERWRITTEN._replace(losses=1),
    "overwritten, with SIGTERM": OVERWRITTEN._replace(stops=1),
    "overwritten, with a message delivered twice": OVERWRITTEN._replace(duplicates=1),
    "metadata changed in place": Case(("touch a new", "touch _SUCCESS new"), HELD, losses=1),
    "the marker deleted and put again": RENEWED,
    "the marker deleted, put again within one second": WITHDRAWN._replace(same_second=True),
    "the marker and a file deleted": REMOVED._replace(crashes=1, losses=1),
    "the marker put and deleted": WITHDRAWN._replace(crashes=1),
    "a file deleted": GHOST._replace(crashes=1, losses=1),
    "a file put and deleted": SHORT_LIVED._replace(crashes=1),
    "the delete marker removed": ALIKE,
    "a marker in a folder below": NESTED,
    "every fault, one sync at a time": OVERWRITTEN._replace(workers=1, crashes=1, losses=1, stops=1),
}
NIGHTLY_CASES = {
    "two files and a marker, with a lost answer": UPLOADED._replace(losses=1),
    "two files and a marker, three syncs, with a crash": UPLOADED._replace(workers=3, crashes=1),
    "overwritten, with a crash and SIGTERM": OVERWRITTEN._replace(crashes=1, stops=1),
    "overwritten, with a crash and a lost answer": OVERWRITTEN._replace(crashes=1, losses=1),
    "overwritten, three syncs": OVERWRITTEN._replace(workers=3, crashes=1),
    "put again, with a crash": RENEWED._replace(crashes=1),
    "put again, with a lost answer": RENEWED._replace(losses=1),
    "put again, with SIGTERM": RENEWED._replace(stops=1),
    "put again, with a message delivered twice": RENEWED._replace(duplicates=1),
    "put again, within one second": RENEWED._replace(same_second=True, crashes=1),
    "put again, three syncs": RENEWED._replace(workers=3),
    "two files changed, the marker put again": Case(SOME_AGAIN, ("put b x", *HELD)),
    "a file changed, one deleted": Case(("delete _SUCCESS", "put a y", "delete b", "put _SUCCESS"), ("put b x", *HELD)),
    "put, deleted and put again": WITHDRAWN._replace(changes=(*WITHDRAWN.changes, "put _SUCCESS")),
    "a file put and deleted, with a lost answer": SHORT_LIVED._replace(losses=1),
    "a file deleted and put again": Case(("delete a", "put a x", "put _SUCCESS"), HELD, crashes=1),
    "the delete marker removed, with a lost answer": ALIKE._replace(losses=1),
    "a marker in a folder below, with a crash": NESTED._replace(crashes=1),
    "a marker in a folder below, put again": Case(
        ("delete _SUCCESS", "put s/a y", "put s/_SUCCESS", "put _SUCCESS"), ("put s/a x", "put s/_SUCCESS", "put _SUCCESS")
    ),
}
# What of the world is otherwise: the arguments of Readers, and constants of mirror/completeness.py.
VARIANTS = {
    "the folder is looked at twice": (OVERWRITTEN._replace(crashes=1), {"patience": 1}, {}),
    "put again, the folder is looked at twice": (RENEWED, {"patience": 1}, {}),
    "with looks at the source": (SHORT_LIVED, {}, {"SOURCE_LOOK_SECONDS": 0}),
    "put again, with looks at the source": (RENEWED, {}, {"SOURCE_LOOK_SECONDS": 0}),
    "a listing does not show what was copied lately": (GHOST._replace(losses=1), {"is_recent": True}, {}),
    "two markers of one folder": (Case(("put a x", "put b.done", "put _SUCCESS")), {"patterns": "_SUCCESS,*.done"}, {}),
    "a pattern of whole keys": (
        Case(("put s/a x", "put s/m", "delete s/m", "put s/a y")),
        {"patterns": "*/s/m"},
        {},
    ),
}


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch):
    stand_in(monkeypatch)


def search(name, show, readers):
    began = time.monotonic()
    schedules = readers.run()
    show(
        f"{name}: {schedules:.2g} schedules, {len(readers.schedules)} states, {readers.transitions} steps, "
        f"{time.monotonic() - began:.1f} s"
    )


@pytest.mark.parametrize("instant", ["", FILES, MARKERS])
@pytest.mark.parametrize("name", CASES | (NIGHTLY_CASES if NIGHTLY else {}))
def test_a_reader_sees_no_marker_before_what_it_announces(name, instant, show):
    """What is promised at all, and what only without a copy under way: see readers.py."""
    words = f"{name}, copies of {instant} take no time" if instant else name
    search(words, show, Readers((CASES | NIGHTLY_CASES)[name], instant=(instant,)))


@pytest.mark.parametrize("instant", ["", FILES, MARKERS])
@pytest.mark.parametrize("name", VARIANTS)
def test_nor_in_a_world_that_is_otherwise(name, instant, monkeypatch, show):
    case, arguments, constants = VARIANTS[name]
    for constant, value in constants.items():
        monkeypatch.setattr(completeness, constant, value)
    search(name, show, Readers(case, instant=(instant,), **arguments))


QUIET = (UPLOADED, OVERWRITTEN, RENEWED, REMOVED, GHOST, SHORT_LIVED, WITHDRAWN, ALIKE, NESTED)


def test_one_sync_at_a_time_that_nothing_disturbs_keeps_all_promises_though_copies_take_time(show):
    for case in QUIET:
        search(", ".join(case.changes), show, Readers(case._replace(workers=1), strict=(FILES, MARKERS)))
