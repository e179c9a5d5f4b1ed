"""A fault of the environment costs no message a receive; a fault of a key costs that key alone its three."""

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError
from fakes import ENVIRONMENT, LARGE
from histories import World

from mirror.loop import OUTAGE_STATUS
from mirror.protocol.attempt import KeySync
from mirror.queue.job import Job
from mirror.queue.outage import Outage
from mirror.settings import load_settings


def put(world: World, count: int, prefix: str = "data/k") -> list[str]:
    keys = [f"{prefix}{number}" for number in range(count)]
    for key in keys:
        world.change(key, "put x")
    return keys


def work_for(world: World, seconds: int) -> None:
    """One worker, that receives as long as it has room, with a heartbeat every second."""
    for _ in range(seconds):
        if not world.processes or world.processes[0].worker.scheduler.has_room():
            world.work()
        world.pass_time(1)


def most_receives(world: World) -> int:
    return max((message.receives for message in [*world.queue.messages, *world.queue.dead]), default=0)


@pytest.mark.parametrize(
    "code", ["403", "AccessDenied", "ExpiredToken", "400", "InvalidAccessKeyId", "KMS.DisabledException"]
)
def test_what_fails_for_all_keys_for_minutes_uses_up_no_receive(world, code, caplog):
    caplog.set_level(logging.INFO)
    put(world, 40)
    until = world.clock + 200
    world.denies = lambda _operation, _key: code if world.clock < until else ""
    work_for(world, 190)
    assert (most_receives(world), len(world.queue.dead)) == (1, 0)
    work_for(world, 120)
    assert world.queue.messages == world.queue.dead == []
    assert world.differences() == []
    lines = [record.message for record in caplog.records]
    assert sum(line.startswith("outage: ") for line in lines) == 1
    assert sum(line.startswith("outage over after ") for line in lines) == 1
    assert not any(line.startswith("failed key=") for line in lines)


def test_in_an_outage_few_requests_are_made(world):
    put(world, 40)
    asked = []
    world.denies = lambda operation, _key: asked.append(operation) or "403"
    work_for(world, 30)
    before = len(asked)
    work_for(world, 120)
    assert len(asked) - before <= 18  # nine looks, each asked again for its reason


def test_in_an_outage_of_copies_what_was_deleted_goes(world, caplog):
    gone = put(world, 60, "data/gone")
    work_for(world, 20)
    assert world.differences() == []
    put(world, 20)
    world.denies = lambda operation, _key: "AccessDenied" if operation == "copy_object" else ""
    work_for(world, 20)
    assert "outage: " in caplog.text
    for key in gone:
        world.change(key, "delete")
    work_for(world, 60)
    assert [line for line in world.differences() if "gone" in line] == []
    assert (most_receives(world), len(world.queue.dead)) == (1, 0)


@pytest.mark.parametrize("refusal", [("AccessDenied", "CreateSession"), ("403", "HeadObject")])
def test_an_outage_of_sessions_alone_parks_no_delete_although_new_objects_are_copied(world, refusal, caplog):
    gone = put(world, 60, "data/gone")
    work_for(world, 20)
    world.session_refusal, world.no_session_until = refusal, world.clock + 240
    for number in range(40):
        put(world, 2, f"data/new{number}-")
        if number >= 20:
            for key in gone[3 * number - 60 : 3 * number - 57]:
                world.change(key, "delete")
        work_for(world, 5)
    assert "outage: " in caplog.text
    assert synced_since(world, "new")
    assert (most_receives(world), len(world.queue.dead)) == (1, 0)
    work_for(world, 120)
    assert world.differences() == world.queue.messages == world.queue.dead == []
    assert caplog.text.count("outage: ") == 1


# --- One key ----------------------------------------------------------------------------------------------------------


def synced_since(world: World, prefix: str) -> bool:
    return not any(prefix in line for line in world.differences())


@pytest.mark.parametrize("code", ["SignatureDoesNotMatch", "ExpiredToken", "403"])
@pytest.mark.parametrize("others", [40, 0])
def test_an_error_that_all_may_have_is_a_keys_own_if_s3_answers_others(world, code, others, caplog):
    """Whether there are others or the key is alone in the queue."""
    put(world, 1, "data/bad")
    put(world, others, "data/fine")
    world.denies = lambda operation, key: code if operation == "copy_object" and "bad" in key else ""
    work_for(world, 12)
    assert synced_since(world, "fine")
    work_for(world, 300)
    assert "outage" not in caplog.text
    assert (world.queue.messages, len(world.queue.dead)) == ([], 1)
    assert world.processes[0].worker.exit_status == 0


def test_such_a_key_leaves_no_upload_behind(world):
    world.change("data/bad", "put x", size=LARGE)
    world.denies = lambda operation, _key: "ExpiredToken" if operation == "upload_part_copy" else ""
    work_for(world, 300)
    assert len(world.queue.dead) == 1
    assert world.uploads() == ()


def test_many_such_keys_are_parked_and_no_other_waits_for_them(world, caplog):
    for number in range(30):
        put(world, 1, f"data/bad{number}-")
        put(world, 1, f"data/fine{number}-")
    world.denies = lambda operation, key: "ExpiredToken" if operation == "copy_object" and "bad" in key else ""
    work_for(world, 30)
    assert synced_since(world, "fine")
    work_for(world, 600)
    assert "outage" not in caplog.text
    assert len(world.queue.dead) == 30


def test_a_marker_whose_folder_may_not_be_listed_holds_up_no_other_key(caplog):
    world = World(load_settings(ENVIRONMENT | {"COPY_LAST": "_SUCCESS"}))
    world.change("data/run/_SUCCESS", "put x")
    put(world, 40, "data/fine")
    world.denies = lambda operation, key: "AccessDenied" if operation == "list_objects_v2" and key else ""
    work_for(world, 12)
    assert synced_since(world, "fine")
    work_for(world, 600)
    assert "outage" not in caplog.text
    assert "operation=ListObjectsV2 error=AccessDenied" in caplog.text
    assert (world.queue.messages, len(world.queue.dead)) == ([], 1)


def test_a_key_that_is_always_changing_ends_the_outage_that_it_is_tried_in(world):
    """It is copied again and again and never done."""
    put(world, 11)
    copies: list[Any] = []
    asked = [""]

    def denies(operation: str, key: str) -> str:
        if world.clock < until:
            return "403" if operation == "head_object" else ""
        if key == "data/hot":
            if operation == "copy_object":
                copies.append(world.processes[0].worker.outage.began)
            if (asked[-1], operation) == ("copy_object", "head_object") and len(copies) <= 10:
                world.change(key, f"put {len(copies)}")
            asked.append(operation)
        return ""

    until = world.clock + 20
    world.denies = denies
    work_for(world, 18)
    assert world.processes[0].worker.outage.began
    world.change("data/hot", "put x")  # one that has not failed yet is tried first
    until = world.clock
    work_for(world, 20)
    assert copies[0]
    assert len(copies) > 10
    assert set(copies[1:]) == {None}
    assert world.differences() == []
    assert most_receives(world) <= 1


def test_a_success_from_before_the_latest_failure_ends_no_outage():
    clock, first = [0.0], []
    schedule: Any = SimpleNamespace(put_first=first.extend, free_slot=lambda _job: None, stopping=False)
    outage = Outage(30, Any, schedule, lambda: clock[0])
    one, other = Job(KeySync("a")), Job(KeySync("b"))
    denied = ClientError({"Error": {"Code": "403"}}, "CopyObject")
    asyncio.run(outage.suspect(one, denied))
    outage.begin(denied, 1)
    clock[0] = 10.0
    asyncio.run(outage.suspect(other, denied))
    outage.note_success("copied", since=9.0)
    outage.note_success("deleted", since=11.0)
    assert outage.began is not None
    assert first == []
    outage.note_success("copied", since=11.0)
    assert outage.began is None
    assert first == [one, other]


@pytest.mark.parametrize(("code", "operation"), [("403", ""), ("ExpiredToken", ""), ("AccessDenied", "copy_object")])
@pytest.mark.parametrize(("down", "up"), [(20, 20), (40, 7), (3, 9)])
def test_an_outage_that_comes_and_goes_uses_up_no_receive(world, code, operation, down, up):
    """With few slots, as here those that have begun wait for each other."""
    world.settings = load_settings(ENVIRONMENT | {"MAX_CONCURRENT_KEYS": "8"})
    put(world, 200)
    begin = world.clock

    def denies(asked: str, _key: str) -> str:
        is_down = (world.clock - begin) % (down + up) < down
        return code if is_down and operation in ("", asked) else ""

    world.denies = denies
    most = 0
    for _ in range(120):
        work_for(world, 5)
        most = max(most, most_receives(world))
    world.denies = lambda _operation, _key: ""
    work_for(world, 120)
    assert (max(most, most_receives(world)) <= 1, len(world.queue.dead)) == (True, 0)
    assert world.differences() == []


def test_an_outage_that_lasts_ends_the_worker_with_a_status_of_its_own_and_hands_all_back(world, caplog):
    put(world, 40)
    world.denies = lambda operation, _key: "" if operation == "list_objects_v2" else "403"
    work_for(world, 630)
    (process,) = world.processes
    process.finish()
    assert process.worker.exit_status == OUTAGE_STATUS == 3
    assert process.worker.stopping.is_set()
    assert [message.receives for message in world.queue.messages] == [0] * 40
    assert "the worker ends: operation=HeadObject error=403" in caplog.text
    world.denies = lambda _operation, _key: ""
    world.processes.clear()
    world.settle()
    assert world.differences() == []


def test_keys_that_are_denied_beside_others_that_are_not_fail_by_themselves(world, caplog):
    put(world, 20, "data/denied")
    put(world, 20, "data/fine")
    world.denies = lambda _operation, key: "403" if "denied" in key else ""
    work_for(world, 60)
    assert world.differences() and all("denied" in line for line in world.differences())
    work_for(world, 600)
    assert len(world.queue.dead) == 20
    assert world.queue.messages == []
    assert world.processes[0].worker.exit_status == 0
    assert "outage" not in caplog.text
