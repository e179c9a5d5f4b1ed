"""Keeps a directory bucket equal to a general purpose bucket: queue -> keys -> made equal -> message deleted.

This is the entry point: arguments, signals, processes, and the parts put together. The parts are in mirror/: the way of
one message is worker.py, deliveries.py, jobs.py, sync.py. Object bytes never pass through here, S3 copies them itself.
"""

from __future__ import annotations

import argparse
import asyncio
import atexit
import functools
import gc
import json
import logging
import os
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

from botocore.exceptions import BotoCoreError

from mirror.aws.boto3_clients import Boto3S3, Boto3Sqs, make_session
from mirror.aws.crt_s3 import CrtS3
from mirror.aws.crt_sqs import CrtSqs
from mirror.aws.http import CrtHttp
from mirror.buckets import Buckets
from mirror.key_sync import Interruption
from mirror.log_lines import quoted, summary
from mirror.log_writer import LogWriter
from mirror.queue import Queue
from mirror.reconcile import MAX_DELETE, Options, reconcile
from mirror.settings import Settings, load_settings
from mirror.side_by_side import SideBySide
from mirror.signals import Signals
from mirror.worker import Worker

log = logging.getLogger("worker")
writer = LogWriter()

CHILD_LOOK_SECONDS = 0.2
GARBAGE = 20_000  # new objects before Python looks for cycles, which are few here; 2,000 would cost 3 % of the CPU time
# Exit status, and what was done; None if nothing was begun.
type Outcome = tuple[int, Counter[str] | None]


# --- What one process does --------------------------------------------------------------------------------------------


def make_parts(settings: Settings) -> tuple[Buckets, Queue]:
    """Inside the event loop that uses them. Raises BotoCoreError, for want of credentials."""
    session = make_session()
    boto3_s3, boto3_sqs = Boto3S3(session, settings), Boto3Sqs(session, settings)
    parts = SideBySide(settings.max_concurrent_parts)
    if settings.s3_client == "boto3":
        return Buckets(settings, boto3_s3, parts), Queue(boto3_sqs, settings.queue_url)
    http = CrtHttp(settings.region, session.get_credentials())
    buckets = Buckets(settings, CrtS3(settings, http, boto3_s3), parts)
    return buckets, Queue(CrtSqs(http, boto3_sqs, settings.queue_url), settings.queue_url)


async def work(settings: Settings, options: Options | None, signals: Signals) -> Outcome:
    """Reconciles if there are options for that, else works through the queue. Status 1 if it cannot begin."""
    try:
        buckets, queue = make_parts(settings)
    except BotoCoreError as error:
        log.error("cannot start: %s", error)
        return 1, None
    if options:
        interruption = Interruption()
        in_loop(signals, interruption.set)
        return await reconcile(buckets, queue, options, interruption, writer.put), None
    worker = Worker(settings, buckets, queue)
    in_loop(signals, worker.stop)
    return await worker.run(), worker.counts()


def in_loop(signals: Signals, stop: Callable[[], None]) -> None:
    signals.on_signal(functools.partial(asyncio.get_running_loop().call_soon_threadsafe, stop))


def run_in_loop(settings: Settings, options: Options | None, signals: Signals) -> Outcome:
    """A mistake in the code ends the process with status 1; the messages it holds come back by themselves."""
    gc.set_threshold(GARBAGE)
    loop = asyncio.new_event_loop()
    loop.set_default_executor(ThreadPoolExecutor(settings.calls_at_once, thread_name_prefix="call"))
    try:
        return loop.run_until_complete(work(settings, options, signals))
    except Exception:
        log.exception("the worker ends because of a mistake in it")
        return 1, None


# --- Processes --------------------------------------------------------------------------------------------------------


def work_in_processes(count: int, one: Callable[[], Outcome], signals: Signals) -> Outcome:
    """Runs one() in `count` processes, because Python uses one vCPU in each, and passes a signal on to them.

    A process that fails, is killed or is told to stop has the others hand back and end, too: the starter counts tasks,
    and a part of one would do the work of a whole for as long as the queue is not empty. Exit status: 0, or the last
    that is not; 1 for a process that was killed, whose messages come back by themselves.
    """
    reports = dict(fork_to(one, signals) for _ in range(count))
    writer.start()
    exit_status, are_told = 0, False
    counts: Counter[str] = Counter()
    while reports:
        if signals.came and not are_told:
            are_told = True
            for child in reports:
                os.kill(child, signal.SIGTERM)
        child, status = os.waitpid(-1, os.WNOHANG)
        if not child:
            time.sleep(CHILD_LOOK_SECONDS)
            continue
        report = read_report(reports.pop(child))
        counts += Counter(report.get("counts"))
        if status:
            exit_status = max(os.waitstatus_to_exitcode(status), 1)
        if (status or report.get("stopped")) and not signals.came:
            log.error("process %d of this worker %s, the others end, too", child, describe_end(status))
            signals.came = True
    return exit_status, counts


def describe_end(status: int) -> str:
    """`status`: of os.waitpid()."""
    if os.WIFSIGNALED(status):
        return f"was killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"failed with status {os.waitstatus_to_exitcode(status)}" if status else "was told to stop"


def fork_to(one: Callable[[], Outcome], signals: Signals) -> tuple[int, int]:
    """The process id of a child that runs one() and ends, and the file descriptor on which it reports."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        writer.forget()
        writer.start()
        status, counts = one()
        os.write(writing, json.dumps({"counts": counts or {}, "stopped": signals.came}).encode())
        leave(status)
    os.close(writing)
    return child, reading


def read_report(descriptor: int) -> dict[str, Any]:
    """Nothing from a child that was killed."""
    with open(descriptor, "rb") as report:
        return dict(json.loads(report.read() or b"{}"))


def leave(status: int) -> NoReturn:
    """Not sys.exit: that would wait for threads whose copy S3 has not answered, and those were handed back."""
    writer.drain()
    os._exit(status)


# --- The command ------------------------------------------------------------------------------------------------------


def whole_number(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,12}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number")
    return int(text)


def parse_arguments(arguments: list[str]) -> Options | None:
    """What to reconcile, None to work through the queue. Ends the process with status 2 for a wrong argument."""
    parser = argparse.ArgumentParser(prog="worker.py", description="Without arguments: works through the queue.")
    command = parser.add_subparsers(dest="command").add_parser(
        "reconcile", help="compare both buckets and put the keys that differ on the queue"
    )
    command.add_argument("--prefix", default="", help="only keys that begin with it (default: PREFIX_FILTER)")
    command.add_argument("--dry-run", action="store_true", help="only report: status 1 when there are differences")
    command.add_argument("--audit", action="store_true", help="look again at what differs after five minutes")
    command.add_argument("--deep", action="store_true", help="look at every object, not only at the listings")
    command.add_argument(
        "--max-delete", type=whole_number, default=MAX_DELETE, help="stop when more would be deleted (%(default)s)"
    )
    command.add_argument("--examples", type=whole_number, default=10, help="keys to name of each kind (%(default)s)")
    found = vars(parser.parse_args(arguments))
    return Options(**found) if found.pop("command") else None


def configure_logging(level: str) -> None:
    """What no line shows is not found out for it (Python, "Logging HOWTO", Optimization)."""
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.logAsyncioTasks = False  # type: ignore[attr-defined]
    logging.basicConfig(handlers=[writer], level=level)
    for library in ("asyncio", "botocore"):
        logging.getLogger(library).setLevel(logging.WARNING)
    atexit.register(writer.drain)  # after an error that nobody expected


def main() -> int:
    """Exit status: 0 queue empty or stopped by a signal, 1 the queue cannot be read, 2 a wrong setting or argument."""
    started = time.monotonic()
    options = parse_arguments(sys.argv[1:])
    signals = Signals()
    signals.catch()
    try:
        settings = load_settings(dict(os.environ))
    except ValueError as error:
        print(f"worker: {error}", file=sys.stderr)
        return 2
    configure_logging(settings.log_level)
    log.info("syncing %s to %s prefix=%s", settings.src_bucket, settings.dst_bucket, quoted(settings.prefix_filter))
    one = functools.partial(run_in_loop, settings, options, signals)
    if settings.processes == 1 or options:
        writer.start()
        status, counts = one()
    else:
        status, counts = work_in_processes(settings.processes, one, signals)
    if counts is not None:
        log.info(summary(counts, time.monotonic() - started))
    return status


if __name__ == "__main__":
    leave(main())
