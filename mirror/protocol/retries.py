"""When a sync tries again: after which errors, how often, and after which pauses."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from botocore.exceptions import ClientError

from mirror.model.errors import Changed, GaveUp, is_busy, is_change, outcome_unknown
from mirror.protocol.attempt import KeySync, Sight
from mirror.protocol.buckets import Buckets

STUCK_TRIES = 20  # a write may be refused as changed this often although nothing has changed
BUSY_BASES = 10  # "503 Slow Down" is waited through for this long without progress, in units of RETRY_BASE_SECONDS
BUSY_PAUSES = (1 / 150, 0.15)  # the first and the longest, in the same units: 0.2 s and 4.5 s
CHANGE_PAUSES = (0.02, 3.0)  # seconds: the second and the longest, between two copies of a key that keeps changing
LONGEST_MISS_PAUSE = 0.5  # seconds, for a key that changed before it was copied
LONG_PAUSE = 0.8  # seconds: only in a longer pause may other keys use the slot, for which S3 may be too busy as well


@dataclass(eq=False)
class Retries:
    """Counts what has failed in one run of a sync, and decides when to try again."""

    buckets: Buckets
    sync: KeySync
    busy: int = 0  # answers since the latest progress
    busy_since: float = 0.0
    parts: int = 0  # that were copied by then
    misses: int = 0  # changes between a look and its write
    refused_sight: Sight | None = None  # at the latest of these
    stuck: int = 0  # times that both sides were the same as then
    changes: int = 0  # changes after a write

    async def patiently[*A, T](self, call: Callable[[*A], Awaitable[T]], *arguments: *A) -> T:
        """Repeats a call that S3 is too busy for, and nothing else: a new attempt would ask even more of S3."""
        while True:
            try:
                return await call(*arguments)
            except ClientError as error:
                if outcome_unknown(error) or not is_busy(error):
                    raise
                seconds = self.pause_of_busy(error)
            await self.pause(seconds)

    def pause_after(self, error: Exception) -> float | None:
        """The seconds until the next attempt, or None if there is to be none. Raises GaveUp if S3 has been busy for too
        long. A key that merely changes is copied again and again, after pauses that grow."""
        if is_busy(error):
            return self.pause_of_busy(error)
        if not is_change(error):
            return None
        self.busy = 0
        first, longest = CHANGE_PAUSES
        if isinstance(error, Changed):
            self.misses, self.changes = 0, self.changes + 1
            return growing(first, self.changes - 1, longest)
        sight = self.sync.result.sight
        self.misses += 1
        self.stuck = self.stuck + 1 if sight == self.refused_sight else 0
        self.refused_sight = sight
        return None if self.stuck >= STUCK_TRIES else growing(first, self.misses - 1, LONGEST_MISS_PAUSE)

    def pause_of_busy(self, error: Exception) -> float:
        base = self.buckets.settings.retry_base_seconds
        now = self.buckets.now()
        parts = self.sync.result.parts
        if not self.busy or parts > self.parts:
            self.busy, self.busy_since, self.parts = 0, now, parts
        self.busy += 1
        self.sync.result.busy += 1
        if now - self.busy_since > BUSY_BASES * base:
            raise GaveUp from error
        first, longest = BUSY_PAUSES
        return growing(first * base, self.busy, longest * base)

    async def pause(self, seconds: float) -> None:
        """Lets another key use the slot during a long pause, unless too many do already. Raises Interrupted. A long
        copy holds no slot, and goes on without one."""
        sync = self.sync
        sync.interruption.check()
        gives_way = seconds > LONG_PAUSE and sync.host.has_slot(sync) and sync.host.step_aside(sync)
        if seconds:
            await sync.interruption.pause(seconds)
        if gives_way:
            await sync.host.come_back(sync)


def growing(first: float, times: int, longest: float) -> float:
    """No pause for 0 times or fewer, then twice as long each time; random, so that two workers draw apart."""
    return random.uniform(0.5, 1) * min(first * 2 ** min(times - 1, 20), longest) if times > 0 else 0.0
