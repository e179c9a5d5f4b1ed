"""The worker inside the starter's function, as a process that Lambda keeps and freezes.

What it does with queue and buckets is in tests/protocol/test_function.py.
"""

import json
import re
import subprocess

import pytest
from test_metrics import ON, metrics_in
from world import MIRROR, QUEUE, SOURCE

from mirror.function import OF_FUNCTION, QUIET_SECONDS
from mirror.loop import OUTAGE_STATUS
from mirror.model.services import MIB

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
        self.process = world.start(FUNCTION.format(before=before, between=between), stdin=subprocess.PIPE, **settings)

    def invoke(self, seconds):
        """What it reports; no thread is left to be frozen, unless its call got no answer."""
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            self.output += line
            if line.startswith("REPORT "):
                report = json.loads(line.removeprefix("REPORT "))
                assert report.pop("threads") == report["unanswered"]
                assert report["seconds"] < seconds + IN_TIME
                return report
        raise AssertionError(self.output)

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
    function = Function(world, "sys.modules['awscrt'] = None\nimport starter", **SLOW_TO_RETURN, **ON)
    assert counts(function.invoke(20)) == {"copied": 1, "deleted": 1, "bytes": 1000, "handed_back": 1}
    assert set(world.mirrored()) == {"small"}
    assert [message["receives"] for message in world.standin.messages(QUEUE)] == [0]
    time_and_level = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO "
    line = r'synced key="small" action=copied size=1000 seconds=[\d.]+ lag=[\d.]+'
    assert re.search(rf"^{time_and_level}{line}$", function.output, re.MULTILINE)
    world.put("small", 2000)
    assert counts(function.invoke(20)) == {"copied": 1, "bytes": 2000}
    assert [line["CopiedBytes"] for line in metrics_in(function.output)] == [1000, 2000]
    assert world.requests()["CreateSession"] == 1
    assert "CreateMultipartUpload" not in world.requests()
    assert function.status() == 0


SQS_AND_COPIES = "CopyObject,SendMessage,DeleteMessageBatch,ChangeMessageVisibilityBatch"


@pytest.mark.parametrize("operations", ["CreateSession", "ReceiveMessage", SQS_AND_COPIES])
def test_what_does_not_answer_keeps_no_invocation_and_ends_the_process(world, operations):
    """What becomes of the messages: tests/protocol/test_function.py."""
    world.standin.fault(operations, "hang", times=0)
    for number in range(20):
        world.put(f"k{number}")
    function = Function(world, **SLOW_TO_RETURN)
    report = function.invoke(0.5)
    assert report["unanswered"] >= 1
    assert function.status() == 1
    assert function.output.endswith(f"ERROR {report['unanswered']} calls got no answer, ending the process\n")


def test_an_outage_is_in_its_report_until_it_is_over(world):
    """As if a policy denied sessions to the function alone."""
    world.standin.fault("CreateSession", "error", status=403, code="AccessDenied", times=0)
    for number in range(3):
        world.put(f"k{number}")
    function = Function(world, **SLOW_TO_RETURN)
    report = function.invoke(3)
    assert (report["copied"], report["status"], report.get("only_copies")) == (0, OUTAGE_STATUS, False)
    assert report["outage"].startswith("operation=CreateSession error=AccessDenied message=")

    world.standin.clear_faults()
    report = function.invoke(10)
    assert (report["copied"], report["status"], "outage" in report) == (3, 0, False)
    assert function.status() == 0


def test_connections_that_died_while_the_process_was_frozen_keep_no_copy_waiting(world):
    function = Function(world, between="kept.rests_since = 0.0", ANNOUNCE="all")
    for key in ("a", "b"):
        world.put(key)
        assert counts(function.invoke(10)) == {"copied": 1, "bytes": 1024, "announced": 1}
        world.standin.freeze()
    assert world.requests()["CopyObject"] == 2
    assert function.status() == 0


def test_a_mistake_in_the_code_is_told_and_the_next_invocation_works(world):
    fails_once = "kept.parts.buckets.s3.renew_session = iter([lambda: 1 / 0]).__next__()"
    world.put("a", 16 * MIB)
    world.put("large", 16 * MIB + 1)
    settings = SLOW_TO_RETURN | {"MULTIPART_THRESHOLD": str(16 * MIB)}
    function = Function(world, between=f"if not hasattr(kept, 'broken'): kept.broken = True; {fails_once}", **settings)
    assert counts(function.invoke(20)) == {"copied": 1, "bytes": 16 * MIB, "handed_back": 1}
    world.standin.latency("CopyObject", ms=1500)
    world.put("b")
    assert function.invoke(20)["status"] == 1
    assert "ZeroDivisionError" in function.output


def test_without_credentials_it_says_so_and_the_function_goes_on(world):
    function = Function(world, 'os.environ["AWS_PROFILE"] = "missing"')
    assert counts(function.invoke(20)) == {"status": 1}
    assert "ERROR cannot start: " in function.output
