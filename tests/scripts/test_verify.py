"""sync.sh verify on the local cloud: a good run, an interrupted one, and one for each broken link of the chain."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from test_sync import (
    APP,
    BEGAN,
    CLIS,
    DENY,
    ENDED,
    MIRROR,
    OVER,
    ROOT,
    SOURCE,
    WHY,
    Operator,
    operator_of_a_deployment,
    wait_for,
)

DENY_START = '{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"ecs:RunTask","Resource":"*"}]}'
CASES = {
    "small.txt",
    "empty.dat",
    "nested/deeper/still/file.json",
    "with space/größe € +%.txt",
    "encoded.txt",
    "tagged.txt",
    "double//slash.txt",
    "trailing/",
    "overwritten.txt",
    "changed in place +é.txt",
    "deleted.txt",
    "multipart.bin",
}


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """With an object of somebody else on both sides."""
    with operator_of_a_deployment(tmp_path_factory) as found:
        found.put(SOURCE, "others/stays.txt", "somebody's")
        wait_for(lambda: keys(found, MIRROR) == ["others/stays.txt"])
        yield found


def keys(operator: Operator, bucket: str) -> list[str]:
    answer = operator.aws("s3api", "list-objects-v2", "--bucket", bucket)
    return [item["Key"] for item in json.loads(answer or "{}").get("Contents", [])]


def assert_nothing_left(operator: Operator) -> None:
    """On both sides, also after all messages have been dealt with; what others have there stays."""
    wait_for(lambda: operator.count(f"{APP}-q") == 0)
    assert keys(operator, SOURCE) == ["others/stays.txt"]
    assert keys(operator, MIRROR) == ["others/stays.txt"]


def rows(output: str) -> dict[str, list[str]]:
    """Object -> the other cells of its row."""
    found = re.findall(r"^\| `([^`]+)` +\| (.*) \|$", output, re.MULTILINE)
    return {key: [cell.strip() for cell in rest.split(" | ")] for key, rest in found}


def transcript(name: str, output: str) -> None:
    """Kept where a person asks for it, to be shown."""
    if folder := os.environ.get("TRANSCRIPTS"):
        (Path(folder) / f"{name}.txt").write_text(output)


@pytest.mark.parametrize("cli", CLIS)
def test_a_good_run_checks_all_objects_and_leaves_nothing(deployed: Operator, tmp_path: Path, cli: str) -> None:
    deployed.cli = cli
    report = tmp_path / "report.md"
    status, output, log = deployed.sync("verify", "--yes", "--report", str(report))
    transcript("good", log + output)
    assert status == 0, output + log
    assert output.startswith("# sync.sh verify: all is well\n")
    table = rows(output)
    assert set(table) >= CASES, output
    assert all(table[key][1] == "yes" for key in CASES), output
    assert all(table[key][2:4] == ["equal", "equal"] for key in CASES - {"deleted.txt"}), output
    assert all(re.fullmatch(r"[0-9.]+ s", table[key][4]) for key in CASES), output
    assert table["Content-Encoding: gzip"] == ["taken"]
    assert table["*"][:2] == ["all of it removed", "yes"]
    assert re.search(r"^\| the worker was started +\| ([0-9.]+ s|ran already) ", output, re.MULTILINE), output
    for what in ("AWS CLI", "Bash", "jq", "task definition", "image", "function"):
        assert re.search(rf"^\| {what} +\| \S", output, re.MULTILINE), what
    assert re.search(r"^verify: \d+ s: put: 12 of 12; messages: ", log, re.MULTILINE), log
    assert report.read_text().splitlines()[0] == "# sync.sh verify: all is well"
    assert_nothing_left(deployed)


def test_a_large_object_is_made_in_s3_and_copied_in_parts(deployed: Operator) -> None:
    small = {"VERIFY_LARGE_PARTS": "3", "VERIFY_LARGE_PART_BYTES": str(5 * 1024**2)}
    status, output, log = deployed.run("./sync.sh", "--local", "verify", "--yes", "--large", **small)
    transcript("large", log + output)
    assert status == 0, output + log
    assert rows(output)["large.bin"][:4] == ["copied in parts, made in S3", "yes", "equal", "equal"]
    assert f"{3 * 5 * 1024**2} bytes in " in output
    assert_nothing_left(deployed)
    for bucket in (SOURCE, MIRROR):
        assert "UploadId" not in deployed.aws("s3api", "list-multipart-uploads", "--bucket", bucket)


def test_nobody_to_ask_is_no_consent(deployed: Operator) -> None:
    status, output, log = deployed.sync("verify")
    assert (status, output) == (1, "")
    assert f"s3://{SOURCE}/sync-verify-" in log
    assert "use --yes" in log
    assert_nothing_left(deployed)


@pytest.mark.parametrize("moment", ["Nothing outside", "objects put", "s: put: ", "s: change: "])
def test_an_interrupted_run_leaves_nothing_on_both_sides(deployed: Operator, moment: str) -> None:
    environment = {
        **os.environ,
        "DOCKER_HOST": "unix:///nonexistent/docker.sock",
        "PATH": f"{deployed.tools[deployed.cli]}:{os.environ['PATH']}",
        "FOLLOW_PAUSE": "1",
    }
    process = subprocess.Popen(
        ["./sync.sh", "--local", "verify", "--yes"],
        cwd=deployed.project,
        env=environment,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
        # Ctrl-C is ignored, and by all that is started, where the tests themselves run in the background.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr
    seen = ""
    while moment not in seen:
        line = process.stderr.readline()
        assert line, seen
        seen += line
    os.killpg(process.pid, signal.SIGINT)
    seen += process.communicate(timeout=600)[1]
    transcript("interrupted", seen)
    assert process.returncode == 128 + signal.SIGINT, seen
    assert ("verify: removing what was put" in seen) or moment == "Nothing outside"
    assert_nothing_left(deployed)


# Each link broken; what it takes to mend it again


@contextmanager
def no_notification(operator: Operator) -> Iterator[None]:
    events = json.loads(operator.aws("s3api", "get-bucket-notification-configuration", "--bucket", SOURCE))
    events.pop("ResponseMetadata", None)
    configure = ["s3api", "put-bucket-notification-configuration", "--bucket", SOURCE, "--notification-configuration"]
    operator.aws(*configure, "{}")
    yield
    operator.aws(*configure, json.dumps(events))


@contextmanager
def disabled_rule(operator: Operator) -> Iterator[None]:
    operator.aws("events", "disable-rule", "--name", f"{APP}-starter-rule")
    yield
    operator.aws("events", "enable-rule", "--name", f"{APP}-starter-rule")


@contextmanager
def denied(operator: Operator, role: str, policy: str) -> Iterator[None]:
    name = ["--role-name", f"{APP}-{role}-role", "--policy-name", "deny"]
    operator.aws("iam", "put-role-policy", *name, "--policy-document", policy)
    yield
    operator.aws("iam", "delete-role-policy", *name)


@contextmanager
def failing_starter(operator: Operator) -> Iterator[None]:
    function = ["--function-name", f"{APP}-starter"]
    have = json.loads(operator.aws("lambda", "get-function-configuration", *function))["Environment"]
    wrong = {"Variables": {**have["Variables"], "MAX_WORKERS": "many"}}
    operator.aws("lambda", "update-function-configuration", *function, "--environment", json.dumps(wrong))
    yield
    operator.aws("lambda", "update-function-configuration", *function, "--environment", json.dumps(have))


@contextmanager
def failing_task(operator: Operator) -> Iterator[None]:
    family = ["ecs", "describe-task-definition", "--task-definition", f"{APP}-task"]
    definition = json.loads(operator.aws(*family))["taskDefinition"]
    kept = ("family", "networkMode", "cpu", "memory", "taskRoleArn", "executionRoleArn", "requiresCompatibilities")
    good = json.dumps({name: definition[name] for name in (*kept, "containerDefinitions") if name in definition})
    wrong = json.loads(good)
    for setting in wrong["containerDefinitions"][0]["environment"]:
        if setting["name"] == "WAIT_TIME_SECONDS":
            setting["value"] = "99"
    operator.aws("ecs", "register-task-definition", "--cli-input-json", json.dumps(wrong))
    yield
    operator.aws("ecs", "register-task-definition", "--cli-input-json", good)


BROKEN = {
    "no-notification": (
        no_notification,
        r"\*\*no event\*\*: s3://local-source has no notification s3-to-s3express-sync to the queue",
        "aws s3api get-bucket-notification-configuration --bucket local-source",
    ),
    "disabled-rule": (
        disabled_rule,
        r"\*\*no starter\*\*: the rule s3-to-s3express-sync-starter-rule is DISABLED",
        "aws events describe-rule --name s3-to-s3express-sync-starter-rule",
    ),
    "failing-starter": (
        failing_starter,
        r"\*\*no starter\*\*: the function s3-to-s3express-sync-starter fails: .*MAX_WORKERS",
        "./sync.sh --local logs starter",
    ),
    "denied-start": (
        lambda operator: denied(operator, "starter", DENY_START),
        r"\*\*no task\*\*: ECS did not start a worker: .*RunTask",
        "./sync.sh --local logs starter",
    ),
    "failing-task": (
        failing_task,
        r"\*\*no task\*\*: task [\w-]+ ended with exit code 2: ",
        "aws ecs describe-tasks --cluster s3-to-s3express-sync-cluster --tasks ",
    ),
    "denied-copy": (  # an outage if one worker meets ten of the keys, else failed keys; which one decides the command
        lambda operator: denied(operator, "task", DENY),
        r"\*\*no copy\*\*: .*: operation=HeadObject error=AccessDenied",
        "./sync.sh --local ",
    ),
}

RUN_BEGAN = 1795608000  # 2026-11-25, noon


@pytest.mark.parametrize(
    ("lines", "is_over", "why"),
    [
        ([("a", "11:59", BEGAN)], False, "since 2026-11-25T11:59:00.000Z no key can be synced: " + WHY),
        ([("a", "12:02", BEGAN)], False, ""),  # for less than a minute
        ([("a", "12:02", BEGAN)], True, "since 2026-11-25T12:02:00.000Z no key can be synced: " + WHY),
        ([("b", "11:59", BEGAN)], True, ""),  # its task has stopped
        ([("a", "11:59", BEGAN), ("a", "12:01", OVER)], True, ""),
        ([("b", "11:50", BEGAN), ("b", "12:00", ENDED)], False, f"for 600 s no key could be synced, .*: {WHY}"),
        ([("b", "11:49", BEGAN), ("b", "11:59", ENDED)], True, ""),  # before this run
        ([("a", "12:00", f'INFO synced key="{BEGAN}" action=copied')], True, ""),
        ([], True, ""),
    ],
)
def test_an_outage_of_the_workers_is_a_broken_link(
    lines: list[tuple[str, str, str]], is_over: bool, why: str, tmp_path: Path
) -> None:
    events = [
        {"logStreamName": f"worker/worker/{task}", "message": f"2026-11-25T{clock}:00.000Z {line}"}
        for task, clock, line in lines
    ]
    (tmp_path / "tasks").write_text('[{"id": "a", "status": "RUNNING"}, {"id": "b", "status": "STOPPED"}]')
    script = f"""source '{ROOT}/sync.sh'; set_names; VIA=""; VERIFY_DIR='{tmp_path}' VERIFY_BEGAN={RUN_BEGAN}
        now() {{ echo {RUN_BEGAN + 150}; }}; aws_or_nothing() {{ printf '%s' "$EVENTS"; }}
        for read in read_starter_lines read_tasks; do eval "$read() {{ :; }}"; done
        for link in event starter task copy; do eval "find_break_of_$link() {{ :; }}"; done
        find_broken_link {str(is_over).lower()}"""
    environment = {**os.environ, "EVENTS": json.dumps({"events": events})}
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert re.fullmatch(f"no copy\t{why}\t./sync.sh status\n" if why else "", done.stdout), done.stdout


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_link_is_named_with_the_command_to_look_closer(deployed: Operator, fault: str, tmp_path: Path) -> None:
    broken, why, command = BROKEN[fault]
    wait_for(lambda: not deployed.status()["workers"])
    report = tmp_path / "report.md"
    with broken(deployed):
        status, output, log = deployed.sync("verify", "--yes", "--timeout", "10m", "--report", str(report))
    transcript(fault, log + output)
    assert status == 1, output + log
    assert output.startswith("# sync.sh verify: not all is well\n")
    assert re.search(why, output), output + log
    assert f"Look closer: `{command}" in output
    assert "--timeout" not in log  # it did not wait until then
    assert not re.search(r"(?<!\d)\d{12}(?!\d)", report.read_text())
    for line in output.splitlines():  # nothing else is missing from the report
        assert re.sub(r"(?<!\d)\d{12}(?!\d)", "************", line) in report.read_text()
    wait_for(lambda: deployed.count(f"{APP}-q") == 0)
    assert_nothing_left(deployed)


# The same with EventBridge as the source and a starter that copies


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """With an object of somebody else on both sides."""
    settings = {"EVENT_SOURCE": "eventbridge", "STARTER_COPIES": "true"}
    with operator_of_a_deployment(tmp_path_factory, **settings) as found:
        found.put(SOURCE, "others/stays.txt", "somebody's")
        wait_for(lambda: keys(found, MIRROR) == ["others/stays.txt"])
        yield found


EVENT_RULE = f"{APP}-event-rule"


@contextmanager
def switched_off(operator: Operator) -> Iterator[None]:
    configure = ["s3api", "put-bucket-notification-configuration", "--bucket", SOURCE, "--notification-configuration"]
    operator.aws(*configure, "{}")
    yield
    operator.aws(*configure, '{"EventBridgeConfiguration": {}}')


@contextmanager
def disabled_event_rule(operator: Operator) -> Iterator[None]:
    operator.aws("events", "disable-rule", "--name", EVENT_RULE)
    yield
    operator.aws("events", "enable-rule", "--name", EVENT_RULE)


@contextmanager
def no_queue_target(operator: Operator) -> Iterator[None]:
    targets = json.loads(operator.aws("events", "list-targets-by-rule", "--rule", EVENT_RULE))["Targets"]
    operator.aws("events", "remove-targets", "--rule", EVENT_RULE, "--ids", "queue")
    yield
    operator.aws("events", "put-targets", "--rule", EVENT_RULE, "--targets", json.dumps(targets))


@contextmanager
def no_permission(operator: Operator) -> Iterator[None]:
    statement = ["--function-name", f"{APP}-starter", "--statement-id", EVENT_RULE]
    arn = json.loads(operator.aws("events", "describe-rule", "--name", EVENT_RULE))["Arn"]
    operator.aws("lambda", "remove-permission", *statement)
    yield
    allowed = ["--action", "lambda:InvokeFunction", "--principal", "events.amazonaws.com", "--source-arn", arn]
    operator.aws("lambda", "add-permission", *statement, *allowed)


QUICK_BROKEN = {
    "switched-off": (
        switched_off,
        r"\*\*no event\*\*: s3://local-source sends no events to EventBridge, it is switched off",
        "aws s3api get-bucket-notification-configuration --bucket local-source",
    ),
    "disabled-event-rule": (
        disabled_event_rule,
        r"\*\*no event\*\*: the rule s3-to-s3express-sync-event-rule is DISABLED",
        "aws events describe-rule --name s3-to-s3express-sync-event-rule",
    ),
    "no-queue-target": (
        no_queue_target,
        r"\*\*no event\*\*: the rule s3-to-s3express-sync-event-rule does not send to s3-to-s3express-sync-q",
        "aws events list-targets-by-rule --rule s3-to-s3express-sync-event-rule",
    ),
    "no-permission": (
        no_permission,
        r"\*\*no start at once\*\*: the function s3-to-s3express-sync-starter does not let the rule ",
        "aws lambda get-policy --function-name s3-to-s3express-sync-starter",
    ),
}


def test_a_good_run_says_who_copied_and_status_and_logs_know_the_starter_s_copies(quick: Operator) -> None:
    wait_for(lambda: not quick.status()["workers"])
    status, output, log = quick.sync("verify", "--yes")
    transcript("quick", log + output)
    assert status == 0, output + log
    table = rows(output)
    assert all(table[key][1] == "yes" for key in CASES), output
    assert {table[key][5] for key in CASES} >= {"starter"}, output
    assert re.search(r"^\| options +\| EVENT_SOURCE=eventbridge, STARTER_COPIES=true,", output, re.MULTILINE), output
    assert_nothing_left(quick)

    found = quick.await_state("idle")
    assert found["events"] == {"source": "eventbridge", "at_once": True, "problems": [], "error": ""}
    assert found["options"] == {"starter_copies": True, "starter_max_size": 67108864, "min_workers": 0}
    assert found["lag"]["count"] >= 12
    _, output, _ = quick.sync("status")
    transcript("quick-status", output)
    assert "\nevents        eventbridge: a rule, which also starts the starter at once\noptions  " in output

    status, both, _ = quick.sync("logs", "--since", "1h")
    assert status == 0
    lines = re.findall(r"^\S+ INFO synced key=.*", both, re.MULTILINE)
    assert len(set(lines)) == len(lines) >= 12
    assert lines == sorted(lines, key=lambda line: line.split()[0])
    assert not re.search("^(START|END|REPORT) ", both, re.MULTILINE)
    of_starter = quick.sync("logs", "starter", "--since", "1h")[1]
    assert '"copied": {' in of_starter
    of_workers = quick.sync("logs", "worker", "--since", "1h")[1]
    assert {*lines} <= {*of_starter.splitlines(), *of_workers.splitlines()}
    assert len({*lines} & {*of_starter.splitlines()}) >= 5


@pytest.mark.parametrize("fault", QUICK_BROKEN)
def test_a_broken_link_of_eventbridge_is_named(quick: Operator, fault: str) -> None:
    broken, why, command = QUICK_BROKEN[fault]
    with broken(quick):
        found = quick.status()
        status, output, log = quick.sync("verify", "--yes", "--timeout", "10m")
    transcript(fault, log + output)
    assert status == 1, output + log
    assert re.search(why, output), output + log
    assert f"Look closer: `{command}" in output
    assert "--timeout" not in log  # it did not wait until then
    assert (found["state"] == "failing") == (fault != "no-permission"), found
    assert ("./deploy.sh" in " ".join(found["reasons"])) == (fault != "no-permission")
    wait_for(lambda: quick.count(f"{APP}-q") == 0)
    assert_nothing_left(quick)
