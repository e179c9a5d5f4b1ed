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
    ("written", "goes"),
    [
        (MIDNIGHT + 10 * HOUR + 1800, MIDNIGHT + 4 * DAY),  # the User Guide's own example, with three days
        (MIDNIGHT + DAY - 1, MIDNIGHT + 4 * DAY),
        (MIDNIGHT + 1, MIDNIGHT + 4 * DAY),
        (MIDNIGHT, MIDNIGHT + 4 * DAY),
    ],
)
def test_an_object_goes_at_the_midnight_after_its_days_and_not_before(mirror: Standin, written: int, goes: int) -> None:
    mirror.put(MIRROR, "a", modified=written)
    mirror.lifecycle(MIRROR, [rule(3)])
    assert left_at(mirror, goes - 1) == {"a"}
    assert left_at(mirror, goes) == set()


def test_only_what_is_under_the_prefix_of_a_rule_goes(mirror: Standin) -> None:
    for key in ("hot/a", "logs/a", "other/a"):
        mirror.put(MIRROR, key, modified=MIDNIGHT)
    mirror.lifecycle(MIRROR, [rule(1, "hot/"), rule(3, "logs/", "keep-2"), UPLOADS])
    assert left_at(mirror, MIDNIGHT + 2 * DAY) == {"logs/a", "other/a"}
    assert left_at(mirror, MIDNIGHT + 400 * DAY) == {"other/a"}


def test_of_two_rules_the_shorter_one_acts_and_a_disabled_one_does_not(mirror: Standin) -> None:
    mirror.put(MIRROR, "hot/a", modified=MIDNIGHT)
    mirror.put(MIRROR, "a", modified=MIDNIGHT)
    mirror.lifecycle(MIRROR, [rule(9), rule(2, "hot/", "short"), rule(1, "", "off") | {"Status": "Disabled"}])
    assert left_at(mirror, MIDNIGHT + 3 * DAY) == {"a"}


def test_a_filter_by_size(mirror: Standin) -> None:
    mirror.put(MIRROR, "small", 10, modified=MIDNIGHT)
    mirror.put(MIRROR, "large", 1000, modified=MIDNIGHT)
    by_size = {"Filter": {"And": {"Prefix": "", "ObjectSizeGreaterThan": 10}}}
    mirror.lifecycle(MIRROR, [rule(1) | by_size])
    assert left_at(mirror, MIDNIGHT + 2 * DAY) == {"small"}


def test_new_rules_are_for_what_is_there_already(mirror: Standin) -> None:
    mirror.put(MIRROR, "a", modified=MIDNIGHT)
    mirror.lifecycle(MIRROR, [rule(14)])
    assert left_at(mirror, MIDNIGHT + 7 * DAY) == {"a"}
    mirror.lifecycle(MIRROR, [rule(5)])
    assert left_at(mirror, MIDNIGHT + 7 * DAY) == set()


def test_it_may_come_late_but_not_later_than_it_was_told_to(mirror: Standin) -> None:
    keys = [f"a{number}" for number in range(200)]
    mirror.put_many(MIRROR, keys, modified=MIDNIGHT)
    mirror.lifecycle(MIRROR, [rule(1)])
    due = MIDNIGHT + 2 * DAY
    some = left_at(mirror, due + DAY, late_days=2)
    assert 50 < len(some) < 150
    assert left_at(mirror, due + DAY, late_days=2) == some
    assert left_at(mirror, due + 2 * DAY, late_days=2) == set()


def test_what_it_deleted_is_told_to_the_test_and_to_no_queue(mirror: Standin) -> None:
    mirror.create_queue("events")
    mirror.notify(SOURCE, "events")
    mirror.put(MIRROR, "a", 7, modified=MIDNIGHT)
    mirror.lifecycle(MIRROR, [rule(1)])
    mirror.clock(MIDNIGHT + 2 * DAY)
    gone = mirror.run_lifecycle(MIRROR)
    assert {key: found["size"] for key, found in gone.items()} == {"a": 7}
    assert mirror.messages("events") == []


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
        ([rule(1) | {"Expiration": {"Days": 1.5}}], "InvalidArgument: 'Days'"),
        ([rule(1) | {"Expiration": {"Date": "2026-03-01"}}], "InvalidArgument: 'Days'"),
        ([rule(1) | {"Status": "On"}], "MalformedXML"),
        ([{"ID": "none", "Status": "Enabled", "Filter": {"Prefix": ""}}], "MalformedXML"),
        ([rule(1) | {"Transitions": [{"Days": 1}]}], "InvalidRequest: A directory bucket has no Transitions"),
        ([rule(1) | {"Filter": {"Tag": {"Key": "a", "Value": "b"}}}], "InvalidRequest: A directory bucket filters"),
    ],
)
def test_what_s3_refuses_is_refused_and_the_rules_before_it_stay(
    mirror: Standin, rules: list[dict[str, Any]], why: str
) -> None:
    mirror.put(MIRROR, "a", modified=MIDNIGHT)
    mirror.lifecycle(MIRROR, [rule(1)])
    with pytest.raises(ValueError, match=why):
        mirror.lifecycle(MIRROR, rules)
    assert left_at(mirror, MIDNIGHT + 2 * DAY) == set()


def test_the_clock_is_the_time_of_all_that_is_written(mirror: Standin, s3: Any) -> None:
    mirror.create_queue("events")
    mirror.notify(SOURCE, "events")
    mirror.clock(MIDNIGHT + HOUR)
    mirror.put(SOURCE, "a")
    mirror.clock(MIDNIGHT + 2 * HOUR)
    s3.copy_object(Bucket=SOURCE, Key="a", CopySource=f"{SOURCE}/a", MetadataDirective="REPLACE")
    s3.copy_object(Bucket=MIRROR, Key="a", CopySource=f"{SOURCE}/a")
    s3.put_object(Bucket=MIRROR, Key="b", Body=b"b")
    at_two = datetime.fromtimestamp(MIDNIGHT + 2 * HOUR, UTC)
    looked_at = [(SOURCE, "a"), (MIRROR, "a"), (MIRROR, "b")]
    assert {s3.head_object(Bucket=bucket, Key=key)["LastModified"] for bucket, key in looked_at} == {at_two}
    told = [message["body"] for message in mirror.messages("events")]
    assert ["2026-03-01T01:00:00" in told[0], "2026-03-01T02:00:00" in told[1]] == [True, True]
    mirror.clock(None)
    assert mirror.put(SOURCE, "c")["modified"] > MIDNIGHT + 100 * DAY
