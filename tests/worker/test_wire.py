"""Both clients on the wire: over the AWS CRT the same is sent as by boto3, and answers and faults mean the same."""

import asyncio
import codecs
import dataclasses
import os
import random
import ssl
import subprocess
import threading
from collections import deque
from concurrent.futures import Future
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from unittest import mock

import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError
from world import MIRROR, SOURCE

from mirror.aws import wire
from mirror.aws.boto3_clients import (
    ATTEMPTS,
    LISTING_ATTEMPTS,
    LONGEST_POLL,
    OF_TASK,
    PART_ATTEMPTS,
    QUEUE_ATTEMPTS,
    SESSION_ATTEMPTS,
    boto3_clients,
)
from mirror.aws.crt import crt_clients
from mirror.aws.http import Answer, Endpoint, Request, sign
from mirror.aws.keys import Keys
from mirror.model.errors import error_code, is_busy, outcome_unknown
from mirror.protocol.buckets import COPY_DIRECTIVES
from mirror.protocol.objects import source_from_head
from mirror.settings import load_settings

# --- What is sent -----------------------------------------------------------------------------------------------------

ODD_KEYS = [
    "k",
    "a b+é/~(x)'*!?&=#%;,:@$.txt",
    "/lead//trail/",
    "a/../b/./c",
    "日本/\u00fc\u0301",
    "%41%zz",
    "\x01\x7f",
]
OWNER = {"ExpectedBucketOwner": "111122223333"}
DOTS, DIRECTORY = "source.with.dots", "mirror--eun1-az1--x-s3"
QUEUE_URL = "https://sqs.eu-north-1.amazonaws.com/111122223333/sync-q"
COPY = {
    "Bucket": DIRECTORY,
    "CopySource": {"Bucket": DOTS},
    "CopySourceIfMatch": '"9bb58f26192e4ba00f01e2e7b136bbd8"',
    "ExpectedSourceBucketOwner": "444455556666",
    "TaggingDirective": "REPLACE",
    "AnnotationDirective": "EXCLUDE",
}
METADATA = {
    "MetadataDirective": "REPLACE",
    "ContentType": "text/csv",
    "CacheControl": "max-age=60",
    "ContentDisposition": 'attachment; filename="a  b.csv"',
    "ContentEncoding": "gzip",
    "ContentLanguage": "fi",
    "Expires": datetime(2030, 1, 1, tzinfo=UTC),
    "Metadata": {
        "sync-source": "e 2026-11-25T01:02:03Z 5 null 0123456789ab",
        "a-b": "",
        "a": "=?UTF-8?Q?=E6=97=A5?=",
        "a.b_c": ", ;:\"'\\|`~^<>[]{}()@!#$%&*+=?",
    },
}
PART = {name: COPY[name] for name in ("Bucket", "CopySource", "CopySourceIfMatch")}
PART |= {"CopySourceRange": "bytes=0-67108863", "PartNumber": 10_000, "UploadId": "AEu+/=~ x"}
RECEIVE = {"MaxNumberOfMessages": 10, "WaitTimeSeconds": 20, "VisibilityTimeout": 7200}
RECEIVE |= {"MessageSystemAttributeNames": ["ApproximateReceiveCount", "MessageGroupId"]}
OF_QUEUE = {"QueueUrl": QUEUE_URL}
ENTRY = {"Id": "0", "MessageBody": '{"key": "ü"}', "MessageGroupId": "reconcile"}

# client, operation, parameters; those of an object are sent for each of ODD_KEYS
REQUESTS = [
    ("s3", "head_object", {"Bucket": DOTS}),
    ("s3", "head_object", {"Bucket": DIRECTORY, **OWNER, "ChecksumMode": "ENABLED"}),
    ("s3", "copy_object", {**COPY, **OWNER, **METADATA, "IfNoneMatch": "*"}),
    ("s3", "copy_object", {**COPY, "MetadataDirective": "COPY", "IfMatch": '"d1"'}),
    ("s3", "upload_part_copy", {**PART, **OWNER}),
    ("s3", "delete_object", {"Bucket": DIRECTORY, **OWNER, "IfMatch": '"d1"'}),
    ("s3", "list_objects_v2", {"Bucket": DOTS, "Prefix": ODD_KEYS[1], "Delimiter": "/", **OWNER}),
    ("s3", "list_objects_v2", {"Bucket": DOTS, "Prefix": "", "MaxKeys": 1, "ContinuationToken": "1ueGc/+=~ x"}),
    ("s3", "list_objects_v2", {"Bucket": DIRECTORY, "Prefix": "日本/", "Delimiter": "/", **OWNER}),
    ("sqs", "receive_message", OF_QUEUE | RECEIVE),
    ("sqs", "send_message_batch", {**OF_QUEUE, "Entries": [ENTRY]}),
    ("sqs", "delete_message_batch", {**OF_QUEUE, "Entries": [{"Id": "0", "ReceiptHandle": "AQEB+/="}]}),
    ("events", "put_events", {"Entries": [{"Source": "s", "DetailType": "t", "Detail": '{"key": "ü"}'}]}),
]
OF_BOTO3 = {"user-agent", "amz-sdk-invocation-id", "amz-sdk-request"}  # who calls, and for which attempt
SESSION = b"""<CreateSessionResult><Credentials><AccessKeyId>SESSIONKEY</AccessKeyId>
<SecretAccessKey>session-secret</SecretAccessKey><SessionToken>session-token</SessionToken>
<Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></CreateSessionResult>"""


class Connection:
    """An open connection of the AWS CRT, that keeps the request and answers 200."""

    def is_open(self):
        return True

    def request(self, sent, on_response, on_body):
        self.sent, ended = sent, Future()

        def activate():
            headers = [("content-length", "0"), ("last-modified", "Wed, 25 Nov 2026 01:02:03 GMT")]
            on_response(status_code=200, headers=headers)
            on_body(chunk=b"{}" if sent.method == "POST" else b"")
            ended.set_result(200)

        return SimpleNamespace(completion_future=ended, activate=activate)


@pytest.fixture(scope="module")
def real_aws():
    """The clients for the real host names, with task role credentials; what boto3 would send is kept in `sent`."""
    role = {"AWS_ACCESS_KEY_ID": "ROLEKEY", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "token"}
    sent = []

    def keep(request, **_):
        sent.append(request)
        body = SESSION if request.url.endswith("?session") else b""
        return AWSResponse(request.url, 200, {}, SimpleNamespace(stream=lambda *_, **__: iter([body])))

    async def made():
        given = {"REGION": "eu-north-1", "SRC_BUCKET": DOTS, "DST_BUCKET": DIRECTORY, "QUEUE_URL": QUEUE_URL}
        clients = {}
        for name, make in (("crt", crt_clients), ("boto3", boto3_clients)):
            all_of_them = make(load_settings(given))
            clients[name] = {name: getattr(all_of_them, name)() for name in ("s3", "sqs", "events")}
            of = clients[name]
            for client in (*of["s3"].clients, of["sqs"].sqs, of["sqs"].polls, of["events"].events):
                client.meta.events.register("before-send", keep)
        return clients

    with asyncio.Runner() as runner, mock.patch.dict(os.environ, role):
        os.environ.pop("AWS_ENDPOINT_URL", None)
        yield SimpleNamespace(run=runner.run, sent=sent, **runner.run(made()))


def as_text(headers):
    return {name.lower(): value.decode() if isinstance(value, bytes) else str(value) for name, value in headers}


def sent_by_crt(real_aws, client, operation, parameters):
    """(method, URL, headers)"""
    made, connection = real_aws.crt[client], Connection()
    endpoint = made.endpoints[parameters["Bucket"]] if client == "s3" else made.endpoint

    async def send():
        made.http.idle[endpoint.host] = deque([(connection, made.http.loop.time())])
        await getattr(made, operation)(**parameters)

    real_aws.run(send())
    url = endpoint.url.removesuffix(endpoint.path) + connection.sent.path
    return connection.sent.method, url, as_text(connection.sent.headers)


def sent_by_boto3(real_aws, client, operation, parameters):
    real_aws.run(getattr(real_aws.boto3[client], operation)(**parameters))
    request = real_aws.sent[-1]
    return request.method, request.url, as_text(request.headers.items()) | {"host": request.url.split("/")[2]}


def parts_of(url):
    path, _, query = url.partition("?")
    return path, sorted(query.split("&"))


@pytest.mark.parametrize(("client", "operation", "parameters"), REQUESTS)
def test_every_request_equals_that_of_boto3_on_the_real_host_names(real_aws, client, operation, parameters):
    for key in ODD_KEYS if client == "s3" and operation != "list_objects_v2" else [None]:
        of_key = {"Key": key} if key else {}
        if "CopySource" in parameters:
            of_key["CopySource"] = {"Bucket": DOTS, "Key": key}
        sent = []
        while not sent or sent[0][2]["x-amz-date"] != sent[1][2]["x-amz-date"]:  # in the same second
            sent = [send(real_aws, client, operation, parameters | of_key) for send in (sent_by_boto3, sent_by_crt)]
        (method, url, headers), (crt_method, crt_url, crt_headers) = sent
        assert (crt_method, parts_of(crt_url)) == (method, parts_of(url))
        assert crt_url.split("?")[1:] == ["&".join(parts_of(crt_url)[1])] * ("?" in crt_url)  # as it is signed
        assert crt_headers == {name: value for name, value in headers.items() if name not in OF_BOTO3}


def test_a_signature_is_of_the_day_of_its_moment():
    for moment in ("2026-11-25T23:59:59+00:00", "2026-11-26T00:00:00+00:00"):
        at, request = datetime.fromisoformat(moment), Request("PUT", "/k", [("host", "bucket")])
        sign(request, "eu-north-1", "s3", Keys("id", "secret", None), wall=at.timestamp)
        headers = as_text(request.headers)
        assert headers["x-amz-date"] == f"{at:%Y%m%dT%H%M%SZ}"
        assert f"Credential=id/{at:%Y%m%d}/eu-north-1/s3/" in headers["authorization"]
        assert "security-token" not in headers["authorization"]


def test_headers_beyond_ascii_are_sent_as_they_came_and_are_not_signed(real_aws):
    odd = {"ContentDisposition": 'attachment; filename="gr\xf6\udcdfe.csv"', "CacheControl": "\u65e5\u672c"}
    create = real_aws.boto3["s3"].create_multipart_upload
    real_aws.run(create(Bucket=DIRECTORY, Key="k", Metadata={"a": "b"}, ContentLanguage="fi", **odd))
    headers = {name.lower(): value for name, value in real_aws.sent[-1].headers.items()}
    assert headers["content-disposition"] == b'attachment; filename="gr\xc3\xb6\xdfe.csv"'
    assert headers["cache-control"] == "\u65e5\u672c".encode()
    signed = headers["authorization"].decode().split("SignedHeaders=")[1].split(",")[0].split(";")
    assert {"content-language", "host", "x-amz-meta-a", "x-amz-s3session-token"} <= set(signed)
    assert not {"content-disposition", "cache-control"} & set(signed)


def test_the_headers_of_answers_are_those_of_the_service_model(real_aws):
    model = real_aws.boto3["s3"].quick.meta.service_model
    members = model.operation_model("HeadObject").output_shape.members
    for header, field in wire.ANSWER_FIELDS.items():
        assert field == "ExpiresString" or members[field].serialization["name"].lower() == header
    checksums = {members[name].serialization["name"].lower(): name for name in members if name.startswith("Checksum")}
    headers = {"content-length": "0", "last-modified": "Wed, 25 Nov 2026 01:02:03 GMT", **checksums}
    headers["expires"] = f"Tue, 01 Jan {'9' * 20} 00:00:00 GMT"  # S3 keeps and shows whatever it was given
    answer = wire.read_answer(wire.HEAD_OBJECT, Answer(200, headers))
    assert {name: answer[name] for name in checksums.values()} == {name: name for name in checksums.values()}
    assert answer["ExpiresString"] == headers["expires"]


# --- What an answer means ---------------------------------------------------------------------------------------------


def both(world):
    return tuple(world.clients(name) for name in ("crt", "boto3"))


def test_both_clients_see_the_same_source_and_nothing_is_printed(world, capfd):
    fields = {"cache-control": "no-cache", "expires": "Tue, 01 Jan 2030 00:00:00 GMT", "content-language": "fi"}
    world.put("a", metadata={"colour": "red", "name": "日本"}, headers=fields, storage_class="GLACIER")
    world.put("b", headers={"expires": "never", "cache-control": "\xfc"}, missing_meta=2)
    world.standin.configure_bucket(SOURCE, versioning="Enabled")
    world.put("c", headers={"content-language": "\udcfc"})
    clients = both(world)
    for key in "abc":
        crt, plain = (source_from_head(world.run(of.s3.head_object(Bucket=SOURCE, Key=key))) for of in clients)
        assert dataclasses.asdict(crt) == dataclasses.asdict(plain)
    assert capfd.readouterr().err == ""
    with pytest.raises(UnicodeDecodeError):  # what is no text is still an error to Python
        codecs.decode(b"caf\xe9", "utf-8")


PAGE = "Contents", "CommonPrefixes", "IsTruncated", "NextContinuationToken"
ITEM = "Key", "ETag", "Size", "LastModified", "StorageClass"


def test_both_clients_read_the_same_page(world):
    for key in ("a/b c", "a/+%25", "a/<&>\"'", "a/日本/x", "a/sub/\x01", "a//b"):
        world.put(key, size=7, storage_class="GLACIER" if "+" in key else "STANDARD")
    clients = both(world)
    for parameters in ({"Prefix": "a/"}, {"Prefix": "a/", "Delimiter": "/"}, {"Prefix": "no/"}, {"MaxKeys": 2}):
        pages = [world.run(of.s3.list_objects_v2(Bucket=SOURCE, **parameters)) for of in clients]
        crt, plain = ({name: page.get(name) or [] for name in PAGE} for page in pages)
        assert crt == plain | {"Contents": [{name: item[name] for name in ITEM} for item in plain["Contents"]]}
        assert pages[0]["ResponseMetadata"]["HTTPHeaders"]["date"]


LISTED = (
    "<R><KeyCount>1</KeyCount><EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>"
    "<Contents><Key>k</Key><LastModified>2026-01-01T00:00:00Z</LastModified><ETag>e</ETag><Size>1</Size></Contents></R>"
)
# What is wrong with a page that is not whole: a text of LISTED, and what is in its place.
BROKEN = [
    ("Count>1<", "Count>2<"),
    ("<KeyCount>1</KeyCount>", ""),
    ("ETag", "Tag"),
    ("Size>1", "Size>x"),
    (">k<", ">\udcff<"),
]


def page_of(body):
    return wire.read_answer(wire.LIST_OBJECTS, Answer(200, body=bytearray(body.encode(errors="surrogateescape"))))


def test_a_page_that_is_not_whole_is_none():
    bodies = [LISTED[:end] for end in range(3, len(LISTED) - 1)] + [LISTED.replace(*broken) for broken in BROKEN]
    said = []
    for body in bodies:
        with pytest.raises(ResponseParserError) as error:
            page_of(body)
        said.append(str(error.value))
    assert said[-len(BROKEN)] == "ListObjectsV2 answered with another number of keys than it says"
    assert page_of(LISTED)["Contents"][0]["Size"] == 1


@pytest.mark.parametrize(("status", "body"), [(503, b"<html>busy<br></html>"), (200, b'<?xml version="1.0"?>\n  \n')])
def test_an_answer_that_is_no_xml_means_that_s3_is_busy(status, body):
    with pytest.raises(ResponseParserError, match=f"answered {status} with a body that is not XML: ") as error:
        wire.read_answer(wire.COPY_OBJECT, Answer(status, body=bytearray(body)))
    assert is_busy(error.value)


FIELDS = {
    "Key": ("a%2Fb+c", "a/b c"),
    "LastModified": ("2026-01-01T00:00:00.000Z", datetime(2026, 1, 1, tzinfo=UTC)),
    "ETag": ("&quot;e&amp;&quot;", '"e&"'),
    "ChecksumAlgorithm": ("CRC64NVME", None),
    "Size": ("1", 1),
    "StorageClass": ("STANDARD", "STANDARD"),
    "Owner": ("<ID>7</ID>", None),
}
REQUIRED = {"Key", "LastModified", "ETag", "Size"}


def test_a_page_is_read_whatever_its_objects_show_in_whichever_order():
    chance = random.Random(1)

    def draw():
        names = [name for name in FIELDS if name in REQUIRED or chance.random() < 0.5]
        return chance.sample(names, len(names)) if chance.random() < 0.3 else names

    for _ in range(300):
        first = draw()
        shown = [chance.choice((first, first, draw())) for _ in range(3)]
        texts = ("".join(f"<{name}>{FIELDS[name][0]}</{name}>" for name in names) for names in shown)
        contents = "".join(f"<Contents>{text}</Contents>" for text in texts)
        page = page_of(f"{LISTED.partition('<Contents>')[0].replace('1', '3')}{contents}</R>")
        read = {name: FIELDS[name][1] for name in ITEM}
        assert page["Contents"] == [read | ({} if "StorageClass" in names else {"StorageClass": ""}) for names in shown]


# --- What a fault means -----------------------------------------------------------------------------------------------

COPY_OF = {"Bucket": MIRROR, "CopySource": {"Bucket": SOURCE, "Key": "a"}, **COPY_DIRECTIVES}
UPLOAD = {"Bucket": MIRROR, "UploadId": "u"}
STATUSES = {500: "InternalError", 503: "SlowDown", 412: "PreconditionFailed", 403: "AccessDenied"}
ERRORS = {f"error {status}": {"kind": "error", "status": status, "code": code} for status, code in STATUSES.items()}
WITHOUT_ANSWER = {"reset": {"kind": "reset"}, "lost": {"kind": "lost"}}
IN_200 = {"error in 200": {"kind": "error_in_200"}, "empty 200": {"kind": "empty_200"}}
PART_OF = UPLOAD | {"CopySource": {"Bucket": SOURCE, "Key": "a"}, "CopySourceRange": "bytes=0-9", "PartNumber": 1}
# operation -> its name in boto3, parameters but for the key, the faults it meets
CALLS = {
    "HeadObject": ("head_object", {"Bucket": SOURCE}, ERRORS | WITHOUT_ANSWER),
    "CopyObject": ("copy_object", COPY_OF, ERRORS | WITHOUT_ANSWER | IN_200),
    "DeleteObject": ("delete_object", {"Bucket": MIRROR}, ERRORS | WITHOUT_ANSWER),
    "UploadPartCopy": ("upload_part_copy", PART_OF, ERRORS | IN_200),
    "CompleteMultipartUpload": ("complete_multipart_upload", UPLOAD, ERRORS | WITHOUT_ANSWER),
}
# What changes what a reader sees: whether it is sent again the protocol decides, as it may still take effect.
SENT_ONCE = {"CopyObject", "DeleteObject", "CompleteMultipartUpload"}


async def outcome(call):
    """What decides how it goes on."""
    try:
        answer = await call
    except (ClientError, BotoCoreError) as error:
        return is_busy(error), outcome_unknown(error), error_code(error) if isinstance(error, ClientError) else ""
    return answer.get("CopyObjectResult"), answer.get("CopyPartResult")


def test_both_clients_decide_alike_on_every_fault(world):
    """Each fault has a key of its own, so that all are waited for at the same time."""
    world.put("a")
    cases = [(operation, name) for operation, (_, _, faults) in CALLS.items() for name in faults]
    for operation, name in cases:
        given = CALLS[operation][2][name]
        world.standin.fault(operation, times=0, key=f"^(crt|boto3) {operation} {name}$", **given)
    world.standin.record()

    async def outcomes(client, s3):
        calls = [
            outcome(getattr(s3, CALLS[operation][0])(Key=f"{client} {operation} {name}", **CALLS[operation][1]))
            for operation, name in cases
        ]
        return await asyncio.gather(*calls)

    crt, plain = (world.run(outcomes(name, of.s3)) for name, of in zip(("crt", "boto3"), both(world), strict=True))
    assert dict(zip(cases, crt, strict=True)) == dict(zip(cases, plain, strict=True))
    sent = [entry["key"] for entry in world.standin.requests()]
    for operation, name in cases:
        times = {sent.count(f"{client} {operation} {name}") for client in ("crt", "boto3")}
        assert times == {1} or operation not in SENT_ONCE, (operation, name)
    assert sent.count("boto3 HeadObject error 503") == ATTEMPTS
    assert sent.count("crt UploadPartCopy error 503") == 1 + PART_ATTEMPTS


def test_both_clients_decide_alike_on_a_page_that_does_not_come(world):
    world.standin.fault("ListObjectsV2", "reset", bucket=MIRROR, times=0)
    world.standin.fault("ListObjectsV2", bucket=SOURCE, times=0, **ERRORS["error 403"])
    pages = [[outcome(of.s3.list_objects_v2(Bucket=bucket)) for bucket in (MIRROR, SOURCE)] for of in both(world)]

    async def outcomes():
        return await asyncio.gather(*(asyncio.gather(*of_client) for of_client in pages))

    crt, plain = world.run(outcomes())
    assert crt == plain
    assert world.requests()["ListObjectsV2"] == 1 + 2 * LISTING_ATTEMPTS + 2


JSON_FAULTS = [{"kind": "error"}, {"kind": "error", "status": 400, "code": "RequestThrottled"}, {"kind": "reset"}]


@pytest.mark.parametrize("given", JSON_FAULTS, ids=str)
def test_what_fails_once_on_the_queue_or_the_event_bus_is_repeated_by_boto3(world, given):
    of = world.clients("crt", ANNOUNCE="all")
    queue = {"QueueUrl": world.queue_url}
    event = {"Entries": [{"Source": "s", "DetailType": "t", "Detail": "{}"}]}

    def repeated(fault, operation, call, **parameters):
        before = world.requests().get(operation, 0)
        world.standin.fault(operation, **fault)
        answer = world.run(call(**parameters))
        assert world.requests()[operation] == before + 2
        return answer

    repeated(given, "SendMessageBatch", of.sqs.send_message_batch, **queue, Entries=[{"Id": "0", "MessageBody": "a"}])
    [message] = repeated(given, "ReceiveMessage", of.sqs.receive_message, **queue, WaitTimeSeconds=0)["Messages"]
    entries = [{"Id": "0", "ReceiptHandle": message["ReceiptHandle"]}]
    repeated(given, "DeleteMessageBatch", of.sqs.delete_message_batch, **queue, Entries=entries)
    assert world.is_empty()
    for fault in (given, {"kind": "empty_200"}):
        assert repeated(fault, "PutEvents", of.events.put_events, **event)["Entries"][0]["EventId"]


def test_the_bounds_of_calls():
    """Within these a call has ended, with pauses of at most 7 seconds between the attempts of boto3."""
    assert ATTEMPTS * OF_TASK.answer <= 90
    assert (1 + QUEUE_ATTEMPTS) * OF_TASK.queue <= 20
    assert SESSION_ATTEMPTS * OF_TASK.session <= 10
    assert LONGEST_POLL == 20
    assert OF_TASK.event_connect < OF_TASK.event


LENT = {"Id": "0", "ReceiptHandle": "r"}
HANGING = {
    "small": ("s3", "copy_object", COPY_OF | {"Key": "a", "is_small": True}),
    "large": ("s3", "copy_object", COPY_OF | {"Key": "a"}),
    "upload": ("s3", "create_multipart_upload", {"Bucket": MIRROR, "Key": "a"}),
    "parts": ("s3", "list_parts", UPLOAD | {"Key": "a"}),
    "receive": ("sqs", "receive_message", {"WaitTimeSeconds": 1}),
    "delete": ("sqs", "delete_message_batch", {"Entries": [LENT]}),
    "visibility": ("sqs", "change_message_visibility_batch", {"Entries": [LENT | {"VisibilityTimeout": 1}]}),
}


@pytest.mark.parametrize("client", ["crt", "boto3"])
def test_what_hangs_is_given_up_after_its_timeout(world, client):
    """And what changes something counts as one that may still take effect."""
    world.put("a")
    quick = OF_TASK._replace(answer=1, queue=1, small_copy=1)
    of = world.clients(client, quick, COPY_TIMEOUT="4", VISIBILITY_TIMEOUT="10")
    # A receive of boto3 has the time of the longest poll.
    names = [name for name in HANGING if (client, name) != ("boto3", "receive")]
    for operation in {HANGING[name][1] for name in names}:
        world.standin.fault(operation.title().replace("_", ""), "hang", times=0, seconds=60)

    async def ended(name):
        to, operation, parameters = HANGING[name]
        queue, began = {"QueueUrl": world.queue_url} if to == "sqs" else {}, asyncio.get_running_loop().time()
        decided = await outcome(getattr(getattr(of, to), operation)(**queue | parameters))
        return decided[:2], asyncio.get_running_loop().time() - began

    async def all_ended():
        return await asyncio.wait_for(asyncio.gather(*map(ended, names)), 60)

    decided, seconds = zip(*world.run(all_ended()), strict=True)
    took = dict(zip(names, seconds, strict=True))
    assert set(decided) == {(True, True)}
    assert took["small"] < 3.9 <= took["large"]
    assert took.get("receive", 2) > 1.9  # its poll, and the time of an answer
    asked = world.requests()
    assert (asked["CopyObject"], asked["ListParts"], asked.get("ReceiveMessage", 1)) == (2, ATTEMPTS, 1)


def test_a_server_that_is_not_there_was_never_asked(world):
    of = world.clients("crt")
    of.s3.endpoints[SOURCE] = Endpoint("http://127.0.0.1:1/source/", "127.0.0.1:1", "/source/", "s3")
    assert world.run(outcome(of.s3.head_object(Bucket=SOURCE, Key="a"))) == (True, False, "")


# --- Connections ------------------------------------------------------------------------------------------------------


def test_an_open_connection_is_used_again_unless_it_was_closed_or_idle_for_long(world):
    world.put("a")
    s3, look = world.clients("crt").s3, {"Bucket": SOURCE, "Key": "a"}

    async def looks(number):
        await asyncio.gather(*(s3.head_object(**look) for _ in range(number)))
        return [connection for connection, _ in s3.http.idle[s3.endpoints[SOURCE].host]]

    first = world.run(looks(1))
    assert s3.http.deadlines == {}
    assert world.run(looks(1)) == first
    first[0].close().result(10)
    three = world.run(looks(3))
    assert first[0] not in three
    idle = s3.http.idle[s3.endpoints[SOURCE].host]
    idle.extend([(connection, since - 60) for connection, since in [idle.popleft() for _ in range(3)]])
    last = world.run(looks(1))
    assert last[0] not in three
    assert not any(connection.is_open() for connection in three)


def test_the_host_of_a_request_has_the_port_of_its_endpoint(world):
    """Beside AWS's own host names, which have none: a server, or a proxy, may serve several."""
    of = world.clients("crt", ANNOUNCE="all")
    endpoints = [*of.s3.endpoints.values(), of.sqs.endpoint, of.events.endpoint]
    assert [endpoint.host for endpoint in endpoints] == [world.standin.url.removeprefix("http://")] * 4


class Heads(BaseHTTPRequestHandler):
    """Answers every HEAD."""

    def do_HEAD(self):
        self.send_response(200)
        self.send_header("Last-Modified", "Wed, 25 Nov 2026 01:02:03 GMT")
        self.send_header("Content-Length", "77")
        self.end_headers()


def test_tls_is_checked_against_the_trusted_certificates(world, tmp_path, monkeypatch):
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-nodes", "-keyout", key, "-out", certificate]
    command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with ThreadingHTTPServer(("127.0.0.1", 0), Heads) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"https://127.0.0.1:{server.server_port}")
        with pytest.raises(BotoCoreError):
            world.run(world.clients("crt").s3.head_object(Bucket=SOURCE, Key="a"))
        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
        assert world.run(world.clients("crt").s3.head_object(Bucket=SOURCE, Key="a"))["ContentLength"] == 77
        server.shutdown()
