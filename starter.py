"""The Lambda function that decides how many workers to start now: messages -> wanted -> started."""

from __future__ import annotations

import functools
import json
import math
import os
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

SUBNET, SECURITY_GROUP = r"subnet-\w+", r"sg-\w+"

# name -> (default or None when required, pattern, what it has to be); the limits are those of the ECS API reference.
TEXT_SETTINGS: dict[str, tuple[str | None, str, str]] = {
    "QUEUE_URL": (None, r"https?://\S+", "the URL of the SQS queue"),
    "CLUSTER": (None, r"[\w:/-]+", "the name or ARN of the ECS cluster"),
    "TASK_DEFINITION": (None, r"[\w-]{1,255}", "the family of the worker's task definition"),
    "SUBNETS": (None, rf"{SUBNET}(,{SUBNET}){{0,15}}", "1 to 16 subnet ids with commas between them"),
    "SECURITY_GROUPS": ("", rf"({SECURITY_GROUP}(,{SECURITY_GROUP}){{0,4}})?", "at most 5 security group ids"),
    "ASSIGN_PUBLIC_IP": ("ENABLED", r"ENABLED|DISABLED", "ENABLED or DISABLED"),
    "STARTED_BY": ("s3-to-s3express-sync-starter", r"[\w/-]{1,128}", "at most 128 letters, digits, hyphens, _ and /"),
}

# name -> (default, lowest, highest)
NUMBER_SETTINGS: dict[str, tuple[int, int, int]] = {
    "MAX_WORKERS": (2, 1, 1000),
    "MESSAGES_PER_WORKER": (10, 1, 1_000_000),
}

TASKS_PER_CALL = 10  # ECS API reference, RunTask: count

# The weights split the tasks of one call. Neither is a fallback for the other: "Fargate doesn't replace Spot capacity
# with on-demand capacity" (ECS developer guide, Fargate capacity providers), so a shortage is answered by ON_DEMAND.
# Which of the two gets the task of a call for one is not documented, so the report says what ECS says.
SPOT_FIRST = [{"capacityProvider": "FARGATE_SPOT", "weight": 4}, {"capacityProvider": "FARGATE", "weight": 1}]
ON_DEMAND = [{"capacityProvider": "FARGATE", "weight": 1}]

FAILURE_FIELDS = ("arn", "reason", "detail")
SHORTAGE = "Capacity is unavailable at this time"  # re:Post, "Fargate RunTask: capacity is unavailable"

# Three attempts of the slowest kind end before the function's 60 seconds do, so that a failure is still reported.
CLIENT_CONFIG = Config(connect_timeout=3, read_timeout=12, retries={"mode": "standard", "total_max_attempts": 3})


def load_settings(environment: Mapping[str, str]) -> dict[str, Any]:
    """Settings under the names of their environment variables. Raises ValueError that names every wrong one."""
    settings: dict[str, Any] = {}
    problems = []
    for name, (default, pattern, meaning) in TEXT_SETTINGS.items():
        text = settings[name] = environment.get(name) or default
        if text is None:
            problems.append(f"{name} is not set, it has to be {meaning}")
        elif not re.fullmatch(pattern, text, re.ASCII):
            problems.append(f"{name}={text!r} has to be {meaning}")
    for name, (number, lowest, highest) in NUMBER_SETTINGS.items():
        text = environment.get(name) or str(number)
        settings[name] = int(text) if re.fullmatch(r"[0-9]+", text) else -1
        if not lowest <= settings[name] <= highest:
            problems.append(f"{name}={text!r} has to be a whole number from {lowest} to {highest}")
    if problems:
        raise ValueError("wrong settings: " + "; ".join(problems))
    return settings


@functools.cache
def clients() -> tuple[Any, Any]:
    """(SQS, ECS), made once for each environment that Lambda keeps; the Region is that of the function."""
    region = os.environ["AWS_REGION"]
    sqs = boto3.client("sqs", region_name=region, config=CLIENT_CONFIG)
    return sqs, boto3.client("ecs", region_name=region, config=CLIENT_CONFIG)


def count_messages(queue_url: str) -> tuple[int, int]:
    """(visible, in flight): approximate numbers of messages."""
    sqs, _ = clients()
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    found = sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=names)["Attributes"]
    return int(found[names[0]]), int(found[names[1]])


def count_running(cluster: str, started_by: str) -> int:
    """Workers of ours that are starting or running.

    startedBy "must be the only filter" (ECS API reference, ListTasks), and the default then is what we want: tasks that
    ECS means to keep running. A worker that drains after a Spot interruption is not among them: it receives no more and
    hands its messages back, so its successor has to start now and not when it is gone.
    """
    _, ecs = clients()
    pages = ecs.get_paginator("list_tasks").paginate(cluster=cluster, startedBy=started_by)
    return sum(len(page["taskArns"]) for page in pages)


def run_tasks(settings: Mapping[str, Any], count: int, strategy: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """(capacity provider of each started worker, reasons of the failures): a shortage is an answer with status 200.

    botocore makes a client token for each call, which its retries share and the next call does not: the answer to a
    used token would be the old one (ECS API reference, "Ensuring idempotency").
    """
    _, ecs = clients()
    network = {
        "subnets": settings["SUBNETS"].split(","),
        "securityGroups": [group for group in settings["SECURITY_GROUPS"].split(",") if group],
        "assignPublicIp": settings["ASSIGN_PUBLIC_IP"],
    }
    answer = ecs.run_task(
        cluster=settings["CLUSTER"],
        taskDefinition=settings["TASK_DEFINITION"],
        count=count,
        capacityProviderStrategy=strategy,
        networkConfiguration={"awsvpcConfiguration": network},
        startedBy=settings["STARTED_BY"],
    )
    providers = [task.get("capacityProviderName", "unknown") for task in answer["tasks"]]
    reasons = [" ".join(filter(None, map(failure.get, FAILURE_FIELDS))) for failure in answer["failures"]]
    return providers, reasons


def start_workers(settings: Mapping[str, Any], count: int) -> tuple[list[str], list[str]]:
    """(capacity provider of each started worker, failures): Spot first, on demand where Spot has no room."""
    started: list[str] = []
    failures: list[str] = []
    try:
        for first in range(0, count, TASKS_PER_CALL):
            missing = min(TASKS_PER_CALL, count - first)
            for strategy in (SPOT_FIRST, ON_DEMAND):
                if missing > 0:
                    providers, reasons = run_tasks(settings, missing, strategy)
                    started += providers
                    failures += reasons
                    missing -= len(providers)
    except (BotoCoreError, ClientError) as error:
        # Not the end: what was started before this call has to be in the report.
        failures.append(str(error))
    return started, failures


def handler(_event: object, _context: object) -> dict[str, Any]:
    """Starts the workers that are missing; returns and logs the numbers it decided on.

    Raises ValueError for wrong settings, botocore's error where the queue or the cluster cannot be read, and
    RuntimeError where ECS failed for another reason than a shortage of capacity, which the next run tries again.
    """
    settings = load_settings(os.environ)
    visible, in_flight = count_messages(settings["QUEUE_URL"])
    running = count_running(settings["CLUSTER"], settings["STARTED_BY"])
    wanted = min(settings["MAX_WORKERS"], math.ceil((visible + in_flight) / settings["MESSAGES_PER_WORKER"]))
    started, failures = start_workers(settings, max(0, wanted - running))
    report = {
        "visible": visible,
        "in_flight": in_flight,
        "running": running,
        "wanted": wanted,
        "started": dict(Counter(started)),
        "failures": failures,
    }
    print(json.dumps(report))
    errors = [failure for failure in failures if SHORTAGE not in failure]
    if errors:
        raise RuntimeError(f"workers of {settings['TASK_DEFINITION']} were not started: {'; '.join(errors)}")
    return report
