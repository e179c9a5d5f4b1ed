"""Whether an event announces work, how long the function may copy (STARTER_COPIES), and what it leaves to a worker.

All of it is pure; may_copy() of starter.py decides whether the function copies at all.

An event from the bucket's rule announces a message, which the queue may count only seconds later. A burst keeps the
function busy, so its events arrive up to 60 s late (the maximum age that deploy.sh sets). A worker that has handled the
message still runs by then, because it waits for its empty polls (three of 20 s by default). So an event that is older
than one poll is only a hint to count again.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeGuard

FRESH_SECONDS = 20  # one long poll
FEW_MESSAGES = 500  # if there are more, workers are started first
MOST_SECONDS = 50  # of copying
RESERVE_SECONDS = 15  # of the function's 60: ten for the end (mirror/function.py), five for starting workers
LEAST_SECONDS = 5  # with less time, it does not begin


def is_from_bucket(event: object) -> TypeGuard[Mapping[str, Any]]:
    """The rule that fires every minute sends aws.events."""
    return isinstance(event, Mapping) and event.get("source") == "aws.s3"


def announces_message(event: object, now: float) -> bool:
    if not is_from_bucket(event):
        return False
    at = event.get("time")
    return at is None or now - datetime.fromisoformat(at).timestamp() <= FRESH_SECONDS


def seconds_to_copy(context: Any) -> float:
    """Returns 0 if too little time is left. `context`: Lambda's, which knows how much time the function has left."""
    left = float(context.get_remaining_time_in_millis()) / 1000 - RESERVE_SECONDS
    return min(left, MOST_SECONDS) if left >= LEAST_SECONDS else 0


def left_over(waiting: int, copied: Mapping[str, Any] | None) -> int:
    """Returns for how many messages workers are needed: none if the function saw the queue empty.

    Messages that it returned, because they are large or its time was over, are visible again after seconds, and are not
    counted until then. Those that failed are retried later, as in a worker. If it saw no end of the queue, there is at
    least one more, even if it has done more than were counted.
    """
    if copied is None or copied.get("status") or "error" in copied:
        return waiting
    handed_back = int(copied.get("handed_back", 0))
    done = sum(int(copied.get(name, 0)) for name in ("copied", "deleted", "skipped"))
    if copied.get("emptied") and not handed_back:
        return 0
    return max(waiting - done, handed_back, 1)
