"""When the alarms on the starter, its silence, outages and events fire, and for how long."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from launch.decision import PAUSE_SECONDS

ROOT = Path(__file__).parents[2]
MINUTE = 60


def starter_alarm(rate: int) -> dict[str, Any]:
    return alarm_of("ensure_starter_alarm", rate)


def alarm_of(function: str, rate: int = 1, **settings: str) -> dict[str, Any]:
    """The alarm as deploy.sh puts it."""
    script = f"set_names; TOPIC_ARN=arn; ensure_alarm() {{ printf '%s' \"$1\"; }}; {function}"
    command = ["bash", "-c", f"source '{ROOT}/deploy.sh'; {script}"]
    environment = {"PATH": os.environ["PATH"], "LAMBDA_POLL_RATE": str(rate)}
    environment |= {"EVENT_SOURCE": "eventbridge", "AUDIT_DAYS": "1"} | settings  # with these, all of them are wanted
    return json.loads(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


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


@pytest.mark.parametrize("rate", [1, 2, 3, 4, 5, 7, 10, 14, 15, 16, 30, 60, 1440])
def test_the_alarm_fires_within_a_quarter_of_an_hour_of_the_first_failed_run(rate: int) -> None:
    alarm = starter_alarm(rate)
    for first in (0, 1, 2 * MINUTE, 4 * MINUTE + 59, 7 * MINUTE + 30):
        for late in (0, 50):  # every second run comes this many seconds late
            runs = [first + number * rate * MINUTE + number % 2 * late for number in range(20)]
            assert fires_at(alarm, runs) - first <= 15 * MINUTE + late


@pytest.mark.parametrize("rate", [1, 5, 15])
def test_a_single_failed_run_is_no_alarm(rate: int) -> None:
    with pytest.raises(AssertionError, match="never fires"):
        fires_at(starter_alarm(rate), [100])


@pytest.mark.parametrize("function", ["ensure_starter_alarm", "ensure_silent_alarm"])
@pytest.mark.parametrize("rate", [1, 15, 16, 59, 60, 1440])
def test_the_periods_are_ones_that_cloudwatch_takes(function: str, rate: int) -> None:
    """CloudWatch API reference, PutMetricAlarm: Period, EvaluationPeriods."""
    alarm = alarm_of(function, rate)
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


SILENT = {"ALARM_EMAIL": "you@example.com"}


@pytest.mark.parametrize("rate", [1, 2, 3, 4, 5, 7, 10, 15, 60, 99, 1440])
def test_the_alarm_on_silence_mails_once_after_three_runs_that_did_not_come_and_not_before_the_first(rate: int) -> None:
    alarm, seconds = alarm_of("ensure_silent_alarm", rate, **SILENT), rate * MINUTE
    late = 6 * alarm["Period"] + (3600 if rate == 1440 else 0)  # six periods are as said, and at most a fifth more:
    assert 3 * seconds <= 5 * alarm["Period"] < 3 * seconds + 5 * MINUTE
    for first in (0, seconds // 2, seconds - 1, 3 * seconds + 59):
        runs = [first + number * seconds + number % 2 * 5 for number in range(20)]
        assert mails(alarm, [], 40 * seconds) == []  # a new deployment that has not run yet
        assert mails(alarm, runs, runs[-1]) == []
        assert mails(alarm, [run for run in runs if run not in runs[2:20:5]], runs[-1]) == []  # some did not come
        ((at, state),) = mails(alarm, runs, runs[-1] + 20 * seconds + 600)
        assert state == NO_DATA
        assert 3 * seconds <= at - runs[-1] <= late, first


def test_its_mail_says_the_time_that_follows() -> None:
    for rate, said in ((1, "5 to 6 minutes"), (5, "15 to 18 minutes"), (1440, "4320 to 5184 minutes")):
        assert f"has not run for {said}" in alarm_of("ensure_silent_alarm", rate)["AlarmDescription"]


def test_the_alarm_on_outages_fires_at_the_first_line_and_does_not_rest_between_two_workers() -> None:
    """From the last line of a worker to the next one: the longest pause, the starter's rule, a start, ten keys that S3
    is too busy for five minutes to answer."""
    alarm = alarm_of("ensure_outage_alarm")
    assert fires_at(alarm, [100]) == 100
    assert alarm["Period"] * (alarm["EvaluationPeriods"] - 1) >= PAUSE_SECONDS[1] + MINUTE + MINUTE + 5 * MINUTE
    assert (alarm["Namespace"], alarm["MetricName"], alarm["Dimensions"]) == ("s3-to-s3express-sync", "Outages", [])


def test_the_alarm_on_outages_has_the_metric_that_the_filter_of_the_log_counts_into() -> None:
    script = f"source '{ROOT}/deploy.sh'; set_names; outage_filter"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    (counted,) = json.loads(done.stdout)["metricTransformations"]
    alarm = alarm_of("ensure_outage_alarm")
    assert (counted["metricNamespace"], counted["metricName"]) == (alarm["Namespace"], alarm["MetricName"])
    assert "defaultValue" not in counted  # it would be paid for every hour


def test_the_alarm_on_events_fires_at_the_first_one_that_was_lost() -> None:
    """EventBridge sends the metric only when it is not zero."""
    alarm = alarm_of("ensure_events_alarm")
    assert fires_at(alarm, [100]) == 100
    assert (alarm["Namespace"], alarm["MetricName"]) == ("AWS/Events", "FailedInvocations")
    assert alarm["Dimensions"] == [{"Name": "RuleName", "Value": "s3-to-s3express-sync-event-rule"}]
