"""What SQS lends to this process: each message from its receive until it is deleted, visible again, or sent again."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from mirror.model.errors import AWS_ERRORS, HANDED_BACK, GaveUp, Interrupted, Postponed, describe, receipt_is_lost
from mirror.model.log_lines import log, quoted
from mirror.model.services import MAX_SQS_VISIBILITY, SQS_BATCH
from mirror.protocol.attempt import KeySync
from mirror.queue.lease import NEVER, Lease, State
from mirror.queue.messages import Queue, handed_back_body, read_body
from mirror.queue.option import Option, methods
from mirror.settings import Settings

SETTLERS = 4
SETTLERS_THAT_WAIT = 16  # each waits for an option, too
SETTLE_SECONDS = 0.2  # for which a finished message waits for others, because ten are deleted in one call
DELETE_AGAIN_SECONDS = 10
SETTLE_AT_MOST = 60  # seconds for a batch, fewer than a worker that stops has left


@dataclass(eq=False)
class Leases:
    """All messages that this process holds."""

    settings: Settings
    queue: Queue
    now: Callable[[], float] = time.monotonic
    options: Sequence[Option] = ()
    held: set[Lease] = field(default_factory=set)
    finished: list[Lease] = field(default_factory=list)  # they wait for a settler
    some_finished: asyncio.Event = field(default_factory=asyncio.Event)
    changed: asyncio.Event = field(default_factory=asyncio.Event)  # set when there is less to do
    handed_back: int = 0

    def __post_init__(self) -> None:
        self.given_up = methods(self.options, Option.given_up)
        self.before_delete = methods(self.options, Option.before_delete)

    # HELD

    async def receive(self, wait: int) -> list[Lease]:
        """Raises the error of ReceiveMessage."""
        settings, visibility = self.settings, self.settings.shortest_visibility
        received = await self.queue.receive(min(wait, settings.wait_time_seconds), visibility)
        now = self.now()
        first_extension = now + settings.visibility_extend_interval / 2  # half: SQS may not answer at once
        leases = [
            Lease(item, received_at=now, visible_at=now + visibility, due_at=first_extension) for item in received
        ]
        for lease in leases:
            try:
                lease.content = read_body(lease.received.body, settings, lease.received.sent_at)
            except ValueError as error:
                log.error("cannot read message: %s", error)
                lease.fail("(unreadable)")
                self.note_last_failure(lease, None, error)
        self.held.update(leases)
        return leases

    def end_key(self, leases: list[Lease], sync: KeySync, error: Exception | None) -> None:
        """The sync of a key has ended for these messages. An upload is for the next worker to go on with."""
        for lease in leases:
            content = lease.content
            content.keys.discard(sync.key)
            if isinstance(error, GaveUp) and content.tries + 1 >= self.settings.max_receives:
                lease.fail(sync.key)
                self.note_last_failure(lease, sync, error)
            elif isinstance(error, HANDED_BACK):
                self.postpone(lease, error)
                if sync.upload:
                    content.uploads[sync.key] = sync.upload
            elif error:
                lease.fail(sync.key)
                self.note_last_failure(lease, sync, error)
            lease.may_land_until = max(lease.may_land_until, sync.result.may_land_until)
            if not content.keys:
                self.finish(lease)

    def note_last_failure(self, lease: Lease, sync: KeySync | None, error: Exception) -> None:
        """SQS parks the message instead of giving it out once more (SQS Developer Guide, "Dead-letter queues")."""
        if self.is_last(lease):
            for given_up in self.given_up:
                given_up(lease, sync, error)

    def postpone(self, lease: Lease, error: Exception) -> None:
        """After an interruption the message comes back at once, because it is not at fault. What S3 is too busy for, or
        what is too much for this worker, comes back after a pause."""
        content = lease.content
        pause = self.pause_after(content.tries + 1)
        if lease.outcome is State.ACK:
            lease.outcome = State.REQUEUE
        lease.gave_up = lease.gave_up or isinstance(error, GaveUp)
        if isinstance(error, Postponed):
            pause = int(error.seconds if error.is_exact else min(pause, error.seconds))
            content.waiting_since = error.waiting_since or content.waiting_since
        if not isinstance(error, Interrupted):
            lease.postpone = max(lease.postpone, pause)

    def finish(self, lease: Lease) -> None:
        """Its last key has ended: a settler does the rest."""
        if lease.state is State.HELD:  # unless the worker has ended without waiting for it
            lease.become(lease.outcome)
            self.give_to_settlers(lease)

    def give_to_settlers(self, lease: Lease) -> None:
        lease.due_at = NEVER
        self.finished.append(lease)
        self.some_finished.set()

    # The settlers

    async def settle_for_ever(self) -> None:
        """Settles full batches at once, and smaller ones after a moment."""
        while True:
            await self.some_finished.wait()
            if len(self.finished) < SQS_BATCH:
                await asyncio.sleep(SETTLE_SECONDS)
            batch = self.take_batch()
            try:
                await asyncio.wait_for(self.settle(batch), SETTLE_AT_MOST)
            except TimeoutError:
                self.leave_to_heartbeat(batch)

    def take_batch(self) -> list[Lease]:
        batch = self.finished[:SQS_BATCH]
        self.finished = self.finished[SQS_BATCH:]
        if not self.finished:
            self.some_finished.clear()
        return batch

    async def settle(self, batch: list[Lease]) -> None:
        """Does what the state of each message asks for. Options come before that: if this process dies in between, the
        messages come again, and the options see them again."""
        for before_delete in self.before_delete:
            for lease in await before_delete(batch):
                self.come_again(lease)
        for lease in batch:
            if lease.state is State.FAILED:
                what = "goes to the dead-letter queue" if self.is_last(lease) else "is tried again"
                log.info("message of key=%s %s in %d s", quoted(lease.failed), what, self.pause(lease))
                await self.nack(lease)
            elif lease.state is State.REQUEUE:
                await self.requeue(lease)
        await self.ack([lease for lease in batch if lease.state is State.ACK])

    def come_again(self, lease: Lease) -> None:
        """The message is sent again after a pause instead of being deleted, as often as one that S3 is too busy for."""
        tries = lease.content.tries
        if lease.state is State.ACK and tries + 1 < self.settings.max_receives:
            lease.become(State.REQUEUE)
            lease.gave_up, lease.postpone = True, self.pause_after(tries + 1)

    async def nack(self, lease: Lease) -> None:
        self.show_after_pause(lease)
        await self.set_visibility([lease])

    async def requeue(self, lease: Lease) -> None:
        """Sends the message again, so that an interruption does not use up a receive. The old one is then deleted."""
        content = lease.content
        delay = self.shortest_pause(lease)
        tries = content.tries + lease.gave_up
        body = handed_back_body(lease.received.body, content.uploads, tries, content.waiting_since)
        try:
            await self.queue.send(body, delay, lease.received.group)
        except AWS_ERRORS as error:
            log.warning("could not send a message back, making it visible: %s", describe(error))
            await self.nack(lease)
            return
        self.handed_back += 1
        if lease.state is State.REQUEUE:
            lease.become(State.ACK)

    async def ack(self, leases: list[Lease]) -> None:
        """Deletes the messages. What SQS does not delete is deleted again later."""
        left = await self.queue.delete([lease.received.receipt_handle for lease in leases])
        for lease in leases:
            if lease.state is State.ACK and lease.received.receipt_handle in left:
                self.ack_later(lease)
            elif lease.state is State.ACK:
                self.release(lease, State.DELETED)

    def ack_later(self, lease: Lease) -> None:
        """When its visibility timeout is over, the message comes again anyway, and its keys are found equal."""
        if self.now() >= lease.visible_at:
            self.release(lease, State.VISIBLE)
        else:
            lease.due_at = self.now() + DELETE_AGAIN_SECONDS

    def release(self, lease: Lease, state: State) -> None:
        """The message is no longer ours."""
        lease.become(state)
        self.held.discard(lease)
        self.changed.set()

    def leave_to_heartbeat(self, batch: list[Lease]) -> None:
        """After SETTLE_AT_MOST seconds without an answer the heartbeat asks SQS for the same again."""
        left = [lease for lease in batch if lease in self.held]
        log.warning("SQS does not answer, asking again for %d messages", len(left))
        for lease in left:
            if lease.state is State.ACK:
                self.ack_later(lease)
            else:
                self.show_after_pause(lease, due_at=self.now())

    # The heartbeat, and the visibility timeout

    async def extend_due(self) -> None:
        """One beat of the heartbeat. If SQS takes nothing of a call, the rest is left to the next beat."""
        now = self.now()
        due = [lease for lease in self.held if lease.due_at <= now]
        for lease in due:
            if lease.state is State.ACK:
                self.give_to_settlers(lease)
        for start in range(0, len(due), SQS_BATCH):
            if not await self.set_visibility(due[start : start + SQS_BATCH]):
                return

    def show_after_pause(self, lease: Lease, due_at: float = NEVER) -> None:
        """`due_at`: when the heartbeat asks SQS for it, unless the caller does."""
        lease.become(State.NACK)
        lease.show_at = self.now() + self.pause(lease)
        lease.due_at = due_at

    def pause(self, lease: Lease) -> int:
        """Seconds until SQS shows it: growing, 0 if SQS then moves it to the dead-letter queue."""
        pause = self.shortest_pause(lease)
        if lease.outcome is State.FAILED and not self.is_last(lease):
            pause = max(pause, self.pause_after(lease.received.receive_count))
        return min(pause, self.visibility_left(lease))

    def shortest_pause(self, lease: Lease) -> int:
        """Not before a copy without an answer must have ended."""
        return max(lease.postpone, self.seconds_until(lease.may_land_until))

    def pause_after(self, failures: int) -> int:
        """Seconds until a message comes again that has failed as often as that."""
        seconds: int = self.settings.retry_base_seconds * 4 ** (failures - 1)
        return seconds

    def is_last(self, lease: Lease) -> bool:
        return lease.received.receive_count >= self.settings.max_receives

    def seconds_until(self, moment: float) -> int:
        """Whole seconds, rounded up, 0 once it is over."""
        return max(0, math.ceil(moment - self.now()))

    def used_up(self) -> list[Lease]:
        """Messages that have used up the 12 hours of SQS, and have to be handed back. They need not be due: one may
        reach that limit between this question and its extension."""
        return [lease for lease in self.held if lease.state is State.HELD and self.is_used_up(lease)]

    def is_used_up(self, lease: Lease) -> bool:
        return self.visibility_left(lease) <= self.settings.visibility_extend_interval

    def visibility_left(self, lease: Lease) -> int:
        """In seconds. SQS refuses more than 12 hours a receive (SQS API Reference, ChangeMessageVisibility)."""
        return max(0, int(lease.received_at + MAX_SQS_VISIBILITY - self.now() - 5))

    async def set_visibility(self, leases: Iterable[Lease]) -> bool:
        """Extends at most ten messages, or has them visible at their time. False if SQS took none of it."""
        asked = {lease: lease.state for lease in leases if lease.state in (State.HELD, State.NACK)}
        seconds = {}
        for lease, state in asked.items():
            hidden = self.seconds_until(lease.show_at) if state is State.NACK else self.settings.visibility_timeout
            seconds[lease.received.receipt_handle] = min(hidden, self.visibility_left(lease))
        refused = await self.queue.set_visibility(seconds) if asked else {}
        for lease, state in asked.items():
            handle = lease.received.receipt_handle
            if state is State.NACK:
                self.note_shown(lease, refused.get(handle, ""))
            else:
                self.note_extended(lease, seconds[handle], refused.get(handle, ""))
        return not asked or len(refused) < len(asked)

    def note_shown(self, lease: Lease, refusal: str) -> None:
        lease.due_at = self.now()
        is_over = not refusal or receipt_is_lost(refusal) or self.now() >= lease.visible_at
        if lease.state is State.NACK and is_over:
            self.release(lease, State.VISIBLE)

    def note_extended(self, lease: Lease, seconds: int, refusal: str) -> None:
        """Its state may be another one by now."""
        now = self.now()
        if lease.state is State.HELD and receipt_is_lost(refusal):
            lease.due_at = NEVER
            log.warning("a message is no longer ours, another worker may get it: error=%s", refusal)
        elif lease.state in (State.HELD, State.NACK) and refusal:
            lease.due_at = now
        elif lease.state is State.HELD:
            lease.visible_at = now + seconds
            lease.due_at = NEVER if self.is_used_up(lease) else now + self.settings.visibility_extend_interval
        elif lease.state in (State.NACK, State.VISIBLE) and not refusal:  # SQS may have taken this last
            lease.become(State.NACK)
            lease.due_at = now
            self.held.add(lease)

    # The end

    async def until_none_is_held(self) -> None:
        while self.held:
            self.changed.clear()
            await self.changed.wait()

    async def show_all(self) -> None:
        """The last step of an end: makes visible what could be neither settled nor sent again. A message whose key is
        still being written comes back only when that write must have ended."""
        left = list(self.held)
        log.warning("making %d messages visible, because they could not be sent back", len(left))
        for lease in left:
            if lease.state is State.HELD:
                lease.may_land_until = max(lease.may_land_until, self.now() + self.settings.copy_timeout)
            self.show_after_pause(lease)
        batches = [left[start : start + SQS_BATCH] for start in range(0, len(left), SQS_BATCH)]
        await asyncio.gather(*map(self.set_visibility, batches))
