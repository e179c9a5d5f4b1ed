"""The parts of the status of a deployment that has nothing to do, as lib/verbs/status.sh judges them."""

from typing import Any

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
