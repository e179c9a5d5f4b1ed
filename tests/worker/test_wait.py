"""worker.py wait against the stand-in: when it ends, with what, and that it only reads."""

from __future__ import annotations

import json
import re
import signal
import time

import pytest
from reading import Reading
from world import MIRROR, SOURCE, World, wait_until

from mirror.cli import parse_arguments
from mirror.readers.completeness import Completeness
from mirror.readers.wait import Wait, WaitOptions

LACKING = re.compile(r' lacking key=("(?:[^"\\]|\\.)*") why=(.*)')
READS = {"ListObjectsV2", "HeadObject", "GetObject", "CreateSession"}
SYNCED = 3  # keys of the fixture
# The command with shorter times, in a process of its own.
HURRIED = """
import sys
from mirror.readers import completeness, wait
completeness.SOURCE_LOOK_SECONDS = 0.2
wait.PROGRESS_SECONDS = 0.3
import worker
worker.leave(worker.main())
"""
# The same on a machine with a clock that is a minute behind.
BEHIND = (
    """
import datetime, time
class Datetime(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.datetime.now(tz) - datetime.timedelta(seconds=60)
seconds_now = time.time
time.time = lambda: seconds_now() - 60
from mirror.readers import completeness
completeness.datetime = Datetime
"""
    + HURRIED
)


def begin(world: World, *arguments: str, program: str = HURRIED, **settings: str) -> Reading:
    return Reading(world, program, "wait", *arguments, **settings)


def lacking(run: Reading) -> dict[str, str]:
    return {json.loads(key): why for key, why in LACKING.findall(run.output + run.errors)}


def wait(world: World, *arguments: str, **settings: str) -> Reading:
    return begin(world, *arguments, **settings).end()


def start(world: World, *arguments: str, **settings: str) -> Reading:
    """It has compared the buckets, and found that something is missing."""
    run = begin(world, "--timeout", "60s", *arguments, ROLLBACKS="false", **settings)
    before = world.requests().get("HeadObject", 0)
    wait_until(lambda: world.requests().get("HeadObject", 0) > before + SYNCED)  # those are looked at on the way
    return run


@pytest.fixture
def synced(world: World) -> World:
    return world.synced("data/a", "data/b", "data/c/d")


# When it is complete


def test_it_waits_until_a_worker_has_copied(synced: World):
    synced.put("data/new", 4096)
    run = start(synced)
    time.sleep(1)
    assert run.process.poll() is None
    synced.run_worker()
    assert run.end().status == 0
    assert run.numbers("waited")["here_bytes"] == 3 * 1024 + 4096
    assert "progress here=3/4 bytes=3072/7168 bytes/s=0 left=estimating" in run.output


def test_a_clock_that_is_behind_makes_no_version_of_before_the_start_a_newer_one(synced: World):
    now = int(time.time())
    synced.put("data/a", 2048, modified=now - 30)
    synced.run_worker()
    synced.put("data/a", 3000, modified=now - 10)
    run = begin(synced, "--timeout", "2s", program=BEHIND).end()
    assert (run.status, set(lacking(run))) == (1, {"data/a"})


# When it is not


def test_at_the_timeout_the_keys_are_named_with_the_reason(synced: World):
    for name in ("data/new key +&%€", 'data/"quoted"'):
        synced.put(name)
    synced.put("data/ice", storage_class="GLACIER")
    synced.put("data/odd")
    synced.standin.fault("HeadObject", "error", key="^data/odd$", bucket=MIRROR, status=400, code="400", times=0)
    run = wait(synced, "--timeout", "2s")
    assert run.status == 1
    why = lacking(run)
    assert why.pop("data/odd").startswith("trouble: operation=HeadObject error=400")
    assert why == {
        "data/new key +&%€": "waiting",
        'data/"quoted"': "waiting",
        "data/ice": "archived: restore it",
    }
    assert run.numbers("waited")["lacking"] == 4
    assert run.numbers("waited")["archived"] == 1
    assert run.numbers("waited")["here"] == 3
    assert 2 <= run.numbers("waited")["seconds"] < 4


def test_no_more_keys_are_named_than_asked_for_and_those_with_a_reason_first(synced: World):
    synced.standin.put_many(SOURCE, [f"data/new/{number}" for number in range(150)])
    synced.put("data/zzz", storage_class="GLACIER")
    assert len(lacking(wait(synced, "--timeout", "1s"))) == 100
    assert lacking(wait(synced, "--timeout", "1s", "--examples", "1")) == {"data/zzz": "archived: restore it"}
    assert lacking(wait(synced, "--timeout", "1s", "--examples", "0")) == {}


def test_json_is_one_object_on_stdout_and_the_log_is_on_stderr(synced: World):
    run = wait(synced, "--json")
    found = json.loads(run.output)
    assert (found["end"], found["status"], found["keys"], found["missing_keys"]) == ("complete", 0, 3, [])
    assert run.errors.splitlines()[-1].count(" waited end=complete status=0 keys=3 ") == 1
    synced.put("data/new")
    run = wait(synced, "--json", "--timeout", "1s")
    found = json.loads(run.output)
    assert (found["end"], found["status"], found["lacking"]) == ("timeout", 1, 1)
    assert found["missing_keys"] == [{"key": "data/new", "why": "waiting"}]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--timeout", "90"], "'90' is not a duration: write 90s, 30m, 1h or 2d"),
        (["--timeout", "0s"], "'0s' is not a duration"),
        (["--timeout", "-5m"], "--timeout"),
        (["--timeout", "1h30m"], "'1h30m' is not a duration"),
        (["--examples", "many"], "'many' is not a whole number"),
        (["--prefix", "elsewhere/"], '--prefix "elsewhere/" has to begin with PREFIX_FILTER, "data/"'),
        (["--wrong"], "--wrong"),
    ],
)
def test_a_wrong_argument_ends_with_2_and_reads_nothing(synced: World, arguments: list[str], told: str):
    before = synced.requests()
    run = wait(synced, *arguments, PREFIX_FILTER="data/")
    assert run.status == 2
    assert told in run.output + run.errors
    assert synced.requests() == before


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("1h", 3600), ("2d", 172_800)])
def test_a_time_is_a_number_and_a_unit(text: str, seconds: int):
    assert parse_arguments(["wait", "--timeout", text]).timeout == seconds


def test_a_setting_that_lacks_is_named(synced: World):
    run = wait(synced, DST_BUCKET="")
    assert run.status == 2
    assert "DST_BUCKET is not set" in run.errors
    assert "QUEUE_URL" not in run.errors


# What stops it


@pytest.mark.parametrize("operation", ["ListObjectsV2", "CreateSession"])
def test_a_bucket_that_may_not_be_read_stops_it(synced: World, operation: str):
    synced.standin.fault(operation, "error", status=403, code="AccessDenied", times=0)
    run = wait(synced)
    assert run.status == 3
    assert f"operation={operation} error=AccessDenied" in run.output
    assert "s3express:CreateSession" in run.output


def test_a_program_is_told_in_json_that_it_could_not_begin(synced: World):
    nowhere = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:1/", "AWS_ACCESS_KEY_ID": ""}
    run = wait(synced, "--json", **nowhere)
    assert (run.status, json.loads(run.output)) == (3, {"end": "stopped", "status": 3})
    assert "ERROR cannot start: Error when retrieving credentials" in run.errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_soon(synced: World, number: signal.Signals):
    synced.put("data/new")
    run = start(synced)
    begun = time.monotonic()
    run.process.send_signal(number)
    assert run.end().status == 3
    assert time.monotonic() - begun < 30
    assert "wait stopped, nothing was changed, it is safe to run it again: SIGTERM" in run.output
    assert lacking(run) == {"data/new": "waiting"}


# What it needs


@pytest.mark.parametrize("client", ["crt", "boto3"])
def test_it_only_reads_and_asks_no_queue(synced: World, client: str):
    """Everything that is missing, and why: new, gone from the source, not to be looked at."""
    synced.put("data/new")
    synced.standin.delete(SOURCE, "data/c/d")
    synced.put("data/odd")
    synced.standin.fault("HeadObject", "error", key="^data/odd$", bucket=MIRROR, status=403, code="403", times=0)
    before = synced.requests()
    run = wait(synced, "--exact", "--deep", "--timeout", "2s", S3_CLIENT=client, PROCESSES="4")
    made = {name: number - before.get(name, 0) for name, number in synced.requests().items()}
    assert set(lacking(run)) == {"data/new", "data/odd", "data/c/d"}
    assert {name for name, number in made.items() if number} == READS


def test_pauses_grow_with_the_work_and_the_wait_and_have_bounds(synced: World):
    waiting = Wait(Completeness(synced.worker().buckets, ("",)), WaitOptions())
    assert [round(waiting.pause_after(seconds)) for seconds in (0.01, 7, 500)] == [1, 7, 30]
    waiting.started -= 1000
    assert round(waiting.pause_after(0.01)) == 10
