"""The world of histories.py for a test of one history, step by step, and what the searches share."""

import gc
import logging
import time

import pytest
from histories import World


@pytest.fixture
def world():
    return World()


@pytest.fixture
def quick():
    """A search."""
    logging.disable(logging.CRITICAL)
    gc.disable()  # it would look through millions of states again and again, and find no cycles
    yield
    gc.enable()
    logging.disable(logging.NOTSET)


@pytest.fixture
def show(capsys, record_property):
    """Shows figures and schedules at once; a run with several processes has them as properties of the test."""

    def shown(text):
        record_property("shown", text)
        with capsys.disabled():
            print(f"\n{text}", end=" ")

    return shown


@pytest.fixture
def passes(show):
    """No schedule of these searches has a fault."""

    def passed(name, searches):
        began, schedules, states, steps = time.monotonic(), 0, 0, 0
        for search in searches:
            schedules += search.run()
            states += len(search.schedules)
            steps += search.transitions
        seconds = time.monotonic() - began
        show(f"{name}: {schedules:.2g} schedules, {states} states, {steps} steps, {seconds:.1f} s")

    return passed


@pytest.fixture
def finds(show):
    """The search finds a fault that begins so: `what` says which step is left out, or what is not promised."""

    def found(what, search, expected):
        fault = search.first_fault()
        assert fault, "no schedule shows it"
        show(f"{what}:\n{fault[0]}\n  => {fault[1]}")
        assert fault[1].startswith(expected)

    return found
