"""EventBridge over the AWS CRT: PutEvents, at a fraction of boto3's CPU time. What fails here is boto3's."""

from __future__ import annotations

import json
import logging
from typing import Any

from botocore.exceptions import BotoCoreError
from botocore.parsers import ResponseParserError

from mirror.aws.boto3_clients import Boto3Events
from mirror.aws.endpoints import Endpoint, events_endpoint
from mirror.aws.http import CrtHttp
from mirror.aws.signing import Request, sign
from mirror.aws.timeouts import EVENT_TIMEOUT

log = logging.getLogger("worker")


class CrtEvents:
    """See mirror.calls.Events."""

    def __init__(self, http: CrtHttp, boto3: Boto3Events) -> None:
        self.http = http
        self.boto3 = boto3
        self.endpoint = events_endpoint(boto3.events)

    async def put_events(self, **parameters: Any) -> Any:
        """What is no success boto3 sends once more, and raises what it has to."""
        request = events_request(self.endpoint, json.dumps(parameters).encode())
        sign(request, self.http.region, self.endpoint.signing_name, await self.http.credentials())
        request.headers.append(("Content-Length", str(len(request.body))))  # after signing: boto3 does not sign it
        try:
            answer = await self.http.send(self.endpoint, request, EVENT_TIMEOUT)
            if answer.status == 200:
                return json.loads(answer.body)
        except (BotoCoreError, ResponseParserError, ValueError) as error:
            log.debug("PutEvents once more with boto3: %s", error)
        return await self.boto3.put_events(**parameters)


def events_request(endpoint: Endpoint, body: bytes) -> Request:
    """A request in the JSON protocol of EventBridge, as botocore's model has it."""
    headers = [
        ("host", endpoint.host),
        ("Content-Type", "application/x-amz-json-1.1"),
        ("X-Amz-Target", "AWSEvents.PutEvents"),
    ]
    return Request("POST", endpoint.path, headers, body)
