"""How tests are spread over processes: which are fast, stay together, or begin first, and how long each may take."""

import os
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

TESTS = Path(__file__).parent

# tests/fast runs what begins so, and what is marked fast elsewhere.
FAST = (
    "house/",
    "faults/",
    "protocol/test_rules",
    "protocol/test_requests",
    "protocol/test_faults",
    "protocol/test_interleavings",
    "protocol/test_histories",
    "protocol/test_mutants.py::test_each_fault_has_its_place_in_the_code",
    "scripts/test_starter.py",
    "scripts/test_starter_worlds.py::test_in_no_world_the_starter_breaks_its_word[0]",  # of four such blocks
    "scripts/test_layout",
    "scripts/test_lost_status",
    "scripts/test_log_lines",
    "scripts/test_documents",
    "docs/test_page",
)

NOT_FAST = "house/test_house.py::test_the_ways"  # it deploys

# Searches of these names take longer than all others, and "grows over the limit" walks the same code.
SLOW_SEARCHES = "protocol/test_interleavings", "two parts"

# Tests that look at all containers and images, or make some, must not run at the same time.
SHARED_ENGINE = "chain/"
# Tests of a file in these folders share a cloud or a Bash, but for those that have one each.
SHARED_CLOUD = ("scripts/", "docs/", "standin/")
APART = ("scripts/test_deploy", "scripts/test_upgrade", "scripts/test_failing_calls.py::test_a_run_of_which_any")

# Several processes take tests in this order: what lasts long, and mostly waits, comes first,
# so that none is left alone with it.
LONGEST_FIRST = ("docs/test_commands", "scripts/test_local_verbs", "chain/test_chain", "chain/test_image", "chain/")
LONGEST_FIRST += ("scripts/test_generated", "scripts/test_failing_calls", "bench/", "scripts/", "worker/", "protocol/")

# Seconds after which a test fails by name, its fixtures included. No measure of speed: beside other work, a test may
# need ten times as long as alone. What deploys, builds images or waits for several workers has more.
MOST_SECONDS = 600
MOST_SECONDS_OF = {"scripts/": 1800, "docs/": 1800, "chain/": 1800, "protocol/test_mutants": 1800}
NIGHTLY_SECONDS = 14_400


def name_of(item: pytest.Item) -> str:
    """Its file, below tests/."""
    return item.path.relative_to(TESTS).as_posix()


def is_fast(item: pytest.Item) -> bool:
    name = f"{name_of(item)}::{item.name}"
    return name.startswith(FAST) and not name.startswith(NOT_FAST) and not all(part in name for part in SLOW_SEARCHES)


class Groups(LoadScopeScheduling):
    """Gives each process a group of tests at a time, which it has to run one after the other: a test that shares
    nothing is a group of its own. xdist's own loadgroup does not see groups with this pytest."""

    def _split_scope(self, nodeid: str) -> str:
        name = nodeid.removeprefix("tests/")
        if name.startswith(SHARED_ENGINE):
            return "engine"
        return name.partition("::")[0] if name.startswith(SHARED_CLOUD) and not name.startswith(APART) else name


def most_seconds(item: pytest.Item) -> int:
    if os.environ.get("NIGHTLY") == "1":
        return NIGHTLY_SECONDS
    name = name_of(item)
    return next((seconds for start, seconds in MOST_SECONDS_OF.items() if name.startswith(start)), MOST_SECONDS)


def rank(item: pytest.Item) -> int:
    name = name_of(item)
    return next((place for place, start in enumerate(LONGEST_FIRST) if name.startswith(start)), len(LONGEST_FIRST))
