"""deploy.sh and cleanup.sh on two stand-ins for AWS, with both generations of the AWS CLI."""

import fnmatch
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from account import (
    APP,
    CREDENTIALS,
    MIRROR,
    PREFIX,
    PROJECT,
    SOURCE,
    TRUST,
    Account,
    copy_project,
    make_tools,
    running_cli,
    running_ministack,
    running_moto,
    wait_for,
)
from recorder import MOTO_GAPS, Call, Recorder, Refusal, violations_of

import starter
import worker

CLOUDS = {"ministack": (running_ministack, {}), "moto": (running_moto, MOTO_GAPS)}
CLIS = {"v1": "AWS_CLI_V1", "v2": "AWS_CLI_V2"}
STATE = re.compile(r"^\[(\d+)/(\d+)\] (.+): (exists|created|none, .+|would create|(?:would change|changed) \(.+\))$")


def cli_path(variable: str) -> Path:
    """The CLI that tests/run has installed; elsewhere the one in PATH."""
    found = os.environ.get(variable) or shutil.which("aws")
    assert found, f"set {variable} to the path of an AWS CLI"
    return Path(found)


@pytest.fixture(scope="session", params=CLOUDS)
def recorder(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str, Recorder]]:
    cloud, gaps = CLOUDS[request.param]
    with cloud(tmp_path_factory.mktemp(request.param)) as (url, reset_url):
        found = Recorder(url, gaps)
        yield url, reset_url, found
        found.close()


@pytest.fixture(scope="session", params=CLIS)
def tools(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp(request.param)
    with running_cli(cli_path(CLIS[request.param]), folder) as cli:
        yield make_tools(cli, folder / "tools")


@pytest.fixture
def account(recorder: tuple[str, str, Recorder], tools: Path, tmp_path: Path) -> Account:
    found = Account(*recorder, tools, copy_project(tmp_path))
    found.reset()
    found.populate()
    return found


one_cloud = pytest.mark.parametrize("recorder", ["ministack"], indirect=True)
one_cli = pytest.mark.parametrize("tools", ["v1"], indirect=True)


def states(output: str) -> list[str]:
    """The state of each resource as the script prints it, without what changed; the numbers have to be n of m.

    A resource that there should not be has none.
    """
    found = [match for line in output.splitlines() if (match := STATE.match(line))]
    assert [(int(match[1]), int(match[2])) for match in found] == [(n, len(found)) for n in range(1, len(found) + 1)]
    return [match[4].split(" (")[0] for match in found if not match[4].startswith("none")]


def assert_conforming(account: Account) -> None:
    assert account.recorder.problems == []
    assert [violation for call in account.recorder.calls for violation in violations_of(call)] == []


def test_deploying_twice_cleaning_up_twice_and_deploying_again_leaves_what_others_have(account: Account) -> None:
    before = account.inventory()
    settings = {"ALARM_EMAIL": "ops@example.com"}
    if account.recorder.answers is not MOTO_GAPS:  # moto cannot delete a second gateway endpoint
        settings["CREATE_VPC_ENDPOINTS"] = "true"

    output, _ = account.run("deploy.sh", "--dry-run", **settings)
    assert set(states(output)) == {"exists", "would create"}
    assert account.recorder.writes == []
    assert account.inventory() == before

    output, _ = account.run("deploy.sh", **settings)
    assert states(output).count("exists") == len(settings), output  # the role of ECS, and the endpoint of others
    assert set(states(output)) == {"exists", "created"}
    assert_conforming(account)

    output, _ = account.run("deploy.sh", **settings)
    assert set(states(output)) == {"exists"}, output
    assert account.recorder.writes == []
    assert_conforming(account)

    output, _ = account.run("cleanup.sh", "--yes")
    assert_conforming(account)
    assert account.inventory() == before

    output, _ = account.run("cleanup.sh", "--yes")
    assert output.startswith("nothing of ")
    assert account.recorder.writes == []

    output, _ = account.run("deploy.sh", **settings)
    assert set(states(output)) == {"exists", "created"}


def run_killed_after_each_write(account: Account, script: str, *arguments: str, **settings: str) -> int:
    """Run the script again and again, each time killed after its first write, until one ends; returns the kills.

    A kill after a read leaves the account as the write before it did, so this is every point of a run.
    """
    for kills in range(100):
        with account.start(script, *arguments, **settings) as process:

            def kill_after_write(call: Call, group: int = process.pid) -> bool:
                if call.is_write:
                    os.killpg(group, signal.SIGKILL)
                return not call.is_write

            account.recorder.forget()
            account.recorder.after_call = kill_after_write
            output, errors = process.communicate(timeout=900)
        account.recorder.forget()
        if process.returncode == 0:
            return kills
        assert process.returncode == -signal.SIGKILL, output + errors
    raise AssertionError(f"{script} never gets through")


def nameless(inventory: dict[str, Any]) -> Any:
    """The inventory without the ids that a stand-in makes up, and without the number of a revision."""
    text = re.sub(r"\b(sgr?|vpce)-[0-9a-f]{6,}", r"\1", json.dumps(inventory))
    return json.loads(re.sub(rf'({APP}-task:|"revision": )\d+', r"\g<1>0", text))


@one_cloud
@one_cli
def test_runs_that_are_killed_after_any_write_are_completed_by_the_next(account: Account) -> None:
    before, settings = account.inventory(), {"ALARM_EMAIL": "ops@example.com"}
    account.run("deploy.sh", **settings)
    deployed, writes = nameless(account.inventory()), len(account.recorder.writes)
    account.run("cleanup.sh", "--yes")
    removals = len(account.recorder.writes)

    assert run_killed_after_each_write(account, "deploy.sh", **settings) == writes
    assert nameless(account.inventory()) == deployed
    assert run_killed_after_each_write(account, "cleanup.sh", "--yes") == removals
    assert account.inventory() == before


# What AWS says for a while, and what the scripts say that they wait for.
PASSING_REFUSALS = {
    "deploy.sh": [
        (Refusal("CreateQueue", 1, "QueueDeletedRecently", "You must wait 60 seconds"), "deleted less than 60 s ago"),
        (
            Refusal("CreateCluster", 2, "InvalidParameterException", "Unable to assume the service linked role."),
            "ECS cannot use its service-linked role yet",
        ),
        (
            Refusal(
                "CreateFunction",
                3,
                "InvalidParameterValueException",
                "The role defined for the function cannot be assumed by Lambda.",
            ),
            "Lambda cannot assume the new role yet",
        ),
        (
            Refusal(
                "PutFunctionConcurrency",
                1,
                "ResourceConflictException",
                "The operation cannot be performed at this time. An update is in progress for resource: x",
                409,
            ),
            "the function is being changed",
        ),
        (
            Refusal(
                "PutBucketNotificationConfiguration",
                2,
                "InvalidArgument",
                "Unable to validate the following destination configurations",
            ),
            "S3 does not see the queue policy yet",
        ),
    ],
    "cleanup.sh": [
        (Refusal("DeleteCluster", 1, "ClusterContainsTasksException"), "the last tasks are still ending"),
        (Refusal("DeleteSecurityGroup", 2, "DependencyViolation"), "network interfaces of the last tasks"),
        (Refusal("DeleteRole", 1, "DeleteConflict", status=409), "IAM does not see yet"),
    ],
}


@one_cloud
@one_cli
def test_refusals_that_pass_are_waited_out_and_said(account: Account) -> None:
    for script, refusals in PASSING_REFUSALS.items():
        account.recorder.refusals = [refusal for refusal, _ in refusals]
        _, errors = account.run(script, *["--yes"] * (script == "cleanup.sh"))
        for refusal, message in refusals:
            assert errors.count(message) == refusal.times, errors
        assert not any(refusal.times for refusal in account.recorder.refusals), "a refusal was never reached"


@one_cloud
@one_cli
def test_a_refusal_that_does_not_pass_ends_the_run_with_the_resource_and_the_error(account: Account) -> None:
    account.recorder.refusals = [Refusal("CreateQueue", 100, "QueueDeletedRecently")]
    _, errors = account.run("deploy.sh", status=1, RETRY_LIMIT="3")
    assert errors.count("waiting:") == 2
    assert f"dead-letter queue {APP}-dlq: aws sqs create-queue failed" in errors

    account.recorder.refusals = [Refusal("CreateFunction", 1, "AccessDeniedException", "no lambda:CreateFunction", 403)]
    output, errors = account.run("deploy.sh", status=1)
    assert "waiting:" not in errors
    assert f"deploy.sh: function {APP}-starter: aws lambda create-function failed" in errors
    assert "AccessDeniedException" in errors
    assert f"function {APP}-starter" not in output

    account.run("deploy.sh")


@one_cloud
@one_cli
def test_cleanup_goes_on_after_an_error_and_fails_at_the_end(account: Account) -> None:
    before = account.inventory()
    account.run("deploy.sh")
    account.recorder.refusals = [
        Refusal("DeleteFunction", 1, "AccessDeniedException", "no lambda:DeleteFunction", 403),
        Refusal("DescribeLogGroups", 1, "AccessDeniedException", "no logs:DescribeLogGroups"),
        Refusal("DescribeAlarms", 1, "AccessDenied", "no cloudwatch:DescribeAlarms", 403),
        Refusal("DeleteDashboards", 1, "AccessDenied", "no cloudwatch:DeleteDashboards", 403),
    ]
    output, errors = account.run("cleanup.sh", "--yes", status=1)
    assert f"function {APP}-starter: aws lambda delete-function failed" in errors
    assert "log group: aws logs describe-log-groups failed" in errors
    assert "alarm: aws cloudwatch describe-alarms failed" in errors
    assert f"dashboard {APP}: aws cloudwatch delete-dashboards failed" in errors
    assert "4 errors" in errors
    assert output.count("NOT removed") == 2

    account.run("cleanup.sh", "--yes")
    assert account.inventory() == before


@one_cloud
@one_cli
def test_cleanup_ends_running_tasks_and_asks_before_it_removes_queued_messages(account: Account) -> None:
    account.run("deploy.sh")
    ecs, sqs = account.client("ecs"), account.client("sqs")
    starter = account.starter_environment()
    ecs.run_task(cluster=starter["CLUSTER"], taskDefinition=starter["TASK_DEFINITION"], count=2)
    sqs.send_message(QueueUrl=starter["QUEUE_URL"], MessageBody="work")
    waiting = sqs.get_queue_attributes(QueueUrl=starter["QUEUE_URL"], AttributeNames=["ApproximateNumberOfMessages"])

    output, errors = account.run("cleanup.sh", status=1)
    assert f"queue {APP}-q ({waiting['Attributes']['ApproximateNumberOfMessages']} messages)" in output
    assert f"cluster {APP}-cluster (2 tasks)" in output
    assert "nothing was removed: there is nobody to ask; use --yes" in errors
    assert account.recorder.writes == []

    account.run("cleanup.sh", "--dry-run")
    assert account.recorder.writes == []

    account.run("cleanup.sh", "--yes")
    assert [call.operation for call in account.recorder.writes].count("StopTask") >= 2


@one_cloud
@one_cli
def test_what_others_named_like_ours_stays(account: Account) -> None:
    account.client("sqs").create_queue(QueueName=f"{APP}-dlq")
    account.client("iam").create_role(
        RoleName=f"{APP}-task-role",
        AssumeRolePolicyDocument=json.dumps(TRUST),
        Tags=[{"Key": "app", "Value": APP}, {"Key": "region", "Value": "eu-north-1"}],
    )
    account.client("sns").create_topic(Name=f"{APP}-alarms")
    account.put_alarm(f"{APP}-behind")
    elsewhere = json.dumps({"widgets": [{"type": "metric", "properties": {"region": "eu-north-1", "metrics": []}}]})
    account.client("cloudwatch").put_dashboard(DashboardName=APP, DashboardBody=elsewhere)
    before = account.inventory()

    _, errors = account.run("deploy.sh", status=2)
    assert f"its role {APP}-task-role belongs to someone else or to another Region" in errors
    _, errors = account.run("cleanup.sh", "--yes")
    assert f"stays: {APP}-dlq" in errors
    assert f"stays: {APP}-task-role" in errors
    assert f"stays: {APP}-alarms" in errors
    assert f"stays: {APP}-behind" in errors
    assert account.inventory() == before


@one_cloud
@one_cli
def test_a_policy_and_a_lifecycle_of_others_on_the_destination_stay(account: Account) -> None:
    s3 = account.client("s3")
    theirs = {"ID": "theirs", "Status": "Enabled", "Filter": {"Prefix": "tmp/"}, "Expiration": {"Days": 3}}
    statement = {"Effect": "Allow", "Principal": "*", "Action": "s3express:CreateSession", "Resource": "*"}
    s3.put_bucket_policy(Bucket=MIRROR, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    buckets = account.buckets()[1:]

    _, errors = account.run("deploy.sh")
    assert f"the policy of {MIRROR} is someone else's and stays as it is" in errors
    assert account.buckets()[1] == buckets[0]
    account.run("cleanup.sh", "--yes")
    assert account.buckets()[1:] == buckets

    s3.delete_bucket_policy(Bucket=MIRROR)
    s3.put_bucket_lifecycle_configuration(Bucket=MIRROR, LifecycleConfiguration={"Rules": [theirs]})
    buckets = account.buckets()[1:]
    account.run("deploy.sh")
    assert account.buckets()[1:] == buckets
    account.run("cleanup.sh", "--yes")
    assert account.buckets()[1:] == buckets


@one_cloud
@one_cli
def test_the_policy_stays_for_a_lifecycle_rule_that_others_added_to_ours(account: Account) -> None:
    account.run("deploy.sh")
    s3 = account.client("s3")
    rules = s3.get_bucket_lifecycle_configuration(Bucket=MIRROR)["Rules"]
    rules += [{"ID": "theirs", "Status": "Enabled", "Filter": {"Prefix": "tmp/"}, "Expiration": {"Days": 3}}]
    s3.put_bucket_lifecycle_configuration(Bucket=MIRROR, LifecycleConfiguration={"Rules": rules})
    buckets = account.buckets()[1:]
    _, errors = account.run("cleanup.sh", "--yes")
    assert f"stays: the lifecycle of {MIRROR}, because it has rules of others too" in errors
    assert account.buckets()[1:] == buckets


def notifications(account: Account) -> list[dict[str, Any]]:
    return list(account.client("s3").get_bucket_notification_configuration(Bucket=SOURCE)["QueueConfigurations"])


@one_cloud
@one_cli
def test_a_notification_of_our_name_to_another_queue_is_another_deployments(account: Account) -> None:
    account.run("deploy.sh")
    theirs = notifications(account)
    moved = [found | {"QueueArn": found["QueueArn"] + "2"} if found["Id"] == APP else found for found in theirs]
    account.client("s3").put_bucket_notification_configuration(
        Bucket=SOURCE, NotificationConfiguration={"QueueConfigurations": moved}
    )
    _, errors = account.run("deploy.sh", status=2)
    assert f"APP_NAME={APP}: SRC_BUCKET={SOURCE} has a notification of this name already, to the queue arn:" in errors
    account.run("cleanup.sh", "--yes")
    assert notifications(account) == moved


@one_cloud
@one_cli
def test_cleanup_removes_our_notification_also_where_one_of_others_goes_to_what_is_gone(account: Account) -> None:
    account.run("deploy.sh")
    account.run("cleanup.sh", "--yes")
    put = [call for call in account.recorder.calls if call.operation == "PutBucketNotificationConfiguration"]
    assert [call.parameters["SkipDestinationValidation"] for call in put] == [True]


@one_cloud
@one_cli
def test_cleanup_with_another_source_than_that_of_the_queue_removes_nothing(account: Account) -> None:
    account.run("deploy.sh")
    _, errors = account.run("cleanup.sh", "--yes", status=2, SRC_BUCKET="forgotten")
    assert f"SRC_BUCKET=forgotten, but the queue {APP}-q gets the events of {SOURCE}" in errors
    assert account.recorder.writes == []


@one_cloud
@one_cli
def test_cleanup_reads_nothing_of_a_destination_of_another_account(account: Account) -> None:
    account.run("deploy.sh")
    account.run("cleanup.sh", "--yes", DST_BUCKET_OWNER="999999999999")
    assert [call.operation for call in account.recorder.calls if call.parameters.get("Bucket") == MIRROR] == []


@one_cloud
@one_cli
def test_a_function_whose_role_was_deleted_is_made_anew(account: Account) -> None:
    account.run("deploy.sh")
    iam, role = account.client("iam"), f"{APP}-starter-role"
    iam.delete_role_policy(RoleName=role, PolicyName=APP)
    iam.delete_role(RoleName=role)
    output, _ = account.run("deploy.sh")
    assert f"function {APP}-starter: created" in output
    assert {call.operation for call in account.recorder.writes} >= {"DeleteFunction", "CreateFunction", "AddPermission"}
    assert set(states(account.run("deploy.sh")[0])) == {"exists"}


@one_cloud
@one_cli
def test_other_build_arguments_make_another_image(account: Account) -> None:
    account.run("deploy.sh")
    output, _ = account.run("deploy.sh", DOCKER_BUILD_FLAGS="--build-arg BASE=other")
    assert [state for state in states(output) if state != "exists"] == ["created", "changed"], output


@one_cloud
@one_cli
def test_a_notification_that_may_not_be_read_is_a_problem_before_anything_is_made(account: Account) -> None:
    operation = "GetBucketNotificationConfiguration"
    account.recorder.refusals = [Refusal(operation, 1, "AccessDenied", "no s3:GetBucketNotification", 403)]
    _, errors = account.run("deploy.sh", status=2)
    assert f"SRC_BUCKET={SOURCE}: " in errors
    assert "no s3:GetBucketNotification" in errors
    assert account.recorder.writes == []


CHANGED = re.compile(r"^\[\d+/\d+\] (.+): changed \((.+)\)$", re.MULTILINE)
# A changed setting, and the resources that have to change with it; every other one has to stay.
CHANGED_SETTINGS = {
    ("MAX_WORKERS", "3"): {f"function {APP}-starter": "Environment"},
    ("LAMBDA_POLL_RATE", "5"): {f"rule {APP}-starter-rule": "ScheduleExpression"},
    ("PREFIX_FILTER", "models/a b/"): {
        f"role {APP}-task-role": "policy",
        f"task definition {APP}-task": "containerDefinitions",
        f"notification {SOURCE} {APP}": "events or filter",
    },
    ("TASK_MEMORY", "8192"): {f"task definition {APP}-task": "memory"},
    ("MULTIPART_THRESHOLD", "104857600"): {f"task definition {APP}-task": "containerDefinitions"},
    ("VISIBILITY_TIMEOUT", "3600"): {
        f"queue {APP}-q": "VisibilityTimeout",
        f"task definition {APP}-task": "containerDefinitions",
    },
    ("LOG_RETENTION_DAYS", "7"): {
        f"log group /aws/lambda/{APP}-starter": "retention",
        f"log group /ecs/{APP}-task": "retention",
    },
    ("DST_KMS_KEY_ARN", "arn:aws:kms:us-east-1:123456789012:key/1"): {f"role {APP}-task-role": "policy"},
    ("ALARM_AGE_SECONDS", "600"): {f"alarm {APP}-behind": "AlarmDescription, Threshold"},
    ("S3_CLIENT", "boto3"): {f"task definition {APP}-task": "containerDefinitions"},
}


@one_cloud
@one_cli
def test_new_code_is_a_new_image_and_a_new_function(account: Account) -> None:
    account.run("deploy.sh")
    for file, expected in (("worker.py", ["created", "changed"]), ("starter.py", ["changed"])):
        with (account.project / file).open("a") as source:
            source.write("# changed\n")
        output, _ = account.run("deploy.sh")
        assert [state for state in states(output) if state != "exists"] == expected, output
        assert set(states(account.run("deploy.sh")[0])) == {"exists"}


@one_cloud
@one_cli
def test_a_changed_setting_changes_only_what_depends_on_it(account: Account) -> None:
    account.run("deploy.sh")
    settings: dict[str, str] = {}
    for (name, value), expected in CHANGED_SETTINGS.items():
        settings[name] = value
        output, _ = account.run("deploy.sh", **settings)
        assert dict(re.findall(CHANGED, output)) == expected, output

    output, _ = account.run("deploy.sh", "--dry-run")
    assert dict(re.findall(CHANGED, output.replace("would change", "changed"))).keys() == {
        resource for expected in CHANGED_SETTINGS.values() for resource in expected
    }
    assert account.recorder.writes == []
    notification = account.client("s3").get_bucket_notification_configuration(Bucket=SOURCE)["QueueConfigurations"]
    assert sorted(found["Id"] for found in notification) == [APP, "theirs"]


def changes(account: Account, **settings: str) -> dict[str, str]:
    """What a deployment says that it changed; the next one finds nothing to do."""
    changed = dict(re.findall(CHANGED, account.run("deploy.sh", **settings)[0]))
    account.run("deploy.sh", **settings)
    assert account.recorder.writes == []
    return changed


@one_cloud
@pytest.mark.parametrize("tools", CLIS, indirect=True)
def test_alarms_write_to_the_address_that_is_set_and_to_no_other(account: Account) -> None:
    topic = f"arn:aws:sns:us-east-1:{account.number}:{APP}-alarms"
    names = [f"alarm {APP}-{name}" for name in ("dead-letters", "behind", "starter-fails")]
    account.run("deploy.sh")
    assert topic not in account.topics()

    assert changes(account, ALARM_EMAIL="one@example.com") == dict.fromkeys(names, "AlarmActions")
    account.client("sns").subscribe(TopicArn=topic, Protocol="sms", Endpoint="+15550100")
    expected = {f"topic {APP}-alarms": "subscription of two@example.com, other addresses"}
    assert changes(account, ALARM_EMAIL="two@example.com") == expected
    assert account.topics()[topic][1] == ["+15550100", "two@example.com"]

    expected = dict.fromkeys(names, "AlarmActions") | {f"topic {APP}-alarms": "removed, as ALARM_EMAIL is empty"}
    assert changes(account) == expected
    assert topic not in account.topics()
    ours = {name: alarm for name, (alarm, _) in account.alarms().items() if f"alarm {name}" in names}
    assert [alarm.get("AlarmActions", []) for alarm in ours.values()] == [[], [], []]
    assert all(re.match("Why: .+ What to do: ./sync.sh", alarm["AlarmDescription"]) for alarm in ours.values())


WRONG_SETTINGS = {
    "SRC_BUCKET": ("no-such-bucket", "NoSuchBucket"),
    "DST_BUCKET": ("mirror--euw1-az1--x-s3", "not in REGION=us-east-1"),
    "LAMBDA_POLL_RATE": ("0", "whole number from 1 to 1440"),
    "MAX_WORKERS": ("five", "whole number from 1 to 1000"),
    "VISIBILITY_TIMEOUT": ("50000", "whole number from 2 to 43200"),
    "VISIBILITY_EXTEND_INTERVAL": ("soon", "whole number from 1 to 43200"),
    "COPY_TIMEOUT": ("1000", "whole number from 1 to 900"),
    "PART_SIZE": ("64MiB", "whole number from 5242880 to 5368709120"),
    "TASK_CPU": ("512", "TASK_MEMORY=8192 is no Fargate size"),
    "TASK_MEMORY": ("8192", "512 with"),
    "TASK_ARCH": ("arm", "set ARM64 or X86_64"),
    "PREFIX_FILTER": ("a*/", "wildcards"),
    "S3_CLIENT": ("CRT", "crt or boto3"),
    "LOG_LEVEL": ("debug", "DEBUG, INFO, WARNING or ERROR"),
    "SUBNETS": ("subnet-0badbad0", "InvalidSubnetID.NotFound"),
    "LOG_RETENTION_DAYS": ("31", "set one of 1 3 5"),
    "SRC_BUCKET_OWNER": ("12", "the 12 digits of an AWS account"),
    "DST_KMS_KEY_ARN": ("alias/aws/s3", "the ARN of a KMS key"),
    "APP_NAME": ("No_Such", "2 to 50 lower-case letters"),
    "CREATE_VPC_ENDPOINTS": ("yes", "true or false"),
    "ALARM_EMAIL": ("nobody", "a mail address, or nothing"),
    "ALARM_AGE_SECONDS": ("1h", "whole number from 60 to 1209600"),
}


def test_the_limits_of_settings_are_those_of_the_worker_and_the_starter() -> None:
    rows = re.search(r"^readonly NUMBERS=\((.*?)^\)", (PROJECT / "deploy.sh").read_text(), re.DOTALL | re.MULTILINE)
    assert rows
    limits = {name: (int(low), int(high)) for name, low, high in re.findall(r"'(\w+) (\d+) (\d+)'", rows[1])}
    theirs = worker.NUMBER_SETTINGS | starter.NUMBER_SETTINGS
    assert {name: numbers[1:] for name, numbers in theirs.items()}.items() <= limits.items()
    given = dict(re.findall(r'^: "\$\{(\w+):=(\d+)\}"', (PROJECT / "deploy.sh").read_text(), re.MULTILINE))
    assert {name: str(theirs[name][0]) for name in theirs.keys() & given.keys()}.items() <= given.items()


@one_cloud
@one_cli
def test_every_wrong_setting_is_named_in_one_run_that_writes_nothing(account: Account) -> None:
    _, errors = account.run("deploy.sh", status=2, **{name: value for name, (value, _) in WRONG_SETTINGS.items()})
    problems = [line for line in errors.splitlines() if line.startswith("- ")]
    for name, (value, message) in WRONG_SETTINGS.items():
        assert any(f"{name}={value}" in problem and message in problem for problem in problems), (name, errors)
    assert account.recorder.writes == []


def path_without(tool: str, folder: Path) -> Path:
    """A folder with all commands of this machine but one."""
    folder.mkdir()
    for command in Path("/usr/bin").iterdir():
        if command.name not in (tool, "aws", "docker"):
            (folder / command.name).symlink_to(command)
    return folder


def broken_cli(folder: Path) -> Path:
    """A folder with an `aws` as a version manager leaves it that has no version of it."""
    folder.mkdir()
    (folder / "aws").write_text("#!/bin/sh\necho 'aws: command not found in any of these versions' >&2\nexit 127\n")
    (folder / "aws").chmod(0o755)
    return folder


def test_errors_are_asked_for_in_the_format_that_is_read(tmp_path: Path) -> None:
    (tmp_path / "aws").write_text('#!/bin/sh\necho "$AWS_CLI_ERROR_FORMAT"\n')
    (tmp_path / "aws").chmod(0o755)
    settings = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "AWS_CLI_ERROR_FORMAT": "json"}
    command = ["bash", "-c", f"source '{PROJECT}/deploy.sh'; aws sts get-caller-identity"]
    assert subprocess.run(command, env=settings, capture_output=True, text=True).stdout == "legacy\n"


@one_cloud
@one_cli
def test_checks_of_the_account_name_the_setting_and_what_to_do(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    ec2 = account.client("ec2")
    vpc = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"][0]["VpcId"]
    for settings, message in (
        ({"PREFIX_FILTER": ""}, 'has the notification theirs (s3:ObjectCreated:*, prefix "other/")'),
        ({"PREFIX_FILTER": "other/and/more/"}, "has the notification theirs"),
        ({"VISIBILITY_TIMEOUT": "600"}, "VISIBILITY_TIMEOUT=600: set at least 1200"),
        ({"MAX_WORKERS": "4"}, "needs 8 vCPUs, the account's Fargate Spot quota is 6"),
        ({"DST_BUCKET": "none--use1-az4--x-s3"}, "DST_BUCKET=none--use1-az4--x-s3 does not exist"),
        ({"SRC_BUCKET": "Their_Source"}, "SRC_BUCKET=Their_Source: set the name of a standard bucket"),
        ({"DST_BUCKET": SOURCE}, "set the name of a directory bucket, such as mirror--use1-az1--x-s3"),
        ({"PATH": f"{account.tools}:{path_without('jq', account.project / 'bin')}"}, "jq is not installed"),
        ({"PATH": str(account.project / "bin")}, "the AWS CLI (aws) is not installed"),
        ({"PATH": f"{broken_cli(account.project / 'broken')}:{os.environ['PATH']}"}, "aws: command not found in any"),
    ):
        _, errors = account.run("deploy.sh", status=2, **settings)
        assert message in errors
        assert account.recorder.writes == []

    no_vpc = b"<DescribeVpcsResponse><vpcSet/></DescribeVpcsResponse>"
    with monkeypatch.context() as patch:
        patch.setitem(account.recorder.answers, ("ec2", "DescribeVpcs"), no_vpc)
        _, errors = account.run("deploy.sh", status=2)
    assert "SUBNETS=: the account has no default VPC in us-east-1; set SUBNETS to subnets" in errors

    for subnet in ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["Subnets"]:
        ec2.modify_subnet_attribute(SubnetId=subnet["SubnetId"], MapPublicIpOnLaunch={"Value": False})
    _, errors = account.run("deploy.sh", status=2)
    assert "no public subnet of the default VPC" in errors


# --- policies ------------------------------------------------------------------------------------------------------


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def grants(policy: dict[str, Any]) -> set[tuple[int, str, str]]:
    """(statement, action, resource) of everything that the policy allows."""
    return {
        (number, action, resource)
        for number, statement in enumerate(policy["Statement"])
        for action in as_list(statement["Action"])
        for resource in as_list(statement["Resource"])
    }


def allowing(policy: dict[str, Any], need: tuple[str, str, dict[str, str]]) -> set[tuple[int, str, str]]:
    """The grants that allow an action on a resource, with the keys that the request has for conditions."""
    action, resource, context = need
    return {
        (number, granted, pattern)
        for number, granted, pattern in grants(policy)
        if granted == action
        and fnmatch.fnmatchcase(resource, pattern)
        and all(
            key in context and fnmatch.fnmatchcase(context[key], wanted)
            for keys in policy["Statement"][number].get("Condition", {}).values()
            for key, wanted in keys.items()
        )
    }


def needs(account: Account, call: Call) -> Iterator[tuple[str, str, dict[str, str]]]:
    """(action, resource, condition keys) that AWS checks for a call of the worker or the starter.

    Source: Service Authorization Reference; for directory buckets S3 User Guide, "Authorizing Regional endpoint API
    operations with IAM": everything on objects is s3express:CreateSession.
    """
    parameters, here = call.parameters, f"us-east-1:{account.number}"
    if call.service == "sqs":
        queue = f"arn:aws:sqs:{here}:{parameters['QueueUrl'].split('/')[-1]}"
        yield f"sqs:{call.operation.removesuffix('Batch')}", queue, {}
    if call.service == "s3" and parameters["Bucket"] == MIRROR:
        yield "s3express:CreateSession", f"arn:aws:s3express:{here}:bucket/{MIRROR}", {}
    if call.service == "s3" and parameters["Bucket"] == SOURCE:
        action = {"HeadObject": "s3:GetObject", "ListObjectsV2": "s3:ListBucket"}[call.operation]
        yield action, "/".join(filter(None, (f"arn:aws:s3:::{SOURCE}", parameters.get("Key")))), {}
    if "CopySource" in parameters:
        yield "s3:GetObject", f"arn:aws:s3:::{unquote(parameters['CopySource']).lstrip('/')}", {}
    if call.service == "ecs":
        cluster = {"ecs:cluster": f"arn:aws:ecs:{here}:cluster/{parameters['cluster']}"}
        revision = f"arn:aws:ecs:{here}:task-definition/{parameters.get('taskDefinition')}:1"
        yield f"ecs:{call.operation}", revision if call.operation == "RunTask" else "*", cluster
    if call.operation == "RunTask":
        for role in ("task-role", "exec-role"):
            service = {"iam:PassedToService": "ecs-tasks.amazonaws.com"}
            yield "iam:PassRole", f"arn:aws:iam::{account.number}:role/{APP}-{role}", service


def unused_grants(account: Account, policy: dict[str, Any]) -> set[str]:
    """The granted actions that no recorded call needed; every recorded call has to be allowed."""
    used = set()
    for call in account.recorder.calls:
        for need in needs(account, call):
            found = allowing(policy, need)
            assert found, f"{call.service} {call.operation} is not allowed: {need}"
            used |= found
    return {action for _, action, _ in grants(policy) - used}


def process_environment(account: Account, settings: dict[str, str]) -> dict[str, str]:
    own = {"AWS_ENDPOINT_URL": account.recorder.url, "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"}
    return {"PATH": os.environ["PATH"]} | settings | CREDENTIALS | own


@one_cloud
@one_cli
def test_the_starter_may_do_what_it_does_and_no_more(account: Account) -> None:
    account.run("deploy.sh")
    starter = account.starter_environment()
    account.client("sqs").send_message(QueueUrl=starter["QUEUE_URL"], MessageBody="work")
    account.recorder.forget()
    subprocess.run(
        [sys.executable, "-c", "import starter; print(starter.handler({}, None))"],
        cwd=account.project,
        env=process_environment(account, starter),
        check=True,
    )
    assert "RunTask" in {call.operation for call in account.recorder.writes}
    assert_conforming(account)
    # Lambda itself writes the log with the function's role.
    unused = unused_grants(account, account.role_policy("starter-role"))
    assert unused == {"logs:CreateLogStream", "logs:PutLogEvents"}


def run_worker(account: Account, settings: dict[str, str], terminate_at: str = "") -> None:
    """Run the worker to its end; SIGTERM reaches it before it has the answer of that operation."""
    log = account.project / "worker.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, account.project / "worker.py"],
            env=process_environment(account, settings),
            stdout=output,
            stderr=output,
        )

    def terminate(call: Call) -> bool:
        if call.operation == terminate_at:
            process.terminate()
            wait_for(lambda: "SIGTERM received" in log.read_text(), process, log)
        return True

    account.recorder.after_call = terminate
    assert process.wait(timeout=600) == 0, log.read_text()


@one_cloud
@one_cli
def test_the_worker_may_do_what_it_does_and_no_more(account: Account) -> None:
    quick = {"MULTIPART_THRESHOLD": "6000000", "PART_SIZE": "5242880", "MAX_CONCURRENT_PARTS": "1"}
    account.run("deploy.sh", WAIT_TIME_SECONDS="1", EMPTY_POLLS_BEFORE_EXIT="1", **quick)
    settings, s3 = account.worker_environment(), account.client("s3")
    account.recorder.forget()
    s3.put_object(Bucket=SOURCE, Key=f"{PREFIX}small", Body=b"small")
    s3.put_object(Bucket=SOURCE, Key=f"{PREFIX}large", Body=bytes(12_000_000))
    run_worker(account, settings, terminate_at="CreateMultipartUpload")  # hands the large one back
    run_worker(account, settings)
    assert s3.head_object(Bucket=MIRROR, Key=f"{PREFIX}large")["ContentLength"] == 12_000_000

    s3.delete_object(Bucket=SOURCE, Key=f"{PREFIX}small")
    account.client("sqs").send_message(QueueUrl=settings["QUEUE_URL"], MessageBody="not an event")  # put off
    run_worker(account, settings)
    assert_conforming(account)
    assert unused_grants(account, account.role_policy("task-role")) == set()


@one_cloud
@one_cli
def test_the_roles_trust_only_the_service_that_takes_them_and_keys_are_granted_only_when_given(
    account: Account,
) -> None:
    source_key, mirror_key = (f"arn:aws:kms:us-east-1:{account.number}:key/{name}" for name in ("source", "mirror"))
    account.run("deploy.sh")
    plain = grants(account.role_policy("task-role"))
    account.run("deploy.sh", SRC_KMS_KEY_ARN=source_key, DST_KMS_KEY_ARN=mirror_key)
    with_keys = grants(account.role_policy("task-role"))
    assert {grant[1:] for grant in with_keys - plain} == {
        ("kms:Decrypt", source_key),
        ("kms:GenerateDataKey", mirror_key),
        ("kms:Decrypt", mirror_key),
    }
    # ECS itself pulls the image and writes the log with this role.
    repository = f"arn:aws:ecr:us-east-1:{account.number}:repository/{APP}"
    log = f"arn:aws:logs:us-east-1:{account.number}:log-group:/ecs/{APP}-task:*"
    assert {grant[1:] for grant in grants(account.role_policy("exec-role"))} == {
        ("ecr:GetAuthorizationToken", "*"),
        ("ecr:BatchCheckLayerAvailability", repository),
        ("ecr:GetDownloadUrlForLayer", repository),
        ("ecr:BatchGetImage", repository),
        ("logs:CreateLogStream", log),
        ("logs:PutLogEvents", log),
    }
    for role, service in (("starter-role", "lambda"), ("task-role", "ecs-tasks"), ("exec-role", "ecs-tasks")):
        trust = account.client("iam").get_role(RoleName=f"{APP}-{role}")["Role"]["AssumeRolePolicyDocument"]
        assert [statement["Principal"] for statement in trust["Statement"]] == [{"Service": f"{service}.amazonaws.com"}]
