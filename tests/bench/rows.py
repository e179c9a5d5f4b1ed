"""What is measured, and the table of it: figures per case and mover, medians over repetitions, ratios."""

from dataclasses import dataclass, field
from statistics import median


@dataclass(frozen=True)
class Row:
    """One measurement. `figures` is empty where a mover cannot do the case, and `note` says why."""

    section: str
    case: str
    mover: str
    figures: dict[str, float] = field(default_factory=dict)
    note: str = ""
    repetition: int = 0


@dataclass(frozen=True)
class Ratio:
    """A further column: a figure divided by the same figure of another mover, in the same repetition of a case."""

    figure: str
    mover: str

    @property
    def title(self) -> str:
        return f"{self.figure} / {self.mover}"


def add_ratio(rows: list[Row], ratio: Ratio | None) -> list[Row]:
    if ratio is None:
        return rows
    reference = {
        (row.case, row.repetition): row.figures[ratio.figure]
        for row in rows
        if row.mover == ratio.mover and ratio.figure in row.figures
    }
    return [with_ratio(row, ratio, reference.get((row.case, row.repetition))) for row in rows]


def with_ratio(row: Row, ratio: Ratio, reference: float | None) -> Row:
    if not reference or ratio.figure not in row.figures:
        return row
    figures = row.figures | {ratio.title: row.figures[ratio.figure] / reference}
    return Row(row.section, row.case, row.mover, figures, row.note, row.repetition)


def medians(rows: list[Row]) -> list[tuple[Row, int]]:
    """One row for each case and mover, in the order of their first appearance, and how many measurements it stands
    for. A measurement that failed makes the row a failure: a median over the lucky ones would flatter."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.case, row.mover), []).append(row)
    return [(median_of(group), len(group)) for group in groups.values()]


def median_of(group: list[Row]) -> Row:
    first = next((row for row in group if not row.figures), group[0])
    names = first.figures.keys()
    figures = {name: median(row.figures[name] for row in group if name in row.figures) for name in names}
    return Row(first.section, first.case, first.mover, figures, first.note)


def table(title: str, rows: list[Row], ratio: Ratio | None, hidden: set[str]) -> str:
    """`hidden` are figures that are recorded but would mislead as numbers by themselves."""
    found = medians(add_ratio(rows, ratio))
    names = list(dict.fromkeys(name for row, _ in found for name in row.figures if name not in hidden))
    lines = [["case", "mover", "runs", *names]]
    for row, count in found:
        cells = [number(row.figures[name]) if name in row.figures else "-" for name in names]
        lines.append([row.case, row.mover, str(count), *cells])
    notes = [f"- {row.mover}, {row.case}: {row.note}\n" for row, _ in found if row.note]
    return f"## {title}\n\n{aligned(lines)}\n{''.join(['\n', *notes]) if notes else ''}"


def number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def aligned(lines: list[list[str]]) -> str:
    """A Markdown table, readable as it is."""
    widths = [max(3, *(len(cell) for cell in column)) for column in zip(*lines, strict=True)]
    lines = [lines[0], ["-" * width for width in widths], *lines[1:]]
    padded = [" | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    return "\n".join(f"| {line} |" for line in padded)
