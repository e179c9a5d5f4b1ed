"""METRICS: a line a minute in the log, which CloudWatch Logs turns into metrics by itself, so no call is made for it.

The line is a JSON object and nothing else (CloudWatch User Guide, "Embedded metric format specification"). A minute in
which nothing happened has none, because a metric costs for each hour in which it has data.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from mirror.model.errors import Postponed
from mirror.protocol.attempt import KeySync
from mirror.queue.lease import Lease
from mirror.queue.option import Option
from mirror.settings import Settings

LINE_SECONDS = 60
SAMPLE = 100  # lags in a line: the longest list of numbers that a metric may be
COUNTED = {"CopiedKeys": "copied", "DeletedKeys": "deleted", "FailedKeys": "failed", "CopiedBytes": "bytes"}
UNITS = {"CopiedBytes": "Bytes", "Lag": "Seconds"}  # of all others: Count


class Metrics(Option):
    """What one process has done since its latest line."""

    def __init__(self, settings: Settings, show: Callable[[str], None], now: Callable[[], float] = time.time) -> None:
        """`show`: writes a bare line into the log. `now`: seconds since the epoch."""
        self.namespace, self.late_after = settings.app_name, settings.alarm_lag_seconds
        self.show = show
        self.now = now
        self.said = dict.fromkeys(COUNTED.values(), 0)  # in all lines so far
        self.begin_line()

    def begin_line(self) -> None:
        self.next_line = self.now() + LINE_SECONDS
        self.lags: list[float] = []  # a sample of seconds from S3's event until both sides were equal
        self.keys = 0  # that were copied or deleted after an event of S3
        self.late = 0  # those of them whose lag was above ALARM_LAG_SECONDS
        self.put_off: set[str] = set()  # markers that wait, and were handed back for later

    def ended(self, sync: KeySync, leases: Sequence[Lease], error: Exception | None) -> None:
        """A message of ours on a key has a time, too, but that of a reconcile, and a key that was found equal may have
        been so for long: neither says how late a key was."""
        if isinstance(error, Postponed) and error.waiting_since is not None:
            self.put_off.add(sync.key)
        if error or sync.result.action == "skipped":
            return
        contents = [lease.content for lease in leases if lease.content.is_event]
        times = [content.event_time for content in contents if content.event_time]
        if times:
            self.note_lag(max(0.0, self.now() - min(times)))

    def note_lag(self, lag: float) -> None:
        """Each lag is as likely as any other to be in the sample, however many there are."""
        self.keys += 1
        self.late += lag > self.late_after
        if len(self.lags) < SAMPLE:
            self.lags.append(round(lag, 3))
        elif (place := random.randrange(self.keys)) < SAMPLE:
            self.lags[place] = round(lag, 3)

    async def beat(self, counts: Counter[str], kept: int, is_last: bool = False) -> None:
        """Writes a line of what was done since the one before it. Its HeldKeys are also the markers that wait for what
        they announce."""
        if not is_last and self.now() < self.next_line:
            return
        values: dict[str, float | Sequence[float]] = {}
        values |= {name: counts[count] - self.said[count] for name, count in COUNTED.items()}
        values |= {"HeldKeys": kept + len(self.put_off), "Keys": self.keys, "LateKeys": self.late}
        if any(values.values()):
            if self.lags:
                values["Lag"] = self.lags
            self.show(self.line_of(values))
        self.said = {count: counts[count] for count in COUNTED.values()}
        self.begin_line()

    def line_of(self, values: Mapping[str, float | Sequence[float]]) -> str:
        """Without dimensions, each of which would be a metric of its own: what all processes say adds up."""
        metrics = [{"Name": name, "Unit": UNITS.get(name, "Count")} for name in values]
        directive = {"Namespace": self.namespace, "Dimensions": [[]], "Metrics": metrics}
        about = {"Timestamp": int(self.now() * 1000), "CloudWatchMetrics": [directive]}
        return json.dumps({"_aws": about, **values})
