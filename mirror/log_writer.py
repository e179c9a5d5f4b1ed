"""Writes the log in a thread of its own, so that a reader who is slow, or reads nothing at all, stops nothing.

A container's log driver may be such a reader. Lines are then dropped rather than waited for, and once it reads again a
line says how many.
"""

from __future__ import annotations

import atexit
import logging
import os
import select
import sys
import threading
import time
from collections import deque
from typing import Any

from mirror.model.log_lines import visible

HELD = 8 * 1024**2  # bytes that may wait to be written
BATCH_SECONDS = 0.05  # that a line waits for others
DRAIN_SECONDS = 2.0  # that the end of the process waits for the last lines
SECOND = "%Y-%m-%dT%H:%M:%S"


class LineFormatter(logging.Formatter):
    """Each message is one line, whatever text from outside is in it. The lines of a traceback are indented: none of
    them looks like one of ours."""

    default_time_format = SECOND
    default_msec_format = "%s.%03dZ"

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")
        self.converter = time.gmtime

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        record.message = visible(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802
        return "\n".join(f"  {visible(line)}" for line in super().formatException(ei).split("\n"))


class LogWriter(logging.Handler):
    """Lines wait here until start(), and after it for BATCH_SECONDS at most."""

    def __init__(self, descriptor: int = 1) -> None:
        super().__init__()
        self.descriptor = descriptor
        self.second = -1  # of the latest line
        self.text = ""  # that second as text
        self.whole = LineFormatter()
        self.forget()

    def forget(self) -> None:
        """Begins again in a child of fork(): the lines that wait are its parent's, and it has inherited no thread."""
        self.lines: deque[bytes] = deque()
        self.size = 0  # bytes in them
        self.dropped = 0
        self.failed = False
        self.some = threading.Event()  # there are lines
        self.written = threading.Event()  # there are none left
        self.written.set()

    def start(self) -> None:
        threading.Thread(target=self.write_for_ever, name="log", daemon=True).start()

    # In any thread

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info or record.stack_info:
            self.put(self.whole.format(record))
        else:
            stamp = self.stamp(int(record.created), int(record.msecs))
            self.put(f"{stamp} {record.levelname} {visible(record.getMessage())}")

    def stamp(self, second: int, milliseconds: int) -> str:
        if second != self.second:
            self.second, self.text = second, time.strftime(SECOND, time.gmtime(second))
        return f"{self.text}.{milliseconds:03d}Z"

    def put(self, line: str) -> None:
        """Has the line written. Once too much waits to be written, lines are dropped until half of it is written."""
        with self.lock:  # type: ignore[union-attr]
            if self.size > (HELD // 2 if self.dropped else HELD):
                self.dropped += 1
                return
            if self.dropped:
                self.report_dropped()
            self.add(line)

    def add(self, line: str) -> None:
        text = f"{line}\n".encode(errors="backslashreplace")
        self.lines.append(text)
        self.size += len(text)
        if len(self.lines) == 1:
            self.written.clear()
            self.some.set()

    def report_dropped(self) -> None:
        now, dropped, self.dropped = time.time(), self.dropped, 0
        stamp = self.stamp(int(now), int(now % 1 * 1000))
        self.add(f"{stamp} WARNING {dropped} lines of the log were dropped, because nothing read them")

    def drain(self, seconds: float = DRAIN_SECONDS) -> None:
        """Waits until everything is written, or until the time is over."""
        self.written.wait(seconds)

    # In the thread

    def write_for_ever(self) -> None:
        while True:
            self.some.wait()
            time.sleep(BATCH_SECONDS)
            while lines := self.take():
                self.write(lines)

    def take(self) -> bytes:
        """Takes out whole lines for one write, not more than a pipe takes at once, so that the lines of two processes
        do not mix (pipe(7), PIPE_BUF). Returns nothing if no line waits."""
        with self.lock:  # type: ignore[union-attr]
            if self.dropped and not self.lines:
                self.report_dropped()
            taken: list[bytes] = []
            size = 0
            while self.lines and (not taken or size + len(self.lines[0]) <= select.PIPE_BUF):
                taken.append(self.lines.popleft())
                size += len(taken[-1])
            self.size -= size
            if not taken:
                self.some.clear()
                self.written.set()
        return b"".join(taken)

    def write(self, text: bytes) -> None:
        while text:
            try:
                text = text[os.write(self.descriptor, text) :]
            except BlockingIOError:
                time.sleep(BATCH_SECONDS)
            except OSError as error:  # nobody will read the log any more, which is said once
                if not self.failed:
                    print(f"worker: the log cannot be written: {error}", file=sys.stderr, flush=True)
                self.failed = True
                return


writer = LogWriter()  # of this process


def configure_logging(level: str, descriptor: int) -> None:
    """Has the writer write the log of this process, with lines of this level and above.

    What no line shows is not determined for each line either (Python, "Logging HOWTO", Optimization).
    """
    writer.descriptor = descriptor
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.logAsyncioTasks = False  # type: ignore[attr-defined]
    logging.basicConfig(handlers=[writer], level=level)
    for library in ("asyncio", "botocore"):
        logging.getLogger(library).setLevel(logging.WARNING)
    atexit.register(writer.drain)  # after an error that nobody expected
