"""The calls to AWS that the worker is written against: what the clients in mirror/aws/ implement, and the tests fake.

Parameters, answers and errors are those of the boto3 methods of the same names, but for the Body of get_object(), which
is bytes. With `is_small` a copy has to answer sooner, as it lasts seconds.
"""

from __future__ import annotations

from typing import Any, Protocol


class Client(Protocol):
    def close_connections(self) -> None:
        """Closes the connections between two requests. The next requests open new ones."""


class S3(Client, Protocol):
    """A call that changes what a reader of the destination sees is sent once: unanswered, it may still take effect.

    CopyObject and UploadPartCopy are signed with the role. All other requests to the destination are signed with a
    session of S3 Express, and their errors are marked by of_session() of errors.py.
    """

    async def head_object(self, **parameters: Any) -> dict[str, Any]: ...
    async def get_object(self, **parameters: Any) -> dict[str, Any]: ...
    async def copy_object(self, is_small: bool = False, **parameters: Any) -> dict[str, Any]: ...
    async def delete_object(self, **parameters: Any) -> dict[str, Any]: ...
    async def create_multipart_upload(self, **parameters: Any) -> dict[str, Any]: ...
    async def upload_part_copy(self, is_small: bool = False, **parameters: Any) -> dict[str, Any]: ...
    async def complete_multipart_upload(self, **parameters: Any) -> dict[str, Any]: ...
    async def abort_multipart_upload(self, **parameters: Any) -> dict[str, Any]: ...
    async def list_parts(self, **parameters: Any) -> dict[str, Any]: ...
    async def list_multipart_uploads(self, **parameters: Any) -> dict[str, Any]: ...
    async def list_objects_v2(self, **parameters: Any) -> dict[str, Any]: ...

    async def open_session(self) -> None:
        """Has an S3 Express session before the first request needs one, so that not each of many makes its own."""

    async def renew_session(self) -> None:
        """Renews the session in use early, so that no request has to wait for that."""


class Sqs(Client, Protocol):
    async def receive_message(self, **parameters: Any) -> dict[str, Any]: ...
    async def send_message(self, **parameters: Any) -> dict[str, Any]: ...
    async def send_message_batch(self, **parameters: Any) -> dict[str, Any]: ...
    async def delete_message_batch(self, **parameters: Any) -> dict[str, Any]: ...
    async def change_message_visibility_batch(self, **parameters: Any) -> dict[str, Any]: ...


class Events(Client, Protocol):
    async def put_events(self, **parameters: Any) -> dict[str, Any]: ...


def as_utf8(answer: dict[str, Any]) -> dict[str, Any]:
    """Returns the answer with the texts of its headers decoded as UTF-8, and surrogates for other bytes (PEP 383). S3
    sends Content-Disposition and the like as the bytes that it was given; botocore decodes them as ISO-8859-1."""
    texts = {name: decoded(value) for name, value in answer.items() if isinstance(value, str)}
    metadata = {decoded(name): decoded(value) for name, value in answer.get("Metadata", {}).items()}
    return answer | texts | {"Metadata": metadata}


def decoded(text: str) -> str:
    return text if text.isascii() else text.encode("iso-8859-1").decode(errors="surrogateescape")
