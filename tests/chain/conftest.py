"""The local cloud for the tests of it."""

import pytest
from account import running_local_cloud
from local_cloud import client, task_program

MIB = 1024**2


@pytest.fixture(scope="session")
def cloud(tmp_path_factory):
    """The URL of one cloud for all tests: it enforces IAM and runs tasks as processes.

    Its rules fire every second, retries are quick, and COPY_MAX is 6 MiB to make large objects cheap; a setting in its
    environment is one that no function may see.
    """
    folder = tmp_path_factory.mktemp("cloud")
    with running_local_cloud(
        folder,
        AUTH="true",
        LOCAL_WORKER=task_program(folder),
        LOCAL_TICK="1",
        COPY_MAX=str(6 * MIB),
        SRC_BUCKET="of the cloud",
        LAMBDA_ASYNC_RETRY_BASE_SECONDS="0.5",
    ) as url:
        yield url


@pytest.fixture
def s3(cloud):
    return client(cloud, "s3")


@pytest.fixture
def sqs(cloud):
    return client(cloud, "sqs")
