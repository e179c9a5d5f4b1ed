"""Faults that AWS really has, one at a time, as short histories: the destination ends equal, and at what price."""

import asyncio
import json
from contextlib import closing
from random import Random
from typing import Any

import pytest
from botocore.exceptions import ClientError
from fakes import LARGE, SETTINGS
from histories import World
from invocations import LastingClient, Loop

from mirror.loop import Worker
from mirror.protocol.buckets import Buckets
from mirror.queue.bodies import hint_body
from mirror.queue.queue import Queue
from mirror.signals import LAST_SECONDS


def settle(world: World) -> None:
    world.settle()
    assert world.faults == []
    assert world.differences() == []
    assert world.queue.dead == []
    assert world.uploads() == ()


def receives(world: World) -> list[int]:
    return [message.receives for message in world.queue.messages]


@pytest.mark.parametrize("size", [1, LARGE])
@pytest.mark.parametrize(
    "happens",
    [
        ("error", "InternalError"),
        ("error", "SlowDown"),
        ("error", "503"),
        ("error", "RequestTimeTooSkewed"),
        ("empty 200",),
        ("conflict",),
        ("loses the answer",),
        ("reset",),
    ],
)
def test_a_write_that_fails_once_is_repeated_within_the_same_delivery(world, happens, size):
    world.change("data/a", "put x", size=size)
    world.work(plan=[("copy_object" if size == 1 else "complete_multipart_upload", happens)])
    assert world.differences() == []
    assert [message for message in world.queue.messages if message.receives] == []
    settle(world)


def test_a_write_that_s3_is_too_busy_for_costs_no_further_look(world):
    looks = []
    world.denies = lambda operation, _key: looks.append(operation) if operation == "head_object" else ""
    world.change("data/a", "put x")
    world.work(plan=[("copy_object", ("error", "503")), ("copy_object", ("error", "SlowDown"))])
    settle(world)
    assert len(looks) == 2


@pytest.mark.parametrize("happens", [("error", "SlowDown"), ("conflict",), ("loses the answer",), ("reset",)])
def test_a_delete_that_fails_once_is_repeated_within_the_same_delivery(world, happens):
    world.change("data/a", "put x")
    world.work()
    world.change("data/a", "delete")
    world.work(plan=[("delete_object", happens)])
    assert world.differences() == []
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


@pytest.mark.parametrize("operation", ["copy_object", "delete_object"])
def test_a_call_without_an_answer_is_looked_at_again_when_it_must_have_ended(world, operation):
    world.change("data/a", "put x")
    if operation == "delete_object":
        world.work()
        world.change("data/a", "delete")
    world.work(plan=[(operation, ("reset",))])
    (message,) = world.queue.messages
    assert message.visible_at - world.clock > 890
    world.change("data/a", "delete" if operation == "copy_object" else "put y")
    world.work()
    settle(world)


def test_a_message_that_is_handed_on_does_not_come_back_before_its_copy_has_ended(world):
    world.change("data/a", "put x")
    busy = [("head_object", ("error", "503"))] * 200
    world.work(plan=[("head_object", ("nothing",)), ("copy_object", ("times out",)), *busy])
    world.pass_time(10)
    (message,) = world.queue.messages
    assert (message.receives, json.loads(message.body)["sync"]["tries"]) == (0, 1)
    assert message.visible_at - world.clock > 550
    world.pass_time(60)
    world.change("data/a", "delete")
    world.work()
    settle(world)


def test_a_message_is_not_deleted_before_its_copy_is_done_and_looked_at(world):
    world.change("data/a", "put x")
    world.work(plan=[("copy_object", ("acknowledges",)), ("head_object", ("nothing",)), ("head_object", ("dies",))])
    assert receives(world) == [1]
    settle(world)


def test_a_message_of_a_dead_worker_does_not_come_back_before_its_copy_has_ended(world):
    world.change("data/a", "put x")
    world.work(plan=[("copy_object", ("dies",))])
    world.change("data/a", "delete")
    world.work(plan=[("head_object", ("time", 800))])
    settle(world)
    assert world.unprotected == set()


def test_what_a_stopping_worker_leaves_under_way_comes_back_only_when_it_has_ended(world):
    world.change("data/a", "put x")
    world.work(plan=[("copy_object", ("stops",))])
    assert receives(world) == [0]
    world.change("data/a", "delete")
    world.work()
    settle(world)


@pytest.mark.parametrize("call", ["head_object", "copy_object"])
def test_a_change_that_comes_while_its_key_is_synced_is_not_lost(world, call):
    world.change("data/a", "put x")
    world.work(plan=[(call, ("too late", "delete"))])
    world.settle()
    world.change("data/a", "put y")
    world.work(plan=[("head_object", ("nothing",)), ("head_object", ("too late", "put z"))])
    settle(world)


def test_a_message_delivered_again_while_its_first_delivery_works_does_no_harm(world):
    world.change("data/a", "put x")
    world.work(plan=[("copy_object", ("delivered again",)), ("head_object", ("another works",))])
    settle(world)
    assert world.stores["data/a"].serial <= 2


def test_a_delete_of_messages_whose_answer_is_lost_costs_nothing(world):
    world.change("data/a", "put x")
    world.work(plan=[("delete_message_batch", ("loses the answer",))])
    assert world.queue.messages == []
    settle(world)


def test_a_receive_whose_answer_is_lost_costs_a_receive_and_nothing_else(world):
    world.change("data/a", "put x")
    world.work(plan=[("receive_message", ("loses the answer",))])
    assert receives(world) == [1]
    settle(world)
    assert world.stores["data/a"].serial == 1


def test_while_the_queue_is_throttled_nothing_is_lost(world):
    world.change("data/a", "put x")
    world.throttled_until = world.clock + 60
    world.work()
    assert receives(world) == [0]
    world.pass_time(60)
    world.work(plan=[("copy_object", ("change", "put y"))])
    settle(world)


def test_the_recheck_that_cannot_be_sent_fails_the_message_instead(world):
    world.change("data/a", "put x")
    world.work(plan=[("copy_object", ("reset",)), ("send_message", ("loses the answer",))])
    assert sorted(receives(world)) == [0, 1]
    settle(world)


def test_a_bucket_that_wakes_up_for_four_minutes_is_waited_for_in_one_delivery(world):
    world.change("data/a", "put x")
    world.slow_until = world.clock + 240
    world.work()
    assert world.queue.messages == []
    settle(world)


def test_a_bucket_that_answers_503_for_ten_minutes_costs_one_receive(world):
    world.change("data/a", "put x")
    world.slow_until = world.clock + 600
    world.work()
    assert receives(world) == [1]
    settle(world)


def test_a_long_sync_keeps_its_message(world):
    world.change("data/a", "put x", size=LARGE)
    world.work(plan=[("upload_part_copy", ("time", 36_000)), ("upload_part_copy", ("another works",))])
    assert world.queue.messages == []
    assert world.stores["data/a"].serial == 2  # one upload and its object
    settle(world)


@pytest.mark.parametrize("size", [1, LARGE])
def test_at_the_12_hour_cap_the_message_is_handed_back_and_not_delivered_twice(world, size):
    world.change("data/a", "put x", size=size)
    world.work(plan=[("head_object", ("time", 46_800))])
    assert receives(world) == [0]
    settle(world)


def test_sigterm_uses_up_no_receive_and_hands_the_upload_on(world):
    world.change("data/a", "put x", size=LARGE)
    for _ in range(2):
        world.work(plan=[("upload_part_copy", ("SIGTERM",))])
        (message,) = world.queue.messages
        assert message.receives == 0
        assert list(json.loads(message.body)["sync"]["uploads"]) == ["data/a"]
    settle(world)


def test_an_upload_handed_on_is_not_completed_for_another_version(world):
    world.change("data/a", "put x", size=LARGE)
    world.work(plan=[("upload_part_copy", ("nothing",)), ("upload_part_copy", ("SIGTERM",))])
    world.change("data/a", "put y", size=LARGE)
    settle(world)


def test_the_upload_of_a_dead_worker_is_aborted_by_the_next_delivery(world):
    world.change("data/a", "put x", size=LARGE)
    world.work(plan=[("upload_part_copy", ("dies",))])
    assert len(world.uploads()) == 1
    settle(world)


def test_the_upload_of_a_dead_worker_is_aborted_by_a_sync_that_its_message_joins(world):
    world.change("data/a", "put x", size=LARGE)
    world.work(plan=[("upload_part_copy", ("dies",))])
    world.pass_time(8000)
    world.change("data/a", "put y", size=LARGE)
    joined = [("upload_part_copy", ("receives more",)), ("complete_multipart_upload", ("change", "touch"))]
    world.work(plan=joined, limit=1, newest_first=True)
    settle(world)


def test_a_message_with_two_keys_of_which_one_fails_stays(world):
    world.change("data/a", "put x")
    world.change("data/b", "put x")
    world.queue.messages.clear()
    world.look(["data/a", "data/b"])
    syncs_the_first = [("head_object", ("nothing",))] * 3 + [("copy_object", ("nothing",))]
    fails_on_the_second = [("head_object", ("acknowledges",)), ("copy_object", ("error", "AccessDenied"))]
    world.work(plan=[*syncs_the_first, *fails_on_the_second])
    assert receives(world) == [1]
    settle(world)


def test_a_worker_that_is_stopped_ends_before_it_is_killed_although_nothing_answers(world):
    """Its receive, its copies and its hand-back each use up their time."""
    world.change("data/a", "put x")

    async def call_sqs(operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        if operation == "receive_message" and not world.queue.handles:
            return world.queue.receive_message(**arguments)
        return await asyncio.get_running_loop().create_future()

    async def call_s3(operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        return (
            await asyncio.get_running_loop().create_future() if operation == "head_object" else world.listing(arguments)
        )

    async def stopped_after() -> float:
        buckets = Buckets(SETTINGS, LastingClient(call_s3), world.now)
        worker = Worker(SETTINGS, buckets, Queue(LastingClient(call_sqs), SETTINGS.queue_url), world.now)
        running = asyncio.create_task(worker.run())
        await asyncio.sleep(10)
        begin = world.clock
        worker.stop()
        await running
        return world.clock - begin

    with closing(Loop(world)) as loop:
        assert 90 < loop.run_until_complete(stopped_after()) < LAST_SECONDS


@pytest.mark.parametrize(("in_a_row", "status"), [((9, 9), 0), ((10,), 1)])
def test_a_queue_that_cannot_be_read_ten_times_in_a_row_ends_the_worker(world, in_a_row, status):
    """So that its task is seen to fail, and does not run indefinitely."""
    answers = iter([is_read for times in in_a_row for is_read in [*[False] * times, True]])

    async def call_sqs(_operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        if not next(answers, True):
            raise ClientError({"Error": {"Code": "ServiceUnavailable"}}, "ReceiveMessage")
        return world.queue.receive_message(**arguments)

    buckets = Buckets(SETTINGS, LastingClient(call_sqs), world.now)
    with closing(Loop(world)) as loop:
        worker = Worker(SETTINGS, buckets, Queue(LastingClient(call_sqs), SETTINGS.queue_url), world.now)
        assert loop.run_until_complete(asyncio.wait_for(worker.run(), 3600)) == status
    assert len(list(answers)) == status  # the eleventh answer, for which it did not ask


def test_a_message_that_fails_three_times_is_parked_and_copied_once_it_is_redriven(world):
    world.change("data/a", "put x")
    for _ in range(3):
        world.work(plan=[("head_object", ("error", "AccessDenied"))])
        world.pass_time(3600)
    world.work()
    assert (len(world.queue.messages), len(world.queue.dead)) == (0, 1)
    world.redrive()
    world.queue.dead.clear()
    settle(world)


# A key that keeps changing


def overwritten(times: int) -> list[tuple[str, tuple[str, ...]]]:
    """At each of this many copies the key changes once more; the worker receives that, and deletes what it may."""
    return [("copy_object", ("overwritten", f"put {number}")) for number in range(times)]


def test_a_key_that_is_overwritten_during_each_copy_uses_up_no_receive_and_others_are_synced(world):
    world.change("data/a", "put x")
    world.change("data/b", "put x")
    world.work(plan=overwritten(100))
    assert world.queue.messages == []
    settle(world)


@pytest.mark.parametrize("happens", [("dies",), ("stops",)])
def test_of_a_key_that_keeps_changing_few_messages_are_left_and_the_newest_is_enough(world, happens):
    world.change("data/a", "put x")
    world.work(plan=[*overwritten(30), ("copy_object", happens)])
    assert 1 <= len(world.queue.messages) <= 2
    world.queue.messages = world.queue.messages[-1:]
    world.change("data/a", "delete")
    world.work()
    settle(world)


def test_the_newest_message_stays_until_the_sync_has_ended_although_its_change_is_copied(world):
    world.change("data/a", "put x")
    looks = [("head_object", ("nothing",))] * 2 + [("head_object", ("acknowledges",))]
    world.work(plan=[*looks, ("copy_object", ("change", "delete")), ("delete_object", ("dies",))])
    assert sorted(receives(world)) == [0, 1]
    settle(world)


# What a creation costs


def requests_for(world: World, keys: list[str], change: str = "put x") -> int:
    """Each is changed and synced, one after the other."""
    asked: list[str] = []
    world.denies = lambda operation, key: asked.append(operation) if key else ""
    for key in keys:
        world.change(key, change)
        world.work()
    return len(asked)


def some(prefix: str, count: int) -> list[str]:
    return [f"data/{prefix}{number}" for number in range(count)]


def test_once_most_keys_are_overwritten_the_destination_is_looked_at_first(world):
    assert requests_for(world, some("a", 100)) == 300
    assert 400 < requests_for(world, some("a", 100), "put y") < 460
    assert requests_for(world, some("a", 100), "put z") == 400
    assert 300 < requests_for(world, some("b", 100)) < 380
    assert requests_for(world, some("c", 100)) == 300
    settle(world)


def test_a_process_looks_at_the_destination_first_until_it_knows_how_many_are_overwritten(world):
    """Before the first refusal of a copy is known, all of its slots are taken."""
    world.overwritten = Buckets.overwritten
    new, old = some("a", 100), some("b", 100)
    assert 300 < requests_for(world, new) < 310
    requests_for(world, old)
    world.processes.clear()
    assert requests_for(world, old, "put y") == 400
    settle(world)


@pytest.mark.parametrize("run", [1, 10, 100])
@pytest.mark.parametrize("share", [0.2, 0.35, 0.5])
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
    assert spent <= (3 * (1000 - overwritten) + 6 * overwritten) * 1.01
    settle(world)


def test_a_key_that_reconcile_found_missing_is_not_looked_for_however_many_are_overwritten(world):
    requests_for(world, some("a", 100))
    requests_for(world, some("a", 100), "put y")
    missing = some("b", 100)
    for key in missing:
        world.change(key, "put x")
    world.queue.messages.clear()
    world.queue.send_message(hint_body(SETTINGS.src_bucket, missing, are_missing=True))
    assert requests_for(world, some("a", 1), "put z") == 3 * len(missing) + 4
    settle(world)
