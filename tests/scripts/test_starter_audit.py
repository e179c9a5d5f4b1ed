"""Audits that the starter starts (AUDIT_DAYS): when, at most how often, and what is a problem."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from starter_worlds import (
    AUDITS,
    BEGIN,
    HOUR,
    MINUTES_EVENT,
    NOON,
    SHORTAGE,
    WORKERS,
    Fate,
    Run,
    Span,
    Starter,
    ended,
    event,
    moment,
)

from launch.audit import MOST_TRIES, newest_slot, plan_audit, report_audit
from launch.calls import ON_DEMAND
from launch.tasks import Task, read_task

SLOT_AT = 2.0 * HOUR
SLOT = BEGIN + SLOT_AT


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
    stopping = replace(ended(0, 0, 0, by=AUDITS), created=SLOT_AT + 30, ends=SLOT_AT + 600, gone=SLOT_AT + 720)
    found = read_task(stopping.described(SLOT_AT + 600), SLOT + 600)
    assert plan_audit([found], 1, SLOT + 600).running


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


def starting_audits(seconds: float, *tasks: Run, **given: Any) -> Starter:
    return Starter(moment(0, 0, *tasks, at=SLOT_AT + seconds, audit=Fate(600, 0), **given), AUDIT_DAYS="1")


def audited(starter: Starter, begun_by: dict[str, Any] = MINUTES_EVENT) -> Any:
    """What the line of a run says of audits; None if nothing."""
    return starter.run(begun_by)[0].get("audit")


def test_an_audit_is_started_on_demand_with_its_command_and_is_no_worker() -> None:
    starter = starting_audits(60, late=(600, 600))
    assert audited(starter) == {"started": ["FARGATE"]}
    (request,) = (request for operation, request in starter.world.asked if operation == "RunTask")
    assert (request["count"], request["startedBy"]) == (1, AUDITS)
    assert request["capacityProviderStrategy"] == ON_DEMAND
    assert request["overrides"]["containerOverrides"] == [{"name": "worker", "command": ["reconcile", "--audit"]}]
    starter.world.now += 15  # ECS does not list it yet: it counts as an audit, and not as a worker
    report = starter.run()[0]
    assert (report["audit"], report["running"]) == ({"running": True}, 0)


@pytest.mark.parametrize(("started_by", "says"), [(AUDITS, "exit status 137"), (WORKERS, None)])
def test_hours_after_the_slot_an_audit_that_died_is_told_and_no_worker(started_by: str, says: str | None) -> None:
    died = replace(ended(NOON - SLOT_AT, 0, 137, by=started_by), ends=SLOT_AT + 4 * HOUR, gone=SLOT_AT + 4 * HOUR)
    found = audited(starting_audits(4 * HOUR, died))
    assert found is None if says is None else says in found["problem"]


def test_an_error_of_ecs_is_told_and_the_workers_are_started() -> None:
    starter = Starter(moment(1, at=SLOT_AT + 1560, no_demand=Span(0)), AUDIT_DAYS="1")
    report, error = starter.run()
    assert (report["started"], report["failures"], error) == ({"FARGATE_SPOT": 1}, [], "")
    assert report["audit"]["problem"] == f"no audit could be started: {SHORTAGE}"


def test_a_run_of_a_burst_does_it_if_the_run_of_the_minute_is_missing() -> None:
    starter = starting_audits(0)
    audited(starter)
    starter.world.tasks.clear()
    starter.process.aws.just_started.clear()
    for seconds, is_done in ((74, False), (76, True)):
        starter.world.now = SLOT_AT + seconds
        starter.process.looked_at = starter.world.now - 1 + BEGIN
        found = audited(starter, event(30, at=starter.world.now))
        assert found == ({"started": ["FARGATE"]} if is_done else None)


def test_by_default_nothing_is_asked_and_nothing_said() -> None:
    starter = Starter(moment(at=SLOT_AT + 60))
    assert audited(starter) is None
    assert len(starter.world.asked) == 2
    assert audited(starting_audits(4 * HOUR)) is None
