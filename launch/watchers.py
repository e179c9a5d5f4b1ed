"""What watches a deployment when nobody looks: its alarms, the metric filters that count log lines for two of them, and
the topic that sends their mails. Nothing fails if these are gone, and nobody hears of anything any more.

The guard in the starter (launch/guard.py) and ./sync.sh status judge them by this file. It is pure, and runs on the
operator's Python. A part of what is seen is what AWS answers: None if it does not exist, and with an "error" if it
could not be read; then the checks that need it pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from launch.path import Fault, is_unknown, split_notifications
from launch.policies import digest

NO_ALARM, NO_MAIL = "no alarm", "no mail"
GONE, DISABLED, IDLE = "alarms are gone", "alarms are disabled", "alarms have no action, so nobody gets their mails"
NO_FILTER, NO_TOPIC, OUR_ADDRESS = "has no metric filter", "there is no topic", "the address of ALARM_EMAIL"

# The names after APP_NAME (lib/names.sh): those of each deployment, and those that a setting adds.
ALWAYS = ("dead-letters", "behind", "starter-fails", "starter-silent", "outage")
OF_EVENT_RULE, OF_AUDITS, OF_METRICS = "events", "audit", "late"
# It watches what does not run and has no data, so this state is its alarm (lib/resources/alarms.sh).
SILENT = "starter-silent"
# CloudWatch's own reason for the first state of an alarm, which it has not evaluated yet.
NOT_YET = "Unchecked"

# Of the function: deploy.sh changes the alarms some minutes after it, and nothing counts before.
SETTLING_SECONDS = 600
# AWS asks a new address by mail to confirm it, and somebody has this long to do so.
CONFIRMING_SECONDS = 3600


class Wanted(NamedTuple):
    """What this deployment is to have."""

    app: str
    topic: str  # its ARN
    mail: str  # the digest of ALARM_EMAIL, or nothing: the function's ALARMS_TO
    has_event_rule: bool
    has_audits: bool
    has_metrics: bool
    via: str = ""


class Seen(NamedTuple):
    """What AWS answers."""

    alarms: Any  # DescribeAlarms
    filters: Mapping[str, Any]  # of each log group, DescribeMetricFilters
    subscriptions: Any = None  # ListSubscriptionsByTopic, if an address was named
    settled_for: float = CONFIRMING_SECONDS  # seconds since the function was last changed


def wanted_of(app: str, topic: str, variables: Mapping[str, Any], has_event_rule: bool, via: str) -> Wanted:
    """`variables`: those of the function."""
    return Wanted(
        app=app,
        topic=topic,
        mail=variables.get("ALARMS_TO", ""),
        has_event_rule=has_event_rule,
        has_audits=bool(variables.get("AUDIT_DAYS")),
        has_metrics=variables.get("METRICS") == "true",
        via=via,
    )


def has_event_rule(path: Mapping[str, Any]) -> bool:
    """`path`: as in launch/path.py. While EVENT_SOURCE is being changed, there is a notification beside the rule, and
    the alarm of the rule may be there or not."""
    rule = path["event_rule"]
    return bool(rule) and not is_unknown(rule) and not split_notifications(path)[0]


def alarms_of(wanted: Wanted) -> list[str]:
    """The names after APP_NAME."""
    options = {
        OF_EVENT_RULE: wanted.has_event_rule,
        OF_AUDITS: wanted.has_audits,
        OF_METRICS: wanted.has_metrics,
    }
    return [*ALWAYS, *(name for name, is_wanted in options.items() if is_wanted)]


def names_of(wanted: Wanted) -> list[str]:
    """For DescribeAlarms."""
    return [f"{wanted.app}-{name}" for name in alarms_of(wanted)]


def filters_of(wanted: Wanted) -> dict[str, list[str]]:
    """The names of the metric filters of each log group."""
    filters = {f"/ecs/{wanted.app}-task": [f"{wanted.app}-outage"]}
    if wanted.has_audits:
        audit = f"{wanted.app}-{OF_AUDITS}"
        filters[f"/ecs/{wanted.app}-task"].append(audit)
        filters[f"/aws/lambda/{wanted.app}-starter"] = [audit]
    return filters


def seconds_since(changed: str, now: float) -> float:
    """`changed`: LastModified of a function, such as 2026-12-01T23:28:04.000+0000, which is always in UTC."""
    return now - datetime.fromisoformat(f"{changed[:19]}+00:00").timestamp()


# --- the alarms -------------------------------------------------------------------------------------------------------


def found_alarms(wanted: Wanted, seen: Seen) -> dict[str, Any]:
    """By their names after APP_NAME."""
    alarms = (seen.alarms or {}).get("MetricAlarms", [])
    found = {alarm["AlarmName"].removeprefix(f"{wanted.app}-"): alarm for alarm in alarms}
    return {name: found[name] for name in alarms_of(wanted) if name in found}


def actions_of(name: str, alarm: Mapping[str, Any]) -> Sequence[str]:
    """What is done when it is red: also by somebody's own choice."""
    kind = "InsufficientDataActions" if name == SILENT else "AlarmActions"
    return list(alarm.get(kind, []))


def is_red(name: str, alarm: Mapping[str, Any]) -> bool:
    state = alarm.get("StateValue")
    if name != SILENT:
        return bool(state == "ALARM")
    return state == "INSUFFICIENT_DATA" and not alarm.get("StateReason", "").startswith(NOT_YET)


def is_enabled(alarm: Mapping[str, Any]) -> bool:
    return bool(alarm.get("ActionsEnabled", True))


def deploy(wanted: Wanted) -> str:
    return f"./deploy.sh{wanted.via}"


def of_alarms(wanted: Wanted, seen: Seen) -> Iterator[Fault]:
    """One that writes to nobody is no fault without ALARM_EMAIL, unless somebody has given it an action and disabled
    it."""
    if is_unknown(seen.alarms):
        return
    found, total = found_alarms(wanted, seen), len(alarms_of(wanted))
    gone = [name for name in alarms_of(wanted) if name not in found]
    disabled = [name for name, alarm in found.items() if not is_enabled(alarm)]
    without = [name for name, alarm in found.items() if not actions_of(name, alarm)]
    if not wanted.mail:
        disabled = [name for name in disabled if name not in without]
        without = []

    look = f"aws cloudwatch describe-alarms --alarm-name-prefix {wanted.app}-"
    rows = (
        (gone, GONE),
        (disabled, DISABLED),
        (without, IDLE),
    )
    for names, said in rows:
        if names:
            fault = f"{said} ({len(names)} of {total}): {', '.join(names)}"
            yield Fault(NO_ALARM, fault, deploy(wanted), look)


def of_filters(wanted: Wanted, seen: Seen) -> Iterator[Fault]:
    for group, names in filters_of(wanted).items():
        answer = seen.filters.get(group)
        if is_unknown(answer):
            continue
        found = {one["filterName"] for one in (answer or {}).get("metricFilters", [])}
        for name in names:
            if name not in found:
                said = f"the log group {group} {NO_FILTER} {name}, so that this alarm never sees its lines"
                look = f"aws logs describe-metric-filters --log-group-name {group}"
                yield Fault(NO_ALARM, said, deploy(wanted), look)


# --- the mails --------------------------------------------------------------------------------------------------------


def mails_of(seen: Seen) -> dict[str, bool]:
    """The addresses that are subscribed, and whether each was confirmed: one that was not has no ARN."""
    found: dict[str, bool] = {}
    for one in (seen.subscriptions or {}).get("Subscriptions", []):
        if one["Protocol"] == "email" and one["SubscriptionArn"] != "Deleted":
            is_confirmed = one["SubscriptionArn"].startswith("arn:")
            found[one["Endpoint"]] = is_confirmed or found.get(one["Endpoint"], False)
    return found


def of_mails(wanted: Wanted, seen: Seen) -> Iterator[Fault]:
    if not wanted.mail or is_unknown(seen.subscriptions):
        return
    name = wanted.topic.rpartition(":")[2]
    look = f"aws sns list-subscriptions-by-topic --topic-arn {wanted.topic}"
    if seen.subscriptions is None:
        yield Fault(NO_MAIL, f"{NO_TOPIC} {name}, to which the alarms write", deploy(wanted), look)
        return
    ours = [is_confirmed for mail, is_confirmed in mails_of(seen).items() if digest(mail) == wanted.mail]
    if not ours and not seen.subscriptions.get("NextToken"):
        said = f"{OUR_ADDRESS} is not subscribed to the topic {name}"
        yield Fault(NO_MAIL, said, deploy(wanted), look)
    elif not any(ours) and seen.settled_for >= CONFIRMING_SECONDS:
        said = f"{OUR_ADDRESS} gets no mail of the topic {name}, because nobody has confirmed it"
        yield Fault(NO_MAIL, said, f"open the link in the mail of AWS, or {subscribe(wanted)} sends another", look)


def subscribe(wanted: Wanted) -> str:
    return f"aws sns subscribe --topic-arn {wanted.topic} --protocol email --notification-endpoint ADDRESS"


# --- all of it --------------------------------------------------------------------------------------------------------


def is_settled(seen: Seen) -> bool:
    """Otherwise deploy.sh may still be changing them."""
    return seen.settled_for >= SETTLING_SECONDS


def faults_of_watchers(wanted: Wanted, seen: Seen) -> list[Fault]:
    if not is_settled(seen):
        return []
    return [*of_alarms(wanted, seen), *of_filters(wanted, seen), *of_mails(wanted, seen)]


def is_of_watchers(said: str) -> bool:
    """Whether this is a fault of those, and not of the path of events."""
    return any(word in said for word in (GONE, DISABLED, IDLE, NO_FILTER, NO_TOPIC, OUR_ADDRESS))


def described(wanted: Wanted, seen: Seen) -> dict[str, Any]:
    """What ./sync.sh status shows of them. `mails` is None if the topic could not be read."""
    found = found_alarms(wanted, seen)
    mails = [{"address": address, "confirmed": is_confirmed} for address, is_confirmed in mails_of(seen).items()]
    return {
        "wanted": len(alarms_of(wanted)),
        "found": len(found),
        "enabled": sum(is_enabled(alarm) for alarm in found.values()),
        "writing": sum(wanted.topic in actions_of(name, alarm) for name, alarm in found.items()),
        "red": [name for name, alarm in found.items() if is_red(name, alarm)],
        "mails": None if is_unknown(seen.subscriptions) else mails,
    }


def in_text(row: Mapping[str, Any]) -> str:
    """`row`: what described() returns."""
    if row["enabled"] == row["wanted"]:
        said = f"{row['found']} of {row['wanted']} exist and are enabled"
    else:
        said = f"{row['found']} of {row['wanted']} exist, {row['enabled']} of them enabled"
    red = ", ".join(row["red"]) or "none"
    return f"{said}, {mails_in_text(row)}; red: {red}"


def mails_in_text(row: Mapping[str, Any]) -> str:
    if row["mails"] is None:
        return "who gets their mails is not known"
    if not row["writing"]:
        return "none writes a mail"
    confirmed = [mail["address"] for mail in row["mails"] if mail["confirmed"]]
    others = [mail["address"] for mail in row["mails"] if not mail["confirmed"]]
    writing = "all write" if row["writing"] == row["wanted"] else f"{row['writing']} write"
    if others:
        return f"{writing} to {', '.join([*confirmed, *others])}, not confirmed: {', '.join(others)}"
    return f"{writing} to {', '.join(confirmed) or 'nobody'}"
