"""The path of a change to the starter: what `status`, `verify` and the guard say when a link of it is broken."""

import ast
import copy
import json
import subprocess
import sys
from collections.abc import Callable

import pytest
from account import APP, PROJECT
from breaks import Seen, batches, deployed, judge, operated
from broken_links import (
    BROKEN,
    BUCKET,
    EVENT_RULE,
    FUNCTION,
    GROUP,
    IN_BUCKET,
    MODES,
    QUEUE,
    RULE,
    SQS,
    Kept,
    no_notification,
    other_pattern,
    renamed,
)
from documents import Scripts, scripts_of_module
from guarded import Guarded
from operated import Verbs, verbs
from paper_account import EVERYTHING, PaperAccount, Refused

from launch import guard, path

__all__ = ["verbs"]
scripts = scripts_of_module("sync.sh")


@pytest.fixture(scope="module")
def deployments(scripts: Scripts) -> dict[str, Kept]:
    return deployed(scripts)


@pytest.mark.parametrize("mode", MODES)
def test_each_break_is_seen_said_alike_and_repaired_by_one_deployment(
    scripts: Scripts, verbs: Verbs, deployments: dict[str, Kept], mode: str
) -> None:
    """`.venv/bin/python tests/scripts/breaks.py` prints the table."""
    of_mode = [names for names in batches(deployments) if BROKEN[names[0]].mode == mode]
    rows = [row for names in of_mode for row in judge(scripts, verbs, deployments, names)]
    assert [row for row in rows if row.fails()] == []
    assert {row.name for row in rows} == {name for name, row in BROKEN.items() if row.mode == mode}


def plan_of(scripts: Scripts, kept: Kept, mode: str, **settings: str) -> tuple[dict[str, str], str]:
    """(what a run would do to each resource that it would not leave as it is, what it says beside it)."""
    scripts.account = PaperAccount()
    scripts.account.kept = kept
    ran = scripts.run("PLAN_FORMAT=json DRY_RUN=true; deploy_all", **MODES[mode] | settings)
    rows = json.loads(ran.output)["resources"]
    return {row["kind"]: row["action"] for row in rows if row["action"] != "none"}, ran.errors


def test_what_is_equal_by_another_name_or_added_beside_ours_stays(
    scripts: Scripts, deployments: dict[str, Kept]
) -> None:
    kept = copy.deepcopy(deployments["sqs"])
    renamed(kept)
    kept[RULE]["State"] = CLOUDTRAIL
    kept[FUNCTION]["statements"] = {"theirs": kept[FUNCTION]["statements"][f"{APP}-starter-rule"] | {"Sid": "theirs"}}
    ssh = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    https = {"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "PrefixListIds": [{"PrefixListId": "pl-1"}]}
    kept[GROUP] |= {"IpPermissions": [ssh], "IpPermissionsEgress": [https, EVERYTHING]}
    changes, said = plan_of(scripts, kept, "sqs")
    assert changes == {}
    assert "left to you, because somebody added it: tcp 22 from 0.0.0.0/0, tcp 443 to pl-1" in said


def test_an_event_rule_that_is_not_known_as_ours_is_never_said_to_be_removed(
    scripts: Scripts, verbs: Verbs, deployments: dict[str, Kept]
) -> None:
    kept = copy.deepcopy(deployments["eventbridge"])
    tags = kept[EVENT_RULE]["tags"]
    app = tags.pop("app")
    to_sqs = MODES["eventbridge"] | {"EVENT_SOURCE": "sqs"}
    scripts.account = PaperAccount()
    scripts.account.kept = kept
    for _ in range(2):
        ran = scripts.deploy(**to_sqs)
        assert f"event rule {APP}-event-rule: left to you, because it has no tag app={APP}" in ran.output
        assert f"tag-resource --resource-arn arn:aws:events:us-east-1:123456789012:rule/{APP}-event-rule" in ran.errors
        assert Seen(verbs, operated(kept)).events()[0] == "both"
    tags["app"] = app
    scripts.account = PaperAccount()
    scripts.account.kept = kept
    assert f"event rule {APP}-event-rule: removed" in scripts.deploy(**to_sqs).output
    assert EVENT_RULE not in kept
    assert Seen(verbs, operated(kept)).events() == ("sqs", False, [])


def guarded(kept: Kept) -> Guarded:
    account = PaperAccount()
    account.kept = kept
    return Guarded(account, kept[FUNCTION])


def test_the_guard_looks_once_an_hour_and_at_once_after_a_cure(deployments: dict[str, Kept]) -> None:
    kept = copy.deepcopy(deployments["sqs"])
    found = guarded(kept)
    assert found.run() == []
    no_notification(kept)
    assert found.run() == []
    found.at += guard.LOOK_AGAIN_SECONDS
    assert len(found.run()) == len(found.run()) == 1
    kept.update(copy.deepcopy(deployments["sqs"]))
    assert found.run() == []


@pytest.mark.parametrize("mode", MODES)
def test_the_guard_finds_nothing_while_a_deployment_waits(
    scripts: Scripts, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If copying is turned off, this is for the last copies, and longer than the guard takes to confirm."""
    scripts.account = PaperAccount()
    scripts.deploy(**MODES[mode], STARTER_COPIES="true")
    said: list[list[str]] = []
    monkeypatch.setattr(scripts, "while_asleep", lambda: said.append(guarded(scripts.account.kept).run()))
    ran = scripts.deploy(**MODES[mode] | {"PREFIX_FILTER": "d/", "STARTER_COPIES": ""})
    assert [int(one["seconds"]) > guard.CONFIRM_SECONDS for one in ran.sent("CheckClock")] == [True]
    assert said == [[]]


def test_what_the_guard_may_not_read_is_said_once_and_is_no_fault(
    deployments: dict[str, Kept], capsys: pytest.CaptureFixture[str]
) -> None:
    kept = copy.deepcopy(deployments["sqs"])
    no_notification(kept)
    found = guarded(kept)
    refused = Refused("AccessDenied", "no right for it")
    found.account.refusals = [("GetBucketNotificationConfiguration", refused)] * 2
    assert [found.run(), found.run()] == [[], []]
    found.at += guard.LOOK_AGAIN_SECONDS
    assert found.run() == []
    assert found.account.refusals == []
    assert capsys.readouterr().out.count("no right for it") == 1


def test_the_guard_knows_the_event_types_of_a_notification(deployments: dict[str, Kept]) -> None:
    made = {event for one in deployments["sqs"][BUCKET]["QueueConfigurations"] for event in one["Events"]}
    assert made == set(path.EVENT_TYPES)


# Before Python 3.9 no type of collections.abc could be subscripted.
OLDER = """
import collections.abc, hashlib, itertools, json, re, runpy, sys, typing
for kind in (collections.abc.Container, collections.abc.Iterable):
    del kind.__class_getitem__
sys.argv = ["path.py", "want"]
runpy.run_path("launch/path.py", run_name="__main__")
"""


def test_the_checks_run_on_python_3_7() -> None:
    """The operator's, which deploy.sh needs, too."""
    ast.parse((PROJECT / "launch/path.py").read_text(), feature_version=(3, 7))
    policy, queue = {"Statement": [{"Sid": "s3-events"}, {"Sid": "eventbridge"}]}, {"VisibilityTimeout": "1"}
    queue |= {"maxReceiveCount": "1"}
    given = json.dumps({"notifications": [], "pattern": {}, "policy": policy, "queue": queue})
    command = [sys.executable, "-B", "-c", OLDER]
    done = subprocess.run(command, cwd=PROJECT, input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_may_not_be_read_is_said_and_is_no_fault(verbs: Verbs, deployments: dict[str, Kept]) -> None:
    kept = copy.deepcopy(deployments["sqs"])
    BROKEN["the minute's rule may not run the function"].breaks(kept)
    no_notification(kept)
    seen = Seen(verbs, operated(kept, "GetBucketNotificationConfiguration", "GetPolicy"))
    assert (seen.status["reasons"], seen.verify) == ([], [])
    assert seen.events()[0] == "unknown"
    assert "no GetBucketNotificationConfiguration" in seen.parts["events"]["error"]
    assert "no GetPolicy" in seen.errors


def test_the_policy_of_the_queue_is_checked_although_the_bucket_may_not_be_read(
    verbs: Verbs, deployments: dict[str, Kept]
) -> None:
    broken = BROKEN["the queue has no policy"]
    kept = copy.deepcopy(deployments["sqs"])
    broken.breaks(kept)
    seen = Seen(verbs, operated(kept, "GetBucketNotificationConfiguration"))
    assert seen.status["reasons"] == [f"{broken.fault}: {broken.cure}"]
    assert len(seen.verify) == 1


def both_ways(deployments: dict[str, Kept]) -> Kept:
    """While EVENT_SOURCE is being changed: the notifications beside a rule for the same prefixes."""
    found = copy.deepcopy(deployments["eventbridge"])
    found[FUNCTION]["Environment"]["Variables"] |= SQS | {"EXCLUDE": ""}
    found[BUCKET] |= copy.deepcopy(deployments["sqs"][BUCKET])
    other_pattern(detail=IN_BUCKET | {"object": {"key": [{"prefix": "a b/"}, {"prefix": "c/"}]}})(found)
    policies = [json.loads(kept[QUEUE]["Attributes"]["Policy"]) for kept in deployments.values()]
    statements = [statement for policy in policies for statement in policy["Statement"]]
    found[QUEUE]["Attributes"]["Policy"] = json.dumps({"Statement": statements})
    return found


def without_settings(kept: Kept) -> None:
    """The function of 1.1.0 knew some settings only if they were needed."""
    for name in ("PROCESSES", "PREFIX_FILTER"):
        kept[FUNCTION]["Environment"]["Variables"].pop(name)


def in_another_order(kept: Kept) -> None:
    kept[BUCKET]["QueueConfigurations"].reverse()


def one_start_at_a_time(kept: Kept) -> None:
    """An account that cannot reserve an execution has neither the target nor the permission."""
    kept[EVENT_RULE]["targets"].pop("starter")
    kept[FUNCTION]["statements"].pop(f"{APP}-event-rule")


def one_statement(kept: Kept) -> None:
    """A policy may have one that is in no list (IAM User Guide, "Grammar of the IAM JSON policy language")."""
    policy = json.loads(kept[QUEUE]["Attributes"]["Policy"])
    (policy["Statement"],) = policy["Statement"]
    kept[QUEUE]["Attributes"]["Policy"] = json.dumps(policy)


def switched_on(kept: Kept) -> None:
    """By somebody else."""
    kept[BUCKET]["EventBridgeConfiguration"] = {}


# The second state of a rule that is enabled (EventBridge API reference, PutRule).
CLOUDTRAIL = "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS"


def for_cloudtrail(kept: Kept) -> None:
    for name in {RULE, EVENT_RULE} & kept.keys():
        kept[name]["State"] = CLOUDTRAIL


def harmless_denial(kept: Kept) -> None:
    """As rules of an organization ask for; S3 and EventBridge send over TLS."""
    policy = json.loads(kept[QUEUE]["Attributes"]["Policy"])
    if_plain = {"Bool": {"aws:SecureTransport": "false"}}
    policy["Statement"].append(
        {"Effect": "Deny", "Principal": "*", "Action": "sqs:*", "Resource": "*", "Condition": if_plain}
    )
    kept[QUEUE]["Attributes"]["Policy"] = json.dumps(policy)


def unchanged(_kept: Kept) -> None: ...


# The deployment, what is different there, and the way of its events: its name, whether they start the starter at once.
WHOLE: dict[str, tuple[str, Callable[[Kept], None], tuple[str, bool]]] = {
    "a notification for each prefix": ("sqs", unchanged, ("sqs", False)),
    "in another order": ("sqs", in_another_order, ("sqs", False)),
    "beside a switch": ("sqs", switched_on, ("sqs", False)),
    "with names of a tool": ("sqs", renamed, ("sqs", False)),
    "a policy that asks for TLS": ("sqs", harmless_denial, ("sqs", False)),
    "rules that are enabled in the other way": ("eventbridge", for_cloudtrail, ("eventbridge", True)),
    "a policy that is no list": ("sqs", one_statement, ("sqs", False)),
    "by a release whose function did not know the prefixes": ("sqs", without_settings, ("sqs", False)),
    "a rule": ("eventbridge", unchanged, ("eventbridge", True)),
    "a rule that starts nobody": ("eventbridge", one_start_at_a_time, ("eventbridge", False)),
}


@pytest.mark.parametrize("name", WHOLE)
def test_nothing_is_said_of_a_path_that_is_whole(verbs: Verbs, deployments: dict[str, Kept], name: str) -> None:
    mode, change, way = WHOLE[name]
    kept = copy.deepcopy(deployments[mode])
    change(kept)
    seen = Seen(verbs, operated(kept))
    assert (seen.status["reasons"], seen.verify) == ([], [])
    assert seen.events() == (*way, [])
    assert guarded(kept).run() == []


@pytest.mark.parametrize(
    ("broken", "faults"),
    [
        (["a notification is gone"], 0),
        (["the event rule is disabled"], 0),
        (["a notification is gone", "the event rule is disabled"], 2),
    ],
)
def test_of_two_ways_one_is_enough(verbs: Verbs, deployments: dict[str, Kept], broken: list[str], faults: int) -> None:
    kept = both_ways(deployments)
    for name in broken:
        BROKEN[name].breaks(kept)
    seen = Seen(verbs, operated(kept))
    assert seen.events()[0] == "both"
    assert len(seen.verify) == len(seen.status["reasons"]) == faults
