"""Options around the sync of a key: COPY_LAST, ANNOUNCE, KEEP_DAYS."""

from __future__ import annotations

import functools
import logging

from mirror.hooks.announcer import events_of
from mirror.hooks.markers import Markers
from mirror.model.log_lines import quoted
from mirror.protocol.attempt import Hooks
from mirror.protocol.buckets import Buckets, is_expired

log = logging.getLogger("worker")


def hooks_for(buckets: Buckets) -> Hooks:
    """The hooks of those options that are set, for one worker."""
    settings = buckets.settings
    markers = Markers(buckets) if settings.copy_last else None
    return Hooks(
        is_expired=functools.partial(is_expired, buckets) if settings.keep_days else None,
        log_expired=functools.partial(log_expired, settings.keep_days),
        before_copy=markers.wait_for_announced if markers else None,
        before_write=markers.remove_stale if markers else None,
        when_done=functools.partial(events_of, settings) if settings.announces_synced else None,
    )


def log_expired(days: int, key: str) -> None:
    log.info("not copied key=%s as it has not changed for more than KEEP_DAYS=%d", quoted(key), days)
