"""As much of the query language of CloudWatch Logs Insights as the dashboard of deploy.sh uses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from documents import printed

Row = dict[str, Any]


def widgets() -> list[dict[str, Any]]:
    """The widgets that deploy.sh gives the dashboard."""
    return json.loads(printed("dashboard"))["widgets"]


def answer(query: str, rows: list[Row], seconds: int = 60) -> list[Row]:
    """The rows of a query on rows with @timestamp (seconds), @logStream and @message; bins have that many seconds."""
    names: list[str] = []
    for command in query.split(" | "):
        word, _, rest = command.partition(" ")
        if word == "fields":
            names = rest.split(", ")
        else:
            rows, names = COMMANDS[word](rows, rest, seconds), [] if word == "stats" else names
    return [{name: row[name] for name in names} for row in rows] if names else rows


def keep(rows: list[Row], condition: str, _seconds: int) -> list[Row]:
    (wanted,) = re.fullmatch(r"@message like /(.*)/", condition).groups()
    return [row for row in rows if re.search(wanted, row["@message"])]


def parse(rows: list[Row], rest: str, _seconds: int) -> list[Row]:
    """Groups without a name are not known to be taken."""
    (pattern,) = re.fullmatch(r"@message /(.*)/", rest).groups()
    assert not re.search(r"(?<!\\)\((?!\?<\w+>)", pattern)
    matches = [re.search(pattern.replace("(?<", "(?P<"), row["@message"]) for row in rows]
    return [row | match.groupdict() if match else row for row, match in zip(rows, matches, strict=True)]


def stats(rows: list[Row], rest: str, seconds: int) -> list[Row]:
    """One row for each bin that has one of the rows; its time is in "bin"."""
    columns = re.findall(r"(\w+)\((\w+\(.*?\)|[^()]*)\) as (\w+)", rest)
    bins: dict[int, list[Row]] = {}
    for row in rows:
        bins.setdefault(int(row["@timestamp"] // seconds) * seconds, []).append(row)
    return [
        {"bin": start} | {name: FUNCTIONS[function](found, argument) for function, argument, name in columns}
        for start, found in sorted(bins.items())
    ]


def sort(rows: list[Row], rest: str, _seconds: int) -> list[Row]:
    (field,) = re.fullmatch(r"(\S+) desc", rest).groups()
    return sorted(rows, key=lambda row: row[field], reverse=True)


def values(rows: list[Row], argument: str) -> list[float]:
    """The numbers of a field; in a row of which it was not parsed it has none."""
    return [float(row[argument]) for row in rows if argument in row]


def percentile(rows: list[Row], arguments: str) -> float:
    field, percent = arguments.split(", ")
    ordered = sorted(values(rows, field))
    return ordered[round((len(ordered) - 1) * float(percent) / 100)]


COMMANDS: dict[str, Callable[[list[Row], str, int], list[Row]]] = {
    "SOURCE": lambda rows, _rest, _seconds: rows,
    "filter": keep,
    "parse": parse,
    "stats": stats,
    "sort": sort,
    "limit": lambda rows, rest, _seconds: rows[: int(rest)],
}
FUNCTIONS: dict[str, Callable[[list[Row], str], float]] = {
    "count": lambda rows, field: sum(field in row for row in rows),
    "sum": lambda rows, argument: sum(values(rows, argument)),
    "pct": percentile,
    "count_distinct": lambda rows, field: len({row[field] for row in rows}),
}
