"""Changes a resource of the deployment, by a function of lib/ that deploy.sh and cleanup.sh share."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from operate import text
from operate.cloud import Interrupted
from operate.deployment import Deployment
from operate.ending import SIGNALS
from operate.failure import SaidFailure

PROJECT = Path(__file__).resolve().parent.parent
PROGRAM = 'source "$1/deploy.sh" && run_change'  # lib/operate.sh


def change(deployment: Deployment, function: str, *arguments: str) -> str:
    """What the function prints on standard output. What is said on standard error is for the user; if it is an error,
    this raises SaidFailure.

    A signal ends the function, but not a call of AWS that is in progress, and then has the effect on this process that
    it would have had without the function. To be called from the main thread."""
    known = {
        **deployment.settings,
        "ACCOUNT": deployment.account,
        "VIA": deployment.via,
        "CLI_VERSION": deployment.cli_version,
    }
    words = [*(f"{name}={value}" for name, value in known.items()), "", function, *arguments]
    text.end_progress()
    running: list[subprocess.Popen[str]] = []
    with signals_to(running):
        process = subprocess.Popen(
            [deployment.bash, "-c", PROGRAM, "sync.sh", str(PROJECT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            errors="surrogateescape",
        )
        running.append(process)
        output, _ = process.communicate("".join(f"{word}\0" for word in words))

    if process.returncode == 128 + signal.SIGINT:
        raise Interrupted
    if process.returncode:
        raise SaidFailure(process.returncode if process.returncode > 0 else 128 - process.returncode)
    return output.rstrip("\n")


@contextmanager
def signals_to(running: list[subprocess.Popen[str]]) -> Iterator[None]:
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
