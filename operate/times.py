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


MOMENT = re.compile(r"([0-9-]+T[0-9:]+)(\.[0-9]+)?(?:Z|([+-])([0-9]{2}):?([0-9]{2}))")


def moment(value: str | float | None) -> float | None:
    """Seconds since the epoch of a time as either generation of the CLI prints it: a number, or a text with "Z" or with
    the offset of this machine. None of anything else."""
    if value is None or isinstance(value, (int, float)):
        return value
    found = MOMENT.fullmatch(value)
    at = epoch_or_none(f"{found[1]}Z") if found else None
    if found is None or at is None:
        return None
    offset = int(found[4] or 0) * 3600 + int(found[5] or 0) * 60
    return at + float(found[2] or 0) - (-offset if found[3] == "-" else offset)


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
