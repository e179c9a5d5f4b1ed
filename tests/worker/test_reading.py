"""The commands that read many keys, as processes: arguments, signals, JSON, repairs, checksums, memory. What they
find: test_readers_agree.py."""

from __future__ import annotations

import json
import random
import re
import signal
import subprocess
from urllib.parse import unquote_plus

import pytest
from drawn import DAY, START, Version, plain
from world import MIRROR, QUEUE, SOURCE, WORKER, World, wait_until

from mirror.cli import parse_arguments
from mirror.readers.repairs import MOST_REPORTED, Report
from mirror.readers.walk import KeyTable

COMMAND = "import os; del os.environ['QUEUE_URL']\nimport worker; worker.leave(worker.main())"
LAST_LINE = re.compile(r" (?:waited|measured|reconciled) end=(\w+) status=(\d) (.*)")


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


def examples(output: str) -> set[tuple[str, str]]:
    lines = (line.split(maxsplit=1) for line in output.splitlines() if re.match(r"  [a-z]+ \"", line))
    return {(what, json.loads(key)) for what, key in lines}


def queued(world: World) -> list[str]:
    """The keys that messages in the queue ask to look at, in order."""
    bodies = [json.loads(message["body"]) for message in world.standin.messages(QUEUE)]
    for body in bodies:
        assert {record["eventName"] for record in body["Records"]} in ({"Look"}, {"Missing"}, {"Compare"}, {"Ghost"})
    return [unquote_plus(record["s3"]["object"]["key"]) for body in bodies for record in body["Records"]]


@pytest.fixture
def synced(world: World) -> World:
    """Both buckets equal by the worker's own doing, ten minutes ago, and no events from now on."""
    world.synced(*(f"data/{number % 4}/{number}" for number in range(40)), modified=1_700_000_000)
    world.standin.configure_bucket(SOURCE, notification=None)
    return world


# wait and measure


@pytest.mark.parametrize(
    ("arguments", "end", "status"), [("wait --timeout 1s", "timeout", 1), ("measure", "complete", 0)]
)
def test_json_is_one_object_on_stdout_and_the_log_is_on_stderr(world: World, arguments: str, end: str, status: int):
    world.put('data/"b" +&%€')
    ended, output, errors = run(world, *arguments.split(), "--json")
    (line,) = output.splitlines()
    shown = json.loads(line)
    assert (shown.pop("end"), shown.pop("status"), ended) == (end, status, status)
    assert f" end={end} status={status} " in errors.splitlines()[-1]
    assert shown.pop("missing_keys", []) == [{"key": 'data/"b" +&%€', "why": "waiting"}] * status
    # Seconds are measured for each of the two.
    assert shown | {"seconds": 0} == numbers(errors) | {"seconds": 0}


def test_a_program_is_told_in_json_that_it_could_not_begin(world: World):
    nowhere = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:1/", "AWS_ACCESS_KEY_ID": ""}
    status, output, errors = run(world, "wait", "--json", **nowhere)
    assert (status, json.loads(output)) == (3, {"end": "stopped", "status": 3})
    assert "ERROR cannot start: Error when retrieving credentials" in errors


def test_a_signal_ends_it_soon(world: World):
    world.standin.fault("ListObjectsV2", "hang", bucket=MIRROR, seconds=500)
    process = world.start(COMMAND, "wait")
    wait_until(lambda: world.requests().get("ListObjectsV2"))
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 3
    assert "wait stopped, nothing was changed, it is safe to run it again: SIGTERM" in output


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("wait --timeout 90", "'90' is not a duration: write 90s, 30m, 1h or 2d"),
        ("wait --timeout 0s", "'0s' is not a duration"),
        ("wait --examples many", "'many' is not a whole number"),
        ("reconcile --max-delete -1", "-1"),
        ("reconcile --audit --remove-unwanted", "--remove-unwanted"),
        ("reconcile --audit --remove-foreign", "--remove-foreign"),
    ],
)
def test_a_wrong_argument_is_named(capsys: pytest.CaptureFixture[str], command: str, says: str):
    with pytest.raises(SystemExit, match="2"):
        parse_arguments(command.split())
    assert says in capsys.readouterr().err


def test_what_arguments_mean():
    for text, seconds in (("90s", 90), ("30m", 1800), ("1h", 3600), ("2d", 172_800)):
        assert parse_arguments(["wait", "--timeout", text]).timeout == seconds
    assert parse_arguments(["reconcile"]).max_delete == 1000


def test_a_wrong_setting_ends_with_2_and_reads_nothing(world: World):
    process = world.start(WORKER, "measure", DST_BUCKET="")
    output, _ = process.communicate(timeout=300)
    assert (process.returncode, world.requests()) == (2, {})
    assert "DST_BUCKET is not set" in output
    assert "Traceback" not in output


# reconcile


def test_what_differs_is_repaired_and_then_found_equal(synced: World):
    synced.put("data/new key +&%€")
    headers = {"content-type": "binary/octet-stream", "x-amz-meta-colour": "blue"}
    synced.standin.change(SOURCE, "data/3/3", headers=headers, modified=4_000_000_000)
    synced.standin.delete(SOURCE, "data/0/0")
    planted = {("missing", "data/new key +&%€"), ("stale", "data/3/3"), ("ghost", "data/0/0")}
    written = synced.mirrored()["data/1/5"]["metadata"]
    synced.standin.put(MIRROR, "data/1/5", metadata=written)  # by others: it says what it was copied from
    status, output, _ = run(synced, "reconcile", "--deep")
    assert (status, examples(output)) == (0, planted | {("corrupt", "data/1/5")})
    assert (numbers(output)["checked"], numbers(output)["unchecked"]) == (39, 0)
    assert sorted(queued(synced)) == sorted([*(key for _, key in planted), "data/1/5"])
    synced.run_worker()
    assert synced.is_equal()
    assert run(synced, "reconcile", "--dry-run", "--deep")[0] == 0


def test_a_marker_and_a_file_of_a_tables_log_have_messages_of_their_own():
    keys = [*(f"t/_delta_log/{version:020}.json" for version in range(3)), "t/_SUCCESS", "t/a", "t/b"]
    drawn = plain(dict.fromkeys(keys, (Version("v", START - DAY, 10), None)))
    assert drawn.run("reconcile", TABLES="delta", COPY_LAST="_SUCCESS").status == 0
    assert sorted(drawn.sizes) == [1, 1, 1, 1, 2]


def test_more_differences_than_a_log_should_hold_are_only_counted():
    report = Report()
    for number in range(MOST_REPORTED + 1):
        report.add("missing", str(number))
    assert report.numbers() == f" differences={MOST_REPORTED + 1} reported={MOST_REPORTED}"


def test_checksums_that_s3_does_not_show_are_left_out_and_that_is_said_once(synced: World):
    """An object with SSE-KMS, whose key the task may not use (S3 API Reference, HeadObject)."""
    synced.standin.configure_bucket(MIRROR, checksum_permission=False)
    before = synced.requests()["HeadObject"]
    status, output, _ = run(synced, "reconcile", "--deep")
    assert (status, examples(output), numbers(output)["unchecked"]) == (0, set(), 40)
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
