"""What only the stand-in has: events, and what goes wrong on demand. Its lifecycle shows in a month
(tests/bench/test_month.py), what it measures in tests/bench/test_benches.py, and the rules that it follows as the
others do are in s3_rules.py and sqs_rules.py.
"""

import json
from typing import Any
from urllib.parse import unquote_plus

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


def records(standin: Standin) -> list[tuple[str, dict[str, Any]]]:
    found = [json.loads(message["body"])["Records"][0] for message in standin.messages(QUEUE)]
    return [(record["eventName"], record["s3"]) for record in found]


def test_every_write_and_delete_sends_an_event(standin, s3):
    """Guide, notification-how-to-event-types-and-destinations"""
    standin.create_queue(QUEUE)
    standin.notify(SOURCE, QUEUE)
    s3.put_object(Bucket=SOURCE, Key="b", Body=b"1")
    s3.copy_object(Bucket=SOURCE, Key="c", CopySource=f"{SOURCE}/a")
    s3.delete_object(Bucket=SOURCE, Key="b")
    s3.delete_object(Bucket=SOURCE, Key="never there")
    standin.put(SOURCE, "d", storage_class="GLACIER")
    standin.restore(SOURCE, "d")
    standin.configure_bucket(SOURCE, versioning="Enabled")
    s3.delete_object(Bucket=SOURCE, Key="a")
    assert [(name, told["object"]["key"]) for name, told in records(standin)] == [
        ("ObjectCreated:Put", "b"),
        ("ObjectCreated:Copy", "c"),
        ("ObjectRemoved:Delete", "b"),
        ("ObjectCreated:Put", "d"),
        ("ObjectRestore:Completed", "d"),
        ("ObjectRemoved:DeleteMarkerCreated", "a"),
    ]


def test_an_event_has_a_form_encoded_key_and_can_be_doubled_and_late(standin):
    """Guide, notification-content-structure and NotificationHowTo: a space is a +"""
    standin.create_queue(QUEUE)
    standin.notify(SOURCE, QUEUE, duplicate=1.0, max_delay=300.0, seed=1)
    keys = ["my files/a b+c&é=(1).txt", "é=/c", *(f"my files/{number}" for number in range(10))]
    standin.put_many(SOURCE, keys, 5)
    told = [told["object"] for _, told in records(standin)]
    assert {unquote_plus(found["key"]) for found in told} == {*keys}
    assert "my+files/a+b%2Bc%26%C3%A9%3D%281%29.txt" in {found["key"] for found in told}
    assert (len({found["sequencer"] for found in told}), {found["size"] for found in told}) == (12, {5})
    arrivals = [message["visible_at"] for message in standin.messages(QUEUE)]
    assert (len(arrivals), arrivals == sorted(arrivals)) == (24, False)


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
