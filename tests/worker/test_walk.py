"""The walk finds what a set difference finds, in whichever order a bucket lists, and at the price that is promised."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import random
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirror.model.errors import Unfinished
from mirror.readers import walk
from mirror.readers.walk import WORKERS, Entry, Walk

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


class Broken(Exception):
    """A page that S3 does not give."""


class Bucket:
    """Lists its keys as S3 does: sorted, or as a directory bucket does, folder by folder in an order of its own. No
    listing is remembered: a token says after which name it goes on."""

    def __init__(self, keys: Iterable[str], page: int, is_directory: bool = False, seed: int = 0) -> None:
        self.keys = set(keys)
        self.is_directory = is_directory
        self.page = page
        self.seed = seed
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
            "Contents": [{"Key": key, "Size": len(key), "LastModified": MOMENT, "ETag": '"e"'} for key in keys],
            "CommonPrefixes": [{"Prefix": name} for name in folders],
        }


Pair = tuple[str, bool, bool]  # a key, and which sides have it


class Found:
    def __init__(self) -> None:
        self.pairs: list[Pair] = []

    def add(self, key: str, source: Entry | None, destination: Entry | None) -> None:
        for entry in (source, destination):
            assert entry is None or (entry.size, entry.moment) == (len(key), MOMENT)
        self.pairs.append((key, source is not None, destination is not None))


def walked(
    buckets: tuple[Bucket, Bucket],
    prefixes: tuple[str, ...] = ("",),
    seed: int = 0,
    meanwhile: Callable[[], dict[str, Any] | None] = lambda: None,
) -> tuple[list[list[Pair]], type[Exception] | None]:
    """What is found, part by part, and the error of the walk. `meanwhile` is called before each page, and may answer in
    its place."""
    parts: list[list[Pair]] = []

    async def list_page(side: int, **parameters: Any) -> dict[str, Any]:
        await asyncio.sleep(0)
        answer = meanwhile()
        return buckets[side].list(parameters) if answer is None else answer

    async def commit(part: Found) -> None:
        await asyncio.sleep(0)
        parts.append(part.pairs)

    one = Walk(prefixes, list_page, Found, commit)
    one.lots.seed(seed)
    try:
        asyncio.run(one.run())
    except (Broken, Unfinished) as error:
        return parts, type(error)
    assert one.done == one.known
    return parts, None


def all_of(parts: list[list[Pair]]) -> list[Pair]:
    return [pair for part in parts for pair in part]


def expected(buckets: tuple[Bucket, Bucket], prefixes: tuple[str, ...] = ("",)) -> set[Pair]:
    source, destination = (bucket.keys for bucket in buckets)
    keys = (key for key in source | destination if key.startswith(prefixes))
    return {(key, key in source, key in destination) for key in keys}


NAMES = st.lists(st.sampled_from(["", "a", "b", "ab", "x y", "ü", "\u2028", "\x7f"]), min_size=1, max_size=4)
KEY = NAMES.map("/".join).filter(bool)
KEYS = st.dictionaries(KEY, st.sampled_from(["both", "source", "destination"]), max_size=80)
PREFIXES = st.sampled_from([("",), ("",), ("a",), ("a/",), ("a/b", "b"), ("x y/a",)])
SMALL_PAGES = st.integers(1, 8)


@contextlib.contextmanager
def small_trees(worth: int) -> Iterator[None]:
    """Folders are drawn, and listings are dropped, in trees of a few dozen keys."""
    values = {"WORTH_A_VISIT": worth, "PAGE_KEYS": 4, "FEWEST_DRAWN": 1, "FEWEST_PAGES": 2, "DRAWN_SHARE": 4}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setattr(walk, name, value)
        yield


def made(keys: dict[str, str], page: int, seed: int) -> tuple[Bucket, Bucket]:
    source, destination = (
        [key for key, where in keys.items() if where in ("both", side)] for side in ("source", "destination")
    )
    return Bucket(source, page, seed=seed), Bucket(destination, page, True, seed)


@settings(max_examples=300, deadline=None)
@given(KEYS, SMALL_PAGES, st.integers(), PREFIXES, st.integers(1, 4))
def test_it_finds_each_key_of_random_trees_once(
    keys: dict[str, str], page: int, seed: int, prefixes: tuple[str, ...], worth: int
) -> None:
    buckets = made(keys, page, seed)
    with small_trees(worth):
        parts, error = walked(buckets, prefixes, seed)
    found = all_of(parts)
    assert (error, len(found)) == (None, len(set(found)))
    assert set(found) == expected(buckets, prefixes)


NOT_WHERE = "more follows, but not where"
# What answers in place of a page, and the error that the walk ends with.
FAULTS: dict[str, tuple[dict[str, Any] | None, type[Exception]]] = {
    "an error": (None, Broken),
    "an empty 200": ({}, Unfinished),
    NOT_WHERE: ({"IsTruncated": True}, Unfinished),
}
CHANGES = st.dictionaries(st.integers(0, 60), st.tuples(st.sampled_from([0, 1]), KEY), max_size=8)


@settings(max_examples=300, deadline=None)
@given(KEYS, SMALL_PAGES, st.integers(), CHANGES, st.sampled_from([None, *FAULTS]), st.integers(0, 60))
def test_whatever_changes_the_other_keys_are_found_once_and_whatever_fails_is_raised(
    keys: dict[str, str], page: int, seed: int, changes: dict[int, tuple[int, str]], fault: str | None, fails_at: int
) -> None:
    """A key that changes while the buckets are listed may be found as it was, as it is, twice or not at all. That a
    page does not say where the next one begins matters only if that is asked for."""
    buckets, changed, numbers, failed = made(keys, page, seed), set(), itertools.count(), []
    before = expected(buckets)

    def meanwhile() -> dict[str, Any] | None:
        number = next(numbers)
        if number in changes:
            side, key = changes[number]
            buckets[side].change([key])
            changed.add(key)
        if fault is None or number != fails_at:
            return None
        answer, error = FAULTS[fault]
        failed.append(error)
        if answer is None:
            raise error
        return answer

    with small_trees(2):
        parts, error = walked(buckets, seed=seed, meanwhile=meanwhile)
    found = [pair for pair in all_of(parts) if pair[0] not in changed]
    unchanged = {pair for pair in before if pair[0] not in changed}
    assert len(found) == len(set(found))
    assert error in (failed if fault != NOT_WHERE else [None, *failed]) if failed else error is None
    assert set(found) <= unchanged if error else set(found) == unchanged


def test_what_only_one_side_has_of_a_large_folder_is_handed_on_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it at once would take several times the memory of the table, of which nothing warns."""
    monkeypatch.setattr(walk, "PAGE_KEYS", 100)
    names = [[f"d/{side}-{number:05d}" for number in range(3000)] for side in "sd"]
    parts, _ = walked((Bucket(names[0], 100), Bucket(names[1], 100, True)))
    assert len(set(all_of(parts))) == len(all_of(parts)) == 6000
    assert max(map(len, parts)) <= 200


def test_many_folders_are_listed_at_a_time_also_if_all_are_in_one() -> None:
    """Otherwise a thousand folders of a day each take a page's time one after the other."""
    keys, running, most = tree(100, keys=1000), [], []

    async def list_page(side: int, **parameters: Any) -> dict[str, Any]:
        running.append(side)
        most.append(len(running))
        await asyncio.sleep(0.001)
        running.pop()
        return buckets[side].list(parameters)

    async def commit(part: Found) -> None: ...

    buckets = Bucket(keys, 1000), Bucket(keys, 1000, True)
    asyncio.run(Walk(("",), list_page, Found, commit).run())
    assert max(most) == 2 * WORKERS


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
    found = all_of(walked(buckets)[0])
    assert len(found) == len(set(found)) == len(keys)
    plain = len(keys) // 100
    print(name, [bucket.requests / plain for bucket in buckets])
    assert max(bucket.requests for bucket in buckets) <= factor * plain
