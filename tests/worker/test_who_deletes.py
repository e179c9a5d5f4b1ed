"""Who may delete in the destination, and what: every way on the stand-in, with objects of three kinds.

The list is in docs/design.md, "Who may delete in the destination".
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from world import MIRROR, QUEUE, SOURCE, WORKER, World

from mirror.queue.messages import OF_GHOST, hint_body

DAY = 86_400
OURS, FOREIGN, UNMARKED = "ours", "foreign", "unmarked"
KINDS = {
    OURS: {"metadata": {"sync-source": "d41d8cd98f00b204e9800998ecf8427e 2026-01-01T00:00:00Z 7 null 0123456789ab"}},
    FOREIGN: {"metadata": {"written-by": "another tool"}},
    UNMARKED: {"metadata": {"name": "\u65e5\u672c"}},  # ours, of a source whose metadata cannot be sent back
}
COMMIT = "_delta_log/{:020}.json"
ALL, ONLY_OURS = {OURS, FOREIGN, UNMARKED}, {OURS}


class Way(NamedTuple):
    """Each kind has a folder of its own. `begin` is called with the world and that; `act` deletes, if it may."""

    goes: set[str]  # the kinds that are deleted
    act: Callable[[World], str]  # returns the log
    name: str = "a"
    begin: Callable[[World, str], None] = lambda _world, _folder: None
    said: str = ""  # of what stays, as the log says it once for each key


def keep_in_source(world: World, folder: str) -> None:
    world.put(f"{folder}a", size=7, modified=time.time() - 30 * DAY)


def put_and_delete(world: World, folder: str) -> None:
    world.put(f"{folder}a")
    world.standin.delete(SOURCE, f"{folder}a")


def put_file(world: World, folder: str) -> None:
    world.put(f"{folder}part-0")


def make_table(world: World, folder: str) -> None:
    """Of which a file is deleted, so that the log is looked at; the destination has another checkpoint, too."""
    commit = base64.b64encode(b'{"add": {"path": "f"}}').decode()
    world.put(f"{folder}f")
    world.standin.put(SOURCE, folder + COMMIT.format(0), data=commit)
    world.standin.put(MIRROR, folder + COMMIT.format(0), data=commit)
    checkpoint = folder + COMMIT.format(1).replace("json", "checkpoint.parquet")
    world.standin.put(MIRROR, checkpoint, 7, **KINDS[folder[:-1]])
    put_and_delete(world, folder)


def work(**settings: str) -> Callable[[World], str]:
    return lambda world: world.run_worker(**settings)


def ask_for_ghosts(world: World) -> str:
    """As reconcile has found copies of ours under all keys, and others wrote some of them since."""
    world.standin.send(QUEUE, hint_body(SOURCE, [f"{kind}/a" for kind in KINDS], OF_GHOST))
    return world.run_worker()


def reconcile(*options: str, **settings: str) -> Callable[[World], str]:
    def act(world: World) -> str:
        output, _ = world.start(WORKER, "reconcile", *options, **settings).communicate(timeout=300)
        return output + world.run_worker(**settings)

    return act


def let_lifecycle_run(world: World) -> str:
    rule = {"ID": "old", "Status": "Enabled", "Filter": {}, "Expiration": {"Days": 7}}
    world.standin.lifecycle(MIRROR, [rule])
    world.standin.clock(time.time() + 9 * DAY)
    world.standin.run_lifecycle(MIRROR)
    world.standin.clock(None)
    return ""


UNWANTED = "--remove-unwanted"
EXCLUDED, KEPT = {"EXCLUDE": "*/a"}, {"KEEP_DAYS": "7"}
WAYS = {
    "an event of the key": Way(ALL, work(), begin=put_and_delete),
    "reconcile": Way(ONLY_OURS, reconcile()),
    "a message of reconcile on a ghost": Way(ONLY_OURS, ask_for_ghosts, said="only an event of its key or"),
    "--remove-foreign": Way(ALL, reconcile("--remove-foreign")),
    "--remove-unwanted, excluded": Way(ONLY_OURS, reconcile(UNWANTED, **EXCLUDED)),
    "--remove-unwanted, excluded, in the source": Way(ONLY_OURS, reconcile(UNWANTED, **EXCLUDED), begin=keep_in_source),
    "--remove-unwanted, expired": Way(ONLY_OURS, reconcile(UNWANTED, **KEPT), begin=keep_in_source),
    "both options": Way(ALL, reconcile(UNWANTED, "--remove-foreign", **EXCLUDED), begin=keep_in_source),
    "COPY_LAST": Way(ONLY_OURS, work(COPY_LAST="_SUCCESS"), "_SUCCESS", put_file, "readers that go by this marker"),
    "TABLES": Way(ONLY_OURS, work(TABLES="delta"), COMMIT.format(1), make_table, "readers of the table see what it"),
    "the lifecycle of KEEP_DAYS": Way(ALL, let_lifecycle_run),
}


@pytest.mark.parametrize("name", WAYS)
def test_only_what_is_ours_is_deleted_unless_an_event_or_an_operator_names_it(world: World, name: str) -> None:
    way = WAYS[name]
    world.standin.shorten_empty_polls(0.05)
    for kind, fields in KINDS.items():
        world.standin.put(MIRROR, f"{kind}/{way.name}", 7, **fields)
        way.begin(world, f"{kind}/")
    log = way.act(world)
    left: dict[str, Any] = world.mirrored()
    assert {kind for kind in KINDS if f"{kind}/{way.name}" not in left} == way.goes
    named = re.findall(r'WARNING foreign key="(\w+)/[^"]*" stays, because [^:]*: (.*)', log)
    if way.said:
        assert {kind for kind, _ in named} == ALL - way.goes
        assert all(why.startswith(way.said) for _, why in named)
    assert world.is_empty()
