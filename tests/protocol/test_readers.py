"""A reader never sees a marker before what it announced, and does if a step of markers.py is left out."""

import pytest
from fakes import NIGHTLY
from interleave import Case
from planted import changed
from readers import FILES, MARKERS, RETURNED, Readers

from mirror.protocol.buckets import CONDITIONAL_WRITES

pytestmark = pytest.mark.usefixtures("quick")

HELD = ("put a x", "put _SUCCESS")  # before
RENEWED = Case(("delete _SUCCESS", "put a y", "put _SUCCESS"), HELD)
OVERWRITTEN = Case(("put a y", "put _SUCCESS"), HELD)
REMOVED = Case(("delete _SUCCESS", "delete a"), HELD)
GHOST = Case(("delete b", "put _SUCCESS"), ("put a x", "put b x"))
PUT_AGAIN = Case(("delete a", "put _SUCCESS", "put a y"), ("put a x",))
UNHEARD = GHOST._replace(eventless="delete")
SHORT_LIVED = Case(("put b y", "delete b", "put _SUCCESS"), ("put a x",))
WITHDRAWN = Case(("put _SUCCESS", "delete _SUCCESS", "put a y"), ("put a x",))
PUT_TWICE = Case(("put _SUCCESS", "put a y", "put _SUCCESS two"), ("put a x",))
CHANGED_TWICE = Case(("put a y", "delete _SUCCESS", "put a z"), HELD)
UPLOADED = Case(("put a x", "put b x", "put _SUCCESS"))
NESTED = Case(("put s/a x", "put s/_SUCCESS", "put _SUCCESS"))
ALIKE = Case(("delete _SUCCESS", "put a y", "delete-newest-version _SUCCESS"), HELD, versioned=True)
ROLLED_BACK = Case(("delete-newest-version a", "put _SUCCESS"), ("put a x", "put a y"), versioned=True)
LEVELS = Case(("delete _SUCCESS", "delete s/_SUCCESS", "put s/a y"), ("put s/a x", "put s/_SUCCESS", "put _SUCCESS"))
BELOW_FOREIGN = Case(("put s/a y", "put s/_SUCCESS"), ("put s/a x",))
SOME_AGAIN = ("delete _SUCCESS", "put a y", "put b y", "put _SUCCESS")

CASES = {
    "two files and a marker, with a crash": UPLOADED._replace(crashes=1),
    "two files and a marker, three syncs": UPLOADED._replace(workers=3),
    "a large file": Case(("put-large a x", "put _SUCCESS"), crashes=1),
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
    "a file deleted without an event": UNHEARD._replace(crashes=1),
    "a file deleted without an event, below": Case(("delete s/a", "put _SUCCESS"), ("put s/a x",), eventless="delete"),
    "a file put and deleted": SHORT_LIVED._replace(crashes=1),
    "the delete marker removed": ALIKE,
    "a version deleted for good": ROLLED_BACK._replace(crashes=1),
    "no conditional writes, equal in the end": RENEWED._replace(unconditional=CONDITIONAL_WRITES),
    "a marker in a folder below": NESTED,
    "a file changed before and after the marker is deleted": CHANGED_TWICE,
    "one sync at a time, with every fault but one": OVERWRITTEN._replace(workers=1, crashes=1, losses=1),
    "the folder is looked at twice": OVERWRITTEN._replace(crashes=1),
    "with looks at the source": SHORT_LIVED,
    "listed twice": Case(("put b y", "put _SUCCESS"), ("put a x",)),
    "listed twice, with looks at the source": OVERWRITTEN,
    "a file deleted and put again, with looks at the source": PUT_AGAIN,
    "a listing does not show what was copied lately": GHOST._replace(losses=1),
    "markers of two levels deleted, and a file changed": LEVELS,
    "two markers of one folder": Case(("put a x", "put b.done", "put _SUCCESS")),
    "foreign markers": BELOW_FOREIGN._replace(crashes=1),
    "a pattern of whole keys": Case(("put s/m", "delete s/m", "put s/a y"), ("put s/a x",)),
}
NIGHTLY_CASES = {
    "two files and a marker, with a lost answer": UPLOADED._replace(losses=1),
    "two files and a marker, three syncs, with a crash": UPLOADED._replace(workers=3, crashes=1),
    "overwritten, with a crash and SIGTERM": OVERWRITTEN._replace(crashes=1, stops=1),
    "overwritten, with a crash and a lost answer": OVERWRITTEN._replace(crashes=1, losses=1),
    "put again, with a crash": RENEWED._replace(crashes=1),
    "put again, with a lost answer": RENEWED._replace(losses=1),
    "put again, with SIGTERM": RENEWED._replace(stops=1),
    "put again, with a message delivered twice": RENEWED._replace(duplicates=1),
    "put again, within one second": RENEWED._replace(same_second=True, crashes=1),
    "put again, three syncs": RENEWED._replace(workers=3),
    "two files changed, the marker put again": Case(SOME_AGAIN, ("put b x", *HELD)),
    "a file changed, one deleted": Case(("delete _SUCCESS", "put a y", "delete b", "put _SUCCESS"), ("put b x", *HELD)),
    "markers of two levels deleted, with a crash": LEVELS._replace(crashes=1),
    "the marker put, and put again": PUT_TWICE,
    "put, deleted and put again": WITHDRAWN._replace(changes=(*WITHDRAWN.changes, "put _SUCCESS")),
    "a file put and deleted, with a lost answer": SHORT_LIVED._replace(losses=1),
    "a file deleted and put again": Case(("delete a", "put a x", "put _SUCCESS"), HELD, crashes=1),
    "the delete marker removed, with a lost answer": ALIKE._replace(losses=1),
    "every fault, one sync at a time": OVERWRITTEN._replace(workers=1, crashes=1, losses=1, stops=1),
    "put again, the folder is looked at twice": RENEWED,
    "put again, with looks at the source": RENEWED,
    "a large file, with a lost answer": Case(("put-large a x", "put _SUCCESS"), crashes=1, losses=1),
    "a large file, overwritten": Case(("put-large a y", "put _SUCCESS"), ("put a x",), crashes=1),
    "a marker in a folder below, with a crash": NESTED._replace(crashes=1),
    "a marker in a folder below, put again": Case(
        ("delete _SUCCESS", "put s/a y", "put s/_SUCCESS", "put _SUCCESS"),
        ("put s/a x", "put s/_SUCCESS", "put _SUCCESS"),
    ),
}
# What of the world is otherwise: the arguments of Readers.
LOOKS_AT_SOURCE = {"seconds": 31}
VARIANTS = {
    "the folder is looked at twice": {"patience": 20},
    "put again, the folder is looked at twice": {"patience": 20},
    "with looks at the source": LOOKS_AT_SOURCE,
    "put again, with looks at the source": LOOKS_AT_SOURCE,
    "listed twice": {"lists_twice": True},
    "a file deleted and put again, with looks at the source": LOOKS_AT_SOURCE,
    "listed twice, with looks at the source": LOOKS_AT_SOURCE | {"lists_twice": True},
    "a listing does not show what was copied lately": {"is_recent": True},
    "foreign markers": {"foreign": ("_SUCCESS", "s/_DONE"), "patterns": "_SUCCESS,_DONE"},
    "two markers of one folder": {"patterns": "_SUCCESS,*.done"},
    "a pattern of whole keys": {"patterns": "*/s/m"},
}


def worlds(case):
    """What takes no time: nothing, or what the promises about deletions ask for, see readers.py."""
    if case.unconditional:
        return [""]
    deleted = {change.split(" ")[1] for change in case.changes if change.startswith("delete")}
    marked = [MARKERS] if any("_SUCCESS" in key or "/m" in key for key in deleted) else []
    return ["", *marked, *([FILES] if deleted - {"_SUCCESS", "s/m"} else [])]


def searches(cases):
    return [pytest.param(name, instant, id=f"{name}-{instant}") for name in cases for instant in worlds(cases[name])]


@pytest.mark.parametrize(("name", "instant"), searches(CASES | (NIGHTLY_CASES if NIGHTLY else {})))
def test_a_reader_sees_no_marker_before_what_it_announces(name, instant, passes):
    words = f"{name}, copies of {instant} take no time" if instant else name
    passes(words, [Readers((CASES | NIGHTLY_CASES)[name], instant=(instant,), **VARIANTS.get(name, {}))])


QUIET = (
    UPLOADED,
    OVERWRITTEN,
    RENEWED,
    REMOVED,
    GHOST,
    SHORT_LIVED,
    WITHDRAWN,
    PUT_TWICE,
    CHANGED_TWICE,
    ALIKE,
    NESTED,
)


def test_one_sync_at_a_time_that_nothing_disturbs_keeps_all_promises_though_copies_take_time(passes):
    passes("one at a time", (Readers(case._replace(workers=1), strict=(FILES, MARKERS)) for case in QUIET))


# What each step is for: the real code without it.


def at_the_beginning(steps, line):
    """The steps of the options come first of all, and not where this line is."""
    loop, first = (
        f"        for step in self.{steps}:\n            await step(sync)\n",
        "        by_checksum = sync.comp",
    )
    return {first: loop + first, loop + line: line}


# what is left out -> texts of a file and what they become, what is searched, the fault that is found, more arguments
LEFT_OUT = {
    "the wait": (
        {"if is_marker(sync.key, self.buckets.settings.copy_last):": "if False:"},
        Case(("put a x", "put _SUCCESS")),
        "not complete",
    ),
    "a look at the marker before the folder is compared": (
        at_the_beginning("before_copy", "        if source.size > LONG"),
        PUT_TWICE,
        "not complete",
    ),
    "a look at each young copy": (
        {"is_settled = self.trusts_age and": "is_settled = True or"},
        Case(("put a x", "put a y", "put _SUCCESS")),
        "not complete",
    ),
    "a look at each copy of a source with versions": (
        {" or self.may_be_rolled_back():": ":"},
        ROLLED_BACK,
        "not complete",
    ),
    "the wait for what is to go": ({"exact=is_for_marker": "exact=False"}, GHOST, "a ghost", {"instant": (FILES,)}),
    "a question about copies whose deletion no event reported": (
        {"if was_put_off:": "if False:"},
        UNHEARD,
        "at rest data/_SUCCESS is absent",
    ),
    "an exception for the markers beside it": (
        {"return key != sync.key and not (folder_of(key) == folder and patterns.match(key))": "return key != sync.key"},
        Case(("put b.done", "put _SUCCESS")),
        "",
        {"patterns": "*.done,_SUCCESS"},
    ),
    "the removal of an old marker": (
        {"if existing and await self.buckets.head_source(marker) is None:": "if False:"},
        REMOVED,
        "not deleted first",
        {"instant": (MARKERS,)},
    ),
    "the order of old markers": (
        {"markers_above(self.buckets, sync.key)": "[*markers_above(self.buckets, sync.key)][::-1]"},
        LEVELS,
        "not deleted first",
        {"instant": (MARKERS,)},
    ),
    "a look at whose an old marker is": (
        {"    if not is_ours_to_delete(existing):\n": "    if False:\n"},
        Case(("put a y",), ("put a x",)),
        "a foreign object is deleted",
        {"foreign": ("_SUCCESS",)},
    ),
    "a look at the file before old markers are looked for": (
        at_the_beginning("before_write", "        left_out, refusal"),
        CHANGED_TWICE,
        "not deleted first",
        {"instant": (MARKERS,)},
    ),
    "a look at the old marker later": (
        {
            "            await sync.host.look_later(key, 0)": "            pass",
            "            await sync.host.look_later(key, buckets.settings.copy_timeout)": "            pass",
        },
        ALIKE,
        "at rest data/_SUCCESS is absent",
    ),
}


@pytest.mark.parametrize("left_out", LEFT_OUT)
def test_the_search_finds_what_goes_wrong_without(left_out, finds):
    changes, case, expected, *arguments = LEFT_OUT[left_out]
    with changed(changes, "readers") as world:
        finds(f"without {left_out}", world.Readers(case, **dict(*arguments)), expected)


# What is not promised, and what for: the shortest schedule.
NOT_PROMISED = {
    "no ghost of a copy that is under way": (SHORT_LIVED, {"strict": (FILES,)}, "a ghost"),
    "deleted first, while the marker's copy is under way": (WITHDRAWN, {"strict": (MARKERS,)}, "not deleted first"),
    "deleted first, though it is back meanwhile": (
        RENEWED,
        {"strict": (MARKERS, RETURNED), "instant": (MARKERS,)},
        "not deleted first",
    ),
    "complete, of files without provenance that were overwritten in the same size": (
        Case(("put a x", "put a y", "put _SUCCESS"), opaque=True),
        {},
        "not complete",
    ),
    "no ghost without provenance": (GHOST._replace(opaque=True), {"instant": (FILES,)}, "a ghost"),
    "a marker that is back as it was just when the worker that removes it dies": (
        ALIKE._replace(crashes=1),
        {},
        "at rest data/_SUCCESS is absent",
    ),
}


@pytest.mark.parametrize("what", NOT_PROMISED)
def test_what_is_not_promised(what, finds):
    case, arguments, expected = NOT_PROMISED[what]
    finds(f"not promised is {what}", Readers(case, **arguments), expected)
