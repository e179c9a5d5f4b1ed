"""The worker's rules: settings, identity and metadata of an object, messages, errors, and what it asks of SQS."""

import asyncio
import json
from datetime import UTC, datetime

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    ReadTimeoutError,
)
from fakes import ENVIRONMENT, SETTINGS
from histories import EVENT_FORMS, bridge_event, record_event
from hypothesis import given, strategies
from hypothesis import settings as hypothesis_settings
from invocations import LastingClient
from options_world import with_time

from mirror.concurrency import Slots
from mirror.model.errors import (
    GaveUp,
    describe,
    is_busy,
    is_environment,
    may_be_environment,
    outcome_unknown,
)
from mirror.model.log_lines import summary
from mirror.model.services import MIB
from mirror.protocol.attempt import Upload
from mirror.protocol.objects import source_from_head
from mirror.protocol.verdict import COPY, MISSING
from mirror.queue.messages import OF_GHOST, Queue, handed_back_body, hint_body, read_body
from mirror.readers.listing import Finding
from mirror.readers.repairs import Hints
from mirror.settings import load_settings

# Settings

TABLES = {"TABLES": "delta"}
# What is wrong, and what is said of it. The limits of numbers and words, and what does not go together:
# tests/scripts/test_settings.py.
WRONG = [
    ({"DST_BUCKET": "an-ordinary-bucket"}, "DST_BUCKET='an-ordinary-bucket' has to be .*directory bucket"),
    ({"SRC_BUCKET": "mirror--eun1-az1--x-s3"}, "SRC_BUCKET='mirror--eun1-az1--x-s3' .* the name of a standard bucket"),
    (
        {"QUEUE_URL": "my-queue", "REGION": "mars"},
        "QUEUE_URL='my-queue' .*URL of the SQS queue; REGION='mars' has to be",
    ),
    ({"QUEUE_URL": ""}, "QUEUE_URL is not set"),
    ({"EXCLUDE": "x" * 501}, "has to be at most 500 characters of patterns"),
    ({"EXCLUDE": "\udcff"}, "EXCLUDE='.udcff' has to be"),
    ({"COPY_LAST": "a\tb"}, "has to be patterns of keys"),
    # Each by itself, and then all that do not go together
    ({"VISIBILITY_TIMEOUT": "2", "MAX_RECEIVES": "0"}, "^MAX_RECEIVES='0' [^;]*$"),
    (TABLES | {"KEEP_DAYS": "7", "EXCLUDE": "*.json,"}, "^EXCLUDE=[^;]* empty item; KEEP_DAYS=7 with [^;]*; EXCLUDE="),
]


@pytest.mark.parametrize(("settings", "refusal"), WRONG)
def test_wrong_settings_are_named_with_what_they_have_to_be(settings, refusal):
    with pytest.raises(ValueError, match=refusal):
        load_settings(ENVIRONMENT | settings)


def test_settings_beside_those_are_taken():
    load_settings(ENVIRONMENT | {"EXCLUDE": r"a\, b,*.json", "PREFIX_FILTER": " a/", "KEEP_DAYS": "7"})
    load_settings(ENVIRONMENT | TABLES | {"EXCLUDE": "*.crc", "COPY_LAST": "_SUCCESS", "VISIBILITY_TIMEOUT": "1200"})


# Identity and metadata


def source(**changed: object):
    head = {
        "ETag": '"9bb58f26192e4ba00f01e2e7b136bbd8"',
        "LastModified": datetime(2026, 11, 25, 1, 2, 3, tzinfo=UTC),
        "ContentLength": 5,
        "ContentType": "text/plain",
        "Metadata": {"colour": "red"},
    }
    return source_from_head(head | changed)


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
    assert source(**changed).identity != source().identity
    not_carried = {"StorageClass": "STANDARD_IA", "ReplicationStatus": "COMPLETED", "ServerSideEncryption": "AES256"}
    assert source(**not_carried) == source()


# The value of Expires -> the digest that release 1.3.0 recorded in copies of this source. Another one would have every
# such object copied again.
DIGESTS_OF_1_3_0 = {
    "": "957844a107f5",
    "Tue, 01 Jan 2030 00:00:00 GMT": "892280211e29",
    "Thu, 01 Jan 1970 00:00:00 GMT": "782bc04edcb5",
    "Sun, 06 Nov 1994 08:49:37 GMT": "47cab564e7e3",
    "0": "f38d0893aefe",
    "-1": "e79be594f420",
    "2030-01-01T00:00:00Z": "74057d43a12e",
}


@pytest.mark.parametrize("expires", DIGESTS_OF_1_3_0)
def test_what_1_3_0_has_copied_is_not_copied_again(expires):
    shown = {"ExpiresString": expires, "Expires": datetime(1970, 1, 1, tzinfo=UTC)} if expires else {}
    assert source(**shown).identity.split(" ")[-1] == DIGESTS_OF_1_3_0[expires]


# What a head has -> whether its metadata can be sent back as they came, and the archive that it is in. The rest, on a
# bucket: tests/worker/test_copies.py.
HEADS = [
    ({"MissingMeta": 1}, False, ""),
    ({"ExpiresString": "never"}, False, ""),
    ({"ExpiresString": "Tue, 01 Jan 2030 00:00:00 GMT"}, True, ""),
    ({"StorageClass": "GLACIER_IR"}, True, ""),
    ({"StorageClass": "DEEP_ARCHIVE", "Restore": 'ongoing-request="true"'}, True, "DEEP_ARCHIVE"),
]


@pytest.mark.parametrize(("changed", "can_be", "archived"), HEADS)
def test_what_a_head_says_of_metadata_and_of_an_archive(changed, can_be, archived):
    found = source(**changed)
    assert (found.carries_provenance, found.archived) == (can_be, archived)


# Messages

KEYS = ["a%20b", "a+b", "%2B", "100%", "a b/c//", "caf\u00e9/\u6a21\u578b \U0001f600", "&=?#", "%E6%A8", "+ %2520"]
TEXT = strategies.text(alphabet=strategies.characters(exclude_categories=["Cs"]), min_size=1)


@hypothesis_settings(deadline=None)  # which would measure how busy the machine is
@given(TEXT | strategies.sampled_from(KEYS), strategies.booleans())
def test_both_forms_of_an_event_ask_for_the_same(name, is_deleted):
    key = f"data/{name}"
    classic, bridge = (read_body(with_time(json.dumps(form(key, is_deleted)), 1e9), SETTINGS) for form in EVENT_FORMS)
    assert classic == bridge
    assert (bridge.keys, bridge.event_time, bridge.destination_first) == ({key}, 1e9, is_deleted)


def test_a_key_is_decoded_from_its_form_encoding():
    body = json.dumps(record_event("data/KEY", False))
    for encoded, key in (("a+b%2Bc%26%C3%A9%3D%281%29.txt", "a b+c&é=(1).txt"), ("a%20b//", "a b//")):
        assert read_body(body.replace("KEY", encoded), SETTINGS).keys == {f"data/{key}"}


OURS = json.dumps(bridge_event("data/k", False))
NO_EVENTS = [
    *("hello", "[]", "{}", '{"Records": [{"s3": {}}]}', '{"Records": 5}', "null", "[" * 100_000),
    *('{"source": "aws.s3"}', '{"source": "aws.events", "detail": {}}', OURS.replace('"key"', '"k"')),
    OURS.replace('"source": "aws.s3"', '"source": "aws.s4"'),
]
NOT_OURS = [
    *(json.dumps(form("other/k", False)) for form in EVENT_FORMS),
    *(json.dumps(form("data/k", False)).replace('"name": "source"', '"name": "another"') for form in EVENT_FORMS),
    '{"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "source"}',
]


@pytest.mark.parametrize("body", NO_EVENTS + NOT_OURS)
def test_another_bucket_or_prefix_asks_for_nothing_and_what_is_no_event_is_an_error(body):
    if body in NOT_OURS:
        assert read_body(body, SETTINGS).keys == set()
    else:
        with pytest.raises(ValueError, match="not an S3 event"):
            read_body(body, SETTINGS)


def test_what_a_worker_of_1_1_0_handed_back_is_gone_on_with():
    """Its body as that release wrote it: an upgrade finds such messages in the queue."""
    record = {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "source"}, "object": {"key": "data/big%2B1"}}}
    upload = {"upload_id": "upload-1", "source": "identity", "part_size": 64 * MIB}
    body = {"Records": [{"eventSource": "aws:s3", **record}], "sync": {"uploads": {"data/big+1": upload}, "tries": 3}}
    got = read_body(json.dumps(body), SETTINGS)
    assert got.uploads == {"data/big+1": Upload("upload-1", "identity", 64 * MIB)}
    assert (got.keys, got.tries, got.waiting_since) == ({"data/big+1"}, 3, None)


def test_only_a_ghost_that_no_worker_has_begun_with_is_known_as_one():
    """A worker that handed the message back may have left a copy without a mark under way."""
    body = hint_body(SETTINGS.src_bucket, ["data/a"], OF_GHOST)
    bodies = body, handed_back_body(body, {}, 0), hint_body(SETTINGS.src_bucket, ["data/a"])
    assert [read_body(one, SETTINGS).are_ghosts for one in bodies] == [True, False, False]


def test_a_summary_counts_what_did_not_happen_as_nothing():
    done = "summary copied=0 deleted=0 skipped=2 failed=0 handed_back=0 bytes=0 seconds=4.0 objects/s=0.5"
    assert summary({"skipped": 2}, 4, 1.5, announces=False) == f"{done} busy=0 cpu=1.50"
    assert summary({"skipped": 2}, 4, 1.5, announces=True) == f"{done} announced=0 unannounced=0 busy=0 cpu=1.50"


# Errors


def of(code: str, operation: str = "CopyObject") -> ClientError:
    return ClientError({"Error": {"Code": code}}, operation)


def test_what_has_no_answer_may_still_take_effect():
    silent = ReadTimeoutError(endpoint_url="u"), ConnectionClosedError(endpoint_url="u"), of("InternalError"), of("500")
    refused = ConnectTimeoutError(endpoint_url="u"), of("SlowDown"), of("503")
    assert [outcome_unknown(error) for error in (*silent, *refused)] == [True] * 4 + [False] * 3
    assert all(map(is_busy, refused))


def test_what_names_no_key_is_no_keys_fault():
    of_all = of("AccessDenied", "ListObjectsV2"), of("AccessDenied", "CreateSession"), of("AccessDenied")
    assert [is_environment(error) for error in of_all] == [True, True, False]


def test_only_others_can_show_whether_a_key_that_s3_was_too_busy_for_is_at_fault():
    assert (may_be_environment(GaveUp()), may_be_environment(of("SlowDown"))) == (True, False)


ASKED = 'User: arn:aws:sts::1:assumed-role/r/t is not authorized to perform: s3:GetObject on resource: "arn:aws:s3:::b/'
# The end of AWS's message (IAM User Guide, "Troubleshoot access denied error messages") -> what the advice speaks of.
DENIALS = {
    "because no identity-based policy allows the s3:GetObject action": "run deploy.sh",
    "with an explicit deny in an identity-based policy": "somebody has added",
    "with an explicit deny in a resource-based policy": "policy of the bucket or the KMS key",
    "because no resource-based policy allows the s3:GetObject action": "policy of the bucket or the KMS key",
    "with an explicit deny in a permissions boundary": "ROLE_BOUNDARY_ARN",
    "because no permissions boundary allows the s3:GetObject action": "ROLE_BOUNDARY_ARN",
    "with an explicit deny in a service control policy": "organization",
    "because no service control policy allows the s3:GetObject action: arn:aws:p": "organization",
}


@pytest.mark.parametrize("words", DENIALS)
def test_the_advice_on_a_denial_goes_by_the_policy_that_aws_names(words):
    """Whatever the key is called."""
    for key in ("key", *(other for other in DENIALS if other != words)):
        error = ClientError({"Error": {"Code": "AccessDenied", "Message": f'{ASKED}{key}" {words}'}}, "GetObject")
        advice = describe(error).rpartition(' advice="')[2]
        assert DENIALS[words] in advice
        assert ("run deploy.sh" in advice) == (DENIALS[words] == "run deploy.sh")


def test_advice_for_s3_is_not_given_for_the_queue():
    assert "advice" in describe(of("AccessDenied"))
    assert describe(of("AccessDenied", "ReceiveMessage")) == 'operation=ReceiveMessage error=AccessDenied message=""'


# What it asks of SQS


class Sqs:
    """Answers with what it was given, first of all by an error of that code, and keeps what it was asked."""

    def __init__(self, **answers):
        self.answers, self.asked = answers, []
        self.queue = Queue(LastingClient(self.answer), "url")

    async def answer(self, operation, arguments):
        self.asked.append((operation, arguments))
        answer = self.answers.get(operation, {})
        if isinstance(answer, str) and len(self.asked) == 1:
            raise of(answer, operation)
        return answer if isinstance(answer, dict) else {}


ONE = {"QueueUrl": "url", "MessageBody": "b", "DelaySeconds": 0}


@pytest.mark.parametrize(("group", "named"), [("reconcile", {"MessageGroupId": "reconcile"}), ("", {})])
def test_a_group_is_named_if_there_is_one_and_what_a_batch_lost_is_sent_alone(group, named):
    sqs = Sqs(send_message_batch={"Failed": [{"Id": "1"}]})
    asyncio.run(sqs.queue.send_batch(["a", "b"], group))
    entries = [{"Id": str(number), "MessageBody": body} | named for number, body in enumerate("ab")]
    batch = {"QueueUrl": "url", "Entries": entries}
    assert sqs.asked == [("send_message_batch", batch), ("send_message", ONE | named)]


def test_where_a_group_is_refused_the_message_goes_without_and_any_other_refusal_is_raised():
    sqs = Sqs(send_message="InvalidParameterValue")
    asyncio.run(sqs.queue.send("b", 5000, "reconcile"))
    assert sqs.asked[1:] == [("send_message", ONE | {"DelaySeconds": 900})]
    for code, group in (("InvalidParameterValue", ""), ("AccessDenied", "reconcile")):
        with pytest.raises(ClientError, match=code):
            asyncio.run(Sqs(send_message=code).queue.send("a", 0, group))


def test_lists_may_be_null_and_what_sqs_knows_no_longer_is_not_deleted_again_and_again():
    queue = Sqs(receive_message={"Messages": None}, delete_message_batch={"Failed": None}).queue
    assert asyncio.run(queue.receive(0, 1)) == []
    assert asyncio.run(queue.delete(["handle"])) == set()
    codes = {"0": "ReceiptHandleIsInvalid", "1": "InternalError"}
    failed = {"Failed": [{"Id": number, "Code": code} for number, code in codes.items()]}
    assert asyncio.run(Sqs(delete_message_batch=failed).queue.delete(["gone", "refused", "deleted"])) == {"refused"}


def test_the_keys_of_a_comparison_are_sent_side_by_side_and_each_once():
    keys, sent, under_way = [f"data/{number}" for number in range(5 * 80 + 3)], [], []

    async def answer(_operation, arguments):
        under_way.append(len(sent))
        await asyncio.sleep(0)
        sent.extend(entry["MessageBody"] for entry in arguments["Entries"])
        return {}

    async def send_all():
        hints = Hints(SETTINGS, Queue(LastingClient(answer), "url"))
        await hints.send([Finding(key, MISSING, COPY) for key in keys])
        assert hints.sent == 5 * 80  # the rest waits for a full batch
        await hints.send([], last=True)

    asyncio.run(send_all())
    assert sorted(key for body in sent for key in read_body(body, SETTINGS).keys) == sorted(keys)
    assert under_way.count(0) == 5


# Parts side by side: this many at a time in all, and keys take turns


def test_slots_are_shared_in_turns_and_free_again_after_an_error_or_a_cancellation():
    slots, begun = Slots(2), []

    async def copy(part):
        begun.append(part)
        await asyncio.sleep(0)
        if part == "fails":
            raise ValueError(part)

    async def all_of_it():
        await asyncio.gather(*(slots.run(copy, [f"{key}{number}" for number in range(6)]) for key in "ab"))
        assert sorted(begun) == sorted(f"{key}{number}" for key in "ab" for number in range(6))
        assert {part[0] for part in begun[2:6]} == {"a", "b"}
        with pytest.raises(ValueError, match="fails"):
            await slots.run(copy, ["fails", "x", "y", "z"])
        slow = asyncio.create_task(slots.run(copy, "efgh"))
        await asyncio.sleep(0)
        slow.cancel()  # before the first of them has begun
        await asyncio.wait([slow])
        await asyncio.wait_for(slots.run(copy, "uv"), 5)
        assert (begun[12:14], begun[-2:]) == (["fails", "x"], ["u", "v"])
        assert not {"y", "z", "g", "h"} & {*begun}

    asyncio.run(all_of_it())
