"""How a log is followed (operate/following.py): drawn logs, whose events arrive late, on a CloudWatch Logs on paper."""

from __future__ import annotations

import random
import re
from typing import Any, cast

import pytest

from operate.cloud import Cloud
from operate.following import OVERLAP, Event, Log, Source

GROUPS = ("one", "two")


class Paper:
    """As much of CloudWatch Logs: events of groups, which it shows in pages, by time, once they have arrived."""

    def __init__(self, draw: random.Random) -> None:
        self.arrived: dict[str, list[dict[str, Any]]] = {}
        self.most = draw.randrange(1, 9)

    def find(self, _service: str, _operation: str, *words: str) -> dict[str, Any] | None:
        given = dict(zip(words[::2], words[1::2], strict=False))
        group = self.arrived.get(given["--log-group-name"])
        if group is None:
            return None
        found = [event for event in group if event["timestamp"] >= int(given["--start-time"])]
        found.sort(key=lambda event: int(event["timestamp"]))
        first = int(given.get("--next-token", 0))
        more = {"nextToken": str(first + self.most)} if first + self.most < len(found) else {}
        return {"events": found[first : first + self.most]} | more


@pytest.mark.fast
@pytest.mark.parametrize("seed", range(200))
def test_each_event_is_shown_once_in_the_order_of_time_if_it_arrives_within_30_seconds(seed: int) -> None:
    draw = random.Random(seed)
    logs, now = Paper(draw), 1_000_000
    log = Log(cast("Cloud", logs), [Source("one"), Source("two", pattern="^kept")], since=now / 1000)
    wanted, shown = list[str](), list[Event]()
    for _ in range(6):
        newest = now + draw.randrange(0, 60_000, 5000)
        for _ in range(draw.randrange(12)):
            group, at = draw.choice(GROUPS), draw.randrange(max(1_000_000, now - OVERLAP), newest + 1, 5000)
            number = f"kept {len(wanted)}"
            name = number if group == "one" or draw.random() < 0.7 else f"other {number}"
            event = {"eventId": number, "timestamp": at, "logStreamName": "s", "message": f"{name}\n"}
            logs.arrived.setdefault(group, []).append(event)
            wanted += [name] if name == number or group == "one" else [""]
        pages = list(log.look())
        times = [event.timestamp for page in pages for event in page]
        assert times == sorted(times)
        assert max(map(len, pages)) <= logs.most * len(GROUPS)
        shown += [event for page in pages for event in page]
        now = max([now, *(event.timestamp for event in shown)])

    assert sorted(event.line for event in shown) == sorted(filter(None, wanted))
    assert not any(re.match("other", event.line) for event in shown)
