"""Workers that stay (MIN_WORKERS): started, replaced, rolled over to a newer task definition, and stopped again."""

from typing import Any

import pytest
import starter_simulation
from starter_cloud import (
    EXITED,
    NOW,
    ON_DEMAND,
    SETTINGS,
    SPOT_SHORTAGE,
    TO_STAY,
    Cloud,
    interrupted,
    not_pulled,
    running,
    starting,
    stopped,
)

import starter
from launch.copying import is_from_bucket
from launch.decision import decide
from launch.settings import load_settings
from launch.tasks import GAVE_UP, ON_SPOT, REPLACED, SURPLUS, Task

OLD, NEW = (f"arn:aws:ecs:eu-north-1:111122223333:task-definition/sync-task:{revision}" for revision in (8, 9))


def staying(task: dict[str, Any], revision: str = NEW) -> dict[str, Any]:
    return task | {"overrides": TO_STAY, "taskDefinitionArn": revision}


@pytest.fixture
def least(monkeypatch: pytest.MonkeyPatch) -> Any:
    def keep(count: int, most: int = 2) -> None:
        monkeypatch.setenv("MIN_WORKERS", str(count))
        monkeypatch.setenv("MAX_WORKERS", str(most))

    return keep


def run(cloud: Cloud, *tasks: dict[str, Any], visible: int = 0, in_flight: int = 0) -> dict[str, Any]:
    """The answers to what it does are given already; those to what it asks come before them."""
    acts = list(cloud.ecs._queue)
    cloud.ecs._queue.clear()
    cloud.has_messages(visible, in_flight)
    cloud.has_tasks(*tasks)
    cloud.has_revision(NEW)
    cloud.ecs._queue.extend(acts)
    return starter.handler({}, None)


def test_workers_are_started_to_stay_though_the_queue_is_empty(cloud: Cloud, least: Any) -> None:
    least(2, 3)
    cloud.starts(2, ["FARGATE_SPOT"] * 2, stay=True)
    report = run(cloud)
    assert (report["wanted"], report["started"]) == (2, {"FARGATE_SPOT": 2})
    assert (report["staying"], report["started_to_stay"]) == (0, 2)


def test_messages_beyond_their_share_have_workers_that_end_by_themselves(cloud: Cloud, least: Any) -> None:
    least(1, 5)
    cloud.starts(1, ["FARGATE_SPOT"], stay=True)
    cloud.starts(2, ["FARGATE_SPOT"] * 2)
    report = run(cloud, visible=25)
    assert (report["wanted"], report["started_to_stay"]) == (3, 1)


def test_those_that_stay_take_messages_as_others_do(cloud: Cloud, least: Any) -> None:
    least(1)
    report = run(cloud, staying(running()), visible=10)
    assert (report["running"], report["wanted"], report["started"], report["staying"]) == (1, 1, {}, 1)


def test_one_that_is_full_of_long_copies_has_another_beside_it(cloud: Cloud, least: Any) -> None:
    least(1)
    cloud.starts(1, ["FARGATE_SPOT"])
    assert run(cloud, staying(running()), visible=1, in_flight=600)["started"] == {"FARGATE_SPOT": 1}


def test_a_worker_that_runs_when_min_workers_is_raised_does_not_stay(cloud: Cloud, least: Any) -> None:
    least(1)
    cloud.starts(1, ["FARGATE_SPOT"], stay=True)
    assert run(cloud, running())["wanted"] == 2


def test_after_an_interruption_the_next_run_replaces_it(cloud: Cloud, least: Any) -> None:
    """One that drains has two minutes, and receives no more."""
    least(1)
    drains = stopped(staying(running()), "SpotInterruption", "Your Spot Task was interrupted.")
    cloud.starts(1, ["FARGATE_SPOT"], stay=True)
    assert run(cloud, drains)["started_to_stay"] == 1


def test_one_that_waits_for_spot_for_too_long_is_replaced_on_demand(cloud: Cloud, least: Any) -> None:
    least(1)
    cloud.stops(stuck := staying(starting(301)), GAVE_UP)
    cloud.starts(1, ["FARGATE"], strategy=ON_DEMAND, stay=True)
    assert run(cloud, stuck)["stopped"] == 1


# Fewer of them.


def test_one_that_has_not_started_goes_before_one_that_works(cloud: Cloud, least: Any) -> None:
    least(1)
    cloud.stops(new := staying(starting()), SURPLUS)
    run(cloud, staying(running()), new)


def test_when_min_workers_is_zero_again_they_are_found_without_it(cloud: Cloud) -> None:
    task = staying(running())
    cloud.has_messages(0, 0)
    cloud.has_tasks_listed([task["taskArn"]])
    cloud.ecs.add_response("describe_tasks", {"tasks": [task]}, {"cluster": "sync-cluster", "tasks": [task["taskArn"]]})
    cloud.stops(task, SURPLUS)
    report = starter.handler({}, None)
    assert (report["running"], report["wanted"], report["stopped"], report["started"]) == (0, 0, 1, {})


def test_what_could_not_be_stopped_fails_the_run(cloud: Cloud, least: Any) -> None:
    least(1)
    cloud.ecs.add_client_error("stop_task", "AccessDeniedException", "no", 400)
    with pytest.raises(RuntimeError, match="AccessDeniedException"):
        run(cloud, staying(running()), staying(running()))


# A new task definition.


def test_the_new_one_is_started_first(cloud: Cloud, least: Any) -> None:
    least(1)
    cloud.starts(1, ["FARGATE_SPOT"], stay=True)
    report = run(cloud, staying(running(), OLD))
    assert (report["running"], report["stopped"], report["started_to_stay"]) == (1, 0, 1)


@pytest.mark.parametrize("new", [starting(), running(100)])
def test_until_the_new_one_has_got_going_nothing_happens(cloud: Cloud, least: Any, new: dict[str, Any]) -> None:
    """It started 55 s ago: one that fails at once may still do so."""
    least(1)
    report = run(cloud, staying(running(), OLD), staying(new))
    assert (report["stopped"], report["started"]) == (0, {})


def test_then_the_old_one_is_stopped(cloud: Cloud, least: Any) -> None:
    least(1)
    cloud.stops(old := staying(running(), OLD), REPLACED)
    report = run(cloud, old, staying(running(106)))
    assert (report["running"], report["stopped"], report["started"]) == (1, 1, {})


def test_an_ordinary_worker_of_the_older_task_definition_ends_by_itself(cloud: Cloud, least: Any) -> None:
    least(1)
    report = run(cloud, running() | {"taskDefinitionArn": OLD}, staying(running()))
    assert (report["stopped"], report["started"]) == (0, {})


def test_a_roll_over_goes_on_as_max_workers_allows(cloud: Cloud, least: Any) -> None:
    least(4, 6)
    cloud.starts(2, ["FARGATE_SPOT"] * 2, stay=True)
    run(cloud, *(staying(running(), OLD) for _ in range(4)))


@pytest.mark.parametrize("others", [0, 1])
def test_if_max_workers_run_a_roll_over_has_one_more(cloud: Cloud, least: Any, others: int) -> None:
    least(1, 1 + others)
    cloud.starts(1, ["FARGATE_SPOT"], stay=True)
    run(cloud, *(running() for _ in range(others)), staying(running(), OLD))


@pytest.mark.parametrize(("most", "started"), [(3, 1), (2, 0)])
def test_above_max_workers_a_roll_over_ends_an_older_one_and_starts_none_above_one_more(
    cloud: Cloud, least: Any, most: int, started: int
) -> None:
    least(most, most)
    old = [staying(running(), OLD), staying(running(), OLD)]
    cloud.stops(old[0], REPLACED)
    if started:
        cloud.starts(1, ["FARGATE_SPOT"], stay=True)
    report = run(cloud, *old, staying(running(106)), running())
    assert (report["stopped"], report["started_to_stay"]) == (1, started)


@pytest.mark.parametrize("first", [starting(), running(100)])
def test_a_second_deploy_ends_the_roll_over_of_the_first(cloud: Cloud, least: Any, first: dict[str, Any]) -> None:
    """The one that is known to work stays until the newest is."""
    least(1)
    cloud.stops(begun := staying(first, OLD), SURPLUS)
    cloud.starts(1, ["FARGATE_SPOT"], stay=True)
    report = run(cloud, staying(running(), f"{OLD}0"), begun)
    assert (report["running"], report["wanted"]) == (1, 1)


def test_a_new_one_that_does_not_work_has_pauses_and_the_old_one_goes_on(cloud: Cloud, least: Any) -> None:
    least(1)
    old = staying(running(3000), OLD)
    with pytest.raises(RuntimeError, match="next one is started in"):
        run(cloud, old, *(staying(not_pulled(age)) for age in (200, 50)))


def test_one_that_ended_in_an_outage_has_no_successor_before_a_pause(cloud: Cloud, least: Any) -> None:
    least(1)
    with pytest.raises(RuntimeError, match="ended in an outage"):
        run(cloud, stopped(staying(running(700)), "EssentialContainerExited", EXITED, 10, 3))


def test_after_a_pause_one_is_tried_alone_also_if_more_are_to_stay(cloud: Cloud, least: Any) -> None:
    least(2)
    cloud.starts(1, ["FARGATE_SPOT"], stay=True)
    with pytest.raises(RuntimeError, match="the next one is starting"):
        run(cloud, *(staying(not_pulled(age)) for age in (1000, 1000)))


def test_tasks_that_spot_stops_before_they_start_lead_to_on_demand_here_too(cloud: Cloud, least: Any) -> None:
    least(1)
    cloud.starts(1, ["FARGATE"], strategy=ON_DEMAND, stay=True)
    run(cloud, *(staying(interrupted(age)) for age in (310, 250, 190, 130, 70)))


# One that was started on demand, while Spot was short.


@pytest.mark.parametrize(("age", "replaced"), [(3500, False), (3700, True)])
def test_after_an_hour_one_on_demand_has_a_successor_on_spot(
    cloud: Cloud, least: Any, age: float, replaced: bool
) -> None:
    least(1)
    if replaced:
        cloud.starts(1, ["FARGATE_SPOT"], stay=True)
    report = run(cloud, staying(running(age, "FARGATE")))
    assert (report["running"], report["stopped"], report["started_to_stay"]) == (1, 0, int(replaced))


def test_it_goes_when_that_one_has_got_going(cloud: Cloud, least: Any) -> None:
    least(1)
    cloud.stops(dear := staying(running(4000, "FARGATE")), ON_SPOT)
    report = run(cloud, dear, staying(running(106)))
    assert (report["running"], report["stopped"], report["started"]) == (1, 1, {})


def test_without_room_on_spot_it_stays_and_that_is_no_failure(cloud: Cloud, least: Any) -> None:
    least(1)
    cloud.starts(1, [], SPOT_SHORTAGE, stay=True)
    report = run(cloud, staying(running(4000, "FARGATE")))
    assert (report["running"], report["stopped"], report["started"], report["failures"]) == (1, 0, {}, [])


def test_a_refusal_of_the_successor_for_another_reason_is_reported(cloud: Cloud, least: Any) -> None:
    least(1)
    cloud.refuses(1, "AccessDeniedException", stay=True)
    with pytest.raises(RuntimeError, match="AccessDeniedException"):
        run(cloud, staying(running(4000, "FARGATE")))


def test_nor_is_spot_asked_while_it_is_short(cloud: Cloud, least: Any) -> None:
    least(1)
    waited = stopped(staying(starting(700)), "UserInitiated", GAVE_UP, 400)
    assert run(cloud, staying(running(4000, "FARGATE")), waited)["started"] == {}


# Settings, and what an event costs.


@pytest.mark.parametrize(("least", "most"), [("3", "2"), ("1000", "999")])
def test_more_than_max_workers_cannot_stay(least: str, most: str) -> None:
    with pytest.raises(ValueError, match=f"MIN_WORKERS={least} is more than MAX_WORKERS={most}"):
        load_settings(SETTINGS | {"MIN_WORKERS": least, "MAX_WORKERS": most})


def test_an_event_costs_one_call_while_one_stays(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIN_WORKERS", "1")
    cloud.has_tasks_listed(["arn:one"])
    assert is_from_bucket({"source": "aws.s3"})
    assert starter.handler({"source": "aws.s3"}, None) == {"event": True, "running": 1}


def test_stops_of_a_hundred_at_most_are_asked_for_in_one_run() -> None:
    settings = starter_simulation.SETTINGS
    now = NOW.timestamp()
    tasks = [Task(str(number), now - 900, now - 800, stays=True) for number in range(150)]
    assert len(decide(0, 0, tasks, now, settings).stop) == 100


# Simulated days.


def test_somebody_is_always_there_but_for_two_minutes_after_an_interruption() -> None:
    days = {scenario.name: starter_simulation.day_of(scenario) for scenario in starter_simulation.days_of_staying()}
    for name, day in days.items():
        gap, row = max(day.gaps[1:]), day.row("")
        assert gap <= (120 if "interrupts" in name else 0), name
        assert row.unfinished == 0, name
        assert day.gaps[0] <= 60, name
        assert max(day.rolled[1:], default=0) <= (900 if "ten stay" in name else 240), name
        assert day.most_at_once <= day.scenario.most + (day.scenario.most == 1), name
    started = {name: day.started for name, day in days.items()}
    assert started["one stays, single files"] == 1
    assert started["one stays, a deploy every hour"] == 23
    assert started["ten stay of at most twelve, a deploy"] == 20
    assert started["one stays, a deploy that does not work"] < 100
    assert not any(worker.stays for worker in days["two stay, from 8:00 one, from 16:00 none"].workers)
