"""Writes of a key's sync on other keys: a file that a commit names, a commit before it, an old log, an old marker.

Each is made on condition that the destination is what was seen. The other key's own message may be done with before it
lands: so the source is looked at once more afterwards, as after any write.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from botocore.exceptions import ClientError

from mirror.model.errors import Refused, describe, error_code, is_busy, is_change, is_environment
from mirror.model.log_lines import ANOTHER, IT_NO_LONGER, REMOVED_FIRST, log, quoted
from mirror.options.waiting import Blocked
from mirror.protocol.attempt import Host, KeySync
from mirror.protocol.buckets import Buckets
from mirror.protocol.multipart import drop_upload
from mirror.protocol.objects import Destination, Source
from mirror.protocol.retries import Retries
from mirror.protocol.sync import Syncer
from mirror.protocol.verdict import is_ours_to_delete


class InnerHost(Host):
    """Host of a write on another key. The outer sync keeps the slot."""

    def __init__(self, host: Host) -> None:
        self.host = host

    def progressed(self, sync: KeySync, since: float) -> None:
        self.host.progressed(sync, since)

    async def look_later(self, key: str, delay: float, is_ghost: bool = False) -> None:
        await self.host.look_later(key, delay, is_ghost=is_ghost)


async def copy_other(
    syncer: Syncer, sync: KeySync, key: str, source: Source, existing: Destination | None
) -> Blocked | None:
    """Copies the version that was seen. `syncer`: without the hooks that ask. Raises the error of a change, or of what
    is not the key's own fault."""
    async with writing(syncer.buckets, sync, key) as inner:
        try:
            await syncer.write(inner, Retries(syncer.buckets, inner), source, existing)
        except (ClientError, Refused) as error:
            return fault_of(key, error)
    await look_again(syncer.buckets, sync, key, source)
    return None


def fault_of(key: str, error: Exception) -> Blocked:
    """What is waited for if the key cannot be looked at, read or copied. Raises the error if it is no fault of that
    key, such as a change."""
    if is_change(error) or is_busy(error) or is_environment(error):
        raise error
    return Blocked(key, describe(error))


async def remove_other(
    buckets: Buckets, sync: KeySync, key: str, source: Source | None, existing: Destination, consequence: str
) -> None:
    """Deletes what is not what the source had, if it is ours. Raises the error of an object that changed meanwhile.

    `consequence`: what it means for readers that a foreign object stays. If the source has the key, too, the object is
    overwritten, and nothing stays.
    """
    if not is_ours_to_delete(existing):
        if source is None:
            buckets.note_foreign(key, consequence)
        return
    if "DeleteObject" in buckets.left_out.conditions:
        return  # an unconditional delete might remove a newer one; the key's own message sees to it
    async with writing(buckets, sync, key) as inner:
        try:
            await buckets.delete_object(inner, existing)
        except ClientError as error:
            if error_code(error) == "NotImplemented":
                return
            raise
    log.info(REMOVED_FIRST, quoted(key), ANOTHER if source else IT_NO_LONGER)
    await look_again(buckets, sync, key, source)


@asynccontextmanager
async def writing(buckets: Buckets, sync: KeySync, key: str) -> AsyncIterator[KeySync]:
    """What a write has left is seen to: it got no answer, or not all parts of it were copied."""
    inner = KeySync(key, interruption=sync.interruption, host=InnerHost(sync.host))
    try:
        yield inner
    finally:
        if inner.upload:
            await drop_upload(buckets, inner)
        if inner.result.may_land_until:
            await sync.host.look_later(key, buckets.settings.copy_timeout)


async def look_again(buckets: Buckets, sync: KeySync, key: str, seen: Source | None) -> None:
    """If the source is another by now, or cannot be looked at, the key is to be synced once more."""
    is_as_seen = False
    try:
        is_as_seen = await buckets.head_source(key) == seen
    finally:
        if not is_as_seen:
            await sync.host.look_later(key, 0)
