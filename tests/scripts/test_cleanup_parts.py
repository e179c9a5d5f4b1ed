"""cleanup.sh beside what fails and what others have, on an account on paper; and its parts, each alone.

For the order of removals see test_documents.py.
"""

import copy
import functools
import json
import re
from pathlib import Path
from typing import Any

import pytest
import sourced
from account import APP, MIRROR, SOURCE
from documents import Ran, Scripts, scripts_of_module
from paper_account import PaperAccount, Refused
from test_documents import QUEUE, THEIR_RULE
from test_policy_files import TASK

START = """
source "$0/cleanup.sh"
set_names
REGION=eu-west-1
set_account 123456789012
TEMP_DIR=$PWD
start_verb() { PROBLEMS=(); }
check_previous_source() { :; }
"""


bash = functools.partial(sourced.alone, START)
scripts = scripts_of_module()
LOOK, REMOVE = "DRY_RUN=true; cleanup_all", "ASSUME_YES=true; cleanup_all"


@pytest.fixture(scope="module")
def made(scripts: Scripts) -> dict[str, Any]:
    scripts.account = PaperAccount()
    scripts.deploy()
    return scripts.account.kept


@pytest.fixture
def account(scripts: Scripts, made: dict[str, Any]) -> PaperAccount:
    """With a deployment of every default, and a worker that runs."""
    scripts.account = PaperAccount()
    scripts.account.kept = copy.deepcopy(made) | {"running t1": dict(TASK)}
    return scripts.account


def removed(ran: Ran) -> list[str]:
    return re.findall(r"^\[\d+/\d+\] (.+): removed$", ran.output, re.MULTILINE)


def planned(ran: Ran) -> list[str]:
    """Without remarks."""
    return re.findall(r"^  would remove (.+?)(?: \(.+\))?$", ran.output, re.MULTILINE)


def test_what_is_shown_is_what_goes_and_only_after_a_yes(scripts: Scripts, account: PaperAccount) -> None:
    shown = scripts.run(LOOK)
    assert f"would remove queue {APP}-q (3 messages)\n" in shown.output
    assert f"would remove cluster {APP}-cluster (1 tasks)\n" in shown.output
    asked = scripts.run("cleanup_all", 1)
    assert "nothing was removed: there is no terminal to ask on; use --yes" in asked.errors
    assert shown.writes == asked.writes == []
    ran = scripts.run(REMOVE)
    assert removed(ran) == planned(shown)
    kinds = [name.partition(" ")[0] for name in removed(ran)]
    assert kinds.index("notification") < kinds.index("alarm") < kinds.index("rule")  # without it, silence is an alarm
    (put,) = ran.sent("PutBucketNotificationConfiguration")
    assert put["SkipDestinationValidation"]  # the queue of somebody else may be gone
    assert [name for name in account.kept if APP in name and not name.startswith("image ")] == []


def test_what_fails_does_not_keep_the_rest_and_is_no_success(scripts: Scripts, account: PaperAccount) -> None:
    looks, removals = ("DescribeLogGroups", "DescribeAlarms"), ("DeleteFunction", "DeleteDashboards")
    for command, denied in ((LOOK, looks), (REMOVE, looks + removals)):
        account.refusals = [(name, Refused("AccessDenied", f"no {name}")) for name in denied]
        ran = scripts.run(command, 1)
        assert [name for name in denied if f"no {name}" not in ran.errors] == []
        assert f"{len(denied)} errors, see above" in ran.errors
    left = {name.partition(" ")[0] for name in account.kept if APP in name and not name.startswith("image ")}
    assert left == {"log-group", "alarm", "function", "dashboard", "task"}
    assert ran.output.count("NOT removed") == 3  # of the two, and of what the next run needs
    scripts.run(REMOVE)
    assert [name for name in account.kept if APP in name and not name.startswith("image ")] == []


def test_what_others_have_in_the_place_of_ours_stays(scripts: Scripts, account: PaperAccount) -> None:
    statement = {"Effect": "Allow", "Principal": "*", "Action": "s3express:CreateSession", "Resource": "*"}
    widget = {"type": "metric", "properties": {"region": "eu-north-1", "metrics": []}}
    (ours,) = account.kept[f"notifications {SOURCE}"]["QueueConfigurations"]
    theirs = {
        f"bucket-policy {MIRROR}": json.dumps({"Version": "2012-10-17", "Statement": [statement]}),
        f"notifications {SOURCE}": {"QueueConfigurations": [ours | {"QueueArn": f"{QUEUE}2"}]},
        f"dashboard {APP}": json.dumps({"widgets": [widget]}),
        f"lifecycle {MIRROR}": [THEIR_RULE],
    }
    account.kept |= copy.deepcopy(theirs)
    ran = scripts.run("deploy_all", 2)
    assert f"APP_NAME={APP}: SRC_BUCKET={SOURCE} has a notification of this name already, to the queue" in ran.errors
    del account.kept[f"lifecycle {MIRROR}"]
    of_them = ("notification", "dashboard", "bucket ")
    assert [name for name in planned(scripts.run(LOOK)) if name.startswith(of_them)] == []
    account.kept[f"lifecycle {MIRROR}"] = [THEIR_RULE]
    assert [name for name in removed(scripts.run(REMOVE)) if name.startswith(of_them)] == []
    assert {name: account.kept.get(name) for name in theirs} == theirs


def test_a_queue_says_of_which_source_it_is_if_nothing_else_does(scripts: Scripts, account: PaperAccount) -> None:
    """Also if a statement of others comes before ours. Nobody would remove the notification of the other bucket."""
    del account.kept[f"task {APP}-task:1"]
    policy = json.loads(account.kept[f"queue {APP}-q"]["Attributes"]["Policy"])
    theirs = {"Effect": "Deny", "Principal": "*", "Action": "sqs:*", "Resource": "*"}
    policy["Statement"].insert(0, theirs | {"Condition": {"Bool": {"aws:SecureTransport": "false"}}})
    account.kept[f"queue {APP}-q"]["Attributes"]["Policy"] = json.dumps(policy)
    ran = scripts.run(REMOVE, 2, SRC_BUCKET="forgotten")
    assert f"SRC_BUCKET=forgotten, but the queue {APP}-q gets the events of {SOURCE}" in ran.errors
    assert ran.writes == []


@pytest.mark.usefixtures("account")
def test_of_a_destination_of_another_account_nothing_is_read(scripts: Scripts) -> None:
    ran = scripts.run(LOOK, DST_BUCKET_OWNER="999999999999")
    assert [call.operation for call in ran.calls if call.parameters.get("Bucket") == MIRROR] == []


SWITCH = """
SRC_BUCKET=source
fact() { printf '%s' "$TAGS"; } # of the rule
find_queue_policy() { printf '{"Statement": [{"Sid": "%s"}]}' "$SENDER"; }
find_notifications() { echo '{"EventBridgeConfiguration": {}}'; }
asking_rules() { :; }
list_event_switch
"""
OURS = '[{"Key": "turned-on-events-of", "Value": "source"}]'


@pytest.mark.parametrize(
    ("tags", "sender", "listed", "said"),
    [
        (OURS, "eventbridge", "source\n", ""),
        ("[]", "eventbridge", "", "deploy.sh did not turn it on"),
        ("", "eventbridge", "", "is gone: if nobody else needs it, turn it off"),
        ("", "s3-events", "", ""),
    ],
)
def test_the_switch_of_a_rule_that_somebody_deleted_is_named(
    tags: str, sender: str, listed: str, said: str, tmp_path: Path
) -> None:
    done = bash(f"TAGS='{tags}' SENDER={sender}\n{SWITCH}", tmp_path)
    assert (done.returncode, done.stdout) == (0, listed), done.stderr
    assert said in done.stderr and bool(done.stderr) == bool(said)
