"""Credentials and sessions that end, hang or are refused: what a request says of it, and that no key pays for it."""

import asyncio
import logging
import threading
import time

import pytest
from botocore.exceptions import ClientError, CredentialRetrievalError
from world import MIRROR, SOURCE, wait_until

from mirror.aws.keys import RETRY_SECONDS, YOUNG_SECONDS, Keys, RenewedKeys
from mirror.model.errors import OF_SESSION, is_of_session
from mirror.protocol.buckets import COPY_DIRECTIVES

# --- Why a look was refused -------------------------------------------------------------------------------------------


# status of the look, the answer to the read that is sent for its reason, the code that is raised
@pytest.mark.parametrize(
    ("status", "reason", "told"),
    [
        (400, (400, "ExpiredToken"), "ExpiredToken"),
        (403, (403, "AccessDenied"), "AccessDenied"),
        (403, None, "403"),  # reading is allowed
        (403, (503, "SlowDown"), "403"),
    ],
)
def test_a_look_that_is_refused_without_a_reason_is_asked_again_for_it(world, status, reason, told):
    world.put("a")
    world.standin.fault("HeadObject", "error", times=0, status=status, code="not shown", message="not shown")
    if reason:
        world.standin.fault("GetObject", "error", times=0, message="a reason", status=reason[0], code=reason[1])
    with pytest.raises(ClientError) as refused:
        world.run(world.worker().buckets.head({"Bucket": SOURCE}, "a"))
    error = refused.value.response["Error"]
    assert (refused.value.operation_name, error["Code"]) == ("HeadObject", told)
    assert (error["Message"] == "a reason") == (told != "403")


# --- Keys that end ----------------------------------------------------------------------------------------------------


class Endpoint:
    """Where keys come from: what it answers, and how often it was asked. `frozen`: seconds that the monotonic clock did
    not see."""

    def __init__(self, seconds=600.0):
        self.wall, self.frozen, self.seconds, self.error = 1_000_000.0, 0.0, seconds, None
        self.asked, self.answers = 0, threading.Event()
        self.answers.set()
        self.keys = RenewedKeys("keys", self.fetch, 60, lambda: self.wall, lambda: self.wall - self.frozen)

    def fetch(self):
        self.asked += 1
        made = Keys("id", "secret", f"token {self.asked}", ends=self.wall + self.seconds)
        if threading.current_thread() is not threading.main_thread():
            self.answers.wait(30)
        if self.error:
            raise self.error
        return made


def test_a_failure_is_told_once_while_the_keys_are_valid_and_then_to_all_who_ask(caplog):
    caplog.set_level(logging.INFO)
    endpoint = Endpoint()
    endpoint.keys.get_frozen_credentials()
    endpoint.error = CredentialRetrievalError(provider="endpoint", error_msg="500")
    for seconds in (550, RETRY_SECONDS, RETRY_SECONDS):
        endpoint.wall += seconds
        endpoint.keys.get_frozen_credentials()
        wait_until(lambda: not endpoint.keys.is_renewing, 5)
    assert endpoint.asked == 4
    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert record.message.startswith("could not renew the keys yet, they end in 50 s: error=Credential")
    endpoint.wall += 60
    for _ in range(20):
        with pytest.raises(CredentialRetrievalError, match="500"):
            endpoint.keys.get_frozen_credentials()
    assert endpoint.asked == 5


def test_keys_that_ended_while_their_renewal_was_frozen_are_not_used():
    """The wall clock goes on meanwhile, the monotonic one may stand still."""
    endpoint = Endpoint(seconds=300)
    first = endpoint.keys.get_frozen_credentials()
    endpoint.answers.clear()
    endpoint.wall += 250
    assert endpoint.keys.get_frozen_credentials() is first
    assert endpoint.keys.is_renewing
    endpoint.wall += 3600
    endpoint.frozen = 3600
    assert endpoint.keys.valid() is None
    endpoint.answers.set()
    with pytest.raises(CredentialRetrievalError, match="ended already"):  # for RETRY_SECONDS
        endpoint.keys.get_frozen_credentials()
    endpoint.wall += RETRY_SECONDS
    assert endpoint.keys.get_frozen_credentials().ends == endpoint.wall + 300


WITHOUT_KEYS = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}


def test_a_credentials_endpoint_that_fails_disturbs_nothing_while_the_keys_are_valid(world):
    world.standin.tokens(key_seconds=590)  # botocore fails in the last 600
    endpoint = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{world.standin.url}/_credentials"}
    world.standin.fault("GetCredentials", "error", skip=2, times=0)
    for number in range(100):
        world.put(f"key{number}")
    output = world.run_worker(EMPTY_POLLS_BEFORE_EXIT="80", **WITHOUT_KEYS, **endpoint)  # longer than RETRY_SECONDS
    assert " ERROR " not in output
    assert output.count("WARNING could not renew the credentials yet") == 1
    assert world.is_equal()


# --- The S3 Express session -------------------------------------------------------------------------------------------


@pytest.fixture(params=["crt", "boto3"])
def s3(world, request):
    """After a first look at the destination."""
    world.standin.put(MIRROR, "a")
    made = world.clients(request.param).s3
    world.run(made.head_object(Bucket=MIRROR, Key="a"))
    return made


def looks(s3, number):
    return (s3.head_object(Bucket=MIRROR, Key="a") for _ in range(number))


async def at_once(*calls):
    return await asyncio.gather(*calls, return_exceptions=True)


def test_a_session_that_s3_no_longer_accepts_is_renewed_once_for_all(world, s3):
    world.standin.expire_tokens("session")
    s3.session.made -= YOUNG_SECONDS
    answers = world.run(at_once(*looks(s3, 50)))
    assert {answer["ContentLength"] for answer in answers} == {1024}
    world.run(s3.delete_object(Bucket=MIRROR, Key="a"))
    assert world.mirrored() == {}
    assert world.requests()["CreateSession"] == 2


def test_the_error_of_a_request_says_whether_it_was_signed_with_a_session_and_a_young_one_is_not_renewed(world, s3):
    world.standin.fault("HeadObject,CopyObject,DeleteObject,ListObjectsV2", "error", status=403, times=0)
    copy = {"Bucket": MIRROR, "Key": "a", "CopySource": {"Bucket": SOURCE, "Key": "a"}, **COPY_DIRECTIVES}
    calls = [s3.head_object(Bucket=bucket, Key="a") for bucket in (SOURCE, MIRROR)]
    calls += [s3.list_objects_v2(Bucket=bucket) for bucket in (SOURCE, MIRROR)]
    answers = world.run(at_once(*calls, s3.copy_object(**copy), s3.delete_object(Bucket=MIRROR, Key="a")))
    assert [is_of_session(answer) for answer in answers] == [False, True] * 3
    assert world.requests()["CreateSession"] == 1


def test_when_no_session_can_be_had_all_are_told_and_one_asked(world, s3):
    world.standin.expire_tokens("session")
    world.standin.fault("CreateSession", "error", status=403, code="AccessDenied", times=0)
    s3.session.made -= YOUNG_SECONDS
    answers = world.run(at_once(*looks(s3, 50)))
    assert {(answer.operation_name, *answer.__notes__) for answer in answers} == {("CreateSession", OF_SESSION)}
    assert world.requests()["CreateSession"] == 2


def test_the_heartbeat_renews_a_session_and_neither_it_nor_a_request_waits_for_that(world, s3):
    world.standin.hold("CreateSession")
    old = s3.session.keys = s3.session.keys._replace(ends=time.time() + 25)
    s3.session.next_try = 0.0

    async def beat():
        await s3.renew_session()
        await at_once(*looks(s3, 50))
        assert s3.session.is_renewing
        world.standin.release("CreateSession")
        while s3.session.keys is old:
            await asyncio.sleep(0.05)

    world.run(asyncio.wait_for(beat(), 60))
