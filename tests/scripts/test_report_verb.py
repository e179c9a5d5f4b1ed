"""./sync.sh reconcile --report: each difference on a line, and never a report that only seems to be whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_wait_verb import STAMP, bash

from mirror.model import log_lines

KEYS = ["a b", 'say "hi"', "line\nbreak", "\u202eright to left", "plain"]


def line(number: int) -> str:
    return f"{STAMP} INFO {log_lines.DIFFERENCE % (number, 'missing', log_lines.quoted(KEYS[number - 1]))}"


def summary(end: str = "complete", status: int = 1, reported: int = 5, differences: int = 5) -> str:
    numbers = f"listed=9 missing={differences} seconds=1.0 keys/s=9 differences={differences} reported={reported}"
    return f"{STAMP} INFO {log_lines.RECONCILED % (end, status, numbers)}"


STUBS = "refuse_second() { :; }\nhint_at_waiting() { :; }\n"
ALL = [line(number) for number in range(1, 6)]
WHOLE = [{"what": "missing", "key": key} for key in KEYS]


@pytest.mark.parametrize(
    ("log", "late", "status", "expected"),
    [
        ([*ALL, summary()], "", 1, WHOLE),
        ([ALL[2], *ALL[:2], ALL[1], ALL[3], summary()], ALL[4], 1, WHOLE),
        ([*ALL[:2], *ALL[3:], summary()], "", 3, "1 of 5 lines did not reach the log: try it again"),
        ([*ALL, summary(differences=7)], "", 3, "the first 5 of 7: run one --prefix after the other"),
        ([*ALL, summary("stopped", 3)], "", 3, "reconcile was stopped: see its log"),
        (ALL, "", 3, "the summary did not reach the log"),
        ([summary(status=0, reported=0, differences=0)], "", 0, []),
    ],
)
def test_a_report_has_all_differences_in_their_order_or_says_why_not(
    log: list[str], late: str, status: int, expected: list[dict[str, str]] | str, tmp_path: Path
) -> None:
    file = tmp_path / "report"
    script = f"{STUBS}verb_reconcile --dry-run --report '{file}'"
    done = bash(script, tmp_path, LOG="\n".join(log), LATE=late, CODE=1)
    assert done.returncode == status, done.stderr
    rows = [json.loads(row) for row in file.read_text().splitlines()]
    if isinstance(expected, str):
        assert rows.pop() == {"incomplete": expected}
        assert f"the report is incomplete: {expected}" in done.stderr
        assert all(row in WHOLE for row in rows)
    else:
        assert rows == expected
    assert "difference number=" not in done.stdout + done.stderr
    assert not set("\u202e") & set(file.read_text())
    assert '"command":["reconcile","--dry-run","--report"]' in (tmp_path / "calls").read_text()


def test_a_report_on_stdout_is_alone_there_and_one_that_cannot_be_written_starts_nothing(tmp_path: Path) -> None:
    done = bash(f"{STUBS}verb_reconcile --report -", tmp_path, LOG="\n".join([*ALL, summary()]))
    assert [json.loads(row) for row in done.stdout.splitlines()] == WHOLE
    (tmp_path / "calls").unlink()
    done = bash(f"{STUBS}verb_reconcile --report '{tmp_path}/no/file'", tmp_path, LOG=summary())
    assert (done.returncode, (tmp_path / "calls").exists()) == (1, False)
    assert "/no/file cannot be written" in done.stderr
    done = bash(f"{STUBS}verb_reconcile --report - --json", tmp_path, LOG=summary())
    assert done.returncode == 2
