"""Who is at fault when a sync fails in a way in which all may fail: its key, or nobody's key, which is an outage.

In an outage no key is at fault: it ends no sync and uses up no receive. One key after the other is tried, with growing
pauses, until any sync gets farther than those that failed. All that decides is here:

- If S3 fails alike for a request that names no key, that is an outage at once.
- Any other is doubtful until others have ended. If seconds later many keys have failed alike and none got through, that
  is an outage. If few have, they are at fault.
- One that got through clears those that failed before it began. They are tried once more, at once: S3 may have been out
  for a moment. One that fails again is at fault when it is cleared again, or when few others have joined it.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from mirror.model.errors import GaveUp, describe, error_code, operation_of
from mirror.model.log_lines import OUTAGE, OUTAGE_ENDS, OUTAGE_OVER

log = logging.getLogger("worker")

ALIKE = 10  # keys that fail with the same error code, with none synced in between
SUSPICION_BASES = 1 / 6  # for so long it is waited for others, in units of RETRY_BASE_SECONDS: 5 s
OUTAGE_BASES = 20  # after so long the worker ends, in the same units: 10 minutes
COPYING = {"CopyObject", "CreateMultipartUpload", "UploadPartCopy", "CompleteMultipartUpload"}
PAUSES = (1, 15)  # seconds between two tries, the first and the longest
MORE_TRIES = 1  # of a key that others have cleared, before it is at fault
MORE_TRIES_AFTER_OUTAGES = 4  # in which others failed, too, so it may have been unlucky


class Suspect(NamedTuple):
    """How and when a sync failed, and what happened to it before."""

    error: Exception
    at: float
    first_time: bool
    cleared: int  # so often it failed before, and others got through

    def is_sign(self) -> bool:
        """Whether an outage may show in it. What failed before, while others did not, is none."""
        return self.first_time and not self.cleared

    def is_at_fault(self, tries: int) -> bool:
        """It is cleared once more. One that S3 was too busy for has been tried for minutes already."""
        return self.cleared >= tries or (tries == MORE_TRIES and isinstance(self.error, GaveUp))


class Verdict[J](NamedTuple):
    """What a success says of those that failed before it began."""

    cleared: list[J]  # to be tried once more
    at_fault: list[tuple[J, Exception]]


@dataclass(eq=False)
class Outage[J]:
    """J stands for a sync with its messages."""

    base: int  # RETRY_BASE_SECONDS
    now: Callable[[], float] = time.monotonic
    suspects: dict[J, Suspect] = field(default_factory=dict)
    latest: float = 0.0  # when the latest of them failed
    began: float | None = None
    error: Exception | None = None  # that of the latest try
    tried: set[J] = field(default_factory=set)  # those that began in the outage to see whether it is over
    pause: float = 0.0
    next_try: float = 0.0

    # Somebody failed

    def add(self, job: J, suspect: Suspect, is_general: bool) -> None:
        """`is_general`: S3 fails alike for requests that name no key."""
        self.suspects[job] = suspect
        self.latest = suspect.at
        if self.began is None and is_general:
            self.begin(suspect.error, 1)
        elif job in self.tried:
            self.error = suspect.error
        self.tried.discard(job)

    def begin(self, error: Exception, keys: int) -> None:
        log.error(OUTAGE, keys, describe(error))
        self.began, self.error, self.pause = self.now(), error, PAUSES[0]
        self.next_try = self.began + self.pause

    def take_expired(self) -> list[tuple[J, Exception]]:
        """Those that few others have joined for a while: it was only them. If many have, an outage begins."""
        moment = self.now() - SUSPICION_BASES * self.base
        alike = Counter(error_code(suspect.error) for suspect in self.suspects.values() if suspect.is_sign())
        for suspect in self.suspects.values():
            code = error_code(suspect.error)
            if self.began is None and suspect.at < moment and alike[code] >= ALIKE:
                self.begin(suspect.error, alike[code])
        found = self.take(lambda suspect: self.began is None and suspect.at < moment)
        return [(job, suspect.error) for job, suspect in found]

    # Somebody got through

    def note_success(self, action: str, since: float) -> Verdict[J]:
        """A sync got as far as that action with requests that all began after `since`."""
        if self.began is None:
            found = self.take(lambda suspect: suspect.at <= since and clears(action, suspect.error))
            tries = MORE_TRIES
        elif self.latest <= since and self.error and clears(action, self.error):
            log.info(OUTAGE_OVER, self.now() - self.began)
            self.began = None
            self.tried.clear()
            found, tries = self.take(lambda _: True), MORE_TRIES_AFTER_OUTAGES
        else:
            return Verdict([], [])
        at_fault = [(job, suspect.error) for job, suspect in found if suspect.is_at_fault(tries)]
        return Verdict([job for job, suspect in found if not suspect.is_at_fault(tries)], at_fault)

    # The outage

    def lets(self, may_delete: bool) -> bool:
        """Whether a sync may begin now; one that probably deletes also while only copies fail."""
        return self.began is None or (may_delete and self.is_of_copies())

    def is_of_copies(self) -> bool:
        return self.began is not None and self.error is not None and is_of_copy(self.error)

    def is_due(self) -> bool:
        """Whether it is time to try one."""
        return self.began is not None and self.now() >= self.next_try

    def note_try(self, job: J) -> None:
        """It begins although there is an outage. The next one does not wait for its end, which may be far off."""
        self.suspects.pop(job, None)
        self.tried.add(job)
        self.pause = min(2 * self.pause, PAUSES[1])
        self.next_try = self.now() + self.pause

    def is_too_long(self) -> bool:
        return self.began is not None and self.now() - self.began >= OUTAGE_BASES * self.base

    def give_up(self) -> None:
        if self.began is not None and self.error:
            log.error(OUTAGE_ENDS, self.now() - self.began, describe(self.error))

    # Who is under suspicion

    def oldest(self) -> J | None:
        return next(iter(self.suspects), None)

    def take_all(self) -> list[J]:
        suspects, self.suspects = list(self.suspects), {}
        return suspects

    def take(self, is_meant: Callable[[Suspect], bool]) -> list[tuple[J, Suspect]]:
        taken = [(job, suspect) for job, suspect in self.suspects.items() if is_meant(suspect)]
        for job, _ in taken:
            del self.suspects[job]
        return taken


def is_of_copy(error: Exception) -> bool:
    return operation_of(error.__cause__ or error) in COPYING


def clears(action: str, error: Exception) -> bool:
    """Whether a sync that got as far as that action shows that the error is no general one: a delete does not show that
    copies are allowed."""
    return action == "copied" or not is_of_copy(error)
