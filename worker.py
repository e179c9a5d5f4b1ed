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
from typing import Any, NoReturn, TypeIs

from botocore.exceptions import BotoCoreError

from mirror.aws.boto3_clients import Boto3Events, Boto3S3, Boto3Sqs, make_session
from mirror.aws.crt_events import CrtEvents
from mirror.aws.crt_s3 import CrtS3
from mirror.aws.crt_sqs import CrtSqs
from mirror.aws.http import CrtHttp
from mirror.hooks.announcer import Announcer
from mirror.log_writer import LogWriter
from mirror.loop import Worker
from mirror.model.log_lines import quoted, summary
from mirror.protocol.attempt import Interruption
from mirror.protocol.buckets import Buckets
from mirror.queue.queue import Queue
from mirror.readers.measure import MeasureOptions, measure
from mirror.readers.reconcile import MAX_DELETE, Options, reconcile
from mirror.readers.wait import EXAMPLES, WaitOptions, wait
from mirror.settings import Settings, load_settings
from mirror.signals import Signals
from mirror.version import VERSION

log = logging.getLogger("worker")
writer = LogWriter()

CHILD_LOOK_SECONDS = 0.2
SECONDS_OF = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
GARBAGE = 20_000  # new objects before Python looks for cycles, which are few here; 2,000 would cost 3 % of the CPU time
# Exit status, and what was done; None if nothing was begun.
type Outcome = tuple[int, Counter[str] | None]
type Reading = WaitOptions | MeasureOptions  # a command that only reads, and needs no queue
type Command = Options | Reading | None  # None: to work through the queue
BEGINS = {
    Options: "comparing %s with %s prefix=%s",
    WaitOptions: "waiting until %s is in %s prefix=%s",
    MeasureOptions: "measuring %s and %s prefix=%s",
}


# --- What one process does --------------------------------------------------------------------------------------------


def make_parts(settings: Settings) -> tuple[Buckets, Queue, Announcer]:
    """Inside the event loop that uses them. Raises BotoCoreError, for want of credentials."""
    session, http = connect(settings)
    sqs, events = Boto3Sqs(session, settings), Boto3Events(session, settings) if settings.announces else None
    queue = Queue(CrtSqs(http, sqs, settings.queue_url) if http else sqs, settings.queue_url)
    announcer = Announcer(settings, CrtEvents(http, events) if http and events else events)
    return make_buckets(settings, session, http), queue, announcer


def connect(settings: Settings) -> tuple[Any, CrtHttp | None]:
    """A session of boto3, and what the CRT's clients send with, None without these."""
    session = make_session()
    return session, CrtHttp(settings.region, session.get_credentials()) if settings.s3_client == "crt" else None


def make_buckets(settings: Settings, session: Any, http: CrtHttp | None) -> Buckets:
    s3 = Boto3S3(session, settings)
    return Buckets(settings, CrtS3(settings, http, s3) if http else s3)


async def work(settings: Settings, command: Command, signals: Signals) -> Outcome:
    """Does what the command says. Status 1, of what only reads 3, if it cannot begin."""
    try:
        if is_reading(command):
            return await read(make_buckets(settings, *connect(settings)), command, signals), None
        buckets, queue, announcer = make_parts(settings)
    except BotoCoreError as error:
        log.error("cannot start: %s", error)
        return failure(command), None
    if command:
        interruption = Interruption()
        in_loop(signals, interruption.set)
        return await reconcile(buckets, queue, command, interruption, writer.put), None
    worker = Worker(settings, buckets, queue, announcer=announcer)
    in_loop(signals, worker.stop)
    return await worker.run(), worker.counts()


def is_reading(command: Command) -> TypeIs[Reading]:
    return isinstance(command, WaitOptions | MeasureOptions)


async def read(buckets: Buckets, command: Reading, signals: Signals) -> int:
    interruption = Interruption()
    in_loop(signals, interruption.set)
    show = show_apart if command.json else writer.put
    if isinstance(command, WaitOptions):
        return await wait(buckets, command, interruption, show)
    return await measure(buckets, command, interruption, show)


def show_apart(line: str) -> None:
    """Not in the log, and at once, as leave() writes nothing more."""
    print(line, flush=True)


def failure(command: Command) -> int:
    """The exit status if nothing could be done: 1 of a wait is that the time is over. A program that waits is told."""
    if not is_reading(command):
        return 1
    if command.json:
        show_apart(json.dumps({"end": "stopped", "status": 3}))
    return 3


def in_loop(signals: Signals, stop: Callable[[], None]) -> None:
    signals.on_signal(functools.partial(asyncio.get_running_loop().call_soon_threadsafe, stop))


def run_in_loop(settings: Settings, command: Command, signals: Signals) -> Outcome:
    """A mistake in the code ends the process; the messages it holds come back by themselves."""
    gc.set_threshold(GARBAGE)
    loop = asyncio.new_event_loop()
    loop.set_default_executor(ThreadPoolExecutor(settings.calls_at_once, thread_name_prefix="call"))
    try:
        return loop.run_until_complete(work(settings, command, signals))
    except Exception:
        log.exception("the worker ends because of a mistake in it")
        return failure(command), None


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


def duration(text: str) -> int:
    """In seconds."""
    found = re.fullmatch(r"([1-9][0-9]{0,8})([smhd])", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: write 90s, 30m, 1h or 2d")
    return int(found[1]) * SECONDS_OF[found[2]]


def parse_arguments(arguments: list[str]) -> Command:
    """What to do. Ends the process with status 2 for a wrong argument."""
    parser = argparse.ArgumentParser(prog="worker.py", description="Without arguments: works through the queue.")
    commands = parser.add_subparsers(dest="command")
    add_reconcile(commands)
    add_wait(commands)
    add_measure(commands)
    found = vars(parser.parse_args(arguments))
    name = found.pop("command")
    if name == "wait":
        return WaitOptions(**found)
    if name == "measure":
        return MeasureOptions(**found)
    if name and found["audit"] and found["remove_unwanted"]:
        parser.error("reconcile: --audit removes nothing, so it cannot go with --remove-unwanted")
    return Options(**found) if name else None


def add_reconcile(commands: Any) -> None:
    command = commands.add_parser("reconcile", help="compare both buckets and put the keys that differ on the queue")
    command.add_argument("--prefix", default="", help="only keys that begin with it (default: PREFIX_FILTER)")
    command.add_argument("--dry-run", action="store_true", help="only report: status 1 when there are differences")
    command.add_argument("--audit", action="store_true", help="look again at what differs after five minutes")
    command.add_argument("--deep", action="store_true", help="look at every object, not only at the listings")
    command.add_argument(
        "--remove-unwanted", action="store_true", help="delete copies that EXCLUDE or KEEP_DAYS leaves out"
    )
    command.add_argument(
        "--max-delete", type=whole_number, default=MAX_DELETE, help="stop when more would be deleted (%(default)s)"
    )
    command.add_argument("--examples", type=whole_number, default=10, help="keys to name of each kind (%(default)s)")


def add_wait(commands: Any) -> None:
    command = commands.add_parser(
        "wait",
        help="wait until all that the source holds now is in the destination",
        description="Ends when all that the source holds now is in the destination, in that version or a newer one. "
        "Only reads, and needs no QUEUE_URL. Exit status: 0 all is there, 1 the time is over, 2 a wrong argument or "
        "setting, 3 a bucket cannot be read, or a signal.",
    )
    command.add_argument("--prefix", default="", help="only keys that begin with it (default: PREFIX_FILTER)")
    command.add_argument("--timeout", type=duration, default="1h", help="such as 90s, 30m, 1h, 2d (%(default)s)")
    command.add_argument("--exact", action="store_true", help="also until what the source has no longer is gone")
    command.add_argument("--deep", action="store_true", help="look at every copy, not only at the listings")
    command.add_argument("--json", action="store_true", help="one JSON object on stdout, the log on stderr")
    command.add_argument("--examples", type=whole_number, default=EXAMPLES, help="keys to name at most (%(default)s)")


def add_measure(commands: Any) -> None:
    command = commands.add_parser(
        "measure",
        help="count what both buckets hold, and what KEEP_DAYS would keep",
        description="Lists both buckets once. Only lists, and needs no QUEUE_URL. Exit status: 0 counted, 2 a wrong "
        "argument or setting, 3 a bucket cannot be listed, or a signal.",
    )
    command.add_argument("--json", action="store_true", help="one JSON object on stdout, the log on stderr")


def configure_logging(level: str) -> None:
    """What no line shows is not found out for it (Python, "Logging HOWTO", Optimization)."""
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.logAsyncioTasks = False  # type: ignore[attr-defined]
    logging.basicConfig(handlers=[writer], level=level)
    for library in ("asyncio", "botocore"):
        logging.getLogger(library).setLevel(logging.WARNING)
    atexit.register(writer.drain)  # after an error that nobody expected


def log_first_line(settings: Settings, command: Command) -> None:
    """What is done with which keys, what is left out of them, and the release."""
    begins = BEGINS.get(type(command), "syncing %s to %s prefix=%s")
    prefix = getattr(command, "prefix", "") or settings.prefix_filter
    log.info(begins, settings.src_bucket, settings.dst_bucket, quoted(prefix) + ending_of_first_line(settings))


def ending_of_first_line(settings: Settings) -> str:
    exclude = f" exclude={quoted(settings.exclude)}" if settings.exclude else ""
    keep_days = f" keep_days={settings.keep_days}" if settings.keep_days else ""
    return f"{exclude}{keep_days} version={VERSION}"


def main() -> int:
    """Exit status: 0 queue empty or stopped by a signal, 1 the queue cannot be read, 2 a wrong setting or argument. Of
    reconcile, wait and measure: see there."""
    started = time.monotonic()
    command = parse_arguments(sys.argv[1:])
    signals = Signals()
    signals.catch()
    try:
        settings = load_settings(dict(os.environ), unused=("QUEUE_URL",) if is_reading(command) else ())
    except ValueError as error:
        print(f"worker: {error}", file=sys.stderr)
        return 2
    if is_reading(command) and command.json:
        writer.descriptor = sys.stderr.fileno()
    configure_logging(settings.log_level)
    log_first_line(settings, command)
    one = functools.partial(run_in_loop, settings, command, signals)
    if settings.processes == 1 or command:
        writer.start()
        status, counts = one()
    else:
        status, counts = work_in_processes(settings.processes, one, signals)
    if counts is not None:
        log.info(summary(counts, time.monotonic() - started, settings.announces))
    return status


if __name__ == "__main__":
    leave(main())
