"""What the verbs print is in 80 columns, whatever is in it, but for what is one word: it is to be copied."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from account import MIRROR
from cost import SETUP, STORED, USED
from operated import Verbs, deployed, stamp, verbs
from sourced import ENVIRONMENT
from status_parts import IDLE, NUMBERS, lines_of
from test_verify import BENCH, report

from mirror.model import log_lines

__all__ = ["verbs"]
ROOT = Path(__file__).parents[2]
BUCKETS = ("s" * 63, f"{'d' * 47}--euw1-az1--x-s3")
TIME = "2026-11-26T02:14:07.212Z"
KEY = f"datasets/2026/a long {'k' * 40}.parquet"
WHY = f'operation=CopyObject error=AccessDenied message="Access Denied" advice="allow the role s3:GetObject" {"w" * 50}'
DECISION = NUMBERS | {
    "visible": 1234567,
    "in_flight": 119_999,
    "running": 100,
    "wanted": 100,
    "started": {"FARGATE_SPOT": 40, "FARGATE": 60},
    "failures": ["Capacity is unavailable at this time. Please try again later or in a different availability zone"],
    "copied": {"copied": 1000, "deleted": 100, "failed": 10, "handed_back": 100},
    "trial": "one worker alone until it has shown that it works",
}
WAITING = {
    "at": TIME,
    "key": KEY,
    "keys": 12345,
    "prefix": "datasets/2026/",
    "example": KEY,
    "why": "failing",
    "since": TIME,
}
LONG_STATUS: dict[str, Any] = IDLE | {
    "source": {"name": BUCKETS[0], "error": "An error occurred (AccessDenied) when calling ListObjectsV2: no"},
    "destination": {"name": BUCKETS[1], "error": ""},
    "queue": {"visible": 12345678, "in_flight": 119999, "delayed": 119999, "oldest_seconds": 1209600},
    "dead_letters": {"visible": 12345678},
    "version": {"deployed": "1.0.0", "checkout": "1.10.10", "error": ""},
    "workers": [
        {"id": f"{kind}{state}", "capacity": kind, "status": state}
        for kind in ("FARGATE_SPOT", "FARGATE")
        for state in ("PROVISIONING", "RUNNING", "DEPROVISIONING")
    ],
    "rule": None,
    "events": IDLE["events"] | {"source": "both", "problems": [f"no policy lets the bucket {BUCKETS[0]} send"]},
    "options": {
        "starter_copies": True, "starter_max_size": 67108864, "min_workers": 12, "copy_last": "_SUCCESS,*.done",
        "announce": "markers", "prefixes": ["datasets/2026/", "models/"] * 9, "keep_days": 365,
        "exclude": ["*.tmp", "*/_temporary/*"] * 9,
    },
    "starter": {"at": TIME, "seconds_ago": 86399, "decision": DECISION, "error": ""},
    "lag": {"count": 1000, "p50": 123.456, "p99": 123456.789, "newest": TIME},
    "markers": {"count": 12, "newest": WAITING, "others": [WAITING]},
    "outage": {"state": "goes on", "since": TIME, "at": TIME, "reason": WHY, "event": "began"},
    "audit": {"days": 9, "last": {"at": TIME, "end": "complete", "status": 1, "found": 9, "foreign": 12}},
    "failures": {"count": 1000, "newest": [{"key": KEY, "times": 999, "at": TIME, "reason": WHY}]},
}  # fmt: skip
CASES = ("with space/größe € +%.txt", "nested/deeper/file.json")
LONG_RESULT: dict[str, Any] = {
    "results": [
        {"name": name, "key": f"p/sync-verify-1/{name}", "state": state, "bytes": "different", "checksum": "different",
         "metadata": "different: ContentType, CacheControl, ContentDisposition, ContentEncoding"}
        for name, state in zip((*CASES, "encoded"), ("arrived", "not asked", "arrived"), strict=True)
    ] + [{"name": name, "key": f"p/sync-verify-1/{name}", "state": "missing", "bytes": "-", "metadata": "-",
          "checksum": "-"}
         for name in ("double", "trailing", "removed")],
    "synced": [{"key": f"p/sync-verify-1/{name}", "action": "copied", "size": 6442450944, "seconds": 1234.567,
                "lag": 999.999, "by": "starter"} for name in CASES],
    "times": {"event": None, "busy": True, "by": "starter", "created": 1234.5, "first": 1234.5, "last": 12345.5},
    "breaks": [{"link": "no event", "why": f"the bucket sends no events {WHY}", "command": "aws s3api x " + "y" * 90}],
    "versions": [["image", f"123456789012.dkr.ecr.eu-west-1.amazonaws.com/{'a' * 50}:{'0' * 40}"],
                 ["function", f"python3.13, code 0123456789ab, changed {TIME}"],
                 ["options", "EVENT_SOURCE=eventbridge, STARTER_COPIES=true, STARTER_MAX_SIZE=1048576, MIN_WORKERS=9"]],
    "encoding": "", "mirror": BUCKETS[1], "source": BUCKETS[0], "bench": BENCH,
}  # fmt: skip


def redrive(verbs: Verbs) -> str:
    key = json.dumps({"Records": [{"s3": {"object": {"key": KEY.replace(" ", "+")}}}]})
    verbs.account.parked = [key, key, "what somebody sent to it " * 8]
    verbs.account.write(f"{stamp()} ERROR failed key={log_lines.quoted(KEY)} attempt=2/3 {WHY}")
    return verbs.sync("redrive --list").output


def wait(verbs: Verbs) -> str:
    missing = f"{stamp()} WARNING {log_lines.LACKING % (log_lines.quoted(KEY), f'trouble: {WHY}')}"
    summary = f"{stamp()} INFO {log_lines.WAITED % ('timeout', 1, 'keys=5 lacking=999')}"
    verbs.account.task_log = [[missing, summary]]
    return verbs.sync("wait", 1).output.partition("\n\n")[2]


def asking(verbs: Verbs) -> str:
    *lines, _ = verbs.sync("verify --bench", 1).errors.splitlines()
    return "\n".join(lines)


def cost(_verbs: Verbs) -> str:
    used = USED | {
        "copies": 10**9, "large": 10**6, "parts": 10**8, "deletes": 10**8, "bytes": 10**15, "announced": 10**9,
        "tasks": 10**5, "worker_seconds": 10**8, "runs": 10**6, "run_seconds": 10**7, "log_bytes": 10**13,
        "spot_share": 0.75,
    }  # fmt: skip
    setup = SETUP | {"has_events": True, "endpoints": 2, "alarms": 6, "min_workers": 12, "region": "ap-southeast-2"}
    stored = dict.fromkeys(STORED, 10**15) | {"kept_7_bytes": 1, "kept_30_bytes": 2, "kept_90_bytes": 3}
    figures = {"hours": 730, "setup": setup | {"arch": "X86_64"}, "used": used, "stored": stored}
    figures["prices"] = json.loads((ROOT / "lib/prices.json").read_text())
    program = "".join((ROOT / "lib" / name).read_text() for name in ("text.jq", "cost.jq"))
    command = ["jq", "-r", f"{program} bill | table | folded(51)"]
    given = {"env": ENVIRONMENT, "input": json.dumps(figures), "capture_output": True, "text": True, "check": True}
    return subprocess.run(command, **given).stdout  # type: ignore[call-overload,no-any-return]


TABLES: dict[str, Callable[[Verbs], str]] = {
    "status": lambda _: lines_of(LONG_STATUS),
    "redrive": redrive,
    "wait": wait,
    "cost": cost,
    "verify": lambda _: report(LONG_RESULT | {"copying": True}),
    "verify, of workers": lambda _: report(LONG_RESULT | {"copying": False}),
    "verify, asking": asking,
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_has_80_columns(verbs: Verbs, name: str) -> None:
    if name in ("redrive", "wait", "verify, asking"):
        verbs.account = deployed()
    lines = TABLES[name](verbs).replace(MIRROR, "dst").splitlines()
    assert len(lines) > 4
    assert [line for line in lines if len(line) > 80 and not is_one_word(line)] == []


def is_one_word(line: str) -> bool:
    """After what introduces it."""
    word = r'"[^"]*"|`[^`]*`|\S+'
    return bool(re.fullmatch(rf"(?: *| *[a-z]+ {{2,}}|  Look closer: |- [a-z]+: )(?:{word})[:;,]?", line))
