"""A look that many keys ask for at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from mirror.protocol.attempt import KeySync


@dataclass(eq=False)
class Latest[T]:
    """The latest look at something, as long as somebody waits for it: when it began, and what it showed."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    shown: tuple[float, T] | None = None


class Shared[T]:
    """A look that many ask for at the same time. One of them looks, for all that asked before it did."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.latest: WeakValueDictionary[str, Latest[T]] = WeakValueDictionary()

    async def get(self, sync: KeySync, what: str, look: Callable[[], Awaitable[T]]) -> T:
        asked, latest = self.now(), self.latest.setdefault(what, Latest())
        async with latest.lock:
            sync.interruption.check()
            if latest.shown is None or latest.shown[0] <= asked:
                began = self.now()
                latest.shown = began, await look()
            return latest.shown[1]
