"""What TABLES asks of S3 for a commit does not grow with the log, if a worker has all in order."""

import itertools
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import SETTINGS, Client, Copy, Failure, Version, identity, run, shaped, syncer_on
from table_readers import LOG, key_sync

pytestmark = pytest.mark.fast
FILES = 5  # of a commit
TIDY = 10  # commits until a checkpoint, a pointer and a delete
COMMITS = 4 * TIDY
# USD for a request to the source and to the destination
PRICE = json.loads((Path(__file__).parents[2] / "lib/prices.json").read_text())["prices"]
PRICES = {
    "head_object": (PRICE["standard_get_request"], PRICE["express_get_request"]),
    "get_object": (PRICE["standard_get_request"], PRICE["express_get_request"]),
    "list_objects_v2": (PRICE["standard_list_request"], PRICE["express_put_request"]),
    "copy_object": (0, PRICE["express_put_request"]),
    "delete_object": (0, 0),
}


class World:
    """Both buckets, which a worker looks at as soon as the source changes."""

    def __init__(self) -> None:
        self.source: dict[str, Version] = {}
        self.mirror: dict[str, Copy] = {}
        self.asked: Counter[tuple[str, bool]] = Counter()
        self.second = 0
        self.now = itertools.count(0, 2).__next__
        self.syncer = syncer_on(
            Client(self.answer), replace(SETTINGS, tables="delta"), now=self.now, wall=lambda: self.second
        )
        self.syncer.buckets.answering.is_open = True

    def answer(self, operation, arguments):
        is_source = arguments["Bucket"] == SETTINGS.src_bucket
        held, key = self.source if is_source else self.mirror, arguments.get("Key")
        self.asked[operation, is_source] += 1
        if operation == "list_objects_v2":
            return shaped(
                operation, [found for found in held.items() if found[0].startswith(arguments.get("Prefix", ""))]
            )
        if operation == "copy_object":
            read, etag = self.source[key], f'"d{self.asked.total()}"'
            self.mirror[key] = Copy(etag, (read.content,), read.label, identity(read), 0, self.second)
            return shaped(operation, etag)
        if operation == "delete_object":
            return shaped(operation, self.mirror.pop(key))
        return shaped(operation, held.get(key, Failure("404")))

    def put(self, name, content):
        self.source[f"data/{name}"] = Version(content, 1, self.second)
        run(self.syncer.sync(key_sync(f"data/{name}")))

    def delete(self, name):
        del self.source[f"data/{name}"]
        run(self.syncer.sync(key_sync(f"data/{name}", destination_first=True)))

    def commit(self, version):
        self.second += 1
        files = [f"f{version}x{number}" for number in range(FILES)]
        for name in files:
            self.put(name, "x")
        self.put(f"{LOG}{version:020}.json", "+".join([f"a{version}", *files]))
        if version % TIDY == TIDY - 1:
            self.put(f"{LOG}{version:020}.checkpoint.parquet", f"a{version}")
            self.put(f"{LOG}_last_checkpoint", f"@{version}")
            self.put("old", "x")
            self.delete("old")


def test_what_a_commit_asks_for_does_not_grow_with_the_log(show):
    world, asked = World(), []
    for version in range(COMMITS):
        if version % TIDY == 0:
            world.asked.clear()
        world.commit(version)
        if version % TIDY == TIDY - 1:
            asked.append(dict(world.asked))
    usd = sum(PRICES[operation][not of_source] * count for (operation, of_source), count in asked[-1].items())
    show(f"{sum(asked[-1].values()) / TIDY:.1f} requests a commit, {1e6 * usd / TIDY:.1f} USD a million")
    assert asked[1] == asked[2] == asked[3]
    assert world.source.keys() == world.mirror.keys()
