"""S3: what sets both kinds of bucket apart, and what S3 refuses."""

from __future__ import annotations

import asyncio
import os
import random
import re
import secrets
import time
from typing import NamedTuple
from urllib.parse import quote_plus, unquote

from ministack import app
from ministack.core import iam_evaluator
from ministack.core.responses import get_region
from ministack.core.router import extract_access_key_id
from ministack.services import s3

from gaps.credentials import temporary_credentials
from gaps.replace import replaces

PAGE_SECONDS = [float(text) for text in (os.environ.get("LOCAL_PAGE_SECONDS") or "0").split("-")]
COPY_MAX = int(os.environ.get("COPY_MAX", 5 * 1024**3))
MIN_PART = 5 * 1024**2

# S3 User Guide, "Differences for directory buckets": subresources and headers that are not implemented there.
NO_SUBRESOURCE = {
    *("accelerate", "acl", "annotation", "cors", "legal-hold", "location", "logging", "notification", "object-lock"),
    *("ownershipControls", "replication", "requestPayment", "restore", "retention", "tagging", "versioning"),
    *("versions", "website"),
}
NO_HEADER = {"x-amz-tagging", "x-amz-acl", "x-amz-website-redirect-location", "x-amz-object-lock-mode"}


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


@replaces(s3, "handle_request")
async def answer_when_due(original, method, path, headers, body, query, **more):
    """A page of a listing takes LOCAL_PAGE_SECONDS; nothing else waits for it."""
    if method == "GET" and "list-type" in query:
        await asyncio.sleep(random.uniform(PAGE_SECONDS[0], PAGE_SECONDS[-1]))
    return await original(method, path, headers, body, query, **more)


@replaces(s3, "_dispatch")
def answer_s3(original, *request):
    """Answer one S3 request: what S3 refuses first, then what ministack says, corrected."""
    r = Request(*request)
    if is_directory(r.bucket) and r.method == "GET" and "session" in r.query:
        return create_session(r)
    for refusal_of in (unsupported, bad_copy, bad_completion):
        if refusal := refusal_of(r):
            return refusal
    response = original(*request)
    if response[0] == 200:
        drop_old_encoding(r)
        response = with_own_etag(r, response)
    return hide_missing_key(r, response) if r.bucket else list_one_kind(r, response)


def create_session(r):
    """CreateSession: five-minute credentials of the caller, for a bucket that may not exist yet.

    With an endpoint of its own the AWS CLI asks for a session even before CreateBucket.
    """
    caller = iam_evaluator.resolve_caller_identity(extract_access_key_id(r.headers))
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


def unsupported(r):
    """What a directory bucket does not have (S3 User Guide, "Differences for directory buckets")."""
    if not is_directory(r.bucket):
        return None
    if NO_SUBRESOURCE & r.query.keys() or any(r.headers.get(name) for name in NO_HEADER):
        return s3._error("NotImplemented", "A directory bucket does not implement this.", 501, r.bucket)
    prefix = r.query.get("prefix", [""])[0]
    if r.method == "GET" and not r.key and prefix and not prefix.endswith("/"):
        return s3._error("InvalidArgument", "A directory bucket lists only prefixes that end in /.", 400, r.bucket)
    return None


def bad_copy(r):
    """Size limit, tags and the destination's conditions (S3 API Reference, CopyObject and UploadPartCopy)."""
    if r.method != "PUT" or "x-amz-copy-source" not in r.headers:
        return None
    bucket, _, key = unquote(r.headers["x-amz-copy-source"].partition("?")[0]).lstrip("/").partition("/")
    source = stored(bucket, key)
    if source is None:
        return None
    first, _, last = r.headers.get("x-amz-copy-source-range", "").removeprefix("bytes=").partition("-")
    if (int(last) - int(first) + 1 if last else source["size"]) > COPY_MAX:
        limit = "The specified copy source is larger than the maximum allowable size for a copy source"
        return s3._error("InvalidRequest", f"{limit}: {COPY_MAX}", 400)
    if "partNumber" in r.query:
        return None
    tags = s3._object_tags.get((bucket, key, source.get("version_id")))
    if is_directory(r.bucket) and tags and r.headers.get("x-amz-tagging-directive", "COPY").upper() == "COPY":
        return s3._error("NotImplemented", "A directory bucket does not implement object tags.", 501, r.key)
    return s3._check_put_preconditions(r.headers, stored(r.bucket, r.key))


def drop_old_encoding(r):
    """A copy with MetadataDirective REPLACE has none of the source's metadata (S3 API Reference, CopyObject)."""
    if r.headers.get("x-amz-metadata-directive") == "REPLACE" and not r.headers.get("content-encoding"):
        stored(r.bucket, r.key)["content_encoding"] = None


def with_own_etag(r, response):
    """What is written to a directory bucket gets a random ETag (S3 User Guide, "Differences for directory buckets")."""
    is_write = (r.method == "PUT" and "partNumber" not in r.query) or (r.method == "POST" and "uploadId" in r.query)
    written = stored(r.bucket, r.key) if is_write and is_directory(r.bucket) else None
    if not written:
        return response
    status, headers, body = response
    old, new = written["etag"].strip('"'), secrets.token_hex(16)
    written["etag"] = f'"{new}"'
    headers = {name: value.replace(old, new) if name.lower() == "etag" else value for name, value in headers.items()}
    return status, headers, body.replace(old.encode(), new.encode())


def bad_completion(r):
    """Part order and the smallest part (S3 API Reference, CompleteMultipartUpload)."""
    if r.method != "POST" or "uploadId" not in r.query:
        return None
    numbers = [int(n) for n in re.findall(rb"<PartNumber>(\d+)</PartNumber>", r.body)]
    consecutive = list(range(1, len(numbers) + 1))
    if numbers != (consecutive if is_directory(r.bucket) else sorted(set(numbers))):
        return s3._error("InvalidPartOrder", "The list of parts was not in the right order.", 400, r.key)
    parts = s3._multipart_uploads.get(r.query["uploadId"][0], {}).get("parts", {})
    if any(parts[n]["size"] < MIN_PART for n in numbers[:-1] if n in parts):
        return s3._error("EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size", 400, r.key)
    return None


def hide_missing_key(r, response):
    """A missing key is 403 for a caller who may not list the bucket (S3 API Reference, HeadObject)."""
    status, headers, _ = response
    if not app.AUTH or status != 404 or r.method not in ("GET", "HEAD") or not r.key:
        return response
    if is_directory(r.bucket) or r.bucket not in s3._buckets:
        return response
    caller, bucket = extract_access_key_id(r.headers, r.query), f"arn:aws:s3:::{r.bucket}"
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


@replaces(s3, "_key_matches_filter")
def match_as_in_events(original, key, prefix, suffix):
    """Compare the filter of a notification with the key as S3 writes it in events: a space is +."""
    return original(quote_plus(key, safe="/"), prefix, suffix)
