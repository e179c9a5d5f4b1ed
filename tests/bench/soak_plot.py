"""Draws what soak.py saw: memory and threads of each process, what waits, and when which fault was there.

.cache/bench/venv/bin/python tests/bench/soak_plot.py .cache/bench/soak/soak.csv
"""

import csv
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

COLOURS = {
    "worker 1": "#0072b2",
    "worker 2": "#d55e00",
    "threads 1": "#0072b2",
    "threads 2": "#d55e00",
    "queue": "#000000",
    "behind": "#009e73",
}
PANELS = {"worker": "MiB of each process", "threads": "threads of each process", "": "number"}  # by how names begin
LABELS = {
    "worker 1": "worker 1 lives through it all",
    "worker 2": "worker 2 is killed and stopped",
    "threads 1": "worker 1",
    "threads 2": "worker 2",
    "queue": "messages in the queue",
    "behind": "changes the destination does not show",
}

Lines = dict[str, list[tuple[float, float]]]


def read(path: Path) -> tuple[Lines, list[tuple[float, float, str]]]:
    """Name -> points (minute, value), and the faults: (minute, minutes, name)."""
    lines: Lines = defaultdict(list)
    faults = []
    with path.open() as file:
        for row in csv.DictReader(file):
            minute = float(row["second"]) / 60
            if row["what"] == "fault":
                faults.append((minute, float(row["value"]) / 60, row["name"]))
            else:
                lines[f"{row['what']}|{row['name']}"].append((minute, float(row["value"])))
    return lines, faults


def draw(path: Path) -> Path:
    """The picture beside the table."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    lines, faults = read(path)
    figure, axes = pyplot.subplots(3, 1, figsize=(11, 9), sharex=True, layout="constrained", height_ratios=(4, 2, 3))
    panels = dict(zip(PANELS, axes, strict=True))
    changes = lines.pop("changes|", [(0.0, 0.0)])[-1][1]
    for name, points in lines.items():
        what = name.partition("|")[0]
        draw_line(next(axis for begins, axis in panels.items() if what.startswith(begins)), what, points)
    for begins, axis in panels.items():
        for minute, minutes, _ in faults:
            axis.axvspan(minute, minute + max(minutes, 0.02), color="#999999", alpha=0.25, linewidth=0)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
        axis.set_ylabel(PANELS[begins])
        axis.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)
    axes[-1].set_xlabel(
        f"minutes, in which {changes:,.0f} changes are made; "
        f"grey: one of {len({name for _, _, name in faults})} faults beside those at all times"
    )
    picture = path.with_suffix(".png")
    figure.savefig(picture, dpi=90)
    return picture


def draw_line(axis: Any, what: str, points: list[tuple[float, float]]) -> None:
    """One entry in the legend for all processes of a worker."""
    shown = axis.get_legend_handles_labels()[1]
    label = LABELS[what] if LABELS[what] not in shown else None
    axis.plot(*zip(*points, strict=True), color=COLOURS[what], linewidth=1, label=label)


if __name__ == "__main__":
    print(draw(Path(sys.argv[1])))
