"""COPY_LAST: a marker file is copied after everything that it announces, and deleted before anything of that changes.

A marker announces everything under its folder, including deeper markers, but not the other markers of that folder.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime

from botocore.exceptions import ClientError

from mirror.model.errors import Postponed, Refused, error_code, outcome_unknown
from mirror.model.limits import MAX_SQS_DELAY
from mirror.model.log_lines import MARKER_WAITS, REMOVED_FIRST, quoted
from mirror.model.selection import folder_of, is_marker, marker_patterns
from mirror.protocol.attempt import KeySync
from mirror.protocol.buckets import Buckets
from mirror.protocol.objects import Destination
from mirror.protocol.requests import delete_object, head_destination, head_source
from mirror.protocol.verdict import utc_text
from mirror.queue import bodies
from mirror.readers.completeness import Completeness, budget_of

log = logging.getLogger("worker")

COMPARISONS = 4  # of folders at a time, as each takes memory
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0  # seconds between two looks at what is missing
LOOK_SHARE = 4  # but a pause lasts this many times as long as the look before it ...
LONGEST_SHARE = 300.0  # ... or this many seconds
LOOKS_PER_SECOND = 50  # of all markers that wait, at what is missing
SHORTEST_DELAY = 5  # seconds until a postponed marker is delivered again: a quarter of its age
DELAY_OF_UNKNOWN_AGE = 60
SHORTEST_ROUND = 60  # seconds: a marker skips one of the moments in delay_of() that is nearer than this
LATE_SECONDS = 3600  # a marker that has waited for longer is worth a warning
ABSENT_SECONDS = 1  # it is remembered this long that the destination does not have a marker
MARKERS_KEPT = 10_000
LOCKS = 64


class Markers:
    """The hooks of COPY_LAST in one worker."""

    def __init__(self, buckets: Buckets) -> None:
        self.buckets = buckets
        self.comparisons = asyncio.Semaphore(COMPARISONS)
        self.budget = budget_of(buckets)
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
        if not sync.host.step_aside(sync):
            raise Postponed("too many wait at once", delay_of(sync), is_exact=True)
        await self.wait_while_it_goes_on(sync, await self.compared(sync))
        await sync.host.come_back(sync)

    async def compared(self, sync: KeySync) -> Completeness:
        """What is missing under the folder, after a look."""
        buckets = self.buckets
        patterns, folder = marker_patterns(buckets.settings.copy_last), folder_of(sync.key)

        def counts(key: str) -> bool:
            return key != sync.key and not (folder_of(key) == folder and patterns.match(key))

        async with self.comparisons:
            sync.interruption.check()
            prefixes = buckets.settings.wanted.under(folder)
            state = Completeness(
                buckets,
                prefixes,
                sync.interruption,
                exact=True,
                settled=math.inf,
                counts=counts,
                shared=self.budget,
            )
            await state.compare()
            return await state.look()

    async def wait_while_it_goes_on(self, sync: KeySync, state: Completeness) -> None:
        """Looks again for as long as less and less is missing."""
        now, patience = self.buckets.now, self.buckets.settings.marker_patience
        since = sync.waiting_since or time.time()
        if state.lacking:
            log_wait(logging.INFO, sync, state, since)
        pause, least, progressed = FIRST_PAUSE, state.lacking, now()
        while state.lacking:
            if now() - progressed >= patience:
                log_wait(logging.WARNING if age_of(sync) > LATE_SECONDS else logging.INFO, sync, state, since)
                raise end_of_wait(sync, state, since)
            await sync.interruption.pause(pause)
            began = now()
            async with self.comparisons:
                sync.interruption.check()
                state = await state.look()
            if state.lacking < least:
                least, progressed = state.lacking, now()
            pause = max(min(2 * pause, LONGEST_PAUSE), min(LOOK_SHARE * (now() - began), LONGEST_SHARE))
            pause = max(pause, len(self.budget.states) / LOOKS_PER_SECOND)

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
                await self.remove_first(sync, marker, existing)
            if len(self.known) >= MARKERS_KEPT:
                self.known.clear()
            self.known[marker] = looked, existing is None

    async def remove_first(self, sync: KeySync, marker: str, existing: Destination) -> None:
        """Deletes only the object that was seen. Raises the error of a marker that changed meanwhile.

        The marker's own message may be done by now. So if the marker was created again, or the delete got no answer,
        the marker is to be synced once more.
        """
        if self.buckets.left_out.conditions:
            return  # an unconditional delete might remove a newer one; the marker's own message deletes it
        try:
            await delete_object(self.buckets, KeySync(marker, interruption=sync.interruption), existing)
        except Exception as error:
            if isinstance(error, ClientError) and error_code(error) == "NotImplemented":
                return
            if outcome_unknown(error):
                await sync.host.look_later(marker, self.buckets.settings.copy_timeout)
            raise
        log.info(REMOVED_FIRST, quoted(marker))
        if await head_source(self.buckets, marker):
            await sync.host.look_later(marker, 0)


def markers_above(buckets: Buckets, key: str) -> Iterator[str]:
    """The markers that may announce the key, as far as their names are known."""
    patterns, wanted = marker_patterns(buckets.settings.copy_last), buckets.settings.wanted
    for end in [0, *(match.end() for match in re.finditer("/", key))]:
        for name in patterns.fixed_names:
            marker = key[:end] + name
            if marker != key and wanted.takes(marker) and patterns.match(marker):
                yield marker


# --- How long a marker waits ------------------------------------------------------------------------------------------


def end_of_wait(sync: KeySync, state: Completeness, since: float) -> Postponed | Refused:
    """Postponed, or Refused if the marker has waited for too long."""
    if time.time() - since < bodies.MARKER_SECONDS:
        return Postponed("what it announces is not complete", delay_of(sync), is_exact=True, waiting_since=since)
    key, why = example_of(state)
    return Refused(f"a marker waits for {state.lacking} keys since {text_of(since)}, such as {key}: {why}")


def log_wait(level: int, sync: KeySync, state: Completeness, since: float) -> None:
    (key, why), prefixes = example_of(state), ",".join(state.prefixes)
    values = quoted(sync.key), state.lacking, quoted(prefixes), quoted(key), why, text_of(since)
    log.log(level, MARKER_WAITS, *values)


def text_of(moment: float) -> str:
    return utc_text(datetime.fromtimestamp(moment, UTC))


def example_of(state: Completeness) -> tuple[str, str]:
    """A key that is missing, and why; if there is one, a key that will not arrive by itself."""
    archived = (key for key, source in state.missing.items() if source and source.archived)
    key = next(iter(state.troubles), None) or next(archived, None) or next(iter(state.missing))
    source = state.missing[key]
    if key in state.troubles:
        return key, f"trouble: {state.troubles[key]}"
    if source is None:
        return key, "only in the destination"
    return key, "archived" if source.archived else "not equal yet"


def age_of(sync: KeySync) -> float:
    """Seconds since the event; 0 if the message does not say when that was."""
    return time.time() - sync.event_time if sync.event_time else 0.0


def delay_of(sync: KeySync) -> float:
    """Seconds until the marker is delivered again: the longer it has waited, the longer. In the end all markers that
    wait are delivered at the same moments, every 15 minutes, so that one worker handles all of them, and of several
    messages on one marker a single one is left."""
    if sync.event_time is None:
        return DELAY_OF_UNKNOWN_AGE
    delay = max(age_of(sync) / 4, SHORTEST_DELAY)
    if delay < MAX_SQS_DELAY:
        return delay
    until_next = math.ceil(MAX_SQS_DELAY - time.time() % MAX_SQS_DELAY)
    return until_next if until_next > SHORTEST_ROUND else MAX_SQS_DELAY
