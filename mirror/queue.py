"""The queue in the worker's words: receive, send, delete, extend."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from mirror.calls import Sqs
from mirror.errors import LOST_RECEIPT_CODES, describe, error_code
from mirror.limits import MAX_SQS_DELAY, SQS_BATCH

log = logging.getLogger("worker")


@dataclass(frozen=True)
class Received:
    """A message as SQS lends it; receive_count is 1 at its first delivery."""

    body: str
    receipt_handle: str
    receive_count: int


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
            MessageSystemAttributeNames=["ApproximateReceiveCount"],
        )
        return [
            Received(item["Body"], item["ReceiptHandle"], int(item["Attributes"]["ApproximateReceiveCount"]))
            for item in answer.get("Messages") or []
        ]

    async def send(self, body: str, delay: int = 0) -> None:
        """Delayed by 15 minutes at most."""
        await self.sqs.send_message(QueueUrl=self.url, MessageBody=body, DelaySeconds=min(delay, MAX_SQS_DELAY))

    async def send_batch(self, bodies: list[str]) -> None:
        """At most ten. What SQS refuses of them is sent once more alone, which raises why."""
        entries = [{"Id": str(i), "MessageBody": body} for i, body in enumerate(bodies)]
        answer = await self.sqs.send_message_batch(QueueUrl=self.url, Entries=entries)
        for failed in answer.get("Failed") or []:
            await self.send(bodies[int(failed["Id"])])

    async def delete(self, receipt_handles: list[str]) -> set[str]:
        """At most ten. Returns those that were not deleted, and may be: not those that SQS knows no longer."""
        if not receipt_handles:
            return set()
        entries = [{"Id": str(i), "ReceiptHandle": handle} for i, handle in enumerate(receipt_handles)]
        try:
            answer = await self.sqs.delete_message_batch(QueueUrl=self.url, Entries=entries)
        except (ClientError, BotoCoreError) as error:
            log.warning("could not delete %d messages: %s", len(entries), describe(error))
            return set(receipt_handles)
        failed = answer.get("Failed") or []
        for entry in failed:
            log.warning("could not delete a message: error=%s", entry.get("Code"))
        return {receipt_handles[int(entry["Id"])] for entry in failed if entry.get("Code") not in LOST_RECEIPT_CODES}

    async def set_visibility(self, seconds: dict[str, int]) -> dict[str, str]:
        """Receipt handle -> seconds from now on, at most ten. Returns those that were refused, with the error code."""
        handles = list(seconds)
        entries: list[dict[str, Any]] = [
            {"Id": str(i), "ReceiptHandle": handle, "VisibilityTimeout": seconds[handle]}
            for i, handle in enumerate(handles)
        ]
        try:
            answer = await self.sqs.change_message_visibility_batch(QueueUrl=self.url, Entries=entries)
        except (ClientError, BotoCoreError) as error:
            log.warning("could not set the visibility of %d messages: %s", len(entries), describe(error))
            return dict.fromkeys(handles, error_code(error))
        return {handles[int(failed["Id"])]: str(failed.get("Code")) for failed in answer.get("Failed") or []}
