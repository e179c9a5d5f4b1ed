"""ANNOUNCE: sends events to EventBridge, of keys that are equal and of those that failed; no sync waits for it."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from botocore.exceptions import ClientError
from botocore.exceptions import ConnectionError as NotConnected

from mirror.aws.boto3_clients import Boto3Events
from mirror.model.errors import AWS_ERRORS, describe
from mirror.model.log_lines import UNANNOUNCED, log
from mirror.model.selection import is_marker
from mirror.model.services import EVENTS_BATCH
from mirror.protocol.attempt import KeySync
from mirror.protocol.objects import Source
from mirror.protocol.verdict import ABSENT, EQUAL, EXPIRED, FOREIGN
from mirror.queue.lease import Lease
from mirror.queue.option import Option
from mirror.settings import Settings

SOURCE, SYNCED, NOT_SYNCED = "s3-to-s3express-sync", "Object Synced", "Object Not Synced"  # users' rules match these
AGAIN_AFTER = (0.2, 0.6)  # seconds: events that EventBridge has not taken are sent again after these pauses
REASON_CHARACTERS = 2000  # AWS may answer with 250,000, and one call takes 256 KB for its ten events
LED_TO = {EQUAL: "copied", ABSENT: "deleted"}
NO_WAY = "a VPC without a route to events.%s.amazonaws.com needs an interface endpoint for it, or a NAT gateway"


class Announcement(NamedTuple):
    """An event of ours for EventBridge; its detail is JSON."""

    detail_type: str
    detail: str
    is_awaited: bool = False  # a job waits for it: if EventBridge does not take it, its message comes again


@dataclass(eq=False)
class Announcer(Option):
    """Sends the events of this process, those of a message before it is deleted."""

    settings: Settings
    client: Boto3Events
    now: Callable[[], float] = time.monotonic
    events: WeakKeyDictionary[Lease, list[Announcement]] = field(default_factory=WeakKeyDictionary)  # to be sent
    sent: Counter[str] = field(default_factory=Counter)  # announced, unannounced, since the latest beat
    next_try: float = -math.inf  # after a failure; otherwise -inf
    why: str = ""  # the latest event was not taken
    unsaid: int = 0  # keys that could not be announced since the latest line of the log about it

    # Which events

    def synced(self, sync: KeySync, lease: Lease) -> None:
        """A change of the key from now on is announced by its next sync."""
        if self.settings.announce.startswith(("markers", "all")):
            self.events.setdefault(lease, []).extend(events_of(self.settings, sync))

    def given_up(self, lease: Lease, sync: KeySync | None, error: Exception) -> None:
        if self.settings.announce.endswith("failures"):
            self.events.setdefault(lease, []).append(event_of_failure(self.settings, sync, error))

    # Sending them

    async def before_delete(self, leases: Sequence[Lease]) -> Collection[Lease]:
        """If the event of a marker was not taken, its message comes again."""
        events = {lease: self.events.pop(lease, []) for lease in leases}
        left = await self.announce([*itertools.chain.from_iterable(events.values())])
        awaited = {event for event in left if event.is_awaited}
        return [lease for lease, of_lease in events.items() if not awaited.isdisjoint(of_lease)]

    async def announce(self, events: list[Announcement]) -> list[Announcement]:
        """Returns the events that it gave up, which are counted as unannounced. They may still have been sent."""
        if not events:
            return []
        left = list(events)
        if self.may_try():
            try:
                await asyncio.wait_for(self.send(left), self.settings.event_seconds)
                self.next_try = -math.inf
            except (*AWS_ERRORS, TimeoutError) as error:
                self.next_try = self.now() + self.settings.event_pause
                self.why = self.explain(error)
        self.sent["announced"] += len(events) - len(left)
        self.sent["unannounced"] += len(left)
        self.unsaid += len(left)
        return left

    def may_try(self) -> bool:
        """Whether to send now. After a pause a single caller tries; the others give up until it has succeeded."""
        now = self.now()
        if self.next_try > now:
            return False
        if self.next_try > -math.inf:
            self.say()
            self.next_try = now + self.settings.event_pause
        return True

    async def send(self, left: list[Announcement]) -> None:
        """Removes the events that EventBridge takes from the list. Raises the error of a call if it takes none."""
        done = 0
        while done < len(left):
            batch = left[done : done + EVENTS_BATCH]
            refused = await self.send_batch(batch)
            left[done : done + len(batch)] = refused
            done += len(refused)

    async def send_batch(self, batch: list[Announcement]) -> list[Announcement]:
        """Sends ten events at most. It answers for each of them; returns those that were not taken."""
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

    async def put(self, events: list[Announcement]) -> tuple[list[Announcement], ClientError | None]:
        """Returns the events that were not taken, and the error of the last of them."""
        entries = [{"Source": SOURCE, "DetailType": event.detail_type, "Detail": event.detail} for event in events]
        answer = await self.client.put_events(Entries=entries)
        results: list[dict[str, Any]] = answer.get("Entries") or [{} for _ in events]

        left, refusal = [], None
        for event, result in zip(events, results, strict=True):
            if not result.get("EventId"):
                left.append(event)
                refusal = result
        return left, error_of(refusal) if refusal is not None else None

    # What the log says

    def explain(self, error: Exception) -> str:
        text = (
            describe(error)
            if str(error)
            else f'error=TimeoutError message="no answer within {self.settings.event_seconds:g} s"'
        )
        is_far = isinstance(error, (NotConnected, TimeoutError))
        return f'{text} advice="{NO_WAY % self.settings.region}"' if is_far else text

    async def beat(self, counts: Counter[str], _kept: int, is_last: bool = False) -> None:
        """Logs what was not announced when a pause is over."""
        counts.update(self.sent)
        self.sent.clear()
        if is_last or self.next_try <= self.now():
            self.say()

    def say(self) -> None:
        if self.unsaid:
            log.error(UNANNOUNCED, self.unsaid, self.why)
        self.unsaid = 0


def error_of(result: dict[str, Any]) -> ClientError:
    """What a call with this event alone would have raised."""
    code, message = result.get("ErrorCode", ""), result.get("ErrorMessage", "")
    return ClientError({"Error": {"Code": code, "Message": message}}, "PutEvents")


def detail_of(settings: Settings, key: str | None, action: str, source: Source | None) -> dict[str, Any]:
    """`source`: what is announced of it; None if it has no such object, or could not be looked at."""
    version = None
    if source:
        etag, modified, _, version_id, _ = source.identity.split(" ")
        version = {"etag": etag, "version-id": version_id, "last-modified": modified, "size": source.size}
    return {
        "bucket": settings.dst_bucket,
        "source-bucket": settings.src_bucket,
        "key": key,
        "action": action,
        "size": source.size if source else 0,
        "source-version": version,
    }


def event_of_failure(settings: Settings, sync: KeySync | None, error: Exception) -> Announcement:
    source = sync.result.sight.source if sync else None
    detail = detail_of(settings, sync.key if sync else None, "failed", source) | {
        "reason": describe(error)[:REASON_CHARACTERS]
    }
    return Announcement(NOT_SYNCED, json.dumps(detail, ensure_ascii=False))


def events_of(settings: Settings, sync: KeySync) -> list[Announcement]:
    """None or one."""
    result = sync.result
    if result.end in (EXPIRED, FOREIGN) and result.action == "skipped":
        return []  # the destination need not have it, or has what the sync did not write
    is_awaited = is_marker(sync.key, settings.copy_last)
    if settings.announce.startswith("markers") and not is_awaited:
        return []
    # Another worker may have changed what this sync wrote, so the action is the one that made both sides equal at last.
    action = "skipped" if result.action == "skipped" else LED_TO.get(result.end, result.action)
    source = None if action == "deleted" else result.sight.source
    detail = json.dumps(detail_of(settings, sync.key, action, source), ensure_ascii=False)
    return [Announcement(SYNCED, detail, is_awaited)]
