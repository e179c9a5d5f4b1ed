"""SQS over the AWS CRT: ReceiveMessage and DeleteMessageBatch. All other calls, and those that fail, are boto3's."""

from __future__ import annotations

import logging
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ReadTimeoutError
from botocore.parsers import ResponseParserError

from mirror.aws.boto3_clients import Boto3Sqs
from mirror.aws.endpoints import queue_endpoint
from mirror.aws.http import CrtHttp
from mirror.aws.json_calls import json_answer, json_request
from mirror.aws.timeouts import QUEUE_TIMEOUT
from mirror.settings import Settings

log = logging.getLogger("worker")


class CrtSqs(Boto3Sqs):
    """boto3's client, with the two frequent operations sent over the CRT."""

    def __init__(self, session: boto3.Session, settings: Settings, http: CrtHttp) -> None:
        super().__init__(session, settings)
        self.http = http
        self.endpoint = queue_endpoint(self.sqs, settings.queue_url)

    async def receive_message(self, **parameters: Any) -> Any:
        answer = await self.send("ReceiveMessage", parameters, parameters["WaitTimeSeconds"] + QUEUE_TIMEOUT)
        return await super().receive_message(**parameters) if answer is None else answer

    async def delete_message_batch(self, **parameters: Any) -> Any:
        answer = await self.send("DeleteMessageBatch", parameters, QUEUE_TIMEOUT)
        return await super().delete_message_batch(**parameters) if answer is None else answer

    async def send(self, operation: str, parameters: dict[str, Any], timeout: float) -> Any:
        """The answer, or None if the call failed: then boto3 repeats it, and raises its error."""
        request = await json_request(self.http, self.endpoint, headers_for(operation), parameters)
        try:
            return await json_answer(self.http, self.endpoint, request, timeout)
        except ReadTimeoutError:
            if operation == "ReceiveMessage":
                raise  # it has waited for long enough, and the loop receives again anyway
            return None
        except (BotoCoreError, ResponseParserError, ValueError) as error:
            log.debug("%s once more with boto3: %s", operation, error)
            return None


def headers_for(operation: str) -> list[tuple[str, str]]:
    """SQS Developer Guide, "Making Query API requests using AWS JSON"."""
    return [
        ("Content-Type", "application/x-amz-json-1.0"),
        ("X-Amz-Target", f"AmazonSQS.{operation}"),
        ("x-amzn-query-mode", "true"),
    ]
