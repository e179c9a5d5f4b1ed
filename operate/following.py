"""Follows one log, or several as one: what is new since the last look, in the order of time.

log = Log(cloud, logs_of(deployment, copies=True), since=time.time() - 900)
while True:
    for page in log.look():
        text.write_lines(event.line for event in page)
    pause()
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from operate import text
from operate.cloud import Cloud
from operate.deployment import Deployment
from operate.logs import WORKER_LINE

PAUSE_SECONDS = 3.0  # between two looks at a log, unless the environment has FOLLOW_PAUSE
MOST_EVENTS = 10_000  # of a page, which CloudWatch Logs limits to 1 MB as well
OVERLAP = 30_000  # ms that each look reads again, because events reach CloudWatch Logs out of order


class Source(NamedTuple):
    """A log group, or some of its streams. `pattern`: only the events that it finds."""

    group: str
    streams: tuple[str, ...] = ()
    pattern: str = ""


class Event(NamedTuple):
    timestamp: int  # ms
    stream: str
    message: str

    @property
    def line(self) -> str:
        """The message on one line, as a terminal may show it."""
        message = self.message[:-1] if self.message.endswith("\n") else self.message
        return text.visible(re.sub("[\r\n]", " ", message))


class Page(NamedTuple):
    """What is left of what was read of a source. Without a token, there is no more."""

    events: list[dict[str, Any]]
    token: str | None


def logs_of(deployment: Deployment, copies: bool) -> list[Source]:
    """Those with what workers do. `copies`: the function copies, too; then its log has other lines beside them."""
    workers = Source(deployment.worker_log_group)
    return [workers, Source(deployment.starter_log_group, pattern=WORKER_LINE)] if copies else [workers]


def pause() -> None:
    time.sleep(float(os.environ.get("FOLLOW_PAUSE") or PAUSE_SECONDS))


class Log:
    """`since`: seconds since the epoch. A group or a stream that does not exist yet has no events."""

    def __init__(self, cloud: Cloud, sources: Sequence[Source], since: float) -> None:
        self.cloud, self.sources = cloud, sources
        self.since = int(since * 1000)  # ms
        self.seen: dict[str, int] = {}  # the events that the next look would show again, by their ids, with their times

    def look(self) -> Iterator[list[Event]]:
        """The events that came since the last look, page by page, so that hours of a busy log are never held together.
        Raises Failure if AWS does not answer."""
        since = self.since
        pages = [self._read(source, since) for source in self.sources]
        while True:
            until = min((time_of_last(page) for page in pages if page.token), default=None)
            yield self._new([event for page in pages for event in page.events if is_before(event, until)])
            if until is None:
                return
            pages = [self._rest(*one, since, until) for one in zip(self.sources, pages)]

    def _rest(self, source: Source, page: Page, since: int, until: int) -> Page:
        left = [event for event in page.events if event["timestamp"] > until]
        return Page(left, page.token) if left or not page.token else self._read(source, since, page.token)

    def _read(self, source: Source, since: int, token: str | None = None) -> Page:
        """One answer of CloudWatch Logs: the CLI's own paging would hold all until the end of the log."""
        words = ["--log-group-name", source.group, "--start-time", str(since), "--limit", str(MOST_EVENTS)]
        if source.streams:
            words += ["--log-stream-names", *source.streams]
        if token:
            words += ["--next-token", token]
        answer = self.cloud.find("logs", "filter-log-events", *words, "--no-paginate") or {}
        events = [event for event in answer.get("events", []) if re.search(source.pattern, event["message"])]
        return Page(events, answer.get("nextToken"))

    def _new(self, events: list[dict[str, Any]]) -> list[Event]:
        """Those that were not seen before. From `since` on, the next look reads again."""
        found = []
        for event in sorted(events, key=lambda event: int(event["timestamp"])):
            if event["eventId"] in self.seen:
                continue
            self.seen[event["eventId"]] = event["timestamp"]
            self.since = max(self.since, event["timestamp"] - OVERLAP)
            found.append(Event(event["timestamp"], event["logStreamName"], event["message"]))

        self.seen = {name: at for name, at in self.seen.items() if at >= self.since}
        return found


def time_of_last(page: Page) -> int:
    """What is not read yet of a log is not older than what was read of it."""
    return max((int(event["timestamp"]) for event in page.events), default=0)


def is_before(event: dict[str, Any], until: int | None) -> bool:
    return until is None or event["timestamp"] <= until
