"""BASE_IMAGE: the worker's image is built again when its base has a new digest, and stays if nobody can say so."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from account import copy_project
from test_settings import bash

DIGEST = f"sha256:{'ab' * 32}"
INPUTS = "0123456789abcdef"
IMAGES = {
    "imageDetails": [
        {"imageTags": [f"{INPUTS}-111111111111"], "imagePushedAt": "2026-09-01T00:00:00+00:00"},
        {"imageTags": [f"{INPUTS}-222222222222"], "imagePushedAt": "2026-10-01T00:00:00+00:00"},
        {"imageTags": ["fedcba9876543210-333333333333"], "imagePushedAt": "2026-11-01T00:00:00+00:00"},
        {"imagePushedAt": "2026-11-02T00:00:00+00:00"},
    ]
}
# The answers of Docker and of ECR.
ANSWERS = """
[[ $FOUND != hangs ]] || BASE_DIGEST_SECONDS=1
docker() {
  [[ $FOUND != hangs ]] || sleep 5
  if [[ $1 == version ]]; then [[ $ENGINE == up ]] && echo 26.1.5; else echo "$FOUND"; [[ $FOUND == sha256:* ]]; fi
}
aws_or_nothing() { printf '%s' "$IMAGES"; }
ask_image_inputs() { echo 0123456789abcdef; }
"""


@pytest.mark.parametrize(
    ("settings", "tag"),
    [
        ({"ENGINE": "up", "FOUND": DIGEST}, f"{INPUTS}-abababababab"),
        ({"ENGINE": "up", "FOUND": f"sha256:{'cd' * 32}"}, f"{INPUTS}-cdcdcdcdcdcd"),
        ({"ENGINE": "up", "FOUND": "ERROR: no such host"}, f"{INPUTS}-222222222222"),
        ({"ENGINE": "up", "FOUND": "hangs"}, f"{INPUTS}-222222222222"),
        ({"ENGINE": "down", "FOUND": DIGEST}, f"{INPUTS}-222222222222"),
        ({"ENGINE": "down", "FOUND": DIGEST, "IMAGES": ""}, INPUTS),
        ({"ENGINE": "down", "FOUND": "", "BASE_IMAGE": f"python:3.13-slim@{DIGEST}"}, f"{INPUTS}-abababababab"),
    ],
    ids=["looked up", "renewed", "no registry", "no answer", "no engine", "no engine and no image", "pinned"],
)
def test_the_tag_of_the_image_has_the_digest_of_its_base(settings: dict[str, str], tag: str) -> None:
    given = {"IMAGES": json.dumps(IMAGES), **settings}
    assert bash(f"{ANSWERS}fact image_tag", **given) == f"{tag}\n"


@pytest.mark.parametrize(
    ("settings", "base"),
    [
        ({"FOUND": DIGEST}, f"python:3.13-slim@{DIGEST}"),
        ({"FOUND": "ERROR: no such host"}, "python:3.13-slim"),
        ({"FOUND": "", "BASE_IMAGE": f"mirror.example/python:3.13@{DIGEST}"}, f"mirror.example/python:3.13@{DIGEST}"),
    ],
)
def test_the_image_is_built_on_what_was_looked_up(settings: dict[str, str], base: str) -> None:
    script = f"""{ANSWERS}
    docker_of_answers=$(declare -f docker); eval "asked_${{docker_of_answers}}"
    docker() {{ if [[ $2 == build ]]; then echo "$*"; else asked_docker "$@"; fi; }}
    build_image there 2>&1"""
    built = bash(script, ENGINE="up", **settings)
    found = re.search(r"--build-arg BASE_IMAGE=(\S+) ", built)
    assert found, built
    assert found[1] == base
    assert ("could not be looked up: ERROR: no such host" in built) == (settings["FOUND"].startswith("ERROR"))


@pytest.mark.parametrize(("days", "is_said"), [(89, False), (92, True)])
def test_an_old_image_is_said_to_be_old(days: int, is_said: bool) -> None:
    said = bash(f'tell_of_old_image "{DIGEST} $(($(now) - {days} * 86400))" 2>&1; tell_of_old_image "" 2>&1')
    assert (f"is {days} days old: set BASE_IMAGE" in said) == is_said


def test_the_tag_of_the_image_depends_on_what_stands_in_which_file(tmp_path: Path) -> None:
    project = copy_project(tmp_path)
    module, tags = project / "mirror/extra/module.py", []
    module.parent.mkdir()
    for worker, text in (("# 1\n", ""), ("# 1\n# 2\n", ""), ("# 1\n", "# 2\n")):
        (project / "worker.py").write_text(worker)
        module.write_text(text)
        tags.append(bash("fact image_inputs", project / "deploy.sh"))
    module.rename(module.with_name("renamed.py"))
    tags.append(bash("fact image_inputs", project / "deploy.sh"))
    assert len(set(tags)) == len(tags)
    (module.parent / "notes.txt").write_text("is not in the image's inputs")
    assert bash("fact image_inputs", project / "deploy.sh") == tags[-1]
