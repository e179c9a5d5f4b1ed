"""The plan that a dry run prints: what would be made, changed or removed, from what to what, and how the run ends."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from account import APP, MIRROR, SOURCE
from documents import Scripts, scripts_of_module
from paper_account import PaperAccount, Refused

Kept = dict[str, Any]


class Case(NamedTuple):
    """What is different before a run, by which settings it runs, and the values that it shows."""

    changes: Callable[[Kept], Any]
    settings: dict[str, str]
    values: list[tuple[str, Any, Any]]


def nothing(_kept: Kept) -> None: ...


def other_policy(kept: Kept) -> None:
    policies = kept[f"role {APP}-exec-role"]["policies"]
    policies[APP] = policies[APP].replace("Allow", "Deny", 1)


def other_event(kept: Kept) -> None:
    kept[f"notifications {SOURCE}"]["QueueConfigurations"][0]["Events"][3] = "s3:ObjectTagging:*"


VARIABLES = "Environment.Variables"
CASES = {
    "a setting of the queue": Case(
        nothing, {"VISIBILITY_TIMEOUT": "3600"}, [("VisibilityTimeout", "7200", "3600")]
    ),
    "a setting of the workers": Case(
        nothing,
        {"COPY_TIMEOUT": "60"},
        [(f"containerDefinitions.worker.{part}.COPY_TIMEOUT", None, "60") for part in ("environment", "settings")],
    ),
    "a variable that goes": Case(
        lambda kept: kept[f"function {APP}-starter"]["Environment"]["Variables"].update(MIN_WORKERS="1"),
        {},
        [(f"{VARIABLES}.MIN_WORKERS", "1", None)],
    ),
    "a number beside the function": Case(
        lambda kept: kept[f"function {APP}-starter"].update(concurrency=5),
        {},
        [("concurrency", 5, 1)],
    ),
    "a policy": Case(
        other_policy, {}, [("policy.Statement.0.Effect", "Deny", "Allow")]
    ),
    "an event type of a notification": Case(
        other_event,
        {},
        [("events or filter.0.Events.3", "s3:ObjectTagging:*", "s3:ObjectRestore:Completed")],
    ),
}  # fmt: skip


scripts = scripts_of_module("deploy.sh")


@pytest.mark.parametrize("name", CASES)
def test_a_value_is_shown_as_it_is_and_as_it_would_be(scripts: Scripts, name: str) -> None:
    case = CASES[name]
    case.changes(scripts.with_deployment().kept)
    ran = scripts.deploy("--dry-run", "--json", **case.settings)
    plan = json.loads(ran.output)
    (resource,) = (one for one in plan["resources"] if one["action"] != "none")
    assert (resource["action"], plan["changes"], ran.writes) == ("change", 1, [])
    assert [(one["path"], one["from"], one["to"]) for one in resource["values"]] == case.values
    for path, have, want in case.values:
        assert f"\n      {path}: {json.dumps(have)} -> {json.dumps(want)}\n" in ran.errors


MORE = {"AUDIT_DAYS": "1", "ALARM_EMAIL": "ops@example.com", "CREATE_VPC_ENDPOINTS": "true"}


@pytest.mark.parametrize("settings", [{}, MORE, {"EVENT_SOURCE": "eventbridge"}])
def test_a_plan_asks_for_nothing_twice_and_what_it_would_change_is_all_that_is_done(
    scripts: Scripts, settings: dict[str, str]
) -> None:
    """Each call of the CLI takes about a second."""
    scripts.with_deployment(**settings)
    planned, done = scripts.deploy("--dry-run", **settings), scripts.deploy(**settings)
    for ran in (planned, done):
        asked = [f"{call.operation} {call.parameters}" for call in ran.calls if call.service != "docker"]
        assert sorted(asked) == sorted(set(asked))
        assert ran.writes == []
        off = {"ListRules", "DescribeVpcEndpoints", "ListSubscriptionsByTopic"}  # they cost nothing
        assert settings or not off & {call.operation for call in ran.calls}


def plan_of(scripts: Scripts, options: str, status: int, **settings: str) -> dict[str, Any]:
    ran = scripts.deploy(*f"--dry-run --json {options}".split(), status=status, **settings)
    assert ran.writes == []
    return json.loads(ran.output) if ran.output else {}


def test_the_plan_is_all_json_and_its_exit_status_says_whether_there_is_something_to_do(scripts: Scripts) -> None:
    scripts.account = PaperAccount()
    plan = plan_of(scripts, "--detailed-exitcode", 2)
    assert {resource["action"] for resource in plan["resources"]} == {"create", "none"}
    assert {"kind": "queue", "name": f"{APP}-q", "action": "create"} in plan["resources"]
    scripts.deploy()
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
    assert told not in scripts.deploy("--dry-run").errors
    account.refusals.append(("ListObjectsV2", Refused("AccessDenied", "no CreateSession")))
    assert "is not known whether it is empty: An error occurred (AccessDenied)" in scripts.deploy("--dry-run").errors
    account.kept[f"objects {MIRROR}"] = [[], [{"Key": "theirs/1"}, {"Key": "theirs/2"}], [{"Key": "theirs/3"}]]
    first = scripts.deploy()
    assert told in first.errors
    looked = [place for place, call in enumerate(first.calls) if call.operation == "ListObjectsV2"]
    assert len(looked) == 2  # the first page is empty, the third not needed
    assert not any(call.is_write for call in first.calls[: looked[-1]])
    again = scripts.deploy()
    assert (told in again.errors, again.sent("ListObjectsV2")) == (False, [])
