"""One key on both sides: what is wrong with it, and what two listings can tell of that."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from mirror.model.errors import is_busy, is_environment
from mirror.model.log_lines import quoted
from mirror.model.selection import without_covered
from mirror.protocol.attempt import Interruption
from mirror.protocol.buckets import Buckets, is_expired
from mirror.protocol.objects import Destination, Source
from mirror.protocol.requests import head_destination, head_source, pages
from mirror.protocol.verdict import is_equal
from mirror.settings import Settings

log = logging.getLogger("worker")

OUTDATED = "outdated"  # stale, of a source that KEEP_DAYS keeps no longer: a worker deletes it instead of copying
BUSY_PAUSES = (0.2, 1.0, 5.0, 20.0)  # seconds between the tries of a key that S3 is too busy for


def chosen_prefixes(settings: Settings, prefix: str) -> tuple[str, ...]:
    """Of what is synced all that begins with `prefix`. Nothing, which is told, if it lies outside."""
    prefixes = settings.wanted.under(prefix)
    if not prefixes:
        log.error("--prefix %s has to begin with PREFIX_FILTER, %s", quoted(prefix), quoted(settings.prefix_filter))
    return prefixes


async def listed(
    call: Callable[..., Awaitable[dict[str, Any]]], bucket: dict[str, str], prefixes: tuple[str, ...]
) -> AsyncIterator[list[dict[str, Any]]]:
    """The entries of a bucket's listing under one prefix after the other, page by page."""
    for prefix in prefixes:
        async for page in pages(call, {"Prefix": prefix, **bucket}):
            yield page.get("Contents", [])


async def difference(buckets: Buckets, key: str, deep: bool) -> str:
    """What is wrong with the key at this moment; see look_at."""
    _, what = await look_at(buckets, key, deep)
    return what


async def look_at(buckets: Buckets, key: str, deep: bool) -> tuple[Destination | None, str]:
    """What the destination has, and what is wrong with the key at this moment: "missing", "stale", "ghost", "archived",
    "unwanted", OUTDATED, or "".

    The source of a key that EXCLUDE leaves out is not looked at, as it may not be readable. Of a source that KEEP_DAYS
    keeps no longer the destination need have no copy; if it has one, that is unwanted, and OUTDATED if it is of another
    version.
    Raises the error of a missing or closed source bucket.
    """
    destination = await head_destination(buckets, key)
    if buckets.settings.wanted.excludes(key):
        return destination, "unwanted" if destination else ""
    source = await head_source(buckets, key)
    if source is None:
        return destination, "ghost" if destination else ""
    return destination, judged(destination, source, deep, is_expired(buckets, source.modified))


def judged(destination: Destination | None, source: Source, deep: bool, expired: bool) -> str:
    """`deep` demands no better copy of an expired source, as no worker would make one."""
    if destination is None and expired:
        return ""
    if destination is None:
        return "archived" if source.archived else "missing"
    if is_equal(destination, source, deep and not expired):
        return "unwanted" if expired else ""
    if expired:
        return OUTDATED
    return "archived" if source.archived else "stale"


async def when_not_busy[T](interruption: Interruption, call: Callable[[], Awaitable[T]]) -> T:
    """What it gives; again after a pause if S3 is too busy, a few times. Raises the last error, or Interrupted in a
    pause."""
    for pause in BUSY_PAUSES:
        try:
            return await call()
        except (ClientError, BotoCoreError, ResponseParserError) as error:
            if is_environment(error) or not is_busy(error):
                raise
        await interruption.pause(pause)
    return await call()


def is_older_or_other(destination: tuple[int, int], source: tuple[int, int]) -> bool:
    """What sizes and times tell: True if the destination cannot be a copy of the source as it is now."""
    return destination[0] != source[0] or destination[1] < source[1]


def size_and_time(item: dict[str, Any]) -> tuple[int, int]:
    """Of an entry of a listing: bytes, and seconds since the epoch."""
    return item["Size"], int(item["LastModified"].timestamp())


def folders_of(prefixes: tuple[str, ...]) -> tuple[str, ...]:
    """A directory bucket lists only prefixes that end in "/" (S3 API Reference, ListObjectsV2)."""
    return without_covered(prefix[: prefix.rfind("/") + 1] for prefix in prefixes)
