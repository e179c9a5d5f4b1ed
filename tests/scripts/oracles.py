"""What every deployment of generated.py has to be like, whatever happened before it."""

import copy
import json
import re
from collections.abc import Iterator
from typing import Any

from account import APP, MIRROR, REGION, SOURCE
from asked_for import Asked, Compared
from call import Call
from documents import Ran
from paper_account import TAGGING, PaperAccount, pairs

from mirror.version import VERSION

Kept = dict[str, Any]
EVENT_RULE = f"{APP}-event-rule"
TAGGED = (*(row[2] for row in TAGGING.values()), "cluster", "task", "security-group")

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

# Operations, the kinds of rows that they may belong to, and what names the resource, if there are several of a kind.
ROWS = (
    ("CreateLogGroup|PutRetentionPolicy", "log group", "logGroupName"),
    ("CreateQueue", "queue", "QueueName"),
    ("SetQueueAttributes", "queue", "QueueUrl"),
    ("CreateRole|PutRole.*|UpdateAssumeRolePolicy", "role", "RoleName"),
    ("CreateServiceLinkedRole", "service-linked role", ""),
    ("CreateRepository|PutLifecyclePolicy|PutImageScanningConfiguration", "repository", ""),
    ("CreateCluster|PutClusterCapacityProviders", "cluster", ""),
    ("RegisterTaskDefinition", "task definition", ""),
    ("CreateSecurityGroup|AuthorizeSecurityGroupEgress", "security group", ""),
    ("CreateVpcEndpoint", "gateway endpoint", "ServiceName"),
    ("ModifyVpcEndpoint", "gateway endpoint", ""),
    (".*Function.*", "function", ""),
    ("PutMetricAlarm", "alarm", "AlarmName"),
    ("DeleteAlarms|DeleteMetricFilter", "alarm", ""),
    ("PutMetricFilter", "metric filter", "filterName"),
    (".*Dashboards?", "dashboard", ""),
    ("PutBucketLifecycleConfiguration|PutBucketPolicy", "bucket lifecycle", ""),
    ("PutRule|DeleteRule", "rule", "Name"),
    ("PutTargets|RemoveTargets", "rule", "Rule"),
    ("AddPermission|RemovePermission", "rule", "StatementId"),
    ("PutBucketNotificationConfiguration", "notification,event switch,event rule", ""),
    (".*Topic|Subscribe|Unsubscribe", "topic", ""),
    ("Tag.*|CreateTags", "tag,event switch", ""),
)


def rows_of(call: Call) -> set[tuple[str, str]]:
    """(kind, name) of each row that the call may belong to; the name is empty if any of the kind will do."""
    if call.service == "docker":
        return {("image", "")}
    rows = [row[1:] for row in ROWS if re.fullmatch(row[0], call.operation)]
    assert rows, f"ROWS in tests/scripts/oracles.py do not say which row of the plan {call.operation} belongs to"
    kinds, parameter = rows[0]
    name = call.parameters[parameter] if parameter else ""
    if name.startswith("https://"):  # the URL of a queue
        name = name.rpartition("/")[2]
    if name == EVENT_RULE:
        return {("event rule", name)}
    if name == f"{APP}-dlq":
        return {("dead-letter queue", name)}
    of_queue = {("notification", ""), ("event rule", "")} if kinds == "queue" else set()
    return {(kind, name) for kind in kinds.split(",")} | of_queue


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

# Of these kinds, a deployment leaves what other settings made: others may use an endpoint by now, and older revisions
# and images go with the family and the repository.
STAY = ("endpoint", "image", "task", "repository")


def faults(account: PaperAccount, settings: dict[str, str]) -> Iterator[str]:
    """What is not as the settings ask, beside the path of events, and what nothing asks for."""
    asked = Asked(account, settings)
    found = Compared(account.kept, asked.app)
    log = rf"/(aws/lambda|ecs)/{asked.app}-(task|starter)"
    ours = re.compile(rf"{asked.app}(-[a-z-]+)?( of {log})?|{log}")
    for name, document in asked.documents.items():
        if found[name] != document:
            yield f"{name} is {found[name]} instead of {document}"
    for name in account.kept.keys() - asked.documents.keys():
        kind, _, rest = name.partition(" ")
        if ours.fullmatch(rest) and kind not in STAY:
            yield f"nothing asks for {name}"
    yield from faults_of_tags(account, asked)
    yield from faults_of_endpoints(account, asked)


def faults_of_tags(account: PaperAccount, asked: Asked) -> Iterator[str]:
    """By them cleanup.sh finds it, and status the release; a role's name is the same in all Regions."""
    wanted = {"app": asked.app, "version": VERSION} | dict(
        [part.strip() for part in tag.split("=", 1)] for tag in asked.settings["TAGS"].split(",") if tag
    )
    for name in asked.documents:
        kind = name.partition(" ")[0]
        more = {"region": REGION} if kind == "role" else {}
        if (
            kind in TAGGED
            and not (wanted | more).items() <= tags_of(Compared(account.kept, asked.app).kept_of(name)).items()
        ):
            yield f"{name} has other tags"


def tags_of(document: Any) -> dict[str, str]:
    return pairs(document.get("tags", document.get("Tags")))


def faults_of_endpoints(account: PaperAccount, asked: Asked) -> Iterator[str]:
    """Each route table of the subnets needs one of each service, no matter whose."""
    if not asked.is_on("CREATE_VPC_ENDPOINTS"):
        return
    own = {a.get("SubnetId"): table["RouteTableId"] for table in account.route_tables for a in table["Associations"]}
    for service in ("s3", "s3express"):
        there = {
            table
            for one in account.of_kind("endpoint")
            if one["ServiceName"].endswith(f".{service}") and one["State"].lower() in ("available", "pending")
            for table in one["RouteTableIds"]
        }
        missing = {own.get(subnet, "rtb-main") for subnet in asked.subnets} - there
        if missing:
            yield f"no endpoint for {service} in {sorted(missing)}"


# --- nothing of ours, and all of theirs -----------------------------------------------------------------------------


def comparable(kept: Kept) -> Kept:
    """Without what an account has in any case, lists of a bucket that are empty, and the order of notifications."""
    found = {
        name: document
        for name, document in copy.deepcopy(kept).items()
        if not name.startswith(("role-of-ecs ", "limit "))
    }
    for queue in found.get(f"notifications {SOURCE}", {}).get("QueueConfigurations", []):
        queue["Events"].sort()
        for rule in queue.get("Filter", {}).get("Key", {}).get("FilterRules", []):
            rule["Name"] = rule["Name"].lower()
    for name in (f"notifications {SOURCE}", f"request-metrics {MIRROR}"):
        document = found.pop(name, {})
        document = {part: value for part, value in document.items() if value or part == "EventBridgeConfiguration"}
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
