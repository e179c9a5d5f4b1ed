"""What people break by hand: each link in each way, what is to be said of it, and what repairs it.

A table for everything that looks at a deployment: each row breaks an account on paper (paper_account.py).
"""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from account import APP, REGION, SOURCE
from operated import Operated, stamp
from paper_account import NUMBER

from mirror.model.log_lines import OUTAGE

Kept = dict[str, Any]
SQS = {"PREFIX_FILTER": "a b/,c/"}
BRIDGE = {"PREFIX_FILTER": "a b/", "EXCLUDE": "*.tmp", "EVENT_SOURCE": "eventbridge"}
MODES = {"sqs": SQS, "eventbridge": BRIDGE}

QUEUE, DEAD_LETTERS = f"queue {APP}-q", f"queue {APP}-dlq"
BUCKET, FUNCTION = f"notifications {SOURCE}", f"function {APP}-starter"
GROUP, TASK_ROLE = "security-group sg-ours", f"role {APP}-task-role"
RULE, EVENT_RULE = f"rule {APP}-starter-rule", f"rule {APP}-event-rule"
RULE_ARN = f"arn:aws:events:{REGION}:{NUMBER}:rule/"
QUEUE_ARN = f"arn:aws:sqs:{REGION}:{NUMBER}:{APP}-"

DEPLOY = "./deploy.sh"
RECONCILE = "./deploy.sh, then ./sync.sh reconcile (look at what it calls foreign)"
OR_SET = f"{RECONCILE}, or set REGION and APP_NAME"
# Which runs of the starter fail with it: those of its rule as well, only those for an event of the bucket, or none,
# because it does not run, fails by itself, or does not look at this.
ALL_RUNS, EVENT_RUNS, NO_RUN = "all", "of events", "none"


class Broken(NamedTuple):
    """The deployment that it happens to; how it happens; what is said by all that look; the kind of the plan's row, and
    what it names; what verify calls the link; the cure; which runs of the starter say it, too. Nobody asks for what has
    no link: it `shows` in what the deployment then does."""

    mode: str
    breaks: Callable[[Kept], Any]
    fault: str
    plan: tuple[str, str] = ("", "")
    link: str = "no event"
    cure: str = RECONCILE
    guard: str = ALL_RUNS
    shows: Callable[[Operated], Any] = lambda _: None


def unasked(breaks: Callable[[Kept], Any], fault: str, plan: tuple[str, str], shows: Callable[..., Any]) -> Broken:
    return Broken("sqs", breaks, fault, plan, "", guard=NO_RUN, shows=shows)


def no_starter(mode: str, breaks: Callable[[Kept], Any], fault: str, part: str, guard: str = NO_RUN) -> Broken:
    return Broken(mode, breaks, fault, ("rule", part), "no starter", DEPLOY, guard)


def not_at_once(breaks: Callable[[Kept], Any], fault: str, part: str) -> Broken:
    return Broken("eventbridge", breaks, fault, ("event rule", part), "no start at once", DEPLOY)


def without(*path: str) -> Callable[[Kept], Any]:
    def remove(kept: Kept) -> None:
        *names, last = path
        for name in names:
            kept = kept[name]
        del kept[last]

    return remove


def no_notification(kept: Kept) -> None:
    kept[BUCKET]["QueueConfigurations"] = []


def to_another_queue(kept: Kept) -> None:
    for notification in kept[BUCKET]["QueueConfigurations"]:
        notification["QueueArn"] += "2"


def no_event_type(kept: Kept) -> None:
    kept[BUCKET]["QueueConfigurations"][1]["Events"].remove("s3:ObjectRemoved:*")


def other_prefix(kept: Kept) -> None:
    kept[BUCKET]["QueueConfigurations"][0]["Filter"]["Key"]["FilterRules"][0]["Value"] = "d/"


def renamed(kept: Kept) -> None:
    """As a tool for infrastructure names what it takes over."""
    for number, notification in enumerate(kept[BUCKET]["QueueConfigurations"]):
        notification["Id"] = f"tf-s3-queue-{number}"


def renamed_and_fewer(kept: Kept) -> None:
    renamed(kept)
    no_event_type(kept)


def statements_of_queue(kept: Kept, change: Callable[[list[Kept]], Any]) -> None:
    policy = json.loads(kept[QUEUE]["Attributes"]["Policy"])
    change(policy["Statement"])
    kept[QUEUE]["Attributes"]["Policy"] = json.dumps(policy)


def other_policy(**changed: Any) -> Callable[[Kept], None]:
    return lambda kept: statements_of_queue(kept, lambda found: [one.update(changed) for one in found])


def another_statement(**more: Any) -> Callable[[Kept], None]:
    """A denial that somebody put beside ours."""
    denial = {"Effect": "Deny", "Principal": "*", "Action": "sqs:Send*", "Resource": "*"} | more
    return lambda kept: statements_of_queue(kept, lambda found: found.append(denial))


def other_pattern(**changed: Any) -> Callable[[Kept], None]:
    def change(kept: Kept) -> None:
        kept[EVENT_RULE]["EventPattern"] = json.dumps(json.loads(kept[EVENT_RULE]["EventPattern"]) | changed)

    return change


def queue_has(name: str = QUEUE, **attributes: str) -> Callable[[Kept], None]:
    return lambda kept: kept[name]["Attributes"].update(attributes)


def redrives(queue: str, receives: str) -> Callable[[Kept], None]:
    return queue_has(RedrivePolicy=json.dumps({"deadLetterTargetArn": queue, "maxReceiveCount": receives}))


def permits_another_rule(name: str) -> Callable[[Kept], None]:
    condition = {"ArnLike": {"AWS:SourceArn": f"{RULE_ARN}another"}}
    return lambda kept: kept[FUNCTION]["statements"][name].update(Condition=condition)


def no_runs(kept: Kept) -> None:
    """In an account that is too small to reserve anything."""
    kept["limit unreserved"] = 10
    kept[FUNCTION]["concurrency"] = 0


def no_session(kept: Kept) -> None:
    policy = json.loads(kept[TASK_ROLE]["policies"][APP])
    policy["Statement"] = [one for one in policy["Statement"] if "CreateSession" not in json.dumps(one)]
    kept[TASK_ROLE]["policies"][APP] = json.dumps(policy)


def in_outage(account: Operated) -> None:
    account.start("a")
    account.waiting[""] = 1
    account.write(f"{SINCE} ERROR {OUTAGE % (10, NO_SESSION)}", ago=60 * 60)


OF_ANOTHER = {"ArnEquals": {"aws:SourceArn": f"{RULE_ARN}another"}}
IN_BUCKET = {"bucket": {"name": [SOURCE]}}
OTHER_PREFIXES = "the notifications of the bucket are for other prefixes than those that are synced"
NO_WAY = "no event reaches the queue: there is neither a notification of the bucket nor a rule"
NO_REMOVALS = "the notifications of the bucket are without s3:ObjectRemoved:*"
OTHER_EVENTS = f"the rule {APP}-event-rule is for other events than those that are synced"
INPUT = (
    f"the rule {APP}-event-rule sends something else than the event to the queue: its target has an input of its own"
)
NO_TARGET = f"the rule {APP}-%s: its target is gone"
RULE_SHUT_OUT = f"the policy of the queue does not let the rule {APP}-event-rule send to it"
BUCKET_SHUT_OUT = f"the policy of the queue does not let the bucket {SOURCE} send to it"
NOTHING_MOVED = f"the queue {APP}-q moves nothing to {APP}-dlq: it has another redrive policy or none"
NOT_RUN = f"the function {APP}-starter does not let the rule {APP}-%s run it"
GUARD_OFF = f"the guard is off, which checks the path of events: GUARD of {APP}-starter is empty"
NOT_PULLED, NO_SESSION = "CannotPullContainerError", "operation=CreateSession error=AccessDenied"
SINCE, NO_DEAD_LETTERS = stamp(60 * 60), "no dead-letter queue"
# Rows of the plan.
EVENTS, POLICY, REDRIVE = ("notification", "events or filter"), ("queue", "Policy"), ("queue", "RedrivePolicy")
PATTERN, TARGET = ("event rule", "EventPattern"), ("event rule", "target queue")

BROKEN = {
    "the queue is gone": Broken(
        "sqs", without(QUEUE), f"there is no queue {APP}-q", ("queue", "create"), cure=OR_SET, guard=NO_RUN
    ),
    "the notifications are gone": Broken("sqs", no_notification, NO_WAY, ("notification", "create")),
    "the notifications are of another queue": Broken(
        "sqs",
        to_another_queue,
        f"the notification {APP} of the bucket sends to another queue, {QUEUE_ARN}q2",
        cure=f"remove it, then {RECONCILE}",
    ),
    "a notification is gone": Broken(
        "sqs",
        lambda kept: kept[BUCKET]["QueueConfigurations"].pop(),
        "the bucket has 1 of 2 notifications, one for each prefix",
        ("notification", "2 prefixes, not 1"),
    ),
    "a notification is for another prefix": Broken("sqs", other_prefix, OTHER_PREFIXES, EVENTS),
    "a notification has lost an event type": Broken("sqs", no_event_type, NO_REMOVALS, EVENTS),
    "the notifications have other names and lost an event type": Broken("sqs", renamed_and_fewer, NO_REMOVALS, EVENTS),
    "the queue has no policy": Broken("sqs", without(QUEUE, "Attributes", "Policy"), BUCKET_SHUT_OUT, POLICY),
    "the policy is for another sender": Broken("sqs", other_policy(Condition=OF_ANOTHER), BUCKET_SHUT_OUT, POLICY),
    "a statement denies sending": Broken("sqs", another_statement(), BUCKET_SHUT_OUT, POLICY),
    "the queue has a key of KMS": Broken(
        "sqs",
        queue_has(SqsManagedSseEnabled="false", KmsMasterKeyId="alias/aws/sqs"),
        f"the queue {APP}-q is encrypted with the KMS key alias/aws/sqs: no event gets into it",
        ("queue", "KmsMasterKeyId"),
    ),
    "the queue takes small messages only": Broken(
        "sqs",
        queue_has(MaximumMessageSize="1024"),
        f"the queue {APP}-q refuses messages of more than 1024 bytes",
        ("queue", "MaximumMessageSize"),
    ),
    "the switch of the bucket is off": Broken(
        "eventbridge",
        without(BUCKET, "EventBridgeConfiguration"),
        f"the bucket {SOURCE} sends no events to EventBridge: it is switched off",
        ("event switch", "create"),
    ),
    "the event rule is gone": Broken("eventbridge", without(EVENT_RULE), NO_WAY, ("event rule", "create")),
    "the event rule is disabled": Broken(
        "eventbridge",
        lambda kept: kept[EVENT_RULE].update(State="DISABLED"),
        f"the rule {APP}-event-rule, which sends the events, is disabled",
        ("event rule", "State"),
    ),
    "the pattern has other keys": Broken(
        "eventbridge",
        other_pattern(detail=IN_BUCKET | {"object": {"key": [{"prefix": "a b/c/"}]}}),
        OTHER_EVENTS,
        PATTERN,
    ),
    "the pattern has lost an event type": Broken(
        "eventbridge", other_pattern(**{"detail-type": ["Object Created"]}), OTHER_EVENTS, PATTERN
    ),
    "the rule does not send to the queue": Broken(
        "eventbridge",
        without(EVENT_RULE, "targets", "queue"),
        NO_TARGET % "event-rule does not send to the queue",
        TARGET,
    ),
    "the rule sends a text of its own to the queue": Broken(
        "eventbridge", lambda kept: kept[EVENT_RULE]["targets"]["queue"].update(Input='{"news": true}'), INPUT, TARGET
    ),
    "the queue takes nothing of the rule": Broken("eventbridge", other_policy(Effect="Deny"), RULE_SHUT_OUT, POLICY),
    "the rule does not start the starter": not_at_once(
        without(EVENT_RULE, "targets", "starter"),
        NO_TARGET % "event-rule does not start the starter at once",
        "starter",
    ),
    "the event rule may not run the function": not_at_once(
        without(FUNCTION, "statements", f"{APP}-event-rule"), NOT_RUN % "event-rule", "permission"
    ),
    "the permission of events is for another rule": not_at_once(
        permits_another_rule(f"{APP}-event-rule"), NOT_RUN % "event-rule", "permission"
    ),
    "the minute's rule is gone": no_starter("sqs", without(RULE), "no rule runs the starter", "create"),
    "the minute's rule is disabled": no_starter(
        "eventbridge",
        lambda kept: kept[RULE].update(State="DISABLED"),
        "the rule that runs the starter is disabled",
        "State",
        EVENT_RUNS,
    ),
    "the minute's rule has no target": no_starter(
        "sqs", lambda kept: kept[RULE]["targets"].clear(), NO_TARGET % "starter-rule does not run the starter", "target"
    ),
    "the minute's rule may not run the function": no_starter(
        "sqs", without(FUNCTION, "statements", f"{APP}-starter-rule"), NOT_RUN % "starter-rule", "permission"
    ),
    "the permission is for another rule": no_starter(
        "sqs", permits_another_rule(f"{APP}-starter-rule"), NOT_RUN % "starter-rule", "permission"
    ),
    "the function is gone": no_starter(
        "sqs", without(FUNCTION), "there is no function that starts workers", "create"
    )._replace(plan=("function", "create")),
    "the dead-letter queue is gone": Broken(
        "sqs",
        without(DEAD_LETTERS),
        f"there is no dead-letter queue {APP}-dlq",
        ("dead-letter queue", "create"),
        NO_DEAD_LETTERS,
        OR_SET,
        NO_RUN,
    ),
    "the dead-letter queue forgets after a minute": Broken(
        "sqs",
        queue_has(DEAD_LETTERS, MessageRetentionPeriod="60"),
        f"the queue {APP}-dlq has MessageRetentionPeriod=60 instead of 1209600",
        ("dead-letter queue", "MessageRetentionPeriod"),
        NO_DEAD_LETTERS,
        guard=NO_RUN,
    ),
    "the queue has no redrive policy": Broken(
        "sqs", without(QUEUE, "Attributes", "RedrivePolicy"), NOTHING_MOVED, REDRIVE, NO_DEAD_LETTERS, DEPLOY
    ),
    "the redrive policy is of another queue": Broken(
        "sqs", redrives("arn:aws:sqs:x:y:z", "3"), NOTHING_MOVED, REDRIVE, NO_DEAD_LETTERS, DEPLOY
    ),
    "the redrive policy gives up at once": Broken(
        "sqs",
        redrives(f"{QUEUE_ARN}dlq", "1"),
        f"the queue {APP}-q has maxReceiveCount=1 instead of 3",
        REDRIVE,
        "wrong queue",
        DEPLOY,
    ),
    "the guard is off": Broken(
        "sqs",
        lambda kept: kept[FUNCTION]["Environment"]["Variables"].update(GUARD=""),
        GUARD_OFF,
        ("function", "Environment"),
        "no guard",
        DEPLOY,
        NO_RUN,
    ),
    "the function may not run at all": unasked(
        no_runs,
        "the starter has not run for",
        ("function", "no reserved concurrency"),
        lambda account: account.decide(ago=240),
    ),
    "the tasks have no way out": unasked(
        lambda kept: kept[GROUP].update(IpPermissionsEgress=[]),
        f"workers stop before they start working: {NOT_PULLED}",
        ("security group", "way out"),
        lambda account: account.decide(failing=NOT_PULLED),
    ),
    "the tasks may not open the destination": unasked(
        no_session,
        f"no key can be synced since {SINCE}: {NO_SESSION}: ./deploy.sh restores its role",
        ("role", "policy"),
        in_outage,
    ),
}
# Of an attribute of the queue: what it is, what it should be, and whether messages are lost by it.
ATTRIBUTES = {
    "MessageRetentionPeriod": ("60", "1209600", True),
    "VisibilityTimeout": ("0", "7200", False),
    "DelaySeconds": ("900", "0", False),
    "ReceiveMessageWaitTimeSeconds": ("0", "20", False),
    "SqsManagedSseEnabled": ("false", "true", False),
}
for name, (value, wanted, loses) in ATTRIBUTES.items():
    BROKEN[f"the queue has another {name}"] = Broken(
        "sqs",
        queue_has(**{name: value}),
        f"the queue {APP}-q has {name}={value} instead of {wanted}",
        ("queue", name),
        "wrong queue",
        RECONCILE if loses else DEPLOY,
    )
