"""Fair queues in the stand-in: whose message comes next (SQS Developer Guide, "How Amazon SQS fair queues work")."""

from typing import Any

from standin_fair import NOISY_IN_FLIGHT, QUIET_SECONDS, Message, Queue

QUEUE = "events"
HOUR = 3600.0


def put(queue: Queue, name: str, group: str = "", now: float = 0.0) -> None:
    queue.add(Message(name, name, {}, now, now, group=group))


def take(queue: Queue, count: int = 1, now: float = 1.0, visibility: float = HOUR) -> list[str]:
    """Names of messages that are in flight from now on."""
    names = []
    for _ in range(count):
        if message := queue.take_next(now):
            queue.count_in_flight(message, 1)
            queue.show_at(message, now + visibility)
            names.append(message.id)
    return names


def drop(queue: Queue, names: list[str]) -> None:
    for name in names:
        queue.remove(queue.messages[name])


def with_backlog(count: int, **settings: Any) -> Queue:
    """Messages of one group, then one of none."""
    queue = Queue(QUEUE, **settings)
    for number in range(count):
        put(queue, f"b{number}", "backfill", number / count)
    put(queue, "live", now=1.0)
    return queue


def test_a_queue_that_is_not_fair_gives_the_oldest_first() -> None:
    assert take(with_backlog(100, is_fair=False), 101)[-1] == "live"


def test_nothing_is_dropped_and_a_noisy_tenant_goes_on_if_no_other_waits() -> None:
    queue = with_backlog(100)
    assert sorted(take(queue, 200)) == sorted([*(f"b{number}" for number in range(100)), "live"])


def test_it_stays_noisy_until_its_backlog_is_gone() -> None:
    queue = with_backlog(40)
    taken = take(queue, NOISY_IN_FLIGHT)
    assert take(queue) == ["live"]
    drop(queue, taken)
    put(queue, "live2", now=1.0)
    assert take(queue, 2) == ["live2", "b30"]
    assert len(take(queue, 10)) == 9
    put(queue, "b40", "backfill", 1.0)
    put(queue, "live3", now=1.0)
    assert take(queue, 2) == ["b40", "live3"]


def test_it_is_quiet_again_after_5_minutes_with_none_in_flight() -> None:
    queue = with_backlog(40)
    taken = take(queue, NOISY_IN_FLIGHT)
    assert take(queue) == ["live"]
    drop(queue, taken)
    now = 2 + QUIET_SECONDS
    put(queue, "live2", now=now)
    assert take(queue, 11, now)[-1] == "live2"
