"""A pause is never lost: not with the function, which somebody may delete, and not by a call of AWS that fails.

The function's variables have the pause, and so does the description of its rule; a deployment goes by the latter if the
function is gone.
"""

import copy
import itertools
from typing import Any

import pytest
from account import APP
from call import Call
from documents import Scripts, scripts_of_module
from operated import Operated, Verbs, account, verbs
from paper_account import PaperAccount, Refused

__all__ = ["account", "verbs"]
FUNCTION, RULE = f"function {APP}-starter", f"rule {APP}-starter-rule"
LONG_AGO = "2026-11-25T11:00:00Z"
SAYS, SAYS_PAUSED = "Looks at the queue and starts workers", "The sync has been paused since "
scripts = scripts_of_module("sync.sh")


def of_function(account: PaperAccount) -> str:
    """When the sync was paused, or nothing."""
    since: str = account.kept[FUNCTION]["Environment"]["Variables"].get("PAUSED_SINCE", "")
    return since


def of_rule(account: PaperAccount) -> str:
    says = account.kept[RULE]["Description"]
    assert says == SAYS or says.startswith(SAYS_PAUSED)
    return str(says.removeprefix(SAYS).removeprefix(SAYS_PAUSED))


def pause(kept: dict[str, Any], since: str = LONG_AGO) -> None:
    kept[FUNCTION]["Environment"]["Variables"]["PAUSED_SINCE"] = since
    kept[RULE]["Description"] = SAYS_PAUSED + since


def test_a_deployment_keeps_a_pause_of_which_the_function_is_gone(verbs: Verbs, scripts: Scripts) -> None:
    account = verbs.account = Operated()
    account.kept = copy.deepcopy(scripts.with_deployment(LAMBDA_POLL_RATE="7", TAGS="team=ml,cost=4=2").kept)
    as_deployed = copy.deepcopy(account.kept[RULE])
    verbs.sync("pause")
    since = of_function(account)
    assert since[:2] == "20"
    assert account.kept[RULE] == as_deployed | {"Description": SAYS_PAUSED + since}
    del account.kept[FUNCTION]
    scripts.account = PaperAccount()
    scripts.account.kept = account.kept
    for _ in range(2):
        ran = scripts.run("deploy_all")
        assert f"the sync has been paused since {since}, and stays paused until ./sync.sh resume" in ran.errors
        assert of_function(scripts.account) == of_rule(scripts.account) == since
    assert ran.writes == []
    account.kept = scripts.account.kept
    verbs.sync("resume")
    assert (of_function(account), account.kept[RULE]) == ("", as_deployed)


def test_a_deployment_tells_the_rule_of_a_pause_that_an_older_release_began(scripts: Scripts) -> None:
    account = scripts.with_deployment()
    pause(account.kept)
    account.kept[RULE]["Description"] = SAYS
    scripts.run("deploy_all")
    assert of_function(account) == of_rule(account) == LONG_AGO


def test_a_pause_that_begins_while_the_function_is_made_again_is_kept(scripts: Scripts) -> None:
    """Between the plan and its turn, which may be minutes later."""
    account = scripts.with_deployment()
    account.kept[FUNCTION]["LastModified"] = "2026-01-01T00:00:00.000+0000"  # older than its role
    account.kept[f"log-group /ecs/{APP}-task"]["retentionInDays"] = 1
    account.before["PutRetentionPolicy"] = [lambda: pause(account.kept)]
    ran = scripts.run("deploy_all")
    assert "DeleteFunction" in [call.operation for call in ran.writes]
    assert of_function(account) == of_rule(account) == LONG_AGO


# --- calls that fail --------------------------------------------------------------------------------------------------

CALLS = ("DescribeRule", "PutRule", "GetFunctionConfiguration", "UpdateFunctionConfiguration")


class Failing(Operated):
    """One operation is refused; or it is carried out, and its answer is lost."""

    def fail(self, operation: str, is_lost: bool) -> None:  # type: ignore[override]
        self.operation, self.is_lost = operation, is_lost

    operation, is_lost = "", False

    def found(self, call: Call) -> Any:
        if call.operation != self.operation:
            return super().found(call)
        if not self.is_lost:
            raise Refused("AccessDeniedException", f"no {call.operation}")
        super().found(call)
        raise Refused("InternalFailure", "the answer was lost")


@pytest.mark.parametrize(("operation", "is_lost"), list(itertools.product(CALLS, (False, True))))
@pytest.mark.parametrize("verb", ["pause", "resume"])
def test_whichever_call_fails_a_pause_is_never_known_to_the_function_alone(
    verbs: Verbs, account: Operated, verb: str, operation: str, is_lost: bool
) -> None:
    failing = verbs.account = Failing()
    failing.kept, failing.log = account.kept, account.log
    if verb == "resume":
        pause(failing.kept)
    failing.fail(operation, is_lost)
    done = verbs.sync(verb, None)
    is_told = "could not be changed, so only the function knows whether the sync is paused: " in done.errors
    if of_function(failing):
        assert of_rule(failing) == of_function(failing) or is_told
    assert is_told == (not is_lost and operation in ("DescribeRule", "PutRule"))
    if done.status == 0:
        assert bool(of_function(failing)) == (verb == "pause")
    else:
        assert operation in CALLS[2:] or is_lost
        assert "run this again" in done.errors or operation in CALLS[2:]
    failing.fail("", False)
    verbs.sync(verb)
    assert bool(of_function(failing)) == (verb == "pause")
    assert of_rule(failing) == of_function(failing)
