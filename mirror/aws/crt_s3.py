"""S3 over the AWS CRT: HeadObject, CopyObject, UploadPartCopy and DeleteObject. Requests that are rare stay boto3's."""

from __future__ import annotations

import functools
import logging
import os
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from mirror.aws.boto3_clients import Boto3S3, once_more
from mirror.aws.endpoints import Endpoint, bucket_endpoint
from mirror.aws.http import CrtHttp, valid_keys
from mirror.aws.keys import RenewedKeys
from mirror.aws.signing import SESSION_HEADER, TOKEN_HEADER, sign
from mirror.aws.timeouts import ANSWER_TIMEOUT, SMALL_COPY_TIMEOUT
from mirror.aws.wire import (
    COPY_OBJECT,
    DELETE_OBJECT,
    HEAD_OBJECT,
    UPLOAD_PART_COPY,
    Operation,
    read_answer,
    request_for,
)
from mirror.model.errors import describe, is_busy
from mirror.settings import Settings

log = logging.getLogger("worker")


class CrtS3(Boto3S3):
    """boto3's client, with the four frequent operations sent over the CRT. boto3 finds the endpoints, and both use one
    session of S3 Express."""

    def __init__(self, session: boto3.Session, settings: Settings, http: CrtHttp) -> None:
        super().__init__(session, settings)
        self.settings = settings
        self.http = http
        source, destination, client = settings.src_bucket, settings.dst_bucket, self.quick
        self.endpoints = {
            source: bucket_endpoint(client, client.head_object, source, "s3"),
            destination: bucket_endpoint(client, client.copy_object, destination, "s3express", CopySource="b/k"),
        }
        self.short_timeout = min(settings.copy_timeout, SMALL_COPY_TIMEOUT)
        # botocore's own switch for servers that know no sessions.
        self.has_sessions = os.environ.get("AWS_S3_DISABLE_EXPRESS_SESSION_AUTH", "").lower() != "true"

    async def head_object(self, **parameters: Any) -> Any:
        """Falls back on boto3 for an answer that the CRT cannot read, as the CRT knows only headers in UTF-8."""
        try:
            return await self.send(HEAD_OBJECT, parameters, ANSWER_TIMEOUT)
        except ResponseParserError as error:
            log.debug("once more with boto3: %s", error)
        return await super().head_object(**parameters)

    async def copy_object(self, is_small: bool = False, **parameters: Any) -> Any:
        return await self.send(COPY_OBJECT, parameters, self.copy_timeout(is_small))

    async def delete_object(self, **parameters: Any) -> Any:
        return await self.send(DELETE_OBJECT, parameters, self.short_timeout)

    async def upload_part_copy(self, is_small: bool = False, **parameters: Any) -> Any:
        """Sends it once over the CRT. If S3 is too busy, boto3 repeats it, as a part may be copied twice."""
        try:
            return await self.send(UPLOAD_PART_COPY, parameters, self.copy_timeout(is_small))
        except (ClientError, BotoCoreError) as error:
            if not is_busy(error):
                raise
            log.debug("a part once more with boto3: %s", describe(error))
        return await super().upload_part_copy(is_small, **parameters)

    def copy_timeout(self, is_small: bool) -> int:
        return self.short_timeout if is_small else self.settings.copy_timeout

    async def send(self, operation: Operation, parameters: dict[str, Any], timeout: int) -> dict[str, Any]:
        """Signs copies with the role, and all else on a directory bucket with its session (S3 User Guide, "Authorizing
        Zonal endpoint API operations with CreateSession")."""
        endpoint = self.endpoints[parameters["Bucket"]]
        send = functools.partial(self.send_once, endpoint, operation, parameters, timeout)
        is_copy = bool(operation.result)
        if is_copy or endpoint.signing_name != "s3express" or not self.has_sessions:
            return await send(self.http.keys, TOKEN_HEADER)
        return await once_more(self.session, functools.partial(send, self.session, SESSION_HEADER))

    async def send_once(
        self,
        endpoint: Endpoint,
        operation: Operation,
        parameters: dict[str, Any],
        timeout: int,
        keys: RenewedKeys,
        token_header: str,
    ) -> dict[str, Any]:
        request = request_for(endpoint, operation.method, parameters)
        sign(request, self.settings.region, endpoint.signing_name, await valid_keys(keys), token_header)
        if operation.method != "HEAD":
            request.headers.append(("Content-Length", "0"))  # after signing: boto3 does not sign it
        return read_answer(operation, await self.http.send(endpoint, request, timeout))

    async def open_session(self) -> None:
        if self.has_sessions:
            await valid_keys(self.session)
