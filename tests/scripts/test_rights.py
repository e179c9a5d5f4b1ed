"""deploy.sh and cleanup.sh with credentials without some permission: what they do without, and what they say."""

import json

import pytest
from account import APP, MIRROR, SOURCE, Account
from deployment import one_cli, one_cloud, states
from recorder import Refusal

HOUSEKEEPING = (
    "GetBucketLifecycleConfiguration",
    "PutBucketLifecycleConfiguration",
    "GetBucketPolicy",
    "PutBucketPolicy",
)


@one_cloud
@one_cli
def test_without_rights_on_the_lifecycle_of_the_destination_the_sync_works_and_the_rest_is_told(
    account: Account,
) -> None:
    """The plan reads, and so does the step before it writes, as what was denied may be allowed by then."""
    account.steps("ensure_dlq", "ensure_source_queue")
    for operation in HOUSEKEEPING:
        account.recorder.refusals = [Refusal(operation, 2, "AccessDenied", f"no right for {operation}", 403)]
        output, _ = account.steps("ensure_notification", "ensure_lifecycle")
        assert states(output)[-1] == "left to you, see the end", output
        _, told = output.split("\nNot done, because your credentials do not allow it:\n")
        assert told.startswith(f"- bucket lifecycle {MIRROR}, with the policy for it.")
        assert f"no right for {operation}" in told
        statement = json.loads(told[told.index("{") :])
        assert "s3express:PutLifecycleConfiguration" in statement["Action"]
        assert statement["Resource"] == f"arn:aws:s3express:us-east-1:{account.number}:bucket/{MIRROR}"
        notification = account.client("s3").get_bucket_notification_configuration(Bucket=SOURCE)
        assert APP in {found["Id"] for found in notification["QueueConfigurations"]}

    account.recorder.refusals = []
    output, _ = account.steps("ensure_lifecycle")
    assert states(output)[-1] == "changed"
    assert "Left, " not in output
    assert set(states(account.steps("ensure_lifecycle")[0])) == {"exists"}


@one_cloud
@one_cli
def test_another_error_of_the_lifecycle_ends_the_run_after_all_that_the_sync_needs(account: Account) -> None:
    account.recorder.refusals = [Refusal("PutBucketLifecycleConfiguration", 1, "InvalidRequest", "not so", 400)]
    _, errors = account.steps("ensure_lifecycle", status=1)
    assert f"bucket lifecycle {MIRROR}: aws s3api put-bucket-lifecycle-configuration failed" in errors
    steps = account.ask('echo "${STEPS[@]}"').split()
    assert all("_no_" in step for step in steps[steps.index("ensure_lifecycle") + 1 :])


@one_cloud
@one_cli
def test_cleanup_without_rights_on_the_lifecycle_tells_what_may_stay(account: Account) -> None:
    account.steps("ensure_lifecycle")
    denied = ("GetBucketLifecycleConfiguration", "GetBucketPolicy")
    account.recorder.refusals = [Refusal(name, 9, "AccessDenied", f"no right for {name}", 403) for name in denied]
    output, errors = account.run("cleanup.sh", "--dry-run")
    assert "bucket lifecycle" not in output
    assert f"stays, if deploy.sh made it: the lifecycle of {MIRROR}." in errors
    assert f"stays, if deploy.sh made it: the policy of {MIRROR}." in errors
    assert "s3express:DeleteBucketPolicy" in errors


@one_cloud
@one_cli
def test_a_function_whose_tags_may_not_be_read_is_not_taken_for_that_of_somebody_else(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    account.deployed()
    denial = {"ErrorCode": "AccessDeniedException", "Message": "no lambda:ListTags"}
    answer = json.dumps({"Configuration": {"FunctionName": f"{APP}-starter"}, "TagsError": denial}).encode()
    account.recorder.refusals = [Refusal("ListTags", 1, "AccessDeniedException", "no lambda:ListTags", 403)]
    with monkeypatch.context() as patch:
        patch.setitem(account.recorder.answers, ("lambda", "GetFunction"), answer)
        output, errors = account.result_of(account.start_removal("function"), status=1)
        assert f"function {APP}-starter stays, because its tags could not be read" in errors
        assert "no lambda:ListTags; grant yourself lambda:ListTags" in errors
        assert f"function {APP}-starter" not in output
        assert f"{APP}-starter" in account.functions()

        account.result_of(account.start_removal("function"))  # ListTags answers now
    assert f"{APP}-starter" not in account.functions()
