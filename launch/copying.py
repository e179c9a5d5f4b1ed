"""When the function copies by itself (STARTER_COPIES), and what its run leaves to a worker. All of it is pure.

An event of the bucket's rule says that there is a message; its count may follow seconds later. A burst keeps the
function busy, so events of it come late, by up to 60 s (the greatest age that deploy.sh sets). A worker that has dealt
with a message stays for its empty polls, one of 20 s by default and three of them, and is seen by a run within that
time. A later event is taken as a hint to count, no more.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeGuard

FRESH_SECONDS = 20  # one long poll
FEW_MESSAGES = 500  # more of them are started workers for at once
MOST_SECONDS = 50  # of copying
RESERVE_SECONDS = 15  # of the function's 60: ten for the end (mirror/function.py), five for starting workers
LEAST_SECONDS = 5  # for less it is not begun


def is_from_bucket(event: object) -> TypeGuard[Mapping[str, Any]]:
    """The rule that fires every minute sends aws.events."""
    return isinstance(event, Mapping) and event.get("source") == "aws.s3"


def announces_message(event: object, now: float) -> bool:
    if not is_from_bucket(event):
        return False
    at = event.get("time")
    return at is None or now - datetime.fromisoformat(at).timestamp() <= FRESH_SECONDS


def seconds_to_copy(context: Any) -> float:
    """Returns 0 if it is not worth while. `context`: Lambda's, which knows what is left of the function's time."""
    left = float(context.get_remaining_time_in_millis()) / 1000 - RESERVE_SECONDS
    return min(left, MOST_SECONDS) if left >= LEAST_SECONDS else 0


def left_over(waiting: int, copied: Mapping[str, Any] | None) -> int:
    """Returns how many messages a worker is to be started for: none if the function emptied the queue.

    Messages that it handed back, because they are large or its time was over, return after seconds and are in no count.
    Those that failed are tried again later, as in a worker.
    """
    if copied is None or copied.get("status") or "error" in copied:
        return waiting
    handed_back = int(copied.get("handed_back", 0))
    done = sum(int(copied.get(name, 0)) for name in ("copied", "deleted", "skipped"))
    return max(waiting - done, handed_back) if handed_back else 0
