"""The lines of the log: as logging's own formatter writes them, in order, and never waited for."""

import logging
import os
import sys
import time
from collections.abc import Iterator

import pytest

from mirror.log_writer import HELD, LineFormatter, LogWriter


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    logger = logging.Logger("of this test")
    yield logger
    logger.handlers.clear()


def lines(reading: int) -> list[str]:
    return os.read(reading, 1 << 20).decode().splitlines()


FORGED = "2026-11-25T01:02:03.456Z ERROR outage: 1 keys fail alike"


def test_lines_are_those_of_the_formatter_and_no_text_from_outside_begins_one(log, capfd):
    plain = logging.StreamHandler(sys.stderr)
    plain.setFormatter(LineFormatter())
    writer = LogWriter()
    log.handlers = [plain, writer]
    writer.start()
    for number in range(200):
        log.info("synced key=%s number=%d", '"ä b"', number)
    log.warning("of two\n%s\x9b2J", FORGED)
    try:
        raise ValueError(f"x\n{FORGED}\x1b[2J")
    except ValueError:
        log.exception("failed")
    log.warning("the last, 100 %")
    writer.drain()
    written, expected = capfd.readouterr()
    assert written == expected
    assert "  Traceback" in written
    assert f"WARNING of two\\u000a{FORGED}" in written
    assert not [line for line in written.splitlines() if line.startswith(FORGED[:20])]
    assert (written.count("outage: "), "\x1b" in written, "\x9b" in written) == (2, False, False)


def test_an_unread_log_loses_lines_and_tells_how_many(log):
    reading, writing = os.pipe()
    writer = LogWriter(writing)
    log.handlers = [writer]
    writer.start()
    begun = time.monotonic()
    for number in range(10_000):
        log.info("line %d %s", number, "x" * 1000)
    assert time.monotonic() - begun < 60
    writer.drain(0.3)
    shown = []
    while not writer.written.wait(0.002):
        shown += lines(reading)
    shown += lines(reading)
    dropped = sum(int(line.split()[2]) for line in shown if "WARNING" in line)
    numbers = [int(line.split()[3]) for line in shown if "WARNING" not in line]
    assert dropped + len(numbers) == 10_000
    assert numbers == sorted(numbers)
    assert 0.8 * HELD < 1000 * len(numbers) < HELD


def test_a_log_that_cannot_be_written_is_told_once_and_stops_nothing(log, capfd):
    reading, writing = os.pipe()
    os.close(reading)
    writer = LogWriter(writing)
    log.handlers = [writer]
    writer.start()
    for _ in range(3):
        log.info("lost")
        writer.drain()
    assert capfd.readouterr().err.count("the log cannot be written") == 1


def test_a_write_takes_whole_lines_that_do_not_mix_with_those_of_another_process(log):
    writer = LogWriter()
    log.handlers = [writer]
    for _ in range(300):
        log.info("x" * 100)
    while taken := writer.take():
        assert taken.endswith(b"\n")
        assert len(taken) <= 4096
