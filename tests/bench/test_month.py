"""A small month of month.py: its claims hold for the product, and a fault that is planted breaks the one it should."""

import dataclasses
import os
from collections import Counter
from collections.abc import Callable
from typing import Any

import month
import pytest
from month import BEGIN, CHANGES, Month
from month_plan import DAY, EXCLUDED, SYNCED, Deployed, Script
from month_world import IN_PARTS
from world import World

import mirror.protocol.sync
import mirror.protocol.verdict
import mirror.readers.reconcile
from mirror.model.selection import Wanted
from mirror.readers.repairs import Removal

DAYS, OBJECTS_A_DAY, SEED = 14, 10, 1
NIGHTLY = os.environ.get("NIGHTLY") == "1"


def small(world: World, keep_days: int = 7, seed: int = SEED) -> Month:
    script = Script(seed, OBJECTS_A_DAY, churn=0.3, lost=0.2)
    return Month(world, Deployed(SYNCED, EXCLUDED, keep_days), script, BEGIN, IN_PARTS)


@pytest.mark.parametrize("seed", range(1, 9) if NIGHTLY else (SEED,))
def test_all_claims_hold_in_a_month_that_has_everything_in_it(seed: int, world: World) -> None:
    runs = small(world, seed=seed)
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


# --- Planted faults ---------------------------------------------------------------------------------------------------

type Plant = Callable[[Month, pytest.MonkeyPatch], None]

is_expired = Wanted.is_expired


def other_days(more: int) -> Callable[..., bool]:
    def wrong(self: Wanted, modified: float, now: float) -> bool:
        return is_expired(dataclasses.replace(self, keep_days=self.keep_days + more), modified, now)

    return wrong


def rules_with(change: Callable[[Any], None]) -> Plant:
    """Each rule that keeps objects for days is changed in place."""

    def changed(rules: list[Any]) -> list[Any]:
        for rule in rules:
            if "Expiration" in rule:
                change(rule)
        return rules

    return lifecycles_with(lambda found: [changed(rules) for rules in found])


def lifecycles_with(change: Callable[[list[Any]], list[Any]]) -> Plant:
    def plant(runs: Month, _: pytest.MonkeyPatch) -> None:
        right = runs.lifecycles
        runs.lifecycles = lambda *given: change(right(*given))

    return plant


def code_with(owner: Any, name: str, wrong: Any) -> Plant:
    return lambda _, monkeypatch: monkeypatch.setattr(owner, name, wrong)


def reconcile_at(other: Callable[[float], float]) -> Plant:
    """Reconcile takes the time for another one as it compares the listings."""
    compared = mirror.readers.reconcile.Compared
    return code_with(
        mirror.readers.reconcile, "Compared", lambda wanted, now, *more: compared(wanted, other(now), *more)
    )


async def nothing(*_: Any) -> None:
    pass


NEVER_LESS = "never less than the wanted set"
NOT_TWICE = "no version is copied twice"
NO_MORE = "there is no more than what reconcile calls unwanted"
ONLY_WANTED = "only what is wanted is copied"
NOT_EARLY = "the lifecycle takes no copy of what is wanted"
IN_TIME = "the lifecycle takes each copy in time"
OUTSIDE = "nothing outside the prefixes changes"


def days_more(more: int) -> Callable[[Any], None]:
    return lambda rule: rule["Expiration"].update(Days=rule["Expiration"]["Days"] + more)


def prefix(text: str) -> Callable[[Any], None]:
    return lambda rule: rule["Filter"].update(Prefix=text)


# what is wrong: (the claim that it breaks, how it is planted)
FAULTS = {
    "expired a day early": (NEVER_LESS, code_with(Wanted, "is_expired", other_days(-1))),
    "expired a day late": (ONLY_WANTED, code_with(Wanted, "is_expired", other_days(1))),
    "the worker ignores KEEP_DAYS": (ONLY_WANTED, code_with(mirror.protocol.sync, "is_expired", lambda *_: False)),
    "reconcile ignores KEEP_DAYS": (NO_MORE, reconcile_at(lambda _: 0)),
    "reconcile counts a day too few": (NEVER_LESS, reconcile_at(lambda now: now + DAY)),
    "a copy is taken for none": (NOT_TWICE, code_with(mirror.protocol.verdict, "is_equal", lambda *_: False)),
    "EXCLUDE is ignored": (ONLY_WANTED, code_with(Wanted, "excludes", lambda *_: False)),
    "--remove-unwanted removes nothing": (NO_MORE, code_with(Removal, "run", nothing)),
    "rules for a day too few": (NOT_EARLY, rules_with(days_more(-1))),
    "rules for a day too many": (IN_TIME, rules_with(days_more(1))),
    "a rule for the whole bucket": (OUTSIDE, rules_with(prefix(""))),
    "a rule for one prefix only": (IN_TIME, rules_with(prefix("hot/"))),
    "rules that are not loosened first": (NOT_EARLY, lifecycles_with(lambda found: [found[1], found[1]])),
}


ONE_OF_EACH_CLAIM = {claim: fault for fault, (claim, _) in reversed(FAULTS.items())}.values()


@pytest.mark.parametrize("fault", FAULTS if NIGHTLY else ONE_OF_EACH_CLAIM)
def test_a_planted_fault_breaks_a_claim(fault: str, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    claim, plant = FAULTS[fault]
    runs = small(world, keep_days=2)
    plant(runs, monkeypatch)
    with pytest.raises(AssertionError, match=f"^{claim}: "):
        list(month.month(runs, 8, ((0.6, Deployed(SYNCED, EXCLUDED, 1)),)))
