"""What the S3 operations have in common: limits, conditions, headers and metadata that a bucket takes or refuses."""

import base64
import string
from collections.abc import Generator
from email.header import decode_header, make_header

from standin_store import GIB, MIB, S3, Answer, Bucket, Object, Request, S3Error

MAX_COPY = 5 * GIB  # also the largest part
MIN_PART = 5 * MIB
MAX_PARTS = 10_000
MAX_METADATA = 2048
MAX_KEY = 1024
PAGE = 1000

# Headers that a directory bucket refuses whatever their value is, and with which code.
NOT_IMPLEMENTED = (
    *("acl", "grant-full-control", "grant-read", "grant-read-acp", "grant-write-acp", "mfa"),
    *("object-lock-event-hold", "object-lock-legal-hold", "object-lock-mode", "object-lock-retain-until-date"),
    *("optional-object-attributes", "request-payer", "server-side-encryption-bucket-key-enabled"),
    "website-redirect-location",
)
REFUSED_BY_DIRECTORY_BUCKETS = {
    **{f"x-amz-{name}": "NotImplemented" for name in NOT_IMPLEMENTED},
    **{f"x-amz-server-side-encryption-customer-{name}": "InvalidRequest" for name in ("algorithm", "key")},
    "content-md5": "InvalidRequest",
}
# Headers stored with an object besides x-amz-meta-*, and answered by HeadObject.
STORED_HEADERS = ("cache-control", *(f"content-{name}" for name in ("disposition", "encoding", "language", "type")))
STORED_HEADERS += ("expires",)

Steps = Generator[int, None, Answer]

UNQUOTED = string.ascii_letters + string.digits + "!*+-/"  # in an encoded word


def find_bucket(s3: S3, request: Request) -> Bucket:
    """The bucket of a request, after the checks that hold for every operation on one."""
    bucket = s3.buckets.get(request.bucket)
    if bucket is None:
        raise S3Error("NoSuchBucket")
    if request.headers.get("x-amz-expected-bucket-owner", bucket.owner) != bucket.owner:
        raise S3Error("AccessDenied")
    if len(request.key.encode()) > MAX_KEY:
        raise S3Error("KeyTooLongError")
    if bucket.is_directory:
        refuse_headers(bucket, request)
    return bucket


def refuse_headers(bucket: Bucket, request: Request) -> None:
    """What a directory bucket refuses (S3 API reference, the directory bucket notes of every operation)."""
    headers = request.headers
    for name in REFUSED_BY_DIRECTORY_BUCKETS.keys() & headers.keys():
        raise S3Error(REFUSED_BY_DIRECTORY_BUCKETS[name])
    if headers.get("x-amz-storage-class", "EXPRESS_ONEZONE") != "EXPRESS_ONEZONE":
        raise S3Error("InvalidStorageClass")
    if headers.get("x-amz-server-side-encryption") == "aws:kms:dsse":
        raise S3Error("InvalidRequest")
    if headers.get("x-amz-tagging"):
        raise S3Error("NotImplemented")
    refuse_content_encoding(bucket, content_encoding(headers))


def refuse_content_encoding(bucket: Bucket, encoding: str) -> None:
    if bucket.is_directory and bucket.content_encoding == "refuse" and encoding:
        raise S3Error("InvalidRequest")


def content_encoding(headers: dict[str, str]) -> str:
    """Content-Encoding without aws-chunked, which says how the request is sent and is not stored."""
    values = (value.strip() for value in headers.get("content-encoding", "").split(","))
    return ",".join(value for value in values if value not in ("", "aws-chunked"))


def matches_etag(condition: str, etag: str) -> bool:
    return condition == "*" or etag in [value.strip().strip('"') for value in condition.split(",")]


def check_match(condition: str | None, found: Object) -> None:
    """If-Match on the object that is read or copied (S3 API reference, GetObject and CopyObject)."""
    if condition and not matches_etag(condition, found.etag):
        raise S3Error("PreconditionFailed")


def check_destination(bucket: Bucket, request: Request) -> None:
    """If-Match and If-None-Match on the object that is written (S3 User Guide, conditional-writes)."""
    if_none_match, if_match = request.headers.get("if-none-match"), request.headers.get("if-match")
    current = bucket.current(request.key)
    if if_none_match and current:
        raise S3Error("PreconditionFailed")
    if if_match and current is None:
        raise S3Error("NoSuchKey")
    if if_match and current and not matches_etag(if_match, current.etag):
        raise S3Error("PreconditionFailed")


def check_condition_support(bucket: Bucket, request: Request, operation: str) -> None:
    if_none_match = request.headers.get("if-none-match")
    if if_none_match not in (None, "*"):
        raise S3Error("NotImplemented")
    if operation in bucket.refused_conditions and (if_none_match or "if-match" in request.headers):
        raise S3Error("NotImplemented")


def find(bucket: Bucket, key: str) -> Object:
    """The current object. Without s3:ListBucket a missing key is 403, not 404 (S3 API reference, HeadObject)."""
    if found := bucket.current(key):
        return found
    marker = {"x-amz-delete-marker": "true"} if key in bucket.objects else {}
    raise S3Error("NoSuchKey" if bucket.list_permission else "AccessDenied", headers=marker)


def check_listing(bucket: Bucket, query: dict[str, str]) -> None:
    """What a listing of a directory bucket may not ask for (S3 API reference, ListObjectsV2, ListMultipartUploads)."""
    if not bucket.list_permission:
        raise S3Error("AccessDenied")
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    if bucket.is_directory and ((prefix and not prefix.endswith("/")) or delimiter not in ("", "/")):
        raise S3Error("InvalidRequest")


def metadata_from(headers: dict[str, str]) -> dict[str, str]:
    """The headers to store with a new object, in bytes as they came. User metadata is RFC 2047 decoded before it is
    stored, what is not ASCII is taken for ISO-8859-1, and it may have 2 KB in all, names and values in UTF-8 (S3 User
    Guide, UsingMetadata)."""
    stored = {name: headers[name] for name in STORED_HEADERS if name in headers}
    if encoding := content_encoding(stored):
        stored["content-encoding"] = encoding
    else:
        stored.pop("content-encoding", None)
    stored.setdefault("content-type", "binary/octet-stream")
    size = 0
    for name, value in headers.items():
        if name.startswith("x-amz-meta-"):
            stored[name] = str(make_header(decode_header(value))) if "=?" in value else as_latin(value)
            size += len(name.removeprefix("x-amz-meta-").encode()) + len(stored[name].encode())
    if size > MAX_METADATA:
        raise S3Error("MetadataTooLarge")
    return stored


def as_latin(value: str) -> str:
    return value.encode(errors="surrogateescape").decode("iso-8859-1")


def header_value(name: str, value: str) -> str:
    """A stored header as it is answered: user metadata beyond ASCII as an encoded word (S3 User Guide, UsingMetadata),
    in the two forms in which S3 writes them; all others in the bytes that were stored, whatever they are."""
    if value.isascii() or not name.startswith("x-amz-meta-"):
        return value
    if not value.isprintable() or "\ufffd" in value:
        return f"=?UTF-8?B?{base64.b64encode(value.encode()).decode()}?="
    text = "".join(chr(byte) if chr(byte) in UNQUOTED else f"={byte:02X}" for byte in value.encode())
    return f"=?UTF-8?Q?{text.replace('=20', '_')}?="
