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

import refusals
from gaps import replaces
from gaps.iam import temporary_credentials
from refusals import is_directory

COPY_MAX = int(os.environ.get("COPY_MAX", 5 * 1024**3))
MOST_METADATA = 2048
OWNERS = {"x-amz-expected-bucket-owner", "x-amz-source-expected-bucket-owner"}
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


def stored(bucket, key):
    """Return ministack's record of the current object, or None."""
    return s3._buckets.get(bucket, {}).get("objects", {}).get(key)


@replaces(s3, "_dispatch")
def answer_s3(original, *request):
    """Answer one S3 request: what S3 refuses first, then what ministack says, corrected."""
    r = Request(*request)
    for refusal_of in (other_owner, refused, unready_bucket, bad_copy, bad_completion):
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
        return error(r, "AccessDenied", "Access Denied")
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
        return error(r, "AccessDenied", "Access Denied")
    return None


def refused(r):
    """What refusals.py has, and more than 2 KB of metadata (S3 User Guide, "Working with object metadata")."""
    query = {name: values[0] for name, values in r.query.items()}
    if refusal := refusals.of_request(r.method, r.bucket, r.key, query, r.headers):
        return error(r, *refusal)
    sent = {name.removeprefix("x-amz-meta-"): value for name, value in r.headers.items() if "x-amz-meta-" in name}
    if sum(len(name) + len(value) for name, value in sent.items()) > MOST_METADATA:
        return error(r, "MetadataTooLarge", "Your metadata headers exceed the maximum allowed metadata size")
    return None


def error(r, code, message):
    """Return the answer to a request that is refused."""
    return s3._error(code, message, refusals.STATUSES.get(code, 400), r.key or r.bucket)


def unready_bucket(r):
    """A directory bucket is made in a zone, and it is kept while uploads are open in it (S3 User Guide, "Working with
    multipart uploads with directory buckets")."""
    if not is_directory(r.bucket) or r.key or r.query:
        return None
    if r.method == "PUT" and b"<Type>Directory</Type>" not in r.body:
        return error(r, "MalformedXML", "A directory bucket needs its configuration.")
    if r.method == "DELETE" and any(upload["bucket"] == r.bucket for upload in s3._multipart_uploads.values()):
        return error(r, "BucketNotEmpty", "The bucket you tried to delete is not empty")
    return None


def source_of(r):
    """Return the bucket, the key and ministack's record of what a copy reads, or None; a version has none."""
    path, _, version = r.headers["x-amz-copy-source"].partition("?versionId=")
    bucket, _, key = unquote(path).lstrip("/").partition("/")
    return bucket, key, None if version else stored(bucket, key)


def bad_copy(r):
    """What is not copied, and the destination's conditions (S3 API Reference, CopyObject and UploadPartCopy)."""
    if r.method != "PUT" or "x-amz-copy-source" not in r.headers:
        return None
    bucket, key, source = source_of(r)
    if source is None:
        return None
    is_archived = source.get("storage_class") in s3._ARCHIVE_STORAGE_CLASSES
    if is_archived and s3._sync_restore(bucket, key, source) != "restored":
        return s3._invalid_object_state(bucket, key, source["storage_class"])
    span = re.fullmatch(r"bytes=(\d+)-(\d+)", r.headers.get("x-amz-copy-source-range", ""))
    if span and source["size"] <= refusals.MIN_PART:
        return error(r, "InvalidRequest", "The copy source is not supported as a byte-range copy source")
    if (int(span[2]) - int(span[1]) + 1 if span else source["size"]) > COPY_MAX:
        limit = "The specified copy source is larger than the maximum allowable size for a copy source"
        return error(r, "InvalidRequest", f"{limit}: {COPY_MAX}")
    return None if "partNumber" in r.query else bad_object(r, bucket, key, source)


def bad_object(r, bucket, key, source):
    """What CopyObject alone refuses: an object onto itself, and what a directory bucket would have to keep."""
    replaces_metadata = r.headers.get("x-amz-metadata-directive", "COPY").upper() == "REPLACE"
    if (bucket, key) == (r.bucket, r.key) and not replaces_metadata and not CHANGES & r.headers.keys():
        return error(r, "InvalidRequest", "A copy of an object onto itself has to change something")
    for kept, directive, without in (
        (s3._object_tags, "x-amz-tagging-directive", "REPLACE"),
        (s3._object_annotations, "x-amz-object-annotation-directive", "EXCLUDE"),
    ):
        is_kept = kept.get((bucket, key, source.get("version_id"))) and r.headers.get(directive, "COPY") != without
        if is_kept and is_directory(r.bucket):
            return error(r, "NotImplemented", f"A directory bucket needs {directive}: {without}.")
    return s3._check_put_preconditions(r.headers, stored(r.bucket, r.key))


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
    upload = s3._multipart_uploads.get(r.query.get("uploadId", [""])[0])
    if r.method != "POST" or not upload:
        return None
    numbers = [int(number) for number in re.findall(rb"<PartNumber>(\d+)</PartNumber>", r.body)]
    sizes = {number: part["size"] for number, part in upload["parts"].items()}
    refusal = refusals.of_parts(r.bucket, numbers, sizes)
    return error(r, *refusal) if refusal else None


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
    return (403, headers, b"") if r.method == "HEAD" else error(r, "AccessDenied", "Access Denied")


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
