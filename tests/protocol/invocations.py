"""Processes that live in the world of histories.py, on an event loop whose time is that world's; tasks.py has another.

Here the function that copies, with its real work(). After an invocation it is frozen with all that it keeps, and its
clock may stand still until it is thawed.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import selectors
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError
from fakes import ENVIRONMENT, WRITES, Client, Running, call_from, shaped
from histories import Ghost, World

from mirror import function as first_responder
from mirror.loop import Parts
from mirror.model.errors import of_session
from mirror.protocol.buckets import Buckets
from mirror.queue.messages import Queue
from mirror.settings import Settings, load_function_settings

WITH_ROLE = {"copy_object", "upload_part_copy"}  # other requests to the destination use a session
SQS_SECONDS = 0.02  # until it answers
POLL_SECONDS = 0.25  # a message that comes during a long poll is noticed within that time
Meanwhile = Iterable[tuple[float, Callable[[], object]]]  # what happens this many seconds after the beginning


class Selector(selectors.DefaultSelector):
    """Instead of waiting it has the time pass."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world

    def select(self, timeout: float | None = None) -> Any:
        assert timeout is not None, "nothing is waited for, and it does not end"
        if timeout > 0:
            self.world.pass_time(timeout)
        return super().select(0)


class Loop(asyncio.SelectorEventLoop):
    def __init__(self, world: World) -> None:
        super().__init__(Selector(world))
        self.world = world

    def time(self) -> float:
        return self.world.clock


@dataclass(eq=False)
class Living:
    """A process whose calls last, so that whatever happens comes between any two steps of any of its keys."""

    world: World
    settings: Settings = field(init=False)
    alive: bool = field(init=False, default=True)
    was_killed: bool = field(init=False, default=False)
    busy: bool = field(init=False, default=False)
    is_denied_sessions: bool = field(init=False, default=False)  # by a policy that names the role of others alone
    refused_at: float = field(init=False, default=math.inf)  # when a session was refused first
    lasts: Iterator[float] = field(init=False)  # seconds of each call to S3
    shares: Iterator[float] = field(init=False)  # of that time, after which S3 acts: its answer may be of long ago
    listings: Iterator[float] = field(init=False)  # seconds of each listing
    under_way: dict[object, tuple[str, Running]] = field(init=False)  # writes that S3 has not ended
    work: asyncio.Task[Any] = field(init=False)

    def __post_init__(self) -> None:
        self.loop, self.lasts, self.under_way = Loop(self.world), itertools.repeat(0.1), {}
        self.shares, self.listings = itertools.repeat(1.0), itertools.repeat(0.0)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """What it returns, None if the process dies meanwhile."""
        self.work, self.busy = self.loop.create_task(work), True
        try:
            return self.loop.run_until_complete(self.work)
        except asyncio.CancelledError:
            assert not self.alive
            return None
        finally:
            assert not asyncio.all_tasks(self.loop), "a task is left"
            self.busy = False
            self.world.note_unprotected()

    def die(self) -> None:
        """SIGKILL; what it has sent goes on in S3. Its tasks are ended, and can do nothing more."""
        for key, running in self.under_way.values():
            self.leave(key, running)
        self.under_way.clear()
        self.alive, self.was_killed = False, True
        self.world.note_deserved()
        self.work.cancel()

    def leave(self, key: str, running: Running) -> None:
        self.world.ghosts.append(Ghost(key, running, self.world.clock + self.settings.copy_timeout, self))

    # Its calls

    async def call_sqs(self, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        self.must_live()
        await asyncio.sleep(SQS_SECONDS)
        if self.world.clock < self.world.throttled_until:
            raise ClientError({"Error": {"Code": "RequestThrottled"}}, operation)
        answer = getattr(self.world.queue, operation)(**arguments)
        end = self.world.clock + arguments.get("WaitTimeSeconds", 0)
        while operation == "receive_message" and not answer.get("Messages", []) and self.world.clock < end:
            await asyncio.sleep(POLL_SECONDS)
            self.must_live()
            answer = self.world.queue.receive_message(**arguments)
        await asyncio.sleep(SQS_SECONDS)
        return answer

    def must_live(self) -> None:
        if self.was_killed:
            raise asyncio.CancelledError

    async def call_s3(self, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        self.must_live()
        is_of_role = arguments["Bucket"] == self.settings.src_bucket or operation in WITH_ROLE
        if not is_of_role and (self.is_denied_sessions or self.world.clock < self.world.no_session_until):
            self.refused_at = min(self.refused_at, self.world.clock)
            code, asked = self.world.session_refusal
            with of_session():
                raise ClientError({"Error": {"Code": code}}, asked)
        is_slow = self.world.clock < self.world.slow_until and arguments["Bucket"] != self.settings.src_bucket
        if (
            code := "503"
            if is_slow
            else self.world.denies(operation, arguments.get("Key", arguments.get("Prefix", "")))
        ):
            await asyncio.sleep(next(self.lasts))
            raise ClientError({"Error": {"Code": code}}, operation.title().replace("_", ""))
        if operation == "list_objects_v2":
            page = self.world.listing(arguments)
            if seconds := next(self.listings):
                await asyncio.sleep(seconds)
            return page
        if operation == "list_multipart_uploads":
            return shaped(operation, self.world.uploads())
        return shaped(operation, await self.answer(arguments["Key"], Running(call_from(operation, arguments))))

    def seconds_of(self, _running: Running) -> float:
        return next(self.lasts)

    async def answer(self, key: str, running: Running) -> Any:
        """A copy reads the source early. What changes something goes on if nobody waits for it any more: then the
        process has to end itself."""
        call, still, answer, lasts = object(), running, None, self.seconds_of(running)
        is_copy = running.call.operation == "copy_object"
        to_act = 0.01 if is_copy else next(self.shares)
        try:
            while still:
                if running.call.operation in WRITES:
                    self.under_way[call] = key, still
                await asyncio.sleep(lasts * (1 - to_act if still.read else to_act))
                still, answer = self.world.serve(key, still)
            self.under_way.pop(call, None)
            if not is_copy and to_act < 1:
                await asyncio.sleep(lasts * (1 - to_act))
        except asyncio.CancelledError:
            self.alive = False
            if self.under_way.pop(call, None):
                self.leave(key, still)
            raise
        return answer


@dataclass(eq=False)
class Function(Living):
    """A process of the function: what it keeps from one invocation to the next."""

    stands_still: bool = False  # its clock, while it is frozen
    environment: dict[str, str] = field(default_factory=dict)
    bus: Any = None  # client of EventBridge
    slept: float = field(init=False, default=0.0)  # seconds that its clock did not see
    frozen_at: float = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.settings = load_function_settings(ENVIRONMENT | self.environment)
        clients = LastingClient(self.call_s3), LastingClient(self.call_sqs)
        buckets = Buckets(self.settings, clients[0], self.now, overwritten=self.world.overwritten)
        parts = Parts(buckets, Queue(clients[1], self.settings.queue_url), self.bus)
        self.process = first_responder.Process(self.loop, parts, rests_since=time.time())
        self.frozen_at = self.world.clock

    def now(self) -> float:
        return self.world.clock - self.slept

    def invoke(
        self,
        seconds: float,
        lasts: Iterable[float] = (0.1,),
        dies_after: float | None = None,
        meanwhile: Meanwhile = (),
    ) -> dict[str, Any]:
        """Its counts, none if it dies."""
        self.refused_at = math.inf
        self.process.rests_since = time.time() - (self.world.clock - self.frozen_at)
        self.slept += self.world.clock - self.frozen_at if self.stands_still else 0.0
        self.lasts = itertools.cycle(lasts)
        timers = [self.loop.call_later(after, happens) for after, happens in meanwhile]
        if dies_after is not None:
            timers.append(self.loop.call_later(dies_after, self.die))
        counts = self.run(first_responder.work(self.process, time.monotonic() + seconds))
        for timer in timers:
            timer.cancel()
        self.frozen_at = self.world.clock
        if not self.alive:
            self.loop.close()
        return counts or {}


class LastingClient(Client):
    """As Client, but what answers may wait."""

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        async def call(**arguments: Any) -> Any:
            arguments.pop("is_small", None)
            return await self.answer(operation, arguments)

        return call
