"""What every deployment of generated.py has to be like, whatever happened before it."""

import copy
import json
import re
from collections.abc import Iterator
from typing import Any

from account import APP, MIRROR, SOURCE
from documents import Ran
from generated import STARTER_LOG, WORKER_LOG
from hostile import Hostile
from paper_account import HERE, VPC, pairs
from recorder import Call

from mirror.version import VERSION

Kept = dict[str, Any]
RULE, EVENT_RULE = f"{APP}-starter-rule", f"{APP}-event-rule"
OUR_TAGS = {"app": APP, "version": VERSION}

# --- what is printed ------------------------------------------------------------------------------------------------

# What Bash, jq and Python say when a script is wrong, and what they make of what is not there.
TOOLS = re.compile(
    r"Traceback|unbound variable|command not found|syntax error|jq: error|parse error|integer expression|"
    r"bad substitution|No such file or directory|^\S+\.sh: line \d+:|^\[\d+/\d+\].*\bnull\b|\bNone\b",
    re.MULTILINE,
)
# A run that ends early names the call, the setting or the resource, and what to do.
SAYS_WHAT = re.compile(r"aws \S+ \S+ failed: An error occurred|NOT removed|nothing was changed, because\n- ")


def errors_of_tools(ran: Ran) -> list[str]:
    return [match[0] for match in TOOLS.finditer(ran.output + ran.errors)]


# --- the plan is what happens ---------------------------------------------------------------------------------------

ROW_OF: dict[str, tuple[str, str]] = {  # operation -> kind of the row, the parameter that names the resource
    **dict.fromkeys(("CreateLogGroup", "PutRetentionPolicy"), ("log group", "logGroupName")),
    **dict.fromkeys(
        ("CreateRole", "PutRolePolicy", "UpdateAssumeRolePolicy", "PutRolePermissionsBoundary"), ("role", "RoleName")
    ),
    **dict.fromkeys(
        ("CreateRepository", "PutLifecyclePolicy", "PutImageScanningConfiguration"), ("repository", "repositoryName")
    ),
    "CreateCluster": ("cluster", "clusterName"),
    "PutClusterCapacityProviders": ("cluster", "cluster"),
    "RegisterTaskDefinition": ("task definition", "family"),
    "CreateSecurityGroup": ("security group", "GroupName"),
    "CreateVpcEndpoint": ("gateway endpoint", "ServiceName"),
    **dict.fromkeys(
        (
            *("CreateFunction", "UpdateFunctionCode", "UpdateFunctionConfiguration", "DeleteFunction"),
            *("PutFunctionEventInvokeConfig", "PutFunctionConcurrency"),
        ),
        ("function", "FunctionName"),
    ),
    "PutMetricAlarm": ("alarm", "AlarmName"),
    "PutMetricFilter": ("metric filter", "filterName"),
    "PutDashboard": ("dashboard", "DashboardName"),
    **dict.fromkeys(("PutBucketLifecycleConfiguration", "PutBucketPolicy"), ("bucket lifecycle", "Bucket")),
    **dict.fromkeys(("PutRule", "DeleteRule"), ("rule", "Name")),
    **dict.fromkeys(("PutTargets", "RemoveTargets"), ("rule", "Rule")),
    **dict.fromkeys(("AddPermission", "RemovePermission"), ("rule", "StatementId")),
}
OF_KIND = {  # operation -> kinds of rows, of which there is one of a kind
    **dict.fromkeys(("CreateTopic", "DeleteTopic", "Subscribe", "Unsubscribe"), ("topic",)),
    "CreateServiceLinkedRole": ("service-linked role",),
    "ModifyVpcEndpoint": ("gateway endpoint",),
    "PutBucketNotificationConfiguration": ("notification", "event switch", "event rule"),
    "DeleteMetricFilter": ("alarm",),
    "DeleteAlarms": ("alarm",),
    **dict.fromkeys(("TagResource", "TagRole", "TagLogGroup", "TagQueue", "CreateTags"), ("tag", "event switch")),
}


def rows_of(call: Call) -> set[tuple[str, str]]:
    """(kind, name) of each row that the call may belong to; the name is empty if any of the kind will do."""
    given = call.parameters
    if call.service == "docker":
        return {("image", "")}
    if call.operation in ("CreateQueue", "SetQueueAttributes"):
        name = given.get("QueueName", given.get("QueueUrl", "")).rpartition("/")[2]
        if name == f"{APP}-dlq":
            return {("dead-letter queue", name)}
        return {("queue", name), ("notification", ""), ("event rule", "")}
    if call.operation in OF_KIND:
        return {(kind, "") for kind in OF_KIND[call.operation]}
    kind, parameter = ROW_OF[call.operation]
    name = given[parameter]
    return {("event rule" if name == EVENT_RULE else kind, name)}


def unlike_the_plan(plan: Any, ran: Ran) -> list[str]:
    """Writes without a row, and rows without a write."""
    changed = {(row["kind"], row["name"]) for row in plan["resources"] if row["action"] != "none"}
    found, done = [], set()
    for call in ran.writes:
        rows = {row for row in changed for kind, name in rows_of(call) if row[0] == kind and name in ("", row[1])}
        if not rows:
            found.append(f"not in the plan: {call.service} {call.operation} {call.parameters}")
        done |= rows
    made = any(kind == "function" for kind, _ in done)
    return found + [f"planned, and not done: {row}" for row in sorted(changed - done) if not (row[0] == "tag" and made)]


# --- everything works -----------------------------------------------------------------------------------------------


def wanted_subnets(account: Hostile, settings: dict[str, str]) -> list[str]:
    """At most 16 (ECS API reference, AwsVpcConfiguration); Fargate has no ARM64 in use1-az3."""
    chosen = settings.get("SUBNETS", "").split(",") if settings.get("SUBNETS") else []
    may = [
        one["SubnetId"]
        for one in account.subnets
        if (one["SubnetId"] in chosen if chosen else one["MapPublicIpOnLaunch"])
        and (settings.get("TASK_ARCH") == "X86_64" or one["AvailabilityZoneId"] != "use1-az3")
    ]
    return sorted(may)[:16]


def faults(account: Hostile, settings: dict[str, str]) -> Iterator[str]:
    """What would keep a change from being copied, or an alarm from being seen, beside the path of events."""
    kept = account.kept
    variables = kept[f"function {APP}-starter"]["Environment"]["Variables"]
    groups = [one for one in account.of_kind("security-group") if one["GroupName"] == f"{APP}-sg"]
    ours = [one["GroupId"] for one in groups if one["VpcId"] == VPC]
    if variables["SUBNETS"].split(",") != wanted_subnets(account, settings):
        yield f"tasks run in {variables['SUBNETS']}"
    if variables["SECURITY_GROUPS"].split(",") != ours:
        yield f"tasks have the groups {variables['SECURITY_GROUPS']}, not {ours}"
    if kept[f"cluster {APP}-cluster"]["status"] != "ACTIVE":
        yield "the cluster is not active"
    if not any(one["family"] == f"{APP}-task" and one["status"] == "ACTIVE" for one in account.of_kind("task")):
        yield "no task definition"
    yield from faults_of_endpoints(account, settings)
    yield from faults_of_alarms(account, settings)
    yield from faults_of_ours(kept, settings)


def faults_of_ours(kept: Kept, settings: dict[str, str]) -> Iterator[str]:
    for role in ("starter", "task", "exec"):
        if APP not in kept[f"role {APP}-{role}-role"]["policies"]:
            yield f"the {role} has no rights"
    for group in (STARTER_LOG, WORKER_LOG):
        if kept[f"log-group {group}"].get("retentionInDays") != int(settings.get("LOG_RETENTION_DAYS") or 30):
            yield f"{group} ends at another time"
    want = OUR_TAGS | dict(tag.split("=") for tag in settings.get("TAGS", "").split(",") if tag)
    for name, tags in tags_of_ours(kept):
        is_left = settings.get("IMAGE_URI") and name.startswith("repository ")
        if not is_left and want.items() - tags.items():
            yield f"{name} has the tags {tags}"


def faults_of_endpoints(account: Hostile, settings: dict[str, str]) -> Iterator[str]:
    """Each route table of the subnets needs one of each service, no matter whose."""
    if not settings.get("CREATE_VPC_ENDPOINTS"):
        return
    subnets = set(wanted_subnets(account, settings))
    own = {a.get("SubnetId"): table["RouteTableId"] for table in account.route_tables for a in table["Associations"]}
    for service in ("s3", "s3express"):
        there = {
            table
            for one in account.of_kind("endpoint")
            if one["ServiceName"].endswith(f".{service}") and one["State"].lower() in ("available", "pending")
            for table in one["RouteTableIds"]
        }
        missing = {own.get(subnet, "rtb-main") for subnet in subnets} - there
        if missing:
            yield f"no endpoint for {service} in {sorted(missing)}"


def faults_of_alarms(account: Hostile, settings: dict[str, str]) -> Iterator[str]:
    mail, topic = settings.get("ALARM_EMAIL"), f"arn:aws:sns:{HERE}:{APP}-alarms"
    ours = [one for one in account.of_kind("alarm") if one["tags"].get("app") == APP]
    more = [settings.get("AUDIT_DAYS"), settings.get("METRICS"), settings.get("EVENT_SOURCE") == "eventbridge"]
    if len(ours) != 5 + sum(map(bool, more)):
        yield f"the alarms are {[one['AlarmName'] for one in ours]}"
    if {tuple(one["AlarmActions"]) for one in ours} != {(topic,) if mail else ()}:
        yield "alarms write to somebody else"
    subscribed = [one["Endpoint"] for one in account.kept.get(f"topic {APP}-alarms", {}).get("subscriptions", [])]
    if mail and subscribed != [mail]:
        yield f"alarms are sent to {subscribed}"
    filters = 1 + 2 * bool(settings.get("AUDIT_DAYS"))
    ends = (f" of {STARTER_LOG}", f" of {WORKER_LOG}")
    if sum(name.startswith("filter ") and name.endswith(ends) for name in account.kept) != filters:
        yield "other filters"


def tags_of_ours(kept: Kept) -> Iterator[tuple[str, dict[str, str]]]:
    """Of each resource that is tagged with our name, but for older revisions of the task."""
    revisions = [name for name in kept if name.startswith(f"task {APP}-task:")]
    older = sorted(revisions, key=lambda name: int(name.rpartition(":")[2]))[:-1]
    for name, document in kept.items():
        tags = pairs(document.get("tags", document.get("Tags"))) if isinstance(document, dict) else {}
        if tags.get("app") == APP and name not in older:
            yield name, tags


# --- nothing of ours, and all of theirs -----------------------------------------------------------------------------


def comparable(kept: Kept) -> Kept:
    """Without what an account has in any case, lists of a bucket that are empty, and the order of notifications."""
    found = {name: document for name, document in copy.deepcopy(kept).items() if not name.startswith("role-of-ecs ")}
    for queue in found.get(f"notifications {SOURCE}", {}).get("QueueConfigurations", []):
        queue["Events"].sort()
        for rule in queue["Filter"]["Key"]["FilterRules"]:
            rule["Name"] = rule["Name"].lower()
    for name in (f"notifications {SOURCE}", f"request-metrics {MIRROR}"):
        document = found.pop(name, {})
        document = {part: value for part, value in document.items() if value}
        if "QueueConfigurations" in document:
            document["QueueConfigurations"].sort(key=lambda queue: queue["Id"])
        if document:
            found[name] = document
    return json.loads(json.dumps(found, sort_keys=True))  # type: ignore[no-any-return]


def changed_things(before: Kept, after: Kept) -> list[str]:
    before, after = comparable(before), comparable(after)
    return [
        f"{name}: {before.get(name)} -> {after.get(name)}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]
