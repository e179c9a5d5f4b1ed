"""The tests notice slips outside of the protocol, too; see slips.py for the table. All are planted nightly."""

import os

import pytest
from mutants import PROJECT, run_tests
from slips import SLIPS, plant

PLANTED = SLIPS if os.environ.get("NIGHTLY") == "1" else SLIPS[:1]


def test_each_slip_has_its_place_in_its_file():
    lost = [slip.name for slip in SLIPS if (PROJECT / slip.file).read_text().count(slip.text) != 1]
    assert lost == []
    assert len({slip.name for slip in SLIPS}) == len(SLIPS)


def test_the_tests_that_notice_a_slip_are_there():
    lost = []
    for node in dict.fromkeys(test for slip in SLIPS for test in slip.tests):
        name, _, function = node.partition("::")
        file = PROJECT / "tests" / name
        if not file.exists() or (function and f"def {function}(" not in file.read_text()):
            lost.append(node)
    assert lost == []


@pytest.mark.parametrize("slip", PLANTED, ids=[slip.name for slip in PLANTED])
def test_a_slip_is_noticed(slip, tmp_path):
    plant(slip, tmp_path)
    result = run_tests(tmp_path, slip.tests)
    assert result.returncode == 1, result.stdout[-3000:] + result.stderr


def test_without_a_slip_the_tests_that_notice_them_pass(tmp_path):
    plant(None, tmp_path)
    result = run_tests(tmp_path, tuple(dict.fromkeys(test for slip in PLANTED for test in slip.tests)))
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr
