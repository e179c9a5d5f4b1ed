"""What all benches share: buckets and a queue in the stand-in, processes that are measured, tables of figures."""

import argparse
import json
import math
import os
import platform
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from statistics import median, quantiles
from typing import Any

sys.path.extend(str(Path(__file__).resolve().parents[1] / name) for name in ("standin", "worker", "docs", "scripts"))
sys.path.append(str(Path(__file__).resolve().parents[2]))

from cost import aligned
from standin import Standin, running_standin
from world import MIRROR, SOURCE, World

PROJECT = Path(__file__).resolve().parents[2]
WORKER = PROJECT / "worker.py"
REGION = "us-east-1"
PEER_MIRROR = "peer-mirror"  # a general purpose bucket
MIB, GIB = 1024**2, 1024**3
HEAD_MS, COPY_MS = 8.0, 25.0
USUAL = {"HeadObject": HEAD_MS, "CopyObject": COPY_MS}
TIMEOUT = 3 * 3600.0
POLL_SECONDS = 0.01

# Only these are passed on: a proxy or a certificate of this machine's owner is not what is measured.
INHERITED = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": REGION}
# The worker's own defaults, but for the end: it need not wait long for more.
SETTINGS = {
    "REGION": REGION,
    "SRC_BUCKET": SOURCE,
    "DST_BUCKET": MIRROR,
    "WAIT_TIME_SECONDS": "1",
    "EMPTY_POLLS_BEFORE_EXIT": "1",
}

# --- Processes --------------------------------------------------------------------------------------------------------

started: list["Measured"] = []


@dataclass(frozen=True)
class Usage:
    """What a process used until it ended. CPU seconds are those of all its threads and of the children it waited for;
    MiB is the largest resident size of the largest process among them."""

    seconds: float
    cpu_seconds: float
    peak_mib: float
    status: int


@dataclass
class Measured:
    """A program with its children."""

    process: subprocess.Popen[bytes]
    log: Path
    begun: float

    def seconds(self) -> float:
        return time.monotonic() - self.begun

    def last_words(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

    def has_ended(self) -> bool:
        """WNOWAIT leaves the ended process, with its usage, to finish()."""
        if self.process.returncode is not None:
            return True
        return bool(os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT))

    def wait_for(self, condition: Callable[[], bool], timeout: float = TIMEOUT, pause: float = POLL_SECONDS) -> None:
        """Raises RuntimeError if the process ends, or the time is over, before the condition is true."""
        while not condition():
            if self.has_ended() or self.seconds() > timeout:
                raise RuntimeError(f"it did not get so far: {self.last_words()}")
            time.sleep(pause)

    def signal(self, number: int) -> None:
        if self.process.returncode is None:
            os.kill(self.process.pid, number)

    def finish(self, timeout: float = TIMEOUT) -> Usage:
        """Waits for the end; kills what is not done in time, its status is then -9."""
        pid, end = 0, time.monotonic() + timeout
        while not pid:
            time.sleep(POLL_SECONDS)
            if time.monotonic() > end:
                self.kill_tree()
            pid, status, usage = os.wait4(self.process.pid, os.WNOHANG)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        cpu_seconds = usage.ru_utime + usage.ru_stime
        return Usage(self.seconds(), cpu_seconds, usage.ru_maxrss / 1024, self.process.returncode)

    def status(self) -> int:
        """Of one that has ended."""
        return self.finish().status if self.process.returncode is None else self.process.returncode

    def tree(self) -> list[int]:
        """The process and its children, as they are now."""
        pid = self.process.pid
        try:
            return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
        except (FileNotFoundError, ProcessLookupError):
            return []

    def kill_tree(self) -> None:
        for pid in reversed(self.tree()):
            kill(pid)

    def kill(self) -> None:
        if self.process.returncode is None:
            self.kill_tree()
            self.finish()

    def kill_a_child(self) -> None:
        """Unless there is none yet."""
        for child in self.tree()[1:2]:
            kill(child)

    def look(self) -> dict[int, tuple[float, int]]:
        """Process id -> MiB and threads now."""
        seen: dict[int, tuple[float, int]] = {}
        for pid in self.tree():
            try:
                status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
            except (FileNotFoundError, ProcessLookupError):
                continue
            if "VmRSS" in status:  # it has not ended
                seen[pid] = int(status["VmRSS"].split()[0]) / 1024, int(status["Threads"])
        return seen


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def start(command: list[str], environment: dict[str, str], log: Path, mode: str = "wb") -> Measured:
    begun = time.monotonic()
    with log.open(mode) as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    started.append(Measured(process, log, begun))
    return started[-1]


# --- The stand-in -----------------------------------------------------------------------------------------------------


@dataclass
class Place:
    """Two buckets and a queue in the stand-in, a folder for logs, and the worker.py that works there."""

    standin: Standin
    directory: Path
    worker: Path = WORKER

    def __post_init__(self) -> None:
        self.world = World(self.standin)

    def clear(self, latency: dict[str, Any], **queue: Any) -> None:
        """Empty buckets, and an empty queue that hears of the source, with other settings of the stand-in's Queue.
        `latency`: milliseconds, or settings of the stand-in's verb, by operation."""
        self.world.build(**{"visibility_timeout": 7200} | queue)
        self.standin.create_bucket(PEER_MIRROR)
        for operation, given in latency.items():
            self.standin.latency(operation, **given if isinstance(given, dict) else {"ms": given})

    def environment(self, **settings: str) -> dict[str, str]:
        urls = {"AWS_ENDPOINT_URL": self.standin.url, "QUEUE_URL": self.world.queue_url, "HOME": str(self.directory)}
        keys = CREDENTIALS if "AWS_CONTAINER_CREDENTIALS_FULL_URI" not in settings else {}
        return INHERITED | keys | SETTINGS | urls | settings

    def start(self, *arguments: str, log: str = "worker", mode: str = "wb", **settings: str) -> Measured:
        """The worker.py with these arguments."""
        command = [sys.executable, str(self.worker), *arguments]
        return start(command, self.environment(**settings), self.directory / f"{log}.log", mode)

    @contextmanager
    def warm(self, **settings: str) -> Iterator[Measured]:
        """A worker that waits for messages, stopped at the end."""
        running = self.start(**{"WAIT_TIME_SECONDS": "20", "EMPTY_POLLS_BEFORE_EXIT": "1000"} | settings)
        try:
            running.wait_for(lambda: self.requests()["ReceiveMessage"] > 0)
            yield running
        finally:
            running.signal(signal.SIGTERM)
            running.finish(30)

    def requests(self) -> Counter[str]:
        return Counter(self.standin.stats()["requests"])

    def done(self, operation: str) -> int:
        """How often it was asked for with success."""
        stats = self.standin.stats()
        asked, waiting = (stats[name].get(operation, 0) for name in ("requests", "in_flight"))
        return int(asked - waiting - sum(stats["errors"].get(operation, {}).values()))


@contextmanager
def opened(arguments: argparse.Namespace) -> Iterator[Place]:
    """No process stays, even if a bench is interrupted."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # through every finally
    arguments.output.mkdir(parents=True, exist_ok=True)
    try:
        with running_standin() as standin:
            yield Place(standin, arguments.output, arguments.worker.resolve())
    finally:
        for measured in started:
            measured.kill()


# --- Arguments and results --------------------------------------------------------------------------------------------

Row = dict[str, Any]  # heading -> a text or a figure; one that failed has a "note" and no figures


def parser(about: str | None, name: str, cases: Collection[str]) -> argparse.ArgumentParser:
    """`cases`: what --only chooses from, by default all of it."""
    made = argparse.ArgumentParser(description=(about or "").partition("\n\n")[0])
    choose(made, "--only", cases)
    made.add_argument("--worker", type=Path, default=WORKER, help="a worker.py (default: of this checkout)")
    made.add_argument("--output", type=Path, default=PROJECT / ".cache/bench" / name, help="for results and logs")
    return made


def choose(made: argparse.ArgumentParser, option: str, names: Collection[str]) -> None:
    if names:
        made.add_argument(option, nargs="+", choices=names, default=[*names], metavar="NAME", help=", ".join(names))


def machine() -> str:
    """Without what would name it."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    cpu = models[0].partition(": ")[2] if models else platform.machine()
    date = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    return f"{date}; {os.cpu_count()} x {cpu}, shared with the stand-in; load before {os.getloadavg()[0]:.1f}"


def medians(rows: list[Row]) -> list[Row]:
    """One row for each case and mover, in the order of their first appearance, and how many measurements it stands
    for. A measurement that failed makes the row a failure: a median over the lucky ones would flatter."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["case"], row["mover"]), []).append(row)
    found = []
    for (case, mover), group in groups.items():
        first = next((row for row in group if "note" in row), group[0])
        texts = {"case": case, "mover": mover, "runs": str(len(group))} | first
        figures = (name for name, value in first.items() if not isinstance(value, str))
        found.append(texts | {name: median(row[name] for row in group if name in row) for name in figures})
    return found


def percentiles(values: list[float]) -> tuple[float, float, float]:
    """The median, of a hundred the 90th and the 99th."""
    if len(values) < 2:
        return math.nan, math.nan, math.nan
    cuts = quantiles(values, n=100, method="inclusive")
    return cuts[49], cuts[89], cuts[98]


def cell(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "-" if math.isnan(value) else f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def table(rows: list[Row], hidden: Collection[str] = ()) -> str:
    """Markdown, with a column for each heading of any row. `hidden` would mislead as numbers by themselves."""
    names = [name for name in dict.fromkeys(chain(*rows)) if name not in hidden]
    lines = [[cell(row.get(name, math.nan)) for name in names] for row in rows]
    return aligned([names, *lines])


def measure_all(arguments: argparse.Namespace, rows: Iterable[Row], text: Callable[[list[Row]], str]) -> list[Row]:
    """Shows and saves each row once it is measured, because a run is long; in the end prints `text` of all of them."""
    measured: list[Row] = []
    for row in rows:
        measured.append(row)
        print(", ".join(f"{name} {cell(value)}" for name, value in row.items()), file=sys.stderr, flush=True)
        (arguments.output / "results.json").write_text(json.dumps(measured, indent=1) + "\n")
        (arguments.output / "tables.md").write_text(text(measured) + "\n")
    print(text(measured))
    return measured
