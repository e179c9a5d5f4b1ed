"""Draws faults at random from the syntax of the whole product: what somebody could have written instead.

    .venv/bin/python tests/faults/draw.py WORD     prints those that this word draws

The same word draws the same faults from the same code. Nobody has seen those of a new word, so the tests cannot have
been written for them.
"""

import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import cache
from itertools import cycle
from pathlib import Path
from random import Random
from typing import NamedTuple

from edit import KINDS, Edit
from of_bash import is_other_bash, is_other_jq, of_bash, of_jq
from of_python import is_other_python, of_python

PROJECT = Path(__file__).parents[2]
sys.path.append(str(PROJECT / "tests" / "house"))

import budgets  # noqa: E402

ROWS = 100
FEWEST = 3  # of each folder

# Each language: its possible faults, and whether a changed file can be read and is another one.
Language = tuple[Callable[[bytes], Iterator[Edit]], Callable[[bytes, bytes], bool]]
PYTHON: Language = (of_python, is_other_python)
LANGUAGES: dict[str, Language] = {".sh": (of_bash, is_other_bash), ".jq": (of_jq, is_other_jq)}


class Fault(NamedTuple):
    folder: str
    file: str
    line: int
    edit: Edit

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}"

    def planted(self, source: str) -> str:
        return self.edit.applied(source.encode()).decode()

    def shown(self) -> str:
        """Its lines, before and after."""
        source = product()[self.file].encode()
        first = source.rfind(b"\n", 0, self.edit.begin) + 1
        last = source.find(b"\n", self.edit.end)
        before, after = source[first:last], self.edit._replace(begin=self.edit.begin - first, end=self.edit.end - first)
        signed = (("-", before), ("+", after.applied(before)))
        return "\n".join(f"{sign} {line}" for sign, text in signed for line in text.decode().splitlines())

    def around(self) -> str:
        """The lines between two empty ones, which is a function of Bash, or a paragraph of one."""
        source = product()[self.file].encode()
        first, last = source.rfind(b"\n\n", 0, self.edit.begin), source.find(b"\n\n", self.edit.end)
        return source[max(first, 0) : last if last >= 0 else None].decode()


@cache
def product() -> dict[str, str]:
    """File -> text of all that faults are drawn from."""
    return {name: text for name, text in budgets.files().items() if language(name, text) and is_product(name)}


def is_product(name: str) -> bool:
    return budgets.room(name) not in ("tests", "") and not name.endswith("__init__.py")


def language(name: str, text: str) -> Language | None:
    return PYTHON if budgets.is_python(name, text) else LANGUAGES.get(Path(name).suffix)


def folder_of(name: str) -> str:
    folder = Path(name).parent.as_posix()
    if name in ("worker.py", "starter.py"):
        return "mirror" if name == "worker.py" else "launch"
    return "scripts" if folder == "." else folder


def shares(number: int = ROWS) -> dict[str, int]:
    """Folder -> how many faults of it are drawn: some of each, the others in proportion to its tokens."""
    tokens: dict[str, int] = defaultdict(int)
    for name, text in product().items():
        tokens[folder_of(name)] += budgets.tokens(name, text)
    counts = dict.fromkeys(sorted(tokens), FEWEST)
    while sum(counts.values()) < number:
        folder = max(counts, key=lambda each: tokens[each] / (counts[each] + 1))
        counts[folder] += 1
    return counts


def draw(word: str, number: int = ROWS) -> list[Fault]:
    return [fault for folder, count in shares(number).items() for fault in drawn(word, folder, count)]


def drawn(word: str, folder: str, count: int) -> Iterator[Fault]:
    """One kind after the other, at most one fault on a line."""
    random = Random(f"{word} {folder}")
    possible: dict[str, list[tuple[str, Edit]]] = defaultdict(list)
    for name, text in product().items():
        if folder_of(name) == folder:
            find, _ = language(name, text) or PYTHON
            for edit in find(text.encode()):
                possible[edit.kind].append((name, edit))

    places = set()
    kinds = random.sample(KINDS, len(KINDS))
    for kind in cycle(kinds):
        if len(places) == count or not any(possible.values()):
            return
        fault = next((one for one in at_random(random, folder, possible[kind]) if one.place not in places), None)
        if fault:
            places.add(fault.place)
            yield fault


def at_random(random: Random, folder: str, possible: list[tuple[str, Edit]]) -> Iterator[Fault]:
    """The faults that can be read, in any order."""
    while possible:
        name, edit = possible.pop(random.randrange(len(possible)))
        source = product()[name].encode()
        _, is_other = language(name, product()[name]) or PYTHON
        if is_other(edit.applied(source), source):
            yield Fault(folder, name, source.count(b"\n", 0, edit.begin) + 1, edit)


def main(word: str) -> None:
    for fault in draw(word):
        print(f"{fault.place} ({fault.edit.kind})\n{fault.shown()}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
