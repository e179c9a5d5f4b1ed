"""Times as the scripts, the function and the logs write them: UTC, such as 2026-11-25T01:02:03Z."""

from __future__ import annotations

import calendar
import math
import re
import time

FORM = "%Y-%m-%dT%H:%M:%SZ"
DAY = 86_400
SECONDS_OF = {"s": 1, "m": 60, "h": 3600, "d": DAY}


def iso(at: float) -> str:
    return time.strftime(FORM, time.gmtime(at))


def epoch(text: str) -> int:
    """A fraction of a second does not count. Raises ValueError for what is no such time."""
    return calendar.timegm(time.strptime(re.sub(r"\.\d+", "", text), FORM))


def epoch_or_none(text: str) -> int | None:
    try:
        return epoch(text)
    except ValueError:
        return None


def seconds_since(text: str, now: float) -> int:
    return math.floor(now - epoch(text))


def seconds_of(duration: str) -> int | None:
    """Of a duration such as 15m, or None if it is something else."""
    found = re.fullmatch("([1-9][0-9]{0,5})([smhd])", duration)
    return int(found[1]) * SECONDS_OF[found[2]] if found else None
