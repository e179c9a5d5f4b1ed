"""What says by itself that something is broken, and after how many minutes at most: the table in docs/operations.md.

The figures follow from the rules: how often the starter runs and its guard looks, and the periods of the alarms that
asked_for.py asks for. test_noticed.py breaks an account on paper in each way of broken_links.py, and plays the hours
after that. write_tables.py writes the figures into the pages.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from asked_for import Asked
from cloudwatch import ALARM, NO_DATA, Alarm, states
from paper_account import PaperAccount

from launch.guard import CONFIRM_SECONDS, LOOK_AGAIN_SECONDS
from launch.rates import START_SECONDS

MINUTE = 60
RATE = MINUTE  # of the starter, as shipped
# Of workers that die (test_losing_worlds.py): work is lost for half an hour, and a mail comes within another.
TOLD_SECONDS = 3600

# How a break comes to an alarm: each run fails from then on; runs fail from the guard's next look on; nothing runs;
# workers say that no key can be synced; they die; it comes to none.
RUNS_FAIL, GUARD, SILENT, OUTAGE, DYING, SHOWN = "runs fail", "guard", "silent", "outage", "dying", "shown"
ALARMS = {RUNS_FAIL: "starter-fails", GUARD: "starter-fails", SILENT: "starter-silent", OUTAGE: "outage"}
ALARMS |= {DYING: "starter-fails"}
# The words of a row of the table -> how its breaks come to an alarm.
ROWS = {
    "no rule runs the starter": SILENT,
    "the starter failed: ...": RUNS_FAIL,
    "no key can be synced since ...": OUTAGE,
    "CannotPullContainerError": DYING,
    "no event reaches the queue: ...": GUARD,
    "alarms are gone ...": GUARD,
    "there is no topic ...": SHOWN,
    "there is no dead-letter queue ...": SHOWN,
}


class Values(NamedTuple):
    """Of the metric of an alarm, each with its second."""

    alarm: str
    values: list[tuple[float, float]]

    def red_at(self, until: float) -> Iterator[float]:
        """When it gets red, which sends a mail."""
        bad, was = (NO_DATA if self.alarm == "starter-silent" else ALARM), ""
        for at, state in states(self.values, alarm_of(self.alarm), until):
            if state == bad != was and any(second <= at for second, _ in self.values):
                yield at
            was = state


def alarm_of(name: str, settings: dict[str, str] | None = None) -> Alarm:
    *_, threshold, (seconds, count, enough) = dict(Asked(PaperAccount(), settings or {}).watched())[name]
    if name == "starter-silent":
        return Alarm(seconds, count, enough, lambda value: value < threshold, sum, missing=True)
    return Alarm(seconds, count, enough, lambda value: value > threshold)


def seconds_to_mail(name: str, broken_at: int) -> float:
    """Of an alarm whose metric is bad in each minute from then on, and was good before."""
    until = broken_at + 2 * 3600
    bad = [] if name == "starter-silent" else [(float(at), 1.0) for at in range(broken_at, until, MINUTE)]
    good = [(float(at), float(name == "starter-silent")) for at in range(broken_at % MINUTE, broken_at, MINUTE)]
    return next(Values(name, good + bad).red_at(until)) - broken_at


def longest(name: str) -> float:
    """Wherever in the periods of the alarm it begins."""
    alarm = alarm_of(name)
    first = 2 * alarm.seconds * (alarm.count + 1)
    return max(seconds_to_mail(name, at) for at in range(first, first + alarm.seconds * alarm.count, 7))


def seconds_before(way: str) -> float:
    """From the break to the first bad value of the alarm's metric."""
    if way == GUARD:
        return LOOK_AGAIN_SECONDS + RATE + CONFIRM_SECONDS
    return {RUNS_FAIL: RATE, SILENT: RATE, OUTAGE: RATE + START_SECONDS}[way]


def minutes_of(way: str) -> int:
    """0: no mail comes."""
    if way == SHOWN:
        return 0
    if way == DYING:
        return TOLD_SECONDS // MINUTE
    return math.ceil((seconds_before(way) + longest(ALARMS[way])) / MINUTE)


def rows() -> dict[str, Any]:
    """The last cell of each row of the table, by its words."""
    return {words: {3: f"{minutes_of(way) or '-'} |"} for words, way in ROWS.items()}


if __name__ == "__main__":
    for words, way in ROWS.items():
        print(f"{words:35} {ALARMS.get(way, ''):15} {minutes_of(way)}")
