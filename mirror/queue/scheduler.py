"""Which key is synced when: one sync per key, so many at a time, and once more for what came meanwhile."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from mirror.model.errors import (
    EXPECTED,
    HANDED_BACK,
    Interrupted,
    Postponed,
    describe,
    is_of_surroundings,
    may_be_of_surroundings,
)
from mirror.model.limits import SQS_BATCH
from mirror.model.log_lines import FAILED, LAG, SYNCED, quoted
from mirror.protocol.attempt import KeySync
from mirror.protocol.multipart import drop_upload
from mirror.protocol.sync import Syncer
from mirror.queue.bodies import hint_body
from mirror.queue.leases import Deliveries, Delivery, one_of
from mirror.queue.outage import Outage, Suspect
from mirror.settings import HELD_PER_SLOT, Settings

log = logging.getLogger("worker")

HELD_ON_FEW_KEYS = 10  # times the messages that are held if each is on a key of its own


@dataclass(eq=False)
class Job:
    """A sync with all messages on its key that this process holds, in the order in which they came."""

    sync: KeySync
    deliveries: list[Delivery] = field(default_factory=list)
    covered: int = 0  # so many of them came before the latest look at the source
    joined_left_over: bool = False  # one of those that came since may have left an upload behind
    running: bool = False
    has_slot: bool = False
    turn: asyncio.Future[None] | None = None  # set when it waits for a slot to go on
    cleared: int = 0  # so often it failed in a way in which all may fail, and others got through
    started: float = 0.0
    looked: float = 0.0  # when its latest look began
    task: asyncio.Task[None] | None = None

    def may_delete(self) -> bool:
        """No event says that the key was created; an object that is copied now would be one more that fails."""
        return self.sync.destination_first and self.turn is None


class Jobs:
    """The syncs of this process, by key.

    A job is at work (it has a slot or waits for one), or aside: a long copy, a pause, a suspect of an outage.
    """

    def __init__(
        self,
        settings: Settings,
        syncer: Syncer,
        deliveries: Deliveries,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self.syncer = syncer
        self.buckets = syncer.buckets
        self.deliveries = deliveries
        self.now = now
        self.by_key: dict[str, Job] = {}
        self.waiting: deque[Job] = deque()  # for a slot
        self.backfill: deque[Job] = deque()  # for a slot that those leave: messages of a group, see Queue.send
        self.slots = settings.max_concurrent_keys  # syncs that may begin now
        self.outage: Outage[Job] = Outage(settings.retry_base_seconds, now)
        self.unknown_wanted = False  # in an outage: a key that has not failed yet
        self.counts: Counter[str] = Counter()
        self.stopping = False

    # Room

    def at_work(self) -> int:
        return self.settings.max_concurrent_keys - self.slots + len(self.waiting) + len(self.backfill)

    def next_waiting(self) -> Job | None:
        line = self.waiting or self.backfill
        return line.popleft() if line else None

    def next_to_begin(self) -> Job | None:
        """While only copies fail those that probably delete go on."""
        if self.stopping or self.outage.lets(may_delete=False):
            return self.next_waiting()
        job = next((job for job in self.waiting if self.outage.lets(job.may_delete())), None)
        if job:
            self.waiting.remove(job)
        return job

    def has_room(self) -> bool:
        """Twice as many jobs at work as slots keep those busy."""
        limit = self.settings.max_concurrent_keys
        if not self.outage.lets(may_delete=True):
            return self.unknown_wanted and not (self.waiting or self.backfill)
        most_held = HELD_ON_FEW_KEYS * HELD_PER_SLOT * limit
        return self.at_work() <= max(2 * limit - SQS_BATCH, limit - 1) and len(self.deliveries.held) < most_held

    async def until_room(self) -> None:
        """Also ends when the worker is to stop."""
        while not (self.stopping or self.has_room()):
            self.deliveries.changed.clear()
            await self.deliveries.changed.wait()
        self.unknown_wanted = False

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
        """Messages on one key become one sync; what comes while that runs is in its next look at the source."""
        job = self.by_key.get(key)
        if job is None:
            job = self.by_key[key] = Job(KeySync(key, host=self))
            (self.backfill if delivery.received.group else self.waiting).append(job)
        job.deliveries.append(delivery)
        job.sync.event_time = earlier(job.sync.event_time, delivery.event_time)
        job.sync.waiting_since = earlier(job.sync.waiting_since, delivery.waiting_since)
        sync, came_before = job.sync, delivery.received.receive_count > 1
        if job.running:
            job.joined_left_over = job.joined_left_over or came_before or key in delivery.uploads
            return
        sync.destination_first = sync.destination_first or delivery.destination_first or came_before
        sync.redelivered = sync.redelivered or came_before
        sync.upload = sync.upload or delivery.uploads.get(key)

    def begin_waiting(self) -> None:
        """Lets jobs begin or go on for as long as there are slots; a worker that stops begins none."""
        while (self.stopping or self.slots > 0) and (job := self.next_to_begin()):
            if self.stopping and not job.running:
                self.conclude(job, Interrupted())
            else:
                self.let(job)

    def let(self, job: Job) -> None:
        """It begins or goes on, in a slot."""
        self.take_slot(job)
        if job.turn:
            job.turn.set_result(None)
            return
        job.running = True
        job.started = job.looked = self.now()
        self.begin(job)

    def take_slot(self, job: Job) -> None:
        self.slots -= 1
        job.has_slot = True

    def begin(self, job: Job) -> None:
        job.task = asyncio.create_task(self.run(job))

    # It runs: see Host in mirror/protocol/attempt.py

    async def run(self, job: Job) -> None:
        error: Exception | None = None
        try:
            await self.syncer.sync(job.sync)
            await self.look_again_later(job.sync)
        except asyncio.CancelledError:
            error = Interrupted()
        except Exception as failure:  # noqa: BLE001 whatever it is, the messages are told
            error = failure
        if error and may_be_of_surroundings(error) and not self.stopping:
            await self.suspect(job, error)
        else:
            self.conclude(job, error)
            if error is None:
                self.note_success(job.sync.result.action, job.looked)
        self.begin_waiting()

    def has_place(self, sync: KeySync) -> bool:
        return self.by_key[sync.key].has_slot

    def step_aside(self, sync: KeySync) -> bool:
        job = self.by_key[sync.key]
        if job.has_slot:
            if len(self.by_key) - self.at_work() >= HELD_PER_SLOT * self.settings.max_concurrent_keys:
                return False
            self.free_slot(job)
            self.begin_waiting()
        return True

    async def come_back(self, sync: KeySync) -> None:
        """Waits for a slot behind those that came before."""
        job = self.by_key[sync.key]
        if job in self.outage.tried or (self.slots > 0 and self.outage.began is None and not self.waiting):
            self.take_slot(job)
            return
        job.turn = asyncio.get_running_loop().create_future()
        self.waiting.append(job)
        try:
            await job.turn
        finally:
            if job in self.waiting:  # cancelled
                self.waiting.remove(job)
            job.turn = None

    def look_begins(self, sync: KeySync) -> None:
        """It shows what all messages that have come are about.

        One that came while the sync ran may be from a worker that died, whose upload has to be aborted.
        """
        job = self.by_key[sync.key]
        job.covered = len(job.deliveries)
        job.looked = self.now()
        sync.redelivered = sync.redelivered or job.joined_left_over
        job.joined_left_over = False

    def overtaken(self, sync: KeySync) -> None:
        """What came before the look is done with, but for the newest message on the key: until the sync has ended
        somebody has to look at the source again, and if this process dies that is whoever gets this message."""
        job = self.by_key[sync.key]
        done = job.deliveries[: min(job.covered, len(job.deliveries) - 1)]
        if done:
            self.log_success(job, done)
            job.deliveries, job.covered = job.deliveries[len(done) :], job.covered - len(done)
            self.tell(job, done, None)
        self.note_success(sync.result.action, job.looked)

    def progressed(self, _sync: KeySync, since: float) -> None:
        self.note_success("copied", since)

    async def look_again_later(self, sync: KeySync) -> None:
        """A write that got no answer may still take effect, and nothing would tell: have the key looked at then.

        In no group, whatever the message was in: until then the destination may be wrong, so it waits for no backfill.
        """
        delay = self.deliveries.seconds_until(sync.result.unsettled_until)
        if delay:
            log.info("looking again in %d s at key=%s, a copy of it got no answer", delay, quoted(sync.key))
            await self.look_later(sync.key, delay)

    async def look_later(self, key: str, delay: float) -> None:
        await self.deliveries.queue.send(hint_body(self.settings.src_bucket, [key]), int(delay))

    # It ends

    def conclude(self, job: Job, error: Exception | None) -> None:
        """Tells the messages, and has the key synced once more for those that the last look does not cover."""
        sync = job.sync
        del self.by_key[sync.key]
        self.free_slot(job)
        is_for_all = isinstance(error, HANDED_BACK) or not job.covered
        covered = len(job.deliveries) if is_for_all else job.covered
        done, late = job.deliveries[:covered], job.deliveries[covered:]
        if error is None:
            self.log_success(job, done)
            done[-1].events += sync.result.events
        else:
            self.log_end(job, error)
        if isinstance(error, Postponed) and error.waiting_since:
            done, others = one_of(done)
            self.tell(job, others, None)
        self.tell(job, done, error)
        for delivery in late:
            delivery.destination_first = True
            self.deliveries.note_unsettled(delivery, sync.result.unsettled_until)
            self.add(sync.key, delivery)

    def tell(self, job: Job, deliveries: list[Delivery], error: Exception | None) -> None:
        for delivery in deliveries:
            self.deliveries.note_outcome(delivery, job.sync.key, error, job.sync.upload)
            self.deliveries.note_unsettled(delivery, job.sync.result.unsettled_until)
            if not delivery.keys:
                self.deliveries.finish(delivery)

    def log_success(self, job: Job, deliveries: list[Delivery]) -> None:
        sync, result = job.sync, job.sync.result
        self.counts[result.action] += 1
        self.counts["bytes"] += result.size
        event_times = [delivery.event_time for delivery in deliveries if delivery.event_time]
        lag = LAG % (time.time() - min(event_times)) if event_times else ""
        log.info(SYNCED, quoted(sync.key), result.action, result.size, self.now() - job.started, lag)

    def log_end(self, job: Job, error: Exception) -> None:
        """One line for an error; with its traceback if it is a mistake in the code."""
        if isinstance(error, HANDED_BACK):
            log.info("%s key=%s", describe_end(error), quoted(job.sync.key))
            return
        self.counts["failed"] += 1
        attempt = max(delivery.received.receive_count for delivery in job.deliveries)
        mistake = None if isinstance(error, EXPECTED) else error
        log.error(FAILED, quoted(job.sync.key), attempt, self.settings.max_receives, describe(error), exc_info=mistake)

    # Outages

    async def suspect(self, job: Job, error: Exception) -> None:
        """It failed in a way in which all may fail."""
        first_time = any(delivery.received.receive_count == 1 for delivery in job.deliveries)
        suspect = Suspect(error, self.now(), first_time, job.cleared)
        is_new = self.outage.began is None and is_of_surroundings(error)
        is_general = is_new and not await self.buckets.answering.both_since(suspect.at)
        if is_new and not is_general:
            await drop_upload(self.buckets, job.sync)  # as after any error of its own, see sync_key()
        if self.stopping:
            self.conclude(job, Interrupted())
            return
        job.running = False
        self.free_slot(job)
        self.outage.add(job, suspect, is_general)

    def note_success(self, action: str, since: float) -> None:
        """Others are cleared by it, see mirror/queue/outage.py."""
        cleared, at_fault = self.outage.note_success(action, since)
        for job, error in at_fault:
            self.conclude(job, error)
        for job in reversed(cleared):
            job.cleared += 1
            self.waiting.appendleft(job)  # to be tried soon after that success
        if cleared or at_fault:
            self.deliveries.changed.set()
            self.begin_waiting()

    def beat(self) -> None:
        """Every second: tries one job in an outage, or decides on suspects that nobody joined."""
        if self.stopping:
            return
        for suspect, error in self.outage.take_expired():
            self.conclude(suspect, error)
        if self.outage.is_due():
            self.unknown_wanted = True
            job = self.next_waiting() or self.outage.oldest()
            if job:
                self.outage.note_try(job)
                self.let(job)
        self.begin_waiting()

    # Interruptions

    def interrupt_all(self) -> None:
        """Every sync ends at its next step, and no more room is waited for."""
        self.stopping = True
        for job in self.outage.take_all():
            self.conclude(job, Interrupted())
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


def earlier(one: float | None, other: float | None) -> float | None:
    return min((moment for moment in (one, other) if moment is not None), default=None)


def describe_end(error: Exception) -> str:
    if isinstance(error, Postponed):
        return f"{error}, handed back for later"
    return "interrupted" if isinstance(error, Interrupted) else f"handed on, {describe(error)}"
