"""How a key waits for others: markers (COPY_LAST) and tables (TABLES) alike."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from weakref import WeakValueDictionary

from mirror.concurrency import Slots, WorkOff, work_off
from mirror.model.errors import AWS_ERRORS, Postponed, Refused, describe, is_environment
from mirror.model.log_lines import WAITS, log, quoted
from mirror.model.services import MAX_SQS_DELAY
from mirror.protocol.attempt import LONGEST_WAIT, KeySync
from mirror.protocol.buckets import Buckets
from mirror.protocol.objects import Source, utc_text
from mirror.readers.completeness import Completeness, budget_of

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


class Blocked:
    """A single key that does not arrive, and why. It is looked at when the key that waits is delivered again."""

    lacking = 1

    def __init__(self, key: str, why: str, may_arrive: bool = True) -> None:
        self.key, self.why, self.may_arrive = key, why, may_arrive
        self.prefixes: tuple[str, ...] = (key,)
        self.missing: dict[str, Source | None] = {key: None}
        self.troubles = {key: why}

    async def look(self) -> Blocked:
        return self


@dataclass(eq=False)
class AwaitedFiles:
    """Files that the destination does not have yet, as far as the source has them: they have unique names, and are
    never overwritten."""

    buckets: Buckets
    slots: Slots
    prefixes: tuple[str, ...]
    missing: dict[str, Source | None]
    troubles: dict[str, str] = field(default_factory=dict)

    @property
    def lacking(self) -> int:
        return len(self.missing)

    @property
    def may_arrive(self) -> bool:
        return not all(source and source.archived for source in self.missing.values())

    async def look(self) -> AwaitedFiles:
        await self.slots.run(self.look_at, list(self.missing))
        return self

    async def look_at(self, key: str) -> None:
        """A key that cannot be looked at is awaited, and the reason is kept: its own message finds out what it is."""
        try:
            if not await self.buckets.head_destination(key):
                self.missing[key] = await self.buckets.head_source(key)
                if self.missing[key]:
                    return
        except AWS_ERRORS as error:
            if is_environment(error):
                raise
            self.troubles[key] = describe(error)
            return
        del self.missing[key]
        self.troubles.pop(key, None)


# What a key waits for: how many keys under which `prefixes` are `lacking`, those that are known to be `missing`, the
# `troubles` with some of them, and whether they `may_arrive` by themselves.
type Awaited = Completeness | AwaitedFiles | Blocked


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
        if self.wall() - since >= LONGEST_WAIT:
            key, why = example_of(state)
            return Refused(f"it waits for {state.lacking} keys since {text_of(since)}, such as {key}: {why}")
        if not state.may_arrive:
            delay = max(delay, ARCHIVED_SECONDS)
        return Postponed("what it needs is not there yet", delay, is_exact=True, waiting_since=since)

    def log_wait(self, level: int, sync: KeySync, state: Awaited) -> None:
        key, why = example_of(state)
        prefixes, since = ",".join(state.prefixes), text_of(self.since_of(sync))
        log.log(level, WAITS, quoted(sync.key), state.lacking, quoted(prefixes), quoted(key), why, since)

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


def remember[V](latest: dict[str, V], key: str, value: V, most: int) -> None:
    """Adds a key; if there are as many as that, the oldest is forgotten."""
    if len(latest) >= most:
        del latest[next(iter(latest))]
    latest[key] = value


@dataclass(eq=False)
class Latest[T]:
    """The latest look at something, while somebody waits for it: when it began, and what it showed."""

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
