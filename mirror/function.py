"""The worker inside the starter's function: for less than a minute, for small objects, from idle within seconds.

It is the same Worker on the same protocol, with boto3's clients, few keys at a time and a short end. Unlike a task's
process, a function's is frozen by Lambda after an invocation and thawed minutes later, with all that was under way in
it. So nothing may be under way by then: a copy that is sent after that could bring back an object that was deleted
meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError

from mirror.aws.boto3_clients import Timeouts, boto3_clients
from mirror.log_writer import LineFormatter
from mirror.loop import OUTAGE_STATUS, Bounds, Parts, Worker, make_parts, make_worker
from mirror.model.errors import describe
from mirror.model.log_lines import SUMMED_UP, log
from mirror.settings import Settings, load_function_settings

# The end after the deadline, nine seconds in all with QUIET_SECONDS. A small copy lasts a second or two, so three are
# enough for those under way; what takes longer is a copy without an answer, which nobody waits for. A hand-back sends
# some dozens of messages, four at a time.
OF_FUNCTION = Bounds(receive=1, drain=3, cancel=0.5, hand_back=3, show=1.5)
# After something was handed back a worker is needed, and is started when the invocation ends: before that message comes
# back, or many of them would be handed back again and again (FOR_WORKER_SECONDS of mirror/protocol/sync.py).
RECEIVE_ON_SECONDS = 3
LOOK_SECONDS = 0.25
QUIET_SECONDS = 1  # after that, for calls without an answer to end
TIMEOUTS = Timeouts(event_connect=1, event=1, event_attempts=1)
IDLE_SECONDS = 5  # a connection that was idle for longer may be dead without a sign of it
CALL = "call of the function"  # name of the threads in which boto3 waits


@dataclass(eq=False)
class Process:
    """What is kept from one invocation to the next. What belongs to an event loop must stay in that one."""

    loop: asyncio.AbstractEventLoop
    parts: Parts
    rests_since: float  # seconds since the epoch: the monotonic clock may stand still while the process is frozen

    def wake(self) -> None:
        """Forgets what may have changed meanwhile: a copy on a dead connection would get no answer."""
        self.parts.buckets.forget_source()
        if time.time() - self.rests_since > IDLE_SECONDS:
            for client in (self.parts.buckets.s3, self.parts.queue.sqs, self.parts.events):
                if client:
                    client.close_connections()


kept: list[Process] = []  # one at most


def respond(environment: Mapping[str, str], seconds: float) -> dict[str, Any]:
    """Works through the queue until it is empty, for `seconds` and a short end at most. Returns the counts of a worker,
    its exit status as "status", "emptied": 1 if it ended because the queue was empty, and "unanswered": calls that have
    not ended, see end_process_if_unanswered(). After an outage that is not over also what outage_of() says.

    Raises ValueError for wrong settings. Any other failure is logged and gives status 1: the function has more to do.
    """
    settings = load_function_settings(dict(environment))
    configure_logging(settings.log_level)
    counts: dict[str, Any] = dict.fromkeys(SUMMED_UP, 0) | {"status": 1}
    pool = ThreadPoolExecutor(settings.calls_at_once, thread_name_prefix=CALL)
    try:
        process = process_for(settings)
        process.loop.set_default_executor(pool)
        counts |= process.loop.run_until_complete(work(process, time.monotonic() + seconds))
    except BotoCoreError as error:
        log.error("cannot start: %s", error)
    except Exception:
        log.exception("the function stops copying because of a mistake in it")
    end_threads(pool)
    return counts | {"unanswered": len(calling())}


def end_process_if_unanswered() -> None:
    """To be called at the end of each invocation, after its report is written. Lambda makes a new process for the next
    one.

    A thread that waits for S3 cannot be ended by itself. Frozen and thawed it might send its write again, or only now,
    long after COPY_TIMEOUT, when the message was worked on by another.
    """
    if left := calling():
        log.error("%d calls got no answer, ending the process", len(left))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)


# --- What is kept -----------------------------------------------------------------------------------------------------


def process_for(settings: Settings) -> Process:
    """Returns the process that was kept, or a new one. Raises BotoCoreError if there are no credentials."""
    if not kept or kept[0].parts.buckets.settings != settings:
        parts = make_parts(settings, boto3_clients(settings, TIMEOUTS))
        kept[:] = [Process(asyncio.new_event_loop(), parts, time.time())]
    return kept[0]


def configure_logging(level: str) -> None:
    """In the format of a task, without Lambda's own prefix. A thread that writes, as a task has, would be frozen."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(LineFormatter())
    for name, lowest in {"worker": level, "botocore": "WARNING", "asyncio": "WARNING"}.items():
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(lowest)


# --- One invocation ---------------------------------------------------------------------------------------------------


async def work(process: Process, deadline: float) -> dict[str, Any]:
    """Works until the queue is empty or the deadline has come. Every task has ended when it returns."""
    process.wake()
    worker = make_worker(process.parts, OF_FUNCTION, print)
    timer = process.loop.call_later(deadline - time.monotonic(), worker.stop, "the function's time is over")
    ending = asyncio.create_task(end_when_a_worker_is_needed(worker))
    try:
        status = await worker.run()
    finally:
        timer.cancel()
        ending.cancel()
        await end_tasks()
        process.rests_since = time.time()
    return dict(worker.counts()) | {"status": status, "emptied": int(worker.saw_empty)} | outage_of(worker)


def outage_of(worker: Worker) -> dict[str, Any]:
    """Says why no key can be synced, if the worker ends in an outage. A task waits ten minutes for the end of one, for
    which the function has no time. "only_copies": deletes go on, so they do not show that the outage is over."""
    outage = worker.outage
    if not outage.is_on or outage.error is None:
        return {}
    return {"status": OUTAGE_STATUS, "outage": describe(outage.error), "only_copies": outage.is_of_copies()}


async def end_when_a_worker_is_needed(worker: Worker) -> None:
    while not worker.leases.handed_back:
        await asyncio.sleep(LOOK_SECONDS)
    await asyncio.sleep(RECEIVE_ON_SECONDS)
    worker.is_enough = True


async def end_tasks() -> None:
    """Cancels the tasks that the worker has left, its side tasks among them, and those that they begin as they end."""
    while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def end_threads(pool: ThreadPoolExecutor) -> None:
    """Ends the threads of the pool, except for those whose call does not end soon."""
    pool.shutdown(wait=False, cancel_futures=True)
    end = time.monotonic() + QUIET_SECONDS
    for thread in calling():
        thread.join(max(0.0, end - time.monotonic()))


def calling() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(CALL)]
