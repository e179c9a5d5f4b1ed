"""What tests of several folders share: the stand-in and the world built on it."""

import os
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis.internal.conjecture import providers
from spread import Groups, is_fast, most_seconds, rank
from standin import Standin, running_standin
from world import CREDENTIALS, World

EMPTY_POLL_SECONDS = 0.1

# Hypothesis also draws the constants of all modules that are loaded, which are more in a whole run than in that of one
# file: what is to be the same each time would not be.
providers._get_local_constants = providers.Constants


@pytest.fixture(scope="session")
def standin() -> Iterator[Standin]:
    with running_standin() as running:
        yield running


@pytest.fixture
def world(standin: Standin, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Its workers find out fast that the queue is empty: most tests wait for nothing else."""
    standin.shorten_empty_polls(EMPTY_POLL_SECONDS)
    built = World(standin)
    built.build()
    monkeypatch.setenv("AWS_ENDPOINT_URL", standin.url)
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    yield built
    built.kill_all()
    standin.shorten_empty_polls(None)


def pytest_configure(config: pytest.Config) -> None:
    """The processes of a run share the accounts after deployments (tests/scripts/documents.py)."""
    if not hasattr(config, "workerinput"):
        folder = tempfile.TemporaryDirectory(prefix="deployments-")
        config.add_cleanup(folder.cleanup)
        os.environ["TEST_DEPLOYMENTS"] = folder.name


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if is_fast(item):
            item.add_marker(pytest.mark.fast)
        if not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(most_seconds(item)))
    items.sort(key=rank)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Groups:
    return Groups(config, log)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The figures of the searches, which do not reach the terminal where tests run side by side."""
    for report in terminalreporter.getreports("passed"):
        for name, text in report.user_properties:
            if name == "shown" and report.when == "call":
                terminalreporter.write_line(text.strip().splitlines()[0])
