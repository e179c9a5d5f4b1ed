"""The loop of one process: receives until the queue stays empty, and on SIGTERM hands back what is not finished.

It also puts together the parts of a worker, for a task as for the function. All of them belong to one event loop.
"""

from __future__ import annotations

import asyncio
import functools
import math
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple

from mirror.aws.boto3_clients import Boto3Events, Clients
from mirror.concurrency import wait_at_most, wait_unless
from mirror.log_writer import writer
from mirror.model.errors import AWS_ERRORS, Kind, describe, meaning_of
from mirror.model.log_lines import log
from mirror.options import options_for
from mirror.protocol.buckets import Buckets
from mirror.protocol.sync import Syncer
from mirror.queue.leases import SETTLERS, SETTLERS_THAT_WAIT, Leases
from mirror.queue.messages import Queue
from mirror.queue.option import Option, methods
from mirror.queue.scheduler import Scheduler
from mirror.settings import Settings

BUSY_WAIT_TIME_SECONDS = 5  # long poll while work is in flight, so that SIGTERM is not kept waiting for it
RECEIVE_FAILURES_BEFORE_EXIT = 10
HEARTBEAT_SECONDS = 1
BEAT_SECONDS = 45  # that one beat may last
OVER_LIMIT_SECONDS = 5
OUTAGE_STATUS = 3  # of a worker that ends because all keys have failed alike for too long


type Beat = Callable[[], Coroutine[Any, Any, object]]
type OptionBeat = Callable[[Counter[str], int, bool], Coroutine[Any, Any, None]]


class Bounds(NamedTuple):
    """How many seconds each step of the end may last."""

    receive: float  # after stop(), in addition to the long poll: a receive that lasts longer is given up
    drain: float  # after stop(), for syncs to end by themselves
    cancel: float  # then, for syncs to end when they are cancelled
    hand_back: float  # then, to send their messages again
    show: float  # then, to make the messages visible that could not be sent


# From drain on, which includes the last receive, these are below LAST_SECONDS of mirror/processes.py.
OF_TASK = Bounds(receive=5, drain=85, cancel=3, hand_back=10, show=5)


class Worker:
    """All of it runs in one event loop. Calls that block are made in mirror/aws/, in threads."""

    def __init__(
        self, buckets: Buckets, queue: Queue, bounds: Bounds = OF_TASK, options: Sequence[Option] = ()
    ) -> None:
        self.settings = buckets.settings
        self.buckets = buckets
        self.now = buckets.now
        self.bounds = bounds
        self.options = options
        self.leases = Leases(self.settings, queue, self.now, options)
        self.syncer = Syncer(buckets, methods(options, Option.before_copy), methods(options, Option.before_write))
        self.scheduler = Scheduler(self.syncer, self.leases, options)
        self.outage = self.scheduler.outage
        self.stopping = asyncio.Event()
        self.stopped_at = 0.0
        self.is_enough = False  # nothing more is received, what is held is finished
        self.saw_empty = False  # it ends because the queue stayed empty
        self.is_over_limit = False
        self.exit_status = 0

    async def run(self) -> int:
        """Works until the queue stays empty or stop() is called. Returns the exit status."""
        work = asyncio.create_task(self.work())
        settlers = SETTLERS_THAT_WAIT if self.leases.before_delete else SETTLERS
        side_tasks = [asyncio.create_task(self.leases.settle_for_ever()) for _ in range(settlers)]
        beats: list[Beat] = [self.extend, self.watch_outage, self.buckets.s3.renew_session]
        option_beats = methods(self.options, Option.beat)
        beats += [functools.partial(self.beat, option_beat) for option_beat in option_beats]
        side_tasks += [asyncio.create_task(self.for_ever(beat)) for beat in beats]
        ended, _ = await asyncio.wait([work, *side_tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            task.result()  # a side task ends only because of a mistake in the code, which ends the process
        for task in side_tasks:
            task.cancel()
        for option_beat in option_beats:
            await self.beat(option_beat, is_last=True)
        return self.exit_status

    async def work(self) -> None:
        patience = self.settings.wait_time_seconds + self.bounds.receive
        if not await wait_unless(self.stopping, self.receive_until_idle(), patience):
            log.warning("a receive does not end; its messages return after their visibility timeout")
        await self.drain()

    # Receiving

    async def receive_until_idle(self) -> None:
        """Receives until the queue stays empty or cannot be read, or until SIGTERM."""
        empty_polls = failures = 0
        patience = self.settings.empty_polls_before_exit or math.inf
        while empty_polls < patience and failures < RECEIVE_FAILURES_BEFORE_EXIT:
            await self.scheduler.until_room()
            if self.stopping.is_set() or self.is_enough:
                return
            idle = not self.leases.held
            try:
                came = await self.step(self.settings.wait_time_seconds if idle else BUSY_WAIT_TIME_SECONDS)
            except AWS_ERRORS as error:
                if meaning_of(error).kind is Kind.QUEUE_FULL:
                    await self.wait_for_others()
                    continue
                failures += 1
                await self.report_receive_failure(error, failures)
                continue
            failures = 0
            # Each second of the function costs, so a poll counts there if what was held at its beginning is done.
            idle = idle or (self.settings.in_function and not self.leases.held)
            empty_polls = empty_polls + 1 if idle and not came else 0
        self.saw_empty = empty_polls >= patience

    async def step(self, seconds: int) -> bool:
        """Receives once, waiting for `seconds` at most, and begins to sync what came. Returns whether anything did."""
        received = await self.leases.receive(seconds)
        self.scheduler.accept(received)
        return bool(received)

    async def wait_for_others(self) -> None:
        """No failure: the workers hold as many messages as SQS allows (SQS Developer Guide, "In flight messages")."""
        if not self.is_over_limit:
            self.is_over_limit = True
            log.warning("120,000 messages are in flight, SQS lends no more until some of them are deleted")
        await wait_at_most(self.stopping.wait(), OVER_LIMIT_SECONDS)

    async def report_receive_failure(self, error: Exception, failures: int) -> None:
        log.error("cannot receive from %s: %s", self.settings.queue_url, describe(error))
        if meaning_of(error).kind is Kind.QUEUE_GONE or failures == RECEIVE_FAILURES_BEFORE_EXIT:
            self.exit_status = 1
            self.begin_end()
        await wait_at_most(self.stopping.wait(), min(2**failures, 30))

    # Side tasks

    async def for_ever(self, beat: Beat) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            await wait_at_most(beat(), BEAT_SECONDS)

    async def extend(self) -> None:
        """Keeps the messages that are held invisible. Those that one heartbeat has no time for are due at the next."""
        for lease in self.leases.used_up():
            self.scheduler.interrupt(lease)
        await self.leases.extend_due()

    async def beat(self, option_beat: OptionBeat, is_last: bool = False) -> None:
        await option_beat(self.scheduler.counts, self.scheduler.kept(), is_last)

    async def watch_outage(self) -> None:
        self.scheduler.watch_outage()
        if not self.stopping.is_set() and self.outage.gives_up():
            self.exit_status = OUTAGE_STATUS
            self.begin_end()
            self.scheduler.interrupt_all()

    # The end

    def stop(self, why: str = "SIGTERM received") -> None:
        """Nothing more is received or begun."""
        if not self.stopping.is_set():
            log.info("%s: handing back what is not finished", why)
            self.begin_end()
            self.scheduler.interrupt_all()

    def begin_end(self) -> None:
        self.stopped_at = self.now()
        self.stopping.set()

    async def drain(self) -> None:
        """Waits until nothing is held. A worker that stops hands back with a delay what it cannot wait for."""
        passed = self.now() - self.stopped_at if self.stopping.is_set() else 0.0
        await wait_unless(self.stopping, self.leases.until_none_is_held(), self.bounds.drain - passed)
        if self.scheduler.by_key:
            await wait_at_most(self.scheduler.hand_back_all(), self.bounds.cancel)
        await wait_at_most(self.leases.until_none_is_held(), self.bounds.hand_back)
        if self.leases.held:
            await wait_at_most(self.leases.show_all(), self.bounds.show)

    def counts(self) -> Counter[str]:
        """What was done: copied, deleted, skipped, failed, handed_back, bytes, announced, unannounced."""
        return self.scheduler.counts + Counter(handed_back=self.leases.handed_back)


# --- Its parts --------------------------------------------------------------------------------------------------------


class Parts(NamedTuple):
    """What a worker works on. The function keeps them from one invocation to the next."""

    buckets: Buckets
    queue: Queue
    events: Boto3Events | None  # None if nothing is announced


def make_parts(settings: Settings, clients: Clients) -> Parts:
    queue = Queue(clients.sqs(), settings.queue_url)
    return Parts(Buckets(settings, clients.s3()), queue, clients.events() if settings.announces else None)


def make_worker(parts: Parts, bounds: Bounds = OF_TASK, show: Callable[[str], None] = writer.put) -> Worker:
    """`bounds`: of its end. `show`: see options_for()."""
    return Worker(parts.buckets, parts.queue, bounds, options_for(parts.buckets, parts.events, show))
