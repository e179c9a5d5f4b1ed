"""One sync of one key: what it is asked to do, what has come of it, and what it calls on the way."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from mirror.concurrency import wait_at_most
from mirror.model.errors import Interrupted
from mirror.model.selection import SECONDS_OF_DAY
from mirror.protocol.objects import Destination, Source
from mirror.protocol.verdict import EQUAL

# A key that waits for others for longer (COPY_LAST, TABLES) fails, and its message is parked: they will hardly come by
# themselves. A bulk restore from Deep Archive takes 48 hours (S3 User Guide, "Archive retrieval options").
LONGEST_WAIT = 3 * SECONDS_OF_DAY


class Interruption(asyncio.Event):
    """Stops a sync before its next step once it is set. A request that is already under way is not cut short."""

    def check(self) -> None:
        if self.is_set():
            raise Interrupted

    async def pause(self, seconds: float) -> None:
        """Sleeps. Raises Interrupted as soon as the interruption is set."""
        if await wait_at_most(self.wait(), seconds):
            raise Interrupted


class Host:
    """Runs syncs, and is called by each of them as it goes on. This one is for a sync that runs by itself."""

    def look_begins(self, sync: KeySync) -> None:
        """The source is read next, so whatever is known by now is covered by what that shows."""

    def overtaken(self, sync: KeySync) -> None:
        """The destination is what the latest look at the source showed, but the source has changed since."""

    def progressed(self, sync: KeySync, since: float) -> None:
        """A part was copied by a request that began at that time."""

    def has_slot(self, _sync: KeySync) -> bool:
        """Whether the sync holds one of the slots that other keys wait for."""
        return False

    def step_aside(self, _sync: KeySync) -> bool:
        """Gives the slot of a sync that will last to another key, if it holds one. False if too many last already."""
        return True

    def wait_aside(self, _sync: KeySync) -> bool:
        """The same of a sync that waits for other keys, which leaves room for those to step aside."""
        return True

    async def come_back(self, sync: KeySync) -> None:
        """Waits for a slot again. Only a sync that had one calls this."""

    async def look_later(self, key: str, delay: float, is_ghost: bool = False) -> None:
        """Has another key, which this sync has changed, synced after that many seconds; or a ghost, which it has found,
        and which is deleted only if it is ours."""


@dataclass(frozen=True)
class Upload:
    """A multipart upload under way, as it is handed on to the next worker."""

    upload_id: str
    source: str  # identity of the source version it was begun for
    part_size: int


class Sight(NamedTuple):
    """Both sides as an attempt saw them; None: nothing is there, or it was not looked at."""

    source: Source | None = None
    destination: Destination | None = None


@dataclass(eq=False, slots=True)
class Result:
    """What has come of a sync so far."""

    action: Literal["copied", "deleted", "skipped"] = "skipped"  # the latest write, if there was one
    end: str = EQUAL  # what the latest attempt left: EQUAL, ABSENT, EXPIRED, which allows for both, or FOREIGN
    size: int = 0  # bytes that were copied
    sight: Sight = Sight()  # noqa: RUF009 a value; of the latest attempt
    parts: int = 0  # of a large object, copied so far
    busy: int = 0  # answers that S3 is too busy, or none in time
    may_land_until: float = 0.0  # a write without an answer may take effect until then
    with_session: float = -math.inf  # when the latest look at the destination that S3 answered began: it uses a session


@dataclass(eq=False, slots=True)
class KeySync:
    """What a sync is asked to do. Of the worker it knows only its host: neither messages nor slots."""

    key: str
    destination_first: bool = False  # the key is probably in the destination, so that is read before the source
    is_creation: bool = False  # an event says so, and it is not known yet whether the destination had the key before
    redelivered: bool = False  # an earlier delivery may have died half way
    compares_bytes: bool = False  # reconcile --deep has found other bytes, so checksums are looked at, too
    spares_foreign: bool = False  # no event names the key, so only a copy of ours may be deleted
    event_time: float | None = None  # of the oldest event, in seconds since the epoch
    waiting_since: float | None = None  # of a key that was put off as it waits for others, in seconds since the epoch
    upload: Upload | None = None  # begun by an earlier delivery; afterwards, the one to go on with in the next
    interruption: Interruption = field(default_factory=Interruption)
    host: Host = field(default_factory=Host)
    result: Result = field(default_factory=Result)
