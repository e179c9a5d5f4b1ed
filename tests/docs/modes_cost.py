"""What small files cost in a month, by the settings that decide how soon they arrive: "By mode" in docs/costs.md.

    python tests/docs/modes_cost.py

Prices, their date and what a worker costs are those of cost.py. All sums are at most: SQS requests are not batched, and
a run of the function that only looks takes as long as the slowest kind. The five alarms that every deployment has and
its dashboard are left out, as in the first table.
"""

from dataclasses import dataclass
from math import ceil

from cost import (
    FREE,
    HOURS_A_MONTH,
    IDLE_SECONDS,
    IMAGE_GB,
    LISTED,
    LOG_BYTES_PER_OBJECT,
    PRICE,
    PRICES_OF,
    START_SECONDS,
    STARTS_A_MONTH,
    money,
    worker_hour,
)

FREE_HERE = FREE | {"alarm_month": LISTED["free_a_month"]["alarm_month"]}
DAYS_A_MONTH = 30
DAY_SECONDS = HOURS_A_MONTH * 3600 / DAYS_A_MONTH
FILE_GB = 0.0001
MAX_WORKERS, MESSAGES_PER_WORKER = 2, 10  # deploy.sh
BUSY_SECONDS_PER_OBJECT = 0.006  # of a worker; as in the first table, where 10,000 keep two of them busy for 30 s
POLLS_AN_HOUR = 180

# The function. Its memory is in lib/resources/function.sh.
MEMORY_GB, MEMORY_GB_IF_IT_COPIES = 0.125, 0.5
MINUTE_RUN_GB_SECONDS = 0.125  # as in the first table: a second of 128 MB, or a quarter of one with four times the CPU
LOOK_SECONDS = 0.15  # of a run for an event that leaves the work to a worker
COPY_RUN_SECONDS = 2  # of a run that copies: a second of it is the poll that finds the queue empty
COPY_MOST_SECONDS = 50  # for so long a run copies at most
COPIES_ALONE = 500  # waiting messages; if there are more, workers start as well
EVENT_AGE_SECONDS = 60  # then a throttled event is dropped; AWS does not charge for throttled ones
REQUESTS_PER_RUN = 2  # to SQS: the count, and the poll that finds the queue empty
LOG_BYTES_PER_RUN = 600  # START, the report, END, REPORT


@dataclass(frozen=True)
class Load:
    """Small files, each day again: at even intervals, or all at once."""

    name: str
    files: int
    is_burst: bool = False


@dataclass(frozen=True)
class Mode:
    name: str
    has_events: bool = False  # EVENT_SOURCE=eventbridge
    copies: bool = False  # STARTER_COPIES=true
    min_workers: int = 0

    @property
    def responds(self) -> bool:
        """The function copies. Beside a worker that runs it only looks."""
        return self.copies and not self.min_workers


LOADS = (
    Load("no file", 0),
    Load("1 file a day", 1),
    Load("100, spread out", 100),
    Load("100, in one burst", 100, is_burst=True),
    Load("10,000, spread out", 10_000),
    Load("10,000, in one burst", 10_000, is_burst=True),
)
MODES = (
    Mode("the defaults"),
    Mode("`EVENT_SOURCE=eventbridge`", has_events=True),
    Mode("`EVENT_SOURCE=eventbridge STARTER_COPIES=true`", has_events=True, copies=True),
    Mode("`MIN_WORKERS=1`", min_workers=1),
    Mode("all three", has_events=True, copies=True, min_workers=1),
)
BURST = Load("100,000 in one burst", 100_000, is_burst=True)


def worker_seconds(mode: Mode, load: Load) -> float:
    """Of tasks that the files of one day start, beside those that run always."""
    one = START_SECONDS + IDLE_SECONDS
    if load.is_burst:
        if mode.responds and load.files <= COPIES_ALONE:
            return 0
        started = min(MAX_WORKERS, ceil(load.files / MESSAGES_PER_WORKER)) - mode.min_workers
        return started * one + load.files * BUSY_SECONDS_PER_OBJECT
    if mode.responds or mode.min_workers:
        return 0
    return min(load.files * one, DAY_SECONDS)  # one that the next file finds running does not end


def event_runs(mode: Mode, load: Load) -> tuple[float, float]:
    """(runs, seconds) of the function for the events of one day.

    One runs at a time, so a burst is cut off: by one run that copies at the end, and by this many as only look.
    """
    if not mode.has_events:
        return 0, 0
    seconds = load.files * (COPY_RUN_SECONDS if mode.responds else LOOK_SECONDS)
    if load.is_burst:
        seconds = min(seconds, EVENT_AGE_SECONDS + (COPY_MOST_SECONDS if mode.responds else LOOK_SECONDS))
    return min(load.files, seconds / LOOK_SECONDS), seconds


def daily(mode: Mode, load: Load) -> dict[str, float]:
    """Units of each price for the files of one day. A message is sent, received and deleted."""
    runs, seconds = event_runs(mode, load)
    worker_hours = worker_seconds(mode, load) / 3600
    return {
        "express_upload_gb": load.files * FILE_GB,
        "express_put_request": load.files,
        "standard_get_request": 3 * load.files,  # HeadObject, the copy's own, HeadObject
        "sqs_request": 3 * load.files + REQUESTS_PER_RUN * runs + worker_hours * POLLS_AN_HOUR,
        "event": load.files if mode.has_events else 0,
        "lambda_request": runs,
        "lambda_gb_second": seconds * (MEMORY_GB_IF_IT_COPIES if mode.copies else MEMORY_GB),
        "logs_gb": (load.files * LOG_BYTES_PER_OBJECT + runs * LOG_BYTES_PER_RUN) / 1e9,
        "worker_hour": worker_hours,
    }


def standing(mode: Mode) -> dict[str, float]:
    """Units of each price for a month in which nothing comes. The sixth alarm is that of the events' rule."""
    worker_hours = mode.min_workers * HOURS_A_MONTH
    return {
        "sqs_request": STARTS_A_MONTH + worker_hours * POLLS_AN_HOUR,
        "lambda_request": STARTS_A_MONTH,
        "lambda_gb_second": STARTS_A_MONTH * MINUTE_RUN_GB_SECONDS,
        "image_gb_month": IMAGE_GB,
        "alarm_month": int(mode.has_events),
        "worker_hour": worker_hours,
    }


def usage(mode: Mode, load: Load) -> dict[str, float]:
    """Units of each price in a month."""
    used = standing(mode)
    for name, units in daily(mode, load).items():
        used[name] = used.get(name, 0) + DAYS_A_MONTH * units
    return used


def spent(used: dict[str, float]) -> dict[str, float]:
    """USD for each price."""
    prices = PRICE | {"worker_hour": worker_hour()}
    return {name: units * prices[name] for name, units in used.items()}


def given(used: dict[str, float]) -> float:
    """USD that the free tier takes off a month, if nothing else of the account uses it."""
    return sum(spent({name: min(used.get(name, 0), units)})[name] for name, units in FREE_HERE.items())


def cell(used: dict[str, float]) -> str:
    total = sum(spent(used).values())
    return f"{money(total)} ({money(total - given(used))})"


def aligned(lines: list[list[str]]) -> str:
    lines = [lines[0], ["---", *("---:" for _ in lines[0][1:])], *lines[1:]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def table_of_modes() -> str:
    """Markdown: a row for each mode, a column for each load, USD a month and in brackets what the free tier leaves."""
    lines = [["USD", *(load.name for load in LOADS)]]
    lines += [[mode.name, *(cell(usage(mode, load)) for load in LOADS)] for mode in MODES]
    return aligned(lines)


def items(used: dict[str, float]) -> dict[str, float]:
    """USD by what it is for."""
    cost = spent(used)
    groups = {
        "bytes and S3 requests": ("express_upload_gb", "express_put_request", "standard_get_request"),
        "events and their alarm": ("event", "alarm_month"),
        "queue": ("sqs_request",),
        "function": ("lambda_request", "lambda_gb_second"),
        "logs, image": ("logs_gb", "image_gb_month"),
        "workers": ("worker_hour",),
    }
    return {name: sum(cost.get(part, 0) for part in parts) for name, parts in groups.items()}


def table_of_items() -> str:
    """Markdown: what the sums of the other table, before the free tier, are made of."""
    found = {f"{mode.name}: {load.name}": items(usage(mode, load)) for mode in MODES for load in LOADS}
    names = list(next(iter(found.values())))
    return aligned([["USD", *names], *([row, *(money(cost[name]) for name in names)] for row, cost in found.items())])


def line_of_burst() -> str:
    """What one burst costs with EVENT_SOURCE=eventbridge and STARTER_COPIES=true, before the free tier."""
    mode, used = MODES[2], daily(MODES[2], BURST)
    parts = ", ".join(f"{name} {money(cost)}" for name, cost in items(used).items())
    runs, seconds = event_runs(mode, BURST)
    total = money(sum(spent(used).values()))
    return f"{BURST.name}: {total} ({parts}); at most {runs:.0f} runs of the function for {seconds:.0f} s"


def main() -> None:
    print(f"List prices of us-east-1, {PRICES_OF}, in USD a month; in brackets after the free tier\n")
    print(table_of_modes(), line_of_burst(), table_of_items(), sep="\n\n")


if __name__ == "__main__":
    main()
