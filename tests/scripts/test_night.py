"""What the verbs of sync.sh say and do while something else goes on in the deployment, on an account on paper."""

import copy
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from account import APP, PROJECT
from documents import Ran, Scripts, sourced_scripts
from operated import PARKED, Operated
from paper_account import HERE, Given
from sourced import unfolded

ARN = f"arn:aws:ecs:{HERE}:task/{APP}-cluster/"
BODY = json.dumps(PARKED)
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
    "somebody-removes": ("reconcile", "--remove-foreign"),
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


def test_a_worker_that_the_last_run_of_the_starter_starts_is_ended_too(scripts: Scripts, account: Operated) -> None:
    """It began before the pause, and starts its worker after those that ran have been ended."""

    usual = account.lambda_invoke

    def last_run(given: Given) -> Any:
        start(account, "worker-late")
        return usual(given)

    account.lambda_invoke = last_run  # type: ignore[method-assign]
    sync(scripts, "pause")
    assert "running worker-late" in account.kept
    assert running(account) == set()


def test_during_a_pause_nothing_is_removed_but_a_comparison_may_run(scripts: Scripts, account: Operated) -> None:
    sync(scripts, "pause")
    for option in ("--remove-unwanted", "--remove-foreign"):
        ran = sync(scripts, f"reconcile {option}", 1)
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


# The dead-letter queue, while somebody else is looking at it

HIDDEN = "{} cannot be seen, because somebody else is looking at the dead-letter queue"


@pytest.mark.parametrize(("shown", "hidden", "row"), [(0, 1, "1, 1 of them in flight: somebody"), (2, 0, "2")])
def test_status_fails_although_a_dead_letter_is_hidden(
    scripts: Scripts, account: Operated, shown: int, hidden: int, row: str
) -> None:
    account.parked, account.hidden = [BODY] * shown, hidden
    ran = sync(scripts, "status", 1)
    number = "1 message" if shown + hidden == 1 else "2 messages"
    assert f"\n  {number} in the dead-letter queue: ./sync.sh redrive --list\n" in ran.output
    assert f"\ndead letters  {row}" in ran.output


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [("--list", 0, "nothing was moved; when"), ("", 1, "nothing was moved\n"), ("--purge --yes", 0, "all messages of")],
)
def test_redrive_knows_of_messages_that_it_cannot_see(
    scripts: Scripts, account: Operated, words: str, status: int, said: str
) -> None:
    account.hidden = 3
    ran = sync(scripts, f"redrive {words}", status)
    assert HIDDEN.format("3 messages") in ran.errors
    assert said in ran.errors
    assert account.hidden == (0 if "purge" in words else 3)
    assert ran.sent("StartMessageMoveTask") == []


@pytest.mark.parametrize(
    ("shown", "hidden", "said"),
    [
        (0, 0, "the dead-letter queue is empty\n"),
        (23, 0, ""),
        (23, 2, HIDDEN.format("2 messages")),
        (250, 0, "these are the first 100 of about 250 messages"),
    ],
)
def test_redrive_shows_what_it_sees_says_what_it_does_not_and_hides_nothing(
    scripts: Scripts, account: Operated, shown: int, hidden: int, said: str
) -> None:
    account.parked, account.hidden = [BODY] * shown, hidden
    for words in ("--list --purge --yes", "--purge --yes --list --json"):
        ran = sync(scripts, f"redrive {words}")
        assert said in ran.errors
        assert all((hint in ran.errors) == (hint in said) for hint in ("cannot be seen", "first 100")), ran.errors
        assert (account.parked, account.hidden) == ([BODY] * shown, hidden)
    assert len(json.loads(ran.output)) == min(shown, 100)


def test_explain_says_which_dead_letters_it_could_not_see(scripts: Scripts, account: Operated) -> None:
    account.hidden = 1
    assert HIDDEN.format("1 message") in sync(scripts, "explain models/gone").errors


# A PAUSED_SINCE that somebody has edited by hand


@pytest.mark.parametrize("time", ["yesterday", "2026-11-27", "2026-13-45T00:00:00Z"])
def test_a_time_of_a_pause_that_is_none_is_a_fault_which_resume_and_pause_remove(
    scripts: Scripts, account: Operated, time: str
) -> None:
    variables = account.kept[f"function {APP}-starter"]["Environment"]["Variables"]
    for verb, said in (("resume", "when the pause began is not known"), ("pause", "nothing new is started")):
        variables["PAUSED_SINCE"] = time
        ran = sync(scripts, "status", 1)
        assert ran.output.startswith("failing\n"), ran.output
        assert f'\n  PAUSED_SINCE="{time}" of the function is not a time' in ran.output
        assert "nothing is copied until ./sync.sh resume\n" in ran.output
        assert said in sync(scripts, verb).errors
        variables = account.kept[f"function {APP}-starter"]["Environment"]["Variables"]
        assert variables.get("PAUSED_SINCE") != time
    assert variables["PAUSED_SINCE"].startswith("20")


# Ctrl-C

READERS = {
    "explain": f"PROJECT_DIR='{PROJECT}'; source '{PROJECT}/lib/verbs/explain.sh'; judge_facts",
    "redrive": f"source '{PROJECT}/lib/dead_letters.sh'; with_keys",
}


@pytest.mark.parametrize("script", READERS.values(), ids=READERS)
def test_ctrl_c_ends_what_is_written_in_python_without_a_traceback(script: str) -> None:
    pipe, default = subprocess.PIPE, lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    command = ["bash", "-c", script]
    with subprocess.Popen(command, stdin=pipe, stderr=pipe, process_group=0, preexec_fn=default) as process:
        assert process.stdin and process.stderr
        process.stdin.write(b" " * 2**20)  # more than a pipe holds: all of it is taken only when the process reads
        os.killpg(process.pid, signal.SIGINT)
        process.stdin.close()
        assert b"KeyboardInterrupt" not in process.stderr.read()


def test_what_ctrl_c_ended_is_no_error_of_aws(tmp_path: Path) -> None:
    """The CLI catches it, prints an empty line, and ends with 130: as it does here, for whatever reason."""
    (tmp_path / "aws").write_text("#!/bin/sh\n[ $1 = --version ] && echo aws-cli/2.30.0 && exit\necho >&2\nexit 130\n")
    (tmp_path / "aws").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SRC_BUCKET": "source"}
    done = subprocess.run([PROJECT / "sync.sh", "status"], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
