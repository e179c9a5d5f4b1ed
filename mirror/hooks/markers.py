"""COPY_LAST: marker files wait for what they announce, and one that was deleted goes before anything else changes.

A marker announces all that lies under its folder, deeper markers too, but not those beside it.
"""

from __future__ import annotations

import fnmatch
import functools
import logging
import math
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from botocore.exceptions import ClientError

from mirror.model.errors import Postponed, Refused, error_code, outcome_unknown
from mirror.model.limits import MAX_SQS_DELAY
from mirror.model.log_lines import MARKER_WAITS, REMOVED_FIRST, quoted
from mirror.model.selection import items_of
from mirror.protocol.attempt import KeySync
from mirror.protocol.buckets import Buckets
from mirror.protocol.objects import Destination
from mirror.protocol.requests import delete_object, head_destination, head_source
from mirror.protocol.verdict import utc_text
from mirror.queue import bodies
from mirror.readers.completeness import Completeness

log = logging.getLogger("worker")

WILDCARDS = frozenset("*?[")
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0  # seconds between two looks at what lacks
LOOK_SHARE = 4  # but a pause lasts so many times as long as the look before it ...
LONGEST_SHARE = 300.0  # ... or so many seconds
SHORTEST_DELAY = 5  # seconds until a marker that was handed back comes again: a quarter of its age
DELAY_OF_UNKNOWN_AGE = 60
SHORTEST_ROUND = 60  # seconds; see until_next_round()
LATE_SECONDS = 3600  # a marker that waits for longer is worth a warning
ABSENT_SECONDS = 1  # for so long it is remembered that the destination does not have a marker
MARKERS_KEPT = 10_000


# --- Patterns ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Patterns:
    """What COPY_LAST says: a pattern with "/" in it is for the whole key, another for its last part."""

    of_keys: tuple[re.Pattern[str], ...]
    of_names: tuple[re.Pattern[str], ...]
    fixed_names: tuple[str, ...]  # last parts without wildcards: only such markers can be looked for

    def match(self, key: str) -> bool:
        name = key[len(folder_of(key)) :]
        return any(pattern.match(key) for pattern in self.of_keys) or any(
            pattern.match(name) for pattern in self.of_names
        )


@functools.lru_cache(maxsize=16)
def patterns_of(copy_last: str) -> Patterns:
    texts = list(dict.fromkeys(text.strip() for text in items_of(copy_last) if text.strip()))
    names = dict.fromkeys(text[len(folder_of(text)) :] for text in texts)
    return Patterns(
        of_keys=tuple(re.compile(fnmatch.translate(text)) for text in texts if "/" in text),
        of_names=tuple(re.compile(fnmatch.translate(text)) for text in texts if "/" not in text),
        fixed_names=tuple(name for name in names if not WILDCARDS & set(name)),
    )


def folder_of(key: str) -> str:
    """Up to and with its last "/"."""
    return key[: key.rfind("/") + 1]


def is_marker(key: str, copy_last: str) -> bool:
    return patterns_of(copy_last).match(key)


# --- A marker waits ---------------------------------------------------------------------------------------------------


async def wait_for_announced(buckets: Buckets, sync: KeySync) -> None:
    """If the key is a marker: returns once all that the source holds under its folder at this moment is in the
    destination, in that version or a newer one. Raises Postponed if that makes no progress, and Interrupted.

    Others may begin meanwhile.
    """
    settings = buckets.settings
    if not is_marker(sync.key, settings.copy_last):
        return
    if not sync.host.step_aside(sync):
        raise Postponed("too many wait at once", delay_of(sync), is_exact=True)
    await wait_while_it_goes_on(buckets, sync, await compared(buckets, sync))
    await sync.host.come_back(sync)


async def compared(buckets: Buckets, sync: KeySync) -> Completeness:
    """What of it lacks, after one look at each key that may."""
    patterns, folder = patterns_of(buckets.settings.copy_last), folder_of(sync.key)

    def counts(key: str) -> bool:
        return key != sync.key and not (folder_of(key) == folder and patterns.match(key))

    async with buckets.comparisons:  # each takes memory
        sync.interruption.check()
        prefixes = buckets.settings.wanted.under(folder)
        state = Completeness(buckets, prefixes, sync.interruption, exact=True, settled=float("inf"), counts=counts)
        await state.compare()
        await state.look()
    return state


async def wait_while_it_goes_on(buckets: Buckets, sync: KeySync, state: Completeness) -> None:
    """Looks again for as long as less and less lacks."""
    since = sync.waiting_since or time.time()
    if state.missing:
        tell(logging.INFO, sync, state, since)
    pause, least, progressed = FIRST_PAUSE, len(state.missing), buckets.now()
    while state.missing:
        if buckets.now() - progressed >= buckets.settings.marker_patience:
            tell(logging.WARNING if age_of(sync) > LATE_SECONDS else logging.INFO, sync, state, since)
            raise put_off(sync, state, since)
        await sync.interruption.pause(pause)
        began = buckets.now()
        async with buckets.comparisons:
            sync.interruption.check()
            await state.look()
        if len(state.missing) < least:
            least, progressed = len(state.missing), buckets.now()
        pause = max(min(2 * pause, LONGEST_PAUSE), min(LOOK_SHARE * (buckets.now() - began), LONGEST_SHARE))


def put_off(sync: KeySync, state: Completeness, since: float) -> Postponed | Refused:
    """Postponed, or Refused if it has waited for too long."""
    if time.time() - since < bodies.MARKER_SECONDS:
        return Postponed("what it announces is not complete", delay_of(sync), is_exact=True, waiting_since=since)
    key, why = example_of(state)
    return Refused(f"a marker waits for {len(state.missing)} keys since {text_of(since)}, such as {key}: {why}")


def text_of(moment: float) -> str:
    return utc_text(datetime.fromtimestamp(moment, UTC))


def tell(level: int, sync: KeySync, state: Completeness, since: float) -> None:
    (key, why), prefixes = example_of(state), ",".join(state.prefixes)
    missing = len(state.missing)
    log.log(level, MARKER_WAITS, quoted(sync.key), missing, quoted(prefixes), quoted(key), why, text_of(since))


def example_of(state: Completeness) -> tuple[str, str]:
    """A key that lacks and why; rather one that will not come by itself."""
    archived = (key for key, source in state.missing.items() if source and source.archived)
    key = next(iter(state.troubles), None) or next(archived, None) or next(iter(state.missing))
    source = state.missing[key]
    if key in state.troubles:
        return key, f"trouble: {state.troubles[key]}"
    if source is None:
        return key, "only in the destination"
    return key, "archived" if source.archived else "not equal yet"


def age_of(sync: KeySync) -> float:
    """Seconds since the event; of a message that does not say so 0."""
    return time.time() - sync.event_time if sync.event_time else 0.0


def delay_of(sync: KeySync) -> float:
    """Seconds until it comes again: the longer it has waited, the longer it may. At last all that wait come at the same
    moments: so one worker does for all of them, and of several messages on one marker one is left."""
    if sync.event_time is None:
        return DELAY_OF_UNKNOWN_AGE
    delay = max(age_of(sync) / 4, SHORTEST_DELAY)
    return delay if delay < MAX_SQS_DELAY else until_next_round()


def until_next_round() -> float:
    """Seconds; a round that comes too soon for a look is left out."""
    seconds = math.ceil(MAX_SQS_DELAY - time.time() % MAX_SQS_DELAY)
    return seconds if seconds > SHORTEST_ROUND else MAX_SQS_DELAY


# --- A marker that was deleted goes first -----------------------------------------------------------------------------


async def remove_stale(buckets: Buckets, sync: KeySync) -> None:
    """Before the key is written: deletes markers of its folders, the outermost first, that the source has no longer."""
    for marker in markers_above(buckets, sync.key):
        await remove_if_stale(buckets, sync, marker)


def markers_above(buckets: Buckets, key: str) -> Iterator[str]:
    """Those that may announce the key, as far as their names are known."""
    patterns, wanted = patterns_of(buckets.settings.copy_last), buckets.settings.wanted
    for end in [0, *(match.end() for match in re.finditer("/", key))]:
        for name in patterns.fixed_names:
            marker = key[:end] + name
            if marker != key and wanted.takes(marker) and patterns.match(marker):
                yield marker


async def remove_if_stale(buckets: Buckets, sync: KeySync, marker: str) -> None:
    """Many keys of a folder ask at once: one of them looks for all who asked before it did."""
    asked = buckets.now()
    async with buckets.marker_locks[hash(marker) % len(buckets.marker_locks)]:
        looked, was_absent = buckets.markers.get(marker, (float("-inf"), False))
        if looked > asked or (was_absent and asked - looked < ABSENT_SECONDS):
            return
        looked = buckets.now()
        existing = await head_destination(buckets, marker)
        if existing and await head_source(buckets, marker) is None:
            await remove_first(buckets, sync, marker, existing)
        if len(buckets.markers) >= MARKERS_KEPT:
            buckets.markers.clear()
        buckets.markers[marker] = looked, existing is None


async def remove_first(buckets: Buckets, sync: KeySync, marker: str, existing: Destination) -> None:
    """Only the object that was looked at. Raises the error of a marker that changed meanwhile.

    The marker's own message may be done with by now, so if it was created again, or the answer is lost, somebody has
    to look at it once more.
    """
    if buckets.left_out.conditions:
        return  # it might take a newer one along; the marker's own message deletes it
    try:
        await delete_object(buckets, KeySync(marker, interruption=sync.interruption), existing)
    except Exception as error:
        if isinstance(error, ClientError) and error_code(error) == "NotImplemented":
            return
        if outcome_unknown(error):
            await sync.host.look_later(marker, buckets.settings.copy_timeout)
        raise
    log.info(REMOVED_FIRST, quoted(marker))
    if await head_source(buckets, marker):
        await sync.host.look_later(marker, 0)
