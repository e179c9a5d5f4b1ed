"""S3 over the AWS CRT: HeadObject, CopyObject, UploadPartCopy and DeleteObject. What is rare stays with boto3."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from typing import Any

from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import BotoCoreError, ClientError

from mirror.aws.boto3_clients import Boto3S3
from mirror.aws.endpoints import Endpoint, bucket_endpoint
from mirror.aws.http import CrtHttp
from mirror.aws.signing import SESSION_HEADER, TOKEN_HEADER, Keys, sign
from mirror.aws.threads import in_thread
from mirror.aws.timeouts import ANSWER_TIMEOUT
from mirror.aws.wire import (
    COPY_OBJECT,
    DELETE_OBJECT,
    HEAD_OBJECT,
    UPLOAD_PART_COPY,
    Operation,
    read_answer,
    request_for,
)
from mirror.errors import describe, is_busy
from mirror.settings import Settings

log = logging.getLogger("worker")

SESSION_MARGIN = 60  # seconds before a session of five minutes ends


class CrtS3:
    """See mirror.calls.S3. boto3 finds the endpoints and the credentials, and creates the S3 Express session."""

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
        self.lock = asyncio.Lock()
        self.session: Any = None
        self.session_ends = 0.0
        # The switch of botocore for servers that know no sessions.
        self.has_sessions = os.environ.get("AWS_S3_DISABLE_EXPRESS_SESSION_AUTH", "").lower() != "true"

    # Over the CRT

    async def head_object(self, **parameters: Any) -> dict[str, Any]:
        return await self.send(HEAD_OBJECT, parameters, ANSWER_TIMEOUT)

    async def copy_object(self, **parameters: Any) -> dict[str, Any]:
        return await self.send(COPY_OBJECT, parameters, self.settings.copy_timeout)

    async def delete_object(self, **parameters: Any) -> dict[str, Any]:
        return await self.send(DELETE_OBJECT, parameters, self.settings.copy_timeout)

    async def upload_part_copy(self, **parameters: Any) -> Any:
        """Once over the CRT; what S3 is too busy for is repeated by boto3, as a part may be."""
        try:
            return await self.send(UPLOAD_PART_COPY, parameters, self.settings.copy_timeout)
        except (ClientError, BotoCoreError) as error:
            if not is_busy(error):
                raise
            log.debug("a part once more with boto3: %s", describe(error))
        return await self.boto3.upload_part_copy(**parameters)

    async def send(self, operation: Operation, parameters: dict[str, Any], timeout: int) -> dict[str, Any]:
        endpoint = self.endpoints[parameters["Bucket"]]
        request = request_for(endpoint, operation.method, parameters)
        keys, token_header = await self.keys_for(endpoint, operation)
        sign(request, self.settings.region, endpoint.signing_name, keys, token_header)
        if operation.method != "HEAD":
            request.headers.append(("Content-Length", "0"))  # after signing: boto3 does not sign it
        return read_answer(operation, await self.http.send(endpoint, request, timeout))

    async def keys_for(self, endpoint: Endpoint, operation: Operation) -> tuple[Keys, str]:
        """What to sign with, and the name of the header of its token.

        Copies are signed with IAM credentials, all else on a directory bucket with those of a session (S3 User Guide,
        "Authorizing Zonal endpoint API operations with CreateSession").
        """
        if endpoint.signing_name == "s3express" and not operation.result and self.has_sessions:
            return await self.session_credentials(), SESSION_HEADER
        return await self.http.credentials(), TOKEN_HEADER

    # The session

    async def session_credentials(self, margin: float = SESSION_MARGIN) -> Any:
        """Credentials of an S3 Express session; one renews it while the others wait for that."""
        if time.time() < self.session_ends - margin:
            return self.session
        async with self.lock:
            if time.time() > self.session_ends - margin:
                bucket = self.settings.dst_bucket
                answer = await in_thread(self.boto3.quick.create_session, Bucket=bucket)
                found = answer["Credentials"]
                self.session = ReadOnlyCredentials(
                    found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"]
                )
                self.session_ends = found["Expiration"].timestamp()
            return self.session

    async def open_session(self) -> None:
        if self.has_sessions:
            await self.session_credentials()

    async def renew_session(self) -> None:
        """Early, so that no request has to wait for it."""
        if not self.session:
            return
        try:
            await self.session_credentials(2 * SESSION_MARGIN)
        except (ClientError, BotoCoreError) as error:
            log.warning("could not renew the S3 Express session yet: %s", describe(error))

    # With boto3

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
