"""What the answers of AWS come to: the parts that ./sync.sh status judges and prints. All of it is pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from launch.audit import next_slot
from launch.path import is_enabled, minutes_of
from operate import health, logs
from operate.cloud import Missing
from operate.deployment import Deployment
from operate.parts import (
    in_short,
    is_unread,
    numbers_of,
    variables_of,
)
from operate.path import Judged, selection_of
from operate.pausing import events_until
from operate.times import DAY, epoch_or_none, iso, seconds_since

SHOWN = 10  # failures, and markers that wait


def made_of(
    known: Mapping[str, Any], found: Mapping[str, Any], judged: Judged, deployment: Deployment, now: float
) -> dict[str, Any]:
    """`known`: what was found, with None for what could not be read."""
    function, variables = known["function"], variables_of(known["function"])
    wanted = selection_of(deployment, variables)
    workers = [in_short(task) for task in known["workers"] or []]
    queue = numbers_of(known["queue"]) if known["queue"] else None

    parts: dict[str, Any] = {
        "source": bucket_of(found["source"], deployment.settings["SRC_BUCKET"]),
        "destination": bucket_of(found["destination"], deployment.settings["DST_BUCKET"]),
        "queue": {**queue, "oldest_seconds": known["oldest"]} if queue else None,
        "dead_letters": numbers_of(known["dead_letters"]) if known["dead_letters"] else None,
        "workers": workers,
        "rule": rule_of(known["rule"]),
        "events": events_of(judged),
        "options": options_of(variables, wanted),
        "function_age": age_of(function, now),
        "starter": start_of(known["starter"], now),
        "failures": failures_of(known["failures"] or []),
        "lag": lag_of(known["lag"]),
        "outage": health.choose_outage(outages_of(known["outages"] or [], now), [one["id"] for one in workers]),
        "markers": markers_of(known["markers"]),
        "audit": audit_of(variables, known["audit"], "audit" in known and not is_unread(found["audit"]), now),
        "reads": reads_of(known["reads"]),
        "version": version_of(found["version"], deployment.version),
    }
    parts["paused"] = pause_of(variables, parts["queue"], now)
    return parts


def bucket_of(answer: Any, name: str) -> dict[str, str]:
    return {"name": name, "error": "" if isinstance(answer, dict) else answer.error}


def rule_of(rule: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Whether the rule that runs the starter is enabled, and how many minutes apart it fires: None without a rate."""
    return {"enabled": is_enabled(rule), "minutes": minutes_of(rule)} if rule else None


def events_of(judged: Judged) -> dict[str, Any]:
    """Which way the bucket's events really take to the queue, and what is wrong with it."""
    path = judged.path
    bucket, rule = path["bucket"] or {}, path["event_rule"] or {}
    error = bucket.get("error") or rule.get("error") or ""
    if error:
        source = "unknown"
    elif judged.ours:
        source = "both" if rule else "sqs"
    else:
        source = "eventbridge" if rule else "none"
    at_once = any(target["Arn"] == path["arn"]["starter"] for target in rule.get("Targets", []))
    problems = [one["fault"] for one in judged.faults if one["link"] in ("no event", "no start at once")]
    return {"error": error, "at_once": at_once, "source": source, "problems": problems}


def options_of(variables: Mapping[str, str], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What was chosen beyond the default, as the starter knows it."""
    chosen = {name.lower(): variables[name] for name in ("COPY_LAST", "TABLES", "ANNOUNCE") if variables.get(name)}
    return {
        "starter_copies": variables.get("STARTER_COPIES") == "true",
        "starter_max_size": int(variables.get("STARTER_MAX_SIZE", "0")),
        "min_workers": int(variables.get("MIN_WORKERS", "0")),
        **chosen,
        **({"prefixes": list(wanted["prefixes"])} if len(wanted["prefixes"]) > 1 else {}),
        **({"exclude": wanted["excluded"]} if wanted["excluded"] else {}),
        **({"keep_days": int(variables["KEEP_DAYS"])} if variables.get("KEEP_DAYS") else {}),
    }


def age_of(function: Mapping[str, Any] | None, now: float) -> int | None:
    """Seconds since deploy.sh made or changed the function that starts workers."""
    return seconds_since(function["LastModified"].partition("+")[0].partition(".")[0] + "Z", now) if function else None


def start_of(rows: Sequence[Mapping[str, str]] | None, now: float) -> dict[str, Any] | None:
    if not rows:
        return None
    at = rows[0]["@timestamp"].replace(" ", "T").rstrip("Z").partition(".")[0] + "Z"
    line = rows[0]["@message"].rstrip("\n")
    decision = logs.as_decision(line)
    return {
        "at": at,
        "seconds_ago": seconds_since(at, now),
        "decision": decision,
        "error": line if decision is None else "",
    }


def failures_of(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """`found`: the newest first. Their number, and of each key that has not been synced since the newest one and how
    many it had; of the other keys their number."""
    newest: dict[str, Mapping[str, Any]] = {}
    for one in found:
        newest.setdefault(one["key"], one)
    times = Counter(one["key"] for one in found)

    failing = [one for one in newest.values() if not one["synced"]]
    newest_first = [
        {
            "at": one["at"],
            "key": one["key"],
            "reason": f"{one['attempt']} {one['reason']}",
            "times": times[one["key"]],
        }
        for one in failing[:SHOWN]
    ]
    return {"count": len(found), "newest": newest_first, "synced": len(newest) - len(failing)}


def lag_of(lines: Sequence[str] | None) -> dict[str, Any]:
    """Seconds from the event to the copy, and when the newest copy was made."""
    if lines is None:
        return {"count": 0, "newest": ""}
    lags = logs.lags(lines)
    newest = lines[0].split(" ")[0] if lines else ""
    last = len(lags) - 1
    p50, p99 = (lags[half_up(last * part)] if lags else None for part in (0.5, 0.99))
    return {"count": len(lags), "newest": newest, "p50": p50, "p99": p99}


def half_up(value: float) -> int:
    return int(value + 0.5)


def outages_of(found: Sequence[Mapping[str, Any]], now: float) -> list[dict[str, Any]]:
    """Of each worker its last line on one: what happened then, since when it lasted, and why. Those of the last hour,
    and those that go on."""
    hour_ago = iso(now - 3600)
    last: dict[str, Mapping[str, Any]] = {}
    began: dict[str, Mapping[str, Any]] = {}
    for one in sorted(found, key=lambda one: str(one["at"])):
        last[one["stream"]] = one
        if one["event"] == "began":
            began[one["stream"]] = one

    outages = []
    for stream, one in sorted(last.items()):
        first = began.get(stream, {})
        if one["at"] >= hour_ago or one["event"] == "began":
            since, reason = first.get("at") or one["at"], one["reason"] or first.get("reason")
            outages.append({**one, "task": stream.rpartition("/")[2], "since": since, "reason": reason})
    return outages


def markers_of(waits: Sequence[Mapping[str, Any]] | None) -> dict[str, Any] | None:
    return {"count": len(waits), "newest": waits[0], "others": list(waits[1:SHOWN])} if waits else None


def audit_of(
    variables: Mapping[str, str], audits: Sequence[Mapping[str, Any]] | None, is_known: bool, now: float
) -> dict[str, Any] | None:
    if not variables.get("AUDIT_DAYS") or not is_known:
        return None
    days = int(variables["AUDIT_DAYS"])
    last = {**audits[0], "seconds_ago": seconds_since(audits[0]["at"], now)} if audits else None
    return {"days": days, "last": last, "next": iso(next_slot(now, days))}


def reads_of(metrics: Sequence[Any] | None) -> dict[str, Any] | None:
    if not metrics:
        return None
    until = max(one.began + one.days * DAY for one in metrics)
    return {"folders": len(metrics), "until": iso(until)}


def version_of(tags: Any, checkout: str) -> dict[str, Any] | None:
    """1.0.0 had no tag for it."""
    if is_unread(tags):
        return {"deployed": None, "checkout": checkout, "error": tags.error}
    if isinstance(tags, Missing):
        return {"deployed": None, "checkout": checkout, "error": tags.error}
    deployed = (tags.get("Tags") or {}).get("version") or "1.0.0"
    older = health.order_of(deployed) < health.order_of(checkout)
    return {"deployed": deployed, "checkout": checkout, "error": "", "older": older}


def pause_of(variables: Mapping[str, str], queue: Mapping[str, Any] | None, now: float) -> dict[str, Any] | None:
    since = variables.get("PAUSED_SINCE")
    if not since:
        return None
    began = epoch_or_none(since)
    if began is None:
        return {"since": since}
    oldest = (queue or {}).get("oldest_seconds")
    return {"since": since, "events_until": events_until(began, oldest, now)}
