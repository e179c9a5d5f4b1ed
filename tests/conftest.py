"""What tests of several folders share: the stand-in and the world built on it, and how tests are spread."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from standin import Standin, running_standin
from world import CREDENTIALS, World
from xdist.scheduler import LoadScopeScheduling

TESTS = Path(__file__).parent
EMPTY_POLL_SECONDS = 0.1

# tests/fast runs these whole, and what is marked fast elsewhere on one stand-in and with one CLI.
FAST = ("house/", "protocol/test_rules", "protocol/test_faults", "protocol/test_interleavings")
FAST += ("protocol/test_histories", "scripts/test_starter", "scripts/test_layout")
ONE_OF_EACH = {"recorder": "moto", "tools": "v1"}

# Tests that look at all containers and images, or make some, must not run at the same time.
SHARED_ENGINE = "chain/"
# Tests of a file in these folders share a cloud; those that run in several clouds share each of them.
SHARED_CLOUD = ("scripts/", "docs/")
CLOUDS = ("ministack", "moto")

# Several processes take tests in this order: what lasts long comes first, so that none is left alone with it.
LONGEST_FIRST = ("worker/test_chaos", "chain/test_chain", "chain/test_image", "scripts/test_sync", "docs/test_readme")
LONGEST_FIRST += ("scripts/", "chain/", "bench/", "worker/", "protocol/")


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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        name = item.path.relative_to(TESTS).as_posix()
        if name.startswith(FAST):
            item.add_marker(pytest.mark.fast)
    if config.getoption("markexpr") == "fast":
        config.hook.pytest_deselected(items=[item for item in items if not is_one_of_each(params_of(item))])
        items[:] = [item for item in items if is_one_of_each(params_of(item))]
    items.sort(key=rank)


def params_of(item: pytest.Item) -> dict[str, Any]:
    return item.callspec.params if hasattr(item, "callspec") else {}


def is_one_of_each(params: dict[str, Any]) -> bool:
    return all(params.get(name, wanted) == wanted for name, wanted in ONE_OF_EACH.items())


class Groups(LoadScopeScheduling):
    """Gives each process a group of tests at a time. xdist's own loadgroup does not see groups with this pytest."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid.removeprefix("tests/"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Groups:
    return Groups(config, log)


def group_of(name: str) -> str:
    """What one process has to run, one test after the other: a test that shares nothing is a group of its own."""
    if name.startswith(SHARED_ENGINE):
        return "engine"
    if not name.startswith(SHARED_CLOUD):
        return name
    file, _, test = name.partition("::")
    parameters = sorted(test.partition("[")[2].rstrip("]").split("-"))
    return "-".join([file, *parameters]) if set(CLOUDS) & set(parameters) else file


def rank(item: pytest.Item) -> int:
    name = item.path.relative_to(TESTS).as_posix()
    return next((place for place, start in enumerate(LONGEST_FIRST) if name.startswith(start)), len(LONGEST_FIRST))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The figures of the searches, which do not reach the terminal where tests run side by side."""
    for report in terminalreporter.getreports("passed"):
        for name, text in report.user_properties:
            if name == "shown" and report.when == "call":
                terminalreporter.write_line(text.strip().splitlines()[0])
