"""The S3 operations of the stand-in. A request that AWS documents as an error is refused with that status and code.

An operation is a function of (s3, request) that returns an Answer or raises S3Error. One that is a generator yields
the number of bytes it moves, once: the configured latency passes there. What stands before the yield sees the state
at the start of the request (a copy reads its source), what stands after it sees the state at the end (a write is
committed, and the conditions on the destination are checked).
"""

from collections.abc import Callable

from standin_buckets import (
    create_session,
    get_credentials,
    list_objects_v2,
)
from standin_objects import copy_object, delete_object, get_object, head_object, put_object
from standin_store import S3, Answer, Request, S3Error
from standin_tokens import CREDENTIALS
from standin_uploads import (
    abort_multipart_upload,
    complete_multipart_upload,
    create_multipart_upload,
    list_multipart_uploads,
    list_parts,
    upload_part_copy,
)

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
    "session", "tagging", "uploadId", "uploads", "versioning", "versions", "website",
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
