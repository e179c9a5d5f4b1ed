"""Every interleaving of the syncs of a key with midnights, the lifecycle of the directory bucket, and removals.

As interleave.py, with KEEP_DAYS. A midnight may pass at any step; a sync asks for the time as it asks S3, and what it
was answered grows old. The lifecycle takes a copy once that is old enough by its own time, at any step after, or never.
A removal is what `reconcile --remove-unwanted` does with one key; any number of days may lie between its steps.

What is promised, of a source version that was changed on day d, at the midnight that begins day d + KEEP_DAYS + 1 and
after it ("expired"):

1. At the end, when all messages are handled: of a source in time an equal copy, though the lifecycle and removals took
   what they could; of an expired one an equal copy or none, of no source none.
2. At no step does a copy of the current version of a source in time disappear, no matter who removes it.
3. No copy is begun of what a sync knows to be expired.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from dataclasses import replace
from functools import cache
from itertools import combinations
from typing import Any

from fakes import SETTINGS, Copy, Store, Version
from interleave import DAY, Case, Message, Search, State, Step, Sync, Syncs, is_over, ordered
from readers import Readers

from mirror.model.selection import SECONDS_OF_DAY
from mirror.protocol.attempt import KeySync
from mirror.protocol.buckets import LeftOut
from mirror.protocol.sync import Syncer
from mirror.readers.repairs import Removal

REMOVAL = Message(is_removal=True)
BEGINS_COPY = {"copy_object", "create_multipart_upload", "upload_part_copy"}


def with_days(changes: tuple[str, ...], days: int) -> Iterator[tuple[str, ...]]:
    """The changes, with this many midnights wherever they may be among them."""
    places = range(len(changes) + days)
    for chosen in combinations(places, days):
        rest = iter(changes)
        yield tuple(DAY if place in chosen else next(rest) for place in places)


class Removals(Syncs):
    """A removal is run as a sync is: reconcile has found the key unwanted, at any time before."""

    def work(self, syncer: Syncer, sync: KeySync, message: Message) -> Coroutine[Any, Any, Any]:
        if message.is_removal:
            return Removal(syncer.buckets, sync.interruption, most=1, asked=("unwanted", "foreign")).remove(sync.key)
        return super().work(syncer, sync, message)


class Keeping(Search):
    def __init__(self, case: Case) -> None:
        super().__init__(case)
        settings = replace(SETTINGS, keep_days=case.keep_days if case.coded_days is None else case.coded_days)
        self.syncs = Removals(LeftOut(conditions=case.unconditional), settings)

    def copied_at(self, _version: Version) -> int:
        """When it was put last, or at least before the search begins."""
        return self.now(State())

    def now(self, state: State) -> int:
        """For LastModified, by the clock that the source's changes are on."""
        return self.day(state) * SECONDS_OF_DAY + len(self.case.before) + state.changes

    # What can happen next

    def steps(self, state: State) -> Iterator[Step]:
        yield from super().steps(state)
        if any(self.syncs.positions[sync.position].end for sync in state.syncs):
            return  # as there
        yield from self.late(state)
        if state.removals:
            position = self.syncs.start(REMOVAL, of_function=False)
            syncs = ordered([*state.syncs, Sync(position, ())])
            begun = state._replace(syncs=syncs, removals=state.removals - 1)
            yield Step(("(reconcile) removes what is unwanted",), begun, None, position)

    def free(self, state: State) -> list[bool]:
        return super().free(state._replace(syncs=tuple(sync for sync in state.syncs if not self.is_removal(sync))))

    def is_removal(self, sync: Sync) -> bool:
        return self.syncs.positions[sync.position].message.is_removal

    def join(self, state: State, sync: Sync) -> Iterator[Step]:
        return iter(()) if self.is_removal(sync) else super().join(state, sync)

    def end(self, state: State, sync: Sync) -> Iterator[Step]:
        """Nobody waits for what a removal left under way, and nobody looks after it."""
        if not self.is_removal(sync):
            yield from super().end(state, sync)
            return
        words = ("ends:", self.syncs.positions[sync.position].end)
        yield Step(words, self.park(self.left(state, sync), [*sync.lost], []), sync.position)

    def dated(self, before: Store, store: Store, state: State) -> Store:
        """Of an upload that is its begin."""
        began, now = {upload.upload_id: upload.second for upload in before.uploads}, self.now(state)
        uploads = tuple(upload._replace(second=began.get(upload.upload_id, now)) for upload in store.uploads)
        if store.copy and store.copy is not before.copy:
            done = set(began) - {upload.upload_id for upload in uploads}
            second = began[done.pop()] if done else now
            store = store._replace(copy=store.copy._replace(second=second))
        return store._replace(uploads=uploads)

    # What must not happen

    def fault(self, before: State, state: State) -> str | None:
        for sync in state.syncs:
            if self.copies_what_is_expired(sync.position):
                return "a copy is begun of what may be expired"
        return super().fault(before, state)

    @cache  # noqa: B019 few are alive
    def copies_what_is_expired(self, number: int) -> bool:
        position = self.syncs.positions[number]
        if position.call is None or position.call.operation not in BEGINS_COPY:
            return False
        days = [answer // SECONDS_OF_DAY for answer in position.answers if isinstance(answer, int)]
        versions = [answer for answer in position.answers if isinstance(answer, Version)]
        return not days or is_over(self.case, versions[-1].second, days[-1])

    def fault_for_a_while(self, before: State, state: State) -> str | None:
        gone = before.store[0].copy and not state.store[0].copy
        return None if gone and self.may_be_gone(state) else super().fault_for_a_while(before, state)

    def fault_at_rest(self, state: State) -> str | None:
        is_gone = not state.store[0].copy
        return None if is_gone and self.may_be_gone(state) else super().fault_at_rest(state)

    def may_be_gone(self, state: State) -> bool:
        source = self.held[state.changes][0]
        return source is not None and is_over(self.case, source.second, self.day(state))


class KeepingReaders(Readers):
    """Markers with KEEP_DAYS: a reader need not find what has expired since the marker was put.

    No midnight passes while a call is under way, as none lasts for days, and the code counts on that.
    """

    def steps(self, state: State) -> Iterator[Step]:
        is_calm = not any(sync.running or sync.lost for sync in state.syncs) and not any(
            parked.calls for parked in state.parked
        )
        yield from (step for step in super().steps(state) if is_calm or step.words != ("source:", DAY))

    def fault(self, before: State, state: State) -> str | None:
        if self.case.eventless and state.changes < len(self.case.changes):
            return None  # only the end is looked at
        return super().fault(before, state)

    def is_let_go(self, copy: Copy | None, version: Version | None, state: State) -> bool:
        return copy is None and version is not None and is_over(self.case, version.second, self.day(state))

    def was_let_go(self, file: int, put: int, now: int) -> bool:
        """Also a version that was overwritten since: the lifecycle may take its copy before the new one is there."""
        versions = [held[file] for held in self.held[put : now + 1]]
        day = self.day(State(now))
        return any(version and is_over(self.case, version.second, day) for version in versions)
