"""S3, SQS and EventBridge over the AWS CRT: the frequent operations. Those that are rare, and those of SQS and
EventBridge that fail, are boto3's. The function's archive does not hold the CRT, so only a task imports this."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.exceptions import BotoCoreError, ReadTimeoutError
from botocore.parsers import ResponseParserError

from mirror.aws import wire
from mirror.aws.boto3_clients import OF_TASK, Boto3Events, Boto3S3, Boto3Sqs, Clients, Timeouts, make_session, once_more
from mirror.aws.http import SESSION_HEADER, TOKEN_HEADER, CrtHttp, Endpoint, Request
from mirror.aws.keys import RenewedKeys
from mirror.concurrency import in_thread
from mirror.model.errors import AWS_ERRORS, describe, is_busy, of_session
from mirror.model.log_lines import log
from mirror.settings import Settings

# SQS Developer Guide, "Making Query API requests using AWS JSON".
OF_SQS = [("Content-Type", "application/x-amz-json-1.0"), ("x-amzn-query-mode", "true")]
RECEIVE = [*OF_SQS, ("X-Amz-Target", "AmazonSQS.ReceiveMessage")]
SEND = [*OF_SQS, ("X-Amz-Target", "AmazonSQS.SendMessageBatch")]
DELETE = [*OF_SQS, ("X-Amz-Target", "AmazonSQS.DeleteMessageBatch")]
# As botocore's model has it.
PUT_EVENTS = [("Content-Type", "application/x-amz-json-1.1"), ("X-Amz-Target", "AWSEvents.PutEvents")]


class CrtS3(Boto3S3):
    """boto3's client, with the frequent operations sent over the CRT. boto3 finds the endpoints, and both use one
    session of S3 Express."""

    def __init__(self, session: boto3.Session, settings: Settings, seconds: Timeouts, http: CrtHttp) -> None:
        super().__init__(session, settings, seconds)
        self.settings = settings
        self.seconds = seconds
        self.http = http
        source, destination, client = settings.src_bucket, settings.dst_bucket, self.quick
        of_copy = {"Bucket": destination, "Key": "k", "CopySource": "b/k"}
        self.endpoints = {
            source: find_endpoint("s3", client, client.head_object, Bucket=source, Key="k"),
            destination: find_endpoint("s3express", client, client.copy_object, **of_copy),
        }
        self.short_timeout = min(settings.copy_timeout, seconds.small_copy)
        # botocore's own switch for servers that know no sessions.
        self.has_sessions = os.environ.get("AWS_S3_DISABLE_EXPRESS_SESSION_AUTH", "").lower() != "true"

    async def head_object(self, **parameters: Any) -> Any:
        return await self.send(wire.HEAD_OBJECT, parameters, self.seconds.answer)

    async def copy_object(self, is_small: bool = False, **parameters: Any) -> Any:
        timeout = self.short_timeout if is_small else self.settings.copy_timeout
        return await self.send(wire.COPY_OBJECT, parameters, timeout)

    async def delete_object(self, **parameters: Any) -> Any:
        return await self.send(wire.DELETE_OBJECT, parameters, self.short_timeout)

    async def upload_part_copy(self, is_small: bool = False, **parameters: Any) -> Any:
        """Sends it once over the CRT. If S3 is too busy, boto3 repeats it: a part may be copied twice."""
        timeout = self.short_timeout if is_small else self.settings.copy_timeout
        try:
            return await self.send(wire.UPLOAD_PART_COPY, parameters, timeout)
        except AWS_ERRORS as error:
            leave_to_boto3("a part", error)
        return await super().upload_part_copy(is_small, **parameters)

    async def list_objects_v2(self, **parameters: Any) -> Any:
        """Sends it once over the CRT. If S3 is too busy, or the answer cannot be read, boto3 repeats it."""
        try:
            return await self.send(wire.LIST_OBJECTS, parameters, self.seconds.listing)
        except AWS_ERRORS as error:
            leave_to_boto3("a page", error)
        return await super().list_objects_v2(**parameters)

    async def send(self, operation: wire.Operation, parameters: dict[str, Any], timeout: int) -> dict[str, Any]:
        """Signs copies with the role, and everything else on a directory bucket with its session (S3 User Guide,
        "Authorizing Zonal endpoint API operations with CreateSession")."""
        endpoint = self.endpoints[parameters["Bucket"]]

        async def send_with(keys: RenewedKeys, token_header: str) -> dict[str, Any]:
            request = wire.request_for(endpoint, operation.method, parameters)
            answer = await self.http.send(endpoint, request, timeout, keys, token_header)
            return wire.read_answer(operation, answer)

        is_copy = "CopySource" in parameters
        if is_copy or endpoint.signing_name != "s3express" or not self.has_sessions:
            return await send_with(self.http.keys, TOKEN_HEADER)
        return await once_more(self.session, partial(send_with, self.session, SESSION_HEADER))

    async def open_session(self) -> None:
        if self.has_sessions:
            with of_session():
                await in_thread(self.session.get_frozen_credentials)


def leave_to_boto3(what: str, error: Exception) -> None:
    """Raises the error unless S3 was too busy, or its answer cannot be read."""
    if not is_busy(error):
        raise error
    log.debug("%s once more with boto3: %s", what, describe(error))


class CrtSqs(Boto3Sqs):
    """boto3's client, with the three frequent operations sent over the CRT."""

    def __init__(self, session: boto3.Session, settings: Settings, seconds: Timeouts, http: CrtHttp) -> None:
        super().__init__(session, settings, seconds)
        self.seconds = seconds
        self.http = http
        self.endpoint = find_endpoint("sqs", self.sqs, self.sqs.receive_message, QueueUrl=settings.queue_url)

    async def receive_message(self, **parameters: Any) -> Any:
        """A poll without an answer is not repeated: it has lasted long enough, and the loop receives again anyway."""
        timeout = parameters["WaitTimeSeconds"] + self.seconds.queue
        answer = await call(self.http, self.endpoint, RECEIVE, parameters, timeout, raises=ReadTimeoutError)
        return await super().receive_message(**parameters) if answer is None else answer

    async def send_message_batch(self, **parameters: Any) -> Any:
        """A batch that was sent twice asks twice to look at the same keys."""
        answer = await call(self.http, self.endpoint, SEND, parameters, self.seconds.queue)
        return await super().send_message_batch(**parameters) if answer is None else answer

    async def delete_message_batch(self, **parameters: Any) -> Any:
        answer = await call(self.http, self.endpoint, DELETE, parameters, self.seconds.queue)
        return await super().delete_message_batch(**parameters) if answer is None else answer


class CrtEvents(Boto3Events):
    """boto3's client, with its one operation sent over the CRT."""

    def __init__(self, session: boto3.Session, settings: Settings, seconds: Timeouts, http: CrtHttp) -> None:
        super().__init__(session, settings, seconds)
        self.seconds = seconds
        self.http = http
        self.endpoint = find_endpoint("events", self.events, self.events.put_events, Entries=[{}])

    async def put_events(self, **parameters: Any) -> Any:
        answer = await call(self.http, self.endpoint, PUT_EVENTS, parameters, self.seconds.event)
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
    body = json.dumps(parameters).encode()
    request = Request("POST", endpoint.path, [("host", endpoint.host), *headers], body)
    try:
        answer = await http.send(endpoint, request, timeout, http.keys)
        return json.loads(answer.body) if answer.status == 200 else None
    except raises:
        raise
    except (BotoCoreError, ResponseParserError, ValueError) as error:
        log.debug("a call to %s once more with boto3: %s", endpoint.url, error)
        return None


def crt_clients(settings: Settings, seconds: Timeouts = OF_TASK) -> Clients:
    """To be called inside the event loop that uses them. Raises BotoCoreError if there are no credentials."""
    session = make_session()
    http = CrtHttp(settings.region, session.get_credentials(), seconds.connect)
    given = session, settings, seconds, http
    return Clients(partial(CrtS3, *given), partial(CrtSqs, *given), partial(CrtEvents, *given))


class EndpointSeen(Exception):
    """Ends a boto3 call before it is sent; its argument is the URL that boto3 chose."""


def find_endpoint(signing_name: str, client: Any, call: Callable[..., Any], **parameters: Any) -> Endpoint:
    """Where boto3 would send that call, which only boto3 knows for every Region, bucket name and environment."""

    def stop(request: Any, **_: Any) -> None:
        raise EndpointSeen(request.url)

    client.meta.events.register("before-send", stop)
    try:
        call(**parameters)
    except EndpointSeen as seen:
        url = str(seen).removesuffix(parameters.get("Key", ""))
        return Endpoint(url, urlsplit(url).netloc, urlsplit(url).path, signing_name)
    finally:
        client.meta.events.unregister("before-send", stop)
    raise AssertionError("boto3 sent a request that should have been stopped")
