"""TABLES=delta beside a worker without it: how often a reader finds a version that is not whole, and what order costs.

    .venv/bin/python tests/bench/tables.py               about 8 minutes
    .venv/bin/python tests/bench/tables.py --commits 5   shows that all of it runs

Commits of five files each are put into the stand-in at this many a second, with an event for each file. Meanwhile the
mirror is looked at: the newest commit that is there has to have all before it, and all files that these name. In the
table: looks, and those that found it otherwise; seconds from the put of a commit until the mirror has it; requests and
USD for each commit with its files; messages that were put back on the queue. In the last rows, other keys are at work
beside it: tables whose commits name archived files, and deletes far below the nearest folder that others are in.
"""

import argparse
import base64
import json
import sys
import time
from collections import Counter
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "standin"))  # the stand-in
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "docs"))  # the prices

from cost import PRICE
from measure import finish, stop_all, wait_for
from movers import MIRROR, SOURCE
from rows import aligned
from runs import TIMEOUT, clear, is_receiving, start_worker
from standin import Standin, running_standin

FILES = 5  # of a commit
LOOKS = 300
LOG = "_delta_log/"
# milliseconds, from and to
SLOW = {"HeadObject": (8, 0), "GetObject": (15, 0), "CopyObject": (20, 600), "ListObjectsV2": (50, 0)}
FAST = SLOW | {"CopyObject": (20, 60)}
# USD for a request, by the bucket that it is for
PRICES = {
    ("HeadObject", SOURCE): PRICE["standard_get_request"],
    ("HeadObject", MIRROR): PRICE["express_get_request"],
    ("GetObject", SOURCE): PRICE["standard_get_request"],
    ("ListObjectsV2", SOURCE): PRICE["standard_list_request"],
    ("ListObjectsV2", MIRROR): PRICE["express_put_request"],
    ("CopyObject", MIRROR): PRICE["express_put_request"],
}
HEADINGS = "case", "looks", "broken", "p50 s", "p99 s", "all s", "requests", "USD a million", "CPU ms/object", "sent"
ARCHIVED_TABLES, ARCHIVED_COMMITS = 20, 50
DELETES, DEPTH = 400, 200


def archived_tables(_standin: Standin) -> list[tuple[str, list, dict]]:
    """Puts them: each commit of each of these tables names an archived file."""
    made: list[tuple[str, list, dict]] = []
    for table in range(ARCHIVED_TABLES):
        for version in range(ARCHIVED_COMMITS):
            action = json.dumps({"add": {"path": f"f{version}"}}).encode()
            made.append(("put", [SOURCE, f"archived{table}/f{version}"], {"storage_class": "GLACIER"}))
            named = {"data": base64.b64encode(action).decode()}
            made.append(("put", [SOURCE, f"archived{table}/{LOG}{version:020}.json"], named))
    return made


def deep_deletes(standin: Standin) -> list[tuple[str, list, dict]]:
    """Puts files in both buckets, without an event, and deletes them from the source."""
    keys = [f"deep/{'d/' * DEPTH}{number}/f" for number in range(DELETES)]
    standin.put_many(SOURCE, keys)
    standin.mirror_many(SOURCE, MIRROR, keys=keys)
    return [("delete", [SOURCE, key], {}) for key in keys]


# name -> TABLES, commits a second, how many commits, latencies, commits from one checkpoint to the next; what is beside
CASES = {
    "off, ten a second": ("", 10, 60, SLOW, 0),
    "on, ten a second": ("delta", 10, 60, SLOW, 0),
    "on, ten a second, copies of 20 to 60 ms": ("delta", 10, 300, FAST, 0),
    "on, one a second, copies of 20 to 60 ms": ("delta", 1, 60, FAST, 0),
    "on, one a second, with checkpoints and deletes": ("delta", 1, 120, FAST, 10),
    "off, a burst": ("", 100_000, 1000, FAST, 0),
    "on, a burst": ("delta", 100_000, 1000, FAST, 0),
    "on, one a second, beside tables with archived files": ("delta", 1, 30, FAST, 0, archived_tables),
    "on, one a second, beside deep deletes": ("delta", 1, 30, FAST, 0, deep_deletes),
}


def names(version: int) -> list[str]:
    return [f"data/part-{version:06}-{number}.parquet" for number in range(FILES)]


def old_file(version: int) -> str:
    """One that no commit names: it is there from one checkpoint to the next."""
    return f"data/old-{version:06}.parquet"


def calls(commits: int, tidy: int) -> list[tuple[str, list, dict]]:
    """Each puts the files of a commit, and the commit; some also a checkpoint and the pointer, and delete a file."""
    made: list[tuple[str, list, dict]] = []
    for version in range(commits):
        actions = [json.dumps({"add": {"path": name}}) for name in names(version)]
        data = base64.b64encode("\n".join(actions).encode()).decode()
        puts = [("put", [SOURCE, name], {}) for name in names(version)]
        puts.append(("put", [SOURCE, f"{LOG}{version:020}.json"], {"data": data}))
        if tidy and version % tidy == tidy - 1:
            pointer = base64.b64encode(json.dumps({"version": version}).encode()).decode()
            puts.append(("put", [SOURCE, f"{LOG}{version:020}.checkpoint.parquet"], {}))
            puts.append(("put", [SOURCE, f"{LOG}_last_checkpoint"], {"data": pointer}))
            puts.append(("put", [SOURCE, old_file(version)], {}))
            puts += [("delete", [SOURCE, old_file(version - tidy)], {})] if version > tidy else []
        made.append(("together", [puts], {}))
    return made


def is_whole(mirrored: dict) -> bool:
    """Whether a reader finds the newest version as it should be."""
    versions = sorted(int(key[-25:-5]) for key in mirrored if key.startswith(LOG) and key.endswith(".json"))
    files = (name for version in versions for name in names(version))
    return versions == list(range(len(versions))) and all(name in mirrored for name in files)


def mirrored(standin: Standin) -> dict:
    """What the mirror has of the table."""
    return {key: found for key, found in standin.objects(MIRROR).items() if key.startswith(("data/", LOG))}


def measure(standin: Standin, directory: Path, case: str, most: int) -> list[str]:
    tables, per_second, commits, latencies, tidy, *beside = CASES[case]
    commits = min(commits, most)
    objects = commits * (FILES + 1) + (commits // tidy + 2 if tidy else 0)
    place = clear(standin, directory)
    for operation, (ms, most_ms) in latencies.items():
        standin.latency(operation, ms=ms, most_ms=most_ms)
    running = start_worker(place, "crt", TABLES=tables, EMPTY_POLLS_BEFORE_EXIT="5")
    if not wait_for(lambda: is_receiving(standin), running, TIMEOUT):
        raise RuntimeError(running.last_words())
    others = [call for put in beside for call in put(standin)]
    first, *rest = calls(commits, tidy)
    standin.together([first])  # a new table is shown some seconds later, which is no matter of load
    if not wait_for(lambda: len(mirrored(standin)) == FILES + 1, running, TIMEOUT):
        raise RuntimeError(running.last_words())
    standin.watch(SOURCE, MIRROR)
    standin.record()
    standin.play([("together", [others], {})] * bool(others) + rest, per_second)
    looks = Counter()
    while looks.total() < LOOKS and len(mirrored(standin)) < objects:
        looks[is_whole(mirrored(standin))] += 1
        time.sleep(max(0.02, commits / per_second / LOOKS))
    if not wait_for(lambda: len(mirrored(standin)) == objects, running, TIMEOUT, 0.1):
        raise RuntimeError(running.last_words())
    if not wait_for(lambda: not any(key.startswith("deep/") for key in standin.objects(MIRROR)), running, TIMEOUT, 0.5):
        raise RuntimeError(running.last_words())
    if beside:
        running.process.terminate()  # what waits for archived files does so for days
    lags = standin.lags()[LOG.strip("/")]["shown"]
    cuts = quantiles(lags, n=100, method="inclusive")
    usage = finish(running, TIMEOUT)
    asked = Counter((entry["operation"], entry["bucket"]) for entry in standin.requests())
    of_s3 = {what: count for what, count in asked.items() if what in PRICES}
    usd = sum(PRICES[what] * count for what, count in of_s3.items()) / commits
    cpu = 1000 * usage.cpu_seconds / objects
    figures = [looks.total(), looks[False], f"{cuts[49]:.2f}", f"{cuts[98]:.2f}", f"{max(lags):.1f}"]
    sent = sum(count for (operation, _), count in asked.items() if operation.startswith("SendMessage"))
    per_commit = [f"{sum(of_s3.values()) / commits:.1f}", f"{1e6 * usd:.1f}", f"{cpu:.2f}"]
    return [case, *map(str, figures), *per_commit, str(sent)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commits", type=int, default=1000, help="at most so many of each case")
    parser.add_argument("--case", action="append", choices=[*CASES], help="only this one")
    arguments = parser.parse_args()
    rows = [list(HEADINGS)]
    try:
        with running_standin() as standin, TemporaryDirectory() as directory:
            for case in arguments.case or CASES:
                rows.append(measure(standin, Path(directory), case, arguments.commits))
                print(aligned(rows), flush=True)
    finally:
        stop_all()


if __name__ == "__main__":
    main()
