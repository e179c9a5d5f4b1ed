"""The path of events has one judge: a deployment repairs what launch/path.py calls broken, and what it leaves is whole.

Each seed alters a deployment at random, as people and other tools do. NIGHTLY=1 draws more of them.
"""

import copy
import json
import os
import random
from typing import Any

import pytest
from account import APP
from broken_links import BUCKET, DEAD_LETTERS, EVENT_RULE, FUNCTION, MODES, QUEUE, QUEUE_ARN, RULE, Kept, no_runs
from documents import Scripts, scripts_of_module
from observers import Seen, guarded, operated
from operated import Verbs, verbs
from paper_account import PaperAccount

__all__ = ["verbs"]
scripts = scripts_of_module("sync.sh")

# They have a condition more in the queue's policy, a pattern that asks for more, and an account that reserves no
# execution, in which a permission for any rule is left.
CHOSEN = [("sqs", 116), ("eventbridge", 25), ("eventbridge", 68)]
STEPS = (f"ensure_queue {APP}-dlq", f"ensure_queue {APP}-q", "ensure_function", "ensure_rule")
OF_EVENTS = {
    "sqs": ("ensure_notification", "ensure_event_rule"),
    "eventbridge": ("ensure_event_rule", "ensure_event_switch", "ensure_notification"),
}
# What AWS answers of each such thing.
ALWAYS = {"Action", "Arn", "Effect", "EventPattern", "Events", "FilterRules", "Id", "Key", "Name", "QueueArn"}
ALWAYS |= {"Resource", "ScheduleExpression", "Sid", "State", "Statement", "Value"}
# What a text may be, if not a longer one.
OTHERWISE = {
    "Allow": ["Deny"],
    "ENABLED": ["DISABLED", "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS"],
    "lambda:InvokeFunction": ["lambda:*", "lambda:GetFunction"],
    "prefix": ["suffix", "Prefix"],
    "s3:LifecycleExpiration:*": ["s3:LifecycleExpiration:Delete"],
    "s3:ObjectCreated:*": ["s3:ObjectCreated:Put"],
    "s3:ObjectRemoved:*": ["s3:ObjectRemoved:Delete"],
    "s3:ObjectRestore:Completed": ["s3:ObjectRestore:Post"],
    "rate(1 minute)": ["rate(5 minutes)", "rate(1 hour)", "cron(0 12 * * ? *)"],
    "sqs:SendMessage": ["SQS:*", "sqs:ReceiveMessage"],
    "true": ["false"],
}
ADDRESS = {"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}}
# What an object with such a member may have as well.
MORE: dict[str, Kept] = {
    "Arn": {
        "Input": "{}",
        "InputPath": "$.detail",
        "InputTransformer": {"InputTemplate": "<a>"},
        "RetryPolicy": {"MaximumEventAgeInSeconds": 90},
    },
    "ArnEquals": ADDRESS,
    "ArnLike": ADDRESS,
    "MessageRetentionPeriod": {
        "KmsMasterKeyId": "alias/aws/sqs",
        "MaximumMessageSize": "1024",
        "RedriveAllowPolicy": json.dumps({"redrivePermission": "byQueue", "sourceQueueArns": [f"{QUEUE_ARN}2"]}),
        "RedrivePolicy": json.dumps({"deadLetterTargetArn": f"{QUEUE_ARN}2", "maxReceiveCount": 3}),
    },
    "bucket": {"object": {"size": [{"numeric": [">", 0]}]}, "reason": ["PutObject"]},
    "source": {"account": ["210987654321"], "region": ["eu-west-1"]},
}


def altered(draw: random.Random, value: Any) -> Any:
    """The document with one difference."""
    if isinstance(value, dict):
        return altered_object(draw, value)
    if isinstance(value, list):
        return altered_list(draw, value)
    if isinstance(value, int):
        return value + 1
    if value.startswith("{"):
        return json.dumps(altered(draw, json.loads(value)))
    if value in OTHERWISE:
        return draw.choice(OTHERWISE[value])
    return str(int(value) + 1) if value.isdigit() else f"{value}2"


def altered_object(draw: random.Random, value: Kept) -> Kept:
    """A member more, one fewer, or another value: of a large member more often than of a small one."""
    more = {name: one for member in value for name, one in MORE.get(member, {}).items() if name not in value}
    gone = sorted(value.keys() - ALWAYS)
    way = draw.random()
    if more and way < 0.3:
        name = draw.choice(sorted(more))
        return value | {name: more[name]}
    if gone and way > 0.9:
        name = draw.choice(gone)
        return {other: one for other, one in value.items() if other != name}
    names = sorted(value)
    (name,) = draw.choices(names, [len(json.dumps(value[name])) for name in names])
    return value | {name: altered(draw, value[name])}


def altered_list(draw: random.Random, value: list[Any]) -> list[Any]:
    place = draw.randrange(len(value))
    before, one, after = value[:place], value[place], value[place + 1 :]
    other = altered(draw, one)
    return draw.choice([before + after, value[::-1], [*value, other], *[[*before, other, *after]] * 3])


def altered_named(draw: random.Random, kept: Kept, member: str) -> None:
    """One of the targets of a rule, or of the statements of the function, under the same name or another one."""
    name = draw.choice(sorted(kept[member]))
    id_of = "Id" if member == "targets" else "Sid"
    other = altered(draw, kept[member][name])
    if draw.random() < 0.4:
        kept[member]["theirs"] = other | {id_of: "theirs"}
    else:
        kept[member][name] = other | {id_of: name}
    if draw.random() < 0.2:
        del kept[member][name]


def alter(draw: random.Random, kept: Kept) -> None:
    """One difference in each document that a deployment writes by itself: beside another one, it would be repaired
    although the plan does not see it."""
    event_rule = kept.get(EVENT_RULE, {})
    documents = [
        [
            (kept[QUEUE], "Attributes"),
            (kept[QUEUE]["Attributes"], "Policy"),
            (kept[QUEUE]["Attributes"], "RedrivePolicy"),
        ],
        [(kept[DEAD_LETTERS], "Attributes")],
        [(kept[RULE], "ScheduleExpression"), (kept[RULE], "State")],
        [(event_rule, "EventPattern"), (event_rule, "EventPattern"), (event_rule, "State")],
        [(kept[BUCKET], "QueueConfigurations")],
    ]
    for places in documents:
        where, member = draw.choice(places)
        if where.get(member):
            where[member] = altered(draw, where[member])
    altered_named(draw, kept[RULE], "targets")
    altered_named(draw, kept[FUNCTION], "statements")
    if event_rule:
        altered_named(draw, event_rule, "targets")
    if draw.random() < 0.3:
        no_runs(kept)


def seeds() -> list[tuple[str, int]]:
    return [(mode, seed) for mode in MODES for seed in range(60)] if os.environ.get("NIGHTLY") == "1" else CHOSEN


@pytest.mark.parametrize(("mode", "seed"), seeds())
def test_a_deployment_repairs_what_is_called_broken(scripts: Scripts, verbs: Verbs, mode: str, seed: int) -> None:
    whole = scripts.with_deployment(**MODES[mode]).kept
    kept = copy.deepcopy(whole)
    alter(random.Random(f"{mode} {seed}"), kept)
    print("\n".join(f"{name}: {json.dumps(kept[name])}" for name in kept if kept[name] != whole.get(name)))
    before = guarded(kept).run(is_scheduled=False)

    scripts.account = PaperAccount()
    scripts.account.kept = kept
    print(scripts.step(*STEPS, *OF_EVENTS[mode], **MODES[mode]).output)
    assert guarded(kept).run(is_scheduled=False) == [], before
    assert Seen(verbs, operated(kept)).faults == [], before
