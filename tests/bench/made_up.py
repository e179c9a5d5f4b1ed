"""Two buckets of millions of keys, made up as they are asked for, and an HTTP server that lists them as S3 does, and
takes messages as SQS does.

    .venv/bin/python tests/bench/made_up.py million 0.3    the tree, and the seconds that a page takes
    .venv/bin/python tests/bench/made_up.py million 0.3 --equal --marker    a worker is sent the event of MARKER

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
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from email.utils import formatdate
from itertools import cycle
from urllib.parse import parse_qsl, unquote, urlsplit
from zlib import crc32

from movers import MIRROR, SOURCE

Numbers = range | list[int]
SIDES = {SOURCE: 0, MIRROR: 1}
PAGE = 1000
LOOK_SECONDS = 0.02  # of a HEAD at most
DAY = 86_400
FIRST = 1_700_000_000  # when the oldest source was put, in seconds since the epoch
KINDS = ("missing", "stale", "ghost")
EACH = 5  # keys of each kind
MARKER = "_SUCCESS"  # above all keys; no listing shows it


@dataclass(frozen=True, eq=False)
class Folder:
    keys: int = 0
    groups: "tuple[Group, ...]" = ()  # in the order of their names

    @functools.cached_property
    def totals(self) -> tuple[int, int]:
        """The keys below it, of each side."""
        source, mirror = (sum(g.count * g.folder.totals[side] for g in self.on(side)) for side in (0, 1))
        return self.keys + source, self.keys + mirror

    def on(self, side: int) -> "list[Group]":
        return [group for group in self.groups if side in group.sides]


@dataclass(frozen=True, eq=False)
class Group:
    """This many subfolders that look alike."""

    name: str
    count: int
    folder: Folder
    sides: tuple[int, ...] = (0, 1)


def nested(counts: list[int], keys: int) -> Folder:
    """This many folders in each folder of every level, and keys in those of the last."""
    return Folder(0, (Group("d", counts[0], nested(counts[1:], keys)),)) if counts else Folder(keys)


def chain(levels: int, keys: int) -> Folder:
    return Folder(keys, (Group("d", 1, chain(levels - 1, keys)),) if levels > 1 else ())


TREES = {
    "small": Folder(
        30, (Group("d", 12, Folder(20)), Group("flat", 1, Folder(1500)), Group("here", 1, Folder(7), (0,)))
    ),
    "100,000": nested([10, 10], 1000),
    "million": nested([10, 10, 10], 1000),
    "10 million": nested([10, 10, 10, 10], 1000),
    "flat": nested([1], 300_000),
    "one large": Folder(0, (Group("d", 10_000, Folder(1)), Group("large", 1, Folder(100_000)))),
    "flat 20 million": nested([1], 20_000_000),
    "50 levels": chain(50, 20_000),
    "single keys": nested([100_000], 1),
    "folders of 20": nested([20_000], 20),
    "folders of 200": nested([1250], 200),
    "none copied": Folder(0, (Group("here", 100, Folder(1000), (0,)),)),
    "one side": Folder(
        0, (Group("d", 98, Folder(1000)), Group("here", 1, Folder(1000), (0,)), Group("there", 1, Folder(1000), (1,)))
    ),
}


# --- What lies where --------------------------------------------------------------------------------------------------


def find(folder: Folder, prefix: str, side: int) -> Folder | None:
    """The folder of that name, which ends in "/", or is "" for the whole bucket."""
    for part in prefix.split("/")[:-1]:
        number = number_in(part)
        named = [group for group in folder.on(side) if part == folder_name(group, number)]
        if not named or number >= named[0].count:
            return None
        folder = named[0].folder
    return folder


def folder_name(group: Group, number: int) -> str:
    return f"{group.name}{number:06d}"


def number_in(name: str) -> int:
    """Of a subfolder or a key."""
    return int("".join(filter(str.isdigit, name)) or "-1")


def runs(folder: Folder, side: int, name: str, first: int, last: int, deep: bool) -> Iterator[tuple[str, Numbers]]:
    """The entries number `first` to `last` of a folder, as that side lists them: a folder and the numbers of keys in
    it, or without `deep` also a subfolder and no numbers."""
    start = 0
    groups: list[Group | None] = [*folder.on(side), None]  # the folder's own keys are the last by name
    for group in groups if side == 0 else reversed(groups):
        count, each = (group.count, group.folder.totals[side] if deep else 1) if group else (folder.keys, 1)
        if not count or not each:
            continue
        low, high = max(0, (first - start) // each), min(count, -((start - last) // each))
        numbers = range(low, high) if side == 0 else range(count - 1 - low, count - 1 - high, -1)
        if group is None:
            if numbers:
                yield name, numbers
        else:
            for place, number in enumerate(numbers, low):
                inner, begin = f"{name}{folder_name(group, number)}/", start + place * each
                if deep:
                    yield from runs(group.folder, side, inner, max(0, first - begin), min(each, last - begin), deep)
                else:
                    yield inner, []
        start += count * each


def of_both_sides(folder: Folder) -> Folder:
    kept = (group for group in folder.groups if group.sides == (0, 1))
    return Folder(folder.keys, tuple(Group(group.name, group.count, of_both_sides(group.folder)) for group in kept))


class Tree:
    """Both buckets, with EACH keys of each kind at even distances, and folders of one side. With `is_equal` neither."""

    def __init__(self, root: Folder, is_equal: bool = False) -> None:
        self.root = root = of_both_sides(root) if is_equal else root
        total = root.totals[0]
        self.kinds: dict[str, dict[int, str]] = {}  # folder -> number of a key -> its kind
        for place, kind in zip(range(0 if is_equal else EACH * len(KINDS)), cycle(KINDS), strict=False):
            position = (2 * place + 1) * total // (2 * EACH * len(KINDS))
            ((name, numbers),) = runs(root, 0, "", position, position + 1, deep=True)
            if find(root, name, 1):
                self.kinds.setdefault(name, {})[numbers[0]] = kind

    def expected(self) -> Counter[str]:
        """The keys of each kind, and those of each side."""
        found = Counter(kind for kinds in self.kinds.values() for kind in kinds.values())
        source, mirror = self.root.totals
        keys = {SOURCE: source - found["ghost"], MIRROR: mirror - found["missing"]}
        only = [totals_of_one_side(self.root, side) for side in (0, 1)]
        return found + Counter({"missing": only[0], "ghost": only[1], **keys})

    def has(self, side: int, name: str, number: int) -> bool:
        return self.kinds.get(name, {}).get(number) != ("ghost", "missing")[side]

    def shown(self, side: int, name: str, number: int) -> tuple[str, int, int]:
        """ETag, size, and when it was put. A copy is an hour younger; a stale one has another size."""
        mixed = crc32(name.encode())
        is_stale = side == 1 and self.kinds.get(name, {}).get(number) == "stale"
        size, modified = 1 + (mixed + number) % 100_000, FIRST + (mixed + 37 * number) % DAY
        return f"{mixed:08x}{number:024x}", size + 100_000 * is_stale, modified + 3600 * side


def totals_of_one_side(folder: Folder, side: int) -> int:
    """The keys that only that side has."""
    here = folder.on(side)
    own = sum(group.count * group.folder.totals[side] for group in here if group.sides == (side,))
    return own + sum(group.count * totals_of_one_side(group.folder, side) for group in here if group.sides == (0, 1))


# --- The answers of S3 ------------------------------------------------------------------------------------------------

TIMES = [time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(FIRST + second)) for second in range(DAY + 3600)]


def list_page(tree: Tree, side: int, query: dict[str, str]) -> str:
    prefix, first, limit = query.get("prefix", ""), int(query.get("continuation-token", "0"), 16), PAGE
    folder, rows, prefixes, total = find(tree.root, prefix, side), [], [], 0
    if folder:
        deep = "delimiter" not in query
        total = folder.totals[side] if deep else folder.keys + sum(group.count for group in folder.on(side))
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


def rows_of(tree: Tree, side: int, name: str, numbers: Numbers) -> list[str]:
    if name in tree.kinds:
        numbers = [number for number in numbers if tree.has(side, name, number)]
        return [row(name, number, *tree.shown(side, name, number)) for number in numbers]
    # shown() without its calls, as this is most of what the server does
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
    folder = find(tree.root, name, side)
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


class Marker:
    """An object of the source that may be copied, and the message on it: headers of both sides."""

    def __init__(self, is_sent: bool) -> None:
        self.source = {"content-length": "1", "etag": '"1"', "last-modified": formatdate(FIRST, usegmt=True)}
        self.copy: dict[str, str] | None = None
        what = {"bucket": {"name": SOURCE}, "object": {"key": MARKER}}
        event = {"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": what}]}
        attributes = {"ApproximateReceiveCount": "1"}
        message = {"MessageId": "made-up", "ReceiptHandle": "made-up", "Attributes": attributes}
        self.messages = [message | {"Body": json.dumps(event)}] if is_sent else []

    def put(self, head: str) -> str:
        provenance = re.search(r"(?i)\nx-amz-meta-sync-source: *([^\r]*)", head)
        self.copy = self.source | ({"x-amz-meta-sync-source": provenance[1]} if provenance else {})
        return f"<CopyObjectResult><ETag>&quot;1&quot;</ETag><LastModified>{TIMES[0]}</LastModified></CopyObjectResult>"

    def shown(self, side: int) -> dict[str, str] | None:
        return self.copy if side else self.source


class Server:
    def __init__(self, tree: Tree, page_seconds: float, has_marker: bool = False) -> None:
        self.tree = tree
        self.page_seconds = page_seconds
        self.marker = Marker(has_marker)
        self.requests: Counter[str] = Counter()  # pages by bucket, and other operations

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, for as long as the client keeps it."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = re.search(r"(?i)\ncontent-length: *(\d+)", head)
                body = await reader.readexactly(int(length[1])) if length else b""
                method, target, _ = head.split(" ", 2)
                writer.write(await (self.take(head, body) if method == "POST" else self.answer(head, method, target)))
                await writer.drain()
        writer.close()

    async def answer(self, head: str, method: str, target: str) -> bytes:
        url = urlsplit(target)
        bucket, _, key = unquote(url.path).lstrip("/").partition("/")
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        if method == "HEAD" and key:
            self.requests["HeadObject"] += 1
            await asyncio.sleep(min(LOOK_SECONDS, self.page_seconds))
            shown = self.marker.shown(SIDES[bucket]) if key == MARKER else head_object(self.tree, SIDES[bucket], key)
            return answer_of("200 OK", shown) if shown else answer_of("404 Not Found", {"content-length": "0"})
        if method == "GET" and "session" in query:
            return answer_of("200 OK", {}, SESSION)
        if method == "GET" and "list-type" in query and not key:
            self.requests[bucket if query.get("max-keys") != "1" else "probe"] += 1
            await asyncio.sleep(self.page_seconds)
            return answer_of("200 OK", {}, list_page(self.tree, SIDES[bucket], query))
        if method == "PUT" and key == MARKER:
            self.requests["CopyObject"] += 1
            return answer_of("200 OK", {}, self.marker.put(head))
        return answer_of(
            "501 Not Implemented", {}, f"<Error><Code>NotImplemented</Code><Message>{method}</Message></Error>"
        )

    async def take(self, head: str, body: bytes) -> bytes:
        """SendMessageBatch, or what a worker asks for about the one message that there is."""
        operation = re.search(r"(?i)\nx-amz-target: *AmazonSQS\.(\w+)", head)
        name, call = operation[1] if operation else "", json.loads(body)
        self.requests[name] += 1
        if name == "ReceiveMessage":
            messages, self.marker.messages = self.marker.messages, []
            await asyncio.sleep(0 if messages else call["WaitTimeSeconds"])
            return answer_of("200 OK", {}, json.dumps({"Messages": messages}))
        entries = call["Entries"]
        if name != "SendMessageBatch":
            return answer_of("200 OK", {}, json.dumps({"Successful": [{"Id": entry["Id"]} for entry in entries]}))
        self.requests["keys sent"] += sum(len(json.loads(entry["MessageBody"])["Records"]) for entry in entries)
        await asyncio.sleep(min(LOOK_SECONDS, self.page_seconds))
        taken = [{"Id": entry["Id"], "MessageId": "made-up"} for entry in entries]
        return answer_of("200 OK", {}, json.dumps({"Successful": taken}))

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("tree", choices=TREES)
    parser.add_argument("page_seconds", type=float)
    parser.add_argument("--equal", action="store_true", help="no key is missing, stale or a ghost")
    parser.add_argument("--marker", action="store_true", help="a message of the queue is about a marker above all keys")
    arguments = parser.parse_args()
    tree = Tree(TREES[arguments.tree], arguments.equal)
    asyncio.run(Server(tree, arguments.page_seconds, arguments.marker).run())


if __name__ == "__main__":
    main()
