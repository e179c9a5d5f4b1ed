"""A worker with its children, looked at while it runs: CPU time, memory, threads; and how it is ended."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from movers import INHERITED

TICKS = os.sysconf("SC_CLK_TCK")
SMALL_PIPE = 4096


@dataclass
class Watched:
    """One start of worker.py. CPU seconds are those of each process at the last look, MiB and threads the most that all
    of them had together."""

    process: subprocess.Popen[bytes]
    cpu: dict[int, float] = field(default_factory=dict)
    mib: float = 0.0
    threads: int = 0

    def look(self) -> dict[int, tuple[float, int]]:
        """Process id -> MiB and threads now."""
        seen: dict[int, tuple[float, int]] = {}
        for pid in tree(self.process.pid):
            try:
                status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
                times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if "VmRSS" not in status:  # it has ended
                continue
            seen[pid] = int(status["VmRSS"].split()[0]) / 1024, int(status.get("Threads", "0"))
            self.cpu[pid] = (int(times[11]) + int(times[12])) / TICKS
        self.mib = max(self.mib, sum(mib for mib, _ in seen.values()))
        self.threads = max(self.threads, sum(threads for _, threads in seen.values()))
        return seen

    def children(self) -> list[int]:
        return tree(self.process.pid)[1:]

    def is_running(self) -> bool:
        return self.process.poll() is None

    def end(self, number: int, seconds: float) -> float:
        """Sends the signal; seconds until it has ended, infinite if it had to be killed."""
        begun = time.monotonic()
        self.process.send_signal(number)
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return float("inf")
        return time.monotonic() - begun

    def kill(self) -> None:
        for pid in reversed(tree(self.process.pid)):
            kill_one(pid)
        self.process.wait()


def inherited() -> dict[str, str]:
    """A proxy or a certificate of this machine's owner is none of it."""
    return {name: os.environ[name] for name in INHERITED if name in os.environ}


def kill_one(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def tree(pid: int) -> list[int]:
    """The process and its children, as they are now."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [pid, *(int(child) for child in children)]


def start(worker: Path, arguments: tuple[str, ...], environment: dict[str, str], log: Path | None) -> Watched:
    """Without a log nobody reads what the worker says, as when the driver that takes the lines is stuck."""
    command = [sys.executable, str(worker), *arguments]
    if log is None:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert process.stdout
        fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, SMALL_PIPE)
        return Watched(process)
    with log.open("ab") as output:
        return Watched(subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT))
