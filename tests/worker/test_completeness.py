"""What waits for many keys: how much it remembers, how often it looks, and what it says of the rest. What it finds:
test_readers_agree.py."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import re
import tracemalloc
from pathlib import Path
from resource import RUSAGE_SELF, getpagesize, getrusage
from types import SimpleNamespace
from typing import Any

import pytest
from drawn import LATE, MOMENT, START, Bucket, Drawn, Pair, Version, plain, tree
from fakes import ENVIRONMENT

from mirror.concurrency import Slots, wait_at_most
from mirror.model.errors import Refused
from mirror.model.services import MIB
from mirror.protocol.attempt import Interruption
from mirror.protocol.buckets import Buckets
from mirror.queue.messages import Queue
from mirror.readers.completeness import LEAST_NAMES, Budget, Completeness
from mirror.readers.listing import SHARE_OF_MANY, Listings, Progress
from mirror.readers.measure import Measure, MeasureArguments
from mirror.readers.reconcile import ReconcileArguments, Reconciliation
from mirror.readers.wait import Wait, WaitArguments
from mirror.readers.walk import Entry, entry_table
from mirror.settings import load_settings

pytestmark = pytest.mark.fast


def world_of(missing: int, archived: int = 0, equal: int = 0, age: int = 900) -> Drawn:
    """Keys that are missing and arrive after 25 s, keys that never do, and keys that are there."""
    before, changes = dict[str, Pair](), dict[str, tuple[str, Pair]]()
    for number in range(missing + archived + equal):
        key, source = f"{number:04}", Version(f"v{number}", START - age, 10)
        copy = Version(f"c{number}", source.modified + 20, 10, copy_of=source.name)
        before[key] = source, copy if number >= missing + archived else None
        if number < missing:
            changes[key] = LATE, (source, copy)
        elif number < missing + archived:
            before[key] = source._replace(storage_class="GLACIER", is_archived=True), None
    drawn = plain(before, changes)
    drawn.environment["ROLLBACKS"], drawn.lists_now = "false", True
    return drawn


@pytest.mark.parametrize(
    ("missing", "archived", "names", "status", "looks"),
    [(100, 0, 1, 0, 800), (1000, 0, 0, 0, 15_000), (30, LEAST_NAMES, 1, 1, 2000)],
)
def test_all_of_many_missing_keys_are_found_once_they_arrive_with_few_looks(missing, archived, names, status, looks):
    """Though only some are remembered, and keys that never arrive are among those."""
    drawn = world_of(missing, archived)
    ran = drawn.run("wait", "--timeout", "100s", names=names)
    assert (ran.status, ran.numbers().get("lacking", 0), ran.numbers()["here"]) == (status, archived, missing)
    assert 2 * missing < drawn.asked["head_object"] < looks


def test_a_source_that_has_not_changed_for_long_needs_no_look_unless_it_is_deep():
    looks = []
    for age, arguments in ((900, []), (200_000, []), (200_000, ["--deep"])):
        drawn = world_of(0, equal=10, age=age)
        assert drawn.run("wait", *arguments).status == 0
        looks.append(drawn.asked["head_object"])
    assert looks == [10, 0, 20]  # with --deep on both sides


def test_those_that_wait_leave_each_other_room():
    drawn = world_of(100)
    buckets = drawn.buckets()
    budget = Budget(Slots(256), Listings(0), names=160)
    states = [Completeness(buckets, ("",), shared=budget) for _ in range(3)]

    async def compare() -> int:
        for state in states:
            await state.compare()
        return 0

    drawn.ran(compare(), [])
    assert [len(state.missing) for state in states] == [80, 40, LEAST_NAMES]
    assert {state.lacking for state in states} == {100}
    del states[0]
    assert budget.names_of(states[0]) == 70


# Memory


class Versioned:
    """The client of S3 for two equal buckets, of which the source has versions, so that each copy is looked at."""

    def __init__(self, keys: list[str]) -> None:
        self.buckets = Bucket(keys, 1000), Bucket(keys, 1000, is_directory=True)
        for bucket in self.buckets:
            bucket.rows("", "")
        self.looks = 0
        self.after_look = lambda: None

    async def list_objects_v2(self, **parameters: Any) -> dict[str, Any]:
        await asyncio.sleep(0)
        page = self.buckets["--" in parameters["Bucket"]].list({"Prefix": ""} | parameters)
        contents = [item | {"Key": item["Key"].encode().decode()} for item in page["Contents"]]  # memory of its own
        return page | {"Contents": contents}

    async def head_object(self, **parameters: Any) -> dict[str, Any]:
        await asyncio.sleep(0)
        self.looks += 1
        self.after_look()
        version = {} if "--" in parameters["Bucket"] else {"VersionId": "v"}
        return {"ETag": '"e"', "ContentLength": len(parameters["Key"]), "LastModified": MOMENT, **version}


def deep_reconciliation(buckets: Buckets) -> Reconciliation:
    return Reconciliation(buckets, Queue(None, ""), ReconcileArguments(deep=True, dry_run=True), Interruption())


# reader -> what compares, looks for each copy, bytes for each that it may take
READERS = {
    "wait": (lambda buckets: Completeness(buckets, ("",)).compare(), 1, 150),
    "reconcile": (lambda buckets: deep_reconciliation(buckets).compare(), 2, 150),
    "measure": (lambda buckets: Measure(buckets, MeasureArguments(), Interruption(), print).count_all(), 0, 100),
}


def of_small_folders(reader: str, keys: int, **environment: str) -> tuple[Versioned, Any]:
    client = Versioned(tree(keys // 20, keys=20))
    settings = load_settings(ENVIRONMENT | {"PREFIX_FILTER": ""} | environment)
    return client, READERS[reader][0](Buckets(settings, client))


@pytest.mark.parametrize("reader", READERS)
def test_what_two_listings_leave_open_of_many_small_folders_takes_little_memory(reader: str):
    peaks = []
    for keys in (2000, 6000):
        client, work = of_small_folders(reader, keys)
        tracemalloc.start()
        asyncio.run(work)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert client.looks // keys == READERS[reader][1]
    assert 10 < (peaks[1] - peaks[0]) / 4000 < READERS[reader][2]


@pytest.mark.parametrize("reader", ["wait", "reconcile"])
def test_memory_that_runs_out_is_noticed_also_while_copies_are_looked_at(reader: str):
    """By then both buckets are listed."""
    memory, taken = 2 * getrusage(RUSAGE_SELF).ru_maxrss // 1024 + 100, []
    client, work = of_small_folders(reader, 5000, TASK_MEMORY=str(memory))

    def take_memory() -> None:
        if client.looks == 1500:
            taken.append(b"\1" * memory * MIB)

    client.after_look = take_memory
    with pytest.raises(Refused, match="raise TASK_MEMORY"):
        asyncio.run(work)
    assert 1500 <= client.looks < 2500 * READERS[reader][1]


TRIM = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc


def resident() -> int:
    """MiB of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * getpagesize() // MIB


class Pauses(Interruption):
    """Counts them."""

    pauses = 0

    async def pause(self, seconds: float) -> None:
        self.pauses += 1
        await super().pause(seconds)


@pytest.mark.skipif(not TRIM, reason="no other C library can be asked to give memory back")
def test_memory_that_a_large_comparison_has_freed_holds_up_no_small_folder():
    gc.collect()  # what other tests have left
    TRIM(0)
    before, table = resident(), entry_table()
    for number in range(300_000):
        table.put(f"large/{number:032}", Entry(1, 1, f'"{number:032x}"', ""))
    held = resident()
    assert held - before > 20
    assert sum(1 for _ in table.take_all()) == 300_000
    drawn = world_of(0, equal=10)
    budget = Budget(Slots(8), Listings(int((before + held) / 2 / SHARE_OF_MANY)))
    small = Completeness(drawn.buckets(), ("",), interruption=Pauses(), shared=budget)
    with budget.listings.begun("another that came before"):
        drawn.ran(wait_at_most(small.compare(), 20), [])
    assert small.interruption.pauses == 0
    assert small.keys == 10


# What is said of how far it is

# (second, folders done, folders known) at each point, and what is said at the last one.
COURSES = [
    ([(10, 5, 100), (20, 30, 100)], "estimating"),  # all are found, but lately
    ([(10, 0, 100), (30, 40, 100), (50, 80, 100)], "10s"),
    ([(100, 100, 200), (110, 120, 300), (139, 180, 300)], "estimating"),  # a quarter of the time has to be quiet
    ([(10, 0, 12), (60, 9, 12)], "estimating"),  # few folders say nothing
    ([(10, 0, 100), (50, 99, 100), (81, 99, 100)], "estimating"),  # one large folder
    ([(10, 0, 100), (50, 100, 100)], "estimating"),  # what lies below is listed yet
]


@pytest.mark.parametrize(("points", "left"), COURSES)
def test_the_time_that_is_left_is_said_only_when_it_can_be_known(points: list[tuple[int, int, int]], left: str) -> None:
    """By a clock that is set by hand."""
    clock = SimpleNamespace(now=0.0)
    progress = Progress(lambda: clock.now)
    for clock.now, done, known in points:
        text = progress.text(1000 * points[-1][0], done, known)
    far = "" if left == "estimating" else f"far={100 * done // known}% "
    assert text == f"keys/s=1000 folders={done}/{known} {far}left={left}"


def test_a_wait_says_how_long_the_rest_takes_at_the_rate_so_far() -> None:
    """Half has arrived in no time, by the real clock."""
    more = SimpleNamespace(keys=10, ghosts=0, size=1000)
    waiting = Wait(SimpleNamespace(keys=10, size=1000, missing={}, more=more), WaitArguments(), is_compared=True)
    waiting.progress()
    more.keys, more.size = 5, 500
    left = re.fullmatch(r"here=5/10 bytes=500/1000 bytes/s=\d+ left=(\d+)s", waiting.progress())
    assert left
    assert int(left[1]) < 600
