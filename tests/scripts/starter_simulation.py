"""A day of the starter: decide() of launch/decision.py with simulated messages and workers, beside simpler rules.

Run it: python tests/scripts/starter_simulation.py. It prints the table; test_starter_troubles.py asserts what matters.
Lag is from the event to the copy, without the seconds of the copy itself. A worker is idle while it starts, and while
it holds nothing.
"""

from __future__ import annotations

import heapq
import math
import random
import sys
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[2]))

from launch.decision import Decision, decide
from launch.tasks import OUTAGE_STATUS, Task

DAY, HOUR, MINUTE = 86_400, 3_600, 60
SETTINGS = {"MAX_WORKERS": 2, "MIN_WORKERS": 0, "MESSAGES_PER_WORKER": 10, "MAX_CONCURRENT_KEYS": 256, "PROCESSES": 1}
VISIBILITY_TIMEOUT = 7_200
START_SECONDS = 45  # docs/performance.md: the start of a task takes 30 to 60 s
IDLE_SECONDS = 60  # EMPTY_POLLS_BEFORE_EXIT times WAIT_TIME_SECONDS
RECEIVED_A_SECOND = 1_000
SMALL_HELD, MOST_HELD = 2 * 256 - 10, 4 * 256  # has_room() of mirror/queue/scheduler.py, one process
LONG_SECONDS = 10  # a copy of this many seconds has given its slot back
OUTAGE_LIMIT = 600  # a worker that can sync no key for so long hands back all and ends (mirror/queue/outage.py)
REMEMBERED_SECONDS = HOUR  # ECS shows a stopped task for about an hour
FAIL_SECONDS = 20
HAND_BACK_SECONDS = 5  # SIGTERM to the messages of long copies being visible again


@dataclass(order=True)
class Message:
    sent: int
    seconds: float  # that its copy takes; less than one: this many of them fit into a second of one worker
    left: float = 0  # of those, after an interruption
    lag: int = -1  # from the event to the copy, without the seconds of the copy itself


class Scenario(NamedTuple):
    name: str
    messages: list[Message]
    killed_at: tuple[int, ...] = ()  # all workers die without a word
    interrupted_at: tuple[int, ...] = ()  # Spot takes all workers back
    outage: range = range(0)  # no key can be synced
    most: int = 2  # MAX_WORKERS
    least: tuple[tuple[int, int], ...] = ((0, 0),)  # from when on, MIN_WORKERS
    deployed_at: tuple[int, ...] = (0,)  # a new task definition
    broken: tuple[int, ...] = ()  # those with which a worker fails soon after its start

    def revision(self, now: int) -> int:
        return sum(at <= now for at in self.deployed_at)

    def min_workers(self, now: int) -> int:
        return [least for at, least in self.least if at <= now][-1]


@dataclass
class Worker:
    created: int
    held: list[tuple[int, Message]] = field(default_factory=list)  # heap by the end of the copy
    small: deque[Message] = field(default_factory=deque)
    long: int = 0
    last_work: int = 0
    in_outage: int = 0  # seconds
    stays: bool = False
    revision: int = 1

    @property
    def started(self) -> int:
        return self.created + START_SECONDS

    def has_room(self) -> bool:
        return len(self.small) + len(self.held) - self.long <= SMALL_HELD and self.holds() < MOST_HELD

    def holds(self) -> int:
        return len(self.small) + len(self.held)

    def as_task(self, now: int) -> Task:
        started = self.started if self.started <= now else None
        return Task(str(id(self)), self.created, started, stays=self.stays, revision=str(self.revision))

    def ended(self, now: int, exit_code: int) -> Task:
        code = "EssentialContainerExited"
        return self.as_task(now)._replace(ended=now, wanted=False, stop_code=code, exit_code=exit_code)


class Counts(NamedTuple):
    visible: int
    in_flight: int


Formula = Callable[[Counts, list[Task], int], int | Decision]


def count_everything(counts: Counts, tasks: list[Task], _now: int) -> int:
    """Release 1.0.0: messages in flight count, no matter who holds them."""
    wanted = math.ceil(sum(counts) / SETTINGS["MESSAGES_PER_WORKER"])
    return max(0, min(SETTINGS["MAX_WORKERS"], wanted) - len(running(tasks)))


def count_visible_beside(counts: Counts, tasks: list[Task], _now: int) -> int:
    """Whoever runs counts for nothing; a worker that is starting counts for its share."""
    tasks = running(tasks)
    starting = sum(task.started is None for task in tasks)
    wanted = len(tasks) - starting + max(starting, math.ceil(counts.visible / SETTINGS["MESSAGES_PER_WORKER"]))
    return max(0, min(SETTINGS["MAX_WORKERS"], wanted) - len(tasks))


def count_visible_only(counts: Counts, tasks: list[Task], _now: int) -> int:
    """Whoever runs counts for its share, full or not."""
    wanted = math.ceil(counts.visible / SETTINGS["MESSAGES_PER_WORKER"])
    return max(0, min(SETTINGS["MAX_WORKERS"], wanted) - len(running(tasks)))


def as_if_all_went_well(counts: Counts, tasks: list[Task], now: int) -> int:
    """How a task ended does not count."""
    return as_decided(counts, running(tasks), now)


def running(tasks: list[Task]) -> list[Task]:
    return [task for task in tasks if task.wanted]


def as_decided(counts: Counts, tasks: list[Task], now: int) -> int:
    return decide(*counts, tasks, now, SETTINGS).start if counts.visible else 0


def as_deployed(scenario: Scenario) -> Formula:
    """With MIN_WORKERS: what is to stay, and what is to stop."""

    def formula(counts: Counts, tasks: list[Task], now: int) -> Decision:
        settings = SETTINGS | {"MAX_WORKERS": scenario.most, "MIN_WORKERS": scenario.min_workers(now)}
        return decide(*counts, tasks, now, settings, str(scenario.revision(now)))

    return formula


FORMULAS: dict[str, Formula] = {
    "1.0.0": count_everything,
    "visible beside running": count_visible_beside,
    "visible only": count_visible_only,
    "starter.py": as_decided,
}
OUTAGE_FORMULAS: dict[str, Formula] = {"exit status not read": as_if_all_went_well, "starter.py": as_decided}


class Row(NamedTuple):
    """What a rule came to in a scenario."""

    scenario: str
    formula: str
    started: int
    idle_minutes: int
    lag_p50: int
    lag_max: int
    unfinished: int
    task_hours: float


class Day:
    """One second after the other. The starter counts before the workers receive: the worst case for its counts."""

    def __init__(self, scenario: Scenario, formula: Formula) -> None:
        self.scenario, self.formula = scenario, formula
        self.messages = [Message(message.sent, message.seconds, message.seconds) for message in scenario.messages]
        self.arriving = deque(sorted(self.messages))
        self.visible: deque[Message] = deque()
        self.returning: list[tuple[int, Message]] = []  # heap: messages nobody holds, by the end of their timeout
        self.workers: list[Worker] = []
        self.ended: list[Task] = []
        self.started = self.idle = self.ran = 0
        self.most_at_once = 0
        self.gaps: list[int] = [0]  # seconds in a row in which somebody should have been there to receive
        self.rolled: list[int] = []  # seconds from each deploy to the end of the last older worker that stays

    def run(self) -> None:
        for now in range(DAY):
            while self.arriving and self.arriving[0].sent <= now:
                self.visible.append(self.arriving.popleft())
            while self.returning and self.returning[0][0] <= now:
                self.visible.append(heapq.heappop(self.returning)[1])
            if now in self.scenario.killed_at:
                self.lose_workers(now, VISIBILITY_TIMEOUT)
            if now in self.scenario.interrupted_at:
                self.lose_workers(now, HAND_BACK_SECONDS)
            if now % MINUTE == 0:
                self.start(now)
            for worker in self.workers:
                self.work(worker, now)
            self.ran += len(self.workers)
            self.watch(now)
            self.end_workers(now)

    def start(self, now: int) -> None:
        in_flight = len(self.returning) + sum(worker.holds() for worker in self.workers)
        self.ended = [task for task in self.ended if now - (task.ended or now) < REMEMBERED_SECONDS]
        tasks = [worker.as_task(now) for worker in self.workers] + self.ended
        found = self.formula(Counts(len(self.visible), in_flight), tasks, now)
        decision = Decision(0, 0, found) if isinstance(found, int) else found
        for worker in [worker for worker in self.workers if str(id(worker)) in decision.stop]:
            self.hand_back(worker, now, HAND_BACK_SECONDS)
            self.ended.append(worker.ended(now, 0)._replace(stop_code="UserInitiated"))
            self.workers.remove(worker)
        for number in range(decision.start):
            new = Worker(now, last_work=now + START_SECONDS, revision=self.scenario.revision(now))
            new.stays = number < decision.stay
            self.workers.append(new)
        self.started += decision.start

    def watch(self, now: int) -> None:
        """What counts of a day with MIN_WORKERS."""
        self.most_at_once = max(self.most_at_once, len(self.workers))
        ready = [worker for worker in self.workers if worker.started <= now]
        if self.scenario.min_workers(now) and not ready:
            self.gaps[-1] += 1
        elif self.gaps[-1]:
            self.gaps.append(0)
        older = any(worker.stays and worker.revision < self.scenario.revision(now) for worker in self.workers)
        deploys = self.scenario.deployed_at
        if len(self.rolled) < self.scenario.revision(now) and not older:
            self.rolled.append(now - deploys[len(self.rolled)])

    def end_workers(self, now: int) -> None:
        """Those that are idle for long, and those that an outage lasts too long for."""
        for worker in list(self.workers):
            gave_up = worker.in_outage >= OUTAGE_LIMIT
            failed = worker.revision in self.scenario.broken and now - worker.started >= FAIL_SECONDS
            if gave_up:
                self.hand_back(worker, now, HAND_BACK_SECONDS)
            if gave_up or failed or (now - worker.last_work >= IDLE_SECONDS and not worker.stays):
                self.ended.append(worker.ended(now, OUTAGE_STATUS if gave_up else 2 * failed))
                self.workers.remove(worker)

    def lose_workers(self, now: int, seconds: int) -> None:
        for worker in self.workers:
            self.hand_back(worker, now, seconds)
        self.workers = []

    def hand_back(self, worker: Worker, now: int, seconds: int) -> None:
        """The parts of a long copy that are done stay done."""
        for end, message in [*worker.held, *((now, message) for message in worker.small)]:
            message.left = min(message.left, max(1, end - now))
            heapq.heappush(self.returning, (now + seconds, message))

    def work(self, worker: Worker, now: int) -> None:
        if worker.started > now:
            self.idle += 1
            return
        if now in self.scenario.outage and (self.visible or worker.holds()):
            self.meet_outage(worker, now)
            return
        worker.in_outage = 0
        while worker.held and worker.held[0][0] <= now:
            message = heapq.heappop(worker.held)[1]
            message.lag = now - message.sent - math.ceil(message.seconds)
            worker.long -= message.seconds >= LONG_SECONDS
        received = 0
        spent = 0.0
        while True:
            while self.visible and worker.has_room() and received < RECEIVED_A_SECOND:
                self.take(worker, self.visible.popleft(), now)
                received += 1
            if not worker.small or spent + worker.small[0].seconds > 1:
                break
            message = worker.small.popleft()
            message.lag = now - message.sent
            spent += message.seconds
        busy = received or worker.holds()
        worker.last_work = now if busy else worker.last_work
        self.idle += not busy

    def meet_outage(self, worker: Worker, now: int) -> None:
        """It holds what it received until it knew, and syncs nothing."""
        if not worker.in_outage and self.visible and worker.has_room():
            self.take(worker, self.visible.popleft(), now)
        worker.in_outage += 1
        worker.last_work = now
        self.idle += 1

    def take(self, worker: Worker, message: Message, now: int) -> None:
        if message.seconds < 1:
            worker.small.append(message)
            return
        worker.long += message.seconds >= LONG_SECONDS
        heapq.heappush(worker.held, (now + math.ceil(message.left), message))

    def row(self, formula: str) -> Row:
        lags = sorted(message.lag for message in self.messages if message.lag >= 0)
        unfinished = len(self.messages) - len(lags)
        middle, most = (lags[len(lags) // 2], lags[-1]) if lags else (0, 0)
        hours = round(self.ran / HOUR, 1)
        return Row(self.scenario.name, formula, self.started, round(self.idle / 60), middle, most, unfinished, hours)


def scenarios() -> Iterator[Scenario]:
    chance = random.Random(12)
    small = 1 / 1_000
    singles = [Message(chance.randrange(DAY - HOUR), 2) for _ in range(24)]
    yield Scenario("single files: 24 in a day", singles)
    yield Scenario("burst of 10,000 small ones", [Message(HOUR, small) for _ in range(10_000)])
    eleven = [Message(HOUR + second, 40 * MINUTE) for second in range(11)]
    yield Scenario("eleven copies of 40 minutes", eleven)
    held = [Message(HOUR, 10 * MINUTE) for _ in range(500)]
    yield Scenario("killed while it holds 500, then single files", held + singles, killed_at=(HOUR + 4 * MINUTE,))
    trickle = [Message(second, small) for second in range(HOUR, DAY - HOUR, 7)]
    yield Scenario("steady trickle: one in 7 s", trickle)
    hourly = tuple(HOUR * hour + chance.randrange(HOUR) for hour in range(24))
    long = [Message(HOUR + 20 * MINUTE * number, 40 * MINUTE) for number in range(60)]
    yield Scenario("long copies, Spot interrupts every hour", long, interrupted_at=hourly)
    full = [Message(HOUR + second, 5 * HOUR) for second in range(MOST_HELD)]
    yield Scenario("five small ones behind a full worker", full + [Message(2 * HOUR, small) for _ in range(5)])
    bursts = [Message(HOUR * hour + second, small) for hour in range(1, 23) for second in range(120)]
    yield Scenario("two minutes of one a second, every hour", bursts)


def outage_of_a_day() -> Scenario:
    """Nothing can be synced for 21 hours, of a folder of which a file changes every seven seconds."""
    changes = [Message(second, 1 / 1_000) for second in range(0, DAY - HOUR, 7)]
    return Scenario("outage from 1:00 to 22:00, one change in 7 s", changes, outage=range(HOUR, 22 * HOUR))


def days_of_staying() -> Iterator[Scenario]:
    """With MIN_WORKERS. Deploys and interruptions come at any second of the minute."""
    chance = random.Random(14)
    singles = [Message(chance.randrange(DAY - HOUR), 1 / 1_000) for _ in range(24)]
    one = ((0, 1),)
    yield Scenario("one stays, single files", singles, least=one)
    hourly = tuple(HOUR * hour + chance.randrange(HOUR) for hour in range(24))
    yield Scenario("one stays, Spot interrupts every hour", singles, interrupted_at=hourly, least=one)
    deploys = (0, *(HOUR * hour + chance.randrange(HOUR) for hour in range(1, 23)))
    yield Scenario("one stays, a deploy every hour", singles, least=one, deployed_at=deploys)
    yield Scenario("one stays, it is all of MAX_WORKERS, the same", singles, most=1, least=one, deployed_at=deploys)
    twice = (0, 6 * HOUR + 10, 6 * HOUR + 100)
    yield Scenario("one stays, two deploys within 90 s", singles, least=one, deployed_at=twice)
    ten = ((0, 10),)
    yield Scenario("ten stay of at most twelve, a deploy", singles, most=12, least=ten, deployed_at=(0, 6 * HOUR + 10))
    held = [Message(6 * HOUR, 40 * MINUTE) for _ in range(500)]
    busy = Scenario("one stays and holds 500 long copies, a deploy", held, least=one, deployed_at=(0, 6 * HOUR + 600))
    yield busy
    broken = (0, 6 * HOUR + 10)
    yield Scenario("one stays, a deploy that does not work", singles, least=one, deployed_at=broken, broken=(2,))
    lowered = ((0, 2), (8 * HOUR + 10, 1), (16 * HOUR + 10, 0))
    yield Scenario("two stay, from 8:00 one, from 16:00 none", singles, least=lowered)


def day_of(scenario: Scenario) -> Day:
    day = Day(scenario, as_deployed(scenario))
    day.run()
    return day


def print_days_of_staying() -> None:
    print(
        "| day with MIN_WORKERS | tasks started | task hours | most at once | longest gap after the first start (s)",
        end="",
    )
    print(" | longest roll-over (s) | lag p50 (s) | lag max (s) |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for scenario in days_of_staying():
        day = day_of(scenario)
        row = day.row("starter.py")
        rolled = max(day.rolled[1:], default=0)
        print(f"| {row.scenario} | {row.started} | {row.task_hours} | {day.most_at_once} | {max(day.gaps[1:])}", end="")
        print(f" | {rolled} | {row.lag_p50:,} | {row.lag_max:,} |")


def rows_of(scenario: Scenario, formulas: dict[str, Formula]) -> Iterator[Row]:
    for name, formula in formulas.items():
        day = Day(scenario, formula)
        day.run()
        yield day.row(name)


def table() -> list[Row]:
    return [row for scenario in scenarios() for row in rows_of(scenario, FORMULAS)]


def main() -> None:
    print("| scenario | rule | tasks started | task hours | idle worker minutes | lag p50 (s) | lag max (s) |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for row in [*table(), *rows_of(outage_of_a_day(), OUTAGE_FORMULAS)]:
        left = f" ({row.unfinished} unfinished)" if row.unfinished else ""
        numbers = f"{row.started:,} | {row.task_hours} | {row.idle_minutes:,} | {row.lag_p50:,} | {row.lag_max:,}{left}"
        print(f"| {row.scenario} | {row.formula} | {numbers} |")
    print()
    print_days_of_staying()


if __name__ == "__main__":
    main()
