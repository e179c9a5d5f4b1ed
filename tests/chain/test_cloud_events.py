"""The local cloud: from an event of the source bucket to its rule's queue and function, as on AWS."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from datetime import datetime

import pytest
from local_cloud import ACCOUNT, REGION, arn_of, client, let_in, metric, wait_for

TYPES = ["Object Created", "Object Deleted", "Object Restore Completed"]
CLIS = [path for name in ("AWS_CLI_V1", "AWS_CLI_V2") if (path := os.environ.get(name))] or ["aws"]
ON = {"EventBridgeConfiguration": {}}


@pytest.fixture
def s3(cloud):
    return client(cloud, "s3")


@pytest.fixture
def sqs(cloud):
    return client(cloud, "sqs")


@pytest.fixture
def events(cloud):
    return client(cloud, "events")


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


def put_rule(events, bucket, *targets, prefixes=()):
    """Make the rule of deploy.sh with those target ARNs; return its name and ARN."""
    name = f"rule-{uuid.uuid4().hex[:8]}"
    detail = {"bucket": {"name": [bucket]}}
    if prefixes:
        detail["object"] = {"key": [{"prefix": prefix} for prefix in prefixes]}
    pattern = json.dumps({"source": ["aws.s3"], "detail-type": TYPES, "detail": detail})
    arn = events.put_rule(Name=name, EventPattern=pattern)["RuleArn"]
    events.put_targets(Rule=name, Targets=[{"Id": target[-20:], "Arn": target} for target in targets])
    return name, arn


@pytest.fixture
def rule(events, sqs, bucket, queue):
    """A rule that sends the bucket's events to the queue."""
    name, arn = put_rule(events, bucket, arn_of(sqs, queue))
    let_in(sqs, queue, arn)
    return name


def receive(sqs, queue):
    """Return the next event in the queue."""
    message = wait_for(lambda: sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=1).get("Messages"))[0]
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    return json.loads(message["Body"])


# --- what S3 sends ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cli", CLIS)
def test_the_switch_stays_beside_a_queue_notification_through_the_cli(cloud, s3, sqs, bucket, queue, cli):
    allow = {"Principal": {"Service": "s3.amazonaws.com"}, "Action": "sqs:SendMessage", "Resource": arn_of(sqs, queue)}
    policy = json.dumps({"Statement": [{"Effect": "Allow", **allow}]})
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": policy})
    notifications = {
        "QueueConfigurations": [{"Id": "q", "QueueArn": arn_of(sqs, queue), "Events": ["s3:ObjectCreated:*"]}]
    }

    def run(command, *more):
        keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": REGION}
        arguments = [cli, "--endpoint-url", cloud, "s3api", command, "--bucket", bucket, *more]
        out = subprocess.run(arguments, env={**os.environ, **keys}, check=True, capture_output=True, text=True)
        return json.loads(out.stdout or "{}")

    wanted = {**notifications, **ON}
    run("put-bucket-notification-configuration", "--notification-configuration", json.dumps(wanted))
    assert run("get-bucket-notification-configuration") == wanted
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=notifications)
    assert "EventBridgeConfiguration" not in s3.get_bucket_notification_configuration(Bucket=bucket)
    assert receive(sqs, queue)["Event"] == "s3:TestEvent"


KEY = "a b/ö+&=(1)%20.txt"


@pytest.mark.usefixtures("rule")
def test_an_upload_is_told_with_its_key_as_it_is(s3, sqs, bucket, queue):
    etag = s3.put_object(Bucket=bucket, Key=KEY, Body=b"12345")["ETag"].strip('"')
    event = receive(sqs, queue)
    assert (event["source"], event["detail-type"], event["account"]) == ("aws.s3", "Object Created", ACCOUNT)
    assert (event["region"], event["resources"]) == (REGION, [f"arn:aws:s3:::{bucket}"])
    assert datetime.strptime(event["time"], "%Y-%m-%dT%H:%M:%SZ")
    told = event["detail"]
    assert (told["bucket"]["name"], told["reason"], told["version"]) == (bucket, "PutObject", "0")
    assert int(told["object"].pop("sequencer"), 16)
    assert told["object"] == {"key": KEY, "size": 5, "etag": etag}
    assert event["id"] != told["request-id"]


@pytest.mark.usefixtures("rule")
def test_a_copy_and_a_multipart_upload_are_told_with_their_reason(s3, sqs, bucket, queue):
    place = {"Bucket": bucket, "Key": "k"}
    s3.put_object(**place, Body=b"x")
    s3.copy_object(Bucket=bucket, Key="copy", CopySource=place)
    upload = {**place, "UploadId": s3.create_multipart_upload(**place)["UploadId"]}
    part = s3.upload_part(**upload, PartNumber=1, Body=b"x")["ETag"]
    s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part}]})
    reasons = {receive(sqs, queue)["detail"]["reason"] for _ in range(3)}
    assert reasons == {"PutObject", "CopyObject", "CompleteMultipartUpload"}


@pytest.mark.usefixtures("rule")
def test_a_deletion_is_told_without_size_and_with_its_type(s3, sqs, bucket, queue):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    s3.delete_object(Bucket=bucket, Key="k")
    created, deleted = (receive(sqs, queue)["detail"] for _ in range(2))
    assert deleted["object"].keys() == {"key", "sequencer"}
    assert (deleted["reason"], deleted["deletion-type"]) == ("DeleteObject", "Permanently Deleted")
    assert deleted["object"]["sequencer"] > created["object"]["sequencer"]


@pytest.mark.usefixtures("rule")
def test_in_a_versioned_bucket_the_version_is_told(s3, sqs, bucket, queue):
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    version = s3.put_object(Bucket=bucket, Key="k", Body=b"x")["VersionId"]
    assert receive(sqs, queue)["detail"]["object"]["version-id"] == version
    marker = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "k"}]})["Deleted"][0]
    told = receive(sqs, queue)["detail"]
    assert told["deletion-type"] == "Delete Marker Created"
    assert told["object"]["version-id"] == marker["DeleteMarkerVersionId"]
    s3.delete_object(Bucket=bucket, Key="k", VersionId=version)
    told = receive(sqs, queue)["detail"]
    assert (told["deletion-type"], told["object"]["version-id"]) == ("Permanently Deleted", version)


@pytest.mark.usefixtures("rule")
def test_a_restored_object_is_told(s3, sqs, bucket, queue):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", StorageClass="GLACIER")
    receive(sqs, queue)
    s3.restore_object(Bucket=bucket, Key="k", RestoreRequest={"Days": 1})
    event = receive(sqs, queue)
    assert event["detail-type"] == "Object Restore Completed"
    assert event["detail"]["source-storage-class"] == "GLACIER"
    assert event["detail"]["object"].keys() == {"key", "size", "etag"}


def test_nothing_is_told_to_a_rule_after_the_switch_is_off(s3, sqs, bucket, queue, rule, cloud):
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration={})
    s3.put_object(Bucket=bucket, Key="off", Body=b"x")
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=ON)
    s3.put_object(Bucket=bucket, Key="on", Body=b"x")
    assert receive(sqs, queue)["detail"]["object"]["key"] == "on"
    assert metric(cloud, "AWS/Events", "TriggeredRules", RuleName=rule) == 1


def test_a_rule_takes_keys_by_their_prefix_as_it_is(events, s3, sqs, bucket, queue):
    prefixes = ["a b+ö&%20/", "x*"]
    _, arn = put_rule(events, bucket, arn_of(sqs, queue), prefixes=prefixes)
    let_in(sqs, queue, arn)
    keys = ["a b+ö&%20/1", "a+b+ö&%20/1", "a b", "x*1", "xx1"]
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    assert {receive(sqs, queue)["detail"]["object"]["key"] for _ in range(2)} == {"a b+ö&%20/1", "x*1"}
    assert "Messages" not in sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=1)


# --- who may get it ----------------------------------------------------------------------------------------------


def test_a_queue_gets_nothing_unless_its_policy_names_the_rule(cloud, events, s3, sqs, bucket, queue):
    name, arn = put_rule(events, bucket, arn_of(sqs, queue))
    for number, policy in enumerate((None, f"{arn}-other"), 1):
        if policy:
            let_in(sqs, queue, policy)
        s3.put_object(Bucket=bucket, Key="k", Body=b"x")
        wait_for(lambda number=number: metric(cloud, "AWS/Events", "FailedInvocations", RuleName=name) == number)
    let_in(sqs, queue, arn)
    s3.put_object(Bucket=bucket, Key="allowed", Body=b"x")
    assert receive(sqs, queue)["detail"]["object"]["key"] == "allowed"
    assert metric(cloud, "AWS/Events", "Invocations", RuleName=name) == 3
    assert metric(cloud, "AWS/Events", "FailedInvocations", RuleName=name) == 2
