"""A world in one thread: the two buckets, the queue and worker processes, on a clock of its own.

The real Worker runs in it, on clients that answer at once. What else happens during one of its calls (a source change,
another worker, hours, SIGTERM, its death or a fault of AWS) is planned as (operation, what happens).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, NamedTuple
from urllib.parse import quote_plus

from botocore.exceptions import BotoCoreError, ClientError, ConnectionClosedError, ReadTimeoutError
from fakes import (
    NIGHTLY,
    ODD,
    SETTINGS,
    SMALL,
    WRITES,
    Client,
    Copy,
    Running,
    Source,
    Store,
    Version,
    call_from,
    identity,
    refuse_prefix,
    run,
    serve,
    shaped,
    waits_on,
    without_loop,
)
from hypothesis import HealthCheck, settings
from standin_fair import Message
from standin_fair import Queue as HeldQueue
from standin_sqs import ACTIONS, SQS, SQSError, all_received, delete_message
from standin_sqs import ERRORS as CODES

from mirror.loop import Worker
from mirror.model.selection import SECONDS_OF_DAY
from mirror.model.services import MAX_SQS_VISIBILITY
from mirror.options import options_for
from mirror.protocol.attempt import Interruption
from mirror.protocol.buckets import Buckets
from mirror.queue.messages import Queue as WorkersQueue
from mirror.queue.messages import events_of, hint_body
from mirror.queue.scheduler import Job
from mirror.readers.repairs import Removal
from mirror.settings import Settings


def bounds(examples: int, nightly: int, **more: Any) -> settings:
    """Of random histories: the same ones each time, others at night."""
    return settings(
        max_examples=nightly if NIGHTLY else examples,
        deadline=None,
        database=None,
        derandomize=not NIGHTLY,
        print_blob=False,
        suppress_health_check=list(HealthCheck),
        **more,
    )


Plan = Iterable[tuple[str, tuple[Any, ...]]]  # at the next call of that operation, in this order

# Error codes that S3 answers without having done anything, as far as the worker knows.
ERRORS = ("503", "SlowDown", "InternalError", "ExpiredToken", "RequestTimeTooSkewed", "AccessDenied")
COPIES = {"copy_object", "upload_part_copy", "complete_multipart_upload"}
CONDITIONAL = {"copy_object", "complete_multipart_upload", "delete_object"}


class Killed(BaseException):
    """The process dies, at whatever it was doing."""


class Ghost(NamedTuple):
    """A call that S3 still works on although nobody waits for it; `owner` got no answer or died."""

    key: str
    running: Running
    ends: float
    owner: Any  # with alive and busy


# --- SQS --------------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Queued(Message):
    deserved: int = 0  # receives that are used up because a process died

    def named(self) -> set[str]:
        return {event.key for event in events_of(json.loads(self.body))} if self.body.startswith("{") else set()


def record_event(key: str, is_deleted: bool) -> dict[str, Any]:
    """As S3 itself sends it."""
    record = {
        "eventSource": "aws:s3",
        "eventName": "ObjectRemoved:Delete" if is_deleted else "ObjectCreated:Put",
        "s3": {"bucket": {"name": SETTINGS.src_bucket}, "object": {"key": quote_plus(key)}},
    }
    return {"Records": [record]}


def bridge_event(key: str, is_deleted: bool) -> dict[str, Any]:
    """As EventBridge sends it."""
    return {
        "source": "aws.s3",
        "detail-type": "Object Deleted" if is_deleted else "Object Created",
        "detail": {"bucket": {"name": SETTINGS.src_bucket}, "object": {"key": key}},
    }


NOT_OURS = ("not ours",)  # the content of a foreign object
EVENT_FORMS = (record_event, bridge_event)


class Queue(SQS):
    """A standard queue with redrive policy, as the stand-in has it. Methods are named as in boto3."""

    def __init__(self, now: Callable[[], float]) -> None:
        super().__init__(now, Queued)
        self.live = HeldQueue("queue", max_receive_count=SETTINGS.max_receives, dead_letter_queue="dead")
        self.parked = HeldQueue("dead")
        self.queues |= {"queue": self.live, "dead": self.parked}
        self.limit = 10
        self.refuses = 0  # so many entries that are to be deleted

    @property
    def messages(self) -> list[Queued]:
        return list(self.live.messages.values())

    @property
    def dead(self) -> list[Queued]:
        return list(self.parked.messages.values())

    def put(self, body: str, delay: float = 0.0) -> None:
        self.send(self.live, body, delay)

    def clear(self) -> None:
        for message in self.messages:
            self.live.remove(message)

    def turn(self) -> None:
        """What came last is received first."""
        for message in reversed(self.messages):
            if message.visible_at <= self.now():
                self.live.show_at(message, self.now())

    def __getattr__(self, operation: str) -> Callable[..., dict[str, Any]]:
        name = operation.title().replace("_", "")

        def call(**arguments: Any) -> dict[str, Any]:
            try:
                return ACTIONS[name](self, arguments)
            except SQSError as error:
                raise ClientError({"Error": {"Code": CODES[error.code]}}, name) from None

        return call

    def receive_message(self, VisibilityTimeout: int, **asked: Any) -> dict[str, Any]:  # noqa: N803
        return all_received(self.live, self.take(self.live, self.limit, VisibilityTimeout), asked)

    def delete_message_batch(self, Entries: list[dict[str, Any]], **_: Any) -> dict[str, Any]:  # noqa: N803
        refused, self.refuses = Entries[: self.refuses], 0
        for entry in Entries[len(refused) :]:
            delete_message(self, {"QueueUrl": "queue", **entry})
        return {"Failed": [{"Id": entry["Id"], "Code": "InternalError"} for entry in refused]}


class Pausing(Interruption):
    """During a pause the time of the world passes."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world

    async def pause(self, seconds: float) -> None:
        self.world.pass_time(seconds)
        self.check()


# --- Worker processes -------------------------------------------------------------------------------------------------


class Process:
    """A worker process, that does in one go what its threads do at the same time."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.alive, self.busy, self.stopping = True, False, False
        self.plan: list[tuple[str, tuple[Any, ...]]] = []
        self.begun: list[Job] = []
        client = Client(self.call_s3)
        self.buckets = buckets = Buckets(world.settings, client, world.now, world.now, overwritten=world.overwritten)
        queue = WorkersQueue(Client(self.call_sqs), "https://queue")
        options = options_for(buckets, waits=waits_on(buckets))
        self.worker = Worker(buckets, queue, options=options)
        without_loop(self.worker.syncer)
        self.worker.scheduler.begin = self.begin

    def begin(self, job: Job) -> None:
        pausing = Pausing(self.world)
        if job.sync.interruption.is_set():
            pausing.set()
        job.sync.interruption = pausing
        self.begun.append(job)

    def work(self, plan: Plan = ()) -> None:
        """Receives once, and syncs what it got."""
        self.plan, self.busy = list(plan), True
        try:
            self.receive()
            self.sync()
            self.acknowledge()
            self.sync()  # what came while its key was being synced
            self.acknowledge()
        except Killed:
            self.die()
        self.busy = False
        self.alive = self.alive and not self.stopping

    def receive(self) -> None:
        try:
            run(self.worker.step(0))
        except (ClientError, BotoCoreError):
            return  # receive_until_idle() tries again

    def sync(self) -> None:
        while self.begun:
            run(self.worker.scheduler.run(self.begun.pop(0)))

    def acknowledge(self) -> None:
        leases = self.worker.leases
        while leases.finished:
            run(leases.settle(leases.take_batch()))

    def finish(self) -> None:
        """What its heartbeat has begun or ended."""
        if self.busy:
            return
        try:
            self.sync()
            self.acknowledge()
        except Killed:
            self.die()

    def die(self) -> None:
        self.alive = False
        self.world.note_deserved()
        self.world.note_unprotected()

    def stop(self) -> None:
        self.stopping = True
        self.worker.stop()

    # Its calls

    def call_sqs(self, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        happens = self.next_planned(operation) if self.busy and not self.world.beating else ()
        if self.world.clock < self.world.throttled_until:
            raise ClientError({"Error": {"Code": "RequestThrottled"}}, operation)
        if happens[:1] == ("dies",):
            raise Killed
        self.meanwhile("data/a", happens)
        if happens[:1] == ("refuses an entry",):
            self.world.queue.refuses = 1
        answer = getattr(self.world.queue, operation)(**arguments)
        if happens[:1] == ("loses the answer",):
            raise ConnectionClosedError(endpoint_url="")
        return answer

    def call_s3(self, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        if operation == "list_objects_v2":
            self.deny(operation, arguments.get("Prefix", ""))
            return self.world.listing(arguments)
        self.world.clock += 0.05
        self.world.land_what_is_due()
        key, running = arguments.get("Key", ""), Running(call_from(operation, arguments))
        happens = self.next_planned(operation)
        self.refuse(operation, running, happens)
        self.deny(operation, key)
        if happens[:1] == ("empty 200",) and operation in COPIES:
            return {}
        if operation == "list_multipart_uploads":
            return shaped(operation, self.world.uploads())
        still, answer = self.world.serve(key, running) if operation == "copy_object" else (running, None)
        if operation in WRITES and still:
            self.lose(key, still, happens)
        elif happens[:1] == ("dies",):
            raise Killed
        self.meanwhile(key, happens)
        while still:
            still, answer = self.world.serve(key, still)
        self.afterwards(key, happens)
        if happens[:1] == ("loses the answer",) and operation in WRITES:
            raise ConnectionClosedError(endpoint_url="")
        return shaped(operation, answer)

    def afterwards(self, key: str, happens: tuple[Any, ...]) -> None:
        """S3 has done it, and the answer is on its way."""
        match happens:
            case ("too late", change):
                self.world.change(key, change)
                self.receive()
            case ("overwritten", change):
                self.world.change(key, change)
                self.receive()
                self.acknowledge()

    def next_planned(self, operation: str) -> tuple[Any, ...]:
        for planned in self.plan:
            if planned[0] == operation:
                self.plan.remove(planned)
                return planned[1]
        return ()

    def refuse(self, operation: str, running: Running, happens: tuple[Any, ...]) -> None:
        """The errors of S3 that mean that it did nothing."""
        if self.world.clock < self.world.slow_until and not running.call.on_source:
            raise ClientError({"Error": {"Code": "503"}}, operation)
        if happens[:1] == ("error",):
            raise ClientError({"Error": {"Code": happens[1]}}, operation)
        upload, code = running.call.upload_id, ""
        if happens[:1] == ("conflict",) and operation in CONDITIONAL:
            code = "409" if happens[1:] == ("no body",) else "ConditionalRequestConflict"
        elif operation == "complete_multipart_upload":
            code = self.world.spent.get(upload, "")
        if code and upload:
            self.world.spent[upload] = code
        if code:
            raise ClientError({"Error": {"Code": code}}, operation)
        if happens[:1] == ("aborted",) and operation in WRITES:
            raise ClientError({"Error": {"Code": "OperationAborted"}}, operation)

    def deny(self, operation: str, key: str) -> None:
        """As botocore names the operation."""
        if code := self.world.denies(operation, key):
            raise ClientError({"Error": {"Code": code}}, operation.title().replace("_", ""))

    def lose(self, key: str, running: Running, happens: tuple[Any, ...]) -> None:
        """The call goes on in S3, for as long as a copy may last."""
        if happens[:1] not in (("dies",), ("times out",), ("reset",), ("stops",)):
            return
        if happens[0] == "times out":
            self.world.pass_time(SETTINGS.copy_timeout)
        self.world.ghosts.append(Ghost(key, running, self.world.clock + SETTINGS.copy_timeout, self))
        if happens[0] == "stops":  # SIGTERM, and the call does not end in time
            self.stop()
            raise asyncio.CancelledError
        if happens[0] == "dies":
            raise Killed
        raise ReadTimeoutError(endpoint_url="") if happens[0] == "times out" else ConnectionClosedError(endpoint_url="")

    def meanwhile(self, key: str, happens: tuple[Any, ...]) -> None:
        match happens:
            case ("change", change):
                self.world.change(key, change)
            case ("overtaken", change):
                self.world.change(key, change)
                self.world.let_another_work(self)
            case ("time", seconds):
                self.world.early = self.world.early or seconds >= MAX_SQS_VISIBILITY
                self.world.pass_time(seconds)
            case ("SIGTERM",):
                self.stop()
            case ("receives more",):
                self.receive()
            case ("acknowledges",):
                self.acknowledge()
            case ("delivered again",):
                self.world.deliver_again()
            case ("another works",):
                self.world.let_another_work(self)


def provenance_of(version: Version) -> str:
    """What its copy says of it: nothing if S3 has copied the metadata, as they are, or if there is no room."""
    is_marked = version.label not in ODD or (version.size > SMALL and version.label != "no room")
    return identity(version) if is_marked else ""


def is_taken_for_copy(copy: Copy, version: Version) -> bool:
    """Of an expired source: an object without a mark counts as its copy if size and time allow for that."""
    return not copy.provenance and copy.size == version.size and copy.second >= version.second


# --- The world --------------------------------------------------------------------------------------------------------


class World:
    overwritten = 0.0  # what a process begins with; see Buckets

    def __init__(self, settings: Settings = SETTINGS) -> None:
        self.settings = settings
        self.clock = 1_000_000.0
        self.changes = 0
        self.versions: dict[str, Version] = {}
        self.is_versioned = False  # the source
        self.ahead = 0  # seconds that the clock which dates its versions is ahead of the others
        self.older: dict[str, list[Version | None]] = {}  # versions of each key before the current one, if it is
        self.changed_at: dict[str, int] = {}  # the number of the key's latest change
        self.unheard: set[str] = set()  # keys of which the latest change has no event
        self.stores: dict[str, Store] = {}
        self.spent: dict[str, str] = {}  # upload that S3 no longer completes -> the code of the conflict that it had
        self.queue = Queue(self.now)
        self.processes: list[Process] = []
        self.ghosts: list[Ghost] = []
        self.slow_until = self.throttled_until = self.no_session_until = 0.0
        self.session_refusal = "AccessDenied", "CreateSession"  # the code and operation of the error meanwhile
        self.denies: Callable[[str, str], str] = lambda _operation, _key: ""  # the error code for an operation and key
        self.beating = False
        self.unprotected: set[str] = set()  # keys that only reconcile would look at again
        self.early = False  # a message may have come back before its visibility timeout: the only way to those keys
        self.faults: list[str] = []

    def now(self) -> float:
        return self.clock

    # Source

    def change(self, key: str, change: str, delay: int = 0, copies: int = 1, size: int = 1) -> None:
        """put CONTENT, touch (metadata in place; also with a label of ODD), delete or roll-back; and its events."""
        name, _, content = change.partition(" ")
        found, older = self.versions.get(key), self.older.setdefault(key, [])
        if name == "roll-back" and not older:
            return
        self.changes += 1
        self.changed_at[key] = self.changes
        version_id = f"v{self.changes}" if self.is_versioned else ""
        if name == "put":
            version = Version(content, size, self.second(), version_id)
        elif name == "roll-back":
            version = older.pop()
        elif found is None:
            return
        elif name == "touch":
            label = content or f"label{self.changes}"
            version = found._replace(second=self.second(), version_id=version_id, label=label)
        else:
            version = None
        if self.is_versioned and name != "roll-back":
            older.append(found)
        self.hold_version(key, version)
        self.unheard = self.unheard | {key} if copies == 0 else self.unheard - {key}
        body = EVENT_FORMS[self.changes % 2](key, name in ("delete", "roll-back"))
        for _ in range(copies):
            self.queue.put(json.dumps(body), delay)

    def hold_version(self, key: str, version: Version | None) -> None:
        if version:
            self.versions[key] = version
        else:
            self.versions.pop(key, None)

    def second(self) -> int:
        """Of a new version. The clocks behind a bucket may differ."""
        return int(self.clock) + self.ahead

    def put(self, count: int, name: str, size: int = SMALL) -> None:
        """So many new keys that begin so."""
        for number in range(count):
            self.change(f"data/{name}{number}", "put x", size=size)

    # Destination

    def serve(self, key: str, running: Running) -> tuple[Running | None, Any]:
        version = self.versions.get(key)
        before = self.stores.get(key, Store())
        store, still, answer = serve(Source(version, self.changes), before, running)
        if store.copy and store.copy is not before.copy:
            store = store._replace(copy=store.copy._replace(second=int(self.clock)))
        self.stores[key] = store
        self.check(key, before.copy, store.copy)
        return still, answer

    def check(self, key: str, before: Copy | None, after: Copy | None) -> None:
        if before and before.content == NOT_OURS and after is not before and self.is_foreign(key):
            self.faults.append(f"{key}: a foreign object is deleted or overwritten")
        if after and len(set(after.content)) > 1:
            self.faults.append(f"{key}: an object of mixed parts {after.content}")
        version = self.versions.get(key)
        if before and after and version and after.stamp < before.stamp and after.content[0] != version.content:
            self.faults.append(f"{key}: an older version covers a newer one")
        is_live = before and version and before.stamp >= self.changed_at[key] and not self.is_over(version.second)
        if is_live and not after:
            self.faults.append(f"{key}: the live object disappears")

    def is_foreign(self, key: str) -> bool:
        """What others have written in the destination stays if no event of the source names its key."""
        return key not in self.changed_at or not key.startswith(self.settings.prefix_filter)

    def is_over(self, second: int) -> bool:
        """KEEP_DAYS keeps no longer what changed then."""
        days = self.settings.keep_days
        return days > 0 and self.clock // SECONDS_OF_DAY > second // SECONDS_OF_DAY + days

    def uploads(self) -> tuple[tuple[str, str], ...]:
        return tuple((key, upload.upload_id) for key, store in self.stores.items() for upload in store.uploads)

    def listing(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """One page of either bucket. A directory bucket lists in no order of keys."""
        refuse_prefix("ListObjectsV2", arguments)
        is_source = arguments["Bucket"] == SETTINGS.src_bucket
        copies = {key: store.copy for key, store in self.stores.items() if store.copy}
        held = sorted((self.versions if is_source else copies).items(), reverse=not is_source)
        date = format_datetime(datetime.fromtimestamp(int(self.clock), UTC), usegmt=True)
        page = shaped("list_objects_v2", [one for one in held if one[0].startswith(arguments.get("Prefix", ""))])
        return page | {"ResponseMetadata": {"HTTPHeaders": {"date": date}}}

    # Time

    def pass_time(self, seconds: float) -> None:
        """Calls that nobody waits for end, and the workers extend the visibility of what they hold."""
        end = self.clock + seconds
        self.land_what_is_due()
        while self.clock < end:
            self.clock = min(end, self.clock + SETTINGS.visibility_extend_interval)
            self.land_what_is_due()
            self.beat()

    def wait(self) -> None:
        """Until a message is visible, or a call that nobody waits for ends."""
        due = [message.visible_at for message in self.queue.messages] + [ghost.ends for ghost in self.ghosts]
        self.pass_time(max(0.0, min(due, default=0.0) - self.clock))

    def land_what_is_due(self) -> None:
        for ghost in [ghost for ghost in self.ghosts if ghost.ends <= self.clock]:
            self.ghosts.remove(ghost)
            still: Running | None = ghost.running
            while still:
                still, _ = self.serve(ghost.key, still)

    def pass_days(self, days: int) -> None:
        """At once: whatever was under way has ended, and every message is visible again."""
        self.early = True
        self.clock += days * SECONDS_OF_DAY
        self.land_what_is_due()

    def run_lifecycle(self, keys: Iterable[str]) -> None:
        """Of the directory bucket, which is late for all other keys."""
        for key in keys:
            store = self.stores.get(key, Store())
            if store.copy and self.is_over(store.copy.second):
                self.stores[key] = store._replace(copy=None)
                self.check(key, store.copy, None)

    def remove_unwanted(self, key: str, plan: Plan) -> None:
        """What reconcile does with one key."""
        process = Process(self)
        process.plan = list(plan)
        with contextlib.suppress(ClientError):  # for which no key is at fault
            run(Removal(process.buckets, Pausing(self), most=1).remove(key))

    def beat(self) -> None:
        self.beating = True
        for process in self.processes:
            if process.alive:
                run(process.worker.extend())
                run(process.worker.watch_outage())
                process.finish()
        self.beating = False

    # Workers and messages

    def work(self, number: int = 0, plan: Plan = (), limit: int = 10, newest_first: bool = False) -> None:
        self.queue.limit = limit
        if newest_first:
            self.queue.turn()
        self.processes = [process for process in self.processes if process.alive]
        while len(self.processes) <= number:
            self.processes.append(Process(self))
        self.processes[number].work(plan)

    def let_another_work(self, busy: Process) -> None:
        idle = [process for process in self.processes if process.alive and not process.busy]
        if not idle:
            self.processes.append(Process(self))
        other = idle[0] if idle else self.processes[-1]
        assert other is not busy
        other.work()

    def deliver_again(self) -> None:
        """At least once may be twice."""
        self.early = True
        for message in self.queue.messages:
            if message.receives:
                self.queue.live.show_at(message, min(message.visible_at, self.clock))
        self.note_unprotected()

    def note_deserved(self) -> None:
        """A process dies: what is in flight is not received for nothing."""
        for message in self.queue.messages:
            message.deserved += message.visible_at > self.clock and message.receives > message.deserved

    def note_unprotected(self) -> None:
        """Keys with a call under way that no sync waits for, and no message that is invisible until it has ended.

        An upload may be aborted at any time: who goes on with it begins again, and nobody reads it.
        """
        for ghost in self.ghosts:
            is_waited_for = ghost.owner.alive and ghost.owner.busy
            does_harm = ghost.running.call.operation != "abort_multipart_upload"
            if does_harm and not is_waited_for and not self.is_looked_at_after(ghost):
                self.unprotected.add(ghost.key)

    def is_looked_at_after(self, ghost: Ghost) -> bool:
        return any(ghost.key in message.named() and message.visible_at >= ghost.ends for message in self.queue.messages)

    def look(self, keys: Iterable[str]) -> None:
        self.queue.put(hint_body(SETTINGS.src_bucket, keys))

    # The end

    def settle(self, work: Callable[[], object] | None = None) -> None:
        """No more trouble: everything is worked off, by processes or by what works once. Raises AssertionError if that
        does not finish."""
        self.slow_until = self.throttled_until = self.no_session_until = 0.0
        for turn in range(200):
            if self.settings.copy_last and turn % 10 == 9:
                self.redrive()  # a marker waits for what only an operator brings back
            if not self.queue.messages and not self.ghosts:
                return
            self.wait()
            for process in self.processes:  # after an outage for too long
                process.alive = process.alive and not process.worker.stopping.is_set()
            (work or self.work)()
        raise AssertionError("the queue does not become empty")

    def redrive(self) -> None:
        """What an operator does: the dead letters once more, and reconcile."""
        for message in self.queue.dead:
            if message.named():
                self.queue.put(message.body)
                self.queue.parked.remove(message)
        self.look(sorted(self.unprotected))

    def differences(self) -> list[str]:
        keys = sorted(self.versions.keys() | self.stores.keys())
        return [f"{key}: {found}" for key in keys if (found := self.difference(key))]

    def wrong(self) -> list[Any]:
        """What is not to be there once all is done."""
        return [*self.faults, *self.differences(), *self.queue.dead, *self.uploads()]

    def left(self) -> list[tuple[int, float]]:
        """Receives of each message that is left, and the seconds until it is visible."""
        return [(message.receives, message.visible_at - self.clock) for message in self.queue.messages]

    def difference(self, key: str) -> str:
        version, copy = self.versions.get(key), self.stores.get(key, Store()).copy
        if not key.startswith(SETTINGS.prefix_filter):
            return "" if copy is None or copy.content == NOT_OURS else f"touched outside the prefix: {copy}"
        if copy and copy.content == NOT_OURS and self.is_foreign(key):
            return ""
        if version and self.is_over(version.second) and (copy is None or is_taken_for_copy(copy, version)):
            return ""
        if version is None and copy and not copy.provenance and key in self.unheard:
            return ""  # it looks like one of others
        if version is None or copy is None:
            return "" if version is None and copy is None else f"the source has {version}, the destination {copy}"
        held = (copy.content[0], copy.size, copy.label, copy.provenance)
        same = held == (version.content, version.size, version.label, provenance_of(version))
        return "" if same else f"the source has {version}, the destination {copy}"
