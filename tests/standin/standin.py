"""A stand-in for S3, SQS and the bus of EventBridge on one port, for tests and benchmarks.

    python tests/standin/standin.py --port 0        prints "listening on http://127.0.0.1:PORT", stops on SIGTERM

or, from a test:

    with running_standin() as standin:
        standin.create_bucket("source")
        standin.put("source", "big.bin", 700 * GIB)
        s3 = boto3.client("s3", endpoint_url=standin.url)

Objects have a size and a history but no bytes, so their size costs nothing. Requests are not authenticated. The verbs
of the control API, POST /_standin/<verb> with {"args": [...], "kwargs": {...}}, are the functions in VERBS; the
object that running_standin() gives has each of them as a method. standin_s3.py lists the S3 operations and names their
files, what they work on is in standin_store.py. SQS is in standin_sqs.py, with its queues in standin_fair.py, and
EventBridge in standin_events.py. What can go wrong on demand is in standin_faults.py.
"""

import argparse
import asyncio
import base64
import contextlib
import dataclasses
import email.utils
import functools
import hashlib
import inspect
import json
import random
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from types import GeneratorType
from typing import Any
from urllib.parse import parse_qsl, unquote

import httptools
import standin_events
import standin_lifecycle
import standin_objects
import standin_s3
import standin_sqs
from standin_checks import find
from standin_events import Bus
from standin_fair import Queue
from standin_faults import Disconnect, Fault, fail
from standin_lags import Lags
from standin_sqs import SQS, SQSError
from standin_store import EXPIRED, GIB, S3, Answer, Bucket, Notification, Object, Request, S3Error

CONTROL = "/_standin/"


@dataclass
class Latency:
    ms: float = 0.0
    ms_per_gib: float = 0.0
    most_ms: float = 0.0


@dataclass
class Stats:
    requests: Counter[str] = field(default_factory=Counter)
    errors: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    in_flight: Counter[str] = field(default_factory=Counter)
    cpu_start: float = field(default_factory=time.process_time)

    def begin(self, operation: str) -> None:
        self.requests[operation] += 1
        self.in_flight[operation] += 1

    def end(self, operation: str) -> None:
        self.in_flight[operation] -= 1


class Server:
    """The state of the stand-in, and the way of a request through it."""

    def __init__(self) -> None:
        self.url = ""
        self.empty_poll: float | None = None
        self.connections: set[Connection] = set()
        self.players: set[asyncio.Task[None]] = set()
        self.gates: dict[str, asyncio.Event] = {}
        self.reset()

    def reset(self) -> None:
        for task in self.players:
            task.cancel()
        for operation in list(self.gates):
            release(self, operation)
        self.to_play = 0
        self.sqs = SQS()
        self.sqs.url = self.url
        self.sqs.empty_poll = self.empty_poll
        self.bus = Bus()
        self.s3 = S3(lambda queue, body, delay: self.sqs.send(self.sqs.queues[queue], body, delay) and None)
        self.faults: list[Fault] = []
        self.latency: dict[str, Latency] = {}
        self.stats = Stats()
        self.records: list[dict[str, Any]] | None = None
        self.lags: Lags | None = None

    async def answer(self, request: Request) -> Answer:
        """Raises Disconnect when the connection is to be closed instead."""
        is_json = "x-amz-target" in request.headers  # SQS or EventBridge
        of_service = standin_sqs if is_json else standin_s3
        operation, function = (standin_events if standin_events.is_for_bus(request) else of_service).operation_of(
            request
        )
        if self.records is not None:
            self.record(operation, request)
        stats = self.stats
        stats.begin(operation)
        try:
            fault = self.find_fault(operation, request) if self.faults else None
            if fault:
                await fail(fault, SQSError if is_json else S3Error)
            if fault and fault.kind == "empty_200":
                return Answer()
            if self.s3.tokens.is_expired(request.headers):
                raise (SQSError if is_json else S3Error)(*EXPIRED)
            answer = await (self.run_json if is_json else self.run_s3)(operation, function, request)
            if fault and fault.kind == "lost":
                raise Disconnect
            return answer
        except S3Error as error:
            stats.errors[operation][error.code] += 1
            return error.answer()
        finally:
            stats.end(operation)

    async def run_s3(self, operation: str, function: Callable, request: Request) -> Answer:
        result = function(self.s3, request)
        if not isinstance(result, GeneratorType):
            await self.pause(operation)
            return result
        await self.pause(operation, next(result))
        try:
            next(result)
        except StopIteration as end:
            return end.value
        raise AssertionError(f"{operation} yields twice")

    async def run_json(self, operation: str, function: Callable, request: Request) -> Answer:
        await self.pause(operation)
        service = self.bus if standin_events.is_for_bus(request) else self.sqs
        result = function(service, json.loads(request.body))
        return standin_sqs.json_answer(await result if inspect.iscoroutine(result) else result)

    async def pause(self, operation: str, moved: int = 0) -> None:
        if gate := self.gates.get(operation):
            await gate.wait()
        if latency := self.latency.get(operation):
            ms = random.uniform(latency.ms, max(latency.ms, latency.most_ms))
            await asyncio.sleep((ms + latency.ms_per_gib * moved / GIB) / 1000)

    def find_fault(self, operation: str, request: Request) -> Fault | None:
        bucket, service = request.bucket, "S3"
        if standin_events.is_for_bus(request):
            service = "Events"
        elif "x-amz-target" in request.headers:
            bucket, service = json.loads(request.body).get("QueueUrl", "").rsplit("/", 1)[-1], "SQS"
        return next((fault for fault in self.faults if fault.applies(operation, service, bucket, request.key)), None)

    def record(self, operation: str, request: Request) -> None:
        entry = {field.name: getattr(request, field.name) for field in dataclasses.fields(request)}
        self.records.append(entry | {"operation": operation, "body": request.body.decode("latin-1")})


# ---------------------------------------------------------------- HTTP


class Connection(asyncio.Protocol):
    """One client connection: one request at a time, kept alive."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.parser = httptools.HttpRequestParser(self)
        self.long_poll: asyncio.Task | None = None
        self.is_frozen = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.server.connections.add(self)

    def connection_lost(self, _error: Exception | None) -> None:
        """What is under way in S3 goes on without its client; a long poll does not."""
        self.server.connections.discard(self)
        if self.long_poll:
            self.long_poll.cancel()

    def data_received(self, data: bytes) -> None:
        if self.is_frozen:
            return
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.close()

    def on_message_begin(self) -> None:
        self.headers: dict[str, str] = {}
        self.body: list[bytes] = []

    def on_url(self, url: bytes) -> None:
        self.url = url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode().lower()] = value.decode(errors="surrogateescape")

    def on_headers_complete(self) -> None:
        if "expect" in self.headers:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self.body.append(body)

    def on_message_complete(self) -> None:
        path, _, query = self.url.decode().partition("?")
        bucket, _, key = path[1:].partition("/")
        parameters = dict(parse_qsl(query, keep_blank_values=True)) if query else {}
        method, body = self.parser.get_method().decode(), b"".join(self.body)
        request = Request(method, unquote(bucket), unquote(key), parameters, self.headers, body)
        if path.startswith(CONTROL):
            self.send(method, control(self.server, key, body))
            return
        task = asyncio.get_running_loop().create_task(self.serve(request))
        self.long_poll = task if "x-amz-target" in self.headers else None

    async def serve(self, request: Request) -> None:
        try:
            answer = await self.server.answer(request)
        except Disconnect:
            self.transport.abort()
        except Exception:
            self.transport.abort()
            raise
        else:
            self.send(request.method, answer)

    def send(self, method: str, answer: Answer) -> None:
        if self.transport.is_closing():
            return
        body = b"" if method == "HEAD" or answer.status in (204, 304) else answer.body
        headers = {"date": http_date(int(time.time())), "content-length": len(body), "x-amz-request-id": "STANDIN"}
        lines = "".join([f"{name}: {value}\r\n" for name, value in {**headers, **answer.headers}.items()])
        head = f"HTTP/1.1 {answer.status} {REASONS[answer.status]}\r\n{lines}\r\n"
        self.transport.write(head.encode(errors="surrogateescape") + body)


REASONS = {status.value: status.phrase for status in HTTPStatus}


@functools.lru_cache(maxsize=1)
def http_date(second: int) -> str:
    return email.utils.formatdate(second, usegmt=True)


# ---------------------------------------------------------------- control API


def reset(server: Server) -> None:
    """Forget everything but shorten_empty_polls."""
    server.reset()


def create_bucket(server: Server, name: str, **settings: Any) -> None:
    """Settings are the plain fields of Bucket: owner, versioning, content_encoding, refused_conditions,
    checksum_permission."""
    server.s3.buckets[name] = Bucket(name, **settings)


def configure_bucket(server: Server, name: str, **settings: Any) -> None:
    server.s3.buckets[name] = dataclasses.replace(server.s3.buckets[name], **settings)


def delete_bucket(server: Server, name: str) -> None:
    del server.s3.buckets[name]


def put(
    server: Server,
    bucket: str,
    key: str,
    size: int = 1024,
    metadata: dict[str, str] | None = None,
    data: str | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """Write an object as a client would, with an event. `metadata` is user metadata, as it is stored; `data` its bytes,
    in base64, which are kept; other fields are those of Object (etag, modified, tags, has_annotations, storage_class,
    restore, missing_meta; `headers` for Content-Type and the like, names in lower case). Returns it as
    objects() does."""
    headers = {"content-type": "binary/octet-stream", **fields.pop("headers", {})}
    headers |= {f"x-amz-meta-{name}": value for name, value in (metadata or {}).items()}
    held = server.s3.buckets[bucket]
    generation = server.s3.next_generation()
    if data is not None:
        server.s3.kept[generation] = base64.b64decode(data)
        size = len(server.s3.kept[generation])
    etag = hashlib.md5(f"generation {generation}".encode()).hexdigest()
    new = standin_objects.new_object(server.s3, held, [(generation, 0, size)], etag, headers)
    for name, value in fields.items():
        setattr(new, name, value)
    server.s3.store(held, key, new, "ObjectCreated:Put")
    return describe(new)


def together(server: Server, calls: list[tuple[str, list[Any], dict[str, Any]]]) -> None:
    """Several verbs in one call, each with its arguments; what they answer is dropped."""
    for verb, positional, named in calls:
        VERBS[verb](server, *positional, **named)


def play(server: Server, calls: list[tuple[str, list[Any], dict[str, Any]]], per_second: float) -> None:
    """As together(), but one after the other, evenly, this many a second; playing() says how many are still to come."""

    async def play_all() -> None:
        server.to_play += len(calls)
        begun = time.monotonic()
        for number, call in enumerate(calls):
            await asyncio.sleep(max(0.0, begun + number / per_second - time.monotonic()))
            together(server, [call])
            server.to_play -= 1

    task = asyncio.get_running_loop().create_task(play_all())
    server.players.add(task)
    task.add_done_callback(server.players.discard)


def playing(server: Server) -> int:
    return server.to_play


def put_many(server: Server, bucket: str, keys: list[str], size: int = 1024, **fields: Any) -> None:
    for key in keys:
        put(server, bucket, key, size, **fields)


def fill(server: Server, bucket: str, folders: dict[str, int], **fields: Any) -> None:
    """This many keys in each folder: one object with these fields under all of them, for buckets of millions, without
    events."""
    held, shared = server.s3.buckets[bucket], [Object(**fields)]
    for folder, count in folders.items():
        held.objects |= dict.fromkeys((f"{folder}object-{number:09d}" for number in range(count)), shared)
    held.order = None


def change(server: Server, bucket: str, key: str, **fields: Any) -> None:
    """Set fields of the current object in place, without an event."""
    found = find(server.s3.buckets[bucket], key)
    for name, value in fields.items():
        setattr(found, name, value)


def delete(server: Server, bucket: str, key: str) -> None:
    server.s3.delete(server.s3.buckets[bucket], key)


def restore(server: Server, bucket: str, key: str) -> None:
    """Finish the restore of an archived object."""
    held = server.s3.buckets[bucket]
    found = find(held, key)
    found.restore = 'ongoing-request="false", expiry-date="Fri, 21 Dec 2029 00:00:00 GMT"'
    server.s3.notify(held, key, found, "ObjectRestore:Completed")


def clock(server: Server, seconds: float | None) -> None:
    """The time of what is written from now on, and of its events, stands still there, in seconds since 1970; None: it
    is that of the machine again. Queues, sessions and credentials keep the machine's."""
    server.s3.now = time.time if seconds is None else lambda: seconds


def lifecycle(server: Server, bucket: str, rules: list[dict[str, Any]]) -> None:
    """As PutBucketLifecycleConfiguration: see standin_lifecycle.py."""
    standin_lifecycle.put_rules(server.s3.buckets[bucket], rules)


def run_lifecycle(server: Server, bucket: str, late_days: float = 0.0) -> dict[str, Any]:
    """Does what the rules have due at the time of clock(), or so much later; {key: the object that is gone}."""
    held = server.s3.buckets[bucket]
    gone = standin_lifecycle.run_rules(server.s3, held, server.s3.now(), late_days)
    return {key: describe(found) for key, found in gone}


def describe(found: Object) -> dict[str, Any]:
    description = dataclasses.asdict(found)
    user_metadata = (item for item in found.headers.items() if item[0].startswith("x-amz-meta-"))
    description["metadata"] = {name.removeprefix("x-amz-meta-"): value for name, value in user_metadata}
    description["generations"] = sorted({generation for generation, _, _ in found.content})
    return description


def objects(server: Server, bucket: str) -> dict[str, Any]:
    """{key: the current object}; `generations` names the writes that its bytes come from, `content` the byte ranges
    of them in order. A whole copy has the content of its source."""
    held = server.s3.buckets[bucket]
    return {key: describe(found) for key in held.objects if (found := held.current(key))}


def read(server: Server, bucket: str) -> dict[str, str]:
    """{key: the bytes of the current object, in base64}, of those that have some."""
    held = server.s3.buckets[bucket]
    found = {
        key: standin_objects.bytes_of(server.s3, held.objects[key][-1]) for key in held.objects if held.current(key)
    }
    return {key: base64.b64encode(data).decode() for key, data in found.items() if data is not None}


def uploads(server: Server, bucket: str) -> list[dict[str, Any]]:
    """Multipart uploads in progress."""
    return [dataclasses.asdict(upload) for upload in server.s3.buckets[bucket].uploads.values()]


def notify(server: Server, bucket: str, queue: str, **settings: Any) -> None:
    """Send events of a bucket to a queue; settings are the fields of Notification."""
    server.s3.buckets[bucket].notification = Notification(queue, **settings)


def create_queue(server: Server, name: str, **settings: Any) -> str:
    """Settings are the plain fields of Queue: visibility_timeout, max_receive_count and dead_letter_queue (made with
    it), is_fair. Returns the queue URL."""
    server.sqs.queues[name] = queue = Queue(name, **settings)
    if queue.dead_letter_queue:
        server.sqs.queues.setdefault(queue.dead_letter_queue, Queue(queue.dead_letter_queue))
    return standin_sqs.queue_url(server.sqs, queue)


def send(server: Server, queue: str, body: str, delay: float = 0.0, group: str = "") -> str:
    return server.sqs.send(server.sqs.queues[queue], body, delay, group=group).id


def messages(server: Server, queue: str) -> list[dict[str, Any]]:
    """Every message that is not deleted, visible or not, the oldest first."""
    held = server.sqs.queues[queue].messages.values()
    return [dataclasses.asdict(message) for message in sorted(held, key=lambda message: message.sent_at)]


def queue(server: Server, name: str) -> dict[str, int]:
    """How many messages are visible, in flight and delayed."""
    visible, in_flight, delayed = standin_sqs.depth(server.sqs.queues[name], server.sqs.now()).values()
    return {"visible": visible, "in_flight": in_flight, "delayed": delayed}


def shorten_empty_polls(server: Server, seconds: float | None) -> None:
    """Answer a long poll after that time if its queue holds no message at all; None: after the time it asks for.

    For tests that wait until a worker finds its queue empty. It stays set when everything is reset.
    """
    server.empty_poll = server.sqs.empty_poll = seconds


def fault(server: Server, operation: str, kind: str, **settings: Any) -> None:
    """Add a rule; settings are the fields of Fault."""
    server.faults.append(Fault(operation, kind, **settings))


def freeze(server: Server) -> None:
    """No request on a connection that is open now is answered: a firewall has forgotten it."""
    for connection in server.connections:
        connection.is_frozen = True


def clear_faults(server: Server) -> None:
    server.faults.clear()


def tokens(server: Server, **settings: float) -> None:
    """For how long what is handed out from now on is good: session_seconds, key_seconds (below 0: it has ended)."""
    for name, value in settings.items():
        setattr(server.s3.tokens, name, value)


def expire_tokens(server: Server, kind: str) -> None:
    """Every "session" or "key" so far is refused from now on: ExpiredToken."""
    server.s3.tokens.expire(kind)


def watch(server: Server, source: str, mirror: str) -> None:
    """Measure from now on how long the mirror takes to show the changes of the source, for lags() and behind()."""
    server.lags = Lags(server.s3, source, mirror)
    server.s3.on_change = server.lags.on_change


def lags(server: Server) -> dict[str, list[float]]:
    """{first folder of the keys: seconds of each change that the mirror showed}"""
    return server.lags.report() if server.lags else {}


def behind(server: Server) -> dict[str, int]:
    """{first folder of the keys: how many changes of the source the mirror does not show yet}"""
    return dict(server.lags.behind) if server.lags else {}


def latency(server: Server, operation: str, ms: float = 0.0, ms_per_gib: float = 0.0, most_ms: float = 0.0) -> None:
    """Each request takes so long; with `most_ms`, a random time up to that."""
    server.latency[operation] = Latency(ms, ms_per_gib, most_ms)


def hold(server: Server, operation: str) -> None:
    """Requests of that operation wait from now on until release(); a copy has read its source by then."""
    server.gates[operation] = asyncio.Event()


def release(server: Server, operation: str) -> None:
    server.gates.pop(operation).set()


def stats(server: Server) -> dict[str, Any]:
    """Since the last reset: requests, errors by code and requests in flight now, per operation; CPU seconds of the
    server."""
    held = server.stats
    counts = {name: dict(getattr(held, name)) for name in ("requests", "errors", "in_flight")}
    return {**counts, "cpu_seconds": time.process_time() - held.cpu_start}


def record(server: Server) -> None:
    """Keep every request from now on, for requests()."""
    server.records = []


def requests(server: Server, operation: str = "") -> list[dict[str, Any]]:
    return [entry for entry in server.records or [] if operation in ("", entry["operation"])]


def events(server: Server) -> list[dict[str, Any]]:
    """What PutEvents was taken of, in the order in which it came; see Event."""
    return [dataclasses.asdict(event) for event in server.bus.events]


def refuse_events(server: Server, pattern: str, times: int = 1) -> None:
    """PutEvents answers this many entries whose detail the regular expression finds with an error; 0: all."""
    server.bus.refusals.append(standin_events.Refusal(pattern, times))


def look_at_events(server: Server, bucket: str) -> None:
    """Note with each event what that bucket holds under the event's key when it comes: Event.here."""
    server.bus.looked_at = server.s3.buckets[bucket]


# All functions of this file whose first argument is the server, and that stand above this line.
VERBS: dict[str, Callable[..., Any]] = {
    name: verb
    for name, verb in vars(sys.modules[__name__]).items()
    if inspect.isfunction(verb) and next(iter(inspect.signature(verb).parameters), "") == "server"
}


def control(server: Server, verb: str, body: bytes) -> Answer:
    try:
        arguments = json.loads(body or b"{}")
        result = VERBS[verb](server, *arguments.get("args", []), **arguments.get("kwargs", {}))
        return Answer(200, json.dumps(result).encode(), {"content-type": "application/json"})
    except (KeyError, TypeError, ValueError, S3Error) as error:
        return Answer(400, json.dumps(f"{verb}: {type(error).__name__}: {error}").encode())


# ---------------------------------------------------------------- client


class Standin:
    """A running stand-in, seen from a test. Every verb of the control API is a method: see VERBS."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        if verb not in VERBS:
            raise AttributeError(f"the stand-in has no verb {verb}")
        return functools.partial(self.call, verb)

    def call(self, verb: str, *args: Any, **kwargs: Any) -> Any:
        body = json.dumps({"args": args, "kwargs": kwargs}).encode()
        try:
            with urllib.request.urlopen(urllib.request.Request(self.url + CONTROL + verb, body)) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise ValueError(json.load(error)) from None


@contextlib.contextmanager
def running_standin() -> Iterator[Standin]:
    """Start a stand-in on a free port and stop it at the end."""
    process = subprocess.Popen([sys.executable, __file__, "--port", "0"], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        line = process.stdout.readline()
        if not line.startswith("listening on "):
            raise RuntimeError(f"the stand-in did not start, it exited with {process.wait()}")
        yield Standin(line.removeprefix("listening on ").strip())
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


async def main(port: int) -> None:
    loop = asyncio.get_running_loop()
    loop.set_task_factory(asyncio.eager_task_factory)  # most requests never wait, and so never need the event loop
    server = Server()
    listener = await loop.create_server(lambda: Connection(server), "127.0.0.1", port, backlog=1024)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    server.reset()
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    print(f"listening on {server.url}", flush=True)
    await stopped.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Stand-in for S3 and SQS.")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free port")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(parser.parse_args().port))
