"""Functions of lib/ that a verb needs. Each runs in a Bash of its own, which has read deploy.sh."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from operate import text
from operate.cloud import Interrupted
from operate.ending import SIGNALS
from operate.failure import SaidFailure

PROJECT = __file__.rpartition("/operate/")[0]
PROGRAM = 'set -e; source "$1/deploy.sh"; "${@:2}"'


def output_of(bash: str, program: str, words: Sequence[str], given: bytes | None = None) -> bytes:
    """What a function prints on standard output. `program` is the name by which it says what is wrong, on standard
    error, for the user; then this raises SaidFailure. `given` is its standard input, instead of the user's.

    A signal ends the function, as far as its traps let it, and then has the effect on this process that it would have
    had without the function. To be called from the main thread."""
    text.end_progress()
    running: list[subprocess.Popen[bytes]] = []
    with signals_to(running):
        process = subprocess.Popen(
            [bash, "-c", PROGRAM, program, PROJECT, *words],
            stdin=None if given is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        running.append(process)
        output, _ = process.communicate(given)

    if process.returncode == 128 + signal.SIGINT:
        raise Interrupted
    if process.returncode:
        raise SaidFailure(process.returncode if process.returncode > 0 else 128 - process.returncode)
    return output


@contextmanager
def signals_to(running: list[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Signals reach the process, and when it has ended, the first one reaches this process. Ctrl-C reaches both. A
    process that ends before it has read its input is no closed pipe of this one."""
    came: list[int] = []

    def pass_on(number: int, _frame: FrameType | None) -> None:
        came.append(number)
        for process in running:
            process.send_signal(number)

    before = {number: signal.getsignal(number) for number in SIGNALS}
    heard = [number for number in SIGNALS if before[number] != signal.SIG_IGN]
    for number in heard:
        signal.signal(number, signal.SIG_IGN if number == signal.SIGPIPE else pass_on)
    try:
        yield
    finally:
        for number in heard:
            signal.signal(number, before[number])
        if came:
            os.kill(os.getpid(), came[0])
