"""What a table's files wait for, what waits for nothing, and that what a commit asks for does not grow with the log."""

import asyncio
import itertools
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import (
    ENVIRONMENT,
    FUNCTION_SETTINGS,
    SETTINGS,
    Client,
    Copy,
    Failure,
    SlotsForAll,
    Version,
    identity,
    run,
    shaped,
    syncer_on,
    waits_on,
    without_loop,
)
from table_readers import LOG, key_sync

from mirror.model.errors import Postponed
from mirror.options.table_files import AwaitedFiles
from mirror.options.tables import Tables
from mirror.options.waiting import ARCHIVED_SECONDS, Waits, example_of
from mirror.protocol.sync import LONG_COPY_SIZE, Syncer
from mirror.settings import load_settings

pytestmark = [pytest.mark.usefixtures("quick"), pytest.mark.fast]
COMMIT_KEY, NEXT_KEY, LATER_KEY = (f"data/{LOG}{version:020}.json" for version in range(3))
SOURCE = {COMMIT_KEY: Version("a0", 1, 1), NEXT_KEY: Version("a1", 1, 1)}
OLD_KEY = f"data/{LOG}{7:020}.json"  # of a table that was in the folder before


def syncer(answer, wall=1e9, **settings):
    """With TABLES, on a clock that goes on whenever it is read. By `wall`, all that was written is old."""
    settings = replace(settings.pop("settings", SETTINGS), tables="delta", **settings)
    made = syncer_on(Client(answer), settings, now=itertools.count(0, 2).__next__, wall=lambda: wall)
    made.buckets.answering.is_open = True
    return made


def tables_on(answer, waits=waits_on, **arguments):
    buckets = syncer(answer, **arguments).buckets
    return Tables(waits(buckets), without_loop(Syncer(buckets)))


def copy_of(key, source):
    return Copy('"d"', (key,), "label", identity(source), 0, 1, source.size)


def answers(source, mirror, denied=()):
    """Of both buckets; `denied`: an operation, whether it is on the source, and a key."""

    def answer(operation, arguments):
        key, is_source = arguments.get("Key", ""), arguments["Bucket"] == FUNCTION_SETTINGS.src_bucket
        here = source if is_source else mirror
        if (operation, is_source, key) == denied:
            return shaped(operation, Failure("AccessDenied"))
        if operation == "list_objects_v2":
            return shaped(
                operation, [entry for entry in here.items() if entry[0].startswith(arguments.get("Prefix", ""))]
            )
        if operation == "copy_object":
            mirror[key] = copy_of(key, source[key])
            return shaped(operation, '"d"')
        return shaped(operation, mirror.pop(key) if operation == "delete_object" else here.get(key, Failure("404")))

    return answer


@pytest.mark.parametrize(
    ("denied", "mirror"),
    [
        (("head_object", True, COMMIT_KEY), {}),
        (("get_object", True, COMMIT_KEY), {}),
        (("copy_object", False, COMMIT_KEY), {}),
        (("head_object", True, COMMIT_KEY), {COMMIT_KEY: copy_of(COMMIT_KEY, Version("x", 2, 1))}),
        (("delete_object", False, OLD_KEY), {OLD_KEY: copy_of(OLD_KEY, Version("x", 1, 1))}),
    ],
)
def test_a_log_file_that_is_denied_is_what_others_wait_for_and_no_failure_of_theirs(denied, mirror):
    answer = answers(SOURCE, dict(mirror), denied)
    with pytest.raises(Postponed, match="what it needs is not there yet"):
        run(syncer(answer).sync(key_sync(NEXT_KEY)))
    key, why = example_of(run(tables_on(answer).logs.bring_log(key_sync(NEXT_KEY), "data/")))
    assert key == denied[2]
    assert why.startswith("trouble: operation=")
    assert "error=AccessDenied" in why


@pytest.mark.parametrize(
    ("exclude", "copied", "why"),
    [
        ("data/f", {COMMIT_KEY, NEXT_KEY, LATER_KEY}, None),
        (COMMIT_KEY, set(), f"trouble: the source's log has a gap before {NEXT_KEY} and no checkpoint"),
        ("data/*.json", set(), None),
    ],
)
def test_what_exclude_leaves_out_of_a_table_counts_as_gone(exclude, copied, why):
    source = {key: Version("a0+f", 1, 1) for key in (COMMIT_KEY, NEXT_KEY, LATER_KEY)} | {"data/f": Version("x", 1, 1)}
    mirror = {}
    option = tables_on(answers(source, mirror), settings=load_settings(ENVIRONMENT | {"EXCLUDE": exclude}))
    found = run(option.logs.bring_log(key_sync(LATER_KEY), "data/"))
    assert mirror.keys() == copied
    assert example_of(found)[1].startswith(why) if why else found is None


def test_a_table_that_waits_holds_up_no_other():
    large = {"data/a/large": Version("x", LONG_COPY_SIZE + 1, 1)}  # which is left to its own message
    waiting = {f"data/a/{LOG}{version:020}.json": Version(f"a{version}+large", 1, 1) for version in range(20)}
    other = {f"data/b/{LOG}{0:020}.json": Version("b0", 1, 1)}
    mirror = {}
    logs = tables_on(answers(large | waiting | other, mirror), Waits).logs

    async def both():
        tasks = [asyncio.create_task(logs.bring_log(key_sync(COMMIT_KEY), table)) for table in ("data/a/", "data/b/")]
        await asyncio.wait(tasks, timeout=10, return_when=asyncio.FIRST_COMPLETED)
        assert [task.done() for task in tasks] == [False, True]
        tasks[0].cancel()
        assert await tasks[1] is None

    asyncio.run(both())
    assert mirror.keys() == other.keys()


def test_of_the_files_that_are_waited_for_one_that_is_in_trouble_is_named():
    failures = {"t/missing": "404", "t/denied": "403"}

    def answer(operation, arguments):
        is_copy = arguments["Bucket"] == FUNCTION_SETTINGS.dst_bucket
        failure = failures.get(arguments["Key"]) if is_copy else None
        return shaped(operation, Failure(failure) if failure else Version("x", 1, 1))

    missing = dict.fromkeys(("t/here", *failures))
    state = AwaitedFiles(
        syncer_on(Client(answer)).buckets, SlotsForAll(), ("t/",), missing, {"t/here": "it was denied"}
    )
    run(state.look())
    key, why = example_of(state)
    assert (key, state.lacking) == ("t/denied", 2)
    assert why.startswith("trouble: ")
    assert "error=403" in why
    failures["t/denied"] = ""
    run(state.look())
    assert example_of(state) == ("t/missing", "not equal yet")


def test_a_checkpoint_that_came_while_the_log_was_listed_waits_for_its_commits():
    commits = [(f"data/{LOG}{version:020}.json", Version(f"a{version}", 1, 1)) for version in range(2)]
    checkpoint, pointer = f"data/{LOG}{1:020}.checkpoint.parquet", f"data/{LOG}_last_checkpoint"
    source = dict([*commits, (checkpoint, Version("a1", 1, 1)), (pointer, Version("@1", 1, 1))])
    pages, held, copied = [[commits[0][0], pointer]], {}, []  # the first listing ended before the commit 1 came

    def answer(operation, arguments):
        key, here = arguments.get("Key", ""), source if arguments["Bucket"] == FUNCTION_SETTINGS.src_bucket else held
        if operation == "list_objects_v2":
            is_log = arguments["Prefix"] == f"data/{LOG}" and here is source
            keys = pages.pop() if is_log and pages else [key for key in here if key.startswith(arguments["Prefix"])]
            return shaped(operation, [(key, here[key]) for key in keys])
        if operation == "copy_object":
            copied.append(key)
            held[key] = Copy('"d"', (key,), "label", identity(source[key]), source[key].size, 1)
            return shaped(operation, '"d"')
        return shaped(operation, here.get(key, Failure("404")))

    assert run(tables_on(answer).logs.bring_log(key_sync(COMMIT_KEY), "data/")) is None
    assert copied == [commits[0][0], commits[1][0], checkpoint, pointer]


def test_a_log_file_that_is_the_same_is_looked_at_once_until_it_is_another():
    commit = Version("a0", 1, 1)
    copy = Copy('"d1"', ("a0",), "label", identity(commit), 0, 1)
    held, looks = {"source": commit, "mirror": copy}, []

    def answer(operation, arguments):
        found = held["source" if arguments["Bucket"] == FUNCTION_SETTINGS.src_bucket else "mirror"]
        if operation == "head_object":
            looks.append(arguments["Bucket"])
        return shaped(operation, [(COMMIT_KEY, found)] if operation == "list_objects_v2" else found)

    option = tables_on(answer, wall=0)  # so that it is young
    for expected in (2, 0, 2):
        looks.clear()
        assert run(option.logs.bring_log(key_sync(COMMIT_KEY), "data/")) is None
        assert len(looks) == expected
        if not expected:
            held["mirror"] = copy._replace(etag='"d2"')


def test_the_function_leaves_the_files_of_a_log_to_a_worker():
    source = Version("a0", 1, 1)

    def answer(operation, arguments):
        is_look = operation == "head_object" and arguments["Bucket"] == FUNCTION_SETTINGS.src_bucket
        return shaped(operation, source if is_look else Failure("404"))

    with pytest.raises(Postponed, match="whose order a worker keeps"):
        run(syncer(answer, settings=FUNCTION_SETTINGS).sync(key_sync(COMMIT_KEY)))


def test_a_table_is_found_although_the_first_page_of_its_log_is_empty():
    """As S3 counts the delete markers of a log in a page, of which only one key was asked for."""
    source = {COMMIT_KEY: Version("a0+f", 1, 1)}
    mirror = {"data/f": Copy('"d"', ("x",), "label", "", 0, 1)}

    def answer(operation, arguments):
        if arguments.get("MaxKeys") == 1 and "ContinuationToken" not in arguments:
            return {"IsTruncated": True, "NextContinuationToken": "behind the delete markers"}
        return answers(source, mirror)(operation, arguments)

    sync = key_sync("data/f")
    assert run(tables_on(answer).table_of(sync)) == "data/"


@pytest.mark.parametrize(
    ("name", "size", "denied", "removed", "why"),
    [
        ("a0~", 1, (), [], None),
        ("a0~", 2, (), [COMMIT_KEY], None),
        ("b0", 1, (), [COMMIT_KEY], None),
        ("a0~", 1, ("get_object", False, COMMIT_KEY), [], "error=AccessDenied"),
    ],
)
def test_a_log_goes_only_if_its_bytes_are_others(name, size, denied, removed, why, caplog):
    caplog.set_level("INFO", "worker")
    source, asked = {COMMIT_KEY: Version(name, size, 2)}, []
    mirror = {COMMIT_KEY: Copy('"d"', ("a0",), "label", identity(Version("a0", 1, 1)), 0, 1)}

    def answer(operation, arguments):
        asked.append((operation, arguments.get("Key")))
        return answers(source, mirror, denied)(operation, arguments)

    found = run(tables_on(answer).logs.bring_log(key_sync(COMMIT_KEY), "data/"))
    assert [key for operation, key in asked if operation == "delete_object"] == removed
    assert [line for line in caplog.messages if line.startswith("removed first")] == [
        f'removed first key="{key}" as the source has another in its place' for key in removed
    ]
    assert why in example_of(found)[1] if why else found is None


def test_what_waits_for_archived_files_alone_is_put_off_at_once_and_for_longer():
    archived = {f"data/f{version}": Version("x", 1, 1, archived="GLACIER") for version in range(2)}
    commits = {f"data/{LOG}{version:020}.json": Version(f"a{version}+f{version}", 1, 1) for version in range(3)}
    mirror, asked = {COMMIT_KEY: copy_of(COMMIT_KEY, commits[COMMIT_KEY])}, []

    def answer(operation, arguments):
        asked.append(operation)
        return answers(archived | commits, mirror)(operation, arguments)

    worker = syncer(answer)
    for key, most in ((NEXT_KEY, 20), (LATER_KEY, 2)):
        asked.clear()
        sync = key_sync(key, event_time=1e9)
        with pytest.raises(Postponed, match="not there yet") as put_off:
            run(worker.sync(sync))
        assert sync.interruption.paused == 0
        assert put_off.value.seconds >= ARCHIVED_SECONDS
        assert len(asked) <= most


FILES = 5  # of a commit
TIDY = 10  # commits until a checkpoint, a pointer and a delete
COMMITS = 4 * TIDY
# USD for a request to the source and to the destination
PRICE = json.loads((Path(__file__).parents[2] / "lib/prices.json").read_text())["prices"]
PRICES = {
    "head_object": (PRICE["standard_get_request"], PRICE["express_get_request"]),
    "get_object": (PRICE["standard_get_request"], PRICE["express_get_request"]),
    "list_objects_v2": (PRICE["standard_list_request"], PRICE["express_put_request"]),
    "copy_object": (0, PRICE["express_put_request"]),
    "delete_object": (0, 0),
}


class World:
    """Both buckets, which a worker looks at as soon as the source changes."""

    def __init__(self) -> None:
        self.source: dict[str, Version] = {}
        self.mirror: dict[str, Copy] = {}
        self.asked: Counter[tuple[str, bool]] = Counter()
        self.second = 0
        self.now = itertools.count(0, 2).__next__
        self.syncer = syncer_on(
            Client(self.answer), replace(SETTINGS, tables="delta"), now=self.now, wall=lambda: self.second
        )
        self.syncer.buckets.answering.is_open = True

    def answer(self, operation, arguments):
        is_source = arguments["Bucket"] == SETTINGS.src_bucket
        held, key = self.source if is_source else self.mirror, arguments.get("Key")
        self.asked[operation, is_source] += 1
        if operation == "list_objects_v2":
            return shaped(
                operation, [found for found in held.items() if found[0].startswith(arguments.get("Prefix", ""))]
            )
        if operation == "copy_object":
            read, etag = self.source[key], f'"d{self.asked.total()}"'
            self.mirror[key] = Copy(etag, (read.content,), read.label, identity(read), 0, self.second)
            return shaped(operation, etag)
        if operation == "delete_object":
            return shaped(operation, self.mirror.pop(key))
        return shaped(operation, held.get(key, Failure("404")))

    def put(self, name, content):
        self.source[f"data/{name}"] = Version(content, 1, self.second)
        run(self.syncer.sync(key_sync(f"data/{name}")))

    def delete(self, name):
        del self.source[f"data/{name}"]
        run(self.syncer.sync(key_sync(f"data/{name}", destination_first=True)))

    def commit(self, version):
        self.second += 1
        files = [f"f{version}x{number}" for number in range(FILES)]
        for name in files:
            self.put(name, "x")
        self.put(f"{LOG}{version:020}.json", "+".join([f"a{version}", *files]))
        if version % TIDY == TIDY - 1:
            self.put(f"{LOG}{version:020}.checkpoint.parquet", f"a{version}")
            self.put(f"{LOG}_last_checkpoint", f"@{version}")
            self.put("old", "x")
            self.delete("old")


def test_what_a_commit_asks_for_does_not_grow_with_the_log(show):
    world, asked = World(), []
    for version in range(COMMITS):
        if version % TIDY == 0:
            world.asked.clear()
        world.commit(version)
        if version % TIDY == TIDY - 1:
            asked.append(dict(world.asked))
    usd = sum(PRICES[operation][not of_source] * count for (operation, of_source), count in asked[-1].items())
    show(f"{sum(asked[-1].values()) / TIDY:.1f} requests a commit, {1e6 * usd / TIDY:.1f} USD a million")
    assert asked[1] == asked[2] == asked[3]
    assert world.source.keys() == world.mirror.keys()
