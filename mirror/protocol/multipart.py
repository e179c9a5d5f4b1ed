"""A large object, which is copied in parts: the copy, its requests, and how the object is cut."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

from botocore.exceptions import ClientError

from mirror.concurrency import Slots
from mirror.model.errors import AWS_ERRORS, Refused, Unfinished, describe, error_code
from mirror.model.expires import EXPIRES, header_of
from mirror.model.log_lines import PARTS_BEGUN, PARTS_COPIED, log, quoted
from mirror.model.selection import folder_of
from mirror.model.services import MAX_COPY_SIZE, MAX_PARTS, MIB
from mirror.protocol.attempt import KeySync, Upload
from mirror.protocol.buckets import SMALL_COPY_SIZE, Buckets, LeftOut, holds_any, pages
from mirror.protocol.objects import Destination, Source, metadata_to_send

UPLOADS = 64  # under way at once: a few are finished soon instead of many late, and their parts fit into memory
ABORTS = 3
EXPIRES_CHANGED = "the Expires %s cannot be sent back, so the copy in parts of key=%s has another: %s"
# The answers to the requests of a multipart upload name the key, and cannot be parsed with these characters (XML 1.0).
NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class LargeCopies:
    """Copies large objects, which share one limit on uploads and one on parts under way."""

    def __init__(self, buckets: Buckets) -> None:
        self.buckets = buckets
        self.uploads = asyncio.Semaphore(UPLOADS)
        self.parts = Slots(buckets.settings.max_concurrent_parts)

    async def copy(self, sync: KeySync, source: Source, existing: Destination | None, left_out: LeftOut) -> None:
        """Copies an object as a multipart upload, going on with sync.upload if that was begun for this source."""
        async with self.uploads:
            sync.interruption.check()
            etags = await resume_upload(self.buckets, sync, source)
            if sync.upload is None:
                if NOT_IN_XML.search(sync.key):
                    raise Refused(
                        "S3 can copy an object in parts only if XML can hold every character of its key: rename it"
                    )
                sync.upload = await create_upload(self.buckets, sync.key, source, left_out)
            await self.copy_missing_parts(sync, source, sync.upload, etags)
            with self.buckets.write_call(sync, existing, left_out, "CompleteMultipartUpload") as condition:
                await self.complete_upload(sync, source, sync.upload, etags, condition)
            sync.upload = None

    async def copy_missing_parts(self, sync: KeySync, source: Source, upload: Upload, etags: dict[int, str]) -> None:
        """Copies the parts that are not among the ETags yet, adds theirs, and logs the progress.

        After an error or an interruption no further part is begun, and those under way are waited for, so that an abort
        that follows finds none.
        """
        parts = parts_of(source.size, upload.part_size)
        missing = [part for part in parts if part.number not in etags]
        parts_between_lines = max(20, len(parts) // 20)
        log.info(PARTS_BEGUN, quoted(sync.key), source.size, len(parts), upload.part_size, len(etags))
        limit = self.buckets.settings.max_concurrent_parts
        log.info("Uploading %d parts in parallel (max %d concurrent)...", len(missing), limit)

        async def copy(part: Part) -> None:
            sync.interruption.check()
            began = self.buckets.now()
            etags[part.number] = await copy_part(self.buckets, sync.key, source, upload, part)
            sync.result.parts += 1
            sync.host.progressed(sync, began)
            copied = len(etags)
            if copied % parts_between_lines == 0 or copied == len(parts):
                log.info(PARTS_COPIED, copied, len(parts), 100 * copied // len(parts), quoted(sync.key))

        await self.parts.run(copy, missing)

    async def complete_upload(
        self, sync: KeySync, source: Source, upload: Upload, etags: dict[int, str], condition: dict[str, str]
    ) -> None:
        """Makes the object visible. After a conflict the upload can no longer be completed (S3 API Reference)."""
        parts = [{"PartNumber": number, "ETag": etags[number]} for number in sorted(etags)]
        try:
            answer = await self.buckets.s3.complete_multipart_upload(
                Key=sync.key,
                UploadId=upload.upload_id,
                MultipartUpload={"Parts": parts},
                MpuObjectSize=source.size,
                **self.buckets.destination,
                **condition,
            )
        except ClientError as error:
            if error_code(error) in ("409", "ConditionalRequestConflict"):
                await drop_upload(self.buckets, sync)
            raise
        if not answer.get("ETag"):
            raise Unfinished("CompleteMultipartUpload answered 200 without an ETag")


async def resume_upload(buckets: Buckets, sync: KeySync, source: Source) -> dict[int, str]:
    """The ETags of the parts that sync.upload already has, by number. An upload of another version is aborted."""
    if sync.upload is None:
        return {}
    if sync.upload.source != source.identity:
        await drop_upload(buckets, sync)
        return {}
    sizes = {part.number: part.size for part in parts_of(source.size, sync.upload.part_size)}
    parameters = {"Key": sync.key, "UploadId": sync.upload.upload_id, **buckets.destination}
    etags = {}
    try:
        async for page in pages(buckets.s3.list_parts, parameters):
            for part in page.get("Parts", []):
                if sizes.get(part["PartNumber"]) == part["Size"]:
                    etags[part["PartNumber"]] = part["ETag"]
    except ClientError as error:
        if error_code(error) != "NoSuchUpload":
            raise
        sync.upload, etags = None, {}
    return etags


async def drop_upload(buckets: Buckets, sync: KeySync) -> None:
    if sync.upload:
        await abort_upload(buckets, sync.key, sync.upload.upload_id)
    sync.upload = None


async def abort_orphans(buckets: Buckets, sync: KeySync) -> None:
    """Aborts the uploads of this key that a dead worker has left behind. A live sync that loses its upload begins
    another. The lifecycle rule removes an upload that cannot be aborted, so the key does not fail."""
    try:
        for upload_id in await uploads_of(buckets, sync.key):
            if sync.upload is None or upload_id != sync.upload.upload_id:
                log.info("aborting the upload of an earlier delivery key=%s", quoted(sync.key))
                await abort_upload(buckets, sync.key, upload_id)
    except (*AWS_ERRORS, Unfinished) as error:
        log.warning("could not look for uploads of earlier deliveries key=%s %s", quoted(sync.key), describe(error))


# --- Requests ---------------------------------------------------------------------------------------------------------


async def create_upload(buckets: Buckets, key: str, source: Source, left_out: LeftOut) -> Upload:
    part_size = part_size_for(source.size, buckets.settings.part_size)
    metadata = metadata_to_send(source, left_out.encoding)
    if source.odd_expires:
        sent = header_of(metadata[EXPIRES]) if EXPIRES in metadata else "none"
        log.warning(EXPIRES_CHANGED, quoted(source.odd_expires), quoted(key), sent)
    answer = await buckets.s3.create_multipart_upload(Key=key, **buckets.destination, **metadata)
    return Upload(answer["UploadId"], source.identity, part_size)


async def copy_part(buckets: Buckets, key: str, source: Source, upload: Upload, part: Part) -> str:
    """The part's ETag."""
    answer = await buckets.s3.upload_part_copy(
        is_small=part.size <= SMALL_COPY_SIZE,
        UploadId=upload.upload_id,
        PartNumber=part.number,
        CopySourceRange=f"bytes={part.first}-{part.last}",
        **buckets.copy_source(key, source),
    )
    etag = answer.get("CopyPartResult", {}).get("ETag")
    if not etag:
        raise Unfinished(f"UploadPartCopy of part {part.number} answered 200 without an ETag")
    return str(etag)


async def abort_upload(buckets: Buckets, key: str, upload_id: str) -> None:
    """Aborts an upload. Parts that were under way may arrive after that, so it is repeated until none is left."""
    arguments = {"Key": key, "UploadId": upload_id, **buckets.destination}
    for _ in range(ABORTS):
        try:
            await buckets.s3.abort_multipart_upload(**arguments)
            has_parts = await holds_any(buckets.s3.list_parts, "Parts", {"MaxParts": 1, **arguments})
        except (*AWS_ERRORS, Unfinished) as error:
            if error_code(error) != "NoSuchUpload":
                log.warning("could not abort upload %s, the lifecycle rule will: %s", upload_id, describe(error))
            return
        if not has_parts:
            return


async def uploads_of(buckets: Buckets, key: str) -> list[str]:
    """The ids of the uploads of a key.

    A directory bucket lists uploads only by a prefix that ends in "/" (S3 API Reference, ListMultipartUploads).
    """

    async def list_decoded(**parameters: Any) -> dict[str, Any]:
        """Decodes the keys, which botocore does only for ListObjectsV2. XML cannot hold every key as it is."""
        page = await buckets.s3.list_multipart_uploads(EncodingType="url", **parameters)
        if page.get("EncodingType") == "url":
            for upload in page.get("Uploads", []):
                upload["Key"] = unquote_plus(upload["Key"])
            page["NextKeyMarker"] = unquote_plus(page.get("NextKeyMarker", ""))
        return page

    uploads: list[dict[str, Any]] = []
    async for page in pages(list_decoded, {"Prefix": folder_of(key), **buckets.destination}):
        uploads += page.get("Uploads", [])
    return [upload["UploadId"] for upload in uploads if upload["Key"] == key]


# --- Parts ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """Bytes first..last, both included, of the source; numbers begin at 1 while bytes begin at 0."""

    number: int
    first: int
    last: int

    @property
    def size(self) -> int:
        return self.last - self.first + 1


def part_size_for(size: int, smallest: int) -> int:
    """Bytes per part so that at most 10,000 parts are needed. Raises ValueError above 10,000 parts of 5 GiB."""
    needed = -(-size // MAX_PARTS)
    part_size = max(smallest, -(-needed // MIB) * MIB)
    if part_size > MAX_COPY_SIZE:
        raise ValueError(f"{size} bytes are more than {MAX_PARTS} parts of 5 GiB, the largest object of S3")
    return part_size


def parts_of(size: int, part_size: int) -> list[Part]:
    """The parts of an object, numbered from 1 without gaps as a directory bucket demands."""
    starts = range(0, size, part_size)
    return [Part(number, start, min(start + part_size, size) - 1) for number, start in enumerate(starts, 1)]
