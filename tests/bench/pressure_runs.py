"""One scenario of pressure.py, from empty buckets to its figures."""

import json
import math
import random
import signal
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import Any

from movers import CREDENTIALS, MIRROR, QUEUE, SOURCE, WORKER_SETTINGS
from processes import Watched, inherited, kill_one, start
from standin import Standin

DEAD_LETTERS = "sync-dlq"
LOOK_SECONDS = 0.05
RESTART_SECONDS = 1.0  # at least between two starts
END_SECONDS = 130  # Fargate kills after 120
AT_ONCE = 1000  # keys in one call of the control API
RECORDS = 1000  # keys in one message
TOLD_CODES = {"NoSuchKey", "PreconditionFailed"}  # of answers that say what is there


@dataclass(frozen=True)
class Load:
    """Changes of the source in one folder, its group. `kind`: put; delete, of objects that both buckets have; records,
    objects that messages of 1,000 records name."""

    group: str
    count: int
    kind: str = "put"
    size: int = 1024
    keys: int = 0  # that the changes are spread over; 0: each has a key of its own
    per_second: float = 0.0  # 0: all before the worker starts
    start: float = 0.0  # seconds after the worker's start, for those that have a rate
    name: str = ""  # put before the number of the key

    def key(self, number: int) -> str:
        return f"{self.group}/{self.name}{number % self.keys if self.keys else number}"


Step = tuple[float, str, dict[str, Any]]  # seconds after the start, a verb of the stand-in or of STEPS, its arguments


@dataclass(frozen=True)
class Scenario:
    """What is done to a worker. `goal`: the group of which the mirror has to show every change; "queue": all groups,
    and the queue is empty; "end": the worker has ended. `dead`: this many dead letters are awaited after that. Times
    are in seconds, latencies in milliseconds."""

    name: str
    about: str
    loads: tuple[Load, ...]
    faults: tuple[dict[str, Any], ...] = ()
    steps: tuple[Step, ...] = ()
    settings: dict[str, str] = field(default_factory=dict)
    goal: str = "queue"
    dead: int = 0
    lag: str = ""  # the group whose lag is shown; all of them
    limit: float = 60.0
    latency: dict[str, float] = field(default_factory=lambda: {"HeadObject": 8.0, "CopyObject": 25.0})
    milliseconds_per_gib: float = 0.0  # of a CopyObject
    queue: dict[str, Any] = field(default_factory=dict)
    tokens: dict[str, float] = field(default_factory=dict)
    taken: float = 0.0  # for so long a worker that died keeps all that is on the queue at the start
    arguments: tuple[str, ...] = ()
    is_read: bool = True  # what the worker says
    counted: tuple[str, ...] = ()  # operations whose number is shown


Figures = dict[str, float | str]


def scaled(count: int, scale: float) -> int:
    return max(1, round(count * scale))


# --- Before the worker starts -----------------------------------------------------------------------------------------


def prepare(standin: Standin, scenario: Scenario, scale: float) -> str:
    """Buckets, queue, faults and all that has no rate. Returns the URL of the queue."""
    standin.reset()
    for bucket in (SOURCE, MIRROR):
        standin.create_bucket(bucket)
    settings = {"visibility_timeout": 7200, "max_receive_count": 3, "dead_letter_queue": DEAD_LETTERS}
    url = str(standin.create_queue(QUEUE, **settings | scenario.queue))
    for operation, milliseconds in scenario.latency.items():
        per_gib = scenario.milliseconds_per_gib if operation == "CopyObject" else 0.0
        standin.latency(operation, ms=milliseconds, ms_per_gib=per_gib)
    standin.tokens(**scenario.tokens)
    for load in scenario.loads:
        if load.kind == "delete":
            fill(standin, [SOURCE, MIRROR], [load.key(number) for number in range(scaled(load.count, scale))])
    standin.watch(SOURCE, MIRROR)
    messages = [
        body for load in scenario.loads if load.kind == "records" for body in record_bodies(standin, load, scale)
    ]
    standin.notify(SOURCE, QUEUE)
    send_backlog(standin, scenario, scale, messages)
    if scenario.taken:
        take_all(url, scenario.taken, sum(standin.queue(QUEUE).values()))
    for fault in scenario.faults:
        standin.fault(**{"times": 0, "kind": "error", **fault})
    return url


def fill(standin: Standin, buckets: list[str], keys: list[str]) -> None:
    for bucket in buckets:
        for first in range(0, len(keys), AT_ONCE):
            standin.put_many(bucket, keys[first : first + AT_ONCE])


def record_bodies(standin: Standin, load: Load, scale: float) -> list[str]:
    """Messages that name many objects, which have been in the source for long."""
    keys = [load.key(number) for number in range(scaled(load.count, scale))]
    fill(standin, [SOURCE], keys)
    records = [
        {"eventSource": "aws:s3", "eventName": "ObjectCreated:Put",
         "s3": {"bucket": {"name": SOURCE}, "object": {"key": key}}}
        for key in keys
    ]  # fmt: skip
    return [json.dumps({"Records": records[first : first + RECORDS]}) for first in range(0, len(keys), RECORDS)]


def send_backlog(standin: Standin, scenario: Scenario, scale: float, messages: list[str]) -> None:
    """In random order: SQS keeps none, and a worker must not depend on one."""
    backlog = [load for load in scenario.loads if not load.per_second and load.kind != "records"]
    calls = [change(load, number) for load in backlog for number in range(scaled(load.count, scale))]
    calls += [("send", [QUEUE, body], {}) for body in messages]
    random.Random(1).shuffle(calls)
    for first in range(0, len(calls), AT_ONCE):
        standin.together(calls[first : first + AT_ONCE])


def change(load: Load, number: int) -> tuple[str, list[Any], dict[str, Any]]:
    if load.kind == "delete":
        return "delete", [SOURCE, load.key(number)], {}
    return "put", [SOURCE, load.key(number), load.size], {}


def take_all(url: str, seconds: float, messages: int) -> None:
    """Receives every message and forgets it."""
    body = {"QueueUrl": url, "MaxNumberOfMessages": 10, "VisibilityTimeout": int(seconds), "WaitTimeSeconds": 0}
    headers = {"x-amz-target": "AmazonSQS.ReceiveMessage"}
    for _ in range(0, messages, 10):
        urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers)).close()


def environment(standin: Standin, url: str, scenario: Scenario, home: Path) -> dict[str, str]:
    keys = CREDENTIALS
    if scenario.tokens.get("key_seconds"):
        keys = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{standin.url}/_credentials"}
    places = {"AWS_ENDPOINT_URL": standin.url, "QUEUE_URL": url, "HOME": str(home)}
    waits = {"WAIT_TIME_SECONDS": "2", "EMPTY_POLLS_BEFORE_EXIT": "1000"}
    return inherited() | keys | WORKER_SETTINGS | places | waits | scenario.settings


# --- While it runs ----------------------------------------------------------------------------------------------------


@dataclass
class Run:
    """A scenario under way."""

    standin: Standin
    scenario: Scenario
    worker: Path
    environment: dict[str, str]
    log: Path
    scale: float
    begun: float = 0.0
    last_start: float = 0.0
    started: list[Watched] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    flows: list[Load] = field(default_factory=list)
    terminated: float = 0.0  # when SIGTERM was sent
    seconds_to_end: float = math.nan

    def begin(self) -> None:
        self.steps = list(self.scenario.steps)
        flows = [load for load in self.scenario.loads if load.per_second]
        self.flows = sorted(flows, key=lambda load: load.start)
        self.begun = time.monotonic()
        self.start_worker()

    def start_worker(self) -> None:
        log = self.log if self.scenario.is_read else None
        self.last_start = self.seconds()
        self.started.append(start(self.worker, self.scenario.arguments, self.environment, log))

    def play(self, load: Load) -> None:
        calls = [change(load, number) for number in range(scaled(load.count, self.scale))]
        self.standin.play(calls, load.per_second)

    @property
    def current(self) -> Watched:
        return self.started[-1]

    def seconds(self) -> float:
        return time.monotonic() - self.begun

    def go_on(self) -> None:
        """One look: what is due, and the worker."""
        while self.flows and self.flows[0].start <= self.seconds():
            self.play(self.flows.pop(0))
        if self.steps and self.steps[0][0] <= self.seconds():
            _, verb, arguments = self.steps.pop(0)
            STEPS[verb](self) if verb in STEPS else getattr(self.standin, verb)(**arguments)
        self.current.look()
        has_ended = not self.current.is_running() and not self.terminated and self.scenario.goal != "end"
        if has_ended and self.seconds() > self.last_start + RESTART_SECONDS:
            self.start_worker()  # as the starter does

    def go_on_until(self, is_reached: Callable[[], bool]) -> bool:
        """False if it was not reached in time, or cannot be: the queue is empty."""
        while not is_reached():
            if self.seconds() > self.scenario.limit * max(self.scale, 0.4) or self.is_hopeless():
                return is_reached()
            self.go_on()
            time.sleep(LOOK_SECONDS)
        return True

    def is_to_come(self) -> bool:
        return bool(self.steps or self.flows or self.standin.playing())

    def is_hopeless(self) -> bool:
        return self.scenario.goal != "end" and not self.is_to_come() and not any(self.standin.queue(QUEUE).values())

    def has_goal(self) -> bool:
        if self.scenario.goal == "end":
            return not self.current.is_running()
        behind = self.standin.behind()
        if self.is_to_come():
            return False
        if self.scenario.goal != "queue":
            return not behind.get(self.scenario.goal)
        return not any(behind.values()) and not any(self.standin.queue(QUEUE).values())

    def has_dead_letters(self) -> bool:
        return len(self.standin.messages(DEAD_LETTERS)) >= self.scenario.dead

    def terminate(self) -> None:
        self.terminated = self.terminated or time.monotonic()
        self.current.process.send_signal(signal.SIGTERM)

    def finish(self) -> None:
        """Ends the worker, if that has not been asked for yet with all faults gone."""
        if self.terminated:
            if self.current.is_running():
                self.seconds_to_end = math.inf
                self.current.kill()
            else:
                self.seconds_to_end = time.monotonic() - self.terminated
        else:
            self.standin.clear_faults()
            self.seconds_to_end = self.current.end(signal.SIGTERM, END_SECONDS)

    def kill_all(self) -> None:
        for watched in self.started:
            if watched.is_running():
                watched.kill()


def kill_a_child(run: Run) -> None:
    """As soon as there is one."""
    children = run.current.children()
    if children:
        kill_one(children[0])
    else:
        run.steps.insert(0, (run.seconds() + LOOK_SECONDS, "kill_a_child", {}))


STEPS = {"terminate": Run.terminate, "kill_a_child": kill_a_child}


def measure(standin: Standin, scenario: Scenario, worker: Path, directory: Path, scale: float = 1.0) -> Figures:
    """Runs the scenario until its goal is reached or its time is over. `scale`: of counts and of the time."""
    url = prepare(standin, scenario, scale)
    log = directory / f"{scenario.name}-{worker.parent.name}.log"
    log.unlink(missing_ok=True)
    run = Run(standin, scenario, worker, environment(standin, url, scenario, directory), log, scale)
    try:
        run.begin()
        seconds = run.seconds() if run.go_on_until(run.has_goal) else math.inf
        run.go_on_until(run.has_dead_letters)
        figures = figures_of(run, seconds)
        run.finish()
    finally:
        run.kill_all()
    return figures | ending(run)


# --- What came of it --------------------------------------------------------------------------------------------------


def figures_of(run: Run, seconds: float) -> Figures:
    scenario, standin = run.scenario, run.standin
    lags = standin.lags()
    group = scenario.lag or (scenario.goal if scenario.goal in lags else "")
    shown = [lag for name, found in lags.items() if group in ("", name) for lag in found["shown"]]
    waiting = [lag for name, found in lags.items() if group in ("", name) for lag in found["waiting"]]
    receives = {int(count): messages for count, messages in standin.receives(QUEUE).items()}
    stats = standin.stats()
    requests = stats["requests"]
    refused = sum(
        count for errors in stats["errors"].values() for code, count in errors.items() if code not in TOLD_CODES
    )
    return {
        "seconds": seconds,
        "shown": f"{len(shown)}/{len(shown) + len(waiting)}",
        "per second": len(shown) / min(seconds, run.seconds()),
        "refused": refused,
        "receives, most": max(receives, default=0),
        "extra receives": sum(max(count - 1, 0) * messages for count, messages in receives.items()),
        "sent anew": requests.get("SendMessage", 0),
        "dead": len(standin.messages(DEAD_LETTERS)),
        **percentiles(shown + waiting),
    } | {name: requests.get(name, 0) for name in scenario.counted}


def percentiles(lags: list[float]) -> dict[str, float]:
    """Of all changes; one that is not shown yet counts with the time that it has waited."""
    if len(lags) < 2:
        return {"lag p50": math.nan, "p90": math.nan, "p99": math.nan, "max": max(lags, default=math.nan)}
    cuts = quantiles(lags, n=100, method="inclusive")
    return {"lag p50": cuts[49], "p90": cuts[89], "p99": cuts[98], "max": max(lags)}


def ending(run: Run) -> Figures:
    """What is left when the worker has gone: `held` messages are visible only when their time is over."""
    left = run.standin.queue(QUEUE)
    return {
        "CPU s": sum(sum(watched.cpu.values()) for watched in run.started),
        "MiB": max(watched.mib for watched in run.started),
        "threads": max(watched.threads for watched in run.started),
        "starts": len(run.started),
        "s to end": run.seconds_to_end,
        "status": run.current.process.returncode,
        "held": left["in_flight"],
        "left": sum(left.values()),
    }
