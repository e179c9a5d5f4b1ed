"""Whether all that the source holds under a prefix is in the destination: two listings, then only what lacks."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from mirror.buckets import Buckets
from mirror.comparison import is_equal, is_older_or_other, listed_prefix, size_and_time
from mirror.errors import describe, is_of_surroundings
from mirror.key_sync import Interruption
from mirror.key_table import KeyTable
from mirror.limits import MAX_SQS_VISIBILITY
from mirror.log_lines import quoted
from mirror.objects import ARCHIVED_CLASSES, Destination, is_copy_of_listed
from mirror.s3 import head_destination, head_source, pages
from mirror.side_by_side import SideBySide

log = logging.getLogger("worker")

LANDED_SECONDS = 5  # beside COPY_TIMEOUT, for the clocks of two buckets
# What a worker that died left to be mended has come back by then, twice over.
MENDED_SECONDS = 2 * MAX_SQS_VISIBILITY
SOURCE_LOOK_SECONDS = 30  # between two looks at the source for all that lacks; they cost twelve times as much
SOURCE_LOOKS = 1000  # not for more keys


class Listed(NamedTuple):
    """An object of the source as the listing showed it."""

    etag: str
    size: int
    modified: datetime
    archived: bool  # its copy has to wait until it is restored


@dataclass(eq=False)
class Completeness:
    """The state of the source under a prefix at one moment, and what of it the destination does not have yet.

    A key is here once the destination has that version, or both sides have been seen equal since. compare() comes
    first, then look() as often as it takes. Both raise the S3 error if no key is at fault, Unfinished for half a
    listing, Interrupted.

    The listings decide if they can. They cannot if the copy is hardly younger than the source: then it may be one of
    the version before, which was under way when that was overwritten. So a copy that is that young is looked at, unless
    the source has not changed for `mended` seconds.
    """

    buckets: Buckets
    prefix: str
    interruption: Interruption = field(default_factory=Interruption)
    exact: bool = False  # also waits until what the source has no longer is gone
    mended: float = MENDED_SECONDS  # math.inf: for ever
    counts: Callable[[str], bool] = lambda _key: True  # whether a key of the source or destination is meant
    keys: int = 0  # of the source
    size: int = 0  # bytes of those
    only_in_destination: int = 0  # keys that the source did not have
    listed: int = 0  # entries of both listings so far
    lacking: dict[str, Listed | None] = field(default_factory=dict)  # None: the source has it no longer
    troubles: dict[str, str] = field(default_factory=dict)  # key -> why it could not be looked at, the last time
    source_look_at: float = -math.inf

    def __post_init__(self) -> None:
        self.looks = SideBySide(self.buckets.settings.max_concurrent_keys)
        self.mirrored = KeyTable()

    # Two listings

    async def compare(self) -> None:
        """Fills `lacking` with what lacks as far as the listings tell, or may lack."""
        async for page in self.listing(self.buckets.destination, listed_prefix(self.prefix)):
            for item in page:
                self.mirrored.add(item["Key"], *size_and_time(item))
        async for page in self.listing(self.buckets.source, self.prefix):
            for item in page:
                self.add(item)
        self.only_in_destination = self.mirrored.count
        if self.exact and self.mirrored.count:
            await self.find_ghosts()
        self.mirrored = KeyTable()
        self.source_look_at = self.buckets.now()

    async def listing(self, bucket: dict[str, str], prefix: str) -> AsyncIterator[list[dict[str, Any]]]:
        async for page in pages(self.buckets.s3.list_objects_v2, {"Prefix": prefix, **bucket}):
            self.interruption.check()
            found = page.get("Contents", [])
            yield [item for item in found if item["Key"].startswith(self.prefix) and self.counts(item["Key"])]
            self.listed += len(found)

    def add(self, item: dict[str, Any]) -> None:
        """An entry of the source's listing."""
        self.keys += 1
        self.size += item["Size"]
        if not self.is_surely_here(self.mirrored.take(item["Key"]), size_and_time(item)):
            archived = item.get("StorageClass") in ARCHIVED_CLASSES
            self.lacking[item["Key"]] = Listed(item["ETag"], item["Size"], item["LastModified"], archived)

    def is_surely_here(self, mirrored: tuple[int, int] | None, source: tuple[int, int]) -> bool:
        """Both as size_and_time gives them."""
        if mirrored is None or is_older_or_other(mirrored, source):
            return False
        landed = mirrored[1] - source[1] > self.buckets.settings.copy_timeout + LANDED_SECONDS
        return landed or time.time() - source[1] > self.mended

    async def find_ghosts(self) -> None:
        """The table knows no names, so the destination is listed once more."""
        async for page in self.listing(self.buckets.destination, listed_prefix(self.prefix)):
            self.lacking |= {item["Key"]: None for item in page if self.mirrored.take(item["Key"])}

    # What lacks

    async def look(self) -> None:
        """Once at each key that lacks; those that are here by now are no longer in `lacking`."""
        with_source = len(self.lacking) <= SOURCE_LOOKS and self.is_source_look_due()
        if with_source:
            self.source_look_at = self.buckets.now()

        async def look_at(key: str) -> None:
            self.interruption.check()
            if await self.is_here(key, with_source):
                self.lacking.pop(key, None)
                self.troubles.pop(key, None)

        await self.looks.run(look_at, list(self.lacking))

    def is_source_look_due(self) -> bool:
        return self.buckets.now() - self.source_look_at >= SOURCE_LOOK_SECONDS

    async def is_here(self, key: str, with_source: bool) -> bool:
        """A trouble with the key alone is noted, and it counts as lacking."""
        try:
            return await self.shows(key, self.lacking[key], with_source)
        except (ClientError, BotoCoreError, ResponseParserError) as error:
            if is_of_surroundings(error):
                raise
            self.troubles[key] = describe(error)
            log.debug("cannot look at key=%s %s", quoted(key), self.troubles[key])
            return False

    async def shows(self, key: str, wanted: Listed | None, with_source: bool) -> bool:
        """The destination is looked at first: what the source then still is, it was at that moment, too."""
        destination = await head_destination(self.buckets, key)
        if wanted and destination and is_that_copy(destination, wanted):
            return True
        if wanted is None and (destination is None or not destination.provenance):
            return True  # gone, or never a copy of ours
        if not (with_source or (wanted and destination and is_newer_copy(destination, wanted))):
            return False
        source = await head_source(self.buckets, key)
        if source is None:
            return destination is None
        return wanted is None or bool(destination and is_equal(destination, source, deep=False))


def is_that_copy(destination: Destination, wanted: Listed) -> bool:
    known = is_copy_of_listed(destination, wanted.etag, wanted.modified, wanted.size)
    if known is not None:
        return known
    there = destination.size, int(destination.modified.timestamp())
    return not is_older_or_other(there, (wanted.size, int(wanted.modified.timestamp())))


def is_newer_copy(destination: Destination, wanted: Listed) -> bool:
    """Whether it may be a copy of what the source has become since, so that a look at the source may show it equal."""
    return destination.modified >= wanted.modified
