"""The rules of a directory bucket stand twice: as pure functions for the searches of the protocol (fakes.py), and in
the stand-in. Both follow each rule of this table, whichever is asked.

A rule has the page of AWS that it comes from (API is the S3 API Reference, Guide the S3 User Guide), what was done
before, the call, what it gives or its error code, and what the destination holds then.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import boto3
import pytest
from botocore.exceptions import ClientError
from fakes import LARGE, SETTINGS, SMALL, Running, call_from, shaped
from histories import World
from standin import Standin
from world import CREDENTIALS, wait_until

from mirror.model.limits import MIN_PART_SIZE
from mirror.protocol.objects import PROVENANCE

KEY = "data/key"
SOURCE, MIRROR = {"Bucket": SETTINGS.src_bucket}, {"Bucket": SETTINGS.dst_bucket}
OTHER = {"label": "other", PROVENANCE: "version"}
REPLACED = {"MetadataDirective": "REPLACE", "Metadata": OTHER}
WRONG = '"wrong"'  # an ETag
MANY = [f"data/{letter}" for letter in "abcde"]


def outcome(call: Callable[[], Any]) -> Any:
    """What it gives, or the error code."""
    try:
        return call()
    except ClientError as error:
        return error.response["Error"]["Code"]


class Buckets:
    """A source and a directory bucket, by the calls of boto3. The upload and the ETags of its parts are remembered."""

    upload = ""

    def __init__(self) -> None:
        self.parts: dict[int, str] = {}

    def put(self, content: str, size: int = SMALL, key: str = KEY) -> None:
        raise NotImplementedError

    def remove(self) -> None:
        raise NotImplementedError

    def call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        raise NotImplementedError

    def copying(self, **arguments: Any) -> contextlib.AbstractContextManager[list[Any]]:
        """S3 has read what it copies, and writes it after the block; the list holds the error code then, if any."""
        raise NotImplementedError

    def held(self) -> tuple[list[str], str] | None:
        """What the parts of the destination's object were read from, and its label."""
        raise NotImplementedError

    def copy_arguments(self, arguments: dict[str, Any], key: str = KEY) -> dict[str, Any]:
        return {"Key": key, "CopySource": SOURCE | {"Key": key}, **MIRROR, **arguments}

    def copy(self, key: str = KEY, **arguments: Any) -> None:
        answer = self.call("copy_object", **self.copy_arguments(arguments, key))
        assert key != KEY or answer["CopyObjectResult"]["ETag"] == self.etag()

    def head(self, bucket: dict[str, str] = MIRROR) -> tuple[int, dict[str, str]]:
        found = self.call("head_object", Key=KEY, **bucket)
        return found["ContentLength"], found["Metadata"]

    def etag(self, bucket: dict[str, str] = MIRROR) -> str:
        return self.call("head_object", Key=KEY, **bucket)["ETag"]

    def delete(self, **arguments: Any) -> None:
        self.call("delete_object", Key=KEY, **MIRROR, **arguments)

    def create(self, metadata: dict[str, str] = OTHER) -> None:
        self.upload = self.call("create_multipart_upload", Key=KEY, **MIRROR, Metadata=metadata)["UploadId"]

    def of_upload(self, operation: str, **arguments: Any) -> dict[str, Any]:
        return self.call(operation, Key=KEY, UploadId=self.upload, **MIRROR, **arguments)

    def part(self, number: int, **arguments: Any) -> None:
        first = (number - 1) * MIN_PART_SIZE % LARGE
        span = f"bytes={first}-{first + MIN_PART_SIZE - 1}"
        named = {"PartNumber": number, "CopySource": SOURCE | {"Key": KEY}, "CopySourceRange": span, **arguments}
        self.parts[number] = self.of_upload("upload_part_copy", **named)["CopyPartResult"]["ETag"]

    def complete(self, *numbers: int, **arguments: Any) -> None:
        parts = [{"PartNumber": number, "ETag": self.parts.get(number, WRONG)} for number in numbers]
        answer = self.of_upload("complete_multipart_upload", MultipartUpload={"Parts": parts}, **arguments)
        assert answer["ETag"] == self.etag()

    def abort(self) -> None:
        self.of_upload("abort_multipart_upload")

    def listed_parts(self) -> list[tuple[int, bool, int]]:
        found = self.of_upload("list_parts").get("Parts", [])
        return [(part["PartNumber"], part["ETag"] == self.parts[part["PartNumber"]], part["Size"]) for part in found]

    def uploads(self, prefix: str = "data/") -> list[str]:
        return [item["Key"] for item in self.call("list_multipart_uploads", Prefix=prefix, **MIRROR).get("Uploads", [])]

    def listed(self, bucket: dict[str, str], prefix: str = "") -> list[str]:
        return [item["Key"] for item in self.call("list_objects_v2", Prefix=prefix, **bucket).get("Contents", [])]


class InFakes(Buckets):
    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    def put(self, content: str, size: int = SMALL, key: str = KEY) -> None:
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

    def held(self) -> tuple[list[str], str] | None:
        copy = self.world.stores[KEY].copy if KEY in self.world.stores else None
        return copy and (list(dict.fromkeys(copy.content)), copy.label)


class InStandin(Buckets):
    def __init__(self, standin: Standin, s3: Any) -> None:
        super().__init__()
        self.standin, self.s3 = standin, s3
        self.contents: dict[int, str] = {}  # by generation
        standin.reset()
        for bucket in (SOURCE, MIRROR):
            standin.create_bucket(bucket["Bucket"])

    def put(self, content: str, size: int = SMALL, key: str = KEY) -> None:
        made = self.standin.put(SETTINGS.src_bucket, key, size, metadata={"label": "label"})
        self.contents[made["generations"][0]] = content

    def remove(self) -> None:
        self.standin.delete(SETTINGS.src_bucket, KEY)

    def call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        return getattr(self.s3, operation)(**arguments)

    @contextlib.contextmanager
    def copying(self, **arguments: Any) -> Iterator[list[Any]]:
        outcomes: list[Any] = []
        sent = self.copy_arguments(arguments)
        copy = threading.Thread(target=lambda: outcomes.append(outcome(lambda: self.s3.copy_object(**sent) and None)))
        self.standin.hold("CopyObject")
        copy.start()
        wait_until(lambda: self.standin.stats()["in_flight"].get("CopyObject"))
        yield outcomes
        self.standin.release("CopyObject")
        copy.join()

    def held(self) -> tuple[list[str], str] | None:
        found = self.standin.objects(SETTINGS.dst_bucket).get(KEY)
        return found and ([self.contents[number] for number in found["generations"]], found["metadata"]["label"])


# ---------------------------------------------------------------- what was done before


def nothing(_: Buckets) -> None:
    pass


def new(buckets: Buckets) -> None:
    buckets.put("x")


def copied(buckets: Buckets) -> None:
    new(buckets)
    buckets.copy()


def overwritten(buckets: Buckets) -> None:
    copied(buckets)
    buckets.put("y", LARGE)


def in_parts(buckets: Buckets) -> None:
    buckets.put("x", LARGE)
    buckets.create()
    buckets.part(1)
    buckets.part(2)


def completed(buckets: Buckets) -> None:
    in_parts(buckets)
    buckets.complete(1, 2)


def aborted(buckets: Buckets) -> None:
    in_parts(buckets)
    buckets.abort()


def over_a_copy(buckets: Buckets) -> None:
    copied(buckets)
    in_parts(buckets)


def many(buckets: Buckets) -> None:
    for key in MANY:
        buckets.put("x", key=key)
        buckets.copy(key)


# ---------------------------------------------------------------- calls that are longer than a line


def etags_of_writes(buckets: Buckets) -> int:
    """How many different ones three copies and their source have."""
    etags = {buckets.etag(SOURCE)}
    for _ in range(3):
        buckets.copy()
        etags.add(buckets.etag())
    return len(etags)


def overwritten_while_copied(buckets: Buckets) -> list[Any]:
    with buckets.copying(CopySourceIfMatch=buckets.etag(SOURCE)) as outcomes:
        buckets.put("y")
    return outcomes


def removed_while_copied(buckets: Buckets) -> list[Any]:
    with buckets.copying() as outcomes:
        buckets.remove()
    return outcomes


def written_while_copied(buckets: Buckets) -> list[Any]:
    with buckets.copying(IfNoneMatch="*") as outcomes:
        buckets.complete(1, 2)
    return outcomes


def part_again(buckets: Buckets) -> None:
    """Complete with the ETag that the part had."""
    first = buckets.parts[1]
    buckets.part(1)
    buckets.parts[1] = first
    buckets.complete(1, 2)


def parts_of_two_versions(buckets: Buckets) -> None:
    buckets.put("y", LARGE)
    buckets.part(2)
    buckets.complete(1, 2)


def of_a_gone_upload(buckets: Buckets) -> set[str]:
    calls = [lambda: buckets.part(1), lambda: buckets.complete(1, 2), buckets.abort, buckets.listed_parts]
    return {outcome(call) for call in calls}


def order_of(buckets: Buckets) -> tuple[bool, bool]:
    """Whether all are listed, and in the order of their keys: of the destination."""
    keys = buckets.listed(MIRROR, "data/")
    return sorted(keys) == MANY, keys == MANY


COPY, DIRECTIVE = "API, CopyObject", "API, CopyObject, MetadataDirective"
PART, PARTS, COMPLETE = "API, UploadPartCopy", "API, CompletedPart", "API, CompleteMultipartUpload"
WRITES, DELETES = "Guide, conditional-writes", "Guide, conditional-deletes"
LISTING, DIFFERENCES = "API, ListObjectsV2", "Guide, s3-express-differences"


class Rule(NamedTuple):
    says: str
    page: str
    before: Callable[[Buckets], None]
    call: Callable[[Buckets], Any]
    answer: Any  # or the error code
    held: str = ""  # the contents of the destination's object, its label if it is not the source's, open uploads


RULES = (
    # Looks
    Rule("no object is 404", "API, HeadObject", nothing, Buckets.head, "404"),
    Rule("no source is 404", "API, HeadObject", nothing, lambda b: b.head(SOURCE), "404"),
    Rule("without an object there is nothing to read", "API, GetObject", nothing,
         lambda b: b.call("get_object", Key=KEY, Range="bytes=0-0", **MIRROR), "NoSuchKey"),
    Rule("a copy has the size of its source", COPY, copied, Buckets.head, (SMALL, {"label": "label"}), "x"),
    Rule("a copy in parts has the size of its source", COMPLETE, completed, Buckets.head, (LARGE, OTHER), "x other"),
    # Copies
    Rule("a copy of nothing is refused", COPY, nothing, Buckets.copy, "NoSuchKey"),
    Rule("a copy of what is gone is refused", COPY, copied, lambda b: (b.remove(), b.copy()), "NoSuchKey", "x"),
    Rule("a copy has the metadata of its source", DIRECTIVE, overwritten, Buckets.copy, None, "y"),
    Rule("a copy may have other metadata", DIRECTIVE, new, lambda b: b.copy(**REPLACED), None, "x other"),
    Rule("other metadata is not taken without REPLACE", DIRECTIVE, new, lambda b: b.copy(Metadata=OTHER), None, "x"),
    Rule("each write has an ETag of its own", DIFFERENCES, new, etags_of_writes, 4, "x"),
    Rule("a copy may name the version", COPY, new, lambda b: b.copy(CopySourceIfMatch=b.etag(SOURCE)), None, "x"),
    Rule("a copy of another version than it names is refused", COPY, copied,
         lambda b: b.copy(CopySourceIfMatch=b.etag()), "PreconditionFailed", "x"),
    Rule("a copy may depend on finding nothing", WRITES, new, lambda b: b.copy(IfNoneMatch="*"), None, "x"),
    Rule("a copy that depends on nothing finds something", WRITES, overwritten,
         lambda b: b.copy(IfNoneMatch="*"), "PreconditionFailed", "x"),
    Rule("a copy may depend on the object it replaces", WRITES, overwritten,
         lambda b: b.copy(IfMatch=b.etag()), None, "y"),
    Rule("a copy that depends on one object finds another", WRITES, overwritten,
         lambda b: b.copy(IfMatch=WRONG), "PreconditionFailed", "x"),
    Rule("a copy that depends on one object finds none", WRITES, new, lambda b: b.copy(IfMatch=WRONG), "NoSuchKey"),
    Rule("IfNoneMatch takes no ETag", COPY, copied, lambda b: b.copy(IfNoneMatch=b.etag()), "NotImplemented", "x"),
    Rule("a copy is of what the source was when it began", COPY, new, overwritten_while_copied, [None], "x"),
    Rule("a copy ends although its source is gone", COPY, new, removed_while_copied, [None], "x"),
    Rule("what a copy depends on is looked at when it ends", WRITES, in_parts, written_while_copied,
         ["PreconditionFailed"], "x other"),
    # Deletes
    Rule("a delete of nothing is done", "API, DeleteObject", nothing, Buckets.delete, None),
    Rule("a delete leaves nothing", "API, DeleteObject", copied, Buckets.delete, None),
    Rule("a delete may depend on the object", DELETES, copied, lambda b: b.delete(IfMatch=b.etag()), None),
    Rule("a delete that depends on one object finds another", DELETES, copied,
         lambda b: b.delete(IfMatch=WRONG), "PreconditionFailed", "x"),
    Rule("a delete that depends on one object finds none", DELETES, nothing,
         lambda b: b.delete(IfMatch=WRONG), "NoSuchKey"),
    # Uploads
    Rule("an upload shows no object", COMPLETE, in_parts, Buckets.head, "404", "upload"),
    Rule("its parts become the object", COMPLETE, in_parts, lambda b: b.complete(1, 2), None, "x other"),
    Rule("its parts replace the object", COMPLETE, over_a_copy, lambda b: b.complete(1, 2), None, "x other"),
    Rule("the size of the parts may be named", COMPLETE, in_parts,
         lambda b: b.complete(1, 2, MpuObjectSize=LARGE), None, "x other"),
    Rule("parts of another size than is named are refused", COMPLETE, in_parts,
         lambda b: b.complete(1, MpuObjectSize=LARGE), "InvalidRequest", "upload"),
    Rule("a part that is not named is dropped", COMPLETE, in_parts, lambda b: b.complete(1), None, "x other"),
    Rule("an object needs parts", COMPLETE, in_parts, lambda b: b.complete(), "MalformedXML", "upload"),
    Rule("parts have to be in order", PARTS, in_parts, lambda b: b.complete(2, 1), "InvalidPartOrder", "upload"),
    Rule("parts may have no gap", PARTS, in_parts,
         lambda b: (b.part(3), b.complete(1, 3)), "InvalidPartOrder", "upload"),
    Rule("parts begin with 1", PARTS, in_parts, lambda b: b.complete(2), "InvalidPartOrder", "upload"),
    Rule("a part that is not there is refused", COMPLETE, in_parts,
         lambda b: b.complete(1, 2, 3), "InvalidPart", "upload"),
    Rule("a part that was replaced is refused", COMPLETE, in_parts, part_again, "InvalidPart", "upload"),
    Rule("a part may name the version", PART, in_parts,
         lambda b: b.part(1, CopySourceIfMatch=b.etag(SOURCE)), None, "upload"),
    Rule("a part of another version than it names is refused", PART, in_parts,
         lambda b: b.part(1, CopySourceIfMatch=WRONG), "PreconditionFailed", "upload"),
    Rule("a part of nothing is refused", PART, in_parts, lambda b: (b.remove(), b.part(1)), "NoSuchKey", "upload"),
    Rule("parts may be of two versions", PART, in_parts, parts_of_two_versions, None, "x y other"),
    Rule("an upload may depend on finding nothing", COMPLETE, in_parts,
         lambda b: b.complete(1, 2, IfNoneMatch="*"), None, "x other"),
    Rule("an upload that depends on nothing finds something", COMPLETE, over_a_copy,
         lambda b: b.complete(1, 2, IfNoneMatch="*"), "PreconditionFailed", "x upload"),
    Rule("an upload may depend on the object it replaces", COMPLETE, over_a_copy,
         lambda b: b.complete(1, 2, IfMatch=b.etag()), None, "x other"),
    Rule("an upload that depends on one object finds another", COMPLETE, over_a_copy,
         lambda b: b.complete(1, 2, IfMatch=WRONG), "PreconditionFailed", "x upload"),
    Rule("an upload that depends on one object finds none", COMPLETE, in_parts,
         lambda b: b.complete(1, 2, IfMatch=WRONG), "NoSuchKey", "upload"),
    Rule("a completed upload is gone", COMPLETE, completed, of_a_gone_upload, {"NoSuchUpload"}, "x other"),
    Rule("an aborted upload is gone", "API, AbortMultipartUpload", aborted, of_a_gone_upload, {"NoSuchUpload"}),
    Rule("copies leave an upload alone", "API, CreateMultipartUpload", in_parts, Buckets.copy, None, "x upload"),
    Rule("deletes leave an upload alone", "API, CreateMultipartUpload", over_a_copy, Buckets.delete, None, "upload"),
    Rule("parts are listed", "API, ListParts", in_parts, Buckets.listed_parts,
         [(1, True, MIN_PART_SIZE), (2, True, MIN_PART_SIZE)], "upload"),
    # Listings
    Rule("uploads are listed by folder", "API, ListMultipartUploads", in_parts, Buckets.uploads, [KEY], "upload"),
    Rule("uploads are not listed by half a name", "API, ListMultipartUploads, Prefix", in_parts,
         lambda b: b.uploads("data/k"), "InvalidRequest", "upload"),
    Rule("objects are not listed by half a name", LISTING, copied,
         lambda b: b.listed(MIRROR, "data/k"), "InvalidRequest", "x"),
    Rule("objects of the source are listed by half a name", LISTING, copied,
         lambda b: b.listed(SOURCE, "data/k"), [KEY], "x"),
    Rule("without a prefix all objects are listed", LISTING, copied, lambda b: b.listed(MIRROR), [KEY], "x"),
    Rule("the source is listed in order", LISTING, many, lambda b: b.listed(SOURCE), MANY),
    Rule("the destination in no order", DIFFERENCES, many, order_of, (True, False)),
)  # fmt: skip


@pytest.fixture(scope="module")
def s3(standin: Standin) -> Any:
    names = {name.lower(): value for name, value in CREDENTIALS.items()}
    return boto3.client("s3", endpoint_url=standin.url, region_name="us-east-1", **names)


@pytest.fixture(params=["fakes", "stand-in"])
def buckets(request: pytest.FixtureRequest) -> Buckets:
    if request.param == "fakes":
        return InFakes()
    return InStandin(request.getfixturevalue("standin"), request.getfixturevalue("s3"))


@pytest.mark.parametrize("rule", RULES, ids=[f"{rule.page}: {rule.says}" for rule in RULES])
def test_the_fakes_and_the_stand_in_follow_the_same_rule(buckets, rule):
    rule.before(buckets)
    assert outcome(lambda: rule.call(buckets)) == rule.answer
    contents, label = buckets.held() or ([], "label")
    uploads = buckets.uploads()
    assert " ".join([*contents, *[label] * (label != "label"), *["upload"] * len(uploads)]) == rule.held
