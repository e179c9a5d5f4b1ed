"""An audit by itself on the local cloud: the starter starts it, its task compares and mends, status tells it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from test_sync import APP, MIRROR, ROOT, SOURCE, Operator, operator_of_a_deployment, wait_for

DAYS = 29
# The function's code and variables, at another time than it is: so many seconds after the newest slot.
AT_ANOTHER_TIME = """
import json, sys, time, starter
from launch.audit import newest_slot
at = newest_slot(time.time(), int(sys.argv[1])) + float(sys.argv[2])
starter.time = lambda: at
starter.handler({}, None)
"""


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    with operator_of_a_deployment(tmp_path_factory, AUDIT_DAYS=str(DAYS)) as found:
        # Nobody waits for five minutes here: that they are waited is in tests/worker/test_audit.py.
        code = found.project / "mirror" / "reconcile.py"
        code.write_text(code.read_text().replace("AUDIT_SETTLE_SECONDS = 300", "AUDIT_SETTLE_SECONDS = 2"))
        found.put(SOURCE, "hello.txt", "hello\n")
        wait_for(lambda: "hello.txt" in found.aws("s3api", "list-objects-v2", "--bucket", MIRROR))
        yield found


def run_starter(operator: Operator, seconds: float) -> dict[str, Any]:
    """What the starter says of audits at that time after the slot."""
    function = json.loads(operator.aws("lambda", "get-function-configuration", "--function-name", f"{APP}-starter"))
    region = {"AWS_REGION": operator.exports.get("AWS_DEFAULT_REGION", "us-east-1")}
    environment = os.environ | operator.exports | function["Environment"]["Variables"] | region
    command = [sys.executable, "-c", AT_ANOTHER_TIME, str(DAYS), str(seconds)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["audit"]


def test_an_audit_starts_in_its_slot_finds_the_buckets_equal_and_then_what_differs(audited: Operator):
    found = audited.status()
    assert found["audit"]["last"] is None
    assert "none in the log; the next one " in audited.sync("status")[1]

    assert run_starter(audited, 60)["started"] == ["FARGATE"]
    last = wait_for(lambda: audited.status()["audit"]["last"])
    assert (last["end"], last["status"], last["found"]) == ("complete", 0, 0)
    assert "both buckets equal; the next one " in audited.sync("status")[1]

    # A key without an event, at the next slot.
    events = audited.aws("s3api", "get-bucket-notification-configuration", "--bucket", SOURCE)
    configure = ["s3api", "put-bucket-notification-configuration", "--bucket", SOURCE, "--notification-configuration"]
    audited.aws(*configure, "{}")
    audited.put(SOURCE, "missed.txt", "missed\n")
    configuration = json.loads(events)
    configuration.pop("ResponseMetadata", None)
    audited.aws(*configure, json.dumps(configuration))
    assert run_starter(audited, DAYS * 86_400 + 60)["started"] == ["FARGATE"]
    wait_for(lambda: audited.status()["audit"]["last"]["found"] == 1)
    assert "1 differences, put on the queue" in audited.sync("status")[1]
    wait_for(lambda: "missed.txt" in audited.aws("s3api", "list-objects-v2", "--bucket", MIRROR))
    log = audited.sync("logs", "--since", "1h")[1]
    assert " ERROR audited end=complete status=0 found=1 " in log
    assert log.count(" audited end=") == 2


def test_sync_sh_reconcile_ends_with_its_own_summary_also_as_an_audit(audited: Operator):
    status, output, log = audited.sync("reconcile", "--audit", "--json")
    assert status == 0, output + log
    assert json.loads(output) | {"end": "complete", "status": 0, "missing": 0} == json.loads(output)
    assert " audited end=complete status=0 found=0 " in log
