"""Writes the requests of S3 and reads its answers as boto3 does, as far as the worker uses them."""

from __future__ import annotations

import contextlib
import functools
import http.client
from dataclasses import dataclass
from datetime import UTC
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError

from mirror.aws.endpoints import Endpoint
from mirror.aws.http import Answer
from mirror.aws.signing import EMPTY_BODY, Request

# Parameter of a call -> header, as in botocore's model (S3 API Reference).
REQUEST_HEADERS = {
    "AnnotationDirective": "x-amz-object-annotation-directive",
    "CacheControl": "Cache-Control",
    "ContentDisposition": "Content-Disposition",
    "ContentEncoding": "Content-Encoding",
    "ContentLanguage": "Content-Language",
    "ContentType": "Content-Type",
    "CopySourceIfMatch": "x-amz-copy-source-if-match",
    "CopySourceRange": "x-amz-copy-source-range",
    "ExpectedBucketOwner": "x-amz-expected-bucket-owner",
    "ExpectedSourceBucketOwner": "x-amz-source-expected-bucket-owner",
    "IfMatch": "If-Match",
    "IfNoneMatch": "If-None-Match",
    "MetadataDirective": "x-amz-metadata-directive",
    "TaggingDirective": "x-amz-tagging-directive",
}

# Header of the answer to HeadObject -> field of boto3's answer, as text.
ANSWER_FIELDS = {
    "cache-control": "CacheControl",
    "content-disposition": "ContentDisposition",
    "content-encoding": "ContentEncoding",
    "content-language": "ContentLanguage",
    "content-type": "ContentType",
    "etag": "ETag",
    "expires": "ExpiresString",
    "x-amz-archive-status": "ArchiveStatus",
    "x-amz-restore": "Restore",
    "x-amz-storage-class": "StorageClass",
    "x-amz-version-id": "VersionId",
}
METADATA_HEADER = "x-amz-meta-"

# Each key is in three requests, in that of the copy twice. Many objects are of the same second, and each is looked at
# twice.
quoted_path = functools.lru_cache(maxsize=1024)(functools.partial(quote, safe="/~"))
parse_date = functools.lru_cache(maxsize=1024)(parsedate_to_datetime)


@dataclass(frozen=True)
class Operation:
    """An operation of S3: its HTTP method, and the name of what the body of its answer holds, "" if it has none."""

    name: str
    method: str
    result: str = ""


HEAD_OBJECT = Operation("HeadObject", "HEAD")
COPY_OBJECT = Operation("CopyObject", "PUT", "CopyObjectResult")
UPLOAD_PART_COPY = Operation("UploadPartCopy", "PUT", "CopyPartResult")
DELETE_OBJECT = Operation("DeleteObject", "DELETE")


# --- The request ------------------------------------------------------------------------------------------------------


def request_for(endpoint: Endpoint, method: str, parameters: dict[str, Any]) -> Request:
    """The request of one operation, not signed yet."""
    headers = [("host", endpoint.host), ("X-Amz-Content-SHA256", EMPTY_BODY)]
    headers += [(REQUEST_HEADERS[name], value) for name, value in parameters.items() if name in REQUEST_HEADERS]
    headers += [(f"{METADATA_HEADER}{name}", value) for name, value in parameters.get("Metadata", {}).items()]
    if "Expires" in parameters:
        headers.append(("Expires", format_datetime(parameters["Expires"].astimezone(UTC), usegmt=True)))
    if "CopySource" in parameters:
        source = parameters["CopySource"]
        headers.append(("x-amz-copy-source", f"{source['Bucket']}/{quoted_path(source['Key'])}"))
    path = endpoint.path + quoted_path(parameters["Key"])
    if "UploadId" in parameters:
        path += f"?partNumber={parameters['PartNumber']}&uploadId={quote(parameters['UploadId'], safe='~')}"
    return Request(method, path, headers)


# --- The answer -------------------------------------------------------------------------------------------------------


def read_answer(operation: Operation, answer: Answer) -> dict[str, Any]:
    """boto3's answer. Raises the ClientError of an error status, or of an error inside a 200."""
    if answer.status >= 300:
        raise client_error(operation.name, answer)
    if operation.method == "HEAD":
        return head_answer(answer.headers)
    return {operation.result: read_xml(operation.name, answer)} if operation.result else {}


def head_answer(headers: dict[str, str]) -> dict[str, Any]:
    """The fields of boto3's answer to HeadObject that the worker reads."""
    answer: dict[str, Any] = {ANSWER_FIELDS[name]: value for name, value in headers.items() if name in ANSWER_FIELDS}
    answer["ContentLength"] = int(headers["content-length"])
    answer["LastModified"] = parse_date(headers["last-modified"])
    answer["MissingMeta"] = int(headers.get("x-amz-missing-meta", 0))
    if "expires" in headers:
        with contextlib.suppress(ValueError, OverflowError):  # S3 keeps and shows whatever it was given
            answer["Expires"] = parsedate_to_datetime(headers["expires"])
    answer["Metadata"] = {
        name[len(METADATA_HEADER) :]: value for name, value in headers.items() if name.startswith(METADATA_HEADER)
    }
    return answer


def read_xml(operation: str, answer: Answer) -> dict[str, str]:
    """Child elements of the body as text, {} for an empty one. Raises the ClientError of an error inside a 200."""
    if not answer.body.strip():
        return {}
    root = parse_xml(operation, answer)
    if root.tag == "Error":
        raise client_error(operation, answer)
    return {child.tag.rpartition("}")[2]: child.text or "" for child in root}


def parse_xml(operation: str, answer: Answer) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(bytes(answer.body).strip())
    except ElementTree.ParseError as error:
        raise ResponseParserError(
            f"{operation} answered {answer.status} with a body that is no XML: {error}"
        ) from error


def client_error(operation: str, answer: Answer) -> ClientError:
    """What boto3 raises: code and message of the body, or of the status if there is no body."""
    phrase = http.client.responses.get(answer.status, "")
    error = {"Code": str(answer.status), "Message": phrase}
    if answer.body.lstrip().startswith(b"<"):
        root = parse_xml(operation, answer)
        error |= {child.tag: child.text or "" for child in root if child.tag in error}
    return ClientError({"Error": error, "ResponseMetadata": {"HTTPStatusCode": answer.status}}, operation)  # type: ignore[typeddict-item]
