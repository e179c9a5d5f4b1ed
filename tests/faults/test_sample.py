"""The sample of faults keeps its rows while the code moves; run.py plants them, by hand or at night."""

import os
import subprocess
import sys

import pytest
from sample import HERE, has_place, rows
from which_tests import candidates


def test_each_row_has_its_place_in_the_code():
    """After code has moved: tests/faults/run.py --anchor."""
    assert [row for row in rows() if not has_place(row)] == []
    assert len({row.name for row in rows()}) == len(rows())


def test_there_are_tests_that_can_see_each_fault():
    assert [file for file in {row.file for row in rows()} if not candidates(file)] == []


@pytest.mark.skipif(os.environ.get("NIGHTLY") != "1", reason="hours: NIGHTLY=1")
@pytest.mark.timeout(0)
def test_what_was_noticed_still_is():
    done = subprocess.run([sys.executable, HERE / "run.py"], stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stderr
