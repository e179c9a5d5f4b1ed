"""Waiting with a bound, as all that a process does after SIGTERM has to end in time."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


async def wait_at_most(condition: Coroutine[Any, Any, object], seconds: float) -> bool:
    """True if it has ended in that time, else it is cancelled."""
    try:
        await asyncio.wait_for(condition, seconds)
    except TimeoutError:
        return False
    return True


async def wait_unless(stopping: asyncio.Event, work: Coroutine[Any, Any, object], seconds: float) -> bool:
    """Waits for as long as it takes, but for `seconds` at most once `stopping` is set. True if it has ended, else it is
    cancelled. Raises its error."""
    task = asyncio.create_task(work)
    stopped = asyncio.create_task(stopping.wait())
    await asyncio.wait([task, stopped], return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not task.done():
        await asyncio.wait([task], timeout=max(0.0, seconds))
    if not task.done():
        task.cancel()
        return False
    task.result()
    return True
