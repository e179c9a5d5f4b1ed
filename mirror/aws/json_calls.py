"""Calls in AWS's JSON protocol over the AWS CRT: SQS and EventBridge."""

from __future__ import annotations

import json
from typing import Any

from mirror.aws.endpoints import Endpoint
from mirror.aws.http import CrtHttp, valid_keys
from mirror.aws.signing import Request, sign


async def json_request(
    http: CrtHttp, endpoint: Endpoint, headers: list[tuple[str, str]], parameters: dict[str, Any]
) -> Request:
    """A signed request. `headers`: those that the service needs beside the host."""
    body = json.dumps(parameters).encode()
    request = Request("POST", endpoint.path, [("host", endpoint.host), *headers], body)
    sign(request, http.region, endpoint.signing_name, await valid_keys(http.keys))
    request.headers.append(("Content-Length", str(len(body))))  # after signing: boto3 does not sign it
    return request


async def json_answer(http: CrtHttp, endpoint: Endpoint, request: Request, timeout: float) -> Any:
    """The answer, or None if the service refused the call. Raises BotoCoreError, ResponseParserError and ValueError."""
    answer = await http.send(endpoint, request, timeout)
    return json.loads(answer.body) if answer.status == 200 else None
