"""When the starter takes a worker for full, and starts another, that worker receives no more."""

from itertools import count

import pytest
from fakes import ENVIRONMENT
from histories import Process, World

from launch.decision import ROUNDING, decide
from launch.tasks import Task
from mirror.model.services import SQS_BATCH
from mirror.settings import load_settings


def messages_of_a_full_worker(keys, processes=1):
    """The fewest in flight for which another worker is started, if one runs and one message waits."""
    settings = {"MAX_CONCURRENT_KEYS": keys, "PROCESSES": processes, "MESSAGES_PER_WORKER": 1}
    settings |= {"MIN_WORKERS": 0, "MAX_WORKERS": 2, "LAMBDA_POLL_RATE": 1}
    running = [Task("arn", created=0, started=1)]
    return next(number for number in count(1) if decide(1, number, running, 1000, settings).start)


@pytest.mark.parametrize("batch", [1, SQS_BATCH])
@pytest.mark.parametrize("keys", [1, 2, 9, 10, 11, 12, 13, 16, 256])
def test_the_starter_takes_no_worker_for_full_before_it_is(keys, batch):
    """`batch`: this many messages come at once, each on a key of its own."""
    world = World(load_settings(ENVIRONMENT | {"MAX_CONCURRENT_KEYS": str(keys)}))
    world.queue.limit = batch
    for number in range(2 * keys + SQS_BATCH):
        world.change(f"data/{number}", "put x")
    process = Process(world)
    while process.worker.scheduler.has_room():
        process.receive()
    held, full = len(process.worker.leases.held), messages_of_a_full_worker(keys)
    assert full <= held <= max(full + ROUNDING + batch, SQS_BATCH)
    assert messages_of_a_full_worker(keys, processes=3) == 3 * full
