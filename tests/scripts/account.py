"""What the tests of the scripts start: the local cloud, an AWS CLI that is fast, a copy of the project; and names."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fast_aws import CLIENT

HERE = Path(__file__).parent
PROJECT = HERE.parents[1]
LOCAL = PROJECT / "local"
REGION = "us-east-1"
SOURCE = "their-source"
MIRROR = "mirror--use1-az4--x-s3"
APP = "s3-to-s3express-sync"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
DIRECTORY = {
    "Location": {"Type": "AvailabilityZone", "Name": "use1-az4"},
    "Bucket": {"DataRedundancy": "SingleAvailabilityZone", "Type": "Directory"},
}


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def python_with(package: str, requirements: Path) -> str:
    """An interpreter that has the package, in a venv of its own, as stand-ins pin their botocore."""
    venv = PROJECT / ".venv" / package
    installed = venv / "installed.txt"
    if not installed.exists() or installed.read_text() != requirements.read_text():
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run([venv / "bin/python", "-m", "pip", "install", "--quiet", "-r", requirements], check=True)
        installed.write_text(requirements.read_text())
    return str(venv / "bin/python")


@contextlib.contextmanager
def running(command: list[str], log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process group of its own. In the end it may end what it started elsewhere, then everything in it is killed."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env=os.environ | environment, start_new_session=True
        )
    try:
        yield process
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(120)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(condition: Any, process: subprocess.Popen[bytes], log: Path, seconds: float = 300) -> None:
    """Wait until the condition holds; fail with the log when the process ends or the time is over."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None and time.monotonic() < end, log.read_text()
        time.sleep(0.1)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=30) as response:
            return response.status == 200
    except OSError:
        return False


@contextlib.contextmanager
def running_local_cloud(folder: Path, **settings: str) -> Iterator[str]:
    """Its URL; its log is `cloud.log` in the folder."""
    python = python_with("ministack", LOCAL / "requirements.txt")
    port, log = free_port(), folder / "cloud.log"
    settings |= {"GATEWAY_PORT": str(port), "TMPDIR": str(folder)}
    with running([python, str(LOCAL / "cloud.py")], log, **settings) as process:
        url = f"http://127.0.0.1:{port}"
        wait_for(lambda: answers(f"{url}/_ministack/health"), process, log)
        yield url


@contextlib.contextmanager
def running_cli(cli: Path, folder: Path) -> Iterator[Path]:
    """A folder with an `aws` that is the given CLI, ready to answer fast."""
    interpreter = cli.read_text().split("\n")[0].removeprefix("#!").split()
    address, log = folder / "aws.socket", folder / "aws.log"
    client = folder / "bin" / "aws"
    client.parent.mkdir()
    client.write_text(CLIENT % str(address))
    client.chmod(0o755)
    with running([*interpreter, str(HERE / "fast_aws.py"), str(address)], log) as process:
        wait_for(lambda: "ready" in log.read_text(), process, log)
        yield client.parent


@contextlib.contextmanager
def empty_cloud(folder: Path, cli: Path | None = None, **settings: str) -> Iterator[dict[str, str]]:
    """The environment of commands in a local cloud in which nothing is yet, and a worker is a process. They have that
    CLI, or the newer one."""
    settings |= {"LOCAL_TICK": "2", "LOCAL_WORKER": str(PROJECT / "worker.py"), "COPY_MAX": str(8 * 1024**2)}
    own = ("AWS_", "REGION", "SRC_", "DST_", "APP_NAME")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    cli = cli or Path(os.environ.get("AWS_CLI_V2") or "/usr/bin/aws")
    with running_cli(cli, folder) as tools, running_local_cloud(folder, **settings) as url:
        image = {"IMAGE_URI": f"{url.removeprefix('http://')}/worker.py:process"}
        path = {"PATH": f"{tools}:{os.environ['PATH']}", "AWS_PAGER": ""}
        yield kept | CREDENTIALS | image | path | {"AWS_ENDPOINT_URL": url}


def copy_checkout(to: Path) -> Path:
    """All files, but for what tests and the local cloud have made beside them."""
    made = (".git", ".venv*", ".local*", ".cache", "*_cache", "__pycache__", ".hypothesis")
    return shutil.copytree(PROJECT, to, ignore=shutil.ignore_patterns(*made))
