"""The command reconcile: compares both buckets and puts the keys that differ on the queue: backfill, audit, repair."""

from __future__ import annotations

import functools
import itertools
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from mirror.concurrency import Slots
from mirror.model.errors import AWS_ERRORS, Refused, describe, is_environment
from mirror.model.log_lines import AUDITED, RECONCILED, amount, log, quoted
from mirror.model.selection import Wanted
from mirror.protocol.attempt import Interruption
from mirror.protocol.buckets import Buckets
from mirror.protocol.objects import ARCHIVED_CLASSES
from mirror.protocol.verdict import COPY, DELETE, EQUAL, EXPIRED, FOREIGN, MISSING, NO_DOUBT, judge_listed
from mirror.queue.messages import Queue
from mirror.readers.listing import (
    CHECKED,
    Finding,
    Progress,
    came_to_end,
    chosen_prefixes,
    look_at,
    page_lister,
    pieces,
    when_not_busy,
)
from mirror.readers.repairs import Hints, Removal, Report
from mirror.readers.walk import Entry, KeyTable, Walk

AUDIT_SETTLE_SECONDS = 300  # by then changes that were on their way when the buckets were listed have arrived
MOST_DOUBTFUL = 100_000  # keys that an audit remembers until then
STOP_SECONDS = 20  # that a call which is under way has left after SIGTERM
MAX_DELETE = 1000
# Storage classes of which no listing says whether the object can be copied: it may have been restored, or archived.
MAYBE_ARCHIVED = {*ARCHIVED_CLASSES, "INTELLIGENT_TIERING"}

# The categories of the report that are differences. QUEUED are put on the queue, the others only reported.
DIFFERENCES = {
    "missing": "only in the source",
    "stale": "not what the source is now",
    "corrupt": "says that it is what the source is now, but the checksums differ (--deep)",
    "ghost": "only in the destination, written by the sync",
    "foreign": "only in the destination, not written by the sync: stays without --remove-foreign",
    "unreadable": "could not be looked at, see the log",
    "archived": "archived in the source: restore it, its restore event copies it",
}
QUEUED = ("missing", "stale", "corrupt", "ghost")
NO_ALARM = ("foreign", "archived")  # of an audit
# The categories that are no differences, and are reported if EXCLUDE or KEEP_DAYS is set.
LEFT_OUT = {
    "expired": "only in the source, older than KEEP_DAYS",
    "unwanted": "in the destination, excluded or older than KEEP_DAYS",
}
ABOUT_FOREIGN = (
    "Foreign objects were written by others, or they are copies whose metadata could not be sent back. After events "
    "were lost, look at them: their source may be deleted. --remove-foreign deletes them, EXCLUDE leaves them out"
)


@dataclass(frozen=True)
class ReconcileArguments:
    """What the command line says."""

    prefix: str = ""
    dry_run: bool = False
    deep: bool = False
    audit: bool = False  # keys that differ are looked at again later, and count only if they still do
    remove_unwanted: bool = False
    remove_foreign: bool = False
    max_delete: int = MAX_DELETE
    examples: int = 10  # keys to name of each kind
    report: bool = False  # each difference is a line of the log

    @property
    def asked(self) -> tuple[str, ...]:
        """The categories that are to go, unless this is a dry run."""
        categories = {"unwanted": self.remove_unwanted, FOREIGN: self.remove_foreign}
        return tuple(category for category, is_asked in categories.items() if is_asked)

    @property
    def removable(self) -> str:
        """What this command deletes by itself; "" if nothing."""
        return "" if self.dry_run else " or ".join(self.asked)


@dataclass(eq=False)
class Compared:
    """What two listings show of a part of the buckets."""

    wanted: Wanted
    now: float
    doubt: float  # see judge_listed()
    compared: int = 0
    expired: int = 0
    missing: list[str] = field(default_factory=list)  # keys that the destination does not seem to have; a page or two
    ghosts: list[str] = field(default_factory=list)  # the same of the source
    suspects: KeyTable[str] = field(default_factory=lambda: KeyTable(str, str))  # other keys that seem to differ
    unwanted: KeyTable[str] = field(default_factory=lambda: KeyTable(str, str))

    def add(self, key: str, source: Entry | None, destination: Entry | None) -> None:
        """Both are equal, or the source has expired, if the listings decide. A key that EXCLUDE leaves out is unwanted
        in the destination, whatever the source has."""
        if self.wanted.excludes(key):
            if destination:
                self.unwanted.put(key, "")
            return
        if source is None:
            self.ghosts.append(key)
            return
        self.compared += 1
        expired = self.wanted.is_expired(source.modified, self.now)
        mirrored = destination.size_and_time if destination else None
        what = judge_listed(source.size_and_time, mirrored, expired=expired, doubt=self.doubt)
        if what == EXPIRED and destination:
            self.unwanted.put(key, "")
        elif what == EXPIRED:
            self.expired += 1
        elif what == MISSING and source.storage_class not in MAYBE_ARCHIVED:
            self.missing.append(key)
        elif what != EQUAL:
            self.suspects.put(key, "")


@dataclass(eq=False)
class Reconciliation:
    """One comparison of the two buckets, which calls show() for each line of the result.

    A walk through both shows which keys seem to differ. Each of them is looked at on both sides before it counts, so
    that what the workers do meanwhile is no difference; but see take(). An audit, which raises an alarm, only remembers
    such keys, and looks at them at the end, when what was on its way has arrived.

    Keys that a worker would delete are put on the queue last, when it is known that they are not too many.
    """

    buckets: Buckets
    queue: Queue
    arguments: ReconcileArguments
    interruption: Interruption
    show: Callable[[str], None] = print
    most_doubtful: int = MOST_DOUBTFUL
    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    doubtful: list[str] = field(default_factory=list)  # keys that an audit looks at again
    held: list[Finding] = field(default_factory=list)  # to be deleted, if they are not too many
    started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        settings = self.buckets.settings
        self.looks = Slots(settings.max_concurrent_keys)
        self.hints = Hints(settings, self.queue)
        list_page = page_lister(self.buckets, self.interruption)
        self.walk = Walk(settings.wanted.under(self.arguments.prefix), list_page, self.new_part, self.take)
        self.show_progress = functools.partial(Progress().show, self.walk, self.found)
        self.differences = Report() if self.arguments.report else None
        self.leaves_out = bool(settings.exclude or settings.keep_days)
        self.removal = Removal(self.buckets, self.interruption, self.arguments.max_delete, self.arguments.asked)

    def new_part(self) -> Compared:
        doubt = math.inf if self.arguments.deep else NO_DOUBT
        return Compared(self.buckets.settings.wanted, self.buckets.wall(), doubt)

    async def run(self) -> int:
        """Returns the exit status: 0 if both are equal or all differences are on the queue, 1 if differences are left,
        2 for a wrong prefix, 3 if it was stopped: by a signal, a listing that failed, or too many keys to delete.
        Foreign objects are differences that are left, but not for an audit.

        No object is removed before both buckets are listed and the number is known not to be too large. A run that is
        stopped after that reports how many it has removed.
        """
        if not chosen_prefixes(self.buckets.settings, self.arguments.prefix):
            return 2
        if self.arguments.remove_unwanted and not self.leaves_out:
            log.warning("--remove-unwanted: nothing can be unwanted, because neither EXCLUDE nor KEEP_DAYS is set")
        if not await came_to_end("reconcile stopped", self.compare(), self.interruption, STOP_SECONDS):
            if removed := self.counts["removed"]:
                removable = self.arguments.removable
                log.error("%d of %d %s objects were removed by then", removed, len(self.removal.keys), removable)
            return self.report("stopped", 3)
        settled = {"archived"} if self.arguments.dry_run else {"archived", *QUEUED}
        if self.arguments.audit or "foreign" in self.arguments.removable:
            settled.add("foreign")  # an object that could not be removed counts as unreadable, too
        return self.report("complete", int(any(self.counts[name] for name in DIFFERENCES if name not in settled)))

    async def compare(self) -> None:
        await self.walk.run()
        await self.send([], last=True)
        self.refuse_too_many()
        if self.doubtful:
            await self.look_again()
        await self.send(self.held, last=True)
        await self.remove()

    async def take(self, part: Compared) -> None:
        """What the walk has found. Once too many keys would be deleted, no more ghosts are looked at. What is unwanted
        is looked at only if it is to be removed, because it may be foreign.

        A missing key is given to the workers at once: they look at it anyway, and two looks cost more than its share of
        a message. Only numbers that have to be exact are worth them.
        """
        self.counts["compared"] += part.compared
        self.counts["expired"] += part.expired
        unwanted, suspects = keys_of(part.unwanted), keys_of(part.suspects)
        if not self.arguments.remove_unwanted:
            for key in unwanted:
                self.set_aside(Finding(key, "unwanted"))
        ghosts = () if self.are_too_many() else itertools.chain(part.ghosts, unwanted)

        is_exact = self.arguments.dry_run or self.arguments.audit
        missing = [] if is_exact else [Finding(key, MISSING, COPY) for key in part.missing]
        self.count(missing)
        await self.send(missing)

        doubtful = itertools.chain(suspects, ghosts, part.missing if is_exact else ())
        for keys in pieces(doubtful, self.buckets.settings.task_memory):
            await self.send(self.hold_back(await self.check(keys)))
        self.show_progress()

    def set_aside(self, found: Finding) -> None:
        """Counts what is no matter of the workers: it stays, or is removed at the end. A listing may show it twice."""
        if found.key in self.removal.keys:
            return
        self.count([found])
        if self.removal.takes(found):
            if not self.arguments.dry_run:
                self.removal.add(found)
        elif found.category in self.removal.asked:
            self.counts["kept"] += 1

    def hold_back(self, findings: list[Finding]) -> list[Finding]:
        """Holds back those that a worker would delete, and returns the others. One more than `max_delete` is
        remembered, which shows that they are too many; a dry run, which only counts, remembers none."""
        if not self.arguments.dry_run:
            held = [found for found in findings if found.action == DELETE]
            self.held += held[: self.arguments.max_delete + 1 - len(self.held)]
        return [found for found in findings if found.action != DELETE]

    def are_too_many(self) -> bool:
        return len(self.held) + len(self.removal.keys) > self.arguments.max_delete

    def refuse_too_many(self) -> None:
        if self.are_too_many():
            raise Refused(
                f"more than {self.arguments.max_delete} objects would be deleted: list them with --dry-run, and if "
                "they should be deleted, raise --max-delete"
            )

    async def look_again(self) -> None:
        """Looks at the keys that an audit has remembered. Those that still differ count, and are put on the queue or
        held back.

        Raises Interrupted, also in the pause.
        """
        keys, self.doubtful = self.doubtful, []
        log.info("%d keys differ, and are looked at again in %d s", len(keys), AUDIT_SETTLE_SECONDS)
        await self.interruption.pause(AUDIT_SETTLE_SECONDS)
        for some in pieces(keys, self.buckets.settings.task_memory):
            self.interruption.check()
            found = await self.look(some)
            self.count(found)
            await self.send(self.hold_back(found))
        await self.send([], last=True)
        self.refuse_too_many()

    async def remove(self) -> None:
        """Removes what was set aside for it. A key that has changed meanwhile counts as what it is now."""
        differing: list[Finding] = []

        def done(category: str, found: Finding) -> None:
            if found.category == "removed":
                self.counts["removed"] += 1
            elif found.category:
                differing.append(found)
                self.counts["kept"] += found.is_foreign
            if found.category not in ("removed", "unreadable"):
                self.counts[category] -= 1
                self.examples[category] = [other for other in self.examples[category] if other != found.key]
            self.show_progress()

        await self.removal.run(self.looks, done)
        self.count(differing)
        await self.send(differing, last=True)

    async def check(self, keys: list[str]) -> list[Finding]:
        """Looks at the keys, counts those that still differ, and returns them.

        An audit only remembers them, while there is room; but not foreign objects, which may be many.
        """
        found = []
        for each in await self.look(keys):
            if each.category in ("unwanted", "foreign"):
                self.set_aside(each)
            else:
                found.append(each)
        if self.arguments.audit:
            room = self.most_doubtful - len(self.doubtful)
            self.doubtful += [each.key for each in found[:room]]
            if len(found) > room and not self.counts["at_once"]:
                log.warning("more than %d keys differ: the others count without a second look", self.most_doubtful)
            found = found[room:]
            self.counts["at_once"] += len(found)
        self.count(found)
        return found

    async def look(self, keys: list[str]) -> list[Finding]:
        """What a look at the keys finds that is to be reported."""
        looked_at: dict[str, Finding] = {}

        async def look(key: str) -> None:
            looked_at[key] = await self.check_key(key)

        await self.looks.run(look, keys)
        self.show_progress()
        return [looked_at[key] for key in keys if looked_at[key].category]

    def count(self, findings: list[Finding]) -> None:
        for found in findings:
            self.counts[found.category] += 1
            if self.differences:
                self.differences.add(found.category, found.key)
            examples = self.examples.setdefault(found.category, [])
            if len(examples) < self.arguments.examples:
                examples.append(found.key)

    async def check_key(self, key: str) -> Finding:
        """Looks at one key. Raises an error for which no key is at fault: a missing source bucket, credentials."""
        look = functools.partial(look_at, self.buckets, key, self.arguments.deep)
        try:
            _, found = await when_not_busy(self.interruption, look)
        except AWS_ERRORS as error:
            if is_environment(error):
                raise
            log.warning("cannot look at key=%s %s", quoted(key), describe(error))
            return Finding(key, "unreadable")
        if found.checked is not None:
            self.counts["checked" if found.checked else "unchecked"] += 1
        return found

    async def send(self, findings: list[Finding], last: bool = False) -> None:
        if not self.arguments.dry_run:
            await self.hints.send(findings, last)

    def found(self) -> str:
        names = ["listed", "compared", *DIFFERENCES, "queued", "to_delete"]
        names += [*LEFT_OUT, "kept", "removed"] if self.leaves_out else ["removed"]
        names += CHECKED if self.arguments.deep else []
        self.counts["listed"] = self.walk.listed
        self.counts["queued"] = self.hints.sent
        self.counts["to_delete"] = self.hints.deletes
        counted = " ".join(f"{name}={self.counts[name]}" for name in names)
        return f"{counted} seconds={time.monotonic() - self.started:.1f}"

    def numbers(self) -> str:
        seconds = max(time.monotonic() - self.started, 0.001)
        reported = self.differences.numbers() if self.differences else ""
        return f"{self.found()} keys/s={self.walk.listed / seconds:.0f}{reported}"

    def deletions(self) -> str:
        kept = ""
        if number := self.counts["kept"]:
            kept = f"; {number} unwanted ones stay, because they do not say that the sync wrote them"
        if self.arguments.dry_run:
            return f"a dry run: nothing is deleted or put on the queue{kept}"
        return f"{self.counts['removed']} deleted by this command, {self.hints.deletes} to be deleted by workers{kept}"

    def rows(self) -> dict[str, str]:
        """The categories of the report, and what they mean."""
        rows = dict(DIFFERENCES)
        if self.leaves_out:
            rows |= LEFT_OUT
        if self.arguments.deep:
            rows |= CHECKED
        return rows

    def show_row(self, number: int, what: str, meaning: str) -> None:
        self.show(f"{number:>12} {what:<10}  {meaning}")

    def report(self, end: str, status: int) -> int:
        """Shows the table, and logs all numbers as the last line. Returns the exit status."""
        self.show(f"{end}: {amount(self.counts['compared'], 'key')} of the source compared")
        for what, meaning in self.rows().items():
            self.show_row(self.counts[what], what, meaning)
        self.show_row(self.hints.sent, "queued", "for the workers, who look at each key again")
        if removable := self.arguments.removable:
            self.show_row(self.counts["removed"], "removed", f"of those that are {removable}")
        self.show(self.deletions())
        for what, keys in self.examples.items():
            for key in keys:
                self.show(f"  {what} {quoted(key)}")
        if self.counts["foreign"] and "foreign" not in self.arguments.removable:
            self.show(ABOUT_FOREIGN)
        if self.arguments.audit:
            found = sum(self.counts[what] for what in DIFFERENCES if what not in NO_ALARM)
            level = logging.ERROR if found or status else logging.INFO
            log.log(level, AUDITED, end, status, found, self.numbers())
        log.info(RECONCILED, end, status, self.numbers())
        return status


def keys_of(table: KeyTable[str]) -> Iterator[str]:
    """Removes them one by one."""
    return (key for key, _ in table.take_all())
