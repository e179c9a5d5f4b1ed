"""The guard: checks the path of events (launch/path.py) after the work of a run, so that no broken link goes unnoticed.

It looks in the first scheduled run of a new process, then once an hour, and in every scheduled run while something is
wrong. If no scheduled run comes, a run for an event of the bucket does this, and looks at the schedule as well. A new
fault counts only if it is still there a moment later, because deploy.sh changes one thing after another.
If something may not be read, or AWS does not answer at the moment, that is not a fault.

As often, it looks at what reports all of this: the alarms, their metric filters and the topic of their mails
(launch/watchers.py). Its calls are free within the first million a month, and cost a thousandth of a cent an hour
beyond. It does not look at the concurrency that is reserved for the function, and at what Lambda does with failed runs:
that would take two more rights, and the sync goes on without them. The plan of deploy.sh shows both.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from launch.path import Fault, Path, faults_of_events, is_gone, is_unknown, of_timeout
from launch.wanted import from_words
from launch.watchers import (
    Seen,
    Wanted,
    faults_of_watchers,
    filters_of,
    has_event_rule,
    is_settled,
    names_of,
    seconds_since,
    wanted_of,
)

LOOK_AGAIN_SECONDS = 3600
CONFIRM_SECONDS = 15  # longer than deploy.sh takes from the function's variables to the notification or rule
LOOK_SECONDS = 25  # that a look of a scheduled run may take: five calls without an answer; at the alarms as well
DENIED = ("AccessDenied", "AccessDeniedException", "AllAccessDisabled", "AuthorizationError")
NOT_FOUND = ("ResourceNotFoundException", "NotFound")
CLIENT_CONFIG = Config(connect_timeout=2, read_timeout=3, retries={"mode": "standard", "total_max_attempts": 1})


class Clients(NamedTuple):
    """Of boto3."""

    s3: Any
    sqs: Any
    events: Any
    functions: Any
    alarms: Any
    topics: Any
    logs: Any


def connect() -> Clients:
    """At the first look only, because the clients cost two seconds of a small function."""
    more: dict[str, Any] = {"region_name": os.environ["AWS_REGION"], "config": CLIENT_CONFIG}
    return Clients(
        s3=boto3.client("s3", **more),
        sqs=boto3.client("sqs", **more),
        events=boto3.client("events", **more),
        functions=boto3.client("lambda", **more),
        alarms=boto3.client("cloudwatch", **more),
        topics=boto3.client("sns", **more),
        logs=boto3.client("logs", **more),
    )


def ask(call: Callable[..., Any], **parameters: Any) -> Any:
    """The answer; None if there is no such thing; or why it could not be read."""
    try:
        return call(**parameters)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        return None if code in NOT_FOUND else {"error": str(error), "is_denied": code in DENIED}
    except BotoCoreError as error:
        return {"error": str(error), "is_denied": False}


def read_rule(events: Any, name: str) -> Any:
    rule = ask(events.describe_rule, Name=name)
    if rule is None or is_unknown(rule):
        return rule
    targets = ask(events.list_targets_by_rule, Rule=name)
    return targets if is_unknown(targets) else {**rule, **(targets or {})}


def arn_beside(arn: str, service: str, name: str) -> str:
    """That of something in the same account and Region."""
    first, partition, _, region, account, *_ = arn.split(":")
    return ":".join((first, partition, service, region, account, name))


def read_path(clients: Clients, settings: Mapping[str, Any], starter: str, is_scheduled: bool = True) -> Path:
    """`starter`: the function's own ARN."""
    function = starter.split(":")[6]
    app = function.removesuffix("-starter")
    names = {
        "bucket": settings["SRC_BUCKET"],
        "queue": f"{app}-q",
        "queue_url": settings["QUEUE_URL"],
        "dead_letters": f"{app}-dlq",
        "rule": f"{app}-starter-rule",
        "event_rule": f"{app}-event-rule",
        "starter": function,
    }
    path = {
        "id": app,
        "via": via(),
        "name": names,
        "arn": {
            "queue": arn_beside(starter, "sqs", names["queue"]),
            "dead_letters": arn_beside(starter, "sqs", names["dead_letters"]),
            "rule": arn_beside(starter, "events", f"rule/{names['rule']}"),
            "event_rule": arn_beside(starter, "events", f"rule/{names['event_rule']}"),
            "starter": starter,
        },
        "want": {**from_words(settings["GUARD"]), "minutes": settings.get("LAMBDA_POLL_RATE")},
        "starter": {},
        "permissions": None,
    }

    sqs, s3, owner = clients.sqs, clients.s3, settings["SRC_BUCKET_OWNER"]
    path["queue"] = ask(sqs.get_queue_attributes, QueueUrl=names["queue_url"], AttributeNames=["All"])
    path["bucket"] = ask(s3.get_bucket_notification_configuration, Bucket=names["bucket"], ExpectedBucketOwner=owner)
    path["event_rule"] = event_rule = read_rule(clients.events, names["event_rule"])
    if not is_scheduled or (event_rule and not is_unknown(event_rule)):
        path["permissions"] = ask(clients.functions.get_policy, FunctionName=function)
    if not is_scheduled:
        path["rule"] = read_rule(clients.events, names["rule"])
    return path


def read_watchers(clients: Clients, wanted: Wanted) -> Seen:
    groups = filters_of(wanted)
    prefix = f"{wanted.app}-"
    found = {
        group: ask(clients.logs.describe_metric_filters, logGroupName=group, filterNamePrefix=prefix)
        for group in groups
    }
    return Seen(
        alarms=ask(clients.alarms.describe_alarms, AlarmNames=names_of(wanted)),
        filters=found,
        subscriptions=ask(clients.topics.list_subscriptions_by_topic, TopicArn=wanted.topic) if wanted.mail else None,
    )


def via() -> str:
    """What a command needs for the local cloud."""
    return os.environ.get("VIA", "")


def seconds_left(context: Any) -> float:
    return float(context.get_remaining_time_in_millis()) / 1000


def has_time(context: Any, seconds: float) -> bool:
    """Whether the function has so long left, and some seconds for its end."""
    return seconds_left(context) > seconds + 5


@dataclass
class Turn:
    """Of one kind of look: when the next one is due, and whether the last one has found something."""

    next_look: float = 0
    is_wrong: bool = False


@dataclass
class Guard:
    """The guard of one process of Lambda's, and what it remembers of its earlier looks."""

    connect: Callable[[], Clients] = connect
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    clients: Clients | None = None
    of_path: Turn = field(default_factory=Turn)
    of_watchers: Turn = field(default_factory=Turn)
    has_event_rule: bool = False  # by the last look at the path, and no notification beside it
    said: set[str] = field(default_factory=set)  # lines of the log

    def run(self, settings: Mapping[str, Any], context: Any, is_scheduled: bool = True, spent: float = 0) -> list[str]:
        """Returns what is wrong, a line for each fault with its cure, if it is time for a look. `spent`: the seconds
        that the run has taken so far."""
        if not settings["GUARD"]:
            self.say("WARNING the guard is off, which checks the path of events: GUARD is empty; ./deploy.sh sets it")
            return []
        starter = ":".join(context.invoked_function_arn.split(":")[:7])
        name = {"starter": starter.split(":")[6]}
        timeout = math.ceil(seconds_left(context) + spent)
        faults = list(of_timeout({"starter": {"Timeout": timeout}, "name": name, "via": via()}))
        faults += self.take(self.of_path, context, lambda: self.look(settings, starter, is_scheduled))
        faults += self.take(self.of_watchers, context, lambda: self.watch(settings, starter))
        if self.of_watchers.is_wrong:
            self.of_path.next_look = 0  # which of them there are to be depends on it
        return [f"{fault.fault}: {fault.cure}" for fault in faults]

    def take(self, turn: Turn, context: Any, look: Callable[[], tuple[list[Fault], bool]]) -> list[Fault]:
        """What a look finds twice, if one is due. It returns its faults, and whether it saw all that may be read."""
        if self.clock() < turn.next_look or not has_time(context, LOOK_SECONDS):
            return []
        faults, is_complete = look()
        if faults and not turn.is_wrong:
            if not has_time(context, CONFIRM_SECONDS + LOOK_SECONDS):
                return []
            self.sleep(CONFIRM_SECONDS)
            again, is_complete = look()
            faults = [fault for fault in faults if fault in again]
        # An hour later only if nothing is wrong and nothing was left open.
        turn.next_look = self.clock() + (LOOK_AGAIN_SECONDS if is_complete and not faults else 0)
        turn.is_wrong = bool(faults)
        return faults

    def look(self, settings: Mapping[str, Any], starter: str, is_scheduled: bool) -> tuple[list[Fault], bool]:
        """At the path. Says what could not be read."""
        self.clients = self.clients or self.connect()
        path = read_path(self.clients, settings, starter, is_scheduled)
        self.has_event_rule = has_event_rule(path)
        return faults_of_events(path), self.has_seen(part for part in path.values() if not is_gone(part))

    def watch(self, settings: Mapping[str, Any], starter: str) -> tuple[list[Fault], bool]:
        """At the alarms. Says what could not be read. If the function's age may not be read, it counts as old."""
        self.clients = self.clients or self.connect()
        name = starter.split(":")[6]
        function = ask(self.clients.functions.get_function_configuration, FunctionName=name)
        if is_unknown(function) and not function["is_denied"]:
            return [], self.has_seen([function])
        app = name.removesuffix("-starter")
        wanted = wanted_of(app, arn_beside(starter, "sns", f"{app}-alarms"), settings, self.has_event_rule, via())
        seen = read_watchers(self.clients, wanted)
        if not is_unknown(function):
            seen = seen._replace(settled_for=seconds_since(function["LastModified"], self.clock()))
        is_complete = self.has_seen([function, seen.alarms, seen.subscriptions, *seen.filters.values()])
        return faults_of_watchers(wanted, seen), is_complete and is_settled(seen)

    def has_seen(self, parts: Iterable[Any]) -> bool:
        """Whether all of them were read that may be. Says what was not."""
        unread = [part for part in parts if isinstance(part, Mapping) and is_unknown(part)]
        for part in unread:
            self.say(f"not checked, which is no fault: {part['error']}")
        return all(part["is_denied"] for part in unread)

    def say(self, line: str) -> None:
        """Once."""
        if line not in self.said:
            self.said.add(line)
            print(line)
