"""Which keys and objects the settings mean: PREFIX_FILTER and EXCLUDE, KEEP_DAYS, COPY_LAST."""

from __future__ import annotations

import fnmatch
import functools
import re
from collections.abc import Iterable
from typing import NamedTuple

SECONDS_OF_DAY = 86_400
WILDCARDS = frozenset("*?[")


def written_items(text: str) -> list[str]:
    """The items of a comma-separated list. `\\,` is a comma within an item. An empty text has no items."""
    return [item.replace("\\,", ",") for item in re.split(r"(?<!\\),", text)] if text else []


def items_of(text: str) -> tuple[str, ...]:
    """Each item once."""
    return tuple(dict.fromkeys(written_items(text)))


def without_covered(prefixes: Iterable[str]) -> tuple[str, ...]:
    """The prefixes without those that begin with another of them, sorted."""
    kept: list[str] = []
    for prefix in sorted(prefixes):
        if not kept or not prefix.startswith(kept[-1]):
            kept.append(prefix)
    return tuple(kept)


class Wanted(NamedTuple):
    """The part of the source that PREFIX_FILTER, EXCLUDE and KEEP_DAYS select."""

    prefixes: tuple[str, ...]  # none covers another; ("",) for all keys
    excluded: re.Pattern[str] | None
    keep_days: int  # 0: forever

    def takes(self, key: str) -> bool:
        """Whether the key is synced at all. Objects of the destination under other keys are left alone."""
        return key.startswith(self.prefixes) and not self.excludes(key)

    def excludes(self, key: str) -> bool:
        return self.excluded is not None and self.excluded.match(key) is not None

    def under(self, prefix: str) -> tuple[str, ...]:
        """The prefixes that cover all synced keys that begin with `prefix`; none if it lies outside."""
        if prefix.startswith(self.prefixes):
            return (prefix,)
        return tuple(kept for kept in self.prefixes if kept.startswith(prefix))

    def is_expired(self, modified: float, now: float) -> bool:
        """Whether an object of the source that changed at `modified`, in seconds since the epoch, is kept no longer.

        S3 Lifecycle counts the same way: KEEP_DAYS after the change, and on to the next midnight UTC (S3 User Guide,
        "Lifecycle rules: Based on an object's age"). It begins at the time of the copy, which is later, so it removes
        no copy too early.
        """
        return self.keep_days > 0 and now >= (modified // SECONDS_OF_DAY + self.keep_days + 1) * SECONDS_OF_DAY


def pattern_for(key: str, patterns: Iterable[str]) -> str | None:
    """The first of the patterns that leaves the key out, or None. It covers all of a prefix if it ends in "*"."""
    for pattern in patterns:
        try:
            if fnmatch.fnmatchcase(key, pattern):
                return pattern
        except re.error:
            pass  # an empty range, such as [c-a]: before 3.9.13, Python does not know that it matches nothing
    return None


def wanted_of(prefix_filter: str, exclude: str, keep_days: int) -> Wanted:
    """An EXCLUDE pattern is a glob for the whole key, whose `*` stands for "/", too."""
    patterns = [fnmatch.translate(pattern) for pattern in items_of(exclude)]
    return Wanted(
        prefixes=without_covered(items_of(prefix_filter)) or ("",),
        excluded=re.compile("|".join(patterns)) if patterns else None,
        keep_days=keep_days,
    )


class MarkerPatterns(NamedTuple):
    """What COPY_LAST says. A pattern with "/" in it is for the whole key, any other for the last part of the key."""

    of_keys: tuple[re.Pattern[str], ...]
    of_names: tuple[re.Pattern[str], ...]
    fixed_names: tuple[str, ...]  # last parts without wildcards: only markers with such a name can be looked for

    def match(self, key: str) -> bool:
        name = key[len(folder_of(key)) :]
        is_meant_by_key = any(pattern.match(key) for pattern in self.of_keys)
        return is_meant_by_key or any(pattern.match(name) for pattern in self.of_names)


@functools.lru_cache(maxsize=16)
def marker_patterns(copy_last: str) -> MarkerPatterns:
    stripped = [text.strip() for text in items_of(copy_last)]
    texts = [text for text in dict.fromkeys(stripped) if text]
    names = dict.fromkeys(text[len(folder_of(text)) :] for text in texts)

    def compiled(text: str) -> re.Pattern[str]:
        return re.compile(fnmatch.translate(text))

    return MarkerPatterns(
        of_keys=tuple(compiled(text) for text in texts if "/" in text),
        of_names=tuple(compiled(text) for text in texts if "/" not in text),
        fixed_names=tuple(name for name in names if WILDCARDS.isdisjoint(name)),
    )


def is_marker(key: str, copy_last: str) -> bool:
    return marker_patterns(copy_last).match(key)


def folders_of(key: str) -> list[str]:
    """The folders that the key lies in, the outermost first: that of all keys is ""."""
    return ["", *(key[: match.end()] for match in re.finditer("/", key))]


def folder_of(key: str) -> str:
    """The key up to its last "/", with that."""
    return key[: key.rfind("/") + 1]
