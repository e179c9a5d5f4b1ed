"""Limits of S3, and what it says when they are passed."""

from collections.abc import Generator

from standin_store import GIB, MIB, Answer

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
UNKNOWN_TO_DIRECTORY_BUCKETS = (
    *("acl", "grant-full-control", "grant-read", "grant-read-acp", "grant-write-acp", "mfa"),
    *("object-lock-event-hold", "object-lock-legal-hold", "object-lock-mode", "object-lock-retain-until-date"),
    *("optional-object-attributes", "request-payer", "server-side-encryption-bucket-key-enabled"),
    "website-redirect-location",
)
REFUSED_BY_DIRECTORY_BUCKETS = {f"x-amz-{name}": ("NotImplemented", "") for name in UNKNOWN_TO_DIRECTORY_BUCKETS} | {
    "content-md5": ("InvalidRequest", NO_CONTENT_MD5),
    "x-amz-server-side-encryption-customer-algorithm": ("InvalidRequest", NO_SSE_C),
    "x-amz-server-side-encryption-customer-key": ("InvalidRequest", NO_SSE_C),
}
# Headers stored with an object besides x-amz-meta-*, and answered by HeadObject.
STORED_HEADERS = ("cache-control", *(f"content-{name}" for name in ("disposition", "encoding", "language", "type")))
STORED_HEADERS += ("expires",)

Steps = Generator[int, None, Answer]
