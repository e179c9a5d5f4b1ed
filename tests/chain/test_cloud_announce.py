"""The local cloud: what a worker announces reaches a queue by a rule on it, and only if the worker may."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from local_cloud import ACCOUNT, DIRECTORY, REGION, arn_of, client, let_in, make_role

import worker

SOURCE, MIRROR = "source", "mirror--use1-az4--x-s3"
BUS = f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/default"
PATTERN = {"source": ["s3-to-s3express-sync"], "detail-type": ["Object Synced"]}
COPYING = [
    ("sqs:*", "*", {}),
    ("s3:GetObject", f"arn:aws:s3:::{SOURCE}/*", {}),
    ("s3:ListBucket", f"arn:aws:s3:::{SOURCE}", {}),
    ("s3express:CreateSession", "*", {}),
]


@pytest.fixture(scope="module")
def queue(cloud):
    """The worker's queue, with both buckets made."""
    s3 = client(cloud, "s3")
    s3.create_bucket(Bucket=SOURCE)
    s3.create_bucket(Bucket=MIRROR, CreateBucketConfiguration=DIRECTORY)
    return client(cloud, "sqs").create_queue(QueueName="sync-q")["QueueUrl"]


@pytest.fixture(scope="module")
def told(cloud):
    """The queue of those who want to know, and a rule that sends to it."""
    sqs, events = client(cloud, "sqs"), client(cloud, "events")
    url = sqs.create_queue(QueueName="told")["QueueUrl"]
    rule = events.put_rule(Name="told", EventPattern=json.dumps(PATTERN))["RuleArn"]
    events.put_targets(Rule="told", Targets=[{"Id": "told", "Arn": arn_of(sqs, url)}])
    let_in(sqs, url, rule)
    return url


def run_worker(cloud, queue, *grants):
    """The output of a worker in a role that may copy, and what the grants say."""
    role = make_role(cloud, "ecs-tasks.amazonaws.com", *COPYING, *grants)
    keys = client(cloud, "sts").assume_role(RoleArn=role, RoleSessionName="worker")["Credentials"]
    environment = {
        "PATH": os.environ["PATH"],
        "AWS_ENDPOINT_URL": cloud,
        "AWS_ACCESS_KEY_ID": keys["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": keys["SecretAccessKey"],
        "AWS_SESSION_TOKEN": keys["SessionToken"],
        "REGION": REGION,
        "SRC_BUCKET": SOURCE,
        "DST_BUCKET": MIRROR,
        "QUEUE_URL": queue,
        "ANNOUNCE": "all",
        "WAIT_TIME_SECONDS": "1",
        "EMPTY_POLLS_BEFORE_EXIT": "1",
    }
    command = [sys.executable, Path(worker.__file__)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def ask_for(cloud, queue, key):
    """Put what a notification of the bucket would."""
    event = {"eventSource": "aws:s3", "eventName": "ObjectCreated:Put"}
    event["s3"] = {"bucket": {"name": SOURCE}, "object": {"key": key}}
    client(cloud, "sqs").send_message(QueueUrl=queue, MessageBody=json.dumps({"Records": [event]}))


def test_what_is_announced_reaches_the_queue_of_a_rule(cloud, queue, told):
    s3, sqs = client(cloud, "s3"), client(cloud, "sqs")
    etag = s3.put_object(Bucket=SOURCE, Key="day/_SUCCESS", Body=b"12345")["ETag"].strip('"')
    ask_for(cloud, queue, "day/_SUCCESS")
    assert "announced=1 unannounced=0" in run_worker(cloud, queue, ("events:PutEvents", BUS, {}))
    (message,) = sqs.receive_message(QueueUrl=told, WaitTimeSeconds=20)["Messages"]
    event = json.loads(message["Body"])
    assert (event["source"], event["detail-type"]) == ("s3-to-s3express-sync", "Object Synced")
    assert (event["account"], event["region"]) == (ACCOUNT, REGION)
    version = event["detail"].pop("source-version")
    assert (version["etag"], version["size"]) == (etag, 5)
    assert event["detail"] == {
        "bucket": MIRROR,
        "source-bucket": SOURCE,
        "key": "day/_SUCCESS",
        "action": "copied",
        "size": 5,
    }
    sqs.delete_message(QueueUrl=told, ReceiptHandle=message["ReceiptHandle"])


def test_without_the_right_it_is_copied_and_said(cloud, queue, told):
    client(cloud, "s3").put_object(Bucket=SOURCE, Key="k", Body=b"1")
    ask_for(cloud, queue, "k")
    output = run_worker(cloud, queue)
    assert client(cloud, "s3").head_object(Bucket=MIRROR, Key="k")["ContentLength"] == 1
    assert "could not announce 1 keys: operation=PutEvents error=AccessDeniedException" in output
    assert "run deploy.sh with ANNOUNCE set" in output
    assert "announced=0 unannounced=1" in output
    assert "Messages" not in client(cloud, "sqs").receive_message(QueueUrl=told, WaitTimeSeconds=1)
