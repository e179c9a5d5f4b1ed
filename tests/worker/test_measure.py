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
from world import MIRROR, World, wait_until

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


@pytest.fixture
def aged(world: World) -> World:
    """Objects that changed before this many days, the last second of the last day that is kept among them."""
    midnight = time.time() // DAY * DAY
    for days in (0, 7, 8, 30, 31, 90, 91):
        world.put(f"data/{days}", 10**days if days < 9 else days, modified=int(midnight - days * DAY))
    return world


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
