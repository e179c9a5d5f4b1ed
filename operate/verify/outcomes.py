"""What a run of ./sync.sh verify has shown: whether all is well, and which assumptions hold. All of it is pure.

`result` is what operate/verify/result.py gathers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from operate.verify import cases
from operate.verify.chain import NO_TASK

# The id of each assumption on AWS (docs/evidence.md) -> the object or check that shows it; null if no run can.
ASSUMPTIONS: dict[str, str | None] = json.loads((Path(__file__).parent / "assumptions.json").read_text("utf-8"))

CONFIRMED, NOT_TESTED = "confirmed", "not tested"
NOT_TAKEN = ("NotImplemented", "InvalidRequest", "InvalidArgument")
FINE = ("equal", "-")

Result = Mapping[str, Any]


def is_well(result: Result) -> bool:
    """Whether every object was seen and nothing differs."""
    return not result["breaks"] and all(
        row["state"] == cases.ARRIVED and is_equal(row) and row["checksum"] != "different" for row in result["results"]
    )


def is_equal(row: Mapping[str, str]) -> bool:
    return row["bytes"] in FINE and row["metadata"] in FINE


def outcomes(result: Result) -> dict[str, str]:
    """Of each assumption that a run can show. A chain that is broken elsewhere confirms and refutes nothing."""
    return {name: outcome(result, check) for name, check in ASSUMPTIONS.items() if check is not None}


def outcome(result: Result, check: str) -> str:
    return CHECKS[check](result) if check in CHECKS else copied(result, check)


def unknown_of_all() -> int:
    return sum(check is None for check in ASSUMPTIONS.values())


# --- each check -------------------------------------------------------------------------------------------------------


def copied(result: Result, name: str) -> str:
    row = next((row for row in result["results"] if row["name"] == name), None)
    if row is None:
        return NOT_TESTED
    if row["state"] == cases.FAILED:
        return "refuted: not copied"
    if row["state"] != cases.ARRIVED:
        return NOT_TESTED
    return CONFIRMED if is_equal(row) else "refuted: the copy differs"


def in_parts(result: Result) -> str:
    found = [copied(result, name) for name in (cases.MULTIPART, cases.LARGE)]
    return next((one for one in found if one != NOT_TESTED), NOT_TESTED)


def unless_refused(found: str, write: str, result: Result) -> str:
    """`write`: one that a worker makes on a condition."""
    return "refuted: refused" if found == CONFIRMED and write in result["refused"] else found


def task(result: Result) -> str:
    if result["times"]["started"] is not None:
        return CONFIRMED
    return "refuted: no task" if any(one.link == NO_TASK for one in result["breaks"]) else NOT_TESTED


def encoded(result: Result) -> str:
    found = copied(result, cases.ENCODED)
    is_moved = found == CONFIRMED and result["encoding"] != "gzip"
    return "refuted: kept as sync-content-encoding" if is_moved else found


def full_pages(result: Result) -> str:
    page = result["page"]
    if page and page["more"]:
        return f"refuted: {page['keys']} keys in a page"
    measured = result["bench"]["pages"]["destination"] if result["bench"] else {"count": 0}
    if not measured["count"]:
        return NOT_TESTED
    return f"refuted: {measured['keys']} keys in a page" if measured["count"] > measured["least"] else CONFIRMED


def source_condition(result: Result) -> str:
    """By the codes with which S3 has refused a copy and a part on a condition that does not hold; "" if it took one."""
    if result["conditions"] is None:
        return NOT_TESTED
    codes = [*result["conditions"].values()]
    if "" in codes:
        return "refuted: ignored"
    if all(code == "PreconditionFailed" for code in codes):
        return CONFIRMED
    return "refuted: refused" if any(code in NOT_TAKEN for code in codes) else NOT_TESTED


def new_etag(result: Result) -> str:
    etags = result["etags"]
    if not etags:
        return NOT_TESTED
    return CONFIRMED if all(first != last for first, last in etags) else "refuted: the same again"


def checksum(result: Result) -> str:
    found = copied(result, cases.SMALL)
    if found != CONFIRMED:
        return found
    row = next(row for row in result["results"] if row["name"] == cases.SMALL)
    said = {"equal": CONFIRMED, "different": "refuted: different", "none": "refuted: none"}
    return said.get(row["checksum"], NOT_TESTED)


CHECKS: dict[str, Callable[[Result], str]] = {
    "encoded": encoded,
    "conditions": lambda result: unless_refused(copied(result, cases.SMALL), "CopyObject", result),
    "conditional-delete": lambda result: unless_refused(copied(result, cases.DELETED), "DeleteObject", result),
    "conditions-in-parts": lambda result: unless_refused(in_parts(result), "CompleteMultipartUpload", result),
    "parts": in_parts,
    "task": task,
    "pages": full_pages,
    "source-condition": source_condition,
    "new-etag": new_etag,
    "checksum": checksum,
}
