"""The protocol for one key: look, write on condition, look again, until nothing moved in between.

An S3 event is only a hint that a key changed. The sync looks at the source as it is now, makes the destination equal to
it with conditional writes, and looks at the source again after each write. So the order, the number and the age of
events do not matter.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable

from botocore.exceptions import ClientError

from mirror.hooks.markers import remove_stale, wait_for_announced
from mirror.model.errors import (
    HANDED_BACK,
    Changed,
    GaveUp,
    Kind,
    Postponed,
    Refused,
    describe,
    error_code,
    is_busy,
    is_change,
    is_environment,
    is_refusal_for_now,
    meaning,
)
from mirror.model.limits import MIB
from mirror.model.log_lines import quoted
from mirror.protocol.attempt import KeySync
from mirror.protocol.buckets import Buckets, LeftOut
from mirror.protocol.multipart import abort_orphans, copy_in_parts, drop_upload
from mirror.protocol.objects import MOVED_CONTENT_ENCODING, Destination, Source, carries_provenance, is_copy_of
from mirror.protocol.requests import copy_object, delete_object, head_destination, head_source, open_destination
from mirror.readers.comparison import is_equal, is_expired

log = logging.getLogger("worker")

LONG_COPY_SIZE = 64 * MIB  # a copy of more lasts seconds
FOR_WORKER_SECONDS = 5  # what the function leaves to a worker comes back so soon, before that has ended again
STUCK_TRIES = 20  # a write may be refused as changed so often although nothing changes
BUSY_BASES = 10  # "503 Slow Down" without any progress is sat out for so long, in units of RETRY_BASE_SECONDS
BUSY_PAUSES = (1 / 150, 0.15)  # first and longest, in the same units: 0.2 s and 4.5 s
CHANGE_PAUSES = (0.02, 3.0)  # seconds: the second and the longest, between two copies of a key that keeps changing
LONG_PAUSE = 0.8  # seconds from which on others may begin meanwhile; if S3 is too busy for all, that would not help
LONGEST_MISS_PAUSE = 0.5  # for a key that changed before it was copied


async def sync_key(buckets: Buckets, sync: KeySync) -> None:
    """Makes the destination's object equal to the source's, and sets sync.action to what that took.

    Raises one of HANDED_BACK; Refused or the S3 error if the key cannot be synced now. An upload that is still open
    then is aborted, unless somebody is to go on with it: then it is sync.upload.
    """
    try:
        await repeat_until_equal(buckets, sync)
    except HANDED_BACK:
        raise
    except Exception as error:
        if not is_environment(error):
            await drop_upload(buckets, sync)
        raise
    await drop_upload(buckets, sync)


async def repeat_until_equal(buckets: Buckets, sync: KeySync) -> None:
    """The second look is what makes it right: without it an object that is deleted (or re-created) while its copy (or
    delete) is under way stays wrong for ever."""
    while True:
        sync.interruption.check()
        try:
            if await attempt(buckets, sync):
                return
        except Exception as error:
            seconds = pause_after(buckets, sync, error)
            if seconds is None:
                raise
            log.debug("again in %.3f s key=%s %s", seconds, quoted(sync.key), describe(error))
            if seconds:
                await pause(sync, seconds)
        sync.destination_first = True


async def attempt(buckets: Buckets, sync: KeySync) -> bool:
    """True when both are equal. False if the destination has to be looked at first. Raises Changed.

    The destination is looked at before the source: then the condition of the write fails on all that landed since, and
    what had landed before is not newer than the source that was seen.
    """
    if not buckets.is_open:
        await open_destination(buckets)
    existing = await patiently(buckets, sync, head_destination, sync.key) if sync.destination_first else None
    sync.host.look_begins(sync)
    source = await patiently(buckets, sync, head_source, sync.key)
    sync.sight = (source, existing)
    may_have_uploads = source is None or is_large(buckets, source)
    sync.expired = source is not None and is_expired(buckets, source.modified)
    if not sync.destination_first and (may_have_uploads or sync.expired):
        return False
    if sync.redelivered and may_have_uploads:
        await abort_orphans(buckets, sync)
        sync.redelivered = False
    wrote = await make_equal(buckets, sync, source, existing)
    if wrote and await patiently(buckets, sync, head_source, sync.key) != source:
        sync.host.overtaken(sync)
        sync.misses, sync.changes = 0, sync.changes + 1
        raise Changed("the source changes faster than it can be copied")
    return True


# --- Again ------------------------------------------------------------------------------------------------------------


async def patiently[*A, T](
    buckets: Buckets, sync: KeySync, call: Callable[[Buckets, *A], Awaitable[T]], *arguments: *A
) -> T:
    """What S3 is too busy for is repeated alone: to begin the attempt anew would ask even more of it."""
    while True:
        try:
            return await call(buckets, *arguments)
        except ClientError as error:
            seconds = pause_after(buckets, sync, error) if is_refusal_for_now(error) else None
            if seconds is None:
                raise
        await pause(sync, seconds)


def pause_after(buckets: Buckets, sync: KeySync, error: Exception) -> float | None:
    """Seconds until the next attempt, None if there is to be none. Raises GaveUp if S3 has been busy for too long.

    A key that merely changes is copied again and again, with pauses that grow.
    """
    base = buckets.settings.retry_base_seconds
    if is_busy(error):
        sync.busy_since = sync.busy_since if sync.busy else buckets.now()
        sync.busy += 1
        if buckets.now() - sync.busy_since > BUSY_BASES * base:
            raise GaveUp from error
        first, longest = BUSY_PAUSES
        return growing(first * base, sync.busy, longest * base)
    if not is_change(error):
        return None
    sync.busy = 0
    first, longest = CHANGE_PAUSES
    if isinstance(error, Changed):
        return growing(first, sync.changes - 1, longest)
    sync.misses += 1
    sync.stuck = sync.stuck + 1 if sync.sight == sync.refused_sight else 0
    sync.refused_sight = sync.sight
    if sync.stuck >= STUCK_TRIES:
        return None
    return growing(first, sync.misses - 1, LONGEST_MISS_PAUSE)


def growing(first: float, times: int, longest: float) -> float:
    """None for 0 times or less, then twice as long each time. Random, so that two workers part."""
    return random.uniform(0.5, 1) * min(first * 2 ** min(times - 1, 20), longest) if times > 0 else 0.0


async def pause(sync: KeySync, seconds: float) -> None:
    """Others may begin meanwhile, if it is long and not too many pause already. Raises Interrupted.

    A long copy has no place that it could make, and goes on without one.
    """
    gives_way = seconds > LONG_PAUSE and sync.host.has_place(sync) and sync.host.step_aside(sync)
    await sync.interruption.pause(seconds)
    if gives_way:
        await sync.host.come_back(sync)


# --- One attempt ------------------------------------------------------------------------------------------------------


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
    if sync.expired:
        return await let_go(buckets, sync, source, existing)
    if source.archived:
        raise Refused(f"the object is archived in {source.archived}: restore it, its restore event copies it")
    if source.size > (buckets.settings.largest or source.size):
        raise Postponed("larger than what is copied here", FOR_WORKER_SECONDS)
    if buckets.settings.copy_last:
        await wait_for_announced(buckets, sync)
    if source.size > LONG_COPY_SIZE and not sync.host.step_aside(sync):
        raise Postponed("too many long copies at once")
    await write(buckets, sync, source, existing)
    sync.action, sync.size = "copied", source.size
    return True


async def let_go(buckets: Buckets, sync: KeySync, source: Source, existing: Destination | None) -> bool:
    """KEEP_DAYS keeps the source no longer: it is not copied, and the copy of another version of it goes; one of this
    version is left to the lifecycle of the directory bucket."""
    if existing is None or is_equal(existing, source, deep=False):
        days = buckets.settings.keep_days
        log.info("not copied key=%s as it has not changed for more than KEEP_DAYS=%d", quoted(sync.key), days)
        return False
    await write(buckets, sync, None, existing)
    sync.action, sync.size = "deleted", 0
    return True


def is_large(buckets: Buckets, source: Source) -> bool:
    return source.size > buckets.settings.multipart_threshold


# --- What the directory bucket does not take --------------------------------------------------------------------------


async def write(buckets: Buckets, sync: KeySync, source: Source | None, existing: Destination | None) -> None:
    """Copies the source, or deletes what exists; again with less, if the directory bucket refuses something in it."""
    if buckets.settings.copy_last:
        await remove_stale(buckets, sync)
    sync.left_out = buckets.left_out
    while True:
        try:
            await patiently(buckets, sync, write_once, sync, source, existing)
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
        async with buckets.uploads:
            sync.interruption.check()
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
    if encoding and not tried.encoding and meaning(code).kind is Kind.REFUSED:
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
