"""SQS and EventBridge over the AWS CRT, in AWS's JSON protocol: the frequent operations.

All other calls, and those that fail, are boto3's.
"""

from __future__ import annotations

import json
import logging
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ReadTimeoutError
from botocore.parsers import ResponseParserError

from mirror.aws.boto3_clients import Boto3Events, Boto3Sqs
from mirror.aws.endpoints import Endpoint, find_endpoint
from mirror.aws.http import CrtHttp
from mirror.aws.signing import Request
from mirror.aws.timeouts import EVENT_TIMEOUT, QUEUE_TIMEOUT
from mirror.settings import Settings

log = logging.getLogger("worker")

# SQS Developer Guide, "Making Query API requests using AWS JSON".
OF_SQS = [("Content-Type", "application/x-amz-json-1.0"), ("x-amzn-query-mode", "true")]
RECEIVE = [*OF_SQS, ("X-Amz-Target", "AmazonSQS.ReceiveMessage")]
SEND = [*OF_SQS, ("X-Amz-Target", "AmazonSQS.SendMessageBatch")]
DELETE = [*OF_SQS, ("X-Amz-Target", "AmazonSQS.DeleteMessageBatch")]
# As botocore's model has it.
PUT_EVENTS = [("Content-Type", "application/x-amz-json-1.1"), ("X-Amz-Target", "AWSEvents.PutEvents")]


class CrtSqs(Boto3Sqs):
    """boto3's client, with the three frequent operations sent over the CRT."""

    def __init__(self, session: boto3.Session, settings: Settings, http: CrtHttp) -> None:
        super().__init__(session, settings)
        self.http = http
        self.endpoint = find_endpoint("sqs", self.sqs, self.sqs.receive_message, QueueUrl=settings.queue_url)

    async def receive_message(self, **parameters: Any) -> Any:
        """A poll without an answer is not repeated: it has lasted long enough, and the loop receives again anyway."""
        timeout = parameters["WaitTimeSeconds"] + QUEUE_TIMEOUT
        answer = await call(self.http, self.endpoint, RECEIVE, parameters, timeout, raises=ReadTimeoutError)
        return await super().receive_message(**parameters) if answer is None else answer

    async def send_message_batch(self, **parameters: Any) -> Any:
        """A batch that was sent twice asks twice to look at the same keys."""
        answer = await call(self.http, self.endpoint, SEND, parameters, QUEUE_TIMEOUT)
        return await super().send_message_batch(**parameters) if answer is None else answer

    async def delete_message_batch(self, **parameters: Any) -> Any:
        answer = await call(self.http, self.endpoint, DELETE, parameters, QUEUE_TIMEOUT)
        return await super().delete_message_batch(**parameters) if answer is None else answer


class CrtEvents(Boto3Events):
    """boto3's client, with its one operation sent over the CRT."""

    def __init__(self, session: boto3.Session, settings: Settings, http: CrtHttp) -> None:
        super().__init__(session, settings)
        self.http = http
        self.endpoint = find_endpoint("events", self.events, self.events.put_events, Entries=[{}])

    async def put_events(self, **parameters: Any) -> Any:
        answer = await call(self.http, self.endpoint, PUT_EVENTS, parameters, EVENT_TIMEOUT)
        return await super().put_events(**parameters) if answer is None else answer


async def call(
    http: CrtHttp,
    endpoint: Endpoint,
    headers: list[tuple[str, str]],
    parameters: dict[str, Any],
    timeout: float,
    raises: type[Exception] | tuple[()] = (),
) -> Any:
    """Returns the answer, or None if the call failed, so that boto3 repeats it and raises its error. Only an error in
    `raises` is raised here."""
    request = Request("POST", endpoint.path, [("host", endpoint.host), *headers], json.dumps(parameters).encode())
    try:
        answer = await http.send(endpoint, request, timeout, http.keys)
        return json.loads(answer.body) if answer.status == 200 else None
    except raises:
        raise
    except (BotoCoreError, ResponseParserError, ValueError) as error:
        log.debug("a call to %s once more with boto3: %s", endpoint.url, error)
        return None
