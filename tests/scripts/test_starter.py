"""How many workers the starter starts, on what, and what it reports: every call is checked against botocore's model."""

import itertools
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import botocore.session
import pytest
import starter_simulation
from botocore.exceptions import ClientError
from botocore.model import ListShape, Shape, StructureShape
from botocore.stub import Stubber

import starter
from launch import calls
from launch.decision import decide
from launch.settings import NUMBER_SETTINGS, TEXT_SETTINGS, load_settings
from launch.tasks import GAVE_UP, Task

SETTINGS = {
    "QUEUE_URL": "https://sqs.eu-north-1.amazonaws.com/111122223333/sync-q",
    "CLUSTER": "sync-cluster",
    "TASK_DEFINITION": "sync-task",
    "SUBNETS": "subnet-0a1,subnet-0b2",
    "SECURITY_GROUPS": "sg-0c3",
}
SPOT_SHORTAGE = {"reason": "Capacity is unavailable at this time. Please try again later or in a different zone"}
SPOT_FIRST = [{"capacityProvider": "FARGATE_SPOT", "weight": 4}, {"capacityProvider": "FARGATE", "weight": 1}]
ON_DEMAND = [{"capacityProvider": "FARGATE", "weight": 1}]


LIST_STOPPED = {"cluster": "sync-cluster", "family": "sync-task", "desiredStatus": "STOPPED"}
NUMBERS = itertools.count()
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


def seconds_ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def starting(age: float = 30, provider: str = "FARGATE_SPOT") -> dict[str, Any]:
    """A task as DescribeTasks tells it, which has asked for capacity so many seconds ago."""
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
    """That task, stopped so many seconds ago."""
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

    def has_messages(self, visible: int, in_flight: int) -> None:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        self.sqs.add_response(
            "get_queue_attributes",
            {"Attributes": {names[0]: str(visible), names[1]: str(in_flight)}},
            {"QueueUrl": SETTINGS["QUEUE_URL"], "AttributeNames": names},
        )

    def has_running(self, *page_sizes: int) -> None:
        for number, size in enumerate(page_sizes, 1):
            request = {"cluster": "sync-cluster", "startedBy": "s3-to-s3express-sync-starter"}
            answer: dict[str, Any] = {"taskArns": [f"arn:{number}:{task}" for task in range(size)]}
            if number > 1:
                request["nextToken"] = f"page {number}"
            if number < len(page_sizes):
                answer["nextToken"] = f"page {number + 1}"
            self.ecs.add_response("list_tasks", answer, request)

    def has_tasks(self, *tasks: dict[str, Any]) -> None:
        """What a run asks if messages wait: who is to run, who stopped, and what they are all about."""
        arns: dict[str, list[str]] = {"RUNNING": [], "STOPPED": []}
        for task in tasks:
            arns[task["desiredStatus"]].append(task["taskArn"])
        self.ecs.add_response(
            "list_tasks",
            {"taskArns": arns["RUNNING"]},
            {"cluster": "sync-cluster", "startedBy": "s3-to-s3express-sync-starter"},
        )
        self.ecs.add_response("list_tasks", {"taskArns": arns["STOPPED"]}, LIST_STOPPED)
        everyone = arns["RUNNING"] + arns["STOPPED"]
        for first in range(0, len(everyone), 100):
            part = everyone[first : first + 100]
            found = [task for task in tasks if task["taskArn"] in part]
            self.ecs.add_response("describe_tasks", {"tasks": found}, {"cluster": "sync-cluster", "tasks": part})

    def stops(self, task: dict[str, Any]) -> None:
        request = {"cluster": "sync-cluster", "task": task["taskArn"], "reason": GAVE_UP}
        self.ecs.add_response("stop_task", {}, request)

    def starts(self, count: int, providers: list[str], *failures: dict[str, str], strategy: Any = None) -> None:
        self.ecs.add_response(
            "run_task",
            {"tasks": [{"capacityProviderName": provider} for provider in providers], "failures": list(failures)},
            run_task_request(count, strategy or SPOT_FIRST),
        )

    def refuses(self, count: int, code: str) -> None:
        self.ecs.add_client_error("run_task", code, "no", 400, expected_params=run_task_request(count, SPOT_FIRST))


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


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    for name in [*TEXT_SETTINGS, *NUMBER_SETTINGS]:
        monkeypatch.delenv(name, raising=False)
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setattr(starter, "time", NOW.timestamp)
    calls.clients.cache_clear()
    built = Cloud()
    with built.sqs, built.ecs:
        yield built
        built.sqs.assert_no_pending_responses()
        built.ecs.assert_no_pending_responses()
    calls.clients.cache_clear()


@pytest.mark.parametrize(
    ("visible", "in_flight", "workers", "started"),
    [
        (1, 0, 0, 1),
        (10, 0, 0, 1),
        (11, 0, 0, 2),
        (5, 6, 0, 1),
        (10_000, 0, 0, 2),
        (10_000, 0, 1, 1),
        (11, 10, 1, 1),
    ],
)
def test_one_worker_is_started_for_each_ten_messages_up_to_the_most(
    cloud: Cloud, visible: int, in_flight: int, workers: int, started: int
) -> None:
    cloud.has_messages(visible, in_flight)
    cloud.has_tasks(*(running() for _ in range(workers)))
    cloud.starts(started, ["FARGATE_SPOT"] * started)
    assert starter.handler({}, None)["started"] == {"FARGATE_SPOT": started}


@pytest.mark.parametrize(("visible", "workers"), [(1, 1), (10, 1), (10, 2), (20, 2), (10_000, 2), (10_000, 3)])
def test_nothing_is_started_where_enough_workers_run(cloud: Cloud, visible: int, workers: int) -> None:
    cloud.has_messages(visible, 0)
    cloud.has_tasks(*(running() for _ in range(workers)))
    assert starter.handler({}, None)["started"] == {}


@pytest.mark.parametrize("workers", [0, 2])
def test_if_nothing_waits_two_calls_are_all(cloud: Cloud, workers: int) -> None:
    cloud.has_messages(0, 0)
    cloud.has_running(workers)
    report = starter.handler({}, None)
    assert (report["running"], report["wanted"], report["started"]) == (workers, 0, {})
    assert [name for name, _ in cloud.requests] == ["GetQueueAttributes", "ListTasks"]


@pytest.mark.parametrize("in_flight", [1, 11, 500])
def test_messages_that_nobody_could_receive_start_no_worker(cloud: Cloud, in_flight: int) -> None:
    cloud.has_messages(0, in_flight)
    cloud.has_running(1)
    report = starter.handler({}, None)
    assert (report["wanted"], report["started"]) == (1, {})


def test_a_worker_that_is_starting_is_not_started_again(cloud: Cloud) -> None:
    cloud.has_messages(10, 0)
    cloud.has_tasks(starting())
    assert starter.handler({}, None)["started"] == {}


def test_a_full_worker_does_not_hold_up_what_it_has_no_room_for(cloud: Cloud) -> None:
    cloud.has_messages(1, 600)
    cloud.has_tasks(running())
    cloud.starts(1, ["FARGATE_SPOT"])
    assert starter.handler({}, None)["started"] == {"FARGATE_SPOT": 1}


def test_who_wants_one_worker_for_very_many_messages_gets_one(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESSAGES_PER_WORKER", "1000000")
    cloud.has_messages(9_000, 1_024)
    cloud.has_tasks(running())
    assert starter.handler({}, None)["started"] == {}


def test_workers_on_every_page_of_the_list_count(cloud: Cloud) -> None:
    cloud.has_messages(0, 0)
    cloud.has_running(100, 99)
    assert starter.handler({}, None)["running"] == 199


def test_more_than_a_hundred_tasks_are_described_in_calls_of_at_most_a_hundred(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAX_WORKERS", "60")
    cloud.has_messages(10_000, 0)
    cloud.has_tasks(*(running() for _ in range(60)), *(interrupted(900) for _ in range(60)))
    assert starter.handler({}, None)["running"] == 60


def test_of_very_many_stopped_tasks_so_many_are_looked_at_as_the_time_allows(cloud: Cloud) -> None:
    cloud.has_messages(1, 0)
    cloud.has_running(0)
    arns = [f"arn:{number}" for number in range(500)]
    for page in range(5):
        token = {"nextToken": f"page {page}"} if page else {}
        answer = {"taskArns": arns[100 * page : 100 * (page + 1)], "nextToken": f"page {page + 1}"}
        cloud.ecs.add_response("list_tasks", answer, LIST_STOPPED | token)
    for first in range(0, 500, 100):
        request = {"cluster": "sync-cluster", "tasks": arns[first : first + 100]}
        cloud.ecs.add_response("describe_tasks", {"tasks": []}, request)
    cloud.starts(1, ["FARGATE_SPOT"])
    starter.handler({}, None)


def test_a_task_that_stops_while_the_starter_looks_does_not_count(cloud: Cloud) -> None:
    """ECS API reference, ListTasks: "Recently stopped tasks might appear"."""
    gone = stopped(running(), "EssentialContainerExited", EXITED, 1, 0)
    cloud.has_messages(1, 0)
    for request in ({"cluster": "sync-cluster", "startedBy": "s3-to-s3express-sync-starter"}, LIST_STOPPED):
        cloud.ecs.add_response("list_tasks", {"taskArns": [gone["taskArn"]]}, request)
    described = {"cluster": "sync-cluster", "tasks": [gone["taskArn"]]}
    cloud.ecs.add_response("describe_tasks", {"tasks": [gone]}, described)
    cloud.starts(1, ["FARGATE_SPOT"])
    assert starter.handler({}, None)["running"] == 0


def test_tasks_of_others_do_not_count(cloud: Cloud) -> None:
    """Those that compare the buckets have the same family."""
    others = [not_pulled(200) | {"startedBy": "sync-reconcile"}, interrupted(600) | {"startedBy": "sync-reconcile"}]
    cloud.has_messages(1, 0)
    cloud.has_tasks(*others)
    cloud.starts(1, ["FARGATE_SPOT"])
    assert starter.handler({}, None)["failing"] == ""


def test_more_than_ten_workers_are_asked_for_in_calls_of_at_most_ten(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAX_WORKERS", "23")
    cloud.has_messages(10_000, 0)
    cloud.has_tasks()
    for count in (10, 10, 3):
        cloud.starts(count, ["FARGATE_SPOT"] * count)
    assert starter.handler({}, None)["started"] == {"FARGATE_SPOT": 23}


def test_what_spot_has_no_room_for_is_started_on_demand(cloud: Cloud) -> None:
    cloud.has_messages(20, 0)
    cloud.has_tasks()
    cloud.starts(2, ["FARGATE_SPOT"], SPOT_SHORTAGE)
    cloud.starts(1, ["FARGATE"], strategy=ON_DEMAND)
    report = starter.handler({}, None)
    assert report["started"] == {"FARGATE_SPOT": 1, "FARGATE": 1}
    assert report["failures"] == [SPOT_SHORTAGE["reason"]]


def test_a_shortage_of_both_is_reported_and_left_to_the_next_run(cloud: Cloud) -> None:
    cloud.has_messages(1, 0)
    cloud.has_tasks()
    cloud.starts(1, [], SPOT_SHORTAGE)
    cloud.starts(1, [], SPOT_SHORTAGE, strategy=ON_DEMAND)
    report = starter.handler({}, None)
    assert report["started"] == {}
    assert len(report["failures"]) == 2


def test_a_second_attempt_has_a_client_token_of_its_own(cloud: Cloud) -> None:
    tokens: list[str] = []

    def note_token(params: dict[str, Any], model: Any, **_: Any) -> None:
        if model.name == "RunTask":
            tokens.append(params["clientToken"])

    _, ecs = calls.clients()
    ecs.meta.events.register_last("before-parameter-build", note_token)
    cloud.has_messages(1, 0)
    cloud.has_tasks()
    cloud.starts(1, [], SPOT_SHORTAGE)
    cloud.starts(1, ["FARGATE"], strategy=ON_DEMAND)
    starter.handler({}, None)
    assert len(tokens) == len(set(tokens)) == 2


def test_a_failure_that_is_no_shortage_fails_the_invocation_after_the_report(
    cloud: Cloud, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud.has_messages(1, 0)
    cloud.has_tasks()
    cloud.starts(1, [], {"arn": "arn:task", "reason": "MISSING", "detail": "the revision is gone"})
    cloud.starts(1, ["FARGATE"], strategy=ON_DEMAND)
    with pytest.raises(RuntimeError, match="sync-task were not started: arn:task MISSING the revision is gone"):
        starter.handler({}, None)
    assert json.loads(capsys.readouterr().out)["started"] == {"FARGATE": 1}


def test_a_refused_call_fails_the_invocation_after_reporting_what_was_started_before(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MAX_WORKERS", "12")
    cloud.has_messages(1000, 0)
    cloud.has_tasks()
    cloud.starts(10, ["FARGATE_SPOT"] * 8 + ["FARGATE"] * 2)
    cloud.refuses(2, "AccessDeniedException")
    with pytest.raises(RuntimeError, match="AccessDeniedException"):
        starter.handler({}, None)
    report = json.loads(capsys.readouterr().out)
    assert report["started"] == {"FARGATE_SPOT": 8, "FARGATE": 2}
    assert "AccessDeniedException" in report["failures"][0]


def test_a_queue_that_cannot_be_read_fails_the_invocation(cloud: Cloud) -> None:
    cloud.sqs.add_client_error("get_queue_attributes", "AWS.SimpleQueueService.NonExistentQueue", "gone", 400)
    with pytest.raises(ClientError, match="NonExistentQueue"):
        starter.handler({}, None)


def test_the_report_is_returned_and_logged_in_one_line(cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    cloud.has_messages(12, 4)
    cloud.has_tasks(running())
    cloud.starts(1, ["FARGATE_SPOT"])
    report = starter.handler({}, None)
    assert report == {
        "visible": 12,
        "in_flight": 4,
        "running": 1,
        "wanted": 2,
        "started": {"FARGATE_SPOT": 1},
        "stopped": 0,
        "failures": [],
        "failing": "",
        "trial": "",
    }
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line) for line in lines] == [report]


# A shortage of Spot shows in three ways: failures[] (above), tasks that wait, tasks that are stopped before they start.


def test_a_task_that_waits_for_spot_for_five_minutes_is_stopped_and_replaced_on_demand(cloud: Cloud) -> None:
    cloud.has_messages(1, 0)
    cloud.has_tasks(waiting := starting(301))
    cloud.stops(waiting)
    cloud.starts(1, ["FARGATE"], strategy=ON_DEMAND)
    report = starter.handler({}, None)
    assert (report["started"], report["stopped"], report["running"]) == ({"FARGATE": 1}, 1, 0)


def test_never_more_tasks_than_max_workers_though_all_of_them_wait_for_spot(cloud: Cloud) -> None:
    cloud.has_messages(10_000, 0)
    cloud.has_tasks(*(waiting := [starting(301), starting(301)]))
    for task in waiting:
        cloud.stops(task)
    cloud.starts(2, ["FARGATE", "FARGATE"], strategy=ON_DEMAND)
    assert starter.handler({}, None)["started"] == {"FARGATE": 2}


@pytest.mark.parametrize(
    "task",
    [
        starting(290),
        starting(400, "FARGATE"),
        starting(400) | {"lastStatus": "PENDING", "pullStartedAt": seconds_ago(100)},
    ],
)
def test_a_task_that_may_yet_start_counts_as_running(cloud: Cloud, task: dict[str, Any]) -> None:
    """One that pulls its image has its capacity; one on demand has nothing else to turn to."""
    cloud.has_messages(1, 0)
    cloud.has_tasks(task)
    assert starter.handler({}, None)["started"] == {}


def test_a_waiting_task_that_cannot_be_stopped_gets_no_successor(cloud: Cloud) -> None:
    cloud.has_messages(1, 0)
    cloud.has_tasks(starting(301))
    cloud.ecs.add_client_error("stop_task", "AccessDeniedException", "no", 400)
    with pytest.raises(RuntimeError, match="AccessDeniedException"):
        starter.handler({}, None)


@pytest.mark.parametrize("code", ["SpotInterruption", "TerminationNotice"])
def test_tasks_that_spot_stops_before_they_start_lead_to_on_demand_after_five_minutes(cloud: Cloud, code: str) -> None:
    attempts = [interrupted(age) | {"stopCode": code} for age in (310, 250, 190, 130, 70)]
    cloud.has_messages(1, 0)
    cloud.has_tasks(*attempts)
    cloud.starts(1, ["FARGATE"], strategy=ON_DEMAND)
    assert starter.handler({}, None)["failing"] == ""


def done_on_demand(age: float) -> dict[str, Any]:
    return stopped(running(age, "FARGATE"), "EssentialContainerExited", EXITED, age - 200, 0)


@pytest.mark.parametrize(
    ("tasks", "strategy"),
    [
        ([interrupted(240), interrupted(60)], SPOT_FIRST),  # not for long
        ([interrupted(2000), interrupted(950), done_on_demand(930)], SPOT_FIRST),  # worth a try again
        ([interrupted(2000), interrupted(600), done_on_demand(580)], ON_DEMAND),  # too soon
        ([interrupted(2000), done_on_demand(1900), interrupted(60)], ON_DEMAND),  # the try went wrong
        ([interrupted(1800)], ON_DEMAND),  # the starter runs every half an hour
        ([interrupted(900), running(400)], SPOT_FIRST),  # Spot is back
        ([interrupted(900), running(400, "FARGATE")], ON_DEMAND),
        ([stopped(starting(900), "UserInitiated", GAVE_UP, 590)], ON_DEMAND),
        ([stopped(starting(900), "UserInitiated", "by hand", 590)], SPOT_FIRST),
        ([stopped(running(900), "SpotInterruption", "Your Spot Task was interrupted.", 60)], SPOT_FIRST),  # it had run
    ],
)
def test_how_long_a_shortage_of_spot_is_remembered(
    cloud: Cloud, tasks: list[dict[str, Any]], strategy: list[dict[str, Any]]
) -> None:
    cloud.has_messages(11, 0)
    cloud.has_tasks(*tasks)
    live = sum(task["desiredStatus"] == "RUNNING" for task in tasks)
    cloud.starts(2 - live, ["FARGATE"] * (2 - live), strategy=strategy)
    assert starter.handler({}, None)["failing"] == ""


def as_of(task: Task, now: float, form: str) -> Task:
    """What ECS says of a task of that age. On demand it works for three minutes; on Spot it gets no room."""
    age = now - task.created
    if task.stop_code or age < 60:
        return task
    if not task.spot:
        worker = task._replace(started=task.created + 45)
        done = {"wanted": False, "ended": task.created + 225, "stop_code": "EssentialContainerExited", "exit_code": 0}
        return worker._replace(**done) if age > 225 else worker
    if form == "waits":
        return task
    return task._replace(wanted=False, ended=task.created + 60, stop_code="SpotInterruption")


@pytest.mark.parametrize(("form", "spot_tries"), [("waits", 12), ("is interrupted", 17)])
def test_hours_without_spot_cost_minutes_and_not_a_try_each_minute(form: str, spot_tries: int) -> None:
    """Work never ends, for three hours; ECS shows stopped tasks for one."""
    settings = {"MAX_WORKERS": 1, "MESSAGES_PER_WORKER": 10}
    known: dict[int, Task] = {}
    for now in range(60, 60 + 3 * 3600, 60):
        known = {created: as_of(task, now, form) for created, task in known.items()}
        seen = [task for task in known.values() if task.wanted or now - (task.ended or now) < 3600]
        decision = decide(1, 0, seen, now, settings)
        for created, task in known.items():
            if task.arn in decision.stop:
                gave_up = {"wanted": False, "ended": now, "stop_code": "UserInitiated", "reason": GAVE_UP}
                known[created] = task._replace(**gave_up)
        if decision.start:
            assert now not in known
            known[now] = Task(str(now), now, spot=not decision.on_demand)
        assert sum(task.wanted for task in known.values()) <= 1
        assert decision.failing == ""
    on_demand = [created for created, task in known.items() if not task.spot]
    assert on_demand[0] <= 60 + 360
    assert len(on_demand) >= 25
    assert len(known) - len(on_demand) <= spot_tries


def test_spot_is_asked_if_on_demand_has_no_room_either(cloud: Cloud) -> None:
    cloud.has_messages(1, 0)
    cloud.has_tasks(interrupted(400), interrupted(60))
    cloud.starts(1, [], SPOT_SHORTAGE, strategy=ON_DEMAND)
    cloud.starts(1, ["FARGATE_SPOT"])
    assert starter.handler({}, None)["started"] == {"FARGATE_SPOT": 1}


# Tasks that never get going.


@pytest.mark.parametrize(
    ("task", "text"),
    [
        (not_pulled(100), f"TaskFailedToStart: {PULL}"),
        (stopped(starting(100), "TaskFailedToStart", "ResourceInitializationError: no route", 60), "no route"),
        (stopped(running(100), "EssentialContainerExited", EXITED, 50, 2), f"{EXITED} (exit code 2)"),
    ],
)
def test_a_task_that_never_worked_fails_the_run_with_the_reason_of_ecs(
    cloud: Cloud, capsys: pytest.CaptureFixture[str], task: dict[str, Any], text: str
) -> None:
    cloud.has_messages(1, 0)
    cloud.has_tasks(task)
    cloud.starts(1, ["FARGATE_SPOT"])
    with pytest.raises(RuntimeError, match=f"workers of sync-task do not get to work: .*{re.escape(text)}"):
        starter.handler({}, None)
    report = json.loads(capsys.readouterr().out)
    assert text in report["failing"]
    assert report["started"] == {"FARGATE_SPOT": 1}


@pytest.mark.parametrize("visible", [1, 10_000])
@pytest.mark.parametrize(
    "tasks",
    [
        [not_pulled(200), not_pulled(50)],  # pauses
        [not_pulled(200), starting(20)],  # one at a time
    ],
)
def test_every_run_fails_until_a_worker_starts_also_if_it_starts_nothing(
    cloud: Cloud, tasks: list[dict[str, Any]], visible: int
) -> None:
    cloud.has_messages(visible, 0)
    cloud.has_tasks(*tasks)
    with pytest.raises(RuntimeError, match="do not get to work"):
        starter.handler({}, None)


@pytest.mark.parametrize(
    "tasks",
    [
        [not_pulled(200), running(100)],  # one works
        [not_pulled(200), stopped(running(150), "EssentialContainerExited", EXITED, 10, 0)],  # one did
        [stopped(running(900), "EssentialContainerExited", EXITED, 10, 137)],  # worked for long
        [stopped(starting(100), "UserInitiated", "cleanup.sh", 60)],
        [interrupted(100)],
        [stopped(starting(100), "TaskFailedToStart", SPOT_SHORTAGE["reason"], 60)],
    ],
)
def test_what_worked_was_stopped_or_found_no_capacity_is_no_failure(cloud: Cloud, tasks: list[dict[str, Any]]) -> None:
    live = sum(task["desiredStatus"] == "RUNNING" for task in tasks)
    cloud.has_messages(10_000, 0)
    cloud.has_tasks(*tasks)
    cloud.starts(2 - live, ["FARGATE_SPOT"] * (2 - live))
    assert starter.handler({}, None)["failing"] == ""


def attempts_in(seconds: int, seconds_to_fail: int = 30, tasks_at_first: int = 2) -> list[int]:
    """When tasks are created if none of them ever starts and the starter runs every minute."""
    settings = {"MAX_WORKERS": tasks_at_first, "MESSAGES_PER_WORKER": 10}
    created: list[int] = []
    for now in range(60, 60 + seconds, 60):
        tasks = [
            Task("", at, wanted=False, stop_code="TaskFailedToStart", reason="no", ended=at + seconds_to_fail)
            if now - at >= seconds_to_fail
            else Task("", at)
            for at in created
            if now - at < 3600  # ECS shows stopped tasks for about an hour
        ]
        decision = decide(1000, 0, tasks, now, settings)
        assert bool(decision.failing) == (now >= 60 + seconds_to_fail)
        created += [now] * decision.start
    return created


def test_pauses_between_attempts_grow_to_a_quarter_of_an_hour() -> None:
    minutes = [created // 60 - 1 for created in attempts_in(3 * 3600)]
    assert minutes == [0, 0, 1, 2, 4, 8, 16, 31, 46, 61, 76, 91, 106, 121, 136, 151, 166]


def test_tasks_that_take_minutes_to_fail_are_tried_one_at_a_time_too() -> None:
    created = attempts_in(86_400, seconds_to_fail=240, tasks_at_first=100)
    assert len(created) - 100 == len({*created[100:]}) < 100


# A worker that ended with exit status 3 could sync no key, whichever it tried, for ten minutes.


def in_outage(age: float, ended: float = 0, code: str = "EssentialContainerExited") -> dict[str, Any]:
    return stopped(running(age), code, EXITED, ended, 3)


def done(age: float, ended: float) -> dict[str, Any]:
    return stopped(running(age), "EssentialContainerExited", EXITED, ended, 0)


@pytest.mark.parametrize(
    ("tasks", "seconds"),
    [
        ([in_outage(700, 10)], 50),  # it ran for more than ten minutes
        ([in_outage(700, 10, "SpotInterruption")], 50),
        ([in_outage(1500, 810), in_outage(740, 10)], 790),  # as long as it has been going wrong
        ([in_outage(3000, 2300), in_outage(2200, 1500), in_outage(720, 10)], 890),  # a quarter of an hour at most
        ([done(3000, 2900), in_outage(700, 10)], 50),  # what went well before does not count
        ([running(700), in_outage(690, 10)], 50),  # nor what has been running since before that
    ],
)
def test_a_worker_that_ended_in_an_outage_has_no_successor_before_a_pause(
    cloud: Cloud, capsys: pytest.CaptureFixture[str], tasks: list[dict[str, Any]], seconds: int
) -> None:
    cloud.has_messages(10_000, 0)
    cloud.has_tasks(*tasks)
    with pytest.raises(RuntimeError, match=r"ended in an outage: .* \(exit code 3\)"):
        starter.handler({}, None)
    report = json.loads(capsys.readouterr().out)
    assert report["started"] == {}
    assert report["failing"].endswith(f"; the next one is started in {seconds} s")


def test_after_the_pause_one_worker_is_tried_and_no_second_beside_it(
    cloud: Cloud, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud.has_messages(10_000, 0)
    cloud.has_tasks(in_outage(800, 70), in_outage(800, 70))
    cloud.starts(1, ["FARGATE_SPOT"])
    with pytest.raises(RuntimeError, match="the next one is starting"):
        starter.handler({}, None)
    assert json.loads(capsys.readouterr().out)["started"] == {"FARGATE_SPOT": 1}

    cloud.has_messages(10_000, 0)
    cloud.has_tasks(in_outage(1300, 600), running(500))
    report = starter.handler({}, None)
    assert (report["started"], report["running"], report["wanted"], report["failing"]) == ({}, 1, 2, "")
    assert report["trial"].endswith("(exit code 3); one is tried alone, until it has run for 660 s")


@pytest.mark.parametrize(
    "good",
    [
        done(500, 20),  # it found nothing to do any more
        running(800),  # in an outage it would have ended by now
        stopped(running(900), "SpotInterruption", "Your Spot Task was interrupted.", 60, 0),
    ],
)
def test_a_later_good_worker_ends_the_pauses_of_an_outage(cloud: Cloud, good: dict[str, Any]) -> None:
    live = int(good["desiredStatus"] == "RUNNING")
    cloud.has_messages(10_000, 0)
    cloud.has_tasks(in_outage(2000, 1200), in_outage(1900, 1200), good)
    cloud.starts(2 - live, ["FARGATE_SPOT"] * (2 - live))
    report = starter.handler({}, None)
    assert (report["failing"], report["trial"]) == ("", "")


def test_a_worker_that_spot_takes_back_soon_has_not_shown_that_an_outage_is_over(cloud: Cloud) -> None:
    cloud.has_messages(10_000, 0)
    cloud.has_tasks(in_outage(2000, 1200), stopped(running(300), "SpotInterruption", "interrupted", 60, 0))
    cloud.starts(1, ["FARGATE_SPOT"])
    with pytest.raises(RuntimeError, match="ended in an outage"):
        starter.handler({}, None)


def test_an_outage_of_a_day_costs_a_quarter_of_the_task_hours_and_ends_within_half_an_hour() -> None:
    scenario = starter_simulation.outage_of_a_day()
    blind, ours = starter_simulation.rows_of(scenario, starter_simulation.OUTAGE_FORMULAS)
    assert blind.task_hours > 40
    assert ours.task_hours < 12
    assert (blind.unfinished, ours.unfinished) == (0, 0)
    assert ours.lag_max < len(scenario.outage) + 1800


# The rule against simpler ones, over simulated days.


def test_the_rule_starts_few_workers_and_lets_nothing_wait() -> None:
    rows: dict[str, dict[str, starter_simulation.Row]] = {}
    for row in starter_simulation.table():
        rows.setdefault(row.scenario, {})[row.formula] = row
    assert len(rows) >= 7
    for name, by_rule in rows.items():
        ours, first = by_rule["starter.py"], by_rule["1.0.0"]
        assert ours.unfinished == 0, name
        assert ours.started <= first.started, name
        assert ours.idle_minutes <= first.idle_minutes, name
        assert ours.lag_max <= by_rule["visible beside running"].lag_max, name
        assert ours.lag_max <= first.lag_max + 60, name
    assert rows["eleven copies of 40 minutes"]["starter.py"].started == 1
    assert rows["steady trickle: one in 7 s"]["starter.py"].started == 1


def test_every_wrong_setting_is_named_in_one_error() -> None:
    wrong = {
        "QUEUE_URL": "sync-q",
        "CLUSTER": "a cluster",
        "SUBNETS": "subnet-0a1, subnet-0b2",
        "SECURITY_GROUPS": "default",
        "ASSIGN_PUBLIC_IP": "true",
        "STARTED_BY": "a" * 129,
        "MAX_WORKERS": "0",
        "MESSAGES_PER_WORKER": "ten",
    }
    with pytest.raises(ValueError, match="wrong settings") as raised:
        load_settings(wrong)
    message = str(raised.value)
    assert [name for name in [*wrong, "TASK_DEFINITION is not set"] if name not in message] == []
    assert "\n" not in message


def test_a_subnet_list_longer_than_ecs_takes_is_refused() -> None:
    load_settings(SETTINGS | {"SUBNETS": ",".join(["subnet-0a1"] * 16)})
    with pytest.raises(ValueError, match="1 to 16 subnet ids"):
        load_settings(SETTINGS | {"SUBNETS": ",".join(["subnet-0a1"] * 17)})


def test_a_wrong_setting_fails_the_invocation_before_any_call(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_WORKERS", "many")
    with pytest.raises(ValueError, match="MAX_WORKERS='many' has to be a whole number from 1 to 1000"):
        starter.handler({}, None)
    assert cloud.requests == []


@pytest.mark.parametrize("public_ip", ["ENABLED", "DISABLED"])
def test_every_request_agrees_with_the_service_model_enumerations_included(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, public_ip: str
) -> None:
    monkeypatch.setenv("ASSIGN_PUBLIC_IP", public_ip)
    settings = load_settings(SETTINGS | {"ASSIGN_PUBLIC_IP": public_ip})
    cloud.has_messages(1, 0)
    cloud.has_tasks(stuck := starting(400))
    cloud.stops(stuck)
    for strategy in (calls.SPOT_FIRST, calls.ON_DEMAND):
        cloud.ecs.add_response("run_task", {"tasks": [], "failures": [SPOT_SHORTAGE]})
        assert sum(item["weight"] for item in strategy) > 0  # all zero is refused
    starter.look(settings, *calls.count_messages(settings["QUEUE_URL"]))
    calls.stop_tasks(settings, [stuck["taskArn"]])
    calls.start_workers(settings, 1)
    models = {name: botocore.session.get_session().get_service_model(name) for name in ("sqs", "ecs")}
    services = dict.fromkeys(["ListTasks", "DescribeTasks", "RunTask", "StopTask"], "ecs") | {
        "GetQueueAttributes": "sqs"
    }
    assert {name for name, _ in cloud.requests} == set(services)
    for name, request in cloud.requests:
        assert problems(models[services[name]].operation_model(name).input_shape, request) == []


def problems(shape: Shape, value: Any) -> list[str]:
    """What botocore's model has against a value: unknown or missing members, and values outside an enumeration."""
    if isinstance(shape, StructureShape):
        found = [f"{shape.name} has no {name}" for name in value if name not in shape.members]
        found += [f"{shape.name} needs {name}" for name in shape.required_members if name not in value]
        return found + [text for name in value for text in problems(shape.members.get(name, shape), value[name])]
    if isinstance(shape, ListShape):
        return [text for item in value for text in problems(shape.member, item)]
    allowed = shape.metadata.get("enum")
    return [] if not allowed or value in allowed else [f"{value!r} is no {shape.name}"]
