"""What Completeness takes for complete, on the stand-in."""

from __future__ import annotations

import asyncio
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from listed import MOMENT, Bucket, tree
from world import MIRROR, SOURCE, World, until

from mirror.model.errors import Refused
from mirror.protocol.attempt import Interruption
from mirror.protocol.buckets import Buckets
from mirror.queue.queue import Queue
from mirror.readers import completeness, listing
from mirror.readers.completeness import LEAST_NAMES, Compared, Completeness, budget_of
from mirror.readers.reconcile import Options, Reconciliation
from mirror.readers.walk import DESTINATION, Entry
from mirror.settings import load_settings

HOUR = 3600
SLOW = {"COPY_TIMEOUT": "900", "VISIBILITY_TIMEOUT": "7200", "ROLLBACKS": "false"}


@pytest.fixture
def synced(world: World) -> World:
    return world.synced("data/a", "data/b", "data/c/d")


def compared(world: World, prefix: str = "data/", **options) -> Completeness:
    """After compare() and one look()."""
    state = Completeness(world.worker().buckets, (prefix,), **options)
    world.run(state.compare())
    return world.run(state.look())


def test_what_is_synced_is_complete(synced: World):
    state = compared(synced)
    assert (state.missing, state.keys, state.size, state.only_in_destination) == ({}, 3, 3 * 1024, 0)


def test_what_is_missing_or_stale_lacks_and_nothing_else(synced: World):
    synced.put("data/new")
    synced.put("data/b", size=2048)
    assert set(compared(synced).missing) == {"data/new", "data/b"}


def test_a_copy_of_the_version_before_is_not_taken_for_this_one_though_it_is_younger(synced: World):
    """It was under way when the source was overwritten, with as many bytes."""
    old = synced.mirrored()["data/a"]
    synced.put("data/a")
    synced.standin.put(MIRROR, "data/a", 1024, metadata=old["metadata"])
    assert set(compared(synced).missing) == {"data/a"}


def test_a_copy_of_another_size_lacks_however_young_it_is(synced: World):
    synced.put("data/a", 2048, modified=1_700_000_000)
    assert set(compared(synced).missing) == {"data/a"}


def test_a_prefix_may_end_anywhere(synced: World):
    """A directory bucket lists only whole folders."""
    state = compared(synced, "data/b", exact=True)
    assert (state.missing, state.keys, state.only_in_destination) == ({}, 1, 0)


def test_a_copy_that_is_much_younger_than_the_source_needs_no_look(synced: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(completeness, "LANDED_SECONDS", -1000)
    before = synced.requests()
    compared(synced)
    assert synced.requests()["HeadObject"] - before["HeadObject"] == 1  # to learn whether the source has versions


def needs_look(state: Completeness, source: Entry, copied: int) -> bool:
    part = Compared(state)
    part.add("data/a", source, Entry(source.size, copied, "", ""))
    return [key for key, _ in part.doubtful.take_all()] == ["data/a"]


@pytest.mark.parametrize(("etag", "needs_a_look"), [('"0123456789abcdef"', False), ('"0123456789abcdef-12"', True)])
def test_the_time_of_an_upload_in_parts_decides_nothing(world: World, etag: str, needs_a_look: bool):
    """It is that of its begin: the version before may have been put and copied since, with as many bytes."""
    state = Completeness(world.worker(**SLOW).buckets, ("data/",))
    begun, copied = int(time.time()) - 3 * HOUR, int(time.time()) - 2 * HOUR
    assert needs_look(state, Entry(10, begun, etag, ""), copied) is needs_a_look


@pytest.mark.parametrize(("age", "needs_a_look"), [(0, True), (6, True), (899, True), (905, True), (906, False)])
def test_a_copy_decides_without_a_look_once_none_that_was_begun_before_the_source_changed_can_land(
    world: World, age: int, needs_a_look: bool
):
    """A copy of the version before may take COPY_TIMEOUT, and the clocks of two buckets may differ by five seconds."""
    state = Completeness(world.worker(**SLOW).buckets, ("data/",))
    changed = int(time.time()) - HOUR
    assert needs_look(state, Entry(10, changed, '"0123"', ""), changed + age) is needs_a_look


def test_what_is_overwritten_meanwhile_is_here_once_the_new_version_is(synced: World):
    synced.put("data/b", size=2048)
    state = compared(synced)
    synced.put("data/b", size=4096)
    synced.run_worker()
    synced.run(state.look())
    assert state.missing == {}


def test_what_is_deleted_meanwhile_lacks_until_it_is_gone(synced: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(completeness, "SOURCE_LOOK_SECONDS", 0)
    synced.put("data/b", size=2048)
    state = compared(synced)
    synced.standin.delete(SOURCE, "data/b")
    synced.run(state.look())
    assert set(state.missing) == {"data/b"}
    synced.run_worker()
    synced.run(state.look())
    assert state.missing == {}


def test_only_exactly_what_the_source_has_no_longer_lacks_until_it_is_gone(synced: World):
    synced.standin.delete(SOURCE, "data/a")
    loose, exact = compared(synced), compared(synced, exact=True)
    assert (loose.missing, loose.only_in_destination, exact.missing) == ({}, 1, {"data/a": None})
    synced.run_worker()
    synced.run(exact.look())
    assert exact.missing == {}


@pytest.mark.parametrize("missing", [set(), {"data/b"}])
def test_a_key_that_the_destination_lists_twice_is_no_ghost(synced: World, missing: set[str]):
    """It is waited for in its new version if it has one, and otherwise not at all."""
    for key in missing:
        synced.put(key, size=2048)
    state = Completeness(synced.worker().buckets, ("data/",), exact=True)
    list_page = state.list_page

    async def twice(side, **parameters):
        if parameters.pop("ContinuationToken", None):
            await until(lambda: state.keys >= 2)  # those of the folder itself have both been seen
            return await list_page(side, **parameters)
        page = await list_page(side, **parameters)
        is_first = {"IsTruncated": True, "NextContinuationToken": "the same once more"}
        return page | (is_first if side == DESTINATION else {})

    state.list_page = twice
    synced.run(state.compare())
    assert ({key for key, version in state.missing.items() if version}, state.lacking) == (missing, len(missing))
    assert state.only_in_destination == 0


def test_what_is_no_copy_of_ours_is_left_alone(synced: World):
    synced.standin.put(MIRROR, "data/of-a-job", 10)
    state = compared(synced, exact=True)
    assert (state.missing, state.only_in_destination, state.of_unknown_origin) == ({}, 1, 1)


def test_what_is_archived_is_told(synced: World):
    synced.put("data/ice", storage_class="GLACIER")
    missing = compared(synced).missing
    assert [(key, source.archived) for key, source in missing.items() if source] == [("data/ice", "GLACIER")]


def test_only_keys_that_count_are_compared(synced: World):
    synced.put("data/x")
    state = compared(synced, counts=lambda key: key != "data/x")
    assert (state.missing, state.keys) == ({}, 3)


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


def test_a_page_that_s3_is_too_busy_to_list_is_asked_for_again_if_there_is_time(
    synced: World, monkeypatch: pytest.MonkeyPatch
):
    for is_patient in (True, False):
        monkeypatch.setattr(listing, "BUSY_PAUSES", (0.01,) if is_patient else ())
        synced.standin.fault("ListObjectsV2", "error", status=503, code="SlowDown", times=12)
        state = Completeness(synced.worker().buckets, ("data/",), is_patient=is_patient)
        if is_patient:
            synced.run(state.compare())
        else:
            with pytest.raises(ClientError, match="SlowDown"):
                synced.run(state.compare())


def test_patience_is_for_s3_being_busy_and_not_for_a_refusal(synced: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(listing, "BUSY_PAUSES", (0.01,))
    synced.standin.fault("ListObjectsV2", "error", status=403, code="AccessDenied", times=3)
    state = Completeness(synced.worker().buckets, ("data/",), is_patient=True)
    with pytest.raises(ClientError, match="AccessDenied"):
        synced.run(state.compare())


@pytest.mark.parametrize(("rollbacks", "missing"), [("true", {"data/a"}), ("false", set())])
def test_a_version_that_is_current_again_lacks_until_its_copy_is_back(world: World, rollbacks: str, missing: set[str]):
    """The copy of the version that was deleted permanently is younger, and has as many bytes."""
    world.standin.configure_bucket(SOURCE, versioning="Enabled")
    world.synced("data/a", modified=int(time.time()) - HOUR)
    world.synced("data/a", "data/b")
    newest = world.standin.versions(SOURCE, "data/a")[-1]["version_id"]
    world.standin.delete(SOURCE, "data/a", newest)
    state = Completeness(world.worker(ROLLBACKS=rollbacks).buckets, ("data/",), settled=0)
    world.run(state.compare())
    assert set(state.missing) == missing
    world.run_worker()
    world.run(state.look())
    assert (state.missing, world.is_equal()) == ({}, True)


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
