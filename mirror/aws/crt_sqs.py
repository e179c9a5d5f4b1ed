"""SQS over the AWS CRT: ReceiveMessage and DeleteMessageBatch. All else, and what fails here, is boto3's."""

from __future__ import annotations

import logging
from typing import Any

from botocore.exceptions import BotoCoreError, ReadTimeoutError
from botocore.parsers import ResponseParserError

from mirror.aws.boto3_clients import Boto3Sqs
from mirror.aws.endpoints import queue_endpoint
from mirror.aws.http import CrtHttp
from mirror.aws.json_calls import json_answer, json_request
from mirror.aws.timeouts import QUEUE_TIMEOUT

log = logging.getLogger("worker")


class CrtSqs:
    """See mirror.model.services.Sqs."""

    def __init__(self, http: CrtHttp, boto3: Boto3Sqs, queue_url: str) -> None:
        self.http = http
        self.boto3 = boto3
        self.endpoint = queue_endpoint(boto3.sqs, queue_url)

    async def receive_message(self, **parameters: Any) -> Any:
        answer = await self.send("ReceiveMessage", parameters, parameters["WaitTimeSeconds"] + QUEUE_TIMEOUT)
        return await self.boto3.receive_message(**parameters) if answer is None else answer

    async def delete_message_batch(self, **parameters: Any) -> Any:
        answer = await self.send("DeleteMessageBatch", parameters, QUEUE_TIMEOUT)
        return await self.boto3.delete_message_batch(**parameters) if answer is None else answer

    async def send(self, operation: str, parameters: dict[str, Any], timeout: float) -> Any:
        """The answer, None if it is no success: then boto3 repeats the call, and raises what it has to."""
        request = await json_request(self.http, self.endpoint, headers_for(operation), parameters)
        try:
            return await json_answer(self.http, self.endpoint, request, timeout)
        except ReadTimeoutError:
            if operation == "ReceiveMessage":
                raise  # it has waited for long enough, and is sent again by whoever receives
            return None
        except (BotoCoreError, ResponseParserError, ValueError) as error:
            log.debug("%s once more with boto3: %s", operation, error)
            return None

    # With boto3

    async def send_message(self, **parameters: Any) -> Any:
        return await self.boto3.send_message(**parameters)

    async def send_message_batch(self, **parameters: Any) -> Any:
        return await self.boto3.send_message_batch(**parameters)

    async def change_message_visibility_batch(self, **parameters: Any) -> Any:
        return await self.boto3.change_message_visibility_batch(**parameters)


def headers_for(operation: str) -> list[tuple[str, str]]:
    """SQS Developer Guide, "Making Query API requests using AWS JSON"."""
    return [
        ("Content-Type", "application/x-amz-json-1.0"),
        ("X-Amz-Target", f"AmazonSQS.{operation}"),
        ("x-amzn-query-mode", "true"),
    ]
