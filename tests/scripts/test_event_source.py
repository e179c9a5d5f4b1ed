"""EVENT_SOURCE=eventbridge beside what others have, on an account on paper; for the order see test_documents.py."""

import copy
import json
import re
from typing import Any

import pytest
from account import APP, SOURCE
from documents import Scripts, scripts_of_module
from paper_account import PaperAccount
from test_interrupted import BRIDGE, FROM_BRIDGE, TO_BRIDGE

Kept = dict[str, Any]
RULE = f"{APP}-event-rule"
QUEUE_WAY = {"EVENT_SOURCE": "sqs"}
BUCKET = f"notifications {SOURCE}"

scripts = scripts_of_module()


@pytest.fixture
def kept(scripts: Scripts) -> Kept:
    """What an account has after a deployment."""
    return scripts.with_deployment().kept


def ours(kept: Kept) -> list[str]:
    return [one["Id"] for one in kept.get(BUCKET, {}).get("QueueConfigurations", []) if one["Id"] == APP]


def senders(kept: Kept) -> list[str]:
    policy = json.loads(kept[f"queue {APP}-q"]["Attributes"]["Policy"])
    return [statement["Sid"] for statement in policy["Statement"]]


def test_what_others_have_beside_the_path_of_events_stays(scripts: Scripts, kept: Kept) -> None:
    name = f"{APP}-events"
    kept[f"alarm {name}"] = {"AlarmName": name, "AlarmArn": f"arn:aws:cloudwatch:us-east-1:1:alarm:{name}", "tags": {}}
    assert f"alarm {name}: left to you, because it has no tag app={APP}" in scripts.step("ensure_alarms").output
    assert f"alarm {name}" in kept
    theirs = {"Id": "theirs", "QueueArn": "arn:aws:sqs:us-east-1:1:q2", "Events": ["s3:ObjectCreated:*"]}
    kept[BUCKET] = {"QueueConfigurations": [theirs]}
    ran = scripts.deploy("--dry-run", status=2)
    assert "S3 allows only one per event and key: set EVENT_SOURCE=eventbridge, or PREFIX_FILTER" in ran.errors
    scripts.step(*TO_BRIDGE, **BRIDGE)
    assert kept[BUCKET]["QueueConfigurations"] == [theirs]


def test_a_notification_without_its_statement_is_found_too(scripts: Scripts, kept: Kept) -> None:
    del kept[f"queue {APP}-q"]["Attributes"]["Policy"]
    scripts.step(*TO_BRIDGE, **BRIDGE)
    assert (ours(kept), senders(kept)) == ([], ["eventbridge"])


def test_a_change_that_ends_before_the_old_way_is_removed_waits_again(scripts: Scripts, kept: Kept) -> None:
    for settings, steps in ((BRIDGE, TO_BRIDGE), (QUEUE_WAY, FROM_BRIDGE)):
        scripts.step(*steps[:-1], **settings)
        assert (bool(ours(kept)), f"rule {RULE}" in kept, senders(kept)) == (True, True, ["s3-events", "eventbridge"])
        assert "both event sources are on" in scripts.step(*steps, **settings).errors
        assert (bool(ours(kept)), f"rule {RULE}" in kept) == (settings is QUEUE_WAY, settings is BRIDGE)
        assert len(senders(kept)) == 1


def test_the_rule_takes_all_events_when_no_prefix_is_left(scripts: Scripts, kept: Kept) -> None:
    for prefix in ("a/", ""):
        scripts.step("ensure_event_rule", **BRIDGE, PREFIX_FILTER=prefix)
        detail = json.loads(kept[f"rule {RULE}"]["EventPattern"])["detail"]
        assert ("object" in detail) == bool(prefix)


def test_another_source_than_that_of_the_rule_or_one_of_another_account_is_refused(scripts: Scripts) -> None:
    scripts.with_deployment(**BRIDGE).kept["notifications forgotten"] = {}
    ran = scripts.deploy(status=2, **BRIDGE, SRC_BUCKET="forgotten", SRC_BUCKET_OWNER="999999999999")
    said = " ".join(ran.errors.split())
    assert f"the queue {APP}-q gets the events of {SOURCE}" in said
    assert "EVENT_SOURCE=eventbridge: S3 sends events only to EventBridge in the bucket's own account" in said
    assert ran.writes == []


def test_two_deployments_of_one_source_do_not_touch_each_other(scripts: Scripts) -> None:
    """The switch is turned off by the last one that goes, whichever turned it on."""
    account = scripts.account = PaperAccount()

    def deploy(app: str) -> list[Any]:
        names = [f"ensure_queue {app}-{name}" for name in ("dlq", "q")]
        names += [f"ensure_role {app}-{name}-role" for name in ("starter", "task", "exec")]
        names += ["ensure_function", "ensure_rule", "ensure_event_rule", "ensure_event_switch"]
        return scripts.step(*names, **BRIDGE, APP_NAME=app).writes

    for app in (APP, "second"):
        deploy(app)
    both = account.kept
    for first, other in ((APP, "second"), ("second", APP)):
        account.kept = copy.deepcopy(both)
        theirs = {name for name in both if name.split(" ")[1].startswith(f"{other}-")}
        ran = scripts.clean_up(APP_NAME=first)
        said = f"stays: the EventBridge switch of {SOURCE}, because other rules may ask for its events: arn:aws:ev"
        assert said in " ".join(ran.errors.split())
        assert f"rule/{other}-event-rule" in ran.errors
        assert "EventBridgeConfiguration" in account.kept[BUCKET]
        assert [name for name in theirs if account.kept.get(name) != both[name]] == []
        assert deploy(other) == []

        scripts.clean_up(APP_NAME=other)
        assert account.kept.keys() - {BUCKET} == PaperAccount().kept.keys()
        assert not any(account.kept[BUCKET].values())
        assert "EventBridgeConfiguration" not in account.kept[BUCKET]


def test_a_target_that_is_refused_ends_the_run(scripts: Scripts, kept: Kept) -> None:
    class Refusing(PaperAccount):
        def events_put_targets(self, _given: Any) -> Any:
            return {"FailedEntryCount": 1, "FailedEntries": [{"TargetId": "queue", "ErrorCode": "odd"}]}

    scripts.account = Refusing()
    scripts.account.kept = kept
    ran = scripts.step(*TO_BRIDGE, status=1, **BRIDGE)
    assert f"event rule {RULE}: put-targets was refused: " in ran.errors
    assert ours(kept) == [APP]


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


def test_the_switch_stays_for_each_rule_that_may_ask_for_events_of_the_bucket(scripts: Scripts) -> None:
    kept = scripts.with_deployment(**BRIDGE).kept
    for name, pattern in {f"their-{n:02}": one for n, one in enumerate([*ASKING, *NOT_ASKING])}.items():
        rule = {"Name": name, "EventPattern": json.dumps(pattern), "State": "ENABLED"}
        kept[f"rule {name}"] = rule | {"targets": {}, "tags": {}}
    kept["rule minute"] = {"Name": "minute", "ScheduleExpression": "rate(1 minute)", "targets": {}, "tags": {}}
    ran = scripts.step(*FROM_BRIDGE, **QUEUE_WAY)
    said = " ".join(ran.errors.split()).partition("because other rules may ask for its events: ")[2]
    assert re.findall(r"rule/([\w-]+)", said) == [f"their-{n:02}" for n in range(len(ASKING))]
    assert "EventBridgeConfiguration" in kept[BUCKET]
    assert f"rule {RULE}" not in kept
