"""The result of ./sync.sh verify as Markdown in 80 columns. All of it is pure.

It says what was checked, how long it took, which assumptions hold, and what it ran on. `result` is what
operate/verify/result.py gathers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from operate.text import folded
from operate.verify import cases
from operate.verify.outcomes import Result, is_well, outcomes, unknown_of_all

WELL, NOT_WELL = "# sync.sh verify: all is well", "# sync.sh verify: not all is well"
BARS = " ▁▂▃▄▅▆▇█"
BAD_LINE = re.compile(r"\| `.*\| (no|differ) .*|- \*\*.*")  # of an object that did not arrive or differs, of a break
ACCOUNT_ID = re.compile(r"(?<![0-9])[0-9]{12}(?![0-9])")


def report(result: Result) -> Iterator[str]:
    """Its lines."""
    yield from (
        WELL if is_well(result) else NOT_WELL,
        "",
        f"s3://{result['source']} to",
        f"s3://{result['mirror']}",
        "",
    )

    for one in result["breaks"]:
        yield from folded(f"- **{one.link}**: {one.why}", 2)
        yield f"  Look closer: `{one.command}`"
    if result["breaks"]:
        yield ""

    yield from objects(result)
    yield ""
    yield from table([("from the first upload to", "", "measured by"), *times(result["times"])])
    yield ""
    if result["bench"]:
        yield from bench(result["bench"])
        yield ""
    yield from assumptions(result)
    yield ""
    yield from what_it_ran_on(result)


def is_bad(line: str) -> bool:
    return line == NOT_WELL or BAD_LINE.fullmatch(line) is not None


def for_others(line: str, names: Mapping[str, str]) -> str:
    """The line without ids of accounts and without names that are the user's own; `names`: what stands for each."""
    for own, shown in names.items():
        line = line.replace(own, shown)
    return ACCOUNT_ID.sub("*" * 12, line)


# --- tables -----------------------------------------------------------------------------------------------------------


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Of Markdown; the first row is its head."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    for number, row in enumerate(rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths))
        yield f"| {' | '.join(cells)} |"
        if number == 0:
            rules = ("-" * (width + 2) for width in widths)
            yield f"|{'|'.join(rules)}|"


def number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else str(value)


def seconds(value: float | None) -> str:
    return "unknown" if value is None else f"{number(value)} s"


def tenths(value: float) -> float:
    return math.floor(value * 10 + 0.5) / 10


def objects(result: Result) -> Iterator[str]:
    """A row for each object, then what differs. Each was described before it was put. There is room for one of two
    columns: who copied, if the starter copies, too, or else the checksum."""
    rows = result["results"]
    last = "by" if result["copying"] else "checksum"
    head = ("object", "seen", "bytes", "metadata", "lag", last)
    yield from table([head, *(object_row(row, result) for row in rows)])

    metadata = [row for row in rows if row["metadata"].startswith("different: ")]
    checksums = [row for row in rows if row["checksum"] == "different"]
    for some, said in ((metadata, "metadata {metadata}"), (checksums, "the checksums differ")):
        if some:
            yield ""
        for row in some:
            yield from folded(f"- {name_of(row)}: {said.format(metadata=row['metadata'])}", 2)


def object_row(row: Mapping[str, str], result: Result) -> tuple[str, ...]:
    action = "deleted" if row["name"] == cases.DELETED else "copied"
    lines = [one for one in result["synced"] if (one.key, one.action) == (row["key"], action)]
    if action == "copied":
        lines.reverse()  # the last copy, and the first deletion
    line = next(iter(lines), None)

    seen = {cases.ARRIVED: "yes", cases.FAILED: "no", cases.MISSING: "no"}.get(row["state"], "-")
    lag = "-"
    if row["state"] == cases.ARRIVED and row["name"] != "removed":
        lag = seconds(tenths(line.lag) if line and line.lag is not None else None)
    by = line.by if line else "-"
    last = by if result["copying"] else in_a_word(row["checksum"])
    return name_of(row), seen, in_a_word(row["bytes"]), in_a_word(row["metadata"]), lag, last


def name_of(row: Mapping[str, str]) -> str:
    """The key below the folder of the run."""
    return f"`{re.sub('^.*sync-verify-[^/]*/', '', row['key']) or '*'}`"


def in_a_word(compared: str) -> str:
    found = compared.partition(":")[0]
    return "differ" if found == "different" else found


def times(found: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    def of_task(name: str) -> str:
        at = found[name]
        if found["by"] == "starter":
            return "none: the starter copied"
        return "ran already" if at is not None and at < 0 else seconds(at)

    yield "first message queued", first_message(found), "this clock"
    yield "task requested", of_task("created"), "ECS createdAt"
    yield "network attached", of_task("connected"), "ECS connectivityAt"
    yield "pull of the image began", of_task("pulling"), "ECS pullStartedAt"
    yield "image pulled", of_task("pulled"), "ECS pullStoppedAt"
    yield "worker started", of_task("started"), "ECS startedAt"
    yield "first message received", of_task("received"), "the worker's log"
    yield "first copy", seconds(found["first"]), "S3 LastModified"
    yield "last copy before changes", seconds(found["last"]), "S3 LastModified"
    yield "(this clock is ahead by)", seconds(found["clock"]), "S3 LastModified"


def first_message(found: Mapping[str, Any]) -> str:
    if found["event"] is not None:
        return f"at most {found['event']} s"
    if found["busy"]:
        return "unknown: others waited"
    if found["by"] == "starter":
        return "before the first copy"
    is_after = found["created"] is not None and found["created"] >= 0
    return "before the task" if is_after else "unknown"


# --- what --bench has measured ----------------------------------------------------------------------------------------


def short(value: float) -> str:
    return str(math.floor(value + 0.5)) if value >= 100 else number(tenths(value))


def rate(value: float | None) -> str:
    return "unknown" if value is None else f"{short(value)} a second"


def bytes_a_second(gigabytes: float | None) -> str:
    if gigabytes is None:
        return "unknown"
    return f"{short(gigabytes * 1000)} MB/s" if gigabytes < 0.1 else f"{short(gigabytes)} GB/s"


def amount(value: int | None, what: str) -> str:
    return "unknown" if value is None else f"{value} {what}"


def bench(found: Mapping[str, Any]) -> Iterator[str]:
    yield from table([("measured", "figure", "of what"), *figures(found)])
    course = found["over_time"]
    if course:
        yield from ("", "```", f"waiting {bars(course['waiting'])} {course['waiting'][0]} at first")
        yield f"lag     {bars(course['lag'])} {short(max(course['lag']))} s at most"
        yield f"        the first copy, and {short(course['seconds'])} s later the last one"
        yield "```"


def figures(found: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    copied, deleted, large = found["copied"], found["deleted"], found["large"] or {}
    of_copies = f"{copied['count']} of {found['bytes']} bytes; workers: {copied['workers']}"
    cpu = "unknown" if found["cpu_ms"] is None else f"{short(found['cpu_ms'])} ms"
    events = "unknown" if found["events"] is None else f"at most {found['events']} s"

    yield "small objects copied", rate(copied["rate"]), of_copies
    yield "by one worker", rate(copied["one"]), "the one that copied most"
    yield "small objects deleted", rate(deleted["rate"]), f"{deleted['count']} of them"
    yield "CPU time of a worker", cpu, "for each copy or delete"
    yield "large object", bytes_a_second(large.get("gb_s")), amount(large.get("size"), "bytes")
    yield "its parts", rate(large.get("rate")), amount(large.get("parts"), "parts")
    for side in ("source", "destination"):
        yield page_of(side, found["pages"][side])
    yield "events in the queue", events, "after the last small object"
    yield "S3 was too busy", amount(found["busy"], "times"), "beyond a client's own retries"


def page_of(side: str, pages: Mapping[str, Any]) -> tuple[str, str, str]:
    median = "unknown" if pages["median"] is None else f"{math.floor(pages['median'] * 1000 + 0.5)} ms"
    return f"page of the {side}", median, f"median of {pages['count']}, {pages['keys']} keys each"


def bars(values: Sequence[float]) -> str:
    most, last = max(values), len(BARS) - 1
    return "".join(BARS[math.ceil(value / most * last)] if value > 0 else " " for value in values)


# --- assumptions, and what it ran on ----------------------------------------------------------------------------------


def assumptions(result: Result) -> Iterator[str]:
    rows = [(f"`{name}`", outcome) for name, outcome in outcomes(result).items()]
    yield from table([("assumption", "outcome"), *rows])
    yield ""
    yield f"- {unknown_of_all()} more that no run can show: docs/evidence.md"


def what_it_ran_on(result: Result) -> Iterator[str]:
    copies = [one for one in result["synced"] if one.action == "copied"]
    if copies:
        largest = max(copies, key=lambda one: int(one.size))
        yield f"- largest copy: {largest.size} bytes in {number(largest.seconds)} s"
    for name, version in result["versions"]:
        yield from folded(f"- {name}: {version}", 2)
