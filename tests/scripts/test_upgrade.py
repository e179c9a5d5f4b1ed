"""An upgrade in place: an older release, out of git's history, and then the scripts as they are."""

import io
import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from account import APP, CHANGED, MIRROR, PROJECT, SOURCE, Account, one_cli, one_cloud, states
from recorder import Call

COMMITS = {"1.0.0": "edc5bab", "1.1.0": "5d48ab7", "1.2.0": "12245a1"}
# What the release did not have, beside the image of the code as it is now.
MADE = {"1.0.0": ["image", "alarm", "metric", "alarm"], "1.1.0": ["image", "alarm"], "1.2.0": ["image"]}
# Named when the older release was deployed, and never again.
SHOWN = {
    "ALARM_EMAIL": "ops@example.com",
    "PREFIX_FILTER": "my models/",
    "LAMBDA_POLL_RATE": "5",
    "MAX_WORKERS": "3",
    "MESSAGES_PER_WORKER": "20",
    "MAX_RECEIVES": "4",
    "TASK_MEMORY": "8192",
    "LOG_RETENTION_DAYS": "90",
    "ALARM_AGE_SECONDS": "1800",
}
SHOWN_SINCE_1_1 = {"EXCLUDE": "*.tmp,*/_temporary/*", "KEEP_DAYS": "30", "COPY_LAST": "_SUCCESS", "MIN_WORKERS": "1"}
NOT_SHOWN = {"CREATE_VPC_ENDPOINTS": "true"}
NEW_SHELL = dict.fromkeys(("SRC_BUCKET", "DST_BUCKET", "PREFIX_FILTER"))


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
    """Nor a setting: the runs of the newer release are in a shell that has only the Region."""
    before, now = account.inventory(), account.project
    account.project = unpack_release(release, tmp_path / "release")
    account.run("deploy.sh", **SHOWN | SHOWN_SINCE_1_1 | NOT_SHOWN)
    queue = account.starter_environment()["QUEUE_URL"]
    bodies = {f"event {number}" for number in range(12)}
    for body in bodies:
        account.client("sqs").send_message(QueueUrl=queue, MessageBody=body)

    account.project = now
    output, errors = account.run("deploy.sh", ROLLBACKS="false", **NEW_SHELL)
    assert account.worker_environment()["ROLLBACKS"] == "false"
    made = [line for line in output.splitlines() if line.endswith(": created")]
    assert [line.split()[1] for line in made] == MADE[release], output
    if release == "1.0.0":
        assert dict(CHANGED.findall(output))[f"notification {SOURCE} {APP}"] == "events or filter"
    for call in account.recorder.writes:
        assert "Delete" not in call.operation, call
        if call.operation == "PutBucketNotificationConfiguration":
            assert len(our_notifications(call)) == 1
    assert set(received(account, queue)) == bodies
    taken = SHOWN if release == "1.0.0" else SHOWN | SHOWN_SINCE_1_1
    assert (
        recorded(account).items()
        == (taken | {"ROLLBACKS": "false", "SRC_BUCKET": SOURCE, "DST_BUCKET": MIRROR}).items()
    )
    assert all(f" {name}={value}" in errors for name, value in taken.items())
    assert "nothing shows BASE_IMAGE, IMAGE_URI, " in errors

    output, _ = account.run("deploy.sh", "--dry-run", "--detailed-exitcode", **NEW_SHELL)
    assert set(states(output)) == {"exists"}
    account.client("events").disable_rule(Name=f"{APP}-starter-rule")
    output, _ = account.run("deploy.sh", **NEW_SHELL)
    assert CHANGED.findall(output) == [(f"rule {APP}-starter-rule", "State")]
    assert [call.operation for call in account.recorder.writes] == ["PutRule"]

    account.run("cleanup.sh", "--yes", **NEW_SHELL)
    assert account.inventory() == before


def recorded(account: Account) -> dict[str, str]:
    """The settings that the deployment keeps."""
    ecs = account.client("ecs")
    (container,) = ecs.describe_task_definition(taskDefinition=f"{APP}-task")["taskDefinition"]["containerDefinitions"]
    found = json.loads(container["dockerLabels"]["s3-to-s3express-sync.settings"])
    return {name: value for name, value in found.items() if name != "VERSION"}


def received(account: Account, queue: str) -> list[str]:
    """The bodies of all messages of a queue but S3's own test event."""
    found: list[str] = []
    sqs = account.client("sqs")
    while messages := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages"):
        found += [message["Body"] for message in messages]
    return [body for body in found if not is_test_event(body)]


def is_test_event(body: str) -> bool:
    return body.startswith("{") and json.loads(body).get("Event") == "s3:TestEvent"
