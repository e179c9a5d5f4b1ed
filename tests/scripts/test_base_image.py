"""The worker's image: how it is built, and when it is built again (BASE_IMAGE)."""

import re
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from account import APP, PROJECT, REGION, copy_checkout
from asked_for import Compared
from documents import Scripts, scripts_of_module
from paper_account import NUMBER, PaperAccount, Refused

BASE = "python:3.13-slim"
OLD, NEW = (f"sha256:{letters * 32}" for letters in ("bb", "cd"))
DOWN, NO_HOST, HANGS = "no engine", "ERROR: no such host", "hangs"

OURS = f"{NUMBER}.dkr.ecr.{REGION}.amazonaws.com"

scripts = scripts_of_module()


class Answering(PaperAccount):
    """What Docker says of the base: a digest or why there is none, after a while, or nothing without an engine."""

    said = OLD

    def docker(self, words: list[str]) -> str:
        if words[:2] == ["buildx", "imagetools"]:
            time.sleep(1.5 if self.said == HANGS else 0)
            if self.said != NEW:
                raise Refused("docker", self.said)
            return f"{NEW}\n"
        if words[0] == "version" and self.said == DOWN:
            raise Refused("docker", "Cannot connect to the Docker daemon")
        return super().docker(words)


def test_an_image_is_built_for_the_task_with_its_flags_and_base_and_pushed_once(scripts: Scripts) -> None:
    """An attestation would be a manifest more, which a repository's lifecycle policy cannot expire. No deployment keeps
    the flags, so a run without them does not build again."""
    scripts.account, names = PaperAccount(), set()
    scripts.step("ensure_repository")
    for settings, registry, given in (
        ({"DOCKER_BUILD_FLAGS": "--build-arg BASE=other"}, OURS, "--platform linux/arm64 "),
        ({"TASK_ARCH": "X86_64", "ECR_REGISTRY": "localhost:5000"}, "localhost:5000", "--platform linux/amd64 "),
    ):
        ran = scripts.step("ensure_image", **settings)
        build, login, push = [call.parameters["words"] for call in ran.writes]
        assert (build[:2], build[-1], push[:1]) == (["buildx", "build"], str(PROJECT), ["push"])
        flags = "--load --provenance=false --sbom=false "
        own = settings.get("DOCKER_BUILD_FLAGS", "")
        for words in (flags, f"BASE_IMAGE={BASE}@{OLD} ", f"--tag {push[1]} ", given, own):
            assert words in " ".join(build)
        assert ("DOCKER_BUILD_FLAGS is used for this build and not kept" in ran.errors) == bool(own)
        assert login == ["login", "--username", "AWS", "--password-stdin", registry]
        assert re.fullmatch(rf"{registry}/{APP}:[0-9a-f]{{16}}-b{{12}}", push[1])
        names.add(push[1].partition(":")[2])
        assert scripts.step("ensure_image", **settings | {"DOCKER_BUILD_FLAGS": ""}).writes == []
    assert len(names) == 2


@pytest.mark.parametrize(
    ("said", "base", "built"),
    [
        (NEW, "", f"{BASE}@{NEW}"),
        (DOWN, f"mirror.example/python:3.13@{NEW}", f"mirror.example/python:3.13@{NEW}"),
        (NO_HOST, "", ""),
        (HANGS, "", ""),
        (DOWN, "", ""),
    ],
    ids=["renewed", "pinned", "no registry", "no answer", "no engine"],
)
def test_an_image_is_built_only_on_a_base_that_is_known_to_be_another(
    scripts: Scripts, said: str, base: str, built: str
) -> None:
    """Otherwise the newest that was built from the same files stays."""
    kept = scripts.with_deployment().kept
    account = scripts.account = Answering()
    account.kept, account.said = kept, said
    (name,) = [name.removeprefix("image ") for name in account.kept if name.startswith("image ")]
    inputs, day = name.partition("-")[0], timedelta(days=1)
    for tag, age in ((f"{inputs}-111111111111", 2), ("fedcba9876543210-333333333333", 0)):
        account.kept[f"image {tag}"] = {
            "imageTags": [tag],
            "imagePushedAt": (datetime.now(UTC) - age * day).isoformat(),
        }
    account.kept[f"image {name}"] |= {"imagePushedAt": (datetime.now(UTC) - day).isoformat()}
    settings = {"BASE_DIGEST_SECONDS": "1"} | ({"BASE_IMAGE": base} if base else {})
    ran = scripts.step("ensure_image", "ensure_task_definition", **settings)
    builds = [call.parameters["words"] for call in ran.calls if call.operation == "buildx" and call.is_write]
    assert [re.findall("BASE_IMAGE=(\\S+)", " ".join(words)) for words in builds] == [[built]] * bool(built)
    (container,) = Compared(account.kept, APP).newest_task()["containerDefinitions"]
    assert container["image"].rpartition("-")[2] == ("cd" if built else "bb") * 6


def test_without_a_digest_a_first_image_is_built_on_the_name(scripts: Scripts) -> None:
    account = scripts.account = Answering()
    account.said = NO_HOST
    ran = scripts.step("ensure_repository", "ensure_image")
    assert "could not be looked up: " in ran.errors
    (build,) = [call.parameters["words"] for call in ran.calls if call.operation == "buildx" and call.is_write]
    assert f"BASE_IMAGE={BASE}" in build


@pytest.mark.parametrize(("days", "is_said"), [(89, False), (92, True)])
def test_an_old_image_is_said_to_be_old(scripts: Scripts, days: int, is_said: bool) -> None:
    account = scripts.with_deployment()
    for image in account.of_kind("image"):
        image["imagePushedAt"] = (datetime.now(UTC) - timedelta(days=days)).isoformat()
    ran = scripts.step("ensure_image")
    assert (f"is {days} days old: set BASE_IMAGE" in ran.errors) == is_said


@pytest.mark.parametrize("name", [":7", f"@{OLD}", f":7@{OLD}"])
def test_an_image_of_another_account_may_be_pulled_however_it_is_named(scripts: Scripts, name: str) -> None:
    account = scripts.account = PaperAccount()
    image = f"999999999999.dkr.ecr.eu-north-1.amazonaws.com/theirs/worker{name}"
    ran = scripts.step(f"ensure_role {APP}-exec-role", "ensure_task_definition", IMAGE_URI=image)
    assert "arn:aws:ecr:eu-north-1:999999999999:repository/theirs/worker" in re.findall(
        r'"(arn:\S+)"', str(ran.sent("PutRolePolicy"))
    )
    (container,) = Compared(account.kept, APP).newest_task()["containerDefinitions"]
    assert container["image"] == image


def test_the_tag_of_the_image_depends_on_what_stands_in_which_file(tmp_path: Path) -> None:
    """Of each folder of the image one file is changed in turn, then a text moves from one to another, or is renamed."""
    project = copy_checkout(tmp_path / "project")

    def inputs() -> str:
        command = ["bash", "-c", 'source "$1"; start_run; fact image_inputs', "bash", project / "deploy.sh"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    tags = [inputs()]
    folders = {path.parent: path for path in (project / "mirror").rglob("*.py")}
    files = [project / name for name in ("Dockerfile", "requirements.txt", "worker.py")]
    assert len(folders) > 5
    for path in {*folders.values(), *files}:
        path.write_text(path.read_text() + "\n# 1\n")
        tags.append(inputs())
    module = project / "mirror/extra/module.py"
    module.parent.mkdir()
    for worker, text in (("# 1\n# 2\n", ""), ("# 1\n", "# 2\n")):
        (project / "worker.py").write_text(worker)
        module.write_text(text)
        tags.append(inputs())
    module.rename(module.with_name("renamed.py"))
    tags.append(inputs())
    assert len(set(tags)) == len(tags)
    (module.parent / "notes.txt").write_text("is not in the image's inputs")
    assert inputs() == tags[-1]
