"""No key starves another: keys that wait or change all the time, large ones beside small ones."""

import time

import pytest
from world import DEAD_LETTERS, MIRROR, SOURCE, wait_until

from mirror.aws.timeouts import ATTEMPTS

GIB = 1024**3
MIB = 1024**2


@pytest.fixture(params=["crt", "boto3"], autouse=True)
def s3_client(request, monkeypatch):
    monkeypatch.setenv("S3_CLIENT", request.param)


def test_keys_that_s3_is_too_busy_for_do_not_hold_up_the_others(world):
    """Twelve keys pause with four slots: the pauses take none."""
    world.standin.fault("CopyObject", "error", status=503, code="SlowDown", times=0, key="busy")
    for number in range(12):
        world.put(f"busy{number}")
    process = world.start_worker(MAX_CONCURRENT_KEYS="4", RETRY_BASE_SECONDS="30")
    wait_until(lambda: world.requests().get("CopyObject", 0) >= 24)
    for number in range(40):
        world.put(f"good{number}")
    wait_until(lambda: len(world.mirrored()) == 40, seconds=10)
    world.standin.clear_faults()
    process.communicate(timeout=300)
    assert world.is_equal()


def test_a_single_busy_answer_costs_less_than_half_a_second(world):
    world.standin.fault("CopyObject", "error", status=503, code="SlowDown", times=1, key="a")
    process = world.start_worker(RETRY_BASE_SECONDS="30", WAIT_TIME_SECONDS="5")
    world.put("first")
    wait_until(lambda: world.mirrored())
    world.put("a")
    wait_until(lambda: "a" in world.mirrored(), seconds=1)
    process.communicate(timeout=300)


def test_a_key_that_changes_all_the_time_is_copied_and_costs_neither_receives_nor_others_time(world):
    """A copy of it lasts longer than the time between two changes."""
    world.standin.latency("CopyObject", ms=300)
    process = world.start_worker(MAX_CONCURRENT_KEYS="4", MAX_RECEIVES="1")
    lags = []
    for number in range(40):
        for _ in range(4):
            world.put("hot")
            time.sleep(0.05)
        world.put(f"good{number}")
        begun = time.monotonic()
        if number % 10 == 9:
            wait_until(lambda name=f"good{number}": name in world.mirrored(), seconds=5)
            lags.append(time.monotonic() - begun)
    output, _ = process.communicate(timeout=300)
    assert 'failed key="hot"' not in output
    assert max(lags) < 3
    assert output.count('synced key="hot" action=copied') >= 3
    assert world.is_equal()
    assert world.is_empty()
    assert world.standin.messages(DEAD_LETTERS) == []


def test_small_objects_do_not_wait_for_many_large_uploads(world):
    world.standin.latency("UploadPartCopy", ms=2000)
    for number in range(24):
        world.put(f"large{number}", 6 * GIB)
    process = world.start_worker(MAX_CONCURRENT_KEYS="4", MAX_CONCURRENT_PARTS="32")
    wait_until(lambda: world.standin.uploads(MIRROR))
    for number in range(40):
        world.put(f"small{number}")
    wait_until(lambda: len(world.mirrored()) >= 40, seconds=20)
    assert all(key.startswith("small") for key in world.mirrored())
    process.kill()


def test_long_copies_that_s3_was_too_busy_for_take_no_place_of_small_ones(world):
    """As many as there are places; each has paused for so long that others could begin."""
    world.standin.fault("CreateMultipartUpload", "error", status=503, code="SlowDown", times=0)
    world.standin.latency("UploadPartCopy", ms=1500)
    for number in range(4):
        world.put(f"large{number}", 6 * GIB)
    process = world.start_worker(MAX_CONCURRENT_KEYS="4", MAX_CONCURRENT_PARTS="16", RETRY_BASE_SECONDS="30")
    wait_until(lambda: world.requests().get("CreateMultipartUpload", 0) >= 4 * 6 * ATTEMPTS)
    world.standin.clear_faults()
    wait_until(lambda: len(world.standin.uploads(MIRROR)) == 4)
    for number in range(20):
        world.put(f"small{number}")
    wait_until(lambda: len(world.mirrored()) >= 20)
    assert all(key.startswith("small") for key in world.mirrored())
    process.kill()


def test_one_key_with_an_error_that_all_may_have_holds_up_no_other(world):
    world.standin.fault("CreateMultipartUpload", "error", status=403, code="SignatureDoesNotMatch", times=0)
    world.put("bad", 6 * GIB)
    for number in range(300):
        world.put(f"good{number}")
    output = world.run_worker(EMPTY_POLLS_BEFORE_EXIT="10")  # its third attempt comes after a pause
    assert "outage" not in output
    assert len(world.mirrored()) == 300
    assert len(world.standin.messages(DEAD_LETTERS)) == 1


def test_ten_denied_keys_hold_up_neither_a_large_copy_nor_deletes(world):
    """They fail alike before anything else succeeds."""
    for number in range(60):
        world.put(f"gone{number}")
    world.run_worker()
    world.standin.fault("CopyObject", "error", status=403, code="AccessDenied", times=0)
    world.standin.latency("UploadPartCopy", ms=700)
    for number in range(10):
        world.put(f"denied{number}")
    world.put("large", 60 * GIB)
    process = world.start_worker(MAX_CONCURRENT_PARTS="32", RETRY_BASE_SECONDS="2")
    wait_until(lambda: world.requests().get("CopyObject", 0) >= 60 + 10)
    for number in range(60):
        world.standin.delete(SOURCE, f"gone{number}")
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert list(world.mirrored()) == ["large"]
    assert len(world.standin.messages(DEAD_LETTERS)) == 10
