"""What the S3 operations have in common: limits, conditions, headers and metadata that a bucket takes or refuses."""

import base64
import string
from collections.abc import Generator
from email.header import decode_header, make_header

from standin_store import GIB, S3, Answer, Bucket, Object, Request, S3Error, refusals

MAX_COPY = 5 * GIB  # also the largest part
MAX_METADATA = 2048
PAGE = 1000

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
    if refusal := refusals.of_request(request.method, request.bucket, request.key, request.query, request.headers):
        raise S3Error(*refusal)
    refuse_content_encoding(bucket, content_encoding(request.headers))
    return bucket


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
    if operation in bucket.refused_conditions and {"if-match", "if-none-match"} & request.headers.keys():
        raise S3Error("NotImplemented")


def find(bucket: Bucket, key: str) -> Object:
    if found := bucket.current(key):
        return found
    marker = {"x-amz-delete-marker": "true"} if key in bucket.objects else {}
    raise S3Error("NoSuchKey", headers=marker)


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
