"""What Completeness takes for complete, on the stand-in."""

from __future__ import annotations

import asyncio
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from listed import MOMENT, Bucket, tree
from world import MIRROR, SOURCE, World

from mirror.model.errors import Refused
from mirror.protocol.attempt import Interruption
from mirror.protocol.buckets import Buckets
from mirror.queue.queue import Queue
from mirror.readers import completeness, listing
from mirror.readers.completeness import LEAST_NAMES, Completeness, budget_of
from mirror.readers.reconcile import Options, Reconciliation
from mirror.settings import load_settings

SLOW = {"COPY_TIMEOUT": "900", "VISIBILITY_TIMEOUT": "7200", "ROLLBACKS": "false"}


@pytest.fixture
def synced(world: World) -> World:
    return world.synced("data/a", "data/b", "data/c/d")


def compared(world: World, prefix: str = "data/", **options) -> Completeness:
    """After compare() and one look()."""
    state = Completeness(world.worker().buckets, (prefix,), **options)
    world.run(state.compare())
    return world.run(state.look())


def test_what_has_not_changed_for_long_needs_no_look_unless_asked_for(synced: World):
    looks = []
    for options in ({"settled": -1}, {"settled": float("inf")}, {"settled": -1, "deep": True}):
        before = synced.requests().get("HeadObject", 0)
        state = Completeness(synced.worker(**SLOW).buckets, ("data/",), **options)
        synced.run(state.compare())
        assert state.missing == {}
        looks.append(synced.requests().get("HeadObject", 0) - before)
    assert looks == [0, 3, 3]


def test_of_many_keys_that_lack_all_have_their_turn_to_be_looked_for_in_the_source(
    synced: World, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(completeness, "SOURCE_LOOK_SECONDS", 0)
    monkeypatch.setattr(completeness, "SOURCE_LOOKS", 2)
    monkeypatch.setattr(completeness, "LEAST_LOOKS", 2)
    for number in range(6):
        synced.put(f"data/new/{number}")
    state = compared(synced)
    for number in (4, 5):
        synced.standin.delete(SOURCE, f"data/new/{number}")
    for _ in range(3):
        synced.run(state.look())
    assert set(state.missing) == {f"data/new/{number}" for number in range(4)}


def test_a_source_that_does_not_say_whether_it_has_versions_counts_as_if_it_had(synced: World):
    synced.standin.fault("HeadObject", "error", status=403, code="AccessDenied", times=3, bucket=SOURCE)
    state = Completeness(synced.worker().buckets, ("data/",), settled=0)
    before = synced.requests()["HeadObject"]
    synced.run(state.compare())
    assert (state.missing, state.may_be_rolled_back(), synced.requests()["HeadObject"] - before > 3) == ({}, True, True)


def many_missing(world: World, keys: int) -> None:
    world.standin.put_many(SOURCE, [f"data/new/{number:03}" for number in range(keys)])


def test_of_more_missing_keys_than_may_be_remembered_the_others_are_counted(synced: World):
    many_missing(synced, 60)
    synced.standin.delete(SOURCE, "data/a")
    buckets = synced.worker().buckets
    budget = budget_of(buckets, names=0)
    first, second = (Completeness(buckets, ("data/",), exact=True, shared=budget) for _ in range(2))
    for state in (first, second):
        synced.run(state.compare())
        assert (len(state.missing), state.lacking, state.more.size) == (LEAST_NAMES, 61, (61 - LEAST_NAMES) * 1024)
    synced.run_worker()
    for state in (first, second):
        assert synced.run(state.look()).lacking == 0


def test_those_that_wait_leave_each_other_room(synced: World):
    many_missing(synced, 100)
    buckets = synced.worker().buckets
    budget = budget_of(buckets, names=160)
    states = [Completeness(buckets, ("data/new/",), shared=budget) for _ in range(3)]
    for state in states:
        synced.run(state.compare())
    assert [len(state.missing) for state in states] == [80, 40, LEAST_NAMES]
    del states[0], state
    assert budget.names_of(states[0]) == 70


def test_keys_that_never_arrive_do_not_hide_those_that_are_only_counted(synced: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(completeness, "RELIST_SECONDS", 0)
    monkeypatch.setattr(completeness, "RELIST_SHARE", 0)
    for number in range(LEAST_NAMES):
        synced.put(f"data/ice/{number}", storage_class="GLACIER")
    many_missing(synced, 30)
    buckets = synced.worker().buckets
    state = Completeness(buckets, ("data/",), shared=budget_of(buckets, names=0))
    synced.run(state.compare())
    assert state.lacking == LEAST_NAMES + 30
    synced.standin.mirror_many(SOURCE, MIRROR, 10, [f"data/new/{number:03}" for number in range(30)])
    state = synced.run(state.look())
    assert set(state.missing) == {f"data/ice/{number}" for number in range(LEAST_NAMES)}
    assert state.lacking == LEAST_NAMES


def test_only_some_of_many_missing_keys_are_looked_at_until_they_have_arrived(
    synced: World, monkeypatch: pytest.MonkeyPatch
):
    """They arrive in their order, and those that are drawn by lot are the last ones."""
    monkeypatch.setattr(completeness, "LOOKS", 10)
    monkeypatch.setattr(completeness.random, "sample", lambda keys, number: keys[-number:])
    many_missing(synced, 100)
    state = compared(synced)
    rounds = []
    for arrived in (0, 30, 100):
        synced.standin.mirror_many(SOURCE, MIRROR, 10, [f"data/new/{number:03}" for number in range(arrived)])
        before = synced.requests()["HeadObject"]
        synced.run(state.look())
        rounds.append((synced.requests()["HeadObject"] - before, state.lacking))
    assert rounds == [(20, 100), (50, 70), (70, 0)]


# Memory


class Versioned:
    """The client of S3 for two equal buckets, of which the source has versions, so that each copy is looked at."""

    def __init__(self, keys: list[str]) -> None:
        self.buckets = {SOURCE: Bucket(keys, 1000), MIRROR: Bucket(keys, 1000, is_directory=True)}
        for bucket in self.buckets.values():
            bucket.rows("", "")
        self.looks = 0

    async def list_objects_v2(self, **parameters: Any) -> dict[str, Any]:
        await asyncio.sleep(0)
        page = self.buckets[parameters["Bucket"]].list({"Prefix": ""} | parameters)
        contents = [item | {"Key": item["Key"].encode().decode()} for item in page["Contents"]]  # memory of its own
        return page | {"Contents": contents}

    async def head_object(self, **parameters: Any) -> dict[str, Any]:
        await asyncio.sleep(0)
        self.looks += 1
        version = {"VersionId": "v"} if parameters["Bucket"] == SOURCE else {}
        return {"ETag": '"e"', "ContentLength": len(parameters["Key"]), "LastModified": MOMENT, **version}


def deep_reconciliation(buckets: Buckets) -> Reconciliation:
    return Reconciliation(buckets, Queue(None, ""), ("",), Options(deep=True, dry_run=True), Interruption())


# reader -> what compares; looks for each copy
READERS = {"wait": (lambda buckets: Completeness(buckets, ("",)), 1), "reconcile": (deep_reconciliation, 2)}
each_reader = pytest.mark.parametrize("reader", READERS)


def of_small_folders(reader: str, keys: int, **environment: str) -> tuple[Versioned, Completeness | Reconciliation]:
    client = Versioned(tree(keys // 20, keys=20))
    named = {"SRC_BUCKET": SOURCE, "DST_BUCKET": MIRROR, "REGION": "us-east-1", "QUEUE_URL": "https://none"}
    return client, READERS[reader][0](Buckets(load_settings(named | environment), client))


@each_reader
def test_what_two_listings_leave_open_of_many_small_folders_takes_little_memory(reader: str):
    peaks = []
    for keys in (5000, 15_000):
        client, state = of_small_folders(reader, keys)
        tracemalloc.start()
        asyncio.run(state.compare())
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert client.looks // keys == READERS[reader][1]
    assert (peaks[1] - peaks[0]) / 10_000 < 150


@each_reader
def test_memory_that_runs_out_is_noticed_also_while_copies_are_looked_at(
    reader: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """By then both buckets are listed."""
    client, state = of_small_folders(reader, 5000, TASK_MEMORY="1024")
    used = tmp_path / "statm"
    used.write_text("0 1000 0 0 0 0 0")  # pages
    monkeypatch.setattr(listing, "STATM", used)
    look = client.head_object

    async def look_and_use_memory(**parameters: Any) -> dict[str, Any]:
        if client.looks == 1500:
            used.write_text("0 1000000 0 0 0 0 0")
        return await look(**parameters)

    client.head_object = look_and_use_memory
    with pytest.raises(Refused, match="raise TASK_MEMORY"):
        asyncio.run(state.compare())
    assert client.looks < 2500 * READERS[reader][1]
