"""The checksums that S3 keeps of objects, and shows to a HeadObject that asks for them.

The `checksum` of an object is "ALGORITHM VALUE", with the algorithm as in the name of the header; NONE if the object
was uploaded before 2025, without one; or "" if S3 makes a CRC64NVME of all bytes, which is computed when asked for. If
the bytes are not kept, a digest of where they came from stands for it: the same for the same bytes of one write.
"""

import base64
import hashlib

from awscrt import checksums
from standin_store import S3, Bucket, Object, Part, Request, S3Error, Span, Upload

NONE = "none"
COMPOSITE, FULL_OBJECT = "COMPOSITE", "FULL_OBJECT"
PREFIX = "x-amz-checksum-"
ABOUT = ("algorithm", "mode", "type")


def checksum_headers(s3: S3, bucket: Bucket, request: Request, found: Object) -> dict[str, str]:
    """What HeadObject shows (S3 API reference, HeadObject, ChecksumMode)."""
    if request.headers.get("x-amz-checksum-mode", "").upper() != "ENABLED":
        return {}
    if not bucket.checksum_permission:
        raise S3Error("AccessDenied")
    if found.checksum == NONE:
        return {}
    algorithm, value = checksum_of(s3, found).split(" ")
    return {PREFIX + algorithm: value, PREFIX + "type": found.checksum_type}


def checksum_of(s3: S3, found: Object) -> str:
    return found.checksum or f"crc64nvme {value_of(s3, found.content)}"


def value_of(s3: S3, content: list[Span]) -> str:
    if all(generation in s3.kept for generation, _, _ in content):
        return crc64(b"".join(s3.kept[generation][first:end] for generation, first, end in content))
    return base64.b64encode(hashlib.md5(repr(content).encode()).digest()[:8]).decode()


def crc64(data: bytes) -> str:
    return base64.b64encode(checksums.crc64nvme(data).to_bytes(8)).decode()


def checksum_of_upload(request: Request, body: bytes) -> str:
    """That of a PutObject: what the client sent, or S3's own (S3 User Guide, "Checking object integrity for data
    uploads")."""
    for name, value in request.headers.items():
        if name.startswith(PREFIX) and name.removeprefix(PREFIX) not in ABOUT:
            return f"{name.removeprefix(PREFIX)} {value.strip()}"
    return f"crc64nvme {crc64(body)}"


def checksum_of_copy(s3: S3, source: Object) -> str:
    """CopyObject copies the value, and computes one only if the source has none of the whole object (S3 API reference,
    CopyObject, ChecksumAlgorithm; S3 User Guide, "Checking object integrity for data at rest")."""
    if source.checksum == NONE:
        return ""
    if source.checksum_type == COMPOSITE:
        return f"{source.checksum.split(' ')[0]} {value_of(s3, source.content)}"
    return checksum_of(s3, source)


def checksum_of_parts(s3: S3, upload: Upload, parts: list[Part], content: list[Span]) -> tuple[str, str]:
    """The checksum and its type: COMPOSITE unless the upload asks for another, and never of a CRC64NVME, which S3 also
    makes if no algorithm is asked for (S3 User Guide, "Checking object integrity for data uploads")."""
    algorithm = upload.checksum_algorithm.lower()
    if algorithm in ("", "crc64nvme"):
        return "", FULL_OBJECT
    if upload.checksum_type == FULL_OBJECT:
        return f"{algorithm} {value_of(s3, content)}", FULL_OBJECT
    digest = hashlib.md5(repr([part.content for part in parts]).encode()).digest()[:4]
    return f"{algorithm} {base64.b64encode(digest).decode()}-{len(parts)}", COMPOSITE
