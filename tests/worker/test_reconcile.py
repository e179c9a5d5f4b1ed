"""worker.py reconcile against the stand-in: what it finds, what it puts on the queue, and what makes it stop."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote_plus

import pytest
from standin import Standin
from world import MIRROR, OURS, QUEUE, SOURCE, WORKER, World

import worker
from mirror.readers.key_table import KeyTable
from mirror.readers.reconcile import DIFFERENCES, MAX_DELETE

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


@pytest.mark.parametrize("client", ["crt", "boto3"])
def test_what_became_of_a_removal_without_an_answer_is_found_out(synced: World, client: str):
    synced.standin.put_many(MIRROR, ["data/1.tmp", "data/2.tmp"], metadata=OURS)
    synced.standin.fault("DeleteObject", "lost")
    status, output = reconcile(synced, "--remove-unwanted", EXCLUDE="*.tmp", S3_CLIENT=client)
    assert (status, numbers(output)["removed"], output.count("INFO removed key=")) == (0, 2, 2)
    assert synced.is_equal()


# What makes it stop


def test_a_signal_in_the_pause_of_an_audit_ends_it_soon_and_nothing_is_put_on_the_queue(synced: World):
    plant(synced)
    command = [sys.executable, worker.__file__, "reconcile", "--audit"]
    process = subprocess.Popen(
        command, env=synced.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    synced.processes.append(process)
    assert process.stdout
    lines: list[str] = []
    while not any("5 keys differ, and are looked at again in 300 s" in line for line in lines):
        lines.append(process.stdout.readline())
        assert lines[-1], lines
    told = time.monotonic()
    process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate(timeout=300)
    assert time.monotonic() - told < 60
    assert process.returncode == 3
    assert " ERROR audited end=stopped status=3 found=0 " in rest.splitlines()[-2]
    assert "it is safe to run it again: SIGTERM" in rest
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


def test_a_source_that_was_emptied_stops_at_the_default_guard(world: World):
    world.standin.put_many(MIRROR, [f"k/{number}" for number in range(MAX_DELETE + 1)], metadata=OURS)
    assert reconcile(world)[0] == 3
    assert queued(world) == []
    assert reconcile(world, "--dry-run")[0] == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["--max-delete", "-1"],
        ["--max-delete", "many"],
        ["--wrong"],
        ["--prefix", "elsewhere/"],
        ["--audit", "--remove-unwanted"],
        ["--audit", "--remove-foreign"],
    ],
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
