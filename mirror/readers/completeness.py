"""Whether everything that the source holds under a prefix is in the destination: two listings, then what is missing."""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from mirror.concurrency import Slots
from mirror.model.errors import describe, is_environment
from mirror.model.limits import MAX_SQS_VISIBILITY
from mirror.model.log_lines import quoted
from mirror.protocol.attempt import Interruption
from mirror.protocol.buckets import Buckets, is_expired
from mirror.protocol.objects import ARCHIVED_CLASSES
from mirror.protocol.requests import head_destination, head_source
from mirror.protocol.verdict import (
    ABSENT,
    EQUAL,
    GHOST,
    NO_DOUBT,
    UNDECIDED,
    Listed,
    is_copy_of_later,
    judge,
    judge_listed,
)
from mirror.readers.listing import page_lister, size_and_time
from mirror.readers.walk import DESTINATION, SOURCE, Entry, Page, Walk

log = logging.getLogger("worker")

LANDED_SECONDS = 5  # added to COPY_TIMEOUT for the clocks of two buckets, and of the machines behind one
# By then the message that a worker which died left unfinished has come back, twice over.
SETTLED_SECONDS = 2 * MAX_SQS_VISIBILITY
SOURCE_LOOK_SECONDS = 30  # between two looks at the source for missing keys, which cost twelve times as much
SOURCE_LOOKS = 1000  # keys of each such look; the others have their turn later
# If more keys are missing, and more than a tenth of what the destination holds, the destination is listed instead of
# looked at key by key: a page of a thousand costs as much as 38 looks.
MANY = 10_000
NEAR, FAR = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


@dataclass(eq=False)
class Completeness:
    """The state of the source under a prefix at one moment, and what of it the destination does not have yet.

    A key has arrived once the destination has that version or one that was begun after the listing, or both sides have
    been seen equal since. compare() comes first, then look() as often as it takes. Both raise the S3 error if no key is
    at fault, Unfinished for an incomplete listing, and Interrupted.

    The two listings decide where they can; see doubt_of(). Where they cannot, the copy is looked at, page by page.
    """

    buckets: Buckets
    prefixes: tuple[str, ...]  # of PREFIX_FILTER or inside
    interruption: Interruption = field(default_factory=Interruption)
    exact: bool = False  # also waits until what the source has no longer is gone
    settled: float = SETTLED_SECONDS  # a source that has not changed for so long has no older copy under way
    deep: bool = False  # looks at every copy, as if no listing could decide
    is_patient: bool = False  # asks again for a page that S3 is too busy to list until it comes
    counts: Callable[[str], bool] = lambda _key: True  # whether a key of the source or destination is meant
    keys: int = 0  # of the source
    size: int = 0  # bytes of those
    expired: int = 0  # others, which KEEP_DAYS keeps no longer, so that they are not waited for
    only_in_destination: int = 0  # keys that the source did not have
    of_unknown_origin: int = 0  # of these, with `exact`, those that are not waited for
    listed: int = 0  # entries of both listings so far
    mirror_size: int = 0  # keys of the last listing of the destination
    missing: dict[str, Listed | None] = field(default_factory=dict)  # None: a ghost, whose deletion is missing
    troubles: dict[str, str] = field(default_factory=dict)  # key -> why the latest look at it failed
    newest: datetime = FAR  # a version of a later time is newer than any that was listed
    answered: datetime = NEAR  # when S3 sent the last page of the source, by its own clock, which dates the versions
    source_look_at: float = -math.inf

    def __post_init__(self) -> None:
        self.looks = Slots(self.buckets.settings.max_concurrent_keys)
        self.page_of = page_lister(self.buckets, self.interruption, self.is_patient)

    # Two listings

    async def compare(self) -> None:
        """Fills `missing` with every key that is or may be missing."""
        await Walk(self.prefixes, self.list_page, lambda: Compared(self), self.take).run()
        self.source_look_at = self.buckets.now()
        if self.answered < FAR:
            self.newest = self.answered + timedelta(seconds=LANDED_SECONDS)

    async def list_page(self, side: int, **parameters: str) -> Page:
        page = await self.page_of(side, **parameters)
        if side == SOURCE:
            self.answered = max(self.answered, time_of_answer(page))
        self.listed += len(page.get("Contents", []))
        return page

    async def take(self, part: Compared) -> None:
        self.keys += part.keys
        self.size += part.size
        self.expired += part.expired
        self.mirror_size += part.mirrored
        self.missing |= part.missing
        ghosts = [key for key in part.ghosts if key not in self.missing]  # which the destination may have listed twice
        self.only_in_destination += len(ghosts)
        self.missing |= dict.fromkeys(ghosts) if self.exact else {}
        await self.looks.run(self.look_at, part.doubtful)

    def is_meant(self, key: str) -> bool:
        return not self.buckets.settings.wanted.excludes(key) and self.counts(key)

    def doubt_of(self, source: Entry) -> float:
        """For how many seconds after its source a copy may be one of the version before, which was under way when that
        was overwritten.

        The time of a source that was uploaded in parts decides nothing: it is when the upload began (S3 User Guide,
        "Working with object metadata"), and the version before may have been put and copied since.
        """
        if self.deep or is_in_parts(source.etag):
            return math.inf
        is_settled = time.time() - source.modified > self.settled
        return NO_DOUBT if is_settled else self.buckets.settings.copy_timeout + LANDED_SECONDS

    # What is missing

    async def look(self) -> None:
        """Looks once at each missing key; those that have arrived are no longer in `missing`."""
        is_many = len(self.missing) > max(MANY, self.mirror_size / 10)
        keys = await self.listed_anew() if is_many else list(self.missing)
        for some in itertools.batched(keys, SOURCE_LOOKS, strict=False):
            await self.looks.run(self.look_at, some)  # which keeps a task for each until its end
        if self.buckets.now() - self.source_look_at >= SOURCE_LOOK_SECONDS:
            self.source_look_at = self.buckets.now()
            await self.looks.run(self.look_at_both, list(itertools.islice(self.missing, SOURCE_LOOKS)))

    async def listed_anew(self) -> list[str]:
        """The missing keys that may have arrived, by a listing of the destination alone."""
        found = Renewed(self.missing)

        async def list_page(side: int, **parameters: str) -> Page:
            return await self.page_of(side, **parameters) if side == DESTINATION else {"IsTruncated": False}

        async def take(_: Renewed) -> None:
            pass

        await Walk(self.prefixes, list_page, lambda: found, take).run()
        self.mirror_size = found.mirrored
        return list(found.changed)

    async def look_at(self, key: str) -> None:
        self.interruption.check()
        if await self.has_arrived(key, with_source=False):
            del self.missing[key]

    async def look_at_both(self, key: str) -> None:
        """A key that is still missing has its next turn after all others."""
        self.interruption.check()
        if await self.has_arrived(key, with_source=True):
            del self.missing[key]
        else:
            self.missing[key] = self.missing.pop(key)

    async def has_arrived(self, key: str, with_source: bool) -> bool:
        """A key that cannot be looked at counts as missing, and the reason is kept."""
        try:
            self.troubles.pop(key, None)
            return await self.shows(key, self.missing[key], with_source)
        except (ClientError, BotoCoreError, ResponseParserError) as error:
            if is_environment(error):
                raise
            self.troubles[key] = describe(error)
            log.debug("cannot look at key=%s %s", quoted(key), self.troubles[key])
            return False

    async def shows(self, key: str, version: Listed | None, with_source: bool) -> bool:
        """Whether a look shows that the key has arrived in that version or a newer one, or need not be waited for.

        The destination is looked at first, so that the source, if it is equal to that afterwards, was equal to it at
        that moment, too. Without `with_source` the source is looked at only if the copy is young enough to be one of a
        newer version. Its time alone does not decide that: the time of a multipart upload is when the upload began.
        """
        destination = await head_destination(self.buckets, key)
        found = judge(version, destination)
        if found.what in (EQUAL, ABSENT) or (version and destination and is_copy_of_later(destination, self.newest)):
            return True
        if found.what == GHOST and found.of_unknown_origin:
            self.of_unknown_origin += 1
            return True
        if not (with_source or (version and destination and destination.modified >= version.modified)):
            return False
        source = await head_source(self.buckets, key)
        expired = source is not None and is_expired(self.buckets, source.modified)
        found = judge(source, destination)
        if expired or found.what in (EQUAL, ABSENT) or (version is None and found.what != GHOST):
            return True
        if source and version:
            self.missing[key] = version._replace(archived=source.archived)
        return False


@dataclass(eq=False)
class Compared:
    """What two listings tell of a part of the buckets."""

    state: Completeness
    keys: int = 0  # of the source
    size: int = 0  # bytes of those
    expired: int = 0  # others
    mirrored: int = 0  # keys of the destination
    missing: dict[str, Listed | None] = field(default_factory=dict)
    doubtful: list[str] = field(default_factory=list)  # of these, those that only a look at the copy can tell
    ghosts: list[str] = field(default_factory=list)

    def add(self, key: str, source: Entry | None, destination: Entry | None) -> None:
        state = self.state
        if not state.is_meant(key):
            return
        self.mirrored += destination is not None
        if source is None:
            self.ghosts.append(key)
            return
        if is_expired(state.buckets, source.moment):
            self.expired += 1
            return
        self.keys += 1
        self.size += source.size
        mirrored = size_and_time(destination) if destination else None
        what = judge_listed(size_and_time(source), mirrored, doubt=state.doubt_of(source))
        if what == EQUAL:
            return
        archived = source.storage_class if source.storage_class in ARCHIVED_CLASSES else ""
        self.missing[key] = Listed(source.etag, source.size, source.moment, archived)
        if what == UNDECIDED:
            self.doubtful.append(key)


class Renewed:
    """The missing keys that may have arrived: those with a copy that is young enough, and ghosts that are gone."""

    def __init__(self, missing: dict[str, Listed | None]) -> None:
        self.missing = missing
        self.changed = {key for key, source in missing.items() if source is None}
        self.mirrored = 0  # keys of the destination

    def add(self, key: str, _: Entry | None, destination: Entry | None) -> None:
        self.mirrored += 1
        source = self.missing.get(key)
        if source and destination and destination.moment >= source.modified:
            self.changed.add(key)
        else:
            self.changed.discard(key)


def time_of_answer(answer: dict[str, Any]) -> datetime:
    """When S3 answered, by its own clock, as that of this machine may be behind. FAR if the answer does not say."""
    date = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    return parsedate_to_datetime(date) if date else FAR


def is_in_parts(etag: str) -> bool:
    """Whether the object was uploaded in parts: its ETag then ends in their number (S3 API Reference, Object)."""
    return "-" in etag
