"""What people break by hand: each link in each way, what is to be said of it, and what repairs it.

A table for everything that looks at a deployment: each row breaks an account on paper (paper_account.py). What judges
it, and prints it, is breaks.py.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from account import APP, REGION, SOURCE
from paper_account import NUMBER

Kept = dict[str, Any]
SQS = {"PREFIX_FILTER": "a b/,c/"}
BRIDGE = {"PREFIX_FILTER": "a b/", "EXCLUDE": "*.tmp", "EVENT_SOURCE": "eventbridge"}
MODES = {"sqs": SQS, "eventbridge": BRIDGE}

# Why the guard does not say it: the function fails by itself, an alarm says that it is silent, or it may not look.
FAILS, ALARM, NOT_ITS_WORK = "it fails itself", "alarm", "-"
IN_EVENT_RUNS, IN_ITS_LOG = "event runs", "its log"
QUEUE, DEAD_LETTERS = f"queue {APP}-q", f"queue {APP}-dlq"
BUCKET, FUNCTION = f"notifications {SOURCE}", f"function {APP}-starter"
GROUP, TASK_ROLE = "security-group sg-ours", f"role {APP}-task-role"
RULE, EVENT_RULE = f"rule {APP}-starter-rule", f"rule {APP}-event-rule"


class Broken(NamedTuple):
    """The deployment that it happens to; how it happens; what verify calls the link, what is said by all that look, and
    the cure; the kind of the plan's row, and what it names; whether the guard says it, too. Nobody asks for some
    things: then `parts` are those of the status in which it shows."""

    mode: str
    breaks: Callable[[Kept], Any]
    link: str
    fault: str
    cure: str = "./deploy.sh, then ./sync.sh reconcile (look at what it calls foreign)"
    plan: tuple[str, str] = ("", "")
    guard: str = "yes"
    parts: Mapping[str, Any] = {}


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


def queue_has(name: str = QUEUE, **attributes: str) -> Callable[[Kept], None]:
    return lambda kept: kept[name]["Attributes"].update(attributes)


def denied(kept: Kept) -> None:
    """By a statement that somebody put beside ours."""
    policy = json.loads(kept[QUEUE]["Attributes"]["Policy"])
    policy["Statement"].append({"Effect": "Deny", "Principal": "*", "Action": "sqs:Send*", "Resource": "*"})
    kept[QUEUE]["Attributes"]["Policy"] = json.dumps(policy)


def renamed(kept: Kept) -> None:
    """As a tool for infrastructure names what it takes over."""
    for number, notification in enumerate(kept[BUCKET]["QueueConfigurations"]):
        notification["Id"] = f"tf-s3-queue-{number}"


def renamed_and_fewer(kept: Kept) -> None:
    renamed(kept)
    no_event_type(kept)


def permits_another_rule(name: str) -> Callable[[Kept], None]:
    def change(kept: Kept) -> None:
        kept[FUNCTION]["statements"][name]["Condition"] = {"ArnLike": {"AWS:SourceArn": f"{RULE_ARN}another"}}

    return change


def no_runs(kept: Kept) -> None:
    """In an account that is too small to reserve anything."""
    kept["limit unreserved"] = 10
    kept[FUNCTION]["concurrency"] = 0


def no_session(kept: Kept) -> None:
    policy = json.loads(kept[TASK_ROLE]["policies"][APP])
    policy["Statement"] = [one for one in policy["Statement"] if "CreateSession" not in json.dumps(one)]
    kept[TASK_ROLE]["policies"][APP] = json.dumps(policy)


RULE_ARN = f"arn:aws:events:{REGION}:{NUMBER}:rule/"
OF_ANOTHER = {"ArnEquals": {"aws:SourceArn": f"{RULE_ARN}another"}}
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

NOT_PULLED, NO_SESSION = "CannotPullContainerError", "operation=CreateSession error=AccessDenied"
NOTHING_MOVED = f"the queue {APP}-q moves nothing to {APP}-dlq: it has another redrive policy or none"

BROKEN = {
    "the queue is gone": Broken(
        "sqs", lambda kept: kept.pop(QUEUE), "no event", NO_QUEUE, OR_SET, plan=("queue", "create"), guard=FAILS
    ),
    "the dead-letter queue is gone": Broken(
        "sqs",
        lambda kept: kept.pop(DEAD_LETTERS),
        "no dead-letter queue",
        NO_DEAD_LETTERS,
        OR_SET,
        plan=("dead-letter queue", "create"),
        guard=NOT_ITS_WORK,
    ),
    "the notifications are gone": Broken(
        "sqs",
        no_notification,
        "no event",
        "no event reaches the queue: there is neither a notification of the bucket nor a rule",
        plan=("notification", "create"),
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
        plan=("notification", "2 prefixes, not 1"),
    ),
    "a notification is for another prefix": Broken(
        "sqs",
        other_prefix,
        "no event",
        "the notifications of the bucket are for other prefixes than those that are synced",
        plan=("notification", "events or filter"),
    ),
    "a notification has lost an event type": Broken(
        "sqs",
        no_event_type,
        "no event",
        "the notifications of the bucket are without s3:ObjectRemoved:*",
        plan=("notification", "events or filter"),
    ),
    "the queue has no policy": Broken(
        "sqs",
        lambda kept: kept[QUEUE]["Attributes"].pop("Policy"),
        "no event",
        BUCKET_SHUT_OUT,
        plan=("queue", "Policy"),
    ),
    "the policy is for another sender": Broken(
        "sqs", other_policy(Condition=OF_ANOTHER), "no event", BUCKET_SHUT_OUT, plan=("queue", "Policy")
    ),
    "the switch of the bucket is off": Broken(
        "eventbridge",
        lambda kept: kept[BUCKET].pop("EventBridgeConfiguration"),
        "no event",
        f"the bucket {SOURCE} sends no events to EventBridge: it is switched off",
        plan=("event switch", "create"),
    ),
    "the event rule is gone": Broken(
        "eventbridge",
        lambda kept: kept.pop(EVENT_RULE),
        "no event",
        "no event reaches the queue: there is neither a notification of the bucket nor a rule",
        plan=("event rule", "create"),
    ),
    "the event rule is disabled": Broken(
        "eventbridge",
        lambda kept: kept[EVENT_RULE].update(State="DISABLED"),
        "no event",
        f"the rule {APP}-event-rule, which sends the events, is disabled",
        plan=("event rule", "State"),
    ),
    "the pattern has other keys": Broken(
        "eventbridge",
        other_pattern(detail=IN_BUCKET | {"object": {"key": [{"prefix": "a b/c/"}]}}),
        "no event",
        OTHER_EVENTS,
        plan=("event rule", "EventPattern"),
    ),
    "the pattern has lost an event type": Broken(
        "eventbridge",
        other_pattern(**{"detail-type": ["Object Created"]}),
        "no event",
        OTHER_EVENTS,
        plan=("event rule", "EventPattern"),
    ),
    "the rule does not send to the queue": Broken(
        "eventbridge",
        lambda kept: kept[EVENT_RULE]["targets"].pop("queue"),
        "no event",
        f"the rule {APP}-event-rule does not send to the queue: its target is gone",
        plan=("event rule", "target queue"),
    ),
    "the rule sends a text of its own to the queue": Broken(
        "eventbridge",
        lambda kept: kept[EVENT_RULE]["targets"]["queue"].update(Input='{"news": true}'),
        "no event",
        OTHER_THAN_EVENT,
        plan=("event rule", "target queue"),
    ),
    "the queue takes nothing of the rule": Broken(
        "eventbridge", other_policy(Effect="Deny"), "no event", RULE_SHUT_OUT, plan=("queue", "Policy")
    ),
    "the rule does not start the starter": Broken(
        "eventbridge",
        lambda kept: kept[EVENT_RULE]["targets"].pop("starter"),
        "no start at once",
        f"the rule {APP}-event-rule does not start the starter at once: its target is gone",
        DEPLOY,
        plan=("event rule", "starter"),
    ),
    "the event rule may not run the function": Broken(
        "eventbridge",
        lambda kept: kept[FUNCTION]["statements"].pop(f"{APP}-event-rule"),
        "no start at once",
        f"the function {APP}-starter does not let the rule {APP}-event-rule run it",
        DEPLOY,
        plan=("event rule", "permission"),
    ),
    "the minute's rule is gone": Broken(
        "sqs",
        lambda kept: kept.pop(RULE),
        "no starter",
        "no rule runs the starter",
        DEPLOY,
        plan=("rule", "create"),
        guard=ALARM,
    ),
    "the minute's rule is disabled": Broken(
        "eventbridge",
        lambda kept: kept[RULE].update(State="DISABLED"),
        "no starter",
        "the rule that runs the starter is disabled",
        DEPLOY,
        plan=("rule", "State"),
        guard=IN_EVENT_RUNS,
    ),
    "the minute's rule has no target": Broken(
        "sqs",
        lambda kept: kept[RULE]["targets"].clear(),
        "no starter",
        f"the rule {APP}-starter-rule does not run the starter: its target is gone",
        DEPLOY,
        plan=("rule", "target"),
        guard=ALARM,
    ),
    "the function is gone": Broken(
        "sqs",
        lambda kept: kept.pop(FUNCTION),
        "no starter",
        "there is no function that starts workers",
        DEPLOY,
        plan=("function", "create"),
        guard=ALARM,
    ),
    "the minute's rule may not run the function": Broken(
        "sqs",
        lambda kept: kept[FUNCTION]["statements"].clear(),
        "no starter",
        f"the function {APP}-starter does not let the rule {APP}-starter-rule run it",
        DEPLOY,
        plan=("rule", "permission"),
        guard=ALARM,
    ),
    "the notifications have other names and lost an event type": Broken(
        "sqs",
        renamed_and_fewer,
        "no event",
        "the notifications of the bucket are without s3:ObjectRemoved:*",
        plan=("notification", "events or filter"),
    ),
    "the queue has no redrive policy": Broken(
        "sqs",
        lambda kept: kept[QUEUE]["Attributes"].pop("RedrivePolicy"),
        "no dead-letter queue",
        NOTHING_MOVED,
        DEPLOY,
        ("queue", "RedrivePolicy"),
    ),
    "the redrive policy is of another queue": Broken(
        "sqs",
        queue_has(RedrivePolicy=json.dumps({"deadLetterTargetArn": "arn:aws:sqs:x:y:z", "maxReceiveCount": 3})),
        "no dead-letter queue",
        NOTHING_MOVED,
        DEPLOY,
        ("queue", "RedrivePolicy"),
    ),
    "the redrive policy gives up at once": Broken(
        "sqs",
        queue_has(
            RedrivePolicy=json.dumps(
                {"deadLetterTargetArn": f"arn:aws:sqs:{REGION}:{NUMBER}:{APP}-dlq", "maxReceiveCount": "1"}
            )
        ),
        "wrong queue",
        f"the queue {APP}-q has maxReceiveCount=1 instead of 3",
        DEPLOY,
        ("queue", "RedrivePolicy"),
    ),
    "the queue forgets after a minute": Broken(
        "sqs",
        queue_has(MessageRetentionPeriod="60"),
        "wrong queue",
        f"the queue {APP}-q has MessageRetentionPeriod=60 instead of 1209600",
        plan=("queue", "MessageRetentionPeriod"),
    ),
    "the queue hides no message": Broken(
        "sqs",
        queue_has(VisibilityTimeout="0"),
        "wrong queue",
        f"the queue {APP}-q has VisibilityTimeout=0 instead of 7200",
        DEPLOY,
        ("queue", "VisibilityTimeout"),
    ),
    "the queue delays each message": Broken(
        "sqs",
        queue_has(DelaySeconds="900"),
        "wrong queue",
        f"the queue {APP}-q has DelaySeconds=900 instead of 0",
        DEPLOY,
        ("queue", "DelaySeconds"),
    ),
    "a receive does not wait": Broken(
        "eventbridge",
        queue_has(ReceiveMessageWaitTimeSeconds="0"),
        "wrong queue",
        f"the queue {APP}-q has ReceiveMessageWaitTimeSeconds=0 instead of 20",
        DEPLOY,
        ("queue", "ReceiveMessageWaitTimeSeconds"),
    ),
    "the queue is not encrypted": Broken(
        "eventbridge",
        queue_has(SqsManagedSseEnabled="false"),
        "wrong queue",
        f"the queue {APP}-q has SqsManagedSseEnabled=false instead of true",
        DEPLOY,
        ("queue", "SqsManagedSseEnabled"),
    ),
    "the queue has a key of KMS": Broken(
        "sqs",
        queue_has(SqsManagedSseEnabled="false", KmsMasterKeyId="alias/aws/sqs"),
        "no event",
        f"the queue {APP}-q is encrypted with the KMS key alias/aws/sqs: no event gets into it",
        plan=("queue", "KmsMasterKeyId"),
    ),
    "the queue takes small messages only": Broken(
        "sqs",
        queue_has(MaximumMessageSize="1024"),
        "no event",
        f"the queue {APP}-q refuses messages of more than 1024 bytes",
        plan=("queue", "MaximumMessageSize"),
    ),
    "a statement denies sending": Broken("sqs", denied, "no event", BUCKET_SHUT_OUT, plan=("queue", "Policy")),
    "the dead-letter queue forgets after a minute": Broken(
        "sqs",
        queue_has(DEAD_LETTERS, MessageRetentionPeriod="60"),
        "no dead-letter queue",
        f"the queue {APP}-dlq has MessageRetentionPeriod=60 instead of 1209600",
        plan=("dead-letter queue", "MessageRetentionPeriod"),
        guard=NOT_ITS_WORK,
    ),
    "the permission is for another rule": Broken(
        "sqs",
        permits_another_rule(f"{APP}-starter-rule"),
        "no starter",
        f"the function {APP}-starter does not let the rule {APP}-starter-rule run it",
        DEPLOY,
        ("rule", "permission"),
        ALARM,
    ),
    "the permission of events is for another rule": Broken(
        "eventbridge",
        permits_another_rule(f"{APP}-event-rule"),
        "no start at once",
        f"the function {APP}-starter does not let the rule {APP}-event-rule run it",
        DEPLOY,
        ("event rule", "permission"),
    ),
    "the guard is off": Broken(
        "sqs",
        lambda kept: kept[FUNCTION]["Environment"]["Variables"].update(GUARD=""),
        "no guard",
        f"the guard is off, which checks the path of events: GUARD of {APP}-starter is empty",
        DEPLOY,
        ("function", "Environment"),
        IN_ITS_LOG,
    ),
    "the function may not run at all": Broken(
        "sqs",
        no_runs,
        "",
        "the starter has not run for 181 s",
        plan=("function", "no reserved concurrency"),
        guard=ALARM,
        parts={"starter": {"seconds_ago": 181, "error": "", "decision": None}},
    ),
    "the tasks have no way out": Broken(
        "sqs",
        lambda kept: kept[GROUP].update(IpPermissionsEgress=[]),
        "",
        "workers stop before they start working: CannotPullContainerError",
        plan=("security group", "way out"),
        guard=FAILS,
        parts={"starter": {"seconds_ago": 1, "error": "", "decision": {"failures": [], "failing": NOT_PULLED}}},
    ),
    "the tasks may not open the destination": Broken(
        "sqs",
        no_session,
        "",
        f"no key can be synced since 2026-11-29T03:00:00Z: {NO_SESSION}: ./deploy.sh restores its role",
        plan=("role", "policy"),
        guard=NOT_ITS_WORK,
        parts={"outage": {"state": "goes on", "since": "2026-11-29T03:00:00Z", "reason": NO_SESSION}},
    ),
}
