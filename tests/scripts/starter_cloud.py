"""The starter's AWS as a stub: tasks as ECS describes them, and answers with the request that must come for each."""

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import botocore.session
import pytest
from botocore.model import ListShape, Shape, StructureShape
from botocore.stub import Stubber

import starter
from launch import calls
from launch.settings import NUMBER_SETTINGS, TEXT_SETTINGS
from launch.tasks import GAVE_UP

SETTINGS = {
    "QUEUE_URL": "https://sqs.eu-north-1.amazonaws.com/111122223333/sync-q",
    "CLUSTER": "sync-cluster",
    "TASK_DEFINITION": "sync-task",
    "SUBNETS": "subnet-0a1,subnet-0b2",
    "SECURITY_GROUPS": "sg-0c3",
}
SPOT_SHORTAGE = {"reason": "Capacity is unavailable at this time. Please try again later or in a different zone"}
SPOT_FIRST = [{"capacityProvider": "FARGATE_SPOT", "weight": 4}, {"capacityProvider": "FARGATE", "weight": 1}]
SPOT = [{"capacityProvider": "FARGATE_SPOT", "weight": 1}]
ON_DEMAND = [{"capacityProvider": "FARGATE", "weight": 1}]
LIST_STOPPED = {"cluster": "sync-cluster", "family": "sync-task", "desiredStatus": "STOPPED"}
TO_STAY = {
    "containerOverrides": [{"name": "worker", "environment": [{"name": "EMPTY_POLLS_BEFORE_EXIT", "value": "0"}]}]
}
NUMBERS = itertools.count()
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


def seconds_ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def starting(age: float = 30, provider: str = "FARGATE_SPOT") -> dict[str, Any]:
    """A task as DescribeTasks returns it, which has asked for capacity this many seconds ago."""
    return {
        "taskArn": f"arn:aws:ecs:eu-north-1:111122223333:task/sync-cluster/{next(NUMBERS):032}",
        "startedBy": "s3-to-s3express-sync-starter",
        "capacityProviderName": provider,
        "desiredStatus": "RUNNING",
        "lastStatus": "PROVISIONING",
        "createdAt": seconds_ago(age),
        "containers": [{"name": "worker"}],
    }


def running(age: float = 600, provider: str = "FARGATE_SPOT") -> dict[str, Any]:
    return starting(age, provider) | {"lastStatus": "RUNNING", "startedAt": seconds_ago(age - 45)}


def stopped(task: dict[str, Any], code: str, reason: str, ended: float = 0, exit_code: int | None = None) -> Any:
    """That task, stopped this many seconds ago."""
    end = {"desiredStatus": "STOPPED", "lastStatus": "STOPPED", "stopCode": code, "stoppedReason": reason}
    sidecar, worker = {"name": "aws-guardduty-agent", "exitCode": 0}, {"name": "worker"}
    containers = [sidecar, worker if exit_code is None else worker | {"exitCode": exit_code}]
    return task | end | {"stoppedAt": seconds_ago(ended), "containers": containers}


EXITED = "Essential container in task exited"
PULL = "CannotPullContainerError: pull image manifest has been retried 5 time(s): dial tcp: i/o timeout"


def not_pulled(age: float) -> dict[str, Any]:
    """A task that never started, as its image could not be reached."""
    return stopped(starting(age) | {"pullStartedAt": seconds_ago(age - 20)}, "TaskFailedToStart", PULL, age - 40)


def interrupted(age: float) -> dict[str, Any]:
    return stopped(starting(age), "SpotInterruption", "Your Spot Task was interrupted.", age - 10)


def in_outage(age: float, ended: float = 0, code: str = "EssentialContainerExited") -> dict[str, Any]:
    return stopped(running(age), code, EXITED, ended, 3)


class Cloud:
    """The answers that AWS will give, in the order of the calls, each with the request that must come for it."""

    def __init__(self) -> None:
        sqs, ecs = calls.clients()
        self.sqs, self.ecs = Stubber(sqs), Stubber(ecs)
        self.requests: list[tuple[str, dict[str, Any]]] = []
        for client in (sqs, ecs):
            client.meta.events.register("provide-client-params.*.*", self.record)

    def record(self, params: dict[str, Any], model: Any, **_: Any) -> None:
        self.requests.append((model.name, dict(params)))

    def against_the_model(self) -> list[str]:
        """What the services' models have against the requests, enumerations included."""
        models = [botocore.session.get_session().get_service_model(name) for name in ("sqs", "ecs")]
        shapes = {name: model.operation_model(name) for model in models for name in model.operation_names}
        return [text for name, request in self.requests for text in problems(shapes[name].input_shape, request)]

    def has_messages(self, visible: int, in_flight: int) -> None:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        self.sqs.add_response(
            "get_queue_attributes",
            {"Attributes": {names[0]: str(visible), names[1]: str(in_flight)}},
            {"QueueUrl": SETTINGS["QUEUE_URL"], "AttributeNames": names},
        )

    def has_running(self, *page_sizes: int) -> None:
        """What a run asks if nothing waits: who is to run, and whether one of them is there to stay."""
        for number, size in enumerate(page_sizes, 1):
            request = {"cluster": "sync-cluster", "startedBy": "s3-to-s3express-sync-starter"}
            answer: dict[str, Any] = {"taskArns": [f"arn:{number}:{task}" for task in range(size)]}
            if number > 1:
                request["nextToken"] = f"page {number}"
            if number < len(page_sizes):
                answer["nextToken"] = f"page {number + 1}"
            self.ecs.add_response("list_tasks", answer, request)
        arns = [f"arn:{number}:{task}" for number, size in enumerate(page_sizes, 1) for task in range(size)]
        for first in range(0, len(arns), 100):
            part = arns[first : first + 100]
            tasks = [running() | {"taskArn": arn} for arn in part]
            self.ecs.add_response("describe_tasks", {"tasks": tasks}, {"cluster": "sync-cluster", "tasks": part})

    def has_tasks(self, *tasks: dict[str, Any]) -> None:
        """What a run asks if messages wait: who is to run, who stopped, and what they are all about."""
        arns: dict[str, list[str]] = {"RUNNING": [], "STOPPED": []}
        for task in tasks:
            arns[task["desiredStatus"]].append(task["taskArn"])
        self.has_tasks_listed(arns["RUNNING"], arns["STOPPED"])
        everyone = arns["RUNNING"] + arns["STOPPED"]
        for first in range(0, len(everyone), 100):
            part = everyone[first : first + 100]
            found = [task for task in tasks if task["taskArn"] in part]
            self.ecs.add_response("describe_tasks", {"tasks": found}, {"cluster": "sync-cluster", "tasks": part})

    def has_tasks_listed(self, live: list[str], stopped: list[str] | None = None) -> None:
        request = {"cluster": "sync-cluster", "startedBy": "s3-to-s3express-sync-starter"}
        self.ecs.add_response("list_tasks", {"taskArns": live}, request)
        if stopped is not None:
            self.ecs.add_response("list_tasks", {"taskArns": stopped}, LIST_STOPPED)

    def has_revision(self, revision: str) -> None:
        answer = {"taskDefinition": {"taskDefinitionArn": revision}}
        self.ecs.add_response("describe_task_definition", answer, {"taskDefinition": "sync-task"})

    def stops(self, task: dict[str, Any], reason: str = GAVE_UP) -> None:
        request = {"cluster": "sync-cluster", "task": task["taskArn"], "reason": reason}
        self.ecs.add_response("stop_task", {}, request)

    def starts(
        self,
        count: int,
        providers: list[str],
        *failures: dict[str, str],
        strategy: Any = None,
        stay: bool = False,
        tagged: bool = False,
    ) -> None:
        tasks = [starting(0, provider) for provider in providers]
        strategy = strategy or (SPOT if stay else SPOT_FIRST)
        request = run_task_request(count, strategy) | ({"overrides": TO_STAY} if stay else {}) | tags(tagged)
        self.ecs.add_response("run_task", {"tasks": tasks, "failures": list(failures)}, request)

    def refuses(
        self, count: int, code: str, why: str = "no", strategy: Any = None, stay: bool = False, tagged: bool = False
    ) -> None:
        strategy = strategy or (SPOT if stay else SPOT_FIRST)
        request = run_task_request(count, strategy) | ({"overrides": TO_STAY} if stay else {}) | tags(tagged)
        self.ecs.add_client_error("run_task", code, why, 400, expected_params=request)


def tags(tagged: bool) -> dict[str, str]:
    return {"propagateTags": "TASK_DEFINITION"} if tagged else {}


def run_task_request(count: int, strategy: list[dict[str, Any]]) -> dict[str, Any]:
    network = {"subnets": ["subnet-0a1", "subnet-0b2"], "securityGroups": ["sg-0c3"], "assignPublicIp": "ENABLED"}
    return {
        "cluster": "sync-cluster",
        "taskDefinition": "sync-task",
        "count": count,
        "capacityProviderStrategy": strategy,
        "networkConfiguration": {"awsvpcConfiguration": network},
        "startedBy": "s3-to-s3express-sync-starter",
    }


def answering(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    for name in [*TEXT_SETTINGS, *NUMBER_SETTINGS]:
        monkeypatch.delenv(name, raising=False)
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setattr(starter, "time", NOW.timestamp)
    calls.clients.cache_clear()
    calls.just_started.clear()
    calls.say_untagged.cache_clear()
    monkeypatch.setattr(starter, "memory", starter.Memory(looked_at=NOW.timestamp() - 60))
    built = Cloud()
    with built.sqs, built.ecs:
        yield built
        built.sqs.assert_no_pending_responses()
        built.ecs.assert_no_pending_responses()
        assert built.against_the_model() == []
    calls.clients.cache_clear()


def problems(shape: Shape, value: Any) -> list[str]:
    """What botocore's model has against a value: unknown or missing members, and values outside an enumeration."""
    if isinstance(shape, StructureShape):
        found = [f"{shape.name} has no {name}" for name in value if name not in shape.members]
        found += [f"{shape.name} needs {name}" for name in shape.required_members if name not in value]
        known = {name: shape.members[name] for name in value if name in shape.members}
        return found + [text for name, member in known.items() for text in problems(member, value[name])]
    if isinstance(shape, ListShape):
        return [text for item in value for text in problems(shape.member, item)]
    allowed = shape.metadata.get("enum")
    return [] if not allowed or value in allowed else [f"{value!r} is no {shape.name}"]
