"""Two workers of two processes each, for many minutes of all faults at once; at the end both buckets must be equal.

    .venv/bin/python tests/bench/soak.py --worker worker.py --minutes 30

Changes come at --rate a second: small objects, deletes, hot keys, large ones in parts, and keys that are always
refused. Events come twice and late. A few requests of every kind fail at all times; one after the other, whole faults
come and go (soak_faults.py). One worker is killed or stopped again and again, the other lives through it all, for its
memory. At the end the faults stop and the queue runs empty. Printed are the keys that differ, and the dead letters
whose key did not deserve it: both have to be none. soak.csv is what was seen every two seconds, soak_plot.py draws it.
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

import soak_fit
import soak_plot
from movers import MIB, MIRROR, PROJECT, QUEUE, SOURCE, WORKER_SETTINGS
from processes import Watched, inherited, kill_one, start
from soak_faults import ALWAYS, EVENTS, REFUSED, Event
from standin import Standin, running_standin

DEAD_LETTERS = "sync-dlq"
LOOK_SECONDS = 2.0
QUIET_SECONDS = (0.4, 1.6)  # between two events, times --quiet
END_SECONDS = 130.0
HOT_KEYS, HOT_SHARE = 3, 0.4  # of the changes
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
    quiet: float = 5.0
    minutes_to_empty: float = 10.0
    changes: int = 0  # given to the stand-in
    made: int = 0  # small objects, each with a key of its own
    held: list[str] = field(default_factory=list)  # those that the source has
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
        print(f"{self.seconds():6.0f} s, {self.changes} changes: {event.name}", flush=True)
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
        """Changes are played a second ahead, and made up for when the stand-in was too busy."""
        is_due = self.is_changing and self.changes < self.rate * (self.seconds() + 1)
        if is_due and self.standin.playing() < 2 * self.rate:
            self.standin.play([self.change() for _ in range(self.rate)], self.rate)
            self.changes += self.rate
        time.sleep(seconds)
        if not self.rows or self.seconds() >= self.looked + LOOK_SECONDS:
            self.look()

    def change(self) -> tuple[str, list[Any], dict[str, Any]]:
        dice = self.chance.random()
        if dice < HOT_SHARE:
            return "put", [SOURCE, f"hot/{self.chance.randrange(HOT_KEYS)}"], {}
        if dice < HOT_SHARE + 0.005:
            return "put", [SOURCE, f"large/{self.chance.randrange(20)}", self.chance.randint(65, 320) * MIB], {}
        if dice < HOT_SHARE + 0.006:
            return "put", [SOURCE, f"{REFUSED}/{self.chance.randrange(10)}"], {}
        return self.small_change()

    def small_change(self) -> tuple[str, list[Any], dict[str, Any]]:
        """Mostly a new key or a deletion, of one of those that were made before."""
        dice, held = self.chance.random(), self.held
        if held:
            place = self.chance.randrange(len(held))
            if dice < 0.1:
                return "put", [SOURCE, held[place], self.chance.randint(0, 4096)], {}
            if dice < 0.3 or len(held) >= self.keys:
                held[place], held[-1] = held[-1], held[place]
                return "delete", [SOURCE, held.pop()], {}
        self.made += 1
        held.append(f"cold/{self.made}")
        return "put", [SOURCE, held[-1], self.chance.randint(0, 4096)], {}

    def look(self) -> None:
        self.looked = self.seconds()
        for number, watched in enumerate(self.workers):
            for pid, (mib, threads) in watched.look().items():
                self.rows.append((self.looked, f"worker {number + 1}", str(pid), mib))
                self.rows.append((self.looked, f"threads {number + 1}", str(pid), threads))
        self.rows.append((self.looked, "changes", "", self.changes - self.standin.playing()))
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
            quiet = self.seconds() + self.quiet * self.chance.uniform(*QUIET_SECONDS)
            while self.seconds() < quiet:
                self.pass_time(0.5)
        self.is_changing = False
        self.standin.clear_faults()
        self.standin.fault("S3", "error", times=0, key=f"^{REFUSED}/", status=403, code="AccessDenied")
        print(f"{self.seconds():6.0f} s: the faults are over", flush=True)
        end = self.seconds() + 60 * self.minutes_to_empty
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


def verdict(soak: Soak, is_empty: bool) -> list[str]:
    keys = dead_letters(soak.standin)
    undeserved = [key for key in keys if not key.startswith(REFUSED)]
    differing = unequal(soak.standin)
    return [
        f"changes {soak.changes}, with {soak.made} small objects, in {soak.seconds():.0f} s",
        f"queue {'empty' if is_empty else 'NOT EMPTY'} at the end",
        f"unequal {len(differing)} {differing[:10]}",
        f"dead letters {len(keys)}, undeserved {len(undeserved)} {Counter(undeserved).most_common(10)}",
        f"receives {soak.standin.receives(QUEUE)}",
        f"uploads left over {len(soak.standin.uploads(MIRROR))}",
        f"longest end after SIGTERM {soak.longest_end:.1f} s; {dict(soak.statuses)}",
    ]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--worker", type=Path, default=PROJECT / "worker.py")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=int, default=200, help="changes a second")
    parser.add_argument("--keys", type=int, default=3000, help="small objects at a time")
    parser.add_argument("--quiet", type=float, default=5.0, help="seconds between two faults, on average")
    parser.add_argument(
        "--minutes-to-empty", type=float, default=10.0, help="in which the queue has to run empty after the faults"
    )
    parser.add_argument(
        "--output", type=Path, default=PROJECT / ".cache/bench/soak", help="for table, picture and logs"
    )
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # through every finally: workers stop
    arguments.output.mkdir(parents=True, exist_ok=True)
    with running_standin() as standin:
        soak = Soak(
            standin,
            arguments.worker.resolve(),
            arguments.output,
            arguments.rate,
            arguments.keys,
            quiet=arguments.quiet,
            minutes_to_empty=arguments.minutes_to_empty,
        )
        try:
            soak.begin()
            is_empty = soak.run(60 * arguments.minutes)
            print("\n".join(verdict(soak, is_empty)), flush=True)
        finally:
            table = soak.write()
            for watched in soak.workers:
                watched.kill()
    print("\n".join(f"memory of worker 1, {line}" for line in soak_fit.fit(table)))
    try:
        print(f"drawn: {soak_plot.draw(table)}")
    except ImportError:
        print(f"no matplotlib here: draw {table} with soak_plot.py")


if __name__ == "__main__":
    main()
