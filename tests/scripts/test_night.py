"""What the verbs of sync.sh say and do while something else goes on in the deployment, on an account on paper."""

import copy
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from account import APP
from documents import Ran, Scripts, sourced_scripts
from operated import Operated
from paper_account import HERE, Given
from sourced import unfolded

ARN = f"arn:aws:ecs:{HERE}:task/{APP}-cluster/"
DEPLOYED: dict[str, Any] = {}


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scripts]:
    with sourced_scripts(tmp_path_factory.mktemp("verbs"), "sync.sh") as found:
        found.deploy()
        DEPLOYED.update(found.account.kept)
        yield found


@pytest.fixture
def account(scripts: Scripts) -> Operated:
    """As deployed, with an empty dead-letter queue."""
    scripts.account = found = Operated()
    found.kept, found.parked = copy.deepcopy(DEPLOYED), []
    return found


def sync(scripts: Scripts, words: str, status: int = 0, **settings: str) -> Ran:
    ran = scripts.run(f'printf "%d" "$BASHPID" >"$FOLDER/pid"\nmain {words}', status, **settings)
    return ran._replace(output=unfolded(ran.output))


# pause

STARTED_BY = {"worker": f"{APP}-starter", "audit": f"{APP}-audit", "reconcile": f"{APP}-reconcile"}


def start(account: Operated, name: str, *command: str) -> None:
    """A task that runs; its name begins with who started it."""
    account.kept[f"running {name}"] = {
        "taskArn": ARN + name,
        "lastStatus": "RUNNING",
        "desiredStatus": "RUNNING",
        "startedBy": STARTED_BY.get(name.partition("-")[0], name),
        "overrides": {"containerOverrides": [{"name": "worker", "command": list(command)}]},
    }


def running(account: Operated) -> set[str]:
    tasks = account.of_kind("running")
    return {task["taskArn"].removeprefix(ARN) for task in tasks if task["lastStatus"] == "RUNNING"}


WRITES = {
    "worker-1": (),
    "worker-2": (),
    "reconcile-removes": ("reconcile", "--prefix", "a/", "--remove-unwanted"),
    "somebody-removes": ("reconcile", "--remove-unwanted"),
}
READS = {
    "reconcile": ("reconcile",),
    "reconcile-rehearses": ("reconcile", "--remove-unwanted", "--dry-run"),
    "audit": ("reconcile", "--audit"),
    "wait": ("wait",),
}


def test_a_pause_ends_all_tasks_that_write_to_the_destination_and_no_other(scripts: Scripts, account: Operated) -> None:
    for name, command in (WRITES | READS).items():
        start(account, name, *command)
    ran = sync(scripts, "pause")
    assert running(account) == {*READS}
    assert ran.output == ""  # no answer of AWS
    for name in WRITES:
        assert (f"task {name} removes objects from the destination" in ran.errors) == name.endswith("removes")
    assert "no worker runs, and nothing is copied" in ran.errors


def test_during_a_pause_nothing_is_removed_but_a_comparison_may_run(scripts: Scripts, account: Operated) -> None:
    sync(scripts, "pause")
    ran = sync(scripts, "reconcile --remove-unwanted", 1)
    assert "nothing is removed before ./sync.sh resume" in ran.errors
    assert ran.sent("RunTask") == []
    for words in ("reconcile", "reconcile --remove-unwanted --dry-run"):
        account.kept.pop("running t2", None)
        assert len(sync(scripts, words).sent("RunTask")) == 1


@pytest.mark.parametrize(
    ("moment", "said"),
    [
        ("lambda_update_function_configuration", "interrupted while the sync was being paused: ./sync.sh status shows"),
        ("ecs_stop_task", "interrupted: the sync stays paused since {}. What still runs may write until it ends: "),
    ],
)
def test_an_interrupted_pause_says_that_the_sync_stays_paused(
    scripts: Scripts, account: Operated, moment: str, said: str
) -> None:
    start(account, "worker")
    usual = getattr(account, moment)

    def interrupted(given: Given) -> Any:
        os.kill(int((scripts.folder / "pid").read_text()), signal.SIGTERM)
        return usual(given)

    setattr(account, moment, interrupted)
    ran = sync(scripts, "pause", 128 + signal.SIGTERM)
    variables = account.kept[f"function {APP}-starter"]["Environment"]["Variables"]
    assert said.format(variables["PAUSED_SINCE"]) in ran.errors
