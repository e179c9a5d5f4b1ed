"""The local cloud, whose directory buckets take less than AWS documents: so assumptions are refuted.

REFUSED=WORD,... python refusing_cloud.py   takes the settings of local/cloud.py

Of these words:
    CopyObject, CompleteMultipartUpload, DeleteObject   that write with a condition is answered with 501
    gzip                                                a Content-Encoding is answered with 501
    pages                                               a page of a listing has ten keys at most
    source-conditions                                   the condition on the source of a copy is ignored
    etags                                               all that is written under a key has the same ETag
    checksums                                           none is shown
"""

import hashlib
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "local"))

from ministack.services import s3

import cloud
from gaps import replaces
from gaps.s3 import Request, is_directory, stored

REFUSED = set(os.environ["REFUSED"].split(","))
IGNORED = {"source-conditions": "x-amz-copy-source-if-match", "checksums": "x-amz-checksum-mode"}


def operation_of(r):
    """Of those that a condition or a Content-Encoding may come with."""
    if r.method == "PUT" and "x-amz-copy-source" in r.headers and "partNumber" not in r.query:
        return "CopyObject"
    if r.method == "POST" and "uploadId" in r.query:
        return "CompleteMultipartUpload"
    if r.method == "POST" and "uploads" in r.query:
        return "CreateMultipartUpload"
    return "DeleteObject" if r.method == "DELETE" and "uploadId" not in r.query else ""


def is_refused(r):
    """Whether a write has something that this bucket does not take."""
    operation = operation_of(r)
    if operation in REFUSED and ("if-match" in r.headers or "if-none-match" in r.headers):
        return True
    return "gzip" in REFUSED and operation.startswith(("Copy", "Create")) and "content-encoding" in r.headers


@replaces(s3, "_dispatch")
def answer_less(dispatch, *request):
    """Only directory buckets are like that."""
    r = Request(*request)
    if is_directory(r.bucket):
        if is_refused(r):
            return s3._error("NotImplemented", "A header implies functionality that is not implemented", 501, r.key)
        if "pages" in REFUSED and "list-type" in r.query:
            r.query["max-keys"] = [str(min(10, int(r.query.get("max-keys", ["10"])[0])))]
        for word, header in IGNORED.items():
            if word in REFUSED:
                r.headers.pop(header, None)
    response = dispatch(*request)
    if "etags" in REFUSED and is_directory(r.bucket) and (written := stored(r.bucket, r.key)):
        written["etag"] = f'"{hashlib.md5(r.key.encode()).hexdigest()}"'
    return response


if __name__ == "__main__":
    cloud.main()
