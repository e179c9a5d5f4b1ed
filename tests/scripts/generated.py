"""Deployments at random: settings, the state that an account is in, and how hostile its AWS is, all of one seed."""

import copy
import json
import random
import re
from typing import Any, NamedTuple

from account import APP, MIRROR, SOURCE
from asked_for import THEIR_TARGET, THEIR_TOPIC, TLS_ONLY
from broken_links import BROKEN, MODES
from hostile import Hostility
from paper_account import HERE, NUMBER, ROUTE_TABLES, SUBNETS, VPC

from mirror.version import VERSION

Kept = dict[str, Any]
WORKER_LOG, STARTER_LOG = f"/ecs/{APP}-task", f"/aws/lambda/{APP}-starter"
BOUNDARY = f"arn:aws:iam::{NUMBER}:policy/rules/workloads"

# What each setting may be; the first is the default. Each value goes with each of the others.
VALUES: dict[str, tuple[str, ...]] = {
    "EVENT_SOURCE": ("", "eventbridge"),
    "PREFIX_FILTER": ("", "models/", "a b/,c/", "caf\u00e9 models/\u6a21\u578b/"),
    "EXCLUDE": ("", "*.tmp", "*.tmp,*/_temporary/*"),
    "TABLES": ("", "delta"),
    "KEEP_DAYS": ("", "7", "30"),
    "ALARM_EMAIL": ("", "ops@example.com"),
    "AUDIT_DAYS": ("", "7"),
    "STARTER_COPIES": ("", "true"),
    "MIN_WORKERS": ("", "1"),
    "LAMBDA_POLL_RATE": ("", "5", "15"),
    "CREATE_VPC_ENDPOINTS": ("", "true"),
    "SUBNETS": ("", "", "subnet-4,subnet-3"),
    "TASK_ARCH": ("", "X86_64"),
    "METRICS": ("", "true"),
    "ANNOUNCE": ("", "all", "failures"),
    "TAGS": ("", "team=ml,Cost Center=4 2"),
    "ROLE_PATH": ("", "/ml/2026/"),
    "ROLE_BOUNDARY_ARN": ("", BOUNDARY),
    "IMAGE_URI": ("", "", "worker:1"),
    "LOG_RETENTION_DAYS": ("", "90"),
    "SRC_KMS_KEY_ARN": ("", "", f"arn:aws:kms:{HERE}:key/one"),
    "DASHBOARD": ("", "false"),
}
STATES = (
    *("nothing", "deployed", "deployed by 1.2.0", "interrupted", "broken", "other events", "other settings"),
    *("partly cleaned", "cleaned"),
)
# In this order, what is spoiled settles at once, and what was cleaned had endpoints, whose routes are still there.
TURNS = (*STATES[:5], "spoiled", *STATES[5:])
TROUBLES = Hostility._fields


class Case(NamedTuple):
    """`before`: what the state was made with; `step`: the write that interrupts a run; `broken`: a row of BROKEN."""

    seed: int
    settings: dict[str, str]
    before: dict[str, str]
    state: str
    step: int
    broken: str
    hostility: Hostility

    def __str__(self) -> str:
        what = f"{self.state} ({self.broken})" if self.broken else self.state
        return f"{self.seed}: {what}; {self.hostility}; {self.before} -> {self.settings}"


def deployment(number: int) -> dict[str, str]:
    """Its settings. The first few deployments have every value; two share a path, as a role cannot be moved."""
    draw = random.Random(number)
    found = {name: values[(number + place) % len(values)] for place, (name, values) in enumerate(VALUES.items())}
    if number >= FEW:
        found = {name: draw.choice(values) for name, values in VALUES.items()}
    found["ROLE_PATH"] = VALUES["ROLE_PATH"][number // 2 % 2]
    if found["TABLES"]:  # a table needs its files at any age
        found["KEEP_DAYS"] = ""
    return {name: value for name, value in found.items() if value}


FEW, CASES = 4, len(TURNS)
# What an account does just then.
FITTING = {"nothing": ("settling", "new_roles"), "cleaned": ("settling", "recent")}


def drawn_case(seed: int) -> Case:
    """Every state comes up in turn, and every trouble in turn with it, so that a few seeds have all of them."""
    draw = random.Random(seed)
    state = TURNS[seed % len(TURNS)]
    number = seed * 7 // 5 + 1  # which gives each state other deployments
    number = number % FEW if seed < CASES else draw.randrange(1000)
    settings, broken = deployment(number), ""
    before = settings
    if state == "broken":
        broken = draw.choice(sorted(name for name, row in BROKEN.items() if row.plan[0]))  # what a run repairs
        settings = before = MODES[BROKEN[broken].mode]
    elif state == "other settings":
        before = deployment(number ^ 1)
        settings = dict.fromkeys(before, "") | settings  # what is not named is kept
    elif state == "other events":
        settings = before | {"EVENT_SOURCE": "sqs" if "EVENT_SOURCE" in before else "eventbridge"}
    on = {TROUBLES[(seed // len(STATES) + seed + place) % len(TROUBLES)] for place in (0, 4, 7)}
    on |= {name for name in TROUBLES if draw.random() < 0.15} | set(FITTING.get(state, ()))
    if "settling" in on:  # they need a second run, and by then it has settled
        on -= {"denied", "lagging"}
    hostility = Hostility(**dict.fromkeys(on, True))
    return Case(seed, settings, before, state, draw.randrange(1, 45), broken, hostility)


# --- what somebody changed by hand ----------------------------------------------------------------------------------

# What else a value may be, if not more of the same.
OTHERWISE = {"Sum": "Average", "Maximum": "Average", "GreaterThanThreshold": "LessThanThreshold", "ENABLED": "DISABLED"}
OTHERWISE |= {"LessThanThreshold": "GreaterThanThreshold", "missing": "ignore", "notBreaching": "ignore", "p50": "p99"}
OTHERWISE |= {"python3.13": "python3.12", "arm64": "x86_64", "ARM64": "X86_64", "X86_64": "ARM64"}
OTHERWISE |= {"FARGATE": "EC2", "awsvpc": "host", "LINUX": "WINDOWS_SERVER_2022_CORE", "awslogs": "json-file"}
OTHERWISE |= {"Enabled": "Disabled", "non-blocking": "no"}
# What names a thing, what AWS says of it, what a run does not change or first asks for: the bucket, and KEEP_DAYS.
NOT_CHANGED = {"AlarmName", "AlarmArn", "FunctionName", "FunctionArn", "Name", "Id", "ID", "Sid", "name", "filterName"}
NOT_CHANGED |= {"family", "taskDefinitionArn", "status", "tags", "Tags", "Version", "LastModified", "logGroupName"}
NOT_CHANGED |= {"Protocol", "SubscriptionArn", "TopicArn", "bucket", "dockerLabels", "path", "boundary", "made"}
NOT_CHANGED |= {"repositoryName", "imageTagMutability", "settings", "clusterName", "DST_BUCKET", "KEEP_DAYS"}
NOT_CHANGED |= {"ReturnData"}
SPOILED = ("log-group", "queue", "role", "repository", "task", "function", "rule", "topic", "alarm", "filter")
SPOILED += ("dashboard",)
PHONE = {"Protocol": "sms", "Endpoint": "+15550100", "SubscriptionArn": f"arn:aws:sns:{HERE}:{APP}-alarms:phone"}


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
    if SOURCE in value:  # a queue that gets the events of another bucket is refused
        return value
    return OTHERWISE.get(value) or (str(int(value) + 1) if value.isdigit() else f"{value}2")


STARTER, STARTER_RULE = f"function {APP}-starter", f"rule {APP}-starter-rule"
QUEUE, DEAD_LETTERS = f"queue {APP}-q", f"queue {APP}-dlq"
QUEUE_ARN, STARTER_ARN = f"arn:aws:sqs:{HERE}:{APP}-q", f"arn:aws:lambda:{HERE}:function:{APP}-starter"
CONTAINER = ("containerDefinitions", 0)
ELSEWHERE = f"arn:aws:sqs:{HERE}:elsewhere"
FILES = f"arn:aws:elasticfilesystem:{HERE}:access-point/fsap-{'0' * 17}"
SECRET = f"arn:aws:secretsmanager:{HERE}:secret:a"
# What only AWS has, and the sync fails with: the document, where in it, what, and how the plan names the place.
NEWS = {"InputTemplate": '{"news": true}'}  # instead of an event
HARMFUL: tuple[tuple[str, tuple[Any, ...], Any, str], ...] = (
    ("task", ("volumes",), [{"name": "v"}], "volumes"),
    ("task", ("proxyConfiguration",), {"type": "APPMESH", "containerName": "envoy"}, "proxyConfiguration"),
    ("task", (*CONTAINER, "command"), ["reconcile", "--dry-run"], "command"),
    ("task", (*CONTAINER, "entryPoint"), ["sh", "-c"], "entryPoint"),
    ("task", (*CONTAINER, "memory"), 128, "memory"),
    ("task", (*CONTAINER, "healthCheck"), {"command": ["CMD", "false"]}, "healthCheck"),
    ("task", (*CONTAINER, "secrets"), [{"name": "A", "valueFrom": SECRET}], "secrets"),
    ("task", (*CONTAINER, "environmentFiles"), [{"type": "s3", "value": "arn:aws:s3:::b/e"}], "environmentFiles"),
    ("task", (*CONTAINER, "mountPoints"), [{"sourceVolume": "v", "containerPath": "/app"}], "mountPoints"),
    ("task", (*CONTAINER, "restartPolicy"), {"enabled": True}, "restartPolicy.enabled"),
    (
        *("task", (*CONTAINER, "logConfiguration", "options", "awslogs-datetime-format"), "%Y"),
        "logConfiguration.options.awslogs-datetime-format",
    ),
    (STARTER, ("VpcConfig",), {"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"], "VpcId": VPC}, "SubnetIds"),
    (STARTER, ("Layers",), [{"Arn": f"arn:aws:lambda:{HERE}:layer:theirs:1"}], "Layers"),
    (STARTER, ("FileSystemConfigs",), [{"Arn": FILES, "LocalMountPath": "/mnt/a"}], "FileSystemConfigs"),
    (STARTER, ("KMSKeyArn",), f"arn:aws:kms:{HERE}:key/one", "KMSKeyArn"),
    (STARTER, ("DeadLetterConfig",), {"TargetArn": QUEUE_ARN}, "DeadLetterConfig.TargetArn"),
    (STARTER, ("LoggingConfig",), {"LogFormat": "JSON", "LogGroup": "/theirs"}, "LoggingConfig.LogFormat"),
    (STARTER, ("invoke", "DestinationConfig"), {"OnFailure": {"Destination": QUEUE_ARN}}, "async destination"),
    (DEAD_LETTERS, ("Attributes", "RedriveAllowPolicy"), '{"redrivePermission": "denyAll"}', "RedriveAllowPolicy"),
    (
        *(DEAD_LETTERS, ("Attributes", "RedrivePolicy")),
        json.dumps({"deadLetterTargetArn": ELSEWHERE, "maxReceiveCount": 2}),
        "RedrivePolicy",
    ),
    (STARTER_RULE, ("targets", "starter", "InputPath"), "$.detail", "target starter"),
    (
        STARTER_RULE,
        ("targets", "again"),
        {"Id": "again", "Arn": STARTER_ARN, "InputTransformer": NEWS},
        "no target again",
    ),
    (f"filter {APP}-outage of {WORKER_LOG}", ("metricTransformations", 0, "dimensions"), {"a": "$a"}, "dimensions"),
    (f"alarm {APP}-dead-letters", ("Unit",), "Seconds", "Unit"),
    (f"lifecycle {MIRROR}", (0, "Status"), "Disabled", "which is disabled"),
)


def place_of(kept: Kept, name: str, *path: Any) -> Any:
    """What is there: of the task definition, its newest revision."""
    if name == "task":
        name = max((one for one in kept if one.startswith("task ")), key=lambda one: int(one.rpartition(":")[2]))
    found = kept[name]
    for part in path:
        found = found[part]
    return found


def harm(kept: Kept) -> None:
    for name, (*path, last), value, _ in HARMFUL:
        place_of(kept, name, *path)[last] = copy.deepcopy(value)


def add_theirs(kept: Kept) -> None:
    policy = json.loads(kept[QUEUE]["Attributes"]["Policy"])
    policy["Statement"].insert(0, TLS_ONLY)
    kept[QUEUE]["Attributes"]["Policy"] = json.dumps(policy)
    alarm = kept[f"alarm {APP}-behind"]
    alarm |= {"OKActions": [THEIR_TOPIC], "AlarmActions": [*alarm["AlarmActions"], THEIR_TOPIC]}
    kept[STARTER_RULE]["targets"]["theirs"] = dict(THEIR_TARGET)
    kept[STARTER]["invoke"].setdefault("DestinationConfig", {})["OnSuccess"] = {"Destination": THEIR_TOPIC}
    if f"topic {APP}-alarms" in kept:
        kept[f"topic {APP}-alarms"]["subscriptions"].append(dict(PHONE))


def theirs_that_are_gone(kept: Kept) -> list[str]:
    """Of what add_theirs adds."""
    alarm = kept[f"alarm {APP}-behind"]
    there = {
        "statement": TLS_ONLY in json.loads(kept[QUEUE]["Attributes"]["Policy"])["Statement"],
        "actions": alarm["OKActions"] == [THEIR_TOPIC] and THEIR_TOPIC in alarm["AlarmActions"],
        "target": THEIR_TARGET in kept[STARTER_RULE]["targets"].values(),
        "destination": kept[STARTER]["invoke"].get("DestinationConfig") == {"OnSuccess": {"Destination": THEIR_TOPIC}},
        "subscription": PHONE in kept.get(f"topic {APP}-alarms", {"subscriptions": [PHONE]})["subscriptions"],
    }
    return [name for name, is_there in there.items() if not is_there]


def spoil(kept: Kept) -> None:
    """Each value of a deployment is another one, what has none is taken away, and what it fails with is added."""
    for name in kept:
        if name.startswith(SPOILED):
            kept[name] = changed(kept[name])
    kept[f"cluster {APP}-cluster"]["capacityProviders"].pop()
    for endpoint in (one for name, one in kept.items() if name.startswith("endpoint ")):
        endpoint["RouteTableIds"].pop()
    kept["security-group sg-ours"]["IpPermissionsEgress"].clear()
    kept[f"role {APP}-exec-role"]["policies"].clear()
    kept[f"role {APP}-task-role"]["attached"] = [f"arn:aws:iam::aws:policy/{name}" for name in ("Audit", "Billing")]
    del kept[f"bucket-policy {MIRROR}"], kept[f"function {APP}-starter"]["concurrency"]
    kept[f"lifecycle {MIRROR}"][1:] = changed(kept[f"lifecycle {MIRROR}"][1:])
    harm(kept)
    add_theirs(kept)


# --- what others have -----------------------------------------------------------------------------------------------

CROWD = 17


OTHERS = {"EVENT_SOURCE": "eventbridge", "AUDIT_DAYS": "7", "ALARM_EMAIL": "dev@example.com"}
OTHERS |= {"CREATE_VPC_ENDPOINTS": "true"}
NOT_OF_ONE = ("image", "role-of-ecs", "notifications", "lifecycle", "bucket-policy")


def theirs(ours: Kept, number: int) -> Kept:
    """What a deployment has, under names that begin with ours. It is of another bucket, and of another release."""
    kept = {name: one for name, one in ours.items() if not name.startswith(NOT_OF_ONE)}
    text = re.sub(rf"{APP}[a-z-]*|vpce-\w+|sg-ours", rf"\g<0>-{number}", json.dumps(kept))
    found: Kept = json.loads(text.replace(SOURCE, f"other-{number}").replace(f'"{VERSION}"', '"0.9.0"'))
    for name in found:
        if name.startswith("endpoint "):
            found[name] |= {"VpcId": "vpc-other", "RouteTableIds": [f"rtb-other-{number}"]}
    return found


def crowd(ours: Kept) -> Kept:
    """`ours`: what an account has after a deployment with the settings OTHERS."""
    found: Kept = {}
    for number in range(CROWD):
        found |= theirs(ours, number)
    notifications = [
        {
            "Id": f"{APP}-{number + 9}",
            "QueueArn": f"arn:aws:sqs:{HERE}:{APP}-q-{number}",
            "Events": ["s3:ReducedRedundancyLostObject"],
            "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": f"other/{number}/"}]}},
        }
        for number in range(CROWD)
    ]
    reads = {f"s3-to-s3express-sync-reads-1-1-{number}-99": "x/" for number in range(CROWD)}
    topic, function = f"arn:aws:sns:{HERE}:{APP}-alarms2", f"arn:aws:lambda:{HERE}:function:{APP}-starter2"
    found[f"notifications {SOURCE}"] = {
        "QueueConfigurations": notifications,
        "TopicConfigurations": [{"Id": "t", "TopicArn": topic, "Events": ["s3:ObjectTagging:*"]}],
        "LambdaFunctionConfigurations": [{"Id": "f", "LambdaFunctionArn": function, "Events": ["s3:ObjectAcl:Put"]}],
    }
    found[f"request-metrics {MIRROR}"] = reads
    return found


def more_subnets() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(subnets, route tables) of the default VPC: each has a route table of its own."""
    subnets = [
        {"SubnetId": f"subnet-1{n:02}", "VpcId": VPC, "AvailabilityZoneId": f"use1-az{n % 6 + 1}"}
        | {"MapPublicIpOnLaunch": True}
        for n in range(CROWD)
    ]
    tables = [
        {"RouteTableId": f"rtb-1{n:02}", "VpcId": VPC, "Associations": [{"Main": False, "SubnetId": f"subnet-1{n:02}"}]}
        for n in range(CROWD)
    ]
    return copy.deepcopy(SUBNETS) + subnets, copy.deepcopy(ROUTE_TABLES) + tables
