"""Audits that the starter starts (AUDIT_DAYS): when, at most how often, and what is a problem."""

import itertools
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from starter_cloud import (
    EXITED,
    LIST_STOPPED,
    ON_DEMAND,
    SETTINGS,
    SPOT_SHORTAGE,
    Cloud,
    run_task_request,
    running,
    starting,
    stopped,
)

import starter
from launch import calls
from launch.audit import MOST_TRIES, newest_slot, plan_audit, report_audit
from launch.settings import load_settings
from launch.tasks import Task, read_task

AUDIT = {"startedBy": "s3-to-s3express-sync-audit", "capacityProviderName": "FARGATE"}
COMMAND = {"containerOverrides": [{"name": "worker", "command": ["reconcile", "--audit"]}]}
START = {**run_task_request(1, ON_DEMAND), "startedBy": AUDIT["startedBy"], "overrides": COMMAND}
LIST_AUDITS = {"cluster": "sync-cluster", "startedBy": AUDIT["startedBy"]}
SLOT = datetime(2026, 11, 25, 2, tzinfo=UTC).timestamp()


# The slots


@pytest.mark.parametrize("days", [1, 7, 30, 90])
def test_a_slot_is_at_two_every_so_many_days(days: int) -> None:
    times = [SLOT + hour * 3600 for hour in range(2 * days * 24)]
    slots = sorted({newest_slot(now, days) for now in times})
    assert all(slot % 86_400 == 7200 and slot // 86_400 % days == 0 for slot in slots)
    assert {later - earlier for earlier, later in itertools.pairwise(slots)} == {days * 86_400}
    assert all(0 <= now - newest_slot(now, days) < days * 86_400 for now in times)


@pytest.mark.parametrize(("seconds", "slot"), [(-1, SLOT - 86_400), (0, SLOT), (86_399, SLOT), (86_400, SLOT + 86_400)])
def test_a_slot_begins_at_its_second(seconds: float, slot: float) -> None:
    assert newest_slot(SLOT + seconds, 1) == slot


# The plan: tasks as (seconds after the slot at which they were made, exit status or None, gone), then what follows.

DIED = (30, None, True)
PLANS: list[tuple[str, float, Sequence[tuple[float, int | None, bool]], str]] = [
    ("the slot has begun", 0, [], "start"),
    ("it is not time yet", -1, [], ""),
    ("the last minute of the window", 2699, [], "start"),
    ("the window is over", 2700, [], ""),
    ("one is starting", 60, [(30, None, False)], "running"),
    ("one runs for hours", 9000, [(30, None, False)], "running"),
    ("that of the slot before still runs", 60, [(-80_000, None, False)], "has not started for 22 hours"),
    ("one has ended well", 600, [(30, 0, True)], ""),
    ("one has ended in the hour before the slot", 60, [(-1800, 0, True)], "start"),
    ("one has found what it cannot mend", 600, [(30, 1, True)], "exit status 1"),
    ("one was stopped by an error", 600, [(30, 3, True)], "exit status 3"),
    ("one died in the window", 600, [DIED], "start"),
    ("one was killed in the window", 600, [(30, 137, True)], "start"),
    ("one had a wrong setting", 600, [(30, 2, True)], "start"),
    ("two died", 600, [DIED, (90, None, True)], "start"),
    ("one died, and the next one runs", 600, [DIED, (90, None, False)], "running"),
    ("one died, and the next one has ended well", 600, [DIED, (90, 0, True)], ""),
    ("three died", 600, [DIED, (90, None, True), (150, None, True)], "was ended"),
    ("one died after the window", 9000, [DIED], "was ended"),
    ("one of the slot before died in this window", 60, [(-80_000, None, True)], "start"),
]


def made(seconds: float, code: int | None, is_gone: bool) -> Task:
    end = {"gone": is_gone, "wanted": not is_gone, "stop_code": "EssentialContainerExited" if is_gone else ""}
    return Task(arn=f"arn:{seconds}", created=SLOT + seconds, exit_code=code, **end)


@pytest.mark.parametrize(("seconds", "tasks", "wanted"), [row[1:] for row in PLANS], ids=[row[0] for row in PLANS])
def test_the_plan(seconds: float, tasks: Sequence[tuple[float, int | None, bool]], wanted: str) -> None:
    plan = plan_audit([made(*task) for task in tasks], 1, SLOT + seconds)
    assert (plan.start, plan.running) == (wanted == "start", any(not is_gone for _, _, is_gone in tasks))
    assert bool(plan.problem) == (wanted not in ("", "start", "running"))
    assert plan.problem == "" or wanted in plan.problem


@pytest.mark.parametrize(("days", "hours", "is_told"), [(1, 23, False), (1, 24, True), (7, 23, False), (7, 25, True)])
def test_one_that_hangs_is_told_in_the_next_slot_or_after_a_day(days: int, hours: int, is_told: bool) -> None:
    slot = newest_slot(SLOT, days)
    task = Task(arn="arn:it", created=slot + 60, started=slot + 90)
    plan = plan_audit([task], days, slot + 3600 * hours)
    told = f"has not ended for {hours} hours, and no other one is started: if its log does not go on, stop it"
    assert (told in plan.problem, bool(plan.problem)) == (is_told, is_told)


def test_one_whose_end_ecs_has_not_told_yet_is_not_dead() -> None:
    """It is meant to stop, and its container may run for two minutes more; the exit status comes with its end."""
    found = running() | AUDIT | {"desiredStatus": "STOPPED", "lastStatus": "STOPPING", "createdAt": stamp(30)}
    assert plan_audit([read_task(found, SLOT + 600)], 1, SLOT + 600).running


def test_whatever_dies_it_is_tried_three_times_and_never_twice_at_once() -> None:
    """Every minute of a day, with each way for an audit to end."""
    for code, tries in ((None, MOST_TRIES), (137, MOST_TRIES), (0, 1), (1, 1), (3, 1)):
        tasks: list[Task] = []
        for minute in range(24 * 60):
            now = SLOT + 60 * minute
            listed = [task for task in tasks if now - task.created < 3600]
            if plan_audit(listed, 1, now).start:
                assert all(task.gone for task in listed)
                tasks.append(made(60 * minute, None, is_gone=False))
            elif tasks and now - tasks[-1].created > 120:
                tasks[-1] = tasks[-1]._replace(gone=True, wanted=False, exit_code=code)
        assert len(tasks) == tries, code


def stamp(seconds: float) -> datetime:
    return datetime.fromtimestamp(SLOT + seconds, UTC)


@pytest.mark.parametrize(
    ("seconds", "is_problem"), [(60, False), (1499, False), (1500, True), (2699, True), (2700, False)]
)
def test_what_could_not_be_started_is_a_problem_once_no_run_may_follow(seconds: float, is_problem: bool) -> None:
    plan = plan_audit([], 1, SLOT + seconds)
    report = report_audit(plan, [], ["no room"], 1, SLOT + seconds)
    assert report["failures"] == ["no room"]
    assert ("problem" in report) == is_problem


def test_each_allowed_rate_has_a_run_that_tells_and_one_before() -> None:
    for rate in range(1, 16):
        for first in range(rate * 60):
            times = [second for second in range(first, 86_400, rate * 60) if plan_audit([], 1, SLOT + second).start]
            assert len(times) >= 3 or (rate > 14 and len(times) >= 2)
            assert "problem" in report_audit(plan_audit([], 1, SLOT), [], ["no"], 1, SLOT + times[-1])


# The starter


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the clock to this many seconds after the slot, with AUDIT_DAYS=1."""
    monkeypatch.setenv("AUDIT_DAYS", "1")

    def set_clock(seconds: float) -> None:
        now = SLOT + seconds
        monkeypatch.setattr(starter, "time", lambda: now)
        monkeypatch.setattr(starter, "memory", starter.Memory(looked_at=now - 60))

    return set_clock


def audited(made_at: float, code: int | None = None, ended: bool = True) -> dict[str, Any]:
    task = starting() | AUDIT | {"createdAt": stamp(made_at)}
    return stopped(task, "EssentialContainerExited", EXITED, exit_code=code) if ended else task


def has_audits(cloud: Cloud, *tasks: dict[str, Any], others: Sequence[dict[str, Any]] = ()) -> None:
    """What a run asks about audits; `others`: workers that have stopped, which come with them."""
    runs = [task["taskArn"] for task in tasks if task["desiredStatus"] == "RUNNING"]
    ends = [task["taskArn"] for task in [*others, *tasks] if task["desiredStatus"] == "STOPPED"]
    cloud.ecs.add_response("list_tasks", {"taskArns": runs}, LIST_AUDITS)
    cloud.ecs.add_response("list_tasks", {"taskArns": ends}, LIST_STOPPED)
    if runs + ends:
        request = {"cluster": "sync-cluster", "tasks": runs + ends}
        cloud.ecs.add_response("describe_tasks", {"tasks": [*others, *tasks]}, request)


def starts_audit(cloud: Cloud, *failures: dict[str, str]) -> None:
    tasks = [] if failures else [audited(0, ended=False)]
    cloud.ecs.add_response("run_task", {"tasks": tasks, "failures": list(failures)}, START)


def run(capsys: pytest.CaptureFixture[str], event: object = None) -> Any:
    """What the line of a run says of audits; None if nothing."""
    report = starter.handler(event or {}, None)
    assert json.loads(capsys.readouterr().out.splitlines()[0]) == report
    return report.get("audit")


def idle(cloud: Cloud) -> None:
    cloud.has_tasks_listed([])
    cloud.has_messages(0, 0)


def test_an_audit_is_started_on_demand_with_its_command_and_is_no_worker(
    cloud: Cloud, at: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    at(60)
    idle(cloud)
    has_audits(cloud)
    starts_audit(cloud)
    assert run(capsys) == {"started": ["FARGATE"]}

    at(75)  # ECS does not list it yet: it counts as an audit, and not as a worker
    idle(cloud)
    cloud.ecs.add_response("list_tasks", {"taskArns": []}, LIST_AUDITS)
    cloud.ecs.add_response("list_tasks", {"taskArns": []}, LIST_STOPPED)
    (arn,) = calls.just_started
    cloud.ecs.add_response("describe_tasks", {"tasks": []}, {"cluster": "sync-cluster", "tasks": [arn]})
    assert run(capsys) == {"running": True}


def test_outside_the_slot_nothing_is_said(cloud: Cloud, at: Any, capsys: pytest.CaptureFixture[str]) -> None:
    at(4 * 3600)
    idle(cloud)
    has_audits(cloud)
    assert run(capsys) is None


def test_one_that_died_hours_after_the_window_is_told(
    cloud: Cloud, at: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    at(4 * 3600)
    idle(cloud)
    has_audits(cloud, audited(60, 137), others=[stopped(running(), "EssentialContainerExited", EXITED, exit_code=1)])
    assert "exit status 137" in run(capsys)["problem"]


def test_workers_that_failed_are_no_audits(cloud: Cloud, at: Any, capsys: pytest.CaptureFixture[str]) -> None:
    at(4 * 3600)
    idle(cloud)
    has_audits(cloud, others=[stopped(running(), "EssentialContainerExited", EXITED, exit_code=1)])
    assert run(capsys) is None


def test_without_capacity_it_is_tried_again_each_minute_and_a_problem_at_the_end(
    cloud: Cloud, at: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    for seconds, is_problem in ((60, False), (120, False), (1560, True)):
        at(seconds)
        idle(cloud)
        has_audits(cloud)
        starts_audit(cloud, SPOT_SHORTAGE)
        found = run(capsys)
        assert found["failures"] == [SPOT_SHORTAGE["reason"]]
        assert ("problem" in found) == is_problem


@pytest.mark.parametrize("operation", ["list_tasks", "run_task"])
def test_an_error_of_ecs_is_told_and_the_workers_are_started(cloud: Cloud, at: Any, operation: str) -> None:
    at(1560)
    cloud.has_messages(1, 0)
    cloud.has_tasks()
    cloud.starts(1, ["FARGATE_SPOT"])
    if operation == "run_task":
        has_audits(cloud)
    cloud.ecs.add_client_error(operation, "ClusterNotFoundException", "gone", 400)
    report = starter.handler({}, None)
    assert report["started"] == {"FARGATE_SPOT": 1}
    assert report["failures"] == []
    assert "ClusterNotFoundException" in report["audit"]["problem"]


BURST = {"source": "aws.s3"}


def test_a_run_of_a_burst_beside_workers_does_nothing_of_it(
    cloud: Cloud, at: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    at(60)
    cloud.has_tasks_listed(["arn:worker"])
    assert run(capsys, BURST) is None


@pytest.mark.parametrize(("seconds_before", "is_done"), [(74, False), (76, True)])
def test_a_run_of_a_burst_that_starts_workers_does_it_if_the_minutes_run_is_missing(
    cloud: Cloud, at: Any, capsys: pytest.CaptureFixture[str], seconds_before: float, is_done: bool
) -> None:
    at(60)
    starter.memory.audited_at = SLOT + 60 - seconds_before
    cloud.has_messages(1, 0)
    cloud.has_tasks()
    cloud.starts(1, ["FARGATE_SPOT"])
    if is_done:
        has_audits(cloud)
        starts_audit(cloud)
    assert run(capsys, BURST) == ({"started": ["FARGATE"]} if is_done else None)


def test_by_default_nothing_is_asked_and_nothing_said(
    cloud: Cloud, at: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    at(60)
    monkeypatch.delenv("AUDIT_DAYS")
    idle(cloud)
    assert run(capsys) is None


@pytest.mark.parametrize("days", ["91", "-1", "often"])
def test_wrong_days_are_refused(days: str) -> None:
    with pytest.raises(ValueError, match=r"AUDIT_DAYS=.* has to be a whole number from 0 to 90"):
        load_settings(SETTINGS | {"AUDIT_DAYS": days})
