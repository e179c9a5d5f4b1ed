"""The same on an S3 server that moves real bytes: SeaweedFS, with the queue in the stand-in. It writes on the disk of
this machine, so only the ratio between movers means something."""

import json
import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from measure import Running, finish, start
from movers import (
    CREDENTIALS,
    MIB,
    MIRROR,
    PART_SIZE,
    PEER_MIRROR,
    QUEUE,
    REGION,
    SOURCE,
    WORKERS,
    Place,
    installed,
)
from rows import Row
from runs import TIMEOUT, clear, failure, run_peer, start_worker, wait_for
from standin import Standin

START_SECONDS = 60
# It knows no S3 Express sessions.
WITHOUT_SESSIONS = {"AWS_S3_DISABLE_EXPRESS_SESSION_AUTH": "true"}
IDENTITY = {
    "name": "admin",
    "credentials": [{"accessKey": "test", "secretKey": "test"}],
    "actions": ["Admin", "Read", "Write", "List", "Tagging"],
}
BUCKETS = {SOURCE, MIRROR, PEER_MIRROR}
ONE_COPY = "copies with one CopyObject; above 5 GiB S3 refuses that, SeaweedFS does not"
SERVICES = ("s3", "filer", "master", "volume")


def measure(standin: Standin, directory: Path, movers: list[str], small: int, large_mib: int) -> Iterator[Row]:
    """Some small objects, and one large object in parts: a case each, with one object source for all movers."""
    with running_seaweedfs(directory) as url:
        s3 = client(url)
        for case, keys, put in (
            (f"{small} of 1 KiB", [f"directory/{number}" for number in range(small)], put_small),
            (f"one of {large_mib} MiB", ["large"], lambda s3, keys: put_large(s3, keys[0], large_mib * MIB)),
        ):
            empty(s3, SOURCE)
            put(s3, keys)
            for mover in movers:
                yield measure_one(standin, directory, s3, mover, case, keys)


def measure_one(standin: Standin, directory: Path, s3: Any, mover: str, case: str, keys: list[str]) -> Row:
    mirror = MIRROR if mover in WORKERS else PEER_MIRROR
    empty(s3, mirror)
    stood_in = clear(standin, directory)
    place = Place(s3.meta.endpoint_url, stood_in.sqs_url, stood_in.queue_url, directory)
    is_large = len(keys) == 1
    if mover in WORKERS:
        standin.put_many(SOURCE, keys)
        seconds, cpu_seconds, problem = run_worker(standin, place, mover, is_large)
    else:
        seconds, usage, problem = run_peer(place, mover, is_in_parts=is_large)
        cpu_seconds = usage.cpu_seconds
    if not problem and listing(s3, mirror) != listing(s3, SOURCE):
        problem = "cannot: the destination is not like the source"
    if problem:
        return Row("real", case, mover, note=problem)
    figures = {"objects/s": len(keys) / seconds, "seconds": seconds, "CPU ms/object": 1000 * cpu_seconds / len(keys)}
    return Row("real", case, mover, figures, ONE_COPY if mover == "s5cmd" and is_large else "")


def run_worker(standin: Standin, place: Place, worker: str, is_large: bool) -> tuple[float, float, str]:
    threshold = {"MULTIPART_THRESHOLD": str(PART_SIZE)} if is_large else {}
    running = start_worker(place, worker, **WITHOUT_SESSIONS, **threshold)
    is_done = wait_for(lambda: not any(standin.queue(QUEUE).values()), running, TIMEOUT, 0.05)
    seconds = running.seconds()
    usage = finish(running, TIMEOUT)
    return seconds, usage.cpu_seconds, "" if is_done and usage.status == 0 else failure(running, usage)


@contextmanager
def running_seaweedfs(directory: Path) -> Iterator[str]:
    """The URL of a SeaweedFS that is ready. Its data goes with the directory."""
    ports = free_ports()
    data, config = directory / "seaweedfs", directory / "s3.json"
    data.mkdir()
    config.write_text(json.dumps({"identities": [IDENTITY]}))
    command = [
        installed("weed"), "mini", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-webdav=false",
        "-admin.ui=false", "-master.telemetry=false", f"-s3.config={config}", "-s3.port.iceberg=0", "-s3.port.lance=0",
        *(f"-{service}.port={port}" for service, port in ports.items()),
    ]  # fmt: skip
    environment = {"PATH": os.environ["PATH"], "HOME": str(directory)}
    running = start(command, environment, directory / "seaweedfs.log")
    try:
        url = f"http://127.0.0.1:{ports['s3']}"
        wait_until_ready(url, running)
        yield url
    finally:
        running.process.terminate()
        finish(running, running.seconds() + 30)


def free_ports() -> dict[str, int]:
    """Below 50,000, for each service also uses the port 10,000 above its own."""
    found: dict[str, int] = {}
    for candidate in range(20000 + os.getpid() % 10000, 50000, 7):
        if is_free(candidate) and is_free(candidate + 10000):
            found[SERVICES[len(found)]] = candidate
        if len(found) == len(SERVICES):
            return found
    raise RuntimeError("no free ports")


def is_free(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def wait_until_ready(url: str, running: Running) -> None:
    """Ready is: an object is written in each bucket. Its first one makes a bucket's volumes, which takes a second that
    the first mover would have to pay."""

    def is_ready() -> bool:
        try:
            s3 = client(url)
            make_buckets(s3)
            for bucket in BUCKETS:
                s3.put_object(Bucket=bucket, Key="ready")
        except (BotoCoreError, ClientError):
            return False
        return True

    if not wait_for(is_ready, running, START_SECONDS, 0.2):
        raise RuntimeError(f"SeaweedFS did not start: {running.last_words()}")


def client(url: str) -> Any:
    config = Config(
        connect_timeout=5,
        retries={"total_max_attempts": 1},
        max_pool_connections=32,
        s3={"addressing_style": "path", "disable_s3_express_session_auth": True},
    )
    access_key, secret_key = CREDENTIALS["AWS_ACCESS_KEY_ID"], CREDENTIALS["AWS_SECRET_ACCESS_KEY"]
    return boto3.client(
        "s3",
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        config=config,
    )


def make_buckets(s3: Any) -> None:
    have = {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}
    for bucket in BUCKETS - have:
        s3.create_bucket(Bucket=bucket)


def put_small(s3: Any, keys: list[str]) -> None:
    in_threads(lambda key: s3.put_object(Bucket=SOURCE, Key=key, Body=os.urandom(1024)), keys)


def put_large(s3: Any, key: str, size: int) -> None:
    """Parts of random bytes; the same bytes in each, for they are copied one by one all the same."""
    body = os.urandom(PART_SIZE)
    upload = {"Bucket": SOURCE, "Key": key}
    upload["UploadId"] = s3.create_multipart_upload(**upload)["UploadId"]
    parts = []
    for number in range(1, size // PART_SIZE + 1):
        etag = s3.upload_part(**upload, PartNumber=number, Body=body)["ETag"]
        parts.append({"PartNumber": number, "ETag": etag})
    s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})


def empty(s3: Any, bucket: str) -> None:
    in_threads(lambda key: s3.delete_object(Bucket=bucket, Key=key), list(listing(s3, bucket)))


def listing(s3: Any, bucket: str) -> dict[str, int]:
    """key -> size"""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return {held["Key"]: held["Size"] for page in pages for held in page.get("Contents", [])}


def in_threads(action: Callable[[str], Any], keys: list[str]) -> None:
    with ThreadPoolExecutor(16) as pool:
        for _ in pool.map(action, keys):
            pass
