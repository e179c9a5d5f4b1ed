"""TABLES: a commit of a table is copied after the files that it names and after the commit before it, and what the
source has deleted of a table goes after all of its commits.

A worker that is asked for a commit reads it, which is the only object that it reads, to learn those names.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from botocore.exceptions import ClientError

from mirror.concurrency import Slots
from mirror.hooks.others import copy_other, remove_other
from mirror.hooks.waiting import Awaited, Blocked, Waits, delay_of, end_of_wait
from mirror.model.delta import (
    COMMIT,
    LOG,
    POINTER,
    LogFile,
    commit_key,
    in_order_of_removal,
    is_anew,
    log_file,
    names_of,
    plan_for,
    version_of_pointer,
)
from mirror.model.errors import Changed, Postponed, is_change
from mirror.model.limits import MIB
from mirror.model.selection import is_marker
from mirror.protocol.attempt import KeySync
from mirror.protocol.buckets import Buckets
from mirror.protocol.objects import Destination, Source
from mirror.protocol.requests import (
    SMALL_COPY_SIZE,
    head_destination,
    head_source,
    pages,
    read_source,
)
from mirror.protocol.retries import STUCK_TRIES
from mirror.protocol.sync import FOR_WORKER_SECONDS, Syncer
from mirror.protocol.verdict import EQUAL, MISSING, NO_DOUBT, STALE, UNDECIDED, SizeAndTime, judge, judge_listed
from mirror.readers.completeness import LANDED_SECONDS

LARGEST_READ = 16 * MIB  # a commit of some 40,000 files; of a larger one the whole table is compared
LARGEST_POINTER = MIB
READS = 8  # commits at a time, as each takes memory
COMMITS_AHEAD = 64  # of a log whose files are looked for before the first of them is copied
LOOKS = 64  # at files that commits name, and copies of them, at a time
# What is being copied already is looked for again, for so many seconds, before it is copied once more.
UNDER_WAY_SECONDS, PAUSE_OF_LOOKS = 2.0, 0.1
PAUSE_OF_CHANGE = 0.05
YOUNG_SECONDS = 3600  # a log file of this age may still be one of the table that was in this folder before


@dataclass(eq=False)
class Latest[T]:
    """The latest look at something, as long as somebody waits for it: when it began, and what it showed."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    shown: tuple[float, T] | None = None


class Shared[T]:
    """A look that many ask for at the same time. One of them looks, for all that asked before it did."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.latest: WeakValueDictionary[str, Latest[T]] = WeakValueDictionary()

    async def get(self, sync: KeySync, what: str, look: Callable[[], Awaitable[T]]) -> T:
        asked, latest = self.now(), self.latest.setdefault(what, Latest())
        async with latest.lock:
            sync.interruption.check()
            if latest.shown is None or latest.shown[0] <= asked:
                began = self.now()
                latest.shown = began, await look()
            return latest.shown[1]


@dataclass(eq=False)
class Files:
    """Files that the destination does not have yet, as far as the source has them: they have unique names, and are
    never overwritten."""

    buckets: Buckets
    slots: Slots
    prefixes: tuple[str, ...]
    missing: dict[str, Source | None]
    troubles: dict[str, str] = field(default_factory=dict)

    @property
    def lacking(self) -> int:
        return len(self.missing)

    async def look(self) -> Files:
        await self.slots.run(self.look_at, list(self.missing))
        return self

    async def look_at(self, key: str) -> None:
        if not await head_destination(self.buckets, key):
            self.missing[key] = await head_source(self.buckets, key)
            if self.missing[key]:
                return
        del self.missing[key]
        self.troubles.pop(key, None)


class Tables:
    """The hooks of TABLES in one worker."""

    def __init__(self, buckets: Buckets, syncer: Syncer, waits: Waits | None = None) -> None:
        """`syncer`: writes other keys, without these hooks."""
        self.buckets = buckets
        self.syncer = syncer
        self.waits = waits or Waits(buckets)
        self.reads = asyncio.Semaphore(READS)
        self.slots = Slots(LOOKS)
        self.ahead = Slots(READS)
        self.logs: Shared[Awaited | None] = Shared(buckets.now)
        self.folders: Shared[bool] = Shared(buckets.now)

    # The hooks

    async def before_copy(self, sync: KeySync) -> None:
        """If the key is of a table's log, has the destination hold all that it needs. Raises Postponed and others."""
        file = log_file(sync.key)
        if file:
            await self.aside(sync, functools.partial(self.complete, sync, file))

    async def before_write(self, sync: KeySync) -> None:
        """If the key is of a table and is to be deleted, has the destination's log be like the source's before."""
        source, _ = sync.result.sight
        if source is None and (table := await self.table_of(sync)) is not None:
            await self.aside(sync, functools.partial(self.bring_log, sync, table))

    async def aside(self, sync: KeySync, work: Callable[[], Awaitable[Awaited | None]]) -> None:
        """Other keys use its place meanwhile. `work` returns what does not arrive."""
        if self.buckets.settings.largest:
            raise Postponed("of a table, whose order a worker keeps", FOR_WORKER_SECONDS)
        if not sync.host.step_aside(sync):
            raise Postponed("too many wait at once", delay_of(sync), is_exact=True)
        if lacking := await work():
            raise end_of_wait(sync, lacking)
        await sync.host.come_back(sync)

    # What a file of a log needs

    async def complete(self, sync: KeySync, file: LogFile) -> Awaited | None:
        source, existing = sync.result.sight
        assert source
        if file.kind != POINTER:
            if lacking := await self.bring_named(sync, file, source):
                return lacking
            before = file.version - 1 if file.kind == COMMIT else file.version
            is_next = before >= 0 and not (existing and file.kind == COMMIT)
            if is_next and await self.has_arrived(sync, commit_key(file.table, before)):
                return None
        lacking = await self.bring_log(sync, file.table)
        if not lacking and await head_destination(self.buckets, file.key) != existing:
            raise Changed("it was copied with the log")
        return lacking

    async def has_arrived(self, sync: KeySync, key: str) -> bool:
        return await self.soon(sync, functools.partial(self.is_there, key))

    async def soon(self, sync: KeySync, is_so: Callable[[], Awaitable[bool]]) -> bool:
        """Whether it is so within a moment, in which what is under way may arrive."""
        until = self.buckets.now() + UNDER_WAY_SECONDS
        while not await is_so():
            if self.buckets.now() >= until:
                return False
            await sync.interruption.pause(PAUSE_OF_LOOKS)
        return True

    async def is_there(self, key: str) -> bool:
        """Whether the destination has the log file as the source has it now."""
        existing = await head_destination(self.buckets, key)
        source = await head_source(self.buckets, key) if existing else None
        return bool(existing and source and is_same(source, existing))

    async def bring_named(self, sync: KeySync, file: LogFile, source: Source) -> Awaited | None:
        """Has the destination hold the files that a commit adds, or the sidecars of a checkpoint."""
        keys: set[str] | None = set()
        if file.kind == COMMIT:
            keys = await self.names_in(file, source) if source.size <= LARGEST_READ else None
        elif file.has_sidecars:
            keys = set(await self.listed(self.buckets.source, f"{file.table}{LOG}_sidecars/"))
        return await self.compared(sync, file.table) if keys is None else await self.bring_files(sync, file.table, keys)

    async def names_in(self, file: LogFile, source: Source) -> set[str] | None:
        async with self.reads:
            return names_of(await read_source(self.buckets, file.key, source), file.table)

    async def bring_files(self, sync: KeySync, table: str, keys: set[str]) -> Awaited | None:
        """Waits a moment for what may be under way, then copies it. What is large is left to its own message."""
        taken: dict[str, Source | None] = dict.fromkeys(filter(self.buckets.settings.wanted.takes, sorted(keys)))
        state = Files(self.buckets, self.slots, (table,), taken)

        async def are_there() -> bool:
            return not (await state.look()).missing

        if await self.soon(sync, are_there):
            return None
        largest = min(SMALL_COPY_SIZE, self.buckets.settings.multipart_threshold)

        async def bring(key: str) -> None:
            found = state.missing[key]
            if found and found.size <= largest and not found.archived:
                lacking = await copy_other(self.syncer, sync, key, found, None)
                state.troubles |= lacking.troubles if lacking else {}

        await self.slots.run(bring, list(state.missing))
        await state.look()
        return await self.waits.what_lacks(sync, state)

    async def compared(self, sync: KeySync, table: str) -> Awaited | None:
        """Waits until the destination has all that the source holds of the table now, but for its log, and for markers,
        which wait for that."""
        copy_last = self.buckets.settings.copy_last

        def counts(key: str) -> bool:
            return not (key.startswith(table + LOG) or is_marker(key, copy_last))

        return await self.waits.what_lacks(sync, await self.waits.compared(sync, table, counts, exact=False))

    # The whole log

    async def bring_log(self, sync: KeySync, table: str) -> Awaited | None:
        """Has the destination hold the log as the source holds it by now, as far as a reader of the newest version
        needs that. Returns what does not arrive."""
        return await self.logs.get(sync, table, functools.partial(self.bring_what_lacks, sync, table))

    async def bring_what_lacks(self, sync: KeySync, table: str) -> Awaited | None:
        mirrored = await self.listed(self.buckets.destination, table + LOG)
        source = await self.listed(self.buckets.source, table + LOG)
        missing, stale = await self.differing(source, mirrored)
        files, copies = files_of(source), files_of(mirrored)
        if not files:
            return None
        if is_anew(files, copies, stale):
            await self.clear(sync, [file for file in copies if file.key in stale or file.key not in source])
        plan = plan_for(files, missing)
        if plan.problem:
            return Blocked(table + LOG, plan.problem)
        lacking = await self.compared(sync, table) if plan.base else None
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
                if lacking := await self.bring_named(sync, file, source):
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

    async def listed(self, bucket: dict[str, str], folder: str) -> dict[str, SizeAndTime]:
        found: dict[str, SizeAndTime] = {}
        async for page in pages(self.buckets.s3.list_objects_v2, {"Prefix": folder, "Delimiter": "/", **bucket}):
            for item in page.get("Contents", []):
                if self.buckets.settings.wanted.takes(item["Key"]):
                    found[item["Key"]] = item["Size"], int(item["LastModified"].timestamp())
        return found

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

        await self.slots.run(look, [key for key, what in found.items() if what in (STALE, UNDECIDED)])
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
                lacking = await self.bring_named(sync, file, source)
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
        if LOG in folder or not self.buckets.settings.wanted.takes(commit_key(folder, 0)):
            return False
        page = await self.buckets.s3.list_objects_v2(Prefix=folder + LOG, MaxKeys=1, **self.buckets.source)
        return bool(page.get("Contents"))


def files_of(listed: Iterable[str]) -> list[LogFile]:
    return [file for file in map(log_file, listed) if file]


def is_same(source: Source, copy: Destination) -> bool:
    """Whether it is a copy of those bytes, even if the source was put once more since, for another storage class."""
    has_same_bytes = copy.provenance.split(" ")[0] == source.etag.strip('"')
    return has_same_bytes or judge(source, copy).what == EQUAL
