"""TABLES: the destination's log of a table becomes what the source's is by now, each commit after its files."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Collection, Iterable, Sequence

from botocore.exceptions import ClientError

from mirror.concurrency import Slots
from mirror.hooks.others import copy_other, remove_other
from mirror.hooks.shared import Shared
from mirror.hooks.table_files import READS, TableFiles, listed
from mirror.hooks.waiting import Awaited, Blocked
from mirror.model.delta import (
    LOG,
    POINTER,
    LogFile,
    in_order_of_removal,
    is_anew,
    log_file,
    plan_for,
    version_of_pointer,
)
from mirror.model.errors import is_change
from mirror.model.limits import MIB
from mirror.protocol.attempt import KeySync
from mirror.protocol.buckets import Buckets
from mirror.protocol.objects import Destination, Source
from mirror.protocol.requests import head_destination, head_source, read_source
from mirror.protocol.retries import STUCK_TRIES
from mirror.protocol.sync import Syncer
from mirror.protocol.verdict import EQUAL, MISSING, NO_DOUBT, STALE, UNDECIDED, SizeAndTime, judge, judge_listed
from mirror.readers.completeness import LANDED_SECONDS

LARGEST_POINTER = MIB
COMMITS_AHEAD = 64  # of a log whose files are looked for before the first of them is copied
PAUSE_OF_CHANGE = 0.05
YOUNG_SECONDS = 3600  # a log file of this age may still be one of the table that was in this folder before


class TableLogs:
    """Of all tables of one worker."""

    def __init__(self, buckets: Buckets, syncer: Syncer, files: TableFiles) -> None:
        self.buckets = buckets
        self.syncer = syncer
        self.files = files
        self.ahead = Slots(READS)
        self.shared: Shared[Awaited | None] = Shared(buckets.now)

    async def bring_log(self, sync: KeySync, table: str) -> Awaited | None:
        """Has the destination hold the log as the source holds it by now, as far as a reader of the newest version
        needs that. Returns what does not arrive."""
        return await self.shared.get(sync, table, functools.partial(self.bring_what_lacks, sync, table))

    async def bring_what_lacks(self, sync: KeySync, table: str) -> Awaited | None:
        mirrored = await listed(self.buckets, self.buckets.destination, table + LOG)
        source = await listed(self.buckets, self.buckets.source, table + LOG)
        missing, stale = await self.differing(source, mirrored)
        files, copies = files_of(source), files_of(mirrored)
        if not files:
            return None
        if is_anew(files, copies, stale):
            await self.clear(sync, [file for file in copies if file.key in stale or file.key not in source])
        plan = plan_for(files, missing)
        if plan.problem:
            return Blocked(table + LOG, plan.problem)
        lacking = await self.files.compared(sync, table) if plan.base else None
        for key in plan.base:
            lacking = lacking or await self.copy(sync, key, source)
        for some in itertools.batched(plan.commits, COMMITS_AHEAD, strict=False):
            lacking = lacking or await self.copy_commits(sync, some, source)
        for key in plan.after:
            lacking = lacking or await self.copy(sync, key, source)
        return lacking

    async def copy_commits(
        self, sync: KeySync, commits: Sequence[str], log_of_source: Collection[str]
    ) -> Awaited | None:
        """Copies commits one after the other, once the files of all of them are there."""
        ready: dict[str, Source] = {}
        blocked: dict[str, Awaited] = {}

        async def prepare(key: str) -> None:
            if blocked:
                return  # it comes after one of them
            file, source = log_file(key), await head_source(self.buckets, key)
            if file and source and not source.archived:
                if lacking := await self.files.bring_named(sync, file, source):
                    blocked[key] = lacking
                else:
                    ready[key] = source

        await self.ahead.run(prepare, commits)
        for key in commits:
            lacking = blocked.get(key) or await self.copy_ready(sync, key, ready.get(key), log_of_source)
            if lacking:
                return lacking
        return None

    async def copy_ready(
        self, sync: KeySync, key: str, source: Source | None, log_of_source: Collection[str]
    ) -> Awaited | None:
        """With one request as a rule: the destination has no such commit, unless another worker has copied it since."""
        if source:
            sync.interruption.check()
            try:
                return await copy_other(self.syncer, sync, key, source, None)
            except ClientError as error:
                if not is_change(error):
                    raise
        return await self.copy(sync, key, log_of_source)

    async def differing(
        self, source: dict[str, SizeAndTime], mirrored: dict[str, SizeAndTime]
    ) -> tuple[set[str], set[str]]:
        """What of the source's log the destination does not have, and what of that it has otherwise."""
        young, doubt = self.buckets.wall() - YOUNG_SECONDS, self.buckets.settings.copy_timeout + LANDED_SECONDS
        found = {
            key: judge_listed(seen, mirrored.get(key), doubt=doubt if seen[1] > young else NO_DOUBT)
            for key, seen in source.items()
        }
        missing = {key for key, what in found.items() if what == MISSING}
        stale: set[str] = set()

        async def look(key: str) -> None:
            existing, current = await head_destination(self.buckets, key), await head_source(self.buckets, key)
            if current and not (existing and is_same(current, existing)):
                (stale if existing else missing).add(key)

        await self.files.slots.run(look, [key for key, what in found.items() if what in (STALE, UNDECIDED)])
        return missing | stale, stale

    async def copy(self, sync: KeySync, key: str, log_of_source: Collection[str]) -> Awaited | None:
        """Copies a file of a log after what it names. What it names in turn is there by now."""
        file = log_file(key)
        assert file
        for _ in range(STUCK_TRIES):
            sync.interruption.check()
            existing, source = await head_destination(self.buckets, key), await head_source(self.buckets, key)
            if source is None or (existing and is_same(source, existing)):
                return None
            if source.archived:
                return Blocked(key, f"archived in {source.archived}")
            if file.kind == POINTER:
                lacking = await self.bring_checkpoint(sync, file, source, log_of_source)
            else:
                lacking = await self.files.bring_named(sync, file, source)
            try:
                return lacking or await copy_other(self.syncer, sync, key, source, existing)
            except ClientError as error:
                if not is_change(error):
                    raise
            await sync.interruption.pause(PAUSE_OF_CHANGE)  # another worker copies it as well
        return Blocked(key, "it changes all the time")

    async def bring_checkpoint(
        self, sync: KeySync, file: LogFile, source: Source, log_of_source: Collection[str]
    ) -> Awaited | None:
        """Has the destination hold the checkpoint that a pointer names."""
        version = None
        if source.size <= LARGEST_POINTER:
            version = version_of_pointer(await read_source(self.buckets, file.key, source))
        if version is None:
            return Blocked(file.key, "it names no version")
        keys = [key for key in log_of_source if key.startswith(f"{file.table}{LOG}{version:020}.checkpoint.")]
        lacking: Awaited | None = None if keys else Blocked(file.key, f"version {version} has no checkpoint")
        for key in keys:
            lacking = lacking or await self.copy(sync, key, log_of_source)
        return lacking

    async def clear(self, sync: KeySync, files: list[LogFile]) -> None:
        """Deletes what the destination still has of the log of a table that was in this folder before."""
        for key in in_order_of_removal(files):
            sync.interruption.check()
            existing = await head_destination(self.buckets, key)
            source = await head_source(self.buckets, key) if existing else None
            if existing and not (source and is_same(source, existing)):
                await remove_other(self.buckets, sync, key, source, existing)


def files_of(listed: Iterable[str]) -> list[LogFile]:
    return [file for file in map(log_file, listed) if file]


def is_same(source: Source, copy: Destination) -> bool:
    """Whether it is a copy of those bytes, even if the source was put once more since, for another storage class."""
    has_same_bytes = copy.provenance.split(" ")[0] == source.etag.strip('"')
    return has_same_bytes or judge(source, copy).what == EQUAL
