"""The worker's pure rules: settings, identity and metadata of an object, messages."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote_plus

import pytest
from botocore.exceptions import ClientError
from hypothesis import given, strategies
from hypothesis import settings as hypothesis_settings

from mirror.model.errors import describe
from mirror.model.limits import MIB
from mirror.model.log_lines import summary
from mirror.protocol.attempt import Upload
from mirror.protocol.objects import metadata_to_send, source_from_head
from mirror.queue.messages import Queue, handed_back_body, hint_body, read_body
from mirror.settings import Settings, load_settings

REQUIRED = {
    "REGION": "eu-north-1",
    "SRC_BUCKET": "source",
    "DST_BUCKET": "mirror--eun1-az1--x-s3",
    "QUEUE_URL": "https://sqs.eu-north-1.amazonaws.com/111122223333/q",
}


EXPIRES = datetime(2030, 1, 1, tzinfo=UTC)


def settings(**changed: str) -> Settings:
    return load_settings(REQUIRED | changed)


def head(**changed: object) -> dict:
    answer = {
        "ETag": '"9bb58f26192e4ba00f01e2e7b136bbd8"',
        "LastModified": datetime(2026, 11, 25, 1, 2, 3, tzinfo=UTC),
        "ContentLength": 5,
        "ContentType": "text/plain",
        "Metadata": {"colour": "red"},
    }
    return answer | changed


# Settings


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("PART_SIZE", "5242879", "from 5242880 to 5368709120"),
        ("MULTIPART_THRESHOLD", "5368709121", "from 5242880 to 5368709120"),
        ("WAIT_TIME_SECONDS", "0", "from 1 to 20"),
        ("COPY_TIMEOUT", "901", "from 1 to 900"),
        ("VISIBILITY_TIMEOUT", "2h", "whole number"),
        ("VISIBILITY_TIMEOUT", "-5", "whole number"),
        ("DST_BUCKET", "an-ordinary-bucket", "directory bucket"),
        ("SRC_BUCKET", "mirror--eun1-az1--x-s3", "the name of a standard bucket"),
        ("QUEUE_URL", "my-queue", "URL of the SQS queue"),
        ("SRC_BUCKET_OWNER", "12345", "12 digits"),
        ("LOG_LEVEL", "LOUD", "DEBUG, INFO"),
    ],
)
def test_a_wrong_setting_is_named_with_what_it_has_to_be(name, value, rule):
    with pytest.raises(ValueError, match=rule) as error:
        settings(**{name: value})
    assert str(error.value).startswith(f"{name}={value!r}")


def test_all_wrong_settings_are_named_at_once():
    with pytest.raises(ValueError, match=r"REGION.*PART_SIZE"):
        settings(REGION="mars", PART_SIZE="1")
    with pytest.raises(ValueError, match="QUEUE_URL is not set"):
        load_settings({name: value for name, value in REQUIRED.items() if name != "QUEUE_URL"})


def test_a_message_may_not_come_back_before_a_copy_of_a_dead_worker_has_ended():
    with pytest.raises(ValueError, match="VISIBILITY_TIMEOUT=1199 has to be at least 1200"):
        settings(VISIBILITY_TIMEOUT="1199")
    assert settings(VISIBILITY_TIMEOUT="1200").visibility_timeout == 1200


# Identity and metadata


@pytest.mark.parametrize(
    "changed",
    [
        {"ETag": '"0"'},
        {"LastModified": datetime(2026, 11, 25, 1, 2, 4, tzinfo=UTC)},
        {"ContentLength": 6},
        {"VersionId": "v2"},
        {"Metadata": {"colour": "blue"}},
        {"ContentType": "text/html"},
        {"ExpiresString": "never"},
    ],
)
def test_every_change_of_a_source_object_changes_its_identity(changed):
    assert source_from_head(head(**changed)).identity != source_from_head(head()).identity


def test_the_identity_does_not_depend_on_what_a_copy_does_not_carry():
    same = head(StorageClass="STANDARD_IA", ReplicationStatus="COMPLETED", ServerSideEncryption="AES256")
    assert source_from_head(same) == source_from_head(head())


def test_all_replicated_metadata_is_sent_with_the_provenance():
    everything = {
        "CacheControl": "no-cache",
        "ContentDisposition": "inline",
        "ContentEncoding": "gzip",
        "ContentLanguage": "fi",
        "Expires": EXPIRES,
    }
    source = source_from_head(head(**everything))
    sent = metadata_to_send(source, without_encoding=False)
    assert sent == everything | {
        "ContentType": "text/plain",
        "Metadata": {"colour": "red", "sync-source": source.identity},
    }


@pytest.mark.parametrize(
    ("changed", "without_encoding", "sent"),
    [
        ({"ContentEncoding": "gzip"}, True, {"colour": "red", "sync-content-encoding": "gzip"}),
        ({"Metadata": {"long": "x" * 2000}}, False, {"long": "x" * 2000}),  # no room for the provenance
    ],
)
def test_user_metadata_is_sent_as_far_as_it_can_be(changed, without_encoding, sent):
    arguments = metadata_to_send(source_from_head(head(**changed)), without_encoding)
    assert "ContentEncoding" not in arguments
    assert {name: text for name, text in arguments["Metadata"].items() if name != "sync-source"} == sent
    assert ("sync-source" in arguments["Metadata"]) == without_encoding


@pytest.mark.parametrize(
    ("changed", "can_be"),
    [
        ({"Metadata": {"name": "=?UTF-8?B?5pel5pys?="}}, False),
        ({"Metadata": {"name": "日本"}}, False),
        ({"MissingMeta": 1}, False),
        ({"ExpiresString": "never"}, False),
        ({"ContentDisposition": "attachment; filename=\u65e5"}, False),
        ({"Expires": EXPIRES, "ExpiresString": "Tue, 01 Jan 2030 00:00:00 GMT"}, True),
    ],
)
def test_metadata_can_be_sent_back_as_it_came_or_not(changed, can_be):
    assert source_from_head(head(**changed)).carries_provenance is can_be


@pytest.mark.parametrize(
    ("changed", "archived"),
    [
        ({}, ""),
        ({"StorageClass": "STANDARD_IA"}, ""),
        ({"StorageClass": "GLACIER_IR"}, ""),
        ({"StorageClass": "GLACIER"}, "GLACIER"),
        ({"StorageClass": "DEEP_ARCHIVE", "Restore": 'ongoing-request="true"'}, "DEEP_ARCHIVE"),
        ({"StorageClass": "GLACIER", "Restore": 'ongoing-request="false", expiry-date="..."'}, ""),
        ({"StorageClass": "INTELLIGENT_TIERING", "ArchiveStatus": "ARCHIVE_ACCESS"}, "ARCHIVE_ACCESS"),
    ],
)
def test_an_archived_object_is_told_from_one_that_can_be_read(changed, archived):
    assert source_from_head(head(**changed)).archived == archived


# Messages


def event(
    key: str, bucket: str = "source", name: str = "ObjectCreated:Put", time: str = "2026-11-25T01:02:03.500Z"
) -> str:
    record = {"eventSource": "aws:s3", "eventName": name, "eventTime": time}
    place = {"s3": {"bucket": {"name": bucket}, "object": {"key": key}}}
    return json.dumps({"Records": [record | place]})


def bridge_event(key: str, kind: str = "Object Created", bucket: str = "source") -> str:
    """S3 User Guide, "EventBridge event message structure", and what came to it in 2026."""
    body = {"version": "0", "id": "17793124", "detail-type": kind, "source": "aws.s3", "account": "111122223333"}
    body |= {"time": "2026-11-25T01:02:03Z", "region": "eu-north-1", "resources": [f"arn:aws:s3:::{bucket}"]}
    thing = {"key": key, "size": 5, "etag": "b1946ac92492d2347c6235b4d2611184", "sequencer": "00617F08299329D189"}
    tags = {"name": bucket, "aws-generated-tags": {}}
    return json.dumps(body | {"detail": {"version": "0", "bucket": tags, "object": thing, "reason": "PutObject"}})


KEYS = ["a%20b", "a+b", "%2B", "100%", "a b/c//", "caf\u00e9/\u6a21\u578b \U0001f600", "&=?#", "%E6%A8", "+ %2520"]


KINDS = {
    "ObjectCreated:Put": "Object Created",
    "ObjectRemoved:Delete": "Object Deleted",
    "LifecycleExpiration:Delete": "Object Deleted",
    "ObjectRestore:Completed": "Object Restore Completed",
}
TEXT = strategies.text(alphabet=strategies.characters(exclude_categories=["Cs"]), min_size=1)


@hypothesis_settings(deadline=None)  # which would measure how busy the machine is
@given(TEXT | strategies.sampled_from(KEYS), strategies.sampled_from(sorted(KINDS)))
def test_both_forms_of_an_event_ask_for_the_same(key, name):
    classic = event(quote_plus(key), name=name, time="2026-11-25T01:02:03.000Z")
    got = read_body(bridge_event(key, KINDS[name]), settings())
    assert got == read_body(classic, settings())
    assert got.keys == {key}
    assert got.event_time == datetime(2026, 11, 25, 1, 2, 3, tzinfo=UTC).timestamp()
    assert got.destination_first == (not name.startswith("ObjectCreated"))


@pytest.mark.parametrize(
    ("encoded", "key"),
    [
        ("a+b%2Bc%26%C3%A9%3D%281%29.txt", "a b+c&é=(1).txt"),
        ("in/a%20b", "in/a b"),
        ("%2Flead//trail/", "/lead//trail/"),
    ],
)
def test_a_key_is_decoded_from_its_form_encoding(encoded, key):
    got = read_body(event(encoded), settings())
    assert got.keys == {key}
    assert got.event_time == datetime(2026, 11, 25, 1, 2, 3, 500_000, tzinfo=UTC).timestamp()
    assert not got.destination_first


@pytest.mark.parametrize(
    "body",
    [
        *(event("k", bucket="another"), event("other/k"), bridge_event("k", bucket="another"), bridge_event("other/k")),
        '{"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "source"}',
    ],
)
def test_another_bucket_a_key_outside_the_prefix_and_a_test_ask_for_nothing(body):
    assert read_body(body, settings(PREFIX_FILTER="models/")).keys == set()


def test_a_summary_counts_what_did_not_happen_as_nothing():
    done = "summary copied=0 deleted=0 skipped=2 failed=0 handed_back=0 bytes=0 seconds=4.0 objects/s=0.5"
    assert summary({"skipped": 2}, 4, 1.5, announces=False) == f"{done} busy=0 cpu=1.50"
    assert summary({"skipped": 2}, 4, 1.5, announces=True) == f"{done} announced=0 unannounced=0 busy=0 cpu=1.50"


def test_advice_for_s3_is_not_given_for_the_queue():
    denied = {"Error": {"Code": "AccessDenied", "Message": "no"}}
    assert "advice" in describe(ClientError(denied, "CopyObject"))
    assert describe(ClientError(denied, "ReceiveMessage")) == (
        'operation=ReceiveMessage error=AccessDenied message="no"'
    )


@pytest.mark.parametrize(
    "body",
    [
        *("hello", "[]", "{}", '{"Records": [{"s3": {}}]}', '{"Records": 5}', "null", "[" * 100_000),
        *('{"source": "aws.s3"}', '{"source": "aws.events", "detail": {}}', bridge_event("k").replace('"key"', '"k"')),
        bridge_event("k").replace('"source": "aws.s3"', '"source": "aws.s4"'),
    ],
)
def test_a_body_that_is_no_event_is_an_error_that_shows_it(body):
    with pytest.raises(ValueError, match="not an S3 event"):
        read_body(body, settings())


@pytest.mark.parametrize("are_missing", [False, True])
def test_a_hint_is_read_like_an_event_and_begins_with_the_destination_unless_its_keys_are_missing(are_missing):
    got = read_body(hint_body("source", ["a b+c&é", "d"], are_missing=are_missing), settings())
    assert got.keys == {"a b+c&é", "d"}
    assert got.destination_first is not are_missing


def test_a_message_that_is_handed_back_carries_its_uploads_and_its_tries():
    uploads = {"big+1": Upload("upload-1", "identity", 64 * MIB)}
    for body in (event("big%2B1"), bridge_event("big+1")):
        assert read_body(body, settings()).tries == 0
        again = read_body(handed_back_body(body, uploads, 2), settings())
        assert again.keys == {"big+1"}
        assert again.uploads == uploads
        assert again.tries == 2


def test_what_a_worker_of_1_1_0_handed_back_is_gone_on_with():
    """Its body as that release wrote it: an upgrade finds such messages in the queue."""
    record = {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "source"}, "object": {"key": "big%2B1"}}}
    upload = {"upload_id": "upload-1", "source": "identity", "part_size": 64 * MIB}
    body = {"Records": [{"eventSource": "aws:s3", **record}], "sync": {"uploads": {"big+1": upload}, "tries": 3}}
    got = read_body(json.dumps(body), settings())
    assert got.uploads == {"big+1": Upload("upload-1", "identity", 64 * MIB)}
    assert (got.keys, got.tries, got.waiting_since) == ({"big+1"}, 3, None)


def test_what_sqs_knows_no_longer_is_not_deleted_again_and_again() -> None:
    class Sqs:
        async def delete_message_batch(self, **_: Any) -> dict[str, Any]:
            codes = {"0": "ReceiptHandleIsInvalid", "1": "InternalError"}
            return {"Failed": [{"Id": number, "Code": code} for number, code in codes.items()]}

    assert asyncio.run(Queue(Sqs(), "the queue").delete(["gone", "refused", "deleted"])) == {"refused"}
