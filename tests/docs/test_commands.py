"""The commands of all pages, run from top to bottom on one local cloud."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from account import copy_checkout, empty_cloud
from commands import EXPECTED, Script, place_of, script_of, tour

MOST_SECONDS = 3000  # a command that waits forever is reported then
SHOWN = 4000


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[dict[str, str]]:
    with empty_cloud(tmp_path, AUTH="true") as environment:
        yield environment


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return copy_checkout(tmp_path / "the project")


def test_the_commands_run_from_top_to_bottom_on_the_local_cloud(
    cloud: dict[str, str], project: Path, tmp_path: Path
) -> None:
    script = script_of(tour())
    status, text = run(script, project, cloud, tmp_path)
    assert status == 0, f"{place_of(script, text)}: status {status}\n{text[-SHOWN:]}"
    written = re.sub(r"^\++ \d+: .*$", "", text, flags=re.MULTILINE)  # without Bash's trace
    assert [line for line in EXPECTED if line not in written] == []


def run(script: Script, project: Path, environment: dict[str, str], folder: Path) -> tuple[int | None, str]:
    """(status, output); status None: it was still running after MOST_SECONDS."""
    file, log = folder / "commands.sh", folder / "output"
    file.write_text(script.text)
    with log.open("w") as output:
        streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
        try:
            done = subprocess.run(["bash", file], cwd=project, env=environment, timeout=MOST_SECONDS, **streams)
        except subprocess.TimeoutExpired:
            return None, log.read_text(errors="replace")
    return done.returncode, log.read_text(errors="replace")
