"""cleanup.sh removes what deploy.sh made, and nothing else."""

import json
from typing import Any

from account import APP, MIRROR, SOURCE, TRUST, Account
from deployment import one_cli, one_cloud
from recorder import Refusal


@one_cloud
@one_cli
def test_cleanup_goes_on_after_an_error_and_fails_at_the_end(account: Account) -> None:
    before = account.inventory()
    account.deployed()
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
    assert output.count("NOT removed") == 3  # also the task definition, which the next run needs

    account.run("cleanup.sh", "--yes")
    assert account.inventory() == before


@one_cloud
@one_cli
def test_cleanup_ends_running_tasks_and_asks_before_it_removes_queued_messages(account: Account) -> None:
    account.deployed()
    ecs, sqs = account.client("ecs"), account.client("sqs")
    starter = account.starter_environment()
    ecs.run_task(cluster=starter["CLUSTER"], taskDefinition=starter["TASK_DEFINITION"], count=2)
    sqs.send_message(QueueUrl=starter["QUEUE_URL"], MessageBody="work")
    waiting = sqs.get_queue_attributes(QueueUrl=starter["QUEUE_URL"], AttributeNames=["ApproximateNumberOfMessages"])

    output, errors = account.run("cleanup.sh", status=1)
    assert f"queue {APP}-q ({waiting['Attributes']['ApproximateNumberOfMessages']} messages)" in output
    assert f"cluster {APP}-cluster (2 tasks)" in output
    assert "nothing was removed: there is no terminal to ask on; use --yes" in errors
    assert account.recorder.writes == []

    account.run("cleanup.sh", "--dry-run")
    assert account.recorder.writes == []

    account.result_of(account.start_removal("cluster"))
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
    _, errors = account.run("cleanup.sh", "--yes", status=1)
    assert f"stays: {APP}-dlq" in errors
    assert f"stays: {APP}-task-role" in errors
    assert f"stays: {APP}-alarms" in errors
    assert f"stays: {APP}-behind" in errors
    assert account.inventory() == before


OUR_PARTS = ("bucket_policy", "bucket_lifecycle")  # of the destination


def remove(account: Account, *kinds: str, **settings: str) -> str:
    """What cleanup.sh says of the kinds."""
    return "".join(account.result_of(account.start_removal(*kinds, **settings)))


@one_cloud
@one_cli
def test_a_policy_and_a_lifecycle_of_others_on_the_destination_stay(account: Account) -> None:
    s3 = account.client("s3")
    theirs = {"ID": "theirs", "Status": "Enabled", "Filter": {"Prefix": "tmp/"}, "Expiration": {"Days": 3}}
    statement = {"Effect": "Allow", "Principal": "*", "Action": "s3express:CreateSession", "Resource": "*"}
    s3.put_bucket_policy(Bucket=MIRROR, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    buckets = account.buckets()[1:]

    _, errors = account.steps("ensure_lifecycle")
    assert f"the policy of {MIRROR} is someone else's and stays as it is" in errors
    assert account.buckets()[1] == buckets[0]
    remove(account, *OUR_PARTS)
    assert account.buckets()[1:] == buckets

    s3.delete_bucket_policy(Bucket=MIRROR)
    s3.put_bucket_lifecycle_configuration(Bucket=MIRROR, LifecycleConfiguration={"Rules": [theirs]})
    buckets = account.buckets()[1:]
    account.steps("ensure_lifecycle")
    assert account.buckets()[1:] == buckets
    remove(account, *OUR_PARTS)
    assert account.buckets()[1:] == buckets


@one_cloud
@one_cli
def test_the_policy_stays_for_a_lifecycle_rule_that_others_added_to_ours(account: Account) -> None:
    account.steps("ensure_lifecycle")
    s3 = account.client("s3")
    rules = s3.get_bucket_lifecycle_configuration(Bucket=MIRROR)["Rules"]
    rules += [{"ID": "theirs", "Status": "Enabled", "Filter": {"Prefix": "tmp/"}, "Expiration": {"Days": 3}}]
    s3.put_bucket_lifecycle_configuration(Bucket=MIRROR, LifecycleConfiguration={"Rules": rules})
    buckets = account.buckets()[1:]
    said = remove(account, *OUR_PARTS)
    assert f"stays: the lifecycle of {MIRROR}, because it has rules of others too" in said
    assert account.buckets()[1:] == buckets


def notifications(account: Account) -> list[dict[str, Any]]:
    return list(account.client("s3").get_bucket_notification_configuration(Bucket=SOURCE)["QueueConfigurations"])


@one_cloud
@one_cli
def test_a_notification_of_our_name_to_another_queue_is_another_deployments(account: Account) -> None:
    account.deployed()
    theirs = notifications(account)
    moved = [found | {"QueueArn": found["QueueArn"] + "2"} if found["Id"] == APP else found for found in theirs]
    account.client("s3").put_bucket_notification_configuration(
        Bucket=SOURCE, NotificationConfiguration={"QueueConfigurations": moved}
    )
    _, errors = account.run("deploy.sh", status=2)
    assert f"APP_NAME={APP}: SRC_BUCKET={SOURCE} has a notification of this name already, to the queue arn:" in errors
    remove(account, "notification")
    assert notifications(account) == moved


@one_cloud
@one_cli
def test_cleanup_removes_our_notification_also_if_the_queue_of_another_one_does_not_exist(account: Account) -> None:
    account.deployed()
    remove(account, "notification")
    put = [call for call in account.recorder.calls if call.operation == "PutBucketNotificationConfiguration"]
    assert [call.parameters["SkipDestinationValidation"] for call in put] == [True]


@one_cloud
@one_cli
def test_cleanup_with_another_source_than_that_of_the_queue_removes_nothing(account: Account) -> None:
    """Without a task definition, the queue says which source it is, also if a statement of others comes before ours."""
    account.deployed()
    sqs, url = account.client("sqs"), account.worker_environment()["QUEUE_URL"]
    remove(account, "task_definition")
    policy = json.loads(sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])["Attributes"]["Policy"])
    bare = {"Sid": "theirs", "Effect": "Deny", "Principal": "*", "Action": "sqs:*", "Resource": "*"}
    policy["Statement"].insert(0, bare | {"Condition": {"Bool": {"aws:SecureTransport": "false"}}})
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps(policy)})
    _, errors = account.run("cleanup.sh", "--yes", status=2, SRC_BUCKET="forgotten")
    assert f"SRC_BUCKET=forgotten, but the queue {APP}-q gets the events of {SOURCE}" in errors
    assert account.recorder.writes == []


@one_cloud
@one_cli
def test_cleanup_reads_nothing_of_a_destination_of_another_account(account: Account) -> None:
    account.deployed()
    account.run("cleanup.sh", "--dry-run", DST_BUCKET_OWNER="999999999999")
    assert [call.operation for call in account.recorder.calls if call.parameters.get("Bucket") == MIRROR] == []
