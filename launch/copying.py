"""Whether an event announces work, how long the function may copy (STARTER_COPIES), and what it leaves to a worker.

All of it is pure; may_copy() of starter.py decides whether the function copies at all.

The function keeps in its process what failed when it copied last and has not worked since. After an outage it leaves
copying to workers for a while, and then tries it again. A new process knows of no failure: it tries at once, and two
more failures are needed until each run fails.

An event from the bucket's rule announces a message, which the queue may count only seconds later. A burst keeps the
function busy, so its events arrive up to 60 s late (the maximum age that deploy.sh sets). A worker that has handled the
message still runs by then, because it waits for its empty polls (three of 20 s by default). So an event that is older
than one poll is only a hint to count again.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeGuard

FRESH_SECONDS = 20  # one long poll
FEW_MESSAGES = 500  # if there are more, workers are started first
MOST_SECONDS = 50  # of copying
RESERVE_SECONDS = 15  # of the function's 60: ten for the end (mirror/function.py), five for starting workers
LEAST_SECONDS = 5  # with less time, it does not begin
# After an outage, the shortest and the longest: a pause is as long as it has been going wrong, as between workers.
PAUSE_SECONDS = (60, 900)
FAILING_SECONDS = 3600  # after the second failure and each later one
DONE = ("copied", "deleted", "skipped")  # ends of a key's sync


class Failure(NamedTuple):
    """Copying has failed, and has not worked since. Times are Unix seconds."""

    why: str
    first: float
    last: float
    times: int
    is_outage: bool  # the last time
    only_copies: bool  # deletes went on in it


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
    if copied is None or has_failed(copied):
        return waiting
    handed_back = int(copied.get("handed_back", 0))
    done = sum(int(copied.get(name, 0)) for name in DONE)
    if copied.get("emptied") and not handed_back:
        return 0
    return max(waiting - done, handed_back, 1)


# --- When it has failed ---------------------------------------------------------------------------------------------


def has_failed(copied: Mapping[str, Any]) -> bool:
    return bool(copied.get("status") or "error" in copied)


def after_copying(before: Failure | None, copied: Mapping[str, Any], now: float) -> Failure | None:
    """What failed last and has not worked since. An answer without any key shows neither."""
    before = None if has_worked(before, copied) else before
    if not has_failed(copied):
        return before

    outage = copied.get("outage")
    why = f"no key can be synced with the starter's role: {outage}" if outage else copied.get("error", "see its log")
    first, times = (before.first, before.times) if before else (now, 0)
    return Failure(why, first, now, times + 1, "outage" in copied, bool(copied.get("only_copies")))


def has_worked(before: Failure | None, copied: Mapping[str, Any]) -> bool:
    """Whether keys were synced. In an outage of copies a delete does not show that objects can be copied again."""
    only_copies = copied.get("only_copies") or (before and before.only_copies)
    shows = ("copied",) if only_copies else DONE
    return any(copied.get(name) for name in shows)


def leaves_to_workers(failure: Failure | None, now: float) -> bool:
    """Whether it is too soon after an outage to try again, which costs the whole time of a run."""
    if failure is None or not failure.is_outage:
        return False

    shortest, longest = PAUSE_SECONDS
    return now - failure.last < min(longest, max(shortest, failure.last - failure.first))


def starts_workers_first(waiting: int, failure: Failure | None) -> bool:
    """Whether the messages are not to wait for the function to copy: many of them, and any after an outage, so that an
    attempt that fails again delays no file."""
    return waiting > FEW_MESSAGES or (failure is not None and failure.is_outage)


def why_failing(failure: Failure | None, copied: Mapping[str, Any] | None, now: float) -> str:
    """What this run fails with, if anything. `copied`: what it has done itself.

    One failure makes one run fail, because errors of AWS pass. After a second one each run fails, however long that is
    after the first, until copying works or has not failed for an hour: files that come rarely would never be an alarm.
    """
    if failure is None:
        return ""
    if copied is not None and has_failed(copied) and failure.times == 1:
        return failure.why
    if failure.times > 1 and now - failure.last < FAILING_SECONDS:
        return f"{failure.why} ({failure.times} times, the last at {clock_time(failure.last)}; meanwhile, workers copy)"
    return ""


def describe_failure(failure: Failure, now: float) -> dict[str, Any]:
    """For the report of a run, which status reads: it is failing until copying works, but after one failure for an hour
    at most, because the function may have no file to copy for days, as beside workers that stay."""
    failing = failure.times > 1 or now - failure.last < FAILING_SECONDS
    return {"at": clock_time(failure.last), "why": failure.why, "times": failure.times, "failing": failing}


def clock_time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
