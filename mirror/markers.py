"""COPY_LAST: marker files wait for what they announce."""

from __future__ import annotations

from fnmatch import fnmatchcase


def is_marker(key: str, patterns: str) -> bool:
    """Whether one of the patterns matches: with a "/" in it the whole key, without the last part of it."""
    name = key.rpartition("/")[2]
    return any(fnmatchcase(key if "/" in pattern else name, pattern) for pattern in patterns.split(",") if pattern)
