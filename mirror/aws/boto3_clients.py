"""boto3's clients for S3 and SQS. Each call blocks a thread, never the event loop."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.utils import parse_timestamp

from mirror.aws.threads import in_thread
from mirror.aws.timeouts import ANSWER_TIMEOUT, CONNECT_TIMEOUT
from mirror.settings import Settings

ATTEMPTS = 5  # that botocore makes of a call that may be repeated


def make_session() -> boto3.Session:
    """A session whose clients read the times of a listing fast: botocore's way takes three quarters of its CPU time."""
    session = botocore.session.get_session()
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=parse_time)
    return boto3.Session(botocore_session=session)


def parse_time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return parse_timestamp(text)  # headers have another format


def config_for(settings: Settings, timeout: int, attempts: int) -> Config:
    """`timeout`: seconds to wait for an answer. A copy is silent until it is done, so the connection is kept alive."""
    return Config(
        region_name=settings.region,
        connect_timeout=CONNECT_TIMEOUT,
        read_timeout=timeout,
        retries={"mode": "standard", "total_max_attempts": attempts},
        max_pool_connections=settings.calls_at_once,
        tcp_keepalive=True,
    )


class Boto3S3:
    """See mirror.calls.S3. A part may be copied twice, so it is repeated; what changes what a reader sees is not:
    an unanswered call may still take effect, and botocore would not tell that there were two."""

    def __init__(self, session: boto3.Session, settings: Settings) -> None:
        self.quick: Any = session.client("s3", config=config_for(settings, ANSWER_TIMEOUT, ATTEMPTS))
        self.parts: Any = session.client("s3", config=config_for(settings, settings.copy_timeout, ATTEMPTS))
        self.writes: Any = session.client("s3", config=config_for(settings, settings.copy_timeout, 1))

    async def head_object(self, **parameters: Any) -> Any:
        return await in_thread(self.quick.head_object, **parameters)

    async def copy_object(self, **parameters: Any) -> Any:
        return await in_thread(self.writes.copy_object, **parameters)

    async def delete_object(self, **parameters: Any) -> Any:
        return await in_thread(self.writes.delete_object, **parameters)

    async def create_multipart_upload(self, **parameters: Any) -> Any:
        return await in_thread(self.quick.create_multipart_upload, **parameters)

    async def upload_part_copy(self, **parameters: Any) -> Any:
        return await in_thread(self.parts.upload_part_copy, **parameters)

    async def complete_multipart_upload(self, **parameters: Any) -> Any:
        return await in_thread(self.writes.complete_multipart_upload, **parameters)

    async def abort_multipart_upload(self, **parameters: Any) -> Any:
        return await in_thread(self.quick.abort_multipart_upload, **parameters)

    async def list_parts(self, **parameters: Any) -> Any:
        return await in_thread(self.quick.list_parts, **parameters)

    async def list_multipart_uploads(self, **parameters: Any) -> Any:
        return await in_thread(self.quick.list_multipart_uploads, **parameters)

    async def list_objects_v2(self, **parameters: Any) -> Any:
        return await in_thread(self.quick.list_objects_v2, **parameters)

    async def open_session(self) -> None:
        """botocore makes its session at the first call, and renews it by itself."""

    async def renew_session(self) -> None:
        """See open_session."""


class Boto3Sqs:
    """See mirror.calls.Sqs."""

    def __init__(self, session: boto3.Session, settings: Settings) -> None:
        self.sqs: Any = session.client("sqs", config=config_for(settings, ANSWER_TIMEOUT, ATTEMPTS))

    async def receive_message(self, **parameters: Any) -> Any:
        return await in_thread(self.sqs.receive_message, **parameters)

    async def send_message(self, **parameters: Any) -> Any:
        return await in_thread(self.sqs.send_message, **parameters)

    async def send_message_batch(self, **parameters: Any) -> Any:
        return await in_thread(self.sqs.send_message_batch, **parameters)

    async def delete_message_batch(self, **parameters: Any) -> Any:
        return await in_thread(self.sqs.delete_message_batch, **parameters)

    async def change_message_visibility_batch(self, **parameters: Any) -> Any:
        return await in_thread(self.sqs.change_message_visibility_batch, **parameters)
