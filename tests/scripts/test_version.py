"""The release: shown by deploy.sh, in the tags of all that it makes, and held against the checkout by status."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from test_sync import status_with

from mirror.version import VERSION

ROOT = Path(__file__).parents[2]
OLDER_IS_TOLD = f"is deployed, older than this checkout ({VERSION}): run ./deploy.sh"


@pytest.mark.fast
def test_it_is_told_from_a_folder_that_cdpath_has_another_one_of(tmp_path: Path) -> None:
    (tmp_path / ROOT.name).mkdir()
    command = ["bash", f"{ROOT.name}/deploy.sh", "--version"]
    environment = os.environ | {"CDPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT.parent, env=environment, capture_output=True, text=True)
    said = rf"s3-to-s3express-sync {re.escape(VERSION)}(, commit [0-9a-f]+)?\n"
    assert re.fullmatch(said, done.stdout), done.stderr


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
