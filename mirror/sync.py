"""The protocol for one key: look, write on condition, look again, until nothing moved in between.

An S3 event is only a hint that a key changed. The sync looks at the source as it is now, makes the destination equal to
it with conditional writes, and looks at the source again after each write. So the order, the number and the age of
events do not matter.
"""

from __future__ import annotations

import logging
import random

from botocore.exceptions import ClientError

from mirror.buckets import Buckets, LeftOut
from mirror.errors import REFUSED_CODES, Changed, Interrupted, Refused, describe, error_code, is_busy, is_change
from mirror.key_sync import KeySync
from mirror.limits import MIB
from mirror.log_lines import quoted
from mirror.multipart import abort_orphans, copy_in_parts, drop_upload
from mirror.objects import MOVED_CONTENT_ENCODING, Destination, Source, carries_provenance, is_copy_of
from mirror.s3 import copy_object, delete_object, head_destination, head_source, open_destination

log = logging.getLogger("worker")

LONG_COPY_SIZE = 64 * MIB  # a copy of more lasts seconds
CHANGES_PER_DELIVERY = 20  # how often a key may change under our hands before its message is tried later
BUSY_RETRY_BASES = 10  # seconds of "503 Slow Down" to sit out in one delivery, in units of RETRY_BASE_SECONDS


async def sync_key(buckets: Buckets, sync: KeySync) -> None:
    """Makes the destination's object equal to the source's, and sets sync.action to what that took.

    Raises Interrupted; Refused or the S3 error if the key cannot be synced now. An upload that is still open then is
    aborted, unless the sync was interrupted: then sync.upload says where to go on.
    """
    try:
        await repeat_until_equal(buckets, sync)
    except Interrupted:
        raise
    except Exception:
        await drop_upload(buckets, sync)
        raise
    await drop_upload(buckets, sync)


async def repeat_until_equal(buckets: Buckets, sync: KeySync) -> None:
    """The second look is what makes it right: without it an object that is deleted (or re-created) while its copy (or
    delete) is under way stays wrong for ever."""
    changes = 0
    give_up = buckets.now() + BUSY_RETRY_BASES * buckets.settings.retry_base_seconds
    while True:
        sync.interruption.check()
        try:
            if await attempt(buckets, sync):
                return
        except Exception as error:
            changes += is_change(error)
            if changes > CHANGES_PER_DELIVERY or not (is_change(error) or is_busy(error)):
                raise
            if is_busy(error) and buckets.now() > give_up:
                raise
            log.debug("again key=%s %s", quoted(sync.key), describe(error))
            await wait_to_repeat(buckets, sync, changes, error)
        sync.destination_first = True


async def attempt(buckets: Buckets, sync: KeySync) -> bool:
    """True when both are equal. False if the destination has to be looked at first. Raises Changed.

    The destination is looked at before the source: then the condition of the write fails on all that landed since, and
    what had landed before is not newer than the source that was seen.
    """
    sync.look_begins()
    await prepare(buckets, sync)
    existing = await head_destination(buckets, sync.key) if sync.destination_first else None
    source = await head_source(buckets, sync.key)
    if not sync.destination_first and (source is None or is_large(buckets, source)):
        return False
    wrote = await make_equal(buckets, sync, source, existing)
    sync.acted()
    if wrote and await head_source(buckets, sync.key) != source:
        raise Changed("the source changes faster than it can be copied")
    return True


async def prepare(buckets: Buckets, sync: KeySync) -> None:
    """Once for the process, and once for a key that an earlier delivery may have left half done."""
    if not buckets.is_open:
        await open_destination(buckets)
    if sync.redelivered:
        await abort_orphans(buckets, sync)
        sync.redelivered = False


async def wait_to_repeat(buckets: Buckets, sync: KeySync, changes: int, error: Exception) -> None:
    """No pause at first, then a growing one; seconds if S3 is busy. Random, so that two workers part."""
    if is_busy(error):
        await sync.interruption.pause(random.uniform(0.03, 0.15) * buckets.settings.retry_base_seconds)
    else:
        await sync.interruption.pause(random.uniform(0, 0.02 * 2 ** min(changes, 6) - 0.04))


async def make_equal(buckets: Buckets, sync: KeySync, source: Source | None, existing: Destination | None) -> bool:
    """One attempt. True when it wrote, so that the source has to be looked at again."""
    if source is None:
        if existing is None:
            return False
        await write(buckets, sync, None, existing)
        sync.action, sync.size = "deleted", 0
        return True
    if existing and is_copy_of(existing, source):
        return False
    if source.archived:
        raise Refused(f"the object is archived in {source.archived}: restore it, its restore event copies it")
    if source.size > LONG_COPY_SIZE:
        sync.long_copy_begins()
    await write(buckets, sync, source, existing)
    sync.action, sync.size = "copied", source.size
    return True


def is_large(buckets: Buckets, source: Source) -> bool:
    return source.size > buckets.settings.multipart_threshold


# --- What the directory bucket does not take --------------------------------------------------------------------------


async def write(buckets: Buckets, sync: KeySync, source: Source | None, existing: Destination | None) -> None:
    """Copies the source, or deletes what exists; again with less, if the directory bucket refuses something in it."""
    sync.left_out = buckets.left_out
    while True:
        try:
            await write_once(buckets, sync, source, existing)
        except ClientError as error:
            encoding = sends_encoding(buckets, source)
            less = leave_out_more(sync.left_out, buckets.left_out, encoding, error_code(error))
            if less is None:
                raise
            sync.left_out, sync.refusal = less, describe(error)
        else:
            learn(buckets, sync, source)
            return


async def write_once(buckets: Buckets, sync: KeySync, source: Source | None, existing: Destination | None) -> None:
    if source and is_large(buckets, source):
        await copy_in_parts(buckets, sync, source, existing)
    elif source:
        await copy_object(buckets, sync, source, existing)
    elif existing:
        await delete_object(buckets, sync, existing)


def sends_encoding(buckets: Buckets, source: Source | None) -> bool:
    """Whether our request names the ContentEncoding; S3 itself copies metadata that cannot be sent back."""
    return source is not None and (
        "ContentEncoding" in source.fields and (carries_provenance(source) or is_large(buckets, source))
    )


def leave_out_more(tried: LeftOut, known: LeftOut, encoding: bool, code: str) -> LeftOut | None:
    """What to leave out after a refusal: the ContentEncoding, then the conditions, then both; None for nothing more."""
    if encoding and not tried.encoding and code in REFUSED_CODES:
        return LeftOut(tried.conditions, encoding=True)
    if not tried.conditions and code == "NotImplemented":
        return LeftOut(conditions=True, encoding=known.encoding)
    return None


def learn(buckets: Buckets, sync: KeySync, source: Source | None) -> None:
    """What a write succeeded without is left out from now on."""
    left_out = sync.left_out
    if source and left_out.encoding and sends_encoding(buckets, source):
        log.warning(
            "the directory bucket refuses Content-Encoding %s, kept as user metadata %s key=%s",
            source.fields["ContentEncoding"],
            MOVED_CONTENT_ENCODING,
            quoted(sync.key),
        )
    if left_out.conditions and not buckets.left_out.conditions:
        log.warning("the destination refuses conditional writes, going on without: %s", sync.refusal)
    buckets.left_out = LeftOut(
        buckets.left_out.conditions or left_out.conditions, buckets.left_out.encoding or left_out.encoding
    )
