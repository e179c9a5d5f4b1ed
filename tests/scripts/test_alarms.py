"""When the alarms on the starter, its silence, outages and events fire, and for how long."""

from typing import Any

import pytest
from account import APP
from documents import Scripts, scripts_of_module
from paper_account import PaperAccount

from launch.decision import PAUSE_SECONDS

MINUTE = 60
RATES = (1, 7, 15, 59, 1440)
# With these, all alarms are wanted.
SETTINGS = {"EVENT_SOURCE": "eventbridge", "ALARM_EMAIL": "you@example.com"}

scripts = scripts_of_module()


@pytest.fixture(scope="module")
def alarms(scripts: Scripts) -> dict[int, dict[str, Any]]:
    """LAMBDA_POLL_RATE -> the alarms that deploy.sh leaves, by the end of their names."""
    found, account = {}, PaperAccount()
    scripts.account = account
    for rate in RATES:
        scripts.deploy(**SETTINGS, LAMBDA_POLL_RATE=str(rate))
        kept = account.kept.items()
        found[rate] = {name.split(f"alarm {APP}-")[1]: alarm for name, alarm in kept if name.startswith("alarm ")}
    return found


def fires_at(alarm: dict[str, Any], failed_runs: list[int]) -> int:
    """The first failed run, in seconds, at which enough of the last periods hold one. Periods begin at multiples."""
    assert (alarm["Statistic"], alarm["Threshold"], alarm["TreatMissingData"]) == ("Sum", 0, "notBreaching")
    for now in failed_runs:
        newest = now // alarm["Period"]
        breaching = {run // alarm["Period"] for run in failed_runs if run <= now}
        window = range(newest - alarm["EvaluationPeriods"] + 1, newest + 1)
        if sum(period in breaching for period in window) >= alarm["DatapointsToAlarm"]:
            return now
    raise AssertionError("it never fires")


@pytest.mark.parametrize("rate", RATES)
def test_the_alarm_fires_within_a_quarter_of_an_hour_of_the_first_failed_run(
    alarms: dict[int, dict[str, Any]], rate: int
) -> None:
    alarm = alarms[rate]["starter-fails"]
    for first in (0, 1, 2 * MINUTE, 4 * MINUTE + 59, 7 * MINUTE + 30):
        for late in (0, 50):  # every second run comes this many seconds late
            runs = [first + number * rate * MINUTE + number % 2 * late for number in range(20)]
            assert fires_at(alarm, runs) - first <= 15 * MINUTE + late
    if rate <= 15:
        with pytest.raises(AssertionError, match="never fires"):
            fires_at(alarm, [100])


@pytest.mark.parametrize("rate", RATES)
def test_the_periods_are_ones_that_cloudwatch_takes(alarms: dict[int, dict[str, Any]], rate: int) -> None:
    """CloudWatch API reference, PutMetricAlarm: Period, EvaluationPeriods."""
    for alarm in alarms[rate].values():
        assert alarm["Period"] % 60 == 0
        assert alarm["Period"] * alarm["EvaluationPeriods"] <= (86_400 if alarm["Period"] < 3600 else 604_800)
        assert 1 <= alarm["DatapointsToAlarm"] <= alarm["EvaluationPeriods"]


# --- silence --------------------------------------------------------------------------------------------------------

# CloudWatch User Guide, "Configuring how CloudWatch alarms treat missing data": an alarm on 3 points, of which so many
# breach; the five points that it looks at, the newest last (0 good, X bad, - missing); its state if missing data counts
# as missing, is ignored (. stands for the state before), breaches, or does not.
TREATMENTS = ("missing", "ignore", "breaching", "notBreaching")
OK, ALARM, NO_DATA = "OK", "ALARM", "INSUFFICIENT_DATA"
PUBLISHED = [
    (3, "0-X-X", (OK, OK, OK, OK)),
    (3, "0----", (OK, OK, OK, OK)),
    (3, "-----", (NO_DATA, ".", ALARM, OK)),
    (3, "0XX-X", (ALARM, ALARM, ALARM, ALARM)),
    (3, "--X--", (ALARM, ".", ALARM, OK)),
    (2, "0-X-X", (ALARM, ALARM, ALARM, ALARM)),
    (2, "0-X--", (OK, OK, ALARM, OK)),
    (2, "----0", (OK, OK, ALARM, OK)),
    (2, "---X-", (ALARM, ".", ALARM, OK)),
]


def state_of(points: str, bad_enough: int, treatment: str, before: str) -> str:
    """Of three real points or more, the newest three count. Of fewer, all count, and the rest is filled."""
    real = points.replace("-", "")[-3:]
    filled = real + {"breaching": "X", "notBreaching": "0"}.get(treatment, "") * (3 - len(real))
    if filled.count("X") >= bad_enough:
        return ALARM
    if "0" in filled:
        return OK
    return before if treatment == "ignore" else ALARM if filled else NO_DATA


@pytest.mark.parametrize(("bad_enough", "points", "states"), PUBLISHED)
def test_the_model_of_an_alarm_is_that_of_the_published_table(
    bad_enough: int, points: str, states: tuple[str, ...]
) -> None:
    found = tuple(state_of(points, bad_enough, treatment, ".") for treatment in TREATMENTS)
    assert found == states


def mails(alarm: dict[str, Any], runs: list[int], until: int) -> list[tuple[int, str]]:
    """(second, state) of each mail of a new alarm on the runs of a function, which is looked at each minute, and once
    an hour if its periods come to more than a day. Lambda reports no run as no point."""
    assert (alarm["Namespace"], alarm["MetricName"], alarm["Statistic"]) == ("AWS/Lambda", "Invocations", "Sum")
    assert (alarm["ComparisonOperator"], alarm["Threshold"], alarm["EvaluationPeriods"]) == ("LessThanThreshold", 1, 3)
    period, state, sent = alarm["Period"], NO_DATA, []
    actions = {ALARM: alarm["AlarmActions"], NO_DATA: alarm["InsufficientDataActions"], OK: alarm.get("OKActions", [])}
    ran = {run // period for run in runs}
    for now in range(0, until, MINUTE if 3 * period <= 86_400 else 3600):
        newest = now // period - 1
        points = "".join("0" if number in ran else "-" for number in range(newest - 4, newest + 1))
        was, state = state, state_of(points, alarm["DatapointsToAlarm"], alarm["TreatMissingData"], state)
        if state != was and actions[state]:
            sent.append((now, state))
    return sent


@pytest.mark.parametrize("rate", RATES)
def test_the_alarm_on_silence_mails_once_after_three_runs_that_did_not_come_and_not_before_the_first(
    alarms: dict[int, dict[str, Any]], rate: int
) -> None:
    alarm, seconds = alarms[rate]["starter-silent"], rate * MINUTE
    late = 6 * alarm["Period"] + (3600 if rate == 1440 else 0)  # six periods are as said, and at most a fifth more:
    assert 3 * seconds <= 5 * alarm["Period"] < 3 * seconds + 5 * MINUTE
    assert f"has not run for {alarm['Period'] // 12} to {alarm['Period'] // 10} minutes" in alarm["AlarmDescription"]
    for first in (0, seconds // 2, seconds - 1, 3 * seconds + 59):
        runs = [first + number * seconds + number % 2 * 5 for number in range(20)]
        assert mails(alarm, [], 40 * seconds) == []  # a new deployment that has not run yet
        assert mails(alarm, runs, runs[-1]) == []
        assert mails(alarm, [run for run in runs if run not in runs[2:20:5]], runs[-1]) == []  # some did not come
        ((at, state),) = mails(alarm, runs, runs[-1] + 20 * seconds + 600)
        assert state == NO_DATA
        assert 3 * seconds <= at - runs[-1] <= late, first


def test_the_alarms_on_outages_and_lost_events_fire_at_the_first_one(alarms: dict[int, dict[str, Any]]) -> None:
    """EventBridge sends its metric only when it is not zero. From the last line of a worker on an outage to the next
    one: the longest pause, the starter's rule, a start, ten keys that S3 is too busy for five minutes to answer."""
    outages, events = alarms[1]["outage"], alarms[1]["events"]
    assert fires_at(outages, [100]) == fires_at(events, [100]) == 100
    assert outages["Period"] * (outages["EvaluationPeriods"] - 1) >= PAUSE_SECONDS[1] + MINUTE + MINUTE + 5 * MINUTE
