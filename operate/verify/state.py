"""A run of ./sync.sh verify: what it goes by, its calls of both buckets, and what it has seen so far."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from operate import text
from operate.cloud import Cloud, Denied, NoAnswer
from operate.deployment import Deployment
from operate.failure import Failure
from operate.parts import Part, numbers_of, read_queue, variables_of
from operate.times import moment
from operate.verify.cases import Case, Listed
from operate.verify.chain import Break
from operate.verify.speed import Line, Measured, Summary

LOOK_SECONDS = float(os.environ.get("FOLLOW_PAUSE") or 3)  # between two looks
# After a run that did not end well, the destination is given so long to follow. The local cloud is quicker.
FOLLOW_SECONDS = float(os.environ.get("VERIFY_FOLLOW_SECONDS") or 180)
# The large object: this many copies of one part. 6 GiB is more than one CopyObject may copy.
LARGE_PARTS = int(os.environ.get("VERIFY_LARGE_PARTS") or 96)
LARGE_PART_BYTES = int(os.environ.get("VERIFY_LARGE_PART_BYTES") or 67_108_864)

MOST_AT_ONCE = 8  # jobs: a call of the AWS CLI takes about 60 MB


class Side(NamedTuple):
    """A bucket."""

    cloud: Cloud
    bucket: str
    owner: str

    def options(self, *more: str) -> tuple[str, ...]:
        return ("--bucket", self.bucket, "--expected-bucket-owner", self.owner, *more)

    def need(self, operation: str, *options: str) -> dict[str, Any]:
        return self.cloud.need("s3api", operation, *self.options(*options))

    def list(self, prefix: str) -> dict[str, Listed]:
        """A directory bucket lists prefixes that end in "/"."""
        return listing_of(self.need("list-objects-v2", "--prefix", prefix))


def listing_of(answer: Mapping[str, Any]) -> dict[str, Listed]:
    return {
        one["Key"]: Listed(one["Size"], one["ETag"].replace('"', ""), moment(one["LastModified"]) or 0)
        for one in answer.get("Contents") or []
    }


class Jobs:
    """Jobs that go on beside others. `with`: at the end, those that have not begun do not begin, and the others are
    waited for."""

    def __init__(self) -> None:
        self.executor = ThreadPoolExecutor(max_workers=MOST_AT_ONCE)
        self.begun: list[Future[Any]] = []

    def begin(self, *jobs: Callable[[], Any]) -> None:
        self.begun += [self.executor.submit(job) for job in jobs]

    def need(self) -> None:
        """Waits until all have ended. Raises what one of them has raised."""
        begun, self.begun = self.begun, []
        for one in begun:
            one.exception()
        for one in begun:
            one.result()

    def __enter__(self) -> Jobs:
        return self

    def __exit__(self, *_: object) -> None:
        self.executor.shutdown(wait=True, cancel_futures=True)


def all_at_once(*jobs: Callable[[], Any]) -> None:
    with Jobs() as beside:
        beside.begin(*jobs)
        beside.need()


@dataclass(frozen=True)
class Plan:
    """What a run goes by."""

    cloud: Cloud
    deployment: Deployment
    function: Mapping[str, Any]
    definition: Mapping[str, Any]  # of the workers' tasks
    has_event_rule: bool
    name: str
    folder: str  # of the objects: the beginning of their keys
    cases: list[Case]
    threshold: int
    timeout: int  # seconds of the longest wait of each round
    files: Path = Path()  # a folder for bodies

    @property
    def source(self) -> Side:
        return self._side("SRC_BUCKET")

    @property
    def destination(self) -> Side:
        return self._side("DST_BUCKET")

    def _side(self, setting: str) -> Side:
        settings = self.deployment.settings
        return Side(self.cloud, settings[setting], settings[f"{setting}_OWNER"])

    @property
    def copies(self) -> bool:
        """Whether the function copies, too."""
        return variables_of(self.function).get("STARTER_COPIES") == "true"

    def key(self, name: str) -> str:
        return self.folder + next(case.path for case in self.cases if case.name == name)

    def body(self, name: str) -> Path:
        return self.files / f"body.{name}"


@dataclass
class Seen:
    """What a run has seen so far. Times are seconds since the epoch."""

    began: float
    started: float  # by the monotonic clock
    put_at: float = 0
    put_ended: float = 0
    event_at: float | None = None  # when this machine saw a message first
    first_event_at: float | None = None  # the same, of the first round
    was_busy: bool = False  # whether there were messages before the first upload
    has_put: bool = False
    is_versioned: bool = False
    pause: str = ""  # since when this run has paused the sync
    is_broken: bool = False  # the chain: no further round

    queue: dict[str, int] = field(default_factory=dict)
    source: dict[str, Listed] = field(default_factory=dict)
    destination: dict[str, Listed] = field(default_factory=dict)
    first_source: dict[str, Listed] = field(default_factory=dict)  # after the first round
    first_destination: dict[str, Listed] = field(default_factory=dict)
    heads: dict[str, dict[str, dict[str, Any]]] = field(default_factory=lambda: {"source": {}, "destination": {}})

    states: dict[str, str] = field(default_factory=dict)  # of each object in this round
    results: dict[str, str] = field(default_factory=dict)  # how it went at last
    breaks: list[Break] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)  # of workers, on objects of this run
    tasks: list[dict[str, Any]] = field(default_factory=list)  # that the starter started since the run began
    page: dict[str, Any] | None = None  # the first one of a listing of the copies
    conditions: dict[str, str] | None = None  # with which codes S3 has refused copies on a condition
    measured: Measured | None = None
    summaries: list[Summary] = field(default_factory=list)

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.started

    def in_state(self, state: str) -> list[str]:
        return [name for name, found in self.states.items() if found == state]


def required(part: Part) -> Any:
    """What a part is, without which a run cannot go on."""
    if isinstance(part, (Denied, NoAnswer)):
        raise Failure(part.error)
    return part


def required_queue(queue: Part, deployment: Deployment) -> Any:
    name, region = deployment.queue_name, deployment.region
    if queue is None:
        cure = f"run ./deploy.sh{deployment.via}, or set REGION and APP_NAME"
        raise Failure(f"there is no queue {name} in {region}: {cure}")
    return required(queue)


def look_at_queue(plan: Plan) -> dict[str, int]:
    found = read_queue(plan.cloud, plan.deployment.queue_name)
    return numbers_of(required_queue(found, plan.deployment))


def note_breaks(seen: Seen, found: list[Break]) -> None:
    """Notes and reports them."""
    seen.breaks += found
    for one in found:
        text.say(f"verify: {one.link}: {one.why}")
