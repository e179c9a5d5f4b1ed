"""Which key is synced when: one sync per key, so many at a time, and once more for what came meanwhile."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from mirror.buckets import Buckets
from mirror.deliveries import Deliveries, Delivery
from mirror.errors import EXPECTED, Interrupted, describe
from mirror.key_sync import KeySync
from mirror.limits import SQS_BATCH
from mirror.log_lines import FAILED, LAG, SYNCED, quoted
from mirror.messages import hint_body
from mirror.settings import HELD_PER_SLOT, Settings
from mirror.sync import sync_key

log = logging.getLogger("worker")


@dataclass(eq=False)
class Job:
    """A sync with all messages that ask for it at this time."""

    sync: KeySync
    deliveries: list[Delivery] = field(default_factory=list)
    latecomers: list[Delivery] = field(default_factory=list)  # came while it ran: one more run
    running: bool = False
    has_slot: bool = False
    started: float = 0.0
    task: asyncio.Task[None] | None = None


class Jobs:
    """The syncs of this process, by key."""

    def __init__(
        self, settings: Settings, buckets: Buckets, deliveries: Deliveries, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.settings = settings
        self.buckets = buckets
        self.deliveries = deliveries
        self.now = now
        self.by_key: dict[str, Job] = {}
        self.waiting: deque[Job] = deque()  # for a slot
        self.slots = settings.max_concurrent_keys  # syncs that may begin now; long copies hold none
        self.counts: Counter[str] = Counter()
        self.stopping = False

    # Room

    def has_room(self) -> bool:
        """Twice as many messages as slots keep those busy; more only if long copies gave their slots back."""
        limit = self.settings.max_concurrent_keys
        at_work = limit - self.slots + len(self.waiting)
        held = max(len(self.deliveries.held), len(self.by_key))
        return at_work <= max(2 * limit - SQS_BATCH, limit - 1) and held < HELD_PER_SLOT * limit

    async def until_room(self) -> None:
        """Also ends when the worker is to stop."""
        while not (self.stopping or self.has_room()):
            self.deliveries.changed.clear()
            await self.deliveries.changed.wait()

    def free_slot(self, job: Job) -> None:
        self.slots += job.has_slot
        job.has_slot = False
        if self.has_room():
            self.deliveries.changed.set()

    # A job begins

    def accept(self, deliveries: list[Delivery]) -> None:
        """Turns messages into jobs. A message without keys of ours is finished at once."""
        for delivery in deliveries:
            for key in sorted(delivery.keys):
                self.add(key, delivery)
            if not delivery.keys:
                self.deliveries.finish(delivery)
        self.begin_waiting()  # not before: messages on one key are, as a rule, to become one sync

    def add(self, key: str, delivery: Delivery) -> None:
        """Messages on one key become one sync; what comes while that runs becomes one more after it."""
        job = self.by_key.get(key)
        if job and job.running:
            job.latecomers.append(delivery)
            return
        if job is None:
            job = self.by_key[key] = Job(KeySync(key))
            job.sync.long_copy_begins = functools.partial(self.let_others_begin, job)
            self.waiting.append(job)
        job.deliveries.append(delivery)
        sync, came_before = job.sync, delivery.received.receive_count > 1
        sync.destination_first = sync.destination_first or delivery.destination_first or came_before
        sync.redelivered = sync.redelivered or came_before
        sync.upload = sync.upload or delivery.uploads.get(key)

    def begin_waiting(self) -> None:
        """Begins syncs for as long as there are slots; a worker that stops begins none."""
        while self.waiting and self.stopping:
            self.conclude(self.waiting.popleft(), Interrupted())
        while self.waiting and self.slots:
            self.slots -= 1
            job = self.waiting.popleft()
            job.has_slot = job.running = True
            job.started = self.now()
            self.begin(job)

    def begin(self, job: Job) -> None:
        job.task = asyncio.create_task(self.run(job))

    def let_others_begin(self, job: Job) -> None:
        """A copy that lasts is not to hold up small ones."""
        self.free_slot(job)
        self.begin_waiting()

    # It runs and ends

    async def run(self, job: Job) -> None:
        error: Exception | None = None
        try:
            await sync_key(self.buckets, job.sync)
            await self.look_again_later(job.sync)
        except asyncio.CancelledError:
            error = Interrupted()
        except Exception as failure:  # noqa: BLE001 whatever it is, the messages are told
            error = failure
        self.conclude(job, error)
        self.begin_waiting()

    async def look_again_later(self, sync: KeySync) -> None:
        """A write that got no answer may still take effect, and nothing would tell: have the key looked at then."""
        delay = self.deliveries.seconds_until(sync.unsettled_until)
        if delay:
            log.info("looking again in %d s at key=%s, a copy of it got no answer", delay, quoted(sync.key))
            await self.deliveries.queue.send(hint_body(self.settings.src_bucket, [sync.key]), delay)

    def conclude(self, job: Job, error: Exception | None) -> None:
        """Tells the messages, and has the key synced once more for those that came meanwhile."""
        sync = job.sync
        del self.by_key[sync.key]
        self.free_slot(job)
        self.log_outcome(job, error)
        for delivery in job.deliveries:
            self.deliveries.note_outcome(delivery, sync.key, error, sync.upload)
            self.deliveries.note_unsettled(delivery, sync.unsettled_until)
            if not delivery.keys:
                self.deliveries.finish(delivery)
        for delivery in job.latecomers:
            delivery.destination_first = True
            self.deliveries.note_unsettled(delivery, sync.unsettled_until)
            self.add(sync.key, delivery)

    def log_outcome(self, job: Job, error: Exception | None) -> None:
        if error is None:
            self.log_success(job)
        elif isinstance(error, Interrupted):
            log.info("interrupted key=%s", quoted(job.sync.key))
        else:
            self.log_failure(job, error)

    def log_success(self, job: Job) -> None:
        sync = job.sync
        self.counts[sync.action] += 1
        self.counts["bytes"] += sync.size
        event_times = [delivery.event_time for delivery in job.deliveries if delivery.event_time]
        lag = LAG % (time.time() - min(event_times)) if event_times else ""
        log.info(SYNCED, quoted(sync.key), sync.action, sync.size, self.now() - job.started, lag)

    def log_failure(self, job: Job, error: Exception) -> None:
        """One line; with its traceback if the error is a mistake in the code."""
        self.counts["failed"] += 1
        attempt = max(delivery.received.receive_count for delivery in job.deliveries)
        mistake = None if isinstance(error, EXPECTED) else error
        log.error(FAILED, quoted(job.sync.key), attempt, self.settings.max_receives, describe(error), exc_info=mistake)

    # Interruptions

    def interrupt_all(self) -> None:
        """Every sync ends at its next step, and no more room is waited for."""
        self.stopping = True
        for job in self.by_key.values():
            job.sync.interruption.set()
        self.begin_waiting()
        self.deliveries.changed.set()

    def interrupt(self, delivery: Delivery) -> None:
        """The message's 12 hours are over."""
        for job in self.by_key.values():
            if delivery in job.deliveries and not job.sync.interruption.is_set():
                log.warning("12 hours since the message was received, handing it back key=%s", quoted(job.sync.key))
                job.sync.interruption.set()

    async def hand_back_all(self) -> None:
        """What a stopping worker cannot wait for: ends every sync, wherever it is."""
        for key in self.by_key:
            log.warning("handing back what has not ended key=%s", quoted(key))
        self.interrupt_all()
        tasks = [job.task for job in self.by_key.values() if job.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for job in list(self.by_key.values()):  # cancelled before its first step
            self.conclude(job, Interrupted())
