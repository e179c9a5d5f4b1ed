"""Accounts with rules: TAGS, ROLE_PATH and ROLE_BOUNDARY_ARN; what is asked of them in general is in asked_for.py."""

from account import APP
from documents import Scripts, scripts_of_module
from oracles import faults
from paper_account import NUMBER, PaperAccount, Refused
from recorder import Call
from test_documents import FULL

from mirror.version import VERSION

BOUNDARY = f"arn:aws:iam::{NUMBER}:policy/rules/workloads"
RULES = {
    "TAGS": " team = ml, Cost Center = 4 2,\u6a21=a=b,empty=",
    "ROLE_PATH": "/ml/2026/",
    "ROLE_BOUNDARY_ARN": BOUNDARY,
}
ROLES = [f"{APP}-{role}-role" for role in ("starter", "task", "exec")]

scripts = scripts_of_module()


def sent_to_aws(calls: list[Call]) -> list[str]:
    """A look at the version of Docker is no call."""
    return [call.operation for call in calls if call.service != "docker"]


def test_everything_is_made_by_the_rules_and_a_clean_up_finds_it_without_them(scripts: Scripts) -> None:
    account = scripts.with_deployment(**FULL | RULES)
    assert list(faults(account, FULL | RULES)) == []
    assert scripts.deploy(**FULL | RULES).writes == []
    ran = scripts.clean_up()
    assert all(f"role {role}: removed" in ran.output for role in ROLES)
    assert [name for name in account.kept if APP in name and not name.startswith("image ")] == []


def test_what_is_there_gets_tags_and_boundary_and_keeps_a_boundary_that_is_not_set_any_more(scripts: Scripts) -> None:
    account = scripts.with_deployment()
    settings = {name: value for name, value in RULES.items() if name != "ROLE_PATH"}
    ran = scripts.deploy(**settings)
    assert f"tag version={VERSION}: changed (team=ml, Cost Center=4 2, \u6a21=a=b, empty=)" in ran.output
    assert f"role {ROLES[0]}: changed (boundary, policy)" in ran.output
    assert list(faults(account, settings)) == []
    settings = {"TAGS": "team=ai", "ROLE_BOUNDARY_ARN": ""}
    assert f"tag version={VERSION}: changed (team=ai)" in scripts.deploy(**settings).output
    assert list(faults(account, settings)) == []
    assert {role["boundary"] for role in account.of_kind("role")} == {BOUNDARY}


def test_who_may_not_tag_is_told_so_and_has_the_rest(scripts: Scripts) -> None:
    """A security group of somebody else is not tagged either."""
    account = scripts.with_deployment()
    account.kept["security-group sg-ours"]["Tags"] = []
    account.refusals = [("TagRole", Refused("AccessDenied", "no iam:TagRole"))]
    ran = scripts.deploy(TAGS="team=ml")
    assert f"tag version={VERSION}: left to you, see the end" in ran.output
    assert "no iam:TagRole" in ran.output
    assert "CreateTags" not in sent_to_aws(ran.writes)


def test_another_path_or_a_boundary_that_does_not_exist_is_refused_before_the_first_write(scripts: Scripts) -> None:
    none = f"arn:aws:iam::{NUMBER}:policy/none"
    for made, asked, said in (
        (
            {},
            {"ROLE_PATH": "/ml/2026/"},
            "is under /, and IAM cannot move a role: set ROLE_PATH=/, or run ./cleanup.sh",
        ),
        (
            FULL | RULES,
            {"ROLE_PATH": "/"},
            "is under /ml/2026/, and IAM cannot move a role: set ROLE_PATH=/ml/2026/, or",
        ),
        ({}, {"ROLE_BOUNDARY_ARN": none}, f"- ROLE_BOUNDARY_ARN={none}: An error occurred (NoSuchEntity)"),
    ):
        scripts.with_deployment(**made)
        ran = scripts.deploy(status=2, **asked)
        assert said in " ".join(ran.errors.split())
        assert sent_to_aws(ran.writes) == []
    scripts.account = PaperAccount()
    scripts.account.refusals = [("GetPolicy", Refused("AccessDenied", "no iam:GetPolicy"))]
    assert len(scripts.deploy(ROLE_BOUNDARY_ARN=none).sent("CreateRole")) == 3


def test_an_error_about_a_role_under_another_path_is_final(scripts: Scripts) -> None:
    """What AWS refuses as long as it does not see a new role is waited for; of another role it is not."""
    scripts.account = PaperAccount()
    words = f"User: u is not authorized to perform: iam:PassRole on resource: arn:aws:iam::1:role/{ROLES[2]}"
    scripts.account.refusals = [("RegisterTaskDefinition", Refused("AccessDeniedException", words))]
    ran = scripts.step("several", f"ensure_role {ROLES[2]}", "ensure_task_definition", status=1, ROLE_PATH="/ml/2026/")
    assert "waiting" not in ran.errors
