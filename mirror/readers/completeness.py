"""Whether all that the source holds under a prefix is in the destination: two listings, then only what lacks."""

from __future__ import annotations

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

from mirror.concurrency import SideBySide
from mirror.model.errors import describe, is_busy, is_environment
from mirror.model.limits import MAX_SQS_VISIBILITY
from mirror.model.log_lines import quoted
from mirror.protocol.attempt import Interruption
from mirror.protocol.buckets import Buckets, is_expired
from mirror.protocol.objects import ARCHIVED_CLASSES, Destination
from mirror.protocol.requests import head_destination, head_source
from mirror.protocol.verdict import Listed, is_copy_of_later, is_equal
from mirror.readers.comparison import folders_of, is_older_or_other, listed, size_and_time
from mirror.readers.key_table import KeyTable

log = logging.getLogger("worker")

LANDED_SECONDS = 5  # beside COPY_TIMEOUT, for the clocks of two buckets, and of the machines behind one
# What a worker that died left to be mended has come back by then, twice over.
MENDED_SECONDS = 2 * MAX_SQS_VISIBILITY
SOURCE_LOOK_SECONDS = 30  # between two looks at the source for all that lacks; they cost twelve times as much
SOURCE_LOOKS = 1000  # keys of each; the others have their turn later
# If more keys lack, and more than a tenth of what the destination holds, then that is listed instead of a look at each:
# a page of a thousand costs as much as 38 looks.
MANY = 10_000
FAR = datetime.max.replace(tzinfo=UTC)
BUSY_PAUSES = (1.0, 2.0, 5.0, 10.0, 30.0)  # seconds between the tries of a page that S3 is too busy to list


@dataclass(eq=False)
class Completeness:
    """The state of the source under a prefix at one moment, and what of it the destination does not have yet.

    A key is here once the destination has that version or one that was begun after the listing, or both sides have been
    seen equal since. compare() comes first, then look() as often as it takes. Both raise the S3 error if no key is at
    fault, Unfinished for half a listing, Interrupted.

    The listings decide if they can. They cannot if the copy is hardly younger than the source: then it may be one of
    the version before, which was under way when that was overwritten. So a copy that is that young is looked at, page
    by page, unless the source has not changed for `mended` seconds. Nor can they if the source was uploaded in parts:
    its time is that of the upload's begin (S3 User Guide, "Working with object metadata"), and the version before may
    have been put and copied since.
    """

    buckets: Buckets
    prefixes: tuple[str, ...]  # of PREFIX_FILTER or inside
    interruption: Interruption = field(default_factory=Interruption)
    exact: bool = False  # also waits until what the source has no longer is gone
    mended: float = MENDED_SECONDS  # math.inf: for ever
    deep: bool = False  # looks at every copy, as if no listing could decide
    is_patient: bool = False  # a page that S3 is too busy to list is asked for again until it comes
    counts: Callable[[str], bool] = lambda _key: True  # whether a key of the source or destination is meant
    keys: int = 0  # of the source
    size: int = 0  # bytes of those
    expired: int = 0  # others, that KEEP_DAYS keeps no longer: they are not waited for
    only_in_destination: int = 0  # keys that the source did not have
    listed: int = 0  # entries of both listings so far
    mirror_size: int = 0  # entries of the last listing of the destination
    lacking: dict[str, Listed | None] = field(default_factory=dict)  # None: the source has it no longer
    troubles: dict[str, str] = field(default_factory=dict)  # key -> why it could not be looked at, the last time
    newest: datetime = FAR  # a version of a later time is newer than any that was listed
    answered: datetime = FAR  # when S3 sent the last page of the source, by its own clock, which dates the versions
    source_look_at: float = -math.inf

    def __post_init__(self) -> None:
        self.looks = SideBySide(self.buckets.settings.max_concurrent_keys)
        self.mirrored = KeyTable()

    # Two listings

    async def compare(self) -> None:
        """Fills `lacking` with what lacks, or may lack."""
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
        for pause in itertools.chain(BUSY_PAUSES, itertools.repeat(BUSY_PAUSES[-1])):
            try:
                page = await self.buckets.s3.list_objects_v2(**parameters)
                if parameters["Bucket"] == self.buckets.source["Bucket"]:
                    self.answered = time_of_answer(page)
                return page
            except (ClientError, BotoCoreError, ResponseParserError) as error:
                if not (self.is_patient and is_busy(error)):
                    raise
                log.warning("cannot list %s, again in %d s: %s", parameters["Bucket"], pause, describe(error))
            await self.interruption.pause(pause)
        raise AssertionError("pauses without end")

    def add(self, item: dict[str, Any]) -> bool:
        """An entry of the source's listing. True if only a look at its copy can tell whether that is one."""
        mirrored, source = self.mirrored.take(item["Key"]), size_and_time(item)
        if is_expired(self.buckets, item["LastModified"]):
            self.expired += 1
            return False
        self.keys += 1
        self.size += item["Size"]
        differs = mirrored is None or is_older_or_other(mirrored, source)
        if mirrored and not differs and not is_in_parts(item["ETag"]) and self.is_surely_here(mirrored, source):
            return False
        archived = item["StorageClass"] if item.get("StorageClass") in ARCHIVED_CLASSES else ""
        self.lacking[item["Key"]] = Listed(item["ETag"], item["Size"], item["LastModified"], archived)
        return not differs

    def is_surely_here(self, mirrored: tuple[int, int], source: tuple[int, int]) -> bool:
        """Both as size_and_time gives them, and by that equal."""
        landed = mirrored[1] - source[1] > self.buckets.settings.copy_timeout + LANDED_SECONDS
        return not self.deep and (landed or time.time() - source[1] > self.mended)

    async def find_ghosts(self) -> None:
        """The table knows no names, so the destination is listed once more."""
        async for page in self.list_mirror():
            self.lacking |= {item["Key"]: None for item in page if self.mirrored.take(item["Key"])}

    # What lacks

    async def look(self) -> None:
        """Once at each key that lacks; those that are here by now are no longer in `lacking`."""
        is_many = len(self.lacking) > max(MANY, self.mirror_size / 10)
        keys = await self.listed_anew() if is_many else list(self.lacking)
        for some in itertools.batched(keys, SOURCE_LOOKS, strict=False):
            await self.looks.run(self.look_at, some)  # which keeps a task for each until its end
        if self.is_source_look_due():
            self.source_look_at = self.buckets.now()
            await self.looks.run(self.look_at_both, list(itertools.islice(self.lacking, SOURCE_LOOKS)))

    async def listed_anew(self) -> list[str]:
        """Of the keys that lack those that may be here by now: which have a copy that is young enough, or are gone."""
        changed = {key for key, wanted in self.lacking.items() if wanted is None}
        self.mirror_size = 0
        async for page in self.list_mirror():
            self.mirror_size += len(page)
            for item in page:
                wanted = self.lacking.get(item["Key"])
                if wanted and item["LastModified"] >= wanted.modified:
                    changed.add(item["Key"])
                else:
                    changed.discard(item["Key"])
        return list(changed)

    async def look_at(self, key: str) -> None:
        self.interruption.check()
        if await self.is_here(key, with_source=False):
            del self.lacking[key]

    async def look_at_both(self, key: str) -> None:
        """Its next turn is behind those of the others."""
        self.interruption.check()
        if await self.is_here(key, with_source=True):
            del self.lacking[key]
        else:
            self.lacking[key] = self.lacking.pop(key)

    def is_source_look_due(self) -> bool:
        return self.buckets.now() - self.source_look_at >= SOURCE_LOOK_SECONDS

    async def is_here(self, key: str, with_source: bool) -> bool:
        """A trouble with the key alone is noted, and it counts as lacking."""
        try:
            self.troubles.pop(key, None)
            return await self.shows(key, self.lacking[key], with_source)
        except (ClientError, BotoCoreError, ResponseParserError) as error:
            if is_environment(error):
                raise
            self.troubles[key] = describe(error)
            log.debug("cannot look at key=%s %s", quoted(key), self.troubles[key])
            return False

    async def shows(self, key: str, wanted: Listed | None, with_source: bool) -> bool:
        """The destination is looked at first: what the source then still is, it was at that moment, too."""
        destination = await head_destination(self.buckets, key)
        if (
            wanted
            and destination
            and (is_equal(destination, wanted, deep=False) or is_copy_of_later(destination, self.newest))
        ):
            return True
        if wanted is None and (destination is None or not destination.provenance):
            return True  # gone, or never a copy of ours
        if not (with_source or (wanted and destination and is_newer_copy(destination, wanted))):
            return False
        source = await head_source(self.buckets, key)
        if source is None:
            return destination is None
        if is_expired(self.buckets, source.modified):
            return True
        if wanted is None or (destination and is_equal(destination, source, deep=False)):
            return True
        self.lacking[key] = wanted._replace(archived=source.archived)
        return False


def time_of_answer(answer: dict[str, Any]) -> datetime:
    """By the clock of S3, not by that of this machine, which may be behind; FAR if the answer does not say."""
    date = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    return parsedate_to_datetime(date) if date else FAR


def is_in_parts(etag: str) -> bool:
    """Whether the object was uploaded so: then its ETag ends in the number of parts (S3 API Reference, Object)."""
    return "-" in etag


def is_newer_copy(destination: Destination, wanted: Listed) -> bool:
    """Whether it may be a copy of what the source has become since, so that a look at the source may show it equal. By
    its time alone it may be one of before: the time of a multipart upload is that of its begin."""
    return destination.modified >= wanted.modified
