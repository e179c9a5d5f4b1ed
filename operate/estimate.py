"""What a month of a deployment would cost: estimate() says so from settings and from what arrives.

It is the arithmetic of ./sync.sh cost --estimate, and asks nobody. What it takes for granted is explained in
docs/costs.md, "A month" and "By mode".
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from mirror.model.checks import TABLE
from mirror.model.log_lines import amount
from operate.bill import (
    BY_RULE,
    GB,
    HOURS_A_MONTH,
    KEPT_DAYS,
    LOG_BYTES_A_KEY,
    MEASURED,
    METRICS,
    RUN_GB_SECONDS,
    START_SECONDS,
    Prices,
    Setup,
    Used,
    alarms,
    bill,
    plain,
)

DAYS_A_MONTH = 30
DAY_SECONDS = HOURS_A_MONTH * 3600 / DAYS_A_MONTH
BUSY_SECONDS = 0.006  # of a worker, for one of many files ...
GB_A_SECOND = 2  # ... or for the bytes of many, and for a file that is copied in parts
SECONDS_A_GB = 15  # of one copy
LOOK_SECONDS = 0.15  # of a run of the starter for an event, which leaves the work to a worker
COPY_SECONDS = 2  # of one that copies: a second of it is the poll that finds the queue empty
COPY_MOST_SECONDS = 50  # for so long a run copies at most
EVENT_AGE_SECONDS = 60  # a burst is cut off: events that waited longer for a run are dropped
COPIES_ALONE = 500  # waiting messages; if there are more, workers start as well
RUN_LOG_BYTES = 600
IMAGE_GB = 0.06  # about what the image takes in ECR

SPREAD, BURST, ONCE = "spread", "burst", "once"


class Load(NamedTuple):
    """What arrives: `files` a day of so many `bytes` each, or, with ONCE, `files` in all. None: what a month brings is
    kept, and all days of it."""

    files: int
    bytes: int
    arrival: str
    keep_gb: float | None = None
    keep_days: int | None = None


class Plan(NamedTuple):
    """A deployment, and what the rules have to know of its settings."""

    setup: Setup
    copying_gb: float  # of the function, if it copies
    starter_gb: float  # and if it does not
    max_workers: int
    messages_per_worker: int
    idle_seconds: int
    largest_copy: int
    part_bytes: int
    function_most: int
    announces: bool


DEFAULTS = {setting.name: setting.default for setting in TABLE}


def number_of(settings: Mapping[str, str], name: str) -> int:
    """Without a value, what the worker goes by."""
    return int(settings[name] or DEFAULTS[name])


def plan_of(settings: Mapping[str, str], copying_mib: int, starter_mib: int) -> Plan:
    """`settings`: those of mirror/model/settings.table. The function has one of these sizes of memory."""

    def number(name: str) -> int:
        return number_of(settings, name)

    has_events = settings["EVENT_SOURCE"] == "eventbridge"
    has_metrics = settings["METRICS"] == "true"
    copies = settings["STARTER_COPIES"] == "true"
    setup = Setup(
        vcpus=number("TASK_CPU") / 1024,
        memory_gb=number("TASK_MEMORY") / 1024,
        function_gb=(copying_mib if copies else starter_mib) / 1024,
        poll_minutes=number("LAMBDA_POLL_RATE"),
        min_workers=number("MIN_WORKERS"),
        alarms=alarms(has_events, settings["AUDIT_DAYS"] != "", has_metrics),
        dashboards=1 if settings["DASHBOARD"] == "true" else 0,
        image_gb=0 if settings["IMAGE_URI"] else IMAGE_GB,
        has_public_ip=settings["ASSIGN_PUBLIC_IP"] == "ENABLED",
        has_events=has_events,
        endpoints=2 if settings["CREATE_VPC_ENDPOINTS"] == "true" else 0,
        metrics=METRICS if has_metrics else 0,
        function_copies=copies,
        region=settings["REGION"],
        arch=settings["TASK_ARCH"],
    )
    return Plan(
        setup=setup,
        copying_gb=copying_mib / 1024,
        starter_gb=starter_mib / 1024,
        max_workers=number("MAX_WORKERS"),
        messages_per_worker=number("MESSAGES_PER_WORKER"),
        idle_seconds=number("EMPTY_POLLS_BEFORE_EXIT") * number("WAIT_TIME_SECONDS"),
        largest_copy=number("MULTIPART_THRESHOLD"),
        part_bytes=number("PART_SIZE"),
        function_most=number("STARTER_MAX_SIZE"),
        announces=settings["ANNOUNCE"].startswith("all"),
    )


def estimate(prices: Prices, plan: Plan, load: Load) -> dict[str, Any]:
    """A bill (operate/bill.py) of a month, with the load, and as `modes` what the sync would cost with other settings.
    Nothing of it is measured."""
    found = bill_of(prices, plan, load)
    rests_on = found["rests_on"]
    return {
        **found,
        "rows": [as_rule(one) for one in found["rows"]],
        "storage": as_rule(found["storage"]),
        "levers": [one for one in found["levers"] if one["lever"] not in ("EVENT_SOURCE=sqs", "MIN_WORKERS=0")],
        "notes": [*found["notes"][:-1], what_arrives(load)],
        "rests_on": {**rests_on, "rule": rests_on["rule"] + rests_on["measured"], "measured": 0},
        "load": load._asdict(),
        "modes": [
            {"settings": name, "usd": bill_of(prices, mode, load)["sync_usd"]} for name, mode in modes_of(plan).items()
        ],
    }


def bill_of(prices: Prices, plan: Plan, load: Load) -> dict[str, Any]:
    return bill(prices, HOURS_A_MONTH, plan.setup, used(plan, load), stored(load))


def as_rule(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "from": BY_RULE if row["from"] == MEASURED else row["from"]}


def modes_of(plan: Plan) -> dict[str, Plan]:
    """The levers of settings, as other plans."""
    return {
        "the defaults": with_mode(plan, has_events=False, copies=False, min_workers=0),
        "EVENT_SOURCE=eventbridge": with_mode(plan, has_events=True, copies=False, min_workers=0),
        "EVENT_SOURCE=eventbridge STARTER_COPIES=true": with_mode(plan, has_events=True, copies=True, min_workers=0),
        "MIN_WORKERS=1": with_mode(plan, has_events=False, copies=False, min_workers=1),
    }


def with_mode(plan: Plan, has_events: bool, copies: bool, min_workers: int) -> Plan:
    setup = plan.setup._replace(
        has_events=has_events,
        function_copies=copies,
        min_workers=min_workers,
        function_gb=plan.copying_gb if copies else plan.starter_gb,
        alarms=plan.setup.alarms - plan.setup.has_events + has_events,
    )
    return plan._replace(setup=setup)


# --- what a month brings ----------------------------------------------------------------------------------------------


class Work(NamedTuple):
    """Of workers or of the starter, for what arrives at once or in a day."""

    runs: float
    seconds: float


def function_does_it(plan: Plan, load: Load) -> bool:
    """Whether the function copies. Beside a worker that always runs it only looks."""
    setup = plan.setup
    return setup.function_copies and setup.min_workers == 0 and load.bytes <= plan.function_most


def work_of_workers(plan: Plan, load: Load) -> Work:
    """The tasks that are started, beside those that always run, and their seconds without the start of a task."""
    gb = load.bytes / GB
    busy = load.files * max(BUSY_SECONDS, gb / GB_A_SECOND)
    alone = gb / GB_A_SECOND if load.bytes > plan.largest_copy else gb * SECONDS_A_GB
    copies = function_does_it(plan, load)

    if load.arrival != SPREAD:
        wanted = min(plan.max_workers, math.ceil(load.files / plan.messages_per_worker))
        tasks = max(wanted - plan.setup.min_workers, 0)
        if copies and load.files <= COPIES_ALONE:
            return Work(0, 0)
        return Work(tasks, tasks * plan.idle_seconds + max(busy, tasks * alone))

    if copies or plan.setup.min_workers > 0:
        return Work(0, 0)
    one = START_SECONDS + plan.idle_seconds + alone
    # A worker that the next file finds running does not end.
    seconds = min(load.files * one, max(DAY_SECONDS, busy))
    return Work(seconds / one, seconds - seconds / one * START_SECONDS)


def work_of_starter(plan: Plan, load: Load) -> Work:
    """Its runs for events, beside those of each minute."""
    setup = plan.setup
    copies = function_does_it(plan, load)
    of_one = COPY_SECONDS if copies else LOOK_SECONDS
    seconds = of_one * load.files

    if setup.has_events:
        if load.arrival != SPREAD:
            seconds = min(seconds, EVENT_AGE_SECONDS + (COPY_MOST_SECONDS if copies else LOOK_SECONDS))
        return Work(min(load.files, seconds / LOOK_SECONDS), seconds)
    if copies:
        return Work(0, min(seconds, COPY_SECONDS * DAY_SECONDS / 60 / setup.poll_minutes))
    return Work(0, 0)


def used(plan: Plan, load: Load) -> Used:
    setup = plan.setup
    batches = 1 if load.arrival == ONCE else DAYS_A_MONTH
    workers = work_of_workers(plan, load)
    starter = work_of_starter(plan, load)
    polls = HOURS_A_MONTH * 60 / setup.poll_minutes

    copies = load.files * batches
    large = copies if load.bytes > plan.largest_copy else 0
    return Used(
        copies=copies,
        large=large,
        parts=large * math.floor(load.bytes / plan.part_bytes + 1),
        bytes=copies * load.bytes,
        announced=copies if plan.announces else 0,
        tasks=batches * workers.runs,
        worker_seconds=batches * workers.seconds + setup.min_workers * HOURS_A_MONTH * 3600,
        runs=polls + batches * starter.runs,
        run_seconds=polls * RUN_GB_SECONDS / setup.function_gb + batches * starter.seconds,
        log_bytes=copies * LOG_BYTES_A_KEY + batches * starter.runs * RUN_LOG_BYTES,
    )


def stored(load: Load) -> dict[str, float]:
    """As worker.py measure counts it."""
    day = load.files * load.bytes
    brought = day if load.arrival == ONCE else (load.keep_days or DAYS_A_MONTH) * day
    kept = brought if load.keep_gb is None else load.keep_gb * GB
    by_days = {days: kept if load.arrival == ONCE else min(days * day, kept) for days in KEPT_DAYS}
    return {
        "destination_bytes": kept,
        "excluded_bytes": 0,
        "aged_bytes": 0,
        **{f"kept_{days}_bytes": size for days, size in by_days.items()},
    }


# --- words ------------------------------------------------------------------------------------------------------------

PREFIXES = "KMGT"
UNITS = {"TB": 10**12, "GB": 10**9, "MB": 10**6, "KB": 10**3}


def what_arrives(load: Load) -> str:
    come = "comes" if load.files == 1 else "come"
    how = {SPREAD: "a day, spread out", BURST: "a day, in one burst", ONCE: f"that {come} once"}
    return f"estimated for {amount(load.files, 'file')} of {size_of(load.bytes)} {how[load.arrival]}"


def size_of(size: int) -> str:
    for unit, least in UNITS.items():
        if size >= least:
            return f"{plain(size / least)} {unit}"
    return f"{size} byte{'' if size == 1 else 's'}"


def bytes_of(size: str) -> int:
    """Of a size such as 1.5GB (1000 MB) or 1GiB (1024 MiB)."""
    found = re.fullmatch("([0-9.]+)([KMGT]?)(I?)B?", size.upper())
    assert found, size
    power = PREFIXES.index(found[2]) + 1 if found[2] else 0
    return int(float(found[1]) * (1024 if found[3] else 1000) ** power)
