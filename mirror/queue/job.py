"""A job: the sync of a key with all messages on that key that this process holds."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from mirror.model.errors import HANDED_BACK
from mirror.protocol.attempt import KeySync
from mirror.queue.lease import Lease


@dataclass(eq=False)
class Job:
    """A sync with all messages on its key that this process holds, in the order in which they came."""

    sync: KeySync
    leases: list[Lease] = field(default_factory=list)
    covered: int = 0  # how many of them came before the latest look at the source
    joined_left_over: bool = False  # one of those that came since may have left an upload behind
    running: bool = False
    has_slot: bool = False
    turn: asyncio.Future[None] | None = None  # set when it waits for a slot to go on
    cleared: int = 0  # how often others got through after it had failed in a way in which all may fail
    started: float = 0.0
    looked: float = 0.0  # when its latest look began
    task: asyncio.Task[None] | None = None

    def join(self, lease: Lease) -> None:
        """A message that comes while the sync runs is about its next look at the source."""
        sync, content = self.sync, lease.content
        came_before = lease.received.receive_count > 1
        self.leases.append(lease)
        sync.event_time = earlier(sync.event_time, content.event_time)
        sync.waiting_since = earlier(sync.waiting_since, content.waiting_since)
        sync.compares_bytes = sync.compares_bytes or content.compares_bytes
        # Only if all messages are about ghosts. Another delivery may follow one whose worker died while it copied the
        # key.
        is_about_ghost = content.are_ghosts and not came_before
        is_first = len(self.leases) == 1
        sync.spares_foreign = is_about_ghost and (is_first or sync.spares_foreign)
        if self.running:
            self.joined_left_over = self.joined_left_over or came_before or sync.key in content.uploads
            return
        sync.destination_first = sync.destination_first or content.destination_first or came_before
        sync.is_creation = sync.is_creation or content.is_event
        sync.redelivered = sync.redelivered or came_before
        sync.upload = sync.upload or content.uploads.get(sync.key)

    def take_overtaken(self) -> list[Lease]:
        """The messages that came before the latest look, without the newest on the key: until the sync has ended
        somebody has to look at the source again, and if this process dies, the one that gets that message does."""
        done = self.leases[: min(self.covered, len(self.leases) - 1)]
        self.leases = self.leases[len(done) :]
        self.covered -= len(done)
        return done

    def split(self, error: Exception | None) -> tuple[list[Lease], list[Lease]]:
        """The messages for which the sync has ended, and those that came too late for its latest look."""
        is_for_all = isinstance(error, HANDED_BACK) or not self.covered
        covered = len(self.leases) if is_for_all else self.covered
        return self.leases[:covered], self.leases[covered:]


def earlier(one: float | None, other: float | None) -> float | None:
    return min((moment for moment in (one, other) if moment is not None), default=None)
