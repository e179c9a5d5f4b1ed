"""COPY_LAST in a whole worker, on a clock of its own: how long a marker waits, and what becomes of its message."""

from __future__ import annotations

import json
import re

import pytest
from fakes import Version
from histories import World
from invocations import Function
from tasks import Task
from told import LAST, Told

from mirror.protocol.attempt import LONGEST_WAIT

pytestmark = pytest.mark.fast


@pytest.fixture
def world() -> Told:
    return Told()


MARKER, ICE = "data/d/_SUCCESS", "data/d/ice"


@pytest.fixture
def stuck(world: Told) -> Told:
    """What the marker announces cannot be copied."""
    world.hold(ICE, Version("ice", 1, 1, archived="GLACIER"))
    world.change(MARKER, "put")
    return world


def delays(world: World) -> list[tuple[int, float]]:
    """Receives of each message that is left, and the seconds until it is visible."""
    return [(message.receives, message.visible_at - world.clock) for message in world.queue.messages]


def waits_in(log: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """The level and the line of each that says that a marker waits."""
    return [(record.levelname, record.getMessage()) for record in log.records if " waits for " in record.getMessage()]


def restore(world: World) -> None:
    world.versions[ICE] = world.versions[ICE]._replace(archived="")
    world.look([ICE])


@pytest.mark.parametrize(("age", "level", "delay"), [(0, "INFO", 30), (400, "INFO", 105), (4000, "WARNING", 900)])
def test_the_older_it_is_the_later_it_comes_back_and_no_receive_is_used_up(stuck, caplog, age, level, delay):
    caplog.set_level("INFO", "worker")
    stuck.clock += age
    assert stuck.live(**LAST).status == 0
    [(receives, seconds)] = delays(stuck)
    assert (receives, stuck.stores[MARKER].copy) == (0, None)
    if age > 3600:  # in the next round, at a multiple of a quarter of an hour
        assert (stuck.clock + seconds) % 900 < 60
    else:
        assert 0 < seconds <= delay
    line = f'marker key="{MARKER}" waits for 1 keys under "data/d/", such as "{ICE}": archived since='
    assert {text[: len(line)] for _, text in waits_in(caplog)} == {line}
    assert [found for found, _ in waits_in(caplog)][:: len(waits_in(caplog)) - 1] == ["INFO", level]


def test_a_marker_whose_event_has_no_time_comes_back_after_a_minute(stuck):
    [message] = stuck.queue.messages
    message.body = re.sub('"(eventTime|time)": "[^"]*"', '"other": ""', message.body)
    stuck.live(40, **LAST)
    [(_, seconds)] = delays(stuck)
    assert 30 < seconds <= 60


def test_it_remembers_since_when_it_waits_is_parked_after_three_days_and_waits_anew_if_it_is_redriven(stuck, caplog):
    caplog.set_level("INFO", "worker")
    began = stuck.clock
    for _ in range(5):  # more than MAX_RECEIVES
        stuck.live(**LAST)
    assert len({text.rpartition(" since=")[2] for _, text in waits_in(caplog)}) == 1
    [message] = stuck.queue.messages
    assert began <= json.loads(message.body)["sync"]["since"] < began + 60
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
    stuck.settle_with(**LAST)
    assert stuck.stores[MARKER].copy


def test_of_several_messages_on_a_marker_that_waits_the_oldest_is_left(stuck):
    stuck.live(**LAST)
    [message] = stuck.queue.messages
    since = json.loads(message.body)["sync"]["since"]
    for _ in range(3):
        stuck.look([MARKER])
    stuck.pass_time(900)
    stuck.live(**LAST)
    [message] = stuck.queue.messages
    assert json.loads(message.body)["sync"]["since"] == since
    assert "Look" not in message.body


def test_sigterm_hands_a_waiting_marker_back_at_once(stuck, caplog):
    caplog.set_level("INFO", "worker")
    began = stuck.clock
    stuck.live(5, **LAST)
    assert stuck.clock - began < 8
    assert f'interrupted key="{MARKER}"' in caplog.messages
    assert delays(stuck) == [(0, pytest.approx(0, abs=1))]


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


def test_what_cannot_be_looked_at_is_named_with_its_error(stuck, caplog):
    caplog.set_level("INFO", "worker")
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
    assert looks < 2 * 200 + 100
    assert world.differences() == []


@pytest.mark.parametrize(("seconds", "least", "most"), [(60, 4, 45), (2, 1, 12)])
def test_the_function_waits_for_a_moment_and_hands_back(stuck, seconds, least, most):
    began = stuck.clock
    function = Function(stuck, environment=LAST)
    counts = function.invoke(seconds)
    assert counts["handed_back"] == 1
    assert least < stuck.clock - began < most
    [(receives, delay)] = delays(stuck)
    assert (receives, delay > 0 or seconds < 5) == (0, True)
    function.loop.close()
