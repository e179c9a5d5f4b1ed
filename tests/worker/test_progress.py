"""What is said of how far a walk is, by a clock that is set by hand."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest

from mirror.readers.listing import Progress
from mirror.readers.wait import Wait, WaitOptions


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


# (second, folders done, folders known) at each point, and what is said at the last one.
COURSES = {
    "folders are still found": ([(10, 5, 50), (20, 20, 90), (30, 40, 120)], "folders=40/120 left=estimating"),
    "all are found, but lately": ([(10, 5, 100), (20, 30, 100)], "folders=30/100 left=estimating"),
    "all were found long ago": ([(10, 0, 100), (30, 40, 100), (50, 80, 100)], "folders=80/100 far=80% left=10s"),
    "a quarter of the time has to be quiet": (
        [(100, 100, 200), (110, 120, 300), (139, 180, 300)],
        "folders=180/300 left=estimating",
    ),
    "few folders tell nothing": ([(10, 0, 12), (60, 9, 12)], "folders=9/12 left=estimating"),
    "one large folder": ([(10, 0, 100), (50, 99, 100), (81, 99, 100)], "folders=99/100 left=estimating"),
    "what lies below is listed yet": ([(10, 0, 100), (50, 100, 100)], "folders=100/100 left=estimating"),
    "one flat folder": ([(10, 0, 1), (600, 0, 1)], "folders=0/1 left=estimating"),
}


@pytest.mark.fast
@pytest.mark.parametrize("course", COURSES)
def test_the_time_that_is_left_is_said_only_when_it_can_be_known(course: str) -> None:
    clock, (points, expected) = Clock(), COURSES[course]
    progress, text = Progress(clock), ""
    for clock.seconds, done, known in points:
        text = progress.text(1000 * points[-1][0], done, known)
    assert text == f"keys/s=1000 {expected}"


@pytest.mark.fast
def test_a_wait_says_how_long_the_rest_takes_at_the_rate_so_far() -> None:
    """Half has arrived in no time, by the real clock."""
    more = SimpleNamespace(keys=10, ghosts=0, size=1000)
    waiting = Wait(SimpleNamespace(keys=10, size=1000, missing={}, more=more), WaitOptions(), is_compared=True)
    waiting.progress()
    more.keys, more.size = 5, 500
    left = re.fullmatch(r"here=5/10 bytes=500/1000 bytes/s=\d+ left=(\d+)s", waiting.progress())
    assert left
    assert int(left[1]) < 600
