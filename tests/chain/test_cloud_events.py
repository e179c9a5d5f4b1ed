"""The local cloud: from an event of the source bucket to its rule's queue and function, as on AWS."""

from __future__ import annotations

import json
import uuid

import pytest
from local_cloud import ACCOUNT, REGION, arn_of, client, let_in, metric, wait_for

ON = {"EventBridgeConfiguration": {}}
KEY = "a b/ö+&=(1)%20.txt"


@pytest.fixture
def bucket(s3):
    """A bucket with EventBridge switched on."""
    name = f"source-{uuid.uuid4().hex[:8]}"
    s3.create_bucket(Bucket=name)
    s3.put_bucket_notification_configuration(Bucket=name, NotificationConfiguration=ON)
    return name


@pytest.fixture
def queue(sqs):
    return sqs.create_queue(QueueName=f"queue-{uuid.uuid4().hex[:8]}")["QueueUrl"]


def put_rule(cloud, queue, **pattern):
    """Make a rule that sends such events to the queue; return its name and ARN."""
    events, name = client(cloud, "events"), f"rule-{uuid.uuid4().hex[:8]}"
    arn = events.put_rule(Name=name, EventPattern=json.dumps(pattern))["RuleArn"]
    events.put_targets(Rule=name, Targets=[{"Id": "queue", "Arn": arn_of(client(cloud, "sqs"), queue)}])
    return name, arn


def of_bucket(bucket, prefixes=()):
    """The pattern of deploy.sh's rule."""
    types = ["Object Created", "Object Deleted", "Object Restore Completed"]
    keys = {"object": {"key": [{"prefix": prefix} for prefix in prefixes]}} if prefixes else {}
    return {"source": ["aws.s3"], "detail-type": types, "detail": {"bucket": {"name": [bucket]}, **keys}}


@pytest.fixture
def rule(cloud, sqs, bucket, queue):
    """A rule that sends the bucket's events to the queue."""
    name, arn = put_rule(cloud, queue, **of_bucket(bucket))
    let_in(sqs, queue, arn)
    return name


def receive(sqs, queue):
    """Return the next event in the queue."""
    message = wait_for(lambda: sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=1).get("Messages"))[0]
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    return json.loads(message["Body"])


@pytest.mark.usefixtures("rule")
def test_each_change_is_told_with_its_reason_and_the_key_as_it_is(s3, sqs, bucket, queue):
    place = {"Bucket": bucket, "Key": KEY}
    s3.put_object(**place, Body=b"12345")
    event = receive(sqs, queue)
    assert (event["source"], event["account"], event["region"]) == ("aws.s3", ACCOUNT, REGION)
    created = event["detail"]
    assert (created["bucket"]["name"], created["reason"]) == (bucket, "PutObject")
    assert (created["object"]["key"], created["object"]["size"]) == (KEY, 5)
    s3.copy_object(Bucket=bucket, Key="copy", CopySource=place)
    upload = {**place, "UploadId": s3.create_multipart_upload(**place)["UploadId"]}
    part = s3.upload_part(**upload, PartNumber=1, Body=b"x")["ETag"]
    s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part}]})
    assert {receive(sqs, queue)["detail"]["reason"] for _ in range(2)} == {"CopyObject", "CompleteMultipartUpload"}
    s3.delete_object(**place)
    deleted = receive(sqs, queue)["detail"]
    assert deleted["object"].keys() == {"key", "sequencer"}
    assert (deleted["reason"], deleted["deletion-type"]) == ("DeleteObject", "Permanently Deleted")
    s3.put_object(**place, StorageClass="GLACIER")
    receive(sqs, queue)
    s3.restore_object(**place, RestoreRequest={"Days": 1})
    assert receive(sqs, queue)["detail-type"] == "Object Restore Completed"


def test_nothing_is_told_to_a_rule_after_the_switch_is_off(s3, sqs, bucket, queue, rule, cloud):
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration={})
    s3.put_object(Bucket=bucket, Key="off", Body=b"x")
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=ON)
    s3.put_object(Bucket=bucket, Key="on", Body=b"x")
    assert receive(sqs, queue)["detail"]["object"]["key"] == "on"
    assert metric(cloud, "AWS/Events", "TriggeredRules", RuleName=rule) == 1


def test_a_rule_takes_keys_by_their_prefix_as_it_is_and_its_queue_has_to_let_it_in(cloud, s3, sqs, bucket, queue):
    name, arn = put_rule(cloud, queue, **of_bucket(bucket, ["a b+ö&%20/", "x*"]))
    for number, policy in enumerate((None, f"{arn}-other"), 1):
        if policy:
            let_in(sqs, queue, policy)
        s3.put_object(Bucket=bucket, Key="x*0", Body=b"x")
        wait_for(lambda number=number: metric(cloud, "AWS/Events", "FailedInvocations", RuleName=name) == number)
    let_in(sqs, queue, arn)
    for key in ("a b+ö&%20/1", "a+b+ö&%20/1", "a b", "x*1", "xx1"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    assert {receive(sqs, queue)["detail"]["object"]["key"] for _ in range(2)} == {"a b+ö&%20/1", "x*1"}
    assert metric(cloud, "AWS/Events", "Invocations", RuleName=name) == 4
    assert metric(cloud, "AWS/Events", "FailedInvocations", RuleName=name) == 2


def test_what_is_announced_reaches_the_queue_of_a_rule(cloud, sqs, queue):
    _, arn = put_rule(cloud, queue, **{"source": ["ours"], "detail-type": ["Object Synced"]})
    let_in(sqs, queue, arn)
    entry = {"Source": "ours", "Detail": '{"key": "k"}'}
    kinds = ("Other", "Object Synced")
    client(cloud, "events").put_events(Entries=[entry | {"DetailType": kind} for kind in kinds])
    event = receive(sqs, queue)
    told = event["source"], event["detail-type"], event["account"], event["region"], event["detail"]
    assert told == ("ours", "Object Synced", ACCOUNT, REGION, {"key": "k"})
