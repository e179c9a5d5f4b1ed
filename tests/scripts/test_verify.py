"""./sync.sh verify: what its rules say of facts (operate/verify/), and whole runs in worlds with something wrong."""

from __future__ import annotations

import itertools
import json
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from account import MIRROR, SOURCE
from operated import CTRL_C, Operated, Verbs, account, deployed, rows_of_report, stamp, verbs
from paper_account import Given

from mirror.model.log_lines import (
    FAILED,
    LAG,
    OUTAGE,
    OUTAGE_ENDS,
    OUTAGE_OVER,
    PARTS_BEGUN,
    SYNCED,
    UNCONDITIONAL,
    quoted,
    summary,
)
from mirror.protocol.objects import PROVENANCE
from operate import logs
from operate.verify import cases, chain, outcomes, speed, watch
from operate.verify.report import report as report_of

__all__ = ["account", "verbs"]
ROOT = Path(__file__).parents[2]
ASSUMPTIONS = json.loads((ROOT / "operate/verify/assumptions.json").read_text())
WHY = "operation=CopyObject error=AccessDenied"

# The link that is broken

BEGAN = f"ERROR {OUTAGE % (10, WHY)}"
OVER, ENDED = f"INFO {OUTAGE_OVER % 90}", f"ERROR {OUTAGE_ENDS % (600, WHY)}"
NOON = 1795608000  # 2026-11-25
FACTS = chain.Facts(
    names=chain.Names("src", "q", "fn", "r", "c", ""), faults=[], decisions=[], tasks=[], outages=[], messages=1,
    has_seen_event=True, has_written=False, left=["small"], is_over=False, elapsed=60, rate=60, began=NOON,
    now=NOON + 150,
)  # fmt: skip
DEAD = {"id": "t1", "status": "STOPPED", "created": NOON + 10, "started": None, "exit": None, "container_reason": None}
PULL = DEAD | {"code": "TaskFailedToStart", "reason": "CannotPullContainerError: no route"}
ENDED_WITH = {"started": NOON + 20, "exit": 2, "reason": "x", "container_reason": "y"}
EXITED = DEAD | ENDED_WITH | {"code": "EssentialContainerExited"}
REFUSED = {"visible": 3, "running": 0, "started": {}, "failures": ["Capacity is unavailable at this time"]}
STARTED = REFUSED | {"started": {"FARGATE": 1}, "failures": []}
RULE = {"link": "no event", "fault": "the rule is disabled", "cure": "./deploy.sh", "look": "aws events describe-rule"}
GONE = RULE | {"link": "no starter", "fault": "the function is gone"}
NOTHING = {"messages": 0, "has_seen_event": False}
RAN = {"decisions": [STARTED]}
NOW_OVER = {"is_over": True}
WROTE = {"has_written": True}


def outages(*lines: tuple[str, str, str], status: str = "RUNNING") -> dict[str, Any]:
    """Of a task that runs, or has stopped."""
    rows = [
        {"@logStream": f"worker/worker/{task}", "@message": f"2026-11-25T{clock}:00.000Z {line}"}
        for task, clock, line in lines
    ]
    ran = {"id": "a", "status": status, "created": NOON - 999, "code": "SpotInterruption"}
    return {"outages": logs.outages(rows), "tasks": [ran]} | RAN


@pytest.mark.parametrize(
    ("facts", "link", "why"),
    [
        ({"faults": [RULE, GONE]}, "no event", "the rule is disabled: ./deploy.sh"),
        (NOTHING | RAN, "", ""),
        (NOTHING | NOW_OVER | RAN, "no event", "the objects are in s3://src, but no message reached"),
        # A worker that has written of this run has had a message, whether one was seen or not.
        (NOTHING | NOW_OVER | WROTE | RAN, "no event", "the queue is empty, and no message named"),
        (NOW_OVER | WROTE | RAN, "no copy", "messages are waiting or in flight, and these did not arrive"),
        # The starter.
        ({}, "", ""),
        ({"elapsed": 211}, "no starter", "the rule is enabled, but fn has not run for 211 s"),
        (NOW_OVER, "no starter", "the rule is enabled, but fn has not run for 60 s"),
        ({"decisions": [{"error": "Task timed out"}]}, "", ""),  # one failure may be chance
        ({"decisions": [{"error": "one"}]} | NOW_OVER, "no starter", "the function fn fails: one"),
        ({"decisions": [{"error": "one"}, {"error": "two\rx"}]}, "no starter", "the function fn fails: two"),
        ({"decisions": [{"error": "one"}, {"error": "two"}, STARTED]}, "", ""),
        ({"decisions": [STARTED, {"error": "one"}]}, "", ""),
        # A task. One that stopped before the run began, or that Spot took back, is no sign.
        ({"tasks": [PULL]} | RAN, "no task", "task t1 stopped before it started: CannotPullContainerError: no route"),
        ({"tasks": [PULL]} | WROTE | RAN, "", ""),
        ({"tasks": [PULL | {"created": NOON - 1}]} | RAN, "", ""),
        ({"tasks": [EXITED]} | RAN, "no task", "task t1 ended with exit code 2: x (y)"),
        ({"tasks": [EXITED | {"exit": 0}]} | RAN, "", ""),
        ({"tasks": [EXITED | {"exit": None}]} | RAN, "", ""),
        ({"tasks": [DEAD | {"code": "SpotInterruption", "reason": "Spot"}]} | RAN, "", ""),
        ({"decisions": [REFUSED]}, "", ""),  # passes by itself
        ({"decisions": [REFUSED]} | NOW_OVER, "no task", "ECS did not start a worker: Capacity"),
        ({"decisions": [REFUSED | {"failures": ["InvalidSubnet"]}]}, "no task", "ECS did not start a worker: Inv"),
        ({"decisions": [REFUSED | {"failures": ["InvalidSubnet"], "running": 1}]}, "", ""),
        ({"tasks": [DEAD | {"status": "PENDING"}]} | NOW_OVER | RAN, "no task", "task t1 is still PENDING"),
        (NOW_OVER | RAN, "no task", "messages are waiting, but the starter has not started a worker"),
        # An outage: while it goes on after a minute, or if a worker ended in it since the run began.
        (outages(("a", "11:59", BEGAN)), "no copy", "since 2026-11-25T11:59:00.000Z no key can be synced: " + WHY),
        (outages(("a", "12:02", BEGAN)), "", ""),
        (outages(("a", "12:02", BEGAN)) | NOW_OVER, "no copy", "since 2026-11-25T12:02:00.000Z no key can"),
        (outages(("a", "11:59", BEGAN), status="STOPPED"), "", ""),
        (outages(("a", "11:59", BEGAN), ("a", "12:01", OVER)), "", ""),
        (outages(("b", "11:50", BEGAN), ("b", "12:00", ENDED)), "no copy", "for 600 s no key could be synced, and the"),
        (outages(("b", "11:49", BEGAN), ("b", "11:59", ENDED)), "", ""),
    ],
)  # fmt: skip
def test_the_link_that_broke_is_named_only_when_it_is_certain(facts: dict[str, Any], link: str, why: str) -> None:
    broken = chain.broken_links(FACTS._replace(**facts))
    assert [one.link for one in broken] == [link] * (link != ""), broken
    assert all(one.why.startswith(why) and one.command for one in broken), broken


def test_a_failure_of_a_key_counts_from_its_second_attempt_on_and_since_the_round_began() -> None:
    lines = [
        f"2026-11-25T{clock}.500Z ERROR {FAILED % (quoted(key), attempt, most, WHY)}"
        for key, clock, attempt, most in (
            ("before", "11:59:59", 2, 3), ("first", "12:00:00", 1, 3), ("second", "12:00:00", 2, 3),
            ("only", "12:00:09", 1, 1),
        )
    ]  # fmt: skip
    assert chain.counting_failures(logs.failures(lines), NOON) == {"second": WHY, "only": WHY}


# Whether a copy has arrived

LISTED = cases.Listed(3, "e", NOON)
SIDES = (None, LISTED, LISTED._replace(size=4))
OF_OTHERS, OF_SOURCE = {"Metadata": {PROVENANCE: "f"}}, {"Metadata": {PROVENANCE: f"{LISTED.identity}null"}}


def arrives(want: str, source: cases.Listed | None, destination: cases.Listed | None, copy: dict[str, Any]) -> bool:
    if want == "gone":
        return destination is None
    if source is None or destination is None:
        return False
    return destination == source if want == "listed" else copy == OF_SOURCE


@pytest.mark.parametrize("want", ["listed", "changed", "gone"])
def test_a_copy_has_arrived_when_both_sides_are_as_the_round_wants_them(want: str) -> None:
    for source, destination, copy in itertools.product(SIDES[:2], SIDES, ({}, OF_OTHERS, OF_SOURCE)):
        sides = ({"k": one} if one else {} for one in (source, destination))
        found = cases.has_arrived("small", "k", want, *sides, copy)
        assert found == arrives(want, source, destination, copy), (source, destination, copy)


# The result

CHECKS = ("small", "tagged", "encoded", "double", "trailing", "name", "changed", "multipart", "large")
ROW = {"state": "arrived", "bytes": "equal", "metadata": "equal", "checksum": "equal"}
NO_BYTES = {"state": "arrived", "bytes": "-", "metadata": "-", "checksum": "-"}
NO_TASK = chain.Break("no task", "w", "c")
WELL: dict[str, Any] = {
    "results": [ROW | {"name": name, "key": f"p/sync-verify-1/{name}"} for name in CHECKS]
    + [NO_BYTES | {"name": name, "key": f"p/sync-verify-1/{name}"} for name in ("deleted", "removed")],
    "synced": [], "copying": False, "bench": None, "versions": [], "source": "src", "mirror": "dst",
    "times": dict.fromkeys(watch.TASK_TIMES) | dict.fromkeys(("event", "received", "first", "last", "clock"))
    | {"started": 50, "by": "task", "busy": False},
    "breaks": [],
    "encoding": "gzip",
    "refused": set(),
    "page": {"keys": 12, "more": False},
    "conditions": {"copy": "PreconditionFailed", "part": "PreconditionFailed"},
    "etags": [("a", "b"), ("c", "d")],
}  # fmt: skip
PAGES = {"pages": {side: {"count": 3, "least": 3, "median": 12.34, "keys": 1000} for side in ("source", "destination")}}
BENCH: dict[str, Any] = PAGES | {
    "bytes": 1024, "copied": {"count": 99999, "workers": 99, "rate": 99999.9, "one": 0.04},
    "deleted": {"count": 99999, "rate": None}, "cpu_ms": 1234.5, "busy": 99999, "events": 30, "over_time": None,
    "large": {"size": 6442450944, "parts": 96, "rate": 12345.6, "gb_s": 123.45},
}  # fmt: skip
NOT_STARTED = {"times": WELL["times"] | {"started": None}}


def report(result: dict[str, Any]) -> str:
    return "\n".join([*report_of(WELL | result), ""])


def but(name: str, **changed: str) -> dict[str, Any]:
    """The run that went well, but for one object."""
    return {"results": [row | changed if row["name"] == name else row for row in WELL["results"]]}


@pytest.mark.parametrize(
    ("result", "well"),
    [
        ({}, True),
        *((but("small", state=state), False) for state in ("missing", "failed", "not asked")),
        (but("small", bytes="different"), False),
        (but("small", metadata="different: CacheControl"), False),
        (but("small", checksum="different"), False),
        (but("small", checksum="none"), True),
        ({"breaks": [chain.Break("no copy", "because", "x")]}, False),
    ],
)
def test_all_is_well_only_if_nothing_differs(result: dict[str, Any], well: bool) -> None:
    assert outcomes.is_well(WELL | result) == well
    assert report(result).startswith(f"# sync.sh verify: {'' if well else 'not '}all is well\n")


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, {}),
        ({"refused": {"DeleteObject"}}, {"conditional-delete": "refuted: refused"}),
        ({"refused": {"CompleteMultipartUpload"}}, {"conditional-complete": "refuted: refused"}),
        ({"bench": BENCH | {"pages": {"source": PAGES["pages"]["source"],
                                      "destination": {"count": 30, "least": 3, "median": 1, "keys": 100}}}},
         {"pages": "refuted: 100 keys in a page"}),
        ({"bench": None}, {"pages": "not tested"}),
        (but("double", state="failed"), {"double-slash": "refuted: not copied"}),
        (but("double", state="missing"), {"double-slash": "not tested"}),
        (but("tagged", metadata="different: CacheControl"), {"directives": "refuted: the copy differs"}),
        (but("multipart", state="not asked"), {}),
        ({"conditions": {"copy": "PreconditionFailed", "part": ""}}, {"source-condition": "refuted: ignored"}),
        ({"conditions": {"copy": "NotImplemented", "part": "x"}}, {"source-condition": "refuted: refused"}),
        ({"conditions": {"copy": "AccessDenied", "part": "AccessDenied"}}, {"source-condition": "not tested"}),
        ({"etags": [("a", "b"), ("c", "c")]}, {"new-etag": "refuted: the same again"}),
        (but("small", checksum="-"), {"checksum": "not tested"}),
        (NOT_STARTED, dict.fromkeys(("task-roles", "image"), "not tested")),
        (NOT_STARTED | {"breaks": [NO_TASK]}, dict.fromkeys(("task-roles", "image"), "refuted: no task")),
    ],
)  # fmt: skip
def test_what_a_run_shows_is_said_of_each_assumption(changed: dict[str, Any], expected: dict[str, str]) -> None:
    well = {name: "confirmed" for name, check in ASSUMPTIONS.items() if check}
    table = re.findall(r"^\| `([\w-]+)` +\| ([^|]+?) +\|$", report({"bench": BENCH} | changed), re.MULTILINE)
    assert dict(table) == well | expected


def test_what_did_not_arrive_refutes_nothing() -> None:
    nothing = NOT_STARTED | {"bench": None, "conditions": None, "etags": []}
    found = report(nothing | {"results": [row | {"state": "missing"} for row in WELL["results"]]})
    assert {*re.findall(r"^\| `[\w-]+` +\| ([a-z][a-z ]*[a-z]) +\|$", found, re.MULTILINE)} == {"not tested"}


# What --bench measures

NAME = "sync-verify-20261127T010203Z-1"
SMALL = f"p/{NAME}/bench/0/small-"
LARGE = f"p/{NAME}/large.bin"


def at(second: float, text: str) -> str:
    return f"2026-11-27T01:02:{second:06.3f}Z INFO {text}"


def synced(key: str, action: str = "copied", size: int = 1024, seconds: float = 0.1) -> str:
    return SYNCED % (quoted(key), action, size, seconds, LAG % 1.5)


# Two workers copy 11 objects within 5 s, the first of them 9 within 2 s; it deletes 3 within 1 s.
FIRST = [at(10 + n / 4, synced(f"{SMALL}{n}")) for n in range(9)] + [
    at(20 + n / 2, synced(f"{SMALL}{n}", "deleted", 0)) for n in range(3)
]
SECOND = [at(15, synced(f"{SMALL}x")), at(14.5, synced(f"{SMALL}y"))]
PARTS = [
    at(1, PARTS_BEGUN % (quoted(LARGE), 6442450944, 96, 67108864, 0)),
    at(2, f"Progress: 20/96 parts (20%) key={quoted(LARGE)}"),
    at(3, f"Progress: 96/96 parts (100%) key={quoted(LARGE)}"),
    at(3.2, synced(LARGE, size=6442450944, seconds=2.4)),
]  # fmt: skip
OTHERS = [at(0, synced(f"p/{NAME}/small.txt")), at(1, PARTS_BEGUN % (quoted(f"p/{NAME}/multipart.bin"), 9, 3, 3, 0))]
COUNTS = {"copied": 9, "deleted": 3, "busy": 2}
PAGE_SECONDS = {"source": [0.3, 0.1, 0.2], "destination": []}
MEASURED = speed.Measured(f"p/{NAME}/bench/", LARGE, objects=300, size=1024, events_in=0, page=100, pages=PAGE_SECONDS)


def figures(lines: dict[str, list[str]], *summaries: tuple[str, str]) -> dict[str, Any]:
    """Of 300 objects of 1024 bytes, put p/NAME/bench/."""
    ended = speed.summaries_of([speed.Line(stream, text) for stream, text in summaries])
    found = [speed.Line(stream, line) for stream, texts in lines.items() for line in texts]
    return speed.figures(MEASURED, found, ended)


def test_the_figures_are_those_of_the_log() -> None:
    ended = [(task, at(40, summary(COUNTS, 30, 0.24, False))) for task in ("worker/a", "worker/b", "worker/before")]
    found = figures({"worker/a": OTHERS + PARTS + FIRST, "worker/b": SECOND}, *ended)
    assert found["copied"] == {"count": 11, "workers": 2, "rate": 2, "one": 4}
    assert found["deleted"] == {"count": 3, "rate": 2}
    assert found["cpu_ms"] == pytest.approx(20)  # of the two that copied small objects
    assert found["busy"] == 6  # of all three
    assert found["large"] == {"size": 6442450944, "parts": 96, "rate": 48, "gb_s": pytest.approx(2.684, abs=0.001)}
    assert found["pages"]["source"] == {"count": 3, "least": 3, "median": 0.2, "keys": 100}
    assert (found["running"], found["over_time"]["seconds"]) == (0, 5)
    assert found["over_time"]["waiting"][::10] == [299, 295, 291, 291, 291]
    waiting, lag, time = report({"bench": found}).split("```\n")[1].splitlines()
    assert waiting == f"waiting {'█' * 50} 299 at first"
    assert time == "        the first copy, and 5 s later the last one"
    assert (set(lag[8:58]), lag[58:]) == ({" ", "█"}, " 1.5 s at most")


def test_what_the_log_does_not_say_is_not_known() -> None:
    old = at(40, "summary copied=9 deleted=3 skipped=0 failed=0 handed_back=0 bytes=9 seconds=30.0 objects/s=0.4")
    of_function = {"f/[$LATEST]1": [at(9, synced(f"{SMALL}z"))]}
    found = figures({"worker/a": FIRST, "worker/b": SECOND} | of_function, ("worker/a", old))
    assert (found["cpu_ms"], found["busy"], found["large"], found["running"]) == (None, None, None, 2)
    assert found["copied"]["workers"] == 3
    assert found["pages"]["destination"]["median"] is None


# The rows of both tables, and what they show if there is nothing to show.
FIGURES: dict[str, tuple[str, str]] = {
    "small objects copied": ("100000 a second | 99999 of 1024 bytes; workers: 99", "unknown"),
    "by one worker": ("0 a second | the one that copied most", "unknown"),
    "small objects deleted": ("1.5 a second | 99998 of them", "unknown"),
    "CPU time of a worker": ("1235 ms | for each copy or delete", "unknown"),
    "large object": ("50 MB/s | 6442450944 bytes", "123 GB/s"),
    "its parts": ("12346 a second | 96 parts", "unknown"),
    "page of the source": ("12340 ms | median of 3, 1000 keys each", "unknown"),
    "page of the destination": ("10 ms | median of 4, 999 keys each", "unknown"),
    "events in the queue": ("at most 30 s | after the last small object", "unknown"),
    "S3 was too busy": ("99997 times | beyond a client's own retries", "unknown"),
}
TIMES: dict[str, tuple[str, str]] = {
    "first message queued": ("at most 1 s | this clock", "unknown"),
    "task requested": ("2 s | ECS createdAt", "unknown"),
    "network attached": ("3.5 s | ECS connectivityAt", "unknown"),
    "pull of the image began": ("4 s | ECS pullStartedAt", "unknown"),
    "image pulled": ("5 s | ECS pullStoppedAt", "unknown"),
    "worker started": ("6 s | ECS startedAt", "unknown"),
    "first message received": ("ran already | the worker's log", "unknown"),
    "first copy": ("8 s | S3 LastModified", "unknown"),
    "last copy before changes": ("9 s | S3 LastModified", "unknown"),
    "(this clock is ahead by)": ("0.1 s | S3 LastModified", "unknown"),
}


@pytest.mark.parametrize("is_known", [True, False])
def test_each_figure_and_each_time_has_its_row_its_unit_and_what_it_was_measured_by(is_known: bool) -> None:
    times = WELL["times"] | {"started": None}
    found = BENCH | {
        "copied": dict.fromkeys(BENCH["copied"]), "deleted": dict.fromkeys(BENCH["deleted"]), "cpu_ms": None,
        "busy": None, "events": None, "large": {"gb_s": 123.45},
        "pages": {side: page | {"median": None} for side, page in PAGES["pages"].items()},
    }  # fmt: skip
    if is_known:
        names = ("event", "created", "connected", "pulling", "pulled", "started", "received", "first", "last", "clock")
        times |= dict(zip(names, (1, 2, 3.5, 4, 5, 6, -7, 8, 9, 0.1), strict=True))
        destination = {"count": 4, "least": 3, "median": 0.01, "keys": 999}
        found = BENCH | {
            "deleted": {"count": 99998, "rate": 1.46}, "busy": 99997, "large": BENCH["large"] | {"gb_s": 0.05},
            "pages": PAGES["pages"] | {"destination": destination},
        }  # fmt: skip
    shown = report({"bench": found, "times": times})
    rows = {name: " | ".join(cells) for name, *cells in cells_of(shown) if name in FIGURES | TIMES}
    if is_known:
        assert rows == {name: known for name, (known, _) in (FIGURES | TIMES).items()}
    else:
        assert {name: row.split(" | ")[0] for name, row in rows.items()} == {
            name: unknown for name, (_, unknown) in (FIGURES | TIMES).items()
        }


def cells_of(shown: str) -> list[list[str]]:
    """Of each row of a table with three columns."""
    rows = (line.strip("| ").split(" | ") for line in shown.splitlines() if line.count(" | ") == 2)
    return [[cell.strip() for cell in row] for row in rows]


# Whole runs


def assert_nothing_is_left(account: Operated) -> None:
    assert (account.objects, account.copies, account.versions) == ({}, {}, {})


def test_a_run_that_goes_well_says_so_publishes_no_names_and_leaves_nothing(verbs: Verbs, tmp_path: Path) -> None:
    file = tmp_path / "report.md"
    verbs.account = account = deployed(EVENT_SOURCE="eventbridge")
    account.variables.update(STARTER_COPIES="true", STARTER_MAX_SIZE="1000")
    done = verbs.run_words("verify", "--yes", "--report", str(file))
    assert done.output.startswith("# sync.sh verify: all is well\n")
    assert f"verify: the report is in {file}\n" in done.errors
    for what in ("AWS CLI", "Bash", "jq", "task definition", "image", "function"):
        assert re.search(rf"^- {what}:\s+\S", done.output, re.MULTILINE), what
    assert re.search(r"^- \d+ more that no run can show: docs/evidence\.md$", done.output, re.MULTILINE)
    assert "- options: EVENT_SOURCE=eventbridge, STARTER_COPIES=true," in done.output
    table = rows_of_report(done.output)
    assert [table[name][:3] for name in ("small.txt", "with space/größe € +%.txt", "*")] == [
        ["yes", "equal", "equal"], ["yes", "equal", "equal"], ["yes", "-", "-"]
    ]  # fmt: skip
    assert table["source-condition"] == table["new-etag"] == ["confirmed"]
    shown = re.sub(r"(?<!\d)\d{12}(?!\d)", "*" * 12, done.output)
    assert file.read_text() == shown.replace(MIRROR, "DST_BUCKET").replace(SOURCE, "SRC_BUCKET")
    assert_nothing_is_left(account)


def test_each_copy_that_differs_is_a_red_row_that_names_what(verbs: Verbs, account: Operated) -> None:
    changes: dict[str, dict[str, Any]] = {
        "small.txt": {"Body": b"x" * 36}, "empty.dat": {"ContentType": "text/csv", "ContentLanguage": "zh"},
        "file.json": {"CacheControl": "max-age=1"}, "tagged.txt": {"Metadata": {"colour": "red"}},
        "slash.txt": {"ContentDisposition": "inline"}, "trailing/": {"ChecksumCRC32": "bbbbbb=="},
    }  # fmt: skip
    checksum = {"ChecksumCRC32": "aaaaaa==", "ChecksumType": "FULL_OBJECT"}

    def as_copied(key: str, found: dict[str, Any]) -> dict[str, Any]:
        account.objects[key] |= checksum
        account.write(f"{stamp(-2)} INFO {synced(key, seconds=0)}", stream="worker/worker/a")
        account.write(f"{stamp(-3)} INFO {synced(key, seconds=10**9)}", stream="worker/worker/b")
        change = changes.get(key.split("/")[-1] or "trailing/", {})
        size = len(found["Body"])
        metadata = found.get("Metadata", {}) | change.get("Metadata", {})
        return found | checksum | change | {"Metadata": metadata, "Size": size}

    account.as_copied = as_copied
    account.start("a", createdAt=time.time() + 60, startedAt=time.time() + 90)
    done = verbs.run_words("verify", "--yes", status=1, shows="stdout")
    plain = re.sub("\x1b\\[[0-9]+m", "", done.output)
    times = {name: shown for name, shown, _ in cells_of(plain) if name in TIMES}
    for name in ("task requested", "worker started", "first message received"):  # of the task that copied first
        assert re.fullmatch(r"[0-9.]+ s", times[name]), times
    table = rows_of_report(plain)
    assert table["small.txt"][:3] == ["yes", "differ", "equal"]
    assert table["trailing/"][-1] == "differ"
    for key, what in (
        ("empty.dat", "ContentLanguage, ContentType"), ("nested/deeper/file.json", "CacheControl"),
        ("tagged.txt", "Metadata"), ("double//slash.txt", "ContentDisposition"),
    ):  # fmt: skip
        assert table[key][:3] == ["yes", "equal", "differ"]
        assert f"- `{key}`: metadata different: {what}\n" in plain
    red = [line for line in done.output.splitlines() if line.startswith("\x1b[31m")]
    assert len(red) == 1 + 6
    assert_nothing_is_left(account)


def test_a_destination_that_takes_less_than_aws_documents_refutes_assumptions(verbs: Verbs, account: Operated) -> None:
    """All is well nevertheless: conditions and Content-Encoding are refused, those on a source ignored, pages short.
    What a key says of a refusal is none."""
    copying, deleting = (
        f"{stamp(99)} WARNING {UNCONDITIONAL % f'operation={write} error=NotImplemented'}"
        for write in ("CopyObject", "DeleteObject")
    )
    account.write(copying, copying, f"{stamp(99)} INFO {synced(deleting)}", ago=99)
    account.denied.clear()
    usual = account.s3_list_objects_v2

    def in_pages(given: Given) -> Any:
        found, start = usual(given).get("Contents", []), int(given.get("ContinuationToken", 0))
        more = {"IsTruncated": True, "NextContinuationToken": str(start + 5)} if len(found) > start + 5 else {}
        return {"Contents": found[start : start + 5]} | more

    def as_copied(key: str, found: dict[str, Any]) -> dict[str, Any]:
        account.objects[key] |= {"ChecksumCRC32": "aaaaaa==", "ChecksumType": "FULL_OBJECT"}
        moved = {"Metadata": found.get("Metadata", {}) | {"sync-content-encoding": "gzip"}}
        encoding = found.pop("ContentEncoding", None)
        return found | {"ETag": '"same"'} | (moved if encoding else {})

    account.s3_list_objects_v2, account.as_copied = in_pages, as_copied  # type: ignore[method-assign]
    done = verbs.sync("verify --yes")
    assert rows_of_report(done.output)["encoded.txt"][:3] == ["yes", "equal", "equal"]
    found = dict(re.findall(r"^\| `([a-z-]+)` +\| refuted: (.*?) +\|$", done.output, re.MULTILINE))
    assert found == {
        "conditional-copy": "refused", "gzip": "kept as sync-content-encoding",
        "pages": "5 keys in a page", "source-condition": "ignored", "new-etag": "the same again", "checksum": "none",
    }  # fmt: skip
    assert_nothing_is_left(account)


def test_a_key_that_fails_is_named_by_its_reason_once_and_not_waited_for(verbs: Verbs, account: Operated) -> None:
    """From its second attempt on, or if it is the only one. Sizes that are not the source's have not arrived."""
    attempts = {"small.txt": "attempt=2/3 ", "empty.dat": "attempt=3/3 ", "tagged.txt": "attempt=1/3 ",
                "encoded.txt": "attempt=1/1 "}  # fmt: skip

    def as_copied(key: str, found: dict[str, Any]) -> dict[str, Any] | None:
        name = key.split("/")[-1]
        if name in attempts:
            account.write(f"{stamp(-5)} ERROR failed key={quoted(key)} {attempts[name]}{WHY} $x 'y")
            return None
        return found | {"Size": 1} if name == "slash.txt" else found

    account.as_copied = as_copied
    done = verbs.sync("verify --yes --timeout 2s", 1, FOLLOW_PAUSE=0.1)
    assert "put: not all after 2 s (--timeout)" in done.errors
    (line,) = (line for line in done.errors.splitlines() if line.startswith("verify: no copy: "))
    assert re.fullmatch(rf"verify: no copy: \S+\.(txt|dat) and 2 more: {re.escape(WHY)} \$x 'y", line)
    table = rows_of_report(done.output)
    assert {name for name, row in table.items() if row[0] == "no"} == {*attempts, "double//slash.txt"}
    assert "has not run for" in done.output.replace("\n  ", " ")
    assert_nothing_is_left(account)


def test_a_change_that_does_not_arrive_is_missing_although_the_object_is_there(verbs: Verbs, account: Operated) -> None:
    def as_copied(key: str, found: dict[str, Any]) -> dict[str, Any] | None:
        return None if key in account.copies and key.endswith("overwritten.txt") else found

    account.as_copied, account.waiting[""] = as_copied, 1
    done = verbs.sync("verify --yes --timeout 2s", 1, FOLLOW_PAUSE=0.1)
    assert "change: not all after 2 s (--timeout)" in done.errors
    table = rows_of_report(done.output)
    assert {name for name, row in table.items() if row[0] == "no"} == {"overwritten.txt"}
    assert table["*"][0] == "-"
    assert_nothing_is_left(account)


def test_a_broken_link_is_named_before_the_time_is_over(verbs: Verbs, account: Operated, tmp_path: Path) -> None:
    del account.kept[f"notifications {SOURCE}"]
    account.before = {"PutObject": [lambda: None] * 8 + [lambda: vars(account).update(follows=False)]}
    file = tmp_path / "report.md"
    done = verbs.run_words("verify", "--yes", "--timeout", "1h", "--report", str(file), status=1)
    fault = "no event reaches the queue: there is neither a notification of the bucket nor a rule"
    assert f"verify: no event: {fault}" in done.errors
    assert "--timeout" not in done.errors
    assert " copies were deleted in the destination directly, because it did not follow" in done.errors
    assert f"aws s3api get-bucket-notification-configuration --bucket {SOURCE}" in done.output.replace("\n  ", " ")
    assert SOURCE not in file.read_text()
    assert_nothing_is_left(account)


@pytest.mark.parametrize(
    ("denied", "said"),
    [
        (
            "",
            r"""s3://their-source: objects could not be deleted: \[\{"Key": "k"(?s:.*)objects may be left: aws s3 rm"""
            rf" --recursive 's3://{SOURCE}/(sync-verify-\S+/)', then the same for 's3://{MIRROR}/\1'\n",
        ),
        ("ListMultipartUploads", "an upload may be left, which costs as an object does: aws s3api list-multipart"),
    ],
)
def test_what_may_be_left_is_told_and_no_success(verbs: Verbs, account: Operated, denied: str, said: str) -> None:
    if denied:
        account.deny(denied, CTRL_C)
    else:
        errors = [{"Key": "k", "Code": "AccessDenied", "Message": "no"}]
        account.s3_delete_objects = lambda _: {"Errors": errors}  # type: ignore[method-assign]
    done = verbs.sync("verify --yes --large --timeout 10s", 1, VERIFY_LARGE_PARTS=2, VERIFY_LARGE_PART_BYTES=9)
    assert re.search(said, done.errors), done.errors


@pytest.mark.parametrize("put", [0, 5])
def test_ctrl_c_removes_what_was_put(verbs: Verbs, account: Operated, put: int) -> None:
    """What is being put when it comes is waited for. Of what was not begun, nothing is to be removed."""
    moments = [lambda: None] * put + [lambda: verbs.interrupt(signal.SIGINT)]
    account.before = {"PutObject" if put else "GetQueueAttributes": moments}
    done = verbs.sync("verify --yes", 130)
    assert ("verify: removing what was uploaded" in done.errors) == bool(put)
    assert account.writes >= put
    assert_nothing_is_left(account)


ASKED = (
    rf"This puts \d+ objects into\n  s3://{SOURCE}/sync-verify-",
    rf"and waits for their copies in\n  s3://{MIRROR}/sync-verify-",
    r"Then it pauses the sync for one or two minutes, puts 3000 small objects,\nand resumes the sync\.\n",
    "all of it is removed afterwards,\non both sides",
    "nothing was done: there is no terminal to ask on; use --yes",
)


def test_nobody_to_ask_is_no_consent(verbs: Verbs, account: Operated) -> None:
    done = verbs.sync("verify --bench", 1)
    for said in ASKED:
        assert re.search(said, done.errors), said
    assert max(map(len, verbs.run_words("verify", status=1, shows="stderr").errors.splitlines())) <= 80
    assert (done.writes, account.objects) == ([], {})


def test_what_the_workers_would_leave_out_is_not_uploaded(verbs: Verbs) -> None:
    verbs.account = deployed(EXCLUDE="*.dat")
    done = verbs.sync("verify --yes", 1)
    assert (
        "nothing was uploaded: EXCLUDE=*.dat is deployed, and its pattern *.dat leaves out sync-verify-" in done.errors
    )
    assert done.writes == []


OTHERS_PAUSE = "2026-11-27T00:00:00Z"


@pytest.mark.parametrize("moment", ["", "interrupted", "refused", "paused by others"])
def test_the_pause_of_a_bench_ends_whatever_happens_and_that_of_others_does_not(
    verbs: Verbs, account: Operated, moment: str
) -> None:
    happens = {
        "interrupted": {"Invoke": [lambda: verbs.interrupt(signal.SIGINT)]},
        "paused by others": {"PutObject": [lambda: account.variables.update(PAUSED_SINCE=OTHERS_PAUSE)]},
    }
    account.before = happens.get(moment, {})
    account.start("w1")
    if moment == "refused":
        account.deny("StopTask")
    status = {"": 0, "interrupted": 130}.get(moment, 1)
    done = verbs.sync("verify --bench --yes", status, VERIFY_SMALL_OBJECTS=9 if moment else 1200, FOLLOW_PAUSE=0.1)
    others = moment == "paused by others"
    assert account.variables.get("PAUSED_SINCE") == (OTHERS_PAUSE if others else None)
    assert (f"somebody has paused the sync since {OTHERS_PAUSE}" in done.errors) == others
    if not moment:
        assert "\nverify: the sync goes on\n" in done.errors
        assert account.running() == set()
        assert re.search(r"^\| page of the source +\| 500 ms +\|", done.output, re.MULTILINE), done.output
        assert {1000, 200} <= {len(one["Delete"]["Objects"]) for one in done.sent("DeleteObjects")}
    assert_nothing_is_left(account)
