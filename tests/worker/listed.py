"""A bucket as its listings show it, page by page."""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any
from zlib import crc32

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


def entry_of(key: str) -> dict[str, Any]:
    return {"Size": len(key), "LastModified": MOMENT, "ETag": '"e"'}


class Bucket:
    """Lists its keys as S3 does: sorted, or as a directory bucket does, folder by folder in an order of its own. No
    listing is remembered: a token says after which name it goes on. `repeated` are keys that a listing shows twice."""

    def __init__(
        self,
        keys: Iterable[str],
        page: int,
        is_directory: bool = False,
        seed: int = 0,
        entry: Callable[[str], dict[str, Any]] = entry_of,
    ) -> None:
        self.keys = set(keys)
        self.is_directory = is_directory
        self.page = page
        self.seed = seed
        self.entry = entry
        self.repeated: frozenset[str] = frozenset()
        self.chance = random.Random(seed)
        self.requests = 0
        self.change([])

    def change(self, keys: Iterable[str]) -> None:
        """Deletes those of the keys that are there, and puts the others."""
        self.keys ^= set(keys)
        self.names: dict[str, dict[str, None]] = {"": {}}  # folder -> keys and folders directly in it
        for key in sorted(self.keys):
            start = 0
            while (end := key.find("/", start)) >= 0:
                self.names.setdefault(key[:start], {})[key[: end + 1]] = None
                start = end + 1
            self.names.setdefault(key[:start], {})[key] = None
        self.answers: dict[tuple[str, str], list[str]] = {}

    def rows(self, prefix: str, delimiter: str) -> list[str]:
        """Keys, and with the delimiter also common prefixes, which are those that are in self.names."""
        assert not self.is_directory or prefix.endswith("/") or not prefix, prefix
        if (prefix, delimiter) not in self.answers:
            folder = prefix[: prefix.rfind("/") + 1]
            found = [name for name in self.names.get(folder, ()) if name.startswith(prefix)]
            if self.is_directory:
                found.sort(key=functools.partial(self.rank, delimiter))
            found += [name for name in found if name in self.repeated]
            if not delimiter:
                below = (self.rows(name, "") if self.is_folder(name, prefix) else [name] for name in found)
                found = [name for names in below for name in names]
            self.answers[prefix, delimiter] = found if self.is_directory else sorted(found)
        return self.answers[prefix, delimiter]

    def is_folder(self, name: str, prefix: str) -> bool:
        return name in self.names and name != prefix

    def rank(self, delimiter: str, name: str) -> tuple[int, str]:
        """Where it comes among those of its folder, in a directory bucket."""
        return crc32(f"{self.seed}{delimiter}{name}".encode()), name

    def place(self, delimiter: str, name: str) -> list[Any]:
        """Where it comes in a listing."""
        folders = [name[: match.end()] for match in re.finditer("/", name)] if self.is_directory else []
        return [self.rank(delimiter, each) for each in (*folders, name)] if self.is_directory else [name]

    def list(self, parameters: dict[str, Any]) -> dict[str, Any]:
        self.requests += 1
        prefix, delimiter = parameters["Prefix"], parameters.get("Delimiter", "")
        rows = self.rows(prefix, delimiter)
        number, _, latest = parameters.get("ContinuationToken", "0 ").partition(" ")
        start = int(number)
        if start and rows[start - 1 : start] != [latest]:  # the keys have changed meanwhile
            start = sum(self.place(delimiter, row) <= self.place(delimiter, latest) for row in rows)
        end = start + (self.chance.randint(0, self.page) if self.page < 10 else self.page)
        folders = [name for name in rows[start:end] if delimiter and self.is_folder(name, prefix)]
        keys = [name for name in rows[start:end] if name not in folders]
        return {
            "IsTruncated": end < len(rows),
            "NextContinuationToken": f"{end} {rows[end - 1]}" if end < len(rows) else None,
            "Contents": [{"Key": key, **self.entry(key)} for key in keys],
            "CommonPrefixes": [{"Prefix": name} for name in folders],
        }


def tree(*levels: int, keys: int) -> list[str]:
    names = [""]
    for level in levels:
        names = [f"{name}{number:05d}/" for name in names for number in range(level)]
    return [f"{name}object-{number:06d}" for name in names for number in range(keys)]
