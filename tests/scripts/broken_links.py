"""What people break by hand: each link in each way, what is to be said of it, and what repairs it.

A table for everything that looks at a deployment: each row breaks an account on paper (paper_account.py).
"""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from account import APP, MIRROR, REGION, SOURCE
from asked_for import USUAL_ALARMS
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
ONE_ALARM = f"1 of {len(USUAL_ALARMS)}"
RECONCILE = "./deploy.sh, then ./sync.sh reconcile (look at what it calls foreign)"
OR_SET = f"{RECONCILE}, or set REGION and APP_NAME"
# Which runs of the starter fail with it: those of its rule as well, only those for an event of the bucket, or none,
# because it does not run, fails by itself, or does not look at this.
ALL_RUNS, EVENT_RUNS, NO_RUN = "all", "of events", "none"


class Broken(NamedTuple):
    """How a link breaks; what is said by all that look; the kind of the plan's row, and what it names; what verify
    calls the link; the cure; which runs of the starter say it, too; the deployment that it happens to. Nobody asks for
    what has no link: it `shows` in what the deployment then does. It `hides` if other faults do not show beside it."""

    breaks: Callable[[Kept], Any]
    fault: str
    plan: tuple[str, str] = ("", "")
    link: str = "no event"
    cure: str = RECONCILE
    guard: str = ALL_RUNS
    mode: str = "sqs"
    shows: Callable[[Operated], Any] = lambda _: None
    hides: bool = False


def of_bridge(breaks: Callable[[Kept], Any], fault: str, plan: tuple[str, str]) -> Broken:
    return Broken(breaks, fault, plan, mode="eventbridge")


def not_at_once(breaks: Callable[[Kept], Any], fault: str, part: str) -> Broken:
    return of_bridge(breaks, fault, ("event rule", part))._replace(link="no start at once", cure=DEPLOY)


def no_starter(breaks: Callable[[Kept], Any], fault: str, plan: tuple[str, str]) -> Broken:
    return Broken(breaks, fault, plan, "no starter", DEPLOY, NO_RUN)


def not_redriven(breaks: Callable[[Kept], Any], fault: str, link: str = "no dead-letter queue") -> Broken:
    return Broken(breaks, fault, ("queue", "RedrivePolicy"), link, DEPLOY)


def unasked(breaks: Callable[[Kept], Any], fault: str, plan: tuple[str, str], shows: Callable[..., Any]) -> Broken:
    return Broken(breaks, fault, plan, "", guard=NO_RUN, shows=shows, hides=True)


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


def as_suffix(kept: Kept) -> None:
    kept[BUCKET]["QueueConfigurations"][0]["Filter"]["Key"]["FilterRules"][0]["Name"] = "suffix"


def renamed(kept: Kept) -> None:
    """As a tool for infrastructure names what it takes over."""
    for number, notification in enumerate(kept[BUCKET]["QueueConfigurations"]):
        notification["Id"] = f"tf-s3-queue-{number}"


def renamed_and_fewer(kept: Kept) -> None:
    renamed(kept)
    kept[BUCKET]["QueueConfigurations"][1]["Events"].remove("s3:ObjectRemoved:*")


def statements_of_queue(kept: Kept, change: Callable[[list[Kept]], Any]) -> None:
    policy = json.loads(kept[QUEUE]["Attributes"]["Policy"])
    change(policy["Statement"])
    kept[QUEUE]["Attributes"]["Policy"] = json.dumps(policy)


def other_policy(**changed: Any) -> Callable[[Kept], None]:
    return lambda kept: statements_of_queue(kept, lambda found: [one.update(changed) for one in found])


def another_statement(**more: Any) -> Callable[[Kept], None]:
    """A denial that somebody put beside ours."""
    denial = {"Effect": "Deny", "Principal": "*", "Action": "sqs:Send*", "Resource": "*"} | more
    denial = {name: value for name, value in denial.items() if value is not None}
    return lambda kept: statements_of_queue(kept, lambda found: found.append(denial))


def other_pattern(**changed: Any) -> Callable[[Kept], None]:
    def change(kept: Kept) -> None:
        kept[EVENT_RULE]["EventPattern"] = json.dumps(json.loads(kept[EVENT_RULE]["EventPattern"]) | changed)

    return change


def queue_has(name: str = QUEUE, **attributes: str) -> Callable[[Kept], None]:
    return lambda kept: kept[name]["Attributes"].update(attributes)


def redrives_of(queue: str) -> str:
    return json.dumps({"redrivePermission": "byQueue", "sourceQueueArns": [queue]})


def redrives(queue: str, receives: str) -> Callable[[Kept], None]:
    return queue_has(RedrivePolicy=json.dumps({"deadLetterTargetArn": queue, "maxReceiveCount": receives}))


def permits(**condition: dict[str, Any]) -> Callable[[Kept], None]:
    return lambda kept: kept[FUNCTION]["statements"][f"{APP}-starter-rule"].update(Condition=condition)


def no_runs(kept: Kept) -> None:
    """In an account that is too small to reserve anything."""
    kept["limit unreserved"] = 10
    kept[FUNCTION]["concurrency"] = 0


def no_session(kept: Kept) -> None:
    policy = json.loads(kept[TASK_ROLE]["policies"][APP])
    policy["Statement"] = [one for one in policy["Statement"] if "CreateSession" not in json.dumps(one)]
    kept[TASK_ROLE]["policies"][APP] = json.dumps(policy)


def in_outage(account: Operated, why: str = "") -> None:
    account.start("a")
    account.waiting[""] = 1
    account.write(f"{SINCE} ERROR {OUTAGE % (10, why or NO_SESSION)}", ago=60 * 60)


TO_ANOTHER = json.dumps({"deadLetterTargetArn": f"{QUEUE_ARN}2", "maxReceiveCount": 2})
OF_ANOTHER = {"ArnEquals": {"aws:SourceArn": f"{RULE_ARN}another"}}
IN_BUCKET = {"bucket": {"name": [SOURCE]}}
NO_WAY = "no event reaches the queue: there is neither a notification of the bucket nor a rule"
NO_TARGET, NOT_RUN = (
    f"the rule {APP}-%s: its target is gone",
    f"the function {APP}-starter does not let the rule {APP}-%s run it",
)
OTHER_SCHEDULE = f"the schedule of the rule {APP}-starter-rule is %s, and not every 1 min (LAMBDA_POLL_RATE)"
BUCKET_SHUT_OUT = f"the policy of the queue does not let the bucket {SOURCE} send to it"
INPUT = (
    f"the rule {APP}-event-rule sends something else than the event to the queue: its target has an input of its own"
)
NOTHING_MOVED = f"the queue {APP}-q moves nothing to {APP}-dlq: it has another redrive policy or none"
NOT_PULLED, NO_SESSION = "CannotPullContainerError", "operation=CreateSession error=AccessDenied"
BOUNDED = f'{NO_SESSION} message="no permissions boundary allows it"'
SINCE = stamp(60 * 60)
EVENTS = ("notification", "events or filter")  # a row of the plan

BROKEN = {
    "the queue is gone": Broken(
        without(QUEUE), f"there is no queue {APP}-q", ("queue", "create"), cure=OR_SET, guard=NO_RUN, hides=True
    ),
    "the notifications are gone": Broken(no_notification, NO_WAY, ("notification", "create"), hides=True),
    "the notifications are of another queue": Broken(
        to_another_queue,
        f"the notification {APP} of the bucket sends to another queue, {QUEUE_ARN}q2",
        cure=f"remove it, then {RECONCILE}",
        hides=True,
    ),
    "a notification is gone": Broken(
        lambda kept: kept[BUCKET]["QueueConfigurations"].pop(),
        "the bucket has 1 of 2 notifications, one for each prefix",
        ("notification", "2 prefixes, not 1"),
    ),
    "a notification is for the same text as a suffix": Broken(
        as_suffix, "the notifications of the bucket are for other prefixes than those that are synced", EVENTS
    ),
    "the notifications have other names and lost an event type": Broken(
        renamed_and_fewer, "the notifications of the bucket are without s3:ObjectRemoved:*", EVENTS
    ),
    "the policy is for another sender": Broken(
        other_policy(Condition=OF_ANOTHER), BUCKET_SHUT_OUT, ("queue", "Policy")
    ),
    "a statement denies sending": Broken(another_statement(), BUCKET_SHUT_OUT, ("queue", "Policy")),
    "a statement denies all but one": Broken(
        another_statement(Principal=None, NotPrincipal={"AWS": NUMBER}, Action=None, NotAction="sqs:PurgeQueue"),
        BUCKET_SHUT_OUT,
        ("queue", "Policy"),
    ),
    "the queue has a key of KMS": Broken(
        queue_has(SqsManagedSseEnabled="false", KmsMasterKeyId="alias/aws/sqs"),
        f"the queue {APP}-q is encrypted with the KMS key alias/aws/sqs: no event gets into it",
        ("queue", "KmsMasterKeyId"),
        hides=True,
    ),
    "the queue takes small messages only": Broken(
        queue_has(MaximumMessageSize="1024"),
        f"the queue {APP}-q refuses messages of more than 1024 bytes",
        ("queue", "MaximumMessageSize"),
    ),
    "the switch of the bucket is off": of_bridge(
        without(BUCKET, "EventBridgeConfiguration"),
        f"the bucket {SOURCE} sends no events to EventBridge: it is switched off",
        ("event switch", "create"),
    ),
    "the event rule is gone": of_bridge(without(EVENT_RULE), NO_WAY, ("event rule", "create"))._replace(hides=True),
    "the event rule is disabled": of_bridge(
        lambda kept: kept[EVENT_RULE].update(State="DISABLED"),
        f"the rule {APP}-event-rule, which sends the events, is disabled",
        ("event rule", "State"),
    ),
    "the pattern has other keys": of_bridge(
        other_pattern(detail=IN_BUCKET | {"object": {"key": [{"prefix": "a b/c/"}]}}),
        f"the rule {APP}-event-rule is for other events than those that are synced",
        ("event rule", "EventPattern"),
    ),
    "the rule does not send to the queue": of_bridge(
        without(EVENT_RULE, "targets", "queue"),
        NO_TARGET % "event-rule does not send to the queue",
        ("event rule", "target queue"),
    ),
    "the rule sends a text of its own to the queue": of_bridge(
        lambda kept: kept[EVENT_RULE]["targets"]["queue"].update(Input='{"news": true}'),
        INPUT,
        ("event rule", "target queue"),
    ),
    "the queue takes nothing of the rule": of_bridge(
        other_policy(Effect="Deny"),
        f"the policy of the queue does not let the rule {APP}-event-rule send to it",
        ("queue", "Policy"),
    ),
    "the rule does not start the starter": not_at_once(
        without(EVENT_RULE, "targets", "starter"),
        NO_TARGET % "event-rule does not start the starter at once",
        "starter",
    ),
    "the event rule may not run the function": not_at_once(
        without(FUNCTION, "statements", f"{APP}-event-rule"), NOT_RUN % "event-rule", "permission"
    )._replace(hides=True),
    "the minute's rule is gone": no_starter(without(RULE), "no rule runs the starter", ("rule", "create")),
    "the minute's rule is disabled": no_starter(
        lambda kept: kept[RULE].update(State="DISABLED"),
        "the rule that runs the starter is disabled",
        ("rule", "State"),
    )._replace(mode="eventbridge", guard=EVENT_RUNS),
    "the minute's rule fires at noon": no_starter(
        lambda kept: kept[RULE].update(ScheduleExpression="cron(0 12 * * ? *)"),
        OTHER_SCHEDULE % "cron(0 12 * * ? *)",
        ("rule", "ScheduleExpression"),
    )._replace(link="wrong schedule", mode="eventbridge", guard=EVENT_RUNS),
    "the minute's rule fires once a day": no_starter(
        lambda kept: kept[RULE].update(ScheduleExpression="rate(1 day)"),
        OTHER_SCHEDULE % "rate(1 day)",
        ("rule", "ScheduleExpression"),
    )._replace(link="wrong schedule"),
    "the minute's rule fires once an hour": no_starter(
        lambda kept: kept[RULE].update(ScheduleExpression="rate(60 minutes)"),
        OTHER_SCHEDULE % "rate(60 minutes)",
        ("rule", "ScheduleExpression"),
    )._replace(link="wrong schedule"),
    "the minute's rule has no target": no_starter(
        lambda kept: kept[RULE]["targets"].clear(),
        NO_TARGET % "starter-rule does not run the starter",
        ("rule", "target"),
    ),
    "the permission is for another rule": no_starter(
        permits(ArnLike={"AWS:SourceArn": f"{RULE_ARN}another*"}), NOT_RUN % "starter-rule", ("rule", "permission")
    ),
    "the permission is for the first parts of an ARN": no_starter(
        permits(ArnLike={"AWS:SourceArn": "arn:aws:events:*"}), NOT_RUN % "starter-rule", ("rule", "permission")
    ),
    "the permission is for a name with a star": no_starter(
        permits(StringEquals={"AWS:SourceArn": f"{RULE_ARN}*"}), NOT_RUN % "starter-rule", ("rule", "permission")
    ),
    "the function is gone": no_starter(
        without(FUNCTION), "there is no function that starts workers", ("function", "create")
    )._replace(hides=True),
    "the dead-letter queue is gone": Broken(
        without(DEAD_LETTERS),
        f"there is no dead-letter queue {APP}-dlq",
        ("dead-letter queue", "create"),
        "no dead-letter queue",
        OR_SET,
        NO_RUN,
    ),
    "the dead-letter queue forgets after a minute": Broken(
        queue_has(DEAD_LETTERS, MessageRetentionPeriod="60"),
        f"the queue {APP}-dlq has MessageRetentionPeriod=60 instead of 1209600",
        ("dead-letter queue", "MessageRetentionPeriod"),
        "no dead-letter queue",
        guard=NO_RUN,
    ),
    "the dead-letter queue has a redrive policy": Broken(
        queue_has(DEAD_LETTERS, RedrivePolicy=TO_ANOTHER),
        f"the queue {APP}-dlq has a redrive policy, which takes its messages away",
        ("dead-letter queue", "RedrivePolicy"),
        "no dead-letter queue",
        guard=NO_RUN,
    ),
    "the dead-letter queue is for another queue": Broken(
        queue_has(DEAD_LETTERS, RedriveAllowPolicy=redrives_of(f"{QUEUE_ARN}2")),
        f"the queue {APP}-dlq takes nothing from {APP}-q: its redrive allow policy does not name it",
        ("dead-letter queue", "RedriveAllowPolicy"),
        "no dead-letter queue",
        DEPLOY,
        NO_RUN,
    ),
    "the queue has no redrive policy": not_redriven(without(QUEUE, "Attributes", "RedrivePolicy"), NOTHING_MOVED),
    "the redrive policy is of another queue": not_redriven(redrives("arn:aws:sqs:x:y:z", "3"), NOTHING_MOVED),
    "the redrive policy gives up at once": not_redriven(
        redrives(f"{QUEUE_ARN}dlq", "1"), f"the queue {APP}-q has maxReceiveCount=1 instead of 3", "wrong queue"
    ),
    "the guard is off": Broken(
        lambda kept: kept[FUNCTION]["Environment"]["Variables"].update(GUARD=""),
        f"the guard is off, which checks the path of events: GUARD of {APP}-starter is empty",
        ("function", "Environment"),
        "no guard",
        DEPLOY,
        NO_RUN,
        hides=True,
    ),
    "the function has too little time for the guard": Broken(
        lambda kept: kept[FUNCTION].update(Timeout=30),
        f"the guard has no time, which checks the path of events: {APP}-starter may run for 30 s only",
        ("function", "Timeout"),
        "no guard",
        DEPLOY,
        hides=True,
    ),
    "the function may not run at all": unasked(
        no_runs,
        "the starter has not run for",
        ("function", "no reserved concurrency"),
        lambda account: account.decide(ago=240),
    ),
    "the tasks have no way out": unasked(
        lambda kept: kept[GROUP].update(IpPermissionsEgress=[]),
        f"workers do not get to work: {NOT_PULLED}",
        ("security group", "way out"),
        lambda account: account.decide(failing=NOT_PULLED),
    ),
    "the tasks may not open the destination": unasked(
        no_session,
        f"no key can be synced since {SINCE}: {NO_SESSION}: ./deploy.sh restores its role",
        ("role", "policy"),
        in_outage,
    ),
    "a boundary does not let the tasks open the destination": unasked(
        lambda kept: kept[TASK_ROLE].update(boundary=f"arn:aws:iam::{NUMBER}:policy/theirs"),
        f"no key can be synced since {SINCE}: {BOUNDED}: ./deploy.sh leaves that boundary: aws iam"
        f" delete-role-permissions-boundary --role-name {APP}-task-role",
        ("", ""),
        lambda account: in_outage(account, BOUNDED),
    ),
}


def may_not_list(kept: Kept) -> None:
    kept[f"role {APP}-starter-role"]["policies"].clear()


def no_image(kept: Kept) -> None:
    for name in [name for name in kept if name.startswith("image ")]:
        del kept[name]


def unconfirmed(kept: Kept) -> None:
    kept[TOPIC]["subscriptions"][0]["SubscriptionArn"] = "PendingConfirmation"


def not_subscribed(kept: Kept) -> None:
    kept[TOPIC]["subscriptions"].clear()


TOPIC = f"topic {APP}-alarms"
DENIED = "[ERROR] ClientError: An error occurred (AccessDeniedException) when calling the ListTasks operation: no"
# Of what is no link between the buckets and the workers, in a deployment with ALARM_EMAIL; `guard` as above.
BESIDE = {
    "the starter may do nothing": unasked(
        may_not_list,
        f"the starter failed: {DENIED}: ./deploy.sh restores its role",
        ("role", "policy"),
        lambda account: account.fail(DENIED),
    ),
    "the image is gone": unasked(
        no_image,
        f"workers do not get to work: {NOT_PULLED}",
        ("image", "create"),
        lambda account: account.decide(failing=NOT_PULLED),
    ),
    "an alarm is gone": Broken(
        without(f"alarm {APP}-behind"), f"alarms are gone ({ONE_ALARM}): behind", ("alarm", "create"), cure=DEPLOY
    ),
    "an alarm is disabled": Broken(
        lambda kept: kept[f"alarm {APP}-outage"].update(ActionsEnabled=False),
        f"alarms are disabled ({ONE_ALARM}): outage",
        ("alarm", "ActionsEnabled"),
        cure=DEPLOY,
    ),
    "an alarm has no action": Broken(
        lambda kept: kept[f"alarm {APP}-dead-letters"].update(AlarmActions=[]),
        f"alarms have no action, so nobody gets their mails ({ONE_ALARM}): dead-letters",
        ("alarm", "AlarmActions"),
        cure=DEPLOY,
    ),
    "a metric filter is gone": Broken(
        without(f"filter {APP}-outage of /ecs/{APP}-task"),
        f"the log group /ecs/{APP}-task has no metric filter {APP}-outage, so that this alarm never sees its lines",
        ("metric filter", "create"),
        cure=DEPLOY,
    ),
    "nobody is subscribed": Broken(
        not_subscribed,
        f"the address of ALARM_EMAIL is not subscribed to the topic {APP}-alarms",
        ("topic", "subscription"),
        cure=DEPLOY,
    ),
    "the topic is gone": Broken(
        without(TOPIC), f"there is no topic {APP}-alarms, to which the alarms write", ("topic", "create"), cure=DEPLOY
    ),
    "the address is not confirmed": Broken(
        unconfirmed,
        f"the address of ALARM_EMAIL gets no mail of the topic {APP}-alarms, because nobody has confirmed it",
        cure="open the link in the mail of AWS",
    ),
    "the alarm that the guard needs is gone": Broken(
        without(f"alarm {APP}-starter-fails"),
        f"alarms are gone ({ONE_ALARM}): starter-fails",
        ("alarm", "create"),
        cure=DEPLOY,
    ),
    "the destination bucket is gone": unasked(
        lambda kept: kept.update({f"gone {MIRROR}": {}}),
        f"the bucket {MIRROR} does not answer: ",
        ("refused", f"DST_BUCKET={MIRROR} does not exist"),
        lambda _: None,
    ),
    "the source bucket is gone": Broken(
        lambda kept: kept.update({f"gone {SOURCE}": {}}),
        f"there is no bucket {SOURCE}, which is the source",
        ("refused", f"SRC_BUCKET={SOURCE}: "),
    ),
}
# Of an attribute of the queue: what it is, what it should be, and the cure, by whether messages are lost by it.
ATTRIBUTES = {
    "MessageRetentionPeriod": ("60", "1209600", RECONCILE),
    "VisibilityTimeout": ("0", "7200", DEPLOY),
    "DelaySeconds": ("900", "0", DEPLOY),
    "ReceiveMessageWaitTimeSeconds": ("0", "20", DEPLOY),
    "SqsManagedSseEnabled": ("false", "true", DEPLOY),
}
for name, (value, wanted, cure) in ATTRIBUTES.items():
    fault = f"the queue {APP}-q has {name}={value} instead of {wanted}"
    BROKEN[f"the queue has another {name}"] = Broken(
        queue_has(**{name: value}), fault, ("queue", name), "wrong queue", cure
    )
