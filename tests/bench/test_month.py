"""A small month of month.py: its claims hold for the product, and a fault that is planted breaks the one it should."""

import os
from collections import Counter
from collections.abc import Callable
from typing import Any

import month
import pytest
from documents import Scripts, scripts_of_module
from month import BEGIN, CHANGES, Month
from month_plan import EXCLUDED, SYNCED, Deployed, Script
from month_world import IN_PARTS, lifecycles_of
from world import MIRROR, World

DAYS, OBJECTS_A_DAY, SEED = 14, 10, 1
NIGHTLY = os.environ.get("NIGHTLY") == "1"


scripts = scripts_of_module()


def small(world: World, scripts: Scripts, keep_days: int = 7, seed: int = SEED, kind: type[Month] = Month) -> Month:
    script = Script(seed, OBJECTS_A_DAY, churn=0.3, lost=0.2)
    return kind(world, Deployed(SYNCED, EXCLUDED, keep_days), script, BEGIN, lifecycles_of(scripts), dict(IN_PARTS))


@pytest.mark.parametrize("seed", range(1, 9) if NIGHTLY else (SEED,))
def test_all_claims_hold_in_a_month_that_has_everything_in_it(seed: int, world: World, scripts: Scripts) -> None:
    runs = small(world, scripts, seed=seed)
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

type Plant = Callable[[Month], None]


def rules_with(change: Callable[[Any], None]) -> Plant:
    """Each rule that keeps objects for days is changed in place."""

    def changed(rules: list[Any]) -> list[Any]:
        for rule in rules:
            if "Expiration" in rule:
                change(rule)
        return rules

    return lifecycles_with(lambda found: [changed(rules) for rules in found])


def lifecycles_with(change: Callable[[list[Any]], list[Any]]) -> Plant:
    def plant(runs: Month) -> None:
        right = runs.lifecycles
        runs.lifecycles = lambda *given: change(right(*given))

    return plant


def workers_with(**settings: str) -> Plant:
    """Others than those of the deployment."""
    return lambda runs: runs.settings.update(settings)


class Unremoved(Month):
    def reconcile(self, remove: bool) -> dict[str, set[str]]:  # noqa: ARG002 it asks for nothing
        return super().reconcile(remove=False)


class Lossy(Month):
    """A copy vanishes while the source changes."""

    def change(self, part: float) -> None:
        super().change(part)
        copies = self.standin.objects(MIRROR)
        for key in [key for key, copy in copies.items() if self.is_wanted_copy(key, copy)][:1]:
            self.standin.delete(MIRROR, key)


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


def nothing(_: Month) -> None: ...


# what is wrong: (the claim that it breaks, how it is planted, in which month)
FAULTS: dict[str, tuple[str, Plant, type[Month]]] = {
    "workers with a day too few": (NEVER_LESS, workers_with(KEEP_DAYS="1"), Month),
    "workers with a day too many": (ONLY_WANTED, workers_with(KEEP_DAYS="3"), Month),
    "workers without EXCLUDE": (ONLY_WANTED, workers_with(EXCLUDE=""), Month),
    "copies that vanish": (NOT_TWICE, nothing, Lossy),
    "--remove-unwanted removes nothing": (NO_MORE, nothing, Unremoved),
    "rules for a day too few": (NOT_EARLY, rules_with(days_more(-1)), Month),
    "rules for a day too many": (IN_TIME, rules_with(days_more(1)), Month),
    "a rule for the whole bucket": (OUTSIDE, rules_with(prefix("")), Month),
    "a rule for one prefix only": (IN_TIME, rules_with(prefix("hot/")), Month),
    "rules that are not loosened first": (NOT_EARLY, lifecycles_with(lambda found: [found[1], found[1]]), Month),
}
ONE_OF_EACH_CLAIM = {claim: fault for fault, (claim, _, _) in reversed(FAULTS.items())}.values()


@pytest.mark.parametrize("fault", FAULTS if NIGHTLY else ONE_OF_EACH_CLAIM)
def test_a_planted_fault_breaks_a_claim(fault: str, world: World, scripts: Scripts) -> None:
    claim, plant, kind = FAULTS[fault]
    runs = small(world, scripts, keep_days=2, kind=kind)
    plant(runs)
    with pytest.raises(AssertionError, match=f"^{claim}: "):
        list(month.month(runs, 8, ((0.6, Deployed(SYNCED, EXCLUDED, 1)),)))
