"""What may become of a lease, and what an error means: each rule stands in one table."""

from itertools import product

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    NoCredentialsError,
    ReadTimeoutError,
)

from mirror.model.errors import (
    MEANINGS,
    TABLE,
    Changed,
    GaveUp,
    Kind,
    is_busy,
    may_be_environment,
    meaning_of,
    outcome_unknown,
)
from mirror.queue import leases
from mirror.queue.leases import NEXT, Lease, State
from mirror.queue.messages import Received


def lease_in(state: State) -> Lease:
    return Lease(Received("", "", 1), 0.0, 0.0, 0.0, state=state)


@pytest.mark.parametrize(("before", "after"), list(product(State, State)), ids=lambda state: state.name)
def test_a_lease_takes_no_transition_that_is_not_in_the_table(before, after):
    lease = lease_in(before)
    if after in NEXT[before]:
        lease.become(after)
        assert lease.state is after
    else:
        with pytest.raises(AssertionError, match=f"in state {before.name} cannot become {after.name}"):
            lease.become(after)


def test_the_picture_shows_every_state():
    picture = leases.__doc__ or ""
    assert [state.name for state in State if state.name not in picture] == []


def test_a_code_has_one_meaning_in_an_operation():
    rows = [
        (code, operation)
        for row in TABLE
        for code in (*row.codes.split(), *row.classes)
        for operation in row.operations
    ]
    assert len(MEANINGS) == len(rows)


def of(code: str, operation: str = "CopyObject") -> ClientError:
    return ClientError({"Error": {"Code": code}}, operation)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (of("PreconditionFailed"), Kind.CHANGED),
        (Changed(), Kind.CHANGED),
        (of("SlowDown"), Kind.BUSY),
        (of("SlowDown", "ListObjectsV2"), Kind.BUSY),
        (ReadTimeoutError(endpoint_url="u"), Kind.BUSY),
        (ConnectTimeoutError(endpoint_url="u"), Kind.BUSY),
        (of("AccessDenied"), Kind.DENIED),
        (of("AccessDenied", "ListObjectsV2"), Kind.ENVIRONMENT),
        (of("AccessDenied", "CreateSession"), Kind.ENVIRONMENT),
        (of("AccessDenied", "ReceiveMessage"), Kind.QUEUE_GONE),
        (of("AccessDenied", "SendMessage"), Kind.DENIED),
        (of("KMS.DisabledException"), Kind.DENIED),
        (of("ExpiredToken"), Kind.ENVIRONMENT),
        (NoCredentialsError(), Kind.ENVIRONMENT),
        (of("NotImplemented"), Kind.REFUSED),
        (of("AWS.SimpleQueueService.NonExistentQueue", "ReceiveMessage"), Kind.QUEUE_GONE),
        (of("OverLimit", "ReceiveMessage"), Kind.QUEUE_FULL),
        (of("AWS.SimpleQueueService.MessageNotInflight", "DeleteMessageBatch"), Kind.RECEIPT_LOST),
        (of("InvalidParameterValue", "SendMessage"), Kind.OWN),
        (of("InvalidObjectState"), Kind.OWN),
        (of("Unheard"), Kind.OWN),
        (ValueError(), Kind.OWN),
        (GaveUp(), Kind.OWN),
    ],
    ids=str,
)
def test_what_an_error_means(error, kind):
    assert meaning_of(error).kind is kind


def test_what_has_no_answer_may_still_take_effect():
    without = [
        ReadTimeoutError(endpoint_url="u"),
        ConnectionClosedError(endpoint_url="u"),
        of("InternalError"),
        of("500"),
    ]
    assert all(map(outcome_unknown, without))
    refused = [ConnectTimeoutError(endpoint_url="u"), of("SlowDown"), of("503")]
    assert not any(map(outcome_unknown, refused))
    assert all(map(is_busy, refused))


def test_only_others_can_show_whether_a_key_that_s3_was_too_busy_for_is_at_fault():
    assert may_be_environment(GaveUp())
    assert not may_be_environment(of("SlowDown"))
