"""A simulated month on the stand-in: its clock is set, and the product's own parts work on it and are held to it.

The worker and reconcile are those of the product, in this process, with their clients on the stand-in's port; only
Buckets.wall is given the stand-in's clock. What has to be true is claimed at rest: after a reconcile, with an empty
queue. Each claim has a name, and the month ends with the first that does not hold.
"""

import contextlib
import dataclasses
import json
import logging
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import boto3
from documents import Scripts
from month_plan import DAY, SOURCE, Call, Deployed, Script, day_of, is_archived
from paper_account import PaperAccount
from standin import Standin
from standin_store import iso
from world import DEAD_LETTERS, MIRROR, QUEUE, World

from mirror.cli import CLIENTS
from mirror.loop import Parts, make_parts, make_worker
from mirror.model.log_lines import SYNCED
from mirror.protocol.attempt import Interruption
from mirror.readers.reconcile import ReconcileArguments, Reconciliation
from mirror.settings import Settings, load_settings

OUTBOX = "outbox"  # where events wait until the script sends them
FOREIGN = ("scratch/notes", "cold/of-another-team")  # in the destination, outside of the prefixes
DAYS_LATE = (0, 0, 1, 2)  # of the lifecycle, by chance each day
MANY = 10**6
QUICK = {"EMPTY_POLLS_BEFORE_EXIT": "1", "MAX_CONCURRENT_KEYS": "32"}
IN_PARTS = {"MULTIPART_THRESHOLD": str(256 * 1024**2), "PART_SIZE": str(128 * 1024**2)}
EXAMPLE = re.compile(r"  (\w+) (\".*\")")


type Lifecycle = list[dict[str, Any]]
type Lifecycles = Callable[[Deployed], list[Lifecycle]]  # before the workers have their variables, and then


# The steps of deploy.sh on the lifecycle and on the settings of the workers, in its order.
STEPS = "ensure_loosened_lifecycle", "ensure_task_definition", "ensure_lifecycle"


def lifecycles_of(scripts: Scripts) -> Lifecycles:
    """What deploy.sh sets on an account on paper, one deployment after the other."""
    scripts.account = PaperAccount()
    rules: Lifecycle = []

    def deploy(deployed: Deployed) -> list[Lifecycle]:
        nonlocal rules
        loosened = rules
        for call in scripts.step(*STEPS, IMAGE_URI="worker:1", **deployed.variables()).writes:
            if call.operation == "RegisterTaskDefinition":
                loosened = rules
            elif call.operation == "PutBucketLifecycleConfiguration":
                rules = call.parameters["LifecycleConfiguration"]["Rules"]
        return [loosened, rules]

    return deploy


def claim(what: str, breaches: Any) -> None:
    """`breaches`: those that speak against it."""
    if breaches:
        raise AssertionError(f"{what}: {len(breaches)} times not, such as {sorted(map(str, breaches))[:5]}")


@dataclass(frozen=True)
class Rest:
    """What there was at a moment at rest."""

    keep_days: int
    removed: bool  # reconcile was run to remove what is unwanted
    unwanted: int
    gigabytes: float
    since: Counter[str]  # copied, again, expired, bytes: since the rest before


class Heard(logging.Handler):
    """What the worker says: the keys that it has copied, and how many it left out because of KEEP_DAYS."""

    def __init__(self) -> None:
        super().__init__()
        self.copied: list[str] = []
        self.too_old = 0

    def emit(self, record: logging.LogRecord) -> None:
        if record.msg == SYNCED and isinstance(record.args, tuple) and record.args[1] == "copied":
            self.copied.append(json.loads(str(record.args[0])))
        self.too_old += record.msg.startswith("not copied key=")


@contextlib.contextmanager
def listening() -> Iterator[Heard]:
    """Meanwhile; the log is not shown."""
    log, heard = logging.getLogger("worker"), Heard()
    before = log.level, log.propagate
    log.addHandler(heard)
    log.level, log.propagate = logging.INFO, False
    try:
        yield heard
    finally:
        log.removeHandler(heard)
        log.level, log.propagate = before


@dataclass
class Month:
    """The buckets, the queue, the rules and the worker of one deployment after the other."""

    world: World
    deployed: Deployed
    script: Script
    now: int
    lifecycles: Lifecycles
    settings: dict[str, str] = field(default_factory=dict)  # further variables of the worker
    copies: dict[tuple[str, str], int] = field(default_factory=dict)  # key and version -> when
    since: Counter[str] = field(default_factory=Counter)
    seen: Counter[str] = field(default_factory=Counter)  # what reconcile found, and what workers left out
    held: list[tuple[int, str]] = field(default_factory=list)  # events: when they arrive, their bodies
    outside: dict[str, str] = field(default_factory=dict)  # key -> ETag, of the destination
    widened: int = 0  # when a deployment last let something come back
    narrower: Deployed = field(default_factory=Deployed)  # the one before that
    copied: int = 0
    touches: int = 0

    def __post_init__(self) -> None:
        self.standin: Standin = self.world.standin
        self.chance = random.Random(self.script.seed)
        self.world.build(visibility_timeout=60)
        self.standin.configure_bucket(SOURCE, notification=None)
        self.s3 = boto3.client("s3", endpoint_url=self.standin.url, region_name="us-east-1")

    # What is deployed

    def begin(self, stock_days: int) -> None:
        self.set_clock(self.now)
        self.standin.together(self.script.stock(self.now, stock_days))
        self.source = self.standin.objects(SOURCE)
        if self.deployed.prefixes:
            old = {"modified": self.now - 100 * DAY}
            self.standin.together([("put", [MIRROR, key, 1024], old) for key in FOREIGN])
        self.deploy(self.deployed)

    def deploy(self, deployed: Deployed) -> None:
        """What deploy.sh changes, in its order: it loosens the rules, then come the workers' variables, then the rules.
        The lifecycle may act between any two of these."""
        self.outside = outside_of(deployed, self.standin.objects(MIRROR))
        loosened, rules = self.lifecycles(deployed)
        if loosened:  # S3 takes no empty one
            self.standin.lifecycle(MIRROR, loosened)
        self.expire(0)
        if deployed.is_wider_than(self.deployed):
            self.widened, self.narrower = self.now, self.deployed
        self.deployed = deployed
        self.expire(0)
        self.standin.lifecycle(MIRROR, rules)
        settings = load_settings(self.world.environment(**QUICK | deployed.variables() | self.settings))
        self.parts = self.world.run(self.make_parts(dataclasses.replace(settings, wait_time_seconds=0)))

    async def make_parts(self, settings: Settings) -> Parts:
        parts = make_parts(settings, CLIENTS[settings.s3_client](settings))
        parts.buckets.wall = lambda: float(self.now)
        return parts

    # What happens

    def set_clock(self, now: int) -> None:
        self.now = now
        self.standin.clock(now)

    def change(self, part: float) -> None:
        """A part of a day's changes of the source, whose events are on their way then."""
        self.standin.create_queue(OUTBOX)
        self.standin.notify(SOURCE, OUTBOX)
        calls = self.script.changes(part, self.now, self.source)
        self.standin.together([call for call in calls if call[0] != "touch"])
        for touch in (call for call in calls if call[0] == "touch"):
            self.touch(touch)
        self.standin.configure_bucket(SOURCE, notification=None)
        self.source = self.standin.objects(SOURCE)
        for message in self.standin.messages(OUTBOX):
            self.held += [(self.now + days * DAY, message["body"]) for days in self.script.days_late()]

    def touch(self, call: Call) -> None:
        """As `aws s3 cp` of an object onto itself does."""
        key = call[1][0]
        self.s3.copy_object(Bucket=SOURCE, Key=key, CopySource=f"{SOURCE}/{key}", MetadataDirective="REPLACE")
        self.touches += 1

    def run_lifecycle(self) -> None:
        late = self.chance.choice(DAYS_LATE)
        self.expire(late)
        copies = self.standin.objects(MIRROR)
        overdue = [key for key, copy in copies.items() if self.is_overdue(key, copy, late)]
        claim("the lifecycle takes each copy in time", overdue)

    def expire(self, days_late: int) -> None:
        gone = self.standin.run_lifecycle(MIRROR, days_late)
        self.since["expired"] += len(gone)
        early = [key for key, copy in gone.items() if self.is_wanted_copy(key, copy)]
        claim("the lifecycle takes no copy of what is wanted", early)

    def is_overdue(self, key: str, copy: dict[str, Any], late: int) -> bool:
        last_day = self.deployed.last_day(copy["modified"])
        return self.deployed.is_under(key) and (day_of(self.now) - last_day).days > late

    def is_wanted_copy(self, key: str, copy: dict[str, Any]) -> bool:
        found = self.source.get(key)
        return found is not None and self.wants(key, found) and is_copy(copy, found)

    def wants(self, key: str, found: dict[str, Any]) -> bool:
        return self.deployed.wants(key, found["modified"], self.now)

    # What the product does

    def drain(self) -> None:
        """Workers come until the queue is empty."""
        arrived = [body for at, body in self.held if at <= self.now]
        self.held = [event for event in self.held if event[0] > self.now]
        self.chance.shuffle(arrived)
        self.standin.together([("send", [QUEUE, body], {}) for body in arrived])
        with listening() as heard:
            self.world.run(self.work())
        claim("the queue is empty and no message is dead", [name for name in (QUEUE, DEAD_LETTERS) if self.holds(name)])
        self.seen["too old"] += heard.too_old
        for key in heard.copied:
            self.note_copy(key, self.source[key])

    async def work(self) -> None:
        status = await make_worker(self.parts).run()
        claim("a worker ends well", [status] * bool(status))

    def holds(self, name: str) -> bool:
        return any(self.standin.queue(name).values())

    def writes(self) -> int:
        """Objects that were written by requests, without those of touch()."""
        stats = self.standin.stats()
        operations = ("CopyObject", "CompleteMultipartUpload")
        made = [stats["requests"].get(name, 0) - sum(stats["errors"].get(name, {}).values()) for name in operations]
        return sum(made) - self.touches

    def note_copy(self, key: str, found: dict[str, Any]) -> None:
        version = (key, of_source(found))
        claim("only what is wanted is copied", [key] * (not self.wants(key, found)))
        before = self.copies.get(version)
        claim("no version is copied twice", [key] * (before is not None and not self.may_come_back(key, found, before)))
        self.copies[version] = self.now
        self.copied += 1
        self.since["again"] += before is not None
        self.since["copied"] += 1
        self.since["bytes"] += found["size"]

    def may_come_back(self, key: str, found: dict[str, Any], before: int) -> bool:
        """Whether the deployments had let it go since that copy of it, and then wanted it again."""
        return before < self.widened and not self.narrower.wants(key, found["modified"], self.widened)

    def reconcile(self, remove: bool) -> dict[str, set[str]]:
        """{what is wrong: keys}"""
        lines: list[str] = []
        options = ReconcileArguments(remove_unwanted=remove, max_delete=MANY, examples=MANY)
        buckets, queue, _ = self.parts
        with listening():
            status = self.world.run(Reconciliation(buckets, queue, options, Interruption(), lines.append).run())
        claim("a reconcile ends well", [status] * bool(status))
        named: dict[str, set[str]] = {}
        for found in filter(None, map(EXAMPLE.fullmatch, lines)):
            named.setdefault(found[1], set()).add(json.loads(found[2]))
        self.seen.update({what: len(keys) for what, keys in named.items()})
        return named

    # At rest

    def rest(self, remove: bool = False) -> Rest:
        self.drain()
        named = self.reconcile(remove)
        if self.holds(QUEUE):
            self.drain()
        claim("each copy that the log tells is one write in S3", range(abs(self.writes() - self.copied)))
        copies = self.standin.objects(MIRROR)
        wanted = {key: found for key, found in self.source.items() if self.is_expected(key, found, copies)}
        here = {key: copy for key, copy in copies.items() if self.deployed.is_under(key)}
        claim("never less than the wanted set", [key for key in wanted if not is_copy(here.get(key), wanted[key])])
        more = here.keys() - wanted.keys()
        unwanted = set() if remove else named.get("unwanted", set())
        claim("there is no more than what reconcile calls unwanted", more - unwanted)
        claim("reconcile calls nothing else unwanted", unwanted - more)
        archived = {key for key, found in self.source.items() if self.wants(key, found)} - wanted.keys()
        claim("reconcile tells what is archived, and nothing else", archived ^ named.get("archived", set()))
        kept = outside_of(self.deployed, copies)
        claim("nothing outside the prefixes changes", set(self.outside.items()) ^ set(kept.items()))
        since, self.since = self.since, Counter()
        held = sum(copy["size"] for copy in here.values()) / 1e9
        return Rest(self.deployed.keep_days, remove, len(more), held, since)

    def is_expected(self, key: str, found: dict[str, Any], copies: dict[str, Any]) -> bool:
        """Archived objects cannot be copied; what was copied before stays."""
        return self.wants(key, found) and (not is_archived(found) or is_copy(copies.get(key), found))


def outside_of(deployed: Deployed, copies: dict[str, Any]) -> dict[str, str]:
    return {key: copy["etag"] for key, copy in copies.items() if not deployed.is_under(key)}


def of_source(found: dict[str, Any]) -> str:
    return f"{found['etag']} {iso(found['modified']).replace('.000Z', 'Z')}"


def of_copy(copy: dict[str, Any]) -> str:
    """As of_source(), by what the worker notes with each copy."""
    return " ".join(copy["metadata"]["sync-source"].split()[:2])


def is_copy(copy: dict[str, Any] | None, found: dict[str, Any]) -> bool:
    return copy is not None and copy["content"] == found["content"] and of_copy(copy) == of_source(found)
