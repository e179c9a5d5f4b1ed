"""The alarms, their metric filters and the topic of their mails, as ./sync.sh status looks at them.

What is to be there, what is wrong and what is shown follows launch/watchers.py, as in the starter's guard.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from launch.path import is_unknown
from launch.watchers import (
    OF_EVENT_RULE,
    Seen,
    Wanted,
    described,
    faults_of_watchers,
    filters_of,
    has_event_rule,
    names_of,
    seconds_since,
    wanted_of,
)
from operate.cloud import Cloud, Denied, NoAnswer, Once, side_by_side
from operate.deployment import Deployment
from operate.parts import Part, part_of, variables_of
from operate.path import as_path


class Alarms(NamedTuple):
    """What status says of them."""

    row: dict[str, Any] | None
    faults: list[dict[str, str]]
    unread: dict[str, str]  # why a part could not be read


NOTHING = Alarms(None, [], {})


def wanted_by(variables: Mapping[str, str], deployment: Deployment, is_by_rule: bool) -> Wanted:
    return wanted_of(deployment.app_name, deployment.topic_arn, variables, is_by_rule, deployment.via)


def read_alarms(cloud: Cloud, deployment: Deployment, function: Once[Part]) -> dict[str, Part]:
    """Of the alarms all that a deployment may have, because what this one has depends on other answers."""
    every = wanted_by({"AUDIT_DAYS": "1", "METRICS": "true"}, deployment, is_by_rule=True)

    def filters(group: str) -> Part:
        prefix = ("--filter-name-prefix", f"{deployment.app_name}-")
        return part_of(cloud.ask("logs", "describe-metric-filters", "--log-group-name", group, *prefix))

    def filters_of_starter() -> Part:
        has_audits = bool(variables_of(function()).get("AUDIT_DAYS"))
        return filters(deployment.starter_log_group) if has_audits else None

    topic = ("--topic-arn", deployment.topic_arn)
    return side_by_side(
        {
            "alarms": lambda: part_of(cloud.ask("cloudwatch", "describe-alarms", "--alarm-names", *names_of(every))),
            "topic": lambda: part_of(cloud.ask("sns", "list-subscriptions-by-topic", *topic)),
            deployment.worker_log_group: lambda: filters(deployment.worker_log_group),
            deployment.starter_log_group: filters_of_starter,
        }
    )


def judge_alarms(
    deployment: Deployment, parts: Mapping[str, Part], function: Part, path: Mapping[str, Any], now: float
) -> Alarms:
    """The function knows what is to be there. `path`: as launch/path.py has it."""
    if isinstance(function, (Denied, NoAnswer)):
        return Alarms(None, [], {"alarms": function.error})
    if function is None:
        return NOTHING

    alarms = as_path(parts["alarms"])
    wanted = wanted_by(variables_of(function), deployment, is_by_rule(deployment, path, alarms))
    seen = Seen(
        alarms=alarms,
        filters={group: as_path(parts[group]) for group in filters_of(wanted)},
        subscriptions=as_path(parts["topic"]),
        settled_for=seconds_since(function["LastModified"], now),
    )
    unread = {
        name if name in ("alarms", "topic") else "metric_filters": part.error
        for name, part in parts.items()
        if isinstance(part, (Denied, NoAnswer))
    }
    row = None if "alarms" in unread else {**described(wanted, seen), "complete": not unread}
    return Alarms(row, [fault._asdict() for fault in faults_of_watchers(wanted, seen)], unread)


def is_by_rule(deployment: Deployment, path: Mapping[str, Any], alarms: Any) -> bool:
    """If the rule could not be read, its alarm is to be there if it is."""
    if not is_unknown(path["event_rule"]):
        return has_event_rule(path)
    name = f"{deployment.app_name}-{OF_EVENT_RULE}"
    return any(one["AlarmName"] == name for one in (alarms or {}).get("MetricAlarms", []))
