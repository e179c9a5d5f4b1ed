"""Credentials and sessions that end, hang or are refused: what a request says of it, and that no key pays for it."""

import asyncio
import logging
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from botocore.credentials import RefreshableCredentials
from botocore.exceptions import ClientError, CredentialRetrievalError
from world import MIRROR, SOURCE, until, wait_until

from mirror.aws.keys import ROLE_MARGIN, YOUNG_SECONDS, Keys, RenewedKeys, keys_of_role
from mirror.concurrency import in_thread
from mirror.model.errors import OF_SESSION, is_of_session
from mirror.protocol.buckets import COPY_DIRECTIVES, head

# --- Why a look was refused -------------------------------------------------------------------------------------------

REASONS = {
    "ended credentials": (400, {"status": 400, "code": "ExpiredToken"}, "ExpiredToken"),
    "a policy": (403, {"status": 403, "code": "AccessDenied"}, "AccessDenied"),
    "SSE-C": (400, {"status": 400, "code": "InvalidRequest"}, "InvalidRequest"),
    "nothing wrong with reading": (403, None, "403"),
    "busy": (403, {"status": 503, "code": "SlowDown"}, "403"),
    "gone meanwhile": (400, {"status": 404, "code": "NoSuchKey"}, "400"),
}


@pytest.mark.parametrize("client", ["crt", "boto3"])
@pytest.mark.parametrize("name", REASONS)
def test_a_look_that_is_refused_without_a_reason_is_asked_again_for_it(world, client, name):
    status, reason, told = REASONS[name]
    world.put("a")
    world.standin.fault("HeadObject", "error", times=0, status=status, code="not shown", message="not shown")
    if reason:
        world.standin.fault("GetObject", "error", times=0, message="a reason", **reason)
    buckets = world.worker(S3_CLIENT=client).buckets
    with pytest.raises(ClientError) as refused:
        world.run(head(buckets, {"Bucket": SOURCE}, "a"))
    error = refused.value
    assert (error.operation_name, error.response["Error"]["Code"]) == ("HeadObject", told)
    assert (error.response["Error"]["Message"] == "a reason") == (told != str(status))


def test_an_empty_object_has_no_first_byte_to_ask_for(world):
    world.put("a", 0)
    world.standin.fault("HeadObject", "error", status=403)
    with pytest.raises(ClientError, match="403"):
        world.run(head(world.worker().buckets, {"Bucket": SOURCE}, "a"))


# --- Keys that end ----------------------------------------------------------------------------------------------------


def keys_that_end_in(seconds: float) -> Keys:
    return Keys("id", "secret", "token", ends=time.time() + seconds)


def renewed_by(fetch, first: Keys) -> RenewedKeys:
    keys = RenewedKeys("keys", fetch, margin=60)
    keys.keys = first
    return keys


def refuses() -> Keys:
    raise CredentialRetrievalError(provider="endpoint", error_msg="500")


def test_nobody_waits_for_new_keys_while_the_old_ones_are_valid():
    answers, asked = threading.Event(), []

    def hangs() -> Keys:
        asked.append(1)
        answers.wait(30)
        return keys_that_end_in(600)

    first = keys_that_end_in(30)
    keys = renewed_by(hangs, first)
    began = time.monotonic()
    assert {keys.get_frozen_credentials() for _ in range(1000)} == {first}
    assert time.monotonic() - began < 25
    assert len(asked) == 1
    answers.set()
    wait_until(lambda: keys.get_frozen_credentials() is not first, 5)


def test_a_failure_is_told_once_while_the_keys_are_valid_and_then_to_all_who_ask(caplog, monkeypatch):
    asked = []

    def fails() -> Keys:
        asked.append(1)
        return refuses()

    caplog.set_level(logging.INFO)
    monkeypatch.setattr("mirror.aws.keys.RETRY_SECONDS", 0)
    keys = renewed_by(fails, keys_that_end_in(0.5))
    while keys.valid():
        time.sleep(0.01)
    wait_until(lambda: not keys.is_renewing, 5)
    assert len(asked) > 1
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert caplog.records[0].message.startswith("could not renew the keys yet, they end in 0 s: error=Credential")
    monkeypatch.setattr("mirror.aws.keys.RETRY_SECONDS", 60)
    asked.clear()
    for _ in range(20):
        with pytest.raises(CredentialRetrievalError, match="500"):
            keys.get_frozen_credentials()
    assert len(asked) == 1


def test_many_who_find_the_keys_ended_fetch_new_ones_once():
    asked = []

    def fetch() -> Keys:
        asked.append(1)
        time.sleep(0.05)
        return keys_that_end_in(600)

    keys = renewed_by(fetch, ended := keys_that_end_in(-1))

    async def many() -> list[Keys]:
        return await asyncio.gather(*(in_thread(keys.get_frozen_credentials) for _ in range(50)))

    found = asyncio.run(many())
    assert len(asked) == 1
    assert ended not in found


def botocores(seconds: float, refresh) -> RefreshableCredentials:
    ends = datetime.now(UTC) + timedelta(seconds=seconds)
    return RefreshableCredentials("id", "secret", "token", ends, refresh, "container-role")


def handed_out(seconds: float) -> dict:
    ends = (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
    return {"access_key": "new", "secret_key": "secret", "token": "token", "expiry_time": ends}


def test_botocores_own_credentials_fail_while_they_are_valid_and_ours_do_not():
    """Pins what RenewedKeys is for, and the field of botocore's class that it reads."""
    assert RefreshableCredentials._advisory_refresh_timeout == ROLE_MARGIN
    found = botocores(ROLE_MARGIN - 60, refuses)
    keys = keys_of_role(found)
    assert keys.get_frozen_credentials().access_key == "id"
    assert abs(keys.keys.ends - time.time() - (ROLE_MARGIN - 60)) < 5
    found._expiry_time = datetime.now(UTC) + timedelta(seconds=300)
    keys.keys = keys.keys._replace(ends=time.time() + 300)
    with pytest.raises(CredentialRetrievalError):
        found.get_frozen_credentials()
    assert keys.get_frozen_credentials().access_key == "id"


@pytest.mark.parametrize("answer", ["ended keys", "no keys"])
def test_an_endpoint_that_hands_out_ended_keys_or_none_is_an_error_of_botocore(answer):
    found = botocores(-1, lambda: handed_out(-1) if answer == "ended keys" else {}["AccessKeyId"])
    with pytest.raises(RuntimeError if answer == "ended keys" else KeyError):
        found.get_frozen_credentials()
    with pytest.raises(CredentialRetrievalError):
        keys_of_role(found).get_frozen_credentials()


def test_keys_without_an_end_are_never_renewed():
    keys = renewed_by(refuses, Keys("id", "secret", None))
    assert keys.get_frozen_credentials() is keys.get_frozen_credentials()
    assert not keys.is_renewing


@pytest.mark.parametrize("client", ["crt", "boto3"])
def test_a_credentials_endpoint_that_fails_disturbs_nothing_while_the_keys_are_valid(world, client):
    world.standin.tokens(key_seconds=590)  # botocore fails in the last 600
    none = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    endpoint = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{world.standin.url}/_credentials"}
    process = world.start_worker(S3_CLIENT=client, EMPTY_POLLS_BEFORE_EXIT="100", **none, **endpoint)
    world.put("first")
    wait_until(lambda: "first" in world.mirrored())
    world.standin.fault("GetCredentials", "error", times=0)
    for number in range(100):
        world.put(f"key{number}")
        time.sleep(0.1)
    wait_until(lambda: len(world.mirrored()) == 101)
    output = world.stop_worker(process)
    assert " ERROR " not in output
    assert output.count("WARNING could not renew the credentials yet") == 1
    assert "Traceback" not in output
    assert world.is_empty()


@pytest.mark.parametrize("answer", ["ended keys", "nothing"])
def test_without_credentials_a_worker_says_so_in_one_line(world, answer):
    if answer == "nothing":
        world.standin.fault("GetCredentials", "empty_200", times=0)
    endpoint = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{world.standin.url}/_credentials"}
    world.standin.tokens(key_seconds=-5)
    process = world.start_worker(AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="", **endpoint)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "ERROR cannot start: Error when retrieving credentials" in output
    assert "Traceback" not in output


# --- The S3 Express session -------------------------------------------------------------------------------------------


def worker_with_session(world, client):
    """Its S3 client, after a first look at the destination."""
    world.standin.put(MIRROR, "a")
    s3 = world.worker(S3_CLIENT=client).buckets.s3
    world.run(s3.head_object(Bucket=MIRROR, Key="a"))
    return s3


async def at_once(*calls) -> list:
    return await asyncio.gather(*calls, return_exceptions=True)


@pytest.mark.parametrize("client", ["crt", "boto3"])
def test_a_session_that_s3_no_longer_accepts_is_renewed_once_for_all(world, client):
    s3 = worker_with_session(world, client)
    world.standin.expire_tokens("session")
    s3.session.made -= YOUNG_SECONDS
    answers = world.run(at_once(*(s3.head_object(Bucket=MIRROR, Key="a") for _ in range(50))))
    assert {answer["ContentLength"] for answer in answers} == {1024}
    world.run(s3.delete_object(Bucket=MIRROR, Key="a"))
    assert world.mirrored() == {}
    assert world.requests()["CreateSession"] == 2


@pytest.mark.parametrize("client", ["crt", "boto3"])
def test_a_refusal_with_a_young_session_makes_no_new_one(world, client):
    s3 = worker_with_session(world, client)
    world.standin.fault("HeadObject", "error", status=403, times=0)
    answers = world.run(at_once(*(s3.head_object(Bucket=MIRROR, Key="a") for _ in range(20))))
    assert {type(answer) for answer in answers} == {ClientError}
    assert world.requests()["CreateSession"] == 1


@pytest.mark.parametrize("client", ["crt", "boto3"])
def test_the_error_of_a_request_says_whether_it_was_signed_with_a_session(world, client):
    s3 = worker_with_session(world, client)
    for operation in ("HeadObject", "CopyObject", "DeleteObject", "ListObjectsV2"):
        world.standin.fault(operation, "error", status=403, code="AccessDenied", times=0)
    copy = {"Bucket": MIRROR, "Key": "a", "CopySource": {"Bucket": SOURCE, "Key": "a"}, **COPY_DIRECTIVES}
    looks = [s3.head_object(Bucket=bucket, Key="a") for bucket in (SOURCE, MIRROR)]
    listings = [s3.list_objects_v2(Bucket=bucket) for bucket in (SOURCE, MIRROR)]
    others = [s3.copy_object(**copy), s3.delete_object(Bucket=MIRROR, Key="a")]
    answers = world.run(at_once(*looks, *listings, *others))
    assert [is_of_session(answer) for answer in answers] == [False, True] * 3


def test_when_no_session_can_be_had_all_are_told_and_one_asked(world):
    s3 = worker_with_session(world, "crt")
    world.standin.expire_tokens("session")
    world.standin.fault("CreateSession", "error", status=403, code="AccessDenied", times=0)
    s3.session.made -= YOUNG_SECONDS
    answers = world.run(at_once(*(s3.head_object(Bucket=MIRROR, Key="a") for _ in range(50))))
    assert {(answer.operation_name, *answer.__notes__) for answer in answers} == {("CreateSession", OF_SESSION)}
    assert world.requests()["CreateSession"] == 2


@pytest.mark.parametrize("client", ["crt", "boto3"])
def test_a_session_that_cannot_be_renewed_in_time_keeps_no_request_waiting_and_not_the_heartbeat(world, client):
    s3 = worker_with_session(world, client)
    world.standin.fault("CreateSession", "hang", seconds=30, times=0)
    s3.session.keys = s3.session.keys._replace(ends=time.time() + 30)
    s3.session.next_try = 0.0
    began = time.monotonic()
    world.run(s3.renew_session())
    world.run(at_once(*(s3.head_object(Bucket=MIRROR, Key="a") for _ in range(50))))
    assert time.monotonic() - began < 5
    assert s3.session.is_renewing
    assert world.requests()["CreateSession"] == 2


def test_the_heartbeat_renews_a_session_before_a_request_needs_it(world):
    s3 = worker_with_session(world, "crt")
    s3.session.next_try = 0.0
    old = s3.session.keys = s3.session.keys._replace(ends=time.time() + 60)

    async def beat() -> None:
        await s3.renew_session()
        await until(lambda: s3.session.keys is not old, 10)

    world.run(beat())
    assert world.requests()["CreateSession"] == 2
