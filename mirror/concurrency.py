"""Calls in threads, many calls at once up to a limit, and waits that end in time, which matters after SIGTERM."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from typing import Any

type Job = Callable[[], Coroutine[Any, Any, None]]
type WorkOff = Callable[[list[Iterator[Job]], int], Awaitable[None]]


async def in_thread(function: Callable[..., Any], **parameters: Any) -> Any:
    """Runs function(**parameters), which may block, in the event loop's pool of threads, and returns or raises what it
    does.

    asyncio.to_thread would copy the context for each call, which costs a tenth of boto3's own CPU time.
    """
    call = functools.partial(function, **parameters)
    return await asyncio.get_running_loop().run_in_executor(None, call)


class Slots:
    """Limits how many calls are under way at a time. All who use the same slots share them and take turns."""

    def __init__(self, slots: int) -> None:
        self.slots = asyncio.Semaphore(slots)

    async def run[T](self, function: Callable[[T], Awaitable[None]], items: Iterable[T]) -> None:
        """Calls function(item) for each item. After an error it begins no further call, waits for those under way, and
        raises the first error. If it is cancelled, so are they."""
        failures: list[Exception] = []
        running: set[asyncio.Task[None]] = set()  # and not all: the items may be millions

        async def run_one(item: T) -> None:
            try:
                if not failures:
                    await function(item)
            except Exception as error:  # noqa: BLE001 whatever it is, it is raised below
                failures.append(error)

        def end(task: asyncio.Task[None]) -> None:
            """Is called even for a task that never began."""
            running.discard(task)
            self.slots.release()

        try:
            for item in items:
                await self.slots.acquire()
                if failures:
                    self.slots.release()
                    break
                task = asyncio.create_task(run_one(item))
                running.add(task)
                task.add_done_callback(end)
            await asyncio.gather(*running)
        finally:
            for task in running:
                task.cancel()
        if failures:
            raise failures[0]


async def work_off(jobs: list[Iterator[Job]], workers: int) -> None:
    """Does all jobs, those that were added last first, this many at a time. A job may add others right before it ends.
    After an error it begins no further job, cancels those under way, and raises it."""
    running: set[asyncio.Task[None]] = set()
    try:
        while True:
            while len(running) < workers and (job := next_of(jobs)):
                running.add(asyncio.create_task(job()))
            if not running:
                return
            ended, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            # Each is asked for its error: otherwise asyncio logs the traceback.
            if errors := [error for task in ended if (error := task.exception())]:
                raise errors[0]
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def next_of(jobs: list[Iterator[Job]]) -> Job | None:
    while jobs:
        if job := next(jobs[-1], None):
            return job
        jobs.pop()
    return None


async def wait_at_most(condition: Coroutine[Any, Any, object], seconds: float) -> bool:
    """Waits for the coroutine for `seconds` at most, then cancels it. Returns whether it has ended by itself."""
    try:
        await asyncio.wait_for(condition, seconds)
    except TimeoutError:
        return False
    return True


async def wait_unless(stopping: asyncio.Event, work: Coroutine[Any, Any, object], seconds: float) -> bool:
    """Waits for `work` to end, and for `seconds` at most once `stopping` is set; then it is cancelled. Returns whether
    it has ended by itself, and raises its error."""
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
