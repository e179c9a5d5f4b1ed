"""A person in a copy of the project with a deployment on a local cloud."""

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
from account import APP, CREDENTIALS, DIRECTORY, MIRROR, REGION, SOURCE, copy_checkout, empty_cloud
from botocore.config import Config

QUEUE, DEAD_LETTERS = f"{APP}-q", f"{APP}-dlq"
ROLES = (f"{APP}-task-role", f"{APP}-starter-role")
# Both generations of the CLI where tests/run installed them, else the one in PATH.
CLIS = [path for name in ("AWS_CLI_V1", "AWS_CLI_V2") if (path := os.environ.get(name))] or [
    shutil.which("aws") or "aws"
]
# A worker is a process, and nothing is waited for that only AWS needs.
LOCAL_SETTINGS = {
    "TASK_ARCH": "X86_64", "RETRY_PAUSE": "1", "FOLLOW_PAUSE": "3", "WAIT_TIME_SECONDS": "1", "COPY_TIMEOUT": "60",
    "MULTIPART_THRESHOLD": str(8 * 1024**2), "PART_SIZE": str(5 * 1024**2), "VISIBILITY_EXTEND_INTERVAL": "15",
    "VERIFY_LARGE_PARTS": "3", "VERIFY_LARGE_PART_BYTES": str(5 * 1024**2), "VERIFY_SMALL_OBJECTS": "60",
}  # fmt: skip
# The function copies what is small, workers the rest. What failed is tried again within seconds, so that it is parked
# within a test.
OPTIONS = {
    "REGION": REGION, "SRC_BUCKET": SOURCE, "DST_BUCKET": MIRROR, "EVENT_SOURCE": "eventbridge",
    "STARTER_COPIES": "true", "STARTER_MAX_SIZE": str(1024**2), "RETRY_BASE_SECONDS": "3",
}  # fmt: skip


def wait_for(condition: Callable[[], Any], seconds: float = 600) -> Any:
    """The first true value of condition(). The time is that of a machine with many other processes."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {condition}"
        time.sleep(0.3)
    return value


class Operator:
    def __init__(self, project: Path, environment: dict[str, str]) -> None:
        self.project, self.environment = project, environment
        self.clients: dict[str, Any] = {}
        self.client("s3").create_bucket(Bucket=SOURCE)
        self.client("s3").create_bucket(Bucket=MIRROR, CreateBucketConfiguration=DIRECTORY)

    def run(self, *command: str, status: int = 0) -> tuple[str, str]:
        """(stdout, stderr) of a script of the project that ends with this status."""
        done = subprocess.run(
            command, cwd=self.project, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout, done.stderr

    def sync(self, *arguments: str, status: int = 0) -> tuple[str, str]:
        return self.run("./sync.sh", *arguments, status=status)

    def client(self, service: str) -> Any:
        """Of the account itself. The tests arrange and look with it; what the verbs call is the CLI."""
        if service not in self.clients:
            config = Config(s3={"disable_s3_express_session_auth": True}, retries={"max_attempts": 5})
            keys = {name.lower(): value for name, value in CREDENTIALS.items()}
            url = self.environment["AWS_ENDPOINT_URL"]
            self.clients[service] = boto3.client(service, endpoint_url=url, region_name=REGION, config=config, **keys)
        return self.clients[service]

    def put(self, key: str, body: str | bytes = "x", bucket: str = SOURCE, **more: Any) -> None:
        self.client("s3").put_object(Bucket=bucket, Key=key, Body=body, **more)

    def keys(self, bucket: str, prefix: str = "") -> set[str]:
        pages = self.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket)
        found = {item["Key"] for page in pages for item in page.get("Contents", [])}
        return {key for key in found if key.startswith(prefix)}

    def status(self) -> dict[str, Any]:
        return json.loads(self.sync("status", "--json")[0])

    def queue_url(self, queue: str) -> str:
        return self.client("sqs").get_queue_url(QueueName=queue)["QueueUrl"]

    def count(self, queue: str) -> int:
        """Messages in a queue, in flight or not."""
        found = self.client("sqs").get_queue_attributes(QueueUrl=self.queue_url(queue), AttributeNames=["All"])
        return sum(int(number) for name, number in found["Attributes"].items() if name.startswith("ApproximateNumber"))

    def running(self) -> list[str]:
        return self.client("ecs").list_tasks(cluster=f"{APP}-cluster")["taskArns"]

    def lines(self, text: str, *groups: str) -> list[str]:
        """The lines with the text in these logs."""
        pages = self.client("logs").get_paginator("filter_log_events")
        found = [event for group in groups for page in pages.paginate(logGroupName=group) for event in page["events"]]
        return [event["message"] for event in found if text in event["message"]]

    def rest(self) -> None:
        """Wait until nothing is in the queue and no task runs. A worker would wait for messages for a while."""
        wait_for(lambda: self.count(QUEUE) == 0)
        for task in self.running():
            self.client("ecs").stop_task(cluster=f"{APP}-cluster", task=task)
            wait_for(lambda task=task: self.has_stopped(task))
        wait_for(lambda: not self.running())

    def has_stopped(self, task: str) -> bool:
        """ECS lists a task as stopped while it ends, and may still receive messages, which it hands back."""
        (found,) = self.client("ecs").describe_tasks(cluster=f"{APP}-cluster", tasks=[task])["tasks"]
        return found["lastStatus"] == "STOPPED"

    @contextlib.contextmanager
    def without_events(self) -> Iterator[None]:
        """What is put or deleted meanwhile is as if it had been there before the deployment."""
        configure = self.client("s3").put_bucket_notification_configuration
        configure(Bucket=SOURCE, NotificationConfiguration={})
        try:
            yield
        finally:
            configure(Bucket=SOURCE, NotificationConfiguration={"EventBridgeConfiguration": {}})

    @contextlib.contextmanager
    def denied(self, action: str, resource: str) -> Iterator[None]:
        """To the workers and the starter."""
        iam, statement = self.client("iam"), {"Effect": "Deny", "Action": action, "Resource": resource}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        for role in ROLES:
            iam.put_role_policy(RoleName=role, PolicyName="deny", PolicyDocument=policy)
        try:
            yield
        finally:
            for role in ROLES:
                iam.delete_role_policy(RoleName=role, PolicyName="deny")


@contextlib.contextmanager
def operator_of_a_deployment(folder: Path) -> Iterator[Operator]:
    with empty_cloud(folder, Path(CLIS[0]), AUTH="true") as environment:
        found = Operator(copy_checkout(folder / "the project"), environment | LOCAL_SETTINGS | OPTIONS)
        found.run("./deploy.sh")
        yield found
