"""./sync.sh wait: what it makes of a task's log, of AWS's answers and of signals; then all of it on the local cloud."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_sync import APP, CLIS, MIRROR, SOURCE, Operator, operator_of_a_deployment, wait_for

from mirror import log_lines

ROOT = Path(__file__).parents[2]
STAMP = "2026-11-25T01:02:03.456Z"
FAILED = f'{STAMP} ERROR failed key="%s" attempt=2/3 operation=CopyObject error=%s'
WHY = "operation=CopyObject error=AccessDenied"
PARKED = "; it is in the dead-letter queue: ./sync.sh redrive"
LACKING = [f"{STAMP} WARNING {log_lines.LACKING % row}" for row in [('"a b"', "waiting"), ('"old"', "archived")]]

# AWS as the verb finds it: a task whose log is $LOG and which then ends with $CODE, messages, and lines on failures.
CLOUD = """
FOLLOW_PAUSE=0
start_verb() { start_run; set_account 123456789012; trap - INT TERM; }
need_starter() { :; }
starter_setting() { echo x; }
existing_queue_url() { echo https://queue; }
look_at_messages() { printf '%s\\n' "$MESSAGES"; }
query() { printf '%s\\n' "$2" >>"$CALLS"; printf '%s\\n' "$FAILURES"; }
print_new_lines() { # $LOG at the first look, $LATE after that
  printf '%s\\n' "$LOG"
  LOG_LAST_LINE=${LOG##*$'\\n'} LOG=$LATE LATE=""
}
aws_or_die() {
  printf '%s\\n' "$*" >>"$CALLS"
  case "$2" in
    run-task) echo '{"tasks": [{"taskArn": "arn:aws:ecs:r:1:task/c/t1"}]}' ;;
    describe-tasks)
      printf '{"tasks": [{"lastStatus": "STOPPED", "containers": [{"name": "worker", "exitCode": %s}]}]}' "$CODE"
      ;;
  esac
}
"""


def bash(script: str, folder: Path, **variables: Any) -> subprocess.CompletedProcess[str]:
    """A piece of Bash that knows all functions of sync.sh, with that AWS."""
    answers: dict[str, Any] = {
        "LOG": "",
        "LATE": "",
        "CODE": "null",
        "MESSAGES": [],
        "FAILURES": [],
        "CALLS": folder / "calls",
    }
    answers |= variables
    texts = {name: json.dumps(value) if isinstance(value, list) else str(value) for name, value in answers.items()}
    start = f"source '{ROOT}/sync.sh'; set_names; TEMP_DIR='{folder}'\n{CLOUD}\n"
    environment = {**os.environ, **texts}
    return subprocess.run(["bash", "-c", start + script], env=environment, capture_output=True, text=True, timeout=120)


def calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text().splitlines()


def rows(*failed: str | tuple[str, str]) -> list[dict[str, str]]:
    """A key, or a key and its error."""
    pairs = [(row, "AccessDenied") if isinstance(row, str) else row for row in failed]
    return [{"@message": FAILED % pair} for pair in pairs]


def message(key: str, sent: int = 1_700_000_000) -> dict[str, Any]:
    body = {"Records": [{"s3": {"object": {"key": key}}}]}
    return {"id": "1", "handle": "h", "sent": sent, "body": json.dumps(body)}


# Why keys lack


@pytest.mark.parametrize(
    ("why", "failed", "parked", "wanted"),
    [
        ("waiting", [], [], "waiting"),
        ("waiting", ["a b"], [], f"failing: {WHY}"),
        ("waiting", ["other"], ["other"], "waiting"),
        ("waiting", ["a b", ("a b", "older")], [], f"failing: {WHY}"),
        ("waiting", ["a b"], ["a+b"], f"failing: {WHY}{PARKED}"),
        ("waiting", [], ["x", "a+b"], f"failing: not in the log any more{PARKED}"),
        ("archived: restore it", ["a b"], ["a+b"], "archived: restore it"),
        ("trouble: error=403", ["a b"], [], f"failing: {WHY}"),
        ("trouble: error=403", [], [], "trouble: error=403"),
    ],
)
def test_a_key_that_failed_or_is_parked_says_so(
    why: str, failed: list[Any], parked: list[str], wanted: str, tmp_path: Path
) -> None:
    (tmp_path / "lacking").write_text(json.dumps([{"key": "a b", "why": why}]))
    done = bash('with_failing "$TEMP_DIR/lacking"', tmp_path, FAILURES=rows(*failed), MESSAGES=[*map(message, parked)])
    assert json.loads(done.stdout) == [{"key": "a b", "why": wanted}], done.stderr


def test_the_log_is_read_as_far_back_as_the_dead_letters_of_these_keys_go(tmp_path: Path) -> None:
    (tmp_path / "lacking").write_text('[{"key": "a b", "why": "waiting"}]')
    script = 'now() { echo 1700100000; }; with_failing "$TEMP_DIR/lacking"'
    bash(script, tmp_path, MESSAGES=[message("a+b"), message("other", 1_600_000_000)])
    bash(script, tmp_path, MESSAGES=[message("a+b", 1_700_099_000)])
    bash(script, tmp_path)
    assert calls(tmp_path) == ["100060", "10860", "10860"]


def test_thousands_of_keys_that_lack_have_their_reasons(tmp_path: Path) -> None:
    lines = [f"{STAMP} WARNING {log_lines.LACKING % (json.dumps(f'{n:0500}'), 'waiting')}\n" for n in range(5000)]
    (tmp_path / "task.lines").write_text("".join(lines))
    done = bash("find_lacking", tmp_path, FAILURES=rows(f"{7:0500}"))
    found = json.loads(done.stdout)
    assert [row for row in found if row["why"] != "waiting"] == [{"key": f"{7:0500}", "why": f"failing: {WHY}"}]
    assert len(found) == 5000


# The verb


def summary(end: str, status: int, lacking: int) -> str:
    numbers = f"keys=5 bytes=9 here={5 - lacking} here_bytes=3 lacking={lacking} seconds=60.1"
    return f"{STAMP} INFO {log_lines.WAITED % (end, status, numbers)}"


def timeout_log(*lacking: str) -> str:
    return "\n".join([*lacking, summary("timeout", 1, 2)])


def test_a_timeout_names_the_keys_and_why_and_ends_with_1(tmp_path: Path) -> None:
    done = bash(
        "verb_wait --prefix 'p q' --timeout 5m --exact", tmp_path, LOG=timeout_log(*LACKING), FAILURES=rows("a b")
    )
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith(LACKING[0])
    assert done.stdout.endswith(f'\nlacking:\n  "a b"  failing: {WHY}\n  "old"  archived\n')
    assert "about a minute" in done.stderr
    assert "begins at once" in done.stderr
    run = (tmp_path / "calls").read_text()
    assert '"command":["wait","--prefix","p q","--timeout","5m","--exact"]' in run
    assert "--started-by s3-to-s3express-sync-wait " in run
    assert "capacityProvider=FARGATE,weight=1" in run
    assert not any("stop-task" in line for line in calls(tmp_path))


def test_keys_that_are_not_named_are_counted(tmp_path: Path) -> None:
    done = bash("verb_wait --examples 1", tmp_path, LOG=timeout_log(LACKING[1]))
    assert done.stdout.endswith('  "old"  archived\n  and 1 more: --examples names more of them\n')
    assert not any(line.isdigit() for line in calls(tmp_path))  # no query: nothing only waits


def test_json_is_one_object_on_stdout_and_all_else_on_stderr(tmp_path: Path) -> None:
    done = bash("verb_wait --json", tmp_path, LOG=timeout_log(*LACKING), FAILURES=rows("a b"))
    assert done.returncode == 1
    (line,) = done.stdout.splitlines()
    numbers = {"keys": 5, "bytes": 9, "here": 3, "here_bytes": 3, "lacking": 2, "seconds": 60.1}
    missing = [{"key": "a b", "why": f"failing: {WHY}"}, {"key": "old", "why": "archived"}]
    assert json.loads(line) == {"end": "timeout", "status": 1, **numbers, "missing_keys": missing}
    assert LACKING[0] in done.stderr
    done = bash("verb_wait --json", tmp_path, LOG=summary("complete", 0, 0))
    assert (done.returncode, json.loads(done.stdout)["missing_keys"]) == (0, [])


def test_a_line_that_the_log_shows_after_the_summary_counts(tmp_path: Path) -> None:
    done = bash("verb_wait --json", tmp_path, LOG=timeout_log(LACKING[1]), LATE=LACKING[0])
    assert done.returncode == 1, done.stderr
    assert [row["key"] for row in json.loads(done.stdout)["missing_keys"]] == ["old", "a b"]


def test_what_cannot_be_said_of_the_reasons_costs_neither_the_keys_nor_the_status(tmp_path: Path) -> None:
    denied = "query() { die 'AccessDenied: logs:StartQuery'; }; verb_wait --json"
    done = bash(denied, tmp_path, LOG=timeout_log(*LACKING))
    assert done.returncode == 1
    assert json.loads(done.stdout)["missing_keys"][0] == {"key": "a b", "why": "waiting"}
    assert "AccessDenied" in done.stderr
    assert "not known" in done.stderr


@pytest.mark.parametrize(("code", "status"), [(0, 0), (1, 1), (2, 2), (3, 3), (137, 3), ("null", 3)])
def test_without_a_summary_ecs_knows_the_end(code: int | str, status: int, tmp_path: Path) -> None:
    done = bash("verb_wait --json", tmp_path, LOG=f"{STAMP} INFO syncing", CODE=code)
    assert done.returncode == status, done.stderr
    assert json.loads(done.stdout) == {"end": "without summary", "status": status, "missing_keys": []}


@pytest.mark.parametrize(
    "fault",
    [
        "need_starter() { die 'there is no function'; }",
        "start_one_task() { die 'the task was not started'; }",
        "describe_task() { die 'aws ecs describe-tasks failed'; }",
    ],
)
def test_what_goes_wrong_is_never_taken_for_a_timeout_and_leaves_no_task(fault: str, tmp_path: Path) -> None:
    done = bash(f"{fault}\nverb_wait", tmp_path, LOG=f"{STAMP} INFO syncing")
    assert done.returncode == 3, done.stderr
    stopped = [line for line in calls(tmp_path) if "stop-task" in line] if (tmp_path / "calls").exists() else []
    assert len(stopped) == ("describe" in fault)


def test_a_task_that_cannot_be_stopped_is_told(tmp_path: Path) -> None:
    done = bash("aws_or_die() { die 'AccessDenied'; }\nstop_one_task t1 why", tmp_path)
    assert "may go on and cost: aws ecs stop-task --region" in done.stderr
    assert done.returncode == 0


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_the_task_too_and_says_so(sent: signal.Signals, status: int, tmp_path: Path) -> None:
    script = f"print_new_lines() {{ kill -{sent.value} $$; }}; verb_wait"
    done = bash(script, tmp_path)
    assert done.returncode in (status, -sent), (
        done.stderr
    )  # Bash may end itself by the signal, which is the same status
    assert "task t1 is being stopped" in done.stderr
    assert any("stop-task" in line and "--task t1" in line for line in calls(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("--wrong", "unknown option --wrong"),
        ("--timeout", "--timeout needs a value"),
        ("--timeout soon", "--timeout soon is no duration such as 1h"),
        ("--examples many", "--examples many is no whole number"),
    ],
)
def test_wrong_usage_starts_nothing(arguments: str, complaint: str, tmp_path: Path) -> None:
    done = bash(f"verb_wait {arguments}", tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert complaint in done.stderr
    assert not (tmp_path / "calls").exists()


def test_a_value_that_looks_like_an_option_is_a_value(tmp_path: Path) -> None:
    done = bash("verb_wait --prefix --timeout --exact", tmp_path, LOG=summary("complete", 0, 0))
    assert done.returncode == 0, done.stderr


# On the local cloud

STUCK = "run/stuck ü.txt"
ROLE = ("--role-name", f"{APP}-task-role", "--policy-name", "deny")
DENY_STUCK = {"Effect": "Deny", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{SOURCE}/run/stuck*"}


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """With twenty objects, one of which cannot be copied and is in the dead-letter queue."""
    folder = tmp_path_factory.mktemp("objects")
    for number in range(19):
        (folder / f"{number}.txt").write_text("x" * number)
    with operator_of_a_deployment(tmp_path_factory) as found:
        policy = json.dumps({"Version": "2012-10-17", "Statement": [DENY_STUCK]})
        found.aws("iam", "put-role-policy", *ROLE, "--policy-document", policy)
        found.put(SOURCE, STUCK, "in vain")
        found.aws("s3", "cp", "--recursive", "--quiet", str(folder), f"s3://{SOURCE}/run/")
        wait_for(lambda: found.count(f"{APP}-dlq"))
        yield found


@pytest.mark.parametrize("cli", CLIS)
def test_a_key_that_fails_is_named_at_the_timeout_with_its_reason(operator: Operator, cli: str) -> None:
    operator.cli = cli
    status, output, log = operator.sync("wait", "--prefix", "run/", "--timeout", "20s", "--json")
    assert status == 1, output + log
    (missing,) = json.loads(output)["missing_keys"]
    assert missing["key"] == STUCK
    assert missing["why"].startswith("failing: operation=HeadObject error=AccessDenied")
    assert missing["why"].endswith(PARKED)
    assert json.loads(output) | {"end": "timeout", "keys": 20, "here": 19, "lacking": 1} == json.loads(output)
    assert operator.count(f"{APP}-dlq") == 1


def test_ctrl_c_stops_the_task(operator: Operator) -> None:
    environment = {**os.environ, "DOCKER_HOST": "unix:///nonexistent/docker.sock", "FOLLOW_PAUSE": "1"}
    process = subprocess.Popen(
        ["./sync.sh", "--local", "wait", "--prefix", "run/"],
        cwd=operator.project,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout
    lines = []
    while not any("waiting for 1 keys" in line for line in lines):
        lines.append(process.stdout.readline())
        assert lines[-1], "it ended by itself"
    os.killpg(process.pid, signal.SIGTERM)  # Ctrl-C is ignored where the tests themselves run in the background
    rest = process.communicate(timeout=120)[0]
    assert process.returncode == 143
    assert "is being stopped" in rest
    task = next(line.split()[1] for line in lines if line.startswith("task "))
    command = ("ecs", "describe-tasks", "--cluster", f"{APP}-cluster", "--tasks", task)
    state = wait_for(lambda: (t := json.loads(operator.aws(*command))["tasks"][0])["lastStatus"] == "STOPPED" and t)
    assert state["containers"][0]["exitCode"] == 3
    assert "sync.sh wait" in state["stoppedReason"]


def test_several_wait_at_once_until_the_last_key_is_there(operator: Operator) -> None:
    environment = {**os.environ, "DOCKER_HOST": "unix:///nonexistent/docker.sock", "FOLLOW_PAUSE": "1"}
    command = ["./sync.sh", "--local", "wait", "--json", "--prefix"]
    waits = [
        subprocess.Popen(
            [*command, prefix], cwd=operator.project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for prefix in ("run/", "run/stuck")
    ]
    listing = ("ecs", "list-tasks", "--cluster", f"{APP}-cluster", "--started-by", f"{APP}-wait")
    wait_for(lambda: len(json.loads(operator.aws(*listing))["taskArns"]) == 2)
    operator.aws("iam", "delete-role-policy", *ROLE)
    assert operator.sync("redrive")[0] == 0
    for process, keys in zip(waits, (20, 1), strict=True):
        output, log = process.communicate(timeout=300)
        assert process.returncode == 0, log
        assert json.loads(output) | {"end": "complete", "keys": keys, "missing_keys": []} == json.loads(output)
    assert operator.aws("s3api", "head-object", "--bucket", MIRROR, "--key", STUCK)
