"""What a run of the starter asks for, stops and reports, in single moments of a world: one row for each.

test_starter_worlds.py lets it run through thousands of worlds; what is here are exact limits, and what a run costs.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from botocore.exceptions import ClientError
from starter_worlds import (
    EXITED,
    MINUTES_EVENT,
    NOON,
    PULL,
    SETTINGS,
    SHORTAGE,
    Client,
    Run,
    Span,
    Starter,
    ended,
    event,
    interrupted,
    moment,
    not_pulled,
    running,
    starting,
    stopped,
)

from launch.calls import ON_DEMAND, SPOT, SPOT_FIRST
from launch.settings import load_settings
from launch.tasks import GAVE_UP, ON_SPOT, PAUSED, REPLACED, SURPLUS

ALWAYS = Span(0)
NONE: Mapping[str, Any] = MappingProxyType({})
MIXED, DEMAND = str(SPOT_FIRST), str(ON_DEMAND)
STAY = f"to stay {SPOT}"
STAY_ON_DEMAND = f"to stay {ON_DEMAND}"


def requests_of(starter: Starter) -> list[str]:
    """For each RunTask: how many, whether to stay, and on what."""
    found = [request for operation, request in starter.world.asked if operation == "RunTask"]
    stay = ["to stay " if "overrides" in request else "" for request in found]
    return [
        f"{request['count']} {to}{request['capacityProviderStrategy']}" for to, request in zip(stay, found, strict=True)
    ]


def operations_of(starter: Starter) -> list[str]:
    return [operation for operation, _ in starter.world.asked]


@pytest.mark.parametrize(
    ("visible", "in_flight", "workers", "settings", "started"),
    [
        (0, 0, 0, {}, 0),
        (0, 9, 2, {}, 0),
        (1, 0, 0, {}, 1),
        (10, 0, 0, {}, 1),
        (11, 0, 0, {}, 2),
        (5, 6, 0, {}, 1),
        (10_000, 0, 0, {}, 2),
        (10_000, 0, 1, {}, 1),
        (11, 10, 1, {}, 1),
        (1, 499, 1, {}, 0),
        (1, 500, 1, {}, 1),  # a full worker does not hold up what it has no room for
        (1, 19, 1, {"MAX_CONCURRENT_KEYS": "16"}, 0),
        (1, 20, 1, {"MAX_CONCURRENT_KEYS": "16"}, 1),
        (1, 39, 1, {"MAX_CONCURRENT_KEYS": "16", "PROCESSES": "2"}, 0),
        (1, 999, 1, {"PROCESSES": "2"}, 0),
        (1, 1000, 1, {"PROCESSES": "2"}, 1),
        (9_000, 1_024, 1, {"MESSAGES_PER_WORKER": "1000000"}, 0),
        (10_000, 0, 0, {"MAX_WORKERS": "23"}, 23),
    ],
)
def test_one_worker_is_started_for_each_ten_messages_up_to_the_most(
    visible: int, in_flight: int, workers: int, settings: dict[str, str], started: int
) -> None:
    starter = Starter(moment(visible, in_flight, *(running() for _ in range(workers))), **settings)
    report, error = starter.run()
    assert (sum(report["started"].values()), report["running"], error) == (started, workers, "")
    assert requests_of(starter) == [f"{part} {MIXED}" for part in ([10, 10, 3] if started == 23 else [started]) if part]


class Row(NamedTuple):
    """What a moment comes to. `says`: what the run fails with, or nothing."""

    tasks: list[Run]
    asks: list[str]
    stops: Sequence[str] = ()
    says: str = ""
    visible: int = 1
    settings: Mapping[str, str] = NONE
    plan: Mapping[str, Any] = NONE


def staying(age: float = 600, *, revision: int = 1, **more: Any) -> Run:
    return running(age, stays=True, revision=revision, **more)


def least(count: int, most: int = 2) -> dict[str, str]:
    return {"MIN_WORKERS": str(count), "MAX_WORKERS": str(most)}


OUTAGE = r"ended in an outage: .* \(exit code 3\)"
NEXT = "the next one is starting"
LAST = "the last task stopped before working: "
WAITED = {"visible": 0, "plan": {"deploys": [0.0]}}
# The one that runs has revision 1 there. Without this, a row of what stays has no message, and one deployment.
MOMENTS: dict[str, Row] = {
    # Shortages of Spot: refusals, tasks that wait, tasks that are stopped before they start.
    "Spot refuses": Row([], [f"2 {MIXED}", f"2 {DEMAND}"], visible=20, plan={"no_spot": ALWAYS}),
    "neither has room": Row([], [f"1 {MIXED}", f"1 {DEMAND}"], plan={"no_spot": ALWAYS, "no_demand": ALWAYS}),
    "Spot was short, and on demand has no room": Row(
        [interrupted(400), interrupted(60)], [f"1 {DEMAND}", f"1 {MIXED}"], plan={"no_demand": ALWAYS}
    ),
    "one waits for Spot for five minutes": Row([starting(301)], [f"1 {DEMAND}"], [GAVE_UP]),
    "all of them wait": Row([starting(301), starting(301)], [f"2 {DEMAND}"], [GAVE_UP] * 2, visible=10_000),
    "one may get Spot yet": Row([starting(290)], []),
    "one on demand has nothing else to turn to": Row([starting(400, spot=False)], []),
    "one that pulls its image has its capacity": Row([replace(starting(400), pulls=NOON - 100)], []),
    "ECS has only just taken it": Row([replace(starting(-1), listed_at=0, known_at=0)], []),
    "one waits, and may not be stopped": Row(
        [starting(301)], [], says="AccessDenied", plan={"refusals": [Span(0, how="StopTask")]}
    ),
    "for five minutes Spot stops each": Row([interrupted(age) for age in (310, 190, 70)], [f"1 {DEMAND}"]),
    "by its older name": Row([interrupted(age, "TerminationNotice") for age in (310, 70)], [f"1 {DEMAND}"]),
    "not for five minutes": Row([interrupted(240), interrupted(60)], [f"1 {MIXED}"]),
    "an hour ago, worth another attempt": Row([interrupted(2000), ended(930, 730, 0, spot=False)], [f"1 {MIXED}"]),
    "on demand since then, too soon": Row([interrupted(600), ended(580, 380, 0, spot=False)], [f"1 {DEMAND}"]),
    "the other attempt went wrong": Row(
        [interrupted(2000), ended(1900, 1700, 0, spot=False), interrupted(60)], [f"1 {DEMAND}"]
    ),
    "the starter runs every half an hour": Row([interrupted(1800)], [f"1 {DEMAND}"]),
    "Spot is back": Row([interrupted(900), running(400)], [f"1 {MIXED}"], visible=11),
    "it is not": Row([interrupted(900), running(400, spot=False)], [f"1 {DEMAND}"], visible=11),
    "one was given up": Row([stopped(starting(900), "UserInitiated", GAVE_UP, 590)], [f"1 {DEMAND}"]),
    "one was stopped by hand": Row([stopped(starting(900), "UserInitiated", "by hand", 590)], [f"1 {MIXED}"]),
    "one that Spot took back had run": Row([stopped(running(900), "SpotInterruption", "", 60)], [f"1 {MIXED}"]),
    # Tasks that fail.
    "one never started": Row([not_pulled(100)], [f"1 {MIXED}"], says=re.escape(f"TaskFailedToStart: {PULL}; {NEXT}")),
    "one had a wrong setting": Row([ended(100, 50, 2)], [f"1 {MIXED}"], says=rf"{LAST}.*: {EXITED} \(exit code 2\)"),
    "two failed, and the next one has a pause": Row(
        [not_pulled(200), not_pulled(50)], [], says="last 2 tasks .* started in 100 s", visible=10_000
    ),
    "two failed long ago": Row([not_pulled(3000), not_pulled(1000)], [f"1 {MIXED}"], says=NEXT, visible=10_000),
    "one failed, and the next one is starting": Row([not_pulled(200), starting(20)], [], says=NEXT, visible=10_000),
    "the next one has run for a minute": Row([not_pulled(200), running(106)], [f"1 {MIXED}"], visible=10_000),
    "the next one has ended well": Row([not_pulled(200), ended(150, 10, 0)], [f"2 {MIXED}"], visible=10_000),
    "somebody stopped it": Row([stopped(starting(100), "UserInitiated", "cleanup.sh", 60)], [f"1 {MIXED}"]),
    "it found no capacity": Row([stopped(starting(100), "TaskFailedToStart", SHORTAGE, 60)], [f"1 {MIXED}"]),
    "a comparison of the buckets failed": Row([not_pulled(200, by="sync-reconcile")], [f"1 {MIXED}"]),
    # A worker that ended with exit status 3 could sync no key for ten minutes.
    "an outage": Row([ended(700, 10, 3)], [], says=f"{OUTAGE}; the next one is started in 50 s"),
    "Spot took it back in an outage": Row(
        [stopped(running(700), "SpotInterruption", EXITED, 10, 3)], [], says="outage: .* in 50 s"
    ),
    "the pause is as long as it goes wrong": Row([ended(1500, 810, 3), ended(740, 10, 3)], [], says="in 790 s"),
    "but a quarter of an hour at most": Row([ended(3000, 2300, 3), ended(720, 10, 3)], [], says="in 890 s"),
    "what went well before does not count": Row([ended(3000, 2900, 0), ended(700, 10, 3)], [], says="in 50 s"),
    "after the pause one is tried": Row(
        [ended(800, 70, 3), ended(800, 70, 3)], [f"1 {MIXED}"], says=NEXT, visible=10_000
    ),
    "and no second one beside it": Row([ended(1300, 600, 3), running(500)], [], visible=10_000),
    "it has run for eleven minutes": Row([ended(1900, 1200, 3), running(800)], [f"1 {MIXED}"], visible=10_000),
    "it found nothing to do any more": Row([ended(1900, 1200, 3), ended(500, 20, 0)], [f"2 {MIXED}"], visible=10_000),
    "Spot took it back too soon to tell": Row(
        [ended(2000, 1200, 3), stopped(running(300), "SpotInterruption", "", 60, 0)],
        [f"1 {MIXED}"],
        says=OUTAGE,
        visible=10_000,
    ),
    # Workers that stay.
    "two are to stay": Row([], [f"2 {STAY}"], settings=least(2, 3), visible=0),
    "one, and messages for three": Row([], [f"1 {STAY}", f"2 {MIXED}"], settings=least(1, 5), visible=25),
    "one stays, and takes messages": Row([staying(revision=0)], [], settings=least(1), visible=10),
    "one does not stay": Row([running()], [f"1 {STAY}"], settings=least(1), visible=0),
    "one drains": Row(
        [stopped(staying(), "SpotInterruption", "Your Spot Task was interrupted.")], [f"1 {STAY}"], settings=least(1)
    ),
    "one waits for Spot": Row(
        [starting(301, stays=True)], [f"1 {STAY_ON_DEMAND}"], [GAVE_UP], settings=least(1), visible=0
    ),
    "two stay, one has not started": Row(
        [staying(revision=0), starting(stays=True)], [], [SURPLUS], settings=least(1), visible=0
    ),
    "none is to stay any more": Row([staying()], [], [SURPLUS], visible=0),
    "one too many may not be stopped": Row(
        [staying(revision=0), staying(revision=0)],
        [],
        says="AccessDenied",
        settings=least(1),
        visible=0,
        plan={"refusals": [Span(0, how="StopTask")]},
    ),
    "a deployment": Row([staying(revision=0)], [f"1 {STAY}"], settings=least(1), **WAITED),
    "the new one is starting": Row(
        [staying(revision=0), starting(stays=True, revision=1)], [], settings=least(1), **WAITED
    ),
    "the new one may yet fail at once": Row([staying(revision=0), staying(100)], [], settings=least(1), **WAITED),
    "the new one has got going": Row([staying(revision=0), staying(106)], [], [REPLACED], settings=least(1), **WAITED),
    "one that does not stay ends by itself": Row([running(), staying()], [], settings=least(1), **WAITED),
    "a deployment with room for two more": Row(
        [staying(revision=0) for _ in range(4)], [f"2 {STAY}"], settings=least(4, 6), **WAITED
    ),
    "a deployment without room": Row([staying(revision=0)], [f"1 {STAY}"], settings=least(1, 1), **WAITED),
    "it goes on though another works": Row(
        [staying(revision=0), staying(revision=0), staying(106), running()],
        [f"1 {STAY}"],
        [REPLACED],
        settings=least(3, 3),
        **WAITED,
    ),
    "but not with two above MAX_WORKERS": Row(
        [staying(revision=0), staying(revision=0), staying(106), running()],
        [],
        [REPLACED],
        settings=least(2, 2),
        **WAITED,
    ),
    "a second deployment": Row(
        [staying(revision=0), staying(100, revision=1)],
        [f"1 {STAY}"],
        [SURPLUS],
        settings=least(1),
        visible=0,
        plan={"deploys": [0.0, 0.0]},
    ),
    "the new one does not work": Row(
        [staying(3000, revision=0), not_pulled(200, stays=True), not_pulled(50, stays=True)],
        [],
        says="next one is started in",
        settings=least(1),
        **WAITED,
    ),
    "after failures one is tried alone": Row(
        [not_pulled(1000, stays=True)] * 2, [f"1 {STAY}"], says=NEXT, settings=least(2), visible=0
    ),
    "one is on demand for an hour": Row([staying(3700, spot=False)], [f"1 {STAY}"], settings=least(1), **WAITED),
    "not yet": Row([staying(3500, spot=False)], [], settings=least(1), **WAITED),
    "its successor on Spot has got going": Row(
        [staying(4000, spot=False), staying(106)], [], [ON_SPOT], settings=least(1), **WAITED
    ),
    "Spot has no room for its successor": Row(
        [staying(4000, spot=False)],
        [f"1 {STAY}"],
        settings=least(1),
        visible=0,
        plan={"deploys": [0.0], "no_spot": ALWAYS},
    ),
    "its successor is refused": Row(
        [staying(4000, spot=False)],
        [f"1 {STAY}"],
        says="AccessDenied",
        settings=least(1),
        visible=0,
        plan={"deploys": [0.0], "refusals": [Span(0, how="RunTask")]},
    ),
    "Spot is short": Row(
        [staying(4000, spot=False), stopped(starting(700, stays=True), "UserInitiated", GAVE_UP, 400)],
        [],
        settings=least(1),
        **WAITED,
    ),
}


@pytest.mark.parametrize("name", MOMENTS)
def test_a_moment_comes_to(name: str) -> None:
    row = MOMENTS[name]
    starter = Starter(moment(row.visible, 0, *row.tasks, **row.plan), **row.settings)
    report, error = starter.run()
    assert requests_of(starter) == row.asks
    assert sorted(reason for _, reason, _ in starter.world.stops) == sorted(row.stops)
    assert bool(re.search(row.says, error)) and bool(row.says) == bool(error), error
    assert bool(report["trial"]) == (name in ("and no second one beside it",))


def test_the_report_is_one_line_of_the_log() -> None:
    starter = Starter(moment(12, 4, running()))
    numbers = {"visible": 12, "in_flight": 4, "running": 1, "wanted": 2, "started": {"FARGATE_SPOT": 1}, "stopped": 0}
    report = numbers | {"failures": [], "failing": "", "trial": ""}
    assert starter.run() == (report, "")
    assert [json.loads(line) for line in starter.printed.splitlines() if "guard is off" not in line] == [report]
    to_stay = Starter(moment(1), MIN_WORKERS="1").run()[0]
    assert (to_stay["staying"], to_stay["started_to_stay"]) == (0, 1)


@pytest.mark.parametrize(("groups", "ip", "sent"), [("", "ENABLED", []), ("sg-1,sg-2", "DISABLED", ["sg-1", "sg-2"])])
def test_a_worker_is_started_in_the_network_that_is_set(groups: str, ip: str, sent: list[str]) -> None:
    starter = Starter(moment(1), SECURITY_GROUPS=groups, ASSIGN_PUBLIC_IP=ip)
    starter.run()
    (request,) = (request for operation, request in starter.world.asked if operation == "RunTask")
    network = {"subnets": SETTINGS["SUBNETS"].split(","), "securityGroups": sent, "assignPublicIp": ip}
    assert request["networkConfiguration"] == {"awsvpcConfiguration": network}


# What ECS refuses.

QUOTA = "You've reached the limit on the number of vCPUs you can run concurrently"
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"no_spot": ALWAYS}, ""),
    ({"no_spot": ALWAYS, "no_demand": ALWAYS}, ""),  # left to the next run
    ({"no_spot": Span(0, how=QUOTA)}, ""),
    ({"no_spot": Span(0, how=QUOTA), "no_demand": ALWAYS}, QUOTA),  # only if workers are missing
    ({"no_spot": Span(0, how="MISSING the revision is gone")}, "sync-task were not started: MISSING the revision"),
    ({"refusals": [Span(0, how="RunTask")]}, "AccessDenied"),
]


@pytest.mark.parametrize(("plan", "says"), REFUSED)
def test_what_ecs_refuses_is_in_the_report_and_fails_the_run_unless_others_use_the_capacity(
    plan: dict[str, Any], says: str
) -> None:
    starter = Starter(moment(1, **plan))
    report, error = starter.run()
    assert report["failures"]
    assert says in error and bool(says) == bool(error)
    assert error.count("AccessDenied") <= 1  # of both strategies


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
    described = [len(request["tasks"]) for operation, request in starter.world.asked if operation == "DescribeTasks"]
    assert (sum(described), max(described)) == (530, 100)


def test_stops_of_a_hundred_at_most_are_asked_for_in_one_run() -> None:
    starter = Starter(moment(0, 0, *(running(stays=True) for _ in range(150))))
    starter.run()
    assert len(starter.world.stops) == 100


class MayNotTag(Client):
    def run_task(self, **request: Any) -> dict[str, Any]:
        if "propagateTags" in request:
            self.asked("RunTask", request)
            why = "no identity-based policy allows the ecs:TagResource action"
            raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": why}}, "RunTask")
        return super().run_task(**request)


def test_tasks_have_tags_if_the_role_may_tag_and_the_log_says_once_if_it_may_not() -> None:
    plan = {"no_spot": ALWAYS}
    starter = Starter(moment(11, **plan), TAG_TASKS="true")
    starter.run()
    assert [request.get("propagateTags") for operation, request in starter.world.asked if operation == "RunTask"] == [
        "TASK_DEFINITION"
    ] * 2
    world = moment(11, **plan)
    starter = Starter(world, client=MayNotTag(world), TAG_TASKS="true")
    assert starter.run()[0]["started"] == {"FARGATE": 2}
    assert starter.printed.count("tasks are started without tags: ") == 1
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


@pytest.mark.parametrize(
    ("begun_by", "visible", "wanted"),
    [
        (event(1), 0, 1),  # it is in no count yet
        (event(19), 0, 1),
        (event(21), 0, 0),  # about a message that is done with
        (event(59), 1, 1),
        (event(1), 11, 2),
        ({"source": "aws.s3"}, 0, 1),
        (MINUTES_EVENT, 0, 0),
    ],
)
def test_an_event_is_a_message(begun_by: dict[str, Any], visible: int, wanted: int) -> None:
    starter = Starter(moment(visible))
    report = starter.run(begun_by)[0]
    assert (report["wanted"], report["started"]) == (wanted, {"FARGATE_SPOT": wanted} if wanted else {})
    assert report.get("event", False) == (begun_by["source"] == "aws.s3")
    if not wanted:
        assert operations_of(starter) == ["ListTasks", "GetQueueAttributes"]


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
