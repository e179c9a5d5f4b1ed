"""Runs the worker in one process or in several, and ends them: each after its work, and all soon after a signal."""

from __future__ import annotations

import _thread  # because Thread.start() takes locks, which the code that a signal interrupts may hold
import asyncio
import functools
import json
import os
import select
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from mirror.log_writer import writer
from mirror.model.log_lines import log

CHILD_LOOK_SECONDS = 0.2
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
LAST_SECONDS = 108  # after the signal; Fargate kills after 120 (stopTimeout), and then nothing is logged
LAST_WORDS = b"worker: did not end in time after a signal; its messages return after their visibility timeout\n"

# The exit status, and what was done; None if no work was begun.
type Outcome = tuple[int, Counter[str] | None]


# --- SIGTERM and SIGINT, from the first moment of a process on --------------------------------------------------------


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


# --- The processes ----------------------------------------------------------------------------------------------------


def run_processes(count: int, run: Callable[[], Outcome], signals: Signals) -> Outcome:
    """Runs run() in this process, or in `count` children, because Python uses one vCPU in each process.

    The children share one fate: if one fails, is killed or is stopped by a signal, the others hand back their messages
    and end as well. The starter counts tasks, and a task with fewer processes would do a part of the work of a whole
    one until the queue is empty. The exit status is 0, or the last that is not; 1 for a process that was killed, whose
    messages come back by their visibility timeout.
    """
    if count == 1:
        writer.start()
        return run()
    reports = dict(fork(run, signals) for _ in range(count))
    writer.start()

    exit_status, are_stopped = 0, False
    counts: Counter[str] = Counter()
    while reports:
        if signals.came and not are_stopped:
            are_stopped = True
            for child in reports:
                os.kill(child, signal.SIGTERM)

        child, status = os.waitpid(-1, os.WNOHANG)
        if not child:
            time.sleep(CHILD_LOOK_SECONDS)
            continue

        with os.fdopen(reports.pop(child), "rb") as file:
            report = json.loads(file.read() or b"{}")  # nothing of a child that was killed
        counts += Counter(report.get("counts"))
        if status:
            exit_status = max(os.waitstatus_to_exitcode(status), 1)
        if (status or report.get("stopped")) and not signals.came:
            log.error("process %d of this worker %s, the others end, too", child, how_it_ended(status))
            signals.came = True
    return exit_status, counts


def how_it_ended(status: int) -> str:
    """`status`: as os.waitpid() returns it."""
    if os.WIFSIGNALED(status):
        return f"was killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"failed with status {os.waitstatus_to_exitcode(status)}" if status else "was stopped"


def fork(run: Callable[[], Outcome], signals: Signals) -> tuple[int, int]:
    """Starts a child that runs run() and ends. Returns its process id, and the descriptor on which it reports."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        writer.forget()
        writer.start()
        status, counts = run()
        os.write(writing, json.dumps({"counts": counts or {}, "stopped": signals.came}).encode())
        leave(status)
    os.close(writing)
    return child, reading


def leave(status: int) -> NoReturn:
    """Ends the process. sys.exit would wait for threads whose copy S3 has not answered, although the messages of those
    copies were handed back."""
    writer.drain()
    os._exit(status)
