"""Worlds for the starter: accounts on paper whose ECS and SQS have a clock of their own, for the real handler().

A number draws a world. In it ECS lists and describes late, answers in part, refuses, loses answers, has no room on Spot
or at all; tasks fail in each of the ways that a task can; Spot takes workers back, somebody deploys, pauses, changes
MIN_WORKERS. Every third world ends in calm. test_starter_worlds.py says what has to hold in all; the examples of
test_starter.py are moments of a world in which nothing else happens.
"""

from __future__ import annotations

import io
import json
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from botocore.exceptions import ReadTimeoutError
from call import Call
from paper_account import Client, Given, PaperAccount, Refused

import starter
from launch.calls import Aws

MINUTE, HOUR, DAY = 60, 3600, 86_400
BEGIN = 1_795_564_800.0  # midnight of a day, UTC
TASKS_ON_A_PAGE = 7
REMEMBERED = HOUR  # a stopped task is shown for about an hour
HELD = 502  # messages that a worker holds at most
IDLE = 60  # seconds until a worker ends
STEP = 15  # seconds of the model
VISIBILITY = 20 * MINUTE  # of the messages of a worker that was killed
WAYS = ("", "waits", "stops", "refuses")  # of a shortage
SHORTAGE = "Capacity is unavailable at this time. Please try again later or in a different availability zone"
EXITED, OUT_OF_MEMORY = "Essential container in task exited", "OutOfMemoryError: Container killed due to memory usage"
STAY = {"name": "EMPTY_POLLS_BEFORE_EXIT", "value": "0"}
WORKERS, AUDITS = "s3-to-s3express-sync-starter", "s3-to-s3express-sync-audit"
SETTINGS = {
    "QUEUE_URL": "https://sqs.eu-north-1.amazonaws.com/111122223333/sync-q",
    "CLUSTER": "sync-cluster",
    "TASK_DEFINITION": "sync-task",
    "SUBNETS": "subnet-0a1,subnet-0b2",
    "SECURITY_GROUPS": "sg-0c3",
}
OPERATIONS = ("ListTasks", "DescribeTasks", "RunTask", "StopTask", "GetQueueAttributes", "DescribeTaskDefinition")


class Span(NamedTuple):
    """Of seconds; `how` is what goes on in it."""

    begin: float = math.inf
    end: float = math.inf
    how: str = ""

    def holds(self, now: float) -> bool:
        return self.begin <= now < self.end


class Fate(NamedTuple):
    """How a task fails: after how many seconds, with which status; without one it never starts."""

    seconds: float
    code: int | None


NEVER = Fate(math.inf, None)  # it does not even start


class Plan(NamedTuple):
    """What happens in a world, in seconds since its beginning; by default, nothing."""

    seconds: float = DAY
    rate: int = MINUTE
    most: int = 2
    limits: Sequence[tuple[float, int]] = ()  # MAX_WORKERS from then on, in place of `most`
    least: Sequence[tuple[float, int]] = ((0.0, 0),)  # MIN_WORKERS from then on
    deploys: Sequence[float] = ()
    arrivals: Sequence[tuple[float, int]] = ()  # messages
    speed: int = 200  # messages that a worker works on in a step
    doom: Span = Span()
    fate: Fate = Fate(20, 1)
    others: Sequence[Fate | None] = ()  # of which some tasks have one instead; with None they work
    crashes: Sequence[float] = ()  # when a worker is killed
    no_spot: Span = Span()  # `how`: it "waits", "stops", "refuses" for want of room, or refuses with this reason
    no_demand: Span = Span()  # likewise, but no task waits or is stopped
    pends: float = 0  # seconds that a task on demand is pending for, at most
    undated: bool = False  # a task has no createdAt until it has a machine
    refusals: Sequence[Span] = ()  # `how`: of which operation
    interruptions: Sequence[float] = ()
    paused: Span = Span()
    late: tuple[float, float] = (0, 0)  # seconds until a task is listed, and until it can be described, at most
    loses: float = 0  # share of the answers of RunTask that are lost
    partial: float = 0  # share of them that start fewer
    bursts: Sequence[float] = ()  # events of the bucket
    audit_days: int = 0
    audits: Sequence[Fate] = (Fate(600, 0),)  # in turn; some end without an exit status, some never

    def min_workers(self, now: float) -> int:
        return min([least for at, least in self.least if at <= now][-1], self.max_workers(now))

    def max_workers(self, now: float) -> int:
        return [self.most, *(most for at, most in self.limits if at <= now)][-1]


def some(chance: random.Random, share: float, value: Callable[[], Any], otherwise: Any) -> Any:
    return value() if chance.random() < share else otherwise


def calm_after(rate: int) -> int:
    """How long the calm is at the end of a world."""
    return max(40 * MINUTE, 6 * rate)


def draw_fate(chance: random.Random) -> Fate:
    code = chance.choice([None, 1, 2, 3, 137, 137, 139])
    life = 600.0 if code == 3 else chance.choice([5, 20, 40, 55, 70, 120, 240, 400])
    return Fate(min(life, 240) if code is None else life, code)


def draw(number: int) -> Plan:
    chance = random.Random(number)
    rate = chance.choice([60, 60, 60, 120, 300])
    busy = chance.choice([25, 40, 50, 80]) * MINUTE
    if number % 4 == 1:  # some minutes, or so many that ECS forgets a task before the next run
        seldom = random.Random(f"seldom {number}")
        rate = seldom.choice([15, 20, 30, 60, 61, 61, 90]) * MINUTE
        busy = max(2 * busy, seldom.randint(3, 8) * rate)
    most = chance.choice([1, 2, 2, 2, 3, 5, 20])

    def span(longest: float) -> tuple[float, float]:
        at = chance.uniform(0, busy)
        return at, min(busy, at + chance.uniform(60, longest))

    def moments(count: int) -> list[float]:
        return sorted(chance.uniform(0, busy) for _ in range(count))

    stays = chance.random() < 0.5
    least = [(0.0, chance.randint(1, most) if stays else 0)]
    least += [(at, chance.randint(0, most)) for at in moments(chance.choice([0, 0, 1, 2]) if stays else 0)]
    if number % 5 == 0:  # MIN_WORKERS is raised while there is more than can be done
        stays, least = True, [(0.0, chance.randint(0, most)), (busy / 4, chance.randint(1, most))]
    doomed = chance.random() < 0.4
    begin = chance.choice([0.0, 0.0, chance.uniform(0, busy / 2)])
    fate = draw_fate(chance)
    bursts = moments(chance.choice([0, 0, 3]))
    every = chance.choice([20, 60, 300, 900])
    amount = chance.choice([1, 1, 9, 30, 200])
    arrivals = [(at, chance.randint(1, amount)) for at in range(0, int(busy), every)]
    if stays and (number % 5 == 0 or chance.random() < 0.3):  # more than can be done
        arrivals.insert(0, (0.0, 10**6))
    elif doomed or chance.random() < 0.3:
        arrivals.insert(0, (0.0, chance.choice([50, 510, 600, 1500])))
    later, of_crashes = random.Random(f"later {number}"), random.Random(f"crashes {number}")
    crashes = sorted(of_crashes.uniform(0, busy) for _ in range(of_crashes.choice([0, 0, 0, 0, 1, 2, 2, 3])))
    limits = sorted((later.uniform(0, busy), later.choice([1, 2, 5])) for _ in range(later.choice([0, 1, 2])))
    return Plan(
        seconds=busy + (0 if number % 3 else calm_after(rate)),
        rate=rate,
        most=most,
        least=least,
        deploys=moments(chance.choice([0, 1, 2, 3]) if stays else 0),
        arrivals=arrivals,
        speed=chance.choice([1, 10, 200]),
        doom=Span(begin, busy) if doomed else Span(),
        fate=fate,
        crashes=crashes,
        no_spot=some(chance, 0.25, lambda: Span(*span(busy), chance.choice(["refuses", "waits", "stops"])), Span()),
        no_demand=some(chance, 0.1, lambda: Span(*span(1200)), Span()),
        refusals=[Span(*span(400), chance.choice(OPERATIONS)) for _ in range(chance.choice([0, 0, 0, 1, 2]))],
        interruptions=moments(chance.choice([0, 0, 1, 3])),
        paused=some(chance, 0.05, lambda: Span(*span(1800)), Span()),
        late=(chance.choice([0, 3, 25]), chance.choice([0, 3, 40, 100])),
        loses=chance.choice([0, 0, 0.2]) if not bursts else 0,
        partial=chance.choice([0, 0, 0.2]),
        bursts=bursts,
        limits=limits,
        pends=later.choice([0, 0, 480]),
        undated=later.random() < 0.3,
        others=later.choice([(), (), (None,), (None, None), (draw_fate(later),)]),
    )


def draw_audits(number: int) -> Plan:
    """Three quiet days with an audit on each, on every second, or on one of seven."""
    chance = random.Random(number)
    refused = [Span(at := chance.uniform(0, 3 * DAY), at + chance.uniform(600, 4 * HOUR), chance.choice(OPERATIONS))]
    short = Span(at := DAY + 1.5 * HOUR, at + chance.uniform(0, 2 * HOUR))
    plan = draw(number)
    return Plan(
        seconds=3 * DAY,
        rate=chance.choice([600, 900]),
        most=plan.most,
        arrivals=[(float(at), 3) for at in range(HOUR, 3 * DAY, 6 * HOUR)],
        no_demand=some(chance, 0.3, lambda: short, Span()),
        refusals=some(chance, 0.3, lambda: refused, []),
        late=plan.late,
        loses=plan.loses,
        partial=plan.partial,
        bursts=plan.bursts,
        audit_days=chance.choice([1, 1, 2, 7]),
        audits=[
            *([Fate(90, 137)] * chance.choice([0, 0, 1])),  # which leaves time for others
            Fate(
                chance.choice([90, 600, 3 * HOUR, 23 * HOUR, 26 * HOUR, math.inf]),
                chance.choice([0, 0, 1, 2, 3, 137, None]),
            ),
        ],
    )


@dataclass(eq=False)
class Run:
    """A task. It is to run until `ends`, and gone at `gone`."""

    arn: str
    created: float
    spot: bool
    started_by: str
    stays: bool
    revision: int
    listed_at: float
    known_at: float
    pulls: float = math.inf
    starts: float = math.inf
    ends: float = math.inf
    gone: float = math.inf
    end: tuple[str, str, int | None] = ("", "", None)  # stop code, reason, exit status
    dies: bool = False  # it works on no message, and fails
    dated_at: float = 0.0  # from then on it has a createdAt
    held: int = 0
    idle: float = 0.0

    @property
    def dated(self) -> float:
        """Its createdAt."""
        return max(self.created, self.dated_at)

    @property
    def failed(self) -> bool:
        code, reason, status = self.end
        by_itself = code in ("EssentialContainerExited", "TaskFailedToStart") and SHORTAGE not in reason
        return by_itself and (self.starts == math.inf or status != 0)

    def is_live(self, now: float) -> bool:
        return now < self.ends

    def runs(self, now: float) -> bool:
        return self.starts <= now < self.ends

    def described(self, now: float) -> dict[str, Any]:
        times = {"createdAt": self.dated, "pullStartedAt": self.pulls, "startedAt": self.starts}
        times |= {"stoppingAt": self.ends, "executionStoppedAt": self.gone, "stoppedAt": self.gone}
        code, reason, status = self.end if now >= self.ends else ("", "", None)
        started = "RUNNING" if self.starts <= now else "PROVISIONING"
        return {
            "taskArn": self.arn,
            "startedBy": self.started_by,
            "capacityProviderName": "FARGATE_SPOT" if self.spot else "FARGATE",
            "taskDefinitionArn": f"arn:{self.revision}",
            "desiredStatus": "RUNNING" if self.is_live(now) else "STOPPED",
            "lastStatus": "STOPPED" if self.gone <= now else "STOPPING" if self.ends <= now else started,
            "overrides": {"containerOverrides": [{"name": "worker", "environment": [STAY] if self.stays else []}]},
            "containers": [self.described_container(reason, status, now)],
            **{name: datetime.fromtimestamp(BEGIN + at, UTC) for name, at in times.items() if at <= now},
            **({"stopCode": code, "stoppedReason": EXITED if reason == OUT_OF_MEMORY else reason} if code else {}),
        }

    def described_container(self, reason: str, status: int | None, now: float) -> dict[str, Any]:
        """Only here ECS says that the memory was used up."""
        why = {"reason": reason} if reason == OUT_OF_MEMORY else {}
        return {"name": "worker", **({"exitCode": status, **why} if status is not None and self.gone <= now else {})}


@dataclass
class World(PaperAccount):
    """The account on paper with a clock, on which messages come, and tasks start, work and end."""

    number: int
    plan: Plan
    now: float = 0.0
    visible: int = 0
    emptied_at: float = 0.0  # when a run last saw a message
    returning: list[tuple[float, int]] = field(default_factory=list)
    tasks: list[Run] = field(default_factory=list)
    was_clear: bool = True  # nothing was refused, lost or without room in this run
    told: tuple[int, int] = (0, 0)  # messages, in this run
    asks_demand: bool = False  # before Spot, in this run
    stops: list[tuple[Run, str, float]] = field(default_factory=list)
    asked: list[Call] = field(default_factory=list)
    diary: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.chance = random.Random(f"world {self.number}")
        self.arriving = list(reversed(self.plan.arrivals))
        self.interrupting = list(reversed(self.plan.interruptions))
        self.crashing = list(reversed(self.plan.crashes))
        self.told_before = (0, 0)

    def wall(self) -> float:
        return BEGIN + self.now

    def note(self, text: str) -> None:
        self.diary.append(f"{self.now:8.0f} s  {text}")

    def workers(self) -> Iterator[Run]:
        return (task for task in self.tasks if task.started_by == WORKERS)

    def live(self) -> list[Run]:
        return [task for task in self.workers() if task.is_live(self.now)]

    def revision(self) -> int:
        return sum(at <= self.now for at in self.plan.deploys)

    def counts(self) -> tuple[int, int]:
        held = sum(task.held for task in self.workers() if task.gone > self.now)
        return self.visible, held + sum(count for _, count in self.returning)

    def pass_time(self, seconds: float | str) -> None:
        until = self.now + float(seconds)
        there = [task for task in self.workers() if task.held or task.gone > self.now]
        while self.now < until:
            self.now = min(until, self.now + STEP)
            while self.arriving and self.arriving[-1][0] <= self.now:
                self.visible += self.arriving.pop()[1]
            self.visible += sum(count for at, count in self.returning if at <= self.now)
            self.returning = [(at, count) for at, count in self.returning if at > self.now]
            if self.interrupting and self.interrupting[-1] <= self.now:
                self.interrupting.pop()
                for task in self.live():
                    if task.spot and task.runs(self.now):
                        self.end(task, self.now, ("SpotInterruption", "Your Spot Task was interrupted.", 0), drains=90)
            for task in there:
                if task.held or task.starts <= self.now < task.ends:
                    self.work(task)

    def work(self, task: Run) -> None:
        if task.ends <= self.now:  # its messages come back: at once, unless it was killed
            killed = task.end[2] not in (0, 1, 3)
            self.returning.append((self.now + (VISIBILITY if killed else STEP), task.held))
            task.held = 0
            return
        if task.dies:
            return
        taken = min(self.visible, HELD - task.held)
        self.visible -= taken
        task.held = max(0, task.held + taken - self.plan.speed)
        task.idle = 0 if task.held or taken else task.idle + STEP
        if self.crashing and max(self.crashing[-1], task.starts + 2 * MINUTE) <= self.now:
            self.crashing.pop()
            self.end(task, self.now, ("EssentialContainerExited", OUT_OF_MEMORY, 137))
        elif task.idle >= IDLE and not task.stays:
            self.end(task, self.now, ("EssentialContainerExited", EXITED, 0))

    def end(self, task: Run, at: float, end: tuple[str, str, int | None], drains: float = 5) -> None:
        self.note(f"{task.arn} ends at {at:.0f} s: {end}")
        task.ends, task.gone, task.end = at, at + drains, end

    def begin(self, spot: bool, started_by: str, stays: bool) -> Run:
        """The task is made, and all that will happen to it by itself is settled."""
        listed, known = (self.chance.uniform(0, late) for late in self.plan.late)
        task = Run(
            f"arn:{len(self.tasks)}",
            self.now,
            spot,
            started_by,
            stays,
            self.revision(),
            self.now + listed,
            self.now + known,
        )
        self.tasks.append(task)
        self.note(f"{task.arn} is made: spot={spot} stays={stays} {started_by}")
        short = self.plan.no_spot
        starts = self.now + self.chance.uniform(25, 70)
        if self.plan.pends and not spot and started_by == WORKERS:
            starts += self.chance.uniform(0, self.plan.pends)
        if spot and short.holds(self.now) and short.how == "stops":
            self.end(task, self.now + 40, ("SpotInterruption", "no capacity", None))
            return task
        if spot and short.holds(self.now) and short.how == "waits":
            starts = short.end + 30
        self.settle(task, starts)
        if self.plan.undated:
            task.dated_at = task.pulls
        return task

    def settle(self, task: Run, starts: float) -> None:
        task.pulls, task.starts = starts - 15, starts
        if task.started_by == AUDITS:
            number = sum(other.started_by == AUDITS for other in self.tasks)
            fate = self.plan.audits[number % len(self.plan.audits)]
            task.starts = math.inf if fate == NEVER else starts
            self.end(task, starts + fate.seconds, ("EssentialContainerExited", EXITED, fate.code), drains=120)
            return
        if not self.plan.doom.holds(self.now):
            return

        others = self.plan.others
        fate = self.chance.choice([self.plan.fate, *others]) if others else self.plan.fate
        if not fate:
            return
        task.dies = True
        seconds = fate.seconds * (self.chance.uniform(0.7, 1.3) if fate.code not in (3, None) else 1)
        if fate.code is None:
            task.starts = math.inf
            self.end(task, starts + seconds, ("TaskFailedToStart", "CannotPullContainerError: no", None))
        else:
            self.end(task, starts + seconds, ("EssentialContainerExited", EXITED, fate.code))

    # --- what it answers ----------------------------------------------------------------------------------------------

    def answer(self, call: Call) -> Any:
        """Made for each call: nothing of it is kept."""
        return self.found(call)

    def authorize(self, call: Call) -> None:
        self.refuse(call.operation)
        if "propagateTags" in call.parameters:
            self.refuse("TagResource", "no identity-based policy allows the ecs:TagResource action")

    def refuse(self, operation: str, why: str = "no") -> None:
        if any(span.holds(self.now) and span.how == operation for span in self.plan.refusals):
            self.was_clear = False
            raise Refused("AccessDeniedException", why)

    def sqs_get_queue_attributes(self, _given: Given) -> Any:
        """The counts of now, or of the run before."""
        counts = self.counts()
        self.told = found = self.chance.choice([self.told_before, counts, counts])
        self.told_before, self.emptied_at = counts, self.now if sum(counts) else self.emptied_at
        names = "ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"
        return {"Attributes": dict(zip(names, map(str, found), strict=True))}

    def ecs_list_tasks(self, given: Given) -> Any:
        """In pages, of which the last may be empty."""
        if "startedBy" in given:
            assert given.keys() - {"nextToken"} == {"cluster", "startedBy"}
            ours = [task for task in self.tasks if task.started_by == given["startedBy"]]
            found = [task for task in ours if self.now < task.ends + self.plan.late[0] / 3]  # "recently stopped", too
        else:
            found = [task for task in self.tasks if task.ends <= self.now < task.gone + REMEMBERED]
        arns, first = [task.arn for task in found if task.listed_at <= self.now], int(given.get("nextToken", 0))
        more = {"nextToken": str(first + TASKS_ON_A_PAGE)} if len(arns) >= first + TASKS_ON_A_PAGE else {}
        return {"taskArns": arns[first : first + TASKS_ON_A_PAGE]} | more

    def ecs_describe_tasks(self, given: Given) -> Any:
        now, wanted = self.now, set(given["tasks"])
        assert 0 < len(given["tasks"]) <= 100
        found = [task for task in self.tasks if task.arn in wanted and task.known_at <= now < task.gone + REMEMBERED]
        return {"tasks": [task.described(now) for task in found]}

    def ecs_run_task(self, given: Given) -> Any:
        plan, count, (first, *_) = self.plan, given["count"], given["capacityProviderStrategy"]
        assert 0 < count <= 10
        spot, started_by = first["capacityProvider"] == "FARGATE_SPOT", given["startedBy"]
        shortage = plan.no_spot if spot else plan.no_demand
        short = shortage.holds(self.now) and not (spot and shortage.how in ("waits", "stops"))
        room = 0 if short else self.chance.randint(0, count) if self.chance.random() < plan.partial else count
        self.asks_demand |= not spot and started_by == WORKERS and self.was_clear
        stays = any("environment" in changes for changes in given.get("overrides", {}).get("containerOverrides", []))
        made = [self.begin(spot, started_by, stays) for _ in range(room)]
        self.was_clear &= room == count
        if self.chance.random() < plan.loses:
            self.was_clear = False
            raise ReadTimeoutError(endpoint_url="ecs")
        failures = [{"reason": SHORTAGE if shortage.how in WAYS else shortage.how}] * (count - room)
        return {"tasks": [task.described(self.now) for task in made], "failures": failures}

    def ecs_stop_task(self, given: Given) -> Any:
        (found,) = (one for one in self.tasks if one.arn == given["task"])
        if found.is_live(self.now):
            self.stops.append((found, given["reason"], self.now))
            end = "UserInitiated", given["reason"], 0 if found.starts <= self.now else None
            self.end(found, self.now, end, drains=30)
            found.pulls, found.starts = (at if at <= self.now else math.inf for at in (found.pulls, found.starts))

    def ecs_describe_task_definition(self, _given: Given) -> Any:
        return {"taskDefinition": {"taskDefinitionArn": f"arn:{self.revision()}"}}


def event(age: float = 1, at: float = 12 * HOUR) -> dict[str, Any]:
    """As EventBridge sends it (S3 User Guide, "EventBridge event message structure")."""
    time = datetime.fromtimestamp(BEGIN + at - age, UTC).isoformat().replace("+00:00", "Z")
    return {"version": "0", "detail-type": "Object Created", "source": "aws.s3", "time": time, "detail": {}}


MINUTES_EVENT = {"source": "aws.events", "detail-type": "Scheduled Event", "time": "2026-11-25T12:00:00Z", "detail": {}}


class Starter:
    """The function in a world: a process of it, until another one is begun."""

    def __init__(self, world: World, copier: Any = None, **settings: str) -> None:
        self.world, self.copier = world, copier
        self.environment = SETTINGS | {
            "MAX_WORKERS": str(world.plan.most),
            "LAMBDA_POLL_RATE": str(world.plan.rate // MINUTE),
            **settings,
        }
        self.printed = ""
        self.begin_process()

    def begin_process(self) -> None:
        sqs, ecs = (Client(self.world, service, self.world.asked) for service in ("sqs", "ecs"))
        aws = Aws(sqs, ecs, self.world.wall)
        self.process = starter.Process(aws, self.environment, self.copier)

    def sent(self, operation: str) -> list[dict[str, Any]]:
        return [call.parameters for call in self.world.asked if call.operation == operation]

    def run(self, event: Mapping[str, Any] | None = None, context: Any = None) -> tuple[dict[str, Any], str]:
        """(the line that it logs, what it fails with)."""
        out, error = io.StringIO(), ""
        try:
            with redirect_stdout(out):
                starter.handler(event or MINUTES_EVENT, context, self.process)
        except RuntimeError as raised:
            error = str(raised)
        self.printed = out.getvalue()
        (report,) = (json.loads(line) for line in self.printed.splitlines() if line.startswith("{"))
        return report, error
