"""sync.sh on the local cloud: each verb after a real deployment, with the worker as a process."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from account import copy_checkout, running_cli
from insights import answer, titles, widgets
from world import MIRROR as MIRROR_OF_WORLD
from world import SOURCE as SOURCE_OF_WORLD
from world import World

from mirror.log_lines import OUTAGE, OUTAGE_ENDS, OUTAGE_OVER

ROOT = Path(__file__).parents[2]
SOURCE, MIRROR = "local-source", "local-destination--use1-az4--x-s3"
APP = "s3-to-s3express-sync"
DEAD_LETTERS = f"{APP}-dlq"
KEPT = {"hello.txt": "hello\n", "empty.dat": "", "nested/deeper/changes.json": '{"version": 1}\n'}
DENY = '{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"s3:GetObject","Resource":"*"}]}'
WHY = "operation=CopyObject error=AccessDenied"
BEGAN = f"ERROR {OUTAGE % (10, WHY)}"
OVER, ENDED = f"INFO {OUTAGE_OVER % 90}", f"ERROR {OUTAGE_ENDS % (600, WHY)}"
# Both generations of the CLI where tests/run installed them, else the one in PATH.
CLIS = [path for name in ("AWS_CLI_V1", "AWS_CLI_V2") if (path := os.environ.get(name))] or [
    shutil.which("aws") or "aws"
]


def wait_for(condition: Callable[[], Any], seconds: float = 300) -> Any:
    """The first true value of condition(); fails when it does not come in time."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {condition}"
        time.sleep(1)
    return value


class Operator:
    """A person in a copy of the project whose local cloud is up."""

    def __init__(self, project: Path, tools: dict[str, Path]) -> None:
        self.project = project
        self.tools = tools  # path of an AWS CLI -> folder with an aws that is this CLI without its start-up time
        self.cli = CLIS[-1]
        self.exports: dict[str, str] = {}

    def run(self, *command: str, **settings: str) -> tuple[int, str, str]:
        """(exit status, stdout, stderr) of a script of the project."""
        environment = {
            **os.environ,
            "DOCKER_HOST": "unix:///nonexistent/docker.sock",
            "PATH": f"{self.tools[self.cli]}:{os.environ['PATH']}",
            "LOCAL_TICK": "3",
            "FOLLOW_PAUSE": "1",
            **settings,
        }
        done = subprocess.run(
            command,
            cwd=self.project,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=1500,
        )
        return done.returncode, done.stdout, done.stderr

    def sync(self, *arguments: str) -> tuple[int, str, str]:
        return self.run("./sync.sh", "--local", *arguments)

    def deploy(self, **settings: str) -> None:
        # A failed message comes back after a second, so that it is parked within the test.
        status, output, log = self.run("./deploy.sh", "--local", RETRY_BASE_SECONDS="1", **settings)
        assert status == 0, output + log
        self.exports = dict(re.findall(r"^  export (\w+)=(.*)$", output, re.MULTILINE))

    def aws(self, *arguments: str) -> str:
        command = [
            self.tools[self.cli] / "aws",
            "--endpoint-url",
            self.exports["AWS_ENDPOINT_URL"],
            "--output",
            "json",
            *arguments,
        ]
        return subprocess.run(
            command, env={**os.environ, **self.exports}, capture_output=True, text=True, check=True
        ).stdout

    def put(self, bucket: str, key: str, body: str, *more: str) -> None:
        file = self.project.parent / "body"
        file.write_text(body)
        self.aws("s3api", "put-object", "--bucket", bucket, "--key", key, "--body", str(file), *more)

    def status(self) -> dict[str, Any]:
        return json.loads(self.sync("status", "--json")[1])

    def await_state(self, state: str) -> dict[str, Any]:
        return wait_for(lambda: (found := self.status())["state"] == state and found)

    def count(self, queue: str) -> int:
        """Messages in a queue, in work or not."""
        url = json.loads(self.aws("sqs", "get-queue-url", "--queue-name", queue))["QueueUrl"]
        found = json.loads(self.aws("sqs", "get-queue-attributes", "--queue-url", url, "--attribute-names", "All"))
        return sum(int(number) for name, number in found["Attributes"].items() if name.startswith("ApproximateNumber"))

    def audit(self) -> tuple[int, str]:
        status, output, _ = self.sync("reconcile", "--dry-run", "--deep")
        return status, output


@contextlib.contextmanager
def operator_of_a_deployment(tmp_path_factory: pytest.TempPathFactory, **settings: str) -> Iterator[Operator]:
    project = tmp_path_factory.mktemp("operator") / "the project"
    copy_checkout(project)
    with contextlib.ExitStack() as clis:
        tools = {cli: clis.enter_context(running_cli(Path(cli), tmp_path_factory.mktemp("cli"))) for cli in CLIS}
        found = Operator(project, tools)
        try:
            found.deploy(**settings)
            yield found
        finally:
            found.run("./cleanup.sh", "--local")


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """With three objects on both sides."""
    with operator_of_a_deployment(tmp_path_factory) as found:
        for key, body in KEPT.items():
            found.put(SOURCE, key, body)
        wait_for(lambda: all(key in found.aws("s3api", "list-objects-v2", "--bucket", MIRROR) for key in KEPT))
        yield found


@pytest.fixture(params=CLIS, ids=lambda path: "v2" if "/usr/bin" in path else "v1")
def either_cli(operator: Operator, request: pytest.FixtureRequest) -> Iterator[Operator]:
    operator.cli = request.param
    yield operator
    operator.cli = CLIS[-1]


def test_status_is_idle_after_all_was_synced_and_says_how_fast_it_was(either_cli: Operator):
    found = either_cli.await_state("idle")
    assert found["source"] == {"name": SOURCE, "error": ""}
    assert found["destination"] == {"name": MIRROR, "error": ""}
    assert (found["queue"]["visible"], found["dead_letters"]["visible"], found["workers"]) == (0, 0, [])
    assert isinstance(found["queue"]["oldest_seconds"], int)
    assert found["rule"] == {"enabled": True, "minutes": 1}
    assert found["starter"]["decision"]["wanted"] == 0
    assert found["starter"]["seconds_ago"] < 60
    assert found["lag"]["count"] >= 8
    assert 0 < found["lag"]["p50"] <= found["lag"]["p99"]
    status, output, _ = either_cli.sync("status")
    assert status == 0
    assert output.splitlines()[0] == "idle"
    assert re.search(
        r"^lag +from event to copy p50 [0-9.]+ s, p99 [0-9.]+ s of the newest \d+ keys$", output, re.MULTILINE
    )


def test_the_local_cloud_has_the_metrics_that_the_dashboard_shows(operator: Operator):
    found = json.loads(operator.aws("cloudwatch", "list-metrics"))["Metrics"]
    known = {(metric["Namespace"], metric["MetricName"], metric["Dimensions"][0]["Value"]) for metric in found}
    shown = [metric for widget in widgets() for metric in widget["properties"].get("metrics", [])]
    assert {(namespace, name, value) for namespace, name, _, value, _ in shown} <= known


def test_status_reads_an_outage_in_the_log(either_cli: Operator):
    log = ["--log-group-name", f"/ecs/{APP}-task", "--log-stream-name", "worker/worker/gone"]
    either_cli.aws("logs", "create-log-stream", *log)
    lines = [f"2099-01-01T00:00:0{second}.000Z {line}" for second, line in enumerate([BEGAN, ENDED])]
    events = [{"timestamp": int(time.time() * 1000), "message": line} for line in lines]
    either_cli.aws("logs", "put-log-events", *log, "--log-events", json.dumps(events))
    found = either_cli.status()
    either_cli.aws("logs", "delete-log-stream", *log)
    assert found["outage"]["state"] == "ended"
    assert (found["outage"]["seconds"], found["outage"]["reason"]) == (600, WHY)
    assert found["outage"]["since"] == "2099-01-01T00:00:00.000Z"


def test_logs_shows_what_the_worker_and_the_starter_wrote(either_cli: Operator):
    status, output, log = either_cli.sync("logs", "--since", "1h")
    assert status == 0, log
    assert re.search(r'^\S+ INFO synced key="hello.txt" action=copied size=6 ', output, re.MULTILINE)
    status, output, log = either_cli.sync("logs", "starter", "--since", "1h", "--json")
    assert status == 0, log
    messages = [json.loads(line)["message"] for line in output.splitlines()]
    assert any('"wanted": 1' in message for message in messages)


def test_logs_follows_until_it_is_stopped(operator: Operator):
    command = ["./sync.sh", "--local", "logs", "worker", "--since", "1s", "--follow"]
    environment = {**os.environ, "DOCKER_HOST": "unix:///nonexistent/docker.sock", "FOLLOW_PAUSE": "1"}
    process = subprocess.Popen(
        command, cwd=operator.project, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout
    operator.put(SOURCE, "followed.txt", "x")
    lines = []
    while not any("followed.txt" in line for line in lines):
        lines.append(process.stdout.readline())
        assert lines[-1], "it ended by itself"
    os.killpg(process.pid, signal.SIGTERM)  # Ctrl-C is ignored where the tests themselves run in the background
    process.communicate(timeout=120)
    assert len(set(lines)) == len(lines)


def plant(operator: Operator) -> set[tuple[str, str]]:
    """One difference of each kind, without any event; what an audit has to name."""
    events = operator.aws("s3api", "get-bucket-notification-configuration", "--bucket", SOURCE)
    configure = ["s3api", "put-bucket-notification-configuration", "--bucket", SOURCE, "--notification-configuration"]
    operator.aws(*configure, "{}")
    operator.put(SOURCE, "from before/größe +%.txt", "was there before the deployment")
    operator.put(SOURCE, "hello.txt", "other\n")
    copy = ["--copy-source", f"{SOURCE}/empty.dat", "--metadata-directive", "REPLACE", "--metadata", "colour=blue"]
    operator.aws("s3api", "copy-object", "--bucket", SOURCE, "--key", "empty.dat", *copy)
    operator.aws("s3api", "delete-object", "--bucket", SOURCE, "--key", "nested/deeper/changes.json")
    operator.put(MIRROR, "nested/ghost.txt", "nobody knows")
    configuration = json.loads(events)
    configuration.pop("ResponseMetadata", None)
    operator.aws(*configure, json.dumps(configuration))
    return {
        ("missing", "from before/größe +%.txt"),
        ("stale", "hello.txt"),
        ("stale", "empty.dat"),
        ("ghost", "nested/deeper/changes.json"),
        ("ghost", "nested/ghost.txt"),
    }


def named(output: str) -> set[tuple[str, str]]:
    lines = (line.split(maxsplit=1) for line in output.splitlines() if re.match(r'  [a-z]+ "', line))
    return {(what, json.loads(key)) for what, key in lines}


def test_reconcile_finds_what_was_planted_mends_it_and_finds_nothing_then(operator: Operator):
    planted = plant(operator)
    status, output, log = operator.sync("reconcile", "--dry-run")
    assert status == 1, output + log
    assert named(output) == planted
    status, output, log = operator.sync("reconcile", "--max-delete", "1")
    assert status == 3, output + log
    assert "--max-delete" in output
    status, output, log = operator.sync("reconcile", "--json")
    assert status == 0, output + log
    assert json.loads(output) | {"end": "complete", "status": 0, "ghost": 2} == json.loads(output)
    assert named(log) >= {row for row in planted if row[0] == "ghost"}
    wait_for(lambda: operator.audit()[0] == 0)


def test_a_parked_message_is_shown_with_its_reason_and_brought_back_to_success(operator: Operator):
    role = ["--role-name", f"{APP}-task-role", "--policy-name", "deny"]
    operator.aws("iam", "put-role-policy", *role, "--policy-document", DENY)
    operator.put(SOURCE, "parked ü.txt", "in vain")
    wait_for(lambda: operator.count(DEAD_LETTERS))
    status, output, _ = operator.sync("status")
    assert (status, output.splitlines()[0]) == (1, "failing")
    assert re.search(
        r'^  "parked ü.txt" failed 3 times, the last at \S+Z: .*error=AccessDenied', output, re.MULTILINE
    ), output
    assert "./sync.sh redrive" in output

    status, output, log = operator.sync("redrive", "--list", "--json")
    assert status == 0, log
    (message,) = json.loads(output)
    assert message["keys"][0]["key"] == "parked ü.txt"
    assert "operation=HeadObject error=AccessDenied" in message["keys"][0]["reason"]
    status, _, log = operator.sync("redrive", "--purge")
    assert status == 1
    assert "use --yes" in log
    assert operator.count(DEAD_LETTERS) == 1

    operator.aws("iam", "delete-role-policy", *role)
    status, output, log = operator.sync("redrive")
    assert status == 0, log
    assert '"parked ü.txt"\n  failed 20' in output
    assert "1 messages are back" in log
    wait_for(lambda: operator.count(f"{APP}-q") + operator.count(DEAD_LETTERS) == 0)
    assert operator.aws("s3api", "head-object", "--bucket", MIRROR, "--key", "parked ü.txt")
    assert operator.sync("redrive")[0] == 0


def test_an_outage_is_told_while_it_goes_on_and_after_it_ended_a_worker_and_costs_no_message(operator: Operator):
    folder = operator.project.parent / "many"
    folder.mkdir()
    for number in range(60):
        (folder / f"{number}.txt").write_text("x")
    role = ["--role-name", f"{APP}-task-role", "--policy-name", "deny"]
    operator.aws("iam", "put-role-policy", *role, "--policy-document", DENY)
    operator.aws("s3", "cp", "--recursive", "--quiet", str(folder), f"s3://{SOURCE}/many/")
    found = wait_for(lambda: (found := operator.status())["outage"] and found)
    assert (found["state"], found["outage"]["event"]) == ("failing", "began"), found
    assert re.search("error=(403|AccessDenied)", found["outage"]["reason"])
    # Until the next worker is started. A worker waits for twenty times RETRY_BASE_SECONDS, or somewhat longer.
    ended = r"(?s)ended in an outage.* after [2-9]\d s the worker ended"
    wait_for(lambda: re.search(ended, operator.sync("status")[1]))
    operator.aws("iam", "delete-role-policy", *role)
    listing = ("s3api", "list-objects-v2", "--bucket", MIRROR, "--prefix", "many/")
    wait_for(lambda: operator.aws(*listing).count('"Key"') == 60)
    assert operator.count(DEAD_LETTERS) == 0
    assert operator.status()["outage"]["state"] in ("over", "ended")


def test_purge_deletes_what_is_no_event(operator: Operator):
    url = json.loads(operator.aws("sqs", "get-queue-url", "--queue-name", DEAD_LETTERS))["QueueUrl"]
    operator.aws("sqs", "send-message", "--queue-url", url, "--message-body", "what is this")
    status, output, log = operator.sync("redrive", "--purge", "--yes")
    assert status == 0, log
    assert "no S3 event" in output
    assert "what is this" in output
    assert operator.count(DEAD_LETTERS) == 0


def test_reconcile_and_redrive_work_with_the_other_cli_too(operator: Operator):
    operator.cli = CLIS[0]
    operator.put(MIRROR, "leftover.txt", "nobody knows")
    status, output, log = operator.sync("reconcile", "--dry-run")
    assert (status, named(output)) == (1, {("ghost", "leftover.txt")}), output + log
    status, output, log = operator.sync("reconcile", "--json")
    assert (status, json.loads(output)["ghost"]) == (0, 1), log
    wait_for(lambda: "leftover.txt" not in operator.aws("s3api", "list-objects-v2", "--bucket", MIRROR))

    url = json.loads(operator.aws("sqs", "get-queue-url", "--queue-name", DEAD_LETTERS))["QueueUrl"]
    event = {"Records": [{"s3": {"bucket": {"name": SOURCE}, "object": {"key": "hello.txt"}}}]}
    for _ in range(2):
        operator.aws("sqs", "send-message", "--queue-url", url, "--message-body", json.dumps(event))
    status, output, log = operator.sync("redrive", "--list", "--json")
    assert [key["key"] for message in json.loads(output) for key in message["keys"]] == ["hello.txt"] * 2, log
    status, output, log = operator.sync("redrive")
    assert (status, output) == (0, '"hello.txt" (2 messages)\n  the failure is not in the log any more\n'), log
    assert "2 messages are back" in log
    wait_for(lambda: operator.count(f"{APP}-q") + operator.count(DEAD_LETTERS) == 0)
    operator.cli = CLIS[-1]


# Without a cloud


def test_the_picture_shows_the_dashboard_that_is_deployed():
    assert titles(widgets()).encode() in (ROOT / "docs" / "dashboard.png").read_bytes()


def test_the_queries_of_the_dashboard_read_what_a_worker_writes(world: World):
    world.put("a b", 12_582_913)
    world.put("refused")
    world.put("gone")
    world.standin.put(MIRROR_OF_WORLD, "gone", 10)
    world.standin.delete(SOURCE_OF_WORLD, "gone")
    world.standin.fault("HeadObject", "error", key="^refused$", status=403, code="403", times=0)
    lines = world.run_worker(EMPTY_POLLS_BEFORE_EXIT="1", RETRY_BASE_SECONDS="1").splitlines()
    lines.append(outage := f"2026-11-25T00:01:04.000Z {BEGAN}")
    rows = [{"@timestamp": 65.0, "@logStream": "worker/worker/1", "@message": line} for line in lines]
    found = {
        widget["properties"]["title"]: answer(widget["properties"]["query"], rows)
        for widget in widgets()
        if widget["type"] == "log"
    }
    failed = [line for line in lines if ' ERROR failed key="refused" ' in line]
    assert failed
    assert found["Copies, deletes and failures a minute"] == [
        {"bin": 60, "copies": 1, "deletes": 1, "failures": len(failed)}
    ]
    assert found["Bytes a minute"] == [{"bin": 60, "bytes": 12_582_913}]
    assert found["Workers"] == [{"bin": 60, "workers": 1}]
    assert [row["@message"] for row in found["Last failures"]] == [*failed, outage]
    (lag,) = found["Lag from event to copy (s)"]
    assert 0 < lag["p50"] <= lag["p99"] < 60


def call(*arguments: str, **settings: str) -> tuple[int, str, str]:
    environment = {**os.environ, "AWS_CONFIG_FILE": "/dev/null", "AWS_EC2_METADATA_DISABLED": "true", **settings}
    done = subprocess.run(
        [ROOT / "sync.sh", *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("verb", ["status", "logs", "reconcile", "wait", "redrive", "verify"])
def test_every_verb_has_help(verb: str):
    status, output, _ = call(verb, "--help")
    assert status == 0
    assert output.startswith(f"usage: ./sync.sh {verb}")
    assert f"  {verb}" in call("--help")[1]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "name a verb"),
        (["destroy"], "unknown verb destroy"),
        (["status", "--wrong"], "unknown option --wrong"),
        (["logs", "--since", "5x"], "--since 5x is no duration"),
        (["logs", "--since"], "--since needs a value"),
        (["reconcile", "--max-delete"], "--max-delete needs a value"),
        (["reconcile", "--audit", "--remove-unwanted"], "--audit removes nothing"),
        (["redrive", "everything"], "unknown option everything"),
        (["verify", "--timeout", "soon"], "--timeout soon is no duration"),
        (["verify", "--report", "/nowhere/report.md"], "there is no such folder"),
    ],
)
def test_a_wrong_argument_ends_with_2_and_says_what_is_wrong(arguments: list[str], complaint: str):
    status, output, log = call(*arguments)
    assert (status, output) == (2, "")
    assert complaint in log


def test_thousands_of_failures_give_their_reasons(tmp_path: Path):
    lines = [f'2026-01-01T00:00:00Z ERROR failed key="key {n}" attempt=1/3 operation=X error=403' for n in range(5000)]
    (tmp_path / "rows.json").write_text(json.dumps([{"@message": line} for line in lines]))
    messages = [{"id": str(n), "body": "", "sent": 1767225600, "keys": [f"key {n}"]} for n in (7, 5001)]
    script = f"source '{ROOT}/sync.sh'; set_names; query() {{ cat '{tmp_path}/rows.json'; }}; with_reasons"
    done = subprocess.run(["bash", "-c", script], input=json.dumps(messages), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, second = json.loads(done.stdout)
    assert first["keys"] == [{"at": "2026-01-01T00:00:00Z", "key": "key 7", "reason": "operation=X error=403"}]
    assert second["keys"] == [{"at": None, "key": "key 5001", "reason": "not in the log any more"}]


IDLE: dict[str, Any] = {
    "source": {"name": "a", "error": ""},
    "destination": {"name": "b", "error": ""},
    "queue": {"visible": 0, "in_flight": 0, "delayed": 0, "oldest_seconds": None},
    "dead_letters": {"visible": 0, "in_flight": 0, "delayed": 0},
    "workers": [],
    "rule": {"enabled": True, "minutes": 1},
    "events": {"source": "sqs", "at_once": False, "problems": [], "error": ""},
    "options": {"starter_copies": False, "starter_max_size": 0, "min_workers": 0},
    "function_age": 7200,
    "starter": {"at": "", "seconds_ago": 30, "decision": {"failures": []}, "error": ""},
}


@pytest.mark.parametrize(
    ("changed", "state"),
    [
        ({}, "idle"),
        ({"queue": {**IDLE["queue"], "visible": 1}}, "working"),
        ({"queue": {**IDLE["queue"], "delayed": 1}}, "working"),
        ({"workers": [{"id": "1"}]}, "working"),
        ({"workers": [{"id": "1", "stays": True}]}, "idle"),
        ({"workers": [{"id": "1", "stays": True}, {"id": "2"}]}, "working"),
        ({"workers": [{"id": "1", "stays": True}], "queue": {**IDLE["queue"], "in_flight": 1}}, "working"),
        ({"queue": {**IDLE["queue"], "in_flight": 1}}, "working"),  # the function copies
        ({"events": {**IDLE["events"], "source": "eventbridge"}}, "idle"),
        ({"events": {**IDLE["events"], "source": "both"}}, "idle"),
        ({"events": {**IDLE["events"], "source": "unknown", "error": "AccessDenied"}}, "idle"),
        ({"events": {**IDLE["events"], "source": "none"}}, "failing"),
        ({"events": {**IDLE["events"], "source": "eventbridge", "problems": ["the rule is disabled"]}}, "failing"),
        ({"queue": {**IDLE["queue"], "visible": 1, "oldest_seconds": 901}}, "behind"),
        ({"queue": {**IDLE["queue"], "oldest_seconds": 901}}, "idle"),
        (
            {
                "queue": {**IDLE["queue"], "visible": 1},
                "starter": {**IDLE["starter"], "decision": {"failures": ["Capacity is unavailable at this time"]}},
            },
            "behind",
        ),
        ({"dead_letters": {"visible": 1}}, "failing"),
        ({"starter": None}, "failing"),
        ({"starter": None, "function_age": 179}, "idle"),
        ({"starter": None, "function_age": 181}, "failing"),
        ({"function_age": None}, "failing"),
        ({"starter": {**IDLE["starter"], "error": "[ERROR] ValueError", "decision": None}}, "failing"),
        ({"starter": {**IDLE["starter"], "decision": {"failures": [], "failing": ""}}}, "idle"),
        ({"starter": {**IDLE["starter"], "decision": {"failures": [], "failing": "CannotPull"}}}, "failing"),
        ({"starter": {**IDLE["starter"], "seconds_ago": 200}}, "failing"),
        ({"rule": {"enabled": True, "minutes": 5}, "starter": {**IDLE["starter"], "seconds_ago": 200}}, "idle"),
        ({"rule": {"enabled": True, "minutes": 120}, "starter": None}, "idle"),
        ({"rule": {"enabled": False, "minutes": 1}}, "failing"),
        ({"rule": None}, "failing"),
        ({"source": {"name": "a", "error": "NoSuchBucket"}}, "failing"),
    ],
)
def test_the_one_word_of_status(changed: dict[str, Any], state: str):
    command = ["bash", "-c", f"source '{ROOT}/sync.sh'; judge"]
    done = subprocess.run(command, input=json.dumps(IDLE | changed), capture_output=True, text=True, check=True)
    judged = json.loads(done.stdout)
    assert judged["state"] == state, judged
    assert bool(judged["reasons"]) == (state in ("behind", "failing"))


NOON = 1795608000  # 2026-11-25


def log_row(task: str, clock: str, line: str) -> dict[str, str]:
    return {"@logStream": f"worker/worker/{task}", "@message": f"2026-11-25T{clock}:00.000Z {line}"}


def status_with(rows: list[dict[str, str]], parts: dict[str, Any]) -> tuple[str, str]:
    """(the one word, all that is printed) at noon, with these lines of workers in the log."""
    script = f"source '{ROOT}/sync.sh'; set_names; now() {{ echo {NOON}; }}; query() {{ printf '%s' \"$ROWS\"; }}"
    script += "; parts=$(cat); last_outages | jq --argjson parts \"$parts\" '$parts + {outages: .}' | choose_outage"
    command = ["bash", "-c", f"{script} | judge | print_status"]
    environment = {**os.environ, "ROWS": json.dumps(rows)}
    lag: dict[str, Any] = {"lag": {"count": 0, "newest": ""}, "failures": {"count": 0, "newest": []}}
    numbers = {"visible": 0, "in_flight": 0, "running": 0, "wanted": 0, "started": {}, "failures": []}
    text = json.dumps(IDLE | lag | {"starter": IDLE["starter"] | {"decision": numbers}} | parts)
    done = subprocess.run(command, input=text, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split("\n")[0], done.stdout


RUNNING = {"workers": [{"id": "a", "capacity": "FARGATE_SPOT", "status": "RUNNING"}]}
WAITING = {"queue": IDLE["queue"] | {"visible": 4000}}


@pytest.mark.parametrize(
    ("rows", "parts", "word", "told"),
    [
        ([], {}, "idle", "none in the last hour"),
        ([("a", "11:55", BEGAN)], RUNNING | WAITING, "failing", f"since 2026-11-25T11:55:00.000Z, it goes on: {WHY}"),
        ([("a", "10:10", BEGAN)], RUNNING | WAITING, "failing", f"since 2026-11-25T10:10:00.000Z, it goes on: {WHY}"),
        (
            [("a", "11:55", BEGAN), ("a", "11:57", OVER)],
            RUNNING | WAITING,
            "working",
            f"since 2026-11-25T11:55:00.000Z, over after 90 s: {WHY}",
        ),
        (
            [("a", "11:40", BEGAN), ("a", "11:50", ENDED), ("b", "11:20", BEGAN), ("b", "11:22", OVER)],
            WAITING,
            "failing",
            f"since 2026-11-25T11:40:00.000Z, after 600 s the worker ended (exit status 3): {WHY}",
        ),
        (
            [("b", "11:40", BEGAN), ("b", "11:50", ENDED), ("a", "11:55", BEGAN)],
            RUNNING | WAITING,
            "failing",
            f"since 2026-11-25T11:55:00.000Z, it goes on: {WHY}",
        ),
        ([("b", "11:55", BEGAN)], RUNNING, "working", f"its worker was stopped before the end: {WHY}"),
        ([("[$LATEST]0f", "11:55", BEGAN)], WAITING, "working", f"the starter handed its messages to a worker: {WHY}"),
        (
            [("[$LATEST]0f", "11:50", BEGAN), ("a", "11:55", BEGAN)],
            RUNNING | WAITING,
            "failing",
            f"since 2026-11-25T11:55:00.000Z, it goes on: {WHY}",
        ),
        ([("a", "10:40", BEGAN), ("a", "10:50", OVER)], RUNNING, "working", "none in the last hour"),
        (
            [("b", "11:40", BEGAN), ("b", "11:50", ENDED)],
            RUNNING | WAITING | {"lag": {"count": 1, "p50": 1, "p99": 1, "newest": "2026-11-25T11:58:00.000Z"}},
            "working",
            "after 600 s the worker ended (exit status 3)",
        ),
    ],
)
def test_status_tells_an_outage_since_when_why_and_how_it_ended(
    rows: list[tuple[str, str, str]], parts: dict[str, Any], word: str, told: str
):
    newest_first = sorted((log_row(*row) for row in rows), key=lambda row: row["@message"], reverse=True)
    found, output = status_with(newest_first, parts)
    assert (found, told in output) == (word, True), output
    assert ("no key can be synced since" in output) == ("it goes on" in told)
    assert ("mend the reason" in output) == ("none in" not in told and "over after" not in told)


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({}, "events        sqs: a notification of the bucket\nqueue "),  # and no line on options
        (
            {"events": {"source": "eventbridge", "at_once": True}},
            "eventbridge: a rule, which also starts the starter at",
        ),
        ({"events": {"source": "eventbridge", "at_once": False}}, "events        eventbridge: a rule\nqueue "),
        ({"events": {"source": "both"}}, "both (the source is being changed: run ./deploy.sh again)"),
        ({"events": {"source": "unknown", "error": "AccessDenied"}}, "events        unknown: AccessDenied"),
        (
            {"options": {"starter_copies": True, "starter_max_size": 67108864, "min_workers": 2}},
            "options       the starter copies objects up to 64 MiB itself, 2 workers are kept running\n",
        ),
        (
            {"options": {"starter_copies": True, "starter_max_size": 1000, "min_workers": 0}},
            "options       the starter copies objects up to 1000 bytes itself\n",
        ),
        ({"options": {"starter_copies": False, "min_workers": 1}}, "options       1 worker is kept running\n"),
        (
            {"options": {"starter_copies": False, "min_workers": 0, "copy_last": "_SUCCESS,*.done", "announce": "all"}},
            "options       _SUCCESS,*.done are copied last, events announce all\n",
        ),
        (
            {"options": IDLE["options"] | {"prefixes": ["a/", "b c/"], "exclude": ["*.tmp", "x,y"], "keep_days": 30}},
            "\nwanted        2 prefixes: a/, b c/; nothing like *.tmp, x,y; what changed within 30 days\nqueue ",
        ),
        ({"options": IDLE["options"] | {"keep_days": 1}}, "\nwanted        what changed within 1 day\nqueue "),
        ({"copied": {"copied": 12, "deleted": 1, "skipped": 5}}, "started none, copied 12, deleted 1 itself\n"),
        ({"copied": {"failed": 2, "handed_back": 3}}, "none, copied nothing itself, failed 2, handed back 3\n"),
    ],
)
def test_status_tells_the_event_source_and_the_options_that_are_on(parts: dict[str, Any], told: str):
    numbers = {"visible": 0, "in_flight": 0, "running": 0, "wanted": 0, "started": {}, "failures": []}
    if "copied" in parts:
        numbers |= {"copied": parts.pop("copied")}
    _, output = status_with([], {**parts, "starter": IDLE["starter"] | {"decision": numbers}})
    assert told in output


def test_status_shows_the_first_line_of_the_starter_s_error_only():
    error = "[ERROR] AccessDeniedException: no\nTraceback (most recent call last):\n  File"
    word, output = status_with([], {"starter": IDLE["starter"] | {"decision": None, "error": error}})
    assert word == "failing"
    assert "[ERROR] AccessDeniedException: no\nlag " in output


EVENT_RULE: dict[str, Any] = {"State": "ENABLED"}
EVENTS_ON: dict[str, Any] = {"EventBridgeConfiguration": {}}
TO_BOTH = [
    "arn:aws:sqs:eu-west-1:123456789012:s3-to-s3express-sync-q",
    "arn:aws:lambda:eu-west-1:123456789012:function:s3-to-s3express-sync-starter",
]
OURS = {"QueueConfigurations": [{"Id": APP, "QueueArn": TO_BOTH[0]}]}
TWO = {"QueueConfigurations": [{"Id": name, "QueueArn": TO_BOTH[0]} for name in (APP, f"{APP}-2")]}


@pytest.mark.parametrize(
    ("have", "rule", "targets", "source", "at_once", "problem"),
    [
        (OURS, None, [], "sqs", False, ""),
        (OURS | EVENTS_ON, None, [], "sqs", False, ""),
        (EVENTS_ON, EVENT_RULE, TO_BOTH, "eventbridge", True, ""),
        (EVENTS_ON, EVENT_RULE, TO_BOTH[:1], "eventbridge", False, ""),
        (OURS | EVENTS_ON, EVENT_RULE, TO_BOTH, "both", True, ""),
        (OURS, {"State": "DISABLED"}, [], "both", False, ""),  # the notification is enough
        ({}, None, [], "none", False, ""),
        ({"QueueConfigurations": [{"Id": "x", "QueueArn": "others"}]}, None, [], "none", False, ""),
        (
            EVENTS_ON,
            {"State": "DISABLED"},
            TO_BOTH,
            "eventbridge",
            True,
            "the rule .*-event-rule, which .* is disabled",
        ),
        (EVENTS_ON, EVENT_RULE, TO_BOTH[1:], "eventbridge", True, "-event-rule does not send to the queue"),
        (
            EVENTS_ON,
            EVENT_RULE,
            TO_BOTH,
            "eventbridge",
            True,
            "the queue does not let the rule .*-event-rule send to it",
        ),
        ({}, EVENT_RULE, TO_BOTH, "eventbridge", True, "the bucket source sends no events to EventBridge"),
        (None, EVENT_RULE, TO_BOTH, "unknown", True, ""),
    ],
)
def test_status_reads_which_way_the_events_take(
    have: dict[str, Any] | None,
    rule: dict[str, Any] | None,
    targets: list[str],
    source: str,
    at_once: bool,
    problem: str,
    prefixes: str = "",
):
    script = f"""source '{ROOT}/sync.sh'; REGION=eu-west-1 SRC_BUCKET=source; set_names; set_account 123456789012
        aws_or_error() {{ printf '%s' "$HAVE"; [[ $HAVE != denied ]]; }}
        find_event_rule() {{ printf '%s' "$RULE"; }}
        aws_or_nothing() {{ printf '%s' "$TARGETS"; }}
        find_starter() {{ jq -n '{{Environment: {{Variables: {{PREFIX_FILTER: env.PREFIXES}}}}}}'; }}
        find_queue_policy() {{ [[ $POLICY == none ]] || printf '{{"Statement": [{{"Sid": "%s"}}]}}' "$POLICY"; }}
        describe_events"""
    answers = {"HAVE": json.dumps(have) if have else "denied" if have is None else ""}
    answers |= {
        "RULE": json.dumps(rule) if rule else "",
        "TARGETS": json.dumps({"Targets": [{"Arn": a} for a in targets]}),
    }
    answers["PREFIXES"] = prefixes
    answers["POLICY"] = "s3-events" if "let the rule" in problem else "eventbridge"
    done = subprocess.run(["bash", "-c", script], env={**os.environ, **answers}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["source"], found["at_once"]) == (source, at_once)
    assert found["error"] == ("denied" if have is None else "")
    assert bool(found["problems"]) == bool(problem)
    assert re.search(problem, " ".join(found["problems"]))


@pytest.mark.parametrize(
    ("have", "filtered", "prefixes", "problem"),
    [
        (OURS, None, "b/,a/", "the bucket has 1 of 2 notifications, one for each prefix"),
        (TWO, None, "b/,a/", ""),
        (TWO, None, "a/", ""),
        (OURS, None, "a/,a/x", ""),
        (EVENTS_ON, [{"prefix": "b/"}, {"prefix": "a/"}], "b/,a/", ""),
        (EVENTS_ON, [{"prefix": "b/"}], "b/,a/", "-event-rule is for other prefixes than those that are synced"),
        (EVENTS_ON, [], "b/,a/", "-event-rule is for other prefixes than those that are synced"),
    ],
)
def test_status_tells_if_events_of_a_prefix_do_not_come(
    have: dict[str, Any], filtered: list[dict[str, str]] | None, prefixes: str, problem: str
):
    pattern = json.dumps({"detail": {"object": {"key": filtered}}})
    rule = None if filtered is None else EVENT_RULE | {"EventPattern": pattern}
    source = "sqs" if rule is None else "eventbridge"
    test_status_reads_which_way_the_events_take(have, rule, TO_BOTH, source, rule is not None, problem, prefixes)


PULL = "TaskFailedToStart: CannotPullContainerError: i/o timeout"


@pytest.mark.parametrize(
    "starter",
    [
        {"decision": {"failures": [], "failing": PULL}, "error": ""},
        {"decision": None, "error": f"[ERROR] RuntimeError: {PULL}\nTraceback (most recent call last):\n  File"},
    ],
)
def test_status_says_why_workers_do_not_get_to_work(starter: dict[str, Any]):
    """The decision and the error come in the same second: whichever is the newest line tells it."""
    found = IDLE | {"starter": IDLE["starter"] | starter, "queue": IDLE["queue"] | {"visible": 1}}
    command = ["bash", "-c", f"source '{ROOT}/sync.sh'; judge"]
    done = subprocess.run(command, input=json.dumps(found), capture_output=True, text=True, check=True)
    judged = json.loads(done.stdout)
    assert judged["state"] == "failing"
    assert PULL in judged["reasons"][0]
    assert "Traceback" not in judged["reasons"][0]


WAITS = 'marker key="a/_SUCCESS" waits for %d keys under "a/", such as "a/x": %s'
CAME = 'synced key="a/_SUCCESS" action=copied size=0 seconds=0.1 lag=2.0'


@pytest.mark.parametrize(
    ("copy_last", "lines", "told"),
    [
        ("", ["INFO " + WAITS % (3, "archived")], None),
        ("_SUCCESS", [], None),
        (
            "_SUCCESS",
            ["INFO " + WAITS % (9, "not equal yet"), "WARNING " + WAITS % (3, "archived")],
            '1 waits, at 2026-11-25T11:01:00.000Z "a/_SUCCESS" for 3 keys under "a/", such as "a/x": archived',
        ),
        ("_SUCCESS", ["INFO " + WAITS % (9, "not equal yet"), "INFO " + CAME], None),
        (
            "_SUCCESS",
            [
                "INFO " + CAME,
                "INFO " + WAITS % (1, "archived") + " since=2026-11-24T11:00:00Z",
                "INFO " + WAITS.replace("a/", "b/") % (2, "archived"),
            ],
            '2 wait, at 2026-11-25T11:02:00.000Z "b/_SUCCESS" for 2 keys under "b/", such as "b/x": archived\n'
            '  at 2026-11-25T11:01:00.000Z "a/_SUCCESS" for 1 keys under "a/", such as "a/x": archived, '
            "since 2026-11-24T11:00:00Z",
        ),
    ],
)
def test_status_tells_which_markers_wait(copy_last: str, lines: list[str], told: str | None):
    rows = [log_row("a", f"11:{minute:02}", text) for minute, text in enumerate(lines)][::-1]
    script = f"source '{ROOT}/sync.sh'; set_names; starter_setting() {{ printf '%s' '{copy_last}'; }}"
    script += '; query() { jq -c --arg pattern "${3#*like /}" \'($pattern | split("/ |")[0]) as $pattern'
    script += ' | map(select(.["@message"] | test($pattern)))\' <<<"$ROWS"; }'
    script += "; found=$(last_markers); printf '%s\\n' \"$found\""
    environment = {**os.environ, "ROWS": json.dumps(rows)}
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    numbers = {"visible": 0, "in_flight": 0, "running": 0, "wanted": 0, "started": {}, "failures": []}
    parts = {"markers": found, "outages": [], "starter": IDLE["starter"] | {"decision": numbers}}
    _, output = status_with([], parts)
    if told:
        assert f"\nmarkers       {told}\noutage " in output
    else:
        assert "markers" not in output
