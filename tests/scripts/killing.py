"""Scripts that are killed in the middle of their work."""

import os
import signal
import subprocess
from collections.abc import Callable

from account import Account
from recorder import Call


def end_when(account: Account, is_time: Callable[[Call], bool], process: subprocess.Popen[str]) -> str:
    """Kill the process, with all that it started, once the time has come; returns what it said.

    The recorder answers no call that it leaves behind.
    """

    def goes_on(call: Call) -> bool:
        if not is_time(call):
            return True
        os.killpg(process.pid, signal.SIGKILL)
        return False

    account.recorder.after_call = goes_on
    with process:
        said = process.communicate(timeout=900)
    account.recorder.forget()
    return "".join(said)


def kill_at(account: Account, operation: str, process: subprocess.Popen[str]) -> None:
    """Kill the process when its first call of the operation is done."""
    said = end_when(account, lambda call: call.operation == operation, process)
    assert process.returncode == -signal.SIGKILL, said


def complete_after_kills(account: Account, start: Callable[[], subprocess.Popen[str]]) -> int:
    """Start it again and again, each time killed after its first write, until one ends; returns the kills.

    A kill after a read leaves the account as the write before it did, so this is every point of a run.
    """
    for kills in range(100):
        process = start()
        said = end_when(account, lambda call: call.is_write, process)
        if process.returncode == 0:
            return kills
        assert process.returncode == -signal.SIGKILL, said
    raise AssertionError("it never gets through")
