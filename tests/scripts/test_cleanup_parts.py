"""The parts of cleanup.sh, each alone: what it ends with, and what it reads page by page."""

import functools
from pathlib import Path

import pytest
import sourced

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


TWO_KINDS = """
for kind in "${KINDS[@]}"; do source /dev/stdin <<<"list_$kind() { :; }"; done
list_queue() { [[ $BROKEN != list_queue ]] && echo q1 && echo q2; }
list_topic() { [[ $BROKEN != list_topic ]] && echo t; }
remove_queue() { [[ $BROKEN != "remove $1" ]]; }
remove_topic() { :; }
BROKEN=$1
ASSUME_YES=true cleanup_all
"""


@pytest.mark.parametrize(
    ("broken", "status", "removed"),
    [
        ("", 0, ["queue q1", "queue q2", "topic t"]),
        ("remove q1", 1, ["queue q2", "topic t"]),
        ("remove q2", 1, ["queue q1", "topic t"]),
        ("list_queue", 1, ["topic t"]),
    ],
)
def test_what_fails_does_not_keep_the_rest_and_is_no_success(
    broken: str, status: int, removed: list[str], tmp_path: Path
) -> None:
    done = bash(TWO_KINDS, tmp_path, broken)
    assert done.returncode == status, done.stderr
    lines = [line.partition("] ")[2] for line in done.stdout.splitlines() if line.startswith("[")]
    assert sorted(line.removesuffix(": removed") for line in lines if line.endswith(": removed")) == removed
    assert ("1 errors, see above" in done.stderr) == bool(status)


def test_alarms_go_before_what_is_silent_then_and_before_their_topic(tmp_path: Path) -> None:
    kinds = bash('printf "%s\\n" "${KINDS[@]}"', tmp_path).stdout.split()
    assert kinds.index("notification") < kinds.index("alarm") < kinds.index("rule") < kinds.index("topic")


@pytest.mark.parametrize(("broken", "status"), [("", 0), ("list_queue", 1), ("list_topic", 1)])
def test_a_dry_run_that_could_not_look_at_everything_is_no_success(broken: str, status: int, tmp_path: Path) -> None:
    done = bash("DRY_RUN=true\n" + TWO_KINDS, tmp_path, broken)
    assert done.returncode == status, done.stderr
    assert "would remove" in done.stdout
    assert "removed" not in done.stdout


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


MANY_TASKS = """
aws_or_nothing() { # list-tasks
  if [[ $6 == RUNNING ]]; then
    jq -nc --argjson count "$COUNT" '{taskArns: [range($count) | "arn:task/c/t\\(.)"]}'
  else
    echo '{"taskArns": ["arn:task/c/ended", "arn:task/c/ending"]}'
  fi
}
aws_or_die() { # describe-tasks
  (($# - 5 <= 100))
  printf '%s\\n' "${@:6}" | jq -Rnc '{tasks: [inputs
    | {taskArn: ., lastStatus: (if endswith("/ended") then "STOPPED" else "RUNNING" end)}]}'
}
COUNT=$1
eval "$2"
"""


@pytest.mark.parametrize("count", [0, 1, 100, 101, 250])
def test_every_task_that_has_not_ended_is_waited_for(count: int, tmp_path: Path) -> None:
    done = bash(MANY_TASKS, tmp_path, str(count), "unfinished_tasks")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [*(f"t{number}" for number in range(count)), "ending"]


@pytest.mark.parametrize("count", [0, 100, 250])
def test_status_shows_every_task_that_runs(count: int, tmp_path: Path) -> None:
    done = bash(MANY_TASKS, tmp_path, str(count), "describe_tasks --desired-status RUNNING | jq length")
    assert (done.returncode, done.stdout) == (0, f"{count}\n"), done.stderr
