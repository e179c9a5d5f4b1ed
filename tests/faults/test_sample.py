"""The sample of faults keeps its rows while the code moves; run.py plants them, by hand or at night."""

import os
import subprocess
import sys

import pytest
from sample import HERE, Row, has_place, planted, proposal, rows
from watching import watching

SOURCE = "if a:\n    stop()\nif b:\n    stop()\n"
STOP = Row("f 1", "f.py", "    stop()", "    pass", nth=2, of=2)


def test_each_row_has_its_place_in_the_code():
    """After code has moved: tests/faults/run.py --anchor."""
    assert [row for row in rows() if not has_place(row)] == []
    assert len({row.name for row in rows()}) == len(rows())


def test_there_are_tests_that_can_see_each_fault():
    assert [row for row in rows() if not watching(row.file)] == []


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


@pytest.mark.parametrize(
    ("text", "fault", "source", "there", "expected"),
    [
        ("    stop()", "    pass", "def f():\n    if b:\n        stop()\n", "        stop()", "        pass"),
        ("if a[0] > limit:", "if a[1] > limit:", "if a[0] > limits:\n", "if a[0] > limits:", "if a[1] > limits:"),
        ("a[0]; b[0]", "a[0]; b[1]", "x[0]; b[0]\n", "x[0]; b[0]", "x[0]; b[1]"),
        ("if a > limit:", "if a >= limit:", "if a < limit:\n", None, None),
    ],
)
def test_lines_that_have_moved_or_changed_a_little_are_found(text, fault, source, there, expected):
    moved = proposal(Row("f 1", "f.py", text, fault), {"g.py": source, "h.py": "stopped = False\n"})
    assert moved == (there and Row("f 1", "g.py", there, expected))


@pytest.mark.skipif(os.environ.get("NIGHTLY") != "1", reason="hours: NIGHTLY=1")
@pytest.mark.timeout(0)
def test_what_was_noticed_still_is():
    done = subprocess.run([sys.executable, HERE / "run.py"], stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stderr
