"""The release: shown by deploy.sh, in the tags of all that it makes, and held against the checkout by status."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from account import APP
from documents import Scripts, scripts_of_module
from operated import Operated
from paper_account import Refused
from sourced import unfolded

from mirror.version import VERSION

ROOT = Path(__file__).parents[2]

scripts = scripts_of_module("sync.sh")


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


@pytest.mark.parametrize(
    ("version", "row"),
    [
        (VERSION, VERSION),
        ("0.10.0", f"0.10.0 is deployed, older than this checkout ({VERSION}): run ./deploy.sh"),
        ("", f"1.0.0 is deployed, older than this checkout ({VERSION}): run ./deploy.sh"),  # it had no such tag
        ("10.0.0", f"10.0.0 is deployed, newer than this checkout ({VERSION})"),
        ("denied", None),
    ],
)
def test_status_tells_an_older_and_a_newer_deployment(scripts: Scripts, version: str, row: str | None) -> None:
    account = Operated()
    account.kept = scripts.with_deployment().kept
    account.kept[f"function {APP}-starter"]["tags"] = {"app": APP} | ({"version": version} if version else {})
    account.refusals = [("ListTags", Refused("AccessDeniedException"))] * 9 if version == "denied" else []
    scripts.account = account
    found = re.search(r"^version +(.*)$", unfolded(scripts.run("main status", None).output), re.MULTILINE)
    assert (found[1] if found else None) == row
