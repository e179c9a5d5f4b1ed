"""A deployment on a local cloud, which each process of the tests makes once."""

from collections.abc import Iterator

import pytest
from local_operator import Operator, operator_of_a_deployment


@pytest.fixture(scope="session")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """One deployment on a local cloud for all verbs of sync.sh."""
    with operator_of_a_deployment(tmp_path_factory.mktemp("operator")) as found:
        yield found
