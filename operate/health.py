"""What ./sync.sh status says of the parts of a deployment: the one word, and the reasons for it. All of it is pure.

`parts` is what --json prints. `unread` has, by the name of a part, why it could not be read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from launch.path import is_gone, no_bucket
from launch.rates import behind_seconds
from launch.watchers import is_of_watchers
from operate.text import amount, visible
from operate.times import DAY

IDLE, WORKING, BEHIND, PAUSED, FAILING, UNKNOWN = "idle", "working", "behind", "paused", "failing", "unknown"
HOUR = 3600

# Without these, nobody knows whether the sync works.
DECIDING = ("source", "destination", "function", "queue", "dead_letters", "workers", "rule")

Parts = Mapping[str, Any]


class Names(NamedTuple):
    """What sentences on a deployment name. `via` is what a command needs for the local cloud."""

    via: str
    starter_role: str
    task_role: str


def judge(parts: Parts, unread: Mapping[str, str], names: Names) -> tuple[str, list[str]]:
    """(the word, the reasons, the most important first)."""
    failing = [*reasons_of_failure(parts, unread, names)]
    unknown = [f"{name.replace('_', ' ')}: not known: {unread[name]}" for name in DECIDING if name in unread]
    late = [*reasons_of_delay(parts)]
    paused = [*reasons_of_pause(parts, names)]
    waiting = all_messages(parts["queue"])

    if failing:
        return FAILING, [*failing, *unknown, *(paused or late)]
    if unknown:
        return UNKNOWN, [*unknown, *(paused or late)]
    if paused:
        return PAUSED, paused
    if late and waiting:
        return BEHIND, late
    is_working = waiting or any(not worker.get("stays") for worker in parts["workers"])
    return (WORKING if is_working else IDLE), []


def all_messages(queue: Mapping[str, int] | None) -> int:
    return sum((queue or {}).get(name) or 0 for name in ("visible", "in_flight", "delayed"))


# --- reasons ----------------------------------------------------------------------------------------------------------


def reasons_of_failure(parts: Parts, unread: Mapping[str, str], names: Names) -> Iterator[str]:
    said = {fault["fault"] for fault in parts["faults"]}
    for name in ("source", "destination"):
        is_said = is_gone(parts[name]) and no_bucket(parts[name]["name"]) in said
        if parts[name]["error"] and name not in unread and not is_said:
            yield f"the bucket {parts[name]['name']} does not answer: {parts[name]['error']}"

    yield from (f"{fault['fault']}: {fault['cure']}" for fault in parts["faults"])
    yield from reasons_of_wrong_pause(parts, names)
    yield from reasons_of_starter(parts, unread, names)
    yield from reasons_of_outage(parts, names)
    yield from reasons_of_silence(parts, names)

    dead = all_messages(parts["dead_letters"])
    if dead:
        yield f"{amount(dead, 'message')} in the dead-letter queue: ./sync.sh{names.via} redrive --list"

    yield from reasons_of_audit(parts, names)


def reasons_of_wrong_pause(parts: Parts, names: Names) -> Iterator[str]:
    paused = parts.get("paused")
    if paused and "events_until" not in paused:
        since = visible(f'"{paused["since"]}"')
        cure = f"nothing is copied until ./sync.sh{names.via} resume"
        yield f"PAUSED_SINCE={since} of the function is not a time, and {cure}"


def reasons_of_starter(parts: Parts, unread: Mapping[str, str], names: Names) -> Iterator[str]:
    starter, silence = parts["starter"], silence_of(parts)
    if starter is None:
        is_late = (parts["function_age"] or 0) > silence
        if "starter" not in unread and silence <= HOUR and is_late:
            yield f"the starter has not run for an hour: {what_was_changed(names)}"
        return

    unfixed = unfixed_errors(parts)
    if unfixed:
        yield f"the starter failed: {with_cure(with_only(starter['error'], unfixed), names.starter_role, names.via)}"

    decision = starter["decision"] or {}
    if decision.get("failing"):
        yield f"workers do not get to work: {decision['failing']}"

    copying = decision.get("copying_failed") or {}
    if copying.get("failing") and not parts.get("paused"):
        since = "and has not copied since, so workers do"
        yield f"the function could not copy at {copying['at']} {since}: {copying['why']}"


def reasons_of_outage(parts: Parts, names: Names) -> Iterator[str]:
    outage = parts["outage"]
    if outage and outage["state"] == "goes on":
        reason = with_cure(outage["reason"] or "", names.task_role, names.via)
        yield f"no key can be synced since {outage['since']}: {reason}"

    if outage and outage["state"] == "ended" and all_messages(parts["queue"]):
        has_synced = outage["at"] <= (parts["lag"]["newest"] or "")
        if not has_synced:
            yield f"a worker ended in an outage, and none has synced a key since: {outage['reason']}"


def reasons_of_silence(parts: Parts, names: Names) -> Iterator[str]:
    starter = parts["starter"]
    if starter and starter["seconds_ago"] > silence_of(parts):
        yield f"the starter has not run for {starter['seconds_ago']} s: {what_was_changed(names)}"


def what_was_changed(names: Names) -> str:
    return f"./deploy.sh{names.via} --dry-run shows what was changed, such as its reserved concurrency"


def reasons_of_audit(parts: Parts, names: Names) -> Iterator[str]:
    audit = parts.get("audit")
    if audit:
        last, days = audit["last"], audit["days"] + 1
        since = last["seconds_ago"] if last else parts["function_age"] or 0
        if since > days * DAY and not parts.get("paused"):
            yield f"no audit has finished for {days} days: ./sync.sh{names.via} logs starter says why none started"
        if last and last["status"] != 0:
            end = "it was stopped" if last["end"] == "stopped" else "it could not fix all differences"
            yield f"the last audit failed: {end}; repeat it: ./sync.sh{names.via} reconcile --audit"

    problem = (((parts["starter"] or {}).get("decision") or {}).get("audit") or {}).get("problem")
    if problem:
        yield f"an audit was to start or run: {problem}"


def reasons_of_delay(parts: Parts) -> Iterator[str]:
    oldest = (parts["queue"] or {}).get("oldest_seconds")
    if oldest and oldest > behind_seconds(minutes_of(parts)):
        yield f"the oldest message has been waiting for {oldest // 60} min"

    decision = (parts["starter"] or {}).get("decision") or {}
    yield from (f"a worker was not started: {failure}" for failure in decision.get("failures") or [])


def reasons_of_pause(parts: Parts, names: Names) -> Iterator[str]:
    paused = parts.get("paused")
    if paused and "events_until" in paused:
        until = f"events wait in the queue until {paused['events_until']}"
        yield f"since {paused['since']} nothing is copied, until ./sync.sh{names.via} resume; {until}"


def minutes_of(parts: Parts) -> int:
    """How far apart the runs of the starter are, as far as that is known."""
    return int((parts["rule"] or {}).get("minutes") or 1)


def silence_of(parts: Parts) -> int:
    """Seconds without a run after which the starter does not run."""
    return 180 * minutes_of(parts)


# --- the error of the starter -----------------------------------------------------------------------------------------

# The cures of launch/path.py and launch/watchers.py.
OF_GUARD = re.compile(
    r": ((remove it, then )?\./deploy\.sh( --local)?(, then \./sync\.sh( --local)? reconcile .*)?"
    r"|create it again .*|open the link .*)$"
)
OF_CODE = re.compile(r"\[ERROR\] (Runtime\.|(Attribute|Import|Key|ModuleNotFound|Name|Syntax|Type|Value)Error: )")


def unsaid(error: str, faults: Iterable[Mapping[str, str]]) -> list[str]:
    """The parts of the starter's error that are not said here anyway, as its guard found them."""
    said = {f"{fault['fault']}: {fault['cure']}" for fault in faults}
    first = re.sub("^.*RuntimeError: ", "", error.partition("\n")[0])
    parts = first.split("; ") if first else []
    return [part for part in parts if part not in said]


def unfixed_errors(parts: Parts) -> list[str]:
    """What the last run of the starter failed with, and still holds: what its guard found has been fixed since if a
    look at the same does not find it any more."""
    starter = parts["starter"]
    found = unsaid(starter["error"], parts["faults"]) if starter else []
    could_look = parts["events"]["error"] == ""
    could_look_at_alarms = (parts.get("alarms") or {}).get("complete", False)

    def is_fixed_since(said: str) -> bool:
        return bool(OF_GUARD.search(said)) and (could_look_at_alarms if is_of_watchers(said) else could_look)

    return [part for part in found if not is_fixed_since(part)]


def is_fixed(parts: Parts) -> bool:
    starter = parts["starter"]
    return bool(starter and unsaid(starter["error"], parts["faults"]) and not unfixed_errors(parts))


def with_only(error: str, some: Sequence[str]) -> str:
    """The error with only these of its parts."""
    kind = re.match(".*RuntimeError: ", error.partition("\n")[0])
    return (kind[0] if kind else "") + "; ".join(some)


def with_cure(error: str, role: str, via: str) -> str:
    """What to do if the starter or a worker was denied or changed, unless a worker has said that itself."""
    if " advice=" in error:
        return error
    deploy = f"./deploy.sh{via}"
    if "permissions boundary" in error:
        command = f"aws iam delete-role-permissions-boundary --role-name {role}"
        return f"{error}: {deploy} leaves that boundary: {command}, or name one that allows it (ROLE_BOUNDARY_ARN)"
    if re.search("AccessDenied|not authorized", error):
        return f'{error}: {deploy} restores its role; for other policies see "Denied" in docs/troubleshooting.md'
    if OF_CODE.match(error):
        return f"{error}: {deploy} restores the function"
    return error


# --- outages ----------------------------------------------------------------------------------------------------------


def choose_outage(outages: Iterable[Mapping[str, Any]], running: Iterable[str]) -> dict[str, Any] | None:
    """The outage to report: one that continues, otherwise the newest. What the function cannot sync, it hands over to a
    worker, which then reports an outage of its own."""
    ids = {*running}
    found = [{**outage, "state": state_of_outage(outage, ids)} for outage in outages]
    going_on = [outage for outage in found if outage["state"] == "goes on"]
    if going_on:
        return min(going_on, key=lambda outage: str(outage["since"]))
    return max(found, key=lambda outage: str(outage["at"]), default=None)


def state_of_outage(outage: Mapping[str, Any], running: set[str]) -> str:
    if outage["event"] != "began":
        return str(outage["event"])
    if outage["task"] in running:
        return "goes on"
    return "handed over" if outage["task"].startswith("[$LATEST]") else "cut short"


# --- releases ---------------------------------------------------------------------------------------------------------


def order_of(release: str) -> list[int]:
    """Number by number; -dev comes before the release."""
    return [*map(int, re.findall(r"\d+", release)), 0 if release.endswith("-dev") else 1]
