"""How tests are spread over processes: those that share something stay in one."""

import pytest
from spread import group_of, is_named_fast

KILLED = "scripts/test_deploy.py::test_runs_that_are_killed"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("scripts/test_local_verbs.py::test_status[v1]", "scripts/test_local_verbs.py::test_purge"),
        ("scripts/test_deploy.py::test_twice[ministack-v1]", f"{KILLED}[v1-ministack]"),
        ("chain/test_image.py::test_an_image[amd64]", "chain/test_cloud.py::test_a_container"),
    ],
)
def test_what_shares_a_cloud_or_the_engine_is_one_group(one: str, other: str) -> None:
    assert group_of(one) == group_of(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("scripts/test_local_verbs.py::test_purge", "docs/test_pages.py::test_links"),
        ("scripts/test_deploy.py::test_twice[ministack-v1]", "scripts/test_deploy.py::test_twice[ministack-v2]"),
        ("worker/test_copies.py::test_a[crt]", "worker/test_copies.py::test_a[boto3]"),
    ],
)
def test_what_shares_nothing_is_not(one: str, other: str) -> None:
    assert group_of(one) != group_of(other)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("protocol/test_rules.py::test_any[a]", True),
        ("protocol/test_mutants.py::test_each_fault_has_its_place_in_the_code", True),
        ("protocol/test_mutants.py::test_a_planted_fault_is_noticed[no IfMatch]", False),
        ("worker/test_copies.py::test_a", False),
    ],
)
def test_a_whole_file_is_fast_or_one_test_of_it(name: str, expected: bool) -> None:
    assert is_named_fast(name) == expected
