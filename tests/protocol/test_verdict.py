"""The verdict on a key: every combination of two sides."""

import math
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
    NO_DOUBT,
    NOTHING,
    REFUSE,
    STALE,
    UNDECIDED,
    judge,
    judge_listed,
)

pytestmark = pytest.mark.fast

PUT = datetime(2026, 1, 1, 12, 0, 30, tzinfo=UTC)
BEFORE, AFTER = PUT - timedelta(seconds=1), PUT + timedelta(seconds=1)


def identity(etag: str = '"etag"', size: int = 3, modified: datetime = PUT, digest: str = "0123456789ab") -> str:
    return f"{Listed(etag, size, modified, '').identity} null {digest}"


class Source(NamedTuple):
    size: int = 3
    modified: datetime = PUT
    identity: str = identity('"etag"', 3)
    archived: str = ""
    carries_provenance: bool = True


class Copy(NamedTuple):
    provenance: str = ""
    size: int = 3
    modified: datetime = AFTER


SOURCE, ICE, SILENT = Source(), Source(archived="GLACIER"), Source(carries_provenance=False)
OURS = Copy(SOURCE.identity)
OTHER = Copy(identity('"other"', 3))
OTHER_METADATA = Copy(identity('"etag"', 3, digest="ba9876543210"))
UNKNOWN, UNKNOWN_OLDER, UNKNOWN_LARGER = Copy(), Copy(modified=BEFORE), Copy(size=4)


@pytest.mark.parametrize(
    ("source", "destination", "asked", "what", "action"),
    [
        (None, None, {}, ABSENT, NOTHING),
        (None, OURS, {}, GHOST, DELETE),
        (None, UNKNOWN, {}, FOREIGN, DELETE),
        (SOURCE, None, {}, MISSING, COPY),
        (SOURCE, OURS, {}, EQUAL, NOTHING),
        (SOURCE, OURS._replace(modified=BEFORE), {}, EQUAL, NOTHING),  # provenance decides, not the time
        (SOURCE, OTHER, {}, STALE, COPY),
        (SOURCE, OTHER_METADATA, {}, STALE, COPY),
        (SOURCE, Copy(SOURCE.identity[:-1]), {}, STALE, COPY),
        (SOURCE, UNKNOWN, {}, EQUAL, COPY),  # size and time fit, and nothing proves more
        (SOURCE, UNKNOWN, {"deep": True}, STALE, COPY),
        (SILENT, UNKNOWN, {"deep": True}, EQUAL, COPY),
        (SOURCE, UNKNOWN_OLDER, {}, STALE, COPY),
        (SOURCE, UNKNOWN_LARGER, {}, STALE, COPY),
        # checksums
        (SOURCE, OURS, {"same_bytes": True}, EQUAL, NOTHING),
        (SOURCE, OURS, {"same_bytes": False}, CORRUPT, COPY),
        (SOURCE, UNKNOWN, {"deep": True, "same_bytes": True}, EQUAL, COPY),
        (SOURCE, UNKNOWN, {"same_bytes": False}, STALE, COPY),
        (ICE, OURS, {"same_bytes": False}, ARCHIVED, REFUSE),
        (SOURCE, OURS, {"expired": True, "same_bytes": False}, EXPIRED, NOTHING),
        # archived
        (ICE, None, {}, ARCHIVED, REFUSE),
        (ICE, OURS, {}, EQUAL, NOTHING),
        (ICE, OTHER, {}, ARCHIVED, REFUSE),
        (ICE, UNKNOWN, {}, EQUAL, REFUSE),
        (ICE, UNKNOWN, {"deep": True}, ARCHIVED, REFUSE),
        # KEEP_DAYS
        (SOURCE, None, {"expired": True}, EXPIRED, NOTHING),
        (SOURCE, OURS, {"expired": True}, EXPIRED, NOTHING),
        (SOURCE, OTHER, {"expired": True}, STALE, DELETE),
        (SOURCE, UNKNOWN, {"expired": True, "deep": True}, EXPIRED, NOTHING),
        (SOURCE, UNKNOWN_OLDER, {"expired": True}, STALE, DELETE),
        # EXCLUDE
        (None, OURS, {"excluded": True}, EXCLUDED, NOTHING),
        (None, UNKNOWN, {"excluded": True}, EXCLUDED, NOTHING),
    ],
)
def test_what_a_look_at_both_sides_tells(source, destination, asked, what, action):
    found = judge(source, destination, **asked)
    assert found == (what, action, destination is not None and not destination.provenance)


LISTED = Listed('"etag"', 3, PUT, "")


@pytest.mark.parametrize(
    ("destination", "what"),
    [
        (None, MISSING),
        (OURS, EQUAL),
        (OTHER_METADATA, EQUAL),  # which a listing does not show
        (OTHER, STALE),
        (Copy(identity('"etag"', 3, AFTER)), STALE),
        (Copy(identity('"etag"', 33)), STALE),
        (UNKNOWN, EQUAL),
        (UNKNOWN_OLDER, STALE),
    ],
)
def test_what_a_copy_tells_of_the_version_that_a_listing_showed(destination, what):
    assert judge(LISTED, destination).what == what
    assert judge(LISTED._replace(archived="GLACIER"), destination).what == (EQUAL if what == EQUAL else ARCHIVED)


@pytest.mark.parametrize(
    ("destination", "asked", "what"),
    [
        (None, {}, MISSING),
        (None, {"expired": True}, EXPIRED),
        ((3, 100), {"expired": True}, EXPIRED),
        ((3, 99), {}, STALE),
        ((4, 100), {"doubt": math.inf}, STALE),
        ((3, 100), {"doubt": NO_DOUBT}, EQUAL),
        ((3, 110), {"doubt": 10.0}, UNDECIDED),
        ((3, 110), {"doubt": 10.0, "expired": True}, UNDECIDED),
        ((3, 111), {"doubt": 10.0}, EQUAL),
    ],
)
def test_what_two_listings_tell(destination, asked, what):
    assert judge_listed((3, 100), destination, **asked) == what


def test_a_copy_of_a_later_version_is_known_by_its_provenance():
    assert Destination.is_copy_of_later(OURS, BEFORE)
    assert not Destination.is_copy_of_later(OURS, PUT)
    assert not Destination.is_copy_of_later(UNKNOWN, BEFORE)
