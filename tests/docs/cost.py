"""The tables of docs/costs.md and of the README, by the formula of `./sync.sh cost --estimate` (operate/).

    python tests/docs/cost.py     prints them; write_tables.py writes them into the pages

Prices are those of lib/prices.json: public list prices in USD without tax for us-east-1, as they were on PRICES_OF. The
free tier is the account's, and others may have used it up: so each sum is given with it and without.
"""

import json
import math
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from mirror.model.checks import TABLE
from operate import bill as arithmetic
from operate import estimate as rules

ROOT = Path(__file__).parents[2]
LISTED: dict[str, Any] = json.loads((ROOT / "lib/prices.json").read_text())
PRICES_OF, PRICE = LISTED["as_of"], LISTED["prices"]
HOURS_A_MONTH = arithmetic.HOURS_A_MONTH
# A deployment with nothing that is paid for by the month.
SETUP: dict[str, Any] = {
    "vcpus": 2, "memory_gb": 4, "function_gb": 0.125, "poll_minutes": 1, "min_workers": 0, "alarms": 0,
    "dashboards": 0, "image_gb": 0, "has_public_ip": True, "has_events": False, "endpoints": 0, "metrics": 0,
    "function_copies": False, "region": "us-east-1", "arch": "ARM64",
}  # fmt: skip
STORED = {
    f"{name}_{unit}": 0
    for name in ("source", "kept_7", "kept_30", "kept_90", "destination", "excluded", "aged")
    for unit in ("objects", "bytes")
}

WORKERS = ("vcpu_hour", "memory_gb_hour", "spot_vcpu_hour", "spot_memory_gb_hour", "ipv4_hour")
REQUESTS = ("express_put_request", "standard_get_request", "express_get_request")
FUNCTION = ("lambda_request", "lambda_gb_second")
PAGE_ROWS = {
    "Bytes into the directory bucket": ("express_upload_gb",),
    "S3 requests": REQUESTS,
    "Workers (Fargate, 80% Spot)": WORKERS,
    "Queue, starter, logs, image": ("sqs_request", *FUNCTION, "logs_gb", "image_gb_month"),
    "Alarms, dashboard": ("alarm_month", "dashboard_month"),
}
ITEMS = {
    "bytes and S3 requests": ("express_upload_gb", *REQUESTS),
    "events and their alarm": ("event", "alarm_month"),
    "queue": ("sqs_request",),
    "function": FUNCTION,
    "logs, image": ("logs_gb", "image_gb_month"),
    "workers": WORKERS,
}

# What deploy.sh has for these.
SETTINGS = {setting.name: "" if setting.limits else setting.default for setting in TABLE} | {"REGION": LISTED["region"]}
STARTER_MIB, COPYING_MIB = 128, 512
# settings; files (a day, or of all time), size of each, how they arrive
SCENARIOS = {
    "10 files of 1 GB a day, one by one": ";10;1GB;spread",
    "10,000 files of 10 MB a day, in one batch": ";10000;10MB;burst",
    "10,000 files of 10 MB a day, all day long": ";10000;10MB;spread",
    "backfill of 100 TB in files of 10 GB": ";10000;10GB;once",
}
LOADS = {
    "no file": "0;100KB;spread",
    "100, spread out": "100;100KB;spread",
    "100, in one burst": "100;100KB;burst",
    "10,000, spread out": "10000;100KB;spread",
    "10,000, in one burst": "10000;100KB;burst",
}
COPYING = "EVENT_SOURCE=eventbridge STARTER_COPIES=true"
MODES = {
    "the defaults": "",
    "`EVENT_SOURCE=eventbridge`": "EVENT_SOURCE=eventbridge",
    f"`{COPYING}`": COPYING,
    "`MIN_WORKERS=1`": "MIN_WORKERS=1",
}
BURST = "100000;100KB;burst"
PICTURE = ROOT / "docs/modes.svg"
FILES_OF_PICTURE = (10, 100, 1_000, 10_000, 100_000)
DAYS_A_MONTH = 30


def estimates(*cases: str) -> tuple[dict[str, Any], ...]:
    return tuple(map(estimate, cases))


@cache
def estimate(case: str) -> dict[str, Any]:
    """What the rules find in this case: settings;files;size;arrival;GB that are kept, which may be left out."""
    settings, files, size, arrival, *keep = case.split(";")
    given = SETTINGS | dict(setting.split("=") for setting in settings.split())
    load = rules.Load(
        files=int(files),
        bytes=rules.bytes_of(size),
        arrival=arrival or rules.SPREAD,
        keep_gb=float(keep[0]) if keep else None,
        keep_days=int(given["KEEP_DAYS"]) if given["KEEP_DAYS"] else None,
    )
    return rules.estimate(LISTED, rules.plan_of(given, COPYING_MIB, STARTER_MIB), load)


def bill(*, hours: float = HOURS_A_MONTH, setup: Any = (), used: Any = (), stored: Any = ()) -> dict[str, Any]:
    """What operate/bill.py adds up, in USD a month, of what was used in these hours; the rest is SETUP and STORED."""
    given = arithmetic.Setup(**SETUP | dict(setup)), arithmetic.Used(**dict(used)), STORED | dict(stored)
    return arithmetic.bill(LISTED, hours, *given)


def usd(found: dict[str, Any], *names: str) -> float:
    """Of the rows with these prices."""
    return sum(row["usd"] for row in found["rows"] if row["price_name"] in names)


def quantity(found: dict[str, Any], *names: str) -> float:
    return sum(row["quantity"] for row in found["rows"] if row["price_name"] in names)


def worker_hour() -> float:
    """A worker for an hour at the mix of Spot and on demand, with its public address."""
    return usd(bill(used={"worker_seconds": 3600}), *WORKERS)


def money(amount: float) -> str:
    return f"{'-' if amount < 0 else ''}{abs(amount):,.2f}" if abs(amount) >= 0.005 or amount == 0 else "< 0.01"


def aligned(lines: list[list[str]]) -> str:
    head, *rows = lines
    rule = ["---", *("---:" for _ in head[1:])]
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, rule, *rows])


def column(found: dict[str, Any]) -> dict[str, str]:
    rows = {name: usd(found, *names) for name, names in PAGE_ROWS.items()}
    rows["**Sync, free tier used up**"] = found["before_free_usd"]
    rows["**Sync, free tier unused**"] = found["sync_usd"]
    rows["Storage of these files, a month"] = found["storage"]["usd"]
    hours = f"{quantity(found, 'ipv4_hour'):,.1f}"
    return {"Worker hours": hours} | {name: money(amount) for name, amount in rows.items()}


def table() -> str:
    """Markdown: a row for each kind of cost, a column for each scenario."""
    columns = [column(found) for found in estimates(*SCENARIOS.values())]
    rows = [[name, *(one[name] for one in columns)] for name in columns[0]]
    return aligned([["USD", *SCENARIOS], *rows])


def table_of_readme() -> str:
    """Markdown: a row for each scenario, and one for a deployment that receives nothing, which stores nothing."""
    cases = {"no file": f";{LOADS['no file']}"} | SCENARIOS
    rows = []
    for name, found in zip(cases, estimates(*cases.values()), strict=True):
        stored = found["storage"]["usd"]
        rows.append([name, money(found["sync_usd"]), money(found["before_free_usd"]), money(stored) if stored else "-"])
    return aligned([["USD", "free tier unused", "free tier used up", "storage"], *rows])


def table_of_modes() -> str:
    """Markdown: a row for each mode, a column for each load; in brackets while the free tier is unused."""
    found = estimates(*(f"{settings};{load}" for settings in MODES.values() for load in LOADS.values()))
    cells = [f"{money(one['before_free_usd'])} ({money(one['sync_usd'])})" for one in found]
    loads = len(LOADS)
    rows = [[name, *cells[row * loads : (row + 1) * loads]] for row, name in enumerate(MODES)]
    return aligned([["USD", *LOADS], *rows])


def line_of_burst() -> str:
    """What one burst costs with EVENT_SOURCE=eventbridge and STARTER_COPIES=true, before the free tier."""
    burst, idle = estimates(f"{COPYING};{BURST}", f"{COPYING};{LOADS['no file']}")
    items = {name: (usd(burst, *names) - usd(idle, *names)) / DAYS_A_MONTH for name, names in ITEMS.items()}
    runs, seconds = ((quantity(burst, name) - quantity(idle, name)) / DAYS_A_MONTH for name in FUNCTION)
    return (
        f"100,000 in one burst: {money(sum(items.values()))} ("
        + ", ".join(f"{name} {money(amount)}" for name, amount in items.items())
        + f"); at most {runs:.0f} runs of the function for {seconds / 0.5:.0f} s"
    )


def picture() -> str:
    """What a month costs by the number of files a day: each of both axes is logarithmic."""
    across = [f"{70 + 135 * math.log10(files / 10):.1f}" for files in FILES_OF_PICTURE]
    curves = []
    for settings in MODES.values():
        found = estimates(*(f"{settings};{files};100KB;spread" for files in FILES_OF_PICTURE))
        up = (f"{330 - 140 * math.log10(one['before_free_usd']):.1f}" for one in found)
        curves.append("L".join(map(" ".join, zip(across, up, strict=True))))
    drawn = iter(curves)
    return re.sub(r'(width: 2.5" d="M)[^"]*', lambda curve: curve[1] + next(drawn), PICTURE.read_text())


def page(text: str) -> str:
    """A page with the figures that are computed, beside the words of its language."""
    tables = (table_of_readme,) if text.startswith("# s3-to-s3express-sync") else (table, table_of_modes)
    computed = (one() for one in tables)
    parts = (with_figures(part, next(computed)) if part.startswith("| USD |") else part for part in text.split("\n\n"))
    return "\n\n".join(parts)


def with_figures(rows: str, computed: str) -> str:
    head, rule, *written = rows.splitlines()
    lines = [head, rule]
    for old, new in zip(written, computed.splitlines()[2:], strict=True):
        name, figures = old.partition(" | ")[0], new.partition(" | ")[2]
        lines.append(f"{name} | {figures}")
    return "\n".join(lines)


def files() -> dict[Path, str]:
    """What is to stand in the files that have something computed."""
    pages = [ROOT / name for name in ("README.md", "README.zh-CN.md", "docs/costs.md", "docs/costs.zh-CN.md")]
    return {path: page(path.read_text()) for path in pages} | {PICTURE: picture()}


def main() -> None:
    print(f"List prices of us-east-1, {PRICES_OF}; a worker of 2 vCPUs and 4 GB: ", end="")
    print(f"{worker_hour():.4f} USD an hour with its public address\n")
    print(table(), "In brackets while the free tier is unused:", table_of_modes(), line_of_burst(), sep="\n\n")


if __name__ == "__main__":
    main()
