"""What SQS lent us: each received message, until it is deleted, tried later, or handed back."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from botocore.exceptions import BotoCoreError, ClientError

from mirror.errors import HANDED_BACK, LOST_RECEIPT_CODES, GaveUp, Interrupted, describe
from mirror.limits import MAX_SQS_VISIBILITY, SQS_BATCH
from mirror.log_lines import quoted
from mirror.messages import Content, handed_back_body, read_body
from mirror.parts import Upload
from mirror.queue import Queue, Received
from mirror.settings import Settings

log = logging.getLogger("worker")

SETTLERS = 4
SETTLE_SECONDS = 0.2  # for so long a finished message waits for others, as ten are deleted in one call
NEVER = float("inf")


@dataclass(eq=False)
class Delivery:
    """One receive of a message, and what is left to do for it."""

    received: Received
    received_at: float
    extend_at: float
    keys: set[str] = field(default_factory=set)  # not through yet
    uploads: dict[str, Upload] = field(default_factory=dict)  # key -> upload to go on with
    tries: int = 0  # so many workers gave up on it and handed it on
    event_time: float | None = None  # seconds since the epoch, of the newest event in it
    destination_first: bool = False  # its keys are probably in the destination already
    failed: str = ""  # the key that failed
    interrupted: bool = False
    gave_up: bool = False  # so does this one
    postpone: int = 0  # seconds for which it stays out of sight when it is handed back
    unsettled_until: float = 0.0  # until then a write for it may still take effect
    finished: bool = False  # all keys are through: no more extending


@dataclass(eq=False)
class Deliveries:
    """All that this process holds."""

    settings: Settings
    queue: Queue
    now: Callable[[], float] = time.monotonic
    held: set[Delivery] = field(default_factory=set)
    finished: list[Delivery] = field(default_factory=list)  # not settled yet
    some_finished: asyncio.Event = field(default_factory=asyncio.Event)
    changed: asyncio.Event = field(default_factory=asyncio.Event)  # set when there is less to do
    handed_back: int = 0

    # A delivery begins

    async def receive(self, wait: int) -> list[Delivery]:
        """Held from now on. Raises the error of ReceiveMessage."""
        settings = self.settings
        received = await self.queue.receive(min(wait, settings.wait_time_seconds), settings.visibility_timeout)
        now = self.now()
        deliveries = [Delivery(item, now, now + settings.visibility_extend_interval) for item in received]
        for delivery in deliveries:
            self.read(delivery)
        self.held.update(deliveries)
        return deliveries

    def read(self, delivery: Delivery) -> None:
        """A message that is no event fails."""
        content = Content()
        try:
            content = read_body(delivery.received.body, self.settings)
        except ValueError as error:
            log.error("cannot read message: %s", error)
            delivery.failed = "(unreadable)"
        delivery.keys, delivery.uploads, delivery.tries = content.keys, content.uploads, content.tries
        delivery.event_time, delivery.destination_first = content.event_time, content.destination_first

    # It goes on

    def note_outcome(self, delivery: Delivery, key: str, error: Exception | None, upload: Upload | None) -> None:
        """The sync of one of its keys has ended; an upload is for the next delivery to go on with."""
        delivery.keys.discard(key)
        if isinstance(error, GaveUp) and delivery.tries + 1 >= self.settings.max_receives:
            delivery.failed = key
        elif isinstance(error, HANDED_BACK):
            delivery.interrupted = True
            self.postpone(delivery, error)
            if upload:
                delivery.uploads[key] = upload
        elif error:
            delivery.failed = key

    def postpone(self, delivery: Delivery, error: Exception) -> None:
        """An interruption is none of the message's; what is busy or too much comes back after a pause."""
        pause = self.settings.retry_base_seconds * 4**delivery.tries
        if isinstance(error, GaveUp):
            delivery.gave_up = True
        if not isinstance(error, Interrupted):
            delivery.postpone = max(delivery.postpone, pause)

    def note_unsettled(self, delivery: Delivery, unsettled_until: float) -> None:
        delivery.unsettled_until = max(delivery.unsettled_until, unsettled_until)

    def seconds_until(self, moment: float) -> int:
        """Whole seconds, rounded up, 0 once it is over."""
        return max(0, math.ceil(moment - self.now()))

    # It ends

    def finish(self, delivery: Delivery) -> None:
        """All keys are through: the rest is for the settlers."""
        if not delivery.finished:
            delivery.finished = True
            self.finished.append(delivery)
            self.some_finished.set()

    async def settle_for_ever(self) -> None:
        """Settles full batches as they come, and what has not become one after a moment."""
        while True:
            await self.some_finished.wait()
            if len(self.finished) < SQS_BATCH:
                await asyncio.sleep(SETTLE_SECONDS)
            await self.settle(self.take_batch())

    def take_batch(self) -> list[Delivery]:
        batch, self.finished = self.finished[:SQS_BATCH], self.finished[SQS_BATCH:]
        if not self.finished:
            self.some_finished.clear()
        return batch

    async def settle(self, batch: list[Delivery]) -> None:
        """Deletes the messages, has them tried later, or hands them back."""
        for delivery in batch:
            if delivery.failed:
                await self.retry_later(delivery)
            elif delivery.interrupted:
                await self.hand_back(delivery)
        done = [delivery for delivery in batch if not (delivery.failed or delivery.interrupted)]
        await self.queue.delete([delivery.received.receipt_handle for delivery in done])
        self.held.difference_update(batch)
        self.changed.set()

    async def retry_later(self, delivery: Delivery) -> None:
        """Visible again after a growing pause, and not before a copy without an answer must have ended."""
        receives = delivery.received.receive_count
        is_last = receives >= self.settings.max_receives
        pause = 0 if is_last else self.settings.retry_base_seconds * 4 ** (receives - 1)
        pause = min(max(pause, self.seconds_until(delivery.unsettled_until)), self.visibility_left(delivery))
        what = "goes to the dead-letter queue" if is_last else "is tried again"
        log.info("message of key=%s %s in %d s", quoted(delivery.failed), what, pause)
        await self.queue.set_visibility(delivery.received.receipt_handle, pause)

    async def hand_back(self, delivery: Delivery) -> None:
        """Sends the message anew and deletes the old one, so that an interruption does not use up a receive."""
        delay = max(delivery.postpone, self.seconds_until(delivery.unsettled_until))
        handle, tries = delivery.received.receipt_handle, delivery.tries + delivery.gave_up
        try:
            await self.queue.send(handed_back_body(delivery.received.body, delivery.uploads, tries), delay)
        except (ClientError, BotoCoreError) as error:
            log.warning("could not send a message back, making it visible: %s", describe(error))
            await self.queue.set_visibility(handle, delay)
            return
        self.handed_back += 1
        await self.queue.delete([handle])

    # Visibility

    async def extend_due(self) -> list[Delivery]:
        """One beat: extends what is due. Returns those that have used up the 12 hours of SQS, to be handed back."""
        now = self.now()
        due = [delivery for delivery in self.held if delivery.extend_at <= now and not delivery.finished]
        used_up = []
        for delivery in due:
            delivery.extend_at = now + self.settings.visibility_extend_interval
            if self.visibility_left(delivery) <= self.settings.visibility_extend_interval:
                delivery.extend_at = NEVER
                used_up.append(delivery)
        for start in range(0, len(due), SQS_BATCH):
            await self.extend(due[start : start + SQS_BATCH])
        return used_up

    def visibility_left(self, delivery: Delivery) -> int:
        """Seconds SQS still allows for this receive; it refuses more (SQS API Reference, ChangeMessageVisibility)."""
        return max(0, int(delivery.received_at + MAX_SQS_VISIBILITY - self.now() - 5))

    async def extend(self, deliveries: Iterable[Delivery]) -> None:
        # Not those that have finished meanwhile: the pause before their next delivery may have been set already.
        by_handle = {delivery.received.receipt_handle: delivery for delivery in deliveries if not delivery.finished}
        if not by_handle:
            return
        timeout = self.settings.visibility_timeout
        refused = await self.queue.extend(
            {handle: min(timeout, self.visibility_left(delivery)) for handle, delivery in by_handle.items()}
        )
        for handle, code in refused.items():
            if code in LOST_RECEIPT_CODES and not by_handle[handle].finished:
                by_handle[handle].extend_at = NEVER
                log.warning("a message is no longer ours, another worker may get it: error=%s", code)

    async def until_none_is_held(self) -> None:
        while self.held:
            self.changed.clear()
            await self.changed.wait()
