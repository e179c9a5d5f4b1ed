"""The scenarios and the soak are no tests, but what they name has to exist, and their commands have to work."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from standin import VERBS
from standin_faults import Fault

BENCH = Path(__file__).parent


@pytest.fixture(autouse=True)
def _bench_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCH)


def test_every_scenario_names_what_there_is() -> None:
    from pressure_runs import STEPS
    from pressure_scenarios import SCENARIOS

    for scenario in SCENARIOS.values():
        for fault in scenario.faults:
            Fault(**{"kind": "error", **fault})
        assert {verb for _, verb, _ in scenario.steps} <= VERBS.keys() | STEPS.keys()
        groups = {load.group for load in scenario.loads}
        assert {scenario.goal, scenario.lag} <= {"", "queue", "end", *groups}, scenario.name
        assert [step[0] for step in scenario.steps] == sorted(step[0] for step in scenario.steps)


def test_every_event_of_the_soak_names_what_there_is() -> None:
    from soak import Soak
    from soak_faults import ALWAYS, EVENTS

    for fault in [*ALWAYS, *(fault for event in EVENTS for fault in event.faults)]:
        Fault(**{"kind": "error", **fault})
    assert [event.action for event in EVENTS if event.action and not hasattr(Soak, event.action)] == []


def test_a_scenario_runs_and_tells_what_the_worker_suffered(tmp_path: Path) -> None:
    command = [sys.executable, BENCH / "pressure.py", "--quick", "--only", "own-faults", "--output", tmp_path]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert ended.returncode == 0, ended.stderr
    ((scenario, _, figures),) = json.loads((tmp_path / "results.json").read_text())
    assert scenario == "own-faults"
    assert figures["shown"] == "100/100"
    assert figures["dead"] == 1, "the key that is refused"
    assert figures["receives, most"] == 3
    assert figures["status"] == 0
    assert "| own-faults |" in ended.stdout


def test_memory_that_follows_changes_is_told_from_memory_that_follows_threads(tmp_path: Path) -> None:
    import soak_fit

    table = tmp_path / "soak.csv"
    lines = ["second,what,name,value"]
    for second in range(0, 3600, 60):
        threads, millions = 50 if second > 1200 else 10, second / 1800
        seen = {"worker 1,7": 60 + 0.2 * threads + 1.5 * millions, "threads 1,7": threads, "changes,": 1e6 * millions}
        lines += [f"{second},{what},{value}" for what, value in seen.items()]
    table.write_text("\n".join(lines))
    (line,) = soak_fit.fit(table)
    assert "0.20 MiB for each thread, +1.50 for a million changes" in line
    assert "at 50 threads: 71.0 to 73.0 MiB, in the second half +1.50 for a million" in line
