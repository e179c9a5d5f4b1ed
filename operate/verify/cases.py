"""The objects of ./sync.sh verify: names, how they are uploaded and changed, and what their copies have to be like.

All of it is pure, but for random bytes.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from mirror.protocol.objects import MOVED_CONTENT_ENCODING, PROVENANCE, checksums_of
from operate.times import iso

MEBIBYTE = 1_048_576
COPY_LIMIT = 5_368_709_120  # bytes that a worker copies with one CopyObject if MULTIPART_THRESHOLD says nothing else
MOST_TO_UPLOAD = 64 * MEBIBYTE  # of a threshold, so that an object that passes it can be uploaded
BEYOND_THRESHOLD = 4 * MEBIBYTE + 1

MISSING, ARRIVED, FAILED, NOT_ASKED = "missing", "arrived", "failed", "not asked"
SMALL, ENCODED, MULTIPART, LARGE = "small", "encoded", "multipart", "large"
OVERWRITTEN, CHANGED, DELETED = "overwritten", "changed", "deleted"
REWRITTEN = (OVERWRITTEN, CHANGED)  # by the second round
TO_CHANGE = (*REWRITTEN, DELETED)


class Case(NamedTuple):
    name: str
    path: str  # below the folder of the run
    meaning: str


CASES = (
    Case(SMALL, "small.txt", "a small object"),
    Case("empty", "empty.dat", "an empty object"),
    Case("nested", "nested/deeper/file.json", "nested folders"),
    Case("name", "with space/größe € +%.txt", "a space and more than ASCII in the key"),
    Case(ENCODED, "encoded.txt", "Content-Encoding: gzip, user metadata"),
    Case("tagged", "tagged.txt", "object tags, which are not carried"),
    Case("double", "double//slash.txt", "// in the key"),
    Case("trailing", "trailing/", "a key that ends in /"),
    Case(OVERWRITTEN, "overwritten.txt", "overwritten: same size, other bytes"),
    Case(CHANGED, "changed in place +é.txt", "metadata changed in place"),
    Case(DELETED, "deleted.txt", "deleted"),
)
IN_PARTS = Case(MULTIPART, "multipart.bin", "copied in parts")
MADE_IN_S3 = Case(LARGE, "large.bin", "copied in parts, made in S3")


def choose_cases(with_large: bool, threshold: int) -> list[Case]:
    """`threshold`: the bytes from which on a worker copies in parts."""
    in_parts = [IN_PARTS] if threshold < MOST_TO_UPLOAD else []
    return [*CASES, *in_parts, *([MADE_IN_S3] if with_large else [])]


# --- what is put -----------------------------------------------------------------------------------------------------

UPLOAD_OPTIONS = {
    "tagged": ("--tagging", "colour=blue&run=verify"),
    ENCODED: (
        *("--content-encoding", "gzip", "--content-type", "text/plain; charset=utf-8"),
        *("--cache-control", "max-age=60", "--content-disposition", "inline", "--content-language", "en"),
        *("--metadata", "colour=blue,made-by=sync.sh verify"),
    ),
    CHANGED: ("--content-type", "text/plain", "--metadata", "colour=blue"),
}

# Its tags, of which it has none, are not looked at, so that no right to read tags is needed.
CHANGE_IN_PLACE = (
    *("--metadata-directive", "REPLACE", "--tagging-directive", "REPLACE"),
    *("--content-type", "text/csv", "--metadata", "colour=red"),
)


def body_of(name: str, folder: str, threshold: int, large_part: int) -> bytes:
    """The bytes of an object, or of the part that the large one is made of."""
    if name in ("empty", "trailing"):
        return b""
    if name == ENCODED:
        return gzip.compress(b"as it was put\n", mtime=0)
    if name == MULTIPART:
        return os.urandom(threshold + BEYOND_THRESHOLD)
    if name == LARGE:
        return os.urandom(large_part)
    return version_of(1, folder) if name == OVERWRITTEN else f"{name} of {folder}\n".encode()


def version_of(number: int, folder: str) -> bytes:
    """What the object that is overwritten holds."""
    return f"version {number} of {folder}\n".encode()


# --- what the copies are like -----------------------------------------------------------------------------------------
#
# Each reads what GetObject answers for the source and for the destination. mirror/protocol/objects.py says what a copy
# carries.

Head = Mapping[str, Any]
COMPARED = ("CacheControl", "ContentDisposition", "ContentEncoding", "ContentLanguage", "ContentType")


def compared_metadata(source: Head, destination: Head) -> str:
    """ "equal", or what differs."""
    want, have = carried(source), carried(destination)
    if want["ContentEncoding"] is not None and have["Metadata"].get(MOVED_CONTENT_ENCODING) == want["ContentEncoding"]:
        have["ContentEncoding"] = have["Metadata"].pop(MOVED_CONTENT_ENCODING)

    differ = [name for name in sorted(want) if want[name] != have[name]]
    if PROVENANCE not in metadata_of(destination):
        differ.append(PROVENANCE)
    return f"different: {', '.join(differ)}" if differ else "equal"


def carried(head: Head) -> dict[str, Any]:
    own = {name: value for name, value in metadata_of(head).items() if name != PROVENANCE}
    return {**{name: head.get(name) for name in COMPARED}, "Metadata": own}


def metadata_of(head: Head) -> dict[str, str]:
    return dict(head.get("Metadata") or {})


def compared_checksum(source: Head, destination: Head) -> str:
    """Whether they are equal or different, "none" of the copy alone, or "-" if nothing can be compared. The CLI asks
    for checksums by itself since 2025 (2.23, 1.37), and compares each with the bytes that it gets."""
    want, have = checksums_of(dict(source)), checksums_of(dict(destination))
    both = want.keys() & have.keys()
    if both:
        return "equal" if all(want[name] == have[name] for name in both) else "different"
    return "none" if want and not destination.get("ChecksumType") else "-"


# --- whether a copy has arrived ---------------------------------------------------------------------------------------


class Listed(NamedTuple):
    """An object of a listing; `at`: seconds since the epoch."""

    size: int
    etag: str
    at: float

    @property
    def identity(self) -> str:
        """With which the provenance of its copy begins."""
        return f"{self.etag} {iso(self.at)} {self.size} "


Listing = Mapping[str, Listed]


def has_arrived(name: str, key: str, want: str, source: Listing, destination: Listing, copy: Head) -> bool:
    """Whether the object is as the round wants it: in the listing with the source's size ("listed"); as it is after its
    change, so that the copy says that it was made from the source as it is now ("changed"); not in the listing
    ("gone"). `copy`: what GetObject says of it."""
    if want == "gone" or (want == "changed" and name == DELETED):
        return key not in destination
    if key not in source or key not in destination:
        return False
    if want == "listed":
        return destination[key].size == source[key].size
    return metadata_of(copy).get(PROVENANCE, "").startswith(source[key].identity)


def refused_key(folder: str) -> str:
    """Of copies that S3 is to refuse."""
    return f"{folder}refused.txt"


def parts_document(etags: Mapping[int, str]) -> str:
    parts = [{"PartNumber": number, "ETag": etags[number]} for number in sorted(etags)]
    return json.dumps({"Parts": parts})
