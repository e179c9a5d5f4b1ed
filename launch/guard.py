"""The guard: checks the path of events (launch/path.py) after the work of a run, so that no broken link goes unnoticed.

It looks in the first scheduled run of a new process, then once an hour, and in every scheduled run while something is
wrong. If no scheduled run comes, a run for an event of the bucket does this, and looks at the schedule as well. A new
fault counts only if it is still there a moment later, because deploy.sh changes one thing after another.
If something may not be read, or AWS does not answer at the moment, that is not a fault.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from launch.path import Fault, faults_of_events, from_words, is_unknown

if TYPE_CHECKING:
    from launch.path import Path

LOOK_AGAIN_SECONDS = 3600
CONFIRM_SECONDS = 15  # longer than deploy.sh takes from the function's variables to the notification or rule
LOOK_SECONDS = 25  # that a look of a scheduled run may take: five calls without an answer
DENIED = ("AccessDenied", "AccessDeniedException", "AllAccessDisabled", "AuthorizationError")
NOT_FOUND = "ResourceNotFoundException"
CLIENT_CONFIG = Config(connect_timeout=2, read_timeout=3, retries={"mode": "standard", "total_max_attempts": 1})


def connect() -> tuple[Any, ...]:
    """(S3, SQS, EventBridge, Lambda), made at the first look only: they cost a second of a small function."""
    more: dict[str, Any] = {"region_name": os.environ["AWS_REGION"], "config": CLIENT_CONFIG}
    return tuple(boto3.client(service, **more) for service in ("s3", "sqs", "events", "lambda"))


def ask(call: Callable[..., Any], **parameters: Any) -> Any:
    """The answer; None if there is no such thing; or why it could not be read."""
    try:
        return call(**parameters)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        return None if code == NOT_FOUND else {"error": str(error), "is_denied": code in DENIED}
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


def read_path(clients: tuple[Any, ...], settings: Mapping[str, Any], starter: str, is_scheduled: bool = True) -> Path:
    """`clients`: see connect(). `starter`: the function's own ARN."""
    bucket_name, owner, name = settings["SRC_BUCKET"], settings["SRC_BUCKET_OWNER"], starter.split(":")[6]
    app = name.removesuffix("-starter")
    s3, sqs, events, functions = clients
    queue = ask(sqs.get_queue_attributes, QueueUrl=settings["QUEUE_URL"], AttributeNames=["All"])
    bucket = ask(s3.get_bucket_notification_configuration, Bucket=bucket_name, ExpectedBucketOwner=owner)
    rule = read_rule(events, f"{app}-event-rule")
    runs_starter = not is_scheduled or (rule and not is_unknown(rule))
    permissions = ask(functions.get_policy, FunctionName=name) if runs_starter else None
    names = {"queue": f"{app}-q", "dead_letters": f"{app}-dlq", "rule": f"{app}-starter-rule"}
    names |= {"event_rule": f"{app}-event-rule"}
    arns = {part: arn_beside(starter, "sqs", names[part]) for part in ("queue", "dead_letters")}
    arns |= {part: arn_beside(starter, "events", f"rule/{names[part]}") for part in ("rule", "event_rule")}
    names |= {"bucket": bucket_name, "queue_url": settings["QUEUE_URL"], "starter": name}
    given = {"id": app, "via": os.environ.get("VIA", ""), "name": names}
    given["want"] = {**from_words(settings["GUARD"]), "minutes": settings.get("LAMBDA_POLL_RATE")}
    parts = {"bucket": bucket, "queue": queue, "event_rule": rule, "starter": {}, "permissions": permissions}
    parts |= {} if is_scheduled else {"rule": read_rule(events, names["rule"])}
    return {**given, "arn": {**arns, "starter": starter}, **parts}


def has_time(context: Any, seconds: float) -> bool:
    """Whether the function has so long left, and some seconds for its end."""
    return float(context.get_remaining_time_in_millis()) / 1000 > seconds + 5


@dataclass
class Guard:
    """The guard of one process of Lambda's, and what it remembers of its earlier looks."""

    connect: Callable[[], tuple[Any, ...]] = connect
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    clients: tuple[Any, ...] = ()
    next_look: float = 0
    is_wrong: bool = False
    said: set[str] = field(default_factory=set)  # lines of the log

    def run(self, settings: Mapping[str, Any], context: Any, is_scheduled: bool = True) -> list[str]:
        """Returns what is wrong, a line for each fault with its cure, if it is time for a look."""
        if not settings["GUARD"]:
            self.say("WARNING the guard is off, which checks the path of events: GUARD is empty; ./deploy.sh sets it")
            return []
        if self.clock() < self.next_look or not has_time(context, LOOK_SECONDS):
            return []
        faults, is_complete = self.look(settings, context, is_scheduled)
        if faults and not self.is_wrong:
            if not has_time(context, CONFIRM_SECONDS + LOOK_SECONDS):
                return []
            self.sleep(CONFIRM_SECONDS)
            again, is_complete = self.look(settings, context, is_scheduled)
            faults = [fault for fault in faults if fault in again]
        # An hour later only if nothing is wrong and nothing was left open.
        self.next_look = self.clock() + (LOOK_AGAIN_SECONDS if is_complete and not faults else 0)
        self.is_wrong = bool(faults)
        return [f"{fault.fault}: {fault.cure}" for fault in faults]

    def look(self, settings: Mapping[str, Any], context: Any, is_scheduled: bool) -> tuple[list[Fault], bool]:
        """(faults, whether all that may be read was). Says what could not be read."""
        self.clients = self.clients or self.connect()
        starter = ":".join(context.invoked_function_arn.split(":")[:7])
        path = read_path(self.clients, settings, starter, is_scheduled)
        unread = [part for part in path.values() if isinstance(part, Mapping) and is_unknown(part)]
        for part in unread:
            self.say(f"not checked, which is no fault: {part['error']}")
        return faults_of_events(path), all(part["is_denied"] for part in unread)

    def say(self, line: str) -> None:
        """Once."""
        if line not in self.said:
            self.said.add(line)
            print(line)
