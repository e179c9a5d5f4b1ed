"""The one decision, from the numbers of messages and the tasks of the last hour: how many workers to start and stop.

Some of them may be started to stay (MIN_WORKERS).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from launch.failures import after_failures, describe_failure, dying_tasks, failed_tasks
from launch.rates import forgets
from launch.tasks import AT_ONCE_SECONDS, GAVE_UP, ON_SPOT, PAUSED, REPLACED, SPOT_SECONDS, SURPLUS, Task

MOST_STOPS = 100  # StopTask takes one task; the others count as running and are stopped by the next run

SAME_START_SECONDS = 30  # tasks that are made within these are of one run
SHORTAGE_SECONDS = 900  # after the last sign of a shortage of Spot, until it is asked again

RECEIVED_AT_ONCE = 10  # messages: a process receives no more once it has no room for that many
ROUNDING = 2  # messages, as the counts are approximate

# A worker that stays would stay on demand permanently, at three times the price. This long after such a start, which a
# shortage of Spot has caused, Spot is asked for one that takes its place.
ON_DEMAND_SECONDS = 3600


class Decision(NamedTuple):
    """What to do now."""

    running: int  # workers that run or start; not those that wait for Spot for too long
    wanted: int
    start: int = 0
    on_demand: bool = False  # start them without asking for Spot first
    stop: Mapping[str, str] = MappingProxyType({})  # ARN of a task -> why it is not to run any more
    failing: str = ""  # why workers do not get to work
    trial: str = ""  # why the others have to wait for one that runs
    stay: int = 0  # how many of `start` are started to stay (MIN_WORKERS)
    staying: int = 0  # how many of `running` were
    only_spot: bool = False  # those to stay are started on Spot or not at all
    paused_since: str = ""  # when the sync was paused, if it is


def held_by_full_worker(settings: Mapping[str, Any]) -> int:
    """How many messages a worker holds at least before it receives no more (has_room() in mirror/queue/scheduler.py):
    500 with the 256 keys of a process, so 1000 with the two processes of a task's two vCPUs. It may hold many more:
    long copies, keys that pause and more messages on one key take no slot.
    """
    keys = int(settings["MAX_CONCURRENT_KEYS"])
    return int(settings["PROCESSES"]) * max(2 * keys - RECEIVED_AT_ONCE - ROUNDING, keys - 1, 1)


def wanted_workers(visible: int, in_flight: int, started: int, live: int, settings: Mapping[str, Any]) -> int:
    """The running workers, and those that the visible messages need beyond them: one for each MESSAGES_PER_WORKER.

    An empty queue needs no worker; messages in flight need those that work on them.

    Messages in flight start no worker, as none could receive them: they are being worked on, or wait for their
    visibility timeout after their worker was killed. A worker that is starting, or runs and has room, stands for
    MESSAGES_PER_WORKER visible messages: it takes them within the second, but the count may be a minute old, and a
    worker started for each message seen in passing would never be idle long enough to end. A full worker stands for
    none, or what it has no room for would wait for hours behind long copies. Which one is full is not known, so it is
    calculated from the messages in flight; none is full below MESSAGES_PER_WORKER.
    The days of tests/scripts/test_starter_worlds.py hold what this costs.
    """
    share, most = int(settings["MESSAGES_PER_WORKER"]), int(settings["MAX_WORKERS"])
    if not visible:
        return min(live, most) if in_flight else 0
    full = min(started, in_flight // max(held_by_full_worker(settings), share))
    return min(most, full + max(live - full, math.ceil(visible / share)))


def is_spot_short(tasks: Sequence[Task], now: float) -> bool:
    """Whether Spot has had no room for five minutes: there are signs of it, and no Spot task has got going since. Those
    that are taken back at once are signs if they are of more than one start.

    A quarter of an hour after the last sign, and after an on-demand task, Spot is asked again. If that goes wrong the
    first sign is an old one, and on demand follows at once.
    """
    spot = [task for task in tasks if task.spot and not task.is_taken_at_once]
    last_start = max((task.started for task in spot if task.started is not None), default=0.0)
    lacked = [task for task in tasks if task.lacked_spot(now) and (task.ended or now) > last_start]
    if not lacked:
        return False

    begin = min(task.created for task in lacked)
    is_one_start = max(task.created for task in lacked) - begin < SAME_START_SECONDS
    if is_one_start and all(task.is_taken_at_once for task in lacked):
        return False

    end = max(task.ended or now for task in lacked)
    helped = any(not task.spot and task.created >= end for task in tasks)
    is_asked_again = helped and now - end >= SHORTAGE_SECONDS
    return now - begin >= SPOT_SECONDS and not is_asked_again


class StayingPlan(NamedTuple):
    """What the workers that stay need. Those that a roll-over starts run beside those that they replace for a while."""

    missing: int = 0  # to be started, as too few stay
    newer: int = 0  # to be started to replace those of an older task definition, or on demand
    stop: tuple[tuple[Task, str], ...] = ()  # tasks, each with the reason
    only_spot: bool = False  # `newer` are worth starting on Spot only


def plan_staying(
    live: Sequence[Task], least: int, most: int, revision: str, now: float, is_spot_short: bool = False
) -> StayingPlan:
    """A worker of an older task definition is stopped once one of the newest has got going, so that none is missing
    meanwhile. So is one on demand, unless Spot is short. Until then the roll-over waits. If that is one more than
    MAX_WORKERS, an older one goes for it even if too few stay: those that do not stay may have work for long.

    Those that have not got going are stopped first, among them those to which an earlier deploy has just begun to roll
    over, then the oldest. Which of them holds long copies is not known: a worker that is stopped hands its messages
    back, and the parts that are done stay done.
    """
    staying = [task for task in live if task.stays]
    staying.sort(key=lambda task: (task.has_got_going(now), task.created))
    outdated = [task for task in staying if revision and task.revision != revision]
    dear = []
    if not is_spot_short:
        dear = [task for task in staying if not task.spot and now - task.created >= ON_DEMAND_SECONDS]
    older = [task for task in staying if task in outdated or task in dear]
    newest = [task for task in staying if task not in older]

    going = sum(task.has_got_going(now) for task in newest)
    still_needed = max(0, least - going)
    above = min(1, len(live) - most) if going == len(newest) else 0
    go_older = older[: max(0, len(older) - still_needed, above)]
    go_newest = newest[: max(0, len(newest) - least)]

    stop = []
    for task in go_older:
        why = REPLACED if task in outdated else ON_SPOT
        stop.append((task, why if newest else SURPLUS))
    stop += [(task, SURPLUS) for task in go_newest]

    stay = [task for task in staying if task not in go_older + go_newest]
    missing = max(0, least - len(stay))
    newer = max(0, least - len(newest)) - missing
    is_waiting = going < len(newest) or any(task.started is None for task in stay)
    return StayingPlan(missing, 0 if is_waiting else newer, tuple(stop), not missing and not outdated)


def count_missing(wanted: int, live: int, plan: StayingPlan, settings: Mapping[str, Any]) -> tuple[int, int, int]:
    """(workers wanted, to be started, to be started to stay): never more than MAX_WORKERS run, but for a roll-over.

    A roll-over may have one more, and only while there is no room: with MAX_WORKERS as MIN_WORKERS there never is any.
    """
    most, least = int(settings["MAX_WORKERS"]), int(settings["MIN_WORKERS"])
    with_missing = live + plan.missing if plan.missing else 0
    wanted = min(most, max(wanted, least, with_missing))
    start = max(0, wanted - live)

    room = most - live - start
    newer = min(plan.newer, max(room, int(room == 0)))
    return wanted, start + newer, min(start, plan.missing) + newer


def count_tried(
    start: int, tasks: Sequence[Task], live: Sequence[Task], now: float, settings: Mapping[str, Any]
) -> int:
    """How many of those to start now. If ECS forgets a task before the next run, what failed is not known then: so they
    are tried one in each run, until one has worked."""
    is_proved = any(task.worked(now, AT_ONCE_SECONDS) for task in tasks)
    if is_proved or not forgets(settings["LAMBDA_POLL_RATE"]):
        return start
    is_tried = any(task.started is None for task in live)
    return 0 if is_tried else min(1, start)


def decide_paused(tasks: Sequence[Task], since: str) -> Decision:
    """While the sync is paused nothing is started, and what runs or starts is stopped: it hands its
    messages back, and the parts of large copies that are done stay done. `tasks`: workers, not audits."""
    live = [task for task in tasks if task.wanted]
    return Decision(len(live), wanted=0, stop={task.arn: PAUSED for task in live[:MOST_STOPS]}, paused_since=since)


def decide(
    visible: int, in_flight: int, tasks: Sequence[Task], now: float, settings: Mapping[str, Any], revision: str = ""
) -> Decision:
    """What to start and stop, from the numbers of messages and the tasks of the last hour; nothing else decides.

    A task that waits for Spot for too long is stopped, and not only left out of the count: otherwise it would run
    beside its successor when Spot returns, above MAX_WORKERS. If it starts at this very moment, it hands its messages
    back. `revision`: the newest task definition; empty if no worker is to stay.
    """
    stuck = [task for task in tasks if task.waits_for_spot(now)][:MOST_STOPS]
    live = [task for task in tasks if task.wanted and task not in stuck]
    spot_is_short = is_spot_short(tasks, now)
    plan = plan_staying(live, settings["MIN_WORKERS"], settings["MAX_WORKERS"], revision, now, spot_is_short)
    stop = {task.arn: GAVE_UP for task in stuck} | {task.arn: why for task, why in plan.stop[:MOST_STOPS]}
    live = [task for task in live if task.arn not in stop]

    started = sum(task.started is not None for task in live)
    needed = wanted_workers(visible, in_flight, started, len(live), settings)
    wanted, start, stay = count_missing(needed, len(live), plan, settings)

    start = count_tried(start, tasks, live, now, settings)
    failing = trial = ""
    if failed := failed_tasks(tasks, now):
        start, failing, trial = after_failures(failed, live, start, now)
    dying = dying_tasks(tasks, now)
    if dying and not failing:
        failing = describe_failure(dying, "each run fails until another one has worked")

    return Decision(
        running=len(live),
        wanted=wanted,
        start=start,
        on_demand=spot_is_short,
        stop=stop,
        failing=failing,
        trial=trial,
        stay=min(start, stay),
        staying=sum(task.stays for task in live),
        only_spot=plan.only_spot,
    )
