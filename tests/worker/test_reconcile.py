"""worker.py reconcile against the stand-in: what it finds, what it puts on the queue, and what makes it stop."""

import json
import os
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote_plus

import pytest
from botocore.exceptions import ClientError
from standin import Standin
from world import MIRROR, OURS, QUEUE, SOURCE, WORKER, World

import worker
from mirror.aws.crt_s3 import CrtS3
from mirror.cli import parse_arguments
from mirror.protocol.attempt import Interruption
from mirror.queue.bodies import hint_body
from mirror.readers import listing
from mirror.readers.key_table import KeyTable
from mirror.readers.listing import look_at
from mirror.readers.reconcile import DIFFERENCES, MAX_DELETE, Compared, Reconciliation
from mirror.readers.reconcile import reconcile as compare

SUMMARY = re.compile(r" reconciled end=(\w+) status=(\d) (.*)")
KEYS = int(os.environ.get("RECONCILE_KEYS", "100000"))  # of the test of memory
REPORT = ("reconcile", "--dry-run", "--report")
MEMORY_MIB = 60  # that 1,000,000 keys may take above what a run on few keys takes


def reconcile(world: World, *arguments: str, **settings: str) -> tuple[int, str]:
    """(exit status, output) of the command."""
    return command_of(world, "reconcile", *arguments, **settings)


def command_of(world: World, *arguments: str, **settings: str) -> tuple[int, str]:
    process = world.start(WORKER, *arguments, **settings)
    output, _ = process.communicate()
    assert "Traceback" not in output, output
    return process.returncode, output


def numbers(output: str) -> dict[str, float]:
    """The numbers of the summary, which has to be the last line."""
    summary = SUMMARY.search(output.splitlines()[-1])
    assert summary, output
    return {name: float(number) for name, number in (pair.split("=") for pair in summary[3].split())}


def found(output: str) -> dict[str, int]:
    return {name: int(numbers(output)[name]) for name in DIFFERENCES if numbers(output)[name]}


def examples(output: str) -> set[tuple[str, str]]:
    lines = (line.split(maxsplit=1) for line in output.splitlines() if re.match(r"  [a-z]+ \"", line))
    return {(what, json.loads(key)) for what, key in lines}


def queued(world: World) -> list[str]:
    """The keys that messages in the queue ask to look at, in order."""
    bodies = [json.loads(message["body"]) for message in world.standin.messages(QUEUE)]
    for body in bodies:
        assert {record["eventName"] for record in body["Records"]} in ({"Look"}, {"Missing"}, {"Compare"})
    return [unquote_plus(record["s3"]["object"]["key"]) for body in bodies for record in body["Records"]]


@pytest.fixture
def synced(world: World) -> World:
    """Both buckets equal by the worker's own doing, ten minutes ago, and no events from now on."""
    world.synced(*(f"data/{number % 4}/{number}" for number in range(40)), modified=1_700_000_000)
    world.standin.configure_bucket(SOURCE, notification=None)
    return world


def plant(world: World) -> set[tuple[str, str]]:
    """One difference of each kind, and what reconcile has to say of them."""
    world.put("data/new key +&%€")
    world.put("data/1/1", 1024, modified=4_000_000_000)
    world.put("data/2/2", 2048)
    world.standin.change(SOURCE, "data/3/3", headers={"x-amz-meta-colour": "blue"}, modified=4_000_000_000)
    world.standin.delete(SOURCE, "data/0/0")
    return {
        ("missing", "data/new key +&%€"),
        ("stale", "data/1/1"),
        ("stale", "data/2/2"),
        ("stale", "data/3/3"),
        ("ghost", "data/0/0"),
    }


# What it finds


DIFFERENCE = re.compile(r" INFO difference number=(\d+) what=(\w+) key=(.*)")


def test_a_report_names_each_difference_in_a_numbered_line_up_to_a_number(synced: World):
    planted = plant(synced)
    process = synced.start(f"from mirror.readers import repairs; repairs.MOST_REPORTED = 4\n{WORKER}", *REPORT)
    output, _ = process.communicate()
    lines = DIFFERENCE.findall(output)
    assert [int(number) for number, _, _ in lines] == [1, 2, 3, 4]
    reported = {(what, json.loads(key)) for _, what, key in lines}
    assert len(reported) == 4 and reported <= planted
    assert (process.returncode, numbers(output)["differences"], numbers(output)["reported"]) == (1, 5, 4)


def test_equal_buckets_end_with_0_and_put_nothing_on_the_queue(synced: World):
    status, output = reconcile(synced)
    assert (status, found(output), queued(synced)) == (0, {}, [])
    assert numbers(output)["compared"] == 40


def test_an_audit_names_exactly_what_differs_and_changes_nothing(synced: World):
    planted, before = plant(synced), synced.mirrored()
    status, output = reconcile(synced, "--dry-run")
    assert status == 1
    assert examples(output) == planted
    assert found(output) == {"missing": 1, "stale": 3, "ghost": 1}
    assert queued(synced) == []
    assert synced.mirrored() == before


def test_a_repair_mends_all_of_it_and_the_next_audit_is_clean(synced: World):
    planted = plant(synced)
    status, output = reconcile(synced)
    assert status == 0, output
    assert sorted(queued(synced)) == sorted(key for _, key in planted)
    synced.run_worker()
    assert synced.is_equal()
    assert reconcile(synced, "--dry-run")[0] == 0
    assert reconcile(synced, "--dry-run", "--deep")[0] == 0


def test_objects_from_before_the_deployment_are_all_copied_once(world: World):
    world.standin.configure_bucket(SOURCE, notification=None)
    keys = [f"old/{number:04d}" for number in range(1234)]
    world.standin.put_many(SOURCE, keys)
    status, output = reconcile(world)
    assert (status, found(output)) == (0, {"missing": 1234})
    assert Counter(queued(world)) == Counter(keys)
    assert all(len(json.loads(m["body"])["Records"]) <= 8 for m in world.standin.messages(QUEUE))
    assert {message["group"] for message in world.standin.messages(QUEUE)} == {"reconcile"}
    world.run_worker()
    assert world.is_equal()
    assert world.requests()["CopyObject"] == 1234


def test_a_file_of_a_tables_log_has_a_message_of_its_own(world: World):
    world.standin.configure_bucket(SOURCE, notification=None)
    world.standin.put_many(SOURCE, ["t/a", "t/b", *(f"t/_delta_log/{version:020}.json" for version in range(3))])
    assert reconcile(world, TABLES="delta")[0] == 0
    messages = [json.loads(message["body"])["Records"] for message in world.standin.messages(QUEUE)]
    assert sorted(map(len, messages)) == [1, 1, 1, 2]


def requests_of(world: World, act: Callable[[], object]) -> Counter[str]:
    before = Counter(world.requests())
    act()
    return Counter(world.requests()) - before


def test_a_missing_key_is_copied_without_a_look_at_the_destination(world: World):
    """Two HeadObject for each: of the source before and after the copy."""
    world.standin.configure_bucket(SOURCE, notification=None)
    world.standin.put_many(SOURCE, [f"old/{number}" for number in range(100)])
    assert reconcile(world)[0] == 0
    made = requests_of(world, world.run_worker)
    assert (made["HeadObject"], made["CopyObject"]) == (200, 100)
    assert world.is_equal()


def test_a_stale_key_is_looked_at_in_the_destination_first(synced: World):
    synced.put("data/1/1", 2048)
    assert reconcile(synced)[0] == 0
    made = requests_of(synced, synced.run_worker)
    assert (made["HeadObject"], made["CopyObject"]) == (3, 1)
    assert synced.is_equal()


@pytest.mark.parametrize("meanwhile", ["copied", "deleted", "copied as an older version"])
def test_a_key_that_is_not_missing_any_more_when_its_message_comes_ends_right(synced: World, meanwhile: str):
    synced.put("data/new")
    assert reconcile(synced)[0] == 0
    if meanwhile == "deleted":
        synced.standin.delete(SOURCE, "data/new")
    else:
        synced.run_worker()
        synced.standin.send(QUEUE, hint_body(SOURCE, ["data/new"], are_missing=True))
    if meanwhile == "copied as an older version":
        synced.put("data/new", 2048)
    synced.run_worker()
    assert synced.is_equal()
    assert synced.is_empty()


def test_only_the_deep_look_finds_a_change_that_sizes_and_times_hide(synced: World):
    synced.standin.change(SOURCE, "data/1/5", headers={"x-amz-meta-colour": "blue"})
    assert reconcile(synced, "--dry-run")[0] == 0
    status, output = reconcile(synced, "--dry-run", "--deep")
    assert (status, examples(output)) == (1, {("stale", "data/1/5")})


def test_an_object_that_another_tool_copied_is_judged_by_size_and_time_unless_deep(world: World):
    world.put("theirs", 10, modified=1_700_000_000)
    world.standin.put(MIRROR, "theirs", 10)
    assert reconcile(world, "--dry-run")[0] == 0
    status, output = reconcile(world, "--dry-run", "--deep")
    assert (status, examples(output)) == (1, {("stale", "theirs")})


def test_an_archived_object_is_told_and_neither_counted_nor_queued(synced: World):
    synced.put("data/cold", storage_class="DEEP_ARCHIVE")
    status, output = reconcile(synced)
    assert (status, examples(output), queued(synced)) == (0, {("archived", "data/cold")}, [])


def test_a_key_that_cannot_be_looked_at_is_named_and_the_others_are_queued(synced: World):
    plant(synced)
    synced.standin.fault("HeadObject", "error", key="^data/1/1$", status=400, code="400", times=0)
    status, output = reconcile(synced)
    assert (status, found(output)) == (1, {"missing": 1, "stale": 2, "ghost": 1, "unreadable": 1})
    assert "data/1/1" not in queued(synced)
    assert len(queued(synced)) == 4


@pytest.mark.parametrize("bucket", [SOURCE, MIRROR])
@pytest.mark.parametrize("command", ["reconcile", "wait", "measure"])
def test_an_empty_answer_to_a_listing_is_no_end_of_it(synced: World, command: str, bucket: str):
    plant(synced)
    synced.standin.fault("ListObjectsV2", "empty_200", bucket=bucket, times=0)
    status, output = command_of(synced, command)
    assert (status, "end=stopped" in output) == (3, True)
    assert f"{command} stopped, " in output
    assert "it is safe to run it again: error=Unfinished" in output
    assert queued(synced) == []


def test_credentials_that_are_refused_stop_it_instead_of_making_every_key_unreadable(synced: World):
    plant(synced)
    synced.standin.fault("HeadObject,GetObject", "error", status=400, code="ExpiredToken", times=0)
    status, output = reconcile(synced)
    assert status == 3
    assert "operation=HeadObject error=ExpiredToken" in output
    assert "cannot look at key" not in output


def test_s3_being_busy_is_waited_for(synced: World):
    plant(synced)
    synced.standin.fault("HeadObject", "error", status=503, code="SlowDown", times=8)
    synced.standin.fault("HeadObject", "reset", times=2)
    status, output = reconcile(synced, "--dry-run")
    assert (status, found(output)) == (1, {"missing": 1, "stale": 3, "ghost": 1})


@pytest.mark.parametrize("prefix", ["data/1/", "data/1", "data/1/1"])
def test_a_prefix_limits_both_sides_also_where_it_does_not_end_in_a_slash(synced: World, prefix: str):
    planted = plant(synced)
    synced.standin.put(MIRROR, "data/1/1x", metadata=OURS)
    synced.standin.put(MIRROR, "data/10", metadata=OURS)
    wanted = planted | {("ghost", "data/1/1x"), ("ghost", "data/10")}
    _, output = reconcile(synced, "--dry-run", "--prefix", prefix)
    assert examples(output) == {(what, key) for what, key in wanted if key.startswith(prefix)}


def test_without_a_prefix_the_prefix_filter_is_the_limit(synced: World):
    plant(synced)
    synced.standin.put(MIRROR, "other/ghost")
    _, output = reconcile(synced, "--dry-run", PREFIX_FILTER="data/1/")
    assert examples(output) == {("stale", "data/1/1")}


# What the sync did not write


FOREIGN = [f"data/theirs/{number}" for number in range(5)]


@pytest.mark.parametrize(
    ("arguments", "status", "deleted"),
    [
        ("", 1, "0 deleted by this command, 1 to be deleted by workers"),
        ("--remove-unwanted", 1, "0 deleted by this command, 1 to be deleted by workers"),
        ("--dry-run --remove-foreign", 1, "a dry run: nothing is deleted or put on the queue"),
        ("--remove-foreign", 0, "5 deleted by this command, 1 to be deleted by workers"),
        ("--remove-foreign --max-delete 5", 3, "0 deleted by this command, 0 to be deleted by workers"),
    ],
)
def test_objects_of_others_are_named_and_stay_unless_told_otherwise(
    synced: World, arguments: str, status: int, deleted: str
):
    synced.standin.delete(SOURCE, "data/0/0")
    synced.standin.put_many(MIRROR, FOREIGN)
    ended, output = reconcile(synced, *arguments.split())
    assert (ended, found(output)) == (status, {"ghost": 1, "foreign": 5}), output
    assert examples(output) == {("ghost", "data/0/0"), *(("foreign", key) for key in FOREIGN)}
    assert deleted in output.splitlines()
    are_queued = status != 3 and "--dry-run" not in arguments
    assert queued(synced) == (["data/0/0"] if are_queued else [])
    assert set(FOREIGN) & set(synced.mirrored()) == (set(FOREIGN) if status else set())
    assert (numbers(output)["to_delete"], numbers(output)["removed"]) == (int(are_queued), 0 if status else 5)


def test_a_copy_without_a_mark_is_foreign_once_the_source_has_lost_it(synced: World):
    """Its metadata cannot be sent back. An event deletes it, but reconcile cannot know whose it is."""
    synced.put("data/opaque", missing_meta=1)
    synced.standin.send(QUEUE, hint_body(SOURCE, ["data/opaque"]))
    synced.run_worker()
    assert reconcile(synced)[0] == 0
    synced.standin.delete(SOURCE, "data/opaque")
    status, output = reconcile(synced)
    assert (status, examples(output), queued(synced)) == (1, {("foreign", "data/opaque")}, [])
    assert "After events were lost, look at them" in output
    synced.standin.send(QUEUE, hint_body(SOURCE, ["data/opaque"]))
    synced.run_worker()
    assert synced.is_equal()


# Checksums


@pytest.mark.parametrize("client", ["crt", "boto3"])
def test_a_copy_that_others_have_changed_is_found_by_its_checksum_and_copied_again(synced: World, client: str):
    """It has the same size, and says what it was copied from."""
    written = synced.mirrored()["data/1/1"]["metadata"]
    synced.standin.put(MIRROR, "data/1/1", metadata=written)
    status, output = reconcile(synced, S3_CLIENT=client)
    assert (status, found(output), queued(synced)) == (0, {}, [])
    status, output = reconcile(synced, "--deep", S3_CLIENT=client)
    assert (status, examples(output), queued(synced)) == (0, {("corrupt", "data/1/1")}, ["data/1/1"])
    assert (numbers(output)["checked"], numbers(output)["unchecked"]) == (40, 0)
    synced.run_worker(S3_CLIENT=client)
    assert synced.is_equal()
    assert found(reconcile(synced, "--deep", S3_CLIENT=client)[1]) == {}


def test_copies_of_other_tools_are_equal_if_their_checksums_are(synced: World):
    """Checksums of parts, none, or of two algorithms say nothing: without a provenance, such a copy is stale."""
    s3, data = synced.worker().buckets.s3, "aGVsbG8="
    for key in ("copied", "uploaded", "in parts", "old", "other bytes", "other algorithm"):
        synced.put(key, data=data, modified=1_700_000_000)
    synced.run(s3.copy_object(Bucket=MIRROR, Key="copied", CopySource={"Bucket": SOURCE, "Key": "copied"}))
    synced.standin.put(MIRROR, "uploaded", data=data)
    synced.standin.put(MIRROR, "in parts", data=data, checksum="crc32 AAAAAA==-2", checksum_type="COMPOSITE")
    synced.standin.put(MIRROR, "old", data=data, checksum="none")
    synced.standin.put(MIRROR, "other bytes", data="d29ybGQ=")
    synced.standin.put(MIRROR, "other algorithm", data=data, checksum="crc32 NhCmhg==")
    assert found(reconcile(synced)[1]) == {}
    status, output = reconcile(synced, "--deep")
    stale = {"in parts", "old", "other bytes", "other algorithm"}
    assert (status, examples(output), {*queued(synced)}) == (0, {("stale", key) for key in stale}, stale)
    assert (numbers(output)["checked"], numbers(output)["unchecked"]) == (43, 3)


@pytest.mark.parametrize("client", ["crt", "boto3"])
def test_checksums_that_s3_does_not_show_are_left_out_and_that_is_said_once(synced: World, client: str):
    """An object with SSE-KMS, whose key the task may not use (S3 API Reference, HeadObject)."""
    synced.standin.configure_bucket(MIRROR, checksum_permission=False)
    before = synced.requests()["HeadObject"]
    status, output = reconcile(synced, "--deep", S3_CLIENT=client)
    assert (status, found(output), numbers(output)["unchecked"]) == (0, {}, 40)
    assert output.count(f"WARNING {MIRROR} does not show the checksum of key=") == output.count("kms:Decrypt") == 1
    assert synced.requests()["HeadObject"] - before == 40 * 3


# What workers do meanwhile


def run_here(world: World, *arguments: str) -> tuple[int, Reconciliation]:
    """The command in this process, where a test can act between its steps."""
    options, running = parse_arguments(["reconcile", *arguments]), world.worker()
    run = Reconciliation(running.buckets, running.leases.queue, ("",), options, Interruption())
    return world.run(run.run()), run


def between_listings_and_looks(monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]) -> None:
    take, changes = Reconciliation.take, [change]

    async def change_and_take(self: Reconciliation, part: Compared) -> None:
        if part.missing or part.suspects or part.ghosts:
            while changes:
                changes.pop()()
        await take(self, part)

    monkeypatch.setattr(Reconciliation, "take", change_and_take)


def test_a_key_that_is_copied_after_the_listings_is_no_difference(synced: World, monkeypatch: pytest.MonkeyPatch):
    def copy() -> None:
        synced.standin.send(QUEUE, hint_body(SOURCE, ["data/late", "data/1/1"]))
        synced.run_worker()

    synced.put("data/late")
    synced.put("data/1/1", 99)
    between_listings_and_looks(monkeypatch, copy)
    status, run = run_here(synced, "--dry-run")
    assert (status, run.counts["missing"], run.counts["stale"]) == (0, 0, 0)


def test_a_key_that_is_made_after_the_source_was_listed_is_no_ghost(synced: World, monkeypatch: pytest.MonkeyPatch):
    synced.standin.delete(SOURCE, "data/0/0")
    between_listings_and_looks(monkeypatch, lambda: synced.put("data/0/0"))
    _, run = run_here(synced)
    assert run.counts["ghost"] == 0
    synced.run_worker()
    assert synced.is_equal()


def test_a_key_that_vanished_on_both_sides_is_no_difference(synced: World):
    buckets = synced.worker().buckets
    assert synced.run(look_at(buckets, "data/never", deep=False))[1].row == ""


# What makes it stop


@pytest.mark.parametrize("bucket", [SOURCE, MIRROR])
@pytest.mark.parametrize("skip", [0, 1, 2])
def test_nothing_is_deleted_where_a_listing_fails_midway(world: World, bucket: str, skip: int):
    keys = [f"k/{number:05d}" for number in range(2500)]
    world.standin.configure_bucket(SOURCE, notification=None)
    world.standin.put_many(SOURCE, keys)
    world.standin.put_many(MIRROR, [*keys, "k/ghost"], metadata=OURS)
    world.standin.fault("ListObjectsV2", "error", bucket=bucket, skip=skip, times=0, status=403, code="AccessDenied")
    status, output = reconcile(world)
    assert status == 3, output
    assert "AccessDenied" in output
    assert queued(world) == []


@pytest.mark.parametrize(("busy", "ended"), [(2, (0, 5)), (1000, (3, 0))])
def test_a_storm_of_503_is_waited_through_or_ends_it(
    synced: World, monkeypatch: pytest.MonkeyPatch, busy: int, ended: tuple[int, int]
):
    """The client has tried a few times by then."""
    plant(synced)
    list_page, storm = CrtS3.list_objects_v2, [ClientError({"Error": {"Code": "SlowDown"}}, "ListObjectsV2")] * busy

    async def stormy(self: CrtS3, **parameters: object) -> object:
        if storm:
            raise storm.pop()
        return await list_page(self, **parameters)

    monkeypatch.setattr(CrtS3, "list_objects_v2", stormy)
    monkeypatch.setattr(listing, "BUSY_PAUSES", (0.01, 0.01))
    status, _ = run_here(synced)
    assert (status, len(queued(synced))) == ended


def test_a_signal_between_two_pages_ends_it_and_nothing_is_deleted(world: World, monkeypatch: pytest.MonkeyPatch):
    world.standin.configure_bucket(SOURCE, notification=None)
    for bucket, names in ((SOURCE, "k/{}"), (MIRROR, "k/ghost-{}")):
        world.standin.put_many(bucket, [names.format(number) for number in range(2500)], metadata=OURS)
    running, interruption, pages = world.worker(), Interruption(), []
    list_page = running.buckets.s3.list_objects_v2

    async def signalled(**parameters: object) -> object:
        pages.append(parameters)
        if len(pages) == 4:
            interruption.set()
        return await list_page(**parameters)

    monkeypatch.setattr(running.buckets.s3, "list_objects_v2", signalled)
    options = parse_arguments(["reconcile", "--max-delete", "10000"])
    assert world.run(compare(running.buckets, running.leases.queue, options, interruption)) == 3
    assert len(pages) == 4
    assert queued(world) == []


@pytest.mark.parametrize("command", ["reconcile", "wait", "measure"])
def test_what_needs_more_memory_than_the_task_has_is_refused_before_the_task_is_killed(synced: World, command: str):
    plant(synced)
    status, output = command_of(synced, command, TASK_MEMORY="1")
    assert status == 3
    assert "MiB of 1 are used" in output
    assert "raise TASK_MEMORY" in output
    assert queued(synced) == []


SHOWS_SHARE = """
import worker
from mirror.log_writer import writer
def run_processes(count, run, signals):
    writer.start()
    print(count, run.args[0].task_memory, flush=True)
    return 0, None
worker.run_processes = run_processes
worker.leave(worker.main())
"""


@pytest.mark.parametrize(("command", "share"), [([], "2 2048"), (["reconcile"], "1 4096")])
def test_each_process_has_its_share_of_the_memory(world: World, command: list[str], share: str):
    """The markers of two processes may wait for large folders at the same time."""
    process = world.start(SHOWS_SHARE, *command, PROCESSES="2", TASK_MEMORY="4096")
    output, _ = process.communicate()
    assert (process.returncode, share in output.splitlines()) == (0, True), output


def test_nothing_is_deleted_where_the_source_bucket_is_gone(synced: World):
    synced.standin.delete_bucket(SOURCE)
    status, output = reconcile(synced)
    assert status == 3
    assert "NoSuchBucket" in output
    assert queued(synced) == []


def test_nothing_is_deleted_where_more_would_be_than_the_guard_allows(synced: World):
    synced.standin.put(MIRROR, "ghost", metadata=OURS)
    for number in range(2):
        synced.standin.delete(SOURCE, f"data/0/{4 * number}")
    status, output = reconcile(synced, "--max-delete", "2")
    assert status == 3
    assert "--max-delete" in output
    assert queued(synced) == []
    assert reconcile(synced, "--max-delete", "3")[0] == 0
    assert len(queued(synced)) == 3


def test_a_source_that_was_emptied_stops_at_the_default_guard(world: World):
    world.standin.put_many(MIRROR, [f"k/{number}" for number in range(MAX_DELETE + 1)], metadata=OURS)
    assert reconcile(world)[0] == 3
    assert queued(world) == []
    assert reconcile(world, "--dry-run")[0] == 1


def test_an_interrupted_run_says_so_and_the_next_one_finds_all(synced: World):
    plant(synced)
    options = parse_arguments(["reconcile"])
    running, interruption = synced.worker(), Interruption()
    interruption.set()
    assert synced.run(compare(running.buckets, running.leases.queue, options, interruption)) == 3
    assert queued(synced) == []
    assert reconcile(synced)[0] == 0
    assert len(queued(synced)) == 5


@pytest.mark.parametrize(
    "arguments", [["--max-delete", "-1"], ["--max-delete", "many"], ["--wrong"], ["--prefix", "elsewhere/"]]
)
def test_a_wrong_argument_ends_with_2_and_reads_nothing(synced: World, arguments: list[str]):
    before = synced.requests()["ListObjectsV2"]
    status, output = reconcile(synced, *arguments, PREFIX_FILTER="data/")
    assert status == 2
    assert arguments[-1] in output
    assert "Traceback" not in output
    assert synced.requests()["ListObjectsV2"] == before


# Many keys


def test_the_table_gives_back_what_was_put_in():
    table, wanted = KeyTable(str, str), {}
    chosen = random.Random(6)
    for _ in range(20_000):
        key = "k/\u00fc" * chosen.randrange(3) + str(chosen.randrange(5000))
        if chosen.random() < 0.6:
            wanted[key] = str(chosen.randrange(2**45))
            table.put(key, wanted[key])
        else:
            assert table.take(key) == wanted.pop(key, None)
    assert table.packed
    left = list(table.take_all())
    assert len(left) == len(wanted)
    assert dict(left) == wanted
    assert (table.packed, list(table.take_all())) == (0, [])


# In a process of its own: prints the peak of its memory in MiB behind what reconcile prints.
MEASURED = """
import os, re, sys
from pathlib import Path
import worker
from mirror.log_writer import writer
status = worker.main()
writer.drain()
print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024, flush=True)
os._exit(status)
"""


def measure(world: World) -> tuple[str, int]:
    """(output, peak memory in MiB) of an audit."""
    environment = world.environment() | {"PYTHONPATH": str(Path(worker.__file__).parent)}
    command = [sys.executable, "-c", MEASURED, "reconcile", "--dry-run"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=3000)
    assert done.returncode == 1, done.stdout + done.stderr
    output, _, peak = done.stdout.strip().rpartition("\n")
    return output, int(peak)


def test_many_keys_are_compared_in_bounded_memory(standin: Standin, world: World):
    world.standin.configure_bucket(SOURCE, notification=None)
    world.put("data/new")
    _, without = measure(world)
    for start in range(0, KEYS, 50_000):
        keys = [f"data/{i % 1000:04d}/object-{i:09d}" for i in range(start, min(start + 50_000, KEYS))]
        standin.put_many(SOURCE, keys)
        standin.put_many(MIRROR, keys)
    standin.put(MIRROR, "data/ghost", metadata=OURS)
    output, peak = measure(world)
    print(f"{KEYS} keys: {peak} MiB at most, {without} MiB without them; {numbers(output)}")
    assert examples(output) == {("missing", "data/new"), ("ghost", "data/ghost")}
    assert peak - without < 20 + MEMORY_MIB * KEYS / 1_000_000
    standin.reset()
