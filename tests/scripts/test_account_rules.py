"""Accounts with rules: TAGS, ROLE_PATH and ROLE_BOUNDARY_ARN, by what is sent to AWS."""

import copy
from typing import Any

import pytest
from account import APP, SOURCE
from documents import Ran, Scripts, scripts_of_module
from meaning import grants
from paper_account import HERE, NUMBER, PaperAccount, Refused, pairs
from test_documents import FULL

from mirror.version import VERSION

TAGS = {"team": "ml", "Cost Center": "4 2", "\u6a21": "a=b", "empty": ""}
BOUNDARY = f"arn:aws:iam::{NUMBER}:policy/rules/workloads"
RULES = {"TAGS": ", ".join(f"{key} = {value}" for key, value in TAGS.items())}
RULES |= {"ROLE_PATH": "/ml/2026/", "ROLE_BOUNDARY_ARN": BOUNDARY}
ROLES = [f"{APP}-{role}-role" for role in ("starter", "task", "exec")]
OURS = {"app": APP, "version": VERSION}
ON_SOME = {"region", "turned-on-events-of"}


scripts = scripts_of_module()


def deployed(scripts: Scripts, settings: dict[str, str]) -> tuple[Ran, dict[str, Any]]:
    """A deployment of an empty account, and what the account keeps then."""
    scripts.account = PaperAccount()
    return scripts.deploy(**settings), copy.deepcopy(scripts.account.kept)


@pytest.fixture(scope="module")
def plain(scripts: Scripts) -> tuple[Ran, dict[str, Any]]:
    return deployed(scripts, {})


@pytest.fixture(scope="module")
def ruled(scripts: Scripts) -> tuple[Ran, dict[str, Any]]:
    """With every option, so that everything that there may be is made."""
    return deployed(scripts, FULL | RULES)


def tagged(kept: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Name -> tags of each resource that has any, but for what only some have, and for older revisions of the task."""
    found = {name: document for name, document in kept.items() if isinstance(document, dict)}
    for older in sorted(name for name in found if name.startswith("task "))[:-1]:
        del found[older]
    tags = {name: pairs(one.get("tags", one.get("Tags", {}))) for name, one in found.items()}
    return {name: {k: v for k, v in have.items() if k not in ON_SOME} for name, have in tags.items() if have}


def sent_to_aws(ran: Ran) -> list[str]:
    """The writes; a look at the version of Docker is none."""
    return [call.operation for call in ran.writes if call.service != "docker"]


def right_to_tag(account: dict[str, Any]) -> set[tuple[Any, ...]]:
    policy = account[f"role {ROLES[0]}"]["policies"][APP]
    return {grant for grant in grants(policy) if grant[0] == "ecs:TagResource"}


def test_without_the_settings_nothing_of_them_is_sent(plain: tuple[Ran, dict[str, Any]]) -> None:
    ran, kept = plain
    assert [call for call in ran.writes if {"Path", "PermissionsBoundary"} & call.parameters.keys()] == []
    assert all(have == OURS for have in tagged(kept).values())
    assert right_to_tag(kept) == set()
    assert "TAG_TASKS" not in kept[f"function {APP}-starter"]["Environment"]["Variables"]


def test_everything_that_can_be_tagged_is_made_with_the_tags(ruled: tuple[Ran, dict[str, Any]]) -> None:
    ran, kept = ruled
    kinds = {name.partition(" ")[0] for name in tagged(kept)}
    assert kinds == {
        *("log-group", "queue", "role", "repository", "cluster", "task", "security-group", "endpoint", "function"),
        *("rule", "topic", "alarm"),
    }
    assert {name: have for name, have in tagged(kept).items() if have != OURS | TAGS} == {}
    later = [pairs(call.parameters["Tags"]) for call in ran.writes if call.operation.startswith("Tag")]
    assert later == [{"turned-on-events-of": SOURCE}]


def test_the_roles_have_path_and_boundary_and_are_named_with_their_path(ruled: tuple[Ran, dict[str, Any]]) -> None:
    ran, kept = ruled
    assert {(role["Path"], role["PermissionsBoundary"]) for role in ran.sent("CreateRole")} == {("/ml/2026/", BOUNDARY)}
    starter, task, execution = (f"arn:aws:iam::{NUMBER}:role/ml/2026/{role}" for role in ROLES)
    assert kept[f"function {APP}-starter"]["Role"] == starter
    definition = kept[f"task {APP}-task:1"]
    assert (definition["taskRoleArn"], definition["executionRoleArn"]) == (task, execution)
    passed = {grant[1] for grant in grants(kept[f"role {ROLES[0]}"]["policies"][APP]) if grant[0] == "iam:PassRole"}
    assert passed == {task, execution}


def test_the_starter_tags_tasks_and_may_do_so_when_it_starts_them(ruled: tuple[Ran, dict[str, Any]]) -> None:
    _, kept = ruled
    assert kept[f"function {APP}-starter"]["Environment"]["Variables"]["TAG_TASKS"] == "true"
    tasks = f"arn:aws:ecs:{HERE}:task/{APP}-cluster/*"
    assert right_to_tag(kept) == {("ecs:TagResource", tasks, "StringEquals ecs:CreateAction=RunTask")}


def test_a_second_run_changes_nothing_and_a_clean_up_finds_all(
    scripts: Scripts, ruled: tuple[Ran, dict[str, Any]]
) -> None:
    scripts.account.kept = copy.deepcopy(ruled[1])
    assert scripts.deploy(**FULL | RULES).writes == []
    ran = scripts.run("ASSUME_YES=true; cleanup_all")  # needs neither of the settings
    assert all(f"role {role}: removed" in ran.output for role in ROLES)
    assert tagged(scripts.account.kept) == {}


def test_what_is_there_gets_tags_and_boundary_and_tasks_get_tags(
    scripts: Scripts, plain: tuple[Ran, dict[str, Any]]
) -> None:
    scripts.account.kept = copy.deepcopy(plain[1])
    settings = {name: value for name, value in RULES.items() if name != "ROLE_PATH"}
    ran = scripts.deploy(**settings)
    assert f"tag version={VERSION}: changed (team=ml, Cost Center=4 2, \u6a21=a=b, empty=)" in ran.output
    assert f"role {ROLES[0]}: changed (boundary, policy)" in ran.output
    assert {name: have for name, have in tagged(scripts.account.kept).items() if have != OURS | TAGS} == {}
    assert right_to_tag(scripts.account.kept) != set()
    assert scripts.deploy(**settings).writes == []

    one = settings | {"TAGS": "team=ai"}
    assert f"tag version={VERSION}: changed (team=ai)" in scripts.deploy(**one).output
    assert {have["team"] for have in tagged(scripts.account.kept).values()} == {"ai"}

    ran = scripts.deploy(TAGS="", ROLE_BOUNDARY_ARN="")
    assert right_to_tag(scripts.account.kept) == set()
    assert "TAG_TASKS" not in scripts.account.kept[f"function {APP}-starter"]["Environment"]["Variables"]
    assert {role["boundary"] for name, role in scripts.account.kept.items() if name.startswith("role ")} == {BOUNDARY}


def test_who_may_not_tag_is_told_so_and_has_the_rest(scripts: Scripts, plain: tuple[Ran, dict[str, Any]]) -> None:
    scripts.account.kept = copy.deepcopy(plain[1])
    scripts.account.refusals = [("TagRole", Refused("AccessDenied", "no iam:TagRole"))]
    ran = scripts.deploy(TAGS="team=ml")
    assert f"tag version={VERSION}: left to you, see the end" in ran.output
    assert "no iam:TagRole" in ran.output


def test_a_security_group_of_somebody_else_gets_no_tags_and_has_no_effect_on_the_rest(
    scripts: Scripts, plain: tuple[Ran, dict[str, Any]]
) -> None:
    scripts.account.kept = copy.deepcopy(plain[1])
    (group,) = [one for name, one in scripts.account.kept.items() if name.startswith("security-group ")]
    group["Tags"] = []
    ran = scripts.deploy(TAGS="team=ml")
    assert "CreateTags" not in sent_to_aws(ran)
    assert f"tag version={VERSION}: changed (team=ml)" in ran.output


def test_another_path_is_refused_before_the_first_write(
    scripts: Scripts, plain: tuple[Ran, dict[str, Any]], ruled: tuple[Ran, dict[str, Any]]
) -> None:
    for kept, path, had in ((plain[1], "/ml/2026/", "/"), (ruled[1], "/", "/ml/2026/")):
        scripts.account.kept = copy.deepcopy(kept)
        ran = scripts.run("deploy_all", status=2, ROLE_PATH=path)
        assert f"- ROLE_PATH={path}: the role {ROLES[0]} is under {had}, and IAM cannot move a role" in ran.errors
        assert f"set ROLE_PATH={had}, or run ./cleanup.sh first" in ran.errors
        assert ran.errors.count("ROLE_PATH=") == 2
        assert sent_to_aws(ran) == []


def test_a_boundary_that_does_not_exist_is_refused_before_the_first_write(scripts: Scripts) -> None:
    scripts.account = PaperAccount()
    none = f"arn:aws:iam::{NUMBER}:policy/none"
    ran = scripts.run("deploy_all", status=2, ROLE_BOUNDARY_ARN=none)
    assert f"- ROLE_BOUNDARY_ARN={none}: An error occurred (NoSuchEntity)" in ran.errors.replace("\n", " ")
    assert sent_to_aws(ran) == []
    scripts.account.refusals = [("GetPolicy", Refused("AccessDenied", "no iam:GetPolicy"))]
    assert len(scripts.deploy(ROLE_BOUNDARY_ARN=none).sent("CreateRole")) == 3


@pytest.mark.parametrize(("path", "waits"), [("/ml/2026/", True), ("/", False)])
def test_a_new_role_under_a_path_is_known_by_its_arn(scripts: Scripts, path: str, waits: bool) -> None:
    """What AWS refuses as long as it does not see a new role is waited for; of another role it is final."""
    scripts.account = PaperAccount()
    words = f"User: u is not authorized to perform: iam:PassRole on resource: arn:aws:iam::1:role{path}{ROLES[2]}"
    scripts.account.refusals = [("RegisterTaskDefinition", Refused("AccessDeniedException", words))]
    steps = ("several", "ensure_exec_role", "ensure_task_definition")
    ran = scripts.step(*steps, status=0 if waits else 1, ROLE_PATH="/ml/2026/")
    assert ("the new role cannot be passed to ECS yet" in ran.errors) == waits
