"""What ./sync.sh explain says about a key: the verdict, by the workers' own rules, and what to do. All of it is pure.

For each verdict, a table says what it means and what to do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any

from mirror.model.selection import Wanted, is_marker, items_of, wanted_of
from mirror.model.services import as_utf8
from mirror.protocol.objects import destination_from_head, have_same_bytes, source_from_head
from mirror.protocol.verdict import (
    ABSENT,
    ARCHIVED,
    CORRUPT,
    EQUAL,
    EXCLUDED,
    EXPIRED,
    FOREIGN,
    GHOST,
    MISSING,
    STALE,
    is_ours_to_delete,
    judge,
)
from operate import logs, times

WAITS, UNKNOWN = "waits", "unknown"  # for other keys (COPY_LAST, TABLES); a side that could not be read
DELETED = (GHOST, FOREIGN)  # by a worker that is asked for the key; with TABLES this waits, too
RIGHTLY = (EQUAL, ABSENT, EXCLUDED, EXPIRED)  # nothing is to be done
FRESH_SECONDS = 300  # a change that is younger may be on its way: an event takes seconds, a worker a minute to start

MEANINGS = {
    EQUAL: "the destination has a copy of the source as it is now",
    MISSING: "only the source has it",
    STALE: "the destination has something other than the source",
    CORRUPT: "the destination says that it has a copy of the source as it is now, but their checksums differ",
    GHOST: "only the destination has it: it is no longer in the source",
    FOREIGN: "only the destination has it, and it does not say that the sync wrote it",
    ABSENT: "neither bucket has it",
    ARCHIVED: "the source has to be restored before it can be copied",
    EXPIRED: "it changed longer ago than KEEP_DAYS, so it does not belong in the destination",
    EXCLUDED: "it is not synced, by PREFIX_FILTER or EXCLUDE",
    WAITS: "it waits for other keys (COPY_LAST or TABLES)",
    UNKNOWN: "a bucket could not be read",
}
COPIED = "a worker copied this very version"
ADVICE = re.compile(r' advice=("(?:\\.|[^"\\])*")')  # of a failure (mirror/model/errors.py)
CHECKSUMS = {
    True: "equal; S3 may have copied the value with the object",
    False: "different",
    None: "not comparable: S3 does not show one of the whole object, by the same algorithm, on both sides",
}
# Whatever else is known.
STANDING_ADVICE = {
    EQUAL: "nothing",
    ABSENT: "nothing; if it should be there, compare the spelling: a key is exact",
    EXPIRED: "nothing",
    EXCLUDED: "nothing",
    ARCHIVED: "restore it (aws s3api restore-object): S3 then sends an event, and it is copied",
    UNKNOWN: "grant the permissions that are named, if any, and run this again",
}


def explain(facts: Mapping[str, Any], now: float) -> dict[str, Any]:
    """`facts`: the key, the settings, each side as the AWS CLI shows it or its error, and what else is known."""
    key, settings, sides = facts["key"], facts["settings"], facts["sides"]
    wanted = wanted_of(settings["PREFIX_FILTER"], settings["EXCLUDE"], int(settings["KEEP_DAYS"] or 0))
    heads = {name: read_head(side["head"]) for name, side in sides.items() if side.get("head")}
    source = source_from_head(heads["source"]) if "source" in heads else None
    destination = destination_from_head(heads["destination"]) if "destination" in heads else None
    same_bytes = have_same_bytes(source, destination)
    verdict = judge(
        source,
        destination,
        excluded=not wanted.takes(key),
        expired=source is not None and wanted.is_expired(source.modified.timestamp(), now),
        same_bytes=same_bytes,
    )
    marks = is_marker(key, settings["COPY_LAST"])
    what, waits = verdict.what, newest_wait(facts["markers"], facts["synced"])
    if any(side.get("problem") for side in sides.values()) and what != EXCLUDED:
        what = UNKNOWN
    elif waits and (what in (MISSING, STALE) or (what in DELETED and not marks)):
        what = WAITS
    found = {
        "key": key,
        "verdict": what,
        "meaning": MEANINGS[what],
        "source": describe(heads.get("source", {}), source, sides["source"]),
        "destination": describe(heads.get("destination", {}), destination, sides["destination"]),
        "of_unknown_origin": verdict.of_unknown_origin,
        "checksums": about_checksums(sides, same_bytes) if source and destination else None,
        "settings": about_settings(key, settings, wanted, marks),
        "waits": waits,
        **{name: facts[name] for name in ("queue", "paused_since", "dead_letters", "log", "not_known")},
    }
    is_foreign = destination is not None and not is_ours_to_delete(destination)
    known = {**facts, "log_says": what_log_says(facts["log"], source, verdict.what)}
    return {**found, "advice": advice(found, known, source, is_foreign, now), "is_right": what in RIGHTLY}


def read_head(head: Mapping[str, Any]) -> dict[str, Any]:
    """The answer of the AWS CLI as boto3 gives it to a worker."""
    head = as_utf8(dict(head))
    return {**head, "LastModified": read_time(head["LastModified"])}


def read_time(text: str) -> datetime:
    """Each generation of the CLI writes times in its own way."""
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        moment = parsedate_to_datetime(text)
    return moment.astimezone(timezone.utc)


def newest_wait(markers: Sequence[Mapping[str, Any]], synced: str) -> Mapping[str, Any] | None:
    """The newest line that says what the key waits for, unless it was synced after that."""
    newest = max(markers, key=lambda line: line["at"], default=None)
    return newest if newest and newest["at"] > synced else None


def describe(head: Mapping[str, Any], side: Any, asked: Mapping[str, Any]) -> dict[str, Any] | None:
    """What is known of one side; None if it has no such object."""
    if side is None:
        told = {name: asked[name] for name in ("problem", "listed", "delete_marker", "note") if asked.get(name)}
        return told or None
    told = {"size": side.size, "modified": side.modified.strftime("%Y-%m-%dT%H:%M:%SZ"), "etag": side.etag.strip('"')}
    told.update({"checksums": side.checksums} if side.checksums else {})
    if "VersionId" in head:
        told["version"] = head["VersionId"]
    if getattr(side, "archived", ""):
        told["archived"] = side.archived
    return {**told, **({"copy_of": side.provenance} if hasattr(side, "provenance") else {"identity": side.identity})}


def about_checksums(sides: Mapping[str, Mapping[str, Any]], same_bytes: bool | None) -> str:
    refused = [f"{name}: {side['refused']}" for name, side in sides.items() if side.get("refused")]
    if refused:
        return f"not shown, for which an object with SSE-KMS needs kms:Decrypt on its key: {'; '.join(refused)}"
    return CHECKSUMS[same_bytes]


def about_settings(key: str, settings: Mapping[str, str], wanted: Wanted, marks: bool) -> dict[str, str]:
    """Each setting that is set, with what it says of the key."""
    prefixes = [prefix for prefix in wanted.prefixes if key.startswith(prefix)]
    patterns = [one for one in items_of(settings["EXCLUDE"]) if wanted_of("", one.replace(",", "\\,"), 0).excludes(key)]
    says = {
        "PREFIX_FILTER": f"takes it, by {prefixes[0]}" if prefixes else "leaves it out: it has none of the prefixes",
        "EXCLUDE": f"leaves it out, by {patterns[0]}" if patterns else "does not leave it out",
        "KEEP_DAYS": f"keeps what changed within {settings['KEEP_DAYS']} days",
        "COPY_LAST": "makes it a marker" if marks else "does not make it a marker",
        "TABLES": "copies the commits of a table in order",
    }
    return {name: said for name, said in says.items() if settings[name]}


def what_log_says(log: Sequence[str], source: Any, what: str) -> str:
    """Of the source as it is now, by the last line on the key, and what to do about that: nothing if that does not
    help."""
    changed = source.modified.timestamp() if source else 0
    lines = [line for line in log if timestamp_of(line) > changed]
    if not lines:
        return ""
    for failure in logs.failures(lines[-1:]):
        said = ADVICE.search(failure["reason"])
        cure = json.loads(said[1]) if said else "remove the reason that the last line of the log names"
        return f"{cure}; it is tried again by itself, and after the last attempt it is in the dead-letter queue"
    if what in (MISSING, STALE):
        for synced in logs.synced(lines[-1:]):
            if (synced["action"], synced["size"]) == ("copied", source.size):
                return f"{COPIED} at {synced['at']}, and somebody has deleted or changed the copy since"
    return ""


def timestamp_of(line: str) -> float:
    """Of a log line; before everything, if it does not begin with its time."""
    at = times.epoch_or_none(line.partition(" ")[0])
    return -1 if at is None else at + 1  # fractions of a second do not count


def advice(found: Mapping[str, Any], facts: Mapping[str, Any], source: Any, is_foreign: bool, now: float) -> str:
    """What to do, the most likely cause first."""
    what, via, quoted = found["verdict"], facts["via"], facts["quoted"]
    if what == EXCLUDED and found["destination"] and not is_foreign:
        return f"nothing; ./sync.sh{via} reconcile --remove-unwanted removes the copies of what EXCLUDE leaves out"
    if what in STANDING_ADVICE:
        return STANDING_ADVICE[what]
    is_fresh = source is not None and now - source.modified.timestamp() < FRESH_SECONDS
    reconcile = f"./sync.sh{via} reconcile --prefix {quoted}"
    status = f"./sync.sh{via} status"
    if what == CORRUPT:
        return f"{reconcile} --deep copies it again; find out who has written to the destination"
    if what == FOREIGN:
        return (
            "nothing, if others wrote it: EXCLUDE leaves it out of reconcile. If the source had it, its event may be "
            f"on its way or lost: {status}; {reconcile} --remove-foreign deletes all that is foreign under that prefix"
        )
    if facts["log_says"].startswith(COPIED):
        return f"{facts['log_says']}: {reconcile} copies it again; find out who writes to the destination"
    rows = (
        (found["paused_since"], f"the sync is paused: ./sync.sh{via} resume"),
        (found["dead_letters"], f"remove the reason, then ./sync.sh{via} redrive"),
        (what == WAITS, f"wait, or look at what it waits for: ./sync.sh{via} explain {facts['quoted_example']}"),
        (facts["log_says"], facts["log_says"]),
        (is_fresh, "wait: it changed within the last five minutes"),
        ("queue" in found["not_known"], f"fix what {status} shows about the queue, then {reconcile}"),
        (
            any((found["queue"] or {}).values()),
            f"wait, because its event may be in the queue: {status} shows whether it moves; then {reconcile}",
        ),
        (True, f"{reconcile} syncs it; {status} shows whether events arrive"),
    )
    return next(text for holds, text in rows if holds)
