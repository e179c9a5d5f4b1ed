"""One run of a mover on the stand-in, from an empty destination to a full one."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from measure import Running, Usage, finish, start, wait_for
from movers import (
    MIRROR,
    PEER_MIRROR,
    QUEUE,
    SOURCE,
    WORKERS,
    Place,
    base_environment,
    peer_command,
    worker_command,
    worker_environment,
)
from standin import Standin

TIMEOUT = 1800
DRAIN_POLL_SECONDS = 0.05  # each look at the queue costs the stand-in CPU time


def clear(standin: Standin, directory: Path, **queue: Any) -> Place:
    """Empty buckets and an empty queue that hears of the source, with other settings of the stand-in's Queue."""
    standin.reset()
    for bucket in (SOURCE, MIRROR, PEER_MIRROR):
        standin.create_bucket(bucket)
    settings = {"visibility_timeout": 7200, "max_receive_count": 3, "dead_letter_queue": "sync-dlq"} | queue
    queue_url = standin.create_queue(QUEUE, **settings)
    standin.notify(SOURCE, QUEUE)
    return Place(standin.url, standin.url, queue_url, directory)


def set_latency(standin: Standin, head_ms: float, copy_ms: float) -> None:
    standin.latency("HeadObject", ms=head_ms)
    standin.latency("CopyObject", ms=copy_ms)


def copied(standin: Standin) -> int:
    """Objects that CopyObject has made."""
    stats = standin.stats()
    asked, waiting = (stats[name].get("CopyObject", 0) for name in ("requests", "in_flight"))
    return asked - waiting - sum(stats["errors"].get("CopyObject", {}).values())


def requests(standin: Standin) -> int:
    return sum(standin.stats()["requests"].values())


def is_receiving(standin: Standin) -> bool:
    return standin.stats()["requests"].get("ReceiveMessage", 0) > 0


def start_worker(place: Place, worker: str, **settings: str) -> Running:
    environment = worker_environment(place, worker, **settings)
    return start(worker_command(), environment, place.directory / f"{worker}.log")


@contextmanager
def warm_worker(standin: Standin, place: Place, worker: str) -> Iterator[Running]:
    """A worker that waits for messages, stopped at the end."""
    running = start_worker(place, worker, WAIT_TIME_SECONDS="20", EMPTY_POLLS_BEFORE_EXIT="1000")
    try:
        if not wait_for(lambda: is_receiving(standin), running, TIMEOUT):
            raise RuntimeError(f"the worker did not start: {running.last_words()}")
        yield running
    finally:
        running.process.terminate()
        finish(running, running.seconds() + 30)


def run_worker(standin: Standin, place: Place, worker: str, objects: int) -> tuple[float, Usage, str]:
    """Seconds from the start of the process until all is copied and every message is deleted; what it used until it
    ended; what it said last if it did not copy all."""
    running = start_worker(place, worker)
    is_done = wait_for(lambda: copied(standin) >= objects, running, TIMEOUT, DRAIN_POLL_SECONDS)
    is_done = is_done and wait_for(lambda: not any(standin.queue(QUEUE).values()), running, TIMEOUT, DRAIN_POLL_SECONDS)
    seconds = running.seconds()
    usage = finish(running, TIMEOUT)
    return seconds, usage, "" if is_done and usage.status == 0 else failure(running, usage)


def run_peer(place: Place, peer: str, is_in_parts: bool = False) -> tuple[float, Usage, str]:
    """As run_worker; the seconds are those until the process ended."""
    command = peer_command(peer, place, is_in_parts)
    running = start(command, base_environment(place), place.directory / f"{peer}.log")
    usage = finish(running, TIMEOUT)
    return usage.seconds, usage, failure(running, usage) if usage.status else ""


def run_mover(standin: Standin, place: Place, mover: str, objects: int) -> tuple[float, Usage, str]:
    if mover in WORKERS:
        return run_worker(standin, place, mover, objects)
    return run_peer(place, mover)


def failure(running: Running, usage: Usage) -> str:
    return f"cannot: exit status {usage.status}: {running.last_words()[:150]}"
