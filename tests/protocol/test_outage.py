"""A fault of the surroundings costs no message a receive; a fault of a key costs that key alone its three."""

import logging

import pytest
from histories import World

from mirror.worker import OUTAGE_STATUS


def put(world: World, count: int, prefix: str = "data/k") -> list[str]:
    keys = [f"{prefix}{number}" for number in range(count)]
    for key in keys:
        world.change(key, "put x")
    return keys


def work_for(world: World, seconds: int) -> None:
    """One worker, that receives as long as it has room, with a heartbeat every second."""
    for _ in range(seconds):
        if not world.processes or world.processes[0].worker.jobs.has_room():
            world.work()
        world.pass_time(1)


def most_receives(world: World) -> int:
    return max((message.receives for message in [*world.queue.messages, *world.queue.dead]), default=0)


@pytest.mark.parametrize(
    "code", ["403", "AccessDenied", "ExpiredToken", "400", "InvalidAccessKeyId", "KMS.DisabledException"]
)
def test_what_fails_for_all_keys_for_minutes_uses_up_no_receive(world, code, caplog):
    caplog.set_level(logging.INFO)
    put(world, 40)
    until = world.clock + 200
    world.denies = lambda _operation, _key: code if world.clock < until else ""
    work_for(world, 190)
    assert (most_receives(world), len(world.queue.dead)) == (1, 0)
    work_for(world, 120)
    assert world.queue.messages == world.queue.dead == []
    assert world.differences() == []
    lines = [record.message for record in caplog.records]
    assert sum(line.startswith("outage: ") for line in lines) == 1
    assert sum(line.startswith("outage over after ") for line in lines) == 1
    assert not any(line.startswith("failed key=") for line in lines)


def test_in_an_outage_few_requests_are_made(world):
    put(world, 40)
    asked = []
    world.denies = lambda operation, _key: asked.append(operation) or "403"
    work_for(world, 30)
    before = len(asked)
    work_for(world, 120)
    assert len(asked) - before <= 18  # nine looks, each asked again for its reason


def test_copies_that_are_all_denied_are_an_outage_although_deletes_work(world):
    for number in range(20):
        put(world, 1, f"data/{number}-")
        for key in put(world, 1, f"data/{number}-gone"):
            world.change(key, "delete")
    world.denies = lambda operation, _key: "AccessDenied" if operation == "copy_object" else ""
    work_for(world, 60)
    assert (most_receives(world), len(world.queue.dead)) == (1, 0)


def test_an_outage_that_lasts_ends_the_worker_with_a_status_of_its_own_and_hands_all_back(world, caplog):
    put(world, 40)
    world.denies = lambda _operation, _key: "403"
    work_for(world, 630)
    (process,) = world.processes
    process.finish()
    assert process.worker.exit_status == OUTAGE_STATUS == 3
    assert process.worker.stopping.is_set()
    assert [message.receives for message in world.queue.messages] == [0] * 40
    assert "the worker ends: operation=HeadObject error=403" in caplog.text
    world.denies = lambda _operation, _key: ""
    world.processes.clear()
    world.settle()
    assert world.differences() == []


def test_keys_that_are_denied_beside_others_that_are_not_fail_by_themselves(world, caplog):
    put(world, 20, "data/denied")
    put(world, 20, "data/fine")
    world.denies = lambda _operation, key: "403" if "denied" in key else ""
    work_for(world, 60)
    assert world.differences() and all("denied" in line for line in world.differences())
    work_for(world, 600)
    assert len(world.queue.dead) == 20
    assert world.queue.messages == []
    assert world.processes[0].worker.exit_status == 0
    assert "outage" not in caplog.text


def test_one_key_that_is_denied_has_three_tries(world, caplog):
    put(world, 1)
    world.denies = lambda _operation, _key: "403"
    work_for(world, 8)
    assert 'failed key="data/k0" attempt=1/3 operation=HeadObject error=403' in caplog.text
    work_for(world, 300)
    assert (world.queue.messages, len(world.queue.dead)) == ([], 1)


def test_what_is_denied_when_the_worker_stops_is_handed_back(world):
    put(world, 1)
    world.denies = lambda _operation, _key: "403"
    world.work()
    world.processes[0].stop()
    world.processes[0].finish()
    assert [message.receives for message in world.queue.messages] == [0]
