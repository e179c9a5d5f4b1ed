"""METRICS: lines that CloudWatch can read, with lags and what waits. Whether they are true: test_options.py."""

from __future__ import annotations

import json
import statistics
import time
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from fakes import ENVIRONMENT
from world import World

from mirror.model.errors import Postponed
from mirror.options.metrics import SAMPLE, Metrics
from mirror.protocol.attempt import KeySync, Result
from mirror.settings import load_settings

APP = "second-sync"
ON = {"METRICS": "true", "APP_NAME": APP}
UNITS = {"Count", "Bytes", "Seconds"}  # of those that the format knows, the ones that we use


def metrics_in(output: str, now: float | None = None) -> list[dict[str, Any]]:
    """What CloudWatch would take from a log: of each line, its metrics by name. Raises if a line of the log that it
    would look at is against a rule of the format (CloudWatch User Guide, "Embedded metric format specification")."""
    return [metrics_of(line, now or time.time()) for line in output.splitlines() if "_aws" in line]


def metrics_of(line: str, now: float) -> dict[str, Any]:
    assert len(line.encode()) <= 1024**2
    values = json.loads(line)  # nothing before or after the object
    about = values.pop("_aws")
    [directive] = about.pop("CloudWatchMetrics")
    assert -7200 <= now - about.pop("Timestamp") / 1000 <= 14 * 86_400
    units = {metric.pop("Name"): metric.pop("Unit") for metric in directive["Metrics"]}
    assert (about, directive) == ({}, {"Namespace": APP, "Dimensions": [[]], "Metrics": [{}] * len(units)})
    assert units.keys() == values.keys()
    assert set(units.values()) <= UNITS
    assert 0 < len(units) <= 100
    for value in values.values():
        numbers = value if isinstance(value, list) else [value]
        assert 0 < len(numbers) <= 100
        assert all(number >= 0 for number in numbers)
    return values


def test_a_process_writes_a_bare_line_of_what_it_has_done(world: World):
    world.put("a", 1000)
    (line,) = metrics_in(world.run_worker(**ON))
    assert (line["CopiedKeys"], line["CopiedBytes"], line["Keys"], len(line["Lag"])) == (1, 1000, 1, 1)


class Minutes:
    """The metrics of a process, minute by minute; what it has done, and keeps, is whatever a test says."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.seconds = time.time()
        self.counts: Counter[str] = Counter()
        self.kept = 0
        self.metrics = Metrics(load_settings(ENVIRONMENT | ON), self.lines.append, lambda: self.seconds)

    def pass_by(self, seconds: int) -> list[dict[str, Any]]:
        """The lines of these seconds, after a beat in each of them."""
        begun = len(self.lines)
        for _ in range(seconds):
            self.seconds += 1
            with pytest.raises(StopIteration):
                self.metrics.beat(self.counts, self.kept).send(None)
        return [metrics_of(line, self.seconds) for line in self.lines[begun:]]

    def end(self, key: str, lag: float = 0, error: Exception | None = None) -> None:
        """Of a sync for an event of S3."""
        leases = [SimpleNamespace(content=SimpleNamespace(is_event=True, event_time=self.seconds - lag))]
        self.metrics.ended(KeySync(key, result=Result(action="copied")), leases, error)


def test_there_is_a_line_a_minute_if_anything_happened():
    minutes = Minutes()
    assert minutes.pass_by(300) == []
    minutes.counts.update(copied=2, bytes=30, skipped=7)
    (line,) = minutes.pass_by(61)
    assert (line["CopiedKeys"], line["CopiedBytes"], "Lag" in line) == (2, 30, False)
    minutes.counts.update(copied=1, failed=1)
    (line,) = minutes.pass_by(120)
    assert (line["CopiedKeys"], line["CopiedBytes"], line["FailedKeys"]) == (1, 0, 1)


def test_many_lags_are_a_fair_sample_and_counted_to_the_last():
    minutes = Minutes()
    for number in range(20_000):
        minutes.end("k", number / 10)
    (line,) = minutes.pass_by(60)
    assert (line["Keys"], line["LateKeys"], len(line["Lag"])) == (20_000, 20_000 - 9001, SAMPLE)
    assert 700 < statistics.median(line["Lag"]) < 1300  # six times its standard deviation


def test_what_an_outage_or_a_marker_holds_is_counted_each_minute():
    minutes, waits = Minutes(), Postponed("it waits", 60, is_exact=True, waiting_since=1.0)
    for key, error in (
        ("a/_SUCCESS", waits),
        ("a/_SUCCESS", waits),
        ("b/_SUCCESS", waits),
        ("large", Postponed("it is", 5)),
    ):
        minutes.end(key, error=error)
    for kept, held in ((5, 2 + 5), (8, 8)):
        minutes.kept = kept
        (line,) = minutes.pass_by(60)
        assert line["HeldKeys"] == held
