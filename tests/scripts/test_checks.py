"""The checks before the first write: every wrong setting, tool and account is named, and nothing is made."""

import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from account import PROJECT, SOURCE, running_cli
from documents import Scripts, scripts_of_module
from local_operator import CLIS
from paper_account import PaperAccount, Refused

from mirror.version import VERSION

# Those that the account decides, and some of the table; test_settings.py has all limits of it.
WRONG_SETTINGS = {
    "SRC_BUCKET": ("no-such-bucket", "NoSuchBucket"),
    "DST_BUCKET": ("mirror--euw1-az1--x-s3", "not in REGION=us-east-1"),
    "MAX_WORKERS": ("five", "whole number from 1 to 1000"),
    "TASK_CPU": ("512", "TASK_MEMORY=8192 is not a size of Fargate"),
    "TASK_MEMORY": ("8192", "512 with"),
    "PREFIX_FILTER": ("a*/", "wildcards"),
    "SUBNETS": ("subnet-0badbad0", "InvalidSubnetID.NotFound; set SUBNETS to subnets that reach the internet or AWS's"),
    "LOG_RETENTION_DAYS": ("31", "set one of 1 3 5"),
    "DST_KMS_KEY_ARN": ("alias/aws/s3", "the ARN of a KMS key"),
    "ALARM_EMAIL": ("nobody", "a mail address, or nothing"),
}


scripts = scripts_of_module("deploy.sh")


def refused(scripts: Scripts, account: PaperAccount, *refusals: tuple[str, Refused], **settings: str) -> list[str]:
    """The problems that a run ends with before it writes anything, if each such call is refused."""
    scripts.account = account
    account.refusals = list(refusals) * 2  # what is looked at ahead is asked for again
    ran = scripts.deploy(status=2, **settings)
    assert ran.writes == []
    return [" ".join(problem.split()) for problem in ran.errors.split("\n- ")[1:]]


def test_every_wrong_setting_is_named_in_one_run_that_writes_nothing(scripts: Scripts) -> None:
    refusals = ("GetBucketLocation", Refused("NoSuchBucket")), ("DescribeSubnets", Refused("InvalidSubnetID.NotFound"))
    settings = {name: value for name, (value, _) in WRONG_SETTINGS.items()}
    problems = refused(scripts, PaperAccount(), *refusals, **settings)
    for name, (value, message) in WRONG_SETTINGS.items():
        assert any(f"{name}={value}" in problem and message in problem for problem in problems), (name, problems)
    assert any("; set a bucket that exists and belongs to account" in problem for problem in problems), problems


# Generation, environment: the endpoint of SQS that the CLI is given, which otherwise goes by its own settings.
ENDPOINTS: list[tuple[str, dict[str, str], str]] = [
    ("1.44.70", {}, "https://sqs.eu-west-1.amazonaws.com"),
    ("1.44.70", {"AWS_ENDPOINT_URL_SQS": "https://vpce-1"}, "https://vpce-1"),
    ("1.44.70", {"AWS_USE_FIPS_ENDPOINT": "true"}, "https://sqs-fips.eu-west-1.amazonaws.com"),
    ("2.34.21", {}, ""),
    ("2.34.21", {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, "http://127.0.0.1:1"),
]


@pytest.mark.parametrize(("version", "given", "endpoint"), ENDPOINTS)
def test_only_the_older_cli_is_told_the_endpoint_of_sqs(
    version: str, given: dict[str, str], endpoint: str, tmp_path: Path
) -> None:
    path = own_tool(tmp_path, f'[ $1 = --version ] && echo aws-cli/{version} && exit\necho "$@"')
    done = piece("check_aws_cli; aws sqs list-queues", PATH=path, REGION="eu-west-1", **given)
    assert re.findall(r"--endpoint-url (\S+)", done.stdout) == [endpoint] * bool(endpoint), done.stderr


def path_without(tool: str, folder: Path) -> str:
    """A folder with all commands of this machine but one."""
    for command in Path("/usr/bin").iterdir():
        if command.name not in (tool, "aws", "docker"):
            (folder / command.name).symlink_to(command)
    return str(folder)


def own_tool(folder: Path, script: str, tool: str = "aws") -> str:
    """A PATH with a tool that is this shell script."""
    (folder / tool).write_text(f"#!/bin/bash\n{script}\n")
    (folder / tool).chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def piece(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A piece of deploy.sh, in an environment with nothing else but PATH."""
    command = ["bash", "-c", f"source '{PROJECT}/deploy.sh'; start_run; {script}"]
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"} | environment
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_the_cli_is_to_prompt_nobody_and_to_say_errors_in_the_format_that_is_read(tmp_path: Path) -> None:
    path = own_tool(tmp_path, 'echo "aws-cli/2.30.0 $AWS_CLI_ERROR_FORMAT $AWS_CLI_AUTO_PROMPT"')
    settings = {"PATH": path, "AWS_CLI_ERROR_FORMAT": "json", "AWS_CLI_AUTO_PROMPT": "on"}
    done = piece('aws sts get-caller-identity; check_aws_cli; printf "%s\\n" "$CLI_VERSION"', **settings)
    asked, version = done.stdout.splitlines()
    assert asked == "aws-cli/2.30.0 legacy off", done.stderr
    assert version.endswith(" off")


@pytest.mark.parametrize("wrong", ["--debug", "subnet-2;subnet-3", "--query=x", "vpc-1", "subnet-2/"])
def test_only_ids_of_subnets_reach_the_cli(wrong: str, tmp_path: Path) -> None:
    path = own_tool(tmp_path, f"echo \"$@\" >>'{tmp_path}/called'")
    done = piece("check_network; stop_on_problems", PATH=path, SUBNETS=f"subnet-1, {wrong}")
    assert done.returncode == 2
    assert f"- SUBNETS=subnet-1, {wrong}: {wrong} is not the ID of a subnet; set SUBNETS to " in done.stderr
    assert not (tmp_path / "called").exists()


# What is wrong -> the environment that shows it to the CLI, and what the script says. A server without TLS is at
# {port}, and nothing listens on port 9.
KEYS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
NO_ACCOUNT = {
    "no keys": (
        {},
        "no usable AWS credentials (run aws configure, or set AWS_PROFILE): aws sts get-caller-identity failed: Unable",
    ),
    "half a key": ({"AWS_ACCESS_KEY_ID": "a"}, "no usable AWS credentials (run aws configure"),
    "no profile": ({"AWS_PROFILE": "nobody"}, "no usable AWS credentials (run aws configure"),
    "no network": (KEYS | {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "AWS does not respond: check the network and "),
    "no proxy": (KEYS | {"HTTPS_PROXY": "http://127.0.0.1:9"}, "the proxy does not respond: check HTTPS_PROXY"),
    "no TLS": (KEYS | {"AWS_ENDPOINT_URL": "https://127.0.0.1:{port}"}, "the certificate of AWS is not trusted: "),
}


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.fixture(scope="module", params=CLIS)
def cli(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with running_cli(Path(request.param), tmp_path_factory.mktemp("cli")) as found:
        yield found


@pytest.mark.parametrize("trouble", NO_ACCOUNT)
def test_why_the_account_is_not_known_is_named_for_what_it_is(cli: Path, trouble: str, port: int) -> None:
    environment, said = NO_ACCOUNT[trouble]
    environment = {name: value.format(port=port) for name, value in environment.items()}
    path = {"PATH": f"{cli}:{os.environ['PATH']}", "AWS_EC2_METADATA_DISABLED": "true", "AWS_MAX_ATTEMPTS": "1"}
    done = piece("check_account; stop_on_problems", **path | environment)
    assert (done.returncode, f"\n- {said}" in done.stderr) == (2, True), done.stderr


@pytest.mark.parametrize(
    ("code", "message", "said"),
    [
        ("ExpiredToken", "", "the AWS credentials have expired: sign in again, for example with aws sso login"),
        ("InvalidClientTokenId", "", "AWS does not know these credentials: run aws configure, or set AWS_PROFILE: An"),
        ("SignatureDoesNotMatch", "Signature expired: 20260101T", "the clock of this machine is wrong"),
        ("AccessDenied", "", "the account of the AWS credentials could not be asked for: An error occurred"),
    ],
)
def test_credentials_that_aws_refuses_are_named_by_what_is_wrong(
    scripts: Scripts, code: str, message: str, said: str
) -> None:
    (problem,) = refused(scripts, PaperAccount(), ("GetCallerIdentity", Refused(code, message)))
    assert problem.startswith(said)


THEIRS = {
    "Id": "theirs",
    "QueueArn": "arn:aws:sqs:us-east-1:123456789012:theirs",
    "Events": ["s3:ObjectCreated:*"],
    "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": "other/"}]}},
}
OVERLAPS = 'SRC_BUCKET=their-source has the notification theirs (s3:ObjectCreated:*, prefix "other/")'


def test_what_the_account_has_no_room_for_is_named_with_what_to_do(scripts: Scripts) -> None:
    account = PaperAccount()
    account.kept[f"notifications {SOURCE}"] = {"QueueConfigurations": [THEIRS]}
    settings = {"VISIBILITY_TIMEOUT": "600", "MAX_WORKERS": "33", "DST_BUCKET": "none--use1-az4--x-s3"}
    problems = refused(scripts, account, **settings)
    for message in (
        OVERLAPS,
        "VISIBILITY_TIMEOUT=600: set at least 1200",
        "needs 66 vCPUs, the account's Fargate Spot quota is 64",
        "DST_BUCKET=none--use1-az4--x-s3 does not exist in account 123456789012: create it, or set DST_BUCKET",
    ):
        assert any(message in problem for problem in problems), (message, problems)
    account.vpcs = []
    overlaps, no_directory, no_vpc = refused(scripts, account, PREFIX_FILTER="other/and/more/", DST_BUCKET=SOURCE)
    assert overlaps.startswith(OVERLAPS)
    assert no_directory.startswith(
        f"DST_BUCKET={SOURCE}: set the name of a directory bucket, such as mirror--use1-az1-"
    )
    assert no_vpc.startswith("SUBNETS=: the account has no default VPC in us-east-1; set SUBNETS to subnets")


def test_without_a_public_subnet_or_the_right_to_read_notifications_nothing_is_made(scripts: Scripts) -> None:
    account = PaperAccount()
    account.subnets = [subnet | {"MapPublicIpOnLaunch": False} for subnet in account.subnets]
    denied = ("GetBucketNotificationConfiguration", Refused("AccessDenied", "no s3:GetBucketNotification"))
    may_not, no_subnet = refused(scripts, account, denied)
    assert may_not.startswith(f"SRC_BUCKET={SOURCE}: ")
    assert "no s3:GetBucketNotification" in may_not
    assert no_subnet.startswith("SUBNETS=: no public subnet of the default VPC")


# One that knows what 1.5 does, but for what came with 1.6.
OLD_JQ = f"""[[ $* != *'IN('* ]] || {{ echo 'jq: error: IN/1 is not defined' >&2; exit 3; }}
[[ $* != --version ]] || {{ echo jq-1.5; exit; }}
exec {shutil.which("jq")} "$@\""""
# It knows no annotations that are read later.
OLD_PYTHON = """[[ $* != --version ]] || { echo Python 3.6.15; exit; }
echo 'SyntaxError: future feature annotations is not defined' >&2; exit 1"""
# As a version manager leaves it that has no version of it.
BROKEN_AWS = "echo 'aws: command not found in any of these versions' >&2; exit 127"


@pytest.mark.parametrize(
    ("tool", "script", "message"),
    [
        ("jq", "", "jq is not installed"),
        ("jq", OLD_JQ, 'jq is older than 1.6 (jq --version says "jq-1.5"): Amazon Linux 2 has no newer one'),
        ("python3", "", "python3 is not installed: install Python 3.7 or newer"),
        ("python3", OLD_PYTHON, '(python3 --version says "Python 3.6.15"): install Python 3.7 or newer'),
        ("aws", "", "the AWS CLI (aws) is not installed"),
        ("aws", BROKEN_AWS, 'aws --version says "aws: command not found in any'),
    ],
)
def test_a_tool_that_is_missing_too_old_or_broken_is_named(
    tool: str, script: str, message: str, tmp_path: Path
) -> None:
    path = own_tool(tmp_path, script, tool) if script else path_without(tool, tmp_path)
    done = piece("deploy_all", PATH=path)
    assert (done.returncode, message in " ".join(done.stderr.split())) == (2, True), done.stderr
    assert "SyntaxError" not in done.stderr


def test_a_dry_run_whose_messages_nobody_wants_prints_its_plan(scripts: Scripts) -> None:
    scripts.account = PaperAccount()
    closed = scripts.run('"$PROJECT/deploy.sh" --dry-run --json 2>&-')
    assert closed.output == scripts.deploy("--dry-run", "--json").output
    assert closed.json["changes"] > 0


# What a run does at its end -> how it ends. Bash also runs the trap of a run in a part of it that a signal ends early.
ENDS = {"(end_run); : >$TEMP_DIR/still_there": 0, "exit 3": 3}


@pytest.mark.fast
@pytest.mark.parametrize("script", ENDS)
def test_the_folder_of_a_run_goes_at_its_end_and_not_before_also_if_ctrl_c_is_pressed_again(
    script: str, tmp_path: Path
) -> None:
    (tmp_path / "made").mkdir()
    path = own_tool(tmp_path, 'kill -INT 0; sleep 0.1; exec /usr/bin/mv "$@"', "mv")
    done = subprocess.run(
        ["bash", "-c", f"source '{PROJECT}/deploy.sh'; start_run; {script}"],
        env={"PATH": path, "HOME": "/nonexistent", "TMPDIR": str(tmp_path / "made")},
        capture_output=True,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert (done.returncode, done.stderr) == (ENDS[script], "")
    assert list((tmp_path / "made").iterdir()) == []


@pytest.mark.fast
@pytest.mark.parametrize("script", ["deploy.sh", "cleanup.sh", "sync.sh"])
def test_a_script_runs_through_symbolic_links(script: str, tmp_path: Path) -> None:
    (tmp_path / "a folder").mkdir()
    (tmp_path / "absolute").symlink_to(PROJECT / script)
    (tmp_path / "a folder/relative").symlink_to("../absolute")
    done = subprocess.run(["a folder/relative", "--version"], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.startswith(f"s3-to-s3express-sync {VERSION}"), done.stderr


# --- the release that deploy.sh prints ------------------------------------------------------------------------------


@pytest.mark.fast
def test_the_release_is_told_from_a_folder_that_cdpath_has_another_one_of(tmp_path: Path) -> None:
    (tmp_path / PROJECT.name).mkdir()
    command = ["bash", f"{PROJECT.name}/deploy.sh", "--version"]
    environment = os.environ | {"CDPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=PROJECT.parent, env=environment, capture_output=True, text=True)
    said = rf"s3-to-s3express-sync {re.escape(VERSION)}(, commit [0-9a-f]+)?\n"
    assert re.fullmatch(said, done.stdout), done.stderr


@pytest.mark.fast
def test_it_is_told_without_a_commit_if_git_refuses_the_checkout(tmp_path: Path) -> None:
    environment = os.environ | {"PATH": own_tool(tmp_path, "echo fatal: dubious ownership >&2; exit 128", "git")}
    done = subprocess.run([PROJECT / "deploy.sh", "--version"], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"s3-to-s3express-sync {VERSION}\n")
    assert "dubious ownership" in done.stderr or not (PROJECT / ".git").exists()


@pytest.mark.fast
def test_a_release_in_the_repository_of_something_else_has_no_commit(tmp_path: Path) -> None:
    release = tmp_path / "release"
    release.mkdir()
    for name in ("lib", "mirror", "operate"):
        (release / name).symlink_to(PROJECT / name)
    shutil.copy(PROJECT / "deploy.sh", release)
    environment = os.environ | {"PATH": own_tool(tmp_path, "echo 1234567", "git")}
    done = subprocess.run([release / "deploy.sh", "--version"], env=environment, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (f"s3-to-s3express-sync {VERSION}\n", "")
