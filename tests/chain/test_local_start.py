"""deploy.sh --local on a machine where something is missing: it reports all of it at once, before it makes anything."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.fast

ROOT = Path(__file__).parents[2]
TOOLS = ("bash", "sh", "env", "sed", "dirname", "sort", "head", "mktemp", "mkdir", "rm", "cat", "grep", "uname")
AWS = 'echo "aws-cli/{version} Python/3.13"'
# Python of a version, with venv or without it; the questions are those of local.sh.
PYTHON = """case "$*" in
  *version_info*) exit {too_old} ;;
  *ensurepip*) exit {without_venv} ;;
  *--version*) echo "Python {version}" ;;
esac"""


def machine(folder: Path, **programs: str) -> dict[str, str]:
    """The environment of a machine that has these programs, as shell scripts, and no other AWS CLI or Python."""
    tools = folder / "tools"
    tools.mkdir()
    for name in TOOLS:
        (tools / name).symlink_to(shutil.which(name) or f"/no such tool: {name}")
    for name, text in programs.items():
        (tools / name).write_text(f"#!/bin/sh\n{text}\n")
        (tools / name).chmod(0o755)
    return {"PATH": str(tools), "HOME": str(folder), "LANG": os.environ.get("LANG", "C.UTF-8")}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """What --local runs on."""
    folder = tmp_path / "project"
    for name in ("launch", "lib", "local", "mirror", "operate"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("deploy.sh", "sync.sh"):
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.mark.parametrize(
    ("programs", "told"),
    [
        ({}, ["the AWS CLI (aws) is not installed", "no usable Python: install Python 3.12 or newer"]),
        ({"python3": PYTHON.format(too_old=1, without_venv=0, version="3.9.2")}, ["Python 3.9.2 is too old"]),
        ({"python3": PYTHON.format(too_old=0, without_venv=1, version="3.13.5")}, ["apt-get install python3-venv"]),
        ({"aws": AWS.format(version="2.9.0")}, ["AWS CLI 2.9.0 does not know directory buckets", "no usable Python"]),
    ],
)
def test_what_is_missing_is_told_before_anything_is_made(
    programs: dict[str, str], told: list[str], project: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        ["bash", "deploy.sh", "--local"], cwd=project, env=machine(tmp_path, **programs), capture_output=True, text=True
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert [line for line in told if line not in done.stderr] == [], done.stderr
    assert not (project / ".local").exists()


def test_of_a_users_shell_nothing_about_aws_reaches_the_local_cloud(project: Path, tmp_path: Path) -> None:
    """A profile, a token or another endpoint would send what is meant for this machine to an account."""
    theirs = {
        "AWS_PROFILE": "production",
        "AWS_SESSION_TOKEN": "token",
        "AWS_ACCESS_KEY_ID": "theirs",
        "AWS_REGION": "eu-north-1",
        "AWS_ENDPOINT_URL_SQS": "https://sqs.eu-north-1.amazonaws.com",
    }
    seen = tmp_path / "seen"
    tools = machine(tmp_path, aws=f"env >{seen}; exit 255")["PATH"]
    up = subprocess.Popen(["sh", "-c", "sleep 300; :", project / "local/cloud.py"], start_new_session=True)
    (project / ".local").mkdir()
    for name, number in ("port", 4567), ("pid", up.pid):
        (project / ".local" / name).write_text(f"{number}\n")
    try:
        environment = os.environ | theirs | {"PATH": f"{tools}:{os.environ['PATH']}"}
        subprocess.run(["bash", "sync.sh", "--local", "status"], cwd=project, env=environment, capture_output=True)
    finally:
        os.killpg(up.pid, signal.SIGKILL)
        up.wait()
    found = dict(line.split("=", 1) for line in seen.read_text().splitlines() if line.startswith("AWS_"))
    assert found["AWS_ENDPOINT_URL"] == "http://127.0.0.1:4567"
    assert (found["AWS_ACCESS_KEY_ID"], found["AWS_REGION"]) == ("test", "us-east-1")
    assert found.keys() & {"AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_SQS"} == set()


def test_without_a_local_cloud_it_is_said_how_to_start_one(project: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", "sync.sh", "--local", "status"],
        cwd=project,
        env=machine(tmp_path) | {"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "sync.sh: no local cloud is up: start it with ./deploy.sh --local\n"


def test_a_run_that_failed_leaves_nothing_although_nobody_reads_what_is_said(project: Path, tmp_path: Path) -> None:
    """Its Python makes no venv, so that there is nothing to start the cloud with."""
    programs = {
        "python3": PYTHON.format(too_old=0, without_venv=0, version="3.13.5"),
        "aws": AWS.format(version="2.30.0"),
    }
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        ["bash", "deploy.sh", "--local"], cwd=project, env=machine(tmp_path, **programs), stderr=writer
    )
    os.close(writer)
    assert done.returncode not in (0, 2)
    assert (project / ".local.log").exists()
    assert not (project / ".local").exists()
