"""deploy.sh and cleanup.sh killed at every point: the next run completes it."""

import os

import pytest
from account import APP, Account
from deployment import nameless, one_cli, one_cloud
from killing import complete_after_kills, kill_at

NIGHTLY = os.environ.get("NIGHTLY") == "1"
SETTINGS = {"ALARM_EMAIL": "ops@example.com"}


@one_cloud
@one_cli
def test_a_function_whose_role_an_interrupted_run_made_anew_is_made_anew_too(account: Account) -> None:
    account.deployed()
    iam, role = account.client("iam"), f"{APP}-starter-role"
    iam.delete_role_policy(RoleName=role, PolicyName=APP)
    iam.delete_role(RoleName=role)
    kill_at(account, "CreateRole", account.start("deploy.sh"))
    output, _ = account.run("deploy.sh")  # on another machine, as far as it knows
    assert f"function {APP}-starter: created" in output
    account.run("deploy.sh")
    assert account.recorder.writes == []


# What makes more than one write, so that it can be killed in between; the account's role of ECS is there already.
BETWEEN_WRITES = {
    "ensure_starter_log_group": "two calls, the second for the retention",
    "ensure_starter_role": "the role and its policy",
    "ensure_exec_role": "the same, of another service",
    "ensure_repository": "the repository and its lifecycle",
    "ensure_function": "the function, its concurrency and its retries",
    "ensure_rule": "the rule, the permission and the target",
    "ensure_topic": "the topic and the subscription",
    "ensure_lifecycle": "the policy and the lifecycle of the destination",
}
REMOVED_IN_PARTS = ("rule", "task_definition", "queue", "role")


@one_cloud
@one_cli
def test_steps_that_are_killed_after_any_write_are_completed_by_the_next_run(account: Account) -> None:
    """A kill between two steps leaves what the step before makes, so a step is killed and run again by itself."""
    before, settings = account.inventory(), {**SETTINGS, "IMAGE_URI": ""}
    account.deployed(**SETTINGS)
    deployed, kinds = nameless(account.inventory()), account.ask('echo "${KINDS[@]}"', "cleanup.sh").split()
    for kind in REMOVED_IN_PARTS:
        assert complete_after_kills(account, lambda kind=kind: account.start_removal(kind)) > 1, kind
    account.result_of(account.start_removal(*kinds))
    assert account.inventory() == before

    steps = account.ask('echo "${STEPS[@]}"', **settings).split()
    for step in steps:
        if step in BETWEEN_WRITES:
            assert complete_after_kills(account, lambda step=step: account.start_step(step, **settings)) > 1, step
        else:
            account.result_of(account.start_step(step, **settings))
    assert nameless(account.inventory()) == deployed


@pytest.mark.skipif(not NIGHTLY, reason="each write costs a run of the whole script: with NIGHTLY=1")
@one_cloud
@one_cli
def test_runs_that_are_killed_after_any_write_are_completed_by_the_next(account: Account) -> None:
    before = account.inventory()
    account.run("deploy.sh", **SETTINGS)
    deployed, writes = nameless(account.inventory()), len(account.recorder.writes)
    account.run("cleanup.sh", "--yes")
    removals = len(account.recorder.writes)

    assert complete_after_kills(account, lambda: account.start("deploy.sh", **SETTINGS)) == writes
    assert nameless(account.inventory()) == deployed
    assert complete_after_kills(account, lambda: account.start("cleanup.sh", "--yes")) == removals
    assert account.inventory() == before
