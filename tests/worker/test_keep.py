"""KEEP_DAYS: what a worker copies then, and what reconcile makes of the rest."""

import time

import pytest
from test_reconcile import found, numbers, reconcile
from world import MIRROR, QUEUE, SOURCE, World

from mirror.queue.bodies import hint_body

DAY = 86_400
NOW = int(time.time())
MIDNIGHT = 1_700_006_400  # 2023-11-15 00:00 UTC


def days_ago(days: float) -> int:
    return NOW - int(days * DAY)


def equal_before(world: World, *keys: str, **fields) -> None:
    """In both buckets by a worker's own doing before KEEP_DAYS was set, and no event is sent for what changes from now
    on."""
    world.synced(*keys, **fields)
    world.standin.configure_bucket(SOURCE, notification=None)


def touch(world: World, key: str) -> None:
    """The source is copied onto itself, for which S3 sends an event as for any change."""
    world.standin.notify(SOURCE, QUEUE)
    s3 = world.worker().buckets.s3
    copy = {"Bucket": SOURCE, "Key": key, "CopySource": {"Bucket": SOURCE, "Key": key}}
    world.run(s3.copy_object(is_small=True, MetadataDirective="REPLACE", **copy))


def removed(world: World, *arguments: str, **settings: str) -> int:
    status, output = reconcile(world, "--remove-unwanted", *arguments, **settings)
    assert status == 0, output
    return int(numbers(output)["removed"])


# A worker


def test_a_late_event_of_an_expired_source_copies_nothing_and_is_done(world: World):
    world.put("old", modified=days_ago(9))
    world.put("new", modified=days_ago(3))
    output = world.run_worker(KEEP_DAYS="7")
    assert list(world.mirrored()) == ["new"]
    assert world.is_empty()
    assert output.count('INFO not copied key="old" as it has not changed for more than KEEP_DAYS=7') == 1


def test_an_archived_object_that_was_restored_too_late_is_no_failure(world: World):
    world.put("old", modified=days_ago(9), storage_class="GLACIER")
    world.run_worker(KEEP_DAYS="7")
    world.standin.restore(SOURCE, "old")
    world.run_worker(KEEP_DAYS="7")
    assert (world.mirrored(), world.is_empty()) == ({}, True)
    assert not any(world.standin.queue("sync-dlq").values())


def test_a_source_that_is_touched_comes_back(world: World):
    equal_before(world, "old", modified=days_ago(9))
    assert removed(world, KEEP_DAYS="7") == 1
    assert world.mirrored() == {}
    touch(world, "old")
    world.run_worker(KEEP_DAYS="7")
    assert world.is_equal()
    status, output = reconcile(world, KEEP_DAYS="7")
    assert (status, found(output), numbers(output)["expired"]) == (0, {}, 0)


# The last second


@pytest.mark.parametrize(("before", "copied"), [(1, True), (0, False)])
def test_a_worker_keeps_to_the_same_second(world: World, before: int, copied: bool):
    world.put("key", modified=MIDNIGHT + 3600)
    running = world.worker(KEEP_DAYS="7")
    running.buckets.wall = lambda: MIDNIGHT + 8 * DAY - before
    assert world.run(running.run()) == 0
    assert ("key" in world.mirrored()) is copied
    assert world.is_empty()


# What it costs, and what it never touches


@pytest.mark.parametrize("copied_by", ["a worker", "another tool"])
def test_a_hint_on_an_expired_source_leaves_its_equal_copy_to_the_lifecycle(world: World, copied_by: str):
    equal_before(world, "old", modified=days_ago(9))
    if copied_by == "another tool":
        world.standin.put(MIRROR, "old")
    before = world.mirrored()
    world.standin.send(QUEUE, hint_body(SOURCE, ["old"]))
    world.run_worker(KEEP_DAYS="7")
    assert (world.mirrored(), world.is_empty()) == (before, True)
