"""Faults to plant in a copy of the worker, each with the tests that have to notice it.

They are those that tools of this kind had and those that the design excludes, as far as no generator makes them: an
order turned round, a condition that is another one. The sample in tests/faults/ has what a generator makes.
"""

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from forks import forks_after

PROJECT = Path(__file__).resolve().parents[2]
LIBRARIES = (
    "import awscrt.auth, awscrt.http, awscrt.io, boto3, httptools, hypothesis.strategies, pytest, xdist.scheduler"
)
COPIED = (".pytest.ini", "worker.py", "mirror", "tests")


class Mutant(NamedTuple):
    """`text` occurs once in mirror/; `tests` are files or node ids below tests/."""

    name: str
    text: str
    replacement: str
    tests: tuple[str, ...]


def of(file: str, name: str) -> tuple[str, ...]:
    return (f"{file}.py::test_{name}",)


def schedules(case: str) -> tuple[str, ...]:
    return of("protocol/test_interleavings", f"every_schedule_ends_with_a_destination_equal_to_the_source[{case}]")


def keeping(case: str) -> tuple[str, ...]:
    return of("protocol/test_keeping", f"every_schedule_ends_with_what_is_in_time[{case}]")


def rules(name: str) -> tuple[str, ...]:
    return of("protocol/test_rules", name)


def history(name: str) -> tuple[str, ...]:
    return of("protocol/test_faults", f"it_ends_equal_and_at_this_price[{name}]")


def function(name: str) -> tuple[str, ...]:
    return of("protocol/test_function", name)


MUTANTS = (
    # The protocol
    Mutant(
        "the destination is looked at after the source",
        """existing = await self.look_at_destination(sync, retries) if sync.destination_first else None
        sync.host.look_begins(sync)
        source = await retries.patiently(head_source, buckets, sync.key, by_checksum)
""",
        """sync.host.look_begins(sync)
        source = await retries.patiently(head_source, buckets, sync.key, by_checksum)
        existing = await self.look_at_destination(sync, retries) if sync.destination_first else None
""",
        schedules("new, deleted, created again"),
    ),
    Mutant("no IfMatch", '{"IfMatch": existing.etag} if existing', "{} if existing", schedules("with three workers")),
    Mutant("no IfNoneMatch", 'else {"IfNoneMatch": "*"}', "else {}", schedules("with three workers")),
    Mutant(
        "an object of the same size is skipped",
        'f"{destination.provenance} ".startswith(f"{source.identity} ")',
        "destination.provenance.split()[2:3] == [str(source.size)]",
        schedules("overwritten with the same size, then deleted"),
    ),
    Mutant(
        "the identity leaves out the metadata",
        "hashlib.sha256(described.encode()).hexdigest()[:12]",
        '""',
        rules("every_change_of_a_source_object_changes_its_identity"),
    ),
    Mutant(
        "a timeout is taken for nothing done",
        "return meaning_of(error).is_unknown",
        "return isinstance(error, ClientError) and meaning_of(error).is_unknown",
        schedules("no conditional writes, with a lost answer"),
    ),
    Mutant(
        "a part that lands late ends the upload",
        'Kind.CHANGED, "InvalidPart"',
        'Kind.OWN, "InvalidPart"',
        schedules("two parts, with SIGTERM"),
    ),
    # Messages
    Mutant(
        "a message is deleted before its copy is done",
        "                self.add(key, lease)\n            if not lease.content.keys:",
        "                self.add(key, lease)\n            if True:",
        history("a copy that is made and not looked at"),
    ),
    Mutant(
        "a message is deleted after its first key",
        "may_land_until)\n            if not content.keys:",
        "may_land_until)\n            if True:",
        history("a message with two keys, of which one fails"),
    ),
    Mutant(
        "a failed message is deleted",
        "[lease for lease in batch if lease.state is State.ACK]",
        "[lease for lease in batch if lease.outcome is not State.REQUEUE]",
        history("a message that fails three times"),
    ),
    Mutant(
        "a delete is repeated without a look at the source",
        "await delete_object(self.buckets, sync, existing, left_out)",
        "await retries.patiently(delete_object, self.buckets, sync, existing, left_out)",
        of("protocol/test_faults", "a_delete_that_s3_is_too_busy_for_is_decided_anew"),
    ),
    Mutant(
        "a message that comes while its key is synced is taken for done",
        "job.covered, job.looked = len(job.leases), self.now()",
        "job.covered, job.looked = 1000, self.now()",
        history("a change that comes at a look"),
    ),
    Mutant(
        "all messages on a key are acknowledged once their change is copied",
        "self.leases[: min(self.covered, len(self.leases) - 1)]",
        "self.leases[: self.covered]",
        history("the newest message, whose change is copied"),
    ),
    Mutant(
        "an interruption uses up a receive",
        "                await self.requeue(lease)\n",
        "                await self.nack(lease)\n",
        history("SIGTERM at a part, twice"),
    ),
    Mutant(
        "a message comes back while its copy is under way",
        "if isinstance(error, asyncio.CancelledError) or outcome_unknown(error):",
        "if isinstance(error, Exception) and outcome_unknown(error):",
        history("a copy that a stopping worker leaves"),
    ),
    Mutant(
        "a message is handed on while its copy is under way",
        "max(lease.postpone, self.seconds_until(lease.may_land_until))",
        "lease.postpone",
        history("a message that is handed on while its copy is under way"),
    ),
    # KEEP_DAYS
    Mutant(
        "an expired source is copied",
        "judge(source, existing, expired=expired, same_bytes=same_bytes)",
        "judge(source, existing, same_bytes=same_bytes)",
        keeping("new, with a crash"),
    ),
    Mutant(
        "a stale copy of an expired source stays",
        "if destination is None or is_equal(destination, source, deep=False):",
        "if True:",
        keeping("overwritten, with a crash"),
    ),
    Mutant(
        "an expired source is done with before the destination is looked at",
        "if not sync.destination_first and (may_have_uploads or expired):",
        "if not sync.destination_first and may_have_uploads:",
        keeping("overwritten, with a crash"),
    ),
    Mutant(
        "a removal without a second look",
        "existing, found = await look_at(self.buckets, sync.key, deep=False)",
        "existing, found = (await look_at(self.buckets, sync.key, deep=False))[0], Finding(sync.key, 'unwanted')",
        keeping("touched, two removals"),
    ),
    Mutant(
        "a removal looks at the source first",
        """    destination = await head_destination(buckets, key, deep)
    excluded = buckets.settings.wanted.excludes(key)
    is_unmarked = destination is not None and not destination.provenance
    source = await head_source(buckets, key, deep) if is_unmarked or not excluded else None
""",
        """    excluded = buckets.settings.wanted.excludes(key)
    source = None if excluded else await head_source(buckets, key, deep)
    destination = await head_destination(buckets, key, deep)
""",
        keeping("no provenance, touched"),
    ),
    # The function that copies
    Mutant(
        "the function copies what is large",
        "largest=min(int(text), settings.multipart_threshold),",
        "largest=0,",
        function("it_copies_what_is_small_and_hands_back_what_is_large_without_a_receive"),
    ),
    Mutant(
        "what the function hands back is a failure",
        "HANDED_BACK = (Interrupted, GaveUp, Postponed)",
        "HANDED_BACK = (Interrupted, GaveUp)",
        function("it_copies_what_is_small_and_hands_back_what_is_large_without_a_receive"),
    ),
    Mutant(
        "what the function hands back loses its upload",
        "handed_back_body(lease.received.body, content.uploads, ",
        "handed_back_body(lease.received.body, {}, ",
        function("a_worker_goes_on_with_an_upload_that_was_handed_to_the_function"),
    ),
    Mutant(
        "a copy that the function leaves at its deadline is forgotten",
        "delay = max(lease.postpone, self.seconds_until(lease.may_land_until))",
        "delay = lease.postpone",
        function("a_copy_that_it_leaves_at_its_deadline_lands_before_its_message_comes_back"),
    ),
    Mutant(
        "a message of a killed function comes back before its copy has ended",
        "return self.visibility_extend_interval + self.copy_timeout",
        "return self.visibility_extend_interval",
        function("a_copy_of_a_killed_function_lands_before_its_message_comes_back"),
    ),
    Mutant(
        "a thawed function takes a marker for absent",
        "self.known: dict[str, tuple[float, bool]] = {}",
        'self.known = vars(buckets).setdefault("known", {})',
        function("after_it_was_frozen_it_looks_anew_for_a_marker_that_was_not_there"),
    ),
    # Reconcile
    Mutant(
        "a listing that failed counts as complete",
        "        await self.walk.run()\n        await self.send([], last=True)\n",
        '        with __import__("contextlib").suppress(*AWS_ERRORS):\n            await self.walk.run()\n'
        "        await self.send([], last=True)\n",
        ("worker/test_readers_stopped.py",),
    ),
    Mutant(
        "the directory bucket is taken to list in order",
        """            other = take(key)
""",
        """            if side and key < getattr(self, "last", ""):
                continue
            self.last = key if side else getattr(self, "last", "")
            other = take(key)
""",
        ("worker/test_walk.py",),
    ),
)


def code(directory: Path = PROJECT) -> Iterable[Path]:
    return (directory / "mirror").rglob("*.py")


def plant(mutant: Mutant | None, directory: Path) -> None:
    """A copy of the worker and its tests, with the fault. Raises ValueError if the worker has changed too much."""
    for name in COPIED:  # with what Python has compiled of them
        if (PROJECT / name).is_dir():
            shutil.copytree(PROJECT / name, directory / name, ignore=shutil.ignore_patterns("bench"))
        else:
            shutil.copy(PROJECT / name, directory)
    if mutant:
        found = [file for file in code(directory) if mutant.text in file.read_text()]
        if len(found) != 1:
            raise ValueError(f"{mutant.name}: its text has to be in one file, it is in {[*map(str, found)]}")
        (file,) = found
        file.write_text(file.read_text().replace(mutant.text, mutant.replacement))
        for compiled in file.parent.glob(f"__pycache__/{file.stem}.*"):
            compiled.unlink()


def run_tests(directory: Path, tests: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """Return code 0: the tests pass, 1: they fail, others: they could not be run."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "NIGHTLY"))}
    options = ["-x", "-q", "-c", ".pytest.ini", "-p", "no:cacheprovider"]
    command = "import sys, pytest; sys.exit(pytest.main(sys.argv[1:]))"
    named = [f"tests/{test}" for test in tests]
    process = forks_after(LIBRARIES).start(command, *options, *named, environment=environment, cwd=str(directory))
    output, _ = process.communicate(timeout=3000)
    return subprocess.CompletedProcess(named, process.wait(), output, "")
