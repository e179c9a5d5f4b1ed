"""What only the stand-in has: its control API, what goes wrong on demand, events, and what it measures. The rules that
it follows as the others do are in s3_rules.py and sqs_rules.py."""

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote_plus

import boto3
import pytest
import standin_faults
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ConnectionClosedError, ReadTimeoutError
from standin import Standin
from standin_faults import Fault
from standin_store import GIB
from world import wait_until

SOURCE = "source"
MIRROR = "mirror--use1-az4--x-s3"
QUEUE = "events"


def client(standin: Standin, service: str, token: str | None = None, read_timeout: float = 60) -> Any:
    retries: Any = {"total_max_attempts": 1}
    config = Config(region_name="us-east-1", retries=retries, read_timeout=read_timeout, max_pool_connections=20)
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "aws_session_token": token}
    return boto3.client(service, endpoint_url=standin.url, config=config, **keys)


@pytest.fixture
def s3(standin: Standin) -> Any:
    return client(standin, "s3")


@pytest.fixture
def sqs(standin: Standin) -> Any:
    return client(standin, "sqs")


@pytest.fixture(autouse=True)
def _fresh_buckets(standin: Standin) -> None:
    standin.reset()
    for name in (SOURCE, MIRROR):
        standin.create_bucket(name)
        standin.put(name, "a")


def outcome(call: Callable[..., Any], **arguments: Any) -> str:
    """ "ok", or the code of the refusal."""
    try:
        call(**arguments)
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return "ok"


def head(s3: Any, bucket: str = SOURCE) -> str:
    return outcome(s3.head_object, Bucket=bucket, Key="a")


def copy(s3: Any, key: str = "a") -> Any:
    return s3.copy_object(Bucket=MIRROR, Key=key, CopySource={"Bucket": SOURCE, "Key": key})


def copies(s3: Any, count: int) -> list[str]:
    return [outcome(copy, s3=s3) for _ in range(count)]


def receive(sqs: Any, url: str, **arguments: Any) -> list[str]:
    return [message["Body"] for message in sqs.receive_message(QueueUrl=url, **arguments).get("Messages", [])]


def in_background(work: Callable[..., Any], *args: Any) -> threading.Thread:
    thread = threading.Thread(target=work, args=args)
    thread.start()
    return thread


def polling(standin: Standin, sqs: Any, url: str) -> tuple[threading.Thread, list[list[str]]]:
    """A long poll that is under way, and where its answer will be."""
    received: list[list[str]] = []
    thread = in_background(lambda: received.append(receive(sqs, url, WaitTimeSeconds=20)))
    wait_until(lambda: standin.stats()["in_flight"].get("ReceiveMessage"))
    return thread, received


def test_reading_bytes_fails_and_is_counted(standin, s3):
    """The rule of this project: no byte passes through the worker."""
    assert outcome(s3.get_object, Bucket=SOURCE, Key="a") == "NotImplemented"
    assert standin.stats()["requests"]["GetObject"] == 1


def test_a_copy_ends_although_its_client_has_gone(standin):
    """API, CopyObject: a client that disconnects may, but need not, stop the copy"""
    standin.put(SOURCE, "b")
    standin.hold("CopyObject")
    with pytest.raises(ReadTimeoutError):
        copy(client(standin, "s3", read_timeout=0.05), "b")
    assert set(standin.objects(MIRROR)) == {"a"}
    standin.release("CopyObject")
    wait_until(lambda: "b" in standin.objects(MIRROR))


# ---------------------------------------------------------------- polls


def test_a_long_poll_ends_when_a_message_arrives(standin, sqs):
    """SQS Guide, sqs-short-and-long-polling"""
    thread, received = polling(standin, sqs, standin.create_queue(QUEUE))
    standin.send(QUEUE, "a")
    thread.join()
    assert received == [["a"]]


def test_a_long_poll_whose_client_has_gone_takes_no_message(standin):
    """SQS Guide, sqs-short-and-long-polling"""
    url = standin.create_queue(QUEUE)
    with pytest.raises(ReadTimeoutError):
        receive(client(standin, "sqs", read_timeout=0.1), url, WaitTimeSeconds=20)
    wait_until(lambda: not standin.stats()["in_flight"]["ReceiveMessage"])
    standin.send(QUEUE, "a")
    assert standin.queue(QUEUE)["visible"] == 1


@pytest.fixture
def short_polls(standin: Standin) -> Iterator[None]:
    standin.shorten_empty_polls(0.1)
    yield
    standin.shorten_empty_polls(None)


@pytest.mark.usefixtures("short_polls")
def test_a_poll_that_is_shortened_ends_early_once_the_queue_holds_nothing_and_not_before(standin, sqs):
    standin.reset()  # which leaves the polls short
    url = standin.create_queue(QUEUE)
    assert receive(sqs, url, WaitTimeSeconds=20) == []
    standin.send(QUEUE, "delayed", delay=0.5)
    [message] = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20)["Messages"]
    thread, received = polling(standin, sqs, url)
    assert receive(sqs, standin.create_queue("other"), WaitTimeSeconds=20) == []
    assert received == []  # although its time is over: the message in flight may come back
    sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    thread.join()
    assert received == [[]]


# ---------------------------------------------------------------- events


def events(standin: Standin) -> list[tuple[str, str]]:
    records = [json.loads(message["body"])["Records"][0] for message in standin.messages(QUEUE)]
    return [(record["eventName"], unquote_plus(record["s3"]["object"]["key"])) for record in records]


@pytest.fixture
def told(standin: Standin) -> Standin:
    """It sends the events of the source to the queue."""
    standin.create_queue(QUEUE)
    standin.notify(SOURCE, QUEUE)
    return standin


def test_every_write_and_delete_sends_an_event(told, s3):
    """Guide, notification-how-to-event-types-and-destinations"""
    s3.put_object(Bucket=SOURCE, Key="b", Body=b"1")
    s3.copy_object(Bucket=SOURCE, Key="c", CopySource=f"{SOURCE}/a")
    s3.delete_object(Bucket=SOURCE, Key="b")
    s3.delete_object(Bucket=SOURCE, Key="never there")
    told.expire(SOURCE, "c")
    told.put(SOURCE, "d", storage_class="GLACIER")
    told.restore(SOURCE, "d")
    assert events(told) == [
        ("ObjectCreated:Put", "b"),
        ("ObjectCreated:Copy", "c"),
        ("ObjectRemoved:Delete", "b"),
        ("LifecycleExpiration:Delete", "c"),
        ("ObjectCreated:Put", "d"),
        ("ObjectRestore:Completed", "d"),
    ]


def test_in_a_versioned_bucket_events_tell_markers_from_deletes(told, s3):
    """Guide, notification-how-to-event-types-and-destinations; none says that an object has reappeared"""
    told.configure_bucket(SOURCE, versioning="Enabled")
    told.notify(SOURCE, QUEUE)
    marker = s3.delete_object(Bucket=SOURCE, Key="a")["VersionId"]
    s3.delete_object(Bucket=SOURCE, Key="a", VersionId=marker)
    told.expire(SOURCE, "a")
    names = "ObjectRemoved:DeleteMarkerCreated", "ObjectRemoved:Delete", "LifecycleExpiration:DeleteMarkerCreated"
    assert tuple(name for name, _ in events(told)) == names


def test_an_event_has_a_form_encoded_key_and_a_rising_sequencer(told):
    """Guide, notification-content-structure"""
    for size in (5, 6):
        told.put(SOURCE, "in/a b+c&é=(1).txt", size)
    first, second = (json.loads(message["body"])["Records"][0] for message in told.messages(QUEUE))
    assert first["s3"]["object"]["key"] == "in/a+b%2Bc%26%C3%A9%3D%281%29.txt"
    assert first["s3"]["object"]["sequencer"] < second["s3"]["object"]["sequencer"]
    assert (first["eventSource"], first["s3"]["bucket"]["name"], first["s3"]["object"]["size"]) == ("aws:s3", SOURCE, 5)


def test_events_can_be_filtered_doubled_and_late(told):
    """Guide, NotificationHowTo: at least once, in no order; and notification-how-to-filtering: a space is a +"""
    told.notify(SOURCE, QUEUE, prefixes=["my+files/", "%C3%A9%3D/"], duplicate=1.0, max_delay=300.0, seed=1)
    told.put_many(SOURCE, ["my files/a", "my+files/b", "é=/c", *(f"my files/{number}" for number in range(10))])
    assert sorted({key for _, key in events(told)})[-2:] == ["my files/a", "é=/c"]
    arrivals = [message["visible_at"] for message in told.messages(QUEUE)]
    assert (len(arrivals), arrivals == sorted(arrivals)) == (24, False)
    for prefixes, why in (["a/", "a/b/"], "overlap"), ([f"{number}/" for number in range(101)], "at most 100"):
        with pytest.raises(ValueError, match=f"InvalidArgument: .*{why}"):
            told.notify(SOURCE, QUEUE, prefixes=prefixes)


def test_each_entry_for_the_bus_is_answered_by_itself_and_ten_of_a_mebibyte_are_taken(standin):
    """EventBridge API, PutEvents"""
    put, large = client(standin, "events").put_events, json.dumps({"key": "x" * 1024**2})
    good = {"Source": "ours", "DetailType": "Told", "Detail": "{}"}
    bad = {"Detail": "[]"}, {"Detail": "{"}, {"Source": "aws.s3"}, {"EventBusName": "other"}, {"DetailType": ""}
    answer = put(Entries=[good, *(good | changed for changed in bad)])
    assert (answer["FailedEntryCount"], len(standin.events())) == (5, 1)
    assert [entry.get("ErrorCode") for entry in answer["Entries"]] == [
        None,
        "MalformedDetail",
        "MalformedDetail",
        "NotAuthorizedForSourceException",
        "ResourceNotFoundException",
        "InvalidArgument",
    ]
    assert put(Entries=[good] * 10)["FailedEntryCount"] == 0
    for entries in ([good] * 11, [good | {"Detail": large}]):
        assert outcome(put, Entries=entries) == "ValidationException"


# ---------------------------------------------------------------- faults


def test_a_fault_answers_an_error_a_number_of_times_and_then_no_more(standin, s3):
    """API, Error responses"""
    standin.fault("CopyObject", "error", status=503, code="SlowDown", key="^a$", skip=1, times=2)
    assert copies(s3, 4) == ["ok", "SlowDown", "SlowDown", "ok"]
    standin.fault("CopyObject", "error", status=409, code="ConditionalRequestConflict", times=0)
    assert copies(s3, 5) == ["ConditionalRequestConflict"] * 5
    standin.clear_faults()
    assert copies(s3, 1) == ["ok"]
    assert standin.stats()["errors"]["CopyObject"] == {"SlowDown": 2, "ConditionalRequestConflict": 5}


def test_a_fault_is_for_several_operations_for_a_service_or_for_a_bucket(standin, s3, sqs):
    standin.fault("HeadObject,ListObjectsV2", "error", status=503, code="SlowDown", times=2)
    assert [head(s3), outcome(s3.list_objects_v2, Bucket=SOURCE), head(s3)] == ["503", "SlowDown", "ok"]
    standin.fault("SQS", "error", status=403, code="OverLimit", bucket=QUEUE)
    standin.fault("S3", "error", status=403, code="AccessDenied", times=2, bucket=SOURCE)
    assert [head(s3, MIRROR), head(s3), outcome(s3.list_objects_v2, Bucket=SOURCE)] == ["ok", "403", "AccessDenied"]
    url, other = standin.create_queue(QUEUE), standin.create_queue("other")
    assert receive(sqs, other) == []
    assert outcome(sqs.receive_message, QueueUrl=url) == "OverLimit"


@pytest.mark.parametrize(
    ("kind", "shown", "is_done"),
    [
        ("error_in_200", "InternalError", False),
        ("empty_200", "{}", False),
        ("reset", "closed", False),
        ("hang", "closed", False),
        ("lost", "closed", True),
        ("delay", "ETag", True),
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


def fails_at(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Callable[[float], bool]:
    """Whether a request fails this many seconds after the fault was planted."""
    passed = [0.0]
    monkeypatch.setattr(standin_faults, "time", SimpleNamespace(monotonic=lambda: passed[0]))
    fault = Fault("HeadObject", "error", times=0, **settings)

    def fails(seconds: float) -> bool:
        passed[0] = seconds
        return fault.applies("HeadObject", "S3", SOURCE, "a")

    return fails


def test_a_fault_has_its_time(monkeypatch):
    fails = fails_at(monkeypatch, after=2, until=5)
    assert [fails(seconds) for seconds in (0, 1.9, 2, 4.9, 5)] == [False, False, True, True, False]


def test_so_many_requests_a_second_are_answered_and_no_more(monkeypatch):
    fails = fails_at(monkeypatch, rate=20)
    answered = [number // 100 for number in range(500) if not fails(number / 100)]
    assert all(18 <= answered.count(second) <= 22 for second in range(5))


def test_a_container_gets_credentials_which_end(standin, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{standin.url}/_credentials")
    found = boto3.Session().get_credentials().get_frozen_credentials()
    assert head(client(standin, "s3", found.token)) == "ok"
    standin.expire_tokens("key")
    assert head(client(standin, "s3", found.token)) == "400"
    standin.create_queue(QUEUE)
    assert outcome(client(standin, "sqs", found.token).get_queue_url, QueueName=QUEUE) == "ExpiredToken"
    standin.tokens(key_seconds=-10)
    with pytest.raises(RuntimeError, match="still expired"):
        boto3.Session().get_credentials().get_frozen_credentials()
    standin.fault("GetCredentials", "error", status=500)
    with pytest.raises(urllib.error.HTTPError, match="500"):
        urllib.request.urlopen(f"{standin.url}/_credentials")


def test_a_connection_that_is_frozen_gets_no_answer_and_a_new_one_does(standin):
    s3 = client(standin, "s3", read_timeout=0.5)
    assert head(s3) == "ok"
    standin.freeze()
    with pytest.raises((BotoCoreError, ConnectionClosedError)):
        head(s3)
    assert head(client(standin, "s3")) == "ok"


# ---------------------------------------------------------------- what it measures


def test_receives_count_for_messages_that_are_gone_too(standin, sqs):
    url = standin.create_queue(QUEUE, max_receive_count=2, dead_letter_queue="dead", visibility_timeout=0)
    standin.send(QUEUE, "body")
    sqs.receive_message(QueueUrl=url)
    (message,) = sqs.receive_message(QueueUrl=url)["Messages"]
    sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    standin.send(QUEUE, "another")
    sqs.receive_message(QueueUrl=url, VisibilityTimeout=60)
    assert standin.receives(QUEUE) == {"1": 1, "2": 1}


def test_the_lag_of_a_change_ends_when_the_mirror_shows_it_or_something_newer(standin, s3):
    standin.watch(SOURCE, MIRROR)
    standin.together(
        [("put", [SOURCE, "hot/a"], {"size": 1}), ("put", [SOURCE, "hot/a"], {}), ("put", [SOURCE, "b"], {})]
    )
    assert standin.behind() == {"hot": 2, "b": 1}
    copy(s3, "hot/a")
    standin.put(SOURCE, "hot/a")
    assert standin.behind() == {"hot": 1, "b": 1}
    hot = standin.lags()["hot"]
    assert (len(hot["shown"]), len(hot["waiting"])) == (2, 1)
    s3.delete_object(Bucket=SOURCE, Key="hot/a")
    assert standin.behind()["hot"] == 2
    s3.delete_object(Bucket=MIRROR, Key="hot/a")
    standin.delete(SOURCE, "b")
    assert standin.behind() == {"hot": 0, "b": 0}


def test_changes_are_played_evenly(standin):
    standin.watch(SOURCE, MIRROR)
    changes = [("put", [SOURCE, f"b/{number}"], {}) for number in range(20)]
    standin.play(changes, 40)
    wait_until(lambda: not standin.playing())
    ages = standin.lags()["b"]["waiting"]
    assert len(ages) == standin.behind()["b"] == 20
    assert max(ages) - min(ages) > 0.4
    standin.play(changes, 0.01)
    wait_until(lambda: standin.playing() < 20)
    standin.reset()
    assert standin.playing() == 0


def test_latency_grows_with_the_bytes_that_a_copy_moves(standin, s3):
    """Guide, optimizing-performance: a copy is silent until it is done"""
    standin.put(SOURCE, "a", 4 * GIB)
    standin.latency("CopyObject", ms_per_gib=50)
    begin = time.monotonic()
    copy(s3)
    assert time.monotonic() - begin > 0.2


def test_requests_can_be_recorded_and_everything_forgotten(standin, s3):
    """What a test asserts about a request that the answer does not show"""
    standin.record()
    copy(s3)
    [request] = standin.requests("CopyObject")
    assert (request["method"], request["bucket"], request["key"]) == ("PUT", MIRROR, "a")
    assert request["headers"]["x-amz-copy-source"] == f"{SOURCE}/a"
    standin.reset()
    assert (standin.requests(), standin.stats()["requests"]) == ([], {})


def test_a_control_verb_that_fails_says_why(standin):
    """The stand-in itself"""
    with pytest.raises(ValueError, match="put: KeyError"):
        standin.put("missing", "a")
    with pytest.raises(AttributeError):
        standin.nonsense()
