"""KEEP_DAYS: an object that has not changed for so many days is not copied any more."""

from __future__ import annotations

from mirror.protocol.buckets import Buckets, is_expired
from mirror.protocol.objects import Source


def why_expired(buckets: Buckets, source: Source) -> str:
    """Why the source is no longer to have a copy, or "" if it is to."""
    if not is_expired(buckets, source.modified):
        return ""
    return f"it has not changed for more than KEEP_DAYS={buckets.settings.keep_days}"
