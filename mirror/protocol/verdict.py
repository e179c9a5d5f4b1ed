"""One verdict on a key: what it is, and what a worker that is asked for it would do.

The protocol asks before each write, the readers for what they count and report. The functions are pure, import only the
standard library and objects.py, and use the syntax of Python 3.9, so that they also run on an operator's machine.

judge() takes the two sides as HeadObject shows them, or the source as a listing does. Its caller knows the settings,
and says whether EXCLUDE and KEEP_DAYS leave the key out. The action of the Verdict is the write that makes both sides
equal, or REFUSE if the source has to be restored before a copy.

A destination object without provenance is of unknown origin: another tool may have put it there, or it is our copy of a
source whose metadata cannot be sent back, so that S3 copied them and no provenance could be added. Size and time decide
whether such an object counts as equal. Only a worker does not rely on them: it is asked because something has changed,
and copies again.

If the source has no such key, the object is foreign. A worker that is asked for the key deletes it, because the source
had the key. What deletes an object although no event names its key asks is_ours_to_delete(): the removal of old markers
and of old logs of tables, and reconcile. So reconcile deletes a foreign object only with --remove-foreign, and wait
--exact does not wait until it is gone.

Who has looked with checksums knows more: other bytes are never equal, and the same bytes are as good as a provenance.
"""

from __future__ import annotations

from typing import NamedTuple

from mirror.protocol.objects import Destination, Listed, Source

# What a key is.
EQUAL = "equal"  # the destination has a copy of the source as it is now
MISSING = "missing"  # only the source has it
STALE = "stale"  # the destination has something other than the source
CORRUPT = "corrupt"  # it says that it is a copy of the source as it is now, but has other bytes
GHOST = "ghost"  # only the destination has it, as a copy of ours
FOREIGN = "foreign"  # only the destination has it, and it does not say that it is a copy
ABSENT = "absent"  # neither has it
ARCHIVED = "archived"  # missing or stale, and the source has to be restored before it can be copied
EXPIRED = "expired"  # KEEP_DAYS keeps the source no longer; an equal copy is left to the lifecycle of the bucket
EXCLUDED = "excluded"  # EXCLUDE leaves it out, whatever the buckets have
UNDECIDED = "undecided"  # of two listings: only a look at the destination can show it

# What a worker does about it.
NOTHING = "nothing"
COPY = "copy"
DELETE = "delete"
REFUSE = "refuse"

NO_DOUBT = -1.0  # no copy is too young for two listings to decide

SizeAndTime = tuple[int, int]  # bytes, and seconds since the epoch


class Verdict(NamedTuple):
    """What a key is, and what a worker that is asked for it does."""

    what: str
    action: str
    of_unknown_origin: bool = False  # the destination has an object that does not say what it was copied from


def judge(
    source: Source | Listed | None,
    destination: Destination | None,
    *,
    excluded: bool = False,
    expired: bool = False,
    deep: bool = False,
    same_bytes: bool | None = None,
) -> Verdict:
    """The verdict on a key of which both sides were looked at. `same_bytes` is what their checksums say, if anything.

    With `deep` a copy of unknown origin counts as stale if it could have a provenance, unless it has the same bytes.
    Neither is demanded of the copy of an expired source, because no worker would make a better one.
    """
    unknown = destination is not None and not destination.provenance
    if excluded:
        return Verdict(EXCLUDED, NOTHING, unknown)
    if source is None and destination is None:
        return Verdict(ABSENT, NOTHING)
    if source is None:
        return Verdict(FOREIGN if unknown else GHOST, DELETE, unknown)
    if expired:
        if destination is None or is_equal(destination, source, deep=False):
            return Verdict(EXPIRED, NOTHING, unknown)
        return Verdict(STALE, DELETE, unknown)
    copy = REFUSE if source.archived else COPY
    if destination is None:
        return Verdict(ARCHIVED if source.archived else MISSING, copy)
    seems_equal = is_equal(destination, source, deep and not same_bytes)
    if seems_equal and same_bytes is not False:
        return Verdict(EQUAL, copy if unknown else NOTHING, unknown)
    what = CORRUPT if seems_equal and not unknown else STALE
    return Verdict(ARCHIVED if source.archived else what, copy, unknown)


def is_ours_to_delete(destination: Destination) -> bool:
    """Whether the object may be deleted although no event names its key: only if it says that it is a copy.

    What does not say so is left to the events of its key, to reconcile --remove-foreign, and to the lifecycle of
    KEEP_DAYS, even if it may be a copy of ours whose metadata could not be sent back. docs/design.md has the list.
    """
    return bool(destination.provenance)


def judge_listed(
    source: SizeAndTime, destination: SizeAndTime | None, *, expired: bool = False, doubt: float = NO_DOUBT
) -> str:
    """What two listings show of a key that the source has: EQUAL, MISSING, STALE, EXPIRED or UNDECIDED.

    A copy that is at most `doubt` seconds younger than its source may be one of the version before, which was under way
    when that was overwritten. Only a look can distinguish them.
    """
    if destination is None:
        return EXPIRED if expired else MISSING
    if not may_be_copy(destination, source):
        return STALE
    if destination[1] - source[1] <= doubt:
        return UNDECIDED
    return EXPIRED if expired else EQUAL


def is_equal(destination: Destination, source: Source | Listed, deep: bool) -> bool:
    """Provenance decides. Without one, size and time do, unless `deep` demands a provenance that could be there."""
    if destination.provenance:
        return f"{destination.provenance} ".startswith(f"{source.identity} ")
    if deep and source.carries_provenance:
        return False
    return may_be_copy(size_and_time(destination), size_and_time(source))


def may_be_copy(destination: SizeAndTime, source: SizeAndTime) -> bool:
    """Whether size and time allow the destination to be a copy of the source as it is now."""
    return destination[0] == source[0] and destination[1] >= source[1]


def size_and_time(side: Source | Listed | Destination) -> SizeAndTime:
    return side.size, int(side.modified.timestamp())
