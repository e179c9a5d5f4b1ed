"""Options around the sync of a key: COPY_LAST, ANNOUNCE, KEEP_DAYS."""

from __future__ import annotations

import functools

from mirror.hooks.announcer import events_of
from mirror.hooks.markers import Markers
from mirror.hooks.retention import Retention
from mirror.protocol.attempt import Hooks
from mirror.protocol.buckets import Buckets


def hooks_for(buckets: Buckets) -> Hooks:
    """The hooks of those options that are set, for one worker."""
    settings = buckets.settings
    markers = Markers(buckets) if settings.copy_last else None
    retention = Retention(buckets) if settings.keep_days else None
    return Hooks(
        is_expired=retention.is_expired if retention else None,
        log_expired=retention.log_expired if retention else None,
        before_copy=markers.wait_for_announced if markers else None,
        before_write=markers.remove_stale if markers else None,
        when_done=functools.partial(events_of, settings) if settings.announces else None,
    )
