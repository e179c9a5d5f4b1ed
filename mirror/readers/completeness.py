"""Whether everything that the source holds under a prefix is in the destination: two listings, then what is missing."""

from __future__ import annotations

import asyncio
import functools
import itertools
import math
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from weakref import WeakSet

from mirror.concurrency import Slots, WorkOff, work_off
from mirror.model.errors import AWS_ERRORS, describe, is_environment
from mirror.model.log_lines import log, quoted
from mirror.model.services import MAX_SQS_VISIBILITY
from mirror.protocol.attempt import Interruption
from mirror.protocol.buckets import LANDED_SECONDS, Buckets
from mirror.protocol.objects import ARCHIVED_CLASSES, Destination, Listed, Source, have_same_bytes
from mirror.protocol.verdict import (
    ABSENT,
    CORRUPT,
    EQUAL,
    FOREIGN,
    GHOST,
    NO_DOUBT,
    UNDECIDED,
    is_equal,
    judge,
    judge_listed,
)
from mirror.readers.listing import Listings, is_in_parts, look_at, page_lister, pieces
from mirror.readers.walk import SOURCE, Entry, KeyTable, Page, Walk, entry_table

# By then the message that a worker which died left unfinished has come back, twice over.
SETTLED_SECONDS = 2 * MAX_SQS_VISIBILITY
SOURCE_LOOK_SECONDS = 30  # between two looks at the source for missing keys, which cost twelve times as much
# Limits shared by everything that waits in one process: keys in memory, at 430 bytes each, and looks a round, at the
# destination and at the source. LEAST_* is what each gets in any case.
NAMES, LOOKS, SOURCE_LOOKS = 50_000, 256, 1000
LEAST_NAMES, LEAST_LOOKS = 20, 8
MOST_LOOKS = 1000  # before it is decided again whether to go on
RELIST_SECONDS, RELIST_SHARE = 30, 4  # both sides are listed again after this long, or this many times the listing
MOST_PROBES = 8  # looks at the source that are to show whether it has versions
NEAR, FAR = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


@dataclass(eq=False)
class Budget:
    """What all that wait in one process share."""

    slots: Slots
    listings: Listings
    names: int = NAMES
    looks: int = LOOKS
    source_looks: int = SOURCE_LOOKS
    work_off: WorkOff = work_off
    states: WeakSet[Completeness] = field(default_factory=WeakSet)

    def names_of(self, state: Completeness) -> int:
        """How many it may remember: half of what the others leave, so that the next one gets some, too."""
        others = sum(len(other.missing) for other in self.states if other is not state)
        return max(LEAST_NAMES, (self.names - others) // 2)

    def share_of_one(self, looks: int) -> int:
        return max(LEAST_LOOKS, looks // max(1, len(self.states)))


def budget_of(
    buckets: Buckets, names: int = NAMES, slots: Callable[[int], Slots] = Slots, work_off: WorkOff = work_off
) -> Budget:
    settings = buckets.settings
    listings = Listings(settings.task_memory)
    return Budget(slots(settings.max_concurrent_keys), listings, names, work_off=work_off)


@dataclass
class Overflow:
    """Missing keys beyond those that are remembered."""

    keys: int = 0
    size: int = 0
    archived: int = 0
    ghosts: int = 0


@dataclass(eq=False)
class Completeness:
    """The state of the source under a prefix at one moment, and what of it the destination does not have yet.

    A key has arrived once the destination has that version or one that was begun after the listing, or both sides have
    been seen equal since. compare() comes first, then look() as often as it takes. Both raise the S3 error if no key is
    at fault, Unfinished for an incomplete listing, and Interrupted.

    The two listings decide where they can; see doubt_of(). Where they cannot, the copy is looked at.

    Not all missing keys are remembered if they are many. The others are counted, and what look() returns then is from
    time to time the state at another moment, until it is small enough.
    """

    buckets: Buckets
    prefixes: tuple[str, ...]  # of PREFIX_FILTER or inside
    interruption: Interruption = field(default_factory=Interruption)
    exact: bool = False  # also waits until what the source has no longer is gone
    trusts_age: bool = True  # a source that has not changed for SETTLED_SECONDS has no older copy under way
    deep: bool = False  # looks at both sides of every key, and compares their checksums
    may_arrive = True  # what is missing
    is_patient: bool = False  # asks again for a page that S3 is too busy to list until it comes
    counts: Callable[[str], bool] = lambda _key: True  # whether a key of the source or destination is meant
    shared: Budget | None = None  # None: nothing else waits in this process

    keys: int = field(default=0, init=False)  # of the source
    size: int = field(default=0, init=False)  # bytes of those
    expired: int = field(default=0, init=False)  # others, which KEEP_DAYS keeps no longer: they are not waited for
    only_in_destination: int = field(default=0, init=False)  # keys that the source did not have
    of_unknown_origin: int = field(default=0, init=False)  # of these, with `exact`, those that are not waited for
    checked: int = field(default=0, init=False)  # with `deep`, keys that checksums have shown to have arrived
    unchecked: int = field(default=0, init=False)  # others: one of the sides has no such checksum
    # What is remembered of the missing keys; None: a ghost, whose deletion is missing. And the others.
    missing: dict[str, Listed | None] = field(default_factory=dict, init=False)
    more: Overflow = field(default_factory=Overflow, init=False)
    troubles: dict[str, str] = field(default_factory=dict, init=False)  # key -> why the latest look at it failed
    unjudged: set[str] = field(default_factory=set, init=False)  # keys that may be ghosts, of which no look succeeded
    corrupt: set[str] = field(default_factory=set, init=False)  # keys whose checksums differ, with `deep`
    newest: datetime = field(default=FAR, init=False)  # a version of a later time is newer than any that was listed
    # When S3 sent the last page of the source, by its own clock, which dates the versions.
    answered: datetime = field(default=NEAR, init=False)
    source_look_at: float = field(default=-math.inf, init=False)

    def __post_init__(self) -> None:
        self.budget = self.shared or budget_of(self.buckets)
        self.budget.states.add(self)
        self.page_of = page_lister(self.buckets, self.interruption, self.is_patient)
        self.walk: Walk[ListedPart] | None = None  # while it is under way: it holds this in turn
        self.probing, self.probes = asyncio.Lock(), 0

    @property
    def lacking(self) -> int:
        """How many keys are or may be missing."""
        return len(self.missing) + self.more.keys

    def ghosts(self) -> list[str]:
        """The missing keys of which a look has shown that only the destination has them, as copies of ours."""
        return [key for key, version in self.missing.items() if version is None and key not in self.unjudged]

    # Two listings

    async def compare(self) -> None:
        """Finds every key that is or may be missing."""
        began, work_off = self.buckets.now(), self.budget.work_off
        self.walk = Walk(self.prefixes, self.list_page, lambda: ListedPart(self), self.take, work_off)
        try:
            with self.budget.listings.begun(self):
                await self.walk.run()
        finally:
            self.walk = None
        self.source_look_at = self.compared_at = self.buckets.now()
        self.took, self.remembered = self.compared_at - began, len(self.missing)
        if self.answered < FAR:
            self.newest = self.answered + timedelta(seconds=LANDED_SECONDS)

    async def list_page(self, side: int, **parameters: str) -> Page:
        async with self.budget.listings.page(self, self.interruption):
            page = await self.page_of(side, **parameters)
        if side == SOURCE:
            self.answered = max(self.answered, time_of_answer(page))
            await self.learn_of_versions(page)
        return page

    async def learn_of_versions(self, page: Page) -> None:
        """Looks at a key of the source, unless one was looked at already: only the answer says whether the source has
        versions. While that is not known, it counts as if it had some."""
        async with self.probing:
            is_needed = self.buckets.settings.may_roll_back and self.buckets.is_versioned is None and not self.deep
            if not is_needed or self.probes == MOST_PROBES:
                return
            keys = (item["Key"] for item in page.get("Contents", []) if item["Key"].startswith(self.prefixes))
            key = next(filter(self.is_meant, keys), None)
            if key is None:
                return
            self.probes += 1
            try:
                await self.buckets.head_source(key)
            except AWS_ERRORS as error:
                if is_environment(error):
                    raise
                log.debug("cannot look at key=%s of the source: %s", quoted(key), describe(error))

    async def take(self, part: ListedPart) -> None:
        self.keys += part.keys
        self.size += part.size
        self.expired += part.expired
        for key, entry in self.drain(part.missing):
            self.note(key, version_of(entry))
        await self.budget.slots.run(self.look_first, self.drain(part.doubtful))
        ghosts = (key for key, _ in self.drain(part.ghosts) if key not in self.missing)
        if self.exact:
            await self.budget.slots.run(self.look_at_ghost, ghosts)
        else:  # nobody waits for them, so the number is that of the listings
            self.only_in_destination += sum(1 for _ in ghosts)

    def drain(self, table: KeyTable[Entry]) -> Iterator[tuple[str, Entry]]:
        """Removes all keys; see pieces()."""
        for some in pieces(table.take_all(), self.buckets.settings.task_memory):
            self.room = self.budget.names_of(self)
            yield from some

    def note(self, key: str, version: Listed | None) -> None:
        if key in self.missing or len(self.missing) < self.room:
            self.missing[key] = version or self.missing.get(key)
            return
        self.troubles.pop(key, None)
        self.corrupt.discard(key)
        self.more.keys += 1
        self.more.size += version.size if version else 0
        self.more.archived += bool(version and version.archived)
        self.more.ghosts += version is None

    def is_meant(self, key: str) -> bool:
        return not self.buckets.settings.wanted.excludes(key) and self.counts(key)

    def doubt_of(self, source: Entry) -> float:
        """For how many seconds after its source a copy may be one of the version before, which was under way when that
        was overwritten.

        The time of a source that was uploaded in parts decides nothing: it is when the upload began (S3 User Guide,
        "Working with object metadata"), and the version before may have been put and copied since. Nor does that of a
        version that may be current again because a newer one was deleted permanently.
        """
        if self.deep or is_in_parts(source.etag) or self.may_be_rolled_back():
            return math.inf
        is_settled = self.trusts_age and self.buckets.wall() - source.modified > SETTLED_SECONDS
        return NO_DOUBT if is_settled else self.buckets.settings.copy_timeout + LANDED_SECONDS

    def may_be_rolled_back(self) -> bool:
        return self.buckets.settings.may_roll_back and self.buckets.is_versioned is not False

    # What is missing

    async def look(self) -> Completeness:
        """Looks at missing keys; those that have arrived are no longer in `missing`. Returns itself, or what has become
        of a new comparison."""
        await self.look_in_destination()
        if self.buckets.now() - self.source_look_at >= SOURCE_LOOK_SECONDS:
            self.source_look_at = self.buckets.now()
            await self.look_on_both_sides()
        if not self.is_to_be_listed():
            return self
        anew = replace(self)
        await anew.compare()
        return anew

    def is_to_be_listed(self) -> bool:
        """If there are more keys than are remembered, and of those half have arrived, or a while is over: they may be
        just those that never arrive."""
        if not self.more.keys:
            return False
        since = self.buckets.now() - self.compared_at
        if not self.missing or since >= max(RELIST_SECONDS, RELIST_SHARE * self.took):
            return True
        return 2 * len(self.missing) <= self.remembered and since >= self.took

    async def look_in_destination(self) -> None:
        """Looks at some keys, chosen at random. If most of them have arrived, it looks at all others. Otherwise it goes
        on with the first ones while most of these have arrived, because keys often arrive in their order.

        Each time it looks at a quarter as many as before, so that most looks find a key that has arrived, however often
        this is called.
        """
        share = self.budget.share_of_one(self.budget.looks)
        keys = list(self.missing)
        chosen = set(keys if len(keys) <= share else random.sample(keys, share))
        are_most_here = await self.have_most_arrived([key for key in keys if key in chosen])

        looked, rest = 0, [key for key in keys if key not in chosen]
        while rest:
            some, rest = rest[:share], rest[share:]
            looked += len(some)
            share = min(max(share, looked // 4), MOST_LOOKS)
            if not (await self.have_most_arrived(some) or are_most_here):
                return

    async def look_on_both_sides(self) -> None:
        share = self.budget.share_of_one(self.budget.source_looks)
        for some in itertools.batched(list(self.missing), share, strict=False):
            if not await self.have_most_arrived(some, with_source=True):
                return

    async def have_most_arrived(self, keys: Sequence[str], with_source: bool = False) -> bool:
        await self.budget.slots.run(functools.partial(self.look_at, with_source), keys)
        return 2 * sum(key not in self.missing for key in keys) >= len(keys)

    async def look_first(self, found: tuple[str, Entry]) -> None:
        """At a key of which the listings could not say whether it is missing."""
        self.interruption.check()
        key, version = found[0], version_of(found[1])
        if not await self.has_arrived(key, self.shows(key, version, with_source=False)):
            self.note(key, version)

    async def look_at_ghost(self, key: str) -> None:
        """At a key that only the destination has, as far as the listings show. A listing may show a key twice, and then
        this is one that both sides have. Those that are only counted are not looked at."""
        self.interruption.check()
        is_only_counted = len(self.missing) >= self.room
        self.only_in_destination += is_only_counted
        if is_only_counted or not await self.has_arrived(key, self.shows_no_ghost(key)):
            self.note(key, None)

    async def look_at(self, with_source: bool, key: str) -> None:
        """A key that is still missing on both sides has its next turn after all others."""
        self.interruption.check()
        if await self.has_arrived(key, self.shows(key, self.missing[key], with_source)):
            del self.missing[key]
        elif with_source:
            self.missing[key] = self.missing.pop(key)

    async def has_arrived(self, key: str, shows: Awaitable[bool]) -> bool:
        """A key that cannot be looked at counts as missing, and the reason is kept."""
        try:
            has_arrived = await shows
        except AWS_ERRORS as error:
            if is_environment(error):
                raise
            self.troubles[key] = describe(error)
            log.debug("cannot look at key=%s %s", quoted(key), self.troubles[key])
            return False
        self.troubles.pop(key, None)
        return has_arrived

    async def shows(self, key: str, version: Listed | None, with_source: bool) -> bool:
        """Whether a look shows that the key has arrived in that version or a newer one, or need not be waited for.

        The destination is looked at first, so that the source, if it is equal to that afterwards, was equal to it at
        that moment, too. Without `with_source` the source is looked at only if the copy is young enough to be one of a
        newer version. Its time alone does not decide that: the time of a multipart upload is when the upload began.

        With `deep`, the source of a copy that seems to have arrived is looked at as well, like in `reconcile --deep`.
        """
        if key in self.unjudged:
            return await self.shows_no_ghost(key)
        destination = await self.buckets.head_destination(key, self.deep)
        what = judge(version, destination).what
        is_here = what == EQUAL or (destination is not None and destination.is_copy_of_later(self.newest))
        if what == ABSENT or (is_here and not self.deep):
            return True
        if what == FOREIGN:
            self.of_unknown_origin += 1
            return True

        is_young = version is not None and destination is not None and destination.modified >= version.modified
        if not (is_here or is_young or with_source):
            return False
        source = await self.buckets.head_source(key, self.deep)
        if self.are_equal(key, source, destination) or (is_here and is_of_another(destination, source)):
            if version:
                self.count_checked(source, destination)
            return True
        if source and version and key in self.missing:
            self.missing[key] = version._replace(archived=source.archived)
        return False

    def are_equal(self, key: str, source: Source | None, destination: Destination | None) -> bool:
        """Or the source has expired, so that nothing is to be waited for."""
        same_bytes = have_same_bytes(source, destination)
        what = judge(source, destination, deep=self.deep, same_bytes=same_bytes).what
        if what == CORRUPT:
            self.corrupt.add(key)
        else:
            self.corrupt.discard(key)
        has_expired = source is not None and self.buckets.is_expired(source.modified)
        return has_expired or what in (EQUAL, ABSENT)

    def count_checked(self, source: Source | None, destination: Destination | None) -> None:
        """The checksums of a version that came since say nothing of a copy of the one that was listed."""
        if not (self.deep and source and destination) or self.buckets.is_expired(source.modified):
            return
        is_checked = have_same_bytes(source, destination) is not None and not is_of_another(destination, source)
        self.checked += is_checked
        self.unchecked += not is_checked

    async def shows_no_ghost(self, key: str) -> bool:
        """Whether a look shows that both sides are equal, or that the copy is of unknown origin."""
        self.unjudged.add(key)
        _, found = await look_at(self.buckets, key, self.deep)
        self.unjudged.discard(key)
        self.only_in_destination += found.category in (GHOST, FOREIGN)
        self.of_unknown_origin += found.category == FOREIGN
        return found.category in ("", "unwanted", FOREIGN)


@dataclass(eq=False)
class ListedPart:
    """What two listings show of a part of the buckets."""

    state: Completeness
    keys: int = 0  # of the source
    size: int = 0  # bytes of those
    expired: int = 0  # others
    # What the source has of keys that are missing, or may be, which only a look can show; and the ghosts.
    missing: KeyTable[Entry] = field(default_factory=entry_table)
    doubtful: KeyTable[Entry] = field(default_factory=entry_table)
    ghosts: KeyTable[Entry] = field(default_factory=entry_table)

    def add(self, key: str, source: Entry | None, destination: Entry | None) -> None:
        state = self.state
        if not state.is_meant(key):
            return
        if source is None:
            if destination:
                self.ghosts.put(key, destination)
            return
        if state.buckets.is_expired(source.moment):
            self.expired += 1
            return
        self.keys += 1
        self.size += source.size
        mirrored = destination.size_and_time if destination else None
        what = judge_listed(source.size_and_time, mirrored, doubt=state.doubt_of(source))
        if what != EQUAL:
            (self.doubtful if what == UNDECIDED else self.missing).put(key, source)


def is_of_another(destination: Destination | None, source: Source | None) -> bool:
    """Whether the copy says that it is one of another version than the source has now, which may have none."""
    if destination is None or source is None:
        return source is None
    return bool(destination.provenance) and not is_equal(destination, source, deep=False)


def version_of(entry: Entry) -> Listed:
    archived = entry.storage_class if entry.storage_class in ARCHIVED_CLASSES else ""
    return Listed(entry.etag, entry.size, entry.moment, archived)


def time_of_answer(answer: dict[str, Any]) -> datetime:
    """When S3 answered, by its own clock: that of this machine may be behind. FAR if the answer does not say."""
    date = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    return parsedate_to_datetime(date) if date else FAR
