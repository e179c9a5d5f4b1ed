"""Puts the parts of one process together, for a task as for the function. All of them belong to one event loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from mirror.aws.boto3_clients import Clients
from mirror.log_writer import writer
from mirror.loop import OF_TASK, Bounds, Worker
from mirror.model.services import Events
from mirror.options import options_for
from mirror.options.announcer import PAUSE_SECONDS, SEND_SECONDS
from mirror.protocol.buckets import Buckets
from mirror.queue.queue import Queue
from mirror.settings import Settings


class Parts(NamedTuple):
    """What a worker works on. The function keeps them from one invocation to the next."""

    buckets: Buckets
    queue: Queue
    events: Events | None  # None if nothing is announced


def make_parts(settings: Settings, clients: Clients) -> Parts:
    queue = Queue(clients.sqs(), settings.queue_url)
    return Parts(Buckets(settings, clients.s3()), queue, clients.events() if settings.announces else None)


def make_worker(
    settings: Settings,
    parts: Parts,
    bounds: Bounds = OF_TASK,
    events: tuple[float, float] = (SEND_SECONDS, PAUSE_SECONDS),
    show: Callable[[str], None] = writer.put,
) -> Worker:
    """`bounds`: of its end. `events` and `show`: see options_for()."""
    return Worker(settings, parts.buckets, parts.queue, bounds, options_for(parts.buckets, parts.events, events, show))
