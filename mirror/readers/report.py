"""reconcile --report: each difference is a line of the log. The lines are numbered, as a log may drop some."""

from __future__ import annotations

import logging

from mirror.model.log_lines import DIFFERENCE, quoted

log = logging.getLogger("worker")

MOST_REPORTED = 100_000  # lines, some 15 MB of the log


class Report:
    """Counts the differences, and logs them up to that number."""

    def __init__(self) -> None:
        self.differences = 0

    def add(self, what: str, key: str) -> None:
        self.differences += 1
        if self.differences <= MOST_REPORTED:
            log.info(DIFFERENCE, self.differences, what, quoted(key))

    def numbers(self) -> str:
        return f" differences={self.differences} reported={min(self.differences, MOST_REPORTED)}"
