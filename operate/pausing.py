"""A pause of the sync. The function's variables have it, and so does the description of its rule (lib/resources)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from launch.queues import SECONDS
from operate.change import change
from operate.deployment import Deployment
from operate.failure import Failure
from operate.parts import variables_of
from operate.times import iso


def need_pausable(function: Mapping[str, Any], deployment: Deployment) -> None:
    """The function of 1.1.0 and before would not know the variable; newer ones are always given PROCESSES."""
    if not variables_of(function).get("PROCESSES"):
        raise Failure(f"what is deployed is too old to be paused: run ./deploy.sh{deployment.via} first")


def paused_since(function: Mapping[str, Any]) -> str:
    """A time, unless somebody else has written something there; nothing if the sync is not paused."""
    return variables_of(function).get("PAUSED_SINCE", "")


def begin_pause(deployment: Deployment, now: float) -> str:
    """Returns since when the sync is paused, which may be earlier: somebody else may have paused it."""
    return change(deployment, "set_pause", iso(now))


def end_pause(deployment: Deployment) -> None:
    change(deployment, "end_pause")


def say_by_rule(deployment: Deployment, since: str, advice: str) -> None:
    """The rule is to say this pause, or that there is none. What could not be done is said; `advice` is what another
    error of AWS means."""
    change(deployment, "say_pause", since, advice)


def end_work(deployment: Deployment, began: float, which: str) -> None:
    """Ends the tasks that may write to the destination, and returns when they have ended. `which`: "writers", or
    "workers" alone. Runs of the starter that begin after `began` know of the pause."""
    change(deployment, "end_work", str(int(began)), which)


def events_until(began: float, oldest_seconds: int | None, now: float) -> str:
    """Until when all events wait that came during a pause, and those that were waiting when it began."""
    oldest = now - (oldest_seconds or 0)
    return iso(min(oldest, began) + SECONDS)
