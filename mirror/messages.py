"""The bodies of messages: what an S3 event asks for, and those that we write ourselves."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote_plus, unquote_plus

from mirror.parts import Upload
from mirror.settings import Settings

# eventSource and eventName of a message of ours, by what is known of the destination.
OF_MISSING = "sync", "Missing"
OF_ANY = "sync", "Look"


@dataclass
class Content:
    """What a message asks for: keys of the source bucket inside the prefix; none for an s3:TestEvent."""

    keys: set[str] = field(default_factory=set)
    uploads: dict[str, Upload] = field(default_factory=dict)  # key -> upload to go on with
    tries: int = 0  # so many workers gave up on it and handed it on
    event_time: float | None = None  # seconds since the epoch, of the newest event in it
    destination_first: bool = False  # its keys are probably in the destination already


def read_body(text: str, settings: Settings) -> Content:
    """Raises ValueError if the body is no S3 event (S3 User Guide, "Event message structure")."""
    content = Content()
    try:
        body = json.loads(text)
        if body.get("Event") == "s3:TestEvent":
            return content
        for record in body["Records"]:
            read_record(content, record, settings)
        ours = body.get("sync", {})
        content.uploads = {key: Upload(**upload) for key, upload in ours.get("uploads", {}).items()}
        content.tries = int(ours.get("tries", 0))
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"not an S3 event ({type(error).__name__}: {error}): {text[:200]!r}") from error
    return content


def read_record(content: Content, record: dict[str, Any], settings: Settings) -> None:
    """Keys arrive form-urlencoded: a space is "+"."""
    key = unquote_plus(record["s3"]["object"]["key"])
    if record["s3"]["bucket"]["name"] != settings.src_bucket or not key.startswith(settings.prefix_filter):
        return
    content.keys.add(key)
    content.destination_first = content.destination_first or not is_probably_new(record)
    if record.get("eventTime"):
        event_time = datetime.fromisoformat(record["eventTime"].replace("Z", "+00:00")).timestamp()
        content.event_time = max(content.event_time or 0.0, event_time)


def is_probably_new(record: dict[str, Any]) -> bool:
    """Whether the destination need not be looked at first. If it has the key after all, the first write is refused."""
    event = record.get("eventSource"), record.get("eventName", "")
    return event == OF_MISSING or (event[0] == "aws:s3" and event[1].startswith("ObjectCreated"))


def hint_body(bucket: str, keys: Iterable[str], are_missing: bool = False) -> str:
    """A message in the shape of an S3 event that asks to look at keys, as the worker and the operator send it.

    `are_missing`: the destination had none of them.
    """
    source, name = OF_MISSING if are_missing else OF_ANY
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    records = [
        {
            "eventSource": source,
            "eventName": name,
            "eventTime": now,
            "s3": {"bucket": {"name": bucket}, "object": {"key": quote_plus(key)}},
        }
        for key in keys
    ]
    return json.dumps({"Records": records})


def handed_back_body(text: str, uploads: dict[str, Upload], tries: int) -> str:
    """The message once more, with the uploads to go on with and the count of tries."""
    body = json.loads(text)
    body["sync"] = {"uploads": {key: asdict(upload) for key, upload in uploads.items()}, "tries": tries}
    return json.dumps(body)
