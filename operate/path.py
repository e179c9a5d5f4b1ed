"""The path of events from the source to the starter: what AWS shows of its parts, and how launch/path.py judges it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from launch.path import all_faults, split_notifications
from launch.wanted import condense, queue_of_words
from operate.cloud import Cloud, Denied, Missing, NoAnswer, Once, side_by_side
from operate.deployment import Deployment
from operate.parts import Part, part_of, read_queue, variables_of
from operate.wanted import selection


def read_rule(cloud: Cloud, name: str) -> Part:
    """With its `Targets`."""
    rule = cloud.ask("events", "describe-rule", "--name", name)
    if not isinstance(rule, dict):
        return part_of(rule)
    targets = cloud.ask("events", "list-targets-by-rule", "--rule", name)
    if isinstance(targets, Missing):
        return rule
    return {**rule, **targets} if isinstance(targets, dict) else targets


def read_notifications(cloud: Cloud, deployment: Deployment) -> Part:
    """A bucket that is gone, or belongs to somebody else, is one whose notifications are not known."""
    bucket = ("--bucket", deployment.settings["SRC_BUCKET"])
    owner = ("--expected-bucket-owner", deployment.settings["SRC_BUCKET_OWNER"])
    found = cloud.ask("s3api", "get-bucket-notification-configuration", *bucket, *owner)
    return NoAnswer(found.error, found.code) if isinstance(found, Missing) else found


def read_permissions(cloud: Cloud, deployment: Deployment) -> Part:
    return part_of(cloud.ask("lambda", "get-policy", "--function-name", deployment.starter_name))


def read_path(cloud: Cloud, deployment: Deployment, function: Once[Part]) -> dict[str, Part]:
    """The parts that launch/path.py judges."""
    return side_by_side(
        {
            "bucket": lambda: read_notifications(cloud, deployment),
            "queue": lambda: read_queue(cloud, deployment.queue_name),
            "dead_letters": lambda: read_queue(cloud, deployment.dlq_name),
            "event_rule": lambda: read_rule(cloud, deployment.event_rule_name),
            "rule": lambda: read_rule(cloud, deployment.rule_name),
            "starter": function,
            "permissions": lambda: read_permissions(cloud, deployment),
        }
    )


class Judged(NamedTuple):
    """The path as launch/path.py has it, what is wrong with it, and the notifications that send to our queue."""

    path: dict[str, Any]
    faults: list[dict[str, str]]
    ours: list[Any]


def judge_path(deployment: Deployment, parts: Mapping[str, Part], wanted: Mapping[str, Any]) -> Judged:
    """Compared with what deploy.sh makes of the settings that are deployed. The function of 1.1.0 does not know all of
    them; the settings of the queue are taken from GUARD."""
    variables = variables_of(parts["starter"])
    is_known = bool(variables.get("PROCESSES") or variables.get("PREFIX_FILTER"))
    made = {
        "notifications": [{"Filter": filter_of(value)} for value in wanted["filters"]],
        "pattern": wanted["event_pattern"],
        "policy": json.loads(deployment.queue_policy),
        "is_known": is_known,
    }
    url = parts["queue"].get("QueueUrl") if isinstance(parts["queue"], dict) else ""
    path: dict[str, Any] = {
        **{name: as_path(part) for name, part in parts.items()},
        **names_of_path(deployment, url or f"https://sqs.{deployment.region}.amazonaws.com/{deployment.account}/"),
        "want": {
            **condense(made),
            "queue": queue_of_words(variables.get("GUARD", "")),
            "minutes": variables.get("LAMBDA_POLL_RATE"),
        },
    }
    faults = [fault._asdict() for fault in all_faults(path)]
    return Judged(path, faults, split_notifications(path)[0])


def filter_of(value: str) -> dict[str, Any]:
    """Of the notification for this prefix (lib/resources/source_bucket.sh)."""
    return {"Key": {"FilterRules": [{"Name": "prefix", "Value": value}]}} if value else {}


def as_path(part: Part) -> Any:
    if isinstance(part, (Denied, NoAnswer)):
        return {"error": part.error, "is_denied": isinstance(part, Denied)}
    return part


def names_of_path(deployment: Deployment, queue_url: str) -> dict[str, Any]:
    return {
        "id": deployment.notification_id,
        "via": deployment.via,
        "name": {
            "bucket": deployment.settings["SRC_BUCKET"],
            "queue": deployment.queue_name,
            "queue_url": queue_url,
            "dead_letters": deployment.dlq_name,
            "event_rule": deployment.event_rule_name,
            "rule": deployment.rule_name,
            "starter": deployment.starter_name,
        },
        "arn": {
            "queue": deployment.queue_arn,
            "dead_letters": deployment.dlq_arn,
            "rule": deployment.rule_arn,
            "event_rule": deployment.event_rule_arn,
            "starter": deployment.starter_arn,
        },
    }


def selection_of(deployment: Deployment, variables: Mapping[str, str]) -> dict[str, Any]:
    """What is synced, by the settings that are deployed (operate/wanted.py)."""
    names = ("SRC_BUCKET", "COPY_LAST", "EVENT_SOURCE")
    settings = {name: deployment.settings[name] for name in names}
    deployed = {name: variables.get(name, "") for name in ("PREFIX_FILTER", "EXCLUDE")}
    return selection({**settings, **deployed}, [])
