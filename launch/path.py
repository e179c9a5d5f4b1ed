"""The path of a change from the source bucket to the starter: the checks, and what to say and do if one of them fails.

It is one list of checks, for the guard in the starter (launch/guard.py) and for ./sync.sh status and verify, with the
operator's Python. All of it is pure. A part of the path is what AWS prints: None if it does not exist, and with an
"error" if it could not be read; then the checks that need it pass.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from launch.policies import SEND, SENDERS, denies, digest, digest_without_sid, lets_run, statements_of
from launch.queues import QUEUES, takes_from, takes_large
from launch.wanted import values_of_filters

Path = Mapping[str, Any]

# Of a notification (lib/resources/source_bucket.sh).
EVENT_TYPES = ("s3:LifecycleExpiration:*", "s3:ObjectCreated:*", "s3:ObjectRemoved:*", "s3:ObjectRestore:Completed")
# Of a rule's target (EventBridge API reference, Target).
INSTEAD_OF_EVENT = ("Input", "InputPath", "InputTransformer")
NO_EVENT, NO_STARTER, NO_START_AT_ONCE = "no event", "no starter", "no start at once"
NO_DEAD_LETTERS, NO_GUARD, WRONG_QUEUE = "no dead-letter queue", "no guard", "wrong queue"
WRONG_SCHEDULE = "wrong schedule"
# Of a rule's rate (EventBridge User Guide, "Rate expressions"), in minutes.
MINUTES_OF = {"minute": 1, "hour": 60, "day": 1440}
# Of the function: its own work, and the guard's two looks, the pause between them and some seconds for the end of the
# run (launch/guard.py). deploy.sh gives it 60 s.
LEAST_TIMEOUT = 55


class Fault(NamedTuple):
    """What is missing because of it, the sentence about it, the cure, and the command to look closer."""

    link: str
    fault: str
    cure: str
    look: str


# --- parts of the path ------------------------------------------------------------------------------------------------


def is_unknown(part: Any) -> bool:
    return part is not None and "error" in part


def is_gone(part: Any) -> bool:
    """Of the bucket, which S3 answers with an error for, and not with nothing."""
    return is_unknown(part) and "(NoSuchBucket)" in part["error"]


def split_notifications(path: Path) -> tuple[list[Any], list[Any]]:
    """(those that send to our queue, those that have the name of one of ours, but another queue)."""
    found = (path["bucket"] or {}).get("QueueConfigurations", [])
    ours = [one for one in found if one["QueueArn"] == path["arn"]["queue"]]
    others = [one for one in found if one not in ours]

    names = {path["id"]}
    for number in range(2, path["want"]["notifications"] + 1):
        names.add(f"{path['id']}-{number}")
    foreign = [one for one in others if one.get("Id") in names]
    return ours, sorted(foreign, key=lambda one: str(one["Id"]))


def admits(path: Path, sender: str) -> bool:
    """Whether the queue takes what the sender sends."""
    queue, want = path["queue"], path["want"]["policies"][sender]
    if queue is None or is_unknown(queue):
        return True
    found = statements_of(queue)
    is_allowed = want in map(digest_without_sid, found)
    is_denied = any(denies(statement, [SENDERS[sender]], [SEND]) for statement in found)
    return is_allowed and not is_denied


def has_target(rule: Any, arn: str) -> bool:
    return any(target["Arn"] == arn for target in (rule or {}).get("Targets", []))


def sends_events(rule: Any, arn: str) -> bool:
    """Whether what the rule's target gets is the event, and not what somebody has it sent instead."""
    for target in rule["Targets"]:
        instead = [name for name in INSTEAD_OF_EVENT if target.get(name)]
        if target["Arn"] == arn and not instead:
            return True
    return False


def is_enabled(rule: Mapping[str, Any]) -> bool:
    """There are two states of a rule that is (EventBridge API reference, PutRule)."""
    return str(rule["State"]).startswith("ENABLED")


def minutes_of(rule: Mapping[str, Any]) -> int | None:
    """How many minutes apart the rule fires; None if it has no rate, such as one with a cron expression."""
    found = re.fullmatch(r"rate\((\d+) (minute|hour|day)s?\)", str(rule.get("ScheduleExpression", "")))
    return int(found[1]) * MINUTES_OF[found[2]] if found else None


def has_rate(path: Path) -> bool:
    """Whether the rule that runs the starter fires every LAMBDA_POLL_RATE minutes, if that is known: a function of an
    older release than 1.4.0 has no such variable."""
    minutes = path["want"].get("minutes")
    return not minutes or minutes_of(path["rule"]) == int(minutes)


def permits(path: Path, rule: str) -> bool:
    """Whether the function lets the rule run it; `rule`: "rule" or "event_rule"."""
    permissions, arn = path["permissions"], path["arn"][rule]
    return is_unknown(permissions) or any(lets_run(one, arn) for one in statements_of(permissions))


def variables_of(function: Mapping[str, Any] | None) -> Mapping[str, str]:
    """None if there is no function, or they could not be read."""
    found: Mapping[str, str] = ((function or {}).get("Environment") or {}).get("Variables") or {}
    return found


def deploy(path: Path) -> str:
    return f"./deploy.sh{path['via']}"


def deploy_and_reconcile(path: Path) -> str:
    """Of what loses events or messages: no deployment brings these back."""
    return f"{deploy(path)}, then ./sync.sh{path['via']} reconcile (look at what it calls foreign)"


def look_bucket(path: Path) -> str:
    return f"aws s3api get-bucket-notification-configuration --bucket {path['name']['bucket']}"


def look_queue(path: Path, part: str = "queue") -> str:
    url = f"{path['name']['queue_url'].rpartition('/')[0]}/{path['name'][part]}"
    return f"aws sqs get-queue-attributes --attribute-names All --queue-url {url}"


def look_rule(name: str) -> str:
    return f"aws events describe-rule --name {name}"


def look_targets(name: str) -> str:
    return f"aws events list-targets-by-rule --rule {name}"


def look_permissions(path: Path) -> str:
    return f"aws lambda get-policy --function-name {path['name']['starter']}"


def look_function(path: Path) -> str:
    return f"aws lambda get-function-configuration --function-name {path['name']['starter']}"


# --- the checks, in the order of the path -----------------------------------------------------------------------------


def of_queues(path: Path) -> Iterator[Fault]:
    cure, look = f"{deploy_and_reconcile(path)}, or set REGION and APP_NAME", "aws sqs list-queues"
    if path["queue"] is None:
        yield Fault(NO_EVENT, f"there is no queue {path['name']['queue']}", cure, look)
    if path["dead_letters"] is None:
        yield Fault(NO_DEAD_LETTERS, f"there is no dead-letter queue {path['name']['dead_letters']}", cure, look)


def attributes_of(path: Path, part: str) -> dict[str, str]:
    """None of a queue that is gone or may not be read; the starter does not ask for the dead-letter queue."""
    queue = path.get(part)
    return {} if queue is None or is_unknown(queue) else queue["Attributes"]


def of_attributes(path: Path, part: str) -> Iterator[Fault]:
    have = attributes_of(path, part)
    wanted = dict(QUEUES)
    if have.get("KmsMasterKeyId"):
        del wanted["SqsManagedSseEnabled"]  # SQS has one of the two, and the key is a fault of its own
    if part == "queue" and path["want"]["queue"]:
        wanted["VisibilityTimeout"] = (path["want"]["queue"]["VisibilityTimeout"], False)

    link = WRONG_QUEUE if part == "queue" else NO_DEAD_LETTERS
    for attribute, (want, loses) in wanted.items():
        if have.get(attribute, want) != want:
            said = f"the queue {path['name'][part]} has {attribute}={have[attribute]} instead of {want}"
            cure = deploy_and_reconcile(path) if loses else deploy(path)
            yield Fault(link, said, cure, look_queue(path, part))


def of_what_queue_takes(path: Path) -> Iterator[Fault]:
    have, name, cure = attributes_of(path, "queue"), path["name"]["queue"], deploy_and_reconcile(path)
    if have.get("KmsMasterKeyId"):
        said = f"the queue {name} is encrypted with the KMS key {have['KmsMasterKeyId']}: no event gets into it"
        yield Fault(NO_EVENT, said, cure, look_queue(path))
    if not takes_large(have):
        said = f"the queue {name} refuses messages of more than {have['MaximumMessageSize']} bytes"
        yield Fault(NO_EVENT, said, cure, look_queue(path))


def of_redrive(path: Path) -> Iterator[Fault]:
    have, want, name = attributes_of(path, "queue"), path["want"]["queue"], path["name"]["queue"]
    if not have or not want:
        return
    policy = json.loads(have.get("RedrivePolicy") or "{}")
    if policy.get("deadLetterTargetArn") != path["arn"]["dead_letters"]:
        said = (
            f"the queue {name} moves nothing to {path['name']['dead_letters']}: it has another redrive policy or none"
        )
        yield Fault(NO_DEAD_LETTERS, said, deploy(path), look_queue(path))
    elif str(policy.get("maxReceiveCount")) != want["maxReceiveCount"]:
        said = (
            f"the queue {name} has maxReceiveCount={policy.get('maxReceiveCount')} instead of {want['maxReceiveCount']}"
        )
        yield Fault(WRONG_QUEUE, said, deploy(path), look_queue(path))


def of_dead_letters(path: Path) -> Iterator[Fault]:
    have, name = attributes_of(path, "dead_letters"), path["name"]["dead_letters"]
    if have.get("RedrivePolicy"):
        said = f"the queue {name} has a redrive policy, which takes its messages away"
        yield Fault(NO_DEAD_LETTERS, said, deploy_and_reconcile(path), look_queue(path, "dead_letters"))

    if not takes_from(have, path["arn"]["queue"]):
        said = f"the queue {name} takes nothing from {path['name']['queue']}: its redrive allow policy does not name it"
        yield Fault(NO_DEAD_LETTERS, said, deploy(path), look_queue(path, "dead_letters"))


def of_bucket(path: Path) -> Iterator[Fault]:
    cure = (
        f"create it again with all that it had, then {deploy(path)}, then ./sync.sh{path['via']} reconcile, which"
        f" deletes the copies of what it does not have, or end the sync with ./cleanup.sh{path['via']}"
    )
    yield Fault(NO_EVENT, no_bucket(path["name"]["bucket"]), cure, look_bucket(path))


def no_bucket(name: str) -> str:
    return f"there is no bucket {name}, which is the source"


def of_no_way(path: Path, foreign: Sequence[Any]) -> Iterator[Fault]:
    if foreign:
        said = f"the notification {foreign[0]['Id']} of the bucket sends to another queue, {foreign[0]['QueueArn']}"
        yield Fault(NO_EVENT, said, f"remove it, then {deploy_and_reconcile(path)}", look_bucket(path))
    else:
        said = "no event reaches the queue: there is neither a notification of the bucket nor a rule"
        yield Fault(NO_EVENT, said, deploy_and_reconcile(path), look_bucket(path))


def of_notification(path: Path, ours: Sequence[Any]) -> Iterator[Fault]:
    want, cure, look = path["want"], deploy_and_reconcile(path), look_bucket(path)
    missing = sorted({event for one in ours for event in EVENT_TYPES if event not in one["Events"]})
    if len(ours) < want["notifications"]:
        said = f"the bucket has {len(ours)} of {want['notifications']} notifications, one for each prefix"
        yield Fault(NO_EVENT, said, cure, look)
    elif want["filters"] not in (None, digest(values_of_filters(ours))):
        said = "the notifications of the bucket are for other prefixes than those that are synced"
        yield Fault(NO_EVENT, said, cure, look)
    if missing:
        yield Fault(NO_EVENT, f"the notifications of the bucket are without {', '.join(missing)}", cure, look)
    yield from of_policy_for_bucket(path)


def of_policy_for_bucket(path: Path) -> Iterator[Fault]:
    if not admits(path, "s3-events"):
        said = f"the policy of the queue does not let the bucket {path['name']['bucket']} send to it"
        yield Fault(NO_EVENT, said, deploy_and_reconcile(path), look_queue(path))


def of_event_rule(path: Path) -> Iterator[Fault]:
    rule, name, cure = path["event_rule"], path["name"]["event_rule"], deploy_and_reconcile(path)
    if "EventBridgeConfiguration" not in path["bucket"]:
        said = f"the bucket {path['name']['bucket']} sends no events to EventBridge: it is switched off"
        yield Fault(NO_EVENT, said, cure, look_bucket(path))
    if not is_enabled(rule):
        yield Fault(NO_EVENT, f"the rule {name}, which sends the events, is disabled", cure, look_rule(name))
    if path["want"]["pattern"] not in (None, digest(json.loads(rule.get("EventPattern") or "null"))):
        said = f"the rule {name} is for other events than those that are synced"
        yield Fault(NO_EVENT, said, cure, look_rule(name))
    if not has_target(rule, path["arn"]["queue"]):
        said = f"the rule {name} does not send to the queue: its target is gone"
        yield Fault(NO_EVENT, said, cure, look_targets(name))
    elif not sends_events(rule, path["arn"]["queue"]):
        said = f"the rule {name} sends something else than the event to the queue: its target has an input of its own"
        yield Fault(NO_EVENT, said, cure, look_targets(name))
    if not admits(path, "eventbridge"):
        said = f"the policy of the queue does not let the rule {name} send to it"
        yield Fault(NO_EVENT, said, cure, look_queue(path))


def of_events(path: Path) -> list[Fault]:
    """While the source of events is being changed, there are two ways, and one that is intact is enough. If the bucket
    may not be read and there is no rule, it is assumed to have notifications."""
    if is_gone(path["bucket"]):
        return list(of_bucket(path))
    if is_unknown(path["bucket"]) and path["event_rule"] is None:
        return list(of_policy_for_bucket(path))
    if is_unknown(path["bucket"]) or is_unknown(path["event_rule"]):
        return []
    ours, foreign = split_notifications(path)
    ways = [list(of_notification(path, ours))] if ours else []
    ways += [list(of_event_rule(path))] if path["event_rule"] else []
    if not ways:
        return list(of_no_way(path, foreign))
    return [fault for way in ways for fault in way] if all(ways) else []


def of_starter(path: Path) -> Iterator[Fault]:
    rule, name, starter, cure = path["rule"], path["name"]["rule"], path["name"]["starter"], deploy(path)
    if rule is None:
        yield Fault(NO_STARTER, "no rule runs the starter", cure, look_rule(name))
    elif not is_unknown(rule):
        yield from of_rule(path)
    if path["starter"] is None:
        yield Fault(NO_STARTER, "there is no function that starts workers", cure, look_function(path))
    elif not permits(path, "rule"):
        said = f"the function {starter} does not let the rule {name} run it"
        yield Fault(NO_STARTER, said, cure, look_permissions(path))


def of_rule(path: Path) -> Iterator[Fault]:
    rule, name, cure = path["rule"], path["name"]["rule"], deploy(path)
    if not is_enabled(rule):
        yield Fault(NO_STARTER, "the rule that runs the starter is disabled", cure, look_rule(name))
    if not has_target(rule, path["arn"]["starter"]):
        said = f"the rule {name} does not run the starter: its target is gone"
        yield Fault(NO_STARTER, said, cure, look_targets(name))
    if not has_rate(path):
        have, want = rule.get("ScheduleExpression") or "none", path["want"]["minutes"]
        said = f"the schedule of the rule {name} is {have}, and not every {want} min (LAMBDA_POLL_RATE)"
        yield Fault(WRONG_SCHEDULE, said, cure, look_rule(name))


def of_start_at_once(path: Path) -> Iterator[Fault]:
    """Without these, everything works, up to LAMBDA_POLL_RATE minutes later. If an account has too few executions to
    reserve one, deploy.sh creates neither the target nor the permission; another permission, such as one for any rule,
    may be there."""
    rule, name, starter = path["event_rule"], path["name"]["event_rule"], path["name"]["starter"]
    if rule is None or is_unknown(rule) or path["starter"] is None or is_unknown(path["permissions"]):
        return
    is_target, is_permitted = has_target(rule, path["arn"]["starter"]), permits(path, "event_rule")
    is_made = any(one.get("Sid") == name for one in statements_of(path["permissions"]))
    if is_made and not is_target:
        said = f"the rule {name} does not start the starter at once: its target is gone"
        yield Fault(NO_START_AT_ONCE, said, deploy(path), look_targets(name))
    if is_target and not is_permitted:
        said = f"the function {starter} does not let the rule {name} run it"
        yield Fault(NO_START_AT_ONCE, said, deploy(path), look_permissions(path))


def of_timeout(path: Path) -> Iterator[Fault]:
    """With less time, the guard could not look, or could not confirm what it has seen, and would say nothing."""
    seconds = (path["starter"] or {}).get("Timeout", LEAST_TIMEOUT)
    if seconds < LEAST_TIMEOUT:
        name = path["name"]["starter"]
        said = f"the guard has no time, which checks the path of events: {name} may run for {seconds} s only"
        yield Fault(NO_GUARD, said, deploy(path), look_function(path))


def of_guard(path: Path) -> Iterator[Fault]:
    """Only ./sync.sh knows that it is to be on: a function of 1.1.0 had none."""
    variables = variables_of(path["starter"])
    if variables and path["want"]["filters"] and not variables.get("GUARD"):
        said = f"the guard is off, which checks the path of events: GUARD of {path['name']['starter']} is empty"
        yield Fault(NO_GUARD, said, deploy(path), look_function(path))


def faults_of_events(path: Path) -> list[Fault]:
    """What the guard checks. The path of a run of the rule has no rule: it need not check that the rule runs it."""
    return [
        *of_events(path),
        *of_what_queue_takes(path),
        *of_attributes(path, "queue"),
        *of_attributes(path, "dead_letters"),
        *of_redrive(path),
        *of_dead_letters(path),
        *(of_starter(path) if "rule" in path else ()),
        *of_start_at_once(path),
    ]


def all_faults(path: Path) -> list[Fault]:
    """What ./sync.sh checks."""
    return [*of_queues(path), *faults_of_events(path), *of_timeout(path), *of_guard(path)]
