"""`./sync.sh cost --estimate`: sums by hand, without AWS; what it asks for, what it refuses, what pages quote."""

import itertools
import json
import os
import pty
import re
import subprocess
from collections import Counter

import cost
import pytest
from pages import ROOT, chinese_of, in_both, text_of

from launch.copying import FEW_MESSAGES, MOST_SECONDS
from operate import estimate
from operate.bill import for_json

PLAIN = {"PATH": os.environ["PATH"], "REGION": "us-east-1", "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
# What months are added up of by hand, in USD: list prices of us-east-1.
PUT, LOOK_AT_SOURCE, LOOK_AT_DESTINATION = 1.13e-6, 0.4e-6, 0.03e-6
SQS, EVENT, RUN, GB_SECOND = 0.4e-6, 1e-6, 0.2e-6, 13.3334e-6
WORKER_HOUR = 0.8 * (2 * 0.01030969 + 4 * 0.00113349) + 0.2 * (2 * 0.03238 + 4 * 0.00356) + 0.005
MINUTES, POLLS_AN_HOUR = 43_800, 180
IMAGE, ALARM, DASHBOARD = 0.006, 0.10, 3.00


def month(copies: int, gb: float, of_each: float = PUT + 2 * LOOK_AT_SOURCE) -> Counter[str]:
    """The starter looks each minute, and these are copied."""
    return Counter(
        {"bytes": gb * 0.0032, "requests": copies * of_each, "queue": (3 * copies + MINUTES) * SQS}
        | {"function": MINUTES * (RUN + 0.125 * GB_SECOND), "logs": copies * 300e-9 * 0.5}
        | {"image": IMAGE, "fixed": 5 * ALARM + DASHBOARD}
    )


def workers(seconds: float) -> Counter[str]:
    hours = seconds / 3600
    return Counter({"workers": hours * WORKER_HOUR, "queue": hours * POLLS_AN_HOUR * SQS})


def runs(number: int, seconds: float, gb: float) -> Counter[str]:
    """Of the function, one for each event, with the alarm of these; each asks the queue twice."""
    return Counter(
        {"function": number * (RUN + seconds * gb * GB_SECOND), "logs": number * 600e-9 * 0.5}
        | {"events": number * EVENT, "queue": 2 * number * SQS, "fixed": ALARM}
    )


# The sum, and how many GB are stored
MONTHS: dict[str, tuple[Counter[str], float]] = {
    ";0;1KB;spread": (month(0, 0), 0),
    # 300 tasks: 40 s to start, 15 s of copying, 60 s of empty polls.
    ";10;1GB;spread": (month(300, 300) + workers(300 * 115), 300),
    # Two tasks a day that share 60 s of work.
    ";10000;10MB;burst": (month(300_000, 3000) + workers(30 * 260), 3000),
    # One object as large as one request copies it, which takes a worker 15 s for each GB.
    ";1;4GB;burst": (month(30, 120) + workers(30 * (100 + 60)), 120),
    # 150 parts each, between a request that begins them and one that ends them; the destination is looked at, too.
    ";10000;10GB;once": (
        month(10_000, 100_000, 152 * PUT + 3 * LOOK_AT_SOURCE + LOOK_AT_DESTINATION) + workers(2 * 100 + 10_000 * 5),
        100_000,
    ),
    # The function copies: 3,000 runs of 2 s with half a GB.
    "EVENT_SOURCE=eventbridge STARTER_COPIES=true;100;100KB;spread": (month(3000, 0.3) + runs(3000, 2, 0.5), 0.3),
    # A worker that always runs; a run for each event looks for 0.15 s; an event for each copy.
    "EVENT_SOURCE=eventbridge MIN_WORKERS=1 ANNOUNCE=all;10000;100KB;spread": (
        month(300_000, 30) + workers(730 * 3600) + runs(300_000, 0.15, 0.125) + Counter({"events": 300_000 * EVENT}),
        30,
    ),
}
ITEMS = {
    "bytes": ("express_upload_gb",),
    "requests": cost.REQUESTS,
    "events": ("event",),
    "workers": cost.WORKERS,
    "queue": ("sqs_request",),
    "function": cost.FUNCTION,
    "logs": ("logs_gb",),
    "image": ("image_gb_month",),
    "fixed": ("alarm_month", "dashboard_month"),
}
FREE = {"queue": 1_000_000 * SQS, "function": 1_000_000 * RUN + 400_000 * GB_SECOND, "logs": 5 * 0.5, "fixed": 10}


def test_the_rules_say_of_a_month_what_one_adds_up_by_hand() -> None:
    for (case, (items, gb)), found in zip(MONTHS.items(), cost.estimates(*MONTHS), strict=True):
        free = sum(min(items[name], most) for name, most in FREE.items())
        sums = {name: cost.usd(found, *prices) for name, prices in ITEMS.items()}
        assert sums == pytest.approx({name: items[name] for name in ITEMS}, abs=1e-8), case
        assert found["before_free_usd"] == pytest.approx(items.total()), case
        assert found["free_usd"] == pytest.approx(-free), case
        assert found["sync_usd"] == pytest.approx(items.total() - free), case
        assert found["storage"]["usd"] == pytest.approx(gb * 0.11), case


def test_settings_and_what_is_kept_change_the_sum() -> None:
    plain, without, config, week, kept = cost.estimates(
        ";0;1KB;spread", "DASHBOARD=false;0;1KB;spread", ";300;1KB;spread", "KEEP_DAYS=7;10;1GB;spread", ";10;1GiB;;900"
    )
    assert plain["before_free_usd"] - without["before_free_usd"] == pytest.approx(3)
    assert any("54.00 more if AWS Config" in note for note in config["notes"])  # 9,000 tasks, 2 * 0.003
    assert (week["storage"]["quantity"], kept["storage"]["quantity"]) == (70, 900)
    saved = {one["lever"]: one["usd"] for one in kept["levers"]}
    assert saved["KEEP_DAYS=7"] == pytest.approx((900 - 70 * 1.073741824) * 0.11, abs=0.01)
    values = ("failures", "all", "all,failures")
    none, with_all, both = (one["sync_usd"] for one in cost.estimates(*(f"ANNOUNCE={v};100000;1MB;" for v in values)))
    assert none < with_all == both


def test_the_modes_below_it_are_what_it_says_with_their_settings() -> None:
    found = cost.estimates(*(f"{settings};100;100KB;spread" for settings in cost.MODES.values()))
    by_mode = {name.strip("`"): one["sync_usd"] for name, one in zip(cost.MODES, found, strict=True)}
    for one in found:
        assert {mode["settings"]: pytest.approx(mode["usd"]) for mode in one["modes"]}.items() <= by_mode.items()


@pytest.mark.parametrize(
    "case", [*MONTHS, "KEEP_DAYS=7 METRICS=true AUDIT_DAYS=7 IMAGE_URI=i TASK_CPU=1024;1;1.5GiB;burst;900"]
)
def test_the_command_says_what_the_rules_say_with_the_settings_of_a_deployment(case: str) -> None:
    settings, *load = case.split(";")
    options = zip(("--files", "--size", "--arrival", "--keep"), load, strict=False)
    given = dict(setting.split("=") for setting in settings.split())
    status, output = ask(["--json", *itertools.chain(*options)], None, **given)
    (found,) = cost.estimates(case)
    assert (status, json.loads(output)) == (0, for_json(found))


def ask(words: list[str], answers: str | None, **settings: str) -> tuple[int, str]:
    """Exit status and output of `./sync.sh cost --estimate`; with answers on a terminal."""
    command, ours, theirs = [ROOT / "sync.sh", "cost", "--estimate", *words], *pty.openpty()
    os.write(ours, (answers or "").encode())
    source = subprocess.DEVNULL if answers is None else theirs
    done = subprocess.run(command, env=PLAIN | settings, stdin=source, capture_output=True, text=True)
    os.close(ours)
    os.close(theirs)
    return done.returncode, done.stdout + done.stderr


def test_it_asks_a_person_for_what_it_does_not_know_and_says_what_is_free() -> None:
    status, output = ask([], "a few\n0\n10\nburst\n\n")
    sums = dict(re.findall(r"^(sync, \D+?) +([0-9.]+) *$", output, re.MULTILINE))
    assert (status, sums) == (0, {"sync, if the free tier is used up": "3.61", "sync, a month": "0.01"})
    assert "AWS Config" not in output  # without tasks
    assert max(len(line) for line in re.split(r"\n|: ", output)) <= 80


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (">/dev/full", "standard output cannot be written: No space left on device"),
        (">&-", "standard output is closed, so nothing could be shown: open it, for example with >/dev/null"),
    ],
)
def test_if_what_it_says_cannot_be_written_that_is_all_that_it_says(output: str, said: str) -> None:
    command = f"exec '{ROOT}/sync.sh' cost --estimate --files 0 --size 1 {output}"
    done = subprocess.run(["bash", "-c", command], env=PLAIN, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"sync.sh: {said}\n")


@pytest.mark.parametrize(
    ("words", "settings", "named"),
    [
        ("", {}, "--files"),
        ("--files 3", {}, "--size"),
        ("--files 3 --size big", {}, "--size big"),
        ("--files 3 --size 1MB --arrival late", {}, "--arrival late"),
        ("--files 3 --size 1MB --days 3", {}, "--days"),
        ("--files 3 --size 1MB --keep all", {}, "--keep all"),
        ("--files 1 --size 1", {"MIN_WORKERS": "3"}, "MIN_WORKERS=3 is more than MAX_WORKERS=2"),
    ],
)
def test_what_it_cannot_work_with_is_refused(words: str, settings: dict[str, str], named: str) -> None:
    found, output = ask(words.split(), None, **settings)
    assert (found, named in output) == (2, True), output


def test_the_rules_of_the_function_are_those_of_the_product() -> None:
    assert (estimate.COPIES_ALONE, estimate.COPY_MOST_SECONDS) == (FEW_MESSAGES, MOST_SECONDS)
    function = (ROOT / "lib/resources/function.sh").read_text()
    assert f"--maximum-event-age-in-seconds {estimate.EVENT_AGE_SECONDS}" in function


# The pages


@in_both("docs/costs.md")
def test_the_figures_beside_the_tables_of_costs_are_those_that_are_computed(page: str) -> None:
    text = text_of(page)
    assert f"{cost.worker_hour():.4f}" in text
    assert cost.PRICES_OF in text
    (paragraph,) = (part for part in text.split("\n\n") if "100,000" in part and "733" in part)
    computed = set(re.findall(r"[\d.,]*\d", cost.line_of_burst()))
    assert computed <= set(re.findall(r"[\d.,]*\d", paragraph))


def test_what_a_million_small_objects_cost_is_the_same_everywhere() -> None:
    """New ones; those that are looked at first; those that overwrite others and are not, so that a copy is refused."""
    price = {name: cost.PRICE[name] * 1e6 for name in cost.REQUESTS}
    new = cost.usd(cost.bill(used={"copies": 10**6}), *cost.REQUESTS)
    looked_at = new + price["express_get_request"]
    overwritten = looked_at + price["express_put_request"] + price["standard_get_request"]
    design = text_of("docs/design.md")
    assert f"cost {looked_at:.2f} instead of {overwritten:.2f}, and new ones {looked_at:.2f} instead of {new:.2f}" in (
        design.replace("\n", " ")
    )
    assert f"{new * 1000:,.0f} USD" in text_of("docs/performance.md")  # of a billion
    for page in ("docs/costs.md", chinese_of("docs/costs.md")):
        assert {f"{looked_at - new:.2f}", f"{overwritten - new:.2f}"} <= set(re.findall(r"\d[\d,.]*\d", text_of(page)))
