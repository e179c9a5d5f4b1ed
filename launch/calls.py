"""The requests of the starter to SQS and ECS: one function for each."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from time import time
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from launch.tasks import STAY, Task, is_shortage, read_task

TASKS_PER_CALL = 10  # ECS API reference, RunTask: count
TASKS_PER_DESCRIBE = 100  # ECS API reference, DescribeTasks: tasks
MOST_STOPPED = 500  # stopped tasks that are looked at: ten calls, and the function has 60 seconds

# The weights split the tasks of one call. Neither is a fallback for the other: "Fargate doesn't replace Spot capacity
# with on-demand capacity" (ECS developer guide, Fargate capacity providers), so a shortage is answered by ON_DEMAND.
# Which of the two gets the task of a call for one is not documented, so the report says what ECS says.
SPOT_FIRST = [{"capacityProvider": "FARGATE_SPOT", "weight": 4}, {"capacityProvider": "FARGATE", "weight": 1}]
ON_DEMAND = [{"capacityProvider": "FARGATE", "weight": 1}]
SPOT = [{"capacityProvider": "FARGATE_SPOT", "weight": 1}]  # of workers that stay: on demand they would stay, too

# For a moment ECS may not list a task that RunTask has returned (ECS API reference, RunTask, on eventual consistency),
# and two runs may be less than a second apart. So a warm environment counts it for this long, listed or not. If ECS
# lists it and cannot describe it yet, what RunTask has returned describes it.
JUST_STARTED_SECONDS, DESCRIBED_SECONDS = 30, 600

NOT_ASSOCIATED = "not associated with the cluster"  # of a capacity provider that is named in RunTask
REPORTED_SECONDS = 3600  # for which this is reported after the last start that it hindered

FAILURE_FIELDS = ("arn", "reason", "detail")

# Three attempts of the slowest kind end before the function's 60 seconds do, so that a failure is still reported.
CLIENT_CONFIG = Config(connect_timeout=3, read_timeout=12, retries={"mode": "standard", "total_max_attempts": 3})


@dataclass
class Aws:
    """AWS for one process of the function: the clients, the clock, and what the requests have to remember."""

    sqs: Any
    ecs: Any
    clock: Callable[[], float] = time
    # ARN -> when, the task as RunTask returned it
    just_started: dict[str, tuple[float, Mapping[str, Any]]] = field(default_factory=dict)
    undated: dict[str, float] = field(default_factory=dict)  # ARN of a task without createdAt -> when it was first seen
    not_associated: dict[str, float] = field(default_factory=dict)  # capacity provider -> when ECS last said so
    is_untagged_said: bool = False


def connect() -> Aws:
    """The Region is that of the function."""
    region = os.environ["AWS_REGION"]
    sqs = boto3.client("sqs", region_name=region, config=CLIENT_CONFIG)
    return Aws(sqs, boto3.client("ecs", region_name=region, config=CLIENT_CONFIG))


def count_messages(aws: Aws, queue_url: str) -> tuple[int, int]:
    """(visible, in flight): approximate numbers of messages."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    found = aws.sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=names)["Attributes"]
    return int(found[names[0]]), int(found[names[1]])


def list_tasks(aws: Aws, **selection: str) -> list[str]:
    """ARNs of at most MOST_STOPPED tasks that are to be stopped or stopped, or of all that are to run."""
    limit = {"MaxItems": MOST_STOPPED} if selection.get("desiredStatus") == "STOPPED" else {}
    pages = aws.ecs.get_paginator("list_tasks").paginate(**selection, PaginationConfig=limit)
    arns: list[str] = []
    for page in pages:
        arns += page["taskArns"]
    return arns


def list_running(aws: Aws, settings: Mapping[str, Any]) -> list[str]:
    """Workers of ours that are starting or running.

    startedBy "must be the only filter" (ECS API reference, ListTasks), and the default then is what we want: tasks that
    ECS means to keep running. A worker that drains after a Spot interruption is not among them: it receives no more
    messages and returns its own, so its replacement has to start now, not when it has ended.
    """
    now, started_by = aws.clock(), settings["STARTED_BY"]
    for arn, (at, _) in list(aws.just_started.items()):
        if now - at >= DESCRIBED_SECONDS:
            del aws.just_started[arn]

    arns = list_tasks(aws, cluster=settings["CLUSTER"], startedBy=started_by)
    for arn, (at, task) in aws.just_started.items():
        is_new = now - at < JUST_STARTED_SECONDS
        if is_new and task.get("startedBy") == started_by and arn not in arns:
            arns.append(arn)
    return arns


def list_stopped(aws: Aws, settings: Mapping[str, Any]) -> list[str]:
    """Tasks of the last hour that are stopped or stopping; also of others, because startedBy is no filter here."""
    return list_tasks(aws, cluster=settings["CLUSTER"], family=settings["TASK_DEFINITION"], desiredStatus="STOPPED")


def describe_tasks(
    aws: Aws, settings: Mapping[str, Any], arns: Sequence[str], listed: Sequence[str] = ()
) -> list[Task]:
    """The tasks among them that the starter started. One that ECS does not know any more is left out.

    `listed`: those among them that ListTasks has just shown as running. DescribeTasks may not know one of them yet (ECS
    API reference, RunTask, on eventual consistency), and it counts as one that is starting.
    """
    found: list[Mapping[str, Any]] = []
    for first in range(0, len(arns), TASKS_PER_DESCRIBE):
        part = list(arns[first : first + TASKS_PER_DESCRIBE])
        found += aws.ecs.describe_tasks(cluster=settings["CLUSTER"], tasks=part)["tasks"]

    known = {arn: task for arn, (_, task) in aws.just_started.items() if arn in arns}
    known |= {task["taskArn"]: task for task in found}
    ours = [task for task in known.values() if task.get("startedBy") == settings["STARTED_BY"]]

    now = aws.clock()
    tasks = [read_task(task, first_seen(aws, task, now)) for task in ours]
    starting = [Task(arn, now) for arn in listed if arn not in known]
    return tasks + starting


def first_seen(aws: Aws, task: Mapping[str, Any], now: float) -> float:
    """When a task without createdAt was first seen by this process. What ECS has dated is forgotten."""
    arn = task["taskArn"]
    if "createdAt" in task:
        aws.undated.pop(arn, None)
        return now
    started_at, _ = aws.just_started.get(arn, (now, {}))
    return aws.undated.setdefault(arn, started_at)


def find_revision(aws: Aws, settings: Mapping[str, Any]) -> str:
    """The ARN of the newest active task definition, with which RunTask starts: "If a revision isn't specified, the
    latest ACTIVE revision is used" (ECS API reference, RunTask and DescribeTaskDefinition)."""
    found = aws.ecs.describe_task_definition(taskDefinition=settings["TASK_DEFINITION"])
    return str(found["taskDefinition"]["taskDefinitionArn"])


def run_with_tags(aws: Aws, request: Mapping[str, Any]) -> Any:
    """The answer of RunTask, with the tags of the task definition; without them if the role may not tag, because a
    worker matters more.

    Such a role has a new policy that IAM does not apply everywhere yet, or a boundary or the organization limits it.
    """
    try:
        return aws.ecs.run_task(**request, propagateTags="TASK_DEFINITION")
    except ClientError as error:
        if error.response["Error"]["Code"] != "AccessDeniedException" or "ecs:TagResource" not in str(error):
            raise
        if not aws.is_untagged_said:
            print(f"tasks are started without tags: {error}")
        aws.is_untagged_said = True
        return aws.ecs.run_task(**request)


def run_tasks(
    aws: Aws, settings: Mapping[str, Any], count: int, strategy: list[dict[str, Any]], changes: Mapping[str, Any]
) -> tuple[list[str], list[str]]:
    """(capacity provider of each started task, reasons of the failures): a shortage is an answer with status 200.

    `changes`: what differs in the container from the task definition.

    botocore makes a client token for each call, which its retries share and the next call does not: the answer to a
    used token would be the old one (ECS API reference, "Ensuring idempotency").
    """
    network = {
        "subnets": settings["SUBNETS"].split(","),
        "securityGroups": [group for group in settings["SECURITY_GROUPS"].split(",") if group],
        "assignPublicIp": settings["ASSIGN_PUBLIC_IP"],
    }
    request = {
        "cluster": settings["CLUSTER"],
        "taskDefinition": settings["TASK_DEFINITION"],
        "count": count,
        "capacityProviderStrategy": strategy,
        "networkConfiguration": {"awsvpcConfiguration": network},
        "startedBy": settings["STARTED_BY"],
        **({"overrides": {"containerOverrides": [{"name": "worker", **changes}]}} if changes else {}),
    }
    answer = run_with_tags(aws, request) if settings["TAG_TASKS"] == "true" else aws.ecs.run_task(**request)
    aws.just_started.update({task["taskArn"]: (aws.clock(), task) for task in answer["tasks"]})
    providers = [task.get("capacityProviderName", "unknown") for task in answer["tasks"]]
    reasons = [" ".join(filter(None, map(failure.get, FAILURE_FIELDS))) for failure in answer["failures"]]
    return providers, reasons


def stop_tasks(aws: Aws, settings: Mapping[str, Any], stop: Mapping[str, str]) -> list[str]:
    """Failures. `stop`: ARN of a task -> the reason that ECS then shows."""
    try:
        for arn, reason in stop.items():
            aws.ecs.stop_task(cluster=settings["CLUSTER"], task=arn, reason=reason)
            aws.just_started.pop(arn, None)
    except (BotoCoreError, ClientError) as error:
        return [str(error)]
    return []


def note_providers(aws: Aws, strategy: Sequence[Mapping[str, Any]], error: ClientError | None = None) -> None:
    """Remembers that the cluster does not have a capacity provider, which does not pass by itself, until ECS accepts a
    strategy that begins with it."""
    first = strategy[0]["capacityProvider"]
    if error is None:
        aws.not_associated.pop(first, None)
    elif error.response["Error"]["Code"] == "InvalidParameterException" and NOT_ASSOCIATED in str(error):
        aws.not_associated[first] = aws.clock()


def missing_providers(aws: Aws, settings: Mapping[str, Any]) -> list[str]:
    """A line for each capacity provider that the cluster did not have at a start of the last hour; none in a pause."""
    if settings["PAUSED_SINCE"]:
        return []
    since = aws.clock() - REPORTED_SECONDS - 60 * settings["LAMBDA_POLL_RATE"]  # so the next run reports it, too
    lost = [provider for provider, at in aws.not_associated.items() if at > since]
    effect = {"FARGATE_SPOT": "workers run on demand only, at about three times the price"}
    cluster = settings["CLUSTER"]
    return [
        f"the cluster {cluster} does not have the capacity provider {provider}, so "
        f"{effect.get(provider, 'workers cannot be started')}: ./deploy.sh adds it"
        for provider in lost
    ]


def batches(count: int) -> Iterator[int]:
    """10, 10, 3 for 23."""
    for first in range(0, count, TASKS_PER_CALL):
        yield min(TASKS_PER_CALL, count - first)


def start_workers(
    aws: Aws, settings: Mapping[str, Any], count: int, on_demand: bool, stay: int, only_spot: bool
) -> tuple[list[str], list[str]]:
    """(capacity provider of each started worker, failures): Spot first, then on demand, or the other way round.

    The first `stay` of them are started to stay. With `only_spot` these could wait, and it is no failure if Spot has no
    room for them. A call that ECS refuses for one of the two, such as Spot whose quota others have used up, may succeed
    for the other. After a call without an answer no other one is made, as the function has 60 seconds.
    """
    started: list[str] = []
    failures: list[str] = []
    sizes = [(size, True) for size in batches(stay)] + [(size, False) for size in batches(count - stay)]
    for missing, stays in sizes:
        spot = SPOT if stays else SPOT_FIRST
        is_optional = stays and only_spot
        strategies = [ON_DEMAND, spot] if on_demand else [spot, ON_DEMAND]
        if is_optional:
            strategies = [spot]

        refused = 0
        for strategy in strategies:
            if missing > 0:
                changes = {"environment": [STAY]} if stays else {}
                try:
                    providers, reasons = run_tasks(aws, settings, missing, strategy, changes)
                    note_providers(aws, strategy)
                except ClientError as error:
                    providers = []
                    reasons = [str(error)]
                    refused += 1
                    note_providers(aws, strategy, error)
                except BotoCoreError as error:
                    return started, [*failures, str(error)]
                started += providers
                failures += [reason for reason in reasons if not (is_optional and is_shortage(reason))]
                missing -= len(providers)

        if refused == len(strategies):
            break
    return started, failures
