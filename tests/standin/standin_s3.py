"""The S3 operations of the stand-in. A request that AWS documents as an error is refused with that status and code.

An operation is a function of (s3, request) that returns an Answer or raises S3Error. One that is a generator yields
the number of bytes it moves, once: the configured latency passes there. What stands before the yield sees the state
at the start of the request (a copy reads its source), what stands after it sees the state at the end (a write is
committed, and the conditions on the destination are checked).
"""

import base64
import bisect
import hashlib
import re
import time
import xml.etree.ElementTree as ElementTree
import zlib
from collections.abc import Callable, Generator, Iterator
from datetime import datetime
from email.header import Header, decode_header, make_header
from email.utils import formatdate, parsedate_to_datetime
from urllib.parse import parse_qsl, quote, unquote, unquote_plus
from xml.sax.saxutils import escape

from standin_store import (
    ACCOUNT,
    DECLARATION,
    GIB,
    MIB,
    REGION,
    S3,
    Answer,
    Bucket,
    Object,
    Part,
    Request,
    S3Error,
    Span,
    Upload,
)

MAX_COPY = 5 * GIB  # also the largest part; 10,000 such parts are the largest object, 48.8 TiB
MIN_PART = 5 * MIB
MAX_PARTS = 10_000
MAX_OBJECT = MAX_PARTS * MAX_COPY
MAX_METADATA = 2048
MAX_KEY = 1024
PAGE = 1000

COPY_TOO_LARGE = f"The specified copy source is larger than the maximum allowable size for a copy source: {MAX_COPY}"
COPY_TO_ITSELF = (
    "This copy request is illegal because it is trying to copy an object to itself without changing the object's"
    " metadata, storage class, website redirect location or encryption attributes."
)
NO_BYTE_RANGE = "The specified copy source is not supported as a byte-range copy source"
NO_SSE_C = "This bucket does not support server-side encryption with customer-provided keys"
NO_CONTENT_MD5 = "This bucket does not support Content Md5 header"

# Headers that a directory bucket refuses whatever their value is: (code, message, or "" for the usual one).
REFUSED_BY_DIRECTORY_BUCKETS = {
    "content-md5": ("InvalidRequest", NO_CONTENT_MD5),
    "x-amz-acl": ("NotImplemented", ""),
    "x-amz-grant-full-control": ("NotImplemented", ""),
    "x-amz-grant-read": ("NotImplemented", ""),
    "x-amz-grant-read-acp": ("NotImplemented", ""),
    "x-amz-grant-write-acp": ("NotImplemented", ""),
    "x-amz-mfa": ("NotImplemented", ""),
    "x-amz-object-lock-event-hold": ("NotImplemented", ""),
    "x-amz-object-lock-legal-hold": ("NotImplemented", ""),
    "x-amz-object-lock-mode": ("NotImplemented", ""),
    "x-amz-object-lock-retain-until-date": ("NotImplemented", ""),
    "x-amz-optional-object-attributes": ("NotImplemented", ""),
    "x-amz-request-payer": ("NotImplemented", ""),
    "x-amz-server-side-encryption-bucket-key-enabled": ("NotImplemented", ""),
    "x-amz-server-side-encryption-customer-algorithm": ("InvalidRequest", NO_SSE_C),
    "x-amz-server-side-encryption-customer-key": ("InvalidRequest", NO_SSE_C),
    "x-amz-website-redirect-location": ("NotImplemented", ""),
}
# Headers stored with an object besides x-amz-meta-*, and answered by HeadObject.
STORED_HEADERS = (
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "expires",
)

Steps = Generator[int, None, Answer]


# ---------------------------------------------------------------- checks


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
    """What a directory bucket refuses to be told (S3 API reference, the directory bucket notes of every operation)."""
    headers = request.headers
    for name in REFUSED_BY_DIRECTORY_BUCKETS.keys() & headers.keys():
        raise S3Error(*REFUSED_BY_DIRECTORY_BUCKETS[name])
    if headers.get("x-amz-storage-class", "EXPRESS_ONEZONE") != "EXPRESS_ONEZONE":
        raise S3Error("InvalidStorageClass")
    if headers.get("x-amz-server-side-encryption") == "aws:kms:dsse":
        raise S3Error("InvalidRequest", "DSSE-KMS is not supported for this bucket")
    if headers.get("x-amz-tagging"):
        raise S3Error("NotImplemented")
    if request.query.get("versionId", "null") != "null":
        raise S3Error("InvalidArgument", "This bucket does not support versioning")
    refuse_content_encoding(bucket, content_encoding(headers))


def refuse_content_encoding(bucket: Bucket, encoding: str) -> None:
    if bucket.is_directory and bucket.content_encoding == "refuse" and encoding:
        raise S3Error("InvalidRequest", "Content-Encoding other than aws-chunked is not supported for this bucket")


def content_encoding(headers: dict[str, str]) -> str:
    """Content-Encoding without aws-chunked, which says how the request is sent and is not stored."""
    values = (value.strip() for value in headers.get("content-encoding", "").split(","))
    return ",".join(value for value in values if value not in ("", "aws-chunked"))


def matches_etag(condition: str, etag: str) -> bool:
    return condition == "*" or etag in [value.strip().strip('"') for value in condition.split(",")]


def is_newer(found: Object, date: str) -> bool:
    return found.modified > parsedate_to_datetime(date).timestamp()


def check_conditions(headers: dict[str, str], found: Object, prefix: str = "") -> None:
    """If-Match and its kin, on the object that is read; of a pair the ETag condition decides (S3 API reference,
    HeadObject and CopyObject). Not modified is 304 for a read, and 412 for the source of a copy."""
    unchanged = "PreconditionFailed" if prefix else "NotModified"
    if condition := headers.get(prefix + "if-match"):
        if not matches_etag(condition, found.etag):
            raise S3Error("PreconditionFailed")
    elif (date := headers.get(prefix + "if-unmodified-since")) and is_newer(found, date):
        raise S3Error("PreconditionFailed")
    if condition := headers.get(prefix + "if-none-match"):
        if matches_etag(condition, found.etag):
            raise S3Error(unchanged)
    elif (date := headers.get(prefix + "if-modified-since")) and not is_newer(found, date):
        raise S3Error(unchanged)


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


def find(bucket: Bucket, key: str, version_id: str | None = None) -> Object:
    """The current object, or one version of it. Without s3:ListBucket a missing key is 403, not 404 (S3 API
    reference, HeadObject)."""
    if version_id is None:
        if found := bucket.current(key):
            return found
        marker = {"x-amz-delete-marker": "true"} if key in bucket.objects else {}
        raise S3Error("NoSuchKey" if bucket.list_permission else "AccessDenied", headers=marker)
    for version in bucket.objects.get(key, []):
        if version.version_id == version_id:
            return version
    raise S3Error("NoSuchVersion")


def metadata_from(headers: dict[str, str]) -> dict[str, str]:
    """The headers to store with a new object. User metadata is RFC 2047 decoded before it is stored and may have
    2 KB in all, names and values in UTF-8 (S3 User Guide, UsingMetadata)."""
    stored = {name: headers[name] for name in STORED_HEADERS if name in headers}
    if encoding := content_encoding(stored):
        stored["content-encoding"] = encoding
    else:
        stored.pop("content-encoding", None)
    stored.setdefault("content-type", "binary/octet-stream")
    size = 0
    for name, value in headers.items():
        if name.startswith("x-amz-meta-"):
            stored[name] = str(make_header(decode_header(value))) if "=?" in value else value
            size += len(name.removeprefix("x-amz-meta-").encode()) + len(stored[name].encode())
    if size > MAX_METADATA:
        raise S3Error("MetadataTooLarge")
    return stored


def header_value(value: str) -> str:
    """A stored header as it is answered: RFC 2047 encoded where it is not ASCII (S3 User Guide, UsingMetadata)."""
    return value if value.isascii() else Header(value, "utf-8", maxlinelen=10_000).encode()


# ---------------------------------------------------------------- objects


def head_object(s3: S3, request: Request) -> Answer:
    bucket = find_bucket(s3, request)
    found = find(bucket, request.key, request.query.get("versionId"))
    if found.is_delete_marker:
        raise S3Error("MethodNotAllowed", headers={"x-amz-delete-marker": "true"})
    check_conditions(request.headers, found)
    headers = {name: header_value(value) for name, value in found.headers.items()}
    headers |= {
        "etag": f'"{found.etag}"',
        "last-modified": formatdate(found.modified, usegmt=True),
        "content-length": str(found.size),
        "accept-ranges": "bytes",
    }
    optional = {
        "x-amz-storage-class": "" if found.storage_class == "STANDARD" else found.storage_class,
        "x-amz-restore": found.restore,
        "x-amz-archive-status": found.archive_status,
        "x-amz-missing-meta": str(found.missing_meta or ""),
        "x-amz-tagging-count": str(len(parse_qsl(found.tags)) or ""),
        "x-amz-version-id": found.version_id if bucket.versioning else "",
        "x-amz-mp-parts-count": str(found.parts_count) if "partNumber" in request.query else "",
    }
    return Answer(headers=headers | {name: value for name, value in optional.items() if value})


def get_object(_s3: S3, _request: Request) -> Answer:
    raise S3Error("NotImplemented", "The stand-in keeps no bytes: nothing in this project may read an object")


def put_object(s3: S3, request: Request) -> Steps:
    bucket = find_bucket(s3, request)
    check_condition_support(bucket, request, "PutObject")
    headers = metadata_from(request.headers)
    body = decode_body(request)
    yield len(body)
    check_destination(bucket, request)
    content = [(s3.next_generation(), 0, len(body))]
    new = new_object(s3, bucket, content, hashlib.md5(body).hexdigest(), headers)
    new.tags = request.headers.get("x-amz-tagging", "")
    s3.store(bucket, request.key, new, "ObjectCreated:Put")
    return Answer(headers=written_headers(bucket, new))


def new_object(s3: S3, bucket: Bucket, content: list[Span], etag: str, headers: dict[str, str]) -> Object:
    """The ETag of a directory bucket is random, not an MD5 (S3 User Guide, s3-express-differences)."""
    new = Object(size_of(content), etag, content, headers, int(time.time()))
    if bucket.is_directory:
        new.etag, new.storage_class = s3.token(), "EXPRESS_ONEZONE"
    return new


def size_of(content: list[Span]) -> int:
    return sum(end - first for _, first, end in content)


def written_headers(bucket: Bucket, new: Object) -> dict[str, str]:
    versioned = {"x-amz-version-id": new.version_id} if bucket.versioning else {}
    return {"etag": f'"{new.etag}"', **versioned}


def decode_body(request: Request) -> bytes:
    """The bytes of an upload; aws-chunked is 'size in hexadecimal[;signature] CRLF data CRLF' until size 0."""
    if "x-amz-decoded-content-length" not in request.headers:
        return request.body
    data, start = [], 0
    while size := int(request.body[start : request.body.index(b"\r\n", start)].split(b";")[0], 16):
        start = request.body.index(b"\r\n", start) + 2
        data.append(request.body[start : start + size])
        start += size + 2
    return b"".join(data)


def copy_source(s3: S3, request: Request) -> tuple[Bucket, str, Object]:
    """The source of CopyObject and UploadPartCopy, as it is now, if it may be copied."""
    path, _, version = request.headers["x-amz-copy-source"].partition("?versionId=")
    name, _, key = unquote_plus(path).removeprefix("/").partition("/")
    bucket = s3.buckets.get(name)
    if bucket is None:
        raise S3Error("NoSuchBucket")
    if request.headers.get("x-amz-source-expected-bucket-owner", bucket.owner) != bucket.owner:
        raise S3Error("AccessDenied")
    source = find(bucket, key, unquote(version) or None)
    if source.is_delete_marker:
        raise S3Error("InvalidRequest", "The source of a copy request may not specifically refer to a delete marker")
    check_conditions(request.headers, source, "x-amz-copy-source-")
    if is_archived(source):
        raise S3Error("InvalidObjectState")
    return bucket, key, source


def is_archived(source: Object) -> bool:
    if source.storage_class in ("GLACIER", "DEEP_ARCHIVE"):
        return 'ongoing-request="false"' not in source.restore
    return source.archive_status != ""


def copy_object(s3: S3, request: Request) -> Steps:
    bucket = find_bucket(s3, request)
    check_condition_support(bucket, request, "CopyObject")
    source_bucket, source_key, source = copy_source(s3, request)
    if source.size > MAX_COPY:
        raise S3Error("InvalidRequest", COPY_TOO_LARGE)
    replaces = request.headers.get("x-amz-metadata-directive") == "REPLACE"
    if (source_bucket, source_key) == (bucket, request.key) and not replaces:
        raise S3Error("InvalidRequest", COPY_TO_ITSELF)
    refuse_directives(bucket, request, source)
    headers = metadata_from(request.headers) if replaces else dict(source.headers)
    refuse_content_encoding(bucket, headers.get("content-encoding", ""))
    replaces_tags = request.headers.get("x-amz-tagging-directive") == "REPLACE"
    new = new_object(s3, bucket, source.content, source.etag, headers)
    new.tags = request.headers.get("x-amz-tagging", "") if replaces_tags else source.tags
    yield source.size
    check_destination(bucket, request)
    new.modified = int(time.time())
    s3.store(bucket, request.key, new, "ObjectCreated:Copy")
    result = f"<ETag>&quot;{new.etag}&quot;</ETag><LastModified>{iso(new.modified)}</LastModified>"
    return xml("CopyObjectResult", result, written_headers(bucket, new))


def refuse_directives(bucket: Bucket, request: Request, source: Object) -> None:
    """A directory bucket has neither tags nor annotations, and both are copied by default (S3 API reference,
    CopyObject, TaggingDirective and AnnotationDirective)."""
    if not bucket.is_directory:
        return
    if source.tags and request.headers.get("x-amz-tagging-directive", "COPY") != "REPLACE":
        raise S3Error("NotImplemented")
    if source.has_annotations and request.headers.get("x-amz-object-annotation-directive", "COPY") != "EXCLUDE":
        raise S3Error("NotImplemented")


def delete_object(s3: S3, request: Request) -> Steps:
    bucket = find_bucket(s3, request)
    yield 0
    version_id = request.query.get("versionId")
    if version_id and bucket.versioning:
        gone = s3.delete_version(bucket, request.key, version_id)
        marker = {"x-amz-delete-marker": "true"} if gone and gone.is_delete_marker else {}
        return Answer(204, headers={"x-amz-version-id": version_id, **marker})
    headers = request.headers
    check_delete(
        bucket,
        request.key,
        headers.get("if-match"),
        headers.get("x-amz-if-match-size"),
        headers.get("x-amz-if-match-last-modified-time"),
    )
    if marker := s3.delete(bucket, request.key):
        return Answer(204, headers={"x-amz-delete-marker": "true", "x-amz-version-id": marker.version_id})
    return Answer(204)


def check_delete(bucket: Bucket, key: str, etag: str | None, size: str | None, modified: str | None) -> None:
    """The conditions of a delete (S3 API reference, DeleteObject): size and time are for directory buckets only, and
    hold when there is no object."""
    if (size or modified) and not bucket.is_directory:
        raise S3Error("NotImplemented")
    current = bucket.current(key)
    if current is None:
        if etag:
            raise S3Error("NoSuchKey")
        return
    if etag and not matches_etag(etag, current.etag):
        raise S3Error("PreconditionFailed")
    if size and int(size) != current.size:
        raise S3Error("PreconditionFailed")
    if modified and parse_time(modified) != current.modified:
        raise S3Error("PreconditionFailed")


def delete_objects(s3: S3, request: Request) -> Steps:
    bucket = find_bucket(s3, request)
    yield 0
    root = parse_xml(request.body)
    entries = root.findall("{*}Object")
    if not 1 <= len(entries) <= PAGE:
        raise S3Error("MalformedXML")
    keys = [entry.findtext("{*}Key", "") for entry in entries]
    if bucket.is_directory and any(not key.strip() for key in keys):
        raise S3Error("InvalidRequest", "A key may not consist of white space only")
    quiet = root.findtext("{*}Quiet") == "true"
    return xml("DeleteResult", "".join(delete_entry(s3, bucket, entry, quiet) for entry in entries))


def delete_entry(s3: S3, bucket: Bucket, entry: ElementTree.Element, quiet: bool) -> str:
    key, version_id = entry.findtext("{*}Key", ""), entry.findtext("{*}VersionId")
    try:
        if version_id and bucket.versioning:
            s3.delete_version(bucket, key, version_id)
        else:
            etag, size = entry.findtext("{*}ETag"), entry.findtext("{*}Size")
            check_delete(bucket, key, etag, size, entry.findtext("{*}LastModifiedTime"))
            s3.delete(bucket, key)
    except S3Error as error:
        return f"<Error><Key>{escape(key)}</Key><Code>{error.code}</Code><Message>{error.message}</Message></Error>"
    return "" if quiet else f"<Deleted><Key>{escape(key)}</Key></Deleted>"


# ---------------------------------------------------------------- multipart uploads


def create_multipart_upload(s3: S3, request: Request) -> Answer:
    bucket = find_bucket(s3, request)
    headers = metadata_from(request.headers)
    upload = Upload(s3.token(), request.key, headers, int(time.time()), request.headers.get("x-amz-tagging", ""))
    bucket.uploads[upload.id] = upload
    return xml("InitiateMultipartUploadResult", f"{names(request)}<UploadId>{upload.id}</UploadId>")


def names(request: Request) -> str:
    return f"<Bucket>{request.bucket}</Bucket><Key>{escape(request.key)}</Key>"


def find_upload(bucket: Bucket, request: Request) -> Upload:
    upload = bucket.uploads.get(request.query["uploadId"])
    if upload is None or upload.key != request.key:
        raise S3Error("NoSuchUpload")
    return upload


def part_number(request: Request) -> int:
    number = int(request.query["partNumber"])
    if not 1 <= number <= MAX_PARTS:
        raise S3Error("InvalidArgument", f"Part number must be an integer between 1 and {MAX_PARTS}, inclusive")
    return number


def store_part(s3: S3, bucket: Bucket, upload: Upload, number: int, content: list[Span], etag: str) -> Part:
    """A part that was under way during an abort may still land, and the upload has to be aborted again (S3 API
    reference, AbortMultipartUpload)."""
    if upload.is_completed:
        raise S3Error("NoSuchUpload")
    bucket.uploads[upload.id] = upload
    upload.parts[number] = Part(
        size_of(content), s3.token() if bucket.is_directory else etag, content, int(time.time())
    )
    return upload.parts[number]


def upload_part(s3: S3, request: Request) -> Steps:
    bucket = find_bucket(s3, request)
    upload, number = find_upload(bucket, request), part_number(request)
    body = decode_body(request)
    yield len(body)
    content = [(s3.next_generation(), 0, len(body))]
    part = store_part(s3, bucket, upload, number, content, hashlib.md5(body).hexdigest())
    return Answer(headers={"etag": f'"{part.etag}"'})


def upload_part_copy(s3: S3, request: Request) -> Steps:
    bucket = find_bucket(s3, request)
    upload, number = find_upload(bucket, request), part_number(request)
    _, _, source = copy_source(s3, request)
    first, end = copy_range(request, source)
    content = cut(source.content, first, end)
    yield end - first
    etag = hashlib.md5(f"{source.etag} {first} {end}".encode()).hexdigest()
    part = store_part(s3, bucket, upload, number, content, etag)
    result = f"<ETag>&quot;{part.etag}&quot;</ETag><LastModified>{iso(part.modified)}</LastModified>"
    return xml("CopyPartResult", result)


def copy_range(request: Request, source: Object) -> tuple[int, int]:
    """First byte and byte after the last (S3 API reference, UploadPartCopy, CopySourceRange)."""
    asked = request.headers.get("x-amz-copy-source-range")
    if asked is None:
        first, end = 0, source.size
    else:
        if not (parsed := re.fullmatch(r"bytes=(\d+)-(\d+)", asked)):
            raise S3Error("InvalidArgument", "The x-amz-copy-source-range value must be of the form bytes=first-last")
        first, end = int(parsed[1]), int(parsed[2]) + 1
        if source.size <= MIN_PART:
            raise S3Error("InvalidRequest", NO_BYTE_RANGE)
        if not first < end <= source.size:
            raise S3Error("InvalidArgument", f"Range specified is not valid for source object of size: {source.size}")
    if end - first > MAX_COPY:
        raise S3Error("InvalidRequest", COPY_TOO_LARGE)
    return first, end


def cut(content: list[Span], first: int, end: int) -> list[Span]:
    """The spans between two byte offsets."""
    pieces, offset = [], 0
    for generation, start, stop in content:
        low, high = max(first - offset, 0), min(end - offset, stop - start)
        if low < high:
            pieces.append((generation, start + low, start + high))
        offset += stop - start
    return pieces


def join(pieces: list[Span]) -> list[Span]:
    """Spans that continue each other become one."""
    joined: list[Span] = []
    for generation, first, end in pieces:
        if joined and joined[-1][0] == generation and joined[-1][2] == first:
            joined[-1] = (generation, joined[-1][1], end)
        else:
            joined.append((generation, first, end))
    return joined


def complete_multipart_upload(s3: S3, request: Request) -> Steps:
    bucket = find_bucket(s3, request)
    check_condition_support(bucket, request, "CompleteMultipartUpload")
    upload = find_upload(bucket, request)
    parts = named_parts(bucket, upload, request)
    size = sum(part.size for part in parts)
    if int(request.headers.get("x-amz-mp-object-size", size)) != size:
        raise S3Error("InvalidRequest", "The provided 'x-amz-mp-object-size' header does not match what was computed")
    yield size
    find_upload(bucket, request)
    check_destination(bucket, request)
    etag = f"{hashlib.md5(''.join(part.etag for part in parts).encode()).hexdigest()}-{len(parts)}"
    content = join([span for part in parts for span in part.content])
    new = new_object(s3, bucket, content, etag, upload.headers)
    new.tags, new.parts_count = upload.tags, len(parts)
    upload.is_completed = True
    del bucket.uploads[upload.id]
    s3.store(bucket, request.key, new, "ObjectCreated:CompleteMultipartUpload")
    result = f"{names(request)}<ETag>&quot;{new.etag}&quot;</ETag>"
    return xml("CompleteMultipartUploadResult", result, written_headers(bucket, new))


def named_parts(bucket: Bucket, upload: Upload, request: Request) -> list[Part]:
    """The parts in the body of CompleteMultipartUpload, if an object may be made of them. Numbers rise, and in a
    directory bucket without gaps from 1 (S3 API reference, CompletedPart)."""
    parts, last = [], 0
    for entry in parse_xml(request.body).findall("{*}Part"):
        number, etag = int(entry.findtext("{*}PartNumber", "0")), entry.findtext("{*}ETag", "").strip('"')
        if number <= last or (bucket.is_directory and number != last + 1):
            raise S3Error("InvalidPartOrder")
        part = upload.parts.get(number)
        if part is None or part.etag != etag:
            raise S3Error("InvalidPart")
        parts.append(part)
        last = number
    if not parts:
        raise S3Error("MalformedXML")
    if any(part.size < MIN_PART for part in parts[:-1]):
        raise S3Error("EntityTooSmall")
    return parts


def abort_multipart_upload(s3: S3, request: Request) -> Steps:
    bucket = find_bucket(s3, request)
    yield 0
    if initiated := request.headers.get("x-amz-if-match-initiated-time"):
        held = bucket.uploads.get(request.query["uploadId"])
        if held is None:
            return Answer(204)
        if held.initiated != parse_time(initiated):
            raise S3Error("PreconditionFailed")
    upload = find_upload(bucket, request)
    upload.parts = {}
    del bucket.uploads[upload.id]
    return Answer(204)


def list_parts(s3: S3, request: Request) -> Answer:
    upload = find_upload(find_bucket(s3, request), request)
    after = int(request.query.get("part-number-marker") or 0)
    limit = min(int(request.query.get("max-parts") or PAGE), PAGE)
    numbers = sorted(number for number in upload.parts if number > after)
    rows = [
        f"<Part><PartNumber>{number}</PartNumber><ETag>&quot;{part.etag}&quot;</ETag><Size>{part.size}</Size>"
        f"<LastModified>{iso(part.modified)}</LastModified></Part>"
        for number, part in ((number, upload.parts[number]) for number in numbers[:limit])
    ]
    result = f"{names(request)}<UploadId>{upload.id}</UploadId><MaxParts>{limit}</MaxParts>{truncation(numbers, limit)}"
    if len(numbers) > limit:
        result += f"<NextPartNumberMarker>{numbers[limit - 1]}</NextPartNumberMarker>"
    return xml("ListPartsResult", result + "".join(rows))


def truncation(found: list, limit: int) -> str:
    return f"<IsTruncated>{'true' if len(found) > limit else 'false'}</IsTruncated>"


def list_multipart_uploads(s3: S3, request: Request) -> Answer:
    bucket, query = find_bucket(s3, request), request.query
    check_listing(bucket, query)
    limit = min(int(query.get("max-uploads") or PAGE), PAGE)
    order = upload_order(bucket)
    after = (query.get("key-marker", ""), query.get("upload-id-marker", ""))
    if after[0] and not after[1]:
        after = (after[0], "~")  # a key marker alone: behind every upload of that key
    uploads = [u for u in bucket.uploads.values() if u.key.startswith(query.get("prefix", "")) and order(u) > after]
    uploads.sort(key=order)
    rows = [
        f"<Upload><Key>{listed(upload.key, query)}</Key><UploadId>{upload.id}</UploadId>"
        f"<Initiated>{iso(upload.initiated)}</Initiated></Upload>"
        for upload in uploads[:limit]
    ]
    result = f"<Bucket>{bucket.name}</Bucket><MaxUploads>{limit}</MaxUploads>{truncation(uploads, limit)}"
    if len(uploads) > limit:
        key_marker, id_marker = order(uploads[limit - 1])
        result += f"<NextKeyMarker>{listed(key_marker, query)}</NextKeyMarker>"
        result += "" if bucket.is_directory else f"<NextUploadIdMarker>{id_marker}</NextUploadIdMarker>"
    return xml("ListMultipartUploadsResult", result + encoding_type(query) + "".join(rows))


def upload_order(bucket: Bucket) -> Callable[[Upload], tuple[str, str]]:
    """By key; in a directory bucket in no order of keys and with an opaque key marker."""
    if bucket.is_directory:
        return lambda upload: (upload.id, "")
    return lambda upload: (upload.key, upload.id)


# ---------------------------------------------------------------- listings and buckets


def check_listing(bucket: Bucket, query: dict[str, str]) -> None:
    """What a listing of a directory bucket may not ask for (S3 API reference, ListObjectsV2, ListMultipartUploads)."""
    if not bucket.list_permission:
        raise S3Error("AccessDenied")
    if not bucket.is_directory:
        return
    if (prefix := query.get("prefix", "")) and not prefix.endswith("/"):
        raise S3Error("InvalidRequest", "This bucket does not support a prefix that does not end in a delimiter (/)")
    if query.get("delimiter", "/") not in ("", "/"):
        raise S3Error("InvalidRequest", "This bucket does not support a delimiter other than /")
    if query.get("start-after") or query.get("upload-id-marker"):
        raise S3Error("NotImplemented")


def list_objects_v2(s3: S3, request: Request) -> Answer:
    bucket, query = find_bucket(s3, request), request.query
    check_listing(bucket, query)
    limit = min(int(query.get("max-keys") or PAGE), PAGE)
    token = query.get("continuation-token")
    after = base64.urlsafe_b64decode(token).decode() if token else query.get("start-after", "")
    page, last = page_of_names(bucket, query, after, limit)
    result = f"<Name>{bucket.name}</Name><Prefix>{listed(query.get('prefix', ''), query)}</Prefix>"
    result += f"<MaxKeys>{limit}</MaxKeys><KeyCount>{len(page)}</KeyCount>"
    result += f"<IsTruncated>{'true' if last else 'false'}</IsTruncated>"
    if last:
        result += f"<NextContinuationToken>{base64.urlsafe_b64encode(last.encode()).decode()}</NextContinuationToken>"
    rows = [row(listed(name, query), found) for name, found in page.items()]
    return xml("ListBucketResult", result + encoding_type(query) + "".join(rows))


def page_of_names(
    bucket: Bucket, query: dict[str, str], after: str, limit: int
) -> tuple[dict[str, Object | None], str]:
    """{key: object, or common prefix: None} in listing order, and the key that the next page starts behind, or ""."""
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    page: dict[str, Object | None] = {}
    last = ""
    for key in keys_from(bucket, prefix, after, bool(delimiter)):
        head, found, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
        name, current = prefix + head + found if found else key, bucket.current(key)
        is_shown = current is not None or (found and key not in bucket.objects)
        if is_shown and name not in page:
            if len(page) == limit:
                return page, last
            page[name] = None if found else current
        last = key
    return page, ""


def row(name: str, found: Object | None) -> str:
    if found is None:
        return f"<CommonPrefixes><Prefix>{name}</Prefix></CommonPrefixes>"
    return (
        f"<Contents><Key>{name}</Key><LastModified>{iso(found.modified)}</LastModified>"
        f"<ETag>&quot;{found.etag}&quot;</ETag><Size>{found.size}</Size>"
        f"<StorageClass>{found.storage_class}</StorageClass></Contents>"
    )


def scrambled(key: str) -> list[tuple[int, str]]:
    """Listing order of a directory bucket: always the same, directory by directory, but not lexicographic."""
    return [(zlib.crc32(name.encode()), name) for name in key.split("/")]


def keys_from(bucket: Bucket, prefix: str, after: str, is_delimited: bool) -> Iterator[str]:
    """Keys below a prefix in listing order, behind the key `after`. Delimited listings of a directory bucket also
    show the prefixes of uploads in progress (S3 API reference, ListObjectsV2, CommonPrefixes)."""
    order = scrambled if bucket.is_directory else str
    if bucket.order is None:
        bucket.order = sorted(bucket.objects, key=order)
    keys = bucket.order
    if bucket.is_directory and is_delimited and bucket.uploads:
        keys = sorted({*keys, *(upload.key for upload in bucket.uploads.values())}, key=order)
    start = bisect.bisect_left(keys, order(prefix.rstrip("/") if bucket.is_directory else prefix), key=order)
    if after:
        start = max(start, bisect.bisect_right(keys, order(after), key=order))
    below = False
    for index in range(start, len(keys)):
        if keys[index].startswith(prefix):
            below = True
            yield keys[index]
        elif below:
            return


def create_bucket(s3: S3, request: Request) -> Answer:
    if request.bucket in s3.buckets:
        raise S3Error("BucketAlreadyOwnedByYou")
    if request.bucket.endswith("--x-s3") and b"<Type>Directory</Type>" not in request.body:
        raise S3Error("MalformedXML")
    s3.buckets[request.bucket] = Bucket(request.bucket)
    return Answer(headers={"location": f"/{request.bucket}"})


def head_bucket(s3: S3, request: Request) -> Answer:
    find_bucket(s3, request)
    return Answer(headers={"x-amz-bucket-region": REGION})


def get_bucket_location(s3: S3, request: Request) -> Answer:
    find_bucket(s3, request)
    return xml("LocationConstraint", "")


def list_buckets(s3: S3, request: Request) -> Answer:
    """ListDirectoryBuckets differs only in its host and in its signature."""
    wants_directory = "/s3express/" in request.headers.get("authorization", "")
    found = [bucket.name for bucket in s3.buckets.values() if bucket.is_directory == wants_directory]
    rows = [f"<Bucket><Name>{name}</Name><CreationDate>{iso(0)}</CreationDate></Bucket>" for name in found]
    return xml("ListAllMyBucketsResult", f"<Owner><ID>{ACCOUNT}</ID></Owner><Buckets>{''.join(rows)}</Buckets>")


def create_session(_s3: S3, request: Request) -> Answer:
    """Answered for a missing bucket too: with a custom endpoint boto3 asks for a session before CreateBucket."""
    if not request.bucket.endswith("--x-s3"):
        raise S3Error("InvalidRequest", "CreateSession is for directory buckets only")
    credentials = (
        f"<Credentials><AccessKeyId>standin</AccessKeyId><SecretAccessKey>standin</SecretAccessKey>"
        f"<SessionToken>standin</SessionToken><Expiration>{iso(time.time() + 300)}</Expiration></Credentials>"
    )
    return xml("CreateSessionResult", credentials)


def general_purpose_only(s3: S3, request: Request) -> Bucket:
    bucket = find_bucket(s3, request)
    if bucket.is_directory:
        raise S3Error("NotImplemented")
    return bucket


def get_bucket_versioning(s3: S3, request: Request) -> Answer:
    status = general_purpose_only(s3, request).versioning
    return xml("VersioningConfiguration", f"<Status>{status}</Status>" if status else "")


def put_bucket_versioning(s3: S3, request: Request) -> Answer:
    general_purpose_only(s3, request).versioning = parse_xml(request.body).findtext("{*}Status", "")
    return Answer()


def put_object_tagging(s3: S3, request: Request) -> Answer:
    found = find(general_purpose_only(s3, request), request.key, request.query.get("versionId"))
    tags = parse_xml(request.body).findall("{*}TagSet/{*}Tag")
    pairs = [(tag.findtext("{*}Key", ""), tag.findtext("{*}Value", "")) for tag in tags]
    found.tags = "&".join(f"{quote(name)}={quote(value)}" for name, value in pairs)
    return Answer()


def get_object_tagging(s3: S3, request: Request) -> Answer:
    found = find(general_purpose_only(s3, request), request.key, request.query.get("versionId"))
    rows = (f"<Tag><Key>{escape(k)}</Key><Value>{escape(v)}</Value></Tag>" for k, v in parse_qsl(found.tags))
    return xml("Tagging", f"<TagSet>{''.join(rows)}</TagSet>")


# ---------------------------------------------------------------- XML and times


def xml(name: str, inner: str, headers: dict[str, str] | None = None) -> Answer:
    body = f'{DECLARATION}<{name} xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{inner}</{name}>'
    return Answer(200, body.encode(), {"content-type": "application/xml", **(headers or {})})


def parse_xml(body: bytes) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(body)
    except ElementTree.ParseError:
        raise S3Error("MalformedXML") from None


def listed(name: str, query: dict[str, str]) -> str:
    return quote(name, safe="/") if query.get("encoding-type") == "url" else escape(name)


def encoding_type(query: dict[str, str]) -> str:
    return "<EncodingType>url</EncodingType>" if query.get("encoding-type") == "url" else ""


def iso(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(seconds))


def parse_time(text: str) -> int:
    """Seconds since 1970 of an RFC 1123 or ISO 8601 time."""
    if text[0].isdigit():
        return int(datetime.fromisoformat(text).timestamp())
    return int(parsedate_to_datetime(text).timestamp())


# (method, what the path names, sub-resource): operation, its function
OPERATIONS: dict[tuple[str, str, str], tuple[str, Callable]] = {
    ("GET", "service", ""): ("ListBuckets", list_buckets),
    ("PUT", "bucket", ""): ("CreateBucket", create_bucket),
    ("HEAD", "bucket", ""): ("HeadBucket", head_bucket),
    ("GET", "bucket", "location"): ("GetBucketLocation", get_bucket_location),
    ("GET", "bucket", "session"): ("CreateSession", create_session),
    ("GET", "bucket", "list-type"): ("ListObjectsV2", list_objects_v2),
    ("GET", "bucket", "uploads"): ("ListMultipartUploads", list_multipart_uploads),
    ("GET", "bucket", "versioning"): ("GetBucketVersioning", get_bucket_versioning),
    ("PUT", "bucket", "versioning"): ("PutBucketVersioning", put_bucket_versioning),
    ("POST", "bucket", "delete"): ("DeleteObjects", delete_objects),
    ("HEAD", "object", ""): ("HeadObject", head_object),
    ("GET", "object", ""): ("GetObject", get_object),
    ("PUT", "object", ""): ("PutObject", put_object),
    ("PUT", "object", "copy"): ("CopyObject", copy_object),
    ("DELETE", "object", ""): ("DeleteObject", delete_object),
    ("GET", "object", "tagging"): ("GetObjectTagging", get_object_tagging),
    ("PUT", "object", "tagging"): ("PutObjectTagging", put_object_tagging),
    ("POST", "object", "uploads"): ("CreateMultipartUpload", create_multipart_upload),
    ("PUT", "object", "uploadId"): ("UploadPart", upload_part),
    ("PUT", "object", "uploadId+copy"): ("UploadPartCopy", upload_part_copy),
    ("POST", "object", "uploadId"): ("CompleteMultipartUpload", complete_multipart_upload),
    ("DELETE", "object", "uploadId"): ("AbortMultipartUpload", abort_multipart_upload),
    ("GET", "object", "uploadId"): ("ListParts", list_parts),
}
# Query parameters that make a request another operation; those without one in OPERATIONS are answered 501.
SUB_RESOURCES = {"acl", "annotation", "attributes", "cors", "delete", "encryption", "legal-hold", "lifecycle"} | {
    "list-type", "location", "logging", "notification", "object-lock", "policy", "replication", "restore", "retention",
    "session", "tagging", "uploadId", "uploads", "versioning", "versions", "website",
}  # fmt: skip


def operation_of(request: Request) -> tuple[str, Callable]:
    """Name and function of the operation a request asks for."""
    what = "object" if request.key else "bucket" if request.bucket else "service"
    sub_resource = next((name for name in request.query if name in SUB_RESOURCES), "")
    if "x-amz-copy-source" in request.headers:
        sub_resource = "uploadId+copy" if sub_resource == "uploadId" else "copy"
    return OPERATIONS.get((request.method, what, sub_resource), (f"{request.method}?{sub_resource}", not_implemented))


def not_implemented(_s3: S3, _request: Request) -> Answer:
    raise S3Error("NotImplemented")
