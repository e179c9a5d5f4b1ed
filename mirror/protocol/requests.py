"""One function for each S3 request that names a key, and the pages of a listing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from mirror.model.errors import Interrupted, Unfinished, describe, error_code, outcome_unknown
from mirror.model.limits import MIB
from mirror.model.log_lines import quoted
from mirror.protocol.attempt import KeySync
from mirror.protocol.buckets import NOTHING_LEFT_OUT, Buckets, LeftOut
from mirror.protocol.objects import Destination, Source, destination_from_head, metadata_to_send, source_from_head

log = logging.getLogger("worker")

# A directory bucket takes only the empty tag set, and no annotations. With the defaults of both directives S3 answers
# 501 for a source that has some (S3 API Reference, CopyObject).
COPY_DIRECTIVES = {"TaggingDirective": "REPLACE", "AnnotationDirective": "EXCLUDE"}
UNEXPLAINED_CODES = ("400", "403")  # of a HEAD request, whose answer has no body
WITH_CHECKSUMS = {"ChecksumMode": "ENABLED"}  # of HeadObject, which costs no more
SMALL_COPY_SIZE = 64 * MIB  # S3 copies this in seconds

# The parameter that continues a listing, and the field of the previous page that it takes.
NEXT_PAGE = {
    "ContinuationToken": "NextContinuationToken",
    "PartNumberMarker": "NextPartNumberMarker",
    "KeyMarker": "NextKeyMarker",
    "UploadIdMarker": "NextUploadIdMarker",
}


# --- Looking ----------------------------------------------------------------------------------------------------------


async def head(buckets: Buckets, bucket: dict[str, str], key: str, checksums: bool = False) -> dict[str, Any] | None:
    """The answer of HeadObject, or None if there is no object (a delete marker counts as none) or no bucket.

    `checksums`: with those that S3 keeps of the object. If it refuses to show them, which needs kms:Decrypt for an
    object with SSE-KMS (S3 API Reference, HeadObject), they are left out.
    """
    try:
        return await buckets.s3.head_object(Key=key, **(WITH_CHECKSUMS if checksums else {}), **bucket)
    except ClientError as error:
        if error_code(error) in ("404", "NoSuchKey"):
            return None
        if checksums and error_code(error) in (*UNEXPLAINED_CODES, "501"):
            found = await head(buckets, bucket, key)
            buckets.note_no_checksums(bucket["Bucket"], key, describe(error))
            return found
        if error_code(error) in UNEXPLAINED_CODES:
            await explain(buckets, bucket, key, error)
        raise


async def explain(buckets: Buckets, bucket: dict[str, str], key: str, error: ClientError) -> None:
    """Raises HeadObject's error with the code and the message that S3 gives for it, such as ExpiredToken or the reason
    of AccessDenied. Returns if there is none.

    The answer to a HEAD has no body, so its code is only "400" or "403". GetObject needs the same permission, and its
    answer has a body; the one byte that it may read is not kept.
    """
    try:
        await buckets.s3.get_object(Key=key, Range="bytes=0-0", **bucket)
    except ClientError as explanation:
        if str(explanation.response.get("ResponseMetadata", {}).get("HTTPStatusCode")) in UNEXPLAINED_CODES:
            raise ClientError(explanation.response, error.operation_name) from error
    except BotoCoreError as failure:
        log.debug("no reason found for the %s of key=%s: %s", error_code(error), quoted(key), describe(failure))


async def head_source(buckets: Buckets, key: str, checksums: bool = False) -> Source | None:
    found = await head(buckets, buckets.source, key, checksums)
    if found is None:
        await buckets.answering.require_source()
        return None
    buckets.is_versioned = "VersionId" in found
    return source_from_head(found)


async def head_destination(buckets: Buckets, key: str, checksums: bool = False) -> Destination | None:
    found = await head(buckets, buckets.destination, key, checksums)
    return destination_from_head(found) if found else None


async def read(buckets: Buckets, bucket: dict[str, str], key: str, etag: str) -> bytes:
    """The bytes of that version of a small object, for what only its content shows. Workers read nothing else."""
    answer = await buckets.s3.get_object(Key=key, IfMatch=etag, **bucket)
    body: bytes = answer["Body"]
    return body


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


# --- Writing ----------------------------------------------------------------------------------------------------------


@contextmanager
def write_call(
    buckets: Buckets, sync: KeySync, existing: Destination | None, left_out: LeftOut, operation: str
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
            sync.result.unsettled_until = buckets.now() + buckets.settings.copy_timeout
        raise


def copy_source(buckets: Buckets, key: str, source: Source) -> dict[str, Any]:
    """Arguments common to CopyObject and UploadPartCopy, which copy no other version than the one that was seen."""
    settings = buckets.settings
    owner = {"ExpectedSourceBucketOwner": settings.src_bucket_owner} if settings.src_bucket_owner else {}
    return {
        "Key": key,
        "CopySource": {"Bucket": settings.src_bucket, "Key": key},
        "CopySourceIfMatch": source.etag,
        **buckets.destination,
        **owner,
    }


async def copy_object(
    buckets: Buckets, sync: KeySync, source: Source, existing: Destination | None, left_out: LeftOut
) -> None:
    """Sends the metadata that HeadObject showed, with the provenance. If they cannot be sent back, S3 copies them."""
    metadata: dict[str, Any] = {"MetadataDirective": "COPY"}
    if source.carries_provenance:
        metadata = {"MetadataDirective": "REPLACE"} | metadata_to_send(source, left_out.encoding)
    with write_call(buckets, sync, existing, left_out, "CopyObject") as condition:
        answer = await buckets.s3.copy_object(
            is_small=source.size <= SMALL_COPY_SIZE,
            **copy_source(buckets, sync.key, source),
            **COPY_DIRECTIVES,
            **condition,
            **metadata,
        )
        # A 200 without a result raises nothing in botocore, and is no copy (S3 API Reference, CopyObject).
        if not answer.get("CopyObjectResult", {}).get("ETag"):
            raise Unfinished("CopyObject answered 200 without an ETag")


async def delete_object(
    buckets: Buckets, sync: KeySync, existing: Destination, left_out: LeftOut = NOTHING_LEFT_OUT
) -> None:
    """Deletes only the object that was seen, so that a delete that arrives late does not remove a newer one."""
    with write_call(buckets, sync, existing, left_out, "DeleteObject") as condition:
        await buckets.s3.delete_object(Key=sync.key, **buckets.destination, **condition)
