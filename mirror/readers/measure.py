"""The command measure: what both buckets hold, and how much of it KEEP_DAYS would keep, by listing them."""

from __future__ import annotations

import functools
import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from mirror.model.log_lines import MEASURED, amount, log
from mirror.model.selection import Wanted
from mirror.protocol.attempt import Interruption
from mirror.protocol.buckets import Buckets
from mirror.readers.listing import Progress, came_to_end, page_lister
from mirror.readers.walk import SOURCE, Entry, Page, Walk

DAYS = (7, 30, 90)  # values of KEEP_DAYS for which the measure reports what they would keep
KINDS = {
    "source": "in the source, under PREFIX_FILTER and not left out by EXCLUDE",
    **{f"kept_{days}": f"of these would be kept by KEEP_DAYS={days}" for days in DAYS},
    "destination": "in the destination, under PREFIX_FILTER",
    "excluded": "of these are left out by EXCLUDE",
    "aged": "of these are older than KEEP_DAYS",
}


@dataclass(frozen=True)
class MeasureArguments:
    """What the command line says."""

    json: bool = False


@dataclass(eq=False)
class Counted:
    """What a part of both buckets holds."""

    wanted: Wanted
    would_keep: dict[str, Wanted]  # by kind
    now: float
    objects: Counter[str] = field(default_factory=Counter)  # by kind
    sizes: Counter[str] = field(default_factory=Counter)  # bytes by kind

    def add(self, key: str, source: Entry | None, destination: Entry | None) -> None:
        excluded = self.wanted.excludes(key)
        if destination:
            self.count("destination", destination.size)
            if excluded:
                self.count("excluded", destination.size)
            elif self.wanted.is_expired(destination.modified, self.now):
                self.count("aged", destination.size)
        if source and not excluded:
            self.count("source", source.size)
            for kind, kept in self.would_keep.items():
                if not kept.is_expired(source.modified, self.now):
                    self.count(kind, source.size)

    def count(self, kind: str, size: int) -> None:
        self.objects[kind] += 1
        self.sizes[kind] += size


@dataclass(eq=False)
class Measure:
    """One count of both buckets. It only lists, needs no queue, and remembers no key. It calls show() for each line of
    the result.

    Keys under no prefix of PREFIX_FILTER do not count. The age of an object is its age in the bucket that lists it.
    """

    buckets: Buckets
    arguments: MeasureArguments
    interruption: Interruption
    show: Callable[[str], None] = print
    objects: Counter[str] = field(default_factory=Counter)  # by kind
    sizes: Counter[str] = field(default_factory=Counter)  # bytes by kind
    requests: Counter[str] = field(default_factory=Counter)  # ListObjectsV2, by bucket
    started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.wanted = self.buckets.settings.wanted
        self.now = self.buckets.wall()
        self.page_of = page_lister(self.buckets, self.interruption)

    async def run(self) -> int:
        """Returns the exit status: 0 if both buckets are counted, 3 if a listing failed or after SIGTERM."""
        if await came_to_end("measure stopped, nothing was changed", self.count_all(), self.interruption):
            return self.report("complete", 0)
        return self.report("stopped", 3)

    async def count_all(self) -> None:
        would_keep = {f"kept_{days}": self.wanted._replace(keep_days=days) for days in DAYS}
        new_part = functools.partial(Counted, self.wanted, would_keep, self.now)
        self.walk = Walk(self.wanted.prefixes, self.list_page, new_part, self.take)
        self.progress = Progress()
        await self.walk.run()

    async def list_page(self, side: int, **parameters: str) -> Page:
        page = await self.page_of(side, **parameters)
        self.requests["source" if side == SOURCE else "destination"] += 1
        return page

    async def take(self, part: Counted) -> None:
        self.objects += part.objects
        self.sizes += part.sizes
        self.progress.show(self.walk, lambda: f"listed={self.walk.listed} {self.numbers()}")

    def figures(self) -> dict[str, int | float]:
        figures: dict[str, int | float] = {}
        for kind in KINDS:
            figures[f"{kind}_objects"] = self.objects[kind]
            figures[f"{kind}_bytes"] = self.sizes[kind]
        for name in ("source", "destination"):
            figures[f"{name}_lists"] = self.requests[name]
        figures["seconds"] = round(time.monotonic() - self.started, 1)
        return figures

    def numbers(self) -> str:
        return " ".join(f"{name}={number}" for name, number in self.figures().items())

    def report(self, end: str, status: int) -> int:
        """Shows the result as a table or as JSON, and logs all numbers as the last line. Returns the exit status."""
        if self.arguments.json:
            self.show(json.dumps({"end": end, "status": status, **self.figures()}))
        else:
            listed, requests = amount(self.walk.listed, "object"), amount(self.requests.total(), "request")
            self.show(f"{end}: {listed} listed with {requests}")
            for kind, meaning in KINDS.items():
                self.show(f"{self.objects[kind]:>12} objects {self.sizes[kind]:>18} bytes  {meaning}")
        log.info(MEASURED, end, status, self.numbers())
        return status
