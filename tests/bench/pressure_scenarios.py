"""What pressure.py does to a worker: faults of the environment, keys that would starve others, and the end in time."""

from dataclasses import dataclass, field
from typing import Any

from core import COPY_MS, GIB, MIB, SOURCE, USUAL

Call = tuple[str, list[Any], dict[str, Any]]  # of a verb of the stand-in
Step = tuple[float, str, dict[str, Any]]  # seconds after the start, a verb of the stand-in or of Run, its arguments


@dataclass(frozen=True)
class Load:
    """Changes of the source in one folder, its group. `kind`: put; delete, of objects that both buckets have; records,
    objects that messages of 1,000 records name."""

    group: str
    count: int
    kind: str = "put"
    size: int = 1024
    keys: int = 0  # that the changes are spread over; 0: each has a key of its own
    per_second: float = 0.0  # 0: all before the worker starts
    start: float = 0.0  # seconds after the worker's start, for those that have a rate

    def keys_of(self, scale: float) -> list[str]:
        numbers = range(max(1, round(self.count * scale)))
        return [f"{self.group}/{number % self.keys if self.keys else number}" for number in numbers]

    def changes(self, scale: float) -> list[Call]:
        if self.kind == "delete":
            return [("delete", [SOURCE, key], {}) for key in self.keys_of(scale)]
        return [("put", [SOURCE, key, self.size], {}) for key in self.keys_of(scale)]


@dataclass(frozen=True)
class Scenario:
    """What is done to a worker. `goal`: the group of which the mirror has to show every change; "queue": all groups,
    and the queue is empty; "end": the worker has ended. `dead`: this many dead letters are awaited after that. Times
    are in seconds, latencies in milliseconds."""

    about: str
    loads: tuple[Load, ...]
    faults: tuple[dict[str, Any], ...] = ()
    steps: tuple[Step, ...] = ()
    settings: dict[str, str] = field(default_factory=dict)
    goal: str = "queue"
    dead: int = 0
    lag: str = ""  # the group whose lag is shown; all of them
    limit: float = 60.0
    latency: dict[str, Any] = field(default_factory=lambda: USUAL)
    tokens: dict[str, float] = field(default_factory=dict)
    is_read: bool = True  # what the worker says
    counted: tuple[str, ...] = ()  # operations whose number is shown


def hang(operation: str, **settings: Any) -> dict[str, Any]:
    return {"operation": operation, "kind": "hang", **settings}


# The pauses of a failed message are 1/6 of the usual ones, and so is the time that the environment is at fault.
SIXTH = {"RETRY_BASE_SECONDS": "5"}
THIRTIETH_OF_PAUSES = {"RETRY_BASE_SECONDS": "1"}
# The visibility of messages and what follows from it, 1/30 of the usual.
THIRTIETH = {"VISIBILITY_TIMEOUT": "240", "VISIBILITY_EXTEND_INTERVAL": "10", "COPY_TIMEOUT": "30"}
IN_PARTS = {"MULTIPART_THRESHOLD": str(64 * MIB)}
SLOW_DOWN = {"status": 503, "code": "SlowDown"}
DENIED = {"status": 403, "code": "AccessDenied"}
KEYS_FOR_S3 = {"key_seconds": 610.0}  # botocore has to renew them 600 seconds before their end
STEADY = Load("cold", 1600, per_second=40, keys=200)
MIDDLE: dict[str, Any] = {
    "loads": (Load("good", 3000),), "goal": "end", "limit": 134.0, "settings": {"WAIT_TIME_SECONDS": "20"}
}  # fmt: skip
SLOW = {"HeadObject": 500.0, "CopyObject": 1500.0}
TERMINATE: tuple[Step, ...] = ((4.0, "terminate", {}),)

# fmt: off
SCENARIOS = {
    # Faults of the environment
    "session-expired": Scenario("A1: 5,000 deletes, S3 no longer takes the session that it gave",
        (Load("gone", 5000, kind="delete"),), steps=((2.0, "expire_tokens", {"kind": "session"}),),
        settings=THIRTIETH_OF_PAUSES),
    "all-403": Scenario(
        "A1: S3 answers 403 to everything for 45 s (pauses are a sixth, so as for 4.5 minutes), 5,000 messages",
        (Load("good", 5000),), faults=({"operation": "S3", "until": 45.0, **DENIED},), settings=SIXTH, limit=120),
    "credentials-500": Scenario(
        "A1: keys are still valid, but are to be renewed and the endpoint answers 500, from 3 s to 40 s", (STEADY,),
        faults=({"operation": "GetCredentials", "after": 3.0, "until": 40.0},), settings=SIXTH, tokens=KEYS_FOR_S3,
        limit=120),
    "credentials-expired": Scenario("A1, A3: the endpoint hands out keys that have ended, from 5 s to 30 s", (STEADY,),
        steps=((5.0, "tokens", {"key_seconds": -10.0}), (30.0, "tokens", {"key_seconds": 3600.0})), settings=SIXTH,
        tokens=KEYS_FOR_S3, limit=120),
    "own-faults": Scenario(
        "A1: 5 keys with a 403 of their own among 1,000 good ones: they alone go to the dead-letter queue",
        (Load("bad", 5), Load("good", 1000)), faults=({"operation": "S3", "key": "^bad/", **DENIED},),
        settings=THIRTIETH_OF_PAUSES, goal="good", dead=5, limit=300),
    "late-503": Scenario(
        "A2: 64 GiB in 12 s of work, then CompleteMultipartUpload is busy three times (patience of a thirtieth: 10 s)",
        (Load("large", 1, size=64 * GIB),), faults=({"operation": "CompleteMultipartUpload", "times": 3, **SLOW_DOWN},),
        settings=THIRTIETH_OF_PAUSES, latency={"UploadPartCopy": 3000.0}, limit=120, counted=("UploadPartCopy",)),
    "limit": Scenario("A4: S3 takes 500 requests a second, 5,000 objects: 30 s with 3 requests for each",
        (Load("good", 5000),), faults=({"operation": "S3", "rate": 500.0, **SLOW_DOWN},), limit=90),
    "session-hangs": Scenario(
        "A5: CreateSession does not answer for 30 s when the session is to be renewed, 40 overwrites a second",
        (STEADY,), faults=(hang("CreateSession", after=5.0, until=35.0),), tokens={"session_seconds": 70.0}, limit=120),
    "dead-connections": Scenario(
        "A7: 300 objects, 25 s of silence in which a firewall forgets the connections, 300 more (COPY_TIMEOUT=20)",
        (Load("early", 300), Load("late", 300, per_second=1000, start=30.0)), steps=((15.0, "freeze", {}),),
        settings={"COPY_TIMEOUT": "20"}, lag="late", limit=120),
    "receive-lost": Scenario("A7: the answers of three ReceiveMessage are lost; visibility 1/30, so 240 s",
        (Load("good", 500),), faults=({"operation": "ReceiveMessage", "kind": "lost", "times": 3},), settings=THIRTIETH,
        limit=270),
    "child-killed": Scenario("A7, C: one of two processes is killed with SIGKILL at 4 s; visibility 1/30, so 240 s",
        (Load("good", 2000, per_second=200),), steps=((4.0, "kill_a_child", {}),),
        settings=THIRTIETH | {"PROCESSES": "2"}, latency={"HeadObject": 100.0, "CopyObject": 400.0}, limit=270),
    # Keys that would starve others
    "hot-key": Scenario("B1: one key overwritten 100 times a second for 70 s, beside five others a second",
        (Load("hot", 7000, per_second=100, keys=1), Load("cold", 350, per_second=5)), settings=THIRTIETH_OF_PAUSES,
        lag="cold", limit=120, counted=("CopyObject",)),
    "slow-hot-key": Scenario(
        "B1: one overwrite a second for 80 s of a key whose copy takes 1.5 s, beside five others a second",
        (Load("hot", 80, per_second=1, keys=1, size=GIB), Load("cold", 400, per_second=5)),
        settings=THIRTIETH_OF_PAUSES, lag="cold", limit=140,
        latency=USUAL | {"CopyObject": {"ms": COPY_MS, "ms_per_gib": 1500.0}}, counted=("CopyObject",)),
    "busy-prefix": Scenario("B2: 600 keys of a prefix that answers 503, among 3,000 good ones",
        (Load("busy", 600), Load("good", 3000)), faults=({"operation": "S3", "key": "^busy/", **SLOW_DOWN},),
        goal="good"),
    "large-copies": Scenario("B3: 4,000 small objects among 2,000 of 320 MiB in five parts of 1 s",
        (Load("large", 2000, size=320 * MIB), Load("small", 4000)), settings=IN_PARTS,
        latency={"HeadObject": 8.0, "CopyObject": 25.0, "UploadPartCopy": 1000.0}, goal="small"),
    "many-records": Scenario("B3: 4,000 small objects among 20 messages of 1,000 records",
        (Load("bulk", 20_000, kind="records"), Load("small", 4000)), goal="small"),
    "one-key-100000": Scenario("B3: 100,000 messages on one key, 2,000 others among them",
        (Load("hot", 100_000, keys=1), Load("small", 2000)), lag="small", limit=120),
    # The end: SIGTERM at 4 s, in the middle of work, which may take the 120 s that Fargate gives
    "term": Scenario("C: SIGTERM in the middle of work", **MIDDLE, steps=TERMINATE, latency=SLOW),
    "term-sqs-hangs": Scenario("C: SIGTERM while nothing of SQS answers", **MIDDLE, faults=(hang("SQS", after=3.0),),
        steps=TERMINATE, latency=SLOW),
    "term-unread": Scenario("C: SIGTERM while nobody reads stdout", **MIDDLE, is_read=False, steps=TERMINATE),
}
# fmt: on
