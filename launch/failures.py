"""Workers that fail: which ones since the last that worked, when the next one is tried, and what ECS says of them.

ECS does not say what a worker has received. So one that ended with 0 counts as one that works, unless it ran beside one
that failed: that one may have received all messages.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from launch.tasks import AT_ONCE_SECONDS, OUTAGE_STATUS, Task

PAUSE_SECONDS = (60, 900)  # shortest and longest pause between two attempts while workers do not get to work
OUTAGE_SECONDS = 660  # one that runs for longer is in no outage: it would have ended after ten minutes
# One beside a worker that failed works if it runs for so long: without a message it would have ended after a minute
# (EMPTY_POLLS_BEFORE_EXIT).
BESIDE_SECONDS = 180

KILLED_STATUS = 137  # SIGKILL, which the kernel sends if the memory is used up
MEMORY_CURE = "if it ran out of memory, raise TASK_MEMORY and run ./deploy.sh"
# What ECS says (ECS developer guide, "Stopped tasks error messages"), and what to do.
CURES = (
    ("OutOfMemory", "raise TASK_MEMORY and run ./deploy.sh"),
    ("CannotPull", "run ./deploy.sh, which makes the image again, and check SUBNETS and ASSIGN_PUBLIC_IP"),
    ("ResourceInitializationError", "run ./deploy.sh, and check SUBNETS and ASSIGN_PUBLIC_IP"),
    ("unable to assume the role", "run ./deploy.sh, which makes the role again"),
)


def is_in_outage(task: Task) -> bool:
    return task.exit_code == OUTAGE_STATUS


def is_beside(task: Task, failed: Sequence[Task]) -> bool:
    """Whether it was there at the same time as one of them that could receive messages."""
    end = task.ended or math.inf
    for other in failed:
        could_receive = other.started is not None and other.ended is not None
        if could_receive and other.created < end and task.created < (other.ended or 0):
            return True
    return False


def has_worked(task: Task, failed: Sequence[Task], now: float, proof: float) -> bool:
    """`proof`: the seconds for which it has to run, unless it has ended by itself."""
    if not is_beside(task, failed):
        return task.worked(now, proof)
    if task.started is None or task.failed:
        return False
    return (task.ended or now) - task.started >= max(proof, BESIDE_SECONDS)


def seconds_of_proof(failed: Sequence[Task]) -> float:
    """How long a task has to run until it counts as one that works: twice as long as any of these did, because those
    that fail after a while look as if they worked until then. In an outage that is as long as a worker waits for it."""
    if any(map(is_in_outage, failed)):
        return OUTAGE_SECONDS
    longest = max((task.seconds for task in failed), default=0.0)
    return min(OUTAGE_SECONDS, max(AT_ONCE_SECONDS, 2 * longest))


def since_one_worked(tasks: Sequence[Task], failed: Sequence[Task], now: float, proof: float) -> list[Task]:
    """Those that failed after the last one that worked, the oldest first."""
    good = [task.created for task in tasks if has_worked(task, failed, now, proof)]
    last_good = max(good, default=0.0)
    later = [task for task in failed if task.created > last_good]
    return sorted(later, key=lambda task: task.created)


def failed_tasks(tasks: Sequence[Task], now: float) -> list[Task]:
    """The tasks that failed since the last one that worked, the oldest first. The next one is tried alone."""
    failed = [task for task in tasks if task.failed]
    return since_one_worked(tasks, failed, now, seconds_of_proof(failed))


def dying_tasks(tasks: Sequence[Task], now: float) -> list[Task]:
    """Workers fail again and again: two or more of the newest task definition, and none has worked since.

    Those that die after a while do so until one runs for longer: for twice as long as two of them did. So one that died
    after hours does not count as the measure of others that fail at once.
    """
    newest = max(tasks, key=lambda task: (bool(task.revision), task.created), default=None)
    if newest is None:
        return []
    failed = [task for task in tasks if task.failed and task.revision == newest.revision]
    if len(failed) < 2:
        return []
    lives = sorted(0.0 if is_in_outage(task) else task.seconds for task in failed)
    dying = since_one_worked(tasks, failed, now, max(seconds_of_proof(failed), 2 * lives[-2]))
    return dying if len(dying) > 1 else []


def next_attempt(failed: Sequence[Task]) -> float:
    """When to try again: the pause is as long as it has been going wrong, which doubles it each time."""
    shortest, longest = PAUSE_SECONDS
    times = [task.ended if task.ended and is_in_outage(task) else task.created for task in failed]
    first, last = min(times), max(times)
    return last + min(longest, max(shortest, last - first))


def cure_of(task: Task) -> str:
    """What to do about a task that failed. ./sync.sh logs worker has the reason of one that ends by itself."""
    for sign, cure in CURES:
        if sign in task.reason:
            return cure
    if task.exit_code == KILLED_STATUS:
        return MEMORY_CURE
    if is_in_outage(task):
        return "./sync.sh status says what fails"
    if task.exit_code:
        return "./sync.sh logs worker says why; after SIGKILL, raise TASK_MEMORY"
    return "run ./deploy.sh"


def describe_failure(failed: Sequence[Task], outlook: str) -> str:
    last = failed[-1]
    if is_in_outage(last):
        how = "ended in an outage"
    elif last.seconds >= AT_ONCE_SECONDS:
        how = f"failed after {max(task.seconds for task in failed):.0f} s at most"
    else:
        how = "stopped before working"

    number = "task" if len(failed) == 1 else f"{len(failed)} tasks"
    code = "" if last.exit_code is None else f" (exit code {last.exit_code})"
    why = f"{last.stop_code}: {last.reason}{code}"
    return f"the last {number} {how}: {why}; {outlook}; what to do: {cure_of(last)}"


def said_of_wait(text: str, fails_run: bool, start: int) -> tuple[int, str, str]:
    """Of no start now: a run either fails, or says why others wait, if any do."""
    if fails_run:
        return 0, text, ""
    return 0, "", text if start else ""


def after_failures(failed: Sequence[Task], live: Sequence[Task], start: int, now: float) -> tuple[int, str, str]:
    """(how many to start, why workers do not get to work, why others wait for one that runs): after a failure workers
    are tried one at a time, with pauses.

    A worker that fails once, after minutes, makes a single run fail, which is no alarm.
    """
    last, is_again = failed[-1], len(failed) > 1
    if any(task.started is None for task in live):
        is_late = not is_in_outage(last) and last.seconds >= AT_ONCE_SECONDS
        text = describe_failure(failed, "the next one is starting")
        return said_of_wait(text, is_again or not is_late, start)
    if any(task.created > last.created for task in live):
        text = describe_failure(failed, f"one is tried alone, until it has run for {seconds_of_proof(failed):.0f} s")
        return said_of_wait(text, is_again, start)
    if not start:
        return 0, "", ""
    pause = next_attempt(failed) - now
    if pause > 0:
        return 0, describe_failure(failed, f"the next one is started in {pause:.0f} s"), ""
    return 1, describe_failure(failed, "the next one is starting"), ""
