"""The queue in the worker's words: receive, send, delete, extend."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from mirror.model.errors import AWS_ERRORS, describe, error_code, receipt_is_lost
from mirror.model.limits import MAX_SQS_DELAY, SQS_BATCH
from mirror.model.services import Sqs

log = logging.getLogger("worker")


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

    def __init__(self, sqs: Sqs, url: str) -> None:
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
        entries = [{"Id": str(i), "MessageBody": body, **in_group(group)} for i, body in enumerate(bodies)]
        answer = await self.sqs.send_message_batch(QueueUrl=self.url, Entries=entries)
        for failed in answer.get("Failed") or []:
            await self.send(bodies[int(failed["Id"])], group=group)

    async def delete(self, receipt_handles: list[str]) -> set[str]:
        """At most ten. Returns those that were not deleted, and may be: not those that SQS knows no longer."""
        if not receipt_handles:
            return set()
        entries = [{"Id": str(i), "ReceiptHandle": handle} for i, handle in enumerate(receipt_handles)]
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
            {"Id": str(i), "ReceiptHandle": handle, "VisibilityTimeout": seconds[handle]}
            for i, handle in enumerate(handles)
        ]
        try:
            answer = await self.sqs.change_message_visibility_batch(QueueUrl=self.url, Entries=entries)
        except AWS_ERRORS as error:
            log.warning("could not set the visibility of %d messages: %s", len(entries), describe(error))
            return dict.fromkeys(handles, error_code(error))
        return {handles[int(failed["Id"])]: str(failed.get("Code")) for failed in answer.get("Failed") or []}


def in_group(group: str) -> dict[str, str]:
    return {"MessageGroupId": group} if group else {}
