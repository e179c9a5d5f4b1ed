"""A person in a copy of the project whose local cloud is up: what the tests of sync.sh's verbs share."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import boto3
from account import CREDENTIALS, LOCAL, REGION, copy_checkout, python_with, running_cli
from botocore.config import Config

SOURCE, MIRROR = "local-source", "local-destination--use1-az4--x-s3"
APP = "s3-to-s3express-sync"
QUEUE, DEAD_LETTERS = f"{APP}-q", f"{APP}-dlq"
ROLES = (f"{APP}-task-role", f"{APP}-starter-role")
# Both generations of the CLI where tests/run installed them, else the one in PATH.
CLIS = [path for name in ("AWS_CLI_V1", "AWS_CLI_V2") if (path := os.environ.get(name))] or [
    shutil.which("aws") or "aws"
]
# All options that the verbs have something to say of. The function copies what is small, workers the rest. What failed
# is tried again within seconds, so that it is parked within a test; an outage, to be seen, lasts twenty times that.
OPTIONS = {
    "EVENT_SOURCE": "eventbridge",
    "STARTER_COPIES": "true",
    "STARTER_MAX_SIZE": str(1024**2),
    "AUDIT_DAYS": "29",
    "RETRY_BASE_SECONDS": "3",
}
# In place of the first Python that local/machine.sh looks for: the venv that it makes is that of the tests, because its
# own takes half a minute, and is tested in tests/chain/.
PYTHON = """#!/bin/sh
case "$*" in
  "-m venv "*) for folder; do :; done; exec ln -s '{venv}' "$folder" ;;
  "-m pip "*) exit ;;
esac
exec '{python}' "$@"
"""


def wait_for(condition: Callable[[], Any], seconds: float = 600) -> Any:
    """The first true value of condition(). The time is that of a machine with many other processes."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {condition}"
        time.sleep(0.3)
    return value


def read_until(text: str, stream: IO[str] | None) -> str:
    """What a process wrote until a line has the text."""
    assert stream
    seen = ""
    while text not in seen:
        line = stream.readline()
        assert line, f"it ended by itself:\n{seen}"
        seen += line
    return seen


class Operator:
    def __init__(self, project: Path, tools: dict[str, Path]) -> None:
        self.project = project
        self.tools = tools  # path of an AWS CLI -> folder with an aws that is this CLI without its start-up time
        self.exports: dict[str, str] = {}
        self.deployed = ("", "")  # what deploy.sh printed: its output, its progress
        self.clients: dict[str, Any] = {}

    def start(self, *command: str, cli: str = CLIS[-1], **settings: str) -> subprocess.Popen[str]:
        """A process group of its own, which Ctrl-C ends even if the tests run in the background."""
        environment = {
            **os.environ,
            "DOCKER_HOST": "unix:///nonexistent/docker.sock",
            "PATH": f"{self.tools[cli]}:{self.project.parent}/bin:{os.environ['PATH']}",
            "LOCAL_TICK": "3",
            "FOLLOW_PAUSE": "0.5",
            **settings,
        }
        return subprocess.Popen(
            command,
            cwd=self.project,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def run(self, *command: str, cli: str = CLIS[-1], **settings: str) -> tuple[int, str, str]:
        """(exit status, stdout, stderr) of a script of the project."""
        with self.start(*command, cli=cli, **settings) as process:
            output, log = process.communicate(timeout=1500)
        return process.returncode, output, log

    def sync(self, *arguments: str, cli: str = CLIS[-1], **settings: str) -> tuple[int, str, str]:
        return self.run("./sync.sh", "--local", *arguments, cli=cli, **settings)

    def deploy(self) -> None:
        venv = Path(python_with("ministack", LOCAL / "requirements.txt")).parents[1]
        python = self.project.parent / "bin/python3.13"
        python.parent.mkdir()
        python.write_text(PYTHON.format(venv=venv, python=sys.executable))
        python.chmod(0o755)
        status, *self.deployed = self.run("./deploy.sh", "--local", LOCAL_WAIT_SECONDS="900", **OPTIONS)
        output, log = self.deployed
        assert status == 0, output + log
        self.exports = dict(re.findall(r"^  export (\w+)=(.*)$", output, re.MULTILINE))

    def client(self, service: str) -> Any:
        """Of the account itself. The tests arrange and look with it; what the verbs call is the CLI."""
        if service not in self.clients:
            config = Config(s3={"disable_s3_express_session_auth": True}, retries={"max_attempts": 5})
            keys = {name.lower(): value for name, value in CREDENTIALS.items()}
            url = self.exports["AWS_ENDPOINT_URL"]
            self.clients[service] = boto3.client(service, endpoint_url=url, region_name=REGION, config=config, **keys)
        return self.clients[service]

    def put(self, key: str, body: str | bytes = "x", bucket: str = SOURCE, **more: Any) -> None:
        self.client("s3").put_object(Bucket=bucket, Key=key, Body=body, **more)

    def keys(self, bucket: str, prefix: str = "") -> set[str]:
        pages = self.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket)
        found = {item["Key"] for page in pages for item in page.get("Contents", [])}
        return {key for key in found if key.startswith(prefix)}

    def status(self) -> dict[str, Any]:
        return json.loads(self.sync("status", "--json")[1])

    def queue_url(self, queue: str) -> str:
        return self.client("sqs").get_queue_url(QueueName=queue)["QueueUrl"]

    def count(self, queue: str) -> int:
        """Messages in a queue, in flight or not."""
        found = self.client("sqs").get_queue_attributes(QueueUrl=self.queue_url(queue), AttributeNames=["All"])
        return sum(int(number) for name, number in found["Attributes"].items() if name.startswith("ApproximateNumber"))

    def running(self, **which: str) -> list[str]:
        return self.client("ecs").list_tasks(cluster=f"{APP}-cluster", **which)["taskArns"]

    def lines(self, text: str, groups: Sequence[str] = (f"/ecs/{APP}-task",)) -> list[str]:
        """The lines with the text in the logs, the workers' own if no others are given."""
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

    def configure_events(self, configuration: dict[str, Any]) -> None:
        self.client("s3").put_bucket_notification_configuration(Bucket=SOURCE, NotificationConfiguration=configuration)

    @contextlib.contextmanager
    def without_events(self) -> Iterator[None]:
        """What is put or deleted meanwhile is as if it had been there before the deployment."""
        self.configure_events({})
        try:
            yield
        finally:
            self.configure_events({"EventBridgeConfiguration": {}})

    @contextlib.contextmanager
    def denied(self, action: str, resource: str = "*", roles: tuple[str, ...] = ROLES) -> Iterator[None]:
        statement = {"Effect": "Deny", "Action": action, "Resource": resource}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        for role in roles:
            self.client("iam").put_role_policy(RoleName=role, PolicyName="deny", PolicyDocument=policy)
        try:
            yield
        finally:
            self.allow(*roles)

    def allow(self, *roles: str) -> None:
        """What was denied, if it was."""
        for role in roles:
            if "deny" in self.client("iam").list_role_policies(RoleName=role)["PolicyNames"]:
                self.client("iam").delete_role_policy(RoleName=role, PolicyName="deny")


@contextlib.contextmanager
def operator_of_a_deployment(folder: Path) -> Iterator[Operator]:
    project = copy_checkout(folder / "the project")
    # Nobody waits for five minutes here: that an audit does is tested in tests/worker/test_readers_agree.py.
    code = project / "mirror/readers/reconcile.py"
    code.write_text(code.read_text().replace("AUDIT_SETTLE_SECONDS = 300", "AUDIT_SETTLE_SECONDS = 2"))
    with contextlib.ExitStack() as clis:
        tools = {}
        for cli in CLIS:
            own = folder / f"cli{len(tools)}"
            own.mkdir()
            tools[cli] = clis.enter_context(running_cli(Path(cli), own))
        found = Operator(project, tools)
        try:
            found.deploy()
            yield found
        finally:
            found.run("./cleanup.sh", "--local")
