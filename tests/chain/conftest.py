"""The local cloud for the tests of it."""

import contextlib

import pytest
from local_cloud import running_cloud


@pytest.fixture(scope="module")
def start_cloud(tmp_path_factory):
    """A function that starts a cloud with the given settings and returns its URL."""
    with contextlib.ExitStack() as clouds:
        yield lambda **settings: clouds.enter_context(running_cloud(tmp_path_factory.mktemp("cloud"), **settings))
