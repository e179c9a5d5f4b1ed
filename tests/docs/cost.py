"""What the sync costs in a month, by scenario: the sums behind the table in docs/costs.md.

    python tests/docs/cost.py

Prices are those of lib/prices.json: public list prices in USD without tax for us-east-1, as they were on PRICES_OF.
Look them up again before you rely on them. The free tier is shown as a row of its own, because it is the account's and
others may have used it up.
"""

import json
from dataclasses import dataclass
from pathlib import Path

LISTED = json.loads((Path(__file__).parents[2] / "lib/prices.json").read_text())
PRICES_OF, PRICE = LISTED["as_of"], LISTED["prices"]
HOURS_A_MONTH = 730
VCPUS, MEMORY_GB = 2, 4  # of a worker
SPOT_SHARE = 0.8
IMAGE_GB = 0.06
START_SECONDS = 40  # from the start of the image pull, which is where Fargate begins to count
IDLE_SECONDS = 60  # three empty long polls before a worker ends
LOG_BYTES_PER_OBJECT = 300
STARTS_A_MONTH = HOURS_A_MONTH * 60  # of the starter, which takes about a second of 128 MB
FREE = {name: LISTED["free_a_month"][name] for name in ("sqs_request", "lambda_request", "lambda_gb_second", "logs_gb")}


@dataclass(frozen=True)
class Scenario:
    """A month of work. `runs` workers start (of a batch two at once), and each copies for `busy_seconds` in all."""

    name: str
    objects: int
    object_gb: float
    runs: int
    busy_seconds: float
    parts: int = 0  # of an object above 5 GiB

    @property
    def worker_hours(self) -> float:
        return self.runs * (START_SECONDS + self.busy_seconds + IDLE_SECONDS) / 3600


SCENARIOS = (
    Scenario("10 files of 1 GB a day, one by one", 300, 1.0, 300, 15),
    Scenario("10,000 files of 10 MB a day, in one batch", 300_000, 0.01, 60, 30),
    Scenario("10,000 files of 10 MB a day, all day long", 300_000, 0.01, 1, HOURS_A_MONTH * 3600),
    Scenario("backfill of 100 TB in files of 10 GB", 10_000, 10.0, 2, 25_000, parts=150),
)


def worker_hour() -> float:
    """A worker for an hour at the mix of Spot and on demand, with its public address."""
    on_demand = VCPUS * PRICE["vcpu_hour"] + MEMORY_GB * PRICE["memory_gb_hour"]
    spot = VCPUS * PRICE["spot_vcpu_hour"] + MEMORY_GB * PRICE["spot_memory_gb_hour"]
    return SPOT_SHARE * spot + (1 - SPOT_SHARE) * on_demand + PRICE["ipv4_hour"]


def usage(scenario: Scenario) -> dict[str, float]:
    """Units of each price in a month.

    A copy is one write and three reads (HeadObject, the copy's own, HeadObject); one in parts a write and a read for
    each part and two writes more. A message is sent, received and deleted.
    """
    count = scenario.objects
    return {
        "express_upload_gb": count * scenario.object_gb,
        "express_put_request": count * (scenario.parts + 2 if scenario.parts else 1),
        "standard_get_request": count * (2 + max(scenario.parts, 1)),
        "sqs_request": 3 * count + STARTS_A_MONTH + scenario.worker_hours * 180,
        "lambda_request": STARTS_A_MONTH,
        "lambda_gb_second": STARTS_A_MONTH * 0.125,
        "logs_gb": count * LOG_BYTES_PER_OBJECT / 1e9,
        "image_gb_month": IMAGE_GB,
    }


def costs(scenario: Scenario) -> dict[str, float]:
    """USD a month by row of the table."""
    used = usage(scenario)
    spent = {name: units * PRICE[name] for name, units in used.items()}
    free = sum(min(used[name], units) * PRICE[name] for name, units in FREE.items())
    rows = {
        "Bytes into the directory bucket": spent["express_upload_gb"],
        "S3 requests": spent["express_put_request"] + spent["standard_get_request"],
        "Workers (Fargate, 80 % Spot)": scenario.worker_hours * worker_hour(),
        "Queue, starter, logs, image": sum(
            spent[name] for name in ("sqs_request", "lambda_request", "lambda_gb_second", "logs_gb", "image_gb_month")
        ),
        "Free tier": -free,
    }
    return {**rows, "**Sync, a month**": sum(rows.values())}


def storage(scenario: Scenario) -> float:
    """USD for keeping what one month brought in the directory bucket for a month."""
    return scenario.objects * scenario.object_gb * PRICE["express_storage_gb_month"]


def money(amount: float) -> str:
    return f"{'-' if amount < 0 else ''}{abs(amount):,.2f}" if abs(amount) >= 0.005 or amount == 0 else "< 0.01"


def table() -> str:
    """Markdown: a row for each kind of cost, a column for each scenario."""
    columns = [costs(scenario) | {"Storage of these files, a month": storage(scenario)} for scenario in SCENARIOS]
    lines = [["USD", *(scenario.name for scenario in SCENARIOS)], ["---", *("---:" for _ in SCENARIOS)]]
    lines += [["Worker hours", *(f"{scenario.worker_hours:,.1f}" for scenario in SCENARIOS)]]
    lines += [[name, *(money(column[name]) for column in columns)] for name in columns[0]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    print(f"List prices of us-east-1, {PRICES_OF}; a worker of {VCPUS} vCPUs and {MEMORY_GB} GB: ", end="")
    print(f"{worker_hour():.4f} USD an hour with its public address\n")
    print(table())


if __name__ == "__main__":
    main()
