"""When the alarms on the starter, its silence, outages and events fire, and for how long.

Their periods are those that asked_for.py asks for, against which test_generated.py holds deployments.
"""

import pytest
from asked_for import Asked
from paper_account import PaperAccount

from launch.failures import PAUSE_SECONDS

MINUTE = 60
RATES = (1, 7, 15, 59, 1440)  # LAMBDA_POLL_RATE
OK, ALARM, NO_DATA = "OK", "ALARM", "INSUFFICIENT_DATA"


def periods(name: str, rate: int = 1) -> tuple[int, int, int]:
    """(seconds of a period, periods, how many of them are too much) of an alarm."""
    asked = Asked(PaperAccount(), {"EVENT_SOURCE": "eventbridge", "LAMBDA_POLL_RATE": str(rate)})
    return dict(asked.watched())[name][-1]  # type: ignore[no-any-return]


def fires_at(name: str, rate: int, failed_runs: list[int]) -> int | None:
    """The first failed run, in seconds, at which enough of the last periods hold one. Periods begin at multiples."""
    seconds, count, enough = periods(name, rate)
    for now in failed_runs:
        failed = {run // seconds for run in failed_runs if run <= now}
        if sum(now // seconds - age in failed for age in range(count)) >= enough:
            return now
    return None


@pytest.mark.parametrize("rate", RATES)
def test_the_alarm_fires_at_the_second_failed_run_or_if_it_would_come_after_an_hour_at_the_first(rate: int) -> None:
    for first in (0, 1, 2 * MINUTE, 4 * MINUTE + 59, 7 * MINUTE + 30):
        for late in (0, 50):  # every second run comes this many seconds late
            at = fires_at("starter-fails", rate, [first + n * rate * MINUTE + n % 2 * late for n in range(20)])
            assert at is not None and at - first <= max(5, rate if rate <= 60 else 0) * MINUTE + late
    assert rate > 60 or fires_at("starter-fails", rate, [100]) is None


def test_the_alarms_on_outages_and_lost_events_fire_at_the_first_one() -> None:
    """EventBridge sends its metric only when it is not zero. From the last line of a worker on an outage to the next
    one: the longest pause, the starter's rule, a start, ten keys that S3 is too busy for five minutes to answer."""
    assert fires_at("outage", 1, [100]) == fires_at("events", 1, [100]) == 100
    seconds, count, _ = periods("outage")
    assert seconds * (count - 1) >= PAUSE_SECONDS[1] + MINUTE + MINUTE + 5 * MINUTE


# --- the oldest message -----------------------------------------------------------------------------------------------


def is_late(rate: int, first: int, seconds: int) -> bool:
    """Whether the alarm fires on one message, which came at the second `first` and waited for so long. CloudWatch has
    the age of the oldest message each minute."""
    asked = Asked(PaperAccount(), {"LAMBDA_POLL_RATE": str(rate)})
    *_, threshold, (period, count, enough) = dict(asked.watched())["behind"]
    ages = {at: at - first for at in range(first, first + seconds, MINUTE)}
    bad = {at // period for at, age in ages.items() if age > threshold}
    return any(sum(number - back in bad for back in range(count)) >= enough for number in bad)


@pytest.mark.parametrize("rate", [*RATES, 55, 60, 61, 75, 720])
def test_the_alarm_on_the_oldest_message_fires_if_it_waits_for_longer_than_the_rate_and_a_start(rate: int) -> None:
    healthy = rate * MINUTE + 10 * MINUTE
    for first in range(0, 300, 59):
        assert not is_late(rate, first, healthy)
        assert is_late(rate, first, max(healthy, 3600) + 15 * MINUTE)


# --- silence --------------------------------------------------------------------------------------------------------


def state_of(points: str, enough: int) -> str:
    """Of the five that it looks at, the newest last (0 good, X bad, - missing). Of three real points or more, the
    newest three count, of fewer, all (CloudWatch User Guide, "Configuring how CloudWatch alarms treat missing data").
    """
    real = points.replace("-", "")[-3:]
    if real.count("X") >= enough:
        return ALARM
    return OK if "0" in real else ALARM if real else NO_DATA


def mails(rate: int, runs: list[int], until: int) -> list[tuple[int, str]]:
    """(second, state) of each mail of a new alarm on the runs of a function, which is looked at each minute, and once
    an hour if its periods come to more than a day. Lambda reports no run as no point. OK is mailed to nobody."""
    seconds, count, enough = periods("starter-silent", rate)
    state, sent, ran = NO_DATA, [], {run // seconds for run in runs}
    for now in range(0, until, MINUTE if count * seconds <= 86_400 else 3600):
        newest = now // seconds - 1
        points = "".join("0" if number in ran else "-" for number in range(newest - 4, newest + 1))
        was, state = state, state_of(points, enough)
        sent += [(now, state)] if state not in (was, OK) else []
    return sent


@pytest.mark.parametrize("rate", RATES)
def test_the_alarm_on_silence_mails_once_after_three_runs_that_did_not_come_and_not_before_the_first(rate: int) -> None:
    period, seconds = periods("starter-silent", rate)[0], rate * MINUTE
    late = 6 * period + (3600 if rate == 1440 else 0)  # six periods are as said, and at most a fifth more:
    assert 3 * seconds <= 5 * period < 3 * seconds + 5 * MINUTE
    for first in (0, seconds // 2, seconds - 1, 3 * seconds + 59):
        runs = [first + number * seconds + number % 2 * 5 for number in range(20)]
        assert mails(rate, [], 40 * seconds) == []  # a new deployment that has not run yet
        assert mails(rate, runs, runs[-1]) == []
        assert mails(rate, [run for run in runs if run not in runs[2:20:5]], runs[-1]) == []  # some did not come
        ((at, state),) = mails(rate, runs, runs[-1] + 20 * seconds + 600)
        assert state == NO_DATA
        assert 3 * seconds <= at - runs[-1] <= late, first
