"""Freshness: seconds from the event to the visible object, with a worker that waits for it."""

import random
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import quantiles

from measure import Running
from movers import SOURCE
from rows import Row
from runs import TIMEOUT, clear, copied, set_latency, wait_for, warm_worker
from small import COPY_MS, HEAD_MS
from standin import Standin

POLL_SECONDS = 0.002


def measure(standin: Standin, directory: Path, workers: list[str], events: int) -> Iterator[Row]:
    """One event at a time, at random moments of the worker's long poll."""
    for worker in workers:
        place = clear(standin, directory)
        set_latency(standin, HEAD_MS, COPY_MS)
        pauses = random.Random(1)
        with warm_worker(standin, place, worker) as running:
            times = []
            for number in range(1, events + 1):
                time.sleep(pauses.uniform(0.02, 0.2))
                times.append(1000 * seconds_until_visible(standin, running, number))
        yield Row("freshness", f"{events} events", worker, percentiles(times))


def seconds_until_visible(standin: Standin, running: Running, number: int) -> float:
    begun = time.monotonic()
    standin.put(SOURCE, f"directory/{number}")
    if not wait_for(lambda: copied(standin) >= number, running, TIMEOUT, POLL_SECONDS):
        raise RuntimeError(f"event {number} had no effect: {running.last_words()}")
    return time.monotonic() - begun


def percentiles(times: list[float]) -> dict[str, float]:
    cuts = quantiles(times, n=100, method="inclusive")
    return {"p50 ms": cuts[49], "p99 ms": cuts[98], "longest ms": max(times)}
