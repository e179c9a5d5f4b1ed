"""What a verdict on a key means for a worker. What it means for the readers: tests/worker/test_readers_agree.py."""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import pytest

from mirror.protocol.objects import Destination, Listed
from mirror.protocol.verdict import (
    ABSENT,
    ARCHIVED,
    COPY,
    CORRUPT,
    DELETE,
    EQUAL,
    EXCLUDED,
    EXPIRED,
    FOREIGN,
    GHOST,
    MISSING,
    NOTHING,
    REFUSE,
    STALE,
    judge,
)

pytestmark = pytest.mark.fast

PUT = datetime(2026, 1, 1, 12, 0, 30, tzinfo=UTC)
BEFORE, AFTER = PUT - timedelta(seconds=1), PUT + timedelta(seconds=1)
SOURCE = Listed('"etag"', 3, PUT, "")


class Copy(NamedTuple):
    provenance: str = ""
    size: int = 3
    modified: datetime = AFTER


OURS, UNKNOWN = Copy(f"{SOURCE.identity} null 0123456789ab"), Copy()
OF_BEFORE, ICE = Copy("e 2026-01-01T00:00:00Z 3 null 0123456789ab"), SOURCE._replace(archived="GLACIER")


@pytest.mark.parametrize(
    ("source", "destination", "asked", "what", "action"),
    [
        (SOURCE, OURS, {}, EQUAL, NOTHING),
        (SOURCE, OURS._replace(modified=BEFORE), {}, EQUAL, NOTHING),  # provenance decides, not the time
        (SOURCE, Copy(f"{SOURCE.identity}3 null 0123456789ab"), {}, STALE, COPY),  # of a size that begins so
        (SOURCE, UNKNOWN, {}, EQUAL, COPY),  # size and time fit, and nothing proves more
        (SOURCE, UNKNOWN, {"same_bytes": False}, STALE, COPY),
        (SOURCE, OURS, {"same_bytes": False}, CORRUPT, COPY),
        (SOURCE, OF_BEFORE, {}, STALE, COPY),
        (SOURCE, None, {}, MISSING, COPY),
        (ICE, None, {}, ARCHIVED, REFUSE),
        (ICE, OF_BEFORE, {}, ARCHIVED, REFUSE),
        (ICE, OURS, {}, EQUAL, NOTHING),
        (SOURCE, None, {"expired": True}, EXPIRED, NOTHING),
        (SOURCE, OURS, {"expired": True}, EXPIRED, NOTHING),
        (SOURCE, OF_BEFORE, {"expired": True}, STALE, DELETE),
        (None, None, {}, ABSENT, NOTHING),
        (None, OURS, {}, GHOST, DELETE),
        (None, UNKNOWN, {}, FOREIGN, DELETE),  # its event asks for it
        (None, OURS, {"excluded": True}, EXCLUDED, NOTHING),
        (None, UNKNOWN, {"excluded": True}, EXCLUDED, NOTHING),
    ],
)
def test_what_a_look_at_both_sides_tells(source, destination, asked, what, action):
    found = judge(source, destination, **asked)
    assert found == (what, action, destination is UNKNOWN)


def test_a_copy_of_a_later_version_is_known_by_its_provenance():
    assert Destination.is_copy_of_later(OURS, BEFORE)
    assert not Destination.is_copy_of_later(OURS, PUT)
    assert not Destination.is_copy_of_later(UNKNOWN, BEFORE)
