"""Which workers are started to stay (MIN_WORKERS), and which of them are to go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from launch.tasks import REPLACED, SURPLUS, Task


class StayingPlan(NamedTuple):
    """What the workers that stay need. Those that a roll-over starts run beside those that they replace for a while."""

    missing: int = 0  # to be started, as too few stay
    newer: int = 0  # to be started to replace those of an older task definition
    stop: tuple[tuple[Task, str], ...] = ()  # tasks, each with the reason


def plan_staying(live: Sequence[Task], least: int, revision: str, now: float) -> StayingPlan:
    """A worker of an older task definition is stopped once one of the newest has got going, so that none is missing
    meanwhile. Until then the roll-over waits.

    Those that have not got going are stopped first, among them those to which an earlier deploy has just begun to roll
    over, then the oldest. Which of them holds long copies is not known: a worker that is stopped hands its messages
    back, and the parts that are done stay done.
    """
    staying = sorted((task for task in live if task.stays), key=lambda task: (task.has_got_going(now), task.created))
    newest = [task for task in staying if task.revision == revision or not revision]
    older = [task for task in staying if task not in newest]
    going = sum(task.has_got_going(now) for task in newest)
    go_older = older[: max(0, len(older) - max(0, least - going))]
    go_newest = newest[: max(0, len(newest) - least)]
    stop = [(task, REPLACED if newest else SURPLUS) for task in go_older] + [(task, SURPLUS) for task in go_newest]
    stay = [task for task in staying if task not in go_older + go_newest]
    needed = max(0, least - len(newest))
    missing = max(0, least - len(stay))
    is_waiting = going < len(newest) or any(task.started is None for task in stay)
    return StayingPlan(missing, 0 if is_waiting else needed - missing, tuple(stop))
