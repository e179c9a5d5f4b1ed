"""The benches are no tests, but each of their commands has to work, what they name has to exist, and what they compare
with has to differ from what is wrong. The month has its own tests."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from soak import EVENTS

BENCH = Path(__file__).parent


def tiny(folder: Path, program: str, *options: str) -> tuple[str, list[dict[str, Any]]]:
    """What the bench prints, and the rows of its results."""
    command = [sys.executable] if program.endswith(".py") else []
    ended = subprocess.run(
        [*command, BENCH / program, *options, "--output", folder],
        env=os.environ | {"BENCH_PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    results = folder / "results.json"
    return ended.stdout, json.loads(results.read_text()) if results.exists() else []


def test_the_benchmark_measures_the_worker_and_prints_its_table(tmp_path: Path) -> None:
    shown, rows = tiny(tmp_path, "run", "--quick", "--movers", "crt")
    assert [row for row in rows if "note" in row] == []
    small = [row for row in rows if row["section"] == "small"]
    assert all(row["objects/s"] > 0 for row in small)
    assert all(row["requests/object"] >= 3 for row in small), "a check was left out"
    assert f"{small[0]['CPU ms/object']:.3g}" in shown
    assert {row["section"]: row.get("parts", row.get("live events")) for row in rows if row["section"] != "small"} == {
        "large": 96,
        "mixed": None,
        "backfill": 20,
    }


def test_a_table_is_measured_with_nothing_broken(tmp_path: Path) -> None:
    _, (row,) = tiny(tmp_path, "tables.py", "--commits", "5", "--only", "on, ten a second")
    assert (row["broken"], row["looks"] > 0) == (0, True)


def test_a_tree_is_compared_as_it_is_in_bounded_memory(tmp_path: Path) -> None:
    """Of the small one, the folder itself, and what is below it on two pages of each side. Each of the 15 keys that
    differ is looked at on both sides."""
    _, (small, large) = tiny(tmp_path, "walk.py", "--only", "small", "folders of 200", "--page-seconds", "0")
    shown = [small[name] for name in ("keys", "told", "looks", "source pages", "destination pages")]
    assert shown == ["1770", "as it is", 30, 3, 3]
    assert (large["keys"], large["told"], large["times plain"] < 1.1) == ("250000", "as it is", True)
    assert large["peak MiB"] < small["peak MiB"] + 35  # 60 bytes a key, and 20 MiB


def test_two_workers_under_kills_duplicates_and_all_faults_end_with_equal_buckets(tmp_path: Path) -> None:
    shown, _ = tiny(tmp_path, "soak.py", "--quick", "--rate", "80", "--keys", "1000")
    assert "unequal 0 []" in shown and "changes 0," not in shown
    assert shown.count(" changes: ") == len(EVENTS)
