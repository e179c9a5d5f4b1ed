"""What AWS's services allow, and how they send texts."""

from __future__ import annotations

from typing import Any

# S3 User Guide, "Amazon S3 multipart upload limits"; SQS Developer Guide, "Message quotas".
MIB = 1024**2
GIB = 1024**3

MIN_PART_SIZE = 5 * MIB
MAX_COPY_SIZE = 5 * GIB  # one CopyObject or one UploadPartCopy
MAX_PARTS = 10_000
MAX_USER_METADATA = 2048  # bytes

MAX_SQS_DELAY = 900  # seconds
MAX_SQS_VISIBILITY = 43_200  # seconds
SQS_BATCH = 10  # messages in one call
EVENTS_BATCH = 10  # events in one PutEvents (Amazon EventBridge API Reference)


def as_utf8(answer: dict[str, Any]) -> dict[str, Any]:
    """Returns the answer with the texts of its headers decoded as UTF-8, and surrogates for other bytes (PEP 383). S3
    sends Content-Disposition and the like as the bytes that it was given; botocore decodes them as ISO-8859-1."""
    texts = {name: decoded(value) for name, value in answer.items() if isinstance(value, str)}
    metadata = {decoded(name): decoded(value) for name, value in answer.get("Metadata", {}).items()}
    return answer | texts | {"Metadata": metadata}


def decoded(text: str) -> str:
    return text if text.isascii() else text.encode("iso-8859-1").decode(errors="surrogateescape")
