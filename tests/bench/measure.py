"""One process, measured: how long, how much CPU time, how much memory."""

import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

POLL_SECONDS = 0.01
started: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True)
class Usage:
    """What a process used until it ended. CPU seconds are those of all its threads and of the children it waited for;
    MiB is the largest resident size of the largest process among them."""

    seconds: float
    cpu_seconds: float
    peak_mib: float
    status: int


@dataclass(frozen=True)
class Running:
    process: subprocess.Popen[bytes]
    started: float
    log: Path

    def seconds(self) -> float:
        return time.monotonic() - self.started

    def last_words(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""


def start(command: list[str], environment: dict[str, str], log: Path) -> Running:
    """The output goes to a file: a pipe that nobody reads would stop the process."""
    with log.open("wb") as output:
        begun = time.monotonic()
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    started.append(process)
    return Running(process, begun, log)


def stop_all() -> None:
    """For a benchmark that is interrupted: none of its processes stays."""
    for process in started:
        if process.returncode is None:
            process.terminate()


def finish(running: Running, timeout: float) -> Usage:
    """Waits for the end; kills what is not done in time, its status is then -9."""
    pid = 0
    while not pid:
        time.sleep(POLL_SECONDS)
        if running.seconds() > timeout:
            running.process.kill()
        pid, status, usage = os.wait4(running.process.pid, os.WNOHANG)
    running.process.returncode = os.waitstatus_to_exitcode(status)
    return Usage(
        seconds=running.seconds(),
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        peak_mib=usage.ru_maxrss / 1024,
        status=running.process.returncode,
    )


def wait_for(
    condition: Callable[[], bool], running: Running, timeout: float, poll_seconds: float = POLL_SECONDS
) -> bool:
    """False where the process ended, or the time was over, before the condition became true."""
    while not condition():
        # WNOWAIT leaves the ended process, with its usage, to finish().
        ended = os.waitid(os.P_PID, running.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended or running.seconds() > timeout:
            return False
        time.sleep(poll_seconds)
    return True
