"""A worker that the starter starts to stay (MIN_WORKERS): EMPTY_POLLS_BEFORE_EXIT=0."""

from world import wait_until


def receives(world) -> int:
    return world.requests().get("ReceiveMessage", 0)


def test_it_goes_on_receiving_from_an_empty_queue_works_and_ends_when_it_is_told_to(world):
    process = world.start_worker(EMPTY_POLLS_BEFORE_EXIT="0")
    wait_until(lambda: receives(world) > 3)  # another would end after one
    assert process.poll() is None
    world.put("a")
    wait_until(world.is_equal)
    output = world.stop_worker(process)
    assert process.returncode == 0
    assert "copied=1" in output
