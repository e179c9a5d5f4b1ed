"""The path of a change to the starter: what `status`, `verify` and the guard say when a link of it is broken."""

import ast
import copy
import json
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from account import APP, PROJECT, SOURCE
from broken_links import (
    BROKEN,
    BUCKET,
    DEAD_LETTERS,
    EVENT_RULE,
    EVENT_RUNS,
    FUNCTION,
    GROUP,
    IN_BUCKET,
    MODES,
    NO_RUN,
    QUEUE,
    QUEUE_ARN,
    RULE,
    RULE_ARN,
    SQS,
    Broken,
    Kept,
    another_statement,
    no_notification,
    other_pattern,
    permits,
    queue_has,
    redrives_of,
    renamed,
)
from call import Call
from documents import Scripts, scripts_of_module
from observers import AN_HOUR_LATER, Seen, guarded, operated
from operated import Verbs, verbs
from oracles import faults
from paper_account import EVERYTHING, PaperAccount, Refused

from launch import guard, path

__all__ = ["verbs"]
scripts = scripts_of_module("sync.sh")


@pytest.fixture(scope="module")
def deployments(scripts: Scripts) -> dict[str, Kept]:
    return {mode: scripts.with_deployment(**settings).kept for mode, settings in MODES.items()}


# --- each break -------------------------------------------------------------------------------------------------------


def batches(mode: str) -> list[list[Broken]]:
    """What one deployment can repair at once: all that is gone; of what differs, one way of each that it can."""
    found, seen = defaultdict[int, list[Broken]](list), Counter[str]()
    for row in BROKEN.values():
        kind, what = row.plan
        if row.mode == mode and kind:
            part = kind if kind == "notification" else what  # of notifications, the plan names one difference
            seen[f"{kind} {part}"] += 1
            found[0 if what == "create" else seen[f"{kind} {part}"]].append(row)
    return list(found.values())


def broken(whole: Kept, *rows: Broken) -> Kept:
    kept = copy.deepcopy(whole)
    for row in rows:
        row.breaks(kept)
    return kept


def said(row: Broken) -> str:
    return f"{row.fault}: {row.cure}" if row.link else row.fault


@pytest.mark.parametrize("mode", MODES)
def test_each_break_is_said_alike_by_all_that_look(verbs: Verbs, deployments: dict[str, Kept], mode: str) -> None:
    """Two runs of the starter look at each alone, but for a function that is gone, which says nothing; status, and so
    verify, at all that shows side by side."""
    of_mode = [row for row in BROKEN.values() if row.mode == mode]
    for row in of_mode:
        kept = broken(deployments[mode], row)
        if FUNCTION in kept:
            found = guarded(kept)
            for _ in range(2):
                assert found.run(is_scheduled=row.guard != EVENT_RUNS) == ([] if row.guard == NO_RUN else [said(row)])
    together = [[row for row in rows if not row.hides] for rows in batches(mode)]
    for rows in [*filter(None, together), *([row] for row in of_mode if row.hides)]:
        seen = Seen(verbs, operated(broken(deployments[mode], *rows)), rows[0].shows)
        starts = [next((said(row) for row in rows if reason.startswith(said(row))), reason) for reason in seen.reasons]
        assert sorted(starts) == sorted(map(said, rows))
        assert sorted(seen.faults) == sorted((row.link, said(row)) for row in rows if row.link)
        assert all(look.startswith("aws ") for look in seen.looks)
        of_events = [row.fault for row in rows if row.link in ("no event", "no start at once")]
        assert sorted(seen.way[2]) == sorted(of_events)


@pytest.mark.parametrize("mode", MODES)
def test_one_deployment_repairs_all_and_then_nobody_says_anything(
    scripts: Scripts, verbs: Verbs, deployments: dict[str, Kept], mode: str
) -> None:
    for rows in batches(mode):
        scripts.account = PaperAccount()
        kept = scripts.account.kept = broken(deployments[mode], *rows)
        plan = json.loads(scripts.run("PLAN_FORMAT=json; deploy_all", **MODES[mode]).output)["resources"]
        for row in rows:
            kind, what = row.plan
            (planned,) = [one for one in plan if one["kind"] == kind and one["action"] != "none"]
            assert planned["action"] == "create" or any(what in part for part in planned["differs"]), (row, planned)
        assert "ApproximateNumberOfMessages" not in str(plan)  # what AWS counts is nothing that differs
        assert list(faults(scripts.account, MODES[mode])) == []
        assert [guarded(kept).run(is_scheduled=is_scheduled) for is_scheduled in (True, False)] == [[], []]
    error = f"[ERROR] RuntimeError: {'; '.join(said(row) for row in rows if row.link)}\n"  # of the run before
    seen = Seen(verbs, operated(kept), lambda account: account.fail(error))
    assert (seen.reasons, seen.faults) == ([], [])


def test_what_is_equal_by_another_name_or_added_beside_ours_stays(
    scripts: Scripts, deployments: dict[str, Kept]
) -> None:
    kept = copy.deepcopy(deployments["sqs"])
    renamed(kept)
    kept[RULE]["State"] = CLOUDTRAIL
    any_rule = {"Sid": "theirs", "Condition": {"ArnEquals": {"aws:SourceArn": ANY_RULE}}}
    kept[FUNCTION]["statements"] = {"theirs": kept[FUNCTION]["statements"][f"{APP}-starter-rule"] | any_rule}
    kept[RULE]["targets"] = {"tf": kept[RULE]["targets"]["starter"] | {"Id": "tf"}}
    kept[DEAD_LETTERS]["Attributes"]["RedriveAllowPolicy"] = OF_OURS
    ssh = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    https = {"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "PrefixListIds": [{"PrefixListId": "pl-1"}]}
    ipv6 = {"Ipv6Ranges": [{"CidrIpv6": "::/0"}]}  # which AWS adds in a VPC with IPv6
    kept[GROUP] |= {"IpPermissions": [ssh], "IpPermissionsEgress": [https, EVERYTHING | ipv6]}
    scripts.account = PaperAccount()
    scripts.account.kept = kept
    ran = scripts.run("PLAN_FORMAT=json DRY_RUN=true; deploy_all", **MODES["sqs"])
    assert json.loads(ran.output)["changes"] == 0
    assert "left to you, because somebody added it: tcp 22 from 0.0.0.0/0, tcp 443 to pl-1\n" in ran.errors


def test_an_event_rule_that_is_not_known_as_ours_is_never_said_to_be_removed(
    scripts: Scripts, verbs: Verbs, deployments: dict[str, Kept]
) -> None:
    scripts.account = PaperAccount()
    kept = scripts.account.kept = copy.deepcopy(deployments["eventbridge"])
    app = kept[EVENT_RULE]["tags"].pop("app")
    to_sqs = MODES["eventbridge"] | {"EVENT_SOURCE": "sqs"}
    steps = f"ensure_queue {APP}-q", "ensure_notification", "ensure_event_rule"
    ran = scripts.step(*steps, **to_sqs)
    assert f"event rule {APP}-event-rule: left to you, because it has no tag app={APP}" in ran.output
    assert f"tag-resource --resource-arn {RULE_ARN}{APP}-event-rule" in ran.errors
    assert Seen(verbs, operated(kept)).way[0] == "both"
    kept[EVENT_RULE]["tags"]["app"] = app
    assert f"event rule {APP}-event-rule: removed" in scripts.step(*steps, **to_sqs).output
    assert EVENT_RULE not in kept
    assert Seen(verbs, operated(kept)).way == ("sqs", False, [])


# --- the guard --------------------------------------------------------------------------------------------------------

TOO_SHORT = f"the guard has no time, which checks the path of events: {APP}-starter may run for %d s only: ./deploy.sh"
SECONDS_OF_A_WRITE = 3  # of deploy.sh: one or two calls of the AWS CLI


class Filmed(PaperAccount):
    """`states`: what it held every three seconds. The function knows when it was last changed."""

    def __init__(self) -> None:
        super().__init__()
        self.states: list[Kept] = []

    def answer(self, call: Call) -> Any:
        answer = super().answer(call)
        if call.operation.startswith("UpdateFunction"):
            at = datetime.fromtimestamp(AN_HOUR_LATER + len(self.states) * SECONDS_OF_A_WRITE, UTC)
            self.kept[FUNCTION]["LastModified"] = at.strftime("%Y-%m-%dT%H:%M:%S.000+0000")
        if call.is_write:
            self.pass_time(SECONDS_OF_A_WRITE)
        return answer

    def pass_time(self, seconds: float | str) -> None:
        self.states += [copy.deepcopy(self.kept)] * int(float(seconds) / SECONDS_OF_A_WRITE)


@pytest.mark.parametrize(("mode", "other"), [("sqs", "eventbridge"), ("eventbridge", "sqs")])
def test_the_guard_finds_nothing_at_any_moment_of_a_deployment(
    scripts: Scripts, deployments: dict[str, Kept], mode: str, other: str
) -> None:
    """The prefixes change while copying is turned off, which waits for the last copies; then the source of events.
    Each time there are other alarms, and mails or none."""
    account = scripts.account = Filmed()
    account.kept = copy.deepcopy(deployments[mode])
    of_copies = f"ensure_role {APP}-starter-role", "ensure_task_definition", "ensure_function"
    scripts.step(*of_copies, **MODES[mode], STARTER_COPIES="true")
    del account.states[:-1]
    watched = {"ALARM_EMAIL": "you@example.com", "AUDIT_DAYS": "7", "METRICS": "true"}
    not_watched = {"ALARM_EMAIL": "", "AUDIT_DAYS": "", "METRICS": "false"}
    copying_ends = MODES[mode] | {"STARTER_COPIES": ""} | watched
    for settings in (copying_ends, MODES[other] | {"EVENT_SOURCE": other} | not_watched):
        scripts.deploy(**settings | {"PREFIX_FILTER": "d/"})
    pauses, later = 0, guard.CONFIRM_SECONDS // SECONDS_OF_A_WRITE
    account.pass_time(guard.CONFIRM_SECONDS)
    for moment, (first, second) in enumerate(zip(account.states, account.states[later:], strict=False)):
        found = guarded(first)
        found.at = AN_HOUR_LATER + moment * SECONDS_OF_A_WRITE
        found.during_pause = lambda found=found, second=second: setattr(found.account, "kept", second)
        assert found.run() == []
        pauses += found.pauses
    assert pauses > 0


def test_a_fault_is_found_within_the_hour_said_in_each_run_and_no_more_after_the_cure(
    deployments: dict[str, Kept],
) -> None:
    row = BROKEN["the notifications are gone"]
    found, runs = guarded(deployments["sqs"]), []
    for minute in range(200):
        found.at += 60
        found.account.kept = broken(deployments["sqs"], *[row] * (10 <= minute < 130))
        runs.append(found.run())
    assert (runs, found.pauses) == ([[]] * 60 + [[said(row)]] * 70 + [[]] * 70, 1)


def test_a_run_without_the_time_for_a_second_look_leaves_it_to_the_next(deployments: dict[str, Kept]) -> None:
    row = BROKEN["the notifications are gone"]
    found = guarded(broken(deployments["sqs"], row))
    assert [found.run(spent=20), found.run()] == [[], [said(row)]]


@pytest.mark.parametrize(("code", "is_denied"), [("AccessDenied", True), ("SlowDown", False)])
def test_what_the_guard_could_not_read_is_asked_for_in_each_run_and_what_it_may_not_once_an_hour(
    deployments: dict[str, Kept], capsys: pytest.CaptureFixture[str], code: str, is_denied: bool
) -> None:
    found = guarded(broken(deployments["sqs"], BROKEN["the notifications are gone"]))
    refused = Refused(code, "no answer for it")
    found.account.refusals = [("GetBucketNotificationConfiguration", refused)] * 2
    assert [found.run(), found.run()] == [[], []]
    assert len(found.account.refusals) == is_denied
    if is_denied:
        found.at += guard.LOOK_AGAIN_SECONDS
        assert (found.run(), found.account.refusals) == ([], [])
    assert capsys.readouterr().out.count("no answer for it") == 1


def test_a_source_bucket_that_is_gone_is_a_fault_and_is_said_once(
    verbs: Verbs, deployments: dict[str, Kept], capsys: pytest.CaptureFixture[str]
) -> None:
    """Also one of another account, whose notification may not be read."""
    kept = copy.deepcopy(deployments["sqs"])
    kept[f"gone {SOURCE}"] = {}
    found = guarded(kept)
    for _ in range(2):
        (said,) = found.run()
        assert said.startswith(
            f"there is no bucket {SOURCE}, which is the source: create it again with all that it had"
        )
    assert "not checked" not in capsys.readouterr().out

    assert Seen(verbs, operated(kept)).reasons == [said]
    kept.pop(f"gone {SOURCE}")
    error = f"[ERROR] RuntimeError: {said}\n"  # of the run before
    assert Seen(verbs, operated(kept), lambda account: account.fail(error)).reasons == []


def test_a_function_whose_time_is_too_short_for_the_guard_says_so(deployments: dict[str, Kept]) -> None:
    """However long its other work takes. What the guard would find is not known."""
    kept = broken(deployments["sqs"], BROKEN["the notifications are gone"])
    for seconds, spent in ((3, 1), (31, 4), (50, 20)):
        kept[FUNCTION]["Timeout"] = seconds
        assert guarded(kept).run(spent=spent) == [TOO_SHORT % seconds]
    kept[FUNCTION]["Timeout"] = 60
    assert guarded(kept).run(spent=40) == []


# Before Python 3.9 no type of collections.abc could be subscripted.
OLDER = """
import collections.abc, hashlib, itertools, json, re, runpy, sys, typing
for kind in (collections.abc.Container, collections.abc.Iterable):
    del kind.__class_getitem__
runpy.run_path("launch/%s.py", run_name="__main__")
"""


def test_what_deploy_asks_runs_on_python_3_7() -> None:
    """The operator's."""
    for name in ("wanted", "queues", "policies"):
        ast.parse((PROJECT / f"launch/{name}.py").read_text(), feature_version=(3, 7))
    policy = {"Version": "2012-10-17", "Statement": [{"Sid": "s3-events"}, {"Sid": "eventbridge"}]}
    queue = {"VisibilityTimeout": "1", "maxReceiveCount": "1"}
    given = {
        "wanted": {"notifications": [], "pattern": {}, "policy": policy, "queue": queue},
        "queues": {"have": None, "policy": policy, "own": [], "queue": "", "dead_letters": ""}
        | {"receives": "1", "visibility": "1"},
    }
    for name, text in given.items():
        command = [sys.executable, "-B", "-c", OLDER % name]
        done = subprocess.run(command, cwd=PROJECT, input=json.dumps(text), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


# --- what is whole, or may not be read --------------------------------------------------------------------------------


def test_what_may_not_be_read_is_said_and_is_no_fault(verbs: Verbs, deployments: dict[str, Kept]) -> None:
    kept = broken(deployments["sqs"], BROKEN["the permission is for another rule"])
    no_notification(kept)
    seen = Seen(verbs, operated(kept, "GetBucketNotificationConfiguration", "GetPolicy"))
    assert (seen.reasons, seen.faults, seen.way[0]) == ([], [], "unknown")
    assert "no GetBucketNotificationConfiguration" in seen.events["error"]
    assert "no GetPolicy" in seen.errors["permissions"]


def test_a_function_that_is_gone_is_said_although_its_rule_may_not_be_read(
    verbs: Verbs, deployments: dict[str, Kept]
) -> None:
    row = BROKEN["the function is gone"]
    seen = Seen(verbs, operated(broken(deployments["sqs"], row), "DescribeRule"))
    assert [why for _, why in seen.faults] == [said(row)]


@pytest.mark.parametrize("instead", [{"InputPath": "$.detail"}, {"InputTransformer": {"InputTemplate": "<id>"}}])
def test_whatever_a_rule_sends_in_place_of_an_event_is_none(deployments: dict[str, Kept], instead: Kept) -> None:
    row = BROKEN["the rule sends a text of its own to the queue"]
    kept = copy.deepcopy(deployments[row.mode])
    kept[EVENT_RULE]["targets"]["queue"].update(instead)
    assert guarded(kept).run(is_scheduled=row.guard != EVENT_RUNS) == [said(row)]


def test_the_policy_of_the_queue_is_checked_although_the_bucket_may_not_be_read(
    verbs: Verbs, deployments: dict[str, Kept]
) -> None:
    row = BROKEN["the policy is for another sender"]
    seen = Seen(verbs, operated(broken(deployments["sqs"], row), "GetBucketNotificationConfiguration"))
    assert seen.reasons == [why for _, why in seen.faults] == [said(row)]


def both_ways(deployments: dict[str, Kept]) -> Kept:
    """While EVENT_SOURCE is being changed: the notifications beside a rule for the same prefixes, whose alarm is made
    later, or removed earlier."""
    found = copy.deepcopy(deployments["eventbridge"])
    del found[f"alarm {APP}-events"]
    found[FUNCTION]["Environment"]["Variables"] |= SQS | {"EXCLUDE": ""}
    found[BUCKET] |= copy.deepcopy(deployments["sqs"][BUCKET])
    other_pattern(detail=IN_BUCKET | {"object": {"key": [{"prefix": "a b/"}, {"prefix": "c/"}]}})(found)
    policies = [json.loads(kept[QUEUE]["Attributes"]["Policy"]) for kept in deployments.values()]
    statements = [statement for policy in policies for statement in policy["Statement"]]
    found[QUEUE]["Attributes"]["Policy"] = json.dumps({"Statement": statements})
    return found


def without_settings(kept: Kept) -> None:
    """The function of 1.1.0 knew some settings only if they were needed, and none before 1.4.0 the rate of its rule."""
    kept[RULE]["ScheduleExpression"] = "rate(5 minutes)"
    for name in ("PROCESSES", "PREFIX_FILTER", "LAMBDA_POLL_RATE"):
        kept[FUNCTION]["Environment"]["Variables"].pop(name)


def at_the_hour(kept: Kept) -> None:
    kept[FUNCTION]["Environment"]["Variables"]["LAMBDA_POLL_RATE"] = "60"
    kept[RULE]["ScheduleExpression"] = "rate(1 hour)"


def one_start_at_a_time(kept: Kept) -> None:
    """An account that cannot reserve an execution has neither the target nor the permission."""
    kept[EVENT_RULE]["targets"].pop("starter")
    kept[FUNCTION]["statements"].pop(f"{APP}-event-rule")


def one_statement(kept: Kept) -> None:
    """A policy may have one that is in no list (IAM User Guide, "Grammar of the IAM JSON policy language")."""
    policy = json.loads(kept[QUEUE]["Attributes"]["Policy"])
    (policy["Statement"],) = policy["Statement"]
    kept[QUEUE]["Attributes"]["Policy"] = json.dumps(policy)


# The second state of a rule that is enabled (EventBridge API reference, PutRule).
CLOUDTRAIL = "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS"


def for_cloudtrail(kept: Kept) -> None:
    for name in {RULE, EVENT_RULE} & kept.keys():
        kept[name]["State"] = CLOUDTRAIL


# A rule of any name, as people allow it by hand.
ANY_RULE = "arn:aws:events:*:*:rule/*"
OF_OURS = redrives_of(f"{QUEUE_ARN}q")
# As rules of an organization ask for; S3 and EventBridge send over TLS.
asking_for_tls = another_statement(Condition={"Bool": {"aws:SecureTransport": "false"}})
# The deployment, what is different there, each beside those before it as far as none would keep a fault of another from
# being seen, and the way of its events: its name, whether they start the starter at once.
WHOLE: list[tuple[str, dict[str, Callable[[Kept], Any]], tuple[str, bool]]] = [
    (
        "sqs",
        {
            "in another order": lambda kept: kept[BUCKET]["QueueConfigurations"].reverse(),
            "beside a switch": lambda kept: kept[BUCKET].update(EventBridgeConfiguration={}),
            "with names of a tool": renamed,
            "a policy that asks for TLS": asking_for_tls,
            "a permission for any rule": permits(ArnLike={"AWS:SourceArn": ANY_RULE}),
            "a permission for theirs and ours": permits(
                ArnEquals={"AWS:SourceArn": [f"{RULE_ARN}theirs", f"{RULE_ARN}{APP}-starter-rule"]}
            ),
            "a rate in hours": at_the_hour,
            "a dead-letter queue for ours alone": queue_has(DEAD_LETTERS, RedriveAllowPolicy=OF_OURS),
        },
        ("sqs", False),
    ),
    ("sqs", {"a policy that is no list": one_statement, "by a release before": without_settings}, ("sqs", False)),
    ("eventbridge", {"rules that are enabled in the other way": for_cloudtrail}, ("eventbridge", True)),
    (
        "eventbridge",
        {
            "a rule that starts nobody": one_start_at_a_time,
            "a permission for any": permits(ArnLike={"AWS:SourceArn": ANY_RULE}),
        },
        ("eventbridge", False),
    ),
]


@pytest.mark.parametrize("whole", WHOLE, ids=[", ".join(changes) for _, changes, _ in WHOLE])
def test_nothing_is_said_of_a_path_that_is_whole(verbs: Verbs, deployments: dict[str, Kept], whole: Any) -> None:
    mode, changes, way = whole
    kept = copy.deepcopy(deployments[mode])
    for change in changes.values():
        change(kept)
        assert guarded(kept).run() == []
    seen = Seen(verbs, operated(kept))
    assert (seen.reasons, seen.faults, seen.way) == ([], [], (*way, []))


def test_of_two_ways_one_is_enough(verbs: Verbs, deployments: dict[str, Kept]) -> None:
    rows = [BROKEN["a notification is gone"], BROKEN["the event rule is disabled"]]
    for gone, count in ((rows[:1], 0), (rows[1:], 0), (rows, 2)):
        seen = Seen(verbs, operated(broken(both_ways(deployments), *gone)))
        assert (seen.way[0], len(seen.faults), len(seen.reasons)) == ("both", count, count)


def test_the_guard_knows_the_event_types_of_a_notification(deployments: dict[str, Kept]) -> None:
    made = {event for one in deployments["sqs"][BUCKET]["QueueConfigurations"] for event in one["Events"]}
    assert made == set(path.EVENT_TYPES)
