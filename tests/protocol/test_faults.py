"""Faults that AWS really has, one at a time, as short histories: the destination ends equal, and at what price."""

import itertools
import logging
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from botocore.exceptions import ClientError
from fakes import LARGE, SETTINGS
from histories import Plan, World
from tasks import Task

from mirror.protocol.buckets import Buckets
from mirror.queue.messages import OF_MISSING, hint_body

Step = Callable[[World], object]


def settle(world: World) -> None:
    world.settle()
    assert world.wrong() == []


def change(what: str, size: int = 1, key: str = "data/a") -> Step:
    return lambda world: world.change(key, what, size=size)


def work(*plan: tuple[str, tuple[Any, ...]], **options: Any) -> Step:
    return lambda world: world.work(plan=plan, **options)


def passes(seconds: float) -> Step:
    return lambda world: world.pass_time(seconds)


def is_busy(seconds: float) -> Step:
    return lambda world: setattr(world, "slow_until", world.clock + seconds)


def look(*keys: str) -> Step:
    """One message on them, instead of their events."""
    return lambda world: (world.queue.clear(), world.look(keys))


def left(*receives: int, most: int = 0) -> Step:
    """The messages that are left have been received so often, or are `most` at most."""

    def check(world: World) -> None:
        found = sorted(message.receives for message in world.queue.messages)
        assert 1 <= len(found) <= most if most else found == list(receives)

    return check


def made(number: int) -> Step:
    """So many uploads and objects have been made of the key."""

    def check(world: World) -> None:
        assert world.stores["data/a"].serial == number

    return check


def forgets_older(world: World) -> None:
    for message in world.queue.messages[:-1]:
        world.queue.live.remove(message)


# --- One fault at a time ----------------------------------------------------------------------------------------------

NOTHING, ACKNOWLEDGES = ("head_object", ("nothing",)), ("head_object", ("acknowledges",))
DENIED = ("head_object", ("error", "AccessDenied"))
SYNCED, NEW, LARGE_NEW = [change("put x"), work()], change("put x"), change("put x", LARGE)
# At each of 30 copies the key changes once more; the worker receives that, and deletes what it may.
OVERWRITTEN = [("copy_object", ("overwritten", f"put {number}")) for number in range(30)]

HISTORIES: dict[str, list[Step]] = {
    "a message that is handed on while its copy is under way": [
        *(NEW, work(NOTHING, ("copy_object", ("times out",)), *[("head_object", ("error", "503"))] * 200)),
        *(passes(10), left(0), passes(60), change("delete"), work()),
    ],
    "a copy that a stopping worker leaves": [NEW, work(("copy_object", ("stops",))), left(0), change("delete"), work()],
    "a change that comes at a look": [
        *(NEW, work(("head_object", ("too late", "delete"))), World.settle),
        *(change("put y"), work(NOTHING, ("head_object", ("too late", "put z")))),
    ],
    "a recheck that cannot be sent": [
        *(NEW, work(("copy_object", ("reset",)), ("send_message", ("loses the answer",))), left(0, 1))
    ],
    "a bucket that wakes up in four minutes": [NEW, is_busy(240), work(), left()],
    "a bucket that wakes up in ten minutes": [NEW, is_busy(600), work(), left(1)],
    "a sync of ten hours": [
        *(LARGE_NEW, work(("upload_part_copy", ("time", 36_000)), ("upload_part_copy", ("another works",)))),
        *(left(), made(2)),
    ],
    "a sync of 13 hours": [NEW, work(("head_object", ("time", 46_800))), left(0)],
    "an upload of a dead worker, whose message joins a sync": [
        *(LARGE_NEW, work(("upload_part_copy", ("dies",))), passes(8000), change("put y", LARGE)),
        work(
            *(("upload_part_copy", ("receives more",)), ("complete_multipart_upload", ("change", "touch"))),
            limit=1,
            newest_first=True,
        ),
    ],
    "a message with two keys, of which one fails": [
        *(NEW, change("put x", key="data/b"), look("data/a", "data/b")),
        work(NOTHING, NOTHING, NOTHING, ("copy_object", ("nothing",)), ACKNOWLEDGES, ("copy_object", DENIED[1])),
        left(1),
    ],
    "a key that is overwritten at each copy": [NEW, change("put x", key="data/b"), work(*OVERWRITTEN), left()],
    "a key that is overwritten at each copy, until the worker dies": [
        *(NEW, work(*OVERWRITTEN, ("copy_object", ("dies",))), left(most=2), forgets_older, change("delete"), work())
    ],
    "the newest message, whose change is copied": [
        NEW,
        work(NOTHING, NOTHING, ACKNOWLEDGES, ("copy_object", ("change", "delete")), ("delete_object", ("dies",))),
        left(0, 1),
    ],
}


@pytest.mark.parametrize("history", HISTORIES)
def test_it_ends_equal_and_at_this_price(world: World, history: str) -> None:
    for step in HISTORIES[history]:
        step(world)
    settle(world)


REPEATED = [("conflict",), ("conflict", "no body"), ("loses the answer",), ("reset",), ("empty 200",)]
REPEATED += [("error", code) for code in ("InternalError", "SlowDown", "503", "RequestTimeTooSkewed")]
WRITES = {
    "a copy": ("copy_object", [NEW]),
    "an upload": ("create_multipart_upload", [LARGE_NEW]),
    "a part": ("upload_part_copy", [LARGE_NEW]),
    "a large copy": ("complete_multipart_upload", [LARGE_NEW]),
    "a delete": ("delete_object", [*SYNCED, change("delete")]),
}


WITHOUT_RESULT = {
    "a copy": "CopyObject answered 200 without an ETag",
    "a part": "UploadPartCopy of part 1 answered 200 without an ETag",
    "a large copy": "CompleteMultipartUpload answered 200 without an ETag",
}
# Nobody knows of an upload whose id was lost.
ONE_FAILS = [
    (write, happens)
    for write, happens in itertools.product(WRITES, REPEATED)
    if (write, happens) not in (("an upload", ("loses the answer",)), ("an upload", ("reset",)))
]


@pytest.mark.parametrize(("write", "happens"), ONE_FAILS)
def test_a_write_that_fails_once_is_repeated_within_the_same_delivery(
    world: World, write: str, happens: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    operation, before = WRITES[write]
    for step in (*before, work((operation, happens))):
        step(world)
    assert world.differences() == []
    assert [message for message in world.queue.messages if message.receives] == []
    if happens == ("empty 200",):
        assert WITHOUT_RESULT.get(write, "") in caplog.text
    settle(world)


def test_a_delete_that_s3_is_too_busy_for_is_decided_anew(world):
    """By then the source may have the object again, and the destination a commit that names it (TABLES)."""
    deletes = []

    def too_busy(operation, _key):
        if operation != "delete_object":
            return ""
        deletes.append(operation)
        if len(deletes) == 1:
            world.change("data/a", "put x")
        return "SlowDown" if len(deletes) == 1 else ""

    world.change("data/a", "put x")
    world.work()
    world.change("data/a", "delete")
    world.denies = too_busy
    world.work()
    settle(world)
    assert len(deletes) == 1


# How often in a row the queue cannot be read, until it can be; the error code; the exit status
UNREADABLE = [
    ((9, 9), "ServiceUnavailable", 0),
    ((10,), "ServiceUnavailable", 1),
    ((1,), "AccessDenied", 1),
    ((1,), "AWS.SimpleQueueService.NonExistentQueue", 1),
]


@pytest.mark.parametrize(("in_a_row", "code", "status"), UNREADABLE)
def test_a_queue_that_cannot_be_read_ends_the_worker_after_ten_times_or_at_once_if_it_is_gone(
    world, in_a_row, code, status
):
    """So that its task is seen to fail, and does not run indefinitely."""
    answers = iter([is_read for times in in_a_row for is_read in [*[False] * times, True]])
    receive, world.queue.limit = world.queue.receive_message, 1
    for key in ("data/a", "data/b"):
        world.change(key, "put x")

    def receive_or_fail(**arguments: Any) -> dict[str, Any]:
        if not next(answers, True):
            raise ClientError({"Error": {"Code": code}}, "ReceiveMessage")
        return receive(**arguments)

    world.queue.receive_message = receive_or_fail
    assert Task(world).live() == status
    assert len(list(answers)) == status  # the answer after that, for which it did not ask


# --- Requests ---------------------------------------------------------------------------------------------------------


def test_a_write_that_s3_is_too_busy_for_costs_no_further_look(world):
    busy = [("copy_object", ("error", code)) for code in ("503", "SlowDown")]
    began = world.clock
    assert requests_for(world, ["data/a"], plan=busy) == 3
    assert 0.25 < world.clock - began < 1.5  # pauses of 0.1 to 0.2 s and of twice that
    settle(world)


def requests_for(world: World, keys: list[str], change: str = "put x", plan: Plan = ()) -> int:
    """Each is changed and synced, one after the other."""
    asked: list[str] = []
    world.denies = lambda operation, key: asked.append(operation) if key else ""
    for key in keys:
        world.change(key, change)
        world.work(plan=plan)
    return len(asked)


def some(prefix: str, count: int) -> list[str]:
    return [f"data/{prefix}{number}" for number in range(count)]


def test_a_process_looks_at_the_destination_first_until_it_knows_how_many_are_overwritten(world):
    """Before the first refusal of a copy is known, all of its slots are taken."""
    world.overwritten = Buckets.overwritten
    assert 300 < requests_for(world, some("a", 100)) < 310
    world.processes.clear()
    assert requests_for(world, some("a", 100), "put y") == 400
    settle(world)


@pytest.mark.parametrize(("share", "run"), [(0.2, 1), (0.35, 1), (0.35, 10), (0.5, 100)])
def test_a_mix_of_new_and_overwritten_keys_costs_no_more_than_without_that(world, share, run):
    """`run`: this many of one kind come one after the other, as prefixes do."""
    requests_for(world, old := some("old", 100))
    random = Random(f"{share} {run}")
    spent = overwritten = 0
    for start in range(0, 1000, run):
        is_overwritten = random.random() < share
        keys = random.sample(old, run) if is_overwritten else [f"data/{start + number}" for number in range(run)]
        spent += requests_for(world, keys, f"put {start}")
        overwritten += run * is_overwritten
    assert 3 * 1000 + overwritten <= spent <= (3 * 1000 + 3 * overwritten) * 1.01
    settle(world)


def test_a_key_that_reconcile_found_missing_is_not_looked_for_however_many_are_overwritten(world):
    requests_for(world, some("a", 100))
    requests_for(world, some("a", 100), "put y")
    missing = some("b", 100)
    for key in missing:
        world.change(key, "put x")
    world.queue.clear()
    world.queue.put(hint_body(SETTINGS.src_bucket, missing, OF_MISSING))
    assert requests_for(world, some("a", 1), "put z") == 3 * len(missing) + 4
    settle(world)
