"""Which key is synced when: one sync per key, a limited number at a time, and once more for what came meanwhile."""

from __future__ import annotations

import asyncio
import math
from collections import Counter, deque
from collections.abc import Sequence

from mirror.model.errors import (
    EXPECTED,
    HANDED_BACK,
    Interrupted,
    Postponed,
    describe,
    is_environment,
    may_be_environment,
)
from mirror.model.log_lines import FAILED, LAG, SYNCED, log, quoted
from mirror.model.services import SQS_BATCH
from mirror.protocol.attempt import Host, KeySync
from mirror.protocol.multipart import drop_upload
from mirror.protocol.sync import Syncer
from mirror.queue.job import Job
from mirror.queue.lease import Lease
from mirror.queue.leases import Leases
from mirror.queue.messages import OF_ANY, OF_GHOST, hint_body
from mirror.queue.option import Option, methods
from mirror.queue.outage import Decision, Outage
from mirror.settings import HELD_PER_SLOT

WAITING_PER_SLOT = HELD_PER_SLOT // 2
HELD_ON_FEW_KEYS = 10  # the messages on few keys may be this many times those that are each on a key of their own


def describe_end(error: Exception) -> str:
    if isinstance(error, Postponed):
        return f"{error}, handed back for later"
    return "interrupted" if isinstance(error, Interrupted) else f"handed on, {describe(error)}"


class Scheduler(Host):
    """The syncs of this process, by key.

    A job is at work (it has a slot or waits for one), or aside: a long copy, a pause, a suspect of an outage.
    """

    def __init__(self, syncer: Syncer, leases: Leases, options: Sequence[Option] = ()) -> None:
        self.settings = syncer.buckets.settings
        self.syncer = syncer
        self.leases = leases
        self.now = syncer.buckets.now
        self.by_key: dict[str, Job] = {}
        self.waiting: deque[Job] = deque()  # for a slot
        self.backfill: deque[Job] = deque()  # for a slot that none of those needs: messages of a group, see Queue.send
        self.slots = self.settings.max_concurrent_keys  # syncs that may begin now
        self.outage = Outage(syncer.buckets)
        self.counts: Counter[str] = Counter()
        self.options_synced = methods(options, Option.synced)
        self.options_ended = methods(options, Option.ended)
        self.stopping = False

    # Room

    def at_work(self) -> int:
        return self.settings.max_concurrent_keys - self.slots + len(self.waiting) + len(self.backfill)

    def next_waiting(self) -> Job | None:
        line = self.waiting or self.backfill
        return line.popleft() if line else None

    def next_to_begin(self) -> Job | None:
        if self.stopping or not self.outage.is_on:
            return self.next_waiting()
        job = next(filter(self.outage.may_begin, self.waiting), None)
        if job:
            self.waiting.remove(job)
        return job

    def has_room(self) -> bool:
        """Twice as many jobs at work as slots keep those busy, and the next receive may bring ten of them."""
        limit = self.settings.max_concurrent_keys
        most_at_work = max(2 * limit - SQS_BATCH, limit - 1)
        most_held = HELD_ON_FEW_KEYS * HELD_PER_SLOT * limit

        has_room = self.at_work() <= most_at_work and len(self.leases.held) < most_held
        is_idle = not (self.waiting or self.backfill)
        return self.outage.may_receive(is_idle, has_room)

    async def until_room(self) -> None:
        """Also ends when the worker is to stop."""
        while not (self.stopping or self.has_room()):
            self.leases.changed.clear()
            await self.leases.changed.wait()
        self.outage.note_receive()

    def free_slot(self, job: Job) -> None:
        self.slots += job.has_slot
        job.has_slot = False
        if self.has_room():
            self.leases.changed.set()

    # A job begins

    def accept(self, leases: list[Lease]) -> None:
        """Turns messages into jobs. A message without keys of ours is finished at once."""
        for lease in leases:
            for key in sorted(lease.content.keys):
                self.add(key, lease)
            if not lease.content.keys:
                self.leases.finish(lease)
        self.begin_waiting()  # not before: messages on one key are, as a rule, to become one sync

    def add(self, key: str, lease: Lease) -> None:
        """Messages on one key become one sync; what comes while that runs is in its next look at the source."""
        job = self.by_key.get(key)
        if job is None:
            job = self.by_key[key] = Job(KeySync(key, host=self))
            (self.backfill if lease.received.group else self.waiting).append(job)
        job.join(lease)

    def begin_waiting(self) -> None:
        """Jobs begin or go on while there are slots. A worker that stops begins none."""
        while (self.stopping or self.slots > 0) and (job := self.next_to_begin()):
            if self.stopping and not job.running:
                self.conclude(job, Interrupted())
            else:
                self.let(job)

    def let(self, job: Job) -> None:
        """Takes a slot for the job, which begins or goes on."""
        self.slots -= 1
        job.has_slot = True
        if job.turn:
            job.turn.set_result(None)
            return
        job.running = True
        job.started = job.looked = self.now()
        self.begin(job)

    def begin(self, job: Job) -> None:
        job.task = asyncio.create_task(self.run(job))

    # It runs: see Host in mirror/protocol/attempt.py

    async def run(self, job: Job) -> None:
        error: Exception | None = None
        try:
            await self.syncer.sync(job.sync)
            if job.sync.result.may_land_until:
                await self.look_again_later(job.sync)
        except asyncio.CancelledError:
            error = Interrupted()
        except Exception as failure:  # noqa: BLE001 whatever it is, it ends the job and not the worker
            error = failure
        if error and may_be_environment(error):
            await self.suspect(job, error)
        else:
            self.conclude(job, error)
            if error is None:
                self.note_success(job)
        self.begin_waiting()

    def has_slot(self, sync: KeySync) -> bool:
        return self.by_key[sync.key].has_slot

    def step_aside(self, sync: KeySync) -> bool:
        return self.leave_slot(sync, HELD_PER_SLOT)

    def wait_aside(self, sync: KeySync) -> bool:
        return self.leave_slot(sync, WAITING_PER_SLOT)

    def leave_slot(self, sync: KeySync, most: int) -> bool:
        """`most`: this many aside for each slot."""
        job = self.by_key[sync.key]
        if job.has_slot:
            if len(self.by_key) - self.at_work() >= most * self.settings.max_concurrent_keys:
                return False
            self.free_slot(job)
            self.begin_waiting()
        return True

    async def come_back(self, sync: KeySync) -> None:
        """Waits for a slot behind those that came before."""
        job = self.by_key[sync.key]
        if job in self.outage.tried or (self.slots > 0 and not self.outage.is_on and not self.waiting):
            self.slots -= 1
            job.has_slot = True
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
        """It shows what all messages that have come are about. One that came while the sync ran may be from a worker
        that died, whose upload has to be aborted."""
        job = self.by_key[sync.key]
        job.covered, job.looked = len(job.leases), self.now()
        sync.redelivered = sync.redelivered or job.joined_left_over
        job.joined_left_over = False

    def overtaken(self, sync: KeySync) -> None:
        """The messages that came before the look at the source are done with, except for the newest on the key."""
        job = self.by_key[sync.key]
        if done := job.take_overtaken():
            self.log_end(job, done, None)
            self.note_end(sync, done, None)
            self.leases.end_key(done, sync, None)
        self.note_success(job)

    def note_success(self, job: Job) -> None:
        result = job.sync.result
        self.carry_out(self.outage.note_success(result.action, job.looked, result.with_session))

    def progressed(self, _sync: KeySync, since: float) -> None:
        self.carry_out(self.outage.note_success("copied", since))

    async def look_again_later(self, sync: KeySync) -> None:
        """A write that got no answer may still take effect, and no event would say so. So the key is looked at again
        when that write must have ended.

        That message is in no group, even if the one of this sync was: the destination may be wrong until then, so it
        does not wait for a backfill.
        """
        delay = self.leases.seconds_until(sync.result.may_land_until)
        if delay:
            log.info("looking again in %d s at key=%s, a copy of it got no answer", delay, quoted(sync.key))
            await self.look_later(sync.key, delay)

    async def look_later(self, key: str, delay: float, is_ghost: bool = False) -> None:
        body = hint_body(self.settings.src_bucket, [key], OF_GHOST if is_ghost else OF_ANY)
        await self.leases.queue.send(body, int(delay))

    # What an outage decides

    async def suspect(self, job: Job, error: Exception) -> None:
        """A job failed in a way in which all may fail. It is kept until others show what is at fault. A worker that
        stops cannot wait for that, which is no fault of the key."""
        buckets = self.syncer.buckets
        suspect = self.outage.suspicion_of(job, error)
        is_general = False
        if not self.stopping and self.outage.has_to_be_checked(error):
            is_general = not await buckets.both_answered_since(suspect.at)
            if is_environment(error) and not is_general:
                await drop_upload(buckets, job.sync)  # as after any error of its own, see Syncer.sync()
        if self.stopping:
            self.conclude(job, Interrupted())
            return
        job.running = False
        self.free_slot(job)
        self.outage.keep(job, suspect, is_general)

    def carry_out(self, decisions: Sequence[Decision]) -> None:
        """Those that are tried once more begin before all others that wait."""
        if not decisions:
            return
        cleared = []
        for job, error in decisions:
            if error:
                self.conclude(job, error)
            else:
                cleared.append(job)
        self.waiting.extendleft(reversed(cleared))
        self.leases.changed.set()
        self.begin_waiting()

    def watch_outage(self) -> None:
        """Every second: suspects that few others have joined end, and in an outage one job is tried."""
        if self.stopping:
            return
        self.carry_out(self.outage.end_suspicions())
        line = self.waiting or self.backfill
        waiting = line[0] if line else None
        job = self.outage.try_next(waiting)
        if job:
            if job is waiting:
                line.popleft()
            self.let(job)
        self.begin_waiting()

    def kept(self) -> int:
        """How many keys wait for the end of an outage, or for others to show whether it is one."""
        waiting = len(self.waiting) + len(self.backfill) if self.outage.is_on else 0
        return len(self.outage.suspects) + waiting

    # It ends

    def conclude(self, job: Job, error: Exception | None) -> None:
        """Ends the job for its messages. The key is synced once more for those that its last look does not cover."""
        sync = job.sync
        del self.by_key[sync.key]
        self.free_slot(job)

        done, late = job.split(error)
        self.log_end(job, done, error)
        self.note_end(sync, done, error)
        if error is None:
            self.note_synced(sync, done[-1])
        self.end_messages(sync, done, error)
        self.sync_again(sync, late)

    def log_end(self, job: Job, done: list[Lease], error: Exception | None) -> None:
        """Logs and counts an end in one line; with its traceback if it is a mistake in the code."""
        key, result, counts = quoted(job.sync.key), job.sync.result, self.counts
        counts["busy"] += result.busy
        if error is None:
            counts[result.action] += 1
            counts["bytes"] += result.size
            event_times = [lease.content.event_time for lease in done if lease.content.event_time]
            lag = LAG % (self.syncer.buckets.wall() - min(event_times)) if event_times else ""
            log.info(SYNCED, key, result.action, result.size, self.now() - job.started, lag)
        elif isinstance(error, HANDED_BACK):
            log.info("%s key=%s", describe_end(error), key)
        else:
            counts["failed"] += 1
            attempt = max(lease.received.receive_count for lease in job.leases)
            mistake = None if isinstance(error, EXPECTED) else error
            log.error(FAILED, key, attempt, self.settings.max_receives, describe(error), exc_info=mistake)

    def note_end(self, sync: KeySync, done: list[Lease], error: Exception | None) -> None:
        for option_ended in self.options_ended:
            option_ended(sync, done, error)

    def note_synced(self, sync: KeySync, latest: Lease) -> None:
        for option_synced in self.options_synced:
            option_synced(sync, latest)

    def end_messages(self, sync: KeySync, done: list[Lease], error: Exception | None) -> None:
        """A key that waits for others needs only one message, the one with the oldest event. Those that each reconcile
        has sent since are done with."""
        if isinstance(error, Postponed) and error.waiting_since:
            kept = min(done, key=lambda lease: lease.content.event_time or math.inf)
            self.leases.end_key([lease for lease in done if lease is not kept], sync, None)
            done = [kept]
        self.leases.end_key(done, sync, error)

    def sync_again(self, sync: KeySync, late: list[Lease]) -> None:
        """These messages came after the last look at the source."""
        for lease in late:
            lease.content.destination_first = True
            lease.may_land_until = max(lease.may_land_until, sync.result.may_land_until)
            self.add(sync.key, lease)

    # Interruptions

    def interrupt_all(self) -> None:
        """Every sync ends at its next step, and nothing more is received."""
        self.stopping = True
        self.carry_out(self.outage.stop())
        for job in self.by_key.values():
            job.sync.interruption.set()
        self.begin_waiting()
        self.leases.changed.set()

    def interrupt(self, lease: Lease) -> None:
        """The message's 12 hours are over."""
        for job in self.by_key.values():
            if lease in job.leases and not job.sync.interruption.is_set():
                log.warning("12 hours since the message was received, handing it back key=%s", quoted(job.sync.key))
                job.sync.interruption.set()

    async def hand_back_all(self) -> None:
        """Ends every sync wherever it is, because a worker that stops cannot wait for it any longer."""
        for key in self.by_key:
            log.warning("handing back what has not ended key=%s", quoted(key))
        self.interrupt_all()
        tasks = [job.task for job in self.by_key.values() if job.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for job in list(self.by_key.values()):  # cancelled before its first step
            self.conclude(job, Interrupted())
