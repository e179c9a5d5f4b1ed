"""The tests that notice the faults of mutants.py are there."""

from mutants import MUTANTS, PROJECT


def test_each_fault_names_tests_that_are_there():
    lost = []
    for test in {test for mutant in MUTANTS for test in mutant.tests}:
        name, _, node = test.partition("::")
        file = PROJECT / "tests" / name
        if not file.exists() or f"def {node.partition('[')[0]}" not in file.read_text():
            lost.append(test)
    assert lost == []
