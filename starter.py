"""The Lambda function that decides how many workers to start now: messages, tasks -> decide() -> started.

It keeps almost nothing between two runs. What it needs to know about earlier runs, it reads from ECS, which shows a
stopped task for about an hour. Its parts are in launch/. With STARTER_COPIES, it also has the worker's parts (mirror/),
and copies small objects itself while no worker runs.
"""

from __future__ import annotations

import functools
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from launch import calls
from launch.audit import COMMAND, AuditPlan, plan_audit, report_audit
from launch.copying import (
    Failure,
    after_copying,
    announces_message,
    describe_failure,
    is_from_bucket,
    leaves_to_workers,
    left_over,
    seconds_to_copy,
    starts_workers_first,
    why_failing,
)
from launch.decision import Decision, decide, decide_paused, wanted_workers
from launch.guard import Guard
from launch.settings import load_settings
from launch.tasks import SHORTAGE, is_shortage

# Now, and not in the first run that copies: it belongs to the cold start, which has more CPU. Without STARTER_COPIES,
# the archive does not hold it.
copier: Any = import_module("mirror.function") if os.environ.get("STARTER_COPIES") == "true" else None


# During a burst of events, and for a minute after it, the function runs without a pause; then Lambda drops the events
# that had no turn. Those are thousands of short runs whose calls to ECS count against the account's limit, so they
# share an answer. The runs of the minute may be dropped as well, so one of these looks at everything in their place.
LIST_AGAIN_SECONDS = 2
LOOK_AGAIN_SECONDS = 75


@dataclass
class Process:
    """What one process of Lambda's keeps from run to run: what it asks, and when it did so last."""

    aws: calls.Aws
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    copier: Any = None  # mirror.function
    failure: Failure | None = None  # of copying
    guard: Guard = field(default_factory=Guard)
    listed_at: float = 0
    listed: Sequence[str] = ()  # workers that ran
    looked_at: float = 0  # at everything
    audited_at: float = 0  # at audits
    guarded_at: float = 0  # when the guard had its turn


@functools.cache
def this_process() -> Process:
    return Process(calls.connect(), copier=copier)


def look(aws: calls.Aws, settings: Mapping[str, Any], visible: int, in_flight: int, arns: Sequence[str]) -> Decision:
    """Reads from ECS what the decision needs. `arns`: workers that run.

    Without work, which is a message that waits or is in flight or MIN_WORKERS, this is only whether one of them was
    started to stay. The messages of a worker that was killed are in flight.
    """
    if settings["PAUSED_SINCE"]:
        return decide_paused(calls.describe_tasks(aws, settings, arns, arns), settings["PAUSED_SINCE"])

    least = settings["MIN_WORKERS"]
    has_work = bool(visible or in_flight or least)
    stopped = []
    if has_work:
        stopped = [arn for arn in calls.list_stopped(aws, settings) if arn not in arns]

    tasks = calls.describe_tasks(aws, settings, [*arns, *stopped], arns)
    if has_work or any(task.stays for task in tasks):
        revision = calls.find_revision(aws, settings) if least else ""
        return decide(visible, in_flight, tasks, aws.clock(), settings, revision)
    return Decision(len(arns), wanted_workers(visible, in_flight, 0, len(arns), settings))


def may_copy(process: Process, waiting: int, decision: Decision) -> bool:
    """Not beside workers, not while workers fail, because what stops them would stop the function as well, not while
    the sync is paused, and not for a while after an outage."""
    hindered = decision.running or decision.failing or decision.trial or decision.paused_since
    hindered = hindered or leaves_to_workers(process.failure, process.aws.clock())
    return bool(process.copier and waiting and not hindered)


def copy(process: Process, context: Any) -> dict[str, Any] | None:
    """Returns what the function did with messages itself, or None if there was no time for it."""
    seconds = seconds_to_copy(context)
    if not seconds:
        return None
    try:
        copied = dict(process.copier.respond(process.environment, seconds))
    except Exception as error:  # noqa: BLE001 a mistake in it must not keep workers from being started
        copied = {"error": repr(error)}
    process.failure = after_copying(process.failure, copied, process.aws.clock())
    return copied


def copying_faults(process: Process, decision: Decision, copied: Mapping[str, Any] | None) -> list[str]:
    """Why this run fails because of copying. During a pause nothing is to be copied."""
    why = why_failing(process.failure, copied, process.aws.clock())
    return [f"the function could not copy: {why}"] if why and not decision.paused_since else []


def handler(event: object, context: Any, process: Process | None = None) -> dict[str, Any]:
    """See run(). A call that the function has made to S3 and that has no answer must not outlive it."""
    process = process or this_process()
    try:
        return run(process, event, context)
    finally:
        if process.copier:
            process.copier.end_process_if_unanswered()


def run(process: Process, event: object, context: Any) -> dict[str, Any]:
    """Starts the workers that are missing; returns and logs the numbers it decided on.

    Raises ValueError for wrong settings, botocore's error if the queue or the cluster cannot be read, and RuntimeError
    if ECS failed for another reason than a shortage of capacity, which the next run tries again, if workers stop before
    they work or die again and again, if the function cannot copy, if the cluster does not have a capacity provider, or
    if a link of the path of events is broken. All but the first are raised in every run until they are over, so that
    the metric Errors shows them; of copying, from its second failure on.

    An event of the bucket is there to get the first worker going. If one runs or starts, it needs one call or none:
    whether more workers are needed is decided by the run of the minute.
    """
    aws, settings = process.aws, load_settings(process.environment)
    now = aws.clock()
    is_hasty = is_from_bucket(event) and now - process.looked_at < LOOK_AGAIN_SECONDS
    if is_hasty and settings["PAUSED_SINCE"]:
        return print_report({"event": True, "paused_since": settings["PAUSED_SINCE"]})
    if not (is_hasty and process.listed and now - process.listed_at < LIST_AGAIN_SECONDS):
        process.listed, process.listed_at = calls.list_running(aws, settings), now
    if is_hasty and process.listed:
        return print_report({"event": True, "running": len(process.listed)})

    process.looked_at = now
    visible, in_flight = calls.count_messages(aws, settings["QUEUE_URL"])
    waiting = max(visible, int(announces_message(event, now)))
    decision = look(aws, settings, waiting, in_flight, process.listed)

    copies, copied = may_copy(process, waiting, decision), None
    if copies and not (decision.stay or starts_workers_first(waiting, process.failure)):
        copied = copy(process, context)
        left = left_over(waiting, copied)  # after copying, which takes up to a minute
        decision = decision._replace(wanted=0, start=0)
        if left:
            decision = look(aws, settings, left, in_flight, calls.list_running(aws, settings))
    started, failures = carry_out(aws, settings, decision)
    if copies and copied is None:
        copied = copy(process, context)

    report = {"visible": visible, "in_flight": in_flight, **describe(decision, started, failures)}
    more = {
        "event": is_from_bucket(event) or None,
        "copied": copied,
        "copying_failed": process.failure and describe_failure(process.failure, aws.clock()),
        "audit": audit(process, settings, event) or None,
    }
    report |= {name: value for name, value in more.items() if value is not None}
    print_report(report)

    faults = [
        *calls.missing_providers(aws, settings),
        *copying_faults(process, decision, copied),
        *check_path(process, settings, event, context),
    ]
    complain(settings, report, faults, is_enough=0 < decision.start <= len(started))
    return report


def carry_out(aws: calls.Aws, settings: Mapping[str, Any], decision: Decision) -> tuple[list[str], list[str]]:
    """(capacity provider of each started worker, failures). If a task cannot be stopped, no successor is started."""
    failures = calls.stop_tasks(aws, settings, decision.stop)
    if failures:
        return [], failures
    return calls.start_workers(aws, settings, decision.start, decision.on_demand, decision.stay, decision.only_spot)


def audit(process: Process, settings: Mapping[str, Any], event: object) -> dict[str, Any]:
    """Starts an audit if one is due (AUDIT_DAYS). This comes after the workers, which no answer of ECS here affects.

    It belongs to the run of the minute. A run for an event of the bucket does it if there was none for too long. While
    the sync is paused, an audit would only find what waits.
    """
    aws, days, now = process.aws, settings["AUDIT_DAYS"], process.aws.clock()
    is_too_soon = is_from_bucket(event) and now - process.audited_at < LOOK_AGAIN_SECONDS
    if not days or settings["PAUSED_SINCE"] or is_too_soon:
        return {}

    process.audited_at = now
    theirs = {**settings, "STARTED_BY": settings["AUDIT_STARTED_BY"]}
    plan = AuditPlan()
    started: list[str] = []
    failures: list[str] = []
    try:
        live = calls.list_running(aws, theirs)
        arns = list(dict.fromkeys([*live, *calls.list_stopped(aws, theirs)]))
        audits = calls.describe_tasks(aws, theirs, arns, live) if arns else []
        plan = plan_audit(audits, days, now, settings["CLUSTER"])
        if plan.start:
            started, failures = calls.run_tasks(aws, theirs, 1, calls.ON_DEMAND, COMMAND)
    except (BotoCoreError, ClientError) as error:
        failures = [str(error)]
    return report_audit(plan, started, failures, days, now)


def check_path(process: Process, settings: Mapping[str, Any], event: object, context: Any) -> list[str]:
    """The guard's work, which belongs to the run of the minute. A run for an event of the bucket does it if there was
    none for too long, so that a busy bucket does not hide that the rule is disabled."""
    now, is_event = process.aws.clock(), is_from_bucket(event)
    process.guarded_at = process.guarded_at or now
    if is_event and now - process.guarded_at < LOOK_AGAIN_SECONDS:
        return []
    process.guarded_at = now
    return process.guard.run(settings, context, is_scheduled=not is_event, spent=now - process.looked_at)


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
    """Raises one RuntimeError for everything that went wrong. `faults`: lines with a cure, on capacity providers,
    of copying, and of the guard. `is_enough`: all workers that were wanted have been started, so that a quota of Spot
    or of on demand that others have used up is worth no alarm."""
    family = settings["TASK_DEFINITION"]
    passes = is_shortage if is_enough else lambda failure: SHORTAGE in failure
    errors = [failure for failure in report["failures"] if not passes(failure)]
    errors = [error for error in errors if calls.NOT_ASSOCIATED not in error]  # of which `faults` say what to do

    problems = []
    if errors:
        problems.append(f"workers of {family} were not started: {'; '.join(dict.fromkeys(errors))}")
    if report["failing"]:
        problems.append(f"workers of {family} do not get to work: {report['failing']}")
    problems += faults
    if problems:
        raise RuntimeError("; ".join(problems))
