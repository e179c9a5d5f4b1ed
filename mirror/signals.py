"""SIGTERM and SIGINT, from the first moment of a process on. A process that does not end in time is ended."""

from __future__ import annotations

import _thread  # as Thread.start() takes locks, which the code that a signal interrupts may hold
import asyncio
import functools
import os
import select
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
LAST_SECONDS = 108  # after the signal; Fargate kills after 120 (stopTimeout), and then nothing is logged
LAST_WORDS = b"worker: did not end in time after a signal; its messages return after their visibility timeout\n"


@dataclass(eq=False)
class Signals:
    """Python's own handlers, because asyncio does not run its handlers while the event loop stands still."""

    came: bool = False
    notify: Callable[[], object] = lambda: None
    watched: int = 0  # the process that is ended in time; after a fork() it is another
    last_seconds: float = LAST_SECONDS

    def catch(self) -> None:
        for number in STOP_SIGNALS:
            signal.signal(number, self.handle)

    def handle(self, _number: int, _frame: object) -> None:
        self.came = True
        if self.watched != os.getpid():
            self.watched = os.getpid()
            _thread.start_new_thread(end_in_time, (self.last_seconds,))
        self.notify()

    def stop_with(self, stop: Callable[[], object]) -> None:
        """Has a signal call stop() in the running event loop. If one came already, stop() is called soon."""
        self.notify = functools.partial(asyncio.get_running_loop().call_soon_threadsafe, stop)
        if self.came:
            self.notify()


def end_in_time(seconds: float) -> None:
    time.sleep(seconds)
    try:
        if select.select([], [2], [], 0)[1]:
            os.write(2, LAST_WORDS)
    finally:
        os._exit(1)
