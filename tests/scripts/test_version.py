"""The release: shown by deploy.sh, in the tags of all that it makes, and held against the checkout by status."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from account import APP, Account
from deployment import one_cli, one_cloud
from recorder import Refusal
from test_sync import status_with

from mirror.version import VERSION

ROOT = Path(__file__).parents[2]
SETTINGS = {"ALARM_EMAIL": "ops@example.com", "CREATE_VPC_ENDPOINTS": "true"}
OLDER = "1.0.0"
OLDER_IS_TOLD = f"is deployed, older than this checkout ({VERSION}): run ./deploy.sh"


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
def test_it_is_told_from_a_folder_that_cdpath_has_another_one_of(tmp_path: Path) -> None:
    (tmp_path / ROOT.name).mkdir()
    command = ["bash", f"{ROOT.name}/deploy.sh", "--version"]
    environment = os.environ | {"CDPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT.parent, env=environment, capture_output=True, text=True)
    assert done.stdout.startswith(f"s3-to-s3express-sync {VERSION}"), done.stderr


@pytest.mark.fast
def test_it_is_told_without_a_commit_if_git_refuses_the_checkout(tmp_path: Path) -> None:
    git = tmp_path / "git"
    git.write_text("#!/bin/sh\necho fatal: detected dubious ownership >&2\nexit 128\n")
    git.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        [ROOT / "deploy.sh", "--version"], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"s3-to-s3express-sync {VERSION}\n"
    assert "dubious ownership" in done.stderr or not (ROOT / ".git").exists()


@one_cloud
@one_cli
def test_without_the_right_to_tag_the_rest_is_done_and_it_is_told(account: Account) -> None:
    account.deployed()
    set_back(account, OLDER)
    account.recorder.refusals = [Refusal("TagRole", 9, "AccessDenied", "no iam:TagRole", 403)]
    output, _ = account.steps("ensure_version_tag")
    assert f"tag version={VERSION}: left to you, see the end" in output
    _, told = output.split("\nNot done, because your credentials do not allow it:\n")
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
