"""The release: told by deploy.sh, in the tags of all that it makes, and held against the checkout by status."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from account import APP, Account
from deployment import CHANGED, assert_conforming, one_cli, one_cloud
from recorder import Refusal
from test_sync import status_with

from mirror.version import VERSION

ROOT = Path(__file__).parents[2]
SETTINGS = {"ALARM_EMAIL": "ops@example.com", "CREATE_VPC_ENDPOINTS": "true"}
OLDER = "1.0.0"
OLDER_IS_TOLD = f"is deployed, older than this checkout ({VERSION}): run ./deploy.sh"


def tags_of(account: Account) -> dict[str, Any]:
    """Resource -> its tags, of each that deploy.sh made and that takes tags."""
    found: dict[str, Any] = {}
    logs, sqs, iam, ecs = (account.client(name) for name in ("logs", "sqs", "iam", "ecs"))
    for group in logs.describe_log_groups()["logGroups"]:
        found[group["logGroupName"]] = logs.list_tags_log_group(logGroupName=group["logGroupName"])["tags"]
    for url in sqs.list_queues().get("QueueUrls", []):
        found[url] = sqs.list_queue_tags(QueueUrl=url).get("Tags", {})
    for role in iam.list_roles()["Roles"]:
        found[role["Arn"]] = iam.list_role_tags(RoleName=role["RoleName"])["Tags"]
    for arn in (*ecs.list_clusters()["clusterArns"], ecs.list_task_definitions(sort="DESC")["taskDefinitionArns"][0]):
        found[arn] = ecs.list_tags_for_resource(resourceArn=arn).get("tags", [])
    for repository in account.client("ecr").describe_repositories()["repositories"]:
        arn = repository["repositoryArn"]
        found[arn] = account.client("ecr").list_tags_for_resource(resourceArn=arn)["tags"]
    for rule in account.client("events").list_rules()["Rules"]:
        found[rule["Arn"]] = account.client("events").list_tags_for_resource(ResourceARN=rule["Arn"])["Tags"]
    for function in account.client("lambda").list_functions()["Functions"]:
        found[function["FunctionName"]] = account.client("lambda").list_tags(Resource=function["FunctionArn"])["Tags"]
    security_groups, endpoints = account.network()
    found |= {group["GroupName"]: group.get("Tags", []) for group in security_groups}
    found |= {endpoint["ServiceName"]: endpoint.get("Tags", []) for endpoint in endpoints}
    found |= {name: tags for name, (_, tags) in account.alarms().items()}
    found |= {arn: tags for arn, (tags, _) in account.topics().items()}
    as_dicts = {name: tags if isinstance(tags, dict) else pairs(tags) for name, tags in found.items()}
    return {name: tags for name, tags in as_dicts.items() if tags.get("app") == APP}


def pairs(tags: list[dict[str, str]]) -> dict[str, str]:
    return {(tag.get("Key") or tag["key"]): (tag.get("Value") or tag["value"]) for tag in tags}


def versions_of(account: Account) -> set[str | None]:
    found = tags_of(account)
    assert len(found) >= 17, found
    return {tags.get("version") for tags in found.values()}


def set_back(account: Account, version: str) -> None:
    """As if another release had deployed the function, of which the version is read."""
    client = account.client("lambda")
    arn = client.get_function_configuration(FunctionName=f"{APP}-starter")["FunctionArn"]
    client.tag_resource(Resource=arn, Tags={"version": version})


@one_cloud
@one_cli
def test_the_version_is_told(account: Account) -> None:
    output, _ = account.run("deploy.sh", "--version")
    assert re.fullmatch(rf"s3-to-s3express-sync {re.escape(VERSION)}(, commit [0-9a-f]+)?\n", output)
    assert account.recorder.calls == []


@pytest.mark.fast
def test_the_newest_release_in_the_changelog_is_this_one() -> None:
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert re.fullmatch(rf"{re.escape(VERSION)} - \d{{4}}-\d\d-\d\d", headings[0])


@one_cli
@one_cloud
def test_all_that_is_made_has_the_version_and_a_new_release_changes_it(account: Account) -> None:
    account.deployed(**SETTINGS)
    assert versions_of(account) == {VERSION}
    set_back(account, "0.9.0")

    output, _ = account.steps("ensure_version_tag", DRY_RUN="true", **SETTINGS)
    assert f"tag version={VERSION}: would change (was 0.9.0)" in output
    assert account.recorder.writes == []

    output, _ = account.steps("ensure_version_tag", **SETTINGS)
    assert CHANGED.findall(output) == [(f"tag version={VERSION}", "was 0.9.0")]
    assert {call.operation for call in account.recorder.writes} <= {
        "TagLogGroup", "TagQueue", "TagRole", "TagResource", "CreateTags"
    }  # fmt: skip
    assert_conforming(account)
    assert versions_of(account) == {VERSION}
    account.steps("ensure_version_tag", **SETTINGS)
    assert account.recorder.writes == []


@one_cloud
@one_cli
def test_without_the_right_to_tag_the_rest_is_done_and_it_is_told(account: Account) -> None:
    account.deployed()
    set_back(account, OLDER)
    account.recorder.refusals = [Refusal("TagRole", 9, "AccessDenied", "no iam:TagRole", 403)]
    output, _ = account.steps("ensure_version_tag")
    assert f"tag version={VERSION}: left to you, see the end" in output
    _, told = output.split("\nLeft, as your credentials may not do it:\n")
    assert "no iam:TagRole" in told


@pytest.mark.fast
@pytest.mark.parametrize(
    ("answer", "row"),
    [
        (f'{{"Tags": {{"version": "{VERSION}"}}}}', VERSION),
        (
            '{"Tags": {"version": "0.10.0"}}',
            f"0.10.0 is deployed, older than this checkout ({VERSION}): run ./deploy.sh",
        ),
        ('{"Tags": {"app": "x"}}', f"1.0.0 {OLDER_IS_TOLD}"),
        ("{}", f"1.0.0 {OLDER_IS_TOLD}"),  # it had no such tag
        ('{"Tags": {"version": "10.0.0"}}', f"10.0.0 is deployed, newer than this checkout ({VERSION})"),
        ("denied", None),
    ],
)
def test_status_tells_an_older_and_a_newer_deployment(answer: str, row: str | None) -> None:
    script = f"""source '{ROOT}/sync.sh'; set_names; set_account 123456789012
        aws_or_error() {{ printf '%s' "$ANSWER"; [[ $ANSWER != denied ]]; }}
        describe_version"""
    done = subprocess.run(
        ["bash", "-c", script], env={**os.environ, "ANSWER": answer}, capture_output=True, text=True, check=True
    )
    _, output = status_with([], {"version": json.loads(done.stdout)})
    found = re.search(r"^version +(.*)$", output, re.MULTILINE)
    assert (found[1] if found else None) == row
