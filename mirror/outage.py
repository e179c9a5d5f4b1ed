"""A fault of the surroundings, told from the faults of single keys: it ends no sync and uses up no receive.

What may be of the surroundings is not counted against its key at once. If seconds later many keys have failed alike and
none was synced in between, it is one fault, an outage: then one key is tried, with growing pauses, until that works.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from mirror.errors import describe, error_code, is_of_surroundings, operation_of
from mirror.log_lines import OUTAGE, OUTAGE_ENDS, OUTAGE_OVER

log = logging.getLogger("worker")

ALIKE = 10  # keys that fail with the same error code, with none synced in between
SUSPICION_BASES = 1 / 6  # for so long it is waited for others, in units of RETRY_BASE_SECONDS: 5 s
OUTAGE_BASES = 20  # after so long the worker ends, in the same units: 10 minutes
COPYING = {"CopyObject", "CreateMultipartUpload", "UploadPartCopy", "CompleteMultipartUpload"}
PAUSES = (1, 15)  # seconds between two tries, the first and the longest


class Suspect(NamedTuple):
    """How and when a sync failed. A message that failed before, while others did not, is no sign of an outage."""

    error: Exception
    at: float
    first_time: bool


@dataclass(eq=False)
class Outage[J]:
    """J stands for a sync with its messages."""

    base: int  # RETRY_BASE_SECONDS
    now: Callable[[], float] = time.monotonic
    suspects: dict[J, Suspect] = field(default_factory=dict)
    began: float | None = None
    error: Exception | None = None  # that of the latest try
    probe: J | None = None  # the one that is tried
    pause: float = 0.0
    next_try: float = 0.0

    def add(self, job: J, error: Exception, first_time: bool) -> None:
        """It failed in a way for which the surroundings may be at fault."""
        self.suspects[job] = Suspect(error, self.now(), first_time)
        if self.began is None and is_of_surroundings(error):
            self.begin(error, 1)
        elif job is self.probe:
            self.error, self.pause = error, min(2 * self.pause, PAUSES[1])
            self.try_another()

    def try_another(self) -> None:
        self.probe, self.next_try = None, self.now() + self.pause

    def begin(self, error: Exception, keys: int) -> None:
        log.error(OUTAGE, keys, describe(error))
        self.began, self.error, self.pause = self.now(), error, PAUSES[0]
        self.next_try = self.began + self.pause

    def is_due(self) -> bool:
        """Whether it is time to try one."""
        return self.began is not None and self.probe is None and self.now() >= self.next_try

    def is_too_long(self) -> bool:
        return self.began is not None and self.now() - self.began >= OUTAGE_BASES * self.base

    def give_up(self) -> None:
        if self.began is not None and self.error:
            log.error(OUTAGE_ENDS, self.now() - self.began, describe(self.error))

    def end(self) -> list[J]:
        """The probe got through. Returns the suspects, which are to be tried once more."""
        if self.began is not None:
            log.info(OUTAGE_OVER, self.now() - self.began)
        self.began = self.probe = None
        return self.take_all()

    def take_all(self) -> list[J]:
        suspects, self.suspects = list(self.suspects), {}
        return suspects

    def take_oldest(self) -> J | None:
        job = next(iter(self.suspects), None)
        if job:
            del self.suspects[job]
        return job

    def is_cleared_by(self, action: str) -> bool:
        """Whether the outage is over if a sync has ended with that action, "" for an error."""
        return self.error is not None and clears(action, self.error)

    def take_failed_before(self, moment: float, action: str) -> list[tuple[J, Exception]]:
        """Those that are at fault themselves, as a sync that began then has got farther; and their errors."""
        return self.take(lambda suspect: suspect.at < moment and clears(action, suspect.error))

    def take_expired(self) -> list[tuple[J, Exception]]:
        """Those that few others have joined for a while: it was only them. If many have, an outage begins."""
        moment = self.now() - SUSPICION_BASES * self.base
        alike = Counter(error_code(suspect.error) for suspect in self.suspects.values() if suspect.first_time)
        for error, at, _ in self.suspects.values():
            if self.began is None and at < moment and alike[error_code(error)] >= ALIKE:
                self.begin(error, alike[error_code(error)])
        return [] if self.began is not None else self.take(lambda suspect: suspect.at < moment)

    def take(self, is_meant: Callable[[Suspect], bool]) -> list[tuple[J, Exception]]:
        taken = [(job, suspect.error) for job, suspect in self.suspects.items() if is_meant(suspect)]
        for job, _ in taken:
            del self.suspects[job]
        return taken


def clears(action: str, error: Exception) -> bool:
    """Whether a sync that ended with that action shows that the error is no general one: a delete does not show that
    copies are allowed."""
    operation = operation_of(error.__cause__ or error)
    return action == "copied" or (action != "" and operation not in COPYING)
