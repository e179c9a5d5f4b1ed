"""What a worker needs to start, what it holds in memory, and whether its cost for an object grows with the queue."""

from collections.abc import Iterator
from pathlib import Path

from measure import finish
from movers import GIB, SOURCE, Place
from rows import Row
from runs import TIMEOUT, clear, is_receiving, run_worker, set_latency, start_worker, wait_for
from small import COPY_MS, HEAD_MS
from standin import Standin

POLL_SECONDS = 0.002
TIB = 1024 * GIB


def measure_start(standin: Standin, directory: Path, workers: list[str]) -> Iterator[Row]:
    """From the start of the process to its first ReceiveMessage; with an empty queue, until it ends."""
    for worker in workers:
        place = clear(standin, directory)
        running = start_worker(place, worker)
        if not wait_for(lambda: is_receiving(standin), running, TIMEOUT, POLL_SECONDS):
            raise RuntimeError(f"the worker did not start: {running.last_words()}")
        seconds = running.seconds()
        usage = finish(running, TIMEOUT)
        figures = {"seconds to receive": seconds, "CPU seconds": usage.cpu_seconds, "MiB of a process": usage.peak_mib}
        yield Row("start", "empty queue", worker, figures)


def measure_memory(standin: Standin, directory: Path, workers: list[str], messages: int) -> Iterator[Row]:
    for worker in workers:
        for case, put in (
            (f"{messages} messages", lambda: put_small(standin, messages)),
            ("one object of 40 TiB, 10,000 parts", lambda: standin.put(SOURCE, "large", 40 * TIB)),
        ):
            place = clear(standin, directory)
            put()
            set_latency(standin, HEAD_MS, COPY_MS)
            standin.latency("UploadPartCopy", ms=100)
            yield memory_row(standin, place, worker, case)


def put_small(standin: Standin, objects: int) -> None:
    standin.put_many(SOURCE, [f"directory/{number}" for number in range(objects)])


def memory_row(standin: Standin, place: Place, worker: str, case: str) -> Row:
    seconds, usage, problem = run_worker(standin, place, worker, 0)
    figures = {"MiB of a process": usage.peak_mib, "seconds": seconds, "CPU seconds": usage.cpu_seconds}
    return Row("memory", case, worker, {} if problem else figures, problem)


def measure_cost(standin: Standin, directory: Path, workers: list[str], lengths: list[int]) -> Iterator[Row]:
    """CPU time for an object without that of the start, which an empty queue shows."""
    for worker in workers:
        (start,) = measure_start(standin, directory, [worker])
        for length in lengths:
            place = clear(standin, directory)
            put_small(standin, length)
            set_latency(standin, HEAD_MS, COPY_MS)
            _, usage, problem = run_worker(standin, place, worker, length)
            cost = 1000 * (usage.cpu_seconds - start.figures["CPU seconds"]) / length
            figures = {"CPU ms/object": cost, "MiB of a process": usage.peak_mib}
            yield Row("cost", f"{length} messages", worker, {} if problem else figures, problem)
