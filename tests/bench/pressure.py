"""Puts workers under pressure, one scenario after the other on the stand-in, and prints what each suffered.

    .venv/bin/python tests/bench/pressure.py --only hot-key limit

A row is one scenario: seconds until its goal was reached (inf: not in time), how many changes the mirror shows,
receives used, dead letters, lags, what it cost, and seconds from SIGTERM to the end (inf: killed after 130).
pressure_scenarios.py says what is done in each. Nothing here passes or fails.
"""

import json
import math
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from core import DEAD_LETTERS, MIRROR, QUEUE, SOURCE, Measured, Place, Row, opened, parser, percentiles, save, table
from pressure_scenarios import SCENARIOS, Call, Scenario, Step

QUICK = 0.1  # of the counts
LOOK_SECONDS = 0.05
RESTART_SECONDS = 1.0  # at least between two starts
END_SECONDS = 130  # Fargate kills after 120
RECORDS = 1000  # keys in one message
TOLD_CODES = {"NoSuchKey", "PreconditionFailed"}  # of answers that say what is there
WAITS = {"WAIT_TIME_SECONDS": "2", "EMPTY_POLLS_BEFORE_EXIT": "1000"}

# --- Before the worker starts -----------------------------------------------------------------------------------------


def prepare(place: Place, scenario: Scenario, scale: float) -> None:
    """Buckets, queue, faults and all that has no rate."""
    standin = place.standin
    place.clear(scenario.latency)
    standin.configure_bucket(SOURCE, notification=None)
    standin.tokens(**scenario.tokens)
    for load in scenario.loads:
        if load.kind == "delete":
            for bucket in (SOURCE, MIRROR):
                standin.put_many(bucket, load.keys_of(scale))
    standin.watch(SOURCE, MIRROR)
    backlog: list[Call] = []
    for load in scenario.loads:
        if load.kind == "records":
            backlog += messages(place, load.keys_of(scale))
        elif not load.per_second:
            backlog += load.changes(scale)
    standin.notify(SOURCE, QUEUE)
    random.Random(1).shuffle(backlog)  # SQS keeps no order, and a worker must not depend on one
    standin.together(backlog)
    for fault in scenario.faults:
        standin.fault(**{"times": 0, "kind": "error", **fault})


def messages(place: Place, keys: list[str]) -> list[Call]:
    """Each names many objects, which have been in the source for long."""
    place.standin.put_many(SOURCE, keys)
    named = [{"bucket": {"name": SOURCE}, "object": {"key": key}} for key in keys]
    records = [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": s3} for s3 in named]
    bodies = [json.dumps({"Records": records[first : first + RECORDS]}) for first in range(0, len(keys), RECORDS)]
    return [("send", [QUEUE, body], {}) for body in bodies]


# --- While it runs ----------------------------------------------------------------------------------------------------


@dataclass
class Run:
    """A scenario under way."""

    place: Place
    name: str
    scale: float
    begun: float = field(default_factory=time.monotonic)
    last_start: float = 0.0
    started: list[Measured] = field(default_factory=list)
    terminated: float = 0.0  # when SIGTERM was sent

    def __post_init__(self) -> None:
        self.standin, self.scenario = self.place.standin, SCENARIOS[self.name]
        self.steps: list[Step] = list(self.scenario.steps)
        self.flows = sorted((load for load in self.scenario.loads if load.per_second), key=lambda load: load.start)
        self.start_worker("wb")

    def start_worker(self, mode: str = "ab") -> None:
        settings = WAITS | self.scenario.settings
        if self.scenario.tokens.get("key_seconds"):
            settings |= {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{self.standin.url}/_credentials"}
        log = self.name if self.scenario.is_read else None
        self.last_start = self.seconds()
        self.started.append(self.place.start(log=log, mode=mode, **settings))

    @property
    def current(self) -> Measured:
        return self.started[-1]

    def seconds(self) -> float:
        return time.monotonic() - self.begun

    def go_on(self) -> None:
        """One look: what is due, and the worker."""
        while self.flows and self.flows[0].start <= self.seconds():
            load = self.flows.pop(0)
            self.standin.play(load.changes(self.scale), load.per_second)
        if self.steps and self.steps[0][0] <= self.seconds():
            _, verb, arguments = self.steps.pop(0)
            STEPS[verb](self) if verb in STEPS else getattr(self.standin, verb)(**arguments)
        self.current.look()
        has_ended = self.current.has_ended() and not self.terminated and self.scenario.goal != "end"
        if has_ended and self.seconds() > self.last_start + RESTART_SECONDS:
            self.current.status()
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
        return self.scenario.goal != "end" and not self.is_to_come() and self.place.is_empty()

    def has_goal(self) -> bool:
        goal = self.scenario.goal
        if goal == "end":
            return self.current.has_ended()
        if self.is_to_come():
            return False
        behind = self.standin.behind()
        return not behind.get(goal) if goal != "queue" else not any(behind.values()) and self.place.is_empty()

    def has_dead_letters(self) -> bool:
        return len(self.standin.messages(DEAD_LETTERS)) >= self.scenario.dead

    def terminate(self) -> None:
        self.terminated = self.terminated or time.monotonic()
        self.current.signal(signal.SIGTERM)

    def kill_a_child(self) -> None:
        """As soon as there is one."""
        if not self.current.kill_a_child():
            self.steps.insert(0, (self.seconds() + LOOK_SECONDS, "kill_a_child", {}))

    def finish(self) -> float:
        """Ends the worker, if that has not been asked for yet with all faults gone; the seconds that it took."""
        if not self.terminated:
            self.standin.clear_faults()
            return self.current.end(signal.SIGTERM, END_SECONDS)
        if not self.current.has_ended():
            self.current.kill()
            return math.inf
        return time.monotonic() - self.terminated


STEPS = {"terminate": Run.terminate, "kill_a_child": Run.kill_a_child}


def measure(place: Place, name: str, scale: float) -> Row:
    """Runs the scenario until its goal is reached or its time is over. `scale`: of counts and of the time."""
    prepare(place, SCENARIOS[name], scale)
    run = Run(place, name, scale)
    try:
        seconds = run.seconds() if run.go_on_until(run.has_goal) else math.inf
        run.go_on_until(run.has_dead_letters)
        row = {"scenario": name} | suffered(run, seconds)
        row["s to end"] = run.finish()
    finally:
        for measured in run.started:
            measured.kill()
    left = place.standin.queue(QUEUE)
    return row | {
        "CPU s": sum(sum(measured.cpu.values()) for measured in run.started),
        "MiB": max(measured.mib for measured in run.started),
        "threads": max(measured.threads for measured in run.started),
        "starts": len(run.started),
        "status": run.current.status(),
        "held": left["in_flight"],  # visible only when their time is over
        "left": sum(left.values()),
    }


def suffered(run: Run, seconds: float) -> Row:
    """Lags are those of all changes; one that is not shown yet counts with the time that it has waited."""
    scenario, standin = run.scenario, run.standin
    lags, stats = standin.lags(), standin.stats()
    group = scenario.lag or (scenario.goal if scenario.goal in lags else "")
    counted = [found for name, found in lags.items() if group in ("", name)]
    shown = [lag for found in counted for lag in found["shown"]]
    waiting = [lag for found in counted for lag in found["waiting"]]
    receives = {int(count): found for count, found in standin.receives(QUEUE).items()}
    errors = [item for codes in stats["errors"].values() for item in codes.items()]
    return {
        "seconds": seconds,
        "shown": f"{len(shown)}/{len(shown) + len(waiting)}",
        "per second": len(shown) / min(seconds, run.seconds()),
        "refused": sum(count for code, count in errors if code not in TOLD_CODES),
        "receives, most": max(receives, default=0),
        "extra receives": sum(max(count - 1, 0) * found for count, found in receives.items()),
        "sent anew": stats["requests"].get("SendMessage", 0),
        "dead": len(standin.messages(DEAD_LETTERS)),
        **dict(zip(("lag p50", "p90", "p99"), percentiles(shown + waiting), strict=True)),
        "max": max(shown + waiting, default=math.nan),
        **{name: stats["requests"].get(name, 0) for name in scenario.counted},
    }


def main() -> None:
    options = parser(__doc__, "pressure", SCENARIOS)
    options.add_argument("--quick", action="store_true", help="a tenth of the changes: shows that all of it runs")
    options.add_argument("--list", action="store_true", help="say what the scenarios are")
    arguments = options.parse_args()
    if arguments.list:
        print("\n".join(f"{name:24} {scenario.about}" for name, scenario in SCENARIOS.items()))
        return
    rows: list[Row] = []
    with opened(arguments) as here:
        for name in arguments.only:
            rows.append(measure(here, name, QUICK if arguments.quick else 1.0))
            save(arguments.output, rows, table(rows))
    print(table(rows))


if __name__ == "__main__":
    main()
