"""An Expires: S3 keeps any text and shows it again, but a request can carry only a date in the form of RFC 1123.

A copy that S3 makes of an object and its metadata keeps the text. Where the metadata have to be sent, as for a copy in
parts, a text of another form becomes the date that Python takes it for, or is left out.
"""

from __future__ import annotations

import functools
from datetime import datetime, timezone
from email.utils import format_datetime, parsedate_to_datetime

EXPIRES = "Expires"
UTC = timezone.utc  # noqa: UP017 Python 3.9 has no datetime.UTC


@functools.lru_cache(maxsize=1024)
def moment_of(text: str) -> datetime | None:
    """What Python takes the text for. Each client reads one that is no such date in its own way."""
    try:
        moment = parsedate_to_datetime(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (IndexError, OverflowError, TypeError, ValueError):
        return None


def is_plain_date(text: str) -> bool:
    """Whether a request can carry the text as it is."""
    moment = moment_of(text)
    return moment is not None and header_of(moment) == text


def header_of(moment: datetime) -> str:
    """What a request carries."""
    return format_datetime(moment.astimezone(UTC), usegmt=True)
