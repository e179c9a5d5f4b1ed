"""Options of whole workers on a clock of their own: random days with an oracle, and single markers and events."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import random
import re
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from fakes import Copy, Version
from histories import World
from invocations import Function
from tasks import Task
from test_metrics import metrics_in

from mirror.function import OF_FUNCTION, QUIET_SECONDS
from mirror.options.announcer import PAUSE_SECONDS
from mirror.protocol.attempt import LONGEST_WAIT
from mirror.queue.leases import SETTLERS_THAT_WAIT

pytestmark = pytest.mark.fast
SEEDS = range(1000 if os.environ.get("NIGHTLY") == "1" else 50)
FILES = ("data/a", "data/d/a", "data/d/b", "data/d/e/a", "data/f/a", "data/f/b")
MARKERS = ("data/d/_SUCCESS", "data/d/e/_SUCCESS", "data/f/_SUCCESS")
BAD = "data/bad"  # cannot be copied
LAST = {"COPY_LAST": "_SUCCESS"}
Trouble = Callable[[list[dict[str, Any]]], Awaitable[dict[str, Any] | None]]


class Told(World):
    """The world of histories.py with a bus, whose events it judges, and a reader, who looks after every write."""

    def __init__(self) -> None:
        super().__init__()
        self.had: dict[str, set[str | None]] = defaultdict(lambda: {None})  # what the destination had of each key
        self.put_as: dict[str, int] = {}  # content of a marker -> number of the change that put it
        self.events: dict[str, list[str | None]] = defaultdict(list)  # what was told of each key
        self.failures: list[dict[str, Any]] = []
        self.trouble: Trouble | None = None
        self.calls = 0
        self.denies = lambda operation, key: "KMS.DisabledException" if (operation, key) == ("copy_object", BAD) else ""

    def change(self, key: str, change: str, delay: int = 0, copies: int = 1, size: int = 1) -> None:
        """Every put is of its own content, and events have a time."""
        content = f"v{self.changes + 1}"
        self.put_as[content] = self.changes + 1
        before = len(self.queue.messages)
        super().change(key, f"put {content}" if change == "put" else change, delay, copies, size)
        for message in self.queue.messages[before:]:
            message.body = with_time(message.body, self.clock)

    def hold(self, key: str, version: Version) -> None:
        """Without an event."""
        self.versions[key], self.changed_at[key] = version, 0

    def check(self, key: str, before: Copy | None, after: Copy | None) -> None:
        super().check(key, before, after)
        self.had[key].add(after.content[0] if after else None)
        for marker in MARKERS:
            copy = self.stores[marker].copy if marker in self.stores else None
            if copy:
                self.read(marker, self.put_as[copy.content[0]])

    def read(self, marker: str, put_as: int) -> None:
        """What the source has held since before the marker was put is there with it."""
        for key, version in self.versions.items():
            is_announced = key.startswith(marker.removesuffix("_SUCCESS")) and self.changed_at[key] < put_as
            copy = self.stores[key].copy if key in self.stores else None
            if is_announced and (copy is None or copy.content[0] != version.content):
                self.faults.append(f"{marker} is seen before {key}")

    # The bus

    async def put_events(self, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803
        self.calls += 1
        assert 1 <= len(Entries) <= 10
        await asyncio.sleep(0.05)
        answer = await self.trouble(Entries) if self.trouble else None
        results = answer if answer is not None else {"Entries": [{"EventId": "1"} for _ in Entries]}
        for entry, result in zip(Entries, results.get("Entries", [{}] * len(Entries)), strict=True):
            if "EventId" in result:
                self.hear(entry["DetailType"], json.loads(entry["Detail"]))
        return results

    def hear(self, what: str, detail: dict[str, Any]) -> None:
        if what == "Object Not Synced":
            self.failures.append(detail)
            return
        key, version = detail["key"], detail["source-version"]
        content = version["etag"].strip('"') if version else None
        if content not in self.had[key] or detail["action"] == ("copied" if version is None else "deleted"):
            self.faults.append(f"{detail} is told before it is so")
        self.events[key].append(content)

    def close_connections(self) -> None:
        pass

    # Workers

    def wait(self) -> None:
        """Until a message is visible."""
        due = [message.visible_at for message in self.queue.messages] + [ghost.ends for ghost in self.ghosts]
        self.pass_time(max(0.0, min(due) - self.clock) if due else 0)

    def settle_with(self, **environment: str) -> None:
        while self.queue.messages:
            self.live(**environment)

    def live(self, seconds: float | None = None, **environment: str) -> Task:
        """A task from its start to its end."""
        self.wait()
        task = Task(self, environment, bus=self)
        task.status = task.live(seconds)
        return task


def with_time(body: str, clock: float) -> str:
    content, text = json.loads(body), datetime.fromtimestamp(clock, UTC).isoformat()
    for event in content.get("Records", [content]):
        event["eventTime" if "Records" in content else "time"] = text
    return json.dumps(content)


# --- Random days ------------------------------------------------------------------------------------------------------


def troubles(chance: random.Random) -> Trouble:
    """Of a bus, at random."""

    async def trouble(entries: list[dict[str, Any]]) -> dict[str, Any] | None:
        what = chance.choice(["", "", "slow", "hangs", "denied", "some", "empty", "far"])
        if what in ("slow", "hangs"):
            await asyncio.sleep(0.65 if what == "slow" else 3600)
        if what == "denied":
            raise ClientError({"Error": {"Code": "AccessDeniedException"}}, "PutEvents")
        if what == "far":
            raise EndpointConnectionError(endpoint_url="https://events")
        if what == "some":
            taken = [chance.random() < 0.5 for _ in entries]
            return {"Entries": [{"EventId": "1"} if one else {"ErrorCode": "InternalFailure"} for one in taken]}
        return {} if what == "empty" else None

    return trouble


class Day:
    """Changes, tasks and troubles at random; what must hold after each task, and in the end."""

    def __init__(self, seed: int, log: pytest.LogCaptureFixture) -> None:
        self.chance, self.world, self.log = random.Random(seed), Told(), log
        self.announce = self.chance.choice(["all", "markers", "all,failures", "failures"])
        self.environment = LAST | {"ANNOUNCE": self.announce, "METRICS": "true", "APP_NAME": "second-sync"}
        self.is_calm = self.chance.random() < 0.5
        self.world.trouble = None if self.is_calm else troubles(self.chance)
        self.was_killed = False

    def run(self) -> None:
        for _ in range(self.chance.randint(1, 5)):
            for _ in range(self.chance.randint(1, 12)):
                self.change()
            self.live()
        self.world.trouble = None
        for _ in range(60):
            if not self.world.queue.messages and not self.world.ghosts:
                break
            self.live(at_ease=True)
        self.check()

    def change(self) -> None:
        key = self.chance.choice([*FILES, *FILES, *MARKERS, *MARKERS, BAD])
        change = self.chance.choice(["put", "put", "delete"])
        if change == "put" or key in self.world.versions:
            self.world.change(key, change, copies=self.chance.choice((1, 1, 2)))

    def live(self, at_ease: bool = False) -> None:
        chance, world = self.chance, self.world
        world.wait()
        task = Task(
            world,
            self.environment,
            lambda operation, _key: chance.random() * (3 if "copy" in operation else 0.2),
            world,
        )
        meanwhile = [] if at_ease else [(chance.random() * 40, self.change) for _ in range(chance.randint(0, 6))]
        end = chance.choice(["itself", "SIGTERM", "SIGKILL"]) if not at_ease else "itself"
        if end == "SIGKILL":
            meanwhile.append((chance.random() * 20, task.die))
            self.was_killed = True
        self.log.clear()
        heard = sum(map(len, world.events.values())) + len(world.failures)
        task.live(chance.random() * 20 if end == "SIGTERM" else None, meanwhile)
        if not task.was_killed:
            self.check_life(task, sum(map(len, world.events.values())) + len(world.failures) - heard)

    def check_life(self, task: Task, heard: int) -> None:
        counts = task.worker.counts()
        unsaid = [
            int(one[1]) for line in self.log.messages if (one := re.match(r"could not announce (\d+) keys", line))
        ]
        assert sum(unsaid) == counts["unannounced"]
        assert counts["announced"] == heard if self.is_calm else counts["announced"] <= heard
        assert not (self.is_calm and unsaid)
        lines, sums = metrics_in("\n".join(task.lines), self.world.clock), Counter[str]()
        for line in lines:
            sums.update({name: sum(value) if isinstance(value, list) else value for name, value in line.items()})
            assert any(value for name, value in line.items())
        assert (sums["CopiedKeys"], sums["DeletedKeys"]) == (counts["copied"], counts["deleted"])
        assert (sums["FailedKeys"], sums["CopiedBytes"]) == (counts["failed"], counts["bytes"])
        lags = [
            float(lag)
            for line in self.log.messages
            for lag in re.findall(r"action=(?:copied|deleted) .* lag=(\S+)$", line)
        ]
        assert (sums["Keys"], sums["LateKeys"]) == (len(lags), sum(lag > 900 for lag in lags))
        assert sums["Lag"] == pytest.approx(sum(lags), abs=0.2 * len(lags) + 0.01)

    def check(self) -> None:
        world = self.world
        assert world.faults == []
        assert [line for line in world.differences() if not line.startswith(BAD)] == []
        parked = {key for message in world.queue.dead for key in message.named()}
        assert parked <= {BAD} or self.was_killed
        assert not world.queue.messages
        told = MARKERS if "markers" in self.announce else (*FILES, *MARKERS) if "all" in self.announce else ()
        assert set(world.events) <= {*told, *([BAD] if "all" in self.announce else [])}
        for key in told:
            if key in world.changed_at and key not in parked and self.is_calm:
                version = world.versions.get(key)
                assert world.events[key][-1] == (version.content if version else None), key
        if "failures" in self.announce and self.is_calm and not self.was_killed:
            assert {failure["key"] for failure in world.failures} == parked
        assert all(failure["key"] == BAD and "KMS.Disabled" in failure["reason"] for failure in world.failures)
        assert "failures" in self.announce or not world.failures


def test_whatever_happens_markers_come_last_and_events_and_figures_are_true(caplog) -> None:
    caplog.set_level("INFO", "worker")
    for seed in SEEDS:
        day = Day(seed, caplog)
        try:
            day.run()
        except BaseException as error:
            error.add_note(f"seed {seed}: {day.environment}, calm: {day.is_calm}, killed: {day.was_killed}")
            raise


# --- A marker that waits ----------------------------------------------------------------------------------------------

MARKER, ICE = "data/d/_SUCCESS", "data/d/ice"


@pytest.fixture
def world() -> Told:
    return Told()


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


# --- Events -----------------------------------------------------------------------------------------------------------

ALL = {"ANNOUNCE": "all"}
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


@pytest.mark.parametrize(("key", "delays_of"), [(MARKER, [30, 120]), ("data/a", [])])
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
