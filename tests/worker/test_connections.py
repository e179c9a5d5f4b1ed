"""Answers that hang, connections that died, headers in any bytes: how long a request waits, and what it comes to."""

import asyncio
import contextlib
import socket
import threading
import time

import pytest
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from world import MIRROR, SOURCE

from mirror.aws import crt_s3, http, timeouts
from mirror.concurrency import in_thread
from mirror.model.errors import Refused, outcome_unknown
from mirror.model.limits import GIB, MIB
from mirror.protocol.attempt import KeySync
from mirror.protocol.buckets import COPY_DIRECTIVES, copy_object
from mirror.protocol.multipart import NOT_IN_XML, abort_orphans, uploads_of
from mirror.protocol.objects import source_from_head


async def at_once(*calls) -> list:
    return await asyncio.gather(*calls, return_exceptions=True)


# --- Answers that do not come -----------------------------------------------------------------------------------------


def test_the_bounds_of_calls():
    """Within these a call has ended, with pauses of at most 7 seconds between the attempts of boto3."""
    assert timeouts.ATTEMPTS * timeouts.ANSWER_TIMEOUT <= 90
    assert (1 + timeouts.QUEUE_ATTEMPTS) * timeouts.QUEUE_TIMEOUT <= 20
    assert timeouts.SESSION_ATTEMPTS * timeouts.SESSION_TIMEOUT <= 10
    assert timeouts.POLL_TIMEOUT - timeouts.QUEUE_TIMEOUT == 20  # the longest poll of SQS


@pytest.mark.parametrize("client", ["crt", "boto3"])
def test_a_hanging_queue_answers_after_a_bound(world, client, monkeypatch):
    monkeypatch.setattr(timeouts, "QUEUE_TIMEOUT", 1)
    monkeypatch.setattr("mirror.aws.crt_json.QUEUE_TIMEOUT", 1)
    world.put("a")
    sqs = world.worker(S3_CLIENT=client).leases.queue.sqs
    world.standin.fault("SQS", "hang", seconds=60, times=0)
    queue = {"QueueUrl": world.queue_url}
    entry = {"Id": "0", "ReceiptHandle": "r"}
    began = time.monotonic()
    answers = world.run(
        at_once(
            sqs.send_message(MessageBody="b", **queue),
            sqs.delete_message_batch(Entries=[entry], **queue),
            sqs.change_message_visibility_batch(Entries=[entry | {"VisibilityTimeout": 1}], **queue),
        )
    )
    assert {isinstance(answer, HTTPClientError) for answer in answers} == {True}
    assert time.monotonic() - began < 45


def test_a_hanging_receive_is_not_waited_for_twice(world, monkeypatch):
    monkeypatch.setattr("mirror.aws.crt_json.QUEUE_TIMEOUT", 1)
    queue = world.worker().leases.queue
    world.standin.fault("ReceiveMessage", "hang", seconds=60, times=0)
    began = time.monotonic()
    with pytest.raises(HTTPClientError):
        world.run(queue.receive(1, 30))
    assert time.monotonic() - began < 20  # POLL_TIMEOUT is longer
    assert world.requests()["ReceiveMessage"] == 1


@pytest.mark.parametrize(("poll", "seconds"), [(0, 5), (20, 25)])
def test_a_receive_has_the_time_of_its_poll_and_that_of_an_answer(world, monkeypatch, poll, seconds):
    given = []

    async def no_message(_http, _endpoint, _headers, _parameters, timeout, **_):
        given.append(timeout)
        return {}

    monkeypatch.setattr("mirror.aws.crt_json.call", no_message)
    assert world.run(world.worker().leases.queue.receive(poll, 30)) == []
    assert given == [seconds]


COPY = {"Bucket": MIRROR, "Key": "a", "CopySource": {"Bucket": SOURCE, "Key": "a"}, **COPY_DIRECTIVES}
WRITES = [
    ("CopyObject", "copy_object", COPY | {"is_small": True}),
    ("CopyObject", "copy_object", COPY),
    ("DeleteObject", "delete_object", {"Bucket": MIRROR, "Key": "a"}),
    ("CompleteMultipartUpload", "complete_multipart_upload", {"Bucket": MIRROR, "Key": "a", "UploadId": "u"}),
]


@pytest.mark.parametrize("client", ["crt", "boto3"])
@pytest.mark.parametrize(("operation", "name", "parameters"), WRITES)
def test_what_changes_the_destination_is_sent_once(world, client, operation, name, parameters):
    """Whether it is tried again the protocol decides: a call without an answer may still take effect."""
    world.put("a")
    world.standin.fault(operation, "error", status=503, code="SlowDown", times=0)
    with pytest.raises(ClientError, match="SlowDown"):
        world.run(getattr(world.worker(S3_CLIENT=client).buckets.s3, name)(**parameters))
    assert world.requests()[operation] == 1


def test_what_belongs_to_an_upload_is_given_up_after_a_bound(world, monkeypatch):
    monkeypatch.setattr(timeouts, "ANSWER_TIMEOUT", 1)
    s3 = world.worker().buckets.s3
    upload = {"Bucket": MIRROR, "Key": "a"}
    names = ("CreateMultipartUpload", "ListParts", "AbortMultipartUpload", "ListMultipartUploads")
    world.standin.fault(",".join(names), "hang", seconds=60, times=0)
    began = time.monotonic()
    answers = world.run(
        at_once(
            s3.create_multipart_upload(**upload),
            s3.list_parts(UploadId="u", **upload),
            s3.abort_multipart_upload(UploadId="u", **upload),
            s3.list_multipart_uploads(Bucket=MIRROR),
        )
    )
    assert {isinstance(answer, HTTPClientError) for answer in answers} == {True}
    assert time.monotonic() - began < 45
    assert {world.requests()[name] for name in names} == {timeouts.ATTEMPTS}


@pytest.mark.parametrize("client", ["crt", "boto3"])
def test_a_small_copy_that_is_silent_is_given_up_sooner_and_may_still_land(world, client, monkeypatch):
    for module in (timeouts, crt_s3):
        monkeypatch.setattr(module, "SMALL_COPY_TIMEOUT", 1)
    world.put("small", 64 * MIB)
    world.put("large", 64 * MIB + 1)
    buckets = world.worker(S3_CLIENT=client, COPY_TIMEOUT="4", VISIBILITY_TIMEOUT="10").buckets
    world.standin.fault("CopyObject", "hang", seconds=3, times=0)
    took = {}

    async def copy(key: str) -> None:
        sync, began = KeySync(key), buckets.now()
        source = source_from_head(await buckets.s3.head_object(Bucket=SOURCE, Key=key))
        with pytest.raises(BotoCoreError) as error:
            await copy_object(buckets, sync, source, None, buckets.left_out)
        assert outcome_unknown(error.value)
        took[key] = buckets.now() - began
        assert sync.result.unsettled_until >= buckets.now() + 3.9

    world.run(both(copy("small"), copy("large")))
    assert took["small"] < 2.6 < took["large"]


async def both(*calls) -> None:
    await asyncio.gather(*calls)


def test_a_connection_that_was_idle_for_long_is_not_used_again(world, monkeypatch):
    world.put("a")
    objects = world.worker().buckets.s3
    look = {"Bucket": SOURCE, "Key": "a"}

    async def look_three_times() -> None:
        await asyncio.gather(*(objects.head_object(**look) for _ in range(3)))

    world.run(look_three_times())
    [idle] = objects.http.idle.values()
    old = [connection for connection, _ in idle]
    assert len(old) == 3
    monkeypatch.setattr(http, "IDLE_SECONDS", 0)
    world.run(objects.head_object(**look))
    assert [connection in old for connection, _ in idle] == [False]
    assert not any(connection.is_open() for connection in old)


# --- Headers that are no text in UTF-8 --------------------------------------------------------------------------------

IN_LATIN_1 = (
    b'HTTP/1.1 200 OK\r\nx-amz-meta-name: caf\xe9\r\nContent-Length: 0\r\nETag: "e"\r\n'
    b"Last-Modified: Wed, 25 Nov 2026 01:02:03 GMT\r\nConnection: close\r\n\r\n"
)


@contextlib.contextmanager
def server_that_answers(answer: bytes):
    """The URL of a server that answers every request so."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):  # closed at the end
                while True:
                    client, _ = server.accept()
                    with client:
                        client.recv(65536)
                        client.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("client", ["crt", "boto3"])
def test_headers_that_are_not_utf_8_are_read_and_nothing_is_printed(world, monkeypatch, capfd, client):
    with server_that_answers(IN_LATIN_1) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        found = world.run(world.worker(S3_CLIENT=client).buckets.s3.head_object(Bucket=SOURCE, Key="a"))
    source = source_from_head(found)
    assert (source.metadata, source.carries_provenance) == ({"name": "caf\udce9"}, False)
    assert source.identity.isascii()
    assert capfd.readouterr().err == ""


def test_what_is_no_text_is_still_an_error_to_python(world):
    world.worker()
    with pytest.raises(UnicodeDecodeError):
        b"caf\xe9".decode()
    with pytest.raises(UnicodeDecodeError):
        world.run(in_thread(b"caf\xe9".decode))


# --- Uploads of keys that XML cannot hold -----------------------------------------------------------------------------


def begin_upload(world, key: str) -> None:
    """The answer names the key, so it cannot always be read: then botocore takes it for a 500, and begins more."""
    with contextlib.suppress(ClientError):
        world.run(world.worker().buckets.s3.create_multipart_upload(Bucket=MIRROR, Key=key))


def test_uploads_of_a_key_are_found_beside_one_that_xml_cannot_hold(world):
    for key in ("in/a +b", "in/\x01", "in/a +b"):
        begin_upload(world, key)
    buckets = world.worker().buckets
    assert len(world.run(uploads_of(buckets, "in/a +b"))) == 2
    world.run(abort_orphans(buckets, KeySync("in/a +b")))
    assert {upload["key"] for upload in world.standin.uploads(MIRROR)} == {"in/\x01"}


@pytest.mark.parametrize("fault", [{"kind": "error", "status": 403, "code": "AccessDenied"}, {"kind": "empty_200"}])
def test_uploads_that_cannot_be_listed_are_no_reason_to_fail_a_key(world, fault, caplog):
    world.standin.fault("ListMultipartUploads", times=0, **fault)
    world.run(abort_orphans(world.worker().buckets, KeySync("in/a")))
    assert "could not look for uploads of earlier deliveries key=" in caplog.text


def test_a_large_object_under_a_key_that_xml_cannot_hold_is_refused_before_an_upload_begins(world):
    world.put("in/\x01", 6 * GIB)
    with pytest.raises(Refused, match="rename it"):
        world.run(world.worker().syncer.sync(KeySync("in/\x01")))
    assert "CreateMultipartUpload" not in world.requests()
    world.put("in/\x01", 10)
    world.run(world.worker().syncer.sync(KeySync("in/\x01")))
    assert world.is_equal()


@pytest.mark.parametrize("key", ["\x00", "a\x0b", "\x1fb", "\ufffe", "\uffff"])
def test_what_xml_cannot_hold(key):
    assert NOT_IN_XML.search(key)


@pytest.mark.parametrize("key", ["a\tb\nc\rd", "~\x7f\x85", "日本/\U0001f600", "\ufffd", "<&>'\""])
def test_what_xml_can_hold(key):
    assert not NOT_IN_XML.search(key)
