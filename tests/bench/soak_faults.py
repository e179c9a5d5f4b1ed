"""What goes wrong in soak.py: a little at all times, and whole faults that come and go."""

from dataclasses import dataclass, field
from typing import Any

REFUSED = "refused"  # keys of this group are refused forever: their messages belong into the dead-letter queue

SLOW_DOWN = {"kind": "error", "status": 503, "code": "SlowDown"}
DENIED = {"kind": "error", "status": 403, "code": "AccessDenied"}
INTERNAL = {"kind": "error", "status": 500}

# Each with its probability; 0: for every request.
ALWAYS: tuple[dict[str, Any], ...] = (
    {"operation": "S3", "key": f"^{REFUSED}/", **DENIED},
    {"operation": "S3", "probability": 0.01, **SLOW_DOWN},
    {"operation": "S3", "probability": 0.002, **INTERNAL},
    {"operation": "HeadObject,CopyObject,DeleteObject", "kind": "reset", "probability": 0.002},
    {"operation": "CopyObject,DeleteObject,UploadPartCopy", "kind": "lost", "probability": 0.004},
    {"operation": "CompleteMultipartUpload", "kind": "lost", "probability": 0.05},
    {"operation": "CopyObject,UploadPartCopy", "kind": "error_in_200", "code": "InternalError", "probability": 0.002},
    {"operation": "CopyObject", "kind": "empty_200", "probability": 0.002},
    {"operation": "CopyObject,HeadObject", "kind": "hang", "probability": 0.0002},
    {"operation": "SQS", "probability": 0.005, **INTERNAL},
    {"operation": "ReceiveMessage,DeleteMessageBatch", "kind": "lost", "probability": 0.002},
)


@dataclass(frozen=True)
class Event:
    """Lasts this many seconds, with these faults; `action` is a method of Soak."""

    name: str
    seconds: float = 0.0
    faults: tuple[dict[str, Any], ...] = field(default=())
    action: str = ""


EVENTS = (
    Event("SIGKILL", action="kill_worker"),
    Event("SIGKILL of a child", action="kill_a_child"),
    Event("SIGTERM", action="stop_worker"),
    Event("sessions end", action="end_sessions"),
    Event("keys end", action="end_keys"),
    Event("connections forgotten", action="freeze"),
    Event("403 to everything", 12, ({"operation": "S3", **DENIED},)),
    Event("503 to a prefix", 12, ({"operation": "S3", "key": "^cold/1", **SLOW_DOWN},)),
    Event("500 requests a second", 12, ({"operation": "S3", "rate": 500.0, **SLOW_DOWN},)),
    Event("copies do not answer", 8, ({"operation": "CopyObject", "kind": "hang", "probability": 0.1},)),
    Event("CreateSession does not answer", 20, ({"operation": "CreateSession", "kind": "hang"},)),
    Event("no credentials: 500", 20, ({"operation": "GetCredentials", **INTERNAL},)),
    Event("no credentials: no answer", 20, ({"operation": "GetCredentials", "kind": "hang"},)),
    Event("SQS does not answer", 8, ({"operation": "SQS", "kind": "hang"},)),
    Event("SIGTERM, SQS does not answer", 8, ({"operation": "SQS", "kind": "hang"},), action="stop_worker"),
)
