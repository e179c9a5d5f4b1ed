"""What a sync asks of S3, and what it learns from the answers: on a client that answers what a test says."""

import inspect
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError
from fakes import SERVE, Client, run, syncer_on

from mirror.model.client import S3Client
from mirror.model.services import MAX_COPY_SIZE, MAX_PARTS, MIB
from mirror.protocol.attempt import Host, KeySync
from mirror.protocol.buckets import Buckets, LeftOut
from mirror.protocol.objects import PROVENANCE, source_from_head

pytestmark = pytest.mark.fast

SOURCE = {"ETag": '"e"', "LastModified": datetime(2026, 11, 25, tzinfo=UTC), "ContentLength": 1}
MIRROR = SOURCE | {"ETag": '"d"', "Metadata": {PROVENANCE: source_from_head(SOURCE).identity}}
OTHER = SOURCE | {"ETag": '"d"', "ContentLength": 2}
DONE = {"CopyObjectResult": {"ETag": '"d2"'}, "CopyPartResult": {"ETag": "e"}, "UploadId": "u", "ETag": '"d2"'}
Answer = dict[str, Any] | None


def synced(
    head: Callable[[bool, dict[str, Any]], Answer],
    write: Callable[[str, dict[str, Any]], Answer] = lambda *_: None,
    **asked: Any,
) -> tuple[KeySync, Buckets]:
    """A sync that looks at the destination first. `head`: what the source, if it is that one, or the destination has.
    `write`: of other calls; they succeed if it returns nothing."""

    def answer(operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        if operation != "head_object":
            return write(operation, arguments) or DONE
        found = head(arguments["Bucket"] == "source", arguments)
        if found is None:
            raise ClientError({"Error": {"Code": "404"}}, "HeadObject")
        return found

    syncer, sync = syncer_on(Client(answer)), KeySync("data/key", destination_first=True, **asked)
    run(syncer.sync(sync))
    return sync, syncer.buckets


def test_the_model_of_the_searches_answers_each_request_of_the_contract() -> None:
    """A listing, which shows all keys, is answered by those that know them all."""
    methods = inspect.getmembers(S3Client, inspect.iscoroutinefunction)
    requests = {name for name, method in methods if "parameters" in inspect.signature(method).parameters}
    assert SERVE.keys() == requests - {"list_objects_v2"}


class Asked(Host):
    """A message that asks for a comparison of checksums comes while the sync looks at the source."""

    def look_begins(self, sync: KeySync) -> None:
        sync.compares_bytes = True


@pytest.mark.parametrize(
    ("asked", "action"), [({}, "skipped"), ({"compares_bytes": True}, "copied"), ({"host": Asked()}, "copied")]
)
def test_a_copy_with_other_bytes_is_copied_again_if_a_message_asks_for_it(asked: dict[str, Any], action: str) -> None:
    def head(is_source: bool, arguments: dict[str, Any]) -> Answer:
        checksum = {"ChecksumType": "FULL_OBJECT", "ChecksumCRC32": f"{is_source}"}
        return (SOURCE if is_source else MIRROR) | (checksum if "ChecksumMode" in arguments else {})

    assert synced(head, **asked)[0].result.action == action


GZIPPED, LATER = SOURCE | {"ContentEncoding": "gzip"}, SOURCE | {"ETag": '"f"'}
# What of a copy is refused -> the source before, the code of each answer and the source since; what is learned.
REFUSALS: dict[str, Any] = {
    "an encoding": (GZIPPED, [("InvalidRequest", GZIPPED)], LeftOut(encoding=True)),
    "a condition": (SOURCE, [("NotImplemented", SOURCE)], LeftOut(frozenset({"CopyObject"}))),
    "an encoding, of another version": (
        GZIPPED,
        [("InvalidRequest", GZIPPED), ("PreconditionFailed", SOURCE)],
        LeftOut(),
    ),
    "a condition, of another version": (SOURCE, [("NotImplemented", SOURCE), ("PreconditionFailed", LATER)], LeftOut()),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_what_a_directory_bucket_refuses_is_left_out_once_a_write_has_succeeded_without(what: str) -> None:
    source, refusals, learned = REFUSALS[what]
    left = iter(refusals)

    def write(operation: str, _: dict[str, Any]) -> None:
        nonlocal source
        if operation == "copy_object" and (refusal := next(left, None)):
            code, source = refusal
            raise ClientError({"Error": {"Code": code}}, "CopyObject")

    assert synced(lambda is_source, _: source if is_source else OTHER, write)[1].left_out == learned


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

    def write(operation: str, arguments: dict[str, Any]) -> Answer:
        if operation == "upload_part_copy":
            copied.append((arguments["PartNumber"], arguments["CopySourceRange"]))
            return {"CopyPartResult": {"ETag": f"{arguments['PartNumber']}"}}
        completed.extend(arguments.get("MultipartUpload", {}).get("Parts", []))
        return None

    synced(lambda is_source, _: SOURCE | {"ContentLength": size} if is_source else OTHER, write)
    starts = enumerate(range(0, size, part_size), 1)
    parts = [(number, f"bytes={start}-{min(start + part_size, size) - 1}") for number, start in starts]
    named = [{"PartNumber": number, "ETag": f"{number}"} for number, _ in parts]
    assert (copied == parts, completed == named) == (True, True)


def test_an_object_that_no_10000_parts_can_hold_is_refused_with_its_size() -> None:
    with pytest.raises(ValueError, match=f"{MOST + 1} bytes"):
        synced(lambda *_: SOURCE | {"ContentLength": MOST + 1})
