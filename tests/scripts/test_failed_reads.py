"""A read that fails is no empty answer: what others have stays, and the next run completes what this one could not do.

On an account on paper, where each read of an operation fails in turn. In test_failing_calls.py, any call may fail.
"""

import copy
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from account import APP, MIRROR, SOURCE
from call import Call
from documents import Ran, Scripts, scripts_of_module
from paper_account import PaperAccount, Refused
from test_interrupted import BRIDGE, FROM_BRIDGE

Kept = dict[str, Any]
BUCKET = f"notifications {SOURCE}"
THEIRS = {"Id": "theirs", "TopicArn": "arn:aws:sns:us-east-1:1:theirs", "Events": ["s3:ObjectTagging:*"]}

scripts = scripts_of_module()


class Failing(PaperAccount):
    """The call of the operation with that number fails; `made` counts them."""

    def __init__(self, kept: Kept, operation: str, number: int) -> None:
        super().__init__()
        self.kept, self.operation, self.number, self.made = copy.deepcopy(kept), operation, number, 0

    def found(self, call: Call) -> Any:
        self.made += call.operation == self.operation
        if (call.operation, self.made) == (self.operation, self.number):
            self.number = 0
            raise Refused("AccessDenied", f"no {call.operation}")
        return super().found(call)


class Part(NamedTuple):
    """The settings of the deployment before, and the commands of a run that reads the bucket's notifications."""

    before: dict[str, str]
    run: Callable[[Scripts], Ran]


PARTS = {
    "clean-up": Part({}, lambda scripts: scripts.clean_up(status=None)),
    "clean-up of the switch": Part(BRIDGE, lambda scripts: scripts.clean_up(status=None)),
    "eventbridge to sqs": Part(BRIDGE, lambda scripts: scripts.step(*FROM_BRIDGE, status=None, EVENT_SOURCE="sqs")),
}


def each_fails(scripts: Scripts, before: Kept, operation: str, run: Callable[[Scripts], Ran]) -> Iterator[Ran]:
    """The run with each call of the operation failing in turn; then the account is as without a failure after one
    more run."""
    account = scripts.account = Failing(before, operation, 0)
    assert run(scripts).status == 0
    wanted, calls = account.kept, account.made
    assert calls > 1
    for number in range(1, calls + 1):
        account = scripts.account = Failing(before, operation, number)
        ran = run(scripts)
        yield ran
        if ran.status:
            assert f"no {operation}" in ran.errors
            assert run(scripts).status == 0
        assert account.kept == wanted, number


@pytest.mark.parametrize("name", PARTS)
def test_notifications_of_others_outlast_each_read_that_fails(scripts: Scripts, name: str) -> None:
    part, kinds = PARTS[name], ("notifications ", "rule ", "queue ", "function ", "role-of-ecs ")
    kept = scripts.with_deployment(**part.before).kept
    before = {key: value for key, value in kept.items() if key.startswith(kinds)}
    before[BUCKET]["TopicConfigurations"] = [THEIRS]
    for _ in each_fails(scripts, before, "GetBucketNotificationConfiguration", part.run):
        assert scripts.account.kept[BUCKET]["TopicConfigurations"] == [THEIRS]


# What may not be read -> what a clean-up has to leave of it, beside the record of the settings.
DENIED = {
    "GetBucketNotificationConfiguration": {BUCKET, f"queue {APP}-q", f"queue {APP}-dlq"},
    "GetBucketLifecycleConfiguration": {f"lifecycle {MIRROR}", f"bucket-policy {MIRROR}"},
    "GetBucketPolicy": {f"bucket-policy {MIRROR}"},
    "ListBucketMetricsConfigurations": {f"request-metrics {MIRROR}"},
}


class Denying(PaperAccount):
    def __init__(self, kept: Kept) -> None:
        super().__init__()
        self.kept, self.denied = kept, ""

    def authorize(self, call: Call) -> None:
        if call.operation == self.denied:
            raise Refused("AccessDenied", f"no {call.operation}")


# What a clean-up reads, of which CI denies some.
READS = (
    "ListTaskDefinitions", "DescribeTaskDefinition", "GetQueueUrl", "GetQueueAttributes", "DescribeRule",
    "ListTargetsByRule", "DescribeAlarms", "ListTagsForResource", "GetFunction", "DescribeClusters", "ListTasks",
    "DescribeVpcEndpoints", "DescribeSecurityGroups", "DescribeRepositories", "ListQueueTags", "DescribeMetricFilters",
    "DescribeLogGroups", "ListTagsLogGroup", "GetRole", "ListRolePolicies", "GetDashboard", "ListRules",
)  # fmt: skip


def left(kept: Kept) -> set[str]:
    return {name for name, value in kept.items() if value and not name.startswith("image ")}


@pytest.mark.parametrize("operation", DENIED)
def test_what_may_not_be_read_stays_with_what_the_next_clean_up_needs(scripts: Scripts, operation: str) -> None:
    """Which knows no setting but the Region."""
    account = scripts.account = Denying(scripts.with_deployment().kept)
    account.kept[f"request-metrics {MIRROR}"] = {"s3-to-s3express-sync-reads-1-7-0": "models/"}
    account.denied = operation
    settings = {"SRC_BUCKET": None, "DST_BUCKET": None}
    for arguments in (["--dry-run"], []):
        ran = scripts.clean_up(*arguments, status=1, **settings)
        assert f"no {operation}" in ran.errors
        assert "because it could not be read" in ran.errors
        assert "nothing of" not in ran.output
    assert left(account.kept) == DENIED[operation] | {f"task {APP}-task:1"}
    account.denied = ""
    scripts.clean_up(**settings)
    assert left(account.kept) == set()


@pytest.mark.parametrize("operation", READS if os.environ.get("NIGHTLY") == "1" else READS[::8])
def test_whatever_may_not_be_read_the_next_clean_up_completes_it(scripts: Scripts, operation: str) -> None:
    account = scripts.account = Denying(scripts.with_deployment(**BRIDGE).kept)
    account.kept[BUCKET]["TopicConfigurations"] = [THEIRS]
    account.denied = operation
    settings = {"SRC_BUCKET": None, "DST_BUCKET": None}
    if "TaskDefinition" in operation:  # then nothing says what they are
        settings = {}
    ran = scripts.clean_up("--yes", status=1, **settings)
    assert f"no {operation}" in ran.errors
    account.denied = ""
    scripts.clean_up("--yes", SRC_BUCKET=None, DST_BUCKET=None)
    assert left(account.kept) == {BUCKET}
    assert {name for name, value in account.kept[BUCKET].items() if value} == {"TopicConfigurations"}


def test_a_release_that_may_not_be_read_is_no_old_one(scripts: Scripts) -> None:
    """1.0.0 had no tag for it, and cannot read events of EventBridge. Since 1.3.0 the record says it, too."""
    for before, status in ({}, 2), (BRIDGE, 0):
        account = scripts.account = Denying(scripts.with_deployment(TAGS="team=ml", **before).kept)
        account.denied = "ListTags"
        scripts.deploy("--dry-run", **BRIDGE)
        (container,) = account.kept[f"task {APP}-task:1"]["containerDefinitions"]
        del container["dockerLabels"]
        ran = scripts.deploy("--dry-run", status=status, **BRIDGE)
        assert ("which release is deployed could not be read: " in ran.errors) == (status == 2)
        assert "release 1.0.0 is deployed" not in ran.errors
