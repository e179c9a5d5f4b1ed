"""The worker inside the starter's function: the same rules in less than a minute, and nothing left to be frozen."""

import json
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import CredentialRetrievalError
from world import DEAD_LETTERS, MIRROR, QUEUE, SOURCE, World, wait_until

import worker
from mirror.aws import keys
from mirror.function import OF_FUNCTION, QUIET_SECONDS, settings_from
from mirror.queue.bodies import hint_body

ROOT = Path(worker.__file__).parent
MIB = 1024**2
GIB = 1024**3
# Seconds beside the given ones in which an invocation is over; the machine has other things to do, too.
IN_TIME = sum(OF_FUNCTION[:5]) + QUIET_SECONDS + 1
SLOW_TO_RETURN = {"RETRY_BASE_SECONDS": "30", "COPY_TIMEOUT": "60", "VISIBILITY_TIMEOUT": "120"}

# One process of the function: each line of its input is an invocation. {before} is for what a test does to it.
FUNCTION = """
import json, os, sys, time
{before}
from mirror import function as first_responder
for line in sys.stdin:
    began = time.monotonic()
    report = first_responder.respond(os.environ, float(line))
    print("REPORT " + json.dumps(report | dict(seconds=time.monotonic() - began)), flush=True)
    first_responder.end_process_if_unanswered()
"""


class Function:
    """A process as Lambda keeps one from invocation to invocation."""

    def __init__(self, world: World, before: str = "", **settings: str) -> None:
        self.output = ""
        self.process = subprocess.Popen(
            [sys.executable, "-c", FUNCTION.format(before=before)],
            env=world.environment(**settings) | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        world.processes.append(self.process)

    def begin(self, seconds: float) -> None:
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()

    def report(self) -> dict[str, Any]:
        for line in self.process.stdout:
            self.output += line
            if line.startswith("REPORT "):
                return json.loads(line.removeprefix("REPORT "))
        raise AssertionError(self.output)

    def invoke(self, seconds: float) -> dict[str, Any]:
        self.begin(seconds)
        report = self.report()
        assert report["seconds"] < seconds + IN_TIME
        return report

    def status(self) -> int:
        """Exit status, 0 unless the process has ended itself."""
        self.process.stdin.close()
        self.process.stdin = None  # as communicate() of the world, which cleans up, would flush it
        self.output += self.process.stdout.read()
        return self.process.wait(20)


def hang(world: World, *operations: str) -> None:
    for operation in operations:
        world.standin.fault(operation, "hang", times=0)


def receive_counts(world: World) -> list[int]:
    return [message["receive_count"] for message in world.standin.messages(QUEUE)]


def counts(report: dict[str, Any]) -> dict[str, int]:
    return {name: number for name, number in report.items() if number and name not in ("seconds", "emptied")}


# What it does


def test_what_is_small_is_copied_and_deleted_at_once_and_what_is_large_is_handed_back(world):
    world.standin.put(MIRROR, "gone")
    world.put("gone")
    world.standin.delete(SOURCE, "gone")
    world.put("small", 1000)
    world.put("just small enough", 64 * MIB)
    world.put("large", 64 * MIB + 1)
    function = Function(world, **SLOW_TO_RETURN)
    report = function.invoke(20)
    assert counts(report) == {"copied": 2, "deleted": 1, "bytes": 64 * MIB + 1000, "handed_back": 1}
    assert set(world.mirrored()) == {"small", "just small enough"}
    assert world.standin.queue(QUEUE) == {"visible": 0, "in_flight": 0, "delayed": 1}
    assert receive_counts(world) == [0]
    assert function.status() == 0


def test_its_lines_are_those_of_a_worker(world):
    world.put("a", 1000)
    function = Function(world)
    function.invoke(20)
    line = function.output.splitlines()[0]
    assert re.fullmatch(
        r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO synced key="a" action=copied size=1000 seconds=[\d.]+ lag=[\d.]+',
        line,
    )


def test_it_ends_a_second_after_its_last_copy(world):
    world.standin.shorten_empty_polls(None)
    world.put("a")
    function = Function(world, WAIT_TIME_SECONDS="20", EMPTY_POLLS_BEFORE_EXIT="1000")
    function.invoke(20)
    world.put("b")
    assert function.invoke(20)["seconds"] < 2
    assert world.is_equal()
    assert world.is_empty()


def test_it_copies_nothing_in_parts(world):
    world.put("parts", 20 * MIB)
    function = Function(world, MULTIPART_THRESHOLD=str(16 * MIB), **SLOW_TO_RETURN)
    assert counts(function.invoke(20)) == {"handed_back": 1}
    assert "CreateMultipartUpload" not in world.requests()


def test_it_ends_before_what_it_handed_back_comes_back_although_small_ones_go_on_coming(world):
    for number in range(40):
        world.put(f"large{number}", GIB)
    function = Function(world, **SLOW_TO_RETURN)
    function.begin(20)
    for number in range(60):
        world.put(f"small{number}")
        time.sleep(0.1)
    report = function.report()
    assert (report["handed_back"], report["seconds"] < 10) == (40, True)
    assert report["copied"] > 5
    wait_until(lambda: world.standin.queue(QUEUE)["delayed"] == 0, 10)
    assert set(receive_counts(world)) == {0}


def test_a_large_object_that_is_there_already_is_done(world):
    world.put("large", GIB)
    world.run_worker()
    world.standin.send(QUEUE, hint_body(SOURCE, ["large"]))
    assert counts(Function(world, **SLOW_TO_RETURN).invoke(20)) == {"skipped": 1}
    assert world.is_empty()


def test_a_worker_goes_on_with_an_upload_that_the_function_handed_back_untouched(world):
    world.standin.latency("UploadPartCopy", ms=300)
    world.put("large", 60 * GIB)
    settings = {"MAX_CONCURRENT_PARTS": "16"}
    process = world.start_worker(**settings)
    wait_until(lambda: world.requests().get("UploadPartCopy", 0) >= 100)
    world.stop_worker(process)
    assert counts(Function(world, RETRY_BASE_SECONDS="4").invoke(3))["handed_back"] >= 1
    assert len(world.standin.uploads(MIRROR)) == 1
    world.standin.latency("UploadPartCopy")
    assert "resumed=0" not in world.run_worker(EMPTY_POLLS_BEFORE_EXIT="80", **settings)
    assert world.requests()["CreateMultipartUpload"] == 1
    assert world.is_equal()


def test_what_fails_and_what_cannot_be_read_uses_up_its_receives_as_with_a_worker(world):
    world.standin.fault("HeadObject", "error", status=400, code="400", key="^bad$", times=0)
    world.put("bad")
    world.standin.send(QUEUE, "no event")
    output = ""
    for _ in range(40):
        function = Function(world, RETRY_BASE_SECONDS="1")
        function.invoke(20)
        output += function.output
        if len(world.standin.messages(DEAD_LETTERS)) == 2:
            break
    assert world.is_empty()
    assert 'ERROR failed key="bad" attempt=1/3' in output
    assert 'ERROR failed key="bad" attempt=3/3' in output
    assert output.count("ERROR cannot read message") == 3


def test_a_message_of_many_keys_that_lasts_too_long_is_handed_back_whole(world):
    world.standin.latency("CopyObject", ms=200)
    world.standin.put_many(SOURCE, [f"k{number}" for number in range(1000)])
    world.queue_url = world.standin.create_queue(QUEUE, max_receive_count=3, dead_letter_queue=DEAD_LETTERS)
    world.standin.send(QUEUE, hint_body(SOURCE, [f"k{number}" for number in range(1000)], are_missing=True))
    report = Function(world).invoke(2)
    assert 50 < report["copied"] < 500
    assert report["handed_back"] == 1
    assert receive_counts(world) == [0]
    world.standin.latency("CopyObject")
    world.run_worker()
    assert world.is_equal()


# At the deadline


def test_what_is_under_way_at_the_deadline_ends_and_the_rest_is_handed_back(world):
    world.standin.latency("CopyObject", ms=1500)
    for number in range(40):
        world.put(f"k{number}")
    function = Function(world)
    report = function.invoke(1)
    assert (report["copied"], report["handed_back"] > 0) == (16, True)
    assert receive_counts(world) == [0] * 24
    assert "the function's time is over: handing back what is not finished" in function.output
    assert function.status() == 0


def test_a_silent_copy_comes_back_only_after_it_must_have_ended_and_ends_the_process(world):
    hang(world, "CopyObject")
    world.put("a")
    function = Function(world, **SLOW_TO_RETURN)
    report = function.invoke(1)
    assert counts(report) == {"handed_back": 1, "unanswered": 1}
    [message] = world.standin.messages(QUEUE)
    assert message["receive_count"] == 0
    assert world.standin.queue(QUEUE) == {"visible": 0, "in_flight": 0, "delayed": 1}
    assert function.status() == 1
    assert function.output.endswith("ERROR 1 calls got no answer, ending the process\n")


def test_a_receive_that_hangs_keeps_nobody(world):
    hang(world, "ReceiveMessage")
    function = Function(world)
    assert counts(function.invoke(1)) == {"unanswered": 1}
    assert "a receive does not end" in function.output
    assert function.status() == 1


@pytest.mark.parametrize("operation", ["HeadObject", "ListObjectsV2", "CreateSession"])
def test_a_look_that_hangs_keeps_nobody_and_uses_up_no_receive(world, operation):
    hang(world, operation)
    for number in range(30):
        world.put(f"k{number}")
    function = Function(world, **SLOW_TO_RETURN)
    report = function.invoke(1)
    assert report["unanswered"] >= 1
    assert receive_counts(world) == [0] * 30
    assert world.standin.queue(QUEUE)["visible"] == 30
    assert function.status() == 1


def test_what_cannot_be_deleted_is_visible_and_done(world):
    hang(world, "DeleteMessageBatch")
    for number in range(30):
        world.put(f"k{number}")
    function = Function(world, **SLOW_TO_RETURN)
    report = function.invoke(2)
    assert (report["copied"], report["unanswered"] > 0) == (30, True)
    assert world.standin.queue(QUEUE)["visible"] == 30
    assert world.is_equal()
    assert function.status() == 1


def test_what_cannot_be_sent_anew_is_visible(world):
    hang(world, "SendMessage")
    world.standin.latency("CopyObject", ms=500)
    for number in range(300):
        world.put(f"k{number}")
    function = Function(world, **SLOW_TO_RETURN)
    report = function.invoke(2)
    assert report["unanswered"] > 0
    assert report["handed_back"] == 0
    assert 300 >= world.standin.queue(QUEUE)["visible"] >= 300 - report["copied"]
    assert world.standin.queue(QUEUE)["in_flight"] == 0


def test_if_nothing_answers_any_more_it_is_over_in_time(world):
    hang(world, "CopyObject", "SendMessage", "DeleteMessageBatch", "ChangeMessageVisibilityBatch")
    for number in range(40):
        world.put(f"k{number}")
    function = Function(world, **SLOW_TO_RETURN)
    assert function.invoke(2)["unanswered"] > 16
    assert function.status() == 1


def test_an_outage_uses_up_no_receive_and_is_over_in_time(world):
    world.standin.fault("CreateSession", "error", status=403, code="AccessDenied", times=0)
    for number in range(12):
        world.put(f"k{number}")
    function = Function(world, **SLOW_TO_RETURN)
    report = function.invoke(3)
    assert report["handed_back"] >= 12  # a receive under way at the deadline may bring some once more
    assert receive_counts(world) == [0] * 12
    assert function.status() == 0


# From one invocation to the next


def test_the_next_invocation_goes_on_with_the_clients_of_the_last(world):
    function = Function(world)
    for number in range(3):
        world.put(f"k{number}")
        assert counts(function.invoke(20)) == {"copied": 1, "bytes": 1024}
    assert world.requests()["CreateSession"] == 1
    assert world.requests()["ListObjectsV2"] == 1
    assert function.status() == 0


def test_after_an_invocation_that_was_cut_short_the_next_one_works(world):
    world.standin.latency("CopyObject", ms=1500)
    for number in range(60):
        world.put(f"k{number}")
    function = Function(world, RETRY_BASE_SECONDS="30")
    assert function.invoke(0.5)["handed_back"] > 0
    world.standin.latency("CopyObject")
    function.invoke(20)
    assert world.is_equal()
    assert world.is_empty()
    assert function.status() == 0


NOTHING_RUNS = """
import threading
from mirror import function as first_responder
ended = first_responder.work
async def work(process, deadline):
    found = await ended(process, deadline)
    assert len(first_responder.asyncio.all_tasks()) == 1, first_responder.asyncio.all_tasks()
    return found
first_responder.work = work
respond = first_responder.respond
def respond_and_look(*arguments):
    report = respond(*arguments)
    assert len(threading.enumerate()) == 1 + report["unanswered"], threading.enumerate()
    return report
first_responder.respond = respond_and_look
"""


def test_nothing_runs_between_two_invocations(world):
    function = Function(world, NOTHING_RUNS)
    for seconds in (20, 0.2, 20):
        for number in range(60):
            world.put(f"k{number}", number)
        assert function.invoke(seconds)["status"] == 0
    assert world.is_equal()
    assert function.status() == 0


def test_a_source_bucket_that_went_while_the_process_was_frozen_empties_nothing(world):
    """However little the process's own clock has moved on."""
    world.put("a")
    world.put("b")
    function = Function(world)
    function.invoke(20)
    world.standin.delete(SOURCE, "a")
    assert counts(function.invoke(20)) == {"deleted": 1}
    world.standin.send(QUEUE, hint_body(SOURCE, ["b"]))
    world.standin.fault("HeadObject", "error", status=404, code="404", bucket=SOURCE, times=0)
    world.standin.fault("ListObjectsV2", "error", status=404, code="NoSuchBucket", bucket=SOURCE, times=0)
    function.invoke(2)
    assert set(world.mirrored()) == {"b"}


def test_connections_that_died_while_the_process_was_frozen_keep_no_copy_waiting(world):
    function = Function(world, "from mirror import function as first_responder\nfirst_responder.IDLE_SECONDS = 0")
    for key in ("a", "b"):
        world.put(key)
        assert counts(function.invoke(10)) == {"copied": 1, "bytes": 1024}
        world.standin.freeze()
    assert world.requests()["CopyObject"] == 2
    assert function.status() == 0


def test_a_session_that_ended_while_its_renewal_was_frozen_is_not_used(monkeypatch):
    """The wall clock goes on meanwhile, the monotonic one may stand still."""
    wall, monotonic, thawed = [1000.0], [50.0], threading.Event()
    monkeypatch.setattr(keys, "time", SimpleNamespace(time=lambda: wall[0], monotonic=lambda: monotonic[0]))

    def fetch() -> keys.Keys:
        answer = keys.Keys("id", "secret", "token", ends=wall[0] + 300)
        if threading.current_thread() is not threading.main_thread():
            thawed.wait(10)  # it was frozen before it took note of the answer
        return answer

    session = keys.RenewedKeys("session", fetch, keys.SESSION_MARGIN)
    first = session.get_frozen_credentials()
    wall[0], monotonic[0] = wall[0] + 200, monotonic[0] + 200
    assert session.get_frozen_credentials() is first
    assert session.is_renewing
    wall[0] += 3600
    assert session.valid() is None
    thawed.set()
    with pytest.raises(CredentialRetrievalError, match="ended already"):  # for RETRY_SECONDS
        session.get_frozen_credentials()
    monotonic[0] += keys.RETRY_SECONDS
    assert session.get_frozen_credentials().ends == wall[0] + 300


def test_a_mistake_in_the_code_is_told_and_the_next_invocation_works(world):
    before = """
from mirror import loop as worker
extend = worker.Worker.extend
def fails_once(self):
    worker.Worker.extend = extend
    return 1 / 0
worker.Worker.extend = fails_once
"""
    world.standin.latency("CopyObject", ms=1500)
    world.put("a")
    function = Function(world, before)
    assert function.invoke(20)["status"] == 1
    assert "ZeroDivisionError" in function.output
    world.put("b")
    assert function.invoke(20)["copied"] >= 1


# It is killed

KILLED = """
import atexit, signal, threading
from botocore.httpsession import URLLib3Session
lock, calls, send = threading.Lock(), [], URLLib3Session.send
def send_or_die(session, request):
    with lock:
        calls.append(request)
        number = len(calls)
    if {at} == (number, "before"):
        os.kill(os.getpid(), signal.SIGKILL)
    answer = send(session, request)
    if {at} == (number, "after"):
        os.kill(os.getpid(), signal.SIGKILL)
    return answer
URLLib3Session.send = send_or_die
atexit.register(lambda: print("CALLS", len(calls)))
"""


def prepare(world: World, name: str) -> str:
    """A queue of its own with work of each kind, and its URL."""
    url = world.standin.create_queue(name, visibility_timeout=8, max_receive_count=3, dead_letter_queue=DEAD_LETTERS)
    world.standin.notify(SOURCE, name)
    for key in ("gone", "changed"):
        world.standin.put(MIRROR, f"{name}/{key}")
    for key in ("gone", "changed", "small"):
        world.put(f"{name}/{key}")
    world.standin.delete(SOURCE, f"{name}/gone")
    world.put(f"{name}/large", GIB)
    return url


def killed(world: World, url: str, number: int, when: str) -> Function:
    function = Function(world, KILLED.format(at=(number, when)), QUEUE_URL=url, RETRY_BASE_SECONDS="5")
    function.begin(10)
    function.status()
    return function


def test_killed_at_every_call_it_loses_nothing(world):
    urls = [prepare(world, "whole")]
    whole = killed(world, urls[0], 0, "")
    calls = int(whole.output.split("CALLS ")[1])
    cases = [(number, when) for number in range(1, calls + 1) for when in ("before", "after")]
    urls += [prepare(world, f"{when}-{number}") for number, when in cases]
    with ThreadPoolExecutor(3) as pool:
        functions = list(pool.map(lambda case, url: killed(world, url, *case), cases, urls[1:]))
        dead = [function for function in functions if function.process.returncode == -9]
        assert len(dead) >= len(cases) - 6  # one that ran in another order may have made a call less
        time.sleep(5)  # what they held is visible
        list(pool.map(lambda url: world.run_worker(QUEUE_URL=url), urls))
    assert world.is_equal()
    assert world.standin.messages(DEAD_LETTERS) == []
    for number, when in cases:
        assert not any(world.standin.queue(f"{when}-{number}").values())


# Settings


def test_nothing_of_the_crt_is_imported_with_the_function(world):
    world.put("a")
    function = Function(world, "sys.modules['awscrt'] = None\nimport starter")
    assert counts(function.invoke(20)) == {"copied": 1, "bytes": 1024}
    assert world.is_equal()


def test_without_credentials_it_says_so_and_the_function_goes_on(world):
    world.put("a")
    function = Function(world, 'os.environ["AWS_PROFILE"] = "missing"')
    assert counts(function.invoke(20)) == {"status": 1}
    assert "ERROR cannot start: " in function.output


@pytest.mark.parametrize("text", ["0", "64M", "-1"])
def test_a_wrong_largest_size_is_refused(world, text):
    with pytest.raises(ValueError, match="STARTER_MAX_SIZE="):
        settings_from(world.environment(STARTER_MAX_SIZE=text))


def test_the_end_of_an_invocation_leaves_room_below_a_minute():
    assert sum(OF_FUNCTION[:5]) + QUIET_SECONDS <= 10


def test_its_visibility_is_that_of_a_worker(world):
    world.standin.record()
    world.put("a")
    Function(world, VISIBILITY_TIMEOUT="60").invoke(20)
    assert '"VisibilityTimeout": 4,' in world.standin.requests("ReceiveMessage")[0]["body"]
