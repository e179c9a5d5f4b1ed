"""What the worker does to the two buckets: a real worker process against the stand-in.

With both clients where it shows what they send or how they read an answer; tests/worker/test_crt.py compares the rest.
"""

import re

import pytest
from world import DEAD_LETTERS, MIRROR, QUEUE, SOURCE, wait_until

from mirror.loop import OUTAGE_STATUS

GIB = 1024**3
TIB = 1024**4
MIB = 1024**2

BOTH_PATHS = (("small", 1024), ("large", 6 * GIB))
EVERYTHING = {
    "content-type": "text/csv",
    "cache-control": "max-age=60",
    "content-disposition": 'attachment; filename="a.csv"',
    "content-language": "fi",
    "expires": "Tue, 01 Jan 2030 00:00:00 GMT",
}


# No copy takes too long, however busy the machine is.
PATIENT = {"COPY_TIMEOUT": "60", "VISIBILITY_TIMEOUT": "120"}

with_both_clients = pytest.mark.parametrize("s3_client", ["crt", "boto3"], indirect=True)


@pytest.fixture(autouse=True)
def s3_client(request, monkeypatch):
    monkeypatch.setenv("S3_CLIENT", getattr(request, "param", "crt"))


@with_both_clients
def test_the_first_small_object_of_a_process_costs_four_requests(world):
    """A later one costs three, if most are new."""
    world.put("a")
    world.run_worker()
    assert world.is_equal()
    requests = world.requests()
    assert (requests["HeadObject"], requests["CopyObject"]) == (3, 1)
    assert requests["CreateSession"] <= 2


@with_both_clients
def test_created_overwritten_and_deleted_objects_end_equal(world):
    for key in ("new", "changed", "gone", "dir/a b+c&é=(1).txt", "empty"):
        world.put(key, 0 if key == "empty" else 1024)
    world.run_worker()
    world.put("changed", 1024)
    world.standin.delete(SOURCE, "gone")
    output = world.run_worker()
    assert world.is_equal()
    assert set(world.mirrored()) == {"new", "changed", "dir/a b+c&é=(1).txt", "empty"}
    assert 'key="gone" action=deleted' in output


def test_a_late_delete_event_does_not_delete_an_object_that_was_created_again(world):
    world.put("a")
    world.standin.delete(SOURCE, "a")
    world.put("a")
    world.run_worker()
    assert world.is_equal()
    assert "a" in world.mirrored()


def test_an_object_that_expires_by_lifecycle_disappears(world):
    world.put("a")
    world.run_worker()
    world.standin.expire(SOURCE, "a")
    world.run_worker()
    assert world.mirrored() == {}


def test_in_a_versioned_source_a_delete_marker_deletes_and_its_removal_brings_the_object_back(world):
    world.standin.configure_bucket(SOURCE, versioning="Enabled")
    world.put("a")
    world.standin.delete(SOURCE, "a")
    world.run_worker()
    assert world.mirrored() == {}
    marker = world.standin.versions(SOURCE, "a")[-1]["version_id"]
    world.standin.delete(SOURCE, "a", marker)
    world.run_worker()  # S3 says ObjectRemoved:Delete, and no ObjectCreated, when a delete marker goes
    assert world.is_equal()
    assert set(world.mirrored()) == {"a"}


@with_both_clients
def test_all_metadata_comes_along_on_both_copy_paths(world):
    made = {key: world.put(key, size, metadata={"colour": "red"}, headers=EVERYTHING) for key, size in BOTH_PATHS}
    world.run_worker()
    for key, found in world.mirrored().items():
        assert {name: found["headers"].get(name) for name in EVERYTHING} == EVERYTHING
        assert found["metadata"]["colour"] == "red"
        assert found["metadata"]["sync-source"].startswith(made.pop(key)["etag"].strip('"'))
    assert made == {}


def test_an_in_place_metadata_change_comes_along_although_the_bytes_are_the_same(world):
    first = world.put("a", metadata={"colour": "red"})
    world.run_worker()
    world.put("a", metadata={"colour": "blue"}, etag=first["etag"], modified=first["modified"])
    world.run_worker()
    assert world.mirrored()["a"]["metadata"]["colour"] == "blue"


@with_both_clients
def test_a_source_with_tags_and_annotations_is_copied_without_them(world):
    for key, size in BOTH_PATHS:
        world.put(key, size, tags="team=ml", has_annotations=True)
    world.run_worker()
    assert world.is_equal()


@with_both_clients
def test_a_content_encoding_that_the_destination_refuses_is_kept_as_user_metadata(world):
    world.standin.configure_bucket(MIRROR, content_encoding="refuse")
    for key, size in BOTH_PATHS:
        world.put(key, size, headers={"content-encoding": "gzip"})
    output = world.run_worker()
    for key, _ in BOTH_PATHS:
        found = world.mirrored()[key]
        assert found["metadata"]["sync-content-encoding"] == "gzip"
        assert "content-encoding" not in found["headers"]
        assert f'refuses Content-Encoding gzip, kept as user metadata sync-content-encoding key="{key}"' in output


@with_both_clients
def test_metadata_with_no_room_for_the_provenance_or_in_another_alphabet_comes_along_unchanged(world):
    odd = {"full": {"long": "x" * 1990}, "foreign": {"name": "日本"}}
    for key, metadata in odd.items():
        world.put(key, metadata=metadata)
    world.run_worker()
    assert {key: found["metadata"] for key, found in world.mirrored().items()} == odd
    assert world.is_equal()


BEYOND_ASCII = {
    "UTF-8": {"content-disposition": 'attachment; filename="gr\xf6\xdfe  \u65e5\u672c.csv"', "cache-control": "\xfc"},
    "other bytes": {"content-disposition": 'attachment; filename="gr\udcf6\udcdfe.csv"'},
}


@pytest.mark.parametrize("headers", BEYOND_ASCII.values(), ids=BEYOND_ASCII)
@pytest.mark.parametrize("size", [1024, 6 * GIB])
def test_headers_beyond_ascii_come_along_byte_for_byte(world, size, headers):
    world.put("a", size, headers=headers, metadata={"name": "\u65e5\u672c"})
    assert "UnicodeDecodeError" not in world.run_worker()
    assert world.is_equal()
    assert world.mirrored()["a"]["headers"] | headers == world.mirrored()["a"]["headers"]


def test_both_clients_take_a_large_copy_with_headers_beyond_ascii_for_equal(world, monkeypatch):
    """What one has copied the other does not copy again."""
    for number, headers in enumerate(BEYOND_ASCII.values()):
        world.put(f"a{number}", 6 * GIB, headers=headers, metadata={"name": "\u65e5\u672c"})
    bodies = [message["body"] for message in world.standin.messages(QUEUE)]
    world.run_worker()
    for client in ("crt", "boto3"):
        monkeypatch.setenv("S3_CLIENT", client)
        for body in bodies:
            world.standin.send(QUEUE, body)
        assert "skipped=2" in world.run_worker()
    assert world.requests()["CreateMultipartUpload"] == 2


def test_a_second_delivery_of_the_same_event_copies_nothing(world):
    world.put("a")
    body = world.standin.messages(QUEUE)[0]["body"]
    world.run_worker()
    world.standin.send(QUEUE, body)
    output = world.run_worker()
    assert world.requests()["CopyObject"] == 1
    assert "skipped=1" in output


@with_both_clients
@pytest.mark.parametrize("size", [1024, 6 * GIB])
def test_a_destination_that_refuses_conditional_writes_gets_them_without_and_says_so_once_of_each(world, size):
    writes = ["CopyObject", "CompleteMultipartUpload", "DeleteObject"]
    for key in ("gone", "too"):
        world.put(key)
    world.run_worker()
    world.standin.configure_bucket(MIRROR, refused_conditions=writes)
    for key in ("a", "b", "c"):
        world.put(key, size)
    for key in ("gone", "too"):
        world.standin.delete(SOURCE, key)
    output = world.run_worker(MAX_CONCURRENT_KEYS="1")
    assert world.is_equal()
    copy = writes[size > GIB]
    assert sorted(re.findall(r"refuses conditional writes.*: operation=(\S+) ", output)) == sorted(
        [copy, "DeleteObject"]
    )


@with_both_clients
def test_a_large_object_loses_its_encoding_and_its_condition_at_different_requests(world):
    """And both are logged: the encoding is refused when the upload begins, the condition when it ends."""
    world.standin.configure_bucket(MIRROR, content_encoding="refuse", refused_conditions=["CompleteMultipartUpload"])
    world.put("big", 6 * GIB, headers={"content-encoding": "gzip"})
    output = world.run_worker()
    assert world.mirrored()["big"]["metadata"]["sync-content-encoding"] == "gzip"
    assert "refuses Content-Encoding gzip" in output
    assert "going on without: operation=CompleteMultipartUpload " in output
    assert world.requests()["CreateMultipartUpload"] == 2


def test_an_object_of_exactly_5_gib_is_one_copy_and_one_byte_more_is_a_multipart_copy(world):
    world.put("five", 5 * GIB)
    world.run_worker()
    assert world.requests().get("UploadPartCopy", 0) == 0
    world.put("more", 5 * GIB + 1)
    world.run_worker()
    assert world.requests()["UploadPartCopy"] == 81
    assert world.is_equal()


def copied_once_so_many_are_under_way(world, parts):
    """The output of a worker whose parts finish together."""
    world.standin.hold("UploadPartCopy")
    process = world.start_worker(**PATIENT)
    wait_until(lambda: world.standin.stats()["in_flight"].get("UploadPartCopy", 0) >= parts)
    world.standin.release("UploadPartCopy")
    output, _ = process.communicate()
    assert process.returncode == 0
    return output


@with_both_clients
def test_6_gib_are_96_parts_side_by_side_and_the_log_says_how_far_it_is(world):
    world.put("big", 6 * GIB)
    output = copied_once_so_many_are_under_way(world, 96)
    assert "Using multipart copy for large file" in output
    assert "Uploading 96 parts in parallel (max 256 concurrent)..." in output
    assert "Progress: 20/96 parts (20%)" in output
    assert "Progress: 96/96 parts (100%)" in output
    assert world.is_equal()


@pytest.mark.parametrize(("s3_client", "size"), [("crt", 40 * TIB), ("boto3", 20 * GIB)], indirect=["s3_client"])
def test_a_huge_object_fits_in_10000_parts_with_more_than_200_at_once(world, size):
    world.put("huge", size)
    copied_once_so_many_are_under_way(world, 200)
    assert world.is_equal()
    assert world.requests()["UploadPartCopy"] <= 10_000


def test_parts_of_two_versions_are_never_mixed_and_the_abandoned_upload_is_aborted(world):
    world.standin.latency("UploadPartCopy", ms=200)
    world.put("big", 20 * GIB)
    process = world.start_worker(MAX_CONCURRENT_PARTS="32")
    wait_until(lambda: world.requests().get("UploadPartCopy", 0) > 64)
    world.put("big", 20 * GIB)
    wait_until(lambda: process.poll() is not None)
    assert world.is_equal()
    assert len(world.mirrored()["big"]["generations"]) == 1
    assert world.standin.uploads(MIRROR) == []


@with_both_clients
def test_an_upload_whose_part_cannot_be_copied_is_aborted_and_its_message_is_parked(world):
    world.standin.fault("UploadPartCopy", "error", status=403, code="AccessDenied", times=0, key="big")
    world.put("big", 6 * GIB)
    output = world.run_worker(EMPTY_POLLS_BEFORE_EXIT="8")
    assert world.standin.uploads(MIRROR) == []
    assert len(world.standin.messages(DEAD_LETTERS)) == 1
    assert 'failed key="big" attempt=3/3 operation=UploadPartCopy error=AccessDenied' in output
    assert "s3:GetObject on the source" in output


def test_an_abort_that_gets_no_answer_is_told_and_the_key_copied_all_the_same(world):
    world.standin.fault("UploadPartCopy", "error", status=403, code="AccessDenied", times=1, key="big")
    world.standin.fault("AbortMultipartUpload", "reset", times=0, key="big")
    world.put("big", 6 * GIB)
    output = world.run_worker(EMPTY_POLLS_BEFORE_EXIT="8")
    assert "WARNING could not abort upload" in output
    assert "the lifecycle rule will" in output
    assert world.is_equal()


@with_both_clients
def test_a_200_that_does_not_say_that_it_was_done_is_no_copy(world):
    for kind in ("empty_200", "error_in_200"):
        for operation in ("CopyObject", "CompleteMultipartUpload", "UploadPartCopy"):
            key = f"{kind} of {operation}"
            world.standin.fault(operation, kind, key=key)
            world.put(key, 1024 if operation == "CopyObject" else 6 * GIB)
    world.run_worker()
    assert {rule["used"] for rule in world.standin.faults()} == {1}
    assert world.is_equal()
    assert world.standin.uploads(MIRROR) == []


@with_both_clients
def test_a_vanished_source_bucket_does_not_empty_the_destination(world):
    world.put("a")
    world.run_worker()
    world.standin.delete(SOURCE, "a")
    world.standin.delete_bucket(SOURCE)
    output = world.run_worker(status=OUTAGE_STATUS)
    assert set(world.mirrored()) == {"a"}
    assert "the worker ends: operation=ListObjectsV2 error=NoSuchBucket" in output
    assert len(world.standin.messages(QUEUE)) == 1


@with_both_clients
def test_a_source_that_may_not_be_read_does_not_count_as_absent(world):
    world.put("a")
    world.run_worker()
    world.standin.configure_bucket(SOURCE, list_permission=False)
    world.standin.delete(SOURCE, "a")
    output = world.run_worker(EMPTY_POLLS_BEFORE_EXIT="8")
    assert set(world.mirrored()) == {"a"}
    advice = "run deploy.sh, so that the task role may use s3:"
    assert f'operation=HeadObject error=AccessDenied message="Access Denied" advice="{advice}' in output


@with_both_clients
def test_an_archived_object_fails_with_a_line_that_says_so_and_is_copied_once_restored(world):
    world.put("a", storage_class="DEEP_ARCHIVE")
    output = world.run_worker(EMPTY_POLLS_BEFORE_EXIT="8")
    assert "the object is archived in DEEP_ARCHIVE: restore it" in output
    assert len(world.standin.messages(DEAD_LETTERS)) == 1
    world.standin.restore(SOURCE, "a")
    world.run_worker()
    assert world.is_equal()


def test_object_bytes_are_never_read_and_nothing_is_ever_written_to_the_source(world):
    world.standin.record()
    world.put("a")
    world.put("big", 6 * GIB)
    world.run_worker()
    world.standin.delete(SOURCE, "a")
    world.run_worker()
    sent = [entry for entry in world.standin.requests() if entry["bucket"]]
    assert {entry["method"] for entry in sent if entry["bucket"] == SOURCE} <= {"HEAD", "GET"}
    assert "GetObject" not in world.requests()


@with_both_clients
def test_every_request_names_the_bucket_owners_it_was_told(world):
    world.standin.record()
    world.put("a")
    world.put("big", 6 * GIB)
    world.run_worker(SRC_BUCKET_OWNER="111122223333", DST_BUCKET_OWNER="111122223333")
    assert world.is_equal()
    sent = [entry for entry in world.standin.requests() if entry["key"]]
    assert all(entry["headers"].get("x-amz-expected-bucket-owner") == "111122223333" for entry in sent)
    copies = [entry for entry in sent if "x-amz-copy-source" in entry["headers"]]
    assert all(entry["headers"].get("x-amz-source-expected-bucket-owner") == "111122223333" for entry in copies)


def test_a_bucket_of_another_owner_is_not_copied_to(world):
    world.put("a")
    output = world.run_worker(status=OUTAGE_STATUS, DST_BUCKET_OWNER="999999999999")
    assert world.mirrored() == {}
    assert "AccessDenied" in output


@with_both_clients
def test_every_part_and_copy_names_the_version_it_may_copy(world):
    world.standin.record()
    etags = {world.put("a")["etag"], world.put("big", 6 * GIB)["etag"]}
    world.run_worker()
    copies = [entry for entry in world.standin.requests() if "x-amz-copy-source" in entry["headers"]]
    named = {entry["headers"]["x-amz-copy-source-if-match"].strip('"') for entry in copies}
    assert named == {etag.strip('"') for etag in etags}
    assert len(copies) == 97


def test_the_summary_counts_what_was_done(world):
    world.put("a", 1000)
    world.put("b", 24)
    world.put("c")
    world.standin.delete(SOURCE, "c")
    output = world.run_worker()
    assert re.search(r"summary copied=2 deleted=0 skipped=[12] failed=0 handed_back=0 bytes=1024 ", output)
    assert re.search(r'synced key="a" action=copied size=1000 seconds=[\d.]+ lag=[\d.]+', output)
