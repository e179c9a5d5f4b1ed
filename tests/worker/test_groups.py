"""Message groups: reconcile's messages let the events of S3 go first, in SQS and in the worker."""

import asyncio
import json
from collections.abc import Callable

import pytest
from fakes import FUNCTION_SETTINGS
from world import MIRROR, QUEUE, SOURCE

from mirror.model.errors import Postponed
from mirror.protocol.attempt import KeySync
from mirror.protocol.verdict import COPY, MISSING
from mirror.queue.bodies import Content, hint_body, read_body
from mirror.queue.job import Job
from mirror.queue.leases import Lease
from mirror.queue.queue import Received
from mirror.readers.listing import Finding
from mirror.readers.repairs import Hints

GROUP = "reconcile"


def groups(world) -> list[str]:
    return [message["group"] for message in world.standin.messages(QUEUE)]


def sent(world, operation: str) -> list[dict]:
    return [json.loads(request["body"]) for request in world.standin.requests(operation)]


@pytest.mark.parametrize("client", ["crt", "boto3"])
def test_a_message_says_its_group_and_an_event_has_none(world, client):
    world.standin.send(QUEUE, hint_body(SOURCE, ["a"]), group=GROUP)
    world.put("b")
    received = world.run(world.worker(S3_CLIENT=client).leases.receive(0))
    assert [lease.received.group for lease in received] == [GROUP, ""]


def test_a_message_without_a_group_is_sent_as_ever(world):
    world.standin.record()
    queue = world.worker().leases.queue
    world.run(queue.send("body", 5))
    world.run(queue.send_batch(["one"]))
    assert [set(body) for body in sent(world, "SendMessage")] == [{"QueueUrl", "MessageBody", "DelaySeconds"}]
    assert [set(body["Entries"][0]) for body in sent(world, "SendMessageBatch")] == [{"Id", "MessageBody"}]


@pytest.mark.parametrize("group", [GROUP, ""])
def test_a_message_that_is_handed_back_keeps_its_group(world, group):
    world.standin.send(QUEUE, hint_body(SOURCE, ["a"]), group=group)
    held = world.worker().leases

    async def hand_back() -> None:
        [lease] = await held.receive(0)
        held.end_key([lease], KeySync("a"), Postponed("later", 60, is_exact=True))
        await held.settle(held.take_batch())

    world.run(hand_back())
    assert groups(world) == [group]
    assert world.standin.queue(QUEUE)["delayed"] == 1


def test_what_a_batch_lost_is_sent_alone_in_its_group(world):
    queue = world.worker().leases.queue
    answered = queue.sqs.send_message_batch

    async def refused(**parameters):
        await answered(**parameters | {"Entries": parameters["Entries"][:1]})
        return {"Failed": [{"Id": "1"}]}

    queue.sqs.send_message_batch = refused
    world.run(queue.send_batch(["a", "b"], GROUP))
    assert groups(world) == [GROUP, GROUP]


def test_where_a_group_is_refused_the_message_goes_without(world):
    world.standin.fault("SendMessage", "error", status=400, code="InvalidParameterValue", times=1)
    world.run(world.worker().leases.queue.send("a", 30, GROUP))
    assert groups(world) == [""]
    assert world.standin.queue(QUEUE)["delayed"] == 1


@pytest.mark.parametrize(("code", "group"), [("InvalidParameterValue", ""), ("AccessDenied", GROUP)])
def test_any_other_refusal_is_raised(world, code, group):
    world.standin.fault("SendMessage", "error", status=400, code=code, times=1)
    with pytest.raises(Exception, match=code):
        world.run(world.worker().leases.queue.send("a", 0, group))
    assert groups(world) == []


def test_in_the_worker_an_event_waits_behind_no_backfill(world):
    scheduler = world.worker(MAX_CONCURRENT_KEYS="1").scheduler
    messages = [(GROUP, "old/1"), (GROUP, "old/2"), ("", "new/1"), (GROUP, "old/3"), ("", "new/2")]

    async def order() -> list[str]:
        for group, key in messages:
            scheduler.add(key, Lease(Received("", "", 1, group), 0.0, 0.0, 0.0, Content({key})))
        assert scheduler.at_work() == len(messages)
        return [job.sync.key for job in iter(scheduler.next_waiting, None)]

    assert world.run(order()) == ["new/1", "new/2", "old/1", "old/2", "old/3"]


def test_keys_that_wait_for_others_leave_half_of_the_room_beside_the_slots_to_long_copies(world):
    scheduler = world.worker(MAX_CONCURRENT_KEYS="2").scheduler

    def goes_aside(number: int, step: Callable[[KeySync], bool]) -> bool:
        sync = KeySync(str(number), host=scheduler)
        scheduler.by_key[sync.key] = Job(sync, has_slot=True)
        scheduler.slots -= 1
        is_aside = step(sync)
        if not is_aside:
            scheduler.free_slot(scheduler.by_key.pop(sync.key))
        return is_aside

    assert sum(goes_aside(number, scheduler.wait_aside) for number in range(20)) == 4
    assert sum(goes_aside(number, scheduler.step_aside) for number in range(20, 40)) == 4


def test_a_stopping_worker_hands_back_what_waits_of_the_backfill(world):
    world.standin.latency("CopyObject", ms=1000)
    for number in range(12):
        world.put(f"k{number}")
    bodies = [json.loads(message["body"]) for message in world.standin.messages(QUEUE)]
    world.standin.create_queue(QUEUE, visibility_timeout=7200)
    for body in bodies:
        world.standin.send(QUEUE, json.dumps(body), group=GROUP)
    process = world.start_worker(MAX_CONCURRENT_KEYS="4")
    while not world.requests().get("CopyObject"):
        assert process.poll() is None
    world.stop_worker(process)
    assert process.returncode == 0
    left = world.standin.messages(QUEUE)
    assert len(left) + len(world.standin.objects(MIRROR)) == 12
    assert {(message["group"], message["receive_count"]) for message in left} == {(GROUP, 0)}


class QueueOfSends:
    """Counts the requests that are under way at a time."""

    def __init__(self) -> None:
        self.bodies: list[str] = []
        self.under_way = self.most = 0

    async def send_batch(self, bodies: list[str], _group: str) -> None:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(0)
        self.bodies += bodies
        self.under_way -= 1


def test_the_keys_of_a_comparison_are_sent_side_by_side_and_each_once():
    queue, keys = QueueOfSends(), [f"data/{number}" for number in range(5 * 80 + 3)]
    hints = Hints(FUNCTION_SETTINGS, queue)

    async def send_all() -> None:
        await hints.send([Finding(key, MISSING, COPY) for key in keys])
        assert hints.sent == 5 * 80  # the rest waits for a full batch
        await hints.send([], last=True)

    asyncio.run(send_all())
    sent = [list(read_body(body, FUNCTION_SETTINGS).keys) for body in queue.bodies]
    assert sorted(key for some in sent for key in some) == sorted(keys)
    assert queue.most == 5
    assert hints.sent == len(keys)
