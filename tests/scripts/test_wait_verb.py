"""./sync.sh wait: what it makes of a task's log, of AWS's answers and of signals."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import sourced

from mirror.model import log_lines

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
refuse_if_paused() { :; }
starter_setting() { echo x; }
existing_queue_url() { echo https://queue; }
look_at_messages() { printf '%s\\n' "$MESSAGES"; }
ask_dead_letters() { printf '{"in_flight": %d}\\n' "$NUMBER"; }
mkdir -p "$TEMP_DIR/facts"
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
        "NUMBER": 0,
        "FAILURES": [],
        "CALLS": folder / "calls",
    }
    return sourced.bash(f"TEMP_DIR='{folder}'\n{CLOUD}\n{script}", seconds=120, **answers | variables)


def calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text().splitlines()


def rows(*failed: str | tuple[str, str]) -> list[dict[str, str]]:
    """A key, or a key and its error."""
    pairs = [(row, "AccessDenied") if isinstance(row, str) else row for row in failed]
    return [{"@message": FAILED % pair} for pair in pairs]


def message(key: str, sent: int = 1_700_000_000) -> dict[str, Any]:
    body = {"Records": [{"s3": {"object": {"key": key}}}]}
    return {"id": "1", "handle": "h", "sent": sent, "body": json.dumps(body)}


# Why keys are missing


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


def test_dead_letters_that_somebody_else_is_looking_at_are_not_hidden(tmp_path: Path) -> None:
    (tmp_path / "lacking").write_text('[{"key": "a b", "why": "waiting"}]')
    done = bash('with_failing "$TEMP_DIR/lacking"', tmp_path, MESSAGES=[message("x")], NUMBER=2)
    assert "1 message cannot be seen, because somebody else is looking at the dead-letter queue" in done.stderr


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
    assert done.stdout.endswith(f'\nmissing:\n  "a b"  failing: {WHY}\n  "old"  archived\n')
    assert "about a minute" in done.stderr
    assert "starts at once" in done.stderr
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
    assert "could not be read" in done.stderr


@pytest.mark.parametrize(("code", "status"), [(1, 1), (137, 3)])
def test_without_a_summary_ecs_knows_the_end(code: int, status: int, tmp_path: Path) -> None:
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
    assert "costs money. To stop it: aws ecs stop-task --region" in done.stderr
    assert done.returncode == 0


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_the_task_too_and_says_so(sent: signal.Signals, status: int, tmp_path: Path) -> None:
    script = f"print_new_lines() {{ kill -{sent.value} $BASHPID; }}; verb_wait"
    done = bash(script, tmp_path)
    assert done.returncode in (status, -sent), (
        done.stderr
    )  # Bash may end itself by the signal, which is the same status
    assert "task t1 is being stopped" in done.stderr
    assert any("stop-task" in line and "--task t1" in line for line in calls(tmp_path))


def test_reconcile_says_how_to_stop_the_task_that_ctrl_c_leaves_running(tmp_path: Path) -> None:
    script = f"refuse_second() {{ :; }}; print_new_lines() {{ kill -{signal.SIGINT.value} $BASHPID; }}; verb_reconcile"
    done = bash(script, tmp_path)
    assert done.returncode in (130, -signal.SIGINT), done.stderr
    assert "task t1 keeps running; see its end with ./sync.sh logs, or stop it with aws ecs stop-task" in done.stderr
    assert not any("stop-task" in line for line in calls(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("--wrong", "unknown option --wrong"),
        ("--timeout", "--timeout needs a value"),
        ("--timeout soon", "--timeout soon is not a duration such as 1h"),
        ("--examples many", "--examples many is not a whole number"),
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
