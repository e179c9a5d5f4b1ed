"""The plots of bench.py and soak.py, which draw them at their end if matplotlib is there.

.cache/bench/venv/bin/python tests/bench/plot.py .cache/bench/soak/soak.json
"""

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core import COPY_MS, HEAD_MS, Row

# --- Small objects: objects/s and CPU per object, against the length of the queue and against latency -----------------

LENGTH = 3000  # the queue that latency is varied on
INK = "of the text"
COLOURS = "#0072b2", INK, "#56b4e9", "#d55e00", "#009e73", "#999999"
FIGURES = ("objects/s", "CPU ms/object")

# What is drawn twice, the second time for pages that are dark: of the file's name, what differs from the defaults.
PARTS_OF_TEXT = ("axes.edgecolor", "axes.labelcolor", "text.color", "xtick.color", "ytick.color", "grid.color")
STYLES: dict[str, dict[str, str]] = {
    "": {},
    "-dark": dict.fromkeys(PARTS_OF_TEXT, "#f0f6fc") | dict.fromkeys(("figure.facecolor", "axes.facecolor"), "#0d1117"),
}

Point = tuple[float, Row]


def in_each_style(draw: Callable[[], Any], path: Path, dpi: int) -> None:
    """`draw` returns the figure."""
    import matplotlib

    matplotlib.use("Agg")
    for ending, style in STYLES.items():
        with matplotlib.rc_context(style):
            draw().savefig(path.with_stem(path.stem + ending), dpi=dpi)


def shown(colour: str) -> str:
    import matplotlib

    return str(matplotlib.rcParams["text.color"]) if colour == INK else colour


def draw(rows: list[Row], path: Path) -> bool:
    """False if there is no line to draw: one length and one latency."""
    found = [row for row in rows if "note" not in row]
    lengths = sorted({row["objects"] for row in found})
    if len(lengths) < 2 and len({row["copy_ms"] for row in found}) < 2:
        return False
    middle = LENGTH if LENGTH in lengths else lengths[len(lengths) // 2]
    usual = [row for row in found if (row["head_ms"], row["copy_ms"]) == (HEAD_MS, COPY_MS)]
    columns = {
        "messages in the queue": [(row["objects"], row) for row in usual],
        f"ms for a CopyObject ({middle:.0f} messages; HEAD a third of it)": [
            (row["copy_ms"], row) for row in found if row["objects"] == middle
        ],
    }
    try:
        in_each_style(functools.partial(draw_columns, columns), path, dpi=110)
    except ImportError:
        print("no matplotlib here: nothing is drawn")
        return False
    return True


def draw_columns(columns: dict[str, list[Point]]) -> Any:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(11, 8), layout="constrained")
    for column, (label, points) in enumerate(columns.items()):
        for line, name in enumerate(FIGURES):
            draw_panel(axes[line][column], label, name, points)
    axes[1][1].legend(loc="center", bbox_to_anchor=(0.5, 0.66))  # where the lines leave room
    figure.suptitle("Objects of 1 KiB, medians, on the stand-in for S3 and SQS")
    return figure


def draw_panel(axis: Any, label: str, name: str, points: list[Point]) -> None:
    for mover, colour in zip(dict.fromkeys(row["mover"] for _, row in points), COLOURS, strict=False):
        line = sorted((x, row[name]) for x, row in points if row["mover"] == mover)
        axis.plot(*zip(*line, strict=True), marker="o", color=shown(colour), label=mover)
    values = sorted({x for x, _ in points})
    axis.set_xscale("log")
    axis.set_xticks(values, [f"{value:,.0f}" for value in values])
    axis.minorticks_off()
    axis.set_ylim(bottom=0)
    axis.set_xlabel(label)
    axis.set_ylabel(name)
    axis.grid(alpha=0.3)


# --- What soak.py saw: memory and threads of each process, what waits, and when which fault was there -----------------

PANELS = {"worker": "MiB of each process", "threads": "threads of each process", "": "number"}  # by how names begin
# what -> its colour and its label
SOAK_LINES = {
    "worker 1": ("#0072b2", "worker 1 lives through it all"),
    "worker 2": ("#d55e00", "worker 2 is killed and stopped"),
    "threads 1": ("#0072b2", "worker 1"),
    "threads 2": ("#d55e00", "worker 2"),
    "queue": (INK, "messages in the queue"),
    "behind": ("#009e73", "changes the destination does not show"),
}


def draw_soak(path: Path) -> Path:
    """The picture beside soak.json; one for dark pages is beside it."""
    seen = [(second / 60, what, name, value) for second, what, name, value in json.loads(path.read_text())]
    in_each_style(functools.partial(draw_seen, seen), path.with_suffix(".png"), dpi=90)
    return path.with_suffix(".png")


def draw_seen(seen: list[tuple[float, str, str, float]]) -> Any:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(3, 1, figsize=(11, 9), sharex=True, layout="constrained", height_ratios=(4, 2, 3))
    panels = dict(zip(PANELS, axes, strict=True))
    for what, name in dict.fromkeys((what, name) for _, what, name, _ in seen if what in SOAK_LINES):
        axis = next(axis for begins, axis in panels.items() if what.startswith(begins))
        colour, label = SOAK_LINES[what]
        is_shown = label in axis.get_legend_handles_labels()[1]  # one entry for all processes of a worker
        points = [(minute, value) for minute, *line, value in seen if line == [what, name]]
        axis.plot(*zip(*points, strict=True), color=shown(colour), linewidth=1, label=None if is_shown else label)
    faults = [(minute, name, seconds / 60) for minute, what, name, seconds in seen if what == "fault"]
    for begins, axis in panels.items():
        for minute, _, minutes in faults:
            axis.axvspan(minute, minute + max(minutes, 0.02), color="#999999", alpha=0.25, linewidth=0)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
        axis.set_ylabel(PANELS[begins])
        axis.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)
    changes = max((value for _, what, _, value in seen if what == "changes"), default=0)
    kinds = len({name for _, name, _ in faults})
    axes[-1].set_xlabel(
        f"minutes, in which {changes:,.0f} changes are made; grey: one of {kinds} faults beside those at all times"
    )
    return figure


if __name__ == "__main__":
    print(draw_soak(Path(sys.argv[1])))
