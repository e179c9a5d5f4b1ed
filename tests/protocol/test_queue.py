"""What the worker asks SQS for and makes of its answers, and how many calls are under way at a time."""

import asyncio

import pytest
from botocore.exceptions import ClientError
from fakes import FUNCTION_SETTINGS
from histories import World
from invocations import LastingClient
from tasks import Task

from mirror.concurrency import Slots
from mirror.protocol.attempt import KeySync
from mirror.protocol.verdict import COPY, MISSING
from mirror.queue.job import Job
from mirror.queue.messages import Queue, read_body
from mirror.readers.listing import Finding
from mirror.readers.repairs import Hints

pytestmark = pytest.mark.fast
GROUP = "reconcile"


class Sqs:
    """Answers with what it was given, and keeps what it was asked."""

    def __init__(self, **answers):
        self.answers, self.asked = answers, []
        self.queue = Queue(LastingClient(self.answer), "url")

    async def answer(self, operation, arguments):
        self.asked.append((operation, arguments))
        answer = self.answers.get(operation, {})
        if isinstance(answer, str) and len(self.asked) == 1:
            raise ClientError({"Error": {"Code": answer}}, operation)
        return answer if isinstance(answer, dict) else {}


def test_a_group_is_named_only_if_there_is_one():
    for group, named in ((GROUP, {"MessageGroupId": GROUP}), ("", {})):
        sqs = Sqs()
        asyncio.run(sqs.queue.send("body", 5000, group))
        asyncio.run(sqs.queue.send_batch(["one"], group))
        assert sqs.asked == [
            ("send_message", {"QueueUrl": "url", "MessageBody": "body", "DelaySeconds": 900} | named),
            ("send_message_batch", {"QueueUrl": "url", "Entries": [{"Id": "0", "MessageBody": "one"} | named]}),
        ]


def test_what_a_batch_lost_is_sent_alone_in_its_group():
    sqs = Sqs(send_message_batch={"Failed": [{"Id": "1"}]})
    asyncio.run(sqs.queue.send_batch(["a", "b"], GROUP))
    sent = {"QueueUrl": "url", "MessageBody": "b", "DelaySeconds": 0, "MessageGroupId": GROUP}
    assert sqs.asked[1:] == [("send_message", sent)]


def test_where_a_group_is_refused_the_message_goes_without_and_any_other_refusal_is_raised():
    sqs = Sqs(send_message="InvalidParameterValue")
    asyncio.run(sqs.queue.send("a", 30, GROUP))
    assert sqs.asked[1:] == [("send_message", {"QueueUrl": "url", "MessageBody": "a", "DelaySeconds": 30})]
    for code, group in (("InvalidParameterValue", ""), ("AccessDenied", GROUP)):
        with pytest.raises(ClientError, match=code):
            asyncio.run(Sqs(send_message=code).queue.send("a", 0, group))


def test_lists_that_the_queue_answers_as_null_are_empty():
    queue = Sqs(receive_message={"Messages": None}, delete_message_batch={"Failed": None}).queue
    assert asyncio.run(queue.receive(0, 1)) == []
    assert asyncio.run(queue.delete(["handle"])) == set()


def test_the_keys_of_a_comparison_are_sent_side_by_side_and_each_once():
    keys, bodies, under_way, most = [f"data/{number}" for number in range(5 * 80 + 3)], [], [], []

    async def answer(_operation, arguments):
        under_way.append(1)
        most.append(len(under_way))
        await asyncio.sleep(0)
        bodies.extend(entry["MessageBody"] for entry in arguments["Entries"])
        under_way.pop()
        return {}

    async def send_all():
        hints = Hints(FUNCTION_SETTINGS, Queue(LastingClient(answer), "url"))
        await hints.send([Finding(key, MISSING, COPY) for key in keys])
        assert hints.sent == 5 * 80  # the rest waits for a full batch
        await hints.send([], last=True)
        assert hints.sent == len(keys)

    asyncio.run(send_all())
    assert sorted(key for body in bodies for key in read_body(body, FUNCTION_SETTINGS).keys) == sorted(keys)
    assert max(most) == 5


def test_keys_that_wait_for_others_leave_half_of_the_room_beside_the_slots_to_long_copies():
    scheduler = Task(World(), {"MAX_CONCURRENT_KEYS": "2"}).worker.scheduler

    def goes_aside(number, step):
        sync = KeySync(str(number), host=scheduler)
        scheduler.by_key[sync.key] = Job(sync, has_slot=True)
        scheduler.slots -= 1
        is_aside = step(sync)
        if not is_aside:
            scheduler.free_slot(scheduler.by_key.pop(sync.key))
        return is_aside

    assert sum(goes_aside(number, scheduler.wait_aside) for number in range(20)) == 4
    assert sum(goes_aside(number, scheduler.step_aside) for number in range(20, 40)) == 4


# --- Parts side by side: this many at a time in all, and keys take turns ----------------------------------------------


def test_two_that_share_the_slots_take_turns():
    slots, begun = Slots(2), []

    async def copy(part):
        begun.append(part)
        await asyncio.sleep(0.01)

    async def both():
        await asyncio.gather(*(slots.run(copy, [f"{key}{n}" for n in range(6)]) for key in "ab"))

    asyncio.run(both())
    assert sorted(begun) == sorted(f"{key}{n}" for key in "ab" for n in range(6))
    assert {part[0] for part in begun[2:6]} == {"a", "b"}


def test_after_an_error_or_a_cancellation_none_is_begun_and_the_slots_are_free_again():
    slots, begun, ended = Slots(3), [], []

    async def copy(part):
        begun.append(part)
        if part == 1:
            raise ValueError("part 1")
        await asyncio.sleep(0.05)
        ended.append(part)

    async def all_of_it():
        with pytest.raises(ValueError, match="part 1"):
            await slots.run(copy, range(10))
        assert (begun, ended) == ([0, 1], [0])  # those under way are waited for
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(slots.run(copy, range(2, 10)), 0.01)
        slow = asyncio.create_task(slots.run(copy, range(2, 10)))
        await asyncio.sleep(0)
        slow.cancel()  # before the first of them has begun
        await asyncio.sleep(0.1)
        assert ended == [0]
        await asyncio.wait_for(slots.run(copy, [11, 12, 13]), 5)
        assert ended == [0, 11, 12, 13]

    asyncio.run(all_of_it())
