"""Runs of the starter while the sync is paused (PAUSED_SINCE)."""

import json
from typing import Any

import pytest
from starter_cloud import Cloud, running, starting
from test_starter_events import MINUTE, event

import starter
from launch.tasks import PAUSED

SINCE = "2026-11-25T11:00:00Z"


@pytest.fixture(autouse=True)
def paused(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cloud  # which removes the variables that this shell has
    monkeypatch.setenv("PAUSED_SINCE", SINCE)


class Copier:
    """Instead of mirror.function: it is not to be asked."""

    @staticmethod
    def end_process_if_unanswered() -> None:
        pass


# What would start workers or an audit, or copy: settings, the run, and who copies; each with messages that wait. With
# EVENT_SOURCE=eventbridge an event has everything looked at if no run of the minute came for a while.
RUNS: dict[str, tuple[dict[str, str], dict[str, Any], type[Copier] | None]] = {
    "the function copies": ({}, MINUTE, Copier),
    "workers stay": ({"MIN_WORKERS": "2"}, MINUTE, Copier),
    "an audit is due": ({"AUDIT_DAYS": "1"}, MINUTE, Copier),
    "somebody edited the time": ({"PAUSED_SINCE": "2026-13-45, or so"}, MINUTE, Copier),
    "by an event of the bucket, and the function does not copy": ({}, event(), None),
}


@pytest.mark.parametrize("name", RUNS)
def test_nothing_is_started_or_copied_and_what_runs_is_stopped(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    settings, begun_by, copier = RUNS[name]
    monkeypatch.setattr(starter, "memory", starter.Memory())
    for setting, value in settings.items():
        monkeypatch.setenv(setting, value)
    monkeypatch.setattr(starter, "copier", copier)
    tasks = [running(), starting()]
    cloud.has_messages(50, 0)
    cloud.has_tasks_listed([task["taskArn"] for task in tasks])
    cloud.ecs.add_response("describe_tasks", {"tasks": tasks})
    for task in tasks:
        cloud.stops(task, PAUSED)
    report = starter.handler(begun_by, None)
    said = [report[name] for name in ("paused_since", "wanted", "started", "stopped", "failing")]
    assert said == [settings.get("PAUSED_SINCE", SINCE), 0, {}, 2, ""]
    cloud.has_messages(50, 0)
    cloud.has_tasks_listed([])
    assert "copied" not in starter.handler(MINUTE, None)


def test_a_burst_of_events_costs_no_call_in_a_pause(capsys: pytest.CaptureFixture[str]) -> None:
    assert starter.handler(event(), None) == {"event": True, "paused_since": SINCE}
    assert json.loads(capsys.readouterr().out) == {"event": True, "paused_since": SINCE}
