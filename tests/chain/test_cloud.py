"""The local cloud: gaps of ministack that local/cloud.py closes, over the wire and with IAM enforced."""

from __future__ import annotations

import json
import time
import uuid
from datetime import UTC, datetime

import pytest
from account import DIRECTORY
from local_cloud import (
    ACCOUNT,
    REGION,
    arn_of,
    as_role,
    client,
    error_of,
    let_in,
    make_role,
    metric,
)
from local_operator import wait_for


@pytest.fixture
def source(s3):
    name = f"source-{uuid.uuid4().hex[:8]}"
    s3.create_bucket(Bucket=name)
    return name


@pytest.fixture
def directory(s3):
    name = f"directory-{uuid.uuid4().hex[:8]}--use1-az4--x-s3"
    s3.create_bucket(Bucket=name, CreateBucketConfiguration=DIRECTORY)
    return name


def open_session(bucket):
    """The one grant that opens a directory bucket."""
    return "s3express:CreateSession", f"arn:aws:s3express:{REGION}:{ACCOUNT}:bucket/{bucket}"


# --- S3 -----------------------------------------------------------------------------------------------------------


def test_a_missing_key_is_403_for_those_who_may_not_list_and_404_for_those_who_may(cloud, source):
    read = ("s3:GetObject", f"arn:aws:s3:::{source}/*")
    lister = as_role(cloud, read, ("s3:ListBucket", f"arn:aws:s3:::{source}"))
    assert error_of(as_role(cloud, read).head_object, Bucket=source, Key="missing")[0] == 403
    assert error_of(as_role(cloud, read).get_object, Bucket=source, Key="missing") == (403, "AccessDenied")
    assert error_of(lister.head_object, Bucket=source, Key="missing")[0] == 404


# --- ECS ----------------------------------------------------------------------------------------------------------


def run_task(cloud, what, **container):
    """Run a task and return (ECS client, task ARN, task role ARN, a function that returns its log lines)."""
    ecs, logs, name = client(cloud, "ecs"), client(cloud, "logs"), f"task-{uuid.uuid4().hex[:8]}"
    role = make_role(cloud, "ecs-tasks.amazonaws.com")
    logs.create_log_group(logGroupName=name)
    options = {"awslogs-group": name, "awslogs-region": REGION, "awslogs-stream-prefix": "p"}
    definition = {"name": "worker", "image": f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/none:1", "essential": True}
    definition |= {"logConfiguration": {"logDriver": "awslogs", "options": options}, **container}
    definition["environment"] = [{"name": "WHAT", "value": what}]
    fargate = {"networkMode": "awsvpc", "requiresCompatibilities": ["FARGATE"], "cpu": "256", "memory": "512"}
    ecs.create_cluster(clusterName=name)
    arm = {"cpuArchitecture": "ARM64", "operatingSystemFamily": "LINUX"}
    ecs.register_task_definition(
        family=name, containerDefinitions=[definition], taskRoleArn=role, runtimePlatform=arm, **fargate
    )
    task = ecs.run_task(cluster=name, taskDefinition=name)["tasks"][0]["taskArn"]
    stream = f"p/worker/{task.rpartition('/')[2]}"

    def lines():
        try:
            return [e["message"] for e in logs.get_log_events(logGroupName=name, logStreamName=stream)["events"]]
        except logs.exceptions.ResourceNotFoundException:
            return []

    return ecs, task, role, lines


def family_of(ecs, task):
    return describe(ecs, task)["taskDefinitionArn"].rpartition("/")[2].partition(":")[0]


def describe(ecs, task):
    return ecs.describe_tasks(cluster=task.split("/")[1], tasks=[task])["tasks"][0]


def stopped(ecs, task):
    """Wait for the end of the task and return its description."""
    wait_for(lambda: describe(ecs, task)["lastStatus"] == "STOPPED")
    return describe(ecs, task)


@pytest.fixture
def task(cloud):
    """(its definition's ARN, its role, its cluster's ARN, the folder of that cluster's tasks) of a task that failed."""
    ecs, arn, role, _ = run_task(cloud, "fail")
    found = describe(ecs, arn)
    return found["taskDefinitionArn"], role, found["clusterArn"], found["clusterArn"].replace(":cluster/", ":task/")


def test_a_call_is_authorized_as_the_service_says(cloud, s3, sqs, source, directory, task):
    """Service, call, its arguments; grants with which it is allowed; others with which it is not."""
    definition, role, cluster, tasks = task
    here, elsewhere = ({"ArnEquals": {"ecs:cluster": arn}} for arn in (cluster, cluster + "-other"))
    passing = ("iam:PassRole", role, {"StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}})
    run, family = ("ecs:RunTask", definition, here), definition.rpartition(":")[0]
    tagging, at_clusters = (
        ("ecs:TagResource", f"{tasks}/*", {"StringEquals": {"ecs:CreateAction": action}})
        for action in ("RunTask", "CreateCluster")
    )
    start = {"cluster": cluster, "taskDefinition": family}
    describe = "ecs:DescribeTaskDefinition"
    s3.put_object(Bucket=source, Key="k", Body=b"x")
    copy = {"Bucket": directory, "Key": "k", "CopySource": {"Bucket": source, "Key": "k"}}
    opened, read, all_of_s3 = open_session(directory), ("s3:GetObject", f"arn:aws:s3:::{source}/*"), ("s3:*", "*")
    bus = f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/default"
    announced = {"Entries": [{"Source": "ours", "DetailType": "t", "Detail": "{}"}]}
    queue = {"QueueUrl": sqs.create_queue(QueueName=uuid.uuid4().hex)["QueueUrl"]}
    entry = {"Id": "1", "ReceiptHandle": "r"}
    hidden = {"Entries": [entry | {"VisibilityTimeout": 1}]}
    for service, call, given, granted, *refused in (
        ("s3", "copy_object", copy, [opened, read], [opened], [read]),
        ("s3", "put_object", {"Bucket": directory, "Key": "k"}, [opened], [all_of_s3]),
        ("ecs", "run_task", start, [run, passing], [("ecs:RunTask", definition, elsewhere), passing], [run]),
        ("ecs", "run_task", start | {"propagateTags": "TASK_DEFINITION"}, [run, passing, tagging], [run, passing],
         [run, passing, at_clusters]),
        ("ecs", "list_tasks", {"cluster": cluster}, [("ecs:ListTasks", "*", here)],
         [("ecs:ListTasks", "*", elsewhere)]),
        ("ecs", "describe_tasks", {"cluster": cluster, "tasks": ["t"]}, [("ecs:DescribeTasks", f"{tasks}/t", here)],
         [("ecs:DescribeTasks", f"{tasks}/t", elsewhere)], [("ecs:DescribeTasks", f"{tasks}/other", here)]),
        ("ecs", "describe_task_definition", {"taskDefinition": family}, [(describe, "*")], [(describe, definition)]),
        ("events", "put_events", announced, [("events:PutEvents", bus)], [("events:PutRule", bus)]),
        ("sqs", "receive_message", queue, [("sqs:ReceiveMessage", "*")], [all_of_s3]),
        ("sqs", "delete_message_batch", queue | {"Entries": [entry]}, [("sqs:DeleteMessage", "*")], [all_of_s3]),
        ("sqs", "change_message_visibility_batch", queue | hidden, [("sqs:ChangeMessageVisibility", "*")], [all_of_s3]),
    ):  # fmt: skip
        getattr(as_role(cloud, *granted, service=service), call)(**given)
        for grants in refused:
            code = error_of(getattr(as_role(cloud, *grants, service=service), call), **given)[1]
            assert code.startswith("AccessDenied"), (call, grants)


@pytest.mark.parametrize(("what", "exit_code"), [("obey", 7), ("ignore", 137)])
def test_stop_task_answers_at_once_then_terminates_and_kills_after_the_stop_timeout(cloud, what, exit_code):
    ecs, task, _, lines = run_task(cloud, what, stopTimeout=2)
    wait_for(lambda: "ready" in lines())
    answer = ecs.stop_task(cluster=task.split("/")[1], task=task, reason="enough")["task"]
    assert (answer["lastStatus"], answer["desiredStatus"]) == ("RUNNING", "STOPPED")
    assert ecs.list_tasks(cluster=task.split("/")[1])["taskArns"] == []
    end = stopped(ecs, task)
    assert (end["stopCode"], end["stoppedReason"]) == ("UserInitiated", "enough")
    assert end["containers"][0]["exitCode"] == exit_code


def test_a_family_is_its_newest_active_revision(cloud):
    ecs, task, _, _ = run_task(cloud, "fail")
    family, container = family_of(ecs, task), {"name": "worker", "image": "none", "memory": 128}

    def newest():
        return ecs.describe_task_definition(taskDefinition=family)["taskDefinition"]["revision"]

    ecs.register_task_definition(family=family, containerDefinitions=[container])
    assert newest() == 2
    ecs.deregister_task_definition(taskDefinition=f"{family}:2")
    assert newest() == 1
    ecs.deregister_task_definition(taskDefinition=f"{family}:1")
    assert error_of(newest)[1] == "ClientException"


# --- EventBridge --------------------------------------------------------------------------------------------------


@pytest.fixture
def queue(sqs):
    return sqs.create_queue(QueueName=f"queue-{uuid.uuid4().hex[:8]}")["QueueUrl"]


def receive(sqs, queue):
    """Return the object of the next event in the queue."""
    message = wait_for(lambda: sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=1).get("Messages"))[0]
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    return json.loads(message["Body"])["detail"]["object"]


def test_an_alarm_goes_by_its_own_queue(cloud, sqs, queue):
    cloudwatch, names = client(cloud, "cloudwatch"), [queue.rpartition("/")[2], f"empty-{uuid.uuid4().hex[:8]}"]
    sqs.create_queue(QueueName=names[1])
    sqs.send_message(QueueUrl=queue, MessageBody="waits")

    def states():
        for name in names:  # an alarm is evaluated when it is put
            cloudwatch.put_metric_alarm(
                AlarmName=name,
                Namespace="AWS/SQS",
                MetricName="ApproximateNumberOfMessagesVisible",
                Dimensions=[{"Name": "QueueName", "Value": name}],
                Statistic="Maximum",
                Period=60,
                EvaluationPeriods=1,
                Threshold=1,
                ComparisonOperator="GreaterThanOrEqualToThreshold",
            )
        found = cloudwatch.describe_alarms(AlarmNames=names)["MetricAlarms"]
        state_of = {alarm["AlarmName"]: alarm["StateValue"] for alarm in found}
        return [state_of[name] for name in names]

    wait_for(lambda: states() == ["ALARM", "OK"], 60)


def test_a_query_with_stats_is_answered_as_people_write_it(cloud):
    logs, group = client(cloud, "logs"), f"group-{uuid.uuid4().hex[:8]}"
    logs.create_log_group(logGroupName=group)
    logs.create_log_stream(logGroupName=group, logStreamName="t")
    minute = int(time.time()) // 60 * 60
    events = [{"timestamp": minute * 1000 + number, "message": f"size={number} of x"} for number in range(4)]
    logs.put_log_events(
        logGroupName=group, logStreamName="t", logEvents=[events[0] | {"message": "size=9 of y"}, *events]
    )
    query = """
        fields @timestamp, @message
        | filter @message like /of x/
        | parse @message /size=(?<size>[0-9]+)/
        | filter size > 1
        | stats count(*) as messages, sum(size) as bytes by bin(1m)
        | sort messages desc
        | limit 5
    """
    asked = logs.start_query(logGroupName=group, startTime=minute, endTime=minute + 60, queryString=query)["queryId"]
    [row] = wait_for(lambda: logs.get_query_results(queryId=asked)["results"])
    start = f"{datetime.fromtimestamp(minute, UTC):%Y-%m-%d %H:%M:%S.000}"
    assert {part["field"]: part["value"] for part in row} == {"bin(1m)": start, "messages": "2", "bytes": "5.0"}


def test_a_rule_sends_each_change_of_its_prefixes_to_a_queue_that_lets_it_in(cloud, s3, sqs, source, queue):
    events, name = client(cloud, "events"), f"rule-{uuid.uuid4().hex[:8]}"
    s3.put_bucket_notification_configuration(Bucket=source, NotificationConfiguration={"EventBridgeConfiguration": {}})
    prefixes = [{"prefix": prefix} for prefix in ("a b+ö&%20/", "x*")]
    kinds = ["Object Created", "Object Deleted", "Object Restore Completed"]
    detail = {"bucket": {"name": [source]}, "object": {"key": prefixes}}
    pattern = {"source": ["aws.s3"], "detail-type": kinds, "detail": detail}
    arn = events.put_rule(Name=name, EventPattern=json.dumps(pattern))["RuleArn"]
    events.put_targets(Rule=name, Targets=[{"Id": "queue", "Arn": arn_of(sqs, queue)}])
    for number, policy in enumerate((None, f"{arn}-other"), 1):
        if policy:
            let_in(sqs, queue, policy)
        s3.put_object(Bucket=source, Key="x*0", Body=b"x")
        wait_for(lambda number=number: metric(cloud, "AWS/Events", "FailedInvocations", RuleName=name) == number)
    let_in(sqs, queue, arn)
    for key in ("a b+ö&%20/1", "a+b+ö&%20/1", "a b", "x*1", "xx1"):
        s3.put_object(Bucket=source, Key=key, Body=b"12345")
    found = {told["key"]: told["size"] for told in (receive(sqs, queue) for _ in range(2))}
    assert found == {"a b+ö&%20/1": 5, "x*1": 5}
    counted = ("TriggeredRules", "Invocations", "FailedInvocations")
    assert [metric(cloud, "AWS/Events", what, RuleName=name) for what in counted] == [4, 4, 2]
