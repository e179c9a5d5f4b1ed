"""What an error means for a key or a message, and what an operator can do about it: one table, and questions to it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from enum import Enum, auto
from itertools import product
from typing import NamedTuple

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

from mirror.model.denials import BOTH, DEPLOY, READ, SSE_C, advice_on_denial
from mirror.model.log_lines import quoted, visible


class Interrupted(Exception):
    """The worker has to stop, or the message's 12 hours are over: the message is handed back."""


class Changed(Exception):
    """The source or the destination changed in between: look again."""


class GaveUp(Exception):
    """S3 has been too busy for too long, which its cause shows: the message is handed on."""


class Postponed(Exception):
    """The key is not to be synced here or not now, and the text says why. The message is handed back, and comes again
    after `seconds` at most, or with `is_exact` after just as many. `waiting_since`: of a key that waits for others,
    which needs only one message."""

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


AWS_ERRORS = (ClientError, BotoCoreError, ResponseParserError)  # of a call to AWS
# Errors of AWS and of a key. Any other is a mistake in the code, and its traceback is worth seeing.
EXPECTED = (*AWS_ERRORS, Refused, Unfinished, Changed, GaveUp, ValueError)
HANDED_BACK = (Interrupted, GaveUp, Postponed)  # with the upload, for the next worker to go on with


class Kind(Enum):
    """What is at fault, which decides what is done."""

    OWN = auto()  # the key or the message itself: it is tried a few times, and then parked
    CHANGED = auto()  # nothing: a bucket changed between two requests, so look again
    BUSY = auto()  # S3 or the network for the moment: send the request again
    DENIED = auto()  # the key, or all keys alike: only other keys can show which
    ENVIRONMENT = auto()  # credentials, a session or a whole bucket: no key can be synced
    REFUSED = auto()  # something in the request that S3 does not take: do without it
    QUEUE_GONE = auto()  # the queue, which cannot be read and will not be
    QUEUE_FULL = auto()  # nothing: SQS lends no more messages before some are deleted
    RECEIPT_LOST = auto()  # the receipt handle: SQS no longer lends us that message


class Meaning(NamedTuple):
    """A row of the table: what errors with these codes, or of these classes, mean in these operations."""

    kind: Kind
    codes: str = ""  # with spaces between them
    advice: str = ""
    operations: tuple[str, ...] = ("",)  # "" stands for any
    classes: tuple[type[Exception], ...] = ()
    is_unknown: bool = False  # S3 may have done what it was asked, or may still be doing it


ENDED = "the credentials of the task role or the session have expired: check the role"
QUOTA = "request a higher quota of PutEvents, or announce less: ANNOUNCE=markers"
NO_CREDENTIALS = CredentialRetrievalError, NoCredentialsError, PartialCredentialsError
RECEIVE, ANNOUNCE = ("ReceiveMessage",), ("PutEvents",)
ON_MESSAGES = "ChangeMessageVisibilityBatch", "DeleteMessageBatch"
NAME_NO_KEY = "CreateSession", "ListObjectsV2"  # their errors are no key's fault
OF_SESSION = "the request was signed with a session of S3 Express"

TABLE = (
    # The codes of S3 (S3 API Reference, "Error responses"). A number is the status of an answer without a body, which
    # HeadObject always gives (there, HeadObject). Conditions: S3 User Guide, "Conditional requests".
    Meaning(Kind.CHANGED, "404 NoSuchKey NoSuchUpload OperationAborted", classes=(Changed,)),
    Meaning(Kind.CHANGED, "409 412 ConditionalRequestConflict PreconditionFailed"),
    Meaning(Kind.CHANGED, "InvalidPart"),  # a call still under way when the upload was handed on copied the part again
    Meaning(Kind.BUSY, "429 503 RequestTimeout RequestTimeTooSkewed ServiceUnavailable SlowDown"),
    Meaning(Kind.BUSY, "Throttling ThrottlingException TooManyRequestsException", classes=(NotConnected,)),
    Meaning(Kind.BUSY, "500 502 504 InternalError InternalServerError", is_unknown=True),
    Meaning(Kind.BUSY, classes=(HTTPClientError, ResponseParserError, Unfinished), is_unknown=True),
    Meaning(Kind.DENIED, "401 AccessDeniedException KMS"),
    Meaning(Kind.DENIED, "400", SSE_C),
    Meaning(Kind.DENIED, "403", READ),
    Meaning(Kind.DENIED, "AccessDenied", BOTH),
    Meaning(Kind.ENVIRONMENT, "AccountProblem AllAccessDisabled ExpiredTokenException", classes=NO_CREDENTIALS),
    Meaning(Kind.ENVIRONMENT, "InvalidAccessKeyId NotSignedUp SignatureDoesNotMatch TokenRefreshRequired"),
    Meaning(Kind.ENVIRONMENT, "ExpiredToken", ENDED),
    Meaning(Kind.ENVIRONMENT, "InvalidToken", "the credentials of the task role are not valid: check the role"),
    Meaning(Kind.ENVIRONMENT, "NoSuchBucket", "check SRC_BUCKET, DST_BUCKET and REGION"),
    Meaning(Kind.REFUSED, "InvalidArgument"),
    Meaning(Kind.REFUSED, "InvalidRequest", SSE_C),
    Meaning(Kind.REFUSED, "NotImplemented", "the directory bucket does not support something in this request"),
    Meaning(Kind.OWN, "InvalidObjectState", "the object is archived: restore it, its restore event copies it"),
    # The codes of SQS (SQS API Reference, ReceiveMessage, DeleteMessage and ChangeMessageVisibility).
    Meaning(Kind.QUEUE_FULL, "OverLimit", "", RECEIVE),
    Meaning(Kind.QUEUE_GONE, "AccessDenied AccessDeniedException InvalidClientTokenId", "", RECEIVE),
    Meaning(Kind.QUEUE_GONE, "NonExistentQueue QueueDoesNotExist", "", RECEIVE),
    Meaning(Kind.RECEIPT_LOST, "InvalidParameterValue MessageNotInflight ReceiptHandleIsInvalid", "", ON_MESSAGES),
    # The codes of EventBridge (EventBridge API Reference, PutEvents).
    Meaning(Kind.DENIED, "AccessDeniedException", DEPLOY, ANNOUNCE),
    Meaning(Kind.BUSY, "ThrottlingException", QUOTA, ANNOUNCE),
)
MEANINGS = {pair: row for row in TABLE for pair in product((*row.codes.split(), *row.classes), row.operations)}
OWN_FAULT = Meaning(Kind.OWN)  # of what is in no row


def meaning(code: str, operation: str = "") -> Meaning:
    """The codes of KMS all begin alike; those of SQS's older protocol have a prefix."""
    code = "KMS" if code.startswith("KMS") else code.removeprefix("AWS.SimpleQueueService.")
    found = MEANINGS.get((code, operation)) or MEANINGS.get((code, ""), OWN_FAULT)
    if operation in NAME_NO_KEY and found.kind is not Kind.BUSY:
        return found._replace(kind=Kind.ENVIRONMENT)
    return found


def meaning_of(error: BaseException) -> Meaning:
    if isinstance(error, ClientError):
        return meaning(error_code(error), error.operation_name)
    return next((MEANINGS[base, ""] for base in type(error).__mro__ if (base, "") in MEANINGS), OWN_FAULT)


def error_code(error: BaseException) -> str:
    """AWS's error code, or the status of an answer without a body, or the name of the exception."""
    return str(error.response["Error"].get("Code", "")) if isinstance(error, ClientError) else type(error).__name__


def is_change(error: Exception) -> bool:
    return meaning_of(error).kind is Kind.CHANGED


def is_busy(error: Exception) -> bool:
    return meaning_of(error).kind is Kind.BUSY


def is_environment(error: Exception) -> bool:
    return meaning_of(error).kind is Kind.ENVIRONMENT


def may_be_environment(error: Exception) -> bool:
    """Whether all keys may fail alike. Only other keys can show whether this one is at fault."""
    return isinstance(error, GaveUp) or meaning_of(error).kind in (Kind.DENIED, Kind.ENVIRONMENT)


@contextlib.contextmanager
def of_session() -> Iterator[None]:
    """Wraps a request that is signed with a session of S3 Express, and marks its error for is_of_session()."""
    try:
        yield
    except Exception as error:
        if not is_of_session(error):  # the failure to make a session is raised again and again
            error.add_note(OF_SESSION)
        raise


def is_of_session(error: BaseException | None) -> bool:
    """Whether the request that failed was signed with a session. No other request shows whether sessions work."""
    return error is not None and (OF_SESSION in getattr(error, "__notes__", ()) or is_of_session(error.__cause__))


def outcome_unknown(error: Exception) -> bool:
    return meaning_of(error).is_unknown


def receipt_is_lost(code: str) -> bool:
    """Of a message in a batch that was to be deleted or extended."""
    return meaning(code, "DeleteMessageBatch").kind is Kind.RECEIPT_LOST


def describe(error: BaseException) -> str:
    """One line with operation, code, message and advice. A message of AWS may hold a key, so it is quoted."""
    if isinstance(error, GaveUp) and error.__cause__:
        return f"busy for too long: {describe(error.__cause__)}"
    if not isinstance(error, ClientError):
        return f"error={type(error).__name__} message={quoted(str(error))}"
    message, found = quoted(str(error.response["Error"].get("Message", ""))), meaning_of(error)
    text = f"operation={error.operation_name} error={visible(error_code(error))} message={message}"
    # The rows that are for any operation have the advice for S3.
    is_of_s3 = "Message" not in error.operation_name and error.operation_name != "PutEvents"
    has_advice = found.advice and (is_of_s3 or "" not in found.operations)
    if not has_advice:
        return text
    return f'{text} advice="{advice_on_denial(message) or found.advice}"'
