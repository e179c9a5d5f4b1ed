"""All schedules of small cases end with an equal destination, and without one step of the protocol some do not."""

import pytest
from fakes import LARGE, NIGHTLY
from interleave import Case, Search
from planted import changed

from mirror.protocol.buckets import CONDITIONAL_WRITES

pytestmark = pytest.mark.usefixtures("quick")

UPLOADING = {"create_multipart_upload", "upload_part_copy", "complete_multipart_upload"}
PUT_DELETE_PUT = ("put a", "delete", "put b")

CASES = {
    "new, deleted, created again": Case(PUT_DELETE_PUT, crashes=1),
    "with a lost answer": Case(PUT_DELETE_PUT, losses=1),
    "with SIGTERM": Case(PUT_DELETE_PUT, stops=1),
    "with a message delivered twice": Case(PUT_DELETE_PUT, duplicates=1),
    "with three workers": Case(PUT_DELETE_PUT, workers=3),
    "overwritten with the same size, then deleted": Case(("put a", "put b", "delete"), crashes=1),
    "there before, deleted and created again": Case(("delete", "put b"), ("put a",), crashes=1, losses=1),
    "metadata changed in place, then deleted": Case(("touch", "delete"), ("put a",), crashes=1, losses=1),
    "metadata changed in place twice": Case(("touch", "touch"), ("put a",), losses=1, stops=1),
    "all within one second": Case(("put a", "put b", "put a"), same_second=True, crashes=1),
    "deleted and created again within one second": Case(("put a", "delete", "put a"), same_second=True, losses=1),
    "every fault": Case(("put a", "put b"), crashes=1, losses=1, stops=1),
    "no provenance": Case(("touch", "delete"), ("put a",), opaque=True, crashes=1, losses=1),
    "no conditional writes": Case(PUT_DELETE_PUT, unconditional=CONDITIONAL_WRITES, crashes=1),
    "no conditional deletes": Case(PUT_DELETE_PUT, unconditional=frozenset({"DeleteObject"}), crashes=1),
    "only conditional deletes": Case(PUT_DELETE_PUT, unconditional=CONDITIONAL_WRITES - {"DeleteObject"}, crashes=1),
    "no conditional writes, with a lost answer": Case(("put a", "delete"), unconditional=CONDITIONAL_WRITES, losses=1),
    "delete marker removed": Case(("put b", "delete", "delete-newest-version"), ("put a",), versioned=True),
    "newest version removed": Case(("put b", "delete-newest-version", "delete"), ("put a",), versioned=True, crashes=1),
    "oldest version removed": Case(("put b", "delete-oldest-version"), ("put a",), versioned=True, crashes=1),
    "joined by another message, with a crash and SIGTERM": Case(("put a", "delete"), crashes=1, stops=1, joins=1),
    "joined by another message, with a lost answer": Case(("put a", "delete"), losses=1, joins=2),
    "joined by messages, one of them delivered twice": Case(("put a", "delete"), duplicates=1, joins=2),
    "one worker, joined by all messages": Case(PUT_DELETE_PUT, workers=1, crashes=1, joins=3),
    "either bucket is looked at first": Case(PUT_DELETE_PUT, guesses=True, crashes=1),
    "either bucket is looked at first, overwritten": Case(("put b", "delete"), ("put a",), guesses=True, losses=1),
    "either bucket is looked at first, joined": Case(("put a", "put b"), guesses=True, crashes=1, joins=1),
    "either bucket is looked at first, two parts": Case(("put a", "put b"), size=LARGE, guesses=True, crashes=1),
    "two parts": Case(("put a", "put b"), size=LARGE, crashes=1),
    "two parts, joined by a message of a dead worker": Case(("put a", "delete"), size=LARGE, crashes=1, joins=1),
    "two parts, with a lost answer": Case(("put a", "put b"), size=LARGE, losses=1),
    "two parts, with SIGTERM": Case(("put a", "put b"), size=LARGE, stops=1),
    "two parts, deleted": Case(("put a", "delete"), size=LARGE, losses=1, stops=1),
    "two parts, metadata changed in place": Case(("touch", "touch"), ("put a",), size=LARGE),
    "two parts, overwritten and deleted": Case(("put a", "put b", "delete"), size=LARGE),
}
NIGHTLY_CASES = {
    "joined, with every fault": Case(("put a", "delete"), crashes=1, losses=1, stops=1, joins=2),
    "joined, with a crash": Case(PUT_DELETE_PUT, crashes=1, joins=2),
    "joined, with a lost answer": Case(PUT_DELETE_PUT, losses=1, joins=2),
    "joined, with SIGTERM": Case(PUT_DELETE_PUT, stops=1, joins=2),
    "joined, with a message delivered twice": Case(PUT_DELETE_PUT, duplicates=1, joins=2),
    "joined, no conditional writes": Case(PUT_DELETE_PUT, unconditional=CONDITIONAL_WRITES, crashes=1, joins=1),
    "joined, no provenance": Case(("touch", "delete"), ("put a",), opaque=True, crashes=1, losses=1, joins=1),
    "joined, newest version removed": Case(
        ("put b", "delete-newest-version", "delete"), ("put a",), versioned=True, crashes=1, joins=1
    ),
    "overwritten four times by one worker": Case(("put a", "put b", "put a", "put b"), workers=1, crashes=1, joins=4),
    "two parts, joined, with SIGTERM": Case(("put a", "put b"), size=LARGE, stops=1, joins=1),
    "two parts, joined, with a message delivered twice": Case(("put a", "delete"), size=LARGE, duplicates=1, joins=1),
    "the oldest message is kept instead of the newest": Case(PUT_DELETE_PUT, crashes=1, joins=2, kept="oldest"),
    "two lost answers": Case(PUT_DELETE_PUT, losses=2),
    "two crashes": Case(PUT_DELETE_PUT, crashes=2),
    "three workers, with a crash": Case(PUT_DELETE_PUT, workers=3, crashes=1),
    "three workers, with a lost answer": Case(("put a", "put b", "delete"), workers=3, losses=1),
    "three workers, with SIGTERM": Case(PUT_DELETE_PUT, workers=3, stops=1),
    "either bucket is looked at first, three workers": Case(PUT_DELETE_PUT, workers=3, guesses=True),
    "either bucket is looked at first, with SIGTERM": Case(PUT_DELETE_PUT, guesses=True, stops=1, losses=1),
    "four changes": Case(("put a", "touch", "delete", "put b"), crashes=1),
    "two parts, crash and lost answer": Case(("put a", "put b"), size=LARGE, crashes=1, losses=1),
    "two parts, crash and SIGTERM": Case(("put a", "put b"), size=LARGE, crashes=1, stops=1),
    "two parts, three changes and a crash": Case(PUT_DELETE_PUT, size=LARGE, crashes=1),
    "versioned, three changes and a lost answer": Case(
        ("put b", "delete", "delete-newest-version"), ("put a",), versioned=True, losses=1
    ),
}

# The function that copies is one more kind of worker: one at a time, killed or at its deadline at any step, and large
# objects are handed back. Workers may be beside it, and come after it.


def beside(*changes, **more):
    return Case(changes, **{"workers": 1, "functions": 1} | more)


FUNCTION_CASES = {
    "a worker and the function, which is killed": beside(*PUT_DELETE_PUT, kills=1),
    "the function is killed, and another one comes": beside(*PUT_DELETE_PUT, functions=2, kills=1),
    "three functions, of which two are killed": beside("put a", "delete", functions=3, kills=2),
    "only functions until the last": beside(*PUT_DELETE_PUT, workers=0, functions=4, kills=1),
    "the function and the worker die": beside(*PUT_DELETE_PUT, kills=1, crashes=1),
    "two workers beside the function": beside("put a", "put b", workers=2, kills=1, deadlines=1),
    "the function at its deadline": beside(*PUT_DELETE_PUT, deadlines=1),
    "one function is killed, another at its deadline": beside(
        "put b", "delete", before=("put a",), functions=2, kills=1, deadlines=1
    ),
    "the function's answer is lost": beside("put a", "delete", losses=1, deadlines=1),
    "the function is joined by messages": beside("put a", "delete", kills=1, deadlines=1, joins=2),
    "the function's message is delivered twice": beside("put b", "delete", before=("put a",), duplicates=1),
    "the function without conditional writes": beside(*PUT_DELETE_PUT, unconditional=CONDITIONAL_WRITES, kills=1),
    "the function, metadata changed in place": beside("touch", "delete", before=("put a",), kills=1, deadlines=1),
    "the function, delete marker removed": beside(
        "put b", "delete", "delete-newest-version", before=("put a",), versioned=True, kills=1
    ),
    "grows over the limit": beside("put a", "put-large b", functions=2, kills=1, deadlines=1),
    "grows over the limit, deleted": beside("put a", "put-large b", "delete", kills=1),
    "shrinks below the limit": beside("put-large b", "put c", before=("put a",), functions=2, kills=1, deadlines=1),
    "large all the time, and the worker is stopped": beside("put-large a", "put-large b", functions=2, stops=1),
    "a half-done upload is handed to the function": beside(before=("put-large a",), functions=2, begun=True, kills=1),
    "a half-done upload, overwritten": beside(
        "put-large b", before=("put-large a",), functions=2, begun=True, kills=1, joins=1
    ),
    "a half-done upload, now small": beside("put b", before=("put c", "put-large a"), functions=2, begun=True, kills=1),
    "a half-done upload, overwritten, with a crash": Case(
        ("put-large b",), ("put-large a",), workers=1, begun=True, crashes=1
    ),
    "a half-done upload, deleted": beside("delete", before=("put-large a",), functions=2, begun=True, kills=1, joins=1),
}
NIGHTLY_FUNCTION_CASES = {
    "the function is killed twice": beside(*PUT_DELETE_PUT, functions=2, kills=2),
    "the function's message of three is delivered twice": beside(*PUT_DELETE_PUT, duplicates=1),
    "the function, overwritten and deleted": beside(
        "put a", "put b", "delete", before=("put c",), functions=2, kills=2
    ),
    "the function, every fault": beside(
        "put a", "put b", functions=2, kills=1, deadlines=1, crashes=1, losses=1, stops=1
    ),
    "the function, joined": beside(*PUT_DELETE_PUT, functions=2, kills=1, joins=2),
    "the function, joined at its deadline": beside(*PUT_DELETE_PUT, functions=2, deadlines=1, joins=2),
    "two workers and two functions": beside(*PUT_DELETE_PUT, workers=2, functions=2, kills=1),
    "four changes beside the function": beside("put a", "touch", "delete", "put b", kills=1),
    "grows, shrinks and is deleted": beside(
        "put-large a", "put b", "delete", before=("put c",), functions=2, kills=1, deadlines=1
    ),
    "a half-done upload, with SIGTERM": beside(
        "put-large b", "delete", before=("put-large a",), begun=True, kills=1, stops=1
    ),
}
COPY, DELETE = frozenset({"copy_object"}), frozenset({"delete_object"})
CASES |= FUNCTION_CASES
NIGHTLY_CASES |= NIGHTLY_FUNCTION_CASES


@pytest.mark.parametrize("name", CASES | (NIGHTLY_CASES if NIGHTLY else {}))
def test_every_schedule_ends_with_a_destination_equal_to_the_source(name, passes):
    search = Search((CASES | NIGHTLY_CASES)[name])
    passes(name, [search])
    assert not search.syncs.calls_of_function() & UPLOADING


# What each step of the protocol is for: the real code without it, or a queue or a function that does otherwise.
AFTER_COPY, AFTER_DELETE = (
    {"if wrote and await": f'if wrote and sync.result.action != "{action}" and await'}
    for action in ("copied", "deleted")
)
NO_CONDITION = {'condition = {"IfMatch": existing.etag} if existing else {"IfNoneMatch": "*"}': "condition = {}"}

# what is left out -> the case that shows it, the fault that is found, texts of the code and what they become
LEFT_OUT = {
    "the second look after copies": (
        Case(("put a", "delete")),
        "at rest the destination is a, the source None",
        AFTER_COPY,
    ),
    "the second look after deletes": (
        Case(("delete", "put b"), ("put a",), unconditional=CONDITIONAL_WRITES),
        "at rest the destination is None, the source b",
        AFTER_DELETE,
    ),
    # Another worker has found both sides equal, and the condition of the delete holds.
    "the second look after deletes, put again alike in the same second": (
        Case(("delete", "put a"), ("put a",), same_second=True),
        "at rest the destination is None, the source a",
        AFTER_DELETE,
    ),
    "the second look after deletes, delete marker removed": (
        Case(("delete", "delete-newest-version"), ("put a",), versioned=True),
        "at rest the destination is None, the source a",
        AFTER_DELETE,
    ),
    "the conditions on the destination": (
        Case(("put a", "put b")),
        "an older version covers a newer one: b -> a",
        NO_CONDITION,
    ),
    "the condition on the source": (
        Case(("put a", "put b"), size=LARGE),
        "an object of mixed parts: ('a', 'b')",
        {'        "CopySourceIfMatch": source.etag,\n': ""},
    ),
    "the delay of a message whose copy is still under way": (
        Case(("put a", "delete"), crashes=1, early=True),
        "at rest the destination is a, the source None",
    ),
    "the look after a copy without an answer has ended": (
        Case(("put a", "delete"), losses=1),
        "at rest the destination is a, the source None",
        {"return meaning_of(error).is_unknown": "return False"},
    ),
    "a message that is kept until the sync has ended": (
        Case(("put a", "delete"), crashes=1, joins=1, kept="none"),
        "at rest the destination is a, the source None",
    ),
    "the abort of uploads that a dead worker left": (
        Case(("put a",), size=LARGE, crashes=1),
        "at rest an upload is left over",
        {"            await abort_orphans(buckets, sync)\n": ""},
    ),
    "the delay of a message whose copy the killed function has sent": (
        beside("put a", "delete", kills=1, early=True),
        "at rest the destination is a, the source None",
    ),
    "the delay of a message whose copy the function has sent before its deadline": (
        beside("put a", "delete", deadlines=1, early=True),
        "at rest the destination is a, the source None",
    ),
    "the delay of a message whose delete the killed function has sent": (
        beside("delete", "delete-newest-version", before=("put a",), versioned=True, kills=1, early=True),
        "at rest the destination is None, the source a",
    ),
    "the end of a function's process that would send a copy when it is thawed": (
        beside("put a", "delete", deadlines=1, frozen=COPY),
        "at rest the destination is a, the source None",
    ),
    "the end of a process that would send a copy late, metadata changed back within one second": (
        beside("touch x", "touch label", before=("put a",), same_second=True, deadlines=1, frozen=COPY),
        "at rest the destination is ('a', 1, 'x'), the source ('a', 1, 'label')",
    ),
    "the end of a process that would send a delete late, delete marker removed": (
        beside("delete", "delete-newest-version", before=("put a",), versioned=True, deadlines=1, frozen=DELETE),
        "at rest the destination is None, the source a",
    ),
    "the end of a process that would send a delete late, without conditional writes": (
        beside("delete", "put b", before=("put a",), unconditional=CONDITIONAL_WRITES, deadlines=1, frozen=DELETE),
        "at rest the destination is None, the source b",
    ),
    "the upload in what the function hands back": (
        beside(before=("put-large a",), begun=True, forgetful=True),
        "at rest an upload is left over",
    ),
}
# What S3 refuses although the function sends it late: the destination or the source is not what it was.
HARMLESS = {
    "a copy, overwritten": beside("put a", "put b", "put c", deadlines=1, frozen=COPY),
    "a copy, metadata changed and changed back": beside(
        "touch x", "touch label", before=("put a",), deadlines=1, frozen=COPY
    ),
    "a delete, created again": beside("delete", "put b", before=("put a",), deadlines=1, frozen=DELETE),
    "a delete, created again alike": beside("delete", "put a", before=("put a",), deadlines=1, frozen=DELETE),
}


@pytest.mark.parametrize("left_out", LEFT_OUT)
def test_the_search_finds_what_goes_wrong_without(left_out, finds):
    case, expected, *changes = LEFT_OUT[left_out]
    with changed(dict(*changes), "interleave") as world:
        finds(f"without {left_out}", world.Search(case), expected)


@pytest.mark.parametrize("sent_late", HARMLESS)
def test_conditions_refuse_much_of_what_a_thawed_function_would_send(sent_late):
    Search(HARMLESS[sent_late]).run()


def test_without_the_conditions_on_the_destination_it_still_ends_equal():
    with changed(NO_CONDITION, "interleave") as world:
        search = world.Search(Case(PUT_DELETE_PUT, crashes=1))
        search.fault_for_a_while = lambda *_: None
        search.run()


def test_only_two_rare_events_at_once_leave_something_for_reconcile(finds):
    """The queue delivers a message twice, and of the two workers the one whose copy is under way dies."""
    search = Search(Case(("put a", "delete"), crashes=1, duplicates=1))
    finds("what only reconcile repairs", search, "at rest the destination is a, the source None")
