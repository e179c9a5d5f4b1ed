"""Commands of one run side by side; two deployments of the same name at once."""

import subprocess
from pathlib import Path

import pytest
from account import APP, Account
from deployment import nameless, one_cli, one_cloud
from recorder import Refusal

ROOT = Path(__file__).parents[2]

# A script that goes on when both jobs are there, or gives up after a minute.
MEET = """
await() {
  local end=$((SECONDS + 60))
  until [[ -e $1 ]] || ((SECONDS > end)); do read -rt 0.1 <> <(:) || :; done
  [[ -e $1 ]]
}
meet() { : >"$TEMP_DIR/$1"; await "$TEMP_DIR/one"; await "$TEMP_DIR/two"; printf 'met\\n'; }
"""
# name -> (script, exit status, stdout, what stderr has or None for nothing at all)
SCRIPTS = {
    "jobs run at the same time": (MEET + "all_at_once meet one two", 0, "met\nmet\n", None),
    "a run ends with a job that failed, when the others have ended": (
        MEET
        + "job() { if [[ $1 == one ]]; then : >$TEMP_DIR/one; exit 7; else await $TEMP_DIR/one; echo ended; fi; }\n"
        "all_at_once job one two; echo went on",
        1,
        "ended\n",
        None,
    ),
    "more jobs than may run at once all run": (
        "MANY=({1..20}); all_at_once echo ${MANY[@]} | sort -n | tr '\\n' ' '",
        0,
        " ".join(map(str, range(1, 21))) + " ",
        None,
    ),
    "what is asked ahead is not asked again": (
        "ask_it() { echo asked >>$TEMP_DIR/log; echo answer of $1; }\n"
        "ask_ahead 'it one' 'it two'; fact it one; fact it two; cat $TEMP_DIR/log",
        0,
        "answer of one\nanswer of two\nasked\nasked\n",
        None,
    ),
    "what fails ahead is asked again where it is needed, and says why there": (
        "ask_it() { echo half of it; die not today; }; ask_ahead it; echo went on; fact it; echo never",
        1,
        "went on\n",
        "not today",
    ),
    "no answer ahead is waited for": (
        "RETRY_LIMIT=60 RETRY_PAUSE=60; ask_it() { pause 1 patience || die no patience; }\n"
        "ask_ahead it; echo $RETRY_LIMIT",
        0,
        "60\n",
        None,
    ),
    "what may fail is asked once, and its reason is no answer": (
        "ask_one_thing() { echo asked >>$TEMP_DIR/log; echo answer; }\n"
        "ask_two() { ask_one_thing >/dev/null; echo why; return 1; }\n"
        "ask_ahead one_thing; fact_or_reason one_thing; for n in 1 2; do fact_or_reason two || echo failed; done\n"
        "cat $TEMP_DIR/log",
        0,
        "answer\nwhy\nfailed\nwhy\nfailed\nasked\nasked\n",
        None,
    ),
    "a command that fails ends the run with its status, whether a terminal shows its progress or not": (
        "work() { return 3; }; say_while 'at work' work; echo went on",
        3,
        "",
        None,
    ),
}


@pytest.mark.fast
@pytest.mark.parametrize("name", SCRIPTS)
def test_commands_side_by_side(name: str) -> None:
    script, status, printed, said = SCRIPTS[name]
    done = subprocess.run(
        ["bash", "-c", f"source ./deploy.sh; start_run; {script}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stdout) == (status, printed), done.stderr
    assert said in done.stderr if said else done.stderr == ""


# What AWS answers to the second of two creations -> the steps of the run that gets it.
MADE_MEANWHILE = {
    Refusal("CreateLogGroup", 1, "ResourceAlreadyExistsException", "The specified log group already exists"): (
        "ensure_worker_log_group",
    ),
    Refusal("CreateQueue", 1, "QueueAlreadyExists", "A queue already exists with the same name and other attributes"): (
        "ensure_dlq",
    ),
    Refusal("CreateRole", 1, "EntityAlreadyExists", "Role with name x already exists.", 409): ("ensure_task_role",),
    Refusal("CreateRepository", 1, "RepositoryAlreadyExistsException", "The repository already exists"): (
        "ensure_repository",
    ),
    Refusal("CreateSecurityGroup", 1, "InvalidGroup.Duplicate", "The security group 'x' already exists"): (
        "ensure_security_group",
    ),
    Refusal("CreateFunction", 1, "ResourceConflictException", "Function already exist: x", 409): (
        "ensure_dlq",
        "ensure_source_queue",
        "ensure_starter_role",
        "ensure_security_group",
        "ensure_function",
    ),
    Refusal("AddPermission", 1, "ResourceConflictException", "The statement id (x) provided already exists.", 409): (
        "ensure_function",
        "ensure_rule",
    ),
}
NO_ROLES = b"<R><ListRolesResult><Roles/><IsTruncated>false</IsTruncated></ListRolesResult></R>"


@one_cloud
@one_cli
def test_what_somebody_made_in_the_meantime_is_told_so_and_the_next_run_completes(account: Account) -> None:
    for refusal, steps in MADE_MEANWHILE.items():
        account.recorder.refusals = [refusal]
        _, errors = account.steps(*steps, status=1, IMAGE_URI="")
        assert refusal.code in errors
        assert "somebody has just created it: if that was another deploy.sh, run this again" in errors
    account.run("deploy.sh")
    completed = nameless(account.inventory())
    account.deployed()
    assert completed == nameless(account.inventory())


@one_cloud
@one_cli
def test_the_role_of_ecs_may_come_from_another_deployment(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = "Service role name AWSServiceRoleForECS has been taken in this account, please try a different suffix."
    account.recorder.refusals = [Refusal("CreateServiceLinkedRole", 1, "InvalidInput", taken)]
    with monkeypatch.context() as patch:
        patch.setitem(account.recorder.answers, ("iam", "ListRoles"), NO_ROLES)
        account.steps("ensure_ecs_role", "ensure_cluster")


@one_cloud
@one_cli
def test_two_deployments_at_once_end_well_or_with_one_clear_error(account: Account) -> None:
    before = account.inventory()
    with account.start("deploy.sh") as first, account.start("deploy.sh") as second:
        ends = [process.communicate(timeout=900)[1] for process in (first, second)]
    statuses = [first.returncode, second.returncode]
    assert 0 in statuses, ends
    for status, errors in zip(statuses, ends, strict=True):
        assert status == 0 or "somebody has just created it" in errors, errors

    account.run("deploy.sh")
    assert account.recorder.writes == []
    assert f"{APP}-starter" in account.functions()
    account.run("cleanup.sh", "--yes")
    assert account.inventory() == before
