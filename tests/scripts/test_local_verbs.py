"""sync.sh on the local cloud: each verb in one real deployment, with workers as processes, in the order of a tour.

The files on the verbs have an account on paper. Here is what takes the answers of the local cloud to both generations
of the CLI, a worker, or a starter that runs.
"""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from documents import unfolded
from insights import widgets
from local_operator import APP, CLIS, DEAD_LETTERS, MIRROR, QUEUE, ROLES, SOURCE, Operator, read_until, wait_for

from mirror.model.log_lines import OUTAGE_ENDS

ROOT = Path(__file__).parents[2]
WHY = "operation=CopyObject error=AccessDenied"
STARTER_LOG = (f"/aws/lambda/{APP}-starter",)
VERIFIED = {
    "small.txt", "empty.dat", "nested/deeper/file.json", "with space/größe € +%.txt", "encoded.txt", "tagged.txt",
    "double//slash.txt", "trailing/", "overwritten.txt", "changed in place +é.txt", "deleted.txt", "multipart.bin",
}  # fmt: skip


@pytest.fixture(scope="module")
def operator(operator: Operator) -> Operator:
    """With three objects on both sides, as after some days; each test leaves both sides equal."""
    for key, body in {"hello.txt": "hello\n", "empty.dat": "", "nested/deeper/changes.json": '{"v": 1}\n'}.items():
        operator.put(key, body)
    wait_for(lambda: {"hello.txt", "empty.dat", "nested/deeper/changes.json"} <= operator.keys(MIRROR))
    return operator


def rows(output: str) -> dict[str, list[str]]:
    """Object -> the other cells of its row."""
    found = re.findall(r"^\| `([^`]+)` +\| (.*) \|$", output, re.MULTILINE)
    return {key: [cell.strip() for cell in rest.split(" | ")] for key, rest in found}


def assert_verified(output: str, log: str) -> dict[str, list[str]]:
    table = rows(output)
    assert "# sync.sh verify: all is well\n" in output, output + log
    assert set(table) >= VERIFIED, output
    assert all(table[key][0] == "yes" for key in VERIFIED), output
    assert all(table[key][1:3] == ["equal", "equal"] for key in VERIFIED - {"deleted.txt"}), output
    assert all(re.fullmatch(r"[0-9.]+ s", table[key][3]) for key in VERIFIED), output
    assert {table[key][4] for key in VERIFIED} == {"starter", "task"}, output
    assert table["gzip"] == ["confirmed"]
    assert table["*"][0] == "yes"
    return table


def assert_no_trace(operator: Operator) -> None:
    """On both sides, also after all messages have been dealt with."""
    wait_for(lambda: operator.count(QUEUE) == 0)
    assert {*operator.keys(SOURCE, "sync-verify-"), *operator.keys(MIRROR, "sync-verify-")} == set()


# verify


def test_the_run_that_ends_a_deployment_checks_all_objects(operator: Operator) -> None:
    output = log = (operator.project / ".local.log").read_text()
    assert_verified(output, log)
    for what in ("AWS CLI", "Bash", "jq", "task definition", "image", "function"):
        assert re.search(rf"^- {what}: \S", output, re.MULTILINE), what
    options = "EVENT_SOURCE=eventbridge, STARTER_COPIES=true, STARTER_MAX_SIZE=1048576"
    assert f"- options: {options}\n" in output.replace("\n  ", " "), output
    assert re.search(r"^\| first copy +\| [0-9.]+ s ", output, re.MULTILINE), output
    assert re.search(r"^verify: \d+ s: put: 12 of 12; messages: ", log, re.MULTILINE), log
    assert_no_trace(operator)


# status and logs


@pytest.mark.parametrize("cli", CLIS)
def test_status_is_idle_after_all_was_synced_and_says_how_fast_it_was(operator: Operator, cli: str) -> None:
    operator.rest()
    wait_for(lambda: (operator.status()["starter"]["decision"] or {}).get("wanted") == 0)  # by its next run
    log = {"logGroupName": f"/ecs/{APP}-task", "logStreamName": "worker/worker/gone"}
    logs = operator.client("logs")
    logs.create_log_stream(**log)
    line = f"2099-01-01T00:00:01.000Z ERROR {OUTAGE_ENDS % (600, WHY)}"
    logs.put_log_events(**log, logEvents=[{"timestamp": int(time.time() * 1000), "message": line}])
    status, output, errors = operator.sync("status", "--json", cli=cli)
    logs.delete_log_stream(**log)
    assert status == 0, output + errors
    found = json.loads(output)
    assert (found["state"], found["reasons"]) == ("idle", [])
    assert found["source"] == {"name": SOURCE, "error": ""}
    assert found["destination"] == {"name": MIRROR, "error": ""}
    assert (found["queue"]["visible"], found["dead_letters"]["visible"], found["workers"]) == (0, 0, [])
    assert isinstance(found["queue"]["oldest_seconds"], int)
    assert found["rule"] == {"enabled": True, "minutes": 1}
    assert found["events"] == {"source": "eventbridge", "at_once": True, "problems": [], "error": ""}
    assert found["options"] == {"starter_copies": True, "starter_max_size": 1024**2, "min_workers": 0}
    assert found["starter"]["decision"]["wanted"] == 0
    assert found["starter"]["seconds_ago"] < 600
    assert found["lag"]["count"] >= 12
    assert 0 < found["lag"]["p50"] <= found["lag"]["p99"]
    assert found["outage"]["state"] == "ended"
    assert (found["outage"]["seconds"], found["outage"]["reason"]) == (600, WHY)
    assert found["audit"]["last"] is None


def test_the_local_cloud_has_the_metrics_that_the_dashboard_shows(operator: Operator) -> None:
    found = operator.client("cloudwatch").list_metrics()["Metrics"]
    known = {(metric["Namespace"], metric["MetricName"], metric["Dimensions"][0]["Value"]) for metric in found}
    shown = [metric for widget in widgets() for metric in widget["properties"].get("metrics", [])]
    assert {(namespace, name, value) for namespace, name, _, value, _ in shown} <= known


def test_logs_shows_what_the_workers_and_the_starter_did_as_one(operator: Operator) -> None:
    status, both, log = operator.sync("logs", "--since", "1h", cli=CLIS[0])
    assert status == 0, log
    lines = re.findall(r"^\S+ INFO synced key=.*", both, re.MULTILINE)
    assert re.search(r'^\S+ INFO synced key="hello.txt" action=copied size=6 ', both, re.MULTILINE)
    assert len(set(lines)) == len(lines) >= 12
    times = [datetime.fromisoformat(line.split()[0]) for line in lines]
    # Each process writes its log by itself, some milliseconds after the time in the line.
    assert all(later > earlier - timedelta(seconds=5) for earlier, later in pairwise(times))
    assert not re.search("^(START|END|REPORT) ", both, re.MULTILINE)
    status, output, log = operator.sync("logs", "starter", "--since", "1h", "--json")
    assert status == 0, log
    of_starter = {json.loads(line)["message"].rstrip("\n") for line in output.splitlines()}
    assert any('"copied": {' in message for message in of_starter)
    of_workers = {*operator.sync("logs", "worker", "--since", "1h")[1].splitlines()}
    assert {*lines} <= of_starter | of_workers
    assert {*lines} & of_starter
    assert {*lines} & of_workers


# reconcile


def plant(operator: Operator) -> set[tuple[str, str]]:
    """One difference of each kind, without any event; what an audit has to name."""
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


def named(output: str) -> set[tuple[str, str]]:
    lines = (line.split(maxsplit=1) for line in output.splitlines() if re.match(r'  [a-z]+ "', line))
    return {(what, json.loads(key)) for what, key in lines}


def test_reconcile_finds_what_was_planted_and_has_it_synced(operator: Operator) -> None:
    planted = plant(operator)
    status, output, log = operator.sync("reconcile", "--dry-run", cli=CLIS[0])
    assert status == 1, output + log
    assert named(output) == planted
    status, output, log = operator.sync("reconcile", "--json")
    assert status == 1, output + log
    assert json.loads(output) | {"end": "complete", "status": 1, "ghost": 1, "foreign": 1} == json.loads(output)
    assert named(log) >= {row for row in planted if row[0] in ("ghost", "foreign")}
    wait_for(lambda: operator.keys(MIRROR) - operator.keys(SOURCE) == {"nested/of others.txt"})
    status, output, log = operator.sync("reconcile", "--remove-foreign")
    assert status == 0 and "1 deleted by this command" in unfolded(output), output + log
    wait_for(lambda: operator.keys(MIRROR) == operator.keys(SOURCE) and operator.count(QUEUE) == 0)
    copy = operator.client("s3").head_object(Bucket=MIRROR, Key="empty.dat")
    assert copy["Metadata"]["colour"] == "blue"


def test_an_audit_finds_both_buckets_equal_and_status_says_so(operator: Operator) -> None:
    status, output, log = operator.sync("reconcile", "--audit", "--deep", "--json")
    assert status == 0, output + log
    assert json.loads(output) | {"end": "complete", "status": 0, "missing": 0, "stale": 0} == json.loads(output)
    assert " audited end=complete status=0 found=0 " in log
    operator.rest()
    status, output, _ = operator.sync("status")
    output = unfolded(output)
    assert (status, output.splitlines()[0]) == (0, "idle")
    assert "both buckets equal; the next one " in output
    lag = r"^lag +from event to copy p50 [0-9.]+ s, p99 [0-9.]+ s of the newest \d+ keys$"
    assert re.search(lag, output, re.MULTILINE), output
    assert "\nevents        eventbridge: a rule, which also starts the starter at once\noptions  " in output


# A key that cannot be copied: redrive, wait

PARKED = "run/denied/with space/größe € +%.txt"


@pytest.fixture(scope="module")
def parked(operator: Operator) -> Iterator[Operator]:
    """With two keys under run/, one of which is in the dead-letter queue, as its copy is denied."""
    operator.put("run/here.txt", "here")
    with operator.denied("s3:GetObject", f"arn:aws:s3:::{SOURCE}/run/denied/*"):
        operator.put(PARKED, "in vain")
        wait_for(lambda: operator.count(DEAD_LETTERS) == 1 and "run/here.txt" in operator.keys(MIRROR))
        yield operator


def test_redrive_and_wait_name_a_key_that_fails_and_delete_nothing_without_being_asked(parked: Operator) -> None:
    status, output, log = parked.sync("redrive", "--list", "--json", cli=CLIS[0])
    assert status == 0, log
    (message,) = json.loads(output)
    assert message["keys"][0]["key"] == PARKED
    assert "operation=HeadObject error=AccessDenied" in message["keys"][0]["reason"]
    status, output, log = parked.sync("wait", "--prefix", "run/", "--timeout", "3s", "--json", cli=CLIS[0])
    assert status == 1, output + log
    (missing,) = json.loads(output)["missing_keys"]
    assert missing["key"] == PARKED
    assert missing["why"].startswith("failing: operation=HeadObject error=AccessDenied")
    assert missing["why"].endswith("; it is in the dead-letter queue: ./sync.sh --local redrive")
    assert json.loads(output) | {"end": "timeout", "keys": 2, "here": 1, "lacking": 1} == json.loads(output)
    status, _, log = parked.sync("redrive", "--purge")
    assert (status, "use --yes" in log) == (1, True)
    assert parked.count(DEAD_LETTERS) == 1


def test_two_wait_at_once_until_what_failed_is_there_but_for_one_that_is_stopped(parked: Operator) -> None:
    wait = ("./sync.sh", "--local", "wait", "--json", "--prefix")
    stopped, other = (parked.start(*wait, "run/") for _ in range(2))
    seen = read_until("waiting for 1 key", stopped.stderr)
    os.killpg(stopped.pid, signal.SIGINT)
    seen += stopped.communicate(timeout=300)[1]
    assert stopped.returncode == 130, seen
    assert "is being stopped" in seen
    task = re.search(r"^.*task (\S+) waits until", seen, re.MULTILINE)[1]
    ecs, asked = parked.client("ecs"), {"cluster": f"{APP}-cluster", "tasks": [task]}
    state = wait_for(lambda: (t := ecs.describe_tasks(**asked)["tasks"][0])["lastStatus"] == "STOPPED" and t)
    assert state["containers"][0]["exitCode"] == 3
    assert "sync.sh wait" in state["stoppedReason"]

    wait_for(lambda: len(parked.running(startedBy=f"{APP}-wait")) == 1)
    parked.allow(*ROLES)
    status, output, log = parked.sync("redrive")
    assert status == 0, log
    assert f'"{PARKED}"\n  failed 20' in output
    assert " moved back to the queue" in log
    output, log = other.communicate(timeout=900)
    assert other.returncode == 0, log
    assert json.loads(output) | {"end": "complete", "keys": 2, "missing_keys": []} == json.loads(output)
    wait_for(lambda: parked.count(QUEUE) + parked.count(DEAD_LETTERS) == 0)


# cost


def test_a_deployment_is_reckoned_from_what_it_did(operator: Operator) -> None:
    operator.rest()
    status, output, log = operator.sync("cost", "--json", cli=CLIS[0])
    assert status == 0, output + log
    found = json.loads(output)
    scale = 730 / found["hours"]
    quantities = {row["price_name"]: row["quantity"] for row in found["rows"]}
    synced = operator.lines(" synced key=", (f"/ecs/{APP}-task", *STARTER_LOG))
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


# The guard

EVENT_RULE = f"{APP}-event-rule"
CURE = "./deploy.sh --local, then ./sync.sh --local reconcile (look at what it calls foreign)"
FAULTS = [
    f"the rule {EVENT_RULE}, which sends the events, is disabled: {CURE}",
    f"the policy of the queue does not let the rule {EVENT_RULE} send to it: {CURE}",
]


def failed_runs(operator: Operator, fault: str = "") -> int:
    """The alarm counts them."""
    return sum(fault in line for line in operator.lines("RuntimeError: ", STARTER_LOG))


def runs(operator: Operator) -> int:
    return sum(line.startswith('{"visible"') for line in operator.lines("visible", STARTER_LOG))


def test_the_guard_names_what_is_broken_until_nothing_is(operator: Operator) -> None:
    """Then only a run that had begun before may still fail; the third begins after the end of the second."""
    events, sqs = operator.client("events"), operator.client("sqs")
    queue = {"QueueUrl": operator.queue_url(QUEUE)}
    policy = sqs.get_queue_attributes(**queue, AttributeNames=["Policy"])["Attributes"]
    sqs.set_queue_attributes(**queue, Attributes={"Policy": ""})
    events.disable_rule(Name=EVENT_RULE)
    # A new process looks in its first run, and while something is wrong, in each run.
    operator.client("lambda").update_function_configuration(FunctionName=f"{APP}-starter", Description="new")
    wait_for(lambda: failed_runs(operator, "; ".join(FAULTS)))
    assert operator.status()["reasons"] == FAULTS
    sqs.set_queue_attributes(**queue, Attributes=policy)
    events.enable_rule(Name=EVENT_RULE)
    before, failed = runs(operator), failed_runs(operator)
    wait_for(lambda: runs(operator) > before + 2)
    assert failed_runs(operator) <= failed + 1


# explain and pause

KEYS = ("a b/größe €+%25 %.txt", "two\nlines", "-x", "file://etc/passwd")


def test_explain_takes_any_key(operator: Operator) -> None:
    for key in KEYS:
        operator.put(key)
    wait_for(lambda: operator.keys(MIRROR).issuperset(KEYS))
    for number, key in enumerate((*KEYS, "nowhere")):
        status, output, log = operator.sync("explain", "--json", "--", key, cli=CLIS[number % len(CLIS)])
        assert status == 0, output + log
        found = json.loads(output)
        assert (found["key"], found["verdict"]) == (key, "absent" if key == "nowhere" else "equal")
        assert [" synced key=" in line for line in found["log"]] == [True] * (key != "nowhere"), found["log"]


def test_a_pause_in_a_burst_copies_nothing_and_loses_nothing(operator: Operator) -> None:
    """The starter runs twice after it, while objects are put."""
    operator.rest()
    keys: list[str] = []
    is_over = threading.Event()

    def put() -> None:
        while not is_over.wait(0.2):
            operator.put(f"burst/{len(keys)}")
            keys.append(f"burst/{len(keys)}")

    thread = threading.Thread(target=put)
    thread.start()
    try:
        wait_for(lambda: operator.keys(MIRROR, "burst/"))
        status, _, log = operator.sync("pause", cli=CLIS[0])
        assert status == 0, log
        copied, before, count = operator.keys(MIRROR), runs(operator), len(keys)
        wait_for(lambda: runs(operator) > before + 1 and len(keys) > count + 9)
    finally:
        is_over.set()
        thread.join()
    assert (operator.keys(MIRROR), operator.running()) == (copied, [])
    assert operator.count(QUEUE) >= 10
    status, output, _ = operator.sync("status")
    assert (status, output.split("\n")[0]) == (0, "paused"), output
    status, _, log = operator.sync("resume")
    assert (status, "the sync continues, after a pause since 20" in log) == (0, True), log
    wait_for(lambda: operator.keys(SOURCE) == operator.keys(MIRROR) and operator.count(QUEUE) == 0)
