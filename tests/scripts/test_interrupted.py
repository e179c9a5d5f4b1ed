"""deploy.sh and cleanup.sh killed at every point: the next run completes it."""

import json
import os
import re
import signal
from typing import Any

from account import APP, Account
from deployment import one_cli, one_cloud
from recorder import Call


def run_killed_after_each_write(account: Account, script: str, *arguments: str, **settings: str) -> int:
    """Run the script again and again, each time killed after its first write, until one ends; returns the kills.

    A kill after a read leaves the account as the write before it did, so this is every point of a run.
    """
    for kills in range(100):
        with account.start(script, *arguments, **settings) as process:

            def kill_after_write(call: Call, group: int = process.pid) -> bool:
                if call.is_write:
                    os.killpg(group, signal.SIGKILL)
                return not call.is_write

            account.recorder.forget()
            account.recorder.after_call = kill_after_write
            output, errors = process.communicate(timeout=900)
        account.recorder.forget()
        if process.returncode == 0:
            return kills
        assert process.returncode == -signal.SIGKILL, output + errors
    raise AssertionError(f"{script} never gets through")


def nameless(inventory: dict[str, Any]) -> Any:
    """The inventory without the ids that a stand-in makes up, and without the number of a revision."""
    text = re.sub(r"\b(sgr?|vpce)-[0-9a-f]{6,}", r"\1", json.dumps(inventory))
    return json.loads(re.sub(rf'({APP}-task:|"revision": )\d+', r"\g<1>0", text))


@one_cloud
@one_cli
def test_a_function_whose_role_an_interrupted_run_made_anew_is_made_anew_too(account: Account) -> None:
    account.run("deploy.sh")
    iam, role = account.client("iam"), f"{APP}-starter-role"
    iam.delete_role_policy(RoleName=role, PolicyName=APP)
    iam.delete_role(RoleName=role)
    with account.start("deploy.sh") as process:

        def kill_after_role(call: Call) -> bool:
            if call.operation == "CreateRole":
                os.killpg(process.pid, signal.SIGKILL)
            return call.operation != "CreateRole"

        account.recorder.after_call = kill_after_role
        process.communicate(timeout=900)
    account.recorder.forget()
    output, _ = account.run("deploy.sh")  # on another machine, as far as it knows
    assert f"function {APP}-starter: created" in output
    account.run("deploy.sh")
    assert account.recorder.writes == []


@one_cloud
@one_cli
def test_runs_that_are_killed_after_any_write_are_completed_by_the_next(account: Account) -> None:
    before, settings = account.inventory(), {"ALARM_EMAIL": "ops@example.com"}
    account.run("deploy.sh", **settings)
    deployed, writes = nameless(account.inventory()), len(account.recorder.writes)
    account.run("cleanup.sh", "--yes")
    removals = len(account.recorder.writes)

    assert run_killed_after_each_write(account, "deploy.sh", **settings) == writes
    assert nameless(account.inventory()) == deployed
    assert run_killed_after_each_write(account, "cleanup.sh", "--yes") == removals
    assert account.inventory() == before
