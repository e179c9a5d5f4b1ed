"""How a sync is retried: after which errors, how often, and after which pauses."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any

from botocore.exceptions import ClientError

from mirror.model.errors import Changed, GaveUp, is_busy, is_change, is_refusal_for_now
from mirror.protocol.attempt import KeySync
from mirror.protocol.buckets import Buckets

STUCK_TRIES = 20  # a write may be refused as changed this often although nothing has changed
BUSY_BASES = 10  # "503 Slow Down" is waited through for this long without progress, in units of RETRY_BASE_SECONDS
BUSY_PAUSES = (1 / 150, 0.15)  # the first and the longest, in the same units: 0.2 s and 4.5 s
CHANGE_PAUSES = (0.02, 3.0)  # seconds: the second and the longest, between two copies of a key that keeps changing
LONGEST_MISS_PAUSE = 0.5  # seconds, for a key that changed before it was copied
LONG_PAUSE = 0.8  # seconds; from here on other keys may use the place. If S3 is too busy for all, that would not help


class Retries:
    """Counts what has failed in one run of a sync, and decides when to try again."""

    def __init__(self, buckets: Buckets, sync: KeySync) -> None:
        self._buckets = buckets
        self._sync = sync
        self._busy = 0  # answers since the latest progress
        self._busy_since = 0.0
        self._parts = 0  # that were copied by then
        self._misses = 0  # changes between a look and its write
        self._refused_sight: Any = None  # what both sides were at the latest of these
        self._stuck = 0  # times that both sides were the same as then
        self._changes = 0  # changes after a write

    async def patiently[*A, T](self, call: Callable[[*A], Awaitable[T]], *arguments: *A) -> T:
        """Repeats a call that S3 is too busy for, and nothing else: a new attempt would ask even more of S3."""
        while True:
            try:
                return await call(*arguments)
            except ClientError as error:
                seconds = self.pause_after(error) if is_refusal_for_now(error) else None
                if seconds is None:
                    raise
            await self.pause(seconds)

    def pause_after(self, error: Exception) -> float | None:
        """The seconds until the next attempt, or None if there is to be none. Raises GaveUp if S3 has been busy for too
        long. A key that merely changes is copied again and again, after pauses that grow."""
        if is_busy(error):
            return self._pause_of_busy(error)
        if not is_change(error):
            return None
        self._busy = 0
        first, longest = CHANGE_PAUSES
        if isinstance(error, Changed):
            self._misses, self._changes = 0, self._changes + 1
            return growing(first, self._changes - 1, longest)
        sight = self._sync.result.sight
        self._misses += 1
        self._stuck = self._stuck + 1 if sight == self._refused_sight else 0
        self._refused_sight = sight
        if self._stuck >= STUCK_TRIES:
            return None
        return growing(first, self._misses - 1, LONGEST_MISS_PAUSE)

    def _pause_of_busy(self, error: Exception) -> float:
        base, now, parts = self._buckets.settings.retry_base_seconds, self._buckets.now(), self._sync.result.parts
        if not self._busy or parts > self._parts:
            self._busy, self._busy_since, self._parts = 0, now, parts
        self._busy += 1
        if now - self._busy_since > BUSY_BASES * base:
            raise GaveUp from error
        first, longest = BUSY_PAUSES
        return growing(first * base, self._busy, longest * base)

    async def pause(self, seconds: float) -> None:
        """Lets another key use the place during a long pause, unless too many do already. Raises Interrupted. A long
        copy holds no place, and goes on without one."""
        sync = self._sync
        gives_way = seconds > LONG_PAUSE and sync.host.has_place(sync) and sync.host.step_aside(sync)
        await sync.interruption.pause(seconds)
        if gives_way:
            await sync.host.come_back(sync)


def growing(first: float, times: int, longest: float) -> float:
    """No pause for 0 times or fewer, then twice as long each time; random, so that two workers draw apart."""
    return random.uniform(0.5, 1) * min(first * 2 ** min(times - 1, 20), longest) if times > 0 else 0.0
