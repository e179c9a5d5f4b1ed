"""COPY_LAST: a marker comes after what it announces, and goes before anything of it changes."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from test_first_responder import Function, counts
from world import DEAD_LETTERS, MIRROR, QUEUE, SOURCE, World, wait_until

from mirror.cli import parse_arguments
from mirror.loop import Worker
from mirror.model.limits import MIB
from mirror.model.selection import is_marker, marker_patterns
from mirror.options import waiting
from mirror.options.markers import markers_above
from mirror.protocol.attempt import Interruption
from mirror.queue import bodies
from mirror.queue.bodies import hint_body
from mirror.readers.reconcile import reconcile as compare
from mirror.settings import load_settings

GIB = 1024 * MIB
LAST = {"COPY_LAST": "_SUCCESS"}


def writes(world: World) -> list[str]:
    """The keys that the destination was asked to change, in that order, each once."""
    calls = (call for call in world.standin.requests() if call["operation"] in ("CopyObject", "DeleteObject"))
    return list(dict.fromkeys(call["key"] for call in calls))


def forget_messages(world: World) -> None:
    world.queue_url = world.standin.create_queue(
        QUEUE, visibility_timeout=8, max_receive_count=3, dead_letter_queue=DEAD_LETTERS
    )


def messages_on(world: World, key: str) -> list[dict[str, Any]]:
    return [message for message in world.standin.messages(QUEUE) if key in message["body"]]


def looks_at(world: World, key: str) -> int:
    return len([call for call in world.standin.requests("HeadObject") if call["key"] == key])


def impatient(world: World, seconds: float = 0.5, **changed: str) -> Worker:
    """The worker's parts in this process; a marker waits there for so long without progress."""
    running = world.worker(**LAST | changed)
    running.buckets.settings = replace(running.buckets.settings, patience=seconds)
    return running


@contextmanager
def reading(world: World, is_wrong: Callable[[set[str]], bool]) -> Iterator[list[set[str]]]:
    """A reader looks at the destination all the time. Yields what it saw."""
    ended, seen = threading.Event(), []

    def read() -> None:
        while not ended.is_set():
            seen.append(set(world.mirrored()))

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()
    assert len(seen) > 1
    assert not [keys for keys in seen if is_wrong(keys)]


# --- Patterns ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("copy_last", "markers", "others"),
    [
        ("_SUCCESS", ["_SUCCESS", "a/_SUCCESS", "a/b/_SUCCESS"], ["a/_success", "a/_SUCCESS/b", "a/x_SUCCESS"]),
        ("*.done", ["x.done", "a/x.done", "a/.done"], ["a.done/x", "x.DONE", "x.done.tmp"]),
        ("*/manifest.json", ["a/manifest.json", "a/b/manifest.json"], ["manifest.json", "a/other-manifest.json"]),
        ("a/b/X", ["a/b/X"], ["b/X", "X", "a/b/c/X", "c/a/b/X"]),
        ("a/*/X", ["a/b/X", "a/b/c/X"], ["a/X", "b/a/c/X"]),
        ("part-[0-9].ok", ["a/part-1.ok"], ["a/part-x.ok", "part-10.ok"]),
        (" _SUCCESS , ,*.done,", ["_SUCCESS", "x.done"], ["", " _SUCCESS ", "x"]),
        ("a b", ["a b", "x/a b"], ["a", "b"]),
        ("x\u00e9*", ["x\u00e9", "a/x\u00e9\n1"], ["xe"]),
        ("", [], ["", "a", "a/"]),
        (" , ", [], ["", "a", "a/"]),
    ],
)
def test_what_is_a_marker(copy_last: str, markers: list[str], others: list[str]):
    assert [key for key in markers + others if is_marker(key, copy_last)] == markers


def test_patterns_are_compiled_once():
    assert marker_patterns("_SUCCESS,*.done") is marker_patterns("_SUCCESS,*.done")


@pytest.mark.parametrize(
    ("copy_last", "prefix", "key", "above"),
    [
        ("_SUCCESS", "", "a/b/c", ["_SUCCESS", "a/_SUCCESS", "a/b/_SUCCESS"]),
        ("_SUCCESS", "a/", "a/b/c", ["a/_SUCCESS", "a/b/_SUCCESS"]),
        ("_SUCCESS", "a", "a/c", ["a/_SUCCESS"]),
        ("_SUCCESS,_SUCCESS", "", "a/_SUCCESS", ["_SUCCESS"]),
        ("_SUCCESS,_DONE", "", "a/_SUCCESS", ["_SUCCESS", "_DONE", "a/_DONE"]),
        ("*/X", "", "a/b", ["a/X"]),
        ("a/b/X", "", "a/b/c/d", ["a/b/X"]),
        ("a/*/X,X", "", "a/b/c/", ["X", "a/X", "a/b/X", "a/b/c/X"]),
        ("*.done,X*,[ab]", "", "a/b/c", []),
        ("", "", "a/b/c", []),
    ],
)
def test_which_markers_may_announce_a_key(world: World, copy_last: str, prefix: str, key: str, above: list[str]):
    buckets = world.worker(COPY_LAST=copy_last, PREFIX_FILTER=prefix).buckets
    assert list(markers_above(buckets, key)) == above


@pytest.mark.parametrize("text", ["_SUCCESS\n", "a\tb", "\x7f"])
def test_control_characters_are_refused(world: World, text: str):
    with pytest.raises(ValueError, match=re.escape(f"COPY_LAST={text!r} has to be patterns of keys")):
        load_settings(world.environment(COPY_LAST=text))


# --- A marker comes last ----------------------------------------------------------------------------------------------


def test_a_marker_is_seen_only_when_all_it_announces_is_there(world: World):
    """It comes first in the queue, and one of the others is large."""
    world.standin.latency("CopyObject", ms=100)
    world.standin.latency("UploadPartCopy", ms=300)
    keys = {f"data/{number:03}" for number in range(199)} | {"data/large"}
    world.put("data/_SUCCESS")
    world.put("data/large", 6 * GIB)
    for key in sorted(keys - {"data/large"}):
        world.put(key)
    with reading(world, lambda seen: "data/_SUCCESS" in seen and not keys <= seen) as seen:
        output = world.run_worker(**LAST)
    assert world.is_equal()
    assert len([some for some in seen if some and some < keys]) > 1
    assert output.count('marker key="data/_SUCCESS" waits for ') == 1
    assert re.search(r'INFO marker key=\S+ waits for \d+ keys under "data/", such as "data/\w+": not equal yet', output)


def test_without_the_setting_it_overtakes(world: World):
    """So the reader of these tests would see it."""
    world.standin.fault("CopyObject", "delay", seconds=1, key="x", times=0)
    world.put("data/_SUCCESS")
    world.put("data/x")
    with pytest.raises(AssertionError), reading(world, lambda seen: seen == {"data/_SUCCESS"}):
        world.run_worker()


def test_a_large_marker_waits_before_its_first_part(world: World):
    world.standin.record()
    world.standin.fault("CopyObject", "delay", seconds=2, key="x", times=0)
    world.put("data/_SUCCESS", 6 * GIB)
    world.put("data/x")
    with reading(world, lambda seen: "data/_SUCCESS" in seen and "data/x" not in seen):
        world.run_worker(**LAST)
    assert world.is_equal()
    first = world.standin.requests("CreateMultipartUpload")[0]
    calls = world.standin.requests()
    after_wait = calls[calls.index(world.standin.requests("CopyObject")[0]) : calls.index(first)]
    assert [call for call in after_wait if call["operation"] == "HeadObject" and call["key"] == "data/x"]
    assert len(world.standin.requests("UploadPartCopy")) == 96


def test_nested_markers_come_from_the_inside_out(world: World):
    world.standin.record()
    world.standin.fault("CopyObject", "delay", seconds=1, key="x", times=0)
    for key in ("_SUCCESS", "a/_SUCCESS", "a/b/_SUCCESS", "a/b/x", "a/y"):
        world.put(key)
    world.run_worker(**LAST)
    assert world.is_equal()
    assert writes(world)[-3:] == ["a/b/_SUCCESS", "a/_SUCCESS", "_SUCCESS"]


def test_markers_of_one_folder_do_not_wait_for_each_other(world: World):
    world.put("a/_SUCCESS")
    world.put("a/x.done")
    world.put("a/y.done")
    output = world.run_worker(COPY_LAST="_SUCCESS,*.done")
    assert world.is_equal()
    assert "waits for" not in output


def test_a_marker_does_not_wait_for_what_is_beside_its_folder(world: World):
    world.standin.fault("CopyObject", "error", status=403, code="AccessDenied", key="x", times=0)
    world.put("a/_SUCCESS")
    world.put("ab/x")
    world.put("x")
    running = impatient(world)
    world.run(running.run())
    assert set(world.mirrored()) == {"a/_SUCCESS"}


@pytest.mark.parametrize(("prefix", "marker"), [("", "_SUCCESS"), ("data/", "data/_SUCCESS"), ("da", "da_SUCCESS")])
def test_a_marker_at_the_top_announces_all_that_is_synced(world: World, prefix: str, marker: str):
    world.standin.record()
    world.standin.fault("CopyObject", "delay", seconds=1, key="x", times=0)
    world.put(marker)
    world.put("data/deep/er/x")
    world.put("other/x")
    world.run_worker(COPY_LAST="*_SUCCESS", PREFIX_FILTER=prefix)
    assert writes(world)[-1] == marker
    assert set(world.mirrored()) == {key for key in (marker, "data/deep/er/x", "other/x") if key.startswith(prefix)}


def test_a_marker_of_a_pattern_with_wildcards_waits(world: World):
    world.standin.record()
    world.standin.fault("CopyObject", "delay", seconds=1, key="x", times=0)
    for key in ("a/part-1.done", "a/x", "b/manifest.json", "b/x"):
        world.put(key)
    world.run_worker(COPY_LAST="*.done, */manifest.json")
    assert world.is_equal()
    assert set(writes(world)[:2]) == {"a/x", "b/x"}


def test_a_marker_waits_until_what_the_source_has_no_longer_is_gone(world: World):
    world.put("a/old")
    world.run_worker(**LAST)
    world.standin.fault("DeleteObject", "delay", seconds=1, times=0)
    world.standin.delete(SOURCE, "a/old")
    world.put("a/_SUCCESS")
    with reading(world, lambda seen: seen == {"a/old", "a/_SUCCESS"}):
        output = world.run_worker(**LAST)
    assert world.is_equal()
    assert 'waits for 1 keys under "a/", such as "a/old": only in the destination' in output


def test_a_marker_waits_for_a_new_version_of_what_is_there(world: World):
    world.put("a/x")
    world.run_worker(**LAST)
    world.standin.record()
    world.standin.fault("CopyObject", "delay", seconds=1, key="x", times=0)
    world.put("a/_SUCCESS")
    world.put("a/x")
    world.run_worker(**LAST)
    assert world.is_equal()
    assert writes(world) == ["a/x", "a/_SUCCESS"]


def test_a_marker_that_is_overwritten_while_it_waits_ends_as_its_newest_version(world: World):
    world.standin.fault("CopyObject", "delay", seconds=2, key="x", times=0)
    world.put("a/_SUCCESS")
    world.put("a/x")
    process = world.start_worker(**LAST)
    wait_until(lambda: world.requests().get("CopyObject"))
    time.sleep(0.5)
    world.put("a/y")
    newest = world.put("a/_SUCCESS")
    with reading(world, lambda seen: "a/_SUCCESS" in seen and not {"a/x", "a/y"} <= seen):
        process.communicate(timeout=300)
    assert world.is_equal()
    assert world.mirrored()["a/_SUCCESS"]["content"] == newest["content"]
    assert world.is_empty()


def test_a_marker_that_is_deleted_while_it_waits_does_not_come(world: World):
    world.standin.fault("CopyObject", "delay", seconds=2, key="x", times=0)
    world.put("a/_SUCCESS")
    world.put("a/x")
    process = world.start_worker(**LAST)
    wait_until(lambda: world.requests().get("CopyObject"))
    world.standin.delete(SOURCE, "a/_SUCCESS")
    with reading(world, lambda seen: "a/_SUCCESS" in seen):
        process.communicate(timeout=300)
    assert set(world.mirrored()) == {"a/x"}
    assert world.is_empty()


def test_markers_that_wait_take_no_slots(world: World):
    """Twelve of them with four slots."""
    world.standin.fault("CopyObject", "delay", seconds=2, key="slow", times=0)
    for number in range(12):
        world.put(f"{number}/_SUCCESS")
        world.put(f"{number}/slow")
    for number in range(20):
        world.put(f"quick/{number}")
    world.run_worker(MAX_CONCURRENT_KEYS="4", **LAST)
    assert world.is_equal()
    assert world.is_empty()


# --- It does not wait forever ----------------------------------------------------------------------------------------


@pytest.fixture
def stuck(world: World) -> World:
    """What the marker announces cannot be copied."""
    world.put("a/ice", storage_class="GLACIER")
    forget_messages(world)
    world.put("a/_SUCCESS")
    world.standin.record()
    return world


def test_a_worker_ends_although_a_marker_waits_and_no_receive_is_used_up(stuck: World, caplog):
    caplog.set_level("INFO")
    running = impatient(stuck)
    assert stuck.run(running.run()) == 0
    assert "a/_SUCCESS" not in stuck.mirrored()
    assert [message["receive_count"] for message in stuck.standin.messages(QUEUE)] == [0]
    lines = [line.partition(" since=")[0] for line in caplog.messages if "waits for" in line]
    assert lines == ['marker key="a/_SUCCESS" waits for 1 keys under "a/", such as "a/ice": archived'] * 2
    assert 'what it needs is not there yet, handed back for later key="a/_SUCCESS"' in caplog.messages


def test_it_comes_back_again_and_again_until_all_is_there(stuck: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(waiting, "SHORTEST_DELAY", 1)
    for _ in range(4):  # more than MAX_RECEIVES
        stuck.run(impatient(stuck, 0.1).run())
        wait_until(lambda: stuck.standin.queue(QUEUE)["visible"] == 1, seconds=10)
    stuck.standin.restore(SOURCE, "a/ice")
    stuck.run_worker(**LAST)
    assert set(stuck.mirrored()) == {"a/_SUCCESS", "a/ice"}
    assert stuck.is_empty()
    assert stuck.standin.messages(DEAD_LETTERS) == []


@pytest.mark.parametrize(
    ("age", "level", "delay"), [(0, "INFO", 5), (400, "INFO", 100), (4000, "WARNING", None), (None, "INFO", 60)]
)
def test_the_older_it_is_the_later_it_comes_back(stuck: World, caplog, monkeypatch, age, level, delay):
    caplog.set_level("INFO")
    body = json.loads(stuck.standin.messages(QUEUE)[0]["body"])
    for record in body["Records"]:
        moment = time.gmtime(time.time() - (age or 0))
        record["eventTime"] = None if age is None else time.strftime("%Y-%m-%dT%H:%M:%S.000Z", moment)
    forget_messages(stuck)
    stuck.standin.send(QUEUE, json.dumps(body))
    running = impatient(stuck)
    delays = []
    send = running.leases.queue.send

    async def noted(text: str, seconds: int = 0, group: str = "") -> None:
        delays.append(seconds)
        await send(text, seconds, group)

    monkeypatch.setattr(running.leases.queue, "send", noted)
    stuck.run(running.run())
    if delay is None:  # in the next round, at a multiple of a quarter of an hour
        assert (time.time() + delays[0]) % 900 < 60 or delays == [900]
    else:
        assert delays == [pytest.approx(delay, abs=2)]
    levels = [record.levelname for record in caplog.records if "waits for" in record.getMessage()]
    assert levels == ["INFO", level]


def since_of(message: dict[str, Any]) -> float:
    return json.loads(message["body"])["sync"]["since"]


def test_it_remembers_since_when_it_waits(stuck: World, caplog, monkeypatch: pytest.MonkeyPatch):
    """Messages of 1.1.0 do not say so: theirs begins now."""
    caplog.set_level("INFO")
    monkeypatch.setattr(waiting, "SHORTEST_DELAY", 1)
    before = time.time()
    stuck.run(impatient(stuck, 0.1).run())
    [message] = stuck.standin.messages(QUEUE)
    since = since_of(message)
    assert before <= since <= time.time()
    wait_until(lambda: stuck.standin.queue(QUEUE)["visible"] == 1)
    stuck.run(impatient(stuck, 0.1).run())
    [message] = stuck.standin.messages(QUEUE)
    assert since_of(message) == since
    told = time.strftime("since=%Y-%m-%dT%H:%M:%SZ", time.gmtime(since))
    lines = [line for line in caplog.messages if "waits for" in line]
    assert len(lines) >= 4
    assert all(line.endswith(told) for line in lines)


def test_a_marker_that_waits_for_too_long_is_parked_with_its_reason(
    stuck: World, caplog, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(waiting, "SHORTEST_DELAY", 1)
    stuck.run(impatient(stuck, 0.1).run())
    monkeypatch.setattr(bodies, "LONGEST_WAIT", time.time() - since_of(stuck.standin.messages(QUEUE)[0]))
    wait_until(lambda: stuck.standin.queue(QUEUE)["visible"] == 1)

    def is_parked() -> bool:
        stuck.run(impatient(stuck, 0.1).run())
        return not stuck.standin.messages(QUEUE)

    wait_until(is_parked)
    failures = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(failures) == 3
    why = r'error=Refused message="it waits for 1 keys since \S+Z, such as a/ice: archived"'
    assert re.fullmatch(f'failed key="a/_SUCCESS" attempt=3/3 {why}', failures[2])
    [parked] = stuck.standin.messages(DEAD_LETTERS)
    # Redriven it waits again from the beginning, though its body is what it was.
    forget_messages(stuck)
    stuck.standin.send(QUEUE, parked["body"])
    before = time.time()
    stuck.run(impatient(stuck, 0.1).run())
    [message] = stuck.standin.messages(QUEUE)
    assert (since_of(message) >= before, message["receive_count"]) == (True, 0)


def test_however_often_reconcile_finds_it_one_message_on_a_marker_is_left(
    stuck: World, monkeypatch: pytest.MonkeyPatch
):
    """The oldest, so that it is known since when it waits."""
    monkeypatch.setattr(waiting, "SHORTEST_DELAY", 1)
    stuck.run(impatient(stuck, 0.1).run())
    [message] = stuck.standin.messages(QUEUE)
    since = since_of(message)
    for number in range(12):
        stuck.put(f"a/x{number}")
    forget_messages(stuck)
    stuck.standin.send(QUEUE, message["body"])
    for _ in range(2):
        running = impatient(stuck)
        options = parse_arguments(["reconcile"])
        assert stuck.run(compare(running.buckets, running.leases.queue, options, Interruption(), print)) == 0
    assert {len(json.loads(found["body"])["Records"]) for found in messages_on(stuck, "_SUCCESS")} == {1}
    assert len(messages_on(stuck, "_SUCCESS")) == 3
    stuck.run(impatient(stuck).run())
    [left] = stuck.standin.messages(QUEUE)
    assert (since_of(left), "ObjectCreated" in left["body"]) == (since, True)
    stuck.standin.restore(SOURCE, "a/ice")
    stuck.run_worker(**LAST)
    assert stuck.is_equal()


def test_what_cannot_be_looked_at_is_told(world: World, caplog):
    caplog.set_level("INFO")
    world.standin.fault("HeadObject,GetObject", "error", status=403, code="AccessDenied", key="x", times=0)
    world.put("a/_SUCCESS")
    world.put("a/x")
    world.run(impatient(world).run())
    assert 'such as "a/x": trouble: operation=HeadObject error=AccessDenied' in caplog.text


def test_the_function_waits_for_a_moment_and_hands_back(stuck: World):
    function = Function(stuck, **LAST)
    report = function.invoke(60)
    assert counts(report)["handed_back"] == 1
    assert 4 < report["seconds"] < 45
    assert "a/_SUCCESS" not in stuck.mirrored()
    assert stuck.standin.queue(QUEUE)["delayed"] == 1
    assert function.status() == 0


def test_the_function_hands_back_at_its_deadline(stuck: World):
    patient = "from mirror import function as first_responder\nfirst_responder.PATIENCE = 60"
    report = Function(stuck, patient, **LAST).invoke(2)
    assert counts(report)["handed_back"] >= 1


def test_the_function_copies_a_marker_when_all_is_there(world: World):
    world.standin.record()
    world.standin.fault("CopyObject", "delay", seconds=1, key="x", times=0)
    world.put("a/_SUCCESS")
    world.put("a/x")
    Function(world, **LAST).invoke(20)
    assert world.is_equal()
    assert writes(world) == ["a/x", "a/_SUCCESS"]


def test_sigterm_hands_a_waiting_marker_back_at_once(stuck: World):
    process = stuck.start_worker(**LAST)
    wait_until(lambda: looks_at(stuck, "a/ice") > 2)
    begun = time.monotonic()
    output = stuck.stop_worker(process)
    assert time.monotonic() - begun < 15  # its patience is longer
    assert 'interrupted key="a/_SUCCESS"' in output
    assert [message["receive_count"] for message in stuck.standin.messages(QUEUE)] == [0]


# --- A marker that was deleted goes first -----------------------------------------------------------------------------


@pytest.fixture
def complete(world: World) -> World:
    """Two folders, one in the other, each with its marker; the queue is empty."""
    for key in ("a/x", "a/b/y", "a/b/_SUCCESS", "a/_SUCCESS"):
        world.put(key)
    world.run_worker(**LAST)
    assert world.is_equal()
    world.standin.record()
    return world


@pytest.mark.parametrize("change", ["overwritten", "deleted"])
def test_a_deleted_marker_goes_before_anything_of_its_folder_changes(complete: World, change: str):
    """Its own message has not come yet."""
    complete.standin.delete(SOURCE, "a/_SUCCESS")
    forget_messages(complete)
    if change == "overwritten":
        complete.put("a/b/y", 2000)
    else:
        complete.standin.delete(SOURCE, "a/b/y")
    output = complete.run_worker(**LAST)
    assert complete.is_equal()
    assert writes(complete) == ["a/_SUCCESS", "a/b/y"]
    assert 'removed first key="a/_SUCCESS" as the source has it no longer' in output


def test_the_outer_marker_goes_before_the_inner_one(complete: World):
    complete.standin.delete(SOURCE, "a/b/_SUCCESS")
    complete.standin.delete(SOURCE, "a/_SUCCESS")
    complete.run_worker(MAX_CONCURRENT_KEYS="1", **LAST)
    assert complete.is_equal()
    assert writes(complete) == ["a/_SUCCESS", "a/b/_SUCCESS"]


def test_a_marker_that_the_source_still_has_stays(complete: World):
    complete.put("a/x", 2000)
    output = complete.run_worker(**LAST)
    assert writes(complete) == ["a/x"]
    assert "removed first" not in output


def test_a_marker_that_is_created_again_meanwhile_is_looked_at_again(complete: World):
    """Alike and in the same second, so that the sync that its message began saw nothing to do."""
    body = hint_body(SOURCE, ["a/x"])
    marker = complete.standin.objects(SOURCE)["a/_SUCCESS"]
    complete.standin.delete(SOURCE, "a/_SUCCESS")
    complete.put("a/x", 2000)
    forget_messages(complete)
    complete.standin.send(QUEUE, body)
    complete.standin.fault("DeleteObject", "delay", seconds=3, times=1)
    process = complete.start_worker(**LAST)
    wait_until(lambda: complete.standin.requests("DeleteObject"))
    complete.standin.notify(SOURCE, DEAD_LETTERS)  # as the sync of an event of S3 would begin with a copy, and wait
    complete.put("a/_SUCCESS", etag=marker["etag"], modified=marker["modified"])
    complete.standin.send(QUEUE, hint_body(SOURCE, ["a/_SUCCESS"]))
    wait_until(lambda: not messages_on(complete, "a/_SUCCESS"), seconds=2)
    assert "a/_SUCCESS" in complete.mirrored()
    process.communicate(timeout=300)
    assert set(complete.mirrored()) == set(complete.standin.objects(SOURCE))


def test_a_marker_that_changed_meanwhile_is_not_removed(complete: World):
    """The condition of the delete refuses, and the sync begins again."""
    complete.standin.delete(SOURCE, "a/_SUCCESS")
    complete.put("a/x", 2000)
    complete.standin.fault("DeleteObject", "delay", seconds=1, times=1)
    process = complete.start_worker(**LAST)
    wait_until(lambda: complete.standin.requests("DeleteObject"))
    complete.standin.put(MIRROR, "a/_SUCCESS", 1)
    process.communicate(timeout=300)
    assert complete.is_equal()
    assert complete.is_empty()


@pytest.mark.parametrize("prefix", ["a/b/", "a/b/y"])
def test_a_marker_outside_of_the_prefix_is_left_alone(complete: World, prefix: str):
    complete.standin.delete(SOURCE, "a/_SUCCESS")
    complete.put("a/b/y", 2000)
    complete.run_worker(PREFIX_FILTER=prefix, **LAST)
    assert "a/_SUCCESS" in complete.mirrored()
    assert writes(complete) == ["a/b/y"]


# --- What it costs ----------------------------------------------------------------------------------------------------


def upload(world: World, files: int, folders: int) -> None:
    world.standin.put_many(SOURCE, [f"{number % folders:02}/{number}" for number in range(files)])
    for number in range(folders):
        world.put(f"{number:02}/_SUCCESS")


@pytest.mark.parametrize("copy_last", ["", " , "])
def test_without_markers_no_call_is_added(world: World, copy_last: str):
    upload(world, 60, 3)
    world.run_worker(COPY_LAST=copy_last, PROCESSES="1", MAX_CONCURRENT_KEYS="1")
    assert world.is_equal()
    calls = world.requests()
    # Until eight keys are known to be new, a process looks at the destination first.
    assert (calls["HeadObject"], calls["CopyObject"]) == (2 * 63 + 8, 63)
    assert calls["ListObjectsV2"] == 1  # of open_destination


def test_2000_files_in_20_folders_cost_few_calls_more(world: World, capsys):
    upload(world, 2000, 20)
    began = time.monotonic()
    world.run_worker(**LAST)
    seconds = time.monotonic() - began
    assert world.is_equal()
    extra = world.requests()["HeadObject"] - 2 * 2020
    with capsys.disabled():
        print(f"\n{extra / 2000:.2f} HEADs more a file, {world.requests()['ListObjectsV2']} listings, {seconds:.1f} s")
    assert extra < 1.5 * 2000


def test_files_beside_a_marker_that_stays_look_for_it_together(complete: World):
    for number in range(200):
        complete.put(f"a/new/{number}")
    complete.run_worker(**LAST)
    assert complete.is_equal()
    assert looks_at(complete, "a/_SUCCESS") < 250
    assert looks_at(complete, "a/new/_SUCCESS") < 10
