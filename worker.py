"""Keeps a directory bucket equal to a general purpose bucket: queue -> keys -> made equal -> message deleted.

This is the entry point; what it runs is in mirror/, and CONTRIBUTING.md follows one message through those files. The
bytes of objects never pass through here: S3 copies them itself.
"""

from __future__ import annotations

import functools
import os
import sys
import time
from dataclasses import replace

from mirror.cli import is_reading, log_first_line, parse_arguments, run
from mirror.log_writer import configure_logging
from mirror.model.log_lines import log, summary, visible
from mirror.processes import Signals, leave, run_processes
from mirror.settings import load_settings


def main() -> int:
    """Exit status: 0 queue empty or stopped by a signal, 1 the queue cannot be read, 2 a wrong setting or argument, 3
    an outage. Of reconcile, wait and measure: see there."""
    started, used = time.monotonic(), cpu_seconds()
    command = parse_arguments(sys.argv[1:])
    signals = Signals()
    signals.catch()
    try:
        settings = load_settings(dict(os.environ), unused=("QUEUE_URL",) if is_reading(command) else ())
    except ValueError as error:
        print(f"worker: {visible(str(error))}", file=sys.stderr)
        return 2
    configure_logging(settings.log_level, descriptor=2 if is_reading(command) and command.json else 1)
    log_first_line(settings, command)
    count = 1 if command else settings.processes
    share = replace(settings, task_memory=settings.task_memory // count)  # of a process
    status, counts = run_processes(count, functools.partial(run, share, command, signals), signals)
    if counts is not None:
        seconds, cpu = time.monotonic() - started, cpu_seconds() - used
        log.info(summary(counts, seconds, cpu, settings.announces))
    return status


def cpu_seconds() -> float:
    """Of this process, and of its children that have ended."""
    return sum(os.times()[:4])


if __name__ == "__main__":
    leave(main())
