"""Whole workers with options, on a clock of their own: random days with an oracle, and what settings leave out."""

from __future__ import annotations

import asyncio
import functools
import random
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from fakes import NIGHTLY, WRITES, Copy, Store, Version
from histories import NOT_OURS
from options_world import ALL, BAD, FILES, LAST, MARKERS, OptionsWorld, Trouble
from tasks import Task
from test_metrics import metrics_in

from mirror.queue.messages import OF_MISSING, hint_body

pytestmark = pytest.mark.fast
SEEDS = range(1000 if NIGHTLY else 60)
THEIRS = Copy('"d0"', NOT_OURS, "label", "", 0)


def troubles(chance: random.Random) -> Trouble:
    """Of a bus, at random."""

    async def trouble(entries: list[dict[str, Any]]) -> dict[str, Any] | None:
        what = chance.choice(["", "", "slow", "hangs", "denied", "some", "empty", "far"])
        if what in ("slow", "hangs"):
            await asyncio.sleep(0.65 if what == "slow" else 3600)
        if what == "denied":
            raise ClientError({"Error": {"Code": "AccessDeniedException"}}, "PutEvents")
        if what == "far":
            raise EndpointConnectionError(endpoint_url="https://events")
        if what == "some":
            taken = [chance.random() < 0.5 for _ in entries]
            return {"Entries": [{"EventId": "1"} if one else {"ErrorCode": "InternalFailure"} for one in taken]}
        return {} if what == "empty" else None

    return trouble


async def takes_half_a_second(_entries: list[dict[str, Any]]) -> None:
    await asyncio.sleep(0.45)


class Day:
    """Changes, tasks and troubles at random; what must hold after each task, and in the end."""

    def __init__(self, seed: int, log: pytest.LogCaptureFixture) -> None:
        self.chance, self.world, self.log = random.Random(seed), OptionsWorld(), log
        self.world.stores["data/_SUCCESS"] = Store(THEIRS)  # above all keys, and the source never has it
        self.announce = self.chance.choice(["all", "markers", "all,failures", "failures"])
        self.environment = LAST | {"ANNOUNCE": self.announce, "METRICS": "true", "APP_NAME": "second-sync"}
        self.is_calm = self.chance.random() < 0.5
        calm = self.chance.choice([None, takes_half_a_second])
        self.world.trouble = calm if self.is_calm else troubles(self.chance)
        self.world.is_versioned, self.world.ahead = self.chance.random() < 0.5, self.chance.choice([0, 4])
        # In every other day much happens to few keys within seconds, and none is denied.
        self.is_dense = self.chance.random() < 0.5
        self.denied = self.chance.choice(["", *FILES]) if not self.is_dense else ""  # a key, until the end
        self.is_denied = True
        self.denied_call = self.chance.choice(["copy_object", "head_object"])
        self.aborts = self.chance.choice([0.0, 0.2])  # so often S3 refuses a write for another one
        self.deny_bad, self.world.denies = self.world.denies, self.refusal
        files, markers, bad = (FILES[1:3], MARKERS[:1], ()) if self.is_dense else (FILES, MARKERS, (BAD,))
        self.keys = [*files, *files, *markers, *markers, *bad]
        self.was_killed = False

    def run(self) -> None:
        for _ in range(self.chance.randint(1, 5)):
            for _ in range(self.chance.randint(1, 12)):
                self.change()
            self.live()
            self.world.pass_time(self.chance.choice([0, 2000]))  # after which listings decide more
        self.aborts, self.is_denied, self.world.trouble = 0.0, False, None
        for _ in range(2):
            self.redrive_and_live()
            self.world.settle(self.redrive_and_live)
        self.check()

    def redrive_and_live(self) -> None:
        """What was denied before, as markers wait for it."""
        queue = self.world.queue
        for message in [message for message in queue.dead if self.denied in message.named()]:
            queue.parked.remove(message)
            queue.put(message.body)
        self.live(at_ease=True)

    def refusal(self, operation: str, key: str) -> str:
        if operation in WRITES and self.chance.random() < self.aborts:
            return "OperationAborted" if self.chance.random() < 0.5 else "ConditionalRequestConflict"
        is_denied = self.is_denied and (operation, key) == (self.denied_call, self.denied)
        return "AccessDenied" if is_denied else self.deny_bad(operation, key)

    def job(self) -> list[tuple[float, Callable[[], None]]]:
        """A file changes twice within seconds, and then its marker: a copy of the file in between is not enough."""
        file, begin = self.chance.choice(self.keys), 100 * self.chance.random()
        moments = sorted(begin + 4 * self.chance.random() for _ in range(3))
        does = [(file, "put"), (file, self.chance.choice(["put", "roll-back"])), (MARKERS[0], "put")]
        return [(moment, functools.partial(self.change, *what)) for moment, what in zip(moments, does, strict=True)]

    def change(self, key: str = "", change: str = "") -> None:
        key = key or self.chance.choice(self.keys)
        change = change or self.chance.choice(["put", "put", "delete", "roll-back"])
        if change == "put" or key in self.world.versions:
            self.world.change(key, change, self.chance.choice((0, 0, 0, 9)), self.chance.choice((1, 1, 2)))

    def live(self, at_ease: bool = False) -> None:
        chance, world = self.chance, self.world
        world.wait()
        task = Task(
            world,
            self.environment,
            lambda operation, _key: chance.random() * (3 if "copy" in operation or chance.random() < 0.2 else 0.2),
            world,
        )
        task.shares = iter(chance.random, None)
        task.listings = iter(lambda: chance.choice([0, 0, 0.5, 3.0]), None)
        seconds, most = (8, 9) if self.is_dense else (40, 6)
        changes = 0 if at_ease else chance.randint(0, most)
        meanwhile = [(chance.random() * seconds, self.change) for _ in range(changes)]
        if self.is_dense and not at_ease:
            meanwhile += [change for _ in range(chance.randint(2, 8)) for change in self.job()]
        ends = ["itself", "SIGTERM", "SIGKILL", *["itself"] * 3 * self.is_dense]
        end = chance.choice(ends) if not at_ease else "itself"
        if end == "SIGKILL":
            meanwhile.append((chance.random() * 20, task.die))
            self.was_killed = True
        self.log.clear()
        heard = sum(map(len, world.events.values())) + len(world.failures)
        task.live(chance.random() * 20 if end == "SIGTERM" else None, meanwhile)
        if not task.was_killed:
            self.check_life(task, sum(map(len, world.events.values())) + len(world.failures) - heard)

    def check_life(self, task: Task, heard: int) -> None:
        counts = task.worker.counts()
        failed = {key for line in self.log.messages for key in re.findall(r'^failed key="([^"]+)"', line)}
        assert failed <= {BAD, self.denied}
        unsaid = [
            int(one[1]) for line in self.log.messages if (one := re.match(r"could not announce (\d+) keys", line))
        ]
        assert sum(unsaid) == counts["unannounced"]
        assert counts["announced"] == heard if self.is_calm else counts["announced"] <= heard
        assert not (self.is_calm and unsaid)
        lines, sums = metrics_in("\n".join(task.lines), self.world.clock), Counter[str]()
        for line in lines:
            sums.update({name: sum(value) if isinstance(value, list) else value for name, value in line.items()})
            assert any(value for name, value in line.items())
        assert (sums["CopiedKeys"], sums["DeletedKeys"]) == (counts["copied"], counts["deleted"])
        assert (sums["FailedKeys"], sums["CopiedBytes"]) == (counts["failed"], counts["bytes"])
        lags = [  # not of messages of ours, whose time is another clock's
            float(lag)
            for line in self.log.messages
            for lag in re.findall(r"action=(?:copied|deleted) .* lag=(\d\S*)$", line)
        ]
        assert (sums["Keys"], sums["LateKeys"]) == (len(lags), sum(lag > 900 for lag in lags))
        assert sums["Lag"] == pytest.approx(sum(lags), abs=0.2 * len(lags) + 0.01)

    def check(self) -> None:
        world = self.world
        assert world.faults == []
        assert [line for line in world.differences() if not line.startswith(BAD)] == []
        parked = {key for message in world.queue.dead for key in message.named()}
        assert parked <= {BAD} or self.was_killed
        assert not world.queue.messages
        told = MARKERS if "markers" in self.announce else (*FILES, *MARKERS) if "all" in self.announce else ()
        assert set(world.events) <= {*told, *([BAD] if "all" in self.announce else [])}
        for key in told:
            if key in world.changed_at and key not in parked and self.is_calm:
                version = world.versions.get(key)
                assert world.events[key][-1] == (version.content if version else None), key
        if "failures" in self.announce and self.is_calm and not self.was_killed:
            assert {failure["key"] for failure in world.failures} - {self.denied} == parked
        codes = {BAD: "KMS.Disabled", self.denied: "AccessDenied"}
        assert all(codes[failure["key"]] in failure["reason"] for failure in world.failures)
        assert "failures" in self.announce or not world.failures


def test_whatever_happens_markers_come_last_and_events_and_figures_are_true(caplog) -> None:
    caplog.set_level("INFO", "worker")
    for seed in SEEDS:
        day = Day(seed, caplog)
        try:
            day.run()
        except BaseException as error:
            error.add_note(f"seed {seed}: {day.environment}, calm: {day.is_calm}, killed: {day.was_killed}")
            raise


@pytest.fixture
def world() -> OptionsWorld:
    return OptionsWorld()


LEFT = {"PREFIX_FILTER": "data/,models/v 1/", "EXCLUDE": "*.tmp,*/_temporary/*"}
WANTED = ["data/a", "data/b/c", "models/v 1/ä+b,c"]
UNWANTED = ["data/x.tmp", "data/_temporary/0/part", "models/v 1/y.tmp", "models/v 2/z", "models/v", "other", "Data/a"]


def test_what_is_left_out_of_messages_of_all_kinds_is_neither_looked_at_nor_told(world):
    """In events, deletions and messages of ours, also beside keys that are wanted."""
    for key in UNWANTED:
        world.hold(key, Version("x", 1, 1))
        world.stores[key] = Store(THEIRS)
        world.change(key, "delete")
    world.change("data/x.tmp", "put")
    world.look(UNWANTED[:3] + WANTED + UNWANTED[3:])
    world.queue.put(hint_body("source", UNWANTED, OF_MISSING))
    for key in WANTED:
        world.change(key, "put")
    assert 2 * len(WANTED) <= world.live(**LEFT, **ALL).asked["head_object"] < 4 * len(WANTED)
    assert (set(world.events), world.queue.messages) == (set(WANTED), [])
    held = {key: store.copy for key, store in world.stores.items()}
    assert {key: held[key] for key in UNWANTED} == dict.fromkeys(UNWANTED, THEIRS)
    assert held.keys() >= set(WANTED)


def test_nothing_changes_that_a_marker_announces_while_nobody_can_look_at_it(world):
    marker = MARKERS[0]
    for key in (*FILES, marker):
        world.change(key, "put")
    world.live(**LAST)
    before = {key: store.copy for key, store in world.stores.items()}
    world.change(marker, "delete")
    for key in FILES:
        world.change(key, "put")
    world.denies = lambda operation, key: "AccessDenied" if (operation, key) == ("head_object", marker) else ""
    world.live(**LAST)
    same = {key for key, copy in before.items() if copy and world.stores[key].copy is copy}
    assert (same, world.faults) == ({key for key in (*FILES, marker) if key.startswith("data/d/")}, [])
