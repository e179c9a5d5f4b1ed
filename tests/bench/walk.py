"""worker.py reconcile, wait or measure on buckets of millions of keys that a server makes up: time, memory, requests.

    .venv/bin/python tests/bench/walk.py                          all trees but the largest: half an hour
    .venv/bin/python tests/bench/walk.py --only "flat 20 million" --page-seconds 0
    .venv/bin/python tests/bench/walk.py --only "flat 20 million" --page-seconds 0 --task-memory 1024     refused
    .venv/bin/python tests/bench/walk.py --only small --page-seconds 0
    .venv/bin/python tests/bench/walk.py --only "folders of 200" --command deep --task-memory 300

The server (made_up.py) is a process of its own. Its pages take as long as S3's, and its CPU time, which shares the
machine with the worker, is shown beside. A plain listing takes a page for each thousand keys: `times plain` is the
factor of that. Status 1 if a number that the worker reports is not what the tree holds.
"""

import argparse
import asyncio
import json
import re
import signal
import sys

from core import CREDENTIALS, INHERITED, SETTINGS, Row, measure_all, opened, parser, start, table
from made_up import KINDS, PAGE, TREES, Server, Tree
from world import MIRROR, SOURCE

LARGEST = "flat 20 million"  # whose pages come one after the other
# What is run, and what its last line calls what the tree holds. A wait would never end if one key stayed missing.
COMMANDS = {
    "reconcile": (["reconcile", "--dry-run"], {"compared": SOURCE} | {kind: kind for kind in KINDS}),
    "measure": (["measure"], {"source_objects": SOURCE, "destination_objects": MIRROR}),
    "wait": (["wait", "--timeout", "3h"], {"keys": SOURCE, "here": SOURCE}),
    "deep": (["wait", "--deep", "--timeout", "3h"], {"keys": SOURCE, "here": SOURCE}),
}
OF_EQUAL = ("wait", "deep")


def measure(name: str, arguments: argparse.Namespace) -> Row:
    tree = Tree(TREES[name], arguments.command in OF_EQUAL)
    command, page_seconds = arguments.command, str(arguments.page_seconds)
    serve = [sys.executable, __file__, "--only", name, "--command", command, "--page-seconds", page_seconds, "--serve"]
    server = start(serve, INHERITED, arguments.output / "server.log")
    server.wait_for(lambda: "port" in server.last_words(), 60)
    url = f"http://127.0.0.1:{json.loads(server.last_words())['port']}"
    environment = INHERITED | CREDENTIALS | SETTINGS | {"AWS_ENDPOINT_URL": url, "QUEUE_URL": f"{url}/0/sync-q"}
    environment |= {"TASK_MEMORY": str(arguments.task_memory)}
    program = [sys.executable, str(arguments.worker), *COMMANDS[command][0]]
    worker = start(program, environment, arguments.output / f"{command}-{name}.log")
    used = worker.finish()
    server.signal(signal.SIGTERM)
    server_used, requests = server.finish(), json.loads(server.last_words())
    keys, looks = tree.root.total, requests.get("HeadObject", 0)
    pages = {what: requests.get(side, 0) for what, side in (("source pages", SOURCE), ("destination pages", MIRROR))}
    return {
        "tree": name,
        "keys": str(keys),
        "page s": arguments.page_seconds,
        "seconds": used.seconds,
        "keys/s": keys / used.seconds,
        "CPU s": used.cpu_seconds,
        "server CPU s": server_used.cpu_seconds,
        "peak MiB": used.peak_mib,
        **pages,
        "times plain": max(pages.values()) / -(-keys // PAGE),
        "looks": looks,
        "told": ", ".join(differences(worker.last_words(), command, tree)) or "as it is",
    }


def differences(last_words: str, command: str, tree: Tree) -> list[str]:
    """What the worker reported that the tree does not hold."""
    told = dict(re.findall(r"(\w+)=(\d+)", last_words))
    right = {name: tree.expected()[what] for name, what in COMMANDS[command][1].items()}
    return [f"{name}={told.get(name)} instead of {n}" for name, n in right.items() if told.get(name) != str(n)]


def main() -> int:
    options = parser(__doc__, "walk", TREES)
    options.set_defaults(only=[name for name in TREES if name != LARGEST])
    options.add_argument("--command", choices=COMMANDS, default="reconcile", help="default: %(default)s")
    options.add_argument("--page-seconds", type=float, default=0.3, help="default: %(default)s")
    options.add_argument("--task-memory", type=int, default=4096, help="MiB, above which it refuses (%(default)s)")
    options.add_argument("--serve", action="store_true", help="be the server of one tree")
    arguments = options.parse_args()
    if arguments.serve:
        tree = Tree(TREES[arguments.only[0]], arguments.command in OF_EQUAL)
        asyncio.run(Server(tree, arguments.page_seconds).run())
        return 0
    with opened(arguments):
        rows = measure_all(arguments, (measure(name, arguments) for name in arguments.only), table)
    return int(any(row["told"] != "as it is" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
