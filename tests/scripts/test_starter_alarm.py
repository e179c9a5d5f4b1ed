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


def alarm_of(function: str, rate: int = 1) -> dict[str, Any]:
    """The alarm as deploy.sh puts it."""
    script = f"set_names; TOPIC_ARN=arn; ensure_alarm() {{ printf '%s' \"$1\"; }}; {function}"
    command = ["bash", "-c", f"source '{ROOT}/deploy.sh'; {script}"]
    environment = {"PATH": os.environ["PATH"], "LAMBDA_POLL_RATE": str(rate)}
    environment |= {"EVENT_SOURCE": "eventbridge", "AUDIT_DAYS": "1"}  # with these, all of them are wanted
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


@pytest.mark.parametrize("rate", [1, 5, 1440])
def test_the_alarm_on_silence_fires_after_three_runs_that_did_not_come(rate: int) -> None:
    """It counts whole periods, so it is at most one late, and no run that is late by less than one makes it fire."""
    alarm, seconds = alarm_of("ensure_silent_alarm", rate), rate * MINUTE
    assert (alarm["Namespace"], alarm["MetricName"], alarm["Statistic"]) == ("AWS/Lambda", "Invocations", "Sum")
    assert (alarm["ComparisonOperator"], alarm["Threshold"]) == ("LessThanThreshold", 1)
    assert alarm["TreatMissingData"] == "breaching"  # what does not run reports nothing
    for first in (0, seconds // 2, seconds - 1):
        for missed in range(5):
            ran = {run // alarm["Period"] for run in (first, first + (missed + 1) * seconds)}
            empty = max(ran) - min(ran) - 1
            fires = min(empty, alarm["EvaluationPeriods"]) >= alarm["DatapointsToAlarm"]
            assert fires == (missed >= 3), (first, missed)


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
