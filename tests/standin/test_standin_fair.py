"""Fair queues in the stand-in: whose message comes next (SQS Developer Guide, "How Amazon SQS fair queues work")."""

from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from standin import Standin
from standin_fair import NOISY_IN_FLIGHT, QUIET_SECONDS, Message, Queue

QUEUE = "events"
HOUR = 3600.0


def put(queue: Queue, name: str, group: str = "", now: float = 0.0) -> None:
    queue.add(Message(name, name, {}, now, now, group=group))


def take(queue: Queue, count: int = 1, now: float = 1.0, visibility: float = HOUR) -> list[str]:
    """Names of messages that are in flight from now on."""
    names = []
    for _ in range(count):
        if message := queue.take_next(now):
            queue.count_in_flight(message, 1)
            queue.show_at(message, now + visibility)
            names.append(message.id)
    return names


def drop(queue: Queue, names: list[str]) -> None:
    for name in names:
        queue.remove(queue.messages[name])


def with_backlog(count: int, **settings: Any) -> Queue:
    """Messages of one group, then one of none."""
    queue = Queue(QUEUE, **settings)
    for number in range(count):
        put(queue, f"b{number}", "backfill", number / count)
    put(queue, "live", now=1.0)
    return queue


def test_a_tenant_with_30_in_flight_and_more_than_a_tenth_lets_the_others_go_first() -> None:
    queue = with_backlog(100)
    assert take(queue, NOISY_IN_FLIGHT) == [f"b{number}" for number in range(NOISY_IN_FLIGHT)]
    assert take(queue, 2) == ["live", "b30"]


def test_fewer_in_flight_or_a_smaller_share_is_not_noisy() -> None:
    queue = with_backlog(100)
    take(queue, NOISY_IN_FLIGHT - 1)
    assert take(queue) == ["b29"]
    queue = Queue(QUEUE)
    for number in range(NOISY_IN_FLIGHT * 9):
        put(queue, f"a{number}")
    take(queue, NOISY_IN_FLIGHT * 9)
    for number in range(60):
        put(queue, f"b{number}", "backfill", 0.5)
    put(queue, "live", now=0.9)
    assert "live" not in take(queue, NOISY_IN_FLIGHT)  # a tenth, not more
    assert take(queue, 2) == ["b30", "live"]


def test_messages_without_a_group_are_never_noisy() -> None:
    queue = Queue(QUEUE)
    for number in range(100):
        put(queue, f"a{number}")
    put(queue, "b", "backfill", 0.5)
    assert take(queue, 101)[-1] == "b"


def test_a_queue_that_is_not_fair_gives_the_oldest_first() -> None:
    assert take(with_backlog(100, is_fair=False), 101)[-1] == "live"


def test_nothing_is_dropped_and_a_noisy_tenant_goes_on_if_no_other_waits() -> None:
    queue = with_backlog(100)
    assert sorted(take(queue, 200)) == sorted([*(f"b{number}" for number in range(100)), "live"])


def test_it_stays_noisy_until_its_backlog_is_gone() -> None:
    queue = with_backlog(40)
    taken = take(queue, NOISY_IN_FLIGHT)
    assert take(queue) == ["live"]
    drop(queue, taken)
    put(queue, "live2", now=1.0)
    assert take(queue, 2) == ["live2", "b30"]
    assert len(take(queue, 10)) == 9
    put(queue, "b40", "backfill", 1.0)
    put(queue, "live3", now=1.0)
    assert take(queue, 2) == ["b40", "live3"]


def test_it_is_quiet_again_after_5_minutes_with_none_in_flight() -> None:
    queue = with_backlog(40)
    taken = take(queue, NOISY_IN_FLIGHT)
    assert take(queue) == ["live"]
    drop(queue, taken)
    now = 2 + QUIET_SECONDS
    put(queue, "live2", now=now)
    assert take(queue, 11, now)[-1] == "live2"


def test_of_two_noisy_tenants_the_one_with_fewer_in_flight_goes_first() -> None:
    queue = Queue(QUEUE)
    for tenant, count in (("a", 35), ("b", 38)):
        for number in range(60):
            put(queue, f"{tenant}{number}", tenant)
        taken = take(queue, count)
    assert taken == [*(f"b{number}" for number in range(35)), "a35", "b35", "a36"]


def test_what_is_not_deleted_in_time_is_in_flight_no_more() -> None:
    queue = with_backlog(40)
    take(queue, NOISY_IN_FLIGHT, now=1.0, visibility=10)
    assert queue.in_flight == NOISY_IN_FLIGHT
    queue.take_back(12.0)
    assert queue.in_flight == queue.tenants["backfill"].in_flight == 0


def test_the_group_is_told_if_it_is_asked_for_and_outlives_the_dead_letter_queue(standin: Standin) -> None:
    standin.reset()
    config = Config(region_name="us-east-1", retries={"total_max_attempts": 1})
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    sqs = boto3.client("sqs", endpoint_url=standin.url, config=config, **keys)
    url = standin.create_queue(QUEUE, visibility_timeout=0, max_receive_count=1, dead_letter_queue="dead")
    entry = {"Id": "0", "MessageBody": "a", "MessageGroupId": "reconcile", "DelaySeconds": 0}
    sqs.send_message_batch(QueueUrl=url, Entries=[entry])
    [message] = sqs.receive_message(QueueUrl=url, MessageSystemAttributeNames=["MessageGroupId"])["Messages"]
    assert message["Attributes"] == {"MessageGroupId": "reconcile"}
    assert "Messages" not in sqs.receive_message(QueueUrl=url)
    assert [held["group"] for held in standin.messages("dead")] == ["reconcile"]
    for group in ("a b", "a" * 129):
        with pytest.raises(ClientError, match="InvalidParameterValue"):
            sqs.send_message(QueueUrl=url, MessageBody="a", MessageGroupId=group)
