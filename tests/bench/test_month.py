"""A small month of month.py: its claims hold for the product, and everything of which they speak comes up in it."""

import os
from collections import Counter

import month
import pytest
from documents import Scripts, scripts_of_module
from month import BEGIN, CHANGES, FIRST, Month
from month_plan import Script
from month_world import IN_PARTS, lifecycles_of
from world import World

DAYS, OBJECTS_A_DAY = 14, 10
SEEDS = range(1, 9) if os.environ.get("NIGHTLY") == "1" else (1,)

scripts = scripts_of_module()


@pytest.mark.parametrize("seed", SEEDS)
def test_all_claims_hold_in_a_month_that_has_everything_in_it(seed: int, world: World, scripts: Scripts) -> None:
    script = Script(seed, OBJECTS_A_DAY, churn=0.3, lost=0.2)
    runs = Month(world, FIRST, script, BEGIN, lifecycles_of(scripts), dict(IN_PARTS))
    rests = list(month.month(runs, DAYS, CHANGES))
    assert len(rests) == 1 + 2 * DAYS
    done = sum((rest.since for rest in rests), Counter())
    assert all(done[name] for name in ("copied", "again", "expired")), done
    kinds = ("missing", "stale", "ghost", "archived", "unwanted", "too old")
    assert all(runs.seen[kind] for kind in kinds), runs.seen
    assert all(rest.unwanted == 0 for rest in rests if rest.removed)
    assert {rest.keep_days for rest in rests} == {7, 14, 5}
    assert world.requests()["UploadPartCopy"]
    row = month.table_of_costs({"a": rests}).splitlines()[-1].split(" | ")
    assert (row[0].split()[1], row[1].strip(), row[-1].split()[0]) == ("a", str(done["copied"]), "100%")
