"""S3: its events for EventBridge as S3 writes them (S3 User Guide, "EventBridge event message structure")."""

from __future__ import annotations

import json
import uuid
from contextvars import ContextVar

from ministack.services import eventbridge, s3

from gaps.replace import replaces

# What ministack knows of the event and leaves out: version_id, restore_event_data.
known = ContextVar("known")


@replaces(s3, "_fire_s3_event")
def fire(original, *event, **options):
    """Keep what complete() needs for the event."""
    known.set(options)
    return original(*event, **options)


@replaces(eventbridge, "_dispatch_event")
def dispatch(original, event, view=None):
    """Hand on S3's events completed, all others as they are."""
    return original(complete(event), view) if event["Source"] == "aws.s3" and view is None else original(event, view)


def complete(event):
    """Return an event of S3 with its version, without what S3 leaves out, and with its time in whole seconds."""
    detail, options = json.loads(event["Detail"]), known.get()
    told = detail["object"]
    if options.get("version_id"):
        told["version-id"] = options["version_id"]
    if event["DetailType"] == "Object Deleted":
        del told["size"], told["etag"]  # a delete marker has one on AWS, a deleted object has none
    if not options.get("sequencer"):
        del told["sequencer"]
    if restored := options.get("restore_event_data"):
        detail["restore-expiry-time"] = restored["lifecycleRestorationExpiryTime"]
        detail["source-storage-class"] = restored["lifecycleRestoreStorageClass"]
        detail["requester"] = "s3.amazonaws.com"
        del detail["source-ip-address"]
    time = event["Time"].partition(".")[0].rstrip("Z") + "Z"
    return {**event, "EventId": str(uuid.uuid4()), "Time": time, "Detail": json.dumps(detail)}
