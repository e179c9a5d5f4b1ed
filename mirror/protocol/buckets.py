"""The two buckets of this process: the client for them, and what was learned of them so far."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from mirror.concurrency import SideBySide
from mirror.model.services import S3
from mirror.settings import Settings


@dataclass(frozen=True)
class LeftOut:
    """What a request to the directory bucket does without, because it may not take it."""

    conditions: bool = False  # IfMatch and IfNoneMatch
    encoding: bool = False  # ContentEncoding, which becomes user metadata


NOTHING = LeftOut()
COMPARISONS = 4  # of folders for COPY_LAST, at a time
UPLOADS = 64  # at a time, so that few are finished soon instead of many late, and their parts fit into memory


@dataclass(eq=False)
class Buckets:
    """What all syncs of a process share. `source` and `destination` are arguments that name the bucket in a call."""

    settings: Settings
    s3: S3
    part_slots: SideBySide  # MAX_CONCURRENT_PARTS, shared by all large objects
    now: Callable[[], float] = time.monotonic
    left_out: LeftOut = NOTHING  # what the directory bucket turned out not to take
    source_seen: float = float("-inf")  # when the source bucket itself answered
    asked: float = float("-inf")  # when both were last asked for something that names no key
    answers: bool = True  # whether they gave it
    is_open: bool = False
    uploads: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(UPLOADS))
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)  # one asks for all
    comparisons: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(COMPARISONS))
    markers: dict[str, tuple[float, bool]] = field(default_factory=dict)  # when looked for, whether it was absent
    marker_locks: list[asyncio.Lock] = field(default_factory=lambda: [asyncio.Lock() for _ in range(64)])
    wall: Callable[[], float] = time.time  # seconds since the epoch: how old objects are

    def __post_init__(self) -> None:
        settings = self.settings
        self.source = bucket_arguments(settings.src_bucket, settings.src_bucket_owner)
        self.destination = bucket_arguments(settings.dst_bucket, settings.dst_bucket_owner)


def bucket_arguments(bucket: str, owner: str) -> dict[str, str]:
    return {"Bucket": bucket} | ({"ExpectedBucketOwner": owner} if owner else {})


def is_expired(buckets: Buckets, modified: datetime) -> bool:
    """Whether KEEP_DAYS keeps a source of that time no longer. Each entry of a listing is asked for, so this costs next
    to nothing where nothing can expire."""
    wanted = buckets.settings.wanted
    return wanted.keep_days > 0 and wanted.is_expired(modified.timestamp(), buckets.wall())
