"""The world of histories.py for a test of one history, step by step, and what the searches share."""

import gc
import logging

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
