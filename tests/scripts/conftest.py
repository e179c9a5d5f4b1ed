"""The account that the tests of deploy.sh and cleanup.sh work in: each process of the tests starts each part once."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from account import CLIS, CLOUDS, Account, copy_project, make_tools, running_cli
from local_operator import Operator, operator_of_a_deployment
from recorder import Recorder


def cli_path(variable: str) -> Path:
    """The CLI that tests/run has installed; elsewhere the one in PATH."""
    found = os.environ.get(variable) or shutil.which("aws")
    assert found, f"set {variable} to the path of an AWS CLI"
    return Path(found)


@pytest.fixture(scope="session", params=CLOUDS)
def recorder(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str, Recorder]]:
    with CLOUDS[request.param](tmp_path_factory.mktemp(request.param)) as (url, reset_url):
        found = Recorder(url, {})
        yield url, reset_url, found
        found.close()


@pytest.fixture(scope="session", params=CLIS)
def tools(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp(request.param)
    with running_cli(cli_path(CLIS[request.param]), folder) as cli:
        yield make_tools(cli, folder / "tools")


@pytest.fixture
def account(recorder: tuple[str, str, Recorder], tools: Path, tmp_path: Path) -> Account:
    found = Account(*recorder, tools, copy_project(tmp_path))
    found.reset()
    return found


@pytest.fixture(scope="session")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """One deployment on a local cloud for all verbs of sync.sh."""
    with operator_of_a_deployment(tmp_path_factory.mktemp("operator")) as found:
        yield found
