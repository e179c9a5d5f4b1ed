"""Reads of the bucket's notifications fail: the scripts as they are, on the local cloud. test_failed_reads.py has more.

A program before `aws` in the PATH fails the call with a number, as if AWS could not be reached.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from account import APP, MIRROR, REGION, SOURCE, copy_checkout, empty_cloud
from local_operator import CLIS, LOCAL_SETTINGS, QUEUE, Operator

PROGRAM = """#!/bin/bash
if [[ " $* " == *" get-bucket-notification-configuration "* ]]; then
  exec {lock}>>"$FAULTS/lock"
  flock "$lock"
  echo >>"$FAULTS/calls"
  if (($(wc -l <"$FAULTS/calls") == $(<"$FAULTS/number"))); then
    echo 'Could not connect to the endpoint URL: "https://s3.example/"' >&2
    exit 255
  fi
fi
PATH=${PATH#*:} exec aws "$@"
"""
NUMBERS = (1, 2, 3) if os.environ.get("NIGHTLY") == "1" else (2,)
THEIRS = {"Id": "theirs", "Events": ["s3:ObjectTagging:*"], "QueueArn": f"arn:aws:sqs:{REGION}:000000000000:theirs"}
ALLOWED = {"Effect": "Allow", "Principal": {"Service": "s3.amazonaws.com"}, "Action": "sqs:SendMessage"}
POLICY = {"Version": "2012-10-17", "Statement": [ALLOWED | {"Resource": THEIRS["QueueArn"]}]}
SETTINGS = {"REGION": REGION, "SRC_BUCKET": SOURCE, "DST_BUCKET": MIRROR, "CHANGEOVER_SECONDS": "0"}


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[Operator]:
    """Somebody else has a notification, too."""
    faults = tmp_path / "faults"
    faults.mkdir()
    (faults / "aws").write_text(PROGRAM)
    (faults / "aws").chmod(0o755)
    with empty_cloud(tmp_path, Path(CLIS[0]), AUTH="true") as environment:
        path = {"PATH": f"{faults}:{environment['PATH']}", "FAULTS": str(faults)}
        found = Operator(copy_checkout(tmp_path / "the project"), environment | LOCAL_SETTINGS | SETTINGS | path)
        found.client("sqs").create_queue(QueueName="theirs", Attributes={"Policy": json.dumps(POLICY)})
        found.client("s3").put_bucket_notification_configuration(
            Bucket=SOURCE, NotificationConfiguration={"QueueConfigurations": [THEIRS]}
        )
        yield found


def run(operator: Operator, number: int, *command: str, **settings: str) -> int:
    """The exit status of a script whose read with that number fails; what others have is there afterwards."""
    faults = Path(operator.environment["FAULTS"])
    (faults / "number").write_text(f"{number}\n")
    (faults / "calls").write_text("")
    done = subprocess.run(
        command, cwd=operator.project, env=operator.environment | settings, capture_output=True, text=True
    )
    said = done.stdout + done.stderr
    print(number, *command, settings, "->", done.returncode, ways(operator))
    assert done.returncode == 0 or (number and "get-bucket-notification-configuration failed: Could not" in said), said
    assert "theirs" in ways(operator)
    return done.returncode


def ways(operator: Operator) -> set[str]:
    """What the bucket has: notifications of ours or of others, and the switch."""
    found = operator.client("s3").get_bucket_notification_configuration(Bucket=SOURCE)
    names = {one["Id"] for one in found.get("QueueConfigurations", [])}
    return names | ({"switch"} if "EventBridgeConfiguration" in found else set())


@pytest.mark.parametrize("number", NUMBERS)
def test_no_read_that_fails_costs_others_their_notifications(operator: Operator, number: int) -> None:
    run(operator, 0, "./deploy.sh")
    for source, way in (("eventbridge", "switch"), ("sqs", APP)):
        before = ways(operator)
        if run(operator, number, "./deploy.sh", EVENT_SOURCE=source):
            assert before <= ways(operator)  # the old way goes last
            run(operator, 0, "./deploy.sh", EVENT_SOURCE=source)
        assert ways(operator) == {"theirs", way}
    if run(operator, number, "./cleanup.sh", "--yes"):
        assert operator.queue_url(QUEUE)
        run(operator, 0, "./cleanup.sh", "--yes")
    assert ways(operator) == {"theirs"}
