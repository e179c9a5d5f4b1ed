"""Whether everything that the source holds under a prefix is in the destination: two listings, then what is missing."""

from __future__ import annotations

import functools
import itertools
import logging
import math
import time
from collections.abc import AsyncIterator, Callable
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
from mirror.readers.key_table import KeyTable
from mirror.readers.listing import folders_of, listed, size_and_time, when_not_busy

log = logging.getLogger("worker")

LANDED_SECONDS = 5  # added to COPY_TIMEOUT for the clocks of two buckets, and of the machines behind one
# By then the message that a worker which died left unfinished has come back, twice over.
SETTLED_SECONDS = 2 * MAX_SQS_VISIBILITY
SOURCE_LOOK_SECONDS = 30  # between two looks at the source for missing keys, which cost twelve times as much
SOURCE_LOOKS = 1000  # keys of each such look; the others have their turn later
# If more keys are missing, and more than a tenth of what the destination holds, the destination is listed instead of
# looked at key by key: a page of a thousand costs as much as 38 looks.
MANY = 10_000
FAR = datetime.max.replace(tzinfo=UTC)


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
    mirror_size: int = 0  # entries of the last listing of the destination
    missing: dict[str, Listed | None] = field(default_factory=dict)  # None: a ghost, whose deletion is missing
    troubles: dict[str, str] = field(default_factory=dict)  # key -> why the latest look at it failed
    newest: datetime = FAR  # a version of a later time is newer than any that was listed
    answered: datetime = FAR  # when S3 sent the last page of the source, by its own clock, which dates the versions
    source_look_at: float = -math.inf

    def __post_init__(self) -> None:
        self.looks = Slots(self.buckets.settings.max_concurrent_keys)
        self.mirrored = KeyTable()

    # Two listings

    async def compare(self) -> None:
        """Fills `missing` with every key that is or may be missing."""
        async for page in self.list_mirror():
            for item in page:
                self.mirrored.add(item["Key"], *size_and_time(item))
        self.mirror_size = self.mirrored.count
        async for page in self.listing(self.buckets.source, self.prefixes):
            await self.looks.run(self.look_at, [item["Key"] for item in page if self.add(item)])
        self.only_in_destination = self.mirrored.count
        if self.exact and self.mirrored.count:
            await self.find_ghosts()
        self.mirrored = KeyTable()
        self.source_look_at = self.buckets.now()
        if self.answered < FAR:
            self.newest = self.answered + timedelta(seconds=LANDED_SECONDS)

    async def listing(self, bucket: dict[str, str], prefixes: tuple[str, ...]) -> AsyncIterator[list[dict[str, Any]]]:
        async for page in listed(self.list_page, bucket, prefixes):
            self.interruption.check()
            yield [item for item in page if self.is_meant(item["Key"])]
            self.listed += len(page)

    def is_meant(self, key: str) -> bool:
        return key.startswith(self.prefixes) and not self.buckets.settings.wanted.excludes(key) and self.counts(key)

    def list_mirror(self) -> AsyncIterator[list[dict[str, Any]]]:
        return self.listing(self.buckets.destination, folders_of(self.prefixes))

    async def list_page(self, **parameters: Any) -> dict[str, Any]:
        call = functools.partial(self.buckets.s3.list_objects_v2, **parameters)
        bucket = parameters["Bucket"]
        page = await (when_not_busy(self.interruption, call, listing_of=bucket) if self.is_patient else call())
        if bucket == self.buckets.source["Bucket"]:
            self.answered = time_of_answer(page)
        return page

    def add(self, item: dict[str, Any]) -> bool:
        """Adds an entry of the source's listing. True if only a look at its copy can tell whether it is missing."""
        mirrored, source = self.mirrored.take(item["Key"]), size_and_time(item)
        if is_expired(self.buckets, item["LastModified"]):
            self.expired += 1
            return False
        self.keys += 1
        self.size += item["Size"]
        what = judge_listed(source, mirrored, doubt=self.doubt_of(item))
        if what == EQUAL:
            return False
        archived = item["StorageClass"] if item.get("StorageClass") in ARCHIVED_CLASSES else ""
        self.missing[item["Key"]] = Listed(item["ETag"], item["Size"], item["LastModified"], archived)
        return what == UNDECIDED

    def doubt_of(self, item: dict[str, Any]) -> float:
        """For how many seconds after its source a copy may be one of the version before, which was under way when that
        was overwritten.

        The time of a source that was uploaded in parts decides nothing: it is when the upload began (S3 User Guide,
        "Working with object metadata"), and the version before may have been put and copied since.
        """
        if self.deep or is_in_parts(item["ETag"]):
            return math.inf
        is_settled = time.time() - int(item["LastModified"].timestamp()) > self.settled
        return NO_DOUBT if is_settled else self.buckets.settings.copy_timeout + LANDED_SECONDS

    async def find_ghosts(self) -> None:
        """The table knows no names, so the destination is listed once more."""
        async for page in self.list_mirror():
            self.missing |= {item["Key"]: None for item in page if self.mirrored.take(item["Key"])}

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
        """The missing keys that may have arrived: those with a copy that is young enough, and ghosts that are gone."""
        changed = {key for key, source in self.missing.items() if source is None}
        self.mirror_size = 0
        async for page in self.list_mirror():
            self.mirror_size += len(page)
            for item in page:
                source = self.missing.get(item["Key"])
                if source and item["LastModified"] >= source.modified:
                    changed.add(item["Key"])
                else:
                    changed.discard(item["Key"])
        return list(changed)

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


def time_of_answer(answer: dict[str, Any]) -> datetime:
    """When S3 answered, by its own clock, as that of this machine may be behind. FAR if the answer does not say."""
    date = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    return parsedate_to_datetime(date) if date else FAR


def is_in_parts(etag: str) -> bool:
    """Whether the object was uploaded in parts: its ETag then ends in their number (S3 API Reference, Object)."""
    return "-" in etag
