"""What is at fault when a sync fails in a way in which all may fail: its key, or no key, which is an outage.

In an outage no key is at fault: it ends no sync and uses up no receive. One key after the other is tried, with growing
pauses, until any sync gets farther than those that failed. All that decides is here:

- After a failure of credentials, of a bucket, or of a request with a session of S3 Express, both buckets are asked by
  requests that name no key. If one of these fails as well, that is an outage at once.
- Any other failure is doubtful until other syncs have ended. If seconds later many keys have failed alike and none got
  through, that is an outage. If few have, they are at fault.
- A sync that got through clears the keys that failed before it began. They are tried once more, at once, as S3 may have
  been out for a moment. A key that fails again is at fault when it is cleared again, or when few others have joined it.
- Copies are signed with the role. So a copy clears nothing that failed with a session, unless the destination was
  looked at before it.

Nothing but decisions is made here: the scheduler sends the requests, and does what was decided.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from botocore.exceptions import ClientError

from mirror.model.errors import GaveUp, Interrupted, describe, error_code, is_environment, is_of_session
from mirror.model.log_lines import OUTAGE, OUTAGE_ENDS, OUTAGE_OVER, log
from mirror.protocol.buckets import Buckets
from mirror.queue.job import Job

ALIKE = 10  # keys that have failed with the same error code, with none synced in between
SUSPICION_BASES = 1 / 6  # that others have to fail or get through, in units of RETRY_BASE_SECONDS: 5 s
OUTAGE_BASES = 20  # after which the worker ends, in the same units: 10 minutes
COPYING = {"CopyObject", "CreateMultipartUpload", "UploadPartCopy", "CompleteMultipartUpload"}
PAUSES = (1, 15)  # seconds between two tries, the first and the longest
MORE_TRIES = 1  # of a key that others have cleared, before it is at fault
MORE_TRIES_AFTER_OUTAGES = 4  # in which others failed, too, so it may have been unlucky


class Suspect(NamedTuple):
    """How and when a sync failed."""

    error: Exception
    at: float
    is_sign: bool  # of an outage; a key that failed before, while others did not, is no sign


class Decision(NamedTuple):
    """What becomes of a suspect: it ends with that error, or is tried once more before all jobs that wait."""

    job: Job
    error: Exception | None  # None: it is tried once more


@dataclass(eq=False)
class Outage:
    """The one outage that a process may be in, and the jobs that failed as in an outage and wait for others."""

    buckets: Buckets
    suspects: dict[Job, Suspect] = field(default_factory=dict)
    latest: float = 0.0  # when the latest of them failed
    began: float | None = None
    error: Exception | None = None  # that of the latest try
    tried: set[Job] = field(default_factory=set)  # those that began in the outage to see whether it is over
    pause: float = 0.0
    next_try: float = 0.0
    wants_another: bool = False  # a key that has not failed yet, to be received for the next try

    def __post_init__(self) -> None:
        self.now, self.base = self.buckets.now, self.buckets.settings.retry_base_seconds

    @property
    def is_on(self) -> bool:
        return self.began is not None

    # A sync failed

    def suspicion_of(self, job: Job, error: Exception) -> Suspect:
        """To be asked at once when a job has failed in a way in which all may fail."""
        first_time = any(lease.received.receive_count == 1 for lease in job.leases)
        return Suspect(error, self.now(), is_sign=first_time and not job.cleared)

    def has_to_be_checked(self, error: Exception) -> bool:
        """Whether requests to both buckets that name no key are to show whether this is an outage."""
        may_be_general = is_environment(error) or (is_of_session(error) and not isinstance(error, GaveUp))
        return may_be_general and not self.is_on

    def keep(self, job: Job, suspect: Suspect, is_general: bool) -> None:
        """Keeps a job that failed until others show what is at fault. `is_general`: those requests failed, too."""
        self.suspects[job] = suspect
        self.latest = suspect.at
        if is_general and not self.is_on:
            self.begin(suspect.error, 1)
        elif job in self.tried:
            self.error = suspect.error
        self.tried.discard(job)

    def begin(self, error: Exception, keys: int) -> None:
        log.error(OUTAGE, keys, describe(error))
        self.began, self.error, self.pause = self.now(), error, PAUSES[0]
        self.next_try = self.began + self.pause

    # A sync got through

    def note_success(self, action: str, since: float, with_session: float = -math.inf) -> list[Decision]:
        """A sync got as far as that action with requests that all began after `since`, but for its look at the
        destination, which began at `with_session`."""

        def clears(error: Exception, at: float) -> bool:
            """A delete does not show that copies are allowed, nor does a request of the role that sessions work."""
            is_shown = action == "copied" or not is_of_copy(error)
            return is_shown and at <= (with_session if is_of_session(error) else since)

        if self.began is None:
            return self.clear(self.take(lambda suspect: clears(suspect.error, suspect.at)), MORE_TRIES)
        if self.error is None or not clears(self.error, self.latest):
            return []
        log.info(OUTAGE_OVER, self.now() - self.began)
        self.began = None
        self.tried.clear()
        return self.clear(self.take(lambda _: True), MORE_TRIES_AFTER_OUTAGES)

    def clear(self, found: dict[Job, Suspect], tries: int) -> list[Decision]:
        """Jobs that have had their tries are at fault. The others are tried soon after that success. A key that S3 was
        too busy for has been tried for minutes already."""
        decisions = []
        for job, suspect in found.items():
            was_busy = tries == MORE_TRIES and isinstance(suspect.error, GaveUp)
            if job.cleared >= tries or was_busy:
                decisions.append(Decision(job, suspect.error))
            else:
                job.cleared += 1
                decisions.append(Decision(job, None))
        return decisions

    # The scheduler asks

    def may_begin(self, job: Job) -> bool:
        """While only copies fail, those go on that probably delete: no event says that their key was created. An
        object that is copied now would be one more that fails. While only sessions fail, new objects go on."""
        if not self.is_on:
            return True
        is_new = not (job.sync.destination_first or self.buckets.expects_overwriting())
        goes_on = is_new if self.is_of_sessions() else self.is_of_copies() and job.sync.destination_first
        return goes_on and job.turn is None

    def may_receive(self, is_idle: bool, has_room: bool) -> bool:
        """`is_idle`: no job waits for a slot. While all syncs fail, only a key for the next try is received."""
        is_usual = not self.is_on or self.is_of_copies() or self.is_of_sessions()
        return has_room if is_usual else self.wants_another and is_idle

    def note_receive(self) -> None:
        """What is received next may have a key for the next try."""
        self.wants_another = False

    def is_of_copies(self) -> bool:
        return self.error is not None and is_of_copy(self.error)

    def is_of_sessions(self) -> bool:
        return is_of_session(self.error)

    # Time passes

    def end_suspicions(self) -> list[Decision]:
        """Of keys that failed a while ago: many that failed alike are an outage, otherwise each is at fault."""
        moment = self.now() - SUSPICION_BASES * self.base
        alike = Counter(error_code(suspect.error) for suspect in self.suspects.values() if suspect.is_sign)

        for suspect in self.suspects.values():
            code = error_code(suspect.error)
            if not self.is_on and suspect.at < moment and alike[code] >= ALIKE:
                self.begin(suspect.error, alike[code])

        if self.is_on:
            return []
        found = self.take(lambda suspect: suspect.at < moment)
        return [Decision(job, suspect.error) for job, suspect in found.items()]

    def try_next(self, waiting: Job | None) -> Job | None:
        """Which job begins now although there is an outage. `waiting`: the first of those that wait for a slot.

        The next try does not wait for the end of this one, which may be far off.
        """
        if not self.is_on or self.now() < self.next_try:
            return None
        self.wants_another = True

        failed = next(iter(self.suspects), None)
        # A new object would not show whether sessions work again.
        job = failed if failed and self.is_of_sessions() else waiting or failed
        if job:
            self.suspects.pop(job, None)
            self.tried.add(job)
            self.pause = min(2 * self.pause, PAUSES[1])
            self.next_try = self.now() + self.pause
        return job

    def gives_up(self) -> bool:
        """Whether the outage has lasted for too long to go on waiting for its end, which is logged."""
        if self.began is None or self.error is None or self.now() - self.began < OUTAGE_BASES * self.base:
            return False
        log.error(OUTAGE_ENDS, self.now() - self.began, describe(self.error))
        return True

    def stop(self) -> list[Decision]:
        """The worker has to stop, which is no fault of a key."""
        return [Decision(job, Interrupted()) for job in self.take(lambda _: True)]

    def take(self, is_meant: Callable[[Suspect], bool]) -> dict[Job, Suspect]:
        taken = {job: suspect for job, suspect in self.suspects.items() if is_meant(suspect)}
        for job in taken:
            del self.suspects[job]
        return taken


def is_of_copy(error: Exception) -> bool:
    answer = error.__cause__ or error
    return isinstance(answer, ClientError) and answer.operation_name in COPYING
