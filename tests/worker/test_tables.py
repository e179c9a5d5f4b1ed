"""TABLES with real tables: deltalake writes them, two workers mirror them, a reader opens what the mirror shows."""

from __future__ import annotations

import base64
import json
import os
import random
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from account import python_with
from world import DEAD_LETTERS, MIRROR, QUEUE, SOURCE, wait_until

HERE = Path(__file__).parent
CHANGES = 300 if os.environ.get("NIGHTLY") == "1" else 30
CHANGES_BEFORE_KILL = 5
COPIED_ONTO_ITSELF = 8  # once in this many changes
LOOKS = 2  # after each change


class Deltalake:
    """tests/worker/delta_table.py in a process."""

    def __init__(self) -> None:
        python = python_with("deltalake", HERE / "tables-requirements.txt")
        command = [python, str(HERE / "delta_table.py")]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, *words: Any) -> Any:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(words) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


@pytest.fixture
def deltalake():
    running = Deltalake()
    yield running
    running.process.kill()
    running.process.communicate()


class Table:
    """A table that is written in a folder, and put into the source file by file, in the order of a writer."""

    def __init__(self, world: Any, deltalake: Deltalake, folder: Path) -> None:
        self.world, self.deltalake, self.folder = world, deltalake, folder
        self.put: dict[str, float] = {}  # file -> its time in the folder
        self.known: dict[int, list[Any]] = {}  # version -> its rows
        self.newest = -1  # version
        self.deltalake.ask("make", str(folder))
        self.carry_over()

    def change(self) -> str:
        what = str(self.deltalake.ask("change", str(self.folder)))
        assert not what.startswith("error"), what
        self.carry_over()
        return what

    def copy_onto_itself(self) -> None:
        """The log, as with another key for its encryption: the same bytes, and other ETags."""
        self.upload(name for name in self.put if name.startswith("_delta_log/"))

    def upload(self, names: Iterable[str]) -> None:
        for name in sorted(names, key=in_order_of_writing):
            data = base64.b64encode((self.folder / name).read_bytes()).decode()
            self.world.standin.put(SOURCE, f"t/{name}", data=data)

    def carry_over(self) -> None:
        paths = [path for path in self.folder.rglob("*") if path.is_file()]
        files = {str(path.relative_to(self.folder)): path.stat().st_mtime_ns for path in paths}
        new = [name for name in files if self.put.get(name) != files[name]]
        self.upload(new)
        commits = [int(name[-25:-5]) for name in new if is_commit(name)]
        self.newest = max([self.newest, *commits])
        for version in commits:
            found = self.deltalake.ask("content", str(self.folder), version)
            if isinstance(found, list) and not found[1]:
                self.known[version] = found[2:]
        for name in sorted(set(self.put) - set(files), key=in_order_of_writing, reverse=True):
            self.world.standin.delete(SOURCE, f"t/{name}")
        self.put = files


def is_commit(name: str) -> bool:
    return name.startswith("_delta_log/") and name.endswith(".json")


def in_order_of_writing(name: str) -> tuple[int, str]:
    is_log = name.startswith("_delta_log/")
    return is_log + (is_log and not is_commit(name)) + name.endswith("_last_checkpoint"), name


class Reader:
    """Opens what the mirror shows at one moment."""

    def __init__(self, table: Table, deltalake: Deltalake, folder: Path) -> None:
        self.table, self.deltalake, self.folder = table, deltalake, folder
        self.newest = self.told = -1
        self.looks: Counter[str] = Counter()
        self.faults: list[str] = []

    def has_news(self) -> bool:
        """Whether it has seen a newer version since it was asked the last time, or there is none."""
        if self.newest <= self.told:
            self.look()
        is_news, self.told = self.newest > self.told or self.newest == self.table.newest, self.newest
        return is_news

    def look(self) -> None:
        standin = self.table.world.standin
        mirrored = standin.read(MIRROR)  # first: what the source has then, it had all the time
        source = standin.read(SOURCE)
        if not any(is_commit(key.removeprefix("t/")) for key in mirrored):
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        for key, data in mirrored.items():
            path = self.folder / key.removeprefix("t/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(base64.b64decode(data))
        found = self.deltalake.ask("content", str(self.folder))
        self.looks["looks"] += 1
        if isinstance(found, str):
            logs = ([key for key in sorted(held) if key.startswith("t/_delta_log/")] for held in (mirrored, source))
            self.faults.append(f"{found} with the log {next(logs)} of {next(logs)}")
            return
        version, missing, *rows = found
        if version < self.newest:
            self.faults.append(f"version {version} after {self.newest}")
        self.looks["versions"] += version > self.newest
        self.newest = version
        if lacking := [name for name in missing if f"t{name}" in source]:
            self.faults.append(f"{lacking} of version {version} is missing")
        elif missing:
            self.looks["vacuumed before"] += 1
        elif version in self.table.known and rows != self.table.known[version]:
            self.faults.append(f"version {version} has {rows}, not {self.table.known[version]}")


def run(world: Any, deltalake: Deltalake, folder: Path, changes: int, **settings: str) -> tuple[Reader, Counter[str]]:
    """Two workers, of which one is killed again and again, while the table is written and the mirror is read."""
    world.build(max_receive_count=100)
    world.standin.notify(SOURCE, QUEUE, duplicate=0.1, max_delay=1.0, seed=1)
    world.standin.latency("CopyObject", ms=20, most_ms=600)
    settings |= {"MAX_RECEIVES": "100", "EMPTY_POLLS_BEFORE_EXIT": "1000", "LOG_LEVEL": "WARNING"}
    chance, done = random.Random(7), Counter[str]()
    table = Table(world, deltalake, folder / "written")
    reader = Reader(table, deltalake, folder / "read")
    workers = [world.start_worker(**settings) for _ in range(2)]
    for number in range(1, changes + 1):
        done[table.change()] += 1
        if number % COPIED_ONTO_ITSELF == 0:
            table.copy_onto_itself()
            done["copied onto itself"] += 1
        for _ in range(LOOKS):
            reader.look()
        if number % CHANGES_BEFORE_KILL == 0:
            wait_until(reader.has_news, 120)
            one = chance.randrange(2)
            world.stop_worker(workers[one], chance.choice([signal.SIGKILL, signal.SIGTERM]))
            workers[one] = world.start_worker(**settings)
            done["kills"] += 1
    wait_until(lambda: world.is_empty() or reader.look(), 120)
    reader.look()
    for process in workers:
        world.stop_worker(process)
    done["versions"] = max(table.known) + 1
    return reader, done


def test_a_reader_of_the_mirror_finds_every_version_whole_while_workers_are_killed(
    world, deltalake, tmp_path, record_property
):
    reader, done = run(world, deltalake, tmp_path, CHANGES, TABLES="delta")
    record_property("shown", f"real tables: {dict(done)}, {dict(reader.looks)}, {len(reader.faults)} faults")
    assert reader.faults == []
    assert reader.newest == done["versions"] - 1
    assert world.is_equal()
    assert world.standin.messages(DEAD_LETTERS) == []
    assert reader.looks["versions"] > 4  # one before each kill, whatever the machine is


def test_without_it_the_same_reader_finds_versions_that_are_not(world, deltalake, tmp_path, record_property):
    reader, done = run(world, deltalake, tmp_path, CHANGES // 2)
    record_property("shown", f"without TABLES: {dict(done)}, {dict(reader.looks)}, {len(reader.faults)} faults")
    assert reader.faults != []
    assert world.is_equal()
