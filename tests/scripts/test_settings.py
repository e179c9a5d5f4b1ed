"""What the scripts refuse before they call AWS, and what a setting becomes in a filter or a policy."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from account import PROJECT

from launch.settings import NUMBER_SETTINGS as STARTER_SETTINGS
from mirror.settings import NUMBER_SETTINGS
from mirror.version import VERSION

SETTINGS = {"REGION": "us-east-1", "SRC_BUCKET": "their-source", "DST_BUCKET": "mirror--use1-az4--x-s3"}
SCRIPTS = (("deploy.sh",), ("cleanup.sh", "--yes"), ("sync.sh", "status"), ("sync.sh", "redrive"))
PASSED = "no problem"
OURS = "ghcr.io/their-name/s3-to-s3express-sync"
KEY = "arn:aws:kms:us-east-1:123456789012:key/1234-ab"


def environment(**settings: str) -> dict[str, str]:
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8", **SETTINGS, **settings}


def bash(script: str, entry: str | Path = "deploy.sh", **settings: str) -> str:
    """What functions of a script print."""
    command = ["bash", "-c", f'source "{PROJECT / entry}"; start_run; set_account 123456789012; {script}']
    done = subprocess.run(command, env=environment(**settings), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def problems(**settings: str) -> str:
    """What deploy.sh refuses before it looks at the account."""
    return bash(f'check_before_calls; check_settings; printf "%s\\n" "${{PROBLEMS[@]-{PASSED}}}"', **settings)


def run_counting_calls(folder: Path, *command: str, **settings: str) -> tuple[int, str, str]:
    """(exit status, stderr, calls of the AWS CLI) of a script, whose AWS CLI writes down its calls and fails."""
    (folder / "aws").write_text(f'#!/bin/sh\necho "$@" >>"{folder}/calls"\nexit 255\n')
    (folder / "aws").chmod(0o755)
    (folder / "calls").write_text("")
    path = {"PATH": f"{folder}:/usr/local/bin:/usr/bin:/bin"}
    done = subprocess.run(
        [PROJECT / command[0], *command[1:]], env=environment(**settings) | path, capture_output=True, text=True
    )
    return done.returncode, done.stderr, (folder / "calls").read_text()


@pytest.mark.parametrize("value", ["1", "yes", "TRUE", "truefalse", " true"])
@pytest.mark.parametrize("script", SCRIPTS, ids=" ".join)
@pytest.mark.parametrize("name", ["DRY_RUN", "CREATE_VPC_ENDPOINTS"])
def test_a_switch_is_true_or_false_or_the_script_ends_before_its_first_call(
    name: str, script: tuple[str, ...], value: str, tmp_path: Path
) -> None:
    status, errors, calls = run_counting_calls(tmp_path, *script, **{name: value})
    assert calls == ""
    assert (status, f"{name}={value}: set true or false" in errors) == (2, True), errors


@pytest.mark.parametrize("region", ["cn-north-1", "us-gov-west-1", "us-iso-east-1", "us-isob-east-1", "eusc-de-east-1"])
@pytest.mark.parametrize("script", SCRIPTS, ids=" ".join)
def test_a_region_of_another_partition_is_refused_before_the_first_call(
    script: tuple[str, ...], region: str, tmp_path: Path
) -> None:
    status, errors, calls = run_counting_calls(tmp_path, *script, REGION=region)
    assert calls == ""
    assert (status, f"REGION={region}: S3 Express One Zone exists only in the partition aws" in errors) == (2, True)


def test_credentials_of_another_partition_are_refused() -> None:
    identity = json.dumps({"Account": "123456789012", "Arn": "arn:aws-cn:iam::123456789012:user/u"})
    found = bash(f"aws_or_error() {{ echo '{identity}'; }}; check_account; printf '%s\\n' \"${{PROBLEMS[@]}}\"")
    assert "the AWS credentials belong to the partition aws-cn" in found


def test_a_dry_run_of_a_verb_only_looks() -> None:
    stubs = 'verb_redrive() { echo "$@"; }; verb_reconcile() { echo "$@"; }; verb_status() { echo "$@"; };'
    script = f"{stubs} main redrive --purge --yes; main reconcile --deep; main status"
    assert bash(script, "sync.sh", DRY_RUN="true").splitlines() == ["--purge --yes --list", "--deep --dry-run", ""]
    assert bash(script, "sync.sh").splitlines() == ["--purge --yes", "--deep", ""]


def test_a_dry_run_makes_no_acceptance_run(tmp_path: Path) -> None:
    status, errors, calls = run_counting_calls(tmp_path, "sync.sh", "verify", "--yes", DRY_RUN="true")
    assert (status, "DRY_RUN=false" in errors, calls) == (2, True, ""), errors


@pytest.mark.parametrize("script", ["deploy.sh", "cleanup.sh"])
def test_a_dry_run_does_not_touch_a_local_cloud(script: str, tmp_path: Path) -> None:
    status, errors, _ = run_counting_calls(tmp_path, script, "--local", DRY_RUN="true")
    assert (status, "unset DRY_RUN or set it to false" in errors) == (2, True), errors


# Setting, value, part of the message. What is allowed stands beside what is not.
REFUSED = (
    ("SRC_BUCKET", "Their_Source", "set the name of a standard bucket"),
    ("APP_NAME", "mirror-", "does not end in a hyphen"),
    ("APP_NAME", "sg-mirror", "does not begin with sg-"),
    ("APP_NAME", "a" * 51, "2 to 50"),
    ("PREFIX_FILTER", "a\tb", "without control characters"),
    ("PREFIX_FILTER", "a\nb", "without control characters"),
    ("PREFIX_FILTER", "a\x7f", "without control characters"),
    ("PREFIX_FILTER", "a/\udcff/", "UTF-8"),
    ("PREFIX_FILTER", "a" * 1025, "it has 1025 characters in the encoded form"),
    ("PREFIX_FILTER", "\u6a21" * 114, "it has 1026 characters in the encoded form"),
    ("PREFIX_FILTER", "a$/", "wildcards"),
    ("SRC_KMS_KEY_ARN", f"{KEY},alias/aws/s3", "alias/aws/s3 is not the ARN of a KMS key"),
    ("SRC_KMS_KEY_ARN", KEY.replace("us-east-1", "eu-west-1"), "in REGION=us-east-1"),
    ("SRC_KMS_KEY_ARN", KEY[:-1] + "*", "is not the ARN of a KMS key"),
    ("SRC_KMS_KEY_ARN", ",".join([KEY] * 51), "at most 50 keys"),
    ("DST_KMS_KEY_ARN", KEY.replace("key/", "alias/"), "is not the ARN of a KMS key"),
    ("DST_KMS_KEY_ARN", f"{KEY},{KEY}2", "at most 1 key, because a directory bucket keeps one for its whole life"),
    ("TAGS", "team", '"team" is not a tag: write KEY=VALUE'),
    ("TAGS", "team=ml,", '"" is not a tag'),
    ("TAGS", "=ml", '"" is not a tag'),
    ("TAGS", "team=m&l", "team=m&l is not a tag: a key has up to 128"),
    ("TAGS", "team=m\tl", "is not a tag"),
    ("TAGS", f"{'k' * 129}=v", "is not a tag"),
    ("TAGS", f"k={'v' * 257}", "is not a tag"),
    ("TAGS", "AWS:team=ml", "AWS:team=ml: keys and values that begin with aws: are reserved"),
    ("TAGS", "team=Aws:ml", "team=Aws:ml: keys and values that begin with aws: are reserved"),
    ("TAGS", "team=ml,Version=2", "the tag Version is set by deploy.sh itself"),
    ("TAGS", "team=ml,Team=ai", "team and Team are the same tag for IAM"),
    ("TAGS", ",".join(f"k{number}=v" for number in range(48)), "at most 47 tags"),
    ("ROLE_PATH", "ml", "begins and ends with a slash"),
    ("ROLE_PATH", f"/{'a' * 511}/", "at most 512"),
    ("ROLE_BOUNDARY_ARN", "arn:aws:iam::1:policy/a", "the ARN of an IAM policy"),
    ("LOG_RETENTION_DAYS", "1 3", "set one of 1 3 5"),
    ("ALARM_EMAIL", "http://a@example.com", "a mail address"),
    ("ALARM_EMAIL", "ops@localhost", "a mail address"),
    ("IMAGE_URI", "worker:1 ", "the name of an image"),
    ("IMAGE_URI", "--help", "the name of an image"),  # an option of docker
    ("IMAGE_URI", f"{OURS}:1.2.0", f"is the image of 1.2.0, but this checkout is {VERSION}"),
    ("IMAGE_URI", f"{OURS}:0.9.0-dev@sha256:" + "0" * 64, "is the image of 0.9.0-dev"),
    ("IMAGE_URI", f"{OURS.replace('their', 'Their')}:7", "write the path in lower case"),
    ("ECR_REGISTRY", "host/path", "the host of a registry"),
    ("ECR_REGISTRY", "-host", "the host of a registry"),
    ("RETRY_LIMIT", "often", "whole number from 1 to 10000"),
    ("RETRY_PAUSE", "5s", "set seconds"),
)
ALLOWED = (
    ("APP_NAME", "a--b"),
    ("APP_NAME", "a" * 50),
    ("PREFIX_FILTER", "a b/\u00e9/\u6a21\u578b/"),
    ("PREFIX_FILTER", "a" * 1024),
    ("SRC_KMS_KEY_ARN", KEY),
    ("SRC_KMS_KEY_ARN", f"{KEY}, {KEY}2"),
    ("TAGS", " Cost Center = 4 2 , \u6a21=\u00e9=+-@_.:/,empty="),
    ("TAGS", f"{'k' * 128}={'v' * 256}"),
    ("TAGS", ",".join(f"k{number}=v" for number in range(47))),
    ("ROLE_PATH", f"/{'a' * 510}/"),
    ("ALARM_EMAIL", "first.last+sync@mail.example.com"),
    ("IMAGE_URI", "123456789012.dkr.ecr.us-east-1.amazonaws.com/a/b@sha256:" + "0" * 64),
    ("IMAGE_URI", f"{OURS}:{VERSION}"),
    ("IMAGE_URI", f"{OURS}:7"),  # their own numbers
    ("IMAGE_URI", "Registry.example:5000/theirs/worker:1.2.0-B"),
    ("ECR_REGISTRY", "127.0.0.1:4566"),
    ("RETRY_PAUSE", "0.05"),
)


@pytest.mark.parametrize(("name", "value", "message"), REFUSED, ids=[f"{n}-{m}" for n, _, m in REFUSED])
def test_what_aws_would_refuse_half_way_is_refused_before(name: str, value: str, message: str) -> None:
    found = problems(**{name: value})
    assert message in found
    assert found.startswith(name)
    assert found.count("\n") == 1


def test_what_aws_takes_is_taken() -> None:
    for name, value in ALLOWED:
        assert problems(**{name: value}) == f"{PASSED}\n", (name, value)


COPYING = "or messages come back while their copies are still running"
# Settings, and what is said if they do not go together.
TOGETHER: tuple[tuple[dict[str, str], str], ...] = (
    ({"VISIBILITY_EXTEND_INTERVAL": "300", "VISIBILITY_TIMEOUT": "1199"}, COPYING),
    ({"VISIBILITY_EXTEND_INTERVAL": "300", "VISIBILITY_TIMEOUT": "1200"}, ""),
    ({"COPY_TIMEOUT": "60", "VISIBILITY_EXTEND_INTERVAL": "15", "VISIBILITY_TIMEOUT": "74"}, COPYING),
    ({"COPY_TIMEOUT": "60", "VISIBILITY_EXTEND_INTERVAL": "15", "VISIBILITY_TIMEOUT": "75"}, ""),
    ({"MIN_WORKERS": "3", "MAX_WORKERS": "2"}, "MIN_WORKERS=3 is more than MAX_WORKERS=2: lower the one or raise the"),
    ({"MIN_WORKERS": "2", "MAX_WORKERS": "2"}, ""),
    ({"MIN_WORKERS": "9", "MAX_WORKERS": "ten"}, "MAX_WORKERS=ten: set a whole number"),
    ({"AUDIT_DAYS": "7", "LAMBDA_POLL_RATE": "16"}, "the starter would miss the time of an audit"),
    ({"AUDIT_DAYS": "7", "LAMBDA_POLL_RATE": "15"}, ""),
    ({"AUDIT_DAYS": "", "LAMBDA_POLL_RATE": "60"}, ""),
    ({"AUDIT_DAYS": "30", "LOG_RETENTION_DAYS": "30"}, "the log would not keep what an audit found"),
    ({"AUDIT_DAYS": "29", "LOG_RETENTION_DAYS": "30"}, ""),
)


@pytest.mark.parametrize(("settings", "message"), TOGETHER)
def test_settings_that_do_not_go_together_are_refused(settings: dict[str, str], message: str) -> None:
    found = problems(**settings)
    assert message in found
    assert (found == f"{PASSED}\n") is (message == "")
    assert found.count("\n") == 1


# Setting, lowest and highest value.
LIMITS = {
    name: (int(lowest), int(highest))
    for name, lowest, highest in re.findall(r"'(\w+) (\d+) (\d+)'", (PROJECT / "lib/settings.sh").read_text())
}


def test_the_limits_of_settings_are_those_of_the_worker_and_the_starter() -> None:
    theirs = NUMBER_SETTINGS | STARTER_SETTINGS
    theirs["EMPTY_POLLS_BEFORE_EXIT"] = (3, 1, 1000)  # 0, to stay forever, is the starter's to give
    theirs["AUDIT_DAYS"] = (0, 1, 90)  # 0, never, is the empty setting
    theirs["KEEP_DAYS"] = (0, 1, 3650)  # 0, forever, likewise
    theirs["TASK_MEMORY"] = (4096, 512, 249856)  # 0, not known, is of a worker that runs by itself
    assert {name: numbers[1:] for name, numbers in theirs.items()}.items() <= LIMITS.items()
    given = dict(re.findall(r'^: "\$\{(\w+):=(\d+)\}"', (PROJECT / "deploy.sh").read_text(), re.MULTILINE))
    assert {name: str(theirs[name][0]) for name in theirs.keys() & given.keys()}.items() <= given.items()


# --- a prefix in a filter and in a policy ---------------------------------------------------------------------------


def notification(**settings: str) -> dict[str, Any]:
    (found,) = json.loads(bash("fact our_notifications", **settings))
    return found


@pytest.mark.parametrize(
    ("prefix", "value"),
    [
        ("models/", "models/"),
        ("my models/v 1/", "my+models/v+1/"),
        ("a+b/", "a%2Bb/"),
        ("day=1/", "day%3D1/"),
        ("100%20/", "100%2520/"),
        ("\u6a21/", "%E6%A8%A1/"),
    ],
)
def test_the_filter_is_written_as_keys_are_in_events(prefix: str, value: str) -> None:
    rules = notification(PREFIX_FILTER=prefix)["Filter"]["Key"]["FilterRules"]
    assert rules == [{"Name": "prefix", "Value": value}]


@pytest.mark.parametrize(
    "theirs", ["my models/", "my+models/", "my%20models/", "my", "my models/v 1/b", "my%20models%2fv"]
)
def test_a_notification_of_others_overlaps_however_its_prefix_is_written(theirs: str) -> None:
    rules = {"Key": {"FilterRules": [{"Name": "Prefix", "Value": theirs}]}}
    other = {"Id": "theirs", "QueueArn": "arn:theirs", "Events": ["s3:ObjectCreated:*"], "Filter": rules}
    have = json.dumps({"QueueConfigurations": [other]})
    assert "theirs" in bash(f"overlapping_notifications '{have}'", PREFIX_FILTER="my models/v 1/")
    assert bash(f"overlapping_notifications '{have}'", PREFIX_FILTER="My models/") == ""


def task_policy(**settings: str) -> list[dict[str, Any]]:
    return json.loads(bash("worker_statements", **settings))


@pytest.mark.parametrize(
    ("prefix", "resource"),
    [
        ("my models/", "my models/*"),
        ("caf\u00e9/", "caf\u00e9/*"),
        ("data/\u6a21\u578b/v1/", "data/*"),
        ("\u6a21\u578b/", "*"),
        ("", "*"),
    ],
)
def test_a_policy_holds_only_characters_that_iam_takes(prefix: str, resource: str) -> None:
    granted = next(found for found in task_policy(PREFIX_FILTER=prefix) if found["Action"] == "s3:GetObject")
    assert granted["Resource"] == f"arn:aws:s3:::their-source/{resource}"


def test_every_source_key_is_granted_and_one_alone_as_before() -> None:
    def keys(value: str) -> Any:
        return [found["Resource"] for found in task_policy(SRC_KMS_KEY_ARN=value) if found["Action"] == "kms:Decrypt"]

    assert keys("") == []
    assert keys(KEY) == [KEY]
    assert keys(f"{KEY},{KEY}2, {KEY}3") == [[KEY, f"{KEY}2", f"{KEY}3"]]


OLD_RELEASE = """
ask_function() { printf '%s' "$STARTER"; }
aws_if_allowed() { printf '%s' "$ANSWER"; }
check_release
printf '%s\\n' "${PROBLEMS[@]-PASSED}"
"""


@pytest.mark.parametrize(
    ("source", "starter", "tags", "refused"),
    [
        ("eventbridge", "{}", '{"Tags": {}}', True),
        ("eventbridge", "{}", '{"Tags": {"version": "1.1.0"}}', False),
        ("eventbridge", "{}", "", False),  # denied: nothing is known
        ("eventbridge", "", '{"Tags": {}}', False),
        ("sqs", "{}", '{"Tags": {}}', False),
    ],
)
def test_workers_that_cannot_read_events_of_eventbridge_get_none(
    source: str, starter: str, tags: str, refused: bool
) -> None:
    output = bash(OLD_RELEASE, EVENT_SOURCE=source, STARTER=starter, ANSWER=tags)
    assert ("release 1.0.0 is deployed" in output) == refused, output
    assert (output == "PASSED\n") != refused
