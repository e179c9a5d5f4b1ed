"""Every interleaving of the syncs of several keys, for a reader who looks at the destination after every step.

As interleave.py, but with several keys and COPY_LAST. A sync is of one key; it lists, looks at other keys and deletes
an old marker, as markers.py has it. A listing is one call, answered with what all keys are at that moment
(several pages are no other: each key is judged by its own entry).

What is promised. A marker version m was put as change p of the source, and the destination holds a copy of it. A copy
without provenance counts as one of what S3 read.

1. Complete. Each file that the source held after change p is in the destination as the source had it at p or later, or
   it has been deleted since.
2. No ghosts. A file that the source did not hold after change p is not in the destination, unless as the source had it
   later. But for a copy of a file that S3 had under way when the marker was let through: it may land, and goes again.
3. Deleted first. If m was deleted in the source as change d, then no change of a file that came after d is visible
   while m's copy is there. But for a copy of m that S3 had under way at d, and but for a marker that was in the source
   again between the file's change and its copy.
4. At the end both sides are equal, markers too, and no marker waits although nothing is missing.
5. What others have written in the destination is deleted only if the source has a change of that key. Readers ignore
   it here, and it stays at the end.

So 1, 4 and 5 are asserted always, 2 if the copies of files take no time, 3 if those of markers take none; or both if
there is one sync at a time, and no crash, stop or lost answer leaves a copy under way.

Time passes only with answers. What a gate finds missing is handed back, and delivered again once a bucket has changed.
No message joins a running sync here, and no function copies: interleave.py has that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

from fakes import ENVIRONMENT, Copy, Running, Source, Store, Version, identity, serve
from interleave import (
    FOLDER,
    LOOK,
    Call,
    Case,
    Parked,
    Search,
    State,
    Step,
    Sync,
    Syncs,
    handed_back,
    ordered,
    replaced,
)

from mirror.model.selection import SECONDS_OF_DAY
from mirror.protocol.buckets import LeftOut
from mirror.settings import load_settings

FILES, MARKERS = "files", "markers"
THEIRS = "theirs"  # the content of a foreign object
RETURNED = "returned"
COPIED_AT, CHANGED_AT = 10_000, 20_000  # seconds: what is there before was copied long ago, so listings show that


class Readers(Search):
    """A change is "put NAME CONTENT", "touch NAME LABEL", "delete NAME", ... of a key under data/."""

    def __init__(
        self,
        case: Case,
        patterns: str = "_SUCCESS",
        instant: tuple[str, ...] = (),  # FILES, MARKERS: their copies (but in parts) read and land in one step
        # What is asserted; None: as `instant`. FILES: no ghosts. MARKERS: deleted first; RETURNED: always.
        strict: tuple[str, ...] | None = None,
        is_recent: bool = False,  # what is there before was copied so lately that listings do not show it
        patience: int = 0,  # seconds for which a marker's sync looks again
        seconds: float = 2,  # until S3 answers, so that nothing is remembered; 31: a marker's sync looks at the source
        lists_twice: bool = False,  # the destination lists each key once more, as it may if that changes meanwhile
        foreign: tuple[str, ...] = (),  # keys under which others have written something before
    ) -> None:
        super().__init__(case)
        self.changed = frozenset(self.keys)
        self.foreign = frozenset(FOLDER + name for name in foreign)
        self.keys = sorted(self.changed | self.foreign)
        self.names = {key: number for number, key in enumerate(self.keys)}
        self.held = [self.source_after(changes) for changes in range(len(case.changes) + 1)]
        self.patterns = patterns.split(",")
        self.instant = instant
        self.strict = instant if strict is None else strict
        self.is_recent = is_recent
        self.lists_twice = lists_twice
        settings = replace(load_settings(ENVIRONMENT | {"COPY_LAST": patterns}), patience=patience)
        settings = replace(settings, keep_days=case.keep_days)
        self.syncs = Syncs(LeftOut(conditions=case.unconditional), settings)
        self.syncs.now = lambda sync: sync.interruption.paused + seconds * sync.interruption.answers.given

    def parsed(self, change: str) -> tuple[str, str, str]:
        name, key, content = [*change.split(" "), "done"][:3]
        return name, key, content

    def second_of(self, number: int) -> int:
        since = number - len(self.case.before)
        return number if since <= 0 else CHANGED_AT + (0 if self.case.same_second else since)

    def copied_at(self, version: Version) -> int:
        return version.second if self.is_recent else COPIED_AT

    def is_marker(self, key: str) -> bool:
        name = key[key.rfind("/") + 1 :]
        return any(fnmatchcase(key if "/" in pattern else name, pattern) for pattern in self.patterns)

    def start(self) -> State:
        state = super().start()
        theirs = Store(Copy('"f0"', (THEIRS,), "label", "", 0, COPIED_AT))
        stores = zip(self.keys, state.store, strict=True)
        return state._replace(store=tuple(theirs if key in self.foreign else store for key, store in stores))

    # What can happen next

    def steps(self, state: State) -> Iterator[Step]:
        for step in [*super().steps(state), *self.late(state)]:
            after = step.state
            is_change = after.changes != state.changes or after.store != state.store
            yield step._replace(state=self.stirred(after)) if is_change else step

    def answer(self, state: State, sync: Sync, answer: Any, words: tuple[Any, ...], lost: Sync | None = None) -> Step:
        """It may ask for a look at another key: a marker that it has deleted, or whose delete got no answer."""
        asked = len(self.syncs.positions[sync.position].asked)
        new = self.syncs.positions[self.syncs.answered(sync.position, answer)].asked[asked:]
        is_late = any(late for _, late in new)
        step = super().answer(state, sync, answer, words, None if is_late else lost)
        calls = [words[0]] if is_late else []
        looks = [LOOK._replace(key=key) for key, _ in new]
        return step._replace(state=self.park(step.state, calls, looks)) if new else step

    def stirred(self, state: State) -> State:
        """A bucket has changed: what waits for that is delivered again."""
        waiting = [parked for parked in state.parked if not parked.calls]
        queue = [*state.queue, *(message for parked in waiting for message in parked.messages)]
        return state._replace(
            syncs=ordered([sync._replace(calm=False) for sync in state.syncs]),
            queue=ordered(queue) if waiting else state.queue,
            parked=tuple(parked for parked in state.parked if parked.calls),
        )

    def end(self, state: State, sync: Sync) -> Iterator[Step]:
        """A sync that is put off not for the first time, and has seen all as it is, would be put off again until
        something changes."""
        position = self.syncs.positions[sync.position]
        waits = position.end == "postponed" and sync.calm and not (position.may_land and sync.lost)
        waits = waits and position.message.put_off
        for step in super().end(state, sync):
            if waits and step.words[0] == "ends:":
                after = step.state
                messages = ordered(handed_back(sync, position))
                for message in messages:
                    after = after._replace(queue=replaced(after.queue, message))
                parked = ordered([*after.parked, Parked((), messages)])
                yield step._replace(state=after._replace(parked=parked))
            else:
                yield step

    def serve(self, state: State, running: Running) -> tuple[State, Running | None, Any]:
        after, still, answer = super().serve(state, running)
        if still and (MARKERS if self.is_marker(running.call.key) else FILES) in self.instant:
            return super().serve(after, still)
        return after, still, answer

    def answer_to(self, state: State, call: Call) -> Any:
        if call.operation == "list_objects_v2":
            held = self.held[state.changes] if call.on_source else [store.copy for store in state.store]
            entries = [*zip(self.keys, held, strict=True)] * (2 if self.lists_twice and not call.on_source else 1)
            return tuple(entry for entry in entries if entry[1] and entry[0].startswith(call.key))
        if call.operation == "list_multipart_uploads":
            return ()
        if call.key:  # a marker that never is
            return serve(Source(None, 0), Store(), Running(call))[2]
        return super().answer_to(state, call)

    def dated(self, _before: Store, store: Store, state: State) -> Store:
        second = CHANGED_AT + state.changes + self.day(state) * SECONDS_OF_DAY
        return store._replace(copy=store.copy and store.copy._replace(second=second))

    # What must not happen

    def fault(self, before: State, state: State) -> str | None:
        for key in self.foreign - self.changed:
            if before.store[self.names[key]].copy and not state.store[self.names[key]].copy:
                return f"a foreign object is deleted: {key}"
        return super().fault(before, state)

    def fault_for_a_while(self, _before: State, state: State) -> str | None:
        return self.fault_for_a_reader(tuple(map(ours, state.store)), state.changes)

    def fault_at_rest(self, state: State) -> str | None:
        if self.case.eventless and state.changes < len(self.case.changes):
            return None  # nobody knows of the difference before the marker comes
        for key, store, version in zip(self.keys, state.store, self.held[state.changes], strict=True):
            is_left = key not in self.changed and ours(store) is None
            if not (is_left or is_shown(store.copy, version) or self.is_let_go(store.copy, version, state)):
                return f"at rest {key} is {shown(store.copy)} in the destination, {shown(version)} in the source"
        return "a marker waits although nothing lacks" if state.parked else None

    def is_let_go(self, _copy: Copy | None, _version: Version | None, _state: State) -> bool:
        """Whether KEEP_DAYS allows for the difference."""
        return False

    @cache  # noqa: B019 few are alive
    def fault_for_a_reader(self, copies: tuple[Copy | None, ...], now: int) -> str | None:
        for number, (key, copy) in enumerate(zip(self.keys, copies, strict=True)):
            if copy and self.is_marker(key):
                put = self.put_as(number, copy, now)
                announced = [other for other in self.names if self.announces(key, other)]
                for other in announced:
                    there = copies[self.names[other]]
                    fault = self.fault_of(number, put, self.names[other], there, now)
                    if fault:
                        return f"{fault}: {key} of change {put} beside {other} = {shown(there)}"
        return None

    def announces(self, marker: str, other: str) -> bool:
        """All that is under its folder; but two markers of the same folder do not wait for each other."""
        folder = marker[: marker.rfind("/") + 1]
        return other.startswith(folder) and not (other[: other.rfind("/") + 1] == folder and self.is_marker(other))

    def put_as(self, number: int, copy: Copy, now: int) -> int:
        """The change that put the marker of which this is a copy."""
        versions = [held[number] for held in self.held[: now + 1]]
        if copy.provenance:
            return next(at for at, version in enumerate(versions) if version and identity(version) == copy.provenance)
        put = copy.stamp
        while put and versions[put - 1] == versions[copy.stamp]:
            put -= 1
        return put

    def fault_of(self, marker: int, put: int, file: int, there: Copy | None, now: int) -> str | None:
        files = [held[file] for held in self.held[: now + 1]]
        matches = [at for at, version in enumerate(files) if is_shown(there, version)]
        if not any(at >= put for at in matches):
            if files[put] and None not in files[put:] and not self.was_let_go(file, put, now):
                return "not complete"
            if FILES in self.strict:
                return "a ghost"
        away = [at for at in range(put, now + 1) if self.held[at][marker] is None]
        is_away = RETURNED in self.strict or (bool(matches) and set(range(matches[0], now + 1)) <= set(away))
        if MARKERS in self.strict and away and matches and matches[0] > away[0] and is_away:
            return "not deleted first"
        return None

    def was_let_go(self, _file: int, _put: int, _now: int) -> bool:
        """Whether a version of it that the source had since that change has expired."""
        return False


def ours(store: Store) -> Copy | None:
    return None if store.copy and store.copy.content[0] == THEIRS else store.copy


def is_shown(copy: Copy | None, version: Version | None) -> bool:
    if copy is None or version is None:
        return copy is None and version is None
    return (copy.content[0], copy.label) == (version.content, version.label)


def shown(found: Copy | Version | None) -> str:
    if found is None:
        return "absent"
    return f"{found.content[0] if isinstance(found, Copy) else found.content} {found.label}"
