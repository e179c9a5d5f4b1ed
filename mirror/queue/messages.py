"""The messages of the queue: receive, send, delete, extend; what one asks for, and those that we write ourselves."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import quote_plus

from botocore.exceptions import ClientError

from mirror.aws.boto3_clients import Boto3Sqs
from mirror.model.errors import AWS_ERRORS, describe, error_code, receipt_is_lost
from mirror.model.log_lines import log
from mirror.model.message_keys import key_of_record
from mirror.model.services import MAX_SQS_DELAY, SQS_BATCH
from mirror.protocol.attempt import LONGEST_WAIT, Upload
from mirror.settings import Settings

# eventSource and eventName of a message of ours, by what is known of the destination.
OF_MISSING = "sync", "Missing"
OF_ANY = "sync", "Look"
OF_CORRUPT = "sync", "Compare"  # of which checksums have shown that they are not what they say they are
OF_GHOST = "sync", "Ghost"  # which only the destination has, as copies of ours


@dataclass
class Content:
    """What a message asks for: keys of the source bucket inside the prefix; none for an s3:TestEvent."""

    keys: set[str] = field(default_factory=set)
    uploads: dict[str, Upload] = field(default_factory=dict)  # key -> upload to go on with
    tries: int = 0  # how many workers gave up on it, and handed it on
    event_time: float | None = None  # seconds since the epoch, of the newest event in it
    is_event: bool = False  # of S3, with the time of a change; a hint of ours has that of its sending
    destination_first: bool = False  # its keys are probably in the destination already
    compares_bytes: bool = False  # their checksums are to be compared
    are_ghosts: bool = False  # only copies of ours are to be deleted; not known any more once it was handed back
    waiting_since: float | None = None  # seconds since the epoch, when it was first put off as it waits for others


class Event(NamedTuple):
    """What both forms of an S3 event say."""

    bucket: str
    key: str
    time: str | None
    is_of_s3: bool
    is_probably_new: bool  # the destination need not be looked at first; if it has the key, the first write is refused
    is_probably_corrupt: bool = False
    is_ghost: bool = False


def read_body(text: str, settings: Settings, sent_at: float = 0.0) -> Content:
    """Raises ValueError if the body is no S3 event, neither one of S3's own notifications nor one of EventBridge's."""
    content = Content()
    try:
        body = json.loads(text)
        if body.get("Event") == "s3:TestEvent":
            return content
        for event in events_of(body):
            if event.bucket != settings.src_bucket or not settings.wanted.takes(event.key):
                continue
            content.keys.add(event.key)
            content.destination_first = content.destination_first or not event.is_probably_new
            content.compares_bytes = content.compares_bytes or event.is_probably_corrupt
            content.is_event = event.is_of_s3
            content.are_ghosts = event.is_ghost
            if event.time:
                event_time = datetime.fromisoformat(event.time).timestamp()
                content.event_time = max(content.event_time or 0.0, event_time)
        ours = body.get("sync", {})
        # A worker that handed it back may have begun a copy, if the source had the key by then.
        content.are_ghosts = content.are_ghosts and not ours
        content.uploads = {key: Upload(**upload) for key, upload in ours.get("uploads", {}).items()}
        content.tries = int(ours.get("tries", 0))
        since = float(ours.get("since", -math.inf))
        if sent_at < since + LONGEST_WAIT:  # otherwise it was in the dead-letter queue, and its wait starts again
            content.waiting_since = since
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"not an S3 event ({type(error).__name__}: {error}): {text[:200]!r}") from error
    return content


def events_of(body: dict[str, Any]) -> Iterator[Event]:
    """S3 User Guide, "Event message structure" and "EventBridge event message structure"."""
    if body.get("source") == "aws.s3":
        detail = body["detail"]
        yield Event(
            bucket=detail["bucket"]["name"],
            key=detail["object"]["key"],
            time=body.get("time"),
            is_of_s3=True,
            is_probably_new=body["detail-type"] == "Object Created",
        )
        return
    for record in body["Records"]:
        source, name = record.get("eventSource"), record.get("eventName", "")
        is_of_s3, what = source == "aws:s3", (source, name)
        yield Event(
            bucket=record["s3"]["bucket"]["name"],
            key=key_of_record(record),
            time=record.get("eventTime"),
            is_of_s3=is_of_s3,
            is_probably_new=what == OF_MISSING or (is_of_s3 and name.startswith("ObjectCreated")),
            is_probably_corrupt=what == OF_CORRUPT,
            is_ghost=what == OF_GHOST,
        )


def hint_body(bucket: str, keys: Iterable[str], what: tuple[str, str] = OF_ANY) -> str:
    """A message in the shape of an S3 event that asks to look at keys, as the worker and the operator send it. `what`
    is known of all of them: OF_MISSING, OF_CORRUPT, OF_GHOST."""
    source, name = what
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


def handed_back_body(text: str, uploads: dict[str, Upload], tries: int, waiting_since: float | None = None) -> str:
    """The message once more, with the uploads to continue, the number of attempts and, if it waits, since when."""
    ours: dict[str, Any] = {"uploads": {key: asdict(upload) for key, upload in uploads.items()}, "tries": tries}
    if waiting_since is not None:
        ours["since"] = waiting_since
    return json.dumps(json.loads(text) | {"sync": ours})


# --- The queue --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Received:
    """A message as SQS lends it; receive_count is 1 at its first delivery."""

    body: str
    receipt_handle: str
    receive_count: int
    group: str = ""  # see Queue.send
    sent_at: float = 0.0  # seconds since the epoch; of one that came back from the dead-letter queue, when it did


class Queue:
    """One SQS queue. Times are whole seconds."""

    def __init__(self, sqs: Boto3Sqs, url: str) -> None:
        self.sqs = sqs
        self.url = url

    async def receive(self, wait: int, visibility_timeout: int) -> list[Received]:
        """Up to ten messages, of which the first may take `wait` seconds to come."""
        answer = await self.sqs.receive_message(
            QueueUrl=self.url,
            MaxNumberOfMessages=SQS_BATCH,
            WaitTimeSeconds=wait,
            VisibilityTimeout=visibility_timeout,
            MessageSystemAttributeNames=["ApproximateReceiveCount", "MessageGroupId", "SentTimestamp"],
        )
        messages = []
        for item in answer.get("Messages") or []:
            attributes = item["Attributes"]
            count = int(attributes["ApproximateReceiveCount"])
            sent_at = int(attributes.get("SentTimestamp", 0)) / 1000
            group = attributes.get("MessageGroupId", "")
            messages.append(Received(item["Body"], item["ReceiptHandle"], count, group, sent_at))
        return messages

    async def send(self, body: str, delay: int = 0, group: str = "") -> None:
        """Delayed by 15 minutes at most. While many messages of one group wait, those of no group, which S3's events
        are, go first (SQS Developer Guide, "Amazon SQS fair queues")."""
        message = {"QueueUrl": self.url, "MessageBody": body, "DelaySeconds": min(delay, MAX_SQS_DELAY)}
        try:
            await self.sqs.send_message(**message, **in_group(group))
        except ClientError as error:
            # Nothing says that a group and a delay go together, and where there are no fair queues a group is refused.
            if not group or error_code(error) != "InvalidParameterValue":
                raise
            log.debug("sending without group=%s: %s", group, describe(error))
            await self.sqs.send_message(**message)

    async def send_batch(self, bodies: list[str], group: str = "") -> None:
        """At most ten. What SQS refuses of them is sent once more alone, which raises why."""
        message = in_group(group)
        entries = [{"Id": str(number), "MessageBody": body, **message} for number, body in enumerate(bodies)]
        answer = await self.sqs.send_message_batch(QueueUrl=self.url, Entries=entries)
        for failed in answer.get("Failed") or []:
            await self.send(bodies[int(failed["Id"])], group=group)

    async def delete(self, receipt_handles: list[str]) -> set[str]:
        """At most ten. Returns those that were not deleted, and may be: not those that SQS knows no longer."""
        if not receipt_handles:
            return set()
        entries = [{"Id": str(number), "ReceiptHandle": handle} for number, handle in enumerate(receipt_handles)]
        try:
            answer = await self.sqs.delete_message_batch(QueueUrl=self.url, Entries=entries)
        except AWS_ERRORS as error:
            log.warning("could not delete %d messages: %s", len(entries), describe(error))
            return set(receipt_handles)
        failed = answer.get("Failed") or []
        for entry in failed:
            log.warning("could not delete a message: error=%s", entry.get("Code"))
        return {receipt_handles[int(entry["Id"])] for entry in failed if not receipt_is_lost(entry.get("Code", ""))}

    async def set_visibility(self, seconds: dict[str, int]) -> dict[str, str]:
        """Receipt handle -> seconds from now on, at most ten. Returns those that were refused, with the error code."""
        handles = list(seconds)
        entries: list[dict[str, Any]] = [
            {"Id": str(number), "ReceiptHandle": handle, "VisibilityTimeout": seconds[handle]}
            for number, handle in enumerate(handles)
        ]
        try:
            answer = await self.sqs.change_message_visibility_batch(QueueUrl=self.url, Entries=entries)
        except AWS_ERRORS as error:
            log.warning("could not set the visibility of %d messages: %s", len(entries), describe(error))
            return dict.fromkeys(handles, error_code(error))
        return {handles[int(failed["Id"])]: str(failed.get("Code")) for failed in answer.get("Failed") or []}


def in_group(group: str) -> dict[str, str]:
    return {"MessageGroupId": group} if group else {}
