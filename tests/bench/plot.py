"""The plot of soak.py, which draws it at its end if matplotlib is there.

.cache/bench/venv/bin/python tests/bench/plot.py .cache/bench/soak/soak.csv
"""

import sys
from csv import DictReader
from pathlib import Path

# --- What soak.py saw: memory and threads of each process, what waits, and when which fault was there -----------------

PANELS = {"worker": "MiB of each process", "threads": "threads of each process", "": "number"}  # by how names begin
# what -> its colour and its label
SOAK_LINES = {
    "worker 1": ("#0072b2", "worker 1 lives through it all"),
    "worker 2": ("#d55e00", "worker 2 is killed and stopped"),
    "threads 1": ("#0072b2", "worker 1"),
    "threads 2": ("#d55e00", "worker 2"),
    "queue": ("#000000", "messages in the queue"),
    "behind": ("#009e73", "changes the destination does not show"),
}


def draw_soak(path: Path) -> Path:
    """The picture beside the table soak.csv."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with path.open() as file:
        seen = [(float(row["second"]) / 60, row["what"], row["name"], float(row["value"])) for row in DictReader(file)]
    figure, axes = pyplot.subplots(3, 1, figsize=(11, 9), sharex=True, layout="constrained", height_ratios=(4, 2, 3))
    panels = dict(zip(PANELS, axes, strict=True))
    for what, name in dict.fromkeys((what, name) for _, what, name, _ in seen if what in SOAK_LINES):
        axis = next(axis for begins, axis in panels.items() if what.startswith(begins))
        colour, label = SOAK_LINES[what]
        is_shown = label in axis.get_legend_handles_labels()[1]  # one entry for all processes of a worker
        points = [(minute, value) for minute, *line, value in seen if line == [what, name]]
        axis.plot(*zip(*points, strict=True), color=colour, linewidth=1, label=None if is_shown else label)
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
    figure.savefig(path.with_suffix(".png"), dpi=90)
    return path.with_suffix(".png")


if __name__ == "__main__":
    print(draw_soak(Path(sys.argv[1])))
