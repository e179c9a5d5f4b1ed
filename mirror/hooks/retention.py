"""KEEP_DAYS: an object that has not changed for so many days is not copied any more."""

from __future__ import annotations

import logging

from mirror.model.log_lines import quoted
from mirror.protocol.buckets import Buckets, is_expired
from mirror.protocol.objects import Source

log = logging.getLogger("worker")


class Retention:
    """The hooks of KEEP_DAYS."""

    def __init__(self, buckets: Buckets) -> None:
        self.buckets = buckets

    def is_expired(self, source: Source) -> bool:
        return is_expired(self.buckets, source.modified)

    def log_expired(self, key: str) -> None:
        days = self.buckets.settings.keep_days
        log.info("not copied key=%s as it has not changed for more than KEEP_DAYS=%d", quoted(key), days)
