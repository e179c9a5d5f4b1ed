"""Worlds in which work is lost, and healthy ones: workers die while they hold messages, and alarms are to say so.

Here each message has its age and its receives, so that it returns after its visibility timeout and ends in the
dead-letter queue. The alarms that asked_for.py asks for judge the metrics as CloudWatch does (cloudwatch.py).
test_losing_worlds.py says which alarm has to come, and after how long.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from asked_for import Asked
from botocore.exceptions import ClientError, ConnectTimeoutError
from cloudwatch import ALARM, NO_DATA, Alarm, mails, states
from paper_account import Given, PaperAccount, Refused
from starter_worlds import (
    DAY,
    EXITED,
    HELD,
    HOUR,
    IDLE,
    MINUTE,
    OPERATIONS,
    OUT_OF_MEMORY,
    STEP,
    VISIBILITY,
    Plan,
    Run,
    Span,
    Starter,
    World,
)

MAX_RECEIVES = 3
# How work is lost: workers die of memory or of one message, or never start; Spot takes each at once; no worker works.
DEATHS = ("memory", "poison", "image", "role", "assume", "outage")
SILENT, NO_PROVIDER, TAKEN, DENIED = "silent", "no provider", "taken", "denied"
FAULTS = (*DEATHS, "memory", "poison", SILENT, NO_PROVIDER, TAKEN, DENIED)
NOT_ASSOCIATED = (
    "The specified capacity provider strategy cannot contain a capacity provider that is not associated with the "
    "cluster. Associate the capacity provider with the cluster or specify a valid capacity provider and try again."
)
REASONS = {
    "image": "CannotPullContainerError: pull image manifest has been retried 1 time(s): not found",
    "assume": "ECS was unable to assume the role 'arn:aws:iam::111122223333:role/sync-execution' that was provided",
}


@dataclass(eq=False)
class Messages:
    """Some that were sent together, and what has happened to them."""

    sent: float
    count: int
    poisoned: bool = False  # it kills the worker that holds it
    receives: int = 0


@dataclass
class Fault:
    """What goes wrong in a world, in which span, or nothing."""

    how: str = ""
    span: Span = field(default_factory=Span)
    life: tuple[float, float] = (700, 1500)  # seconds that a worker lives for, of which it holds messages at the end
    poisoned: Sequence[float] = ()  # when such messages come
    passing: float = math.inf  # when one call of AWS goes wrong
    crash: float = math.inf  # when a worker is killed, once
    operation: str = "RunTask"  # that is denied, or goes wrong in passing


@dataclass
class LosingWorld(World):
    """A world that knows each message by itself."""

    fault: Fault = field(default_factory=Fault)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.arriving = []
        self.queue: list[Messages] = []
        self.coming = sorted(
            [Messages(at, count) for at, count in self.plan.arrivals]
            + [Messages(at, 1, poisoned=True) for at in self.fault.poisoned],
            key=lambda one: -one.sent,
        )
        self.back: list[tuple[float, Messages]] = []
        self.held: dict[Run, list[tuple[float, Messages]]] = {}  # task -> when it was received, which
        self.done: dict[Run, int] = {}
        self.dead_letters = 0
        self.moved_at = 0.0  # when last a worker held a message, which may be large, or there was none
        self.busy_at = 0.0  # when last a message was there
        self.deaths: list[Run] = []  # since a later worker has worked
        self.refused_at: list[float] = []  # starts on Spot, because the cluster has none
        self.values: dict[str, list[tuple[float, float]]] = {name: [] for name in METRICS}

    # --- its messages and workers -------------------------------------------------------------------------------------

    def counts(self) -> tuple[int, int]:
        held = [one for ones in self.held.values() for _, one in ones]
        return sum(one.count for one in self.queue), sum(one.count for one in [*held, *(one for _, one in self.back)])

    def undone(self) -> Iterator[Messages]:
        yield from self.queue
        yield from (one for _, one in self.back)
        yield from (one for ones in self.held.values() for _, one in ones)

    def pass_time(self, seconds: float | str) -> None:
        until = self.now + float(seconds)
        while self.now < until:
            self.now = min(until, (self.now // STEP + 1) * STEP)
            while self.coming and self.coming[-1].sent <= self.now:
                self.queue.append(self.coming.pop())
            self.queue += [one for at, one in self.back if at <= self.now]
            self.back = [(at, one) for at, one in self.back if at > self.now]
            for task in [task for task in self.workers() if task in self.held or task.runs(self.now)]:
                self.work(task)
            self.note_metrics()

    def note_metrics(self) -> None:
        is_held = any(self.held.values())
        if self.queue or self.back or is_held:
            self.busy_at = self.now
        if self.busy_at < self.now or (is_held and any(self.held.get(task) for task in self.live())):
            self.moved_at = self.now
        if self.now % MINUTE == 0:
            oldest = min((one.sent for one in self.undone()), default=self.now)
            self.told_before, self.told = self.told, self.counts()
            self.values["behind"].append((self.now, self.now - oldest))
            self.values["dead-letters"].append((self.now, self.dead_letters))

    def work(self, task: Run) -> None:
        if task.ends <= self.now:
            self.give_back(task)
            return
        if task.dies:
            return
        held = self.held.setdefault(task, [])
        room = HELD - sum(one.count for _, one in held)
        while self.queue and room > 0:
            room -= self.receive(held, room)
        task.idle = 0 if held else task.idle + STEP
        self.finish(task, held)
        if self.is_killed(task, held):
            self.end(task, self.now, ("EssentialContainerExited", OUT_OF_MEMORY, 137))
            self.give_back(task)
        elif task.idle >= IDLE and not task.stays:
            self.end(task, self.now, ("EssentialContainerExited", EXITED, 0))
            self.give_back(task)

    def receive(self, held: list[tuple[float, Messages]], room: int) -> int:
        """Returns how many were received. What has been received too often goes to the dead-letter queue instead."""
        found = self.queue.pop(0)
        if found.receives >= MAX_RECEIVES:
            self.dead_letters += found.count
            return 0
        if found.count > room:
            self.queue.insert(0, replace(found, count=found.count - room))
            found.count = room
        found.receives += 1
        held.append((self.now, found))
        return found.count

    def finish(self, task: Run, held: list[tuple[float, Messages]]) -> None:
        left = self.plan.speed
        for at, one in [*held]:
            if one.poisoned or not left or at == self.now:  # a copy takes a moment
                continue
            some = min(left, one.count)
            one.count -= some
            left -= some
            if not one.count:
                held.remove((at, one))
        if left < self.plan.speed:
            self.done[task] = self.done.get(task, 0) + self.plan.speed - left

    def is_killed(self, task: Run, held: list[tuple[float, Messages]]) -> bool:
        if self.fault.crash <= self.now and self.now - task.starts > MINUTE:
            self.fault.crash = math.inf
            return True
        if not self.fault.span.holds(self.now):
            return False
        life = random.Random(task.arn).uniform(*self.fault.life)
        if self.fault.how == "memory":
            return bool(held or self.done.get(task)) and self.now - task.starts >= life
        return any(one.poisoned and self.now - at >= life for at, one in held)

    def give_back(self, task: Run) -> None:
        """What it held comes back: at once, or, if it was killed, after the visibility timeout."""
        after = VISIBILITY if task.end[2] == 137 else STEP
        self.back += [(task.ends + after, one) for _, one in self.held.pop(task, [])]
        if task.failed:
            is_next = self.deaths and task.ends - self.deaths[-1].ends < HOUR
            self.deaths = [*(self.deaths if is_next else []), task]
        elif task.end[2] == 0 and self.done.get(task) and self.is_later(task):
            self.deaths = []

    def is_later(self, task: Run) -> bool:
        return all(task.created > other.created for other in self.deaths)

    def settle(self, task: Run, starts: float) -> None:
        how, chance = self.fault.how, self.chance
        task.pulls, task.starts = starts - 15, starts
        if not self.fault.span.holds(self.now):
            return
        if how in REASONS:
            task.starts, task.dies = math.inf, True
            self.end(task, starts, ("TaskFailedToStart", REASONS[how], None))
        elif how in ("role", "outage"):
            code, life = (1, chance.uniform(3, 200)) if how == "role" else (3, 600)
            task.dies = True
            self.end(task, starts + life, ("EssentialContainerExited", EXITED, code))
            self.values["outage"] += [(starts + at, 1) for at in (300, 600)] if how == "outage" else []
        elif how == TAKEN and task.spot:
            task.dies = True
            end = "SpotInterruption", "Your Spot Task was interrupted.", 0
            self.end(task, starts + chance.uniform(5, 20), end, drains=90)

    def end(self, task: Run, at: float, end: tuple[str, str, int | None], drains: float = 5) -> None:
        super().end(task, at, end, drains)
        self.held.setdefault(task, [])

    # --- what it answers ----------------------------------------------------------------------------------------------

    def refuse(self, operation: str, why: str = "no") -> None:
        fault = self.fault
        if fault.how == DENIED and fault.span.holds(self.now) and operation == fault.operation:
            raise Refused("AccessDeniedException", why)
        if operation == fault.operation and fault.passing <= self.now:
            fault.passing = math.inf
            raise ConnectTimeoutError(endpoint_url="aws")

    def sqs_get_queue_attributes(self, given: Given) -> Any:
        """The counts of now, or of a minute or two ago."""
        counts = self.chance.choice([self.told_before, self.counts(), self.counts()])
        return {"Attributes": dict(zip(given["AttributeNames"], map(str, counts), strict=True))}

    def ecs_run_task(self, given: Given) -> Any:
        providers = [item["capacityProvider"] for item in given["capacityProviderStrategy"]]
        lost = self.fault.how == NO_PROVIDER and self.fault.span.holds(self.now)
        if lost and "FARGATE_SPOT" in providers:
            self.refused_at.append(self.now)
            raise Refused("InvalidParameterException", NOT_ASSOCIATED)
        return super().ecs_run_task(given)

    # --- what is lost -------------------------------------------------------------------------------------------------

    def lost_since(self) -> float:
        """Since when work is lost: nothing is done though messages wait, or one worker after another dies."""
        if self.now - self.busy_at > 5 * MINUTE:
            self.deaths = []
        works = [task for task in self.live() if self.done.get(task) and self.is_later(task)]
        longest = max((task.ends - task.starts for task in self.deaths if task.starts < math.inf), default=0)
        if any(self.now - task.starts > 2 * longest for task in works):
            self.deaths = []
        dying = self.deaths[0].ends if len(self.deaths) > 1 else math.inf
        stalled = self.moved_at if self.now - self.moved_at >= MINUTE else math.inf
        return min(dying, stalled)


# --- the alarms -------------------------------------------------------------------------------------------------------

METRICS = ("dead-letters", "behind", "starter-fails", "starter-silent", "outage")
BAD = dict.fromkeys(METRICS, ALARM) | {"starter-silent": NO_DATA}


def alarms_of(rate: int) -> dict[str, Alarm]:
    """Those of a deployment that runs the starter every `rate` seconds."""
    asked = dict(Asked(PaperAccount(), {"LAMBDA_POLL_RATE": str(rate // MINUTE)}).watched())

    def of(name: str, **more: Any) -> Alarm:
        *_, threshold, (seconds, count, enough) = asked[name]
        return Alarm(seconds, count, enough, lambda value: value > threshold, **more)

    silent = of("starter-silent", merge=sum, missing=True)._replace(breaches=lambda value: value < 1)
    fails = of("starter-fails", merge=sum)
    return {name: of(name) for name in METRICS} | {"starter-fails": fails, "starter-silent": silent}


def states_of(world: LosingWorld) -> dict[str, list[tuple[float, str]]]:
    alarms = alarms_of(world.plan.rate)
    return {name: [*states(world.values[name], alarms[name], world.plan.seconds)] for name in METRICS}


# --- a life in such a world ------------------------------------------------------------------------------------------


class Life:
    """Runs the starter through a world, and keeps since when work is lost, and which runs failed."""

    def __init__(self, number: int, plan: Plan, fault: Fault, colds: float = 0.01) -> None:
        self.world, self.plan, self.fault, self.colds = LosingWorld(number, plan, fault=fault), plan, fault, colds
        self.starter = Starter(self.world, MIN_WORKERS=str(plan.min_workers(0)))
        self.lost: list[tuple[float, float]] = []  # (now, since when)
        self.failed: list[tuple[float, str]] = []

    def play(self) -> None:
        world, chance = self.world, self.world.chance
        for at in range(0, int(self.plan.seconds), self.plan.rate):
            world.pass_time(at + chance.uniform(0, 5) - world.now)
            if chance.random() < self.colds:
                self.starter.begin_process()
            if self.fault.how != SILENT or not self.fault.span.holds(world.now):
                self.run()
            self.lost.append((world.now, world.lost_since()))
        world.pass_time(self.plan.seconds - world.now)
        self.states = states_of(world)
        self.mails = mails(self.states, BAD)

    def run(self) -> None:
        world = self.world
        self.starter.environment["MAX_WORKERS"] = str(self.plan.max_workers(world.now))
        try:
            report, error = self.starter.run()
            world.note(f"{report} {error}")
        except (ClientError, ConnectTimeoutError) as raised:
            error = repr(raised)
            world.note(error)
        self.failed += [(world.now, error)] if error else []
        world.values["starter-fails"].append((world.now, float(bool(error))))
        world.values["starter-silent"].append((world.now, 1))

    def untold(self) -> list[str]:
        """If work is lost for 30 minutes, an alarm comes within 30 more, or within three runs, whichever is longer."""
        patience = HOUR / 2 + max(HOUR / 2, 3 * self.plan.rate)
        bad = [(at, name) for name, found in self.states.items() for at, state in found if state == BAD[name]]
        refused = self.world.refused_at
        lost = [*self.lost, *((at, refused[0]) for at in refused)]
        return [
            f"at {now:.0f} s: lost since {since:.0f} s, and nobody was told"
            for now, since in lost
            if now - since > patience and not any(since <= at <= now for at, _ in bad)
        ]


def draw_rate(chance: random.Random) -> int:
    return MINUTE * chance.choice([1, 1, 1, 2, 5, 15, 16, 30, 60, 61, 90, 240])


def draw_loss(number: int) -> tuple[Plan, Fault]:
    """Work that comes at any pace, and a fault of any kind from some moment on, or for a while; or none."""
    chance = random.Random(f"loss {number}")
    rate = DAY if number % 200 == 1 else draw_rate(chance)
    hours = 2.5 if rate <= 5 * MINUTE else 6 * rate / HOUR + 2
    until = hours * HOUR
    how = chance.choice(FAULTS) if number % 4 else ""
    every = chance.choice([7, 60, 240, 11 * MINUTE, 12 * MINUTE, 15 * MINUTE, 30 * MINUTE, 60 * MINUTE])
    every = max(every, rate // 60)
    first = chance.uniform(0, 20 * MINUTE)
    amount = chance.choice([1, 1, 1, 5, 100]) if every > MINUTE else 1
    arrivals = [(first + at, chance.randint(1, amount)) for at in range(0, int(until - first), every)]
    speed = max(chance.choice([1, 10, 200]), math.ceil(amount * STEP / every))  # one worker is enough
    life = chance.choice([(20.0, 60.0), (200.0, 400.0), (700.0, 1500.0)])
    begin = chance.choice([0.0, chance.uniform(0, HOUR / 2)])
    fault = Fault(how, Span(begin), life, operation=chance.choice(OPERATIONS[:5]))
    if how == "poison":
        fault.poisoned = [*range(int(begin), int(until), chance.choice([5, 10, 20]) * MINUTE)]
    if not how:
        some = chance.choice(["nothing", "passing", "crash"])
        fault.passing = chance.uniform(0, until) if some == "passing" else math.inf
        fault.crash = chance.uniform(0, until) if some == "crash" else math.inf
    short = Span(
        at := chance.uniform(0, until), at + chance.uniform(60, 900), chance.choice(["refuses", "waits", "stops"])
    )
    most = chance.choice([1, 2, 2, 5, 20])
    plan = Plan(
        seconds=until,
        rate=rate,
        most=most,
        limits=[(chance.uniform(0, until), chance.choice([1, 2, 5])) for _ in range(chance.choice([0, 0, 1]))],
        arrivals=arrivals,
        speed=speed,
        no_spot=short if chance.random() < 0.2 and how != TAKEN else Span(),
        pends=chance.choice([0, 0, 480]),
        undated=chance.random() < 0.3,
        late=(chance.choice([0, 3, 25]), chance.choice([0, 3, 40])),
        least=[(0.0, int(chance.random() < 0.15))],
    )
    return plan, fault
