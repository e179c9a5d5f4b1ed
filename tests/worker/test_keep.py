"""KEEP_DAYS: what a worker copies then, and what reconcile makes of the rest."""

import time

import pytest
from test_reconcile import examples, found, numbers, queued, reconcile
from world import MIRROR, OURS, QUEUE, SOURCE, World

from mirror.cli import parse_arguments
from mirror.protocol.attempt import Interruption
from mirror.queue.bodies import hint_body
from mirror.readers.reconcile import reconcile as compare

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


def test_a_copy_of_another_version_of_an_expired_source_goes_at_once(world: World):
    equal_before(world, "old", size=10, modified=days_ago(9))
    world.put("old", 20, modified=days_ago(8))
    _, output = reconcile(world, KEEP_DAYS="7")
    assert examples(output) == {("stale", "old")}
    world.run_worker(KEEP_DAYS="7")
    assert world.mirrored() == {}
    status, output = reconcile(world, KEEP_DAYS="7")
    assert (status, found(output), numbers(output)["expired"]) == (0, {}, 1)


@pytest.mark.parametrize("arguments", [(), ("--deep",)])
def test_copies_that_a_worker_would_delete_as_stale_are_what_the_guard_counts(world: World, arguments: tuple[str, ...]):
    """Ghosts beside them are counted together with them; what is copied is on the queue either way."""
    equal_before(world, "old/1", "old/2", "young", size=10, modified=days_ago(9))
    for key in ("old/1", "old/2"):
        world.put(key, 20, modified=days_ago(8))
    world.put("young", 20)
    world.standin.put(MIRROR, "ghost", metadata=OURS)
    for most, status, keys in (("2", 3, {"young"}), ("3", 0, {"young", "old/1", "old/2", "ghost"})):
        ended, output = reconcile(world, "--max-delete", most, *arguments, KEEP_DAYS="7")
        assert (ended, set(queued(world))) == (status, keys), output
        assert numbers(output)["stale"] == 3
        assert ("raise --max-delete" in output) is (status == 3)
    assert len(examples(output)) == 4


# The last second


def at(world: World, now: int, *arguments: str, **settings: str) -> tuple[int, list[str]]:
    """Exit status and table of a reconcile at that time, in this process."""
    running, shown = world.worker(KEEP_DAYS="7", **settings), []
    running.buckets.wall = lambda: now
    options = parse_arguments(["reconcile", *arguments])
    return world.run(compare(running.buckets, running.leases.queue, options, Interruption(), shown.append)), shown


def row(shown: list[str], name: str) -> int:
    [found] = [line.split()[0] for line in shown[1:] if line.split()[1] == name]
    return int(found)


@pytest.mark.parametrize("changed", [0, DAY - 1], ids=["first second of the day", "last second of the day"])
def test_the_window_ends_at_midnight_utc(world: World, changed: int):
    """Seven days after the change, and on to the next midnight: the eighth after the day of it begins."""
    equal_before(world, "here", modified=MIDNIGHT + changed)
    world.put("there", modified=MIDNIGHT + changed)
    end = MIDNIGHT + 8 * DAY
    for now, expected in ((end - 1, ("missing",)), (end, ("expired", "unwanted"))):
        _, shown = at(world, now, "--dry-run")
        assert [name for name in ("missing", "stale", "expired", "unwanted") if row(shown, name)] == list(expected)


@pytest.mark.parametrize(("before", "copied"), [(1, True), (0, False)])
def test_a_worker_keeps_to_the_same_second(world: World, before: int, copied: bool):
    world.put("key", modified=MIDNIGHT + 3600)
    running = world.worker(KEEP_DAYS="7")
    running.buckets.wall = lambda: MIDNIGHT + 8 * DAY - before
    assert world.run(running.run()) == 0
    assert ("key" in world.mirrored()) is copied
    assert world.is_empty()


# Lifecycle


def test_what_lifecycle_took_in_time_is_expired_and_nobody_brings_it_back(world: World):
    equal_before(world, "old", modified=days_ago(9))
    world.standin.expire(MIRROR, "old")
    status, output = reconcile(world, KEEP_DAYS="7")
    assert (status, found(output), numbers(output)["expired"], queued(world)) == (0, {}, 1, [])
    assert "           1 expired " in output


def test_a_copy_that_lifecycle_took_early_is_missing_and_comes_back_once(world: World):
    """Of another clock, or by another rule: a worker does not fight it, the next reconcile brings it back."""
    equal_before(world, "new", modified=days_ago(3))
    world.standin.expire(MIRROR, "new")
    world.run_worker(KEEP_DAYS="7")
    assert world.mirrored() == {}
    _, output = reconcile(world, KEEP_DAYS="7")
    assert (examples(output), queued(world)) == ({("missing", "new")}, ["new"])
    world.run_worker(KEEP_DAYS="7")
    assert world.is_equal()
    assert world.requests()["CopyObject"] == 2  # the first is from before


def test_a_source_that_is_gone_makes_a_ghost_of_its_copy_however_old_that_is(world: World):
    equal_before(world, "old", modified=days_ago(9))
    world.standin.delete(SOURCE, "old")
    _, output = reconcile(world, KEEP_DAYS="7")
    assert (found(output), numbers(output)["unwanted"], queued(world)) == ({"ghost": 1}, 0, ["old"])


# Another value


@pytest.mark.parametrize(
    ("first", "then", "brought", "unwanted", "expired"),
    [
        ("7", "30", ["10 days"], 0, 1),
        ("30", "7", [], 1, 1),
        ("7", "", ["10 days", "40 days"], 0, 0),
        ("", "7", [], 2, 0),
    ],
)
def test_another_value_brings_what_is_inside_now_and_leaves_what_is_not(
    world: World, first: str, then: str, brought: list[str], unwanted: int, expired: int
):
    world.standin.configure_bucket(SOURCE, notification=None)
    for days in (3, 10, 40):
        world.put(f"{days} days", modified=days_ago(days))
    reconcile(world, KEEP_DAYS=first)
    world.run_worker(KEEP_DAYS=first)
    before = set(world.mirrored())
    status, output = reconcile(world, KEEP_DAYS=then)
    assert (status, sorted(queued(world))) == (0, brought)
    assert (numbers(output).get("unwanted", 0), numbers(output).get("expired", 0)) == (unwanted, expired)
    world.run_worker(KEEP_DAYS=then)
    assert set(world.mirrored()) == before | set(brought)
    if unwanted:
        assert removed(world, KEEP_DAYS=then) == unwanted
        assert list(world.mirrored()) == ["3 days"]
    assert found(reconcile(world, KEEP_DAYS=then)[1]) == {}


# What it costs, and what it never touches


def test_the_listings_tell_what_has_expired_without_a_look_at_each(world: World):
    keys = [f"old/{number}" for number in range(50)]
    equal_before(world, *keys, modified=days_ago(9))
    world.standin.put_many(SOURCE, [f"gone/{number}" for number in range(50)], modified=days_ago(9))
    before = world.requests()["HeadObject"]
    _, output = reconcile(world, KEEP_DAYS="7")
    assert (numbers(output)["unwanted"], numbers(output)["expired"]) == (50, 50)
    assert world.requests()["HeadObject"] == before


def test_an_expired_copy_of_another_tool_is_unwanted_also_to_a_deep_look(world: World):
    """A worker would not copy it again, so to call it stale would never end."""
    world.standin.configure_bucket(SOURCE, notification=None)
    world.put("old", modified=days_ago(9))
    world.standin.put(MIRROR, "old")
    status, output = reconcile(world, "--deep", KEEP_DAYS="7")
    assert (status, found(output), numbers(output)["unwanted"], queued(world)) == (0, {}, 1, [])


def test_an_audit_counts_it_raises_no_alarm_and_waits_for_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    equal_before(world, "old", "x.tmp", modified=days_ago(9))
    world.put("gone", modified=days_ago(9))
    monkeypatch.setattr("mirror.readers.reconcile.AUDIT_SETTLE_SECONDS", 0.1)
    with caplog.at_level("INFO", "worker"):
        status, shown = at(world, NOW, "--audit", "--deep", EXCLUDE="*.tmp")
    assert (status, row(shown, "unwanted"), row(shown, "expired")) == (0, 2, 1)
    assert "looked at again" not in caplog.text
    [audited] = [record for record in caplog.records if record.getMessage().startswith("audited ")]
    assert audited.levelname == "INFO"
    assert " found=0 " in audited.getMessage()


def test_what_is_outside_of_the_prefixes_is_neither_listed_nor_looked_at_nor_removed(world: World):
    inside = ["a/old", "a/x.tmp", "c/sub/old"]
    outside = ["a-b", "b/old", "b/x.tmp", "c/other", "c/x.tmp", "d"]
    equal_before(world, *inside, *outside, modified=days_ago(9))
    for key in ("b/ghost", "c/ghost", "ghost"):
        world.standin.put(MIRROR, key)
    before = set(world.mirrored())
    world.standin.record()
    settings = {"PREFIX_FILTER": "c/sub,a/", "EXCLUDE": "*.tmp", "KEEP_DAYS": "7"}
    assert removed(world, **settings) == 3
    assert set(world.mirrored()) == before - set(inside)
    assert queued(world) == []
    lists = {(entry["bucket"], entry["query"]["prefix"]) for entry in world.standin.requests("ListObjectsV2")}
    both = {(bucket, prefix) for bucket in (SOURCE, MIRROR) for prefix in ("a/", "c/sub/")}
    assert lists - {(SOURCE, ""), (MIRROR, "")} == {(SOURCE, "c/sub"), (MIRROR, "c/"), *both}
    looked_at = {entry["key"] for entry in world.standin.requests() if entry["key"]}
    assert looked_at == set(inside)


def test_events_are_taken_for_each_of_several_prefixes_and_for_no_other_key(world: World):
    for key in ("a/1", "b/1", "c/sub1", "c/other", "a/x.tmp"):
        world.put(key)
    world.run_worker(PREFIX_FILTER="a/,c/sub", EXCLUDE="*.tmp")
    assert sorted(world.mirrored()) == ["a/1", "c/sub1"]
    assert world.is_empty()


@pytest.mark.parametrize("copied_by", ["a worker", "another tool"])
def test_a_hint_on_an_expired_source_leaves_its_equal_copy_to_the_lifecycle(world: World, copied_by: str):
    equal_before(world, "old", modified=days_ago(9))
    if copied_by == "another tool":
        world.standin.put(MIRROR, "old")
    before = world.mirrored()
    world.standin.send(QUEUE, hint_body(SOURCE, ["old"]))
    world.run_worker(KEEP_DAYS="7")
    assert (world.mirrored(), world.is_empty()) == (before, True)
