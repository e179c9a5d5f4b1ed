"""The plot of small objects: objects/s and CPU per object, against the length of the queue and against latency."""

from pathlib import Path
from typing import Any

from movers import LABELS, MOVERS
from rows import Row, medians
from small import COPY_MS, HEAD_MS

LENGTH = 3000  # the queue that latency is varied on
COLOURS = dict(zip(MOVERS, ("#0072b2", "#000000", "#56b4e9", "#d55e00", "#009e73", "#999999"), strict=True))
FIGURES = ("objects/s", "CPU ms/object")

Point = tuple[float, Row]


def against_length(rows: list[Row]) -> list[Point]:
    usual = (HEAD_MS, COPY_MS)
    return [(row.figures["objects"], row) for row in rows if (row.figures["head_ms"], row.figures["copy_ms"]) == usual]


def against_latency(rows: list[Row], length: int) -> list[Point]:
    return [(row.figures["copy_ms"], row) for row in rows if row.figures["objects"] == length]


def draw(rows: list[Row], path: Path) -> bool:
    """False where there is no line to draw: one length and one latency."""
    found = [row for row, _ in medians([row for row in rows if row.section == "small"]) if row.figures]
    lengths = sorted({row.figures["objects"] for row in found})
    latencies = {row.figures["copy_ms"] for row in found}
    if len(lengths) < 2 and len(latencies) < 2:
        return False
    middle = LENGTH if LENGTH in lengths else lengths[len(lengths) // 2]
    columns = {
        "messages in the queue": against_length(found),
        f"ms for a CopyObject ({middle:.0f} messages; HEAD a third of it)": against_latency(found, middle),
    }
    draw_columns(columns, path)
    return True


def draw_columns(columns: dict[str, list[Point]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(11, 8), layout="constrained")
    for column, (label, points) in enumerate(columns.items()):
        for line, name in enumerate(FIGURES):
            draw_panel(axes[line][column], label, name, points)
    axes[1][1].legend(loc="center", bbox_to_anchor=(0.5, 0.66))  # where the lines leave room
    figure.suptitle("Objects of 1 KiB, medians, on the stand-in for S3 and SQS")
    figure.savefig(path, dpi=110)


def draw_panel(axis: Any, label: str, name: str, points: list[Point]) -> None:
    for mover in MOVERS:
        line = sorted((x, row.figures[name]) for x, row in points if row.mover == mover)
        if line:
            axis.plot(*zip(*line, strict=True), marker="o", color=COLOURS[mover], label=LABELS[mover])
    values = sorted({x for x, _ in points})
    axis.set_xscale("log")
    axis.set_xticks(values, [f"{value:,.0f}" for value in values])
    axis.minorticks_off()
    axis.set_ylim(bottom=0)
    axis.set_xlabel(label)
    axis.set_ylabel(name)
    axis.grid(alpha=0.3)
