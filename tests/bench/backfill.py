"""The lag of live events during a backfill, with the fair queues of SQS and without.

    .venv/bin/python tests/bench/backfill.py --objects 20000

A real worker on the stand-in, with the latencies of S3. `worker.py reconcile` puts a source on the queue that was there
before, and while the worker copies it, other keys are put evenly for a while. Printed is how long after its put each of
those was in the destination, and how long the backfill took.
"""

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "standin"))

from measure import finish, start, stop_all, wait_for
from movers import MIRROR, QUEUE, SOURCE, Place, worker_command, worker_environment
from runs import TIMEOUT, clear, failure, set_latency, start_worker
from small import COPY_MS, HEAD_MS
from standin import Standin, running_standin

WORKER = "crt"
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Plan:
    objects: int
    per_second: float  # live events
    live_seconds: float  # for so long, from the start of the worker on
    copy_ms: float = COPY_MS
    keys_at_once: int = 256


@dataclass(frozen=True)
class Result:
    lags: list[float]  # seconds, of each live event
    seconds: float  # from the start of the worker until the backfill was copied


def measure(standin: Standin, directory: Path, plan: Plan, is_fair: bool) -> Result:
    place = clear(standin, directory, is_fair=is_fair)
    standin.watch(SOURCE, MIRROR)
    put_on_queue(standin, place, plan.objects)
    set_latency(standin, HEAD_MS, plan.copy_ms)
    running = start_worker(place, WORKER, MAX_CONCURRENT_KEYS=str(plan.keys_at_once), LOG_LEVEL="WARNING")
    live = [("put", [SOURCE, f"live/{number}"], {}) for number in range(int(plan.per_second * plan.live_seconds))]
    standin.play(live, plan.per_second)
    seconds = []
    for is_done in (lambda: not standin.behind()["old"], lambda: not (standin.playing() or standin.behind()["live"])):
        if not wait_for(is_done, running, TIMEOUT, POLL_SECONDS):
            raise RuntimeError(f"the worker did not copy all: {running.last_words()}")
        seconds.append(running.seconds())
    usage = finish(running, TIMEOUT)
    if usage.status:
        raise RuntimeError(failure(running, usage))
    return Result(standin.lags()["live"]["shown"], seconds[0])


def put_on_queue(standin: Standin, place: Place, objects: int) -> None:
    """By `reconcile`, as the events of these objects went nowhere."""
    standin.configure_bucket(SOURCE, notification=None)
    standin.put_many(SOURCE, [f"old/{number}" for number in range(objects)])
    standin.notify(SOURCE, QUEUE)
    environment = worker_environment(place, WORKER)
    running = start([*worker_command(), "reconcile"], environment, place.directory / "reconcile.log")
    usage = finish(running, TIMEOUT)
    if usage.status:
        raise RuntimeError(failure(running, usage))


def row(name: str, result: Result) -> str:
    lags = result.lags
    tenths = quantiles(lags, n=10, method="inclusive")
    figures = [f"{seconds:.2f} s" for seconds in (median(lags), tenths[8], max(lags))]
    return "| " + " | ".join([name, str(len(lags)), *figures, f"{result.seconds:.1f} s"]) + " |"


def parse_arguments() -> Plan:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--objects", type=int, default=20_000, help="of the backfill (%(default)s)")
    parser.add_argument("--per-second", type=float, default=10, help="live events (%(default)s)")
    parser.add_argument("--live-seconds", type=float, default=20, help="for so long they come (%(default)s)")
    parser.add_argument("--copy-ms", type=float, default=COPY_MS, help="that a copy takes (%(default)s)")
    parser.add_argument("--keys-at-once", type=int, default=256, help="MAX_CONCURRENT_KEYS (%(default)s)")
    return Plan(**vars(parser.parse_args()))


def main() -> None:
    plan = parse_arguments()
    print(plan)
    print("| queues | live events | lag: median | 90% | worst | backfill |\n| --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder, running_standin() as standin:
        for name, is_fair in (("fair", True), ("not fair", False)):
            print(row(name, measure(standin, Path(folder), plan, is_fair)), flush=True)


if __name__ == "__main__":
    try:
        main()
    finally:
        stop_all()
