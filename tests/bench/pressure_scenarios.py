"""What pressure.py does to a worker: faults of the environment, keys that would starve others, and the end in time."""

from typing import Any

from movers import GIB, MIB
from pressure_runs import Load, Scenario

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


def hang(operation: str, **settings: Any) -> dict[str, Any]:
    return {"operation": operation, "kind": "hang", **settings}


SURROUNDINGS = (
    Scenario(
        "session-expired",
        "A1: 5,000 deletes, S3 no longer takes the session that it gave",
        (Load("gone", 5000, kind="delete"),),
        steps=((2.0, "expire_tokens", {"kind": "session"}),),
        settings=THIRTIETH_OF_PAUSES,
    ),
    Scenario(
        "session-refused",
        "A1: CreateSession answers 403 for the first 30 s, 2,000 deletes",
        (Load("gone", 2000, kind="delete"),),
        faults=({"operation": "CreateSession", "until": 30.0, **DENIED},),
        settings=SIXTH,
        limit=120,
    ),
    Scenario(
        "all-403",
        "A1: S3 answers 403 to everything for 45 s (pauses are a sixth, so as for 4.5 minutes), 5,000 messages",
        (Load("good", 5000),),
        faults=({"operation": "S3", "until": 45.0, **DENIED},),
        settings=SIXTH,
        limit=120,
    ),
    Scenario(
        "credentials-500",
        "A1: keys are still valid, but are to be renewed and the endpoint answers 500, from 3 s to 40 s",
        (STEADY,),
        faults=({"operation": "GetCredentials", "after": 3.0, "until": 40.0},),
        settings=SIXTH,
        tokens=KEYS_FOR_S3,
        limit=120,
    ),
    Scenario(
        "credentials-hang",
        "A1: as credentials-500, the endpoint does not answer",
        (STEADY,),
        faults=(hang("GetCredentials", after=3.0, until=40.0),),
        settings=SIXTH,
        tokens=KEYS_FOR_S3,
        limit=120,
    ),
    Scenario(
        "credentials-expired",
        "A1, A3: the endpoint hands out keys that have ended, from 5 s to 30 s",
        (STEADY,),
        steps=((5.0, "tokens", {"key_seconds": -10.0}), (30.0, "tokens", {"key_seconds": 3600.0})),
        settings=SIXTH,
        tokens=KEYS_FOR_S3,
        limit=120,
    ),
    Scenario(
        "keys-revoked",
        "A1: all keys handed out so far are refused from 5 s on; new ones are good",
        (STEADY,),
        steps=((5.0, "expire_tokens", {"kind": "key"}),),
        settings=SIXTH,
        tokens={"key_seconds": 700.0},
        limit=150,
    ),
    Scenario(
        "own-faults",
        "A1: 5 keys with a 403 of their own among 1,000 good ones: they alone go to the dead-letter queue",
        (Load("bad", 5), Load("good", 1000)),
        faults=({"operation": "S3", "key": "^bad/", **DENIED},),
        settings=THIRTIETH_OF_PAUSES,
        goal="good",
        dead=5,
        limit=300,
    ),
    Scenario(
        "late-503",
        "A2: 64 GiB in 12 s of work, then CompleteMultipartUpload is busy three times (patience of a thirtieth: 10 s)",
        (Load("large", 1, size=64 * GIB),),
        faults=({"operation": "CompleteMultipartUpload", "times": 3, **SLOW_DOWN},),
        settings=THIRTIETH_OF_PAUSES,
        latency={"UploadPartCopy": 3000.0},
        limit=120,
        counted=("UploadPartCopy",),
    ),
    Scenario(
        "few-503",
        "A4: 5% of the requests are answered 503, 20 new objects a second",
        (Load("cold", 600, per_second=20),),
        faults=({"operation": "S3", "probability": 0.05, **SLOW_DOWN},),
    ),
    Scenario(
        "limit",
        "A4: S3 takes 500 requests a second, 5,000 objects: 30 s with 3 requests for each",
        (Load("good", 5000),),
        faults=({"operation": "S3", "rate": 500.0, **SLOW_DOWN},),
        limit=90,
    ),
    Scenario(
        "session-hangs",
        "A5: CreateSession does not answer for 30 s when the session is to be renewed, 40 overwrites a second",
        (STEADY,),
        faults=(hang("CreateSession", after=5.0, until=35.0),),
        tokens={"session_seconds": 70.0},
        limit=120,
    ),
    Scenario(
        "create-hangs",
        "A5: one CreateMultipartUpload of 20 does not answer",
        (Load("large", 20, size=128 * MIB),),
        faults=(hang("CreateMultipartUpload", times=1),),
        settings=IN_PARTS,
        limit=120,
    ),
    Scenario(
        "control-character",
        "A6: a large key with a control character, 20 small neighbours that come for the second time",
        (Load("folder", 20, name="good "), Load("folder", 1, size=128 * MIB, name="\x01", per_second=1000)),
        settings=IN_PARTS | THIRTIETH_OF_PAUSES,
        lag="folder",
        taken=4.0,
        limit=60,
        counted=("CreateMultipartUpload", "ListMultipartUploads"),
    ),
    Scenario(
        "dead-connections",
        "A7: 300 objects, 25 s of silence in which a firewall forgets the connections, 300 more (COPY_TIMEOUT=20)",
        (Load("early", 300), Load("late", 300, per_second=1000, start=30.0)),
        steps=((15.0, "freeze", {}),),
        settings={"COPY_TIMEOUT": "20"},
        lag="late",
        limit=120,
    ),
    Scenario(
        "receive-lost",
        "A7: the answers of three ReceiveMessage are lost; visibility 1/30, so 240 s",
        (Load("good", 500),),
        faults=({"operation": "ReceiveMessage", "kind": "lost", "times": 3},),
        settings=THIRTIETH,
        limit=270,
    ),
    Scenario(
        "change-visibility-fails",
        "A7: 5 keys are refused once, and the ChangeMessageVisibility after that fails for 10 s; visibility 1/30",
        (Load("good", 5),),
        faults=(
            {"operation": "HeadObject,CopyObject", "times": 5, **DENIED},
            {"operation": "ChangeMessageVisibility,ChangeMessageVisibilityBatch", "until": 10.0},
        ),
        settings=THIRTIETH | THIRTIETH_OF_PAUSES,
        limit=270,
    ),
    Scenario(
        "child-killed",
        "A7, C: one of two processes is killed with SIGKILL at 4 s; visibility 1/30, so 240 s",
        (Load("good", 2000, per_second=200),),
        steps=((4.0, "kill_a_child", {}),),
        settings=THIRTIETH | {"PROCESSES": "2"},
        latency={"HeadObject": 100.0, "CopyObject": 400.0},
        limit=270,
    ),
    Scenario(
        "empty-page",
        "A7: a page of the source's listing is a 200 without a body: reconcile must not say that it is complete",
        (),
        faults=({"operation": "ListObjectsV2", "kind": "empty_200", "bucket": "source", "skip": 1, "times": 1},),
        steps=((0.0, "put_many", {"bucket": "source", "keys": [f"good/{number}" for number in range(3000)]}),),
        arguments=("reconcile",),
        goal="end",
        counted=("ListObjectsV2", "SendMessageBatch"),
        limit=30,
    ),
)

FAIRNESS = (
    Scenario(
        "hot-key",
        "B1: one key overwritten 100 times a second for 70 s, beside five others a second",
        (Load("hot", 7000, per_second=100, keys=1), Load("cold", 350, per_second=5)),
        settings=THIRTIETH_OF_PAUSES,
        lag="cold",
        limit=120,
        counted=("CopyObject",),
    ),
    Scenario(
        "slow-hot-key",
        "B1: one overwrite a second for 80 s of a key whose copy takes 1.5 s, beside five others a second",
        (Load("hot", 80, per_second=1, keys=1, size=GIB), Load("cold", 400, per_second=5)),
        settings=THIRTIETH_OF_PAUSES,
        lag="cold",
        limit=140,
        milliseconds_per_gib=1500.0,
        counted=("CopyObject",),
    ),
    Scenario(
        "busy-prefix",
        "B2: 600 keys of a prefix that answers 503, among 3,000 good ones",
        (Load("busy", 600), Load("good", 3000)),
        faults=({"operation": "S3", "key": "^busy/", **SLOW_DOWN},),
        goal="good",
    ),
    Scenario("small-alone", "B3: 4,000 small objects, for comparison", (Load("small", 4000),), goal="small"),
    Scenario(
        "large-copies",
        "B3: 4,000 small objects among 2,000 of 320 MiB in five parts of 1 s",
        (Load("large", 2000, size=320 * MIB), Load("small", 4000)),
        settings=IN_PARTS,
        latency={"HeadObject": 8.0, "CopyObject": 25.0, "UploadPartCopy": 1000.0},
        goal="small",
    ),
    Scenario(
        "many-records",
        "B3: 4,000 small objects among 20 messages of 1,000 records",
        (Load("bulk", 20_000, kind="records"), Load("small", 4000)),
        goal="small",
    ),
    Scenario(
        "one-key-100000",
        "B3: 100,000 messages on one key, 2,000 others among them",
        (Load("hot", 100_000, keys=1), Load("small", 2000)),
        lag="small",
        limit=120,
    ),
    Scenario(
        "in-flight",
        "B3: a worker that died holds as many messages for 15 s as SQS lends (here 1,000)",
        (Load("small", 1000), Load("late", 500, per_second=100)),
        queue={"max_in_flight": 1000},
        taken=15.0,
    ),
)

# Each is stopped with SIGTERM at 4 s, in the middle of its work, and may need the 120 s that Fargate gives.
MIDDLE = {"loads": (Load("good", 3000),), "goal": "end", "limit": 134.0, "settings": {"WAIT_TIME_SECONDS": "20"}}
SLOW = {"HeadObject": 500.0, "CopyObject": 1500.0}
TERMINATE = ((4.0, "terminate", {}),)

END = (
    Scenario("term", "C: SIGTERM in the middle of work", **MIDDLE, steps=TERMINATE, latency=SLOW),
    Scenario(
        "term-receive-hangs",
        "C: SIGTERM while ReceiveMessage does not answer",
        **MIDDLE | {"loads": ()},
        faults=(hang("ReceiveMessage"),),
        steps=TERMINATE,
    ),
    Scenario(
        "term-send-hangs",
        "C: SIGTERM while SendMessage and ChangeMessageVisibility do not answer",
        **MIDDLE,
        faults=(hang("SendMessage,SendMessageBatch,ChangeMessageVisibility,ChangeMessageVisibilityBatch", after=3.0),),
        steps=TERMINATE,
        latency=SLOW,
    ),
    Scenario(
        "term-delete-hangs",
        "C: SIGTERM while DeleteMessageBatch does not answer",
        **MIDDLE,
        faults=(hang("DeleteMessageBatch,DeleteMessage", after=2.0),),
        steps=TERMINATE,
        latency=SLOW,
    ),
    Scenario(
        "term-sqs-hangs",
        "C: SIGTERM while nothing of SQS answers",
        **MIDDLE,
        faults=(hang("SQS", after=3.0),),
        steps=TERMINATE,
        latency=SLOW,
    ),
    Scenario(
        "term-copies-silent",
        "C: SIGTERM while no copy answers",
        **MIDDLE,
        faults=(hang("CopyObject"),),
        steps=TERMINATE,
    ),
    Scenario(
        "term-unread",
        "C: SIGTERM while nobody reads stdout",
        **MIDDLE,
        is_read=False,
        steps=TERMINATE,
    ),
    Scenario(
        "term-twice",
        "C: SIGTERM twice while no copy answers",
        **MIDDLE,
        faults=(hang("CopyObject"),),
        steps=(*TERMINATE, (5.0, "terminate", {})),
    ),
    Scenario("term-at-start", "C: SIGTERM after 0.4 s", **MIDDLE, steps=((0.4, "terminate", {}),)),
    Scenario(
        "term-reconcile",
        "C: SIGTERM to a reconcile whose listing does not answer",
        **MIDDLE | {"loads": ()},
        arguments=("reconcile",),
        faults=(hang("ListObjectsV2"),),
        steps=TERMINATE,
    ),
    Scenario(
        "term-two-processes",
        "C: SIGTERM to the parent of two processes while nothing of SQS answers",
        **MIDDLE | {"settings": {"PROCESSES": "2", "WAIT_TIME_SECONDS": "20"}},
        faults=(hang("SQS", after=3.0),),
        steps=TERMINATE,
        latency=SLOW,
    ),
)

SCENARIOS = {scenario.name: scenario for scenario in (*SURROUNDINGS, *FAIRNESS, *END)}
