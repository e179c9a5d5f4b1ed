"""What deploy.sh would send to AWS, by its meaning: who may do what, what watches what, what goes where.

A deployment with every default, one with every option on, and one beside other accounts go to an account on paper
(documents.py); each row looks at one thing that a slip would change. The rules of AWS are quoted where a test holds
one. Whether AWS's own CLI takes the calls is a matter of the whole deployments in the other files.
"""

import copy
import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from account import APP, MIRROR, PROJECT, REGION, SOURCE
from documents import Ran, Scripts, sourced_scripts
from meaning import as_list, grants, matches, permits
from paper_account import CONTENTS, HERE, NUMBER, SUBNETS, VPC, PaperAccount, Refused, code_of, pairs
from recorder import Call

import launch.settings
import mirror.settings
from launch.decision import held_by_full_worker
from mirror.model.log_lines import AUDITED
from mirror.version import VERSION

QUEUE, DLQ = f"arn:aws:sqs:{HERE}:{APP}-q", f"arn:aws:sqs:{HERE}:{APP}-dlq"
URL = f"https://sqs.{REGION}.amazonaws.com/{NUMBER}/{APP}-q"
STARTER = f"arn:aws:lambda:{HERE}:function:{APP}-starter"
CLUSTER = f"arn:aws:ecs:{HERE}:cluster/{APP}-cluster"
RULE, EVENT_RULE = f"{APP}-starter-rule", f"{APP}-event-rule"
TOPIC = f"arn:aws:sns:{HERE}:{APP}-alarms"
WORKER_LOG, STARTER_LOG = f"/ecs/{APP}-task", f"/aws/lambda/{APP}-starter"
DESTINATION = f"arn:aws:s3express:{HERE}:bucket/{MIRROR}"
TAGS = {"app": APP, "version": VERSION}
KEYS = [f"arn:aws:kms:{HERE}:key/{name}" for name in ("one", "two", "destination")]

# Every option is on, and no number is that of another setting.
WORKERS = {
    "VISIBILITY_TIMEOUT": "3600",
    "VISIBILITY_EXTEND_INTERVAL": "200",
    "EMPTY_POLLS_BEFORE_EXIT": "5",
    "MAX_RECEIVES": "6",
    "WAIT_TIME_SECONDS": "10",
    "MULTIPART_THRESHOLD": "104857600",
    "PART_SIZE": "10485760",
    "MAX_CONCURRENT_PARTS": "7",
    "MAX_CONCURRENT_KEYS": "9",
    "RETRY_BASE_SECONDS": "8",
    "COPY_TIMEOUT": "600",
    "S3_CLIENT": "boto3",
    "PROCESSES": "3",
    "LOG_LEVEL": "DEBUG",
    "COPY_LAST": "_SUCCESS",
    "ANNOUNCE": "all",
    "EXCLUDE": "*.tmp,*/_temporary/*",
    "KEEP_DAYS": "30",
    "PREFIX_FILTER": "models/,data sets/",
    "METRICS": "true",
    "ALARM_LAG_SECONDS": "1200",
    "APP_NAME": APP,
}
FULL = WORKERS | {
    "EVENT_SOURCE": "eventbridge",
    "AUDIT_DAYS": "21",
    "LAMBDA_POLL_RATE": "5",
    "MAX_WORKERS": "4",
    "MIN_WORKERS": "2",
    "MESSAGES_PER_WORKER": "20",
    "TASK_CPU": "4096",
    "TASK_MEMORY": "16384",
    "STARTER_COPIES": "true",
    "STARTER_MAX_SIZE": "1000",
    "ASSIGN_PUBLIC_IP": "DISABLED",
    "CREATE_VPC_ENDPOINTS": "true",
    "DOCKER_BUILD_FLAGS": "--build-arg BASE=other",
    "SRC_KMS_KEY_ARN": ",".join(KEYS[:2]),
    "DST_KMS_KEY_ARN": KEYS[2],
    "LOG_RETENTION_DAYS": "60",
    "ALARM_EMAIL": "ops@example.com",
    "ALARM_AGE_SECONDS": "1800",
}
# Names of its own, an image of somebody else, and both buckets of other accounts.
ELSEWHERE = {
    "APP_NAME": "second",
    "IMAGE_URI": "999999999999.dkr.ecr.eu-north-1.amazonaws.com/theirs/worker:7",
    "SRC_BUCKET_OWNER": "111111111111",
    "DST_BUCKET_OWNER": "222222222222",
    "SUBNETS": "subnet-4,subnet-3",
    "TASK_ARCH": "X86_64",
    "TASK_CPU": "512",
    "TASK_MEMORY": "1024",
    "PREFIX_FILTER": "caf\u00e9 models/\u6a21\u578b/",
    "LAMBDA_POLL_RATE": "60",
}
THEIR_RULE = {"ID": "theirs", "Status": "Enabled", "Filter": {"Prefix": "tmp/"}, "Expiration": {"Days": 3}}
THEIR_NOTIFICATIONS = {
    "QueueConfigurations": [
        {
            "Id": "theirs",
            "QueueArn": f"{QUEUE}2",
            "Events": ["s3:ReducedRedundancyLostObject"],
            "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": "other/"}]}},
        }
    ],
    "TopicConfigurations": [{"Id": "t", "TopicArn": f"{TOPIC}2", "Events": ["s3:ObjectTagging:*"]}],
    "LambdaFunctionConfigurations": [{"Id": "f", "LambdaFunctionArn": f"{STARTER}2", "Events": ["s3:ObjectAcl:Put"]}],
}
# What others have beside ours, with names as near to ours as AWS's filters by prefix take them.
OTHERS: dict[str, Any] = {
    f"log-group {STARTER_LOG}-2": {"logGroupName": f"{STARTER_LOG}-2", "tags": {}, "retentionInDays": 1},
    f"filter {APP}-outage2 of {WORKER_LOG}": {"filterName": f"{APP}-outage2", "logGroupName": WORKER_LOG},
    f"task {APP}-task2:9": {
        "family": f"{APP}-task2",
        "status": "ACTIVE",
        "taskDefinitionArn": f"arn:aws:ecs:{HERE}:task-definition/{APP}-task2:9",
        "containerDefinitions": [],
        "tags": {},
    },
    "security-group sg-theirs": {"GroupId": "sg-theirs", "GroupName": f"{APP}-sg2", "VpcId": "vpc-other", "Tags": []},
    "security-group sg-first": {"GroupId": "sg-first", "GroupName": "default", "VpcId": VPC, "Tags": []},
    "endpoint vpce-theirs": {
        "VpcEndpointId": "vpce-theirs",
        "VpcId": VPC,
        "ServiceName": f"com.amazonaws.{REGION}.s3",
        "VpcEndpointType": "Gateway",
        "State": "Pending",
        "RouteTableIds": ["rtb-2"],
        "Tags": [],
    },
    f"notifications {SOURCE}": THEIR_NOTIFICATIONS,
    f"lifecycle {MIRROR}": [THEIR_RULE],
}


class Deployed(NamedTuple):
    """A deployment's calls, and what the account keeps after it."""

    ran: Ran
    kept: dict[str, Any]

    def __getitem__(self, name: Any) -> Any:
        return self.kept[name]

    def kind(self, kind: str) -> dict[str, Any]:
        """Name -> document of everything of a kind that was not there before."""
        found = {name.partition(" ")[2]: kept for name, kept in self.kept.items() if name.startswith(f"{kind} ")}
        return {name: kept for name, kept in found.items() if f"{kind} {name}" not in OTHERS}


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scripts]:
    with sourced_scripts(tmp_path_factory.mktemp("documents")) as found:
        yield found


def deployed(scripts: Scripts, settings: dict[str, str], **kept: Any) -> Deployed:
    """A deployment of an account with these things in it."""
    scripts.account = PaperAccount()
    scripts.account.kept |= copy.deepcopy(kept)
    ran = scripts.deploy(**settings)
    return Deployed(ran, copy.deepcopy(scripts.account.kept))


@pytest.fixture(scope="module")
def plain(scripts: Scripts) -> Deployed:
    return deployed(scripts, {})


@pytest.fixture(scope="module")
def full(scripts: Scripts) -> Deployed:
    """In an account where ECS has never been used, beside what others have; our lifecycle rules are among theirs."""
    ours = [keep(1, "data sets/", 30) | {"Status": "Disabled"}, keep(2, "models/", 30)]
    kept = OTHERS | {f"lifecycle {MIRROR}": [THEIR_RULE, *ours]}
    scripts.account = PaperAccount()
    del scripts.account.kept["role-of-ecs AWSServiceRoleForECS"]
    scripts.account.kept |= copy.deepcopy(kept)
    ran = scripts.deploy(**FULL)
    return Deployed(ran, copy.deepcopy(scripts.account.kept))


@pytest.fixture(scope="module")
def elsewhere(scripts: Scripts) -> Deployed:
    return deployed(scripts, ELSEWHERE)


@pytest.fixture
def account(scripts: Scripts, plain: Deployed) -> PaperAccount:
    """An account with a deployment of every default, for a step that finds something changed there."""
    scripts.account = PaperAccount()
    scripts.account.kept = copy.deepcopy(plain.kept)
    return scripts.account


def by_name(deployment: str, request: pytest.FixtureRequest) -> Deployed:
    return request.getfixturevalue(deployment)  # type: ignore[no-any-return]


def order(ran: Ran) -> list[tuple[str, str]]:
    """(operation, what it is about) of each write."""
    names = ("FunctionName", "RoleName", "QueueName", "logGroupName", "AlarmName", "Name", "Rule", "Bucket", "family")
    return [
        (call.operation, next((call.parameters[n] for n in names if n in call.parameters), "")) for call in ran.writes
    ]


# --- policies -----------------------------------------------------------------------------------------------------


def role_policy(deployment: Deployed, role: str, app: str = APP) -> set[tuple[Any, ...]]:
    """What the role may do: it has one policy, of the deployment's name."""
    policies = deployment[f"role {app}-{role}"]["policies"]
    assert list(policies) == [app]
    return grants(policies[app])


def on(resource: str, *actions: str) -> set[tuple[Any, ...]]:
    return {(action, resource) for action in actions}


ON_QUEUE = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:SendMessage")
LOGS = ("logs:CreateLogStream", "logs:PutLogEvents")  # not CreateLogGroup: a late run would make it again
PULL = ("ecr:BatchCheckLayerAvailability", "ecr:GetDownloadUrlForLayer", "ecr:BatchGetImage")


def of_starter(app: str = APP) -> set[tuple[Any, ...]]:
    """What the starter may do. RunTask names each revision of the one family, and PassRole both roles of a task."""
    in_cluster = f"ArnEquals ecs:cluster=arn:aws:ecs:{HERE}:cluster/{app}-cluster"
    to_tasks = "StringEquals iam:PassedToService=ecs-tasks.amazonaws.com"
    return {
        ("sqs:GetQueueAttributes", f"arn:aws:sqs:{HERE}:{app}-q"),
        ("ecs:RunTask", f"arn:aws:ecs:{HERE}:task-definition/{app}-task:*", in_cluster),
        ("ecs:ListTasks", "*", in_cluster),
        *on(f"arn:aws:ecs:{HERE}:task/{app}-cluster/*", "ecs:DescribeTasks", "ecs:StopTask"),
        ("iam:PassRole", f"arn:aws:iam::{NUMBER}:role/{app}-task-role", to_tasks),
        ("iam:PassRole", f"arn:aws:iam::{NUMBER}:role/{app}-exec-role", to_tasks),
        *on(f"arn:aws:logs:{HERE}:log-group:/aws/lambda/{app}-starter:*", *LOGS),
        ("s3:GetBucketNotification", f"arn:aws:s3:::{SOURCE}"),
        *on(f"arn:aws:events:{HERE}:rule/{app}-*-rule", "events:DescribeRule", "events:ListTargetsByRule"),
        ("lambda:GetPolicy", f"arn:aws:lambda:{HERE}:function:{app}-starter"),
    }


# Without ListBucket on the source, S3 answers 403 for a key that does not exist.
FULL_WORKER = {
    *on(QUEUE, *ON_QUEUE),
    ("s3:GetObject", f"arn:aws:s3:::{SOURCE}/models/*"),
    ("s3:GetObject", f"arn:aws:s3:::{SOURCE}/data sets/*"),
    ("s3:ListBucket", f"arn:aws:s3:::{SOURCE}"),
    ("s3express:CreateSession", DESTINATION),
    ("events:PutEvents", f"arn:aws:events:{HERE}:event-bus/default"),
    *(("kms:Decrypt", key) for key in KEYS),
    ("kms:GenerateDataKey", KEYS[2]),
}
RIGHTS = {
    "plain starter": ("plain", "starter-role", APP, of_starter()),
    "plain worker": (
        "plain",
        "task-role",
        APP,
        {
            *on(QUEUE, *ON_QUEUE),
            ("s3:GetObject", f"arn:aws:s3:::{SOURCE}/*"),
            ("s3:ListBucket", f"arn:aws:s3:::{SOURCE}"),
            ("s3express:CreateSession", DESTINATION),
        },
    ),
    "plain ECS": (
        "plain",
        "exec-role",
        APP,
        {
            *on(f"arn:aws:logs:{HERE}:log-group:{WORKER_LOG}:*", *LOGS),
            ("ecr:GetAuthorizationToken", "*"),  # takes no other resource
            *on(f"arn:aws:ecr:{HERE}:repository/{APP}", *PULL),
        },
    ),
    "a starter that copies and keeps workers": (
        "full",
        "starter-role",
        APP,
        of_starter() | FULL_WORKER | {("ecs:DescribeTaskDefinition", "*")},  # takes no other resource
    ),
    "a worker with keys that announces": ("full", "task-role", APP, FULL_WORKER),
    "a starter elsewhere": ("elsewhere", "starter-role", "second", of_starter("second")),
    # No policy may hold characters beyond U+00FF, so the prefix ends before them.
    "a worker between accounts": (
        "elsewhere",
        "task-role",
        "second",
        {
            *on(f"arn:aws:sqs:{HERE}:second-q", *ON_QUEUE),
            ("s3:GetObject", f"arn:aws:s3:::{SOURCE}/caf\u00e9 models/*"),
            ("s3:ListBucket", f"arn:aws:s3:::{SOURCE}"),
            ("s3express:CreateSession", f"arn:aws:s3express:{REGION}:222222222222:bucket/{MIRROR}"),
        },
    ),
    "ECS with the image of another account": (
        "elsewhere",
        "exec-role",
        "second",
        {
            *on(f"arn:aws:logs:{HERE}:log-group:/ecs/second-task:*", *LOGS),
            ("ecr:GetAuthorizationToken", "*"),
            *on("arn:aws:ecr:eu-north-1:999999999999:repository/theirs/worker", *PULL),
        },
    ),
}


@pytest.mark.parametrize("name", RIGHTS)
def test_a_role_may_do_exactly_that(name: str, request: pytest.FixtureRequest) -> None:
    deployment, role, app, wanted = RIGHTS[name]
    assert role_policy(by_name(deployment, request), role, app) == wanted


def test_a_role_that_may_read_more_than_is_synced_is_named_in_each_run(scripts: Scripts, elsewhere: Deployed) -> None:
    scripts.account = PaperAccount()
    scripts.account.kept = copy.deepcopy(elsewhere.kept)
    for ran in (elsewhere.ran, scripts.deploy(**ELSEWHERE)):
        said = f"second-task-role may read s3://{SOURCE}/caf\u00e9 models/*, because an IAM policy cannot"
        assert ran.errors.count(said) == 1
    assert ran.writes == []


def test_an_image_outside_of_ecr_needs_no_right_to_pull(scripts: Scripts, account: PaperAccount) -> None:
    scripts.step("ensure_exec_role", IMAGE_URI="docker.io/library/worker:1")
    policy = grants(account.kept[f"role {APP}-exec-role"]["policies"][APP])
    assert policy == on(f"arn:aws:logs:{HERE}:log-group:{WORKER_LOG}:*", *LOGS)


ECS_HERE = {"aws:SourceArn": f"arn:aws:ecs:{HERE}:task/x", "aws:SourceAccount": NUMBER}
# Against a confused deputy: only ECS of this account and Region; Lambda sends no such key when it takes a role.
TRUST = [
    ("starter-role", "lambda.amazonaws.com", {}, True),
    ("starter-role", "ecs-tasks.amazonaws.com", ECS_HERE, False),
    *[
        row
        for role in ("task-role", "exec-role")
        for row in (
            (role, "ecs-tasks.amazonaws.com", ECS_HERE, True),
            (role, "ecs-tasks.amazonaws.com", {}, False),
            (role, "ecs-tasks.amazonaws.com", ECS_HERE | {"aws:SourceAccount": "9" * 12}, False),
            (role, "ecs-tasks.amazonaws.com", ECS_HERE | {"aws:SourceArn": f"arn:aws:ecs:x:{NUMBER}:task/x"}, False),
            (role, "lambda.amazonaws.com", ECS_HERE, False),
            (role, "ecs.amazonaws.com", ECS_HERE, False),
        )
    ],
]


def test_a_role_is_taken_only_by_the_service_and_the_account_that_it_is_for(plain: Deployed) -> None:
    for role, service, context, wanted in TRUST:
        trust = plain[f"role {APP}-{role}"]["trust"]
        assert permits(trust, service, "sts:AssumeRole", "", context) == wanted, (role, service, context)
        assert len(json.loads(trust)["Statement"]) == 1


FROM_BUCKET = {"aws:SourceArn": f"arn:aws:s3:::{SOURCE}", "aws:SourceAccount": NUMBER}
FROM_RULE = {"aws:SourceArn": f"arn:aws:events:{HERE}:rule/{EVENT_RULE}"}
# S3 User Guide, "Granting permissions to publish event notification messages": the bucket, as bucket names come back to
# others once they are given up, and its account.
SENDERS = [
    ("plain", "s3.amazonaws.com", FROM_BUCKET, True),
    ("plain", "s3.amazonaws.com", FROM_BUCKET | {"aws:SourceAccount": "111111111111"}, False),
    ("plain", "s3.amazonaws.com", FROM_BUCKET | {"aws:SourceArn": "arn:aws:s3:::another"}, False),
    ("plain", "s3.amazonaws.com", FROM_BUCKET | {"aws:SourceArn": f"arn:aws:s3:::{SOURCE}2"}, False),
    ("plain", "s3.amazonaws.com", {}, False),
    ("plain", "events.amazonaws.com", FROM_RULE, False),
    ("full", "events.amazonaws.com", FROM_RULE, True),
    ("full", "events.amazonaws.com", {"aws:SourceArn": f"arn:aws:events:{HERE}:rule/another"}, False),
    ("full", "events.amazonaws.com", {"aws:SourceArn": f"arn:aws:events:{HERE}:rule/{RULE}"}, False),
    ("full", "events.amazonaws.com", {}, False),
    ("full", "s3.amazonaws.com", FROM_BUCKET, False),
    ("elsewhere", "s3.amazonaws.com", FROM_BUCKET | {"aws:SourceAccount": "111111111111"}, True),
    ("elsewhere", "s3.amazonaws.com", FROM_BUCKET, False),
]


def test_only_the_source_of_events_may_send_to_the_queue(request: pytest.FixtureRequest) -> None:
    for deployment, service, context, wanted in SENDERS:
        app = "second" if deployment == "elsewhere" else APP
        policy = by_name(deployment, request)[f"queue {app}-q"]["Attributes"]["Policy"]
        queue = f"arn:aws:sqs:{HERE}:{app}-q"
        assert permits(policy, service, "sqs:SendMessage", queue, context) == wanted, (deployment, service, context)
        assert not permits(policy, service, "sqs:ReceiveMessage", queue, context)
        (statement,) = json.loads(policy)["Statement"]
        assert as_list(statement["Action"]) == ["sqs:SendMessage"]


def test_s3_lifecycle_may_open_a_session_that_writes_and_nobody_else_any(plain: Deployed, full: Deployed) -> None:
    """S3 User Guide, "Working with S3 Lifecycle for directory buckets": one that may only read aborts and expires
    nothing."""
    action = "s3express:CreateSession"
    for deployment in (plain, full):
        policy = deployment[f"bucket-policy {MIRROR}"]
        for mode in ("ReadWrite", "ReadOnly"):
            context = {"s3express:SessionMode": mode}
            permitted = permits(policy, "lifecycle.s3.amazonaws.com", action, DESTINATION, context)
            assert permitted == (mode == "ReadWrite")
        assert grants(policy) == {(action, DESTINATION, "StringEquals s3express:SessionMode=ReadWrite")}
        (statement,) = json.loads(policy)["Statement"]
        assert statement["Principal"] == {"Service": "lifecycle.s3.amazonaws.com"}


# --- queues and logs ----------------------------------------------------------------------------------------------

# 14 days, which is all that SQS has: a message's time in the first queue counts in the second. A receive waits 20 s,
# the longest, else an answer without messages means little.
BOTH_QUEUES = {
    "MessageRetentionPeriod": "1209600",
    "ReceiveMessageWaitTimeSeconds": "20",
    "SqsManagedSseEnabled": "true",
    "DelaySeconds": "0",
}


@pytest.mark.parametrize(
    ("deployment", "app", "timeout", "receives"),
    [("plain", APP, "7200", 3), ("full", APP, "3600", 6), ("elsewhere", "second", "7200", 3)],
)
def test_a_message_that_fails_goes_to_the_dead_letter_queue(
    deployment: str, app: str, timeout: str, receives: int, request: pytest.FixtureRequest
) -> None:
    found = by_name(deployment, request)
    assert found[f"queue {app}-dlq"]["Attributes"] == BOTH_QUEUES
    attributes = dict(found[f"queue {app}-q"]["Attributes"])
    del attributes["Policy"]
    redrive = json.loads(attributes.pop("RedrivePolicy"))
    assert attributes == BOTH_QUEUES | {"VisibilityTimeout": timeout}
    assert redrive == {"deadLetterTargetArn": f"arn:aws:sqs:{HERE}:{app}-dlq", "maxReceiveCount": receives}
    assert set(found.kind("queue")) == {f"{app}-q", f"{app}-dlq"}


@pytest.mark.parametrize(("deployment", "days"), [("plain", 30), ("full", 60)])
def test_each_log_is_where_it_is_written_to_and_ends(
    deployment: str, days: int, request: pytest.FixtureRequest
) -> None:
    """Lambda writes to /aws/lambda/ and the function's name, ECS to the group of the task definition."""
    found = by_name(deployment, request)
    options = worker(found)["logConfiguration"]["options"]
    (function,) = found.kind("function")
    groups = {group["logGroupName"]: group["retentionInDays"] for group in found.kind("log-group").values()}
    assert groups == {f"/aws/lambda/{function}": days, options["awslogs-group"]: days}


OUTAGE_LINE = "2026-01-01T00:00:00.000Z ERROR outage: 9 keys fail alike, nothing is begun until"
AUDIT_LINE = f"2026-01-01T00:00:00.000Z ERROR {AUDITED % ('complete', 0, 3, 'listed=3')}"
OTHER_LINES = [
    "2026-01-01T00:00:00.000Z INFO outage over after 12 s",
    AUDIT_LINE.replace("ERROR", "INFO"),
    '2026-01-01T00:00:00.000Z INFO synced key="x ERROR outage: ERROR audited" action=copied',
]


def counted(deployment: Deployed, name: str, group: str) -> tuple[str, str]:
    """(pattern, namespace/metric) of a filter: it counts 1 for a line, and nothing without one, which would cost."""
    metric_filter = deployment[f"filter {name} of {group}"]
    (into,) = metric_filter["metricTransformations"]
    assert into.keys() == {"metricNamespace", "metricName", "metricValue"}
    assert into["metricValue"] == "1"
    return metric_filter["filterPattern"], f"{into['metricNamespace']}/{into['metricName']}"


@pytest.mark.parametrize(
    ("deployment", "name", "line"),
    [("plain", "outage", OUTAGE_LINE), ("full", "outage", OUTAGE_LINE), ("full", "audit", AUDIT_LINE)],
)
def test_a_metric_filter_counts_the_workers_lines_for_its_alarm(
    deployment: str, name: str, line: str, request: pytest.FixtureRequest
) -> None:
    found = by_name(deployment, request)
    pattern, metric = counted(found, f"{APP}-{name}", WORKER_LOG)
    alarm = found[f"alarm {APP}-{name}"]
    assert metric == f"{alarm['Namespace']}/{alarm['MetricName']}"
    assert [text for text in (OUTAGE_LINE, AUDIT_LINE, *OTHER_LINES) if re.search(pattern.strip("%"), text)] == [line]


def test_an_audit_that_could_not_be_started_is_counted_in_the_starters_log(plain: Deployed, full: Deployed) -> None:
    assert counted(full, f"{APP}-audit", STARTER_LOG) == ('{ $.audit.problem = "*" }', f"{APP}/Audits")
    audit, outage = f"{APP}-audit", f"{APP}-outage"
    assert set(plain.kind("filter")) == {f"{outage} of {WORKER_LOG}"}
    assert set(full.kind("filter")) == {
        f"{outage} of {WORKER_LOG}",
        f"{audit} of {WORKER_LOG}",
        f"{audit} of {STARTER_LOG}",
    }


# --- alarms and the dashboard -------------------------------------------------------------------------------------

# Metric, dimension, statistic, threshold, then minutes of a period, periods, and how many of them are too much.
QUEUES, FUNCTIONS = "AWS/SQS/ApproximateNumberOfMessagesVisible", "AWS/Lambda/Errors"
ALARMS = {
    "dead-letters": (QUEUES, {"QueueName": f"{APP}-dlq"}, "Maximum", 0, (5, 1, 1)),
    "behind": ("AWS/SQS/ApproximateAgeOfOldestMessage", {"QueueName": f"{APP}-q"}, "Maximum", 3600, (5, 3, 3)),
    "starter-fails": (FUNCTIONS, {"FunctionName": f"{APP}-starter"}, "Sum", 0, (5, 2, 2)),
    "starter-silent": ("AWS/Lambda/Invocations", {"FunctionName": f"{APP}-starter"}, "Sum", 1, (1, 3, 3)),
    "outage": (f"{APP}/Outages", {}, "Sum", 0, (5, 6, 1)),
}
FULL_ALARMS = ALARMS | {
    "behind": (*ALARMS["behind"][:3], 1800, (5, 3, 3)),
    "starter-fails": (*ALARMS["starter-fails"][:4], (5, 3, 2)),
    "starter-silent": (*ALARMS["starter-silent"][:4], (3, 3, 3)),
    "events": ("AWS/Events/FailedInvocations", {"RuleName": EVENT_RULE}, "Sum", 0, (5, 1, 1)),
    "audit": (f"{APP}/Audits", {}, "Sum", 0, (5, 1, 1)),
}


# A mail has no more than the description: which deployment it is of, and the page.
WHICH = f"{APP}: {APP} in {REGION} copies {SOURCE} to {MIRROR}\\."


def alarms_on_a_metric(found: Deployed) -> dict[str, Any]:
    """All but that on late keys, which is on a share."""
    return {name: alarm for name, alarm in found.kind("alarm").items() if "Metrics" not in alarm}


@pytest.mark.parametrize(("deployment", "alarms"), [("plain", ALARMS), ("full", FULL_ALARMS)])
def test_each_alarm_watches_what_its_name_says(
    deployment: str, alarms: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    found = by_name(deployment, request)
    assert set(alarms_on_a_metric(found)) == {f"{APP}-{name}" for name in alarms}
    for name, (metric, dimensions, statistic, threshold, (minutes, periods, bad)) in alarms.items():
        alarm = found[f"alarm {APP}-{name}"]
        assert f"{alarm['Namespace']}/{alarm['MetricName']}" == metric, name
        assert {one["Name"]: one["Value"] for one in alarm["Dimensions"]} == dimensions, name
        is_low = name == "starter-silent"  # what does not run reports nothing
        comparison = "LessThanThreshold" if is_low else "GreaterThanThreshold"
        assert (alarm["Statistic"], alarm["ComparisonOperator"]) == (statistic, comparison), name
        assert alarm["Threshold"] == threshold, name
        assert (alarm["Period"], alarm["EvaluationPeriods"], alarm["DatapointsToAlarm"]) == (60 * minutes, periods, bad)
        missing = "missing" if is_low else "notBreaching"  # an idle queue reports nothing
        assert alarm["TreatMissingData"] == missing, name
        assert re.match(f"{WHICH} Why: .+ What to do: ./sync.sh ", alarm["AlarmDescription"]), name
        page, _, heading = alarm["AlarmDescription"].rpartition(" More: ")[2].partition("#")
        assert page.endswith("docs/troubleshooting.md"), name
        assert f"\n### {heading}\n" in (PROJECT / "docs/troubleshooting.md").read_text(), name


def test_alarms_are_of_resources_that_are_made(plain: Deployed, full: Deployed) -> None:
    kinds = {"QueueName": "queue", "FunctionName": "function", "RuleName": "rule"}
    for found in (plain, full):
        for alarm in alarms_on_a_metric(found).values():
            for dimension in alarm["Dimensions"]:
                assert dimension["Value"] in found.kind(kinds[dimension["Name"]])


def test_one_alarm_watches_the_share_of_late_keys_if_there_are_metrics(plain: Deployed, full: Deployed) -> None:
    """CloudWatch API reference, PutMetricAlarm: with Metrics there is no MetricName, and one of them returns data."""
    alarm = full[f"alarm {APP}-late"]
    assert f"alarm {APP}-late" not in plain
    assert not {"MetricName", "Namespace", "Dimensions", "Period", "Statistic"} & alarm.keys()
    keys, late, share = alarm["Metrics"]
    for one, name in ((late, "LateKeys"), (keys, "Keys")):
        assert one["MetricStat"] == {
            "Metric": {"Namespace": APP, "MetricName": name},
            "Period": 300,
            "Stat": "Sum",
        }
    assert [one["ReturnData"] for one in alarm["Metrics"]] == [False, False, True]
    assert eval(share["Expression"], {late["Id"]: 3, keys["Id"]: 2000}) == 0.15
    assert (alarm["Threshold"], alarm["ComparisonOperator"]) == (0.1, "GreaterThanThreshold")
    assert (alarm["EvaluationPeriods"], alarm["DatapointsToAlarm"]) == (6, 1)
    assert alarm["TreatMissingData"] == "notBreaching"
    assert "later than 1200 s after" in alarm["AlarmDescription"]


def test_alarms_write_to_the_topic_of_the_address_that_is_set(plain: Deployed, full: Deployed) -> None:
    assert {(alarm["ActionsEnabled"], *alarm["AlarmActions"]) for alarm in plain.kind("alarm").values()} == {(True,)}
    assert {(alarm["ActionsEnabled"], *alarm["AlarmActions"]) for alarm in full.kind("alarm").values()} == {
        (True, TOPIC)
    }
    assert plain.kind("topic") == {}
    ((name, topic),) = full.kind("topic").items()
    assert TOPIC.endswith(f":{name}")
    assert [(one["Protocol"], one["Endpoint"]) for one in topic["subscriptions"]] == [("email", "ops@example.com")]


METRICS = {
    "Messages in the queue": {
        ("AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", f"{APP}-q"),
        ("AWS/SQS", "ApproximateNumberOfMessagesNotVisible", "QueueName", f"{APP}-q"),
    },
    "Age of the oldest message (s)": {("AWS/SQS", "ApproximateAgeOfOldestMessage", "QueueName", f"{APP}-q")},
    "Dead letters": {("AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", f"{APP}-dlq")},
    "Starter: runs and errors": {
        ("AWS/Lambda", "Invocations", "FunctionName", f"{APP}-starter"),
        ("AWS/Lambda", "Errors", "FunctionName", f"{APP}-starter"),
    },
}
FULL_METRICS = METRICS | {
    "Event rule: calls of its targets": {
        ("AWS/Events", "Invocations", "RuleName", EVENT_RULE),
        ("AWS/Events", "FailedInvocations", "RuleName", EVENT_RULE),
    },
    "Starter: runs that had to wait, and dropped ones": {
        ("AWS/Lambda", "Throttles", "FunctionName", f"{APP}-starter"),
        ("AWS/Lambda", "AsyncEventsDropped", "FunctionName", f"{APP}-starter"),
    },
    "Starter: longest run (ms)": {("AWS/Lambda", "Duration", "FunctionName", f"{APP}-starter")},
    "Metrics: keys a minute": {(APP, name) for name in ("CopiedKeys", "DeletedKeys", "FailedKeys")},
    "Metrics: bytes a minute": {(APP, "CopiedBytes")},
    "Metrics: lag from event to copy (s)": {(APP, "Lag")},
    "Metrics: keys that are late, or held by an outage or as markers": {(APP, "LateKeys"), (APP, "HeldKeys")},
}
SUMMED = ("Starter: runs", "Event rule", "Metrics: keys", "Metrics: bytes")  # counters; everything else are levels


@pytest.mark.parametrize(("deployment", "metrics"), [("plain", METRICS), ("full", FULL_METRICS)])
def test_each_widget_shows_what_its_title_says(
    deployment: str, metrics: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    widgets = json.loads(by_name(deployment, request)[f"dashboard {APP}"])["widgets"]
    assert {widget["properties"]["region"] for widget in widgets} == {REGION}
    shown = {widget["properties"]["title"]: widget["properties"] for widget in widgets if widget["type"] == "metric"}
    assert {title: {tuple(metric[:-1]) for metric in one["metrics"]} for title, one in shown.items()} == metrics
    for title, one in shown.items():
        level = "p50" if title.startswith("Metrics: lag") else "Maximum"
        assert one["stat"] == ("Sum" if title.startswith(SUMMED) else level), title
        assert len({metric[-1]["label"] for metric in one["metrics"]}) == len(one["metrics"])
    places = [(widget["x"], widget["y"]) for widget in widgets]
    assert len(set(places)) == len(places)
    assert all(widget["x"] + widget["width"] <= 24 for widget in widgets)


# What each query counts, in a part that only it has.
QUERIES = {
    "Copies, deletes and failures a minute": "count(deleted) as deletes",
    "Bytes a minute": "stats sum(size) as bytes",
    "Lag from event to copy (s)": "pct(lag, 99) as p99",
    "Workers": "count_distinct(@logStream) as workers",
    "Last failures": "sort @timestamp desc | limit 20",
}


@pytest.mark.parametrize(("deployment", "copies"), [("plain", False), ("full", True)])
def test_queries_of_the_dashboard_read_the_logs_of_those_that_copy(
    deployment: str, copies: bool, request: pytest.FixtureRequest
) -> None:
    widgets = json.loads(by_name(deployment, request)[f"dashboard {APP}"])["widgets"]
    shown = {widget["properties"]["title"]: widget["properties"] for widget in widgets if widget["type"] == "log"}
    assert shown.keys() == QUERIES.keys()
    for title, part in QUERIES.items():
        query = shown[title]["query"]
        assert part in query, title
        groups = [WORKER_LOG, STARTER_LOG] if copies and title != "Workers" else [WORKER_LOG]
        assert re.findall("SOURCE '([^']+)' \\| ", query) == groups, title
    for action in ("copies", "deletes", "failures"):
        assert f"as {action}" in shown["Copies, deletes and failures a minute"]["query"]


# --- the image and what runs it -----------------------------------------------------------------------------------


def images(ran: Ran) -> list[list[str]]:
    """The arguments of each call of docker that builds or moves an image."""
    return [
        call.parameters["words"]
        for call in ran.calls
        if call.service == "docker" and not {"version", "imagetools"} & set(call.parameters["words"])
    ]


def worker(deployment: Deployed) -> dict[str, Any]:
    ((_, task),) = deployment.kind("task").items()
    (container,) = task["containerDefinitions"]
    return container  # type: ignore[no-any-return]


@pytest.mark.parametrize(("deployment", "flags"), [("plain", []), ("full", ["--build-arg", "BASE=other"])])
def test_the_image_is_built_for_the_task_pushed_and_run(
    deployment: str, flags: list[str], request: pytest.FixtureRequest
) -> None:
    """An attestation would be a manifest more, which a repository's lifecycle policy cannot expire."""
    found = by_name(deployment, request)
    image, registry = worker(found)["image"], f"{NUMBER}.dkr.ecr.{REGION}.amazonaws.com"
    build, login, push = images(found.ran)
    assert build[:2] == ["buildx", "build"]
    assert build[-1] == str(PROJECT)
    given = build[2:-1]
    assert {"--load", "--provenance=false", "--sbom=false"} <= set(given)
    assert given[given.index("--platform") + 1] == "linux/arm64"
    assert given[given.index("--tag") + 1] == image
    assert [word for word in flags if word not in given] == []
    assert login == ["login", "--username", "AWS", "--password-stdin", registry]
    assert push == ["push", image]
    assert re.fullmatch(rf"{re.escape(registry)}/{APP}:[0-9a-f]{{16}}-b{{12}}", image)
    assert given[given.index(f"BASE_IMAGE=python:3.13-slim@sha256:{'b' * 64}") - 1] == "--build-arg"


@pytest.mark.usefixtures("account")
def test_an_image_of_other_flags_or_for_another_processor_is_another(
    scripts: Scripts, plain: Deployed, full: Deployed
) -> None:
    settings = {"TASK_ARCH": "X86_64", "ECR_REGISTRY": "localhost:5000"}
    ran = scripts.step("ensure_image", **settings)
    build, login, push = images(ran)
    assert build[build.index("--platform") + 1] == "linux/amd64"
    assert (login[-1], push[1].split("/")[0]) == ("localhost:5000", "localhost:5000")
    tags = {image.rpartition(":")[2] for image in (push[1], worker(plain)["image"], worker(full)["image"])}
    assert len(tags) == 3
    assert images(scripts.step("ensure_image")) == []  # that of the defaults is there


def test_an_image_of_somebody_else_is_neither_built_nor_kept(elsewhere: Deployed) -> None:
    assert images(elsewhere.ran) == []
    assert {call.service for call in elsewhere.ran.calls} & {"ecr", "docker"} == set()
    assert worker(elsewhere)["image"] == ELSEWHERE["IMAGE_URI"]


def test_the_repository_takes_no_tag_twice_and_keeps_five_images(plain: Deployed) -> None:
    repository = plain[f"repository {APP}"]
    assert repository["imageTagMutability"] == "IMMUTABLE"
    assert repository["imageScanningConfiguration"] == {"scanOnPush": True}
    (rule,) = json.loads(repository["lifecycle"])["rules"]
    assert rule["action"] == {"type": "expire"}
    assert rule["selection"] == {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 5}


def test_the_cluster_has_spot_and_is_waited_for(plain: Deployed, full: Deployed) -> None:
    """Container Insights may be an account's default, and costs. ECS cannot use a cluster that is being made."""
    for found in (plain, full):
        cluster = found[f"cluster {APP}-cluster"]
        assert sorted(cluster["capacityProviders"]) == ["FARGATE", "FARGATE_SPOT"]
        assert cluster["settings"] == [{"name": "containerInsights", "value": "disabled"}]
        assert cluster["status"] == "ACTIVE"
    assert plain.ran.sent("CreateServiceLinkedRole") == []
    assert full.ran.sent("CreateServiceLinkedRole") == [{"AWSServiceName": "ecs.amazonaws.com"}]


@pytest.mark.parametrize(
    ("deployment", "app", "cpu", "memory", "processor"),
    [
        ("plain", APP, "2048", "4096", "ARM64"),
        ("full", APP, "4096", "16384", "ARM64"),
        ("elsewhere", "second", "512", "1024", "X86_64"),
    ],
)
def test_a_worker_runs_so(
    deployment: str, app: str, cpu: str, memory: str, processor: str, request: pytest.FixtureRequest
) -> None:
    """Fargate: awsvpc alone; its stopTimeout is 30 s unless 120, the most, are asked for; lines that a full log does
    not take are lost only in the mode non-blocking, in the other the worker stands still."""
    found = by_name(deployment, request)
    ((_, task),) = found.kind("task").items()
    assert (task["family"], task["networkMode"], task["requiresCompatibilities"]) == (
        f"{app}-task",
        "awsvpc",
        ["FARGATE"],
    )
    assert (task["cpu"], task["memory"]) == (cpu, memory)
    assert task["runtimePlatform"] == {"cpuArchitecture": processor, "operatingSystemFamily": "LINUX"}
    assert task["taskRoleArn"] == f"arn:aws:iam::{NUMBER}:role/{app}-task-role"
    assert task["executionRoleArn"] == f"arn:aws:iam::{NUMBER}:role/{app}-exec-role"
    container = worker(found)
    assert (container["name"], container["essential"], container["stopTimeout"]) == ("worker", True, 120)
    assert container["readonlyRootFilesystem"] is True
    assert container["linuxParameters"] == {"initProcessEnabled": True}
    assert container["logConfiguration"] == {
        "logDriver": "awslogs",
        "options": {
            "awslogs-group": f"/ecs/{app}-task",
            "awslogs-region": REGION,
            "awslogs-stream-prefix": "worker",
            "mode": "non-blocking",
            "max-buffer-size": "25m",
        },
    }
    assert container.keys() == {
        *("name", "image", "essential", "environment", "stopTimeout", "readonlyRootFilesystem", "linuxParameters"),
        *("logConfiguration", "dockerLabels"),
    }


BUCKETS = {"SRC_BUCKET": SOURCE, "DST_BUCKET": MIRROR, "SRC_BUCKET_OWNER": NUMBER, "DST_BUCKET_OWNER": NUMBER}
DEFAULTS = BUCKETS | {
    "REGION": REGION,
    "QUEUE_URL": URL,
    "VISIBILITY_TIMEOUT": "7200",
    "VISIBILITY_EXTEND_INTERVAL": "300",
    "EMPTY_POLLS_BEFORE_EXIT": "3",
    "MAX_RECEIVES": "3",
}
VARIABLES = {
    "plain": DEFAULTS | {"PROCESSES": "2"},
    "full": DEFAULTS | WORKERS,
    "elsewhere": DEFAULTS
    | {"QUEUE_URL": URL.replace(APP, "second"), "PROCESSES": "1"}
    | {name: ELSEWHERE[name] for name in ("SRC_BUCKET_OWNER", "DST_BUCKET_OWNER", "PREFIX_FILTER")},
}


@pytest.mark.parametrize("deployment", VARIABLES)
def test_a_worker_gets_its_settings_and_those_that_are_not_set_are_left_to_it(
    deployment: str, request: pytest.FixtureRequest
) -> None:
    found = by_name(deployment, request)
    environment = worker(found)["environment"]
    ((_, task),) = found.kind("task").items()
    wanted = VARIABLES[deployment] | {"TASK_MEMORY": task["memory"]}
    assert len(environment) == len(wanted)
    assert {one["name"]: one["value"] for one in environment} == wanted


# --- the network --------------------------------------------------------------------------------------------------


def test_tasks_have_a_security_group_that_lets_nobody_in(plain: Deployed, full: Deployed, elsewhere: Deployed) -> None:
    """A new group has no rule for what comes in, and one that lets all out. Another VPC may have one of this name."""
    for found in (plain, full, elsewhere):
        ((_, group),) = found.kind("security-group").items()
        assert group["VpcId"] == VPC
        assert [call for call in found.ran.calls if "SecurityGroupIngress" in call.operation] == []
        assert [call for call in found.ran.calls if "SecurityGroupEgress" in call.operation] == []
        ((_, function),) = found.kind("function").items()
        assert function["Environment"]["Variables"]["SECURITY_GROUPS"] == group["GroupId"]


@pytest.mark.parametrize(
    ("settings", "subnets"),
    [
        ({}, "subnet-1,subnet-2"),  # of the default VPC those with a way out; Fargate has no ARM64 in use1-az3
        ({"TASK_ARCH": "X86_64"}, "subnet-1,subnet-2,subnet-3"),
        ({"SUBNETS": "subnet-4"}, "subnet-4"),
        ({"SUBNETS": "subnet-4, subnet-3"}, "subnet-4"),
        ({"SUBNETS": "subnet-4,subnet-3", "TASK_ARCH": "X86_64"}, "subnet-3,subnet-4"),
    ],
)
def test_tasks_run_in_subnets_that_they_can_run_in(scripts: Scripts, settings: dict[str, str], subnets: str) -> None:
    assert scripts.step("task_subnets", **settings).output == f"{subnets}\n"


def test_each_route_table_of_the_tasks_gets_an_endpoint_for_both_services(full: Deployed) -> None:
    """A route table takes one endpoint for a service, so one that somebody else's is in is left alone. A subnet without
    a route table of its own has the main one of its VPC."""
    found = {name: (one["ServiceName"], sorted(one["RouteTableIds"])) for name, one in full.kind("endpoint").items()}
    assert sorted(found.values()) == [
        (f"com.amazonaws.{REGION}.s3", ["rtb-main"]),
        (f"com.amazonaws.{REGION}.s3express", ["rtb-2", "rtb-main"]),
    ]
    assert {one["VpcEndpointType"] for one in full.kind("endpoint").values()} == {"Gateway"}
    assert full["endpoint vpce-theirs"] == OTHERS["endpoint vpce-theirs"]


@pytest.mark.parametrize(("state", "planned", "listed"), [("Pending", "exists", 1), ("Deleting", "would create", 0)])
def test_an_endpoint_that_comes_counts_and_one_that_goes_does_not(
    scripts: Scripts, account: PaperAccount, state: str, planned: str, listed: int
) -> None:
    ours = {"State": state, "RouteTableIds": ["rtb-2", "rtb-main"], "Tags": [{"Key": "app", "Value": APP}]}
    account.kept["endpoint vpce-ours"] = OTHERS["endpoint vpce-theirs"] | {"VpcEndpointId": "vpce-ours"} | ours
    ran = scripts.step("ensure_s3_endpoint", CREATE_VPC_ENDPOINTS="true", DRY_RUN="true")
    assert planned in ran.output
    assert scripts.step("list_vpc_endpoint").output.count("vpce-ours") == listed


def test_tasks_get_no_more_subnets_than_ecs_takes(scripts: Scripts, account: PaperAccount) -> None:
    account.subnets = [SUBNETS[0] | {"SubnetId": f"subnet-{number:02}"} for number in range(17)]
    assert scripts.step("task_subnets").output == f"{','.join(f'subnet-{number:02}' for number in range(16))}\n"


# --- the function -------------------------------------------------------------------------------------------------


def starter(deployment: Deployed) -> dict[str, Any]:
    ((_, function),) = deployment.kind("function").items()
    return function  # type: ignore[no-any-return]


STARTER_DEFAULTS = {
    "QUEUE_URL": URL,
    "SRC_BUCKET": SOURCE,
    "SRC_BUCKET_OWNER": NUMBER,
    "CLUSTER": f"{APP}-cluster",
    "TASK_DEFINITION": f"{APP}-task",
    "SUBNETS": "subnet-1,subnet-2",
    "SECURITY_GROUPS": "sg-ours",
    "ASSIGN_PUBLIC_IP": "ENABLED",
    "MAX_WORKERS": "2",
    "MESSAGES_PER_WORKER": "10",
    "STARTED_BY": f"{APP}-starter",
    "PROCESSES": "2",
}
OF_STARTER = ("MAX_WORKERS", "MIN_WORKERS", "MESSAGES_PER_WORKER", "ASSIGN_PUBLIC_IP", "AUDIT_DAYS")
STARTER_VARIABLES = {
    "plain": STARTER_DEFAULTS,
    "full": {
        **STARTER_DEFAULTS,
        **{name: value for name, value in VARIABLES["full"].items() if name != "S3_CLIENT"},
        **{name: FULL[name] for name in (*OF_STARTER, "STARTER_COPIES", "STARTER_MAX_SIZE")},
        "AUDIT_STARTED_BY": f"{APP}-audit",
    },
}


@pytest.mark.parametrize(("deployment", "memory"), [("plain", 128), ("full", 512)])
def test_the_function_runs_so(deployment: str, memory: int, request: pytest.FixtureRequest) -> None:
    """Lambda's own defaults would be x86_64 and 3 s."""
    found = by_name(deployment, request)
    function = starter(found)
    assert variables(function) == STARTER_VARIABLES[deployment]
    assert (function["MemorySize"], function["Timeout"], function["Architectures"]) == (memory, 60, ["arm64"])
    assert (function["Runtime"], function["Handler"]) == ("python3.13", "starter.handler")
    assert function["Role"] == f"arn:aws:iam::{NUMBER}:role/{APP}-starter-role"
    assert function["CodeSha256"] == code_of(CONTENTS["true" if memory == 512 else "false"])
    # A start that failed is tried by the next minute's event; one that Lambda replays is for a stale count. Two at
    # once could both see no worker.
    assert function["invoke"] == {"MaximumRetryAttempts": 0, "MaximumEventAgeInSeconds": 60}
    assert function["concurrency"] == 1


def variables(function: dict[str, Any]) -> dict[str, str]:
    """Without what the guard compares the path of events with, which test_path.py is about."""
    found = dict(function["Environment"]["Variables"])
    assert found.pop("GUARD")
    return found


def test_a_function_that_does_not_copy_has_only_what_status_asks_for(
    scripts: Scripts, account: PaperAccount, elsewhere: Deployed
) -> None:
    asked = {"COPY_LAST": "_SUCCESS", "ANNOUNCE": "all", "EXCLUDE": "*.tmp", "KEEP_DAYS": "7", "PREFIX_FILTER": "a/"}
    asked |= {"TABLES": "delta"}
    scripts.step("ensure_function", STARTER_MAX_SIZE="5", LOG_LEVEL="DEBUG", **asked)
    assert variables(account.kept[f"function {APP}-starter"]) == STARTER_DEFAULTS | asked
    second = {name: value.replace(APP, "second") for name, value in STARTER_DEFAULTS.items()}
    theirs = {"SUBNETS": "subnet-3,subnet-4", "PREFIX_FILTER": "café models/模型/", "PROCESSES": "1"}
    theirs |= {"SRC_BUCKET_OWNER": ELSEWHERE["SRC_BUCKET_OWNER"]}
    assert variables(starter(elsewhere)) == second | theirs


@pytest.mark.parametrize(("deployment", "held"), [("plain", 1000), ("full", 24), ("elsewhere", 500)])
def test_the_starter_takes_a_worker_for_full_by_what_the_task_is_given(
    deployment: str, held: int, request: pytest.FixtureRequest
) -> None:
    found = by_name(deployment, request)
    of_starter = launch.settings.load_settings(starter(found)["Environment"]["Variables"])
    of_task = mirror.settings.load_settings({one["name"]: one["value"] for one in worker(found)["environment"]})
    assert of_starter["PROCESSES"] == of_task.processes
    assert of_starter["MAX_CONCURRENT_KEYS"] == of_task.max_concurrent_keys
    assert held_by_full_worker(of_starter) == held


@pytest.mark.parametrize(
    ("deployment", "app", "rate"),
    [("plain", APP, "rate(1 minute)"), ("full", APP, "rate(5 minutes)"), ("elsewhere", "second", "rate(60 minutes)")],
)
def test_the_rule_runs_the_starter(deployment: str, app: str, rate: str, request: pytest.FixtureRequest) -> None:
    """EventBridge: 1 minute is singular, all others are plural. A function lets only the rules run it that it names."""
    found = by_name(deployment, request)
    rule, function = found[f"rule {app}-starter-rule"], f"arn:aws:lambda:{HERE}:function:{app}-starter"
    assert (rule["ScheduleExpression"], rule["State"]) == (rate, "ENABLED")
    assert "EventPattern" not in rule
    assert [(target["Id"], target["Arn"]) for target in rule["targets"].values()] == [("starter", function)]
    rules = {
        name for name, one in found.kind("rule").items() if any(t["Arn"] == function for t in one["targets"].values())
    }
    allowed = {
        (one["Principal"]["Service"], one["Action"], one["Condition"]["ArnLike"]["AWS:SourceArn"])
        for one in starter(found)["statements"].values()
    }
    assert allowed == {
        ("events.amazonaws.com", "lambda:InvokeFunction", f"arn:aws:events:{HERE}:rule/{name}") for name in rules
    }


# --- the bucket's events ------------------------------------------------------------------------------------------

# LifecycleExpiration: what a lifecycle deletes is no ObjectRemoved. ObjectRestore: what was archived can be copied now.
EVENTS = {"s3:ObjectCreated:*", "s3:ObjectRemoved:*", "s3:LifecycleExpiration:*", "s3:ObjectRestore:Completed"}


def notifications(found: Any) -> set[tuple[Any, ...]]:
    """(id, queue, events, prefix) of each notification to a queue."""
    return {
        (
            one["Id"],
            one["QueueArn"],
            frozenset(one["Events"]),
            *(
                f"{rule['Name'].lower()}={rule['Value']}"
                for rule in one.get("Filter", {}).get("Key", {}).get("FilterRules", [])
            ),
        )
        for one in found.get("QueueConfigurations", [])
    }


def test_the_bucket_sends_what_changes_its_keys_to_the_queue(plain: Deployed, elsewhere: Deployed) -> None:
    """S3 writes keys in its events, and so in its filters, encoded like a form."""
    assert notifications(plain[f"notifications {SOURCE}"]) == {(APP, QUEUE, frozenset(EVENTS))}
    queue, prefix = f"arn:aws:sqs:{HERE}:second-q", "prefix=caf%C3%A9+models/%E6%A8%A1%E5%9E%8B/"
    assert notifications(elsewhere[f"notifications {SOURCE}"]) == {("second", queue, frozenset(EVENTS), prefix)}
    for found, owner in ((plain, NUMBER), (elsewhere, "111111111111")):
        (put,) = found.ran.sent("PutBucketNotificationConfiguration")
        assert put["ExpectedBucketOwner"] == owner
        assert "SkipDestinationValidation" not in put  # S3 is to say if it cannot send to the queue
        (read, *_) = found.ran.sent("GetBucketNotificationConfiguration")
        assert read["ExpectedBucketOwner"] == owner
        assert [one["ExpectedBucketOwner"] for one in found.ran.sent("GetBucketLocation")] == [owner]


def assert_theirs(found: dict[str, Any]) -> None:
    """What others have in the bucket's configuration is in it as it was."""
    assert notifications(THEIR_NOTIFICATIONS) <= notifications(found)
    for name in ("TopicConfigurations", "LambdaFunctionConfigurations"):
        assert found[name] == THEIR_NOTIFICATIONS[name]


def test_notifications_of_others_stay(scripts: Scripts, account: PaperAccount) -> None:
    """The call replaces the whole configuration of the bucket."""
    account.kept[f"notifications {SOURCE}"] = THEIR_NOTIFICATIONS | {"EventBridgeConfiguration": {}}
    scripts.step("ensure_notification", PREFIX_FILTER="models/,a b/")
    found = account.kept[f"notifications {SOURCE}"]
    ours = {(APP, QUEUE, frozenset(EVENTS), "prefix=a+b/"), (f"{APP}-2", QUEUE, frozenset(EVENTS), "prefix=models/")}
    assert notifications(found) == ours | notifications(THEIR_NOTIFICATIONS)
    assert_theirs(found)
    assert found["EventBridgeConfiguration"] == {}
    assert scripts.step("ensure_notification", PREFIX_FILTER="models/,a b/").writes == []


def event(key: str, kind: str = "Object Created", bucket: str = SOURCE, source: str = "aws.s3") -> dict[str, Any]:
    return {"source": source, "detail-type": kind, "detail": {"bucket": {"name": bucket}, "object": {"key": key}}}


PREFIXED = FULL["PREFIX_FILTER"]
TAKEN = [
    ({}, event("a"), True),
    ({}, event("a", "Object Deleted"), True),
    ({}, event("a", "Object Restore Completed"), True),
    ({}, event("a", "Object Tags Added"), False),
    ({}, event("a", bucket="another"), False),
    ({}, event("a", source="theirs"), False),
    ({"PREFIX_FILTER": PREFIXED}, event("models/a"), True),
    ({"PREFIX_FILTER": PREFIXED}, event("data sets/a"), True),  # in these events a key is as it is
    ({"PREFIX_FILTER": PREFIXED}, event("data+sets/a"), False),
    ({"PREFIX_FILTER": PREFIXED}, event("other"), False),
    ({"EXCLUDE": "*.tmp,*/_temporary/*"}, event("a.tmp"), False),
    ({"EXCLUDE": "*.tmp,*/_temporary/*"}, event("a/_temporary/b"), False),
    ({"EXCLUDE": "*.tmp,*/_temporary/*"}, event("a.tmp/b"), True),
    ({"PREFIX_FILTER": PREFIXED, "EXCLUDE": "*.tmp"}, event("models/a.tmp"), True),  # left to the workers
]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"PREFIX_FILTER": PREFIXED},
        {"EXCLUDE": "*.tmp,*/_temporary/*"},
        {"PREFIX_FILTER": PREFIXED, "EXCLUDE": "*.tmp"},
    ],
)
def test_the_event_rule_takes_the_events_of_what_is_synced(
    scripts: Scripts, account: PaperAccount, settings: dict[str, str]
) -> None:
    scripts.step("ensure_event_rule", EVENT_SOURCE="eventbridge", **settings)
    rule = account.kept[f"rule {EVENT_RULE}"]
    assert rule["State"] == "ENABLED"
    assert "ScheduleExpression" not in rule
    for given, happened, wanted in TAKEN:
        if given == settings:
            assert matches(json.loads(rule["EventPattern"]), happened) == wanted, happened


def test_an_event_goes_to_the_queue_and_starts_the_starter_while_it_is_new(full: Deployed) -> None:
    """The rule that fires every minute makes up for a start that fails; EventBridge retries a message to the queue as
    long as it can, for 24 hours."""
    rule = full[f"rule {EVENT_RULE}"]
    assert {target["Arn"]: target.get("RetryPolicy") for target in rule["targets"].values()} == {
        QUEUE: None,
        STARTER: {"MaximumEventAgeInSeconds": 60},
    }


def test_the_buckets_switch_is_turned_on_beside_what_others_have_and_remembered(full: Deployed) -> None:
    """S3 would look again at queues and functions of others, of which some may be gone."""
    found = full[f"notifications {SOURCE}"]
    assert found["EventBridgeConfiguration"] == {}
    assert_theirs(found)
    (put,) = full.ran.sent("PutBucketNotificationConfiguration")
    assert put["SkipDestinationValidation"] is True
    assert put["ExpectedBucketOwner"] == NUMBER
    assert full[f"rule {EVENT_RULE}"]["tags"]["turned-on-events-of"] == SOURCE
    (tagged,) = [place for place, call in enumerate(full.ran.writes) if "turned-on-events-of" in str(call.parameters)]
    assert tagged < full.ran.writes.index(next(c for c in full.ran.writes if c.parameters == put))


# --- the lifecycle of the destination -----------------------------------------------------------------------------

ABORT = {
    "ID": f"{APP}-abort-incomplete-uploads",
    "Status": "Enabled",
    "Filter": {"Prefix": ""},
    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
}


def keep(number: int, prefix: str, days: int) -> dict[str, Any]:
    name = f"{APP}-keep" + (f"-{number}" if number > 1 else "")
    return {"ID": name, "Status": "Enabled", "Filter": {"Prefix": prefix}, "Expiration": {"Days": days}}


def test_the_lifecycle_ends_uploads_and_what_is_older_than_keep_days(plain: Deployed, full: Deployed) -> None:
    assert plain[f"lifecycle {MIRROR}"] == [ABORT]
    assert full[f"lifecycle {MIRROR}"] == [THEIR_RULE, keep(1, "data sets/", 30), keep(2, "models/", 30)]


def test_a_lifecycle_that_s3_refuses_ends_the_run_after_all_that_the_sync_needs(
    scripts: Scripts, plain: Deployed
) -> None:
    scripts.account = PaperAccount()
    scripts.account.refusals = [("PutBucketLifecycleConfiguration", Refused("InvalidRequest", "not so"))]
    scripts.run("deploy_all", 1)
    assert plain.kept.keys() - scripts.account.kept.keys() == {f"lifecycle {MIRROR}", f"bucket-policy {MIRROR}"}


def test_the_lifecycle_of_a_bucket_of_another_account_is_left_to_its_owner(elsewhere: Deployed) -> None:
    calls = {call.operation for call in elsewhere.ran.calls if call.parameters.get("Bucket") == MIRROR}
    assert calls == {"ListObjectsV2"}
    assert elsewhere.kind("lifecycle") == elsewhere.kind("bucket-policy") == {}


# --- all together -------------------------------------------------------------------------------------------------

TAKE_TAGS = ("log-group", "queue", "role", "repository", "cluster", "task", "function", "rule", "alarm", "topic")


def tags(document: Any) -> dict[str, str]:
    return pairs(document["Tags"] if "Tags" in document else document["tags"])


@pytest.mark.parametrize(
    ("deployment", "app", "number"), [("plain", APP, 18), ("full", APP, 25), ("elsewhere", "second", 17)]
)
def test_all_that_takes_tags_has_those_of_its_deployment(
    deployment: str, app: str, number: int, request: pytest.FixtureRequest
) -> None:
    """By them cleanup.sh finds it, and status the release; a role's name is the same in all Regions."""
    found, count = by_name(deployment, request), 0
    for kind in (*TAKE_TAGS, "security-group", "endpoint"):
        for name, document in found.kind(kind).items():
            region = {"region": REGION} if kind == "role" else {}
            events = {"turned-on-events-of": SOURCE} if name == EVENT_RULE else {}
            assert tags(document) == {"app": app, "version": VERSION} | region | events, (kind, name)
            count += 1
    assert count == number


def test_a_new_release_is_the_tag_of_everything_and_of_the_function_last(scripts: Scripts, full: Deployed) -> None:
    """A run that is interrupted in between is completed by the next one, which reads the function's."""
    older = json.loads(json.dumps(full.kept).replace(f'"{VERSION}"', '"0.9.0"'))
    scripts.account.kept = copy.deepcopy(older)
    ran = scripts.step("ensure_version_tag", **FULL)
    assert scripts.account.kept == full.kept
    assert ran.writes[-1].service == "lambda"
    assert {call.service for call in ran.writes[:-1]} == {
        *("logs", "sqs", "ecs", "iam", "ecr", "events", "ec2", "cloudwatch", "sns")
    }
    assert "changed (was 0.9.0)" in ran.output


# What has to be there before another is made: the later would fail, or lose what comes in between.
FIRST = [
    (("CreateLogGroup", STARTER_LOG), ("CreateFunction", f"{APP}-starter")),  # Lambda would make it, without an end
    (("CreateQueue", f"{APP}-dlq"), ("CreateQueue", f"{APP}-q")),
    (("CreateQueue", f"{APP}-q"), ("PutBucketNotificationConfiguration", SOURCE)),
    (("CreateQueue", f"{APP}-q"), ("PutTargets", EVENT_RULE)),
    (("PutRolePolicy", f"{APP}-starter-role"), ("CreateFunction", f"{APP}-starter")),
    (("CreateRole", f"{APP}-exec-role"), ("RegisterTaskDefinition", f"{APP}-task")),
    (("push", ""), ("RegisterTaskDefinition", f"{APP}-task")),
    (("CreateServiceLinkedRole", ""), ("CreateCluster", "")),
    (("RegisterTaskDefinition", f"{APP}-task"), ("PutRule", RULE)),
    (("CreateFunction", f"{APP}-starter"), ("PutRule", RULE)),
    (("AddPermission", f"{APP}-starter"), ("PutTargets", RULE)),
    (("CreateTopic", f"{APP}-alarms"), ("PutMetricAlarm", f"{APP}-dead-letters")),
    (("PutMetricAlarm", f"{APP}-audit"), ("PutMetricFilter", WORKER_LOG)),
]


def test_what_is_needed_is_made_first(plain: Deployed, full: Deployed) -> None:
    made, made_full = order(plain.ran), order(full.ran)
    for first, then in FIRST:
        found = made if first in made and then in made else made_full
        last = len(found) - 1 - found[::-1].index(then) if then[0] == "PutMetricFilter" else found.index(then)
        assert found.index(first) < last, (first, then)


def test_a_function_is_waited_for_after_it_is_made_and_changed(scripts: Scripts, plain: Deployed) -> None:
    """Lambda refuses a change while another is in progress."""
    scripts.account.kept = copy.deepcopy(plain.kept)
    scripts.account.kept[f"function {APP}-starter"] |= {"CodeSha256": "old", "MemorySize": 1}
    ran = scripts.step("ensure_function")
    relevant = [call.operation for call in ran.calls if call.is_write or "until" in call.operation]
    waits = "GetFunction until function-updated-v2"
    assert relevant == ["UpdateFunctionCode", waits, "UpdateFunctionConfiguration", waits]
    operations = [call.operation for call in plain.ran.calls]
    created = operations.index("CreateFunction")
    assert operations[created + 1] == "GetFunction until function-active-v2"


# --- what is there already ----------------------------------------------------------------------------------------


GONE = object()
ROLES = [f"{APP}-{role}" for role in ("starter-role", "task-role", "exec-role")]
ALARM_FIELDS = {
    "AlarmDescription": "old",
    "ActionsEnabled": False,
    "AlarmActions": [TOPIC, f"{TOPIC}2"],
    "Namespace": "AWS/S3",
    "MetricName": "old",
    "Dimensions": [{"Name": "QueueName", "Value": "another"}],
    "Statistic": "Average",
    "Period": 60,
    "EvaluationPeriods": 9,
    "DatapointsToAlarm": 8,
    "Threshold": 7.0,
    "ComparisonOperator": "LessThanOrEqualToThreshold",
    "TreatMissingData": "ignore",
}
LATE_FIELDS = {"Threshold": 7.0, "Metrics/1/MetricStat/Metric/MetricName": "old"}
FUNCTION_FIELDS = {
    "Architectures": ["x86_64"],
    "Role": "arn:aws:iam::123456789012:role/old",
    "Runtime": "python3.12",
    "Handler": "old.handler",
    "MemorySize": 1,
    "Timeout": 3,
    "Environment/Variables/THEIRS": "no difference",
    "invoke/MaximumRetryAttempts": 2,
    "concurrency": GONE,
}
TASK_FIELDS = {
    "networkMode": "host",
    "requiresCompatibilities": ["EC2"],
    "cpu": "256",
    "memory": "512",
    "runtimePlatform/cpuArchitecture": "X86_64",
    "taskRoleArn": "arn:aws:iam::123456789012:role/old",
    "executionRoleArn": "arn:aws:iam::123456789012:role/old",
    "containerDefinitions/0/stopTimeout": 30,
}
# Resource as a run names it -> what it says that it changed, and what was changed behind its back: "DOCUMENT > PATH" ->
# value.
CHANGED_BY_HAND: list[tuple[str, str, dict[str, Any]]] = [
    (f"log group {STARTER_LOG}", "retention", {f"log-group {STARTER_LOG} > retentionInDays": 1}),
    (f"log group {WORKER_LOG}", "retention", {f"log-group {WORKER_LOG} > retentionInDays": GONE}),
    (
        f"dead-letter queue {APP}-dlq",
        "DelaySeconds, MessageRetentionPeriod, ReceiveMessageWaitTimeSeconds, SqsManagedSseEnabled",
        {f"queue {APP}-dlq > Attributes": dict.fromkeys(BOTH_QUEUES, "1")},
    ),
    (
        f"queue {APP}-q",
        "Policy, RedrivePolicy, VisibilityTimeout",
        {
            f"queue {APP}-q > Attributes/Policy": (f"rule/{EVENT_RULE}", "rule/another"),
            f"queue {APP}-q > Attributes/RedrivePolicy": ('"maxReceiveCount":6', '"maxReceiveCount":"7"'),
            f"queue {APP}-q > Attributes/VisibilityTimeout": "30",
        },
    ),
    (f"role {APP}-starter-role", "trust", {f"role {APP}-starter-role > trust": ("lambda.", "ec2.")}),
    (
        f"role {APP}-task-role",
        "trust, policy",
        {
            f"role {APP}-task-role > trust": (NUMBER, "999999999999"),
            f"role {APP}-task-role > policies/{APP}": ("sqs:ReceiveMessage", "sqs:*"),
        },
    ),
    (f"role {APP}-exec-role", "policy", {f"role {APP}-exec-role > policies/{APP}": GONE}),
    (
        f"repository {APP}",
        "scan on push, lifecycle",
        {
            f"repository {APP} > imageScanningConfiguration": {"scanOnPush": False},
            f"repository {APP} > lifecycle": ('"countNumber":5', '"countNumber":500'),
        },
    ),
    (f"cluster {APP}-cluster", "capacity providers", {f"cluster {APP}-cluster > capacityProviders": ["FARGATE_SPOT"]}),
    (
        f"task definition {APP}-task",
        "containerDefinitions, cpu, executionRoleArn, memory, networkMode, requiresCompatibilities, runtimePlatform, "
        "taskRoleArn",
        {f"task {APP}-task:1 > {path}": value for path, value in TASK_FIELDS.items()},
    ),
    (
        f"gateway endpoint com.amazonaws.{REGION}.s3express",
        "route tables",
        {"endpoint vpce-s3express > RouteTableIds": ["rtb-2"]},
    ),
    (
        f"function {APP}-starter",
        "code, Handler, MemorySize, Role, Runtime, Timeout, async retries, concurrency",
        {f"function {APP}-starter > {path}": value for path, value in FUNCTION_FIELDS.items()},
    ),
    (
        f"rule {RULE}",
        "Description, ScheduleExpression, State, permission, target",
        {
            f"rule {RULE} > Description": "old",
            f"rule {RULE} > ScheduleExpression": "rate(1 day)",
            f"rule {RULE} > State": "DISABLED",
            f"rule {RULE} > targets/starter/Arn": f"{STARTER}2",
            f"function {APP}-starter > statements/{RULE}": GONE,
        },
    ),
    (
        f"event rule {EVENT_RULE}",
        "Description, EventPattern, State, permission, target queue and starter",
        {
            f"rule {EVENT_RULE} > Description": "old",
            f"rule {EVENT_RULE} > EventPattern": ("Object Deleted", "Object Tags Added"),
            f"rule {EVENT_RULE} > State": "DISABLED",
            f"rule {EVENT_RULE} > targets/queue/Input": "{}",
            f"rule {EVENT_RULE} > targets/starter/RetryPolicy": {"MaximumEventAgeInSeconds": 86400},
            f"function {APP}-starter > statements/{EVENT_RULE}": GONE,
        },
    ),
    (
        f"topic {APP}-alarms",
        "subscription of ops@example.com, other addresses",
        {f"topic {APP}-alarms > subscriptions/0/Endpoint": "old@example.com"},
    ),
    *[
        (
            f"alarm {APP}-{name}",
            ", ".join(sorted(ALARM_FIELDS)),
            {f"alarm {APP}-{name} > {path}": value for path, value in ALARM_FIELDS.items()},
        )
        for name in FULL_ALARMS
    ],
    (
        f"alarm {APP}-late",
        "Metrics, Threshold",
        {f"alarm {APP}-late > {path}": value for path, value in LATE_FIELDS.items()},
    ),
    *[
        (
            f"metric filter {name}",
            "filterPattern, metricTransformations",
            {
                f"filter {name} of {group} > filterPattern": "old",
                f"filter {name} of {group} > metricTransformations/0/metricName": "old",
            },
        )
        for name, group in ((f"{APP}-outage", WORKER_LOG), (f"{APP}-audit", WORKER_LOG), (f"{APP}-audit", STARTER_LOG))
    ],
    (f"dashboard {APP}", "widgets", {f"dashboard {APP}": ("Sum", "Average")}),
    (
        f"bucket lifecycle {MIRROR}",
        "rules of KEEP_DAYS, policy for it",
        {f"lifecycle {MIRROR} > 1/Expiration/Days": 99, f"bucket-policy {MIRROR}": GONE},
    ),
]


PHONE = {"Protocol": "sms", "Endpoint": "+15550100", "SubscriptionArn": f"{TOPIC}:phone"}


def change_by_hand(kept: dict[str, Any], place: str, value: Any) -> None:
    """Put another value into a document, or another text into its text, or take it out."""
    name, _, path = place.partition(" > ")
    holder: Any = kept
    steps = [name, *(path.split("/") if path else [])]
    for step in steps[:-1]:
        holder = holder[int(step) if isinstance(holder, list) else step]
    last = steps[-1]
    if value is GONE:
        del holder[last]
    elif isinstance(value, tuple):
        assert value[0] in holder[last]
        holder[last] = holder[last].replace(*value)
    else:
        holder[last] = value


@pytest.fixture(scope="module")
def repaired(scripts: Scripts, full: Deployed) -> Deployed:
    """Everything of a deployment was changed by hand, and deploy.sh ran again."""
    scripts.account = PaperAccount()
    scripts.account.kept = copy.deepcopy(full.kept)
    for _, _, changes in CHANGED_BY_HAND:
        for place, value in changes.items():
            change_by_hand(scripts.account.kept, place, value)
    scripts.account.kept[f"topic {APP}-alarms"]["subscriptions"].append(copy.deepcopy(PHONE))
    ran = scripts.deploy(**FULL)
    return Deployed(ran, copy.deepcopy(scripts.account.kept))


def lines(ran: Ran) -> list[tuple[str, str]]:
    """(resource, state) of each line of a run."""
    return re.findall(r"^\[\d+/\d+\] (.+?): (.+)$", ran.output, re.MULTILINE)


def test_every_difference_is_found_named_and_put_right(full: Deployed, repaired: Deployed) -> None:
    """AWS prints what it was given in its own way, with defaults, and nothing of that is a difference."""
    wanted = [(resource, f"changed ({what})") for resource, what, _ in CHANGED_BY_HAND]
    said = [line for line in lines(repaired.ran) if line[1].startswith("changed")]
    assert sorted(said) == sorted(wanted)
    after, before = copy.deepcopy(repaired.kept), copy.deepcopy(full.kept)
    assert (
        after.pop(f"task {APP}-task:2")["containerDefinitions"] == before[f"task {APP}-task:1"]["containerDefinitions"]
    )
    before[f"topic {APP}-alarms"]["subscriptions"].insert(0, copy.deepcopy(PHONE))  # somebody's own
    for kept in (after, before):
        del kept[f"task {APP}-task:1"]
        for one in kept[f"topic {APP}-alarms"]["subscriptions"]:
            del one["SubscriptionArn"]
    assert after == before


def test_what_is_as_it_should_be_is_not_written(full: Deployed, repaired: Deployed) -> None:
    same = {resource for resource, state in lines(repaired.ran) if state == "exists"}
    assert same == {
        f"image {worker(full)['image']}",
        "service-linked role AWSServiceRoleForECS",
        f"security group {APP}-sg",
        f"gateway endpoint com.amazonaws.{REGION}.s3",
        f"event switch {SOURCE}",
        f"tag version={VERSION}",
    }


# --- what goes ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def back(scripts: Scripts, full: Deployed) -> Deployed:
    """A deployment with every option on, and then with every default, which an empty setting takes."""
    scripts.account = PaperAccount()
    scripts.account.kept = copy.deepcopy(full.kept)
    ran = scripts.deploy(**dict.fromkeys(FULL, "") | {"APP_NAME": APP})
    return Deployed(ran, copy.deepcopy(scripts.account.kept))


def test_every_option_can_be_turned_off(plain: Deployed, full: Deployed, back: Deployed) -> None:
    """What is left beside a deployment of the defaults: endpoints, which others may use by now, and old revisions."""
    after, wanted = copy.deepcopy(back.kept), copy.deepcopy(plain.kept)
    revision, first = (kept.pop(f"task {APP}-task:{n}") for kept, n in ((after, 2), (wanted, 1)))
    assert {k: v for k, v in revision.items() if k != "taskDefinitionArn"} == {
        k: v for k, v in first.items() if k != "taskDefinitionArn"
    }
    assert after.pop(f"lifecycle {MIRROR}") == [THEIR_RULE]
    found = after.pop(f"notifications {SOURCE}")
    assert notifications(found) == notifications(wanted[f"notifications {SOURCE}"]) | notifications(THEIR_NOTIFICATIONS)
    assert "EventBridgeConfiguration" not in found
    assert_theirs(found)
    for name in (f"lifecycle {MIRROR}", f"notifications {SOURCE}"):
        del wanted[name]
    assert {name: after.get(name) for name in wanted} == wanted
    left = after.keys() - wanted.keys() - OTHERS.keys()
    assert left == {"endpoint vpce-s3", "endpoint vpce-s3express", f"task {APP}-task:1", image_of(full)}
    assert {name: after[name] for name in OTHERS.keys() & after.keys()}.items() <= OTHERS.items()


# Of each resource that has to do with an option that was turned off, what its line says; of all others, "exists".
SAID = {
    f"log group {STARTER_LOG}": "changed (retention)",
    f"log group {WORKER_LOG}": "changed (retention)",
    f"queue {APP}-q": "changed (Policy, RedrivePolicy, VisibilityTimeout)",
    f"role {APP}-task-role": "changed (policy)",
    f"bucket lifecycle {MIRROR}": "changed (keeps more)",
    f"task definition {APP}-task": "changed (containerDefinitions, cpu, memory)",
    f"function {APP}-starter": "changed (Environment, MemorySize, code)",
    f"role {APP}-starter-role": "changed (policy)",
    f"rule {RULE}": "changed (ScheduleExpression)",
    f"notification {SOURCE} {APP}": "created",
    f"alarm {APP}-dead-letters": "changed (AlarmActions, AlarmDescription)",
    f"alarm {APP}-behind": "changed (AlarmActions, AlarmDescription, Threshold)",
    f"alarm {APP}-starter-fails": "changed (AlarmActions, EvaluationPeriods)",
    f"alarm {APP}-starter-silent": "changed (AlarmActions, AlarmDescription, InsufficientDataActions, Period)",
    f"alarm {APP}-outage": "changed (AlarmActions)",
    f"topic {APP}-alarms": "changed (removed, because ALARM_EMAIL is empty)",
    f"dashboard {APP}": "changed (widgets)",
    f"alarm {APP}-events": "changed (removed, because EVENT_SOURCE is sqs)",
    f"alarm {APP}-audit": "changed (removed with its filters, because AUDIT_DAYS is empty)",
    f"alarm {APP}-late": "changed (removed, because METRICS is false)",
    f"event rule {EVENT_RULE}": "removed, because EVENT_SOURCE=sqs",
}


def test_each_line_says_what_the_options_changed(plain: Deployed, back: Deployed) -> None:
    said = {resource: state for resource, state in lines(back.ran) if state != "exists"}
    assert said == SAID | {f"image {worker(plain)['image']}": "created"}
    assert f"From now on, changes in\n  s3://{SOURCE}/\nare copied to\n  s3://{MIRROR}\n" in back.ran.output
    assert "\nSince the last ./deploy.sh, PREFIX_FILTER or EXCLUDE has changed:\n- Existing objects" in back.ran.output


def test_audits_that_were_half_made_can_be_turned_off(scripts: Scripts, full: Deployed) -> None:
    scripts.account = PaperAccount()
    scripts.account.kept = copy.deepcopy(full.kept)
    del scripts.account.kept[f"filter {APP}-audit of {WORKER_LOG}"]
    scripts.step("ensure_audit_alarm", AUDIT_DAYS="")
    assert [name for name in scripts.account.kept if name.startswith(("filter ", "alarm ")) and "-audit" in name] == []


def test_a_deployment_without_a_dashboard_removes_its_own_and_leaves_that_of_another_region(
    scripts: Scripts, plain: Deployed
) -> None:
    scripts.account = PaperAccount()
    scripts.account.kept = copy.deepcopy(plain.kept)
    removed = scripts.deploy(DASHBOARD="false")
    assert f"dashboard {APP}" not in scripts.account.kept
    assert dict(lines(removed))[f"dashboard {APP}"] == "changed (removed, because DASHBOARD is false)"
    assert "Dashboard:" not in removed.output
    kept = scripts.deploy()  # as it is recorded
    assert dict(lines(kept))[f"dashboard {APP}"] == "none, because DASHBOARD is false"
    assert kept.writes == []
    theirs = json.dumps({"widgets": [{"type": "metric", "properties": {"region": "eu-north-1", "metrics": []}}]})
    scripts.account.kept[f"dashboard {APP}"] = theirs
    assert scripts.deploy().writes == []
    assert scripts.account.kept[f"dashboard {APP}"] == theirs
    del scripts.account.kept[f"dashboard {APP}"]
    assert dict(lines(scripts.deploy(DASHBOARD="true")))[f"dashboard {APP}"] == "created"


def image_of(deployment: Deployed) -> str:
    return f"image {worker(deployment)['image'].rpartition(':')[2]}"


def in_words(ran: Ran) -> list[str]:
    """Each write in a word, of those that change what sends events or may copy, and each wait."""
    return [found for call in ran.calls if (found := word(call))]


def word(call: Call) -> str:
    given = call.parameters
    if call.service == "bash":
        return f"sleep {given['seconds']}"
    if call.operation == "SetQueueAttributes" and "Policy" in given["Attributes"]:
        return "queue: " + "+".join(one["Sid"] for one in json.loads(given["Attributes"]["Policy"])["Statement"])
    if call.operation == "PutBucketNotificationConfiguration":
        wanted = given["NotificationConfiguration"]
        ours = any(one["Id"] == APP for one in wanted.get("QueueConfigurations", []))
        return "bucket:" + " notification" * ours + " switch" * ("EventBridgeConfiguration" in wanted)
    if call.operation == "PutRolePolicy" and given["RoleName"] == f"{APP}-starter-role":
        return "rights of the starter"
    if call.operation in ("RegisterTaskDefinition", "PutBucketLifecycleConfiguration"):
        return call.operation
    return call.operation if call.service in ("events", "lambda") and call.is_write else ""


def test_what_is_turned_off_works_until_what_replaces_it_does(back: Deployed) -> None:
    """A run of the function may come at any time, and a change of notifications takes effect after five minutes."""
    assert in_words(back.ran) == [
        "queue: s3-events+eventbridge",
        "PutBucketLifecycleConfiguration",  # expires less, before a worker copies more
        "RegisterTaskDefinition",
        "UpdateFunctionConfiguration",  # it does not copy any more
        "UpdateFunctionCode",  # so it needs no libraries
        "PutRule",  # another rate
        "bucket: notification switch",
        "sleep 60",  # once its last run is over, it needs no rights either
        "rights of the starter",
        *["sleep 30"] * 10,
        "bucket: notification",
        "RemovePermission",
        "RemoveTargets",
        "DeleteRule",
        "queue: s3-events",
    ]


def test_events_come_the_old_way_until_the_new_one_works(scripts: Scripts, account: PaperAccount) -> None:
    account.kept[f"notifications {SOURCE}"] |= {k: v for k, v in THEIR_NOTIFICATIONS.items() if k[0] != "Q"}
    ran = scripts.step("changed_events", "ensure_event_rule", "ensure_event_switch", EVENT_SOURCE="eventbridge")
    assert in_words(ran) == [
        "queue: s3-events+eventbridge",
        "PutRule",
        "AddPermission",
        "PutTargets",
        "TagResource",
        "bucket: notification switch",
        *["sleep 30"] * 10,
        "bucket: switch",
        "queue: eventbridge",
    ]
    found = account.kept[f"notifications {SOURCE}"]
    assert found == {k: v for k, v in THEIR_NOTIFICATIONS.items() if k[0] != "Q"} | {"EventBridgeConfiguration": {}}


@pytest.mark.usefixtures("account")
def test_copying_is_turned_on_from_its_rights_to_its_variables(scripts: Scripts) -> None:
    ran = scripts.step("several", "ensure_starter_role", "ensure_function", STARTER_COPIES="true")
    assert in_words(ran) == ["rights of the starter", "UpdateFunctionCode", "UpdateFunctionConfiguration"]


def test_a_function_of_a_role_that_was_made_anew_is_made_anew(scripts: Scripts, account: PaperAccount) -> None:
    """Lambda User Guide: only the role that it was made with may decrypt its environment."""
    assert scripts.step("several", "ensure_starter_role", "ensure_function").writes == []
    account.kept[f"role {ROLES[0]}"]["made"] = "2026-01-02T04:00:00+00:00"
    ran = scripts.step("several", "ensure_starter_role", "ensure_function", "ensure_rule")
    assert [call.operation for call in ran.writes][:2] == ["DeleteFunction", "CreateFunction"]
    assert ran.sent("AddPermission")


@pytest.mark.parametrize(("unreserved", "reserves"), [(100, False), (101, True)])
def test_without_reserved_concurrency_events_start_no_starter(
    scripts: Scripts, account: PaperAccount, unreserved: int, reserves: bool
) -> None:
    """An account keeps 100 executions unreserved, and a new one has 10 in all. Two starters at once could both see no
    worker."""
    account.kept["limit unreserved"] = unreserved
    del account.kept[f"function {APP}-starter"]["concurrency"]
    starter_target = {"starter": {"Id": "starter", "Arn": STARTER}}
    account.kept[f"rule {EVENT_RULE}"] = {
        "Name": EVENT_RULE,
        "targets": starter_target,
        "tags": TAGS,
        "EventPattern": "{}",
    }
    scripts.step("several", "ensure_function", "ensure_event_rule", EVENT_SOURCE="eventbridge")
    assert account.kept[f"function {APP}-starter"].get("concurrency") == (1 if reserves else None)
    targets = {"queue", "starter"} if reserves else {"queue"}
    assert set(account.kept[f"rule {EVENT_RULE}"]["targets"]) == targets
    allowed = {RULE, EVENT_RULE} if reserves else {RULE}
    assert set(account.kept[f"function {APP}-starter"]["statements"]) == allowed


# --- what AWS refuses for a while ---------------------------------------------------------------------------------


def no_pass(role: str) -> str:
    return f"User: u is not authorized to perform: iam:PassRole on resource: arn:aws:iam::1:role/{APP}-{role}"


NO_PRINCIPAL = "the KMS key is invalid for CreateGrant. KMS Message: ARN does not refer to a valid principal"
NEW_STARTER = ("ensure_starter_role", "ensure_function")
NEW_EXEC = ("ensure_exec_role", "ensure_task_definition")
# Steps, what is refused, AWS's words for it, and the script's.
PASSING = [
    (["ensure_dlq"], "CreateQueue", "QueueDeletedRecently", "wait 60 seconds", "deleted less than 60 s ago"),
    (
        ["ensure_source_queue"],
        "CreateQueue",
        "InvalidParameterValue",
        "Dead letter target does not exist.",
        "SQS does not see",
    ),
    (
        ["ensure_cluster"],
        "CreateCluster",
        "InvalidParameterException",
        "Unable to assume the service linked role.",
        "ECS cannot use",
    ),
    (
        ["ensure_function"],
        "CreateFunction",
        "InvalidParameterValueException",
        "cannot be assumed by Lambda.",
        "Lambda cannot assume",
    ),
    (NEW_STARTER, "CreateFunction", "AccessDeniedException", no_pass("starter-role"), "cannot be passed to Lambda yet"),
    (
        NEW_STARTER,
        "CreateFunction",
        "InvalidParameterValueException",
        NO_PRINCIPAL,
        "KMS does not see the new role yet",
    ),
    (NEW_EXEC, "RegisterTaskDefinition", "AccessDeniedException", no_pass("exec-role"), "cannot be passed to ECS yet"),
    (
        ["ensure_function"],
        "PutFunctionConcurrency",
        "ResourceConflictException",
        "An update is in progress",
        "function is being",
    ),
    (
        ["ensure_notification"],
        "PutBucketNotificationConfiguration",
        "InvalidArgument",
        "Unable to validate the following destination configurations",
        "S3 does not see the queue policy yet",
    ),
    (["ensure_starter_role"], "PutRolePolicy", "NoSuchEntity", "cannot be found", "IAM does not see the new role yet"),
]
# Of roles that are older than the run, the same words are a final refusal.
FOR_GOOD = [
    (
        ["ensure_function"],
        "CreateFunction",
        "AccessDeniedException",
        no_pass("starter-role"),
        "grant yourself iam:PassRole",
    ),
    (["ensure_function"], "CreateFunction", "InvalidParameterValueException", NO_PRINCIPAL, "CreateGrant"),
    (
        ["ensure_function"],
        "CreateFunction",
        "AccessDeniedException",
        "no lambda:CreateFunction",
        "lambda create-function failed",
    ),
    (
        ["ensure_function"],
        "CreateFunction",
        "ResourceConflictException",
        "Function already exist",
        "run this again when it has",
    ),
]
MADE_BY = {
    "CreateQueue": "queue",
    "CreateCluster": "cluster",
    "CreateFunction": "function",
    "RegisterTaskDefinition": "task",
}


def without_what_it_makes(scripts: Scripts, plain: Deployed, steps: Any, operation: str) -> None:
    """Without the resource that the refused call makes, and the role that the steps make first."""
    gone = [f"{MADE_BY[operation]} "] if operation in MADE_BY else []
    gone += [f"role {APP}-{step.removeprefix('ensure_').replace('_', '-')}" for step in steps if step.endswith("_role")]
    gone += [f"notifications {SOURCE}"]
    scripts.account = PaperAccount()
    scripts.account.kept = {k: copy.deepcopy(v) for k, v in plain.kept.items() if not k.startswith(tuple(gone))}
    if operation == "PutFunctionConcurrency":
        del scripts.account.kept[f"function {APP}-starter"]["concurrency"]


@pytest.mark.parametrize(("steps", "operation", "code", "message", "said"), PASSING)
def test_a_refusal_that_passes_is_waited_for_and_said(
    scripts: Scripts, plain: Deployed, steps: Any, operation: str, code: str, message: str, said: str
) -> None:
    without_what_it_makes(scripts, plain, steps, operation)
    scripts.account.refusals = [(operation, Refused(code, message))] * 2
    ran = scripts.step("several", *steps)
    assert len([line for line in ran.errors.splitlines() if "waiting: " in line and said in line]) == 2
    assert len(ran.sent(operation)) == 3
    assert scripts.account.refusals == []


@pytest.mark.parametrize(("steps", "operation", "code", "message", "said"), FOR_GOOD)
def test_a_refusal_for_good_ends_the_run_with_what_to_do(
    scripts: Scripts, plain: Deployed, steps: Any, operation: str, code: str, message: str, said: str
) -> None:
    without_what_it_makes(scripts, plain, steps, operation)
    scripts.account.refusals = [(operation, Refused(code, message))]
    ran = scripts.step("several", *steps, status=1)
    assert "waiting" not in ran.errors
    assert f"function {APP}-starter: aws lambda create-function failed" in ran.errors
    assert said in ran.errors
    assert f"function {APP}-starter" not in ran.output


def test_a_refusal_that_lasts_ends_the_run(scripts: Scripts, plain: Deployed) -> None:
    without_what_it_makes(scripts, plain, [], "CreateQueue")
    scripts.account.refusals = [("CreateQueue", Refused("QueueDeletedRecently"))] * 9
    ran = scripts.step("ensure_dlq", status=1)
    assert ran.errors.count("waiting: ") == 2  # RETRY_LIMIT is 3
    assert f"dead-letter queue {APP}-dlq: aws sqs create-queue failed" in ran.errors


def test_by_default_nothing_is_asked_about_options(plain: Deployed, back: Deployed) -> None:
    """Each call of the CLI takes about a second."""
    asked = [call.parameters.get("Name") for call in plain.ran.calls if call.operation == "DescribeRule"]
    assert asked == [RULE]
    operations = [call.operation for call in plain.ran.calls]
    assert not {"ListRules", "DescribeVpcEndpoints", "ListSubscriptionsByTopic"} & set(operations)
    assert [operations.count(name) for name in ("DescribeAlarms", "DescribeMetricFilters")] == [1, 1]
    assert [call.operation for call in back.ran.calls].count("DescribeAlarms") == 1


# --- cleaning up --------------------------------------------------------------------------------------------------


def running(number: int, wanted: str, last: str) -> dict[str, Any]:
    return {"taskArn": f"arn:aws:ecs:{HERE}:task/{APP}-cluster/{number}", "desiredStatus": wanted, "lastStatus": last}


@pytest.fixture(scope="module")
def cleaned(scripts: Scripts, repaired: Deployed) -> Deployed:
    """After a change, so that there are two revisions, while two workers run and one ends; ECS shows a hundred that
    have ended, and takes a hundred in a question."""
    scripts.account = PaperAccount()
    scripts.account.kept = copy.deepcopy(repaired.kept)
    tasks = [running(number, "STOPPED", "STOPPED") for number in range(100)]
    tasks += [
        running(100, "STOPPED", "DEACTIVATING"),
        *(running(number, "RUNNING", "RUNNING") for number in (101, 102)),
    ]
    scripts.account.kept |= {f"running {number}": task for number, task in enumerate(tasks)}
    ran = scripts.run("ASSUME_YES=true; cleanup_all", **FULL)
    return Deployed(ran, copy.deepcopy(scripts.account.kept))


def test_cleaning_up_leaves_what_others_have_and_nothing_else(cleaned: Deployed) -> None:
    after = {name: kept for name, kept in cleaned.kept.items() if not name.startswith("running ")}
    found = after.pop(f"notifications {SOURCE}")
    assert "EventBridgeConfiguration" not in found
    assert notifications(found) == notifications(THEIR_NOTIFICATIONS)
    assert_theirs(found)
    # Of ECS's role the account may have other use by now; the rules of others on the destination need its policy.
    assert after.keys() - OTHERS.keys() == {"role-of-ecs AWSServiceRoleForECS", f"bucket-policy {MIRROR}"}
    log = f"filter {APP}-outage2 of {WORKER_LOG}"
    wanted = {name: kept for name, kept in OTHERS.items() if name not in (f"notifications {SOURCE}", log)}
    assert {name: after.get(name) for name in wanted} == wanted
    assert {call["task"] for call in cleaned.ran.sent("StopTask")} == {"100", "101", "102"}
    assert cleaned.ran.sent("DeleteRepository") == [{"repositoryName": APP, "force": True}]
    assert {put.get("SkipDestinationValidation") for put in cleaned.ran.sent("PutBucketNotificationConfiguration")} == {
        True
    }


# Nothing new arrives, nothing new is started, what runs is ended; then what it used goes, and what watched it.
GOES_FIRST = [
    ("PutBucketNotificationConfiguration", "DeleteRule"),
    ("DeleteRule", "DeleteFunction"),
    ("DeleteFunction", "StopTask"),  # it would start others
    ("StopTask", "DeleteCluster"),
    ("DeleteCluster", "DeleteSecurityGroup"),
    ("DeleteCluster", "DeleteQueue"),
    ("DeleteFunction", "DeleteLogGroup"),  # a last run would make it again
    ("DeleteCluster", "DeleteRole"),
    ("DeleteMetricFilter", "DeleteLogGroup"),
    ("DeleteAlarms", "DeleteTopic"),
    ("DeregisterTaskDefinition", "DeleteTaskDefinitions"),
]


def test_cleaning_up_takes_the_chain_from_its_beginning(cleaned: Deployed) -> None:
    operations = [call.operation for call in cleaned.ran.writes]
    for first, then in GOES_FIRST:
        last = len(operations) - 1 - operations[::-1].index(first)
        assert last < operations.index(then), (first, then)


def test_what_does_not_have_our_tag_stays(scripts: Scripts, full: Deployed) -> None:
    """Role names are the same in all Regions, so a role of our name and tag may be that of another one."""
    kept = copy.deepcopy(full.kept)
    for name, document in kept.items():
        if name.startswith(tuple(f"{kind} " for kind in (*TAKE_TAGS, "security-group", "endpoint"))):
            document["Tags" if "Tags" in document else "tags"] = {} if "tags" in document else []
    kept[f"role {ROLES[1]}"]["tags"] = {"app": APP, "region": "eu-north-1"}
    kept[f"rule {RULE}"]["tags"] = {"app": f"{APP}-2"}
    scripts.account = PaperAccount()
    scripts.account.kept = kept
    ran = scripts.run("DRY_RUN=true cleanup_all", 1, **FULL)
    planned = set(re.findall(r"^  would remove (.*)$", ran.output, re.MULTILINE))
    # These have no tags, and are known by their names, their queue or their Region.
    assert planned == {
        f"task definition {APP}-task (1 revisions)",
        f"metric filter {APP}-audit",
        f"metric filter {APP}-outage",
        f"bucket lifecycle {MIRROR} (only {APP}-keep, {APP}-keep-2)",
        f"dashboard {APP}",
    }
    assert f"stays: {ROLES[1]}, because it is of the deployment in eu-north-1" in ran.errors
    ran_again = scripts.run("deploy_all", 2, **FULL)
    assert f"- APP_NAME={APP}: its role {ROLES[1]} belongs to someone else or to another Region" in ran_again.errors
    assert ran_again.writes == []
    named = (
        f"{APP}-q",
        f"{APP}-dlq",
        ROLES[0],
        ROLES[2],
        RULE,
        EVENT_RULE,
        APP,
        f"{APP}-starter",
        f"{APP}-cluster",
        WORKER_LOG,
        "sg-ours",
    )
    for name in (*named, STARTER_LOG, f"{APP}-alarms", *(f"{APP}-{alarm}" for alarm in FULL_ALARMS)):
        assert re.search(
            rf"stays: {re.escape(name)}( \(.*\))?, because it has no tag app={APP}$", ran.errors, re.MULTILINE
        )
