"""The sample of faults keeps its rows while the code moves; run.py plants them, by hand or at night."""

import os
import subprocess
import sys

import pytest
from run import lost
from sample import HERE, PROJECT, Row, planted, proposal, rows
from watching import TESTS, watching

SOURCE = "if a:\n    stop()\nif b:\n    stop()\n"
STOP = Row("f 1", "f.py", "    stop()", "    pass", nth=2, of=2)


def test_each_row_has_its_place_in_the_code():
    assert lost(rows()) == "every row has its place\n"
    assert len({row.name for row in rows()}) == len(rows())


def test_the_tests_that_can_see_a_fault_are_there():
    assert [test for tests in TESTS.values() for test in tests if not (PROJECT / "tests" / test).exists()] == []
    assert all(watching(row.file) for row in rows())


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (STOP, "if a:\n    stop()\nif b:\n    pass\n"),
        (STOP._replace(text="if a:\n    stop()", fault="", nth=1, of=1), "if b:\n    stop()\n"),
        (STOP._replace(nth=1, of=1), None),
        (STOP._replace(text="stop()"), None),
    ],
)
def test_a_fault_is_planted_at_its_own_lines_or_not_at_all(row, expected):
    assert planted(row, SOURCE) == expected


def test_lines_that_have_moved_are_found_with_their_new_indentation():
    moved = proposal(STOP, {"g.py": "def f():\n    if b:\n        stop()\n", "h.py": "stopped = False\n"})
    assert moved == STOP._replace(file="g.py", text="        stop()", fault="        pass", nth=1, of=1)


@pytest.mark.skipif(os.environ.get("NIGHTLY") != "1", reason="hours: NIGHTLY=1")
@pytest.mark.timeout(0)
def test_what_was_noticed_still_is():
    done = subprocess.run([sys.executable, HERE / "run.py"], stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stderr
