"""The end in time: whatever hangs, a worker is gone soon after SIGTERM, and what it could not hand back is visible."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from forks import Forked
from world import DEAD_LETTERS, QUEUE, ROOT, World, until, wait_until

from mirror import loop
from mirror.loop import Worker
from mirror.protocol.attempt import KeySync
from mirror.queue import leases
from mirror.queue.leases import Lease, State

GIB = 1024**3

# The bounds of the end in a tenth or so of their length; {before} is for what a test has done to the worker.
SHORT = """
import functools, os, signal, sys, time
import worker
from mirror.queue import leases
from mirror.readers import reconcile
from mirror import cli, signals
from mirror.loop import Bounds
bounds = Bounds(receive=1, drain=4, cancel=1, hand_back=3, show=1)
cli.make_worker = functools.partial(cli.make_worker, bounds=bounds)
leases.SETTLE_AT_MOST, reconcile.STOP_SECONDS, signals.LAST_SECONDS = 2, 1, 100
{before}
worker.leave(worker.main())
"""
IN_TIME = 45  # seconds, with the bounds above, on a busy machine; an unbounded receive alone takes 50
WHAT_SQS_DOES = (
    "ReceiveMessage",
    "SendMessage",
    "DeleteMessageBatch",
    "ChangeMessageVisibilityBatch",
)


def start(
    world: World, *arguments: str, before: str = "", stdout: int | None = None, **settings: str
) -> subprocess.Popen[str] | Forked:
    """Errors have an output of their own if standard output is given."""
    code = SHORT.format(before=before)
    if stdout is None:
        return world.start(code, *arguments, **settings)
    environment = world.environment(**settings) | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, *arguments]
    process = subprocess.Popen(command, env=environment, stdout=stdout, stderr=subprocess.PIPE, text=True)
    world.processes.append(process)
    return process


def stop(process: subprocess.Popen[str] | Forked) -> str:
    """What it says, if it is gone in time."""
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=IN_TIME)
    return output


def hang(world: World, *operations: str) -> None:
    for operation in operations:
        world.standin.fault(operation, "hang", times=0)


def asked(world: World, operation: str, times: int = 1) -> Callable[[], bool]:
    return lambda: world.requests().get(operation, 0) >= times


def receive_counts(world: World) -> list[int]:
    return [message["receive_count"] for message in world.standin.messages(QUEUE)]


@pytest.fixture
def full_pipe() -> Iterator[int]:
    """A pipe that takes nothing more, and that nobody reads."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(writing, True)
    yield writing
    os.close(reading)
    os.close(writing)


# SQS does not answer


@pytest.mark.parametrize("client", ["crt", "boto3"])
def test_a_receive_that_hangs_does_not_keep_a_stopping_worker(world, client):
    hang(world, "ReceiveMessage")
    process = start(world, S3_CLIENT=client)
    wait_until(asked(world, "ReceiveMessage"))
    output = stop(process)
    assert process.returncode == 0
    assert "a receive does not end" in output


def test_what_cannot_be_sent_anew_in_time_is_visible_after_the_end(world):
    hang(world, "SendMessage")
    world.standin.latency("UploadPartCopy", ms=500)
    for number in range(12):
        world.put(f"big{number}", 60 * GIB)
    process = start(world)
    wait_until(asked(world, "UploadPartCopy", 250))
    stop(process)
    assert process.returncode == 0
    assert world.standin.queue(QUEUE) == {"visible": 12, "in_flight": 0, "delayed": 0}


def test_what_cannot_be_deleted_in_time_is_visible_after_the_end(world):
    hang(world, "DeleteMessageBatch")
    for number in range(30):
        world.put(f"k{number}")
    process = start(world, VISIBILITY_TIMEOUT="60", VISIBILITY_EXTEND_INTERVAL="30")
    wait_until(asked(world, "DeleteMessageBatch"))
    stop(process)
    assert process.returncode == 0
    assert world.standin.queue(QUEUE)["visible"] == 30
    assert world.is_equal()


def test_a_worker_ends_in_time_if_nothing_answers_and_nobody_reads_its_log(world, full_pipe):
    hang(world, "CopyObject")
    for number in range(40):
        world.put(f"k{number}")
    process = start(world, stdout=full_pipe)
    wait_until(asked(world, "CopyObject", 40))
    hang(world, *WHAT_SQS_DOES)
    stop(process)
    assert process.returncode == 0


# S3 does not answer


def test_a_silent_copy_is_handed_back_in_time(world):
    hang(world, "CopyObject")
    world.put("a")
    process = start(world, VISIBILITY_TIMEOUT="60", COPY_TIMEOUT="20")
    wait_until(asked(world, "CopyObject"))
    stop(process)
    assert process.returncode == 0
    assert world.standin.queue(QUEUE) == {"visible": 0, "in_flight": 0, "delayed": 1}
    assert receive_counts(world) == [0]


@pytest.mark.parametrize("operation", ["ListObjectsV2", "SendMessageBatch"])
def test_reconcile_ends_soon_after_sigterm_although_a_call_hangs(world, operation):
    world.standin.put_many("source", [f"k{number}" for number in range(100)])
    hang(world, operation)
    process = start(world, "reconcile")
    wait_until(asked(world, operation))
    output = stop(process)
    assert process.returncode == 3
    assert "reconcile stopped, it is safe to run it again: SIGTERM" in output
    assert "reconciled end=stopped status=3" in output.splitlines()[-1]


# Nobody reads the log


def test_a_log_that_nobody_reads_stops_no_copy(world, full_pipe):
    for number in range(100):
        world.put(f"k{number}")
    process = start(world, stdout=full_pipe)
    process.communicate(timeout=300)
    assert process.returncode == 0
    assert world.is_equal()
    assert world.is_empty()


def test_a_process_that_stands_still_is_ended_with_a_last_word(world, full_pipe, tmp_path):
    standing = tmp_path / "standing"
    before = f"""
def stand_still(*_):
    open({str(standing)!r}, "w").close()
    os.write(1, b"nobody takes this")
signals.LAST_SECONDS, cli.make_parts = 1, stand_still
"""
    process = start(world, before=before, stdout=full_pipe)
    wait_until(standing.exists)
    process.send_signal(signal.SIGTERM)
    _, words = process.communicate(timeout=IN_TIME)
    assert process.returncode == 1
    assert "did not end in time" in words


# When the signal comes, and to whom


def test_a_signal_before_there_is_an_event_loop_ends_the_worker_before_it_receives(world):
    before = (
        "load = worker.load_settings\n"
        "worker.load_settings = lambda *given, **more: os.kill(os.getpid(), signal.SIGTERM) or load(*given, **more)\n"
    )
    world.put("a")
    process = start(world, before=before)
    output, _ = process.communicate(timeout=IN_TIME)
    assert process.returncode == 0
    assert "summary copied=0" in output
    assert "ReceiveMessage" not in world.requests()


def test_a_second_signal_changes_nothing(world):
    world.standin.latency("CopyObject", ms=1500)
    world.put("a")
    process = start(world)
    wait_until(asked(world, "CopyObject"))
    process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    output = stop(process)
    assert process.returncode == 0
    assert output.count("SIGTERM received") == 1
    assert world.is_empty()


def test_two_processes_end_in_time_although_their_receives_hang(world):
    hang(world, "ReceiveMessage")
    process = start(world, PROCESSES="2")
    wait_until(asked(world, "ReceiveMessage", 2))
    output = stop(process)
    assert process.returncode == 0
    assert output.count("a receive does not end") == 2
    assert output.count("summary") == 1


def children(process: Forked) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def test_a_signal_to_one_of_two_processes_ends_both(world):
    process = start(world, PROCESSES="2", EMPTY_POLLS_BEFORE_EXIT="1000")
    wait_until(asked(world, "ReceiveMessage", 2))
    child = children(process)[0]
    os.kill(child, signal.SIGTERM)
    output, _ = process.communicate(timeout=IN_TIME)
    assert process.returncode == 0
    assert f"process {child} of this worker was stopped, the others end, too" in output


def test_if_one_of_two_processes_is_killed_the_other_hands_back_and_the_worker_fails(world):
    hang(world, "CopyObject")
    for number in range(40):
        world.put(f"k{number}")
    process = start(world, PROCESSES="2", MAX_CONCURRENT_KEYS="10", COPY_TIMEOUT="20", VISIBILITY_TIMEOUT="60")
    wait_until(lambda: world.standin.stats()["in_flight"].get("CopyObject") == 20)
    child = children(process)[0]
    os.kill(child, signal.SIGKILL)
    output, _ = process.communicate(timeout=IN_TIME)
    assert process.returncode == 1
    assert f"process {child} of this worker was killed by SIGKILL" in output
    assert receive_counts(world).count(0) >= 10


# Visibility


async def received(running: Worker) -> list:
    return await running.leases.receive(1)


async def fail(running: Worker, lease: Lease) -> None:
    """Its only key fails."""
    running.leases.end_key([lease], KeySync("a"), ValueError())
    await running.leases.settle(running.leases.take_batch())


def test_a_message_is_received_with_the_shortest_visibility_that_is_safe(world):
    world.standin.record()
    world.put("a")
    world.run(received(world.worker(VISIBILITY_TIMEOUT="60")))
    [request] = world.standin.requests("ReceiveMessage")
    assert '"VisibilityTimeout": 4,' in request["body"]  # VISIBILITY_EXTEND_INTERVAL + COPY_TIMEOUT


def test_a_pause_that_sqs_did_not_take_is_told_once_more_by_the_heartbeat(world):
    world.put("a")
    running = world.worker(VISIBILITY_TIMEOUT="60", VISIBILITY_EXTEND_INTERVAL="30")
    world.standin.fault("ChangeMessageVisibilityBatch", "error", status=403, code="AccessDenied", times=2)

    async def is_repeated() -> None:
        [lease] = await received(running)
        await fail(running, lease)
        await running.extend()
        assert running.leases.held == {lease}
        assert lease.state is State.NACK
        await running.extend()
        assert lease.state is State.VISIBLE
        assert running.leases.held == set()

    world.run(is_repeated())
    wait_until(lambda: world.standin.queue(QUEUE)["visible"] == 1, 5)


def test_an_extension_that_sqs_did_not_take_is_due_at_the_next_beat(world):
    world.put("a")
    running = world.worker(VISIBILITY_TIMEOUT="100", VISIBILITY_EXTEND_INTERVAL="30")
    world.standin.fault("ChangeMessageVisibilityBatch", "error", status=403, code="AccessDenied", times=1)

    async def is_due() -> None:
        [lease] = await received(running)
        lease.due_at = 0.0
        for _ in range(3):
            await running.extend()
        assert world.requests()["ChangeMessageVisibilityBatch"] == 2
        assert lease.visible_at > running.leases.now() + 90

    world.run(is_due())


def test_an_extension_that_ends_late_does_not_hide_a_message_that_failed_meanwhile(world):
    world.put("a")
    running = world.worker(VISIBILITY_TIMEOUT="100", VISIBILITY_EXTEND_INTERVAL="30", RETRY_BASE_SECONDS="3")
    world.standin.fault("ChangeMessageVisibilityBatch", "delay", seconds=1, times=1)

    async def fails_meanwhile() -> None:
        [lease] = await received(running)
        lease.due_at = 0.0
        late = asyncio.create_task(running.extend())
        await until(asked(world, "ChangeMessageVisibilityBatch"))
        await fail(running, lease)
        assert lease.state is State.VISIBLE
        await late
        assert lease.state is State.NACK
        await running.extend()
        assert running.leases.held == set()

    world.run(fails_meanwhile())
    wait_until(lambda: world.standin.queue(QUEUE)["visible"] == 1, 8)


def test_a_message_that_sqs_did_not_delete_is_deleted_later_and_uses_up_no_receive(world, monkeypatch):
    monkeypatch.setattr(leases, "DELETE_AGAIN_SECONDS", 1)
    world.standin.fault("DeleteMessageBatch", "error", status=403, code="AccessDenied", times=4)
    world.put("a")
    assert world.run(world.worker(VISIBILITY_TIMEOUT="60", COPY_TIMEOUT="30").run()) == 0
    assert world.is_empty()
    assert world.requests()["CopyObject"] == 1
    assert world.requests()["HeadObject"] <= 4


def test_a_session_that_is_not_renewed_keeps_no_message_from_being_extended(world, monkeypatch):
    world.standin.latency("CopyObject", ms=6000)
    world.put("a")
    running = world.worker(COPY_TIMEOUT="9", VISIBILITY_TIMEOUT="10")
    monkeypatch.setattr(running.buckets.s3, "renew_session", lambda: asyncio.sleep(3600))
    assert world.run(running.run()) == 0
    assert world.requests()["CopyObject"] == 1
    assert world.requests()["ChangeMessageVisibilityBatch"] >= 3


# The queue lends no more


def test_a_queue_that_has_lent_all_it_may_is_waited_for(world, monkeypatch, caplog):
    monkeypatch.setattr(loop, "OVER_LIMIT_SECONDS", 0.05)
    world.standin.fault("ReceiveMessage", "error", status=403, code="OverLimit", times=30)  # two for each receive
    world.put("a")
    assert world.run(world.worker().run()) == 0
    assert world.is_equal()
    assert caplog.text.count("120,000 messages are in flight") == 1
    assert "cannot receive" not in caplog.text
    assert world.standin.messages(DEAD_LETTERS) == []


# Mistakes


def test_a_mistake_in_a_side_task_is_noticed_during_the_end_too(world, monkeypatch):
    hang(world, "CopyObject")
    world.put("a")
    running = world.worker(COPY_TIMEOUT="20", VISIBILITY_TIMEOUT="60")

    async def ends() -> None:
        working = asyncio.create_task(running.run())
        await until(asked(world, "CopyObject"))
        running.stop()
        await asyncio.sleep(2.5)  # the last receive has ended
        monkeypatch.setattr(running.leases, "used_up", lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            await asyncio.wait_for(working, 10)

    world.run(ends())
