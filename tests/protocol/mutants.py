"""Faults to plant in the worker, each with the tests that have to notice it.

They are those that tools of this kind had and those that the design excludes, as far as neither a generator makes them
(tests/faults/) nor a table LEFT_OUT has them: an order turned round, a condition that is another one.
"""

import functools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from subprocess import PIPE

PROJECT = Path(__file__).resolve().parents[2]
# Imports what takes long, and forks for each run: what a fault is in has to be imported after it was planted. Of
# a random history the first that fails is enough.
COMMAND = """
import json, os, sys
sys.path[:0] = [".", "tests/protocol"]
import boto3, hypothesis.stateful, planted, pytest
hypothesis.settings.register_profile("first", phases=[hypothesis.Phase.generate])
hypothesis.settings.load_profile("first")
for line in sys.stdin:
    text, replacement, output, *arguments = json.loads(line)
    if child := os.fork():
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        continue
    sys.stdout = open(output, "w")
    if text:
        planted.plant({text: replacement})
    status = pytest.main(arguments)
    sys.stdout.flush()
    os._exit(status)
"""


def schedules(case: str) -> str:
    return f"protocol/test_interleavings.py::test_every_schedule_ends_with_a_destination_equal_to_the_source[{case}]"


def keeping(case: str) -> str:
    return f"protocol/test_keeping.py::test_every_schedule_ends_with_what_is_in_time[{case}]"


def history(name: str) -> str:
    return f"protocol/test_faults.py::test_it_ends_equal_and_at_this_price[{name}]"


def function(name: str) -> str:
    return f"protocol/test_function.py::test_{name}"


HISTORIES, OF_FUNCTION = "protocol/test_histories.py::TestHistories", "protocol/test_function.py::TestHistories"

# what is wrong -> a text that occurs once in mirror/, what it becomes, the test below tests/ that has to notice it
MUTANTS = {
    # The protocol
    "the destination is looked at after the source": (
        """existing = await self.look_at_destination(sync, retries) if sync.destination_first else None
        sync.host.look_begins(sync)
        source = await retries.patiently(buckets.head_source, sync.key, by_checksum)
""",
        """sync.host.look_begins(sync)
        source = await retries.patiently(buckets.head_source, sync.key, by_checksum)
        existing = await self.look_at_destination(sync, retries) if sync.destination_first else None
""",
        schedules("new, deleted, created again"),
    ),
    "an object of the same size is skipped": (
        'f"{destination.provenance} ".startswith(f"{source.identity} ")',
        "destination.provenance.split()[2:3] == [str(source.size)]",
        schedules("overwritten with the same size, then deleted"),
    ),
    "the identity leaves out the metadata": (
        "hashlib.sha256(described.encode()).hexdigest()[:12]",
        '""',
        "protocol/test_rules.py::test_every_change_of_a_source_object_changes_its_identity",
    ),
    "a part that lands late ends the upload": (
        'Kind.CHANGED, "InvalidPart"',
        'Kind.OWN, "InvalidPart"',
        schedules("two parts, with SIGTERM"),
    ),
    # Messages
    "a message is deleted before its copy is done": (
        "                self.add(key, lease)\n            if not lease.content.keys:",
        "                self.add(key, lease)\n            if True:",
        HISTORIES,
    ),
    "a message is deleted after its first key": (
        "may_land_until)\n            if not content.keys:",
        "may_land_until)\n            if True:",
        history("a message with two keys, of which one fails"),
    ),
    "a failed message is deleted": (
        "[lease for lease in batch if lease.state is State.ACK]",
        "[lease for lease in batch if lease.outcome is not State.REQUEUE]",
        HISTORIES,
    ),
    "a delete is repeated without a look at the source": (
        "await self.buckets.delete_object(sync, existing, left_out)",
        "await retries.patiently(self.buckets.delete_object, sync, existing, left_out)",
        "protocol/test_faults.py::test_a_delete_that_s3_is_too_busy_for_is_decided_anew",
    ),
    "a message that comes while its key is synced is taken for done": (
        "job.covered, job.looked = len(job.leases), self.now()",
        "job.covered, job.looked = 1000, self.now()",
        history("a change that comes at a look"),
    ),
    "all messages on a key are acknowledged once their change is copied": (
        "self.leases[: min(self.covered, len(self.leases) - 1)]",
        "self.leases[: self.covered]",
        history("the newest message, whose change is copied"),
    ),
    "an interruption uses up a receive": (
        "                await self.requeue(lease)\n",
        "                await self.nack(lease)\n",
        OF_FUNCTION,
    ),
    "a message comes back while its copy is under way": (
        "if isinstance(error, asyncio.CancelledError) or outcome_unknown(error):",
        "if isinstance(error, Exception) and outcome_unknown(error):",
        history("a copy that a stopping worker leaves"),
    ),
    "a message is handed on while its copy is under way": (
        "max(lease.postpone, self.seconds_until(lease.may_land_until))",
        "lease.postpone",
        history("a message that is handed on while its copy is under way"),
    ),
    # KEEP_DAYS
    "a stale copy of an expired source stays": (
        "if destination is None or is_equal(destination, source, deep=False):",
        "if True:",
        keeping("overwritten, with a crash"),
    ),
    "an expired source is done with before the destination is looked at": (
        "if not sync.destination_first and (may_have_uploads or expired):",
        "if not sync.destination_first and may_have_uploads:",
        keeping("overwritten, with a crash"),
    ),
    "a removal without a second look": (
        "existing, found = await look_at(self.buckets, sync.key, deep=False)",
        "existing, found = (await look_at(self.buckets, sync.key, deep=False))[0], Finding(sync.key, 'unwanted')",
        keeping("touched, two removals"),
    ),
    "a removal looks at the source first": (
        """    destination = await buckets.head_destination(key, deep)
    excluded = buckets.settings.wanted.excludes(key)
    is_unmarked = destination is not None and not destination.provenance
    source = await buckets.head_source(key, deep) if is_unmarked or not excluded else None
""",
        """    excluded = buckets.settings.wanted.excludes(key)
    source = None if excluded else await buckets.head_source(key, deep)
    destination = await buckets.head_destination(key, deep)
""",
        keeping("no provenance, touched"),
    ),
    # The function that copies
    "what the function hands back is a failure": (
        "HANDED_BACK = (Interrupted, GaveUp, Postponed)",
        "HANDED_BACK = (Interrupted, GaveUp)",
        OF_FUNCTION,
    ),
    "what the function hands back loses its upload": (
        "handed_back_body(lease.received.body, content.uploads, ",
        "handed_back_body(lease.received.body, {}, ",
        function("a_worker_goes_on_with_an_upload_that_was_handed_to_the_function"),
    ),
    "a message of a killed function comes back before its copy has ended": (
        "return self.visibility_extend_interval + self.copy_timeout",
        "return self.visibility_extend_interval",
        HISTORIES,
    ),
    "a thawed function takes a marker for absent": (
        "self.absent: dict[str, float] = {}",
        'self.absent = vars(self.buckets).setdefault("absent", {})',
        function("after_it_was_frozen_it_looks_anew_for_a_marker_that_was_not_there"),
    ),
    # Reconcile
    "a listing that failed counts as complete": (
        "        await self.walk.run()\n        await self.send([], last=True)\n",
        '        with __import__("contextlib").suppress(*AWS_ERRORS):\n            await self.walk.run()\n'
        "        await self.send([], last=True)\n",
        "worker/test_readers_stopped.py::test_it_stops_and_nothing_is_deleted[a page is denied]",
    ),
    "the directory bucket is taken to list in order": (
        """            other = take(key)
""",
        """            if side and key < getattr(self, "last", ""):
                continue
            self.last = key if side else getattr(self, "last", "")
            other = take(key)
""",
        "worker/test_walk.py::test_each_key_of_random_trees_is_found_once_whatever_other_keys_do_and_what_fails_is_raised",
    ),
}


@functools.cache
def runner() -> subprocess.Popen[str]:
    """Runs COMMAND, and ends with this process."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "NIGHTLY"))}
    command = [sys.executable, "-c", COMMAND]
    return subprocess.Popen(command, env=environment, cwd=PROJECT, stdin=PIPE, stdout=PIPE, text=True)


def run_tests(tests: Iterable[str], text: str = "", replacement: str = "") -> tuple[int, str]:
    """On the worker with that text replaced. The status, 0: they pass, 1: they fail, others: they could not be run; and
    their output."""
    arguments = ["-x", "-q", "-c", ".pytest.ini", "-p", "no:cacheprovider", *(f"tests/{test}" for test in tests)]
    process = runner()
    assert process.stdin and process.stdout
    with tempfile.NamedTemporaryFile("r") as output:
        process.stdin.write(json.dumps([text, replacement, output.name, *arguments]) + "\n")
        process.stdin.flush()
        return int(process.stdout.readline()), output.read()
