"""What only the stand-in has: events, and what goes wrong on demand. Its lifecycle shows in a month
(tests/bench/test_month.py), what it measures in tests/bench/test_benches.py, and the rules that it follows as the
others do are in s3_rules.py and sqs_rules.py.
"""

import json
from collections import Counter
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError
from faces import client
from standin import Standin
from world import wait_until

SOURCE = "source"
MIRROR = "mirror--use1-az4--x-s3"
QUEUE = "events"


@pytest.fixture
def s3(standin: Standin) -> Any:
    return client("s3", standin.url)


@pytest.fixture(autouse=True)
def _fresh_buckets(standin: Standin) -> None:
    standin.reset()
    for name in (SOURCE, MIRROR):
        standin.create_bucket(name)
        standin.put(name, "a")


def copy(s3: Any, key: str = "a") -> Any:
    return s3.copy_object(Bucket=MIRROR, Key=key, CopySource={"Bucket": SOURCE, "Key": key})


def test_a_copy_ends_although_its_client_has_gone_and_a_long_poll_takes_no_message(standin):
    """API, CopyObject: a client that disconnects may, but need not, stop the copy"""
    standin.put(SOURCE, "b")
    standin.hold("CopyObject")
    with pytest.raises(ReadTimeoutError):
        copy(client("s3", standin.url, read_timeout=0.05), "b")
    assert set(standin.objects(MIRROR)) == {"a"}
    standin.release("CopyObject")
    wait_until(lambda: "b" in standin.objects(MIRROR))
    url = standin.create_queue(QUEUE)
    with pytest.raises(ReadTimeoutError):
        client("sqs", standin.url, read_timeout=0.1).receive_message(QueueUrl=url, WaitTimeSeconds=20)
    wait_until(lambda: not standin.stats()["in_flight"]["ReceiveMessage"])
    standin.send(QUEUE, "a")
    assert standin.queue(QUEUE)["visible"] == 1


# ---------------------------------------------------------------- events


def test_each_change_sends_an_event_with_a_form_encoded_key_which_can_be_doubled_and_late(standin, s3):
    """Guide, notification-content-structure and NotificationHowTo: a space is a +"""
    standin.create_queue(QUEUE)
    standin.notify(SOURCE, QUEUE, duplicate=1.0, max_delay=300.0, seed=1)
    s3.put_object(Bucket=SOURCE, Key="my files/a b+c&é=(1).txt", Body=b"1")
    s3.copy_object(Bucket=SOURCE, Key="c", CopySource=f"{SOURCE}/a")
    s3.delete_object(Bucket=SOURCE, Key="c")
    s3.delete_object(Bucket=SOURCE, Key="never there")
    standin.put(SOURCE, "d", storage_class="GLACIER")
    standin.restore(SOURCE, "d")
    found = standin.messages(QUEUE)
    records = [json.loads(message["body"])["Records"][0] for message in found]
    keys = Counter(record["s3"]["object"]["key"] for record in records)
    assert keys == {"my+files/a+b%2Bc%26%C3%A9%3D%281%29.txt": 2, "c": 4, "d": 4}
    assert len({record["s3"]["object"]["sequencer"] for record in records}) == 5
    arrivals = [message["visible_at"] for message in found]
    assert arrivals != sorted(arrivals)


# ---------------------------------------------------------------- faults


@pytest.mark.parametrize(
    ("kind", "shown", "is_done"),
    [
        ("error_in_200", "InternalError", False),
        ("empty_200", "{}", False),
        ("reset", "closed", False),
        ("hang", "closed", False),
        ("lost", "closed", True),
    ],
)
def test_what_the_client_sees_of_a_fault_and_whether_s3_has_done_the_work(standin, s3, kind, shown, is_done):
    """API, CopyObject, Response and special errors"""
    standin.put(SOURCE, "b")
    standin.fault("CopyObject", kind, seconds=0.2)
    try:
        found = str(copy(s3, "b")["CopyObjectResult"])
    except ClientError as error:
        found = error.response["Error"]["Code"]
    except ConnectionClosedError:
        found = "closed"
    assert shown in found
    assert ("b" in standin.objects(MIRROR)) == is_done
