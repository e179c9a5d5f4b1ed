"""What the tests of the local cloud share: clients, roles, metrics."""

from __future__ import annotations

import functools
import json
import uuid
from datetime import UTC, datetime, timedelta

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

ACCOUNT = "000000000000"
REGION = "us-east-1"
# What a task runs where there is no Docker engine: it obeys WHAT.
TASK_PROGRAM = """
import os, signal, sys
what = os.environ["WHAT"]
if what == "obey":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
if what == "ignore":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if what == "fail":
    sys.exit(3)
print("ready", flush=True)
signal.pause()
"""


def task_program(folder):
    """Write the program that stands in for worker.py; return its path."""
    program = folder / "worker.py"
    program.write_text(TASK_PROGRAM)
    return str(program)


@functools.cache
def client(cloud, service, **credentials):
    """A client of the account's root user, or of the given credentials, which checks no parameter itself."""
    root = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    config = Config(retries={"total_max_attempts": 1}, parameter_validation=False)
    return boto3.client(service, endpoint_url=cloud, region_name=REGION, config=config, **(credentials or root))


def make_role(cloud, service, *statements):
    """Make a role that the service and the account may assume, with the given (action, resource, condition) grants."""
    iam, name = client(cloud, "iam"), f"role-{uuid.uuid4().hex[:8]}"
    who = {"Service": service, "AWS": f"arn:aws:iam::{ACCOUNT}:root"}
    trust = {"Statement": [{"Effect": "Allow", "Principal": who, "Action": "sts:AssumeRole"}]}
    role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))["Role"]
    members = ("Action", "Resource", "Condition")
    grants = [{"Effect": "Allow", **dict(zip(members, statement, strict=False))} for statement in statements]
    if grants:
        policy = json.dumps({"Version": "2012-10-17", "Statement": grants})
        iam.put_role_policy(RoleName=name, PolicyName="grants", PolicyDocument=policy)
    return role["Arn"]


def as_role(cloud, *statements, service="s3"):
    """A client (of S3) of a role that has the given (action, resource, condition) grants only."""
    arn = make_role(cloud, "ecs-tasks.amazonaws.com", *statements)
    c = client(cloud, "sts").assume_role(RoleArn=arn, RoleSessionName="test")["Credentials"]
    return client(
        cloud,
        service,
        aws_access_key_id=c["AccessKeyId"],
        aws_secret_access_key=c["SecretAccessKey"],
        aws_session_token=c["SessionToken"],
    )


def error_of(call, **parameters):
    """Return (HTTP status, code) of the error that the call ends in."""
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    response = caught.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


def arn_of(sqs, url):
    return sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]


def let_in(sqs, url, rule):
    """Let EventBridge send to the queue for that rule."""
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": arn_of(sqs, url),
        "Condition": {"ArnEquals": {"aws:SourceArn": rule}},
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})


def metric(cloud, namespace, name, **dimensions):
    """Return the sum of a metric so far."""
    now = datetime.now(UTC)
    points = client(cloud, "cloudwatch").get_metric_statistics(
        Namespace=namespace,
        MetricName=name,
        Dimensions=[{"Name": key, "Value": value} for key, value in dimensions.items()],
        StartTime=now - timedelta(hours=1),
        EndTime=now + timedelta(minutes=1),
        Period=60,
        Statistics=["Sum"],
    )["Datapoints"]
    return sum(point["Sum"] for point in points)
