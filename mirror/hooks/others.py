"""Writes of a key's sync on other keys: a file that a commit names, a commit before it, an old log."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from botocore.exceptions import ClientError

from mirror.hooks.waiting import Blocked
from mirror.model.errors import Refused, describe, is_busy, is_change, may_be_environment
from mirror.model.log_lines import REMOVED_FIRST, quoted
from mirror.protocol.attempt import Host, KeySync
from mirror.protocol.buckets import Buckets
from mirror.protocol.multipart import drop_upload
from mirror.protocol.objects import Destination, Source
from mirror.protocol.requests import delete_object
from mirror.protocol.retries import Retries
from mirror.protocol.sync import Syncer

log = logging.getLogger("worker")


class Aside(Host):
    """For the writes of a key's sync on other keys: it holds the place, or has none."""

    def __init__(self, host: Host) -> None:
        self.host = host

    def progressed(self, sync: KeySync, since: float) -> None:
        self.host.progressed(sync, since)

    async def look_later(self, key: str, delay: float) -> None:
        await self.host.look_later(key, delay)


@dataclass(frozen=True)
class Others:
    """Makes them, each on condition that the destination is what was seen. `syncer`: without the hooks that ask."""

    buckets: Buckets
    syncer: Syncer

    async def copy(self, sync: KeySync, key: str, source: Source, existing: Destination | None) -> Blocked | None:
        """Copies the version that was seen. Raises the error of a change, or of what is not the key's own fault."""
        async with self.on(sync, key) as inner:
            try:
                await self.syncer.write(inner, Retries(self.buckets, inner), source, existing)
            except (ClientError, Refused) as error:
                if is_change(error) or is_busy(error) or may_be_environment(error):
                    raise
                return Blocked(key, describe(error))
        return None

    async def delete(self, sync: KeySync, key: str, existing: Destination) -> None:
        if self.buckets.left_out.conditions:
            return  # an unconditional delete might remove a newer one
        async with self.on(sync, key) as inner:
            await delete_object(self.buckets, inner, existing)
            log.info(REMOVED_FIRST, quoted(key))

    @asynccontextmanager
    async def on(self, sync: KeySync, key: str) -> AsyncIterator[KeySync]:
        """What a write has left is seen to: it got no answer, or not all parts of it were copied."""
        inner = KeySync(key, interruption=sync.interruption, host=Aside(sync.host))
        try:
            yield inner
        finally:
            if inner.upload:
                await drop_upload(self.buckets, inner)
            if inner.result.unsettled_until:
                await sync.host.look_later(key, self.buckets.settings.copy_timeout)
