"""One function for each S3 request of the protocol, in the protocol's words."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import unquote_plus

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from mirror.model.errors import Unfinished, describe, error_code
from mirror.model.limits import MIB
from mirror.model.log_lines import quoted
from mirror.protocol.attempt import KeySync, write_call
from mirror.protocol.buckets import Buckets, LeftOut
from mirror.protocol.objects import (
    Destination,
    Source,
    destination_from_head,
    metadata_to_send,
    source_from_head,
)
from mirror.protocol.parts import Part, Upload, part_size_for, parts_of

log = logging.getLogger("worker")

# A directory bucket takes only the empty tag set and no annotations; the defaults of both directives answer 501 for a
# source that has some (S3 API Reference, CopyObject).
COPY_DIRECTIVES = {"TaggingDirective": "REPLACE", "AnnotationDirective": "EXCLUDE"}
UNEXPLAINED_CODES = ("400", "403")  # of a HEAD, whose answer has no body
SMALL_COPY_SIZE = 64 * MIB  # lasts seconds
SOURCE_BUCKET_CHECK_SECONDS = 60
ABORTS = 3

# Parameter that continues a listing -> field of the page before.
NEXT_PAGE = {
    "ContinuationToken": "NextContinuationToken",
    "PartNumberMarker": "NextPartNumberMarker",
    "KeyMarker": "NextKeyMarker",
    "UploadIdMarker": "NextUploadIdMarker",
}


# --- Looking ----------------------------------------------------------------------------------------------------------


async def head(buckets: Buckets, bucket: dict[str, str], key: str) -> dict[str, Any] | None:
    """The answer of HeadObject, None if there is no object (a delete marker counts as none) or no bucket."""
    try:
        return await buckets.s3.head_object(Key=key, **bucket)
    except ClientError as error:
        if error_code(error) not in ("404", "NoSuchKey"):
            reason = await explained(buckets, bucket, key, error)
            if reason is error:
                raise
            raise reason from error
    return None


async def explained(buckets: Buckets, bucket: dict[str, str], key: str, error: ClientError) -> ClientError:
    """HeadObject's error with a code and a message, if S3 gives any: ExpiredToken, AccessDenied and why, ...

    The answer to a HEAD has no body, so its code is only "400" or "403". GetObject needs the same permission and has
    one; the one byte that it may read is not kept. An error that says nothing about reading is returned as it is.
    """
    if error_code(error) not in UNEXPLAINED_CODES:
        return error
    try:
        await buckets.s3.get_object(Key=key, Range="bytes=0-0", **bucket)
    except ClientError as told:
        if http_status(told) in UNEXPLAINED_CODES:
            return ClientError(told.response, error.operation_name)
    except BotoCoreError as failure:
        log.debug("no reason found for the %s of key=%s: %s", error_code(error), quoted(key), describe(failure))
    return error


def http_status(error: ClientError) -> str:
    return str(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))


async def head_source(buckets: Buckets, key: str) -> Source | None:
    found = await head(buckets, buckets.source, key)
    if found is None:
        await require_source_bucket(buckets)
        return None
    return source_from_head(found)


async def head_destination(buckets: Buckets, key: str) -> Destination | None:
    found = await head(buckets, buckets.destination, key)
    return destination_from_head(found) if found else None


async def require_source_bucket(buckets: Buckets) -> None:
    """HeadObject answers 404 for a missing bucket too, and a missing bucket must not empty the destination.

    Lists one key at most once a minute. Raises the ClientError of ListObjectsV2 (NoSuchBucket, AccessDenied).
    """
    async with buckets.lock:
        if buckets.now() - buckets.source_seen >= SOURCE_BUCKET_CHECK_SECONDS:
            await buckets.s3.list_objects_v2(MaxKeys=1, **buckets.source)
            buckets.source_seen = buckets.now()


async def open_destination(buckets: Buckets) -> None:
    """Has the clients create their S3 Express sessions once, before many requests would each create one."""
    async with buckets.lock:
        if not buckets.is_open:
            await buckets.s3.list_objects_v2(MaxKeys=1, **buckets.destination)
            await buckets.s3.open_session()
            buckets.is_open = True


async def answers_for_no_key(buckets: Buckets, since: float) -> bool:
    """Whether S3 has answered requests that name no key since then: for either bucket, signed with the role and with
    the session. If not, no key is at fault for its error. One asks for all who want to know."""
    async with buckets.lock:
        if buckets.asked <= since:
            buckets.asked, buckets.answers = buckets.now(), True
            try:
                for bucket in (buckets.source, buckets.destination):
                    await buckets.s3.list_objects_v2(MaxKeys=1, **bucket)
            except (ClientError, BotoCoreError, ResponseParserError) as error:
                log.debug("S3 does not answer for a bucket: %s", describe(error))
                buckets.answers = False
        return buckets.answers


async def pages(
    call: Callable[..., Awaitable[dict[str, Any]]], parameters: dict[str, Any]
) -> AsyncIterator[dict[str, Any]]:
    """The pages of a listing. Raises Unfinished for an answer that is none, such as an empty 200: S3 always says
    whether more follows (S3 API Reference: ListObjectsV2, ListParts, ListMultipartUploads)."""
    while True:
        page = await call(**parameters)
        if "IsTruncated" not in page:
            raise Unfinished("an answer to a listing does not say whether more follows")
        yield page
        if not page["IsTruncated"]:
            return
        parameters = parameters | {name: page[found] for name, found in NEXT_PAGE.items() if page.get(found)}


# --- Writing ----------------------------------------------------------------------------------------------------------


def condition_on(existing: Destination | None, left_out: LeftOut) -> dict[str, str]:
    """Lets S3 refuse the write unless the destination still is what it was."""
    if left_out.conditions:
        return {}
    return {"IfMatch": existing.etag} if existing else {"IfNoneMatch": "*"}


def metadata_for(source: Source, left_out: LeftOut) -> dict[str, Any]:
    return metadata_to_send(source, keep_encoding=not (left_out.encoding and "ContentEncoding" in source.fields))


def copy_source(buckets: Buckets, key: str, source: Source) -> dict[str, Any]:
    """Arguments common to CopyObject and UploadPartCopy: never another version than the one that was looked at."""
    settings = buckets.settings
    owner = {"ExpectedSourceBucketOwner": settings.src_bucket_owner} if settings.src_bucket_owner else {}
    return {
        "Key": key,
        "CopySource": {"Bucket": settings.src_bucket, "Key": key},
        "CopySourceIfMatch": source.etag,
        **buckets.destination,
        **owner,
    }


async def copy_object(buckets: Buckets, sync: KeySync, source: Source, existing: Destination | None) -> None:
    """One CopyObject, metadata replaced by what HeadObject showed plus the provenance, or copied if it cannot be."""
    metadata: dict[str, Any] = {"MetadataDirective": "COPY"}
    if source.carries_provenance:
        metadata = {"MetadataDirective": "REPLACE"} | metadata_for(source, sync.left_out)
    with write_call(buckets, sync):
        answer = await buckets.s3.copy_object(
            is_small=source.size <= SMALL_COPY_SIZE,
            **copy_source(buckets, sync.key, source),
            **COPY_DIRECTIVES,
            **condition_on(existing, sync.left_out),
            **metadata,
        )
        # A 200 without a result raises nothing in botocore, and is no copy (S3 API Reference, CopyObject).
        if not answer.get("CopyObjectResult", {}).get("ETag"):
            raise Unfinished("CopyObject answered 200 without an ETag")


async def delete_object(buckets: Buckets, sync: KeySync, existing: Destination) -> None:
    """Only the object that was looked at: a delete that arrives late must not take a newer one along."""
    with write_call(buckets, sync):
        await buckets.s3.delete_object(Key=sync.key, **buckets.destination, **condition_on(existing, sync.left_out))


# --- Multipart uploads ------------------------------------------------------------------------------------------------


async def create_upload(buckets: Buckets, sync: KeySync, source: Source) -> Upload:
    part_size = part_size_for(source.size, buckets.settings.part_size)
    metadata = metadata_for(source, sync.left_out)
    answer = await buckets.s3.create_multipart_upload(Key=sync.key, **buckets.destination, **metadata)
    return Upload(answer["UploadId"], source.identity, part_size)


async def copy_part(buckets: Buckets, key: str, source: Source, upload: Upload, part: Part) -> str:
    """The part's ETag."""
    answer = await buckets.s3.upload_part_copy(
        is_small=part.size <= SMALL_COPY_SIZE,
        UploadId=upload.upload_id,
        PartNumber=part.number,
        CopySourceRange=f"bytes={part.first}-{part.last}",
        **copy_source(buckets, key, source),
    )
    etag = answer.get("CopyPartResult", {}).get("ETag")
    if not etag:
        raise Unfinished(f"UploadPartCopy of part {part.number} answered 200 without an ETag")
    return str(etag)


async def finished_parts(buckets: Buckets, key: str, source: Source, upload: Upload) -> dict[int, str]:
    """Part number -> ETag of the parts that are there in full. Raises NoSuchUpload."""
    wanted = {part.number: part.size for part in parts_of(source.size, upload.part_size)}
    etags = {}
    parameters = {"Key": key, "UploadId": upload.upload_id, **buckets.destination}
    async for page in pages(buckets.s3.list_parts, parameters):
        for part in page.get("Parts", []):
            if wanted.get(part["PartNumber"]) == part["Size"]:
                etags[part["PartNumber"]] = part["ETag"]
    return etags


async def complete_upload(
    buckets: Buckets,
    sync: KeySync,
    source: Source,
    existing: Destination | None,
    upload: Upload,
    etags: dict[int, str],
) -> None:
    """Raises the error of S3; after a conflict the upload cannot be completed any more (S3 API Reference)."""
    with write_call(buckets, sync):
        answer = await buckets.s3.complete_multipart_upload(
            Key=sync.key,
            UploadId=upload.upload_id,
            MultipartUpload={"Parts": [{"PartNumber": n, "ETag": etags[n]} for n in sorted(etags)]},
            MpuObjectSize=source.size,
            **buckets.destination,
            **condition_on(existing, sync.left_out),
        )
        if not answer.get("ETag"):
            raise Unfinished("CompleteMultipartUpload answered 200 without an ETag")


async def abort_upload(buckets: Buckets, key: str, upload_id: str) -> None:
    """Ends an upload and its parts. Parts that were under way may land after it, so it is asked until none is left."""
    arguments = {"Key": key, "UploadId": upload_id, **buckets.destination}
    for _ in range(ABORTS):
        try:
            await buckets.s3.abort_multipart_upload(**arguments)
            left = await buckets.s3.list_parts(MaxParts=1, **arguments)
        except (ClientError, BotoCoreError, ResponseParserError) as error:
            if error_code(error) != "NoSuchUpload":
                log.warning("could not abort upload %s, the lifecycle rule will: %s", upload_id, describe(error))
            return
        if not left.get("Parts"):
            return


async def uploads_of(buckets: Buckets, key: str) -> list[str]:
    """The ids of the uploads of a key.

    A directory bucket lists uploads only by a prefix that ends in "/" (S3 API Reference, ListMultipartUploads).
    """

    async def list_decoded(**parameters: Any) -> dict[str, Any]:
        """botocore decodes the keys of ListObjectsV2, not these. Encoded, as XML cannot hold every key."""
        page = await buckets.s3.list_multipart_uploads(EncodingType="url", **parameters)
        return decoded(page) if page.get("EncodingType") == "url" else page

    prefix = {"Prefix": key[: key.rfind("/") + 1], **buckets.destination}
    found = [page.get("Uploads", []) async for page in pages(list_decoded, prefix)]
    return [upload["UploadId"] for uploads in found for upload in uploads if upload["Key"] == key]


def decoded(page: dict[str, Any]) -> dict[str, Any]:
    """A page of ListMultipartUploads with its keys as they are, and the marker as it has to be sent."""
    uploads = [upload | {"Key": unquote_plus(upload["Key"])} for upload in page.get("Uploads", [])]
    marker = {"NextKeyMarker": unquote_plus(page["NextKeyMarker"])} if "NextKeyMarker" in page else {}
    return page | {"Uploads": uploads} | marker
