"""worker.py reconcile, wait or measure, or a marker, on buckets of millions of keys that a server makes up: time,
memory, requests.

    .venv/bin/python tests/bench/walk.py                          all trees but the largest: half an hour
    .venv/bin/python tests/bench/walk.py --only "flat 20 million" --page-seconds 0
    .venv/bin/python tests/bench/walk.py --only "flat 20 million" --page-seconds 0 --task-memory 1024     refused
    .venv/bin/python tests/bench/walk.py --only small --page-seconds 0
    .venv/bin/python tests/bench/walk.py --only "none copied" --command backfill
    .venv/bin/python tests/bench/walk.py --only "single keys" --command marker      of all keys
    .venv/bin/python tests/bench/walk.py --only "folders of 20" --command deep --task-memory 300
    .venv/bin/python tests/bench/walk.py --only 100,000 --worker ../other/worker.py      of another checkout

The server (made_up.py) is a process of its own. Its pages take as long as S3's, and its CPU time, which shares the
machine with the worker, is shown beside. A plain listing takes a page for each thousand keys: `times plain` is the
factor of that. Status 1 if a number that the worker reports is not what the tree holds.
"""

import argparse
import json
import re
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from made_up import MARKER, PAGE, TREES, Tree
from measure import Usage, finish, start, stop_all, wait_for
from movers import CREDENTIALS, MIRROR, PROJECT, SOURCE, WORKER_SETTINGS
from processes import inherited
from rows import aligned, number

SERVER = Path(__file__).with_name("made_up.py")
TIMEOUT = 3 * 3600
LARGEST = "flat 20 million"  # whose pages come one after the other
COMMANDS = {
    "reconcile": ["reconcile", "--dry-run"],
    "backfill": ["reconcile"],
    "measure": ["measure"],
    "wait": ["wait", "--timeout", f"{TIMEOUT}s"],
    "deep": ["wait", "--deep", "--timeout", f"{TIMEOUT}s"],
    "marker": [],
}
# All keys are equal, because it would never end if one stayed missing.
OF_EQUAL = ("wait", "deep", "marker")
# What a command's last line calls what the tree holds.
TOLD = {
    "reconcile": {"compared": SOURCE, "missing": "missing", "stale": "stale", "ghost": "ghost"},
    "backfill": {"compared": SOURCE, "missing": "missing", "stale": "stale", "ghost": "ghost"},
    "measure": {"source_objects": SOURCE, "destination_objects": MIRROR},
    "wait": {"keys": SOURCE, "here": SOURCE},
    "deep": {"keys": SOURCE, "here": SOURCE},
    "marker": {"copied": MARKER},
}
HEADINGS = [
    "tree", "keys", "page s", "seconds", "keys/s", "CPU s", "server CPU s", "peak MiB",
    "source pages", "times plain", "destination pages", "times plain", "looks", "told",
]  # fmt: skip


@dataclass(frozen=True)
class Run:
    worker: Usage
    server: Usage
    requests: dict[str, int]
    last_words: str


def run(name: str, command: str, worker: Path, page_seconds: float, task_memory: int, directory: Path) -> Run:
    settings = (["--equal"] if command in OF_EQUAL else []) + (["--marker"] if command == "marker" else [])
    server = start(
        [sys.executable, str(SERVER), name, str(page_seconds), *settings], inherited(), directory / "server.log"
    )
    assert wait_for(lambda: "port" in server.last_words(), server, 60), server.last_words()
    url = f"http://127.0.0.1:{json.loads(server.last_words())['port']}"
    environment = inherited() | CREDENTIALS | WORKER_SETTINGS
    environment |= {"AWS_ENDPOINT_URL": url, "QUEUE_URL": f"{url}/000000000000/sync-q"}
    environment |= {"TASK_MEMORY": str(task_memory)} | ({"COPY_LAST": MARKER} if command == "marker" else {})
    running = start([sys.executable, str(worker), *COMMANDS[command]], environment, directory / f"{command}-{name}.log")
    usage = finish(running, TIMEOUT)
    server.process.terminate()
    return Run(usage, finish(server, TIMEOUT), json.loads(server.last_words()), running.last_words())


def differences(last_words: str, command: str, tree: Tree) -> list[str]:
    """What the worker reported that the tree does not hold."""
    expected = tree.expected() + Counter({MARKER: 1})
    told = dict(re.findall(r"(\w+)=(\d+)", last_words))
    wrong = {name: expected[what] for name, what in TOLD[command].items() if told.get(name) != str(expected[what])}
    return [f"{name}={told.get(name)} instead of {right}" for name, right in wrong.items()]


def row_of(name: str, command: str, page_seconds: float, run: Run) -> list[str]:
    tree = Tree(TREES[name], is_equal=command in OF_EQUAL)
    totals = dict(zip((SOURCE, MIRROR), tree.root.totals, strict=True))
    pages = [run.requests.get(side, 0) for side in totals]
    factors = [f"{made / max(1, -(-totals[side] // PAGE)):.2f}" for side, made in zip(totals, pages, strict=True)]
    used = run.worker.cpu_seconds, run.server.cpu_seconds, run.worker.peak_mib
    wrong = differences(run.last_words, command, tree)
    return [
        name, str(max(totals.values())), number(page_seconds), number(run.worker.seconds),
        f"{max(totals.values()) / run.worker.seconds:.0f}", *map(number, used),
        str(pages[0]), factors[0], str(pages[1]), factors[1], str(run.requests.get("HeadObject", 0)),
        ", ".join(wrong) or "as it is",
    ]  # fmt: skip


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", choices=TREES, action="append", help=f"default: all but {LARGEST}")
    parser.add_argument("--command", choices=COMMANDS, default="reconcile", help="default: %(default)s")
    parser.add_argument("--page-seconds", type=float, default=0.3, help="default: %(default)s")
    parser.add_argument("--task-memory", type=int, default=4096, help="MiB, above which it refuses (%(default)s)")
    parser.add_argument("--worker", type=Path, default=PROJECT / "worker.py", help="default: that of this checkout")
    parser.add_argument("--output", type=Path, default=PROJECT / ".cache/bench/walk", help="for the logs")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    arguments.output.mkdir(parents=True, exist_ok=True)
    rows = [HEADINGS]
    try:
        for name in arguments.only or [name for name in TREES if name != LARGEST]:
            ended = run(
                name, arguments.command, arguments.worker, arguments.page_seconds, arguments.task_memory,
                arguments.output,
            )  # fmt: skip
            rows.append(row_of(name, arguments.command, arguments.page_seconds, ended))
            print(*rows[-1], ended.last_words, sep="  ", file=sys.stderr, flush=True)
    finally:
        stop_all()
    print(aligned(rows))
    return int(any(row[-1] != "as it is" for row in rows[1:]))


if __name__ == "__main__":
    sys.exit(main())
