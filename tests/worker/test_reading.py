"""The commands that read many keys, as processes: arguments, signals, JSON, repairs, checksums, memory. What they
find: test_readers_agree.py."""

from __future__ import annotations

import json
import random
import re
import signal
import subprocess
import time
from urllib.parse import unquote_plus

import pytest
from drawn import DAY, START, Drawn
from world import MIRROR, QUEUE, SOURCE, WORKER, World, wait_until

from mirror.cli import parse_arguments
from mirror.readers.reconcile import DIFFERENCES
from mirror.readers.repairs import MOST_REPORTED, Report
from mirror.readers.walk import KeyTable

COMMAND = "import os; del os.environ['QUEUE_URL']\nimport worker; worker.leave(worker.main())"
LAST_LINE = re.compile(r" (?:waited|measured|reconciled) end=(\w+) status=(\d) (.*)")
NOWHERE = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:1/", "AWS_ACCESS_KEY_ID": ""}
each_command = pytest.mark.parametrize("command", ["wait", "measure"])


def run(world: World, *arguments: str, **settings: str) -> tuple[int, str, str]:
    """The exit status, the output and the log."""
    code = WORKER if arguments[0] == "reconcile" else COMMAND
    process = world.start(code, *arguments, errors=subprocess.PIPE, **settings)
    output, errors = process.communicate(timeout=300)
    assert "Traceback" not in output + errors, output + errors
    return process.returncode, output, errors


def numbers(output: str) -> dict[str, float]:
    """Those of the last line of the log."""
    last = LAST_LINE.search(output.splitlines()[-1])
    assert last, output
    return {name: float(number) for name, number in (pair.split("=") for pair in last[3].split())}


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


# wait and measure


@each_command
def test_json_is_one_object_on_stdout_and_the_log_is_on_stderr(world: World, command: str):
    world.synced("data/a", 'data/"b" +&%€')
    status, output, errors = run(world, command, "--json")
    (line,) = output.splitlines()
    found = json.loads(line)
    assert (found.pop("end"), found.pop("status"), status) == ("complete", 0, 0)
    assert " end=complete status=0 " in errors.splitlines()[-1]
    assert found.pop("missing_keys", []) == []
    assert found == numbers(errors)


def test_json_names_what_has_not_arrived(world: World):
    world.put('data/"new"')
    status, output, _ = run(world, "wait", "--json", "--timeout", "1s")
    found = json.loads(output)
    assert (found["end"], found["status"], status, found["lacking"]) == ("timeout", 1, 1, 1)
    assert found["missing_keys"] == [{"key": 'data/"new"', "why": "waiting"}]


@each_command
def test_a_program_is_told_in_json_that_it_could_not_begin(world: World, command: str):
    status, output, errors = run(world, command, "--json", **NOWHERE)
    assert (status, json.loads(output)) == (3, {"end": "stopped", "status": 3})
    assert "ERROR cannot start: Error when retrieving credentials" in errors


@pytest.mark.parametrize(("command", "number"), [("wait", signal.SIGTERM), ("measure", signal.SIGINT)])
def test_a_signal_ends_it_soon(world: World, command: str, number: signal.Signals):
    world.standin.fault("ListObjectsV2", "hang", bucket=MIRROR, seconds=500)
    process = world.start(COMMAND, command)
    wait_until(lambda: world.requests().get("ListObjectsV2"))
    begun = time.monotonic()
    process.send_signal(number)
    output, _ = process.communicate(timeout=300)
    assert (process.returncode, time.monotonic() - begun < 30) == (3, True)
    assert f"{command} stopped, nothing was changed, it is safe to run it again: SIGTERM" in output


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("wait --timeout 90", "'90' is not a duration: write 90s, 30m, 1h or 2d"),
        ("wait --timeout 0s", "'0s' is not a duration"),
        ("wait --timeout -5m", "--timeout"),
        ("wait --examples many", "'many' is not a whole number"),
        ("wait --wrong", "--wrong"),
        ("reconcile --max-delete -1", "-1"),
        ("reconcile --audit --remove-unwanted", "--remove-unwanted"),
        ("reconcile --audit --remove-foreign", "--remove-foreign"),
    ],
)
def test_a_wrong_argument_is_named(capsys: pytest.CaptureFixture[str], command: str, says: str):
    with pytest.raises(SystemExit, match="2"):
        parse_arguments(command.split())
    assert says in capsys.readouterr().err
    for text, seconds in (("90s", 90), ("30m", 1800), ("1h", 3600), ("2d", 172_800)):
        assert parse_arguments(["wait", "--timeout", text]).timeout == seconds
    assert parse_arguments(["reconcile"]).max_delete == 1000


@pytest.mark.parametrize(
    ("command", "settings", "says"),
    [
        ("wait --prefix elsewhere/", {}, '--prefix "elsewhere/" has to begin with PREFIX_FILTER, "data/"'),
        ("reconcile --prefix elsewhere/", {}, "elsewhere/"),
        ("measure", {"DST_BUCKET": ""}, "DST_BUCKET is not set"),
    ],
)
def test_a_wrong_prefix_or_setting_ends_with_2_and_reads_nothing(
    world: World, command: str, settings: dict[str, str], says: str
):
    process = world.start(WORKER, *command.split(), **{"PREFIX_FILTER": "data/"} | settings)
    output, _ = process.communicate(timeout=300)
    assert (process.returncode, world.requests()) == (2, {})
    assert says in output
    assert "Traceback" not in output


def test_a_session_that_is_denied_stops_it_with_what_to_do(world: World):
    world.standin.fault("CreateSession", "error", status=403, code="AccessDenied", times=0)
    status, output, errors = run(world, "wait")
    assert status == 3
    assert "operation=CreateSession error=AccessDenied" in output + errors
    assert "s3express:CreateSession" in output + errors


# reconcile


def test_what_differs_is_repaired_and_then_found_equal(synced: World):
    planted = plant(synced)
    written = synced.mirrored()["data/1/5"]["metadata"]
    synced.standin.put(MIRROR, "data/1/5", metadata=written)  # by others: it says what it was copied from
    assert examples(run(synced, "reconcile", "--dry-run")[1]) == planted
    status, output, _ = run(synced, "reconcile", "--deep")
    assert (status, examples(output)) == (0, planted | {("corrupt", "data/1/5")})
    assert (numbers(output)["checked"], numbers(output)["unchecked"]) == (39, 0)
    assert sorted(queued(synced)) == sorted([*(key for _, key in planted), "data/1/5"])
    synced.run_worker()
    assert synced.is_equal()
    assert run(synced, "reconcile", "--dry-run", "--deep")[0] == 0


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
    assert found(run(synced, "reconcile")[1]) == {}
    status, output, _ = run(synced, "reconcile", "--deep")
    stale = {"in parts", "old", "other bytes", "other algorithm"}
    assert (status, examples(output), {*queued(synced)}) == (0, {("stale", key) for key in stale}, stale)
    assert (numbers(output)["checked"], numbers(output)["unchecked"]) == (43, 3)


def test_checksums_that_s3_does_not_show_are_left_out_and_that_is_said_once(synced: World):
    """An object with SSE-KMS, whose key the task may not use (S3 API Reference, HeadObject)."""
    synced.standin.configure_bucket(MIRROR, checksum_permission=False)
    before = synced.requests()["HeadObject"]
    status, output, _ = run(synced, "reconcile", "--deep")
    assert (status, found(output), numbers(output)["unchecked"]) == (0, {}, 40)
    assert output.count(f"WARNING {MIRROR} does not show the checksum of key=") == output.count("kms:Decrypt") == 1
    assert synced.requests()["HeadObject"] - before == 40 * 3


@pytest.mark.parametrize(("command", "share"), [([], 1), (["reconcile"], 2)])
def test_each_process_has_its_share_of_the_memory(world: World, command: list[str], share: int):
    """The markers of two processes may wait for large folders at the same time."""
    world.put("data/a")
    world.put("data/_SUCCESS")
    settings = {"PROCESSES": "2", "TASK_MEMORY": "2", "COPY_LAST": "_SUCCESS", "MAX_RECEIVES": "1"}
    output, _ = world.start(WORKER, *command, **settings).communicate()
    assert f" MiB of {share} are used" in output, output


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
