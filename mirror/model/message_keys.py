"""The keys that a message names, for a worker and for an operator who looks at the dead-letter queue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_plus

OF_EVENTBRIDGE = "aws.s3"  # the source of its events


def key_of_record(record: Mapping[str, Any]) -> str:
    """Of S3's own notification, which has it form-urlencoded: a space is "+"."""
    return unquote_plus(record["s3"]["object"]["key"])


def keys_of(body: Any) -> list[str]:
    """Of the JSON of a message. Raises what reading another shape raises."""
    if body.get("source") == OF_EVENTBRIDGE:
        return [body["detail"]["object"]["key"]]
    return [key_of_record(record) for record in body["Records"]]
