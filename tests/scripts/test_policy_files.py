"""docs/policies/: a principal with exactly one of them can do what its role does, and its policy allows nothing more.

The scripts run against an account on paper that authorizes each call as AWS does (authorized.py). As this is one pass
of all that the scripts do, the deployer does it with the oldest jq; the end has what went wrong with that one.
"""

import copy
import json
import re
import shlex
import subprocess
from typing import Any, NamedTuple

import policies_and_patterns
import pytest
from account import APP, MIRROR, PROJECT, SOURCE
from authorized import Authorizing, Grant, allowing, grants
from call import Call
from documents import OLDEST_JQ, Scripts, scripts_of_module
from observers import operated
from operated import Operated
from paper_account import HERE, NUMBER, PaperAccount, Refused
from test_documents import FULL, KEYS, RULES

ROLES = ("deployer", "operator", "reader")
MANAGED, INLINE = 6144, 10240  # characters without white space (IAM User Guide, "IAM and AWS STS quotas")
ALL = FULL | RULES
VERIFY = {"VERIFY_LARGE_PARTS": "2", "VERIFY_LARGE_PART_BYTES": "2048", "MULTIPART_THRESHOLD": "6000000"}
DENIED = "is not authorized to perform: {}"


class Held:
    """What a policy was asked for, and what of it was needed."""

    def __init__(self, policy: dict[str, Any]) -> None:
        self.policy = policy
        self.used: set[Grant] = set()
        self.denied: list[str] = []

    def ask(self, account: PaperAccount, call: Call) -> None:
        for need in Authorizing(NUMBER, account.kept).needs(call):
            found = allowing(self.policy, need)
            self.used |= found
            if not found:
                self.denied.append(f"{need.action} on {need.resource} with {need.context}, for {call.operation}")
                raise Refused("AccessDenied", f"User: u {DENIED.format(need.action)} on resource: {need.resource}")

    def unused(self) -> set[str]:
        """Actions and resources that no call needed."""
        actions = {action for _, action, _ in grants(self.policy)} - {grant.action for grant in self.used}
        resources = {(number, resource) for number, _, resource in grants(self.policy)}
        resources -= {(grant.statement, grant.resource) for grant in self.used}
        names = [statement.get("Sid") for statement in self.policy["Statement"]]
        return actions | {f"{names[number]}: {resource}" for number, resource in resources}


class Principal(Operated):
    """The account, as somebody sees it who has that policy alone."""

    def __init__(self, held: Held, kept: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.held = held
        self.kept = self.kept if kept is None else copy.deepcopy(kept)

    def authorize(self, call: Call) -> None:
        self.held.ask(self, call)


scripts = scripts_of_module(tools=OLDEST_JQ)
verbs = scripts_of_module("sync.sh", tools=OLDEST_JQ)
reading = scripts_of_module("sync.sh")


def policy_of(scripts: Scripts, role: str, **settings: str) -> dict[str, Any]:
    """As ./deploy.sh --policy ROLE prints it."""
    return json.loads(scripts.deploy("--policy", role, "--account", NUMBER, **settings).output)


# Of another deployment, which may have turned on the bucket's switch.
PATTERN = json.dumps({"source": ["aws.s3"], "detail": {"bucket": {"name": [SOURCE]}}})
OTHER_RULE = {"Name": "other-event-rule", "EventPattern": PATTERN, "State": "ENABLED", "targets": {}, "tags": {}}


TASK = {"taskArn": f"arn:aws:ecs:{HERE}:task/{APP}-cluster/t1", "lastStatus": "RUNNING", "desiredStatus": "RUNNING"}


def differ(kept: dict[str, Any]) -> None:
    """What somebody changed by hand: each has a call of its own that puts it right."""
    kept[f"cluster {APP}-cluster"]["capacityProviders"] = []
    kept[f"repository {APP}"]["imageScanningConfiguration"]["scanOnPush"] = False
    kept[f"role {APP}-exec-role"] |= {"trust": "{}", "boundary": f"arn:aws:iam::{NUMBER}:policy/other"}
    for name in ("vpce-s3", "vpce-s3express"):
        kept[f"endpoint {name}"]["RouteTableIds"].pop()
    kept["security-group sg-ours"]["IpPermissionsEgress"] = []
    kept[f"function {APP}-starter"]["concurrency"], kept["limit unreserved"] = 0, 10


def leave_behind(kept: dict[str, Any]) -> None:
    """What a clean-up finds beside what was deployed."""
    kept["running t1"] = dict(TASK)
    kept[f"request-metrics {MIRROR}"] = {"s3-to-s3express-sync-reads-1700000000-1-1": "models/"}
    kept[f"role {APP}-task-role"]["attached"] = ["arn:aws:iam::aws:policy/ReadOnlyAccess"]


def test_a_deployer_deploys_changes_and_cleans_up_and_may_do_nothing_else(scripts: Scripts) -> None:
    """For an upgrade see test_upgrade.py."""
    held = Held(policy_of(scripts, "deployer", **ALL))
    account = scripts.account = Principal(held)
    del account.kept["role-of-ecs AWSServiceRoleForECS"]
    account.kept["rule other-event-rule"] = OTHER_RULE
    scripts.deploy(**ALL)
    differ(account.kept)
    rest = dict.fromkeys(ALL, "") | RULES  # what is not named would be kept
    others = {"TAGS": "team=ai", "ALARM_EMAIL": "dev@example.com", "CREATE_VPC_ENDPOINTS": "true"}
    changed = scripts.deploy(**rest | others | {"PREFIX_FILTER": "a/"})
    said = f"no concurrency is reserved for {APP}-starter: the account has only 10 unreserved executions"
    assert said in changed.errors
    scripts.step("ensure_event_rule", **rest | {"EVENT_SOURCE": "eventbridge"})
    leave_behind(account.kept)
    scripts.clean_up(**RULES)
    assert [name for name in account.kept if APP in name and not name.startswith("image")] == []
    assert held.denied == []
    assert held.unused() == set()


class Verb(NamedTuple):
    """A command of sync.sh and its exit status, or that for a reader, who may not do it."""

    words: str
    status: int = 0
    refused: int | None = None


# The starter has not run on paper, so status is not 0. The order is that of a tour: what is paused is resumed.
TOUR = (
    Verb("status", 1),
    Verb("logs"),
    Verb("logs starter --since 1d"),
    Verb("explain models/parked", 1),
    Verb("explain models/gone"),
    Verb("redrive --list"),
    Verb("cost --estimate --files 1 --size 1MB"),
    Verb("redrive", 0, 1),
    Verb("redrive --purge --yes", 0, 1),
    Verb("reconcile", 0, 1),
    Verb("wait", 0, 3),
    Verb("cost", 0, 1),
    Verb("cost --reads 1 --folders a/ --yes", 0, 1),
    Verb("cost --reads 1 --stop"),
    Verb("pause", 0, 1),
    Verb("resume"),
    Verb("verify --yes --large", 0, 1),
)
# What a reader runs; the rest needs more rights, or that something else was run before.
READING = TOUR[: next(place for place, verb in enumerate(TOUR) if verb.refused)]


@pytest.fixture(scope="module")
def deployed(reading: Scripts) -> dict[str, Any]:
    """With tags and keys, a function that copies, and a worker: for these the verbs need more."""
    kept = reading.with_deployment(**ALL).kept
    more = {f"key {SOURCE}": KEYS[:2], f"key {MIRROR}": KEYS[2], "running t1": TASK | {"startedBy": f"{APP}-starter"}}
    return kept | more


def tour(verbs: Scripts, account: PaperAccount, *commands: Verb) -> str:
    """What is printed, all of it."""
    verbs.account = account
    said = ""
    for verb in commands:
        pause = {} if verb.words.startswith("verify") else {"FOLLOW_PAUSE": "0.01"}
        ran = verbs.run(f'"$PROJECT/sync.sh" {verb.words}', verb.status, **ALL | VERIFY | pause)
        said += ran.output + ran.errors
    return said


def test_an_operator_runs_the_verbs_and_may_do_nothing_else(reading: Scripts, deployed: dict[str, Any]) -> None:
    held = Held(policy_of(reading, "operator", **ALL))
    tour(reading, Principal(held, deployed), *TOUR)
    assert held.denied == []
    assert held.unused() == set()


def test_a_reader_runs_what_changes_nothing_and_may_do_nothing_else(reading: Scripts, deployed: dict[str, Any]) -> None:
    policy = policy_of(reading, "reader", **ALL)
    held = Held(policy)
    tour(reading, Principal(held, deployed), *READING)
    assert held.denied == []
    assert held.unused() == set()
    for verb in TOUR:
        if verb.refused:
            account = Principal(Held(policy), deployed)
            assert DENIED.format("") in tour(reading, account, verb._replace(status=verb.refused)), verb
            assert (account.kept, account.objects) == (deployed, {}), verb


# --- conditions -----------------------------------------------------------------------------------------------------

IN_CLUSTER = f"ArnEquals ecs:cluster=arn:aws:ecs:{HERE}:cluster/{APP}-cluster"
TO_TASKS = "StringEquals iam:PassedToService=ecs-tasks.amazonaws.com"
READS = "StringEquals s3express:SessionMode=ReadOnly"
WITHIN = f"StringEquals iam:PermissionsBoundary={RULES['ROLE_BOUNDARY_ARN']}"
OF_NEW = [f"StringEquals ec2:CreateAction={name}" for name in ("CreateSecurityGroup", "CreateVpcEndpoint")]
CHANGED_IN_NETWORK = ("AuthorizeSecurityGroupEgress", "CreateTags", "DeleteSecurityGroup", "DeleteVpcEndpoints")
# Whose policy -> actions, with the conditions under which it allows them.
CONDITIONS = {
    "deployer": {
        ("s3express:CreateSession", READS),
        ("ecs:ListTasks", IN_CLUSTER),
        ("ec2:CreateTags", *OF_NEW),
        *(
            (f"ec2:{name}", f"StringEquals aws:ResourceTag/app={APP}")
            for name in (*CHANGED_IN_NETWORK, "ModifyVpcEndpoint")
        ),
        *((f"iam:{name}", WITHIN) for name in ("CreateRole", "PutRolePolicy", "PutRolePermissionsBoundary")),
        ("iam:PassRole", "StringEquals iam:PassedToService=lambda.amazonaws.com"),
        ("iam:PassRole", TO_TASKS),
        ("iam:CreateServiceLinkedRole", "StringEquals iam:AWSServiceName=ecs.amazonaws.com"),
    },
    "operator": {
        ("lambda:UpdateFunctionConfiguration", "Null lambda:Layer=true"),
        ("ecs:RunTask", IN_CLUSTER),
        ("ecs:ListTasks", IN_CLUSTER),
        ("iam:PassRole", TO_TASKS),
        ("ecs:TagResource", "StringEquals ecs:CreateAction=RunTask"),
    },
    "reader": {("s3express:CreateSession", READS), ("ecs:ListTasks", IN_CLUSTER)},
}


@pytest.mark.parametrize("role", ROLES)
def test_what_could_be_misused_is_allowed_under_conditions(scripts: Scripts, role: str) -> None:
    """That these do not keep anybody from their work is seen above."""
    allowed = policies_and_patterns.grants(json.dumps(policy_of(scripts, role, **ALL)))
    assert {(action, *conditions) for action, _, *conditions in allowed if conditions} == CONDITIONS[role]


def test_no_command_for_the_night_takes_a_right_that_an_operator_has_not(reading: Scripts) -> None:
    """Of the page for faults, all commands of the AWS CLI; of that for operators, those beside sync.sh."""
    page = (PROJECT / "docs/operations.md").read_text()
    pages = (PROJECT / "docs/troubleshooting.md").read_text(), page[page.index("## The same without sync.sh") :]
    commands = re.findall(r"^(?:[A-Z_]+=\$\()?aws ([a-z0-9]+) ([a-z-]+)", "\n".join(pages), re.MULTILINE)
    asked = {f"{service}:{command.title().replace('-', '')}" for service, command in commands}
    asked = {ACTIONS_OF_COMMANDS.get(action, action) for action in asked}
    assert len(asked) > 7
    assert asked - {grant.action for grant in grants(policy_of(reading, "operator"))} == set()


ACTIONS_OF_COMMANDS = {"logs:Tail": "logs:FilterLogEvents", "lambda:Invoke": "lambda:InvokeFunction"}


# --- what is printed ------------------------------------------------------------------------------------------------


def printed(*words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", **settings}
    return subprocess.run([PROJECT / "deploy.sh", *words], env=environment, capture_output=True, text=True)


def test_an_administrator_gets_a_policy_without_a_cli_or_credentials() -> None:
    done = printed("--policy", "reader", "--account", "111122223333", APP_NAME="second", DST_BUCKET=MIRROR)
    assert done.returncode == 0, done.stderr
    assert "arn:aws:sqs:eu-west-1:111122223333:second-q" in done.stdout
    assert "{" not in "".join(str(one) for grant in grants(json.loads(done.stdout)) for one in grant)
    assert done.stderr.startswith("reader: ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--policy", "--policy needs a value"),
        ("--policy admin", "--policy needs a role: deployer, operator, reader"),
        ("--account 111122223333", "--policy needs a role"),
        ("--policy reader --account 1", "--account 1 is not the 12 digits"),
        ("--policy reader --local", "--local does not go with --policy"),
    ],
)
def test_wrong_usage_ends_with_2_and_deploys_nothing(words: str, said: str) -> None:
    done = printed(*words.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_without_an_account_the_one_of_the_credentials_counts(reading: Scripts) -> None:
    reading.account = PaperAccount()
    ran = reading.deploy("--policy", "reader")
    assert {call.operation for call in ran.calls} == {
        "GetCallerIdentity",
        "ListTaskDefinitions",
        "GetFunctionConfiguration",
        "GetQueueUrl",
    }
    assert f":{NUMBER}:" in ran.output


def test_a_policy_has_room_where_it_is_said_to_have_it(reading: Scripts) -> None:
    """With the longest names, a path, a boundary, and keys."""
    long = ALL | {"APP_NAME": "a" * 50, "SRC_BUCKET": "b" * 63, "DST_BUCKET": f"{'c' * 44}--use1-az4--x-s3"}
    for role in ROLES:
        for settings, most in (({}, INLINE if role == "deployer" else MANAGED), (long, INLINE)):
            policy = json.dumps(policy_of(reading, role, **settings), ensure_ascii=False, separators=(",", ":"))
            assert len(policy) <= most, (role, len(policy))
    far = reading.deploy("--policy", "deployer", "--account", NUMBER, status=1, ROLE_PATH=f"/{'p' * 500}/")
    assert "IAM takes at most 10240" in far.errors


# --- the oldest jq --------------------------------------------------------------------------------------------------

# In 1.6, "end" cannot be the name of a variable, and @uri leaves what is special in a prefix as it is.
TABLE = {"TABLES": "delta", "COPY_LAST": "*.done", "PREFIX_FILTER": "it's (new)! ~/"}
FILTER = "it%27s+%28new%29%21+~/"
# Of London, without a file of its zone.
SUMMER_TIME = "GMT0BST,M3.5.0/1,M10.5.0"


def test_a_table_is_deployed_its_prefix_is_encoded_as_s3_does_and_a_task_gets_all_its_words(
    verbs: Scripts, reading: Scripts
) -> None:
    account = verbs.account = operated(reading.with_deployment().kept)
    verbs.step("ensure_task_definition", "ensure_function", "ensure_notification", **TABLE)
    (ours,) = account.kept[f"notifications {SOURCE}"]["QueueConfigurations"]
    assert ours["Filter"]["Key"]["FilterRules"] == [{"Name": "prefix", "Value": FILTER}]
    (given,) = verbs.run('"$PROJECT/sync.sh" wait --timeout 60s', FOLLOW_PAUSE="0.01", **TABLE).sent("RunTask")
    assert given["overrides"] == {"containerOverrides": [{"name": "worker", "command": ["wait", "--timeout", "60s"]}]}


def test_verbs_change_a_deployment_with_it(verbs: Scripts, deployed: dict[str, Any]) -> None:
    commands = [verb for verb in TOUR if verb.words.startswith(("cost --reads", "pause", "resume"))]
    said = tour(verbs, operated(deployed), *commands)
    assert "the sync continues, after a pause since 20" in said


def test_a_time_is_right_while_the_machine_has_summer_time(verbs: Scripts) -> None:
    script = """source "$PROJECT/sync.sh"; iso 1782864000
        jq -c "$(jq_epoch) map(epoch)" <<<"$0" """
    times = json.dumps(["2026-07-01T00:00:00Z", "2026-07-01T01:00:00.000+01:00"])
    shown = verbs.run(f"TZ={SUMMER_TIME} bash -c {shlex.quote(script)} '{times}'").output.split()
    assert shown == ["2026-07-01T00:00:00Z", "[1782864000,1782864000]"]
