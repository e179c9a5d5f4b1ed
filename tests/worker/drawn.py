"""Two buckets drawn at random, what is wrong with them, and a command that reads them on a clock of its own."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from datetime import UTC, datetime
from email.utils import format_datetime
from itertools import count
from typing import Any, NamedTuple
from urllib.parse import unquote_plus
from zlib import crc32

from botocore.exceptions import ClientError, ReadTimeoutError
from fakes import ENVIRONMENT
from invocations import LastingClient, Loop

from mirror.cli import parse_arguments
from mirror.concurrency import Slots
from mirror.protocol.attempt import Interruption
from mirror.protocol.buckets import Buckets
from mirror.protocol.objects import PROVENANCE, source_from_head
from mirror.queue.messages import Queue
from mirror.readers.completeness import Budget
from mirror.readers.listing import Listings
from mirror.readers.measure import Measure, MeasureArguments
from mirror.readers.reconcile import ReconcileArguments, Reconciliation
from mirror.readers.wait import WaitArguments, wait
from mirror.settings import load_settings

DAY = 86_400
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)  # of the keys of a bucket of its own
START = round(time.time() / DAY) * DAY  # of each command: the nearest midnight, as some ages are by the real clock
AGES = 90, DAY // 10, 3 * DAY, 7 * DAY, 7 * DAY + 1, 8 * DAY, 8 * DAY + 1, 20 * DAY, 40 * DAY
DELAYS = -100, 0, 1, 600, 905, 906, 1800, DAY  # of a copy, after its source; 900 + 5 may be of the version before
SOURCE, DESTINATION, QUEUE = 0, 1, 2
# When a key changes: before its first or second look, its deletion, or then.
LOOK, AGAIN, DELETE, LATE = "look", "again", "delete", "late"
FOLDERS = ("", "a/", "a/b/", "a/b//c/", "a/_t/", "/", "b/x y/", "ü/", "b/\u2028/")
NAMES = ("{}", "{}", "{}.tmp", "{}.tmp", "{} +&%€", '"{}"', "b{}\n")
PREFIXES = ("", "", "", "a/", "a/b", "a/,b/x y/", "ü/,a/b/")
EXCLUDES = ("", "*.tmp", "*.tmp,*/_t/*")
CLASSES = (("GLACIER", True), ("GLACIER", False), ("INTELLIGENT_TIERING", True), ("INTELLIGENT_TIERING", False))
DENIED = {"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {"HTTPStatusCode": 403}}


# A bucket, page by page


def entry_of(key: str) -> dict[str, Any]:
    return {"Size": len(key), "LastModified": MOMENT, "ETag": '"e"'}


class Bucket:
    """Lists its keys as S3 does: sorted, or as a directory bucket does, folder by folder in an order of its own. No
    listing is remembered: a token says after which name it goes on. `repeated` are keys that a listing shows twice."""

    def __init__(
        self,
        keys: Iterable[str],
        page: int,
        is_directory: bool = False,
        seed: int = 0,
        entry: Callable[[str], dict[str, Any]] = entry_of,
    ) -> None:
        self.keys = set(keys)
        self.is_directory = is_directory
        self.page = page
        self.seed = seed
        self.entry = entry
        self.repeated: frozenset[str] = frozenset()
        self.chance = random.Random(seed)
        self.requests = 0
        self.under_way = self.most_at_once = 0  # listings
        self.change([])

    def change(self, keys: Iterable[str]) -> None:
        """Deletes those of the keys that are there, and puts the others."""
        self.keys ^= set(keys)
        self.names: dict[str, dict[str, None]] = {"": {}}  # folder -> keys and folders directly in it
        for key in sorted(self.keys):
            start = 0
            while (end := key.find("/", start)) >= 0:
                self.names.setdefault(key[:start], {})[key[: end + 1]] = None
                start = end + 1
            self.names.setdefault(key[:start], {})[key] = None
        self.answers: dict[tuple[str, str], list[str]] = {}

    def rows(self, prefix: str, delimiter: str) -> list[str]:
        """Keys, and with the delimiter also common prefixes, which are those that are in self.names."""
        assert not self.is_directory or prefix.endswith("/") or not prefix, prefix
        if (prefix, delimiter) not in self.answers:
            folder = prefix[: prefix.rfind("/") + 1]
            found = [name for name in self.names.get(folder, ()) if name.startswith(prefix)]
            if self.is_directory:
                found.sort(key=functools.partial(self.rank, delimiter))
            found += [name for name in found if name in self.repeated]
            if not delimiter:
                below = (self.rows(name, "") if self.is_folder(name, prefix) else [name] for name in found)
                found = [name for names in below for name in names]
            self.answers[prefix, delimiter] = found if self.is_directory else sorted(found)
        return self.answers[prefix, delimiter]

    def is_folder(self, name: str, prefix: str) -> bool:
        return name in self.names and name != prefix

    def rank(self, delimiter: str, name: str) -> tuple[int, str]:
        """Where it comes among those of its folder, in a directory bucket."""
        return crc32(f"{self.seed}{delimiter}{name}".encode()), name

    def place(self, delimiter: str, name: str) -> list[Any]:
        """Where it comes in a listing."""
        if not self.is_directory:
            return [name]
        folders = [name[: match.end()] for match in re.finditer("/", name)]
        return [self.rank(delimiter, each) for each in (*folders, name)]

    def list(self, parameters: dict[str, Any]) -> dict[str, Any]:
        self.requests += 1
        prefix, delimiter = parameters["Prefix"], parameters.get("Delimiter", "")
        rows = self.rows(prefix, delimiter)
        number, _, latest = parameters.get("ContinuationToken", "0 ").partition(" ")
        start = int(number)
        if start and rows[start - 1 : start] != [latest]:  # the keys have changed meanwhile
            start = sum(self.place(delimiter, row) <= self.place(delimiter, latest) for row in rows)
        end = start + (self.chance.randint(0, self.page) if self.page < 10 else self.page)
        folders = [name for name in rows[start:end] if delimiter and self.is_folder(name, prefix)]
        keys = [name for name in rows[start:end] if name not in folders]
        return {
            "IsTruncated": end < len(rows),
            "NextContinuationToken": f"{end} {rows[end - 1]}" if end < len(rows) else None,
            "Contents": [{"Key": key, **self.entry(key)} for key in keys],
            "CommonPrefixes": [{"Prefix": name} for name in folders],
        }


def tree(*levels: int, keys: int) -> list[str]:
    names = [""]
    for level in levels:
        names = [f"{name}{number:05d}/" for name in names for number in range(level)]
    return [f"{name}object-{number:06d}" for name in names for number in range(keys)]


# What is drawn


class Version(NamedTuple):
    """An object of either bucket."""

    name: str  # of what was written; its ETag
    modified: int
    size: int
    copy_of: str = ""  # of a copy: the version of the source that it names
    checksum: str = ""  # "" if S3 keeps none; with "-" of its parts; with "crc32 " before it of another algorithm
    storage_class: str = ""
    is_archived: bool = False  # which HeadObject shows
    is_opaque: bool = False  # its metadata cannot be sent back, so that its copy names no version


Pair = tuple[Version | None, Version | None]  # what both buckets have of a key
Fault = Callable[[str, int], Coroutine[Any, Any, dict[str, Any] | None]]  # of an operation on a side, or of the queue


async def no_fault(_operation: str, _side: int) -> dict[str, Any] | None:
    return None


class Ran(NamedTuple):
    status: int
    shown: list[str]
    log: list[tuple[str, str]]  # level, line

    def numbers(self) -> dict[str, int]:
        """Those of the last line that are not 0, but for times and rates."""
        figures = self.log[-1][1].partition(f" status={self.status} ")[2]
        found = re.findall(r"(?:^| )(\w+)=(\d+)(?= |$)", figures)
        return {name: int(number) for name, number in found if int(number)}

    def keys(self, pattern: str) -> set[tuple[str, ...]]:
        """What two groups of the pattern are in lines of the log or of the result; keys are unquoted."""

        def unquoted(text: str) -> str:
            return str(json.loads(text)) if text[0] == '"' else text

        lines = [line for _, line in self.log] + self.shown
        found = filter(None, (re.match(pattern, line) for line in lines))
        return {tuple(map(unquoted, one.groups())) for one in found}


class Drawn:
    """A pair of buckets, the settings, and what happens meanwhile. `fails` may answer or raise instead of AWS."""

    def __init__(self, seed: int, moments: tuple[str, ...] = (), keys: int = -1) -> None:
        self.chance = chance = random.Random(seed)
        self.clock, self.serial = 0.0, count()
        self.late = 25.0  # seconds: both buckets are listed by then
        self.is_versioned = chance.random() < 0.5
        self.environment = {
            "PREFIX_FILTER": chance.choice(PREFIXES),
            "EXCLUDE": chance.choice(EXCLUDES),
            "KEEP_DAYS": chance.choice(("0", "7")),
            "ROLLBACKS": chance.choice(("true", "false")),
        }
        self.versions: dict[str, Version] = {}
        self.before: dict[str, Pair] = {}
        for _ in range(chance.choice((0, 3, 12, 40, 40, 40)) if keys < 0 else keys):
            key = chance.choice(FOLDERS) + chance.choice(NAMES).format(next(self.serial))
            self.before[key] = self.draw()
        self.now = dict(self.before)
        self.changes = {key: (chance.choice(moments), self.changed(*self.before[key])) for key in self.some(3, moments)}
        self.is_calm = chance.random() < 0.3
        troubled = () if self.is_calm else ("",)
        self.denied = {key: chance.choice((SOURCE, DESTINATION)) for key in self.some(20, troubled)}
        self.kept = set(self.some(10, troubled))  # may not be deleted
        self.unanswered = set(self.some(5, troubled))  # deletes that S3 makes without an answer
        # Requests of the first seconds that S3 is too busy for.
        self.busy = {number for number in range(200) if troubled and chance.random() < 0.04}
        self.lists_now = False  # listings show what arrives meanwhile, and not all as it was in the beginning
        self.repeated: frozenset[str] = frozenset()  # keys that the destination lists twice
        self.page = chance.choice((1, 3, 8, 1000))
        self.fails = no_fault
        self.asked: Counter[str] = Counter()
        self.looks: Counter[str] = Counter()  # at each key of the destination
        self.queued: list[tuple[str, str]] = []  # keys, and what their messages say of them
        self.sizes: list[int] = []  # keys of each message
        self.deleted: list[str] = []
        self.interruption = Interruption()

    def some(self, one_in: int, moments: tuple[str, ...] = ("",)) -> list[str]:
        return [key for key in self.before if self.chance.random() * one_in < 1] if moments else []

    @property
    def prefixes(self) -> tuple[str, ...]:
        return tuple(self.environment["PREFIX_FILTER"].split(","))

    @property
    def days(self) -> int:
        return int(self.environment["KEEP_DAYS"] or 0)

    # What is there

    def version(self, modified: int, size: int = 0, **fields: Any) -> Version:
        chance = self.chance
        name = f"v{next(self.serial)}" + chance.choice(("", "", "", "-2"))  # some were uploaded in parts
        size, checksum = size or chance.choice((10, 10, 20)), chance.choice(("a", "a", "a", "b", "", "a-2", "crc32 a"))
        self.versions[name] = Version(name, modified, size, **{"checksum": checksum, **fields})
        return self.versions[name]

    def source(self, modified: int) -> Version:
        storage_class, is_archived = self.chance.choice(CLASSES) if self.chance.random() < 0.2 else ("", False)
        fields = {"storage_class": storage_class, "is_archived": is_archived}
        return self.version(modified, **fields, is_opaque=self.chance.random() < 0.1)

    def copy(self, source: Version, modified: int) -> Version:
        fields = {"copy_of": "" if source.is_opaque else source.name, "checksum": source.checksum}
        return self.version(modified, source.size, **fields)

    def draw(self) -> Pair:
        chance = self.chance
        source = self.source(START - chance.choice(AGES))
        after = source.modified + chance.choice(DELAYS)
        older = self.version(source.modified - 1000, source.size if chance.random() < 0.7 else 0)
        copies = {
            "none": None,
            "a copy": self.copy(source, after),
            "that others changed": self.copy(source, after)._replace(checksum="x"),
            "of an older version": self.copy(older, after),
            "of others": self.version(after, chance.choice((source.size, 0))),
        }
        [kind] = chance.choices(list(copies), (5, 8, 1, 5, 5))
        return (source if chance.random() < 0.7 else None), copies[kind]

    def changed(self, source: Version | None, copy: Version | None) -> Pair:
        """What becomes of a key; a version that is younger than the listings has a time well after them."""
        later = START + 1060
        new = self.source(START + self.chance.choice((1000, -500, -20 * DAY)))
        synced = self.copy(source, later) if source else None
        by_others = self.version(later)

        of_new = [(new, copy), (new, self.copy(new, later))]
        of_none = [(None, copy), (None, None)]
        of_source = [(source, None), (source, synced), (source, by_others)]
        return self.chance.choice([*of_new, *of_none, *of_source])

    def happens(self, moment: str, key: str) -> None:
        if self.changes.get(key, ("",))[0] == moment and self.now[key] == self.before[key]:
            self.now[key] = self.changes[key][1]
            if self.lists_now:
                self.listings[DESTINATION].change([key])

    # S3 and SQS

    async def answer(self, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        side, key, number = int("--" in arguments["Bucket"]), arguments.get("Key", ""), self.asked.total()
        self.asked[operation] += 1
        await asyncio.sleep(self.chance.random() / 10)
        if (fault := await self.fails(operation, side)) is not None:
            return fault
        if number in self.busy and self.clock < 20:
            raise ClientError({"Error": {"Code": "SlowDown"}}, operation)
        if operation == "list_objects_v2":
            prefix = arguments.get("Prefix", "")
            assert any(prefix.startswith(one) or one.startswith(prefix) for one in self.prefixes)
            date = format_datetime(datetime.fromtimestamp(START + self.clock, UTC), usegmt=True)
            page = self.listings[side].list({"Prefix": ""} | arguments)
            return page | {"ResponseMetadata": {"HTTPHeaders": {"date": date}}}
        assert key.startswith(self.prefixes)
        if operation == "delete_object":
            return self.delete(key, arguments["IfMatch"])
        if side == DESTINATION:
            self.looks[key] += 1
            self.happens(LOOK if self.looks[key] == 1 else AGAIN, key)
        if self.denied.get(key) == side:
            raise ClientError({"Error": {"Code": "403"}} if operation == "head_object" else DENIED, "HeadObject")
        found = self.now[key][side]
        if found is None:
            raise ClientError({"Error": {"Code": "404"}}, "HeadObject")
        return self.head(found, side, "ChecksumMode" in arguments)

    def head(self, found: Version, side: int, checksums: bool = False) -> dict[str, Any]:
        head = {"ETag": f'"{found.name}"', "ContentLength": found.size, "Metadata": {}}
        head["LastModified"] = datetime.fromtimestamp(found.modified, UTC)
        if checksums and found.checksum:
            name = "ChecksumCRC32" if found.checksum.startswith("crc32 ") else "ChecksumCRC64NVME"
            head |= {name: found.checksum, "ChecksumType": "COMPOSITE" if "-" in found.checksum else "FULL_OBJECT"}
        if side == SOURCE:
            return head | {"MissingMeta": int(found.is_opaque)} | self.shown_of_class(found)
        if found.copy_of:
            copied = self.head(self.versions[found.copy_of], SOURCE)
            head["Metadata"] = {PROVENANCE: source_from_head(copied).identity}
        return head

    def shown_of_class(self, found: Version) -> dict[str, Any]:
        shown: dict[str, Any] = {"VersionId": found.name} if self.is_versioned else {}
        if found.storage_class:
            shown["StorageClass"] = found.storage_class
        if found.storage_class == "GLACIER" and not found.is_archived:
            shown["Restore"] = 'ongoing-request="false"'
        if found.storage_class == "INTELLIGENT_TIERING" and found.is_archived:
            shown["ArchiveStatus"] = "ARCHIVE_ACCESS"
        return shown

    def entry(self, key: str, side: int) -> dict[str, Any]:
        found = (self.now if self.lists_now else self.before)[key][side]
        assert found
        modified = datetime.fromtimestamp(found.modified, UTC)
        shown = {"Size": found.size, "LastModified": modified, "ETag": f'"{found.name}"'}
        return shown | ({"StorageClass": found.storage_class} if found.storage_class else {})

    def delete(self, key: str, etag: str) -> dict[str, Any]:
        self.happens(DELETE, key)
        source, copy = self.now[key]
        if key in self.kept:
            raise ClientError(DENIED, "DeleteObject")
        if not copy or etag != f'"{copy.name}"':
            raise ClientError({"Error": {"Code": "PreconditionFailed"}}, "DeleteObject")
        self.now[key] = source, None
        self.deleted.append(key)
        if key in self.unanswered:
            raise ReadTimeoutError(endpoint_url="")
        return {}

    async def answer_sqs(self, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Of a batch it refuses some."""
        self.asked[operation] += 1
        await self.fails(operation, QUEUE)
        entries, refused = arguments.get("Entries", [arguments | {"Id": "0"}]), list[dict[str, Any]]()
        for entry in entries:
            if "Entries" in arguments and self.chance.random() < 0.1:
                refused.append({"Id": entry["Id"]})
                continue
            records = json.loads(entry["MessageBody"])["Records"]
            assert entry["MessageGroupId"] == "reconcile" and len(records) <= 8
            self.sizes.append(len(records))
            self.queued += [(unquote_plus(one["s3"]["object"]["key"]), one["eventName"]) for one in records]
        return {"Failed": refused}

    # A command

    def pass_time(self, seconds: float) -> None:
        self.clock += seconds

    def buckets(self, **environment: str) -> Buckets:
        settings = load_settings(ENVIRONMENT | self.environment | environment)
        sides = [{key for key, pair in self.before.items() if pair[side]} for side in (SOURCE, DESTINATION)]
        self.listings = [
            Bucket(sides[side], self.page, bool(side), side, lambda key, side=side: self.entry(key, side))
            for side in (SOURCE, DESTINATION)
        ]
        self.listings[DESTINATION].repeated = self.repeated
        return Buckets(settings, LastingClient(self.answer), lambda: self.clock, lambda: START + self.clock)

    def run(self, *arguments: str, names: int = 0, **environment: str) -> Ran:
        """What the command does, as worker.py begins it. A wait remembers `names` missing keys, and looks at as many
        in a round; 0 stands for what it does by itself."""
        buckets, command, shown = self.buckets(**environment), parse_arguments(list(arguments)), list[str]()
        if isinstance(command, ReconcileArguments):
            queue = Queue(LastingClient(self.answer_sqs), buckets.settings.queue_url)
            return self.ran(Reconciliation(buckets, queue, command, self.interruption, shown.append).run(), shown)
        if isinstance(command, WaitArguments):
            shared = Budget(Slots(256), Listings(0), names, names, names) if names else None
            return self.ran(wait(buckets, command, self.interruption, shown.append, shared), shown)
        assert isinstance(command, MeasureArguments)
        return self.ran(Measure(buckets, command, self.interruption, shown.append).run(), shown)

    def ran(self, work: Coroutine[Any, Any, int], shown: list[str]) -> Ran:
        log, lines = logging.getLogger("worker"), list[tuple[str, str]]()
        handler, level = logging.Handler(), log.level
        handler.emit = lambda record: lines.append((record.levelname, record.getMessage()))  # type: ignore[method-assign]
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        try:
            with asyncio.Runner(loop_factory=lambda: Loop(self)) as runner:
                for key in self.changes:
                    runner.get_loop().call_later(self.late, self.happens, LATE, key)
                return Ran(runner.run(work), shown, lines)
        finally:
            log.removeHandler(handler)
            log.setLevel(level)


def plain(before: dict[str, Pair], changes: dict[str, tuple[str, Pair]] | None = None) -> Drawn:
    """Just these keys and changes, with the usual settings, and nothing wrong."""
    drawn = Drawn(1, keys=0)
    drawn.environment, drawn.page, drawn.busy = dict.fromkeys(drawn.environment, ""), 1000, set()
    drawn.before, drawn.now, drawn.changes = before, dict(before), changes or {}
    drawn.versions = {source.name: source for source, _ in before.values() if source}
    return drawn
