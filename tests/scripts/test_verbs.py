"""The verbs of sync.sh in worlds: what they print for a person and send, and how they end; status and verify apart."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest
from account import APP, MIRROR, SOURCE
from documents import Ran
from operated import CTRL_C, PARKED, STARTER, WORKERS, Operated, Verbs, account, stamp, too_wide, verbs
from paper_account import Given, Refused

from mirror.model import log_lines
from operate.times import epoch, seconds_of

__all__ = ["account", "verbs"]
WHY, NOT_IN_LOG = "operation=CopyObject error=AccessDenied", "not in the log any more"
BODY = json.dumps(PARKED)


def message(*keys: str) -> str:
    return json.dumps({"Records": [{"s3": {"object": {"key": key}}} for key in keys]})


def synced(key: str) -> str:
    return log_lines.SYNCED % (log_lines.quoted(key), "copied", 1, 0.1, "")


def failed(key: str, why: str = WHY) -> str:
    return f"{stamp()} ERROR failed key={log_lines.quoted(key)} attempt=2/3 {why}"


# Before anything is asked


def test_verbs_in_python_name_one_that_is_too_old(verbs: Verbs, tmp_path: Path) -> None:
    (tmp_path / "python3").write_text("#!/bin/sh\n[ $1 = --version ] && echo Python 3.8.2\n")
    (tmp_path / "python3").chmod(0o755)
    for verb in ("explain", "status"):
        done = verbs.sync(f"{verb} a", 2, PATH=f"{tmp_path}:/usr/bin:/bin")
        assert f"{verb} needs Python 3.9 or newer as python3, which is older or does not start" in done.errors
        assert '(python3 --version says "Python 3.8.2"): install Python 3.9 or newer' in done.errors


def test_without_a_deployment_a_verb_names_it_and_asks_for_no_more(verbs: Verbs) -> None:
    verbs.account = Operated()
    for words in ("reconcile", "wait", "pause", "explain a"):
        done = verbs.sync(words, 3 if words == "wait" else 1, SRC_BUCKET=SOURCE, DST_BUCKET=MIRROR)
        assert f"there is no function {APP}-starter in us-east-1" in done.errors
        assert done.writes == []


def test_what_ctrl_c_ended_is_no_error_of_aws(verbs: Verbs, account: Operated) -> None:
    """The CLI catches it, prints an empty line, and ends with 130."""
    account.deny("GetCallerIdentity", CTRL_C)
    done = verbs.sync("redrive", 130)
    assert (done.output, done.errors) == ("", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_first_calls_ends_the_run_before_the_next(
    verbs: Verbs, account: Operated, number: signal.Signals
) -> None:
    """They are made by the scripts. Ctrl-C reaches all processes, SIGTERM the one that was started."""
    end = verbs.interrupt if number == signal.SIGINT else lambda: os.kill(verbs.process.pid, number)
    account.before = {"GetCallerIdentity": [end]}
    done = verbs.sync("redrive", 128 + number)
    assert ([call.operation for call in done.calls], done.output, done.errors) == (["GetCallerIdentity"], "", "")
    assert [*verbs.folder.glob("tmp.*")] == []


def test_a_duration_may_be_in_each_of_the_units() -> None:
    durations = {"90s": 90, "15m": 900, "2h": 7200, "3d": 259_200, "0m": None, "15": None, "m": None, "1w": None}
    assert {text: seconds_of(text) for text in durations} == durations


# logs


def test_hours_of_two_logs_are_shown_as_one_by_time_page_by_page(verbs: Verbs, account: Operated) -> None:
    """Of the function only what it wrote as a worker. The first page is shown before the next is asked for."""
    account.variables["STARTER_COPIES"] = "true"
    account.page, shown = 100, []
    for n in range(800):
        group, stream = (STARTER, "f/[$LATEST]0f") if n % 2 else (WORKERS, "worker/worker/a")
        line = f"START {n}" if n % 8 == 3 else f"{stamp()} INFO line {n}"
        account.write(line, stream=stream, group=group, ago=1000 - n)
    look: Callable[[], Any] = lambda: shown.append((verbs.folder / "output").read_text().count("\n"))  # noqa: E731
    account.before = {"FilterLogEvents": [look] * 8}
    done = verbs.sync("logs --since 1h")
    assert [int(line.split()[-1]) for line in done.output.splitlines()] == [n for n in range(800) if n % 8 != 3]
    assert 0 < shown[3] < shown[-1]
    assert "START 3\n" in verbs.sync("logs starter --since 1h").output
    asked = [given["logGroupName"] for given in verbs.sync("logs worker").sent("FilterLogEvents")]
    assert {*asked} == {WORKERS}


def test_a_log_that_is_followed_shows_each_line_once_whenever_it_arrives(verbs: Verbs, account: Operated) -> None:
    """CloudWatch Logs shows some lines later than others that are newer."""
    account.write(f"{stamp()} INFO first", ago=50)
    account.write(f"{stamp()} INFO newest")
    first, newest = (event for _, event in account.log[-2:])
    newest["timestamp"] = first["timestamp"] + 30_000  # so that the first is just read again

    def arrive(line: str, ago: float) -> Callable[[], Any]:
        return lambda: account.write(f"{stamp()} INFO {line}", ago=ago)

    late = [arrive("second", 40), arrive("late", 45), arrive("too late", 600)]
    account.before = {"FilterLogEvents": [lambda: None, *late, verbs.interrupt]}
    done = verbs.sync("logs --follow --json", 130, FOLLOW_PAUSE=0)
    lines = [json.loads(line)["message"].split()[-1] for line in done.output.splitlines()]
    assert lines == ["first", "newest", "second", "late"]
    assert len(done.sent("FilterLogEvents")) >= 3


# redrive

HIDDEN = "{} cannot be seen, because somebody else is looking at the dead-letter queue"


@pytest.mark.parametrize(
    ("statuses", "status"),
    [("COMPLETED", 0), ("RUNNING RUNNING COMPLETED", 0), ("FAILED", 1), ("RUNNING FAILED", 1), ("CANCELLED", 1)],
)
def test_messages_are_back_only_when_their_move_has_completed(
    verbs: Verbs, account: Operated, statuses: str, status: int
) -> None:
    account.parked, account.moves = [BODY], statuses.split()
    done = verbs.sync("redrive", status)
    assert ("1 message moved back to the queue" in done.errors) == (status == 0)
    assert ("could be moved back" in done.errors) == (status == 1)


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ("--list", 0, "nothing was moved; when"),
        ("", 1, "nothing was moved\n"),
        ("--purge --yes", 0, f"{APP}-dlq are deleted; ./sync.sh reconcile finds the keys that they named\n"),
    ],
)
def test_redrive_knows_of_messages_that_it_cannot_see(
    verbs: Verbs, account: Operated, words: str, status: int, said: str
) -> None:
    account.hidden = 3
    done = verbs.sync(f"redrive {words}", status)
    assert HIDDEN.format("3 messages") in done.errors
    assert said in done.errors
    assert account.hidden == (0 if "purge" in words else 3)
    assert done.sent("StartMessageMoveTask") == []


@pytest.mark.parametrize(
    ("shown", "hidden", "said"),
    [
        (0, 0, "the dead-letter queue is empty\n"),
        (23, 2, HIDDEN.format("2 messages")),
        (250, 0, "these are the first 100 of about 250 messages"),
    ],
)
def test_redrive_shows_what_it_sees_says_what_it_does_not_and_hides_nothing(
    verbs: Verbs, account: Operated, shown: int, hidden: int, said: str
) -> None:
    account.parked, account.hidden = [BODY] * shown, hidden
    done = verbs.sync("redrive --purge --yes --list --json")
    assert said in done.errors
    assert all((hint in done.errors) == (hint in said) for hint in ("cannot be seen", "first 100")), done.errors
    assert (account.parked, account.hidden) == ([BODY] * shown, hidden)
    assert len(done.json) == min(shown, 100)


def test_long_names_and_reasons_are_in_80_columns(verbs: Verbs, account: Operated) -> None:
    key, why = f"datasets/2026/a long {'k' * 40}.parquet", f'{WHY} message="Access Denied" advice="allow it" {"w" * 50}'
    account.parked = [message(key.replace(" ", "+")), "what somebody sent to it " * 8]
    account.write(failed(key, why))
    verbs.sync("redrive --list")
    account.task_log = [[lacking(key, f"trouble: {why}"), waited()]]
    assert too_wide(verbs.sync("wait", 1).output.partition("\n\n")[2]) == []


def test_each_message_has_the_reason_of_its_key_if_the_log_has_it(verbs: Verbs, account: Operated) -> None:
    """Also among thousands of lines. What is no event would come back, however deep it is nested."""
    account.write(*(failed(f"key {n}") for n in range(5000)), failed("key 7", "operation=X error=newest"))
    nested = "[" * 100_000
    event = json.dumps({"source": "aws.s3", "detail": {"object": {"key": "a+b"}}})
    account.parked = [message("key+7", "key+8", "key+9999"), event, nested]
    done = verbs.sync("redrive --list --json")
    assert done.output.count("\n") == 1
    first, second, third = done.json
    assert [(key["key"], key["reason"]) for key in first["keys"]] == [
        ("key 7", "operation=X error=newest"),
        ("key 8", WHY),
        ("key 9999", NOT_IN_LOG),
    ]
    assert second["keys"] == [{"at": None, "key": "a+b", "reason": NOT_IN_LOG}]
    assert (third["keys"], third["body"]) == ([], nested[:200])
    assert "the log has no failure of 2 keys:" in done.errors
    assert "1 of these is not an S3 event: if you move it back, it fails again" in done.errors
    assert "./sync.sh redrive --purge" in done.errors
    account.parked.append(nested)
    done = verbs.sync("redrive --purge --yes")
    assert "2 of these are not S3 events: if you move them back, they fail again" in done.errors
    assert "--purge" not in done.errors  # which this is


def test_messages_are_shown_and_moved_without_their_reasons_if_the_log_cannot_be_read(
    verbs: Verbs, account: Operated
) -> None:
    account.parked, account.query_ends = [BODY], ["Running", "Timeout"]
    done = verbs.sync("redrive --json")
    reason = done.json[0]["keys"][0]["reason"]
    assert reason.startswith("not known: log group ") and reason.endswith("a query ended as Timeout; try again")
    assert "1 message moved back" in done.errors
    account.parked, account.query_ends = [BODY], ["Scheduled", "Unknown"]
    assert verbs.sync("redrive --list --json").json[0]["keys"][0]["reason"] == NOT_IN_LOG


@pytest.mark.parametrize(("typed", "status"), [("y\n", 0), ("n\n", 1), ("\x04", 1), ("", 1)])
def test_only_a_yes_deletes(verbs: Verbs, account: Operated, typed: str, status: int) -> None:
    account.parked = [BODY]
    done = verbs.sync("redrive --purge", status, typed)
    assert bool(account.parked) == bool(status)
    assert ("nothing was deleted" in done.errors) == bool(status)
    assert ("use --yes" in done.errors) == (typed == "")
    question = f"Delete all messages of {APP}-dlq? Their keys stay as they are until they change again. [y/N] "
    assert (question in done.errors) == (typed != "")


# Tasks of their own: reconcile, wait, cost


def summary(form: str, end: str, status: int, **numbers: Any) -> str:
    return f"{stamp()} INFO {form % (end, status, ' '.join(f'{name}={value}' for name, value in numbers.items()))}"


def reconciled(end: str = "complete", status: int = 1, reported: int = 5, differences: int = 5) -> str:
    return summary(
        log_lines.RECONCILED, end, status, listed=9, missing=differences, differences=differences, reported=reported
    )


@pytest.mark.parametrize(
    ("given", "passed"),
    [
        ("--remove-unwanted --max-delete 50 --json", ["--remove-unwanted", "--max-delete", "50"]),
        ("--audit --prefix --remove-unwanted", ["--audit", "--prefix", "--remove-unwanted"]),
        ("--prefix $'a\\n--remove-unwanted'", ["--prefix", "a\n--remove-unwanted"]),
    ],
)
def test_a_task_gets_its_options_as_they_are_and_runs_on_demand_in_the_network_of_the_workers(
    verbs: Verbs, account: Operated, given: str, passed: list[str]
) -> None:
    account.task_log = [[reconciled(status=0)]]
    done = verbs.sync(f"reconcile {given}")
    assert f"task t2 compares s3://{SOURCE} and s3://{MIRROR}; its log:" in done.errors
    (run,) = done.sent("RunTask")
    assert run["overrides"]["containerOverrides"] == [{"name": "worker", "command": ["reconcile", *passed]}]
    assert run["capacityProviderStrategy"] == [{"capacityProvider": "FARGATE", "weight": 1}]
    assert (run["startedBy"], run["cluster"]) == (f"{APP}-reconcile", f"{APP}-cluster")
    network = run["networkConfiguration"]["awsvpcConfiguration"]
    assert (",".join(network["subnets"]), network["securityGroups"]) == (account.variables["SUBNETS"], ["sg-ours"])
    assert network["assignPublicIp"] == account.variables["ASSIGN_PUBLIC_IP"]


def test_the_setting_for_a_dry_run_holds_for_verbs_as_well(verbs: Verbs, account: Operated) -> None:
    account.parked, account.task_log = [BODY], [[reconciled(status=0)]]
    done = verbs.sync("redrive", DRY_RUN="true")
    assert (done.sent("StartMessageMoveTask"), account.parked) == ([], [BODY])
    (run,) = verbs.sync("reconcile --remove-unwanted", DRY_RUN="true").sent("RunTask")
    assert run["overrides"]["containerOverrides"][0]["command"] == ["reconcile", "--remove-unwanted", "--dry-run"]


FORGOTTEN = -1  # by ECS, an hour after its end


@pytest.mark.parametrize(
    ("verb", "code"), [("wait", 0), ("reconcile", 1), ("wait", 3), ("reconcile", None), ("reconcile", FORGOTTEN)]
)
def test_a_summary_that_the_log_dropped_does_not_decide_the_result(
    verbs: Verbs, account: Operated, verb: str, code: int | None
) -> None:
    account.task_log, account.exit_code = [[f"{stamp()} INFO syncing"]], code
    status, why = code, f"the task itself ended with exit status {code}"
    if code is None:
        status, why = 3, "without a summary: Essential container in task exited"
    if code == FORGOTTEN:
        account.before = {"DescribeTasks": [lambda: account.kept.pop("running t2")]}
        status, why = 3, "without a summary: no reason is known"
    done = verbs.sync(f"{verb} --json", status)
    more = {"missing_keys": []} if verb == "wait" else {}
    assert done.json == {"end": "without summary", "status": status} | more
    assert why in done.errors


@pytest.mark.parametrize(
    ("refusal", "calls", "said"),
    [
        (None, 1, ""),
        (Refused("AccessDeniedException", "not authorized to perform: ecs:TagResource"), 2, "started without tags"),
        # EC2 and SNS have codes of their own for it.
        (Refused("UnauthorizedOperation", "ecs:TagResource"), 2, "started without tags"),
        (Refused("AuthorizationErrorException", "ecs:TagResource"), 2, "started without tags"),
        (Refused("InvalidParameterException", "no such subnet"), 1, "no such subnet"),
    ],
)
def test_a_task_has_the_tags_of_its_definition_if_the_caller_may_give_them(
    verbs: Verbs, account: Operated, refusal: Refused | None, calls: int, said: str
) -> None:
    account.variables["TAG_TASKS"] = "true"
    account.task_log = [[reconciled(status=0)]]
    account.refusals = [("RunTask", refusal)] if refusal else []
    done = verbs.sync("reconcile", None)
    assert ["propagateTags" in run for run in done.sent("RunTask")] == [True, False][:calls]
    assert said in done.errors
    assert done.status == (1 if "subnet" in said else 0)


@pytest.mark.parametrize("started_by", [f"{APP}-reconcile", f"{APP}-audit"])
def test_two_comparisons_do_not_run_at_once(verbs: Verbs, account: Operated, started_by: str) -> None:
    account.variables["AUDIT_STARTED_BY"] = f"{APP}-audit"
    account.start("r1", started_by)
    done = verbs.sync("reconcile", 1)
    assert "task r1 is already comparing the buckets" in done.errors
    assert done.writes == []


# reconcile --report

KEYS = ["a b", 'say "hi"', "line\nbreak", "\u202eright to left", "plain"]
ALL = [
    f"{stamp()} INFO {log_lines.DIFFERENCE % (n, 'missing', log_lines.quoted(key))}" for n, key in enumerate(KEYS, 1)
]
WHOLE = [{"what": "missing", "key": key} for key in KEYS]


@pytest.mark.parametrize(
    ("looks", "status", "expected"),
    [
        ([[*ALL, reconciled()]], 1, WHOLE),
        ([[ALL[2], *ALL[:2], ALL[1], ALL[3], reconciled()], [], [ALL[4]]], 1, WHOLE),
        ([[*ALL[:2], *ALL[3:], reconciled()]], 3, "1 of 5 lines did not reach the log: try it again"),
        ([[*ALL, reconciled(differences=7)]], 3, "the first 5 of 7: run one --prefix after the other"),
        ([[*ALL, reconciled("stopped", 3)]], 3, "reconcile was stopped: see its log"),
        ([ALL], 3, "the summary did not reach the log"),
        ([[reconciled(status=0, reported=0, differences=0)]], 0, []),
    ],
)
def test_a_report_has_all_differences_in_their_order_or_says_why_not(
    verbs: Verbs,
    account: Operated,
    looks: list[list[str]],
    status: int,
    expected: list[dict[str, str]] | str,
    tmp_path: Path,
) -> None:
    account.task_log, account.exit_code = looks, 1
    file = tmp_path / "report"
    done = verbs.run_words("reconcile", "--dry-run", "--report", str(file), status=status)
    rows = [json.loads(row) for row in file.read_text().splitlines()]
    if isinstance(expected, str):
        assert rows.pop() == {"incomplete": expected}
        assert f"the report is incomplete: {expected}" in done.errors
        assert all(row in WHOLE for row in rows)
    else:
        assert rows == expected
    assert "difference number=" not in done.output + done.errors
    assert "\u202e" not in file.read_text()


def test_a_report_on_stdout_is_alone_there_and_one_that_cannot_be_written_starts_nothing(
    verbs: Verbs, account: Operated, tmp_path: Path
) -> None:
    account.task_log = [[*ALL, reconciled()]]
    done = verbs.sync("reconcile --report -", 1)
    assert [json.loads(row) for row in done.output.splitlines()] == WHOLE
    done = verbs.sync(f"reconcile --report '{tmp_path}/no/file'", 1)
    assert "/no/file cannot be written" in done.errors or "already comparing" in done.errors
    assert done.sent("RunTask") == []


# wait

PARKED_TOO = "; it is in the dead-letter queue: ./sync.sh redrive"


def lacking(key: str, why: str = "waiting") -> str:
    return f"{stamp()} WARNING {log_lines.LACKING % (log_lines.quoted(key), why)}"


def waited(end: str = "timeout", status: int = 1, missing: int = 2) -> str:
    return summary(log_lines.WAITED, end, status, keys=5, here=5 - missing, lacking=missing, seconds=60.1)


def missing(done: Ran) -> list[tuple[str, str]]:
    return [(row["key"], row["why"]) for row in done.json["missing_keys"]]


def test_a_key_that_is_missing_has_its_reason_from_the_log_and_the_dead_letter_queue(
    verbs: Verbs, account: Operated
) -> None:
    # Why by the task; the lines on failures, the newest first; whether it is parked -> why.
    table: list[tuple[str, list[str], bool, str]] = [
        ("waiting", [], False, "waiting"),
        ("waiting", [WHY], False, f"failing: {WHY}"),
        ("waiting", [WHY, "older"], False, f"failing: {WHY}"),
        ("waiting", [WHY], True, f"failing: {WHY}{PARKED_TOO}"),
        ("waiting", [], True, f"failing: {NOT_IN_LOG}{PARKED_TOO}"),
        ("archived: restore it", [WHY], True, "archived: restore it"),
        ("trouble: error=403", [WHY], False, f"failing: {WHY}"),
        ("trouble: error=403", [], False, "trouble: error=403"),
    ]
    rows = {f'{n} waited end=complete status=0" why=no \x01': row for n, row in enumerate(table)}
    rows |= {f"{n:01000}": table[0] for n in range(2100)}  # more than fits into the arguments of a program
    another = f"{stamp()} INFO {synced('x lacking key="y" why=z')}"
    account.task_log = [[another, *(lacking(key, row[0]) for key, row in rows.items()), waited()]]
    account.parked = [message(quote_plus(key)) for key, row in rows.items() if row[2]] + [message("other")]
    account.hidden = 2
    for age in (20, 10):
        for key, (_, lines, _, _) in rows.items():
            for why in lines[1:] if age == 20 else lines[:1]:
                account.write(failed(key, why), ago=age)
    account.write(failed("another key"))
    done = verbs.sync("wait --json", 1)
    assert missing(done) == [(key, row[3]) for key, row in rows.items()]
    assert HIDDEN.format("2 messages") in done.errors
    (query,) = done.sent("StartQuery")  # as far back as the oldest of their messages
    assert query["startTime"] < 1_700_000_000 < query["endTime"]


def test_a_timeout_names_the_keys_and_why_and_ends_with_1(verbs: Verbs, account: Operated) -> None:
    first, second = lacking("a b"), lacking("old", "archived")
    account.write(failed("a b"))
    account.task_log = [[second, waited()], [first]]  # a line that the log shows after the summary
    done = verbs.sync("wait --prefix 'p q' --timeout 5m --exact", 1)
    assert done.output.startswith(second)
    assert done.output.endswith(f'\nmissing:\n  "old"  archived\n  "a b"  failing: {WHY}\n')
    (run,) = done.sent("RunTask")
    command = ["wait", "--prefix", "p q", "--timeout", "5m", "--exact"]
    assert run["overrides"]["containerOverrides"][0]["command"] == command
    assert run["startedBy"] == f"{APP}-wait"
    assert f's3://{MIRROR} has everything under "p q" that s3://{SOURCE} has; it starts' in done.errors
    (query,) = done.sent("StartQuery")
    assert 10_800 <= query["endTime"] - query["startTime"] <= 10_990
    assert done.sent("StopTask") == []

    account.task_log = [[second, waited()]]
    done = verbs.sync("wait --examples 1", 1)
    assert done.output.endswith('  "old"  archived\n  and 1 more: --examples names more of them\n')
    assert done.sent("StartQuery") == []  # nothing only waits

    account.task_log, account.query_ends = [[first, waited()]], ["Failed"]
    done = verbs.sync("wait --json", 1)
    assert (len(done.output.splitlines()), missing(done)) == (1, [("a b", "waiting")])
    assert done.json | {"end": "timeout", "status": 1, "keys": 5, "here": 3, "lacking": 2} == done.json
    assert first in done.errors
    assert "could not be read" in done.errors

    account.task_log = [[waited("complete", 0, 0)]]
    assert verbs.sync("wait --prefix --timeout --json").json["missing_keys"] == []

    account.task_log = [[waited("empty", 1, 0)]]
    done = verbs.sync("wait --prefix typo --allow-empty --json", 1)
    assert (done.json["end"], missing(done), len(done.sent("StartQuery"))) == ("empty", [], 0)
    assert "--allow-empty" in done.sent("RunTask")[0]["overrides"]["containerOverrides"][0]["command"]


@pytest.mark.parametrize("operation", ["RunTask", "DescribeTasks"])
def test_what_goes_wrong_is_never_taken_for_a_timeout_and_leaves_no_task(
    verbs: Verbs, account: Operated, operation: str
) -> None:
    account.deny(operation)
    done = verbs.sync("wait", 3)
    assert len(done.sent("StopTask")) == (operation == "DescribeTasks")
    account.denied.clear()
    account.deny("DescribeTasks")
    account.deny("StopTask")
    assert "costs money. To stop it: aws ecs stop-task --region" in verbs.sync("wait", 3).errors


KEEPS_RUNNING = "task t2 keeps running; see its end with ./sync.sh logs, or stop it with aws ecs stop-task"
STOPPED = "task t2 is being stopped"


def test_a_comparison_that_cannot_be_watched_goes_on_and_states_no_difference(verbs: Verbs, account: Operated) -> None:
    account.deny("DescribeTasks")
    done = verbs.sync("reconcile", 3)
    assert KEEPS_RUNNING in done.errors
    assert done.sent("StopTask") == []


@pytest.mark.parametrize(
    ("verb", "sent", "moment", "said"),
    [
        ("wait", signal.SIGINT, "FilterLogEvents", STOPPED),
        ("wait", signal.SIGINT, "RunTask", STOPPED),  # when nobody knows its id yet
        ("wait", signal.SIGHUP, "DescribeTasks", STOPPED),
        ("wait", signal.SIGPIPE, "FilterLogEvents", STOPPED),  # such as of head, which has seen enough
        ("reconcile", signal.SIGINT, "FilterLogEvents", KEEPS_RUNNING),
        ("reconcile", signal.SIGTERM, "RunTask", KEEPS_RUNNING),
        ("cost", signal.SIGTERM, "FilterLogEvents", STOPPED),
    ],
)
def test_a_signal_stops_the_task_or_says_how_to(
    verbs: Verbs, account: Operated, verb: str, sent: signal.Signals, moment: str, said: str
) -> None:
    account.task_log = []
    account.before = {moment: [lambda: verbs.interrupt(sent)]}
    done = verbs.sync(verb, 128 + sent)
    assert said in done.errors
    assert len(done.sent("StopTask")) == (said == STOPPED)


# pause and resume

WRITES = {
    "worker-1": (f"{APP}-starter",),
    "worker-2": (f"{APP}-starter",),
    "reconcile-removes": (f"{APP}-reconcile", "reconcile", "--prefix", "a/", "--remove-unwanted"),
    "somebody-removes": ("somebody", "reconcile", "--remove-foreign"),
}
READS = {
    "reconcile": (f"{APP}-reconcile", "reconcile"),
    "reconcile-rehearses": (f"{APP}-reconcile", "reconcile", "--remove-unwanted", "--dry-run"),
    "audit": (f"{APP}-audit", "reconcile", "--audit"),
    "wait": (f"{APP}-wait", "wait"),
}


@pytest.mark.parametrize("is_reserved", [True, False])
def test_a_pause_ends_all_tasks_that_write_to_the_destination_and_no_other(
    verbs: Verbs, account: Operated, is_reserved: bool
) -> None:
    """Also a worker that the last run of the starter starts, which began before the pause. If several can run at once,
    nobody sees that it has ended. What somebody else changes of the function at the same time stays."""
    for name, task in (WRITES | READS).items():
        account.start(name, *task)

    def start_late() -> None:
        if account.variables.get("PAUSED_SINCE") and "running worker-late" not in account.kept:
            account.start("worker-late")

    def pass_time(seconds: float | str) -> None:
        start_late()
        time.sleep(float(seconds))  # the minute is one of the machine's clock

    account.before = {"UpdateFunctionConfiguration": [lambda: account.variables.update(MAX_WORKERS="9")]}
    if is_reserved:
        account.before["Invoke"] = [start_late]
    else:
        del account.kept[f"function {APP}-starter"]["concurrency"]
        account.pass_time = pass_time  # type: ignore[method-assign]
    done = verbs.sync("pause")
    assert "waiting: the function has just been changed" in done.errors
    assert account.variables["MAX_WORKERS"] == "9"
    assert (len(done.sent("Invoke")), f"waiting for the last run of {APP}-starter, at most " in done.errors) == (
        is_reserved,
        not is_reserved,
    )
    assert "running worker-late" in account.kept
    assert account.running() == {*READS}
    assert done.output == ""  # no answer of AWS
    for name in WRITES:
        assert (f"task {name} removes objects from the destination" in done.errors) == name.endswith("removes")
    assert f"paused since {account.variables['PAUSED_SINCE']}" in done.errors


def test_during_a_pause_nothing_is_removed_but_a_comparison_may_run(verbs: Verbs, account: Operated) -> None:
    verbs.sync("pause")
    since = account.variables["PAUSED_SINCE"]
    for words, status in (("wait", 3), ("verify --yes", 1), ("reconcile --remove-foreign", 1)):
        done = verbs.sync(words, status)
        assert f"the sync has been paused since {since}: " in done.errors
        assert done.writes == []
    for words in ("reconcile", "reconcile --remove-unwanted --dry-run"):
        account.kept.pop("running t2", None)
        account.task_log = [[reconciled(status=0)]]
        assert len(verbs.sync(words).sent("RunTask")) == 1
    assert f"the sync has been paused since {since}\n" in verbs.sync("pause").errors
    assert account.variables["PAUSED_SINCE"] == since
    assert f"the sync continues, after a pause since {since}" in verbs.sync("resume").errors
    assert verbs.sync("resume").errors == "the sync is not paused\n"


def test_pause_and_status_name_one_deadline_also_for_a_message_that_waited_before(
    verbs: Verbs, account: Operated
) -> None:
    account.waiting[""], account.figures = 1, [{"Timestamp": "2026-11-25T12:00:00Z", "Maximum": 3 * 86400.0}]
    said = re.search(r"wait in the queue,? until (\S+Z)", verbs.sync("pause").errors)
    assert said
    shown = verbs.sync("status --json").json["paused"]["events_until"]
    until, since = epoch(said[1]), epoch(account.variables["PAUSED_SINCE"])
    assert until - since == pytest.approx(11 * 86400, abs=300)
    assert epoch(shown) == pytest.approx(until, abs=300)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("moment", "said"),
    [
        ("UpdateFunctionConfiguration", "interrupted while the sync was being paused: ./sync.sh status shows"),
        ("StopTask", "interrupted: the sync stays paused since {}. What still runs may write until it ends: "),
    ],
)
def test_an_interrupted_pause_says_that_the_sync_stays_paused(
    verbs: Verbs, account: Operated, moment: str, said: str, number: signal.Signals
) -> None:
    """By Ctrl-C, which reaches all processes, or by SIGTERM, which reaches one: what that is doing is completed."""
    account.start("worker")

    def end() -> None:
        if number == signal.SIGINT:
            verbs.interrupt()
        else:
            os.kill(verbs.process.pid, number)

    account.before = {moment: [end]}
    done = verbs.sync("pause", 128 + number)
    assert said.format(account.variables["PAUSED_SINCE"]) in done.errors
    assert done.errors.count("interrupted") == 1
    assert done.calls[-1].operation == moment


@pytest.mark.parametrize("since", ["yesterday", "2026-13-45T00:00:00Z"])
def test_a_time_of_a_pause_that_is_none_is_a_fault_which_resume_and_pause_remove(
    verbs: Verbs, account: Operated, since: str
) -> None:
    unknown = "when the pause began is not known, because PAUSED_SINCE was not a time: "
    lasted = (
        f"{unknown}if it lasted longer than the 14 days for which the queue keeps a message, run ./sync.sh reconcile"
    )
    for verb, said in (("resume", lasted), ("pause", "nothing new is started")):
        account.variables["PAUSED_SINCE"] = since
        assert said in verbs.sync(verb).errors
        assert account.variables.get("PAUSED_SINCE") != since
    assert account.variables["PAUSED_SINCE"].startswith("20")
    account.variables["PAUSED_SINCE"] = "2026-01-01T00:00:00Z"
    assert "that is longer than the 14 days for which the queue keeps a message: run" in verbs.sync("resume").errors


# explain

THERE = {"Body": b"abc", "ETag": '"e"', "LastModified": "2026-11-27T10:00:00+00:00", "Size": 3}
MARKED = {"DeleteMarkers": [{"Key": "file://a", "IsLatest": True, "VersionId": "v2", "LastModified": "now"}]}


def deleted(account: Operated) -> None:
    account.s3_list_object_versions = lambda _: MARKED  # type: ignore[method-assign]


def listed(account: Operated, key: str = "file://a") -> None:
    account.objects[key] = dict(THERE)
    account.deny("HeadObject", "403", Bucket=SOURCE)


# The world, the verdict, and what is learned of a side.
LOOKS: dict[str, tuple[Callable[[Operated], Any], str, str, str]] = {
    "only in the source": (lambda a: a.objects.update({"file://a": THERE}), "missing", "source", '"etag": "e"'),
    "nowhere": (lambda _: None, "absent", "source", "null"),
    "deleted": (deleted, "absent", "source", '"version": "v2"'),
    "no bucket": (lambda a: a.deny("ListObjectVersions", "NoSuchBucket"), "unknown", "source", "NoSuchBucket"),
    "no versions": (lambda a: a.deny("ListObjectVersions"), "absent", "source", "s3:ListBucketVersions"),
    "no list": (
        lambda a: [a.deny("HeadObject", "403", Bucket=SOURCE), a.deny("ListObjectsV2", Prefix="file://a")],
        "unknown", "source", "s3:ListBucket on arn",
    ),
    "no object": (listed, "unknown", "source", '"listed": {"size": 3'),
    "a key that begins like it": (lambda a: listed(a, "file://ab"), "unknown", "source", 'with a KMS key"}'),
    "SSE-C": (lambda a: a.deny("HeadObject", "400", Bucket=SOURCE), "unknown", "source", "SSE-C"),
    "no key of checksums": (
        lambda a: [a.objects.update({"file://a": THERE}), a.deny("HeadObject", "403", ChecksumMode="ENABLED")],
        "missing", "source", '"etag": "e"',
    ),
    "no session": (lambda a: a.deny("HeadObject", Bucket=MIRROR), "unknown", "destination", "s3express:CreateSession"),
}  # fmt: skip


@pytest.mark.parametrize("case", LOOKS)
def test_a_look_that_s3_refuses_says_which_right_is_missing(verbs: Verbs, account: Operated, case: str) -> None:
    """Of a key that the CLI would take for the content of a file."""
    world, verdict, side, learned = LOOKS[case]
    world(account)
    found = verbs.sync("explain --json file://a", None).json
    assert (found["key"], found["verdict"]) == ("file://a", verdict)
    assert learned in json.dumps(found[side])


def test_explain_has_what_the_log_and_the_queues_know_of_a_key(verbs: Verbs, account: Operated) -> None:
    key = 'a "b" (1).c\n%ü'
    account.objects[key] = dict(THERE)
    account.parked, account.hidden = [message("a+%22b%22+%281%29.c%0A%25%C3%BC"), message("x")], 1
    account.write(failed("other"), failed(key))
    done = verbs.run_words("explain", "--json", key, status=1)
    found = done.json
    assert (found["verdict"], len(found["log"]), WHY in found["log"][0]) == ("missing", 1, True)
    assert [letter["reason"] for letter in found["dead_letters"]] == [WHY]
    assert "./sync.sh redrive" in found["advice"]
    assert HIDDEN.format("1 message") in done.errors
    account.query_ends = ["Failed"] * 2  # the other looks for the reasons of dead letters
    assert "log" in verbs.run_words("explain", "--json", key, status=1).json["not_known"]


# A terminal

AMBER = "\x1b[33m"
ERASED = "\r\x1b[K"


def test_the_word_of_status_has_its_colour_only_on_a_terminal_that_wants_it(verbs: Verbs, account: Operated) -> None:
    """The other words are in test_status.py, and a terminal for the errors alone is below."""
    account.decide(failures=["Capacity"])
    account.waiting[""] = 3
    assert verbs.run_words("status", shows="stdout").output.startswith(f"{AMBER}behind\x1b[0m\n")
    plain = verbs.run_words("status", shows="stdout", NO_COLOR="1")
    assert plain.output.startswith("behind\n")
    assert 'what to do about each reason: docs/operations.md, "Status"' in plain.errors
    assert verbs.run_words("status", shows="stdout", TERM="dumb").output.startswith("behind\n")
    assert verbs.run_words("status", "--json", shows="stdout").json["state"] == "behind"
    account.variables["PAUSED_SINCE"] = stamp()[:19] + "Z"
    assert verbs.run_words("status", shows="stdout").output.startswith(f"{AMBER}paused\x1b[0m\n")


def test_a_terminal_shows_progress_on_one_line_that_is_written_over_and_a_log_has_all(
    verbs: Verbs, account: Operated
) -> None:
    progress = f"{stamp()} INFO progress listed=%d missing=0 seconds=9.0 keys/s=90 folders=2/9 left=estimating"
    difference = f'{stamp()} INFO difference number=1 what=stale key="a"'
    lines = [f"{stamp()} INFO comparing", progress % 1, progress % 22, difference, reconciled(status=0)]
    account.task_log = [list(lines)]
    shown = [f"{ERASED}\x1b[?7lprogress: listed={n} keys/s=90 folders=2/9 left=estimating\x1b[?7h" for n in (1, 22)]
    done = verbs.run_words("reconcile", shows="stdout")
    before, rest = done.output.split(f"{lines[0]}\n{shown[0]}{shown[1]}{ERASED}")
    folded = rest.splitlines()
    assert (before, too_wide(rest), len(folded)) == ("", [], 2)
    assert " ".join(map(str.strip, folded)) == lines[-1]
    account.task_log = [list(lines)]
    del account.kept["running t2"]
    assert verbs.sync("reconcile").output.splitlines() == [line for line in lines if line != difference]


def test_a_terminal_shows_that_long_work_goes_on_and_folds_what_is_said(verbs: Verbs, account: Operated) -> None:
    def slow(given: Given) -> Any:
        time.sleep(1.5)  # for the second line
        return Operated.s3_list_objects_v2(account, given)

    account.s3_list_objects_v2 = slow  # type: ignore[method-assign]
    account.refusals = [("GetFunctionConfiguration", Refused("TooManyRequestsException", "Throttling"))] * 2
    done = verbs.run_words("status", shows="stderr")
    seen = done.errors
    assert done.output.startswith("idle\n")
    first, second = (f"{ERASED}\x1b[?7lstatus: asking AWS{more}\x1b[?7h" for more in ("", ": 1 s"))
    assert first in seen and second in seen
    assert (
        f"\x1b[?7l      waiting: AWS takes fewer calls at the moment (try 1 of 3, next in 5 s)\x1b[?7h{ERASED}" in seen
    )
    assert seen.endswith(ERASED) and "\n" not in seen
    assert "\x1b" not in verbs.run_words("status", shows="stderr", TERM="dumb").errors
    account.deny("GetFunctionConfiguration")
    folded = verbs.run_words("pause", shows="stderr", status=1).errors
    assert max(map(len, folded.splitlines())) <= 80
    assert " ".join(map(str.strip, folded.splitlines())) == verbs.sync("pause", 1).errors.strip()
