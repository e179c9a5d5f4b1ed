"""What the memory of soak.py's first worker follows: the number of its threads, or the changes that it has seen.

.venv/bin/python tests/bench/soak_fit.py .cache/bench/soak/soak.csv
"""

import sys
from itertools import accumulate, pairwise
from pathlib import Path
from statistics import linear_regression, mean

from soak_plot import Lines, read

WARM_MINUTES = 2.0  # in which a process loads what it needs
MILLION = 1e6

# Each time that a process was looked at: MiB, the most threads so far (the pool keeps them), and millions of changes.
Columns = tuple[list[float], list[float], list[float]]


def left_after(values: list[float], of: list[float]) -> list[float]:
    """What a straight line through `of` does not explain."""
    if len(set(of)) < 2:
        return [value - mean(values) for value in values]
    slope, base = linear_regression(of, values)
    return [value - base - slope * one for value, one in zip(values, of, strict=True)]


def slope_of(values: list[float], of: list[float], at_constant: list[float]) -> float:
    """The least squares of both: how much a value grows with one while the other stays what it is."""
    pure = left_after(of, at_constant)
    return linear_regression(pure, left_after(values, at_constant)).slope if max(map(abs, pure)) > 1e-9 else 0.0


def columns_of(lines: Lines, process: str) -> Columns:
    changes = dict(lines["changes|"])
    threads = dict(lines[f"threads 1|{process}"])
    rows = [(mib, threads[minute], changes[minute] / MILLION) for minute, mib in lines[f"worker 1|{process}"]
            if minute > WARM_MINUTES and minute in threads and minute in changes]  # fmt: skip
    mib, number, million = zip(*rows, strict=True) if rows else ((), (), ())
    return list(mib), list(accumulate(number, max)), list(million)


def longest_stretch(columns: Columns) -> Columns:
    """The most changes in a row without a new thread."""
    mib, threads, millions = columns
    ends = [place for place in range(1, len(mib)) if threads[place] != threads[place - 1]]
    stretches = pairwise([0, *ends, len(mib)])
    begin, end = max(stretches, key=lambda stretch: millions[stretch[1] - 1] - millions[stretch[0]])
    return mib[begin:end], threads[begin:end], millions[begin:end]


def describe(columns: Columns) -> str:
    mib, threads, millions = columns
    quiet, (number, *_), played = longest_stretch(columns)
    half = len(quiet) // 2
    later = slope_of(quiet[half:], played[half:], [number] * (len(quiet) - half))
    return (
        f"{mib[0]:.0f} to {mib[-1]:.0f} MiB, {min(threads):.0f} to {max(threads):.0f} threads: "
        f"{slope_of(mib, threads, millions):.2f} MiB for each thread, "
        f"{slope_of(mib, millions, threads):+.2f} for a million changes; "
        f"{MILLION * (played[-1] - played[0]):,.0f} changes at {number:.0f} threads: "
        f"{quiet[0]:.1f} to {quiet[-1]:.1f} MiB, in the second half {later:+.2f} for a million"
    )


def fit(path: Path) -> list[str]:
    """A line for each process that lived long enough for it."""
    lines, _ = read(path)
    processes = [name.partition("|")[2] for name in lines if name.startswith("worker 1|")]
    columns = {process: columns_of(lines, process) for process in processes}
    return [f"process {process}: {describe(found)}" for process, found in columns.items() if len(found[0]) > 9]


if __name__ == "__main__":
    print("\n".join(fit(Path(sys.argv[1]))))
