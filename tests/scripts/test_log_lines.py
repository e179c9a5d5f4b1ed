"""What the worker writes (mirror/model/log_lines.py) is what the verbs (operate/logs.py) and the dashboard look for."""

import itertools
import json
import re
import unicodedata
from typing import Any

import pytest
from botocore.exceptions import ClientError
from documents import printed, widgets

from local import insights
from mirror.model.errors import describe
from mirror.model.log_lines import (
    AUDITED,
    FAILED,
    IT_NO_LONGER,
    LACKING,
    LAG,
    OUTAGE,
    OUTAGE_ENDS,
    OUTAGE_OVER,
    RECONCILED,
    REMOVED_FIRST,
    SYNCED,
    WAITED,
    WAITS,
    quoted,
)
from operate import logs, usage

KEY = 'a "b" \\ é\t.txt'
STAMP = "2026-11-25T01:02:03.456Z"
DENIED = "operation=CopyObject error=AccessDenied"


def line(level: str, form: str, *values: Any) -> str:
    """As configure_logging() of mirror/log_writer.py has it written."""
    return f"{STAMP} {level} {form % values}"


SYNCED_LINE = line("INFO", SYNCED, quoted(KEY), "copied", 1024, 0.25, LAG % 1.5)
DELETED_LINE = line("INFO", SYNCED, quoted(KEY), "deleted", 0, 0.25, "")
FAILED_LINE = line("ERROR", FAILED, quoted(KEY), 2, 3, f'{DENIED} message="no"')
RECONCILED_LINE = line("INFO", RECONCILED, "complete", 0, "listed=5 missing=1 seconds=0.2 keys/s=25")
AUDITED_LINES = [
    line("INFO", AUDITED, "complete", 0, 0, "listed=5 missing=0 foreign=5 seconds=0.2 keys/s=25"),
    line("ERROR", AUDITED, "stopped", 3, 2, "listed=5 missing=2 seconds=0.2 keys/s=25"),
]
WAITED_LINE = line("INFO", WAITED, "timeout", 1, "keys=5 here=3 lacking=2 seconds=60.1")
LACKING_LINE = line("WARNING", LACKING, quoted("x waited end=complete status=0"), "waiting")
REASON = f'{DENIED} message="no: never"'
OUTAGE_LINES = [
    line("ERROR", OUTAGE, 10, REASON),
    line("INFO", OUTAGE_OVER, 12),
    line("ERROR", OUTAGE_ENDS, 600, REASON),
]
WHY = 'trouble: operation=HeadObject error=403 message="no: never"'
SINCE = "2026-11-24T01:02:03Z"
MARKER_LINES = [
    line(level, WAITS, quoted(KEY), 3, quoted("a/"), quoted("a/x: y"), WHY, SINCE) for level in ("INFO", "WARNING")
]
REMOVED_LINE = line("INFO", REMOVED_FIRST, quoted("x INFO marker key="), IT_NO_LONGER)
IN_A_KEY = line("INFO", SYNCED, quoted("x ERROR outage: 1 keys"), "copied", 1, 0.25, "")
AUDITED_IN_A_KEY = line("INFO", SYNCED, quoted("2026 ERROR audited end="), "copied", 1, 0.25, "")
# What Lambda writes, in the text format: the runtime of Python (awslambdaric, bootstrap.py: log_error), Lambda itself.
REQUEST = "RequestId: 8f507cfc-0000-4000-8000-5a6b7c8d9e0f"
OF_A_RUN = [
    f"START {REQUEST} Version: $LATEST",
    f"END {REQUEST}",
    f"REPORT {REQUEST}\tDuration: 3000.00 ms\tBilled Duration: 3000 ms\tMemory Size: 128 MB\tStatus: timeout",
]
DECISION = json.dumps({"visible": 3, "in_flight": 0, "failures": []})
FAILURES = [
    "[ERROR] ValueError: wrong settings: MAX_WORKERS='many'",
    f"{STAMP} 8f507cfc-0000-4000-8000-5a6b7c8d9e0f Task timed out after 60.06 seconds",
    f"{REQUEST} Error: Runtime exited with error: signal: killed",
    f"{REQUEST} Error: Runtime exited without providing a reason",
]
ENDED_ITSELF = f"{REQUEST} Error: Runtime exited with error: exit status 1"  # after its report
ODD_KEYS = [
    line("ERROR", FAILED, quoted(key), 1, 3, "operation=HeadObject error=403")
    for key in ('{"visible": 1', "[ERROR] x", "Task timed out after 1 s", FAILURES[2])
]


STARTED = json.dumps({"visible": 3, "started": {"FARGATE_SPOT": 1}})
# Lines on keys that hold other lines, or what is looked for in them.
FORGED = [
    line("INFO", REMOVED_FIRST, quoted(text), IT_NO_LONGER)
    for text in (
        SYNCED_LINE,
        FAILED_LINE,
        RECONCILED_LINE,
        " ERROR failed key=",
        " synced key=x lag=1",
        STARTED,
        '"started": {"FARGATE',
    )
]
SIGNS = [chr(number) for number in range(0x10000) if not 0xD800 <= number < 0xE000]
# By Unicode's data: control characters, what ends a line or a paragraph, and what changes the direction of text.
TURNS = {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}
UNSEEN = "".join(
    sign
    for sign in SIGNS
    if unicodedata.category(sign) in {"Cc", "Zl", "Zp"} or unicodedata.bidirectional(sign) in TURNS
)
SEEN = "".join(sign for sign in SIGNS if sign not in UNSEEN)


def in_bash(script: str, text: str = "") -> str:
    return printed(script, text).strip()


def rows(*lines: str) -> str:
    return json.dumps([{"@message": text} for text in lines])


@pytest.mark.parametrize(
    ("pattern", "found", "not_found"),
    [
        ("SYNCED_LINE", [SYNCED_LINE, DELETED_LINE], [FAILED_LINE, RECONCILED_LINE, *FORGED]),
        ("FAILED_LINE", [FAILED_LINE], [SYNCED_LINE, RECONCILED_LINE, *FORGED]),
        ("OUTAGE_LINE", OUTAGE_LINES, [IN_A_KEY, FAILED_LINE, RECONCILED_LINE]),
    ],
)
def test_a_pattern_finds_its_line_and_no_other(pattern: str, found: list[str], not_found: list[str]) -> None:
    lines = "\n".join([*found, *not_found])
    assert in_bash(f'grep -E "${pattern}"', lines).splitlines() == found


@pytest.mark.parametrize(
    ("pattern", "found", "not_found"),
    [
        (logs.SYNCED_LINE, [SYNCED_LINE, DELETED_LINE], [FAILED_LINE, RECONCILED_LINE, *FORGED]),
        (f"{logs.SYNCED_LINE}.*{logs.LAG_START}", [SYNCED_LINE], [DELETED_LINE, FAILED_LINE, *FORGED]),
        (logs.FAILED_LINE, [FAILED_LINE], [SYNCED_LINE, RECONCILED_LINE, *FORGED]),
        (usage.STARTED_LINE, [STARTED], FORGED),
        (usage.SIZE.replace("(?<", "(?P<"), [SYNCED_LINE, DELETED_LINE], [FAILED_LINE, RECONCILED_LINE, *FORGED]),
        (logs.AUDITED_LINE, AUDITED_LINES, [IN_A_KEY, AUDITED_IN_A_KEY, FAILED_LINE, RECONCILED_LINE, WAITED_LINE]),
        (logs.OUTAGE_LINE, OUTAGE_LINES, [IN_A_KEY, FAILED_LINE, RECONCILED_LINE]),
        (logs.WORKER_LINE, [SYNCED_LINE, FAILED_LINE, *OUTAGE_LINES, *ODD_KEYS], [DECISION, *FAILURES, *OF_A_RUN]),
        (logs.WAITS_LINE, MARKER_LINES, [SYNCED_LINE, REMOVED_LINE, FAILED_LINE]),
        (
            logs.DECISION_OR_FAILURE,
            [DECISION, *FAILURES],
            [ENDED_ITSELF, *OF_A_RUN, *OUTAGE_LINES, SYNCED_LINE, *ODD_KEYS],
        ),
    ],
)
def test_a_query_finds_its_lines_and_no_others(pattern: str, found: list[str], not_found: list[str]) -> None:
    assert [text for text in [*found, *not_found] if re.search(pattern, text)] == found


def test_the_summary_of_a_task_is_its_last_line_and_no_other() -> None:
    found = [text for text in (*AUDITED_LINES, SYNCED_LINE, LACKING_LINE, *FORGED) if logs.summary(text)]
    assert found == []
    wanted = {"end": "complete", "status": 0, "listed": 5, "missing": 1, "seconds": 0.2, "keys/s": 25}
    assert logs.summary(RECONCILED_LINE) == wanted
    wanted = {"end": "timeout", "status": 1, "keys": 5, "here": 3, "lacking": 2, "seconds": 60.1}
    assert logs.summary(WAITED_LINE) == wanted


def test_what_is_not_seen_is_escaped_in_a_key_and_comes_back_from_there() -> None:
    """The same by the worker and by the scripts, and nothing else is."""
    shown = {text: quoted(text) for text in [*map("".join, itertools.batched(SIGNS, 1000, strict=False)), KEY, UNSEEN]}
    assert not set(UNSEEN) & {sign for text in shown.values() for sign in text}
    assert [text for text, one in shown.items() if json.loads(one) != text] == []
    in_jq = in_bash("""jq -r "$JQ_TEXT"'.[] | tojson | visible'""", json.dumps([*shown]))
    assert in_jq.split("\n") == [*shown.values()]
    assert quoted(SEEN) == json.dumps(SEEN, ensure_ascii=False)


def test_what_is_not_seen_reaches_no_terminal_from_a_log_or_as_json() -> None:
    shown = in_bash("visible_lines", UNSEEN.replace("\n", ""))
    assert set(shown) & set(UNSEEN) <= {"\t"}
    given = json.dumps([{"body": UNSEEN}], ensure_ascii=False)
    assert json.loads(in_bash("visible_lines", given)) == [{"body": UNSEEN}]


@pytest.mark.parametrize("forged", [RECONCILED_LINE, *OUTAGE_LINES, SYNCED_LINE, FAILED_LINE])
def test_the_message_of_an_error_is_one_text_whatever_key_is_in_it(forged: str) -> None:
    """AccessDenied names the resource, and so the key."""
    message = f'not authorized to perform: s3:GetObject on resource: "arn:aws:s3:::b/x" advice="run rm"\n{forged}\x9b'
    error = ClientError({"Error": {"Code": "AccessDenied\n", "Message": message}}, "CopyObject")
    text = line("ERROR", FAILED, quoted("x"), 1, 3, describe(error))
    assert not set(text) & set(UNSEEN)
    told = re.fullmatch(r'.* error=AccessDenied\\u000a message=("(?:\\.|[^"\\])*")', text)
    assert told, text
    assert json.loads(told[1]) == message
    assert describe(ValueError(message)) == f"error=ValueError message={quoted(message)}"


KEYS = [KEY, "a/_SUCCESS", "a.b*(c)+[d]{1}|^$?é", "a-b c"]
SYNCED_KEYS = [line("INFO", SYNCED, quoted(key), "copied", 1, 0.25, "") for key in [*KEYS, "axb", "a/_SUCCESS2", "x"]]


def test_the_alarm_counts_the_lines_that_an_outage_begins_and_ends_with() -> None:
    """CloudWatch Logs User Guide, "Filter pattern syntax": no groups, and no space in a regular expression."""
    pattern = in_bash('printf "%s" "$OUTAGE_FILTER"')
    assert re.fullmatch(r"%[\w^\\+]+%", pattern)
    lines = [*OUTAGE_LINES, IN_A_KEY, SYNCED_LINE, FAILED_LINE]
    assert [text for text in lines if re.search(pattern.strip("%"), text)] == [OUTAGE_LINES[0], OUTAGE_LINES[2]]


def test_the_dashboard_counts_what_a_worker_writes_and_no_words_of_a_key() -> None:
    words = (" action=copied size=9 seconds=1", '" action=copied size=9 seconds=1 lag=7', " ERROR failed key=")
    odd = [line("INFO", SYNCED, quoted(f"x{text}"), "deleted", 0, 0.25, "") for text in words]
    other = line("INFO", SYNCED, quoted("x"), "copied", 1000, 0.25, LAG % 0.5)
    lines = [*odd, *FORGED, SYNCED_LINE, other, FAILED_LINE, OUTAGE_LINES[0]]
    found: list[dict[str, Any]] = [{"@timestamp": 65_000, "@logStream": "t", "@message": text} for text in lines]
    shown, last = {}, []
    for widget in widgets():
        if widget["type"] == "log":
            rows = insights.answer(widget["properties"]["query"].split(" | "), found)
            if widget["properties"]["title"] == "Last failures":
                last = [row["@message"] for row in rows]
            else:
                shown |= rows[0]
    assert last == [FAILED_LINE, OUTAGE_LINES[0]]
    assert shown == {
        "bin(1m)": "1970-01-01 00:01:00.000", "copies": 2, "deletes": 3, "failures": 1, "bytes": 2024, "p50": 0.5,
        "p99": 1.5, "workers": 1,
    }  # fmt: skip


def test_the_synced_lines_of_given_keys_are_found() -> None:
    """Whatever is in the key, the filter finds its lines and no others, in a query that is not too long."""
    pattern = logs.synced_of(KEYS)
    assert not re.search(r"(?<!\\)/", pattern)
    assert [text for text in SYNCED_KEYS if re.search(pattern, text)] == SYNCED_KEYS[:4]
    long = logs.synced_of([f"{number}/{'.' * 900}" for number in range(12)])
    assert 4000 < len(long) < 10_000
