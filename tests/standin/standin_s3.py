"""The S3 operations of the stand-in: those on buckets, and the table of all.

A request that AWS documents as an error is refused with that status and code. An operation is a function of (s3,
request) that returns an Answer or raises S3Error. One that is a generator yields the number of bytes it moves, once:
the configured latency passes there. What stands before the yield sees the state at the start of the request (a copy
reads its source), what stands after it sees the state at the end (a write is committed, and the conditions on the
destination are checked).
"""

import base64
import bisect
import itertools
from collections.abc import Callable, Iterator

from standin_checks import PAGE, find_bucket
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
    refusals,
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

LAST = chr(0x10FFFF)  # behind all characters


def list_objects_v2(s3: S3, request: Request) -> Answer:
    bucket, query = find_bucket(s3, request), request.query
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
    """{key: object, or common prefix: None} in listing order, and the name that the next page starts behind, or ""."""
    names = names_behind(bucket, query.get("prefix", ""), query.get("delimiter", ""), after)
    page = dict(itertools.islice(names, limit))
    return page, next(reversed(page), "") if next(names, None) else ""


def row(name: str, found: Object | None) -> str:
    if found is None:
        return f"<CommonPrefixes><Prefix>{name}</Prefix></CommonPrefixes>"
    return (
        f"<Contents><Key>{name}</Key><LastModified>{iso(found.modified)}</LastModified>"
        f"<ETag>&quot;{found.etag}&quot;</ETag><Size>{found.size}</Size>"
        f"<StorageClass>{found.storage_class}</StorageClass></Contents>"
    )


def names_behind(bucket: Bucket, prefix: str, delimiter: str, after: str) -> Iterator[tuple[str, Object | None]]:
    """The names below a prefix, behind the name `after` if there is one. A directory bucket lists folder by folder, but
    not in lexicographic order: here backwards, so that what is compared with a source matches as late as it can.
    Delimited listings of it also show the prefixes of uploads in progress (S3 API reference, ListObjectsV2,
    CommonPrefixes)."""
    if bucket.order is None:
        bucket.order = sorted(bucket.objects)
    keys = bucket.order
    if bucket.is_directory and delimiter and bucket.uploads:
        keys = sorted({*keys, *(upload.key for upload in bucket.uploads.values())})

    def behind(name: str) -> int:
        """Of a common prefix, behind all that it stands for."""
        if bucket.is_directory:
            return bisect.bisect_left(keys, name) - 1
        is_common = delimiter and delimiter in name[len(prefix) :]
        return bisect.bisect_right(keys, name + LAST if is_common else name)

    first = bisect.bisect_left(keys, prefix + LAST) - 1 if bucket.is_directory else bisect.bisect_left(keys, prefix)
    place, step = behind(after) if after else first, -1 if bucket.is_directory else 1
    while 0 <= place < len(keys) and keys[place].startswith(prefix):
        key, current = keys[place], bucket.current(keys[place])
        folder, found, _ = key[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
        place += step
        if found and (current or key not in bucket.objects):
            yield prefix + folder + found, None
            place = behind(prefix + folder + found)
        elif current:
            yield key, current


def create_session(s3: S3, request: Request) -> Answer:
    """Answered for a missing bucket too: with a custom endpoint boto3 asks for a session before CreateBucket."""
    if refusal := refusals.of_request("GET", request.bucket, "", request.query, request.headers):
        raise S3Error(*refusal)
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
