"""The two buckets: the client for them, whether they answer, and a method for each request that names a key."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from mirror.model.client import S3Client
from mirror.model.denials import UNEXPLAINED
from mirror.model.errors import AWS_ERRORS, Interrupted, Unfinished, describe, error_code, outcome_unknown
from mirror.model.log_lines import FOREIGN_STAYS, log, quoted
from mirror.model.services import MIB
from mirror.protocol.attempt import KeySync
from mirror.protocol.objects import Destination, Source, destination_from_head, metadata_to_send, source_from_head
from mirror.settings import Settings

SOURCE_CHECK_SECONDS = 60
LANDED_SECONDS = 5  # added to COPY_TIMEOUT for the clocks of two buckets, and of the machines behind one
# An overwritten key costs 6 requests if the source is looked at first, and 4 if the destination is; a new one 3 and 4.
# From a third on, the latter takes no more requests or CPU time. (In USD, 2% would do: see "What a key costs" in
# docs/design.md.)
OVERWRITTEN_SHARE = 1 / 3
CREATIONS = 64  # that the share is an average of
FOREIGN_KEPT = 10_000  # keys of foreign objects that are remembered, so that each is named once
NO_CHECKSUMS = (
    "%s does not show the checksum of key=%s, and perhaps not of others, which are compared without: %s; if a KMS key "
    "encrypts the object, the task role needs kms:Decrypt on it"
)
CONDITIONAL_WRITES = frozenset({"CopyObject", "CompleteMultipartUpload", "DeleteObject"})
# A directory bucket takes only the empty tag set, and no annotations. With the defaults of both directives S3 answers
# 501 for a source that has some (S3 API Reference, CopyObject).
COPY_DIRECTIVES = {"TaggingDirective": "REPLACE", "AnnotationDirective": "EXCLUDE"}
WITH_CHECKSUMS = {"ChecksumMode": "ENABLED"}  # of HeadObject, which costs no more
SMALL_COPY_SIZE = 64 * MIB  # S3 copies this in seconds

# The parameter that continues a listing, and the field of the previous page that it takes.
NEXT_PAGE = {
    "ContinuationToken": "NextContinuationToken",
    "PartNumberMarker": "NextPartNumberMarker",
    "KeyMarker": "NextKeyMarker",
    "UploadIdMarker": "NextUploadIdMarker",
}


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
    s3: S3Client
    now: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time  # seconds since the epoch, for the age of objects
    left_out: LeftOut = NOTHING_LEFT_OUT  # what the destination has turned out to refuse
    # Whether the source has, or had, versions, as the latest look at one of its objects says; None before the first.
    is_versioned: bool | None = None
    # The share of the latest creations whose key the destination had already. Eight new keys in the beginning bring it
    # below OVERWRITTEN_SHARE. If a process began below, all of its slots would be taken before a copy is refused.
    overwritten: float = 0.375
    without_checksums: set[str] = field(default_factory=set)  # buckets that have refused to show one
    foreign: dict[str, None] = field(default_factory=dict)  # keys of foreign objects that were named, the oldest first

    def __post_init__(self) -> None:
        settings = self.settings
        self.source = bucket_arguments(settings.src_bucket, settings.src_bucket_owner)
        self.destination = bucket_arguments(settings.dst_bucket, settings.dst_bucket_owner)
        self.is_open = False  # open() was called
        self.asking = asyncio.Lock()  # of many callers one asks whether a bucket answers, and all get its answer
        self.source_seen = -math.inf  # when the source bucket answered
        self.both_asked = -math.inf  # when both were asked for the last time
        self.both_answered = True  # whether they did

    def note_no_checksums(self, bucket: str, key: str, reason: str) -> None:
        """Says it once for each bucket."""
        if bucket not in self.without_checksums:
            self.without_checksums.add(bucket)
            log.warning(NO_CHECKSUMS, bucket, quoted(key), reason)

    def note_foreign(self, key: str, consequence: str) -> None:
        """Says once for each key that a foreign object stays, and what that means for readers."""
        if key in self.foreign:
            return
        if len(self.foreign) >= FOREIGN_KEPT:
            del self.foreign[next(iter(self.foreign))]
        self.foreign[key] = None
        log.warning(FOREIGN_STAYS, quoted(key), consequence)

    def note_creation(self, sync: KeySync, was_there: bool) -> None:
        """Only what the sync learns first of the destination counts: later it may be what the sync itself has made."""
        if sync.is_creation:
            sync.is_creation = False
            self.overwritten += (was_there - self.overwritten) / CREATIONS

    def expects_overwriting(self) -> bool:
        """Whether the next creation probably finds its key in the destination."""
        return self.overwritten > OVERWRITTEN_SHARE

    def is_expired(self, modified: datetime) -> bool:
        """Whether KEEP_DAYS no longer keeps a source of that time. If it is not set, this costs almost nothing."""
        wanted = self.settings.wanted
        return wanted.keep_days > 0 and wanted.is_expired(modified.timestamp(), self.wall())

    # Whether they answer requests that name no key

    async def open(self) -> None:
        """Has the client create its S3 Express sessions, before many requests would each create one."""
        async with self.asking:
            if not self.is_open:
                await self.s3.list_objects_v2(MaxKeys=1, **self.destination)
                await self.s3.open_session()
                self.is_open = True

    async def require_source(self) -> None:
        """Raises the ClientError of ListObjectsV2 if the source bucket is missing or closed. It is asked once a minute.

        HeadObject answers 404 for a missing bucket, too, and a missing bucket must not empty the destination.
        """
        async with self.asking:
            if self.now() - self.source_seen >= SOURCE_CHECK_SECONDS:
                await self.s3.list_objects_v2(MaxKeys=1, **self.source)
                self.source_seen = self.now()

    async def both_answered_since(self, moment: float) -> bool:
        """Whether both buckets have answered after that moment: the source to the role, the destination to the session.
        If they have not, no key is to blame for its error."""
        async with self.asking:
            if self.both_asked <= moment:
                self.both_asked, self.both_answered = self.now(), True
                try:
                    for bucket in (self.source, self.destination):
                        await self.s3.list_objects_v2(MaxKeys=1, **bucket)
                except AWS_ERRORS as error:
                    log.debug("S3 does not answer for a bucket: %s", describe(error))
                    self.both_answered = False
            return self.both_answered

    def forget_source(self) -> None:
        """Has the source bucket checked again before the next missing object is believed."""
        self.source_seen = -math.inf

    # Looking

    async def head(self, bucket: dict[str, str], key: str, checksums: bool = False) -> dict[str, Any] | None:
        """The answer of HeadObject, or None if there is no object (a delete marker counts as none) or no bucket.

        `checksums`: with those that S3 keeps of the object. If it refuses to show them, which needs kms:Decrypt for an
        object with SSE-KMS (S3 API Reference, HeadObject), they are left out.
        """
        try:
            return await self.s3.head_object(Key=key, **(WITH_CHECKSUMS if checksums else {}), **bucket)
        except ClientError as error:
            if error_code(error) in ("404", "NoSuchKey"):
                return None
            if checksums and error_code(error) in (*UNEXPLAINED, "501"):
                found = await self.head(bucket, key)
                self.note_no_checksums(bucket["Bucket"], key, describe(error))
                return found
            if error_code(error) in UNEXPLAINED:
                await self.explain(bucket, key, error)
            raise

    async def explain(self, bucket: dict[str, str], key: str, error: ClientError) -> None:
        """Raises HeadObject's error with the code and the message that S3 gives for it, such as ExpiredToken or the
        reason of AccessDenied. Returns if there is none.

        The answer to a HEAD has no body, so its code is only "400" or "403". GetObject needs the same permission, and
        its answer has a body; the one byte that it may read is not kept.
        """
        try:
            await self.s3.get_object(Key=key, Range="bytes=0-0", **bucket)
        except ClientError as explanation:
            if str(explanation.response.get("ResponseMetadata", {}).get("HTTPStatusCode")) in UNEXPLAINED:
                raise ClientError(explanation.response, error.operation_name) from error
        except BotoCoreError as failure:
            log.debug("no reason found for the %s of key=%s: %s", error_code(error), quoted(key), describe(failure))

    async def head_source(self, key: str, checksums: bool = False) -> Source | None:
        found = await self.head(self.source, key, checksums)
        if found is None:
            await self.require_source()
            return None
        self.is_versioned = "VersionId" in found
        return source_from_head(found)

    async def head_destination(self, key: str, checksums: bool = False) -> Destination | None:
        found = await self.head(self.destination, key, checksums)
        return destination_from_head(found) if found else None

    async def read(self, bucket: dict[str, str], key: str, etag: str) -> bytes:
        """The bytes of that version of a small object, for what only its content shows. Workers read nothing else."""
        answer = await self.s3.get_object(Key=key, IfMatch=etag, **bucket)
        return bytes(answer["Body"])

    # Writing

    @contextmanager
    def write_call(
        self, sync: KeySync, existing: Destination | None, left_out: LeftOut, operation: str
    ) -> Iterator[dict[str, str]]:
        """Wraps a request that changes what a reader sees, and yields its condition: S3 refuses the write unless the
        destination is still what it was. The request is not sent after an interruption. If it gets no answer, the time
        until which it may still take effect is recorded."""
        if sync.interruption.is_set():
            raise Interrupted
        condition = {"IfMatch": existing.etag} if existing else {"IfNoneMatch": "*"}
        try:
            yield {} if operation in left_out.conditions else condition
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) or outcome_unknown(error):
                sync.result.may_land_until = self.now() + self.settings.copy_timeout
            raise

    def copy_source(self, key: str, source: Source) -> dict[str, Any]:
        """Arguments common to CopyObject and UploadPartCopy, which copy no other version than the one that was seen."""
        settings = self.settings
        owner = {"ExpectedSourceBucketOwner": settings.src_bucket_owner} if settings.src_bucket_owner else {}
        return {
            "Key": key,
            "CopySource": {"Bucket": settings.src_bucket, "Key": key},
            "CopySourceIfMatch": source.etag,
            **self.destination,
            **owner,
        }

    async def copy_object(self, sync: KeySync, source: Source, existing: Destination | None, left_out: LeftOut) -> None:
        """Sends the metadata that HeadObject showed, with the provenance. If they cannot be sent back, S3 copies
        them."""
        metadata: dict[str, Any] = {"MetadataDirective": "COPY"}
        if source.carries_provenance:
            metadata = {"MetadataDirective": "REPLACE"} | metadata_to_send(source, left_out.encoding)
        with self.write_call(sync, existing, left_out, "CopyObject") as condition:
            answer = await self.s3.copy_object(
                is_small=source.size <= SMALL_COPY_SIZE,
                **self.copy_source(sync.key, source),
                **COPY_DIRECTIVES,
                **condition,
                **metadata,
            )
            # A 200 without a result raises nothing in botocore, and is no copy (S3 API Reference, CopyObject).
            if not answer.get("CopyObjectResult", {}).get("ETag"):
                raise Unfinished("CopyObject answered 200 without an ETag")

    async def delete_object(self, sync: KeySync, existing: Destination, left_out: LeftOut = NOTHING_LEFT_OUT) -> None:
        """Deletes only the object that was seen, so that a delete that arrives late does not remove a newer one."""
        with self.write_call(sync, existing, left_out, "DeleteObject") as condition:
            await self.s3.delete_object(Key=sync.key, **self.destination, **condition)


def bucket_arguments(bucket: str, owner: str) -> dict[str, str]:
    return {"Bucket": bucket} | ({"ExpectedBucketOwner": owner} if owner else {})


async def pages(
    call: Callable[..., Awaitable[dict[str, Any]]], parameters: dict[str, Any]
) -> AsyncGenerator[dict[str, Any]]:
    """The pages of a listing. Raises Unfinished for an answer that does not say whether more follows, such as an empty
    200, or where: S3 always says so (S3 API Reference: ListObjectsV2, ListParts, ListMultipartUploads)."""
    while True:
        page = await call(**parameters)
        if "IsTruncated" not in page:
            raise Unfinished("an answer to a listing does not say whether more follows")
        yield page
        if not page["IsTruncated"]:
            return
        following = {name: page[found] for name, found in NEXT_PAGE.items() if page.get(found)}
        if not following:
            raise Unfinished("an answer to a listing does not say where the next page begins")
        parameters = parameters | following


async def holds_any(call: Callable[..., Awaitable[dict[str, Any]]], member: str, parameters: dict[str, Any]) -> bool:
    """Whether a listing has an entry under that member of its pages. Its first page may be empty although more follow:
    S3 counts what it has looked at, such as delete markers, and not only what it shows."""
    async with aclosing(pages(call, parameters)) as found:
        async for page in found:
            if page.get(member):
                return True
    return False
