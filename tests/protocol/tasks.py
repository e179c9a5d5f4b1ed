"""A task in the world of histories.py: the real Worker.run(), with its heartbeat and its end, on a clock of its own."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError, ReadTimeoutError
from fakes import ENVIRONMENT, Running
from histories import World
from invocations import LastingClient, Living, Meanwhile

from mirror.function import end_tasks
from mirror.loop import OF_TASK, Parts, make_worker
from mirror.protocol.buckets import Buckets
from mirror.queue.messages import Queue
from mirror.settings import load_settings

SILENCE = 20  # seconds after which a client of SQS gives up; mirror/aws/boto3_clients.py
FOREVER = 20_000  # seconds in which each has ended, and fails if it has not
SLOW_END = sum(OF_TASK[1:5]) + 1  # seconds in which a task has ended after SIGTERM, whatever does not answer


@dataclass(eq=False)
class Task(Living):
    """A process of a task, from its start to its end. `seconds`: how long S3 takes for an operation on a key.

    `troubles`: operation of SQS -> until when it fails, and the error code, or "" if it does not answer.
    `late`: operation of SQS -> after how many seconds each request reaches it.
    """

    environment: dict[str, str] = field(default_factory=dict)
    seconds: Callable[[str, str], float] | None = None
    bus: Any = None  # client of EventBridge
    lines: list[str] = field(init=False, default_factory=list)  # bare ones of the log
    troubles: dict[str, tuple[float, str]] = field(init=False, default_factory=dict)
    late: dict[str, Iterator[float]] = field(init=False, default_factory=dict)
    asked: Counter[str] = field(init=False, default_factory=Counter)  # operation -> requests
    now_asked: Counter[str] = field(init=False, default_factory=Counter)  # that are under way
    most_asked: Counter[str] = field(init=False, default_factory=Counter)  # at a time
    renew: Callable[[], Any] | None = field(init=False, default=None)  # of the S3 Express session

    def __post_init__(self) -> None:
        super().__post_init__()
        self.settings = load_settings(ENVIRONMENT | self.environment)
        s3, sqs = LastingClient(self.call_s3), LastingClient(self.call_sqs)
        s3.renew_session = self.renew_session  # type: ignore[method-assign]
        now = self.loop.time
        buckets = Buckets(self.settings, s3, now, now, overwritten=self.world.overwritten)
        parts = Parts(buckets, Queue(sqs, "https://queue"), self.bus)
        self.worker = make_worker(parts, show=self.lines.append)

    def live(self, seconds: float | None = None, meanwhile: Meanwhile = ()) -> int | None:
        """Works until it ends by itself, or for that long until SIGTERM. Its exit status, None if it dies."""
        stop = [] if seconds is None else [(seconds, self.worker.stop)]
        timers = [self.loop.call_later(after, happens) for after, happens in [*stop, *meanwhile]]
        timers.append(self.loop.call_later(FOREVER, lambda: self.work.cancel()))
        try:
            return self.run(self.whole_life())
        finally:
            for timer in timers:
                timer.cancel()
            self.alive = False
            self.loop.close()

    async def whole_life(self) -> int:
        try:
            return await self.worker.run()
        finally:
            await end_tasks()

    async def renew_session(self) -> None:
        if self.renew:
            await self.renew()

    async def call_sqs(self, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        self.asked[operation] += 1
        if seconds := next(self.late.get(operation, iter(())), 0):
            await asyncio.sleep(seconds)
        until, code = self.troubles.get(operation, (0.0, ""))
        if self.world.clock >= until:
            return await super().call_sqs(operation, arguments)
        if code:
            raise ClientError({"Error": {"Code": code}}, operation.title().replace("_", ""))
        await asyncio.sleep(SILENCE)
        raise ReadTimeoutError(endpoint_url="")

    async def call_s3(self, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        self.asked[operation] += 1
        self.now_asked[operation] += 1
        self.most_asked[operation] = max(self.most_asked[operation], self.now_asked[operation])
        try:
            return await super().call_s3(operation, arguments)
        finally:
            self.now_asked[operation] -= 1

    def seconds_of(self, running: Running) -> float:
        if self.seconds:
            return self.seconds(running.call.operation, running.call.key)
        return super().seconds_of(running)


def settle(world: World, **environment: str) -> None:
    """No more trouble: tasks work everything off."""
    world.settle(lambda: Task(world, environment).live())
