"""The stand-in's lifecycle deletes what S3 documents, then and not before; its clock is the time of what is written."""

from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from standin import Standin

SOURCE = "source"
MIRROR = "mirror--use1-az4--x-s3"
HOUR, DAY = 3600, 86_400
MIDNIGHT = int(datetime(2026, 3, 1, tzinfo=UTC).timestamp())


def rule(days: int, prefix: str = "", name: str = "keep") -> dict[str, Any]:
    return {"ID": name, "Status": "Enabled", "Filter": {"Prefix": prefix}, "Expiration": {"Days": days}}


UPLOADS = {"ID": "uploads", "Status": "Enabled", "Filter": {"Prefix": ""}} | {
    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1}
}
OFF = rule(1, "", "off") | {"Status": "Disabled"}


@pytest.fixture
def mirror(standin: Standin) -> Standin:
    standin.reset()
    for name in (SOURCE, MIRROR):
        standin.create_bucket(name)
    return standin


@pytest.fixture
def s3(standin: Standin) -> Any:
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    return boto3.client("s3", endpoint_url=standin.url, region_name="us-east-1", **keys)


def left_at(mirror: Standin, now: int, late_days: float = 0.0) -> set[str]:
    mirror.clock(now)
    mirror.run_lifecycle(MIRROR, late_days)
    return set(mirror.objects(MIRROR))


@pytest.mark.parametrize(
    ("rules", "days", "left"),  # each object was written on the midnight at which the days begin
    [
        ([rule(1, "hot/"), rule(3, "logs/", "keep-2"), UPLOADS], 2, {"logs/a", "other/a"}),
        ([rule(1, "hot/"), rule(3, "logs/", "keep-2"), UPLOADS], 4, {"other/a"}),
        ([rule(9), rule(2, "hot/", "short"), OFF], 3, {"logs/a", "other/a"}),
        ([rule(5)], 6, set()),
    ],
)
def test_what_is_under_a_rule_goes_and_the_shorter_one_acts(
    mirror: Standin, rules: list[dict[str, Any]], days: int, left: set[str]
) -> None:
    for key in ("hot/a", "logs/a", "other/a"):
        mirror.put(MIRROR, key, modified=MIDNIGHT)
    mirror.lifecycle(MIRROR, [rule(14)])
    mirror.lifecycle(MIRROR, rules)
    assert left_at(mirror, MIDNIGHT + days * DAY - 1) > left  # a second before
    assert left_at(mirror, MIDNIGHT + days * DAY) == left


def test_it_may_come_late_but_not_later_than_it_was_told_to(mirror: Standin) -> None:
    keys = [f"a{number}" for number in range(200)]
    mirror.put_many(MIRROR, keys, modified=MIDNIGHT)
    mirror.lifecycle(MIRROR, [rule(1)])
    due = MIDNIGHT + 2 * DAY
    some = left_at(mirror, due + DAY, late_days=2)
    assert 50 < len(some) < 150
    assert left_at(mirror, due + DAY, late_days=2) == some
    assert left_at(mirror, due + 2 * DAY, late_days=2) == set()


def test_an_upload_that_was_left_is_aborted(mirror: Standin, s3: Any) -> None:
    mirror.clock(MIDNIGHT + HOUR)
    s3.create_multipart_upload(Bucket=MIRROR, Key="a")
    mirror.lifecycle(MIRROR, [UPLOADS])
    left_at(mirror, MIDNIGHT + 2 * DAY - 1)
    assert len(mirror.uploads(MIRROR)) == 1
    left_at(mirror, MIDNIGHT + 2 * DAY)
    assert mirror.uploads(MIRROR) == []


@pytest.mark.parametrize(
    ("rules", "why"),
    [
        ([], "MalformedXML"),
        ([rule(1, name=str(number)) for number in range(1001)], "MalformedXML"),
        ([rule(1), rule(2)], "InvalidArgument: Rule ID"),
        ([rule(0)], "InvalidArgument: 'Days'"),
        ([rule(1) | {"Transitions": [{"Days": 1}]}], "InvalidRequest: A directory bucket has no Transitions"),
        ([rule(1) | {"Filter": {"Tag": {"Key": "a", "Value": "b"}}}], "InvalidRequest: The stand-in filters"),
    ],
)
def test_what_s3_refuses_is_refused(mirror: Standin, rules: list[dict[str, Any]], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        mirror.lifecycle(MIRROR, rules)


def test_the_clock_is_the_time_of_all_that_is_written(mirror: Standin, s3: Any) -> None:
    mirror.create_queue("events")
    mirror.notify(SOURCE, "events")
    mirror.clock(MIDNIGHT + HOUR)
    mirror.put(SOURCE, "a")
    mirror.clock(MIDNIGHT + 2 * HOUR)
    s3.copy_object(Bucket=MIRROR, Key="a", CopySource=f"{SOURCE}/a")
    s3.put_object(Bucket=SOURCE, Key="b", Body=b"b")
    at_two = datetime.fromtimestamp(MIDNIGHT + 2 * HOUR, UTC)
    looked_at = [(MIRROR, "a"), (SOURCE, "b")]
    assert {s3.head_object(Bucket=bucket, Key=key)["LastModified"] for bucket, key in looked_at} == {at_two}
    told = [message["body"] for message in mirror.messages("events")]
    assert ["2026-03-01T01:00:00" in told[0], "2026-03-01T02:00:00" in told[1]] == [True, True]
    mirror.clock(None)
    assert mirror.put(SOURCE, "c")["modified"] > MIDNIGHT + 100 * DAY
