"""Every interleaving of the syncs of a Delta table's files, for a reader who opens the table after every step.

As readers.py, with TABLES. A change is "put" or "delete" of a file of data/, or one of these:

    commit 3 a3+f-e     the commit 3, which adds f and removes e. The letter says which table it is: one that was
                        made again in the same folder has another
    checkpoint 3 a3+f   which names all files of that version
    point 3 @3          the pointer to it
    drop, drop-checkpoint, drop-pointer 3: deletes them

A commit "a3+f~" has the bytes of "a3+f" and another ETag, as one that was copied onto itself.

What is promised to a reader, who opens what the pointer or the newest checkpoint and the commits after it say:

1. Whole. Each file that the version names is there, unless the source no longer has it. No commit is there
   without the one before it, and a pointer names a checkpoint that is there.
2. The version never goes back.
3. A file that the source has deleted goes only when no visible version names it, if the source's own log did not.
4. At the end both sides are equal, and nothing waits although nothing is missing.

With `remembers`, whether a folder has a log may be answered with what was there before, at any time: a worker remembers
that for some seconds. The first commit of a table waits until nobody does any more; that pause is a step. It ends after
the syncs that have relied on what was before it, as these send their delete at once.

A table that is made again has a time in which it cannot be opened. Then 1 is that no version is visible, or one that is
whole and of one table only, and 2 is not asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

from fakes import Copy, Running, Version
from interleave import FOLDER, PAUSE, Case, State, Step, Sync
from readers import Readers, ours

from mirror.options.table_log import FIRST_SHOWN_SECONDS
from mirror.protocol.buckets import LeftOut

LOG = "_delta_log/"
NAMES = {
    "commit": "put {log}{version:020}.json {content}",
    "checkpoint": "put {log}{version:020}.checkpoint.parquet {content}",
    "point": "put {log}_last_checkpoint {content}",
    "touch-commit": "touch {log}{version:020}.json {content}",
    "touch-pointer": "touch {log}_last_checkpoint {content}",
    "drop": "delete {log}{version:020}.json",
    "drop-checkpoint": "delete {log}{version:020}.checkpoint.parquet",
    "drop-pointer": "delete {log}_last_checkpoint",
}
BROKEN = "broken"


def written(change: str) -> str:
    name, *rest = change.split(" ")
    if name not in NAMES:
        return change
    return NAMES[name].format(log=LOG, version=int(rest[0]), content=rest[1] if rest[1:] else "")


def log_names(*foreign: str) -> tuple[str, ...]:
    """The names of log files, such as of "commit 3", for the argument `foreign`."""
    return tuple(written(f"{name} x").split(" ")[1] for name in foreign)


class Seen(NamedTuple):
    """What a reader finds in a bucket: a version with its files, or why there is none."""

    version: int = -1
    table: str = ""
    files: frozenset[str] = frozenset()
    problem: str = ""


@dataclass(frozen=True)
class Remembered:
    """A listing that was empty after this many changes."""

    changes: int

    def __iter__(self) -> Iterator[Any]:
        return iter(())


class TableReaders(Readers):
    def __init__(
        self,
        case: Case,
        is_anew: bool = False,
        may_stay: bool = False,  # what a worker that dies copies for another key while the source deletes it
        remembers: bool = False,
        are_young: bool = False,  # log files, so that listings decide nothing
        patterns: str = "",
        **arguments,
    ) -> None:
        case = case._replace(changes=tuple(map(written, case.changes)), before=tuple(map(written, case.before)))
        super().__init__(case, patterns=patterns, **arguments)
        self.is_anew = is_anew
        self.may_stay = may_stay
        self.syncs.settings = replace(self.syncs.settings, tables="delta")
        self.syncs.refused = LeftOut(conditions=case.unconditional)
        self.syncs.wall = lambda: 0.0 if are_young else 1e9
        self.remembers = remembers
        self.syncs.relied_on = FIRST_SHOWN_SECONDS if remembers else 0.0

    # What workers remember

    def go_on(self, state: State, sync: Sync) -> Iterator[Step]:
        call = self.syncs.positions[sync.position].call
        assert call
        if call == PAUSE and sync.running and sync.running.read and self.relies_on(state) < sync.running.read.stamp:
            return
        yield from super().go_on(state, sync)
        if self.remembers and call.operation == "list_objects_v2" and call.size == 1 and call.on_source:
            held = self.held[state.forgotten : state.changes]
            without = [at for at, versions in enumerate(held, state.forgotten) if not self.has_any(versions, call.key)]
            if without and self.has_any(self.held[state.changes], call.key):
                yield self.answer(state, sync, Remembered(without[-1]), (Running(call), "is remembered as empty"))

    def has_any(self, versions: tuple[Version | None, ...], prefix: str) -> bool:
        return any(version and key.startswith(prefix) for key, version in zip(self.keys, versions, strict=True))

    def relies_on(self, state: State) -> int:
        """The oldest state of the source that a sync has taken for the present one."""
        answers = (answer for sync in state.syncs for answer in self.syncs.positions[sync.position].answers)
        return min((answer.changes for answer in answers if isinstance(answer, Remembered)), default=state.changes)

    def serve(self, state: State, running: Running) -> tuple[State, Running | None, Any]:
        if running.call != PAUSE:
            return super().serve(state, running)
        if running.read is None:
            return state, running._replace(read=Copy("", (), "", "", state.changes)), None
        return state._replace(forgotten=max(state.forgotten, running.read.stamp)), None, "over"

    # What a reader finds

    @cache  # noqa: B019 few are alive
    def seen(self, contents: tuple[str | None, ...]) -> Seen:
        log = {
            key.removeprefix(FOLDER + LOG): content.rstrip("~")
            for key, content in zip(self.keys, contents, strict=True)
            if content and key.startswith(FOLDER + LOG)
        }
        commits = {int(name[:20]): content for name, content in log.items() if name.endswith(".json")}
        checkpoints = {int(name[:20]): content for name, content in log.items() if name.endswith(".parquet")}
        if not commits and not checkpoints:
            return Seen()
        pointer = log.get("_last_checkpoint")
        if pointer and int(pointer[1:]) not in checkpoints:
            return Seen(problem=f"the pointer {pointer} names a checkpoint that is not there")
        begin = max(checkpoints, default=-1)
        newest = max([begin, *commits])
        chain = [checkpoints[begin]] if begin >= 0 else []
        for version in range(begin + 1, newest + 1):
            if version not in commits:
                return Seen(problem=f"version {newest} is there, and {version} is not")
            chain.append(commits[version])
        files: set[str] = set()
        for content in chain:
            files |= set(re.findall(r"\+([^+-]+)", content))
            files -= set(re.findall(r"-([^+-]+)", content))
        names = {content[0] for content in chain}
        if len(names) > 1:
            return Seen(problem=f"a version of two tables: {chain}")
        return Seen(newest, names.pop(), frozenset(files))

    def in_destination(self, state: State) -> tuple[str | None, ...]:
        return tuple(copy.content[0] if copy else None for copy in map(ours, state.store))

    def in_source(self, changes: int) -> tuple[str | None, ...]:
        return tuple(version.content if version else None for version in self.held[changes])

    # What must not happen

    def fault_for_a_while(self, before: State, state: State) -> str | None:
        old, new = self.seen(self.in_destination(before)), self.seen(self.in_destination(state))
        if new.problem:
            is_excused = self.is_anew and not new.problem.startswith("a version of two")
            return None if is_excused or not self.can_be_opened(state.changes) else new.problem
        if new.version < old.version and not self.is_anew and self.can_be_opened(state.changes):
            return f"version {new.version} after {old.version}"
        for name in new.files:
            number = self.names[FOLDER + name]
            if state.store[number].copy:
                continue
            if self.held[state.changes][number]:
                return f"{name} of version {new.version} is missing"
            at = self.deleted_at(number, state)
            if before.store[number].copy and self.can_be_opened(at) and name not in self.seen(self.in_source(at)).files:
                return f"{name} is deleted before version {new.version} that names it has gone"
        return None

    def is_let_go(self, _copy: Copy | None, version: Version | None, _state: State) -> bool:
        return self.may_stay and version is None

    def can_be_opened(self, changes: int) -> bool:
        """Whether the source's own table can."""
        found = self.seen(self.in_source(changes))
        return not found.problem and found.version >= 0

    def deleted_at(self, number: int, state: State) -> int:
        versions: list[Version | None] = [held[number] for held in self.held[: state.changes + 1]]
        return max(at for at, version in enumerate(versions) if version is None and at and versions[at - 1])
