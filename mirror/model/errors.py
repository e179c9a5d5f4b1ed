"""What an error means for a key or a message, and what an operator can do about it."""

from __future__ import annotations

import math

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
)
from botocore.exceptions import ConnectionError as NotConnected
from botocore.parsers import ResponseParserError

from mirror.model.log_lines import quoted, visible

# What the error of an S3 call means for the key.
CHANGED_CODES = {
    "404",
    "409",
    "412",
    "ConditionalRequestConflict",
    "InvalidPart",  # a call still under way when the upload was handed on has copied the part once more
    "NoSuchKey",
    "NoSuchUpload",
    "OperationAborted",
    "PreconditionFailed",
}
UNKNOWN_CODES = {"500", "502", "504", "InternalError", "InternalServerError"}
BUSY_CODES = UNKNOWN_CODES | {
    "429",
    "503",
    "RequestTimeout",
    "RequestTimeTooSkewed",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
}
# What no key is at fault for: credentials, a session, or a bucket as a whole.
SURROUNDINGS_CODES = {
    "AccountProblem",
    "AllAccessDisabled",
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidAccessKeyId",
    "InvalidToken",
    "NoSuchBucket",
    "NotSignedUp",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
}
SURROUNDINGS_OPERATIONS = {"CreateSession", "ListObjectsV2"}  # those that name no key
CREDENTIAL_ERRORS = (CredentialRetrievalError, NoCredentialsError, PartialCredentialsError)
DENIED_CODES = {"400", "401", "403", "AccessDenied", "AccessDeniedException"}
REFUSED_CODES = {"InvalidArgument", "InvalidRequest", "NotImplemented"}
FATAL_QUEUE_CODES = {
    "AccessDenied",
    "AccessDeniedException",
    "AWS.SimpleQueueService.NonExistentQueue",
    "InvalidClientTokenId",
    "QueueDoesNotExist",
}
OVER_LIMIT_CODES = {"OverLimit", "AWS.SimpleQueueService.OverLimit"}  # of messages in flight
LOST_RECEIPT_CODES = {
    "AWS.SimpleQueueService.MessageNotInflight",
    "InvalidParameterValue",
    "MessageNotInflight",
    "ReceiptHandleIsInvalid",
}

SSE_C = "an object encrypted with a customer-provided key (SSE-C) cannot be read by the worker"
ADVICE = {
    "400": SSE_C,
    "403": "let the task role use s3:GetObject on the object and s3:ListBucket on the source bucket, and the KMS key",
    "AccessDenied": "let the task role use s3:GetObject on the source and s3:ListBucket, s3express:CreateSession on "
    "the destination, and the KMS keys of both",
    "ExpiredToken": "the credentials of the task role or the session have ended: look at the role",
    "InvalidRequest": SSE_C,
    "InvalidToken": "the credentials of the task role are not valid: look at the role",
    "InvalidObjectState": "the object is archived: restore it, its restore event copies it",
    "NoSuchBucket": "check SRC_BUCKET, DST_BUCKET and REGION",
    "NotImplemented": "the directory bucket does not support something in this request",
}


class Interrupted(Exception):
    """The worker has to stop, or the message's 12 hours are over: the message is handed back."""


class Changed(Exception):
    """The source or the destination changed in between: look again."""


class GaveUp(Exception):
    """S3 has been too busy for too long, which its cause shows: the message is handed on."""


class Postponed(Exception):
    """Not here or not now, it says why: the message is handed back, to come again in a while, `seconds` at most, or
    with `is_exact` after just as many. `waiting_since`: of a marker that waits, for which one message is enough."""

    def __init__(
        self, why: str, seconds: float = math.inf, is_exact: bool = False, waiting_since: float | None = None
    ) -> None:
        super().__init__(why)
        self.seconds = seconds
        self.is_exact = is_exact
        self.waiting_since = waiting_since


class Unfinished(Exception):
    """An answer that does not say that the work was done, such as a 200 with nothing inside."""


class Refused(Exception):
    """The key cannot be synced as it is now."""


# Errors of AWS and of a key. Any other is a mistake in the code, and its traceback is worth seeing.
EXPECTED = (ClientError, BotoCoreError, ResponseParserError, Refused, Unfinished, Changed, GaveUp, ValueError)
HANDED_BACK = (Interrupted, GaveUp, Postponed)  # with the upload, for the next delivery to go on with


def error_code(error: BaseException) -> str:
    """AWS's error code, or the status of an answer without a body, or the name of the exception."""
    return str(error.response["Error"].get("Code", "")) if isinstance(error, ClientError) else type(error).__name__


def operation_of(error: BaseException) -> str:
    """Its name, such as CopyObject; "" if it was not AWS that answered."""
    return error.operation_name if isinstance(error, ClientError) else ""


def is_change(error: Exception) -> bool:
    """True if a bucket changed under our hands: to be looked at again."""
    return isinstance(error, Changed) or error_code(error) in CHANGED_CODES


def is_busy(error: Exception) -> bool:
    """True if S3 or the network is at fault for the moment, and not the key."""
    return isinstance(error, (NotConnected, HTTPClientError, ResponseParserError, Unfinished)) or (
        error_code(error) in BUSY_CODES
    )


def is_refusal_for_now(error: Exception) -> bool:
    """True if S3 is too busy, and has not done what it was asked."""
    return error_code(error) in BUSY_CODES - UNKNOWN_CODES


def is_of_surroundings(error: Exception) -> bool:
    """True if no key is at fault, so that all would fail alike."""
    if operation_of(error) in SURROUNDINGS_OPERATIONS:
        return not is_busy(error)
    return isinstance(error, CREDENTIAL_ERRORS) or error_code(error) in SURROUNDINGS_CODES


def may_be_of_surroundings(error: Exception) -> bool:
    """True if the key is at fault, or all fail alike: only others can tell."""
    code = error_code(error)
    return isinstance(error, GaveUp) or code in DENIED_CODES or code.startswith("KMS") or is_of_surroundings(error)


def outcome_unknown(error: Exception) -> bool:
    """True if S3 may have done what it was asked, or may still be doing it."""
    return isinstance(error, (HTTPClientError, ResponseParserError, Unfinished)) or error_code(error) in UNKNOWN_CODES


def describe(error: BaseException) -> str:
    """One line: operation, error code, message and, if there is something to do, what. A message of AWS may hold a
    key, which may hold whole lines of a log."""
    if isinstance(error, GaveUp) and error.__cause__:
        return f"busy for too long: {describe(error.__cause__)}"
    if not isinstance(error, ClientError):
        return f"error={type(error).__name__} message={quoted(str(error))}"
    code = error_code(error)
    message = quoted(str(error.response["Error"].get("Message", "")))
    is_of_s3 = "Message" not in error.operation_name and error.operation_name != "PutEvents"
    advice = f' advice="{ADVICE[code]}"' if code in ADVICE and is_of_s3 else ""
    return f"operation={error.operation_name} error={visible(code)} message={message}{advice}"
