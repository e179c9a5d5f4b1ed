"""Lost work raises an alarm, and a healthy sync is quiet: in every world of losing_worlds.py, by the alarms alone.

.venv/bin/python tests/scripts/test_losing_worlds.py 17 prints what happened in world 17.
"""

import os
import random
import re
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from cloudwatch import ALARM, NO_DATA, OK, Alarm, mails, state_of, states
from losing_worlds import DEATHS, DENIED, NO_PROVIDER, TAKEN, Fault, Life, alarms_of, draw_loss
from starter_worlds import DAY, HOUR, MINUTE, Plan, Span

NIGHTLY = os.environ.get("NIGHTLY") == "1"


def faults_in(number: int) -> list[str]:
    plan, fault = draw_loss(number)
    life = Life(number, plan, fault)
    life.play()
    faults = life.untold()
    if not fault.how:
        # If the starter runs seldom, a run that fails once leaves a message for so long that it is late.
        names = {name for _, name in life.mails if plan.rate <= 15 * MINUTE or name == "starter-fails"}
        faults += [f"a mail of a healthy world: {name}" for name in names if plan.rate <= HOUR]
        if len(life.failed) > 1:
            faults.append(f"{len(life.failed)} runs of a healthy world fail: {life.failed[0]}")
    return [f"loss {number} ({fault.how}, every {plan.rate / MINUTE:.0f} minutes) {text}" for text in faults]


BLOCKS, WORLDS = 4, 20_000 if NIGHTLY else 200


@pytest.mark.parametrize("block", range(BLOCKS))
def test_in_no_world_work_is_lost_in_silence(block: int) -> None:
    numbers = range(block * WORLDS, (block + 1) * WORLDS)
    assert [fault for number in numbers for fault in faults_in(number)[:1]] == []


# What raised no alarm in release 1.3.0, and what cost a task at each run.

ALWAYS = Span(0)
FOR_HOURS = 6 * HOUR
EACH_7_S = [(float(at), 1) for at in range(0, 9 * HOUR, 7)]
EACH_12_MINUTES = [(float(at), 1) for at in range(0, FOR_HOURS, 12 * MINUTE)]
A_BURST = [(10.0, 100)]
EVERY_10_MINUTES = [*range(0, FOR_HOURS, 10 * MINUTE)]


class Example(NamedTuple):
    """A world, how many tasks it costs at most, and of which alarm the first mail is, after how many seconds."""

    plan: Plan
    fault: Fault
    tasks: int
    alarm: str = "starter-fails"
    told: float = HOUR


EXAMPLES = {
    "nine hours of a change each 7 s, and each worker is killed after 700 to 1500 s": Example(
        Plan(9 * HOUR, arrivals=EACH_7_S), Fault("memory", ALWAYS), 30
    ),
    "a burst of 100, whose worker dies after 20 s": Example(
        Plan(FOR_HOURS, arrivals=A_BURST, speed=1), Fault("memory", ALWAYS, (20, 20)), 10
    ),
    "one poisoned message every ten minutes, death after 720 s": Example(
        Plan(FOR_HOURS), Fault("poison", ALWAYS, (720, 720), poisoned=EVERY_10_MINUTES), 30
    ),
    "a cluster without FARGATE_SPOT": Example(
        Plan(FOR_HOURS, arrivals=EACH_12_MINUTES), Fault(NO_PROVIDER, ALWAYS), 31, told=HOUR / 4
    ),
    "Spot takes each worker back after 5 to 20 s": Example(
        Plan(FOR_HOURS, arrivals=EACH_12_MINUTES), Fault(TAKEN, ALWAYS), 60, alarm=""
    ),
    "no image, and ECS forgets each task before the next run": Example(
        Plan(2 * FOR_HOURS, rate=65 * MINUTE, most=20, arrivals=[(10.0, 1000)]),
        Fault("image", ALWAYS),
        12,
        "behind",
        3 * HOUR,
    ),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_work_that_is_lost_like_this_raises_an_alarm(name: str) -> None:
    example = EXAMPLES[name]
    life = Life(1, example.plan, example.fault, colds=0)
    life.play()
    assert life.untold() == []
    assert len(life.world.tasks) <= example.tasks
    assert [alarm for _, alarm in life.mails][:1] == [example.alarm] * bool(example.alarm)
    assert not life.mails or life.mails[0][0] <= example.told
    assert [alarm for _, alarm in life.mails].count(example.alarm) <= 1


@pytest.mark.parametrize("how", [*DEATHS, NO_PROVIDER, DENIED])
def test_runs_fail_for_no_longer_than_an_hour_after_the_reason_is_gone(how: str) -> None:
    end = 2 * HOUR
    fault = Fault(how, Span(0, end), (20, 40), poisoned=EVERY_10_MINUTES[:12] if how == "poison" else ())
    life = Life(1, Plan(FOR_HOURS, arrivals=EACH_12_MINUTES, speed=1), fault, colds=0)
    life.play()
    assert [at for at, _ in life.failed if at < end]
    last = 15 * MINUTE if how in (NO_PROVIDER, DENIED) else HOUR + 5 * MINUTE  # the next start shows it, or ECS forgets
    assert [at for at, _ in life.failed if at > end + last] == []
    assert life.states["starter-fails"][-1][1] == OK


def test_in_a_pause_no_run_fails_for_a_capacity_provider() -> None:
    life = Life(1, Plan(HOUR, arrivals=EACH_12_MINUTES), Fault(NO_PROVIDER, ALWAYS), colds=0)
    life.play()
    assert life.starter.run()[1]
    life.starter.environment["PAUSED_SINCE"] = "2026-11-25T11:00:00Z"
    assert life.starter.run()[1] == ""


# What ECS says of a dead task, in what the run fails with, and what to do.

SAYS = {
    "memory": "OutOfMemoryError: .* raise TASK_MEMORY",
    "image": "CannotPullContainerError: .* check SUBNETS and ASSIGN_PUBLIC_IP",
    "assume": "unable to assume the role .* makes the role again",
    "role": r"exit code 1\).* ./sync.sh logs worker says why",
    "outage": r"ended in an outage.* ./sync.sh status says what fails",
    NO_PROVIDER: "capacity provider FARGATE_SPOT.* ./deploy.sh adds it",
}


@pytest.mark.parametrize("how", SAYS)
def test_a_run_that_fails_says_what_ecs_says_and_what_to_do(how: str) -> None:
    life = Life(1, Plan(HOUR, arrivals=EACH_12_MINUTES, speed=1), Fault(how, ALWAYS, (20, 60)), colds=0)
    life.play()
    assert life.failed
    assert [error for _, error in life.failed if not re.search(SAYS[how], error)] == []


# The alarms themselves.

PUBLISHED = {  # points, the newest last (0 good, X bad, - none) -> state with "missing" and "notBreaching"
    3: {"0-X-X": (OK, OK), "0----": (OK, OK), "-----": (NO_DATA, OK), "0XX-X": (ALARM, ALARM), "--X--": (ALARM, OK)},
    2: {"0-X-X": (ALARM, ALARM), "0-X--": (OK, OK), "----0": (OK, OK), "---X-": (ALARM, OK)},
}


@pytest.mark.parametrize("enough", PUBLISHED)
def test_alarms_have_the_states_that_cloudwatch_publishes(enough: int) -> None:
    for points, expected in PUBLISHED[enough].items():
        bad = [{"0": False, "X": True, "-": None}[point] for point in points]
        found = [state_of(bad, Alarm(300, 3, enough, missing=missing)) for missing in (True, False)]
        assert tuple(found) == expected, points


@pytest.mark.parametrize("minutes", [1, 2, 5, 15, 16, 30, 60, 61, 1440])
def test_errors_that_pass_are_less_than_a_mail_a_month(minutes: int) -> None:
    """One run in a thousand fails, because AWS did not answer."""
    chance, months = random.Random(minutes), 12 if minutes < 60 else 60
    until = months * 30 * DAY
    errors = [(float(at), float(chance.random() < 0.001)) for at in range(0, until, minutes * MINUTE)]
    found = states(errors, alarms_of(minutes * MINUTE)["starter-fails"], until)
    assert len(mails({"starter-fails": [*found]}, {"starter-fails": ALARM})) < months


if __name__ == "__main__":
    number = int(sys.argv[1])
    played = Life(number, *draw_loss(number))
    played.play()
    print(played.plan, played.fault, *played.world.diary, played.mails, *played.untold()[:1], sep="\n")
