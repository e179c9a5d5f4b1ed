"""What has to hold in every world of starter_worlds.py: the real handler(), some thousands of runs, and an oracle.

.venv/bin/python tests/scripts/test_starter_worlds.py 17 prints what happened in world 17.
"""

import math
import os
import re
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from botocore.exceptions import BotoCoreError, ClientError

sys.path.insert(0, str(Path(__file__).parents[2]))

from starter_worlds import (
    AUDITS,
    DAY,
    HOUR,
    MINUTE,
    Fate,
    Plan,
    Run,
    Span,
    Starter,
    World,
    calm_after,
    draw,
    draw_audits,
)

from launch.tasks import GAVE_UP, ON_SPOT, PAUSED, REPLACED, SURPLUS

NIGHTLY = os.environ.get("NIGHTLY") == "1"
SHARE = 10  # MESSAGES_PER_WORKER
FULL = 500  # messages that a worker has in flight before it takes no more
LONGEST_PAUSE = 15 * MINUTE
TOLD = 10 * MINUTE
SLOT, WINDOW, LAST_CHANCE = 2 * HOUR, 45 * MINUTE, 25 * MINUTE  # of audits


class Watch:
    """Runs the starter through a world, and notes every breach of what has to hold."""

    def __init__(self, number: int, plan: Plan) -> None:
        self.world, self.plan = World(number, plan), plan
        self.starter = Starter(self.world)
        self.faults: list[str] = []
        self.nobody_since = self.untold_since = math.inf  # at clear runs in a row
        self.failing_runs = self.nothing_since = 0.0
        self.is_held_back = False  # in the last run
        self.demand_runs, self.short_since, self.colds = 0, math.inf, 0

    def fault(self, text: str) -> None:
        self.faults.append(f"at {self.world.now:.0f} s: {text}")
        self.world.note(f"FAULT {text}")

    # The runs

    def play(self) -> None:
        chance, last_start = self.world.chance, -math.inf
        moments = [(at + chance.uniform(0, 5), False) for at in range(0, int(self.plan.seconds), self.plan.rate)]
        moments += [(at + delay, True) for at in self.plan.bursts for delay in (0, 1, 4, 30)]
        for at, is_event in sorted(moments):
            self.world.pass_time(at - self.world.now)
            if not is_event and at - last_start > MINUTE and chance.random() < 0.1:
                self.starter.begin_process()
                self.colds += 1
                # It does not know since when a task without createdAt waits.
                self.short_since = math.inf if self.plan.undated else self.short_since
            made = len(self.world.tasks)
            self.run(is_event)
            last_start = at if len(self.world.tasks) > made else last_start
        self.check_end()

    def run(self, is_event: bool) -> None:
        world, plan = self.world, self.plan
        world.was_clear, before = True, world.live()
        world.told, world.asks_demand = (-1, -1), False
        values = {"MIN_WORKERS": str(plan.min_workers(world.now)), "AUDIT_DAYS": str(plan.audit_days)}
        values["MAX_WORKERS"] = str(plan.max_workers(world.now))
        values["PAUSED_SINCE"] = "2026-11-25T11:00:00Z" if plan.paused.holds(world.now) else ""
        self.starter.environment.update(values)
        try:
            report, error = self.starter.run({"source": "aws.s3"} if is_event else {"source": "aws.events"})
        except (ClientError, BotoCoreError) as raised:
            if world.was_clear:
                self.fault(f"raises {raised!r}")
            return
        world.note(f"{report} {error and 'RAISES'}")
        self.check_most(before)
        if "visible" in report:
            self.check(report, error, before)
            if plan.audit_days:
                self.check_audits(report, is_event)

    # What has to hold

    def check_most(self, before: list[Run]) -> None:
        live, least = self.world.live(), max(least for _, least in self.plan.least)
        most = self.plan.max_workers(self.world.now)
        if len(live) > max(most + bool(least), len(before)):  # one that runs is not stopped when it is lowered
            self.fault(f"{len(live)} run, MAX_WORKERS={most}")

    def check(self, report: dict[str, Any], error: str, before: list[Run]) -> None:
        self.check_stops()
        if self.plan.paused.holds(self.world.now):
            self.nobody_since = self.untold_since = self.short_since = math.inf
            if self.world.was_clear and self.world.live():
                self.fault("workers run in a pause")
            return
        self.check_alarm(report, error)
        self.check_told(report)
        self.check_enough(report, before)
        self.check_tried()
        self.check_spot(report)
        self.check_replaced(before)

    def bad(self) -> list[Run]:
        """Workers that have failed by now."""
        return [task for task in self.world.workers() if task.failed and task.ends <= self.world.now]

    def check_alarm(self, report: dict[str, Any], error: str) -> None:
        """Nothing is reported that is not so, and a single crash makes one run fail at most."""
        bad = self.bad()
        self.failing_runs += bool(report["failing"])
        self.is_held_back = bool(report["failing"] or report["trial"] or report["failures"])
        if (report["failing"] or report["trial"]) and not any(task.gone > self.world.now - 75 * MINUTE for task in bad):
            self.fault("tells of failures, and there are none")
        if told := report["failing"] or report["trial"]:
            self.check_text(told, bad)
        if bool(report["failing"]) != ("do not get to work" in error):
            self.fault("its report and its error differ")
        if error and not report["failing"] and self.world.was_clear:
            self.fault(f"raises without a reason: {error}")
        plan = self.plan
        is_replaced = not (plan.refusals or plan.partial or plan.loses or plan.no_spot.how)
        allowed = 1 + len(plan.interruptions) + len(plan.bursts) + len(self.world.stops)
        is_alone = len(plan.crashes) == 1 and plan.doom == Span()
        if is_alone and is_replaced and self.failing_runs > allowed:
            self.fault("one crash makes more than one run fail")

    def check_text(self, told: str, bad: list[Run]) -> None:
        """What is said of failures is so."""
        number = int((re.findall(r"^the last (\d+) tasks", told) or [1 + ("each run fails" in told)])[0])
        if number > (most := self.failed_since(bad)):
            self.fault(f"tells of {number} failures, and later workers have worked than all but {most}")
        known = self.known_to_fail()
        last = max((task.dated for task in known), default=math.inf)
        if "is tried alone" in told and not any(task.dated >= last for task in self.world.live()):
            self.fault("none is tried")
        codes = [task.end[2] for task in known if task.dated == last]
        says = ["CannotPull" if code is None else f"(exit code {code})" for code in codes]
        if self.world.was_clear and not self.plan.deploys and not any(one in told for one in says):
            self.fault(f"tells of another failure than {says}")

    def is_there(self, task: Run) -> bool:
        """It has run for a minute, or for longer."""
        return self.is_shown(task) and min(task.ends, self.world.now) - task.starts >= MINUTE

    def has_ended(self, task: Run) -> bool:
        """By itself, and ECS says how."""
        return task.gone <= self.world.now and task.end[0] == "EssentialContainerExited"

    def is_shown(self, task: Run) -> bool:
        return max(task.listed_at, task.known_at) <= self.world.now < task.gone + HOUR

    def failed_since(self, bad: list[Run]) -> int:
        """How many of them no later worker has surely worked after: one that has ended with 0 while none of them was
        there, or has run for twice as long as the two that did so longest, or as one does in an outage."""
        now = self.world.now
        shown = [task for task in bad if task.gone > now - HOUR]
        began = [task for task in shown if task.starts < math.inf]
        lives = [0.0, 0.0, *sorted(task.ends - task.starts for task in began if task.end[2] != 3)]
        proof = max(3 * MINUTE, min(11 * MINUTE, 2 * lives[-1]), 2 * lives[-2])
        proof = max(proof, 11 * MINUTE if any(task.end[2] == 3 for task in shown) else 0)
        last_good = -math.inf
        for task in self.world.workers():
            if task.starts > now or not self.is_shown(task) or (task.failed and task.ends <= now):
                continue
            is_beside = any(task.dated < other.ends and other.dated < task.ends for other in began)
            if (self.has_ended(task) and not is_beside) or min(task.ends, now) - task.starts >= proof:
                last_good = max(last_good, task.dated)
        return sum(task.dated > last_good for task in shown)

    def check_told(self, report: dict[str, Any]) -> None:
        """Workers that get nothing done are reported within ten minutes, or when the next one has failed, and they do
        not cost a task a minute."""
        world, plan = self.world, self.plan
        live = world.live()
        hopeless = plan.doom.holds(world.now) and all(task.dies for task in live) and world.told[0] > 0
        hopeless &= None not in plan.others
        bad = [task for task in self.bad() if task.created >= plan.doom.begin and task.gone > world.now - HOUR]
        longest = max(fate.seconds for fate in (plan.fate, *plan.others) if fate)
        first = max(TOLD, 2 * plan.rate, 1.3 * longest + 2 * MINUTE)
        limit = first if len(bad) == 1 else 5 * plan.rate
        if plan.others:  # one of the other kind may seem to work until it fails
            limit = 2 * first
        if report["failing"] or not (hopeless and bad and world.was_clear):
            self.untold_since = world.now if hopeless and bad and world.was_clear else math.inf
        elif world.now - self.untold_since > limit:
            self.fault(f"for {world.now - self.untold_since:.0f} s nothing was told of workers that fail")
        self.nothing_since = world.now if not hopeless else self.nothing_since
        ours = [
            task for task in world.workers() if task.created > self.nothing_since and not task.end[0].startswith("Spot")
        ]
        seconds = world.now - self.nothing_since
        most = max(plan.most, *(most for _, most in plan.limits)) if plan.limits else plan.most
        # At an hour, ECS forgets those that failed before the run after next, which may be the first to learn anything.
        is_counted = hopeless and not world.stops and plan.rate != HOUR and not plan.others
        if is_counted and len(ours) > most + 8 + seconds / (LONGEST_PAUSE - MINUTE):
            self.fault(f"{len(ours)} tasks in {seconds:.0f} s, though all of them fail")

    def check_enough(self, report: dict[str, Any], before: list[Run]) -> None:
        """A message that waits gets a worker, MIN_WORKERS run, and no more than are needed are started."""
        world, plan = self.world, self.plan
        live, (visible, in_flight), least = world.live(), world.told, plan.min_workers(world.now)
        waits = visible > 0 or least > 0 or bool(report.get("event"))
        self.nobody_since = math.inf if live or not waits or not world.was_clear else min(self.nobody_since, world.now)
        if world.now - self.nobody_since > LONGEST_PAUSE + plan.rate:
            self.fault(f"for {world.now - self.nobody_since:.0f} s nobody runs though messages wait")
        if not world.was_clear:
            return
        most = plan.max_workers(world.now)
        needed = min(most, max(least, math.ceil(visible / SHARE)))
        ready = sum(task.runs(world.now) for task in before)
        if visible > 0 and in_flight >= (FULL + 2) * max(1, ready) and ready == len(before):
            needed = max(needed, min(most, ready + 1))
        if not self.may_start_many():
            older = [task for task in live if task.created < world.now]
            needed = min(needed, len(older) + all(max(task.starts, task.known_at) <= world.now for task in older))
        unknown = [task for task in world.workers() if not task.is_live(world.now) and task.known_at > world.now]
        if len(live) + len(unknown) < needed and not report["failing"] and not report["trial"]:
            self.fault(f"{len(live)} run, {needed} are needed")
        roll_over = any(task.stays for task in live)
        enough = max(len(before), math.ceil(max(visible, bool(report.get("event"))) / SHARE) + in_flight // FULL)
        if len(live) > max(enough, least) + (least if roll_over else 0):
            self.fault(f"{len(live)} run, {enough} are enough")

    def may_start_many(self) -> bool:
        """If ECS forgets a task before the next run, then only after one has worked."""
        if self.plan.rate <= HOUR:
            return True
        now = self.world.now
        shown = [
            task for task in self.world.workers() if task.starts <= now < task.gone + HOUR and task.known_at <= now
        ]
        good = [task for task in shown if task.gone > now or not task.failed]  # only then ECS says how it has ended
        return any(map(self.has_ended, good)) or any(min(task.ends, now) - task.starts >= MINUTE for task in good)

    def check_tried(self) -> None:
        """Workers are tried one at a time, after a failure until one has run for twice as long as those that fail."""
        made = [task for task in self.world.workers() if task.created == self.world.now]
        others = [task for task in self.world.live() if task.starts > self.world.now and task not in made]
        if made and len(made + others) > 1 and not self.may_start_many():
            self.fault(f"{len(made)} are started beside {len(others)}, and ECS forgets how they end")
        if made and self.world.was_clear and (last := self.last_failed()):
            later = [task for task in self.world.live() if task.dated > last.dated]
            if len(later) > 1 and not self.may_have_worked_since(last):
                self.fault(f"{len(later)} are tried after {last.arn}")

    def known_to_fail(self) -> list[Run]:
        """By what ECS shows: only when it is gone, the exit status."""
        bad = [task for task in self.bad() if self.is_shown(task)]
        return [task for task in bad if task.gone <= self.world.now or task.end[2] is None]

    def last_failed(self) -> Run | None:
        return max(self.known_to_fail(), key=lambda task: task.dated, default=None)

    def may_have_worked_since(self, last: Run) -> bool:
        """Whether one that was made later has ended by itself, or has run for as long as proves something."""
        now = self.world.now
        longest = max(task.ends - task.starts if task.starts < math.inf else 0 for task in self.known_to_fail())
        proof = min(11 * MINUTE, max(MINUTE, 2 * longest))
        for task in self.world.workers():
            if task.dated >= last.dated and task.starts <= now and self.is_shown(task):
                has_worked = self.has_ended(task) and task.end[2] == 0
                if has_worked or min(task.ends, now) - task.starts >= proof:
                    return True
        return False

    def check_spot(self, report: dict[str, Any]) -> None:
        """On demand is asked first only after five minutes without Spot, and soon then; Spot is asked again later."""
        world, plan, short = self.world, self.plan, self.plan.no_spot
        made = [task for task in world.workers() if task.created > short.begin + 5 * MINUTE]
        if world.asks_demand:
            self.demand_runs += world.now > short.end + 20 * MINUTE
            is_short = short.begin + 5 * MINUTE <= world.now < short.end + 75 * MINUTE
            is_short &= not any(self.is_there(task) and task.starts > short.end + MINUTE for task in made if task.spot)
            if not is_short and not self.are_taken_at_once():
                self.fault("on demand is asked first, and Spot has room")
            if self.demand_runs > 2:
                self.fault("Spot is not asked again")
        waits = world.told[0] > 0 and world.was_clear and not report["failing"] and not report["trial"]
        # At more than an hour, ECS forgets that Spot had no room: the alarm on the oldest message says so.
        waits &= plan.rate <= HOUR
        waits &= short.how != "refuses" and short.holds(world.now) and not plan.no_demand.holds(world.now)
        nobody = not any(task.starts <= world.now + MINUTE or not task.spot for task in world.live())
        self.short_since = min(self.short_since, world.now) if waits and nobody else math.inf
        if world.now - self.short_since > 10 * MINUTE + 2 * plan.rate:
            self.fault("nobody works, Spot has no room, and on demand is not asked")
        tries = len({task.created for task in made if task.spot and task.created < short.end})
        has_other = waits and short.how == "stops" and plan.no_demand.begin > world.now
        if has_other and tries > 8 + (world.now - short.begin) / (4 * MINUTE):
            self.fault(f"Spot is asked {tries} times though it has no room")

    def are_taken_at_once(self) -> bool:
        """Spot has taken the workers of two starts within a minute, or of one while it had no room for others, which
        counts as a shortage."""
        taken = [task for task in self.world.workers() if task.end[0] == "SpotInterruption" and task.spot]
        starts = {task.dated for task in taken if 0 < task.ends - task.starts < MINUTE}
        return len(starts) + (self.plan.no_spot.begin <= self.world.now) > 1

    def check_replaced(self, before: list[Run]) -> None:
        """One that stays goes only for another that has run for a minute, unless too many run."""
        world, least = self.world, self.plan.min_workers(self.world.now)
        replaced = [task for task, reason, at in world.stops if at == world.now and reason in (REPLACED, ON_SPOT)]
        kept = [task for task in before if task.stays and task.is_live(world.now) and world.now - task.starts >= MINUTE]
        if replaced and len(kept) < least and len(before) <= self.plan.max_workers(world.now):
            self.fault(f"{len(replaced)} are replaced, and {len(kept)} are left")

    def check_stops(self) -> None:
        """Nobody is stopped without a reason."""
        for task, reason, at in self.world.stops:
            waited = at - task.created
            if reason == GAVE_UP and not (task.spot and task.starts > at and task.pulls > at and waited >= 300):
                self.fault(f"{task.arn} did not wait for Spot")
            if reason == PAUSED and not self.plan.paused.holds(at):
                self.fault(f"{task.arn} is stopped for no pause")
            if reason in (SURPLUS, REPLACED, ON_SPOT) and not task.stays:
                self.fault(f"{task.arn} was not started to stay")

    def check_audits(self, report: dict[str, Any], is_event: bool) -> None:
        """One is started in the window if none runs and none has ended by itself, three times at most; what is wrong
        with one is said while ECS shows it."""
        world, said = self.world, report.get("audit", {})
        since = (world.wall() - SLOT) % (self.plan.audit_days * DAY)
        slot, is_open = world.now - since, since < WINDOW
        shown = [task for task in world.tasks if task.started_by == AUDITS and task.gone > world.now - HOUR]
        older = [task for task in shown if task.created < world.now]
        live = [task for task in older if task.gone > world.now]
        tries = [task for task in older if task.created >= slot]
        has_ended = any(task.end[2] in (0, 1, 3) for task in tries)
        is_due = is_open and not live and not has_ended and len(tries) < 3
        if len(shown) > len(older) + is_due:
            self.fault("an audit is started that is not due")
        if is_event:
            return
        failures, problem, wanted = said.get("failures", []), said.get("problem", ""), ""
        if is_due and shown == older and not failures:
            self.fault("no audit is started, and one is due")
        if failures and is_open and since >= LAST_CHANCE:
            wanted = "no audit could be started"
        elif live and not failures:
            is_late = live[0].created < slot or world.now - live[0].created > DAY
            how = "started" if live[0].starts == math.inf else "ended"
            wanted = f"has not {how} for {(world.now - live[0].created) / HOUR:.0f} hours" if is_late else ""
        elif older and not is_due and not failures and (code := older[-1].end[2]) != 0:
            wanted = "the last audit was ended" if code is None else f"the last audit ended with exit status {code}"
        if wanted not in problem or bool(wanted) != bool(problem):
            self.fault(f"of audits it says {problem!r}, not {wanted!r}")

    def check_end(self) -> None:
        """After calm, the queue is empty, those stay that are to, and not more were stopped than need be."""
        world, plan = self.world, self.plan
        if plan.audit_days or world.number % 3:
            return
        is_pause = self.is_held_back and plan.crashes  # the last one may have been late
        if world.visible and not world.live() and not is_pause:
            self.fault(f"{world.visible} messages are left")
        stays = [task for task in world.live() if task.stays]
        least = plan.min_workers(world.now)
        is_settled = (
            not self.is_held_back and max((task.created for task in stays), default=0) < world.now - 4 * plan.rate
        )
        if is_settled and len(stays) != least and len(world.live()) < plan.max_workers(world.now):
            self.fault(f"{len(stays)} stay, MIN_WORKERS={least}")
        has_older = any(task.revision != world.revision() for task in stays)
        if is_settled and has_older and plan.rate * 5 * least < calm_after(plan.rate):
            self.fault("one of an older task definition stays")
        stopped = [reason for _, reason, _ in world.stops if reason in (SURPLUS, REPLACED, ON_SPOT)]
        changes = len(plan.deploys) + len(plan.least) - 1 + len(plan.limits)
        dear = sum(not task.spot and task.stays for task in world.workers())
        if len(stopped) > changes * (max(least for _, least in plan.least) + 1) + dear + self.colds:
            self.fault(f"{len(stopped)} were stopped for {changes} changes")


def faults_in(number: int, drawn: Callable[[int], Plan]) -> list[str]:
    watch = Watch(number, drawn(number))
    watch.play()
    return [f"world {number} {fault}" for fault in watch.faults]


BLOCKS, WORLDS, OF_AUDITS = 4, 20_000 if NIGHTLY else 200, 1_000 if NIGHTLY else 15


@pytest.mark.parametrize("block", range(BLOCKS))
def test_in_no_world_the_starter_breaks_its_word(block: int) -> None:
    numbers = range(block * WORLDS, (block + 1) * WORLDS)
    assert [fault for number in numbers for fault in faults_in(number, draw)[:1]] == []


@pytest.mark.parametrize("block", range(2))
def test_in_no_world_an_audit_is_missed_or_started_twice(block: int) -> None:
    numbers = range(block * OF_AUDITS, (block + 1) * OF_AUDITS)
    assert [fault for number in numbers for fault in faults_in(number, draw_audits)[:1]] == []


class Day(NamedTuple):
    """A plan of a whole day, and what it may cost."""

    plan: Plan
    tasks: tuple[int, int]  # at least, at most
    hours: float = 24  # of all tasks, at most
    on_spot: int = 1000  # tasks, at most
    late: float = 0  # seconds after the doom in which its messages are done, at most


CHANGES = [(float(at), 1) for at in range(0, 23 * HOUR, 7)]
IN_3_HOURS = [(float(at), 1) for at in range(0, 3 * HOUR, 240)]
DEPLOYS = [float(HOUR * hour + 97 * hour % HOUR) for hour in range(1, 23)]
NOW_AND_THEN = [(at, 1) for at in DEPLOYS]
DAYS = {
    "22 files": Day(Plan(arrivals=NOW_AND_THEN), (22, 26), 1.5),
    "a burst of 10,000": Day(Plan(arrivals=[(HOUR, 10_000)]), (2, 2), 1),
    "one in 7 s": Day(Plan(arrivals=CHANGES), (1, 1)),
    "one in 7 s, and an outage": Day(
        Plan(arrivals=CHANGES, doom=Span(0, 22 * HOUR), fate=Fate(600, 3)), (50, 60), 12, late=HOUR / 2
    ),
    "no image": Day(Plan(3 * HOUR, arrivals=[(0, 1000)], doom=Span(0, 3 * HOUR), fate=Fate(30, None)), (16, 17)),
    "Spot refuses tasks for three hours": Day(
        Plan(arrivals=IN_3_HOURS, most=1, no_spot=Span(0, 3 * HOUR, "stops")), (40, 60), on_spot=17
    ),
    "Spot has no room for three hours": Day(
        Plan(arrivals=IN_3_HOURS, most=1, no_spot=Span(0, 3 * HOUR, "waits")), (40, 60), on_spot=12
    ),
    "and ECS does not say since when they wait": Day(
        Plan(arrivals=IN_3_HOURS, most=1, no_spot=Span(0, 3 * HOUR, "waits"), undated=True), (30, 60), on_spot=30
    ),
    "one stays": Day(Plan(least=[(0.0, 1)], arrivals=NOW_AND_THEN), (1, 1)),
    "one stays, Spot interrupts every hour": Day(Plan(least=[(0.0, 1)], interruptions=DEPLOYS), (23, 23), 24.5),
    "one stays, a deployment every hour": Day(Plan(least=[(0.0, 1)], deploys=DEPLOYS), (23, 23), 25.5),
    "one stays and is all of MAX_WORKERS": Day(Plan(least=[(0.0, 1)], deploys=DEPLOYS, most=1), (23, 23), 25.5),
    "two stay, then one, then none": Day(Plan(least=[(0.0, 2), (8.0 * HOUR, 1), (16.0 * HOUR, 0)]), (2, 2), 24.2),
}


@pytest.mark.parametrize("name", DAYS)
def test_a_day_costs_what_it_may(name: str) -> None:
    day = DAYS[name]
    watch = Watch(1, day.plan)
    watch.play()
    world, made = watch.world, [*watch.world.workers()]
    assert watch.faults == []
    assert day.tasks[0] <= len(made) <= day.tasks[1]
    assert sum(min(task.gone, day.plan.seconds) - task.created for task in made) / HOUR <= day.hours
    assert sum(task.spot for task in made) <= day.on_spot
    for deploy in day.plan.deploys:  # the worker of an older task definition goes soon
        assert not [task for task in made if task.created < deploy and task.gone > deploy + 5 * MINUTE]
    if name == "no image":
        pauses = [round((later.created - task.created) / MINUTE) for task, later in pairwise(made)]
        assert pauses[:6] == [0, 2, 2, 4, 8, 16]
        assert all(15 <= pause <= 16 for pause in pauses[6:])
    if day.late:
        assert world.emptied_at <= day.plan.doom.end + day.late


if __name__ == "__main__":
    played = Watch(int(sys.argv[1]), (draw_audits if "audits" in sys.argv else draw)(int(sys.argv[1])))
    played.play()
    print(played.plan, *played.world.diary, sep="\n")
