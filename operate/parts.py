"""What the verbs ask of a deployment: the function, the queues, the tasks, and request metrics.

A part is what AWS shows of it, None if there is no such thing, or why it could not be read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, Union

from operate.cloud import Answer, Cloud, Denied, Missing, NoAnswer, Unread
from operate.deployment import Deployment
from operate.failure import Failure
from operate.times import iso

Part = Union[Any, None, Denied, NoAnswer]

MOST_TASKS = 100  # of which DescribeTasks tells at once


def is_unread(part: Any) -> bool:
    return isinstance(part, (Denied, NoAnswer))


def part_of(answer: Answer) -> Part:
    return None if isinstance(answer, Missing) else answer


# --- the function -----------------------------------------------------------------------------------------------------


def read_function(cloud: Cloud, deployment: Deployment) -> Part:
    """A function without the variables that it has would look like one that is not paused."""
    name = deployment.starter_name
    found = part_of(cloud.ask("lambda", "get-function-configuration", "--function-name", name))
    error = (found.get("Environment") or {}).get("Error") if isinstance(found, dict) else None
    if not error:
        return found
    message = error.get("Message", "")
    return Denied(f"function {name}: its variables cannot be read: {message}; grant yourself kms:Decrypt", "")


def variables_of(function: Part) -> dict[str, str]:
    """What the last deploy.sh gave to the function: none of a function that is gone, or could not be read."""
    if function is None or isinstance(function, (Denied, NoAnswer)):
        return {}
    return dict((function.get("Environment") or {}).get("Variables") or {})


def need_function(function: Part, deployment: Deployment) -> dict[str, Any]:
    """The function, without which the verb cannot go on."""
    if isinstance(function, (Denied, NoAnswer)):
        raise Failure(function.error)
    if function is None:
        raise no_function(deployment)
    return dict(function)


def no_function(deployment: Deployment) -> Failure:
    cure = f"run ./deploy.sh{deployment.via}, or set REGION and APP_NAME"
    return Failure(f"there is no function {deployment.starter_name} in {deployment.region}: {cure}")


def pause_of(variables: Mapping[str, str], deployment: Deployment, what: str) -> str:
    """What a pause means for what a verb does; nothing if the sync is not paused."""
    since = variables.get("PAUSED_SINCE")
    return f"the sync has been paused since {since}: {what} ./sync.sh{deployment.via} resume" if since else ""


def deployed_settings(deployment: Deployment) -> dict[str, str]:
    """What the last deploy.sh gave to the workers."""
    family, cure = deployment.task_family, f"run ./deploy.sh{deployment.via}"
    if deployment.knows_deployment == "false":
        said = f"the task definition {family} could not be read, see above, so the settings are not known"
        raise Failure(f"{said}: run this again")
    if not deployment.task_definition:
        raise Failure(f"there is no task definition {family} in {deployment.region}: {cure}")
    containers = json.loads(deployment.task_definition)["containerDefinitions"]
    given = next((one.get("environment") for one in containers if one["name"] == "worker"), None)
    return {one["name"]: one["value"] for one in given or []}


# --- queues and tasks -------------------------------------------------------------------------------------------------


def read_queue(cloud: Cloud, name: str) -> Part:
    """What SQS says of the queue, with its `QueueUrl`."""
    found = cloud.ask("sqs", "get-queue-url", "--queue-name", name)
    if not isinstance(found, dict):
        return part_of(found)
    url = found["QueueUrl"]
    queue = cloud.ask("sqs", "get-queue-attributes", "--queue-url", url, "--attribute-names", "All")
    return {**queue, "QueueUrl": url} if isinstance(queue, dict) else part_of(queue)


def numbers_of(queue: Mapping[str, Any]) -> dict[str, int]:
    """How many messages it has."""
    names = {"visible": "", "in_flight": "NotVisible", "delayed": "Delayed"}
    attributes = queue["Attributes"]
    return {name: int(attributes[f"ApproximateNumberOfMessages{which}"]) for name, which in names.items()}


def read_oldest(cloud: Cloud, deployment: Deployment, now: float) -> int | Denied | NoAnswer | None:
    """Whole seconds, or None if CloudWatch has no figure yet."""
    metric = ("--namespace", "AWS/SQS", "--metric-name", "ApproximateAgeOfOldestMessage")
    of_queue = ("--dimensions", f"Name=QueueName,Value={deployment.queue_name}")
    figures = ("--statistics", "Maximum", "--period", "60")
    span = ("--start-time", iso(now - 600), "--end-time", iso(now))
    found = cloud.ask("cloudwatch", "get-metric-statistics", *metric, *of_queue, *figures, *span)
    if isinstance(found, Missing):
        return None
    if isinstance(found, (Denied, NoAnswer)):
        return found
    newest = max(found.get("Datapoints", []), key=lambda point: str(point["Timestamp"]), default=None)
    return round(newest["Maximum"]) if newest else None


def read_tasks(cloud: Cloud, deployment: Deployment, *options: str) -> Part:
    """What DescribeTasks says of the tasks that ListTasks finds."""
    cluster = ("--cluster", deployment.cluster_name)
    listed = cloud.ask("ecs", "list-tasks", *cluster, *options)
    if isinstance(listed, Missing):
        return []
    if isinstance(listed, (Denied, NoAnswer)):
        return listed

    arns, tasks = listed.get("taskArns", []), []
    for start in range(0, len(arns), MOST_TASKS):
        described = cloud.ask("ecs", "describe-tasks", *cluster, "--tasks", *arns[start : start + MOST_TASKS])
        if isinstance(described, Missing):
            return NoAnswer(described.error)
        if isinstance(described, (Denied, NoAnswer)):
            return described
        tasks += described.get("tasks", [])
    return tasks


def in_short(task: Mapping[str, Any]) -> dict[str, Any]:
    """A worker of MIN_WORKERS stays: the starter lets it ignore empty polls."""
    overrides = (task.get("overrides") or {}).get("containerOverrides") or []
    variables = [one for container in overrides for one in container.get("environment") or []]
    stays = any((one["name"], one["value"]) == ("EMPTY_POLLS_BEFORE_EXIT", "0") for one in variables)
    return {
        "id": task["taskArn"].rpartition("/")[2],
        "status": task["lastStatus"],
        "started_by": task.get("startedBy"),
        "capacity": task.get("capacityProviderName") or task.get("launchType"),
        **({"stays": True} if stays else {}),
    }


# --- request metrics --------------------------------------------------------------------------------------------------


class Metrics(NamedTuple):
    """Request metrics of a folder (./sync.sh cost --reads): when they were turned on, and for how many days."""

    id: str
    folder: str
    began: int
    days: int


def read_request_metrics(cloud: Cloud, deployment: Deployment) -> list[Metrics] | Unread:
    """Ours. They can only be read in the bucket's account, and not by every AWS CLI. One without the number of an
    APP_NAME was turned on before ids had it, and counts as ours."""
    if deployment.reads_problem or deployment.settings["DST_BUCKET_OWNER"] != deployment.account:
        return []

    pattern = re.compile(rf"{re.escape(deployment.reads_id)}(\d+)-(\d+)-\d+(?:-{deployment.app_number})?")
    found: list[Metrics] = []
    token: str | None = None
    while True:
        more = ["--continuation-token", token] if token else []
        bucket = ("--bucket", deployment.settings["DST_BUCKET"])
        page = cloud.ask("s3api", "list-bucket-metrics-configurations", *bucket, *more)
        if isinstance(page, (Denied, NoAnswer)):
            return page
        if isinstance(page, Missing):
            return NoAnswer(page.error, page.code)

        for one in page.get("MetricsConfigurationList") or []:
            ours = pattern.fullmatch(one["Id"])
            if ours:
                folder = (one.get("Filter") or {}).get("Prefix", "")
                found.append(Metrics(one["Id"], folder, began=int(ours[1]), days=int(ours[2])))
        token = page.get("NextContinuationToken")
        if not token:
            return found
