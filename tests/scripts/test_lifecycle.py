"""KEEP_DAYS on the destination: our rules in its lifecycle, what becomes of those of others, and what is said of it."""

import json
from typing import Any

import pytest
from account import APP, MIRROR, Account
from deployment import CLIS, assert_conforming, one_cli, one_cloud, states
from recorder import Refusal

# The steps about the lifecycle and the task definition, which their order depends on.
PARTS = ("*_lifecycle", "ensure_owner*", "ensure_task_definition")
DAYS = {"KEEP_DAYS": "7"}
ABORT = {
    "ID": f"{APP}-abort-incomplete-uploads",
    "Status": "Enabled",
    "Filter": {"Prefix": ""},
    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
}
THEIRS = {"ID": "theirs", "Status": "Enabled", "Filter": {"Prefix": "tmp/"}, "Expiration": {"Days": 3}}
SIZED = {
    "ID": f"{APP}-keepsakes",
    "Status": "Disabled",
    "Filter": {"And": {"Prefix": "a/", "ObjectSizeGreaterThan": 5, "ObjectSizeLessThan": 9}},
    "Expiration": {"Days": 1},
}
PUT = "PutBucketLifecycleConfiguration"


def kept(*places: tuple[str, int]) -> list[dict[str, Any]]:
    """Our rules for (prefix, days)."""
    return [
        {
            "ID": f"{APP}-keep" + (f"-{number}" if number > 1 else ""),
            "Status": "Enabled",
            "Filter": {"Prefix": prefix},
            "Expiration": {"Days": days},
        }
        for number, (prefix, days) in enumerate(places, 1)
    ]


def deploy(account: Account, status: int = 0, **settings: str) -> tuple[str, str]:
    """(stdout, stderr) of those steps."""
    said = account.steps(*PARTS, status=status, **settings)
    assert_conforming(account)
    return said


def rules(account: Account) -> list[dict[str, Any]] | None:
    return account.optional(account.client("s3").get_bucket_lifecycle_configuration, "Rules", Bucket=MIRROR)


def put(account: Account, *given: dict[str, Any]) -> None:
    account.client("s3").put_bucket_lifecycle_configuration(
        Bucket=MIRROR, LifecycleConfiguration={"Rules": list(given)}
    )


def writes(account: Account) -> list[str]:
    return [call.operation for call in account.recorder.writes]


def steps(output: str) -> list[str]:
    return [line.split("] ")[1] for line in output.splitlines() if line.startswith("[")]


def found_rules(text: str) -> list[dict[str, Any]]:
    """The rules that a text asks somebody to add."""
    return list(json.JSONDecoder().raw_decode(text[text.index('[{"ID"') :])[0])


LIFECYCLE = f"bucket lifecycle {MIRROR}"
TASKS = f"task definition {APP}-task"


@one_cloud
@pytest.mark.parametrize("tools", CLIS, indirect=True)
def test_keep_days_is_one_rule_for_each_prefix_and_changes_with_it(account: Account) -> None:
    output, errors = deploy(account)
    assert rules(account) == [ABORT]
    assert "KEEP_DAYS" not in output + errors

    output, errors = deploy(account, KEEP_DAYS="7", PREFIX_FILTER="b & c/,a,a/x/")
    assert rules(account) == [ABORT, *kept(("a", 7), ("b & c/", 7))]
    assert steps(output) == [f"{TASKS}: changed (containerDefinitions)", f"{LIFECYCLE}: changed (rules of KEEP_DAYS)"]
    told = f"KEEP_DAYS=7: S3's lifecycle deletes everything in s3://{MIRROR}/a, s3://{MIRROR}/b & c/ that is older"
    assert told in errors
    assert "objects of other programs" in errors
    assert "nothing is deleted in the source" in errors
    assert "./sync.sh reconcile --remove-unwanted deletes old copies at once" in errors

    output, errors = deploy(account, KEEP_DAYS="7", PREFIX_FILTER="b & c/,a,a/x/")
    assert states(output) == ["exists", "exists"]
    assert errors == ""
    assert writes(account) == []

    deploy(account, KEEP_DAYS="5", PREFIX_FILTER="")
    assert rules(account) == [ABORT, *kept(("", 5))]


@one_cloud
@one_cli
def test_a_longer_keep_days_loosens_the_rules_before_a_worker_copies_more(account: Account) -> None:
    deploy(account, KEEP_DAYS="7", PREFIX_FILTER="a/,b/")
    output, errors = deploy(account, KEEP_DAYS="30", PREFIX_FILTER="a/,b/")
    assert steps(output)[0] == f"{LIFECYCLE}: changed (keeps more)"
    assert steps(output)[1:] == [f"{TASKS}: changed (containerDefinitions)", f"{LIFECYCLE}: exists"]
    assert rules(account) == [ABORT, *kept(("a/", 30), ("b/", 30))]
    assert "KEEP_DAYS=30 was 7: ./sync.sh reconcile brings back the objects between the two ages" in errors
    assert "lifecycle deletes" not in errors

    output, errors = deploy(account)
    assert writes(account) == [PUT, "RegisterTaskDefinition"]
    assert rules(account) == [ABORT]
    assert "KEEP_DAYS=30 is no longer set: ./sync.sh reconcile brings back older objects" in errors
    output, errors = deploy(account)
    assert (errors, states(output), writes(account)) == ("", ["exists", "exists"], [])


# Before and after: prefixes and days; what the rules are while the workers get their settings.
BETWEEN = {
    "shorter": (("a/,b/", "9"), ("a/,b/", "4"), [("a/", 9), ("b/", 9)]),
    "another prefix more, one less": (("a/,b/", "9"), ("b/,c/", "9"), [("b/", 9)]),
    "a longer prefix": (("a/", "4"), ("a/x/,c/", "9"), [("a/x/", 9)]),
    "a shorter prefix": (("a/x/,a/y/", "4"), ("a/", "3"), [("a/x/", 4), ("a/y/", 4)]),
    "all keys": (("a/", "4"), ("", "9"), [("a/", 9)]),
}


@one_cloud
@pytest.mark.parametrize("tools", CLIS, indirect=True)
def test_rules_of_others_beside_ours_stay_as_they_are(account: Account) -> None:
    edited = ABORT | {"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 5}}
    put(account, THEIRS, edited, SIZED)
    deploy(account, **DAYS)
    assert rules(account) == [THEIRS, edited, SIZED, *kept(("models/", 7))]
    deploy(account, KEEP_DAYS="8", PREFIX_FILTER="x/,y/")
    assert rules(account) == [THEIRS, edited, SIZED, *kept(("x/", 8), ("y/", 8))]
    deploy(account)
    assert rules(account) == [THEIRS, edited, SIZED]
    assert writes(account) == [PUT, "RegisterTaskDefinition"]


@one_cloud
@one_cli
def test_a_rule_of_ours_that_somebody_changed_is_mended_and_one_that_is_written_otherwise_is_not(
    account: Account,
) -> None:
    ours = kept(("models/", 7))[0]
    put(account, ours | {"Status": "Disabled"}, ABORT)
    deploy(account, **DAYS)
    assert rules(account) == [ABORT, ours]

    put(account, ABORT, ours | {"ID": f"{APP}-keep-2"})
    deploy(account, **DAYS)
    assert writes(account) == []


@one_cloud
@pytest.mark.parametrize("tools", CLIS, indirect=True)
def test_a_lifecycle_of_somebody_else_stays_and_what_it_lacks_is_told(account: Account) -> None:
    put(account, THEIRS)
    output, errors = deploy(account)
    assert (errors, states(output)[-1]) == ("", "exists")
    _, errors = deploy(account, **DAYS)
    assert rules(account) == [THEIRS]
    assert "PutBucketPolicy" not in writes(account)
    assert f"the lifecycle of {MIRROR} is someone else's and stays as it is" in errors
    assert "days stay until ./sync.sh reconcile --remove-unwanted removes them" in errors
    assert "lifecycle.s3.amazonaws.com" in errors
    assert "lifecycle deletes" not in errors

    put(account, THEIRS, *found_rules(errors))  # as they were shown
    deploy(account, **DAYS)
    assert rules(account) == [THEIRS, *kept(("models/", 7))]
    deploy(account)
    assert rules(account) == [THEIRS]


@one_cloud
@one_cli
def test_a_policy_of_somebody_else_stays_and_what_it_means_for_keep_days_is_told(account: Account) -> None:
    statement = {"Effect": "Allow", "Principal": "*", "Action": "s3express:CreateSession", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    account.client("s3").put_bucket_policy(Bucket=MIRROR, Policy=policy)
    _, errors = deploy(account)
    assert "stays as it is; incomplete uploads are aborted only when it also has the statement of {" in errors
    _, errors = deploy(account, **DAYS)
    assert "and objects older than KEEP_DAYS=7 days deleted, only when it also has the statement of {" in errors
    assert json.loads(account.buckets()[1]) == json.loads(policy)


@one_cloud
@one_cli
def test_a_denial_tells_what_it_means_for_keep_days(account: Account) -> None:
    deploy(account, **DAYS)
    for operation, refused in (("GetBucketLifecycleConfiguration", 9), (PUT, 9)):
        account.recorder.refusals = [Refusal(operation, refused, "AccessDenied", "no right", 403)]
        output, errors = deploy(account, KEEP_DAYS="30")
        account.recorder.refusals = []
        assert states(output)[-1] == "left to you, see the end"
        told = output[output.index("\nNot done, because your credentials do not allow it:\n") :]
        assert "copies older than KEEP_DAYS=30 days stay until ./sync.sh reconcile --remove-unwanted removes" in told
        assert "any rules of KEEP_DAYS=7 keep deleting" in told
        assert "KEEP_DAYS=30 was 7: ./sync.sh reconcile brings back" in errors
        assert told.count("- bucket lifecycle") == 1
        assert rules(account) == [ABORT, *kept(("models/", 7))]
        deploy(account, **DAYS)


@one_cloud
@one_cli
def test_a_refusal_of_s3_names_the_rules_and_the_way_out(account: Account) -> None:
    for before in (False, True):
        if before:
            put(account, ABORT)
        account.recorder.refusals = [Refusal(PUT, 1, "InvalidRequest", "The prefix is not valid", 400)]
        _, errors = deploy(account, status=1, KEEP_DAYS="7", PREFIX_FILTER="mod")
        assert f"{LIFECYCLE}: aws s3api put-bucket-lifecycle-configuration failed: " in errors
        assert "The prefix is not valid; KEEP_DAYS=7 makes the rules [" in errors
        assert found_rules(errors) == kept(("mod", 7))
        assert (
            "set PREFIX_FILTER to prefixes that end in /, leave KEEP_DAYS empty, or give the bucket a lifecycle"
            in errors
        )
        assert "./sync.sh reconcile --remove-unwanted" in errors

    account.recorder.refusals = [Refusal(PUT, 1, "InvalidRequest", "not so", 400)]
    account.client("s3").delete_bucket_lifecycle(Bucket=MIRROR)
    _, errors = deploy(account, status=1)
    assert "KEEP_DAYS" not in errors


@one_cloud
@one_cli
def test_the_owner_in_another_account_is_told_what_to_set(account: Account) -> None:
    theirs = {"DST_BUCKET_OWNER": "999999999999"}
    output, errors = deploy(account, **theirs)
    assert LIFECYCLE not in output
    output, errors = deploy(account, **theirs, **DAYS)
    assert states(output)[-1] == "left to its owner, see the end"
    told = output[output.index("\nNot done, because") :]
    assert "S3 accepts it only from the bucket's own account. 999999999999 has to set the rules" in told
    assert found_rules(told) == kept(("models/", 7))
    assert '"s3express:CreateSession"' in told
    assert "Until then, copies older than KEEP_DAYS=7 days stay until ./sync.sh reconcile --remove-unwanted" in told
    output, errors = deploy(account, **theirs)
    assert f"999999999999 has to remove the rules {APP}-keep..., if there are any: they keep deleting" in output
    assert "KEEP_DAYS=7 is no longer set: ./sync.sh reconcile brings back older objects" in errors
    output, errors = deploy(account, **theirs)
    assert LIFECYCLE not in output
    assert [call.operation for call in account.recorder.calls if call.parameters.get("Bucket") == MIRROR] == []


@one_cloud
@one_cli
def test_a_dry_run_says_what_would_go(account: Account) -> None:
    deploy(account, **DAYS)
    output, errors = deploy(account, DRY_RUN="true", KEEP_DAYS="3")
    assert writes(account) == []
    assert f"{LIFECYCLE}: would change (rules of KEEP_DAYS)" in output
    assert "KEEP_DAYS=3: S3's lifecycle deletes everything in s3://" in errors
    output, errors = deploy(account, DRY_RUN="true", KEEP_DAYS="9")
    assert writes(account) == []
    assert steps(output)[0] == f"{LIFECYCLE}: would change (keeps more)"
    assert steps(output)[-1] == f"{LIFECYCLE}: exists"
    assert "lifecycle deletes" not in errors


@one_cloud
@one_cli
def test_cleanup_removes_our_rules_and_leaves_those_of_others(account: Account) -> None:
    buckets = account.buckets()[1:]
    deploy(account, KEEP_DAYS="7", PREFIX_FILTER="a/,b/")
    account.result_of(account.start_removal("bucket_policy", "bucket_lifecycle"))
    assert account.buckets()[1:] == buckets

    deploy(account, KEEP_DAYS="7", PREFIX_FILTER="a/,b/")
    found = rules(account) or []
    put(account, THEIRS, *found, SIZED)
    output, _ = account.run("cleanup.sh", "--yes")
    assert f"bucket lifecycle {MIRROR} (only {APP}-abort-incomplete-uploads, {APP}-keep, {APP}-keep-2)" in output
    assert rules(account) == [THEIRS, SIZED]
    assert account.buckets()[1] is not None  # their rules need the policy
    assert "bucket policy" not in output

    account.run("cleanup.sh", "--yes")
    assert account.recorder.writes == []
