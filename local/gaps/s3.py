"""S3: what sets both kinds of bucket apart, and what S3 refuses."""

from __future__ import annotations

import functools
import os
import re
import secrets
import sys
import time
from contextvars import ContextVar
from typing import NamedTuple
from urllib.parse import quote_plus, unquote

from awscrt import checksums
from ministack import app
from ministack.core import iam_evaluator, router
from ministack.core.responses import get_account_id, get_region
from ministack.services import s3

from gaps import replaces
from gaps.iam import temporary_credentials

COPY_MAX = int(os.environ.get("COPY_MAX", 5 * 1024**3))
MIN_PART = 5 * 1024**2
MOST_PARTS, MOST_KEY, MOST_METADATA = 10_000, 1024, 2048

# S3 User Guide, "Differences for directory buckets": subresources and headers that are not implemented there.
NO_SUBRESOURCE = {
    *("accelerate", "acl", "annotation", "cors", "legal-hold", "location", "logging", "notification", "object-lock"),
    *("ownershipControls", "replication", "requestPayment", "restore", "retention", "tagging", "versioning"),
    *("versions", "website"),
}
NO_HEADER = {
    *("acl", "grant-full-control", "grant-read", "grant-read-acp", "grant-write-acp", "object-lock-legal-hold"),
    *("object-lock-mode", "object-lock-retain-until-date", "request-payer", "tagging", "website-redirect-location"),
    "server-side-encryption-bucket-key-enabled",
}
NO_SSE_C = {"x-amz-server-side-encryption-customer-algorithm", "x-amz-server-side-encryption-customer-key"}
OWNERS = {"x-amz-expected-bucket-owner", "x-amz-source-expected-bucket-owner"}
OF_LIST_OBJECTS = {"prefix", "delimiter", "marker", "max-keys", "encoding-type"}
# One of these makes a copy of an object onto itself another object.
CHANGES = {"x-amz-storage-class", "x-amz-server-side-encryption", "x-amz-website-redirect-location"}

# ministack reads a body byte by byte in Python. To find that sessions of directory buckets are signed for no service of
# its own, it would load the models of all services.
s3._crc64nvme = checksums.crc64nvme
replaces(router, "_is_aws_service_name")(lambda original, name: name != "s3express" and original(name))


class Request(NamedTuple):
    """What ministack hands to its S3 dispatcher; header names are lower case, query values are lists."""

    method: str
    bucket: str
    key: str
    headers: dict
    body: bytes
    query: dict


def is_directory(bucket):
    """Tell a directory bucket by the suffix that S3 reserves for them."""
    return bucket.endswith("--x-s3")


def stored(bucket, key):
    """Return ministack's record of the current object, or None."""
    return s3._buckets.get(bucket, {}).get("objects", {}).get(key)


@replaces(s3, "_dispatch")
def answer_s3(original, *request):
    """Answer one S3 request: what S3 refuses first, then what ministack says, corrected."""
    r = Request(*request)
    for refusal_of in (other_owner, too_long, unsupported, unready_bucket, bad_copy, bad_part, bad_completion):
        if refusal := refusal_of(r):
            return refusal
    if r.method == "GET" and "session" in r.query:
        return create_session(r)
    response = original(*request)
    if response[0] == 200:
        drop_old_encoding(r)
        response = with_own_etag(r, response)
    return hide_missing_key(r, response) if r.bucket else list_one_kind(r, response)


def create_session(r):
    """CreateSession: five-minute credentials of the caller, for a bucket that may not exist yet.

    With an endpoint of its own the AWS CLI asks for a session even before CreateBucket.
    """
    caller = iam_evaluator.resolve_caller_identity(router.extract_access_key_id(r.headers))
    if not caller:
        return s3._error("AccessDenied", "Access Denied", 403, r.bucket)
    key_id, secret, token, expires = temporary_credentials(caller["userArn"], caller["userId"], 300)
    body = (
        '<?xml version="1.0" encoding="UTF-8"?><CreateSessionResult><Credentials>'
        f"<AccessKeyId>{key_id}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>"
        f"<SessionToken>{token}</SessionToken>"
        f"<Expiration>{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(expires))}</Expiration>"
        "</Credentials></CreateSessionResult>"
    )
    return 200, {"Content-Type": "application/xml"}, body.encode()


def other_owner(r):
    """All buckets here are of one account (S3 User Guide, "Verifying bucket ownership with bucket owner condition")."""
    if any(r.headers.get(name, get_account_id()) != get_account_id() for name in OWNERS):
        return s3._error("AccessDenied", "Access Denied", 403, r.bucket)
    return None


def too_long(r):
    """S3 User Guide, "Naming Amazon S3 objects" and "Working with object metadata"."""
    if len(r.key.encode()) > MOST_KEY:
        return s3._error("KeyTooLongError", "Your key is too long", 400, r.key)
    sent = {name.removeprefix("x-amz-meta-"): value for name, value in r.headers.items() if "x-amz-meta-" in name}
    if sum(len(name) + len(value) for name, value in sent.items()) > MOST_METADATA:
        return s3._error("MetadataTooLarge", "Your metadata headers exceed the maximum allowed metadata size", 400)
    return None


def unsupported(r):
    """What a directory bucket does not have (S3 User Guide, "Differences for directory buckets"), and sessions, which
    only directory buckets have."""
    if not is_directory(r.bucket):
        if r.bucket and r.method == "GET" and "session" in r.query:
            return s3._error("InvalidRequest", "Only a directory bucket has sessions.", 400)
        return None

    if NO_SUBRESOURCE & r.query.keys() or any(r.headers.get(f"x-amz-{name}") for name in NO_HEADER):
        return s3._error("NotImplemented", "A directory bucket does not implement this.", 501, r.bucket)
    is_dsse = r.headers.get("x-amz-server-side-encryption") == "aws:kms:dsse"
    if is_dsse or NO_SSE_C & r.headers.keys() or (r.key and "content-md5" in r.headers):
        return s3._error("InvalidRequest", "A directory bucket has neither SSE-C, DSSE-KMS nor MD5.", 400, r.bucket)
    if r.headers.get("x-amz-storage-class", "EXPRESS_ONEZONE") != "EXPRESS_ONEZONE":
        return s3._error("InvalidStorageClass", "The storage class you specified is not valid", 400, r.bucket)
    return bad_listing(r) if r.method == "GET" and not r.key else None


def bad_listing(r):
    """A directory bucket lists by folder (S3 API Reference, ListObjectsV2, the notes on directory buckets)."""
    if "start-after" in r.query or not r.query.keys() - OF_LIST_OBJECTS:
        return s3._error("NotImplemented", "A directory bucket does not implement this.", 501, r.bucket)
    prefix, delimiter = (r.query.get(name, [""])[0] for name in ("prefix", "delimiter"))
    if (prefix and not prefix.endswith("/")) or delimiter not in ("", "/"):
        return s3._error("InvalidRequest", "A directory bucket lists by folders, which end in /.", 400, r.bucket)
    return None


def unready_bucket(r):
    """A directory bucket is made in a zone, and it is kept while uploads are open in it (S3 User Guide, "Working with
    multipart uploads with directory buckets")."""
    if not is_directory(r.bucket) or r.key or r.query:
        return None
    if r.method == "PUT" and b"<Type>Directory</Type>" not in r.body:
        return s3._error("MalformedXML", "A directory bucket needs its configuration.", 400, r.bucket)
    if r.method == "DELETE" and any(upload["bucket"] == r.bucket for upload in s3._multipart_uploads.values()):
        return s3._error("BucketNotEmpty", "The bucket you tried to delete is not empty", 409, r.bucket)
    return None


def source_of(r):
    """Return the bucket, the key and ministack's record of what a copy reads, or None."""
    path, _, version = r.headers["x-amz-copy-source"].partition("?versionId=")
    bucket, _, key = unquote(path).lstrip("/").partition("/")
    if not version:
        return bucket, key, stored(bucket, key)
    versions = s3._object_versions.get((bucket, key), [])
    return bucket, key, next((found for found in versions if found["version_id"] == version), None)


def bad_copy(r):
    """What is not copied, and the destination's conditions (S3 API Reference, CopyObject and UploadPartCopy)."""
    if r.method != "PUT" or "x-amz-copy-source" not in r.headers:
        return None
    bucket, key, source = source_of(r)
    if source is None:
        return None
    if source.get("is_delete_marker"):
        return s3._error("InvalidRequest", "The source of a copy request may not refer to a delete marker", 400)
    is_archived = source.get("storage_class") in s3._ARCHIVE_STORAGE_CLASSES
    if is_archived and s3._sync_restore(bucket, key, source) != "restored":
        return s3._invalid_object_state(bucket, key, source["storage_class"])
    span = re.fullmatch(r"bytes=(\d+)-(\d+)", r.headers.get("x-amz-copy-source-range", ""))
    if span and source["size"] <= MIN_PART:
        return s3._error("InvalidRequest", "The copy source is not supported as a byte-range copy source", 400)
    if (int(span[2]) - int(span[1]) + 1 if span else source["size"]) > COPY_MAX:
        limit = "The specified copy source is larger than the maximum allowable size for a copy source"
        return s3._error("InvalidRequest", f"{limit}: {COPY_MAX}", 400)
    return None if "partNumber" in r.query else bad_object(r, bucket, key, source)


def bad_object(r, bucket, key, source):
    """What CopyObject alone refuses: an object onto itself, and what a directory bucket would have to keep."""
    replaces_metadata = r.headers.get("x-amz-metadata-directive", "COPY").upper() == "REPLACE"
    if (bucket, key) == (r.bucket, r.key) and not replaces_metadata and not CHANGES & r.headers.keys():
        return s3._error("InvalidRequest", "A copy of an object onto itself has to change something", 400, r.key)
    for kept, directive, without in (
        (s3._object_tags, "x-amz-tagging-directive", "REPLACE"),
        (s3._object_annotations, "x-amz-object-annotation-directive", "EXCLUDE"),
    ):
        is_kept = kept.get((bucket, key, source.get("version_id"))) and r.headers.get(directive, "COPY") != without
        if is_kept and is_directory(r.bucket):
            return s3._error("NotImplemented", f"A directory bucket needs {directive}: {without}.", 501, r.key)
    return s3._check_put_preconditions(r.headers, stored(r.bucket, r.key))


@replaces(s3, "_check_put_preconditions")
def check_conditions(original, headers, existing):
    """If-None-Match of a write is * (S3 API Reference, CopyObject, PutObject and CompleteMultipartUpload)."""
    if headers.get("if-none-match", "*") != "*":
        return s3._error("NotImplemented", "A header you provided implies functionality that is not implemented", 501)
    return original(headers, existing)


def bad_part(r):
    """Part numbers (S3 User Guide, "Amazon S3 multipart upload limits")."""
    if r.method == "PUT" and not 1 <= int(r.query.get("partNumber", ["1"])[0]) <= MOST_PARTS:
        return s3._error("InvalidArgument", f"Part number must be an integer between 1 and {MOST_PARTS}", 400, r.key)
    return None


def drop_old_encoding(r):
    """A copy with MetadataDirective REPLACE has none of the source's metadata (S3 API Reference, CopyObject)."""
    if r.headers.get("x-amz-metadata-directive") == "REPLACE" and not r.headers.get("content-encoding"):
        stored(r.bucket, r.key)["content_encoding"] = None


def with_own_etag(r, response):
    """What is written to a directory bucket gets a random ETag and the bucket's storage class (S3 User Guide,
    "Differences for directory buckets")."""
    is_whole_object = r.method == "PUT" and "partNumber" not in r.query
    is_completion = r.method == "POST" and "uploadId" in r.query
    if not is_directory(r.bucket) or not (is_whole_object or is_completion):
        return response
    written = stored(r.bucket, r.key)
    if not written:
        return response

    status, headers, body = response
    old, new = written["etag"].strip('"'), secrets.token_hex(16)
    written |= {"etag": f'"{new}"', "storage_class": "EXPRESS_ONEZONE"}
    headers = {name: value.replace(old, new) if name.lower() == "etag" else value for name, value in headers.items()}
    return status, headers, body.replace(old.encode(), new.encode())


def bad_completion(r):
    """Part order and the smallest part (S3 API Reference, CompleteMultipartUpload)."""
    if r.method != "POST" or "uploadId" not in r.query:
        return None
    numbers = [int(number) for number in re.findall(rb"<PartNumber>(\d+)</PartNumber>", r.body)]
    if not numbers:
        return s3._error("MalformedXML", "An object is made of one part at least", 400, r.key)
    consecutive = list(range(1, len(numbers) + 1))
    if numbers != (consecutive if is_directory(r.bucket) else sorted(set(numbers))):
        return s3._error("InvalidPartOrder", "The list of parts was not in the right order.", 400, r.key)
    parts = s3._multipart_uploads.get(r.query["uploadId"][0], {}).get("parts", {})
    all_but_last = [parts[number] for number in numbers[:-1] if number in parts]
    if any(part["size"] < MIN_PART for part in all_but_last):
        return s3._error("EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size", 400, r.key)
    return None


def hide_missing_key(r, response):
    """A missing key is 403 for a caller who may not list the bucket (S3 API Reference, HeadObject)."""
    status, headers, _ = response
    if not app.AUTH or status != 404 or r.method not in ("GET", "HEAD") or not r.key:
        return response
    if is_directory(r.bucket) or r.bucket not in s3._buckets:
        return response
    caller, bucket = router.extract_access_key_id(r.headers, r.query), f"arn:aws:s3:::{r.bucket}"
    if not iam_evaluator.enforce(caller, "s3:ListBucket", "s3", get_region(), resource_arn=bucket):
        return response
    return (403, headers, b"") if r.method == "HEAD" else s3._error("AccessDenied", "Access Denied", 403, r.key)


def list_one_kind(r, response):
    """ListBuckets has no directory buckets, ListDirectoryBuckets (signed for s3express) has only those."""
    status, headers, body = response
    wanted = "/s3express/" in r.headers.get("authorization", "")
    for bucket in re.findall(rb"<Bucket>.*?</Bucket>", body, re.DOTALL):
        if (b"--x-s3</Name>" in bucket) != wanted:
            body = body.replace(bucket, b"")
    return status, headers, body


class Turned(dict):
    """For str.translate: the last character becomes the first, and / stays as it is."""

    def __missing__(self, code):
        self[code] = code if code == ord("/") else sys.maxunicode - code
        return self[code]


TURNED = Turned()


@functools.lru_cache(maxsize=2**17)
def turned(name):
    """Return the name with its characters turned; twice, that is the name."""
    return name.translate(TURNED)


directory = ContextVar("directory", default="")  # the directory bucket that is being listed


@replaces(s3, "_list_objects_v2")
def list_objects(original, bucket, query):
    """Tell list_in_no_order() which bucket it is about."""
    token = directory.set(bucket if is_directory(bucket) else "")
    try:
        return original(bucket, query)
    finally:
        directory.reset(token)


@replaces(s3, "_collect_list_entries")
def list_in_no_order(original, keys, prefix, delimiter, max_keys, start_after):
    """A directory bucket lists folder by folder, always in the same order, which is not that of the keys; with a
    delimiter it shows the folders of open uploads too (S3 API Reference, ListObjectsV2)."""
    if not (bucket := directory.get()):
        return original(keys, prefix, delimiter, max_keys, start_after)

    shown = [key for key in keys if key.startswith(prefix)]
    if delimiter:
        begun = [upload["key"] for upload in s3._multipart_uploads.values() if upload["bucket"] == bucket]
        shown += [key for key in begun if delimiter in key.removeprefix(prefix)]

    found = original(map(turned, shown), turned(prefix), delimiter, max_keys, turned(start_after))
    contents, folders, is_truncated, marker = found
    return [*map(turned, contents)], [*map(turned, folders)], is_truncated, turned(marker)


@replaces(s3, "_key_matches_filter")
def match_as_in_events(original, key, prefix, suffix):
    """Compare the filter of a notification with the key as S3 writes it in events: a space is +."""
    return original(quote_plus(key, safe="/"), prefix, suffix)
