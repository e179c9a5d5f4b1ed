"""Two workers for two minutes while everything goes wrong at once; at rest the destination equals the source."""

import os
import random
import signal
import time

from world import DEAD_LETTERS, MIRROR, QUEUE, SOURCE, wait_until

MIB = 1024**2
SECONDS = int(os.environ.get("CHAOS_SECONDS", "120"))
SMALL = [f"dir/small {number}" for number in range(30)]
LARGE = [f"dir/large {number}" for number in range(4)]

ERROR_500 = {"kind": "error", "status": 500, "code": "InternalError"}
ERROR_503 = {"kind": "error", "status": 503, "code": "SlowDown"}
RESET = {"kind": "reset"}
LOST = {"kind": "lost"}
ERROR_IN_200 = {"kind": "error_in_200"}
EMPTY_200 = {"kind": "empty_200"}

# operation -> the faults that hit it, each in one of a hundred requests
FAULTS = {
    "HeadObject": [ERROR_500, ERROR_503, RESET],
    "CopyObject": [ERROR_500, ERROR_503, RESET, LOST, LOST, ERROR_IN_200, EMPTY_200],
    "UploadPartCopy": [ERROR_500, ERROR_503, RESET, LOST, ERROR_IN_200],
    "CompleteMultipartUpload": [ERROR_503, LOST, LOST, LOST, LOST, ERROR_IN_200, EMPTY_200],
    "CreateMultipartUpload": [ERROR_503],
    "DeleteObject": [ERROR_500, RESET, LOST, LOST],
    "DeleteMessageBatch": [RESET, LOST],
    "SendMessage": [ERROR_500, ERROR_503],
    "ReceiveMessage": [RESET],
}


def plant_faults(world) -> None:
    for operation, kinds in FAULTS.items():
        for kind in kinds:
            world.standin.fault(operation, times=0, probability=0.01, **kind)


def change_something(world, chance: random.Random) -> None:
    key = chance.choice(LARGE) if chance.random() < 0.1 else chance.choice(SMALL)
    size = chance.randint(20, 60) * MIB if key in LARGE else chance.randint(0, 2048)
    if chance.random() < 0.3:
        world.standin.delete(SOURCE, key)
    else:
        world.put(key, size)


def settings() -> dict[str, str]:
    return {
        "MULTIPART_THRESHOLD": str(16 * MIB),
        "PART_SIZE": str(5 * MIB),
        "MAX_CONCURRENT_KEYS": "16",
        "MAX_RECEIVES": "100",
        "EMPTY_POLLS_BEFORE_EXIT": "1000",
        "LOG_LEVEL": "WARNING",
    }


def test_two_workers_under_kills_duplicates_reordering_and_faults_end_with_an_equal_destination(world):
    chance = random.Random(20261125)
    world.build(max_receive_count=100)
    world.standin.notify(SOURCE, QUEUE, duplicate=0.2, max_delay=2.0, seed=1)
    for operation, milliseconds in {"HeadObject": 8, "CopyObject": 60, "UploadPartCopy": 200}.items():
        world.standin.latency(operation, ms=milliseconds)
    plant_faults(world)
    workers = [world.start_worker(**settings()) for _ in range(2)]
    end = time.monotonic() + SECONDS
    next_stop = time.monotonic() + 4
    while time.monotonic() < end:
        change_something(world, chance)
        time.sleep(chance.uniform(0, 0.1))
        if time.monotonic() > next_stop:
            number = chance.randrange(2)
            world.stop_worker(workers[number], chance.choice([signal.SIGKILL, signal.SIGTERM]))
            workers[number] = world.start_worker(**settings())
            next_stop = time.monotonic() + chance.uniform(3, 6)
    world.standin.clear_faults()
    wait_until(world.is_empty, 120)
    for process in workers:
        world.stop_worker(process)
    assert world.is_equal()
    assert world.standin.uploads(MIRROR) == []
    assert world.standin.messages(DEAD_LETTERS) == []
    assert all(len(found["generations"]) <= 1 for found in world.mirrored().values())
    assert world.requests()["CopyObject"] > SECONDS  # it was at work all the time
