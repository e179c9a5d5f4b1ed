"""The local cloud: from an event of the source bucket to its rule's queue and function, as on AWS."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from datetime import datetime

import pytest
from local_cloud import ACCOUNT, REGION, arn_of, as_role, client, error_of, let_in, metric, wait_for

CLIS = [path for name in ("AWS_CLI_V1", "AWS_CLI_V2") if (path := os.environ.get(name))] or ["aws"]
ON = {"EventBridgeConfiguration": {}}
KEY = "a b/ö+&=(1)%20.txt"


@pytest.fixture
def s3(cloud):
    return client(cloud, "s3")


@pytest.fixture
def sqs(cloud):
    return client(cloud, "sqs")


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


@pytest.mark.usefixtures("rule")
def test_each_change_is_told_as_s3_tells_it(s3, sqs, bucket, queue):
    place = {"Bucket": bucket, "Key": KEY}
    etag = s3.put_object(**place, Body=b"12345")["ETag"].strip('"')
    event = receive(sqs, queue)
    assert (event["source"], event["account"], event["region"]) == ("aws.s3", ACCOUNT, REGION)
    assert event["resources"] == [f"arn:aws:s3:::{bucket}"]
    assert datetime.strptime(event["time"], "%Y-%m-%dT%H:%M:%SZ")
    created = event["detail"]
    assert (created["bucket"]["name"], created["reason"], created["version"]) == (bucket, "PutObject", "0")
    sequencer = created["object"].pop("sequencer")
    assert created["object"] == {"key": KEY, "size": 5, "etag": etag}
    assert event["id"] != created["request-id"]
    s3.copy_object(Bucket=bucket, Key="copy", CopySource=place)
    upload = {**place, "UploadId": s3.create_multipart_upload(**place)["UploadId"]}
    part = s3.upload_part(**upload, PartNumber=1, Body=b"x")["ETag"]
    s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part}]})
    assert {receive(sqs, queue)["detail"]["reason"] for _ in range(2)} == {"CopyObject", "CompleteMultipartUpload"}
    s3.delete_object(**place)
    deleted = receive(sqs, queue)["detail"]
    assert deleted["object"].keys() == {"key", "sequencer"}
    assert (deleted["reason"], deleted["deletion-type"]) == ("DeleteObject", "Permanently Deleted")
    assert int(deleted["object"]["sequencer"], 16) > int(sequencer, 16)
    s3.put_object(**place, StorageClass="GLACIER")
    receive(sqs, queue)
    s3.restore_object(**place, RestoreRequest={"Days": 1})
    event = receive(sqs, queue)
    assert (event["detail-type"], event["detail"]["source-storage-class"]) == ("Object Restore Completed", "GLACIER")
    assert event["detail"]["object"].keys() == {"key", "size", "etag"}


@pytest.mark.usefixtures("rule")
def test_in_a_versioned_bucket_the_version_is_told(s3, sqs, bucket, queue):
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    version = s3.put_object(Bucket=bucket, Key="k", Body=b"x")["VersionId"]
    marker = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "k"}]})["Deleted"][0]
    s3.delete_object(Bucket=bucket, Key="k", VersionId=version)
    told = [receive(sqs, queue)["detail"] for _ in range(3)]
    assert [(one.get("deletion-type"), one["object"]["version-id"]) for one in told] == [
        (None, version),
        ("Delete Marker Created", marker["DeleteMarkerVersionId"]),
        ("Permanently Deleted", version),
    ]


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


def test_what_is_announced_by_who_may_reaches_the_queue_of_a_rule(cloud, sqs, queue):
    _, arn = put_rule(cloud, queue, **{"source": ["ours"], "detail-type": ["Object Synced"]})
    let_in(sqs, queue, arn)
    bus, entry = f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/default", {"Source": "ours", "Detail": '{"key": "k"}'}
    allowed, denied = (as_role(cloud, (what, bus), service="events") for what in ("events:PutEvents", "events:PutRule"))
    assert error_of(denied.put_events, Entries=[entry | {"DetailType": "Object Synced"}])[1] == "AccessDeniedException"
    allowed.put_events(Entries=[entry | {"DetailType": kind} for kind in ("Other", "Object Synced")])
    event = receive(sqs, queue)
    told = event["source"], event["detail-type"], event["account"], event["region"], event["detail"]
    assert told == ("ours", "Object Synced", ACCOUNT, REGION, {"key": "k"})
