"""The S3 operations of the stand-in: those on buckets, and the table of all.

A request that AWS documents as an error is refused with that status and code. An operation is a function of (s3,
request) that returns an Answer or raises S3Error. One that is a generator yields the number of bytes it moves, once:
the configured latency passes there. What stands before the yield sees the state at the start of the request (a copy
reads its source), what stands after it sees the state at the end (a write is committed, and the conditions on the
destination are checked).
"""

import base64
import bisect
import zlib
from collections.abc import Callable, Iterator

from standin_checks import PAGE, check_listing, find_bucket
from standin_objects import copy_object, delete_object, get_object, head_object, put_object
from standin_store import (
    CREDENTIALS,
    S3,
    Answer,
    Bucket,
    Object,
    Request,
    S3Error,
    encoding_type,
    iso,
    listed,
    xml,
)
from standin_uploads import (
    abort_multipart_upload,
    complete_multipart_upload,
    create_multipart_upload,
    list_multipart_uploads,
    list_parts,
    upload_part_copy,
)


def list_objects_v2(s3: S3, request: Request) -> Answer:
    bucket, query = find_bucket(s3, request), request.query
    check_listing(bucket, query)
    limit = min(int(query.get("max-keys") or PAGE), PAGE)
    token = query.get("continuation-token")
    after = base64.urlsafe_b64decode(token).decode() if token else ""
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


def create_session(s3: S3, request: Request) -> Answer:
    """Answered for a missing bucket too: with a custom endpoint boto3 asks for a session before CreateBucket."""
    if not request.bucket.endswith("--x-s3"):
        raise S3Error("InvalidRequest", "CreateSession is for directory buckets only")
    token, end = s3.tokens.new("session")
    credentials = (
        f"<Credentials><AccessKeyId>standin</AccessKeyId><SecretAccessKey>standin</SecretAccessKey>"
        f"<SessionToken>{token}</SessionToken><Expiration>{iso(end)}</Expiration></Credentials>"
    )
    return xml("CreateSessionResult", credentials)


def get_credentials(s3: S3, _request: Request) -> Answer:
    """No operation of S3: what a task asks the container agent for."""
    return Answer(body=s3.tokens.credentials(), headers={"content-type": "application/json"})


# ---------------------------------------------------------------- the table

# (method, what the path names, sub-resource): operation, its function
OPERATIONS: dict[tuple[str, str, str], tuple[str, Callable]] = {
    ("GET", "bucket", "session"): ("CreateSession", create_session),
    ("GET", "bucket", "list-type"): ("ListObjectsV2", list_objects_v2),
    ("GET", "bucket", "uploads"): ("ListMultipartUploads", list_multipart_uploads),
    ("HEAD", "object", ""): ("HeadObject", head_object),
    ("GET", "object", ""): ("GetObject", get_object),
    ("PUT", "object", ""): ("PutObject", put_object),
    ("PUT", "object", "copy"): ("CopyObject", copy_object),
    ("DELETE", "object", ""): ("DeleteObject", delete_object),
    ("POST", "object", "uploads"): ("CreateMultipartUpload", create_multipart_upload),
    ("PUT", "object", "uploadId+copy"): ("UploadPartCopy", upload_part_copy),
    ("POST", "object", "uploadId"): ("CompleteMultipartUpload", complete_multipart_upload),
    ("DELETE", "object", "uploadId"): ("AbortMultipartUpload", abort_multipart_upload),
    ("GET", "object", "uploadId"): ("ListParts", list_parts),
}
# Query parameters that make a request another operation; those without one in OPERATIONS are answered 501.
SUB_RESOURCES = {"acl", "annotation", "attributes", "cors", "delete", "encryption", "legal-hold", "lifecycle"} | {
    "list-type", "location", "logging", "notification", "object-lock", "policy", "replication", "restore", "retention",
    "session", "tagging", "uploadId", "uploads", "versionId", "versioning", "versions", "website",
}  # fmt: skip


def operation_of(request: Request) -> tuple[str, Callable]:
    """Name and function of the operation a request asks for."""
    if request.bucket == CREDENTIALS:
        return "GetCredentials", get_credentials
    what = "object" if request.key else "bucket" if request.bucket else "service"
    sub_resource = next((name for name in request.query if name in SUB_RESOURCES), "")
    if "x-amz-copy-source" in request.headers:
        sub_resource = "uploadId+copy" if sub_resource == "uploadId" else "copy"
    return OPERATIONS.get((request.method, what, sub_resource), (f"{request.method}?{sub_resource}", not_implemented))


def not_implemented(_s3: S3, _request: Request) -> Answer:
    raise S3Error("NotImplemented")
