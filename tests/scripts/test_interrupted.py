"""Parts of deploy.sh and cleanup.sh that are interrupted after every write: the next run completes them.

On an account on paper. A run that is interrupted after a read leaves the account as the write before did.
"""

import copy
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from account import APP
from documents import Ran, Scripts, scripts_of_module
from hostile import Hostile, Hostility

Kept = dict[str, Any]
NIGHTLY = os.environ.get("NIGHTLY") == "1"
BRIDGE = {"EVENT_SOURCE": "eventbridge"}
FUNCTION, RULE, SINCE = f"function {APP}-starter", f"rule {APP}-starter-rule", "2026-11-27T12:00:00Z"
QUEUES = (f"ensure_queue {APP}-dlq", f"ensure_queue {APP}-q")
TO_BRIDGE = (*QUEUES, "ensure_event_rule", "ensure_event_switch", "ensure_notification")
FROM_BRIDGE = (*QUEUES, "ensure_notification", "ensure_event_rule")
STARTER_ROLE = f"ensure_role {APP}-starter-role"
NEW_ROLE = (STARTER_ROLE, "ensure_function", "ensure_rule")  # with which the function is made again
AUDITS = (STARTER_ROLE, "ensure_function", "ensure_alarms")


class Part(NamedTuple):
    """Kinds that are not there yet, the steps, their settings, those of the deployment before, what happened to it."""

    without: tuple[str, ...]
    steps: tuple[str, ...]
    settings: dict[str, str] = {}  # noqa: RUF012 - nobody changes it
    before: dict[str, str] = {}  # noqa: RUF012
    happened: Callable[[Kept], Any] = lambda _: None


def older_than_its_role(kept: Kept) -> None:
    kept[FUNCTION]["LastModified"] = "2026-01-01T00:00:00.000+0000"


def paused(kept: Kept) -> None:
    older_than_its_role(kept)
    kept[FUNCTION]["Environment"]["Variables"]["PAUSED_SINCE"] = SINCE


def resumed_after_an_interruption(kept: Kept) -> None:
    older_than_its_role(kept)
    said_by_the_rule(kept)


def said_by_the_rule(kept: Kept) -> None:
    kept[RULE]["Description"] = f"The sync has been paused since {SINCE}"


# Each makes more than one write.
PARTS = {
    "a paused function of a new role": Part((), NEW_ROLE, happened=paused),
    "one whose rule is gone": Part(("rule",), NEW_ROLE, happened=paused),
    "one that was resumed in between": Part((), NEW_ROLE, happened=resumed_after_an_interruption),
    "one that somebody deleted in a pause": Part(
        ("function",), ("ensure_function", "ensure_rule"), happened=said_by_the_rule
    ),
    "no audits any more": Part((), AUDITS, {"AUDIT_DAYS": ""}, {"AUDIT_DAYS": "7"}),
    "events of the bucket again": Part((), FROM_BRIDGE, {"EVENT_SOURCE": "sqs"}, BRIDGE),
}
# Each is so much like the one before it that it is for NIGHTLY=1.
AT_NIGHT = ("one whose rule is gone", "one that was resumed in between", "no audits any more")
# What there is of a deployment when it is removed.
REMOVED_IN_PARTS = ("rule", "queue", "role", "notifications rule", "task")


scripts = scripts_of_module()


def both_ends(scripts: Scripts, before: Kept, run: Callable[[], Ran]) -> tuple[int, Kept, Kept]:
    """How often a run is interrupted until one gets through, and what the account has then; without interruptions."""
    account = scripts.account = Hostile(Hostility(), 0)
    account.kept = copy.deepcopy(before)
    assert run().status == 0
    wanted, account.kept, times = account.kept, copy.deepcopy(before), 0
    account.left_until_interrupted = 1
    while (ran := run()).status:
        assert ran.status in (1, 130), ran.errors  # a removal goes on with the rest
        account.left_until_interrupted, times = 1, times + 1
    return times, account.kept, wanted


@pytest.mark.parametrize("name", [name for name in PARTS if NIGHTLY or name not in AT_NIGHT])
def test_a_part_that_is_interrupted_after_any_write_is_completed_by_the_next_run(scripts: Scripts, name: str) -> None:
    part = PARTS[name]
    kinds = tuple(f"{kind} " for kind in part.without)
    before = {
        name: kept
        for name, kept in scripts.with_deployment(**part.before).kept.items()
        if not (kinds and name.startswith(kinds))
    }
    part.happened(before)
    times, kept, wanted = both_ends(scripts, before, lambda: scripts.step(*part.steps, status=None, **part.settings))
    assert times > 1
    assert kept == wanted


@pytest.mark.parametrize("kinds", REMOVED_IN_PARTS)
def test_a_removal_that_is_interrupted_after_any_write_is_completed_by_the_next(scripts: Scripts, kinds: str) -> None:
    settings = BRIDGE if "notifications" in kinds else {}
    kept = scripts.with_deployment(**settings).kept
    before = {name: one for name, one in kept.items() if name.startswith((*kinds.split(), "role-of-ecs"))}
    times, kept, wanted = both_ends(scripts, before, lambda: scripts.clean_up(status=None, **settings))
    assert times > 1
    assert kept == wanted
    assert [name for name in wanted if APP in name] == []
