"""Whole deployments on the local cloud, with both generations of the AWS CLI."""

import pytest
from account import Account, assert_conforming, one_cloud, states


def assert_asks_for_no_option(account: Account) -> None:
    """What is off costs no call: audits, and EventBridge as the source of events."""
    asked = [call.operation for call in account.recorder.calls]
    once = ("DescribeMetricFilters", "DescribeAlarms", "DescribeRule")
    assert [asked.count(operation) for operation in once] == [1, 1, 1]
    reads = [call.parameters for call in account.recorder.calls if call.operation == "GetQueueAttributes"]
    assert [read["AttributeNames"] for read in reads] == [["All"], ["All"]]
    assert "ListRules" not in asked


SETTINGS = {"ALARM_EMAIL": "ops@example.com", "CREATE_VPC_ENDPOINTS": "true"}
OPTIONS = {"EVENT_SOURCE": "eventbridge", "AUDIT_DAYS": "7", "KEEP_DAYS": "30", "METRICS": "true"}
OPTIONS |= {"TAGS": "team=ml,Cost Center=4 2", "EXCLUDE": "*.tmp"}


@one_cloud
@pytest.mark.parametrize(("tools", "options"), [("v1", {}), ("v2", OPTIONS)], indirect=["tools"])
def test_deploying_twice_cleaning_up_twice_and_deploying_again_leaves_what_others_have(
    account: Account, options: dict[str, str]
) -> None:
    before = account.inventory()
    settings = SETTINGS | options

    output, _ = account.run("deploy.sh", "--dry-run", **settings)
    assert set(states(output)) == {"exists", "would create"}
    assert account.recorder.writes == []
    assert account.inventory() == before

    output, _ = account.run("deploy.sh", **settings)
    # The role of ECS, and the endpoint of others and their switch.
    assert states(output).count("exists") == 2 + bool(options), output
    assert set(states(output)) == {"exists", "created"}
    assert_conforming(account)

    output, _ = account.run("deploy.sh", **settings)
    assert set(states(output)) == {"exists"}, output
    assert account.recorder.writes == []
    assert_conforming(account)
    if not options:
        assert_asks_for_no_option(account)

    output, _ = account.run("cleanup.sh", "--yes")
    assert_conforming(account)
    assert account.inventory() == before

    output, _ = account.run("cleanup.sh", "--yes")
    assert output.startswith("nothing of ")
    assert account.recorder.writes == []

    output, _ = account.run("deploy.sh", **settings)
    assert set(states(output)) == {"exists", "created"}
