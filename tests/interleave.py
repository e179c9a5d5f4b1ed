"""Every interleaving of the real sync_key() with itself, source changes, crashes, stops and lost answers.

All that sync_key() knows of the world are the answers of S3. So a running sync is known by the list of answers it got:
`Syncs` runs the real code from its start with the answers that are known, up to the first call that is still to be
answered. Therefore a state of the whole world is a plain value (`State`), no thread is needed, and each state is
searched once, however many schedules lead to it.
"""

from __future__ import annotations

import string
import sys
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from datetime import UTC, datetime
from functools import cache
from typing import Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError, ReadTimeoutError

import worker

SMALL, LARGE = 1, 2 * worker.MIN_PART_SIZE  # bytes; a large object is copied in two parts
SETTINGS = worker.load_settings(
    {
        "REGION": "us-east-1",
        "SRC_BUCKET": "source",
        "DST_BUCKET": "mirror--use1-az4--x-s3",
        "QUEUE_URL": "https://queue",
        "MULTIPART_THRESHOLD": str(worker.MIN_PART_SIZE),
        "PART_SIZE": str(worker.MIN_PART_SIZE),
    }
)

# Calls that a process can leave behind in S3 when it dies, and those of them whose answer may get lost.
WRITES = {
    "copy_object",
    "delete_object",
    "create_multipart_upload",
    "upload_part_copy",
    "complete_multipart_upload",
    "abort_multipart_upload",
}
WAITED_FOR = {"copy_object", "delete_object", "complete_multipart_upload"}  # they change the destination
LOSABLE = WAITED_FOR | {"upload_part_copy"}
TIMEOUT = "timeout"
INTERRUPT = "interrupt"


class Case(NamedTuple):
    """What is searched. Each of `changes` is one that changed() knows, with the bytes to put after a space."""

    changes: tuple[str, ...]
    before: tuple[str, ...] = ()  # changes that are synced already
    workers: int = 2  # syncs at the same time
    crashes: int = 0
    losses: int = 0  # answers that do not arrive, while S3 goes on
    stops: int = 0  # SIGTERM
    duplicates: int = 0  # deliveries of a message whose first delivery is still being worked on
    size: int = SMALL
    versioned: bool = False
    same_second: bool = False  # all changes have the same LastModified
    opaque: bool = False  # metadata that cannot be sent back: copied by S3, without provenance
    unconditional: bool = False  # the directory bucket refuses conditional writes
    early: bool = False  # planted fault: a message comes back while a call of its sync is still under way


class Version(NamedTuple):
    """A version of the source object."""

    content: str
    size: int
    second: int
    version_id: str
    label: str  # stands for all metadata
    opaque: bool


class Copy(NamedTuple):
    """The destination object. `content` has one entry for each part, `stamp` says after which change it was read."""

    etag: str
    content: tuple[str, ...]
    label: str
    provenance: str
    stamp: int


class OpenUpload(NamedTuple):
    upload_id: str
    label: str
    provenance: str
    parts: tuple[tuple[int, str, str, int], ...] = ()  # number, ETag, content, stamp


class Call(NamedTuple):
    """What of an S3 request matters here."""

    operation: str
    on_source: bool
    condition: str  # "*" for IfNoneMatch, an ETag for IfMatch, "" for none
    source_etag: str
    upload_id: str
    part: int
    etags: tuple[tuple[int, str], ...]
    metadata: tuple[str, str] | None  # label and provenance, None where S3 copies the metadata


class Running(NamedTuple):
    """A call that S3 works on. A copy reads first and is visible only later."""

    call: Call
    read: Copy | None = None


class Message(NamedTuple):
    look_first: bool = False
    redelivered: bool = False
    upload: worker.Upload | None = None
    twice: bool = False  # delivered a second time while the first delivery was being worked on


EVENT = Message()
HINT = Message(look_first=True)


class Sync(NamedTuple):
    """A running sync_key(): the answers it got (a number of Syncs) and what S3 does for it, lost calls too."""

    position: int
    running: Running | None = None
    lost: tuple[Running, ...] = ()


class Parked(NamedTuple):
    """A message that stays invisible until the calls of its sync have ended. None: they end and nobody asks."""

    calls: tuple[Running, ...]
    message: Message | None


class State(NamedTuple):
    changes: int = 0
    copy: Copy | None = None
    uploads: tuple[OpenUpload, ...] = ()
    syncs: tuple[Sync, ...] = ()
    queue: tuple[Message, ...] = ()
    parked: tuple[Parked, ...] = ()
    deleted: bool = False  # the message that was delivered twice: it does not come back any more
    serial: int = 0  # of the last ETag or upload id
    crashes: int = 0
    losses: int = 0
    stops: int = 0
    duplicates: int = 0


class Step(NamedTuple):
    text: str
    state: State
    before: int | None = None  # position of the sync that made it, before and after
    after: int | None = None


# --- The source -------------------------------------------------------------------------------------------------------

Versions = tuple[Version | None, ...]  # newest first, None is a delete marker


def changed(versions: Versions, change: str, new: Version, versioned: bool) -> Versions:
    older = versions if versioned else ()
    match change:
        case "put":
            return (new, *older)
        case "touch":
            assert versions[0]
            return (new._replace(content=versions[0].content), *older)
        case "delete":
            return (None, *older) if versioned else ()
        case "delete-oldest-version":
            return versions[:-1]
        case "delete-newest-version":
            return versions[1:]
    raise ValueError(change)


@cache
def source_after(case: Case, changes: int) -> Version | None:
    """The current version after so many of the changes; a delete marker is None too."""
    versions: Versions = ()
    script = [*case.before, *case.changes][: len(case.before) + changes]
    for number, change in enumerate(script, 1):
        name, _, content = change.partition(" ")
        second = 0 if case.same_second else number
        label = f"label{number}" if name == "touch" else "label"
        version_id = f"v{number}" if case.versioned else ""
        new = Version(content, case.size, second, version_id, label, case.opaque)
        versions = changed(versions, name, new, case.versioned)
    return versions[0] if versions else None


@cache
def current_since(case: Case, changes: int) -> int:
    """After which change the current version became the current one."""
    while changes and source_after(case, changes - 1) == source_after(case, changes):
        changes -= 1
    return changes


@cache
def source_head(version: Version) -> dict[str, Any]:
    head = {
        "ETag": f'"{version.content}"',
        "LastModified": datetime.fromtimestamp(version.second, UTC),
        "ContentLength": version.size,
        "Metadata": {"label": version.label},
    }
    return head | ({"VersionId": version.version_id} if version.version_id else {}) | {"MissingMeta": version.opaque}


@cache
def identity(version: Version) -> str:
    return worker.source_from_head(source_head(version)).identity


# --- What S3 does: (state, call under way) -> (state, call still under way, answer) -----------------------------------

Served = tuple[State, Running | None, Any]


class Failure(NamedTuple):
    code: str


def serve_head(case: Case, state: State, running: Running) -> Served:
    found = source_after(case, state.changes) if running.call.on_source else state.copy
    return state, None, found or Failure("404")


def read_source(case: Case, state: State, running: Running) -> Copy | Failure:
    version = source_after(case, state.changes)
    if version is None:
        return Failure("NoSuchKey")
    if running.call.source_etag not in ("", source_head(version)["ETag"]):
        return Failure("PreconditionFailed")
    label, provenance = running.call.metadata or (version.label, "")
    return Copy("", (version.content,), label, provenance, state.changes)


def may_write(case: Case, state: State, condition: str) -> Failure | None:
    if condition and case.unconditional:
        return Failure("NotImplemented")
    if condition == "*":
        return Failure("PreconditionFailed") if state.copy else None
    if condition and (state.copy is None or state.copy.etag != condition):
        return Failure("PreconditionFailed" if state.copy else "404")
    return None


def serve_copy(case: Case, state: State, running: Running) -> Served:
    if running.read is None:
        read = read_source(case, state, running)
        return (state, None, read) if isinstance(read, Failure) else (state, running._replace(read=read), None)
    return write(case, state, running, running.read)


def write(case: Case, state: State, running: Running, copy: Copy) -> Served:
    failure = may_write(case, state, running.call.condition)
    if failure:
        return state, None, failure
    etag = f'"d{state.serial + 1}"'
    return state._replace(copy=copy._replace(etag=etag), serial=state.serial + 1), None, etag


def serve_delete(case: Case, state: State, running: Running) -> Served:
    failure = may_write(case, state, running.call.condition)
    return (state, None, failure) if failure else (state._replace(copy=None), None, "")


def serve_create(_: Case, state: State, running: Running) -> Served:
    upload = OpenUpload(f"u{state.serial + 1}", *(running.call.metadata or ("", "")))
    return state._replace(uploads=(*state.uploads, upload), serial=state.serial + 1), None, upload.upload_id


def find_upload(state: State, running: Running) -> OpenUpload | None:
    return next((upload for upload in state.uploads if upload.upload_id == running.call.upload_id), None)


def without(state: State, upload: OpenUpload) -> tuple[OpenUpload, ...]:
    return tuple(other for other in state.uploads if other is not upload)


def serve_part(case: Case, state: State, running: Running) -> Served:
    upload = find_upload(state, running)
    if upload is None:
        return state, None, Failure("NoSuchUpload")
    read = read_source(case, state, running)
    if isinstance(read, Failure):
        return state, None, read
    number = running.call.part
    earlier = [etag for known, etag, *_ in upload.parts if known == number]
    etag = f'"{upload.upload_id}.{number}{"+" * (1 + len(earlier[0].split("+")) if earlier else 0)}"'
    others = [part for part in upload.parts if part[0] != number]
    parts = tuple(sorted([*others, (number, etag, read.content[0], read.stamp)]))
    return state._replace(uploads=(*without(state, upload), upload._replace(parts=parts))), None, etag


def serve_complete(case: Case, state: State, running: Running) -> Served:
    upload = find_upload(state, running)
    if upload is None:
        return state, None, Failure("NoSuchUpload")
    if running.call.etags != tuple((number, etag) for number, etag, *_ in upload.parts):
        return state, None, Failure("InvalidPart")
    content = tuple(part[2] for part in upload.parts)
    stamp = min(part[3] for part in upload.parts)
    state_after, _, answer = write(case, state, running, Copy("", content, upload.label, upload.provenance, stamp))
    if not isinstance(answer, Failure):
        state_after = state_after._replace(uploads=without(state, upload))
    return state_after, None, answer


def serve_abort(_: Case, state: State, running: Running) -> Served:
    upload = find_upload(state, running)
    if upload is None:
        return state, None, Failure("NoSuchUpload")
    return state._replace(uploads=without(state, upload)), None, ""


def serve_list_parts(_: Case, state: State, running: Running) -> Served:
    upload = find_upload(state, running)
    return state, None, upload.parts if upload else Failure("NoSuchUpload")


def serve_list_uploads(_: Case, state: State, __: Running) -> Served:
    return state, None, tuple(upload.upload_id for upload in state.uploads)


SERVE: dict[str, Callable[[Case, State, Running], Served]] = {
    "head_object": serve_head,
    "copy_object": serve_copy,
    "delete_object": serve_delete,
    "create_multipart_upload": serve_create,
    "upload_part_copy": serve_part,
    "complete_multipart_upload": serve_complete,
    "abort_multipart_upload": serve_abort,
    "list_parts": serve_list_parts,
    "list_multipart_uploads": serve_list_uploads,
}


# --- The real code, run with known answers ----------------------------------------------------------------------------


def copy_head(copy: Copy) -> dict[str, Any]:
    return {"ETag": copy.etag, "Metadata": {worker.PROVENANCE: copy.provenance} if copy.provenance else {}}


# What boto3 returns, from the answer of SERVE.
SHAPES: dict[str, Callable[[Any], dict[str, Any]]] = {
    "head_object": lambda found: source_head(found) if isinstance(found, Version) else copy_head(found),
    "copy_object": lambda etag: {"CopyObjectResult": {"ETag": etag}},
    "delete_object": lambda _: {},
    "create_multipart_upload": lambda upload_id: {"UploadId": upload_id},
    "upload_part_copy": lambda etag: {"CopyPartResult": {"ETag": etag}},
    "complete_multipart_upload": lambda etag: {"ETag": etag},
    "abort_multipart_upload": lambda _: {},
    "list_parts": lambda parts: {
        "Parts": [{"PartNumber": part[0], "ETag": part[1], "Size": worker.MIN_PART_SIZE} for part in parts]
    },
    "list_multipart_uploads": lambda ids: {"Uploads": [{"Key": "key", "UploadId": upload_id} for upload_id in ids]},
}


def call_from(operation: str, arguments: dict[str, Any]) -> Call:
    metadata = arguments.get("Metadata")
    parts = arguments.get("MultipartUpload", {}).get("Parts", [])
    return Call(
        operation=operation,
        on_source=arguments["Bucket"] == SETTINGS.src_bucket,
        condition=arguments.get("IfNoneMatch") or arguments.get("IfMatch") or "",
        source_etag=arguments.get("CopySourceIfMatch", ""),
        upload_id=arguments.get("UploadId", ""),
        part=arguments.get("PartNumber", 0),
        etags=tuple((part["PartNumber"], part["ETag"]) for part in parts),
        metadata=None if metadata is None else (metadata["label"], metadata.get(worker.PROVENANCE, "")),
    )


class Unanswered(BaseException):
    """Ends a run of the real code at the first call without a known answer."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.call = call


class Client:
    """Answers like a boto3 client, from a list."""

    def __init__(self, job: worker.Job, answers: tuple[Any, ...]) -> None:
        self.job = job
        self.answers = iter(answers)

    def __getattr__(self, operation: str) -> Callable[..., dict[str, Any]]:
        return lambda **arguments: self.answer(operation, arguments)

    def list_objects_v2(self, **_: Any) -> dict[str, Any]:
        return {}

    def get_paginator(self, operation: str) -> Client:
        self.paginated = operation
        return self

    def paginate(self, **arguments: Any) -> list[dict[str, Any]]:
        return [self.answer(self.paginated, arguments)]

    def answer(self, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        answer = next(self.answers, None)
        if answer == INTERRUPT:
            self.job.interrupted.set()
            answer = next(self.answers, None)
        if answer is None:
            raise Unanswered(call_from(operation, arguments))
        if answer == TIMEOUT:
            raise ReadTimeoutError(endpoint_url="")
        if isinstance(answer, Failure):
            raise ClientError({"Error": {"Code": answer.code}}, operation)
        return SHAPES[operation](answer)


class Pool:
    """Runs a part at once, in the thread that asks."""

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:  # noqa: BLE001 as in concurrent.futures
            future.set_exception(error)
        return future


class Job(worker.Job):
    def pause(self, seconds: float) -> None:  # noqa: ARG002 the schedule says how long anything takes
        self.check_interrupted()


class Position(NamedTuple):
    """How far a sync has come: the call it waits for, or how it ended."""

    message: Message
    answers: tuple[Any, ...]
    call: Call | None
    end: str  # "", "done", "interrupted" or the error
    upload: worker.Upload | None
    unsettled: bool


class Syncs:
    """All positions that a sync can be in, found by running the real code."""

    def __init__(self, refused: set[str]) -> None:
        self.refused = refused
        self.positions: list[Position] = []
        self.numbers: dict[Any, int] = {}

    def start(self, message: Message) -> int:
        return self.number(message, ())

    def answered(self, position: int, answer: Any) -> int:
        key = (position, answer)
        if key not in self.numbers:
            known = self.positions[position]
            self.numbers[key] = self.number(known.message, (*known.answers, answer))
        return self.numbers[key]

    def number(self, message: Message, answers: tuple[Any, ...]) -> int:
        key = (message, answers)
        if key not in self.numbers:
            self.positions.append(self.run(message, answers))
            self.numbers[key] = len(self.positions) - 1
        return self.numbers[key]

    def run(self, message: Message, answers: tuple[Any, ...]) -> Position:
        job = Job("key", look_first=message.look_first, redelivered=message.redelivered, upload=message.upload)
        client: Any = Client(job, answers)
        pool: Any = Pool()
        context = worker.Context(SETTINGS, client, client, client, pool, lambda: 0.0, refused=set(self.refused))
        call, end = None, "done"
        try:
            worker.sync_key(context, job)
        except Unanswered as unanswered:
            call, end = unanswered.call, ""
        except worker.Interrupted:
            end = "interrupted"
        except (ClientError, BotoCoreError, worker.Changed, worker.Unfinished) as error:
            end = worker.describe(error)
        return Position(message, answers, call, end, job.upload, job.unsettled_until > 0)


# --- The search -------------------------------------------------------------------------------------------------------


def ordered(items: list[Any]) -> tuple[Any, ...]:
    """Which of two equal workers does something makes no difference."""
    return tuple(sorted(items, key=hash))


def replaced(items: tuple[Any, ...], old: Any, *new: Any) -> tuple[Any, ...]:
    left = list(items)
    left.remove(old)
    return ordered([*left, *new])


class Search:
    def __init__(self, case: Case) -> None:
        self.case = case
        self.syncs = Syncs({"conditional writes"} if case.unconditional else set())
        self.schedules: dict[State, int] = {}
        self.transitions = 0

    def start(self) -> State:
        case = self.case
        synced = source_after(case, 0)
        copy = None
        if synced:
            parts = 2 if synced.size == LARGE else 1
            provenance = "" if case.opaque else identity(synced)
            copy = Copy('"d0"', (synced.content,) * parts, synced.label, provenance, 0)
        return State(copy=copy, crashes=case.crashes, losses=case.losses, stops=case.stops, duplicates=case.duplicates)

    # What can happen next

    def steps(self, state: State) -> Iterator[Step]:
        """An ended sync is dealt with at once: that only makes room for another, so later would show nothing new."""
        for sync in state.syncs:
            if self.syncs.positions[sync.position].end:
                yield from self.end(state, sync)
                return
        if state.changes < len(self.case.changes):
            queue = ordered([*state.queue, EVENT])
            yield Step(
                f"source: {self.case.changes[state.changes]}",
                state._replace(changes=state.changes + 1, queue=queue),
            )
        if len(state.syncs) < self.case.workers:
            for message in set(state.queue):
                yield from self.deliver(state, message)
        for sync in set(state.syncs):
            yield from self.go_on(state, sync)
        for parked in set(state.parked):
            yield from self.land(state, parked)

    def deliver(self, state: State, message: Message) -> Iterator[Step]:
        queue = replaced(state.queue, message)
        position = self.syncs.start(message)
        started = state._replace(syncs=ordered([*state.syncs, Sync(position)]), queue=queue)
        yield Step(f"starts with {describe_message(message)}", started, None, position)
        if state.duplicates:
            message = message._replace(twice=True)
            position = self.syncs.start(message)
            started = state._replace(
                syncs=ordered([*state.syncs, Sync(position)]),
                queue=ordered([*queue, again(message)]),
                duplicates=state.duplicates - 1,
            )
            yield Step("starts with a message that is delivered twice", started, None, position)

    def go_on(self, state: State, sync: Sync) -> Iterator[Step]:
        call = self.syncs.positions[sync.position].call
        assert call is not None
        running = sync.running or Running(call)
        after, still, answer = SERVE[call.operation](self.case, state, running)
        if still:
            syncs = replaced(state.syncs, sync, sync._replace(running=still))
            yield Step(f"{name_of(running)} reads", after._replace(syncs=syncs), sync.position, sync.position)
        else:
            yield self.answer(after, sync, answer, f"{name_of(running)} -> {describe_answer(answer)}")
        if state.losses and call.operation in LOSABLE:
            lost = sync._replace(lost=ordered([*sync.lost, running]))
            yield self.answer(
                state._replace(losses=state.losses - 1), sync, TIMEOUT, f"{name_of(running)} gets no answer", lost
            )
        if state.crashes:
            calls = [*sync.lost, running] if call.operation in WRITES else [*sync.lost]
            yield Step(f"dies at {name_of(running)}", self.crash(state, sync, calls), sync.position)
        if state.stops:
            yield from self.stop(state, sync, running)

    def crash(self, state: State, sync: Sync, calls: list[Running]) -> State:
        message = self.syncs.positions[sync.position].message
        left = self.left(state, sync)._replace(crashes=state.crashes - 1)
        return self.park(left, calls, None if message.twice and state.deleted else again(message))

    def answer(self, state: State, sync: Sync, answer: Any, text: str, lost: Sync | None = None) -> Step:
        position = self.syncs.answered(sync.position, answer)
        syncs = replaced(state.syncs, sync, (lost or sync)._replace(position=position, running=None))
        return Step(text, state._replace(syncs=syncs), sync.position, position)

    def stop(self, state: State, sync: Sync, running: Running) -> Iterator[Step]:
        """SIGTERM: the sync notices before its next call, or the process ends first and hands the message back."""
        stopped = state._replace(stops=state.stops - 1)
        warned = self.syncs.answered(sync.position, INTERRUPT)
        syncs = replaced(state.syncs, sync, sync._replace(position=warned))
        yield Step("gets SIGTERM", stopped._replace(syncs=syncs), sync.position, warned)
        if running.call.operation not in WRITES:
            return
        position = self.syncs.positions[sync.position]
        stopped = self.left(stopped, sync)
        if running.call.operation in WAITED_FOR or position.unsettled:
            waits, goes_on = [*sync.lost, running], []
        else:
            waits, goes_on = [], [*sync.lost, running]
        stopped = self.park(self.park(stopped, waits, Message(upload=position.upload)), goes_on, None)
        yield Step(f"hands back and ends at {name_of(running)}", stopped, sync.position)

    def end(self, state: State, sync: Sync) -> Iterator[Step]:
        """The message is deleted; or handed back; or the process dies before it does that."""
        position = self.syncs.positions[sync.position]
        left = self.left(state, sync)._replace(deleted=state.deleted or position.message.twice)
        message = Message(upload=position.upload) if position.end == "interrupted" else None
        if position.unsettled:
            message = message or HINT
            yield Step(f"ends: {position.end}", self.park(left, [*sync.lost], message), sync.position)
        else:
            left_over = self.park(left, [*sync.lost], None)
            yield Step(f"ends: {position.end}", self.park(left_over, [], message), sync.position)
        if state.crashes:
            crashed = self.crash(state, sync, [*sync.lost])
            yield Step("dies before it deletes the message", crashed, sync.position)

    def left(self, state: State, sync: Sync) -> State:
        return state._replace(syncs=replaced(state.syncs, sync))

    def park(self, state: State, calls: list[Running], message: Message | None) -> State:
        """The message becomes visible when no call of its sync is under way any more."""
        if message and (not calls or self.case.early):
            state = state._replace(queue=ordered([*state.queue, message]))
            message = None
        if calls:
            state = state._replace(parked=ordered([*state.parked, Parked(ordered(calls), message)]))
        return state

    def land(self, state: State, parked: Parked) -> Iterator[Step]:
        """A call nobody waits for goes on, or comes to nothing."""
        for running in set(parked.calls):
            rest = list(parked.calls)
            rest.remove(running)
            left = state._replace(parked=replaced(state.parked, parked))
            after, still, answer = SERVE[running.call.operation](self.case, left, running)
            what = "reads" if still else f"-> {describe_answer(answer)}"
            going = [*rest, still] if still else rest
            yield Step(f"(S3) {name_of(running)} {what}", self.park(after, going, parked.message))
            yield Step(f"(S3) {name_of(running)} comes to nothing", self.park(left, rest, parked.message))

    # What must not happen

    def fault(self, before: State, state: State) -> str | None:
        copy = state.copy
        source = source_after(self.case, state.changes)
        if copy and len(set(copy.content)) > 1:
            return f"an object of mixed parts: {copy.content}"
        if not self.case.unconditional and (fault := self.fault_for_a_while(before, state, source)):
            return fault
        failed = [self.syncs.positions[sync.position].end for sync in state.syncs]
        if any(end not in ("", "done", "interrupted") for end in failed):
            return f"a sync fails: {failed}"
        if state.syncs or state.queue or state.parked:
            return None
        return self.fault_at_rest(state, source)

    def fault_for_a_while(self, before: State, state: State, source: Version | None) -> str | None:
        """What a reader of the destination would miss until the sync has looked at the source again."""
        old, copy = before.copy, state.copy
        if old and copy and copy.stamp < old.stamp and source and copy.content[0] != source.content:
            return f"an older version covers a newer one: {old.content[0]} -> {copy.content[0]}"
        if old and not copy and source and old.stamp >= current_since(self.case, state.changes):
            return f"the live object disappears: {old.content[0]}"
        return None

    def fault_at_rest(self, state: State, source: Version | None) -> str | None:
        copy = state.copy
        if source is None or copy is None:
            if copy or source:
                return f"at rest the destination is {copy and copy.content[0]}, the source {source and source.content}"
        elif (copy.content[0], copy.label) != (source.content, source.label):
            return (
                f"at rest the destination is {copy.content[0], copy.label}, the source {source.content, source.label}"
            )
        elif copy.provenance not in ("", identity(source)):
            return f"at rest the provenance is {copy.provenance}"
        if state.uploads and (state.losses, state.stops) == (self.case.losses, self.case.stops):
            return f"at rest an upload is left over: {state.uploads}"  # else the lifecycle rule ends it
        return None

    # Two ways to search

    def run(self) -> int:
        """Every schedule; returns how many there are. Raises AssertionError with the one that leads to a fault."""
        __tracebackhide__ = True
        sys.setrecursionlimit(20_000)
        return self.count(self.start(), [])

    def count(self, state: State, path: list[Step]) -> int:
        __tracebackhide__ = True
        known = self.schedules.get(state)
        if known is not None:
            assert known, f"syncs that chase each other for ever:\n{self.script(path)}"
            return known
        self.schedules[state] = total = 0  # not known yet
        for step in self.steps(state):
            path.append(step)
            self.transitions += 1
            if fault := self.fault(state, step.state):
                raise AssertionError(f"{self.case}\n{self.script(path)}\n{fault}")
            total += self.count(step.state, path)
            path.pop()
        self.schedules[state] = total or 1
        return self.schedules[state]

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
            lines.append(f"  {name:1} {step.text}")
        return "\n".join(lines)


def path_to(came_from: dict[State, tuple[State, Step] | None], state: State) -> list[Step]:
    path: list[Step] = []
    while found := came_from[state]:
        state, step = found
        path.append(step)
    return path[::-1]


def again(message: Message) -> Message:
    return message._replace(look_first=True, redelivered=True)


def describe_message(message: Message) -> str:
    if message.upload:
        return f"a message handed back with upload {message.upload.upload_id}"
    return {EVENT: "an event", HINT: "a request to look again"}.get(message, "a message delivered again")


def name_of(running: Running) -> str:
    call = running.call
    where = " source" if call.on_source else " destination" if call.operation == "head_object" else ""
    part = f" {call.part}" if call.part else ""
    condition = {"": "", "*": " if absent"}.get(call.condition, f" if {call.condition}")
    return f"{call.operation}{where}{part}{condition}"


def describe_answer(answer: Any) -> str:
    if isinstance(answer, Failure):
        return answer.code
    if isinstance(answer, Version):
        return f"{answer.content} {answer.label}"
    if isinstance(answer, Copy):
        return f"{answer.etag} copied from {answer.content[0]} {answer.label}"
    return str(answer) or "done"
