"""What SQS lent us: each received message, until it is deleted, tried later, or handed back."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from botocore.exceptions import BotoCoreError, ClientError

from mirror.model.errors import HANDED_BACK, LOST_RECEIPT_CODES, GaveUp, Interrupted, Postponed, describe
from mirror.model.limits import MAX_SQS_VISIBILITY, SQS_BATCH
from mirror.model.log_lines import quoted
from mirror.protocol.parts import Upload
from mirror.queue.bodies import Content, handed_back_body, read_body, still_waiting_since
from mirror.queue.queue import Queue, Received
from mirror.settings import Settings

log = logging.getLogger("worker")

SETTLERS = 4
SETTLERS_THAT_ANNOUNCE = 16  # each waits for EventBridge, too
SETTLE_SECONDS = 0.2  # for so long a finished message waits for others, as ten are deleted in one call
DELETE_AGAIN_SECONDS = 10
SETTLE_AT_MOST = 60  # seconds for a batch; less than a stopping worker has
NEVER = float("inf")


@dataclass(eq=False)
class Delivery:
    """One receive of a message, and what is left to do for it."""

    received: Received
    received_at: float
    visible_at: float  # then SQS gives it to another, if it is not told anything
    due_at: float  # then it is told again, by the heartbeat
    keys: set[str] = field(default_factory=set)  # not through yet
    uploads: dict[str, Upload] = field(default_factory=dict)  # key -> upload to go on with
    tries: int = 0  # so many workers gave up on it and handed it on
    event_time: float | None = None  # seconds since the epoch, of the newest event in it
    destination_first: bool = False  # its keys are probably in the destination already
    waiting_since: float | None = None  # see Content
    failed: str = ""  # the key that failed
    interrupted: bool = False
    gave_up: bool = False  # so does this one
    postpone: int = 0  # seconds for which it stays out of sight when it is handed back
    unsettled_until: float = 0.0  # until then a write for it may still take effect
    finished: bool = False  # all keys are through: no more extending
    sent: bool = False  # anew: only to be deleted
    show_at: float | None = None  # it is to be visible then; held until SQS has taken that
    events: list[str] = field(default_factory=list)  # to be announced before it is deleted


@dataclass(eq=False)
class Deliveries:
    """All that this process holds."""

    settings: Settings
    queue: Queue
    now: Callable[[], float] = time.monotonic
    announce: Callable[[list[str]], Awaitable[None]] | None = None
    held: set[Delivery] = field(default_factory=set)
    finished: list[Delivery] = field(default_factory=list)  # not settled yet
    undeleted: list[Delivery] = field(default_factory=list)  # SQS was asked to delete them, and did not
    some_finished: asyncio.Event = field(default_factory=asyncio.Event)
    changed: asyncio.Event = field(default_factory=asyncio.Event)  # set when there is less to do
    handed_back: int = 0

    # A delivery begins

    async def receive(self, wait: int) -> list[Delivery]:
        """Held from now on. Raises the error of ReceiveMessage."""
        settings, visibility = self.settings, self.settings.shortest_visibility
        received = await self.queue.receive(min(wait, settings.wait_time_seconds), visibility)
        now = self.now()
        first = now + settings.visibility_extend_interval / 2  # half, as SQS may not answer at once
        deliveries = [Delivery(item, now, now + visibility, first) for item in received]
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
        delivery.waiting_since = still_waiting_since(content, delivery.received.sent_at)

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
        if isinstance(error, Postponed):
            pause = int(error.seconds if error.is_exact else min(pause, error.seconds))
            delivery.waiting_since = error.waiting_since or delivery.waiting_since
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
            batch = self.take_batch()
            try:
                await asyncio.wait_for(self.settle(batch), SETTLE_AT_MOST)
            except TimeoutError:
                self.leave_to_heartbeat(batch)

    def leave_to_heartbeat(self, batch: list[Delivery]) -> None:
        """It asks SQS for the same again."""
        left = [delivery for delivery in batch if delivery in self.held]
        log.warning("SQS does not answer, asking again for %d messages", len(left))
        for delivery in left:
            if delivery.failed or (delivery.interrupted and not delivery.sent):
                self.show_after_pause(delivery)
                delivery.due_at = self.now()
            else:
                self.delete_later(delivery)

    def delete_later(self, delivery: Delivery) -> None:
        """Once it is visible it comes again anyhow, and is found done."""
        if self.now() >= delivery.visible_at:
            self.let_go(delivery)
            return
        delivery.due_at = self.now() + DELETE_AGAIN_SECONDS
        self.undeleted.append(delivery)

    def delete_again(self) -> None:
        now = self.now()
        again = [delivery for delivery in self.undeleted if delivery.due_at <= now]
        if again:
            self.undeleted = [delivery for delivery in self.undeleted if delivery.due_at > now]
            self.finished += again
            self.some_finished.set()

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
            elif delivery.interrupted and not delivery.sent:
                await self.hand_back(delivery)
        await self.announce_all(batch)
        done = [delivery for delivery in batch if delivery.show_at is None]
        left = await self.queue.delete([delivery.received.receipt_handle for delivery in done])
        for delivery in done:
            if delivery.received.receipt_handle in left:
                self.delete_later(delivery)
            else:
                self.let_go(delivery)

    async def announce_all(self, batch: list[Delivery]) -> None:
        """Before they are deleted: if this process dies now, they come again and are announced again."""
        events = [event for delivery in batch for event in delivery.events]
        if self.announce and events:
            await self.announce(events)
            for delivery in batch:
                delivery.events = []

    def let_go(self, delivery: Delivery) -> None:
        self.held.discard(delivery)
        self.changed.set()

    async def retry_later(self, delivery: Delivery) -> None:
        what = "goes to the dead-letter queue" if self.is_last(delivery) else "is tried again"
        log.info("message of key=%s %s in %d s", quoted(delivery.failed), what, self.pause(delivery))
        self.show_after_pause(delivery)
        await self.tell([delivery])

    def is_last(self, delivery: Delivery) -> bool:
        return delivery.received.receive_count >= self.settings.max_receives

    def pause(self, delivery: Delivery) -> int:
        """Seconds until it is tried again: growing, and not before a copy without an answer must have ended."""
        receives = delivery.received.receive_count
        grows = delivery.failed and not self.is_last(delivery)
        pause = self.settings.retry_base_seconds * 4 ** (receives - 1) if grows else 0
        pause = max(pause, delivery.postpone, self.seconds_until(delivery.unsettled_until))
        return min(pause, self.visibility_left(delivery))

    async def hand_back(self, delivery: Delivery) -> None:
        """Sends the message anew, so that an interruption does not use up a receive; then the old one can go."""
        delay = max(delivery.postpone, self.seconds_until(delivery.unsettled_until))
        tries = delivery.tries + delivery.gave_up
        body = handed_back_body(delivery.received.body, delivery.uploads, tries, delivery.waiting_since)
        try:
            await self.queue.send(body, delay, delivery.received.group)
        except (ClientError, BotoCoreError) as error:
            log.warning("could not send a message back, making it visible: %s", describe(error))
            self.show_after_pause(delivery)
            await self.tell([delivery])
            return
        self.handed_back += 1
        delivery.sent = True

    # Visibility

    def show_after_pause(self, delivery: Delivery) -> None:
        delivery.show_at = self.now() + self.pause(delivery)
        delivery.due_at = NEVER  # told by who calls this; the heartbeat repeats it

    def due(self) -> list[Delivery]:
        now = self.now()
        return [delivery for delivery in self.held if delivery.due_at <= now and self.is_to_tell(delivery)]

    def is_to_tell(self, delivery: Delivery) -> bool:
        """Not those that have finished meanwhile: they are settled, some with a pause before their next delivery."""
        return not delivery.finished or delivery.show_at is not None

    def used_up(self) -> list[Delivery]:
        """Those that have used up the 12 hours of SQS, to be handed back: also one that came to that between this
        question and its extension, and is therefore not due any more."""
        return [delivery for delivery in self.held if self.is_to_tell(delivery) and self.is_used_up(delivery)]

    def is_used_up(self, delivery: Delivery) -> bool:
        return self.visibility_left(delivery) <= self.settings.visibility_extend_interval

    async def extend_due(self) -> None:
        """One beat: tells SQS what is due. If it does not take that, the rest is due at the next beat, too."""
        self.delete_again()
        due = self.due()
        for start in range(0, len(due), SQS_BATCH):
            if not await self.tell(due[start : start + SQS_BATCH]):
                return

    def visibility_left(self, delivery: Delivery) -> int:
        """Seconds SQS still allows for this receive; it refuses more (SQS API Reference, ChangeMessageVisibility)."""
        return max(0, int(delivery.received_at + MAX_SQS_VISIBILITY - self.now() - 5))

    async def tell(self, deliveries: Iterable[Delivery]) -> bool:
        """Extends the visibility of at most ten, or has them visible at their time. False if SQS took none of it."""
        by_handle = {item.received.receipt_handle: item for item in deliveries if self.is_to_tell(item)}
        if not by_handle:
            return True
        seconds = {handle: self.seconds_invisible(delivery) for handle, delivery in by_handle.items()}
        shown = {handle for handle, delivery in by_handle.items() if delivery.show_at is not None}
        refused = await self.queue.set_visibility(seconds)
        for handle, delivery in by_handle.items():
            if handle in shown:
                self.note_shown(delivery, refused.get(handle, ""))
            else:
                self.note_extended(delivery, seconds[handle], refused.get(handle, ""))
        return len(refused) < len(by_handle)

    def seconds_invisible(self, delivery: Delivery) -> int:
        """From now on."""
        is_shown = delivery.show_at is not None
        seconds = self.seconds_until(delivery.show_at or 0.0) if is_shown else self.settings.visibility_timeout
        return min(seconds, self.visibility_left(delivery))

    def note_shown(self, delivery: Delivery, refusal: str) -> None:
        delivery.due_at = self.now()
        if not refusal or refusal in LOST_RECEIPT_CODES or self.now() >= delivery.visible_at:
            self.let_go(delivery)

    def note_extended(self, delivery: Delivery, seconds: int, refusal: str) -> None:
        now = self.now()
        if refusal in LOST_RECEIPT_CODES and not delivery.finished:
            delivery.due_at = NEVER
            log.warning("a message is no longer ours, another worker may get it: error=%s", refusal)
        elif refusal:
            delivery.due_at = now
        elif delivery.show_at is not None:  # it is to be visible, and SQS may have taken this last
            delivery.due_at = now
            self.held.add(delivery)
        elif not delivery.finished:
            delivery.visible_at = now + seconds
            delivery.due_at = NEVER if self.is_used_up(delivery) else now + self.settings.visibility_extend_interval

    async def show_all(self) -> None:
        """The last step of an end: makes visible what could be neither settled nor sent anew; what is under way is
        not to come back before it must have ended."""
        left = list(self.held)
        log.warning("making %d messages visible, as they could not be sent back", len(left))
        for delivery in left:
            if not delivery.finished:
                self.note_unsettled(delivery, self.now() + self.settings.copy_timeout)
            self.show_after_pause(delivery)
        batches = [left[start : start + SQS_BATCH] for start in range(0, len(left), SQS_BATCH)]
        await asyncio.gather(*map(self.tell, batches))

    async def until_none_is_held(self) -> None:
        while self.held:
            self.changed.clear()
            await self.changed.wait()


def one_of(deliveries: list[Delivery]) -> tuple[list[Delivery], list[Delivery]]:
    """The message with the oldest event, and the others, such as those of each reconcile."""
    kept = min(deliveries, key=lambda delivery: delivery.event_time or math.inf)
    return [kept], [delivery for delivery in deliveries if delivery is not kept]
