"""What the two buckets say of a key: its identity, and its metadata as a copy needs it."""

from __future__ import annotations

import functools
import hashlib
import json
import sys
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from mirror.model.expires import EXPIRES, is_plain_date, moment_of
from mirror.model.services import MAX_USER_METADATA

# Of the source's metadata, what CopyObject with REPLACE and CreateMultipartUpload take. Both start from nothing, so
# what is not listed here is not carried: tags, annotations, ACL, lock, storage class and encryption, which a directory
# bucket either refuses or sets by itself (S3 API Reference, CopyObject and CreateMultipartUpload).
REPLICATED_FIELDS = (
    "ContentType",
    "CacheControl",
    "ContentDisposition",
    "ContentEncoding",
    "ContentLanguage",
    EXPIRES,
)
PROVENANCE = "sync-source"
MOVED_CONTENT_ENCODING = "sync-content-encoding"
ARCHIVED_CLASSES = {"GLACIER", "DEEP_ARCHIVE"}


@dataclass(frozen=True)
class Source:
    """One version of a source object. Its `identity` also changes if only metadata are changed in place."""

    etag: str
    size: int
    identity: str
    modified: datetime = field(compare=False)
    fields: dict[str, Any] = field(compare=False)  # REPLICATED_FIELDS that are set
    metadata: dict[str, str] = field(compare=False)  # user metadata
    complete: bool = field(compare=False)  # S3 shows all of the metadata
    odd_expires: str = field(compare=False)  # an Expires that is not among the fields, because it cannot be sent back
    archived: str = field(compare=False)  # the storage class, while it has to be restored before a copy
    checksums: dict[str, str] = field(compare=False, default_factory=dict)  # of checksums_of()

    @property
    def carries_provenance(self) -> bool:
        """Whether a copy of it can say what it was copied from. It cannot if there is no room for that, or if S3 shows
        metadata in another form than they were sent in (undecodable, encoded by RFC 2047, not ASCII), or if a request
        cannot carry its Expires: then only S3 itself can copy them, and it adds nothing."""
        texts = [*self.metadata, *self.metadata.values()]
        texts += [value for value in self.fields.values() if isinstance(value, str)]
        together = " ".join(texts)
        is_plain = together.isascii() and together.isprintable() and "=?" not in together
        can_be_sent = self.complete and not self.odd_expires and is_plain
        return can_be_sent and user_metadata_fits(self.metadata | {PROVENANCE: self.identity})


class Listed(NamedTuple):
    """A source object in a listing: without version id and metadata, which do not change unless its time does."""

    etag: str
    size: int
    modified: datetime
    archived: str
    carries_provenance: bool = False  # nothing is known of the metadata, so no provenance is demanded of a copy

    @property
    def identity(self) -> str:
        return identity_of(self.etag, self.modified, self.size)


@dataclass(frozen=True)
class Destination:
    """A destination object. `provenance` is the identity of the source it was copied from, or "" when not known."""

    etag: str
    size: int
    modified: datetime
    provenance: str
    checksums: dict[str, str] = field(compare=False, default_factory=dict)  # of checksums_of()

    def is_copy_of_later(self, moment: datetime) -> bool:
        """Whether it says that it is a copy of a version of a later time than that."""
        return self.provenance.split(" ")[1:2] > [utc_text(moment)]


def source_from_head(head: dict[str, Any]) -> Source:
    """A Source from the answer of HeadObject."""
    fields = {name: head[name] for name in REPLICATED_FIELDS if head.get(name) and name != EXPIRES}
    metadata = dict(head.get("Metadata", {}))
    expires = str(head.get("ExpiresString") or "").strip(" \t")
    if is_plain_date(expires):
        fields[EXPIRES] = moment_of(expires)
    version = head.get("VersionId") or "null"
    more = [version, digest(tuple(fields.items()), expires or None, tuple(metadata.items()))]
    if EXPIRES in head and not expires:
        more = [version]  # older releases of the AWS CLI show only what they have made of the text
    archived = head["StorageClass"] if head.get("StorageClass") in ARCHIVED_CLASSES else head.get("ArchiveStatus")
    is_restored = 'ongoing-request="false"' in head.get("Restore", "")
    return Source(
        etag=head["ETag"],
        size=head["ContentLength"],
        identity=identity_of(head["ETag"], head["LastModified"], head["ContentLength"], *more),
        modified=head["LastModified"],
        fields=fields,
        metadata=metadata,
        complete=not head.get("MissingMeta"),
        odd_expires="" if EXPIRES in fields else expires,
        archived="" if is_restored else str(archived or ""),
        checksums=checksums_of(head),
    )


def checksums_of(head: dict[str, Any]) -> dict[str, str]:
    """The checksums of the whole object, by algorithm; none unless HeadObject was asked for them. Those of a COMPOSITE
    object depend on its parts, too (S3 User Guide, "Checking object integrity in Amazon S3")."""
    if head.get("ChecksumType") != "FULL_OBJECT":
        return {}
    return {name: str(value) for name, value in head.items() if name.startswith("Checksum") and name != "ChecksumType"}


def have_same_bytes(source: Source | None, destination: Destination | None) -> bool | None:
    """What checksums of the same algorithm say; None if there are none. Equal ones may be those of a copy that S3 has
    labelled with its source's, so they find what has changed since, but do not prove that the copy read every byte."""
    if source is None or destination is None:
        return None
    both = source.checksums.keys() & destination.checksums.keys()
    return all(source.checksums[name] == destination.checksums[name] for name in both) if both else None


@functools.lru_cache(maxsize=1024)
def digest(fields: tuple[tuple[str, Any], ...], expires: str | None, metadata: tuple[tuple[str, str], ...]) -> str:
    """Differs for other metadata. Cached: many objects have the same, and each is looked at twice."""
    described = json.dumps([dict(fields), expires, dict(metadata)], sort_keys=True, default=str)
    return hashlib.sha256(described.encode()).hexdigest()[:12]


def destination_from_head(head: dict[str, Any]) -> Destination:
    """A Destination from the answer of HeadObject."""
    provenance = head.get("Metadata", {}).get(PROVENANCE, "")
    return Destination(head["ETag"], head["ContentLength"], head["LastModified"], provenance, checksums_of(head))


def user_metadata_fits(metadata: dict[str, str]) -> bool:
    """S3 counts the bytes of names and values, at most 2 KB; here with the header prefix, to be on the safe side."""
    headers = (f"x-amz-meta-{name}{value}" for name, value in metadata.items())
    return sum(len(header.encode(errors="surrogateescape")) for header in headers) <= MAX_USER_METADATA


def metadata_to_send(source: Source, without_encoding: bool) -> dict[str, Any]:
    """Metadata arguments for CopyObject (REPLACE) and CreateMultipartUpload, with the provenance if it fits.

    They are sent as S3 shows them: it reads its own RFC 2047 encoding of user metadata, and takes other headers as
    bytes. An Expires that cannot be sent as it is becomes a date, or is left out. `without_encoding` sends a
    ContentEncoding, which the directory bucket refuses, as user metadata.
    """
    fields, metadata = dict(source.fields), dict(source.metadata)
    if moment := moment_of(source.odd_expires):
        fields[EXPIRES] = moment
    if without_encoding and "ContentEncoding" in fields:
        metadata[MOVED_CONTENT_ENCODING] = fields.pop("ContentEncoding")
    with_provenance = metadata | {PROVENANCE: source.identity}
    if user_metadata_fits(with_provenance):
        metadata = with_provenance
    return fields | {
        "Metadata": {name: value if value.isascii() else encoded_word(value) for name, value in metadata.items()}
    }


def encoded_word(value: str) -> str:
    """The value as S3 itself shows it (RFC 2047), because botocore refuses to send what is not ASCII."""
    from email.header import Header  # needed for very few objects, and slow to import

    readable = value.encode(errors="surrogateescape").decode(errors="replace")
    return Header(readable, "utf-8", maxlinelen=sys.maxsize).encode()


def identity_of(etag: str, modified: datetime, size: int, *more: str) -> str:
    """Identifies a version of a source object. A listing shows only what the first three words hold."""
    return " ".join((etag.strip('"'), utc_text(modified), str(size), *more))


@functools.lru_cache(maxsize=1024)
def utc_text(moment: datetime) -> str:
    """Cached: many objects changed in the same second, and each is looked at twice."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", moment.utctimetuple())
