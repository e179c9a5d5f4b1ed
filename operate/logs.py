"""Reads the logs of the workers and of the starter: asks CloudWatch Logs Insights, and takes lines apart.

A line is taken apart by the very format with which the worker writes it (mirror/model/log_lines.py).
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Union

from mirror.model.log_lines import (
    AUDITED,
    DIFFERENCE,
    FAILED,
    LACKING,
    LAG,
    MEASURED,
    OUTAGE,
    OUTAGE_ENDS,
    OUTAGE_OVER,
    PROGRESS,
    RECONCILED,
    SYNCED,
    WAITED,
    WAITS,
    quoted,
)
from operate.cloud import Cloud, Denied, Missing, NoAnswer
from operate.deployment import Deployment

QUERY_SECONDS = 120  # that a query may take
CONVERSION = re.compile(r"%(?:s|d|\.\d+f)")
SHAPES = {"s": ".*?", "d": r"\d+", "f": "[0-9.]+"}
QUOTED = r'"(?:\\.|[^"\\])*"'  # a JSON text, as quoted() writes a key
KEYS = ("key", "prefix", "example")

Row = dict[str, str]
Rows = Union[list[Row], Denied, NoAnswer]


# --- formats ----------------------------------------------------------------------------------------------------------


def start_of(form: str, level: str) -> str:
    """A regular expression, also of Logs Insights, for the beginning of a line of this format: the rest may hold any
    words, also those of another line, because keys may."""
    return rf"^\S+ {level} {CONVERSION.split(form)[0]}"


def fields_of(form: str, level: str, *names: str) -> re.Pattern[str]:
    """A regular expression for a whole line of this format, with the time as the group "at", and a group for each
    conversion."""
    return re.compile(rf"(?P<at>\S+) (?:{level}) {body_of(form, *names)}")


def body_of(form: str, *names: str) -> str:
    """A regular expression for what this format writes, with a group for each conversion."""
    pieces = [re.escape(piece.replace("%%", "%")) for piece in CONVERSION.split(form)]
    conversions = CONVERSION.findall(form)
    groups = [f"(?P<{name}>{QUOTED if name in KEYS else SHAPES[one[-1]]})" for name, one in zip(names, conversions)]
    assert len(groups) == len(conversions), form
    return "".join(piece + group for piece, group in zip(pieces, [*groups, ""]))


SYNCED_LINE = start_of(SYNCED, "INFO")
LAG_START = LAG.partition("%")[0]
FAILED_LINE = start_of(FAILED, "ERROR")
OUTAGE_LINE = r"^\S+ (ERROR outage: |INFO outage over after |ERROR outage for )"
AUDITED_LINE = start_of(AUDITED, "(INFO|ERROR)")
WAITS_LINE = start_of(WAITS, "(INFO|WARNING)")

# Each line of a worker, and of the function while it copies.
WORKER_LINE = r"^\S+ (DEBUG|INFO|WARNING|ERROR) "

# The starter: a JSON object for each decision, otherwise what Lambda writes of a failure: what Python raised, a
# timeout, or a process that was ended. Not "exit status 1": so the function ends itself after its report.
DECISION_OR_FAILURE = (
    r'^(\{"visible":|\[ERROR\] |\S+ \S+ Task timed out after |'
    r"RequestId: \S+ Error: Runtime exited with(out| error: signal))"
)

SYNCED_FIELDS = fields_of(SYNCED, "INFO", "key", "action", "size", "seconds", "rest")
LAG_FIELDS = re.compile(re.escape(LAG_START) + "(?P<lag>[0-9.]+)")
FAILED_FIELDS = fields_of(FAILED, "ERROR", "key", "attempt", "most", "reason")
OUTAGE_FIELDS = {
    "began": fields_of(OUTAGE, "ERROR", "keys", "reason"),
    "over": fields_of(OUTAGE_OVER, "INFO", "seconds"),
    "ended": fields_of(OUTAGE_ENDS, "ERROR", "seconds", "reason"),
}
AUDITED_FIELDS = fields_of(AUDITED, "INFO|ERROR", "end", "status", "found", "rest")
FOREIGN = re.compile(r"(?:^| )foreign=(\d+)")
# Release 1.1.0 did not write since when.
WAITS_FIELDS = [
    fields_of(form, "INFO|WARNING", *("key", "keys", "prefix", "example", "why", "since")[: form.count("%")])
    for form in (WAITS, WAITS.rpartition(" ")[0])
]

# Of a task that reconciles, waits or measures.
PROGRESS_FIELDS = fields_of(PROGRESS, "INFO", "rest")
DIFFERENCE_FIELDS = fields_of(DIFFERENCE, "INFO", "number", "what", "key")
LACKING_FIELDS = fields_of(LACKING, "[A-Z]+", "key", "why")
SUMMARY_FIELDS = [fields_of(form, "[A-Z]+", "end", "status", "rest") for form in (RECONCILED, WAITED, MEASURED)]
PAIR = re.compile(r"([a-z0-9_/]+)=(\S+)")


# --- queries ----------------------------------------------------------------------------------------------------------


def like(pattern: str) -> str:
    return f"filter @message like /{pattern}/"


def newest(pattern: str, most: int, fields: str = "@message") -> str:
    """A query for the newest lines of this pattern."""
    return f"fields {fields} | {like(pattern)} | sort @timestamp desc | limit {most}"


def groups_of(deployment: Deployment, copies: bool) -> list[str]:
    """Those with lines on keys. `copies`: the function copies, too, or whether it does is not known."""
    return [deployment.worker_log_group, *([deployment.starter_log_group] if copies else [])]


def query(cloud: Cloud, groups: Sequence[str], seconds: int, text: str) -> Rows:
    """The rows of a query on the last seconds; none if there is no such log group."""
    now = int(time.time())
    option = "--log-group-names" if len(groups) > 1 else "--log-group-name"
    span = ("--start-time", str(now - seconds), "--end-time", str(now + 60))
    begun = cloud.ask("logs", "start-query", option, *groups, *span, "--query-string", text)
    if isinstance(begun, Missing):
        return []
    if isinstance(begun, (Denied, NoAnswer)):
        return begun

    for _ in range(QUERY_SECONDS):
        found = cloud.ask("logs", "get-query-results", "--query-id", begun["queryId"])
        if isinstance(found, Missing):
            return NoAnswer(found.error)
        if isinstance(found, (Denied, NoAnswer)):
            return found
        if found["status"] == "Complete":
            return [by_field(row) for row in found.get("results", [])]
        if found["status"] in ("Failed", "Cancelled", "Timeout"):
            return NoAnswer(f"log group {' '.join(groups)}: a query ended as {found['status']}; try again")
        time.sleep(1)
    return NoAnswer(f"log group {' '.join(groups)}: a query did not end in {QUERY_SECONDS} s; try again")


def by_field(row: Iterable[Mapping[str, str]]) -> Row:
    return {one["field"]: one["value"] for one in row}


# --- lines ------------------------------------------------------------------------------------------------------------


def first_line(text: str) -> str:
    """An event of the function may have several lines, and that of a worker ends with its newline."""
    return text.partition("\n")[0]


def messages(rows: Iterable[Row]) -> list[str]:
    return [row["@message"] for row in rows]


def matches(pattern: re.Pattern[str], lines: Iterable[str]) -> list[re.Match[str]]:
    tried = (pattern.fullmatch(first_line(line)) for line in lines)
    return [found for found in tried if found]


def number(text: str) -> int | float:
    value = float(text)
    return int(value) if value.is_integer() else value


def lags(lines: Iterable[str]) -> list[Any]:
    """Seconds from the event to the copy, of each key that was synced for an event, in ascending order."""
    rests = [found["rest"] for found in matches(SYNCED_FIELDS, lines)]
    return sorted(number(found["lag"]) for found in matches(LAG_FIELDS, rests))


def synced(lines: Iterable[str]) -> list[dict[str, Any]]:
    return [
        {"at": found["at"], "key": json.loads(found["key"]), "action": found["action"], "size": int(found["size"])}
        for found in matches(SYNCED_FIELDS, lines)
    ]


def synced_at(lines: Iterable[str]) -> dict[str, str]:
    """When each key was synced last."""
    return {one["key"]: one["at"] for one in sorted(synced(lines), key=lambda one: str(one["at"]))}


def failures(lines: Iterable[str]) -> list[dict[str, Any]]:
    return [
        {
            "at": found["at"],
            "key": json.loads(found["key"]),
            "attempt": f"attempt={found['attempt']}/{found['most']}",
            "reason": found["reason"],
        }
        for found in matches(FAILED_FIELDS, lines)
    ]


def waits(lines: Iterable[str]) -> list[dict[str, Any]]:
    """What each line says that a key waits for; `since` may be None."""
    return [found for found in map(wait_of, lines) if found]


def wait_of(line: str) -> dict[str, Any] | None:
    for pattern in WAITS_FIELDS:
        found = pattern.fullmatch(first_line(line))
        if found:
            texts = {name: json.loads(found[name]) for name in KEYS}
            since = found.groupdict().get("since")
            return {"at": found["at"], **texts, "keys": int(found["keys"]), "why": found["why"], "since": since}
    return None


def outages(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Each line on an outage: the event is "began", "over" or "ended"; the first has no seconds, the second no
    reason."""
    found = []
    for row in rows:
        for event, pattern in OUTAGE_FIELDS.items():
            line = pattern.fullmatch(first_line(row["@message"]))
            if line:
                fields = line.groupdict()
                seconds = int(fields["seconds"]) if "seconds" in fields else None
                stream, reason = row["@logStream"], fields.get("reason")
                found.append({"at": line["at"], "stream": stream, "event": event, "seconds": seconds, "reason": reason})
    return found


def audits(lines: Iterable[str]) -> list[dict[str, Any]]:
    """Release 1.2.0 did not count what is foreign."""
    return [
        {
            "at": found["at"],
            "end": found["end"],
            "status": int(found["status"]),
            "found": int(found["found"]),
            "foreign": int((FOREIGN.search(found["rest"]) or ["", "0"])[1]),
        }
        for found in matches(AUDITED_FIELDS, lines)
    ]


def summary(line: str) -> dict[str, Any] | None:
    """The last line of a task that reconciles, waits or measures; its `status` is the exit status."""
    for pattern in SUMMARY_FIELDS:
        found = pattern.fullmatch(line)
        if found:
            numbers = {name: as_value(value) for name, value in PAIR.findall(found["rest"])}
            return {"end": found["end"], "status": int(found["status"]), **numbers}
    return None


def as_value(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


# --- keys in queries --------------------------------------------------------------------------------------------------

MOST_OF_A_FILTER = 8000  # characters: a query has 10,000


def pattern_of_key(key: str) -> str:
    """A key as the worker writes it, as a regular expression."""
    return re.sub(r'([^\w" -])', r"\\\1", quoted(key))


def synced_of(keys: Iterable[str]) -> str:
    """The pattern of the synced lines on these keys, for as many as a query can name."""
    named = ""
    for key in keys:
        more = pattern_of_key(key)
        if len(named) + len(more) < MOST_OF_A_FILTER:
            named += f"|{more}"
    return f"{SYNCED_LINE}({named[1:]}) "


def lines_on(key: str) -> str:
    """The pattern of all lines on a key."""
    return f" key={pattern_of_key(key)}( |$)"


def as_decision(line: str) -> dict[str, Any] | None:
    """A line of the starter, unless it is on a failure."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
