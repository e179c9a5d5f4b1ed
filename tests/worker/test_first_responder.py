"""The worker inside the starter's function, as a process that Lambda keeps, freezes and kills.

What it does with queue and buckets is in tests/protocol/test_function.py.
"""

import json
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from world import DEAD_LETTERS, MIRROR, QUEUE, ROOT, SOURCE

from mirror.function import OF_FUNCTION, QUIET_SECONDS, settings_from
from mirror.model.limits import GIB, MIB

# Seconds beside the given ones in which an invocation is over; the machine has other things to do, too.
IN_TIME = sum(OF_FUNCTION[:5]) + QUIET_SECONDS + 3
SLOW_TO_RETURN = {"RETRY_BASE_SECONDS": "30", "COPY_TIMEOUT": "60", "VISIBILITY_TIMEOUT": "120"}

# One process of the function: each line of its input is an invocation. {before} is for what a test does to it, and
# {between} to what it keeps, while it is frozen.
FUNCTION = """
import json, os, sys, threading, time
{before}
from mirror import function as first_responder
def calls_and_others():
    return [thread for thread in threading.enumerate() if not thread.name.startswith("renews the ")]
for line in sys.stdin:
    for kept in first_responder.kept:
        {between}
    began = time.monotonic()
    report = first_responder.respond(os.environ, float(line))
    report |= dict(seconds=time.monotonic() - began, threads=len(calls_and_others()) - 1)
    print("REPORT " + json.dumps(report), flush=True)
    first_responder.end_process_if_unanswered()
"""


def counts(report):
    return {name: number for name, number in report.items() if number and name not in ("seconds", "emptied")}


class Function:
    """A process as Lambda keeps one from invocation to invocation."""

    def __init__(self, world, before="", between="pass", **settings):
        self.output = ""
        self.process = subprocess.Popen(
            [sys.executable, "-c", FUNCTION.format(before=before, between=between)],
            env=world.environment(**settings) | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        world.processes.append(self.process)

    def begin(self, seconds):
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()

    def report(self):
        """No thread is left to be frozen, unless its call got no answer."""
        for line in self.process.stdout:
            self.output += line
            if line.startswith("REPORT "):
                report = json.loads(line.removeprefix("REPORT "))
                assert report.pop("threads") == report["unanswered"]
                return report
        raise AssertionError(self.output)

    def invoke(self, seconds):
        self.begin(seconds)
        report = self.report()
        assert report["seconds"] < seconds + IN_TIME
        return report

    def status(self):
        """Exit status, 0 unless the process has ended itself."""
        self.process.stdin.close()
        self.process.stdin = None  # as communicate() of the world, which cleans up, would flush it
        self.output += self.process.stdout.read()
        return self.process.wait(20)


def test_what_is_small_is_synced_without_the_crt_and_what_is_large_is_handed_back_from_one_invocation_to_the_next(
    world,
):
    world.standin.put(MIRROR, "gone")
    world.put("gone")
    world.standin.delete(SOURCE, "gone")
    world.put("small", 1000)
    world.put("large", 64 * MIB + 1)
    function = Function(world, "sys.modules['awscrt'] = None\nimport starter", **SLOW_TO_RETURN)
    assert counts(function.invoke(20)) == {"copied": 1, "deleted": 1, "bytes": 1000, "handed_back": 1}
    assert set(world.mirrored()) == {"small"}
    assert [message["receive_count"] for message in world.standin.messages(QUEUE)] == [0]
    time_and_level = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO "
    line = r'synced key="small" action=copied size=1000 seconds=[\d.]+ lag=[\d.]+'
    assert re.search(rf"^{time_and_level}{line}$", function.output, re.MULTILINE)
    world.put("small", 2000)
    assert counts(function.invoke(20)) == {"copied": 1, "bytes": 2000}
    assert world.requests()["CreateSession"] == 1
    assert "CreateMultipartUpload" not in world.requests()
    assert function.status() == 0


HANGS = {
    "a copy": ("CopyObject",),
    "a look": ("HeadObject",),
    "a session": ("CreateSession",),
    "a receive": ("ReceiveMessage",),
    "what ends a message": ("DeleteMessageBatch", "SendMessage"),
    "everything": ("CopyObject", "SendMessage", "DeleteMessageBatch", "ChangeMessageVisibilityBatch"),
}


@pytest.mark.parametrize("case", HANGS)
def test_what_does_not_answer_keeps_no_invocation_and_ends_the_process(world, case):
    for operation in HANGS[case]:
        world.standin.fault(operation, "hang", times=0)
    for number in range(20):
        world.put(f"k{number}")
    function = Function(world, **SLOW_TO_RETURN)
    report = function.invoke(2)
    assert report["unanswered"] >= 1
    assert function.status() == 1
    assert function.output.endswith(f"ERROR {report['unanswered']} calls got no answer, ending the process\n")
    if case in ("a copy", "a look"):
        assert {message["receive_count"] for message in world.standin.messages(QUEUE)} == {0}


def test_connections_that_died_while_the_process_was_frozen_keep_no_copy_waiting(world):
    function = Function(world, between="kept.rests_since = 0.0")
    for key in ("a", "b"):
        world.put(key)
        assert counts(function.invoke(10)) == {"copied": 1, "bytes": 1024}
        world.standin.freeze()
    assert world.requests()["CopyObject"] == 2
    assert function.status() == 0


def test_a_mistake_in_the_code_is_told_and_the_next_invocation_works(world):
    fails_once = "kept.parts.buckets.s3.renew_session = iter([lambda: 1 / 0]).__next__()"
    world.put("a")
    function = Function(world, between=f"if not hasattr(kept, 'broken'): kept.broken = True; {fails_once}")
    function.invoke(20)
    world.standin.latency("CopyObject", ms=1500)
    world.put("b")
    assert function.invoke(20)["status"] == 1
    assert "ZeroDivisionError" in function.output


def test_without_credentials_it_says_so_and_the_function_goes_on(world):
    function = Function(world, 'os.environ["AWS_PROFILE"] = "missing"')
    assert counts(function.invoke(20)) == {"status": 1}
    assert "ERROR cannot start: " in function.output


def test_its_settings(world):
    assert settings_from(world.environment()).largest == 64 * MIB
    assert settings_from(world.environment(MULTIPART_THRESHOLD=str(16 * MIB))).largest == 16 * MIB
    for text in ("0", "64M", "-1"):
        with pytest.raises(ValueError, match="STARTER_MAX_SIZE="):
            settings_from(world.environment(STARTER_MAX_SIZE=text))
    assert sum(OF_FUNCTION[:5]) + QUIET_SECONDS <= 10  # the end of an invocation leaves room below a minute


# --- It is killed -----------------------------------------------------------------------------------------------------

KILLED = """
import atexit, signal
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


def prepare(world, name):
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


def killed(world, url, number, when):
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
