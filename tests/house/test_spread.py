"""How tests are spread over processes: those that share something stay in one."""

import pytest
from spread import group_of, is_named_fast

DEPLOYED = "scripts/test_deploy.py::test_twice[ministack-v1]"


@pytest.mark.parametrize(
    ("one", "other", "is_shared"),
    [
        ("scripts/test_local_verbs.py::test_status[v1]", "scripts/test_local_verbs.py::test_purge", True),
        (DEPLOYED, "scripts/test_deploy.py::test_runs_that_are_killed[v1-ministack]", True),
        ("chain/test_image.py::test_an_image[amd64]", "chain/test_cloud.py::test_a_container", True),
        ("scripts/test_local_verbs.py::test_purge", "docs/test_pages.py::test_links", False),
        (DEPLOYED, "scripts/test_deploy.py::test_twice[ministack-v2]", False),
        ("worker/test_copies.py::test_a[crt]", "worker/test_copies.py::test_a[boto3]", False),
    ],
)
def test_what_shares_a_cloud_or_the_engine_is_one_group(one: str, other: str, is_shared: bool) -> None:
    assert (group_of(one) == group_of(other)) == is_shared


def test_a_whole_file_is_fast_or_one_test_of_it() -> None:
    fast = "protocol/test_rules.py::test_any[a]", "protocol/test_mutants.py::test_each_fault_has_its_place_in_the_code"
    slow = "protocol/test_mutants.py::test_a_planted_fault_is_noticed[no IfMatch]", "worker/test_copies.py::test_a"
    assert [is_named_fast(name) for name in fast + slow] == [True, True, False, False]
