"""EVENT_SOURCE=eventbridge: the rule and the switch, what others have beside them, and the change to it and back."""

import json
import os
import subprocess
from typing import Any

import pytest
from account import APP, DIRECTORY, MIRROR, PROJECT, SOURCE, Account
from deployment import assert_conforming, nameless, one_cli, one_cloud, states
from recorder import Call, Refusal, encoded

RULE = f"{APP}-event-rule"
BRIDGE = {"EVENT_SOURCE": "eventbridge", "CHANGEOVER_SECONDS": "1"}
QUEUE_WAY = {"EVENT_SOURCE": "sqs", "CHANGEOVER_SECONDS": "1"}
BOTH = ["s3-events", "eventbridge"]
# The steps of deploy.sh that an event meets on its way, those of them that a change of EVENT_SOURCE is made of, and the
# kinds of cleanup.sh that undo these.
CHANGING = ("ensure_source_queue", "ensure_event_*", "ensure_notification", "ensure_no_event_rule", "ensure_no_notif*")
PATH = ("ensure_dlq", "ensure_starter_role", "ensure_function", "ensure_rule", *CHANGING)
KINDS = ("notification", "event_switch", "event_rule", "rule")
ALL_KINDS = (*KINDS, "function", "role", "queue")


def configuration(account: Account) -> dict[str, Any]:
    """The source bucket's notifications and its switch."""
    found = account.client("s3").get_bucket_notification_configuration(Bucket=SOURCE)
    found.pop("ResponseMetadata")
    return found


def has_notification(account: Account) -> bool:
    return APP in {found["Id"] for found in configuration(account).get("QueueConfigurations", [])}


def put_configuration(account: Account, wanted: dict[str, Any]) -> None:
    s3 = account.client("s3")
    s3.put_bucket_notification_configuration(
        Bucket=SOURCE, NotificationConfiguration=wanted, SkipDestinationValidation=True
    )


def turn_off(account: Account) -> None:
    """The bucket of somebody who does not use EventBridge."""
    put_configuration(account, {k: v for k, v in configuration(account).items() if k != "EventBridgeConfiguration"})


def is_on(account: Account) -> bool:
    return "EventBridgeConfiguration" in configuration(account)


def policy(account: Account) -> dict[str, Any]:
    sqs = account.client("sqs")
    url = sqs.get_queue_url(QueueName=f"{APP}-q")["QueueUrl"]
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])
    return json.loads(found["Attributes"]["Policy"])


def senders(account: Account) -> list[str]:
    return [statement["Sid"] for statement in policy(account)["Statement"]]


def targets(account: Account) -> dict[str, str]:
    found = account.client("events").list_targets_by_rule(Rule=RULE)["Targets"]
    return {target["Id"]: target["Arn"] for target in found}


def has_rule(account: Account) -> bool:
    return RULE in {rule["Name"] for rule in account.client("events").list_rules()["Rules"]}


def permissions(account: Account) -> set[str]:
    found = json.loads(account.client("lambda").get_policy(FunctionName=f"{APP}-starter")["Policy"])
    return {statement["Sid"] for statement in found["Statement"]}


def told(account: Account) -> list[str]:
    """The last run's writes, each in a word: the operation, or what of the two ways is there after it."""
    return [word(call) for call in account.recorder.writes if call.service != "cloudwatch"]


def word(call: Call) -> str:
    if call.operation == "SetQueueAttributes":
        return "policy " + "+".join(s["Sid"] for s in json.loads(call.parameters["Attributes"]["Policy"])["Statement"])
    if call.operation == "PutBucketNotificationConfiguration":
        wanted = call.parameters["NotificationConfiguration"]
        ours = APP in {found["Id"] for found in wanted.get("QueueConfigurations", [])}
        return "bucket" + " notification" * ours + " switch" * ("EventBridgeConfiguration" in wanted)
    return call.operation


@one_cloud
@one_cli
def test_the_new_way_is_made_first_and_the_old_one_removed_last(account: Account) -> None:
    account.deployed()
    turn_off(account)
    deployed, theirs = nameless(account.inventory()), configuration(account)

    output, _ = account.steps(*CHANGING, DRY_RUN="true", **BRIDGE)
    last = f"notification {SOURCE} {APP}: would remove, because EVENT_SOURCE=eventbridge"
    assert output.splitlines()[-1].endswith(last)
    assert account.recorder.writes == []
    output, errors = account.steps(*CHANGING, **BRIDGE)
    assert_conforming(account)
    made = ["policy s3-events+eventbridge", "PutRule", "AddPermission", "PutTargets"]
    made += ["TagResource", "bucket notification switch"]
    assert told(account) == [*made, "bucket switch", "policy eventbridge"]
    assert "both event sources are on: the old one is removed when the new one has taken effect, in 1 s" in errors
    assert f"notification {SOURCE} {APP}: removed, because EVENT_SOURCE=eventbridge" in output
    output, _ = account.steps(*CHANGING, **BRIDGE)
    assert set(states(output)) == {"exists"}
    assert account.recorder.writes == []

    output, _ = account.steps(*CHANGING, DRY_RUN="true", **QUEUE_WAY)
    assert output.splitlines()[-1].endswith(f"event rule {RULE}: would remove, because EVENT_SOURCE=sqs")
    assert account.recorder.writes == []
    output, errors = account.steps(*CHANGING, **QUEUE_WAY)
    assert_conforming(account)
    removed = ["bucket notification", "RemovePermission", "RemoveTargets", "DeleteRule", "policy s3-events"]
    made = ["policy s3-events+eventbridge", "bucket notification switch"]
    assert told(account) == [*made, *removed]
    assert "both event sources are on" in errors
    assert nameless(account.inventory()) == deployed
    assert configuration(account) == theirs
    account.steps(*CHANGING)
    assert account.recorder.writes == []


EVENTS_ALARM = f"alarm {APP}-events"


@one_cloud
@one_cli
def test_an_alarm_on_events_of_somebody_else_stays(account: Account) -> None:
    account.put_alarm(f"{APP}-events")
    output, _ = account.steps("*_events_alarm")
    assert f"{EVENTS_ALARM}: left to you, because it has no tag app={APP}" in output
    assert f"{APP}-events" in account.alarms()


@one_cloud
@one_cli
def test_while_the_change_waits_both_are_on_and_the_next_run_waits_again(account: Account) -> None:
    account.deployed()
    for settings, last in ((BRIDGE, "PutTargets"), (QUEUE_WAY, "PutBucketNotificationConfiguration")):
        account.recorder.refusals = [Refusal("PutDashboard", 1, "AccessDenied", "stop here", 403)]
        account.client("cloudwatch").delete_dashboards(DashboardNames=[APP])
        account.steps(*CHANGING, "ensure_dashboard", status=1, **settings)
        assert last in [call.operation for call in account.recorder.writes]
        assert has_notification(account)
        assert has_rule(account)
        assert senders(account) == BOTH
        _, errors = account.steps(*CHANGING, "ensure_dashboard", **settings)
        assert "both event sources are on" in errors
        assert (has_notification(account), has_rule(account)) == (settings is QUEUE_WAY, settings is BRIDGE)
        assert len(senders(account)) == 1
    assert is_on(account)  # somebody else's


@one_cloud
@one_cli
def test_a_notification_without_its_statement_is_found_too(account: Account) -> None:
    account.deployed()
    url = account.starter_environment()["QUEUE_URL"]
    account.client("sqs").set_queue_attributes(QueueUrl=url, Attributes={"Policy": ""})
    account.steps(*CHANGING, **BRIDGE)
    assert not has_notification(account)
    assert senders(account) == ["eventbridge"]


@one_cloud
@one_cli
def test_notifications_of_others_for_the_same_keys_are_no_problem_with_eventbridge(account: Account) -> None:
    theirs = configuration(account)
    _, errors = account.run("deploy.sh", status=2, PREFIX_FILTER="")
    assert "S3 allows only one per event and key: set EVENT_SOURCE=eventbridge, or PREFIX_FILTER" in errors
    output, _ = account.run("deploy.sh", "--dry-run", PREFIX_FILTER="", **BRIDGE)
    assert f"event rule {RULE}: would create" in output
    account.deployed()
    account.steps(*CHANGING, PREFIX_FILTER="", **BRIDGE)
    assert configuration(account) == theirs
    rule = account.client("events").describe_rule(Name=RULE)
    assert json.loads(rule["EventPattern"])["detail"] == {"bucket": {"name": [SOURCE]}}
    prefix = "caf\u00e9 a+b%/\u6a21\u578b/"
    output, _ = account.steps(*CHANGING, PREFIX_FILTER=prefix, **BRIDGE)
    assert f"event rule {RULE}: changed (EventPattern)" in output
    rule = account.client("events").describe_rule(Name=RULE)
    assert json.loads(rule["EventPattern"])["detail"]["object"] == {"key": [{"prefix": prefix}]}
    account.steps(*CHANGING, PREFIX_FILTER=prefix, **BRIDGE)
    assert account.recorder.writes == []


@one_cloud
@one_cli
def test_a_bucket_of_another_account_is_refused_with_eventbridge(account: Account) -> None:
    _, errors = account.run("deploy.sh", status=2, SRC_BUCKET_OWNER="999999999999", **BRIDGE)
    assert "EVENT_SOURCE=eventbridge: S3 sends events only to EventBridge in the bucket's own account" in errors
    assert f"(SRC_BUCKET_OWNER=999999999999), and this is {account.number}: set EVENT_SOURCE=sqs" in errors
    assert account.recorder.writes == []


@one_cloud
@one_cli
def test_another_source_than_that_of_the_rule_is_refused(account: Account) -> None:
    account.deployed()
    account.steps(*CHANGING, **BRIDGE)
    for script, argument, why in (
        ("cleanup.sh", "--yes", f"what is deployed has {SOURCE}"),
        ("deploy.sh", "--dry-run", f"the queue {APP}-q gets the events of {SOURCE}"),
    ):
        _, errors = account.run(script, argument, status=2, SRC_BUCKET="forgotten", **BRIDGE)
        assert f"SRC_BUCKET=forgotten, but {why}" in errors
        assert account.recorder.writes == []


@one_cloud
@one_cli
@pytest.mark.parametrize("first", [APP, "second"])
def test_two_deployments_of_one_source_do_not_touch_each_other(account: Account, first: str) -> None:
    turn_off(account)
    zone = MIRROR.replace("mirror", "mirror2")
    account.client("s3").create_bucket(Bucket=zone, CreateBucketConfiguration=DIRECTORY)
    before = account.inventory()
    settings = {APP: BRIDGE | {"APP_NAME": APP}, "second": BRIDGE | {"APP_NAME": "second", "DST_BUCKET": zone}}
    account.steps(*PATH, **settings[APP])
    account.steps(*PATH, **settings["second"])
    other = "second" if first == APP else APP
    rules = [rule for rule in account.rules() if rule[0]["Name"].startswith(f"{other}-")]
    assert len(rules) == 2

    _, errors = account.result_of(account.start_removal(*ALL_KINDS, **settings[first]))
    assert (
        f"stays: the EventBridge switch of {SOURCE}, because other rules may ask for its events: arn:aws:ev" in errors
    )
    assert f"rule/{other}-event-rule" in errors
    assert is_on(account)
    assert [rule for rule in account.rules() if rule[0]["Name"].startswith(f"{other}-")] == rules
    account.steps(*PATH, **settings[other])
    assert account.recorder.writes == []

    account.result_of(account.start_removal(*ALL_KINDS, **settings[other]))
    assert account.inventory() == before


@one_cloud
@one_cli
def test_the_switch_stays_for_a_rule_of_somebody_else(account: Account) -> None:
    account.deployed()
    turn_off(account)
    account.steps(*CHANGING, **BRIDGE)
    events = account.client("events")
    events.put_rule(Name="theirs", EventPattern=json.dumps({"source": [{"prefix": "aws."}]}))
    _, errors = account.steps(*CHANGING, **QUEUE_WAY)
    assert "because other rules may ask for its events: arn:aws:events" in errors
    assert is_on(account)
    assert not has_rule(account)


OTHERS = {"detail": {"bucket": {"name": ["another", "third"]}}}
ASKING = [
    {"source": ["aws.s3"]},
    {"source": ["aws.ec2", "aws.s3"], "detail-type": ["Object Created"]},
    {"source": [{"prefix": "aws."}]},
    {"source": [{"anything-but": ["aws.ec2"]}], "detail": {"bucket": {"name": [SOURCE]}}},
    {"account": ["123456789012"]},
    {"source": ["aws.s3"], "detail": {"bucket": {"name": ["another", SOURCE]}}},
    {"source": ["aws.s3"], "detail": {"bucket": {"name": ["another", {"prefix": "their"}]}}},
    {"source": ["aws.s3"], "detail": {"$or": [{"bucket": {"name": ["another"]}}, {"reason": ["PutObject"]}]}},
    {"source": ["aws.s3"], "detail": {"object": {"key": [{"prefix": "a/"}]}}},
    {"source": ["aws.s3"], "detail": {"bucket": "odd"}},
    {"$or": [{"source": ["aws.s3"]}, {"source": ["aws.ec2"]}]},
    "odd",
]
NOT_ASKING = [{"source": ["aws.ec2"]}, {"source": ["aws.s3"]} | OTHERS, OTHERS, {"source": ["a", "b"], "detail": {}}]


def test_which_rules_may_ask_for_events_of_the_bucket() -> None:
    patterns = [*ASKING, *NOT_ASKING]
    rules = [{"Name": str(n), "Arn": str(n), "EventPattern": json.dumps(one)} for n, one in enumerate(patterns)]
    rules += [{"Name": "minute", "Arn": "minute", "ScheduleExpression": "rate(1 minute)"}]
    rules += [{"Name": RULE, "Arn": "ours", "EventPattern": json.dumps(ASKING[0])}]
    script = 'source "$0/deploy.sh"; start_run; aws_or_die() { printf "%s" "$RULES"; }; asking_rules'
    environment = {"RULES": json.dumps({"Rules": rules}), "SRC_BUCKET": SOURCE, "PATH": "/usr/bin:/bin"}
    done = subprocess.run(["bash", "-c", script, PROJECT], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(n) for n in range(len(ASKING))]


@one_cloud
@one_cli
def test_a_target_that_is_refused_ends_the_run(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    account.deployed()
    refused = encoded({"FailedEntryCount": 1, "FailedEntries": [{"TargetId": "queue", "ErrorCode": "odd"}]})
    with monkeypatch.context() as patch:
        patch.setitem(account.recorder.answers, ("events", "PutTargets"), refused)
        _, errors = account.steps(*CHANGING, status=1, **BRIDGE)
    assert f"event rule {RULE}: put-targets was refused: " in errors
    assert has_notification(account)
    account.steps(*CHANGING, **BRIDGE)
    assert set(targets(account)) == {"queue", "starter"}
    assert not has_notification(account)


def test_the_old_way_goes_when_the_new_one_has_had_its_time() -> None:
    script = 'source "$0/deploy.sh"; sleep() { echo "$1"; }; replace_old_way echo removed'
    done = subprocess.run(
        ["bash", "-c", script, PROJECT],
        env=os.environ | {"CHANGEOVER_SECONDS": "70"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["30", "30", "10", "removed"]


def test_redrive_reads_the_keys_of_both_forms() -> None:
    record = {"s3": {"bucket": {"name": SOURCE}, "object": {"key": "a+b%2B%25"}}}
    event = {"source": "aws.s3", "detail": {"bucket": {"name": SOURCE}, "object": {"key": "a b+%25"}}}
    bodies = [json.dumps({"Records": [record]}), json.dumps(event), "[]", "odd", '{"source": "aws.s3"}']
    script = 'source "$0/lib/dead_letters.sh"; with_keys'
    given = json.dumps([{"body": body} for body in bodies])
    done = subprocess.run(["bash", "-c", script, PROJECT], input=given, capture_output=True, text=True, check=True)
    assert [message["keys"] for message in json.loads(done.stdout)] == [["a b+%"], ["a b+%25"], [], [], []]
