"""HTTP over the AWS CRT, at a fifth of boto3's CPU time. Each request is signed and sent once.

The signature (Signature Version 4) takes half of the CPU time of the CRT's, which keeps no signing key.
"""

from __future__ import annotations

import asyncio
import codecs
import ctypes
import functools
import hashlib
import hmac
import inspect
import io
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import awscrt.http
import awscrt.io
from botocore.exceptions import ConnectionClosedError, EndpointConnectionError, ReadTimeoutError
from botocore.httpsession import where as certificates

from mirror.aws.keys import Keys, RenewedKeys
from mirror.concurrency import in_thread

IDLE_SECONDS = 20  # a connection that was idle for longer may be dead without a sign of it, which costs a timeout
ALGORITHM = "AWS4-HMAC-SHA256"
EMPTY_BODY = hashlib.sha256(b"").hexdigest()
TOKEN_HEADER = "X-Amz-Security-Token"
SESSION_HEADER = "x-amz-s3session-token"  # for keys of an S3 Express session
thread_of_crt = threading.local()


def decode_headers(error: UnicodeError) -> tuple[str | bytes, int]:
    """Stands for Python's "strict" error handler, with which the CRT decodes headers as UTF-8. S3 sends headers such as
    Content-Disposition as the bytes that it was given. For other bytes the CRT would drop the answer and print a
    traceback, and it has no setting for that. Here they become surrogates (PEP 383), as in as_utf8(): nothing is lost.

    Whatever Python code decodes is as strict as before: only the CRT's own threads call this outside of any Python
    function.
    """
    frame = inspect.currentframe()
    if isinstance(error, UnicodeDecodeError) and frame and frame.f_back is None:
        return codecs.lookup_error("surrogateescape")(error)
    raise error


@dataclass(eq=False)
class Request:
    """What is sent: `path` with its query, quoted, the query sorted by name."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes = b""


@dataclass(frozen=True)
class Endpoint:
    """Where boto3 sends the requests for one bucket or queue, or for the event bus."""

    url: str  # scheme, host and path, up to the key
    host: str  # with the port if the URL has one, as in the Host header
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


class Inbox:
    """Brings what the CRT's threads finish into the event loop, as much as there is at one wake-up."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.items: deque[tuple[asyncio.Future[Any], Any]] = deque()
        self.is_expected = False

    def put(self, future: asyncio.Future[Any], ended: Any) -> None:
        """Called in a thread of the CRT. Gives `future` the result or the error of `ended`, a future of the CRT.

        `ended` itself is not kept: it holds its callback, which holds `future`, so that each request would become
        garbage in a cycle.
        """
        if not hasattr(thread_of_crt, "keeps_state"):
            # Otherwise Python makes and deletes a thread state, and memory for its frames, for each callback: a tenth
            # of the CPU time (Python/C API, PyGILState_Ensure and PyGILState_Release).
            thread_of_crt.keeps_state = True
            ctypes.pythonapi.PyGILState_Ensure()
        self.items.append((future, ended.exception() or ended.result()))
        if not self.is_expected:
            self.is_expected = True
            self.loop.call_soon_threadsafe(self.empty)

    def empty(self) -> None:
        self.is_expected = False
        while self.items:
            future, outcome = self.items.popleft()
            if not future.cancelled():
                future.set_result(outcome)


class CrtHttp:
    """Made inside the event loop that uses it."""

    def __init__(self, region: str, credentials: Any, connect_timeout: int) -> None:
        """`credentials`: those of a session that make_session() made. `connect_timeout`: in seconds."""
        codecs.register_error("strict", decode_headers)
        self.region = region
        self.connect_timeout = connect_timeout
        self.keys: RenewedKeys = credentials  # of the role, to sign with
        self.bootstrap = awscrt.io.ClientBootstrap.get_or_create_static_default()
        # It trusts what boto3 trusts: AWS_CA_BUNDLE, otherwise the certificates that botocore brings.
        trusting = awscrt.io.TlsContextOptions()
        trusting.override_default_trust_store_from_path(None, os.environ.get("AWS_CA_BUNDLE") or certificates())
        self.tls = awscrt.io.ClientTlsContext(trusting)
        self.loop = asyncio.get_running_loop()
        self.inbox = Inbox(self.loop)
        self.idle: dict[str, deque[tuple[Any, float]]] = {}  # host -> open connections, and since when they are idle
        self.deadlines: dict[Any, float] = {}  # connection that waits for an answer -> when that is given up
        self.watch: asyncio.TimerHandle | None = None

    async def send(
        self, endpoint: Endpoint, request: Request, timeout: float, keys: RenewedKeys, token_header: str = TOKEN_HEADER
    ) -> Answer:
        """Signs the request and sends it, once there are valid keys. Waits `timeout` seconds for the answer at most.

        Raises ClientError or BotoCoreError if there can be no keys, and botocore's errors if no whole answer came. AWS
        may have done its work all the same, except after an EndpointConnectionError: then nothing was sent.
        """
        valid = keys.valid() or await in_thread(keys.get_frozen_credentials)
        sign(request, self.region, endpoint.signing_name, valid, token_header)
        if request.method not in ("GET", "HEAD"):
            request.headers.append(("Content-Length", str(len(request.body))))  # boto3 does not sign it either

        connection = self.take_idle(endpoint) or await self.open_connection(endpoint)
        answer = Answer()
        ended = self.loop.create_future()
        self.deadlines[connection] = self.loop.time() + timeout
        self.watch = self.watch or self.loop.call_later(1, self.give_up)
        try:
            self.start(connection, request, answer, ended, endpoint)
            outcome = await ended
        except BaseException:
            del self.deadlines[connection]
            connection.close()
            raise

        now = self.loop.time()
        is_late = now > self.deadlines.pop(connection)
        if not isinstance(outcome, BaseException):
            self.idle.setdefault(endpoint.host, deque()).append((connection, now))
            return answer
        connection.close()
        broken = ReadTimeoutError if is_late else ConnectionClosedError
        raise broken(endpoint_url=endpoint.url, error=outcome)

    def start(
        self, connection: Any, request: Request, answer: Answer, ended: asyncio.Future[Any], endpoint: Endpoint
    ) -> None:
        """Sends the request. `ended` is set when the whole answer is there, or when none will come."""
        try:
            headers = awscrt.http.HttpHeaders(request.headers)
            body = io.BytesIO(request.body) if request.body else None
            sent = awscrt.http.HttpRequest(request.method, request.path, headers, body)
            stream = connection.request(sent, answer.on_response, answer.on_body)
            stream.completion_future.add_done_callback(functools.partial(self.inbox.put, ended))
            stream.activate()
        except Exception as error:  # closed in the meantime, for which the CRT has many errors: nothing was sent
            raise EndpointConnectionError(endpoint_url=endpoint.url, error=error) from error

    def take_idle(self, endpoint: Endpoint) -> Any:
        """Returns the open connection that was used last, or None. Closes those that were idle for too long."""
        idle = self.idle.get(endpoint.host)
        oldest = self.loop.time() - IDLE_SECONDS
        while idle:
            connection, since = idle.pop()
            if since > oldest and connection.is_open():
                return connection
            connection.close()
        return None

    async def open_connection(self, endpoint: Endpoint) -> Any:
        parts = urlsplit(endpoint.url)
        tls = self.tls.new_connection_options() if parts.scheme == "https" else None
        if tls:
            tls.set_server_name(parts.hostname)
        options = awscrt.io.SocketOptions()
        options.keep_alive = True  # a copy is silent for minutes, and a firewall may forget a silent connection
        options.keep_alive_timeout_secs = options.keep_alive_interval_secs = 60
        options.connect_timeout_ms = self.connect_timeout * 1000

        port = parts.port or (443 if tls else 80)
        opened = self.loop.create_future()
        opening = awscrt.http.HttpClientConnection.new(parts.hostname, port, self.bootstrap, options, tls)
        opening.add_done_callback(functools.partial(self.inbox.put, opened))
        outcome = await opened
        if isinstance(outcome, BaseException):
            raise EndpointConnectionError(endpoint_url=endpoint.url, error=outcome)
        return outcome

    def give_up(self) -> None:
        """Closes the connections whose answer is overdue, which ends their requests with an error. Called every second
        while answers are awaited."""
        now = self.loop.time()
        for connection, deadline in self.deadlines.items():
            if now > deadline:
                connection.close()
        self.watch = self.loop.call_later(1, self.give_up) if self.deadlines else None


# --- The signature (IAM User Guide, "Create a signed AWS API request") ------------------------------------------------


def sign(
    request: Request,
    region: str,
    service: str,
    keys: Keys,
    token_header: str = TOKEN_HEADER,
    wall: Callable[[], float] = time.time,
) -> None:
    """Adds the headers of a signature; all headers that are there by then are signed. The tests compare the signatures
    with botocore's."""
    date = date_text(int(wall()))
    request.headers.append(("X-Amz-Date", date))
    if keys.token:
        request.headers.append((token_header, keys.token))

    signed = sorted([(name.lower(), " ".join(value.split())) for name, value in request.headers])
    names = ";".join([name for name, _ in signed])
    lines = "\n".join([f"{name}:{value}" for name, value in signed])
    path, _, query = request.path.partition("?")
    body = hashlib.sha256(request.body).hexdigest() if request.body else EMPTY_BODY
    canonical = f"{request.method}\n{path}\n{query}\n{lines}\n\n{names}\n{body}"

    scope = f"{date[:8]}/{region}/{service}/aws4_request"
    text = f"{ALGORITHM}\n{date}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    signature = hmac.digest(signing_key(keys.secret_key, scope), text.encode(), "sha256").hex()
    value = f"{ALGORITHM} Credential={keys.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
    request.headers.append(("Authorization", value))


@functools.lru_cache(maxsize=8)
def date_text(seconds: int) -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(seconds))


@functools.lru_cache(maxsize=32)
def signing_key(secret_key: str, scope: str) -> bytes:
    """`scope`: day, Region, service and "aws4_request", separated by slashes."""
    key = b"AWS4" + secret_key.encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
