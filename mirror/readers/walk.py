"""Both buckets' listings as one: folder beside folder, many at a time, and each key with what both sides have of it.

A directory bucket lists its keys in no order, and one page only after the other. So the way to list many keys fast is
to list many folders at the same time, and the way to compare them in little memory is folder by folder. But a folder
that holds a handful of keys costs as much as a page of a thousand. The rules are these:

1. A folder is listed with the delimiter, on both sides: the keys that lie directly in it, and its subfolders. The keys
   are final; they are never listed again for a comparison.
2. If it has subfolders, a page without the delimiter shows whether everything below fits on it. Then this is compared.
3. Otherwise the subfolders are visited in the same way, each by itself, if they hold `worth_a_visit` keys on average.
   That page shows at once if they do not. If it says that they do, a few of them, chosen at random, are visited first:
   the keys of a page lie side by side, and may say little about the others.
4. Otherwise what lies below is listed without the delimiter to its end. What this finds is kept apart while neither
   side has ended: if it takes as many pages as visits are worth, it is dropped, and the subfolders are visited.

So most trees take a tenth to a quarter more requests than a plain listing. See docs/performance.md for the worst.
"""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

from mirror.concurrency import Job, WorkOff, work_off
from mirror.protocol.buckets import pages
from mirror.protocol.verdict import SizeAndTime

SOURCE, DESTINATION = 0, 1
WORKERS = 24  # folders at a time, each listed on both sides
PAGE_KEYS = 1000  # of a full page (S3 API Reference, ListObjectsV2)
BEGIN, SEPARATOR = b"\xff", b"\xfe"  # no byte of a text in UTF-8
KEYS_PER_SLOT = 32  # on average, before their number doubles
MOST_LOOSE = 2000  # keys that are kept as they are: a fifth of the time, ten times the memory
MOST_DRAWN, PAGES_SHARE = 64, 4  # a page for each four subfolders

Item = dict[str, Any]  # of an object, as boto3 gives it
Page = dict[str, Any]
Pages = AsyncGenerator[Page]


class Scale(NamedTuple):
    """What the rules above go by."""

    page_keys: int = PAGE_KEYS
    worth_a_visit: int = 400  # keys of a subfolder
    fewest_drawn: int = 4
    drawn_share: int = 16  # a sixteenth of the subfolders is drawn
    fewest_pages: int = 4


class Entry(NamedTuple):
    """What a listing shows of an object."""

    size: int  # bytes
    modified: int  # seconds since the epoch
    etag: str
    storage_class: str

    @property
    def moment(self) -> datetime:
        return datetime.fromtimestamp(self.modified, UTC)

    @property
    def size_and_time(self) -> SizeAndTime:
        return self.size, self.modified


class Part(Protocol):
    """What has been found in a part of both buckets. add() is called once for each key."""

    def add(self, key: str, source: Entry | None, destination: Entry | None) -> None: ...


class Join[P: Part]:
    """Puts the entries of two listings together by their keys, in whichever order they come."""

    def __init__(self, part: P) -> None:
        self.part = part
        self.unmatched = entry_table(), entry_table()
        self.has_ended = [False, False]
        self.keys = [0, 0]  # of each side

    def add(self, side: int, items: list[Item]) -> None:
        self.keys[side] += len(items)
        put, take = self.unmatched[side].put, self.unmatched[1 - side].take
        is_last = self.has_ended[1 - side]
        for item in items:
            key, entry = item["Key"], listed_as(item)
            other = take(key)
            if other or is_last:
                self.pair(side, key, entry, other)
            else:
                put(key, entry)

    def end(self, side: int) -> Iterator[str]:
        """All entries of that side have come. Adds what waits for them one by one, and yields its keys."""
        self.has_ended[side] = True
        for key, entry in self.unmatched[1 - side].take_all():
            self.pair(1 - side, key, entry, None)
            yield key

    def pair(self, side: int, key: str, entry: Entry, other: Entry | None) -> None:
        self.part.add(key, *((entry, other) if side == SOURCE else (other, entry)))


def entry_table() -> KeyTable[Entry]:
    return KeyTable(text_of, entry_of)


def listed_as(item: Item) -> Entry:
    return Entry(item["Size"], int(item["LastModified"].timestamp()), item["ETag"], item.get("StorageClass", ""))


def text_of(entry: Entry) -> str:
    return f"{entry.size} {entry.modified} {entry.storage_class} {entry.etag}"


def entry_of(text: str) -> Entry:
    size, modified, storage_class, etag = text.split(" ", 3)
    return Entry(int(size), int(modified), etag, storage_class)


@dataclass(eq=False)
class Folder:
    """A folder with subfolders, while it is not decided how they are compared."""

    name: str
    subfolders: list[str]  # that are not compared yet
    listings: tuple[Pages, Pages]  # of both sides, without the delimiter
    pages: list[Page] = field(default_factory=lambda: [{}, {}])  # their latest, {} if it is not known or was compared
    drawn: set[str] = field(default_factory=set)  # subfolders that are visited before the decision
    awaited: int = 0  # of them
    keys: int = 0  # of them, a page of each at most


@dataclass(eq=False)
class Walk[P: Part]:
    """One walk through everything under the prefixes.

    `list_page(side, **parameters)` returns a page; the parameters name no bucket. `commit` is awaited for each part
    that is final, and meanwhile other folders are listed.
    """

    prefixes: tuple[str, ...]
    list_page: Callable[..., Awaitable[Page]]
    new_part: Callable[[], P]
    commit: Callable[[P], Awaitable[None]]
    work_off: WorkOff = work_off
    scale: Scale = Scale()  # noqa: RUF009 a value
    jobs: list[Iterator[Job]] = field(default_factory=list)
    chance: random.Random = field(default_factory=random.Random)
    listed: int = 0  # entries so far
    known: int = 1  # folders
    done: int = 0  # of these

    async def run(self) -> None:
        """Raises the first error of list_page() or commit(), and Unfinished for an incomplete page."""
        self.jobs.append(iter([functools.partial(self.visit, "")]))
        await self.work_off(self.jobs, WORKERS)

    async def both(self, read: Callable[[int], Coroutine[Any, Any, None]]) -> None:
        """Reads both sides. After an error of one it cancels the other, and raises it."""
        await self.work_off([iter([functools.partial(read, SOURCE), functools.partial(read, DESTINATION)])], 2)

    # A folder by itself: rule 1

    async def visit(self, name: str, drawn_by: Folder | None = None) -> None:
        join = Join(self.new_part())
        prefixes, subfolders = self.parts_of(name)

        async def read(side: int) -> None:
            # A directory bucket lists whole folders only. A folder with no key of ours in it directly is not listed.
            listed = prefixes if side == SOURCE or not prefixes else [name]
            for prefix in listed:
                async for page in self.pages_of(side, Prefix=prefix, Delimiter="/"):
                    found = [item["Prefix"] for item in page.get("CommonPrefixes", [])]
                    subfolders.update(filter(self.leads_to_ours, found))
                    join.add(side, [item for item in page.get("Contents", []) if item["Key"].startswith(self.prefixes)])
                    await self.hand_on(join)
            await self.end(join, side)

        await self.both(read)
        self.done += 1
        keys = max(join.keys)
        if subfolders and name.startswith(self.prefixes):
            keys += await self.look_below(name, subfolders)
        elif subfolders:
            self.visit_all(sorted(subfolders, reverse=True))
        if drawn_by:
            self.add_drawn(drawn_by, keys)

    def parts_of(self, name: str) -> tuple[list[str], set[str]]:
        """What to list of a folder: the prefixes for the source, and subfolders that are known without a listing. The
        folder itself, unless only some of what it holds is ours."""
        if name.startswith(self.prefixes):
            return [name], set()
        listed, subfolders = [], set()
        for prefix in self.prefixes:
            if prefix.startswith(name):
                subfolder = subfolder_of(prefix, name)
                if subfolder:
                    subfolders.add(subfolder)
                else:
                    listed.append(prefix)
        return listed, subfolders

    def leads_to_ours(self, folder: str) -> bool:
        return folder.startswith(self.prefixes) or any(prefix.startswith(folder) for prefix in self.prefixes)

    def pages_of(self, side: int, **parameters: str) -> Pages:
        async def list_page(**parameters: str) -> Page:
            page = await self.list_page(side, **parameters)
            self.listed += len(page.get("Contents", []))
            return page

        return pages(list_page, parameters)

    async def end(self, join: Join[P], side: int) -> None:
        """Hands on in pieces what only the other side has, because it may be millions of keys."""
        for _ in itertools.batched(join.end(side), self.scale.page_keys, strict=False):
            await self.hand_on(join)
        await self.hand_on(join)

    async def hand_on(self, join: Join[P]) -> None:
        part, join.part = join.part, self.new_part()
        await self.commit(part)

    # What lies below a folder: rules 2 and 3

    async def look_below(self, name: str, subfolders: set[str]) -> int:
        """Compares it if it is on one page, and decides what to do if it is not. The number of its keys, that of a page
        if there are more."""
        folder = Folder(name, sorted(subfolders, reverse=True), self.listings_of(name))

        async def read(side: int) -> None:
            folder.pages[side] = await anext(folder.listings[side])

        await self.both(read)
        keys = max(len(page.get("Contents", [])) for page in folder.pages)
        is_all = not any(page["IsTruncated"] for page in folder.pages)
        if is_all or keys_per_subfolder(folder) < self.scale.worth_a_visit:
            await self.list_below(folder)
        else:
            await self.draw(folder)
        return keys if is_all else self.scale.page_keys

    def listings_of(self, name: str) -> tuple[Pages, Pages]:
        return self.pages_of(SOURCE, Prefix=name), self.pages_of(DESTINATION, Prefix=name)

    async def draw(self, folder: Folder) -> None:
        """Forgets the pages: many folders wait for a decision at a time, most of them for visits."""
        await close(folder.listings)
        folder.listings, folder.pages = self.listings_of(folder.name), [{}, {}]

        share = len(folder.subfolders) // self.scale.drawn_share
        number = max(self.scale.fewest_drawn, min(MOST_DRAWN, share))
        number = min(number, len(folder.subfolders))
        folder.drawn = set(self.chance.sample(folder.subfolders, number))
        folder.subfolders = [name for name in folder.subfolders if name not in folder.drawn]

        folder.awaited = len(folder.drawn)
        self.known += folder.awaited
        self.jobs.append(functools.partial(self.visit, name, folder) for name in folder.drawn)

    def add_drawn(self, folder: Folder, keys: int) -> None:
        folder.keys += min(keys, self.scale.page_keys)
        folder.awaited -= 1
        if folder.awaited or not folder.subfolders:
            return
        if folder.keys < self.scale.worth_a_visit * len(folder.drawn):
            self.jobs.append(iter([functools.partial(self.list_below, folder)]))
        else:
            self.visit_all(folder.subfolders)

    def visit_all(self, subfolders: list[str]) -> None:
        """The last one first. Each is forgotten when its visit begins, because they may be many."""
        self.known += len(subfolders)
        self.jobs.append(functools.partial(self.visit, subfolders.pop()) for _ in range(len(subfolders)))

    # Without the delimiter: rule 4

    async def list_below(self, folder: Folder) -> None:
        join = Join(self.new_part())
        most = max(self.scale.fewest_pages, len(folder.subfolders) // PAGES_SHARE)  # pages, before visits are better
        own = {"", *folder.drawn}  # what visit() has compared: the folder's own keys, and subfolders that were drawn
        is_dropped = False

        async def read(side: int) -> None:
            nonlocal is_dropped
            for taken in itertools.count(1):
                page = folder.pages[side] or await anext(folder.listings[side])
                if is_dropped:  # meanwhile
                    return
                folder.pages[side] = {}
                items = page.get("Contents", [])
                join.add(side, [item for item in items if subfolder_of(item["Key"], folder.name) not in own])
                if not page["IsTruncated"]:
                    await self.end(join, side)
                    return
                if any(join.has_ended):
                    await self.hand_on(join)
                elif taken >= most:
                    is_dropped = True
                    return

        await self.both(read)
        if is_dropped:
            await close(folder.listings)
            self.visit_all(folder.subfolders)


def subfolder_of(key: str, folder: str) -> str:
    """The subfolder of that folder that holds the key; "" if the key lies directly in the folder."""
    end = key.find("/", len(folder))
    return key[: end + 1] if end >= 0 else ""


def keys_per_subfolder(folder: Folder) -> float:
    """On average, as far as a page shows that is not the last one; the source's, because its keys come in order."""
    page = next(page for page in folder.pages if page["IsTruncated"])
    subfolders = [subfolder_of(item["Key"], folder.name) for item in page.get("Contents", [])]
    below = [subfolder for subfolder in subfolders if subfolder]
    return len(below) / max(1, len(set(below)))


async def close(listings: Iterable[Pages]) -> None:
    """They are not read to their end."""
    for listing in listings:
        await listing.aclose()


class KeyTable[V]:
    """Keys, each with a value. Takes the bytes of the key and of the value as a text, and about a fifth of that: 100
    MiB for a million objects whose keys have 26 bytes.

    A record is BEGIN, the key, SEPARATOR, the text. The hash of a key says in which slot its record is, and the number
    of slots grows with that of the keys, so that each is found as fast. The latest few keys are not in slots yet.
    """

    def __init__(self, to_text: Callable[[V], str], from_text: Callable[[str], V]) -> None:
        self.to_text = to_text
        self.from_text = from_text
        self.loose: dict[str, V] = {}
        self.slots = [bytearray()]
        self.packed = 0  # records in them

    def slot_of(self, key: bytes) -> bytearray:
        return self.slots[hash(key) & len(self.slots) - 1]

    def put(self, key: str, value: V) -> None:
        """A key that is there already gets the new value, and may have several records until it is taken."""
        self.loose[key] = value
        if len(self.loose) > MOST_LOOSE:
            self.pack()

    def take(self, key: str) -> V | None:
        """Removes the key, and returns its value; None if it is not there."""
        value = self.loose.pop(key, None)
        older = self.unpack(key) if self.packed else None
        return older if value is None else value

    def take_all(self) -> Iterator[tuple[str, V]]:
        """Removes all keys one by one."""
        if self.packed:
            self.pack()
        while self.loose:
            yield self.loose.popitem()
        while self.slots:
            latest = dict(record.split(SEPARATOR) for record in bytes(self.slots.pop()).split(BEGIN)[1:])
            for key, text in latest.items():
                yield key.decode(), self.from_text(text.decode())
        self.slots, self.packed = [bytearray()], 0

    def pack(self) -> None:
        """Puts the loose keys into the slots."""
        self.packed += len(self.loose)
        while self.packed > KEYS_PER_SLOT * len(self.slots):
            self.grow()
        for key, value in self.loose.items():
            encoded = key.encode()
            slot = self.slot_of(encoded)
            slot += BEGIN + encoded + SEPARATOR + self.to_text(value).encode()
        self.loose.clear()

    def unpack(self, key: str) -> V | None:
        """Like take(), from the slots: removes all records of the key, and returns the value of the latest."""
        encoded = key.encode()
        slot = self.slot_of(encoded)
        beginning, text, start = BEGIN + encoded + SEPARATOR, None, 0
        while (start := slot.find(beginning, start)) >= 0:
            end = slot.find(BEGIN, start + 1)
            end = len(slot) if end < 0 else end
            text = slot[start + len(beginning) : end].decode()
            del slot[start:end]
            self.packed -= 1
        return None if text is None else self.from_text(text)

    def grow(self) -> None:
        """The keys of a slot go into that slot and a new one, which is as far behind it as there were slots."""
        old = self.slots
        self.slots = [bytearray() for _ in range(2 * len(old))]
        for number, slot in enumerate(old):
            old[number] = bytearray()
            for record in slot.split(BEGIN)[1:]:
                target = self.slot_of(bytes(record.partition(SEPARATOR)[0]))
                target += BEGIN + record
