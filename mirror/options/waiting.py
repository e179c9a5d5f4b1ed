"""How a key waits for others: markers (COPY_LAST) and tables (TABLES) alike."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol
from weakref import WeakValueDictionary

from mirror.concurrency import Slots, WorkOff, work_off
from mirror.model.errors import Postponed, Refused
from mirror.model.limits import MAX_SQS_DELAY
from mirror.model.log_lines import WAITS, quoted
from mirror.protocol.attempt import LONGEST_WAIT, KeySync
from mirror.protocol.buckets import Buckets
from mirror.protocol.verdict import SourceSide, utc_text
from mirror.readers.completeness import Completeness, budget_of

log = logging.getLogger("worker")

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0  # seconds between two looks at what is missing
LOOK_SHARE = 4  # but a pause lasts this many times as long as the look before it ...
LONGEST_SHARE = 300.0  # ... or this many seconds
LOOKS_PER_SECOND = 50  # of all keys that wait, at what is missing
SHORTEST_DELAY = 5  # seconds until a postponed key is delivered again: a quarter of its age
DELAY_OF_UNKNOWN_AGE = 60
ARCHIVED_SECONDS = 60  # a restore takes minutes at least (S3 User Guide, "Archive retrieval options")
SHORTEST_ROUND = 60  # seconds: a key skips one of the moments in delay_of() that is nearer than this
LATE_SECONDS = 3600  # a key that has waited for longer is worth a warning
# What is being copied already is looked for again, for this many seconds, before it is copied once more.
UNDER_WAY_SECONDS, PAUSE_OF_LOOKS = 2.0, 0.1


class Awaited(Protocol):
    """What a key waits for: Completeness, or Blocked."""

    @property
    def prefixes(self) -> tuple[str, ...]: ...
    @property
    def lacking(self) -> int: ...  # how many keys are missing, of which some are in `missing`
    @property
    def missing(self) -> Mapping[str, SourceSide | None]: ...
    @property
    def troubles(self) -> Mapping[str, str]: ...
    @property
    def may_arrive(self) -> bool: ...  # False if all that is missing is archived
    async def look(self) -> Awaited: ...


@dataclass(frozen=True)
class Blocked:
    """A single key that does not arrive, and why."""

    key: str
    why: str
    lacking: int = 1
    may_arrive: bool = True

    @property
    def prefixes(self) -> tuple[str, ...]:
        return (self.key,)

    @property
    def missing(self) -> Mapping[str, SourceSide | None]:
        return {self.key: None}

    @property
    def troubles(self) -> Mapping[str, str]:
        return {self.key: self.why}

    async def look(self) -> Blocked:
        """It is looked at when the key that waits is delivered again."""
        return self


class Waits:
    """What waits in one worker, and shares the looks.

    `slots` and `work_off` do many things at a time, as those of mirror/concurrency.py; `wall` returns seconds since the
    epoch.
    """

    def __init__(
        self,
        buckets: Buckets,
        slots: Callable[[int], Slots] = Slots,
        work_off: WorkOff = work_off,
        wall: Callable[[], float] | None = None,
    ) -> None:
        self.buckets = buckets
        self.slots = slots
        self.wall = wall or buckets.wall
        self.budget = budget_of(buckets, slots=slots, work_off=work_off)

    async def aside(self, sync: KeySync, wait: Callable[[], Awaitable[Awaited | None]]) -> None:
        """Has the sync wait, while other keys use its slot. `wait` returns what does not arrive.

        Raises Postponed if something does not, or if too many wait already; Refused if it has waited for too long; and
        Interrupted.
        """
        if not sync.host.wait_aside(sync):
            raise Postponed("too many wait at once", self.delay_of(sync), is_exact=True)
        if missing := await wait():
            raise self.end_of_wait(sync, missing)
        await sync.host.come_back(sync)

    async def compared(
        self, sync: KeySync, folder: str, counts: Callable[[str], bool], is_for_marker: bool
    ) -> Completeness:
        """What is missing under the folder, after a look; for a marker also what is to go, whatever its age."""
        sync.interruption.check()
        state = Completeness(
            self.buckets,
            self.buckets.settings.wanted.under(folder),
            sync.interruption,
            exact=is_for_marker,
            trusts_age=not is_for_marker,
            counts=counts,
            shared=self.budget,
        )
        await state.compare()
        return await state.look()

    async def wait_for(self, sync: KeySync, state: Awaited) -> Awaited | None:
        """Looks again while less and less is missing and more may arrive. Returns None once nothing is missing,
        otherwise what still is when no key has arrived for `patience` seconds. Raises Interrupted."""
        now, patience = self.buckets.now, self.buckets.settings.patience
        sync.waiting_since = self.since_of(sync)
        if state.lacking and state.may_arrive:
            self.log_wait(logging.INFO, sync, state)
        pause, least, progressed = FIRST_PAUSE, state.lacking, now()
        while state.lacking:
            if now() - progressed >= patience or not state.may_arrive:
                return state
            await sync.interruption.pause(pause)
            began = now()
            state = await state.look()
            if state.lacking < least:
                least, progressed = state.lacking, now()
            pause = max(min(2 * pause, LONGEST_PAUSE), min(LOOK_SHARE * (now() - began), LONGEST_SHARE))
            pause = max(pause, len(self.budget.states) / LOOKS_PER_SECOND)
        return None

    async def soon(self, sync: KeySync, is_so: Callable[[], Awaitable[bool]]) -> bool:
        """Whether it is so within a moment, in which what is under way may arrive."""
        until = self.buckets.now() + UNDER_WAY_SECONDS
        while not await is_so():
            if self.buckets.now() >= until:
                return False
            await sync.interruption.pause(PAUSE_OF_LOOKS)
        return True

    # How long it has waited

    def end_of_wait(self, sync: KeySync, state: Awaited) -> Postponed | Refused:
        """What to raise: Postponed, or Refused if the key has waited for too long."""
        self.log_wait(logging.WARNING if self.age_of(sync) > LATE_SECONDS else logging.INFO, sync, state)
        since, delay = self.since_of(sync), self.delay_of(sync)
        if self.wall() - since < LONGEST_WAIT:
            delay = delay if state.may_arrive else max(delay, ARCHIVED_SECONDS)
            return Postponed("what it needs is not there yet", delay, is_exact=True, waiting_since=since)
        key, why = example_of(state)
        return Refused(f"it waits for {state.lacking} keys since {text_of(since)}, such as {key}: {why}")

    def log_wait(self, level: int, sync: KeySync, state: Awaited) -> None:
        (key, why), prefixes = example_of(state), ",".join(state.prefixes)
        values = quoted(sync.key), state.lacking, quoted(prefixes), quoted(key), why, text_of(self.since_of(sync))
        log.log(level, WAITS, *values)

    def since_of(self, sync: KeySync) -> float:
        return sync.waiting_since or self.wall()

    def age_of(self, sync: KeySync) -> float:
        """Seconds since the event; 0 if the message does not say when that was."""
        return self.wall() - sync.event_time if sync.event_time else 0.0

    def delay_of(self, sync: KeySync) -> float:
        """Seconds until the key is delivered again: the longer it has waited, the longer. In the end all that wait are
        delivered at the same moments, every 15 minutes, so that one worker handles all of them, and of several messages
        on one key a single one is left."""
        if sync.event_time is None:
            return DELAY_OF_UNKNOWN_AGE
        delay = max(self.age_of(sync) / 4, SHORTEST_DELAY)
        if delay < MAX_SQS_DELAY:
            return delay
        until_next = math.ceil(MAX_SQS_DELAY - self.wall() % MAX_SQS_DELAY)
        return until_next if until_next > SHORTEST_ROUND else MAX_SQS_DELAY


def text_of(moment: float) -> str:
    return utc_text(datetime.fromtimestamp(moment, UTC))


def example_of(state: Awaited) -> tuple[str, str]:
    """A key that is missing, and why; if there is one, a key that will not arrive by itself."""
    archived = (key for key, source in state.missing.items() if source and source.archived)
    key = next(iter(state.troubles), None) or next(archived, None) or next(iter(state.missing))
    source = state.missing[key]
    if key in state.troubles:
        return key, f"trouble: {state.troubles[key]}"
    if source is None:
        return key, "only in the destination"
    return key, "archived" if source.archived else "not equal yet"


@dataclass(eq=False)
class Latest[T]:
    """The latest look at something, as long as somebody waits for it: when it began, and what it showed."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    shown: tuple[float, T] | None = None


class Coalesced[T]:
    """A look that many keys ask for at the same time. One of them looks, and all that were waiting when it began get
    its answer."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.latest: WeakValueDictionary[str, Latest[T]] = WeakValueDictionary()

    async def get(self, sync: KeySync, what: str, look: Callable[[], Awaitable[T]]) -> T:
        asked, latest = self.now(), self.latest.setdefault(what, Latest())
        async with latest.lock:
            sync.interruption.check()
            if latest.shown is None or latest.shown[0] <= asked:
                began = self.now()
                latest.shown = began, await look()
            return latest.shown[1]
