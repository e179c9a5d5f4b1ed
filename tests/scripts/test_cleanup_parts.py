"""cleanup.sh beside what fails and what others have, on an account on paper.

For the order of removals see test_documents.py.
"""

import copy
import json
import re

import pytest
from account import APP, MIRROR, REGION, SOURCE
from documents import Scripts, scripts_of_module
from paper_account import NUMBER, PaperAccount, Refused
from test_documents import EVENT_RULE
from test_lifecycle import THEIR_RULE
from test_policy_files import TASK

scripts = scripts_of_module()


@pytest.fixture
def account(scripts: Scripts) -> PaperAccount:
    """With a deployment of every default, and a worker that runs."""
    found = scripts.with_deployment()
    found.kept |= {"running t1": dict(TASK)}
    return found


def test_what_is_shown_is_what_goes_and_only_after_a_yes(scripts: Scripts, account: PaperAccount) -> None:
    shown = scripts.clean_up("--dry-run")
    assert f"In account {NUMBER}, Region {REGION}:\n" in shown.output
    assert f"would remove queue {APP}-q (3 messages)\n" in shown.output
    assert f"would remove cluster {APP}-cluster (1 tasks)\n" in shown.output
    asked = scripts.program("cleanup.sh", status=1)
    assert "nothing was removed: there is no terminal to ask on; use --yes" in asked.errors
    assert shown.writes == asked.writes == []
    # Spot takes the capacity back between two lists of the tasks: those that run, and those that are to stop.
    taken_back = {"lastStatus": "DEPROVISIONING", "desiredStatus": "STOPPED"}
    looks = [lambda: None] * 3
    account.before = {"ListTasks": [*looks, lambda: account.kept["running t1"].update(taken_back)]}
    ran = scripts.clean_up()
    removed = re.findall(r"^\[\d+/\d+\] (.+): removed$", ran.output, re.MULTILINE)
    assert removed == re.findall(r"^  would remove (.+?)(?: \(.+\))?$", shown.output, re.MULTILINE)
    kinds = [name.partition(" ")[0] for name in removed]
    assert kinds.index("notification") < kinds.index("alarm") < kinds.index("rule")  # without it, silence is an alarm
    (put,) = ran.sent("PutBucketNotificationConfiguration")
    assert put["SkipDestinationValidation"]  # the queue of somebody else may be gone
    assert [name for name in account.kept if APP in name and not name.startswith("image ")] == []


def test_what_fails_does_not_keep_the_rest_and_is_no_success(scripts: Scripts, account: PaperAccount) -> None:
    looks, removals = ("DescribeLogGroups", "DescribeAlarms"), ("DeleteFunction", "DeleteDashboards")
    for command, denied in (("--dry-run", looks), ("--yes", looks + removals)):
        account.refusals = [(name, Refused("AccessDenied", f"no {name}")) for name in denied]
        ran = scripts.clean_up(command, status=1)
        assert [name for name in denied if f"no {name}" not in ran.errors] == []
        assert f"{len(denied)} errors, see above" in ran.errors
    left = {name.partition(" ")[0] for name in account.kept if APP in name and not name.startswith("image ")}
    assert left == {"log-group", "alarm", "function", "dashboard", "task"}
    assert ran.output.count("NOT removed") == 3  # of the two, and of what the next run needs
    scripts.clean_up()
    assert [name for name in account.kept if APP in name and not name.startswith("image ")] == []


def test_what_others_have_in_the_place_of_ours_stays(scripts: Scripts, account: PaperAccount) -> None:
    statement = {"Effect": "Allow", "Principal": "*", "Action": "s3express:CreateSession", "Resource": "*"}
    widget = {"type": "metric", "properties": {"region": "eu-north-1", "metrics": []}}
    (ours,) = account.kept[f"notifications {SOURCE}"]["QueueConfigurations"]
    theirs = {
        f"bucket-policy {MIRROR}": json.dumps({"Version": "2012-10-17", "Statement": [statement]}),
        f"notifications {SOURCE}": {"QueueConfigurations": [ours | {"QueueArn": f"{ours['QueueArn']}2"}]},
        f"dashboard {APP}": json.dumps({"widgets": [widget]}),
        f"lifecycle {MIRROR}": [THEIR_RULE],
    }
    account.kept |= copy.deepcopy(theirs)
    scripts.clean_up()
    assert {name: account.kept.get(name) for name in theirs} == theirs


def test_a_queue_says_of_which_source_it_is_if_nothing_else_does(scripts: Scripts, account: PaperAccount) -> None:
    """Also if a statement of others comes before ours. Nobody would remove the notification of the other bucket."""
    del (
        account.kept[f"task {APP}-task:1"],
        account.kept[f"function {APP}-starter"],
        account.kept[f"role {APP}-task-role"],
    )
    policy = json.loads(account.kept[f"queue {APP}-q"]["Attributes"]["Policy"])
    theirs = {"Effect": "Deny", "Principal": "*", "Action": "sqs:*", "Resource": "*"}
    policy["Statement"].insert(0, theirs | {"Condition": {"Bool": {"aws:SecureTransport": "false"}}})
    account.kept[f"queue {APP}-q"]["Attributes"]["Policy"] = json.dumps(policy)
    ran = scripts.clean_up(status=2, SRC_BUCKET="forgotten")
    assert f"SRC_BUCKET=forgotten, but the queue {APP}-q gets the events of {SOURCE}" in ran.errors
    assert ran.writes == []


@pytest.mark.usefixtures("account")
def test_of_a_destination_of_another_account_nothing_is_read(scripts: Scripts) -> None:
    ran = scripts.clean_up("--dry-run", DST_BUCKET_OWNER="999999999999")
    assert [call.operation for call in ran.calls if call.parameters.get("Bucket") == MIRROR] == []


def test_a_switch_that_is_not_known_as_ours_stays_and_is_named(scripts: Scripts) -> None:
    kept = copy.deepcopy(scripts.with_deployment(EVENT_SOURCE="eventbridge").kept)
    scripts.account.refusals = [("PutBucketNotificationConfiguration", Refused("AccessDenied"))]
    ran = scripts.clean_up(status=1)
    assert f"event rule {EVENT_RULE}: NOT removed, because its tag says whether deploy.sh turned on" in ran.output
    scripts.account.kept, scripts.account.refusals = kept, []
    del kept[f"rule {EVENT_RULE}"]["tags"]["turned-on-events-of"]
    for said in ("deploy.sh did not turn it on", "is gone: if nobody else needs it, turn it off"):
        ran = scripts.clean_up("--dry-run")
        assert f"stays: the EventBridge switch of {SOURCE}, because" in ran.errors
        assert said in " ".join(ran.errors.split())
        assert "event switch" not in ran.output
        kept.pop(f"rule {EVENT_RULE}", None)
