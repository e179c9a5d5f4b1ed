"""S3 as mirror/protocol/ sees it, as pure functions: one key, in a source and in a directory bucket.

A listing, which shows all keys, is answered by the one that knows them all.

A call is served in one step, a copy in two: S3 reads the source, and later the object appears.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from mirror.concurrency import Job, Slots
from mirror.model.services import MIN_PART_SIZE
from mirror.options import options_for
from mirror.options.waiting import Waits
from mirror.protocol.buckets import Buckets, LeftOut
from mirror.protocol.objects import PROVENANCE, source_from_head
from mirror.protocol.sync import Syncer
from mirror.queue.option import Option, methods
from mirror.settings import FUNCTION_KEYS, Settings, load_settings

SMALL, LARGE = 1, 2 * MIN_PART_SIZE  # bytes; a large object is copied in two parts
ENVIRONMENT = {
    "REGION": "us-east-1",
    "SRC_BUCKET": "source",
    "DST_BUCKET": "mirror--use1-az4--x-s3",
    "QUEUE_URL": "https://queue",
    "PREFIX_FILTER": "data/",
    "MULTIPART_THRESHOLD": str(MIN_PART_SIZE),
    "PART_SIZE": str(MIN_PART_SIZE),
}
NIGHTLY = os.environ.get("NIGHTLY") == "1"
SETTINGS = load_settings(ENVIRONMENT)
# Of the function, as far as one key shows them: LARGE is too large for it.
FUNCTION_SETTINGS = replace(SETTINGS, in_function=True, max_concurrent_keys=FUNCTION_KEYS, largest=MIN_PART_SIZE)

# What changes something, so that S3 may go on with it after its client died.
WRITES = {
    "copy_object",
    "delete_object",
    "create_multipart_upload",
    "upload_part_copy",
    "complete_multipart_upload",
    "abort_multipart_upload",
}


# Labels of metadata that a copy with REPLACE cannot carry, so that only S3 copies them -> what HeadObject shows then.
ODD: dict[str, dict[str, Any]] = {
    "no date": {"ExpiresString": "2030-01-01T00:00:00Z"},
    "no zone": {"ExpiresString": "Tue, 01 Jan 2030 00:00:00"},
    "not ASCII": {"Metadata": {"label": "not ASCII", "name": "\u00fc"}},
    "no room": {"Metadata": {"label": "no room", "name": 2000 * "x"}},
}


class Version(NamedTuple):
    """A version of the source object."""

    content: str
    size: int
    second: int
    version_id: str = ""
    label: str = "label"  # stands for all metadata
    opaque: bool = False  # metadata that cannot be sent back
    archived: str = ""  # the storage class then

    def __str__(self) -> str:
        return f"{self.content} {self.label}"


class Copy(NamedTuple):
    """The destination object. `content` has one entry for each part, `stamp` says after which change it was read."""

    etag: str
    content: tuple[str, ...]
    label: str
    provenance: str
    stamp: int
    second: int = 0  # its LastModified
    size: int = SMALL

    def __str__(self) -> str:
        return f"{self.etag} copied from {self.content[0]} {self.label}"


class OpenUpload(NamedTuple):
    upload_id: str
    label: str
    provenance: str
    parts: tuple[tuple[int, str, str, int], ...] = ()  # number, ETag, content, stamp
    second: int = 0  # when it was begun


class Store(NamedTuple):
    """What the directory bucket holds of a key."""

    copy: Copy | None = None
    uploads: tuple[OpenUpload, ...] = ()
    serial: int = 0  # of the last ETag or upload id


class Source(NamedTuple):
    """The source's current version, and after how many changes."""

    version: Version | None
    changes: int


class Call(NamedTuple):
    """What of an S3 request matters here."""

    operation: str
    on_source: bool
    condition: str  # "*" for IfNoneMatch, an ETag for IfMatch, "" for none
    source_etag: str
    upload_id: str
    part: int
    etags: tuple[tuple[int, str], ...]
    metadata: tuple[str, str] | None  # label and provenance, None if S3 copies the metadata
    key: str  # of a listing: the prefix
    size: int = 0  # that the parts have to have together; of a listing the most keys


class Running(NamedTuple):
    """A call that S3 works on. A copy reads first and is visible only later."""

    call: Call
    read: Copy | None = None

    def __str__(self) -> str:
        call, is_look = self.call, self.call.operation in ("head_object", "list_objects_v2")
        where = " source" if call.on_source else " destination" if is_look else ""
        part = f" {call.part}" if call.part else ""
        condition = {"": "", "*": " if absent"}.get(call.condition, f" if {call.condition}")
        return f"{call.operation}{where}{of_key(call.key)}{part}{condition}"


def of_key(key: str, words: str = " ") -> str:
    """For a schedule: nothing if there is only one key."""
    return "" if key in ("data/key", "data/") else f"{words}{key.removeprefix('data/')}"


class Failure(NamedTuple):
    """The error code of an answer."""

    code: str

    def __str__(self) -> str:
        return self.code


Served = tuple[Store, Running | None, Any]  # what is stored then, the call if it is still under way, the answer


def serve(source: Source, store: Store, running: Running) -> Served:
    """One step of S3 at a call."""
    return SERVE[running.call.operation](source, store, running)


def serve_head(source: Source, store: Store, running: Running) -> Served:
    found = source.version if running.call.on_source else store.copy
    return store, None, found or Failure("404" if running.call.operation == "head_object" else "NoSuchKey")


def serve_get(source: Source, store: Store, running: Running) -> Served:
    found, condition = serve_head(source, store, running)[2], running.call.condition
    is_other = not isinstance(found, Failure) and condition not in ("", head_of(found)["ETag"])
    return store, None, Failure("PreconditionFailed") if is_other else found


def read_source(source: Source, running: Running) -> Copy | Failure:
    if source.version is None:
        return Failure("NoSuchKey")
    if running.call.source_etag not in ("", source_head(source.version)["ETag"]):
        return Failure("PreconditionFailed")
    label, provenance = running.call.metadata or (source.version.label, "")
    return Copy("", (source.version.content,), label, provenance, source.changes, size=source.version.size)


def refusal(store: Store, condition: str) -> Failure | None:
    if condition == "*":
        return Failure("PreconditionFailed") if store.copy else None
    if condition and (store.copy is None or store.copy.etag != condition):
        return Failure("PreconditionFailed" if store.copy else "NoSuchKey")
    return None


def serve_copy(source: Source, store: Store, running: Running) -> Served:
    if running.read:
        return write(store, running, running.read)
    read = read_source(source, running)
    return (store, None, read) if isinstance(read, Failure) else (store, running._replace(read=read), None)


def write(store: Store, running: Running, copy: Copy) -> Served:
    refused = refusal(store, running.call.condition)
    if refused:
        return store, None, refused
    etag = f'"d{store.serial + 1}"'
    return store._replace(copy=copy._replace(etag=etag), serial=store.serial + 1), None, etag


def serve_delete(_: Source, store: Store, running: Running) -> Served:
    refused = refusal(store, running.call.condition)
    return (store, None, refused) if refused else (store._replace(copy=None), None, "")


def serve_create(_: Source, store: Store, running: Running) -> Served:
    upload = OpenUpload(f"u{store.serial + 1}", *(running.call.metadata or ("", "")))
    return Store(store.copy, (*store.uploads, upload), store.serial + 1), None, upload.upload_id


def find_upload(store: Store, running: Running) -> OpenUpload | None:
    return next((upload for upload in store.uploads if upload.upload_id == running.call.upload_id), None)


def without(store: Store, upload: OpenUpload) -> tuple[OpenUpload, ...]:
    return tuple(other for other in store.uploads if other is not upload)


def serve_part(source: Source, store: Store, running: Running) -> Served:
    upload = find_upload(store, running)
    if upload is None:
        return store, None, Failure("NoSuchUpload")
    read = read_source(source, running)
    if isinstance(read, Failure):
        return store, None, read
    number = running.call.part
    earlier = [part[1] for part in upload.parts if part[0] == number]
    etag = f"{earlier[0]}+" if earlier else f"{upload.upload_id}.{number}"
    others = [part for part in upload.parts if part[0] != number]
    parts = tuple(sorted([*others, (number, etag, read.content[0], read.stamp)]))
    return store._replace(uploads=(*without(store, upload), upload._replace(parts=parts))), None, etag


def serve_complete(_source: Source, store: Store, running: Running) -> Served:
    upload = find_upload(store, running)
    if upload is None:
        return store, None, Failure("NoSuchUpload")
    if code := refused_parts(upload, running.call):
        return store, None, Failure(code)
    parts = upload.parts[: len(running.call.etags)]
    content, stamp = tuple(part[2] for part in parts), min(part[3] for part in parts)
    size = running.call.size or len(parts) * MIN_PART_SIZE
    made = Copy("", content, upload.label, upload.provenance, stamp, size=size)
    written, _, answer = write(store, running, made)
    return written if isinstance(answer, Failure) else written._replace(uploads=without(store, upload)), None, answer


def refused_parts(upload: OpenUpload, call: Call) -> str:
    """The error code if no object can be made of what is named. All parts but the last have the smallest size."""
    if not call.etags:
        return "MalformedXML"
    if [number for number, _ in call.etags] != list(range(1, len(call.etags) + 1)):
        return "InvalidPartOrder"
    if not set(call.etags) <= {(number, etag) for number, etag, *_ in upload.parts}:
        return "InvalidPart"
    short_of_last_part = len(call.etags) * MIN_PART_SIZE - call.size
    return "" if call.size == 0 or 0 <= short_of_last_part < MIN_PART_SIZE else "InvalidRequest"


def serve_abort(_: Source, store: Store, running: Running) -> Served:
    upload = find_upload(store, running)
    if upload is None:
        return store, None, Failure("NoSuchUpload")
    return store._replace(uploads=without(store, upload)), None, ""


def serve_list_parts(_: Source, store: Store, running: Running) -> Served:
    upload = find_upload(store, running)
    return store, None, upload.parts if upload else Failure("NoSuchUpload")


def serve_list_uploads(_: Source, store: Store, __: Running) -> Served:
    return store, None, tuple(("data/key", upload.upload_id) for upload in store.uploads)


SERVE: dict[str, Callable[[Source, Store, Running], Served]] = {
    "head_object": serve_head,
    "get_object": serve_get,
    "copy_object": serve_copy,
    "delete_object": serve_delete,
    "create_multipart_upload": serve_create,
    "upload_part_copy": serve_part,
    "complete_multipart_upload": serve_complete,
    "abort_multipart_upload": serve_abort,
    "list_parts": serve_list_parts,
    "list_multipart_uploads": serve_list_uploads,
}


# --- The shapes of boto3 ----------------------------------------------------------------------------------------------


@cache
def source_head(version: Version) -> dict[str, Any]:
    head = {
        "ETag": f'"{version.content}"',
        "LastModified": datetime.fromtimestamp(version.second, UTC),
        "ContentLength": version.size,
        "Metadata": {"label": version.label},
        "MissingMeta": int(version.opaque),
    }
    shown = {"VersionId": version.version_id, "StorageClass": version.archived}
    return head | {name: value for name, value in shown.items() if value} | ODD.get(version.label, {})


@cache
def identity(version: Version) -> str:
    return source_from_head(source_head(version)).identity


def copy_head(copy: Copy) -> dict[str, Any]:
    return {
        "ETag": copy.etag,
        "ContentLength": copy.size,
        "LastModified": datetime.fromtimestamp(copy.second, UTC),
        "Metadata": {"label": copy.label} | ({PROVENANCE: copy.provenance} if copy.provenance else {}),
    }


def head_of(found: Version | Copy) -> dict[str, Any]:
    return source_head(found) if isinstance(found, Version) else copy_head(found)


def listed(key: str, found: Version | Copy) -> dict[str, Any]:
    """An entry of a listing."""
    head = head_of(found)
    shown = {name: head[name] for name in ("ETag", "LastModified", "StorageClass") if name in head}
    return {"Key": key, "Size": head["ContentLength"]} | shown


def body_of(content: str) -> bytes:
    """What a file of a Delta log says: "a3+f+g-e" is a commit that adds f and g, and removes e; "@3" a pointer. "~" at
    its end stands for another ETag."""
    content = content.rstrip("~")
    if content.startswith("@"):
        return json.dumps({"version": int(content[1:])}).encode()
    names = re.findall(r"([+-])([^+-]+)", content)
    actions = [{"add" if sign == "+" else "remove": {"path": name}} for sign, name in names]
    return "\n".join(json.dumps(action) for action in [{"commitInfo": {"of": content}}, *actions]).encode()


SHAPES: dict[str, Callable[[Any], dict[str, Any]]] = {
    "head_object": head_of,
    "get_object": lambda found: {"Body": body_of(found.content if isinstance(found, Version) else found.content[0])},
    "copy_object": lambda etag: {"CopyObjectResult": {"ETag": etag}},
    "delete_object": lambda _: {},
    "create_multipart_upload": lambda upload_id: {"UploadId": upload_id},
    "upload_part_copy": lambda etag: {"CopyPartResult": {"ETag": etag}},
    "complete_multipart_upload": lambda etag: {"ETag": etag},
    "abort_multipart_upload": lambda _: {},
    "list_parts": lambda parts: {
        "Parts": [{"PartNumber": part[0], "ETag": part[1], "Size": MIN_PART_SIZE} for part in parts],
        "IsTruncated": False,
    },
    "list_multipart_uploads": lambda found: {
        "Uploads": [{"Key": key, "UploadId": upload_id} for key, upload_id in found],
        "IsTruncated": False,
    },
    "list_objects_v2": lambda found: {"Contents": [listed(*entry) for entry in found], "IsTruncated": False},
}


def shaped(operation: str, answer: Any) -> dict[str, Any]:
    """What boto3 returns, or raises, for an answer of serve()."""
    if isinstance(answer, Failure):
        raise ClientError({"Error": {"Code": answer.code}}, operation)
    return SHAPES[operation](answer)


def call_from(operation: str, arguments: dict[str, Any]) -> Call:
    """Raises the refusal of what no bucket's content makes any better."""
    refuse_prefix(operation, arguments)
    if arguments.get("IfNoneMatch", "*") != "*":
        raise ClientError({"Error": {"Code": "NotImplemented"}}, operation)
    is_copied = operation == "copy_object" and arguments.get("MetadataDirective") != "REPLACE"
    metadata = None if is_copied else arguments.get("Metadata")
    is_lost = operation == "copy_object" and metadata is not None and metadata["label"] in ODD.keys() - {"no room"}
    parts = arguments.get("MultipartUpload", {}).get("Parts", [])
    return Call(
        operation=operation,
        on_source=arguments["Bucket"] == SETTINGS.src_bucket,
        condition=arguments.get("IfNoneMatch") or arguments.get("IfMatch") or "",
        source_etag=arguments.get("CopySourceIfMatch", ""),
        upload_id=arguments.get("UploadId", ""),
        part=arguments.get("PartNumber", 0),
        etags=tuple((part["PartNumber"], part["ETag"]) for part in parts),
        metadata=None if metadata is None else (metadata["label"] + is_lost * " lost", metadata.get(PROVENANCE, "")),
        key=arguments.get("Key") or arguments.get("Prefix", ""),
        size=arguments.get("MpuObjectSize") or arguments.get("MaxKeys", 0),
    )


def refuse_prefix(operation: str, arguments: dict[str, Any]) -> None:
    """A directory bucket lists by directory."""
    prefix = arguments.get("Prefix", "")
    if arguments["Bucket"] == SETTINGS.dst_bucket and prefix and not prefix.endswith("/"):
        raise ClientError({"Error": {"Code": "InvalidRequest"}}, operation)


class Client:
    """A client without waiting, as in mirror/model/client.py if it is of S3: answer() answers all calls."""

    def __init__(self, answer: Callable[[str, dict[str, Any]], dict[str, Any]]) -> None:
        self.answer = answer

    def __getattr__(self, operation: str) -> Callable[..., Coroutine[Any, Any, dict[str, Any]]]:
        async def call(**arguments: Any) -> dict[str, Any]:
            return self.answer(operation, arguments)

        return call

    async def open_session(self) -> None:
        pass

    async def renew_session(self) -> None:
        pass

    def close_connections(self) -> None:
        pass


class SlotsForAll(Slots):
    """Stands for Slots: all have begun before the first ends, so an error of one keeps none from beginning."""

    def __init__(self) -> None:
        pass

    async def run[T](self, function: Callable[[T], Awaitable[None]], items: Iterable[T]) -> None:
        failures = []
        try:
            for item in items:
                try:
                    await function(item)
                except Exception as error:  # noqa: BLE001 as in Slots
                    failures.append(error)
            if failures:
                raise failures[0]
        finally:
            failures.clear()  # otherwise an error, its traceback and this frame hold each other, and all of a search


async def one_by_one(jobs: list[Iterator[Job]], _workers: int) -> None:
    """Stands for work_off()."""
    while jobs:
        if job := next(jobs[-1], None):
            await job()
        else:
            jobs.pop()


WAITS_CLOCK = 1e9  # seconds since the epoch, for what waits


def syncer_on(client: Client, settings: Settings = SETTINGS, left_out: LeftOut = LeftOut(), **clocks: Any) -> Syncer:  # noqa: B008 a value
    """What syncs a key as in a worker, on these answers of S3. `clocks`: now, wall."""
    buckets = Buckets(settings, client, left_out=left_out, **clocks)
    options = options_for(buckets, waits=waits_on(buckets))
    steps = methods(options, Option.before_copy), methods(options, Option.before_write)
    return without_loop(Syncer(buckets, *steps))


def waits_on(buckets: Buckets) -> Waits:
    """Without an event loop. However often a key waits, it has not waited for too long."""
    return Waits(buckets, lambda _slots: SlotsForAll(), one_by_one, wall=lambda: WAITS_CLOCK)


def without_loop(syncer: Syncer) -> Syncer:
    """The same, for run()."""
    syncer.large_copies.parts = SlotsForAll()
    return syncer


def run[T](coroutine: Coroutine[Any, Any, T]) -> T:
    """What it returns or raises. All calls are answered at once, so no event loop is needed."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    raise AssertionError("it waits for something that no fake answers")
