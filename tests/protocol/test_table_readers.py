"""A reader of a Delta table finds each version whole, and does not if a step of the table files is left out."""

import pytest
from fakes import NIGHTLY
from interleave import Case
from planted import changed
from table_readers import TableReaders, log_names

pytestmark = pytest.mark.usefixtures("quick")

HELD = ("put f x", "commit 0 a0+f")  # before
GHOST = "at rest data/g is x label in the destination, absent in the source"
ANEW = {"is_anew": True}
YOUNG = {"are_young": True}
RECENT = YOUNG | {"is_recent": True}  # listings do not show whether what is there before is equal
MADE = Case(("put f x", "commit 0 a0+f"))
ADDED = Case(("put g x", "commit 1 a1+g"), HELD)
REPLACED = Case(("put g x", "commit 1 a1+g-f", "delete f"), HELD)
REMOVED = Case(("commit 1 a1-f", "delete f"), HELD)
TOUCHED = Case(("touch f new", "commit 1 a1-f", "delete f"), HELD, workers=1)
SHORT_LIVED = Case(("put g x", "commit 1 a1+g", "commit 2 a2-g", "delete g"), HELD, workers=1)
POINTED = Case(("checkpoint 1 a1+f", "point 1 @1"), (*HELD, "commit 1 a1"))
CLEANED = Case(("checkpoint 1 a1+f", "drop 0"), (*HELD, "commit 1 a1"))
CLEANED_TWICE = Case(("checkpoint 2 a2+f", "drop 0", "drop 1"), (*HELD, "commit 1 a1", "commit 2 a2"), workers=1)
MOVED = Case(
    ("point 1 @1", "drop-checkpoint 0"), (*HELD, "commit 1 a1", "checkpoint 0 a0+f", "point 0 @0", "checkpoint 1 a1+f")
)
POINTS_BACK = Case(("checkpoint 0 a0+f", "point 0 @0", "checkpoint 1 a1+f"), (*HELD, "commit 1 a1"))
BEGUN = Case(("put f x", "checkpoint 1 a1+f", "commit 2 a2"), workers=1)
MARKED = BEGUN._replace(changes=("put _SUCCESS", *BEGUN.changes))
OVER_OLD = Case(("drop 1", "put g x", "commit 0 b0+g"), ("commit 0 a0", "commit 1 a1"), workers=1)
SAME_LENGTH = Case(("drop 1", "commit 0 b0", "commit 1 b1"), ("commit 0 a0", "commit 1 a1"), workers=1)
GONE = Case(("put g x", "commit 1 a1+g", "delete g"), HELD)
# Of a writer that has committed more than the mirror has, and cleans its log up to its checkpoint.
OVERTAKEN = Case(("commit 1 a1", "commit 2 a2", "checkpoint 2 a2+f", "drop 1"), HELD, workers=1)
POINTED_TWICE = Case(
    ("checkpoint 1 a1+f", "point 1 @1", "drop-checkpoint 0"), (*HELD, "checkpoint 0 a0+f", "commit 1 a1"), workers=1
)
REMADE = Case(
    ("delete g", "commit 1 a1", "drop 1", "drop 0", "commit 0 b0", "commit 1 b1"), (*HELD, "put g x"), workers=1
)
AGAIN = Case(("touch-commit 0 new", "touch-pointer 0 new"), (*HELD, "checkpoint 0 a0+f", "point 0 @0"), workers=1)
CONVERTED = Case(("commit 0 a0+f", "commit 1 a1-f", "delete f"), ("put f x",))  # a table is made of what is there
MADE_TWICE = Case(("drop 0", "put g x", "commit 0 b0+g", "commit 1 b1-g", "delete g"), HELD, workers=1)
REWRITTEN = Case(("commit 0 a0+f~", "commit 1 a1~"), (*HELD, "commit 1 a1"), workers=1)
CLEANED_ANEW = Case(("commit 0 b0", "commit 1 b1", "checkpoint 1 b1", "drop 0"), ("commit 0 a0",), workers=1)
CLEANED_BESIDE = Case(("checkpoint 1 a1+f", "drop 0", "delete g"), (*HELD, "put g x", "commit 1 a1"), workers=1)
CLEANED_OVER = Case(("commit 2 a2", "checkpoint 2 a2+f", "drop 0"), (*HELD, "commit 1 a1"), workers=1)
BESIDE, OVER = ({"foreign": log_names(name, "checkpoint 3")} for name in ("commit 3", "commit 2"))
AFTER_DROP = Case(("drop 1", "drop 0", "delete f", "put g x", "commit 0 b0+g"), (*HELD, "commit 1 a1"), workers=1)

# name -> what is searched, and what else is given
CASES = {
    "a table is made": (MADE._replace(crashes=1), {}),
    "a commit": (ADDED, {}),
    "two commits": (Case(("commit 1 a1", "commit 2 a2"), HELD), {}),
    "a file is replaced and vacuumed": (REPLACED, {}),
    "a file is vacuumed, with a crash": (REMOVED._replace(crashes=1), {}),
    "a file is vacuumed before it was mirrored": (SHORT_LIVED, {}),
    "a file is deleted while it is copied for its commit": (GONE, {}),
    "a checkpoint and a pointer": (POINTED._replace(crashes=1), {}),
    "the log is cleaned": (CLEANED._replace(crashes=1), {}),
    "the log is cleaned while it is looked at": (CLEANED_TWICE, RECENT),
    "the log is cleaned while commits of it are copied": (OVERTAKEN, {}),
    "the pointer moves": (MOVED, {}),
    "a pointer comes, and an older checkpoint goes": (POINTED_TWICE, {}),
    "the pointer names an older checkpoint": (POINTS_BACK._replace(workers=1), {}),
    "a table whose log was cleaned is filled in": (BEGUN, {}),
    "a table with a marker is filled in": (MARKED, {"patterns": "_SUCCESS"}),
    "a commit and a pointer are touched": (AGAIN, {}),
    "a table is made while others remember that there is none": (CONVERTED, {"remembers": True}),
    "a table is copied onto itself": (REWRITTEN, RECENT),
    "a table is made over another": (OVER_OLD, ANEW),
    "a table is made over another, as long as that": (SAME_LENGTH, ANEW),
    "a table is made over another, and its log is cleaned while it is looked at": (CLEANED_ANEW, ANEW | YOUNG),
    "foreign log files, and the log is cleaned": (CLEANED_BESIDE, BESIDE),
    "foreign log files, of which the source writes one": (CLEANED_OVER, OVER | {"is_recent": True} | YOUNG),
    "foreign log files, and a table is made over another": (OVER_OLD, ANEW | BESIDE),
    "a table is made after another was dropped": (AFTER_DROP, ANEW),
    "a table is made over another of which a commit is not copied yet": (REMADE, ANEW | YOUNG),
}
NIGHTLY_CASES = {
    "a table is made, with a lost answer": (MADE._replace(losses=1), {}),
    "a table is made, with a crash and a lost answer": (MADE._replace(crashes=1, losses=1), {}),
    "a commit, with a crash": (ADDED._replace(crashes=1), {}),
    "a commit, three syncs": (ADDED._replace(workers=3), {}),
    "two commits with a file": (Case(("put g x", "commit 1 a1+g", "commit 2 a2"), HELD), {}),
    "a file is replaced and vacuumed, with a crash": (REPLACED._replace(crashes=1), {}),
    "vacuumed before it was mirrored, two syncs": (SHORT_LIVED._replace(workers=2), {}),
    "a commit, a checkpoint and a pointer": (Case(("commit 1 a1", "checkpoint 1 a1+f", "point 1 @1"), HELD), {}),
    "the log is cleaned, with a pointer": (POINTED._replace(changes=(*POINTED.changes, "drop 0")), {}),
    "a commit, and the log is cleaned up to it": (Case(("commit 1 a1", "checkpoint 1 a1+f", "drop 0"), HELD), {}),
    "the log is cleaned while commits of it are copied, with a crash": (
        OVERTAKEN._replace(crashes=1),
        {"may_stay": True},
    ),
    "the log is cleaned while commits of it are copied, with a lost answer": (OVERTAKEN._replace(losses=1), {}),
    "filled in, two syncs": (BEGUN._replace(workers=2), {}),
    "a table is made again while others remember that there is none": (MADE_TWICE, ANEW | {"remembers": True}),
    "copied onto itself, two syncs": (REWRITTEN._replace(workers=2), RECENT),
    "made over another, with a crash": (OVER_OLD._replace(crashes=1), ANEW),
}


@pytest.mark.parametrize("name", CASES | (NIGHTLY_CASES if NIGHTLY else {}))
def test_a_reader_finds_each_version_whole(name, passes):
    case, arguments = (CASES | NIGHTLY_CASES)[name]
    passes(name, [TableReaders(case, **arguments)])


# What each step is for: the real code without it.

TWO_TABLES, EARLY_DELETE = "a version of two tables", "f is deleted before version 0"
NO_PAUSE = {"            await sync.interruption.pause(FIRST_SHOWN_SECONDS)": "            pass"}
# what is left out -> texts of a file and what they become, what is searched, the fault that is found, more arguments
LEFT_OUT = {
    "all of it": ({"        if file:\n": "        if False:\n"}, MADE, "f of version 0 is missing"),
    "a look at the names": ({"keys = names_of(text, file.table)": "keys = set()"}, MADE, "f of version 0 is missing"),
    "the order": (
        {"        for key in keys:\n            try:\n": "        for key in ():\n            try:\n"},
        Case(("commit 1 a1", "commit 2 a2"), HELD),
        "version 2 is there, and 1 is not",
    ),
    "the wait of deletes": ({"if sync.result.sight.source is None and": "if False and"}, REMOVED, EARLY_DELETE),
    "a look at the key before the log": (
        {
            "        by_checksum = sync.compares_bytes\n": """        by_checksum = sync.compares_bytes
        if "_delta_log" not in sync.key:
            sync.result.sight = Sight()
            for step in self.before_write:
                await step(sync)
""",
            "        for step in self.before_write:\n            await step(sync)\n": "",
        },
        TOUCHED,
        EARLY_DELETE,
    ),
    "a look at whether the source has a file still": (
        {"                if self.missing[key]:\n                    return\n": "                return\n"},
        SHORT_LIVED,
        "at rest data/_delta_log/00000000000000000001.json is absent",
    ),
    "a look at the source after a copy for another key": (
        {"    await look_again(syncer.buckets, sync, key, source)\n": ""},
        GONE,
        GHOST,
    ),
    "a look at which commit is there": (
        {"    return has_same_bytes or judge(source, copy).what == EQUAL": "    return True"},
        SAME_LENGTH,
        TWO_TABLES,
        ANEW,
    ),
    "the pause before the first commit": (NO_PAUSE, CONVERTED, EARLY_DELETE, {"remembers": True}),
    "the pause before the first commit of a table that is made again": (
        NO_PAUSE,
        MADE_TWICE,
        "g is deleted before version 0",
        ANEW | {"remembers": True},
    ),
    "a look at the bytes of a commit of another ETag": (
        {"        if others or not small:\n            return others or set(commits)": "        return set()"},
        SAME_LENGTH,
        TWO_TABLES,
        ANEW,
    ),
    "a look at whose a later commit is": (
        {"                if existing and is_ours_to_delete(existing):\n": "                if existing:\n"},
        CLEANED_BESIDE,
        "version 1 is there, and 0 is not",
        BESIDE,
    ),
    "a look at whose a commit with other bytes is": (
        {"return STALE if is_ours_to_delete(existing) else FOREIGN": "return STALE"},
        CLEANED_OVER,
        "version 1 is there, and 0 is not",
        OVER,
    ),
    "a look at whose an old log is": (
        {"    if not is_ours_to_delete(existing):\n": "    if False:\n"},
        OVER_OLD,
        "a foreign object is deleted",
        ANEW | BESIDE,
    ),
    "the removal of an old log": (
        {"anew = is_anew(files, [file for file in copies if file.key not in foreign], others)": "anew = False"},
        OVER_OLD,
        TWO_TABLES,
        ANEW,
    ),
    "a new plan once something that was listed has gone": (
        {'raise Changed("a file of the source\'s log has gone since it was listed")': "return EQUAL"},
        CLEANED_ANEW,
        TWO_TABLES,
        ANEW | YOUNG,
    ),
    "a look at what the pointer names": (
        {"        if file.kind != POINTER:\n": "        if True:\n            return None\n        if False:\n"},
        POINTS_BACK,
        "the pointer @0",
    ),
    "a new plan once something of it has gone": (
        {
            "            except (Changed, ClientError) as error:": """            except Changed:
                return None
            except ClientError as error:"""
        },
        OVERTAKEN,
        "version 2 is there, and 1 is not",
    ),
    "a look at whether it is still what was listed": (
        {"    if source is None or source.etag != etag:": "    if source is None:"},
        REMADE,
        TWO_TABLES,
        ANEW | YOUNG,
    ),
    "the comparison of a table without a beginning": (
        {"await self.waits.wait_for(sync, await self.files.compare(sync, table)) if plan.base else None": "None"},
        BEGUN,
        "f of version 1 is missing",
    ),
}


@pytest.mark.parametrize("left_out", LEFT_OUT)
def test_the_search_finds_what_goes_wrong_without(left_out, finds):
    changes, case, expected, *arguments = LEFT_OUT[left_out]
    with changed(changes, "table_readers") as world:
        finds(f"without {left_out}", world.TableReaders(case, **dict(*arguments)), expected)


def test_not_promised_is_what_a_worker_copies_for_another_key_when_it_dies(finds):
    search = TableReaders(GONE._replace(crashes=1, workers=1))
    finds("not promised is that a copy goes whose worker dies", search, GHOST)
