"""One key on both sides: what is wrong with it, and what two listings can tell of that."""

from __future__ import annotations

import logging
from typing import Any

from mirror.buckets import Buckets
from mirror.log_lines import quoted
from mirror.objects import Destination, Source, carries_provenance, is_copy_of
from mirror.s3 import head_destination, head_source

log = logging.getLogger("worker")


def chosen_prefix(allowed: str, wanted: str) -> str | None:
    """What to compare: `wanted`, or if that is empty all of PREFIX_FILTER. None, which is told, if it lies outside."""
    prefix = wanted or allowed
    if prefix.startswith(allowed):
        return prefix
    log.error("--prefix %s has to begin with PREFIX_FILTER, %s", quoted(prefix), quoted(allowed))
    return None


async def difference(buckets: Buckets, key: str, deep: bool) -> str:
    """What is wrong with the key at this moment: "missing", "stale", "ghost", "archived", or "".

    Raises the error of a missing or closed source bucket.
    """
    destination = await head_destination(buckets, key)
    source = await head_source(buckets, key)
    if source is None:
        return "ghost" if destination else ""
    if destination is None:
        return "archived" if source.archived else "missing"
    if is_equal(destination, source, deep):
        return ""
    return "archived" if source.archived else "stale"


def is_equal(destination: Destination, source: Source, deep: bool) -> bool:
    """Provenance decides. An object without one, such as one that another tool copied, is judged by size and time, or
    with `deep` counts as stale if it could have one."""
    known = is_copy_of(destination, source)
    if known is not None:
        return known
    if deep and carries_provenance(source):
        return False
    return not is_older_or_other(
        (destination.size, int(destination.modified.timestamp())), (source.size, int(source.modified.timestamp()))
    )


def is_older_or_other(destination: tuple[int, int], source: tuple[int, int]) -> bool:
    """What sizes and times tell: True if the destination cannot be a copy of the source as it is now."""
    return destination[0] != source[0] or destination[1] < source[1]


def size_and_time(item: dict[str, Any]) -> tuple[int, int]:
    """Of an entry of a listing: bytes, and seconds since the epoch."""
    return item["Size"], int(item["LastModified"].timestamp())


def listed_prefix(prefix: str) -> str:
    """A directory bucket lists only prefixes that end in "/" (S3 API Reference, ListObjectsV2)."""
    return prefix[: prefix.rfind("/") + 1]
