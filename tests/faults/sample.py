"""The sample of faults: rows that a generator drew once, each with its place in the code, and what becomes of places.

The generator is tests/faults/draw.py of release 1.3.0: cosmic-ray for Python, a small table for Bash and jq, and lines
that are missing, in an order by hashes. Rows are never drawn again: one whose code is gone keeps its row, with the
reason. A row's place is the text of whole lines, and which one it is if the file has several of them, so that it does
not matter where in the file they stand.
"""

import difflib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
PROJECT = HERE.parents[1]
SAMPLE = HERE / "sample.jsonl"
SIMILAR = 0.75  # by difflib; lines that are less so are not taken for those of a row
CONTEXT = 6  # characters on each side of a change, by which it is found again in a line that has changed


class Row(NamedTuple):
    """`text` are lines of `file`, without the last newline, `nth` (from 1) of `of`; `fault` is what they become."""

    name: str  # its folder, and its number in there
    file: str
    text: str
    fault: str
    nth: int = 1
    of: int = 1
    struck: str = ""  # why it does not count: that it changes nothing, or that its code is gone

    @property
    def folder(self) -> str:
        return self.name.rpartition(" ")[0]


def rows(file: Path = SAMPLE) -> list[Row]:
    return [Row(**json.loads(line)) for line in file.read_text().splitlines()]


def write(kept: Iterable[Row], file: Path = SAMPLE) -> None:
    file.write_text("".join(f"{json.dumps(as_json(row), ensure_ascii=False)}\n" for row in kept))


def as_json(row: Row) -> dict[str, str | int]:
    """Without what is as usual."""
    return {name: value for name, value in row._asdict().items() if value != Row._field_defaults.get(name)}


def places(text: str, source: str) -> list[int]:
    """Where in the source these lines begin."""
    found, at = [], -1
    lined, wanted = f"\n{source}", f"\n{text}\n"
    while (at := lined.find(wanted, at + 1)) >= 0:
        found.append(at)
    return found


def planted(row: Row, source: str) -> str | None:
    """The source with the fault; None if the row has lost its place."""
    found = places(row.text, source)
    if len(found) != row.of:
        return None
    begin = found[row.nth - 1]
    instead = f"{row.fault}\n" if row.fault else ""
    return f"{source[:begin]}{instead}{source[begin + len(row.text) + 1 :]}"


def has_place(row: Row) -> bool:
    file = PROJECT / row.file
    return bool(row.struck) or (file.exists() and planted(row, file.read_text()) is not None)


def proposal(row: Row, sources: dict[str, str]) -> Row | None:
    """Where the lines of a row without a place are now: the same with another indentation, or else the most similar."""
    best, found = SIMILAR, None
    for file, source in sources.items():
        for text in blocks(source, row.text.count("\n") + 1):
            ratio = similarity(text, row.text) + 0.01 * (file == row.file)
            if ratio > best and (here := moved(row, file, text, source)):
                best, found = ratio, here
    return found


def blocks(source: str, size: int) -> Iterator[str]:
    lines = source.splitlines()
    return ("\n".join(lines[at : at + size]) for at in range(len(lines) - size + 1))


def similarity(one: str, other: str) -> float:
    matcher = difflib.SequenceMatcher(None, one.strip(), other.strip())
    return matcher.ratio() if matcher.quick_ratio() > SIMILAR else 0.0


def moved(row: Row, file: str, text: str, source: str) -> Row | None:
    """The row at this place; None if its fault cannot be made in the new text, or in several ways."""
    old, new = row.text.strip(), row.fault.strip()
    indent = text[: len(text) - len(text.lstrip())]
    if new in ("", "pass"):
        fault = new and f"{indent}{new}"
    else:
        begin, end = first_difference(old, new), first_difference(old[::-1], new[::-1])
        end = min(end, len(old) - begin, len(new) - begin)
        around = slice(max(0, begin - CONTEXT), min(len(old), len(old) - end + CONTEXT))
        wanted = old[around]
        if text.count(wanted) != 1:
            return None
        fault = text.replace(wanted, new[around.start : len(new) - (len(old) - around.stop)])
    of = len(places(text, source))
    return row._replace(file=file, text=text, fault=fault, nth=min(row.nth, of), of=of)


def first_difference(one: Sequence[str], other: Sequence[str]) -> int:
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
