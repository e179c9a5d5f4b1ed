"""TABLES: a commit of a table is copied after the files that it names and after the commit before it, and what the
source has deleted of a table goes after all of its commits."""

from __future__ import annotations

import functools
import math
from collections.abc import Awaitable, Callable, Collection

from mirror.model.delta import COMMIT, LOG, POINTER, LogFile, commit_key, is_in_log, log_file
from mirror.model.errors import AWS_ERRORS, Changed, Postponed
from mirror.model.selection import folders_of
from mirror.options.others import fault_of
from mirror.options.table_log import TableLogs, is_same
from mirror.options.waiting import Awaited, Coalesced, Waits, remember
from mirror.protocol.attempt import KeySync
from mirror.protocol.buckets import holds_any
from mirror.protocol.objects import Destination, Source
from mirror.protocol.sync import FOR_WORKER_SECONDS, Syncer
from mirror.queue.option import Option

# A worker remembers for this long that a folder of the source has no log. See FIRST_SHOWN_SECONDS.
NO_LOG_SECONDS = 2.0
FOLDERS_KEPT = 20_000  # at some 300 bytes each


class Tables(Option):
    """TABLES in one worker."""

    def __init__(self, waits: Waits, syncer: Syncer) -> None:
        """`syncer`: writes other keys, without this option."""
        self.buckets = waits.buckets
        self.waits = waits
        self.logs = TableLogs(waits, syncer)
        self.files = self.logs.files
        self.folders: Coalesced[float | None] = Coalesced(self.buckets.now)
        self.without_log: dict[str, float] = {}  # folder of the source -> when the look began that showed no log

    async def before_copy(self, sync: KeySync) -> None:
        """If the key is of a table's log, has the destination hold all that it needs."""
        file = log_file(sync.key)
        if file:
            if lacking := self.logs.blocked_by(file):
                raise self.waits.end_of_wait(sync, lacking)
            await self.aside(sync, functools.partial(self.complete, sync, file))

    async def before_write(self, sync: KeySync) -> None:
        """If the key is of a table and is to be deleted, has the destination's log be like the source's before."""
        if sync.result.sight.source is None and (table := await self.table_of(sync)) is not None:
            await self.aside(sync, functools.partial(self.logs.bring_log, sync, table))

    async def aside(self, sync: KeySync, work: Callable[[], Awaitable[Awaited | None]]) -> None:
        """Other keys use its slot meanwhile. `work` returns what does not arrive."""
        if self.buckets.settings.in_function:
            raise Postponed("of a table, whose order a worker keeps", FOR_WORKER_SECONDS)
        await self.waits.aside(sync, work)

    async def complete(self, sync: KeySync, file: LogFile) -> Awaited | None:
        source, existing = sync.result.sight
        assert source
        if file.kind != POINTER and (lacking := await self.files.bring_named(sync, file, source)):
            return self.logs.note_blocked(file.key, lacking)
        needed = await self.needed_in_log(file, source, existing)

        async def is_known() -> bool:
            return bool(self.logs.blocked_by(file)) or await self.are_there(needed)

        if needed and await self.waits.soon(sync, is_known):
            return self.logs.blocked_by(file)
        lacking = await self.logs.bring_log(sync, file.table)
        if not lacking and await self.buckets.head_destination(file.key) != existing:
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
        """Whether the destination has these log files as the source has them now. A look that fails does not show
        it."""
        for key in keys:
            try:
                existing = await self.buckets.head_destination(key)
                source = await self.buckets.head_source(key) if existing else None
            except AWS_ERRORS as error:
                fault_of(key, error)
                return False
            if not (existing and source and is_same(source, existing)):
                return False
        return True

    # Which table

    async def table_of(self, sync: KeySync) -> str | None:
        """The innermost folder above the key that has a log in the source, or None. The key has been found to be gone.

        Other keys use the slot while folders are looked at. What was seen after the key had gone stays true: a
        commit that is made later does not name it. What was remembered from before may be too old by the time the sync
        has a slot again.
        """
        if file := log_file(sync.key):
            return file.table
        asked, seen = self.buckets.now(), set[str]()
        while unknown := [folder for folder in self.folders_above(sync.key) if not self.has_none(folder, seen)]:
            sync.host.wait_aside(sync)  # if too many wait, it looks in its slot
            for folder in unknown:
                looked = await self.folders.get(sync, folder, functools.partial(self.look_for_log, folder))
                if looked is None:
                    return folder
                if looked >= asked:
                    seen.add(folder)
            if not sync.host.has_slot(sync):
                await sync.host.come_back(sync)
        return None

    def folders_above(self, key: str) -> list[str]:
        """Those that may have a log, the innermost first."""
        wanted = self.buckets.settings.wanted

        def may_be_table(folder: str) -> bool:
            return not is_in_log(folder) and wanted.takes(commit_key(folder, 0))

        return list(filter(may_be_table, reversed(folders_of(key))))

    def has_none(self, folder: str, seen: Collection[str]) -> bool:
        return folder in seen or self.buckets.now() - self.without_log.get(folder, -math.inf) < NO_LOG_SECONDS

    async def look_for_log(self, folder: str) -> float | None:
        """Since when the folder is known to have no log; None if it has one."""
        if self.has_none(folder, ()):
            return self.without_log[folder]
        began, parameters = self.buckets.now(), {"Prefix": folder + LOG, "MaxKeys": 1, **self.buckets.source}
        self.without_log.pop(folder, None)
        if await holds_any(self.buckets.s3.list_objects_v2, "Contents", parameters):
            return None
        remember(self.without_log, folder, began, FOLDERS_KEPT)
        return began
