"""The two buckets: the client for them, and whether they answer at all."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from mirror.model.errors import AWS_ERRORS, describe
from mirror.model.log_lines import quoted
from mirror.model.services import S3
from mirror.protocol.attempt import KeySync
from mirror.settings import Settings

log = logging.getLogger("worker")

SOURCE_CHECK_SECONDS = 60
# An overwritten key costs 6 requests if the source is looked at first, and 4 if the destination is; a new one 3 and 4.
# From a third on, the latter takes no more requests or CPU time. (In USD, 2% would do: see "What a key costs" in
# docs/design.md.)
OVERWRITTEN_SHARE = 1 / 3
CREATIONS = 64  # that the share is an average of
NO_CHECKSUMS = (
    "%s does not show the checksum of key=%s, and perhaps not of others, which are compared without: %s; if a KMS key "
    "encrypts the object, the task role needs kms:Decrypt on it"
)
CONDITIONAL_WRITES = frozenset({"CopyObject", "CompleteMultipartUpload", "DeleteObject"})


@dataclass(frozen=True)
class LeftOut:
    """What requests to the directory bucket leave out because it refuses them otherwise."""

    conditions: frozenset[str] = frozenset()  # IfMatch and IfNoneMatch, of those of the CONDITIONAL_WRITES
    encoding: bool = False  # ContentEncoding, which becomes user metadata


NOTHING_LEFT_OUT = LeftOut()


@dataclass(eq=False)
class Buckets:
    """What every request needs. `source` and `destination` are the arguments that name the bucket in a call."""

    settings: Settings
    s3: S3
    now: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time  # seconds since the epoch, for the age of objects
    left_out: LeftOut = NOTHING_LEFT_OUT  # what the destination has turned out to refuse
    # Whether the source has, or had, versions, as the latest look at one of its objects says; None before the first.
    is_versioned: bool | None = None
    # The share of the latest creations whose key the destination had already. Eight new keys in the beginning bring it
    # below OVERWRITTEN_SHARE. If a process began below, all of its slots would be taken before a copy is refused.
    overwritten: float = 0.375
    without_checksums: set[str] = field(default_factory=set)  # buckets that have refused to show one

    def __post_init__(self) -> None:
        settings = self.settings
        self.source = bucket_arguments(settings.src_bucket, settings.src_bucket_owner)
        self.destination = bucket_arguments(settings.dst_bucket, settings.dst_bucket_owner)
        self.answering = Answering(self.s3, self.source, self.destination, self.now)

    def note_no_checksums(self, bucket: str, key: str, reason: str) -> None:
        """Says it once for each bucket."""
        if bucket not in self.without_checksums:
            self.without_checksums.add(bucket)
            log.warning(NO_CHECKSUMS, bucket, quoted(key), reason)

    def note_creation(self, sync: KeySync, was_there: bool) -> None:
        """Only what the sync learns first of the destination counts: later it may be what the sync itself has made."""
        if sync.is_creation:
            sync.is_creation = False
            self.overwritten += (was_there - self.overwritten) / CREATIONS

    def expects_overwriting(self) -> bool:
        """Whether the next creation probably finds its key in the destination."""
        return self.overwritten > OVERWRITTEN_SHARE


def bucket_arguments(bucket: str, owner: str) -> dict[str, str]:
    return {"Bucket": bucket} | ({"ExpectedBucketOwner": owner} if owner else {})


def is_expired(buckets: Buckets, modified: datetime) -> bool:
    """Whether KEEP_DAYS no longer keeps a source of that time. If it is not set, this costs almost nothing."""
    wanted = buckets.settings.wanted
    return wanted.keep_days > 0 and wanted.is_expired(modified.timestamp(), buckets.wall())


@dataclass(eq=False)
class Answering:
    """Whether the buckets answer requests that name no key. Of many callers one asks, and all get its answer."""

    s3: S3
    source: dict[str, str]
    destination: dict[str, str]
    now: Callable[[], float]
    is_open: bool = False
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _source_seen: float = -math.inf  # when the source bucket answered
    _both_asked: float = -math.inf  # when both were asked for the last time
    _both_answered: bool = True  # whether they did

    async def open(self) -> None:
        """Has the client create its S3 Express sessions, before many requests would each create one."""
        async with self._lock:
            if not self.is_open:
                await self.s3.list_objects_v2(MaxKeys=1, **self.destination)
                await self.s3.open_session()
                self.is_open = True

    async def require_source(self) -> None:
        """Raises the ClientError of ListObjectsV2 if the source bucket is missing or closed. It is asked once a minute.

        HeadObject answers 404 for a missing bucket, too, and a missing bucket must not empty the destination.
        """
        async with self._lock:
            if self.now() - self._source_seen >= SOURCE_CHECK_SECONDS:
                await self.s3.list_objects_v2(MaxKeys=1, **self.source)
                self._source_seen = self.now()

    async def both_since(self, moment: float) -> bool:
        """Whether both buckets have answered after that moment: the source to the role, the destination to the session.
        If they have not, no key is to blame for its error."""
        async with self._lock:
            if self._both_asked <= moment:
                self._both_asked, self._both_answered = self.now(), True
                try:
                    for bucket in (self.source, self.destination):
                        await self.s3.list_objects_v2(MaxKeys=1, **bucket)
                except AWS_ERRORS as error:
                    log.debug("S3 does not answer for a bucket: %s", describe(error))
                    self._both_answered = False
            return self._both_answered

    def forget_source(self) -> None:
        """Has the source bucket checked again before the next missing object is believed."""
        self._source_seen = -math.inf
