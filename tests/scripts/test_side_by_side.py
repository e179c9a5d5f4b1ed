"""Commands of one run side by side; two deployments of the same name at once."""

import copy
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from account import APP, SOURCE
from documents import Scripts, scripts_of_module, sourced_scripts
from paper_account import PaperAccount, Refused

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
    "what each kind of call takes for an answer": (
        "mkdir $TEMP_DIR/bin; PATH=$TEMP_DIR/bin:$PATH\n"
        "printf '#!/bin/sh\\necho \"An error occurred ($CODE) when calling the X operation: no\" >&2; exit 254' "
        ">$TEMP_DIR/bin/aws; chmod +x $TEMP_DIR/bin/aws; export CODE; REGION=r\n"
        "for CODE in AccessDenied UnauthorizedOperation AuthorizationError NoSuchEntity ValidationException; do\n"
        "  for call in aws_if_allowed aws_or_nothing aws_or_die; do\n"
        "    if ($call iam get-role 2>/dev/null); then printf y; else printf n; fi\n  done; echo; done",
        0,
        "ynn\nynn\nynn\nyyn\nnnn\n",
        None,
    ),
    "a member that is missing, or one more in a list, is a difference": (
        "while read -r want have; do differing $want $have; done <<'E'\n"
        '{"a":1,"b":2} {"a":1,"b":2,"default":3}\n{"a":1,"b":2} {"a":1}\n{"a":1,"b":2} {"a":2,"b":1}\n'
        '{"a":[1,2]} {"a":[1,2]}\n{"a":[1,2]} {"a":[2,1]}\n{"a":[1,2]} {"a":[1]}\n'
        '{"a":[1]} {"a":[1,2]}\n{"a":[]} {"a":[1]}\n'
        '{"a":[{"b":{"c":1}}]} {"a":[{"b":{"c":1,"d":2}}]}\n'
        '{"a":[{"b":{"c":1}}]} {"a":[{"b":{"c":"1"}}]}\n{"a":1} null\nE',
        0,
        "\nb\na, b\n\na\na\na\na\n\na\na\n",
        None,
    ),
    "a time is read as each generation of the CLI prints it": (
        """jq -nc "$(jq_epoch)"'[["Z", ".250Z", "+00:00"][] | "2026-11-25T12:00:00\\(.)" | epoch], [1795608000.5, null,
        "2026-11-25T14:00:00+02:00", "2026-11-25T06:30:00.500000-05:30", "2026-11-25T21:00:00+0900" | epoch]'""",
        0,
        "[1795608000,1795608000.25,1795608000]\n[1795608000.5,null,1795608000,1795608000.5,1795608000]\n",
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


scripts = scripts_of_module()
# What AWS answers to the second of two creations, and the step that gets it.
LOGS, QUEUE, ROLE = f"ensure_log_group /ecs/{APP}-task", f"ensure_queue {APP}-dlq", f"ensure_role {APP}-task-role"
OTHER_QUEUE = "A queue already exists with the same name and other attributes"
MADE_MEANWHILE = [
    ("CreateLogGroup", "ResourceAlreadyExistsException", "The specified log group already exists", LOGS),
    ("CreateQueue", "QueueAlreadyExists", OTHER_QUEUE, QUEUE),
    ("CreateRole", "EntityAlreadyExists", "Role with name x already exists.", ROLE),
    ("CreateRepository", "RepositoryAlreadyExistsException", "The repository already exists", "ensure_repository"),
    ("CreateSecurityGroup", "InvalidGroup.Duplicate", "The group 'x' already exists", "ensure_security_group"),
    ("CreateFunction", "ResourceConflictException", "Function already exist: x", "ensure_function"),
    ("AddPermission", "ResourceConflictException", "The statement id (x) provided already exists.", "ensure_rule"),
]


@pytest.mark.parametrize(("operation", "code", "words", "step"), MADE_MEANWHILE)
def test_what_somebody_made_in_the_meantime_is_told_so(
    scripts: Scripts, operation: str, code: str, words: str, step: str
) -> None:
    kept = scripts.with_deployment().kept
    function = kept[f"function {APP}-starter"]
    kept.clear()
    if operation == "AddPermission":
        kept[f"function {APP}-starter"] = function | {"statements": {}}
    scripts.account.refusals = [(operation, Refused(code, words))]
    ran = scripts.step(step, status=1)
    assert code in ran.errors
    assert "somebody has just created it: if that was another deploy.sh, run this again" in ran.errors


def test_the_role_of_ecs_may_come_from_another_deployment(scripts: Scripts) -> None:
    account = scripts.account = PaperAccount()
    name = "role-of-ecs AWSServiceRoleForECS"
    role = account.kept.pop(name)
    taken = "Service role name AWSServiceRoleForECS has been taken in this account, please try a different suffix."
    account.refusals = [("CreateServiceLinkedRole", Refused("InvalidInput", taken))]
    account.before = {"CreateServiceLinkedRole": [lambda: account.kept.update({name: role})]}
    scripts.step("ensure_ecs_role", "ensure_cluster")
    assert account.refusals == []


def test_two_deployments_at_once_end_well_or_with_one_clear_error(scripts: Scripts, tmp_path: Path) -> None:
    scripts.account = PaperAccount()
    before = copy.deepcopy(scripts.account.kept)
    with sourced_scripts(tmp_path) as other, ThreadPoolExecutor() as pool:
        other.account, other.lock = scripts.account, scripts.lock
        ran = list(pool.map(lambda one: one.deploy(status=None), (scripts, other)))
    assert 0 in [one.status for one in ran], [one.errors for one in ran]
    for one in ran:
        assert one.status == 0 or "somebody has just created it" in one.errors, one.errors
    scripts.deploy()
    assert scripts.deploy().writes == []
    scripts.clean_up()
    assert scripts.account.kept.keys() - {f"notifications {SOURCE}"} == before.keys()
