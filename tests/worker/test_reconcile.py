"""worker.py reconcile with real clients: what it queues is repaired, checksums, memory. What it finds:
test_readers_agree.py."""

import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote_plus

import pytest
from drawn import DAY, START, Drawn
from standin import Standin
from world import MIRROR, OURS, QUEUE, SOURCE, WORKER, World

import worker
from mirror.readers.reconcile import DIFFERENCES, MAX_DELETE
from mirror.readers.repairs import MOST_REPORTED, Report
from mirror.readers.walk import KeyTable

SUMMARY = re.compile(r" reconciled end=(\w+) status=(\d) (.*)")
KEYS = int(os.environ.get("RECONCILE_KEYS", "100000"))  # of the test of memory
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


def test_what_differs_is_repaired_and_then_found_equal(synced: World):
    planted = plant(synced)
    written = synced.mirrored()["data/1/5"]["metadata"]
    synced.standin.put(MIRROR, "data/1/5", metadata=written)  # by others: it says what it was copied from
    assert examples(reconcile(synced, "--dry-run")[1]) == planted
    status, output = reconcile(synced, "--deep")
    assert (status, examples(output)) == (0, planted | {("corrupt", "data/1/5")})
    assert (numbers(output)["checked"], numbers(output)["unchecked"]) == (39, 0)
    assert sorted(queued(synced)) == sorted([*(key for _, key in planted), "data/1/5"])
    synced.run_worker()
    assert synced.is_equal()
    assert reconcile(synced, "--dry-run", "--deep")[0] == 0


def test_a_marker_and_a_file_of_a_tables_log_have_messages_of_their_own():
    drawn = Drawn(1, keys=0)
    drawn.environment, keys = (
        dict.fromkeys(drawn.environment, ""),
        [f"t/_delta_log/{version:020}.json" for version in range(3)],
    )
    drawn.before = {key: (drawn.version(START - DAY), None) for key in (*keys, "t/_SUCCESS", "t/a", "t/b")}
    drawn.now = dict(drawn.before)
    assert drawn.run("reconcile", TABLES="delta", COPY_LAST="_SUCCESS").status == 0
    assert sorted(drawn.sizes) == [1, 1, 1, 1, 2]


def test_more_differences_than_a_log_should_hold_are_only_counted():
    report = Report()
    for number in range(MOST_REPORTED + 1):
        report.add("missing", str(number))
    assert report.numbers() == f" differences={MOST_REPORTED + 1} reported={MOST_REPORTED}"


# Checksums


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


def test_checksums_that_s3_does_not_show_are_left_out_and_that_is_said_once(synced: World):
    """An object with SSE-KMS, whose key the task may not use (S3 API Reference, HeadObject)."""
    synced.standin.configure_bucket(MIRROR, checksum_permission=False)
    before = synced.requests()["HeadObject"]
    status, output = reconcile(synced, "--deep")
    assert (status, found(output), numbers(output)["unchecked"]) == (0, {}, 40)
    assert output.count(f"WARNING {MIRROR} does not show the checksum of key=") == output.count("kms:Decrypt") == 1
    assert synced.requests()["HeadObject"] - before == 40 * 3


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


def test_a_source_that_was_emptied_stops_at_the_default_guard():
    drawn = Drawn(1, keys=0)
    drawn.environment, drawn.busy = dict.fromkeys(drawn.environment, ""), set()
    old = drawn.version(START - DAY)
    drawn.before = {f"{number:04}": (None, drawn.copy(old, START - DAY + 60)) for number in range(MAX_DELETE + 1)}
    drawn.now, drawn.page = dict(drawn.before), 1000
    assert (drawn.run("reconcile").status, drawn.queued) == (3, [])
    assert drawn.run("reconcile", "--dry-run").status == 1


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
