"""Many small pieces of work side by side, so many at a time in the whole process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable


class SideBySide:
    """Slots that all who use them share; they take turns."""

    def __init__(self, slots: int) -> None:
        self.slots = asyncio.Semaphore(slots)

    async def run[T](self, function: Callable[[T], Awaitable[None]], items: Iterable[T]) -> None:
        """function(item) for each item. After an error no further one is begun, and those under way are waited for:
        then the first error is raised."""
        failures: list[Exception] = []
        tasks = []
        for item in items:
            await self.slots.acquire()
            if failures:
                self.slots.release()
                break
            tasks.append(asyncio.create_task(self.run_one(function, item, failures)))
        await asyncio.gather(*tasks)
        if failures:
            raise failures[0]

    async def run_one[T](self, function: Callable[[T], Awaitable[None]], item: T, failures: list[Exception]) -> None:
        try:
            if not failures:
                await function(item)
        except Exception as error:  # noqa: BLE001 whatever it is, it is for the one who asked
            failures.append(error)
        finally:
            self.slots.release()
