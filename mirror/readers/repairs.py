"""What reconcile does about what it finds: it asks the workers to look at keys, removes objects, reports."""

from __future__ import annotations

import functools
import itertools
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from botocore.exceptions import ClientError

from mirror.concurrency import Slots
from mirror.model.delta import log_file
from mirror.model.errors import AWS_ERRORS, describe, is_change, is_environment
from mirror.model.log_lines import DIFFERENCE, REMOVED, log, quoted
from mirror.model.selection import is_marker
from mirror.model.services import SQS_BATCH
from mirror.protocol.attempt import Interruption, KeySync
from mirror.protocol.buckets import Buckets
from mirror.protocol.verdict import COPY, CORRUPT, DELETE, FOREIGN, GHOST, MISSING
from mirror.queue.messages import OF_ANY, OF_CORRUPT, OF_GHOST, OF_MISSING, Queue, hint_body
from mirror.readers.listing import Finding, look_at, when_not_busy
from mirror.settings import Settings

# Ten messages of this many keys of 500 bytes are one request on the bill, 64 KiB. SQS takes 1 MiB at once, and keys of
# 1024 bytes, form-urlencoded, need a quarter of that (SQS Developer Guide, "Amazon SQS message quotas").
KEYS_PER_HINT = 8
SENDS = 32  # requests at a time: SQS takes 20 to 60 ms for one, and an empty bucket needs one for each 80 keys
GROUP = "reconcile"  # of the messages, so that the events of S3 do not have to wait for all of them
SAID = {MISSING: OF_MISSING, CORRUPT: OF_CORRUPT, GHOST: OF_GHOST}  # of a category, to the worker that is asked
AT_ONCE = 1000  # keys that are removed, of which each is a task

MOST_REPORTED = 100_000  # lines, some 15 MB of the log


class HintKind(NamedTuple):
    """Of messages."""

    category: str  # that they name, if any
    keys: int  # of each


class Hints:
    """What one comparison puts on the queue: messages that ask the workers to look at keys, in full batches."""

    def __init__(self, settings: Settings, queue: Queue) -> None:
        self.settings = settings
        self.queue = queue
        self.sent = 0  # keys
        self.deletes = 0  # of those, that a worker deletes if nothing changes
        self.slots = Slots(SENDS)
        self.unsent: defaultdict[HintKind, list[str]] = defaultdict(list)

    async def send(self, findings: Collection[Finding], last: bool = False) -> None:
        """Puts the keys that a worker copies or deletes on the queue in full batches, at the `last` call all of them.

        The keys of a message are all missing, all corrupt or all ghosts, which it says, or all others. A marker or a
        file of a table's log, which may have to wait, has a message of its own.
        """
        settings = self.settings
        for found in findings:
            if found.action in (COPY, DELETE):
                may_wait = is_marker(found.key, settings.copy_last) or (settings.tables and log_file(found.key))
                category = found.category if found.category in SAID else ""
                self.unsent[HintKind(category, 1 if may_wait else KEYS_PER_HINT)].append(found.key)
        await self.slots.run(self.send_batch, self.batches(last))
        self.deletes += sum(found.action == DELETE for found in findings)

    def batches(self, last: bool) -> Iterator[tuple[HintKind, list[str]]]:
        """Takes full batches off what is unsent, before another folder's keys are sent."""
        for kind, keys in list(self.unsent.items()):
            full = kind.keys * SQS_BATCH
            while len(keys) >= full or (last and keys):
                batch = keys[:full]
                del keys[:full]
                yield kind, batch

    async def send_batch(self, batch: tuple[HintKind, list[str]]) -> None:
        kind, keys = batch
        bucket, what = self.settings.src_bucket, SAID.get(kind.category, OF_ANY)
        groups = itertools.batched(keys, kind.keys, strict=False)
        await self.queue.send_batch([hint_body(bucket, group, what) for group in groups], GROUP)
        self.sent += len(keys)


@dataclass(eq=False)
class Removal:
    """Keys of the destination that are to go: with --remove-unwanted what EXCLUDE or KEEP_DAYS leaves out, with
    --remove-foreign what the sync did not write. What is both goes only with both. They are collected first, so that it
    is known whether they are too many before one of them is deleted.

    Right before it is deleted, each key is looked at once more, and S3 deletes only the copy that was seen (IfMatch).
    So a copy stays that a worker has made meanwhile because the source was touched. A second look at the source, as in
    sync.py, is not needed: no event is consumed here, so a worker still has the one of the touch, and copies again.
    """

    buckets: Buckets
    interruption: Interruption
    most: int
    asked: Collection[str] = ("unwanted",)  # the categories that are to go
    keys: dict[str, str] = field(default_factory=dict)  # and the category of each

    def takes(self, found: Finding) -> bool:
        return found.category in self.asked and (FOREIGN in self.asked or not found.is_foreign)

    def add(self, found: Finding) -> None:
        """Remembers the key, but one more than `most` at most, which shows that they are too many."""
        if len(self.keys) <= self.most:
            self.keys[found.key] = found.category

    async def run(self, looks: Slots, done: Callable[[str, Finding], None]) -> None:
        """Calls done() as soon as a key is done, with its category, and with "removed", "unreadable", which is logged,
        or what a look at the key found instead.

        Raises Interrupted, and an error for which no key is at fault.
        """

        async def remove(key: str) -> None:
            done(self.keys[key], await self.remove(key))

        for keys in itertools.batched(self.keys, AT_ONCE, strict=False):
            await looks.run(remove, keys)

    async def remove(self, key: str) -> Finding:
        sync = KeySync(key, interruption=self.interruption)
        try:
            return await when_not_busy(self.interruption, functools.partial(self.look_and_delete, sync))
        except AWS_ERRORS as error:
            if is_environment(error):
                raise
            log.warning("cannot remove key=%s %s", quoted(key), describe(error))
            return Finding(key, "unreadable")

    async def look_and_delete(self, sync: KeySync) -> Finding:
        """If the object is gone after a delete that got no answer, then that delete removed it."""
        self.interruption.check()
        existing, found = await look_at(self.buckets, sync.key, deep=False)
        if existing and self.takes(found):
            try:
                await self.buckets.delete_object(sync, existing)
            except ClientError as error:
                if not is_change(error):
                    raise
                return Finding(sync.key, "")
        elif existing or found.category or not sync.result.may_land_until:
            return found
        log.info(REMOVED, quoted(sync.key))
        return Finding(sync.key, "removed")


class Report:
    """Counts the differences, and logs them up to that number. The lines are numbered, because a log may drop some."""

    def __init__(self) -> None:
        self.differences = 0

    def add(self, what: str, key: str) -> None:
        self.differences += 1
        if self.differences <= MOST_REPORTED:
            log.info(DIFFERENCE, self.differences, what, quoted(key))

    def numbers(self) -> str:
        return f" differences={self.differences} reported={min(self.differences, MOST_REPORTED)}"
