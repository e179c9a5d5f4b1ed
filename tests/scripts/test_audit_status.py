"""What ./sync.sh status says of audits (AUDIT_DAYS)."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sourced import bash, printed
from status_parts import IDLE
from test_sync import NOON, gathered, status_of

from launch.audit import newest_slot
from mirror.model.log_lines import AUDITED

DAY = 86_400
OF_AN_AUDIT = "listed=5 compared=3 missing=0 seconds=0.2 keys/s=25"


def line(age: float, level: str, end: str, status: int, found: int) -> str:
    """Of an audit that ended this many days ago."""
    at = datetime.fromtimestamp(NOON - age * DAY, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.500Z {level} {AUDITED % (end, status, found, OF_AN_AUDIT)}"


EQUAL = line(2, "INFO", "complete", 0, 0)


def status(days: int, *lines: str, **parts: Any) -> tuple[str, list[str], str]:
    """(the one word, the reasons, the row)."""
    script = gathered("audit", f"describe_audit {days}") if days else ""
    rows = [{"@message": text} for text in lines]
    found, output = status_of(parts, script, ROWS=rows)
    row = "".join(line[14:] for line in output.splitlines() if line.startswith("audit "))
    return found["state"], found["reasons"], row


def test_without_audits_nothing_is_said() -> None:
    assert status(0) == ("idle", [], "")


@pytest.mark.parametrize(("days", "hour"), [(1, 12), (7, 12), (90, 12), (1, 1), (7, 1), (1, 3)])
def test_the_next_slot_is_that_of_the_starter(days: int, hour: int) -> None:
    now = NOON + (hour - 12) * 3600
    slot = newest_slot(now, days) + days * DAY
    script = f"now() {{ echo {now}; }}; query() {{ echo '[]'; }}; describe_audit {days}"
    assert json.loads(printed(script))["next"] == f"{datetime.fromtimestamp(slot, UTC):%Y-%m-%dT%H:%M:%SZ}"


@pytest.mark.parametrize(("found", "days"), [("[]", [2, 9]), ('[{"@message": "x"}]', [2])])
def test_the_query_reaches_back_to_the_last_audit_but_one_day(found: str, days: list[int], tmp_path: Path) -> None:
    """First only as far as that of a daily one, as a query costs by what it reads."""
    printed(f"query() {{ printf '%s\\n' \"$*\" >>'{tmp_path}/asked'; printf '%s' '{found}'; }}; describe_audit 7")
    asked = (tmp_path / "asked").read_text().splitlines()
    assert [line.split(" fields ")[0] for line in asked] == [f"worker {day * DAY}" for day in days]
    assert all("sort @timestamp desc | limit 1" in line for line in asked)


@pytest.mark.parametrize(
    ("text", "word", "row"),
    [
        (EQUAL, "idle", "2 days ago: both buckets equal; the next one 20"),
        (EQUAL.replace(" seconds=", " foreign=5 seconds="), "idle", "both buckets equal, and 5 foreign objects, which"),
        (line(0.5, "ERROR", "complete", 0, 3), "idle", "12 h ago: 3 differences, put on the queue; "),
        (line(2, "ERROR", "stopped", 3, 0), "failing", "it was stopped (exit status 3), its log says why; "),
        (line(2, "ERROR", "complete", 1, 2), "failing", "2 differences, not all of them fixed; "),
        (line(7.9, "INFO", "complete", 0, 0), "idle", "7 days ago: both buckets equal; "),
        (line(8.1, "INFO", "complete", 0, 0), "failing", "8 days ago: both buckets equal; "),
    ],
)
def test_the_last_audit_is_told_and_one_that_failed_or_is_too_old_is_failing(text: str, word: str, row: str) -> None:
    found = status(7, text)
    assert found[0] == word
    assert bool(found[1]) == (word == "failing")
    assert row in found[2]


@pytest.mark.parametrize(("age", "word"), [(7 * DAY, "idle"), (8 * DAY + 60, "failing")])
def test_an_audit_that_never_was_is_failing_when_one_should_have_been(age: int, word: str) -> None:
    found = status(7, function_age=age)
    assert (found[0], found[2].startswith("none in the log; the next one ")) == (word, True)
    assert word == "idle" or "no audit has finished for 8 days" in found[1][0]


def test_what_the_starter_says_of_an_audit_is_a_reason() -> None:
    decision = IDLE["starter"]["decision"] | {"audit": {"problem": "no audit could be started: no room"}}
    found = status(7, EQUAL, starter=IDLE["starter"] | {"decision": decision})
    assert found[:2] == ("failing", ["an audit was to start or run: no audit could be started: no room"])


def test_a_run_of_the_starter_that_speaks_of_audits_without_a_problem_is_none() -> None:
    decision = IDLE["starter"]["decision"] | {"audit": {"running": True}}
    assert status(7, EQUAL, starter=IDLE["starter"] | {"decision": decision})[0] == "idle"


# Which calls: describe_tasks stands for ECS, starter_setting for the starter's variables.
BESIDE = """
describe_tasks() {
  printf 'asked %s\\n' "$2" >&2
  if [[ $2 == *-audit ]]; then echo '[{"id": "a1"}]'; else echo '[]'; fi
}
die() { echo "$*" >&2; exit 1; }
starter_setting() { printf '%s\\n' "$AUDITS"; }
refuse_second 2>&1
"""


def test_a_reconcile_is_refused_beside_an_audit() -> None:
    done = bash(BESIDE, AUDITS="s3-to-s3express-sync-audit")
    assert done.returncode == 1
    assert "task a1 is already comparing the buckets" in done.stdout


def test_by_default_nobody_asks_for_audits() -> None:
    assert printed(BESIDE, AUDITS="").splitlines() == ["asked s3-to-s3express-sync-reconcile"]
