"""What reconcile deletes by itself: with --remove-unwanted what EXCLUDE or KEEP_DAYS leaves out, with --remove-foreign
what the sync did not write. What is both goes only with both."""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from mirror.concurrency import Slots
from mirror.model.errors import describe, is_change, is_environment
from mirror.model.log_lines import REMOVED, quoted
from mirror.protocol.attempt import Interruption, KeySync
from mirror.protocol.buckets import Buckets
from mirror.protocol.requests import delete_object
from mirror.protocol.verdict import FOREIGN
from mirror.readers.listing import Finding, look_at, when_not_busy

log = logging.getLogger("worker")

AT_ONCE = 1000


@dataclass(eq=False)
class Removal:
    """Keys of the destination that are to go. They are collected first, so that it is known whether they are too many
    before one of them is deleted.

    Right before it is deleted, each key is looked at once more, and S3 deletes only the copy that was seen (IfMatch).
    So a copy stays that a worker has made meanwhile because the source was touched. A second look at the source, as in
    sync.py, is not needed: no event is consumed here, so a worker still has the one of the touch, and copies again.
    """

    buckets: Buckets
    interruption: Interruption
    most: int
    asked: Collection[str] = ("unwanted",)  # the rows that are to go
    keys: dict[str, str] = field(default_factory=dict)  # and the row that each counts in

    def takes(self, found: Finding) -> bool:
        return found.row in self.asked and (FOREIGN in self.asked or not found.is_foreign)

    def add(self, found: Finding) -> None:
        """Remembers the key, but one more than `most` at most, which shows that they are too many."""
        if len(self.keys) <= self.most:
            self.keys[found.key] = found.row

    async def run(self, looks: Slots, done: Callable[[str, Finding], None]) -> None:
        """Calls done() as soon as a key is done, with the row that it counts in and the row "removed", "unreadable",
        which is logged, or with what a look at the key found instead.

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
        except (ClientError, BotoCoreError, ResponseParserError) as error:
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
                await delete_object(self.buckets, sync, existing)
            except ClientError as error:
                if not is_change(error):
                    raise
                return Finding(sync.key, "")
        elif existing or found.row or not sync.result.unsettled_until:
            return found
        log.info(REMOVED, quoted(sync.key))
        return Finding(sync.key, "removed")
