"""What draw.py draws: a place in a file, and what somebody could have written there instead."""

import re
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

KINDS = ("comparison", "constant", "unit", "side", "page", "default", "swallowed error", "order", "missing case")

# Numbers that convert one unit into another, each with one of its neighbours.
UNITS = {"60": "3600", "3600": "60", "86400": "3600", "86_400": "3600", "24": "60", "1000": "1024", "1024": "1000"}
UNITS |= {"1_000": "1024", "1_000_000": "1000", "100": "1000", "1440": "60", "720": "24", "730": "24"}

UNIT_NAMES = ("seconds minutes", "minutes hours", "hours days", "second minute", "minute hour", "hour day", "kib mib")
UNIT_NAMES += ("mib gib", "milliseconds seconds", "bytes objects")
SIDE_NAMES = ("source destination", "src dst", "first last", "before after", "old new", "created removed")
SIDE_NAMES += ("copied deleted", "lower upper")

# The last number of digits that one more makes another case; larger ones are limits, which are doubled.
SMALL = 10


class Edit(NamedTuple):
    """Bytes of a file, from `begin` to before `end`, become `instead`."""

    kind: str
    begin: int
    end: int
    instead: bytes

    def applied(self, source: bytes) -> bytes:
        return source[: self.begin] + self.instead + source[self.end :]


def number_instead(text: str) -> tuple[str, str] | None:
    """The kind, and the number that stands there instead; None if it is no plain number."""
    if text in UNITS:
        return "unit", UNITS[text]
    digits = text.replace("_", "")
    if digits.isdecimal():
        number = int(digits)
        return "constant", str(number + 1 if number <= SMALL else number * 2)
    if re.fullmatch(r"\d+\.\d+", text):
        return "constant", str(float(text) * 2)
    return None


def renaming() -> Iterator[tuple[str, re.Pattern[str], str]]:
    for kind, pairs in (("side", SIDE_NAMES), ("unit", UNIT_NAMES)):
        for one, other in map(str.split, pairs):
            for this, that in ((one, other), (other, one)):
                for form in (str.lower, str.upper, str.capitalize):
                    yield kind, re.compile(rf"(?<![A-Za-z]){form(this)}(?![a-z])"), form(that)


RENAMING = tuple(renaming())


@cache
def other_names(name: str) -> list[tuple[str, str]]:
    return [(kind, word.sub(other, name)) for kind, word, other in RENAMING if word.search(name)]


def names_instead(name: str, known: set[str]) -> Iterator[tuple[str, str]]:
    """The kind and the other name, for each name in `known` that differs in one word: the other side, another unit."""
    return ((kind, other) for kind, other in other_names(name) if other in known)


def words(text: str) -> set[str]:
    return set(re.findall(r"[A-Za-z_]\w*", text))
