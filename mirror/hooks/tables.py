"""TABLES: a commit of a table is copied after the files that it names and after the commit before it, and what the
source has deleted of a table goes after all of its commits."""

from __future__ import annotations

import functools
import re
from collections.abc import Awaitable, Callable, Collection

from mirror.hooks.others import fault_of
from mirror.hooks.shared import Shared
from mirror.hooks.table_files import TableFiles
from mirror.hooks.table_log import TableLogs, is_same
from mirror.hooks.waiting import Awaited, Waits, delay_of, end_of_wait, soon
from mirror.model.delta import COMMIT, LOG, POINTER, LogFile, commit_key, is_in_log, log_file
from mirror.model.errors import AWS_ERRORS, Changed, Postponed
from mirror.protocol.attempt import KeySync
from mirror.protocol.buckets import Buckets
from mirror.protocol.objects import Destination, Source
from mirror.protocol.requests import head_destination, head_source
from mirror.protocol.sync import FOR_WORKER_SECONDS, Syncer


class Tables:
    """The hooks of TABLES in one worker."""

    def __init__(self, buckets: Buckets, syncer: Syncer, waits: Waits) -> None:
        """`syncer`: writes other keys, without these hooks."""
        self.buckets = buckets
        self.files = TableFiles(buckets, syncer, waits)
        self.logs = TableLogs(buckets, syncer, self.files)
        self.folders: Shared[bool] = Shared(buckets.now)

    async def before_copy(self, sync: KeySync) -> None:
        """If the key is of a table's log, has the destination hold all that it needs. Raises Postponed and others."""
        file = log_file(sync.key)
        if file:
            await self.aside(sync, functools.partial(self.complete, sync, file))

    async def before_write(self, sync: KeySync) -> None:
        """If the key is of a table and is to be deleted, has the destination's log be like the source's before."""
        source, _ = sync.result.sight
        if source is None and (table := await self.table_of(sync)) is not None:
            await self.aside(sync, functools.partial(self.logs.bring_log, sync, table))

    async def aside(self, sync: KeySync, work: Callable[[], Awaitable[Awaited | None]]) -> None:
        """Other keys use its place meanwhile. `work` returns what does not arrive."""
        if self.buckets.settings.largest:
            raise Postponed("of a table, whose order a worker keeps", FOR_WORKER_SECONDS)
        if not sync.host.wait_aside(sync):
            raise Postponed("too many wait at once", delay_of(sync), is_exact=True)
        if lacking := await work():
            raise end_of_wait(sync, lacking)
        await sync.host.come_back(sync)

    async def complete(self, sync: KeySync, file: LogFile) -> Awaited | None:
        source, existing = sync.result.sight
        assert source
        if file.kind != POINTER and (lacking := await self.files.bring_named(sync, file, source)):
            return lacking
        needed = await self.needed_in_log(file, source, existing)
        if needed and await soon(self.buckets, sync, functools.partial(self.are_there, needed)):
            return None
        lacking = await self.logs.bring_log(sync, file.table)
        if not lacking and await head_destination(self.buckets, file.key) != existing:
            raise Changed("it was copied with the log")
        return lacking

    async def needed_in_log(self, file: LogFile, source: Source, existing: Destination | None) -> Collection[str]:
        """The log files that allow for a copy of this one if they are there. Empty if only the whole log shows it."""
        if file.kind == POINTER:
            return await self.logs.checkpoint_of(file, source)
        if file.kind != COMMIT:
            return [commit_key(file.table, file.version)]
        return [] if existing or not file.version else [commit_key(file.table, file.version - 1)]

    async def are_there(self, keys: Collection[str]) -> bool:
        for key in keys:
            if not await self.is_there(key):
                return False
        return True

    async def is_there(self, key: str) -> bool:
        """Whether the destination has the log file as the source has it now. A look that fails does not show it."""
        try:
            existing = await head_destination(self.buckets, key)
            source = await head_source(self.buckets, key) if existing else None
        except AWS_ERRORS as error:
            fault_of(key, error)
            return False
        return bool(existing and source and is_same(source, existing))

    # Which table

    async def table_of(self, sync: KeySync) -> str | None:
        """The innermost folder above the key that has a log in the source, and None if there is none."""
        key = sync.key
        if file := log_file(key):
            return file.table
        ends = [match.end() for match in re.finditer("/", key)]
        for folder in [key[:end] for end in (*reversed(ends), 0)]:
            if await self.folders.get(sync, folder, functools.partial(self.has_log, folder)):
                return folder
        return None

    async def has_log(self, folder: str) -> bool:
        if is_in_log(folder) or not self.buckets.settings.wanted.takes(commit_key(folder, 0)):
            return False
        page = await self.buckets.s3.list_objects_v2(Prefix=folder + LOG, MaxKeys=1, **self.buckets.source)
        return bool(page.get("Contents"))
