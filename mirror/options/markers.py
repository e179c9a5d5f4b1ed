"""COPY_LAST: a marker file is copied after everything that it announces, and deleted before anything of that changes.

A marker announces everything under its folder, including deeper markers, but not the other markers of that folder.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Iterator

from mirror.model.errors import Postponed
from mirror.model.selection import folder_of, is_marker, marker_patterns
from mirror.options.others import remove_other
from mirror.options.waiting import Waits, delay_of, end_of_wait
from mirror.protocol.attempt import KeySync
from mirror.protocol.buckets import Buckets, head_destination, head_source
from mirror.readers.completeness import Completeness

ABSENT_SECONDS = 1  # it is remembered this long that the destination does not have a marker
MARKERS_KEPT = 10_000
LOCKS = 64


class Markers:
    """The hooks of COPY_LAST in one worker."""

    def __init__(self, buckets: Buckets, waits: Waits) -> None:
        self.buckets = buckets
        self.waits = waits
        self.known: dict[str, tuple[float, bool]] = {}  # marker -> when it was looked for, and whether it was absent
        self.locks = [asyncio.Lock() for _ in range(LOCKS)]

    # A marker waits

    async def wait_for_announced(self, sync: KeySync) -> None:
        """If the key is a marker, waits until everything that the source holds under its folder now is in the
        destination, in that version or a newer one. Meanwhile other keys may use its place.

        Raises Postponed if that makes no progress, and Interrupted.
        """
        if not is_marker(sync.key, self.buckets.settings.copy_last):
            return
        if not sync.host.wait_aside(sync):
            raise Postponed("too many wait at once", delay_of(sync), is_exact=True)
        if lacking := await self.waits.what_lacks(sync, await self.compared(sync)):
            raise end_of_wait(sync, lacking)
        await sync.host.come_back(sync)

    async def compared(self, sync: KeySync) -> Completeness:
        """What is missing under the folder, after a look."""
        buckets = self.buckets
        patterns, folder = marker_patterns(buckets.settings.copy_last), folder_of(sync.key)

        def counts(key: str) -> bool:
            return key != sync.key and not (folder_of(key) == folder and patterns.match(key))

        return await self.waits.compared(sync, folder, counts, exact=True, settled=math.inf)

    # A marker that was deleted goes first

    async def remove_stale(self, sync: KeySync) -> None:
        """Before a write, deletes the markers above the key that the source no longer has, the outermost first."""
        for marker in markers_above(self.buckets, sync.key):
            await self.remove_if_stale(sync, marker)

    async def remove_if_stale(self, sync: KeySync, marker: str) -> None:
        """Many keys of a folder ask at the same time. One of them looks for all that asked before it did."""
        asked = self.buckets.now()
        async with self.locks[hash(marker) % LOCKS]:
            looked, was_absent = self.known.get(marker, (-math.inf, False))
            if looked > asked or (was_absent and asked - looked < ABSENT_SECONDS):
                return
            looked = self.buckets.now()
            existing = await head_destination(self.buckets, marker)
            if existing and await head_source(self.buckets, marker) is None:
                await remove_other(self.buckets, sync, marker, None, existing)
            if len(self.known) >= MARKERS_KEPT:
                self.known.clear()
            self.known[marker] = looked, existing is None


def markers_above(buckets: Buckets, key: str) -> Iterator[str]:
    """The markers that may announce the key, as far as their names are known."""
    patterns, wanted = marker_patterns(buckets.settings.copy_last), buckets.settings.wanted
    for end in [0, *(match.end() for match in re.finditer("/", key))]:
        for name in patterns.fixed_names:
            marker = key[:end] + name
            if marker != key and wanted.takes(marker) and patterns.match(marker):
                yield marker
