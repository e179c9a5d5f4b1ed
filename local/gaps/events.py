"""EventBridge: a schedule that a test or a demonstration need not wait for."""

from __future__ import annotations

import os

from ministack.services import eventbridge

from gaps.replace import replaces

# Seconds between two looks at the schedules.
eventbridge._SCHEDULER_TICK_INTERVAL = 1


@replaces(eventbridge, "_parse_rate_seconds")
def rate_seconds(original, expression):
    """Return a rate() expression's interval, or LOCAL_TICK in its place; None for another kind of expression."""
    seconds = original(expression)
    return float(os.environ.get("LOCAL_TICK") or seconds) if seconds else None
