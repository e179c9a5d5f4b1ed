"""AUDIT_DAYS in an account: made only if it is set, removed if it is not any more, and by cleanup.sh."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from account import APP, Account
from deployment import assert_conforming, nameless, one_cli, one_cloud, states
from test_policies import CONTEXT, UNUSED, grants, run_as_function, starter_rights, unused_grants
from test_settings import PASSED, problems
from test_starter_alarm import alarm_of, fires_at

from mirror.model.log_lines import AUDITED, RECONCILED, SYNCED, quoted

ROOT = Path(__file__).parents[2]
WEEKLY = {"AUDIT_DAYS": "7"}
NAME = f"{APP}-audit"
GROUPS = {f"/ecs/{APP}-task": "worker", f"/aws/lambda/{APP}-starter": "starter"}
# The steps that audits have part in.
PARTS = ("ensure_starter_role", "ensure_function", "ensure_*audit*")
STEPS = [f"alarm {NAME}", f"metric filter {NAME}", f"metric filter {NAME}"]


def filters(account: Account) -> dict[str, dict[str, Any]]:
    """Of audits: "worker" or "starter" -> the filter in its log."""
    logs = account.client("logs")
    return {
        log: found
        for group, log in GROUPS.items()
        for found in logs.describe_metric_filters(logGroupName=group)["metricFilters"]
        if found["filterName"] == NAME
    }


def lines(output: str) -> dict[str, str]:
    """What a run says of each resource of audits."""
    return {name: state for name, state in re.findall(r"\] (.+?): (.+)$", output, re.MULTILINE) if NAME in name}


@one_cloud
@one_cli
def test_it_is_made_once_and_removed_when_it_is_not_set_any_more(account: Account) -> None:
    account.deployed()
    deployed = nameless(account.inventory())
    assert not {"AUDIT_DAYS", "AUDIT_STARTED_BY"} & account.starter_environment().keys()
    output, _ = account.steps(*PARTS, **WEEKLY)
    assert_conforming(account)
    assert lines(output) == dict.fromkeys(STEPS, "created")
    assert filters(account).keys() == {"worker", "starter"}
    assert account.alarms()[NAME][0]["Namespace"] == APP
    variables = account.starter_environment()
    assert (variables["AUDIT_DAYS"], variables["AUDIT_STARTED_BY"]) == ("7", NAME)
    output, _ = account.steps(*PARTS, **WEEKLY)
    assert set(states(output)) == {"exists"}, output
    assert account.recorder.writes == []
    output, _ = account.run("cleanup.sh", "--dry-run")
    assert f"would remove alarm {NAME}" in output
    assert f"would remove metric filter {NAME}" in output

    output, _ = account.steps(*PARTS)
    assert_conforming(account)
    assert lines(output) == {f"alarm {NAME}": "changed (removed with its filters, because AUDIT_DAYS is empty)"}
    assert nameless(account.inventory()) == deployed
    output, _ = account.steps(*PARTS)
    assert (lines(output), account.recorder.writes) == ({}, [])


@one_cloud
@one_cli
def test_a_run_that_was_killed_before_the_filters_is_undone_by_one_without_audits(account: Account) -> None:
    account.deployed()
    account.steps(*PARTS, **WEEKLY)
    account.client("logs").delete_metric_filter(logGroupName=f"/ecs/{APP}-task", filterName=NAME)
    account.steps(*PARTS)
    assert filters(account) == {}
    assert NAME not in account.alarms()


@one_cloud
@one_cli
def test_an_alarm_of_somebody_else_with_that_name_stays(account: Account) -> None:
    account.put_alarm(NAME)
    output, _ = account.steps("ensure_audit_alarm")
    assert lines(output) == {f"alarm {NAME}": f"left to you, because it has no tag app={APP}"}
    assert NAME in account.alarms()


# The time of an audit has come; the second run looks at its task.
RUN_AUDIT = f"""{CONTEXT}
import starter
from launch.audit import newest_slot
slot = newest_slot(starter.time(), 1)
starter.time = lambda: slot + 60
print(starter.handler({{}}, context), starter.handler({{}}, context))
"""


@one_cloud
@one_cli
def test_the_starter_may_do_that_with_the_rights_that_it_has(account: Account) -> None:
    plain, policy = starter_rights(account, *PARTS, AUDIT_DAYS="1")
    assert grants(policy) == plain
    account.recorder.forget()
    run_as_function(account, RUN_AUDIT, account.starter_environment())
    asked = [call.parameters for call in account.recorder.calls if call.operation == "RunTask"]
    runs = [run for run in asked if run["startedBy"] == NAME]
    assert runs  # the other is a worker, for S3's test message
    for run in runs:
        assert run["count"] == 1
        assert run["capacityProviderStrategy"] == [{"capacityProvider": "FARGATE", "weight": 1}]
        assert run["overrides"]["containerOverrides"] == [{"name": "worker", "command": ["reconcile", "--audit"]}]
    assert_conforming(account)
    assert unused_grants(account, policy) == UNUSED | {"ecs:StopTask"}


# Settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"AUDIT_DAYS": "0"}, "AUDIT_DAYS=0: set a whole number from 1 to 90"),
        ({"AUDIT_DAYS": "91"}, "AUDIT_DAYS=91: set a whole number from 1 to 90"),
        ({"AUDIT_DAYS": "weekly"}, "AUDIT_DAYS=weekly: set a whole number from 1 to 90"),
        (
            {"AUDIT_DAYS": "7", "LAMBDA_POLL_RATE": "16"},
            "AUDIT_DAYS=7 with LAMBDA_POLL_RATE=16: the starter would miss the time of an audit",
        ),
        (
            {"AUDIT_DAYS": "30", "LOG_RETENTION_DAYS": "30"},
            "AUDIT_DAYS=30 with LOG_RETENTION_DAYS=30: the log would not keep what an audit found",
        ),
    ],
)
def test_settings_with_which_audits_would_not_work_are_refused(settings: dict[str, str], message: str) -> None:
    assert message in problems(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"AUDIT_DAYS": ""},
        {"AUDIT_DAYS": "", "LAMBDA_POLL_RATE": "60"},
        {"AUDIT_DAYS": "7", "LAMBDA_POLL_RATE": "15"},
        {"AUDIT_DAYS": "29", "LOG_RETENTION_DAYS": "30"},
        {"AUDIT_DAYS": "90", "LOG_RETENTION_DAYS": "120"},
    ],
)
def test_the_other_settings_are_taken(settings: dict[str, str]) -> None:
    assert problems(**settings) == f"{PASSED}\n"


# The alarm


def in_bash(script: str) -> str:
    command = ["bash", "-c", f"source '{ROOT}/deploy.sh'; set_names; {script}"]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=dict(os.environ)).stdout


def test_the_alarm_fires_at_the_first_line_of_either_log() -> None:
    alarm = alarm_of("ensure_audit_alarm")
    assert fires_at(alarm, [100]) == 100
    assert re.search(" Why: .+ What to do: ./sync.sh", alarm["AlarmDescription"])
    for function in ("audit_filter", "audit_start_filter"):
        (counted,) = json.loads(in_bash(function))["metricTransformations"]
        assert (counted["metricNamespace"], counted["metricName"]) == (alarm["Namespace"], alarm["MetricName"])
        assert "defaultValue" not in counted  # it would be paid for every hour


def line(level: str, form: str, *values: Any) -> str:
    return f"2026-11-25T02:03:04.567Z {level} {form % values}"


def test_the_filter_of_the_workers_log_counts_audits_that_found_something_or_failed() -> None:
    """CloudWatch Logs User Guide, "Filter pattern syntax": no groups, and no space in a regular expression."""
    pattern = json.loads(in_bash("audit_filter"))["filterPattern"]
    assert re.fullmatch(r"%[\w^\\+]+%", pattern)
    bad = [line("ERROR", AUDITED, "complete", 0, 3, "x"), line("ERROR", AUDITED, "stopped", 3, 0, "x")]
    good = [
        line("INFO", AUDITED, "complete", 0, 0, "x"),
        line("INFO", RECONCILED, "complete", 0, "x"),
        line("INFO", SYNCED, quoted("x ERROR audited end="), "copied", 1, 0.25, ""),
    ]
    assert [text for text in bad + good if re.search(pattern.strip("%"), text)] == bad


def test_the_filter_of_the_starters_log_counts_lines_whose_audit_has_a_problem() -> None:
    """CloudWatch Logs User Guide, "Using filter patterns to match terms in JSON log events": a selector of a property
    and a text in quotes, in which a star stands for any characters."""
    pattern = json.loads(in_bash("audit_start_filter"))["filterPattern"]
    (path,) = re.fullmatch(r'\{ \$\.([\w.]+) = "\*" \}', pattern).groups()
    assert path.split(".") == ["audit", "problem"]
