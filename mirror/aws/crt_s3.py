"""S3 over the AWS CRT: HeadObject, CopyObject, UploadPartCopy and DeleteObject. What is rare stays with boto3."""

from __future__ import annotations

import functools
import logging
import os
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from mirror.aws.boto3_clients import Boto3S3, once_more
from mirror.aws.endpoints import Endpoint, bucket_endpoint
from mirror.aws.http import CrtHttp, valid_keys
from mirror.aws.keys import Keys
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


class CrtS3:
    """See mirror.model.services.S3. boto3 finds the endpoints, and shares its S3 Express session."""

    def __init__(self, settings: Settings, http: CrtHttp, boto3: Boto3S3) -> None:
        self.settings = settings
        self.http = http
        self.boto3 = boto3
        client = boto3.quick
        self.endpoints = {
            settings.src_bucket: bucket_endpoint(client, client.head_object, settings.src_bucket, "s3"),
            settings.dst_bucket: bucket_endpoint(
                client, client.copy_object, settings.dst_bucket, "s3express", CopySource="b/k"
            ),
        }
        self.session = boto3.session
        self.short_timeout = min(settings.copy_timeout, SMALL_COPY_TIMEOUT)
        # The switch of botocore for servers that know no sessions.
        self.has_sessions = os.environ.get("AWS_S3_DISABLE_EXPRESS_SESSION_AUTH", "").lower() != "true"

    # Over the CRT

    async def head_object(self, **parameters: Any) -> Any:
        """With boto3 if the CRT cannot read the answer: it knows only headers in UTF-8."""
        try:
            return await self.send(HEAD_OBJECT, parameters, ANSWER_TIMEOUT)
        except ResponseParserError as error:
            log.debug("once more with boto3: %s", error)
        return await self.boto3.head_object(**parameters)

    async def copy_object(self, is_small: bool = False, **parameters: Any) -> dict[str, Any]:
        return await self.send(COPY_OBJECT, parameters, self.copy_timeout(is_small))

    async def delete_object(self, **parameters: Any) -> dict[str, Any]:
        return await self.send(DELETE_OBJECT, parameters, self.short_timeout)

    async def upload_part_copy(self, is_small: bool = False, **parameters: Any) -> Any:
        """Once over the CRT; what S3 is too busy for is repeated by boto3, as a part may be."""
        try:
            return await self.send(UPLOAD_PART_COPY, parameters, self.copy_timeout(is_small))
        except (ClientError, BotoCoreError) as error:
            if not is_busy(error):
                raise
            log.debug("a part once more with boto3: %s", describe(error))
        return await self.boto3.upload_part_copy(is_small, **parameters)

    def copy_timeout(self, is_small: bool) -> int:
        return self.short_timeout if is_small else self.settings.copy_timeout

    async def send(self, operation: Operation, parameters: dict[str, Any], timeout: int) -> dict[str, Any]:
        endpoint = self.endpoints[parameters["Bucket"]]
        send = functools.partial(self.send_once, endpoint, operation, parameters, timeout)
        return await (once_more(self.session, send) if self.needs_session(endpoint, operation) else send())

    async def send_once(
        self, endpoint: Endpoint, operation: Operation, parameters: dict[str, Any], timeout: int
    ) -> dict[str, Any]:
        request = request_for(endpoint, operation.method, parameters)
        keys, token_header = await self.keys_for(endpoint, operation)
        sign(request, self.settings.region, endpoint.signing_name, keys, token_header)
        if operation.method != "HEAD":
            request.headers.append(("Content-Length", "0"))  # after signing: boto3 does not sign it
        return read_answer(operation, await self.http.send(endpoint, request, timeout))

    def needs_session(self, endpoint: Endpoint, operation: Operation) -> bool:
        """Copies are signed with IAM credentials, all else on a directory bucket with a session (S3 User Guide,
        "Authorizing Zonal endpoint API operations with CreateSession").
        """
        return endpoint.signing_name == "s3express" and not operation.result and self.has_sessions

    async def keys_for(self, endpoint: Endpoint, operation: Operation) -> tuple[Keys, str]:
        """What to sign with, and the name of the header of its token."""
        if self.needs_session(endpoint, operation):
            return await valid_keys(self.session), SESSION_HEADER
        return await self.http.credentials(), TOKEN_HEADER

    # The session

    async def open_session(self) -> None:
        if self.has_sessions:
            await valid_keys(self.session)

    async def renew_session(self) -> None:
        """In a thread of its own, so that no request has to wait for it."""
        self.session.valid()

    # With boto3

    async def get_object(self, **parameters: Any) -> Any:
        return await self.boto3.get_object(**parameters)

    async def create_multipart_upload(self, **parameters: Any) -> Any:
        return await self.boto3.create_multipart_upload(**parameters)

    async def complete_multipart_upload(self, **parameters: Any) -> Any:
        return await self.boto3.complete_multipart_upload(**parameters)

    async def abort_multipart_upload(self, **parameters: Any) -> Any:
        return await self.boto3.abort_multipart_upload(**parameters)

    async def list_parts(self, **parameters: Any) -> Any:
        return await self.boto3.list_parts(**parameters)

    async def list_multipart_uploads(self, **parameters: Any) -> Any:
        return await self.boto3.list_multipart_uploads(**parameters)

    async def list_objects_v2(self, **parameters: Any) -> Any:
        return await self.boto3.list_objects_v2(**parameters)
