"""sync.sh on the local cloud: verbs in one real deployment, with workers as processes, by the older AWS CLI.

The files on the verbs have an account on paper, and docs/test_commands.py the newer CLI. Here is what takes a worker,
or a starter that runs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from account import APP, MIRROR, SOURCE
from documents import widgets
from local_operator import DEAD_LETTERS, QUEUE, Operator, operator_of_a_deployment, wait_for
from operated import rows_of_report

STARTER_LOG = f"/aws/lambda/{APP}-starter"
VERIFIED = {
    "small.txt", "empty.dat", "nested/deeper/file.json", "with space/größe € +%.txt", "encoded.txt", "tagged.txt",
    "double//slash.txt", "trailing/", "overwritten.txt", "changed in place +é.txt", "deleted.txt", "multipart.bin",
}  # fmt: skip
BODIES = {"hello.txt": "hello\n", "empty.dat": "", "nested/deeper/changes.json": '{"v": 1}\n'}


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """With three objects on both sides, as after some days; each test leaves both sides equal."""
    with operator_of_a_deployment(tmp_path_factory.mktemp("operator")) as found:
        for key, body in BODIES.items():
            found.put(key, body)
        wait_for(lambda: BODIES.keys() <= found.keys(MIRROR))
        yield found


def test_verify_checks_all_objects_and_leaves_none(operator: Operator) -> None:
    log, _ = operator.sync("verify", "--yes", "--timeout", "15m")
    table = rows_of_report(log)
    assert "# sync.sh verify: all is well\n" in log
    assert set(table) >= VERIFIED, log
    for key in VERIFIED:
        seen, *equal, lag, _ = table[key]
        assert (seen, re.fullmatch(r"[0-9.]+ s", lag) is not None) == ("yes", True), log
        assert key == "deleted.txt" or equal == ["equal", "equal"], log
    assert {table[key][-1] for key in VERIFIED} == {"starter", "task"}, log
    assert (table["gzip"], table["*"][0]) == (["confirmed"], "yes")
    wait_for(lambda: operator.count(QUEUE) == 0)
    assert {*operator.keys(SOURCE, "sync-verify-"), *operator.keys(MIRROR, "sync-verify-")} == set()


def runs(operator: Operator) -> int:
    return sum(line.startswith('{"visible"') for line in operator.lines("visible", STARTER_LOG))


def test_status_is_idle_after_all_was_synced_and_the_cloud_has_what_the_dashboard_shows(operator: Operator) -> None:
    operator.rest()
    before = runs(operator)
    wait_for(lambda: runs(operator) > before + 1)
    found = operator.status()
    assert found["starter"]["decision"]["wanted"] == 0
    assert (found["state"], found["reasons"], found["workers"]) == ("idle", [], [])
    assert (found["queue"]["visible"], found["dead_letters"]["visible"]) == (0, 0)
    assert found["events"] == {"source": "eventbridge", "at_once": True, "problems": [], "error": ""}
    assert found["lag"]["count"] >= 12
    assert 0 < found["lag"]["p50"] <= found["lag"]["p99"]
    metrics = operator.client("cloudwatch").list_metrics()["Metrics"]
    known = {(metric["Namespace"], metric["MetricName"], metric["Dimensions"][0]["Value"]) for metric in metrics}
    shown = [metric for widget in widgets() for metric in widget["properties"].get("metrics", [])]
    assert {(namespace, name, value) for namespace, name, _, value, _ in shown} <= known


def plant(operator: Operator) -> set[tuple[str, str]]:
    """One difference of each kind, without any event; what a comparison has to name."""
    s3, copied = operator.client("s3"), {"Bucket": SOURCE, "Key": "empty.dat"}
    with operator.without_events():
        operator.put("from before/größe +%.txt", "was there before the deployment")
        operator.put("hello.txt", "other\n")
        s3.copy_object(**copied, CopySource=copied, MetadataDirective="REPLACE", Metadata={"colour": "blue"})
        s3.delete_object(Bucket=SOURCE, Key="nested/deeper/changes.json")
        operator.put("nested/of others.txt", "not a copy", bucket=MIRROR)
    return {
        ("missing", "from before/größe +%.txt"),
        ("stale", "hello.txt"),
        ("stale", "empty.dat"),
        ("ghost", "nested/deeper/changes.json"),
        ("foreign", "nested/of others.txt"),
    }


def test_reconcile_finds_what_was_planted_and_has_it_synced(operator: Operator) -> None:
    planted = plant(operator)
    output, _ = operator.sync("reconcile", "--dry-run", status=1)
    lines = (line.split(maxsplit=1) for line in output.splitlines() if re.match(r'  [a-z]+ "', line))
    assert {(what, json.loads(key)) for what, key in lines} == planted
    output, _ = operator.sync("reconcile", "--json", status=1)
    assert json.loads(output) | {"end": "complete", "status": 1, "ghost": 1, "foreign": 1} == json.loads(output)
    wait_for(lambda: operator.keys(MIRROR) - operator.keys(SOURCE) == {"nested/of others.txt"})
    operator.sync("reconcile", "--remove-foreign")
    wait_for(lambda: operator.keys(MIRROR) == operator.keys(SOURCE) and operator.count(QUEUE) == 0)
    copy = operator.client("s3").head_object(Bucket=MIRROR, Key="empty.dat")
    assert copy["Metadata"]["colour"] == "blue"


PARKED = "run/denied/with space/größe € +%.txt"


def test_a_key_that_cannot_be_copied_is_named_and_waited_for_until_it_can(operator: Operator) -> None:
    operator.put("run/here.txt", "here")
    wait = ("wait", "--prefix", "run/", "--json")
    with operator.denied("s3:GetObject", f"arn:aws:s3:::{SOURCE}/run/denied/*"):
        operator.put(PARKED, "in vain")
        wait_for(lambda: operator.count(DEAD_LETTERS) == 1 and "run/here.txt" in operator.keys(MIRROR))
        (message,) = json.loads(operator.sync("redrive", "--list", "--json")[0])
        assert message["keys"][0]["key"] == PARKED
        assert "operation=HeadObject error=AccessDenied" in message["keys"][0]["reason"]
        found = json.loads(operator.sync(*wait, "--timeout", "3s", status=1)[0])
        (missing,) = found["missing_keys"]
        assert missing["key"] == PARKED
        assert missing["why"].startswith("failing: operation=HeadObject error=AccessDenied")
        assert missing["why"].endswith("; it is in the dead-letter queue: ./sync.sh redrive")
        assert found | {"end": "timeout", "keys": 2, "here": 1, "lacking": 1} == found
    assert "1 message moved back to the queue" in operator.sync("redrive")[1]
    found = json.loads(operator.sync(*wait)[0])
    assert found | {"end": "complete", "keys": 2, "missing_keys": []} == found
    wait_for(lambda: operator.count(QUEUE) + operator.count(DEAD_LETTERS) == 0)


def test_a_deployment_is_reckoned_from_what_it_did(operator: Operator) -> None:
    operator.rest()
    output, log = operator.sync("cost", "--json")
    found = json.loads(output)
    scale = 730 / found["hours"]
    quantities = {row["price_name"]: row["quantity"] for row in found["rows"]}
    synced = operator.lines(" synced key=", f"/ecs/{APP}-task", STARTER_LOG)
    copies, deletes, skipped = (
        sum(f"action={action} " in line for line in synced) for action in ("copied", "deleted", "skipped")
    )
    assert copies >= 12 and deletes >= 1
    in_parts = [line for line in synced if '/multipart.bin"' in line and "copied" in line]
    looks = quantities["express_get_request"] / scale
    assert looks == pytest.approx(len(in_parts) + deletes + skipped, abs=0.05)
    assert quantities["express_put_request"] / scale >= copies + len(in_parts)
    assert quantities["event"] / scale == pytest.approx(copies + deletes + skipped, abs=0.05)
    measured = {row["price_name"] for row in found["rows"] if row["from"] == "measured"}
    assert measured >= {"lambda_request", "spot_vcpu_hour"}
    listed = operator.client("s3").list_objects_v2(Bucket=MIRROR)["Contents"]
    size = sum(item["Size"] for item in listed)
    assert f" destination_objects={len(listed)} destination_bytes={size} " in log


def test_explain_takes_any_key(operator: Operator) -> None:
    keys = ("-x a b/größe €+%25 %.txt\nin two lines", "file://etc/passwd")
    for key in keys:
        operator.put(key)
    wait_for(lambda: operator.keys(MIRROR).issuperset(keys))
    for key in keys:
        found = json.loads(operator.sync("explain", "--json", "--", key)[0])
        assert (found["key"], found["verdict"]) == (key, "equal")
        assert [" synced key=" in line for line in found["log"]] == [True], found["log"]


def test_a_pause_in_a_burst_copies_nothing_and_loses_nothing(operator: Operator) -> None:
    """The starter runs twice after it."""
    for number in range(100):
        operator.put(f"burst/{number}")
    operator.sync("pause")
    copied, before = operator.keys(MIRROR), runs(operator)
    operator.put("burst/last")
    wait_for(lambda: runs(operator) > before + 1)
    assert (operator.keys(MIRROR), operator.running()) == (copied, [])
    assert operator.count(QUEUE) > 0
    assert operator.sync("status")[0].startswith("paused\n")
    assert "the sync continues, after a pause since 20" in operator.sync("resume")[1]
    wait_for(lambda: operator.keys(SOURCE) == operator.keys(MIRROR) and operator.count(QUEUE) == 0)
