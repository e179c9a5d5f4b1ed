"""What deploy.sh would send to AWS, and what cleanup.sh removes, in which order, and what stays.

A deployment with every default, one with every option on beside what others have, and one beside other accounts go to
an account on paper (documents.py). asked_for.py says what each of them is to have; test_generated.py holds more of them
against it.
"""

import copy
import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from account import APP, MIRROR, PROJECT, REGION, SOURCE
from asked_for import abort, keeping
from documents import Ran, Scripts, sourced_scripts
from generated import STARTER_LOG, WORKER_LOG, theirs
from oracles import TAGGED, faults
from paper_account import HERE, NUMBER, VPC, PaperAccount, Refused
from recorder import Call

from mirror.version import VERSION

QUEUE = f"arn:aws:sqs:{HERE}:{APP}-q"
STARTER = f"arn:aws:lambda:{HERE}:function:{APP}-starter"
RULE, EVENT_RULE = f"{APP}-starter-rule", f"{APP}-event-rule"
TOPIC = f"arn:aws:sns:{HERE}:{APP}-alarms"
DESTINATION = f"arn:aws:s3express:{HERE}:bucket/{MIRROR}"
# The steps of a change of EVENT_SOURCE.
CHANGED_EVENTS = "queue *|notification|event_*"
ROLES = [f"{APP}-{role}" for role in ("starter-role", "task-role", "exec-role")]
KEYS = [f"arn:aws:kms:{HERE}:key/{name}" for name in ("one", "two", "destination")]
ABORT = abort()

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
THEIR_RULE = {"ID": "theirs", "Status": "Enabled", "Filter": {"Prefix": "tmp/"}, "Expiration": {"Days": 3}}
THEIR_FILTER = {"Key": {"FilterRules": [{"Name": "prefix", "Value": "other/"}]}}
THEIR_NOTIFICATIONS = {
    "QueueConfigurations": [
        {"Id": "theirs", "QueueArn": f"{QUEUE}2", "Events": ["s3:ReducedRedundancyLostObject"], "Filter": THEIR_FILTER}
    ],
    "TopicConfigurations": [{"Id": "t", "TopicArn": f"{TOPIC}2", "Events": ["s3:ObjectTagging:*"]}],
    "LambdaFunctionConfigurations": [{"Id": "f", "LambdaFunctionArn": f"{STARTER}2", "Events": ["s3:ObjectAcl:Put"]}],
}
THEIR_ENDPOINT = {"VpcId": VPC, "ServiceName": f"com.amazonaws.{REGION}.s3", "VpcEndpointType": "Gateway"}
# What others have beside ours, with names as near to ours as AWS's filters by prefix take them.
OTHERS: dict[str, Any] = theirs(2) | {
    f"filter {APP}-outage2 of {WORKER_LOG}": {"filterName": f"{APP}-outage2", "logGroupName": WORKER_LOG},
    "security-group sg-theirs": {"GroupId": "sg-theirs", "GroupName": f"{APP}-sg2", "VpcId": "vpc-other", "Tags": []},
    "security-group sg-first": {"GroupId": "sg-first", "GroupName": "default", "VpcId": VPC, "Tags": []},
    "endpoint vpce-theirs": THEIR_ENDPOINT
    | {"VpcEndpointId": "vpce-theirs", "State": "Pending", "RouteTableIds": ["rtb-2"], "Tags": []},
    f"notifications {SOURCE}": THEIR_NOTIFICATIONS,
    f"lifecycle {MIRROR}": [THEIR_RULE],
}


def keep(number: int, prefix: str, days: int) -> dict[str, Any]:
    """The rule of KEEP_DAYS with that number."""
    return keeping([""] * (number - 1) + [prefix], days)[-1]


class Deployed(NamedTuple):
    """A deployment's calls, and the account after it."""

    ran: Ran
    account: PaperAccount

    @property
    def kept(self) -> dict[str, Any]:
        return self.account.kept

    def __getitem__(self, name: Any) -> Any:
        return self.kept[name]


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scripts]:
    with sourced_scripts(tmp_path_factory.mktemp("documents")) as found:
        yield found


def copied(kept: dict[str, Any]) -> PaperAccount:
    """An account with these things in it."""
    account = PaperAccount()
    account.kept |= copy.deepcopy(kept)
    return account


def deployed(scripts: Scripts, settings: dict[str, str], **kept: Any) -> Deployed:
    scripts.account = copied(kept)
    ran = scripts.deploy(**settings)
    return Deployed(ran, copied(scripts.account.kept))


@pytest.fixture(scope="module")
def plain(scripts: Scripts) -> Deployed:
    return deployed(scripts, {})


@pytest.fixture(scope="module")
def full(scripts: Scripts) -> Deployed:
    """In an account where ECS has never been used, beside what others have; our lifecycle rules are among theirs."""
    ours = [keep(1, "data sets/", 30) | {"Status": "Disabled"}, keep(2, "models/", 30), ABORT]
    account = scripts.account = copied(OTHERS | {f"lifecycle {MIRROR}": [THEIR_RULE, *ours]})
    del account.kept["role-of-ecs AWSServiceRoleForECS"]
    ran = scripts.deploy(**FULL)
    return Deployed(ran, copied(account.kept))


@pytest.fixture(scope="module")
def elsewhere(scripts: Scripts) -> Deployed:
    return deployed(scripts, ELSEWHERE)


@pytest.fixture
def account(scripts: Scripts, plain: Deployed) -> PaperAccount:
    """An account with a deployment of every default, for a step that finds something changed there."""
    scripts.account = copied(plain.kept)
    return scripts.account


# --- what there is after a deployment -------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "settings"), [("plain", {}), ("full", FULL), ("elsewhere", ELSEWHERE)])
def test_everything_is_as_the_settings_ask(name: str, settings: dict[str, str], request: pytest.FixtureRequest) -> None:
    found: Deployed = request.getfixturevalue(name)
    assert list(faults(found.account, settings)) == []
    assert_theirs(found.kept if name == "full" else OTHERS)
    owner = settings.get("SRC_BUCKET_OWNER", NUMBER)
    calls = [call for call in found.ran.calls if call.parameters.get("Bucket") == SOURCE]
    assert {call.operation for call in calls if call.parameters["ExpectedBucketOwner"] == owner} == {
        *("GetBucketLocation", "GetBucketNotificationConfiguration", "PutBucketNotificationConfiguration")
    }
    # S3 is to say if it cannot send to our queue, but not to look again at queues and functions of others.
    (put,) = found.ran.sent("PutBucketNotificationConfiguration")
    assert put.get("SkipDestinationValidation", False) == (name == "full")


def assert_theirs(kept: dict[str, Any]) -> None:
    """What others have is as it was, also in what all users of a bucket share."""
    found = json.loads(json.dumps(kept[f"notifications {SOURCE}"]).replace('"Prefix"', '"prefix"'))
    for part, wanted in THEIR_NOTIFICATIONS.items():
        assert [one for one in found[part] if one["Id"] in "tf theirs"] == wanted
    assert THEIR_RULE in kept[f"lifecycle {MIRROR}"]
    shared = {f"notifications {SOURCE}", f"lifecycle {MIRROR}", f"filter {APP}-outage2 of {WORKER_LOG}"}
    assert {name: kept.get(name) for name in OTHERS.keys() - shared} == {
        name: OTHERS[name] for name in OTHERS.keys() - shared
    }


def test_a_role_that_may_read_more_than_is_synced_is_named_in_each_run(scripts: Scripts, elsewhere: Deployed) -> None:
    scripts.account = copied(elsewhere.kept)
    for ran in (elsewhere.ran, scripts.deploy(**ELSEWHERE)):
        said = f"second-task-role may read s3://{SOURCE}/caf\u00e9 models/*, because an IAM policy cannot"
        assert ran.errors.count(said) == 1
    assert ran.writes == []


def test_a_mail_of_an_alarm_says_which_deployment_why_and_what_to_do(full: Deployed) -> None:
    """It has no more than the description, whose page has a heading for each alarm."""
    page = (PROJECT / "docs/troubleshooting.md").read_text()
    alarms = [
        one
        for one in full.account.of_kind("alarm")
        if one["AlarmName"] + one["tags"].get("app", "") != one["AlarmName"]
    ]
    assert len(alarms) == 8
    for alarm in alarms:
        which = f"{APP}: {APP} in {REGION} copies {SOURCE} to {MIRROR}\\. Why: .+ What to do: .*\\./sync\\.sh .+"
        found = re.fullmatch(rf"{which} More: docs/troubleshooting\.md#(.+)", alarm["AlarmDescription"])
        assert found and f"\n### {found[1]}\n" in page, alarm


def test_notifications_of_others_stay(scripts: Scripts, account: PaperAccount) -> None:
    """The call replaces the whole configuration of the bucket."""
    account.kept |= copy.deepcopy(OTHERS)
    account.kept[f"notifications {SOURCE}"] |= {"EventBridgeConfiguration": {}}
    scripts.step("ensure_notification", PREFIX_FILTER="models/,a b/")
    assert_theirs(account.kept)
    assert account.kept[f"notifications {SOURCE}"]["EventBridgeConfiguration"] == {}
    assert scripts.step("ensure_notification", PREFIX_FILTER="models/,a b/").writes == []


def test_the_buckets_switch_is_remembered_before_it_is_turned_on(full: Deployed) -> None:
    assert full[f"notifications {SOURCE}"]["EventBridgeConfiguration"] == {}
    assert full[f"rule {EVENT_RULE}"]["tags"]["turned-on-events-of"] == SOURCE
    (tagged,) = [place for place, call in enumerate(full.ran.writes) if "turned-on-events-of" in str(call.parameters)]
    operations = [call.operation for call in full.ran.writes]
    assert tagged < operations.index("PutBucketNotificationConfiguration")


def test_a_lifecycle_that_s3_refuses_ends_the_run_after_all_that_the_sync_needs(
    scripts: Scripts, plain: Deployed
) -> None:
    scripts.account = PaperAccount()
    scripts.account.refusals = [("PutBucketLifecycleConfiguration", Refused("InvalidRequest", "not so"))]
    scripts.deploy(status=1)
    assert plain.kept.keys() - scripts.account.kept.keys() == {f"lifecycle {MIRROR}", f"bucket-policy {MIRROR}"}


def test_the_lifecycle_of_a_bucket_of_another_account_is_left_to_its_owner(elsewhere: Deployed) -> None:
    calls = {call.operation for call in elsewhere.ran.calls if call.parameters.get("Bucket") == MIRROR}
    assert calls == {"ListObjectsV2"}


# --- the image ------------------------------------------------------------------------------------------------------


def images(ran: Ran) -> list[list[str]]:
    """The arguments of each call of docker that builds or moves an image."""
    return [call.parameters["words"] for call in ran.calls if call.service == "docker" and call.is_write]


@pytest.mark.usefixtures("account")
def test_an_image_is_built_for_the_task_of_its_flags_and_base_and_pushed(
    scripts: Scripts, plain: Deployed, full: Deployed, elsewhere: Deployed
) -> None:
    """An attestation would be a manifest more, which a repository's lifecycle policy cannot expire."""
    other = scripts.step("ensure_image", TASK_ARCH="X86_64", ECR_REGISTRY="localhost:5000")
    ours, names = f"{NUMBER}.dkr.ecr.{REGION}.amazonaws.com", set()
    rows = [(plain.ran, ours, "arm64"), (full.ran, ours, "arm64"), (other, "localhost:5000", "amd64")]
    for ran, registry, processor in rows:
        build, login, push = images(ran)
        assert (build[:2], build[-1], push[:1]) == (["buildx", "build"], str(PROJECT), ["push"])
        given = " ".join(build)
        assert "--load --provenance=false --sbom=false " in given
        assert f" --platform linux/{processor} --tag {push[1]} " in given
        assert f" --build-arg BASE_IMAGE=python:3.13-slim@sha256:{'b' * 64} " in given
        assert (" --build-arg BASE=other " in given) == (ran is full.ran)
        assert login == ["login", "--username", "AWS", "--password-stdin", registry]
        assert re.fullmatch(rf"{re.escape(registry)}/{APP}:[0-9a-f]{{16}}-b{{12}}", push[1])
        names.add(push[1].rpartition(":")[2])
    assert len(names) == 3
    assert images(scripts.step("ensure_image")) == []  # that of the defaults is there
    assert {call.service for call in elsewhere.ran.calls} & {"ecr", "docker"} == set()


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


@pytest.mark.parametrize("older", ["0.9.0", "1.0.0"])
def test_a_new_release_is_the_tag_of_everything_and_of_the_function_last(
    scripts: Scripts, full: Deployed, older: str
) -> None:
    """A run that is interrupted in between is completed by the next one, which reads the function's; 1.0.0 had none."""
    scripts.account.kept = json.loads(json.dumps(full.kept).replace(f'"{VERSION}"', f'"{older}"'))
    if older == "1.0.0":
        del scripts.account.kept[f"function {APP}-starter"]["tags"]["version"]
    ran = scripts.step("ensure_version_tag", **FULL)
    assert scripts.account.kept == full.kept
    assert ran.writes[-1].service == "lambda"
    assert f"changed (was {older})" in ran.output


# --- what is there already ------------------------------------------------------------------------------------------

# What else a value may be, if not more of the same.
OTHERWISE = {"Sum": "Average", "Maximum": "Average", "GreaterThanThreshold": "LessThanThreshold", "ENABLED": "DISABLED"}
OTHERWISE |= {"LessThanThreshold": "GreaterThanThreshold", "missing": "ignore", "notBreaching": "ignore", "p50": "p99"}
OTHERWISE |= {"python3.13": "python3.12", "arm64": "x86_64", "ARM64": "X86_64", "FARGATE": "EC2", "awsvpc": "host"}
OTHERWISE |= {"LINUX": "WINDOWS_SERVER_2022_CORE", "awslogs": "json-file", "Enabled": "Disabled", "non-blocking": "no"}
# What names a thing, what AWS says of it, what a run does not change or first asks for: the bucket, and KEEP_DAYS.
NOT_CHANGED = {"AlarmName", "AlarmArn", "FunctionName", "FunctionArn", "Name", "Id", "ID", "Sid", "name", "filterName"}
NOT_CHANGED |= {"family", "taskDefinitionArn", "status", "tags", "Tags", "Version", "LastModified", "logGroupName"}
NOT_CHANGED |= {"Protocol", "SubscriptionArn", "TopicArn", "bucket", "dockerLabels", "path", "boundary", "made"}
NOT_CHANGED |= {
    "repositoryName",
    "imageTagMutability",
    "settings",
    "clusterName",
    "DST_BUCKET",
    "KEEP_DAYS",
    "ReturnData",
}
KINDS = (
    "log-group",
    "queue",
    "role",
    "repository",
    "task",
    "function",
    "rule",
    "topic",
    "alarm",
    "filter",
    "dashboard",
)


def changed(value: Any) -> Any:
    """Each value in it is another one."""
    if isinstance(value, dict):
        is_kept = NOT_CHANGED | ({"value"} if value.get("name") in NOT_CHANGED else set())
        return {name: one if name in is_kept else changed(one) for name, one in value.items()}
    if isinstance(value, list):
        return [changed(one) for one in value]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if re.match(r'\{\s*"', value):
        return json.dumps(changed(json.loads(value)))
    return OTHERWISE.get(value) or (str(int(value) + 1) if value.isdigit() else f"{value}2")


@pytest.fixture(scope="module")
def spoiled(full: Deployed) -> dict[str, Any]:
    """A deployment of which each value was changed by hand, and what has none was taken away."""
    kept = copy.deepcopy(full.kept)
    for name in kept.keys() - OTHERS.keys():
        if name.startswith(KINDS):
            kept[name] = changed(kept[name])
    kept[f"cluster {APP}-cluster"]["capacityProviders"].pop()
    kept["endpoint vpce-s3express"]["RouteTableIds"].pop()
    kept["security-group sg-ours"]["IpPermissionsEgress"].clear()
    kept[f"role {APP}-exec-role"]["policies"].clear()
    del kept[f"bucket-policy {MIRROR}"], kept[f"function {APP}-starter"]["concurrency"]
    kept[f"lifecycle {MIRROR}"][2:] = changed(kept[f"lifecycle {MIRROR}"][2:])
    kept[f"topic {APP}-alarms"]["subscriptions"].append(copy.deepcopy(PHONE))
    return kept


PHONE = {"Protocol": "sms", "Endpoint": "+15550100", "SubscriptionArn": f"{TOPIC}:phone"}


def lines(ran: Ran) -> list[tuple[str, str]]:
    """(resource, state) of each line of a run."""
    return re.findall(r"^\[\d+/\d+\] (.+?): (.+)$", ran.output, re.MULTILINE)


ALARM = "ActionsEnabled, AlarmActions, AlarmDescription, ComparisonOperator, DatapointsToAlarm, Dimensions, "
ALARM += "EvaluationPeriods, MetricName, Namespace, Period, Statistic, Threshold, TreatMissingData"
QUEUES = "DelaySeconds, MessageRetentionPeriod, ReceiveMessageWaitTimeSeconds, SqsManagedSseEnabled"
# What the lines of the run say that they change; of all others, that it exists.
REPAIRED = {
    f"log group {STARTER_LOG}": "retention",
    f"log group {WORKER_LOG}": "retention",
    f"dead-letter queue {APP}-dlq": QUEUES,
    f"queue {APP}-q": ", ".join(sorted([*QUEUES.split(", "), "Policy", "RedrivePolicy", "VisibilityTimeout"])),
    **{f"role {role}": "trust, policy" for role in ROLES},
    f"repository {APP}": "scan on push, lifecycle",
    f"cluster {APP}-cluster": "capacity providers",
    f"task definition {APP}-task": "containerDefinitions, cpu, executionRoleArn, memory, networkMode, "
    "requiresCompatibilities, runtimePlatform, taskRoleArn",
    f"security group {APP}-sg": "way out",
    f"gateway endpoint com.amazonaws.{REGION}.s3express": "route tables",
    f"function {APP}-starter": "code, Environment, Handler, MemorySize, Role, Runtime, Timeout, async retries, "
    "concurrency",
    f"rule {RULE}": "Description, ScheduleExpression, State, permission, target",
    f"event rule {EVENT_RULE}": "Description, EventPattern, State, permission, target queue and starter",
    f"topic {APP}-alarms": "subscription of ops@example.com, other addresses",
    **{f"alarm {APP}-{name}": ALARM for name in ("dead-letters", "behind", "starter-fails", "events")},
    f"alarm {APP}-starter-silent": ALARM.replace("Metric", "InsufficientDataActions, Metric"),
    **{f"alarm {APP}-{name}": ALARM.replace("Dimensions, ", "") for name in ("outage", "audit")},
    f"alarm {APP}-late": "ActionsEnabled, AlarmActions, AlarmDescription, ComparisonOperator, DatapointsToAlarm, "
    "EvaluationPeriods, Metrics, Threshold, TreatMissingData",
    **{f"metric filter {APP}-{name}": "filterPattern, metricTransformations" for name in ("outage", "audit")},
    f"dashboard {APP}": "widgets",
    f"bucket lifecycle {MIRROR}": "rules of KEEP_DAYS, policy for it",
}


@pytest.fixture(scope="module")
def repaired(scripts: Scripts, spoiled: dict[str, Any]) -> Deployed:
    scripts.account = copied(spoiled)
    ran = scripts.deploy(**FULL)
    return Deployed(ran, copied(scripts.account.kept))


def test_every_difference_is_found_named_and_put_right(repaired: Deployed) -> None:
    """AWS prints what it was given in its own way, with defaults, and nothing of that is a difference."""
    said = dict(lines(repaired.ran))
    assert {name: state for name, state in said.items() if state != "exists"} == {
        name: f"changed ({what})" for name, what in REPAIRED.items()
    }
    assert list(faults(repaired.account, FULL)) == []
    kept = copy.deepcopy(repaired.kept)
    assert PHONE in kept[f"topic {APP}-alarms"]["subscriptions"]
    assert_theirs(kept)


# --- what goes ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def back(scripts: Scripts, full: Deployed) -> Deployed:
    """A deployment with every option on, and then with every default, which an empty setting takes."""
    scripts.account = copied(full.kept)
    ran = scripts.deploy(**dict.fromkeys(FULL, "") | {"APP_NAME": APP})
    return Deployed(ran, copied(scripts.account.kept))


def test_every_option_can_be_turned_off(back: Deployed) -> None:
    assert list(faults(back.account, {})) == []
    assert_theirs(back.kept)
    assert "EventBridgeConfiguration" not in back[f"notifications {SOURCE}"]
    said = {name: state for name, state in lines(back.ran) if state.startswith(("removed", "changed (removed"))}
    assert said == {
        f"topic {APP}-alarms": "changed (removed, because ALARM_EMAIL is empty)",
        f"alarm {APP}-events": "changed (removed, because EVENT_SOURCE is sqs)",
        f"alarm {APP}-audit": "changed (removed with its filters, because AUDIT_DAYS is empty)",
        f"alarm {APP}-late": "changed (removed, because METRICS is false)",
        f"event rule {EVENT_RULE}": "removed, because EVENT_SOURCE=sqs",
    }
    assert f"From now on, changes in\n  s3://{SOURCE}/\nare copied to\n  s3://{MIRROR}\n" in back.ran.output
    assert "\nSince the last ./deploy.sh, PREFIX_FILTER or EXCLUDE has changed:\n- Existing objects" in back.ran.output


def test_audits_that_were_half_made_can_be_turned_off(scripts: Scripts, full: Deployed) -> None:
    scripts.account = copied(full.kept)
    del scripts.account.kept[f"filter {APP}-audit of {WORKER_LOG}"]
    scripts.step("ensure_alarms", AUDIT_DAYS="")
    assert [name for name in scripts.account.kept if name.startswith(("filter ", "alarm ")) and "-audit" in name] == []


@pytest.mark.usefixtures("account")
def test_without_a_dashboard_ours_is_removed_and_that_of_another_region_stays(scripts: Scripts) -> None:
    kept, name = scripts.account.kept, f"dashboard {APP}"
    assert "changed (removed, because DASHBOARD is false)" in scripts.step("ensure_dashboard", DASHBOARD="false").output
    assert name not in kept
    kept[name] = json.dumps({"widgets": [{"type": "metric", "properties": {"region": "eu-north-1", "metrics": []}}]})
    ran = scripts.step("ensure_dashboard", DASHBOARD="false")
    assert (ran.writes, "none, because DASHBOARD is false" in ran.output) == ([], True)


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


def test_events_come_the_old_way_until_the_new_one_works(scripts: Scripts, account: PaperAccount) -> None:
    theirs = {name: value for name, value in THEIR_NOTIFICATIONS.items() if name[0] != "Q"}
    account.kept[f"notifications {SOURCE}"] |= copy.deepcopy(theirs)
    way = {"EVENT_SOURCE": "eventbridge", "CHANGEOVER_SECONDS": "70"}
    ran = scripts.step("steps_like", CHANGED_EVENTS, **way)
    assert in_words(ran) == [
        "queue: s3-events+eventbridge",
        "PutRule",
        "AddPermission",
        "PutTargets",
        "TagResource",
        "bucket: notification switch",
        "sleep 30",
        "sleep 30",
        "sleep 10",
        "bucket: switch",
        "queue: eventbridge",
    ]
    assert account.kept[f"notifications {SOURCE}"] == theirs | {"EventBridgeConfiguration": {}}


@pytest.mark.usefixtures("account")
def test_copying_is_turned_on_from_its_rights_to_its_variables(scripts: Scripts) -> None:
    ran = scripts.step("several", f"ensure_role {ROLES[0]}", "ensure_function", STARTER_COPIES="true")
    assert in_words(ran) == ["rights of the starter", "UpdateFunctionCode", "UpdateFunctionConfiguration"]


@pytest.mark.parametrize(("unreserved", "reserves"), [(100, False), (101, True)])
def test_without_reserved_concurrency_events_start_no_starter(
    scripts: Scripts, account: PaperAccount, unreserved: int, reserves: bool
) -> None:
    """An account keeps 100 executions unreserved, and a new one has 10 in all. Two starters at once could both see no
    worker."""
    account.kept["limit unreserved"] = unreserved
    del account.kept[f"function {APP}-starter"]["concurrency"]
    starter_target = {"starter": {"Id": "starter", "Arn": STARTER}}
    account.kept[f"rule {EVENT_RULE}"] = {
        "Name": EVENT_RULE,
        "targets": starter_target,
        "tags": {"app": APP},
        "EventPattern": "{}",
    }
    scripts.step("several", "ensure_function", "ensure_event_rule", EVENT_SOURCE="eventbridge")
    assert account.kept[f"function {APP}-starter"].get("concurrency") == (1 if reserves else None)
    targets = {"queue", "starter"} if reserves else {"queue"}
    assert set(account.kept[f"rule {EVENT_RULE}"]["targets"]) == targets
    allowed = {RULE, EVENT_RULE} if reserves else {RULE}
    assert set(account.kept[f"function {APP}-starter"]["statements"]) == allowed


# --- what AWS refuses -----------------------------------------------------------------------------------------------

NOT_PASSED = f"User: u is not authorized to perform: iam:PassRole on resource: arn:aws:iam::1:role/{APP}-starter-role"
NO_PRINCIPAL = "the KMS key is invalid for CreateGrant. KMS Message: ARN does not refer to a valid principal"
# The same words about a role that this run made are waited for: hostile.py says them in test_generated.py.
FOR_GOOD = [
    ("AccessDeniedException", NOT_PASSED, "grant yourself iam:PassRole"),
    ("InvalidParameterValueException", NO_PRINCIPAL, "CreateGrant"),
    ("AccessDeniedException", "no lambda:CreateFunction", "lambda create-function failed"),
    ("ResourceConflictException", "Function already exist", "run this again when it has"),
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
    ran = scripts.step("ensure_queue", f"{APP}-dlq", status=1)
    assert ran.errors.count("waiting: ") == 2  # RETRY_LIMIT is 3
    assert f"dead-letter queue {APP}-dlq: aws sqs create-queue failed" in ran.errors


def test_by_default_nothing_is_asked_about_options(plain: Deployed, back: Deployed) -> None:
    """Each call of the CLI takes about a second."""
    asked = [call.parameters.get("Name") for call in plain.ran.calls if call.operation == "DescribeRule"]
    assert asked == [RULE]
    operations = [call.operation for call in plain.ran.calls]
    assert not {"ListRules", "DescribeVpcEndpoints", "ListSubscriptionsByTopic"} & set(operations)
    assert [operations.count(name) for name in ("DescribeAlarms", "DescribeMetricFilters")] == [1, 1]
    assert [call.operation for call in back.ran.calls].count("DescribeAlarms") == 1


# --- cleaning up --------------------------------------------------------------------------------------------------


def running(number: int, wanted: str, last: str) -> dict[str, Any]:
    return {"taskArn": f"arn:aws:ecs:{HERE}:task/{APP}-cluster/{number}", "desiredStatus": wanted, "lastStatus": last}


@pytest.fixture(scope="module")
def cleaned(scripts: Scripts, repaired: Deployed) -> Deployed:
    """After a change, so that there are two revisions, while two workers run and one ends; ECS shows a hundred that
    have ended, and takes a hundred in a question."""
    scripts.account = copied(repaired.kept)
    tasks = [running(number, "STOPPED", "STOPPED") for number in range(100)]
    tasks += [
        running(100, "STOPPED", "DEACTIVATING"),
        *(running(number, "RUNNING", "RUNNING") for number in (101, 102)),
    ]
    scripts.account.kept |= {f"running {number}": task for number, task in enumerate(tasks)}
    ran = scripts.clean_up()
    return Deployed(ran, copied(scripts.account.kept))


def test_cleaning_up_leaves_what_others_have_and_nothing_else(cleaned: Deployed) -> None:
    assert_theirs(cleaned.kept)
    assert "EventBridgeConfiguration" not in cleaned[f"notifications {SOURCE}"]
    left = {name for name in cleaned.kept if not name.startswith("running ")}
    # Of ECS's role the account may have other use by now; the rules of others on the destination need its policy.
    assert left - OTHERS.keys() == {"role-of-ecs AWSServiceRoleForECS", f"bucket-policy {MIRROR}"}
    assert {call["task"] for call in cleaned.ran.sent("StopTask")} == {"100", "101", "102"}
    assert cleaned.ran.sent("DeleteRepository") == [{"repositoryName": APP, "force": True}]
    assert {put.get("SkipDestinationValidation") for put in cleaned.ran.sent("PutBucketNotificationConfiguration")} == {
        True
    }


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


def test_cleaning_up_takes_the_chain_from_its_beginning(cleaned: Deployed) -> None:
    operations = [call.operation for call in cleaned.ran.writes]
    for first, then in GOES_FIRST:
        last = len(operations) - 1 - operations[::-1].index(first)
        assert last < operations.index(then), (first, then)


def test_what_does_not_have_our_tag_stays(scripts: Scripts, full: Deployed) -> None:
    """Role names are the same in all Regions, so a role of our name and tag may be that of another one."""
    kept = copy.deepcopy(full.kept)
    for name, document in kept.items():
        if name.startswith(tuple(f"{kind} " for kind in (*TAGGED, "endpoint"))):
            document["Tags" if "Tags" in document else "tags"] = {} if "tags" in document else []
    kept[f"role {ROLES[1]}"]["tags"] = {"app": APP, "region": "eu-north-1"}
    kept[f"rule {RULE}"]["tags"] = {"app": f"{APP}-2"}
    scripts.account = copied(kept)
    ran = scripts.clean_up("--dry-run", status=1)
    planned = set(re.findall(r"^  would remove (.*)$", ran.output, re.MULTILINE))
    # These have no tags, and are known by their names, their queue or their Region.
    assert planned == {
        f"task definition {APP}-task (1 revisions)",
        f"metric filter {APP}-audit",
        f"metric filter {APP}-outage",
        f"bucket lifecycle {MIRROR} (only {ABORT['ID']}, {APP}-keep, {APP}-keep-2)",
        f"dashboard {APP}",
    }
    assert f"stays: {ROLES[1]}, because it is of the deployment in eu-north-1" in ran.errors
    ran_again = scripts.deploy(status=2, **FULL)
    assert f"- APP_NAME={APP}: its role {ROLES[1]} belongs to someone else or to another Region" in ran_again.errors
    assert ran_again.writes == []
    found = re.findall(rf"stays: (\S+?)(?: \(.*\))?, because it has no tag app={APP}$", ran.errors, re.MULTILINE)
    alarms = [one["AlarmName"] for one in full.account.of_kind("alarm") if "Period" in one or "Metrics" in one]
    assert sorted(found) == sorted(
        [
            *(f"{APP}-q", f"{APP}-dlq", ROLES[0], ROLES[2], RULE, EVENT_RULE, APP, f"{APP}-starter"),
            *(f"{APP}-cluster", WORKER_LOG, STARTER_LOG, "sg-ours", f"{APP}-alarms", *alarms),
        ]
    )
