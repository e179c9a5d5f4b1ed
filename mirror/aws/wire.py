"""Writes the requests of S3 and reads its answers as boto3 does, as far as the worker uses them."""

from __future__ import annotations

import functools
import html
import http.client
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, unquote_plus
from xml.etree import ElementTree

from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError

from mirror.aws.http import EMPTY_BODY, Answer, Endpoint, Request
from mirror.model.expires import EXPIRES, header_of

# Parameter of a call -> header, as in botocore's model (S3 API Reference).
REQUEST_HEADERS = {
    "AnnotationDirective": "x-amz-object-annotation-directive",
    "CacheControl": "Cache-Control",
    "ChecksumMode": "x-amz-checksum-mode",
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
CHECKSUM_HEADER = "x-amz-checksum-"  # and an algorithm, or type: ChecksumCRC32, ChecksumType
# Parameter of a listing -> name in the query.
QUERY = {
    "ContinuationToken": "continuation-token",
    "Delimiter": "delimiter",
    "MaxKeys": "max-keys",
    "Prefix": "prefix",
}
OBJECT, OBJECT_END = "<Contents>", "</Contents>"  # of a listing
LISTED = "Key", "LastModified", "ETag", "Size", "StorageClass"
LISTED_FIELD = re.compile(rf"<({'|'.join(LISTED)})>([^<]*)<")
FIELD = re.compile("<([A-Za-z]+)>")

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
LIST_OBJECTS = Operation("ListObjectsV2", "GET")


# --- The request ------------------------------------------------------------------------------------------------------


def request_for(endpoint: Endpoint, method: str, parameters: dict[str, Any]) -> Request:
    """The request of one operation, not signed yet."""
    headers = [("host", endpoint.host), ("X-Amz-Content-SHA256", EMPTY_BODY)]
    headers += [(REQUEST_HEADERS[name], value) for name, value in parameters.items() if name in REQUEST_HEADERS]
    headers += [(f"{METADATA_HEADER}{name}", value) for name, value in parameters.get("Metadata", {}).items()]
    if EXPIRES in parameters:
        headers.append((EXPIRES, header_of(parameters[EXPIRES])))
    if "CopySource" in parameters:
        source = parameters["CopySource"]
        headers.append(("x-amz-copy-source", f"{source['Bucket']}/{quoted_path(source['Key'])}"))
    if "Key" not in parameters:
        return Request(method, listing_path(endpoint, parameters), headers)
    path = endpoint.path + quoted_path(parameters["Key"])
    if "UploadId" in parameters:
        path += f"?partNumber={parameters['PartNumber']}&uploadId={quote(parameters['UploadId'], safe='~')}"
    return Request(method, path, headers)


def listing_path(endpoint: Endpoint, parameters: dict[str, Any]) -> str:
    """The path and query of a request. XML cannot hold every key as it is, so S3 is asked to encode them."""
    query = {"encoding-type": "url", "list-type": "2"}
    query |= {QUERY[name]: str(value) for name, value in parameters.items() if name in QUERY}
    terms = [f"{name}={quote(query[name], safe='~')}" for name in sorted(query)]
    path = endpoint.path.rstrip("/") or "/"
    return f"{path}?{'&'.join(terms)}"


# --- The answer -------------------------------------------------------------------------------------------------------


def read_answer(operation: Operation, answer: Answer) -> dict[str, Any]:
    """boto3's answer. Raises the ClientError of an error status, or of an error inside a 200."""
    if answer.status >= 300:
        raise client_error(operation.name, answer)
    if operation.method == "HEAD":
        return head_answer(answer.headers)
    if operation is LIST_OBJECTS:
        return read_page(answer)
    return {operation.result: read_xml(operation.name, answer)} if operation.result else {}


def head_answer(headers: dict[str, str]) -> dict[str, Any]:
    """The fields of boto3's answer to HeadObject that the worker reads. Of Expires this is only its text."""
    metadata: dict[str, str] = {}
    answer: dict[str, Any] = {"Metadata": metadata, "MissingMeta": int(headers.get("x-amz-missing-meta", 0))}
    answer["ContentLength"] = int(headers["content-length"])
    answer["LastModified"] = parse_date(headers["last-modified"])
    for name, value in headers.items():
        if name in ANSWER_FIELDS:
            answer[ANSWER_FIELDS[name]] = value
        elif name.startswith(METADATA_HEADER):
            metadata[name.removeprefix(METADATA_HEADER)] = value
        elif name.startswith(CHECKSUM_HEADER):
            kind = name.removeprefix(CHECKSUM_HEADER)
            answer["ChecksumType" if kind == "type" else f"Checksum{kind.upper()}"] = value
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
            f"{operation} answered {answer.status} with a body that is not XML: {error}"
        ) from error


def client_error(operation: str, answer: Answer) -> ClientError:
    """What boto3 raises: code and message of the body, or of the status if there is no body."""
    error = {"Code": str(answer.status), "Message": http.client.responses.get(answer.status, "")}
    if answer.body.lstrip().startswith(b"<"):
        for child in parse_xml(operation, answer):
            if child.tag in error:
                error[child.tag] = child.text or ""
    return ClientError({"Error": error, "ResponseMetadata": {"HTTPStatusCode": answer.status}}, operation)  # type: ignore[typeddict-item]


# --- The page of a listing, in a tenth of the CPU time that botocore takes --------------------------------------------


def read_page(answer: Answer) -> dict[str, Any]:
    """The fields of boto3's answer that the worker reads, {} of an empty one. Raises ResponseParserError for an answer
    of another form.

    Only what stands beside the objects is read as XML: that takes longer. As keys are encoded, no text in an object can
    be taken for a tag, and the number of objects is compared with what S3 says of it.
    """
    if not answer.body.strip():
        return {}
    try:
        text = answer.body.decode()
    except UnicodeDecodeError as error:
        raise ResponseParserError(f"ListObjectsV2 answered with a page that is no UTF-8: {error}") from error
    begin = text.find(OBJECT)
    end = text.rfind(OBJECT_END) + len(OBJECT_END) if begin >= 0 else begin
    beside = (text[:begin] + text[end:]).encode()
    root = parse_xml(LIST_OBJECTS.name, Answer(answer.status, body=bytearray(beside)))

    fields = {child.tag.rpartition("}")[2]: child.text or "" for child in root}
    decode = unquote_plus if fields.get("EncodingType") == "url" else str
    prefixes = [prefix for child in root if child.tag.endswith("CommonPrefixes") for prefix in child.itertext()]
    page: dict[str, Any] = {
        "CommonPrefixes": [{"Prefix": decode(prefix)} for prefix in prefixes if prefix.strip()],
        "ResponseMetadata": {"HTTPHeaders": answer.headers},
    }
    try:
        page["Contents"] = read_objects(text[begin:end], decode) if begin >= 0 else []
        is_whole = int(fields["KeyCount"]) == len(page["Contents"]) + len(page["CommonPrefixes"])
    except (KeyError, ValueError) as error:
        raise ResponseParserError(f"ListObjectsV2 answered with a page that cannot be read: {error!r}") from error
    if not is_whole:
        raise ResponseParserError("ListObjectsV2 answered with another number of keys than it says")
    if "IsTruncated" in fields:
        page["IsTruncated"] = fields["IsTruncated"] == "true"
    if "NextContinuationToken" in fields:
        page["NextContinuationToken"] = fields["NextContinuationToken"]
    return page


def read_objects(text: str, decode: Callable[[str], str]) -> list[dict[str, Any]]:
    """The objects of a page at once, if all show what the first one shows, in the same order; otherwise one after the
    other, which takes twice as long."""
    order = tuple(FIELD.findall(text[len(OBJECT) : text.find(OBJECT_END)]))
    names = tuple(name for name in order if name in LISTED)
    rows = object_pattern(order).findall(text)
    if len(rows) != text.count(OBJECT):
        names, rows = LISTED, [fields_of(block) for block in text.split(OBJECT)[1:]]
    columns = dict(zip(names, zip(*rows, strict=True), strict=True))

    def decode_key(key: str) -> str:
        return decode(html.unescape(key))

    keys = decoded(columns["Key"], "%+&", decode_key)
    etags = decoded([etag.replace("&quot;", '"') for etag in columns["ETag"]], "&", html.unescape)
    sizes = map(int, columns["Size"])
    moments = map(datetime.fromisoformat, columns["LastModified"])
    classes = columns.get("StorageClass", ("",) * len(rows))
    return [
        {"Key": key, "ETag": etag, "Size": size, "LastModified": moment, "StorageClass": storage_class}
        for key, etag, size, moment, storage_class in zip(keys, etags, sizes, moments, classes, strict=True)
    ]


@functools.lru_cache(maxsize=64)
def object_pattern(order: tuple[str, ...]) -> re.Pattern[str]:
    """Of an object that shows these fields in this order. Those that nobody reads may be absent."""
    pattern = OBJECT
    for name in order:
        if name in LISTED:
            pattern += f"<{name}>([^<]*+)</{name}>"
        else:
            pattern += f"(?:<{name}>[^<]*+</{name}>)?+"
    return re.compile(pattern + OBJECT_END)


def fields_of(block: str) -> tuple[str, ...]:
    shown = {"StorageClass": ""} | dict(LISTED_FIELD.findall(block.partition(OBJECT_END)[0]))
    return tuple(shown[name] for name in LISTED)


def decoded(texts: Sequence[str], signs: str, decode: Callable[[str], str]) -> Iterable[str]:
    """The texts, decoded only if one of them has one of the signs: most keys have none."""
    joined = "".join(texts)
    return map(decode, texts) if any(sign in joined for sign in signs) else texts
