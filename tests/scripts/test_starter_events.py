"""Runs of the starter that an event of the bucket begins, and runs soon after another."""

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError
from starter_cloud import NOW, SPOT_SHORTAGE, Cloud, not_pulled, running, seconds_ago, starting

import starter
from launch import calls, guard


def event(age: float = 1) -> dict[str, Any]:
    """As EventBridge sends it (S3 User Guide, "EventBridge event message structure")."""
    return {
        "version": "0",
        "id": "17793124-05d4-b198-2fde-7ededc63b103",
        "detail-type": "Object Created",
        "source": "aws.s3",
        "time": seconds_ago(age).isoformat().replace("+00:00", "Z"),
        "detail": {"bucket": {"name": "source"}, "object": {"key": "a"}, "reason": "PutObject"},
    }


MINUTE = {"source": "aws.events", "detail-type": "Scheduled Event", "time": "2026-11-25T12:00:00Z", "detail": {}}


def test_an_event_is_a_message_also_if_it_is_in_no_count_yet(cloud: Cloud) -> None:
    cloud.has_messages(0, 0)
    cloud.has_tasks()
    cloud.starts(1, ["FARGATE_SPOT"])
    report = starter.handler(event(), None)
    assert (report["event"], report["visible"], report["wanted"], report["started"]) == (
        True,
        0,
        1,
        {"FARGATE_SPOT": 1},
    )


def test_more_messages_than_one_are_counted(cloud: Cloud) -> None:
    cloud.has_messages(11, 0)
    cloud.has_tasks()
    cloud.starts(2, ["FARGATE_SPOT"] * 2)
    assert starter.handler(event(), None)["wanted"] == 2


def test_the_minutes_event_is_no_message(cloud: Cloud) -> None:
    cloud.has_messages(0, 0)
    cloud.has_running(0)
    report = starter.handler(MINUTE, None)
    assert report["started"] == {}
    assert "event" not in report


@pytest.mark.parametrize("task", [running(), starting()])
def test_if_a_worker_runs_or_starts_an_event_costs_one_call(
    cloud: Cloud, capsys: pytest.CaptureFixture[str], task: dict[str, Any]
) -> None:
    answer = {"taskArns": [task["taskArn"]]}
    cloud.ecs.add_response(
        "list_tasks", answer, {"cluster": "sync-cluster", "startedBy": "s3-to-s3express-sync-starter"}
    )
    report = starter.handler(event(), None)
    assert report == {"event": True, "running": 1} == json.loads(capsys.readouterr().out)
    assert [name for name, _ in cloud.requests] == ["ListTasks"]


def test_in_a_burst_runs_ask_ecs_once_in_two_seconds(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    for tenth in range(50):
        later(monkeypatch, tenth / 10)
        if tenth in (0, 20, 40):
            cloud.has_tasks_listed(["arn:one", "arn:two"])
        assert starter.handler(event(), None) == {"event": True, "running": 2}
    assert len(cloud.requests) == 3


def test_from_idle_each_run_asks(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    for seconds in (0, 0.1):
        later(monkeypatch, seconds)
        cloud.has_messages(0, 0)
        cloud.has_running(0)
        starter.handler(event(30), None)


def test_the_minutes_run_always_asks(cloud: Cloud) -> None:
    cloud.has_tasks_listed(["arn:one"])
    starter.handler(event(), None)
    cloud.has_messages(0, 0)
    cloud.has_running(1)
    assert starter.handler(MINUTE, None)["running"] == 1


def test_in_a_long_burst_which_crowds_out_the_minutes_runs_one_in_75_s_looks_at_everything(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = running()
    for at, looks in ((14, False), (15, True), (17, False), (89, False), (90, True)):
        later(monkeypatch, at)
        if looks:
            cloud.has_messages(5, 0)
            cloud.has_tasks(task)
        else:
            cloud.has_tasks_listed([task["taskArn"]])
        report = starter.handler(event(-at), None)
        assert ("visible" in report) == looks


def test_an_event_does_the_guards_work_if_no_run_of_the_minute_came_for_75_s(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without GUARD, that the guard is off is what it says, in its first run of a process."""
    monkeypatch.setattr(guard, "memory", guard.Memory())
    said = []
    for at, run in ((0, event(30)), (70, event(30)), (80, event(30)), (90, MINUTE)):
        later(monkeypatch, at)
        cloud.has_messages(0, 0)
        cloud.has_running(0)
        starter.handler(run, None)
        said.append("the guard is off" in capsys.readouterr().out)
    assert said == [False, False, True, False]


@pytest.mark.parametrize(("age", "started"), [(19, {"FARGATE_SPOT": 1}), (21, {}), (59, {})])
def test_a_late_event_may_be_about_a_message_that_is_done_with(
    cloud: Cloud, age: float, started: dict[str, int]
) -> None:
    """A worker that has dealt with it stays for an empty poll of 20 s at least."""
    cloud.has_messages(0, 0)
    if started:
        cloud.has_tasks()
        cloud.starts(1, ["FARGATE_SPOT"])
    else:
        cloud.has_running(0)
    assert starter.handler(event(age), None)["started"] == started


def test_a_late_event_finds_what_is_counted(cloud: Cloud) -> None:
    cloud.has_messages(1, 0)
    cloud.has_tasks()
    cloud.starts(1, ["FARGATE_SPOT"])
    assert starter.handler(event(59), None)["started"] == {"FARGATE_SPOT": 1}


@pytest.mark.parametrize("broken", [[not_pulled(200), not_pulled(50)], [not_pulled(3000), not_pulled(1000)]])
def test_pauses_hold_in_a_run_of_an_event_and_it_fails_once(cloud: Cloud, broken: list[dict[str, Any]]) -> None:
    cloud.has_messages(0, 0)
    cloud.has_tasks(*broken)
    if broken[0]["createdAt"] < seconds_ago(2000):
        cloud.starts(1, ["FARGATE_SPOT"])
    with pytest.raises(RuntimeError, match="do not get to work"):
        starter.handler(event(), None)


def test_a_shortage_is_no_error_in_a_run_of_an_event_either(cloud: Cloud) -> None:
    cloud.has_messages(0, 0)
    cloud.has_tasks()
    cloud.starts(1, [], SPOT_SHORTAGE)
    cloud.starts(1, [], SPOT_SHORTAGE, strategy=calls.ON_DEMAND)
    assert starter.handler(event(), None)["started"] == {}


def test_a_cluster_that_cannot_be_read_fails_the_run(cloud: Cloud) -> None:
    cloud.ecs.add_client_error("list_tasks", "AccessDeniedException", "no", 400)
    with pytest.raises(ClientError, match="AccessDenied"):
        starter.handler(event(), None)


# ECS may list a task seconds after it has answered with it, and events come in bursts.


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setattr(starter, "time", lambda: NOW.timestamp() + seconds)


def start_one(cloud: Cloud) -> None:
    cloud.has_messages(0, 0)
    cloud.has_tasks()
    cloud.starts(1, ["FARGATE_SPOT"])
    assert starter.handler(event(), None)["started"] == {"FARGATE_SPOT": 1}


def test_a_burst_starts_one_worker_though_ecs_does_not_list_it_yet(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_one(cloud)
    for seconds in (0.2, 2.3, 29):
        later(monkeypatch, seconds)
        cloud.has_running(0)
        assert starter.handler(event(), None) == {"event": True, "running": 1}


def test_the_minutes_run_counts_it_also_if_ecs_cannot_describe_it_yet(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAX_WORKERS", "3")
    start_one(cloud)
    (arn,) = calls.just_started
    later(monkeypatch, 2)
    cloud.has_messages(25, 0)
    cloud.has_tasks_listed([], [])
    cloud.ecs.add_response("describe_tasks", {"tasks": []}, {"cluster": "sync-cluster", "tasks": [arn]})
    cloud.starts(2, ["FARGATE_SPOT"] * 2)
    report = starter.handler(MINUTE, None)
    assert (report["running"], report["wanted"]) == (1, 3)


def test_what_ecs_never_lists_is_forgotten_after_half_a_minute(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    start_one(cloud)
    later(monkeypatch, 30)
    cloud.has_messages(1, 0)
    cloud.has_tasks()
    cloud.starts(1, ["FARGATE_SPOT"])
    assert starter.handler(MINUTE, None)["running"] == 0


def test_what_has_stopped_since_does_not_count_as_just_started(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    start_one(cloud)
    (arn,) = calls.just_started
    later(monkeypatch, 10)
    gone = not_pulled(0) | {"taskArn": arn}
    cloud.has_messages(1, 0)
    cloud.has_tasks_listed([], [arn])
    cloud.ecs.add_response("describe_tasks", {"tasks": [gone]}, {"cluster": "sync-cluster", "tasks": [arn]})
    with pytest.raises(RuntimeError, match="do not get to work"):
        starter.handler(MINUTE, None)
