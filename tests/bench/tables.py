"""TABLES=delta beside a worker without it: how often a reader finds a version that is not whole, and what order costs.

    .venv/bin/python tests/bench/tables.py                 about 8 minutes
    .venv/bin/python tests/bench/tables.py --commits 5     shows that all of it runs

Commits of five files each are put into the stand-in at this many a second, with an event for each file. Meanwhile the
mirror is looked at: the newest commit that is there has to have all before it, and all files that these name. In the
table: looks, and those that found it otherwise; seconds from the put of a commit until the mirror has it; requests and
USD for each commit with its files; messages that were put back on the queue.
"""

import base64
import json
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from core import Place, Row, measure_all, opened, parser, percentiles, table
from cost import PRICE
from standin import Standin
from world import MIRROR, SOURCE

FILES = 5  # of a commit
LOOKS = 300
LOG = "_delta_log/"
# milliseconds, from and to
SLOW = {"HeadObject": 8, "GetObject": 15, "CopyObject": {"ms": 20, "most_ms": 600}, "ListObjectsV2": 50}
FAST = SLOW | {"CopyObject": {"ms": 20, "most_ms": 60}}
# USD for a request, by the bucket that it is for
PRICES = {
    ("HeadObject", SOURCE): PRICE["standard_get_request"],
    ("HeadObject", MIRROR): PRICE["express_get_request"],
    ("GetObject", SOURCE): PRICE["standard_get_request"],
    ("ListObjectsV2", SOURCE): PRICE["standard_list_request"],
    ("ListObjectsV2", MIRROR): PRICE["express_put_request"],
    ("CopyObject", MIRROR): PRICE["express_put_request"],
}

Call = tuple[str, list[Any], dict[str, Any]]


def put(key: str, text: str = "", **fields: Any) -> Call:
    return "put", [SOURCE, key], fields | ({"data": base64.b64encode(text.encode()).decode()} if text else {})


def commit(version: int, files: list[str]) -> Call:
    return put(f"{LOG}{version:020}.json", "\n".join(json.dumps({"add": {"path": name}}) for name in files))


@dataclass(frozen=True)
class Case:
    """`tidy`: commits from one checkpoint to the next."""

    tables: str
    per_second: int
    commits: int
    latency: dict[str, Any]
    tidy: int = 0


CASES = {
    "off, ten a second": Case("", 10, 60, SLOW),
    "on, ten a second": Case("delta", 10, 60, SLOW),
    "on, one a second, copies of 20 to 60 ms": Case("delta", 1, 60, FAST),
    "on, one a second, with checkpoints and deletes": Case("delta", 1, 120, FAST, 10),
    "on, a burst": Case("delta", 100_000, 1000, FAST),
}


def names(version: int) -> list[str]:
    return [f"data/part-{version:06}-{number}.parquet" for number in range(FILES)]


def calls(commits: int, tidy: int) -> list[Call]:
    """Each puts the files of a commit, and the commit; some also a checkpoint and the pointer, and delete a file that
    no commit names, which is there from one checkpoint to the next."""
    made: list[Call] = []
    for version in range(commits):
        puts = [*map(put, names(version)), commit(version, names(version))]
        if tidy and version % tidy == tidy - 1:
            puts.append(put(f"{LOG}{version:020}.checkpoint.parquet"))
            puts.append(put(f"{LOG}_last_checkpoint", json.dumps({"version": version})))
            puts.append(put(f"data/old-{version:06}.parquet"))
            puts += [("delete", [SOURCE, f"data/old-{version - tidy:06}.parquet"], {})] if version > tidy else []
        made.append(("together", [puts], {}))
    return made


def is_whole(mirrored: dict[str, Any]) -> bool:
    """Whether a reader finds the newest version as it should be."""
    versions = sorted(int(key[-25:-5]) for key in mirrored if key.startswith(LOG) and key.endswith(".json"))
    files = (name for version in versions for name in names(version))
    return versions == list(range(len(versions))) and all(name in mirrored for name in files)


def mirrored(standin: Standin) -> dict[str, Any]:
    """What the mirror has of the table."""
    return {key: found for key, found in standin.objects(MIRROR).items() if key.startswith(("data/", LOG))}


def order(place: Place, name: str, most: int) -> Row:
    case, standin = CASES[name], place.standin
    commits = min(case.commits, most)
    checkpoints = commits // case.tidy if case.tidy else 0
    objects = commits * (FILES + 1) + (checkpoints + 2 if checkpoints else 0)
    place.clear(case.latency)
    running = place.start(TABLES=case.tables, EMPTY_POLLS_BEFORE_EXIT="5")
    running.wait_for(lambda: place.requests()["ReceiveMessage"] > 0)
    first, *rest = calls(commits, case.tidy)
    standin.together([first])  # a new table is shown some seconds later, which is no matter of load
    running.wait_for(lambda: len(mirrored(standin)) == FILES + 1)
    standin.watch(SOURCE, MIRROR)
    standin.record()
    standin.play(rest, case.per_second)
    looks = Counter[bool]()
    while looks.total() < LOOKS and len(mirrored(standin)) < objects:
        looks[is_whole(mirrored(standin))] += 1
        time.sleep(max(0.02, commits / case.per_second / LOOKS))
    running.wait_for(lambda: len(mirrored(standin)) == objects, pause=0.1)
    lags = standin.lags()[LOG.strip("/")]
    p50, _, p99 = percentiles(lags)
    usage = running.finish()
    asked = Counter((entry["operation"], entry["bucket"]) for entry in standin.requests())
    of_s3 = {what: count for what, count in asked.items() if what in PRICES}
    return {
        "case": name,
        "looks": looks.total(),
        "broken": looks[False],
        "p50 s": p50,
        "p99 s": p99,
        "all s": max(lags),
        "requests": sum(of_s3.values()) / commits,
        "USD a million": 1e6 * sum(PRICES[what] * count for what, count in of_s3.items()) / commits,
        "CPU ms/object": 1000 * usage.cpu_seconds / objects,
        "sent": asked["SendMessage", ""] + asked["SendMessageBatch", ""],
    }


def main() -> None:
    options = parser(__doc__, "tables", CASES)
    options.add_argument("--commits", type=int, default=1000, help="at most so many of each case")
    arguments = options.parse_args()
    with opened(arguments) as here:
        measure_all(arguments, (order(here, name, arguments.commits) for name in arguments.only), table)


if __name__ == "__main__":
    main()
