"""The texts of headers, as botocore and the AWS CLI show them."""

from __future__ import annotations

from typing import Any


def as_utf8(answer: dict[str, Any]) -> dict[str, Any]:
    """Returns the answer with the texts of its headers decoded as UTF-8, and surrogates for other bytes (PEP 383). S3
    sends Content-Disposition and the like as the bytes that it was given; botocore decodes them as ISO-8859-1."""
    texts = {name: decoded(value) for name, value in answer.items() if isinstance(value, str)}
    metadata = {decoded(name): decoded(value) for name, value in answer.get("Metadata", {}).items()}
    return answer | texts | {"Metadata": metadata}


def decoded(text: str) -> str:
    return text if text.isascii() else text.encode("iso-8859-1").decode(errors="surrogateescape")
