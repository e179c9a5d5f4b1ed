"""What several prefixes and EXCLUDE leave out is not looked at, copied, deleted, announced or waited for."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from test_first_responder import Function
from world import MIRROR, QUEUE, SOURCE, World

import worker
from mirror.cli import log_first_line, parse_arguments
from mirror.queue.bodies import hint_body
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


def test_an_excluded_marker_is_none(world: World):
    """The source has it no longer, and yet it does not go before other keys change."""
    world.synced("data/_SUCCESS", "data/a")
    world.standin.delete(SOURCE, "data/_SUCCESS")
    world.put("data/a", 2048)
    world.standin.record()
    world.run_worker(**LAST, EXCLUDE="*_SUCCESS")
    assert looks(world) == {"data/a"}
    assert set(world.mirrored()) == {"data/_SUCCESS", "data/a"}


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
