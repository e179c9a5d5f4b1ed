"""A plugin of pytest for run.py: files in the order in which they are named, no slow tests, and an end to them.

What counts is the time of processors, so that other work on the machine does not change what is found.
"""

import os
from collections.abc import Iterator

import pytest

MOST_CPU_SECONDS = 100  # of the tests and what they start, in each of the two runs of a fault
NO_TIME_LEFT = 99  # pytest's exit status
MOST_SECONDS = 600  # a test that hangs has not noticed the fault; none needs a tenth of that on an idle machine

# Tests with one of these in their names run on an emulator, need an engine, or search for minutes.
LEFT_OUT = ("ministack", "container", "two parts")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Iterator[None]:
    items[:] = [item for item in items if not any(word in item.name for word in LEFT_OUT)]
    for item in items:
        item.add_marker(pytest.mark.timeout(MOST_SECONDS))
    yield
    named = [argument.partition("::")[0] for argument in config.args]
    items.sort(key=lambda item: named.index(item.path.relative_to(config.rootpath).as_posix()))


def pytest_runtest_logstart() -> None:
    """Not at a test's end: one that fails then has noticed the fault."""
    own_and_childrens = os.times()[:4]
    if sum(own_and_childrens) > MOST_CPU_SECONDS:
        pytest.exit("the time is over", returncode=NO_TIME_LEFT)
