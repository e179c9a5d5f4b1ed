"""The whole chain on this machine: ./deploy.sh --local in a copy of the project, with a container and without."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from account import copy_checkout, running_cli
from local_operator import wait_for
from pages import text_of
from terminal_picture import CUT, SCENES, lines_of, masked, play

FILES = {
    *("small.txt", "empty.dat", "nested/deeper/file.json", "with space/größe € +%.txt", "encoded.txt"),
    *("tagged.txt", "double//slash.txt", "trailing/", "overwritten.txt", "changed in place +é.txt", "multipart.bin"),
}
DELETED = "deleted.txt"
OURS = ("home", "tmp")
NO_ENGINE = "unix:///nonexistent/docker.sock"
MOST_SECONDS = 1800  # of one script on a busy machine
MOST_LINES = 25  # of --local, with --once and without


def copy_project(folder):
    """A copy of the project, with a space in its path, beside an empty HOME and an empty TMPDIR."""
    for name in OURS:
        (folder / name).mkdir()
    return copy_checkout(folder / "the project")


@pytest.fixture
def project(tmp_path):
    return copy_project(tmp_path)


@pytest.fixture(scope="module")
def fast_path(tmp_path_factory):
    """A PATH whose aws has no start-up time: that of tests/run, started once."""
    if "AWS_CLI_V2" not in os.environ:
        yield os.environ["PATH"]
        return
    with running_cli(Path(os.environ["AWS_CLI_V2"]), tmp_path_factory.mktemp("cli")) as tools:
        yield f"{tools}:{os.environ['PATH']}"


def path_without(missing, path, directory):
    """Make the directory a PATH with what there is, but without the missing programs."""
    directory.mkdir()
    for folder in (path.split(":")[0], "/bin", "/usr/bin"):
        for program in Path(folder).iterdir():
            link = directory / program.name
            if program.name not in missing and not link.is_symlink():
                link.symlink_to(program)
    return str(directory)


def environment(project, **settings):
    """The environment for a script of the copy: HOME and TMPDIR are ours to look into."""
    return {**os.environ, **ours(project), **settings}


def ours(project):
    home, temporary = (str(project.parent / name) for name in OURS)
    cache = os.environ.get("PIP_CACHE_DIR", str(Path.home() / ".cache" / "pip"))
    waits = {"FOLLOW_PAUSE": "3", "LOCAL_WAIT_SECONDS": str(MOST_SECONDS)}
    return {**waits, "HOME": home, "TMPDIR": temporary, "PIP_CACHE_DIR": cache}


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
        timeout=MOST_SECONDS,
    )
    return done.returncode, done.stdout


def rows(output):
    """Return {key: (seen, bytes, metadata)} of the table of objects that --local prints."""
    found = re.findall(r"^\| `(.+?)` +\| (yes|no) +\| (\S+) +\| (\S+) +\| ", output, re.MULTILINE)
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


@contextlib.contextmanager
def leaving_nothing(project):
    """At the end there is no process, container, image or file that was not there before, but for the log."""
    before, files = docker_state(), set(project.rglob("*"))
    yield
    left = [path for path in project.rglob("*") if path not in files and path.suffix != ".pyc"]
    assert [path for path in left if path.name not in ("__pycache__", ".local.log")] == []
    assert list((project.parent / "tmp").iterdir()) == []
    assert not any((project.parent / "home" / name).exists() for name in (".docker", ".aws"))
    assert processes_of(project) == []
    assert docker_state() == before


def assert_all_equal(output):
    table = rows(output)
    assert set(table) == {*FILES, DELETED}, output
    assert all(table[key] == ("yes", "equal", "equal") for key in FILES), output
    assert table[DELETED] == ("yes", "-", "-"), output
    assert re.search(r"^all files equal after \d+ s; the details are in .local.log$", output, re.MULTILINE), output
    assert not re.search(r'^\s*([{}]|"\w+":)|console\.aws', output, re.MULTILINE), output


def test_the_chain_makes_both_sides_equal_in_a_container_on_a_machine_without_jq(project, fast_path, tmp_path):
    if not docker_state():
        assert os.environ.get("CI") != "true", "no Docker engine answers"
        pytest.skip("no Docker engine answers")
    with leaving_nothing(project):
        path = path_without(["jq"], fast_path, tmp_path / "bin")
        status, output = run(project, "./deploy.sh", "--local", "--once", PATH=path)
        assert status == 0, output
    assert "the real image in a container" in output
    assert_all_equal(output)
    assert re.search(r"^local: deployed \d+ resources as on AWS: \d\d created, 0 changed", output, re.MULTILINE)
    assert len(output.splitlines()) <= MOST_LINES, output


# --- one cloud that stays up, on a machine without a Docker engine ---------------------------------------------------


@pytest.fixture(scope="module")
def session(tmp_path_factory, fast_path):
    """The transcript of the picture's scenes, and exit status and output of each run that came between the last two."""
    project = copy_project(tmp_path_factory.mktemp("stays up"))
    settings = {**ours(project), "PATH": fast_path}
    transcript = io.StringIO()
    with leaving_nothing(project):
        try:
            for scene in SCENES[:-1]:
                play(scene, project, transcript, **settings)
            local = {"DOCKER_HOST": NO_ENGINE, "PATH": fast_path}
            runs = {
                "once": run(project, "./deploy.sh", "--local", "--once", **local),
                "unchecked": run(project, "./deploy.sh", "--local", TASK_CPU="7", **local),
                "stopped": interrupted(project, **local),
                "status": run(project, "./sync.sh", "--local", "status", **local),
                "again": run(project, "./deploy.sh", "--local", MAX_WORKERS="1", **local),
                "stranger": by_a_stranger(project, fast_path),
            }
        except BaseException:
            run(project, "./cleanup.sh", "--local", PATH=fast_path)
            raise
        play(SCENES[-1], project, transcript, **settings)
    return SimpleNamespace(transcript=transcript.getvalue(), **runs)


def by_a_stranger(project, path):
    """Ask for the buckets with other keys than those that --local wrote down."""
    exports = dict(re.findall(r"^export (\w+)=(.*)$", (project / ".local/env").read_text(), re.MULTILINE))
    others = {"PATH": path, "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "theirs"}
    command = ["aws", "--endpoint-url", exports["AWS_ENDPOINT_URL"], "s3api", "list-buckets"]
    return run(project, *command, **exports | others)


def test_the_chain_makes_both_sides_equal_with_a_worker_as_a_process(session):
    assert "the same worker.py as a process" in session.transcript
    assert_all_equal(session.transcript)
    first = session.transcript.split("\n$ ")[0]
    counts = r"^local: deployed (\d\d) resources as on AWS: \1 created, 0 changed, 0 unchanged$"
    assert re.search(counts, first, re.MULTILINE), first
    assert "explain README.md   # equal, some seconds later" in first
    assert len(first.splitlines()) - 1 <= MOST_LINES, first


def test_a_cloud_that_is_up_outlasts_what_fails(session):
    (once, refusal), (unchecked, problems), (stopped, output) = session.once, session.unchecked, session.stopped
    assert (once, unchecked, stopped) == (1, 2, 128 + signal.SIGINT)
    assert "a local cloud is up already" in refusal and "--once would remove it" in refusal
    for said in (problems, output):
        assert "the cloud stays up as it is now" in said, said
    assert session.status[0] == 0, session.status[1]


def test_a_cloud_that_is_up_is_deployed_to_again(session):
    status, output = session.again
    assert status == 0, output
    assert re.search(r"^  function \S+: changed \(Environment\)$", output, re.MULTILINE), output
    assert re.search(r"^local: deployed \d+ resources as on AWS: 0 created, \d changed", output, re.MULTILINE), output
    assert_all_equal(output)


def test_the_cloud_enforces_iam(session):
    status, output = session.stranger
    assert status and re.search("InvalidAccessKeyId|AccessDenied", output), output


def test_every_line_of_the_picture_is_one_that_the_commands_print(session):
    printed = comparable(session.transcript)
    lines = lines_of(text_of("docs/terminal.svg"))
    shown = [line for line in lines if line not in ("", CUT) and not line.startswith("$ ")]
    assert len(shown) > 20
    assert [line for line in shown if comparable(line) not in printed] == []


def comparable(text):
    """Return it without figures, and without the spaces and the ends of lines that depend on their length."""
    return re.sub(r"\s+", " ", masked(text.rstrip()))


def interrupted(project, **settings):
    """End a deployment with Ctrl-C when it has made both log groups; return (exit status, output)."""
    log = project / ".local.log"
    log.unlink(missing_ok=True)
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
    are_made = lambda: log.exists() and "[3/" in log.read_text()  # noqa: E731
    wait_for(lambda: are_made() or process.poll() is not None, MOST_SECONDS)
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=MOST_SECONDS)
    return process.returncode, output


def test_an_interrupted_run_shows_the_last_log_lines_and_cleans_up(project, fast_path, tmp_path):
    path = path_without(["docker"], fast_path, tmp_path / "bin")
    with leaving_nothing(project):
        status, output = interrupted(project, PATH=path)
    assert status == 128 + signal.SIGINT, output
    assert "the same worker.py as a process" in output
    assert "last lines of /ecs/s3-to-s3express-sync-task" in output
