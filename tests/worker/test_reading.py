"""The commands that only read, wait and measure, as processes: arguments, signals, JSON. What they find:
test_readers_agree.py."""

from __future__ import annotations

import json
import re
import signal
import time

import pytest
from world import MIRROR, World, wait_until

from mirror.cli import parse_arguments

COMMAND = "import os; del os.environ['QUEUE_URL']\nimport worker; worker.leave(worker.main())"
LAST_LINE = re.compile(r" (?:waited|measured) end=(\w+) status=(\d) (.*)")
NOWHERE = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:1/", "AWS_ACCESS_KEY_ID": ""}
each_command = pytest.mark.parametrize("command", ["wait", "measure"])


def run(world: World, *arguments: str, **settings: str) -> tuple[int, str, str]:
    """The exit status, the output and the log."""
    process = world.start(COMMAND, *arguments, errors_apart=True, **settings)
    output, errors = process.communicate(timeout=300)
    assert "Traceback" not in output + errors, output + errors
    return process.returncode, output, errors


@each_command
def test_json_is_one_object_on_stdout_and_the_log_is_on_stderr(world: World, command: str):
    world.synced("data/a", 'data/"b" +&%€')
    status, output, errors = run(world, command, "--json")
    (line,) = output.splitlines()
    found = json.loads(line)
    last = LAST_LINE.search(errors.splitlines()[-1])
    assert last
    assert (found.pop("end"), found.pop("status"), status) == (last[1], int(last[2]), 0) == ("complete", 0, 0)
    assert found.pop("missing_keys", []) == []
    assert found == {name: float(number) for name, number in (pair.split("=") for pair in last[3].split())}


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


@each_command
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
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
    ("command", "settings", "says"),
    [
        ("wait --timeout 90", {}, "'90' is not a duration: write 90s, 30m, 1h or 2d"),
        ("wait --timeout 0s", {}, "'0s' is not a duration"),
        ("wait --timeout -5m", {}, "--timeout"),
        ("wait --timeout 1h30m", {}, "'1h30m' is not a duration"),
        ("wait --examples many", {}, "'many' is not a whole number"),
        ("wait --prefix elsewhere/", {}, '--prefix "elsewhere/" has to begin with PREFIX_FILTER, "data/"'),
        ("wait --wrong", {}, "--wrong"),
        ("wait", {"DST_BUCKET": ""}, "DST_BUCKET is not set"),
        ("measure --wrong", {}, "--wrong"),
        ("measure", {"DST_BUCKET": ""}, "DST_BUCKET is not set"),
        ("reconcile --max-delete -1", {}, "-1"),
        ("reconcile --max-delete many", {}, "'many' is not a whole number"),
        ("reconcile --wrong", {}, "--wrong"),
        ("reconcile --prefix elsewhere/", {}, "elsewhere/"),
        ("reconcile --audit --remove-unwanted", {}, "--remove-unwanted"),
        ("reconcile --audit --remove-foreign", {}, "--remove-foreign"),
    ],
)
def test_a_wrong_argument_or_setting_ends_with_2_and_reads_nothing(
    world: World, command: str, settings: dict[str, str], says: str
):
    program = COMMAND if not command.startswith("reconcile") else COMMAND.partition("\n")[2]
    process = world.start(program, *command.split(), **{"PREFIX_FILTER": "data/"} | settings)
    output, _ = process.communicate(timeout=300)
    assert (process.returncode, world.requests()) == (2, {})
    assert says in output
    assert "QUEUE_URL" not in output and "Traceback" not in output


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("1h", 3600), ("2d", 172_800)])
def test_a_time_is_a_number_and_a_unit(text: str, seconds: int):
    assert parse_arguments(["wait", "--timeout", text]).timeout == seconds


@pytest.mark.parametrize("operation", ["ListObjectsV2", "CreateSession"])
def test_a_bucket_that_may_not_be_read_stops_it_with_what_to_do(world: World, operation: str):
    world.standin.fault(operation, "error", status=403, code="AccessDenied", times=0)
    status, output, errors = run(world, "wait")
    assert status == 3
    assert f"operation={operation} error=AccessDenied" in output + errors
    assert "s3express:CreateSession" in output + errors
