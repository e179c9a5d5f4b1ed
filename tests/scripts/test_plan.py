"""The plan that a dry run prints: what would be made, changed or removed, from what to what, and how the run ends."""

import json
from typing import Any

import pytest
from account import APP, MIRROR, SOURCE
from asked_for import THEIR_TOPIC
from documents import Scripts, scripts_of_module
from generated import BOUNDARY, HARMFUL, add_theirs, harm, theirs_that_are_gone
from oracles import errors_of_tools, faults
from paper_account import PaperAccount, Refused

scripts = scripts_of_module("deploy.sh")


def test_values_are_shown_as_they_are_and_as_they_would_be(scripts: Scripts) -> None:
    """Of a map and of a list with names and without; what is gone, and what is a number beside a document."""
    kept = scripts.with_deployment().kept
    policies, function = kept[f"role {APP}-exec-role"]["policies"], kept[f"function {APP}-starter"]
    policies[APP] = policies[APP].replace("Allow", "Deny", 1)
    kept[f"notifications {SOURCE}"]["QueueConfigurations"][0]["Events"][3] = "s3:ObjectTagging:*"
    function["Environment"]["Variables"]["MIN_WORKERS"] = "1"
    function["concurrency"] = 5
    kept[f"queue {APP}-q"]["Attributes"]["VisibilityTimeout"] = "3600"
    ran = scripts.deploy("--dry-run", "--json", COPY_TIMEOUT="60")
    assert ran.writes == []
    changed = [one for one in json.loads(ran.output)["resources"] if one["action"] == "change"]
    shown = {one["kind"]: [(value["path"], value["from"], value["to"]) for value in one["values"]] for one in changed}
    assert shown == {
        "queue": [("VisibilityTimeout", "3600", "7200")],
        "role": [("policy.Statement.0.Effect", "Deny", "Allow")],
        "task definition": [
            (f"containerDefinitions.worker.{part}.COPY_TIMEOUT", None, "60") for part in ("environment", "settings")
        ],
        "function": [("Environment.Variables.MIN_WORKERS", "1", None), ("concurrency", 5, 1)],
        "notification": [("events or filter.0.Events.3", "s3:ObjectTagging:*", "s3:ObjectRestore:Completed")],
    }
    for path, have, want in (value for values in shown.values() for value in values):
        assert f"\n      {path}: {json.dumps(have)} -> {json.dumps(want)}\n" in ran.errors


def test_what_only_aws_has_is_in_the_plan_if_the_sync_fails_with_it_and_one_run_takes_it_away(scripts: Scripts) -> None:
    account = scripts.with_deployment()
    harm(account.kept)
    plan = plan_of(scripts, "", 0)
    changed = [one for one in plan["resources"] if one["action"] != "none"]
    said = [*(part for one in changed for part in one["differs"])]
    said += [value["path"] for one in changed for value in one["values"]]
    assert [place for *_, place in HARMFUL if not any(place in part for part in said)] == []
    scripts.deploy()
    assert list(faults(account, {})) == []
    assert plan_of(scripts, "--detailed-exitcode", 0)["changes"] == 0


def test_what_others_have_added_is_named_and_stays_if_something_beside_it_changes(scripts: Scripts) -> None:
    account = scripts.with_deployment(ALARM_EMAIL="ops@example.com")
    add_theirs(account.kept)
    assert plan_of(scripts, "--detailed-exitcode", 0)["changes"] == 0
    ran = scripts.deploy(VISIBILITY_TIMEOUT="7300", ALARM_AGE_SECONDS="1800")
    assert theirs_that_are_gone(account.kept) == []
    assert ran.errors.count("left to you, because somebody added it") == 3
    for part in (
        '"aws:SecureTransport": "false"',
        f"left to you, because somebody added it: target theirs ({THEIR_TOPIC})",
        "left to you, because somebody added it to the policy: ",
    ):
        assert part in ran.errors.replace('":"', '": "')


def test_what_an_account_decides_is_said_and_no_change(scripts: Scripts) -> None:
    """A permissions boundary that somebody gave a role, and a retention policy; one without days keeps all."""
    account = scripts.with_deployment()
    account.kept[f"role {APP}-task-role"]["boundary"] = BOUNDARY
    account.kept[f"log-group /ecs/{APP}-task"] |= {"retentionPolicyName": "short", "retentionInDays": 7}
    del account.kept[f"log-group /aws/lambda/{APP}-starter"]["retentionInDays"]
    account.kept[f"log-group /aws/lambda/{APP}-starter"]["retentionPolicyName"] = "for ever"
    ran = scripts.deploy("--dry-run", "--detailed-exitcode")
    said = (
        f"the permissions boundary {BOUNDARY}. If it denies what the sync needs, run aws iam delete-role-permissions-"
    )
    assert f"{said}boundary --role-name {APP}-task-role, or set ROLE_BOUNDARY_ARN" in ran.errors
    for name in ("short", "for ever"):
        assert f"LOG_RETENTION_DAYS=30 has no effect: the account's retention policy {name} decides" in ran.errors


FORGETS = f"ECS forgets ended tasks after an hour, and {APP}-starter runs every {{rate}} minutes"
FIRES = "ALARM_AGE_SECONDS={age} is less than a message may wait with LAMBDA_POLL_RATE={rate} while all is well"


@pytest.mark.parametrize(
    ("rate", "age", "said"),
    [("61", "", [FORGETS]), ("60", "3899", [FIRES]), ("60", "3900", []), ("1", "360", [])],
)
def test_the_plan_says_what_a_high_rate_means(scripts: Scripts, rate: str, age: str, said: list[str]) -> None:
    """At the lowest age that may be set, and a second below it."""
    scripts.account = PaperAccount()
    named = {"LAMBDA_POLL_RATE": rate, "ALARM_AGE_SECONDS": age}
    ran = scripts.step("ensure_rule", "ensure_alarms", DRY_RUN="true", **named)
    assert ran.writes == []
    for note in (FORGETS, FIRES):
        assert ran.errors.count(note.format(age=age, rate=rate)) == said.count(note)


MORE = {"AUDIT_DAYS": "1", "ALARM_EMAIL": "ops@example.com", "CREATE_VPC_ENDPOINTS": "true"}


@pytest.mark.parametrize("settings", [{}, MORE, {"EVENT_SOURCE": "eventbridge"}])
def test_a_plan_asks_for_nothing_twice_and_what_it_would_change_is_all_that_is_done(
    scripts: Scripts, settings: dict[str, str]
) -> None:
    """Each call of the CLI takes about a second."""
    scripts.with_deployment(**settings)
    ran = scripts.deploy(**settings)
    asked = [f"{call.operation} {call.parameters}" for call in ran.calls if call.service != "docker"]
    assert sorted(asked) == sorted(set(asked))
    assert ran.writes == []
    off = {"ListRules", "DescribeVpcEndpoints", "ListSubscriptionsByTopic"}  # they cost nothing
    assert settings or not off & {call.operation for call in ran.calls}


def with_one_statement(kept: dict[str, Any]) -> None:
    statement = {"Sid": "theirs", "Effect": "Deny", "Principal": "*", "Action": "sqs:*", "Resource": "*"}
    kept[f"queue {APP}-q"]["Attributes"]["Policy"] = json.dumps({"Version": "2012-10-17", "Statement": statement})


def with_bare_revision(kept: dict[str, Any]) -> None:
    """As somebody may register it for EC2: without a size, a role, variables, and a record."""
    container = {"name": "worker", "image": "theirs"}
    first = kept[f"task {APP}-task:1"]
    arn = first["taskDefinitionArn"].removesuffix("1") + "2"
    second = {"taskDefinitionArn": arn, "containerDefinitions": [container]}
    second |= {name: first[name] for name in ("family", "status", "tags")}
    kept[f"task {APP}-task:2"] = second


def with_nameless_rules(kept: dict[str, Any]) -> None:
    kept[f"lifecycle {MIRROR}"].append({"Status": "Enabled", "Filter": {}, "Expiration": {"Days": 9}})
    theirs = {"Id": "t", "TopicArn": "arn:aws:sns:us-east-1:1:t", "Events": ["s3:ObjectTagging:*"]}
    kept[f"notifications {SOURCE}"]["TopicConfigurations"] = [theirs | {"Filter": {"Key": {"FilterRules": [{}]}}}]


def test_what_others_have_written_may_leave_out_what_need_not_be_there(scripts: Scripts) -> None:
    kept = scripts.with_deployment(KEEP_DAYS="30").kept
    for write in (with_one_statement, with_bare_revision, with_nameless_rules):
        write(kept)
    ran = scripts.deploy("--dry-run", status=None)
    assert errors_of_tools(ran) == [], ran.errors
    assert ran.status == 0, ran.errors


def plan_of(scripts: Scripts, options: str, status: int, **settings: str) -> dict[str, Any]:
    ran = scripts.deploy(*f"--dry-run --json {options}".split(), status=status, **settings)
    assert ran.writes == []
    return json.loads(ran.output) if ran.output else {}


def test_the_plan_is_all_json_and_its_exit_status_says_whether_there_is_something_to_do(scripts: Scripts) -> None:
    scripts.account = PaperAccount()
    plan = plan_of(scripts, "--detailed-exitcode", 2)
    assert {resource["action"] for resource in plan["resources"]} == {"create", "none"}
    assert {"kind": "queue", "name": f"{APP}-q", "action": "create"} in plan["resources"]
    scripts.with_deployment()
    plan = plan_of(scripts, "--detailed-exitcode", 0)
    assert (plan["changes"], {resource["action"] for resource in plan["resources"]}) == (0, {"none"})
    plan = plan_of(scripts, "--detailed-exitcode", 2, EVENT_SOURCE="eventbridge")
    removed = [resource["name"] for resource in plan["resources"] if resource["action"] == "remove"]
    assert removed == [f"{SOURCE} {APP}"]
    assert plan_of(scripts, "--detailed-exitcode", 1, MAX_WORKERS="many") == {}
    assert plan_of(scripts, "", 2, MAX_WORKERS="many") == {}


@pytest.mark.parametrize("last", ["sort_by", "select(.action"])
def test_a_tool_that_fails_never_means_that_there_are_changes(scripts: Scripts, last: str) -> None:
    """jq ends with 2 on a full disk."""
    scripts.with_deployment()
    (scripts.folder / "programs/jq").write_text(
        f"""#!/usr/bin/env bash\n[[ $* != *'{last}'* ]] || exit 2\nPATH=${{PATH#*:}} exec jq "$@"\n"""
    )
    (scripts.folder / "programs/jq").chmod(0o755)
    scripts.deploy("--dry-run", "--detailed-exitcode", status=1)
    (scripts.folder / "programs/jq").unlink()


WRONG_USAGE = {
    "--json": (2, "--json and --detailed-exitcode need --dry-run"),
    "--detailed-exitcode": (1, "--json and --detailed-exitcode need --dry-run"),
    "--dry-run --jsn --detailed-exitcode": (1, "unknown option: --jsn"),  # 2 would mean changes
}


@pytest.mark.parametrize("options", WRONG_USAGE)
def test_wrong_usage_is_refused_and_never_means_that_there_are_changes(scripts: Scripts, options: str) -> None:
    status, complaint = WRONG_USAGE[options]
    ran = scripts.deploy(*options.split(), status=status)
    assert complaint in ran.errors
    assert ran.calls == []


def test_a_first_deployment_says_what_it_finds_in_the_destination_before_it_writes(scripts: Scripts) -> None:
    account = scripts.account = PaperAccount()
    told = f"      DST_BUCKET={MIRROR} is not empty: "
    wrong = {"status": 2, "MAX_WORKERS": "many"}  # it ends before there is a plan
    assert told not in scripts.deploy(**wrong).errors
    account.refusals.append(("ListObjectsV2", Refused("AccessDenied", "no CreateSession")))
    assert "is not known whether it is empty: An error occurred (AccessDenied)" in scripts.deploy(**wrong).errors
    account.kept[f"objects {MIRROR}"] = [[], [{"Key": "theirs/1"}, {"Key": "theirs/2"}], [{"Key": "theirs/3"}]]
    first = scripts.deploy()
    assert told in first.errors
    looked = [place for place, call in enumerate(first.calls) if call.operation == "ListObjectsV2"]
    assert len(looked) == 2  # the first page is empty, the third not needed
    assert not any(call.is_write for call in first.calls[: looked[-1]])
    again = scripts.deploy(**wrong)
    assert (told in again.errors, again.sent("ListObjectsV2")) == (False, [])
