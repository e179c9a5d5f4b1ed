"""A fault of the environment costs no message a receive; a fault of a key costs that key alone its three."""

import json
import logging
from collections import Counter

import pytest
from fakes import LARGE, SMALL
from tasks import Task, settle

from mirror.loop import OUTAGE_STATUS

pytestmark = pytest.mark.fast
STAYS = {"EMPTY_POLLS_BEFORE_EXIT": "0"}


def most_receives(world):
    return max((message.receives for message in [*world.queue.messages, *world.queue.dead]), default=0)


def differ(world, name):
    return [line for line in world.differences() if name in line]


CODES = ("403", "AccessDenied", "ExpiredToken", "400", "InvalidAccessKeyId", "KMS.DisabledException")
# Of all keys: the error code, the operation that it is of ("": all), for how many seconds, then for how many it is
# away, how many keys, and MAX_CONCURRENT_KEYS. With few slots, as here those that have begun wait for each other.
OUTAGES = [(code, operation, 200, 1000, 100, "256") for code in CODES for operation in ("", "copy_object")]
OUTAGES += [
    (code, operation, down, up, keys, "8")
    for code, operation in (("403", ""), ("ExpiredToken", ""), ("AccessDenied", "copy_object"))
    for down, up, keys in ((20, 20, 100), (40, 7, 100), (3, 9, 200))
]


@pytest.mark.parametrize(("code", "operation", "down", "up", "keys", "slots"), OUTAGES)
def test_what_fails_for_all_keys_uses_up_no_receive_and_is_asked_for_seldom(
    world, caplog, code, operation, down, up, keys, slots
):
    """If only copies fail, what was deleted goes meanwhile."""
    caplog.set_level(logging.INFO)
    world.put(60, "gone")
    Task(world).live()
    world.put(keys, "k")
    begun, asked, most, left = world.clock, Counter(), [], []

    def denies(asked_for, _key):
        passed = world.clock - begun
        asked[passed > 60] += 1
        return code if passed % (down + up) < down and passed < 600 and operation in ("", asked_for) else ""

    def delete():
        for number in range(60):
            world.change(f"data/gone{number}", "delete")

    world.denies = denies
    looks = [(moment, lambda: most.append(most_receives(world))) for moment in range(0, 600, 5)]
    meanwhile = [*looks, (20, delete), (190, lambda: left.append((asked[True], differ(world, "gone"))))]
    Task(world, {"MAX_CONCURRENT_KEYS": slots} | STAYS, lambda *_: 0.03).live(720, meanwhile)
    assert (max(most), len(world.queue.dead)) == (1, 0)
    assert world.differences() == world.queue.messages == []
    assert not any(line.startswith("failed key=") for line in caplog.messages)
    if down == 200:
        kinds = Counter(line.partition(": ")[0].partition(" after ")[0] for line in caplog.messages)
        assert (kinds["outage"], kinds["outage over"]) == (1, 1)
        [(requests, gone)] = left
        assert gone == [] if operation else 7 <= requests <= 20  # a look every 15 s, perhaps asked again for its reason


@pytest.mark.parametrize("refusal", [("AccessDenied", "CreateSession"), ("403", "HeadObject")])
def test_while_sessions_alone_fail_new_objects_are_copied_and_no_delete_is_parked(world, refusal, caplog):
    world.put(60, "gone")
    seen = []

    def fail():
        world.session_refusal, world.no_session_until = refusal, world.clock + 240

    def change(number):
        world.change(f"data/new{number}", "put x")
        if number >= 40:
            world.change(f"data/gone{number - 40}", "delete")

    changes = [(10 + 2.0 * number, lambda number=number: change(number)) for number in range(100)]
    look = (230, lambda: seen.append((differ(world, "new"), most_receives(world), len(differ(world, "gone")) > 0)))
    Task(world, STAYS).live(400, [(10, fail), *changes, look])
    assert seen == [([], 1, True)]
    assert world.differences() == world.queue.messages == world.queue.dead == []
    assert caplog.text.count("outage: ") == 1


def test_an_outage_that_lasts_ends_the_worker_with_a_status_of_its_own_and_hands_all_back(world, caplog):
    world.put(40, "k")
    world.denies = lambda operation, _key: "" if operation == "list_objects_v2" else "403"
    assert Task(world, STAYS).live() == OUTAGE_STATUS == 3
    assert [message.receives for message in world.queue.messages] == [0] * 40
    assert "the worker ends: operation=HeadObject error=403" in caplog.text
    world.denies = lambda _operation, _key: ""
    settle(world)
    assert world.differences() == []


# --- One key ----------------------------------------------------------------------------------------------------------

# What fails: the error code and the operation, of how many keys, of which size; how many others there are.
AT_FAULT = [
    *[
        (code, "copy_object", 1, SMALL, fine)
        for code in ("SignatureDoesNotMatch", "ExpiredToken", "403")
        for fine in (40, 0)
    ],
    ("ExpiredToken", "upload_part_copy", 1, LARGE, 0),
    ("ExpiredToken", "copy_object", 30, SMALL, 30),
    ("403", "", 20, SMALL, 20),
    ("AccessDenied", "list_objects_v2", 1, SMALL, 40),
]


@pytest.mark.parametrize(("code", "operation", "bad", "size", "fine"), AT_FAULT)
def test_an_error_that_all_may_have_is_a_keys_own_if_s3_answers_others(world, code, operation, bad, size, fine, caplog):
    """Whether there are others or the key is alone in the queue; one of a marker, whose folder may not be listed."""
    world.denies = lambda asked, key: code if operation in ("", asked) and "bad" in key else ""
    late = []

    def come(number):
        for name, count in (("bad/_SUCCESS", bad), ("fine", fine)):
            if number < count:
                world.change(f"data/{number}{name}", "put x", size=size)

    meanwhile = [(number, lambda number=number: come(number)) for number in range(max(bad, fine))]
    task = Task(world, {"COPY_LAST": "_SUCCESS" if operation == "list_objects_v2" else ""} | STAYS)
    assert task.live(1000, [*meanwhile, (60, lambda: late.extend(differ(world, "fine")))]) == 0
    assert late == []
    assert "outage" not in caplog.text
    assert (world.queue.messages, len(world.queue.dead), world.uploads()) == ([], bad, ())


def test_a_key_that_is_always_changing_ends_the_outage_that_it_is_tried_in(world, caplog):
    """It is copied again and again and never done, while no other key can be synced."""
    caplog.set_level(logging.INFO)
    world.put(11, "k")
    begun, seen = world.clock, []

    def denies(operation, key):
        return "403" if operation == "head_object" and world.clock < begun + (20 if "hot" in key else 45) else ""

    world.denies = denies
    changes = [(18 + 0.2 * number, lambda n=number: world.change("data/hot", f"put {n}")) for number in range(300)]
    look = (40, lambda: seen.append(("outage: " in caplog.text, "outage over" in caplog.text)))
    Task(world, STAYS, lambda operation, _key: 1 if operation == "copy_object" else 0.1).live(300, [*changes, look])
    assert seen == [(True, True)]
    assert world.differences() == world.queue.dead == []


def test_the_metrics_say_how_many_keys_an_outage_keeps(world):
    """Those that wait for a slot are among them in an outage alone."""
    world.put(40, "k")
    begun = world.clock
    world.denies = lambda _operation, _key: "ExpiredToken" if 65 < world.clock - begun < 170 else ""
    task = Task(world, {"METRICS": "true", "MAX_CONCURRENT_KEYS": "6"} | STAYS, lambda *_: 5.0)
    task.live(600)
    before, during, *_, after = [json.loads(line) for line in task.lines]
    assert (before["HeldKeys"], after["HeldKeys"]) == (0, 0)
    assert during["HeldKeys"] == 40 - before["CopiedKeys"] - during["CopiedKeys"] > 6


def test_a_source_bucket_that_goes_missing_empties_nothing_a_minute_after_it_was_seen(world):
    world.put(2, "k")

    def is_gone():
        world.versions.clear()  # HeadObject answers 404
        world.denies = lambda operation, _key: "NoSuchBucket" if operation == "list_objects_v2" else ""
        world.look(["data/k1"])

    first = [(20, lambda: world.change("data/k0", "delete")), (85, is_gone)]  # a deletion asks for the bucket
    Task(world, STAYS).live(200, first)
    assert not world.stores["data/k0"].copy
    assert world.stores["data/k1"].copy
