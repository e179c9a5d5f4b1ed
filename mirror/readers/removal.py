"""What the destination holds and is not to hold, removed when somebody asks for it: reconcile --remove-unwanted."""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from mirror.concurrency import SideBySide
from mirror.model.errors import describe, is_change, is_environment
from mirror.model.log_lines import REMOVED, quoted
from mirror.protocol.attempt import Interruption, KeySync
from mirror.protocol.buckets import Buckets
from mirror.protocol.requests import delete_object
from mirror.readers.comparison import look_at, when_not_busy

log = logging.getLogger("worker")

AT_ONCE = 1000


@dataclass(eq=False)
class Removal:
    """Keys of the destination that are unwanted: first collected, so that too many of them are known before one is
    deleted, then removed.

    Each is looked at once more right before, and S3 deletes only the copy that was looked at (IfMatch). So what a
    worker copies meanwhile, because the source was touched, stays. There is no second look at the source as in sync.py:
    no event is used up here, so a worker has that of the touch, and copies after the delete if it did not before.
    """

    buckets: Buckets
    interruption: Interruption
    most: int
    keys: list[str] = field(default_factory=list)

    def add(self, key: str) -> None:
        """One more than `most` are remembered, and show that there are too many."""
        if len(self.keys) <= self.most:
            self.keys.append(key)

    async def run(self, looks: SideBySide, done: Callable[[str, str], None]) -> None:
        """done(key, end) as soon as a key is done. Its end: "removed"; "unreadable", which is told; or else what is
        wrong with it now, "" for nothing.

        Raises Interrupted, and an error for which no key is at fault.
        """

        async def remove(key: str) -> None:
            done(key, await self.remove(key))

        for keys in itertools.batched(self.keys, AT_ONCE, strict=False):
            await looks.run(remove, keys)

    async def remove(self, key: str) -> str:
        sync = KeySync(key, interruption=self.interruption)
        try:
            return await when_not_busy(self.interruption, functools.partial(self.look_and_delete, sync))
        except (ClientError, BotoCoreError, ResponseParserError) as error:
            if is_environment(error):
                raise
            log.warning("cannot remove key=%s %s", quoted(key), describe(error))
            return "unreadable"

    async def look_and_delete(self, sync: KeySync) -> str:
        """If it is gone after a delete that got no answer, then that delete removed it."""
        self.interruption.check()
        existing, what = await look_at(self.buckets, sync.key, deep=False)
        if existing and what == "unwanted":
            try:
                await delete_object(self.buckets, sync, existing)
            except ClientError as error:
                if not is_change(error):
                    raise
                return ""
        elif existing or what or not sync.result.unsettled_until:
            return what
        log.info(REMOVED, quoted(sync.key))
        return "removed"
