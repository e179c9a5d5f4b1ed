"""worker.py reconcile, wait or measure on buckets of millions of keys in the stand-in: time, memory, requests.

    .venv/bin/python tests/bench/walk.py                          all trees but the largest: half an hour
    .venv/bin/python tests/bench/walk.py --only "flat 20 million" --page-seconds 0
    .venv/bin/python tests/bench/walk.py --only "flat 20 million" --page-seconds 0 --task-memory 1024     refused
    .venv/bin/python tests/bench/walk.py --only small --page-seconds 0
    .venv/bin/python tests/bench/walk.py --only "folders of 200" --command deep --task-memory 300

Pages take as long as S3's, and the CPU time of the stand-in, which shares the machine with the worker, is shown beside.
A plain listing takes a page for each thousand keys: `times plain` is the factor of that. Status 1 if a number that the
worker reports is not what the tree holds. The stand-in lists the source in order and the destination backwards, so that
what belongs together is far apart. It needs 150 bytes for each key.
"""

import argparse
import itertools
import re
import sys
import time
from collections import Counter

from core import Place, Row, measure_all, opened, parser, table
from standin import Standin
from world import MIRROR, SOURCE

PAGE = 1000
LOOK_SECONDS = 0.02  # of a HEAD at most
SECOND = 1_700_000_000  # when the sources were put, in seconds since the epoch; the copies are an hour younger
ETAG, SIZE = "0" * 32, 1024
KINDS = ("missing", "stale", "ghost")
EACH = 5  # keys of each kind


def nested(*counts: int, keys: int) -> dict[str, int]:
    """folder -> its keys: this many folders in each folder of every level, and keys in those of the last."""
    numbers = itertools.product(*(range(count) for count in counts))
    return {"".join(f"d{number:06d}/" for number in path): keys for path in numbers}


TREES = {
    "small": nested(12, keys=20) | {"flat/": 1500, "": 30},
    "million": nested(10, 10, 10, keys=1000),
    "10 million": nested(10, 10, 10, 10, keys=1000),
    "flat": nested(1, keys=300_000),
    "flat 20 million": nested(1, keys=20_000_000),
    "folders of 200": nested(1250, keys=200),
}


def put_tree(standin: Standin, folders: dict[str, int], is_equal: bool) -> None:
    """Both buckets, with EACH keys of each kind at even distances, or none of them."""
    shown = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(SECOND))
    copied_from = f"{ETAG} {shown} {SIZE} null 000000000000"
    source = {"size": SIZE, "etag": ETAG, "content": [], "modified": SECOND}
    standin.fill(SOURCE, folders, **source)
    provenance = {"x-amz-meta-sync-source": copied_from}
    standin.fill(MIRROR, folders, **source | {"headers": provenance, "modified": SECOND + 3600})
    total = sum(folders.values())
    for place, kind in enumerate(() if is_equal else KINDS * EACH):
        key = key_of(folders, (2 * place + 1) * total // (2 * EACH * len(KINDS)))
        if kind == "stale":
            standin.put(MIRROR, key, SIZE + 1, metadata={"sync-source": copied_from}, modified=SECOND + 3600)
        else:
            standin.delete(SOURCE if kind == "ghost" else MIRROR, key)


def key_of(folders: dict[str, int], position: int) -> str:
    for folder, count in folders.items():
        if position < count:
            return f"{folder}object-{position:09d}"
        position -= count
    raise IndexError(position)


# --- What is measured -------------------------------------------------------------------------------------------------

LARGEST = "flat 20 million"  # whose pages come one after the other
# What is run, and what its last line calls what the tree holds. A wait would never end if one key stayed missing.
COMMANDS = {
    "reconcile": (["reconcile", "--dry-run"], {"compared": SOURCE} | {kind: kind for kind in KINDS}),
    "measure": (["measure"], {"source_objects": SOURCE, "destination_objects": MIRROR}),
    "wait": (["wait", "--timeout", "3h"], {"keys": SOURCE, "here": SOURCE}),
    "deep": (["wait", "--deep", "--timeout", "3h"], {"keys": SOURCE, "here": SOURCE}),
}
OF_EQUAL = ("wait", "deep")


def measure(place: Place, name: str, arguments: argparse.Namespace) -> Row:
    command, page_ms, standin = arguments.command, 1000 * arguments.page_seconds, place.standin
    is_equal, keys = command in OF_EQUAL, sum(TREES[name].values())
    place.clear({"ListObjectsV2": page_ms, "HeadObject": min(1000 * LOOK_SECONDS, page_ms)})
    put_tree(standin, TREES[name], is_equal)
    standin.record()
    cpu_before = standin.stats()["cpu_seconds"]
    worker = place.start(*COMMANDS[command][0], log=f"{command}-{name}", TASK_MEMORY=str(arguments.task_memory))
    used = worker.finish()
    listed = [entry for entry in standin.requests("ListObjectsV2") if entry["query"].get("max-keys") != "1"]
    of_bucket = Counter(entry["bucket"] for entry in listed)
    pages = {"source pages": of_bucket[SOURCE], "destination pages": of_bucket[MIRROR]}
    return {
        "tree": name,
        "keys": str(keys),
        "page s": arguments.page_seconds,
        "seconds": used.seconds,
        "keys/s": keys / used.seconds,
        "CPU s": used.cpu_seconds,
        "stand-in CPU s": standin.stats()["cpu_seconds"] - cpu_before,
        "peak MiB": used.peak_mib,
        **pages,
        "times plain": max(pages.values()) / -(-keys // PAGE),
        "looks": place.requests()["HeadObject"],
        "told": ", ".join(differences(worker.last_words(), command, expected(keys, is_equal))) or "as it is",
    }


def expected(keys: int, is_equal: bool) -> Counter[str]:
    """The keys of each kind, and those of each side."""
    each = 0 if is_equal else EACH
    return Counter(dict.fromkeys(KINDS, each) | {SOURCE: keys - each, MIRROR: keys - each})


def differences(last_words: str, command: str, tree: Counter[str]) -> list[str]:
    """What the worker reported that the tree does not hold."""
    reported = dict(re.findall(r"(\w+)=(\d+)", last_words))
    wrong = []
    for name, what in COMMANDS[command][1].items():
        if reported.get(name) != str(tree[what]):
            wrong.append(f"{name}={reported.get(name)} instead of {tree[what]}")
    return wrong


def main() -> int:
    options = parser(__doc__, "walk", TREES)
    options.set_defaults(only=[name for name in TREES if name != LARGEST])
    options.add_argument("--command", choices=COMMANDS, default="reconcile", help="default: %(default)s")
    options.add_argument("--page-seconds", type=float, default=0.3, help="default: %(default)s")
    options.add_argument("--task-memory", type=int, default=4096, help="MiB, above which it refuses (%(default)s)")
    arguments = options.parse_args()
    with opened(arguments) as here:
        rows = measure_all(arguments, (measure(here, name, arguments) for name in arguments.only), table)
    return int(any(row["told"] != "as it is" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
