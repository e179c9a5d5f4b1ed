"""What is deployed in a month, what that wants of the source, and what happens to the source: with a seed, always so.

What is selected is calculated here once more, in words of its own, as mirror/model/selection.py is under test.
"""

import math
import random
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

SOURCE = "source"
DAY, HOUR = 86_400, 3600
EXCLUDED = ("*.tmp", "*/_temporary/*")
FOLDERS = {"hot/": 12, "logs/": 6, "results/": 3, "cold/": 9}  # how much of all comes under it
SYNCED = ("hot/", "logs/")
LARGEST = 4 * 10**9  # bytes; a copy of more has to be in parts
EVER, RECENT = (0, 9999), (0, 7)  # days old
LATE_DAYS = 3  # for so long an event is on its way at most
ARCHIVED = (4, 14)  # days old; in the first of them an event may be on its way

type Call = tuple[str, list[Any], dict[str, Any]]  # of a verb of the stand-in


@dataclass(frozen=True)
class Deployed:
    """Settings of a deployment; without any, everything is synced and kept."""

    prefixes: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    keep_days: int = 0

    def variables(self) -> dict[str, str]:
        lists = {"PREFIX_FILTER": ",".join(self.prefixes), "EXCLUDE": ",".join(self.exclude)}
        return lists | {"KEEP_DAYS": str(self.keep_days or "")}

    def is_under(self, key: str) -> bool:
        return not self.prefixes or any(key.startswith(prefix) for prefix in self.prefixes)

    def takes(self, key: str) -> bool:
        return self.is_under(key) and not any(matches(key, pattern) for pattern in self.exclude)

    def last_day(self, modified: int) -> date:
        """Of those on which an object that changed then is kept."""
        return day_of(modified) + timedelta(self.keep_days) if self.keep_days else date.max

    def wants(self, key: str, modified: int, now: int) -> bool:
        return self.takes(key) and day_of(now) <= self.last_day(modified)

    def is_wider_than(self, other: "Deployed") -> bool:
        """Whether something that was removed may come back."""
        return (
            (self.keep_days or math.inf) > (other.keep_days or math.inf)
            or not set(other.exclude) <= set(self.exclude)
            or not all(other.is_under(prefix) for prefix in self.prefixes or ("",))
        )


def day_of(seconds: int) -> date:
    return datetime.fromtimestamp(seconds, UTC).date()


def matches(key: str, pattern: str) -> bool:
    """The two forms of a glob that are used here: *END and *PART*."""
    return pattern[1:-1] in key if pattern.endswith("*") else key.endswith(pattern[1:])


# --- What happens to the source ---------------------------------------------------------------------------------------


@dataclass
class Script:
    """The changes of the source, this many new objects a day, and what becomes of their events."""

    seed: int
    objects_a_day: int
    churn: float = 0.1  # of this many again each is overwritten, deleted, touched and archived
    lost: float = 0.1  # part of the events that never come, which is far more than S3 loses

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.made = 0

    def new_key(self, now: int) -> str:
        folder = self.random.choices(list(FOLDERS), list(FOLDERS.values()))[0]
        kind = self.random.random()
        self.made += 1
        between = "_temporary/" if kind < 0.05 else ""
        ending = "tmp" if kind > 0.9 else "bak" if kind > 0.85 else "bin"
        return f"{folder}{day_of(now)}/{between}{self.made:07d}.{ending}"

    def size(self) -> int:
        return min(int(self.random.lognormvariate(math.log(50e6), 1.2)), LARGEST)

    def put(self, key: str, now: int) -> Call:
        return ("put", [SOURCE, key, self.size()], {"modified": now})

    def stock(self, begin: int, days: int) -> list[Call]:
        """What the bucket holds before the first day."""
        moments = [begin - self.random.randrange(days * DAY) for _ in range(days * self.objects_a_day)]
        return [self.put(self.new_key(moment), moment) for moment in sorted(moments)]

    def changes(self, part: float, now: int, source: dict[str, Any]) -> list[Call]:
        """Those of such a part of a day. What the stand-in cannot do itself is the verb "touch"."""
        calls = [self.put(self.new_key(now), now) for _ in range(self.some(part))]
        few, here = part * self.churn, Choice(self.random, now, dict(source))
        archived = {"storage_class": "GLACIER", "restore": ""}

        for key in here.take(self.some(few), RECENT):
            calls.append(self.put(key, now))
        for key in here.take(self.some(few), RECENT):
            calls.append(("delete", [SOURCE, key], {}))
        for key in here.take(self.some(few)):
            calls.append(("touch", [key], {}))
        for key in here.take(self.some(few), ARCHIVED):
            calls.append(("change", [SOURCE, key], archived))
        for key in here.take(self.some(few / 2), are_archived=True):
            calls.append(("restore", [SOURCE, key], {}))
        return calls

    def some(self, part: float) -> int:
        """A whole number, of which the mean is that part of objects_a_day."""
        return int(part * self.objects_a_day + self.random.random())

    def days_late(self) -> list[int]:
        """Of each delivery of an event: mostly one at once, but it may be late, come twice, or never."""
        fate, late = self.random.random(), self.random.randint(1, LATE_DAYS)
        if fate < self.lost:
            return []
        return [late] if fate < self.lost + 0.1 else [0, late] if fate < self.lost + 0.2 else [0]


@dataclass
class Choice:
    """Keys of the source, none of them taken twice."""

    random: random.Random
    now: int
    source: dict[str, Any]

    def take(self, count: int, days: tuple[int, int] = EVER, are_archived: bool = False) -> list[str]:
        """Keys of objects that changed this many days ago."""
        youngest, oldest = (self.now - some * DAY for some in days)
        suiting = [
            key
            for key, found in self.source.items()
            if oldest <= found["modified"] <= youngest and is_archived(found) == are_archived
        ]
        taken = self.random.sample(suiting, min(count, len(suiting)))
        for key in taken:
            del self.source[key]
        return taken


def is_archived(found: dict[str, Any]) -> bool:
    return found["storage_class"] == "GLACIER" and not found["restore"]
