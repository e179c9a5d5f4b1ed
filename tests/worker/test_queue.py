"""How the worker treats the queue: acknowledging, extending, retrying, handing back, and the end of the process."""

import asyncio
import json
import os
import re
import signal
from types import SimpleNamespace

import pytest
from world import DEAD_LETTERS, MIRROR, QUEUE, SOURCE, until, wait_until

from mirror import cli
from mirror.loop import Worker
from mirror.model.errors import Postponed
from mirror.model.limits import SQS_BATCH
from mirror.protocol import sync
from mirror.protocol.attempt import KeySync
from mirror.queue import leases
from mirror.queue.bodies import hint_body
from mirror.settings import load_settings
from mirror.signals import Signals

GIB = 1024**3


def receives(world) -> list[int]:
    return [message["receive_count"] for message in world.standin.messages(QUEUE)]


def copies(world) -> int:
    return world.requests().get("CopyObject", 0)


def parts(world) -> int:
    return world.requests().get("UploadPartCopy", 0)


def wait_for_parts(world, number: int) -> None:
    wait_until(lambda: parts(world) >= number)


# Acknowledging and coalescing


def test_a_message_stays_in_the_queue_until_its_copy_is_done(world):
    world.standin.latency("CopyObject", ms=2000)
    world.put("a")
    process = world.start_worker()
    wait_until(lambda: copies(world) == 1)
    assert world.standin.queue(QUEUE) == {"visible": 0, "in_flight": 1, "delayed": 0}
    assert world.mirrored() == {}
    process.communicate(timeout=300)
    assert world.is_equal()
    assert world.is_empty()


def test_a_message_with_several_keys_stays_until_all_of_them_are_synced(world):
    bodies = []
    for key in ("a", "b"):
        world.put(key)
        bodies.append(json.loads(world.standin.messages(QUEUE)[-1]["body"]))
    world.build()
    for key in ("a", "b"):
        world.standin.put(SOURCE, key)
    drain_queue(world)
    world.standin.fault("HeadObject", "error", status=403, code="AccessDenied", key="^b$", times=1)
    world.standin.send(QUEUE, json.dumps({"Records": bodies[0]["Records"] + bodies[1]["Records"]}))
    output = world.run_worker(EMPTY_POLLS_BEFORE_EXIT="4")
    assert 'failed key="b" attempt=1/3' in output
    assert set(world.mirrored()) == {"a", "b"}
    assert world.is_empty()
    assert world.standin.messages(DEAD_LETTERS) == []


def drain_queue(world) -> None:
    """Forgets the events that the puts of a test's preparation sent."""
    world.queue_url = world.standin.create_queue(
        QUEUE, visibility_timeout=8, max_receive_count=3, dead_letter_queue=DEAD_LETTERS
    )


def test_many_messages_on_one_key_become_few_syncs(world):
    world.standin.latency("CopyObject", ms=500)
    for _ in range(40):
        world.put("a")
    world.run_worker()
    assert world.is_equal()
    assert world.is_empty()
    assert copies(world) <= 4


def test_messages_are_deleted_ten_at_a_time(world):
    for number in range(200):
        world.put(f"k{number}")
    world.run_worker()
    assert world.is_equal()
    assert world.requests()["DeleteMessageBatch"] < 100
    assert world.requests().get("DeleteMessage", 0) == 0


def test_the_test_event_and_events_of_others_are_deleted_quietly(world):
    world.standin.send(QUEUE, '{"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "source"}')
    world.standin.send(QUEUE, hint_body("another-bucket", ["models/x"]))
    world.put("other/x")
    output = world.run_worker(PREFIX_FILTER="models/")
    assert world.is_empty()
    assert world.standin.messages(DEAD_LETTERS) == []
    assert world.mirrored() == {}
    assert "ERROR" not in output


def test_a_body_that_is_no_event_is_parked_after_three_receives_and_the_log_shows_it(world):
    world.standin.send(QUEUE, "hello")
    output = world.run_worker(EMPTY_POLLS_BEFORE_EXIT="8")
    assert [message["body"] for message in world.standin.messages(DEAD_LETTERS)] == ["hello"]
    assert output.count("cannot read message: not an S3 event") == 3
    assert "'hello'" in output


def test_a_failed_message_is_tried_again_after_a_growing_pause(world):
    world.standin.fault("CopyObject", "error", status=403, code="AccessDenied", times=2)
    world.put("a")
    output = world.run_worker(EMPTY_POLLS_BEFORE_EXIT="7")
    assert 'message of key="a" is tried again in 1 s' in output
    assert 'message of key="a" is tried again in 4 s' in output
    assert world.is_equal()
    assert world.is_empty()


# Visibility


def test_a_copy_longer_than_the_visibility_timeout_is_not_delivered_a_second_time(world):
    world.standin.latency("UploadPartCopy", ms=1500)
    world.put("big", 6 * GIB)
    world.run_worker(VISIBILITY_TIMEOUT="5", MAX_CONCURRENT_PARTS="12")  # 8 rounds of 1.5 s
    assert world.is_equal()
    assert parts(world) == 96
    assert world.requests()["CreateMultipartUpload"] == 1


def test_at_the_12_hour_cap_the_message_is_handed_back_with_its_upload_and_finished(world, monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr(leases, "MAX_SQS_VISIBILITY", 14)
    world.build(max_visibility=14)
    world.standin.latency("UploadPartCopy", ms=1000)
    world.put("big", 6 * GIB)
    # 12 rounds of 1 s, handed back after 6 and visible again after 9
    settings = {"VISIBILITY_TIMEOUT": "6", "VISIBILITY_EXTEND_INTERVAL": "3", "MAX_CONCURRENT_PARTS": "8"}
    assert world.run(world.worker(**settings).run()) == 0
    assert world.is_equal()
    assert world.requests()["CreateMultipartUpload"] == 1
    assert parts(world) == 96
    assert "12 hours since the message was received" in caplog.text
    assert world.standin.messages(DEAD_LETTERS) == []


# SIGTERM


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_on_an_idle_worker_ends_it_with_status_0(world, number):
    process = world.start_worker(WAIT_TIME_SECONDS="2", EMPTY_POLLS_BEFORE_EXIT="100")
    wait_until(lambda: world.requests().get("ReceiveMessage", 0))
    output = world.stop_worker(process, number)
    assert process.returncode == 0
    assert "summary" in output


def test_sigterm_lets_a_short_copy_end(world):
    world.standin.latency("CopyObject", ms=1500)
    world.put("a")
    process = world.start_worker()
    wait_until(lambda: copies(world) == 1)
    output = world.stop_worker(process)
    assert process.returncode == 0
    assert world.is_equal()
    assert world.is_empty()
    assert "copied=1" in output


def test_sigterm_hands_back_what_was_not_begun_without_using_up_a_receive(world):
    world.standin.latency("CopyObject", ms=1500)
    for number in range(30):
        world.put(f"k{number}")
    process = world.start_worker(MAX_CONCURRENT_KEYS="5")
    wait_until(lambda: copies(world) == 5)
    world.stop_worker(process)
    left = receives(world)
    assert len(left) == 25
    assert set(left) == {0}
    world.run_worker()
    assert world.is_equal()
    assert world.is_empty()


def test_a_copy_that_outlives_the_worker_comes_back_only_after_it_must_have_ended(world):
    world.standin.latency("CopyObject", ms=2500)
    world.put("a")
    running = world.worker()
    running.bounds = running.bounds._replace(drain=1)

    async def is_stopped() -> None:
        working = asyncio.create_task(running.run())
        await until(lambda: copies(world) == 1)
        running.stop()
        await working

    world.run(is_stopped())
    assert world.standin.queue(QUEUE) == {"visible": 0, "in_flight": 0, "delayed": 1}
    assert receives(world) == [0]
    world.standin.delete(SOURCE, "a")
    world.run_worker(EMPTY_POLLS_BEFORE_EXIT="5")
    assert world.mirrored() == {}  # the late copy landed as a ghost, the delayed message removed it


def test_four_sigterms_during_a_120_gib_copy_keep_the_parts_and_use_up_no_receive(world):
    world.standin.latency("UploadPartCopy", ms=1000)
    world.put("big", 120 * GIB)  # 1920 parts, 8 rounds of 256
    finished = 0
    for _ in range(4):
        process = world.start_worker()
        wait_for_parts(world, parts(world) + 300)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=300)
        assert process.returncode == 0
        [upload] = world.standin.uploads(MIRROR)
        assert len(upload["parts"]) > finished
        finished = len(upload["parts"])
        assert receives(world) == [0]
    output = world.run_worker()
    assert f"resumed={finished}" in output
    assert parts(world) == 1920
    assert world.is_equal()
    assert world.is_empty()
    assert world.standin.uploads(MIRROR) == []


def test_an_upload_handed_on_is_aborted_when_the_source_has_moved_on(world):
    world.standin.latency("UploadPartCopy", ms=500)
    world.put("big", 60 * GIB)
    process = world.start_worker()
    wait_for_parts(world, 257)
    world.stop_worker(process)
    assert len(world.standin.uploads(MIRROR)) == 1
    world.put("big", 6 * GIB)
    world.run_worker()
    assert world.is_equal()
    assert world.standin.uploads(MIRROR) == []


def test_if_a_message_cannot_be_sent_back_it_becomes_visible_instead(world):
    world.standin.latency("UploadPartCopy", ms=500)
    world.standin.fault("SendMessage", "error", status=403, code="AccessDenied", times=0)
    world.put("big", 60 * GIB)
    process = world.start_worker()
    wait_for_parts(world, 257)
    output = world.stop_worker(process)
    assert "could not send a message back, making it visible" in output
    assert world.standin.queue(QUEUE)["visible"] == 1


def test_a_signal_ends_all_processes_of_a_worker_and_each_hands_back_its_own(world):
    world.standin.latency("CopyObject", ms=1500)
    for number in range(60):
        world.put(f"k{number}")
    process = world.start_worker(PROCESSES="2", MAX_CONCURRENT_KEYS="5")
    wait_until(lambda: copies(world) == 10)
    output = world.stop_worker(process)
    assert process.returncode == 0
    assert output.count("summary") == 1
    assert "summary copied=10 " in output
    assert set(receives(world)) == {0}
    assert len(receives(world)) == 50


def test_two_processes_share_the_queue_and_end_when_it_stays_empty(world):
    for number in range(100):
        world.put(f"k{number}")
    output = world.run_worker(PROCESSES="2")
    assert world.is_equal()
    assert world.is_empty()
    assert output.count("summary") == 1
    assert "summary copied=100 " in output


def test_a_process_that_cannot_go_on_gives_the_worker_its_status(world):
    process = world.start_worker(PROCESSES="2", QUEUE_URL=world.queue_url + "-not")
    process.communicate(timeout=300)
    assert process.returncode == 1


def test_a_message_that_is_postponed_is_sent_anew_with_that_delay_and_its_tries(world):
    world.put("a")
    held = world.worker(WAIT_TIME_SECONDS="5").leases

    async def is_postponed() -> None:
        [lease] = await held.receive(0)
        lease.content.tries = 3
        held.end_key([lease], KeySync("a"), Postponed("later", 2, is_exact=True))
        await held.settle(held.take_batch())
        assert world.standin.queue(QUEUE) == {"visible": 0, "in_flight": 0, "delayed": 1}
        [again] = await held.receive(5)
        assert (again.content.tries, again.received.receive_count) == (3, 1)

    world.run(is_postponed())


# A worker that dies


def test_after_a_kill_the_next_delivery_finishes_the_copy_and_aborts_the_orphaned_upload(world):
    world.standin.latency("UploadPartCopy", ms=500)
    world.put("dir/big", 60 * GIB)
    process = world.start_worker()
    wait_for_parts(world, 257)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    world.run_worker(EMPTY_POLLS_BEFORE_EXIT="12")
    assert world.is_equal()
    assert world.standin.uploads(MIRROR) == []
    assert world.is_empty()


def test_a_copy_whose_answer_is_lost_is_looked_at_again_after_it_must_have_ended(world):
    world.standin.fault("CopyObject", "lost")
    world.put("a")
    output = world.run_worker(EMPTY_POLLS_BEFORE_EXIT="6")
    assert world.is_equal()
    assert re.search(r'looking again in [123] s at key="a"', output)
    assert world.is_empty()


# S3 that is busy


def test_a_directory_bucket_that_answers_503_for_a_while_is_waited_for(world):
    world.standin.fault("CopyObject", "error", status=503, code="SlowDown", times=3)
    world.standin.fault("CreateSession", "error", status=503, code="SlowDown", times=3)
    world.put("a")
    output = world.run_worker()
    assert world.is_equal()
    assert "failed=0" in output
    assert re.search(r" busy=[1-9]\d* cpu=[0-9.]+$", output, re.MULTILINE)


# Start and end


# Many keys at a time


@pytest.mark.parametrize("client", ["crt", "boto3"])
def test_as_many_keys_are_copied_at_a_time_as_the_setting_says_and_no_more(world, client):
    world.standin.latency("CopyObject", ms=500)
    for number in range(40):
        world.put(f"k{number}")
    world.run_worker(S3_CLIENT=client, MAX_CONCURRENT_KEYS="15")
    assert world.standin.stats()["max_in_flight"]["CopyObject"] == 15
    assert world.is_equal()


@pytest.mark.parametrize("client", ["crt", "boto3"])
def test_small_objects_do_not_wait_for_large_ones(world, client):
    world.standin.latency("CopyObject", ms=10, ms_per_gib=6000)
    large, small = ([f"{kind}{number}" for number in range(12)] for kind in ("large", "small"))
    for key in large:
        world.put(key, GIB)
    for key in small:
        world.put(key)
    process = world.start_worker(S3_CLIENT=client, MAX_CONCURRENT_KEYS="4")
    wait_until(lambda: world.mirrored())
    wait_until(lambda: len(world.mirrored()) == len(small))
    assert sorted(world.mirrored()) == sorted(small)
    process.communicate(timeout=300)
    assert world.is_equal()


def test_a_worker_holds_no_more_long_copies_than_four_for_a_slot_and_one_receive(world):
    world.standin.latency("CopyObject", ms=1000)
    for number in range(40):
        world.put(f"large{number}", GIB)
    world.run_worker(MAX_CONCURRENT_KEYS="2")
    assert 2 < world.standin.stats()["max_in_flight"]["CopyObject"] < 4 * 2 + SQS_BATCH
    assert world.is_equal()


def test_a_key_that_has_to_wait_does_not_stop_the_others(world):
    world.standin.fault("HeadObject", "error", status=503, code="SlowDown", key="^busy", times=40)
    for number in range(10):
        world.put(f"busy{number}")
        world.put(f"k{number}")
    process = world.start_worker(MAX_CONCURRENT_KEYS="11", RETRY_BASE_SECONDS="10")
    wait_until(lambda: sum(key.startswith("k") for key in world.mirrored()) == 10)
    assert not any(key.startswith("busy") for key in world.mirrored())
    process.communicate(timeout=300)
    assert world.is_equal()


def test_the_worker_exits_after_the_queue_stayed_empty(world):
    output = world.run_worker(EMPTY_POLLS_BEFORE_EXIT="3")
    assert world.requests()["ReceiveMessage"] == 3
    assert "summary copied=0" in output


async def leave_at_once(running: Worker) -> None:
    """What a worker does after its last receive, without waiting for calls that do not end."""
    running.bounds = running.bounds._replace(drain=0)
    running.stopping.set()
    settler = asyncio.create_task(running.leases.settle_for_ever())
    await running.drain()
    settler.cancel()


def test_a_worker_that_cannot_receive_any_more_begins_no_copy_after_it_handed_the_message_back(world):
    world.standin.fault("CopyObject", "hang", seconds=20, times=0)
    for number in range(6):
        world.put(f"k{number}")
    running = world.worker(MAX_CONCURRENT_KEYS="2")

    async def leaves() -> None:
        await running.step(0)
        await until(lambda: copies(world) == 2)
        world.standin.latency("HeadObject", ms=200)
        await leave_at_once(running)
        assert world.standin.queue(QUEUE) == {"visible": 4, "in_flight": 0, "delayed": 2}
        await asyncio.sleep(0.5)

    world.run(leaves())
    assert copies(world) == 2


def test_a_message_that_came_while_its_key_was_copied_comes_back_after_that_copy(world):
    world.standin.fault("CopyObject", "hang", seconds=20, times=0)
    running = world.worker()
    world.put("a")

    async def leaves() -> None:
        await running.step(0)
        await until(lambda: copies(world) == 1)
        world.put("a")
        await running.step(0)
        await leave_at_once(running)

    world.run(leaves())
    assert world.standin.queue(QUEUE) == {"visible": 0, "in_flight": 0, "delayed": 2}


def test_the_heartbeat_leaves_a_message_alone_that_has_failed_meanwhile(world):
    world.put("a")
    held = world.worker().leases

    async def is_late() -> None:
        [lease] = await held.receive(0)
        held.end_key([lease], KeySync("a"), ValueError())
        await held.set_visibility([lease])

    world.run(is_late())
    assert "ChangeMessageVisibilityBatch" not in world.requests()


def test_lists_that_the_queue_answers_as_null_are_empty(world, monkeypatch):
    queue = world.worker().leases.queue

    async def receive_message(**_):
        return {"Messages": None}

    async def delete_message_batch(**_):
        return {"Failed": None}

    answers = SimpleNamespace(receive_message=receive_message, delete_message_batch=delete_message_batch)
    monkeypatch.setattr(queue, "sqs", answers)
    assert world.run(queue.receive(0, 1)) == []
    world.run(queue.delete(["handle"]))


def test_a_wrong_setting_ends_the_worker_with_status_2_and_one_line(world):
    process = world.start_worker(PART_SIZE="1", DST_BUCKET="ordinary")
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 2
    [line] = output.splitlines()
    assert "PART_SIZE='1'" in line
    assert "DST_BUCKET='ordinary'" in line


def test_a_queue_that_does_not_exist_ends_the_worker_with_status_1_and_no_traceback(world):
    process = world.start_worker(QUEUE_URL=world.queue_url + "-not")
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "cannot receive from" in output
    assert "NonExistentQueue" in output or "QueueDoesNotExist" in output
    assert "Traceback" not in output


def test_a_mistake_in_the_code_shows_its_traceback_and_does_not_lose_the_message(world, monkeypatch, caplog):
    monkeypatch.setattr(sync.Syncer, "make_equal", lambda *_: 1 / 0)
    world.put("a")
    assert world.run(world.worker(EMPTY_POLLS_BEFORE_EXIT="6").run()) == 0
    assert "ZeroDivisionError" in caplog.text
    assert "Traceback" in caplog.text
    assert len(world.standin.messages(DEAD_LETTERS)) == 1


def test_a_mistake_in_a_side_task_ends_the_worker_with_status_1_instead_of_leaving_it_half_alive(
    world, monkeypatch, caplog
):
    monkeypatch.setattr(leases.Leases, "extend_due", lambda _: 1 / 0)
    settings = load_settings(world.environment(EMPTY_POLLS_BEFORE_EXIT="100"))
    assert cli.run(settings, None, Signals()) == (1, None)
    assert "ZeroDivisionError" in caplog.text
