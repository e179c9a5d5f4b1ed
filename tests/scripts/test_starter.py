"""How many workers the starter starts, on what, and what it reports: every call is checked against botocore's model."""

import json
from contextlib import nullcontext
from typing import Any

import pytest
from botocore.exceptions import ClientError
from starter_cloud import (
    EXITED,
    LIST_STOPPED,
    NOW,
    ON_DEMAND,
    SETTINGS,
    SPOT_SHORTAGE,
    Cloud,
    interrupted,
    not_pulled,
    running,
    starting,
    stopped,
)

import starter
from launch import calls
from launch.settings import NUMBER_SETTINGS, load_settings
from launch.tasks import GAVE_UP


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


@pytest.mark.parametrize(("workers", "more"), [(0, []), (2, ["DescribeTasks"])])
def test_if_nothing_waits_and_nobody_runs_two_calls_are_all(cloud: Cloud, workers: int, more: list[str]) -> None:
    cloud.has_messages(0, 0)
    cloud.has_running(workers)
    report = starter.handler({}, None)
    assert (report["running"], report["wanted"], report["started"]) == (workers, 0, {})
    assert [name for name, _ in cloud.requests] == ["ListTasks", "GetQueueAttributes", *more]


def test_a_full_worker_does_not_hold_up_what_it_has_no_room_for(cloud: Cloud) -> None:
    cloud.has_messages(1, 600)
    cloud.has_tasks(running())
    cloud.starts(1, ["FARGATE_SPOT"])
    assert starter.handler({}, None)["started"] == {"FARGATE_SPOT": 1}


@pytest.mark.parametrize(
    ("keys", "processes", "in_flight", "more"),
    [
        ("16", "", 19, 0),
        ("16", "", 20, 1),
        ("16", "2", 39, 0),
        ("16", "2", 40, 1),
        ("", "2", 600, 0),
        ("", "2", 1000, 1),
    ],
)
def test_which_worker_is_full_depends_on_what_it_holds_at_once(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, keys: str, processes: str, in_flight: int, more: int
) -> None:
    monkeypatch.setenv("MAX_CONCURRENT_KEYS", keys)
    monkeypatch.setenv("PROCESSES", processes)
    cloud.has_messages(1, in_flight)
    cloud.has_tasks(running())
    if more:
        cloud.starts(1, ["FARGATE_SPOT"])
    assert sum(starter.handler({}, None)["started"].values()) == more


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
    cloud.refuses(2, "AccessDeniedException", strategy=ON_DEMAND)
    with pytest.raises(RuntimeError) as raised:
        starter.handler({}, None)
    assert str(raised.value).count("AccessDeniedException") == 1  # of both strategies
    report = json.loads(capsys.readouterr().out)
    assert report["started"] == {"FARGATE_SPOT": 8, "FARGATE": 2}
    assert "AccessDeniedException" in report["failures"][0]


QUOTA = "You've reached the limit on the number of vCPUs you can run concurrently"


@pytest.mark.parametrize("is_error", [False, True])
@pytest.mark.parametrize("enough", [False, True])
def test_a_quota_that_others_have_used_up_is_an_error_only_if_workers_are_missing(
    enough: bool, is_error: bool, cloud: Cloud, capsys: pytest.CaptureFixture[str]
) -> None:
    """ECS says it as a failure in its answer or as an error; in both cases the other kind of capacity is asked, too."""
    cloud.has_messages(1, 0)
    cloud.has_tasks()
    if is_error:
        cloud.refuses(1, "ClientException", QUOTA)
    else:
        cloud.starts(1, [], {"reason": QUOTA})
    cloud.starts(1, ["FARGATE"] if enough else [], *([] if enough else [{"reason": QUOTA}]), strategy=ON_DEMAND)
    with nullcontext() if enough else pytest.raises(RuntimeError, match="limit on the number of vCPUs"):
        starter.handler({}, None)
    report = json.loads(capsys.readouterr().out)
    assert report["started"] == ({"FARGATE": 1} if enough else {})
    assert all(QUOTA in failure for failure in report["failures"]) and report["failures"]


def test_a_queue_that_cannot_be_read_fails_the_invocation(cloud: Cloud) -> None:
    cloud.has_running(0)
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
    with pytest.raises(ValueError, match="1 to 16 subnet IDs"):
        load_settings(SETTINGS | {"SUBNETS": ",".join(["subnet-0a1"] * 17)})


@pytest.mark.parametrize("name", NUMBER_SETTINGS)
def test_a_number_may_be_the_lowest_and_the_highest_and_no_other_beyond(name: str) -> None:
    _, lowest, highest = NUMBER_SETTINGS[name]
    given = SETTINGS | ({"MAX_WORKERS": "1000"} if name == "MIN_WORKERS" else {})
    for number in (lowest, highest):
        assert load_settings(given | {name: str(number)})[name] == number
    for wrong in (lowest - 1, highest + 1):
        with pytest.raises(ValueError, match=f"{name}='{wrong}' has to be a whole number from {lowest} to {highest}"):
            load_settings(given | {name: str(wrong)})


@pytest.mark.parametrize(("text", "groups"), [("", []), ("sg-1", ["sg-1"]), ("sg-1,sg-2", ["sg-1", "sg-2"])])
def test_a_worker_has_the_security_groups_that_are_set(cloud: Cloud, text: str, groups: list[str]) -> None:
    cloud.ecs.add_response("run_task", {"tasks": [], "failures": []})
    calls.run_tasks(load_settings(SETTINGS | {"SECURITY_GROUPS": text}), 1, calls.ON_DEMAND, {}, NOW.timestamp())
    ((_, request),) = cloud.requests
    assert request["networkConfiguration"]["awsvpcConfiguration"]["securityGroups"] == groups


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
    arns = calls.list_running(settings, NOW.timestamp())
    starter.look(settings, *calls.count_messages(settings["QUEUE_URL"]), arns, NOW.timestamp())
    calls.stop_tasks(settings, {stuck["taskArn"]: GAVE_UP})
    calls.start_workers(settings, 1, False, 0, NOW.timestamp())
    asked = {"ListTasks", "DescribeTasks", "RunTask", "StopTask", "GetQueueAttributes"}
    assert {name for name, _ in cloud.requests} == asked
    assert cloud.against_the_model() == []


def test_the_check_against_the_model_finds_what_it_is_for(cloud: Cloud) -> None:
    network = {"awsvpcConfiguration": {"subnets": [], "assignPublicIp": "yes"}}
    cloud.requests.append(("RunTask", {"taskDefinition": "t", "spot": True, "networkConfiguration": network}))
    cloud.requests.append(("StopTask", {"cluster": "c"}))
    assert len(cloud.against_the_model()) == 3
    cloud.requests.clear()
