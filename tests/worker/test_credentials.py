"""Credentials and sessions that end, hang or are refused: what a request says of it, and that no key pays for it."""

import pytest
from botocore.exceptions import ClientError
from world import SOURCE

from mirror.s3 import head

REASONS = {
    "ended credentials": (400, {"status": 400, "code": "ExpiredToken"}, "ExpiredToken"),
    "a policy": (403, {"status": 403, "code": "AccessDenied"}, "AccessDenied"),
    "SSE-C": (400, {"status": 400, "code": "InvalidRequest"}, "InvalidRequest"),
    "nothing wrong with reading": (403, None, "403"),
    "busy": (403, {"status": 503, "code": "SlowDown"}, "403"),
    "gone meanwhile": (400, {"status": 404, "code": "NoSuchKey"}, "400"),
}


@pytest.mark.parametrize("client", ["crt", "boto3"])
@pytest.mark.parametrize("name", REASONS)
def test_a_look_that_is_refused_without_a_reason_is_asked_again_for_it(world, client, name):
    status, reason, told = REASONS[name]
    world.put("a")
    world.standin.fault("HeadObject", "error", times=0, status=status, code="not shown", message="not shown")
    if reason:
        world.standin.fault("GetObject", "error", times=0, message="a reason", **reason)
    buckets = world.worker(S3_CLIENT=client).buckets
    with pytest.raises(ClientError) as refused:
        world.run(head(buckets, {"Bucket": SOURCE}, "a"))
    error = refused.value
    assert (error.operation_name, error.response["Error"]["Code"]) == ("HeadObject", told)
    assert (error.response["Error"]["Message"] == "a reason") == (told != str(status))


def test_an_empty_object_has_no_first_byte_to_ask_for(world):
    world.put("a", 0)
    world.standin.fault("HeadObject", "error", status=403)
    with pytest.raises(ClientError, match="403"):
        world.run(head(world.worker().buckets, {"Bucket": SOURCE}, "a"))
