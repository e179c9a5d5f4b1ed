"""A simulated month on the stand-in: what KEEP_DAYS, EXCLUDE and prefixes leave in the destination, and its cost.

    .venv/bin/python tests/bench/month.py                           a few minutes
    .venv/bin/python tests/bench/month.py --days 10 --objects-a-day 20

Objects come every day, are overwritten, deleted, copied onto themselves, archived and restored; events of them come
late, twice or never; the lifecycle comes up to two days late. In the first month KEEP_DAYS is raised and lowered and
EXCLUDE and PREFIX_FILTER change, and at rest, twice a day, all claims of month_world.py have to hold. Then the same
changes of the source once for each of three deployments that do not change, with what the destination costs.
"""

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from core import Row, machine, running_standin, table
from cost import HOURS_A_MONTH, ITEMS, PRICE, bill, usd
from documents import sourced_scripts
from month_plan import DAY, EXCLUDED, HOUR, SYNCED, Deployed, Script
from month_world import IN_PARTS, Month, Rest, lifecycles_of
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


def table_of_costs(by_name: dict[str, list[Rest]]) -> str:
    """USD for the copies, those of the backfill too, and for storage, by what is there in the evenings. What workers
    cost is left out, as it is the same for all."""
    rows, whole = list[Row](), 0.0
    for name, rests in by_name.items():
        since, held = sum((rest.since for rest in rests), Counter()), sum(rest.gigabytes for rest in rests[2::2])
        copies = usd(bill(used={"copies": since["copied"], "bytes": since["bytes"]}), *ITEMS["bytes and S3 requests"])
        storage = held * float(PRICE["express_storage_gb_month"]) * 24 / HOURS_A_MONTH
        whole = whole or storage + copies
        rows.append({"": name, "copies": since["copied"], "GB copied": since["bytes"] / 1e9, "GB-days": held})
        amounts = {"copies USD": copies, "storage USD": storage, "all USD": storage + copies}
        rows[-1] |= {what: f"{amount:.2f}" for what, amount in amounts.items()}
        rows[-1]["of everything"] = f"{100 * (storage + copies) / whole:.0f}%"
    return table(rows)


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    options.add_argument("--days", type=int, default=30, help="%(default)s")
    options.add_argument("--seed", type=int, default=1, help="%(default)s")
    options.add_argument("--objects-a-day", type=int, default=100, help="new ones (%(default)s)")
    arguments = options.parse_args()
    by_name: dict[str, list[Rest]] = {}
    with running_standin() as standin, TemporaryDirectory() as folder, sourced_scripts(Path(folder)) as scripts:
        os.environ |= CREDENTIALS | {"AWS_ENDPOINT_URL": standin.url}
        world = World(standin)
        for name, deployed in {"with changes": FIRST, **SIDE_BY_SIDE}.items():
            begun = time.monotonic()
            settings, changes = ({}, ()) if by_name else (IN_PARTS, CHANGES)
            script = Script(arguments.seed, arguments.objects_a_day)
            runs = Month(world, deployed, script, BEGIN, lifecycles_of(scripts), settings)
            by_name[name] = list(month(runs, arguments.days, changes))
            took = time.monotonic() - begun
            print(f"{name}: {len(by_name[name])} rests, {took:.0f} s; {dict(runs.seen)}", file=sys.stderr, flush=True)
        world.kill_all()
    rests = by_name.pop("with changes")
    done = sum((rest.since for rest in rests), Counter())
    told = ", ".join(f"{done[name]} {name}" for name in ("copied", "again", "expired"))
    print(f"All claims held, {len(rests)} times at rest with deployments that change: {told}. {machine()}\n")
    print(table_of_costs(by_name))


if __name__ == "__main__":
    main()
