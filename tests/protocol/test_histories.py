"""Random histories of buckets, queue and worker processes, each with faults, end equal. A failing one shrinks."""

import dataclasses
import logging

from fakes import LARGE, ODD, SETTINGS, SMALL, WRITES, Copy, Store
from histories import ERRORS, NOT_OURS, World, bounds
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mirror.options.markers import ASKED_SECONDS

OUTSIDE = "other/not ours"
KEYS = st.sampled_from(["data/a", "data/a", "data/b", OUTSIDE])
OURS = st.sampled_from(["data/a", "data/b"])
OFTEN = ["put x", "put y", "put z", "touch", "delete", "delete", "roll-back"] * 2
CHANGES = st.sampled_from([*OFTEN, *(f"touch {label}" for label in ODD)])
SQS_CALLS = ("receive_message", "send_message", "change_message_visibility_batch", "delete_message_batch")
TIMES = st.sampled_from([1, 60, 400, 1000, 8000])


def alone(names):
    return [(name,) for name in names]


# What can happen at a call: to all of them, to those of S3, to those that change something, to those of SQS.
ANYWHERE = alone(("dies", "SIGTERM", "receives more", "acknowledges", "delivered again", "another works"))
ANYWHERE += [("time", 60), ("time", 46_800), ("nothing",), ("nothing",)]
MOVES = ("put x", "put y", "touch", "touch no date", "delete", "roll-back")
AT_S3 = [(what, change) for what in ("change", "overtaken", "too late") for change in MOVES]
AT_S3 += [("error", code) for code in ERRORS]
AT_WRITES = alone(("dies", "stops", "times out", "reset", "loses the answer", "empty 200", "conflict", "aborted"))
AT_WRITES += [("time", 899), ("conflict", "no body")]
PLANNABLE = [
    *[("head_object", happens) for happens in ANYWHERE + AT_S3],
    *[("copy_object", happens) for happens in ANYWHERE + AT_S3 + AT_WRITES * 2] * 2,
    *[(write, happens) for write in sorted(WRITES) for happens in ANYWHERE + AT_S3 + AT_WRITES],
    *[(call, happens) for call in SQS_CALLS for happens in [*ANYWHERE, ("loses the answer",)]],
    *[("delete_message_batch", happens) for happens in [("refuses an entry",)] * 10],
]
PLANS = st.lists(st.sampled_from(PLANNABLE), min_size=1, max_size=5)
SIZES = st.sampled_from([SMALL, SMALL, LARGE])
DELAYS = st.sampled_from([0, 0, 0, 5, 600])  # seconds until the event is in the queue


class Histories(RuleBasedStateMachine):
    """What may happen between the workers' turns; a plan says what happens during one."""

    settings = SETTINGS

    def __init__(self) -> None:
        super().__init__()
        self.world = World(self.settings)
        self.world.stores[OUTSIDE] = Store(Copy('"d0"', NOT_OURS, "label", "", 0))
        self.garbage = 0
        logging.disable(logging.CRITICAL)

    @initialize(overwritten=st.sampled_from([0.0, 1.0]), is_versioned=st.booleans())
    def expect(self, overwritten, is_versioned):
        self.world.overwritten, self.world.is_versioned = overwritten, is_versioned

    @rule(key=KEYS, change=CHANGES, size=SIZES, delay=DELAYS, events=st.integers(1, 2))
    def change(self, key, change, size, delay, events):
        self.world.change(key, change, delay, events, size)

    @rule(changes=st.lists(CHANGES, min_size=1, max_size=3), size=SIZES, number=st.integers(0, 1), plan=PLANS)
    def change_and_work(self, changes, size, number, plan):
        for change in changes:
            self.world.change("data/a", change, size=size)
        self.world.work(number, plan)

    @rule(number=st.integers(0, 1), plan=PLANS, limit=st.sampled_from([1, 2, 10]), newest_first=st.booleans())
    def work(self, number, plan, limit, newest_first):
        self.world.work(number, plan, limit, newest_first)

    @rule(changes=st.lists(CHANGES, min_size=2, max_size=6), number=st.integers(0, 1), plan=PLANS)
    def overwrite_during_copies(self, changes, number, plan):
        self.world.change("data/a", changes[0])
        copies = [("copy_object", ("overwritten", change)) for change in changes[1:]]
        self.world.work(number, [*copies, *plan])

    @rule(seconds=TIMES)
    def wait(self, seconds):
        self.world.pass_time(seconds)

    @rule(which=st.sampled_from(["slow_until", "throttled_until"]), seconds=TIMES)
    def aws_is_busy(self, which, seconds):
        """A directory bucket that wakes up answers 503 for minutes; SQS throttles, also what extends visibility."""
        self.world.early = self.world.early or which == "throttled_until"
        setattr(self.world, which, self.world.clock + seconds)

    @rule(keys=st.sets(KEYS))
    def other_message(self, keys):
        """A request to look at keys; or something that is no event."""
        if keys:
            self.world.look(sorted(keys))
        else:
            self.garbage += 1
            self.world.queue.put("not JSON")

    @rule()
    def delivered_again(self):
        self.world.deliver_again()

    @invariant()
    def nothing_went_wrong(self):
        assert not self.world.faults

    def teardown(self):
        try:
            self.world.settle()
            self.world.redrive()
            self.world.settle()
        finally:
            logging.disable(logging.NOTSET)
        assert not self.world.faults
        assert not self.world.differences()
        assert len(self.world.queue.dead) == self.garbage
        self.check_protection()

    def check_protection(self):
        """No message may be done with while a call for its key can still land."""
        assert self.world.early or not self.world.unprotected


class HistoriesWithAMarker(Histories):
    """data/b waits for data/a, and goes first; data/c is a foreign marker, and stays. A worker that dies while it
    removes data/b for data/a leaves that call to reconcile (docs/guarantees.md)."""

    settings = dataclasses.replace(SETTINGS, copy_last="b,c")
    is_unheard = False

    def __init__(self) -> None:
        super().__init__()
        self.world.stores["data/c"] = Store(Copy('"d0"', NOT_OURS, "label", "", 0))

    @rule()
    def deleted_without_an_event(self):
        """The next marker finds it."""
        self.is_unheard = True
        self.world.change("data/a", "delete", copies=0)

    @rule()
    def deleted_twice_without_an_event(self):
        """One worker finds it each time."""
        for content in ("x", "y"):
            self.world.change("data/a", f"put {content}")
            self.world.settle()
            self.world.change("data/a", "delete", copies=0)
            self.world.change("data/b", f"put {content}")
            self.world.settle()
            self.world.pass_time(ASKED_SECONDS)

    def teardown(self):
        if self.is_unheard:
            self.world.change("data/b", "put z")
        super().teardown()

    def check_protection(self):
        assert self.world.early or self.world.unprotected <= {"data/b"}


AT_REMOVAL = [
    (operation, happens)
    for operation in ("head_object", "delete_object")
    for happens in [*AT_S3, ("another works",), ("nothing",), ("loses the answer",)]
]


class HistoriesWithKeepDays(Histories):
    """Days pass, the lifecycle takes copies that are old enough, and reconcile removes what is unwanted."""

    settings = dataclasses.replace(SETTINGS, keep_days=1)

    @rule(days=st.sampled_from([1, 1, 2]))
    def days_pass(self, days):
        self.world.pass_days(days)

    @rule(keys=st.sets(OURS))
    def lifecycle(self, keys):
        self.world.run_lifecycle(sorted(keys))

    @rule(change=CHANGES, plan=st.lists(st.sampled_from(AT_REMOVAL), max_size=3))
    def change_and_remove(self, change, plan):
        self.world.change("data/a", change)
        self.world.remove_unwanted("data/a", plan)

    @rule(key=OURS, plan=st.lists(st.sampled_from(AT_REMOVAL), max_size=3))
    def remove_unwanted(self, key, plan):
        self.world.remove_unwanted(key, plan)


TestHistories = Histories.TestCase
TestHistories.settings = bounds(600, 10_000, stateful_step_count=25)
TestHistoriesWithAMarker = HistoriesWithAMarker.TestCase
TestHistoriesWithAMarker.settings = bounds(300, 10_000, stateful_step_count=25)
TestHistoriesWithKeepDays = HistoriesWithKeepDays.TestCase
TestHistoriesWithKeepDays.settings = bounds(300, 10_000, stateful_step_count=25)
