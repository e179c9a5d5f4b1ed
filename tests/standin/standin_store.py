"""What the stand-in keeps of S3: buckets, objects, uploads and keys that end, the events that follow from changes, and
how S3 writes answers.

Both kinds of bucket are modelled: a general purpose bucket, and a directory bucket (S3 Express One Zone, a name that
ends in --x-s3). An object has a size and a history, but bytes only if the control API has put some.
"""

import json
import random
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import quote, quote_plus
from xml.sax.saxutils import escape

sys.path.append(str(Path(__file__).parents[2]))  # for a stand-in that is a program

from local import refusals

ACCOUNT = "111122223333"
REGION = "us-east-1"
MIB = 1024**2
GIB = 1024**3
DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'
CREDENTIALS = "_credentials"  # http://127.0.0.1:PORT/_credentials, for AWS_CONTAINER_CREDENTIALS_FULL_URI
TOKEN_HEADERS = ("x-amz-s3session-token", "x-amz-security-token")
EXPIRED = ("ExpiredToken", "The provided token has expired.", 400)

# (generation, first byte, byte after the last): which write the bytes of an object came from, and their place in it.
Span = tuple[int, int, int]


class Answer(NamedTuple):
    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = MappingProxyType({})


class S3Error(Exception):
    """An answer that is an error."""

    def __init__(self, code: str, message: str = "", status: int = 0, headers: dict[str, str] | None = None) -> None:
        self.code, self.message, self.status = code, message or code, status or refusals.STATUSES.get(code, 400)
        self.headers = headers or {}

    def answer(self) -> Answer:
        detail = f"<Code>{self.code}</Code><Message>{escape(self.message)}</Message><RequestId>STANDIN</RequestId>"
        headers = {"content-type": "application/xml", **self.headers}
        return Answer(self.status, f"{DECLARATION}<Error>{detail}</Error>".encode(), headers)


@dataclass(slots=True)
class Request:
    method: str
    bucket: str
    key: str
    query: dict[str, str]
    headers: dict[str, str]  # names in lower case
    body: bytes = b""


@dataclass(slots=True)
class Object:
    size: int
    etag: str
    content: list[Span]
    headers: dict[str, str] = field(default_factory=dict)  # STORED_HEADERS and x-amz-meta-*
    modified: int = 0  # seconds since 1970
    version_id: str = "null"
    is_delete_marker: bool = False
    tags: str = ""  # as in the header x-amz-tagging: a=1&b=2
    has_annotations: bool = False
    storage_class: str = "STANDARD"
    restore: str = ""
    missing_meta: int = 0
    checksum: str = ""  # see standin_objects.py


@dataclass(slots=True)
class Part:
    size: int
    etag: str
    content: list[Span]
    modified: int


@dataclass(slots=True)
class Upload:
    id: str
    key: str
    headers: dict[str, str]
    initiated: int
    parts: dict[int, Part] = field(default_factory=dict)
    is_completed: bool = False


@dataclass
class Notification:
    """Where events of a bucket go, and how badly: SQS delivers at least once and in no order."""

    queue: str
    duplicate: float = 0.0  # probability that an event is sent twice
    max_delay: float = 0.0  # seconds; every copy of an event is late by a random part of it
    seed: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)


@dataclass
class Bucket:
    name: str
    owner: str = ACCOUNT
    versioning: str = ""  # "", Enabled, Suspended
    content_encoding: str = "accept"  # or "refuse": a directory bucket that takes no value but aws-chunked
    refused_conditions: tuple[str, ...] = ()  # operations that answer 501 to If-Match and If-None-Match
    checksum_permission: bool = True  # False: the caller may not use the KMS key that checksums are encrypted with
    notification: Notification | None = None
    lifecycle: list[dict[str, Any]] = field(default_factory=list)  # rules, see standin_lifecycle.py
    objects: dict[str, list[Object]] = field(default_factory=dict)  # key: versions, the current one last
    uploads: dict[str, Upload] = field(default_factory=dict)
    order: list[str] | None = None  # the keys in listing order, None after a key came or went

    @property
    def is_directory(self) -> bool:
        return refusals.is_directory(self.name)

    def current(self, key: str) -> Object | None:
        versions = self.objects.get(key)
        return versions[-1] if versions and not versions[-1].is_delete_marker else None


@dataclass
class Tokens:
    """What was handed out. A token that is not among it is not looked at: requests are not authenticated."""

    session_seconds: float = 300.0
    key_seconds: float = 3600.0  # below 0: keys are handed out that have ended
    ends: dict[str, float] = field(default_factory=dict)  # token -> seconds since 1970

    def new(self, kind: str) -> tuple[str, float]:
        """A token of a "session" or of a "key", and when it ends."""
        token = f"{kind}-{len(self.ends)}"
        end = time.time() + (self.session_seconds if kind == "session" else self.key_seconds)
        self.ends[token] = end
        return token, end

    def expire(self, kind: str) -> None:
        """All that were handed out so far end now, before the time that they were said to have."""
        for token in self.ends:
            if token.startswith(kind):
                self.ends[token] = 0.0

    def is_expired(self, headers: Mapping[str, str]) -> bool:
        now = time.time()
        return any(self.ends.get(headers.get(name, ""), now) < now for name in TOKEN_HEADERS)

    def credentials(self) -> bytes:
        """As the container credential provider of the SDKs reads them (SDKs and Tools Reference Guide)."""
        token, end = self.new("key")
        names = {"AccessKeyId": "standin", "SecretAccessKey": "standin", "Token": token, "Expiration": iso(end)}
        return json.dumps(names).encode()


class S3:
    """All buckets. send_event(queue, body, delay in seconds) delivers an event notification; now() is the time of what
    is written."""

    def __init__(self, send_event: Callable[[str, str, float], None]) -> None:
        self.buckets: dict[str, Bucket] = {}
        self.send_event = send_event
        self.now: Callable[[], float] = time.time
        self.generation = 0
        self.kept: dict[int, bytes] = {}  # generation -> the bytes of that write, of the few that are read
        self.sequencer = 0
        self.random = random.Random(0)
        self.tokens = Tokens()
        self.on_change: Callable[[Bucket, str], None] = lambda _bucket, _key: None

    def token(self) -> str:
        return f"{self.random.getrandbits(128):032x}"

    def next_generation(self) -> int:
        self.generation += 1
        return self.generation

    def store(self, bucket: Bucket, key: str, new: Object, event: str) -> None:
        versions = bucket.objects.get(key, [])
        if bucket.versioning == "Enabled":
            new.version_id = self.token()
        else:
            versions = [version for version in versions if version.version_id != "null"]
        if key not in bucket.objects:
            bucket.order = None
        bucket.objects[key] = [*versions, new]
        self.on_change(bucket, key)
        self.notify(bucket, key, new, event)

    def delete(self, bucket: Bucket, key: str, reason: str = "ObjectRemoved") -> Object | None:
        """Delete the current version, or put a delete marker over it; returns the marker."""
        if bucket.versioning:
            marker = Object(0, "", [], modified=int(self.now()), is_delete_marker=True)
            self.store(bucket, key, marker, f"{reason}:DeleteMarkerCreated")
            return marker
        if gone := bucket.objects.pop(key, None):
            bucket.order = None
            self.on_change(bucket, key)
            self.notify(bucket, key, gone[-1], f"{reason}:Delete")
        return None

    def notify(self, bucket: Bucket, key: str, subject: Object, event: str) -> None:
        to = bucket.notification
        if to is None:
            return
        self.sequencer += 1
        body = json.dumps({"Records": [event_record(bucket, key, subject, event, self.sequencer, self.now())]})
        for _ in range(2 if to.random.random() < to.duplicate else 1):
            self.send_event(to.queue, body, to.random.random() * to.max_delay)


def event_record(
    bucket: Bucket, key: str, subject: Object, event: str, sequencer: int, now: float
) -> dict[str, object]:
    """One record of an event (S3 User Guide, notification-content-structure): no s3: before the event name, the key
    form-encoded, and no size or ETag when an object is removed."""
    described: dict[str, object] = {"key": quote_plus(key, safe="/"), "sequencer": f"{sequencer:018X}"}
    if not event.startswith(("ObjectRemoved", "LifecycleExpiration")):
        described |= {"size": subject.size, "eTag": subject.etag}
    if bucket.versioning:
        described["versionId"] = subject.version_id
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": REGION,
        "eventTime": datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z",
        "eventName": event,
        "userIdentity": {"principalId": "EXAMPLE"},
        "requestParameters": {"sourceIPAddress": "127.0.0.1"},
        "responseElements": {"x-amz-request-id": f"{sequencer:016X}", "x-amz-id-2": "EXAMPLE"},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "standin",
            "bucket": {
                "name": bucket.name,
                "ownerIdentity": {"principalId": "EXAMPLE"},
                "arn": f"arn:aws:s3:::{bucket.name}",
            },
            "object": described,
        },
    }


# ---------------------------------------------------------------- XML and times


def xml(name: str, inner: str, headers: dict[str, str] | None = None) -> Answer:
    body = f'{DECLARATION}<{name} xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{inner}</{name}>'
    return Answer(200, body.encode(), {"content-type": "application/xml", **(headers or {})})


def parse_xml(body: bytes) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(body)
    except ElementTree.ParseError:
        raise S3Error("MalformedXML") from None


def listed(name: str, query: dict[str, str]) -> str:
    return quote(name, safe="/") if query.get("encoding-type") == "url" else escape(name)


def encoding_type(query: dict[str, str]) -> str:
    return "<EncodingType>url</EncodingType>" if query.get("encoding-type") == "url" else ""


def iso(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(seconds))
