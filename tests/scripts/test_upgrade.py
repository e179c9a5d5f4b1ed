"""An upgrade in place: an older release, out of git's history, and then the scripts as they are."""

import io
import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from account import APP, PROJECT, SOURCE, Account
from deployment import CHANGED, one_cli, one_cloud, states
from recorder import Call

COMMITS = {"1.0.0": "edc5bab", "1.1.0": "5d48ab7"}
# What the release did not have, beside the image of the code as it is now.
MADE = {"1.0.0": ["image", "alarm", "metric", "alarm"], "1.1.0": ["image", "alarm"]}


def unpack_release(release: str, folder: Path, clone: Path = PROJECT) -> Path:
    """Its files. Without the whole history there is nothing to upgrade from, and the test fails."""
    command = ["git", "-C", clone, "archive", COMMITS[release]]
    done = subprocess.run(command, capture_output=True)
    assert done.returncode == 0, (
        f"this test needs the commit {COMMITS[release]}, so a clone with its whole history (git fetch --unshallow): "
        + done.stderr.decode()
    )
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def test_a_clone_without_history_is_told_so(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    with pytest.raises(AssertionError, match=f"needs the commit {COMMITS['1.0.0']}, so a clone with its whole history"):
        unpack_release("1.0.0", tmp_path / "release", tmp_path)


def our_notifications(call: Call) -> list[dict[str, Any]]:
    configuration = call.parameters["NotificationConfiguration"]
    return [found for found in configuration.get("QueueConfigurations", []) if found["Id"] == APP]


@one_cloud
@one_cli
@pytest.mark.parametrize("release", COMMITS)
def test_an_older_deployment_is_brought_up_to_date_in_one_run_that_loses_nothing(
    account: Account, tmp_path: Path, release: str
) -> None:
    before, now = account.inventory(), account.project
    settings = {"ALARM_EMAIL": "ops@example.com", "CREATE_VPC_ENDPOINTS": "true", "PREFIX_FILTER": "my models/"}
    account.project = unpack_release(release, tmp_path / "release")
    account.run("deploy.sh", **settings)
    queue = account.starter_environment()["QUEUE_URL"]
    bodies = {f"event {number}" for number in range(12)}
    for body in bodies:
        account.client("sqs").send_message(QueueUrl=queue, MessageBody=body)

    account.project = now
    settings["TABLES"] = "delta"  # which no older release knows
    output, _ = account.run("deploy.sh", **settings)
    assert account.worker_environment()["TABLES"] == account.starter_environment()["TABLES"] == "delta"
    made = [line for line in output.splitlines() if line.endswith(": created")]
    assert [line.split()[1] for line in made] == MADE[release], output
    if release == "1.0.0":
        assert dict(CHANGED.findall(output))[f"notification {SOURCE} {APP}"] == "events or filter"
    for call in account.recorder.writes:
        assert "Delete" not in call.operation, call
        if call.operation == "PutBucketNotificationConfiguration":
            assert len(our_notifications(call)) == 1
    assert set(received(account, queue)) == bodies

    output, _ = account.run("deploy.sh", **settings)
    assert set(states(output)) == {"exists"}
    assert account.recorder.writes == []

    account.run("cleanup.sh", "--yes")
    assert account.inventory() == before


def received(account: Account, queue: str) -> list[str]:
    """The bodies of all messages of a queue but S3's own test event."""
    found: list[str] = []
    sqs = account.client("sqs")
    while messages := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages"):
        found += [message["Body"] for message in messages]
    return [body for body in found if not is_test_event(body)]


def is_test_event(body: str) -> bool:
    return body.startswith("{") and json.loads(body).get("Event") == "s3:TestEvent"
