"""Which keys are markers, and ANNOUNCE with a real worker. Whether events are true: tests/protocol/test_options.py."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError
from fakes import ENVIRONMENT
from invocations import LastingClient
from world import MIRROR, SOURCE, World

from mirror.model.selection import is_marker
from mirror.options import options_for
from mirror.options.announcer import events_of
from mirror.protocol.attempt import KeySync, Result, Sight
from mirror.protocol.buckets import Buckets
from mirror.protocol.verdict import ABSENT, EQUAL
from mirror.queue.option import Option, methods
from mirror.settings import load_settings


@pytest.mark.parametrize(
    ("copy_last", "markers", "others"),
    [
        ("_SUCCESS", ["_SUCCESS", "a/_SUCCESS", "a/b/_SUCCESS"], ["a/_success", "a/_SUCCESS/b", "a/x_SUCCESS"]),
        ("*.done", ["x.done", "a/x.done", "a/.done"], ["a.done/x", "x.DONE", "x.done.tmp"]),
        ("part-[0-9].ok", ["a/part-1.ok"], ["a/part-x.ok", "part-10.ok"]),
        (" _SUCCESS , ,*.done,", ["_SUCCESS", "x.done"], ["", " _SUCCESS ", "x"]),
        ("", [], ["", "a", "a/"]),
    ],
)
def test_what_is_a_marker(copy_last: str, markers: list[str], others: list[str]):
    assert [key for key in markers + others if is_marker(key, copy_last)] == markers


@pytest.mark.parametrize(
    ("copy_last", "prefix", "key", "above"),
    [
        ("_SUCCESS", "", "a/b/c", ["_SUCCESS", "a/_SUCCESS", "a/b/_SUCCESS"]),
        ("_SUCCESS", "a/", "a/b/c", ["a/_SUCCESS", "a/b/_SUCCESS"]),
        ("_SUCCESS,_DONE", "", "a/_SUCCESS", ["_SUCCESS", "_DONE", "a/_DONE"]),
        ("a/*/X,X", "", "a/b/c/", ["X", "a/X", "a/b/X", "a/b/c/X"]),
        ("*.done,X*,[ab]", "", "a/b/c", []),
        ("left,X", "", "a/b", ["X", "a/X"]),  # which EXCLUDE leaves out
    ],
)
def test_the_markers_that_may_announce_a_key_are_looked_for_before_it_changes(
    copy_last: str, prefix: str, key: str, above: list[str]
):
    looked_for: list[str] = []

    async def answer(_operation: str, arguments: dict[str, Any]) -> None:
        looked_for.append(arguments["Key"])
        raise ClientError({"Error": {"Code": "404"}}, "HeadObject")

    given = {"COPY_LAST": copy_last, "PREFIX_FILTER": prefix, "EXCLUDE": "*left"}
    buckets = Buckets(load_settings(ENVIRONMENT | given), LastingClient(answer))
    [before_write] = methods(options_for(buckets), Option.before_write)
    asyncio.run(before_write(KeySync(key)))
    assert looked_for == above


ALL = {"ANNOUNCE": "all"}


def test_each_key_is_told_once_it_is_there_and_what_is_refused_is_sent_again_alone(world: World):
    world.standin.look_at_events(MIRROR)
    world.standin.refuse_events('"key": "b ü"', times=2)
    world.standin.record()
    for key in ("a", "b ü"):
        world.put(key, 1000)
    output = world.run_worker(**ALL)
    assert "objects/s=" in output and " announced=2 unannounced=0 busy=" in output
    for event in world.standin.events():
        detail = event["detail"]
        assert (event["source"], event["detail_type"]) == ("s3-to-s3express-sync", "Object Synced")
        assert (detail["bucket"], detail["source-bucket"], detail["size"]) == (MIRROR, SOURCE, 1000)
        assert event["here"].split(" ")[0] == detail["source-version"]["etag"]
    sent = [json.loads(request["body"])["Entries"] for request in world.standin.requests("PutEvents")]
    keys = [sorted(json.loads(entry["Detail"])["key"] for entry in entries) for entries in sent]
    assert keys == [["a", "b ü"], ["b ü"], ["b ü"]]


@pytest.mark.parametrize(
    ("action", "is_there", "expected"),
    [
        ("copied", False, "deleted"),  # another worker deleted it
        ("deleted", True, "copied"),  # another worker copied it again
        ("skipped", True, "skipped"),
    ],
)
def test_the_action_is_what_leads_to_what_is_there_now(action: str, is_there: bool, expected: str):
    source = SimpleNamespace(size=5, identity="etag 2026-01-01T00:00:00Z 5 null digest") if is_there else None
    end = EQUAL if is_there else ABSENT
    sync = KeySync("k", result=Result(action=action, end=end, size=7, sight=Sight(source)))
    (event,) = events_of(load_settings(ENVIRONMENT | ALL), sync)
    detail = json.loads(event.detail)
    assert (detail["action"], detail["size"]) == (expected, 5 if is_there else 0)
    assert (detail["source-version"] is not None) == is_there
