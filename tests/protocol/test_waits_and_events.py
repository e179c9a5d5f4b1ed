"""Single markers that wait and single events of whole workers, on a clock of their own."""

from __future__ import annotations

import asyncio
import functools
import json
import re
from collections import Counter
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from fakes import Copy, Store, Version
from histories import World
from invocations import Function
from options_world import ALL, BAD, LAST, MARKERS, OptionsWorld, Trouble
from tasks import Task, settle

from mirror.function import OF_FUNCTION, QUIET_SECONDS
from mirror.protocol.attempt import LONGEST_WAIT
from mirror.queue.leases import SETTLERS_THAT_WAIT
from mirror.settings import Settings

pytestmark = pytest.mark.fast


@pytest.fixture
def world() -> OptionsWorld:
    return OptionsWorld()


MARKER, ICE = "data/d/_SUCCESS", "data/d/ice"


@pytest.fixture
def stuck(world: OptionsWorld) -> OptionsWorld:
    """What the marker announces cannot be copied."""
    world.hold(ICE, Version("ice", 1, 1, archived="GLACIER"))
    world.change(MARKER, "put")
    return world


def waits_in(log: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """The level and the line of each that says that a marker waits."""
    return [(record.levelname, record.getMessage()) for record in log.records if " waits for " in record.getMessage()]


def restore(world: World) -> None:
    world.versions[ICE] = world.versions[ICE]._replace(archived="")
    world.look([ICE])


@pytest.mark.parametrize(
    ("age", "level", "delay"), [(0, "INFO", 30), (400, "INFO", 105), (4000, "WARNING", 900), (None, "INFO", 60)]
)
def test_the_older_it_is_the_later_it_comes_back_and_no_receive_is_used_up(stuck, caplog, age, level, delay):
    """If its event has no time, after a minute."""
    caplog.set_level("INFO", "worker")
    stuck.clock += age or 0
    if age is None:
        [message] = stuck.queue.messages
        message.body = re.sub('"(eventTime|time)": "[^"]*"', '"other": ""', message.body)
    assert stuck.live(40 if age is None else None, **LAST).status == 0
    [(receives, seconds)] = stuck.left()
    assert (receives, stuck.stores[MARKER].copy) == (0, None)
    if level == "WARNING":  # in the next round, at a multiple of a quarter of an hour
        assert (stuck.clock + seconds) % 900 < 60
    else:
        assert 0 < seconds <= delay
    line = f'marker key="{MARKER}" waits for 1 keys under "data/d/", such as "{ICE}": archived since='
    assert {text[: len(line)] for _, text in waits_in(caplog)} == {line}
    assert [found for found, _ in waits_in(caplog)][:: len(waits_in(caplog)) - 1] == ["INFO", level]


@pytest.mark.parametrize(("seconds", "looks"), [(0.1, 9), (3, 3)])
def test_what_is_missing_is_looked_for_after_pauses_that_grow_and_seldom_if_a_look_takes_long(stuck, seconds, looks):
    """Two of the looks are at the marker itself."""
    task = Task(stuck, LAST, lambda operation, _key: seconds if operation == "head_object" else 0.1)
    task.live(19)
    assert task.asked["head_object"] == looks


def test_it_remembers_since_when_it_waits_is_parked_after_three_days_and_waits_anew_if_it_is_redriven(stuck, caplog):
    caplog.set_level("INFO", "worker")
    began = stuck.clock
    stuck.live(**LAST)
    for _ in range(4):  # more than MAX_RECEIVES; of several messages the oldest is left
        stuck.look([MARKER])
        stuck.pass_time(900)
        stuck.live(**LAST)
    assert len({text.rpartition(" since=")[2] for _, text in waits_in(caplog)}) == 1
    [message] = stuck.queue.messages
    assert began <= json.loads(message.body)["sync"]["since"] < began + 60
    assert "Look" not in message.body
    stuck.clock += LONGEST_WAIT
    for _ in range(4):
        stuck.live(**LAST)
    failures = [line for line in caplog.messages if line.startswith("failed key=")]
    why = r'error=Refused message="it waits for 1 keys since \S+Z, such as data/d/ice: archived"'
    assert len(failures) == 3
    assert re.fullmatch(f'failed key="{MARKER}" attempt=3/3 {why}', failures[2])
    assert [message.named() for message in stuck.queue.dead] == [{MARKER}]
    stuck.redrive()
    stuck.live(**LAST)
    [message] = stuck.queue.messages
    assert (json.loads(message.body)["sync"]["since"] > began + LONGEST_WAIT, message.receives) == (True, 0)
    restore(stuck)
    settle(stuck, **LAST)
    assert stuck.stores[MARKER].copy


def test_sigterm_hands_a_waiting_marker_back_at_once(stuck, caplog):
    caplog.set_level("INFO", "worker")
    began = stuck.clock
    stuck.live(5, **LAST)
    assert 5 < stuck.clock - began < 8
    assert f'interrupted key="{MARKER}"' in caplog.messages
    assert stuck.left() == [(0, pytest.approx(0, abs=1))]


def test_a_marker_that_the_source_has_no_longer_goes_before_a_file_that_it_announces_changes(world, caplog):
    """Its own message has not come yet."""
    caplog.set_level("INFO", "worker")
    for key in (MARKER, "data/d/a"):
        world.change(key, "put")
    world.live(**LAST)
    del world.versions[MARKER]
    world.change("data/d/a", "put")
    caplog.clear()
    world.live(**LAST)
    first, then = [line for line in caplog.messages if line.startswith(("removed first", "synced"))]
    assert first == f'removed first key="{MARKER}" as the source has it no longer'
    assert then.startswith('synced key="data/d/a" action=copied')
    assert (world.stores[MARKER].copy, world.differences()) == (None, [])


def test_a_marker_that_came_a_moment_ago_is_looked_for_before_a_file_changes(world):
    """Also by a worker that has seen shortly before that there was none."""
    changes = [(0, "data/d/a", "put"), (1, MARKER, "put"), (8, MARKER, "delete", 9), (8.1, "data/d/a", "put")]
    meanwhile = [(moment, functools.partial(world.change, *what)) for moment, *what in changes]
    Task(world, LAST, bus=world).live(meanwhile=meanwhile)
    assert (world.faults, world.differences()) == ([], [])


def test_a_copy_whose_source_went_without_an_event_goes_when_a_marker_meets_it_again(world, caplog):
    """But not what others have put there, for which no marker waits."""
    caplog.set_level("INFO", "worker")
    for key in ("data/d/a", "data/d/b"):
        world.change(key, "put")
    world.live(**LAST)
    del world.versions["data/d/a"], world.versions["data/d/b"]
    foreign = Store(Copy('"f"', ("of others",), "", "", 0))
    world.stores["data/d/foreign"] = foreign
    world.change(MARKER, "put")
    world.live(22, **LAST)
    assert (world.stores[MARKER].copy, world.stores["data/d/a"].copy is None) == (None, False)
    world.live(**LAST)
    assert [world.stores[key].copy is None for key in ("data/d/a", "data/d/b", MARKER)] == [True, True, False]
    assert world.stores["data/d/foreign"] == foreign
    said = [line for line in caplog.messages if line.startswith("asked for a look at ")]
    assert [line.partition(" keys ")[0] for line in said] == ["asked for a look at 2"]


def test_of_what_is_missing_that_which_cannot_be_looked_at_is_named_with_its_error(stuck, caplog):
    caplog.set_level("INFO", "worker")
    for key in ("data/d/a", ICE):
        stuck.hold(key, Version("x", 1, 1))
    stuck.denies = lambda operation, key: "AccessDenied" if (operation, key) == ("head_object", ICE) else ""
    stuck.live(**LAST)
    assert f'such as "{ICE}": trouble: operation=HeadObject error=AccessDenied' in caplog.text


def test_markers_that_wait_take_no_slots(world):
    """Twelve of them with four slots."""
    for number in range(12):
        world.change(f"data/{number}/_SUCCESS", "put")
        world.change(f"data/{number}/slow", "put")
    task = Task(
        world,
        LAST | {"MAX_CONCURRENT_KEYS": "4"},
        lambda operation, key: 20 if (operation, key[-4:]) == ("copy_object", "slow") else 0.1,
    )
    assert task.live() == 0
    assert (world.differences(), world.queue.messages) == ([], [])


def test_files_beside_a_marker_look_for_it_together(world):
    """A look a file, and one of each folder that has none."""
    for key in (MARKER, "data/d/a"):
        world.change(key, "put")
    world.live(**LAST)
    for number in range(200):
        world.change(f"data/d/new/{number}", "put")
    looks = world.live(**LAST).asked["head_object"]
    assert 2 * 200 < looks < 2 * 200 + 100
    assert world.differences() == []


@pytest.mark.parametrize("levels", [1, 6, 60])
def test_markers_above_a_key_are_looked_for_at_all_levels_at_once(world, caplog, levels):
    """A look at each name in each of its folders, and one more at most for the many."""
    caplog.set_level("INFO", "worker")
    names = "_SUCCESS,_DONE,manifest.json"
    world.change("data/" + "d/" * (levels - 1) + "a", "put")
    task = world.live(COPY_LAST=names)
    [synced] = [line for line in caplog.messages if line.startswith("synced ")]
    [seconds] = re.findall(r" seconds=([0-9.]+) ", synced)
    assert 0.3 < float(seconds) < 1 + levels / 60
    assert task.asked["head_object"] == 2 + 3 * levels


@pytest.mark.parametrize(("seconds", "least", "most"), [(60, 4, 45), (2, 1, 12)])
def test_the_function_waits_for_a_moment_and_hands_back(stuck, seconds, least, most):
    began = stuck.clock
    function = Function(stuck, environment=LAST)
    counts = function.invoke(seconds)
    assert counts["handed_back"] == 1
    assert least < stuck.clock - began < most
    [(receives, delay)] = stuck.left()
    assert (receives, delay > 0 or seconds < 5) == (0, True)
    function.loop.close()


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
    assert (1 <= len(lines) <= 4, 1 <= world.calls <= 2 * SETTLERS_THAT_WAIT) == (True, True)


def test_after_a_failure_nothing_is_tried_for_a_while_and_then_by_one_alone(world):
    calls: list[float] = []

    async def trouble(_entries: list[dict[str, Any]]) -> None:
        calls.append(world.clock)
        await asyncio.sleep(1)
        raise ClientError({"Error": {"Code": "AccessDeniedException"}}, "PutEvents")

    world.trouble = trouble
    meanwhile = [(tenth / 10, functools.partial(world.change, f"data/{tenth}", "put")) for tenth in range(700)]
    Task(world, ALL, bus=world).live(80, meanwhile)
    first = [moment for moment in calls if moment - calls[0] < Settings.event_pause]
    later = [moment for moment in calls if moment not in first]
    assert 0 < max(first) - calls[0] < 2
    assert [round((moment - calls[0]) / Settings.event_pause) for moment in later] == [1, 2]


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


def once(trouble: Trouble) -> Trouble:
    left = [trouble]

    async def first(entries: list[dict[str, Any]]) -> None:
        if left:
            await left.pop()(entries)

    return first


@pytest.mark.parametrize(
    ("trouble", "seconds", "copied", "costs"),
    [(None, 1.5, 1, False), (hangs, 1.5, 1, True), (is_slow, 1.5, 1, False), (once(hangs), 20, 200, True)],
)
def test_the_bus_does_not_make_the_function_late_and_costs_it_the_events_of_a_moment(
    world, trouble, seconds, copied, costs
):
    """Its time is over while events are under way."""
    world.trouble = trouble
    for number in range(200):
        world.change(f"data/{number}", "put")
    began, function = world.clock, Function(world, environment=ALL, bus=world)
    counts = Counter(function.invoke(seconds, lasts=(0.3,)))
    assert world.clock - began < seconds + END_SECONDS
    assert counts["announced"] + counts["unannounced"] == counts["copied"] >= copied
    assert costs <= counts["unannounced"] < 60 * costs + 1
    assert function.alive
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


def test_a_message_that_nobody_can_read_is_parked_and_fails_without_a_key(world, caplog):
    world.queue.put("no event")
    for _ in range(4):
        world.live(ANNOUNCE="failures")
    assert [message.body for message in world.queue.dead] == ["no event"]
    assert caplog.text.count("cannot read message: not an S3 event") == 3
    [failed] = world.failures
    assert (failed["key"], failed["source-version"], "not an S3 event" in failed["reason"]) == (None, None, True)
