"""ANNOUNCE with a real client: what reaches EventBridge. When it does, and what if it does not: test_options.py."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from test_first_responder import Function, counts
from world import MIRROR, SOURCE, World

from mirror.options.announcer import events_of
from mirror.protocol.attempt import KeySync, Result
from mirror.protocol.verdict import ABSENT, EQUAL
from mirror.settings import load_settings

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


def test_a_connection_that_died_in_the_frozen_function_is_not_used(world: World):
    world.put("a")
    function = Function(world, "from mirror import function\nfunction.IDLE_SECONDS = 0", **ALL)
    function.invoke(20)
    world.standin.freeze()
    world.put("b")
    report = function.invoke(20)
    assert counts(report) == {"copied": 1, "bytes": 1024, "announced": 1}
    assert report["seconds"] < 5


@pytest.mark.parametrize(
    ("action", "is_there", "expected"),
    [
        ("copied", True, "copied"),
        ("copied", False, "deleted"),  # another worker deleted it
        ("deleted", False, "deleted"),
        ("deleted", True, "copied"),  # another worker copied it again
        ("skipped", True, "skipped"),
        ("skipped", False, "skipped"),
    ],
)
def test_the_action_is_what_leads_to_what_is_there_now(world: World, action: str, is_there: bool, expected: str):
    source = SimpleNamespace(size=5, identity="etag 2026-01-01T00:00:00Z 5 null digest") if is_there else None
    end = EQUAL if is_there else ABSENT
    sync = KeySync("k", result=Result(action=action, end=end, size=7, sight=(source, None)))
    (event,) = events_of(load_settings(world.environment(**ALL)), sync)
    detail = json.loads(event.detail)
    assert (detail["action"], detail["size"]) == (expected, 5 if is_there else 0)
    assert (detail["source-version"] is not None) == is_there
