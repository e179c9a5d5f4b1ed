"""Options around the sync of a key: COPY_LAST, TABLES, ANNOUNCE, KEEP_DAYS."""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace

from mirror.model.log_lines import quoted
from mirror.options.announcer import events_of
from mirror.options.markers import Markers
from mirror.options.tables import Tables
from mirror.options.waiting import Waits
from mirror.protocol.attempt import Hooks, KeySync
from mirror.protocol.buckets import Buckets, is_expired
from mirror.protocol.sync import Syncer

log = logging.getLogger("worker")


def hooks_for(buckets: Buckets) -> Hooks:
    """The hooks of those options that are set, for one worker."""
    settings, waits = buckets.settings, Waits(buckets)
    markers = Markers(buckets, waits) if settings.copy_last else None
    hooks = Hooks(
        is_expired=functools.partial(is_expired, buckets) if settings.keep_days else None,
        log_expired=functools.partial(log_expired, settings.keep_days),
        before_copy=markers.wait_for_announced if markers else None,
        before_write=markers.remove_stale if markers else None,
        when_done=functools.partial(events_of, settings) if settings.announces_synced else None,
    )
    return with_tables(buckets, hooks, waits) if settings.tables else hooks


def with_tables(buckets: Buckets, hooks: Hooks, waits: Waits) -> Hooks:
    tables = Tables(buckets, Syncer(buckets, replace(hooks, before_copy=None, when_done=None)), waits)
    return replace(
        hooks,
        before_copy=both(hooks.before_copy, tables.before_copy),
        before_write=both(hooks.before_write, tables.before_write),
    )


def both(
    first: Callable[[KeySync], Awaitable[None]] | None, second: Callable[[KeySync], Awaitable[None]]
) -> Callable[[KeySync], Awaitable[None]]:
    if first is None:
        return second

    async def call(sync: KeySync) -> None:
        await first(sync)
        await second(sync)

    return call


def log_expired(days: int, key: str) -> None:
    log.info("not copied key=%s as it has not changed for more than KEEP_DAYS=%d", quoted(key), days)
