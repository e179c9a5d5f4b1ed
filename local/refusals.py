"""What S3 refuses of a request, for gaps/s3.py and for the stand-in of the tests (tests/standin).

A refusal is a code and a message; STATUSES has the statuses of the codes. tests/standin/s3_rules.py has a row for each.
Names of headers are in lower case, a parameter of a query has one value.
"""

MIN_PART = 5 * 1024**2
MOST_PARTS, MOST_KEY = 10_000, 1024

# S3 API Reference, "Error responses"; of all other codes here it is 400.
STATUSES = {
    **dict.fromkeys(("AccessDenied", "InvalidObjectState"), 403),
    **dict.fromkeys(("NoSuchBucket", "NoSuchKey", "NoSuchUpload"), 404),
    **dict.fromkeys(("BucketNotEmpty", "ConditionalRequestConflict"), 409),
    "PreconditionFailed": 412,
    "InvalidRange": 416,
    "NotImplemented": 501,
}

# S3 User Guide, "Differences for directory buckets": subresources and headers that are not implemented there.
NO_SUBRESOURCE = {
    *("accelerate", "acl", "annotation", "cors", "legal-hold", "location", "logging", "notification", "object-lock"),
    *("ownershipControls", "replication", "requestPayment", "restore", "retention", "start-after", "tagging"),
    *("versioning", "versions", "website"),
}
NO_HEADER = {
    *("acl", "grant-full-control", "grant-read", "grant-read-acp", "grant-write-acp", "mfa", "object-lock-event-hold"),
    *("object-lock-legal-hold", "object-lock-mode", "object-lock-retain-until-date", "request-payer", "tagging"),
    *("server-side-encryption-bucket-key-enabled", "website-redirect-location"),
}
NO_SSE_C = {"x-amz-server-side-encryption-customer-algorithm", "x-amz-server-side-encryption-customer-key"}
OF_LIST_OBJECTS = {"prefix", "delimiter", "marker", "max-keys", "encoding-type"}


def is_directory(bucket):
    """Tell a directory bucket by the suffix that S3 reserves for them."""
    return bucket.endswith("--x-s3")


def of_request(method, bucket, key, query, headers):
    """Return what is refused whatever the bucket holds, or None."""
    if len(key.encode()) > MOST_KEY:  # S3 User Guide, "Naming Amazon S3 objects"
        return "KeyTooLongError", "Your key is too long"
    if method == "PUT" and not 1 <= int(query.get("partNumber", 1)) <= MOST_PARTS:  # "Multipart upload limits"
        return "InvalidArgument", f"Part number must be an integer between 1 and {MOST_PARTS}"
    # S3 API Reference, CopyObject, PutObject and CompleteMultipartUpload
    if method in ("PUT", "POST") and headers.get("if-none-match", "*") != "*":
        return "NotImplemented", "A header you provided implies functionality that is not implemented"
    if is_directory(bucket):
        return of_directory_bucket(method, key, query, headers)
    if bucket and method == "GET" and "session" in query:
        return "InvalidRequest", "Only a directory bucket has sessions."
    return None


def of_directory_bucket(method, key, query, headers):
    """Return what a directory bucket does not have (S3 User Guide, "Differences for directory buckets")."""
    is_list_objects = method == "GET" and not key and not query.keys() - OF_LIST_OBJECTS
    if is_list_objects or NO_SUBRESOURCE & query.keys() or any(headers.get(f"x-amz-{name}") for name in NO_HEADER):
        return "NotImplemented", "A directory bucket does not implement this."
    is_dsse = headers.get("x-amz-server-side-encryption") == "aws:kms:dsse"
    if is_dsse or NO_SSE_C & headers.keys() or (key and "content-md5" in headers):
        return "InvalidRequest", "A directory bucket has neither SSE-C, DSSE-KMS nor MD5."
    if headers.get("x-amz-storage-class", "EXPRESS_ONEZONE") != "EXPRESS_ONEZONE":
        return "InvalidStorageClass", "The storage class you specified is not valid"
    # S3 API Reference, ListObjectsV2 and ListMultipartUploads, the notes on directory buckets
    prefix = query.get("prefix") or "/"
    if not key and not (prefix.endswith("/") and query.get("delimiter", "") in ("", "/")):
        return "InvalidRequest", "A directory bucket lists by folders, which end in /."
    return None


def of_parts(bucket, numbers, sizes):
    """Return why no object is made of these parts, or None: `sizes` are those of the parts that are there, by number.

    S3 API Reference, CompleteMultipartUpload and CompletedPart.
    """
    if not numbers:
        return "MalformedXML", "An object is made of one part at least"
    consecutive = list(range(1, len(numbers) + 1))
    if numbers != (consecutive if is_directory(bucket) else sorted(set(numbers))):
        return "InvalidPartOrder", "The list of parts was not in the right order."
    if not sizes.keys() >= set(numbers):
        return "InvalidPart", "One or more of the specified parts could not be found."
    if any(sizes[number] < MIN_PART for number in numbers[:-1]):
        return "EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size"
    return None
