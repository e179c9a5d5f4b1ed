"""The default event bus of the stand-in: PutEvents over the AWS JSON protocol.

What it was given is kept, with what the bucket that is looked at held then. There are no rules and no targets.
"""

import json
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from standin_sqs import SQSError
from standin_store import Bucket, Request

TARGET = "AWSEvents."
MAX_ENTRIES = 10
MAX_BYTES = 1024**2  # of all entries together
PROVENANCE = "x-amz-meta-sync-source"


@dataclass
class Event:
    """`here`: what the object under the event's key says it is a copy of, when the event came: None if there was none,
    "" if it does not say."""

    id: str
    source: str
    detail_type: str
    detail: dict[str, Any]
    here: str | None = None


@dataclass
class Refusal:
    pattern: str
    times: int = 1  # 0: always
    used: int = 0

    def applies(self, detail: str) -> bool:
        if not re.search(self.pattern, detail) or (self.times and self.used >= self.times):
            return False
        self.used += 1
        return True


@dataclass
class Bus:
    events: list[Event] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    looked_at: Bucket | None = None


def put_events(bus: Bus, arguments: dict[str, Any]) -> dict[str, Any]:
    entries = arguments.get("Entries", [])
    if not 1 <= len(entries) <= MAX_ENTRIES or sum(map(size_of, entries)) > MAX_BYTES:
        raise SQSError("ValidationException")
    results = [put_one(bus, entry) for entry in entries]
    return {"FailedEntryCount": sum("ErrorCode" in result for result in results), "Entries": results}


def size_of(entry: dict[str, Any]) -> int:
    """Amazon EventBridge User Guide, "Calculating PutEvents event entry size"."""
    texts = [entry.get(name, "") for name in ("Source", "DetailType", "Detail")] + entry.get("Resources", [])
    return sum(len(text.encode()) for text in texts) + (14 if "Time" in entry else 0)


def put_one(bus: Bus, entry: dict[str, Any]) -> dict[str, Any]:
    if any(refusal.applies(entry["Detail"]) for refusal in bus.refusals):
        return {"ErrorCode": "InternalFailure", "ErrorMessage": "planted by a test"}
    detail = json.loads(entry["Detail"])
    event = Event(str(uuid.uuid4()), entry["Source"], entry["DetailType"], detail, look(bus, detail.get("key", "")))
    bus.events.append(event)
    return {"EventId": event.id}


def look(bus: Bus, key: str) -> str | None:
    found = bus.looked_at.current(key) if bus.looked_at else None
    return found.headers.get(PROVENANCE, "") if found else None


def is_for_bus(request: Request) -> bool:
    return request.headers.get("x-amz-target", "").startswith(TARGET)


def operation_of(request: Request) -> tuple[str, Callable]:
    name = request.headers["x-amz-target"].removeprefix(TARGET)
    return name, put_events if name == "PutEvents" else unsupported


def unsupported(_bus: Bus, _arguments: dict[str, Any]) -> dict[str, Any]:
    raise SQSError("UnknownOperationException", "The stand-in does not have this action.")
