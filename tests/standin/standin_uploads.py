"""The S3 operations on multipart uploads and their parts."""

import hashlib
import re
from xml.sax.saxutils import escape

from standin_checks import (
    MAX_COPY,
    PAGE,
    Steps,
    check_condition_support,
    check_destination,
    find_bucket,
    metadata_from,
)
from standin_objects import copy_source, new_object, size_of, written_headers
from standin_store import (
    S3,
    Answer,
    Bucket,
    Object,
    Part,
    Request,
    S3Error,
    Span,
    Upload,
    encoding_type,
    iso,
    listed,
    parse_xml,
    refusals,
    xml,
)


def create_multipart_upload(s3: S3, request: Request) -> Answer:
    bucket = find_bucket(s3, request)
    headers = metadata_from(request.headers)
    if request.headers.keys() & {"x-amz-tagging", "x-amz-checksum-algorithm"}:
        raise S3Error("NotImplemented")  # no worker asks for tags or for a checksum that is not S3's own
    upload = Upload(s3.token(), request.key, headers, int(s3.now()))
    bucket.uploads[upload.id] = upload
    return xml("InitiateMultipartUploadResult", f"{names(request)}<UploadId>{upload.id}</UploadId>")


def names(request: Request) -> str:
    return f"<Bucket>{request.bucket}</Bucket><Key>{escape(request.key)}</Key>"


def find_upload(bucket: Bucket, request: Request) -> Upload:
    upload = bucket.uploads.get(request.query["uploadId"])
    if upload is None or upload.key != request.key:
        raise S3Error("NoSuchUpload")
    return upload


def store_part(s3: S3, bucket: Bucket, upload: Upload, number: int, content: list[Span], etag: str) -> Part:
    """A part that was under way during an abort may still land, and the upload has to be aborted again (S3 API
    reference, AbortMultipartUpload)."""
    if upload.is_completed:
        raise S3Error("NoSuchUpload")
    bucket.uploads[upload.id] = upload
    upload.parts[number] = Part(size_of(content), s3.token() if bucket.is_directory else etag, content, int(s3.now()))
    return upload.parts[number]


def upload_part_copy(s3: S3, request: Request) -> Steps:
    bucket = find_bucket(s3, request)
    upload, number = find_upload(bucket, request), int(request.query["partNumber"])
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
            raise S3Error("InvalidArgument")
        first, end = int(parsed[1]), int(parsed[2]) + 1
        if source.size <= refusals.MIN_PART:
            raise S3Error("InvalidRequest")
        if not first < end <= source.size:
            raise S3Error("InvalidArgument")
    if end - first > MAX_COPY:
        raise S3Error("InvalidRequest")
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
        raise S3Error("InvalidRequest")
    yield size
    find_upload(bucket, request)
    check_destination(bucket, request)
    etag = f"{hashlib.md5(''.join(part.etag for part in parts).encode()).hexdigest()}-{len(parts)}"
    content = join([span for part in parts for span in part.content])
    new = new_object(s3, bucket, content, etag, upload.headers)
    upload.is_completed = True
    del bucket.uploads[upload.id]
    s3.store(bucket, request.key, new, "ObjectCreated:CompleteMultipartUpload")
    result = f"{names(request)}<ETag>&quot;{new.etag}&quot;</ETag>"
    return xml("CompleteMultipartUploadResult", result, written_headers(bucket, new))


def named_parts(bucket: Bucket, upload: Upload, request: Request) -> list[Part]:
    """The parts in the body of CompleteMultipartUpload, if an object may be made of them."""
    entries = parse_xml(request.body).findall("{*}Part")
    numbers = [int(entry.findtext("{*}PartNumber", "0")) for entry in entries]
    etags = [entry.findtext("{*}ETag", "").strip('"') for entry in entries]
    sizes = {number: part.size for number, part in upload.parts.items()}
    if refusal := refusals.of_parts(bucket.name, numbers, sizes):
        raise S3Error(*refusal)
    parts = [upload.parts[number] for number in numbers]
    if [part.etag for part in parts] != etags:
        raise S3Error("InvalidPart")
    return parts


def abort_multipart_upload(s3: S3, request: Request) -> Steps:
    bucket = find_bucket(s3, request)
    yield 0
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
    """Of a directory bucket, in no order of keys and with an opaque key marker."""
    bucket, query = find_bucket(s3, request), request.query
    if not bucket.is_directory:
        raise S3Error("NotImplemented", "The stand-in lists uploads of directory buckets only, as workers do")
    limit = min(int(query.get("max-uploads") or PAGE), PAGE)
    after, prefix = query.get("key-marker", ""), query.get("prefix", "")
    found = sorted(upload.id for upload in bucket.uploads.values() if upload.key.startswith(prefix))
    left = [bucket.uploads[name] for name in found if name > after]
    rows = [
        f"<Upload><Key>{listed(upload.key, query)}</Key><UploadId>{upload.id}</UploadId>"
        f"<Initiated>{iso(upload.initiated)}</Initiated></Upload>"
        for upload in left[:limit]
    ]
    result = f"<Bucket>{bucket.name}</Bucket><MaxUploads>{limit}</MaxUploads>{truncation(left, limit)}"
    if len(left) > limit:
        result += f"<NextKeyMarker>{left[limit - 1].id}</NextKeyMarker>"
    return xml("ListMultipartUploadsResult", result + encoding_type(query) + "".join(rows))
