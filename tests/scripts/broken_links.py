"""What can break on the path of a change to the starter, each link in each way, and what is to be said of it.

A table for everything that looks at a deployment: each row breaks an account on paper (paper_account.py).
"""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from account import APP, REGION, SOURCE
from paper_account import NUMBER

Kept = dict[str, Any]
SQS = {"PREFIX_FILTER": "a b/,c/"}
BRIDGE = {"PREFIX_FILTER": "a b/", "EXCLUDE": "*.tmp", "EVENT_SOURCE": "eventbridge"}
MODES = {"sqs": SQS, "eventbridge": BRIDGE}

QUEUE, DEAD_LETTERS = f"queue {APP}-q", f"queue {APP}-dlq"
BUCKET, FUNCTION = f"notifications {SOURCE}", f"function {APP}-starter"
RULE, EVENT_RULE = f"rule {APP}-starter-rule", f"rule {APP}-event-rule"


class Broken(NamedTuple):
    """The deployment that it happens to, how it happens, what verify calls the link, what is said, and the cure."""

    mode: str
    breaks: Callable[[Kept], Any]
    link: str
    fault: str
    cure: str = "./deploy.sh, then ./sync.sh reconcile (look at what it calls foreign)"


def no_notification(kept: Kept) -> None:
    kept[BUCKET]["QueueConfigurations"] = []


def to_another_queue(kept: Kept) -> None:
    for notification in kept[BUCKET]["QueueConfigurations"]:
        notification["QueueArn"] += "2"


def no_event_type(kept: Kept) -> None:
    kept[BUCKET]["QueueConfigurations"][1]["Events"].remove("s3:ObjectRemoved:*")


def other_prefix(kept: Kept) -> None:
    kept[BUCKET]["QueueConfigurations"][0]["Filter"]["Key"]["FilterRules"][0]["Value"] = "d/"


def other_policy(**changed: Any) -> Callable[[Kept], None]:
    def change(kept: Kept) -> None:
        policy = json.loads(kept[QUEUE]["Attributes"]["Policy"])
        for statement in policy["Statement"]:
            statement |= changed
        kept[QUEUE]["Attributes"]["Policy"] = json.dumps(policy)

    return change


def other_pattern(**changed: Any) -> Callable[[Kept], None]:
    def change(kept: Kept) -> None:
        pattern = json.loads(kept[EVENT_RULE]["EventPattern"]) | changed
        kept[EVENT_RULE]["EventPattern"] = json.dumps(pattern)

    return change


OF_ANOTHER = {"ArnEquals": {"aws:SourceArn": f"arn:aws:events:{REGION}:{NUMBER}:rule/another"}}
IN_BUCKET = {"bucket": {"name": [SOURCE]}}
DEPLOY = "./deploy.sh"
NO_QUEUE = f"there is no queue {APP}-q"
NO_DEAD_LETTERS = f"there is no dead-letter queue {APP}-dlq"
OR_SET = "./deploy.sh, then ./sync.sh reconcile (look at what it calls foreign), or set REGION and APP_NAME"
OTHER_EVENTS = f"the rule {APP}-event-rule is for other events than those that are synced"
OTHER_THAN_EVENT = (
    f"the rule {APP}-event-rule sends something else than the event to the queue: its target has an input of its own"
)
RULE_SHUT_OUT = f"the policy of the queue does not let the rule {APP}-event-rule send to it"
BUCKET_SHUT_OUT = f"the policy of the queue does not let the bucket {SOURCE} send to it"

BROKEN = {
    "the queue is gone": Broken("sqs", lambda kept: kept.pop(QUEUE), "no event", NO_QUEUE, OR_SET),
    "the dead-letter queue is gone": Broken(
        "sqs", lambda kept: kept.pop(DEAD_LETTERS), "no dead-letter queue", NO_DEAD_LETTERS, OR_SET
    ),
    "the notifications are gone": Broken(
        "sqs",
        no_notification,
        "no event",
        "no event reaches the queue: there is neither a notification of the bucket nor a rule",
    ),
    "the notifications are of another queue": Broken(
        "sqs",
        to_another_queue,
        "no event",
        f"the notification {APP} of the bucket sends to another queue, arn:aws:sqs:{REGION}:{NUMBER}:{APP}-q2",
        "remove it, then ./deploy.sh, then ./sync.sh reconcile (look at what it calls foreign)",
    ),
    "a notification is gone": Broken(
        "sqs",
        lambda kept: kept[BUCKET]["QueueConfigurations"].pop(),
        "no event",
        "the bucket has 1 of 2 notifications, one for each prefix",
    ),
    "a notification is for another prefix": Broken(
        "sqs",
        other_prefix,
        "no event",
        "the notifications of the bucket are for other prefixes than those that are synced",
    ),
    "a notification has lost an event type": Broken(
        "sqs", no_event_type, "no event", "the notifications of the bucket are without s3:ObjectRemoved:*"
    ),
    "the queue has no policy": Broken(
        "sqs", lambda kept: kept[QUEUE]["Attributes"].pop("Policy"), "no event", BUCKET_SHUT_OUT
    ),
    "the policy is for another sender": Broken("sqs", other_policy(Condition=OF_ANOTHER), "no event", BUCKET_SHUT_OUT),
    "the switch of the bucket is off": Broken(
        "eventbridge",
        lambda kept: kept[BUCKET].pop("EventBridgeConfiguration"),
        "no event",
        f"the bucket {SOURCE} sends no events to EventBridge: it is switched off",
    ),
    "the event rule is gone": Broken(
        "eventbridge",
        lambda kept: kept.pop(EVENT_RULE),
        "no event",
        "no event reaches the queue: there is neither a notification of the bucket nor a rule",
    ),
    "the event rule is disabled": Broken(
        "eventbridge",
        lambda kept: kept[EVENT_RULE].update(State="DISABLED"),
        "no event",
        f"the rule {APP}-event-rule, which sends the events, is disabled",
    ),
    "the pattern has other keys": Broken(
        "eventbridge",
        other_pattern(detail=IN_BUCKET | {"object": {"key": [{"prefix": "a b/c/"}]}}),
        "no event",
        OTHER_EVENTS,
    ),
    "the pattern has lost an event type": Broken(
        "eventbridge", other_pattern(**{"detail-type": ["Object Created"]}), "no event", OTHER_EVENTS
    ),
    "the rule does not send to the queue": Broken(
        "eventbridge",
        lambda kept: kept[EVENT_RULE]["targets"].pop("queue"),
        "no event",
        f"the rule {APP}-event-rule does not send to the queue: its target is gone",
    ),
    "the rule sends a text of its own to the queue": Broken(
        "eventbridge",
        lambda kept: kept[EVENT_RULE]["targets"]["queue"].update(Input='{"news": true}'),
        "no event",
        OTHER_THAN_EVENT,
    ),
    "the queue takes nothing of the rule": Broken(
        "eventbridge", other_policy(Effect="Deny"), "no event", RULE_SHUT_OUT
    ),
    "the rule does not start the starter": Broken(
        "eventbridge",
        lambda kept: kept[EVENT_RULE]["targets"].pop("starter"),
        "no start at once",
        f"the rule {APP}-event-rule does not start the starter at once: its target is gone",
        DEPLOY,
    ),
    "the event rule may not run the function": Broken(
        "eventbridge",
        lambda kept: kept[FUNCTION]["statements"].pop(f"{APP}-event-rule"),
        "no start at once",
        f"the function {APP}-starter does not let the rule {APP}-event-rule run it",
        DEPLOY,
    ),
    "the minute's rule is gone": Broken(
        "sqs", lambda kept: kept.pop(RULE), "no starter", "no rule runs the starter", DEPLOY
    ),
    "the minute's rule is disabled": Broken(
        "eventbridge",
        lambda kept: kept[RULE].update(State="DISABLED"),
        "no starter",
        "the rule that runs the starter is disabled",
        DEPLOY,
    ),
    "the minute's rule has no target": Broken(
        "sqs",
        lambda kept: kept[RULE]["targets"].clear(),
        "no starter",
        f"the rule {APP}-starter-rule does not run the starter: its target is gone",
        DEPLOY,
    ),
    "the function is gone": Broken(
        "sqs", lambda kept: kept.pop(FUNCTION), "no starter", "there is no function that starts workers", DEPLOY
    ),
    "the minute's rule may not run the function": Broken(
        "sqs",
        lambda kept: kept[FUNCTION]["statements"].clear(),
        "no starter",
        f"the function {APP}-starter does not let the rule {APP}-starter-rule run it",
        DEPLOY,
    ),
}  # fmt: skip
