"""The function that copies: short histories of it, and random ones in which it is one of the workers."""

import logging

import pytest
from fakes import FUNCTION_SETTINGS, LARGE, SETTINGS, SMALL
from histories import World, bounds
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from invocations import Function

from mirror.loop import OUTAGE_STATUS
from mirror.protocol.sync import FOR_WORKER_SECONDS

LONG = 400.0  # seconds of a call that outlives the function


@pytest.fixture
def function(world):
    built = Function(world, stands_still=True, environment={"COPY_LAST": "_SUCCESS", "TABLES": "delta"})
    yield built
    built.loop.close()


def settle(world: World) -> None:
    world.settle()
    assert world.wrong() == []


# One history each


def test_it_copies_what_is_small_and_hands_back_the_rest_without_a_receive(world, function):
    """Each once, also what comes a second later, so that it ends and a worker is started before any comes back."""
    most, log = FUNCTION_SETTINGS.largest, f"data/_delta_log/{0:020}.json"  # whose order a worker keeps
    for key, size in (("data/a", most), ("data/b", most + 1), (log, SMALL)):
        world.change(key, "put x", size=size)
    counts = function.invoke(30, meanwhile=[(1.0, lambda: world.change("data/c", "put x", size=LARGE))])
    assert (counts["copied"], counts["bytes"], counts["handed_back"]) == (1, most, 3)
    assert all(0 < seconds <= FOR_WORKER_SECONDS for _, seconds in world.left())
    for _ in range(2 * SETTINGS.max_receives):
        world.pass_time(60)
        function.invoke(30)
    assert [receives for receives, _ in world.left()] == [0, 0, 0]
    assert [key for key, store in world.stores.items() if store.serial] == ["data/a"]
    settle(world)


def test_a_worker_goes_on_with_an_upload_that_was_handed_to_the_function(world, function):
    world.change("data/large", "put x", size=LARGE)
    world.work(plan=[("upload_part_copy", ("nothing",)), ("upload_part_copy", ("SIGTERM",))])
    function.invoke(30)
    world.pass_time(60)
    settle(world)
    assert world.stores["data/large"].serial == 2  # one upload and its object


def test_it_says_whether_it_saw_the_queue_empty(world, function):
    """Only then nothing is left for a worker: a receive that does not end has seen no message, either."""
    assert function.invoke(30)["emptied"] == 1
    for number in range(40):
        world.change(f"data/{number}", "put x")
    assert function.invoke(3, lasts=[2])["emptied"] == 0


def test_at_its_deadline_it_hands_back_what_is_not_begun_at_once_and_what_is_under_way_with_a_delay(world, function):
    world.put(2 * FUNCTION_SETTINGS.max_concurrent_keys - 6, "k")
    function.invoke(10, lasts=[0.9, LONG])  # for a second it remembers that there is no marker
    assert {receives for receives, _ in world.left()} == {0}
    assert any(seconds <= 0 for _, seconds in world.left())
    assert any(seconds > SETTINGS.copy_timeout - 5 for _, seconds in world.left())
    assert not function.alive


def test_if_sqs_takes_nothing_back_the_messages_come_back_after_what_is_under_way(world, function):
    for key in ("data/a", "data/b", "data/c"):
        world.change(key, "put x")
    began = world.clock
    throttled = (2.5, lambda: setattr(world, "throttled_until", began + 600))
    function.invoke(3, lasts=[1, 1, 1, LONG], meanwhile=[throttled])
    assert 3 < world.clock - began < 3 + 11
    assert min(seconds for _, seconds in world.left()) > SETTINGS.copy_timeout
    assert world.unprotected == set()


@pytest.mark.parametrize(
    ("operation", "files", "only_copies"),
    [("CreateSession", 1, False), ("CreateSession", 401, False), ("head_object", 40, False), ("copy_object", 40, True)],
)
def test_an_outage_at_its_deadline_is_its_answer_and_is_over_when_a_key_is_synced(
    world, function, operation, files, only_copies
):
    """Of the function alone: a policy names the role of the workers."""
    for number in range(files):
        world.change(f"data/{number}", "put x")
    if operation == "CreateSession":
        function.is_denied_sessions = True
    else:
        world.denies = lambda asked, _key: "AccessDenied" if asked == operation else ""
    answer = function.invoke(30)
    assert [answer.get(name, 0) for name in ("copied", "failed")] == [0, 0]
    assert (answer["status"], answer.get("only_copies")) == (OUTAGE_STATUS, only_copies)
    assert "error=AccessDenied" in answer["outage"]
    assert {receives for receives, _ in world.left()} == {0}

    function.is_denied_sessions, world.denies = False, lambda _operation, _key: ""
    world.pass_time(60)
    answer = function.invoke(30)
    assert (answer.get("copied"), answer["status"], "outage" in answer) == (files, 0, False)


def test_after_it_was_frozen_it_asks_anew_whether_the_source_bucket_is_there(world, function):
    world.change("data/a", "put x")
    function.invoke(30)
    world.pass_time(8000)
    world.versions.clear()  # the bucket is gone, and HeadObject answers 404
    world.denies = lambda operation, _key: "NoSuchBucket" if operation == "list_objects_v2" else ""
    world.look(["data/a"])
    function.invoke(30)
    assert world.stores["data/a"].copy
    assert [receives for receives, _ in world.left()] == [0]


def test_after_it_was_frozen_it_looks_anew_for_a_marker_that_was_not_there(world, function):
    """Its clock stood still, and a worker has copied the marker meanwhile."""
    world.change("data/a", "put x")
    function.invoke(1, lasts=(0.7, 0.05, 0.05, 0.05))  # it looks for the marker shortly before it ends
    assert world.stores["data/a"].copy
    world.change("data/_SUCCESS", "put m")
    world.work()
    assert world.stores["data/_SUCCESS"].copy
    world.pass_time(60)
    world.change("data/_SUCCESS", "delete", copies=0)
    world.change("data/a", "put y")
    function.invoke(30)
    assert (world.stores["data/a"].copy.content, world.stores["data/_SUCCESS"].copy) == (("y",), None)


# Random histories

KEYS = st.sampled_from(["data/a", "data/a", "data/b", "data/c"])
CHANGES = st.sampled_from(["put x", "put y", "put z", "touch", "delete", "delete"])
SIZES = st.sampled_from([SMALL, SMALL, SMALL, FUNCTION_SETTINGS.largest, FUNCTION_SETTINGS.largest + 1, LARGE])
MOMENTS = st.floats(0, 2) | st.floats(0, 20) | st.floats(0, 60)
LASTS = st.lists(st.sampled_from([0.02, 0.1, 0.5, 2.0, 20.0, LONG]), min_size=1, max_size=7)
DEADLINES = st.sampled_from([0.5, 2, 5, 20, 50])
STOPS = [("head_object", ("SIGTERM",)), ("copy_object", ("SIGTERM",)), ("upload_part_copy", ("SIGTERM",))]
PLANS = st.lists(st.sampled_from([*STOPS, ("copy_object", ("stops",)), ("upload_part_copy", ("dies",))]), max_size=2)
MEANWHILE = st.lists(st.tuples(MOMENTS, KEYS, CHANGES, SIZES), max_size=4)


class Histories(RuleBasedStateMachine):
    """The function is invoked, killed, frozen and thawed; workers are stopped and die; nothing fails but what dies."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.functions: list[Function] = []
        logging.disable(logging.CRITICAL)

    @rule(key=KEYS, change=CHANGES, size=SIZES, delay=st.sampled_from([0, 0, 5, 600]), events=st.integers(1, 2))
    def change(self, key, change, size, delay, events):
        self.world.change(key, change, delay, events, size)

    @rule(
        first=st.lists(st.tuples(KEYS, CHANGES, SIZES), max_size=3),
        seconds=DEADLINES,
        lasts=LASTS,
        dies_after=st.none() | MOMENTS,
        changes=MEANWHILE,
        workers=st.lists(MOMENTS, max_size=1),
        is_cold=st.sampled_from([False, False, True]),
        stands_still=st.booleans(),
        is_denied=st.sampled_from([False, False, True]),
    )
    def invoke(self, first, seconds, lasts, dies_after, changes, workers, is_cold, stands_still, is_denied):
        for key, change, size in first:
            self.world.change(key, change, size=size)
        if is_cold or not self.functions or not self.functions[-1].alive:
            self.functions.append(Function(self.world, stands_still))
        function, world = self.functions[-1], self.world
        world.slow_until = 0.0 if workers else world.slow_until  # a worker waits, and time passes for the function, too
        meanwhile = [
            (moment, lambda key=key, change=change, size=size: world.change(key, change, size=size))
            for moment, key, change, size in changes
        ]
        meanwhile += [(moment, world.work) for moment in workers]
        began, function.is_denied_sessions = world.clock, is_denied
        answer = function.invoke(seconds, lasts, dies_after, meanwhile)
        assert workers or world.clock - began < seconds + 10
        if answer and not workers:
            self.check_answer(answer, function.refused_at, began + seconds)

    def check_answer(self, answer, refused_at, deadline):
        """What keeps it from syncing any key is no success, and nothing else is an outage."""
        assert answer["status"] in (0, OUTAGE_STATUS)
        assert answer["status"] == 0 or refused_at < deadline
        is_idle = answer["emptied"] or any(answer.get(name) for name in ("copied", "deleted", "skipped", "failed"))
        assert answer["status"] == OUTAGE_STATUS or is_idle or refused_at > deadline - 1

    @rule(plan=PLANS, limit=st.sampled_from([1, 10]))
    def work(self, plan, limit):
        self.world.work(0, plan, limit)

    @rule(seconds=st.sampled_from([1, 60, 1000, 8000]))
    def wait(self, seconds):
        self.world.pass_time(seconds)

    @rule(seconds=st.sampled_from([1, 60, 200]))
    def the_directory_bucket_is_busy(self, seconds):
        self.world.slow_until = self.world.clock + seconds

    @rule(keys=st.sets(KEYS, min_size=1))
    def look(self, keys):
        self.world.look(sorted(keys))

    @invariant()
    def nothing_went_wrong(self):
        assert not self.world.faults
        assert not self.world.unprotected

    @invariant()
    def only_a_death_uses_up_a_receive(self):
        queue = self.world.queue
        assert [message for message in queue.messages if message.receives > message.deserved] == []
        assert [message for message in queue.dead if message.deserved < SETTINGS.max_receives] == []

    def teardown(self):
        try:
            self.world.settle()
            self.only_a_death_uses_up_a_receive()
            self.world.redrive()
            self.world.settle()
        finally:
            logging.disable(logging.NOTSET)
            for function in self.functions:
                function.loop.close()
        self.nothing_went_wrong()
        assert not self.world.differences()
        assert not self.world.queue.dead


TestHistories = Histories.TestCase
TestHistories.settings = bounds(200, 3_000, stateful_step_count=20)
