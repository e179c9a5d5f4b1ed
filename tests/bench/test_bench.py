"""The benchmark is no test, but its command has to work."""

import json
import os
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).with_name("run")


def test_the_benchmark_measures_the_worker_and_prints_its_table(tmp_path: Path) -> None:
    command = [BENCH, "--quick", "--sections", "small", "--objects", "50", "--movers", "crt", "--output", tmp_path]
    environment = os.environ | {"BENCH_PYTHON": sys.executable}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1800)
    assert ended.returncode == 0, ended.stderr
    (row,) = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert row["figures"], row["note"]
    assert row["figures"]["objects/s"] > 0
    assert row["figures"]["requests/object"] >= 3, "a check was left out"
    (line,) = [line for line in ended.stdout.splitlines() if "worker (crt)" in line]
    assert f"{row['figures']['CPU ms/object']:.3g}" in line
