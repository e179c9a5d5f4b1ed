"""What deploy.sh would send to AWS, and what cleanup.sh removes, in which order, and what stays.

A deployment with every default, one with every option on beside what others have, and one beside other accounts go to
an account on paper (documents.py). asked_for.py says what each of them is to have; test_generated.py holds many more
against it, in every state that an account may be in. Here are the orders, the tags, and what AWS refuses.
"""

import copy
import json
import re
from typing import Any, NamedTuple

import pytest
from account import APP, MIRROR, SOURCE
from call import Call
from documents import Ran, Scripts, scripts_of_module
from generated import OTHERS, STARTER_LOG, WORKER_LOG, crowd, more_subnets, spoil, theirs_that_are_gone
from oracles import TAGGED, faults
from paper_account import HERE, NUMBER, PaperAccount, Refused

from mirror.version import VERSION

STARTER = f"arn:aws:lambda:{HERE}:function:{APP}-starter"
RULE, EVENT_RULE = f"{APP}-starter-rule", f"{APP}-event-rule"
ROLES = [f"{APP}-{role}-role" for role in ("starter", "task", "exec")]
KEYS = [f"arn:aws:kms:{HERE}:key/{name}" for name in ("one", "two", "destination")]

# Every option is on, and no number is that of another setting.
FULL = {
    "VISIBILITY_TIMEOUT": "3600", "VISIBILITY_EXTEND_INTERVAL": "200", "EMPTY_POLLS_BEFORE_EXIT": "5",
    "MAX_RECEIVES": "6", "WAIT_TIME_SECONDS": "10", "MULTIPART_THRESHOLD": "104857600", "PART_SIZE": "10485760",
    "MAX_CONCURRENT_PARTS": "7", "MAX_CONCURRENT_KEYS": "9", "RETRY_BASE_SECONDS": "8", "COPY_TIMEOUT": "600",
    "S3_CLIENT": "boto3", "PROCESSES": "3", "LOG_LEVEL": "DEBUG", "COPY_LAST": "_SUCCESS", "ANNOUNCE": "all",
    "EXCLUDE": "*.tmp,*/_temporary/*", "KEEP_DAYS": "30", "PREFIX_FILTER": "models/,data sets/", "APP_NAME": APP,
    "METRICS": "true", "ALARM_LAG_SECONDS": "1200", "EVENT_SOURCE": "eventbridge", "AUDIT_DAYS": "21",
    "LAMBDA_POLL_RATE": "5", "MAX_WORKERS": "4", "MIN_WORKERS": "2", "MESSAGES_PER_WORKER": "20",
    "TASK_CPU": "4096", "TASK_MEMORY": "16384", "STARTER_COPIES": "true", "STARTER_MAX_SIZE": "1000",
    "ASSIGN_PUBLIC_IP": "DISABLED", "CREATE_VPC_ENDPOINTS": "true", "DOCKER_BUILD_FLAGS": "--build-arg BASE=other",
    "SRC_KMS_KEY_ARN": ",".join(KEYS[:2]), "DST_KMS_KEY_ARN": KEYS[2], "LOG_RETENTION_DAYS": "60",
    "ALARM_EMAIL": "ops@example.com", "ALARM_AGE_SECONDS": "1800",
}  # fmt: skip
# Names of its own, an image of somebody else, and both buckets of other accounts.
ELSEWHERE = {
    "APP_NAME": "second", "IMAGE_URI": "999999999999.dkr.ecr.eu-north-1.amazonaws.com/theirs/worker:7",
    "SRC_BUCKET_OWNER": "111111111111", "DST_BUCKET_OWNER": "222222222222", "SUBNETS": "subnet-4,subnet-3",
    "TASK_ARCH": "X86_64", "TASK_CPU": "512", "TASK_MEMORY": "1024", "LAMBDA_POLL_RATE": "60",
    "PREFIX_FILTER": "caf\u00e9 models/\u6a21\u578b/",
}  # fmt: skip
RULES = {
    "TAGS": " team = ml, Cost Center = 4 2,\u6a21=a=b,empty=",
    "ROLE_PATH": "/ml/2026/",
    "ROLE_BOUNDARY_ARN": f"arn:aws:iam::{NUMBER}:policy/rules/workloads",
}


class Deployed(NamedTuple):
    """A deployment's calls, and the account after it."""

    ran: Ran
    account: PaperAccount


scripts = scripts_of_module()


def copied(kept: dict[str, Any]) -> PaperAccount:
    """An account with these things in it."""
    account = PaperAccount()
    account.kept |= copy.deepcopy(kept)
    return account


def deployed(scripts: Scripts, settings: dict[str, str], before: Deployed | None = None) -> Deployed:
    scripts.account = copied(before.account.kept if before else {})
    ran = scripts.deploy(**settings)
    return Deployed(ran, copied(scripts.account.kept))


@pytest.fixture(scope="module")
def plain(scripts: Scripts) -> Deployed:
    return deployed(scripts, {})


@pytest.fixture(scope="module")
def full(scripts: Scripts) -> Deployed:
    """In an account where ECS has never been used, beside what others have."""
    account = scripts.account = copied(crowd(scripts.with_deployment(**OTHERS).kept))
    del account.kept["role-of-ecs AWSServiceRoleForECS"]
    ran = scripts.deploy(**FULL)
    return Deployed(ran, copied(account.kept))


@pytest.fixture(scope="module")
def elsewhere(scripts: Scripts) -> Deployed:
    return deployed(scripts, ELSEWHERE)


@pytest.fixture
def account(scripts: Scripts) -> PaperAccount:
    """An account with a deployment of every default, for a step that finds something changed there."""
    return scripts.with_deployment()


# --- what there is after a deployment -------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "settings"), [("plain", {}), ("full", FULL), ("elsewhere", ELSEWHERE)])
def test_everything_is_as_the_settings_ask(name: str, settings: dict[str, str], request: pytest.FixtureRequest) -> None:
    found: Deployed = request.getfixturevalue(name)
    assert list(faults(found.account, settings)) == []
    owner = settings.get("SRC_BUCKET_OWNER", NUMBER)
    calls = [call for call in found.ran.calls if call.parameters.get("Bucket") == SOURCE]
    assert {call.operation for call in calls if call.parameters["ExpectedBucketOwner"] == owner} == {
        *("GetBucketLocation", "GetBucketNotificationConfiguration", "PutBucketNotificationConfiguration")
    }
    # S3 is to say if it cannot send to our queue, but not to look again at queues and functions of others.
    (put,) = found.ran.sent("PutBucketNotificationConfiguration")
    assert put.get("SkipDestinationValidation", False) == (name == "full")
    too_much = f"second-task-role may read s3://{SOURCE}/caf\u00e9 models/*, because an IAM policy cannot"
    assert (too_much in found.ran.errors) == (name == "elsewhere")


def test_what_somebody_has_changed_is_as_the_settings_ask_after_one_run(scripts: Scripts) -> None:
    account = scripts.with_deployment(**FULL)
    spoil(account.kept)
    scripts.deploy(**FULL)
    assert list(faults(account, FULL)) == []
    assert theirs_that_are_gone(account.kept) == []


def test_tasks_run_in_up_to_sixteen_subnets(scripts: Scripts) -> None:
    account = scripts.account = PaperAccount()
    account.subnets = [one | {"SubnetId": f"{one['SubnetId']:0<24}"} for one in more_subnets()[0][-16:]]
    settings = {"TASK_ARCH": "X86_64", "SUBNETS": ", ".join(one["SubnetId"] for one in account.subnets)}
    scripts.deploy(**settings)
    assert list(faults(account, settings)) == []
    assert scripts.deploy().writes == []


# --- what is needed first -------------------------------------------------------------------------------------------

# The later would fail, or lose what comes in between.
FIRST = [
    (("CreateLogGroup", STARTER_LOG), ("CreateFunction", f"{APP}-starter")),  # Lambda would make it, without an end
    (("CreateQueue", f"{APP}-dlq"), ("CreateQueue", f"{APP}-q")),
    (("CreateQueue", f"{APP}-q"), ("PutBucketNotificationConfiguration", SOURCE)),
    (("CreateQueue", f"{APP}-q"), ("PutTargets", EVENT_RULE)),
    (("PutRolePolicy", f"{APP}-starter-role"), ("CreateFunction", f"{APP}-starter")),
    (("CreateRole", f"{APP}-exec-role"), ("RegisterTaskDefinition", f"{APP}-task")),
    (("push", ""), ("RegisterTaskDefinition", f"{APP}-task")),
    (("CreateServiceLinkedRole", ""), ("CreateCluster", "")),
    (("RegisterTaskDefinition", f"{APP}-task"), ("PutRule", RULE)),
    (("CreateFunction", f"{APP}-starter"), ("PutRule", RULE)),
    (("AddPermission", f"{APP}-starter"), ("PutTargets", RULE)),
    (("CreateTopic", f"{APP}-alarms"), ("PutMetricAlarm", f"{APP}-dead-letters")),
    (("PutMetricAlarm", f"{APP}-audit"), ("PutMetricFilter", f"{APP}-audit")),
    (("PutTargets", RULE), ("PutBucketLifecycleConfiguration", MIRROR)),  # which may be refused
]


def order(ran: Ran) -> list[tuple[str, str]]:
    """(operation, what it is about) of each write."""
    names = ("FunctionName", "RoleName", "QueueName", "filterName", "logGroupName", "AlarmName", "Name", "Rule")
    names += ("Bucket", "family")
    return [
        (call.operation, next((call.parameters[n] for n in names if n in call.parameters), "")) for call in ran.writes
    ]


def test_what_is_needed_is_made_first(plain: Deployed, full: Deployed) -> None:
    made, made_full = order(plain.ran), order(full.ran)
    for first, then in FIRST:
        found = made if first in made and then in made else made_full
        assert found.index(first) < found.index(then), (first, then)


def test_a_new_release_is_the_tag_of_everything_and_of_the_function_last(scripts: Scripts, full: Deployed) -> None:
    """A run that is interrupted in between is completed by the next one, which reads the function's; 1.0.0 had none."""
    scripts.account.kept = json.loads(json.dumps(full.account.kept).replace(f'"{VERSION}"', '"1.0.0"'))
    del scripts.account.kept[f"function {APP}-starter"]["tags"]["version"]
    ran = scripts.step("ensure_version_tag", **FULL)
    assert scripts.account.kept == full.account.kept
    assert ran.writes[-1].service == "lambda"
    assert "changed (was 1.0.0)" in ran.output


# --- what goes ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def back(scripts: Scripts, full: Deployed) -> Deployed:
    """A deployment with every option on, and then with every default, which an empty setting takes."""
    return deployed(scripts, dict.fromkeys(FULL, "") | {"APP_NAME": APP}, full)


def test_every_option_can_be_turned_off(back: Deployed) -> None:
    assert list(faults(back.account, {})) == []
    assert "changed (removed, because ALARM_EMAIL is empty)" in back.ran.output
    assert "EventBridgeConfiguration" not in back.account.kept[f"notifications {SOURCE}"]
    assert f"From now on, changes in\n  s3://{SOURCE}/\nare copied to\n  s3://{MIRROR}\n" in back.ran.output
    assert "\nSince the last ./deploy.sh, PREFIX_FILTER or EXCLUDE has changed:\n- Existing objects" in back.ran.output


def in_words(ran: Ran) -> list[str]:
    """Each write in a word, of those that change what sends events or may copy, and each wait."""
    return [found for call in ran.calls if (found := word(call))]


def word(call: Call) -> str:
    given = call.parameters
    if call.service == "bash":
        return f"sleep {given['seconds']}"
    if call.operation == "SetQueueAttributes" and "Policy" in given["Attributes"]:
        return "queue: " + "+".join(one["Sid"] for one in json.loads(given["Attributes"]["Policy"])["Statement"])
    if call.operation == "PutBucketNotificationConfiguration":
        wanted = given["NotificationConfiguration"]
        ours = any(one["Id"] == APP for one in wanted.get("QueueConfigurations", []))
        return "bucket:" + " notification" * ours + " switch" * ("EventBridgeConfiguration" in wanted)
    if call.operation == "PutRolePolicy" and given["RoleName"] == f"{APP}-starter-role":
        return "rights of the starter"
    if call.operation in ("RegisterTaskDefinition", "PutBucketLifecycleConfiguration"):
        return call.operation
    return call.operation if call.service in ("events", "lambda") and call.is_write else ""


def test_what_is_turned_off_works_until_what_replaces_it_does(back: Deployed) -> None:
    """A run of the function may come at any time, and a change of notifications takes effect after five minutes."""
    assert in_words(back.ran) == [
        "queue: s3-events+eventbridge",
        "PutBucketLifecycleConfiguration",  # expires less, before a worker copies more
        "RegisterTaskDefinition",
        "UpdateFunctionConfiguration",  # it does not copy any more
        "UpdateFunctionCode",  # so it needs no libraries
        "PutRule",  # another rate
        "bucket: notification switch",
        "sleep 60",  # once its last run is over, it needs no rights either
        "rights of the starter",
        *["sleep 30"] * 10,
        "bucket: notification",
        "RemovePermission",
        "RemoveTargets",
        "DeleteRule",
        "queue: s3-events",
    ]


TURNED_ON = {
    # That the switch is ours is remembered before it is turned on.
    "events of EventBridge": (
        {"EVENT_SOURCE": "eventbridge", "CHANGEOVER_SECONDS": "70"},
        [
            *("queue: s3-events+eventbridge", "RegisterTaskDefinition", "PutRule", "AddPermission", "PutTargets"),
            "TagResource",
            *(
                "bucket: notification switch",
                "sleep 30",
                "sleep 30",
                "sleep 10",
                "bucket: switch",
                "queue: eventbridge",
            ),
        ],
    ),
    "copies by the starter": (
        {"STARTER_COPIES": "true"},
        ["rights of the starter", "RegisterTaskDefinition", "UpdateFunctionCode", "UpdateFunctionConfiguration"],
    ),
}


@pytest.mark.usefixtures("account")
@pytest.mark.parametrize("name", TURNED_ON)
def test_what_is_turned_on_is_needed_by_nothing_before_it_works(scripts: Scripts, name: str) -> None:
    settings, words = TURNED_ON[name]
    assert in_words(scripts.deploy(**settings)) == words


# --- what AWS refuses -----------------------------------------------------------------------------------------------

NOT_PASSED = f"User: u is not authorized to perform: iam:PassRole on resource: arn:aws:iam::1:role/{ROLES[0]}"
NO_BOUNDARY = f"arn:aws:iam::{NUMBER}:policy/none"
NO_PRINCIPAL = "the KMS key is invalid for CreateGrant. KMS Message: ARN does not refer to a valid principal"
# The same words about a role that this run made are waited for: hostile.py says them in test_generated.py.
FOR_GOOD = [
    ("AccessDeniedException", NOT_PASSED, "grant yourself iam:PassRole"),
    ("InvalidParameterValueException", NO_PRINCIPAL, "CreateGrant"),
]


@pytest.mark.parametrize(("code", "message", "said"), FOR_GOOD)
def test_a_refusal_for_good_ends_the_run_with_what_to_do(
    scripts: Scripts, account: PaperAccount, code: str, message: str, said: str
) -> None:
    del account.kept[f"function {APP}-starter"]
    account.refusals = [("CreateFunction", Refused(code, message))]
    ran = scripts.step("ensure_function", status=1)
    assert "waiting" not in ran.errors
    assert f"function {APP}-starter: aws lambda create-function failed" in ran.errors
    assert said in ran.errors
    assert f"function {APP}-starter" not in ran.output


def test_a_refusal_that_lasts_ends_the_run(scripts: Scripts, account: PaperAccount) -> None:
    del account.kept[f"queue {APP}-dlq"]
    account.refusals = [("CreateQueue", Refused("QueueDeletedRecently"))] * 9
    ran = scripts.step(f"ensure_queue {APP}-dlq", status=1)
    assert ran.errors.count("waiting: ") == 2  # RETRY_LIMIT is 3
    assert f"dead-letter queue {APP}-dlq: aws sqs create-queue failed" in ran.errors


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            {"ROLE_PATH": "/a/"},
            "is under /, and IAM cannot move a role: set ROLE_PATH=/, or run ./cleanup.sh first, which also removes",
        ),
        (
            {"ROLE_BOUNDARY_ARN": NO_BOUNDARY},
            f"- ROLE_BOUNDARY_ARN={NO_BOUNDARY}: An error occurred (NoSuchEntity)",
        ),
    ],
    ids=["another path", "no boundary"],
)
@pytest.mark.usefixtures("account")
def test_another_path_or_a_boundary_that_does_not_exist_is_refused_before_the_first_write(
    scripts: Scripts, asked: dict[str, str], said: str
) -> None:
    ran = scripts.deploy(status=2, **asked)
    assert said in " ".join(ran.errors.split())
    assert ran.writes == []


def test_who_may_not_tag_is_told_so_and_has_the_rest(scripts: Scripts, account: PaperAccount) -> None:
    """A security group of somebody else is not tagged either."""
    account.kept["security-group sg-ours"]["Tags"] = []
    account.refusals = [("TagRole", Refused("AccessDenied", "no iam:TagRole"))]
    ran = scripts.step("ensure_version_tag", TAGS="team=ml")
    assert f"tag version={VERSION}: left to you, see the end" in ran.output
    assert "no iam:TagRole" in ran.output
    assert "CreateTags" not in [call.operation for call in ran.writes]


# --- cleaning up --------------------------------------------------------------------------------------------------


def running(number: int, wanted: str, last: str) -> dict[str, Any]:
    return {"taskArn": f"arn:aws:ecs:{HERE}:task/{APP}-cluster/{number}", "desiredStatus": wanted, "lastStatus": last}


# Nothing new arrives, nothing new is started, what runs is ended; then what it used goes, and what watched it.
GOES_FIRST = [
    ("PutBucketNotificationConfiguration", "DeleteRule"),
    ("DeleteRule", "DeleteFunction"),
    ("DeleteFunction", "StopTask"),  # it would start others
    ("StopTask", "DeleteCluster"),
    ("DeleteCluster", "DeleteSecurityGroup"),
    ("DeleteCluster", "DeleteQueue"),
    ("DeleteFunction", "DeleteLogGroup"),  # a last run would make it again
    ("DeleteCluster", "DeleteRole"),
    ("DeleteMetricFilter", "DeleteLogGroup"),
    ("DeleteAlarms", "DeleteTopic"),
    ("DeregisterTaskDefinition", "DeleteTaskDefinitions"),
]


def test_cleaning_up_takes_the_chain_from_its_beginning(scripts: Scripts, full: Deployed) -> None:
    """Two workers run and one ends; ECS shows a hundred that have ended, and takes a hundred in a question."""
    account = scripts.account = copied(full.account.kept)
    tasks = [running(number, "STOPPED", "STOPPED") for number in range(100)]
    tasks += [running(100, "STOPPED", "DEACTIVATING")]
    tasks += [running(number, "RUNNING", "RUNNING") for number in (101, 102)]
    account.kept |= {f"running {number}": task for number, task in enumerate(tasks)}
    ran = scripts.clean_up()
    assert {call["task"] for call in ran.sent("StopTask")} == {"100", "101", "102"}
    assert "role-of-ecs AWSServiceRoleForECS" in account.kept  # the account may have other use of it by now
    operations = [call.operation for call in ran.writes]
    for first, then in GOES_FIRST:
        last = len(operations) - 1 - operations[::-1].index(first)
        assert last < operations.index(then), (first, then)


def test_what_does_not_have_our_tag_stays(scripts: Scripts, full: Deployed) -> None:
    """Role names are the same in all Regions, so a role of our name and tag may be that of another one."""
    kept = copy.deepcopy(full.account.kept)
    for name, document in kept.items():
        if name.startswith(tuple(f"{kind} " for kind in (*TAGGED, "endpoint"))):
            document["Tags" if "Tags" in document else "tags"] = {} if "tags" in document else []
    kept[f"role {ROLES[1]}"]["tags"] = {"app": APP, "region": "eu-north-1"}
    kept[f"rule {RULE}"]["tags"] = {"app": f"{APP}-2"}
    account = scripts.account = copied(kept)
    ran = scripts.deploy(status=2, **FULL)
    assert f"- APP_NAME={APP}: its role {ROLES[1]} belongs to someone else or to another Region" in ran.errors
    assert ran.writes == []

    ran = scripts.clean_up(status=1)
    # These have no tags, and are known by their names, their queue or their Region.
    known = ("filter", "bucket-policy", "lifecycle", "dashboard", "notifications")
    gone = {name for name in kept if account.kept.get(name) != kept[name]}
    assert {name for name in gone if not name.startswith(known)} == set()
    assert f"stays: {ROLES[1]}, because it is of the deployment in eu-north-1" in ran.errors
    found = re.findall(rf"stays: (\S+?)(?: \(.*\))?, because it has no tag app={APP}$", ran.errors, re.MULTILINE)
    alarms = [one["AlarmName"] for one in full.account.of_kind("alarm") if not one["AlarmName"][-1].isdigit()]
    assert sorted(found) == sorted(
        [
            *(f"{APP}-q", f"{APP}-dlq", ROLES[0], ROLES[2], RULE, EVENT_RULE, APP, f"{APP}-starter"),
            *(f"{APP}-cluster", WORKER_LOG, STARTER_LOG, "sg-ours", f"{APP}-alarms", *alarms),
        ]
    )
