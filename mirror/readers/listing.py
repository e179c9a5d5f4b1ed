"""What the readers share: both buckets' listings, one key on both sides, how far a walk is, and how a command ends."""

from __future__ import annotations

import asyncio
import ctypes
import functools
import itertools
import math
import resource
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from mirror.concurrency import wait_unless
from mirror.model.errors import AWS_ERRORS, Interrupted, Refused, Unfinished, describe, is_busy, is_environment
from mirror.model.log_lines import PROGRESS, log, quoted
from mirror.model.services import MIB
from mirror.protocol.attempt import Interruption
from mirror.protocol.buckets import Buckets
from mirror.protocol.objects import Destination, have_same_bytes
from mirror.protocol.verdict import ABSENT, DELETE, EQUAL, EXCLUDED, EXPIRED, FOREIGN, NOTHING, is_ours_to_delete, judge
from mirror.readers.walk import PAGE_KEYS, SOURCE, Entry, Page, Walk
from mirror.settings import Settings

STATM = Path("/proc/self/statm")  # proc_pid_statm(5)
MEMORY_SHARE = 0.85  # of the task's memory, which a command may use
# Of the task's memory: if more is used, one comparison goes on, and the others look again after this many seconds.
SHARE_OF_MANY, PAUSE_OF_MANY = 0.6, 1.0
PAGES = 96  # requests for pages at a time, of all comparisons: those of two walks over many folders
BUSY_PAUSES = (1.0, 2.0, 5.0, 20.0)  # seconds between the attempts of a request that S3 is too busy for
PROGRESS_SECONDS = 10
# Before it is said how long the rest takes: so long, and for this share of the time so far, no new folder was found
# while this many were done.
QUIET_SECONDS, QUIET_SHARE, QUIET_FOLDERS = 20.0, 0.25, 10
STALLED_SECONDS = 30.0  # a walk that has done no folder for so long is in a large one, which hides the rest

# Of --deep: what S3's checksums said of the objects that both buckets have.
CHECKED = {
    "checked": "compared by checksums of the whole object",
    "unchecked": "not compared: one of the sides has no such checksum, or by another algorithm",
}


class Finding(NamedTuple):
    """A key, its category in the report, and what a worker that is asked for it does."""

    key: str
    category: str  # "" if nothing is to be reported
    action: str = NOTHING
    is_foreign: bool = False  # to be deleted, but for the fact that it does not say that the sync wrote it
    checked: bool | None = None  # by checksums of both sides; None if they were not asked for, or a side is missing


async def came_to_end(
    stopped: str, work: Coroutine[Any, Any, object], interruption: Interruption, seconds: float = 0
) -> bool:
    """Does the work of a command, which has `seconds` to end after a signal. Returns whether it finished;
    otherwise the log says why the command `stopped`. Raises only what is a mistake in the code."""
    try:
        if await wait_unless(interruption, work, seconds):
            return True
        reason = "SIGTERM"
    except (*AWS_ERRORS, Unfinished, Refused, Interrupted) as error:
        reason = "SIGTERM" if isinstance(error, Interrupted) else describe(error)
    log.error("%s, it is safe to run it again: %s", stopped, reason)
    return False


def chosen_prefixes(settings: Settings, prefix: str) -> tuple[str, ...]:
    """The prefixes of all synced keys that begin with `prefix`. None, which is logged, if it lies outside."""
    prefixes = settings.wanted.under(prefix)
    if not prefixes:
        log.error("--prefix %s has to begin with PREFIX_FILTER, %s", quoted(prefix), quoted(settings.prefix_filter))
    return prefixes


def page_lister(
    buckets: Buckets, interruption: Interruption, is_patient: bool = False
) -> Callable[..., Awaitable[Page]]:
    """What a walk of a command calls for a page of one side. It raises Interrupted, and Refused if the memory runs out.

    A page that S3 is too busy to list is asked for again a few times, and with `is_patient` until it comes. The client
    has tried a few times by then, but a walk that lasts for hours is not to end because of a moment.
    """

    async def list_page(side: int, **parameters: str) -> Page:
        interruption.check()
        require_memory(buckets.settings.task_memory)
        bucket = buckets.source if side == SOURCE else buckets.destination
        call = functools.partial(buckets.s3.list_objects_v2, **parameters, **bucket)
        return await when_not_busy(interruption, call, f"list {bucket['Bucket']}", is_patient)

    return list_page


@dataclass(eq=False)
class Listings:
    """The comparisons of one process, each of which keeps in memory what it has listed until it is compared.

    As many go on at the same time as there is memory for. If that is short, only the one that began first does, and the
    others have their pages listed once others have ended. So a small folder does not wait for four large ones.
    """

    task_memory: int  # MiB; 0: not known, so that it is never short
    under_way: list[object] = field(default_factory=list)  # the first one first
    freed_at: float = -math.inf  # when what nobody uses any more was given back to the system
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(PAGES))

    @contextmanager
    def begun(self, comparison: object) -> Iterator[None]:
        self.under_way.append(comparison)
        try:
            yield
        finally:
            self.under_way.remove(comparison)

    @asynccontextmanager
    async def page(self, comparison: object, interruption: Interruption) -> AsyncIterator[None]:
        """Wraps the request for a page."""
        while self.under_way[0] is not comparison and self.is_memory_short():
            await interruption.pause(PAUSE_OF_MANY)
        async with self.slots:
            yield

    def is_memory_short(self) -> bool:
        most = SHARE_OF_MANY * self.task_memory
        if not 0 < most < used_memory():
            return False
        if time.monotonic() - self.freed_at >= PAUSE_OF_MANY:  # it takes 30 ms, and all that wait ask
            free_memory()
            self.freed_at = time.monotonic()
        return used_memory() > most


def used_memory() -> int:
    """MiB of this process; 0 if that is not known: only Linux says it."""
    return int(STATM.read_text().split()[1]) * resource.getpagesize() // MIB if STATM.exists() else 0


def free_memory() -> None:
    """Gives memory back to the system that nobody uses any more. The C library keeps what a large comparison has freed,
    and then used_memory() counts it until the process ends (malloc_trim(3), which only glibc has)."""
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)


def require_memory(task_memory: int) -> None:
    """Raises Refused before the task is killed for its memory, which would not say why."""
    most = MEMORY_SHARE * task_memory
    if not 0 < most < used_memory():
        return
    free_memory()
    used = used_memory()
    if used > most:
        raise Refused(
            f"{used} MiB of {task_memory} are used for keys that were not seen on both sides yet, or that are missing: "
            "raise TASK_MEMORY and run deploy.sh, or run one --prefix after the other"
        )


def pieces[T: (str, tuple[str, Entry])](items: Iterable[T], task_memory: int) -> Iterator[list[T]]:
    """A thousand items at a time, in their order, because they may be millions. Raises Refused if the memory runs out:
    looks at them take long, and meanwhile no page is listed."""
    for some in itertools.batched(items, PAGE_KEYS, strict=False):
        require_memory(task_memory)
        yield sorted(some)


def is_in_parts(etag: str) -> bool:
    """Whether the object was uploaded in parts: its ETag then ends in their number (S3 API Reference, Object)."""
    return "-" in etag


async def look_at(buckets: Buckets, key: str, deep: bool) -> tuple[Destination | None, Finding]:
    """What the destination has, and the verdict on the key at this moment, with `deep` also by checksums.

    The source of a key that EXCLUDE leaves out is looked at only if the destination does not say that it is a copy,
    because it may not be readable. Raises the error of a missing or closed source bucket.
    """
    destination = await buckets.head_destination(key, deep)
    excluded = buckets.settings.wanted.excludes(key)
    is_unmarked = destination is not None and not destination.provenance
    source = await buckets.head_source(key, deep) if is_unmarked or not excluded else None

    expired = source is not None and buckets.is_expired(source.modified)
    same_bytes = have_same_bytes(source, destination)
    what, action, _ = judge(source, destination, excluded=excluded, expired=expired, deep=deep, same_bytes=same_bytes)
    checked = same_bytes is not None if deep and source and destination else None
    if what in (EQUAL, ABSENT):
        return destination, Finding(key, "", checked=checked)

    leaves_out = what in (EXCLUDED, EXPIRED) or (action == DELETE and source is not None)
    is_foreign = destination is not None and not is_ours_to_delete(destination) and (leaves_out or what == FOREIGN)
    if what in (EXCLUDED, EXPIRED) or (leaves_out and is_foreign):
        return destination, Finding(key, "unwanted" if destination else "", NOTHING, is_foreign)
    return destination, Finding(key, what, NOTHING if is_foreign else action, is_foreign, checked)


async def when_not_busy[T](
    interruption: Interruption, call: Callable[[], Awaitable[T]], what: str = "", is_patient: bool = False
) -> T:
    """What the call returns. If S3 is too busy for it, it is made again after a pause, a few times, and with
    `is_patient` until S3 is not; the log says so if it is given a name.

    Raises the last error, or Interrupted in a pause.
    """
    more = itertools.repeat(BUSY_PAUSES[-1]) if is_patient else ()
    for pause in itertools.chain(BUSY_PAUSES, more):
        try:
            return await call()
        except AWS_ERRORS as error:
            if is_environment(error) or not is_busy(error):
                raise
            if what:
                log.warning("cannot %s, again in %d s: %s", what, pause, describe(error))
        await interruption.pause(pause)
    return await call()


@dataclass(eq=False)
class Progress:
    """Of one walk: of its folders, those that are known and those that are done. Nobody knows the number of keys before
    the end, and that of the folders grows while new ones are found."""

    now: Callable[[], float] = time.monotonic
    known: int = 0
    known_at: float = 0.0  # when a new folder was found last
    done_then: int = 0
    done: int = 0
    done_at: float = 0.0  # when a folder was done last
    started: float = field(init=False)

    def __post_init__(self) -> None:
        self.started = self.shown_at = self.done_at = self.now()

    def show(self, walk: Walk[Any], found: Callable[[], str]) -> None:
        """Logs it now and then, with the numbers of what was found."""
        if self.now() - self.shown_at >= PROGRESS_SECONDS:
            self.shown_at = self.now()
            log.info(PROGRESS, f"{found()} {self.text(walk.listed, walk.done, walk.known)}")

    def text(self, listed: int, done: int, known: int) -> str:
        """For the log, after the numbers of what was found."""
        now = self.now()
        if known > self.known:
            self.known, self.known_at, self.done_then = known, now, done
        if done > self.done:
            self.done, self.done_at = done, now
        rate = listed / max(now - self.started, 0.001)
        left = self.left()
        rest = "left=estimating" if left is None else f"far={100 * done // known}% left={left:.0f}s"
        return f"keys/s={rate:.0f} folders={done}/{known} {rest}"

    def left(self) -> float | None:
        """Seconds, at the rate since the last folder was found; None if nobody can say."""
        now = self.now()
        quiet, done = now - self.known_at, self.done - self.done_then
        if quiet < max(QUIET_SECONDS, QUIET_SHARE * (now - self.started)) or done < QUIET_FOLDERS:
            return None
        if self.done >= self.known or now - self.done_at > STALLED_SECONDS:
            return None
        return (self.known - self.done) * quiet / done
