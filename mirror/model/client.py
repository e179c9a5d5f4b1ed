"""The contract of the client for S3: what the worker calls, what comes back, and what is raised.

Two classes in mirror/aws/ keep it, boto3's and the one over the AWS CRT, and so does the model in
tests/protocol/fakes.py, which answers the searches.
"""

from __future__ import annotations

from typing import Any, Protocol


class S3Client(Protocol):
    """The client for both buckets.

    Every request takes the parameters of boto3's method of that name by keyword, `Bucket` always among them, and
    returns boto3's answer as a dict. Of that, a client may leave out what no method here mentions. Times are datetimes
    with a zone.

    Raises one of AWS_ERRORS of mirror/model/errors.py: ClientError with the code of S3, also for an error inside a 200;
    a BotoCoreError if the request cannot be sent, or gets no answer in time; ResponseParserError for an answer that
    cannot be read. Cancelling a call does not stop what S3 has begun.

    Copies are signed with the role, all other requests to the directory bucket with a session of S3 Express. If one of
    those fails, is_of_session() of errors.py is true of its error. If S3 refuses a session, the request is sent once
    more with a new one, because S3 has done nothing then.
    """

    # Requests that change nothing may be sent several times.

    async def head_object(self, **parameters: Any) -> dict[str, Any]:
        """ETag, ContentLength, LastModified, Metadata, and what the object has of the other fields that
        mirror/protocol/objects.py reads; of an Expires its text, as ExpiresString. Texts are decoded as UTF-8, with
        surrogates for other bytes: see as_utf8() of mirror/model/services.py.

        The answer has no body, so the code of an error is the status, as in "404", which also stands for a missing
        bucket, or "403" (S3 API Reference, HeadObject).
        """

    async def get_object(self, **parameters: Any) -> dict[str, Any]:
        """Body, all of it as bytes. The codes of its errors are those of S3, such as "AccessDenied"."""

    async def list_objects_v2(self, **parameters: Any) -> dict[str, Any]:
        """A page: Contents with Key, Size, ETag, LastModified, and StorageClass if S3 shows it; CommonPrefixes;
        IsTruncated and NextContinuationToken; and ResponseMetadata with HTTPHeaders, whose date is S3's own clock. Keys
        are decoded. A page without IsTruncated is no whole answer: see pages() of mirror/protocol/buckets.py.

        A directory bucket lists in no order, and only by a prefix that ends in "/" (S3 API Reference, ListObjectsV2).
        """

    async def list_parts(self, **parameters: Any) -> dict[str, Any]:
        """A page: Parts with PartNumber, ETag and Size. Raises "NoSuchUpload"."""

    async def list_multipart_uploads(self, **parameters: Any) -> dict[str, Any]:
        """A page: Uploads with Key and UploadId. With EncodingType="url", keys and markers are still encoded."""

    # Requests that a reader of the destination notices are sent once: one without an answer may still take effect, and
    # nobody would know that there were two. If their condition does not hold they raise "PreconditionFailed", or
    # "NoSuchKey" if there is no object; if another write comes in between, "ConditionalRequestConflict" (S3 User Guide,
    # "Conditional requests").

    async def copy_object(self, is_small: bool = False, **parameters: Any) -> dict[str, Any]:
        """CopyObjectResult with the ETag; without it nothing is copied. With `is_small` S3 has to answer sooner than
        after COPY_TIMEOUT, as it does for copies that last seconds."""

    async def complete_multipart_upload(self, **parameters: Any) -> dict[str, Any]:
        """The ETag; without it there is no object. After a conflict the upload cannot be completed any more."""

    async def delete_object(self, **parameters: Any) -> dict[str, Any]:
        """Nothing that is read. A key without an object is no error, unless the request has a condition."""

    # The other requests of an upload change nothing that a reader sees, and may be sent several times.

    async def create_multipart_upload(self, **parameters: Any) -> dict[str, Any]:
        """The UploadId. One that got no answer may leave an upload that nobody knows."""

    async def upload_part_copy(self, is_small: bool = False, **parameters: Any) -> dict[str, Any]:
        """CopyPartResult with the ETag, which is another one each time. `is_small`: as for copy_object()."""

    async def abort_multipart_upload(self, **parameters: Any) -> dict[str, Any]:
        """Nothing that is read. Raises "NoSuchUpload". Parts under way may be added after it."""

    # The session and the connections

    async def open_session(self) -> None:
        """Makes the session before many requests would each make one. Raises as a request does."""

    async def renew_session(self) -> None:
        """To be called every second: renews the session early, so that no request has to wait for that."""

    def close_connections(self) -> None:
        """Closes the connections between two requests. The next requests open new ones."""
