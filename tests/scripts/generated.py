"""Deployments at random: settings, the state that an account is in, and how hostile its AWS is, all of one seed."""

import copy
import random
from typing import Any, NamedTuple

from account import APP, MIRROR, REGION, SOURCE
from broken_links import BROKEN, MODES
from hostile import Hostility
from paper_account import HERE, NUMBER, ROUTE_TABLES, SUBNETS, VPC

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
    "LAMBDA_POLL_RATE": ("", "5"),
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
}
STATES = (
    *("nothing", "deployed", "deployed by 1.2.0", "interrupted", "broken", "other settings", "other events"),
    *("cleaned", "partly cleaned"),
)
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


FEW, CASES = 4, 2 * len(STATES)
# What an account does just then.
FITTING = {"nothing": ("settling", "new_roles"), "cleaned": ("settling", "recent")}


def drawn_case(seed: int) -> Case:
    """Every state comes up in turn, and every trouble in turn with it, so that a few seeds have all of them."""
    draw = random.Random(seed)
    state = STATES[seed % len(STATES)]
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


# --- what others have -----------------------------------------------------------------------------------------------

CROWD = 17


def theirs(number: int) -> Kept:
    """One of each kind, under a name that begins with ours."""
    group, rule, queue = f"{STARTER_LOG}-{number}", f"{APP}-starter-rule-{number}", f"{APP}-q-{number}"
    alarm = f"{APP}-behind-{number}"
    pattern = f'{{"source": ["aws.s3"], "detail": {{"bucket": {{"name": ["other-{number}"]}}}}}}'
    endpoint = {
        "VpcEndpointId": f"vpce-{number}",
        "VpcId": "vpc-other",
        "ServiceName": f"com.amazonaws.{REGION}.s3{'express' * (number % 2)}",
        "VpcEndpointType": "Gateway",
        "State": "available",
        "RouteTableIds": [f"rtb-other-{number}"],
        "Tags": [{"Key": "app", "Value": f"{APP}-{number}"}],
    }
    revision = {
        "family": f"{APP}-task-{number}",
        "status": "ACTIVE",
        "taskDefinitionArn": f"arn:aws:ecs:{HERE}:task-definition/{APP}-task-{number}:9",
        "containerDefinitions": [],
        "tags": {},
    }
    target = {"Id": "starter", "Arn": f"arn:aws:lambda:{HERE}:function:other"}
    return {
        f"log-group {group}": {"logGroupName": group, "tags": {}, "retentionInDays": 1},
        f"log-group {WORKER_LOG}{number}": {"logGroupName": f"{WORKER_LOG}{number}", "tags": {}},
        f"filter {APP}-outage of {group}": {"filterName": f"{APP}-outage", "logGroupName": group},
        f"queue {queue}": {"Attributes": {"VisibilityTimeout": "30"}, "tags": {}},
        f"role {APP}-task-role-{number}": {"trust": "{}", "policies": {APP: "{}"}, "path": "/", "boundary": ""},
        f"task {APP}-task-{number}:9": revision,
        f"security-group sg-{number}": {
            "GroupId": f"sg-{number}",
            "GroupName": f"{APP}-sg-{number}",
            "VpcId": VPC,
            "Tags": [],
        },
        f"endpoint vpce-{number}": endpoint,
        f"rule {rule}": {
            "Name": rule,
            "EventPattern": pattern,
            "State": "ENABLED",
            "targets": {"t": target},
            "tags": {},
        },
        f"cluster {APP}-cluster-{number}": {"status": "ACTIVE", "tags": {}},
        f"topic {APP}-alarms-{number}": {"tags": {}, "subscriptions": []},
        f"alarm {alarm}": {"AlarmName": alarm, "AlarmArn": f"arn:aws:cloudwatch:{HERE}:alarm:{alarm}", "tags": {}},
        f"dashboard {APP}-{number}": "{}",
    }


def crowd() -> Kept:
    found: Kept = {}
    for number in range(CROWD):
        found |= theirs(number)
    notifications = [
        {
            "Id": f"{APP}-x{number}",
            "QueueArn": f"arn:aws:sqs:{HERE}:{APP}-q-{number}",
            "Events": ["s3:ReducedRedundancyLostObject"],
            "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": f"other/{number}/"}]}},
        }
        for number in range(CROWD)
    ]
    reads = {f"s3-to-s3express-sync-reads-1-1-{number}-99": "x/" for number in range(CROWD)}
    found[f"notifications {SOURCE}"] = {"QueueConfigurations": notifications}
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
