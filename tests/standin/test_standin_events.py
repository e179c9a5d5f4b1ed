"""The event bus of the stand-in, as boto3 sees it."""

import json
import time
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from standin import Standin

MIRROR = "mirror--use1-az4--x-s3"


@pytest.fixture
def bus(standin: Standin) -> Any:
    standin.reset()
    config = Config(region_name="us-east-1", retries={"total_max_attempts": 1}, read_timeout=1)
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    return boto3.client("events", endpoint_url=standin.url, config=config, **keys)


def entry(detail: str = '{"key": "k"}', **changed: Any) -> dict[str, Any]:
    return {"Source": "ours", "DetailType": "Told", "Detail": detail} | changed


def put(bus: Any, *entries: dict[str, Any]) -> list[str]:
    """The error code of each entry, "" if it was taken."""
    answer = bus.put_events(Entries=list(entries))
    codes = [result.get("ErrorCode", "") for result in answer["Entries"]]
    assert answer["FailedEntryCount"] == len([code for code in codes if code])
    assert all(code or result["EventId"] for code, result in zip(codes, answer["Entries"], strict=True))
    return codes


def refusal(bus: Any, entries: list[dict[str, Any]]) -> str:
    with pytest.raises(ClientError) as caught:
        bus.put_events(Entries=entries)
    return caught.value.response["Error"]["Code"]


def test_an_event_is_kept_with_what_the_bucket_holds(standin, bus):
    standin.create_bucket(MIRROR)
    assert put(bus, entry()) == [""]
    standin.look_at_events(MIRROR)
    put(bus, entry())
    standin.put(MIRROR, "k", metadata={"sync-source": "v1"})
    put(bus, entry(), entry('{"key": "other"}'))
    events = standin.events()
    assert [(event["detail"], event["here"]) for event in events] == [
        ({"key": "k"}, None),
        ({"key": "k"}, None),
        ({"key": "k"}, "v1"),
        ({"key": "other"}, None),
    ]
    assert {(event["source"], event["detail_type"]) for event in events} == {("ours", "Told")}
    standin.reset()
    assert standin.events() == []


def test_each_entry_is_answered_by_itself(standin, bus):
    bad = entry("[]"), entry("{"), entry(Source="aws.s3"), entry(EventBusName="other"), {"Source": "a", "Detail": "{}"}
    assert put(bus, entry(), *bad) == [
        "",
        "MalformedDetail",
        "MalformedDetail",
        "NotAuthorizedForSourceException",
        "ResourceNotFoundException",
        "InvalidArgument",
    ]
    assert len(standin.events()) == 1


def test_ten_entries_of_one_mebibyte_together_are_taken_and_no_more(bus):
    assert put(bus, *[entry()] * 10) == [""] * 10
    assert refusal(bus, [entry()] * 11) == "ValidationException"
    overhead = 2 * len("oursTold")
    large = json.dumps({"key": "x" * (1024**2 - overhead - len('{"key": ""}') - len('{"key": "k"}'))})
    assert put(bus, entry(), entry(large)) == ["", ""]
    assert refusal(bus, [entry(), entry(large.replace("xx", "xxx", 1))]) == "ValidationException"


def test_some_entries_can_be_refused(standin, bus):
    standin.refuse_events('"key": "k2"', times=2, code="ThrottlingException")
    entries = [entry(json.dumps({"key": f"k{number}"})) for number in range(3)]
    assert put(bus, *entries) == ["", "", "ThrottlingException"]
    assert put(bus, *entries[2:]) == ["ThrottlingException"]
    assert put(bus, *entries[2:]) == [""]
    assert len(standin.events()) == 3


def test_the_bus_has_faults_as_the_others(standin, bus):
    standin.fault("SQS,S3", "error", times=0)
    standin.fault("Events", "error", status=400, code="ThrottlingException")
    assert refusal(bus, [entry()]) == "ThrottlingException"
    standin.fault("PutEvents", "hang")
    begun = time.monotonic()
    with pytest.raises(BotoCoreError):
        put(bus, entry())
    assert 0.9 < time.monotonic() - begun < 5
    assert put(bus, entry()) == [""]
    assert standin.stats()["errors"]["PutEvents"] == {"ThrottlingException": 1}


def test_there_is_no_other_action(bus):
    with pytest.raises(ClientError) as caught:
        bus.list_rules()
    assert caught.value.response["Error"]["Code"] == "UnknownOperationException"
