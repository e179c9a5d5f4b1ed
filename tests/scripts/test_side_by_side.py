"""Two deployments of the same name at once."""

import pytest
from account import APP, Account
from deployment import nameless, one_cli, one_cloud
from recorder import Refusal

# What AWS answers to the second of two creations -> the steps of the run that gets it.
MADE_MEANWHILE = {
    Refusal("CreateLogGroup", 1, "ResourceAlreadyExistsException", "The specified log group already exists"): (
        "ensure_worker_log_group",
    ),
    Refusal("CreateQueue", 1, "QueueAlreadyExists", "A queue already exists with the same name and other attributes"): (
        "ensure_dlq",
    ),
    Refusal("CreateRole", 1, "EntityAlreadyExists", "Role with name x already exists.", 409): ("ensure_task_role",),
    Refusal("CreateRepository", 1, "RepositoryAlreadyExistsException", "The repository already exists"): (
        "ensure_repository",
    ),
    Refusal("CreateSecurityGroup", 1, "InvalidGroup.Duplicate", "The security group 'x' already exists"): (
        "ensure_security_group",
    ),
    Refusal("CreateFunction", 1, "ResourceConflictException", "Function already exist: x", 409): (
        "ensure_dlq",
        "ensure_source_queue",
        "ensure_starter_role",
        "ensure_security_group",
        "ensure_function",
    ),
    Refusal("AddPermission", 1, "ResourceConflictException", "The statement id (x) provided already exists.", 409): (
        "ensure_function",
        "ensure_rule",
    ),
}
NO_ROLES = b"<R><ListRolesResult><Roles/><IsTruncated>false</IsTruncated></ListRolesResult></R>"


@one_cloud
@one_cli
def test_what_somebody_made_in_the_meantime_is_told_so_and_the_next_run_completes(account: Account) -> None:
    for refusal, steps in MADE_MEANWHILE.items():
        account.recorder.refusals = [refusal]
        _, errors = account.steps(*steps, status=1, IMAGE_URI="")
        assert refusal.code in errors
        assert "somebody made it in this moment: if that was another deploy.sh, run this again" in errors
    account.run("deploy.sh")
    completed = nameless(account.inventory())
    account.deployed()
    assert completed == nameless(account.inventory())


@one_cloud
@one_cli
def test_the_role_of_ecs_may_come_from_another_deployment(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = "Service role name AWSServiceRoleForECS has been taken in this account, please try a different suffix."
    account.recorder.refusals = [Refusal("CreateServiceLinkedRole", 1, "InvalidInput", taken)]
    with monkeypatch.context() as patch:
        patch.setitem(account.recorder.answers, ("iam", "ListRoles"), NO_ROLES)
        account.steps("ensure_ecs_role", "ensure_cluster")


@one_cloud
@one_cli
def test_two_deployments_at_once_end_well_or_with_one_clear_error(account: Account) -> None:
    before = account.inventory()
    with account.start("deploy.sh") as first, account.start("deploy.sh") as second:
        ends = [process.communicate(timeout=900)[1] for process in (first, second)]
    statuses = [first.returncode, second.returncode]
    assert 0 in statuses, ends
    for status, errors in zip(statuses, ends, strict=True):
        assert status == 0 or "somebody made it in this moment" in errors, errors

    account.run("deploy.sh")
    assert account.recorder.writes == []
    assert f"{APP}-starter" in account.functions()
    account.run("cleanup.sh", "--yes")
    assert account.inventory() == before
