"""What reconcile reports: the rows of its table, and with --report each difference as a line of the log."""

from __future__ import annotations

import logging

from mirror.model.log_lines import DIFFERENCE, quoted

log = logging.getLogger("worker")

MOST_REPORTED = 100_000  # lines, some 15 MB of the log
# The rows of the report that are differences. QUEUED are put on the queue, the others only reported.
DIFFERENCES = {
    "missing": "only in the source",
    "stale": "not what the source is now",
    "corrupt": "says that it is what the source is now, but the checksums differ (--deep)",
    "ghost": "only in the destination, written by the sync",
    "foreign": "only in the destination, not written by the sync: stays without --remove-foreign",
    "unreadable": "could not be looked at, see the log",
    "archived": "archived in the source: restore it, its restore event copies it",
}
QUEUED = ("missing", "stale", "corrupt", "ghost")
NO_ALARM = ("foreign", "archived")  # of an audit
# Of --deep: what S3's checksums said of the objects that both buckets have.
CHECKED = {
    "checked": "compared by checksums of the whole object",
    "unchecked": "not compared: one of the sides has no such checksum, or by another algorithm",
}
# The rows that are no differences, and are reported if EXCLUDE or KEEP_DAYS is set.
LEFT_OUT = {
    "expired": "only in the source, older than KEEP_DAYS",
    "unwanted": "in the destination, excluded or older than KEEP_DAYS",
}
ABOUT_FOREIGN = (
    "Foreign objects were written by others, or they are copies whose metadata could not be sent back. After events "
    "were lost, look at them: their source may be deleted. --remove-foreign deletes them, EXCLUDE leaves them out"
)


class Report:
    """Counts the differences, and logs them up to that number. The lines are numbered, as a log may drop some."""

    def __init__(self) -> None:
        self.differences = 0

    def add(self, what: str, key: str) -> None:
        self.differences += 1
        if self.differences <= MOST_REPORTED:
            log.info(DIFFERENCE, self.differences, what, quoted(key))

    def numbers(self) -> str:
        return f" differences={self.differences} reported={min(self.differences, MOST_REPORTED)}"
