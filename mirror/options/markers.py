"""COPY_LAST: a marker file is copied after everything that it announces, and deleted before anything of that changes.

A marker announces everything under its folder, including deeper markers, but not the other markers of that folder.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import NamedTuple

from mirror.model.log_lines import log, quoted
from mirror.model.selection import folder_of, folders_of, is_marker, marker_patterns
from mirror.model.services import MAX_SQS_DELAY
from mirror.options.others import remove_other
from mirror.options.waiting import Awaited, Coalesced, Waits, remember
from mirror.protocol.attempt import KeySync
from mirror.protocol.buckets import Buckets
from mirror.protocol.objects import Destination
from mirror.protocol.verdict import is_ours_to_delete
from mirror.queue.option import Option

ABSENT_SECONDS = 1  # it is remembered this long that the destination does not have a marker of ours
FOREIGN_MARKER = "readers that go by this marker do not notice that files in its folder change"
MARKERS_KEPT = 10_000
LOOKS_AT_ONCE, SENDS_AT_ONCE = 64, 16  # requests of all keys
# The workers are asked about a key again after this long; meanwhile, about this many keys at most.
ASKED_SECONDS, MOST_ASKED = MAX_SQS_DELAY, 10_000
ASKS = "asked for a look at %d keys that only the destination has, such as %s: the marker key=%s waits until they go"


class Look(NamedTuple):
    """What the destination had of a marker, and when that look began."""

    began: float
    existing: Destination | None


class Markers(Option):
    """COPY_LAST in one worker."""

    def __init__(self, waits: Waits) -> None:
        self.buckets = waits.buckets
        self.waits = waits
        self.looks: Coalesced[Look] = Coalesced(self.buckets.now)
        self.removals: Coalesced[None] = Coalesced(self.buckets.now)
        self.slots, self.sends = waits.slots(LOOKS_AT_ONCE), waits.slots(SENDS_AT_ONCE)
        self.asked: dict[str, float] = {}  # key that was to be gone -> when the workers were asked to look at it
        self.absent: dict[str, float] = {}  # marker -> when a look began that showed that none of ours is there
        self.removed: dict[str, float] = {}  # marker -> when its removal had ended

    # A marker waits

    async def before_copy(self, sync: KeySync) -> None:
        """If the key is a marker, waits until everything that the source holds under its folder now is in the
        destination, in that version or a newer one."""
        if is_marker(sync.key, self.buckets.settings.copy_last):
            await self.waits.aside(sync, functools.partial(self.wait_for_folder, sync))

    async def wait_for_folder(self, sync: KeySync) -> Awaited | None:
        """Returns what does not arrive."""
        patterns, folder = marker_patterns(self.buckets.settings.copy_last), folder_of(sync.key)
        was_put_off = sync.waiting_since is not None

        def counts(key: str) -> bool:
            return key != sync.key and not (folder_of(key) == folder and patterns.match(key))

        state = await self.waits.compared(sync, folder, counts, is_for_marker=True)
        if was_put_off:
            await self.ask_about(sync, state.ghosts())
        return await self.waits.wait_for(sync, state)

    async def ask_about(self, sync: KeySync, ghosts: list[str]) -> None:
        """Asks the workers to look at copies whose source is gone. The event of their deletion may be lost, or there
        was none, because somebody made the copy inside the destination: the marker would never be copied."""
        now = self.buckets.now()
        self.asked = {key: asked for key, asked in self.asked.items() if now - asked < ASKED_SECONDS}
        room = MOST_ASKED - len(self.asked)
        keys = [key for key in ghosts if key not in self.asked][:room]
        if not keys:
            return
        log.info(ASKS, len(keys), quoted(keys[0]), quoted(sync.key))
        self.asked |= dict.fromkeys(keys, now)

        async def ask(key: str) -> None:
            await sync.host.look_later(key, 0, is_ghost=True)

        await self.sends.run(ask, keys)

    # A marker that was deleted goes first

    async def before_write(self, sync: KeySync) -> None:
        """Deletes the markers above the key that the source no longer has, the outermost first. All are looked at at
        the same time, because a marker is seldom there, and a key may have many folders above it."""
        found: dict[str, Look] = {}

        async def look(marker: str) -> None:
            found[marker] = await self.looks.get(sync, marker, functools.partial(self.look_at, marker))

        markers = [*markers_above(self.buckets, sync.key)]
        await self.slots.run(look, [marker for marker in markers if not self.is_known_absent(marker)])

        for marker in markers:
            seen = found.get(marker)
            if seen and seen.existing:
                remove = functools.partial(self.remove_if_stale, sync, marker, seen)
                await self.removals.get(sync, marker, remove)

    def is_known_absent(self, marker: str) -> bool:
        return self.buckets.now() - self.absent.get(marker, -math.inf) < ABSENT_SECONDS

    async def look_at(self, marker: str) -> Look:
        began = self.buckets.now()
        if self.is_known_absent(marker):  # by now: another key's look has shown it
            return Look(began, None)
        existing = await self.buckets.head_destination(marker)
        if existing is None or not is_ours_to_delete(existing):
            remember(self.absent, marker, began, MARKERS_KEPT)
        return Look(began, existing)

    async def remove_if_stale(self, sync: KeySync, marker: str, seen: Look) -> None:
        """Another key's sync may have removed what was seen."""
        existing = seen.existing
        if self.removed.get(marker, -math.inf) >= seen.began:
            existing = (await self.look_at(marker)).existing
        if existing and await self.buckets.head_source(marker) is None:
            await remove_other(self.buckets, sync, marker, None, existing, FOREIGN_MARKER)
            remember(self.removed, marker, self.buckets.now(), MARKERS_KEPT)


def markers_above(buckets: Buckets, key: str) -> Iterator[str]:
    """The markers that may announce the key, as far as their names are known."""
    patterns, wanted = marker_patterns(buckets.settings.copy_last), buckets.settings.wanted
    for folder in folders_of(key):
        for name in patterns.fixed_names:
            marker = folder + name
            if marker != key and wanted.takes(marker) and patterns.match(marker):
                yield marker
