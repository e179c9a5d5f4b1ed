"""TABLES=delta beside a worker without it: how often a reader finds a version that is not whole, and what order costs;
and what it costs to wait for missing keys, by `worker.py wait` and by markers.

    .venv/bin/python tests/bench/tables.py                           about 10 minutes
    .venv/bin/python tests/bench/tables.py --commits 5 --keys 400    shows that all of it runs

Commits of five files each are put into the stand-in at this many a second, with an event for each file. Meanwhile the
mirror is looked at: the newest commit that is there has to have all before it, and all files that these name. In the
table: looks, and those that found it otherwise; seconds from the put of a commit until the mirror has it; requests and
USD for each commit with its files; messages that were put back on the queue. In the last rows of commits, other keys
are at work beside it: tables whose commits name archived files, and deletes far below the nearest folder that others
are in.
"""

import base64
import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from core import MIRROR, SOURCE, Measured, Place, Row, opened, parser, percentiles, save, table
from cost import PRICE
from standin import Standin

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
ARCHIVED_TABLES, ARCHIVED_COMMITS = 20, 50
DELETES, DEPTH = 400, 200
FOLDERS = 12  # with a marker each
PAGE_SECONDS = 0.3
HOUR = 3600
# What a copy of the worker says of its source; the end, which no listing shows, is not compared here.
PROVENANCE = {"sync-source": "{etag} {time} {size} null 000000000000"}

Call = tuple[str, list[Any], dict[str, Any]]


def put(key: str, text: str = "", **fields: Any) -> Call:
    return "put", [SOURCE, key], fields | ({"data": base64.b64encode(text.encode()).decode()} if text else {})


def commit(version: int, files: list[str], folder: str = "") -> Call:
    return put(f"{folder}{LOG}{version:020}.json", "\n".join(json.dumps({"add": {"path": name}}) for name in files))


def archived_tables(_standin: Standin) -> list[Call]:
    """Puts them: each commit of each of these tables names an archived file."""
    return [
        call
        for folder in (f"archived{number}/" for number in range(ARCHIVED_TABLES))
        for version in range(ARCHIVED_COMMITS)
        for call in (
            put(f"{folder}f{version}", storage_class="GLACIER"),
            commit(version, [f"f{version}"], folder),
        )
    ]


def deep_deletes(standin: Standin) -> list[Call]:
    """Puts files in both buckets, without an event, and deletes them from the source."""
    keys = [f"deep/{'d/' * DEPTH}{number}/f" for number in range(DELETES)]
    standin.put_many(SOURCE, keys)
    standin.mirror_many(SOURCE, MIRROR, keys=keys)
    return [("delete", [SOURCE, key], {}) for key in keys]


@dataclass(frozen=True)
class Case:
    """`tidy`: commits from one checkpoint to the next."""

    tables: str
    per_second: int
    commits: int
    latency: dict[str, Any]
    tidy: int = 0
    beside: Callable[[Standin], list[Call]] | None = None


CASES = {
    "off, ten a second": Case("", 10, 60, SLOW),
    "on, ten a second": Case("delta", 10, 60, SLOW),
    "on, ten a second, copies of 20 to 60 ms": Case("delta", 10, 300, FAST),
    "on, one a second, copies of 20 to 60 ms": Case("delta", 1, 60, FAST),
    "on, one a second, with checkpoints and deletes": Case("delta", 1, 120, FAST, 10),
    "off, a burst": Case("", 100_000, 1000, FAST),
    "on, a burst": Case("delta", 100_000, 1000, FAST),
    "on, one a second, beside tables with archived files": Case("delta", 1, 30, FAST, 0, archived_tables),
    "on, one a second, beside deep deletes": Case("delta", 1, 30, FAST, 0, deep_deletes),
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
    others = case.beside(standin) if case.beside else []
    first, *rest = calls(commits, case.tidy)
    standin.together([first])  # a new table is shown some seconds later, which is no matter of load
    running.wait_for(lambda: len(mirrored(standin)) == FILES + 1)
    standin.watch(SOURCE, MIRROR)
    standin.record()
    standin.play([("together", [others], {})] * bool(others) + rest, case.per_second)
    looks = Counter[bool]()
    while looks.total() < LOOKS and len(mirrored(standin)) < objects:
        looks[is_whole(mirrored(standin))] += 1
        time.sleep(max(0.02, commits / case.per_second / LOOKS))
    running.wait_for(lambda: len(mirrored(standin)) == objects, pause=0.1)
    running.wait_for(lambda: not any(key.startswith("deep/") for key in standin.objects(MIRROR)), pause=0.5)
    if others:
        running.signal(15)  # what waits for archived files does so for days
    lags = standin.lags()[LOG.strip("/")]["shown"]
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


# --- Missing keys waited for ------------------------------------------------------------------------------------------


def wait_for_missing(place: Place, keys: int) -> Measured:
    """None is here at first, and then all of them at once."""
    names = [f"data/{i % 1000:04d}/object-{i:09d}" for i in range(keys)]
    place.standin.put_many(SOURCE, names, modified=int(time.time()) - 3 * HOUR)
    running = place.start("wait", "--timeout", "2h")
    running.wait_for(lambda: running.log is not None and " waiting for " in running.log.read_text(), pause=0.1)
    place.standin.mirror_many(SOURCE, MIRROR, HOUR, **PROVENANCE)
    return running


def wait_with_markers(place: Place, keys: int) -> Measured:
    """A worker copies all. A marker's event comes before those of its files, so that it waits for all of them."""
    names = [f"data/{folder:02d}/_SUCCESS" for folder in range(FOLDERS)]
    names += [f"data/{i % FOLDERS:02d}/object-{i:09d}" for i in range(keys)]
    place.standin.put_many(SOURCE, names)
    return place.start(COPY_LAST="_SUCCESS", EMPTY_POLLS_BEFORE_EXIT="3")


# name -> what is done, how many keys
WAITS = {"wait for missing keys": (wait_for_missing, 100_000), "markers that wait": (wait_with_markers, 96_000)}


def waits(place: Place, name: str, most: int) -> Row:
    begin, keys = WAITS[name]
    keys = min(keys, most)
    place.clear({"ListObjectsV2": 1000 * PAGE_SECONDS})
    used = begin(place, keys).finish()
    asked = place.requests()
    figures = {"keys": str(keys), "status": used.status, "seconds": used.seconds, "CPU s": used.cpu_seconds}
    counts = {"HEADs": asked["HeadObject"], "listings": asked["ListObjectsV2"], "copies": asked["CopyObject"]}
    return {"case": name} | figures | {"peak MiB": used.peak_mib} | counts


def main() -> None:
    options = parser(__doc__, "tables", [*CASES, *WAITS])
    options.add_argument("--commits", type=int, default=1000, help="at most so many of each case")
    options.add_argument("--keys", type=int, default=100_000, help="at most so many to wait for")
    arguments = options.parse_args()
    rows: list[Row] = []
    with opened(arguments) as here:
        for name in arguments.only:
            rows.append(order(here, name, arguments.commits) if name in CASES else waits(here, name, arguments.keys))
            kinds = [[row for row in rows if row["case"] in kind] for kind in (CASES, WAITS)]
            shown = "\n\n".join(table(kind) for kind in kinds if kind)
            save(arguments.output, rows, shown)
    print(shown)


if __name__ == "__main__":
    main()
