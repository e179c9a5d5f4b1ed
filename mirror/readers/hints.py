"""Hints: messages of our own that ask the workers to look at keys. They are sent in full batches."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from mirror.model.delta import log_file
from mirror.model.limits import SQS_BATCH
from mirror.model.selection import is_marker
from mirror.protocol.verdict import COPY, DELETE, MISSING
from mirror.queue.bodies import hint_body
from mirror.queue.queue import Queue
from mirror.readers.listing import Finding
from mirror.settings import Settings

# Ten messages of so many keys of 500 bytes are one request on the bill, 64 KiB. SQS takes 1 MiB at once, and keys of
# 1024 bytes, form-urlencoded, need a quarter of that (SQS Developer Guide, "Amazon SQS message quotas").
KEYS_PER_HINT = 8
GROUP = "reconcile"  # of the messages, so that the events of S3 do not have to wait for all of them


class Hints:
    """What one comparison puts on the queue."""

    def __init__(self, settings: Settings, queue: Queue) -> None:
        self.settings = settings
        self.queue = queue
        self.sent = 0  # keys
        # Keys by whether they are missing, and how many of them go into one message.
        self.unsent: defaultdict[tuple[bool, int], list[str]] = defaultdict(list)

    async def send(self, findings: Iterable[Finding], last: bool = False) -> None:
        """Puts the keys that a worker copies or deletes on the queue in full batches, at the `last` call all of them.

        The keys of a message are all missing, which it says, or all present. A marker or a file of a table's log, which
        may have to wait, has a message of its own.
        """
        for key, row, action in findings:
            if action in (COPY, DELETE):
                size = 1 if self.may_wait(key) else KEYS_PER_HINT
                self.unsent[row == MISSING, size].append(key)
        for (are_missing, size), keys in list(self.unsent.items()):
            full = size * SQS_BATCH
            while len(keys) >= full or (last and keys):
                batch = keys[:full]
                del keys[:full]  # before another folder's keys are sent
                await self.send_batch(batch, are_missing, size)

    def may_wait(self, key: str) -> bool:
        settings = self.settings
        return is_marker(key, settings.copy_last) or (settings.tables != "" and log_file(key) is not None)

    async def send_batch(self, keys: list[str], are_missing: bool, size: int) -> None:
        bucket = self.settings.src_bucket
        groups = [keys[start : start + size] for start in range(0, len(keys), size)]
        await self.queue.send_batch([hint_body(bucket, group, are_missing) for group in groups], GROUP)
        self.sent += len(keys)
