"""What a deployment has used, and how it is set up: the figures of ./sync.sh cost, as bill.py takes them.

Each comes from the logs, from CloudWatch's metrics or from a resource. Without one of them there is no sum, so a call
that fails ends the verb.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from launch.path import minutes_of
from operate import logs, text
from operate.bill import METRICS, Setup, Used, alarms
from operate.cloud import Cloud, Denied, NoAnswer, side_by_side
from operate.deployment import Deployment
from operate.estimate import IMAGE_GB, number_of
from operate.failure import Failure
from operate.parts import read_queue, variables_of
from operate.times import DAY, epoch, iso

MOST_ROWS = 10_000  # of a query
STARTED_LINE = r'^\{.*"started": \{"FARGATE'  # of the starter, when it has started workers

# For "parse" of Logs Insights, which is not known to have groups without a name. The last quote of the line ends the
# key: none may follow it.
SIZE = rf'{logs.SYNCED_LINE}".*" action=(?<action>\S+) size=(?<size>\d+) [^"]*$'


def seconds_of(cloud: Cloud, deployment: Deployment, days: int) -> int:
    """How many seconds the figures cover: these days, or less if the queue is younger."""
    queue = read_queue(cloud, deployment.queue_name)
    if isinstance(queue, (Denied, NoAnswer)):
        raise Failure(f"{deployment.queue_name}: {queue.error}")
    if queue is None:
        cure = f"run ./deploy.sh{deployment.via}, or set REGION and APP_NAME"
        raise Failure(f"there is no queue {deployment.queue_name} in {deployment.region}: {cure}")

    age = int(time.time()) - math.floor(float(queue["Attributes"]["CreatedTimestamp"]))
    if age >= days * DAY:
        return days * DAY
    text.say(f"the deployment is younger than {text.amount(days, 'day')}: the figures cover its whole time")
    return age + 1


def used_in(cloud: Cloud, deployment: Deployment, function: Mapping[str, Any], seconds: int) -> Used:
    """All that was used in the last seconds."""
    variables = variables_of(function)
    found = read_figures(cloud, deployment, variables, seconds)
    if len(found["spans"]) == MOST_ROWS:
        text.say("there were more than 10,000 tasks: only 10,000 are counted")

    copies, deletes = (count_of(found["all"], action, "keys") for action in ("copied", "deleted"))
    announces = variables.get("ANNOUNCE", "").startswith("all")
    large = count_of(found["large"], "copied", "keys")
    parts = count_of(found["large"], "copied", "bytes") / number_of(deployment.settings, "PART_SIZE")
    milliseconds = found["milliseconds"]
    log_bytes = [size for size in (found["worker_bytes"], found["starter_bytes"]) if size is not None]
    return Used(
        copies=copies,
        large=large,
        parts=math.floor(parts + large),  # at most
        deletes=deletes,
        skipped=count_of(found["all"], "skipped", "keys"),
        bytes=count_of(found["all"], "copied", "bytes"),
        announced=copies + deletes if announces else 0,
        tasks=len(found["spans"]),
        worker_seconds=sum(span_of(one) for one in found["spans"]),
        spot_share=spot_share(found["started"]),
        runs=found["runs"],
        run_seconds=None if milliseconds is None else milliseconds / 1000,
        log_bytes=sum(log_bytes) if log_bytes else None,
    )


def read_figures(cloud: Cloud, deployment: Deployment, variables: Mapping[str, str], seconds: int) -> Mapping[str, Any]:
    """What each query and each metric shows of the last seconds."""
    keys = logs.groups_of(deployment, variables.get("STARTER_COPIES") == "true")
    workers, starter = deployment.worker_log_group, deployment.starter_log_group
    of_function = ("AWS/Lambda", f"FunctionName={deployment.starter_name}")
    large = number_of(deployment.settings, "MULTIPART_THRESHOLD")

    def rows(groups: Sequence[str], query: str) -> list[logs.Row]:
        found = logs.query(cloud, groups, seconds, query)
        if isinstance(found, (Denied, NoAnswer)):
            names = f"log group {' '.join(groups)}"
            raise Failure(found.error if found.error.startswith(names) else f"{names}: {found.error}")
        return found

    def metric(namespace: str, dimension: str, name: str) -> float | None:
        return metric_sum(cloud, namespace, name, dimension, seconds)

    return side_by_side(
        {
            "all": lambda: rows(keys, count_synced()),
            "large": lambda: rows(keys, count_synced(large)),
            "spans": lambda: rows([workers], spans_of_tasks()),
            "started": lambda: rows([starter], logs.newest(STARTED_LINE, MOST_ROWS)),
            "runs": lambda: metric(*of_function, "Invocations"),
            "milliseconds": lambda: metric(*of_function, "Duration"),
            "worker_bytes": lambda: metric("AWS/Logs", f"LogGroupName={workers}", "IncomingBytes"),
            "starter_bytes": lambda: metric("AWS/Logs", f"LogGroupName={starter}", "IncomingBytes"),
        }
    )


# --- the logs ---------------------------------------------------------------------------------------------------------


def count_synced(above: int | None = None) -> str:
    """A query on a whole time: keys and bytes by action, of all objects or of those above this many bytes."""
    large = "" if above is None else f" | filter size > {above}"
    counts = "stats count(*) as keys, sum(size) as bytes by action"
    return f"{logs.like(logs.SYNCED_LINE)} | parse @message /{SIZE}/{large} | {counts}"


def count_of(rows: Sequence[logs.Row], action: str, field: str) -> float:
    return sum(float(row[field]) for row in rows if row["action"] == action)


def spans_of_tasks() -> str:
    """A query: the first line of each task, and its last."""
    return f"stats min(@timestamp) as first, max(@timestamp) as last by @logStream | limit {MOST_ROWS}"


def span_of(row: logs.Row) -> float:
    return seconds_at(row["last"]) - seconds_at(row["first"])


def seconds_at(stamp: str) -> float:
    """As Logs Insights prints a time: in milliseconds, or such as 2026-11-01 00:10:00.500."""
    if re.fullmatch("[0-9.Ee+]+", stamp):
        return float(stamp) / 1000

    found = re.fullmatch(r"([0-9-]{10})[ T]([0-9:]{8})([.][0-9]+)?Z?", stamp)
    if not found:
        raise Failure(f"CloudWatch Logs shows a time in a form that is not known, {text.visible(stamp)}: report this")
    return epoch(f"{found[1]}T{found[2]}Z") + float(found[3] or 0)


def spot_share(rows: Sequence[logs.Row]) -> float | None:
    """The share of Spot among the workers that were started; None if none was."""
    decisions = map(logs.as_decision, logs.messages(rows))
    started = [decision["started"] for decision in decisions if decision and decision.get("started")]
    spot = sum(one.get("FARGATE_SPOT", 0) for one in started)
    all_of_them = spot + sum(one.get("FARGATE", 0) for one in started)
    return spot / all_of_them if all_of_them else None


# --- metrics ----------------------------------------------------------------------------------------------------------


def metric_sum(cloud: Cloud, namespace: str, name: str, dimension: str, seconds: int) -> float | None:
    """`dimension`: NAME=VALUE. None if CloudWatch has no figures."""
    now = int(time.time())
    of_metric = ("--namespace", namespace, "--metric-name", name, "--statistics", "Sum", "--period", str(DAY))
    dimension_name, _, value = dimension.partition("=")
    dimensions = ("--dimensions", f"Name={dimension_name},Value={value}")
    span = ("--start-time", iso(now - seconds), "--end-time", iso(now))
    answer = cloud.need("cloudwatch", "get-metric-statistics", *of_metric, *dimensions, *span)
    sums = [one["Sum"] for one in answer.get("Datapoints", [])]
    return sum(sums) if sums else None


# --- the deployment ---------------------------------------------------------------------------------------------------


def setup_of(cloud: Cloud, deployment: Deployment, function: Mapping[str, Any], task: Mapping[str, Any]) -> Setup:
    """By its resources, and by the task that runs."""
    settings, variables = deployment.settings, variables_of(function)
    rules = side_by_side(
        {
            "events": lambda: cloud.find("events", "describe-rule", "--name", deployment.event_rule_name),
            "minutes": lambda: cloud.find("events", "describe-rule", "--name", deployment.rule_name),
        }
    )
    has_events = rules["events"] is not None
    has_metrics = "METRICS" in variables
    return Setup(
        vcpus=int(task.get("cpu") or settings["TASK_CPU"]) / 1024,
        memory_gb=int(task.get("memory") or settings["TASK_MEMORY"]) / 1024,
        function_gb=function["MemorySize"] / 1024,
        poll_minutes=minutes_of(rules["minutes"] or {}) or int(settings["LAMBDA_POLL_RATE"]),
        min_workers=int(variables.get("MIN_WORKERS", "0")),
        alarms=alarms(has_events, "AUDIT_DAYS" in variables, has_metrics),
        dashboards=1 if settings["DASHBOARD"] == "true" else 0,
        image_gb=0 if settings["IMAGE_URI"] else IMAGE_GB,
        has_public_ip=variables.get("ASSIGN_PUBLIC_IP") == "ENABLED",
        has_events=has_events,
        endpoints=0 if settings["CREATE_VPC_ENDPOINTS"] == "false" else 2,
        metrics=METRICS if has_metrics else 0,
        function_copies=variables.get("STARTER_COPIES") == "true",
        region=deployment.region,
        arch=settings["TASK_ARCH"],
    )
