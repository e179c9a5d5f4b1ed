"""Waits for ./sync.sh verify: looks at the destination, the queue and the workers' log until everything has arrived, or
until it is certain that it will not."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

from operate import logs, text
from operate.cloud import Once
from operate.deployment import Deployment
from operate.parts import read_function, read_tasks, variables_of
from operate.path import judge_path, read_path, selection_of
from operate.times import moment
from operate.verify import chain
from operate.verify.cases import ARRIVED, FAILED, LARGE, MISSING, REWRITTEN, has_arrived
from operate.verify.speed import Line
from operate.verify.state import (
    LARGE_PART_BYTES,
    LOOK_SECONDS,
    Plan,
    Seen,
    all_at_once,
    look_at_queue,
    note_breaks,
    required,
)

PATIENCE = 5  # looks without progress, after which the links of the chain are looked at
EARLIER = 900  # seconds before a run, from which on the log may say something of it
BOUNDARY = 1024  # bytes of the large object that are compared on both sides of its first boundary
UNREADABLE = ("bucket", "permissions")  # parts of the path that the caller may not be allowed to read


# --- what is there ----------------------------------------------------------------------------------------------------


def list_source(plan: Plan, seen: Seen) -> None:
    seen.source = plan.source.list(plan.folder)


def list_destination(plan: Plan, seen: Seen) -> None:
    seen.destination = plan.destination.list(plan.folder)


def get(plan: Plan, seen: Seen, side: str, name: str) -> None:
    """The answer of GetObject, and the bytes into a file; of the large object only those around a boundary."""
    bucket = plan.source if side == "source" else plan.destination
    around = f"bytes={LARGE_PART_BYTES - BOUNDARY}-{LARGE_PART_BYTES + BOUNDARY - 1}"
    part = ("--range", around) if name == LARGE else ()
    seen.heads[side][name] = bucket.need(
        "get-object", "--key", plan.key(name), *part, str(body_there(plan, side, name))
    )


def body_there(plan: Plan, side: str, name: str) -> Any:
    """The file of the bytes that a side has."""
    return plan.files / f"{side}.{name}"


def read_page(plan: Plan, seen: Seen) -> None:
    """The first page of the copies: they are few, so that S3 need not end it before the last."""
    found = plan.destination.need("list-objects-v2", "--no-paginate", "--prefix", plan.folder)
    seen.page = {"keys": len(found.get("Contents") or []), "more": bool(found.get("IsTruncated"))}


def read_queue(plan: Plan, seen: Seen) -> None:
    """Remembers when the first message was seen."""
    seen.queue = look_at_queue(plan)
    if seen.event_at is None and any(seen.queue.values()):
        seen.event_at = time.time()


# --- logs and tasks ---------------------------------------------------------------------------------------------------


def events_of(plan: Plan, groups: Iterable[str], since: float, *pattern: str) -> list[dict[str, Any]]:
    """Those of log groups by time; none of a group that does not exist."""
    found: list[dict[str, Any]] = []
    for group in groups:
        start = ("--start-time", str(int(since) * 1000))
        options = ("--log-group-name", group, *start, *(("--filter-pattern", *pattern) if pattern else ()))
        found += (plan.cloud.find("logs", "filter-log-events", *options) or {}).get("events") or []
    return sorted(found, key=lambda event: int(event.get("timestamp") or 0))


def lines_of(events: Iterable[dict[str, Any]]) -> list[Line]:
    return [Line(event["logStreamName"], event["message"].rstrip("\n")) for event in events]


def groups_of_keys(plan: Plan) -> list[str]:
    return logs.groups_of(plan.deployment, plan.copies)


def read_lines(plan: Plan, seen: Seen) -> None:
    """The lines on objects of this run, of a worker or of the function if it copies. The name of the folder is in no
    other."""
    found = events_of(plan, groups_of_keys(plan), seen.began - EARLIER, f'"{plan.name}"')
    seen.lines = lines_of(found)


def read_decisions(plan: Plan, seen: Seen) -> list[dict[str, Any]]:
    """What the starter wrote since the run began: a decision, or {error}."""
    found = lines_of(events_of(plan, [plan.deployment.starter_log_group], seen.began))
    lines = [line.message for line in found if re.search(logs.DECISION_OR_FAILURE, line.message)]
    return [logs.as_decision(line) or {"error": line} for line in lines]


def read_outages(plan: Plan, seen: Seen) -> list[dict[str, Any]]:
    """What the workers wrote of outages. One that the starter meets is theirs as soon as one runs."""
    found = events_of(plan, [plan.deployment.worker_log_group], seen.began - EARLIER, '"outage"')
    return logs.outages([{"@logStream": line.stream, "@message": line.message} for line in lines_of(found)])


def read_started_tasks(plan: Plan, seen: Seen) -> None:
    """Those that the starter started, also those that have ended: one that is being stopped is wanted STOPPED."""
    found = []
    for status in ("RUNNING", "STOPPED"):
        found += required(read_tasks(plan.cloud, plan.deployment, "--desired-status", status))
    seen.tasks = [in_short(task) for task in found if task.get("startedBy") == plan.deployment.started_by]


TASK_TIMES = {
    "created": "createdAt",
    "connected": "connectivityAt",
    "pulling": "pullStartedAt",
    "pulled": "pullStoppedAt",
    "started": "startedAt",
}


def in_short(task: dict[str, Any]) -> dict[str, Any]:
    worker: dict[str, Any] = next((one for one in task.get("containers") or [] if one.get("name") == "worker"), {})
    return {
        **{name: moment(task.get(field)) for name, field in TASK_TIMES.items()},
        "id": task["taskArn"].rpartition("/")[2],
        "status": task["lastStatus"],
        "code": task.get("stopCode"),
        "reason": task.get("stoppedReason"),
        "capacity": task.get("capacityProviderName") or task.get("launchType"),
        "exit": worker.get("exitCode"),
        "container_reason": worker.get("reason"),
    }


# --- the links of the chain -------------------------------------------------------------------------------------------


def find_faults(plan: Plan) -> list[dict[str, str]]:
    """Of the path of a change to the starter, as it is now."""
    function = Once(lambda: read_function(plan.cloud, plan.deployment))
    parts = read_path(plan.cloud, plan.deployment, function)
    for name, part in parts.items():
        if name not in UNREADABLE:
            required(part)
    wanted = selection_of(plan.deployment, variables_of(parts["starter"]))
    return judge_path(plan.deployment, parts, wanted).faults


def find_broken_links(plan: Plan, seen: Seen, is_over: bool) -> list[chain.Break]:
    faults, decisions, outages = find_faults(plan), read_decisions(plan, seen), read_outages(plan, seen)
    read_started_tasks(plan, seen)
    return chain.broken_links(
        chain.Facts(
            names=names_of(plan.deployment),
            faults=faults,
            decisions=decisions,
            tasks=seen.tasks,
            outages=outages,
            messages=sum(seen.queue.values()),
            has_seen_event=seen.event_at is not None,
            has_written=bool(seen.lines),
            left=seen.in_state(MISSING),
            is_over=is_over,
            elapsed=seen.elapsed,
            rate=60 * int(plan.deployment.settings["LAMBDA_POLL_RATE"]),
            began=seen.began,
            now=time.time(),
        )
    )


def names_of(deployment: Deployment) -> chain.Names:
    return chain.Names(
        source=deployment.settings["SRC_BUCKET"],
        queue=deployment.queue_name,
        starter=deployment.starter_name,
        rule=deployment.rule_name,
        cluster=deployment.cluster_name,
        via=deployment.via,
    )


def look_for_break(plan: Plan, seen: Seen, is_over: bool, since: float) -> None:
    """Notes what cannot work: then the chain is broken. Keys that failed permanently are not waited for."""
    read_lines(plan, seen)
    failures = chain.counting_failures(logs.failures(line.message for line in seen.lines), since)
    failed = {name: failures[plan.key(name)] for name in seen.in_state(MISSING) if plan.key(name) in failures}
    seen.states.update(dict.fromkeys(failed, FAILED))
    reasons = {plan.key(name): reason for name, reason in failed.items()}
    note_breaks(seen, chain.breaks_by_failures(reasons, plan.deployment.via))

    if seen.in_state(MISSING):
        found = find_broken_links(plan, seen, is_over)
        seen.is_broken = bool(found)
        note_breaks(seen, found)


# --- waiting ----------------------------------------------------------------------------------------------------------


def look_at_all(plan: Plan, seen: Seen, want: str) -> None:
    """Copies of changed objects are read in the same look."""
    changed = [name for name in REWRITTEN if want == "changed" and seen.states.get(name) == MISSING]
    all_at_once(
        lambda: read_queue(plan, seen),
        lambda: list_destination(plan, seen),
        *(lambda name=name: get(plan, seen, "destination", name) for name in changed),
    )
    for name in seen.in_state(MISSING):
        copy = seen.heads["destination"].get(name, {})
        if has_arrived(name, plan.key(name), want, seen.source, seen.destination, copy):
            seen.states[name] = ARRIVED


def await_all(plan: Plan, seen: Seen, want: str, what: str, names: Sequence[str]) -> None:
    """`want`: listed, changed or gone. Sets the state of each of these objects, and whether the chain is broken."""
    now = time.monotonic
    since, shown, most = int(time.time()), "", -1
    deadline, doubt = now() + plan.timeout, 0.0
    seen.states = dict.fromkeys(names, MISSING)
    while True:
        look_at_all(plan, seen, want)
        arrived = len(seen.in_state(ARRIVED))
        shown = show(seen, f"{what}: {arrived} of {len(names)}; messages: {in_words(seen.queue)}", shown)

        if not seen.in_state(MISSING):
            return
        if arrived > most:
            most, doubt = arrived, now() + PATIENCE * LOOK_SECONDS
        if now() >= deadline:
            text.say(f"verify: {what}: not all after {plan.timeout} s (--timeout)")
        if now() >= min(deadline, doubt):
            is_over, doubt = now() >= deadline, now() + PATIENCE * LOOK_SECONDS
            with text.progress("verify: looking at each link"):
                look_for_break(plan, seen, is_over, since)
            if is_over or seen.is_broken:
                return
        plan.cloud.wait(LOOK_SECONDS)


def in_words(queue: dict[str, int]) -> str:
    return f"{queue['visible']} waiting, {queue['in_flight']} in flight, {queue['delayed']} delayed"


def show(seen: Seen, said: str, shown: str) -> str:
    """What is said now, unless it was shown last. On a terminal, the time goes on."""
    if said != shown or text.is_terminal(sys.stderr):
        text.say_for_now(f"verify: {seen.elapsed:.0f} s: {said}")
    return said
