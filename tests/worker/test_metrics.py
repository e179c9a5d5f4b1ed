"""METRICS: lines that CloudWatch can read, with the figures of the log, at no call more; nothing while it is off."""

import json
import re
import statistics
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from test_first_responder import Function
from world import MIRROR, QUEUE, SOURCE, World

from mirror.model.errors import Postponed
from mirror.options.metrics import SAMPLE, Metrics
from mirror.protocol.attempt import KeySync, Result
from mirror.queue.bodies import hint_body

APP = "second-sync"
ON = {"METRICS": "true", "APP_NAME": APP}
LATE_SECONDS = 1000
UNITS = {"Count", "Bytes", "Seconds"}  # of those that the format knows, the ones that we use


def metrics_in(output: str) -> list[dict[str, Any]]:
    """What CloudWatch would take from a log: of each line, its metrics by name. Raises if a line of the log that it
    would look at is against a rule of the format (CloudWatch User Guide, "Embedded metric format specification")."""
    return [metrics_of(line) for line in output.splitlines() if "_aws" in line]


def metrics_of(line: str) -> dict[str, Any]:
    assert len(line.encode()) <= 1024**2
    root = json.loads(line)  # nothing before or after the object
    assert root["_aws"].keys() == {"Timestamp", "CloudWatchMetrics"}
    age = datetime.now(UTC) - datetime.fromtimestamp(root["_aws"]["Timestamp"] / 1000, UTC)
    assert timedelta(hours=-2) <= age <= timedelta(days=14)
    found = {}
    for directive in root["_aws"]["CloudWatchMetrics"]:
        assert directive.keys() == {"Namespace", "Dimensions", "Metrics"}
        assert directive["Namespace"] == APP
        assert directive["Dimensions"] == [[]]
        assert 0 < len(directive["Metrics"]) <= 100
        for metric in directive["Metrics"]:
            assert metric.keys() <= {"Name", "Unit", "StorageResolution"}
            assert metric["Unit"] in UNITS
            values = root[metric["Name"]]
            numbers = values if isinstance(values, list) else [values]
            assert 0 < len(numbers) <= 100
            assert all(isinstance(number, int | float) and number >= 0 for number in numbers)
            found[metric["Name"]] = values
    assert found.keys() == root.keys() - {"_aws"}
    return found


def sums(output: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for line in metrics_in(output):
        for name, value in line.items():
            found[name] = found.get(name, 0) + (len(value) if isinstance(value, list) else value)
    return found


def seed(world: World) -> None:
    """Copies and a delete for events of S3, one of which is late; a copy for a hint of ours only; a key without
    anything to do; a key that fails once."""
    for number in range(4):
        world.put(f"key {number}", 1000)
    world.put("bad", 10)
    world.standin.fault("HeadObject", "error", status=403, code="AccessDenied", key="^bad$", times=1)
    world.standin.put(MIRROR, "gone")
    world.put("gone")
    world.standin.delete(SOURCE, "gone")
    then = (datetime.now(UTC) - timedelta(seconds=LATE_SECONDS)).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    body = world.standin.messages(QUEUE)[3]["body"]
    world.standin.send(QUEUE, re.sub('"eventTime": "[^"]*"', f'"eventTime": "{then}"', body))
    world.standin.notify(SOURCE, QUEUE, prefixes=["key "])
    world.put("hinted", 100)
    world.standin.send(QUEUE, hint_body(SOURCE, ["hinted", "nobody has it"]))


def lines_of_log(output: str) -> list[tuple[str, str, int, float]]:
    """Key, action, size and lag of each that was synced."""
    found = re.findall(r'INFO synced key="(.*)" action=(\w+) size=(\d+) seconds=\S+ lag=(\S+)$', output, re.MULTILINE)
    return [(key, action, int(size), float(lag)) for key, action, size, lag in found]


# A wait for the queue may be one more or one less.
POLLS = {"ReceiveMessage"}


def test_they_are_the_figures_of_the_log_and_cost_no_call(world):
    seed(world)
    without = world.run_worker()
    assert metrics_in(without) == []
    asked = world.requests()

    world.build()
    seed(world)
    output = world.run_worker(**ON, ALARM_LAG_SECONDS=str(LATE_SECONDS - 60))
    assert {name: count for name, count in world.requests().items() if name not in POLLS} == {
        name: count for name, count in asked.items() if name not in POLLS
    }
    log, found = lines_of_log(output), sums(output)
    done = [line for line in log if line[1] != "skipped"]
    for name, action in (("CopiedKeys", "copied"), ("DeletedKeys", "deleted")):
        assert found[name] == sum(line[1] == action for line in log) > 0, name
    assert found["FailedKeys"] == output.count(" ERROR failed key=") == 1
    assert found["CopiedBytes"] == sum(size for _, _, size, _ in log) == 4 * 1000 + 10 + 100
    of_events = [lag for key, _, _, lag in done if key != "hinted"]
    assert found["Keys"] == found["Lag"] == len(of_events) == 6
    assert found["LateKeys"] == sum(lag > LATE_SECONDS - 60 for lag in of_events) == 1
    lags = sorted(lag for line in metrics_in(output) for lag in line["Lag"])
    assert lags == pytest.approx(sorted(of_events), abs=0.002)
    assert found["HeldKeys"] == 0


def test_the_function_writes_a_line_for_each_run_that_did_something(world):
    world.put("a", 1000)
    function = Function(world, **ON)
    function.invoke(20)
    (line,) = metrics_in(function.output)
    assert (line["CopiedKeys"], line["CopiedBytes"], line["Keys"]) == (1, 1000, 1)
    function.invoke(20)
    assert len(metrics_in(function.output)) == 1


class Clock:
    seconds = 1_795_000_000.0

    def __call__(self) -> float:
        return self.seconds


class Minutes:
    """The metrics of a worker that is not run, minute by minute."""

    def __init__(self, world: World) -> None:
        self.worker = world.worker(**ON)
        self.lines: list[str] = []
        self.clock = Clock()
        self.clock.seconds = datetime.now(UTC).timestamp()
        self.metrics = Metrics(self.worker.settings, self.worker.scheduler, self.lines.append, self.clock)
        self.world = world

    def pass_by(self, seconds: float) -> list[dict[str, Any]]:
        """The lines of these seconds, after a beat in each of them."""
        begun = len(self.lines)
        for _ in range(int(seconds)):
            self.clock.seconds += 1
            self.world.run(self.metrics.beat())
        return [metrics_of(line) for line in self.lines[begun:]]


def test_there_is_a_line_a_minute_if_anything_happened(world):
    minutes = Minutes(world)
    assert minutes.pass_by(300) == []
    minutes.worker.scheduler.counts.update(copied=2, bytes=30, skipped=7)
    assert minutes.pass_by(59) == []
    (line,) = minutes.pass_by(1)
    assert (line["CopiedKeys"], line["CopiedBytes"]) == (2, 30)
    assert "Lag" not in line
    minutes.worker.scheduler.counts.update(copied=1, failed=1)
    (line,) = minutes.pass_by(120)
    assert (line["CopiedKeys"], line["CopiedBytes"], line["FailedKeys"]) == (1, 0, 1)


def test_a_key_that_was_found_equal_says_nothing_of_the_lag(world):
    minutes = Minutes(world)
    event = SimpleNamespace(content=SimpleNamespace(is_event=True, event_time=minutes.clock.seconds - 5))
    for action in ("skipped", "copied"):
        minutes.metrics.note(KeySync(action, result=Result(action=action)), [event], None)
    assert minutes.metrics.lags == [5]


def test_many_lags_are_a_fair_sample_and_counted_to_the_last(world):
    minutes = Minutes(world)
    for number in range(20_000):
        minutes.metrics.note_lag(number / 10)
    (line,) = minutes.pass_by(60)
    assert (line["Keys"], line["LateKeys"]) == (20_000, 20_000 - 9001)
    assert len(line["Lag"]) == SAMPLE
    assert 700 < statistics.median(line["Lag"]) < 1300  # six times its standard deviation


def test_what_an_outage_or_a_marker_holds_is_counted_each_minute(world):
    minutes = Minutes(world)
    scheduler = minutes.worker.scheduler
    waits = Postponed("what it announces is not complete", 60, is_exact=True, waiting_since=1.0)
    for key in ("a/_SUCCESS", "a/_SUCCESS", "b/_SUCCESS"):
        minutes.metrics.note(KeySync(key), [], waits)
    minutes.metrics.note(KeySync("large"), [], Postponed("larger than what is copied here", 5))
    scheduler.outage.suspects |= dict.fromkeys(range(5))
    scheduler.waiting.extend(range(3))
    (line,) = minutes.pass_by(60)
    assert line["HeldKeys"] == 2 + 5
    scheduler.outage.began = 1.0
    (line,) = minutes.pass_by(60)
    assert line["HeldKeys"] == 5 + 3
