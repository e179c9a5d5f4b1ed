"""ANNOUNCE in a whole worker, on a clock of its own: what the events say, and what a bus in trouble costs."""

from __future__ import annotations

import asyncio
import functools
from collections import Counter
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from fakes import Version
from invocations import Function
from tasks import Task
from told import ALL, BAD, LAST, MARKERS, Told, Trouble

from mirror.function import OF_FUNCTION, QUIET_SECONDS
from mirror.options.announcer import PAUSE_SECONDS
from mirror.queue.leases import SETTLERS_THAT_WAIT

pytestmark = pytest.mark.fast


@pytest.fixture
def world() -> Told:
    return Told()


END_SECONDS = sum(OF_FUNCTION[:5]) + QUIET_SECONDS + 1  # in which the function has ended after its time


async def hangs(_entries: list[dict[str, Any]]) -> None:
    await asyncio.sleep(3600)


async def is_slow(_entries: list[dict[str, Any]]) -> None:
    await asyncio.sleep(0.65)


def refusing(error: Exception) -> Trouble:
    async def trouble(_entries: list[dict[str, Any]]) -> None:
        raise error

    return trouble


def refused(code: str) -> Trouble:
    return refusing(ClientError({"Error": {"Code": code, "Message": "m"}}, "PutEvents"))


@pytest.mark.parametrize(
    ("trouble", "says"),
    [
        (refused("AccessDeniedException"), 'error=AccessDeniedException message="m" advice="run deploy.sh'),
        (refused("ThrottlingException"), "ANNOUNCE=markers"),
        (
            refusing(EndpointConnectionError(endpoint_url="u")),
            "events.us-east-1.amazonaws.com needs an interface endpoint",
        ),
        (hangs, "needs an interface endpoint"),
    ],
)
def test_if_nothing_is_taken_the_sync_goes_on_asks_seldom_and_says_what_to_do(world, caplog, trouble, says):
    world.trouble = trouble
    for number in range(500):
        world.change(f"data/{number}", "put")
    counts = world.live(**ALL).worker.counts()
    assert (world.differences(), world.queue.messages, counts["unannounced"]) == ([], [], 500)
    lines = [line for line in caplog.messages if line.startswith("could not announce ")]
    assert sum(int(line.split()[3]) for line in lines) == 500
    assert says in lines[-1]
    assert (len(lines) <= 4, world.calls <= 2 * SETTLERS_THAT_WAIT) == (True, True)


def test_after_a_failure_nothing_is_tried_for_a_while_and_then_by_one_alone(world):
    calls: list[float] = []

    async def trouble(_entries: list[dict[str, Any]]) -> None:
        calls.append(world.clock)
        await asyncio.sleep(1)
        raise ClientError({"Error": {"Code": "AccessDeniedException"}}, "PutEvents")

    world.trouble = trouble
    meanwhile = [(tenth / 10, functools.partial(world.change, f"data/{tenth}", "put")) for tenth in range(700)]
    Task(world, ALL, bus=world).live(80, meanwhile)
    first = [moment for moment in calls if moment - calls[0] < PAUSE_SECONDS]
    later = [moment for moment in calls if moment not in first]
    assert max(first) - calls[0] < 2
    assert [round((moment - calls[0]) / PAUSE_SECONDS) for moment in later] == [1, 2]


@pytest.mark.parametrize(("key", "delays_of"), [(MARKERS[0], [30, 120]), ("data/a", [])])
def test_the_message_of_a_marker_whose_event_is_not_taken_comes_again_and_not_for_ever(world, key, delays_of):
    world.trouble = refused("AccessDeniedException")
    world.change(key, "put")
    found = []
    for _ in range(3):
        world.live(**LAST, **ALL, EMPTY_POLLS_BEFORE_EXIT="1", WAIT_TIME_SECONDS="1")
        found += [round(message.visible_at - message.sent_at) for message in world.queue.messages]
    assert (found, world.queue.messages, world.queue.dead) == (delays_of, [], [])


def test_ten_events_are_in_a_call_however_many_keys_a_message_has(world):
    world.look([f"data/{number}" for number in range(25)])
    world.live(**ALL)
    assert (len(world.events), world.calls) == (25, 3)


@pytest.mark.parametrize("trouble", [None, hangs, is_slow])
def test_the_bus_does_not_make_the_function_late(world, trouble):
    """Its time is over while events are under way."""
    world.trouble = trouble
    for number in range(60):
        world.change(f"data/{number}", "put")
    began, function = world.clock, Function(world, environment=ALL, bus=world)
    counts = Counter(function.invoke(1.5, lasts=(0.3,)))
    assert world.clock - began < 1.5 + END_SECONDS
    assert counts["announced"] + counts["unannounced"] == counts["copied"] > 0
    assert function.alive
    function.loop.close()


def test_one_event_that_hangs_costs_the_function_the_events_of_a_moment(world):
    once = iter([hangs])

    async def trouble(entries: list[dict[str, Any]]) -> None:
        if first := next(once, None):
            await first(entries)

    world.trouble = trouble
    for number in range(200):
        world.change(f"data/{number}", "put")
    function = Function(world, environment=ALL, bus=world)
    counts = Counter(function.invoke(20, lasts=(0.3,)))
    assert counts["announced"] + counts["unannounced"] == counts["copied"] == 200
    assert 0 < counts["unannounced"] < 60
    function.loop.close()


def test_an_event_has_the_version_and_one_of_a_failure_a_reason_of_limited_length(world):
    heard = []
    world.hear = lambda what, detail: heard.append((what, detail))
    world.hold("data/ü a", Version("v", 1000, 1_000_000, "id"))
    world.look(["data/ü a"])
    world.change(BAD, "put")
    world.denies = lambda operation, key: "\x07" * 250_000 if (operation, key) == ("copy_object", BAD) else ""
    for _ in range(3):
        world.live(ANNOUNCE="all,failures")
    [(_, synced)] = [one for one in heard if one[0] == "Object Synced"]
    [(_, failed)] = [one for one in heard if one[0] == "Object Not Synced"]
    version = {"etag": "v", "version-id": "id", "last-modified": "1970-01-12T13:46:40Z", "size": 1000}
    buckets = {"bucket": "mirror--use1-az4--x-s3", "source-bucket": "source"}
    assert synced == buckets | {"key": "data/ü a", "action": "copied", "size": 1000, "source-version": version}
    assert (failed["key"], failed["action"], failed["size"]) == (BAD, "failed", 1)
    assert 100 < len(failed["reason"]) <= 2000


def test_a_message_that_nobody_can_read_fails_without_a_key(world):
    world.queue.send_message("no event")
    for _ in range(3):
        world.live(ANNOUNCE="failures")
    [failed] = world.failures
    assert (failed["key"], failed["source-version"], "not an S3 event" in failed["reason"]) == (None, None, True)
