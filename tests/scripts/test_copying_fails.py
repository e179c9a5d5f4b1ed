"""What is said, started and paid when the function that copies cannot: hours in which a file comes now and then.

Single runs are in test_starter.py; what the function does with queue and buckets in tests/protocol/test_function.py.
"""

import math
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from cloudwatch import ALARM, states
from noticed import alarm_of
from starter_worlds import HOUR, MINUTE, MINUTES_EVENT, Plan, Starter, World, event

REASON = 'operation=CreateSession error=AccessDenied message="no"'
OUTAGE = {"status": 3, "outage": REASON, "only_copies": False, "handed_back": 2, "emptied": 0}
COPIES = {"status": 3, "outage": "operation=CopyObject error=AccessDenied", "only_copies": True, "handed_back": 11}
BADLY = {"status": 1, "emptied": 0}
COPIED, DELETED, FAILED, NOTHING = (
    {name: 1, "status": 0, "emptied": 1} for name in ("copied", "deleted", "failed", "unanswered")
)
PERIOD = 5 * MINUTE  # of the alarm starter-fails
TOLD = 3 * PERIOD
LIVES = 500 if os.environ.get("NIGHTLY") == "1" else 10
WHOLE_TIME = 50.0  # seconds that an outage takes the function


class Life:
    """The function runs each minute, and at each file; a process of it lives until the end."""

    def __init__(self, files: Sequence[float], hours: float, answers: Sequence[Any]) -> None:
        """`files`: when each comes. `answers`: what copying comes to, for each; the last one is that of all that
        follow."""
        self.files = files
        self.world = World(0, Plan(seconds=hours * HOUR, arrivals=[(at, 1) for at in files]))
        self.starter = Starter(self.world, self, STARTER_COPIES="true")
        self.answers, self.hours = answers, hours
        self.tries: list[float] = []  # when it copied
        self.came_to: list[Any] = []
        self.runs: list[tuple[float, dict[str, Any], str]] = []  # when each began, its report, and what it fails with

    def respond(self, _environment: Mapping[str, str], _seconds: float) -> dict[str, Any]:
        number = sum(at <= self.world.now for at in self.files) - 1
        answer = self.answers[min(number, len(self.answers) - 1)]
        self.tries.append(self.world.now)
        self.came_to.append(answer)
        if isinstance(answer, Exception):
            raise answer
        self.world.pass_time(WHOLE_TIME if "outage" in answer else 0.0)
        if not answer["status"]:
            self.world.visible = 0
        return dict(answer)

    def end_process_if_unanswered(self) -> None:
        pass

    def live(self) -> "Life":
        context = SimpleNamespace(get_remaining_time_in_millis=lambda: 60_000)
        begins = [(float(at), MINUTES_EVENT) for at in range(0, int(self.hours * HOUR), MINUTE)]
        begins += [(at, event(0, at)) for at in self.files]
        for at, begun_by in sorted(begins, key=lambda pair: pair[0]):
            self.world.pass_time(max(0.0, at - self.world.now))
            self.runs.append((self.world.now, *self.starter.run(begun_by, context)))
        return self

    def red(self) -> list[float]:
        """When the alarm starter-fails is red: at the ends of its periods."""
        errors = [(at, float(bool(error))) for at, _, error in self.runs]
        return [at for at, state in states(errors, alarm_of("starter-fails"), self.hours * HOUR) if state == ALARM]

    def fails_after(self, number: int) -> str:
        """How many of the runs fail from that file on until the next."""
        until = [*self.files, math.inf][number + 1]
        said = [(at, error) for at, _, error in self.runs if self.files[number] <= at < until]
        failed = [at for at, error in said if error]
        if len(failed) < 2:
            return ("none", "one")[len(failed)]
        return "each" if len(failed) == len(said) else f"until {round((failed[-1] - failed[0]) / MINUTE)}"


def each(minutes: int, hours: float) -> list[float]:
    return [float(at) for at in range(7, int(hours * HOUR), minutes * MINUTE)]


@pytest.mark.parametrize("every", [1, 11, 60, 300])
@pytest.mark.parametrize("answer", [KeyError("a mistake"), OUTAGE], ids=["fails", "outage"])
def test_a_function_that_never_copies_is_an_alarm_and_delays_one_file(every: int, answer: Any) -> None:
    hours = max(7, every // 60 + 2)
    life = Life(each(every, hours), hours, [answer]).live()
    red, second = life.red(), life.tries[1]
    assert red[0] <= second + TOLD
    if every <= 60:
        assert red == [*range(int(red[0]), hours * HOUR + 1, PERIOD)]

    last = life.runs[-1][1]["copying_failed"]
    errors = [error for _, _, error in life.runs if error]
    assert last["times"] == len(life.tries)
    assert last["why"] in errors[-1]
    if answer is OUTAGE:
        check_pauses(life)
        assert REASON in errors[-1]


def check_pauses(life: Life) -> None:
    """After an outage a pause is as long as it has been going wrong, and no file waits for an attempt."""
    first = life.tries[0]
    for at, later in pairwise(life.tries):
        assert later - (at + WHOLE_TIME) >= min(15 * MINUTE, max(MINUTE, at - first))

    tasks = life.world.tasks
    came_alone = [at for at in life.files[1:] if not any(task.created < at < task.gone for task in tasks)]
    assert {*came_alone} <= {task.created for task in tasks}


OTHERS = {"copied": 1, "status": 0, "emptied": 0, "handed_back": 9}
WORKS, FAILS, WAS_ONCE = (0, False), (2, True), (1, False)
STORIES = {
    "one failure": ([OUTAGE, COPIED, COPIED], ["one", "none", "none"], WORKS),
    "it works in between": ([BADLY, COPIED, OUTAGE, DELETED, BADLY, COPIED], ["one", "none"] * 3, WORKS),
    "it works again": ([BADLY, BADLY, COPIED, COPIED], ["one", "each", "none", "none"], WORKS),
    "others follow": ([OUTAGE, OUTAGE, OTHERS, COPIED], ["one", "each", "none", "none"], WORKS),
    "some were copied before": ([OUTAGE, OUTAGE | {"copied": 5}, OUTAGE], ["one", "one", "each"], FAILS),
    "nothing is no sign": ([BADLY, NOTHING, BADLY], ["one", "none", "each"], FAILS),
    "a failed key is none, either": ([BADLY, FAILED, BADLY], ["one", "none", "each"], FAILS),
    "deletes go on": ([COPIES, DELETED, COPIES, DELETED], ["one", "none", "each", "each"], FAILS),
    "for an hour": ([BADLY, BADLY, *[NOTHING] * 4], ["one", "each", "each", "each", "none", "none"], FAILS),
    "once, hours ago": ([BADLY, *[NOTHING] * 4], ["one", *["none"] * 4], WAS_ONCE),
}


@pytest.mark.parametrize("name", STORIES)
def test_runs_fail_after_a_second_failure_until_it_works(name: str) -> None:
    """A file every 20 minutes. At the end, the report has how often it failed, and whether that still counts."""
    answers, fails, left = STORIES[name]
    hours = len(fails) / 3
    life = Life(each(20, hours), hours, answers).live()
    assert [life.fails_after(number) for number in range(len(fails))] == fails
    last = life.runs[-1][1].get("copying_failed", {})
    assert (last.get("times", 0), last.get("failing", False)) == left


def test_no_run_fails_because_of_it_while_the_sync_is_paused() -> None:
    life = Life(each(20, 1), 1, [BADLY]).live()
    assert life.runs[-1][2]
    life.starter.environment["PAUSED_SINCE"] = "2026-11-25T01:00:00Z"
    assert life.starter.run()[1] == ""


# Random ones


def draw(number: int) -> Life:
    """Six hours in which copying works and fails by turns, while files come at any pace."""
    chance = random.Random(f"copying {number}")
    files: list[float] = []
    answers: list[Any] = []
    at = 0.0
    while at < 6 * HOUR:
        minutes, answer = chance.choice([1, 4, 12, 20, 70]), chance.choice([COPIED, OTHERS, OUTAGE, BADLY])
        for _ in range(chance.choice([1, 1, 2, 5, 12])):
            at += minutes * MINUTE * chance.uniform(0.5, 1.5)
            files.append(at)
            answers.append(answer)
    return Life([at for at in files if at < 6 * HOUR], 6, answers)


class Row(NamedTuple):
    """Attempts that failed, without a success in between, and when it was over."""

    failed: list[float]
    over: float


def rows_of(life: Life) -> Iterator[Row]:
    failed: list[float] = []
    for at, answer in zip(life.tries, life.came_to, strict=True):
        if not answer["status"] and failed:
            yield Row(failed, at)
            failed = []
        elif answer["status"]:
            failed.append(at)
    if failed:
        yield Row(failed, life.runs[-1][0] + 1)


@pytest.mark.parametrize("block", range(4))
def test_somebody_is_told_in_time_and_of_nothing_that_has_passed(block: int) -> None:
    for number in range(block * LIVES, (block + 1) * LIVES):
        life = draw(number).live()
        failed, red = [at for at, _, error in life.runs if error], life.red()
        for row in rows_of(life):
            its_runs = [at for at in failed if row.failed[0] - MINUTE < at < row.over]
            failed = [at for at in failed if at not in its_runs]
            if len(row.failed) == 1:
                assert len(its_runs) == 1, number
            elif row.failed[1] + TOLD < row.over:
                assert any(row.failed[1] < at <= row.failed[1] + TOLD for at in red), number
        assert failed == [], number
