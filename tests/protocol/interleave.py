"""Every interleaving of the real Syncer.sync() with itself, source changes, crashes, stops and lost answers.

Here of one key; readers.py has several. With KEEP_DAYS, which keeping.py searches, the clock is one more bucket: to
look at it is a call that is answered.

Each of the syncs is a worker's or the function's, which copies small objects only.

All that a sync knows of the world are the answers of S3. So a running sync is known by the list of answers it got:
`Syncs` runs the real code from its start with the answers that are known, up to the first call that is still to be
answered. Therefore a state of the whole world is a plain value (`State`), no thread is needed, and each state is
searched once, however many schedules lead to it.
"""

from __future__ import annotations

import string
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError, ReadTimeoutError
from fakes import (
    FUNCTION_SETTINGS,
    LARGE,
    SETTINGS,
    SMALL,
    WAITS_CLOCK,
    WRITES,
    Call,
    Client,
    Copy,
    OpenUpload,
    Running,
    Source,
    Store,
    Version,
    call_from,
    identity,
    of_key,
    run,
    serve,
    shaped,
    syncer_on,
)

from mirror.model.errors import Changed, Interrupted, Postponed, Unfinished, describe
from mirror.model.selection import SECONDS_OF_DAY
from mirror.protocol.attempt import Host, Interruption, KeySync, Upload
from mirror.protocol.buckets import LeftOut
from mirror.protocol.sync import Syncer
from mirror.settings import Settings

WAITED_FOR = {"copy_object", "delete_object", "complete_multipart_upload"}  # they change the destination
LOSABLE = WAITED_FOR | {"upload_part_copy"}
TIMEOUT = "timeout"
INTERRUPT = "interrupt"
HANDED_BACK = ("interrupted", "postponed")  # ends of a sync whose messages are sent again
OF_FUNCTION = {"crashes": "kills", "stops": "deadlines"}  # what workers and the function have each of their own
# Fields of Case and State: how often each may happen, and may still.
MAY_HAPPEN = ("crashes", "losses", "stops", "duplicates", "joins", "removals", "functions", "kills", "deadlines")
LEFT_OVER = "left over"  # a message joins that an earlier worker may have left an upload with
DAY = "day"
FOLDER = "data/"
CLOCK = Call("clock", False, "", "", "", 0, (), None, "")
PAUSE = Call("pause", False, "", "", "", 0, (), None, "")


class Case(NamedTuple):
    """What is searched. `changes` are those that changed() knows, a "put" with its bytes, a "touch" with its label."""

    changes: tuple[str, ...]
    before: tuple[str, ...] = ()  # changes that are synced already
    workers: int = 2  # syncs at the same time
    crashes: int = 0
    losses: int = 0  # answers that do not arrive, while S3 goes on
    stops: int = 0  # SIGTERM
    duplicates: int = 0  # deliveries of a message whose first delivery is still being worked on
    joins: int = 0  # messages that a worker receives while it syncs their key
    keep_days: int = 0  # then a change may be DAY: a midnight passes
    removals: int = 0  # of reconcile --remove-unwanted, that may begin at any step
    guesses: bool = False  # a creation's sync may look at the destination first, as most keys were there already
    size: int = SMALL
    versioned: bool = False
    same_second: bool = False  # all changes have the same LastModified
    opaque: bool = False  # metadata that cannot be sent back: copied by S3, without provenance
    unconditional: frozenset[str] = frozenset()  # writes whose conditions the directory bucket refuses
    functions: int = 0  # invocations of the function that copies, one after the other; the workers are beside it
    kills: int = 0  # of the function, at any step
    deadlines: int = 0  # at which it hands back, at any step
    begun: bool = False  # a stopped worker has handed on an upload with one part, of what was there before
    early: bool = False  # planted fault: a message comes back while a call of its sync is still under way
    frozen: frozenset[str] = frozenset()  # planted fault: such a call of the function is sent after its hand-back
    forgetful: bool = False  # planted fault: what the function hands back is without its upload
    eventless: str = ""  # planted fault: changes that begin so have no event
    coded_days: int | None = None  # planted fault: the KEEP_DAYS that the code has
    kept: str = "newest"  # until the sync has ended, of the messages that an earlier look covers; planted: another


class Message(NamedTuple):
    key: str = "data/key"
    destination_first: bool = False
    redelivered: bool = False
    upload: Upload | None = None
    twice: bool = False  # delivered a second time while the first delivery was being worked on
    put_off: bool = False  # a sync that waited for others has handed it back
    is_removal: bool = False  # no message: what reconcile does

    def __str__(self) -> str:
        if self.upload:
            return f"a message handed back with upload {self.upload.upload_id}"
        kinds = {CREATED: "an event", LOOK: "a deletion's event or a request to look"}
        return kinds.get(self._replace(key=CREATED.key), "a message delivered again") + of_key(self.key, " of ")


CREATED = Message()
LOOK = Message(destination_first=True)  # a deletion's event, or a request to look again


class Held(NamedTuple):
    """A message that a worker holds for a sync. Late: it came after the last look at the source began."""

    message: Message
    late: bool = False


class Sync(NamedTuple):
    """A running Syncer.sync(): the answers it got (a number of Syncs), what S3 does for it, lost calls too, and the
    messages that are not acknowledged, in the order they came."""

    position: int
    held: tuple[Held, ...]
    running: Running | None = None
    lost: tuple[Running, ...] = ()
    calm: bool = True  # no bucket has changed since it began; only readers.py asks


class Parked(NamedTuple):
    """Messages that stay invisible until the calls of their sync have ended. None: they end and nobody asks."""

    calls: tuple[Running, ...]
    messages: tuple[Message, ...]


class State(NamedTuple):
    changes: int = 0
    store: tuple[Store, ...] = ()  # of each key
    syncs: tuple[Sync, ...] = ()
    queue: tuple[Message, ...] = ()
    parked: tuple[Parked, ...] = ()
    deleted: bool = False  # the message that was delivered twice: it does not come back any more
    crashes: int = 0
    losses: int = 0
    stops: int = 0
    duplicates: int = 0
    joins: int = 0
    removals: int = 0
    functions: int = 0
    kills: int = 0
    deadlines: int = 0
    forgotten: int = 0  # no worker remembers what was before this many changes; only table_readers.py asks


class Step(NamedTuple):
    words: tuple[Any, ...]  # of the schedule: calls, messages, answers
    state: State
    before: int | None = None  # position of the sync that made it, before and after
    after: int | None = None


@dataclass(slots=True)
class Visit:
    """A state whose steps are taken one after the other, and the schedules that have been found."""

    state: State
    steps: Iterator[Step]
    schedules: int = 0


# --- The source -------------------------------------------------------------------------------------------------------

Versions = tuple[Version | None, ...]  # newest first, None is a delete marker


def changed(versions: Versions, change: str, new: Version, versioned: bool) -> Versions:
    older = versions if versioned else ()
    match change:
        case "put" | "put-large":
            return (new, *older)
        case "touch":
            assert versions[0]
            return (new._replace(content=versions[0].content, size=versions[0].size), *older)
        case "delete":
            return (None, *older) if versioned else ()
        case "delete-oldest-version":
            return versions[:-1]
        case "delete-newest-version":
            return versions[1:]
    raise ValueError(change)


def is_over(case: Case, modified: int, day: int) -> bool:
    """Whether KEEP_DAYS keeps what changed in that second no longer, counted in days."""
    return day > modified // SECONDS_OF_DAY + case.keep_days


# --- The real code, run with known answers ----------------------------------------------------------------------------


class Unanswered(BaseException):
    """Ends a run of the real code at the first call without a known answer."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.call = call


class Answers(Host):
    """Answers what is known, one call after the other, and gets the progress of the sync."""

    def __init__(self, sync: KeySync, known: tuple[Any, ...]) -> None:
        self.sync = sync
        self.known = iter(known)
        self.given = 0  # answers so far
        self.left_over = False  # since the last look began
        self.looks = self.latest_overtaken = 0  # looks that have begun; the latest that was acted on and overtaken
        self.asked: list[tuple[str, bool]] = []
        sync.host = self

    def look_begins(self, sync: KeySync) -> None:
        self.looks += 1
        sync.redelivered = sync.redelivered or self.left_over
        self.left_over = False

    def overtaken(self, _sync: KeySync) -> None:
        self.latest_overtaken = self.looks

    async def look_later(self, key: str, delay: float, **_is_ghost: bool) -> None:
        self.asked.append((key, delay > 0))

    def answer(self, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        if "MaxKeys" in arguments and "Prefix" not in arguments:
            return {}  # only whether the bucket is there
        answer = self.next_known()
        if answer is None:
            raise Unanswered(call_from(operation, arguments))
        if answer == TIMEOUT:
            raise ReadTimeoutError(endpoint_url="")
        return shaped(operation, answer)

    def next_known(self) -> Any:
        self.given += 1
        answer = next(self.known, None)
        while answer in (INTERRUPT, LEFT_OVER):
            if answer == INTERRUPT:
                self.sync.interruption.set()
            else:
                self.left_over = True
            answer = next(self.known, None)
        return answer

    def wall(self) -> float:
        answer = self.next_known()
        if answer is None:
            raise Unanswered(CLOCK)
        return float(answer)

    def pause(self) -> None:
        if self.next_known() is None:
            raise Unanswered(PAUSE)


class Unhurried(Interruption):
    """The schedule says how long anything takes; `paused` is for callers that want these seconds to pass. A pause that
    others rely on is a call that is answered."""

    paused, relied_on = 0.0, 0.0
    answers: Answers

    async def pause(self, seconds: float) -> None:
        self.paused += seconds
        if seconds and seconds == self.relied_on:
            self.answers.pause()
        self.check()


class Position(NamedTuple):
    """How far a sync has come: the call it waits for, or how it ended."""

    message: Message
    answers: tuple[Any, ...]
    call: Call | None
    end: str  # "", "done", "interrupted", "postponed" or the error
    upload: Upload | None
    may_land: bool
    looks: int  # at the source that have begun, each of which opens an attempt
    overtaken: int  # the latest of them that was acted on before the source changed
    of_function: bool
    put_off: bool  # it has waited for others, now or in an earlier delivery
    asked: tuple[
        tuple[str, bool], ...
    ]  # keys that somebody is to look at, and whether only after the call without answer


class Syncs:
    """All positions that a sync can be in, found by running the real code."""

    def __init__(self, refused: LeftOut, settings: Settings = SETTINGS) -> None:
        self.refused = refused
        self.settings = settings  # of a worker
        self.now: Callable[[KeySync], float] = lambda _: 0.0
        self.wall: Callable[[], float] = lambda: 0.0  # without KEEP_DAYS
        self.relied_on = 0.0  # seconds of a pause
        self.positions: list[Position] = []
        self.numbers: dict[Any, int] = {}

    def start(self, message: Message, of_function: bool) -> int:
        return self.number(message, (), of_function)

    def answered(self, position: int, answer: Any) -> int:
        key = (position, answer)
        if key not in self.numbers:
            known = self.positions[position]
            self.numbers[key] = self.number(known.message, (*known.answers, answer), known.of_function)
        return self.numbers[key]

    def number(self, message: Message, answers: tuple[Any, ...], of_function: bool) -> int:
        key = (message, answers, of_function)
        if key not in self.numbers:
            self.positions.append(self.run(message, answers, of_function))
            self.numbers[key] = len(self.positions) - 1
        return self.numbers[key]

    def work(self, syncer: Syncer, sync: KeySync, _message: Message) -> Coroutine[Any, Any, None]:
        return syncer.sync(sync)

    def calls_of_function(self) -> set[str]:
        return {position.call.operation for position in self.positions if position.call and position.of_function}

    def run(self, message: Message, answers: tuple[Any, ...], of_function: bool) -> Position:
        sync = KeySync(
            message.key,
            destination_first=message.destination_first,
            redelivered=message.redelivered,
            upload=message.upload,
            waiting_since=WAITS_CLOCK if message.put_off else None,
            interruption=(interruption := Unhurried()),
        )
        answering = interruption.answers = Answers(sync, answers)
        interruption.relied_on = self.relied_on
        settings = FUNCTION_SETTINGS if of_function else self.settings
        wall = answering.wall if settings.keep_days else self.wall
        syncer = syncer_on(Client(answering.answer), settings, self.refused, now=lambda: self.now(sync), wall=wall)
        call, end = None, "done"
        try:
            run(self.work(syncer, sync, message))
        except Unanswered as unanswered:
            call, end = unanswered.call, ""
        except Interrupted:
            end = "interrupted"
        except Postponed:
            end = "postponed"
        except (ClientError, BotoCoreError, Changed, Unfinished) as error:
            end = describe(error)
        may_land = sync.result.may_land_until > 0
        looks, overtaken = answering.looks, answering.latest_overtaken
        asked, put_off = tuple(answering.asked), sync.waiting_since is not None
        return Position(
            message, answers, call, end, sync.upload, may_land, looks, overtaken, of_function, put_off, asked
        )


# --- The search -------------------------------------------------------------------------------------------------------


def ordered(items: list[Any]) -> tuple[Any, ...]:
    """Which of two equal workers does something makes no difference."""
    return tuple(sorted(items, key=hash))


def replaced(items: tuple[Any, ...], old: Any, *new: Any) -> tuple[Any, ...]:
    left = list(items)
    left.remove(old)
    return ordered([*left, *new])


class Search:
    """All that can happen in one case: steps() says what can follow a state, fault() what must not."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.syncs = Syncs(LeftOut(conditions=case.unconditional))
        self.schedules: dict[State, int] = {}
        self.transitions = 0
        self.all_changes = (*case.before, *case.changes)
        self.keys = sorted({FOLDER + self.parsed(change)[1] for change in self.all_changes if change != DAY})
        self.names = {key: number for number, key in enumerate(self.keys)}
        self.held = [self.source_after(changes) for changes in range(len(case.changes) + 1)]

    def parsed(self, change: str) -> tuple[str, str, str]:
        """What it does, the key below FOLDER, and the content or the label."""
        name, _, content = change.partition(" ")
        return name, CREATED.key.removeprefix(FOLDER), content

    def source_after(self, changes: int) -> tuple[Version | None, ...]:
        """The current version of each key after this many of the changes; a delete marker is None too."""
        case, found = self.case, dict[str, Versions].fromkeys(self.keys, ())
        for number, change in enumerate(self.all_changes[: len(case.before) + changes], 1):
            if change == DAY:
                continue
            name, key, content = self.parsed(change)
            new = Version(
                content,
                LARGE if name == "put-large" else case.size,
                self.all_changes[:number].count(DAY) * SECONDS_OF_DAY + self.second_of(number),
                f"v{number}" if case.versioned else "",
                (content or f"label{number}") if name == "touch" else "label",
                case.opaque,
            )
            found[FOLDER + key] = changed(found[FOLDER + key], name, new, case.versioned)
        return tuple(versions[0] if versions else None for versions in found.values())

    def second_of(self, number: int) -> int:
        """When in its day the change of that number is made."""
        return 0 if self.case.same_second else number

    def start(self) -> State:
        case = self.case
        stores = tuple(Store(self.synced(version)) for version in self.source_after(-1 if case.begun else 0))
        left = {name: getattr(case, name) for name in MAY_HAPPEN}
        if not case.begun:
            return State(store=stores, **left)
        upload, message = begun(self.held[0][0])
        return State(store=(Store(stores[0].copy, (upload,), 1),), queue=(message,), **left)

    def synced(self, version: Version | None) -> Copy | None:
        """The copy of what was there before."""
        if version is None:
            return None
        content = (version.content,) * (2 if version.size == LARGE else 1)
        provenance = "" if version.opaque else identity(version)
        return Copy('"d0"', content, version.label, provenance, 0, self.copied_at(version), version.size)

    def copied_at(self, _version: Version) -> int:
        """The LastModified of its copy."""
        return 0

    def day(self, state: State) -> int:
        """Midnights that have passed."""
        return self.all_changes[: len(self.case.before) + state.changes].count(DAY)

    # What can happen next

    def steps(self, state: State) -> Iterator[Step]:
        """An ended sync is dealt with at once: that only makes room for another, so later would show nothing new."""
        for sync in state.syncs:
            if self.syncs.positions[sync.position].end:
                yield from self.end(state, sync)
                return
        if state.changes < len(self.case.changes):
            yield self.change_source(state)
        for of_function in self.free(state):
            for message in set(state.queue):
                yield from self.deliver(state, message, of_function)
        for sync in set(state.syncs):
            yield from self.go_on(state, sync)
            if state.joins:
                yield from self.join(state, sync)
        for parked in set(state.parked):
            yield from self.land(state, parked)
        if self.case.keep_days:
            yield from self.lifecycle(state)

    def change_source(self, state: State) -> Step:
        change, queue = self.case.changes[state.changes], state.queue
        is_silent = change == DAY or bool(self.case.eventless and change.startswith(self.case.eventless))
        if not is_silent:
            name, key, _ = self.parsed(change)
            event = (LOOK if name.startswith("delete") else CREATED)._replace(key=FOLDER + key)
            queue = ordered([*queue, event])
        return Step(("source:", change), state._replace(changes=state.changes + 1, queue=queue))

    def lifecycle(self, state: State) -> Iterator[Step]:
        """The directory bucket's takes what is old enough, or is late."""
        for number, store in enumerate(state.store):
            if store.copy and is_over(self.case, store.copy.second, self.day(state)):
                after = self.stored(state, number, store._replace(copy=None))
                yield Step((f"(lifecycle) takes the copy{of_key(self.keys[number], ' of ')}",), after)

    def late(self, state: State) -> Iterator[Step]:
        """What S3 does with a call whose answer is lost, while its sync goes on. In steps() of those searches in which
        others look at what lands."""
        if any(self.syncs.positions[sync.position].end for sync in state.syncs):
            return  # as steps()
        for sync in set(state.syncs):
            for running in set(sync.lost):
                rest = replaced(sync.lost, running)
                after, still, answer = self.serve(state, running)
                going = ordered([*rest, still]) if still else rest
                after = after._replace(syncs=replaced(after.syncs, sync, sync._replace(lost=going)))
                yield Step(("(S3)", running, *(("reads",) if still else ("->", answer))), after)

    def is_of_function(self, sync: Sync) -> bool:
        return self.syncs.positions[sync.position].of_function

    def free(self, state: State) -> list[bool]:
        """Who may receive a message: True is the function, of which there is one at a time, False a worker."""
        functions = sum(map(self.is_of_function, state.syncs))
        workers = len(state.syncs) - functions
        return [False] * (workers < self.case.workers) + [True] * (state.functions > 0 and not functions)

    def deliver(self, state: State, message: Message, of_function: bool) -> Iterator[Step]:
        left = state._replace(queue=replaced(state.queue, message), functions=state.functions - of_function)
        who = "(the function) " if of_function else ""
        if self.case.guesses and not message.destination_first:
            guessed = message._replace(destination_first=True)
            queue = ordered([*left.queue, guessed])
            yield from self.deliver(state._replace(queue=queue), guessed, of_function)
        yield self.begin(left, [message], (f"{who}starts with", message), of_function)
        for other in set(left.queue) if state.joins else ():
            both = left._replace(queue=replaced(left.queue, other), joins=state.joins - 1)
            yield self.begin(both, [message, other], (f"{who}starts with", message, "and", other), of_function)
        if state.duplicates:
            message = message._replace(twice=True)
            left = left._replace(queue=ordered([*left.queue, again(message)]), duplicates=state.duplicates - 1)
            yield self.begin(left, [message], (f"{who}starts with a message that is delivered twice",), of_function)

    def begin(
        self,
        state: State,
        messages: list[Message],
        words: tuple[Any, ...],
        of_function: bool,
        before: int | None = None,
    ) -> Step:
        position = self.syncs.start(merged(messages), of_function)
        sync = Sync(position, tuple(Held(message) for message in messages))
        return Step(words, state._replace(syncs=ordered([*state.syncs, sync])), before, position)

    def join(self, state: State, sync: Sync) -> Iterator[Step]:
        """A worker receives a message on a key that it syncs."""
        for message in set(state.queue):
            position = sync.position
            if message.redelivered or message.upload:
                position = self.syncs.answered(position, LEFT_OVER)
            joined = sync._replace(position=position, held=(*sync.held, Held(message, late=True)))
            after = state._replace(
                syncs=replaced(state.syncs, sync, joined), queue=replaced(state.queue, message), joins=state.joins - 1
            )
            yield Step(("is joined by", message), after, sync.position, position)

    def go_on(self, state: State, sync: Sync) -> Iterator[Step]:
        call = self.syncs.positions[sync.position].call
        assert call is not None
        running = sync.running or Running(call)
        after, still, answer = self.serve(state, running)
        if still:
            syncs = replaced(state.syncs, sync, sync._replace(running=still))
            yield Step((running, "reads"), after._replace(syncs=syncs), sync.position, sync.position)
        else:
            yield self.answer(after, sync, answer, (running, "->", answer))
        if state.losses and call.operation in LOSABLE:
            lost = sync._replace(lost=ordered([*sync.lost, running]))
            yield self.answer(state._replace(losses=state.losses - 1), sync, TIMEOUT, (running, "gets no answer"), lost)
        if self.may(state, sync, "crashes"):
            calls = [*sync.lost, running] if call.operation in WRITES else [*sync.lost]
            yield Step(("dies at", running), self.crash(state, sync, calls), sync.position)
        if self.may(state, sync, "stops"):
            yield from self.stop(state, sync, running)

    def crash(self, state: State, sync: Sync, calls: list[Running]) -> State:
        messages = [again(held.message) for held in sync.held if not (held.message.twice and state.deleted)]
        return self.park(self.spend(self.left(state, sync), sync, "crashes"), calls, messages)

    def may(self, state: State, sync: Sync, what: str) -> bool:
        """Whether it may still meet that; the function's ends are counted apart."""
        return getattr(state, OF_FUNCTION[what] if self.is_of_function(sync) else what) > 0

    def spend(self, state: State, sync: Sync, what: str) -> State:
        name = OF_FUNCTION[what] if self.is_of_function(sync) else what
        return state._replace(**{name: getattr(state, name) - 1})

    def serve(self, state: State, running: Running) -> tuple[State, Running | None, Any]:
        number = self.names.get(running.call.key)
        if number is None:
            return state, None, self.answer_to(state, running.call)
        before, source = state.store[number], Source(self.held[state.changes][number], state.changes)
        store, still, answer = serve(source, before, running)
        if store is not before:
            state = self.stored(state, number, self.dated(before, store, state))
        return state, still, answer

    def answer_to(self, state: State, call: Call) -> Any:
        """To what names none of the keys; here uploads of the only one."""
        if call == CLOCK:
            return self.day(state) * SECONDS_OF_DAY
        return serve(Source(None, 0), state.store[0], Running(call))[2]

    def stored(self, state: State, number: int, store: Store) -> State:
        return state._replace(store=(*state.store[:number], store, *state.store[number + 1 :]))

    def dated(self, _before: Store, store: Store, _state: State) -> Store:
        """With the time of what was written."""
        return store

    def answer(self, state: State, sync: Sync, answer: Any, words: tuple[Any, ...], lost: Sync | None = None) -> Step:
        position = self.syncs.answered(sync.position, answer)
        state, held = self.acknowledge(state, sync, position)
        went_on = (lost or sync)._replace(position=position, held=held, running=None)
        return Step(words, state._replace(syncs=replaced(state.syncs, sync, went_on)), sync.position, position)

    def acknowledge(self, state: State, sync: Sync, position: int) -> tuple[State, tuple[Held, ...]]:
        """Deletes what a look covers that was acted on, but for the one that is kept until the sync has ended."""
        before, after = self.syncs.positions[sync.position], self.syncs.positions[position]
        held = sync.held
        if after.overtaken > before.overtaken:
            kept = KEPT[self.case.kept](held)
            held = tuple(one for number, one in enumerate(held) if one.late or number in kept)
            state = self.delete(state, sync.held, held)
        if after.looks > before.looks:
            held = tuple(Held(one.message) for one in held)
        return state, held

    def delete(self, state: State, held: tuple[Held, ...], left: tuple[Held, ...]) -> State:
        gone = sum(one.message.twice for one in held) - sum(one.message.twice for one in left)
        return state._replace(deleted=True) if gone else state

    def stop(self, state: State, sync: Sync, running: Running) -> Iterator[Step]:
        """SIGTERM or the function's deadline: the sync notices before its next call, or the process ends first and
        hands the messages back."""
        stopped = self.spend(state, sync, "stops")
        warned = self.syncs.answered(sync.position, INTERRUPT)
        syncs = replaced(state.syncs, sync, sync._replace(position=warned))
        yield Step(("is told to stop",), stopped._replace(syncs=syncs), sync.position, warned)
        if running.call.operation not in WRITES:
            return
        position = self.syncs.positions[sync.position]
        stopped = self.left(stopped, sync)
        if position.of_function and running.read is None and running.call.operation in self.case.frozen:
            waits, goes_on = [*sync.lost], [running]
        elif running.call.operation in WAITED_FOR or position.may_land:
            waits, goes_on = [*sync.lost, running], []
        else:
            waits, goes_on = [], [*sync.lost, running]
        stopped = self.park(self.park(stopped, waits, handed_back(sync, position)), goes_on, [])
        yield Step(("hands back and ends at", running), stopped, sync.position)

    def end(self, state: State, sync: Sync) -> Iterator[Step]:
        """The messages are deleted, or handed back, or begin another sync; or the process dies before it does that."""
        position = self.syncs.positions[sync.position]
        late = tuple(held for held in sync.held if held.late)
        left = self.left(state, sync)
        if position.end in HANDED_BACK:
            left = self.delete(left, sync.held, ())
            back = (
                [Message(held.message.key) for held in sync.held]
                if self.case.forgetful and position.of_function
                else handed_back(sync, position)
            )
            waits, goes_on = (sync.lost, ()) if position.may_land else ((), sync.lost)
            left = self.park(self.park(left, [*goes_on], []), [*waits], back)
        else:
            left = self.delete(left, sync.held, late)
            left = self.park(left, [*sync.lost], [LOOK._replace(key=position.message.key)] if position.may_land else [])
        words = ("ends:", position.end)
        if late and position.end == "done":
            again = [held.message._replace(destination_first=True) for held in late]
            words = (*words, "and begins again for what came since")
            yield self.begin(left, again, words, position.of_function, sync.position)
        else:
            yield Step(words, left, sync.position)
        if self.may(state, sync, "crashes"):
            crashed = self.crash(state, sync, [*sync.lost])
            yield Step(("dies before it deletes the message",), crashed, sync.position)

    def left(self, state: State, sync: Sync) -> State:
        return state._replace(syncs=replaced(state.syncs, sync))

    def park(self, state: State, calls: list[Running], messages: list[Message]) -> State:
        """The messages become visible when no call of their sync is under way any more."""
        if messages and (not calls or self.case.early):
            state = state._replace(queue=ordered([*state.queue, *messages]))
            messages = []
        if calls:
            state = state._replace(parked=ordered([*state.parked, Parked(ordered(calls), ordered(messages))]))
        return state

    def land(self, state: State, parked: Parked) -> Iterator[Step]:
        """A call nobody waits for goes on, or comes to nothing."""
        for running in set(parked.calls):
            rest = list(parked.calls)
            rest.remove(running)
            left = state._replace(parked=replaced(state.parked, parked))
            after, still, answer = self.serve(left, running)
            what = ("reads",) if still else ("->", answer)
            going = [*rest, still] if still else rest
            yield Step(("(S3)", running, *what), self.park(after, going, [*parked.messages]))
            yield Step(("(S3)", running, "comes to nothing"), self.park(left, rest, [*parked.messages]))

    # What must not happen

    def fault(self, before: State, state: State) -> str | None:
        if state.store is not before.store:
            for store in state.store:
                if store.copy and len(set(store.copy.content)) > 1:
                    return f"an object of mixed parts: {store.copy.content}"
            if not self.case.unconditional and (fault := self.fault_for_a_while(before, state)):
                return fault
        failed = [self.syncs.positions[sync.position].end for sync in state.syncs]
        if any(end not in ("", "done", *HANDED_BACK) for end in failed):
            return f"a sync fails: {failed}"
        if state.syncs or state.queue or any(parked.calls for parked in state.parked):
            return None
        return self.fault_at_rest(state)

    def fault_for_a_while(self, before: State, state: State) -> str | None:
        """What a reader of the destination would miss until the sync has looked at the source again."""
        old, copy, source = before.store[0].copy, state.store[0].copy, self.held[state.changes][0]
        if old and copy and copy.stamp < old.stamp and source and copy.content[0] != source.content:
            return f"an older version covers a newer one: {old.content[0]} -> {copy.content[0]}"
        if old and not copy and source and old.stamp >= self.current_since(state.changes):
            return f"the live object disappears: {old.content[0]}"
        return None

    def current_since(self, changes: int) -> int:
        """After which change the current version became the current one."""
        while changes and self.held[changes - 1] == self.held[changes]:
            changes -= 1
        return changes

    def fault_at_rest(self, state: State) -> str | None:
        case, source, (copy, uploads, _) = self.case, self.held[state.changes][0], state.store[0]
        if source is None or copy is None:
            if copy or source:
                return f"at rest the destination is {copy and copy.content[0]}, the source {source and source.content}"
        elif (held := (copy.content[0], copy.size, copy.label)) != (source.content, source.size, source.label):
            return f"at rest the destination is {held}, the source {source.content, source.size, source.label}"
        elif copy.provenance not in ("", identity(source)):
            return f"at rest the provenance is {copy.provenance}"
        undisturbed = (state.losses, state.stops, state.deadlines) == (case.losses, case.stops, case.deadlines)
        if uploads and undisturbed:
            return f"at rest an upload is left over: {uploads}"  # else the lifecycle rule ends it
        return None

    # Two ways to search

    def run(self) -> int:
        """Every schedule; returns how many there are. Raises AssertionError with the one that leads to a fault.

        In a loop: calls that are thousands deep would take a third more time."""
        __tracebackhide__ = True
        visits, path = [self.visit(self.start())], list[Step]()
        while True:
            visit = visits[-1]
            if step := next(visit.steps, None):
                path.append(step)
                self.transitions += 1
                if fault := self.fault(visit.state, step.state):
                    raise AssertionError(f"{self.case}\n{self.script(path)}\n{fault}")
                if step.state not in self.schedules:
                    visits.append(self.visit(step.state))
                    continue
                schedules = self.schedules[step.state]
                assert schedules, f"syncs that chase each other for ever:\n{self.script(path)}"
            else:
                schedules = self.schedules[visit.state] = visit.schedules or 1
                visits.pop()
                if not visits:
                    return schedules
            path.pop()
            visits[-1].schedules += schedules

    def visit(self, state: State) -> Visit:
        self.schedules[state] = 0  # not known yet
        return Visit(state, self.steps(state))

    def first_fault(self) -> tuple[str, str] | None:
        """The shortest schedule that leads to a fault, and the fault."""
        start = self.start()
        came_from: dict[State, tuple[State, Step] | None] = {start: None}
        waiting = deque([start])
        while waiting:
            state = waiting.popleft()
            for step in self.steps(state):
                self.transitions += 1
                if fault := self.fault(state, step.state):
                    return self.script([*path_to(came_from, state), step]), fault
                if step.state not in came_from:
                    came_from[step.state] = (state, step)
                    waiting.append(step.state)
        return None

    def script(self, path: list[Step]) -> str:
        """The schedule, a line for each step, with a letter for each sync."""
        names: dict[int, list[str]] = {}
        letters = iter(string.ascii_uppercase)
        lines = []
        for step in path:
            name = ""
            if step.before is not None:
                name = names[step.before].pop()
            elif step.after is not None:
                name = next(letters)
            if step.after is not None:
                names.setdefault(step.after, []).append(name)
            lines.append(f"  {name:1} {' '.join(str(word) or 'done' for word in step.words)}")
        return "\n".join(lines)


def begun(source: Version | None) -> tuple[OpenUpload, Message]:
    """What a stopped worker left of a copy in two parts: the upload with the first of them, and the message."""
    assert source
    assert source.size == LARGE
    parts = ((1, "u1.1", source.content, 0),)
    upload = Upload("u1", identity(source), SETTINGS.part_size)
    return OpenUpload("u1", source.label, identity(source), parts), Message(upload=upload)


def path_to(came_from: dict[State, tuple[State, Step] | None], state: State) -> list[Step]:
    path: list[Step] = []
    while found := came_from[state]:
        state, step = found
        path.append(step)
    return path[::-1]


def merged(messages: list[Message]) -> Message:
    """What a sync is asked by all of them."""
    return Message(
        key=messages[0].key,
        destination_first=any(message.destination_first for message in messages),
        redelivered=any(message.redelivered for message in messages),
        upload=next((message.upload for message in messages if message.upload), None),
        put_off=any(message.put_off for message in messages),
    )


def handed_back(sync: Sync, position: Position) -> list[Message]:
    """With the upload of the sync, or else with the one that each came with."""
    return [
        Message(held.message.key, upload=position.upload or held.message.upload, put_off=position.put_off)
        for held in sync.held
    ]


# Which of the messages that a sync holds stay until it has ended, although a look covers them: their numbers.
KEPT: dict[str, Callable[[tuple[Held, ...]], set[int]]] = {
    "newest": lambda held: {len(held) - 1},
    "oldest": lambda _: {0},
    "none": lambda _: set(),
}


def again(message: Message) -> Message:
    return message._replace(destination_first=True, redelivered=True)
