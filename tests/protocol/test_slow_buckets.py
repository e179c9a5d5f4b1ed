"""What waits for what, on a clock of its own: buckets whose answers take their time, and listings of many pages."""

import asyncio
from collections import Counter

import pytest
from fakes import ENVIRONMENT, SETTINGS, Copy, Failure, Version, identity, shaped, source_head
from invocations import LastingClient, Loop
from table_readers import LOG

from mirror.options.markers import Markers
from mirror.options.tables import Tables
from mirror.options.waiting import Waits
from mirror.protocol.attempt import Host, KeySync
from mirror.protocol.buckets import Buckets
from mirror.protocol.objects import source_from_head
from mirror.protocol.sync import LONG_COPY_SIZE, Syncer
from mirror.settings import load_settings

pytestmark = pytest.mark.fast
SECONDS = {"list_objects_v2": 0.3, "head_object": 0.01, "get_object": 0.01, "copy_object": 0.1, "delete_object": 0.01}
PAGE = 10  # keys
LONG_AGO, LATER = 1, 10_000  # so that a listing shows that the copy is equal
LARGE_FOLDERS, LARGE_PAGES = 4, 150


class World:
    """Both buckets, and two options of one worker."""

    clock = 0.0

    def __init__(self, **environment):
        self.source, self.mirror, self.asked = {}, {}, Counter()
        settings = load_settings(ENVIRONMENT | {"TABLES": "delta", "COPY_LAST": "_SUCCESS"} | environment)
        buckets = Buckets(settings, LastingClient(self.answer), now=lambda: self.clock, wall=lambda: self.clock)
        buckets.answering.is_open = True
        waits = Waits(buckets)
        self.tables, self.markers = Tables(waits, Syncer(buckets)), Markers(waits)

    def put(self, name, content="x", size=1, is_mirrored=True):
        version = self.source[f"data/{name}"] = Version(content, size, LONG_AGO)
        if is_mirrored:
            self.mirror[f"data/{name}"] = Copy('"d"', (content,), "label", identity(version), 0, LATER, size)

    async def answer(self, operation, arguments):
        is_source = arguments["Bucket"] == SETTINGS.src_bucket
        self.asked[operation, is_source] += 1
        await asyncio.sleep(SECONDS[operation])
        held = self.source if is_source else self.mirror
        if operation == "list_objects_v2":
            return page_of(held, arguments)
        return shaped(operation, held.get(arguments["Key"], Failure("404")))

    def pass_time(self, seconds):
        self.clock += seconds

    def ends_of(self, *work):
        """When each of them ends."""

        async def timed(coroutine):
            await coroutine
            return self.clock

        async def all_of_it():
            return await asyncio.gather(*map(timed, work))

        with asyncio.Runner(loop_factory=lambda: Loop(self)) as runner:
            return runner.run(all_of_it())


def page_of(held, arguments):
    begin = int(arguments.get("ContinuationToken", 0))
    found = [entry for entry in held.items() if entry[0].startswith(arguments["Prefix"])]
    page = shaped("list_objects_v2", found[begin : begin + PAGE])
    return page | {"IsTruncated": begin + PAGE < len(found), "NextContinuationToken": str(begin + PAGE)}


def test_nothing_small_waits_for_large_comparisons(show):
    """A marker of a small folder, a commit that waits for one large file, and the log of a small table."""
    world, folders = World(), [f"large{number}/" for number in range(LARGE_FOLDERS)]
    for number in range(LARGE_PAGES * PAGE):
        for folder in folders:
            world.put(f"{folder}{number:04}")
            world.put(f"log{folder}{LOG}{number:020}.json", f"a{number}")
    for name in ("small/a", f"table/{LOG}{0:020}.json"):
        world.put(name)
    world.put("table/large", size=LONG_COPY_SIZE + 1, is_mirrored=False)
    world.put(f"table/{LOG}{1:020}.json", "a1+large", is_mirrored=False)
    commit = KeySync(f"data/table/{LOG}{1:020}.json")
    commit.result.sight = source_from_head(source_head(world.source[commit.key])), None

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
    assert min(ended[: 2 * LARGE_FOLDERS]) > 40
    assert max(ended[2 * LARGE_FOLDERS :]) <= 5


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


# --- Which table a key belongs to -------------------------------------------------------------------------------------

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
    show(f"{world.asked.total() / DELETES:.1f} listings a delete")
    assert held == 0
    assert world.asked.total() <= 3 * DELETES
