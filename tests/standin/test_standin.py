"""The stand-in refuses and answers what AWS documents. Every docstring names the page that the rule comes from:
"API" is the S3 API reference, "Guide" the S3 User Guide, "SQS API" and "SQS Guide" are those of SQS."""

import hashlib
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote_plus

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError
from standin import Standin
from standin_limits import MAX_COPY, MIN_PART
from standin_store import GIB, MIB
from world import wait_until

SOURCE = "source"
MIRROR = "mirror--use1-az4--x-s3"
PLAIN = "plain"  # a general purpose bucket as the destination
QUEUE = "events"
HOUR = timedelta(hours=1)


def client(standin: Standin, service: str, read_timeout: float = 60) -> Any:
    config = Config(
        region_name="us-east-1",
        retries={"total_max_attempts": 1},
        read_timeout=read_timeout,
        max_pool_connections=20,
    )
    return boto3.client(service, config=config, **connection(standin))


def connection(standin: Standin) -> dict[str, str]:
    known = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    return known | {"endpoint_url": standin.url}


@pytest.fixture(scope="module")
def s3(standin: Standin) -> Any:
    return client(standin, "s3")


@pytest.fixture(scope="module")
def sqs(standin: Standin) -> Any:
    return client(standin, "sqs")


@pytest.fixture(autouse=True)
def _fresh_buckets(standin: Standin) -> None:
    standin.reset()
    for name in (SOURCE, MIRROR, PLAIN):
        standin.create_bucket(name)


def refusal(operation: Callable[..., Any], **arguments: Any) -> tuple[int, str]:
    """HTTP status and error code of a request that has to fail."""
    with pytest.raises(ClientError) as caught:
        operation(**arguments)
    response = caught.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


def message_of(operation: Callable[..., Any], **arguments: Any) -> str:
    with pytest.raises(ClientError) as caught:
        operation(**arguments)
    return caught.value.response["Error"]["Message"]


def copy(s3: Any, key: str = "a", to: str = MIRROR, **arguments: Any) -> Any:
    return s3.copy_object(Bucket=to, Key=key, CopySource={"Bucket": SOURCE, "Key": key}, **arguments)


def copy_refusal(s3: Any, key: str = "a", to: str = MIRROR, **arguments: Any) -> tuple[int, str]:
    return refusal(copy, s3=s3, key=key, to=to, **arguments)


def in_background(work: Callable[..., Any], *args: Any, **kwargs: Any) -> threading.Thread:
    thread = threading.Thread(target=work, args=args, kwargs=kwargs)
    thread.start()
    return thread


def wait_for_request(standin: Standin, operation: str) -> None:
    wait_until(lambda: standin.stats()["in_flight"].get(operation))


# ---------------------------------------------------------------- buckets


def test_a_directory_bucket_is_made_only_with_a_directory_configuration(s3):
    """API, CreateBucket"""
    name = "other--use1-az4--x-s3"
    assert refusal(s3.create_bucket, Bucket=name) == (400, "MalformedXML")
    zone = {"Type": "AvailabilityZone", "Name": "use1-az4"}
    kind = {"DataRedundancy": "SingleAvailabilityZone", "Type": "Directory"}
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"Location": zone, "Bucket": kind})
    assert s3.list_objects_v2(Bucket=name)["KeyCount"] == 0


def test_a_bucket_is_made_once(s3):
    """API, CreateBucket, BucketAlreadyOwnedByYou"""
    assert refusal(s3.create_bucket, Bucket=SOURCE) == (409, "BucketAlreadyOwnedByYou")


def test_the_two_kinds_of_bucket_are_listed_apart(s3):
    """API, ListBuckets and ListDirectoryBuckets"""
    assert [bucket["Name"] for bucket in s3.list_directory_buckets()["Buckets"]] == [MIRROR]
    assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == [SOURCE, PLAIN]


def test_a_client_asks_for_one_session_per_directory_bucket(standin):
    """API, CreateSession"""
    fresh = client(standin, "s3")
    for _ in range(3):
        fresh.list_objects_v2(Bucket=MIRROR)
    assert standin.stats()["requests"]["CreateSession"] == 1


def test_a_general_purpose_bucket_has_no_sessions(s3):
    """API, CreateSession"""
    assert refusal(s3.create_session, Bucket=SOURCE) == (400, "InvalidRequest")


@pytest.mark.parametrize("bucket", [SOURCE, MIRROR])
def test_another_bucket_owner_than_the_expected_one_is_refused(s3, bucket):
    """Guide, bucket-owner-condition"""
    assert s3.list_objects_v2(Bucket=bucket, ExpectedBucketOwner="111122223333")["KeyCount"] == 0
    assert refusal(s3.list_objects_v2, Bucket=bucket, ExpectedBucketOwner="999999999999") == (403, "AccessDenied")


def test_another_source_bucket_owner_than_the_expected_one_is_refused(standin, s3):
    """API, CopyObject, ExpectedSourceBucketOwner"""
    standin.put(SOURCE, "a")
    standin.configure_bucket(SOURCE, owner="444455556666")
    assert copy_refusal(s3, ExpectedSourceBucketOwner="111122223333") == (403, "AccessDenied")
    copy(s3, ExpectedSourceBucketOwner="444455556666")


def test_a_directory_bucket_has_no_versioning_and_no_tags(standin, s3):
    """Guide, s3-express-differences"""
    standin.put(MIRROR, "a")
    enabled = {"Status": "Enabled"}
    assert refusal(s3.put_bucket_versioning, Bucket=MIRROR, VersioningConfiguration=enabled) == (501, "NotImplemented")
    tagging = {"TagSet": [{"Key": "k", "Value": "v"}]}
    assert refusal(s3.put_object_tagging, Bucket=MIRROR, Key="a", Tagging=tagging) == (501, "NotImplemented")
    assert refusal(s3.get_bucket_acl, Bucket=MIRROR) == (501, "NotImplemented")
    assert refusal(s3.delete_object, Bucket=MIRROR, Key="a", VersionId="1") == (400, "InvalidArgument")
    assert s3.head_object(Bucket=MIRROR, Key="a", VersionId="null")["ContentLength"] == 1024


# ---------------------------------------------------------------- reading


def test_a_client_can_write_a_small_object_and_its_etag_is_the_md5(s3):
    """API, Object, ETag"""
    etag = s3.put_object(Bucket=SOURCE, Key="a b+c/é", Body=b"hello", ContentType="text/csv")["ETag"]
    head = s3.head_object(Bucket=SOURCE, Key="a b+c/é")
    assert etag == head["ETag"] == f'"{hashlib.md5(b"hello").hexdigest()}"'
    assert (head["ContentLength"], head["ContentType"]) == (5, "text/csv")


def checksums(s3: Any, bucket: str, key: str = "a", **asked: str) -> dict[str, str]:
    """What HeadObject shows of the object's checksum, with the type."""
    head = s3.head_object(Bucket=bucket, Key=key, **asked)
    return {name.removeprefix("Checksum"): value for name, value in head.items() if name.startswith("Checksum")}


ASKED = {"ChecksumMode": "ENABLED"}
HELLO = {"CRC32": "NhCmhg==", "Type": "FULL_OBJECT"}


def test_a_checksum_is_shown_to_who_asks_and_copied_as_a_label(standin, s3):
    """API, HeadObject, ChecksumMode; CopyObject, ChecksumAlgorithm. Guide, "Checking object integrity": S3 makes a
    CRC64NVME of what comes without a checksum, and objects from before 2025 may have none."""
    put = {"Bucket": SOURCE, "Key": "a", "Body": b"hello"}
    s3.put_object(**put, ChecksumAlgorithm="CRC32")
    assert (checksums(s3, SOURCE), checksums(s3, SOURCE, **ASKED)) == ({}, HELLO)
    copy = {"Bucket": MIRROR, "Key": "a", "CopySource": f"{SOURCE}/a"}
    s3.copy_object(**copy)
    standin.change(MIRROR, "a", content=[(99, 0, 5)])
    assert checksums(s3, MIRROR, **ASKED) == HELLO
    quiet = boto3.client("s3", config=Config(request_checksum_calculation="when_required"), **connection(standin))
    quiet.put_object(**put)
    assert checksums(s3, SOURCE, **ASKED) == {"CRC64NVME": "M3eFcAZSQlc=", "Type": "FULL_OBJECT"}
    standin.put(SOURCE, "old", checksum="none")
    assert checksums(s3, SOURCE, "old", **ASKED) == {}
    s3.copy_object(**copy | {"CopySource": f"{SOURCE}/old"})
    assert checksums(s3, MIRROR, **ASKED).keys() == {"CRC64NVME", "Type"}
    standin.configure_bucket(SOURCE, checksum_permission=False)
    assert checksums(s3, SOURCE) == {} and refusal(s3.head_object, Bucket=SOURCE, Key="a", **ASKED) == (403, "403")


def test_the_checksum_of_an_upload_is_of_its_parts_unless_it_is_a_crc64nvme(standin, s3):
    """Guide, "Checking object integrity": CRC32 of an upload is COMPOSITE by default, CRC64NVME never is; CopyObject
    makes one of the whole object from it."""
    standin.put(SOURCE, "a", 2 * MIN_PART)
    for asked, shown in ({}, ("CRC64NVME", "FULL_OBJECT")), ({"ChecksumAlgorithm": "CRC32"}, ("CRC32", "COMPOSITE")):
        upload = s3.create_multipart_upload(Bucket=PLAIN, Key="a", **asked)["UploadId"]
        place = {"Bucket": PLAIN, "Key": "a", "UploadId": upload}
        parts = []
        for number, first in (1, 0), (2, MIN_PART):
            copied = s3.upload_part_copy(
                **place,
                PartNumber=number,
                CopySource=f"{SOURCE}/a",
                CopySourceRange=f"bytes={first}-{first + MIN_PART - 1}",
            )
            parts.append({"PartNumber": number, "ETag": copied["CopyPartResult"]["ETag"]})
        s3.complete_multipart_upload(**place, MultipartUpload={"Parts": parts})
        found = checksums(s3, PLAIN, **ASKED)
        assert (found.keys(), found["Type"]) == ({shown[0], "Type"}, shown[1])
        assert found[shown[0]].endswith("-2") == (shown[1] == "COMPOSITE")
        assert asked or found == checksums(s3, SOURCE, **ASKED)
    s3.copy_object(Bucket=PLAIN, Key="a", CopySource=f"{PLAIN}/a", MetadataDirective="REPLACE")
    assert checksums(s3, PLAIN, **ASKED)["Type"] == "FULL_OBJECT"


def test_the_framing_of_a_chunked_upload_is_not_part_of_the_object(standin):
    """API, sigv4-streaming: aws-chunked"""
    headers = {"content-encoding": "aws-chunked", "x-amz-decoded-content-length": "7"}
    body = b"5;chunk-signature=0\r\nhello\r\n2\r\n!!\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"
    put = urllib.request.Request(f"{standin.url}/{SOURCE}/a", body, headers, method="PUT")
    urllib.request.urlopen(put).close()
    written = standin.objects(SOURCE)["a"]
    assert (written["size"], written["etag"]) == (7, hashlib.md5(b"hello!!").hexdigest())
    assert "content-encoding" not in written["headers"]


def test_the_etag_in_a_directory_bucket_is_not_the_md5_and_never_the_same_twice(s3):
    """Guide, s3-express-differences"""
    etags = {s3.put_object(Bucket=MIRROR, Key="a", Body=b"hello")["ETag"] for _ in range(2)}
    assert len(etags | {f'"{hashlib.md5(b"hello").hexdigest()}"'}) == 3


def test_reading_bytes_fails_and_is_counted(standin, s3):
    """The rule of this project: no byte passes through the worker."""
    standin.put(SOURCE, "a")
    assert refusal(s3.get_object, Bucket=SOURCE, Key="a") == (501, "NotImplemented")
    assert standin.stats()["requests"]["GetObject"] == 1


def test_the_first_byte_may_be_read_to_learn_why_a_look_was_refused(standin, s3):
    """API, GetObject"""
    first = {"Bucket": SOURCE, "Range": "bytes=0-0"}
    standin.put(SOURCE, "a")
    standin.put(SOURCE, "empty", 0)
    standin.put(SOURCE, "archived", storage_class="GLACIER")
    assert s3.get_object(Key="a", **first)["ContentRange"] == "bytes 0-0/1024"
    assert refusal(s3.get_object, Key="empty", **first) == (416, "InvalidRange")
    assert refusal(s3.get_object, Key="archived", **first) == (403, "InvalidObjectState")
    standin.configure_bucket(SOURCE, list_permission=False)
    assert refusal(s3.get_object, Key="missing", **first) == (403, "AccessDenied")


@pytest.mark.parametrize("bucket", [SOURCE, MIRROR, "missing"])
def test_head_of_a_missing_key_and_of_a_missing_bucket_look_the_same(s3, bucket):
    """API, HeadObject: no body, so no error code"""
    assert refusal(s3.head_object, Bucket=bucket, Key="a") == (404, "404")


def test_without_list_permission_a_missing_key_is_forbidden(standin, s3):
    """API, HeadObject, Permissions"""
    standin.put(SOURCE, "there")
    standin.configure_bucket(SOURCE, list_permission=False)
    assert refusal(s3.head_object, Bucket=SOURCE, Key="a") == (403, "403")
    assert s3.head_object(Bucket=SOURCE, Key="there")["ContentLength"] == 1024
    assert refusal(s3.list_objects_v2, Bucket=SOURCE) == (403, "AccessDenied")


def test_last_modified_has_whole_seconds(standin, s3):
    """API, HeadObject, LastModified"""
    standin.put(SOURCE, "a", modified=1_700_000_000)
    assert s3.head_object(Bucket=SOURCE, Key="a")["LastModified"] == datetime.fromtimestamp(1_700_000_000, UTC)


@pytest.mark.parametrize(
    ("value", "word"),
    [("Ä b_?", "=?UTF-8?Q?=C3=84_b=5F=3F?="), ("\ufffd", "=?UTF-8?B?77+9?="), ("é\x01", "=?UTF-8?B?w6kB?=")],
)
def test_metadata_that_is_not_ascii_comes_rfc_2047_encoded_and_is_stored_decoded(standin, s3, value, word):
    """Guide, UsingMetadata; both forms as S3 answered on 2026-02-21 (localstack, tests/aws/services/s3/test_s3.py)"""
    standin.put(SOURCE, "a", metadata={"name": value})
    shown = s3.head_object(Bucket=SOURCE, Key="a")["Metadata"]["name"]
    assert shown == word
    s3.put_object(Bucket=MIRROR, Key="a", Metadata={"name": shown})
    assert standin.objects(MIRROR)["a"]["metadata"] == {"name": value}


@pytest.mark.parametrize("value", ["attachment; filename=gr\xf6\xdf.txt", "gr\udcf6\udcdf.txt"], ids=["UTF-8", "other"])
def test_other_headers_come_in_the_bytes_that_were_stored(standin, s3, value):
    """As S3 answered on 2026-02-21 (localstack, tests/aws/services/s3/test_s3.py)"""
    standin.put(SOURCE, "a", headers={"content-disposition": value})
    shown = s3.head_object(Bucket=SOURCE, Key="a")["ContentDisposition"]
    assert shown.encode("iso-8859-1") == value.encode(errors="surrogateescape")


def test_head_shows_unreadable_metadata_archive_state_and_tags(standin, s3):
    """API, HeadObject"""
    restore = 'ongoing-request="true"'
    standin.put(SOURCE, "a", missing_meta=2, storage_class="GLACIER", restore=restore, tags="a=1&b=2")
    standin.put(SOURCE, "b", storage_class="INTELLIGENT_TIERING", archive_status="ARCHIVE_ACCESS")
    a, b = (s3.head_object(Bucket=SOURCE, Key=key) for key in "ab")
    assert (a["MissingMeta"], a["StorageClass"], a["Restore"], a["TagCount"]) == (2, "GLACIER", restore, 2)
    assert b["ArchiveStatus"] == "ARCHIVE_ACCESS"


def test_head_can_be_conditional(standin, s3):
    """API, HeadObject, IfMatch and IfNoneMatch"""
    etag = standin.put(SOURCE, "a")["etag"]
    assert s3.head_object(Bucket=SOURCE, Key="a", IfMatch=f'"{etag}"')
    assert refusal(s3.head_object, Bucket=SOURCE, Key="a", IfMatch="other") == (412, "412")
    assert refusal(s3.head_object, Bucket=SOURCE, Key="a", IfNoneMatch=etag) == (304, "304")


# ---------------------------------------------------------------- what a directory bucket refuses

REFUSED = [
    ({"ACL": "private"}, (501, "NotImplemented")),
    ({"GrantRead": "id=1"}, (501, "NotImplemented")),
    ({"ObjectLockMode": "GOVERNANCE"}, (501, "NotImplemented")),
    ({"ObjectLockLegalHoldStatus": "ON"}, (501, "NotImplemented")),
    ({"WebsiteRedirectLocation": "/b"}, (501, "NotImplemented")),
    ({"RequestPayer": "requester"}, (501, "NotImplemented")),
    ({"BucketKeyEnabled": True}, (501, "NotImplemented")),
    ({"Tagging": "a=1"}, (501, "NotImplemented")),
    ({"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "k" * 32}, (400, "InvalidRequest")),
    ({"ServerSideEncryption": "aws:kms:dsse"}, (400, "InvalidRequest")),
    ({"StorageClass": "STANDARD"}, (400, "InvalidStorageClass")),
]


@pytest.mark.parametrize(("arguments", "expected"), REFUSED, ids=lambda value: next(iter(value)) if value else "")
def test_a_directory_bucket_refuses_settings_it_does_not_have(standin, s3, arguments, expected):
    """API, CopyObject and CreateMultipartUpload, the notes on directory buckets of each header"""
    standin.put(SOURCE, "a")
    assert copy_refusal(s3, **arguments) == expected
    assert refusal(s3.create_multipart_upload, Bucket=MIRROR, Key="a", **arguments) == expected
    copy(s3, to=PLAIN, **arguments)
    assert standin.objects(MIRROR) == {}


def test_a_directory_bucket_takes_its_own_storage_class(standin, s3):
    """API, CopyObject, StorageClass"""
    standin.put(SOURCE, "a")
    copy(s3, StorageClass="EXPRESS_ONEZONE")
    assert s3.head_object(Bucket=MIRROR, Key="a")["StorageClass"] == "EXPRESS_ONEZONE"


def test_a_directory_bucket_refuses_content_md5(s3):
    """Guide, s3-express-differences: MD5 checksums are not supported"""
    arguments = {"Key": "a", "Body": b"", "ContentMD5": "1B2M2Y8AsgTpgAmY7PhCfg=="}
    assert refusal(s3.put_object, Bucket=MIRROR, **arguments) == (400, "InvalidRequest")
    s3.put_object(Bucket=PLAIN, **arguments)


def test_a_directory_bucket_can_refuse_a_content_encoding(standin, s3):
    """API, CopyObject and CreateMultipartUpload, ContentEncoding: only aws-chunked is supported. What happens to
    another value is not documented, so both answers can be planted."""
    standin.put(SOURCE, "a", headers={"content-encoding": "gzip"})
    copy(s3)
    assert s3.head_object(Bucket=MIRROR, Key="a")["ContentEncoding"] == "gzip"
    standin.configure_bucket(MIRROR, content_encoding="refuse")
    replaced = {"MetadataDirective": "REPLACE", "ContentEncoding": "gzip"}
    assert copy_refusal(s3) == copy_refusal(s3, **replaced) == (400, "InvalidRequest")
    upload = {"Bucket": MIRROR, "Key": "a", "ContentEncoding": "gzip"}
    assert refusal(s3.create_multipart_upload, **upload) == (400, "InvalidRequest")
    copy(s3, MetadataDirective="REPLACE", ContentEncoding="aws-chunked")
    assert "ContentEncoding" not in s3.head_object(Bucket=MIRROR, Key="a")


def test_tags_of_the_source_are_refused_unless_they_are_replaced(standin, s3):
    """API, CopyObject, TaggingDirective"""
    standin.put(SOURCE, "a")
    copy(s3)
    s3.put_object_tagging(Bucket=SOURCE, Key="a", Tagging={"TagSet": [{"Key": "k", "Value": "v"}]})
    assert copy_refusal(s3) == copy_refusal(s3, TaggingDirective="COPY") == (501, "NotImplemented")
    assert copy_refusal(s3, TaggingDirective="REPLACE", Tagging="k=v") == (501, "NotImplemented")
    copy(s3, TaggingDirective="REPLACE")
    copy(s3, to=PLAIN)
    assert s3.get_object_tagging(Bucket=PLAIN, Key="a")["TagSet"] == [{"Key": "k", "Value": "v"}]


def test_annotations_of_the_source_are_refused_unless_they_are_excluded(standin, s3):
    """API, CopyObject, AnnotationDirective"""
    standin.put(SOURCE, "a", has_annotations=True)
    assert copy_refusal(s3) == copy_refusal(s3, AnnotationDirective="COPY") == (501, "NotImplemented")
    copy(s3, AnnotationDirective="EXCLUDE")


def test_user_metadata_may_have_two_kilobytes(standin, s3):
    """Guide, UsingMetadata"""
    standin.put(SOURCE, "a")
    copy(s3, MetadataDirective="REPLACE", Metadata={"n": "v" * 2047})
    too_much = {"MetadataDirective": "REPLACE", "Metadata": {"n": "v" * 2048}}
    assert copy_refusal(s3, **too_much) == (400, "MetadataTooLarge")
    upload = {"Bucket": MIRROR, "Key": "a", "Metadata": {"n": "v" * 2048}}
    assert refusal(s3.create_multipart_upload, **upload) == (400, "MetadataTooLarge")


def test_a_key_may_have_1024_bytes(s3):
    """Guide, object-keys"""
    s3.put_object(Bucket=MIRROR, Key="é" * 512)
    assert refusal(s3.put_object, Bucket=MIRROR, Key="é" * 513) == (400, "KeyTooLongError")


# ---------------------------------------------------------------- CopyObject


def test_a_copy_has_the_content_and_the_metadata_of_its_source(standin, s3):
    """API, CopyObject, MetadataDirective"""
    source = standin.put(SOURCE, "a", 3 * GIB, metadata={"k": "v"}, headers={"content-type": "text/csv"})
    result = copy(s3)["CopyObjectResult"]
    made = standin.objects(MIRROR)["a"]
    assert result["ETag"] == f'"{made["etag"]}"' != f'"{source["etag"]}"'
    assert {name: made[name] for name in ("content", "headers")} == {
        name: source[name] for name in ("content", "headers")
    }


def test_replaced_metadata_has_to_be_sent_in_full(standin, s3):
    """API, CopyObject, MetadataDirective"""
    standin.put(SOURCE, "a", metadata={"k": "v"}, headers={"content-type": "text/csv", "cache-control": "no-cache"})
    copy(s3, MetadataDirective="REPLACE", Metadata={"other": "1"})
    head = s3.head_object(Bucket=MIRROR, Key="a")
    assert (head["Metadata"], head["ContentType"]) == ({"other": "1"}, "binary/octet-stream")
    assert "CacheControl" not in head


def test_one_copy_moves_at_most_5_gib(standin, s3):
    """API, CopyObject; the text is the one S3 answers"""
    standin.put(SOURCE, "a", MAX_COPY)
    standin.put(SOURCE, "b", MAX_COPY + 1)
    copy(s3, "a")
    assert copy_refusal(s3, "b") == (400, "InvalidRequest")
    assert message_of(copy, s3=s3, key="b").endswith("maximum allowable size for a copy source: 5368709120")


def test_a_copy_onto_itself_must_change_something(standin, s3):
    """API, CopyObject, MetadataDirective"""
    standin.put(SOURCE, "a")
    assert copy_refusal(s3, to=SOURCE) == (400, "InvalidRequest")
    copy(s3, to=SOURCE, MetadataDirective="REPLACE", Metadata={"k": "v"})


@pytest.mark.parametrize(
    "condition",
    [
        {"CopySourceIfMatch": "other"},
        {"CopySourceIfNoneMatch": "ETAG"},
        {"CopySourceIfUnmodifiedSince": "AN HOUR AGO"},
        {"CopySourceIfModifiedSince": "IN AN HOUR"},
    ],
    ids=lambda condition: next(iter(condition)),
)
def test_an_unmet_condition_on_the_source_stops_the_copy(standin, s3, condition):
    """API, CopyObject and UploadPartCopy, CopySourceIf..."""
    etag = standin.put(SOURCE, "a")["etag"]
    now = datetime.now(UTC)
    meant = {"ETAG": etag, "AN HOUR AGO": now - HOUR, "IN AN HOUR": now + HOUR}
    condition = {name: meant.get(value, value) for name, value in condition.items()}
    assert copy_refusal(s3, **condition) == (412, "PreconditionFailed")
    upload_id = s3.create_multipart_upload(Bucket=MIRROR, Key="a")["UploadId"]
    part = {"Bucket": MIRROR, "Key": "a", "UploadId": upload_id, "PartNumber": 1, "CopySource": f"{SOURCE}/a"}
    assert refusal(s3.upload_part_copy, **part, **condition) == (412, "PreconditionFailed")


def test_a_source_that_matches_is_copied_although_it_is_newer(standin, s3):
    """API, CopyObject, CopySourceIfUnmodifiedSince"""
    etag = standin.put(SOURCE, "a")["etag"]
    copy(s3, CopySourceIfMatch=f'"{etag}"', CopySourceIfUnmodifiedSince=datetime.now(UTC) - HOUR)


@pytest.mark.parametrize("bucket", [PLAIN, MIRROR])
def test_a_put_can_depend_on_the_object_it_replaces(s3, bucket):
    """Guide, conditional-writes"""
    put = {"operation": s3.put_object, "Bucket": bucket, "Key": "a"}
    assert refusal(**put, IfMatch="any") == (404, "NoSuchKey")
    s3.put_object(Bucket=bucket, Key="a", IfNoneMatch="*")
    for condition in ({"IfNoneMatch": "*"}, {"IfMatch": "other"}):
        assert refusal(**put, **condition) == (412, "PreconditionFailed")
    s3.put_object(Bucket=bucket, Key="a", IfMatch="*")


def test_a_bucket_can_refuse_conditional_copies_and_deletes(standin, s3):
    """API, CopyObject, IfMatch: supported since October 2025, so an older answer can be planted"""
    standin.put(SOURCE, "a")
    standin.configure_bucket(MIRROR, refused_conditions=["CopyObject", "DeleteObject"])
    assert copy_refusal(s3, IfNoneMatch="*") == copy_refusal(s3, IfMatch="x") == (501, "NotImplemented")
    copy(s3)
    delete = {"operation": s3.delete_object, "Bucket": MIRROR, "Key": "a"}
    assert refusal(**delete, IfMatch="x") == (501, "NotImplemented")
    s3.delete_object(Bucket=MIRROR, Key="a")


def test_a_copy_ends_although_its_client_has_gone(standin):
    """API, CopyObject: a client that disconnects may, but need not, stop the copy"""
    standin.put(SOURCE, "a")
    standin.hold("CopyObject")
    with pytest.raises(ReadTimeoutError):
        copy(client(standin, "s3", read_timeout=0.05))
    assert standin.objects(MIRROR) == {}
    standin.release("CopyObject")
    wait_until(lambda: "a" in standin.objects(MIRROR))


@pytest.mark.parametrize(
    "archived",
    [
        {"storage_class": "GLACIER"},
        {"storage_class": "DEEP_ARCHIVE", "restore": 'ongoing-request="true"'},
        {"storage_class": "INTELLIGENT_TIERING", "archive_status": "DEEP_ARCHIVE_ACCESS"},
    ],
)
def test_an_archived_source_is_copied_only_after_it_is_restored(standin, s3, archived):
    """API, CopyObject and RestoreObject"""
    standin.put(SOURCE, "a", **archived)
    assert copy_refusal(s3) == (403, "InvalidObjectState")
    standin.restore(SOURCE, "a")
    copy(s3)


@pytest.mark.parametrize("encoded", ["a%20b%2Bc", "a+b%2Bc"])
def test_the_copy_source_is_decoded_like_a_form(standin, encoded):
    """API, CopyObject, CopySource: URL-encoded; clients differ in how they write a space"""
    standin.put(SOURCE, "a b+c")
    headers = {"x-amz-copy-source": f"{SOURCE}/{encoded}"}
    urllib.request.urlopen(urllib.request.Request(f"{standin.url}/{MIRROR}/a", method="PUT", headers=headers)).close()
    assert set(standin.objects(MIRROR)) == {"a"}


def test_a_source_bucket_that_is_missing_is_named(s3):
    """API, Error responses"""
    source = {"Bucket": "missing", "Key": "a"}
    assert refusal(s3.copy_object, Bucket=MIRROR, Key="a", CopySource=source) == (404, "NoSuchBucket")


# ---------------------------------------------------------------- multipart uploads


class Upload:
    """A multipart copy of SOURCE/a, driven part by part."""

    def __init__(self, s3: Any, bucket: str = MIRROR, **arguments: Any) -> None:
        self.s3, self.parts = s3, []
        self.where = {"Bucket": bucket, "Key": "a"}
        self.where["UploadId"] = s3.create_multipart_upload(**self.where, **arguments)["UploadId"]

    def part(self, number: int, first: int | None = None, last: int | None = None, **arguments: Any) -> Any:
        if first is not None:
            arguments["CopySourceRange"] = f"bytes={first}-{last}"
        arguments = {"PartNumber": number, "CopySource": f"{SOURCE}/a", **arguments}
        etag = self.s3.upload_part_copy(**self.where, **arguments)["CopyPartResult"]["ETag"]
        self.parts.append({"PartNumber": number, "ETag": etag})

    def complete(self, **arguments: Any) -> Any:
        return self.s3.complete_multipart_upload(**self.where, MultipartUpload={"Parts": self.parts}, **arguments)


def test_a_large_object_is_copied_in_parts(standin, s3):
    """Guide, qfacts: 10,000 parts of up to 5 GiB"""
    size = 3 * MAX_COPY + 1
    source = standin.put(SOURCE, "a", size)
    upload = Upload(s3, Metadata={"k": "v"}, ContentType="text/csv")
    for number in range(1, 5):
        first = (number - 1) * MAX_COPY
        upload.part(number, first, min(first + MAX_COPY, size) - 1, CopySourceIfMatch=source["etag"])
    assert standin.objects(MIRROR) == {}
    etag = upload.complete(MpuObjectSize=size, IfNoneMatch="*")["ETag"]
    made = standin.objects(MIRROR)["a"]
    assert (made["size"], made["content"], made["parts_count"]) == (size, source["content"], 4)
    assert (made["metadata"], made["headers"]["content-type"], f'"{made["etag"]}"') == ({"k": "v"}, "text/csv", etag)
    assert standin.uploads(MIRROR) == []
    standin.put(SOURCE, "largest", 10_000 * MAX_COPY)
    with pytest.raises(ValueError, match="largest object"):
        standin.put(SOURCE, "too large", 10_000 * MAX_COPY + 1)


@pytest.mark.parametrize(("numbers", "is_accepted"), [((1, 3), True), ((2, 3), True), ((2, 1), False)])
def test_part_numbers_rise_and_may_have_gaps_in_a_general_purpose_bucket(standin, s3, numbers, is_accepted):
    """API, CompleteMultipartUpload, CompletedPart"""
    standin.put(SOURCE, "a", 15 * MIB)
    upload = Upload(s3, PLAIN)
    for number in numbers:
        upload.part(number)
    if is_accepted:
        upload.complete()
    else:
        assert refusal(upload.complete) == (400, "InvalidPartOrder")


def test_every_part_but_the_last_has_5_mib(standin, s3):
    """API, CompleteMultipartUpload, EntityTooSmall"""
    standin.put(SOURCE, "a", 10 * MIB)
    upload = Upload(s3)
    upload.part(1, 0, 5 * MIB - 2)
    upload.part(2, 5 * MIB - 1, 10 * MIB - 1)
    assert refusal(upload.complete) == (400, "EntityTooSmall")


def test_a_body_that_is_not_xml_is_refused(standin, s3):
    """API, Error responses, MalformedXML"""
    upload = Upload(s3)
    url = f"{standin.url}/{MIRROR}/a?uploadId={upload.where['UploadId']}"
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(urllib.request.Request(url, b"<", method="POST"))


def test_only_a_source_above_5_mib_has_ranges_and_only_inside_itself(standin, s3):
    """API, UploadPartCopy, CopySourceRange"""
    upload = Upload(s3)
    standin.put(SOURCE, "a", 5 * MIB)
    assert refusal(upload.part, number=1, first=0, last=9) == (400, "InvalidRequest")
    standin.put(SOURCE, "a", 5 * MIB + 1)
    upload.part(1, 0, 5 * MIB)
    assert refusal(upload.part, number=1, first=0, last=5 * MIB + 1) == (400, "InvalidArgument")
    assert refusal(upload.part, number=1, CopySourceRange="bytes=0-") == (400, "InvalidArgument")


def test_a_part_has_at_most_5_gib_and_a_number_up_to_10000(standin, s3):
    """Guide, qfacts"""
    upload = Upload(s3)
    standin.put(SOURCE, "a", 6 * GIB)
    assert refusal(upload.part, number=1) == (400, "InvalidRequest")
    assert refusal(upload.part, number=1, first=0, last=MAX_COPY) == (400, "InvalidRequest")
    upload.part(10_000, 0, MAX_COPY - 1)
    assert refusal(upload.part, number=10_001, first=0, last=9) == (400, "InvalidArgument")


def test_a_part_that_was_under_way_during_an_abort_can_land_after_it(standin, s3):
    """API, AbortMultipartUpload: abort again until no part is left"""
    standin.put(SOURCE, "a", 10 * MIB)
    upload = Upload(s3)
    standin.hold("UploadPartCopy")
    copying = in_background(upload.part, 1)
    wait_for_request(standin, "UploadPartCopy")
    s3.abort_multipart_upload(**upload.where)
    assert standin.uploads(MIRROR) == []
    standin.release("UploadPartCopy")
    copying.join()
    assert len(s3.list_parts(**upload.where)["Parts"]) == 1
    s3.abort_multipart_upload(**upload.where)
    assert standin.uploads(MIRROR) == []


def test_a_part_that_ends_after_the_upload_is_completed_is_refused(standin, s3):
    """API, UploadPartCopy, NoSuchUpload"""
    standin.put(SOURCE, "a", 10 * MIB)
    upload = Upload(s3)
    upload.part(1)
    standin.hold("UploadPartCopy")
    outcome = []
    copying = in_background(lambda: outcome.append(refusal(upload.part, number=2)))
    wait_for_request(standin, "UploadPartCopy")
    upload.complete()
    standin.release("UploadPartCopy")
    copying.join()
    assert outcome == [(404, "NoSuchUpload")]
    assert standin.uploads(MIRROR) == []


def test_an_abort_can_depend_on_the_time_the_upload_was_begun(s3):
    """API, AbortMultipartUpload, IfMatchInitiatedTime"""
    upload = Upload(s3)
    begun = s3.list_multipart_uploads(Bucket=MIRROR)["Uploads"][0]["Initiated"]
    abort = {"operation": s3.abort_multipart_upload, **upload.where}
    assert refusal(**abort, IfMatchInitiatedTime=begun - HOUR) == (412, "PreconditionFailed")
    for _ in range(2):
        s3.abort_multipart_upload(**upload.where, IfMatchInitiatedTime=begun)


def test_parts_are_listed_page_by_page_with_their_sizes(standin, s3):
    """API, ListParts"""
    standin.put(SOURCE, "a", 25 * MIB)
    upload = Upload(s3)
    for number in range(1, 6):
        upload.part(number, (number - 1) * 5 * MIB, number * 5 * MIB - 1)
    pages = list(s3.get_paginator("list_parts").paginate(**upload.where, PaginationConfig={"PageSize": 2}))
    listed = [(part["PartNumber"], part["ETag"], part["Size"]) for page in pages for part in page["Parts"]]
    assert len(pages) == 3
    assert listed == [(part["PartNumber"], part["ETag"], 5 * MIB) for part in upload.parts]


@pytest.mark.parametrize("bucket", [SOURCE, MIRROR])
def test_uploads_are_listed_page_by_page(s3, bucket):
    """API, ListMultipartUploads"""
    begun = {
        (key, s3.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]) for key in ("d/a", "d/a", "d/b", "e/c")
    }
    paginator = s3.get_paginator("list_multipart_uploads")
    pages = list(paginator.paginate(Bucket=bucket, PaginationConfig={"PageSize": 3}))
    assert len(pages) == 2
    assert {(upload["Key"], upload["UploadId"]) for page in pages for upload in page["Uploads"]} == begun
    assert len(s3.list_multipart_uploads(Bucket=bucket, Prefix="d/")["Uploads"]) == 3


def test_a_client_can_upload_parts_of_its_own(standin, s3):
    """API, UploadPart"""
    upload_id = s3.create_multipart_upload(Bucket=PLAIN, Key="a")["UploadId"]
    part = s3.upload_part(Bucket=PLAIN, Key="a", UploadId=upload_id, PartNumber=1, Body=b"hello")
    parts = [{"PartNumber": 1, "ETag": part["ETag"]}]
    etag = s3.complete_multipart_upload(Bucket=PLAIN, Key="a", UploadId=upload_id, MultipartUpload={"Parts": parts})[
        "ETag"
    ]
    assert etag.endswith('-1"')
    assert standin.objects(PLAIN)["a"]["size"] == 5


# ---------------------------------------------------------------- listings

KEYS = ["a", "a-b", "a/1", "a/2", "a/b/1", "b", "d e/é&<", "z/1"]


def listing(s3: Any, bucket: str, page_size: int = 1000, **arguments: Any) -> tuple[list[str], list[str]]:
    """Keys and common prefixes, in the order in which they are listed."""
    paginator = s3.get_paginator("list_objects_v2")
    pages = list(paginator.paginate(Bucket=bucket, PaginationConfig={"PageSize": page_size}, **arguments))
    keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
    return keys, [entry["Prefix"] for page in pages for entry in page.get("CommonPrefixes", [])]


@pytest.mark.parametrize("page_size", [1, 2, 3, 1000])
def test_a_general_purpose_bucket_lists_in_order_of_keys(standin, s3, page_size):
    """API, ListObjectsV2"""
    standin.put_many(SOURCE, KEYS[::-1])
    assert listing(s3, SOURCE, page_size) == (KEYS, [])
    assert listing(s3, SOURCE, page_size, Delimiter="/") == (["a", "a-b", "b"], ["a/", "d e/", "z/"])
    assert listing(s3, SOURCE, page_size, Prefix="a/") == (["a/1", "a/2", "a/b/1"], [])
    assert listing(s3, SOURCE, page_size, Prefix="a/", Delimiter="/") == (["a/1", "a/2"], ["a/b/"])
    assert listing(s3, SOURCE, page_size, StartAfter="a/2") == (["a/b/1", "b", "d e/é&<", "z/1"], [])


@pytest.mark.parametrize("page_size", [1, 2, 3, 1000])
def test_a_directory_bucket_lists_everything_once_but_in_no_order(standin, s3, page_size):
    """API, ListObjectsV2, and Guide, s3-express-differences"""
    standin.put_many(MIRROR, KEYS)
    keys, _ = listing(s3, MIRROR, page_size)
    assert sorted(keys) == KEYS != keys
    assert keys == listing(s3, MIRROR)[0]
    keys, prefixes = listing(s3, MIRROR, page_size, Delimiter="/")
    assert (sorted(keys), sorted(prefixes)) == (["a", "a-b", "b"], ["a/", "d e/", "z/"])
    keys, prefixes = listing(s3, MIRROR, page_size, Prefix="a/", Delimiter="/")
    assert (sorted(keys), prefixes) == (["a/1", "a/2"], ["a/b/"])


def test_a_directory_bucket_lists_only_by_directory(s3):
    """API, ListObjectsV2 and ListMultipartUploads, the notes on directory buckets"""
    for operation in (s3.list_objects_v2, s3.list_multipart_uploads):
        assert refusal(operation, Bucket=MIRROR, Prefix="a") == (400, "InvalidRequest")
        assert refusal(operation, Bucket=MIRROR, Delimiter="-") == (400, "InvalidRequest")
    assert refusal(s3.list_objects_v2, Bucket=MIRROR, StartAfter="a") == (501, "NotImplemented")
    assert refusal(s3.list_objects, Bucket=MIRROR) == (501, "NotImplemented")


def test_a_directory_bucket_shows_the_prefixes_of_uploads_in_progress(standin, s3):
    """API, ListObjectsV2, CommonPrefixes"""
    standin.put(MIRROR, "done/a")
    s3.create_multipart_upload(Bucket=MIRROR, Key="begun/a")
    assert sorted(listing(s3, MIRROR, Delimiter="/")[1]) == ["begun/", "done/"]
    assert listing(s3, MIRROR) == (["done/a"], [])


# ---------------------------------------------------------------- deletes and versions


def test_only_a_directory_bucket_deletes_by_size_and_time(standin, s3):
    """API, DeleteObject, IfMatchSize and IfMatchLastModifiedTime"""
    then = datetime.fromtimestamp(1_700_000_000, UTC)
    standin.put(MIRROR, "a", 10, modified=1_700_000_000)
    delete = {"operation": s3.delete_object, "Bucket": MIRROR, "Key": "a"}
    assert refusal(**delete, IfMatchSize=11) == (412, "PreconditionFailed")
    assert refusal(**delete, IfMatchLastModifiedTime=then + HOUR) == (412, "PreconditionFailed")
    for _ in range(2):
        s3.delete_object(Bucket=MIRROR, Key="a", IfMatchSize=10, IfMatchLastModifiedTime=then)
    assert standin.objects(MIRROR) == {}
    assert refusal(s3.delete_object, Bucket=PLAIN, Key="a", IfMatchSize=10) == (501, "NotImplemented")


def test_a_delete_of_many_keys_reports_each_of_them(standin, s3):
    """API, DeleteObjects"""
    etag = standin.put(MIRROR, "a")["etag"]
    standin.put(MIRROR, "b&")
    keys = [{"Key": "a", "ETag": etag}, {"Key": "b&", "ETag": "x"}, {"Key": "missing"}]
    answer = s3.delete_objects(Bucket=MIRROR, Delete={"Objects": keys})
    assert [entry["Key"] for entry in answer["Deleted"]] == ["a", "missing"]
    assert [(entry["Key"], entry["Code"]) for entry in answer["Errors"]] == [("b&", "PreconditionFailed")]
    assert set(standin.objects(MIRROR)) == {"b&"}
    assert refusal(s3.delete_objects, Bucket=MIRROR, Delete={"Objects": []}) == (400, "MalformedXML")
    blank = {"Objects": [{"Key": " "}]}
    assert refusal(s3.delete_objects, Bucket=MIRROR, Delete=blank) == (400, "InvalidRequest")


def test_in_a_versioned_bucket_a_delete_puts_a_marker_over_the_object(standin, s3):
    """Guide, DeletingObjectVersions and DeleteMarker"""
    s3.put_bucket_versioning(Bucket=SOURCE, VersioningConfiguration={"Status": "Enabled"})
    assert s3.get_bucket_versioning(Bucket=SOURCE)["Status"] == "Enabled"
    first = s3.put_object(Bucket=SOURCE, Key="a", Body=b"1")["VersionId"]
    s3.put_object(Bucket=SOURCE, Key="a", Body=b"22")
    standin.put(SOURCE, "deleted/a")
    standin.delete(SOURCE, "deleted/a")
    marker = s3.delete_object(Bucket=SOURCE, Key="a")
    assert marker["DeleteMarker"]
    assert len(standin.versions(SOURCE, "a")) == 3
    assert refusal(s3.head_object, Bucket=SOURCE, Key="a") == (404, "404")
    assert listing(s3, SOURCE) == listing(s3, SOURCE, Delimiter="/") == ([], [])
    assert copy_refusal(s3) == (404, "NoSuchKey")
    assert s3.head_object(Bucket=SOURCE, Key="a", VersionId=first)["ContentLength"] == 1
    s3.copy_object(Bucket=MIRROR, Key="a", CopySource={"Bucket": SOURCE, "Key": "a", "VersionId": first})
    assert standin.objects(MIRROR)["a"]["size"] == 1
    source = {"Bucket": SOURCE, "Key": "a", "VersionId": marker["VersionId"]}
    assert refusal(s3.copy_object, Bucket=MIRROR, Key="a", CopySource=source) == (400, "InvalidRequest")
    assert refusal(s3.head_object, Bucket=SOURCE, Key="a", VersionId=marker["VersionId"]) == (405, "405")
    assert refusal(s3.head_object, Bucket=SOURCE, Key="a", VersionId="other") == (404, "404")
    s3.delete_object(Bucket=SOURCE, Key="a", VersionId=marker["VersionId"])
    assert s3.head_object(Bucket=SOURCE, Key="a")["ContentLength"] == 2


# ---------------------------------------------------------------- SQS


def receive(sqs: Any, url: str, **arguments: Any) -> list[dict[str, Any]]:
    arguments = {"MaxNumberOfMessages": 10, "MessageSystemAttributeNames": ["All"], **arguments}
    return sqs.receive_message(QueueUrl=url, **arguments).get("Messages", [])


def test_a_message_carries_its_count_its_times_and_its_md5(standin, sqs):
    """SQS API, ReceiveMessage"""
    url = standin.create_queue(QUEUE)
    attributes = {"upload": {"DataType": "String", "StringValue": "abc"}}
    sent = sqs.send_message(QueueUrl=url, MessageBody="héllo", MessageAttributes=attributes)
    [message] = receive(sqs, url)
    assert message["MD5OfBody"] == sent["MD5OfMessageBody"] == hashlib.md5("héllo".encode()).hexdigest()
    assert message["MD5OfMessageAttributes"] == sent["MD5OfMessageAttributes"]
    assert message["MessageAttributes"] == attributes
    assert message["Attributes"]["ApproximateReceiveCount"] == "1"
    times = [int(message["Attributes"][name]) for name in ("SentTimestamp", "ApproximateFirstReceiveTimestamp")]
    assert times == sorted(times)
    assert abs(times[0] / 1000 - time.time()) < 60
    assert sqs.get_queue_url(QueueName=QUEUE)["QueueUrl"] == url


def test_a_received_message_is_hidden_until_its_visibility_timeout_ends(standin, sqs):
    """SQS Guide, sqs-visibility-timeout"""
    url = standin.create_queue(QUEUE, visibility_timeout=60)
    standin.send(QUEUE, "a")
    [message] = receive(sqs, url)
    assert receive(sqs, url) == []
    assert standin.queue(QUEUE) == {"visible": 0, "in_flight": 1, "delayed": 0}
    handle = message["ReceiptHandle"]
    sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=0)
    [again] = receive(sqs, url)
    assert again["Attributes"]["ApproximateReceiveCount"] == "2"
    assert again["ReceiptHandle"] != handle


def test_a_long_poll_ends_when_a_message_arrives_or_becomes_visible(standin, sqs):
    """SQS Guide, sqs-short-and-long-polling"""
    url = standin.create_queue(QUEUE, visibility_timeout=1)
    received = []
    polling = in_background(lambda: received.append(receive(sqs, url, WaitTimeSeconds=20)))
    wait_for_request(standin, "ReceiveMessage")
    standin.send(QUEUE, "a")
    polling.join()
    assert [message["Body"] for message in received[0]] == ["a"]
    [again] = receive(sqs, url, WaitTimeSeconds=20)
    assert again["Attributes"]["ApproximateReceiveCount"] == "2"
    standin.send(QUEUE, "delayed", delay=0.2)
    assert [message["Body"] for message in receive(sqs, url, WaitTimeSeconds=20)] == ["delayed"]


@pytest.fixture
def short_polls(standin: Standin) -> Iterator[None]:
    standin.shorten_empty_polls(0.1)
    yield
    standin.shorten_empty_polls(None)


@pytest.mark.usefixtures("short_polls")
def test_a_poll_that_is_shortened_ends_early_once_the_queue_holds_nothing_and_not_before(standin, sqs):
    standin.reset()  # which leaves the polls short
    url = standin.create_queue(QUEUE)
    assert receive(sqs, url, WaitTimeSeconds=20) == []
    standin.send(QUEUE, "delayed", delay=0.5)
    [message] = receive(sqs, url, WaitTimeSeconds=20)
    received = []
    polling = in_background(lambda: received.append(receive(sqs, url, WaitTimeSeconds=20)))
    wait_for_request(standin, "ReceiveMessage")
    assert receive(sqs, standin.create_queue("other"), WaitTimeSeconds=20) == []
    assert received == []  # although its time is over: the message in flight may come back
    sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    polling.join()
    assert received == [[]]


def test_a_long_poll_whose_client_has_gone_takes_no_message(standin):
    """SQS Guide, sqs-short-and-long-polling"""
    url = standin.create_queue(QUEUE)
    with pytest.raises(ReadTimeoutError):
        receive(client(standin, "sqs", read_timeout=0.1), url, WaitTimeSeconds=20)
    wait_until(lambda: not standin.stats()["in_flight"]["ReceiveMessage"])
    standin.send(QUEUE, "a")
    assert standin.queue(QUEUE)["visible"] == 1


def test_after_max_receives_a_message_goes_to_the_dead_letter_queue(standin, sqs):
    """SQS Guide, sqs-dead-letter-queues"""
    url = standin.create_queue(QUEUE, visibility_timeout=0, max_receive_count=2, dead_letter_queue="dead")
    standin.send(QUEUE, "a")
    assert [len(receive(sqs, url)) for _ in range(3)] == [1, 1, 0]
    assert standin.messages(QUEUE) == []
    [message] = receive(sqs, sqs.get_queue_url(QueueName="dead")["QueueUrl"])
    assert message["Attributes"]["DeadLetterQueueSourceArn"].endswith(f":{QUEUE}")
    policy = json.loads(sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]["RedrivePolicy"])
    assert policy["maxReceiveCount"] == 2


def test_a_handle_deletes_only_what_it_received(standin, sqs):
    """SQS API, DeleteMessage: an old handle may succeed without deleting"""
    url = standin.create_queue(QUEUE, visibility_timeout=0)
    standin.send(QUEUE, "a")
    old, new = (receive(sqs, url)[0]["ReceiptHandle"] for _ in range(2))
    sqs.delete_message(QueueUrl=url, ReceiptHandle=old)
    assert len(standin.messages(QUEUE)) == 1
    for _ in range(2):
        sqs.delete_message(QueueUrl=url, ReceiptHandle=new)
    assert standin.messages(QUEUE) == []
    other = standin.create_queue("other")
    for queue_url, handle in ((url, "x"), (other, new)):
        assert refusal(sqs.delete_message, QueueUrl=queue_url, ReceiptHandle=handle) == (400, "ReceiptHandleIsInvalid")


def test_the_visibility_of_a_message_that_is_not_in_flight_cannot_change(standin, sqs):
    """SQS API, ChangeMessageVisibility, MessageNotInflight"""
    url = standin.create_queue(QUEUE, visibility_timeout=0)
    standin.send(QUEUE, "a")
    change = {"QueueUrl": url, "VisibilityTimeout": 5, "ReceiptHandle": receive(sqs, url)[0]["ReceiptHandle"]}
    assert refusal(sqs.change_message_visibility, **change)[1].endswith("MessageNotInflight")
    sqs.delete_message(QueueUrl=url, ReceiptHandle=change["ReceiptHandle"])
    assert refusal(sqs.change_message_visibility, **change) == (400, "InvalidParameterValue")


def test_a_message_is_hidden_for_12_hours_in_all(standin, sqs):
    """SQS API, ChangeMessageVisibility; the text is the one SQS answers"""
    url = standin.create_queue(QUEUE, max_visibility=60)
    standin.send(QUEUE, "a")
    change = {"QueueUrl": url, "ReceiptHandle": receive(sqs, url)[0]["ReceiptHandle"]}
    sqs.change_message_visibility(**change, VisibilityTimeout=59)
    assert refusal(sqs.change_message_visibility, **change, VisibilityTimeout=61) == (400, "InvalidParameterValue")
    text = message_of(sqs.change_message_visibility, **change, VisibilityTimeout=61)
    assert text.endswith("Reason: Total VisibilityTimeout for the message is beyond the limit [60 seconds]")


def test_a_message_is_delayed_for_15_minutes_at_most(standin, sqs):
    """SQS API, SendMessage, DelaySeconds"""
    url = standin.create_queue(QUEUE)
    sqs.send_message(QueueUrl=url, MessageBody="a", DelaySeconds=900)
    assert standin.queue(QUEUE)["delayed"] == 1
    too_long = {"QueueUrl": url, "MessageBody": "a", "DelaySeconds": 901}
    assert refusal(sqs.send_message, **too_long) == (400, "InvalidParameterValue")


def test_entries_of_a_batch_fail_one_by_one(standin, sqs):
    """SQS API, SendMessageBatch, DeleteMessageBatch and ChangeMessageVisibilityBatch"""
    url = standin.create_queue(QUEUE)
    entries = [{"Id": "1", "MessageBody": "a"}, {"Id": "2", "MessageBody": "b", "DelaySeconds": 901}]
    sent = sqs.send_message_batch(QueueUrl=url, Entries=entries)
    assert [entry["Id"] for entry in sent["Successful"]] == ["1"]
    assert [(entry["Id"], entry["Code"]) for entry in sent["Failed"]] == [("2", "InvalidParameterValue")]
    handle = receive(sqs, url)[0]["ReceiptHandle"]
    entries = [{"Id": "1", "ReceiptHandle": handle}, {"Id": "2", "ReceiptHandle": "x"}]
    longer = [{**entry, "VisibilityTimeout": 50} for entry in entries]
    for answer in (
        sqs.change_message_visibility_batch(QueueUrl=url, Entries=longer),
        sqs.delete_message_batch(QueueUrl=url, Entries=entries),
    ):
        assert [entry["Id"] for entry in answer["Successful"]] == ["1"]
        assert [(entry["Id"], entry["Code"]) for entry in answer["Failed"]] == [("2", "ReceiptHandleIsInvalid")]


def test_a_batch_has_1_to_10_entries_with_ids_of_their_own(standin, sqs):
    """SQS API, SendMessageBatch, Errors"""
    url = standin.create_queue(QUEUE)
    for ids, code in (
        ([], "EmptyBatchRequest"),
        (range(11), "TooManyEntriesInBatchRequest"),
        ("11", "BatchEntryIdsNotDistinct"),
    ):
        entries = [{"Id": str(number), "MessageBody": "a"} for number in ids]
        assert refusal(sqs.send_message_batch, QueueUrl=url, Entries=entries)[1].endswith(code)
    assert refusal(sqs.receive_message, QueueUrl=url, MaxNumberOfMessages=11) == (400, "InvalidParameterValue")


def test_a_missing_queue_is_named_as_such(standin, sqs):
    """SQS API, QueueDoesNotExist"""
    with pytest.raises(sqs.exceptions.QueueDoesNotExist):
        sqs.receive_message(QueueUrl=f"{standin.url}/111122223333/missing")


def test_queue_attributes_count_messages_by_state(standin, sqs):
    """SQS API, GetQueueAttributes"""
    url = standin.create_queue(QUEUE)
    for number in range(3):
        standin.send(QUEUE, str(number))
    standin.send(QUEUE, "later", delay=60)
    receive(sqs, url, MaxNumberOfMessages=1)
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    prefix = "ApproximateNumberOfMessages"
    assert [attributes[prefix + state] for state in ("", "NotVisible", "Delayed")] == ["2", "1", "1"]


# ---------------------------------------------------------------- events


def events(standin: Standin) -> list[tuple[str, str]]:
    records = [json.loads(message["body"])["Records"][0] for message in standin.messages(QUEUE)]
    return [(record["eventName"], unquote_plus(record["s3"]["object"]["key"])) for record in records]


def test_every_write_and_delete_sends_an_event(standin, s3):
    """Guide, notification-how-to-event-types-and-destinations"""
    standin.create_queue(QUEUE)
    standin.notify(SOURCE, QUEUE)
    s3.put_object(Bucket=SOURCE, Key="a", Body=b"1")
    s3.copy_object(Bucket=SOURCE, Key="b", CopySource=f"{SOURCE}/a")
    upload = Upload(s3, SOURCE)
    upload.part(1)
    upload.complete()
    s3.delete_object(Bucket=SOURCE, Key="a")
    s3.delete_object(Bucket=SOURCE, Key="never there")
    standin.expire(SOURCE, "b")
    standin.put(SOURCE, "c", storage_class="GLACIER")
    standin.restore(SOURCE, "c")
    assert events(standin) == [
        ("ObjectCreated:Put", "a"),
        ("ObjectCreated:Copy", "b"),
        ("ObjectCreated:CompleteMultipartUpload", "a"),
        ("ObjectRemoved:Delete", "a"),
        ("LifecycleExpiration:Delete", "b"),
        ("ObjectCreated:Put", "c"),
        ("ObjectRestore:Completed", "c"),
    ]


def test_in_a_versioned_bucket_events_tell_markers_from_deletes(standin, s3):
    """Guide, notification-how-to-event-types-and-destinations; none says that an object has reappeared"""
    standin.create_queue(QUEUE)
    standin.notify(SOURCE, QUEUE)
    standin.configure_bucket(SOURCE, versioning="Enabled")
    standin.put(SOURCE, "a")
    marker = s3.delete_object(Bucket=SOURCE, Key="a")["VersionId"]
    s3.delete_object(Bucket=SOURCE, Key="a", VersionId=marker)
    standin.expire(SOURCE, "a")
    assert [name for name, _ in events(standin)] == [
        "ObjectCreated:Put",
        "ObjectRemoved:DeleteMarkerCreated",
        "ObjectRemoved:Delete",
        "LifecycleExpiration:DeleteMarkerCreated",
    ]


def test_an_event_has_a_form_encoded_key_and_a_rising_sequencer(standin):
    """Guide, notification-content-structure"""
    standin.create_queue(QUEUE)
    standin.notify(SOURCE, QUEUE)
    standin.put(SOURCE, "in/a b+c&é=(1).txt", 5)
    standin.put(SOURCE, "in/a b+c&é=(1).txt", 6)
    first, second = (json.loads(message["body"])["Records"][0] for message in standin.messages(QUEUE))
    assert first["s3"]["object"]["key"] == "in/a+b%2Bc%26%C3%A9%3D%281%29.txt"
    assert first["s3"]["object"]["sequencer"] < second["s3"]["object"]["sequencer"]
    assert (first["eventSource"], first["s3"]["bucket"]["name"], first["s3"]["object"]["size"]) == ("aws:s3", SOURCE, 5)


def test_events_can_be_filtered_doubled_and_late(standin):
    """Guide, NotificationHowTo: at least once, and in no order"""
    standin.create_queue(QUEUE)
    standin.notify(SOURCE, QUEUE, prefixes=["in/"], duplicate=1.0, max_delay=300.0, seed=1)
    standin.put(SOURCE, "out")
    standin.put_many(SOURCE, [f"in/{number}" for number in range(10)])
    assert len(events(standin)) == 20
    arrivals = [message["visible_at"] for message in standin.messages(QUEUE)]
    assert arrivals != sorted(arrivals)


def test_filters_are_compared_with_the_key_as_events_have_it(standin):
    """Guide, notification-how-to-filtering: a space is written as +"""
    standin.create_queue(QUEUE)
    standin.notify(SOURCE, QUEUE, prefixes=["my+files/", "%C3%A9=/", "%C3%A9%3D/"])
    standin.put_many(SOURCE, ["my files/a", "my+files/b", "é=/c", "é/d"])
    assert events(standin) == [("ObjectCreated:Put", "my files/a"), ("ObjectCreated:Put", "é=/c")]


@pytest.mark.parametrize(
    ("prefixes", "told"),
    [
        (["a/", "a/b/"], "Configurations overlap"),
        (["a/", "a/"], "Configurations overlap"),
        (["", "a/"], "Configurations overlap"),
        ([f"{number}/" for number in range(101)], "at most 100 notifications"),
    ],
)
def test_filters_that_s3_would_refuse(standin, prefixes, told):
    """API, PutBucketNotificationConfiguration: InvalidArgument"""
    with pytest.raises(ValueError, match=f"InvalidArgument: {told}"):
        standin.notify(SOURCE, QUEUE, prefixes=prefixes)


# ---------------------------------------------------------------- faults, latency, numbers


def test_a_fault_answers_an_error_a_number_of_times_and_then_no_more(standin, s3):
    """API, Error responses"""
    standin.put(SOURCE, "a")
    standin.fault("CopyObject", "error", status=503, code="SlowDown", key="^a$", skip=1, times=2)
    copy(s3)
    assert [copy_refusal(s3) for _ in range(2)] == [(503, "SlowDown")] * 2
    copy(s3)
    standin.fault("CopyObject", "error", status=409, code="ConditionalRequestConflict", times=0)
    assert [copy_refusal(s3)[0] for _ in range(5)] == [409] * 5
    standin.clear_faults()
    copy(s3)
    assert standin.stats()["errors"]["CopyObject"] == {"SlowDown": 2, "ConditionalRequestConflict": 5}


def test_a_fault_can_hide_in_a_200(standin, s3):
    """API, CopyObject, Response and special errors"""
    standin.put(SOURCE, "a")
    standin.fault("CopyObject", "error_in_200", code="InternalError")
    assert copy_refusal(s3)[1] == "InternalError"
    standin.fault("CopyObject", "empty_200")
    assert copy(s3)["CopyObjectResult"] == {}
    assert standin.objects(MIRROR) == {}


def test_a_lost_answer_has_done_the_work_and_a_reset_has_not(standin, s3):
    """API, CopyObject"""
    standin.put(SOURCE, "a")
    standin.fault("CopyObject", "reset")
    with pytest.raises(ConnectionClosedError):
        copy(s3)
    assert standin.objects(MIRROR) == {}
    standin.fault("CopyObject", "lost")
    with pytest.raises(ConnectionClosedError):
        copy(s3)
    assert set(standin.objects(MIRROR)) == {"a"}


def test_a_hanging_request_ends_without_the_work(standin, s3):
    """API, CopyObject"""
    standin.put(SOURCE, "a")
    standin.fault("CopyObject", "hang", seconds=0.2)
    with pytest.raises(ConnectionClosedError):
        copy(s3)
    standin.fault("CopyObject", "delay", seconds=0.2)
    assert standin.objects(MIRROR) == {}
    copy(s3)


def test_a_fault_can_be_for_one_bucket_and_for_sqs(standin, s3, sqs):
    """SQS API, Common errors"""
    url = standin.create_queue(QUEUE)
    other = standin.create_queue("other")
    standin.fault("ReceiveMessage", "error", bucket=QUEUE, status=403, code="AccessDenied")
    assert receive(sqs, other) == []
    assert refusal(sqs.receive_message, QueueUrl=url) == (403, "AccessDenied")
    standin.fault("HeadObject", "error", bucket=MIRROR, status=403, code="AccessDenied")
    standin.put(SOURCE, "a")
    s3.head_object(Bucket=SOURCE, Key="a")
    assert refusal(s3.head_object, Bucket=MIRROR, Key="a") == (403, "403")


def test_latency_grows_with_the_bytes_that_a_copy_moves(standin, s3):
    """Guide, optimizing-performance: a copy is silent until it is done"""
    standin.put(SOURCE, "a", 4 * GIB)
    standin.latency("CopyObject", ms_per_gib=50)
    begin = time.monotonic()
    copy(s3)
    assert time.monotonic() - begin > 0.2


def test_stats_count_requests_and_how_many_ran_at_once(standin, s3):
    """The numbers that benchmarks and tests are made of"""
    standin.put_many(SOURCE, ["a", "b", "c"])
    standin.hold("CopyObject")
    threads = [in_background(copy, s3, key) for key in "abc"]
    wait_until(lambda: standin.stats()["in_flight"]["CopyObject"] == 3)
    standin.release("CopyObject")
    for thread in threads:
        thread.join()
    stats = standin.stats()
    assert (stats["requests"]["CopyObject"], stats["max_in_flight"]["CopyObject"]) == (3, 3)
    assert stats["in_flight"]["CopyObject"] == 0
    assert stats["cpu_seconds"] > 0


def test_requests_can_be_recorded_and_everything_forgotten(standin, s3):
    """What a test asserts about a request that the answer does not show"""
    standin.put(SOURCE, "a")
    standin.record()
    copy(s3, AnnotationDirective="EXCLUDE")
    [request] = standin.requests("CopyObject")
    assert (request["method"], request["bucket"], request["key"]) == ("PUT", MIRROR, "a")
    assert request["headers"]["x-amz-object-annotation-directive"] == "EXCLUDE"
    standin.reset()
    assert standin.requests() == []
    assert standin.stats()["requests"] == {}


def test_a_control_verb_that_fails_says_why(standin):
    """The stand-in itself"""
    with pytest.raises(ValueError, match="put: KeyError"):
        standin.put("missing", "a")
    with pytest.raises(AttributeError):
        standin.nonsense()
