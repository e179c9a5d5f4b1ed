"""deploy.sh on two stand-ins for AWS, with both generations of the AWS CLI: what it makes, changes and waits for."""

import pytest
from account import APP, Account
from deployment import assert_conforming, one_cli, one_cloud, states
from recorder import Refusal


def assert_asks_for_no_option(account: Account) -> None:
    """What is off costs no call: audits, and EventBridge as the source of events."""
    asked = [call.operation for call in account.recorder.calls]
    once = ("DescribeMetricFilters", "DescribeAlarms", "DescribeRule")
    assert [asked.count(operation) for operation in once] == [1, 1, 1]
    reads = [call.parameters for call in account.recorder.calls if call.operation == "GetQueueAttributes"]
    assert [read["AttributeNames"] for read in reads] == [["Policy"], ["All"], ["All"]]
    assert "ListRules" not in asked


# Each generation of the CLI, and each stand-in.
@pytest.mark.fast
@pytest.mark.parametrize(("recorder", "tools"), [("moto", "v1"), ("ministack", "v2")], indirect=True)
def test_deploying_twice_cleaning_up_twice_and_deploying_again_leaves_what_others_have(account: Account) -> None:
    before = account.inventory()
    settings = {"ALARM_EMAIL": "ops@example.com"}
    if account.can_keep:  # moto cannot delete a second gateway endpoint
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
    assert_asks_for_no_option(account)

    output, _ = account.run("cleanup.sh", "--yes")
    assert_conforming(account)
    assert account.inventory() == before

    output, _ = account.run("cleanup.sh", "--yes")
    assert output.startswith("nothing of ")
    assert account.recorder.writes == []

    if account.can_keep:
        output, _ = account.run("deploy.sh", **settings)
        assert set(states(output)) == {"exists", "created"}


def may_not_pass(role: str) -> str:
    """What AWS says of a role that the caller may not pass, or that it does not see yet."""
    return f"User: u is not authorized to perform: iam:PassRole on resource: arn:aws:iam::1:role/{role}"


NO_PRINCIPAL = (
    "Lambda was unable to configure access to your environment variables because the KMS key is invalid for"
    " CreateGrant. KMS Exception: InvalidArnException KMS Message: ARN does not refer to a valid principal"
)

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
            Refusal("CreateFunction", 2, "AccessDeniedException", may_not_pass(f"{APP}-starter-role"), 403),
            "the new role cannot be given to Lambda yet",
        ),
        (
            Refusal("CreateFunction", 1, "InvalidParameterValueException", NO_PRINCIPAL),
            "KMS does not see the new role yet",
        ),
        (
            Refusal("RegisterTaskDefinition", 2, "AccessDeniedException", may_not_pass(f"{APP}-exec-role")),
            "the new role cannot be given to ECS yet",
        ),
        (
            Refusal("CreateQueue", 1, "InvalidParameterValue", "Reason: Dead letter target does not exist."),
            "SQS does not see the new dead-letter queue yet",
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


ASKED = (
    *("ensure_dlq", "ensure_source_queue", "ensure_starter_role", "ensure_exec_role", "ensure_cluster"),
    *("ensure_task_definition", "ensure_security_group", "ensure_function", "ensure_notification"),
)


@one_cloud
@one_cli
def test_refusals_that_pass_are_waited_out_and_said(account: Account) -> None:
    for script, refusals in PASSING_REFUSALS.items():
        account.recorder.refusals = [refusal for refusal, _ in refusals]
        if script == "deploy.sh":
            _, errors = account.steps(*ASKED)
        else:
            _, errors = account.result_of(account.start_removal("cluster", "security_group", "role"))
        for refusal, message in refusals:
            assert errors.count(message) == refusal.times, errors
        assert not any(refusal.times for refusal in account.recorder.refusals), "a refusal was never reached"


@one_cloud
@one_cli
def test_a_refusal_that_does_not_pass_ends_the_run_with_the_resource_and_the_error(account: Account) -> None:
    account.recorder.refusals = [Refusal("CreateQueue", 100, "QueueDeletedRecently")]
    _, errors = account.run("deploy.sh", status=1, RETRY_LIMIT="3")
    assert errors.count("waiting:") == 2
    assert f"deploy.sh: dead-letter queue {APP}-dlq: aws sqs create-queue failed" in errors

    account.recorder.refusals = []
    account.steps("ensure_*queue", "ensure_dlq", "ensure_*role", "ensure_cluster", "ensure_task_definition", "*group")
    # The roles are older than the runs.
    for code, message, advice in (
        ("AccessDeniedException", "no lambda:CreateFunction", "no lambda:CreateFunction"),
        ("AccessDeniedException", may_not_pass(f"{APP}-starter-role"), "allow yourself iam:PassRole"),
        ("InvalidParameterValueException", NO_PRINCIPAL, "CreateGrant"),
    ):
        account.recorder.refusals = [Refusal("CreateFunction", 1, code, message, 403)]
        output, errors = account.steps("ensure_function", status=1)
        assert "waiting:" not in errors
        assert f"function {APP}-starter: aws lambda create-function failed" in errors
        assert code in errors
        assert advice in errors
        assert f"function {APP}-starter" not in output

    account.run("deploy.sh")
