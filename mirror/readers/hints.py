"""Hints: messages of our own that ask the workers to look at keys. They are sent in full batches."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator

from mirror.concurrency import Slots
from mirror.model.delta import log_file
from mirror.model.limits import SQS_BATCH
from mirror.model.selection import is_marker
from mirror.protocol.verdict import COPY, CORRUPT, DELETE, MISSING
from mirror.queue.bodies import hint_body
from mirror.queue.queue import Queue
from mirror.readers.listing import Finding
from mirror.settings import Settings

# Ten messages of this many keys of 500 bytes are one request on the bill, 64 KiB. SQS takes 1 MiB at once, and keys of
# 1024 bytes, form-urlencoded, need a quarter of that (SQS Developer Guide, "Amazon SQS message quotas").
KEYS_PER_HINT = 8
SENDS = 32  # requests at a time: SQS takes 20 to 60 ms for one, and an empty bucket needs one for each 80 keys
GROUP = "reconcile"  # of the messages, so that the events of S3 do not have to wait for all of them


class Hints:
    """What one comparison puts on the queue."""

    def __init__(self, settings: Settings, queue: Queue) -> None:
        self.settings = settings
        self.queue = queue
        self.sent = 0  # keys
        self.deletes = 0  # of those, that a worker deletes if nothing changes
        self.slots = Slots(SENDS)
        # Keys by the row that their message names, if any, and how many of them go into one message.
        self.unsent: defaultdict[tuple[str, int], list[str]] = defaultdict(list)

    async def send(self, findings: Collection[Finding], last: bool = False) -> None:
        """Puts the keys that a worker copies or deletes on the queue in full batches, at the `last` call all of them.

        The keys of a message are all missing or all corrupt, which it says, or all others. A marker or a file of a
        table's log, which may have to wait, has a message of its own.
        """
        for found in findings:
            if found.action in (COPY, DELETE):
                size = 1 if self.may_wait(found.key) else KEYS_PER_HINT
                self.unsent[found.row if found.row in (MISSING, CORRUPT) else "", size].append(found.key)
        await self.slots.run(self.send_batch, self.batches(last))
        self.deletes += sum(found.action == DELETE for found in findings)

    def batches(self, last: bool) -> Iterator[tuple[str, int, list[str]]]:
        """Takes full batches off what is unsent, before another folder's keys are sent."""
        for (row, size), keys in list(self.unsent.items()):
            full = size * SQS_BATCH
            while len(keys) >= full or (last and keys):
                batch = keys[:full]
                del keys[:full]
                yield row, size, batch

    def may_wait(self, key: str) -> bool:
        settings = self.settings
        return is_marker(key, settings.copy_last) or (settings.tables != "" and log_file(key) is not None)

    async def send_batch(self, batch: tuple[str, int, list[str]]) -> None:
        row, size, keys = batch
        bucket = self.settings.src_bucket
        groups = [keys[start : start + size] for start in range(0, len(keys), size)]
        bodies = [hint_body(bucket, group, row == MISSING, row == CORRUPT) for group in groups]
        await self.queue.send_batch(bodies, GROUP)
        self.sent += len(keys)
