"""COPY_LAST: a marker file is copied after everything that it announces, and deleted before anything of that changes.

A marker announces everything under its folder, including deeper markers, but not the other markers of that folder.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator

from mirror.model.selection import folder_of, is_marker, marker_patterns
from mirror.options.others import remove_other
from mirror.options.waiting import Awaited, Coalesced, Waits, remember
from mirror.protocol.attempt import KeySync
from mirror.protocol.buckets import Buckets
from mirror.queue.option import Option

ABSENT_SECONDS = 1  # it is remembered this long that the destination does not have a marker
MARKERS_KEPT = 10_000


class Markers(Option):
    """COPY_LAST in one worker."""

    def __init__(self, waits: Waits) -> None:
        self.buckets = waits.buckets
        self.waits = waits
        self.looks: Coalesced[None] = Coalesced(self.buckets.now)
        self.absent: dict[str, float] = {}  # marker -> when a look began that showed that the destination has none

    # A marker waits

    async def before_copy(self, sync: KeySync) -> None:
        """If the key is a marker, waits until everything that the source holds under its folder now is in the
        destination, in that version or a newer one."""
        if is_marker(sync.key, self.buckets.settings.copy_last):
            await self.waits.aside(sync, functools.partial(self.wait_for_folder, sync))

    async def wait_for_folder(self, sync: KeySync) -> Awaited | None:
        """Returns what does not arrive."""
        buckets = self.buckets
        patterns, folder = marker_patterns(buckets.settings.copy_last), folder_of(sync.key)

        def counts(key: str) -> bool:
            return key != sync.key and not (folder_of(key) == folder and patterns.match(key))

        return await self.waits.wait_for(sync, await self.waits.compared(sync, folder, counts, is_for_marker=True))

    # A marker that was deleted goes first

    async def before_write(self, sync: KeySync) -> None:
        """Deletes the markers above the key that the source no longer has, the outermost first."""
        for marker in markers_above(self.buckets, sync.key):
            await self.looks.get(sync, marker, functools.partial(self.remove_if_stale, sync, marker))

    async def remove_if_stale(self, sync: KeySync, marker: str) -> None:
        began = self.buckets.now()
        if began - self.absent.get(marker, -math.inf) < ABSENT_SECONDS:
            return
        existing = await self.buckets.head_destination(marker)
        if existing and await self.buckets.head_source(marker) is None:
            await remove_other(self.buckets, sync, marker, None, existing)
        if existing is None:
            remember(self.absent, marker, began, MARKERS_KEPT)


def markers_above(buckets: Buckets, key: str) -> Iterator[str]:
    """The markers that may announce the key, as far as their names are known."""
    patterns, wanted = marker_patterns(buckets.settings.copy_last), buckets.settings.wanted
    for end in [0, *(match.end() for match in re.finditer("/", key))]:
        for name in patterns.fixed_names:
            marker = key[:end] + name
            if marker != key and wanted.takes(marker) and patterns.match(marker):
                yield marker
