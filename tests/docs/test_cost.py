"""tests/docs/cost.py: the sums agree with what one can add up by hand."""

import re

import cost
import pytest


def test_a_worker_hour_is_the_mix_of_spot_and_on_demand_and_an_address():
    on_demand = 2 * 0.03238 + 4 * 0.00356
    spot = 2 * 0.01030969 + 4 * 0.00113349
    assert on_demand == pytest.approx(0.0790)
    assert cost.worker_hour() == pytest.approx(0.8 * spot + 0.2 * on_demand + 0.005)


def test_ten_files_a_day_cost_mostly_the_minutes_that_workers_wait():
    scenario = cost.SCENARIOS[0]
    assert scenario.worker_hours == pytest.approx(300 * 115 / 3600)
    rows = cost.costs(scenario)
    assert rows["Bytes into the directory bucket"] == pytest.approx(0.96)
    assert rows["Workers (Fargate, 80 % Spot)"] == pytest.approx(9.583 * cost.worker_hour(), rel=1e-3)
    assert rows["**Sync, a month**"] > 0.02


def test_a_copy_in_parts_is_a_write_and_a_read_for_each_part():
    used = cost.usage(cost.Scenario("one", 1, 10.0, 1, 1, parts=160))
    assert (used["express_put_request"], used["standard_get_request"]) == (162, 162)
    used = cost.usage(cost.Scenario("one", 1, 1.0, 1, 1))
    assert (used["express_put_request"], used["standard_get_request"]) == (1, 3)


def test_the_free_tier_gives_no_more_than_was_used():
    for scenario in cost.SCENARIOS:
        rows = cost.costs(scenario)
        assert 0 < -rows["Free tier"] <= rows["Queue, starter, logs, image"]


def test_the_table_has_a_column_for_each_scenario_and_its_total_is_the_sum():
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in cost.table().splitlines()]
    assert {len(row) for row in rows} == {len(cost.SCENARIOS) + 1}
    cells = {row[0]: row[1:] for row in rows}
    for index, scenario in enumerate(cost.SCENARIOS):
        parts = [value for name, value in cost.costs(scenario).items() if not name.startswith("**")]
        assert cells["**Sync, a month**"][index] == f"{sum(parts):,.2f}"
    assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", cost.PRICES_OF)
