"""How a task treats the queue: rules one by one, and random days with an end by SIGTERM, by SIGKILL or by itself."""

import asyncio
import logging
from itertools import pairwise

import pytest
from fakes import LARGE, SMALL
from histories import World, bounds
from hypothesis import given
from hypothesis import strategies as st
from tasks import SLOW_END, Task, settle

from mirror.loop import OF_TASK, OUTAGE_STATUS
from mirror.model.services import GIB, SQS_BATCH
from mirror.protocol.sync import LONG_COPY_SIZE

pytestmark = pytest.mark.fast
LONG = LONG_COPY_SIZE + 1
ONE_COPY = {"MULTIPART_THRESHOLD": str(5 * GIB)}  # of what is large, too


def copied(world, prefix="data/"):
    return [key for key, store in world.stores.items() if store.copy and key.startswith(prefix)]


def slow(**seconds):
    """Seconds by operation."""
    return lambda operation, _key: seconds.get(operation, 0.1)


def is_settled(world):
    settle(world)
    assert world.wrong() == []


# --- Few requests -----------------------------------------------------------------------------------------------------


def test_messages_on_one_key_become_few_syncs_and_messages_are_deleted_ten_at_a_time(world):
    for _ in range(40):
        world.change("data/a", "put x")
    task = Task(world, seconds=slow(copy_object=1))
    task.live()
    assert 1 <= task.asked["copy_object"] <= 4
    world.put(200, "k")
    task = Task(world, seconds=lambda _operation, key: int(f"0{key[6:]}") / 50)  # one after the other
    task.live()
    assert 200 / SQS_BATCH <= task.asked["delete_message_batch"] < 80
    assert 2 * 200 <= task.asked["head_object"] <= 3 * 200
    assert task.asked["copy_object"] == 200
    assert world.differences() == world.queue.messages == []


@pytest.mark.parametrize(("patience", "polls"), [("3", 3), ("1", 1)])
def test_it_ends_after_the_queue_stayed_empty(world, patience, polls):
    task = Task(world, {"EMPTY_POLLS_BEFORE_EXIT": patience, "WAIT_TIME_SECONDS": "2"})
    assert task.live() == 0
    assert task.asked["receive_message"] == polls
    assert task.worker.saw_empty


# --- Slots ------------------------------------------------------------------------------------------------------------


def test_as_many_keys_are_copied_at_a_time_as_the_setting_says_and_of_long_copies_four_for_a_slot(world):
    world.put(40, "k")
    task = Task(world, {"MAX_CONCURRENT_KEYS": "15"})
    task.live()
    assert task.most_asked["copy_object"] == 15
    world.put(40, "large", GIB)
    task = Task(world, {"MAX_CONCURRENT_KEYS": "2"} | ONE_COPY, slow(copy_object=10))
    task.live()
    assert 2 < task.most_asked["copy_object"] < 4 * 2 + SQS_BATCH
    assert world.differences() == []


SLOW_PARTS = slow(upload_part_copy=5)


def with_some(name, operation, seconds):
    return lambda asked, key: seconds if asked == operation and name in key else 0.1


# What other keys do meanwhile: (key, its size or, of one that fails, the error code), environment, seconds of calls
MEANWHILE = {
    "long copies": ("long", LONG, ONE_COPY, with_some("long", "copy_object", 300)),
    "long uploads": ("long", 20 * LARGE, {"MAX_CONCURRENT_PARTS": "4"}, with_some("long", "upload_part_copy", 30)),
    "keys that S3 is too busy for": ("busy", "SlowDown", {}, None),
    "keys that are denied": ("denied", "AccessDenied", {}, None),
}


@pytest.mark.parametrize("case", MEANWHILE)
def test_small_objects_do_not_wait_for(world, case):
    """Twelve of those with four slots, and then forty small ones."""
    name, what, environment, seconds = MEANWHILE[case]
    world.put(12, name, what if isinstance(what, int) else SMALL)
    if isinstance(what, str):
        world.denies = lambda operation, key: what if name in key and operation == "copy_object" else ""
    task = Task(world, {"MAX_CONCURRENT_KEYS": "4"} | environment, seconds)
    took = []

    async def small_ones_come():
        await asyncio.sleep(30)
        began = world.clock
        world.put(40, "small")
        while len(copied(world, "data/small")) < 40:
            await asyncio.sleep(0.1)
        took.append((world.clock - began, len(copied(world, f"data/{name}"))))

    task.live(600, [(0, lambda: took.append(task.loop.create_task(small_ones_come())))])
    seconds, others = took[1]
    assert 2 < seconds < 25
    assert others == 0
    # What S3 was too busy for goes on beside those that began in its pause.
    most = 16 if case in ("long copies", "keys that S3 is too busy for") else 4
    assert 4 <= task.most_asked["copy_object"] <= most
    assert (task.worker.counts()["busy"] > 0) == (what == "SlowDown")


def test_long_copies_that_s3_was_too_busy_for_hold_no_slot_once_they_go_on(world):
    """As many as there are slots. Each has paused for so long that others could begin."""
    world.put(4, "large", 20 * LARGE)
    begun = world.clock
    world.denies = lambda operation, _key: (
        "SlowDown" if operation == "create_multipart_upload" and world.clock < begun + 120 else ""
    )
    task = Task(world, {"MAX_CONCURRENT_KEYS": "4", "MAX_CONCURRENT_PARTS": "2"}, SLOW_PARTS)
    task.live(200, [(180, lambda: world.put(20, "small"))])
    assert len(copied(world, "data/small")) == 20
    assert copied(world, "data/large") == []


def test_an_event_waits_behind_no_backfill(world):
    for group, key in (("reconcile", "old1"), ("reconcile", "old2"), ("", "new1"), ("reconcile", "old3"), ("", "new2")):
        world.change(f"data/{key}", "put x")
        world.queue.messages[-1].group = group
    order = []
    world.denies = lambda operation, key: order.append(key) or "" if operation == "copy_object" else ""
    Task(world, {"MAX_CONCURRENT_KEYS": "1"}).live()
    assert [key.removeprefix("data/") for key in order] == ["new1", "new2", "old1", "old2", "old3"]


def test_a_key_that_changes_all_the_time_is_copied_and_costs_neither_receives_nor_the_time_of_others(world):
    """A copy of it lasts longer than the time between two changes."""
    changes = [(0.2 * n, lambda n=n: world.change("data/hot", f"put {n}")) for n in range(400)]
    others = [(10.0 * n, lambda n=n: world.put(1, f"good{n}-")) for n in range(8)]
    late = []
    looks = [
        (10.0 * n + 5, lambda: late.extend(line for line in world.differences() if "good" in line)) for n in range(8)
    ]
    task = Task(world, {"MAX_CONCURRENT_KEYS": "4"}, slow(copy_object=1))
    world.change("data/hot", "put x")
    task.live(meanwhile=[*changes, *others, *looks])
    assert late == []
    assert 20 < task.worker.counts()["copied"] < 120
    assert world.differences() == world.queue.messages == world.queue.dead == []


def test_ten_denied_keys_hold_up_neither_a_large_copy_nor_deletes(world):
    """They fail alike before anything else succeeds."""
    world.put(60, "gone")
    Task(world).live()
    world.put(10, "denied")
    world.change("data/large", "put x", size=40 * LARGE)
    world.denies = lambda operation, _key: "AccessDenied" if operation == "copy_object" else ""
    task = Task(world, {"MAX_CONCURRENT_PARTS": "4"}, SLOW_PARTS)
    assert (
        task.live(meanwhile=[(3, lambda: [world.change(f"data/gone{number}", "delete") for number in range(60)])]) == 0
    )
    assert copied(world) == ["data/large"]
    settle(world)
    assert len(world.queue.dead) == 10


# --- Pauses, and the visibility timeout -------------------------------------------------------------------------------


def moments_of(world, operation, code="AccessDenied"):
    """When the operation was asked for, which is denied."""
    moments, begun = [], world.clock
    world.denies = lambda asked, _key: (moments.append(world.clock - begun) or code) if asked == operation else ""
    return moments


def test_a_message_that_failed_is_tried_again_after_growing_pauses_and_parked(world, caplog):
    moments = moments_of(world, "copy_object")
    world.change("data/a", "put x")
    Task(world, {"EMPTY_POLLS_BEFORE_EXIT": "20"}).live()
    first, second = (later - earlier for earlier, later in pairwise(moments) if later - earlier > 20)
    assert (30 <= first < 45, 120 <= second < 140) == (True, True)
    assert 'failed key="data/a" attempt=3/3 operation=CopyObject error=AccessDenied' in caplog.text
    assert [message.receives for message in world.queue.dead] == [3]


TROUBLES = {
    "": (0.0, ""),
    "what shows it again is refused": (40.0, "RequestThrottled"),
    "what shows it again gets no answer": (40.0, ""),
}


@pytest.mark.parametrize("case", TROUBLES)
def test_a_pause_that_sqs_did_not_take_is_asked_for_once_more_by_the_heartbeat(world, case):
    until, code = TROUBLES[case]
    moments = moments_of(world, "copy_object")
    world.change("data/a", "put x")
    task = Task(world, {"EMPTY_POLLS_BEFORE_EXIT": "20"})
    task.troubles["change_message_visibility_batch"] = world.clock + until, code
    task.live()
    second = next(moment for moment in moments if moment > 20)
    assert 30 <= second < max(45, until + 40)


def test_a_long_copy_is_extended_in_time_and_not_delivered_twice(world):
    """Also if SQS takes no extension for a minute, and while the session cannot be renewed."""
    world.change("data/a", "put x", size=GIB)
    task = Task(world, ONE_COPY, slow(copy_object=800))
    task.renew = asyncio.Event().wait
    task.troubles["change_message_visibility_batch"] = world.clock + 210, "Throttled"
    seen = []
    looks = [(moment, lambda: seen.append(world.left()[0])) for moment in (1, 149, 205, 215, 790)]
    task.live(meanwhile=looks)
    assert [receives for receives, _ in seen] == [1] * 5
    first, before, late, extended, last = (round(seconds) for _, seconds in seen)
    assert (first, before) == (300 + 900 - 1, 300 + 900 - 149)  # the shortest that is safe
    assert late < 1000 < 7100 < extended <= 7200
    assert last > 6000
    assert task.asked["copy_object"] == 1
    assert world.queue.messages == world.differences() == []


def test_an_extension_that_ends_late_does_not_hide_a_message_that_failed_meanwhile(world):
    world.change("data/a", "put x", size=GIB)
    moments, begun = moments_of(world, "copy_object"), world.clock
    denied, world.slow_until = world.denies, begun + 155
    world.denies = lambda operation, key: denied(operation, key) if world.clock > begun + 149 else ""
    task = Task(world, {"EMPTY_POLLS_BEFORE_EXIT": "20"} | ONE_COPY)
    task.late["change_message_visibility_batch"] = iter([30])
    task.live()
    assert task.asked["change_message_visibility_batch"] > 2
    assert 155 < moments[0] < moments[-1] < 600


def test_a_message_that_sqs_did_not_delete_is_deleted_later_and_uses_up_no_receive(world):
    for code in ("AccessDenied", ""):
        world.change(f"data/a{code}", "put x")
        task = Task(world)
        task.troubles["delete_message_batch"] = world.clock + 25, code
        task.live()
        assert world.queue.messages == []
        assert task.asked["copy_object"] == 1


def test_a_message_that_was_extended_is_deleted_although_sqs_refuses_that_for_long(world):
    world.change("data/a", "put x", size=GIB)
    task = Task(world, ONE_COPY, slow(copy_object=400))
    task.troubles["delete_message_batch"] = world.clock + 3000, "AccessDenied"
    task.live()
    assert world.queue.messages == []
    assert task.asked["copy_object"] == 1


def test_a_queue_that_has_lent_all_it_may_is_waited_for(world, caplog):
    world.put(1, "k")
    task = Task(world)
    task.troubles["receive_message"] = world.clock + 300, "OverLimit"
    assert task.live() == 0
    assert world.differences() == world.queue.messages == []
    assert caplog.text.count("120,000 messages are in flight") == 1
    assert "cannot receive" not in caplog.text


# --- The end ----------------------------------------------------------------------------------------------------------


def test_sigterm_lets_copies_end_and_hands_back_the_rest_in_its_group_without_using_up_a_receive(world, caplog):
    caplog.set_level(logging.INFO)
    world.put(30, "k")
    for message in world.queue.messages:
        message.group = "reconcile"
    task = Task(world, {"MAX_CONCURRENT_KEYS": "5"}, slow(copy_object=40))
    assert task.live(10, [(12, task.worker.stop)]) == 0
    assert len(copied(world)) == 5
    assert world.left() == [(0, pytest.approx(0, abs=60))] * 25
    assert {message.group for message in world.queue.messages} == {"reconcile"}
    assert caplog.text.count("SIGTERM received") == 1
    assert caplog.text.count("synced key=") == 5
    is_settled(world)


def test_several_stops_during_one_upload_keep_its_parts_and_use_up_no_receive(world):
    world.change("data/large", "put x", size=60 * LARGE)
    asked = 0
    for _ in range(3):
        task = Task(world, {"MAX_CONCURRENT_PARTS": "8"}, slow(upload_part_copy=20))
        task.live(50)
        asked += task.asked["upload_part_copy"]
        assert [receives for receives, _ in world.left()] == [0]
    task = Task(world)
    task.live()
    assert (asked + task.asked["upload_part_copy"], task.asked["create_multipart_upload"]) == (120, 0)
    assert world.differences() == []


# What does not take the messages: the error code of SendMessage, "" if it does not answer; what lasts how long
NOT_TAKEN = {
    "denied": ("AccessDenied", 60 * LARGE, 20),
    "silent": ("", 60 * LARGE, 20),
    "silent, as are the copies": ("", SMALL, 800),
}


@pytest.mark.parametrize("case", NOT_TAKEN)
def test_what_cannot_be_sent_back_becomes_visible_instead(world, case):
    """At once, or when a copy that was left must have ended."""
    code, size, seconds = NOT_TAKEN[case]
    world.put(12, "k", size)
    task = Task(world, seconds=slow(upload_part_copy=seconds, copy_object=seconds))
    task.troubles["send_message"] = world.clock + 3600, code
    began = world.clock
    task.live(30)
    assert 30 < world.clock - began < 30 + SLOW_END
    assert len(world.left()) > 8
    assert {seconds <= (task.settings.copy_timeout if size == SMALL else 0) for _, seconds in world.left()} == {True}
    is_settled(world)


@pytest.mark.parametrize(
    ("operation", "keys"), [("copy_object", 40), ("head_object", 40), ("receive_message", 40), ("", 40), ("", 3)]
)
def test_it_ends_in_time_whatever_does_not_answer(world, operation, keys):
    """Also if SQS takes nothing back any more, and while more could be received."""
    world.put(keys, "k")
    task = Task(world, {"MAX_CONCURRENT_KEYS": "4"}, slow(**{operation or "copy_object": 800}))
    for call in ("receive_message",) if operation else ():
        task.troubles[call] = (world.clock + 10_000 if operation == call else 0.0), ""

    def nothing_answers():
        for call in ("receive_message", "send_message", "delete_message_batch", "change_message_visibility_batch"):
            task.troubles[call] = world.clock + 10_000, ""

    began = world.clock
    assert task.live(60, [] if operation else [(50, nothing_answers)]) == 0
    assert 60 < world.clock - began < 60 + SLOW_END
    assert world.unprotected == set()
    is_settled(world)


def test_the_end_fits_into_the_time_that_fargate_gives():
    assert OF_TASK.drain + OF_TASK.cancel + OF_TASK.hand_back + OF_TASK.show < 108 < 120


# --- Mistakes ---------------------------------------------------------------------------------------------------------


def test_a_mistake_in_a_sync_shows_its_traceback_and_does_not_lose_the_message(world, caplog):
    world.change("data/a", "put x")
    world.denies = lambda *_: 1 / 0
    assert Task(world).live() == 0
    settle(world)
    assert "ZeroDivisionError" in caplog.text
    assert "Traceback" in caplog.text
    assert len(world.queue.dead) == 1


@pytest.mark.parametrize("moment", [0, 30])
def test_a_mistake_in_a_side_task_ends_the_worker_also_during_its_end(world, moment):
    world.change("data/a", "put x")
    task = Task(world, seconds=slow(copy_object=60))

    async def fails():
        return 1 / 0

    later = [(moment, lambda: setattr(task, "renew", fails))]
    with pytest.raises(ZeroDivisionError):
        task.live(10, later)


# --- Random days ------------------------------------------------------------------------------------------------------

KEYS = [f"data/{name}" for name in "aabcdefgh"]
MOMENTS = st.floats(0, 40) | st.floats(0, 1500)
CHANGE = st.tuples(
    MOMENTS,
    st.sampled_from(KEYS),
    st.sampled_from(["put x", "put y", "touch", "delete"]),
    st.sampled_from([SMALL, SMALL, LARGE, 12 * LARGE]),
    st.sampled_from(["", "", "reconcile"]),
)
CALLS = ["receive_message", "send_message", "delete_message_batch", "change_message_visibility_batch"]
TROUBLE = st.tuples(
    MOMENTS, st.sampled_from(CALLS), st.sampled_from([20, 200, 5000]), st.sampled_from(["", "Throttled"])
)
LASTS = st.lists(st.sampled_from([0.02, 0.1, 0.5, 5.0, 60.0, 400.0]), min_size=1, max_size=7)
CODES = st.sampled_from(["", "", "SlowDown", "403", "ExpiredToken"])
END = st.sampled_from(["SIGTERM", "SIGTERM", "SIGKILL", "by itself"])


def is_seen(ghost):
    """Whether a reader may see what it does; an upload that it begins, or a part of one, nobody completes."""
    return ghost.running.call.operation in ("copy_object", "complete_multipart_upload", "delete_object")


@bounds(150, 3000)
@given(
    changes=st.lists(CHANGE, min_size=1, max_size=25),
    troubles=st.lists(TROUBLE, max_size=2),
    lasts=LASTS,
    code=st.tuples(CODES, MOMENTS, st.sampled_from([5, 50, 500])),
    keys=st.sampled_from(["1", "2", "8"]),
    end=st.tuples(END, MOMENTS),
    is_at_work=st.sampled_from([True, True, False]),
    refused=st.tuples(MOMENTS | st.floats(0, 6000), st.sampled_from([0, 0, 1, 3])),
)
def test_random_days_end_in_time_with_equal_buckets_and_only_a_death_or_a_silent_sqs_uses_up_a_receive(
    changes, troubles, lasts, code, keys, end, is_at_work, refused
):
    world = World()
    task = Task(world, {"MAX_CONCURRENT_KEYS": keys, "MAX_CONCURRENT_PARTS": "4", "EMPTY_POLLS_BEFORE_EXIT": "5"})
    pattern = iter(lasts * 100_000)
    task.lasts, begun = pattern, world.clock

    def change(key, change, size, group):
        before = len(world.queue.messages)
        world.change(key, change, size=size)
        for message in world.queue.messages[before:]:
            message.group = group

    def trouble(operation, seconds, error):
        task.troubles[operation] = world.clock + seconds, error

    how, moment = end
    name, since, lasting = code
    if is_at_work:  # with calls under way, of which some are refused
        moment = changes[0][0] + moment % 2
        since = moment - since % 1
    world.denies = lambda *_: name if since <= world.clock - begun < since + lasting else ""
    meanwhile = [(moment, lambda given=given: change(*given)) for moment, *given in changes]
    meanwhile += [(moment, lambda given=given: trouble(*given)) for moment, *given in troubles]
    meanwhile.append((refused[0], lambda: setattr(world.queue, "refuses", refused[1])))
    if how == "SIGKILL":
        meanwhile.append((moment, task.die))
    logging.disable(logging.CRITICAL)
    try:
        status = task.live(moment if how == "SIGTERM" else None, meanwhile)
        assert how != "SIGTERM" or world.clock - begun < moment + SLOW_END or status == OUTAGE_STATUS
        assert [ghost for ghost in world.ghosts if is_seen(ghost) and not world.is_looked_at_after(ghost)] == []
        if how != "SIGKILL" and not troubles:
            used_up = [message for message in world.queue.messages if message.receives]
            has_to_end = how == "SIGTERM" or status == OUTAGE_STATUS  # no time is left to delete once more
            assert len(used_up) <= (refused[1] if has_to_end else 0)
        world.denies = lambda *_: ""
        settle(world)
        if troubles:  # SQS parks what it does not delete
            world.redrive()
            settle(world)
    finally:
        logging.disable(logging.NOTSET)
    assert (world.faults, world.differences(), world.queue.dead) == ([], [], [])
