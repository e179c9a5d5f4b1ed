"""The parts of sync.sh's verbs, each alone: what is made of AWS's answers, above all of refusals and of late ones."""

from __future__ import annotations

import functools
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import sourced

ROOT = Path(__file__).parents[2]
START = """
source "$0/sync.sh"
set_names
REGION=eu-west-1
set_account 123456789012
TEMP_DIR=$PWD RESOURCE=verb
mkdir -p facts
sleep() { :; }
"""


bash = functools.partial(sourced.alone, START)


def printed(script: str, folder: Path, *arguments: str, text: str = "") -> Any:
    """What a piece that ends well prints, read as JSON."""
    done = bash(script, folder, *arguments, text=text)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# redrive

MOVE = """
say_if_paused() { :; }
aws_or_die() {
  local status
  [[ $2 == list-message-move-tasks ]] || return 0
  status=$(head -n 1 statuses)
  sed -i 1d statuses
  jq -n --arg status "$status" '{Results: [{Status: $status, ApproximateNumberOfMessagesMoved: 3}]}'
}
act_on_messages move false
"""


@pytest.mark.parametrize(
    ("statuses", "status"),
    [
        (["COMPLETED"], 0),
        (["RUNNING", "RUNNING", "COMPLETED"], 0),
        (["FAILED"], 1),
        (["RUNNING", "FAILED"], 1),
        (["CANCELLED"], 1),
    ],
)
def test_messages_are_back_only_when_their_move_has_completed(statuses: list[str], status: int, tmp_path: Path) -> None:
    (tmp_path / "statuses").write_text("".join(f"{one}\n" for one in statuses))
    done = bash(MOVE, tmp_path)
    assert done.returncode == status, done.stderr
    assert ("3 messages moved back to the queue" in done.stdout) == (status == 0)
    assert ("moved back to the queue" in done.stdout) == (status == 0)
    assert ("could be moved back" in done.stderr) == (status == 1)


# status


@pytest.mark.parametrize(("state", "status"), [("idle", 0), ("working", 0), ("behind", 0), ("failing", 1)])
@pytest.mark.parametrize("options", ["", "--json"])
def test_status_ends_with_1_only_if_something_fails(state: str, status: int, options: str, tmp_path: Path) -> None:
    script = 'start_verb() { :; }; collect_status() { printf \'{"state": "%s"}\' "$STATE"; }; print_status() { cat; }'
    done = bash(f"STATE=$1\n{script}\nverb_status {options}", tmp_path, state)
    assert (done.returncode, json.loads(done.stdout)) == (status, {"state": state}), done.stderr


@pytest.mark.parametrize(
    ("figures", "seconds"),
    [
        ([], None),
        ([("12:00", 40.4)], 40),
        ([("12:00", 40.4), ("12:02", 100.0), ("12:01", 70.0)], 100),
        ([("12:02", 5.0), ("12:00", 900.0), ("12:01", 905.0)], 5),
    ],
)
def test_the_age_of_the_oldest_message_is_the_newest_figure(
    figures: list[tuple[str, float]], seconds: int | None, tmp_path: Path
) -> None:
    found = [{"Timestamp": f"2026-11-25T{time}:00Z", "Maximum": age} for time, age in figures]
    script = 'aws_or_die() { printf "%s" "$ANSWER"; }; oldest_message'
    assert printed(f"ANSWER=$1\n{script}", tmp_path, json.dumps({"Datapoints": found})) == seconds


@pytest.mark.parametrize(
    ("deployed", "checkout", "is_older"),
    [
        ("1.9.0", "1.10.0", True),
        ("1.10.0", "1.9.0", False),
        ("9.0.0", "10.0.0", True),
        ("1.1.10", "1.1.9", False),
        ("1.1.0", "1.1.0", False),
        ("1.9.0", "1.10.0-dev", True),
        ("1.10.0-dev", "1.10.0", True),
        ("1.10.0", "1.10.0-dev", False),
        ("1.10.0-dev", "1.9.0", False),
    ],
)
def test_releases_are_compared_number_by_number(deployed: str, checkout: str, is_older: bool) -> None:
    """Of the scripts only these two files: in a run of all the checkout's release is fixed."""
    script = """
    source "$0/lib/resources/version_tag.sh"
    source "$0/lib/status_parts.sh"
    VERSION=$1 DEPLOYED=$2 STARTER_ARN=arn
    aws_or_error() { jq -n --arg version "$DEPLOYED" '{Tags: {$version}}'; }
    describe_version
    """
    command = ["bash", "-euc", script, str(ROOT), checkout, deployed]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert found == {"deployed": deployed, "checkout": checkout, "error": "", "older": is_older}


# Times, logs


@pytest.mark.parametrize(
    ("time", "seconds"),
    [
        ("2026-11-25T12:00:00Z", 1795608000),
        ("2026-11-25T12:00:00.250Z", 1795608000.25),
        ("2026-11-25T12:00:00+00:00", 1795608000),
        ("2026-11-25T14:00:00+02:00", 1795608000),
        ("2026-11-25T06:30:00.500000-05:30", 1795608000.5),
        ("2026-11-25T21:00:00+0900", 1795608000),
        (1795608000.5, 1795608000.5),
        (None, None),
    ],
)
def test_a_time_is_read_as_each_generation_of_the_cli_prints_it(
    time: Any, seconds: float | None, tmp_path: Path
) -> None:
    assert printed('jq "$(jq_epoch) epoch"', tmp_path, text=json.dumps(time)) == seconds


QUERY = """
log_groups() { echo group; }
aws_or_nothing() { echo '{"queryId": "q"}'; }
aws_or_die() {
  local status
  status=$(head -n 1 statuses)
  sed -i 1d statuses
  jq -n --arg status "$status" '{$status, results: [[{field: "a", value: "1"}] | select($status == "Complete")]}'
}
query keys 60 "fields a"
"""


@pytest.mark.parametrize(
    "statuses",
    [["Complete"], ["Running", "Complete"], ["Scheduled", "Running", "Running", "Complete"], ["Unknown", "Complete"]],
)
def test_the_rows_of_a_query_are_those_of_its_end(statuses: list[str], tmp_path: Path) -> None:
    (tmp_path / "statuses").write_text("".join(f"{one}\n" for one in statuses))
    assert printed(QUERY, tmp_path) == [{"a": "1"}]


@pytest.mark.parametrize("status", ["Failed", "Cancelled", "Timeout"])
def test_a_query_that_has_ended_without_rows_is_not_waited_for(status: str, tmp_path: Path) -> None:
    (tmp_path / "statuses").write_text(f"Running\n{status}\n")
    done = bash(QUERY, tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"log group group: a query ended as {status}; try again" in done.stderr


# Calls


@pytest.mark.parametrize(
    ("code", "call", "status"),
    [
        ("AccessDenied", "aws_if_allowed", 0),
        ("AccessDeniedException", "aws_if_allowed", 0),
        ("UnauthorizedOperation", "aws_if_allowed", 0),
        ("AuthorizationError", "aws_if_allowed", 0),
        ("NoSuchEntity", "aws_if_allowed", 0),
        ("ValidationException", "aws_if_allowed", 1),
        ("NoSuchEntity", "aws_or_nothing", 0),
        ("AccessDenied", "aws_or_nothing", 1),
        ("UnauthorizedOperation", "aws_or_nothing", 1),
        ("NoSuchEntity", "aws_unless_gone", 0),
        ("AccessDenied", "aws_unless_gone", 1),
        ("NoSuchEntity", "aws_or_die", 1),
        ("AccessDenied", "aws_or_die", 1),
    ],
)
def test_what_each_kind_of_call_takes_for_an_answer(code: str, call: str, status: int, tmp_path: Path) -> None:
    script = """
    command() { echo "An error occurred ($CODE) when calling the GetRole operation: no" >&2; return 254; }
    """
    done = bash(f"CODE=$1\n{script}\n{call} iam get-role", tmp_path, code)
    assert (done.returncode, done.stdout) == (status, ""), done.stderr
    assert (f"aws iam get-role failed: An error occurred ({code})" in done.stderr) == bool(status)


RUN = """
starter_setting() {
  case "$1" in
    SUBNETS) echo subnet-1,subnet-2 ;;
    SECURITY_GROUPS) echo sg-1 ;;
    ASSIGN_PUBLIC_IP) echo DISABLED ;;
    TASK_DEFINITION) echo family ;;
  esac
}
aws_or_die() { printf '%s\\0' "$@" >asked; printf '%s' "$ANSWER"; }
start_one_task app-wait wait --prefix 'a b/'
"""


def test_a_task_for_one_command_runs_on_demand_in_the_network_of_the_workers(tmp_path: Path) -> None:
    answer = {"tasks": [{"taskArn": "arn:aws:ecs:r:1:task/c/t1"}], "failures": []}
    done = bash(f"ANSWER=$1\n{RUN}", tmp_path, json.dumps(answer))
    assert done.stdout == "t1\n", done.stderr
    words = (tmp_path / "asked").read_text().split("\0")
    asked = dict(zip(words[2:-1:2], words[3:-1:2], strict=True))
    assert words[:2] == ["ecs", "run-task"]
    assert asked["--capacity-provider-strategy"] == "capacityProvider=FARGATE,weight=1"
    assert (asked["--started-by"], asked["--task-definition"]) == ("app-wait", "family")
    assert asked["--cluster"] == "s3-to-s3express-sync-cluster"
    assert json.loads(asked["--network-configuration"])["awsvpcConfiguration"] == {
        "subnets": ["subnet-1", "subnet-2"], "securityGroups": ["sg-1"], "assignPublicIp": "DISABLED"
    }  # fmt: skip
    (overrides,) = json.loads(asked["--overrides"])["containerOverrides"]
    assert overrides == {"name": "worker", "command": ["wait", "--prefix", "a b/"]}


RUN_TAGGED = """
ask_starter() { echo '{"Environment": {"Variables": {"TAG_TASKS": "true", "SUBNETS": "s", "SECURITY_GROUPS": "g"}}}'; }
aws() {
  printf '%s\\n' "${*//$'\\n'/ }" >>asked
  if [[ -z $REFUSAL || $* != *propagate-tags* ]]; then
    echo '{"tasks": [{"taskArn": "arn:aws:ecs:r:1:task/c/t1"}]}'
  else
    printf 'An error occurred (%s) when calling the RunTask operation: %s\\n' "${REFUSAL%% *}" "${REFUSAL#* }" >&2
    return 254
  fi
}
start_one_task app-wait wait
"""


@pytest.mark.parametrize(
    ("refusal", "calls", "said"),
    [
        ("", 1, ""),
        ("AccessDeniedException not authorized to perform: ecs:TagResource", 2, "the task is started without tags"),
        ("AccessDeniedException not authorized to perform: ecs:RunTask", 2, ""),
        ("InvalidParameterException no such subnet", 1, None),
    ],
)
def test_a_task_has_the_tags_of_its_definition_if_the_caller_may_give_them(
    refusal: str, calls: int, said: str | None, tmp_path: Path
) -> None:
    done = bash(f"REFUSAL=$1\n{RUN_TAGGED}", tmp_path, refusal)
    assert done.stdout == ("" if said is None else "t1\n"), done.stderr
    asked = (tmp_path / "asked").read_text().splitlines()
    assert ["--propagate-tags TASK_DEFINITION" in call for call in asked] == [True, False][:calls]
    assert ("without tags" in done.stderr) == bool(said)


def test_a_task_that_ecs_has_no_room_for_is_not_started(tmp_path: Path) -> None:
    answer = {"tasks": [], "failures": [{"reason": "Capacity is unavailable"}]}
    done = bash(f"ANSWER=$1\n{RUN}", tmp_path, json.dumps(answer))
    assert (done.returncode, done.stdout) == (1, "")
    assert "Capacity is unavailable" in done.stderr


# Wanted and there


@pytest.mark.parametrize(
    ("want", "have", "different"),
    [
        ({"a": 1, "b": 2}, {"a": 1, "b": 2, "default": 3}, ""),
        ({"a": 1, "b": 2}, {"a": 1}, "b"),
        ({"a": 1, "b": 2}, {"a": 2, "b": 1}, "a, b"),
        ({"a": [1, 2]}, {"a": [1, 2]}, ""),
        ({"a": [1, 2]}, {"a": [2, 1]}, "a"),
        ({"a": [1, 2]}, {"a": [1]}, "a"),
        ({"a": [1]}, {"a": [1, 2]}, "a"),
        ({"a": []}, {"a": [1]}, "a"),
        ({"a": [{"b": {"c": 1}}]}, {"a": [{"b": {"c": 1, "d": 2}}]}, ""),
        ({"a": [{"b": {"c": 1}}]}, {"a": [{"b": {"c": "1"}}]}, "a"),
        ({"a": 1}, None, "a"),
    ],
)
def test_what_is_there_differs_in_what_it_lacks_or_has_more_of_in_a_list(
    want: Any, have: Any, different: str, tmp_path: Path
) -> None:
    done = bash('differing "$1" "$2"', tmp_path, json.dumps(want), json.dumps(have))
    assert done.stdout == f"{different}\n", done.stderr
