"""The tests notice planted faults; see mutants.py for the table."""

import pytest
from mutants import MUTANTS, run_tests
from planted import place_of


def test_each_fault_has_its_place_in_the_code():
    for text, _, _ in MUTANTS.values():
        place_of(text)


@pytest.mark.parametrize("fault", MUTANTS)
def test_a_planted_fault_is_noticed(fault):
    text, replacement, test = MUTANTS[fault]
    status, output = run_tests([test], text, replacement)
    assert status == 1, output[-3000:]


def test_without_a_planted_fault_a_test_of_each_file_passes():
    """Random histories pass in their own file, or that test fails."""
    tests = [test for _, _, test in reversed(MUTANTS.values()) if not test.endswith("TestHistories")]
    by_file = {test.partition("::")[0]: test for test in tests}
    status, output = run_tests(by_file.values())
    assert status == 0, output[-3000:]
