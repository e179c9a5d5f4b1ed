"""The benchmark of wait is no test, but its command has to work, and its figures have to be those of its cases."""

import re
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).with_name("wait.py")
CASES = "listed", "young", "arriving", "nothing", "markers", "beside"


def test_the_cases_cost_what_they_are_to_show(tmp_path: Path) -> None:
    command = [sys.executable, BENCH, "--keys", "400", "--output", tmp_path]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert ended.returncode == 0, ended.stderr
    cells = [re.split(r" *\| *", line.strip("| ")) for line in ended.stdout.splitlines() if "ListObjectsV2" in line]
    assert [row[:3] for row in cells] == [[case, "400", "0"] for case in CASES]
    requests = [dict(reversed(part.split()) for part in row[-1].split(", ")) for row in cells]
    assert requests[0] == {"CreateSession": "1", "ListObjectsV2": "4", "HeadObject": "1"}
    assert requests[1] == {"CreateSession": "1", "ListObjectsV2": "4", "HeadObject": "401"}
    assert int(requests[2]["HeadObject"]) >= 400
    assert int(requests[3]["HeadObject"]) >= 400
    assert requests[4]["CopyObject"] == "412"
