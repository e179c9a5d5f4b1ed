"""The walk finds what a set difference finds, in whichever order a bucket lists, and at the price that is promised."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from drawn import MOMENT, Bucket, tree
from hypothesis import given, settings
from hypothesis import strategies as st

from mirror.model.errors import Unfinished
from mirror.readers.walk import WORKERS, Entry, Scale, Walk


class Broken(Exception):
    """A page that S3 does not give."""


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
    scale: Scale = Scale(),  # noqa: B008 a value
) -> tuple[list[list[Pair]], str | None]:
    """What is found, part by part, and the error of the walk. `meanwhile` is called before each page, and may answer in
    its place."""
    parts: list[list[Pair]] = []

    async def list_page(side: int, **parameters: Any) -> dict[str, Any]:
        bucket = buckets[side]
        bucket.under_way += 1
        bucket.most_at_once = max(bucket.most_at_once, bucket.under_way)
        await asyncio.sleep(0)
        bucket.under_way -= 1
        answer = meanwhile()
        return bucket.list(parameters) if answer is None else answer

    async def commit(part: Found) -> None:
        await asyncio.sleep(0)
        parts.append(part.pairs)

    one = Walk(prefixes, list_page, Found, commit, scale=scale)
    one.chance.seed(seed)
    try:
        asyncio.run(one.run())
    except (Broken, Unfinished) as error:
        return parts, repr(error)
    assert one.done == one.known
    return parts, None


def all_of(parts: list[list[Pair]]) -> list[Pair]:
    return [pair for part in parts for pair in part]


def expected(buckets: tuple[Bucket, Bucket], prefixes: tuple[str, ...]) -> set[Pair]:
    source, destination = (bucket.keys for bucket in buckets)
    keys = (key for key in source | destination if key.startswith(prefixes))
    return {(key, key in source, key in destination) for key in keys}


NAMES = st.lists(st.sampled_from(["", "a", "b", "ab", "x y", "ü", "\u2028", "\x7f"]), min_size=1, max_size=4)
KEY = NAMES.map("/".join).filter(bool)
KEYS = st.dictionaries(KEY, st.sampled_from(["both", "source", "destination"]), max_size=80)
PREFIXES = st.sampled_from([("",), ("",), ("a",), ("a/",), ("a/b", "b"), ("x y/a",)])


def small_trees(worth: int) -> Scale:
    """Folders are drawn, and listings are dropped, in trees of a few dozen keys."""
    return Scale(page_keys=4, worth_a_visit=worth, fewest_drawn=1, drawn_share=4, fewest_pages=2)


def made(keys: dict[str, str], page: int, seed: int) -> tuple[Bucket, Bucket]:
    source, destination = (
        [key for key, where in keys.items() if where in ("both", side)] for side in ("source", "destination")
    )
    return Bucket(source, page, seed=seed), Bucket(destination, page, True, seed)


NOT_WHERE = "more follows, but not where"
# What answers in place of a page, and the error that the walk ends with.
FAULTS: dict[str, tuple[dict[str, Any] | None, Exception]] = {
    "an error": (None, Broken()),
    "an empty 200": ({}, Unfinished("an answer to a listing does not say whether more follows")),
    NOT_WHERE: ({"IsTruncated": True}, Unfinished("an answer to a listing does not say where the next page begins")),
}
CHANGES = st.dictionaries(st.integers(0, 60), st.tuples(st.sampled_from([0, 1]), KEY), max_size=8)


@settings(max_examples=500, deadline=None)
@given(
    keys=KEYS,
    page=st.integers(1, 8),
    seed=st.integers(),
    prefixes=PREFIXES,
    worth=st.integers(1, 4),
    changes=st.just({}) | CHANGES,
    fault=st.sampled_from([None, None, *FAULTS]),
    fails_at=st.integers(0, 60),
)
def test_each_key_of_random_trees_is_found_once_whatever_other_keys_do_and_what_fails_is_raised(
    keys: dict[str, str],
    page: int,
    seed: int,
    prefixes: tuple[str, ...],
    worth: int,
    changes: dict[int, tuple[int, str]],
    fault: str | None,
    fails_at: int,
) -> None:
    """A key that changes while the buckets are listed may be found as it was, as it is, twice or not at all. That a
    page does not say where the next one begins matters only if that is asked for."""
    buckets, changed, numbers, failed = made(keys, page, seed), set(), itertools.count(), []
    before = expected(buckets, prefixes)

    def meanwhile() -> dict[str, Any] | None:
        number = next(numbers)
        if number in changes:
            side, key = changes[number]
            buckets[side].change([key])
            changed.add(key)
        if fault is None or number != fails_at:
            return None
        answer, error = FAULTS[fault]
        failed.append(repr(error))
        if answer is None:
            raise error
        return answer

    parts, error = walked(buckets, prefixes, seed, meanwhile, small_trees(worth))
    found = [pair for pair in all_of(parts) if pair[0] not in changed]
    unchanged = {pair for pair in before if pair[0] not in changed}
    assert len(found) == len(set(found))
    assert error in (failed if fault != NOT_WHERE else [None, *failed]) if failed else error is None
    assert set(found) <= unchanged if error else set(found) == unchanged


def test_what_only_one_side_has_of_a_large_folder_is_handed_on_in_pieces() -> None:
    """All of it at once would take several times the memory of the table, of which nothing warns."""
    of_source = [f"d/s-{number:05d}" for number in range(3000)]
    of_destination = [f"d/d-{number:05d}" for number in range(3000)]
    parts, _ = walked((Bucket(of_source, 100), Bucket(of_destination, 100, True)), scale=Scale(page_keys=100))
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


# With pages of a hundred keys. name: (keys, requests of each side as a factor of a plain listing's pages, at most)
TREES: dict[str, tuple[Callable[[], list[str]], float]] = {
    "three levels": (lambda: tree(10, 10, 10, keys=100), 1.3),
    "one flat folder": (lambda: tree(1, keys=30_000), 1.02),
    "folders of one key": (lambda: tree(10_000, keys=1), 2.2),
    "one large folder behind many": (lambda: tree(1000, keys=1) + [f"z/{number}" for number in range(10_000)], 2.0),
    "one large folder before many": (lambda: [f"0/{number}" for number in range(10_000)] + tree(1000, keys=1), 2.0),
    "a little more than a page behind five links": (lambda: tree(50, 1, 1, 1, 1, 1, keys=110), 11.5),
}


@pytest.mark.parametrize("name", TREES)
def test_requests(name: str) -> None:
    make, factor = TREES[name]
    keys = make()
    buckets = Bucket(keys, 100), Bucket(keys, 100, True)
    found = all_of(walked(buckets, scale=Scale(page_keys=100, worth_a_visit=40))[0])
    assert len(found) == len(set(found)) == len(keys)
    plain = len(keys) // 100
    assert all(plain <= bucket.requests <= factor * plain for bucket in buckets)


def test_folders_are_listed_side_by_side() -> None:
    keys = tree(WORKERS * 2, keys=500)
    buckets = Bucket(keys, 100), Bucket(keys, 100, True)
    walked(buckets, scale=Scale(page_keys=100, worth_a_visit=40))
    assert all(WORKERS // 2 <= bucket.most_at_once <= WORKERS for bucket in buckets)
