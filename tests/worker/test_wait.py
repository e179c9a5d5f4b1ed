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


def test_what_is_complete_ends_it_at_once(synced: World):
    run = wait(synced)
    assert run.status == 0
    assert run.numbers("waited") | {"seconds": 0} == {
        "keys": 3, "bytes": 3072, "here": 3, "here_bytes": 3072, "lacking": 0, "archived": 0,
        "only_in_destination": 0, "seconds": 0,
    }  # fmt: skip
    assert "complete: 3 keys of the source" in run.output


def test_nothing_under_the_prefix_is_complete_and_said(synced: World):
    run = wait(synced, "--prefix", "elsewhere/")
    assert (run.status, run.numbers("waited")["keys"]) == (0, 0)
    assert 'WARNING the source has no key under "elsewhere/": is --prefix right?' in run.output


def test_it_waits_until_a_worker_has_copied(synced: World):
    synced.put("data/new", 4096)
    run = start(synced)
    time.sleep(1)
    assert run.process.poll() is None
    synced.run_worker()
    assert run.end().status == 0
    assert run.numbers("waited")["here_bytes"] == 3 * 1024 + 4096
    assert "progress here=3/4 bytes=3072/7168 bytes/s=0 left=estimating" in run.output


def test_only_what_is_under_the_prefix_is_waited_for(synced: World):
    synced.put("data/new")
    assert wait(synced, "--prefix", "data/c/").status == 0
    assert wait(synced, "--prefix", "data/", "--timeout", "1s").status == 1
    assert wait(synced, "--timeout", "1s", PREFIX_FILTER="data/c/").status == 0


def test_what_is_overwritten_meanwhile_is_waited_for_in_that_version_or_a_newer_one(synced: World):
    synced.put("data/a", 2048)
    run = start(synced)
    synced.put("data/a", 4096)
    time.sleep(1)
    assert run.process.poll() is None
    synced.run_worker()
    assert run.end().status == 0


def test_what_is_overwritten_again_and_again_is_here_with_a_version_of_after_the_start(synced: World):
    """The source is never seen equal."""
    now = int(time.time())
    synced.put("data/a", 2048)
    run = start(synced)
    synced.put("data/a", 3000, modified=now + 60)
    synced.run_worker()
    synced.put("data/a", 4000, modified=now + 120)
    assert run.end().status == 0


def test_what_was_there_at_the_start_does_not_count_though_it_seems_younger(synced: World):
    """The time of a multipart upload is that of its begin."""
    now = int(time.time())
    synced.put("data/a", 2048, modified=now + 2)
    synced.run_worker()
    synced.put("data/a", 3000, modified=now - 100)
    run = wait(synced, "--timeout", "2s")
    assert (run.status, set(lacking(run))) == (1, {"data/a"})


def test_a_clock_that_is_behind_makes_no_version_of_before_the_start_a_newer_one(synced: World):
    now = int(time.time())
    synced.put("data/a", 2048, modified=now - 30)
    synced.run_worker()
    synced.put("data/a", 3000, modified=now - 10)
    run = begin(synced, "--timeout", "2s", program=BEHIND).end()
    assert (run.status, set(lacking(run))) == (1, {"data/a"})


def test_what_is_deleted_meanwhile_is_waited_for_until_it_is_gone(synced: World):
    synced.put("data/a", 2048)
    run = start(synced)
    synced.standin.delete(SOURCE, "data/a")
    time.sleep(1.5)
    assert run.process.poll() is None
    synced.run_worker()
    assert run.end().status == 0


def test_exactly_means_also_that_what_the_source_lost_is_gone(synced: World):
    synced.standin.delete(SOURCE, "data/a")
    loose = wait(synced)
    assert (loose.status, loose.numbers("waited")["only_in_destination"]) == (0, 1)
    run = wait(synced, "--exact", "--timeout", "2s")
    assert run.status == 1
    assert lacking(run) == {"data/a": "only in the destination: its deletion is waited for"}
    run = start(synced, "--exact")
    synced.run_worker()
    assert run.end().status == 0


def test_what_is_only_in_the_destination_and_no_copy_of_ours_for_sure_is_not_waited_for_but_counted(synced: World):
    synced.standin.put(MIRROR, "data/of-a-job", 10)
    run = wait(synced, "--exact", "--timeout", "5s")
    assert (run.status, run.numbers("waited")["only_in_destination"], run.numbers("waited")["of_unknown_origin"]) == (
        0,
        1,
        1,
    )
    assert "           1 foreign     only in the destination, not written by the sync: not waited for" in run.output
    assert json.loads(wait(synced, "--exact", "--json").output)["of_unknown_origin"] == 1
    assert "of_unknown_origin" not in json.loads(wait(synced, "--json").output)


def test_deep_looks_at_every_copy(synced: World):
    """Size and times show nothing here."""
    for bucket, seconds in ((SOURCE, 1_700_000_000), (MIRROR, 1_700_100_000)):
        synced.standin.change(bucket, "data/a", modified=seconds)
    assert wait(synced).status == 0
    run = wait(synced, "--deep", "--timeout", "1s")
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


def test_what_is_restored_is_no_longer_called_archived(synced: World):
    synced.put("data/ice", storage_class="GLACIER")
    synced.standin.restore(SOURCE, "data/ice")
    assert lacking(wait(synced, "--timeout", "3s")) == {"data/ice": "waiting"}
    run = start(synced)
    synced.run_worker()
    assert run.end().status == 0


def test_the_timeout_bounds_the_listings_too(synced: World):
    synced.standin.fault("ListObjectsV2", "delay", bucket=SOURCE, seconds=3600, times=0)
    begun = time.monotonic()
    run = wait(synced, "--timeout", "1s")
    assert run.status == 1
    assert time.monotonic() - begun < 50  # a listing waits for longer
    assert "before both buckets were listed" in run.output


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


@pytest.mark.parametrize("bucket", [SOURCE, MIRROR])
def test_a_missing_bucket_stops_it(synced: World, bucket: str):
    synced.standin.delete_bucket(bucket)
    run = wait(synced)
    assert run.status == 3
    assert 'error=NoSuchBucket message="The specified bucket does not exist"' in run.output
    assert "check SRC_BUCKET, DST_BUCKET and REGION" in run.output
    assert " waited end=stopped status=3 " in run.output.splitlines()[-1]


@pytest.mark.parametrize("operation", ["ListObjectsV2", "CreateSession"])
def test_a_bucket_that_may_not_be_read_stops_it(synced: World, operation: str):
    synced.standin.fault(operation, "error", status=403, code="AccessDenied", times=0)
    run = wait(synced)
    assert run.status == 3
    assert f"operation={operation} error=AccessDenied" in run.output
    assert "s3express:CreateSession" in run.output


def test_credentials_that_end_meanwhile_stop_it(synced: World):
    synced.put("data/new")
    run = start(synced)
    synced.standin.fault("HeadObject,GetObject", "error", status=400, code="ExpiredToken", times=0)
    assert run.end().status == 3
    assert "error=ExpiredToken" in run.output


def test_a_program_is_told_in_json_that_it_could_not_begin(synced: World):
    nowhere = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:1/", "AWS_ACCESS_KEY_ID": ""}
    run = wait(synced, "--json", **nowhere)
    assert (run.status, json.loads(run.output)) == (3, {"end": "stopped", "status": 3})
    assert "ERROR cannot start: Error when retrieving credentials" in run.errors


def test_s3_being_busy_is_waited_for(synced: World):
    """boto3 tries a page five times by itself."""
    synced.standin.fault("ListObjectsV2", "error", bucket=MIRROR, status=503, code="SlowDown", times=6)
    synced.standin.fault("HeadObject", "error", status=503, code="SlowDown", times=3)
    run = wait(synced)
    assert run.status == 0
    assert f"cannot list {MIRROR}, again in 1 s: operation=ListObjectsV2 error=SlowDown" in run.output


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


def test_a_signal_ends_it_also_while_a_listing_hangs(synced: World):
    synced.standin.fault("ListObjectsV2", "hang", bucket=MIRROR, seconds=50)
    run = begin(synced)
    before = synced.requests().get("ListObjectsV2", 0)
    wait_until(lambda: synced.requests().get("ListObjectsV2", 0) > before)
    begun = time.monotonic()
    run.process.send_signal(signal.SIGTERM)
    assert run.end().status == 3
    assert time.monotonic() - begun < 30


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
