"""Decides whether an audit is due (AUDIT_DAYS): a comparison of both buckets that starts by itself. All of it is pure.

Nothing is remembered between two runs: the clock gives the times of audits, and ECS shows a stopped task for about an
hour, which is longer than the window in which an audit is started. An audit reports its result in its own log.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from launch.tasks import Task

DAY = 86_400
SLOT_SECONDS = 2 * 3600  # after midnight, UTC
WINDOW_SECONDS = 2700  # in which an audit is started: three runs of a starter that runs every 15 minutes
LATE_SECONDS = 1500  # a failure is a problem only after this long, when no later run in the window tries again
MOST_TRIES = 3  # in a slot
ENDED_BY_ITSELF = (0, 1, 3)  # exit status of an audit that ended by itself; another one would end in the same way
COMMAND = MappingProxyType({"command": ["reconcile", "--audit"]})  # of the container


class AuditPlan(NamedTuple):
    """What to do about audits now."""

    start: bool = False
    running: bool = False
    problem: str = ""


def newest_slot(now: float, days: int) -> float:
    """02:00 UTC of a day whose number since 1970 is a multiple of `days`: the last such time up to now."""
    day = int((now - SLOT_SECONDS) // DAY)
    return float((day - day % days) * DAY + SLOT_SECONDS)


def next_slot(now: float, days: int) -> float:
    return newest_slot(now, days) + days * DAY


def explain_end(task: Task) -> str:
    """Returns why an audit that has ended did not finish, or nothing if it did."""
    if task.exit_code == 0:
        return ""
    if task.exit_code is None:
        return f"the last audit was ended: {task.stop_code}: {task.reason}"
    return f"the last audit ended with exit status {task.exit_code}, its log says why: {task.stop_code}: {task.reason}"


def explain_delay(task: Task, now: float, cluster: str) -> str:
    how = "has not started" if task.started is None else "has not ended"
    text = f"an audit {how} for {(now - task.created) / 3600:.0f} hours, and no other one is started"
    return f"{text}: if its log does not go on, stop it: aws ecs stop-task --cluster {cluster} --task {task.arn}"


def plan_audit(tasks: Sequence[Task], days: int, now: float, cluster: str) -> AuditPlan:
    """`tasks`: the audits of the cluster that run or stopped within the last hour.

    No audit is started while another one runs, even if that belongs to the previous slot. One that hangs, or never
    starts, therefore ends all later ones: it is reported from the next slot on, or after a day. An audit that died, for
    any reason, is started again within the window; after that, it is reported for as long as ECS shows it.
    """
    slot = newest_slot(now, days)
    if live := [task for task in tasks if not task.gone]:
        oldest = min(live, key=lambda task: task.created)
        is_late = oldest.created < slot or now - oldest.created > DAY
        return AuditPlan(running=True, problem=explain_delay(oldest, now, cluster) if is_late else "")

    tries = [task for task in tasks if task.created >= slot]
    has_ended = any(task.exit_code in ENDED_BY_ITSELF for task in tries)
    if now - slot < WINDOW_SECONDS and len(tries) < MOST_TRIES and not has_ended:
        return AuditPlan(start=True)

    last = max(tasks, key=lambda task: task.created, default=None)
    return AuditPlan(problem=explain_end(last) if last else "")


def report_audit(
    plan: AuditPlan, started: Sequence[str], failures: Sequence[str], days: int, now: float
) -> dict[str, Any]:
    """Returns what the line of the run says about audits, which may be nothing."""
    problem = plan.problem
    is_last_chance = LATE_SECONDS <= now - newest_slot(now, days) < WINDOW_SECONDS
    if failures and is_last_chance:
        problem = f"no audit could be started: {'; '.join(failures)}"

    said = {"running": plan.running, "started": list(started), "failures": list(failures), "problem": problem}
    return {name: value for name, value in said.items() if value}
