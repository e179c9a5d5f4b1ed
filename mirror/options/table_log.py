"""TABLES: the destination's log of a table becomes what the source's is by now, each commit after its files."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from botocore.exceptions import ClientError

from mirror.model.delta import (
    CHECKPOINT,
    COMMIT,
    LOG,
    POINTER,
    LogFile,
    Plan,
    in_order_of_removal,
    is_anew,
    later_than,
    log_file,
    plan_for,
    version_of_pointer,
)
from mirror.model.errors import AWS_ERRORS, Changed, is_change
from mirror.model.services import MIB
from mirror.options.others import copy_other, fault_of, remove_other
from mirror.options.table_files import LARGEST_READ, READS, TableFiles, listed
from mirror.options.waiting import ARCHIVED_SECONDS, Awaited, Blocked, Coalesced, Waits, remember
from mirror.protocol.attempt import KeySync
from mirror.protocol.buckets import LANDED_SECONDS
from mirror.protocol.objects import Destination, Source
from mirror.protocol.retries import STUCK_TRIES
from mirror.protocol.sync import Syncer
from mirror.protocol.verdict import (
    EQUAL,
    FOREIGN,
    MISSING,
    NO_DOUBT,
    STALE,
    UNDECIDED,
    is_ours_to_delete,
    judge,
    judge_listed,
)
from mirror.readers.walk import Entry

CHANGES = "it changes all the time"
FOREIGN_LOG = "readers of the table see what it says until the source has a file of that name"
LARGEST_POINTER = MIB
COMMITS_AHEAD = 64  # of a log whose files are looked for before the first of them is copied
PAUSE_OF_CHANGE = 0.05
YOUNG_SECONDS = 3600  # a log file of this age may still be one of the table that was in this folder before
# So long after a log was found in the source its first commit is copied. By then no worker remembers any more that the
# folder had none (NO_LOG_SECONDS in tables.py), and the deletes that rely on that have been sent.
FIRST_SHOWN_SECONDS = 5.0
TABLES_KEPT = 1000  # that wait for archived files
SAME_KEPT = 20_000  # log files that were looked at and are the same, at some 400 bytes each


class Planned(NamedTuple):
    """What is to be deleted and copied, and the ETag of each file that is copied, and of each checkpoint."""

    old: list[LogFile]
    plan: Plan
    etags: dict[str, str]
    is_first: bool = False  # the destination has no commit of this table yet


class Waiting(NamedTuple):
    """A commit that waits for archived files, and with it all that come after it."""

    since: float
    version: int
    awaited: Awaited


class TableLogs:
    """Of all tables of one worker."""

    def __init__(self, waits: Waits, syncer: Syncer) -> None:
        self.buckets = waits.buckets
        self.waits = waits
        self.syncer = syncer
        self.files = TableFiles(waits, syncer)
        self.ahead = waits.slots(READS)
        self.listings = waits.budget.listings
        self.shared: Coalesced[Awaited | None] = Coalesced(self.buckets.now)
        self.blocked: dict[str, Waiting] = {}  # by table
        self.foreign: dict[str, str] = {}  # log file that the source does not have -> its ETag when a look showed that
        self.same: dict[str, tuple[str, str]] = {}  # log file -> both ETags when a look showed that it is the same

    async def bring_log(self, sync: KeySync, table: str) -> Awaited | None:
        """Has the destination hold the log as the source holds it by now, as far as a reader of the newest version
        needs that. Returns what does not arrive."""
        return await self.shared.get(sync, table, functools.partial(self.bring_what_lacks, sync, table))

    async def bring_what_lacks(self, sync: KeySync, table: str) -> Awaited | None:
        """Plans again if something in the plan has gone from the source or has changed: a writer cleans the log from
        its beginning, so going on with the next file would leave a gap."""
        for _ in range(STUCK_TRIES):
            try:
                return await self.bring_planned(sync, table)
            except (Changed, ClientError) as error:
                if not is_change(error):
                    raise
        return Blocked(table + LOG, CHANGES)

    async def bring_planned(self, sync: KeySync, table: str) -> Awaited | None:
        old, plan, etags, is_first = await self.planned(sync, table)
        if lacking := await self.clear(sync, old):
            return lacking
        if plan.problem:
            return Blocked(table + LOG, plan.problem)
        if is_first:
            await sync.interruption.pause(FIRST_SHOWN_SECONDS)
        lacking = await self.waits.wait_for(sync, await self.files.compare(sync, table)) if plan.base else None
        for key in plan.base:
            lacking = lacking or await self.copy(sync, key, etags)
        for some in itertools.batched(plan.commits, COMMITS_AHEAD, strict=False):
            lacking = lacking or await self.copy_commits(sync, some, etags)
        for key in plan.after:
            lacking = lacking or await self.copy(sync, key, etags)
        return lacking

    async def planned(self, sync: KeySync, table: str) -> Planned:
        sync.interruption.check()
        plan = object()
        with self.listings.begun(plan):
            page = functools.partial(self.listings.page, plan, sync.interruption)
            mirrored = await listed(self.buckets, self.buckets.destination, table + LOG, page)
            source = await listed(self.buckets, self.buckets.source, table + LOG, page)
            return await self.planned_for(source, mirrored)

    async def planned_for(self, source: dict[str, Entry], mirrored: dict[str, Entry]) -> Planned:
        missing, stale = await self.differing(source, mirrored)
        files, copies = files_of(source), files_of(mirrored)
        if not files:
            return Planned([], Plan(), {})

        others = await self.with_other_bytes([file for file in files if file.key in stale], source, mirrored)
        if isinstance(others, Blocked):
            return Planned([], Plan(f"{others.key}: {others.why}"), {})
        foreign = await self.foreign_of(later_than(files, copies), mirrored)
        if isinstance(foreign, Blocked):
            return Planned([], Plan(f"{foreign.key}: {foreign.why}"), {})

        anew = is_anew(files, [file for file in copies if file.key not in foreign], others)
        old = [file for file in copies if file.key in stale or file.key not in source] if anew else []
        ours = (mirrored.keys() - missing) | stale
        is_first = anew or not any(file.kind == COMMIT and file.key in ours for file in files)

        plan = plan_for(files, missing)
        checkpoints = (file.key for file in files if file.kind == CHECKPOINT)
        planned = (*plan.base, *plan.commits, *plan.after, *checkpoints)
        return Planned(old, plan, {key: source[key].etag for key in planned}, is_first)

    async def foreign_of(self, later: Sequence[LogFile], mirrored: dict[str, Entry]) -> set[str] | Blocked:
        """Which of these files of the destination are foreign, as far as the first commit that is not: that shows that
        the table was made again."""
        found = set[str]()
        for file in later:
            listed_as = mirrored[file.key].etag
            if self.foreign.get(file.key) != listed_as:
                try:
                    existing = await self.buckets.head_destination(file.key)
                except AWS_ERRORS as error:
                    return fault_of(file.key, error)
                if existing and is_ours_to_delete(existing):
                    if file.kind == COMMIT:
                        return found
                    continue
                if existing:
                    self.buckets.note_foreign(file.key, FOREIGN_LOG)
                    remember(self.foreign, file.key, existing.etag, SAME_KEPT)
            found.add(file.key)
        return found

    async def with_other_bytes(
        self, stale: Sequence[LogFile], source: dict[str, Entry], mirrored: dict[str, Entry]
    ) -> set[str] | Blocked:
        """Commits that are not what the destination has, if there are any: a few are read where the sizes are the same.

        A commit of another ETag may have the same bytes: an ETag is no hash of them if a KMS key encrypts the object or
        if it was uploaded in parts (S3 API Reference, Object), so it changes once the object is copied onto itself.
        """
        commits = sorted(file.key for file in stale if file.kind == COMMIT)
        others = {key for key in commits if source[key].size != mirrored[key].size}
        small = [key for key in commits if source[key].size <= LARGEST_READ]
        if others or not small:
            return others or set(commits)
        for key in sorted({small[0], small[len(small) // 2], small[-1]}):
            try:
                async with self.files.reads:
                    now = await self.buckets.read(self.buckets.source, key, source[key].etag)
                    before = await self.buckets.read(self.buckets.destination, key, mirrored[key].etag)
            except AWS_ERRORS as error:
                return fault_of(key, error)
            if now != before:
                others.add(key)
        return others

    async def copy_commits(self, sync: KeySync, commits: Sequence[str], etags: Mapping[str, str]) -> Awaited | None:
        """Copies commits one after the other, each once its files are there, which are copied for all of them ahead."""
        ready: dict[str, tuple[Source, Awaited]] = {}
        blocked: dict[str, Awaited] = {}

        async def prepare(key: str) -> None:
            """Waits for nothing that may take long: the logs of all tables share the slots."""
            if blocked:
                return  # it comes after one of them
            file = log_file(key)
            assert file
            try:
                source = as_listed(await self.buckets.head_source(key), etags[key])
                if lacking := archived(key, source):
                    blocked[key] = lacking
                else:
                    ready[key] = source, await self.files.begin_named(sync, file, source)
            except AWS_ERRORS as error:
                blocked[key] = fault_of(key, error)

        await self.ahead.run(prepare, commits)
        for key in commits:
            lacking = blocked.get(key) or await self.copy_ready(sync, key, *ready[key])
            if lacking:
                return self.note_blocked(key, lacking)
            file = log_file(key)
            waiting = self.blocked.get(file.table) if file else None
            if file and waiting and waiting.version <= file.version:
                del self.blocked[file.table]
        return None

    def note_blocked(self, key: str, lacking: Awaited) -> Awaited:
        """Remembers for a while which commit waits for archived files: those after it need not find that out as well,
        each for seconds."""
        file = log_file(key)
        if file and file.kind == COMMIT and not lacking.may_arrive:
            remember(self.blocked, file.table, Waiting(self.buckets.now(), file.version, lacking), TABLES_KEPT)
        return lacking

    def blocked_by(self, file: LogFile) -> Awaited | None:
        """What a commit waits for if that was found out a moment ago."""
        waiting = self.blocked.get(file.table)
        if waiting is None or file.kind != COMMIT or file.version <= waiting.version:
            return None
        return waiting.awaited if self.buckets.now() - waiting.since < ARCHIVED_SECONDS else None

    async def copy_ready(self, sync: KeySync, key: str, source: Source, state: Awaited) -> Awaited | None:
        """With one request as a rule: the destination has no such commit, unless another worker has copied it since."""
        if state.lacking and (lacking := await self.waits.wait_for(sync, await state.look())):
            return lacking
        sync.interruption.check()
        try:
            return await copy_other(self.syncer, sync, key, source, None)
        except ClientError as error:
            if not is_change(error):
                raise
        return await self.copy(sync, key, {key: source.etag})

    async def differing(self, source: dict[str, Entry], mirrored: dict[str, Entry]) -> tuple[set[str], set[str]]:
        """What of the source's log the destination does not have, or has otherwise; and what of that is another copy of
        ours. A foreign file under such a key is just overwritten: it does not show that the table was made again."""
        missing = source.keys() - mirrored.keys()
        stale = set[str]()

        def is_unclear(key: str) -> bool:
            seen, copy = source[key], mirrored[key]
            return self.may_differ(seen, copy) and self.same.get(key) != (seen.etag, copy.etag)

        async def look(key: str) -> None:
            found = await self.look_at(key)
            if found != EQUAL:
                (stale if found == STALE else missing).add(key)

        both = source.keys() & mirrored.keys()
        await self.files.slots.run(look, sorted(filter(is_unclear, both)))
        return missing | stale, stale

    def may_differ(self, listed: Entry, mirrored: Entry) -> bool:
        """Of a log file, as far as two listings show."""
        is_young = listed.modified > self.buckets.wall() - YOUNG_SECONDS
        doubt = self.buckets.settings.copy_timeout + LANDED_SECONDS if is_young else NO_DOUBT
        return judge_listed(listed.size_and_time, mirrored.size_and_time, doubt=doubt) in (STALE, UNDECIDED)

    async def look_at(self, key: str) -> str:
        """EQUAL, STALE, MISSING or FOREIGN: a log file of which listings do not show that it is the same."""
        try:
            existing, current = await self.buckets.head_destination(key), await self.buckets.head_source(key)
        except AWS_ERRORS as error:
            fault_of(key, error)
            return MISSING  # if it is needed, its copy shows what is wrong
        if current is None:
            raise Changed("a file of the source's log has gone since it was listed")
        if existing is None:
            return MISSING
        if not is_same(current, existing):
            return STALE if is_ours_to_delete(existing) else FOREIGN
        remember(self.same, key, (current.etag, existing.etag), SAME_KEPT)
        return EQUAL

    async def copy(self, sync: KeySync, key: str, etags: Mapping[str, str]) -> Awaited | None:
        """Copies a file of a log as it was listed, after what it names. What it names in turn is there by now."""
        file = log_file(key)
        assert file
        for _ in range(STUCK_TRIES):
            sync.interruption.check()
            try:
                existing = await self.buckets.head_destination(key)
                source = as_listed(await self.buckets.head_source(key), etags[key])
                if existing and is_same(source, existing):
                    return None
                lacking = archived(key, source) or await self.bring_needed(sync, file, source, etags)
                return lacking or await copy_other(self.syncer, sync, key, source, existing)
            except AWS_ERRORS as error:
                if not is_change(error):
                    return fault_of(key, error)
            await sync.interruption.pause(PAUSE_OF_CHANGE)  # another worker copies it as well
        return Blocked(key, CHANGES)

    async def bring_needed(
        self, sync: KeySync, file: LogFile, source: Source, etags: Mapping[str, str]
    ) -> Awaited | None:
        """Has the destination hold what the file names: of a pointer, the checkpoint. If that was not listed, it was
        written meanwhile, as a long log is listed page by page, and commits before it may not have been listed, either.
        """
        if file.kind != POINTER:
            return await self.files.bring_named(sync, file, source)
        checkpoint = files_of(await self.checkpoint_of(file, source))
        lacking: Awaited | None = None if checkpoint else Blocked(file.key, "it names no checkpoint that is there")
        for part in checkpoint:
            if part.key not in etags:
                raise Changed("the checkpoint that the pointer names was not listed")
            lacking = lacking or await self.copy(sync, part.key, etags)
        return lacking

    async def checkpoint_of(self, pointer: LogFile, source: Source) -> dict[str, Entry]:
        """The files of the checkpoint that a pointer names, as far as the source has them."""
        version = None
        if source.size <= LARGEST_POINTER:
            version = version_of_pointer(await self.buckets.read(self.buckets.source, pointer.key, source.etag))
        if version is None:
            return {}
        return await listed(self.buckets, self.buckets.source, f"{pointer.table}{LOG}{version:020}.checkpoint.")

    async def clear(self, sync: KeySync, files: list[LogFile]) -> Awaited | None:
        """Deletes what the destination still has of the log of a table that was in this folder before."""
        for key in in_order_of_removal(files):
            sync.interruption.check()
            try:
                existing = await self.buckets.head_destination(key)
                source = await self.buckets.head_source(key) if existing else None
                if existing and not (source and is_same(source, existing)):
                    await remove_other(self.buckets, sync, key, source, existing, FOREIGN_LOG)
            except AWS_ERRORS as error:
                return fault_of(key, error)
        return None


def as_listed(source: Source | None, etag: str) -> Source:
    if source is None or source.etag != etag:
        raise Changed("the source's log is not what was listed")
    return source


def archived(key: str, source: Source) -> Blocked | None:
    return Blocked(key, f"archived in {source.archived}", may_arrive=False) if source.archived else None


def files_of(listed: Iterable[str]) -> list[LogFile]:
    return [file for file in map(log_file, listed) if file]


def is_same(source: Source, copy: Destination) -> bool:
    """Whether it is a copy of those bytes, even if the source was put once more since, for another storage class."""
    has_same_bytes = copy.provenance.split(" ")[0] == source.etag.strip('"')
    return has_same_bytes or judge(source, copy).what == EQUAL
