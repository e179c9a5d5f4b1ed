"""When the function copies by itself (STARTER_COPIES), for how long, and what it then starts workers for."""

import importlib
import json
import sys
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import pytest
from botocore.exceptions import ClientError
from starter_cloud import SETTINGS, SPOT_FIRST, Cloud, in_outage, not_pulled, run_task_request, running, starting
from test_starter_events import MINUTE, event

import starter
from launch.copying import FEW_MESSAGES, LEAST_SECONDS, RESERVE_SECONDS, left_over
from launch.settings import load_settings


class Context:
    """Lambda's, as far as it is asked."""

    def __init__(self, seconds: float = 60) -> None:
        self.milliseconds = int(seconds * 1000)

    def get_remaining_time_in_millis(self) -> int:
        return self.milliseconds


class Responder(ModuleType):
    """In the place of mirror/function.py. Notes what had been asked of AWS before it."""

    def __init__(self, cloud: Cloud) -> None:
        super().__init__("mirror.function")
        self.cloud = cloud
        self.comes_to: dict[str, int] | Exception = {"emptied": 1}
        self.seconds: list[float] = []
        self.before: list[str] = []
        self.ends = 0

    def respond(self, environment: Mapping[str, str], seconds: float) -> dict[str, int]:
        assert environment["QUEUE_URL"] == SETTINGS["QUEUE_URL"]
        self.seconds.append(seconds)
        self.before = [name for name, _ in self.cloud.requests]
        if isinstance(self.comes_to, Exception):
            raise self.comes_to
        return self.comes_to

    def end_process_if_unanswered(self) -> None:
        self.ends += 1


@pytest.fixture
def responder(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Responder:
    stub = Responder(cloud)
    monkeypatch.setattr(starter, "copier", stub)
    monkeypatch.setenv("STARTER_COPIES", "true")
    return stub


@pytest.fixture
def anew() -> Iterator[None]:
    yield
    importlib.reload(starter)


@pytest.mark.usefixtures("anew")
@pytest.mark.parametrize(("value", "has_it"), [("true", True), ("false", False), ("", False)])
def test_its_part_of_the_worker_is_imported_with_the_starter_and_only_if_it_copies(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, value: str, has_it: bool
) -> None:
    stub = Responder(cloud)
    monkeypatch.setitem(sys.modules, "mirror.function", stub)
    with monkeypatch.context() as context:
        context.setenv("STARTER_COPIES", value)
        importlib.reload(starter)
        assert starter.copier is (stub if has_it else None)


@pytest.mark.parametrize(("name", "value"), [("STARTER_COPIES", "yes"), ("STARTER_MAX_SIZE", "0")])
def test_a_wrong_setting_is_refused(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"{name}='{value}' has to be"):
        load_settings(SETTINGS | {name: value})


@pytest.mark.parametrize("counted", [0, 1, FEW_MESSAGES])
def test_from_idle_it_copies_and_starts_nobody(
    cloud: Cloud, responder: Responder, capsys: pytest.CaptureFixture[str], counted: int
) -> None:
    responder.comes_to = {"copied": 3, "deleted": 0, "handed_back": 0, "bytes": 30, "status": 0, "emptied": 1}
    cloud.has_messages(counted, 0)
    cloud.has_tasks()
    report = starter.handler(event(), Context())
    assert (report["started"], report["wanted"], report["copied"]["copied"]) == ({}, 0, 3)
    assert json.loads(capsys.readouterr().out) == report
    assert (len(responder.seconds), responder.ends) == (1, 1)


def test_the_minutes_run_does_so_if_messages_wait(cloud: Cloud, responder: Responder) -> None:
    responder.comes_to = {"copied": 1, "emptied": 1}
    cloud.has_messages(1, 0)
    cloud.has_tasks()
    assert starter.handler(MINUTE, Context())["copied"] == responder.comes_to


def test_a_failure_after_it_leaves_no_call_behind(cloud: Cloud, responder: Responder) -> None:
    responder.comes_to = {"handed_back": 1}
    cloud.has_messages(1, 0)
    cloud.has_tasks()
    cloud.ecs.add_client_error("list_tasks", "ServerException", "no", 500)
    with pytest.raises(ClientError, match="ServerException"):
        starter.handler(MINUTE, Context())
    assert (len(responder.seconds), responder.ends) == (1, 1)


@pytest.mark.parametrize("in_flight", [0, 5])
def test_an_idle_minute_costs_what_it_did(cloud: Cloud, responder: Responder, in_flight: int) -> None:
    cloud.has_messages(0, in_flight)
    cloud.has_running(0)
    assert "copied" not in starter.handler(MINUTE, Context())
    assert responder.seconds == []


def test_a_late_event_about_nothing_costs_no_receive(cloud: Cloud, responder: Responder) -> None:
    cloud.has_messages(0, 0)
    cloud.has_running(0)
    starter.handler(event(40), Context())
    assert responder.seconds == []


def test_a_worker_is_started_for_what_was_handed_back_which_is_in_no_count(cloud: Cloud, responder: Responder) -> None:
    responder.comes_to = {"copied": 4, "handed_back": 1}
    cloud.has_messages(5, 0)
    for _ in range(2):  # before and after
        cloud.has_tasks()
    cloud.starts(1, ["FARGATE_SPOT"])
    report = starter.handler(event(), Context())
    assert (report["visible"], report["wanted"], report["started"]) == (5, 1, {"FARGATE_SPOT": 1})
    assert "RunTask" not in responder.before


def test_no_worker_is_started_beside_those_that_have_come_meanwhile(cloud: Cloud, responder: Responder) -> None:
    """By another run, if the account is too small to reserve concurrency."""
    responder.comes_to = {"handed_back": 1}
    cloud.has_messages(1, 0)
    cloud.has_tasks()
    cloud.has_tasks(starting())
    assert starter.handler(event(), Context())["started"] == {}


@pytest.mark.parametrize(
    ("waiting", "copied", "left"),
    [
        (400, {"copied": 400, "emptied": 1}, 0),
        (400, {"copied": 500, "emptied": 0}, 1),  # more have come
        (380, {"emptied": 0}, 380),  # a receive did not end
        (400, {"copied": 300, "deleted": 5, "skipped": 5, "handed_back": 3}, 90),  # its time was over
        (1, {"handed_back": 7}, 7),  # the count was late
        (9, {"failed": 9, "emptied": 1}, 0),  # they are tried again later
        (9, {"emptied": 1}, 0),  # somebody else had them
        (9, {"status": 1}, 9),
        (9, {"error": "a mistake"}, 9),
        (9, None, 9),
    ],
)
def test_what_is_left_for_a_worker(waiting: int, copied: dict[str, Any] | None, left: int) -> None:
    assert left_over(waiting, copied) == left


def test_if_much_waits_workers_are_started_first(cloud: Cloud, responder: Responder) -> None:
    responder.comes_to = {"copied": 300, "handed_back": 2}
    cloud.has_messages(FEW_MESSAGES + 1, 0)
    cloud.has_tasks()
    cloud.starts(2, ["FARGATE_SPOT"] * 2)
    report = starter.handler(event(), Context())
    assert (report["started"], report["copied"]) == ({"FARGATE_SPOT": 2}, responder.comes_to)
    assert "RunTask" in responder.before


def test_what_is_to_stay_is_started_first(cloud: Cloud, responder: Responder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIN_WORKERS", "1")
    cloud.has_messages(1, 0)
    cloud.has_tasks()
    cloud.has_revision("arn:9")
    cloud.starts(1, ["FARGATE_SPOT"], stay=True)
    report = starter.handler(event(), Context())
    assert "RunTask" in responder.before
    assert report["copied"] == {"emptied": 1}


def test_beside_a_worker_it_does_not_copy(cloud: Cloud, responder: Responder) -> None:
    cloud.has_messages(600, 600)
    cloud.has_tasks(running())
    cloud.starts(1, ["FARGATE_SPOT"])
    assert "copied" not in starter.handler(MINUTE, Context())
    assert responder.seconds == []


@pytest.mark.parametrize("task", [starting(), running()])
def test_nor_for_an_event_then(cloud: Cloud, responder: Responder, task: dict[str, Any]) -> None:
    cloud.has_tasks_listed([task["taskArn"]])
    starter.handler(event(), Context())
    assert responder.seconds == []


@pytest.mark.parametrize(
    ("tasks", "tried"),
    [([not_pulled(200), not_pulled(50)], 0), ([in_outage(700, 10)], 0), ([not_pulled(1000)], 1)],
)
def test_nor_while_workers_fail(cloud: Cloud, responder: Responder, tasks: list[dict[str, Any]], tried: int) -> None:
    cloud.has_messages(1, 0)
    cloud.has_tasks(*tasks)
    if tried:
        cloud.starts(1, ["FARGATE_SPOT"])
    with pytest.raises(RuntimeError):
        starter.handler(event(), Context())
    assert responder.seconds == []


@pytest.mark.parametrize(
    ("left", "given"), [(60, 60 - RESERVE_SECONDS), (70, 50), (40, 40 - RESERVE_SECONDS), (RESERVE_SECONDS + 4, None)]
)
def test_so_much_time_is_kept_for_the_rest_of_the_run(
    cloud: Cloud, responder: Responder, left: float, given: float | None
) -> None:
    cloud.has_messages(1, 0)
    cloud.has_tasks()
    if given is None:  # a worker instead
        cloud.has_tasks()
        cloud.starts(1, ["FARGATE_SPOT"])
    report = starter.handler(event(), Context(left))
    assert responder.seconds == ([] if given is None else [given])
    assert ("copied" in report) == (given is not None)
    assert LEAST_SECONDS < 40 - RESERVE_SECONDS


@pytest.mark.parametrize("how", [KeyError("a mistake"), {"status": 1}])
def test_if_it_cannot_copy_a_worker_is_started_and_the_run_fails(
    cloud: Cloud, responder: Responder, capsys: pytest.CaptureFixture[str], how: Any
) -> None:
    responder.comes_to = how
    cloud.has_messages(0, 0)
    for _ in range(2):
        cloud.has_tasks()
    cloud.starts(1, ["FARGATE_SPOT"])
    with pytest.raises(RuntimeError, match="the function could not copy"):
        starter.handler(event(), Context())
    assert json.loads(capsys.readouterr().out)["started"] == {"FARGATE_SPOT": 1}
    assert responder.ends == 1


def test_a_worker_that_cannot_be_started_does_not_keep_it_from_copying(cloud: Cloud, responder: Responder) -> None:
    cloud.has_messages(FEW_MESSAGES + 1, 0)
    cloud.has_tasks()
    request = run_task_request(2, SPOT_FIRST)
    cloud.ecs.add_client_error("run_task", "AccessDeniedException", "no", 400, expected_params=request)
    with pytest.raises(RuntimeError, match="AccessDenied"):
        starter.handler(event(), Context())
    assert len(responder.seconds) == 1
