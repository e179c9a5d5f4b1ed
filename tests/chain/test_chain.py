"""The whole chain on this machine: ./deploy.sh --local in a copy of the project, with a container and without."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from account import copy_checkout, running_cli

FILES = {
    *("small.txt", "empty.dat", "nested/deeper/still/file.json", "with space/größe € +%.txt", "encoded.txt"),
    *("tagged.txt", "double//slash.txt", "trailing/", "overwritten.txt", "changed in place +é.txt", "multipart.bin"),
}
DELETED = "deleted.txt"
OURS = ("home", "tmp")
NO_ENGINE = "unix:///nonexistent/docker.sock"


@pytest.fixture
def project(tmp_path):
    """A copy of the project, with a space in its path, beside an empty HOME and an empty TMPDIR."""
    copy = copy_checkout(tmp_path / "the project")
    for name in OURS:
        (tmp_path / name).mkdir()
    return copy


@pytest.fixture
def bare_path(tmp_path):
    """A PATH with what this machine has in /usr/bin and /bin, but neither jq nor docker."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for program in [*Path("/bin").iterdir(), *Path("/usr/bin").iterdir()]:
        link = directory / program.name
        if program.name not in ("jq", "docker") and not link.is_symlink():
            link.symlink_to(program)
    return str(directory)


@pytest.fixture(scope="module")
def fast_path(tmp_path_factory):
    """A PATH whose aws has no start-up time: that of tests/run, started once. With bare_path it runs as it is."""
    if "AWS_CLI_V2" not in os.environ:
        yield os.environ["PATH"]
        return
    with running_cli(Path(os.environ["AWS_CLI_V2"]), tmp_path_factory.mktemp("cli")) as tools:
        yield f"{tools}:{os.environ['PATH']}"


def environment(project, **settings):
    """The environment for a script of the copy: HOME and TMPDIR are ours to look into."""
    home, temporary = (str(project.parent / name) for name in OURS)
    cache = os.environ.get("PIP_CACHE_DIR", str(Path.home() / ".cache" / "pip"))
    ours = {"HOME": home, "TMPDIR": temporary, "PIP_CACHE_DIR": cache}
    return {**os.environ, **ours, **settings}


def run(project, *command, **settings):
    """Run a script of the copy to its end and return (exit status, output)."""
    done = subprocess.run(
        command,
        cwd=project,
        env=environment(project, **settings),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
    )
    return done.returncode, done.stdout


def rows(output):
    """Return {key: (seen, bytes, metadata)} of the table of objects that --local prints."""
    found = re.findall(r"^\| `(.+?)` +\| .+? \| (yes|no) +\| (\S+) +\| (\S+) +\| ", output, re.MULTILINE)
    return {key: tuple(row) for key, *row in found}


def processes_of(project):
    """Return the command lines of all processes that were started in the copy or name it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if str(project) in command or str(project) in str((process / "cwd").readlink()):
                found.append(command)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it ended meanwhile, or is not ours
    return found


def docker_state():
    """Return the names of all images and containers; empty without an engine."""
    if subprocess.run(["docker", "version"], capture_output=True).returncode:
        return []
    lists = (["image", "ls", "--format", "{{.Repository}}:{{.Tag}}"], ["ps", "--all", "--format", "{{.Names}}"])
    return [subprocess.run(["docker", *a], capture_output=True, text=True, check=True).stdout.split() for a in lists]


@pytest.fixture
def nothing_left(project):
    """After the test: no process, container, image or file that was not there before."""
    before, files = docker_state(), sorted(project.rglob("*"))
    yield
    left = [path for path in project.rglob("*") if path not in files and path.suffix != ".pyc"]
    assert [path for path in left if path.name != "__pycache__"] == []
    assert list((project.parent / "tmp").iterdir()) == []
    assert not any((project.parent / "home" / name).exists() for name in (".docker", ".aws"))
    assert processes_of(project) == []
    assert docker_state() == before


def assert_all_equal(output):
    table = rows(output)
    assert set(table) == {*FILES, DELETED, "*"}, output
    assert all(table[key] == ("yes", "equal", "equal") for key in FILES), output
    assert table[DELETED] == ("yes", "-", "-"), output
    assert re.search(r"^all files equal after \d+ s$", output, re.MULTILINE), output
    seen, _, after = output.partition("What this has shown:\n")[2].partition("\n\n")
    assert re.fullmatch(r"(  - .+\n?){3}", seen), output
    assert "./deploy.sh --local" in after and 'README.md, "Deploy to AWS"' in after, output
    assert not re.search(r'^\s*([{}]|"\w+":)|console\.aws', output, re.MULTILINE), output


@pytest.mark.usefixtures("nothing_left")
def test_the_chain_makes_both_sides_equal_with_the_real_image_in_a_container(project, fast_path):
    if not docker_state():
        assert os.environ.get("CI") != "true", "no Docker engine answers"
        pytest.skip("no Docker engine answers")
    status, output = run(project, "./deploy.sh", "--local", "--once", PATH=fast_path)
    assert status == 0, output
    assert "the real image in a container" in output
    assert_all_equal(output)


@pytest.mark.usefixtures("nothing_left")
def test_the_chain_makes_both_sides_equal_on_a_machine_with_neither_docker_nor_jq(project, bare_path):
    status, output = run(project, "./deploy.sh", "--local", "--once", PATH=bare_path, DOCKER_HOST=NO_ENGINE)
    assert status == 0, output
    assert "the same worker.py as a process" in output
    assert "its rule fires every 5 s, on AWS every minute" in output
    assert_all_equal(output)


def by_hand(project, output, path):
    """Return a function that runs an aws command with the export lines that --local printed."""
    exports = dict(re.findall(r"^  export (\w+)=(.*)$", output, re.MULTILINE))

    def aws(*arguments):
        command = ["aws", "--endpoint-url", exports["AWS_ENDPOINT_URL"], *arguments]
        return subprocess.run(
            command, env={**environment(project, PATH=path), **exports}, capture_output=True, text=True, check=True
        ).stdout

    return aws


def wait_for(condition, seconds=180):
    """Wait until condition() is true, or fail."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(1)


@pytest.mark.usefixtures("nothing_left")
def test_the_cloud_stays_up_and_enforces_iam_until_cleanup(project, fast_path):
    settings = {"DOCKER_HOST": NO_ENGINE, "PATH": fast_path}
    status, output = run(project, "./deploy.sh", "--local", **settings)
    assert status == 0, output
    try:
        assert_all_equal(output)
        assert_the_cloud_survives_what_fails(project, settings)
        status, output = run(project, "./deploy.sh", "--local", MAX_WORKERS="1", **settings)
        assert status == 0, output
        assert re.search(r"\] function \S+: changed \(Environment\)$", output, re.MULTILINE), output
        assert re.search(r"\] queue \S+: exists$", output, re.MULTILINE), output
        assert_all_equal(output)
        take_get_object_from_the_worker(by_hand(project, output, fast_path))
        assert_a_copy_is_denied(by_hand(project, output, fast_path))
    finally:
        status, output = run(project, "./cleanup.sh", "--local", **settings)
    assert status == 0, output


def assert_the_cloud_survives_what_fails(project, settings):
    """--once, which would remove it, is refused; what a check refuses and what Ctrl-C ends leave it as it is."""
    status, output = run(project, "./deploy.sh", "--local", "--once", **settings)
    assert status == 1
    assert "a local cloud is up already" in output and "--once would remove it" in output
    status, output = run(project, "./deploy.sh", "--local", TASK_CPU="7", **settings)
    assert status == 2
    assert "the cloud stays up as it is now" in output, output
    status, output = interrupted(project, **settings)
    assert status == 128 + signal.SIGINT, output
    assert "the cloud stays up as it is now" in output, output
    status, output = run(project, "./sync.sh", "--local", "status", **settings)
    assert status == 0, output


def take_get_object_from_the_worker(aws):
    """Deny the task role what it needs to read the source."""
    policy = '{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"s3:GetObject","Resource":"*"}]}'
    role = "s3-to-s3express-sync-task-role"
    aws("iam", "put-role-policy", "--role-name", role, "--policy-name", "deny", "--policy-document", policy)


def assert_a_copy_is_denied(aws):
    """The worker's log says why; the destination does not get the object."""
    aws("s3api", "put-object", "--bucket", "local-source", "--key", "denied.txt")
    read_log = ["logs", "filter-log-events", "--log-group-name", "/ecs/s3-to-s3express-sync-task"]
    wait_for(lambda: re.search(r"denied\.txt.*(403|AccessDenied|Forbidden)", aws(*read_log)))
    assert "denied.txt" not in aws("s3", "ls", "--recursive", "s3://local-destination--use1-az4--x-s3/")


def interrupted(project, **settings):
    """End a deployment with Ctrl-C when it has made both log groups; return (exit status, output)."""
    process = subprocess.Popen(
        ["./deploy.sh", "--local"],
        cwd=project,
        env=environment(project, **settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
        # Ctrl-C is ignored, and by all that is started, where the tests themselves run in the background.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    seen = ""
    while "[3/" not in seen:  # both log groups are made
        line = process.stdout.readline()
        assert line, seen
        seen += line
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=600)
    return process.returncode, seen + output


@pytest.mark.usefixtures("nothing_left")
def test_an_interrupted_run_shows_the_last_log_lines_and_cleans_up(project, fast_path):
    status, output = interrupted(project, DOCKER_HOST=NO_ENGINE, PATH=fast_path)
    assert status == 128 + signal.SIGINT, output
    assert "last lines of /ecs/s3-to-s3express-sync-task" in output


def test_a_python_that_cannot_make_a_venv_is_named_with_the_package_to_install(project, tmp_path, bare_path):
    python = tmp_path / "python3.13"
    python.write_text('#!/bin/sh\ncase "$*" in *ensurepip*) exit 1 ;; esac\n')
    python.chmod(0o755)
    for name in ("python3.11", "python3.12", "python3.13", "python3.14", "python3"):
        (Path(bare_path) / name).unlink(missing_ok=True)
        (Path(bare_path) / name).symlink_to(python)
    status, output = run(project, "./deploy.sh", "--local", PATH=bare_path, DOCKER_HOST=NO_ENGINE)
    assert status == 2
    assert "apt-get install python3" in output
    assert not (project / ".local").exists()
