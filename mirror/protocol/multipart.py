"""Copies a large object in parts, and goes on with an upload that an earlier delivery has begun."""

from __future__ import annotations

import asyncio
import logging
import re

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from mirror.concurrency import Slots
from mirror.model.errors import Refused, Unfinished, describe, error_code
from mirror.model.log_lines import quoted
from mirror.protocol.attempt import KeySync
from mirror.protocol.buckets import Buckets, LeftOut
from mirror.protocol.objects import Destination, Source
from mirror.protocol.parts import Part, Upload, parts_of
from mirror.protocol.requests import abort_upload, complete_upload, copy_part, create_upload, finished_parts, uploads_of

log = logging.getLogger("worker")

UPLOADS = 64  # at a time, so that a few are finished soon rather than many late, and their parts fit into memory
# What S3's answers to the requests of a multipart upload, which name the key, cannot hold if they are to be parsed (XML
# 1.0, 2.2).
NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class LargeCopies:
    """Copies large objects. All of them together have so many uploads and parts under way at a time."""

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
            try:
                await complete_upload(self.buckets, sync, source, existing, sync.upload, etags, left_out)
            except ClientError as error:
                if error_code(error) in ("409", "ConditionalRequestConflict"):
                    await drop_upload(self.buckets, sync)
                raise
            sync.upload = None

    async def copy_missing_parts(self, sync: KeySync, source: Source, upload: Upload, etags: dict[int, str]) -> None:
        """Copies the parts that are not among the ETags yet, adds theirs, and logs the progress.

        After an error or an interruption no further part is begun, and those under way are waited for, so that an abort
        that follows finds none.
        """
        parts, limit = parts_of(source.size, upload.part_size), self.buckets.settings.max_concurrent_parts
        missing = [part for part in parts if part.number not in etags]
        parts_between_lines = max(20, len(parts) // 20)
        log.info(
            "Using multipart copy for large file key=%s size=%d parts=%d part_size=%d resumed=%d",
            quoted(sync.key),
            source.size,
            len(parts),
            upload.part_size,
            len(etags),
        )
        log.info("Uploading %d parts in parallel (max %d concurrent)...", len(missing), limit)

        async def copy(part: Part) -> None:
            sync.interruption.check()
            began = self.buckets.now()
            etags[part.number] = await copy_part(self.buckets, sync.key, source, upload, part)
            sync.result.parts += 1
            sync.host.progressed(sync, began)
            if len(etags) % parts_between_lines == 0 or len(etags) == len(parts):
                percent = 100 * len(etags) // len(parts)
                log.info("Progress: %d/%d parts (%d%%) key=%s", len(etags), len(parts), percent, quoted(sync.key))

        await self.parts.run(copy, missing)


async def resume_upload(buckets: Buckets, sync: KeySync, source: Source) -> dict[int, str]:
    """The ETags of the parts that sync.upload already has, by part number. An upload that was begun for another version
    of the source is aborted."""
    if sync.upload is None:
        return {}
    if sync.upload.source != source.identity:
        await drop_upload(buckets, sync)
        return {}
    try:
        return await finished_parts(buckets, sync.key, source, sync.upload)
    except ClientError as error:
        if error_code(error) != "NoSuchUpload":
            raise
        sync.upload = None
        return {}


async def drop_upload(buckets: Buckets, sync: KeySync) -> None:
    if sync.upload:
        await abort_upload(buckets, sync.key, sync.upload.upload_id)
    sync.upload = None


async def abort_orphans(buckets: Buckets, sync: KeySync) -> None:
    """Aborts the uploads of this key that a worker which died has left behind. A live sync that loses its upload begins
    another. An upload that cannot be aborted is removed by the lifecycle rule, so the key does not fail."""
    try:
        for upload_id in await uploads_of(buckets, sync.key):
            if sync.upload is None or upload_id != sync.upload.upload_id:
                log.info("aborting the upload of an earlier delivery key=%s", quoted(sync.key))
                await abort_upload(buckets, sync.key, upload_id)
    except (ClientError, BotoCoreError, ResponseParserError, Unfinished) as error:
        log.warning("could not look for uploads of earlier deliveries key=%s %s", quoted(sync.key), describe(error))
