"""Days of the starter's guard: no false alarm by deployments, pauses or refused reads, and a fault within the hour."""

from __future__ import annotations

import heapq
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from launch import path
from launch.guard import Guard

STARTER = "arn:aws:lambda:eu-north-1:111122223333:function:sync-starter"
QUEUE, RULE = "arn:aws:sqs:eu-north-1:111122223333:sync-q", "sync-event-rule"
MINUTE, HOUR, DAY = 60, 3600, 86_400
POLICY = {"Statement": [{"Sid": "s3-events", "Effect": "Allow"}, {"Sid": "eventbridge", "Effect": "Allow"}]}
STEP_SECONDS = 3  # between two writes of deploy.sh: one or two calls of the AWS CLI
CHANGEOVER = 300
MOST_OF_A_RUN = 6  # seconds
SETTINGS = {"GUARD": "{}", "QUEUE_URL": "https://queue"}


def notification(prefix: str) -> dict[str, Any]:
    rules = [{"Name": "prefix", "Value": prefix}]
    return {"Id": "sync", "QueueArn": QUEUE, "Events": [*path.EVENT_TYPES], "Filter": {"Key": {"FilterRules": rules}}}


def permission(rule: str) -> dict[str, Any]:
    of_rule = {"ArnLike": {"AWS:SourceArn": rule}}
    who = {"Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "lambda:InvokeFunction"}
    return {"Sid": rule, **who, "Condition": of_rule}


def pattern(prefix: str) -> dict[str, Any]:
    return {"detail": {"object": {"key": [{"prefix": prefix}]}}}


@dataclass
class Day:
    """An account, what happens to it, and the runs of the function in it."""

    rate: int  # LAMBDA_POLL_RATE
    chance: random.Random
    at: float = 1_000_000.0
    wanted: str = "a/"  # the prefix that the function's variables name
    bucket: dict[str, Any] = field(default_factory=lambda: {"QueueConfigurations": [notification("a/")]})
    rule: dict[str, Any] | None = None
    permissions: list[str] = field(default_factory=list)
    refused: float = 0.0  # this many of the reads
    is_denied: bool = False
    to_come: list[tuple[float, int, Callable[[], Any]]] = field(default_factory=list)

    def later(self, at: float, *steps: Callable[[], Any]) -> None:
        """One write of deploy.sh after another."""
        for number, step in enumerate(steps):
            heapq.heappush(self.to_come, (at + number * STEP_SECONDS, len(self.to_come) + 1000 * number, step))

    def pass_to(self, at: float) -> None:
        while self.to_come and self.to_come[0][0] <= at:
            heapq.heappop(self.to_come)[2]()
        self.at = max(self.at, at)

    looks: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.new_process()

    def new_process(self) -> None:
        self.guard = Guard(lambda: (), self.read, lambda: self.at, lambda more: self.pass_to(self.at + more))

    def read(self, _clients: Any, settings: Any, starter: str, is_scheduled: bool) -> dict[str, Any]:
        assert is_scheduled
        self.looks.append(self.at)
        wanted = {"notifications": [notification(self.wanted)], "pattern": pattern(self.wanted), "policy": POLICY}
        parts: dict[str, Any] = {
            "bucket": self.bucket,
            "queue": {"Attributes": {"Policy": json.dumps(POLICY)}},
            "event_rule": self.rule,
            "permissions": {"Policy": json.dumps({"Statement": [permission(name) for name in self.permissions]})},
        }
        for name in parts:
            if self.chance.random() < self.refused:
                parts[name] = {"error": f"{name}: slow down", "is_denied": self.is_denied}
        names = {"bucket": "source", "queue_url": settings["QUEUE_URL"], "event_rule": RULE, "starter": "sync-starter"}
        names |= {"queue": "sync-q", "dead_letters": "sync-dlq"}
        arns = {"queue": QUEUE, "starter": starter, "event_rule": RULE}
        return {
            "id": "sync",
            "via": "",
            "name": names,
            "arn": arns,
            "want": path.condense(wanted),
            "starter": {},
            **parts,
        }

    def runs(self, seconds: float) -> Iterator[list[str]]:
        """What each minute's run fails with. Lambda replaces the process of a function from time to time."""
        for _ in range(int(seconds // (self.rate * MINUTE))):
            self.pass_to(self.at - self.at % (self.rate * MINUTE) + self.rate * MINUTE)
            if self.chance.random() < (0.01 if self.rate < 15 else 1):
                self.new_process()
            self.pass_to(self.at + self.chance.uniform(1, MOST_OF_A_RUN))
            ends = self.at + 60 - MOST_OF_A_RUN
            context = SimpleNamespace(
                invoked_function_arn=STARTER, get_remaining_time_in_millis=lambda ends=ends: (ends - self.at) * 1000
            )
            yield self.guard.run(SETTINGS, context)

    # What deploy.sh and others do, in the order in which they do it

    def change_prefix(self, at: float) -> None:
        prefix = f"{self.chance.random()}/"

        def write() -> None:
            if self.bucket["QueueConfigurations"]:
                self.bucket["QueueConfigurations"] = [notification(prefix)]
            if self.rule:
                self.rule["EventPattern"] = json.dumps(pattern(prefix))

        self.later(at, lambda: self.set_variables(prefix), write)

    def set_variables(self, prefix: str) -> None:
        self.wanted = prefix
        self.new_process()

    def pause_or_resume(self, at: float) -> None:
        self.later(at, self.new_process)

    def to_eventbridge(self, at: float) -> None:
        def make() -> None:
            self.rule = {"State": "ENABLED", "EventPattern": json.dumps(pattern(self.wanted)), "Targets": []}

        def add_targets() -> None:
            assert self.rule
            self.rule["Targets"] = [{"Arn": QUEUE}, {"Arn": STARTER}]

        on = lambda: self.bucket.update(EventBridgeConfiguration={})  # noqa: E731
        self.later(at, self.new_process, make, lambda: self.permissions.append(RULE), add_targets, on)
        self.later(at + CHANGEOVER, lambda: self.bucket.update(QueueConfigurations=[]))

    def to_sqs(self, at: float) -> None:
        def drop_targets() -> None:
            assert self.rule
            self.rule["Targets"] = []

        def drop_rule() -> None:
            self.rule = None

        make = lambda: self.bucket.update(QueueConfigurations=[notification(self.wanted)])  # noqa: E731
        off = lambda: self.bucket.pop("EventBridgeConfiguration")  # noqa: E731
        self.later(at, self.new_process, make)
        self.later(at + CHANGEOVER, off, lambda: self.permissions.remove(RULE), drop_targets, drop_rule)


@pytest.fixture(params=[1, 5, 1440])
def day(request: pytest.FixtureRequest) -> Day:
    return Day(request.param, random.Random(request.param))


def fill(day: Day, days: int) -> None:
    """Something every half an hour, or in each run of a day, where it hurts most: when the function is about to run."""
    to_eventbridge, every = True, max(HOUR / 2, day.rate * MINUTE)
    for number in range(int(days * DAY / every)):
        at = day.at + number * every
        at += -at % (day.rate * MINUTE)
        at += day.chance.uniform(-4, MOST_OF_A_RUN)
        what = number % 4
        if what == 3:
            (day.to_eventbridge if to_eventbridge else day.to_sqs)(at)
            to_eventbridge = not to_eventbridge
        else:
            (day.change_prefix, day.pause_or_resume, day.change_prefix)[what](at)


def test_no_false_alarm_in_a_day_of_deployments_pauses_and_refused_reads(day: Day) -> None:
    days = 40 if day.rate == 1440 else 1
    fill(day, days)
    day.refused = 0.1
    assert [said for said in day.runs(days * DAY) if said] == []


def test_a_fault_is_found_within_the_hour_said_in_each_run_and_no_more_after_the_cure(day: Day) -> None:
    days = 2 if day.rate == 1440 else 0
    list(day.runs(days * DAY + HOUR / 2))
    day.bucket["QueueConfigurations"] = []
    broken = list(day.runs(days * DAY + 3 * HOUR))
    first = next(number for number, said in enumerate(broken) if said)
    assert first * day.rate <= MINUTE
    assert all(said == broken[first] for said in broken[first:])
    day.bucket["QueueConfigurations"] = [notification("a/")]
    assert not any(day.runs(days * DAY + 3 * HOUR))


def test_a_run_without_the_time_for_a_second_look_leaves_it_to_the_next(day: Day) -> None:
    day.bucket["QueueConfigurations"] = []
    context = SimpleNamespace(invoked_function_arn=STARTER, get_remaining_time_in_millis=lambda: 40_000)
    assert day.guard.run(SETTINGS, context) == []
    assert day.guard.next_look <= day.at == day.looks[-1]


@pytest.mark.parametrize("is_denied", [False, True])
def test_what_was_not_read_is_asked_for_in_each_run_and_what_may_never_be_once_an_hour(
    day: Day, is_denied: bool
) -> None:
    day.refused, day.is_denied = 1.0, is_denied
    runs = list(day.runs(2 * DAY if day.rate == 1440 else 3 * HOUR))
    assert not any(runs)
    assert len(day.looks) <= 8 if is_denied else len(day.looks) == len(runs)
