"""worker.py reconcile --audit on the stand-in: only what still differs later counts, is reported and queued."""

import logging
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from test_reconcile import examples, plant, queued, reconcile, run_here
from world import MIRROR, OURS, QUEUE, SOURCE, World

import worker
from mirror.protocol.attempt import Interruption
from mirror.queue.bodies import hint_body
from mirror.readers import listing
from mirror.readers import reconcile as reconciling

AUDITED = re.compile(r"^\S+ (INFO|ERROR) audited end=(\w+) status=(\d) found=(\d+) .*seconds=", re.MULTILINE)


def audited(output: str) -> tuple[str, str, int, int]:
    """(level, end, status, found) of the one line that says it; the summary of reconcile stays the last."""
    (line,) = AUDITED.findall(output)
    assert " INFO reconciled end=" in output.splitlines()[-1]
    assert " audited end=" in output.splitlines()[-2]
    return line[0], line[1], int(line[2]), int(line[3])


@pytest.fixture
def synced(world: World) -> World:
    world.synced(*(f"data/{number % 4}/{number}" for number in range(40)), modified=1_700_000_000)
    world.standin.configure_bucket(SOURCE, notification=None)
    return world


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], list[float]]:
    """Has something done in the pause of an audit in this process, which takes no time; the pauses are recorded."""

    def act_in_pause(act: Callable[[], object]) -> list[float]:
        pauses: list[float] = []

        async def pause(_: Interruption, seconds: float) -> None:
            pauses.append(seconds)
            act()

        monkeypatch.setattr(Interruption, "pause", pause)
        return pauses

    return act_in_pause


def nothing() -> None: ...


def line_of(caplog: pytest.LogCaptureFixture) -> tuple[str, str]:
    ((level, text),) = [(r.levelname, r.getMessage()) for r in caplog.records if r.getMessage().startswith("audited")]
    return level, " ".join(text.split()[1:4])


def test_equal_buckets_are_told_at_once_without_a_pause(synced: World):
    started = time.monotonic()
    status, output = reconcile(synced, "--audit")
    assert (status, audited(output)) == (0, ("INFO", "complete", 0, 0))
    assert time.monotonic() - started < 60
    assert queued(synced) == []


def test_what_is_on_its_way_is_no_difference_and_what_stays_is_put_on_the_queue(
    synced: World, meanwhile, caplog: pytest.LogCaptureFixture
):
    def arrive() -> None:
        synced.standin.send(QUEUE, hint_body(SOURCE, [key for _, key in planted if key != "data/1/1"]))
        synced.run_worker()

    caplog.set_level(logging.INFO, "worker")
    planted = plant(synced)
    pauses = meanwhile(arrive)
    status, run = run_here(synced, "--audit")
    assert (status, pauses) == (0, [300])
    assert {what: run.counts[what] for what in reconciling.DIFFERENCES if run.counts[what]} == {"stale": 1}
    assert queued(synced) == ["data/1/1"]
    assert line_of(caplog) == ("ERROR", "end=complete status=0 found=1")
    synced.run_worker()
    assert synced.is_equal()


def test_all_that_still_differs_is_found_and_mended(synced: World, meanwhile, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(listing, "PAGE_KEYS", 2)
    planted = plant(synced)
    meanwhile(nothing)
    status, run = run_here(synced, "--audit")
    assert status == 0
    assert {(what, key) for what, keys in run.examples.items() for key in keys} == planted
    assert sorted(queued(synced)) == sorted(key for _, key in planted)
    synced.run_worker()
    assert synced.is_equal()


def test_what_has_become_another_difference_meanwhile_counts_as_that(synced: World, meanwhile):
    synced.put("data/new")
    synced.standin.put(MIRROR, "data/new", 7, metadata=OURS)
    meanwhile(lambda: synced.standin.delete(SOURCE, "data/new"))
    _, run = run_here(synced, "--audit")
    assert {what: run.counts[what] for what in reconciling.DIFFERENCES if run.counts[what]} == {"ghost": 1}
    assert queued(synced) == ["data/new"]


def test_a_dry_run_of_it_only_tells(synced: World, meanwhile, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "worker")
    plant(synced)
    meanwhile(nothing)
    status, _ = run_here(synced, "--audit", "--dry-run", "--max-delete", "0")
    assert (status, queued(synced)) == (1, [])
    assert line_of(caplog) == ("ERROR", "end=complete status=1 found=5")


def test_what_cannot_be_looked_at_is_found(synced: World, meanwhile, caplog: pytest.LogCaptureFixture):
    plant(synced)
    synced.standin.fault("HeadObject", "error", key="^data/1/1$", status=400, code="400", times=0)
    meanwhile(nothing)
    status, run = run_here(synced, "--audit")
    assert (status, run.counts["unreadable"], len(queued(synced))) == (1, 1, 4)
    assert line_of(caplog) == ("ERROR", "end=complete status=1 found=5")


def test_an_archived_object_is_no_difference(synced: World, meanwhile, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "worker")
    synced.put("data/cold", storage_class="DEEP_ARCHIVE")
    meanwhile(nothing)
    assert run_here(synced, "--audit")[0] == 0
    assert line_of(caplog) == ("INFO", "end=complete status=0 found=0")


def test_objects_of_others_are_in_its_line_and_are_no_alarm(synced: World):
    synced.standin.put_many(MIRROR, [f"theirs/{number}" for number in range(5)])
    status, output = reconcile(synced, "--audit")
    assert (status, audited(output)) == (0, ("INFO", "complete", 0, 0))
    assert " foreign=5 " in output.splitlines()[-2]
    assert queued(synced) == []


# What makes it stop


def test_more_ghosts_than_the_guard_allows_stop_it_and_the_rest_is_on_the_queue(
    synced: World, meanwhile, caplog: pytest.LogCaptureFixture
):
    synced.put("data/new")
    for number in range(3):
        synced.standin.delete(SOURCE, f"data/0/{4 * number}")
    meanwhile(nothing)
    status, _ = run_here(synced, "--audit", "--max-delete", "2")
    assert (status, queued(synced)) == (3, ["data/new"])
    assert line_of(caplog) == ("ERROR", "end=stopped status=3 found=4")


def test_ghosts_that_are_none_any_more_do_not_count_for_the_guard(synced: World, meanwhile):
    def come_back() -> None:
        for number in (0, 1):
            synced.put(f"data/0/{4 * number}")

    for number in range(3):
        synced.standin.delete(SOURCE, f"data/0/{4 * number}")
    meanwhile(come_back)
    status, run = run_here(synced, "--audit", "--max-delete", "1")
    assert (status, run.counts["ghost"], run.counts["stale"]) == (0, 1, 2)


def test_a_listing_that_fails_is_an_error_of_the_audit(synced: World):
    plant(synced)
    synced.standin.fault("ListObjectsV2", "error", bucket=SOURCE, times=0, status=403, code="AccessDenied")
    status, output = reconcile(synced, "--audit")
    assert (status, audited(output)) == (3, ("ERROR", "stopped", 3, 0))
    assert queued(synced) == []


def test_a_signal_in_the_pause_ends_it_soon_and_nothing_is_put_on_the_queue(synced: World):
    plant(synced)
    command = [sys.executable, worker.__file__, "reconcile", "--audit"]
    process = subprocess.Popen(
        command, env=synced.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    synced.processes.append(process)
    assert process.stdout
    lines: list[str] = []
    while not any("5 keys differ, and are looked at again in 300 s" in line for line in lines):
        lines.append(process.stdout.readline())
        assert lines[-1], lines
    told = time.monotonic()
    process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate(timeout=300)
    assert time.monotonic() - told < 60
    assert (process.returncode, audited("".join(lines) + rest)) == (3, ("ERROR", "stopped", 3, 0))
    assert "it is safe to run it again: SIGTERM" in rest
    assert queued(synced) == []


# Many differences


def test_what_there_is_no_room_for_counts_at_once_and_is_told(
    synced: World, meanwhile, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """30 of 50 are remembered, arrive in the pause and do not count; the other 20 do, and are reported once."""

    def arrive() -> None:
        before.extend(queued(synced))
        synced.run_worker()
        synced.standin.send(QUEUE, hint_body(SOURCE, keys[:30]))
        synced.run_worker()

    before: list[str] = []
    keys = [f"new/{number:02}" for number in range(50)]
    synced.standin.put_many(SOURCE, keys)
    monkeypatch.setattr(reconciling, "MOST_DOUBTFUL", 30)
    meanwhile(arrive)
    status, run = run_here(synced, "--audit")
    assert (status, run.counts["missing"], queued(synced)) == (0, 20, [])
    assert before == keys[30:]
    assert line_of(caplog) == ("ERROR", "end=complete status=0 found=20")
    assert len([r for r in caplog.records if "more than 30 keys differ" in r.getMessage()]) == 1
    assert synced.is_equal()


def test_by_default_there_is_no_second_look_and_no_line_of_an_audit(synced: World):
    planted = plant(synced)
    started = time.monotonic()
    status, output = reconcile(synced)
    assert (status, examples(output)) == (0, planted)
    assert "audited" not in output
    assert time.monotonic() - started < 60
