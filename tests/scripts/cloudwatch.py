"""CloudWatch's rules for the state of an alarm, as published (CloudWatch User Guide, "Configuring how CloudWatch alarms
treat missing data"): from the points of its periods to OK, ALARM or INSUFFICIENT_DATA."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

OK, ALARM, NO_DATA = "OK", "ALARM", "INSUFFICIENT_DATA"
MORE_PERIODS = 2  # that an alarm looks at beside its own: "three" looks at five. Other numbers are not published


class Alarm(NamedTuple):
    """`enough` of `count` periods have to breach. A period without data does not, unless that is `missing`."""

    seconds: int
    count: int
    enough: int
    breaches: Callable[[float], bool] = lambda value: value > 0
    merge: Callable[[Sequence[float]], float] = max  # the values of a period
    missing: bool = False


def state_of(points: Sequence[bool | None], alarm: Alarm) -> str:
    """`points`: whether each of the periods that it looks at breaches, None if it has no data; the newest last.

    If enough periods have data, the newest of these count, and what is missing does not matter.
    """
    real = [point for point in points if point is not None]
    bad = sum(real[-alarm.count :])
    if bad >= alarm.enough:
        return ALARM
    if not alarm.missing or not all(real):
        return OK
    return ALARM if real else NO_DATA


def states(values: Sequence[tuple[float, float]], alarm: Alarm, until: float) -> Iterator[tuple[float, str]]:
    """(second, state) at the end of each period. `values`: of the metric, each with its second; a period without any
    has no data."""
    periods: dict[int, list[float]] = {}
    for at, value in values:
        periods.setdefault(int(at // alarm.seconds), []).append(value)
    breaches = {number: alarm.breaches(alarm.merge(found)) for number, found in periods.items()}
    for newest in range(int(until // alarm.seconds)):
        first = newest + 1 - alarm.count - MORE_PERIODS
        yield (newest + 1) * alarm.seconds, state_of([*map(breaches.get, range(first, newest + 1))], alarm)


def mails(found: Mapping[str, Sequence[tuple[float, str]]], bad: Mapping[str, str]) -> list[tuple[float, str]]:
    """(second, alarm) of each mail: one when an alarm gets into the state of `bad`, and none until it has left it."""
    sent = []
    for name, changes in found.items():
        was = OK
        for at, state in changes:
            sent += [(at, name)] if state == bad[name] != was else []
            was = state
    return sorted(sent)
