"""What a sync asks of S3, and what it learns from the answers: on a client that answers what a test says."""

from datetime import UTC, datetime
from itertools import zip_longest
from typing import Any

import pytest
from botocore.exceptions import ClientError
from fakes import Client, run, syncer_on

from mirror.model.limits import MAX_COPY_SIZE, MAX_PARTS, MIB
from mirror.protocol.attempt import Host, KeySync
from mirror.protocol.buckets import LeftOut
from mirror.protocol.objects import PROVENANCE, source_from_head

pytestmark = pytest.mark.fast

SOURCE = {"ETag": '"e"', "LastModified": datetime(2026, 11, 25, tzinfo=UTC), "ContentLength": 1}
MIRROR = SOURCE | {"ETag": '"d"', "Metadata": {PROVENANCE: source_from_head(SOURCE).identity}}


class Asked(Host):
    """A message that asks for a comparison of checksums comes while the sync looks at the source."""

    def look_begins(self, sync: KeySync) -> None:
        sync.compares_bytes = True


@pytest.mark.parametrize(
    ("sync", "action"),
    [
        (KeySync("data/key", destination_first=True), "skipped"),
        (KeySync("data/key", destination_first=True, compares_bytes=True), "copied"),
        (KeySync("data/key", destination_first=True, host=Asked()), "copied"),
    ],
    ids=["not asked", "asked", "asked meanwhile"],
)
def test_a_copy_with_other_bytes_is_copied_again_if_a_message_asks_for_it(sync: KeySync, action: str) -> None:
    def answer(operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        if operation != "head_object":
            return {"CopyObjectResult": {"ETag": '"d2"'}}
        is_source = arguments["Bucket"] == "source"
        checksum = {"ChecksumType": "FULL_OBJECT", "ChecksumCRC32": f"{is_source}"}
        return (SOURCE if is_source else MIRROR) | (checksum if "ChecksumMode" in arguments else {})

    run(syncer_on(Client(answer)).sync(sync))
    assert sync.result.action == action


OTHER = SOURCE | {"ETag": '"d"', "ContentLength": 2}
GZIPPED = SOURCE | {"ContentEncoding": "gzip"}
COPY, DELETE = "CopyObject", "DeleteObject"
# What is refused -> the write, the source before, the code of each answer to it and the source since; what is learned.
REFUSALS: dict[str, Any] = {
    "an encoding": (COPY, GZIPPED, [("InvalidRequest", GZIPPED)], LeftOut(encoding=True)),
    "a condition": (COPY, SOURCE, [("NotImplemented", SOURCE)], LeftOut(frozenset({COPY}))),
    "the condition of a delete": (DELETE, None, [("NotImplemented", None)], LeftOut(frozenset({DELETE}))),
    "an encoding, of another version": (
        COPY,
        GZIPPED,
        [("InvalidRequest", GZIPPED), ("PreconditionFailed", SOURCE)],
        LeftOut(),
    ),
    "a condition, of another version": (
        COPY,
        SOURCE,
        [("NotImplemented", SOURCE), ("PreconditionFailed", SOURCE | {"ETag": '"f"'})],
        LeftOut(),
    ),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_what_a_directory_bucket_refuses_is_left_out_once_a_write_has_succeeded_without(what: str) -> None:
    write, source, answers, learned = REFUSALS[what]
    answers = list(answers)

    def answer(operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        nonlocal source
        if operation == "head_object":
            found = source if arguments["Bucket"] == "source" else OTHER
            if found is None:
                raise ClientError({"Error": {"Code": "404"}}, "HeadObject")
            return dict(found)
        if operation in ("copy_object", "delete_object") and answers:
            code, source = answers.pop(0)
            raise ClientError({"Error": {"Code": code}}, write)
        return {"CopyObjectResult": {"ETag": '"d2"'}}

    syncer = syncer_on(Client(answer))
    run(syncer.sync(KeySync("data/key", destination_first=True)))
    assert syncer.buckets.left_out == learned


MOST = MAX_PARTS * MAX_COPY_SIZE


@pytest.mark.parametrize(
    ("size", "part_size"),
    [
        (5 * MIB + 1, 5 * MIB),
        (10 * MIB, 5 * MIB),
        (15 * MIB - 1, 5 * MIB),
        (MAX_PARTS * 5 * MIB, 5 * MIB),
        (MAX_PARTS * 5 * MIB + 1, 6 * MIB),
        (MOST, MAX_COPY_SIZE),
    ],
)
def test_a_large_object_is_copied_in_at_most_10000_parts_that_cover_every_byte_once(size: int, part_size: int) -> None:
    copied, completed = [], []

    def answer(operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        if operation == "upload_part_copy":
            if arguments["PartNumber"] > MAX_PARTS:
                pytest.fail("too many parts")  # whatever catches errors
            copied.append((arguments["PartNumber"], arguments["CopySourceRange"]))
            return {"CopyPartResult": {"ETag": f"{arguments['PartNumber']}"}}
        if operation == "complete_multipart_upload":
            completed.extend(arguments["MultipartUpload"]["Parts"])
        is_source = arguments["Bucket"] == "source"
        return (SOURCE if is_source else OTHER) | {"ContentLength": size if is_source else 2, "UploadId": "u"}

    run(syncer_on(Client(answer)).sync(KeySync("data/key", destination_first=True)))
    starts = list(range(0, size, part_size))
    ranges = [f"bytes={start}-{min(start + part_size, size) - 1}" for start in starts]
    expected = [((number, part), {"PartNumber": number, "ETag": f"{number}"}) for number, part in enumerate(ranges, 1)]
    wrong = [pair for pair in zip_longest(zip_longest(copied, completed), expected) if pair[0] != pair[1]]
    assert wrong[:1] == []


def test_an_object_that_no_10000_parts_can_hold_is_refused_with_its_size() -> None:
    client = Client(lambda *_: SOURCE | {"ContentLength": MOST + 1})
    with pytest.raises(ValueError, match=f"{MOST + 1} bytes"):
        run(syncer_on(client).sync(KeySync("data/key", destination_first=True)))
