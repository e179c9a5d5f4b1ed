"""The tests notice planted faults; see mutants.py for the table. Those that need processes are planted nightly."""

import os

import pytest
from mutants import MUTANTS, PROJECT, code, plant, run_tests

NIGHTLY = os.environ.get("NIGHTLY") == "1"
IN_PROCESS = "protocol/"
PLANTED = [mutant for mutant in MUTANTS if NIGHTLY or mutant.tests[0].startswith(IN_PROCESS)]


def test_each_fault_has_its_place_in_the_code():
    sources = [file.read_text() for file in code()]
    assert [mutant.name for mutant in MUTANTS if sum(source.count(mutant.text) for source in sources) != 1] == []


def test_the_tests_that_notice_a_fault_are_there():
    lost = []
    for test in {test for mutant in MUTANTS for test in mutant.tests}:
        name, _, node = test.partition("::")
        file = PROJECT / "tests" / name
        if not file.exists() or f"def {node.partition('[')[0]}" not in file.read_text():
            lost.append(test)
    assert lost == []


@pytest.mark.parametrize("mutant", PLANTED, ids=[mutant.name for mutant in PLANTED])
def test_a_planted_fault_is_noticed(mutant, tmp_path):
    plant(mutant, tmp_path)
    result = run_tests(tmp_path, mutant.tests)
    assert result.returncode == 1, result.stdout[-3000:] + result.stderr


def test_without_a_planted_fault_a_test_of_each_file_passes(tmp_path):
    plant(None, tmp_path)
    by_file = {test.partition("::")[0]: test for mutant in PLANTED for test in mutant.tests}
    result = run_tests(tmp_path, tuple(by_file.values()))
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr
