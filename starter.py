"""The Lambda function that decides how many workers to start now: messages, tasks -> decide() -> started.

It keeps almost nothing between two runs. What it needs to know about earlier runs, it reads from ECS, which shows a
stopped task for about an hour. Its parts are in launch/. With STARTER_COPIES, it also has the worker's parts (mirror/),
and copies small objects itself while no worker runs.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from time import time
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from launch.audit import COMMAND, AuditPlan, plan_audit, report_audit
from launch.calls import (
    ON_DEMAND,
    count_messages,
    describe_tasks,
    find_revision,
    list_running,
    list_stopped,
    run_tasks,
    start_workers,
    stop_tasks,
)
from launch.copying import FEW_MESSAGES, announces_message, is_from_bucket, left_over, seconds_to_copy
from launch.decision import Decision, decide, decide_paused, wanted_workers
from launch.guard import guard
from launch.settings import load_settings
from launch.tasks import SHORTAGE, is_shortage

# Now, and not in the first run that copies: it belongs to the cold start, which has more CPU. Otherwise the archive
# does not hold it.
copier: Any = import_module("mirror.function") if os.environ.get("STARTER_COPIES") == "true" else None


# During a burst of events, and for a minute after it, the function runs without a pause; then Lambda drops the events
# that had no turn. Those are thousands of short runs whose calls to ECS count against the account's limit, so they
# share an answer. The runs of the minute may be dropped as well, so one of these looks at everything in their place.
LIST_AGAIN_SECONDS = 2
LOOK_AGAIN_SECONDS = 75


@dataclass
class Memory:
    """Of the earlier runs in this process."""

    listed_at: float = 0
    listed: Sequence[str] = ()  # workers that ran
    looked_at: float = 0  # at everything
    audited_at: float = 0  # at audits
    guarded_at: float = 0  # when the guard had its turn


memory = Memory()


def look(settings: Mapping[str, Any], visible: int, in_flight: int, arns: Sequence[str], now: float) -> Decision:
    """Reads from ECS what the decision needs. `arns`: workers that run.

    If no message waits, this is only whether one of them stays although MIN_WORKERS is 0 by now.
    """
    if settings["PAUSED_SINCE"]:
        return decide_paused(describe_tasks(settings, arns, now, arns), settings["PAUSED_SINCE"])
    least, stopped = settings["MIN_WORKERS"], []
    if visible or least:
        stopped = [arn for arn in list_stopped(settings) if arn not in arns]
    tasks = describe_tasks(settings, [*arns, *stopped], now, arns)
    if visible or least or any(task.stays for task in tasks):
        return decide(visible, in_flight, tasks, now, settings, find_revision(settings) if least else "")
    return Decision(len(arns), wanted_workers(visible, in_flight, 0, len(arns), settings))


def may_copy(waiting: int, decision: Decision) -> bool:
    """Not beside workers, not while workers fail, as what stops them would stop the function as well, and not while the
    sync is paused."""
    hindered = decision.running or decision.failing or decision.trial or decision.paused_since
    return bool(copier and waiting and not hindered)


def copy(context: Any) -> dict[str, Any] | None:
    """Returns what the function did with messages itself, or None if there was no time for it."""
    seconds = seconds_to_copy(context)
    if not seconds:
        return None
    try:
        return dict(copier.respond(os.environ, seconds))
    except Exception as error:  # noqa: BLE001 a mistake in it must not keep workers from being started
        return {"error": repr(error)}


def handler(event: object, context: Any) -> dict[str, Any]:
    """See run(). A call that the function has made to S3 and that has no answer must not outlive it."""
    try:
        return run(event, context)
    finally:
        if copier:
            copier.end_process_if_unanswered()


def run(event: object, context: Any) -> dict[str, Any]:
    """Starts the workers that are missing; returns and logs the numbers it decided on.

    Raises ValueError for wrong settings, botocore's error if the queue or the cluster cannot be read, and RuntimeError
    if ECS failed for another reason than a shortage of capacity, which the next run tries again, if workers stop before
    they work, or if a link of the path of events is broken. The last two are raised in every run until they are over,
    so that the metric Errors shows them.

    An event of the bucket is there to get the first worker going. If one runs or starts, it needs one call or none:
    whether more workers are needed is decided by the run of the minute.
    """
    settings, now = load_settings(os.environ), time()
    is_hasty = is_from_bucket(event) and now - memory.looked_at < LOOK_AGAIN_SECONDS
    if is_hasty and settings["PAUSED_SINCE"]:
        return print_report({"event": True, "paused_since": settings["PAUSED_SINCE"]})
    if not (is_hasty and memory.listed and now - memory.listed_at < LIST_AGAIN_SECONDS):
        memory.listed, memory.listed_at = list_running(settings, now), now
    if is_hasty and memory.listed:
        return print_report({"event": True, "running": len(memory.listed)})
    memory.looked_at, arns = now, memory.listed
    visible, in_flight = count_messages(settings["QUEUE_URL"])
    waiting = max(visible, int(announces_message(event, now)))
    decision = look(settings, waiting, in_flight, arns, now)
    copies, copied = may_copy(waiting, decision), None
    if copies and waiting <= FEW_MESSAGES and not decision.stay:
        copied = copy(context)
        decision = look_again(settings, decision, left_over(waiting, copied), in_flight)
    started, failures = carry_out(settings, decision)
    if copies and copied is None:
        copied = copy(context)
    report = {"visible": visible, "in_flight": in_flight, **describe(decision, started, failures)}
    report |= {"event": True} if is_from_bucket(event) else {}
    report |= {} if copied is None else {"copied": copied}
    report |= {} if not (audited := audit(settings, event)) else {"audit": audited}
    print_report(report)
    faults = check_path(settings, event, context)
    complain(settings, report, faults, is_enough=0 < decision.start <= len(started))
    return report


def look_again(settings: Mapping[str, Any], before: Decision, left: int, in_flight: int) -> Decision:
    """After copying, which takes up to a minute."""
    if not left:
        return before._replace(wanted=0, start=0)
    now = time()
    return look(settings, left, in_flight, list_running(settings, now), now)


def carry_out(settings: Mapping[str, Any], decision: Decision) -> tuple[list[str], list[str]]:
    """(capacity provider of each started worker, failures). If a task cannot be stopped, no successor is started."""
    failures = stop_tasks(settings, decision.stop)
    if failures:
        return [], failures
    only_spot = decision.only_spot
    return start_workers(settings, decision.start, decision.on_demand, decision.stay, time(), only_spot)


def audit(settings: Mapping[str, Any], event: object) -> dict[str, Any]:
    """Starts an audit if one is due (AUDIT_DAYS). This comes after the workers, which no answer of ECS here affects.

    It belongs to the run of the minute. A run for an event of the bucket does it if there was none for too long. While
    the sync is paused, an audit would only find what waits.
    """
    days, now = settings["AUDIT_DAYS"], time()
    if not days or settings["PAUSED_SINCE"] or (is_from_bucket(event) and now - memory.audited_at < LOOK_AGAIN_SECONDS):
        return {}
    memory.audited_at = now
    theirs, plan = {**settings, "STARTED_BY": settings["AUDIT_STARTED_BY"]}, AuditPlan()
    started: list[str] = []
    failures: list[str] = []
    try:
        live = list_running(theirs, now)
        arns = list(dict.fromkeys([*live, *list_stopped(theirs)]))
        plan = plan_audit(describe_tasks(theirs, arns, now, live) if arns else [], days, now)
        if plan.start:
            started, failures = run_tasks(theirs, 1, ON_DEMAND, COMMAND, now)
    except (BotoCoreError, ClientError) as error:
        failures = [str(error)]
    return report_audit(plan, started, failures, days, now)


def check_path(settings: Mapping[str, Any], event: object, context: Any) -> list[str]:
    """The guard's work, which belongs to the run of the minute. A run for an event of the bucket does it if there was
    none for too long, so that a busy bucket does not hide that the rule is disabled."""
    now, is_event = time(), is_from_bucket(event)
    memory.guarded_at = memory.guarded_at or now
    if is_event and now - memory.guarded_at < LOOK_AGAIN_SECONDS:
        return []
    memory.guarded_at = now
    return guard(settings, context, is_scheduled=not is_event)


def describe(decision: Decision, started: Sequence[str], failures: Sequence[str]) -> dict[str, Any]:
    report = {
        "running": decision.running,
        "wanted": decision.wanted,
        "started": dict(Counter(started)),
        "stopped": len(decision.stop),
        "failures": list(failures),
        "failing": decision.failing,
        "trial": decision.trial,
    }
    if decision.staying or decision.stay:
        report |= {"staying": decision.staying, "started_to_stay": decision.stay}
    if decision.paused_since:
        report |= {"paused_since": decision.paused_since}
    return report


def print_report(report: dict[str, Any]) -> dict[str, Any]:
    print(json.dumps(report))
    return report


def complain(settings: Mapping[str, Any], report: Mapping[str, Any], faults: Sequence[str], is_enough: bool) -> None:
    """Raises one RuntimeError for everything that went wrong. `faults`: what the guard has found. `is_enough`: all
    workers that were wanted have been started, so that a quota of Spot or of on demand that others have used up is
    worth no alarm."""
    family = settings["TASK_DEFINITION"]
    passes = is_shortage if is_enough else lambda failure: SHORTAGE in failure
    errors = [failure for failure in report["failures"] if not passes(failure)]
    problems = [f"workers of {family} were not started: {'; '.join(dict.fromkeys(errors))}"] if errors else []
    if report["failing"]:
        problems.append(f"workers of {family} do not get to work: {report['failing']}")
    copied = report.get("copied", {})
    if copied.get("status") or "error" in copied:
        problems.append(f"the function could not copy: {copied.get('error', 'the log above says why')}")
    if problems or faults:
        raise RuntimeError("; ".join([*problems, *faults]))
