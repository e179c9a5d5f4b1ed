"""The worker's image: built for both architectures by a real Docker engine, and run for that of this machine.

It needs an engine and the base image: tests/run starts the one and makes or pulls the other.
"""

import gzip
import json
import re
import subprocess
import tarfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import pytest
from world import World, wait_until

PROJECT = Path(__file__).parents[2]
NAME = "s3-to-s3express-sync-test"
MOST_ADDED_BYTES = 60_000_000
ELF_MACHINES = {62: "amd64", 183: "arm64"}  # e_machine in elf.h
SAFE = ["--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--network=host"]


@dataclass
class Image:
    """What one built image says and holds. Paths have no slash at the start; sizes are compressed bytes."""

    tag: str
    architecture: str
    user: str
    layer_sizes: list[int] = field(default_factory=list)
    paths: set[str] = field(default_factory=set)
    programs: dict[str, str] = field(default_factory=dict)


def docker(*arguments: str) -> str:
    """The standard output of a docker command; pytest shows the rest where it fails."""
    done = subprocess.run(["docker", *arguments], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()


def build(architecture: str) -> str:
    tag = f"{NAME}:{architecture}"
    options = "--quiet", "--network=host", "--provenance=false", f"--platform=linux/{architecture}", f"--tag={tag}"
    docker("build", *options, str(PROJECT))
    return tag


def read_image(tag: str, archive: Path) -> Image:
    docker("save", "--output", str(archive), tag)
    with tarfile.open(archive) as saved:
        manifest = json.load(member(saved, "manifest.json"))[0]
        config = json.load(member(saved, manifest["Config"]))
        image = Image(tag, config["architecture"], config["config"]["User"])
        for layer in manifest["Layers"]:
            data = member(saved, layer).read()
            image.layer_sizes.append(len(data if data[:2] == b"\x1f\x8b" else gzip.compress(data)))
            read_layer(image, member(saved, layer))
    archive.unlink()
    return image


def member(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    found = archive.extractfile(name)
    assert found is not None, name
    return found


def read_layer(image: Image, layer: IO[bytes]) -> None:
    with tarfile.open(fileobj=layer, mode="r:*") as files:
        for entry in files:
            image.paths.add(entry.name.removeprefix("./"))
            content = files.extractfile(entry) if entry.isfile() else None
            head = content.read(20) if content else b""
            if head.startswith(b"\x7fELF"):
                machine = int.from_bytes(head[18:20], "little")
                image.programs[entry.name.removeprefix("./")] = ELF_MACHINES.get(machine, f"machine {machine}")


@pytest.fixture(scope="module")
def tags() -> Iterator[dict[str, str]]:
    """Architecture -> the tag of the image that was built for it."""
    built = {architecture: build(architecture) for architecture in ELF_MACHINES.values()}
    yield built
    docker("image", "rm", "--force", *built.values())


@pytest.fixture(scope="module", params=ELF_MACHINES.values())
def image(request: pytest.FixtureRequest, tags: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Image:
    return read_image(tags[request.param], tmp_path_factory.mktemp("image") / "saved.tar")


@pytest.fixture(scope="module")
def runnable(tags: dict[str, str]) -> str:
    """The tag of the image for this machine's architecture."""
    return tags[docker("version", "--format", "{{.Server.Arch}}")]


@pytest.fixture
def container() -> Iterator[str]:
    """A name for a container, which is removed afterwards."""
    name = f"{NAME}-{uuid.uuid4().hex[:8]}"
    yield name
    docker("rm", "--force", name)


def test_an_image_holds_what_the_worker_needs_for_its_own_architecture_and_runs_it_without_root(image: Image) -> None:
    architecture = image.tag.partition(":")[2]
    assert (image.user, image.architecture) == ("10001:10001", architecture)
    assert {path: machine for path, machine in image.programs.items() if machine != architecture} == {}
    assert any(path.startswith("app/") and "_awscrt" in path for path in image.programs)

    lines = (PROJECT / "requirements.txt").read_text().splitlines()
    pins = [line.split()[0] for line in lines if not line.startswith("#")]
    pinned = {re.sub(r"\[.*\]", "", pin).replace("-", "_") for pin in pins}
    infos = {path.split("/")[1] for path in image.paths if re.match(r"app/[^/]+\.dist-info/", path)}
    assert {info.removesuffix(".dist-info").replace("-", "==") for info in infos} == pinned
    services = {path.split("/")[3] for path in image.paths if re.match(r"app/botocore/data/[^/]+/", path)}
    assert services == {"s3", "sqs", "sts", "events"}


def test_an_image_adds_at_most_60_mb_to_its_base(image: Image) -> None:
    base = re.findall(r"^ARG BASE_IMAGE=(.+)$", (PROJECT / "Dockerfile").read_text(), re.MULTILINE)[0]
    layers_of_base = int(docker("image", "inspect", "--format", "{{len .RootFS.Layers}}", base))
    assert 0 < sum(image.layer_sizes[layers_of_base:]) <= MOST_ADDED_BYTES


def test_a_container_with_a_read_only_root_copies_and_ends_with_status_0_on_sigterm_as_its_first_process(
    runnable: str, container: str, world: World
) -> None:
    world.put("in a container.txt")
    settings = world.environment(EMPTY_POLLS_BEFORE_EXIT="1000")
    options = [f"--env={name}={value}" for name, value in settings.items() if name not in ("PATH", "PYTHONPATH")]
    docker("run", "--detach", f"--name={container}", *SAFE, *options, runnable)
    wait_until(lambda: world.is_equal() and world.is_empty())
    assert docker("top", container, "-o", "pid,args").count("worker.py") == 1
    docker("stop", "--time=60", container)
    assert docker("inspect", "--format", "{{.State.ExitCode}}", container) == "0", docker("logs", container)
