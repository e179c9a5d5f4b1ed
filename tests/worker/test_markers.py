"""COPY_LAST: which keys are markers and what they announce, and a reader beside a real worker. When one comes or goes:
tests/protocol/test_readers.py; how long it waits: test_options.py."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
from fakes import ENVIRONMENT
from world import World

from mirror.model.limits import GIB
from mirror.model.selection import is_marker
from mirror.options.markers import markers_above
from mirror.settings import load_settings


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
        ("left,X", "", "a/b", ["X", "a/X"]),  # which EXCLUDE leaves out
        ("", "", "a/b/c", []),
    ],
)
def test_which_markers_may_announce_a_key(copy_last: str, prefix: str, key: str, above: list[str]):
    given = {"COPY_LAST": copy_last, "PREFIX_FILTER": prefix, "EXCLUDE": "*left"}
    assert list(markers_above(SimpleNamespace(settings=load_settings(ENVIRONMENT | given)), key)) == above


@pytest.mark.parametrize("copy_last", ["_SUCCESS", ""])
def test_a_reader_of_a_real_worker_sees_a_marker_only_when_all_it_announces_is_there(world: World, copy_last: str):
    """It comes first in the queue, and one of the others is large. Without COPY_LAST the reader sees that it is not."""
    world.standin.latency("CopyObject", ms=100)
    world.standin.latency("UploadPartCopy", ms=300)
    keys = {f"data/{number:03}" for number in range(199)} | {"data/large"}
    world.put("data/_SUCCESS")
    world.put("data/large", 6 * GIB)
    for key in sorted(keys - {"data/large"}):
        world.put(key)
    ended, seen = threading.Event(), list[set[str]]()

    def read() -> None:
        while not ended.is_set():
            seen.append(set(world.mirrored()))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        world.run_worker(COPY_LAST=copy_last)
    finally:
        ended.set()
        reader.join()
    assert world.is_equal()
    assert any("data/_SUCCESS" in some and not keys <= some for some in seen) == (not copy_last)
