"""The world of histories.py with whole tasks, the options of a worker, and a bus."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from fakes import Copy, Store, Version
from histories import World
from tasks import Task

FILES = ("data/a", "data/d/a", "data/d/b", "data/d/e/a", "data/f/a", "data/f/b")
MARKERS = ("data/d/_SUCCESS", "data/d/e/_SUCCESS", "data/f/_SUCCESS")
BAD = "data/bad"  # cannot be copied
LAST, ALL = {"COPY_LAST": "_SUCCESS"}, {"ANNOUNCE": "all"}
Trouble = Callable[[list[dict[str, Any]]], Awaitable[dict[str, Any] | None]]


class OptionsWorld(World):
    """The world of histories.py with a bus, whose events it judges, and a reader, who looks after every write."""

    def __init__(self) -> None:
        super().__init__()
        self.had: dict[str, set[str | None]] = defaultdict(lambda: {None})  # what the destination had of each key
        self.put_as: dict[str, int] = {}  # content of a marker -> number of the change that put it
        # Marker that the source has deleted while it was to be seen -> its copy, the number of that change
        self.doomed: dict[str, tuple[Copy, int]] = {}
        self.events: dict[str, list[str | None]] = defaultdict(list)  # what the events of each key say
        self.failures: list[dict[str, Any]] = []
        self.trouble: Trouble | None = None
        self.calls = 0
        self.denies = lambda operation, key: "KMS.DisabledException" if (operation, key) == ("copy_object", BAD) else ""

    def change(self, key: str, change: str, delay: int = 0, copies: int = 1, size: int = 1) -> None:
        """Every put is of its own content, and events have a time."""
        content = f"v{self.changes + 1}"
        self.put_as[content] = self.changes + 1
        before = len(self.queue.messages)
        super().change(key, f"put {content}" if change == "put" else change, delay, copies, size)
        for message in self.queue.messages[before:]:
            message.body = with_time(message.body, self.clock)
        copy = self.stores.get(key, Store()).copy
        self.doomed.pop(key, None)
        if key in MARKERS and copy and key not in self.versions:
            self.doomed[key] = copy, self.changes

    def hold(self, key: str, version: Version) -> None:
        """Without an event."""
        self.versions[key], self.changed_at[key] = version, 0

    def check(self, key: str, before: Copy | None, after: Copy | None) -> None:
        super().check(key, before, after)
        self.had[key].add(after.content[0] if after else None)
        version = self.versions.get(key)
        is_as_in_source = (after.content[0] if after else None) == (version.content if version else None)
        for marker, (copy, change) in self.doomed.items():
            is_announced = key != marker and key.startswith(marker.removesuffix("_SUCCESS"))
            is_later = after is not before and is_as_in_source and self.changed_at[key] > change
            if is_announced and is_later and self.stores[marker].copy is copy:
                self.faults.append(f"{key} changes before {marker} goes")
        for marker in MARKERS:
            copy = self.stores[marker].copy if marker in self.stores else None
            if copy:
                self.read(marker, self.put_as[copy.content[0]])

    def read(self, marker: str, put_as: int) -> None:
        """What the source has held since before the marker was put is there with it."""
        for key, version in self.versions.items():
            is_announced = key.startswith(marker.removesuffix("_SUCCESS")) and self.changed_at[key] < put_as
            copy = self.stores[key].copy if key in self.stores else None
            if is_announced and (copy is None or copy.content[0] != version.content):
                self.faults.append(f"{marker} is seen before {key}")

    # The bus

    async def put_events(self, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803
        self.calls += 1
        assert 1 <= len(Entries) <= 10
        await asyncio.sleep(0.05)
        answer = await self.trouble(Entries) if self.trouble else None
        results = answer if answer is not None else {"Entries": [{"EventId": "1"} for _ in Entries]}
        for entry, result in zip(Entries, results.get("Entries", [{}] * len(Entries)), strict=True):
            if "EventId" in result:
                self.hear(entry["DetailType"], json.loads(entry["Detail"]))
        return results

    def hear(self, what: str, detail: dict[str, Any]) -> None:
        if what == "Object Not Synced":
            self.failures.append(detail)
            return
        key, version = detail["key"], detail["source-version"]
        content = version["etag"].strip('"') if version else None
        if content not in self.had[key] or detail["action"] == ("copied" if version is None else "deleted"):
            self.faults.append(f"{detail} is sent before it is so")
        self.events[key].append(content)

    def close_connections(self) -> None:
        pass

    # Workers

    def live(self, seconds: float | None = None, **environment: str) -> Task:
        """A task from its start to its end."""
        self.wait()
        task = Task(self, environment, bus=self)
        task.status = task.live(seconds)
        return task


def with_time(body: str, clock: float) -> str:
    content, text = json.loads(body), datetime.fromtimestamp(clock, UTC).isoformat()
    for event in content.get("Records", [content]):
        event["eventTime" if "Records" in content else "time"] = text
    return json.dumps(content)
