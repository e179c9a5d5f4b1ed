"""COPY_LAST: a marker comes after what it announces, and goes before anything of it changes."""

from __future__ import annotations

import re
import threading
import time
from typing import Any

import pytest
from world import DEAD_LETTERS, MIRROR, QUEUE, SOURCE, World, wait_until

from mirror import markers
from mirror.limits import MIB
from mirror.markers import is_marker

LAST = {"COPY_LAST": "_SUCCESS"}
GIB = 1024 * MIB


def order(world: World) -> list[str]:
    """Keys in the order in which the destination got them."""
    calls = world.standin.requests()
    return [call["key"] for call in calls if call["operation"] in ("CopyObject", "DeleteObject")]


def test_smoke(world: World):
    world.standin.record()
    world.put("data/_SUCCESS")
    for number in range(200):
        world.put(f"data/{number:03}")
    output = world.run_worker(**LAST)
    print(output[-3000:])
    print(world.requests())
    assert world.is_equal()
    assert order(world)[-1] == "data/_SUCCESS"
    assert world.is_empty()
