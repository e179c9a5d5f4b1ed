"""A local cloud with the delays of AWS, and deployments in it, looked at from outside: for idle.py and burst.py.

Nothing is shortened: a rule of a minute fires each minute, and a task takes the given seconds to start. deploy.sh is
the real one, and IAM is enforced. Each deployment has its own buckets, so that several can be measured side by side.
"""

import json
import os
import platform
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))  # the clouds of the tests

import boto3
from account import CREDENTIALS, DIRECTORY, PROJECT, REGION, running_cli, running_local_cloud
from botocore.config import Config
from botocore.exceptions import ClientError

OWN = ("AWS_", "REGION", "SRC_", "DST_", "APP_NAME")
CONFIG = Config(
    s3={"disable_s3_express_session_auth": True}, retries={"total_max_attempts": 5}, max_pool_connections=64
)
LIMIT_SECONDS = 400.0  # for anything that is waited for, if nothing else is said
REPORT = re.compile(
    r"REPORT RequestId: \S+\s+Duration: ([\d.]+) ms\s+Billed Duration: ([\d.]+) ms\s+Memory Size: (\d+)"
)


@dataclass(frozen=True)
class Cloud:
    """Runs in a process of its own; `tools` is a folder with an AWS CLI that has no start-up time."""

    url: str
    tools: Path

    def client(self, service: str) -> Any:
        keys = {name.lower(): value for name, value in CREDENTIALS.items()}
        return boto3.client(service, endpoint_url=self.url, region_name=REGION, config=CONFIG, **keys)

    def environment(self, **settings: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(OWN)}
        image = f"{self.url.removeprefix('http://')}/worker.py:process"
        ours = {"AWS_ENDPOINT_URL": self.url, "AWS_PAGER": "", "REGION": REGION, "IMAGE_URI": image}
        path = f"{self.tools}:{os.environ['PATH']}"
        return kept | CREDENTIALS | ours | {"PATH": path, "TASK_ARCH": "X86_64", "RETRY_PAUSE": "1"} | settings


@contextmanager
def running_cloud(folder: Path, task_seconds: int, page_seconds: str = "0") -> Iterator[Cloud]:
    """Its log is `cloud.log` in the folder."""
    cli = Path(os.environ.get("AWS_CLI_V2") or "/usr/bin/aws")
    settings = {"LOCAL_WORKER": str(PROJECT / "worker.py"), "LOCAL_TASK_SECONDS": str(task_seconds), "AUTH": "true"}
    settings["LOCAL_PAGE_SECONDS"] = page_seconds
    with running_cli(cli, folder) as tools, running_local_cloud(folder, **settings) as url:
        cloud = Cloud(url, tools)
        # Deployments that run at the same time would all find it missing.
        cloud.client("iam").create_service_linked_role(AWSServiceName="ecs.amazonaws.com")
        yield cloud


@dataclass
class Deployment:
    """What deploy.sh makes under one name, with the settings of its deploy."""

    cloud: Cloud
    app: str
    settings: dict[str, str]
    since: int = 0  # lines before this time in milliseconds do not count

    @property
    def source(self) -> str:
        return f"{self.app}-source"

    @property
    def mirror(self) -> str:
        return f"{self.app}--use1-az4--x-s3"

    @cached_property
    def s3(self) -> Any:
        return self.cloud.client("s3")

    @cached_property
    def sqs(self) -> Any:
        return self.cloud.client("sqs")

    @cached_property
    def ecs(self) -> Any:
        return self.cloud.client("ecs")

    @cached_property
    def logs(self) -> Any:
        return self.cloud.client("logs")

    @property
    def starter(self) -> str:
        return f"{self.app}-starter"

    def deploy(self) -> None:
        """Raises RuntimeError with what deploy.sh said."""
        self.s3.create_bucket(Bucket=self.source)
        self.s3.create_bucket(Bucket=self.mirror, CreateBucketConfiguration=DIRECTORY)
        names = {"APP_NAME": self.app, "SRC_BUCKET": self.source, "DST_BUCKET": self.mirror}
        done = subprocess.run(
            [PROJECT / "deploy.sh"],
            env=self.cloud.environment(**names, **self.settings),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"{self.app}: deploy.sh ended with {done.returncode}:\n{done.stdout}")

    # What is in it

    def has(self, key: str) -> bool:
        """The copy is visible."""
        try:
            self.s3.head_object(Bucket=self.mirror, Key=key)
        except ClientError as error:
            if error.response["Error"]["Code"] != "404":
                raise
            return False
        return True

    def listing(self, bucket: str) -> dict[str, tuple[int, str]]:
        """key -> (bytes, ETag)."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return {found["Key"]: (found["Size"], found["ETag"]) for page in pages for found in page.get("Contents", [])}

    def messages(self, queue: str = "q") -> int:
        """In the queue, or in the dead-letter queue "dlq", waiting and in flight."""
        url = self.sqs.get_queue_url(QueueName=f"{self.app}-{queue}")["QueueUrl"]
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        return sum(int(found[name]) for name in names)

    def tasks(self, *, stopped: bool = False) -> list[dict[str, Any]]:
        """As DescribeTasks reports them."""
        cluster, status = f"{self.app}-cluster", "STOPPED" if stopped else "RUNNING"
        arns = self.ecs.list_tasks(cluster=cluster, desiredStatus=status)["taskArns"]
        return self.ecs.describe_tasks(cluster=cluster, tasks=arns)["tasks"] if arns else []

    def become_ready(self) -> None:
        """Deployed, S3's test event taken off the queue, the function run once; what comes now is what counts."""
        wait_until(lambda: "REPORT " in "".join(self.function_lines()), f"{self.starter} has run")
        wait_until(self.is_idle, f"{self.app} is idle after its deploy")
        self.since = int(1000 * time.time())

    def is_idle(self) -> bool:
        """Nothing is in the queue, and no task runs or starts beside those that always run."""
        tasks = self.tasks()
        started = [task for task in tasks if task["lastStatus"] == "RUNNING"]
        return len(tasks) == len(started) == int(self.settings.get("MIN_WORKERS", "0")) and not self.messages()

    # What it said

    def keep_lines(self, folder: Path) -> None:
        """For a look at what went on."""
        for name, lines in (("function", self.function_lines()), ("worker", self.worker_lines())):
            (folder / f"{self.app}-{name}.log").write_text("\n".join(line.rstrip("\n") for line in lines))

    def lines(self, group: str) -> list[str]:
        """By time. FilterLogEvents of the local cloud ends at 10,000."""
        pages = self.logs.get_paginator("describe_log_streams").paginate(logGroupName=group)
        streams = [stream["logStreamName"] for page in pages for stream in page["logStreams"]]
        events = [event for stream in streams for event in self.events_of(group, stream)]
        return [event["message"] for event in sorted(events, key=lambda event: event["timestamp"])]

    def events_of(self, group: str, stream: str) -> Iterator[dict[str, Any]]:
        """At the end of a stream the token is the one that was given (CloudWatch Logs API reference, GetLogEvents)."""
        token: dict[str, str] = {}
        while True:
            answer = self.logs.get_log_events(
                logGroupName=group, logStreamName=stream, startTime=self.since, startFromHead=True, **token
            )
            yield from answer["events"]
            if token.get("nextToken") == answer["nextForwardToken"]:
                return
            token = {"nextToken": answer["nextForwardToken"]}

    def function_lines(self) -> list[str]:
        return self.lines(f"/aws/lambda/{self.starter}")

    def worker_lines(self) -> list[str]:
        return self.lines(f"/ecs/{self.app}-task")


@dataclass(frozen=True)
class Runs:
    """What the function's log shows."""

    runs: int
    seconds: float
    gb_seconds: float  # as billed
    started: int  # tasks
    that_copied: int
    copied: int  # objects


def read_runs(lines: list[str]) -> Runs:
    """Reads REPORT lines of Lambda, reports of the starter and lines on copies."""
    times = [match.groups() for line in lines if (match := REPORT.search(line))]
    reports = [json.loads(line) for line in lines if line.startswith('{"visible":')]
    return Runs(
        runs=len(times),
        seconds=sum(float(duration) for duration, _, _ in times) / 1000,
        gb_seconds=sum(float(billed) / 1000 * int(memory) / 1024 for _, billed, memory in times),
        started=sum(sum(report["started"].values()) for report in reports),
        that_copied=sum(bool(report.get("copied", {}).get("copied")) for report in reports),
        copied=count_copies(lines),
    )


def count_copies(lines: list[str]) -> int:
    return sum(" synced key=" in line and " action=copied " in line for line in lines)


def count_errors(lines: list[str]) -> Counter[str]:
    """Level of the worker's log line -> how many; the function writes [ERROR] as Lambda does."""
    found = (re.match(r"\d\S+Z (WARNING|ERROR) |\[(ERROR)\] ", line) for line in lines)
    return Counter(match[1] or match[2] for match in found if match)


def wait_until(condition: Callable[[], bool], what: str, seconds: float = LIMIT_SECONDS, pause: float = 0.5) -> float:
    """Seconds that it took. Raises TimeoutError."""
    begun = time.monotonic()
    while not condition():
        if time.monotonic() - begun > seconds:
            raise TimeoutError(f"not within {seconds:.0f} s: {what}")
        time.sleep(pause)
    return time.monotonic() - begun


def describe_machine() -> str:
    """Cores and load, for the reader of figures that were measured beside others."""
    models = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"{os.cpu_count()} cores, {models[0] if models else platform.machine()}; load {load} (1, 5, 15 minutes)"
