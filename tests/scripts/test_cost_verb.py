"""./sync.sh cost: its sums, its prices, and what it makes of AWS's answers."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import sourced
from cost import PRICE, REQUESTS, STORED, bill, quantity, usd, worker_hour

from mirror.model import log_lines

ROOT = Path(__file__).parents[2]
STAMP = "2026-11-25T01:02:03.456Z"
HOUR, DAY, GB = 3600, 86_400, 10**9
PRICES = json.loads((ROOT / "lib/prices.json").read_text())


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


def test_what_was_used_in_a_day_is_scaled_to_a_month_and_what_stands_is_not() -> None:
    used = {"copies": 10, "bytes": 5 * GB, "tasks": 9, "worker_seconds": 3240, "spot_share": 0, "log_bytes": GB,
            "runs": 100, "run_seconds": 50}  # fmt: skip
    setup = {"alarms": 4, "dashboards": 1, "has_public_ip": False, "image_gb": 0.06}
    found = bill(hours=24, used=used, setup=setup)
    month = 730 / 24
    quantities = {row["price_name"]: row["quantity"] for row in found["rows"]}
    assert quantities == pytest.approx({
        "express_upload_gb": 5 * month, "express_put_request": 10 * month, "standard_get_request": 20 * month,
        "express_get_request": 0,
        "vcpu_hour": 2 * month, "memory_gb_hour": 4 * month, "sqs_request": (30 + 100 + 180) * month,
        "lambda_request": 100 * month, "lambda_gb_second": 50 * 0.125 * month, "logs_gb": month,
        "image_gb_month": 0.06, "alarm_month": 4, "dashboard_month": 1,
    })  # fmt: skip
    assert {row["from"] for row in found["rows"] if row["price_name"] in ("lambda_request", "logs_gb")} == {"measured"}


def test_events_are_paid_and_a_delete_writes_nothing() -> None:
    used = {"copies": 2_000_000, "deletes": 1_000_000, "announced": 3_000_000}
    assert usd(bill(used=used, setup={"has_events": True}), "event") == pytest.approx(6)
    assert usd(bill(used=used), "event") == pytest.approx(3)
    assert usd(bill(used={"deletes": 1_000_000}), "express_put_request") == 0


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
    assert bill(program=f"{amount} | money") == text


# The verb

CLOUD = """
FOLLOW_PAUSE=0
start_verb() { start_run; set_account 123456789012; }
ask_starter() {
  echo '{"MemorySize": 128, "Environment": {"Variables": {"ASSIGN_PUBLIC_IP": "ENABLED", "ANNOUNCE": "all",
    "AUDIT_DAYS": "1", "TASK_DEFINITION": "x"}}}'
}
ask_rule() { [[ $1 == *-event-rule ]] || echo '{"State": "ENABLED", "ScheduleExpression": "rate(5 minutes)"}'; }
existing_queue_url() { echo https://queue; }
now() { echo 1700000000; }
print_new_lines() { printf '%s\\n' "$LOG"; LOG_LAST_LINE=${LOG##*$'\\n'}; }
query() {
  printf 'query %s\\n' "$*" >>"$CALLS"
  case "$3" in
    *"filter size > 5368709120"*) echo "$LARGE" ;;
    *"by action") echo "$SYNCED" ;;
    *"by @logStream"*) echo "$SPANS" ;;
    *started*) echo "$STARTED" ;;
  esac
}
aws_or_die() {
  printf '%s\\n' "$*" >>"$CALLS"
  case "$2 $*" in
    get-queue-attributes*) printf '{"Attributes": {"CreatedTimestamp": "%s"}}' "$MADE" ;;
    get-metric-statistics*Invocations*) echo '{"Datapoints": [{"Sum": 100}, {"Sum": 44}]}' ;;
    get-metric-statistics*Duration*) echo '{"Datapoints": [{"Sum": 8000}]}' ;;
    get-metric-statistics*ecs*) echo '{"Datapoints": [{"Sum": 2e9}]}' ;;
    get-metric-statistics*) echo '{"Datapoints": []}' ;;
    run-task*) echo '{"tasks": [{"taskArn": "arn:aws:ecs:r:1:task/c/t1"}]}' ;;
    describe-tasks*) echo '{"tasks": [{"lastStatus": "STOPPED", "cpu": "1024", "memory": "2048"}]}' ;;
  esac
}
"""
NUMBERS = STORED | {"destination_bytes": 100 * GB, "kept_30_bytes": 40 * GB, "seconds": 61.5}


def measured(end: str = "complete", status: int = 0) -> str:
    numbers = " ".join(f"{name}={number}" for name, number in NUMBERS.items())
    return f"{STAMP} INFO {log_lines.MEASURED % (end, status, numbers)}"


def row(action: str, keys: int, size: int) -> dict[str, str]:
    return {"action": action, "keys": str(keys), "bytes": str(size)}


def run(script: str, folder: Path, **variables: Any) -> subprocess.CompletedProcess[str]:
    """A piece of Bash that knows all functions of sync.sh, with that AWS."""
    answers: dict[str, Any] = {
        "LOG": measured(),
        "MADE": 1_600_000_000,
        "SYNCED": [row("copied", 300, 30 * GB), row("deleted", 20, 0), row("skipped", 5, 0)],
        "LARGE": [row("copied", 2, 20 * GB)],
        "SPANS": [
            {"@logStream": "a", "first": "1699990000000", "last": "1.6999936E12"},
            {"@logStream": "b", "first": "2026-11-01 00:00:00.500", "last": "2026-11-01 00:10:00.500"},
        ],
        "STARTED": [{"@message": json.dumps({"started": {"FARGATE_SPOT": 3, "FARGATE": 1}}) + "\n"}],
        "CALLS": folder / "calls",
    } | variables
    return sourced.bash(f"TEMP_DIR='{folder}'\n{CLOUD}\n{script}", seconds=120, REGION="eu-west-1", **answers)


def calls(folder: Path) -> str:
    return (folder / "calls").read_text() if (folder / "calls").exists() else ""


def test_the_figures_come_from_the_logs_the_metrics_and_the_task(tmp_path: Path) -> None:
    done = run("verb_cost --json", tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    quantities = {row["price_name"]: row["quantity"] for row in found["rows"]}
    scale = 730 / 720
    hours = (3600 + 600 + 2 * 40) / 3600 * scale
    parts = 20 * GB // 2**26 + 2
    wanted = {
        "express_upload_gb": 30 * scale, "express_put_request": (298 + parts + 4 + 5) * scale,
        "standard_get_request": (600 + 2 + 40 + 10) * scale, "express_get_request": (2 + 20 + 5) * scale,
        "spot_vcpu_hour": hours * 0.75,
        "spot_memory_gb_hour": hours * 0.75 * 2, "vcpu_hour": hours * 0.25, "memory_gb_hour": hours * 0.25 * 2,
        "ipv4_hour": hours, "sqs_request": (960 + 15 + 144) * scale + 180 * hours, "event": 320 * scale,
        "lambda_request": 144 * scale, "lambda_gb_second": 8 * 0.125 * scale, "logs_gb": 2 * scale,
        "image_gb_month": 0.06, "alarm_month": 6, "dashboard_month": 1,
    }  # fmt: skip
    assert quantities == pytest.approx(wanted, abs=0.006)
    assert found["storage"]["quantity"] == 100
    assert found["total_usd"] == pytest.approx(
        sum(row["usd"] for row in found["rows"]) + found["free_usd"] + 11, abs=0.1
    )
    assert '"command":["measure"]' in calls(tmp_path)
    assert "--started-by s3-to-s3express-sync-cost " in calls(tmp_path)
    assert "stop-task" not in calls(tmp_path)
    assert calls(tmp_path).count(" 2592000 ") == 4
    assert STAMP in done.stderr


def test_the_first_lines_tell_the_prices_date_and_region_and_how_to_give_ones_own(tmp_path: Path) -> None:
    lines = run("verb_cost", tmp_path, TASK_ARCH="X86_64").stdout.splitlines()
    assert lines[0] == f"prices of us-east-1 of {PRICES['as_of']} in USD without tax"
    assert lines[1] == "your own: --prices FILE, in the format of lib/prices.json"
    assert lines[2] == "this deployment is in eu-west-1, where prices may differ"
    assert "X86_64 costs a quarter more" in lines[3]
    assert "more if AWS Config continuously records" in lines[4]
    assert lines[6] == "figures of the last 30.0 days, as for a month of 730 hours"
    cells = [line.split("  ") for line in lines]
    (stored,) = [line for line in lines if line.startswith("GB stored")]
    assert stored.split() == ["GB", "stored", "in", "the", "directory", "bucket", "100", "0.11", "11.00", "measured"]
    assert "<0.01" in {cell.strip() for line in cells for cell in line}
    assert any(line.split()[:2] == ["KEEP_DAYS=30", "6.60"] for line in lines)


@pytest.mark.parametrize(("hours", "too_young"), [(36, False), (24, False), (23, True), (0.25, True)])
def test_of_a_younger_deployment_all_its_time_counts(hours: float, too_young: bool, tmp_path: Path) -> None:
    """A first fill of minutes would be hundreds of dollars a month."""
    done = run("verb_cost --json", tmp_path, MADE=int(1_700_000_000 - hours * HOUR))
    assert "younger than 30 days" in done.stderr
    notes = json.loads(done.stdout)["notes"]
    assert any(note.startswith("WARNING: less than a day of history") for note in notes) == too_young
    assert f" {int(hours * HOUR) + 1} " in calls(tmp_path)
    assert json.loads(done.stdout)["rows"][0]["quantity"] == pytest.approx(30 * 730 / hours, rel=2e-3)


def test_a_quiet_month_is_reckoned_by_the_rule(tmp_path: Path) -> None:
    quiet: dict[str, Any] = {"SYNCED": [], "LARGE": [], "SPANS": [], "STARTED": []}
    script = "metric_sum() { echo null; }\nverb_cost --json"
    found = json.loads(run(script, tmp_path, **quiet).stdout)
    by_name = {row["price_name"]: row for row in found["rows"]}
    assert (by_name["lambda_request"]["quantity"], by_name["lambda_request"]["from"]) == (8760, "by the rule")
    assert by_name["express_upload_gb"]["usd"] == 0
    assert "vcpu_hour" not in by_name


def test_days_reach_as_far_as_the_logs_do(tmp_path: Path) -> None:
    run("verb_cost --days 3", tmp_path)
    assert calls(tmp_path).count(f" {3 * DAY} ") == 4
    run("verb_cost", tmp_path, LOG_RETENTION_DAYS=7)
    assert f" {7 * DAY} " in calls(tmp_path)
    assert "--days 31 is more than LOG_RETENTION_DAYS=30" in run("verb_cost --days 31", tmp_path).stderr
    told = run("verb_cost --days 456", tmp_path, LOG_RETENTION_DAYS=545)
    assert "--days 456 is more than 455: CloudWatch has no older figures" in told.stderr


def test_buckets_that_cannot_be_counted_end_it_with_3(tmp_path: Path) -> None:
    done = run("verb_cost --json", tmp_path, LOG=measured("stopped", 3))
    assert (done.returncode, done.stdout) == (3, "")
    assert "the buckets could not be counted" in done.stderr


@pytest.mark.parametrize(
    ("fault", "status"), [("die 'AccessDenied: logs:StartQuery'", 1), ("kill -INT $MAIN; sleep 1", 130)]
)
def test_what_ends_it_before_its_task_prints_no_sum_and_stops_the_task(fault: str, status: int, tmp_path: Path) -> None:
    done = run(f"MAIN=$BASHPID; query() {{ {fault}; }}\nverb_cost", tmp_path)
    assert (done.returncode, done.stdout) == (status, "")
    assert "AccessDenied" in done.stderr or status == 130
    assert "stop-task --cluster s3-to-s3express-sync-cluster --task t1 " in calls(tmp_path)


# Prices


def test_ones_own_prices_stand_above_ours(tmp_path: Path) -> None:
    file = tmp_path / "my prices.json"
    file.write_text(
        '{"region": "eu-west-1", "prices": {"express_storage_gb_month": 0.2}, "free_a_month": {"logs_gb": 0}}'
    )
    lines = run(f"verb_cost --prices '{file}'", tmp_path).stdout.splitlines()
    assert lines[:2] == [f"prices of eu-west-1 of {PRICES['as_of']} in USD without tax", "1 of them are yours"]
    assert "this deployment is in" not in lines[2]
    assert any(line.split()[-3:-1] == ["0.2", "20.00"] for line in lines)
    assert run("verb_cost", tmp_path, PRICES_FILE=file).stdout.splitlines() == lines


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "are not JSON"),
        ("", "0 values instead of one"),
        ("[]", "it is not an object"),
        ('{"price": {}}', "price is not a field of it"),
        ('{"prices": {"sqs": 1, "logs_gb": "0.5"}}', 'sqs is not a name in its prices; logs_gb is not a number'),
        ('{"prices": {"logs_gb": -1}}', "logs_gb is not a number"),
        ('{"free_a_month": {"vcpu_hour": 1}}', "vcpu_hour is not a name in its free_a_month"),
    ],
)  # fmt: skip
def test_wrong_prices_are_told_before_anything_is_called(text: str, complaint: str, tmp_path: Path) -> None:
    file = tmp_path / "p.json"
    file.write_text(text)
    done = run(f"verb_cost --prices {file}", tmp_path)
    assert (done.returncode, done.stdout, calls(tmp_path)) == (2, "", "")
    assert complaint in done.stderr
    assert str(file) in done.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("--wrong", "unknown option --wrong"),
        ("--days", "--days needs a value"),
        ("--days 0", "--days 0 is not a number of days such as 30"),
        ("--prices /nowhere", "there is no file /nowhere"),
    ],
)
def test_wrong_usage_starts_nothing(arguments: str, complaint: str, tmp_path: Path) -> None:
    done = run(f"verb_cost {arguments}", tmp_path)
    assert (done.returncode, done.stdout, calls(tmp_path)) == (2, "", "")
    assert complaint in done.stderr
