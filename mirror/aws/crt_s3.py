"""S3 over the AWS CRT: the frequent operations. Requests that are rare stay boto3's."""

from __future__ import annotations

import logging
import os
from typing import Any

import boto3

from mirror.aws.boto3_clients import Boto3S3, once_more
from mirror.aws.endpoints import find_endpoint
from mirror.aws.http import CrtHttp
from mirror.aws.signing import SESSION_HEADER, TOKEN_HEADER
from mirror.aws.timeouts import ANSWER_TIMEOUT, LISTING_TIMEOUT, SMALL_COPY_TIMEOUT
from mirror.aws.wire import (
    COPY_OBJECT,
    DELETE_OBJECT,
    HEAD_OBJECT,
    LIST_OBJECTS,
    UPLOAD_PART_COPY,
    Operation,
    read_answer,
    request_for,
)
from mirror.concurrency import in_thread
from mirror.model.errors import AWS_ERRORS, describe, is_busy, of_session
from mirror.settings import Settings

log = logging.getLogger("worker")


class CrtS3(Boto3S3):
    """boto3's client, with the frequent operations sent over the CRT. boto3 finds the endpoints, and both use one
    session of S3 Express."""

    def __init__(self, session: boto3.Session, settings: Settings, http: CrtHttp) -> None:
        super().__init__(session, settings)
        self.settings = settings
        self.http = http
        source, destination, client = settings.src_bucket, settings.dst_bucket, self.quick
        of_copy = {"Bucket": destination, "Key": "k", "CopySource": "b/k"}
        self.endpoints = {
            source: find_endpoint("s3", client, client.head_object, Bucket=source, Key="k"),
            destination: find_endpoint("s3express", client, client.copy_object, **of_copy),
        }
        self.short_timeout = min(settings.copy_timeout, SMALL_COPY_TIMEOUT)
        # botocore's own switch for servers that know no sessions.
        self.has_sessions = os.environ.get("AWS_S3_DISABLE_EXPRESS_SESSION_AUTH", "").lower() != "true"

    async def head_object(self, **parameters: Any) -> Any:
        return await self.send(HEAD_OBJECT, parameters, ANSWER_TIMEOUT)

    async def copy_object(self, is_small: bool = False, **parameters: Any) -> Any:
        timeout = self.short_timeout if is_small else self.settings.copy_timeout
        return await self.send(COPY_OBJECT, parameters, timeout)

    async def delete_object(self, **parameters: Any) -> Any:
        return await self.send(DELETE_OBJECT, parameters, self.short_timeout)

    async def upload_part_copy(self, is_small: bool = False, **parameters: Any) -> Any:
        """Sends it once over the CRT. If S3 is too busy, boto3 repeats it, as a part may be copied twice."""
        timeout = self.short_timeout if is_small else self.settings.copy_timeout
        try:
            return await self.send(UPLOAD_PART_COPY, parameters, timeout)
        except AWS_ERRORS as error:
            if not is_busy(error):
                raise
            log.debug("a part once more with boto3: %s", describe(error))
        return await super().upload_part_copy(is_small, **parameters)

    async def list_objects_v2(self, **parameters: Any) -> Any:
        """Sends it once over the CRT. If S3 is too busy, or the answer cannot be read, boto3 repeats it."""
        try:
            return await self.send(LIST_OBJECTS, parameters, LISTING_TIMEOUT)
        except AWS_ERRORS as error:
            if not is_busy(error):
                raise
            log.debug("a page once more with boto3: %s", describe(error))
        return await super().list_objects_v2(**parameters)

    async def send(self, operation: Operation, parameters: dict[str, Any], timeout: int) -> dict[str, Any]:
        """Signs copies with the role, and everything else on a directory bucket with its session (S3 User Guide,
        "Authorizing Zonal endpoint API operations with CreateSession")."""
        endpoint = self.endpoints[parameters["Bucket"]]
        is_copy = "CopySource" in parameters
        with_role = is_copy or endpoint.signing_name != "s3express" or not self.has_sessions
        keys, token_header = (self.http.keys, TOKEN_HEADER) if with_role else (self.session, SESSION_HEADER)

        async def send() -> dict[str, Any]:
            request = request_for(endpoint, operation.method, parameters)
            return read_answer(operation, await self.http.send(endpoint, request, timeout, keys, token_header))

        return await (send() if with_role else once_more(self.session, send))

    async def open_session(self) -> None:
        if self.has_sessions:
            with of_session():
                await in_thread(self.session.get_frozen_credentials)
