"""The benchmark is no test, but its command has to work."""

import subprocess
import sys
from pathlib import Path

COMMAND = Path(__file__).with_name("backfill.py")


def test_the_lag_of_live_events_is_printed_with_fair_queues_and_without() -> None:
    options = ["--objects", "100", "--per-second", "40", "--live-seconds", "0.5"]
    ended = subprocess.run([sys.executable, COMMAND, *options], capture_output=True, text=True, timeout=1800)
    assert ended.returncode == 0, ended.stderr
    rows = [line.split(" | ") for line in ended.stdout.splitlines()[-2:]]
    assert [(row[0], row[1]) for row in rows] == [("| fair", "20"), ("| not fair", "20")]
