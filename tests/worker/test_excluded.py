"""What several prefixes and EXCLUDE leave out is not looked at, copied, deleted, announced or waited for."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from test_first_responder import Function
from test_wait import lacking, wait
from world import MIRROR, QUEUE, SOURCE, World, wait_until

import worker
from mirror.cli import log_first_line, parse_arguments
from mirror.queue.bodies import hint_body
from mirror.readers.completeness import Completeness
from mirror.settings import load_settings
from mirror.version import VERSION

LEFT = {"PREFIX_FILTER": "data/,models/v 1/", "EXCLUDE": "*.tmp,*/_temporary/*"}
WANTED = ["data/a", "data/b/c", "models/v 1/ä,b"]
UNWANTED = ["data/x.tmp", "data/_temporary/0/part", "models/v 1/y.tmp", "models/v 2/z", "models/v", "other", "Data/a"]
DAY = 86_400
LAST = {"COPY_LAST": "_SUCCESS"}


def record_of(key: str, bucket: str = SOURCE, name: str = "ObjectCreated:Put") -> dict[str, Any]:
    body: dict[str, Any] = json.loads(hint_body(bucket, [key]))
    return body["Records"][0] | {"eventSource": "aws:s3", "eventName": name}


def classic(keys: list[str]) -> list[str]:
    """One message, with one of another bucket, and one of a deletion, among them."""
    records = [record_of(key) for key in keys]
    records[1:1] = [record_of("data/a", "another"), record_of(UNWANTED[0], name="ObjectRemoved:Delete")]
    return [json.dumps({"Records": records})]


def of_bridge(keys: list[str]) -> list[str]:
    return [
        json.dumps({
            "source": "aws.s3",
            "detail-type": kind,
            "time": "2026-11-26T00:00:00Z",
            "detail": {"bucket": {"name": SOURCE}, "object": {"key": key}},
        })
        for key in keys
        for kind in ("Object Created", "Object Deleted")
    ]  # fmt: skip


def hints(keys: list[str]) -> list[str]:
    return [hint_body(SOURCE, keys, are_missing=are_missing) for are_missing in (False, True)]


def run_task(world: World, **settings: str) -> None:
    world.run_worker(**settings)


def run_function(world: World, **settings: str) -> None:
    assert Function(world, **settings).invoke(5)["status"] == 0


def quietly_put(world: World, keys: list[str]) -> None:
    """Without an event."""
    world.standin.notify(SOURCE, QUEUE, prefixes=[])
    for key in keys:
        world.put(key)


def looks(world: World) -> set[str]:
    """Keys that any request to S3 named, in either bucket."""
    return {call["key"] for call in world.standin.requests() if call["bucket"] and call["key"]}


def lists(world: World, bucket: str) -> list[str]:
    """The prefixes of listings, but for the look of a worker whether it may list the bucket."""
    calls = (call for call in world.standin.requests("ListObjectsV2") if call["bucket"] == bucket)
    return [call["query"]["prefix"] for call in calls if "prefix" in call["query"]]


# Events


@pytest.mark.parametrize("run", [run_task, run_function])
@pytest.mark.parametrize("bodies", [classic, of_bridge, hints])
def test_of_mixed_messages_only_what_is_wanted_is_looked_at(
    world: World, bodies: Callable[[list[str]], list[str]], run: Callable[..., None]
):
    quietly_put(world, WANTED + UNWANTED)
    for key in UNWANTED:
        world.standin.put(MIRROR, key, 7)
    for body in bodies(UNWANTED[:4] + WANTED + UNWANTED[4:]):
        world.standin.send(QUEUE, body)
    world.standin.record()
    run(world, **LEFT)
    assert world.is_empty()
    assert looks(world) == set(WANTED)
    held = world.mirrored()
    assert {key: held[key]["size"] for key in held} == dict.fromkeys(WANTED, 1024) | dict.fromkeys(UNWANTED, 7)


@pytest.mark.parametrize("run", [run_task, run_function])
def test_a_message_of_nothing_that_is_wanted_costs_no_request_to_s3(world: World, run: Callable[..., None]):
    for bodies in (classic, of_bridge, hints):
        for body in bodies(UNWANTED):
            world.standin.send(QUEUE, body)
    run(world, **LEFT)
    assert world.is_empty()
    assert set(world.requests()) <= {"ReceiveMessage", "DeleteMessageBatch", "DeleteMessage"}


def test_an_excluded_key_that_the_source_deletes_stays_in_the_destination(world: World):
    world.synced("data/a", "data/x.tmp", "old/a")
    for key in ("data/a", "data/x.tmp", "old/a"):
        world.standin.delete(SOURCE, key)
    world.run_worker(**LEFT)
    assert world.is_empty()
    assert set(world.mirrored()) == {"data/x.tmp", "old/a"}


def test_of_a_notification_for_each_prefix_each_key_comes_once(world: World):
    """By the filters that the scripts write; the worker leaves out the rest."""
    world.standin.notify(SOURCE, QUEUE, prefixes=["data/", "models/v+1/"])
    for key in WANTED + UNWANTED:
        world.put(key)
    sent = [json.loads(message["body"])["Records"] for message in world.standin.messages(QUEUE)]
    assert len(sent) == 6  # with three that EXCLUDE leaves out
    world.standin.record()
    world.run_worker(**LEFT)
    assert (set(world.mirrored()), looks(world)) == (set(WANTED), set(WANTED))


def test_what_is_excluded_is_not_announced(world: World):
    for key in WANTED + UNWANTED:
        world.put(key)
    world.standin.delete(SOURCE, UNWANTED[0])
    world.run_worker(**LEFT, ANNOUNCE="all")
    assert sorted(event["detail"]["key"] for event in world.standin.events()) == sorted(WANTED)


# A deployment from before these settings

RELEASE_1_0_0 = {
    "PREFIX_FILTER": "data/", "SRC_BUCKET_OWNER": "", "DST_BUCKET_OWNER": "", "MAX_RECEIVES": "3",
    "MULTIPART_THRESHOLD": "5368709120", "PART_SIZE": "67108864", "MAX_CONCURRENT_PARTS": "256",
    "MAX_CONCURRENT_KEYS": "256", "PROCESSES": "1", "S3_CLIENT": "boto3", "LOG_LEVEL": "INFO",
}  # fmt: skip


def test_a_worker_with_the_variables_of_1_0_0_leaves_nothing_out(world: World):
    world.put("data/x.tmp")
    world.put("data/old", modified=1)
    world.put("other")
    output = world.run_worker(**RELEASE_1_0_0)
    assert set(world.mirrored()) == {"data/x.tmp", "data/old"}
    assert f'syncing {SOURCE} to {MIRROR} prefix="data/" version={VERSION}\n' in output


def test_the_first_line_tells_what_is_left_out(world: World):
    output = world.run_worker(**LEFT, KEEP_DAYS="30")
    told = 'prefix="data/,models/v 1/" exclude="*.tmp,*/_temporary/*" keep_days=30 version='
    assert told in output.splitlines(keepends=True)[0]


@pytest.mark.parametrize(
    ("arguments", "first_line"),
    [
        ([], 'syncing source to mirror prefix="data/"'),
        (["reconcile"], 'comparing source with mirror prefix="data/"'),
        (["reconcile", "--dry-run", "--prefix", "data/a"], 'comparing source with mirror prefix="data/a"'),
        (["wait", "--prefix", "data/b/"], 'waiting until source is in mirror prefix="data/b/"'),
        (["measure"], 'measuring source and mirror prefix="data/"'),
    ],
)
def test_the_first_line_says_what_is_done_with_which_keys(world: World, caplog, arguments: list[str], first_line: str):
    caplog.set_level("INFO")
    settings = load_settings(world.environment(PREFIX_FILTER="data/"))
    log_first_line(settings, parse_arguments(arguments))
    assert caplog.messages == [first_line.replace("mirror", MIRROR) + f" version={VERSION}"]


# Markers


@pytest.mark.parametrize("where", [SOURCE, MIRROR])
def test_an_excluded_key_does_not_hold_a_marker(world: World, where: str):
    """Neither one that only the source has, nor one that only the destination has."""
    world.put("data/_SUCCESS")
    world.standin.put(where, "data/x.tmp")
    world.run_worker(**LAST, EXCLUDE="*.tmp")
    assert "data/_SUCCESS" in world.mirrored()


def test_a_key_that_is_not_excluded_holds_it(world: World):
    world.put("data/_SUCCESS")
    quietly_put(world, ["data/x.tmp", "data/x.tmp.gz"])
    world.standin.record()
    process = world.start_worker(**LAST, EXCLUDE="*.tmp")
    wait_until(lambda: len([call for call in world.standin.requests("HeadObject") if "gz" in call["key"]]) > 1)
    output = world.stop_worker(process)
    assert world.mirrored() == {}
    assert 'marker key="data/_SUCCESS" waits for 1 keys under "data/", such as "data/x.tmp.gz"' in output


def test_an_excluded_marker_is_none(world: World):
    """The source has it no longer, and yet it does not go before other keys change."""
    world.synced("data/_SUCCESS", "data/a")
    world.standin.delete(SOURCE, "data/_SUCCESS")
    world.put("data/a", 2048)
    world.standin.record()
    world.run_worker(**LAST, EXCLUDE="*_SUCCESS")
    assert looks(world) == {"data/a"}
    assert set(world.mirrored()) == {"data/_SUCCESS", "data/a"}


def test_a_marker_announces_what_several_prefixes_take_of_its_folder(world: World):
    """Nothing beside them is listed in the source, or waited for."""
    prefixes = "data/a/,data/b,data/_SUCCESS,else/"
    for key in ("data/_SUCCESS", "data/a/1", "data/b2", "data/b/3"):
        world.put(key)
    quietly_put(world, ["data/c/not synced", "data/aa", "else/lacks"])
    world.standin.latency("CopyObject", ms=300)
    world.standin.record()
    world.run_worker(**LAST, PREFIX_FILTER=prefixes)
    copies = [call["key"] for call in world.standin.requests("CopyObject")]
    assert (sorted(copies[:3]), copies[3:]) == (["data/a/1", "data/b/3", "data/b2"], ["data/_SUCCESS"])
    assert set(lists(world, SOURCE)) == {"data/_SUCCESS", "data/a/", "data/b", "data/b/"}
    assert set(lists(world, MIRROR)) == {"data/", "data/a/", "data/b/"}


# Waiting


def test_wait_counts_what_is_wanted_only(world: World):
    world.synced(*WANTED)
    quietly_put(world, UNWANTED)
    for key in UNWANTED:
        world.standin.put(MIRROR, f"{key}.tmp")
    world.standin.record()
    run = wait(world, "--exact", **LEFT)
    found = {name: run.numbers("waited")[name] for name in ("keys", "bytes", "here", "lacking", "only_in_destination")}
    assert (run.status, found) == (0, {"keys": 3, "bytes": 3072, "here": 3, "lacking": 0, "only_in_destination": 0})
    assert 'complete: 3 keys of the source under "data/,models/v 1/"' in run.output
    assert set(lists(world, SOURCE)) == {"data/", "models/v 1/"}


@pytest.mark.parametrize(
    ("prefix", "keys", "left"),
    [("", 4, {"data/new"}), ("data/b/", 1, set()), ("models/", 1, set()), ("data/n", 1, {"data/new"})],
)
def test_wait_with_a_prefix_of_several(world: World, prefix: str, keys: int, left: set[str]):
    world.synced(*WANTED)
    quietly_put(world, ["data/new", "data/new.tmp", "models/v 2/new"])
    run = wait(world, "--timeout", "1s", *(["--prefix", prefix] if prefix else []), **LEFT)
    assert (run.status, run.numbers("waited")["keys"], set(lacking(run))) == (int(bool(left)), keys, left)
    assert run.numbers("waited")["only_in_destination"] == 0


def test_wait_with_a_prefix_outside_of_all_reads_nothing(world: World):
    run = wait(world, "--prefix", "models/v 2/", **LEFT)
    assert (run.status, world.requests()) == (2, {})
    assert '--prefix "models/v 2/" has to begin with PREFIX_FILTER, "data/,models/v 1/"' in run.output


def test_what_has_expired_is_told_and_not_waited_for(world: World):
    world.synced("data/a")
    quietly_put(world, ["data/new"])
    for key, where in (("data/never copied", SOURCE), ("data/copied", SOURCE), ("data/copied", MIRROR)):
        world.standin.put(where, key, 5000, modified=int(time.time()) - 9 * DAY)
    run = wait(world, "--timeout", "1s", KEEP_DAYS="7")
    found = {name: run.numbers("waited")[name] for name in ("keys", "bytes", "here", "lacking", "expired")}
    assert (run.status, found) == (1, {"keys": 2, "bytes": 2048, "here": 1, "lacking": 1, "expired": 2})
    assert set(lacking(run)) == {"data/new"}
    assert "not waited for: 2 keys that have not changed for more than KEEP_DAYS\n" in run.output
    assert "           2 expired     unchanged in the source for more than KEEP_DAYS: not waited for\n" in run.output
    as_json = wait(world, "--timeout", "1s", "--json", "--exact", KEEP_DAYS="7")
    assert json.loads(as_json.output)["expired"] == 2


def test_if_all_has_expired_the_prefix_is_not_doubted(world: World):
    world.standin.put(SOURCE, "data/old", modified=int(time.time()) - 9 * DAY)
    run = wait(world, KEEP_DAYS="7")
    assert run.status == 0
    assert "is --prefix right" not in run.output


def test_what_expires_while_it_is_waited_for_is_waited_for_no_longer(world: World):
    world.standin.put(SOURCE, "data/old", modified=10 * DAY + 5)
    buckets = world.worker(KEEP_DAYS="7").buckets
    state = Completeness(buckets, ("data/",), exact=True)
    lacking = []
    for now in (18 * DAY - 1, 18 * DAY):
        buckets.wall, state.source_look_at = (lambda now=now: now), -math.inf
        world.run(state.look() if lacking else state.compare())
        lacking.append(set(state.missing))
    assert lacking == [{"data/old"}, set()]


# Requests


def test_reconcile_lists_each_prefix_and_each_folder_once(world: World):
    """20 prefixes in two folders, whose keys the source has in as many pages, and the destination in three."""
    prefixes = [f"data/{letter}" for letter in "abcdefghijklmnopqrs"] + ["other/"]
    keys = [f"{prefix}{number:03}" for prefix in prefixes for number in range(120)]
    world.standin.notify(SOURCE, QUEUE, prefixes=[])
    world.standin.put_many(SOURCE, [*keys, "data/z", "elsewhere/a"], 10)
    world.standin.mirror_many(SOURCE, MIRROR)
    world.standin.record()
    done = subprocess.run(
        [sys.executable, worker.__file__, "reconcile"],
        env=world.environment(PREFIX_FILTER=",".join(prefixes), EXCLUDE="*.tmp"),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, "2400 keys of the source compared" in done.stdout) == (0, True), done.stdout
    assert sorted(lists(world, SOURCE)) == sorted(prefixes)
    assert sorted(lists(world, MIRROR)) == ["data/"] * 3 + ["other/"]
    assert "HeadObject" not in world.requests()
