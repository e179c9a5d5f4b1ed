"""The S3 operations on objects: head, put, copy, delete; and the checksums that S3 keeps and shows to HeadObject."""

import base64
import hashlib
from email.utils import formatdate
from urllib.parse import unquote_plus

from awscrt import checksums
from standin_checks import (
    MAX_COPY,
    Steps,
    check_condition_support,
    check_destination,
    check_match,
    find,
    find_bucket,
    header_value,
    metadata_from,
    refuse_content_encoding,
)
from standin_store import S3, Answer, Bucket, Object, Request, S3Error, Span, iso, xml


def head_object(s3: S3, request: Request) -> Answer:
    bucket = find_bucket(s3, request)
    found = find(bucket, request.key)
    headers = {name: header_value(name, value) for name, value in found.headers.items()}
    headers |= checksum_headers(s3, bucket, request, found)
    headers |= {
        "etag": f'"{found.etag}"',
        "last-modified": formatdate(found.modified, usegmt=True),
        "content-length": str(found.size),
    }
    optional = {
        "x-amz-storage-class": "" if found.storage_class == "STANDARD" else found.storage_class,
        "x-amz-restore": found.restore,
        "x-amz-missing-meta": str(found.missing_meta or ""),
        "x-amz-version-id": found.version_id if bucket.versioning else "",
    }
    return Answer(headers=headers | {name: value for name, value in optional.items() if value})


def get_object(s3: S3, request: Request) -> Answer:
    """Of an object without bytes only the first one, by which a client asks why it may not look at it."""
    found = find(find_bucket(s3, request), request.key)
    data = bytes_of(s3, found)
    if data is None and request.headers.get("range") != "bytes=0-0":
        raise S3Error("NotImplemented", "The stand-in keeps no bytes of it: nothing in this project may read it")
    if is_archived(found):
        raise S3Error("InvalidObjectState")
    check_match(request.headers.get("if-match"), found)
    if data is not None and "range" not in request.headers:
        return Answer(200, data, {"etag": f'"{found.etag}"'})
    if found.size == 0:
        raise S3Error("InvalidRange")
    return Answer(206, (data or b"\0")[:1], {"etag": f'"{found.etag}"', "content-range": f"bytes 0-0/{found.size}"})


def bytes_of(s3: S3, found: Object) -> bytes | None:
    """None if they are not kept."""
    if any(generation not in s3.kept for generation, _, _ in found.content):
        return None
    return b"".join(s3.kept[generation][first:end] for generation, first, end in found.content)


def put_object(s3: S3, request: Request) -> Steps:
    bucket = find_bucket(s3, request)
    check_condition_support(bucket, request, "PutObject")
    headers = metadata_from(request.headers)
    body = request.body
    yield len(body)
    check_destination(bucket, request)
    content = [(s3.next_generation(), 0, len(body))]
    new = new_object(s3, bucket, content, hashlib.md5(body).hexdigest(), headers)
    new.tags = request.headers.get("x-amz-tagging", "")
    new.storage_class = request.headers.get("x-amz-storage-class", new.storage_class)
    new.checksum = checksum_of_upload(request, body)
    s3.store(bucket, request.key, new, "ObjectCreated:Put")
    return Answer(headers=written_headers(bucket, new))


def new_object(s3: S3, bucket: Bucket, content: list[Span], etag: str, headers: dict[str, str]) -> Object:
    """The ETag of a directory bucket is random, not an MD5 (S3 User Guide, s3-express-differences)."""
    new = Object(size_of(content), etag, content, headers, int(s3.now()))
    if bucket.is_directory:
        new.etag, new.storage_class = s3.token(), "EXPRESS_ONEZONE"
    return new


def size_of(content: list[Span]) -> int:
    return sum(end - first for _, first, end in content)


def written_headers(bucket: Bucket, new: Object) -> dict[str, str]:
    versioned = {"x-amz-version-id": new.version_id} if bucket.versioning else {}
    return {"etag": f'"{new.etag}"', **versioned}


def copy_source(s3: S3, request: Request) -> tuple[Bucket, str, Object]:
    """The source of CopyObject and UploadPartCopy, as it is now, if it may be copied."""
    path, _, version = request.headers["x-amz-copy-source"].partition("?versionId=")
    if version:
        raise S3Error("NotImplemented", "The stand-in copies current versions only, as workers do")
    name, _, key = unquote_plus(path).removeprefix("/").partition("/")
    bucket = s3.buckets.get(name)
    if bucket is None:
        raise S3Error("NoSuchBucket")
    if request.headers.get("x-amz-source-expected-bucket-owner", bucket.owner) != bucket.owner:
        raise S3Error("AccessDenied")
    source = find(bucket, key)
    check_match(request.headers.get("x-amz-copy-source-if-match"), source)
    if is_archived(source):
        raise S3Error("InvalidObjectState")
    return bucket, key, source


def is_archived(source: Object) -> bool:
    return source.storage_class in ("GLACIER", "DEEP_ARCHIVE") and 'ongoing-request="false"' not in source.restore


def copy_object(s3: S3, request: Request) -> Steps:
    bucket = find_bucket(s3, request)
    check_condition_support(bucket, request, "CopyObject")
    source_bucket, source_key, source = copy_source(s3, request)
    replaces = request.headers.get("x-amz-metadata-directive") == "REPLACE"
    if source.size > MAX_COPY or ((source_bucket, source_key) == (bucket, request.key) and not replaces):
        raise S3Error("InvalidRequest")
    refuse_directives(bucket, request, source)
    headers = metadata_from(request.headers) if replaces else dict(source.headers)
    refuse_content_encoding(bucket, headers.get("content-encoding", ""))
    new = new_object(s3, bucket, source.content, source.etag, headers)
    new.tags = "" if request.headers.get("x-amz-tagging-directive") == "REPLACE" else source.tags
    new.checksum = checksum_of(s3, source)
    yield source.size
    check_destination(bucket, request)
    new.modified = int(s3.now())
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
    """It may depend on the object (S3 API reference, DeleteObject)."""
    bucket = find_bucket(s3, request)
    yield 0
    check_condition_support(bucket, request, "DeleteObject")
    check_destination(bucket, request)
    if marker := s3.delete(bucket, request.key):
        return Answer(204, headers={"x-amz-delete-marker": "true", "x-amz-version-id": marker.version_id})
    return Answer(204)


# ---------------------------------------------------------------- checksums
#
# The `checksum` of an object is "ALGORITHM VALUE", with the algorithm as in the name of the header, or "" if S3 makes a
# CRC64NVME of all bytes, which is computed when asked for. If the bytes are not kept, a digest of where they came from
# stands for it: the same for the same bytes of one write.

PREFIX = "x-amz-checksum-"
ABOUT = ("algorithm", "mode", "type")


def checksum_headers(s3: S3, bucket: Bucket, request: Request, found: Object) -> dict[str, str]:
    """What HeadObject shows (S3 API reference, HeadObject, ChecksumMode)."""
    if request.headers.get("x-amz-checksum-mode", "").upper() != "ENABLED":
        return {}
    if not bucket.checksum_permission:
        raise S3Error("AccessDenied")
    algorithm, value = checksum_of(s3, found).split(" ")
    return {PREFIX + algorithm: value, PREFIX + "type": "FULL_OBJECT"}


def checksum_of(s3: S3, found: Object) -> str:
    return found.checksum or f"crc64nvme {value_of(s3, found.content)}"


def value_of(s3: S3, content: list[Span]) -> str:
    if all(generation in s3.kept for generation, _, _ in content):
        return crc64(b"".join(s3.kept[generation][first:end] for generation, first, end in content))
    return base64.b64encode(hashlib.md5(repr(content).encode()).digest()[:8]).decode()


def crc64(data: bytes) -> str:
    return base64.b64encode(checksums.crc64nvme(data).to_bytes(8)).decode()


def checksum_of_upload(request: Request, body: bytes) -> str:
    """That of a PutObject: what the client sent, or S3's own (S3 User Guide, "Checking object integrity for data
    uploads")."""
    for name, value in request.headers.items():
        if name.startswith(PREFIX) and name.removeprefix(PREFIX) not in ABOUT:
            return f"{name.removeprefix(PREFIX)} {value.strip()}"
    return f"crc64nvme {crc64(body)}"
