"""A simulated month on the stand-in: what KEEP_DAYS, EXCLUDE and prefixes leave in the destination, and its cost.

    .venv/bin/python tests/bench/month.py                           a few minutes
    .venv/bin/python tests/bench/month.py --days 10 --objects-a-day 20

Objects come every day, are overwritten, deleted, copied onto themselves, archived and restored; events of them come
late, twice or never; the lifecycle comes up to two days late. In the first month KEEP_DAYS is raised and lowered and
EXCLUDE and PREFIX_FILTER change, and at rest, twice a day, all claims of month_world.py have to hold. Then the same
changes of the source once for each of three deployments that do not change, with what the destination costs by day.
"""

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "standin"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "worker"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "docs"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import cost
from month_plan import DAY, EXCLUDED, HOUR, SYNCED, Deployed, Script
from month_world import IN_PARTS, Month, Rest
from rows import aligned, number
from standin import running_standin
from world import CREDENTIALS, World

BEGIN = int(datetime(2026, 3, 1, tzinfo=UTC).timestamp())
STOCK_DAYS = 30  # of the source before the first day
REMOVES_EVERY = 3  # days
FIRST = Deployed(SYNCED, EXCLUDED, 7)
# When of the month what is deployed.
CHANGES = (
    (0.30, Deployed(SYNCED, EXCLUDED, 14)),
    (0.45, Deployed(SYNCED, (*EXCLUDED, "*.bak"), 14)),
    (0.60, Deployed(("hot/", "results/"), (*EXCLUDED, "*.bak"), 14)),
    (0.75, Deployed(("hot/", "results/"), (*EXCLUDED, "*.bak"), 5)),
)
SIDE_BY_SIDE = {
    "everything": Deployed(),
    "prefixes, EXCLUDE": Deployed(SYNCED, EXCLUDED),
    "and KEEP_DAYS=7": FIRST,
}


def month(runs: Month, days: int, changes: tuple[tuple[float, Deployed], ...] = ()) -> Iterator[Rest]:
    """The rest after the backfill, then two of each day: at its midnight and in its evening."""
    runs.begin(STOCK_DAYS)
    yield runs.rest()
    deploys = {int(share * days): deployed for share, deployed in changes}
    for day in range(days):
        runs.set_clock(BEGIN + day * DAY)
        runs.run_lifecycle()
        yield runs.rest()
        for hour in (9, 15):
            runs.set_clock(BEGIN + day * DAY + hour * HOUR)
            runs.change(0.4)
            runs.drain()
            if hour == 9 and day in deploys:
                runs.deploy(deploys[day])
        runs.set_clock(BEGIN + day * DAY + 18 * HOUR)
        yield runs.rest(remove=day % REMOVES_EVERY == REMOVES_EVERY - 1)
        runs.set_clock(BEGIN + day * DAY + 22 * HOUR)
        runs.change(0.2)  # what arrives after midnight: the copy is a day younger than its source


# --- What it costs ----------------------------------------------------------------------------------------------------


def days_of(rests: list[Rest]) -> list[tuple[Rest, Counter[str]]]:
    """The evenings, the first of them the backfill, each with what was done since the evening before."""
    return [(rests[0], rests[0].since)] + [
        (evening, night.since + evening.since) for night, evening in zip(rests[1::2], rests[2::2], strict=True)
    ]


def of_storage(rest: Rest) -> float:
    """USD of one day."""
    return rest.gigabytes * float(cost.PRICE["express_storage_gb_month"]) * 24 / cost.HOURS_A_MONTH


def of_copies(since: Counter[str]) -> float:
    """USD for bytes and requests. What workers cost is left out, as it is the same for all."""
    bill = cost.bill(used={"copies": since["copied"], "bytes": since["bytes"]})
    return cost.usd(bill, *cost.ITEMS["bytes and S3 requests"])


# --- Tables -----------------------------------------------------------------------------------------------------------


def is_shown(day: int, days: int) -> bool:
    return day in (0, 1, days) or day % 5 == 0


def table_of_days(rests: list[Rest]) -> str:
    found = days_of(rests)
    rows = [["day", "KEEP_DAYS", "source", "wanted", "destination", "unwanted", "copied", "again", "expired"]]
    for day, (rest, since) in enumerate(found):
        if is_shown(day, len(found) - 1) or since["again"]:
            counts = (rest.keep_days, rest.in_source, rest.wanted, rest.in_destination, rest.unwanted)
            rows.append([str(day), *map(str, counts), *(str(since[name]) for name in ("copied", "again", "expired"))])
    total = sum((since for _, since in found), Counter())
    rows.append(["all", *[""] * 5, *(str(total[name]) for name in ("copied", "again", "expired"))])
    return aligned(rows)


def table_of_costs(by_name: dict[str, list[Rest]]) -> str:
    """By day what the destination holds and costs; the copies of the backfill are in day 0, which has no storage."""
    rows = [["day", *(f"{name}: GB, USD" for name in by_name)]]
    columns = [days_of(rests) for rests in by_name.values()]
    for day, cells in enumerate(zip(*columns, strict=True)):
        if is_shown(day, len(columns[0]) - 1):
            spent = [(rest.gigabytes, of_storage(rest) * (day > 0) + of_copies(since)) for rest, since in cells]
            rows.append([str(day), *(f"{held:,.1f}, {usd:.3f}" for held, usd in spent)])
    return aligned(rows)


def table_of_totals(by_name: dict[str, list[Rest]]) -> str:
    rows = [["", "copies", "GB copied", "GB-days", "copies USD", "storage USD", "all USD", "of everything"]]
    whole = 0.0
    for name, rests in by_name.items():
        days = days_of(rests)
        since = sum((done for _, done in days), Counter())
        storage, copies = sum(of_storage(rest) for rest, _ in days[1:]), of_copies(since)
        whole = whole or storage + copies
        figures = (since["copied"], since["bytes"] / 1e9, sum(rest.gigabytes for rest, _ in days[1:]))
        rows.append([name, *(f"{figure:,.0f}" for figure in figures), f"{copies:.2f}", f"{storage:.2f}"])
        rows[-1] += [f"{storage + copies:.2f}", f"{100 * (storage + copies) / whole:.0f} %"]
    return aligned(rows)


# --- The program ------------------------------------------------------------------------------------------------------


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--days", type=int, default=30, help="%(default)s")
    parser.add_argument("--seed", type=int, default=1, help="%(default)s")
    parser.add_argument("--objects-a-day", type=int, default=100, help="new ones (%(default)s)")
    return parser.parse_args()


def run_all(world: World, days: int, seed: int, objects_a_day: int) -> dict[str, list[Rest]]:
    """The rests of each month by its name; "" is the one in which deployments change."""
    by_name = {}
    for name, deployed in {"": FIRST, **SIDE_BY_SIDE}.items():
        begun = time.monotonic()
        settings, changes = ({}, ()) if name else (IN_PARTS, CHANGES)
        runs = Month(world, deployed, Script(seed, objects_a_day), BEGIN, settings)
        by_name[name] = list(month(runs, days, changes))
        took = number(time.monotonic() - begun)
        seen = ", ".join(f"{count} {what}" for what, count in sorted(runs.seen.items()) if count)
        print(f"{name or 'with changes'}: {len(by_name[name])} rests, {took} s; {seen}", file=sys.stderr, flush=True)
    return by_name


def main() -> None:
    arguments = parse_arguments()
    begun = time.monotonic()
    with running_standin() as standin:
        os.environ |= CREDENTIALS | {"AWS_ENDPOINT_URL": standin.url}
        world = World(standin)
        by_name = run_all(world, arguments.days, arguments.seed, arguments.objects_a_day)
        world.kill_all()
    rests = by_name.pop("")
    print(f"All claims held, {len(rests)} times at rest with deployments that change.\n\n{table_of_days(rests)}\n")
    print(f"{table_of_costs(by_name)}\n\n{table_of_totals(by_name)}\n\n{time.monotonic() - begun:.0f} seconds")


if __name__ == "__main__":
    main()
