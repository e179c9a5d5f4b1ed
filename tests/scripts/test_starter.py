"""What a run of the starter asks for, stops, copies and reports, in single moments of a world: one row for each.

test_starter_worlds.py lets it run through thousands of worlds; what is here are exact limits, and what a run costs.
"""

import itertools
import json
import math
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple

import pytest
from account import PROJECT
from botocore.exceptions import ClientError
from starter_worlds import (
    AUDITS,
    MINUTES_EVENT,
    OUT_OF_MEMORY,
    SETTINGS,
    WORKERS,
    Plan,
    Run,
    Span,
    Starter,
    World,
    event,
)

from launch.calls import ON_DEMAND, SPOT, SPOT_FIRST
from launch.copying import FEW_MESSAGES, RESERVE_SECONDS
from launch.settings import load_settings
from launch.tasks import GAVE_UP, PAUSED, REPLACED, SHORTAGE, SURPLUS

ALWAYS = Span(0)
NONE: Mapping[str, Any] = MappingProxyType({})
MIXED, DEMAND = str(SPOT_FIRST), str(ON_DEMAND)
STAY, STAY_ON_DEMAND = f"to stay {SPOT}", f"1 to stay {ON_DEMAND}"


# Moments of a world in which nothing else happens. Ages are seconds before that moment.

NOON, SLOT = 43_200.0, 7_200.0  # seconds of the day; at the second, audits are due
NUMBERS = itertools.count()
PULL = "CannotPullContainerError: pull image manifest has been retried 5 time(s): dial tcp: i/o timeout"


def moment(visible: int = 0, in_flight: int = 0, *tasks: Run, at: float = NOON, **plan: Any) -> World:
    world = World(0, Plan(**plan), at, visible)
    world.returning = [(math.inf, in_flight)] if in_flight else []
    world.tasks = [replace(task) for task in tasks]
    world.told_before = world.counts()
    return world


def starting(age: float = 30, spot: bool = True, *, stays: bool = False, revision: int = 0, by: str = WORKERS) -> Run:
    at = NOON - age
    return Run(f"arn:old:{next(NUMBERS)}", at, spot, by, stays, revision, at, at)


def running(age: float = 600, spot: bool = True, **more: Any) -> Run:
    task = starting(age, spot, **more)
    return replace(task, pulls=task.created + 20, starts=task.created + 45)


def stopped(task: Run, code: str, reason: str, ago: float = 0, status: int | None = None) -> Run:
    return replace(task, ends=NOON - ago, gone=NOON - ago, end=(code, reason, status))


def ended(age: float, ago: float, status: int, spot: bool = True, **more: Any) -> Run:
    reason = "Essential container in task exited"
    return stopped(running(age, spot, **more), "EssentialContainerExited", reason, ago, status)


def not_pulled(age: float, **more: Any) -> Run:
    """It never started, because its image could not be reached."""
    return stopped(starting(age, **more), "TaskFailedToStart", PULL, age - 40)


def interrupted(age: float, code: str = "SpotInterruption", **more: Any) -> Run:
    """Spot stopped it before it started."""
    return stopped(starting(age, **more), code, "Your Spot Task was interrupted.", age - 10)


def requests_of(starter: Starter) -> list[str]:
    """For each RunTask: how many, whether to stay, and on what."""
    return [
        f"{sent['count']} {'to stay ' if 'overrides' in sent else ''}{sent['capacityProviderStrategy']}"
        for sent in starter.sent("RunTask")
    ]


def operations_of(starter: Starter) -> list[str]:
    return [call.operation for call in starter.world.asked]


class Row(NamedTuple):
    """What a moment comes to. `says`: what the run fails with, or nothing."""

    tasks: list[Run]
    asks: list[str]
    stops: Sequence[str] = ()
    says: str = ""
    visible: int = 1
    settings: Mapping[str, str] = NONE
    plan: Mapping[str, Any] = NONE
    in_flight: int = 0
    begun_by: Mapping[str, Any] = MINUTES_EVENT


def staying(age: float = 600, *, revision: int = 1, **more: Any) -> Run:
    return running(age, stays=True, revision=revision, **more)


def least(count: int, most: int = 2) -> dict[str, str]:
    return {"MIN_WORKERS": str(count), "MAX_WORKERS": str(most)}


ONE_STAYS = least(1)
BOTH = [f"1 {MIXED}", f"1 {DEMAND}"]
QUOTA = "You've reached the limit on the number of vCPUs you can run concurrently"
OUTAGE = r"ended in an outage: .* \(exit code 3\)"
NEXT = "the next one is starting"
LAST = "the last task stopped before working: "


def quiet(tasks: list[Run], asks: str = "", stops: str = "", **plan: Any) -> Row:
    """No message waits, one is to stay, and revision 1 is deployed."""
    plan = {"deploys": [0.0]} | plan
    return Row(tasks, [asks] * bool(asks), [stops] * bool(stops), visible=0, settings=ONE_STAYS, plan=plan)


DIED = "the last 2 tasks failed after 800 s at most: .* each run fails until another one has worked"


def died(age: float) -> Run:
    """It was killed after 800 s, because it had used up its memory."""
    return stopped(running(age), "EssentialContainerExited", OUT_OF_MEMORY, age - 845, 137)


def taken(age: float) -> Run:
    """Spot took it back 15 s after its start."""
    return stopped(running(age), "SpotInterruption", "Your Spot Task was interrupted.", age - 60, 0)


def waiting(tasks: list[Run], says: str = "") -> Row:
    """Five messages are in flight, and none waits."""
    return Row(tasks, [], says=says, visible=0, in_flight=5)


MOMENTS: dict[str, Row] = {
    # One worker for each ten messages, up to MAX_WORKERS.
    "nothing waits": Row([], [], visible=0),
    "ten wait": Row([], [f"1 {MIXED}"], visible=10),
    "eleven wait": Row([], [f"2 {MIXED}"], visible=11),
    "more than all workers take": Row(
        [], [f"{part} {MIXED}" for part in (10, 10, 3)], visible=10_000, settings={"MAX_WORKERS": "23"}
    ),
    "one worker is enough for all": Row([running()], [], visible=9_000, settings={"MESSAGES_PER_WORKER": "1000000"}),
    "the worker has room": Row([running()], [], in_flight=499),
    "a full one does not hold up what it has no room for": Row([running()], [f"1 {MIXED}"], in_flight=500),
    "one of two processes is full": Row([running()], [f"1 {MIXED}"], in_flight=1000, settings={"PROCESSES": "2"}),
    "one with few slots has room": Row([running()], [], in_flight=19, settings={"MAX_CONCURRENT_KEYS": "16"}),
    # Events of the bucket.
    "of a message that is in no count yet": Row([], [f"1 {MIXED}"], visible=0, begun_by=event(19)),
    "of one that is done with": Row([], [], visible=0, begun_by=event(21)),
    "of one that waits": Row([], [f"1 {MIXED}"], begun_by=event(59)),
    "without a time": Row([], [f"1 {MIXED}"], visible=0, begun_by={"source": "aws.s3"}),
    # Shortages of Spot: refusals, tasks that wait, tasks that are stopped before they start.
    "Spot refuses": Row([], [f"2 {MIXED}", f"2 {DEMAND}"], visible=20, plan={"no_spot": ALWAYS}),
    "and so does on demand": Row([], BOTH, plan={"no_spot": ALWAYS, "no_demand": ALWAYS}),  # left to the next run
    "the quota of Spot is used up": Row([], BOTH, plan={"no_spot": Span(0, how=QUOTA)}),
    "that of both is": Row([], BOTH, says=QUOTA, plan={"no_spot": Span(0, how=QUOTA), "no_demand": ALWAYS}),
    "the revision is gone": Row(
        [],
        BOTH,
        says="sync-task were not started: MISSING it is gone",
        plan={"no_spot": Span(0, how="MISSING it is gone")},
    ),
    "the starter may start nothing": Row([], BOTH, says="AccessDenied", plan={"refusals": [Span(0, how="RunTask")]}),
    "one waits for Spot for five minutes": Row([starting(301)], [f"1 {DEMAND}"], [GAVE_UP]),
    "one that pulls its image has its capacity": Row([replace(starting(400), pulls=NOON - 100)], []),
    "by its older name": Row([interrupted(age, "TerminationNotice") for age in (310, 70)], [f"1 {DEMAND}"]),
    "an hour ago, worth another attempt": Row([interrupted(2000), ended(930, 730, 0, spot=False)], [f"1 {MIXED}"]),
    "on demand since then, too soon": Row([interrupted(600), ended(580, 380, 0, spot=False)], [f"1 {DEMAND}"]),
    "the starter runs every half an hour": Row([interrupted(1800)], [f"1 {DEMAND}"]),
    "one was given up": Row([stopped(starting(900), "UserInitiated", GAVE_UP, 590)], [f"1 {DEMAND}"]),
    "Spot has had room since": Row([ended(1500, 1300, 0), interrupted(900), ended(600, 300, 0)], [f"1 {MIXED}"]),
    "one was stopped by hand": Row([stopped(starting(900), "UserInitiated", "by hand", 590)], [f"1 {MIXED}"]),
    "Spot took two of one start at once": Row([taken(400), taken(400)], [f"1 {MIXED}"]),
    "Spot took those of two starts at once": Row([taken(400), taken(100)], [f"1 {DEMAND}"]),
    "one that Spot took back had run": Row([stopped(running(900), "SpotInterruption", "", 60)], [f"1 {MIXED}"]),
    # Tasks that fail.
    "one never started": Row([not_pulled(100)], [f"1 {MIXED}"], says=re.escape(f"TaskFailedToStart: {PULL}; {NEXT}")),
    "one had a wrong setting": Row([ended(100, 50, 2)], [f"1 {MIXED}"], says=rf"{LAST}.*Essential.*\(exit code 2\)"),
    "two failed, and the next one has a pause": Row(
        [not_pulled(200), not_pulled(50)], [], says="last 2 tasks .* started in 100 s", visible=10_000
    ),
    "one failed, and the next one is starting": Row([not_pulled(200), starting(20)], [], says=NEXT, visible=10_000),
    "the next one has run for a minute": Row([not_pulled(200), running(106)], [f"1 {MIXED}"], visible=10_000),
    "it found no capacity": Row([stopped(starting(100), "TaskFailedToStart", SHORTAGE, 60)], [f"1 {MIXED}"]),
    "a comparison of the buckets failed": Row([not_pulled(200, by="sync-reconcile")], [f"1 {MIXED}"]),
    # Their messages are in flight, so no other one is started for these.
    "two died of memory": waiting([died(3000), died(1500)], "OutOfMemoryError.* each run fails .*raise TASK_MEMORY"),
    "two died, and their messages are done": Row([died(3000), died(1500)], [], visible=0),
    "one died": waiting([died(1500)]),
    "two were stopped by hand": waiting([replace(died(age), end=("UserInitiated", "", 137)) for age in (3000, 1500)]),
    "Spot took two": waiting([replace(died(age), end=("SpotInterruption", "", 137)) for age in (3000, 1500)]),
    "the next one has run for as long as they did": waiting([died(3000), died(2000), running(1000)], DIED),
    "the next one has run for twice as long": waiting([died(3500), died(2500), running(1700)]),
    "a later one has emptied the queue": waiting([died(3500), died(2500), ended(1500, 1300, 0)]),
    "one beside it has ended with 0": waiting([died(3500), died(2500), ended(2500, 2300, 0)], DIED),
    "one of a newer task definition has got going": waiting([died(3000), died(1700), running(720, revision=1)]),
    "one of the same task definition has": waiting([died(3000), died(1700), running(720)], DIED),
    # A worker that ended with exit status 3 could sync no key for ten minutes.
    "an outage": Row([ended(700, 10, 3)], [], says=f"{OUTAGE}; the next one is started in 50 s"),
    "and no second one beside it": Row([ended(1300, 600, 3), running(500)], [], visible=10_000),
    # Workers that stay.
    "one, and messages for three": Row([], [f"1 {STAY}", f"2 {MIXED}"], settings=least(1, 5), visible=25),
    "one that stays waits for Spot": quiet([starting(301, stays=True)], STAY_ON_DEMAND, GAVE_UP, deploys=[]),
    "two stay, one has not started": quiet([staying(), starting(stays=True, revision=1)], stops=SURPLUS),
    "a deployment": quiet([staying(revision=0)], f"1 {STAY}"),
    "the new one has got going": quiet([staying(revision=0), staying(106)], stops=REPLACED),
    "one is on demand for an hour": quiet([staying(3700, spot=False)], f"1 {STAY}"),
    "not yet": quiet([staying(3500, spot=False)]),
    "and Spot is known to have no room": quiet([staying(4000, spot=False), interrupted(400), interrupted(100)]),
    "Spot has no room for its successor": quiet([staying(4000, spot=False)], f"1 {STAY}", no_spot=ALWAYS),
}


@pytest.mark.parametrize("name", MOMENTS)
def test_a_moment_comes_to(name: str) -> None:
    row = MOMENTS[name]
    starter = Starter(moment(row.visible, row.in_flight, *row.tasks, **row.plan), **row.settings)
    report, error = starter.run(row.begun_by)
    assert requests_of(starter) == row.asks
    assert sorted(reason for _, reason, _ in starter.world.stops) == sorted(row.stops)
    assert bool(re.search(row.says, error)) and bool(row.says) == bool(error), error
    assert error.count("AccessDenied") <= 1  # of both strategies
    assert report.get("event", False) == (row.begun_by is not MINUTES_EVENT)
    assert bool(report["trial"]) == (name in ("and no second one beside it",))


def test_the_report_is_one_line_of_the_log() -> None:
    starter = Starter(moment(12, 4, running()))
    numbers = {"visible": 12, "in_flight": 4, "running": 1, "wanted": 2, "started": {"FARGATE_SPOT": 1}, "stopped": 0}
    report = numbers | {"failures": [], "failing": "", "trial": ""}
    assert starter.run() == (report, "")
    assert [json.loads(line) for line in starter.printed.splitlines() if "guard is off" not in line] == [report]
    (failure,) = Starter(moment(1, no_spot=ALWAYS)).run()[0]["failures"]
    assert SHORTAGE in failure
    idle = Starter(moment())
    assert (idle.run()[0]["wanted"], operations_of(idle)) == (0, ["ListTasks", "GetQueueAttributes"])
    to_stay = Starter(moment(1), MIN_WORKERS="1").run()[0]
    assert (to_stay["staying"], to_stay["started_to_stay"]) == (0, 1)


@pytest.mark.parametrize(("groups", "ip", "sent"), [("", "ENABLED", []), ("sg-1,sg-2", "DISABLED", ["sg-1", "sg-2"])])
def test_a_worker_is_started_in_the_network_that_is_set(groups: str, ip: str, sent: list[str]) -> None:
    starter = Starter(moment(1), SECURITY_GROUPS=groups, ASSIGN_PUBLIC_IP=ip)
    starter.run()
    (request,) = starter.sent("RunTask")
    network = {"subnets": SETTINGS["SUBNETS"].split(","), "securityGroups": sent, "assignPublicIp": ip}
    assert request["networkConfiguration"] == {"awsvpcConfiguration": network}


# What ECS refuses, and what it is asked for.


@pytest.mark.parametrize("operation", ["GetQueueAttributes", "ListTasks"])
def test_what_cannot_be_read_fails_the_run(operation: str) -> None:
    for begun_by in (MINUTES_EVENT, event()):
        with pytest.raises(ClientError, match="AccessDenied"):
            Starter(moment(1, refusals=[Span(0, how=operation)])).run(begun_by)


def test_a_task_that_is_listed_and_cannot_be_described_yet_counts() -> None:
    late = replace(running(1), known_at=NOON + 1)
    gone = replace(ended(600, 1, 0), listed_at=0)
    assert Starter(moment(1, 0, late, late=(9, 0))).run()[0]["running"] == 1
    assert Starter(moment(1, 0, gone, late=(9, 0))).run()[0]["running"] == 0  # recently stopped, and listed


def test_of_very_many_stopped_tasks_so_many_are_looked_at_as_the_time_allows() -> None:
    starter = Starter(moment(1, 0, *(interrupted(900) for _ in range(600)), *(running() for _ in range(30))))
    assert starter.run()[0]["running"] == 30
    described = [len(request["tasks"]) for request in starter.sent("DescribeTasks")]
    assert (sum(described), max(described)) == (530, 100)


def test_stops_of_a_hundred_at_most_are_asked_for_in_one_run() -> None:
    starter = Starter(moment(0, 0, *(running(stays=True) for _ in range(150))))
    starter.run()
    assert len(starter.world.stops) == 100


def test_tasks_have_tags_if_the_role_may_tag_and_the_log_says_once_if_it_may_not() -> None:
    tagged = Starter(moment(1), TAG_TASKS="true")
    tagged.run()
    assert [request["propagateTags"] for request in tagged.sent("RunTask")] == ["TASK_DEFINITION"]
    untagged = Starter(moment(11, no_spot=ALWAYS, refusals=[Span(0, how="TagResource")]), TAG_TASKS="true")
    assert untagged.run()[0]["started"] == {"FARGATE": 2}
    assert untagged.printed.count("tasks are started without tags: ") == 1
    refused = Starter(moment(1, refusals=[Span(0, how="RunTask")]), TAG_TASKS="true")  # for another reason
    assert "were not started" in refused.run()[1]
    assert len(requests_of(refused)) == 2


# While the sync is paused.


@pytest.mark.parametrize("since", ["2026-11-25T11:00:00Z", "2026-13-45, or so"])  # the second is edited by hand
@pytest.mark.parametrize("settings", [{}, {"MIN_WORKERS": "2"}, {"AUDIT_DAYS": "1"}])
def test_in_a_pause_nothing_is_started_and_what_runs_is_stopped(since: str, settings: dict[str, str]) -> None:
    for begun_by in (MINUTES_EVENT, event()):
        starter = Starter(moment(50, 0, running(), starting()), PAUSED_SINCE=since, **settings)
        report, error = starter.run(begun_by)
        assert (report["paused_since"], report["wanted"], report["stopped"], error) == (since, 0, 2, "")
        assert [reason for _, reason, _ in starter.world.stops] == [PAUSED] * 2
        assert starter.run(event())[0] == {"event": True, "paused_since": since}  # and asks for nothing
        assert starter.run(MINUTES_EVENT)[0]["started"] == {}
        assert requests_of(starter) == []


# Events of the bucket, which come in bursts. ECS may list a task seconds after it has answered with it.


def test_in_a_burst_runs_ask_ecs_once_in_two_seconds_and_one_in_75_s_for_everything() -> None:
    starter = Starter(moment(5, 0, running(), running()))
    starter.run(MINUTES_EVENT)
    asked = []
    for tenth in range(1, 1600):
        starter.world.now, before = NOON + tenth / 10, len(starter.world.asked)
        report = starter.run(event(at=starter.world.now))[0]
        asked += [(tenth / 10, operation) for operation in operations_of(starter)[before:]]
        assert report.get("running") == 2
    looks = [at for at, operation in asked if operation == "GetQueueAttributes"]
    assert looks == [75, 150]
    assert 75 <= sum(operation == "ListTasks" for _, operation in asked) - 2 * len(looks) <= 80


def test_what_was_just_started_counts_for_half_a_minute_though_ecs_does_not_list_it() -> None:
    starter = Starter(moment(0, late=(600, 600)))
    assert starter.run(event())[0]["started"] == {"FARGATE_SPOT": 1}
    for seconds, count in ((0.2, 1), (2.3, 1), (29, 1), (30, 0)):
        starter.world.now = NOON + seconds
        assert starter.run(MINUTES_EVENT)[0]["running"] == count
        if count:
            assert starter.run(event(at=starter.world.now))[0] == {"event": True, "running": 1}


def test_an_event_does_the_guards_work_if_no_run_of_the_minute_came_for_75_s() -> None:
    """Without GUARD, that the guard is off is what it says, in its first run of a process."""
    starter, said = Starter(moment()), []
    for at, begun_by in ((0, event(30)), (70, event(30)), (80, event(30)), (90, MINUTES_EVENT)):
        starter.world.now = NOON + at
        starter.run(begun_by)
        said.append("the guard is off" in starter.printed)
    assert said == [False, False, True, False]


# Settings.


def test_every_wrong_setting_is_named_in_one_error_and_nothing_is_asked() -> None:
    wrong = {
        "QUEUE_URL": "sync-q", "CLUSTER": "a cluster", "SUBNETS": ",".join(["subnet-0a1"] * 17), "TASK_DEFINITION": "",
        "SECURITY_GROUPS": "default", "ASSIGN_PUBLIC_IP": "true", "STARTED_BY": "a" * 129, "MESSAGES_PER_WORKER": "ten",
        "STARTER_MAX_SIZE": "64M",
    }  # fmt: skip
    starter = Starter(moment(1), **wrong)
    with pytest.raises(ValueError, match=r"wrong settings: [^\n]*$") as raised:
        starter.run()
    assert [name for name in wrong if f"{name}=" not in str(raised.value)] == ["TASK_DEFINITION"]
    assert "TASK_DEFINITION is not set" in str(raised.value)
    assert starter.world.asked == []
    load_settings(SETTINGS | {"SUBNETS": ",".join(["subnet-0a1"] * 16)})
    with pytest.raises(ValueError, match="MIN_WORKERS=3 is more than MAX_WORKERS=2"):
        load_settings(SETTINGS | {"MIN_WORKERS": "3"})


# Audits (AUDIT_DAYS), of which test_starter_worlds.py knows when one is due and what is wrong with it.


def test_an_audit_is_started_on_demand_with_its_command_and_is_no_worker() -> None:
    starter = Starter(moment(at=SLOT + 60, late=(600, 600)), AUDIT_DAYS="1")
    assert starter.run()[0]["audit"] == {"started": ["FARGATE"]}
    (request,) = starter.sent("RunTask")
    assert (request["count"], request["startedBy"]) == (1, AUDITS)
    assert request["capacityProviderStrategy"] == ON_DEMAND
    assert request["overrides"]["containerOverrides"] == [{"name": "worker", "command": ["reconcile", "--audit"]}]
    starter.world.now += 15  # ECS does not list it yet: it counts as an audit, and not as a worker
    report = starter.run()[0]
    assert (report["audit"], report["running"]) == ({"running": True}, 0)


def test_the_command_that_stops_an_audit_that_hangs_names_its_cluster_too() -> None:
    """Without it, ECS would look in the cluster "default"."""
    hanging = starting(86_500, by=AUDITS)
    problem = Starter(moment(0, 0, hanging), AUDIT_DAYS="1").run()[0]["audit"]["problem"]
    assert problem.endswith(f"stop it: aws ecs stop-task --cluster {SETTINGS['CLUSTER']} --task {hanging.arn}")


def test_an_error_of_ecs_is_told_and_the_workers_are_started() -> None:
    starter = Starter(moment(1, at=SLOT + 1560, no_demand=Span(0)), AUDIT_DAYS="1")
    report, error = starter.run()
    assert (report["started"], report["failures"], error) == ({"FARGATE_SPOT": 1}, [], "")
    assert f"no audit could be started: {SHORTAGE}" in report["audit"]["problem"]


def test_an_event_starts_an_audit_if_no_run_of_the_minute_came_for_75_s() -> None:
    starter, said = Starter(moment(), AUDIT_DAYS="1"), []
    for at, begun_by in ((-70, MINUTES_EVENT), (4, event(30, at=SLOT)), (6, event(30, at=SLOT))):
        starter.world.now = SLOT + at
        said.append(starter.run(begun_by)[0].get("audit"))
    assert said == [None, None, {"started": ["FARGATE"]}]


# When the function copies by itself (STARTER_COPIES), for how long, and what it then starts workers for.


class Copying(NamedTuple):
    """What copying comes to and the moment; how many seconds it gets, the workers asked for, whether before it, and
    what the run fails with."""

    comes_to: Any
    visible: int
    tasks: Sequence[Run] = ()
    begun_by: Mapping[str, Any] = event()
    seconds: Sequence[float] = (45,)
    workers: Sequence[int] = ()
    is_before: bool = False
    says: str = ""
    left: float = 60  # seconds of the function
    in_flight: int = 0
    meanwhile: Sequence[Run] = ()  # started by another run, in an account that is too small to reserve concurrency
    settings: Mapping[str, str] = NONE
    plan: Mapping[str, Any] = NONE


EMPTIED, HANDED_BACK = {"copied": 3, "emptied": 1}, {"copied": 4, "handed_back": 7, "emptied": 1}
OUT_OF_TIME = {"copied": 300, "deleted": 5, "skipped": 5, "handed_back": 3}
NOT_WORKING, NOT_COPYING = "do not get to work", "the function could not copy"
MANY = FEW_MESSAGES + 1
COPYING = {
    "from idle": Copying(EMPTIED, 0),
    "a run of the minute": Copying(EMPTIED, 1, begun_by=MINUTES_EVENT),
    "nothing waits, some are in flight": Copying(EMPTIED, 0, begun_by=MINUTES_EVENT, seconds=(), in_flight=5),
    "an event about nothing any more": Copying(EMPTIED, 0, begun_by=event(40), seconds=()),
    "what it handed back is in no count": Copying(HANDED_BACK, 1, workers=(1,)),
    "more have come": Copying({"copied": 500, "emptied": 0}, 400, workers=(1,)),
    "its time was over": Copying(OUT_OF_TIME, 400, workers=(9,), settings={"MAX_WORKERS": "20"}),
    "much waits": Copying(HANDED_BACK, MANY, workers=(2,), is_before=True),
    "a worker runs": Copying(EMPTIED, 600, [running()], MINUTES_EVENT, (), (1,), in_flight=600),
    "a worker is starting": Copying(EMPTIED, 1, [starting()], seconds=()),
    "workers have come meanwhile": Copying(HANDED_BACK, 1, meanwhile=[starting()]),
    "one is to stay": Copying(EMPTIED, 1, workers=(1,), is_before=True, settings=ONE_STAYS),
    "in a pause": Copying(EMPTIED, 1, seconds=(), settings={"PAUSED_SINCE": "2026-11-25T11:00:00Z"}),
    "workers failed": Copying(EMPTIED, 1, [not_pulled(200), not_pulled(50)], seconds=(), says=NOT_WORKING),
    "in an outage": Copying(EMPTIED, 1, [ended(700, 10, 3)], seconds=(), says=NOT_WORKING),
    "one is tried": Copying(EMPTIED, 1, [not_pulled(1000)], seconds=(), workers=(1,), says=NOT_WORKING),
    "no worker can be started": Copying(
        EMPTIED, MANY, workers=(2, 2), is_before=True, says="AccessDenied", plan={"refusals": [Span(0, how="RunTask")]}
    ),
    "more time than it may take": Copying(EMPTIED, 1, left=70, seconds=(50,)),
    "the least time": Copying(EMPTIED, 1, left=20, seconds=(5,)),
    "too little time": Copying(EMPTIED, 1, left=RESERVE_SECONDS + 4, seconds=(), workers=(1,)),
    "it raises": Copying(KeyError("a mistake"), 0, workers=(1,), says=NOT_COPYING),
    "it ends badly": Copying({"status": 1}, 0, workers=(1,), says=NOT_COPYING),
}


class Copier:
    """In the place of mirror/function.py."""

    def __init__(self, row: Copying) -> None:
        self.row, self.ends, self.was_before = row, 0, False
        self.seconds: list[float] = []
        world = moment(row.visible, row.in_flight, *row.tasks, **row.plan)
        self.starter = Starter(world, self, STARTER_COPIES="true", **row.settings)

    def run(self) -> tuple[dict[str, Any], str]:
        context = SimpleNamespace(get_remaining_time_in_millis=lambda: self.row.left * 1000)
        return self.starter.run(self.row.begun_by, context)

    def respond(self, environment: Mapping[str, str], seconds: float) -> dict[str, int]:
        assert environment is self.starter.environment
        self.was_before = "RunTask" in operations_of(self.starter)
        self.seconds.append(seconds)
        self.starter.world.tasks += self.row.meanwhile
        if isinstance(self.row.comes_to, Exception):
            raise self.row.comes_to
        return self.row.comes_to  # type: ignore[no-any-return]

    def end_process_if_unanswered(self) -> None:
        self.ends += 1


@pytest.mark.parametrize("name", COPYING)
def test_it_copies_while_no_worker_runs(name: str) -> None:
    row, copier = COPYING[name], Copier(COPYING[name])
    report, error = copier.run()
    assert (copier.seconds, copier.was_before, copier.ends) == ([*row.seconds], row.is_before, 1)
    assert [int(request.split()[0]) for request in requests_of(copier.starter)] == [*row.workers]
    assert (repr(row.comes_to) in repr(report)) == bool(row.seconds)
    assert row.says in error and bool(row.says) == bool(error), error


def test_a_failure_leaves_no_call_behind() -> None:
    copier = Copier(Copying(EMPTIED, 1, plan={"refusals": [Span(0, how="ListTasks")]}))
    with pytest.raises(ClientError):
        copier.run()
    assert copier.ends == 1


@pytest.mark.parametrize(("value", "has_it"), [("true", True), ("false", False)])
def test_its_part_of_the_worker_is_imported_with_the_starter_and_only_if_it_copies(value: str, has_it: bool) -> None:
    command = [sys.executable, "-c", "import sys, starter; print('mirror.function' in sys.modules)"]
    done = subprocess.run(command, env={"STARTER_COPIES": value}, cwd=PROJECT, capture_output=True, text=True)
    assert done.stdout == f"{has_it}\n", done.stderr
