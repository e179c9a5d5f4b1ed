"""Faults that are planted in the worker's code as it is imported, so that no file changes.

`changed` is for a search: it has to find what goes wrong without one of the steps. `plant` is for a whole process.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import mirror

ROOT = Path(mirror.__file__).parents[1]
# What runs on that code is imported again, too.
OURS = ("mirror", "fakes", "interleave", "readers", "table_readers", "keeping")


class Changed(SourceFileLoader):
    """`changes`: texts of the file, and what they become."""

    changes: Mapping[str, str]

    def get_code(self, _name: str) -> CodeType:
        text = Path(self.path).read_text()
        for old, new in self.changes.items():
            assert text.count(old) == 1, f"{self.path} has {text.count(old)} of these, not one: {old}"
            text = text.replace(old, new)
        return compile(text, self.path, "exec")


class Finder(MetaPathFinder):
    def __init__(self, name: str, changes: Mapping[str, str]) -> None:
        self.name, self.changes = name, changes

    def find_spec(self, name: str, path: Any, _target: ModuleType | None = None) -> ModuleSpec | None:
        found = PathFinder.find_spec(name, path) if name == self.name else None
        if found:
            found.loader = Changed(name, str(found.origin))
            found.loader.changes = self.changes
        return found


def place_of(text: str) -> str:
    """The module of the worker that has this text. Raises ValueError if it is not there once."""
    found = [file for file in (ROOT / "mirror").rglob("*.py") for _ in range(file.read_text().count(text))]
    if len(found) != 1:
        raise ValueError(f"this has to be in one place, it is in {[*map(str, found)]}: {text}")
    return ".".join(found[0].relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def plant(changes: Mapping[str, str]) -> Finder:
    """In what is imported from now on. `changes`: texts of one file, and what they become."""
    finder = Finder(place_of(next(iter(changes))), changes)
    sys.meta_path.insert(0, finder)
    return finder


def ours() -> dict[str, ModuleType]:
    return {name: module for name, module in sys.modules.items() if name.partition(".")[0] in OURS}


@contextmanager
def changed(changes: Mapping[str, str], world: str) -> Iterator[Any]:
    """The module of that name, on the worker's code with these changes, if there are any."""
    kept = ours()
    for name in kept:
        del sys.modules[name]
    finders = [plant(changes)] if changes else []
    try:
        yield importlib.import_module(world)
    finally:
        for finder in finders:
            sys.meta_path.remove(finder)
        for name in ours():
            del sys.modules[name]
        sys.modules.update(kept)
