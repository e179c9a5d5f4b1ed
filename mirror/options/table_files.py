"""TABLES: the files that a commit or a checkpoint names are in the destination before it.

A commit is read for those names. Beside _last_checkpoint, commits are the only objects that a worker reads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

from botocore.exceptions import ClientError

from mirror.model.delta import COMMIT, LOG, LogFile, names_of
from mirror.model.errors import is_change
from mirror.model.selection import is_marker
from mirror.model.services import MIB
from mirror.options.others import copy_other
from mirror.options.waiting import Awaited, AwaitedFiles, Waits
from mirror.protocol.attempt import KeySync
from mirror.protocol.buckets import SMALL_COPY_SIZE, Buckets, pages
from mirror.protocol.objects import Source
from mirror.protocol.sync import Syncer
from mirror.readers.walk import Entry, listed_as

LARGEST_READ = 16 * MIB  # a commit of some 40,000 files; of a larger one the whole table is compared
READS = 8  # commits at a time: each takes memory
LOOKS = 64  # at files that commits name, and copies of them, at a time


class TableFiles:
    """Of all tables of one worker."""

    def __init__(self, waits: Waits, syncer: Syncer) -> None:
        self.buckets = waits.buckets
        self.syncer = syncer
        self.waits = waits
        self.reads = asyncio.Semaphore(READS)
        self.slots = waits.slots(LOOKS)

    async def bring_named(self, sync: KeySync, file: LogFile, source: Source) -> Awaited | None:
        """Has the destination hold what the file names, and waits for that. Returns what does not arrive."""
        return await self.waits.wait_for(sync, await self.begin_named(sync, file, source))

    async def begin_named(self, sync: KeySync, file: LogFile, source: Source) -> Awaited:
        """Copies the files that a commit adds, or the sidecars of a checkpoint. Returns what has not arrived yet."""
        keys: set[str] | None = set()
        if file.kind == COMMIT:
            keys = None
            if source.size <= LARGEST_READ:
                async with self.reads:
                    text = await self.buckets.read(self.buckets.source, file.key, source.etag)
                keys = names_of(text, file.table)
        elif file.has_sidecars:
            keys = set(await listed(self.buckets, self.buckets.source, f"{file.table}{LOG}_sidecars/"))
        if keys is None:
            return await self.compare(sync, file.table)
        return await self.begin_files(sync, file.table, keys)

    async def begin_files(self, sync: KeySync, table: str, keys: set[str]) -> Awaited:
        """Waits a moment for what may be under way, then copies it. What is large is left to its own message."""
        taken: dict[str, Source | None] = dict.fromkeys(filter(self.buckets.settings.wanted.takes, sorted(keys)))
        state = AwaitedFiles(self.buckets, self.slots, (table,), taken)

        async def are_there() -> bool:
            return not (await state.look()).may_arrive

        if await self.waits.soon(sync, are_there):
            return state
        largest = min(SMALL_COPY_SIZE, self.buckets.settings.multipart_threshold)

        async def bring(key: str) -> None:
            found = state.missing[key]
            if not found or found.size > largest or found.archived:
                return
            try:
                lacking = await copy_other(self.syncer, sync, key, found, None)
            except ClientError as error:
                if not is_change(error):
                    raise
                return  # another worker copies it as well, or the source has it no longer
            state.troubles |= lacking.troubles if lacking else {}

        await self.slots.run(bring, list(state.missing))
        return await state.look()

    async def compare(self, sync: KeySync, table: str) -> Awaited:
        """What the destination does not have yet of all that the source holds of the table now; but not the log, nor
        markers, which wait for that."""
        copy_last = self.buckets.settings.copy_last

        def counts(key: str) -> bool:
            return not (key.startswith(table + LOG) or is_marker(key, copy_last))

        return await self.waits.compared(sync, table, counts, is_for_marker=False)


async def listed(
    buckets: Buckets,
    bucket: dict[str, str],
    prefix: str,
    page_slot: Callable[[], AbstractAsyncContextManager[None]] = nullcontext,
) -> dict[str, Entry]:
    """What is directly under a folder, or of the source also under another prefix. `page_slot` wraps each request."""
    found: dict[str, Entry] = {}

    async def list_page(**parameters: Any) -> dict[str, Any]:
        async with page_slot():
            return await buckets.s3.list_objects_v2(**parameters)

    async for page in pages(list_page, {"Prefix": prefix, "Delimiter": "/", **bucket}):
        for item in page.get("Contents", []):
            if buckets.settings.wanted.takes(item["Key"]):
                found[item["Key"]] = listed_as(item)
    return found
