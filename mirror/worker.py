"""The loop of one process: receive until the queue stays empty, then end; on SIGTERM hand back what is not finished."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from mirror.buckets import Buckets
from mirror.deliveries import SETTLERS, Deliveries
from mirror.errors import FATAL_QUEUE_CODES, describe, error_code
from mirror.jobs import Jobs
from mirror.queue import Queue
from mirror.settings import Settings

log = logging.getLogger("worker")

BUSY_WAIT_TIME_SECONDS = 5  # long poll while work is in flight, so that SIGTERM is not kept waiting for it
DRAIN_SECONDS = 85  # after SIGTERM; Fargate kills after 120 (stopTimeout)
HAND_BACK_SECONDS = 10  # after those
RECEIVE_FAILURES_BEFORE_EXIT = 10
HEARTBEAT_SECONDS = 1
OUTAGE_STATUS = 3  # of a worker that ends because all keys have failed alike for too long


class Worker:
    """All of it runs in one event loop; what blocks is in mirror/aws/, in threads."""

    def __init__(
        self, settings: Settings, buckets: Buckets, queue: Queue, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.settings = settings
        self.buckets = buckets
        self.deliveries = Deliveries(settings, queue, now)
        self.jobs = Jobs(settings, buckets, self.deliveries, now)
        self.stopping = asyncio.Event()
        self.exit_status = 0

    async def run(self) -> int:
        """Works until the queue stays empty or stop() is called. Returns the exit status."""
        receiver = asyncio.create_task(self.receive_until_idle())
        sides = [asyncio.create_task(self.deliveries.settle_for_ever()) for _ in range(SETTLERS)]
        sides.append(asyncio.create_task(self.beat_for_ever()))
        ended, _ = await asyncio.wait([receiver, *sides], return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            task.result()  # a side task ends only by a mistake in the code: raised here, it ends the process
        await self.drain()
        for task in sides:
            task.cancel()
        return self.exit_status

    async def receive_until_idle(self) -> None:
        """Receives until the queue stays empty, SIGTERM, or the queue cannot be read; then returns."""
        empty_polls = failures = 0
        while empty_polls < self.settings.empty_polls_before_exit and failures < RECEIVE_FAILURES_BEFORE_EXIT:
            await self.jobs.until_room()
            if self.stopping.is_set():
                return
            idle = not self.deliveries.held
            try:
                received = await self.deliveries.receive(
                    self.settings.wait_time_seconds if idle else BUSY_WAIT_TIME_SECONDS
                )
            except (ClientError, BotoCoreError) as error:
                failures += 1
                await self.report_receive_failure(error, failures)
                continue
            failures = 0
            empty_polls = empty_polls + 1 if idle and not received else 0
            self.jobs.accept(received)

    async def report_receive_failure(self, error: Exception, failures: int) -> None:
        log.error("cannot receive from %s: %s", self.settings.queue_url, describe(error))
        if error_code(error) in FATAL_QUEUE_CODES or failures == RECEIVE_FAILURES_BEFORE_EXIT:
            self.exit_status = 1
            self.stopping.set()
        await wait_at_most(self.stopping.wait(), min(2**failures, 30))

    async def beat_for_ever(self) -> None:
        """Keeps what we hold invisible, and the session valid."""
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            await self.beat()
            await self.buckets.s3.renew_session()

    async def beat(self) -> None:
        for delivery in await self.deliveries.extend_due():
            self.jobs.interrupt(delivery)
        self.jobs.beat()
        if self.jobs.outage.is_too_long() and not self.stopping.is_set():
            self.jobs.outage.give_up()
            self.exit_status = OUTAGE_STATUS
            self.stopping.set()
            self.jobs.interrupt_all()

    def stop(self) -> None:
        """SIGTERM: nothing more is received or begun."""
        if not self.stopping.is_set():
            log.info("SIGTERM received: handing back what is not finished")
            self.stopping.set()
            self.jobs.interrupt_all()

    async def drain(self) -> None:
        """Waits for what is in flight; what a stopping worker cannot wait for is handed back with a delay."""
        await wait_at_most(self.deliveries.until_none_is_held(), DRAIN_SECONDS if self.stopping.is_set() else None)
        if self.jobs.by_key:
            await self.jobs.hand_back_all()
        await wait_at_most(self.deliveries.until_none_is_held(), HAND_BACK_SECONDS)

    def counts(self) -> Counter[str]:
        """What was done: copied, deleted, skipped, failed, handed_back, bytes."""
        return self.jobs.counts + Counter(handed_back=self.deliveries.handed_back)


async def wait_at_most(condition: Coroutine[Any, Any, object], seconds: float | None) -> None:
    """None: for as long as it takes."""
    try:
        await asyncio.wait_for(condition, seconds)
    except TimeoutError:
        return
