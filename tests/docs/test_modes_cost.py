"""tests/docs/modes_cost.py: the sums agree with what one can add up by hand."""

import re
from pathlib import Path

import cost
import modes_cost
import pytest
from modes_cost import BURST, LOADS, MODES, Mode

from launch.copying import FEW_MESSAGES, MOST_SECONDS

DEFAULT, EVENTS, COPIES, ALWAYS, ALL = MODES
NONE, ONE, SPREAD, BURST_OF_100, SPREAD_MANY, BURST_OF_MANY = LOADS


def worker_hours(mode: Mode, load: modes_cost.Load) -> float:
    return modes_cost.usage(mode, load)["worker_hour"]


def usd(mode: Mode, load: modes_cost.Load) -> float:
    return sum(modes_cost.spent(modes_cost.usage(mode, load)).values())


def test_the_defaults_cost_what_the_first_table_says_of_the_same_files():
    same = cost.Scenario("small files, one by one", 3000, modes_cost.FILE_GB, 3000, 0)
    assert usd(DEFAULT, SPREAD) == pytest.approx(sum(v for n, v in cost.costs(same).items() if n[0] not in "*F"))
    same = cost.Scenario("small files, in one batch", 300_000, modes_cost.FILE_GB, 60, 30)
    assert usd(DEFAULT, BURST_OF_MANY) == pytest.approx(sum(v for n, v in cost.costs(same).items() if n[0] not in "*F"))


def test_a_task_from_idle_is_its_start_and_its_empty_polls_and_one_that_is_never_idle_never_ends():
    assert worker_hours(DEFAULT, ONE) == pytest.approx(30 * 100 / 3600)
    assert worker_hours(EVENTS, SPREAD) == pytest.approx(3000 * 100 / 3600)
    assert worker_hours(DEFAULT, SPREAD_MANY) == pytest.approx(730)
    assert worker_hours(DEFAULT, BURST_OF_100) == pytest.approx(30 * 2 * 100 / 3600, rel=0.01)


def test_a_function_that_copies_starts_no_worker_until_more_wait_than_it_takes_alone():
    for load in (NONE, ONE, SPREAD, BURST_OF_100, SPREAD_MANY):
        assert worker_hours(COPIES, load) == 0
    assert worker_hours(COPIES, BURST_OF_MANY) == worker_hours(DEFAULT, BURST_OF_MANY) > 0


def test_a_worker_that_always_runs_is_paid_for_a_month_and_takes_what_is_spread_out():
    for load in (NONE, ONE, SPREAD, SPREAD_MANY):
        assert worker_hours(ALWAYS, load) == worker_hours(ALL, load) == 730
    assert worker_hours(ALWAYS, BURST_OF_MANY) == pytest.approx(730 + 30 * (100 + 60) / 3600)


def test_the_events_cost_a_dollar_a_million_and_an_alarm():
    used = modes_cost.usage(EVENTS, SPREAD_MANY)
    assert modes_cost.items(used)["events and their alarm"] == pytest.approx(0.30 + 0.10)
    assert modes_cost.items(modes_cost.usage(DEFAULT, SPREAD_MANY))["events and their alarm"] == 0


def test_each_event_that_comes_alone_is_a_run_and_those_of_a_burst_are_cut_off():
    assert modes_cost.event_runs(DEFAULT, SPREAD_MANY) == (0, 0)
    assert modes_cost.event_runs(EVENTS, SPREAD_MANY) == (10_000, pytest.approx(1500))
    assert modes_cost.event_runs(COPIES, SPREAD) == (100, 200)
    assert modes_cost.event_runs(COPIES, BURST) == (pytest.approx(110 / 0.15), 110)
    assert modes_cost.event_runs(ALL, BURST) == (pytest.approx(401), pytest.approx(60.15))


def test_a_function_that_copies_pays_for_its_memory():
    used, idle = modes_cost.usage(COPIES, SPREAD), modes_cost.usage(COPIES, NONE)
    assert used["lambda_gb_second"] - idle["lambda_gb_second"] == pytest.approx(3000 * 2 * 0.5)


def test_no_mode_but_min_workers_costs_more_than_an_alarm_when_nothing_comes():
    assert usd(EVENTS, NONE) == usd(COPIES, NONE) == pytest.approx(usd(DEFAULT, NONE) + 0.10)
    assert usd(ALWAYS, NONE) == pytest.approx(usd(DEFAULT, NONE) + 730 * (cost.worker_hour() + 180 * 0.40 / 1e6))


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
@pytest.mark.parametrize("load", LOADS, ids=lambda load: load.name)
def test_the_free_tier_gives_no_more_than_was_used(mode: Mode, load: modes_cost.Load):
    used = modes_cost.usage(mode, load)
    most = sum(modes_cost.spent({name: used.get(name, 0) for name in modes_cost.FREE_HERE}).values())
    assert 0 < modes_cost.given(used) <= most + 1e-9


def test_the_items_are_the_whole_sum_of_each_cell():
    for mode in MODES:
        for load in LOADS:
            assert sum(modes_cost.items(modes_cost.usage(mode, load)).values()) == pytest.approx(usd(mode, load))


def test_the_table_has_a_row_for_each_mode_and_a_column_for_each_load():
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in modes_cost.table_of_modes().splitlines()]
    assert rows[0] == ["USD", *(load.name for load in LOADS)]
    assert [row[0] for row in rows[2:]] == [mode.name for mode in MODES]
    assert {len(row) for row in rows} == {len(LOADS) + 1}


def test_the_figures_of_the_function_are_those_of_the_product():
    script = (Path(__file__).parents[2] / "lib/resources/function.sh").read_text()
    found = dict(re.findall(r"(STARTER_MEMORY|COPYING_MEMORY)=(\d+)", script))
    assert int(found["STARTER_MEMORY"]) == modes_cost.MEMORY_GB * 1024
    assert int(found["COPYING_MEMORY"]) == modes_cost.MEMORY_GB_IF_IT_COPIES * 1024
    assert f"--maximum-event-age-in-seconds {modes_cost.EVENT_AGE_SECONDS}" in script
    assert (modes_cost.COPIES_ALONE, modes_cost.COPY_MOST_SECONDS) == (FEW_MESSAGES, MOST_SECONDS)
