"""The figures of ./sync.sh verify --bench, from the workers' log and the times of listings. All of it is pure."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from statistics import median_high
from typing import Any, NamedTuple

from mirror.model.log_lines import PARTS_BEGUN, PARTS_COPIED, SUMMARY, SUMMARY_OF_LOAD, quoted
from operate import logs
from operate.times import moment

COLUMNS = 50  # of a graph
LATEST = "[$LATEST]"  # in the name of each log stream of the function

BEGUN = logs.fields_of(PARTS_BEGUN, "INFO", "key", "size", "parts", "part_size", "resumed")
PROGRESS = logs.fields_of(PARTS_COPIED, "INFO", "done", "parts", "percent", "key")
SUMMARY_START = logs.fields_of(SUMMARY.partition(" failed=")[0], "INFO", "copied", "deleted", "skipped")
LOAD = re.compile(logs.body_of(SUMMARY_OF_LOAD, "busy", "cpu") + "$")


class Line(NamedTuple):
    stream: str
    message: str


class Synced(NamedTuple):
    """A line on a key that was synced. `lag` may not be known."""

    at: float
    stream: str
    key: str
    action: str
    size: int
    seconds: float
    lag: float | None

    @property
    def task(self) -> str:
        return self.stream.rpartition("/")[2]

    @property
    def by(self) -> str:
        return "starter" if LATEST in self.stream else "task"


class Summary(NamedTuple):
    """What a worker has done until its end."""

    stream: str
    copied: int
    deleted: int
    skipped: int
    busy: int
    cpu: float


class Measured(NamedTuple):
    """What --bench has measured beside the log. `pages`: seconds of each, by the side."""

    folder: str
    large: str  # the key of the large object
    objects: int  # small ones
    size: int  # of each
    events_in: int | None  # seconds until the queue had all events
    page: int  # keys that a page has
    pages: Mapping[str, Sequence[float]]


# --- lines ------------------------------------------------------------------------------------------------------------


def synced_of(lines: Iterable[Line]) -> list[Synced]:
    found = []
    for line in lines:
        fields = logs.SYNCED_FIELDS.fullmatch(line.message)
        if fields:
            lag = logs.LAG_FIELDS.fullmatch(fields["rest"])
            found.append(
                Synced(
                    at=moment(fields["at"]) or 0,
                    stream=line.stream,
                    key=json.loads(fields["key"]),
                    action=fields["action"],
                    size=int(fields["size"]),
                    seconds=float(fields["seconds"]),
                    lag=float(lag["lag"]) if lag else None,
                )
            )
    return found


def summaries_of(lines: Iterable[Line]) -> list[Summary]:
    """Older releases did not write what it took, and are left out."""
    found = []
    for line in lines:
        done, load = SUMMARY_START.match(line.message), LOAD.search(line.message)
        if done and load:
            copied, deleted, skipped = (int(done[name]) for name in ("copied", "deleted", "skipped"))
            found.append(Summary(line.stream, copied, deleted, skipped, int(load["busy"]), float(load["cpu"])))
    return found


# --- figures: None stands for what is not known -----------------------------------------------------------------------


def figures(measured: Measured, lines: Sequence[Line], summaries: Sequence[Summary]) -> dict[str, Any]:
    """`lines`: the workers' lines on keys of the run. `summaries`: of those that have ended. A rate goes from the first
    line to the last: the line of the first object says when the others began to count."""
    small = [one for one in synced_of(lines) if one.key.startswith(measured.folder)]
    copied = [one for one in small if one.action == "copied"]
    deleted = [one for one in small if one.action == "deleted"]
    tasks = {one.stream for one in small if one.by == "task"}
    ended = [one for one in summaries if one.stream in tasks]
    by_worker: dict[str, list[Synced]] = {}
    for one in sorted(copied, key=lambda one: one.stream):
        by_worker.setdefault(one.stream, []).append(one)
    most = max(by_worker.values(), key=len, default=[])

    return {
        "bytes": measured.size,
        "running": len(tasks) - len(ended),
        "over_time": over_time(copied, measured.objects),
        "copied": {"count": len(copied), "workers": len(by_worker), "rate": rate(copied), "one": rate(most)},
        "deleted": {"count": len(deleted), "rate": rate(deleted)},
        "cpu_ms": cpu_of(ended) if len(ended) == len(tasks) else None,
        "busy": sum(one.busy for one in summaries) if summaries else None,
        "large": large(lines, measured.large),
        "pages": {side: pages(seconds, measured) for side, seconds in measured.pages.items()},
        "events": measured.events_in,
    }


def rate(synced: Sequence[Synced]) -> float | None:
    return (len(synced) - 1) / span(synced) if len(synced) > 1 and span(synced) > 0 else None


def span(synced: Sequence[Synced]) -> float:
    return max(one.at for one in synced) - min(one.at for one in synced)


def cpu_of(ended: Sequence[Summary]) -> float | None:
    """Milliseconds for each change."""
    changes = sum(one.copied + one.deleted + one.skipped for one in ended)
    return 1000 * sum(one.cpu for one in ended) / changes if changes else None


def pages(seconds: Sequence[float], measured: Measured) -> dict[str, Any]:
    least = math.ceil(measured.objects / measured.page)
    count = len(seconds)
    keys = math.ceil(measured.objects / count) if count > least else measured.page
    median = median_high(seconds) if seconds else None
    return {"count": count, "least": least, "median": median, "keys": keys}


def over_time(copied: Sequence[Synced], objects: int) -> dict[str, Any] | None:
    """In columns from the first line to the last: how many objects are left at the end of each, its longest lag."""
    if len(copied) < 2 or span(copied) == 0:
        return None
    begin, seconds = min(one.at for one in copied), span(copied)
    done, lag = [0] * COLUMNS, [0.0] * COLUMNS
    for one in copied:
        column = max(math.ceil((one.at - begin) / seconds * COLUMNS) - 1, 0)
        done[column] += 1
        lag[column] = max(lag[column], one.lag or 0)

    waiting = [objects - sum(done[: column + 1]) for column in range(COLUMNS)]
    return {"seconds": seconds, "waiting": waiting, "lag": lag}


def large(lines: Sequence[Line], key: str) -> dict[str, Any] | None:
    """The last one has no parts left if its completion was refused, so that of its last progress counts."""
    of_key = [line for line in lines if f"key={quoted(key)}" in line.message]
    ends = [at_of(line) for line in of_key if is_last_part(line)]
    begun = [BEGUN.fullmatch(line.message) for line in of_key]
    began = [one for one in begun if one and ends and (moment(one["at"]) or 0) <= ends[-1]]
    copies = [one for one in synced_of(of_key) if one.action == "copied"]
    if not (began and copies):
        return None

    size, parts = int(began[-1]["size"]), int(began[-1]["parts"])
    seconds, copy_seconds = ends[-1] - (moment(began[-1]["at"]) or 0), copies[-1].seconds
    return {
        "size": size,
        "parts": parts,
        "rate": parts / seconds if seconds > 0 else None,
        "gb_s": size / 1e9 / copy_seconds if copy_seconds > 0 else None,
    }


def is_last_part(line: Line) -> bool:
    found = PROGRESS.fullmatch(line.message)
    return found is not None and found["percent"] == "100"


def at_of(line: Line) -> float:
    return moment(line.message.partition(" ")[0]) or 0


# --- the times of pages -----------------------------------------------------------------------------------------------

DEBUG_TIME = re.compile(r"([0-9-]{10}) ([0-9:]{8}),([0-9]{3}) ")


def page_seconds(debug: Iterable[str]) -> list[float]:
    """Of each page of a listing, between two lines of the CLI's log."""
    sent: float | None = None
    found = []
    for line in debug:
        at = debug_time(line)
        if " - Sending http request" in line and "list-type=2" in line:
            sent = at
        elif " - Response headers" in line and sent is not None and at is not None:
            found.append(at - sent)
            sent = None
    return found


def debug_time(line: str) -> float | None:
    found = DEBUG_TIME.match(line)
    return moment(f"{found[1]}T{found[2]}.{found[3]}Z") if found else None
