"""EventBridge over the AWS CRT: PutEvents, at a fraction of boto3's CPU time. Calls that fail are boto3's."""

from __future__ import annotations

import logging
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError
from botocore.parsers import ResponseParserError

from mirror.aws.boto3_clients import Boto3Events
from mirror.aws.endpoints import events_endpoint
from mirror.aws.http import CrtHttp
from mirror.aws.json_calls import json_answer, json_request
from mirror.aws.timeouts import EVENT_TIMEOUT
from mirror.settings import Settings

log = logging.getLogger("worker")

# As botocore's model has it.
HEADERS = [("Content-Type", "application/x-amz-json-1.1"), ("X-Amz-Target", "AWSEvents.PutEvents")]


class CrtEvents(Boto3Events):
    """boto3's client, with its one operation sent over the CRT."""

    def __init__(self, session: boto3.Session, settings: Settings, http: CrtHttp) -> None:
        super().__init__(session, settings)
        self.http = http
        self.endpoint = events_endpoint(self.events)

    async def put_events(self, **parameters: Any) -> Any:
        """A call that fails is sent once more by boto3, which raises its error."""
        request = await json_request(self.http, self.endpoint, HEADERS, parameters)
        try:
            answer = await json_answer(self.http, self.endpoint, request, EVENT_TIMEOUT)
        except (BotoCoreError, ResponseParserError, ValueError) as error:
            log.debug("PutEvents once more with boto3: %s", error)
            answer = None
        return await super().put_events(**parameters) if answer is None else answer
