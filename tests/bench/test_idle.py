"""The measurements from idle and of a burst are no tests, but their sums have to be right."""

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parent
REPORT = "REPORT RequestId: 8d3c\tDuration: {ms}.50 ms\tBilled Duration: {billed} ms\tMemory Size: {mb} MB\tMax"
COPIED = '2026-11-25T10:00:00.000Z INFO synced key="a b" action=copied size=5 seconds=0.1 ...'


@pytest.fixture(autouse=True)
def _bench_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCH)


def module(name: str) -> Any:
    return importlib.import_module(name)


def decision(started: dict[str, int], **more: Any) -> str:
    return json.dumps({"visible": 1, "in_flight": 0, "started": started, **more})


def test_the_runs_of_the_function_are_read_from_its_log() -> None:
    lines = [
        "START RequestId: 8d3c Version: $LATEST\n",
        decision({"FARGATE_SPOT": 2, "FARGATE": 1}),
        REPORT.format(ms=100, billed=101, mb=128),
        decision({}, copied={"copied": 1, "skipped": 1}),
        COPIED,
        COPIED.replace("action=copied", "action=deleted"),
        REPORT.format(ms=2000, billed=2001, mb=512),
        decision({}, copied={"copied": 0}),
    ]
    runs = module("deployed").read_runs(lines)
    assert (runs.runs, runs.started, runs.that_copied, runs.copied) == (2, 3, 1, 1)
    assert runs.seconds == pytest.approx(0.1005 + 2.0005)
    assert runs.gb_seconds == pytest.approx(0.101 / 8 + 2.001 / 2)


def test_errors_are_counted_as_the_worker_and_as_lambda_write_them() -> None:
    lines = ["2026-11-25T10:00:00.000Z ERROR failed key=", "[ERROR] RuntimeError: no ECS", "2026Z WARNING slow", COPIED]
    assert module("deployed").count_errors([*lines, "an ERROR in a key"]) == {"ERROR": 2, "WARNING": 1}


def test_what_never_comes_ends_the_wait() -> None:
    assert module("deployed").wait_until(lambda: True, "at once") < 1
    with pytest.raises(TimeoutError, match="a miracle"):
        module("deployed").wait_until(lambda: False, "a miracle", seconds=0.01, pause=0.001)


def test_the_uploads_are_shared_evenly_and_none_is_lost() -> None:
    shares = module("idle").shares
    assert shares(50, 6) == [9, 9, 8, 8, 8, 8]
    assert shares(2, 6) == [1, 1]
    for total in range(1, 60):
        assert sum(shares(total, 4)) == total


def test_looking_for_the_copy_is_exact_at_first_and_rare_later() -> None:
    pause = module("idle").poll_pause
    assert [pause(seconds) for seconds in (0, 2, 5, 60)] == [0.02, 0.02, 0.05, 0.2]


def test_a_row_has_the_median_and_the_worst_of_all_deployments_of_a_mode() -> None:
    idle, runs = module("idle"), module("deployed").Runs(7, 1.0, 0.5, 2, 1, 1)
    results = [idle.Result([1.0, 3.0], runs, 1, 4.0), idle.Result([2.0, 10.0, 2.5], runs, 2, 5.6)]
    row = idle.summary(idle.MODES["default"], results)
    assert row == ["the defaults", "5", "2.50", "7.20", "10.00", "4", "14 in 10 min", "2", "2 + 3"]
    assert len(row) == len(idle.COLUMNS)
    assert idle.table([row]).splitlines()[-1].startswith("| the defaults | 5 | 2.50 |")


def figures(**different: Any) -> Any:
    burst, runs = module("burst"), module("deployed").Runs(50, 100.0, 50.0, 2, 3, 700)
    values = {"objects": 1000, "has_events": True, "put_seconds": 9.0, "seconds": 70.0, "unequal": 0, "dead_letters": 0}
    values |= {"runs": runs, "metrics": {"Throttles": 999.0}, "copied_by_workers": 300, "task_seconds": [100.0, 80.0]}
    return burst.Figures(**values | {"levels": {}} | different)


def test_a_burst_is_paid_for_as_in_the_cost_table() -> None:
    found = module("burst").priced(figures())
    assert found["events and their alarm"] == pytest.approx(1000 * 1e-6)
    assert found["function"] == pytest.approx(50 * 0.2e-6 + 50 * 13.3334e-6)
    assert found["workers"] == pytest.approx(0.05 * 0.0409, rel=1e-3)
    assert found["bytes and S3 requests"] == pytest.approx(0.001 * 0.0032 + 1000 * 1.93e-6)
    assert module("burst").priced(figures(has_events=False))["events and their alarm"] == 0


def test_the_report_tells_who_copied_what_and_what_the_function_was_spared() -> None:
    report = module("burst").report(figures())
    assert "| copied by the function | 700 in 3 runs |" in report
    assert "| copied by workers | 300 |" in report
    assert "| its metrics | Throttles 999 |" in report
