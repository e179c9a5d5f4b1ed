"""The walk finds what a set difference finds, in whichever order a bucket lists, and at the price that is promised."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirror.readers import walk
from mirror.readers.walk import Entry, Walk

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


class Bucket:
    """Lists its keys as S3 does: sorted, or as a directory bucket does, folder by folder in an order of its own."""

    def __init__(self, keys: Iterable[str], page: int, is_directory: bool = False, seed: int = 0) -> None:
        self.keys = set(keys)
        self.is_directory = is_directory
        self.page = page
        self.chance = random.Random(seed)
        self.requests = 0
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
                self.chance.shuffle(found)
            if not delimiter:
                below = (self.rows(name, "") if self.is_folder(name, prefix) else [name] for name in found)
                found = [name for names in below for name in names]
            self.answers[prefix, delimiter] = found if delimiter or self.is_directory else sorted(found)
        return self.answers[prefix, delimiter]

    def is_folder(self, name: str, prefix: str) -> bool:
        return name in self.names and name != prefix

    def list(self, parameters: dict[str, Any]) -> dict[str, Any]:
        self.requests += 1
        prefix = parameters["Prefix"]
        rows = self.rows(prefix, parameters.get("Delimiter", ""))
        start = int(parameters.get("ContinuationToken", 0))
        end = start + (self.chance.randint(0, self.page) if self.page < 10 else self.page)
        folders = [name for name in rows[start:end] if parameters.get("Delimiter") and self.is_folder(name, prefix)]
        keys = [name for name in rows[start:end] if name not in folders]
        return {
            "IsTruncated": end < len(rows),
            "NextContinuationToken": str(end),
            "Contents": [{"Key": key, "Size": len(key), "LastModified": MOMENT, "ETag": '"e"'} for key in keys],
            "CommonPrefixes": [{"Prefix": name} for name in folders],
        }


class Found:
    def __init__(self) -> None:
        self.pairs: list[tuple[str, bool, bool]] = []

    def add(self, key: str, source: Entry | None, destination: Entry | None) -> None:
        for entry in (source, destination):
            assert entry is None or (entry.size, entry.moment) == (len(key), MOMENT)
        self.pairs.append((key, source is not None, destination is not None))


def walked(buckets: tuple[Bucket, Bucket], prefixes: tuple[str, ...] = ("",), seed: int = 0) -> list[Any]:
    found: list[tuple[str, bool, bool]] = []

    async def list_page(side: int, **parameters: Any) -> dict[str, Any]:
        await asyncio.sleep(0)
        return buckets[side].list(parameters)

    async def commit(part: Found) -> None:
        found.extend(part.pairs)

    one = Walk(prefixes, list_page, Found, commit)
    one.lots.seed(seed)
    asyncio.run(one.run())
    assert one.done == one.known
    return found


def expected(buckets: tuple[Bucket, Bucket], prefixes: tuple[str, ...] = ("",)) -> set[tuple[str, bool, bool]]:
    source, destination = (bucket.keys for bucket in buckets)
    keys = (key for key in source | destination if key.startswith(prefixes))
    return {(key, key in source, key in destination) for key in keys}


NAMES = st.lists(st.sampled_from(["", "a", "b", "ab", "x y", "ü", "\u2028", "\x7f"]), min_size=1, max_size=4)
KEYS = st.dictionaries(
    NAMES.map("/".join).filter(bool), st.sampled_from(["both", "source", "destination"]), max_size=80
)
PREFIXES = st.sampled_from([("",), ("",), ("a",), ("a/",), ("a/b", "b"), ("x y/a",)])


@settings(max_examples=300, deadline=None)
@given(KEYS, st.integers(1, 8), st.integers(), PREFIXES, st.integers(1, 4))
def test_it_finds_each_key_of_random_trees_once(
    keys: dict[str, str], page: int, seed: int, prefixes: tuple[str, ...], worth: int
) -> None:
    small = {"PAGE_KEYS": page, "WORTH_A_VISIT": worth, "FEWEST_DRAWN": 1, "FEWEST_PAGES": 2, "DRAWN_SHARE": 4}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in small.items():
            patch.setattr(walk, name, value)
        source, destination = (
            [key for key, where in keys.items() if where in ("both", side)] for side in ("source", "destination")
        )
        buckets = Bucket(source, page, seed=seed), Bucket(destination, page, True, seed)
        found = walked(buckets, prefixes, seed)
    assert len(found) == len(set(found))
    assert set(found) == expected(buckets, prefixes)


def tree(*levels: int, keys: int) -> list[str]:
    names = [""]
    for level in levels:
        names = [f"{name}{number:05d}/" for name in names for number in range(level)]
    return [f"{name}object-{number:06d}" for name in names for number in range(keys)]


def deep(levels: int, keys: int) -> list[str]:
    return [f"{'d/' * level}key-{number:05d}" for level in range(levels) for number in range(keys)]


# With pages of a hundred keys. name: (keys, requests of each side as a factor of a plain listing's pages, at most)
TREES: dict[str, tuple[Callable[[], list[str]], float]] = {
    "three levels": (lambda: tree(10, 10, 10, keys=100), 1.3),
    "one level": (lambda: tree(300, keys=100), 1.1),
    "one flat folder": (lambda: tree(1, keys=30_000), 1.02),
    "folders of one key": (lambda: tree(10_000, keys=1), 2.2),
    "three levels of one key": (lambda: tree(20, 20, 20, keys=1), 3.0),
    "one large folder behind many": (lambda: tree(1000, keys=1) + [f"z/{number}" for number in range(10_000)], 2.0),
    "one large folder before many": (lambda: tree(1000, keys=1) + [f"!/{number}" for number in range(10_000)], 2.0),
    "50 levels": (lambda: deep(50, 2000), 1.2),
    "folders just worth a visit": (lambda: tree(100, 2, keys=20), 6.0),
    "a little more than a page behind five links": (lambda: tree(50, 1, 1, 1, 1, 1, keys=110), 11.5),
}


@pytest.mark.parametrize("name", TREES)
def test_requests(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "PAGE_KEYS", 100)
    monkeypatch.setattr(walk, "WORTH_A_VISIT", 40)
    make, factor = TREES[name]
    keys = make()
    buckets = Bucket(keys, 100), Bucket(keys, 100, True)
    found = walked(buckets)
    assert len(found) == len(set(found)) == len(keys)
    plain = len(keys) // 100
    print(name, [bucket.requests / plain for bucket in buckets])
    assert max(bucket.requests for bucket in buckets) <= factor * plain
