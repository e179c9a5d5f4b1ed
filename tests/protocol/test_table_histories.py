"""Random histories of two tables, one in the folder of the other, with whole tasks and a reader who opens both after
every write. A failing one shrinks.

A table may be dropped and made again, as in table_readers.py: then there is a time in which it cannot be opened, but
what can be opened is whole, and of one table only.
"""

import logging
import re
from dataclasses import dataclass, field

from fakes import LARGE, SMALL, WRITES, Copy, Store
from histories import NOT_OURS, World, bounds
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from table_readers import LOG
from tasks import Task

OUTER, INNER = "data/t/", "data/t/n/"
TABLES = st.sampled_from([OUTER, INNER])
DELAYS = st.sampled_from([0, 0, 5, 600])  # seconds until the event is in the queue
SIZES = st.sampled_from([SMALL, LARGE])
SECONDS = st.floats(0, 20)


@dataclass
class Writer:
    """What the writer of a table knows. It deletes a file only after a commit has removed that."""

    version: int = -1
    files: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    commits: list[int] = field(default_factory=list)  # that are in the log
    letter: str = "a"  # of the table: one that is made again has another


class Tables(World):
    """The world of histories.py with a reader of both tables."""

    def __init__(self) -> None:
        super().__init__()
        self.made_again: set[str] = set()  # tables
        self.dropped: set[str] = set()  # files that were deleted while the source's table could not be opened

    def check(self, key: str, before: Copy | None, after: Copy | None) -> None:
        super().check(key, before, after)
        table = INNER if key.startswith(INNER) else OUTER
        files, problem = self.read(table)
        gone = key.removeprefix(table) if before and not after else ""
        missing = [name for name in files if table + name in self.versions and not self.holds(table + name)]
        is_excused = table in self.made_again and problem.startswith("no ")
        if (problem and not is_excused) or missing or (gone in files and key not in self.dropped):
            self.faults.append(f"{key}: {problem or missing or gone} in {table}")

    def holds(self, key: str) -> str:
        """The content of a copy of ours."""
        copy = self.stores.get(key, Store()).copy
        return copy.content[0] if copy and copy.content != NOT_OURS else ""

    def read(self, table: str) -> tuple[set[str], str]:
        """The files of the newest version that can be seen, and why it cannot be opened."""
        prefix = table + LOG
        log = {key.removeprefix(prefix): self.holds(key) for key in self.stores if key.startswith(prefix)}
        commits = {int(name[:20]): text for name, text in log.items() if text and name.endswith(".json")}
        checkpoints = {int(name[:20]): text for name, text in log.items() if text and name.endswith(".parquet")}
        pointer = log.get("_last_checkpoint")
        if pointer and int(pointer[1:]) not in checkpoints:
            return set(), f"no checkpoint {pointer}"
        begin, files, letters = max(checkpoints, default=-1), set[str](), set[str]()
        for version in range(begin, max([begin, *commits]) + 1):
            text = checkpoints.get(version) if version == begin else commits.get(version)
            if text is None and version >= 0:
                return set(), f"no commit {version}"
            letters |= set((text or "")[:1])
            files |= set(re.findall(r"\+([^+-]+)", text or ""))
            files -= set(re.findall(r"-([^+-]+)", text or ""))
        return files, f"two tables {letters}" if len(letters) > 1 else ""


# What a writer does while a task runs
MEANWHILE = (
    lambda machine, table: machine.write(table, 1, removes=True),
    lambda machine, table: machine.begin_late(table),
    lambda machine, table: machine.clean(table),
    lambda machine, table: machine.come_and_go(table),
    lambda machine, table: machine.drop(table),
)


class HistoriesWithTables(RuleBasedStateMachine):
    """A task has many keys under way; its end may be SIGTERM, SIGKILL, or its own."""

    def __init__(self) -> None:
        super().__init__()
        self.world, self.aborts = Tables(), iter(())
        self.writers = {OUTER: Writer(), INNER: Writer()}
        self.world.denies = self.refusal
        self.files = 0
        logging.disable(logging.CRITICAL)

    @initialize(
        is_versioned=st.booleans(),
        ahead=st.sampled_from([0, 4]),
        foreign=st.sampled_from([1, 2, 99]),  # a commit that the writer may come to
    )
    def expect(self, is_versioned, ahead, foreign):
        self.world.is_versioned, self.world.ahead = is_versioned, ahead
        for key in (f"{OUTER}{LOG}{foreign:020}.json", f"{INNER}foreign"):
            self.world.stores[key] = Store(Copy('"d0"', NOT_OURS, "label", "", 0))

    def refusal(self, operation, _key):
        return "OperationAborted" if operation in WRITES and next(self.aborts, False) else ""

    # The writers

    @rule(table=TABLES, adds=st.integers(0, 2), removes=st.booleans(), size=SIZES, delays=st.tuples(DELAYS, DELAYS))
    def commit(self, table, adds, removes, size, delays):
        self.write(table, adds, removes, size, *delays)

    def write(self, table, adds, removes, size=SMALL, delay=0, delay_of_commit=0):
        writer = self.writers[table]
        names = [f"f{self.files + number}" for number in range(adds)]
        self.files += adds
        for name in names:
            self.world.change(table + name, "put x", delay, size=size)
        gone = [writer.files.pop(0)] if removes and writer.files else []
        writer.version += 1
        writer.files += names
        writer.removed += gone
        writer.commits.append(writer.version)
        begin = f"{writer.letter}{writer.version}"
        text = "".join([begin, *(f"+{name}" for name in names), *(f"-{name}" for name in gone)])
        self.world.change(f"{table}{LOG}{writer.version:020}.json", f"put {text}", delay_of_commit)

    @rule(table=TABLES, delay=DELAYS)
    def vacuum(self, table, delay):
        self.clean(table, delay)

    def clean(self, table, delay=0):
        while self.writers[table].removed:
            self.world.change(table + self.writers[table].removed.pop(), "delete", delay)

    @rule(table=TABLES, is_tidied=st.booleans(), delay=DELAYS)
    def checkpoint(self, table, is_tidied, delay):
        writer = self.writers[table]
        if writer.version < 0:
            return
        text = "".join([f"{writer.letter}{writer.version}", *(f"+{name}" for name in writer.files)])
        self.world.change(f"{table}{LOG}{writer.version:020}.checkpoint.parquet", f"put {text}", delay)
        self.world.change(f"{table}{LOG}_last_checkpoint", f"put @{writer.version}")
        while is_tidied and writer.commits[:1] < [writer.version]:
            self.world.change(f"{table}{LOG}{writer.commits.pop(0):020}.json", "delete")

    @rule(table=TABLES)
    def drop(self, table):
        """Deletes the whole table: its log first, and then its files. The next commit makes it again."""
        writer = self.writers[table]
        for key in [key for key in self.world.versions if key.startswith(table + LOG)]:
            self.world.change(key, "delete")
        gone = [table + name for name in (*writer.files, *writer.removed)]
        self.world.made_again.add(table)
        self.world.dropped |= {*gone}
        for key in gone:
            self.world.change(key, "delete")
        self.writers[table] = Writer(letter=chr(ord(writer.letter) + 1))

    @rule(table=TABLES)
    def loose_file(self, table):
        """Which no commit names, perhaps before there is a log."""
        self.come_and_go(table)

    def come_and_go(self, table):
        self.world.change(f"{table}loose", "delete" if f"{table}loose" in self.world.versions else "put x")

    def begin_late(self, table):
        """The event of the commit that removes a file comes after that of the file's deletion."""
        self.write(table, 1, removes=False)
        self.write(table, 0, removes=True, delay_of_commit=5)
        self.clean(table)

    # The tasks

    @rule(
        ends=st.sampled_from(["SIGTERM", "SIGKILL", "itself", "itself"]),
        after=SECONDS,
        lasts=st.lists(st.sampled_from([0.02, 0.1, 0.5, 3.0]), min_size=1, max_size=5),
        aborts=st.lists(st.booleans(), max_size=5),
        meanwhile=st.lists(st.tuples(SECONDS, st.sampled_from(MEANWHILE), TABLES), max_size=4),
        slots=st.sampled_from([256, 256, 2]),
    )
    def work(self, ends, after, lasts, aborts, meanwhile, slots):
        environment = {"TABLES": "delta", "EMPTY_POLLS_BEFORE_EXIT": "2", "MAX_CONCURRENT_KEYS": str(slots)}
        task = Task(self.world, environment)
        task.lasts, self.aborts = iter(lasts * 10_000), iter(aborts)
        happens = [(moment, lambda does=does, table=table: does(self, table)) for moment, does, table in meanwhile]
        if ends == "SIGKILL":
            happens.append((after, task.die))
        task.live(after if ends == "SIGTERM" else None, happens)
        assert task.worker.counts()["failed"] == 0

    @rule(seconds=st.sampled_from([1, 30, 1000]))
    def wait(self, seconds):
        self.world.pass_time(seconds)

    @invariant()
    def readers_have_seen_no_fault(self):
        assert not self.world.faults

    def teardown(self):
        try:
            self.aborts = iter(())
            for _ in range(2):
                self.world.settle(lambda: Task(self.world, {"TABLES": "delta"}).live())
                self.world.redrive()
        finally:
            logging.disable(logging.NOTSET)
        assert not self.world.faults
        assert not self.world.differences()
        assert not self.world.queue.dead


TestHistoriesWithTables = HistoriesWithTables.TestCase
TestHistoriesWithTables.settings = bounds(60, 3000, stateful_step_count=15)
