"""./sync.sh cost: its sums, its prices, and what it makes of AWS's answers."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from account import APP
from cost import LISTED, PRICE, REQUESTS, bill, quantity, usd, worker_hour
from documents import Ran
from operated import CTRL_C, STARTER, WORKERS, Operated, Verbs, deployed, measured, verbs
from paper_account import Given

from operate.bill import money

__all__ = ["verbs"]
HOUR, DAY, GB = 3600, 86_400, 10**9
MONTH = 30 * DAY


def levers(**figures: Any) -> dict[str, float]:
    return {lever["lever"]: lever["usd"] for lever in bill(**figures)["levers"]}


# The sums


@pytest.mark.parametrize(
    ("used", "requests"),
    [
        ({"copies": 1}, (1, 2, 0)),
        ({"copies": 1, "large": 1, "parts": 96}, (98, 3, 1)),
        ({"deletes": 1}, (0, 2, 1)),
        ({"skipped": 1}, (1, 2, 1)),
        ({"copies": 5, "large": 2, "parts": 7, "deletes": 3, "skipped": 4}, (18, 26, 9)),
    ],
)
def test_a_key_takes_the_requests_that_the_design_counts(used: dict[str, int], requests: tuple[int, ...]) -> None:
    """Writes, looks at the source and looks at the destination."""
    found = bill(used=used)
    assert tuple(quantity(found, name) for name in REQUESTS) == requests
    assert usd(found, *REQUESTS) == pytest.approx(requests[0] * 1.13e-6 + requests[1] * 0.4e-6 + requests[2] * 0.03e-6)


def test_metrics_are_paid_for_by_the_hour_of_work() -> None:
    used = {"copies": 50, "tasks": 10, "worker_seconds": 10 * HOUR}
    worked = PRICE["metric_month"] * 8 / 730
    assert usd(bill(used=used, setup={"metrics": 8}), "metric_month") == pytest.approx(
        (10 + 10 + 10 * 40 / HOUR) * worked
    )
    copying = {"metrics": 8, "function_copies": True}
    assert usd(bill(used={"copies": 50}, setup=copying), "metric_month") == pytest.approx(50 * worked)
    assert usd(bill(used={"copies": 5000}, setup=copying), "metric_month") == pytest.approx(730 * worked)
    assert usd(bill(used=used), "metric_month") == 0


def test_levers_are_only_those_that_would_save_something() -> None:
    stored = {"destination_bytes": 100 * GB, "excluded_bytes": 10 * GB, "aged_bytes": 5 * GB,
              "kept_7_bytes": 20 * GB, "kept_30_bytes": 80 * GB, "kept_90_bytes": 120 * GB}  # fmt: skip
    assert levers(stored=stored, setup={"poll_minutes": 5}) == pytest.approx({
        "KEEP_DAYS=7": 65 * 0.11, "KEEP_DAYS=30": 5 * 0.11, "./sync.sh reconcile --remove-unwanted": 15 * 0.11,
    })  # fmt: skip
    few = {"destination_bytes": GB // 50, "kept_7_bytes": GB // 100, "excluded_bytes": GB // 200}  # of 0.1 cents
    assert levers(stored=few, used={"copies": 1000, "announced": 1000}).keys() == {"LAMBDA_POLL_RATE=5"}
    found = bill(setup={"arch": "X86_64"})
    assert [one["why"] for one in found["levers"]] == ["a worker starts up to five minutes later"]
    assert found["notes"][0] == "ours for vCPUs and memory are those of ARM64: X86_64 costs a quarter more"
    assert levers() == pytest.approx({"LAMBDA_POLL_RATE=5": 43800 * 0.8 * (0.2e-6 + 0.4e-6 + 0.125 * 0.0000133334)})
    busy = {"worker_seconds": 730 * HOUR}
    assert levers(setup={"min_workers": 1}, used=busy)["MIN_WORKERS=0"] == pytest.approx(730 * worker_hour())
    assert levers(setup={"has_events": True}, used={"copies": 10**6, "announced": 10**6}) == pytest.approx(
        levers() | {"ANNOUNCE=none": 1, "EVENT_SOURCE=sqs": 1}
    )


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "0.00"), (0.004, "<0.01"), (0.005, "0.01"), (1.15, "1.15"), (-0.1, "-0.10"), (1234.5, "1234.50")],
)
def test_money_has_two_digits_and_no_noise(amount: float, text: str) -> None:
    assert money(amount) == text


# The verb


def row(action: str, keys: int, size: int) -> dict[str, str]:
    return {"action": action, "keys": str(keys), "bytes": str(size)}


# What a query finds, by a part of it.
QUERIED = {
    "filter size > 5368709120": [row("copied", 2, 20 * GB)],
    "by action": [row("copied", 300, 30 * GB), row("deleted", 20, 0), row("skipped", 5, 0)],
    "by @logStream": [
        {"@logStream": "a", "first": "1699990000000", "last": "1.6999936E12"},
        {"@logStream": "b", "first": "2026-11-01 00:00:00.500", "last": "2026-11-01 00:10:00.500"},
    ],
    "started": [{"@message": json.dumps({"started": {"FARGATE_SPOT": 3, "FARGATE": 1}}) + "\n"}],
}
SUMS = {"Invocations": [100, 44], "Duration": [8000], "IncomingBytes": [10**9]}


class Busy(Operated):
    """An account whose deployment has worked for a month; one that is quiet has no figures."""

    age, quiet, times = 10 * MONTH, False, 1

    def sqs_get_queue_attributes(self, given: Given) -> Any:
        found = super().sqs_get_queue_attributes(given)
        found["Attributes"]["CreatedTimestamp"] = str(int(time.time()) - self.age)
        return found

    def logs_start_query(self, given: Given) -> Any:
        return {"queryId": next(part for part in QUERIED if part in given["queryString"])}

    def logs_get_query_results(self, given: Given) -> Any:
        rows = [] if self.quiet else QUERIED[given["queryId"]]
        counts = [{name: str(self.times * int(row[name])) for name in row.keys() & {"keys", "bytes"}} for row in rows]
        rows = [row | many for row, many in zip(rows, counts, strict=True)]
        results = [[{"field": name, "value": value} for name, value in row.items()] for row in rows]
        return {"status": "Complete", "results": results}

    def cloudwatch_get_metric_statistics(self, given: Given) -> Any:
        return {"Datapoints": [] if self.quiet else [{"Sum": float(n)} for n in SUMS[given["MetricName"]]]}


def busy(**settings: str) -> Busy:
    found = Busy()
    found.kept = deployed(**settings).kept
    found.variables.update(ANNOUNCE="all", AUDIT_DAYS="1")
    found.kept[f"rule {APP}-starter-rule"]["ScheduleExpression"] = "rate(5 minutes)"
    return found


@pytest.fixture
def account(verbs: Verbs) -> Busy:
    verbs.account = found = busy()
    return found


def spans(done: Ran) -> set[int]:
    """Seconds that the queries reach back."""
    return {one["endTime"] - 60 - one["startTime"] for one in done.sent("StartQuery")}


@pytest.mark.usefixtures("account")
def test_the_figures_come_from_the_logs_the_metrics_and_the_task(verbs: Verbs) -> None:
    done = verbs.sync("cost --json")
    found = done.json
    quantities = {row["price_name"]: row["quantity"] for row in found["rows"]}
    scale = 730 / 720
    hours = (3600 + 600 + 2 * 40) / 3600 * scale
    parts = 20 * GB // 2**26 + 2
    wanted = {
        "express_upload_gb": 30 * scale, "express_put_request": (298 + parts + 4 + 5) * scale,
        "standard_get_request": (600 + 2 + 40 + 10) * scale, "express_get_request": (2 + 20 + 5) * scale,
        "spot_vcpu_hour": 2 * hours * 0.75,
        "spot_memory_gb_hour": 4 * hours * 0.75, "vcpu_hour": 2 * hours * 0.25, "memory_gb_hour": 4 * hours * 0.25,
        "ipv4_hour": hours, "sqs_request": (960 + 15 + 144) * scale + 180 * hours, "event": 320 * scale,
        "lambda_request": 144 * scale, "lambda_gb_second": 8 * 0.125 * scale, "logs_gb": 2 * scale,
        "image_gb_month": 0.06, "alarm_month": 6, "dashboard_month": 1,
    }  # fmt: skip
    assert quantities == pytest.approx(wanted, abs=0.006)
    assert found["storage"]["quantity"] == 100
    assert "figures of the last 30.0 days, as for a month of 730 hours" in found["notes"]
    assert found["total_usd"] == pytest.approx(
        sum(row["usd"] for row in found["rows"]) + found["free_usd"] + 11, abs=0.1
    )
    of_what = {(one["MetricName"], *one["Dimensions"][0].values()) for one in done.sent("GetMetricStatistics")}
    assert of_what == {
        *((name, "FunctionName", f"{APP}-starter") for name in ("Invocations", "Duration")),
        *(("IncomingBytes", "LogGroupName", group) for group in (WORKERS, STARTER)),
    }
    assert "only 10,000 are counted" not in done.errors
    (started,) = done.sent("RunTask")
    assert started["overrides"]["containerOverrides"][0]["command"] == ["measure"]
    assert started["startedBy"] == "s3-to-s3express-sync-cost"
    assert (done.sent("StopTask"), spans(done), len(done.sent("StartQuery"))) == ([], {MONTH}, 4)


def test_the_table_has_prices_figures_and_levers_in_80_columns(verbs: Verbs, account: Busy) -> None:
    lines = verbs.sync("cost", REGION="us-east-1").output.splitlines()
    assert lines[0] == f"prices of us-east-1 of {LISTED['as_of']} in USD without tax"
    assert lines[1] == "your own: --prices FILE, in the format of lib/prices.json"
    assert any(line.startswith("interfaces, of which each of the 2 tasks has one") for line in lines)
    (stored,) = [line for line in lines if line.startswith("GB stored")]
    assert stored.split()[-4:] == ["100", "0.11", "11.00", "measured"]
    assert any(line.split()[:2] == ["KEEP_DAYS=30", "6.60"] for line in lines)
    account.times = 10**6
    elsewhere = verbs.sync("cost", REGION="ap-southeast-2")
    assert "this deployment is in ap-southeast-2, where prices may differ" in elsewhere.output
    assert "once; meanwhile the logs are read; its log:\n" in elsewhere.errors


@pytest.mark.parametrize(("hours", "young"), [(24, False), (23, True), (0.25, True)])
def test_of_a_younger_deployment_all_its_time_counts(hours: float, young: bool, verbs: Verbs, account: Busy) -> None:
    """A first fill of minutes would be hundreds of dollars a month."""
    account.age = int(hours * HOUR)
    done = verbs.sync("cost --json")
    notes = done.json["notes"]
    warning = [
        "WARNING: less than a day of history: what its first hours cost, such as a",
        "first fill, is taken for a whole month; ask again after a day or more",
    ]
    assert notes[-2:] == warning if young else not {*warning} & {*notes}
    assert "the deployment is younger than 30 days: the figures cover its whole time" in done.errors
    assert all(0 < span - account.age < 60 for span in spans(done))
    assert done.json["rows"][0]["quantity"] == pytest.approx(30 * 730 / hours, rel=0.1)


def test_a_quiet_month_is_reckoned_by_the_rule(verbs: Verbs, account: Busy) -> None:
    account.quiet = True
    by_name = {row["price_name"]: row for row in verbs.sync("cost --json").json["rows"]}
    assert (by_name["lambda_request"]["quantity"], by_name["lambda_request"]["from"]) == (8760, "by the rule")
    assert by_name["express_upload_gb"]["usd"] == 0
    assert "vcpu_hour" not in by_name


@pytest.mark.usefixtures("account")
def test_days_reach_as_far_as_the_logs_do(verbs: Verbs) -> None:
    assert spans(verbs.sync("cost --json --days 3")) == {3 * DAY}
    assert spans(verbs.sync("cost --json", LOG_RETENTION_DAYS="7")) == {7 * DAY}
    done = verbs.sync("cost --days 31", 2, LOG_RETENTION_DAYS="30")
    assert "--days 31 is more than LOG_RETENTION_DAYS=30: older lines are gone" in done.errors
    assert done.writes == []
    verbs.account = busy(LOG_RETENTION_DAYS="7")
    assert spans(verbs.sync("cost --json")) == {7 * DAY}


@pytest.mark.parametrize(
    ("end", "code", "status", "said", "stops"),
    [
        (("stopped", 3), "", 3, "the buckets could not be counted", 0),
        (("complete", 0), "AccessDenied", 1, "no StartQuery", 1),
        (("complete", 0), CTRL_C, 130, "", 1),
    ],
)
def test_what_ends_it_early_prints_no_sum_and_stops_the_task(
    end: tuple[str, int], code: str, status: int, said: str, stops: int, verbs: Verbs, account: Busy
) -> None:
    account.task_log = [[measured(*end)]]
    if code:
        account.deny("StartQuery", code)
    done = verbs.sync("cost --json", status)
    assert (done.output, said in done.errors, len(done.sent("StopTask"))) == ("", True, stops)


@pytest.mark.usefixtures("account")
def test_a_time_in_another_form_is_no_figure(verbs: Verbs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(QUERIED, "by @logStream", [{"@logStream": "a", "first": "1 Nov", "last": "2 Nov"}])
    said = "CloudWatch Logs shows a time in a form that is not known, 2 Nov: report this\n"
    assert said in verbs.sync("cost --json", 1).errors


# Prices


@pytest.mark.usefixtures("account")
def test_ones_own_prices_stand_above_ours(verbs: Verbs, tmp_path: Path) -> None:
    file = tmp_path / "my prices.json"
    file.write_text(
        '{"region": "eu-west-1", "prices": {"express_storage_gb_month": 0.2}, "free_a_month": {"logs_gb": 0}}'
    )
    lines = verbs.sync(f"cost --prices '{file}'").output.splitlines()
    assert lines[0].startswith("prices of eu-west-1 of ")
    assert lines[1] == "1 of them is yours"
    assert any(line.split()[-3:-1] == ["0.2", "20.00"] for line in lines)
    assert verbs.sync("cost", PRICES_FILE=str(file)).output.splitlines() == lines


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "are not JSON"),
        ("\udcff", "are not JSON: they are not UTF-8: invalid start byte"),
        ("", "0 values instead of one"),
        ("[]", "do not match lib/prices.json: it is not an object with the same fields"),
        ('{"price": {}}', "price is not a field of it"),
        ('{"prices": {"sqs": 1, "logs_gb": "0.5"}}', "sqs is not a name in its prices; logs_gb is not a number"),
        ('{"prices": {"logs_gb": -1}}', "logs_gb is not a number such as 0.01: -1"),
        ('{"prices": {"logs_gb": 1e999}}', "logs_gb is not a number"),
        ('{"prices": {"logs_gb": NaN}}', "are not JSON"),
        ('{"free_a_month": {"vcpu_hour": 1}}', "vcpu_hour is not a name in its free_a_month"),
    ],
)
def test_wrong_prices_are_told_before_anything_is_called(
    text: str, complaint: str, verbs: Verbs, tmp_path: Path
) -> None:
    file = tmp_path / "p.json"
    file.write_text(text, errors="surrogateescape")
    done = verbs.sync(f"cost --prices {file}", 2)
    assert (done.output, done.calls) == ("", [])
    assert complaint in done.errors and str(file) in done.errors
