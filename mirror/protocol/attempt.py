"""One sync of one key: what it was asked, what it has come to, and how it is told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from mirror.model.errors import Interrupted, outcome_unknown
from mirror.protocol.buckets import NOTHING, Buckets, LeftOut
from mirror.protocol.parts import Upload


class Interruption:
    """Tells a sync to stop before its next step; what it waits for in S3 is not cut short."""

    def __init__(self) -> None:
        self.event = asyncio.Event()

    def set(self) -> None:
        self.event.set()

    def is_set(self) -> bool:
        return self.event.is_set()

    def check(self) -> None:
        if self.event.is_set():
            raise Interrupted

    async def pause(self, seconds: float) -> None:
        """Raises Interrupted, at once if told so meanwhile."""
        try:
            await asyncio.wait_for(self.event.wait(), seconds)
        except TimeoutError:
            return
        raise Interrupted


class Host(Protocol):
    """Who runs a sync, and is told how it goes on."""

    def look_begins(self, sync: KeySync) -> None:
        """What is known now is in the look at the source that follows."""

    def overtaken(self, sync: KeySync) -> None:
        """The destination is what that look showed, the source no longer."""

    def progressed(self, sync: KeySync, since: float) -> None:
        """A part was copied by a request that began then."""

    def has_place(self, sync: KeySync) -> bool:
        """It is one of those that others wait for."""

    def step_aside(self, sync: KeySync) -> bool:
        """It will last, so others may begin in its place, if it has one. False if too many last already."""

    async def come_back(self, sync: KeySync) -> None:
        """It goes on, and waits for a place: only for one that it had."""

    async def look_later(self, key: str, delay: float) -> None:
        """Another key that it touched is to be synced by somebody, after so many seconds."""


class Alone:
    """The host of a sync that has nobody beside it."""

    def look_begins(self, sync: KeySync) -> None: ...
    def overtaken(self, sync: KeySync) -> None: ...
    def progressed(self, sync: KeySync, since: float) -> None: ...
    def has_place(self, _sync: KeySync) -> bool:
        return False

    def step_aside(self, _sync: KeySync) -> bool:
        return True

    async def come_back(self, sync: KeySync) -> None: ...
    async def look_later(self, key: str, delay: float) -> None: ...


ALONE = Alone()


@dataclass(eq=False)
class KeySync:
    """The protocol knows of the rest of the worker only what stands here: no messages, no slots."""

    key: str
    # What it was asked
    destination_first: bool = False  # the key is probably there already: begin with the destination
    redelivered: bool = False  # an earlier delivery may have died half way
    event_time: float | None = None  # seconds since the epoch, of the oldest event
    waiting_since: float | None = None  # seconds since the epoch, of a marker that was put off before
    interruption: Interruption = field(default_factory=Interruption)
    host: Host = ALONE
    # What it has come to
    upload: Upload | None = None  # to go on with; given by an earlier delivery, and handed on to the next
    action: str = "skipped"  # or "copied", "deleted": what was done at last
    size: int = 0  # bytes that were copied
    left_out: LeftOut = NOTHING  # what it tries to do without
    refusal: str = ""  # why
    unsettled_until: float = 0.0  # until then a write that got no answer may still take effect
    # How often it had to begin again
    sight: Any = None  # what both sides are
    expired: bool = False  # KEEP_DAYS keeps that source no longer
    misses: int = 0  # a change came between look and write
    refused_sight: Any = None  # what both sides were then
    stuck: int = 0  # and yet both sides were as before
    changes: int = 0  # a change came after the write
    busy: int = 0  # answers since the last progress
    busy_since: float = 0.0

    def progress(self, since: float) -> None:
        """A part was copied by a request that began then."""
        self.busy = 0
        self.host.progressed(self, since)


@contextmanager
def write_call(buckets: Buckets, sync: KeySync) -> Iterator[None]:
    """Around a call that changes what a reader sees: not begun after an interruption, and if no answer came, noted
    until when it may still take effect."""
    sync.interruption.check()
    try:
        yield
    except (Exception, asyncio.CancelledError) as error:
        if isinstance(error, asyncio.CancelledError) or outcome_unknown(error):
            sync.unsettled_until = buckets.now() + buckets.settings.copy_timeout
        raise
