"""worker.py reconcile, wait or measure on buckets of millions of keys that a server makes up: time, memory, requests.

    .venv/bin/python tests/bench/walk.py                          all trees but the largest: half an hour
    .venv/bin/python tests/bench/walk.py --only "flat 20 million" --page-seconds 0
    .venv/bin/python tests/bench/walk.py --only "flat 20 million" --page-seconds 0 --task-memory 1024     refused
    .venv/bin/python tests/bench/walk.py --only small --page-seconds 0
    .venv/bin/python tests/bench/walk.py --only "folders of 200" --command deep --task-memory 300

The server is a process of its own. Its pages take as long as S3's, and its CPU time, which shares the machine with the
worker, is shown beside. A plain listing takes a page for each thousand keys: `times plain` is the
factor of that. Status 1 if a number that the worker reports is not what the tree holds.

It keeps no keys: which ones lie below a folder, and all that a listing shows of them, follows from their numbers. The
source is listed in order. The destination goes through the same folders, depth first, from the last to the first, and
through the keys of each from the last to the first, so that those of a folder match as late as they can.
"""

import argparse
import asyncio
import functools
import json
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from email.utils import formatdate
from itertools import cycle
from urllib.parse import parse_qsl, unquote, urlsplit
from zlib import crc32

from core import CREDENTIALS, INHERITED, SETTINGS, Row, measure_all, opened, parser, start, table
from world import MIRROR, SOURCE

# --- What there is ----------------------------------------------------------------------------------------------------

SIDES = {SOURCE: 0, MIRROR: 1}
PAGE = 1000
LOOK_SECONDS = 0.02  # of a HEAD at most
DAY = 86_400
FIRST = 1_700_000_000  # when the oldest source was put, in seconds since the epoch
KINDS = ("missing", "stale", "ghost")
EACH = 5  # keys of each kind
TIMES = [time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(FIRST + second)) for second in range(DAY + 3600)]


@dataclass(frozen=True, eq=False)
class Folder:
    keys: int = 0
    groups: "tuple[Group, ...]" = ()  # in the order of their names

    @functools.cached_property
    def total(self) -> int:
        """The keys below it."""
        return self.keys + sum(group.count * group.folder.total for group in self.groups)


@dataclass(frozen=True, eq=False)
class Group:
    """This many subfolders that look alike."""

    name: str
    count: int
    folder: Folder


def nested(counts: list[int], keys: int) -> Folder:
    """This many folders in each folder of every level, and keys in those of the last."""
    return Folder(0, (Group("d", counts[0], nested(counts[1:], keys)),)) if counts else Folder(keys)


TREES = {
    "small": Folder(30, (Group("d", 12, Folder(20)), Group("flat", 1, Folder(1500)))),
    "million": nested([10, 10, 10], 1000),
    "10 million": nested([10, 10, 10, 10], 1000),
    "flat": nested([1], 300_000),
    "flat 20 million": nested([1], 20_000_000),
    "folders of 200": nested([1250], 200),
}


# --- What lies where --------------------------------------------------------------------------------------------------


def find(folder: Folder, prefix: str) -> Folder | None:
    """The folder of that name, which ends in "/", or is "" for the whole bucket."""
    for part in prefix.split("/")[:-1]:
        number = number_in(part)
        named = [group for group in folder.groups if part == f"{group.name}{number:06d}" and number < group.count]
        if not named:
            return None
        folder = named[0].folder
    return folder


def number_in(name: str) -> int:
    """Of a subfolder or a key."""
    return int("".join(filter(str.isdigit, name)) or "-1")


def runs(folder: Folder, side: int, name: str, first: int, last: int, deep: bool) -> Iterator[tuple[str, range]]:
    """The entries number `first` to `last` of a folder, as that side lists them: a folder and the numbers of keys in
    it, or without `deep` also a subfolder and no numbers."""
    start = 0
    groups: list[Group | None] = [*folder.groups, None]  # the folder's own keys are the last by name
    for group in groups if side == 0 else reversed(groups):
        count, each = (group.count, group.folder.total if deep else 1) if group else (folder.keys, 1)
        low, high = max(0, (first - start) // each), min(count, -((start - last) // each))
        numbers = range(low, high) if side == 0 else range(count - 1 - low, count - 1 - high, -1)
        if group is None and numbers:
            yield name, numbers
        for place, number in enumerate(numbers if group else (), low):
            assert group
            inner, begin = f"{name}{group.name}{number:06d}/", start + place * each
            if deep:
                yield from runs(group.folder, side, inner, max(0, first - begin), min(each, last - begin), deep)
            else:
                yield inner, range(0)
        start += count * each


class Tree:
    """Both buckets, with EACH keys of each kind at even distances, or none of them with `is_equal`."""

    def __init__(self, root: Folder, is_equal: bool = False) -> None:
        self.root = root
        self.kinds: dict[str, dict[int, str]] = {}  # folder -> number of a key -> its kind
        for place, kind in zip(range(0 if is_equal else EACH * len(KINDS)), cycle(KINDS), strict=False):
            position = (2 * place + 1) * root.total // (2 * EACH * len(KINDS))
            ((name, numbers),) = runs(root, 0, "", position, position + 1, deep=True)
            self.kinds.setdefault(name, {})[numbers[0]] = kind

    def expected(self) -> Counter[str]:
        """The keys of each kind, and those of each side."""
        found = Counter(kind for kinds in self.kinds.values() for kind in kinds.values())
        total = self.root.total
        return found + Counter({SOURCE: total - found["ghost"], MIRROR: total - found["missing"]})

    def has(self, side: int, name: str, number: int) -> bool:
        return self.kinds.get(name, {}).get(number) != ("ghost", "missing")[side]

    def shown(self, side: int, name: str, number: int) -> tuple[str, int, int]:
        """ETag, size, and when it was put. A copy is an hour younger; a stale one has another size."""
        mixed = crc32(name.encode())
        is_stale = side == 1 and self.kinds.get(name, {}).get(number) == "stale"
        size, modified = 1 + (mixed + number) % 100_000, FIRST + (mixed + 37 * number) % DAY
        return f"{mixed:08x}{number:024x}", size + 100_000 * is_stale, modified + 3600 * side


# --- The answers of S3 ------------------------------------------------------------------------------------------------


def list_page(tree: Tree, side: int, query: dict[str, str]) -> str:
    prefix, first, limit = query.get("prefix", ""), int(query.get("continuation-token", "0"), 16), PAGE
    folder, rows, prefixes, total = find(tree.root, prefix), [], [], 0
    if folder:
        deep = "delimiter" not in query
        total = folder.total if deep else folder.keys + sum(group.count for group in folder.groups)
        limit = min(limit, int(query.get("max-keys", limit)))
        for name, numbers in runs(folder, side, prefix, first, min(total, first + limit), deep):
            rows += rows_of(tree, side, name, numbers)
            prefixes += [] if numbers else [f"<CommonPrefixes><Prefix>{name}</Prefix></CommonPrefixes>"]
    is_truncated = first + limit < total
    token = f"<NextContinuationToken>{first + limit:x}</NextContinuationToken>" if is_truncated else ""
    return (
        f"<ListBucketResult><Name>{side}</Name><Prefix>{prefix}</Prefix><MaxKeys>{limit}</MaxKeys>"
        f"<KeyCount>{len(rows) + len(prefixes)}</KeyCount><IsTruncated>{str(is_truncated).lower()}</IsTruncated>"
        f"<EncodingType>url</EncodingType>{token}{''.join(rows)}{''.join(prefixes)}</ListBucketResult>"
    )


def rows_of(tree: Tree, side: int, name: str, numbers: range) -> list[str]:
    if name in tree.kinds:
        held = [number for number in numbers if tree.has(side, name, number)]
        return [row(name, number, *tree.shown(side, name, number)) for number in held]
    # shown() and row() without their calls, as this is most of what the server does
    mixed, later = crc32(name.encode()), 3600 * side
    return [
        f"<Contents><Key>{name}object-{number:09d}</Key>"
        f"<LastModified>{TIMES[(mixed + 37 * number) % DAY + later]}</LastModified>"
        f"<ETag>&quot;{mixed:08x}{number:024x}&quot;</ETag><Size>{1 + (mixed + number) % 100_000}</Size>"
        "<StorageClass>STANDARD</StorageClass></Contents>"
        for number in numbers
    ]


def row(name: str, number: int, etag: str, size: int, modified: int) -> str:
    return (
        f"<Contents><Key>{name}object-{number:09d}</Key><LastModified>{TIMES[modified - FIRST]}</LastModified>"
        f"<ETag>&quot;{etag}&quot;</ETag><Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
    )


def head_object(tree: Tree, side: int, key: str) -> dict[str, str] | None:
    """The headers of the answer; None without such a key. A copy says what it was made from, but for the end, which no
    listing shows."""
    name, number = key[: key.rfind("/") + 1], number_in(key[key.rfind("/") + 1 :])
    folder = find(tree.root, name)
    if not folder or not 0 <= number < folder.keys or not tree.has(side, name, number):
        return None
    etag, size, modified = tree.shown(side, name, number)
    provenance = {"x-amz-meta-sync-source": f"{etag} {TIMES[modified - 3600 - FIRST]} {size} null 000000000000"}
    shown = {"content-length": str(size), "etag": f'"{etag}"', "last-modified": formatdate(modified, usegmt=True)}
    return shown | (provenance if side == 1 else {})


SESSION = (
    "<CreateSessionResult><Credentials><AccessKeyId>made-up</AccessKeyId><SecretAccessKey>made-up</SecretAccessKey>"
    "<SessionToken>made-up</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>"
    "</CreateSessionResult>"
)


class Server:
    def __init__(self, tree: Tree, page_seconds: float) -> None:
        self.tree = tree
        self.page_seconds = page_seconds
        self.requests: Counter[str] = Counter()  # pages by bucket, and other operations

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until the client closes it."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = re.search(r"(?i)\ncontent-length: *(\d+)", head)
                await reader.readexactly(int(length[1]) if length else 0)
                method, target, _ = head.split(" ", 2)
                writer.write(await self.answer(method, target))
                await writer.drain()
        writer.close()

    async def answer(self, method: str, target: str) -> bytes:
        url = urlsplit(target)
        bucket, _, key = unquote(url.path).lstrip("/").partition("/")
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        if method == "HEAD" and key:
            self.requests["HeadObject"] += 1
            await asyncio.sleep(min(LOOK_SECONDS, self.page_seconds))
            shown = head_object(self.tree, SIDES[bucket], key)
            return answer_of("200 OK", shown) if shown else answer_of("404 Not Found", {"content-length": "0"})
        if method == "GET" and "session" in query:
            return answer_of("200 OK", {}, SESSION)
        if method == "GET" and "list-type" in query and not key:
            self.requests[bucket if query.get("max-keys") != "1" else "probe"] += 1
            await asyncio.sleep(self.page_seconds)
            return answer_of("200 OK", {}, list_page(self.tree, SIDES[bucket], query))
        return answer_of(
            "501 Not Implemented", {}, f"<Error><Code>NotImplemented</Code><Message>{method}</Message></Error>"
        )

    async def run(self) -> None:
        """Until SIGTERM. Prints its port at the beginning, and what it was asked for at the end."""
        ended = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0, backlog=1024)
        print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
        await ended.wait()
        print(json.dumps(self.requests), flush=True)


def answer_of(status: str, headers: dict[str, str], body: str = "") -> bytes:
    length = {"content-length": str(len(body))} if body else {}
    lines = {"date": formatdate(usegmt=True), "content-type": "application/xml"} | headers | length
    return "\r\n".join(
        [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in lines.items()), "", body]
    ).encode()


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
