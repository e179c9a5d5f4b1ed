"""What only real processes show: signals, forks, threads that wait, exit statuses, and a log that nobody reads."""

import dataclasses
import os
import signal
import subprocess
from pathlib import Path

import pytest
from world import QUEUE, wait_until

from mirror import cli
from mirror.processes import Signals
from mirror.settings import load_settings

IN_TIME = 60  # seconds, on a busy machine
BUSY = {"MAX_CONCURRENT_KEYS": "10", "COPY_TIMEOUT": "20", "VISIBILITY_TIMEOUT": "60"}
# A worker whose end is short, put together as cli.py does it.
SHORT = """
import asyncio, os
from concurrent.futures import ThreadPoolExecutor
from mirror.cli import CLIENTS
from mirror.log_writer import configure_logging, writer
from mirror.loop import Bounds
from mirror.processes import Signals, leave
from mirror.settings import load_settings
from mirror.loop import make_parts, make_worker
async def work():
    settings = load_settings(dict(os.environ))
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(settings.calls_at_once))
    bounds = Bounds(receive=1, drain=1, cancel=1, hand_back=1, show=1)
    worker = make_worker(make_parts(settings, CLIENTS[settings.s3_client](settings)), bounds)
    signals.stop_with(worker.stop)
    return await worker.run()
signals = Signals()
signals.catch()
configure_logging("INFO", 1)
writer.start()
leave(asyncio.new_event_loop().run_until_complete(work()))
"""
STANDS_STILL = """
import os
from mirror.processes import Signals
Signals(last_seconds=1).catch()
os.kill(os.getpid(), 15)
os.write(1, b"nobody takes this")
"""


def in_flight(world, operation):
    return world.standin.stats()["in_flight"].get(operation, 0)


def receives(world):
    return [message["receives"] for message in world.standin.messages(QUEUE)]


@pytest.fixture
def full_pipe():
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


def ended(process, status):
    """What it said, if it ends in time with that status."""
    output, errors = process.communicate(timeout=IN_TIME)
    assert process.returncode == status, output
    return output or errors


# --- One process ------------------------------------------------------------------------------------------------------


def test_a_signal_on_an_idle_worker_ends_it_with_status_0(world):
    process = world.start_worker(EMPTY_POLLS_BEFORE_EXIT="1000")
    wait_until(lambda: world.requests().get("ReceiveMessage"))
    assert "summary copied=0" in world.stop_worker(process, signal.SIGINT)
    assert process.returncode == 0


def test_a_signal_before_there_is_an_event_loop_ends_the_worker_before_it_receives(world):
    world.put("a")
    status, counts = cli.run(load_settings(world.environment()), None, Signals(came=True))
    assert (status, counts["copied"]) == (0, 0)
    assert "ReceiveMessage" not in world.requests()


def test_a_mistake_in_the_code_ends_the_worker_with_status_1_and_its_traceback(world, caplog):
    settings = dataclasses.replace(load_settings(world.environment()), s3_client="none")
    assert cli.run(settings, None, Signals()) == (1, None)
    assert "the worker ends because of a mistake in it" in caplog.text
    assert "Traceback" in caplog.text


def test_with_boto3_as_many_keys_are_copied_at_a_time(world):
    for number in range(60):
        world.put(f"k{number}")
    world.standin.hold("CopyObject")
    process = world.start_worker(S3_CLIENT="boto3", **BUSY | {"MAX_CONCURRENT_KEYS": "40"})
    wait_until(lambda: in_flight(world, "CopyObject") == 40, IN_TIME)
    world.standin.release("CopyObject")
    ended(process, 0)
    assert world.is_equal()


# --- Several ----------------------------------------------------------------------------------------------------------


def children(process):
    return [int(child) for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def test_a_queue_that_does_not_exist_ends_the_worker_with_status_1_and_no_traceback(world):
    output = world.run_worker(status=1, PROCESSES="2", QUEUE_URL=world.queue_url + "-not")
    assert "cannot receive from" in output
    assert "Traceback" not in output


def test_two_processes_share_the_queue_and_a_signal_ends_both_and_each_hands_back_its_own(world):
    for number in range(60):
        world.put(f"k{number}")
    world.standin.latency("CopyObject", ms=3000)
    process = world.start_worker(PROCESSES="2", **BUSY | {"MAX_CONCURRENT_KEYS": "5"})
    wait_until(lambda: in_flight(world, "CopyObject") == 10, IN_TIME)
    process.send_signal(signal.SIGTERM)
    output = ended(process, 0)
    assert (output.count(" version="), output.count("summary")) == (1, 1)  # a child writes its own lines only
    assert "summary copied=10 " in output
    assert receives(world) == [0] * 50
    world.standin.latency("CopyObject")
    assert "summary copied=50 " in world.run_worker(PROCESSES="2")
    assert world.is_equal()
    assert world.is_empty()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGKILL, 1)])
def test_if_one_of_two_processes_is_stopped_or_killed_the_other_ends_too(world, number, status):
    """Although its receive does not end; it hands back what it holds."""
    for key in range(60):
        world.put(f"k{key}")
    world.standin.latency("CopyObject", ms=3000)
    process = world.start_worker(PROCESSES="2", **BUSY)
    wait_until(lambda: in_flight(world, "CopyObject") == 20, IN_TIME)
    world.standin.fault("ReceiveMessage", "hang", times=0)
    os.kill(children(process)[0], number)
    output = ended(process, status)
    how = "was stopped" if status == 0 else "was killed by SIGKILL"
    assert f"of this worker {how}, the others end, too" in output
    assert output.count("summary") == 1
    assert receives(world).count(0) >= 10
    assert receives(world).count(1) >= 10 * status


# --- Nobody reads the log ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("client", ["crt", "boto3"])
def test_it_ends_in_time_if_nothing_answers_and_nobody_reads_its_log(world, full_pipe, client):
    for number in range(40):
        world.put(f"k{number}")
    world.standin.fault("CopyObject", "hang", times=0)
    process = world.start(SHORT, output=full_pipe, errors=subprocess.PIPE, S3_CLIENT=client, **BUSY)
    wait_until(lambda: in_flight(world, "CopyObject") == 10, IN_TIME)
    world.standin.fault("SQS", "hang", times=0)
    process.send_signal(signal.SIGTERM)
    ended(process, 0)


def test_a_process_that_stands_still_is_ended_with_a_last_word(world, full_pipe):
    process = world.start(STANDS_STILL, output=full_pipe, errors=subprocess.PIPE)
    assert "did not end in time" in ended(process, 1)
