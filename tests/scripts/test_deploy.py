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
    assert [read["AttributeNames"] for read in reads] == [["All"], ["All"]]
    assert "ListRules" not in asked


# Each generation of the CLI, and each stand-in.
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


# What AWS says for a while, and what cleanup.sh says that it waits for.
PASSING_REFUSALS = [
    (Refusal("DeleteCluster", 1, "ClusterContainsTasksException"), "the last tasks are still ending"),
    (Refusal("DeleteSecurityGroup", 2, "DependencyViolation"), "network interfaces of the last tasks"),
    (Refusal("DeleteRole", 1, "DeleteConflict", status=409), "IAM does not see yet"),
]


@one_cloud
@one_cli
def test_refusals_that_pass_are_waited_out_and_said(account: Account) -> None:
    account.deployed()
    account.recorder.refusals = [refusal for refusal, _ in PASSING_REFUSALS]
    _, errors = account.result_of(account.start_removal("cluster", "security_group", "role"))
    for refusal, message in PASSING_REFUSALS:
        assert errors.count(message) == refusal.times, errors
    assert not any(refusal.times for refusal in account.recorder.refusals), "a refusal was never reached"


@one_cloud
@one_cli
def test_a_refusal_for_good_ends_the_run_with_the_resource_and_the_error(account: Account) -> None:
    account.recorder.refusals = [Refusal("CreateQueue", 100, "QueueDeletedRecently")]
    _, errors = account.run("deploy.sh", status=1, RETRY_LIMIT="3")
    assert errors.count("waiting:") == 2
    assert f"deploy.sh: dead-letter queue {APP}-dlq: aws sqs create-queue failed" in errors
