"""Verbs of sync.sh without a cloud: their functions, with answers of AWS that the local cloud does not give."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import sourced

from mirror.model.log_lines import OUTAGE, OUTAGE_ENDS, OUTAGE_OVER


def bash(script: str, folder: Path, **variables: Any) -> subprocess.CompletedProcess[str]:
    """A piece whose TEMP_DIR is the folder."""
    start = f"set_account 123456789012; TEMP_DIR='{folder}'; VERIFY_DIR=$TEMP_DIR\n"
    return sourced.bash(start + script, **variables)


# logs

PAGES = """
LINES=200 LAST_PAGE=4
aws_or_nothing() { # page n has LINES events, ten a second
  local page=1 from
  while (($#)); do
    case "$1" in
      --next-token) page=$2 && shift ;;
      --start-time) from=$2 && shift ;;
    esac
    shift
  done
  printf 'asked for page %d\\n' "$page" >&3
  jq -n --argjson page "$page" --argjson last "$LAST_PAGE" --argjson lines "$LINES" --argjson from "$from" '
    {events: [range(($page - 1) * $lines; $page * $lines) | {eventId: "\\(.)", timestamp: (. * 100), logStreamName: "s",
      message: "line \\(.)\\n"} | select(.timestamp >= $from)]}
    + if $page < $last then {nextToken: "\\($page + 1)"} else {} end'
}
exec 3>&1
open_log text 0 group
print_new_lines
printf 'kept %d\\n' "${#LOG_SEEN[@]}"
print_new_lines
"""


def test_hours_of_a_log_are_printed_page_by_page_and_not_remembered(tmp_path: Path) -> None:
    done = bash(PAGES, tmp_path)
    assert done.returncode == 0, done.stderr
    printed = done.stdout.splitlines()
    assert [line for line in printed if line.startswith("line")] == [f"line {n}" for n in range(800)]
    assert printed.index("line 199") < printed.index("asked for page 2")
    (kept,) = (int(line.split()[1]) for line in printed if line.startswith("kept"))
    assert kept <= 301  # what a next look reads again: 30 seconds


TWO_LOGS = """
starter_setting() { printf 'true\\n'; }
# Event n is at n * 100 ms, in the log of the workers if n is even, with 200 events on a page; the function's has
# half as many on a page, and Lambda's own lines too.
aws_or_nothing() {
  local page=1 from group="" odd=0 size=200
  while (($#)); do
    case "$1" in
      --log-group-name) group=$2 && shift ;;
      --next-token) page=$2 && shift ;;
      --start-time) from=$2 && shift ;;
    esac
    shift
  done
  [[ $group != "$STARTER_LOG_GROUP" ]] || odd=1 size=100
  jq -n --argjson page "$page" --argjson odd "$odd" --argjson size "$size" --argjson from "$from" \\
    --argjson last $((PAGES * 200 / size)) '
    def event: {eventId: "\\(.)", timestamp: (. * 100), logStreamName: "s",
      message: (if . % 4 == 3 then "START \\(.)" else "2026-11-25T01:02:03.456Z INFO line \\(.)\\n" end)};
    {events: [range(($page - 1) * $size; $page * $size) | . * 2 + $odd | event | select(.timestamp >= $from)]}
    + if $page < $last then {nextToken: "\\($page + 1)"} else {} end'
}
mapfile -t groups < <(log_groups keys)
open_log text 0 "${groups[@]}"
PAGES=3
print_new_lines
printf 'kept %d\\n' "${#LOG_SEEN[@]}"
PAGES=4
print_new_lines
"""


def test_two_logs_are_shown_as_one_by_time_each_line_once_and_page_by_page(tmp_path: Path) -> None:
    done = bash(TWO_LOGS, tmp_path)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.split("kept")
    shown = [n for n in range(1600) if n % 4 != 3]
    assert [int(line.split()[-1]) for line in first.splitlines()] == [n for n in shown if n < 1200]
    assert [int(line.split()[-1]) for line in second.splitlines()[1:]] == [n for n in shown if n >= 1200]
    assert int(second.split()[0]) <= 301


def test_the_function_is_read_for_keys_only_if_it_copies(tmp_path: Path) -> None:
    workers, starter = "/ecs/s3-to-s3express-sync-task", "/aws/lambda/s3-to-s3express-sync-starter"
    for copies, groups in [("", [workers]), ("true", [workers, starter])]:
        done = bash(f"starter_setting() {{ printf '{copies}\\n'; }}\nlog_groups keys", tmp_path)
        assert done.stdout.split() == groups
    assert bash("log_groups worker; log_groups starter", tmp_path).stdout.split() == [workers, starter]


@pytest.mark.parametrize(("copies", "option"), [("", "--log-group-name /ecs/"), ("true", "--log-group-names /ecs/")])
def test_a_query_on_keys_asks_all_logs_that_have_some(copies: str, option: str, tmp_path: Path) -> None:
    script = f"""
    starter_setting() {{ printf '{copies}\\n'; }}
    aws_or_nothing() {{ printf '%s ' "$@" >"$TEMP_DIR/asked"; printf '{{"queryId": "q"}}'; }}
    aws_or_die() {{ printf '{{"status": "Complete", "results": [[{{"field": "a", "value": "1"}}]]}}'; }}
    query keys 60 "fields a"
    """
    done = bash(script, tmp_path)
    assert json.loads(done.stdout) == [{"a": "1"}], done.stderr
    asked = (tmp_path / "asked").read_text()
    assert option in asked
    assert ("/aws/lambda/" in asked) == bool(copies)


# reconcile

SIDECAR = {"name": "aws-guardduty-agent", "exitCode": 0}
TASK = {"lastStatus": "STOPPED", "stoppedReason": "Essential container in task exited"}


@pytest.mark.parametrize(
    ("code", "status", "why"),
    [
        (0, 0, "the task itself ended with exit status 0"),
        (1, 1, "the task itself ended with exit status 1"),
        (2, 2, "the task itself ended with exit status 2"),
        (3, 3, "the task itself ended with exit status 3"),
        (137, 3, "without a summary: Essential container in task exited"),
        (None, 3, "without a summary: Essential container in task exited"),
    ],
)
def test_a_summary_that_the_log_dropped_does_not_decide_the_result(
    code: int | None, status: int, why: str, tmp_path: Path
) -> None:
    task = TASK | {"containers": [SIDECAR, {"name": "worker", "exitCode": code}]}
    (tmp_path / "task").write_text(json.dumps(task))
    script = """
    describe_task() { cat "$TEMP_DIR/task"; }
    hint_at_waiting() { :; }
    end_reconcile some-task "" true
    """
    done = bash(script, tmp_path)
    assert done.returncode == status, done.stderr
    assert json.loads(done.stdout) == {"end": "without summary", "status": status}
    assert why in done.stderr


@pytest.mark.parametrize(
    ("given", "passed"),
    [
        (["--remove-unwanted", "--max-delete", "50", "--json"], ["--remove-unwanted", "--max-delete", "50"]),
        (["--audit", "--prefix", "--remove-unwanted"], ["--audit", "--prefix", "--remove-unwanted"]),
    ],
)
def test_the_task_of_reconcile_is_given_its_options(given: list[str], passed: list[str], tmp_path: Path) -> None:
    script = """
    start_verb() { :; }; need_starter() { :; }; refuse_second() { :; }
    say_if_paused() { :; }; refuse_if_paused() { :; }
    follow_task() { :; }; hint_at_waiting() { :; }
    end_reconcile() { :; }
    start_one_task() { printf '%s\n' "$@" >"$TEMP_DIR/started"; }
    """
    done = bash(f"{script}\nverb_reconcile {' '.join(given)}", tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "started").read_text().splitlines()[1:] == ["reconcile", *passed]


def test_a_reason_that_the_log_does_not_have_is_said_to_be_missing(tmp_path: Path) -> None:
    messages = [
        {"keys": [{"key": "a", "at": None, "reason": "not in the log any more"}]},
        {"keys": [{"key": "b", "at": "2026-01-01T00:00:00Z"}]},
    ]
    (tmp_path / "messages").write_text(json.dumps(messages))
    done = bash('hint_at_missing <"$TEMP_DIR/messages"', tmp_path)
    assert "the log has no failure of 1 key:" in done.stderr
    assert "dropped" in done.stderr


# verify: asked, and interrupted

VERIFY = """
start_verb() { start_run; set_account 123456789012; }
need_deployment() { :; }
deployed_setting() { :; }
look_at_queue() { :; }
clean_up_objects() { ls "$PUT" >"$CLEANED"; }
"""


def test_nobody_to_ask_is_no_consent(tmp_path: Path) -> None:
    done = bash(f"{VERIFY}run_rounds() {{ echo begun; }}\nverb_verify", tmp_path, SRC_BUCKET="source")
    assert (done.returncode, done.stdout) == (1, "")
    assert "s3://source/sync-verify-" in done.stderr
    assert "use --yes" in done.stderr


SLOW_PUT = """
make_body() { :; }
put_case() { # the signal comes with the last one that is begun
  [[ $1 != "${CASES[-1]}" ]] || kill -INT "$MAIN"
  sleep 0.5
  touch "$PUT/$1"
}
"""


@pytest.mark.parametrize(("moment", "cleaned"), [('make_body() { kill -INT "$MAIN"; }', None), (SLOW_PUT, 11)])
def test_ctrl_c_removes_what_was_put_also_in_this_moment(moment: str, cleaned: int | None, tmp_path: Path) -> None:
    (tmp_path / "put").mkdir()
    found = tmp_path / "cleaned"
    done = bash(f"{VERIFY}{moment}\nMAIN=$BASHPID\nverb_verify --yes", tmp_path, PUT=tmp_path / "put", CLEANED=found)
    assert done.returncode == 130, done.stderr
    assert (len(found.read_text().split()) if found.exists() else None) == cleaned
    assert ("verify: removing what was uploaded" in done.stderr) == bool(cleaned)


# verify: waiting, by a clock that goes on ten seconds with each look

AWAIT = """
VERIFY_TIMEOUT=900 FOLLOW_PAUSE=0 VERIFY_FOLDER=F/ VERIFY_STARTED=0 VIA='' SECONDS=0
choose_cases false 5368709120
now() { echo 0; }
read_queue() { jq -n '{visible: 1, in_flight: 0, delayed: 0}' >"$VERIFY_DIR/queue"; }
note_event() { SECONDS=$((SECONDS + 10)); }
read_folder() { printf '[]' >"$VERIFY_DIR/$1.list"; }
has_arrived() { [[ $2 == small ]] && ((SECONDS >= SMALL_AT)) || { [[ $2 == empty ]] && ((SECONDS >= EMPTY_AT)); }; }
read_worker_lines() { printf '%s\n' "$LINES" >"$VERIFY_DIR/worker.lines"; }
find_broken_link() {
  printf '%s ' "$1" >>"$VERIFY_DIR/looks"
  ((SECONDS < BROKEN_AT)) || printf 'no task\twhy\tcommand\n'
}
await_all listed put small empty
printf '%s %s %s ' "${CASE_STATE[small]}" "${CASE_STATE[empty]}" "$VERIFY_BROKEN"
((SECONDS < 900)) && echo early || echo late
"""
FAILED_EMPTY = {"stream": "s", "message": '2026-01-01T00:00:00Z ERROR failed key="F/empty.dat" attempt=3/3 operation=X'}


@pytest.mark.parametrize(
    ("small_at", "empty_at", "broken_at", "line", "ends", "looks"),
    [
        (0, 20, 9999, "", "arrived arrived false early", r""),
        (20, 40, 9999, "", "arrived arrived false early", r"(false )?"),
        (20, 9999, 60, "", "arrived missing true early", r"(false )+"),
        (20, 9999, 9999, "", "arrived missing false late", r"(false ){20,}true "),
        (20, 9999, 9999, FAILED_EMPTY, "arrived failed false early", r""),  # a key that failed permanently
        (9999, 9999, 9999, FAILED_EMPTY, "missing failed false late", r"(false ){20,}true "),
    ],
)
def test_a_round_ends_with_all_its_objects_or_a_broken_link_or_its_time(
    small_at: int, empty_at: int, broken_at: int, line: Any, ends: str, looks: str, tmp_path: Path
) -> None:
    times = {"SMALL_AT": small_at, "EMPTY_AT": empty_at, "BROKEN_AT": broken_at}
    done = bash(AWAIT, tmp_path, LINES=line, **times)
    assert done.stdout == f"{ends}\n", done.stderr
    found = tmp_path / "looks"
    assert re.fullmatch(looks, found.read_text() if found.exists() else "")
    assert ("not all after 900 s (--timeout)" in done.stderr) == ("late" in ends)
    assert ("verify: no copy: F/empty.dat: operation=X" in done.stderr) == ("failed" in ends)
    assert ("verify: no task: why" in done.stderr) == ("true" in ends)


# verify: links that break as the local cloud cannot break them


def link(tmp_path: Path, is_over: bool, tasks: list[dict[str, Any]], starter: list[dict[str, Any]]) -> str:
    """What find_break_of_task says, then find_break_of_starter, with these tasks and lines of the starter."""
    (tmp_path / "tasks").write_text(json.dumps(tasks))
    (tmp_path / "starter.lines").write_text("".join(json.dumps(line) + "\n" for line in starter))
    (tmp_path / "worker.lines").write_text("")
    script = """
    VERIFY_BEGAN=1000 VERIFY_STARTED=$((SECONDS - 60)) VIA=''
    echo '{"faults": []}' >"$VERIFY_DIR/path"
    """
    over = str(is_over).lower()
    done = bash(f"{script}\nfind_break_of_starter {over}; find_break_of_task {over}", tmp_path)
    assert done.returncode == 0, done.stderr
    return done.stdout


DEAD = {"id": "t1", "status": "STOPPED", "created": 1010, "started": None, "exit": None, "container_reason": None}
PULL = DEAD | {"code": "TaskFailedToStart", "reason": "CannotPullContainerError: no route"}
REFUSED = {"visible": 3, "running": 0, "started": {}, "failures": ["Capacity is unavailable at this time"]}


@pytest.mark.parametrize(
    ("is_over", "tasks", "starter", "wanted"),
    [
        (False, [PULL], [], "no task\ttask t1 stopped before it started: CannotPullContainerError: no route"),
        (False, [DEAD | {"code": "SpotInterruption", "reason": "Spot"}], [], ""),
        (False, [], [REFUSED], ""),  # passes by itself
        (True, [], [REFUSED], "no task\tECS did not start a worker: Capacity is unavailable at this time"),
        (False, [], [REFUSED | {"failures": ["InvalidSubnet"]}], "no task\tECS did not start a worker: InvalidSubnet"),
        (True, [DEAD | {"status": "PROVISIONING"}], [REFUSED | {"failures": []}], "no task\ttask t1 is still PROV"),
        (False, [], [{"error": "Task timed out"}], ""),  # one failure may be chance
        (False, [], [{"error": "one"}, {"error": "two"}], "no starter\tthe function"),
        (False, [], [REFUSED | {"failures": []}, {"error": "one"}], ""),
        (True, [], [], "no starter\tthe rule is enabled, but"),
    ],
)
def test_the_link_that_broke_is_named_only_when_it_is_certain(
    is_over: bool, tasks: list[dict[str, Any]], starter: list[dict[str, Any]], wanted: str, tmp_path: Path
) -> None:
    found = link(tmp_path, is_over, tasks, starter)
    assert found.startswith(wanted) if wanted else found == ""


RUN_BEGAN = 1795608000  # 2026-11-25, noon
WHY = "operation=CopyObject error=AccessDenied"
BEGAN = f"ERROR {OUTAGE % (10, WHY)}"
OVER, ENDED = f"INFO {OUTAGE_OVER % 90}", f"ERROR {OUTAGE_ENDS % (600, WHY)}"
OUTAGE_LINK = f"""
VIA="" VERIFY_BEGAN={RUN_BEGAN}
now() {{ echo {RUN_BEGAN + 150}; }}
aws_or_nothing() {{ printf '%s' "$EVENTS"; }}
printf '%s' '[{{"id": "a", "status": "RUNNING"}}, {{"id": "b", "status": "STOPPED"}}]' >"$VERIFY_DIR/tasks"
for read in find_all_faults read_starter_lines read_tasks; do eval "$read() {{ :; }}"; done
for link in event starter task copy; do eval "find_break_of_$link() {{ :; }}"; done
find_broken_link "$IS_OVER"
"""


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
    done = bash(OUTAGE_LINK, tmp_path, EVENTS={"events": events}, IS_OVER=str(is_over).lower())
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(f"no copy\t{why}\t./sync.sh status\n" if why else "", done.stdout), done.stdout


def test_the_table_says_who_copied(tmp_path: Path) -> None:
    lines = [
        ("2026/11/25/[$LATEST]0f", 'synced key="F/a" action=copied size=1 seconds=0.100 lag=1.125'),
        ("worker/worker/t1", 'synced key="F/b" action=copied size=1 seconds=0.100 lag=40.125'),
    ]
    rows = [{"stream": stream, "message": f"2026-11-25T01:02:03Z INFO {line}"} for stream, line in lines]
    (tmp_path / "worker.lines").write_text("".join(json.dumps(row) + "\n" for row in rows))
    script = """VERIFY_NAME=sync-verify-1; synced_lines | jq '{synced: ., copying: true, results: [
          {name: "a", key: "F/a"}, {name: "b", key: "F/b"}, {name: "c", key: "F/c"} | . + {
            meaning: "m", state: "arrived", bytes: "equal", metadata: "equal", checksum: "equal"}],
        times: {by: .[0].by, event: null, created: null}}' >"$TEMP_DIR/result"
    print_objects <"$TEMP_DIR/result"; print_times <"$TEMP_DIR/result"
    jq '.copying = false' "$TEMP_DIR/result" | print_objects"""
    done = bash(script, tmp_path)
    assert done.returncode == 0, done.stderr
    ends = [line.rsplit("|", 3)[1:3] for line in done.stdout.splitlines() if re.match(r"\| `F/[abc]` ", line)]
    assert [cell.strip() for row in ends for cell in row] == [
        *("1.1 s", "starter", "40.1 s", "task", "unknown", "-"),
        *("1.1 s", "equal", "40.1 s", "equal", "unknown", "equal"),
    ]
    assert len(re.findall("none: the starter copied", done.stdout)) == 6
    assert "before the first copy" in done.stdout


def test_a_failure_counts_from_its_second_time_on_and_is_told_once_for_each_reason(tmp_path: Path) -> None:
    reason = 'operation=HeadObject error=403 message="it\'s [$x] forbidden"'
    tries = {"small.txt": "2/3", "empty.dat": "3/3", "tagged.txt": "1/3", "encoded.txt": "1/1"}
    lines = [
        {"stream": "s", "message": f'2026-01-01T00:00:00Z ERROR failed key="F/{key}" attempt={attempt} {reason}'}
        for key, attempt in tries.items()
    ]
    (tmp_path / "worker.lines").write_text("".join(json.dumps(line) + "\n" for line in lines))
    script = """
    VERIFY_FOLDER=F/ VIA='' VERIFY_ROUND_AT=0
    choose_cases false 5368709120
    for name in "${CASES[@]}"; do CASE_STATE[$name]=missing; done
    note_failures
    names_in_state failed
    """
    done = bash(script, tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split()) == ["empty", "encoded", "small"]
    (told,) = [json.loads(line) for line in (tmp_path / "breaks").read_text().splitlines()]
    assert told["link"] == "no copy"
    assert told["why"].endswith(f" and 2 more: {reason}")


def test_a_report_has_no_account_ids_and_no_names_of_buckets(tmp_path: Path) -> None:
    text = (
        "arn:aws:sqs:eu-west-1:123456789012:q s3://acme s3://acme--euw1-az1--x-s3 acme/run/a 20261125T010203Z 12582913"
    )
    names = "SRC_BUCKET=acme DST_BUCKET=acme--euw1-az1--x-s3 VERIFY_FOLDER=run/"
    done = bash(f"{names}\nfor_others <<<'{text}'", tmp_path)
    shown = "arn:aws:sqs:eu-west-1:************:q s3://SRC_BUCKET s3://DST_BUCKET SRC_BUCKET/FOLDER/a"
    assert done.stdout == f"{shown} 20261125T010203Z 12582913\n"


EXCLUDED_OBJECTS = """SRC_BUCKET=source DST_BUCKET=mirror PREFIX_FILTER=$PREFIXES; TEMP_DIR=$VERIFY_DIR
    printf '{"containerDefinitions": [{"name": "worker", "environment": [{"name": "EXCLUDE", "value": "%s"}]}]}' \
      "$EXCLUDED" >"$TEMP_DIR/found"
    mkdir "$TEMP_DIR/facts"
    name_run; keep task_definition <"$TEMP_DIR/found"; choose_cases false 5368709120; refuse_excluded_objects
    printf '%s\\n' "${CASE_KEY[small]}"
"""


@pytest.mark.parametrize(
    ("excluded", "told"),
    [
        ("", ""),
        ("a/*,*.tmp,*/_temporary/*", ""),
        ("*.tmp,*.json", "its pattern *.json leaves out b c/sync-verify-"),
        ("b c/*", "its pattern b c/* leaves out b c/sync-verify-"),
    ],
)
def test_verify_puts_under_the_first_prefix_and_nothing_that_is_excluded(
    excluded: str, told: str, tmp_path: Path
) -> None:
    done = bash(EXCLUDED_OBJECTS, tmp_path, PREFIXES="b c/,a/", EXCLUDED=excluded)
    assert (done.returncode, told in done.stderr) == (1 if told else 0, True), done.stderr
    assert re.match("b c/sync-verify-[^/]*/small.txt$" if not told else "$", done.stdout)
    assert ("nothing was uploaded: EXCLUDE=" in done.stderr) == bool(told)
