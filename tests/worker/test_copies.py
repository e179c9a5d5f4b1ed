"""What a worker does to the two buckets on the stand-in: objects with all that S3 keeps of them, copied both ways."""

import contextlib
import dataclasses
import random
import re
from datetime import UTC, datetime

import pytest
from botocore.exceptions import ClientError
from world import MIRROR, SOURCE, WORKER, held, wait_until

from mirror.model.errors import Refused
from mirror.model.log_lines import quoted
from mirror.model.services import GIB, MIB
from mirror.protocol.attempt import KeySync
from mirror.protocol.multipart import NOT_IN_XML, abort_orphans
from mirror.protocol.objects import destination_from_head, source_from_head
from mirror.protocol.verdict import EQUAL, judge

IN_PARTS = {"MULTIPART_THRESHOLD": str(16 * MIB), "PART_SIZE": str(8 * MIB)}
OBJECTS = {
    "plain": {},
    "dir/a b+c&é=(1).txt": {},
    "everything": {
        "metadata": {"colour": "red"},
        "headers": {
            "content-type": "text/csv",
            "cache-control": "max-age=60",
            "content-disposition": 'attachment; filename="a.csv"',
            "content-language": "fi",
            "expires": "Tue, 01 Jan 2030 00:00:00 GMT",
        },
    },
    "no room for the provenance": {"metadata": {"long": "x" * 1990}},
    "another alphabet": {"metadata": {"name": "日本"}},
    "headers in UTF-8": {"headers": {"content-disposition": 'filename="gr\xf6\xdfe  \u65e5\u672c.csv"'}},
    "headers in other bytes": {"headers": {"content-disposition": 'filename="gr\udcf6\udcdfe.csv"'}},
    "what is not copied": {"tags": "team=ml", "has_annotations": True},
    "encoded": {"headers": {"content-encoding": "gzip"}},
}
# There is no room for it, or S3 copies the metadata, as it may not be sent back in the same bytes.
WITHOUT_PROVENANCE = {"small no room for the provenance", "large no room for the provenance", "small another alphabet"}
WITHOUT_PROVENANCE |= {"small headers in UTF-8", "small headers in other bytes"}
CONDITIONS = ["CopyObject", "CompleteMultipartUpload", "DeleteObject"]
# Content-Encoding, and the conditions that are refused
DESTINATIONS = {
    "takes all": ("keep", []),
    "refuses Content-Encoding": ("refuse", []),
    "refuses conditional writes": ("keep", CONDITIONS),
}


def sync(world, *keys, **changed):
    """The results of a sync of each of them, one after the other."""
    worker = world.worker(**IN_PARTS | changed)

    async def all_of_them():
        syncs = [KeySync(key) for key in keys]
        for one in syncs:
            await worker.syncer.sync(one)
        return [one.result for one in syncs]

    return world.run(all_of_them())


def expected(found, keeps_encoding):
    """What a copy of this source object holds."""
    content, headers, metadata = held(found)
    if not keeps_encoding and "content-encoding" in headers:
        metadata["sync-content-encoding"] = headers.pop("content-encoding")
    return content, headers, metadata


@pytest.mark.parametrize("destination", DESTINATIONS)
def test_a_copy_has_all_that_its_source_has_however_it_is_copied(world, destination, caplog):
    """New, overwritten and deleted; and with the other client nothing is found that differs."""
    encoding, conditions = DESTINATIONS[destination]
    world.standin.configure_bucket(MIRROR, content_encoding=encoding, refused_conditions=conditions)
    keeps_encoding = encoding == "keep"
    keys = [f"{size} {key}" for size in ("small", "large") for key in OBJECTS]
    for size in (1024, 1025):
        for key in keys:
            world.put(key, size if "small" in key else 20 * MIB + size, **OBJECTS[key.partition(" ")[2]])
        sync(world, *keys)
        sources = world.standin.objects(SOURCE)
        assert {key: held(found) for key, found in world.mirrored().items()} == {
            key: expected(found, keeps_encoding) for key, found in sources.items()
        }
        known = {key for key, found in world.mirrored().items() if "sync-source" in found["metadata"]}
        assert set(keys) - known == WITHOUT_PROVENANCE
    if not conditions:  # otherwise what is of the same second is copied again
        assert {result.action for result in sync(world, *known, S3_CLIENT="boto3")} == {"skipped"}
    for key in keys:
        world.standin.delete(SOURCE, key)
    assert {result.action for result in sync(world, *keys)} == {"deleted"}
    assert world.mirrored() == {}
    assert world.standin.uploads(MIRROR) == []
    assert ("refuses Content-Encoding gzip, kept as user metadata" in caplog.text) != keeps_encoding
    refused = set(re.findall(r"refuses conditional writes, going on without: operation=(\S+) ", caplog.text))
    assert refused == set(conditions)


RFC_1123 = "%a, %d %b %Y %H:%M:%S GMT"  # the only form that a request can carry
OTHER_FORMS = [
    *("%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y"),  # RFC 850, asctime
    *("%a, %d %b %Y %H:%M:%S", "%a, %d %b %Y %H:%M:%S +0200", "%a, %d %b %Y %H:%M:%S EST", "%d %b %Y %H:%M GMT"),
    *("%a,  %d %b %Y %H:%M:%S GMT", "%a, %d %b %Y  %H:%M:%S GMT", "%a, %d %b %Y %H:%M:%S gmt", "%H:%M"),
    *("%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S+02:00", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d", "%s", "%Y%m%d"),
    *("0", "-1", "never", "1e400", "9" * 20, "\xfc", "Mon, 00 Jan 0000 00:00:00 GMT", "Wed, 01 Jan 2030 00:00:00 GMT"),
]


def test_an_expires_is_what_its_text_is_whichever_client_looks(world, caplog):
    """Each client copies half of the objects, small and large, and both find the same afterwards. S3 keeps any text."""
    chance, texts = random.Random(), {}
    for number, form in enumerate([RFC_1123] * 3 + OTHER_FORMS):
        moment = datetime.fromtimestamp(chance.randrange(-(10**9), 4 * 10**9), UTC)
        texts |= {f"{size} {number} {form in OTHER_FORMS}": moment.strftime(form) for size in ("small", "large")}
    for key, text in texts.items():
        world.put(key, 20 * MIB if "large" in key else 1024, headers={"expires": f"{text} "})
    clients = {name: world.clients(name, **IN_PARTS).s3 for name in ("crt", "boto3")}
    of_boto3 = {key for key in texts if chance.random() < 0.5}
    sync(world, *of_boto3, S3_CLIENT="boto3")
    sync(world, *texts.keys() - of_boto3)

    def looks(bucket, key, read):
        return [read(world.run(client.head_object(Bucket=bucket, Key=key))) for client in clients.values()]

    for key, text in texts.items():
        is_odd, is_lost, shown = "True" in key, key.startswith("large") and "True" in key, f"{key}: {text}"
        source, other = looks(SOURCE, key, source_from_head)
        assert dataclasses.asdict(source) == dataclasses.asdict(other), shown
        assert source.carries_provenance != is_odd, shown
        for copy in looks(MIRROR, key, destination_from_head):
            assert judge(source, copy, deep=True).what == EQUAL, shown
        assert (world.mirrored()[key]["headers"].get("expires", "").strip() != text) == is_lost, shown
        assert (f"the copy in parts of key={quoted(key)} has another" in caplog.text) == is_lost, shown
    process = world.start(WORKER, "reconcile", "--dry-run", "--deep", **IN_PARTS)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output


def test_requests_name_owners_and_the_version_to_copy_and_no_bytes_are_read_or_source_changed(world):
    world.standin.record()
    owners = {"SRC_BUCKET_OWNER": "111122223333", "DST_BUCKET_OWNER": "111122223333"}
    etags = {world.put("a")["etag"], world.put("big", 20 * MIB)["etag"]}
    sync(world, "a", "big", **owners)
    world.standin.delete(SOURCE, "a")
    sync(world, "a", **owners)
    sent = [entry for entry in world.standin.requests() if entry["key"]]
    assert {entry["headers"].get("x-amz-expected-bucket-owner") for entry in sent} == {"111122223333"}
    assert {entry["method"] for entry in sent if entry["bucket"] == SOURCE} == {"HEAD"}
    copies = [entry["headers"] for entry in sent if "x-amz-copy-source" in entry["headers"]]
    assert {headers["x-amz-copy-source-if-match"].strip('"') for headers in copies} == etags
    assert {headers["x-amz-source-expected-bucket-owner"] for headers in copies} == {"111122223333"}
    assert len(copies) == 1 + 3
    assert "GetObject" not in world.requests()


def test_an_object_of_exactly_5_gib_is_one_copy_and_one_byte_more_is_copied_in_parts_side_by_side(world):
    """And the log says how far it is."""
    world.put("five", 5 * GIB)
    world.put("more", 5 * GIB + 1)
    world.standin.hold("UploadPartCopy")
    process = world.start_worker(COPY_TIMEOUT="60", VISIBILITY_TIMEOUT="120")
    wait_until(lambda: world.standin.stats()["in_flight"].get("UploadPartCopy", 0) == 81)
    world.standin.release("UploadPartCopy")
    output, _ = process.communicate()
    said = "Using multipart copy for large file", "Uploading 81 parts in parallel", "Progress: 81/81 parts (100%)"
    assert [line for line in said if line not in output] == []
    assert world.requests()["CopyObject"] == 1
    assert world.is_equal()


def test_an_archived_object_is_refused_with_what_to_do_and_copied_once_it_is_restored(world):
    world.put("a", storage_class="DEEP_ARCHIVE")
    with pytest.raises(Refused, match="the object is archived in DEEP_ARCHIVE: restore it"):
        sync(world, "a")
    world.standin.restore(SOURCE, "a")
    sync(world, "a")
    assert world.is_equal()


# --- Uploads ----------------------------------------------------------------------------------------------------------


def test_an_abort_that_gets_no_answer_is_told_and_the_key_copied_all_the_same(world, caplog):
    world.standin.fault("UploadPartCopy", "error", status=403, code="AccessDenied", times=1)
    world.standin.fault("AbortMultipartUpload", "reset", times=0)
    world.put("big", 20 * MIB)
    with pytest.raises(ClientError):
        sync(world, "big")
    assert "could not abort upload" in caplog.text
    sync(world, "big")
    assert world.is_equal()


def test_uploads_of_a_key_are_found_beside_one_that_xml_cannot_hold(world, caplog):
    buckets = world.worker().buckets
    for key in ("in/a +b", "in/\x01", "in/a +b"):
        with contextlib.suppress(ClientError):  # the answer names the key: botocore takes what it cannot read for a 500
            world.run(buckets.s3.create_multipart_upload(Bucket=MIRROR, Key=key))
    world.run(abort_orphans(buckets, KeySync("in/a +b")))
    assert {upload["key"] for upload in world.standin.uploads(MIRROR)} == {"in/\x01"}
    world.standin.fault("ListMultipartUploads", "empty_200", times=0)
    world.run(abort_orphans(buckets, KeySync("in/a")))  # which is no reason to fail the key
    assert "could not look for uploads of earlier deliveries key=" in caplog.text


def test_a_large_object_under_a_key_that_xml_cannot_hold_is_refused_before_an_upload_begins(world):
    world.put("in/\x01", 20 * MIB)
    with pytest.raises(Refused, match="rename it"):
        sync(world, "in/\x01")
    assert "CreateMultipartUpload" not in world.requests()
    world.put("in/\x01", 10)
    sync(world, "in/\x01")
    assert world.is_equal()


def test_what_xml_can_hold():
    cannot = ["\x00", "a\x0b", "\x1fb", "\ufffe", "\uffff"]
    can = ["a\tb\nc\rd", "~\x7f\x85", "日本/\U0001f600", "\ufffd", "<&>'\""]
    assert [key for key in can + cannot if NOT_IN_XML.search(key)] == cannot
