"""Commands of one run side by side; two deployments of the same name at once."""

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from account import APP
from documents import Scripts, printed, scripts_of_module, sourced_scripts
from oracles import faults
from paper_account import PaperAccount, Refused

# A script that goes on when both jobs are there, or gives up after a minute.
AWAIT = """start_run
await() {
  local end=$((SECONDS + 60))
  until [[ -e $1 ]] || ((SECONDS > end)); do read -rt 0.1 <> <(:) || :; done
  [[ -e $1 ]]
}
"""
MEET = """meet() { : >"$TEMP_DIR/$1"; await "$TEMP_DIR/one"; await "$TEMP_DIR/two"; printf 'met\\n'; }
all_at_once meet one two"""
FAIL = """fail() { if [[ $1 == one ]]; then : >"$TEMP_DIR/one"; exit 7; else await "$TEMP_DIR/one"; echo ended; fi; }
all_at_once fail one two
echo went on"""


def test_commands_run_at_the_same_time() -> None:
    assert printed(AWAIT + MEET) == "met\nmet\n"


def test_a_run_ends_with_a_command_that_failed_when_the_others_have_ended(scripts: Scripts) -> None:
    assert scripts.run(AWAIT + FAIL, 1).output == "ended\n"


# What is wanted, what is there, and the members that differ.
DIFFERING: list[tuple[Any, Any, str]] = [
    ({"a": 1, "b": 2}, {"a": 1, "b": 2, "default": 3}, ""),
    ({"a": 1, "b": 2}, {"a": 2, "b": 1}, "a, b"),
    ({"a": 1, "b": 2}, {"a": 1}, "b"),
    ({"a": [1, 2]}, {"a": [2, 1]}, "a"),
    ({"a": [1]}, {"a": [1, 2]}, "a"),
    ({"a": [{"b": {"c": 1}}]}, {"a": [{"b": {"c": 1, "default": 2}}]}, ""),
    ({"a": 1}, None, "a"),
]


def test_a_member_that_is_missing_or_one_more_in_a_list_is_a_difference() -> None:
    pairs = "".join(f"{json.dumps(one)}\t{json.dumps(two)}\n" for one, two, _ in DIFFERING)
    found = printed('while IFS=$\'\\t\' read -r want have; do differing "$want" "$have"; done', pairs)
    assert found.split("\n")[:-1] == [differ for _, _, differ in DIFFERING]


def test_a_time_is_read_as_each_generation_of_the_cli_prints_it() -> None:
    """A number, or ISO 8601 with "Z" or with the offset of this machine."""
    noon = ["2026-11-25T12:00:00Z", "2026-11-25T14:00:00+02:00", "2026-11-25T21:00:00+0900"]
    times = [*noon, 1795608000, "2026-11-25T12:00:00.250Z", "2026-11-25T06:30:00.500000-05:30", 1795608000.5, None]
    found = printed("""jq -c "$(jq_epoch)map(epoch)" """, json.dumps(times))
    assert json.loads(found) == [1795608000] * 4 + [1795608000.25, 1795608000.5, 1795608000.5, None]


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
    with sourced_scripts(tmp_path) as other, ThreadPoolExecutor() as pool:
        other.account, other.lock = scripts.account, scripts.lock
        ran = list(pool.map(lambda one: one.deploy(status=None), (scripts, other)))
    assert 0 in [one.status for one in ran], [one.errors for one in ran]
    for one in ran:
        assert one.status == 0 or "somebody has just created it" in one.errors, one.errors
    scripts.deploy()
    assert list(faults(scripts.account, {})) == []


class AskedForOneCode:
    """A profile with mfa_serial: until the first call has ended, and so has kept a session, each call needs a code of
    its own, and AWS takes a code once."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.begun, self.refused, self.has_session = 0, 0, False

    def __call__(self, words: list[str], answer: Callable[[], tuple[int, str]]) -> tuple[int, int, str]:
        if words[0] == "aws" and words[1:] != ["--version"]:
            with self.lock:
                self.begun += 1
                is_first = self.begun == 1
            if not is_first and not self.has_session:
                self.refused += 1
                return 255, 2, "MultiFactorAuthentication failed with invalid MFA one time pass code."
            if is_first:
                time.sleep(0.5)
            self.has_session = True
        status, text = answer()
        return status, 2 if status else 1, text


@pytest.mark.parametrize("script", ["deploy.sh", "cleanup.sh"])
def test_a_code_is_asked_for_once(scripts: Scripts, script: str) -> None:
    scripts.with_deployment()
    scripts.fault = profile = AskedForOneCode()
    try:
        scripts.program(script, "--dry-run", status=None)
    finally:
        scripts.fault = None
    assert (profile.refused, profile.has_session) == (0, True)
