"""What a table's files wait for, what waits for nothing, and what that costs: both buckets on a clock of their own."""

import asyncio
from collections import Counter

import pytest
from fakes import ENVIRONMENT, SETTINGS, Copy, Failure, Version, identity, shaped
from invocations import LastingClient, Loop
from table_readers import LOG

from mirror.model.errors import Postponed
from mirror.options import options_for
from mirror.options.table_log import FIRST_SHOWN_SECONDS
from mirror.options.tables import NO_LOG_SECONDS
from mirror.options.waiting import ARCHIVED_SECONDS
from mirror.protocol.attempt import Host, KeySync, Sight
from mirror.protocol.buckets import Buckets
from mirror.protocol.objects import source_from_head
from mirror.protocol.sync import LONG_COPY_SIZE, Syncer
from mirror.queue.option import Option, methods
from mirror.settings import load_settings

pytestmark = pytest.mark.fast
SECONDS = {"list_objects_v2": 0.3, "head_object": 0.01, "get_object": 0.01, "copy_object": 0.1, "delete_object": 0.01}
PAGE = 10  # keys
LONG_AGO, LATER, TODAY = 1, 10_000, 1e9  # so that a listing shows that the copy is equal
COMMITS = tuple(f"{LOG}{version:020}.json" for version in range(3))
CHECKPOINT, POINTER = f"{LOG}{1:020}.checkpoint.parquet", f"{LOG}_last_checkpoint"


class World:
    """Both buckets, and what a worker has of its options. Keys are without their prefix, data/."""

    page = PAGE  # of a listing

    def __init__(self, **environment):
        self.clock, self.today = 0.0, TODAY
        self.source, self.mirror = {}, {}
        self.asked = []  # (operation, whether of the source, key) of each request
        self.denied = ()  # one of these
        settings = load_settings(ENVIRONMENT | {"TABLES": "delta", "COPY_LAST": "_SUCCESS"} | environment)
        wall = lambda: self.today + self.clock  # noqa: E731
        buckets = Buckets(settings, LastingClient(self.answer), now=lambda: self.clock, wall=wall)
        buckets.is_open = True
        options = options_for(buckets)
        before = methods(options, Option.before_copy), methods(options, Option.before_write)
        self.syncer = Syncer(buckets, *before)
        self.markers, self.tables = options[0], options[-1]  # with COPY_LAST

    def put(self, name, content="x", size=1, is_mirrored=True, archived=""):
        version = self.source[f"data/{name}"] = Version(content, size, LONG_AGO, archived=archived)
        if is_mirrored:
            self.mirror[f"data/{name}"] = Copy('"d"', (content,), "label", identity(version), 0, LATER, size)

    def put_log(self, *contents, table="", mirrored=0):
        """Commits, of which the first are mirrored."""
        for version, content in enumerate(contents):
            self.put(f"{table}{LOG}{version:020}.json", content, is_mirrored=version < mirrored)

    async def answer(self, operation, arguments):
        key, is_source = arguments.get("Key", ""), arguments["Bucket"] == SETTINGS.src_bucket
        self.asked.append((operation, is_source, key))
        await asyncio.sleep(SECONDS[operation])
        held = self.source if is_source else self.mirror
        if (operation, is_source, key) == self.denied:
            return shaped(operation, Failure("AccessDenied"))
        if operation == "list_objects_v2":
            return self.page_of(held, arguments)
        if operation == "copy_object":
            version, etag = self.source[key], f'"d{len(self.asked)}"'
            self.mirror[key] = Copy(etag, (version.content,), version.label, identity(version), 0, LATER, version.size)
            return shaped(operation, etag)
        return shaped(operation, held.pop(key) if operation == "delete_object" else held.get(key, Failure("404")))

    def page_of(self, held, arguments):
        begin, most = int(arguments.get("ContinuationToken", 0)), arguments.get("MaxKeys", self.page)
        found = [entry for entry in held.items() if entry[0].startswith(arguments.get("Prefix", ""))]
        page = shaped("list_objects_v2", found[begin : begin + most])
        return page | {"IsTruncated": begin + most < len(found), "NextContinuationToken": str(begin + most)}

    def pass_time(self, seconds):
        self.clock += seconds

    def run(self, work):
        with asyncio.Runner(loop_factory=lambda: Loop(self)) as runner:
            return runner.run(work)

    def ends_of(self, *work):
        """When each of them ends."""

        async def timed(coroutine):
            await coroutine
            return self.clock

        async def all_of_it():
            return await asyncio.gather(*map(timed, work))

        return self.run(all_of_it())

    def sync(self, name, **asked):
        self.run(self.syncer.sync(KeySync(f"data/{name}", **asked)))

    def bring_log(self, table=""):
        """What it waits for; None if it is complete."""
        return self.run(self.tables.logs.bring_log(KeySync("data/x"), f"data/{table}"))

    def asked_for(self, operation):
        return [key for asked, _, key in self.asked if asked == operation]


OLD = f"{LOG}{7:020}.json"  # of a table that was in the folder before


@pytest.mark.parametrize(
    ("operation", "of_source", "name", "there", "size"),
    [
        ("head_object", True, COMMITS[0], "", 0),
        ("get_object", True, COMMITS[0], "", 0),
        ("get_object", False, COMMITS[0], COMMITS[0], 1),  # whose bytes show whether it is of the same table
        ("copy_object", False, COMMITS[0], "", 0),
        ("head_object", True, COMMITS[0], COMMITS[0], 2),
        ("delete_object", False, OLD, OLD, 2),
        ("head_object", False, CHECKPOINT, "", 0),
        ("head_object", True, POINTER, "", 0),
        ("get_object", True, POINTER, "", 0),
    ],
)
def test_a_log_file_that_is_denied_is_what_others_wait_for_and_no_failure_of_theirs(
    operation, of_source, name, there, size
):
    world = World()
    world.put_log("a0", "a1")
    world.put(CHECKPOINT, "a1", is_mirrored=False)
    world.put(POINTER, "@1", is_mirrored=False)
    if there:
        world.mirror[f"data/{there}"] = Copy('"d"', ("x",), "label", identity(Version("x", size, 1)), 0, 0, size)
    world.denied = operation, of_source, f"data/{name}"
    with pytest.raises(Postponed, match="what it needs is not there yet"):
        world.sync(COMMITS[1])
    [(key, why)] = world.bring_log().troubles.items()
    assert f"data/{name}" in f"{key} {why}"
    assert set(world.asked_for("delete_object")) <= {f"data/{OLD}"}
    assert "error=AccessDenied" in why


@pytest.mark.parametrize(
    ("exclude", "copied", "why"),
    [
        ("data/f", 3, None),
        (f"data/{COMMITS[0]}", 0, f"the source's log has a gap before data/{COMMITS[1]} and no checkpoint"),
        ("data/*.json", 0, None),
    ],
)
def test_what_exclude_leaves_out_of_a_table_counts_as_gone(exclude, copied, why):
    world = World(EXCLUDE=exclude)
    world.put("f", is_mirrored=False)
    world.put_log("a0+f", "a1+f", "a2+f")
    found = world.bring_log()
    assert next(iter(found.troubles.values())).startswith(why) if why else found is None
    assert len(world.mirror) == copied


def test_of_the_files_that_a_commit_waits_for_one_in_trouble_is_named():
    world, names = World(), [f"f{number}" for number in range(9)]
    for name in names:
        world.put(name, size=LONG_COPY_SIZE + 1, is_mirrored=False)
    world.put_log("+".join(["a0", *names]))
    world.denied = "head_object", False, "data/f8"
    [(key, why)] = world.bring_log().troubles.items()
    assert (key, "error=AccessDenied" in why) == ("data/f8", True)


def test_a_checkpoint_that_came_while_the_log_was_listed_waits_for_its_commits():
    world = World()
    world.put_log("a0", "a1")
    world.put(CHECKPOINT, "a1", is_mirrored=False)
    world.put(POINTER, "@1", is_mirrored=False)
    names, pages = list(world.source), iter([(0, 3)])  # the first listing ended before the commit 1 came

    def page_of(held, arguments):
        shown = held
        if held is world.source and arguments["Prefix"] == f"data/{LOG}" and (page := next(pages, None)):
            shown = {names[number]: held[names[number]] for number in page}
        return World.page_of(world, shown, arguments)

    world.page_of = page_of
    assert world.bring_log() is None
    assert world.asked_for("copy_object") == names


def test_a_log_file_that_is_the_same_is_looked_at_once_until_it_is_another():
    world = World()
    world.put_log("a0", mirrored=1)
    key = f"data/{COMMITS[0]}"
    world.today = 0  # so that it is young
    world.mirror[key] = world.mirror[key]._replace(second=LONG_AGO)
    for expected in (2, 0, 2):
        world.asked.clear()
        assert world.bring_log() is None
        assert len(world.asked_for("head_object")) == expected
        if not expected:
            world.mirror[key] = world.mirror[key]._replace(etag='"d2"')
    world.source[key] = world.source[key]._replace(content="b0")
    assert world.bring_log() is None
    assert world.mirror[key].content == ("b0",)


def test_that_a_folder_has_no_log_is_remembered_since_the_look_and_less_long_than_a_first_commit_waits():
    world = World()
    assert world.run(world.tables.table_of(KeySync("data/f"))) is None
    world.put_log("a0")
    world.clock = NO_LOG_SECONDS
    assert world.run(world.tables.table_of(KeySync("data/f"))) == "data/"
    assert 2 * NO_LOG_SECONDS < FIRST_SHOWN_SECONDS


def test_a_table_is_found_although_the_first_page_of_its_log_is_empty():
    """As S3 counts the delete markers of a log in a page, of which only one key was asked for."""
    world = World()
    world.put_log("a0+f")
    world.mirror["data/f"] = Copy('"d"', ("x",), "label", "", 0, 1)

    def page_of(held, arguments):
        if arguments.get("MaxKeys") == 1 and "ContinuationToken" not in arguments:
            return {"IsTruncated": True, "NextContinuationToken": "0"}
        return World.page_of(world, held, arguments)

    world.page_of = page_of
    assert world.run(world.tables.table_of(KeySync("data/f"))) == "data/"


def test_what_waits_for_archived_files_alone_is_put_off_at_once_and_for_longer():
    world = World()
    for name in ("f0", "f1"):
        world.put(name, is_mirrored=False, archived="GLACIER")
    world.put_log("a0", "a1+f0", "a2+f1", mirrored=1)
    for name, requests in ((COMMITS[1], 4), (COMMITS[2], 1)):
        world.asked.clear()
        began = world.clock
        with pytest.raises(Postponed, match="not there yet") as put_off:
            world.sync(name, event_time=TODAY)
        assert 0 < world.clock - began < 2
        assert put_off.value.seconds >= ARCHIVED_SECONDS
        assert len(world.asked) == requests


def test_a_minute_after_an_archived_file_is_restored_commits_no_longer_wait_for_it():
    world = World()
    world.put("f", is_mirrored=False, archived="GLACIER")
    world.put_log("a0", "a1+f", "a2", mirrored=1)
    with pytest.raises(Postponed, match="not there yet"):
        world.sync(COMMITS[1], event_time=TODAY)
    world.put("f", is_mirrored=False)
    world.pass_time(ARCHIVED_SECONDS)
    world.sync(COMMITS[2], event_time=TODAY)
    assert world.mirror.keys() == world.source.keys()


@pytest.mark.parametrize("archived", [0, 1])
def test_files_are_brought_although_another_one_is_archived(archived):
    world = World()
    for number in range(2):
        world.put(f"f{number}", is_mirrored=False, archived="GLACIER" * (number == archived))
    world.put_log("a0", "a1+f0+f1", mirrored=1)
    with pytest.raises(Postponed, match="not there yet"):
        world.sync(COMMITS[1], event_time=TODAY)
    assert [f"data/f{number}" in world.mirror for number in range(2)] == [archived == 1, archived == 0]


# --- What waits for what ----------------------------------------------------------------------------------------------

LARGE_FOLDERS, LARGE_PAGES = 4, 50


def test_nothing_small_waits_for_large_comparisons(show):
    """A marker of a small folder, a commit that waits for one large file, and the log of a small table."""
    world, folders = World(), [f"large{number}/" for number in range(LARGE_FOLDERS)]
    for number in range(LARGE_PAGES * PAGE):
        for folder in folders:
            world.put(f"{folder}{number:04}")
            world.put(f"log{folder}{LOG}{number:020}.json", f"a{number}")
    world.put("small/a")
    world.put("table/large", size=LONG_COPY_SIZE + 1, is_mirrored=False)
    world.put_log("a0", "a1+large", table="table/", mirrored=1)
    commit = KeySync(f"data/table/{COMMITS[1]}")
    commit.result.sight = Sight(source_from_head(shaped("head_object", world.source[commit.key])))

    async def copy_the_large_file():
        await asyncio.sleep(3)
        world.put("table/large", size=LONG_COPY_SIZE + 1)

    ended = world.ends_of(
        *(world.markers.before_copy(KeySync(f"data/{folder}_SUCCESS")) for folder in folders),
        *(world.tables.logs.bring_log(KeySync("data/x"), f"data/log{folder}") for folder in folders),
        world.markers.before_copy(KeySync("data/small/_SUCCESS")),
        world.tables.before_copy(commit),
        world.tables.logs.bring_log(KeySync("data/x"), "data/other/"),
        copy_the_large_file(),
    )
    show(f"ended after {[f'{at:.1f}' for at in ended]} s")
    assert min(ended[: 2 * LARGE_FOLDERS]) > 12
    assert 3 < max(ended[2 * LARGE_FOLDERS :]) <= 5  # the commit waits for its file


@pytest.mark.parametrize("task_memory", [0, 1, 10**5])
def test_if_memory_is_short_comparisons_end_in_the_order_in_which_they_began(task_memory):
    world = World()
    for folder in ("a/", "b/"):
        for number in range(4 * PAGE):
            world.put(f"{folder}{number:04}")
    world.tables.logs.listings.task_memory = task_memory
    first, second = world.ends_of(
        *(world.markers.before_copy(KeySync(f"data/{folder}_SUCCESS")) for folder in ("a/", "b/"))
    )
    assert (second > 1.5 * first) == (task_memory == 1)


DEPTH, DELETES = 200, 400


class Slot(Host):
    """Of a sync that gives it to others, and has it back after a while."""

    is_held = True

    def has_slot(self, _sync):
        return self.is_held

    def wait_aside(self, _sync):
        self.is_held = False
        return True

    async def come_back(self, _sync):
        assert not self.is_held
        await asyncio.sleep(10)
        self.is_held = True


def test_deletes_under_a_deep_tree_share_their_looks_and_hold_no_slot_meanwhile(show):
    world, deep = World(), "data/" + "d/" * (DEPTH - 2)
    syncs = [KeySync(f"{deep}{number}/f", host=Slot()) for number in range(DELETES)]
    held = 0.0

    async def delete(sync, after):
        nonlocal held
        await asyncio.sleep(after)
        left = asyncio.create_task(world.tables.before_write(sync))
        await asyncio.sleep(0)
        held += sync.host.is_held
        await left
        assert sync.host.is_held

    world.ends_of(*(delete(sync, 0.01 * number) for number, sync in enumerate(syncs)))
    show(f"{len(world.asked) / DELETES:.1f} listings a delete")
    assert held == 0
    assert DELETES <= len(world.asked) <= 3 * DELETES


# --- What it costs ----------------------------------------------------------------------------------------------------

FILES, TIDY = 5, 10  # files of a commit; commits until a checkpoint, a pointer and a delete


def commit(world, version):
    """Of a writer that a worker follows at once."""

    def put(name, content="x"):
        world.put(name, content, is_mirrored=False)
        world.sync(name)

    files = [f"f{version}x{number}" for number in range(FILES)]
    for name in files:
        put(name)
    put(f"{LOG}{version:020}.json", "+".join([f"a{version}", *files]))
    if version % TIDY == TIDY - 1:
        put(f"{LOG}{version:020}.checkpoint.parquet", f"a{version}")
        put(f"{LOG}_last_checkpoint", f"@{version}")
        put("old")
        del world.source["data/old"]
        world.sync("old", destination_first=True)


def test_what_a_commit_asks_for_does_not_grow_with_the_log(show):
    world, asked = World(COPY_LAST=""), []
    world.page = 1000
    for version in range(4 * TIDY):
        if version % TIDY == 0:
            world.asked.clear()
        commit(world, version)
        if version % TIDY == TIDY - 1:
            asked.append(Counter(request[:2] for request in world.asked))
    show(f"{asked[-1].total() / TIDY:.1f} requests a commit")
    assert asked[1] == asked[2] == asked[3]
    assert world.source.keys() == world.mirror.keys()
