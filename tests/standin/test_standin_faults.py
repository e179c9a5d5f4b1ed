"""What can be asked to go wrong in the stand-in, and what it measures meanwhile."""

import json
import time
import urllib.request
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
import standin_faults
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ConnectionClosedError
from standin import Standin
from standin_faults import Fault
from world import wait_until

SOURCE = "source"
MIRROR = "mirror--use1-az4--x-s3"
QUEUE = "events"


def client(standin: Standin, service: str, token: str | None = None, read_timeout: float = 10) -> Any:
    config = Config(region_name="us-east-1", retries={"total_max_attempts": 1}, read_timeout=read_timeout)
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "aws_session_token": token}
    return boto3.client(service, endpoint_url=standin.url, config=config, **keys)


@pytest.fixture
def s3(standin: Standin) -> Any:
    return client(standin, "s3")


@pytest.fixture(autouse=True)
def _fresh_buckets(standin: Standin) -> None:
    standin.reset()
    for name in (SOURCE, MIRROR):
        standin.create_bucket(name)
        standin.put(name, "a")


def outcome(standin_call: Any, **arguments: Any) -> str:
    """ "ok", or the code of the refusal."""
    try:
        standin_call(**arguments)
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return "ok"


def head(s3: Any, bucket: str = SOURCE, key: str = "a") -> str:
    return outcome(s3.head_object, Bucket=bucket, Key=key)


def test_a_fault_is_for_several_operations_or_for_a_whole_service(standin, s3):
    standin.fault("HeadObject,ListObjectsV2", "error", status=503, code="SlowDown", times=2)
    assert [head(s3), outcome(s3.list_objects_v2, Bucket=SOURCE), head(s3)] == ["503", "SlowDown", "ok"]
    url = standin.create_queue(QUEUE)
    standin.fault("SQS", "error", status=403, code="OverLimit")
    standin.fault("S3", "error", status=403, code="AccessDenied", times=2, bucket=SOURCE)
    assert [head(s3, MIRROR), head(s3), outcome(s3.list_objects_v2, Bucket=SOURCE)] == ["ok", "403", "AccessDenied"]
    assert outcome(client(standin, "sqs").receive_message, QueueUrl=url) == "OverLimit"


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


def test_a_session_ends_before_its_time_and_a_new_one_is_good(standin, s3):
    assert head(s3, MIRROR) == "ok"
    standin.expire_tokens("session")
    assert head(s3, MIRROR) == "400"  # there is no body that says ExpiredToken
    assert outcome(s3.list_objects_v2, Bucket=MIRROR) == "ExpiredToken"
    assert head(s3, SOURCE) == "ok"
    assert head(client(standin, "s3"), MIRROR) == "ok"


def get_credentials(standin: Standin) -> dict[str, str]:
    with urllib.request.urlopen(f"{standin.url}/_credentials") as answer:
        return json.load(answer)


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


def test_the_credentials_endpoint_fails_as_a_request_does(standin):
    standin.fault("GetCredentials", "error", status=500)
    with pytest.raises(urllib.error.HTTPError, match="500"):
        get_credentials(standin)
    assert get_credentials(standin)["AccessKeyId"]


def test_a_connection_that_is_frozen_gets_no_answer_and_a_new_one_does(standin):
    s3 = client(standin, "s3", read_timeout=0.5)
    assert head(s3) == "ok"
    standin.freeze()
    with pytest.raises((BotoCoreError, ConnectionClosedError)):
        head(s3)
    assert head(client(standin, "s3")) == "ok"


def test_with_too_many_in_flight_short_polls_are_refused_and_long_ones_find_nothing(standin):
    """SQS Guide, visibility timeout, "Managing messages in flight" """
    sqs, url = client(standin, "sqs"), standin.create_queue(QUEUE, max_in_flight=2)
    for _ in range(3):
        standin.send(QUEUE, "body")
    taken = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=2)["Messages"]
    assert outcome(sqs.receive_message, QueueUrl=url) == "OverLimit"
    assert "Messages" not in sqs.receive_message(QueueUrl=url, WaitTimeSeconds=1)
    sqs.delete_message(QueueUrl=url, ReceiptHandle=taken[0]["ReceiptHandle"])
    assert len(sqs.receive_message(QueueUrl=url)["Messages"]) == 1


def test_receives_count_for_messages_that_are_gone_too(standin):
    sqs = client(standin, "sqs")
    url = standin.create_queue(QUEUE, max_receive_count=2, dead_letter_queue="dead", visibility_timeout=0)
    standin.send(QUEUE, "body")
    sqs.receive_message(QueueUrl=url, VisibilityTimeout=0)
    (message,) = sqs.receive_message(QueueUrl=url, VisibilityTimeout=0)["Messages"]
    sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    standin.send(QUEUE, "another")
    sqs.receive_message(QueueUrl=url, VisibilityTimeout=60)
    assert standin.receives(QUEUE) == {"1": 1, "2": 1}


def copy(s3: Any, key: str) -> None:
    s3.copy_object(Bucket=MIRROR, Key=key, CopySource={"Bucket": SOURCE, "Key": key})


def test_the_lag_of_a_change_ends_when_the_mirror_shows_it_or_something_newer(standin, s3):
    standin.watch(SOURCE, MIRROR)
    standin.together(
        [("put", [SOURCE, "hot/a"], {"size": 1}), ("put", [SOURCE, "hot/a"], {}), ("put", [SOURCE, "b"], {})]
    )
    assert standin.behind() == {"hot": 2, "b": 1}
    time.sleep(0.1)
    copy(s3, "hot/a")
    standin.put(SOURCE, "hot/a")
    assert standin.behind() == {"hot": 1, "b": 1}
    hot = standin.lags()["hot"]
    assert len(hot["shown"]) == 2
    assert min(hot["shown"]) >= 0.1
    assert len(hot["waiting"]) == 1


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


def test_the_lag_of_a_deletion_ends_with_the_object(standin, s3):
    standin.watch(SOURCE, MIRROR)
    standin.put(SOURCE, "a")
    copy(s3, "a")
    standin.delete(SOURCE, "a")
    assert standin.behind() == {"a": 1}
    s3.delete_object(Bucket=MIRROR, Key="a")
    assert standin.behind() == {"a": 0}
    standin.put(SOURCE, "never copied")
    standin.delete(SOURCE, "never copied")
    assert standin.behind()["never copied"] == 0
