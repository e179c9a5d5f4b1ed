"""What the starter does if Spot has no room, if workers do not get to work, and in an outage; simulated days of it."""

import json
import re
from typing import Any

import pytest
import starter_simulation
from starter_cloud import (
    EXITED,
    ON_DEMAND,
    PULL,
    SPOT_FIRST,
    SPOT_SHORTAGE,
    Cloud,
    in_outage,
    interrupted,
    not_pulled,
    running,
    seconds_ago,
    starting,
    stopped,
)

import starter
from launch import calls
from launch.decision import decide
from launch.tasks import GAVE_UP, Task

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
        {name: value for name, value in starting(0).items() if name != "createdAt"},
    ],
)
def test_a_task_that_may_yet_start_counts_as_running(cloud: Cloud, task: dict[str, Any]) -> None:
    """One that pulls its image has its capacity; one on demand has nothing else to turn to; one that ECS has only just
    taken may have no createdAt yet."""
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
        ([interrupted(2000), interrupted(950), done_on_demand(930)], SPOT_FIRST),  # worth another attempt
        ([interrupted(2000), interrupted(600), done_on_demand(580)], ON_DEMAND),  # too soon
        ([interrupted(2000), done_on_demand(1900), interrupted(60)], ON_DEMAND),  # the attempt went wrong
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
    settings = starter_simulation.SETTINGS | {"MAX_WORKERS": 1}
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
        [not_pulled(200), running(106)],  # one has run for a minute
        [not_pulled(200), stopped(running(150), "EssentialContainerExited", EXITED, 10, 0)],  # one did
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
    settings = starter_simulation.SETTINGS | {"MAX_WORKERS": tasks_at_first}
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


# A worker that ended with exit status 3 could sync no key, whichever it tried, for ten minutes.


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

    calls.just_started.clear()  # 500 s later
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
