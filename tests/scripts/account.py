"""An AWS account for the tests of deploy.sh and cleanup.sh: a stand-in, others' resources in it, and an AWS CLI."""

import contextlib
import importlib.util
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from fast_aws import CLIENT
from recorder import Recorder, violations_of

HERE = Path(__file__).parent
PROJECT = HERE.parents[1]
LOCAL = PROJECT / "local"
REGION = "us-east-1"
SOURCE = "their-source"
MIRROR = "mirror--use1-az4--x-s3"
APP = "s3-to-s3express-sync"
PREFIX = "models/"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
DIRECTORY = {
    "Location": {"Type": "AvailabilityZone", "Name": "use1-az4"},
    "Bucket": {"DataRedundancy": "SingleAvailabilityZone", "Type": "Directory"},
}
VOLATILE = re.compile(
    "(?i:date|time|modified|approximate|revisionid|roleid|lastused|storedbytes|responsemetadata|statevalue|statereason)|At$"
)

# docker for a machine without one: a push puts a manifest into the stand-in's repository.
FAKE_DOCKER = """#!/bin/sh
case "$1 $2" in
  "buildx version") echo "github.com/docker/buildx v0.13.1" ;;
  "buildx imagetools") echo sha256:{digest} ;;
  "version --format") echo 26.1.5 ;;
  "push "*) exec {python} {account} push "$2" ;;
  "login "*) cat >/dev/null ;;
esac
"""


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def python_with(package: str, requirements: Path) -> str:
    """An interpreter that has the package: this one, or that of a venv of its own, as stand-ins pin their botocore."""
    if importlib.util.find_spec(package):
        return sys.executable
    venv = PROJECT / ".venv" / package
    installed = venv / "installed.txt"
    if not installed.exists() or installed.read_text() != requirements.read_text():
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run([venv / "bin/python", "-m", "pip", "install", "--quiet", "-r", requirements], check=True)
        installed.write_text(requirements.read_text())
    return str(venv / "bin/python")


@contextlib.contextmanager
def running(command: list[str], log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process group of its own, ended with everything in it."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env=os.environ | environment, start_new_session=True
        )
    try:
        yield process
    finally:
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
def running_local_cloud(folder: Path, program: Path = LOCAL / "cloud.py", **settings: str) -> Iterator[str]:
    """Its URL; its log is `cloud.log` in the folder."""
    python = python_with("ministack", LOCAL / "requirements.txt")
    port, log = free_port(), folder / "cloud.log"
    settings |= {"GATEWAY_PORT": str(port), "TMPDIR": str(folder)}
    with running([python, str(program)], log, **settings) as process:
        url = f"http://127.0.0.1:{port}"
        wait_for(lambda: answers(f"{url}/_ministack/health"), process, log)
        yield url


@contextlib.contextmanager
def running_ministack(folder: Path, **settings: str) -> Iterator[tuple[str, str]]:
    """(URL, URL of the reset) of the local cloud; no rule fires, and tasks are only written down."""
    settings |= {"LOCAL_TICK": "1000000", "DOCKER_HOST": "unix:///nonexistent.sock"}
    with running_local_cloud(folder, **settings) as url:
        yield url, f"{url}/_ministack/reset"


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


def without_volatile(value: Any) -> Any:
    """The value without what differs between two equal resources: times, counters, random ids."""
    if isinstance(value, dict):
        return {key: without_volatile(item) for key, item in value.items() if not VOLATILE.search(key)}
    if isinstance(value, list):
        return [without_volatile(item) for item in value]
    return value


class Account:
    """The stand-in behind its recorder, seen by boto3 directly and by the scripts through the recorder."""

    def __init__(self, url: str, reset_url: str, recorder: Recorder, tools: Path, project: Path) -> None:
        self.url, self.reset_url, self.recorder = url, reset_url, recorder
        self.tools, self.project = tools, project
        self.clients: dict[str, Any] = {}
        self.number = self.client("sts").get_caller_identity()["Account"]

    def client(self, service: str) -> Any:
        """A client is made once: it takes longer than its calls."""
        if service not in self.clients:
            self.clients[service] = self.make_client(service)
        return self.clients[service]

    def make_client(self, service: str) -> Any:
        config = Config(s3={"disable_s3_express_session_auth": True}, retries={"max_attempts": 0})
        keys = {name.lower(): value for name, value in CREDENTIALS.items()}
        return boto3.client(service, endpoint_url=self.url, region_name=REGION, config=config, **keys)

    # --- its state --------------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """An account as the tests find it, see populate()."""
        urllib.request.urlopen(urllib.request.Request(self.reset_url, method="POST"), timeout=60).close()
        self.populate()
        self.recorder.forget()

    def populate(self) -> None:
        """An account in use: both buckets, the role of ECS, and things of others whose names are near to ours."""
        s3, logs, sqs, ecs, ec2 = map(self.client, ("s3", "logs", "sqs", "ecs", "ec2"))
        s3.create_bucket(Bucket=SOURCE)
        s3.create_bucket(Bucket=MIRROR, CreateBucketConfiguration=DIRECTORY)
        self.client("iam").create_service_linked_role(AWSServiceName="ecs.amazonaws.com")
        logs.create_log_group(logGroupName=f"/aws/lambda/{APP}-starter-2")
        policy = {"Version": "2012-10-17", "Statement": [LETS_S3_IN | {"Action": "sqs:SendMessage", "Resource": "*"}]}
        sqs.create_queue(QueueName=f"{APP}-q2", Attributes={"Policy": json.dumps(policy)})
        ecs.create_cluster(clusterName=f"{APP}-cluster2")
        container = {"name": "theirs", "image": "theirs", "cpu": 256, "memory": 512}
        ecs.register_task_definition(family=f"{APP}-task2", containerDefinitions=[container])
        vpc = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
        ec2.create_security_group(GroupName=f"{APP}-sg2", Description="theirs", VpcId=vpc)
        self.client("sns").create_topic(Name=f"{APP}-alarms2")
        self.put_alarm(f"{APP}-behind2")
        self.client("cloudwatch").put_dashboard(DashboardName=f"{APP}2", DashboardBody='{"widgets":[]}')
        self.add_their_endpoint()
        self.add_their_notifications()

    def put_alarm(self, name: str) -> None:
        """An alarm of somebody who does not know deploy.sh."""
        self.client("cloudwatch").put_metric_alarm(
            AlarmName=name,
            Namespace="theirs",
            MetricName="theirs",
            Statistic="Sum",
            Period=60,
            EvaluationPeriods=1,
            Threshold=1.0,
            ComparisonOperator="GreaterThanThreshold",
        )

    def add_their_endpoint(self) -> None:
        ec2 = self.client("ec2")
        vpc = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"][0]["VpcId"]
        tables = ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["RouteTables"]
        ec2.create_vpc_endpoint(
            VpcId=vpc,
            ServiceName=f"com.amazonaws.{REGION}.s3",
            VpcEndpointType="Gateway",
            RouteTableIds=[table["RouteTableId"] for table in tables],
        )

    def add_their_notifications(self) -> None:
        """A queue for another prefix, a function for another event, and EventBridge for everything."""
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("theirs.py", "def handler(event, context): pass")
        role = self.client("iam").create_role(RoleName="theirs", AssumeRolePolicyDocument=json.dumps(TRUST))
        functions = self.client("lambda")
        function = functions.create_function(
            FunctionName="theirs",
            Runtime="python3.13",
            Handler="theirs.handler",
            Role=role["Role"]["Arn"],
            Code={"ZipFile": archive.getvalue()},
        )
        functions.get_waiter("function_active_v2").wait(FunctionName="theirs")
        functions.add_permission(
            FunctionName="theirs", StatementId="s3", Action="lambda:InvokeFunction", Principal="s3.amazonaws.com"
        )
        queue = f"arn:aws:sqs:{REGION}:{self.number}:{APP}-q2"
        rules = {"Key": {"FilterRules": [{"Name": "prefix", "Value": "other/"}]}}
        self.client("s3").put_bucket_notification_configuration(
            Bucket=SOURCE,
            NotificationConfiguration={
                "QueueConfigurations": [
                    {"Id": "theirs", "QueueArn": queue, "Events": ["s3:ObjectCreated:*"], "Filter": rules}
                ],
                "LambdaFunctionConfigurations": [
                    {"Id": "tags", "LambdaFunctionArn": function["FunctionArn"], "Events": ["s3:ObjectTagging:*"]}
                ],
                "EventBridgeConfiguration": {},
            },
        )

    def environment(self, **settings: str | None) -> dict[str, str]:
        """That of a script; a setting that is None is not named in it."""
        named: dict[str, str | None] = {
            "PATH": f"{self.tools}:{os.environ['PATH']}",
            "HOME": str(self.tools),
            "AWS_ENDPOINT_URL": self.recorder.url,
            "UPSTREAM": self.url,
            "REGION": REGION,
            "SRC_BUCKET": SOURCE,
            "DST_BUCKET": MIRROR,
            "PREFIX_FILTER": PREFIX,
            "RETRY_PAUSE": "0.05",
            **CREDENTIALS,
            **settings,
        }
        return {name: value for name, value in named.items() if value is not None}

    # --- the scripts ------------------------------------------------------------------------------------------------

    def start(self, script: str | Path, *arguments: str, **settings: str | None) -> subprocess.Popen[str]:
        """The script as it runs; the recorder has only its calls."""
        self.recorder.calls = []
        return subprocess.Popen(
            [self.project / script, *arguments],
            env=self.environment(**settings),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, script: str, *arguments: str, status: int = 0, **settings: str | None) -> tuple[str, str]:
        """(stdout, stderr) of a script that ends with the status."""
        return self.result_of(self.start(script, *arguments, **settings), status)

    def result_of(self, process: subprocess.Popen[str], status: int = 0) -> tuple[str, str]:
        """(stdout, stderr) of a process that ends with the status."""
        with process:
            output, errors = process.communicate(timeout=900)
        assert process.returncode == status, output + errors
        return output, errors

    # --- everything that is in the account -------------------------------------------------------------------------

    def inventory(self) -> dict[str, Any]:
        parts = (self.log_groups, self.queues, self.roles, self.repositories, self.ecs, self.network, self.functions)
        parts += (self.rules, self.buckets, self.alarms, self.dashboards, self.topics)
        found = {part.__name__: part() for part in parts}
        return json.loads(json.dumps(without_volatile(found), default=str, sort_keys=True))

    def log_groups(self) -> Any:
        """Each with its metric filters."""
        logs = self.client("logs")
        groups = logs.describe_log_groups()["logGroups"]
        names = [group["logGroupName"] for group in groups]
        return [groups, [logs.describe_metric_filters(logGroupName=name)["metricFilters"] for name in names]]

    def queues(self) -> Any:
        sqs = self.client("sqs")
        urls = sqs.list_queues().get("QueueUrls", [])
        return {url: sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"] for url in urls}

    def roles(self) -> Any:
        iam, found = self.client("iam"), {}
        for role in iam.list_roles()["Roles"]:
            name = role["RoleName"]
            policies = iam.list_role_policies(RoleName=name)["PolicyNames"]
            found[name] = [
                iam.get_role(RoleName=name)["Role"],
                [iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"] for policy in policies],
                iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"],
            ]
        return found

    def repositories(self) -> Any:
        ecr = self.client("ecr")
        names = [found["repositoryName"] for found in ecr.describe_repositories()["repositories"]]
        return {name: ecr.describe_images(repositoryName=name)["imageDetails"] for name in names}

    def ecs(self) -> Any:
        ecs = self.client("ecs")
        clusters = ecs.describe_clusters(clusters=ecs.list_clusters()["clusterArns"])["clusters"]
        revisions = [
            arn
            for status in ("ACTIVE", "INACTIVE")
            for arn in ecs.list_task_definitions(status=status)["taskDefinitionArns"]
        ]
        definitions = [ecs.describe_task_definition(taskDefinition=arn)["taskDefinition"] for arn in revisions]
        return [[cluster for cluster in clusters if cluster["status"] != "INACTIVE"], definitions]

    def network(self) -> Any:
        ec2 = self.client("ec2")
        endpoints = ec2.describe_vpc_endpoints()["VpcEndpoints"]
        return [
            ec2.describe_security_groups()["SecurityGroups"],
            [endpoint for endpoint in endpoints if "delet" not in endpoint["State"].lower()],
        ]

    def functions(self) -> Any:
        client, found = self.client("lambda"), {}
        for function in client.list_functions()["Functions"]:
            name = function["FunctionName"]
            found[name] = [function, self.optional(client.get_policy, "Policy", FunctionName=name)]
        return found

    def rules(self) -> Any:
        events = self.client("events")
        rules = events.list_rules()["Rules"]
        return [[rule, events.list_targets_by_rule(Rule=rule["Name"])["Targets"]] for rule in rules]

    def buckets(self) -> Any:
        s3 = self.client("s3")
        return [
            s3.get_bucket_notification_configuration(Bucket=SOURCE),
            self.optional(s3.get_bucket_policy, "Policy", Bucket=MIRROR),
            self.optional(s3.get_bucket_lifecycle_configuration, "Rules", Bucket=MIRROR),
        ]

    def alarms(self) -> dict[str, Any]:
        """Name -> [alarm, its tags]."""
        client = self.client("cloudwatch")
        return {
            alarm["AlarmName"]: [alarm, client.list_tags_for_resource(ResourceARN=alarm["AlarmArn"])["Tags"]]
            for alarm in client.describe_alarms()["MetricAlarms"]
        }

    def dashboards(self) -> dict[str, Any]:
        client = self.client("cloudwatch")
        names = [entry["DashboardName"] for entry in client.list_dashboards()["DashboardEntries"]]
        return {name: json.loads(client.get_dashboard(DashboardName=name)["DashboardBody"]) for name in names}

    def topics(self) -> dict[str, Any]:
        """ARN -> [tags, addresses of the subscriptions]."""
        client, found = self.client("sns"), {}
        for topic in client.list_topics()["Topics"]:
            arn = topic["TopicArn"]
            subscriptions = client.list_subscriptions_by_topic(TopicArn=arn)["Subscriptions"]
            tags = client.list_tags_for_resource(ResourceArn=arn)["Tags"]
            found[arn] = [tags, sorted(subscription["Endpoint"] for subscription in subscriptions)]
        return found

    @staticmethod
    def optional(call: Any, member: str, **parameters: str) -> Any:
        """A part of the answer, or None where there is no such thing."""
        try:
            return call(**parameters)[member]
        except ClientError as error:
            if re.search("NotFound|NoSuch", error.response["Error"]["Code"]):
                return None
            raise

    # --- ours in it -------------------------------------------------------------------------------------------------

    def worker_environment(self) -> dict[str, str]:
        found = self.client("ecs").describe_task_definition(taskDefinition=f"{APP}-task")["taskDefinition"]
        return {entry["name"]: entry["value"] for entry in found["containerDefinitions"][0]["environment"]}

    def starter_environment(self) -> dict[str, str]:
        found = self.client("lambda").get_function_configuration(FunctionName=f"{APP}-starter")
        return found["Environment"]["Variables"]


LETS_S3_IN = {"Effect": "Allow", "Principal": {"Service": "s3.amazonaws.com"}}
TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}


# The kinds that it is given, as cleanup.sh removes them.
REMOVE = """
for kind in "$@"; do
  "list_$kind" >"$TEMP_DIR/listing"
  while read -r name _ <&3; do
    RESOURCE="$kind $name"
    "remove_$kind" "$name"
  done 3<"$TEMP_DIR/listing"
done
"""


def make_fake_docker(tools: Path) -> None:
    docker = tools / "docker"
    docker.write_text(FAKE_DOCKER.format(python=sys.executable, account=__file__, digest="a" * 64))
    docker.chmod(0o755)


def make_tools(cli_folder: Path, folder: Path) -> Path:
    """A folder for PATH with that aws and the fake docker."""
    folder.mkdir()
    shutil.copy(cli_folder / "aws", folder)
    make_fake_docker(folder)
    return folder


def copy_checkout(to: Path) -> Path:
    """All files, but for what tests and the local cloud have made beside them."""
    made = (".git", ".venv*", ".local*", ".cache", "*_cache", "__pycache__", ".hypothesis")
    return shutil.copytree(PROJECT, to, ignore=shutil.ignore_patterns(*made))


def copy_project(folder: Path) -> Path:
    """The files of a deployment, for tests that change one of them."""
    for name in ("deploy.sh", "cleanup.sh", "starter.py", "worker.py", "Dockerfile", "requirements.txt"):
        shutil.copy(PROJECT / name, folder)
    for name in ("launch", "lib", "mirror"):
        shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def push(image: str) -> None:
    """What `docker push` does, as far as ECR is concerned."""
    repository, tag = image.split("/")[1].split(":")
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json", "layers": []}
    boto3.client("ecr", endpoint_url=os.environ["UPSTREAM"], region_name=REGION).put_image(
        repositoryName=repository, imageTag=tag, imageManifest=json.dumps(manifest | {"config": {"digest": tag}})
    )


# --- what the tests of whole deployments share --------------------------------------------------------------------

CLOUDS = {"ministack": running_ministack}
CLIS = {"v1": "AWS_CLI_V1", "v2": "AWS_CLI_V2"}
STATES = (
    r"exists|created|none, .+|left to (?:you|its owner), .+|would create|(?:would )?removed?, .+"
    r"|(?:would change|changed) \(.+\)"
)
STATE = re.compile(rf"^\[(\d+)/(\d+)\] (.+): ({STATES})$")
CHANGED = re.compile(r"^\[\d+/\d+\] (.+): changed \((.+)\)$", re.MULTILINE)
one_cloud = pytest.mark.parametrize("recorder", ["ministack"], indirect=True)
one_cli = pytest.mark.parametrize("tools", ["v1"], indirect=True)


def states(output: str) -> list[str]:
    """The state of each resource as the script prints it, without what changed; the numbers have to be n of m.

    A resource that there should not be has none.
    """
    found = [match for line in output.splitlines() if (match := STATE.match(line))]
    assert [(int(match[1]), int(match[2])) for match in found] == [(n, len(found)) for n in range(1, len(found) + 1)]
    return [match[4].split(" (")[0] for match in found if not match[4].startswith("none")]


def assert_conforming(account: Account) -> None:
    assert account.recorder.problems == []
    assert [violation for call in account.recorder.calls for violation in violations_of(call)] == []


if __name__ == "__main__":
    push(sys.argv[2])
