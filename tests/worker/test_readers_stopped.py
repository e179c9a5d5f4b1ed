"""Each command that reads many keys, and each thing that stops it: its exit status, and what it must not have done."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, NamedTuple

import pytest
from botocore.exceptions import ClientError
from drawn import DESTINATION, QUEUE, SOURCE, Drawn, Ran
from expected import category, is_deleted

pytestmark = pytest.mark.fast
SEEDS = range(6)
COMMANDS = {
    "reconcile": ["reconcile"],
    "dry run": ["reconcile", "--dry-run"],
    "audit": ["reconcile", "--audit"],
    "removal": ["reconcile", "--remove-unwanted", "--remove-foreign"],
    "wait": ["wait", "--timeout", "60s", "--exact"],
    "deep wait": ["wait", "--timeout", "60s", "--deep"],
    "measure": ["measure"],
}
WAITS, RECONCILES = ("wait", "deep wait"), ("reconcile", "audit", "removal")
LISTS, LOOKS, GETS, DELETES = "list_objects_v2", "head_object", "get_object", "delete_object"
SENDS = "send_message_batch"
AT_DELETION = (DELETES,), (DESTINATION,), ("removal",)
ONE = {"MAX_CONCURRENT_KEYS": "1"}
Strike = Callable[[Drawn, str], Coroutine[Any, Any, dict[str, Any] | None]]  # in place of an answer of that operation


def refused(code: str, operation: str = "HeadObject") -> Strike:
    async def strike(_drawn: Drawn, _operation: str) -> None:
        raise ClientError({"Error": {"Code": code, "Message": "no"}}, operation)

    return strike


async def empty(_drawn: Drawn, _operation: str) -> dict[str, Any]:
    return {}


async def gone(_drawn: Drawn, operation: str) -> None:
    """HeadObject says the same of a bucket that is gone as of a key."""
    code = "404" if operation == LOOKS else "NoSuchBucket"
    raise ClientError({"Error": {"Code": code}}, "HeadObject" if operation == LOOKS else "ListObjectsV2")


async def late(_drawn: Drawn, _operation: str) -> None:
    await asyncio.sleep(3600)


async def as_usual(_drawn: Drawn, _operation: str) -> None: ...


class Fault(NamedTuple):
    """From the nth call of the first of these operations on, on one of the sides, for so many `times`. `says`: a
    pattern of the log. `signal`: seconds from the strike to a SIGTERM."""

    strike: Strike
    says: str
    operations: tuple[str, ...] = (LISTS,)
    sides: tuple[int, ...] = (SOURCE, DESTINATION)
    commands: tuple[str, ...] = tuple(COMMANDS)
    first: int = 2
    times: float = math.inf
    signal: float | None = None
    statuses: Mapping[str, int] = {}  # other than 3
    environment: Mapping[str, str] = {}


TIMEOUT = dict.fromkeys(WAITS, 1)
REFUSES = refused("AccessDenied", "SendMessageBatch")
QUEUE_REFUSES = Fault(REFUSES, "error=AccessDenied", (SENDS,), (QUEUE,), RECONCILES, first=0, times=1)
FAULTS = {
    "a page is denied": Fault(
        refused("AccessDenied", "ListObjectsV2"), "operation=ListObjectsV2 error=AccessDenied.*s3express:CreateSession"
    ),
    "a page is empty": Fault(empty, "error=Unfinished"),
    "a bucket is gone": Fault(refused("NoSuchBucket", "ListObjectsV2"), "check SRC_BUCKET, DST_BUCKET and REGION"),
    "credentials end at the looks": Fault(
        refused("ExpiredToken"), "operation=HeadObject error=ExpiredToken", (LOOKS,), commands=tuple(COMMANDS)[:-1]
    ),
    "the source is gone after it was listed": Fault(
        gone, "error=NoSuchBucket", (LOOKS, LISTS), (SOURCE,), tuple(COMMANDS)[:-1], 0
    ),
    "S3 stays busy": Fault(refused("SlowDown", "ListObjectsV2"), "error=SlowDown", statuses=TIMEOUT),
    "the memory is over": Fault(as_usual, "raise TASK_MEMORY", (), environment={"TASK_MEMORY": "1"}),
    "a signal": Fault(as_usual, "SIGTERM", signal=0),
    "a signal in the pause of an audit": Fault(as_usual, "SIGTERM", commands=("audit",), first=0, signal=90),
    "a signal while a page hangs": Fault(late, "SIGTERM", signal=5),
    "a signal while a look hangs": Fault(late, "SIGTERM", (LOOKS,), commands=tuple(COMMANDS)[:-1], signal=5),
    "a page is late": Fault(late, "before both buckets were listed", commands=WAITS, statuses=TIMEOUT),
    "the queue refuses what is sent first": QUEUE_REFUSES,
    "the queue refuses what is sent then": QUEUE_REFUSES._replace(first=1, commands=("reconcile", "removal")),
    "a signal at a deletion": Fault(as_usual, "were removed by then", *AT_DELETION, environment=ONE, signal=0),
    "a signal while deletions are refused": Fault(refused("SlowDown"), "SIGTERM", *AT_DELETION, signal=5),
    "credentials end at a deletion": Fault(
        refused("ExpiredToken"), "were removed by then", *AT_DELETION, environment=ONE
    ),
}


def struck(drawn: Drawn, fault: Fault) -> list[str]:
    """Has it strike; the calls that it struck."""
    calls, side = list[str](), drawn.chance.choice(fault.sides)

    async def fails(operation: str, at: int) -> dict[str, Any] | None:
        if operation in fault.operations and at == side:
            calls.extend([operation] if operation == fault.operations[0] else [])
            if fault.first < len(calls) <= fault.first + fault.times:
                if fault.signal is not None:
                    asyncio.get_running_loop().call_later(fault.signal, drawn.interruption.set)
                return await fault.strike(drawn, operation)
        return None

    drawn.fails = fails
    return calls


def check(drawn: Drawn, name: str, ran: Ran, fault: Fault) -> None:
    command, status = COMMANDS[name][0], fault.statuses.get(name, 3)
    assert ran.status == status, ran.log
    assert any(re.search(fault.says, line) for level, line in ran.log if level in ("ERROR", "WARNING")), ran.log
    if status == 3:
        assert any(f"{command} stopped, " in line and "it is safe to run it again: " in line for _, line in ran.log)
    end = "stopped" if status == 3 else "timeout"
    assert f"{command.rstrip('e')}ed end={end} status={status} " in ran.log[-1][1]
    assert drawn.clock < (100 if drawn.interruption.is_set() else 400)
    if command == "reconcile":
        assert ran.numbers().get("removed", 0) == len(drawn.deleted)
    if DELETES not in fault.operations:
        keys = {key: drawn.before[key] for key, _ in drawn.queued}
        assert not [key for key, pair in keys.items() if is_deleted(drawn, category(drawn, key, pair), pair)]
        assert not drawn.deleted
    if name not in RECONCILES:
        assert set(drawn.asked) <= {LISTS, LOOKS, GETS}


@pytest.mark.parametrize("name", FAULTS)
def test_it_stops_and_nothing_is_deleted(name: str) -> None:
    fault = FAULTS[name]
    for command in fault.commands:
        number = 0
        for seed in SEEDS:
            drawn = Drawn(seed, keys=40)
            drawn.environment |= {"PREFIX_FILTER": "", "EXCLUDE": "*.tmp", "KEEP_DAYS": "7"}
            drawn.page, drawn.busy, drawn.denied, drawn.kept, drawn.unanswered = 3, set(), {}, set(), set()
            calls = struck(drawn, fault)
            ran = drawn.run(*COMMANDS[command], **fault.environment)
            if len(calls) > fault.first or not fault.operations:
                number += 1
                check(drawn, command, ran, fault)
        assert number > len(SEEDS) / 2, f"{command}: it hardly ever strikes"
