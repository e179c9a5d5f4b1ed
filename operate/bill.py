"""What a deployment costs a month, in USD: bill() adds it up.

It is the arithmetic of ./sync.sh cost, and asks nobody. What it counts, and why, is explained in docs/costs.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from launch.watchers import ALWAYS

HOURS_A_MONTH = 730
GB = 10**9
START_SECONDS = 40  # of a task, before its first line: Fargate begins to count with the pull of the image
ASSUMED_SPOT_SHARE = 0.8
POLLS_AN_HOUR = 180  # of a worker that waits
RUN_GB_SECONDS = 0.125  # of the starter: a second of 128 MB, or a quarter of one with four times the memory
LOG_BYTES_A_KEY = 300
METRICS = 8  # of METRICS
CONFIG_ITEMS_A_TASK = 2  # at least, if AWS Config records network interfaces: it comes, and it goes
KEPT_DAYS = (7, 30, 90)  # that worker.py measure counts

MEASURED, BY_RULE, ASSUMED = "measured", "by the rule", "assumed"

Row = dict[str, Any]  # of a bill, or of its levers
Prices = Mapping[str, Any]  # as lib/prices.json has them


class Setup(NamedTuple):
    """How the deployment is set up."""

    vcpus: float
    memory_gb: float
    function_gb: float
    poll_minutes: float
    min_workers: int
    alarms: int
    dashboards: int
    image_gb: float
    has_public_ip: bool
    has_events: bool
    endpoints: int
    metrics: int
    function_copies: bool
    region: str
    arch: str


class Used(NamedTuple):
    """What was done in some hours. What is None was not measured: a rule stands in for it.

    `large` of the copies were made in `parts`. `skipped` keys were equal already.
    """

    copies: float = 0
    large: float = 0
    parts: float = 0
    deletes: float = 0
    skipped: float = 0
    bytes: float = 0
    announced: float = 0
    tasks: float = 0
    worker_seconds: float = 0
    spot_share: float | None = None  # 0 to 1
    runs: float | None = None  # of the starter
    run_seconds: float | None = None
    log_bytes: float | None = None


class Requests(NamedTuple):
    """To S3: writes, and looks (HeadObject) at both sides."""

    writes: float
    source: float
    destination: float


# For a key, as in "What a key costs" of docs/design.md. A copy costs what the destination charges for a write, and
# nothing at the source (S3 API Reference, CopyObject, "Charge"). One that is refused (412) is charged as well (S3 User
# Guide, "conditional requests"; not said of directory buckets).
OF_NEW = Requests(writes=1, source=2, destination=0)
OF_LARGE = Requests(writes=2, source=3, destination=1)  # and a write for each part
OF_DELETED = Requests(writes=0, source=2, destination=1)  # S3 charges nothing for a DELETE
OF_SKIPPED = Requests(writes=1, source=2, destination=1)  # at most: its copy is refused, because it is there already


def alarms(has_events: bool, has_audits: bool, has_metrics: bool) -> int:
    """How many a deployment has; that on late keys (METRICS) watches two metrics, and is paid for twice."""
    return len(ALWAYS) + has_events + has_audits + 2 * has_metrics


def bill(prices: Prices, hours: float, setup: Setup, used: Used, stored: Mapping[str, float]) -> dict[str, Any]:
    """Rows, sums and levers of a month, by what was `used` in these hours. `stored`: the numbers of worker.py measure.

    `rows` are the items of the sync, `storage` is that of the directory bucket; each has its `quantity`, `price` and
    `usd`, and says where the quantity is from. `before_free_usd` is the sum of the rows, `free_usd` what an unused free
    tier takes off, `sync_usd` both together, and `total_usd` that with the storage. Nothing is rounded.
    """
    month = month_of(hours, setup, used)
    rows = [priced(one, prices["prices"]) for one in items(month, setup, used)]
    storage_gb = stored["destination_bytes"] / GB
    storage = row("GB stored in the directory bucket", "express_storage_gb_month", storage_gb, MEASURED)
    storage = priced(storage, prices["prices"])

    before_free = sum(one["usd"] for one in rows)
    free = -free_usd(rows, prices["free_a_month"])
    return {
        "rows": rows,
        "storage": storage,
        "levers": levers(prices["prices"], month, setup, stored),
        "hours": hours,
        "notes": list(notes(prices, month, hours, setup)),
        "prices": {name: value for name, value in prices.items() if name not in ("prices", "free_a_month")},
        "free_usd": free,
        "rests_on": rests_on(rows),
        "before_free_usd": before_free,
        "sync_usd": before_free + free,
        "total_usd": before_free + free + storage["usd"],
    }


# --- the figures of a month -------------------------------------------------------------------------------------------


class Month(NamedTuple):
    """A metric is paid for by the hour in which it has data: in at most `busy_hours`, of a task or a run that copies. A
    run for an event asks the queue a second time."""

    keys: float
    gb: float
    writes: float
    source: float
    destination: float
    tasks: float
    worker_hours: float
    spot_share: float
    runs: float
    announced: float
    log_gb: float
    busy_hours: float
    gb_seconds: float
    event_runs: float
    events: float


def month_of(hours: float, setup: Setup, used: Used) -> Month:
    scale = HOURS_A_MONTH / hours
    keys = (used.copies + used.deletes + used.skipped) * scale
    requests = requests_of(used)
    tasks = used.tasks * scale
    worker_hours = (used.worker_seconds + START_SECONDS * used.tasks) * scale / 3600

    polls = HOURS_A_MONTH * 60 / setup.poll_minutes
    runs = polls if used.runs is None else used.runs * scale
    gb_seconds = runs * RUN_GB_SECONDS
    if used.run_seconds is not None:
        gb_seconds = used.run_seconds * setup.function_gb * scale

    announced = used.announced * scale
    log_bytes = LOG_BYTES_A_KEY * used.copies if used.log_bytes is None else used.log_bytes
    return Month(
        keys=keys,
        gb=used.bytes * scale / GB,
        writes=(requests.writes + used.parts) * scale,
        source=requests.source * scale,
        destination=requests.destination * scale,
        tasks=tasks,
        worker_hours=worker_hours,
        spot_share=ASSUMED_SPOT_SHARE if used.spot_share is None else used.spot_share,
        runs=runs,
        announced=announced,
        log_gb=log_bytes * scale / GB,
        busy_hours=worker_hours + tasks + (keys if setup.function_copies else 0),
        gb_seconds=gb_seconds,
        event_runs=max(runs - polls, 0) if setup.has_events else 0,
        events=(keys if setup.has_events else 0) + announced,
    )


def requests_of(used: Used) -> Requests:
    """Without the parts of large objects."""
    kinds = (
        (used.copies - used.large, OF_NEW),
        (used.large, OF_LARGE),
        (used.deletes, OF_DELETED),
        (used.skipped, OF_SKIPPED),
    )
    return Requests(
        writes=sum(keys * of_each.writes for keys, of_each in kinds),
        source=sum(keys * of_each.source for keys, of_each in kinds),
        destination=sum(keys * of_each.destination for keys, of_each in kinds),
    )


# --- the items --------------------------------------------------------------------------------------------------------


def row(item: str, price_name: str, quantity: float, source: str) -> Row:
    return {"item": item, "price_name": price_name, "quantity": quantity, "from": source}


def priced(one: Row, prices: Mapping[str, float]) -> Row:
    price = prices.get(one["price_name"], 0)
    return {**one, "price": price, "usd": one["quantity"] * price}


def items(month: Month, setup: Setup, used: Used) -> Iterator[Row]:
    """Those of the sync, without what this deployment does not have."""
    yield row("GB into the directory bucket", "express_upload_gb", month.gb, MEASURED)
    yield row("S3 writes", "express_put_request", month.writes, BY_RULE)
    yield row("looks at the source", "standard_get_request", month.source, BY_RULE)
    yield row("looks at the destination", "express_get_request", month.destination, BY_RULE)
    yield from filter(has_quantity, items_of_workers(month, setup, used))
    if setup.has_public_ip:
        yield row("hours of a public IPv4 address", "ipv4_hour", month.worker_hours, MEASURED)

    # A message is sent, received and deleted.
    sqs = 3 * month.keys + month.runs + month.event_runs + POLLS_AN_HOUR * month.worker_hours
    yield row("requests to the queue", "sqs_request", sqs, BY_RULE)
    events = row("events, also of ANNOUNCE", "event", month.events, BY_RULE)
    yield from filter(has_quantity, [events])
    yield row("runs of the starter", "lambda_request", month.runs, measured_or_rule(used.runs))
    yield row("GB-seconds of the starter", "lambda_gb_second", month.gb_seconds, measured_or_rule(used.run_seconds))
    yield row("GB of logs", "logs_gb", month.log_gb, measured_or_rule(used.log_bytes))

    metrics = setup.metrics * min(HOURS_A_MONTH, month.busy_hours) / HOURS_A_MONTH
    standing = (
        row("GB of the image", "image_gb_month", setup.image_gb, ASSUMED),
        row("metrics of METRICS", "metric_month", metrics, BY_RULE),
        row("alarms", "alarm_month", setup.alarms, BY_RULE),
        row("dashboard", "dashboard_month", setup.dashboards, BY_RULE),
        row("gateway endpoints", "", setup.endpoints, BY_RULE),
    )
    yield from filter(has_quantity, standing)


def items_of_workers(month: Month, setup: Setup, used: Used) -> Iterator[Row]:
    source = ASSUMED if used.spot_share is None else MEASURED
    kinds = (("Spot", "spot_", month.spot_share), ("on demand", "", 1 - month.spot_share))
    for kind, prefix, share in kinds:
        hours = month.worker_hours * share
        yield row(f"vCPU hours of workers, {kind}", f"{prefix}vcpu_hour", hours * setup.vcpus, source)
        yield row(f"GB hours of workers, {kind}", f"{prefix}memory_gb_hour", hours * setup.memory_gb, source)


def has_quantity(one: Row) -> bool:
    return bool(one["quantity"] > 0)


def measured_or_rule(figure: float | None) -> str:
    return BY_RULE if figure is None else MEASURED


def free_usd(rows: Iterable[Row], free: Mapping[str, float]) -> float:
    """What the free tier takes off, of what the rows use."""
    usd = 0.0
    for one in rows:
        usd += min(one["quantity"], free.get(one["price_name"], 0)) * one["price"]
    return usd


def rests_on(rows: Sequence[Row]) -> dict[str, float]:
    """How much of the sync is measured, by the rule, or assumed."""
    sums = dict.fromkeys((MEASURED, BY_RULE, ASSUMED), 0.0)
    for one in rows:
        sums[one["from"]] += one["usd"]
    return {source.removeprefix("by the "): usd for source, usd in sums.items()}


# --- what would be cheaper --------------------------------------------------------------------------------------------


def saves(usd: float) -> bool:
    """Whether that is worth a lever: at least a cent a month."""
    return usd >= 0.005


def levers(prices: Mapping[str, float], month: Month, setup: Setup, stored: Mapping[str, float]) -> list[Row]:
    """Settings that would save something, before the free tier."""
    found = [*levers_of_storage(prices, stored), *levers_of_workers(prices, month, setup)]

    announced = month.announced * prices["event"]
    found.append(lever("ANNOUNCE=none", announced, "no event announces a copy"))

    received = (month.events - month.announced) * prices["event"]
    found.append(lever("EVENT_SOURCE=sqs", received, "a worker starts up to a minute later"))

    return [one for one in found if saves(one["usd"])]


def lever(setting: str, usd: float, why: str) -> Row:
    return {"lever": setting, "usd": usd, "why": why}


def levers_of_storage(prices: Mapping[str, float], stored: Mapping[str, float]) -> Iterator[Row]:
    """What KEEP_DAYS saves is what the destination has beyond it."""
    unwanted = stored["excluded_bytes"] + stored["aged_bytes"]
    wanted = stored["destination_bytes"] - stored["excluded_bytes"] - stored["aged_bytes"]
    saved = {f"KEEP_DAYS={days}": wanted - stored[f"kept_{days}_bytes"] for days in KEPT_DAYS}
    saved["./sync.sh reconcile --remove-unwanted"] = unwanted

    for setting, size in saved.items():
        gb = size / GB
        usd = gb * prices["express_storage_gb_month"]
        yield lever(setting, usd, f"{plain(rounded(gb, 2))} GB less to store")


def levers_of_workers(prices: Mapping[str, float], month: Month, setup: Setup) -> Iterator[Row]:
    """Those that always run, and how often the starter looks for work."""
    hours = min(setup.min_workers * HOURS_A_MONTH, month.worker_hours)
    why = "at most: no worker runs while nothing comes"
    yield lever("MIN_WORKERS=0", hours * worker_hour_usd(prices, month.spot_share, setup), why)

    fewer = HOURS_A_MONTH * 60 * (1 / setup.poll_minutes - 1 / 5)
    gb_seconds = month.gb_seconds / month.runs if month.runs > 0 else 0
    of_each = prices["lambda_request"] + prices["sqs_request"] + gb_seconds * prices["lambda_gb_second"]
    yield lever("LAMBDA_POLL_RATE=5", fewer * of_each, "a worker starts up to five minutes later")


def worker_hour_usd(prices: Mapping[str, float], spot: float, setup: Setup) -> float:
    """A worker for an hour."""
    on_spot = setup.vcpus * prices["spot_vcpu_hour"] + setup.memory_gb * prices["spot_memory_gb_hour"]
    on_demand = setup.vcpus * prices["vcpu_hour"] + setup.memory_gb * prices["memory_gb_hour"]
    address = prices["ipv4_hour"] if setup.has_public_ip else 0
    return spot * on_spot + (1 - spot) * on_demand + address


# --- what a reader has to know of the figures -------------------------------------------------------------------------


def notes(prices: Prices, month: Month, hours: float, setup: Setup) -> Iterator[str]:
    if prices["region"] != setup.region:
        yield f"this deployment is in {setup.region}, where prices may differ"
    if setup.arch == "X86_64":
        yield "ours for vCPUs and memory are those of ARM64: X86_64 costs a quarter more"

    if month.tasks > 0:
        config = month.tasks * CONFIG_ITEMS_A_TASK * prices["prices"]["config_item"]
        tasks = rounded(month.tasks)
        have = "its 1 task" if tasks == 1 else f"each of the {tasks:.0f} tasks"
        yield f"not in the sum: {money(config)} more if AWS Config continuously records network"
        yield f"interfaces, of which {have} has one"

    yield f"figures of the last {digits(hours / 24, 1)} days, as for a month of {HOURS_A_MONTH} hours"
    if hours < 24:
        yield "WARNING: less than a day of history: what its first hours cost, such as a"
        yield "first fill, is taken for a whole month; ask again after a day or more"


# --- numbers ----------------------------------------------------------------------------------------------------------


def rounded(number: float, count: int = 0) -> float:
    """With so many digits; what is halfway between two numbers goes away from zero."""
    unit: float = 10**count
    scaled = abs(number) * unit
    whole = math.floor(scaled)
    if scaled - whole >= 0.5:
        whole += 1
    return (-whole if number < 0 else whole) / unit


def digits(number: float, count: int) -> str:
    return f"{rounded(number, count):.{count}f}"


def money(usd: float) -> str:
    if usd < 0:
        return f"-{money(-usd)}"
    return "<0.01" if 0 < usd < 0.005 else digits(usd, 2)


def plain(number: float) -> str:
    """A whole number without a point."""
    return str(without_points(number))


def without_points(value: Any) -> Any:
    """Whole numbers without a point, as JSON is to have them."""
    if isinstance(value, dict):
        return {name: without_points(one) for name, one in value.items()}
    if isinstance(value, list):
        return [without_points(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def in_cents(one: Mapping[str, Any]) -> dict[str, Any]:
    """A row or a lever, whose USD and quantity have two digits."""
    return {name: rounded(value, 2) if name in ("usd", "quantity") else value for name, value in one.items()}


def for_json(found: Mapping[str, Any]) -> dict[str, Any]:
    """A bill, or an estimate, as it is printed."""
    names = [name for name in ("rows", "levers", "modes") if name in found]
    lists = {name: list(map(in_cents, found[name])) for name in names}
    sums = {name: rounded(found[name], 2) for name in ("free_usd", "before_free_usd", "sync_usd", "total_usd")}
    parts = {name: rounded(usd, 2) for name, usd in found["rests_on"].items()}
    whole: dict[str, Any] = without_points(
        {**found, **lists, **sums, "storage": in_cents(found["storage"]), "rests_on": parts}
    )
    return whole
