"""Two workers of two processes each, for many minutes of all faults at once; at the end both buckets must be equal.

    .venv/bin/python tests/bench/soak.py --minutes 30
    .venv/bin/python tests/bench/soak.py --quick          each fault once, for a second or two

Changes come at --rate a second: small objects, deletes, hot keys, large ones in parts, and keys that are always
refused. Events come twice and late. A few requests of every kind fail at all times; one after the other, whole faults
come and go (EVENTS). One worker is killed or stopped again and again, the other lives through it all, for its memory.
At the end the faults stop and the queue runs empty. Printed are the keys that differ, and the dead letters whose key
did not deserve it: both have to be none, otherwise the status is 1. soak.json is what was seen every two seconds,
plot.py draws it.
"""

import argparse
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

from core import MIB, USUAL, Measured, Place, opened, parser
from plot import draw_soak
from world import DEAD_LETTERS, MIRROR, QUEUE, SOURCE

REFUSED = "refused"  # keys of this group are refused forever: their messages belong into the dead-letter queue
LOOK_SECONDS = 2.0
QUIET_SECONDS = (0.4, 1.6)  # between two events, times --quiet
END_SECONDS = 130.0
HOT_KEYS, HOT_SHARE = 3, 0.4  # of the changes
# For ten minutes botocore renews keys that are still valid: here every half a minute.
TOKENS = {"key_seconds": 630.0, "session_seconds": 150.0}
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

# With --quick: timeouts and pauses, how long a fault lasts, and how long it is quiet after it. So many faults in a
# minute can hit one message three times.
QUICK = {"RETRY_BASE_SECONDS": "1", "VISIBILITY_TIMEOUT": "8", "VISIBILITY_EXTEND_INTERVAL": "1", "COPY_TIMEOUT": "3"}
QUICK_FAULT_SECONDS, QUICK_QUIET_SECONDS, QUICK_RECEIVES = 1.5, 0.5, 5

Fault = dict[str, Any]
SLOW_DOWN = {"kind": "error", "status": 503, "code": "SlowDown"}
DENIED = {"kind": "error", "status": 403, "code": "AccessDenied"}
INTERNAL = {"kind": "error", "status": 500}
REFUSAL: Fault = {"operation": "S3", "key": f"^{REFUSED}/", **DENIED}

# Each with its probability; 0: for every request.
ALWAYS: tuple[Fault, ...] = (
    REFUSAL,
    {"operation": "S3", "probability": 0.01, **SLOW_DOWN},
    {"operation": "S3", "probability": 0.002, **INTERNAL},
    {"operation": "HeadObject,CopyObject,DeleteObject", "kind": "reset", "probability": 0.002},
    {"operation": "CopyObject,DeleteObject,UploadPartCopy", "kind": "lost", "probability": 0.004},
    {"operation": "CompleteMultipartUpload", "kind": "lost", "probability": 0.05},
    {"operation": "CopyObject,UploadPartCopy", "kind": "error_in_200", "code": "InternalError", "probability": 0.002},
    {"operation": "CopyObject", "kind": "empty_200", "probability": 0.002},
    {"operation": "CopyObject,HeadObject", "kind": "hang", "probability": 0.0002},
    {"operation": "SQS", "probability": 0.005, **INTERNAL},
    {"operation": "ReceiveMessage,DeleteMessageBatch", "kind": "lost", "probability": 0.002},
)
# name -> seconds that it lasts, its fault, a method of Soak or a verb of the stand-in with its argument
EVENTS: dict[str, tuple[float, Fault, tuple[str, ...]]] = {
    "SIGKILL": (0, {}, ("kill_worker",)),
    "SIGKILL of a child": (0, {}, ("kill_a_child",)),
    "SIGTERM": (0, {}, ("stop_worker",)),
    "sessions end": (0, {}, ("expire_tokens", "session")),
    "keys end": (0, {}, ("expire_tokens", "key")),
    "connections forgotten": (0, {}, ("freeze",)),
    "403 to everything": (12, {"operation": "S3", **DENIED}, ()),
    "503 to a prefix": (12, {"operation": "S3", "key": "^cold/1", **SLOW_DOWN}, ()),
    "500 requests a second": (12, {"operation": "S3", "rate": 500.0, **SLOW_DOWN}, ()),
    "copies do not answer": (8, {"operation": "CopyObject", "kind": "hang", "probability": 0.1}, ()),
    "CreateSession does not answer": (20, {"operation": "CreateSession", "kind": "hang"}, ()),
    "no credentials: 500": (20, {"operation": "GetCredentials", **INTERNAL}, ()),
    "no credentials: no answer": (20, {"operation": "GetCredentials", "kind": "hang"}, ()),
    "SQS does not answer": (8, {"operation": "SQS", "kind": "hang"}, ()),
    "SIGTERM, SQS does not answer": (8, {"operation": "SQS", "kind": "hang"}, ("stop_worker",)),
}

Change = tuple[str, list[Any], dict[str, Any]]


@dataclass
class Soak:
    """A soak under way. Only the second worker is killed and stopped."""

    place: Place
    rate: int
    keys: int
    quiet: float
    is_quick: bool
    changes: int = 0  # given to the stand-in
    made: int = 0  # small objects, each with a key of its own
    held: list[str] = field(default_factory=list)  # those that the source has
    rows: list[tuple[float, str, str, float]] = field(default_factory=list)  # second, what, name, value
    workers: list[Measured] = field(default_factory=list)
    begun: float = field(default_factory=time.monotonic)
    chance: random.Random = field(default_factory=lambda: random.Random(20261125))
    statuses: Counter[str] = field(default_factory=Counter)
    longest_end: float = 0.0
    is_changing: bool = True
    looked: float = 0.0

    def __post_init__(self) -> None:
        self.standin = self.place.standin
        self.receives = QUICK_RECEIVES if self.is_quick else 3
        self.settings = SETTINGS | (QUICK if self.is_quick else {}) | {"MAX_RECEIVES": str(self.receives)}

    def seconds(self) -> float:
        return time.monotonic() - self.begun

    # Workers

    def begin(self) -> None:
        queue = {"visibility_timeout": int(self.settings["VISIBILITY_TIMEOUT"]), "max_receive_count": self.receives}
        self.place.clear(USUAL | {"UploadPartCopy": 300.0}, **queue)
        self.standin.tokens(**TOKENS)
        self.standin.watch(SOURCE, MIRROR)
        self.standin.notify(SOURCE, QUEUE, duplicate=0.1, max_delay=2.0)
        self.plant()
        self.workers = [self.start_worker(number, "wb") for number in (1, 2)]

    def start_worker(self, number: int, mode: str = "ab") -> Measured:
        keys = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{self.standin.url}/_credentials"}
        return self.place.start(log=f"worker-{number}", mode=mode, **self.settings | keys)

    def restart_ended(self) -> None:
        for place, measured in enumerate(self.workers):
            if measured.has_ended():
                self.statuses[f"worker {place + 1} ended with status {measured.status()}"] += 1
                self.workers[place] = self.start_worker(place + 1)

    def kill_worker(self) -> None:
        self.workers[1].kill()

    def stop_worker(self) -> None:
        """Its end is waited for meanwhile: changes are played, faults stay."""
        stopped, begun = self.workers[1], time.monotonic()
        stopped.signal(signal.SIGTERM)
        while not stopped.has_ended() and time.monotonic() < begun + END_SECONDS:
            self.pass_time(0.5)
        self.longest_end = max(self.longest_end, time.monotonic() - begun)
        if not stopped.has_ended():
            self.statuses["killed, it did not end"] += 1
            stopped.kill()

    def kill_a_child(self) -> None:
        self.workers[1].kill_a_child()

    # Faults

    def plant(self) -> None:
        for fault in ALWAYS:
            self.standin.fault(**{"times": 0, "seconds": 60.0, "seed": self.chance.random(), **fault})

    def happen(self, name: str) -> None:
        seconds, fault, action = EVENTS[name]
        seconds = min(seconds, QUICK_FAULT_SECONDS) if self.is_quick else seconds
        print(f"{self.seconds():6.0f} s, {self.changes} changes: {name}", flush=True)
        begun = self.seconds()
        self.standin.clear_faults()
        if fault:
            self.standin.fault(**{"times": 0, "until": seconds, **fault})
        self.plant()
        for verb in action[:1]:
            getattr(self if hasattr(self, verb) else self.standin, verb)(*action[1:])
        self.pass_until(begun + seconds)
        self.standin.clear_faults()
        self.plant()
        self.rows.append((begun, "fault", name, self.seconds() - begun))

    # Time passes

    def pass_until(self, second: float) -> None:
        while self.seconds() < second:
            self.pass_time(0.5)

    def pass_time(self, seconds: float) -> None:
        """Changes are played a second ahead, and made up for when the stand-in was too busy."""
        is_due = self.is_changing and self.changes < self.rate * (self.seconds() + 1)
        if is_due and self.standin.playing() < 2 * self.rate:
            self.standin.play([self.change() for _ in range(self.rate)], self.rate)
            self.changes += self.rate
        time.sleep(seconds)
        if not self.rows or self.seconds() >= self.looked + LOOK_SECONDS:
            self.look()

    def change(self) -> Change:
        dice = self.chance.random()
        if dice < HOT_SHARE:
            return "put", [SOURCE, f"hot/{self.chance.randrange(HOT_KEYS)}"], {}
        if dice < HOT_SHARE + 0.005:
            return "put", [SOURCE, f"large/{self.chance.randrange(20)}", self.chance.randint(65, 320) * MIB], {}
        if dice < HOT_SHARE + 0.006:
            return "put", [SOURCE, f"{REFUSED}/{self.chance.randrange(10)}"], {}
        return self.small_change()

    def small_change(self) -> Change:
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
        now = self.looked = self.seconds()
        for number, measured in enumerate(self.workers, 1):
            for pid, (mib, threads) in measured.look().items():
                self.rows.append((now, f"worker {number}", str(pid), mib))
                self.rows.append((now, f"threads {number}", str(pid), threads))
        self.rows.append((now, "changes", "", self.changes - self.standin.playing()))
        self.rows.append((now, "queue", "", sum(self.standin.queue(QUEUE).values())))
        self.rows.append((now, "behind", "", sum(n for group, n in self.standin.behind().items() if group != REFUSED)))
        self.restart_ended()

    def run(self, seconds: float, seconds_to_empty: float) -> bool:
        """For so long, and until each fault has come equally often. True when the queue ran empty after the faults."""
        deck: list[str] = []
        while deck or not self.rows or self.seconds() < seconds:
            deck = deck or self.chance.sample(list(EVENTS), len(EVENTS))
            self.happen(deck.pop())
            self.pass_until(self.seconds() + self.quiet * self.chance.uniform(*QUIET_SECONDS))
        self.is_changing = False
        self.standin.clear_faults()
        self.standin.fault(**{"times": 0, **REFUSAL})
        print(f"{self.seconds():6.0f} s: the faults are over", flush=True)
        end = self.seconds() + seconds_to_empty
        while self.seconds() < end and (self.standin.playing() or not self.place.world.is_empty()):
            self.pass_time(0.5)
        return self.seconds() < end

    def write(self) -> Path:
        path = self.place.directory / "soak.json"
        path.write_text(json.dumps(self.rows))
        return path

    # At the end

    def differing(self) -> list[str]:
        """Keys that differ, but for those that are refused."""
        sides = [
            {key: found["content"] for key, found in self.standin.objects(bucket).items() if not is_refused(key)}
            for bucket in (SOURCE, MIRROR)
        ]
        return sorted(key for key in sides[0].keys() | sides[1].keys() if sides[0].get(key) != sides[1].get(key))

    def dead_letters(self) -> list[str]:
        """The key of each."""
        keys = []
        for message in self.standin.messages(DEAD_LETTERS):
            records = json.loads(message["body"])["Records"]
            keys += [unquote_plus(record["s3"]["object"]["key"]) for record in records]
        return keys


def is_refused(key: str) -> bool:
    return key.startswith(f"{REFUSED}/")


def run(place: Place, arguments: argparse.Namespace) -> bool:
    """Whether all is as it has to be."""
    soak = Soak(place, arguments.rate, arguments.keys, arguments.quiet, arguments.quick)
    try:
        soak.begin()
        is_empty = soak.run(60 * arguments.minutes, 60 * arguments.minutes_to_empty)
        dead, differing = soak.dead_letters(), soak.differing()
        undeserved = [key for key in dead if not is_refused(key)]
        print(
            f"changes {soak.changes}, with {soak.made} small objects, in {soak.seconds():.0f} s",
            f"queue {'empty' if is_empty else 'NOT EMPTY'} at the end",
            f"unequal {len(differing)} {differing[:10]}",
            f"dead letters {len(dead)}, undeserved {len(undeserved)} {Counter(undeserved).most_common(10)}",
            f"uploads left over {len(soak.standin.uploads(MIRROR))}",
            f"longest end after SIGTERM {soak.longest_end:.1f} s; {dict(soak.statuses)}",
            sep="\n",
            flush=True,
        )
    finally:
        table = soak.write()
    try:
        print(f"drawn: {draw_soak(table)}")
    except ImportError:
        print(f"no matplotlib here: draw {table} with plot.py")
    return is_empty and not differing and not undeserved


def main() -> int:
    options = parser(__doc__, "soak", ())
    options.add_argument("--minutes", type=float, default=30.0)
    options.add_argument("--quick", action="store_true", help="each fault once and for a moment, in a minute")
    options.add_argument("--rate", type=int, default=200, help="changes a second")
    options.add_argument("--keys", type=int, default=3000, help="small objects at a time")
    options.add_argument("--quiet", type=float, default=5.0, help="seconds between two faults, on average")
    options.add_argument("--minutes-to-empty", type=float, default=10.0, help="the queue has, after the faults")
    arguments = options.parse_args()
    if arguments.quick:
        arguments.minutes, arguments.quiet = 0.0, QUICK_QUIET_SECONDS
    with opened(arguments) as here:
        return int(not run(here, arguments))


if __name__ == "__main__":
    sys.exit(main())
