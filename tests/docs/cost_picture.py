"""docs/modes.svg: what each mode costs a month by the number of files a day, by the formula of tests/docs/cost.py.

    python tests/docs/cost_picture.py

writes it. Both axes are logarithmic. The colours follow light and dark mode.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import cost
from architecture_picture import DOCS, LINE, svg, text

PICTURE = DOCS / "modes.svg"
FILES, LOAD = (10, 100, 1_000, 10_000, 100_000), "100KB;spread"
DOLLARS = (0.1, 1, 10, 100)
LEFT, RIGHT, TOP, BOTTOM = 70, 610, 50, 330  # of the axes
COLOURS = ("#0969da", "#bc4c00", "#1a7f37", "#8250df")


def across(files: float) -> float:
    return LEFT + (RIGHT - LEFT) * math.log(files / FILES[0]) / math.log(FILES[-1] / FILES[0])


def up(usd: float) -> float:
    return BOTTOM - (BOTTOM - TOP) * math.log(usd / DOLLARS[0]) / math.log(DOLLARS[-1] / DOLLARS[0])


def axes() -> Iterator[str]:
    for files in FILES:
        yield f'<path style="stroke: var(--edge); stroke-width: 1" d="M{across(files):g} {TOP}V{BOTTOM}"/>'
        yield from text((across(files), BOTTOM + 20), f"{files:,}", "middle")
    for usd in DOLLARS:
        yield f'<path style="stroke: var(--edge); stroke-width: 1" d="M{LEFT} {up(usd):g}H{RIGHT}"/>'
        yield from text((LEFT - 8, up(usd) + 4), f"{usd:g}", "end")
    yield from text((LEFT, TOP - 22), "USD a month / 每月 USD", "start")
    yield from text((RIGHT, BOTTOM + 42), "files a day, all day long / 每天的文件数，全天均匀到达", "end")


def curves() -> Iterator[str]:
    """The line of each mode, and below the axes its name."""
    cases = (f"{settings};{files};{LOAD}" for settings in cost.MODES.values() for files in FILES)
    found = iter(cost.estimates(*cases))
    for number, (mode, colour) in enumerate(zip(cost.MODES, COLOURS, strict=True)):
        points = (f"{across(files):.1f} {up(cost.before_free(next(found))):.1f}" for files in FILES)
        y = BOTTOM + 70 + number * LINE * 1.2
        yield f'<path style="stroke: {colour}; stroke-width: 2.5" d="M{"L".join(points)}"/>'
        yield f'<path style="stroke: {colour}; stroke-width: 5" d="M{LEFT} {y - 4:g}h20"/>'
        yield from text((LEFT + 28, y), mode.strip("`"), "start")


def draw() -> str:
    return svg("cost_picture.py", (640, 480), parts=[*axes(), *curves()])


if __name__ == "__main__":
    PICTURE.write_text(draw())
    print(PICTURE)
