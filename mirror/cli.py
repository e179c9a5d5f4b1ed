"""The command line of a worker: its arguments, and what each command does. Without one it works through the queue."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeIs

from botocore.exceptions import BotoCoreError

from mirror.aws.boto3_clients import Clients, boto3_clients
from mirror.aws.crt import crt_clients
from mirror.log_writer import writer
from mirror.loop import make_parts, make_worker
from mirror.model.log_lines import log, quoted
from mirror.processes import Outcome, Signals
from mirror.protocol.attempt import Interruption
from mirror.protocol.buckets import Buckets
from mirror.readers.measure import Measure, MeasureArguments
from mirror.readers.reconcile import MAX_DELETE, ReconcileArguments, Reconciliation
from mirror.readers.wait import EXAMPLES, WaitArguments, wait
from mirror.settings import Settings
from mirror.version import VERSION

type Reading = WaitArguments | MeasureArguments  # a command that only reads, and needs no queue
type Command = ReconcileArguments | Reading | None  # None: to work through the queue

SECONDS_OF = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
GARBAGE = 20_000  # new objects before Python looks for cycles, which are few here; 2,000 would cost 3% of the CPU time
CLIENTS: dict[str, Callable[[Settings], Clients]] = {"crt": crt_clients, "boto3": boto3_clients}  # by S3_CLIENT
BEGINS = {
    ReconcileArguments: "comparing %s with %s prefix=%s",
    WaitArguments: "waiting until %s is in %s prefix=%s",
    MeasureArguments: "measuring %s and %s prefix=%s",
}


# --- The arguments ----------------------------------------------------------------------------------------------------


def is_reading(command: Command) -> TypeIs[Reading]:
    return isinstance(command, WaitArguments | MeasureArguments)


def whole_number(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,12}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def duration(text: str) -> int:
    """In seconds."""
    found = re.fullmatch(r"([1-9][0-9]{0,8})([smhd])", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration: write 90s, 30m, 1h or 2d")
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
        return WaitArguments(**found)
    if name == "measure":
        return MeasureArguments(**found)
    for removal in ("remove_unwanted", "remove_foreign"):
        if name and found["audit"] and found[removal]:
            parser.error(f"reconcile: --audit removes nothing: leave out --{removal.replace('_', '-')}")
    return ReconcileArguments(**found) if name else None


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
        "--remove-foreign", action="store_true", help="delete what only the destination has and the sync did not write"
    )
    command.add_argument(
        "--max-delete", type=whole_number, default=MAX_DELETE, help="stop when more would be deleted (%(default)s)"
    )
    command.add_argument("--examples", type=whole_number, default=10, help="keys to name of each kind (%(default)s)")
    command.add_argument("--report", action="store_true", help="log each difference as a line of its own, numbered")


def add_wait(commands: Any) -> None:
    command = commands.add_parser(
        "wait",
        help="wait until everything that is in the source now is in the destination",
        description="Ends when everything that is in the source now is in the destination, in that version or a newer "
        "one. It only reads, and needs no QUEUE_URL. Exit status: 0 everything has arrived, 1 timeout, or the source "
        "has no key under --prefix, 2 a wrong argument or setting, 3 a bucket cannot be read, or a signal.",
    )
    command.add_argument("--prefix", default="", help="only keys that begin with it (default: PREFIX_FILTER)")
    command.add_argument("--timeout", type=duration, default="1h", help="such as 90s, 30m, 1h, 2d (%(default)s)")
    command.add_argument("--exact", action="store_true", help="also wait for deletions in the destination")
    command.add_argument("--deep", action="store_true", help="look at every object, and compare checksums")
    command.add_argument(
        "--allow-empty", action="store_true", help="complete if there is no key under --prefix, which --exact implies"
    )
    command.add_argument("--json", action="store_true", help="one JSON object on stdout, the log on stderr")
    command.add_argument("--examples", type=whole_number, default=EXAMPLES, help="keys to name at most (%(default)s)")


def add_measure(commands: Any) -> None:
    command = commands.add_parser(
        "measure",
        help="count what both buckets hold, and what KEEP_DAYS would keep",
        description="Lists both buckets once. It needs no QUEUE_URL. Exit status: 0 counted, 2 a wrong "
        "argument or setting, 3 a bucket cannot be listed, or a signal.",
    )
    command.add_argument("--json", action="store_true", help="one JSON object on stdout, the log on stderr")


# --- What is done -----------------------------------------------------------------------------------------------------


def log_first_line(settings: Settings, command: Command) -> None:
    """Logs what is done with which keys, what is left out of them, and the release."""
    begins = BEGINS.get(type(command), "syncing %s to %s prefix=%s")
    prefix = getattr(command, "prefix", "") or settings.prefix_filter
    exclude = f" exclude={quoted(settings.exclude)}" if settings.exclude else ""
    keep_days = f" keep_days={settings.keep_days}" if settings.keep_days else ""
    keys = f"{quoted(prefix)}{exclude}{keep_days} version={VERSION}"
    log.info(begins, settings.src_bucket, settings.dst_bucket, keys)


def run(settings: Settings, command: Command, signals: Signals) -> Outcome:
    """Does what the command says, in an event loop. A mistake in the code ends the process, and the messages that it
    holds come back by their visibility timeout."""
    gc.set_threshold(GARBAGE)
    loop = asyncio.new_event_loop()
    loop.set_default_executor(ThreadPoolExecutor(settings.calls_at_once, thread_name_prefix="call"))
    try:
        return loop.run_until_complete(work(settings, command, signals))
    except Exception:
        log.exception("the worker ends because of a mistake in it")
        return failure(command), None


async def work(settings: Settings, command: Command, signals: Signals) -> Outcome:
    """Puts together the parts that the command needs, and has them do it until it is done or a signal comes."""
    try:
        clients = CLIENTS[settings.s3_client](settings)
        if is_reading(command):
            return await read(Buckets(settings, clients.s3()), command, signals), None
        parts = make_parts(settings, clients)
    except BotoCoreError as error:
        log.error("cannot start: %s", error)
        return failure(command), None
    if command:
        interruption = interruption_by(signals)
        return await Reconciliation(parts.buckets, parts.queue, command, interruption, writer.put).run(), None
    worker = make_worker(parts)
    signals.stop_with(worker.stop)
    return await worker.run(), worker.counts()


async def read(buckets: Buckets, command: Reading, signals: Signals) -> int:
    show = show_apart if command.json else writer.put
    if isinstance(command, WaitArguments):
        return await wait(buckets, command, interruption_by(signals), show)
    return await Measure(buckets, command, interruption_by(signals), show).run()


def interruption_by(signals: Signals) -> Interruption:
    interruption = Interruption()
    signals.stop_with(interruption.set)
    return interruption


def show_apart(line: str) -> None:
    """Prints a line that does not belong to the log, at once, because nothing is flushed when the process ends."""
    print(line, flush=True)


def failure(command: Command) -> int:
    """The exit status if nothing could be done: 1, or 3 of a command that only reads, whose 1 has another meaning. With
    --json this is reported on standard output as well."""
    if not is_reading(command):
        return 1
    if command.json:
        show_apart(json.dumps({"end": "stopped", "status": 3}))
    return 3
