"""What deploy.sh, cleanup.sh and the verbs refuse, leave and remark, each with what makes them say so in an account.

What they refuse before their first call is in test_settings.py and test_sync.py. tests/house/said.py finds what no test
names.
"""

import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from account import APP, MIRROR, PROJECT, SOURCE
from documents import Ran, Scripts, scripts_of_module, unfolded
from operated import Operated, Verbs, deployed, split, verbs
from paper_account import NUMBER, Given, Refused
from test_verbs import BODY, lacking, waited

from operate.scripts import PROGRAM

__all__ = ["verbs"]
scripts = scripts_of_module()
PLAN = "deploy.sh --dry-run"
OTHER = {"DST_BUCKET_OWNER": "999999999999"}
LOOKS = "deploy.sh: checking the settings, the account, and what exists\n"
NOT_READABLE = f"function {APP}-starter: "


class Row(NamedTuple):
    """`runs`: a script with its options, or steps of deploy.sh. `happened` makes the account what it is. `prints`: what
    the AWS CLI prints for a call, named by one of its words."""

    runs: str
    says: tuple[str, ...]
    status: int = 1
    happened: Callable[[Operated], Any] = lambda _: None
    settings: dict[str, str] = {}  # noqa: RUF012 - nobody changes it
    is_deployed: bool = True
    prints: tuple[str, str] = ("", "")
    typed: str = ""


def deny(operation: str, code: str = "AccessDenied") -> Callable[[Operated], Any]:
    return lambda account: account.deny(operation, code)


def without(name: str) -> Callable[[Operated], Any]:
    return lambda account: account.kept.pop(name)


def answering(**operations: Callable[[Given], Any]) -> Callable[[Operated], Any]:
    """The account answers these calls in another way."""
    return lambda account: vars(account).update(operations)


def refusing_docker(word: str) -> Callable[[Operated], Any]:
    def happened(account: Operated) -> None:
        usual = account.docker

        def docker(words: list[str]) -> str:
            if words[0] == word:
                raise Refused("docker", "it does not work")
            return usual(words)

        account.docker = docker  # type: ignore[method-assign]

    return happened


def elsewhere(account: Operated) -> None:
    """The source is in another Region, a subnet in another network, and there is no buildx."""
    account.s3_get_bucket_location = lambda _: {"LocationConstraint": "eu-west-1"}  # type: ignore[method-assign]
    account.subnets = [*account.subnets, account.subnets[0] | {"SubnetId": "subnet-9", "VpcId": "vpc-9"}]
    refusing_docker("buildx")(account)


def without_quota(account: Operated) -> None:
    vars(account)["service-quotas_get_service_quota"] = lambda _: {"Quota": {}}


def no_role_of_ecs(account: Operated) -> None:
    del account.kept["role-of-ecs AWSServiceRoleForECS"]
    account.deny("CreateServiceLinkedRole")


def hidden_variables(account: Operated) -> None:
    """They are encrypted with a key that the caller may not use (Lambda API reference, EnvironmentResponse)."""
    usual = account.lambda_get_function_configuration
    hidden = {"Environment": {"Error": {"ErrorCode": "AccessDeniedException", "Message": "no kms:Decrypt"}}}
    account.lambda_get_function_configuration = lambda given: usual(given) | hidden  # type: ignore[method-assign]


def an_old_tag(account: Operated) -> None:
    account.kept[f"function {APP}-starter"]["tags"]["version"] = "1.0.0"
    account.deny("TagResource")


def never_ends(account: Operated) -> None:
    account.start("t1")
    account.ecs_stop_task = lambda _: {"task": account.kept["running t1"]}  # type: ignore[method-assign]


def a_message_waits(account: Operated) -> None:
    account.waiting[""] = 1
    account.deny("GetMetricStatistics")


def who_knows_whether_it_is_paused(account: Operated) -> None:
    account.parked = [BODY]
    account.deny("GetFunctionConfiguration")


def lines_come_late(account: Operated) -> None:
    """The log has the summary, and cannot be read again."""
    account.task_log = [[lacking("a"), waited(missing=1)]]
    account.before = {"FilterLogEvents": [lambda: account.deny("FilterLogEvents")]}


def not_known_any_more(account: Operated) -> None:
    account.before = {"PutBucketMetricsConfiguration": [lambda: account.deny("GetFunctionConfiguration")]}


def cannot_list(account: Operated) -> None:
    account.status_of_debug = 255


ROWS = {
    # deploy.sh
    "nothing fits": Row(
        PLAN,
        (
            LOOKS,
            "deploy.sh: nothing was changed, because\n",
            f"SRC_BUCKET={SOURCE} is in eu-west-1, and S3 sends events only to a queue in its own Region: set"
            " REGION=eu-west-1 and a destination there",
            "SUBNETS=subnet-1,subnet-9 are in several VPCs (vpc-1 vpc-9): set subnets of one",
            "docker buildx (not found) is needed to build the image: install Docker with buildx, or set IMAGE_URI",
        ),
        2, elsewhere, {"SUBNETS": "subnet-1,subnet-9"}, is_deployed=False,
    ),
    "another partition": Row(
        "deploy.sh --policy reader",
        (
            "or name the account, for which no call is made: --account 111122223333",
            "the AWS credentials belong to the partition aws-cn, which has no S3 Express One Zone: use those of an"
            " account in the partition aws",
        ),
        2, is_deployed=False,
        prints=("get-caller-identity", f'{{"Account": "{NUMBER}", "Arn": "arn:aws-cn:iam::{NUMBER}:user/a"}}'),
    ),
    "no engine": Row(
        PLAN, ("no Docker engine answers (", "): start it, or set IMAGE_URI"), 2, refusing_docker("version"),
        is_deployed=False,
    ),
    "what belongs to others": Row(
        PLAN,
        (
            f"DST_BUCKET={MIRROR} is not checked: it belongs to account 999999999999",
            "the Fargate Spot quota is not checked: Service Quotas says none",
            f"topic {APP}-alarms: none, because ALARM_EMAIL is empty",
            f"dashboard {APP}: none, because DASHBOARD is false",
        ),
        0, without_quota, OTHER | {"DASHBOARD": "false"}, is_deployed=False,
    ),
    "no dashboard any more": Row(
        PLAN,
        (
            "the Fargate Spot quota is not checked: An error occurred (AccessDenied)",
            f"dashboard {APP}: would change (removed, because DASHBOARD is false)",
        ),
        0, deny("GetServiceQuota"), {"DASHBOARD": "false"},
    ),
    "no role of ECS": Row(
        "ensure_ecs_role",
        ("AWSServiceRoleForECS: aws iam create-service-linked-role failed: An error occurred (AccessDenied)",),
        happened=no_role_of_ecs,
    ),
    "a cluster that does not get ready": Row(
        "ensure_cluster", (f"cluster {APP}-cluster: still PROVISIONING; look at it in the ECS console",),
        happened=answering(ecs_describe_clusters=lambda _: {"clusters": [{"status": "PROVISIONING"}]}),
    ),
    "no push": Row(
        "ensure_repository ensure_image", ("it does not work", ": docker push failed, see above"),
        happened=refusing_docker("push"), is_deployed=False,
    ),
    "no tags": Row(
        "ensure_version_tag",
        ("tag version=", ", which ./sync.sh status needs to show what is deployed. An error occurred (AccessDenied)"),
        0, an_old_tag,
    ),
    "hidden variables": Row(
        "ensure_function",
        (NOT_READABLE + "nothing was changed, because its variables cannot be read: no kms:Decrypt; grant yourself",),
        happened=hidden_variables,
    ),
    "no configuration": Row(
        "ensure_notification",
        (f"nothing is known of the notifications of {SOURCE}, because the answer of S3 cannot be read: ",),
        prints=("get-bucket-notification-configuration", "[1]\n"),
    ),
    "a policy": Row(
        f"deploy.sh --policy reader --account {NUMBER}",
        (" characters without white space: a managed policy (at most 6144), or an inline policy of a role (at most",),
        0,
    ),
    "an address for alarms": Row(
        "ensure_topic", ("ops@example.com gets a mail from AWS now, and alarms once it has confirmed that\n",), 0,
        settings={"ALARM_EMAIL": "ops@example.com"},
    ),
    # cleanup.sh
    "a role of somebody else": Row(
        "cleanup.sh --yes",
        (
            f"stays: {APP}-exec-role, because it has no tag app={APP}",
            f"some of what has a name of {APP} stays, see above: if it is of this deployment, give it the tag app=",
            "a next run needs it to remove the rest",
        ),
        happened=lambda account: account.kept[f"role {APP}-exec-role"].update(tags={}),
    ),
    "a task that does not end": Row(
        "cleanup.sh --yes", (f"cluster {APP}-cluster: tasks that do not end: t1\n", "1 errors, see above: fix them"),
        happened=never_ends,
    ),
    "an old CLI": Row(
        "cleanup.sh --dry-run",
        (
            f"request metrics of {MIRROR}, if ./sync.sh cost --reads has turned any on, stay: AWS CLI 2.23.6 does not"
            " know request metrics of directory buckets",
        ),
        0, prints=("--version", "aws-cli/2.23.6 Python/3.13.0"),
    ),
    # pause, resume
    "a pause of an old release": Row(
        "sync.sh pause", ("what is deployed is too old to be paused: run ./deploy.sh first\n",),
        happened=lambda account: account.variables.pop("PROCESSES"),
    ),
    **{
        f"{verb} of hidden variables": Row(
            f"sync.sh {verb}", (NOT_READABLE + "its variables cannot be read: no kms:Decrypt; grant yourself kms:D",),
            status, hidden_variables,
        )
        for verb, status in (("pause", 1), ("resume", 1), ("wait", 3), ("status", 3))
    },
    "a pause of messages of any age": Row(
        "sync.sh pause", ("messages that were waiting before may expire earlier, because their age is not known: An ",),
        0, a_message_waits,
    ),
    # other verbs
    "no messages are moved": Row(
        "sync.sh redrive", ("nothing was moved, because whether the sync is paused is not known: An error ",),
        happened=who_knows_whether_it_is_paused,
    ),
    "no room for a task": Row(
        "sync.sh reconcile", ('the task was not started: [{"reason": "Capacity is unavailable"}]; try again in a few',),
        happened=answering(ecs_run_task=lambda _: {"tasks": [], "failures": [{"reason": "Capacity is unavailable"}]}),
    ),
    "a log that cannot be read again": Row(
        "sync.sh wait", ("wait: whether the log names more keys is not known: ",), happened=lines_come_late,
    ),
    "no answer to a question": Row(
        "sync.sh cost --estimate",
        ("that is not a whole number\n", "nothing was estimated, because there was no answer\n"), typed="x\n\x04",
    ),
    "nobody wants it": Row(
        "sync.sh cost --reads 3", ("Turn them on? [y/N] ", "nothing was turned on\n"), typed="n\n",
    ),
    "who knows what is deployed": Row(
        "sync.sh cost --reads 3 --folders a/ --yes",
        (
            f"cost: the request metrics are on, and whether {APP} is still deployed is not known: An error occurred",
            ". If it is not, turn them off with --stop\n",
        ),
        happened=not_known_any_more,
    ),
    "no task definition": Row(
        "sync.sh verify --yes", (f"there is no task definition {APP}-task in us-east-1: run ./deploy.sh\n",),
        happened=without(f"task {APP}-task:1"), settings={"SRC_BUCKET": SOURCE, "DST_BUCKET": MIRROR},
    ),
    **{
        f"{verb} without what is deployed": Row(
            f"sync.sh {verb}",
            (f"the task definition {APP}-task could not be read, see above, so the settings are not known: run this ",),
            happened=deny("DescribeTaskDefinition"), settings={"SRC_BUCKET": SOURCE, "DST_BUCKET": MIRROR},
        )
        for verb in ("verify --yes", "explain a")
    },
    "another prefix": Row(
        "sync.sh verify --yes",
        ("PREFIX_FILTER=a/, but what is deployed has : set what ./deploy.sh ran with\n",),
        settings={"PREFIX_FILTER": "a/"},
    ),
    "a full disk": Row(
        "sync.sh verify --yes --report /dev/full",
        ("verify: --report /dev/full could not be written: No space left on device\n",),
    ),
    "no pages": Row(
        "sync.sh verify --bench --yes", (f"s3://{SOURCE} could not be listed: run this again\n",),
        happened=cannot_list, settings={"VERIFY_SMALL_OBJECTS": "9", "FOLLOW_PAUSE": "0.1"},
    ),
}  # fmt: skip


def run(row: Row, scripts: Scripts, verbs: Verbs) -> Ran:
    account = deployed() if row.is_deployed else Operated()
    row.happened(account)
    program, *words = split(row.runs)
    if program == "sync.sh":
        verbs.account = account
        return verbs.run_words(*words, status=row.status, typed=row.typed, **row.settings)

    scripts.account = account
    call, text = row.prints
    if call:
        scripts.fault = lambda words, usual: (0, 1, text) if call in words else shown(*usual())
    try:
        if program.endswith(".sh"):
            return scripts.program(program, *words, status=row.status, **row.settings)
        return scripts.step(program, *words, status=row.status, **row.settings)
    finally:
        scripts.fault = None


def shown(status: int, text: str) -> tuple[int, int, str]:
    return status, 2 if status else 1, text


@pytest.mark.parametrize("name", ROWS)
def test_it_says_what_is_wrong_and_what_to_do(name: str, scripts: Scripts, verbs: Verbs) -> None:
    row = ROWS[name]
    ran = run(row, scripts, verbs)
    found = unfolded(ran.output) + ran.errors
    assert [text for text in row.says if text not in found] == [], found
    assert row.status != 2 or ran.writes == []


def test_a_verb_may_change_nothing_but_what_is_made_for_it(scripts: Scripts) -> None:
    words = f"printf '%s\\0' ACCOUNT={NUMBER} '' true | bash -c {shlex.quote(PROGRAM)} sync.sh \"$PROJECT\" run_change"
    ran = scripts.run(words, status=1)
    assert "true is not one of FOR_VERBS (lib/operate.sh)\n" in ran.errors
    assert ran.calls == []


# What a command needs for the local cloud, a verb, what becomes of what the scripts hand over to it, what it says.
HANDED_OVER = {
    "scripts of an older release": (
        "",
        "cost --estimate",
        "/^READS_ID=/d",
        "are not of one release, by READS_ID: check",
    ),
    "the local cloud": (
        " --local",
        "cost --reads 3",
        "",
        "cost: the local cloud has no request metrics, so --reads is",
    ),
}


@pytest.mark.parametrize("name", HANDED_OVER)
def test_a_verb_goes_by_what_the_scripts_hand_over(name: str, tmp_path: Path) -> None:
    """They ask AWS nothing here."""
    via, words, changed, said = HANDED_OVER[name]
    (tmp_path / "bash").write_text(
        f'#!/bin/bash\nset -- "${{@:1:5}}" false "${{@:7}}"; bash "$@" | sed -z \'{changed}\''
    )
    (tmp_path / "bash").chmod(0o755)
    start = [sys.executable, "-I", "-S", PROJECT / "operate/__main__.py", tmp_path / "bash", "/usr/bin:/bin", "sync.sh"]
    done = subprocess.run([*start, via, *words.split()], env={}, capture_output=True, text=True)
    assert (done.returncode, said in done.stderr) == (1, True), done.stderr
