"""worker.py measure against the stand-in: what it counts, that it only lists, and what stops it."""

from __future__ import annotations

import asyncio
import json
import signal
import time
import tracemalloc
from datetime import UTC, datetime

import pytest
from reading import Reading
from world import MIRROR, SOURCE, World, wait_until

from mirror.protocol.attempt import Interruption
from mirror.readers import measure
from mirror.readers.measure import Measure, MeasureOptions

DAY = 86_400
HURRIED = """
import sys
from mirror.readers import measure
measure.PROGRESS_SECONDS = 0
import worker
worker.leave(worker.main())
"""


def begin(world: World, *arguments: str, **settings: str) -> Reading:
    return Reading(world, HURRIED, "measure", *arguments, **settings)


def run(world: World, *arguments: str, **settings: str) -> Reading:
    return begin(world, *arguments, **settings).end()


def counted(found: Reading, kind: str) -> tuple[float, float]:
    return found.numbers("measured")[f"{kind}_objects"], found.numbers("measured")[f"{kind}_bytes"]


@pytest.fixture
def aged(world: World) -> World:
    """Objects that changed before this many days, the last second of the last day that is kept among them."""
    midnight = time.time() // DAY * DAY
    for days in (0, 7, 8, 30, 31, 90, 91):
        world.put(f"data/{days}", 10**days if days < 9 else days, modified=int(midnight - days * DAY))
    return world


@pytest.mark.fast
def test_ages_are_reckoned_as_by_keep_days(aged: World):
    """KEEP_DAYS=7 keeps an object until the midnight that ends the seventh day after its own."""
    found = run(aged)
    assert found.status == 0
    small = 1 + 10**7
    assert counted(found, "kept_7") == (2, small)
    assert counted(found, "kept_30") == (4, small + 10**8 + 30)
    assert counted(found, "kept_90") == (6, small + 10**8 + 30 + 31 + 90)
    assert counted(found, "source") == (7, small + 10**8 + 30 + 31 + 90 + 91)
    assert f"{7:>12} objects {small + 10**8 + 242:>18} bytes  in the source" in found.output


@pytest.mark.fast
def test_what_excludes_leaves_out_counts_only_in_the_destination_and_what_no_prefix_has_nowhere(world: World):
    for key, size in {"data/a": 1, "data/b.tmp": 2, "data/x/c": 4, "other/d": 8, "datum": 16, "data/y": 32}.items():
        for bucket in (SOURCE, MIRROR):
            world.standin.put(bucket, key, size)
    found = run(world, PREFIX_FILTER="data/a,data/b,data/x/", EXCLUDE="*.tmp")
    assert counted(found, "source") == (2, 5)
    assert counted(found, "destination") == (3, 7)
    assert counted(found, "excluded") == (1, 2)
    assert counted(run(world), "destination") == (6, 63)
    assert counted(run(world, PREFIX_FILTER="dat"), "destination") == (5, 55)


def test_copies_older_than_keep_days_are_told(world: World):
    now = int(time.time())
    for key, size, days in (("a", 1, 0), ("b", 2, 9), ("c.tmp", 4, 9)):
        world.standin.put(MIRROR, key, size, modified=now - days * DAY)
    assert counted(run(world, KEEP_DAYS="7", EXCLUDE="*.tmp"), "aged") == (1, 2)
    assert counted(run(world, KEEP_DAYS="9"), "aged") == (0, 0)
    assert counted(run(world), "aged") == (0, 0)


def test_it_only_lists_and_each_page_is_one_request(world: World):
    world.standin.put_many(SOURCE, [f"data/{number:04}" for number in range(2500)])
    world.standin.put_many(MIRROR, [f"data/{number:04}" for number in range(1001)])
    before = world.requests()
    found = run(world)
    made = {name: number - before.get(name, 0) for name, number in world.requests().items()}
    assert {name for name, number in made.items() if number} == {"ListObjectsV2", "CreateSession"}
    assert (
        made["ListObjectsV2"]
        == found.numbers("measured")["source_lists"] + found.numbers("measured")["destination_lists"]
        == 9
    )
    assert f"progress listed={2500 + 1001 + 2 * 1000} " in found.output  # on one page, it would be all


def test_json_is_one_object_on_stdout_and_the_log_is_on_stderr(aged: World):
    found = run(aged, "--json")
    (line,) = found.output.splitlines()
    numbers = json.loads(line)
    assert (numbers.pop("end"), numbers.pop("status")) == ("complete", 0)
    assert numbers == found.numbers("measured")


def test_it_keeps_nothing_of_a_key(world: World, monkeypatch: pytest.MonkeyPatch):
    """A hundred thousand more keys, and not a megabyte more memory."""
    entry = {"Size": 1, "LastModified": datetime.now(UTC), "ETag": '"e"'}
    peaks = []

    async def list_page(_side, **parameters):  # one folder
        await asyncio.sleep(0)
        page = int(parameters.get("ContinuationToken", 0)) + 1
        keys = [{"Key": f"data/{page:03}-{number}", **entry} for number in range(1000)]
        return {"Contents": keys, "IsTruncated": page < pages, "NextContinuationToken": str(page)}

    monkeypatch.setattr(measure, "page_lister", lambda *_: list_page)
    for pages in (5, 100):
        counting = Measure(world.worker().buckets, MeasureOptions(), Interruption(), lambda _line: None)
        tracemalloc.start()
        assert world.run(counting.run()) == 0
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert counting.objects["source"] == pages * 1000
    assert peaks[1] - peaks[0] < 1_000_000


# What stops it


@pytest.mark.parametrize("bucket", [SOURCE, MIRROR])
def test_a_missing_bucket_stops_it(world: World, bucket: str):
    world.standin.delete_bucket(bucket)
    found = run(world)
    assert found.status == 3
    assert "measure stopped, nothing was changed, it is safe to run it again: " in found.output
    assert "error=NoSuchBucket" in found.output
    assert " measured end=stopped status=3 " in found.output.splitlines()[-1]


@pytest.mark.parametrize("operation", ["ListObjectsV2", "CreateSession"])
def test_a_bucket_that_may_not_be_listed_stops_it(world: World, operation: str):
    world.standin.fault(operation, "error", status=403, code="AccessDenied", times=0)
    found = run(world, "--json")
    assert (found.status, json.loads(found.output)["end"]) == (3, "stopped")
    assert f"operation={operation} error=AccessDenied" in found.errors


def test_a_signal_ends_it_soon(world: World):
    world.standin.fault("ListObjectsV2", "hang", bucket=MIRROR, seconds=500)
    found = begin(world)
    wait_until(lambda: world.requests().get("ListObjectsV2"))
    found.process.send_signal(signal.SIGTERM)
    assert found.end().status == 3
    assert "measure stopped, nothing was changed, it is safe to run it again: SIGTERM" in found.output


def test_without_credentials_a_program_is_told_in_json(world: World):
    nowhere = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:1/", "AWS_ACCESS_KEY_ID": ""}
    found = run(world, "--json", **nowhere)
    assert (found.status, json.loads(found.output)) == (3, {"end": "stopped", "status": 3})


@pytest.mark.parametrize(("settings", "told"), [({"DST_BUCKET": ""}, "DST_BUCKET is not set"), ({}, "--wrong")])
def test_wrong_usage_ends_with_2_and_lists_nothing(world: World, settings: dict[str, str], told: str):
    found = run(world, *([] if settings else ["--wrong"]), **settings)
    assert found.status == 2
    assert told in found.errors
    assert "QUEUE_URL" not in found.errors
    assert "ListObjectsV2" not in world.requests()
