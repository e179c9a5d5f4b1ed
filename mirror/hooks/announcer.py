"""ANNOUNCE: an event to EventBridge for each key that is equal, at least once, and never in the way of the sync."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from botocore.exceptions import ConnectionError as NotConnected
from botocore.parsers import ResponseParserError

from mirror.hooks.markers import is_marker
from mirror.model.errors import describe
from mirror.model.limits import EVENTS_BATCH
from mirror.model.log_lines import UNANNOUNCED
from mirror.model.services import Events
from mirror.protocol.attempt import KeySync
from mirror.protocol.objects import Source
from mirror.settings import Settings

log = logging.getLogger("worker")

SOURCE, DETAIL_TYPE = "s3-to-s3express-sync", "Object Synced"  # a rule's pattern names them
SEND_SECONDS = 6  # for all that a batch of messages announces
AGAIN_AFTER = (0.2, 0.6)  # seconds: what EventBridge has not taken is sent again so often
PAUSE_SECONDS = 30  # after a failure nothing is tried
NO_WAY = "a VPC without a way to events.%s.amazonaws.com needs an interface endpoint for it, or a NAT gateway"


@dataclass(eq=False)
class Announcer:
    """What this process tells of keys that are equal; without a client it tells nothing."""

    settings: Settings
    client: Events | None = None
    seconds: float = SEND_SECONDS
    now: Callable[[], float] = time.monotonic
    counts: Counter[str] = field(default_factory=Counter)  # announced, unannounced
    next_try: float = -math.inf  # later than that only after a failure
    why: str = ""
    unsaid: int = 0  # keys that could not be announced, since the latest line that says so

    def events_of(self, sync: KeySync) -> list[str]:
        """What there is to tell of a sync that has just ended well. When it is sent the key may be another again, and
        the next sync of it tells that."""
        settings = self.settings
        if sync.expired and sync.action == "skipped":
            return []  # the destination need not have it
        if self.client is None or (settings.announce == "markers" and not is_marker(sync.key, settings.copy_last)):
            return []
        return [json.dumps(detail_of(sync, settings), ensure_ascii=False)]

    async def announce(self, events: list[str]) -> None:
        """Returns when they are sent or given up. What is counted as unannounced may have been sent all the same."""
        left = list(events)
        if self.may_try():
            try:
                await asyncio.wait_for(self.send(left), self.seconds)
                self.next_try = -math.inf
            except (ClientError, BotoCoreError, ResponseParserError, TimeoutError) as error:
                self.next_try, self.why = self.now() + PAUSE_SECONDS, self.explain(error)
        self.counts["announced"] += len(events) - len(left)
        self.counts["unannounced"] += len(left)
        self.unsaid += len(left)

    def may_try(self) -> bool:
        """After a pause one tries alone: the others go on without until it has got through."""
        now = self.now()
        if self.next_try <= now and self.next_try > -math.inf:
            self.say()
            self.next_try = now + PAUSE_SECONDS
            return True
        return self.next_try <= now

    async def send(self, left: list[str]) -> None:
        """Takes out of the list what EventBridge has taken. Raises the error if it took nothing of a call."""
        done = 0
        while done < len(left):
            batch = left[done : done + EVENTS_BATCH]
            refused = await self.send_batch(batch)
            left[done : done + len(batch)] = refused
            done += len(refused)

    async def send_batch(self, batch: list[str]) -> list[str]:
        """Those that EventBridge does not take, of ten at most: each is answered by itself."""
        left, error = await self.put(batch)
        for seconds in AGAIN_AFTER:
            if not left:
                return []
            await asyncio.sleep(seconds)
            left, error = await self.put(left)
        if error and len(left) == len(batch):
            raise error
        self.why = self.explain(error) if error else self.why
        return left

    async def put(self, events: list[str]) -> tuple[list[str], ClientError | None]:
        """Those that were not taken, and why the last of them was not."""
        assert self.client
        entries = [{"Source": SOURCE, "DetailType": DETAIL_TYPE, "Detail": event} for event in events]
        answer = await self.client.put_events(Entries=entries)
        results: list[dict[str, Any]] = answer.get("Entries") or [{} for _ in events]
        left = [(event, result) for event, result in zip(events, results, strict=True) if not result.get("EventId")]
        if not left:
            return [], None
        code, message = (left[-1][1].get(name, "") for name in ("ErrorCode", "ErrorMessage"))
        return [event for event, _ in left], ClientError({"Error": {"Code": code, "Message": message}}, "PutEvents")

    # What is said of it

    def explain(self, error: Exception) -> str:
        text = describe(error) if str(error) else f'error=TimeoutError message="no answer within {self.seconds:g} s"'
        is_far = isinstance(error, (NotConnected, TimeoutError))
        return f'{text} advice="{NO_WAY % self.settings.region}"' if is_far else text

    async def beat(self) -> None:
        """Every second: when a pause is over."""
        if self.next_try <= self.now():
            self.say()

    def say(self) -> None:
        if self.unsaid:
            log.error(UNANNOUNCED, self.unsaid, self.why)
        self.unsaid = 0


def detail_of(sync: KeySync, settings: Settings) -> dict[str, Any]:
    """Of the latest look at both sides, when they were equal. What the sync wrote itself may have been changed by
    another worker since: a key that is in the source was not deleted, and one that is not was not copied."""
    source: Source | None = None if sync.expired and sync.action == "deleted" else sync.sight[0]
    action = "skipped" if sync.action == "skipped" else "copied" if source else "deleted"
    return {
        "bucket": settings.dst_bucket,
        "source-bucket": settings.src_bucket,
        "key": sync.key,
        "action": action,
        "size": source.size if source else 0,
        "source-version": version_of(source) if source else None,
    }


def version_of(source: Source) -> dict[str, Any]:
    etag, modified, _, version_id, _ = source.identity.split(" ")
    return {"etag": etag, "version-id": version_id, "last-modified": modified, "size": source.size}
