"""How far a walk through both buckets is, and when it will have ended, once that can be said."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

PROGRESS_SECONDS = 10
# Before it is said how long the rest takes: so long, and for this share of the time so far, no new folder was found
# while this many were done.
QUIET_SECONDS, QUIET_SHARE, QUIET_FOLDERS = 20.0, 0.25, 10
STALLED_SECONDS = 30.0  # a walk that has done no folder for so long is in a large one, which hides the rest


@dataclass(eq=False)
class Progress:
    """Of one walk: of its folders, those that are known and those that are done. Nobody knows the number of keys before
    the end, and that of the folders grows as long as new ones are found."""

    now: Callable[[], float] = time.monotonic
    known: int = 0
    done: int = 0
    grown: tuple[float, int] = (0.0, 0)  # when a new folder was found last, and how many were done then
    done_at: float = 0.0  # when a folder was done last
    started: float = field(init=False)

    def __post_init__(self) -> None:
        self.started = self.done_at = self.now()

    def text(self, listed: int, done: int, known: int) -> str:
        """For the log, after the numbers of what was found."""
        self.note(done, known)
        rate = listed / max(self.now() - self.started, 0.001)
        left = self.left()
        rest = "left=estimating" if left is None else f"far={100 * done // known}% left={left:.0f}s"
        return f"keys/s={rate:.0f} folders={done}/{known} {rest}"

    def note(self, done: int, known: int) -> None:
        if known > self.known:
            self.known, self.grown = known, (self.now(), done)
        if done > self.done:
            self.done, self.done_at = done, self.now()

    def left(self) -> float | None:
        """Seconds, at the rate since the last folder was found; None if nobody can say."""
        found_at, done_then = self.grown
        quiet, done = self.now() - found_at, self.done - done_then
        is_known = quiet >= max(QUIET_SECONDS, QUIET_SHARE * (self.now() - self.started)) and done >= QUIET_FOLDERS
        if not is_known or self.done >= self.known or self.now() - self.done_at > STALLED_SECONDS:
            return None
        return (self.known - self.done) * quiet / done
