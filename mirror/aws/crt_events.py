"""EventBridge over the AWS CRT: PutEvents, at a fraction of boto3's CPU time. What fails here is boto3's."""

from __future__ import annotations

import logging
from typing import Any

from botocore.exceptions import BotoCoreError
from botocore.parsers import ResponseParserError

from mirror.aws.boto3_clients import Boto3Events
from mirror.aws.endpoints import events_endpoint
from mirror.aws.http import CrtHttp
from mirror.aws.json_calls import json_answer, json_request
from mirror.aws.timeouts import EVENT_TIMEOUT

log = logging.getLogger("worker")

# As botocore's model has it.
HEADERS = [("Content-Type", "application/x-amz-json-1.1"), ("X-Amz-Target", "AWSEvents.PutEvents")]


class CrtEvents:
    """See mirror.model.services.Events."""

    def __init__(self, http: CrtHttp, boto3: Boto3Events) -> None:
        self.http = http
        self.boto3 = boto3
        self.endpoint = events_endpoint(boto3.events)

    async def put_events(self, **parameters: Any) -> Any:
        """What is no success boto3 sends once more, and raises what it has to."""
        request = await json_request(self.http, self.endpoint, HEADERS, parameters)
        try:
            answer = await json_answer(self.http, self.endpoint, request, EVENT_TIMEOUT)
        except (BotoCoreError, ResponseParserError, ValueError) as error:
            log.debug("PutEvents once more with boto3: %s", error)
            answer = None
        return await self.boto3.put_events(**parameters) if answer is None else answer
