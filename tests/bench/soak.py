"""Two workers of two processes each, for many minutes of all faults at once; at the end both buckets must be equal.

    .venv/bin/python tests/bench/soak.py --worker worker.py --minutes 30

200 changes a second: small objects, deletes, one hot key, large ones in parts, and keys that are refused for ever.
Events come twice and late. A few requests of every kind fail at all times; one after the other whole faults come and
go (soak_faults.py). One worker is killed or stopped again and again, the other lives through it all, for its memory.
At the end the faults stop and the queue runs empty. Printed are the keys that differ, and the dead letters whose key
did not deserve it: both have to be none. soak.csv is what was seen every two seconds, soak_plot.py draws it.
"""

import argparse
import csv
import json
import random
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "standin"))  # the stand-in

import soak_plot
from movers import MIB, MIRROR, PROJECT, QUEUE, SOURCE, WORKER_SETTINGS
from processes import Watched, inherited, kill_one, start
from soak_faults import ALWAYS, EVENTS, REFUSED, Event
from standin import Standin, running_standin

DEAD_LETTERS = "sync-dlq"
LOOK_SECONDS = 2.0
QUIET_SECONDS = (3.0, 8.0)  # between two events
EMPTY_SECONDS = 600.0  # in which the queue has to run empty after the faults
END_SECONDS = 130.0
# For ten minutes botocore renews keys that are still valid: here every half a minute.
TOKENS = {"key_seconds": 630.0, "session_seconds": 150.0}
LATENCY = {"HeadObject": 8.0, "CopyObject": 25.0, "UploadPartCopy": 300.0}
QUEUE_SETTINGS = {"visibility_timeout": 60, "max_receive_count": 3, "dead_letter_queue": DEAD_LETTERS}
SETTINGS = {
    "PROCESSES": "2",
    "MULTIPART_THRESHOLD": str(64 * MIB),
    "RETRY_BASE_SECONDS": "5",
    "VISIBILITY_TIMEOUT": "60",
    "VISIBILITY_EXTEND_INTERVAL": "10",
    "COPY_TIMEOUT": "20",
    "WAIT_TIME_SECONDS": "2",
    "EMPTY_POLLS_BEFORE_EXIT": "1000",
}


@dataclass
class Soak:
    """A soak under way. Only the second worker is killed and stopped."""

    standin: Standin
    worker: Path
    directory: Path
    rate: int
    keys: int
    rows: list[tuple[float, str, str, float]] = field(default_factory=list)  # second, what, name, value
    workers: list[Watched] = field(default_factory=list)
    begun: float = field(default_factory=time.monotonic)
    chance: random.Random = field(default_factory=lambda: random.Random(20261125))
    statuses: Counter[str] = field(default_factory=Counter)
    longest_end: float = 0.0
    is_changing: bool = True
    looked: float = 0.0

    def seconds(self) -> float:
        return time.monotonic() - self.begun

    # Workers

    def begin(self) -> None:
        url = prepare(self.standin)
        self.plant()
        keys = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{self.standin.url}/_credentials"}
        places = {"AWS_ENDPOINT_URL": self.standin.url, "QUEUE_URL": url, "HOME": str(self.directory)}
        self.environment = inherited() | keys | WORKER_SETTINGS | places | SETTINGS
        self.workers = [self.start_worker(0), self.start_worker(1)]

    def start_worker(self, number: int) -> Watched:
        return start(self.worker, (), self.environment, self.directory / f"worker-{number + 1}.log")

    def restart_ended(self) -> None:
        for number, watched in enumerate(self.workers):
            if not watched.is_running():
                self.statuses[f"worker {number + 1} ended with status {watched.process.returncode}"] += 1
                self.workers[number] = self.start_worker(number)

    def kill_worker(self) -> None:
        self.workers[1].kill()

    def stop_worker(self) -> None:
        """Its end is waited for meanwhile: changes are played, faults stay."""
        stopped, begun = self.workers[1], time.monotonic()
        stopped.process.send_signal(signal.SIGTERM)
        while stopped.is_running() and time.monotonic() < begun + END_SECONDS:
            self.pass_time(0.5)
        self.longest_end = max(self.longest_end, time.monotonic() - begun)
        if stopped.is_running():
            self.statuses["killed, it did not end"] += 1
            stopped.kill()

    def kill_a_child(self) -> None:
        children = self.workers[1].children()
        if children:
            kill_one(children[0])

    # Faults

    def plant(self) -> None:
        for fault in ALWAYS:
            self.standin.fault(**{"times": 0, "seconds": 60.0, "seed": self.chance.random(), **fault})

    def end_sessions(self) -> None:
        self.standin.expire_tokens("session")

    def end_keys(self) -> None:
        self.standin.expire_tokens("key")

    def freeze(self) -> None:
        self.standin.freeze()

    def happen(self, event: Event) -> None:
        print(f"{self.seconds():6.0f} s: {event.name}", flush=True)
        begun = self.seconds()
        self.standin.clear_faults()
        for fault in event.faults:
            self.standin.fault(**{"times": 0, "until": event.seconds, **fault})
        self.plant()
        if event.action:
            getattr(self, event.action)()
        while self.seconds() < begun + event.seconds:
            self.pass_time(0.5)
        self.standin.clear_faults()
        self.plant()
        self.rows.append((begun, "fault", event.name, self.seconds() - begun))

    # Time passes

    def pass_time(self, seconds: float) -> None:
        """Changes are played a second ahead."""
        if self.is_changing and self.standin.playing() < self.rate:
            self.standin.play([self.change() for _ in range(self.rate)], self.rate)
        time.sleep(seconds)
        if not self.rows or self.seconds() >= self.looked + LOOK_SECONDS:
            self.look()

    def change(self) -> tuple[str, list[Any], dict[str, Any]]:
        dice = self.chance.random()
        if dice < 0.05:
            return "put", [SOURCE, "hot/key"], {}
        if dice < 0.055:
            return "put", [SOURCE, f"large/{self.chance.randrange(20)}", self.chance.randint(65, 320) * MIB], {}
        if dice < 0.056:
            return "put", [SOURCE, f"{REFUSED}/{self.chance.randrange(10)}"], {}
        key = f"cold/{self.chance.randrange(self.keys)}"
        if dice < 0.25:
            return "delete", [SOURCE, key], {}
        return "put", [SOURCE, key, self.chance.randint(0, 4096)], {}

    def look(self) -> None:
        self.looked = self.seconds()
        for number, watched in enumerate(self.workers):
            for pid, mib in watched.look().items():
                self.rows.append((self.looked, f"worker {number + 1}", str(pid), mib))
        self.rows.append((self.looked, "queue", "", sum(self.standin.queue(QUEUE).values())))
        self.rows.append((self.looked, "behind", "", self.behind()))
        self.restart_ended()

    def behind(self) -> int:
        return sum(count for group, count in self.standin.behind().items() if group != REFUSED)

    def run(self, seconds: float) -> bool:
        """True when the queue ran empty after the faults."""
        deck: list[Event] = []
        while self.seconds() < seconds:
            deck = deck or self.chance.sample(EVENTS, len(EVENTS))
            self.happen(deck.pop())
            quiet = self.seconds() + self.chance.uniform(*QUIET_SECONDS)
            while self.seconds() < quiet:
                self.pass_time(0.5)
        self.is_changing = False
        self.standin.clear_faults()
        self.standin.fault("S3", "error", times=0, key=f"^{REFUSED}/", status=403, code="AccessDenied")
        print(f"{self.seconds():6.0f} s: the faults are over", flush=True)
        end = self.seconds() + EMPTY_SECONDS
        while self.seconds() < end and (self.standin.playing() or any(self.standin.queue(QUEUE).values())):
            self.pass_time(0.5)
        return self.seconds() < end

    def write(self) -> Path:
        path = self.directory / "soak.csv"
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("second", "what", "name", "value"))
            writer.writerows((f"{second:.1f}", what, name, f"{value:.1f}") for second, what, name, value in self.rows)
        return path


def prepare(standin: Standin) -> str:
    """Returns the URL of the queue."""
    standin.reset()
    for bucket in (SOURCE, MIRROR):
        standin.create_bucket(bucket)
    url = str(standin.create_queue(QUEUE, **QUEUE_SETTINGS))
    for operation, milliseconds in LATENCY.items():
        standin.latency(operation, ms=milliseconds)
    standin.tokens(**TOKENS)
    standin.watch(SOURCE, MIRROR)
    standin.notify(SOURCE, QUEUE, duplicate=0.1, max_delay=2.0)
    return url


def unequal(standin: Standin) -> list[str]:
    """Keys that differ, but for those that are refused."""
    source, mirror = standin.objects(SOURCE), standin.objects(MIRROR)
    return [
        key
        for key in sorted(source.keys() | mirror.keys())
        if not key.startswith(REFUSED) and content_of(source.get(key)) != content_of(mirror.get(key))
    ]


def content_of(found: dict[str, Any] | None) -> Any:
    return found and found["content"]


def dead_letters(standin: Standin) -> list[str]:
    """The key of each."""
    bodies = [json.loads(message["body"]) for message in standin.messages(DEAD_LETTERS)]
    return [unquote_plus(record["s3"]["object"]["key"]) for body in bodies for record in body["Records"]]


def verdict(soak: Soak, is_empty: bool, changes: int) -> list[str]:
    keys = dead_letters(soak.standin)
    undeserved = [key for key in keys if not key.startswith(REFUSED)]
    differing = unequal(soak.standin)
    return [
        f"changes {changes} in {soak.seconds():.0f} s, queue {'empty' if is_empty else 'NOT EMPTY'} at the end",
        f"unequal {len(differing)} {differing[:10]}",
        f"dead letters {len(keys)}, undeserved {len(undeserved)} {Counter(undeserved).most_common(10)}",
        f"receives {soak.standin.receives(QUEUE)}",
        f"uploads left over {len(soak.standin.uploads(MIRROR))}",
        f"longest end after SIGTERM {soak.longest_end:.1f} s; {dict(soak.statuses)}",
        f"MiB of worker 1: {memory(soak.rows)}",
    ]


def memory(rows: list[tuple[float, str, str, float]]) -> str:
    """Of the processes that lived longest: at a tenth of their life, at the middle, at the end, at most."""
    series: dict[str, list[float]] = {}
    for _, what, name, value in rows:
        if what == "worker 1":
            series.setdefault(name, []).append(value)
    longest = sorted(series.values(), key=len, reverse=True)[:3]
    return "; ".join(
        f"{mib[len(mib) // 10]:.0f}, {mib[len(mib) // 2]:.0f}, {mib[-1]:.0f}, at most {max(mib):.0f}" for mib in longest
    )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--worker", type=Path, default=PROJECT / "worker.py")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=int, default=200, help="changes a second")
    parser.add_argument("--keys", type=int, default=3000, help="small objects that change")
    parser.add_argument(
        "--output", type=Path, default=PROJECT / ".cache/bench/soak", help="for table, picture and logs"
    )
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # through every finally: workers stop
    arguments.output.mkdir(parents=True, exist_ok=True)
    with running_standin() as standin:
        soak = Soak(standin, arguments.worker.resolve(), arguments.output, arguments.rate, arguments.keys)
        try:
            soak.begin()
            is_empty = soak.run(60 * arguments.minutes)
            changes = sum(len(found["shown"]) + len(found["waiting"]) for found in standin.lags().values())
            print("\n".join(verdict(soak, is_empty, changes)), flush=True)
        finally:
            table = soak.write()
            for watched in soak.workers:
                watched.kill()
    try:
        print(f"drawn: {soak_plot.draw(table)}")
    except ImportError:
        print(f"no matplotlib here: draw {table} with soak_plot.py")


if __name__ == "__main__":
    main()
