"""ANNOUNCE: an event for each key that is equal: never before it is, at least once, never in the way of the sync."""

import asyncio
import json
import math
import re
import signal
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from test_first_responder import IN_TIME, Function, counts
from world import MIRROR, QUEUE, SOURCE, World, wait_until

from mirror.model.services import Announcement
from mirror.options import announcer
from mirror.options.announcer import PAUSE_SECONDS, Announcer, events_of
from mirror.protocol.attempt import KeySync, Result
from mirror.protocol.verdict import ABSENT, EQUAL
from mirror.queue.bodies import hint_body
from mirror.queue.leases import SETTLERS_THAT_ANNOUNCE, Lease, Leases, State
from mirror.queue.queue import Received
from mirror.settings import load_settings

ALL = {"ANNOUNCE": "all"}
EVENT = Announcement("Object Synced", "{}")
MARKERS = {"ANNOUNCE": "markers", "COPY_LAST": "_SUCCESS,*.done,*/manifest.json"}


@pytest.fixture(autouse=True)
def _looked_at(world: World) -> None:
    world.standin.look_at_events(MIRROR)


def details(world: World) -> list[dict[str, Any]]:
    return [event["detail"] for event in world.standin.events()]


def told(world: World) -> set[tuple[str, str]]:
    return {(detail["key"], detail["action"]) for detail in details(world)}


def puts(world: World) -> int:
    return world.requests().get("PutEvents", 0)


def numbers(output: str) -> tuple[int, int]:
    """Of the summary: announced, unannounced."""
    announced, unannounced = re.search(
        r"summary .* objects/s=\S+ announced=(\d+) unannounced=(\d+) busy=", output
    ).groups()
    return int(announced), int(unannounced)


def unsaid(output: str) -> list[tuple[int, str]]:
    """The lines that say how many were not announced, and why."""
    found = re.findall(r"^\S+ ERROR could not announce (\d+) keys: (.*)$", output, re.MULTILINE)
    return [(int(number), why) for number, why in found]


# What is announced


def test_by_default_nothing_is_told_and_nothing_is_said_of_it(world):
    world.put("a")
    output = world.run_worker()
    assert puts(world) == 0
    assert "announce" not in output


def test_each_key_is_told_with_its_version_once_it_is_equal(world):
    world.standin.configure_bucket(SOURCE, versioning="Enabled")
    source = world.put("dir/a ü", 1000)
    world.standin.put(MIRROR, "gone")
    world.standin.send(QUEUE, hint_body(SOURCE, ["gone", "never"]))
    output = world.run_worker(**ALL)
    by_key = {event["detail"]["key"]: event for event in world.standin.events()}
    event = by_key["dir/a ü"]
    assert (event["source"], event["detail_type"]) == ("s3-to-s3express-sync", "Object Synced")
    version = event["detail"].pop("source-version")
    assert event["detail"] == {
        "bucket": MIRROR,
        "source-bucket": SOURCE,
        "key": "dir/a ü",
        "action": "copied",
        "size": 1000,
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", version.pop("last-modified"))
    assert version == {"etag": source["etag"], "version-id": source["version_id"], "size": 1000}
    for key, action in (("gone", "deleted"), ("never", "skipped")):
        detail = by_key[key]["detail"]
        assert (detail["action"], detail["size"], detail["source-version"]) == (action, 0, None)
    assert numbers(output) == (3, 0)
    assert unsaid(output) == []


def test_what_is_equal_already_is_told_as_skipped_with_its_size(world):
    world.put("a", 1000)
    world.run_worker()
    world.standin.send(QUEUE, hint_body(SOURCE, ["a"]))
    world.run_worker(**ALL)
    (detail,) = details(world)
    assert (detail["action"], detail["size"], detail["source-version"]["size"]) == ("skipped", 1000, 1000)
    assert detail["source-version"]["version-id"] == "null"


def test_only_markers_are_told_if_that_is_asked(world):
    for key in ("a/_SUCCESS", "_SUCCESS", "a/x.done", "a/manifest.json", "manifest.json", "a/_SUCCESS/b", "a"):
        world.put(key)
    output = world.run_worker(**MARKERS)
    assert {key for key, _ in told(world)} == {"a/_SUCCESS", "_SUCCESS", "a/x.done", "a/manifest.json"}
    assert numbers(output) == (4, 0)


def test_what_fails_is_not_told(world):
    world.put("bad")
    world.put("good")
    world.standin.fault("CopyObject", "error", key="bad", status=400, code="KMS.DisabledException", times=0)
    world.start_worker(**ALL)
    wait_until(lambda: told(world))
    time.sleep(1)
    assert told(world) == {("good", "copied")}


@pytest.mark.parametrize(
    ("announce", "synced", "failed"),
    [("failures", set(), 2), ("all,failures", {("good", "copied")}, 2), ("all", {("good", "copied")}, 0)],
)
def test_what_goes_to_the_dead_letter_queue_is_told_only_if_that_is_asked(world, announce, synced, failed):
    """With the last attempt for its message: the first one for "late" is not the last."""
    world.standin.configure_bucket(SOURCE, versioning="Enabled")
    source = world.put("bad ü", 1000)
    world.put("good")
    world.put("late")
    for key, times in (("bad ü", 0), ("late", 1)):
        world.standin.fault("CopyObject", "error", key=key, status=400, code="KMS.DisabledException", times=times)
    world.standin.send(QUEUE, "no event")
    quick = {"MAX_RECEIVES": "2", "RETRY_BASE_SECONDS": "1"}
    world.run_worker(ANNOUNCE=announce, **quick)
    events = world.standin.events()
    assert {
        (one["detail"]["key"], one["detail"]["action"]) for one in events if one["detail_type"] == "Object Synced"
    } == (synced | {("late", "copied")} if synced else set())
    found = {one["detail"]["key"]: one["detail"] for one in events if one["detail_type"] == "Object Not Synced"}
    assert len(found) == failed
    if failed:
        detail = found["bad ü"]
        assert (detail["action"], detail["size"], detail["bucket"]) == ("failed", 1000, MIRROR)
        assert detail["source-version"]["version-id"] == source["version_id"]
        assert "error=KMS.DisabledException" in detail["reason"]
        assert "not an S3 event" in found[None]["reason"]
        assert found[None]["source-version"] is None


def test_ten_are_told_in_one_call(world):
    keys = [str(number) for number in range(100)]
    world.standin.put_many(SOURCE, keys)
    output = world.run_worker(**ALL)
    assert told(world) == {(key, "copied") for key in keys}
    assert puts(world) <= 20
    assert numbers(output) == (100, 0)


def test_a_message_of_many_keys_is_told_in_calls_of_ten(world):
    keys = [str(number) for number in range(25)]
    world.standin.put_many(SOURCE, keys)
    world.run_worker()
    world.standin.send(QUEUE, hint_body(SOURCE, keys))
    world.run_worker(**ALL)
    assert told(world) == {(key, "skipped") for key in keys}
    assert puts(world) == 3


# Order, and at least once


@pytest.mark.parametrize("size", [1000, 20 * 1024**2])
def test_nothing_is_told_before_the_destination_is_equal(world, size):
    """The stand-in looks at the destination when the event comes."""
    world.standin.latency("CopyObject", ms=100)
    world.standin.latency("CompleteMultipartUpload", ms=100)
    keys = [f"k{number}" for number in range(20)]
    world.standin.put_many(SOURCE, keys, size)
    world.run_worker(**ALL, MULTIPART_THRESHOLD=str(10 * 1024**2), PART_SIZE=str(5 * 1024**2))
    events = world.standin.events()
    assert {event["detail"]["key"] for event in events} == set(keys)
    for event in events:
        assert event["here"] is not None, f"{event['detail']['key']} was told before it was there"
        assert event["here"].split(" ")[0] == event["detail"]["source-version"]["etag"]


def test_a_key_that_changes_meanwhile_is_told_in_its_latest_version(world):
    """It is copied twice by one sync, and announced once, in the version that is there."""
    world.standin.latency("CopyObject", ms=500)
    world.put("a", 1000)
    world.start_worker(**ALL)
    wait_until(lambda: world.requests().get("CopyObject", 0) == 1)
    latest = world.put("a", 2000)
    wait_until(lambda: world.is_empty() and details(world))
    for event in world.standin.events():
        assert event["here"].split(" ")[0] == event["detail"]["source-version"]["etag"] == latest["etag"]


def test_a_worker_that_dies_between_the_copy_and_the_event_leaves_it_to_the_next(world):
    world.put("a")
    world.standin.fault("PutEvents", "hang", times=1)
    process = world.start_worker(**ALL)
    wait_until(lambda: puts(world) == 1)
    assert world.is_equal()
    world.stop_worker(process, signal.SIGKILL)
    assert details(world) == []
    assert not world.is_empty()
    world.start_worker(**ALL, EMPTY_POLLS_BEFORE_EXIT="20")
    wait_until(lambda: told(world) == {("a", "skipped")})
    wait_until(world.is_empty)


def test_a_message_is_deleted_only_after_its_event(world):
    world.put("a")
    world.standin.latency("PutEvents", ms=1000)
    process = world.start_worker(**ALL)
    wait_until(lambda: puts(world) == 1)
    assert world.requests().get("DeleteMessageBatch", 0) == 0
    process.communicate(timeout=300)
    assert world.requests()["DeleteMessageBatch"] == 1
    assert world.is_empty()


class Queue:
    """Takes what is sent, and deletes nothing but `deletes`."""

    def __init__(self, deletes: str = "") -> None:
        self.deletes = deletes
        self.sent: list[tuple[dict[str, Any], int]] = []

    async def delete(self, handles: list[str]) -> set[str]:
        return set(handles) - {self.deletes}

    async def send(self, body: str, delay: int, _group: str | None) -> None:
        self.sent.append((json.loads(body), delay))


@pytest.mark.parametrize(
    ("tries", "key", "delays"), [(0, "a/_SUCCESS", [30]), (1, "a/_SUCCESS", [120]), (2, "a/_SUCCESS", []), (0, "a", [])]
)
def test_the_message_of_a_marker_whose_event_was_not_taken_comes_again_and_not_for_ever(world, tries, key, delays):
    async def refuse(events: list[Announcement]) -> list[Announcement]:
        return events

    settings = load_settings(world.environment(ANNOUNCE="all", COPY_LAST="_SUCCESS", RETRY_BASE_SECONDS="30"))
    queue = Queue(deletes="handle")
    leases = Leases(settings, queue, announce=refuse)
    found = SimpleNamespace(size=5, identity="etag 2026-01-01T00:00:00Z 5 null digest")
    events = events_of(settings, KeySync(key, result=Result(action="copied", end=EQUAL, size=5, sight=(found, None))))
    lease = Lease(Received(hint_body(SOURCE, [key]), "handle", 1), 0.0, math.inf, 0.0, events=[*events])
    lease.content.tries = tries
    leases.held.add(lease)
    leases.finish(lease)
    asyncio.run(leases.settle(leases.take_batch()))
    assert [(body["sync"]["tries"], delay) for body, delay in queue.sent] == [(tries + 1, delay) for delay in delays]
    assert (leases.held, lease.state, leases.handed_back) == (set(), State.DELETED, len(delays))


def test_what_cannot_be_deleted_is_told_once(world):
    told: list[Announcement] = []

    async def announce(events: list[Announcement]) -> list[Announcement]:
        told.extend(events)
        return []

    settings = load_settings(world.environment(**ALL))
    leases = Leases(settings, Queue(), announce=announce)
    lease = Lease(Received("{}", "handle", 1), 0.0, math.inf, 0.0, events=[EVENT])
    leases.held.add(lease)
    leases.finish(lease)
    asyncio.run(leases.settle(leases.take_batch()))
    assert (leases.held, lease.state) == ({lease}, State.ACK)
    lease.due_at = 0.0
    asyncio.run(leases.extend_due())
    asyncio.run(leases.settle(leases.take_batch()))
    assert told == [EVENT]


# Nothing waits for it


def test_without_the_right_the_sync_goes_on_and_one_line_says_so(world):
    keys = [str(number) for number in range(500)]
    world.standin.put_many(SOURCE, keys)
    code = "AccessDeniedException"
    world.standin.fault("PutEvents", "error", status=400, code=code, message="not authorized", times=0)
    output = world.run_worker(**ALL)
    assert world.is_equal()
    assert world.is_empty()
    [(number, why)] = unsaid(output)
    assert number == 500
    assert why.startswith(
        'operation=PutEvents error=AccessDeniedException message="not authorized" advice="run deploy.sh'
    )
    assert puts(world) <= 2 * SETTLERS_THAT_ANNOUNCE  # those of one moment, over the CRT and boto3; then none
    assert numbers(output) == (0, 500)


def test_a_bus_that_cannot_be_reached_is_named_with_what_to_do(world):
    world.put("a")
    output = world.run_worker(**ALL, AWS_ENDPOINT_URL_EVENTBRIDGE="http://127.0.0.1:9")
    assert world.is_equal()
    [(number, why)] = unsaid(output)
    assert number == 1
    assert why.startswith("error=EndpointConnectionError")
    assert "events.us-east-1.amazonaws.com needs an interface endpoint" in why


def test_a_bus_that_hangs_delays_a_message_for_seconds_and_no_other_for_long(world):
    world.standin.fault("PutEvents", "hang", times=0)
    world.put("first")
    world.start_worker(**ALL, EMPTY_POLLS_BEFORE_EXIT="20")
    wait_until(lambda: puts(world))
    begun = time.monotonic()
    wait_until(lambda: world.mirrored() and world.is_empty())
    assert announcer.SEND_SECONDS - 1 < time.monotonic() - begun < announcer.SEND_SECONDS + 40
    asked = puts(world)
    world.put("second")
    wait_until(lambda: len(world.mirrored()) == 2 and world.is_empty())
    assert puts(world) == asked


def test_what_is_refused_alone_is_sent_again_alone(world):
    world.put("a")
    world.put("b")
    world.standin.refuse_events('"key": "b"', times=2)
    world.standin.record()
    output = world.run_worker(**ALL)
    assert told(world) == {("a", "copied"), ("b", "copied")}
    sent = [json.loads(request["body"])["Entries"] for request in world.standin.requests("PutEvents")]
    keys = [[json.loads(entry["Detail"])["key"] for entry in entries] for entries in sent]
    assert (sorted(keys[0]), keys[1:]) == (["a", "b"], [["b"], ["b"]])
    assert numbers(output) == (2, 0)


def test_what_is_refused_for_good_is_counted_and_the_others_go_on(world):
    world.standin.refuse_events('"key": "b"', times=0, code="MalformedDetail")
    world.put("a")
    world.put("b")
    process = world.start_worker(**ALL, EMPTY_POLLS_BEFORE_EXIT="3", WAIT_TIME_SECONDS="2")
    wait_until(lambda: puts(world) == 3)
    world.put("c")
    output, _ = process.communicate(timeout=300)
    assert told(world) == {("a", "copied"), ("c", "copied")}
    assert unsaid(output) == [(1, 'operation=PutEvents error=MalformedDetail message="planted by a test"')]
    assert numbers(output) == (2, 1)
    assert world.is_empty()


def test_an_answer_that_says_nothing_is_no_success(world):
    world.put("a")
    world.standin.fault("PutEvents", "empty_200", times=2)  # boto3 asks once more for the CRT
    output = world.run_worker(**ALL)
    assert told(world) == {("a", "copied")}
    assert numbers(output) == (1, 0)


# After a failure, with a clock of its own


class Bus:
    """Fails as long as it is set to; waits for `gate` before it answers, if there is one."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.gate: asyncio.Event | None = None
        self.calls = 0

    async def put_events(self, **parameters: Any) -> dict[str, Any]:
        self.calls += 1
        if self.gate:
            await self.gate.wait()
        if self.error:
            raise self.error
        return {"FailedEntryCount": 0, "Entries": [{"EventId": "1"} for _ in parameters["Entries"]]}


@pytest.fixture
def clock() -> SimpleNamespace:
    return SimpleNamespace(now=1000.0)


@pytest.fixture
def bus() -> Bus:
    return Bus()


@pytest.fixture
def ours(world: World, bus: Bus, clock: SimpleNamespace) -> Iterator[Announcer]:
    return Announcer(load_settings(world.environment(**ALL)), bus, now=lambda: clock.now)


DENIED = ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "PutEvents")


def test_after_a_failure_nothing_is_tried_for_a_while_and_then_by_one_alone(ours, bus, clock, caplog):
    async def run() -> None:
        bus.error = DENIED
        await ours.announce([EVENT] * 3)
        clock.now += PAUSE_SECONDS - 1
        await ours.announce([EVENT] * 4)
        await ours.beat()
        assert (bus.calls, caplog.messages) == (1, [])
        clock.now += 1
        bus.gate = asyncio.Event()
        trying = asyncio.create_task(ours.announce([EVENT]))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert "could not announce 7 keys: " in caplog.text
        await ours.announce([EVENT] * 2)  # others do not wait
        assert bus.calls == 2
        bus.gate.set()
        await trying
        await ours.announce([EVENT])
        assert bus.calls == 2
        clock.now += PAUSE_SECONDS
        bus.error = None
        await ours.beat()
        assert "could not announce 4 keys: " in caplog.messages[-1]
        for _ in range(2):
            await ours.announce([EVENT])
        await ours.beat()

    asyncio.run(run())
    assert len(caplog.messages) == 2
    assert ours.counts == {"announced": 2, "unannounced": 11}


@pytest.mark.parametrize(
    ("action", "is_there", "expected"),
    [
        ("copied", True, "copied"),
        ("copied", False, "deleted"),  # another worker deleted it
        ("deleted", False, "deleted"),
        ("deleted", True, "copied"),  # another worker copied it again
        ("skipped", True, "skipped"),
        ("skipped", False, "skipped"),
    ],
)
def test_the_action_is_what_leads_to_what_is_there_now(world, action, is_there, expected):
    source = SimpleNamespace(size=5, identity="etag 2026-01-01T00:00:00Z 5 null digest") if is_there else None
    end = EQUAL if is_there else ABSENT
    sync = KeySync("k", result=Result(action=action, end=end, size=7, sight=(source, None)))
    (event,) = events_of(load_settings(world.environment(**ALL)), sync)
    detail = json.loads(event.detail)
    assert (detail["action"], detail["size"]) == (expected, 5 if is_there else 0)
    assert (detail["source-version"] is not None) == is_there


def test_a_failure_says_what_to_do(ours):
    throttled = ClientError({"Error": {"Code": "ThrottlingException", "Message": "m"}}, "PutEvents")
    assert "ANNOUNCE=markers" in ours.explain(throttled)
    assert "interface endpoint" in ours.explain(EndpointConnectionError(endpoint_url="u"))
    assert ours.explain(TimeoutError()).startswith('error=TimeoutError message="no answer within 6 s" advice="a VPC')
    other = ClientError({"Error": {"Code": "403", "Message": "m"}}, "PutEvents")
    assert "advice" not in ours.explain(other)


# The function


def test_the_function_tells_too(world):
    world.put("a", 1000)
    function = Function(world, **ALL)
    report = function.invoke(20)
    assert counts(report) == {"copied": 1, "bytes": 1000, "announced": 1}
    assert told(world) == {("a", "copied")}
    world.put("b")
    world.standin.fault("PutEvents", "hang", times=0)
    report = function.invoke(20)
    assert counts(report) == {"copied": 1, "bytes": 1024, "unannounced": 1}
    assert function.status() == 0
    assert [number for number, _ in unsaid(function.output)] == [1]
    assert world.is_empty()


def test_a_bus_that_hangs_does_not_make_the_function_late(world):
    """Its time is over while events are under way: it ends within its bounds, and no call is left to be frozen."""
    world.standin.fault("PutEvents", "hang", times=0)
    world.standin.put_many(SOURCE, [str(number) for number in range(60)])
    world.standin.latency("CopyObject", ms=300)
    function = Function(world, **ALL)
    function.begin(1.5)
    report = function.report()
    assert report["seconds"] < 1.5 + IN_TIME
    assert report["unanswered"] == 0
    assert function.status() == 0


def test_a_bus_that_is_slow_does_not_make_the_function_late(world):
    """All that a message announces has one bound."""
    keys = [str(number) for number in range(25)]
    world.standin.put_many(SOURCE, keys)
    world.run_worker()
    world.standin.send(QUEUE, hint_body(SOURCE, keys))
    world.standin.latency("PutEvents", ms=650)
    report = Function(world, **ALL).invoke(20)
    assert report["announced"] + report["unannounced"] == report["skipped"] == 25
    assert report["unannounced"] >= 5  # three calls of 650 ms do not fit
    assert world.is_empty()


def test_one_slow_answer_of_the_bus_costs_the_function_the_events_of_a_moment(world):
    """All of the next half a minute, before, which is most of what an invocation has."""
    world.standin.put_many(SOURCE, [str(number) for number in range(200)])
    world.standin.latency("CopyObject", ms=300)
    world.standin.fault("PutEvents", "hang", times=1)
    report = Function(world, **ALL).invoke(20)
    assert report["announced"] + report["unannounced"] == report["copied"] == 200
    assert report["unannounced"] < 60


def test_a_reason_of_a_quarter_of_a_megabyte_is_cut(ours):
    error = ClientError({"Error": {"Code": "AccessDenied", "Message": "\x07" * 250_000}}, "CopyObject")
    (event,) = announcer.events_of_failure(ours.settings, None, error)
    assert 2000 <= len(event.detail) < 20_000


def test_a_connection_that_died_in_the_frozen_function_is_not_used(world):
    world.put("a")
    function = Function(world, "from mirror import function\nfunction.IDLE_SECONDS = 0", **ALL)
    function.invoke(20)
    world.standin.freeze()
    world.put("b")
    report = function.invoke(20)
    assert counts(report) == {"copied": 1, "bytes": 1024, "announced": 1}
    assert report["seconds"] < 5
