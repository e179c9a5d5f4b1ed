"""Runs of deploy.sh and cleanup.sh of which one call of the AWS CLI fails, chosen by its number, in one of five ways.

Calls run side by side, so their order differs from run to run. A call is known by its words, and by how often it was
made with them before; its number is its place in the sorted list of all that a run makes.
"""

import copy
import json
import re
import shlex
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from account import APP, MIRROR, SOURCE
from documents import Ran, Scripts, read_call, without_file, without_general_options
from generated import OTHERS, crowd
from hostile import THROTTLED
from paper_account import HERE
from test_policy_files import TASK

Kept = dict[str, Any]
Key = tuple[str, int]

# --- the runs -------------------------------------------------------------------------------------------------------

SETTINGS = {"ALARM_EMAIL": "ops@example.com", "AUDIT_DAYS": "7", "CREATE_VPC_ENDPOINTS": "true", "KEEP_DAYS": "30"}
BRIDGE, COPIES = {"EVENT_SOURCE": "eventbridge"}, {"STARTER_COPIES": "true"}
DETAIL = ("--dry-run", "--json", "--detailed-exitcode")


class Run(NamedTuple):
    """A script with its options and settings, in an account with a deployment of other settings, or with none."""

    program: str
    options: tuple[str, ...] = ()
    settings: dict[str, str] = {}  # noqa: RUF012 - nobody changes it
    before: dict[str, str] | None = SETTINGS
    status: int = 0


RUNS = {
    "the first": Run("deploy.sh", settings=SETTINGS, before=None),
    "no change": Run("deploy.sh"),
    "to eventbridge": Run("deploy.sh", settings=BRIDGE),
    "to sqs": Run("deploy.sh", settings={"EVENT_SOURCE": "sqs"}, before=SETTINGS | BRIDGE),
    "copying": Run("deploy.sh", settings=COPIES),
    "no copying": Run("deploy.sh", settings={"STARTER_COPIES": "false"}, before=SETTINGS | COPIES),
    "fewer days": Run("deploy.sh", settings={"KEEP_DAYS": "7"}),
    "metrics": Run("deploy.sh", settings={"METRICS": "true"}),
    "a plan": Run("deploy.sh", DETAIL, settings=BRIDGE, status=2),
    "removal": Run("cleanup.sh", ("--yes",)),
    "removal of eventbridge": Run("cleanup.sh", ("--yes",), before=SETTINGS | BRIDGE),
    "its rehearsal": Run("cleanup.sh", ("--dry-run",)),
}

# A step of a deployment alone, of which the options are the name.
STEP = "step"
# Deployments of which each step is such a run: one that changes whatever settings can change, and the first.
CHANGED = BRIDGE | COPIES | {"ALARM_EMAIL": "", "DASHBOARD": "false", "KEEP_DAYS": "7", "LAMBDA_POLL_RATE": "2"}
CHANGED |= {"MAX_WORKERS": "3", "METRICS": "true", "RETENTION_DAYS": "30", "TAGS": "team=ml"}
STEPS_OF = Run("deploy.sh", settings=CHANGED), RUNS["the first"]


def steps(run: Run) -> Iterator[str]:
    """The steps of a deployment in their order."""
    yield from (f"ensure_log_group {group}" for group in (f"/aws/lambda/{APP}-starter", f"/ecs/{APP}-task"))
    yield from (f"ensure_queue {APP}-{queue}" for queue in ("dlq", "q"))
    yield from (f"ensure_role {APP}-{role}-role" for role in ("starter", "task", "exec"))
    yield from ("ensure_repository", "ensure_image", "ensure_ecs_role", "ensure_cluster", "ensure_loosened_lifecycle")
    yield from ("ensure_task_definition", "ensure_security_group")
    if "CREATE_VPC_ENDPOINTS" in (run.before or {}) | run.settings:
        yield from ("ensure_vpc_endpoint s3", "ensure_vpc_endpoint s3express")
    yield from ("ensure_function", "ensure_rule")
    by_bridge = run.settings.get("EVENT_SOURCE") == "eventbridge"
    yield from ("ensure_event_rule", "ensure_event_switch") if by_bridge else ("ensure_notification",)
    yield "ensure_rights_ended"
    yield from (
        ("ensure_topic", "ensure_alarms") if run.settings.get("ALARM_EMAIL") else ("ensure_alarms", "ensure_topic")
    )
    yield from ("ensure_dashboard", "ensure_version_tag", "ensure_lifecycle", "ensure_no_overdue_reads")
    yield "ensure_notification" if by_bridge else "ensure_event_rule"


# --- the ways in which a call fails ---------------------------------------------------------------------------------


# Commands of the CLI that are no operations.
OPERATIONS = {"wait": "GetFunction", "get-login-password": "GetAuthorizationToken"}
# The error of a call that is denied; other services have AccessDeniedException.
DENIED = {"ec2": "UnauthorizedOperation", "sns": "AuthorizationError", "iam": "AccessDenied", "s3api": "AccessDenied"}


Answer = Callable[[], tuple[int, str]]  # (exit status, what is printed)
Shown = tuple[int, int, str]  # with the file descriptor between them


def unreachable(_call: list[str], _answer: Answer) -> Shown:
    return 255, 2, '\nCould not connect to the endpoint URL: "https://aws.example/"\n'


def refused(call: list[str], code: str, reason: str) -> Shown:
    operation = OPERATIONS.get(call[1]) or read_call(call).operation
    return 254, 2, f"\nAn error occurred ({code}) when calling the {operation} operation: {reason}\n"


def denied(call: list[str], _answer: Answer) -> Shown:
    return refused(call, DENIED.get(call[0], "AccessDeniedException"), "User: u is not authorized to perform this")


def throttled(call: list[str], _answer: Answer) -> Shown:
    return refused(call, THROTTLED.get(call[0].removesuffix("api"), "ThrottlingException"), "Rate exceeded")


def half(answer: Answer, status_then: int) -> Shown:
    """The call is made, and the first half of its answer is printed."""
    status, text = answer()
    return (status, 2, text) if status else (status_then, 1, text[: len(text) // 2])


def cut(_call: list[str], answer: Answer) -> Shown:
    """The CLI is killed while it prints."""
    return half(answer, 255)


def short(_call: list[str], answer: Answer) -> Shown:
    """A program around the CLI loses the rest."""
    return half(answer, 0)


KINDS = {"unreachable": unreachable, "denied": denied, "throttled": throttled, "cut": cut, "short": short}
# What AWS refuses in these ways, it refuses until the run ends.
LASTING = ("denied", "throttled")


class OneCall:
    """Makes a call fail, or none, and notes all of them."""

    def __init__(self, key: Key | None = None, kind: str = "") -> None:
        self.key, self.kind = key, kind
        self.seen: Counter[str] = Counter()
        self.lock = threading.Lock()

    def __call__(self, words: list[str], answer: Answer) -> Shown:
        if words[0] == "aws" and words[1:] != ["--version"]:
            call = without_general_options(words[1:])
            name = self.name_of(call)
            with self.lock:
                self.seen[name] += 1
                number = self.seen[name]
            if self.fails(name, number):
                return KINDS[self.kind](without_file(call)[0], answer)
        status, text = answer()
        return status, 2 if status else 1, text

    def name_of(self, call: list[str]) -> str:
        name = re.sub(r"/\S*/tmp\.\w+/", "//", shlex.join(call))
        return re.sub(r"(?<=-time )\S+|\d{4}-\d\d-\d\dT[\d:]+Z", "TIME", name)

    def fails(self, name: str, number: int) -> bool:
        if not self.key or name != self.key[0]:
            return False
        return number == self.key[1] or (number > self.key[1] and self.kind in LASTING)

    def keys(self) -> list[Key]:
        return sorted((name, n + 1) for name, times in self.seen.items() for n in range(times))


# --- the account ----------------------------------------------------------------------------------------------------

# Beside ours in lists that a bucket has as a whole.
THEIR_RULE = {"ID": "theirs", "Status": "Enabled", "Filter": {"Prefix": "theirs/"}, "Expiration": {"Days": 3}}
OUR_QUEUE = f"arn:aws:sqs:{HERE}:{APP}-q"
NOTIFICATIONS, LIFECYCLE, METRICS = f"notifications {SOURCE}", f"lifecycle {MIRROR}", f"request-metrics {MIRROR}"


def before(scripts: Scripts, run: Run) -> tuple[Kept, Kept]:
    """(what the account has, what of it is theirs)"""
    theirs = crowd(scripts.with_deployment(**OTHERS).kept)
    theirs[LIFECYCLE] = [THEIR_RULE]
    kept: Kept = {}
    if run.before is not None:
        kept = scripts.with_deployment(**run.before).kept
    if run.program == "cleanup.sh":
        kept["running t1"] = dict(TASK)
        del theirs[f"queue {APP}-q-0"]  # S3 keeps its notification
    both = kept | copy.deepcopy(theirs)
    both[NOTIFICATIONS]["QueueConfigurations"] += kept.get(NOTIFICATIONS, {}).pop("QueueConfigurations", [])
    both[NOTIFICATIONS] |= kept.get(NOTIFICATIONS, {})
    both[LIFECYCLE] += kept.get(LIFECYCLE, [])
    return json.loads(json.dumps(both)), json.loads(json.dumps(theirs))


def of_others(kept: Kept, theirs: Kept) -> Kept:
    """What an account has of theirs."""
    found = {name: copy.deepcopy(kept[name]) for name in theirs if name in kept}
    if NOTIFICATIONS in found:
        mixed = found[NOTIFICATIONS]
        mixed.pop("EventBridgeConfiguration", None)
        mixed["QueueConfigurations"] = [
            one for one in mixed.get("QueueConfigurations", []) if one["QueueArn"] != OUR_QUEUE
        ]
    if LIFECYCLE in found:
        found[LIFECYCLE] = [rule for rule in found[LIFECYCLE] if not rule["ID"].startswith(APP)]
    return found


def has_way(kept: Kept) -> bool:
    """Whether the events of the bucket reach the queue, by its notification or by the rule."""
    bucket, rule = kept.get(NOTIFICATIONS, {}), kept.get(f"rule {APP}-event-rule", {"targets": {}})
    policy = kept.get(f"queue {APP}-q", {"Attributes": {}})["Attributes"].get("Policy", "")
    by_bucket = any(one["QueueArn"] == OUR_QUEUE for one in bucket.get("QueueConfigurations", []))
    by_rule = "EventBridgeConfiguration" in bucket and "queue" in rule["targets"]
    return (by_bucket and "s3.amazonaws.com" in policy) or (by_rule and "events.amazonaws.com" in policy)


# --- what is said of it ---------------------------------------------------------------------------------------------

# A line that claims nothing of a resource, or says that something was not done.
HEDGED = re.compile(r"NOT removed|left to you|^Not done|^- |^$|cannot be|could not be|not known")


def statements(ran: Ran, run: Run) -> set[str]:
    """What a run says of resources, row by row, without their numbers."""
    if "--json" in run.options:
        rows = json.loads(ran.output)["resources"] if ran.output else []
        return {json.dumps(row, sort_keys=True) for row in rows}
    stays = [line for line in ran.errors.splitlines() if line.startswith("      stays: ")]
    return {re.sub(r"^\[\d+/\d+\] ", "", line) for line in [*ran.output.splitlines(), *stays]}


def names_call(line: str, call: str) -> bool:
    """Whether it names the operation, and the resource: as the call or its row does, or by a setting or a tag."""
    service, command, *words = shlex.split(call)
    operation = command.replace("-", "")
    if f"aws {service} {command}" not in line and f"calling the {operation} operation" not in line.lower():
        return False
    is_value = re.compile(r"(?!--|[{\[]|file|text$)")
    values = [re.split("[/:=]", word)[-1] for word in words if is_value.match(word)]
    names_row = re.search(r"\b\w+=|: [a-z -]+ [^: ]+: aws ", line) is not None
    return not values or names_row or any(value in line for value in values)
