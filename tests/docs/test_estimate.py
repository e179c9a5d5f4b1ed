"""`./sync.sh cost --estimate`: the figures of docs/costs.md, without AWS; what it asks for, and what it refuses."""

import json
import os
import pty
import re
import subprocess
from pathlib import Path
from typing import Any

import cost
import modes_cost
import pytest

ROOT = Path(__file__).parents[2]
PLAIN = {"PATH": os.environ["PATH"], "REGION": "us-east-1", "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
# One Bash for all: settings and options of each estimate on a line.
MANY = r"""
source "$0/sync.sh"
source_verbs cost
while read -r line; do
  (eval "$line --json")
done
"""
PAGE = (ROOT / "docs/costs.md").read_text()
ARRIVALS = {
    "10 files of 1 GB a day, one by one": "--files 10 --size 1GB",
    "10,000 files of 10 MB a day, in one batch": "--files 10000 --size 10MB --arrival burst",
    "10,000 files of 10 MB a day, all day long": "--files 10000 --size 10MB --arrival spread",
    "backfill of 100 TB in files of 10 GB": "--files 10000 --size 10GB --arrival once",
}
LOADS = {
    "no file": "--files 0",
    "1 file a day": "--files 1",
    "100, spread out": "--files 100",
    "100, in one burst": "--files 100 --arrival burst",
    "10,000, spread out": "--files 10000",
    "10,000, in one burst": "--files 10000 --arrival burst",
}
MODES = {
    "the defaults": "",
    "`EVENT_SOURCE=eventbridge`": "EVENT_SOURCE=eventbridge",
    "`EVENT_SOURCE=eventbridge STARTER_COPIES=true`": "EVENT_SOURCE=eventbridge STARTER_COPIES=true",
    "`MIN_WORKERS=1`": "MIN_WORKERS=1",
    "all three": "EVENT_SOURCE=eventbridge STARTER_COPIES=true MIN_WORKERS=1",
}


def estimates(lines: list[str]) -> list[dict[str, Any]]:
    """Each line is settings and options."""
    settings = (line.partition("estimate ") for line in lines)
    given = "\n".join(f"{before} estimate_cost --estimate {after}".strip() for before, _, after in settings)
    done = subprocess.run(
        ["bash", "-c", MANY, ROOT], env=PLAIN, input=given + "\n", capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    decoder, found, rest = json.JSONDecoder(), [], done.stdout.strip()
    while rest:
        one, end = decoder.raw_decode(rest)
        found.append(one)
        rest = rest[end:].strip()
    assert len(found) == len(lines)
    return found


def table_of(page: str, first_cell: str) -> dict[str, dict[str, str]]:
    """Of the table with this first column's title and this many others: row -> column -> cell."""
    header, *rows = next(
        [[cell.strip(" *") for cell in line.strip("|").split(" | ")] for line in block.splitlines()]
        for block in page.split("\n\n")
        if block.startswith("| USD |") and first_cell in block.splitlines()[0]
    )
    return {row[0]: dict(zip(header[1:], row[1:], strict=True)) for row in rows[1:]}


def usd(text: str) -> float:
    return float(text.replace(",", ""))


def test_it_says_what_the_page_says_of_a_month() -> None:
    rows = table_of(PAGE, "10 files of 1 GB")
    found = estimates([f"estimate {options}" for options in ARRIVALS.values()])
    assert rows["Sync, a month"].keys() == ARRIVALS.keys()
    for name, estimate in zip(ARRIVALS, found, strict=True):
        assert estimate["sync_usd"] == pytest.approx(usd(rows["Sync, a month"][name]), abs=0.0051), name
        assert estimate["storage"]["usd"] == pytest.approx(
            usd(rows["Storage of these files, a month"][name]), abs=0.0051
        )
        hours = sum(row["quantity"] for row in estimate["rows"] if row["price_name"] == "ipv4_hour")
        assert hours == pytest.approx(usd(rows["Worker hours"][name]), abs=0.051), name


def test_it_says_what_the_page_says_of_each_mode() -> None:
    """Before the free tier the page leaves out the alarms and the dashboard that every deployment has."""
    rows = table_of(PAGE, "1 file a day")
    cases = [(mode, load) for mode in MODES for load in LOADS]
    lines = [f"{MODES[mode]} estimate {LOADS[load]} --size 100KB" for mode, load in cases]
    (plain,) = estimates(["estimate --files 0 --size 1"])
    common = sum(row["usd"] for row in plain["rows"] if row["price_name"] in ("alarm_month", "dashboard_month"))
    assert rows.keys() == MODES.keys()
    for (mode, load), found in zip(cases, estimates(lines), strict=True):
        before, after = map(usd, re.fullmatch(r"(\S+) \((\S+)\)", rows[mode][load]).groups())
        assert found["sync_usd"] == pytest.approx(after, abs=0.0101), (mode, load)
        assert found["sync_usd"] - found["free_usd"] - common == pytest.approx(before, abs=0.0101), (mode, load)
        by_mode = {one["settings"]: one["usd"] for one in found["modes"]}
        if mode.strip("`") in by_mode:
            assert by_mode[mode.strip("`")] == pytest.approx(found["sync_usd"], abs=0.0101)


def test_what_is_kept_goes_by_the_settings_or_by_what_is_said() -> None:
    month, week, said, lever = estimates(
        [
            "estimate --files 10 --size 1GB",
            "KEEP_DAYS=7 estimate --files 10 --size 1GB",
            "estimate --files 10 --size 1GB --keep 2500.5",
            "estimate --files 10 --size 1GiB --keep 900",
        ]
    )
    assert [one["storage"]["quantity"] for one in (month, week, said)] == [300, 70, 2500.5]
    saved = {one["lever"]: one["usd"] for one in lever["levers"]}
    assert saved["KEEP_DAYS=7"] == pytest.approx((900 - 70 * 1.073741824) * 0.11, abs=0.01)


def test_announced_keys_cost_the_same_beside_failures() -> None:
    none, with_all, both = estimates(
        [f"ANNOUNCE={value} estimate --files 100000 --size 1MB" for value in ("failures", "all", "all,failures")]
    )
    assert none["sync_usd"] < with_all["sync_usd"] == both["sync_usd"]


def ask(words: list[str], answers: str | None) -> tuple[int, str]:
    """Exit status and output of `./sync.sh cost --estimate`; with answers on a terminal."""
    command = [ROOT / "sync.sh", "cost", "--estimate", *words]
    if answers is None:
        done = subprocess.run(command, env=PLAIN, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr
    ours, theirs = pty.openpty()
    os.write(ours, answers.encode())
    done = subprocess.run(command, env=PLAIN, stdin=theirs, capture_output=True, text=True)
    os.close(ours)
    os.close(theirs)
    return done.returncode, done.stdout + done.stderr


def test_it_asks_a_person_for_what_it_does_not_know() -> None:
    status, output = ask([], "a few\n10000\n10\nburst\n\n")
    assert status == 0
    assert "that is not a whole number" in output
    assert "estimated for 10000 files of 10 bytes a day, in one burst" in output
    assert max(len(line) for line in re.split(r"\n|: ", output)) <= 80


@pytest.mark.parametrize(
    ("words", "status", "complaint"),
    [
        ([], 2, "--estimate needs --files, a whole number: there is no terminal to ask on"),
        (["--files", "3"], 2, "--estimate needs --size, a size such as 100KB"),
        (["--files", "3", "--size", "big"], 2, "--size big is not a size such as 100KB, 10MB or 1GB"),
        (["--files", "3", "--size", "1MB", "--arrival", "late"], 2, "--arrival late is not spread, burst or once"),
        (["--files", "3", "--size", "1MB", "--days", "3"], 2, "--estimate cannot be combined with --days"),
        (["--files", "3", "--size", "1MB", "--keep", "all"], 2, "--keep all is not a number of GB"),
    ],
)
def test_what_it_cannot_work_with_is_refused(words: list[str], status: int, complaint: str) -> None:
    found, output = ask(words, None)
    assert (found, complaint in output) == (status, True), output


def test_a_setting_that_deploy_would_refuse_is_refused() -> None:
    command = [ROOT / "sync.sh", "cost", "--estimate", "--files", "1", "--size", "1"]
    done = subprocess.run(command, env=PLAIN | {"MIN_WORKERS": "3"}, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "MIN_WORKERS=3 is more than MAX_WORKERS=2" in done.stderr


def test_without_jq_it_asks_nothing_and_says_what_to_install() -> None:
    script = 'source "$0/sync.sh"; source_verbs cost; type() { [[ $2 != jq ]]; }; estimate_cost --estimate'
    done = subprocess.run(["bash", "-c", script, ROOT], env=PLAIN, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "- jq is not installed: install the package jq" in done.stderr


def test_the_rules_behind_it_are_those_of_the_tables() -> None:
    text = (ROOT / "lib/estimate.jq").read_text()
    given = {name: float(value) for name, value in re.findall(r"^def (\w+): ([0-9.]+);", text, re.MULTILINE)}
    assert given == {
        "days_a_month": modes_cost.DAYS_A_MONTH,
        "busy_seconds": modes_cost.BUSY_SECONDS_PER_OBJECT,
        "gb_a_second": 2,
        "seconds_a_gb": cost.SCENARIOS[0].busy_seconds,
        "look_seconds": modes_cost.LOOK_SECONDS,
        "copy_seconds": modes_cost.COPY_RUN_SECONDS,
        "copy_most_seconds": modes_cost.COPY_MOST_SECONDS,
        "event_age_seconds": modes_cost.EVENT_AGE_SECONDS,
        "copies_alone": modes_cost.COPIES_ALONE,
        "run_log_bytes": modes_cost.LOG_BYTES_PER_RUN,
    }
