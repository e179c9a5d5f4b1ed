"""What stands for AWS here, by the calls of boto3: the model of the searches, the HTTP stand-in of the worker's tests,
and the local cloud that ./deploy.sh --local starts. The rules that all of them follow are in s3_rules.py and
sqs_rules.py; the model has the queues of the stand-in.
"""

from __future__ import annotations

import contextlib
import functools
import json
import threading
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import boto3
from account import DIRECTORY
from botocore.config import Config
from botocore.exceptions import ClientError
from fakes import LARGE, SETTINGS, SMALL, Running, call_from, shaped
from histories import World
from standin import Standin
from standin_checks import MAX_COPY
from world import CREDENTIALS, wait_until

from mirror.model.services import MIN_PART_SIZE

MODEL, STANDIN, CLOUD = "model", "stand-in", "local cloud"
KEY = "data/key"
SOURCE, MIRROR = {"Bucket": SETTINGS.src_bucket}, {"Bucket": SETTINGS.dst_bucket}
WRONG = '"wrong"'  # an ETag
COPY_MAX = LARGE  # of the local cloud


class Rule(NamedTuple):
    """A row of a table: the page of AWS that it comes from (API is the API Reference of the service, Guide its guide
    for users or developers), what was done before, the call, and what it gives, or its error code."""

    says: str
    page: str
    before: Callable[[Any], Any]
    call: Callable[[Any], Any]
    answer: Any
    held: str = ""  # what is there afterwards: see held() of the faces
    but: dict[str, str] = {}  # noqa: RUF012 read only. Who does not follow the rule, and why that is meant


def left_out(faces: str, why: str, *rules: Rule) -> tuple[Rule, ...]:
    """The same rules, which these faces (separated by commas) do not follow."""
    return tuple(rule._replace(but=rule.but | dict.fromkeys(faces.split(", "), why)) for rule in rules)


def steps(*calls: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """One after the other; it gives what the last one gives."""
    return lambda face: [None, *(call(face) for call in calls)][-1]


@functools.cache
def client(service: str, url: str, **settings: Any) -> Any:
    """One that sends each request once, as it is."""
    names = {name.lower(): value for name, value in CREDENTIALS.items()}
    config = Config(retries={"total_max_attempts": 1}, parameter_validation=False, **settings)
    return boto3.client(service, endpoint_url=url, region_name="us-east-1", config=config, **names)


def outcome(call: Callable[[], Any]) -> Any:
    """What it gives, or the error code, without the words that SQS puts before its own."""
    try:
        return call()
    except ClientError as error:
        return error.response["Error"]["Code"].rpartition(".")[2]


class Face:
    def __init__(self, client: Any) -> None:
        self.client = client

    def call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        answer: dict[str, Any] = getattr(self.client, operation)(**arguments)
        return answer


class Buckets(Face):
    """A source and a directory bucket. The upload, the ETags of its parts and a delete marker are remembered."""

    most_copied = MAX_COPY
    upload = marker = ""

    def __init__(self, client: Any = None) -> None:
        super().__init__(client)
        self.parts: dict[int, str] = {}

    def put(self, content: str, size: int = SMALL, key: str = KEY, **arguments: Any) -> None:
        """A version of a source object; `content` is a letter that stands for all its bytes."""
        raise NotImplementedError

    def remove(self) -> None:
        self.call("delete_object", Key=KEY, **SOURCE)

    def restore(self) -> None:
        """Of an archived source, until it can be read."""
        raise NotImplementedError

    def annotate(self) -> None:
        raise NotImplementedError

    def keep_versions(self) -> None:
        """Of the source."""
        raise NotImplementedError

    def copying(self, **arguments: Any) -> contextlib.AbstractContextManager[list[Any]]:
        """S3 has read what it copies, and writes it after the block; the list holds the error code then, if any."""
        return self.during("CopyObject", lambda: self.call("copy_object", **self.copy_arguments(arguments)))

    def during(self, operation: str, call: Callable[[], Any]) -> contextlib.AbstractContextManager[list[Any]]:
        """The same, of any call."""
        raise NotImplementedError

    def content(self) -> list[str] | None:
        """What the parts of the destination's object were read from."""
        raise NotImplementedError

    def held(self) -> str:
        """The contents of the destination's object, its label if it is not the source's, "upload" for each open one."""
        words = []
        contents = self.content()
        if contents is not None:
            words += contents
            label = self.head()[1].get("label", "none")
            words += [label] if label != "label" else []
        return " ".join([*words, *["upload"] * len(self.uploads())])

    def copy_arguments(self, arguments: dict[str, Any], key: str = KEY) -> dict[str, Any]:
        return {"Key": key, "CopySource": SOURCE | {"Key": key}, **MIRROR, **arguments}

    def copy(self, key: str = KEY, **arguments: Any) -> None:
        answer = self.call("copy_object", **self.copy_arguments(arguments, key))
        assert key != KEY or "Bucket" in arguments or answer["CopyObjectResult"]["ETag"] == self.etag()

    def look(self, bucket: dict[str, str] = MIRROR, **arguments: Any) -> dict[str, Any]:
        return self.call("head_object", Key=KEY, **bucket, **arguments)

    def head(self, bucket: dict[str, str] = MIRROR) -> tuple[int, dict[str, str]]:
        found = self.look(bucket)
        return found["ContentLength"], found["Metadata"]

    def etag(self, bucket: dict[str, str] = MIRROR) -> str:
        etag: str = self.look(bucket)["ETag"]
        return etag

    def checksums(self, bucket: dict[str, str] = MIRROR, **arguments: Any) -> dict[str, str]:
        found = self.look(bucket, **arguments or {"ChecksumMode": "ENABLED"})
        return {name: value for name, value in found.items() if name.startswith("Checksum")}

    def delete(self, **arguments: Any) -> None:
        self.call("delete_object", Key=KEY, **MIRROR, **arguments)

    def create(self, **arguments: Any) -> None:
        named = {"Metadata": {"label": "other"}, **arguments}
        self.upload = self.call("create_multipart_upload", Key=KEY, **MIRROR, **named)["UploadId"]

    def of_upload(self, operation: str, **arguments: Any) -> dict[str, Any]:
        return self.call(operation, Key=KEY, UploadId=self.upload, **MIRROR, **arguments)

    def part(self, number: int, **arguments: Any) -> None:
        first = (number - 1) * MIN_PART_SIZE % LARGE
        span = f"bytes={first}-{first + MIN_PART_SIZE - 1}"
        named = {"PartNumber": number, "CopySource": SOURCE | {"Key": KEY}, "CopySourceRange": span, **arguments}
        sent = {name: value for name, value in named.items() if value is not None}
        self.parts[number] = self.of_upload("upload_part_copy", **sent)["CopyPartResult"]["ETag"]

    def complete(self, *numbers: int, **arguments: Any) -> None:
        parts = [{"PartNumber": number, "ETag": self.parts.get(number, WRONG)} for number in numbers]
        answer = self.of_upload("complete_multipart_upload", MultipartUpload={"Parts": parts}, **arguments)
        assert answer["ETag"] == self.etag()

    def abort(self) -> None:
        self.of_upload("abort_multipart_upload")

    def listed_parts(self, page: int = 1000) -> list[tuple[int, bool, int]]:
        found, marker = [], 0
        while True:
            answer = self.of_upload("list_parts", MaxParts=page, PartNumberMarker=marker)
            found += answer.get("Parts", [])
            if not answer["IsTruncated"]:
                break
            marker = answer["NextPartNumberMarker"]
        return [(part["PartNumber"], part["ETag"] == self.parts[part["PartNumber"]], part["Size"]) for part in found]

    def uploads(self, prefix: str = "data/", page: int = 1000) -> list[str]:
        """The keys of all that are open."""
        found, markers = [], {}
        while True:
            answer = self.call("list_multipart_uploads", Prefix=prefix, MaxUploads=page, **MIRROR, **markers)
            found += [item["Key"] for item in answer.get("Uploads", [])]
            if not answer["IsTruncated"]:
                return found
            next_of = {"KeyMarker": "NextKeyMarker", "UploadIdMarker": "NextUploadIdMarker"}
            markers = {name: answer[told] for name, told in next_of.items() if told in answer}

    def walked(self, bucket: dict[str, str], page: int = 1000, **arguments: Any) -> tuple[list[str], list[str]]:
        """Keys and common prefixes of all pages."""
        keys, prefixes, token = [], [], {}
        while True:
            answer = self.call("list_objects_v2", MaxKeys=page, **bucket, **arguments, **token)
            keys += [item["Key"] for item in answer.get("Contents", [])]
            prefixes += [item["Prefix"] for item in answer.get("CommonPrefixes", [])]
            if not answer["IsTruncated"]:
                return keys, prefixes
            token = {"ContinuationToken": answer["NextContinuationToken"]}

    def listed(self, bucket: dict[str, str], prefix: str = "") -> list[str]:
        return self.walked(bucket, Prefix=prefix)[0]


class ModelBuckets(Buckets):
    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    def put(self, content: str, size: int = SMALL, key: str = KEY, **arguments: Any) -> None:
        if arguments:
            raise NotImplementedError
        self.world.change(key, f"put {content}", size=size)

    def remove(self) -> None:
        self.world.change(KEY, "delete")

    def call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        if operation == "list_objects_v2":
            return self.world.listing(arguments)
        return self.end(operation, Running(call_from(operation, arguments)), arguments.get("Key", KEY))

    def end(self, operation: str, running: Running | None, key: str = KEY) -> dict[str, Any]:
        while running:
            running, answer = self.world.serve(key, running)
        return shaped(operation, answer)

    @contextlib.contextmanager
    def copying(self, **arguments: Any) -> Iterator[list[Any]]:
        running, _ = self.world.serve(KEY, Running(call_from("copy_object", self.copy_arguments(arguments))))
        yield (outcomes := [])
        outcomes.append(outcome(lambda: self.end("copy_object", running) and None))

    def content(self) -> list[str] | None:
        copy = self.world.stores[KEY].copy if KEY in self.world.stores else None
        return list(dict.fromkeys(copy.content)) if copy else None


class StandinBuckets(Buckets):
    def __init__(self, standin: Standin, s3: Any) -> None:
        super().__init__(s3)
        self.standin = standin
        self.contents: dict[int, str] = {}  # by generation
        standin.reset()
        for bucket in (SOURCE, MIRROR):
            standin.create_bucket(bucket["Bucket"])

    def put(self, content: str, size: int = SMALL, key: str = KEY, **arguments: Any) -> None:
        label = {"label": "label"}
        if size == SMALL:
            self.call("put_object", Key=key, Body=content.encode(), Metadata=label, **SOURCE, **arguments)
        else:
            self.standin.put(SETTINGS.src_bucket, key, size, metadata=label)
        self.contents[self.standin.objects(SETTINGS.src_bucket)[key]["generations"][0]] = content

    def restore(self) -> None:
        self.standin.restore(SETTINGS.src_bucket, KEY)

    def annotate(self) -> None:
        self.standin.change(SETTINGS.src_bucket, KEY, has_annotations=True)

    def keep_versions(self) -> None:
        self.standin.configure_bucket(SETTINGS.src_bucket, versioning="Enabled")

    @contextlib.contextmanager
    def during(self, operation: str, call: Callable[[], Any]) -> Iterator[list[Any]]:
        outcomes: list[Any] = []
        running = threading.Thread(target=lambda: outcomes.append(outcome(lambda: call() and None)))
        self.standin.hold(operation)
        running.start()
        wait_until(lambda: self.standin.stats()["in_flight"].get(operation))
        yield outcomes
        self.standin.release(operation)
        running.join()

    def content(self) -> list[str] | None:
        found = self.standin.objects(SETTINGS.dst_bucket).get(KEY)
        return [self.contents[number] for number in found["generations"]] if found else None


class CloudBuckets(Buckets):
    most_copied = COPY_MAX

    def __init__(self, url: str, s3: Any) -> None:
        super().__init__(s3)
        urllib.request.urlopen(urllib.request.Request(f"{url}/_ministack/reset", method="POST")).close()
        self.call("create_bucket", **SOURCE)
        self.call("create_bucket", CreateBucketConfiguration=DIRECTORY, **MIRROR)

    def put(self, content: str, size: int = SMALL, key: str = KEY, **arguments: Any) -> None:
        body = content.encode() * size
        self.call("put_object", Key=key, Body=body, Metadata={"label": "label"}, **SOURCE, **arguments)

    def restore(self) -> None:
        self.call("restore_object", Key=KEY, RestoreRequest={"Days": 1}, **SOURCE)
        wait_until(lambda: 'ongoing-request="false"' in self.look(SOURCE)["Restore"])

    def annotate(self) -> None:
        self.call("put_object_annotation", Key=KEY, AnnotationName="a", AnnotationPayload=b"b", **SOURCE)

    def keep_versions(self) -> None:
        self.call("put_bucket_versioning", VersioningConfiguration={"Status": "Enabled"}, **SOURCE)

    def content(self) -> list[str] | None:
        if KEY not in self.listed(MIRROR):
            return None
        body = self.call("get_object", Key=KEY, **MIRROR)["Body"].read().decode()
        return list(dict.fromkeys(body[::MIN_PART_SIZE]))


class Queues(Face):
    """A queue with a dead-letter queue after three receives. The receipt handles are remembered in their order."""

    url = "http://queue"
    other_url = ""  # of a queue that is not there

    def __init__(self, client: Any) -> None:
        super().__init__(client)
        self.handles: list[str] = []
        self.taken: list[dict[str, Any]] = []

    def counts(self) -> tuple[int, int, int]:
        """How many messages are visible, hidden, and dead letters."""
        raise NotImplementedError

    def held(self) -> str:
        names = zip(("visible", "hidden", "dead"), self.counts(), strict=True)
        return " ".join(f"{count} {name}" for name, count in names if count)

    def send(self, body: str = "a", **arguments: Any) -> dict[str, Any]:
        return self.call("send_message", QueueUrl=self.url, MessageBody=body, **arguments)

    def receive(self, most: int = 10, **arguments: Any) -> list[str]:
        """The bodies."""
        named = {"QueueUrl": self.url, "MaxNumberOfMessages": most, "VisibilityTimeout": 600, **arguments}
        found = self.call("receive_message", MessageSystemAttributeNames=["All"], **named).get("Messages", [])
        self.taken += found
        self.handles += [message["ReceiptHandle"] for message in found]
        return [message["Body"] for message in found]

    def told(self, name: str) -> list[str]:
        """An attribute of all that was received so far."""
        return [message["Attributes"][name] for message in self.taken]

    def hide(self, seconds: int, handle: int = -1) -> None:
        named = {"QueueUrl": self.url, "ReceiptHandle": self.handles[handle], "VisibilityTimeout": seconds}
        self.call("change_message_visibility", **named)

    def batch(self, operation: str, *entries: dict[str, Any]) -> list[str]:
        """The error code of each entry, "" if it was taken."""
        named = [{"Id": str(number)} | entry for number, entry in enumerate(entries)]
        answer = self.call(operation, QueueUrl=self.url, Entries=named)
        failed = {entry["Id"]: entry["Code"] for entry in answer.get("Failed", [])}
        return [failed.get(entry["Id"], "") for entry in named]

    def delete(self, handle: int = -1) -> list[str]:
        return self.batch("delete_message_batch", {"ReceiptHandle": self.handles[handle]})


class HttpQueues(Queues):
    """Of the stand-in and of the local cloud."""

    def __init__(self, sqs: Any) -> None:
        super().__init__(sqs)
        name = f"queue-{uuid.uuid4().hex[:8]}"
        self.dead_url = self.make(f"{name}-dead")
        dead = {"deadLetterTargetArn": self.attributes(self.dead_url)["QueueArn"]}
        policy = json.dumps(dead | {"maxReceiveCount": SETTINGS.max_receives})
        self.url = self.make(name, RedrivePolicy=policy)
        self.other_url = f"{self.url}-missing"

    def make(self, name: str, **attributes: str) -> str:
        url: str = self.client.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        return url

    def attributes(self, url: str) -> dict[str, str]:
        found: dict[str, str] = self.call("get_queue_attributes", QueueUrl=url, AttributeNames=["All"])["Attributes"]
        return found

    def counts(self) -> tuple[int, int, int]:
        found, name = self.attributes(self.url), "ApproximateNumberOfMessages"
        hidden = int(found[f"{name}NotVisible"]) + int(found[f"{name}Delayed"])
        return int(found[name]), hidden, int(self.attributes(self.dead_url)[name])
