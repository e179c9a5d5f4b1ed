"""Decides which workers are started to stay (MIN_WORKERS), and which of them are stopped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from launch.tasks import ON_SPOT, REPLACED, SURPLUS, Task

# A worker that stays would stay on demand permanently, at three times the price. This long
# after such a start, which a shortage of Spot has caused, Spot is asked for one that takes its place.
ON_DEMAND_SECONDS = 3600


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
    staying = sorted((task for task in live if task.stays), key=lambda task: (task.has_got_going(now), task.created))
    outdated = [task for task in staying if revision and task.revision != revision]
    dear = [task for task in staying if not task.spot and now - task.created >= ON_DEMAND_SECONDS and not is_spot_short]
    older = [task for task in staying if task in outdated or task in dear]
    newest = [task for task in staying if task not in older]
    going = sum(task.has_got_going(now) for task in newest)
    above = min(1, len(live) - most) if going == len(newest) else 0
    go_older = older[: max(0, len(older) - max(0, least - going), above)]
    go_newest = newest[: max(0, len(newest) - least)]
    replaced = [(task, REPLACED if task in outdated else ON_SPOT) for task in go_older]
    stop = [(task, why if newest else SURPLUS) for task, why in replaced] + [(task, SURPLUS) for task in go_newest]
    stay = [task for task in staying if task not in go_older + go_newest]
    needed = max(0, least - len(newest))
    missing = max(0, least - len(stay))
    is_waiting = going < len(newest) or any(task.started is None for task in stay)
    return StayingPlan(missing, 0 if is_waiting else needed - missing, tuple(stop), not missing and not outdated)
