"""SIGTERM and SIGINT, from the first moment of a process on; and the last net: what has not ended in time is ended."""

from __future__ import annotations

import _thread  # as Thread.start() takes locks, which the code that a signal interrupts may hold
import os
import select
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
LAST_SECONDS = 108  # after the signal; Fargate kills after 120 (stopTimeout), and then nothing is told
LAST_WORDS = b"worker: not ended in time after a signal, leaving; what is held comes back by its visibility timeout\n"


@dataclass(eq=False)
class Signals:
    """Python's own handlers, as asyncio's are not run while the event loop stands still."""

    came: bool = False
    tell: Callable[[], object] = lambda: None
    watched: int = 0  # the process that is ended in time; after a fork() it is another

    def catch(self) -> None:
        for number in STOP_SIGNALS:
            signal.signal(number, self.handle)

    def handle(self, _number: int, _frame: object) -> None:
        self.came = True
        if self.watched != os.getpid():
            self.watched = os.getpid()
            _thread.start_new_thread(end_in_time, ())
        self.tell()

    def on_signal(self, tell: Callable[[], object]) -> None:
        """tell() is called in the main thread, between any two steps of it; at once if a signal came already."""
        self.tell = tell
        if self.came:
            tell()


def end_in_time() -> None:
    time.sleep(LAST_SECONDS)
    try:
        if select.select([], [2], [], 0)[1]:
            os.write(2, LAST_WORDS)
    finally:
        os._exit(1)
