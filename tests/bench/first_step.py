"""A training job's first step: it waits for a data set that is being uploaded, in the local cloud with AWS's delays.

    .venv/bin/python tests/bench/first_step.py

Files and a marker are uploaded, a large file last but one. Meanwhile the job runs the image's command `wait` with
rights to read and nothing else, somebody looks at the destination again and again for a marker without its files, and
a queue gets the event that announces the marker. A page of a listing takes as long as S3's. What happened when is
printed as a transcript.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deployed import PROJECT, REGION, Cloud, Deployment, describe_machine, running_cloud

FOLDER, MARKER = "run-1/", "run-1/_SUCCESS"
LARGE = 64 * 1024**2
READERS = {
    "COPY_LAST": "_SUCCESS,*.done",
    "ANNOUNCE": "markers",
    "MULTIPART_THRESHOLD": str(8 * 1024**2),
    "PART_SIZE": str(5 * 1024**2),
}
PATTERN = {"source": ["s3-to-s3express-sync"], "detail": {"key": [{"suffix": "/_SUCCESS"}]}}
ACCOUNT = "000000000000"
PAGE_SECONDS = "0.1-0.3"
PUTS_AT_ONCE = 8
LOOK_SECONDS = 0.05


@dataclass
class Transcript:
    begun: float = field(default_factory=time.monotonic)
    lines: list[tuple[float, str, str]] = field(default_factory=list)

    def say(self, who: str, what: str) -> None:
        self.lines.append((time.monotonic() - self.begun, who, what))
        print(f"{self.lines[-1][0]:7.2f} s  {who:<12} {what}", flush=True)


@dataclass
class Seen:
    """By one who looks at the destination all the time."""

    looks: int = 0
    with_marker: int = 0
    too_early: int = 0  # looks that showed the marker and not all of the files


def names(files: int) -> list[str]:
    return [f"{FOLDER}part-{number:05}" for number in range(files)]


def upload(deployment: Deployment, files: int, tell: Transcript) -> None:
    """The last file is the large one, and the marker comes after all of them."""

    def put(key: str) -> None:
        body = os.urandom(LARGE) if key == names(files)[-1] else key.encode()
        deployment.s3.put_object(Bucket=deployment.source, Key=key, Body=body)

    with ThreadPoolExecutor(PUTS_AT_ONCE) as pool:
        list(pool.map(put, names(files)))
    tell.say("uploader", f"{files} files are in the source, the last of {LARGE // 1024**2} MiB")
    put(MARKER)
    tell.say("uploader", f"{MARKER} is in the source")


def watch(deployment: Deployment, files: int, ended: threading.Event, tell: Transcript) -> Seen:
    seen, wanted = Seen(), set(names(files))
    while not ended.is_set():
        keys = deployment.listing(deployment.mirror).keys()
        if MARKER in keys and not seen.with_marker:
            tell.say("reader", f"sees {MARKER}, and {len(wanted & keys)} of {files} files")
        seen.looks += 1
        seen.with_marker += MARKER in keys
        seen.too_early += MARKER in keys and not wanted <= keys
        time.sleep(LOOK_SECONDS)
    return seen


def reader_rights(deployment: Deployment) -> list[dict[str, Any]]:
    """What the job may do."""
    source = f"arn:aws:s3:::{deployment.source}"
    express = f"arn:aws:s3express:{REGION}:{ACCOUNT}:bucket/{deployment.mirror}"
    return [
        {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": source},
        {"Effect": "Allow", "Action": "s3:GetObject", "Resource": f"{source}/*"},
        {"Effect": "Allow", "Action": "s3express:CreateSession", "Resource": express},
    ]


def reader_credentials(deployment: Deployment) -> dict[str, str]:
    """Of a role of the job's own, as environment variables."""
    iam, name = deployment.cloud.client("iam"), f"{deployment.app}-reader"
    trust = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}}
    arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=policy([trust]))["Role"]["Arn"]
    iam.put_role_policy(RoleName=name, PolicyName="reads", PolicyDocument=policy(reader_rights(deployment)))
    keys = deployment.cloud.client("sts").assume_role(RoleArn=arn, RoleSessionName="job")["Credentials"]
    return {
        "AWS_ACCESS_KEY_ID": keys["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": keys["SecretAccessKey"],
        "AWS_SESSION_TOKEN": keys["SessionToken"],
    }


def policy(statements: list[dict[str, Any]]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def wait_in_job(deployment: Deployment, tell: Transcript, timeout: str = "15m") -> int:
    """The exit status of the image's command, with the environment that a job has to give it."""
    tell.say("job", f"worker.py wait --prefix {FOLDER} --timeout {timeout}")
    environment = {"PATH": os.environ["PATH"], "AWS_ENDPOINT_URL": deployment.cloud.url, "REGION": REGION}
    environment |= {"SRC_BUCKET": deployment.source, "DST_BUCKET": deployment.mirror}
    command = [sys.executable, str(PROJECT / "worker.py"), "wait", "--prefix", FOLDER, "--timeout", timeout]
    with subprocess.Popen(
        command,
        env=environment | reader_credentials(deployment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        for line in process.stdout or ():
            tell.say("job", line.rstrip().partition("Z ")[2] or line.rstrip())
    tell.say("job", f"exit status {process.returncode}")
    return process.returncode


def subscribe(cloud: Cloud, name: str) -> str:
    """The URL of a queue that gets the events of markers."""
    sqs, events = cloud.client("sqs"), cloud.client("events")
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"
    rule = events.put_rule(Name=name, EventPattern=json.dumps(PATTERN))["RuleArn"]
    events.put_targets(Rule=name, Targets=[{"Id": "queue", "Arn": arn}])
    let_in = {"Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "sqs:SendMessage"}
    let_in |= {"Resource": arn, "Condition": {"ArnEquals": {"aws:SourceArn": rule}}}
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy([let_in])})
    return str(url)


def await_event(cloud: Cloud, url: str, tell: Transcript, seconds: float = 900) -> dict[str, Any]:
    """The detail of the first event; nothing if none comes."""
    sqs, end = cloud.client("sqs"), time.monotonic() + seconds
    while time.monotonic() < end:
        for message in sqs.receive_message(QueueUrl=url, WaitTimeSeconds=1).get("Messages", []):
            detail = json.loads(message["Body"])["detail"]
            tell.say("event", json.dumps(detail))
            return dict(detail)
    return {}


def first_step(cloud: Cloud, files: int, app: str = "readers") -> tuple[int, Seen, dict[str, Any]]:
    """The exit status of `wait`, what the reader saw, and the event's detail."""
    deployment = Deployment(cloud, app, READERS)
    deployment.deploy()
    url = subscribe(cloud, f"{app}-announced")
    deployment.become_ready()
    tell, ended = Transcript(), threading.Event()
    with ThreadPoolExecutor(4) as pool:
        seen = pool.submit(watch, deployment, files, ended, tell)
        event = pool.submit(await_event, cloud, url, tell)
        try:
            upload(deployment, files, tell)
            status = pool.submit(wait_in_job, deployment, tell).result()
            detail = event.result()
        finally:
            ended.set()
    for line in deployment.worker_lines():
        if "marker" in line or MARKER in line:
            print(f"worker: {line.rstrip()}")
    return status, seen.result(), detail


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--files", type=int, default=200, help="beside the marker (%(default)s)")
    parser.add_argument("--task-seconds", type=int, default=40, help="that a task takes to start (%(default)s)")
    parser.add_argument("--page-seconds", default=PAGE_SECONDS, help="that a page of a listing takes (%(default)s)")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        running_cloud(Path(folder), options.task_seconds, options.page_seconds) as cloud,
    ):
        status, seen, detail = first_step(cloud, options.files)
    print(f"\nwait ended with {status}; {seen}; announced {detail.get('action')}\n{describe_machine()}")


if __name__ == "__main__":
    main()
