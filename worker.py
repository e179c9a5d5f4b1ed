"""Keeps a directory bucket equal to a general purpose bucket: queue -> keys -> made equal -> message deleted.

An S3 event is only a hint that a key changed. For every key named in a message the worker looks at the source as it is
now, makes the destination equal to it with conditional writes, and looks at the source again after each write. So the
order, the number and the age of events do not matter. Object bytes never pass through here, S3 copies them itself.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import http.client
import io
import json
import logging
import math
import os
import queue
import random
import re
import signal
import struct
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any, NoReturn
from urllib.parse import quote, quote_plus, unquote_plus, urlsplit
from xml.etree import ElementTree

import awscrt.auth
import awscrt.http
import awscrt.io
import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    EndpointConnectionError,
    HTTPClientError,
    ReadTimeoutError,
)
from botocore.exceptions import ConnectionError as NotConnected
from botocore.httpsession import where as certificates
from botocore.parsers import ResponseParserError
from botocore.utils import parse_timestamp

log = logging.getLogger("worker")

MIB = 1024**2
GIB = 1024**3

# Limits of S3 and SQS (S3 User Guide, "Amazon S3 multipart upload limits"; SQS Developer Guide, "Message quotas").
MIN_PART_SIZE = 5 * MIB
MAX_COPY_SIZE = 5 * GIB  # one CopyObject or one UploadPartCopy
MAX_PARTS = 10_000
MAX_USER_METADATA = 2048
MAX_SQS_DELAY = 900
MAX_SQS_VISIBILITY = 43_200
SQS_BATCH = 10

# Of the source's metadata, what CopyObject with REPLACE and CreateMultipartUpload take. Both start from nothing, so
# what is not listed here is not carried: tags, annotations, ACL, lock, storage class and encryption, which a directory
# bucket either refuses or sets by itself (S3 API Reference, CopyObject and CreateMultipartUpload).
REPLICATED_FIELDS = (
    "ContentType",
    "CacheControl",
    "ContentDisposition",
    "ContentEncoding",
    "ContentLanguage",
    "Expires",
)
PROVENANCE = "sync-source"
MOVED_CONTENT_ENCODING = "sync-content-encoding"

# A directory bucket takes only the empty tag set and no annotations; the defaults of both directives answer 501 for a
# source that has some (S3 API Reference, CopyObject).
COPY_DIRECTIVES = {"TaggingDirective": "REPLACE", "AnnotationDirective": "EXCLUDE"}

ARCHIVED_CLASSES = {"GLACIER", "DEEP_ARCHIVE"}

# What the error of an S3 call means for the key.
CHANGED_CODES = {
    "404",
    "409",
    "412",
    "ConditionalRequestConflict",
    "InvalidPart",  # copied once more by a call still under way when the upload was handed on
    "NoSuchKey",
    "NoSuchUpload",
    "OperationAborted",
    "PreconditionFailed",
}
UNKNOWN_CODES = {"500", "502", "504", "InternalError", "InternalServerError"}
BUSY_CODES = UNKNOWN_CODES | {
    "429",
    "503",
    "ExpiredToken",
    "RequestTimeout",
    "RequestTimeTooSkewed",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
}
REFUSED_CODES = {"InvalidArgument", "InvalidRequest", "NotImplemented"}
FATAL_QUEUE_CODES = {
    "AccessDenied",
    "AccessDeniedException",
    "AWS.SimpleQueueService.NonExistentQueue",
    "InvalidClientTokenId",
    "QueueDoesNotExist",
}
LOST_RECEIPT_CODES = {"InvalidParameterValue", "MessageNotInflight", "ReceiptHandleIsInvalid"}

ADVICE = {
    "400": "an object encrypted with a customer-provided key (SSE-C) cannot be read by the worker; or the credentials "
    "have expired",
    "403": "let the task role use s3:GetObject on the object and s3:ListBucket on the source bucket, and the KMS key",
    "AccessDenied": "let the task role use s3:GetObject on the source, s3express:CreateSession on the destination, "
    "and the KMS keys of both",
    "InvalidObjectState": "the object is archived: restore it, its restore event copies it",
    "NoSuchBucket": "check SRC_BUCKET, DST_BUCKET and REGION",
    "NotImplemented": "the directory bucket does not support something in this request",
}

# Client name -> (read timeout in seconds or None for COPY_TIMEOUT, attempts that botocore makes). A copy is silent
# until it is done. What makes an object appear or vanish is never sent twice behind our back: the first one may land
# late.
CLIENTS: dict[str, tuple[int | None, int]] = {"s3": (60, 5), "parts": (None, 5), "writes": (None, 1)}

LONG_COPY_SIZE = 64 * MIB  # a copy of more lasts seconds: it takes no room from small ones
CHANGES_PER_DELIVERY = 20  # how often a key may change under our hands before its message is tried later
BUSY_RETRY_BASES = 10  # seconds of "503 Slow Down" to sit out in one delivery, in units of RETRY_BASE_SECONDS
SOURCE_BUCKET_CHECK_SECONDS = 60
BUSY_WAIT_TIME_SECONDS = 5  # long poll while work is in flight, so that SIGTERM is not kept waiting for it
DRAIN_SECONDS = 85  # after SIGTERM; Fargate kills after 120 (stopTimeout)
HAND_BACK_SECONDS = 10  # after those
RECEIVE_FAILURES_BEFORE_EXIT = 10
SETTLERS = 4
SETTLE_SECONDS = 0.2
HELD_PER_SLOT = 4  # messages, or keys, for each of MAX_CONCURRENT_KEYS, from which on a worker receives no more


# --- Settings ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """The worker's settings, one field for each environment variable of the same name in upper case."""

    region: str
    src_bucket: str
    dst_bucket: str
    queue_url: str
    prefix_filter: str
    src_bucket_owner: str
    dst_bucket_owner: str
    log_level: str
    s3_client: str
    visibility_timeout: int
    visibility_extend_interval: int
    wait_time_seconds: int
    empty_polls_before_exit: int
    max_receives: int
    retry_base_seconds: int
    copy_timeout: int
    multipart_threshold: int
    part_size: int
    max_concurrent_parts: int
    max_concurrent_keys: int
    processes: int


# name -> (default or None when required, pattern, what it has to be)
TEXT_SETTINGS: dict[str, tuple[str | None, str, str]] = {
    "REGION": (None, r"[a-z]{2}(-[a-z]+)+-\d+", "a Region such as eu-north-1"),
    "SRC_BUCKET": (None, r"(?!.*--x-s3$)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", "the name of a general purpose bucket"),
    "DST_BUCKET": (None, r"[a-z0-9][a-z0-9-]*--[a-z0-9-]+--x-s3", "a directory bucket: NAME--ZONE_ID--x-s3"),
    "QUEUE_URL": (None, r"https?://\S+", "the URL of the SQS queue"),
    "PREFIX_FILTER": ("", r".*", "the beginning of a key"),
    "SRC_BUCKET_OWNER": ("", r"(\d{12})?", "a 12-digit account id"),
    "DST_BUCKET_OWNER": ("", r"(\d{12})?", "a 12-digit account id"),
    "S3_CLIENT": ("crt", r"crt|boto3", "crt, or boto3 for more CPU time and no code of ours"),
    "LOG_LEVEL": ("INFO", r"DEBUG|INFO|WARNING|ERROR", "DEBUG, INFO, WARNING or ERROR"),
}

# name -> (default, lowest, highest)
NUMBER_SETTINGS: dict[str, tuple[int, int, int]] = {
    "VISIBILITY_TIMEOUT": (7200, 2, MAX_SQS_VISIBILITY),
    "VISIBILITY_EXTEND_INTERVAL": (300, 1, MAX_SQS_VISIBILITY),
    "WAIT_TIME_SECONDS": (20, 1, 20),
    "EMPTY_POLLS_BEFORE_EXIT": (3, 1, 1000),
    "MAX_RECEIVES": (3, 1, 1000),
    "RETRY_BASE_SECONDS": (30, 1, 3600),
    "COPY_TIMEOUT": (900, 1, MAX_SQS_DELAY),
    "MULTIPART_THRESHOLD": (MAX_COPY_SIZE, MIN_PART_SIZE, MAX_COPY_SIZE),
    "PART_SIZE": (64 * MIB, MIN_PART_SIZE, MAX_COPY_SIZE),
    "MAX_CONCURRENT_PARTS": (256, 1, 1024),
    "MAX_CONCURRENT_KEYS": (256, 1, 1024),
    "PROCESSES": (1, 1, 64),
}


def load_settings(environment: dict[str, str]) -> Settings:
    """Settings from environment variables. Raises ValueError that names every wrong one and what it has to be."""
    values: dict[str, Any] = {}
    problems = []
    for name, (default, pattern, meaning) in TEXT_SETTINGS.items():
        text = environment.get(name) or default
        values[name.lower()] = text
        if text is None:
            problems.append(f"{name} is not set, it has to be {meaning}")
        elif not re.fullmatch(pattern, text, re.DOTALL):
            problems.append(f"{name}={text!r} has to be {meaning}")
    for name, (number, lowest, highest) in NUMBER_SETTINGS.items():
        text = environment.get(name) or str(number)
        values[name.lower()] = int(text) if re.fullmatch(r"[0-9]+", text) else -1
        if not lowest <= values[name.lower()] <= highest:
            problems.append(f"{name}={text!r} has to be a whole number from {lowest} to {highest}")
    problems = problems or timing_problems(Settings(**values))
    if problems:
        raise ValueError("; ".join(problems))
    return Settings(**values)


def timing_problems(settings: Settings) -> list[str]:
    """A message of a worker that died must not come back while a copy of that worker may still be running in S3."""
    lowest = settings.visibility_extend_interval + settings.copy_timeout
    if settings.visibility_timeout >= lowest:
        return []
    return [
        f"VISIBILITY_TIMEOUT={settings.visibility_timeout} has to be at least {lowest}: "
        "VISIBILITY_EXTEND_INTERVAL plus COPY_TIMEOUT"
    ]


# --- What the two buckets say of a key --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """One version of a source object. `identity` tells it from every other version, in-place metadata changes too."""

    etag: str
    size: int
    identity: str
    fields: dict[str, Any] = field(compare=False)  # REPLICATED_FIELDS that are set
    metadata: dict[str, str] = field(compare=False)  # user metadata
    resendable: bool = field(compare=False)  # all of the metadata can be sent back as it came
    archived: str = field(compare=False)  # the storage class, while it has to be restored before a copy


@dataclass(frozen=True)
class Destination:
    """A destination object. `provenance` is the identity of the source it was copied from, or "" when not known."""

    etag: str
    provenance: str


def source_from_head(head: dict[str, Any]) -> Source:
    """A Source from the answer of HeadObject."""
    fields = {name: head[name] for name in REPLICATED_FIELDS if head.get(name)}
    metadata = dict(head.get("Metadata", {}))
    described = json.dumps([fields, head.get("ExpiresString"), metadata], sort_keys=True, default=str)
    identity = (
        head["ETag"].strip('"'),
        head["LastModified"].astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        str(head["ContentLength"]),
        head.get("VersionId") or "null",
        hashlib.sha256(described.encode()).hexdigest()[:12],
    )
    return Source(
        etag=head["ETag"],
        size=head["ContentLength"],
        identity=" ".join(identity),
        fields=fields,
        metadata=metadata,
        resendable=is_resendable(head),
        archived=archived_class(head),
    )


def is_resendable(head: dict[str, Any]) -> bool:
    """False where S3 shows metadata in another form than it was sent: undecodable, encoded by RFC 2047, not ASCII."""
    if head.get("MissingMeta") or (head.get("ExpiresString") and not head.get("Expires")):
        return False
    texts = [*head.get("Metadata", {}).items()]
    texts += [(name, head[name]) for name in REPLICATED_FIELDS if isinstance(head.get(name), str)]
    return all(re.fullmatch(r"[ -~]*", text) and "=?" not in text for pair in texts for text in pair)


def archived_class(head: dict[str, Any]) -> str:
    """The storage class or archive status that keeps S3 from copying the object now, else ""."""
    status = str(head.get("ArchiveStatus") or "")
    if head.get("StorageClass") in ARCHIVED_CLASSES:
        status = str(head["StorageClass"])
    return "" if 'ongoing-request="false"' in head.get("Restore", "") else status


def user_metadata_fits(metadata: dict[str, str]) -> bool:
    """S3 counts the bytes of names and values, at most 2 KB; here with the header prefix, to be on the safe side."""
    return sum(len(f"x-amz-meta-{name}{value}".encode()) for name, value in metadata.items()) <= MAX_USER_METADATA


def metadata_to_send(source: Source, keep_encoding: bool) -> dict[str, Any]:
    """Metadata arguments for CopyObject (REPLACE) and CreateMultipartUpload, with the provenance where it fits.

    A ContentEncoding that the directory bucket refuses is kept as user metadata: `keep_encoding` False.
    """
    fields = dict(source.fields)
    metadata = dict(source.metadata)
    if not keep_encoding:
        metadata[MOVED_CONTENT_ENCODING] = fields.pop("ContentEncoding")
    with_provenance = metadata | {PROVENANCE: source.identity}
    if user_metadata_fits(with_provenance):
        metadata = with_provenance
    return fields | {"Metadata": {name: ascii_header(value) for name, value in metadata.items()}}


def ascii_header(value: str) -> str:
    """The value, encoded as S3 itself shows it (RFC 2047) where it is not ASCII, which botocore refuses to send."""
    if value.isascii():
        return value
    from email.header import Header  # needed for very few objects, and slow to import

    return Header(value, "utf-8", maxlinelen=sys.maxsize).encode()


# --- Parts ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """Bytes first..last, both included, of the source; numbers begin at 1 while bytes begin at 0."""

    number: int
    first: int
    last: int


@dataclass(frozen=True)
class Upload:
    """A multipart upload under way, as it is handed on to the next worker."""

    upload_id: str
    source: str  # identity of the source it was begun for
    part_size: int


def part_size_for(size: int, smallest: int) -> int:
    """Bytes per part so that at most 10,000 parts are needed. Raises ValueError above 10,000 parts of 5 GiB."""
    needed = -(-size // MAX_PARTS)
    part_size = max(smallest, -(-needed // MIB) * MIB)
    if part_size > MAX_COPY_SIZE:
        raise ValueError(f"{size} bytes are more than {MAX_PARTS} parts of 5 GiB, the largest object of S3")
    return part_size


def parts_of(size: int, part_size: int) -> list[Part]:
    """The parts of an object, numbered from 1 without gaps as a directory bucket demands."""
    starts = range(0, size, part_size)
    return [Part(number, start, min(start + part_size, size) - 1) for number, start in enumerate(starts, 1)]


# --- What can go wrong with a key -------------------------------------------------------------------------------------


class Interrupted(Exception):
    """The worker has to stop, or the message's 12 hours are over: the message is handed back."""


class Changed(Exception):
    """The source or the destination changed in between: look again."""


class Unfinished(Exception):
    """An answer that does not say that the work was done, such as a 200 with nothing inside."""


class Refused(Exception):
    """The key cannot be synced as it is now."""


def error_code(error: BaseException) -> str:
    return str(error.response["Error"].get("Code", "")) if isinstance(error, ClientError) else type(error).__name__


def is_change(error: Exception) -> bool:
    return isinstance(error, Changed) or error_code(error) in CHANGED_CODES


def is_busy(error: Exception) -> bool:
    return isinstance(error, (NotConnected, HTTPClientError, ResponseParserError, Unfinished)) or (
        error_code(error) in BUSY_CODES
    )


def outcome_unknown(error: Exception) -> bool:
    """True where S3 may have done what it was asked, or may still be doing it."""
    return isinstance(error, (HTTPClientError, ResponseParserError, Unfinished)) or error_code(error) in UNKNOWN_CODES


def describe(error: BaseException) -> str:
    """One line: operation, error code, message and, where there is something to do, what."""
    if not isinstance(error, ClientError):
        return f'error={type(error).__name__} message="{error}"'
    code = error_code(error)
    message = error.response["Error"].get("Message", "")
    is_of_queue = "Message" in error.operation_name  # and the advice is for S3
    advice = f' advice="{ADVICE[code]}"' if code in ADVICE and not is_of_queue else ""
    return f'operation={error.operation_name} error={code} message="{message}"{advice}'


# --- Jobs: a key to sync ----------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Job:
    """One key to make equal, for all messages that ask for it at this time."""

    key: str
    look_first: bool = False  # the key is probably there already: begin with the destination
    redelivered: bool = False  # an earlier delivery may have died half way
    upload: Upload | None = None
    action: str = "skipped"  # or "copied", "deleted": what was done at last
    size: int = 0
    writing: bool = False  # a call that changes the destination is under way right now
    unsettled_until: float = 0.0  # until then such a call that got no answer may still land
    let_others: Callable[[], None] = lambda: None  # told before a copy that lasts: it is not to hold others up
    interrupted: threading.Event = field(default_factory=threading.Event)
    messages: list[Message] = field(default_factory=list)
    latecomers: list[Message] = field(default_factory=list)  # came while it ran: one more run
    running: bool = False
    has_slot: bool = False
    started: float = 0.0

    def check_interrupted(self) -> None:
        if self.interrupted.is_set():
            raise Interrupted

    def pause(self, seconds: float) -> None:
        self.interrupted.wait(seconds)
        self.check_interrupted()


@dataclass(frozen=True)
class Call:
    """A call of boto3's S3 client: the method's name and its parameters."""

    name: str
    parameters: dict[str, Any]


# The protocol is written as generators that yield a Call, are sent its answer, or have its error thrown at them. So
# the same code runs in a thread that waits for each answer (run_calls), and without one (Worker.step). Where it is to
# wait for anything else, it first yields IN_THREAD: from there on it is run in a thread.
IN_THREAD = Call("", {})
type Steps[T] = Generator[Call, Any, T]


@dataclass(eq=False)
class Context:
    """What every sync shares: settings, clients, the pool for parts, and what was learned of the buckets."""

    settings: Settings
    s3: Any
    parts: Any
    writes: Any
    pool: ThreadPoolExecutor
    now: Callable[[], float] = time.monotonic
    refused: set[str] = field(default_factory=set)  # what the directory bucket turned out not to take
    refused_lock: threading.Lock = field(default_factory=threading.Lock)
    source_bucket_seen: float = float("-inf")
    lock: threading.Lock = field(default_factory=threading.Lock)
    session_ready: bool = False
    objects: CrtObjects | None = None  # None: all calls are boto3's

    def __post_init__(self) -> None:
        objects = self.objects
        self.methods = {
            "head_object": objects.head_object if objects else self.s3.head_object,
            "copy_object": objects.copy_object if objects else self.writes.copy_object,
            "delete_object": objects.delete_object if objects else self.writes.delete_object,
            "create_multipart_upload": self.s3.create_multipart_upload,
        }

    @property
    def destination(self) -> dict[str, str]:
        return bucket_arguments(
            "Bucket", self.settings.dst_bucket, "ExpectedBucketOwner", self.settings.dst_bucket_owner
        )

    @property
    def source(self) -> dict[str, str]:
        return bucket_arguments(
            "Bucket", self.settings.src_bucket, "ExpectedBucketOwner", self.settings.src_bucket_owner
        )


def bucket_arguments(bucket_name: str, bucket: str, owner_name: str, owner: str) -> dict[str, str]:
    return {bucket_name: bucket} | ({owner_name: owner} if owner else {})


def run_calls[T](context: Context, steps: Steps[T]) -> T:
    """Makes the calls of `steps`, begun or not, one after the other in this thread. Returns or raises what they do."""
    answer = None
    try:
        call = steps.send(None)
        while True:
            try:
                answer = None if call is IN_THREAD else context.methods[call.name](**call.parameters)
            except Exception as error:  # noqa: BLE001 whatever it is, it is for the one who asked
                call = steps.throw(error)
            else:
                call = steps.send(answer)
    except StopIteration as end:
        result: T = end.value
        return result


# --- S3 calls ---------------------------------------------------------------------------------------------------------


def head(key: str, bucket: dict[str, str]) -> Steps[dict[str, Any] | None]:
    """The answer of HeadObject, None where there is no object (a delete marker counts as none) or no bucket."""
    try:
        return dict((yield Call("head_object", {"Key": key, **bucket})))
    except ClientError as error:
        if error_code(error) not in ("404", "NoSuchKey"):
            raise
    return None


def head_source(context: Context, key: str) -> Steps[Source | None]:
    found = yield from head(key, context.source)
    if found is None:
        yield from require_source_bucket(context)
        return None
    return source_from_head(found)


def head_destination(context: Context, key: str) -> Steps[Destination | None]:
    found = yield from head(key, context.destination)
    return Destination(found["ETag"], found.get("Metadata", {}).get(PROVENANCE, "")) if found else None


def require_source_bucket(context: Context) -> Steps[None]:
    """HeadObject answers 404 for a missing bucket too, and a missing bucket must not empty the destination.

    Lists one key at most once a minute. Raises the ClientError of ListObjectsV2 (NoSuchBucket, AccessDenied).
    """

    def is_known() -> bool:
        return context.now() - context.source_bucket_seen < SOURCE_BUCKET_CHECK_SECONDS

    if is_known():
        return
    yield IN_THREAD
    with context.lock:
        if not is_known():
            context.s3.list_objects_v2(MaxKeys=1, **context.source)
            context.source_bucket_seen = context.now()


def open_session(context: Context) -> None:
    """Has the clients create their S3 Express sessions once, before many threads would each create one."""
    with context.lock:
        if not context.session_ready:
            context.s3.list_objects_v2(MaxKeys=1, **context.destination)
            if context.objects and context.objects.has_sessions:
                context.objects.session_provider()
            context.session_ready = True


@contextmanager
def write_call(context: Context, job: Job) -> Iterator[None]:
    """Around a call that changes the destination: remembers until when it may still land if no answer came."""
    job.writing = True  # before the check: drain() first interrupts, then looks at this
    try:
        job.check_interrupted()
        yield
    except Exception as error:
        if outcome_unknown(error):
            job.unsettled_until = context.now() + context.settings.copy_timeout
        raise
    finally:
        job.writing = False


def copy_source(context: Context, job: Job, source: Source) -> dict[str, Any]:
    """Arguments common to CopyObject and UploadPartCopy: never another version than the one that was looked at."""
    settings = context.settings
    owner = {"ExpectedSourceBucketOwner": settings.src_bucket_owner} if settings.src_bucket_owner else {}
    return {
        "Key": job.key,
        "CopySource": {"Bucket": settings.src_bucket, "Key": job.key},
        "CopySourceIfMatch": source.etag,
        **context.destination,
        **owner,
    }


def copy_object(context: Context, job: Job, source: Source, condition: dict[str, str]) -> Steps[None]:
    """One CopyObject, metadata replaced by what HeadObject showed plus the provenance, or copied where it cannot be."""

    def call(metadata: dict[str, Any]) -> Steps[None]:
        parameters = copy_source(context, job, source) | COPY_DIRECTIVES | condition | metadata
        with write_call(context, job):
            answer = yield Call("copy_object", parameters)
            # A 200 without a result raises nothing in botocore, and is no copy (S3 API Reference, CopyObject).
            if not answer.get("CopyObjectResult", {}).get("ETag"):
                raise Unfinished("CopyObject answered 200 without an ETag")

    if source.resendable and PROVENANCE in metadata_to_send(source, keep_encoding=True)["Metadata"]:
        replace = {"MetadataDirective": "REPLACE"}
        yield from send_metadata(context, job, source, lambda metadata: call(replace | metadata))
    else:
        yield from call({"MetadataDirective": "COPY"})


def send_metadata[T](
    context: Context, job: Job, source: Source, call: Callable[[dict[str, Any]], Steps[T]]
) -> Steps[T]:
    """call(metadata), and once more without the ContentEncoding where the directory bucket refuses it."""
    encoding = source.fields.get("ContentEncoding")
    if encoding is None or "content encoding" not in context.refused:
        try:
            return (yield from call(metadata_to_send(source, keep_encoding=True)))
        except ClientError as error:
            if encoding is None or error_code(error) not in REFUSED_CODES:
                raise
    answer = yield from call(metadata_to_send(source, keep_encoding=False))
    log.warning(
        "the directory bucket refuses Content-Encoding %s, kept as user metadata %s key=%s",
        encoding,
        MOVED_CONTENT_ENCODING,
        quoted(job.key),
    )
    context.refused.add("content encoding")
    return answer


def write_on_condition(
    context: Context, existing: Destination | None, write: Callable[[dict[str, str]], Steps[None]]
) -> Steps[None]:
    """write(condition), only where the destination still is what it was; without, once the bucket refused that."""
    condition = {"IfMatch": existing.etag} if existing else {"IfNoneMatch": "*"}
    if "conditional writes" in context.refused:
        return (yield from write({}))
    try:
        return (yield from write(condition))
    except ClientError as error:
        if error_code(error) != "NotImplemented":
            raise
        refusal = describe(error)
    yield from write({})
    with context.refused_lock:  # others may learn it at the same time
        is_new = "conditional writes" not in context.refused
        context.refused.add("conditional writes")
    if is_new:
        log.warning("the destination refuses conditional writes, going on without: %s", refusal)


def create_upload(context: Context, job: Job, source: Source) -> Steps[Upload]:
    part_size = part_size_for(source.size, context.settings.part_size)

    def call(metadata: dict[str, Any]) -> Steps[Any]:
        return (yield Call("create_multipart_upload", {"Key": job.key, **context.destination, **metadata}))

    answer = yield from send_metadata(context, job, source, call)
    return Upload(answer["UploadId"], source.identity, part_size)


def copy_part(context: Context, job: Job, source: Source, upload: Upload, part: Part) -> tuple[int, str]:
    """One UploadPartCopy; its part number and ETag. Parts not yet begun are not begun once interrupted."""
    job.check_interrupted()
    answer = upload_part_copy(
        context,
        UploadId=upload.upload_id,
        PartNumber=part.number,
        CopySourceRange=f"bytes={part.first}-{part.last}",
        **copy_source(context, job, source),
    )
    etag = answer.get("CopyPartResult", {}).get("ETag")
    if not etag:
        raise Unfinished(f"UploadPartCopy of part {part.number} answered 200 without an ETag")
    return part.number, etag


def upload_part_copy(context: Context, **parameters: Any) -> Any:
    """Once over the CRT where that is in use; what S3 is too busy for is repeated by boto3, as a part may be."""
    if context.objects:
        try:
            return context.objects.upload_part_copy(**parameters)
        except (ClientError, BotoCoreError) as error:
            if not is_busy(error):
                raise
            log.debug("a part once more with boto3: %s", describe(error))
    return context.parts.upload_part_copy(**parameters)


def finished_parts(context: Context, job: Job, source: Source, upload: Upload) -> dict[int, str]:
    """Part number -> ETag of the parts that are there in full. Raises NoSuchUpload."""
    wanted = {part.number: part.last - part.first + 1 for part in parts_of(source.size, upload.part_size)}
    pages = context.s3.get_paginator("list_parts").paginate(
        Key=job.key, UploadId=upload.upload_id, **context.destination
    )
    found = [part for page in pages for part in page.get("Parts", [])]
    return {part["PartNumber"]: part["ETag"] for part in found if wanted.get(part["PartNumber"]) == part["Size"]}


def complete_upload(
    context: Context, job: Job, source: Source, upload: Upload, etags: dict[int, str], condition: dict[str, str]
) -> None:
    """Raises the error of S3; after a conflict the upload cannot be completed any more (S3 API Reference)."""
    with write_call(context, job):
        answer = context.writes.complete_multipart_upload(
            Key=job.key,
            UploadId=upload.upload_id,
            MultipartUpload={"Parts": [{"PartNumber": n, "ETag": etags[n]} for n in sorted(etags)]},
            MpuObjectSize=source.size,
            **context.destination,
            **condition,
        )
        if not answer.get("ETag"):
            raise Unfinished("CompleteMultipartUpload answered 200 without an ETag")


def abort_upload(context: Context, key: str, upload_id: str) -> None:
    """Ends an upload and its parts. Parts that were under way may land after it, so it is asked until none is left."""
    for _ in range(3):
        try:
            context.s3.abort_multipart_upload(Key=key, UploadId=upload_id, **context.destination)
            left = context.s3.list_parts(Key=key, UploadId=upload_id, MaxParts=1, **context.destination)
        except (ClientError, BotoCoreError) as error:
            if error_code(error) == "NoSuchUpload":
                return
            log.warning("could not abort upload %s, the lifecycle rule will: %s", upload_id, describe(error))
            return
        if not left.get("Parts"):
            return


def abort_orphans(context: Context, job: Job) -> None:
    """Ends uploads of this key that a worker which died left behind; a live one that loses its upload begins again.

    A directory bucket lists uploads only by a prefix that ends in "/" (S3 API Reference, ListMultipartUploads).
    """
    prefix = job.key[: job.key.rfind("/") + 1]
    pages = context.s3.get_paginator("list_multipart_uploads").paginate(Prefix=prefix, **context.destination)
    for upload in [upload for page in pages for upload in page.get("Uploads", [])]:
        if upload["Key"] == job.key and (job.upload is None or upload["UploadId"] != job.upload.upload_id):
            log.info("aborting the upload of an earlier delivery key=%s", quoted(job.key))
            abort_upload(context, job.key, upload["UploadId"])


def delete_object(context: Context, job: Job, existing: Destination) -> Steps[None]:
    """Only the object that was looked at: a delete that arrives late must not take a newer one along."""

    def call(condition: dict[str, str]) -> Steps[None]:
        with write_call(context, job):
            yield Call("delete_object", {"Key": job.key, **context.destination, **condition})

    yield from write_on_condition(context, existing, call)


# --- Objects, parts and messages over the AWS CRT ---------------------------------------------------------------------

# Parameter of a call -> header, as in botocore's model (S3 API Reference).
REQUEST_HEADERS = {
    "AnnotationDirective": "x-amz-object-annotation-directive",
    "CacheControl": "Cache-Control",
    "ContentDisposition": "Content-Disposition",
    "ContentEncoding": "Content-Encoding",
    "ContentLanguage": "Content-Language",
    "ContentType": "Content-Type",
    "CopySourceIfMatch": "x-amz-copy-source-if-match",
    "CopySourceRange": "x-amz-copy-source-range",
    "ExpectedBucketOwner": "x-amz-expected-bucket-owner",
    "ExpectedSourceBucketOwner": "x-amz-source-expected-bucket-owner",
    "IfMatch": "If-Match",
    "IfNoneMatch": "If-None-Match",
    "MetadataDirective": "x-amz-metadata-directive",
    "TaggingDirective": "x-amz-tagging-directive",
}

# Header of the answer to HeadObject -> field of boto3's answer, as text.
ANSWER_FIELDS = {
    "cache-control": "CacheControl",
    "content-disposition": "ContentDisposition",
    "content-encoding": "ContentEncoding",
    "content-language": "ContentLanguage",
    "content-type": "ContentType",
    "etag": "ETag",
    "expires": "ExpiresString",
    "x-amz-archive-status": "ArchiveStatus",
    "x-amz-restore": "Restore",
    "x-amz-storage-class": "StorageClass",
    "x-amz-version-id": "VersionId",
}


@dataclass(frozen=True)
class Operation:
    """An operation of S3: its HTTP method, and the name of what the body of its answer holds, "" where it has none."""

    name: str
    method: str
    result: str = ""


# Method of boto3's client -> operation.
OPERATIONS = {
    "head_object": Operation("HeadObject", "HEAD"),
    "copy_object": Operation("CopyObject", "PUT", "CopyObjectResult"),
    "upload_part_copy": Operation("UploadPartCopy", "PUT", "CopyPartResult"),
    "delete_object": Operation("DeleteObject", "DELETE"),
}
METADATA_HEADER = "x-amz-meta-"
HEAD_TIMEOUT = 60
QUEUE_TIMEOUT = 30  # beside the long poll
CONNECT_TIMEOUT = 10
SESSION_MARGIN = 60  # seconds before a session of five minutes ends


class EndpointSeen(Exception):
    """Ends a boto3 call before it is sent; its argument is the URL that boto3 chose."""


@dataclass(frozen=True)
class Endpoint:
    """Where boto3 sends the requests for one bucket or queue."""

    url: str  # scheme, host and path, up to the key
    host: str  # with the port where the URL has one, as in the Host header
    path: str
    signing_name: str


@dataclass(eq=False)
class Answer:
    """What came back for one request, filled in by the CRT's threads."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)

    def on_response(self, *, status_code: int, headers: list[tuple[str, str]], **_: Any) -> None:
        self.status = status_code
        self.headers = {name.lower(): value for name, value in headers}

    def on_body(self, *, chunk: bytes, **_: Any) -> None:
        self.body += chunk


type Done = Callable[[Any, Exception | None], None]  # told an answer, or the error instead


def wait_for(start: Callable[[Done], None]) -> Any:
    """Has start(done) begin something, and waits for what done is told."""
    future: Future[Any] = Future()

    def done(answer: Any, error: Exception | None) -> None:
        if error:
            future.set_exception(error)
        else:
            future.set_result(answer)

    start(done)
    return future.result()


class CrtHttp:
    """The HTTP client of the AWS CRT, at a fifth of boto3's CPU time. Each request is signed and sent once."""

    def __init__(self, settings: Settings, credentials: Any) -> None:
        self.region = settings.region
        self.credentials = credentials
        self.bootstrap = awscrt.io.ClientBootstrap.get_or_create_static_default()
        self.tls = tls_context()
        self.idle: dict[str, deque[Any]] = {}  # host -> open connections
        self.deadlines: dict[Any, float] = {}  # connection that waits for an answer -> when that is given up
        threading.Thread(target=self.give_up_for_ever, name="deadlines", daemon=True).start()

    def task_role(self) -> Any:
        keys = self.credentials.get_frozen_credentials()
        return credentials_provider(keys.access_key, keys.secret_key, keys.token)

    def sign(self, endpoint: Endpoint, request: Any, **options: Any) -> None:
        """Adds the headers of a signature (Signature Version 4) to the request."""
        config = awscrt.auth.AwsSigningConfig(
            signature_type=awscrt.auth.AwsSignatureType.HTTP_REQUEST_HEADERS,
            region=self.region,
            service=endpoint.signing_name,
            use_double_uri_encode=False,
            should_normalize_uri_path=False,
            **options,
        )
        awscrt.auth.aws_sign_request(request, config).result()

    def start(self, endpoint: Endpoint, request: Any, timeout: float, done: Done) -> None:
        """Sends the request and returns. done(answer, error) is called once, and must not wait: in a thread of the CRT,
        or before this returns where nothing could be sent.

        The errors are botocore's, for where no whole answer came: then AWS may have done its work all the same.
        """
        idle = self.idle.setdefault(endpoint.host, deque())
        while idle:
            connection = take(idle)
            if connection and connection.is_open():
                self.exchange(connection, endpoint, request, timeout, done)
                return

        def opened(future: Any) -> None:
            if error := future.exception():
                done(None, EndpointConnectionError(endpoint_url=endpoint.url, error=error))
            else:
                self.exchange(future.result(), endpoint, request, timeout, done)

        self.open_connection(endpoint).add_done_callback(opened)

    def exchange(self, connection: Any, endpoint: Endpoint, request: Any, timeout: float, done: Done) -> None:
        answer = Answer()

        def finished(future: Any) -> None:
            is_late = time.monotonic() > self.deadlines.pop(connection)
            error = future.exception()
            if error is None:
                self.idle[endpoint.host].append(connection)
                done(answer, None)
                return
            connection.close()
            broken = ReadTimeoutError if is_late else ConnectionClosedError
            done(None, broken(endpoint_url=endpoint.url, error=error))

        self.deadlines[connection] = time.monotonic() + timeout
        try:
            stream = connection.request(request, answer.on_response, answer.on_body)
            stream.completion_future.add_done_callback(finished)
            stream.activate()
        except Exception as error:  # noqa: BLE001 closed in the meantime, in one of many words: nothing was sent
            self.deadlines.pop(connection, None)
            connection.close()
            done(None, EndpointConnectionError(endpoint_url=endpoint.url, error=error))

    def open_connection(self, endpoint: Endpoint) -> Any:
        parts = urlsplit(endpoint.url)
        is_tls = parts.scheme == "https"
        tls = self.tls.new_connection_options() if is_tls else None
        if tls:
            tls.set_server_name(parts.hostname)
        options = awscrt.io.SocketOptions()
        options.keep_alive = True  # a copy is silent for minutes, and a firewall may forget a silent connection
        options.keep_alive_timeout_secs = options.keep_alive_interval_secs = 60
        options.connect_timeout_ms = CONNECT_TIMEOUT * 1000
        port = parts.port or (443 if is_tls else 80)
        return awscrt.http.HttpClientConnection.new(parts.hostname, port, self.bootstrap, options, tls)

    def give_up_for_ever(self) -> None:
        while True:
            time.sleep(1)
            self.give_up(time.monotonic())

    def give_up(self, now: float) -> None:
        """Closes the connections whose answer is overdue, which ends their requests with an error."""
        for connection, deadline in list(self.deadlines.items()):
            if now > deadline:
                connection.close()


def take(connections: deque[Any]) -> Any:
    """The one that was used last, None where another thread was faster."""
    try:
        return connections.pop()
    except IndexError:
        return None


class CrtObjects:
    """HeadObject, CopyObject, UploadPartCopy and DeleteObject over the AWS CRT.

    Takes the parameters, gives the answers and raises the errors of the boto3 methods of the same names, for what the
    worker uses of them. boto3 finds the endpoints and the credentials, and creates the S3 Express session.
    """

    def __init__(self, settings: Settings, http_client: CrtHttp, s3: Any) -> None:
        self.settings = settings
        self.http = http_client
        self.s3 = s3
        self.endpoints = {
            settings.src_bucket: bucket_endpoint(s3, s3.head_object, settings.src_bucket, "s3"),
            settings.dst_bucket: bucket_endpoint(
                s3, s3.copy_object, settings.dst_bucket, "s3express", CopySource="b/k"
            ),
        }
        self.lock = threading.Lock()
        self.session: Any = None
        self.session_ends = 0.0
        # The switch of botocore for servers that know no sessions.
        self.has_sessions = os.environ.get("AWS_S3_DISABLE_EXPRESS_SESSION_AUTH", "").lower() != "true"
        self.head_object = functools.partial(self.wait_for, "head_object")
        self.copy_object = functools.partial(self.wait_for, "copy_object")
        self.upload_part_copy = functools.partial(self.wait_for, "upload_part_copy")
        self.delete_object = functools.partial(self.wait_for, "delete_object")

    def wait_for(self, name: str, **parameters: Any) -> Any:
        return wait_for(functools.partial(self.start, Call(name, parameters)))

    def start(self, call: Call, done: Done) -> None:
        """Sends the request of the call; see CrtHttp.start."""
        operation = OPERATIONS[call.name]
        endpoint = self.endpoints[call.parameters["Bucket"]]
        request = request_for(endpoint, operation.method, call.parameters)
        self.sign(endpoint, operation, request)
        if operation.method != "HEAD":
            request.headers.add("Content-Length", "0")  # after signing: boto3 does not sign it

        def read(answer: Answer | None, error: Exception | None) -> None:
            found = None
            try:
                found = read_answer(operation, answer) if answer else None
            except Exception as wrong:  # noqa: BLE001 lost here, it would keep the one who asked waiting for ever
                error = wrong
            done(found, error)

        timeout = HEAD_TIMEOUT if operation.method == "HEAD" else self.settings.copy_timeout
        self.http.start(endpoint, request, timeout, read)

    def sign(self, endpoint: Endpoint, operation: Operation, request: Any) -> None:
        """Copies are signed with IAM credentials, all else on a directory bucket with those of a session.

        (S3 User Guide, "Authorizing Zonal endpoint API operations with CreateSession".)
        """
        algorithm = awscrt.auth.AwsSigningAlgorithm.V4
        if endpoint.signing_name == "s3express" and not operation.result and self.has_sessions:
            algorithm, provider = awscrt.auth.AwsSigningAlgorithm.V4_S3EXPRESS, self.session_provider()
        else:
            provider = self.http.task_role()
        self.http.sign(
            endpoint,
            request,
            algorithm=algorithm,
            credentials_provider=provider,
            signed_body_header_type=awscrt.auth.AwsSignedBodyHeaderType.X_AMZ_CONTENT_SHA_256,
            signed_body_value=awscrt.auth.AwsSignedBodyValue.EMPTY_SHA256,
        )

    def session_provider(self, margin: float = SESSION_MARGIN) -> Any:
        """Credentials of an S3 Express session; one thread renews it while the others wait for that."""
        if time.time() < self.session_ends - margin:
            return self.session
        with self.lock:
            if time.time() > self.session_ends - margin:
                found = self.s3.create_session(Bucket=self.settings.dst_bucket)["Credentials"]
                keys = found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"]
                self.session = credentials_provider(*keys)
                self.session_ends = found["Expiration"].timestamp()
            return self.session

    def renew_session(self) -> None:
        """Early, for the heartbeat: a thread of the CRT that does it has all others wait."""
        if not self.session:
            return
        try:
            self.session_provider(2 * SESSION_MARGIN)
        except (ClientError, BotoCoreError) as error:
            log.warning("could not renew the S3 Express session yet: %s", describe(error))


class CrtQueue:
    """ReceiveMessage and DeleteMessageBatch over the AWS CRT. All other calls, and what fails here, are boto3's."""

    def __init__(self, http_client: CrtHttp, sqs: Any, queue_url: str) -> None:
        self.http = http_client
        self.sqs = sqs
        self.endpoint = queue_endpoint(sqs, queue_url)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sqs, name)

    def receive_message(self, **parameters: Any) -> Any:
        answer = self.call("ReceiveMessage", parameters, parameters["WaitTimeSeconds"] + QUEUE_TIMEOUT)
        return self.sqs.receive_message(**parameters) if answer is None else answer

    def delete_message_batch(self, **parameters: Any) -> Any:
        answer = self.call("DeleteMessageBatch", parameters, QUEUE_TIMEOUT)
        return self.sqs.delete_message_batch(**parameters) if answer is None else answer

    def call(self, operation: str, parameters: dict[str, Any], timeout: float) -> Any:
        """The answer, None where it is no success: then boto3 repeats the call, and raises what it has to."""
        body = json.dumps(parameters).encode()
        request = queue_request(self.endpoint, operation, body)
        self.http.sign(
            self.endpoint,
            request,
            algorithm=awscrt.auth.AwsSigningAlgorithm.V4,
            credentials_provider=self.http.task_role(),
            signed_body_value=hashlib.sha256(body).hexdigest(),
        )
        request.headers.add("Content-Length", str(len(body)))  # after signing: boto3 does not sign it
        try:
            answer = wait_for(functools.partial(self.http.start, self.endpoint, request, timeout))
            return json.loads(answer.body) if answer.status == 200 else None
        except (BotoCoreError, ValueError) as error:
            log.debug("%s once more with boto3: %s", operation, error)
            return None


@functools.lru_cache(maxsize=8)
def credentials_provider(access_key: str, secret_key: str, token: str | None) -> Any:
    return awscrt.auth.AwsCredentialsProvider.new_static(access_key, secret_key, token)


def tls_context() -> Any:
    """Trusts what boto3 trusts: AWS_CA_BUNDLE, else the certificates that botocore brings."""
    options = awscrt.io.TlsContextOptions()
    options.override_default_trust_store_from_path(None, os.environ.get("AWS_CA_BUNDLE") or certificates())
    return awscrt.io.ClientTlsContext(options)


def bucket_endpoint(s3: Any, call: Callable[..., Any], bucket: str, signing_name: str, **parameters: str) -> Endpoint:
    url = url_of(s3, call, Bucket=bucket, Key="k", **parameters)[: -len("k")]
    return Endpoint(url, urlsplit(url).netloc, urlsplit(url).path, signing_name)


def queue_endpoint(sqs: Any, queue_url: str) -> Endpoint:
    url = url_of(sqs, sqs.receive_message, QueueUrl=queue_url)
    return Endpoint(url, urlsplit(url).netloc, urlsplit(url).path, "sqs")


def url_of(client: Any, call: Callable[..., Any], **parameters: str) -> str:
    """Has boto3 prepare a request, and takes its URL instead of sending it."""

    def stop(request: Any, **_: Any) -> None:
        raise EndpointSeen(request.url)

    client.meta.events.register("before-send", stop)
    try:
        call(**parameters)
    except EndpointSeen as seen:
        return str(seen)
    finally:
        client.meta.events.unregister("before-send", stop)
    raise AssertionError("boto3 sent a request that should have been stopped")


def request_for(endpoint: Endpoint, method: str, parameters: dict[str, Any]) -> Any:
    """The request of one operation, not signed yet."""
    headers = [("host", endpoint.host)]
    headers += [(REQUEST_HEADERS[name], value) for name, value in parameters.items() if name in REQUEST_HEADERS]
    headers += [(f"{METADATA_HEADER}{name}", value) for name, value in parameters.get("Metadata", {}).items()]
    if "Expires" in parameters:
        headers.append(("Expires", format_datetime(parameters["Expires"].astimezone(UTC), usegmt=True)))
    if "CopySource" in parameters:
        source = parameters["CopySource"]
        headers.append(("x-amz-copy-source", f"{source['Bucket']}/{quote(source['Key'], safe='/~')}"))
    path = endpoint.path + quote(parameters["Key"], safe="/~")
    if "UploadId" in parameters:
        path += f"?partNumber={parameters['PartNumber']}&uploadId={quote(parameters['UploadId'], safe='~')}"
    return awscrt.http.HttpRequest(method, path, awscrt.http.HttpHeaders(headers))


def queue_request(endpoint: Endpoint, operation: str, body: bytes) -> Any:
    """A request in the JSON protocol of SQS (SQS Developer Guide, "Making Query API requests using AWS JSON")."""
    headers = [
        ("host", endpoint.host),
        ("Content-Type", "application/x-amz-json-1.0"),
        ("X-Amz-Target", f"AmazonSQS.{operation}"),
        ("x-amzn-query-mode", "true"),
    ]
    return awscrt.http.HttpRequest("POST", endpoint.path, awscrt.http.HttpHeaders(headers), io.BytesIO(body))


def read_answer(operation: Operation, answer: Answer) -> dict[str, Any]:
    """boto3's answer. Raises the ClientError of an error status, or of an error inside a 200."""
    if answer.status >= 300:
        raise client_error(operation.name, answer)
    if operation.method == "HEAD":
        return head_answer(answer.headers)
    return {operation.result: read_xml(operation.name, answer)} if operation.result else {}


def head_answer(headers: dict[str, str]) -> dict[str, Any]:
    """The fields of boto3's answer to HeadObject that the worker reads."""
    answer: dict[str, Any] = {ANSWER_FIELDS[name]: value for name, value in headers.items() if name in ANSWER_FIELDS}
    answer["ContentLength"] = int(headers["content-length"])
    answer["LastModified"] = parse_date(headers["last-modified"])
    answer["MissingMeta"] = int(headers.get("x-amz-missing-meta", 0))
    if expires := parse_expires(headers.get("expires", "")):
        answer["Expires"] = expires
    answer["Metadata"] = {
        name[len(METADATA_HEADER) :]: value for name, value in headers.items() if name.startswith(METADATA_HEADER)
    }
    return answer


@functools.lru_cache(maxsize=1024)
def parse_date(text: str) -> datetime:
    """Many objects are of the same second, and each is looked at twice."""
    return parsedate_to_datetime(text)


def parse_expires(text: str) -> datetime | None:
    """None where the text is no date: S3 keeps and shows whatever it was given."""
    try:
        return parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None


def read_xml(operation: str, answer: Answer) -> dict[str, str]:
    """Child elements of the body as text, {} for an empty one. Raises the ClientError of an error inside a 200."""
    if not answer.body.strip():
        return {}
    root = parse_xml(operation, answer)
    if root.tag == "Error":
        raise client_error(operation, answer)
    return {child.tag.rpartition("}")[2]: child.text or "" for child in root}


def parse_xml(operation: str, answer: Answer) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(bytes(answer.body).strip())
    except ElementTree.ParseError as error:
        raise ResponseParserError(
            f"{operation} answered {answer.status} with a body that is no XML: {error}"
        ) from error


def client_error(operation: str, answer: Answer) -> ClientError:
    """What boto3 raises: code and message of the body, or of the status where there is no body."""
    phrase = http.client.responses.get(answer.status, "")
    error = {"Code": str(answer.status), "Message": phrase}
    if answer.body.lstrip().startswith(b"<"):
        root = parse_xml(operation, answer)
        error |= {child.tag: child.text or "" for child in root if child.tag in error}
    return ClientError({"Error": error, "ResponseMetadata": {"HTTPStatusCode": answer.status}}, operation)  # type: ignore[typeddict-item]


# --- The sync protocol for one key ------------------------------------------------------------------------------------


def sync_key(context: Context, job: Job) -> Steps[None]:
    """Makes the destination's object equal to the source's, and sets job.action to what that took.

    Raises Interrupted; Refused or the S3 error where the key cannot be synced now. An upload that is still open then is
    aborted, unless the job was interrupted: then job.upload says where to go on.
    """
    try:
        yield from repeat_until_equal(context, job)
    except Interrupted:
        raise
    except Exception:
        yield from drop_upload(context, job)
        raise
    yield from drop_upload(context, job)


def drop_upload(context: Context, job: Job) -> Steps[None]:
    if job.upload:
        yield IN_THREAD
        abort_upload(context, job.key, job.upload.upload_id)
    job.upload = None


def repeat_until_equal(context: Context, job: Job) -> Steps[None]:
    """Look, write, look again, until nothing moved in between.

    The second look is what makes it right: without it an object that is deleted (or re-created) while its copy (or
    delete) is under way stays wrong for ever. The destination is looked at before the source: then the condition of
    the write fails on all that landed since, and what had landed before is not newer than the source that was seen.
    """
    changes = 0
    give_up = context.now() + BUSY_RETRY_BASES * context.settings.retry_base_seconds
    while True:
        job.check_interrupted()
        try:
            if (yield from attempt(context, job)):
                return
        except Exception as error:
            changes += is_change(error)
            if changes > CHANGES_PER_DELIVERY or not (is_change(error) or is_busy(error)):
                raise
            if is_busy(error) and context.now() > give_up:
                raise
            log.debug("again key=%s %s", quoted(job.key), describe(error))
            yield IN_THREAD
            wait_to_repeat(context, job, changes, error)
        job.look_first = True


def attempt(context: Context, job: Job) -> Steps[bool]:
    """True when both are equal. False where the destination has to be looked at first. Raises Changed."""
    yield from prepare(context, job)
    existing = (yield from head_destination(context, job.key)) if job.look_first else None
    source = yield from head_source(context, job.key)
    if not job.look_first and (source is None or is_large(context, source)):
        return False
    wrote = yield from make_equal(context, job, source, existing)
    if wrote and (yield from head_source(context, job.key)) != source:
        raise Changed("the source changes faster than it can be copied")
    return True


def prepare(context: Context, job: Job) -> Steps[None]:
    """Once for the process, and once for a job that an earlier delivery may have left half done."""
    if not context.session_ready:
        yield IN_THREAD
        open_session(context)
    if job.redelivered:
        yield IN_THREAD
        abort_orphans(context, job)
        job.redelivered = False


def wait_to_repeat(context: Context, job: Job, changes: int, error: Exception) -> None:
    """No pause at first, then a growing one; seconds where S3 is busy. Random, so that two workers part."""
    if is_busy(error):
        job.pause(random.uniform(0.03, 0.15) * context.settings.retry_base_seconds)
    else:
        job.pause(random.uniform(0, 0.02 * 2 ** min(changes, 6) - 0.04))


def make_equal(context: Context, job: Job, source: Source | None, existing: Destination | None) -> Steps[bool]:
    """One attempt. True when it wrote, so that the source has to be looked at again."""
    if source is None:
        if existing is None:
            return False
        yield from delete_object(context, job, existing)
        job.action, job.size = "deleted", 0
        return True
    if existing and existing.provenance == source.identity:
        return False
    if source.archived:
        raise Refused(f"the object is archived in {source.archived}: restore it, its restore event copies it")
    if source.size > LONG_COPY_SIZE:
        job.let_others()
    copy = copy_in_parts if is_large(context, source) else copy_object
    yield from write_on_condition(context, existing, lambda condition: copy(context, job, source, condition))
    job.action, job.size = "copied", source.size
    return True


def is_large(context: Context, source: Source) -> bool:
    return source.size > context.settings.multipart_threshold


# --- Multipart copy ---------------------------------------------------------------------------------------------------


def copy_in_parts(context: Context, job: Job, source: Source, condition: dict[str, str]) -> Steps[None]:
    """Copies an object as a multipart upload, going on with job.upload where that was begun for this source."""
    yield IN_THREAD
    etags = yield from resume_upload(context, job, source)
    if job.upload is None:
        job.upload = yield from create_upload(context, job, source)
    parts = parts_of(source.size, job.upload.part_size)
    log.info(
        "Using multipart copy for large file key=%s size=%d parts=%d part_size=%d resumed=%d",
        quoted(job.key),
        source.size,
        len(parts),
        job.upload.part_size,
        len(etags),
    )
    missing = [part for part in parts if part.number not in etags]
    copy_missing_parts(context, job, source, job.upload, missing, etags)
    try:
        complete_upload(context, job, source, job.upload, etags, condition)
    except ClientError as error:
        if error_code(error) in ("409", "ConditionalRequestConflict"):
            yield from drop_upload(context, job)
        raise
    job.upload = None


def resume_upload(context: Context, job: Job, source: Source) -> Steps[dict[int, str]]:
    """Part number -> ETag of what job.upload already holds. An upload begun for another source version is aborted."""
    if job.upload is None:
        return {}
    if job.upload.source != source.identity:
        yield from drop_upload(context, job)
        return {}
    try:
        return finished_parts(context, job, source, job.upload)
    except ClientError as error:
        if error_code(error) != "NoSuchUpload":
            raise
        job.upload = None
        return {}


def copy_missing_parts(
    context: Context, job: Job, source: Source, upload: Upload, missing: list[Part], etags: dict[int, str]
) -> None:
    """Copies the missing parts in the shared pool and adds them to etags. Logs the progress.

    Each key has at most MAX_CONCURRENT_PARTS parts in the pool's queue, so that keys take turns. After an error no
    further part is begun, and those under way are waited for, so that an abort that follows finds none.
    """
    limit = context.settings.max_concurrent_parts
    total = len(missing) + len(etags)
    log.info("Uploading %d parts in parallel (max %d concurrent)...", len(missing), limit)
    done: queue.SimpleQueue[Future[tuple[int, str]]] = queue.SimpleQueue()
    pending: set[Future[tuple[int, str]]] = set()
    todo = iter(missing)
    failure: BaseException | None = None
    while True:
        while failure is None and len(pending) < limit and (part := next(todo, None)):
            future = context.pool.submit(copy_part, context, job, source, upload, part)
            pending.add(future)
            future.add_done_callback(done.put)
        if not pending:
            break
        future = done.get()
        pending.discard(future)
        if future.cancelled():
            continue
        if error := future.exception():
            failure = failure or error
            cancel(pending)
            continue
        number, etags[number] = future.result()
        log_progress(job, len(etags), total)
    if failure:
        raise failure


def cancel(futures: Iterable[Future[Any]]) -> None:
    for future in list(futures):
        future.cancel()


def log_progress(job: Job, done: int, total: int) -> None:
    """Every 20 parts, for many parts every 5 %, and at the end."""
    if done % max(20, total // 20) == 0 or done == total:
        log.info("Progress: %d/%d parts (%d%%) key=%s", done, total, 100 * done // total, quoted(job.key))


# --- Messages ---------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Message:
    """A received SQS message and what is left to do for it."""

    body: str
    receipt_handle: str
    receive_count: int
    received_at: float
    extend_at: float
    keys: set[str] = field(default_factory=set)  # not finished yet
    uploads: dict[str, Upload] = field(default_factory=dict)  # key -> upload to go on with
    event_time: float | None = None  # seconds since the epoch, of the newest event in it
    look_first: bool = False  # its keys are probably in the destination already
    failed: str = ""  # the key that failed
    interrupted: bool = False
    unsettled_until: float = 0.0
    finished: bool = False  # all keys are through: no more extending


def read_body(message: Message, settings: Settings) -> None:
    """Fills in what the body says: keys of the source bucket inside the prefix; none for an s3:TestEvent.

    Raises ValueError where the body is no S3 event (S3 User Guide, "Event message structure").
    """
    try:
        body = json.loads(message.body)
        if body.get("Event") == "s3:TestEvent":
            return
        for record in body["Records"]:
            read_record(message, record, settings)
        uploads = body.get("sync", {}).get("uploads", {})
        message.uploads = {key: Upload(**upload) for key, upload in uploads.items()}
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"not an S3 event ({type(error).__name__}: {error}): {message.body[:200]!r}") from error


def read_record(message: Message, record: dict[str, Any], settings: Settings) -> None:
    """Keys arrive form-urlencoded: a space is "+"."""
    key = unquote_plus(record["s3"]["object"]["key"])
    if record["s3"]["bucket"]["name"] != settings.src_bucket or not key.startswith(settings.prefix_filter):
        return
    message.keys.add(key)
    is_new = record.get("eventSource") == "aws:s3" and record.get("eventName", "").startswith("ObjectCreated")
    message.look_first = message.look_first or not is_new
    if record.get("eventTime"):
        event_time = datetime.fromisoformat(record["eventTime"].replace("Z", "+00:00")).timestamp()
        message.event_time = max(message.event_time or 0.0, event_time)


def hint_body(bucket: str, keys: Iterable[str]) -> str:
    """A message in the shape of an S3 event that asks to look at keys, as the worker and the operator send it."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    records = [
        {
            "eventSource": "sync",
            "eventName": "Look",
            "eventTime": now,
            "s3": {"bucket": {"name": bucket}, "object": {"key": quote_plus(key)}},
        }
        for key in keys
    ]
    return json.dumps({"Records": records})


def handed_back_body(message: Message) -> str:
    """The message once more, with the uploads to go on with."""
    body = json.loads(message.body)
    body["sync"] = {"uploads": {key: asdict(upload) for key, upload in message.uploads.items()}}
    return json.dumps(body)


def quoted(key: str) -> str:
    """A key for a log line: control characters and quotes escaped, other characters as they are."""
    return json.dumps(key, ensure_ascii=False)


# --- The worker: queue in, jobs out -----------------------------------------------------------------------------------


@dataclass(eq=False)
class Worker:
    """The messages and jobs of one process.

    Threads: one receives, one extends visibility, a few settle messages, those of the CRT sync keys from one answer to
    the next, a pool syncs keys that have to wait for something else, a shared pool copies parts; the main thread waits
    for the end. `lock` guards messages and jobs, `changed` tells that there is room or nothing left.
    """

    settings: Settings
    context: Context
    sqs: Any
    pool: ThreadPoolExecutor
    now: Callable[[], float] = time.monotonic
    messages: set[Message] = field(default_factory=set)
    jobs: dict[str, Job] = field(default_factory=dict)
    waiting: deque[Job] = field(default_factory=deque)  # for a slot
    finished: list[Message] = field(default_factory=list)  # not yet a batch
    batches: queue.SimpleQueue[list[Message] | None] = field(default_factory=queue.SimpleQueue)
    counts: Counter[str] = field(default_factory=Counter)
    stopping: threading.Event = field(default_factory=threading.Event)
    lock: threading.RLock = field(default_factory=threading.RLock)
    started: float = field(default_factory=time.monotonic)
    exit_status: int = 0

    def __post_init__(self) -> None:
        self.changed = threading.Condition(self.lock)
        self.slots = self.settings.max_concurrent_keys  # syncs that may begin now; long copies hold none

    # Receiving

    def receive_until_idle(self) -> None:
        """Receives until the queue stays empty, SIGTERM, or the queue cannot be read; then returns."""
        empty_polls = failures = 0
        while empty_polls < self.settings.empty_polls_before_exit and failures < RECEIVE_FAILURES_BEFORE_EXIT:
            self.wait_for_room()
            if self.stopping.is_set():
                return
            idle = not self.messages
            try:
                received = self.receive(self.settings.wait_time_seconds if idle else BUSY_WAIT_TIME_SECONDS)
            except (ClientError, BotoCoreError) as error:
                failures += 1
                self.report_receive_failure(error, failures)
                continue
            failures = 0
            empty_polls = empty_polls + 1 if idle and not received else 0
            self.accept(received)

    def wait_for_room(self) -> None:
        with self.changed:
            self.changed.wait_for(lambda: self.stopping.is_set() or self.has_room())

    def has_room(self) -> bool:
        """Twice as many messages as slots keep those busy; more only where long copies gave their slots back."""
        limit = self.settings.max_concurrent_keys
        at_work = limit - self.slots + len(self.waiting)
        held = max(len(self.messages), len(self.jobs))
        return at_work <= max(2 * limit - SQS_BATCH, limit - 1) and held < HELD_PER_SLOT * limit

    def receive(self, wait_seconds: int) -> list[Message]:
        answer = self.sqs.receive_message(
            QueueUrl=self.settings.queue_url,
            MaxNumberOfMessages=SQS_BATCH,
            WaitTimeSeconds=min(wait_seconds, self.settings.wait_time_seconds),
            VisibilityTimeout=self.settings.visibility_timeout,
            MessageSystemAttributeNames=["ApproximateReceiveCount"],
        )
        return [self.message_from(item) for item in answer.get("Messages") or []]

    def message_from(self, item: dict[str, Any]) -> Message:
        now = self.now()
        return Message(
            body=item["Body"],
            receipt_handle=item["ReceiptHandle"],
            receive_count=int(item["Attributes"]["ApproximateReceiveCount"]),
            received_at=now,
            extend_at=now + self.settings.visibility_extend_interval,
        )

    def report_receive_failure(self, error: Exception, failures: int) -> None:
        log.error("cannot receive from %s: %s", self.settings.queue_url, describe(error))
        if error_code(error) in FATAL_QUEUE_CODES or failures == RECEIVE_FAILURES_BEFORE_EXIT:
            self.exit_status = 1
            self.stopping.set()
        self.stopping.wait(min(2**failures, 30))

    def accept(self, messages: list[Message]) -> None:
        for message in messages:
            self.add_message(message)
        self.begin_waiting()  # not before: messages on one key are, as a rule, to become one sync

    def add_message(self, message: Message) -> None:
        """Turns a message into jobs. A message that is no event fails, one without keys of ours is acknowledged."""
        with self.lock:
            self.messages.add(message)
        try:
            read_body(message, self.settings)
        except ValueError as error:
            log.error("cannot read message: %s", error)
            message.failed = "(unreadable)"
        for key in sorted(message.keys):
            self.add_job(key, message)
        if not message.keys:
            self.finish(message)

    # Jobs

    def add_job(self, key: str, message: Message) -> None:
        """Messages on one key become one sync; what comes while that runs becomes one more after it."""
        with self.lock:
            job = self.jobs.get(key)
            if job and job.running:
                job.latecomers.append(message)
                return
            if job is None:
                job = self.jobs[key] = Job(key)
                job.let_others = functools.partial(self.let_others_begin, job)
                self.waiting.append(job)
            job.messages.append(message)
            job.look_first = job.look_first or message.look_first or message.receive_count > 1
            job.redelivered = job.redelivered or message.receive_count > 1
            job.upload = job.upload or message.uploads.get(key)
            if self.stopping.is_set():
                job.interrupted.set()

    def begin_waiting(self) -> None:
        """Begins syncs for as long as there are slots."""
        while True:
            with self.lock:
                if not (self.waiting and self.slots):
                    return
                self.slots -= 1
                job = self.waiting.popleft()
                job.has_slot = job.running = True
            self.begin(job)

    def free_slot(self, job: Job) -> None:
        with self.changed:
            self.slots += job.has_slot
            job.has_slot = False
            if self.has_room():
                self.changed.notify_all()

    def let_others_begin(self, job: Job) -> None:
        self.free_slot(job)
        self.begin_waiting()

    def begin(self, job: Job) -> None:
        job.started = self.now()
        steps = sync_key(self.context, job)
        if self.context.objects:
            self.step(job, steps, None, None)
        else:
            self.in_thread(job, self.run_job, job, steps)

    def step(self, job: Job, steps: Steps[None], answer: Any, error: Exception | None) -> None:
        """Runs a sync until its next call is sent, whose end leads here again.

        Waits for nothing (see CrtHttp.start) but, rarely, for new credentials (see CrtObjects.sign).
        """
        try:
            call = steps.throw(error) if error else steps.send(answer)
            if call is IN_THREAD:
                self.in_thread(job, self.run_job, job, steps)
            else:
                self.start_call(job, steps, call)
        except StopIteration:
            if self.seconds_until(job.unsettled_until):
                self.in_thread(job, self.recheck_later, job)
            else:
                self.end_job(job, None)
        except Exception as failure:  # noqa: BLE001 whatever it is, the messages are told
            self.in_thread(job, fail, failure)  # here, jobs that fail at once would nest end_job in end_job

    def start_call(self, job: Job, steps: Steps[None], call: Call) -> None:
        assert self.context.objects
        try:
            self.context.objects.start(call, functools.partial(self.step, job, steps))
        except Exception as error:  # noqa: BLE001 no session, no credentials: it is for the one who asked
            self.step(job, steps, None, error)

    def in_thread(self, job: Job, function: Callable[..., None], *arguments: Any) -> None:
        """What may wait, and then the end of the job."""
        future = self.pool.submit(function, *arguments)
        future.add_done_callback(lambda finished: self.end_job(job, finished.exception()))

    def run_job(self, job: Job, steps: Steps[None]) -> None:
        run_calls(self.context, steps)
        self.recheck_later(job)

    def recheck_later(self, job: Job) -> None:
        """A call that got no answer may still land, and nothing would tell: have the key looked at after that."""
        delay = self.seconds_until(job.unsettled_until)
        if delay:
            log.info("looking again in %d s at key=%s, a copy of it got no answer", delay, quoted(job.key))
            self.send(hint_body(self.settings.src_bucket, [job.key]), delay)

    def seconds_until(self, moment: float) -> int:
        """Whole seconds, rounded up, 0 once it is over."""
        return max(0, math.ceil(moment - self.now()))

    def log_outcome(self, job: Job, error: BaseException | None) -> None:
        if error is None:
            self.log_success(job)
        elif isinstance(error, Interrupted):
            log.info("interrupted key=%s", quoted(job.key))
        else:
            self.log_failure(job, error)

    def log_success(self, job: Job) -> None:
        self.count(**{job.action: 1, "bytes": job.size})
        event_times = [message.event_time for message in job.messages if message.event_time]
        lag = f" lag={time.time() - min(event_times):.3f}" if event_times else ""
        log.info(
            "synced key=%s action=%s size=%d seconds=%.3f%s",
            quoted(job.key),
            job.action,
            job.size,
            self.now() - job.started,
            lag,
        )

    def log_failure(self, job: Job, error: BaseException) -> None:
        """One line; with its traceback where the error is a mistake in the code."""
        self.count(failed=1)
        known = (ClientError, BotoCoreError, ResponseParserError, Refused, Unfinished, Changed, ValueError)
        log.error(
            "failed key=%s attempt=%d/%d %s",
            quoted(job.key),
            max(message.receive_count for message in job.messages),
            self.settings.max_receives,
            describe(error),
            exc_info=None if isinstance(error, known) else error,
        )

    def count(self, **amounts: int) -> None:
        with self.lock:
            self.counts.update(amounts)

    def end_job(self, job: Job, error: BaseException | None) -> None:
        """Tells the job's messages, and runs the key once more for those that came meanwhile."""
        with self.lock:
            is_ours = self.jobs.get(job.key) is job
            if is_ours:
                del self.jobs[job.key]
            self.free_slot(job)
        if not is_ours:
            return  # handed back by drain()
        self.log_outcome(job, error)
        with self.lock:
            for message in job.messages:
                self.note_outcome(message, job, error)
            finished = [message for message in job.messages if not message.keys]
        for message in finished:
            self.finish(message)
        for message in job.latecomers:
            message.look_first = True
            message.unsettled_until = max(message.unsettled_until, job.unsettled_until)
            self.add_job(job.key, message)
        self.begin_waiting()

    def note_outcome(self, message: Message, job: Job, error: BaseException | None) -> None:
        message.keys.discard(job.key)
        message.unsettled_until = max(message.unsettled_until, job.unsettled_until)
        message.interrupted = message.interrupted or isinstance(error, Interrupted)
        if error and not isinstance(error, Interrupted):
            message.failed = job.key
        if job.upload and isinstance(error, Interrupted):
            message.uploads[job.key] = job.upload

    # The end of a message

    def finish(self, message: Message) -> None:
        """All keys are through: the rest is for a thread that may wait for SQS, ten at a time."""
        with self.lock:
            if message.finished:
                return
            message.finished = True
            self.finished.append(message)
            batch = self.take_finished() if len(self.finished) == SQS_BATCH else None
        if batch:
            self.batches.put(batch)

    def take_finished(self) -> list[Message]:
        with self.lock:
            batch, self.finished = self.finished, []
        return batch

    def settle(self, messages: list[Message]) -> None:
        """Acknowledges, tries later, or hands back."""
        if not messages:
            return
        for message in messages:
            if message.failed:
                self.retry_later(message)
            elif message.interrupted:
                self.hand_back(message)
        self.delete_batch([message for message in messages if not (message.failed or message.interrupted)])
        self.forget(messages)

    def forget(self, messages: Iterable[Message]) -> None:
        with self.changed:
            self.messages.difference_update(messages)
            self.changed.notify_all()

    def retry_later(self, message: Message) -> None:
        """Visible again after a growing pause, and not before a copy without an answer must have ended."""
        last = message.receive_count >= self.settings.max_receives
        pause = 0 if last else self.settings.retry_base_seconds * 4 ** (message.receive_count - 1)
        pause = min(max(pause, self.seconds_until(message.unsettled_until)), self.visibility_left(message, self.now()))
        what = "goes to the dead-letter queue" if last else "is tried again"
        log.info("message of key=%s %s in %d s", quoted(message.failed), what, pause)
        self.set_visibility(message, pause)

    def set_visibility(self, message: Message, seconds: int) -> None:
        try:
            self.sqs.change_message_visibility(
                QueueUrl=self.settings.queue_url, ReceiptHandle=message.receipt_handle, VisibilityTimeout=seconds
            )
        except (ClientError, BotoCoreError) as error:
            log.warning("a message comes back only when its visibility timeout ends: %s", describe(error))

    def hand_back(self, message: Message) -> None:
        """Sends the message anew and deletes the old one, so that an interruption does not use up a receive."""
        delay = self.seconds_until(message.unsettled_until)
        try:
            self.send(handed_back_body(message), delay)
        except (ClientError, BotoCoreError) as error:
            log.warning("could not send a message back, making it visible: %s", describe(error))
            self.set_visibility(message, delay)
            return
        self.count(handed_back=1)
        self.delete_batch([message])

    def send(self, body: str, delay: int) -> None:
        self.sqs.send_message(
            QueueUrl=self.settings.queue_url, MessageBody=body, DelaySeconds=min(delay, MAX_SQS_DELAY)
        )

    def settle_until_none(self) -> None:
        """Settles full batches as they come, what has not become one after a moment, and at None the rest."""
        while True:
            try:
                batch = self.batches.get(timeout=SETTLE_SECONDS)
            except queue.Empty:
                batch = self.take_finished()
            self.settle(self.take_finished() if batch is None else batch)
            if batch is None:
                return

    def delete_batch(self, messages: list[Message]) -> None:
        """A message that could not be deleted is delivered again, and found done."""
        if not messages:
            return
        entries = [{"Id": str(i), "ReceiptHandle": message.receipt_handle} for i, message in enumerate(messages)]
        try:
            answer = self.sqs.delete_message_batch(QueueUrl=self.settings.queue_url, Entries=entries)
        except (ClientError, BotoCoreError) as error:
            log.warning("could not delete %d messages, they come again: %s", len(messages), describe(error))
            return
        for failed in answer.get("Failed") or []:
            log.warning("could not delete a message, it comes again: error=%s", failed.get("Code"))

    # Visibility

    def extend_until_stopped(self, stopped: threading.Event) -> None:
        while not stopped.wait(1):
            self.extend_due(self.now())
            if self.context.objects:
                self.context.objects.renew_session()

    def extend_due(self, now: float) -> None:
        """One step of the heartbeat: extends what is due, hands back what has used up the 12 hours of SQS."""
        with self.lock:
            due = [message for message in self.messages if message.extend_at <= now and not message.finished]
        for message in due:
            message.extend_at = now + self.settings.visibility_extend_interval
            if self.visibility_left(message, now) <= self.settings.visibility_extend_interval:
                message.extend_at = float("inf")
                self.interrupt_message(message)
        for start in range(0, len(due), SQS_BATCH):
            self.extend_batch(due[start : start + SQS_BATCH], now)

    def visibility_left(self, message: Message, now: float) -> int:
        """Seconds SQS still allows for this receive; it refuses more (SQS API Reference, ChangeMessageVisibility)."""
        return max(0, int(message.received_at + MAX_SQS_VISIBILITY - now - 5))

    def interrupt_message(self, message: Message) -> None:
        with self.lock:
            jobs = [job for job in self.jobs.values() if message in job.messages]
        for job in jobs:
            if not job.interrupted.is_set():
                log.warning("12 hours since the message was received, handing it back key=%s", quoted(job.key))
            job.interrupted.set()

    def extend_batch(self, messages: list[Message], now: float) -> None:
        # Not those that have finished meanwhile: the pause before their next delivery may have been set already.
        messages = [message for message in messages if not message.finished]
        if not messages:
            return
        entries = [
            {
                "Id": str(i),
                "ReceiptHandle": message.receipt_handle,
                "VisibilityTimeout": min(self.settings.visibility_timeout, self.visibility_left(message, now)),
            }
            for i, message in enumerate(messages)
        ]
        try:
            answer = self.sqs.change_message_visibility_batch(QueueUrl=self.settings.queue_url, Entries=entries)
        except (ClientError, BotoCoreError) as error:
            log.warning("could not extend the visibility of %d messages: %s", len(messages), describe(error))
            return
        for failed in answer.get("Failed") or []:
            message = messages[int(failed["Id"])]
            if failed.get("Code") in LOST_RECEIPT_CODES and not message.finished:
                message.extend_at = float("inf")
                log.warning("a message is no longer ours, another worker may get it: error=%s", failed["Code"])

    # From start to exit

    def run(self, signals: list[int]) -> int:
        """Works until the queue stays empty or a signal number appears in `signals`. Returns the exit status."""
        stopped = threading.Event()
        receiver = threading.Thread(target=self.receive_until_idle, name="receiver")
        heartbeat = threading.Thread(target=self.extend_until_stopped, args=[stopped], name="heartbeat")
        settlers = [threading.Thread(target=self.settle_until_none) for _ in range(SETTLERS)]
        for thread in [receiver, heartbeat, *settlers]:
            thread.start()
        while receiver.is_alive():
            receiver.join(0.2)
            if signals and not self.stopping.is_set():
                log.info("SIGTERM received: handing back what is not finished")
                self.interrupt_all()
        self.drain()
        for _ in settlers:
            self.batches.put(None)
        for thread in settlers:
            thread.join()
        stopped.set()
        heartbeat.join()
        self.log_summary()
        return self.exit_status

    def interrupt_all(self) -> None:
        with self.changed:
            self.stopping.set()
            for job in self.jobs.values():
                job.interrupted.set()
            self.changed.notify_all()

    def drain(self) -> None:
        """Waits for what is in flight; what a stopping worker cannot wait for is handed back with a delay."""
        with self.changed:
            self.changed.wait_for(lambda: not self.messages, DRAIN_SECONDS if self.stopping.is_set() else None)
            left = list(self.jobs.values())
            for job in left:
                job.interrupted.set()  # before `writing` is looked at: from now on none begins a write, see write_call
        for job in left:
            if job.writing:
                job.unsettled_until = self.now() + self.settings.copy_timeout
            log.warning("handing back what has not ended key=%s", quoted(job.key))
            self.end_job(job, Interrupted())
        with self.changed:  # what came late for those keys, too
            self.changed.wait_for(lambda: not self.messages, HAND_BACK_SECONDS)

    def log_summary(self) -> None:
        seconds = max(self.now() - self.started, 0.001)
        counts = self.counts
        objects = counts["copied"] + counts["deleted"] + counts["skipped"]
        log.info(
            "summary copied=%d deleted=%d skipped=%d failed=%d handed_back=%d bytes=%d seconds=%.1f objects/s=%.1f",
            *(counts[name] for name in ("copied", "deleted", "skipped", "failed", "handed_back", "bytes")),
            seconds,
            objects / seconds,
        )


def fail(error: Exception) -> NoReturn:
    raise error


def s3_client(session: boto3.Session, settings: Settings, name: str) -> Any:
    """One of CLIENTS. Its pool is as wide as all threads; a copy is silent, so the connection is kept alive."""
    read_timeout, attempts = CLIENTS[name]
    return session.client(
        "s3",
        region_name=settings.region,
        config=Config(
            connect_timeout=10,
            read_timeout=read_timeout or settings.copy_timeout,
            retries={"mode": "standard", "total_max_attempts": attempts},
            max_pool_connections=settings.max_concurrent_parts + HELD_PER_SLOT * settings.max_concurrent_keys,
            tcp_keepalive=True,
        ),
    )


def make_session() -> boto3.Session:
    """A session whose clients read the times of a listing fast: botocore's way takes three quarters of its CPU time."""
    session = botocore.session.get_session()
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=parse_time)
    return boto3.Session(botocore_session=session)


def parse_time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return parse_timestamp(text)  # headers have another format


def make_worker(settings: Settings) -> Worker:
    session = make_session()
    clients = {name: s3_client(session, settings, name) for name in CLIENTS}
    sqs = session.client(
        "sqs",
        region_name=settings.region,
        config=Config(
            connect_timeout=10, retries={"mode": "standard", "total_max_attempts": 5}, max_pool_connections=50
        ),
    )
    parts_pool = ThreadPoolExecutor(settings.max_concurrent_parts, thread_name_prefix="part")
    keys_pool = ThreadPoolExecutor(HELD_PER_SLOT * settings.max_concurrent_keys, thread_name_prefix="key")
    objects = None
    if settings.s3_client == "crt":
        http_client = CrtHttp(settings, session.get_credentials())
        objects = CrtObjects(settings, http_client, clients["s3"])
        sqs = CrtQueue(http_client, sqs, settings.queue_url)
    return Worker(settings, Context(settings, **clients, pool=parts_pool, objects=objects), sqs, keys_pool)


# --- Reconcile: both buckets compared, and what differs put on the queue ----------------------------------------------

SLOTS = 1 << 16
ENTRY = struct.Struct(">14sQI")  # rest of the key's digest, size in bytes, LastModified in seconds since the epoch
KEYS_PER_HINT = 8  # even of 1024 bytes each, form-urlencoded, ten messages of them stay below 256 KiB
PROGRESS_SECONDS = 10
CHECK_PAUSES = (0.2, 1.0, 5.0, 20.0)  # seconds between the tries of a key that S3 is too busy to show
MAX_DELETE = 1000
# What can be wrong with a key; the first three are mended, the others are only told.
DIFFERENCES = {
    "missing": "only in the source",
    "stale": "not what the source is now",
    "ghost": "only in the destination",
    "unreadable": "could not be looked at, see the log",
    "archived": "archived in the source: restore it, its restore event copies it",
}
MENDED = ("missing", "stale", "ghost")


class KeyTable:
    """Keys with their size and time. 26 bytes and some room for each: about 35 MB for a million.

    A key is known by its 128-bit digest, whose first two bytes choose the slot that its entry is in.
    """

    def __init__(self) -> None:
        self.slots = [bytearray() for _ in range(SLOTS)]
        self.count = 0

    def place(self, key: str) -> tuple[bytearray, bytes, int]:
        """The key's slot, the digest in its entry, and where that entry begins, -1 for nowhere."""
        digest = hashlib.blake2b(key.encode(), digest_size=16).digest()
        slot = self.slots[int.from_bytes(digest[:2])]
        at = slot.find(digest[2:])
        while at > 0 and at % ENTRY.size:  # found across two entries
            at = slot.find(digest[2:], at + 1)
        return slot, digest[2:], at

    def add(self, key: str, size: int, modified: int) -> None:
        slot, digest, _ = self.place(key)
        slot += ENTRY.pack(digest, size, modified)
        self.count += 1

    def take(self, key: str) -> tuple[int, int] | None:
        """Removes the key; its size and time, None where it is not there."""
        slot, _, at = self.place(key)
        if at < 0:
            return None
        _, size, modified = ENTRY.unpack_from(slot, at)
        del slot[at : at + ENTRY.size]
        self.count -= 1
        return size, modified


def is_older_or_other(destination: tuple[int, int], source: tuple[int, int]) -> bool:
    """What sizes and times tell: True where the destination cannot be a copy of the source as it is now."""
    return destination[0] != source[0] or destination[1] < source[1]


def size_and_time(item: dict[str, Any]) -> tuple[int, int]:
    """Of an entry of a listing or an answer to HeadObject: bytes, and seconds since the epoch."""
    size = item["Size"] if "Size" in item else item["ContentLength"]
    return size, int(item["LastModified"].timestamp())


def difference(context: Context, key: str, deep: bool) -> Steps[str]:
    """What is wrong with the key at this moment, one of DIFFERENCES, or "".

    Provenance decides. An object without one, such as one that another tool copied, is judged by size and time, or
    with `deep` counts as stale if it could have one.
    """
    destination = yield from head(key, context.destination)
    source = yield from head(key, context.source)
    if source is None:
        yield from require_source_bucket(context)
        return "ghost" if destination else ""
    found = source_from_head(source)
    if destination is None:
        return "archived" if found.archived else "missing"
    provenance = destination.get("Metadata", {}).get(PROVENANCE, "")
    if provenance or (deep and carries_provenance(found)):
        wrong = provenance != found.identity
    else:
        wrong = is_older_or_other(size_and_time(destination), size_and_time(source))
    return "" if not wrong else "archived" if found.archived else "stale"


def carries_provenance(source: Source) -> bool:
    return source.resendable and PROVENANCE in metadata_to_send(source, keep_encoding=True)["Metadata"]


@dataclass(eq=False)
class Reconciliation:
    """One comparison of the two buckets.

    The destination, which lists in no order, is kept in a table; the source is then read past it, and what is left in
    the table are ghosts, whose names a second listing of the destination tells. Every key that looks different is
    looked at on both sides before it counts, so that what the workers do meanwhile is no difference.
    """

    worker: Worker
    prefix: str
    dry_run: bool
    deep: bool
    max_delete: int
    max_examples: int
    signals: list[int]
    mirrored: KeyTable = field(default_factory=KeyTable)
    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    unsent: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    progress_at: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.pool = ThreadPoolExecutor(self.worker.settings.max_concurrent_keys, thread_name_prefix="check")

    def run(self) -> int:
        """Exit status: 0 equal or put on the queue, 1 differences are left, 3 a listing failed or too many ghosts."""
        try:
            self.list_destination()
            self.compare_source()
            self.send(self.find_ghosts(), last=True)
        except (ClientError, BotoCoreError, Refused, Interrupted) as error:
            reason = "SIGTERM" if isinstance(error, Interrupted) else describe(error)
            log.error("reconcile stopped, it is safe to run it again: %s", reason)
            return self.report("stopped", 3)
        left = [name for name in DIFFERENCES if name != "archived" and (self.dry_run or name not in MENDED)]
        return self.report("complete", int(any(self.counts[name] for name in left)))

    def pages(self, bucket: dict[str, str], prefix: str) -> Iterator[list[dict[str, Any]]]:
        """The entries under self.prefix, page by page. Raises the error of a page that botocore could not get."""
        for page in self.worker.context.s3.get_paginator("list_objects_v2").paginate(Prefix=prefix, **bucket):
            if self.signals:
                raise Interrupted
            yield [item for item in page.get("Contents", []) if item["Key"].startswith(self.prefix)]
            self.counts["listed"] += len(page.get("Contents", []))
            self.show_progress()

    def destination_pages(self) -> Iterator[list[dict[str, Any]]]:
        """A directory bucket lists only prefixes that end in "/" (S3 API Reference, ListObjectsV2)."""
        return self.pages(self.worker.context.destination, self.prefix[: self.prefix.rfind("/") + 1])

    def list_destination(self) -> None:
        for page in self.destination_pages():
            for item in page:
                self.mirrored.add(item["Key"], *size_and_time(item))

    def compare_source(self) -> None:
        for page in self.pages(self.worker.context.source, self.prefix):
            suspects = []
            for item in page:
                mirrored = self.mirrored.take(item["Key"])
                if self.deep or mirrored is None or is_older_or_other(mirrored, size_and_time(item)):
                    suspects.append(item["Key"])
            self.counts["compared"] += len(page)
            differing = self.check(suspects)
            self.send([key for key, what in differing if what in MENDED])
        self.send([], last=True)

    def find_ghosts(self) -> list[str]:
        """Keys of objects that only the destination has; none for a dry run, which only counts them.

        Raises Refused above `max_delete`.
        """
        ghosts: list[str] = []
        if self.mirrored.count == 0:
            return ghosts
        for page in self.destination_pages():
            differing = self.check([item["Key"] for item in page if self.mirrored.take(item["Key"])])
            if not self.dry_run:
                ghosts += [key for key, what in differing if what in MENDED]
            if len(ghosts) > self.max_delete:
                raise Refused(
                    f"more than {self.max_delete} objects would be deleted: see them with --dry-run, and if they have "
                    "to go, raise --max-delete"
                )
            if self.mirrored.count == 0:
                break
        return ghosts

    def check(self, keys: list[str]) -> list[tuple[str, str]]:
        """(key, what is wrong) of those keys that still differ when they are looked at; counts them."""
        found = [pair for pair in zip(keys, self.pool.map(self.check_key, keys), strict=True) if pair[1]]
        for key, what in found:
            self.counts[what] += 1
            examples = self.examples.setdefault(what, [])
            if len(examples) < self.max_examples:
                examples.append(key)
        return found

    def check_key(self, key: str) -> str:
        """Raises the error of a missing or closed source bucket, which concerns all keys."""
        for pause in (*CHECK_PAUSES, None):
            try:
                return run_calls(self.worker.context, difference(self.worker.context, key, self.deep))
            except (ClientError, BotoCoreError, ResponseParserError) as error:
                if isinstance(error, ClientError) and error.operation_name == "ListObjectsV2":
                    raise
                if pause is None or not is_busy(error):
                    log.warning("cannot look at key=%s %s", quoted(key), describe(error))
                    break
            time.sleep(pause)
        return "unreadable"

    def send(self, keys: list[str], last: bool = False) -> None:
        """Puts keys on the queue in full batches, at the `last` call all of them."""
        if self.dry_run:
            return
        self.unsent += keys
        full = KEYS_PER_HINT * SQS_BATCH
        while len(self.unsent) >= full or (last and self.unsent):
            self.send_batch(self.unsent[:full])
            self.counts["queued"] += len(self.unsent[:full])
            del self.unsent[:full]

    def send_batch(self, keys: list[str]) -> None:
        groups = [keys[start : start + KEYS_PER_HINT] for start in range(0, len(keys), KEYS_PER_HINT)]
        bodies = [hint_body(self.worker.settings.src_bucket, group) for group in groups]
        entries = [{"Id": str(i), "MessageBody": body} for i, body in enumerate(bodies)]
        answer = self.worker.sqs.send_message_batch(QueueUrl=self.worker.settings.queue_url, Entries=entries)
        for failed in answer.get("Failed") or []:
            self.worker.send(bodies[int(failed["Id"])], 0)  # raises why

    def show_progress(self) -> None:
        if time.monotonic() - self.progress_at >= PROGRESS_SECONDS:
            self.progress_at = time.monotonic()
            log.info("progress %s", self.numbers())

    def numbers(self) -> str:
        seconds = max(time.monotonic() - self.started, 0.001)
        names = ("listed", "compared", *DIFFERENCES, "queued")
        counted = " ".join(f"{name}={self.counts[name]}" for name in names)
        return f"{counted} seconds={seconds:.1f} keys/s={self.counts['listed'] / seconds:.0f}"

    def report(self, end: str, status: int) -> int:
        """The table for people, then all numbers as the last line of the log. Returns the exit status."""
        print(f"{end}: {self.counts['compared']} keys of the source compared")
        for what, meaning in DIFFERENCES.items():
            print(f"{self.counts[what]:>12} {what:<10}  {meaning}")
        print(f"{self.counts['queued']:>12} {'queued':<10}  for the workers, who look at each key again")
        for what, keys in self.examples.items():
            for key in keys:
                print(f"  {what} {quoted(key)}")
        log.info("reconciled end=%s status=%d %s", end, status, self.numbers())
        return status


def reconcile(worker: Worker, options: argparse.Namespace, signals: list[int]) -> int:
    """Compares the buckets as the command line says. Exit status: see Reconciliation.run, 2 for a wrong prefix."""
    allowed = worker.settings.prefix_filter
    prefix = options.prefix or allowed
    if not prefix.startswith(allowed):
        log.error("--prefix %s has to begin with PREFIX_FILTER, %s", quoted(prefix), quoted(allowed))
        return 2
    run = Reconciliation(worker, prefix, options.dry_run, options.deep, options.max_delete, options.examples, signals)
    return run.run()


def whole_number(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,12}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number")
    return int(text)


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Ends the process with status 2 for a wrong argument."""
    parser = argparse.ArgumentParser(prog="worker.py", description="Without arguments: works through the queue.")
    command = parser.add_subparsers(dest="command").add_parser(
        "reconcile", help="compare both buckets and put the keys that differ on the queue"
    )
    command.add_argument("--prefix", default="", help="only keys that begin with it (default: PREFIX_FILTER)")
    command.add_argument("--dry-run", action="store_true", help="only report: status 1 when there are differences")
    command.add_argument("--deep", action="store_true", help="look at every object, not only at the listings")
    command.add_argument(
        "--max-delete", type=whole_number, default=MAX_DELETE, help="stop when more would be deleted (%(default)s)"
    )
    command.add_argument("--examples", type=whole_number, default=10, help="keys to name of each kind (%(default)s)")
    return parser.parse_args(arguments)


# --- The process ------------------------------------------------------------------------------------------------------


def configure_logging(level: str) -> None:
    logging.Formatter.converter = time.gmtime
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False  # not shown, but paid for
    logging.basicConfig(
        stream=sys.stdout,
        level=level,
        format="%(asctime)s.%(msecs)03dZ %(levelname)s %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
    )
    logging.getLogger("botocore").setLevel(logging.WARNING)


def work(settings: Settings, options: argparse.Namespace, signals: list[int]) -> int:
    """What one process does. Exit status 1 where it cannot begin, for want of credentials."""
    try:
        worker = make_worker(settings)
    except BotoCoreError as error:
        log.error("cannot start: %s", error)
        return 1
    return reconcile(worker, options, signals) if options.command == "reconcile" else worker.run(signals)


def work_in_processes(count: int, one: Callable[[], int], signals: list[int]) -> int:
    """Runs one() in `count` processes, because Python uses one vCPU in each, and passes a signal on to them.

    Exit status: 0, or the last that is not; 1 for a process that was killed, whose messages come back by themselves.
    """
    children = {fork_to(one) for _ in range(count)}
    exit_status, is_passed_on = 0, False
    while children:
        if signals and not is_passed_on:
            is_passed_on = True
            for child in children:
                os.kill(child, signal.SIGTERM)
        child, status = os.waitpid(-1, os.WNOHANG)
        children.discard(child)
        if child and status:
            exit_status = max(os.waitstatus_to_exitcode(status), 1)
        elif not child:
            time.sleep(0.2)
    return exit_status


def fork_to(one: Callable[[], int]) -> int:
    """The process id of a child that runs one() and ends."""
    child = os.fork()
    if child == 0:
        leave(one())
    return child


def leave(status: int) -> NoReturn:
    """Not sys.exit: that would wait for threads whose copy S3 has not answered, and drain() has handed those back."""
    sys.stdout.flush()
    os._exit(status)


def main() -> int:
    """Exit status: 0 queue empty or stopped by a signal, 1 the queue cannot be read, 2 a wrong setting or argument."""
    options = parse_arguments(sys.argv[1:])
    signals: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: signals.append(received))  # only noted; run() acts on it
    try:
        settings = load_settings(dict(os.environ))
    except ValueError as error:
        print(f"worker: {error}", file=sys.stderr)
        return 2
    configure_logging(settings.log_level)
    log.info("syncing %s to %s prefix=%s", settings.src_bucket, settings.dst_bucket, quoted(settings.prefix_filter))
    one = functools.partial(work, settings, options, signals)
    if settings.processes == 1 or options.command == "reconcile":
        return one()
    return work_in_processes(settings.processes, one, signals)


if __name__ == "__main__":
    leave(main())
