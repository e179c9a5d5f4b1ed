"""worker.py reconcile and what the destination is not to hold: EXCLUDE, --remove-unwanted, its guard and its races."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from test_reconcile import examples, found, numbers, queued, reconcile, requests_of
from world import MIRROR, OURS, SOURCE, World, until, wait_until

import mirror.readers.reconcile
import worker
from mirror.cli import parse_arguments
from mirror.protocol.attempt import Interruption
from mirror.readers import listing, repairs
from mirror.readers.reconcile import reconcile as compare


@pytest.fixture
def excluded(world: World) -> World:
    """Three keys that are equal; two temporary ones in the destination of which the source has one; one only in the
    source; and one of somebody else's."""
    world.synced(*(f"data/{number}" for number in range(3)), modified=1_700_000_000)
    world.standin.configure_bucket(SOURCE, notification=None)
    for bucket, key in (
        (SOURCE, "data/a.tmp"),
        (MIRROR, "data/a.tmp"),
        (MIRROR, "data/x/b.tmp"),
        (SOURCE, "data/c.tmp"),
    ):
        world.standin.put(bucket, key, metadata=OURS)
    world.standin.put(MIRROR, "theirs/d.tmp")
    return world


SETTINGS = {"PREFIX_FILTER": "data/", "EXCLUDE": "*.tmp"}


def test_what_is_excluded_now_is_named_as_unwanted_and_is_no_difference(excluded: World):
    before = excluded.mirrored()
    status, output = reconcile(excluded, **SETTINGS)
    assert (status, found(output), queued(excluded)) == (0, {}, [])
    assert examples(output) == {("unwanted", "data/a.tmp"), ("unwanted", "data/x/b.tmp")}
    assert " queued=0 to_delete=0 expired=0 unwanted=2 kept=0 removed=0 seconds=" in output.splitlines()[-1]
    assert numbers(output)["compared"] == 3
    assert excluded.mirrored() == before


def test_without_exclude_and_keep_days_nothing_of_this_is_said(excluded: World):
    _, output = reconcile(excluded, "--dry-run", "--prefix", "data/")
    assert "expired" not in output
    assert "unwanted" not in output
    assert found(output) == {"missing": 1, "ghost": 1}


# Removal


def test_remove_unwanted_removes_just_that(excluded: World):
    status, output = reconcile(excluded, "--remove-unwanted", **SETTINGS)
    assert (status, found(output), queued(excluded)) == (0, {}, [])
    assert sorted(excluded.mirrored()) == ["data/0", "data/1", "data/2", "theirs/d.tmp"]
    assert (numbers(output)["unwanted"], numbers(output)["removed"]) == (2, 2)
    assert "           2 removed " in output
    for key in ("data/a.tmp", "data/x/b.tmp"):
        assert f'INFO removed key="{key}"' in output
    assert numbers(reconcile(excluded, "--remove-unwanted", **SETTINGS)[1])["unwanted"] == 0


def test_a_dry_run_only_counts(excluded: World):
    before = excluded.mirrored()
    status, output = reconcile(excluded, "--remove-unwanted", "--dry-run", **SETTINGS)
    assert (status, numbers(output)["unwanted"], numbers(output)["removed"]) == (0, 2, 0)
    assert excluded.mirrored() == before


@pytest.mark.parametrize(
    ("arguments", "kept", "stay"),
    [("--remove-unwanted", 2, True), ("--remove-foreign", 0, True), ("--remove-unwanted --remove-foreign", 0, False)],
)
def test_excluded_objects_of_others_are_no_difference_and_go_only_with_both_options(
    excluded: World, arguments: str, kept: int, stay: bool
):
    """One that the source has, too, may be a copy without a mark."""
    theirs = {"data/theirs/1.tmp", "data/theirs/2.tmp"}
    excluded.standin.put_many(MIRROR, [*theirs, "data/c.tmp"])
    status, output = reconcile(excluded, *arguments.split(), "--max-delete", "5", **SETTINGS)
    assert (status, found(output), numbers(output)["unwanted"], numbers(output)["kept"]) == (0, {}, 5, kept), output
    assert theirs & set(excluded.mirrored()) == (theirs if stay else set())
    assert ("data/c.tmp" in excluded.mirrored()) is ("--remove-unwanted" not in arguments)
    assert ("; 2 unwanted ones stay, because they are foreign" in output) is (kept > 0)


@pytest.mark.parametrize(("most", "status"), [("2", 3), ("3", 0)])
def test_ghosts_and_unwanted_together_are_what_the_guard_counts(excluded: World, most: str, status: int):
    excluded.standin.put(MIRROR, "data/ghost", metadata=OURS)
    before = excluded.mirrored()
    ended, output = reconcile(excluded, "--remove-unwanted", "--max-delete", most, **SETTINGS)
    assert ended == status, output
    if status:
        assert "raise --max-delete" in output
        assert (excluded.mirrored(), queued(excluded)) == (before, [])
    else:
        assert (numbers(output)["removed"], queued(excluded)) == (2, ["data/ghost"])


def test_too_many_unwanted_alone_are_refused_too(excluded: World):
    before = excluded.mirrored()
    assert reconcile(excluded, "--remove-unwanted", "--max-delete", "1", **SETTINGS)[0] == 3
    assert excluded.mirrored() == before


def test_an_audit_cannot_remove(excluded: World):
    status, output = reconcile(excluded, "--audit", "--remove-unwanted", **SETTINGS)
    assert status == 2
    assert "--remove-unwanted" in output
    assert "Traceback" not in output


def test_without_the_settings_it_says_that_nothing_can_be_unwanted_and_goes_on(excluded: World):
    status, output = reconcile(excluded, "--remove-unwanted", "--prefix", "data/")
    assert status == 0, output
    assert "nothing can be unwanted" in output
    assert " removed=0 " in output
    assert sorted(queued(excluded)) == ["data/c.tmp", "data/x/b.tmp"]


def test_what_is_excluded_is_removed_also_if_its_source_cannot_be_read(excluded: World):
    excluded.standin.fault("HeadObject,GetObject", "error", bucket=SOURCE, status=403, code="AccessDenied", times=0)
    status, output = reconcile(excluded, "--remove-unwanted", **SETTINGS)
    assert (status, numbers(output)["removed"]) == (0, 2), output


# What happens between the look and the delete, and before


def remove_here(world: World, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], None], when: str) -> list[str]:
    """What a removal shows, in this process; once, `meanwhile` is called before the first call of what `when` names in
    mirror/readers/repairs.py."""
    called, first = getattr(repairs, when), []

    async def call(*arguments: Any, **named: Any) -> Any:
        if not first:
            first.append(True)
            await asyncio.to_thread(meanwhile)
        return await called(*arguments, **named)

    monkeypatch.setattr(repairs, when, call)
    running, shown = world.worker(KEEP_DAYS="7"), []
    options = parse_arguments(["reconcile", "--remove-unwanted"])
    status = world.run(compare(running.buckets, running.leases.queue, options, Interruption(), shown.append))
    assert status == 0
    assert first
    return shown


def tells(shown: list[str], what: str) -> int:
    [number] = [int(line.split()[0]) for line in shown[1:] if line.split()[1] == what]
    return number


@pytest.fixture
def expired(world: World) -> World:
    """One key that KEEP_DAYS=7 keeps no longer, equal in both buckets."""
    return world.synced("old", modified=int(time.time()) - 9 * 86_400)


WHEN = ["look_at", "delete_object"]


@pytest.mark.parametrize("when", WHEN)
def test_a_source_that_is_touched_and_copied_meanwhile_keeps_its_copy(expired: World, monkeypatch, when: str):
    def touch() -> None:
        expired.put("old", 2048)
        expired.run_worker(KEEP_DAYS="7")

    shown = remove_here(expired, monkeypatch, touch, when)
    assert (tells(shown, "unwanted"), tells(shown, "removed")) == (0, 0)
    assert not any("unwanted" in line for line in shown if '"' in line)
    assert expired.is_equal()


@pytest.mark.parametrize("when", WHEN)
def test_a_source_that_is_touched_and_not_copied_yet_comes_back_by_its_event(expired: World, monkeypatch, when: str):
    shown = remove_here(expired, monkeypatch, lambda: expired.put("old", 2048) and None, when)
    assert tells(shown, "stale") == (1 if when == "look_at" else 0)
    assert tells(shown, "removed") == (0 if when == "look_at" else 1)
    expired.run_worker(KEEP_DAYS="7")
    assert expired.is_equal()


@pytest.mark.parametrize("when", WHEN)
def test_a_copy_that_is_replaced_meanwhile_stays(expired: World, monkeypatch, when: str):
    expired.standin.configure_bucket(SOURCE, notification=None)
    shown = remove_here(expired, monkeypatch, lambda: expired.standin.put(MIRROR, "old", 3) and None, when)
    assert expired.mirrored()["old"]["size"] == 3
    assert (tells(shown, "unwanted"), tells(shown, "removed")) == (0, 0)
    assert tells(shown, "stale") == (1 if when == "look_at" else 0)


@pytest.mark.parametrize("when", WHEN)
def test_a_copy_that_lifecycle_takes_meanwhile_was_not_removed_here(expired: World, monkeypatch, when: str):
    shown = remove_here(expired, monkeypatch, lambda: expired.standin.expire(MIRROR, "old"), when)
    assert [tells(shown, name) for name in ("missing", "unwanted", "removed", "queued")] == [0, 0, 0, 0]


@pytest.mark.parametrize("when", WHEN)
def test_a_source_that_is_deleted_meanwhile_loses_its_copy_either_way(expired: World, monkeypatch, when: str):
    shown = remove_here(expired, monkeypatch, lambda: expired.standin.delete(SOURCE, "old"), when)
    assert tells(shown, "ghost") + tells(shown, "removed") == 1
    expired.run_worker(KEEP_DAYS="7")
    assert (expired.mirrored(), expired.is_empty()) == ({}, True)


# What goes wrong


@pytest.mark.parametrize("fault", [{"kind": "error", "status": 503, "code": "SlowDown", "times": 5}, {"kind": "lost"}])
@pytest.mark.parametrize("client", ["crt", "boto3"])
def test_s3_being_busy_is_waited_for_and_a_lost_answer_is_found_out(excluded: World, fault, client: str):
    excluded.standin.fault("DeleteObject", **fault)
    status, output = reconcile(excluded, "--remove-unwanted", **SETTINGS, S3_CLIENT=client)
    assert (status, numbers(output)["unwanted"], numbers(output)["removed"]) == (0, 2, 2), output
    assert output.count("INFO removed key=") == 2


@pytest.mark.parametrize(("status_of_it", "code"), [(403, "AccessDenied"), (501, "NotImplemented")])
def test_a_key_that_cannot_be_removed_is_named_and_the_others_go(excluded: World, status_of_it: int, code: str):
    """Also where the condition is what S3 does not take: nothing is removed without one."""
    excluded.standin.record()
    excluded.standin.fault("DeleteObject", "error", key="^data/a.tmp$", status=status_of_it, code=code, times=0)
    status, output = reconcile(excluded, "--remove-unwanted", **SETTINGS)
    assert (status, found(output)) == (1, {"unreadable": 1})
    assert (numbers(output)["unwanted"], numbers(output)["removed"]) == (2, 1)
    assert f'cannot remove key="data/a.tmp" operation=DeleteObject error={code}' in output
    assert all("if-match" in entry["headers"] for entry in excluded.standin.requests("DeleteObject"))
    assert "data/a.tmp" in excluded.mirrored()


def test_credentials_that_ended_stop_the_removal_and_what_was_removed_is_told(excluded: World):
    excluded.standin.fault("DeleteObject", "error", status=400, code="ExpiredToken", skip=1, times=0)
    status, output = reconcile(excluded, "--remove-unwanted", **SETTINGS, MAX_CONCURRENT_KEYS="1")
    assert (status, numbers(output)["removed"]) == (3, 1)
    assert "operation=DeleteObject error=ExpiredToken" in output
    assert "cannot remove" not in output
    excluded.standin.clear_faults()
    assert numbers(reconcile(excluded, "--remove-unwanted", **SETTINGS)[1])["removed"] == 1


@pytest.mark.parametrize("bucket", [SOURCE, MIRROR])
def test_nothing_is_removed_before_both_buckets_are_listed(excluded: World, bucket: str):
    before = excluded.mirrored()
    excluded.standin.fault("ListObjectsV2", "error", bucket=bucket, status=403, code="AccessDenied", times=0)
    status, output = reconcile(excluded, "--remove-unwanted", **SETTINGS)
    assert (status, numbers(output)["removed"]) == (3, 0)
    assert "were removed by then" not in output
    assert excluded.mirrored() == before


def test_a_signal_ends_it_soon_and_the_next_run_removes_the_rest(world: World):
    world.standin.put_many(MIRROR, [f"{number}.tmp" for number in range(100)], metadata=OURS)
    world.standin.fault("DeleteObject", "delay", seconds=0.2, times=0)
    command = [sys.executable, worker.__file__, "reconcile", "--remove-unwanted"]
    environment = world.environment(EXCLUDE="*.tmp", MAX_CONCURRENT_KEYS="2")
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    world.processes.append(process)
    wait_until(lambda: world.requests().get("DeleteObject"))
    output = world.stop_worker(process)
    assert process.returncode == 3
    assert "safe to run it again: SIGTERM" in output
    gone = 100 - len(world.mirrored())
    assert numbers(output)["removed"] == gone == output.count(" removed key=")
    assert f"ERROR {gone} of 100 unwanted objects were removed by then" in output
    assert 0 < gone < 50
    world.standin.clear_faults()
    assert numbers(reconcile(world, "--remove-unwanted", EXCLUDE="*.tmp")[1])["removed"] == 100 - gone
    assert world.mirrored() == {}


def test_a_signal_ends_also_a_pause_for_s3(excluded: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(listing, "BUSY_PAUSES", (3600,))
    monkeypatch.setattr(mirror.readers.reconcile, "STOP_SECONDS", 3600)
    excluded.standin.fault("DeleteObject", "error", status=503, code="SlowDown", times=0)
    running, interruption = excluded.worker(**SETTINGS), Interruption()
    options = parse_arguments(["reconcile", "--remove-unwanted"])

    async def interrupted() -> int:
        task = asyncio.create_task(compare(running.buckets, running.leases.queue, options, interruption))
        await until(lambda: excluded.requests().get("DeleteObject") == 2)
        interruption.set()
        return await asyncio.wait_for(task, 60)

    assert excluded.run(interrupted()) == 3


# Many


def test_ten_thousand_go_with_two_looks_and_one_delete_each(world: World):
    """Of what is excluded, both are in the destination: whether it is foreign, and right before it is deleted. Of what
    has expired, one is in the source."""
    old = int(time.time()) - 9 * 86_400
    world.standin.configure_bucket(SOURCE, notification=None)
    world.standin.put_many(MIRROR, [f"x/{number}.tmp" for number in range(8000)], metadata=OURS)
    world.standin.put_many(SOURCE, [f"x/{number}" for number in range(2000)], modified=old)
    world.standin.put_many(MIRROR, [f"x/{number}" for number in range(2000)])
    output = ""

    def run() -> None:
        nonlocal output
        _, output = reconcile(world, "--remove-unwanted", "--max-delete", "10000", EXCLUDE="*.tmp", KEEP_DAYS="7")

    made = requests_of(world, run)
    assert (numbers(output)["removed"], world.mirrored()) == (10_000, {})
    assert (made["HeadObject"], made["DeleteObject"]) == (2 * 10_000, 10_000)
    assert made["ListObjectsV2"] < 20
