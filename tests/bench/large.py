"""Large objects: seconds against the ideal, and whether small objects wait for large ones."""

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from movers import CONCURRENCY, GIB, MIRROR, PART_SIZE, PEER_MIRROR, SOURCE, WORKERS, Place
from rows import Row
from runs import TIMEOUT, clear, run_mover, run_peer, set_latency, wait_for, warm_worker
from standin import Standin

SMALL, LARGE = ".small", ".large"  # ends of keys
COPY_MS_PER_GIB = 2000.0


def measure(
    standin: Standin, directory: Path, movers: list[str], gibs: list[int], part_seconds: float
) -> Iterator[Row]:
    for gib in gibs:
        for mover in movers:
            yield measure_one(standin, directory, mover, gib, part_seconds)


def measure_one(standin: Standin, directory: Path, mover: str, gib: int, part_seconds: float) -> Row:
    place = clear(standin, directory)
    standin.latency("UploadPartCopy", ms=1000 * part_seconds)
    parts = -(-gib * GIB // PART_SIZE)
    ideal = -(-parts // CONCURRENCY) * part_seconds
    seconds, problem = (worker_seconds if mover in WORKERS else peer_seconds)(standin, place, mover, gib * GIB)
    case = f"{gib} GiB, {part_seconds:g} s a part"
    if problem:
        return Row("large", case, mover, note=problem)
    sent = standin.stats()["requests"].get("UploadPartCopy", 0)
    figures = {"seconds": seconds, "ideal seconds": ideal, "seconds / ideal": seconds / ideal, "parts": sent}
    return Row("large", case, mover, figures)


def worker_seconds(standin: Standin, place: Place, worker: str, size: int) -> tuple[float, str]:
    """From the event to the object, by a worker that was waiting for it."""
    with warm_worker(standin, place, worker) as running:
        begun = time.monotonic()
        standin.put(SOURCE, "large", size)
        if not wait_for(lambda: is_completed(standin), running, TIMEOUT):
            return 0, f"cannot: {running.last_words()}"
        return time.monotonic() - begun, ""


def is_completed(standin: Standin) -> bool:
    stats = standin.stats()
    name = "CompleteMultipartUpload"
    return stats["requests"].get(name, 0) > stats["in_flight"].get(name, 0)


def peer_seconds(standin: Standin, place: Place, peer: str, size: int) -> tuple[float, str]:
    standin.put(SOURCE, "large", size)
    seconds, _, problem = run_peer(place, peer, is_in_parts=True)
    return seconds, problem


def measure_mixed(standin: Standin, directory: Path, movers: list[str], small: int, large: int) -> Iterator[Row]:
    """The small objects alone, and among large ones of 1 to 5 GiB: when was the last small one there?"""
    for mover in movers:
        alone = small_seconds(standin, directory, mover, small, 0)
        mixed = small_seconds(standin, directory, mover, small, large)
        case = f"{small} small among {large} of 1-5 GiB"
        figures = {
            "seconds alone": alone["small"],
            "seconds among large": mixed["small"],
            "among / alone": mixed["small"] / max(alone["small"], 0.001),
            "seconds for all": mixed["all"],
        }
        problem = alone["problem"] or mixed["problem"]
        yield Row("mixed", case, mover, {} if problem else figures, problem)


def small_seconds(standin: Standin, directory: Path, mover: str, small: int, large: int) -> dict[str, Any]:
    place = clear(standin, directory)
    put_mixed(standin, small, large)
    set_latency(standin, 8, 25)
    standin.latency("CopyObject", ms=25, ms_per_gib=COPY_MS_PER_GIB)
    begun = time.time()
    seconds, _, problem = run_mover(standin, place, mover, small + large)
    mirror = standin.objects(MIRROR if mover in WORKERS else PEER_MIRROR)
    # S3 gives times in whole seconds, here as well.
    last = max((held["modified"] for key, held in mirror.items() if key.endswith(SMALL)), default=begun)
    return {"small": min(last + 1 - begun, seconds), "all": seconds, "problem": problem}


def put_mixed(standin: Standin, small: int, large: int) -> None:
    """In random order, the same each time, of the events as of the keys."""
    source = random.Random(1)
    kinds = [(SMALL, 1024)] * small + [(LARGE, 0)] * large
    source.shuffle(kinds)
    for number, (kind, size) in enumerate(kinds):
        standin.put(SOURCE, f"directory/{number:05}{kind}", size or source.randint(GIB, 5 * GIB))
