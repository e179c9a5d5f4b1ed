"""What the starter takes for a full worker (launch/decision.py) is what a process holds that receives no more."""

import pytest
from fakes import ENVIRONMENT
from histories import Process, World

from launch.decision import RECEIVED_AT_ONCE, ROUNDING, held_by_full_worker
from mirror.model.services import SQS_BATCH
from mirror.settings import load_settings


@pytest.mark.parametrize("batch", [1, SQS_BATCH])
@pytest.mark.parametrize("keys", [1, 2, 9, 10, 11, 12, 13, 16, 256, 1024])
def test_the_starter_takes_no_worker_for_full_before_it_is(keys, batch):
    """`batch`: this many messages come at once, each on a key of its own."""
    world = World(load_settings(ENVIRONMENT | {"MAX_CONCURRENT_KEYS": str(keys)}))
    world.queue.limit = batch
    for number in range(2 * keys + SQS_BATCH):
        world.change(f"data/{number}", "put x")
    process = Process(world)
    while process.worker.scheduler.has_room():
        process.receive()
    held = len(process.worker.leases.held)
    full = held_by_full_worker({"MAX_CONCURRENT_KEYS": keys, "PROCESSES": 1})
    assert 1 <= full <= held <= max(full + ROUNDING + batch, SQS_BATCH)
    assert held_by_full_worker({"MAX_CONCURRENT_KEYS": keys, "PROCESSES": 3}) == 3 * full


def test_a_worker_with_the_defaults_holds_500():
    assert held_by_full_worker({"MAX_CONCURRENT_KEYS": 256, "PROCESSES": 1}) == 500
    assert RECEIVED_AT_ONCE == SQS_BATCH
