"""The CRT-based client sends what boto3 would send to the real AWS, and means the same by its answers."""

import asyncio
import contextlib
import dataclasses
import socket
import socketserver
import ssl
import subprocess
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.parsers import ResponseParserError
from world import MIRROR, SOURCE

from mirror.aws import wire
from mirror.aws.boto3_clients import Boto3Events, Boto3S3, Boto3Sqs, make_session
from mirror.aws.crt_json import CrtEvents, CrtSqs
from mirror.aws.crt_s3 import CrtS3
from mirror.aws.endpoints import Endpoint
from mirror.aws.http import Answer, CrtHttp
from mirror.model.errors import is_busy, outcome_unknown
from mirror.protocol.buckets import COPY_DIRECTIVES, Buckets
from mirror.protocol.objects import source_from_head
from mirror.settings import Settings, load_settings

KEY = "a b+é/~(x)'*!?&=#%;,:@$.txt"
ODD_KEYS = ["k", KEY, "/lead//trail/", "a/../b", "日本/\u00fc"]
OWNER = {"ExpectedBucketOwner": "111122223333"}
DIRECTORY = "mirror--eun1-az1--x-s3"
COPY = {
    "Bucket": DIRECTORY,
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
    "Metadata": {"colour": "red", "sync-source": "e 2026-11-25T01:02:03Z 5 null 0123456789ab"},
}

PART = {
    "Bucket": DIRECTORY,
    "CopySourceIfMatch": COPY["CopySourceIfMatch"],
    "CopySourceRange": "bytes=0-67108863",
    "PartNumber": 10_000,
    "UploadId": "AEu+/=~ x",
}

# operation, parameters besides the key
CALLS = [
    ("head_object", {"Bucket": "source"}),
    ("head_object", {"Bucket": "source.with.dots", **OWNER}),
    ("head_object", {"Bucket": DIRECTORY, **OWNER, "ChecksumMode": "ENABLED"}),
    ("copy_object", {**COPY, **OWNER, **METADATA, "IfNoneMatch": "*"}),
    ("copy_object", {**COPY, "MetadataDirective": "COPY", "IfMatch": '"d1"'}),
    ("copy_object", COPY),
    ("upload_part_copy", {**PART, **OWNER}),
    ("delete_object", {"Bucket": DIRECTORY, **OWNER, "IfMatch": '"d1"'}),
    ("delete_object", {"Bucket": DIRECTORY}),
]

# Only of boto3: who calls, and for which attempt. Different each time: date and signature.
NOT_COMPARED = {"user-agent", "amz-sdk-invocation-id", "amz-sdk-request", "x-amz-date", "authorization", "host"}

SESSION = b"""<CreateSessionResult><Credentials><AccessKeyId>SESSIONKEY</AccessKeyId>
<SecretAccessKey>session-secret</SecretAccessKey><SessionToken>session-token</SessionToken>
<Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></CreateSessionResult>"""


@pytest.fixture
def run():
    """Runs a coroutine in an event loop that the clients of one test share."""
    with asyncio.Runner() as runner:
        yield runner.run


@pytest.fixture
def real_aws(monkeypatch, run):
    """boto3 for the real host names, with task role credentials, and its requests kept instead of sent."""
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    for name, value in {"ACCESS_KEY_ID": "ROLEKEY", "SECRET_ACCESS_KEY": "secret", "SESSION_TOKEN": "token"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    sent: list = []
    session = make_session()

    def settings(source: str) -> Settings:
        given = {"REGION": "eu-north-1", "SRC_BUCKET": source, "DST_BUCKET": DIRECTORY, "QUEUE_URL": "https://q"}
        return load_settings(given)

    boto3_s3, boto3_sqs = Boto3S3(session, settings("source")), Boto3Sqs(session, settings("source"))
    boto3_events = Boto3Events(session, settings("source"))
    s3, sqs, events = boto3_s3.quick, boto3_sqs.sqs, boto3_events.events
    clients_of_s3 = [*boto3_s3.clients]

    def keep(request, **_):
        sent.append(request)
        body = SESSION if request.url.endswith("?session") else b""
        return AWSResponse(request.url, 200, {}, SimpleNamespace(stream=lambda *_, **__: iter([body])))

    async def http() -> CrtHttp:
        return CrtHttp("eu-north-1", session.get_credentials())

    def crt(source: str) -> CrtS3:
        made = CrtS3(session, settings(source), run(http()))
        clients_of_s3.extend(made.clients)
        return made

    def listen() -> None:
        for client in [*clients_of_s3, boto3_sqs.sqs, boto3_sqs.polls, events]:
            client.meta.events.register("before-send", keep)

    queue_url = "https://sqs.eu-north-1.amazonaws.com/111122223333/sync-q"
    queue = CrtSqs(session, dataclasses.replace(settings("source"), queue_url=queue_url), run(http()))
    return SimpleNamespace(
        s3=s3,
        boto3_s3=boto3_s3,
        sent=sent,
        crt=crt,
        listen=listen,
        sqs=sqs,
        queue=queue,
        queue_url=queue_url,
        events=events,
        bus=CrtEvents(session, settings("source"), run(http())),
        run=run,
    )


def sent_by_crt(real_aws, client: CrtS3 | CrtSqs | CrtEvents, name: str, parameters: dict) -> tuple:
    """(method, URL, headers) of the request that the CRT was given."""
    kept = {}

    async def open_connection(_endpoint):
        return Mock()

    def start(_connection, request, answer, ended, endpoint):
        kept.update(url=endpoint.url[: -len(endpoint.path)] + request.path, method=request.method)
        kept["headers"] = {header.lower(): value for header, value in request.headers}
        answer.status, answer.body = 200, bytearray(b"" if isinstance(client, CrtS3) else b"{}")
        answer.headers = {"content-length": "0", "last-modified": "Wed, 25 Nov 2026 01:02:03 GMT"}
        ended.set_result(None)

    client.http.open_connection, client.http.start = open_connection, start
    real_aws.run(getattr(client, name)(**parameters))
    return kept["method"], kept["url"], kept["headers"]


def sent_by_boto3(request) -> tuple:
    headers = {
        name.lower(): value.decode() if isinstance(value, bytes) else str(value)
        for name, value in request.headers.items()
    }
    return request.method, request.url, headers


def compared(headers: dict) -> dict:
    return {name: value for name, value in headers.items() if name not in NOT_COMPARED}


def scope(headers: dict) -> tuple:
    """(access key, Region and service, signed headers) of an Authorization header."""
    credential, signed, _ = headers["authorization"].removeprefix("AWS4-HMAC-SHA256 ").split(", ")
    access_key, _date, *rest = credential.removeprefix("Credential=").split("/")
    return access_key, rest, signed


LISTINGS = [
    {"Bucket": "source", "Prefix": KEY, "Delimiter": "/", **OWNER},
    {"Bucket": "source.with.dots", "Prefix": "", "MaxKeys": 1, "ContinuationToken": "1ueGc/+=~ x"},
    {"Bucket": DIRECTORY, "Prefix": "日本/", "Delimiter": "/", **OWNER},
]


@pytest.mark.parametrize("parameters", LISTINGS)
def test_a_request_for_a_page_equals_that_of_boto3(real_aws, parameters):
    objects = real_aws.crt("source.with.dots" if "dots" in parameters["Bucket"] else "source")
    real_aws.listen()
    real_aws.s3.list_objects_v2(**parameters)
    method, url, headers = sent_by_boto3(real_aws.sent[-1])
    crt_method, crt_url, crt_headers = sent_by_crt(real_aws, objects, "list_objects_v2", parameters)
    assert (crt_method, crt_url.split("?")[0]) == (method, url.split("?")[0])
    assert sorted(crt_url.split("?")[1].split("&")) == sorted(url.split("?")[1].split("&"))
    assert crt_url.split("?")[1].split("&") == sorted(crt_url.split("?")[1].split("&"))  # as it is signed
    assert compared(crt_headers) == compared(headers)
    assert scope(crt_headers) == scope(headers)


@pytest.mark.parametrize("key", ODD_KEYS)
@pytest.mark.parametrize(("name", "parameters"), CALLS)
def test_every_request_equals_that_of_boto3_on_the_real_host_names(real_aws, name, parameters, key):
    parameters = parameters | {"Key": key}
    if name in ("copy_object", "upload_part_copy"):
        parameters["CopySource"] = {"Bucket": "source", "Key": key}
    objects = real_aws.crt("source.with.dots" if "dots" in parameters["Bucket"] else "source")
    real_aws.listen()
    getattr(real_aws.s3, name)(**parameters)
    method, url, headers = sent_by_boto3(real_aws.sent[-1])
    crt_method, crt_url, crt_headers = sent_by_crt(real_aws, objects, name, parameters)
    assert (crt_method, crt_url) == (method, url)
    assert compared(crt_headers) == compared(headers)
    assert scope(crt_headers) == scope(headers)
    assert crt_headers["host"] == url.split("/")[2]


QUEUE_CALLS = [
    (
        "receive_message",
        {
            "MaxNumberOfMessages": 10,
            "WaitTimeSeconds": 20,
            "VisibilityTimeout": 7200,
            "MessageSystemAttributeNames": ["ApproximateReceiveCount", "MessageGroupId"],
        },
    ),
    ("send_message_batch", {"Entries": [{"Id": "0", "MessageBody": '{"key": "ü"}', "MessageGroupId": "reconcile"}]}),
    ("delete_message_batch", {"Entries": [{"Id": "0", "ReceiptHandle": "AQEB+/="}]}),
]


@pytest.mark.parametrize(("name", "parameters"), QUEUE_CALLS)
def test_every_request_to_the_queue_equals_that_of_boto3(real_aws, name, parameters):
    parameters = {"QueueUrl": real_aws.queue_url} | parameters
    real_aws.listen()
    getattr(real_aws.sqs, name)(**parameters)
    [request] = real_aws.sent
    method, url, headers = sent_by_boto3(request)
    crt_method, crt_url, crt_headers = sent_by_crt(real_aws, real_aws.queue, name, parameters)
    assert (crt_method, crt_url, crt_headers["host"]) == (method, url, url.split("/")[2])
    assert compared(crt_headers) == compared(headers)
    assert scope(crt_headers) == scope(headers)


def test_the_request_to_the_event_bus_equals_that_of_boto3(real_aws):
    parameters = {"Entries": [{"Source": "s", "DetailType": "t", "Detail": '{"key": "ü"}'}]}
    real_aws.listen()
    real_aws.events.put_events(**parameters)
    [request] = real_aws.sent
    method, url, headers = sent_by_boto3(request)
    crt_method, crt_url, crt_headers = sent_by_crt(real_aws, real_aws.bus, "put_events", parameters)
    assert (crt_method, crt_url, crt_headers["host"]) == (method, url, "events.eu-north-1.amazonaws.com")
    assert compared(crt_headers) == compared(headers)
    assert scope(crt_headers) == scope(headers)


HEADERS_BEYOND_ASCII = {
    "ContentDisposition": 'attachment; filename="gr\xf6\udcdfe.csv"',
    "CacheControl": "\u65e5\u672c",
    "ContentLanguage": "fi",
}


def test_headers_beyond_ascii_are_sent_as_they_came_and_are_not_signed(real_aws):
    real_aws.listen()
    call = real_aws.boto3_s3.create_multipart_upload
    real_aws.run(call(Bucket=DIRECTORY, Key="k", Metadata={"a": "b"}, **HEADERS_BEYOND_ASCII))
    headers = {name.lower(): value for name, value in real_aws.sent[-1].headers.items()}
    assert headers["content-disposition"] == b'attachment; filename="gr\xc3\xb6\xdfe.csv"'
    assert headers["cache-control"] == "\u65e5\u672c".encode()
    signed = headers["authorization"].decode().split("SignedHeaders=")[1].split(",")[0].split(";")
    assert {"content-language", "host", "x-amz-meta-a", "x-amz-s3session-token"} <= set(signed)
    assert not {"content-disposition", "cache-control"} & set(signed)


def test_only_copies_are_signed_with_the_task_role_on_a_directory_bucket(real_aws):
    objects = real_aws.crt("source")
    real_aws.listen()
    key = {"Key": "k", "Bucket": DIRECTORY}
    _, _, head = sent_by_crt(real_aws, objects, "head_object", key)
    _, _, delete = sent_by_crt(real_aws, objects, "delete_object", key)
    _, _, copy = sent_by_crt(real_aws, objects, "copy_object", key | {"CopySource": {"Bucket": "source", "Key": "k"}})
    assert scope(head)[0] == scope(delete)[0] == "SESSIONKEY"
    assert head["x-amz-s3session-token"] == "session-token"
    assert scope(copy)[0] == "ROLEKEY"
    assert copy["x-amz-security-token"] == "token"
    assert scope(copy)[1] == ["eu-north-1", "s3express", "aws4_request"]


def test_one_session_serves_the_crt_and_all_clients_of_boto3(real_aws):
    objects = real_aws.crt("source")
    real_aws.listen()
    key = {"Bucket": DIRECTORY, "Key": "k"}

    async def many() -> None:
        await Buckets(objects.settings, objects).answering.open()
        await asyncio.gather(*(objects.open_session() for _ in range(20)))
        for call in (Boto3S3.head_object, Boto3S3.delete_object):
            await call(objects, **key)
        await objects.create_multipart_upload(**key)

    real_aws.run(many())
    assert len([request for request in real_aws.sent if request.url.endswith("?session")]) == 1
    assert {request.headers.get("x-amz-s3session-token") for request in real_aws.sent} == {None, b"session-token"}


def test_the_request_headers_are_those_of_the_service_model(real_aws):
    model = real_aws.s3.meta.service_model
    operations = (wire.HEAD_OBJECT, wire.COPY_OBJECT, wire.UPLOAD_PART_COPY, wire.DELETE_OBJECT, wire.LIST_OBJECTS)
    shapes = [model.operation_model(operation.name).input_shape.members for operation in operations]
    for parameter, header in wire.REQUEST_HEADERS.items():
        named = {members[parameter].serialization["name"] for members in shapes if parameter in members}
        assert {name.lower() for name in named} == {header.lower()}


def test_the_answer_fields_are_those_of_the_service_model(real_aws):
    members = real_aws.s3.meta.service_model.operation_model("HeadObject").output_shape.members
    for header, field in wire.ANSWER_FIELDS.items():
        if field != "ExpiresString":
            assert members[field].serialization["name"].lower() == header
    checksums = {members[name].serialization["name"].lower(): name for name in members if name.startswith("Checksum")}
    answer = wire.head_answer({"content-length": "0", "last-modified": "Wed, 25 Nov 2026 01:02:03 GMT"} | checksums)
    assert {name: value for name, value in answer.items() if name in members and name.startswith("Checksum")} == {
        name: name for name in checksums.values()
    }


# Against the stand-in: both clients answer and fail alike


def both(world) -> tuple:
    return tuple(world.worker(S3_CLIENT=name).buckets.s3 for name in ("crt", "boto3"))


def outcome(world, call) -> tuple:
    try:
        return "answer", world.run(call)
    except ClientError as error:
        return error.operation_name, error.response["Error"]["Code"], error.response["Error"]["Message"]
    except BotoCoreError as error:
        return (isinstance(error, HTTPClientError),)


def test_both_clients_see_the_same_source(world):
    fields = {"cache-control": "no-cache", "expires": "Tue, 01 Jan 2030 00:00:00 GMT", "content-language": "fi"}
    world.put("a", metadata={"colour": "red", "name": "日本"}, headers=fields, storage_class="GLACIER")
    world.put("b", headers={"expires": "never", "cache-control": "\xfc"}, missing_meta=2)
    world.standin.configure_bucket(SOURCE, versioning="Enabled")
    world.put("c", headers={"content-language": "\udcfc"})
    for key in "abc":
        crt, plain = [source_from_head(world.run(client.head_object(Bucket=SOURCE, Key=key))) for client in both(world)]
        assert crt == plain
        assert (crt.fields, crt.metadata, crt.carries_provenance, crt.archived) == (
            plain.fields,
            plain.metadata,
            plain.carries_provenance,
            plain.archived,
        )


def test_both_clients_read_the_same_page(world):
    for key in ("a/b c", "a/+%25", "a/<&>\"'", "a/日本/x", "a/sub/\x01", "a//b"):
        world.put(key, size=7, storage_class="GLACIER" if "+" in key else "STANDARD")
    for parameters in ({"Prefix": "a/"}, {"Prefix": "a/", "Delimiter": "/"}, {"Prefix": "no/"}, {"MaxKeys": 2}):
        pages = [world.run(client.list_objects_v2(Bucket=SOURCE, **parameters)) for client in both(world)]
        crt, plain = ({name: page.get(name) or [] for name in PAGE} for page in pages)
        assert crt == plain | {"Contents": [{name: item[name] for name in ITEM} for item in plain["Contents"]]}
        assert pages[0]["ResponseMetadata"]["HTTPHeaders"]["date"]


PAGE = "Contents", "CommonPrefixes", "IsTruncated", "NextContinuationToken"
ITEM = "Key", "ETag", "Size", "LastModified", "StorageClass"
LISTED = (
    "<Contents><Key>k</Key><LastModified>2026-01-01T00:00:00Z</LastModified><ETag>e</ETag><Size>1</Size></Contents>"
)


@pytest.mark.parametrize(
    "body",
    [
        f"<R><KeyCount>2</KeyCount><IsTruncated>false</IsTruncated>{LISTED}</R>",
        f"<R><IsTruncated>false</IsTruncated>{LISTED}</R>",
        f"<R><KeyCount>1</KeyCount><IsTruncated>false</IsTruncated>{LISTED[:40]}",
        f"<R><KeyCount>1</KeyCount><IsTruncated>false</IsTruncated>{LISTED.replace('ETag', 'Tag')}</R>",
        f"<R><KeyCount>1</KeyCount><IsTruncated>false</IsTruncated>{LISTED.replace('>1<', '>x<')}</R>",
        f"<R><KeyCount>1</KeyCount><IsTruncated>false</IsTruncated>{LISTED.replace('k', chr(0xDCFF))}</R>",
    ],
)
def test_a_page_that_is_not_whole_is_none(body):
    with pytest.raises(ResponseParserError):
        wire.read_answer(wire.LIST_OBJECTS, Answer(200, body=bytearray(body.encode(errors="surrogateescape"))))


FIELDS = {
    name: f"<{name}>{text}</{name}>"
    for name, text in {
        "Key": "a%2Fb+c",
        "LastModified": "2026-01-01T00:00:00.000Z",
        "ETag": "&quot;e&amp;&quot;",
        "ChecksumAlgorithm": "CRC64NVME",
        "ChecksumType": "FULL_OBJECT",
        "Size": "1",
        "StorageClass": "STANDARD",
        "Owner": "<ID>7</ID>",
    }.items()
}
READ = {
    "Key": "a/b c",
    "LastModified": datetime(2026, 1, 1, tzinfo=UTC),
    "ETag": '"e&"',
    "Size": 1,
    "StorageClass": "STANDARD",
}


@pytest.mark.parametrize(
    "objects",
    [
        [[*FIELDS][:7]] * 2,
        [sorted(FIELDS), sorted(FIELDS)],
        [[*FIELDS][:7], [*FIELDS]],
        [["Size", "Key", "StorageClass", "LastModified", "ETag"], [*FIELDS][:7]],
        [[*FIELDS][:6], [*FIELDS][:7], [*FIELDS][:6]],
        [[*FIELDS][:7], [*FIELDS][:6]],
        [["Key", "LastModified", "ETag", "Size"]],
    ],
)
def test_a_page_is_read_whatever_its_objects_show_in_whichever_order(objects):
    listed = "".join(f"<Contents>{''.join(FIELDS[name] for name in names)}</Contents>" for names in objects)
    beside = f"<KeyCount>{len(objects)}</KeyCount><EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>"
    page = wire.read_answer(wire.LIST_OBJECTS, Answer(200, body=bytearray(f"<R>{beside}{listed}</R>".encode())))
    wanted = [READ if "StorageClass" in names else READ | {"StorageClass": ""} for names in objects]
    assert page["Contents"] == wanted


FAULTS = [
    {"kind": "error", "status": 500, "code": "InternalError"},
    {"kind": "error", "status": 503, "code": "SlowDown"},
    {"kind": "error", "status": 412, "code": "PreconditionFailed"},
    {"kind": "error", "status": 403, "code": "AccessDenied"},
    {"kind": "reset"},
    {"kind": "lost"},
]
SLOW_CALL_FAULTS = [{"kind": "error_in_200", "code": "InternalError"}, {"kind": "empty_200"}]


@pytest.mark.parametrize(
    ("name", "fault"),
    [(name, fault) for name in ("head_object", "copy_object", "delete_object", "list_objects_v2") for fault in FAULTS]
    + [("copy_object", fault) for fault in SLOW_CALL_FAULTS],
    ids=lambda value: value if isinstance(value, str) else f"{value['kind']}{value.get('status', '')}",
)
def test_both_clients_decide_alike_on_every_fault(world, name, fault):
    world.put("a")
    operation = "ListObjectsV2" if name == "list_objects_v2" else name.title().replace("_", "")
    parameters = {"Bucket": MIRROR if name != "head_object" else SOURCE}
    if name != "list_objects_v2":
        parameters["Key"] = "a"
    if name == "copy_object":
        parameters |= {"CopySource": {"Bucket": SOURCE, "Key": "a"}, **COPY_DIRECTIVES}
    outcomes = []
    for client in both(world):
        world.standin.clear_faults()
        world.standin.fault(operation, times=0, **fault)
        found = outcome(world, getattr(client, name)(**parameters))
        outcomes.append(found[:2] if found[0] != "answer" else found[1].get("CopyObjectResult"))
    assert outcomes[0] == outcomes[1]


def test_a_silent_server_is_given_up_after_the_timeout_and_the_outcome_counts_as_unknown(world):
    world.put("a")
    world.standin.fault("CopyObject", "hang", seconds=30)
    s3 = world.worker(COPY_TIMEOUT="1").buckets.s3
    copy = s3.copy_object(Bucket=MIRROR, Key="a", CopySource={"Bucket": SOURCE, "Key": "a"}, **COPY_DIRECTIVES)
    with pytest.raises(HTTPClientError) as error:
        world.run(copy)
    assert outcome_unknown(error.value)
    assert world.requests()["CopyObject"] == 1


def test_an_answer_that_came_in_time_keeps_its_connection_for_the_next_request(world):
    world.put("a")
    objects = world.worker().buckets.s3
    world.run(objects.head_object(Bucket=SOURCE, Key="a"))
    [(connection, _)] = [idle for host in objects.http.idle.values() for idle in host]
    assert objects.http.deadlines == {}
    world.run(objects.head_object(Bucket=SOURCE, Key="a"))
    assert [idle[0] for host in objects.http.idle.values() for idle in host] == [connection]


def test_a_connection_that_was_closed_meanwhile_is_not_used_again(world):
    world.put("a")
    objects = world.worker().buckets.s3
    world.run(objects.head_object(Bucket=SOURCE, Key="a"))
    [(connection, _)] = objects.http.idle["127.0.0.1:" + world.standin.url.rpartition(":")[2]]
    connection.close().result(10)
    assert world.run(objects.head_object(Bucket=SOURCE, Key="a"))["ContentLength"] == 1024


def test_the_host_of_a_request_has_the_port_of_its_endpoint(world):
    """Beside AWS's own host names, which have none: a server, or a proxy, may serve several."""
    made = world.worker(ANNOUNCE="all")
    clients = [*made.buckets.s3.endpoints.values(), made.leases.queue.sqs.endpoint, made.announcer.client.endpoint]
    assert [endpoint.host for endpoint in clients] == [world.standin.url.removeprefix("http://")] * 4


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "error", "status": 500, "code": "InternalError"},
        {"kind": "error", "status": 400, "code": "RequestThrottled"},
        {"kind": "reset"},
    ],
)
def test_what_fails_on_the_queue_is_repeated_by_boto3(world, fault):
    queue = world.worker().leases.queue
    world.standin.fault("SendMessageBatch", times=1, **fault)
    world.run(queue.send_batch(["a"], "group"))
    world.standin.fault("ReceiveMessage", times=1, **fault)
    [message] = world.run(queue.receive(0, 30))
    world.standin.fault("DeleteMessageBatch", times=1, **fault)
    world.run(queue.delete([message.receipt_handle]))
    assert world.is_empty()
    requests = world.requests()
    assert [requests[name] for name in ("SendMessageBatch", "ReceiveMessage", "DeleteMessageBatch")] == [2, 2, 2]


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "error", "status": 500, "code": "InternalException"},
        {"kind": "error", "status": 400, "code": "ThrottlingException"},
        {"kind": "reset"},
        {"kind": "empty_200"},
    ],
)
def test_what_fails_on_the_event_bus_is_repeated_by_boto3(world, fault):
    client = world.worker(ANNOUNCE="all").announcer.client
    world.standin.fault("PutEvents", times=1, **fault)
    answer = world.run(client.put_events(Entries=[{"Source": "s", "DetailType": "t", "Detail": "{}"}]))
    assert answer["Entries"][0]["EventId"]
    assert world.requests()["PutEvents"] == 2


def test_a_part_that_s3_is_too_busy_for_is_repeated_by_boto3(world):
    world.put("a", 6 * 1024**3)
    world.standin.fault("UploadPartCopy", "error", status=503, code="SlowDown", times=3)
    world.run_worker()
    assert world.requests()["UploadPartCopy"] == 96 + 3
    assert world.is_equal()


def test_a_server_that_is_not_there_was_never_asked(world):
    objects = world.worker().buckets.s3
    endpoint = objects.endpoints[SOURCE]
    objects.endpoints[SOURCE] = Endpoint("http://127.0.0.1:1/source/", "127.0.0.1:1", "/source/", "s3")
    assert endpoint.url.startswith(world.standin.url)
    with pytest.raises(BotoCoreError) as error:
        world.run(objects.head_object(Bucket=SOURCE, Key="a"))
    assert is_busy(error.value)
    assert not outcome_unknown(error.value)


ODD_ANSWERS = {
    "a page that is no XML": ("copy_object", 503, {}, "<html>busy<br></html>"),
    "spaces and then the end": ("copy_object", 200, {}, '<?xml version="1.0" encoding="UTF-8"?>\n\n  \n'),
    "a year that no date has": ("head_object", 200, {"Expires": f"Tue, 01 Jan {'9' * 20} 00:00:00 GMT"}, ""),
    "no date": ("head_object", 200, {"Last-Modified": None}, ""),
}


@pytest.mark.parametrize("name", ODD_ANSWERS)
def test_an_answer_that_makes_no_sense_keeps_nobody_waiting(world, name):
    operation, status, headers, body = ODD_ANSWERS[name]
    given = {"ETag": '"e"', "Last-Modified": "Wed, 25 Nov 2026 01:02:03 GMT", "Content-Length": len(body)} | headers
    objects = world.worker().buckets.s3
    call = {"Bucket": SOURCE, "Key": "a"} | ({"CopySource": {"Bucket": SOURCE, "Key": "a"}} if body else {})
    with server_that_answers(status, given, body) as url:
        objects.endpoints[SOURCE] = Endpoint(f"{url}/source/", url.split("/")[2], "/source/", "s3")
        asked = asyncio.wait_for(getattr(objects, operation)(**call), 10)
        [answer] = world.run(gathered(asked))
    if name == "a year that no date has":
        assert answer["ExpiresString"]
        assert "Expires" not in answer
    else:
        assert isinstance(answer, Exception)
        assert not isinstance(answer, TimeoutError)
        assert is_busy(answer) == (operation == "copy_object")


async def gathered(*awaitables) -> list:
    """Answers and errors alike."""
    return await asyncio.gather(*awaitables, return_exceptions=True)


@contextlib.contextmanager
def server_that_answers(status, headers, body):
    """The URL of a server that answers everything alike; headers that are None are left away."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self):
            self.send_response(status)
            for name, value in headers.items():
                if value is not None:
                    self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(body.encode())

        do_HEAD = do_PUT = answer  # noqa: N815

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_tls_is_checked_against_the_trusted_certificates(world, tmp_path, monkeypatch):
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, *subject],
        check=True,
        capture_output=True,
    )
    world.put("a", 77)
    with tls_in_front_of(world.standin.url, certificate, key) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        with pytest.raises(BotoCoreError):
            world.run(world.worker().buckets.s3.head_object(Bucket=SOURCE, Key="a"))
        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
        found = world.run(world.worker().buckets.s3.head_object(Bucket=SOURCE, Key="a"))
        assert found["ContentLength"] == 77


@contextlib.contextmanager
def tls_in_front_of(url, certificate, key):
    """The URL of a server that accepts TLS and passes the bytes on to a plain one."""
    host, port = url.removeprefix("http://").split(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            with contextlib.suppress(ssl.SSLError):  # a client that does not trust us goes away
                client = context.wrap_socket(self.request, server_side=True)
                behind = socket.create_connection((host, int(port)))
                threading.Thread(target=pump, args=[behind, client], daemon=True).start()
                pump(client, behind)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"https://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def pump(origin, target):
    while data := origin.recv(65536):
        target.sendall(data)
