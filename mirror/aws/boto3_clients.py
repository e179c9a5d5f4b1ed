"""boto3's clients for S3, SQS and EventBridge, and how long a call waits. It blocks a thread, never the event loop."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.utils import parse_timestamp

from mirror.aws.keys import RenewedKeys, find_keys, keys_of_session
from mirror.concurrency import in_thread
from mirror.model.client import S3Client
from mirror.model.errors import Kind, error_code, meaning, of_session
from mirror.model.services import as_utf8
from mirror.settings import Settings

SESSION_STATUSES = (400, 401, 403)  # may be the answer to a session that S3 no longer accepts
UNSIGNED = "unsigned_headers"  # in botocore's context of a request
LONGEST_POLL = 20  # of SQS

# How many times boto3 sends a request that may be repeated.
ATTEMPTS = 4  # all of them end within 100 seconds
LISTING_ATTEMPTS = 5
PART_ATTEMPTS = 3  # over the CRT it was sent once before
QUEUE_ATTEMPTS = 3
POLL_ATTEMPTS = 2
SESSION_ATTEMPTS = 2


class Timeouts(NamedTuple):
    """In seconds. A large copy has COPY_TIMEOUT, because it is silent until it is done."""

    connect: int = 5
    answer: int = 20  # of a request that neither copies nor deletes
    listing: int = 60  # a page of a bucket in which much was deleted takes long
    small_copy: int = 120  # of a copy that lasts seconds, and of a delete
    queue: int = 5  # in addition to the long poll
    session: int = 5  # CreateSession: many requests may have to wait for it
    event_connect: int = 2  # of an event, which may be left unsent
    event: int = 5
    event_attempts: int = 2


OF_TASK = Timeouts()


def make_session() -> boto3.Session:
    """A session with two changes: no request waits for new credentials while the old ones are valid, and the times of a
    listing are read fast (botocore's way takes three quarters of its CPU time).

    Raises BotoCoreError if there are credentials that cannot be had.
    """
    session = botocore.session.get_session()
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=parse_time)
    keys = find_keys(session)
    session.register_component("credential_provider", SimpleNamespace(load_credentials=lambda: keys))
    logging.getLogger("botocore.credentials").setLevel(logging.ERROR)  # keys.py logs it in one line
    return boto3.Session(botocore_session=session)


def parse_time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return parse_timestamp(text)  # headers have another format


def config_for(settings: Settings, connect: int, timeout: int, attempts: int) -> Config:
    """`connect`, `timeout`: seconds to wait for a connection and for an answer. A copy is silent until it is done, so
    the connection is kept alive."""
    return Config(
        region_name=settings.region,
        connect_timeout=connect,
        read_timeout=timeout,
        retries={"mode": "standard", "total_max_attempts": attempts},
        max_pool_connections=settings.calls_at_once,
        tcp_keepalive=True,
    )


def take_out_raw_headers(params: dict[str, Any], **_: Any) -> None:
    """Before a request is made: takes out the headers beyond ASCII, as the bytes that as_utf8() decoded, so that they
    are not signed. S3 only requires Host and x-amz-* to be signed, and has at times refused such signatures."""
    headers = params["headers"]
    raw = [name for name, value in headers.items() if isinstance(value, str) and not value.isascii()]
    params["context"][UNSIGNED] = {name: headers.pop(name).encode(errors="surrogateescape") for name in raw}


def put_in_raw_headers(request: Any, **_: Any) -> None:
    """After the request was signed: puts them back."""
    for name, value in request.context.get(UNSIGNED, {}).items():
        request.headers[name] = value


async def once_more[T](session: RenewedKeys, send: Callable[[], Awaitable[T]]) -> T:
    """Calls send(), and once more with a new session if S3 may have refused the first one: then it did nothing."""
    used = session.keys
    with of_session():
        try:
            return await send()
        except ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            is_other = status not in SESSION_STATUSES or meaning(error_code(error)).kind in (Kind.CHANGED, Kind.REFUSED)
            if not used or is_other or not await in_thread(session.after_refusal, used=used):
                raise
        return await send()


class Boto3S3(S3Client):
    """Has several clients of boto3, because requests differ in how often they are sent, and how long they may take."""

    def __init__(self, session: boto3.Session, settings: Settings, seconds: Timeouts) -> None:
        def client(timeout: int, attempts: int) -> Any:
            made = session.client("s3", config=config_for(settings, seconds.connect, timeout, attempts))
            made.meta.events.register_last("before-sign.s3", self.use_session)
            made.meta.events.register("before-call.s3.CreateMultipartUpload", take_out_raw_headers)
            made.meta.events.register_last("request-created.s3", put_in_raw_headers)
            self.clients.append(made)
            return made

        self.clients: list[Any] = []
        self.bucket = settings.dst_bucket
        long, short = settings.copy_timeout, min(settings.copy_timeout, seconds.small_copy)
        self.quick = client(seconds.answer, ATTEMPTS)
        self.listings = client(seconds.listing, LISTING_ATTEMPTS)
        self.parts, self.small_parts = client(long, PART_ATTEMPTS), client(short, PART_ATTEMPTS)
        self.writes, self.small_writes = client(long, 1), client(short, 1)
        self.for_session = client(seconds.session, SESSION_ATTEMPTS)
        self.session = keys_of_session(self.for_session, self.bucket)
        self.sessions = SimpleNamespace(get_credentials=lambda _bucket: self.session)

    def use_session(self, request: Any, **_: Any) -> None:
        """Before a request is signed: one session for all clients, which never waits for a new one while it is valid.
        botocore has a session for each client, and makes it with the timeouts of that."""
        signing = request.context.get("signing", {})
        if "identity_cache" in signing:
            signing["identity_cache"] = self.sessions

    async def with_session(self, call: Callable[..., Any], **parameters: Any) -> dict[str, Any]:
        """See once_more; a request to the source is signed with the role."""
        send, is_of_session = partial(in_thread, call, **parameters), parameters["Bucket"] == self.bucket
        answer: dict[str, Any] = await (once_more(self.session, send) if is_of_session else send())
        return answer

    # Signed with a session on a directory bucket

    async def head_object(self, **parameters: Any) -> dict[str, Any]:
        return as_utf8(await self.with_session(self.quick.head_object, **parameters))

    async def get_object(self, **parameters: Any) -> dict[str, Any]:
        return await self.with_session(self.answer_of_get_object, **parameters)

    def answer_of_get_object(self, **parameters: Any) -> Any:
        answer = self.quick.get_object(**parameters)
        with contextlib.closing(answer["Body"]) as body:
            return answer | {"Body": body.read()}

    async def list_objects_v2(self, **parameters: Any) -> dict[str, Any]:
        return await self.with_session(self.listings.list_objects_v2, **parameters)

    async def list_parts(self, **parameters: Any) -> dict[str, Any]:
        return await self.with_session(self.quick.list_parts, **parameters)

    async def list_multipart_uploads(self, **parameters: Any) -> dict[str, Any]:
        return await self.with_session(self.quick.list_multipart_uploads, **parameters)

    async def create_multipart_upload(self, **parameters: Any) -> dict[str, Any]:
        return await self.with_session(self.quick.create_multipart_upload, **parameters)

    async def complete_multipart_upload(self, **parameters: Any) -> dict[str, Any]:
        return await self.with_session(self.writes.complete_multipart_upload, **parameters)

    async def abort_multipart_upload(self, **parameters: Any) -> dict[str, Any]:
        return await self.with_session(self.quick.abort_multipart_upload, **parameters)

    async def delete_object(self, **parameters: Any) -> dict[str, Any]:
        return await self.with_session(self.small_writes.delete_object, **parameters)

    # Signed with the role

    async def copy_object(self, is_small: bool = False, **parameters: Any) -> Any:
        return await in_thread((self.small_writes if is_small else self.writes).copy_object, **parameters)

    async def upload_part_copy(self, is_small: bool = False, **parameters: Any) -> Any:
        return await in_thread((self.small_parts if is_small else self.parts).upload_part_copy, **parameters)

    # The session and the connections

    async def open_session(self) -> None:
        """There is nothing to do, because boto3 makes it for the first request."""

    async def renew_session(self) -> None:
        self.session.valid()

    def close_connections(self) -> None:
        for client in self.clients:
            client.close()


class Boto3Sqs:
    """The calls to SQS, as boto3 has them."""

    def __init__(self, session: boto3.Session, settings: Settings, seconds: Timeouts) -> None:
        config = partial(config_for, settings, seconds.connect)
        self.sqs = session.client("sqs", config=config(seconds.queue, QUEUE_ATTEMPTS))
        longest = LONGEST_POLL + seconds.queue
        self.polls = session.client("sqs", config=config(longest, POLL_ATTEMPTS))
        self.send_message = partial(in_thread, self.sqs.send_message)
        self.change_message_visibility_batch = partial(in_thread, self.sqs.change_message_visibility_batch)

    def close_connections(self) -> None:
        self.sqs.close()
        self.polls.close()

    async def receive_message(self, **parameters: Any) -> Any:
        return await in_thread(self.polls.receive_message, **parameters)

    async def send_message_batch(self, **parameters: Any) -> Any:
        return await in_thread(self.sqs.send_message_batch, **parameters)

    async def delete_message_batch(self, **parameters: Any) -> Any:
        return await in_thread(self.sqs.delete_message_batch, **parameters)


class Boto3Events:
    """The call to EventBridge, as boto3 has it. Few are under way at a time, one for each settler."""

    def __init__(self, session: boto3.Session, settings: Settings, seconds: Timeouts) -> None:
        config = config_for(settings, seconds.event_connect, seconds.event, seconds.event_attempts)
        self.events = session.client("events", config=config)

    def close_connections(self) -> None:
        self.events.close()

    async def put_events(self, **parameters: Any) -> Any:
        return await in_thread(self.events.put_events, **parameters)


class Clients(NamedTuple):
    """Makes the clients of one process, which share a session. A command makes only those that it uses."""

    s3: Callable[[], Boto3S3]
    sqs: Callable[[], Boto3Sqs]
    events: Callable[[], Boto3Events]


def boto3_clients(settings: Settings, seconds: Timeouts = OF_TASK) -> Clients:
    """Raises BotoCoreError if there are credentials that cannot be had."""
    given = make_session(), settings, seconds
    return Clients(partial(Boto3S3, *given), partial(Boto3Sqs, *given), partial(Boto3Events, *given))
