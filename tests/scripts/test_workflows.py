"""The workflows of .github: each step that runs commands is run here, in the order and with the rules of a runner."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from account import PROJECT, REGION, copy_checkout, empty_cloud
from local_operator import LOCAL_SETTINGS
from ruamel.yaml import YAML
from test_settings import problems

WORKFLOWS = PROJECT / ".github/workflows"
VALUES = {
    "vars.AWS_REGION": REGION,
    "inputs.zone": "use1-az4",
    "inputs.run || github.run_id": "1234",
    "github.token": "a-token",
    "needs.look.outputs.release": "9.8.7",
    "needs.look.outputs.commit": "c" * 40,
}
MEASURED = {
    *("small objects copied", "by one worker", "small objects deleted", "CPU time of a worker", "S3 was too busy"),
    *("large object", "its parts", "page of the source", "page of the destination"),
    *("network attached", "pull of the image began", "first message received", "first copy"),
}


def workflow(name: str) -> Any:
    return YAML(typ="safe").load(WORKFLOWS / name)


def variables(part: Any) -> dict[str, str]:
    """The variables of a workflow, a job or a step."""
    return {name: filled(value) for name, value in part.get("env", {}).items()}


def filled(text: object) -> str:
    """The text with the values of its expressions, as a runner fills them in."""
    return re.sub(r"\$\{\{ (.+?) \}\}", lambda found: VALUES[found[1]], str(text))


class Runner:
    """Runs the steps of a job that run commands; the others use actions, which only GitHub has."""

    def __init__(self, project: Path, environment: dict[str, str], file: str = "verify.yml") -> None:
        self.project, self.environment, self.file = project, environment, file
        self.failed = False
        self.ran: list[str] = []
        self.output = ""

    def run(self, job: str, break_at: str = "") -> None:
        whole = workflow(self.file)
        environment = self.environment | variables(whole) | variables(whole["jobs"][job])
        self.failed = False
        for step in whole["jobs"][job]["steps"]:
            condition = step.get("if", "success()")
            if "run" not in step or condition == ("success()" if self.failed else "failure()"):
                continue
            script = "exit 1" if step["name"] == break_at else filled(step["run"])
            done = subprocess.run(
                ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
                cwd=self.project,
                env=environment | variables(step),
                capture_output=True,
                text=True,
                stdin=subprocess.DEVNULL,
                timeout=900,
            )
            self.ran.append(step["name"])
            self.output += f"--- {step['name']}: {done.returncode}\n{done.stdout}{done.stderr}"
            self.failed |= done.returncode != 0


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Runner]:
    """In a local cloud in which nothing is yet."""
    summary = {"GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md")}
    with empty_cloud(tmp_path) as environment:
        project = copy_checkout(tmp_path / "project")
        yield Runner(project, environment | LOCAL_SETTINGS | summary)


def test_verify_deploys_reports_and_leaves_nothing(runner: Runner) -> None:
    """Also if its first step fails. A directory bucket with an upload cannot be deleted."""
    runner.run("verify", break_at="Make the buckets")
    assert runner.failed
    assert runner.ran[-2:] == ["Show the state of the deployment", "Add the report to the summary"]
    runner.run("verify")
    assert not runner.failed, runner.output
    summary = Path(runner.environment["GITHUB_STEP_SUMMARY"]).read_text()
    assert "# sync.sh verify: all is well\n" in summary
    figures = dict(re.findall(r"^\| ([^|]+?) +\| +(\d[^|]*?|at most \d+ s|ran already) +\| ", summary, re.MULTILINE))
    assert figures.keys() >= MEASURED, summary
    assert not re.search(r"(?<!\d)\d{12}(?!\d)", summary)  # no account's id
    environment = runner.environment | variables(workflow("verify.yml"))
    for bucket in ("SRC_BUCKET", "DST_BUCKET"):
        begin = f'aws s3api create-multipart-upload --bucket "${bucket}" --key "a b/large.bin"'
        subprocess.run(["bash", "-c", begin], env=environment, check=True, capture_output=True)
    runner.run("clean-up")
    assert not runner.failed, runner.output
    runner.output = ""
    runner.run("clean-up")
    assert (runner.failed, runner.output.count("nothing of ")) == (False, 1), runner.output
    listed = subprocess.run(["aws", "s3api", "list-buckets"], env=environment, check=True, capture_output=True)
    assert json.loads(listed.stdout)["Buckets"] == []


def test_the_clean_up_of_verify_runs_after_a_cancel_and_by_itself_and_no_step_needs_a_stored_key() -> None:
    jobs = workflow("verify.yml")["jobs"]
    assert (jobs["verify"]["if"], jobs["clean-up"]["if"]) == ("inputs.run == ''", "always()")
    assert jobs["clean-up"]["needs"] == "verify"
    for job in jobs.values():
        (login,) = (step["with"] for step in job["steps"] if "credentials@" in step.get("uses", ""))
        assert job["timeout-minutes"] * 60 < login["role-duration-seconds"]
        assert job["permissions"] == {"contents": "read", "id-token": "write"}
    assert "secrets." not in (WORKFLOWS / "verify.yml").read_text()


# --- a release ------------------------------------------------------------------------------------------------------

# docker and gh: they write down what they were asked to do. RELEASES, TAGS: those of the repository. FAILS: what fails.
TOOL = """#!/bin/sh
echo "${0##*/} $*" >>"$CALLS"
case "$*" in
  $FAILS) exit 1 ;;
  *matching-refs*) echo "$TAGS" ;;
  *repos/Their-Name/fork/releases*) echo "$RELEASES" ;;
esac
"""
CHANGES = """# Changelog

## 9.8.7 - 2026-12-01

- It [waits](docs/operations.md#wait), as on [AWS](https://example.com/).

## 9.8.6 - 2026-11-30

- It began.
"""
NOTES = """
- It [waits](https://github.example/Their-Name/fork/blob/v9.8.7/docs/operations.md#wait), as on [AWS](https://example.com/).

"""


@pytest.fixture
def releaser(tmp_path: Path) -> Runner:
    project = copy_checkout(tmp_path / "project")
    (project / "mirror/version.py").write_text('VERSION = "9.8.7"\n')
    (project / "CHANGELOG.md").write_text(CHANGES)
    for name in ("docker", "gh"):
        (tmp_path / name).write_text(TOOL)
        (tmp_path / name).chmod(0o755)
    of_runner = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "GITHUB_SERVER_URL": "https://github.example",
        "GITHUB_REPOSITORY": "Their-Name/fork",
        "GITHUB_REPOSITORY_OWNER": "Their-Name",
        "GITHUB_ACTOR": "somebody",
        "GITHUB_OUTPUT": str(tmp_path / "output"),
        "CALLS": str(tmp_path / "calls"),
        "RELEASES": "",
        "TAGS": "",
        "FAILS": "",
    }
    return Runner(project, of_runner, "release.yml")


def calls(runner: Runner) -> list[str]:
    return Path(runner.environment["CALLS"]).read_text().splitlines()


def git(project: Path, *words: str) -> str:
    own = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.com", "-c", "commit.gpgsign=false")
    return subprocess.check_output(["git", "-C", project, *own, *words], text=True).strip()


def history(project: Path, versions: str) -> list[str]:
    """A commit for each version; each changes another file as well."""
    git(project, "init", "-q", "-b", "main")
    for number, version in enumerate(versions.split()):
        (project / "mirror/version.py").write_text(f'VERSION = "{version}"\n')
        (project / "number").write_text(f"{number}\n")
        git(project, "add", "number", "mirror/version.py")
        git(project, "commit", "-q", "-m", version)
    return git(project, "rev-list", "--reverse", "HEAD").split()


@pytest.mark.fast
@pytest.mark.parametrize(
    ("versions", "tags", "releases", "release", "number"),
    [
        ("9.8.7", "", "", "9.8.7", 0),
        ("9.8.6 9.8.7-dev 9.8.7", "v9.8.6=0", "v9.8.6", "9.8.7", 2),
        # What follows a release does not keep it from being published, and what preceded it is not published any more.
        ("9.8.6 9.8.7-dev 9.8.7 9.8.7 9.9.0-dev 9.9.0-dev", "", "", "9.8.7", 3),
        ("9.8.7 9.8.8", "v9.8.7-old=0", "v9.8.7-old", "9.8.8", 1),
        # Only the release was not made, or somebody has pushed the tag.
        ("9.8.7 9.8.7 9.9.0-dev", "v9.8.7=0", "", "9.8.7", 0),
        ("9.8.7 9.9.0-dev", "v9.8.7=0", "v9.8.7", "v9.8.7 has been released", None),
        ("9.8.9 9.8.7", "v9.8.10=0", "v9.8.10", "the tag v9.8.10 is above v9.8.7", None),
        ("9.8.6-dev 9.8.7-dev", "", "", "main has no release", None),
    ],
)
def test_the_newest_release_of_main_is_published_at_its_own_commit(
    releaser: Runner, versions: str, tags: str, releases: str, release: str, number: int | None
) -> None:
    commits = history(releaser.project, versions)
    for tag in tags.split():
        name, _, at = tag.partition("=")
        git(releaser.project, "tag", name, commits[int(at)])
    releaser.environment["RELEASES"] = releases
    found = Path(releaser.environment["GITHUB_OUTPUT"])
    found.touch()

    releaser.run("look")

    assert not releaser.failed, releaser.output
    if number is None:
        assert (release in releaser.output, found.read_text()) == (True, ""), releaser.output
    else:
        assert found.read_text() == f"release={release}\ncommit={commits[number]}\n"


@pytest.mark.fast
def test_the_tests_and_the_image_are_those_of_the_commit_of_the_release() -> None:
    """And the tests have the whole history, because they deploy older releases."""
    commit = "${{ needs.look.outputs.commit }}"
    jobs = workflow("release.yml")["jobs"]
    (checkout,) = (step["with"] for step in jobs["publish"]["steps"] if "checkout@" in step.get("uses", ""))
    assert (jobs["tests"]["with"], checkout["ref"]) == ({"commit": commit}, commit)
    (checkout,) = (step for step in workflow("ci.yml")["jobs"]["tests"]["steps"] if "uses" in step)
    assert (checkout["with"]["ref"], checkout["with"]["fetch-depth"]) == ("${{ inputs.commit }}", 0)


@pytest.mark.fast
def test_a_release_is_an_image_that_runs_then_a_tag_with_its_changes(releaser: Runner, tmp_path: Path) -> None:
    releaser.run("publish")
    assert not releaser.failed, releaser.output
    build, started, tag, release = (
        next(call for call in calls(releaser) if call.startswith(words))
        for words in ("docker buildx build ", "docker run ", "gh api --silent ", "gh release create v9.8.7 ")
    )
    image = "ghcr.io/their-name/s3-to-s3express-sync:9.8.7"
    for words in ("--platform linux/arm64,linux/amd64 ", "--provenance=mode=max ", f"--tag {image} --push ."):
        assert words in build
    assert re.search(r"--sbom=generator=\S+@sha256:[0-9a-f]{64} ", build)
    assert f" {image} " in started
    assert tag.endswith(f"/git/refs -f ref=refs/tags/v9.8.7 -f sha={'c' * 40}")
    assert " --verify-tag " in release
    assert " --target " not in release  # GITHUB_TOKEN may not do that
    assert (releaser.project / "notes.md").read_text() == NOTES
    assert calls(releaser)[-2:] == [tag, release]
    (problem,) = problems(tmp_path, IMAGE_URI=image)
    assert "is the image of 9.8.7, but this checkout is" in problem


@pytest.mark.fast
@pytest.mark.parametrize(
    ("fails", "is_published"),
    [("login*", False), ("buildx?build*", False), ("run*", False), ("buildx?imagetools*", True)],
)
def test_without_its_image_there_is_no_tag_and_one_that_needs_credentials_is_said(
    releaser: Runner, fails: str, is_published: bool
) -> None:
    releaser.environment["FAILS"] = fails
    releaser.run("publish")
    assert releaser.failed != is_published
    assert any(call.startswith("gh ") for call in calls(releaser)) == is_published
    assert ("::warning::Fargate cannot load ghcr.io/their-name/" in releaser.output) == is_published


@pytest.mark.fast
def test_a_tag_that_github_refuses_is_pushed_by_hand_and_taken_then(releaser: Runner) -> None:
    releaser.environment["FAILS"] = "*sha=*"
    releaser.run("publish")
    assert releaser.failed
    assert f"git push origin {'c' * 40}:refs/tags/v9.8.7, and run Release again" in releaser.output
    assert not any(call.startswith("gh release ") for call in calls(releaser))
    releaser.environment["TAGS"] = "refs/tags/v9.8.7"
    releaser.run("publish")
    assert not releaser.failed, releaser.output


@pytest.mark.fast
def test_a_fork_publishes_nothing_before_it_says_so_and_nothing_that_failed_a_test() -> None:
    jobs = workflow("release.yml")["jobs"]
    assert jobs["look"]["if"] == "vars.PUBLISH_RELEASES == 'true' && github.ref == 'refs/heads/main'"
    assert jobs["tests"]["needs"] == "look"
    assert jobs["tests"]["uses"].endswith("/ci.yml")
    assert (jobs["publish"]["needs"], jobs["publish"].get("if")) == (["look", "tests"], None)
    assert [name for name, job in jobs.items() if "write" in job["permissions"].values()] == ["publish"]
