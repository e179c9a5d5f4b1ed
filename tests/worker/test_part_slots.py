"""Parts side by side: this many at a time in all, keys take turns, and an error ends what was not begun."""

import asyncio

import pytest

from mirror.concurrency import Slots


def test_two_that_share_the_slots_take_turns():
    slots, begun = Slots(2), []

    async def copy(part: str) -> None:
        begun.append(part)
        await asyncio.sleep(0.01)

    async def both() -> None:
        await asyncio.gather(slots.run(copy, [f"a{n}" for n in range(6)]), slots.run(copy, [f"b{n}" for n in range(6)]))

    asyncio.run(both())
    assert sorted(begun) == sorted(f"{key}{n}" for key in "ab" for n in range(6))
    assert {part[0] for part in begun[2:6]} == {"a", "b"}


def test_after_an_error_none_is_begun_and_those_under_way_are_waited_for():
    slots, begun, ended = Slots(3), [], []

    async def copy(part: int) -> None:
        begun.append(part)
        if part == 1:
            raise ValueError("part 1")
        await asyncio.sleep(0.05)
        ended.append(part)

    with pytest.raises(ValueError, match="part 1"):
        asyncio.run(slots.run(copy, range(10)))
    assert begun == [0, 1]
    assert ended == [0]
    assert slots.slots._value == 3


def test_when_it_is_cancelled_while_it_waits_for_a_slot_so_are_those_under_way():
    slots, ended = Slots(2), []

    async def copy(part: int) -> None:
        await asyncio.sleep(0.05)
        ended.append(part)

    async def cancel() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(slots.run(copy, range(10)), 0.01)
        slow = asyncio.create_task(slots.run(copy, range(10)))
        await asyncio.sleep(0)
        slow.cancel()  # before the first of them has begun
        await asyncio.sleep(0.1)

    asyncio.run(cancel())
    assert ended == []
    assert slots.slots._value == 2
