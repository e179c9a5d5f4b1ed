"""The path of a change to the starter: what `status`, `verify` and the guard say when a link of it is broken."""

import ast
import copy
import json
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from account import APP, PROJECT
from broken_links import (
    BROKEN,
    BUCKET,
    EVENT_RULE,
    FUNCTION,
    IN_BUCKET,
    MODES,
    QUEUE,
    SQS,
    Kept,
    no_notification,
    other_pattern,
)
from documents import Scripts, scripts_of_module
from guarded import Guarded
from paper_account import PaperAccount, Refused
from test_sync import IDLE

from launch import guard, path

LOOK = """
start_run
check_account
fact starter >/dev/null
gather_path
jq -cs 'add' "$TEMP_DIR"/status.*
printf '%s' "$IDLE" | cat - "$TEMP_DIR"/status.* | jq -s 'add
  | (.queue, .dead_letters | select(.)) |= (. + {visible: 0, in_flight: 0, delayed: 0})' | judge
VERIFY_DIR=$TEMP_DIR/verify
mkdir "$VERIFY_DIR"
read_faults
jq -Rc 'split("\\t")' "$VERIFY_DIR/found"
"""


class Seen:
    """What both verbs see of an account."""

    def __init__(self, scripts: Scripts, kept: Kept, *refused: str, **settings: str) -> None:
        scripts.account = PaperAccount()
        scripts.account.kept = kept
        scripts.account.refusals = [(call, Refused("AccessDeniedException", f"no {call}")) for call in refused * 2]
        self.ran = scripts.run(LOOK, IDLE=json.dumps(IDLE), **settings)
        found = [json.loads(line) for line in self.output()]
        self.parts, self.status, self.verify = found[0], found[1], found[2:]

        self.errors = self.ran.errors

    def output(self) -> Iterator[str]:
        decoder, text = json.JSONDecoder(), self.ran.output.strip()
        while text:
            _, end = decoder.raw_decode(text)
            yield text[:end]
            text = text[end:].strip()

    def events(self) -> tuple[str, bool, list[str]]:
        events = self.parts["events"]
        return events["source"], events["at_once"], events["problems"]


scripts = scripts_of_module("sync.sh")


@pytest.fixture(scope="module")
def deployments(scripts: Scripts) -> dict[str, Kept]:
    found = {}
    for mode, settings in MODES.items():
        scripts.account = PaperAccount()
        scripts.deploy(**settings)
        found[mode] = scripts.account.kept
    return found


@pytest.mark.parametrize("name", BROKEN)
def test_both_verbs_say_the_same_of_a_broken_link(scripts: Scripts, deployments: dict[str, Kept], name: str) -> None:
    broken = BROKEN[name]
    kept = copy.deepcopy(deployments[broken.mode])
    broken.breaks(kept)
    seen = Seen(scripts, kept)
    said = f"{broken.fault}: {broken.cure}"
    assert (seen.status["state"], seen.status["reasons"]) == ("failing", [said])
    ((link, why, look),) = seen.verify
    assert (link, why) == (broken.link, said)
    assert look.startswith("aws ")
    assert (seen.events()[2] == [broken.fault]) == (link in ("no event", "no start at once"))


# The function does not look whether it is run: an alarm says that it is not. What it works with fails by itself.
NOT_GUARDED = ("the queue is gone", "the dead-letter queue is gone")


def guarded(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> Guarded:
    account = PaperAccount()
    account.kept = kept
    return Guarded(account, kept[FUNCTION], monkeypatch)


@pytest.mark.parametrize("name", [name for name in BROKEN if BROKEN[name].link != "no starter"])
def test_the_guard_says_the_same_until_the_run_after_the_cure(
    deployments: dict[str, Kept], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = BROKEN[name]
    kept = copy.deepcopy(deployments[broken.mode])
    found = guarded(kept, monkeypatch)
    assert found.run() == []
    broken.breaks(kept)
    found.at += guard.LOOK_AGAIN_SECONDS
    said = [] if name in NOT_GUARDED else [f"{broken.fault}: {broken.cure}"]
    assert [found.run(), found.run()] == [said, said]
    kept.update(copy.deepcopy(deployments[broken.mode]))
    assert found.run() == []


@pytest.mark.parametrize("mode", MODES)
def test_the_guard_finds_nothing_while_a_deployment_waits(
    scripts: Scripts, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If copying is turned off, this is for the last copies, and longer than the guard takes to confirm."""
    scripts.account = PaperAccount()
    scripts.deploy(**MODES[mode], STARTER_COPIES="true")
    said: list[list[str]] = []
    monkeypatch.setattr(scripts, "while_asleep", lambda: said.append(guarded(scripts.account.kept, monkeypatch).run()))
    ran = scripts.deploy(**MODES[mode] | {"PREFIX_FILTER": "d/", "STARTER_COPIES": ""})
    assert [int(one["seconds"]) > guard.CONFIRM_SECONDS for one in ran.sent("CheckClock")] == [True]
    assert said == [[]]


def test_what_the_guard_may_not_read_is_said_once_and_is_no_fault(
    deployments: dict[str, Kept], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = copy.deepcopy(deployments["sqs"])
    no_notification(kept)
    found = guarded(kept, monkeypatch)
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
    given = json.dumps(
        {"notifications": [], "pattern": {}, "policy": {"Statement": [{"Sid": "s3-events"}, {"Sid": "eventbridge"}]}}
    )
    command = [sys.executable, "-B", "-c", OLDER]
    done = subprocess.run(command, cwd=PROJECT, input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["the queue is gone", "the notifications are of another queue"])
def test_a_cure_names_the_local_cloud(scripts: Scripts, deployments: dict[str, Kept], name: str) -> None:
    kept = copy.deepcopy(deployments["sqs"])
    BROKEN[name].breaks(kept)
    seen = Seen(scripts, kept, VIA=" --local")
    assert "./deploy.sh --local, then ./sync.sh --local reconcile (look at" in seen.status["reasons"][0]


def test_what_may_not_be_read_is_said_and_is_no_fault(scripts: Scripts, deployments: dict[str, Kept]) -> None:
    kept = copy.deepcopy(deployments["sqs"])
    BROKEN["the minute's rule may not run the function"].breaks(kept)
    no_notification(kept)
    seen = Seen(scripts, kept, "GetBucketNotificationConfiguration", "GetPolicy")
    assert (seen.status["reasons"], seen.verify) == ([], [])
    assert seen.events()[0] == "unknown"
    assert "no GetBucketNotificationConfiguration" in seen.parts["events"]["error"]
    assert "no GetPolicy" in seen.errors


def test_the_policy_of_the_queue_is_checked_although_the_bucket_may_not_be_read(
    scripts: Scripts, deployments: dict[str, Kept]
) -> None:
    broken = BROKEN["the queue has no policy"]
    kept = copy.deepcopy(deployments["sqs"])
    broken.breaks(kept)
    seen = Seen(scripts, kept, "GetBucketNotificationConfiguration")
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


def unchanged(_kept: Kept) -> None: ...


# The deployment, what is different there, and the way of its events: its name, whether they start the starter at once.
WHOLE: dict[str, tuple[str, Callable[[Kept], None], tuple[str, bool]]] = {
    "a notification for each prefix": ("sqs", unchanged, ("sqs", False)),
    "in another order": ("sqs", in_another_order, ("sqs", False)),
    "beside a switch": ("sqs", switched_on, ("sqs", False)),
    "a policy that is no list": ("sqs", one_statement, ("sqs", False)),
    "by a release whose function did not know the prefixes": ("sqs", without_settings, ("sqs", False)),
    "a rule": ("eventbridge", unchanged, ("eventbridge", True)),
    "a rule that starts nobody": ("eventbridge", one_start_at_a_time, ("eventbridge", False)),
}


@pytest.mark.parametrize("name", WHOLE)
def test_nothing_is_said_of_a_path_that_is_whole(
    scripts: Scripts, deployments: dict[str, Kept], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mode, change, way = WHOLE[name]
    kept = copy.deepcopy(deployments[mode])
    change(kept)
    seen = Seen(scripts, kept)
    assert (seen.status["reasons"], seen.verify) == ([], [])
    assert seen.events() == (*way, [])
    assert guarded(kept, monkeypatch).run() == []


@pytest.mark.parametrize(
    ("broken", "faults"),
    [
        (["a notification is gone"], 0),
        (["the event rule is disabled"], 0),
        (["a notification is gone", "the event rule is disabled"], 2),
    ],
)
def test_of_two_ways_one_is_enough(
    scripts: Scripts, deployments: dict[str, Kept], broken: list[str], faults: int
) -> None:
    kept = both_ways(deployments)
    for name in broken:
        BROKEN[name].breaks(kept)
    seen = Seen(scripts, kept)
    assert seen.events()[0] == "both"
    assert len(seen.verify) == len(seen.status["reasons"]) == faults
