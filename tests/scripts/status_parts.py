"""The parts of the status of a deployment that has nothing to do, and what lib/status.jq makes of such parts."""

import json
import subprocess
from pathlib import Path
from typing import Any

from sourced import ENVIRONMENT, unfolded

ROOT = Path(__file__).parents[2]
PROGRAM = "".join((ROOT / "lib" / name).read_text() for name in ("text.jq", "status.jq"))
NUMBERS = {"visible": 0, "in_flight": 0, "running": 0, "wanted": 0, "started": {}, "failures": []}
IDLE: dict[str, Any] = {
    "source": {"name": "a", "error": ""},
    "destination": {"name": "b", "error": ""},
    "queue": {"visible": 0, "in_flight": 0, "delayed": 0, "oldest_seconds": None},
    "dead_letters": {"visible": 0, "in_flight": 0, "delayed": 0},
    "workers": [],
    "rule": {"enabled": True, "minutes": 1},
    "events": {"source": "sqs", "at_once": False, "problems": [], "error": ""},
    "faults": [],
    "options": {"starter_copies": False, "starter_max_size": 0, "min_workers": 0},
    "function_age": 7200,
    "starter": {"at": "", "seconds_ago": 30, "decision": NUMBERS, "error": ""},
    "lag": {"count": 0, "newest": ""},
    "failures": {"count": 0, "newest": []},
    "outage": None,
}


def given(via: str = "") -> tuple[str, ...]:
    return ("--arg", "via", via, "--argjson", "keep", "1209600")


def printed(program: str, text: Any, *arguments: str) -> str:
    command = ["jq", "-r", *arguments, PROGRAM + program]
    return subprocess.run(
        command, env=ENVIRONMENT, input=json.dumps(text), capture_output=True, text=True, check=True
    ).stdout


def judged(parts: dict[str, Any], via: str = "") -> dict[str, Any]:
    """The status as JSON, of these parts beside the idle ones."""
    return dict(json.loads(printed("judge", IDLE | parts, *given(via))))


def lines_of(parts: dict[str, Any]) -> str:
    """What is below the word."""
    return printed("judge | lines", IDLE | parts, *given())


def told(parts: dict[str, Any]) -> str:
    """The lines as they were before they were put into 80 columns."""
    return unfolded(lines_of(parts))
