"""./sync.sh as a process whose `aws` is an account on paper in which somebody works: logs, tasks, both buckets.

What is put into the source is in the destination at once, as `as_copied` has it, unless `follows` is off. A task ends
as soon as it runs; each look at its log shows the next lines of `task_log`. A pause takes no time, and moves on the
clock by which the scripts wait (SECONDS).
"""

import contextlib
import hashlib
import json
import os
import pty
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from account import APP, MIRROR, PROJECT, REGION, SOURCE
from call import Call
from cost import STORED
from documents import Ran, Scripts, programs, ready_scripts
from paper_account import ANSWERS, HERE, MADE_AT, Given, Interrupted, PaperAccount, Refused, fixed

from local import insights
from mirror.model import log_lines

WORKERS, STARTER = f"/ecs/{APP}-task", f"/aws/lambda/{APP}-starter"
TASK = f"arn:aws:ecs:{HERE}:task/{APP}-cluster/"
CTRL_C = "130"  # the status of the CLI
CARRIED = ("CacheControl", "Metadata")
PARKED = {"Records": [{"s3": {"object": {"key": "models/parked"}}}]}
COUNTED = {"GetRequests": lambda _: 1, "BytesDownloaded": lambda size: size}
# What a task that measures has counted.
MEASURED = STORED | {"destination_bytes": 100 * 10**9, "kept_30_bytes": 40 * 10**9, "seconds": 61.5}


def measured(end: str = "complete", status: int = 0) -> str:
    """The last line of its log."""
    numbers = " ".join(f"{name}={number}" for name, number in MEASURED.items())
    return f"2026-11-25T01:02:03.456Z INFO {log_lines.MEASURED % (end, status, numbers)}"


def stamp(ago: float = 0) -> str:
    """The time of a log line, some seconds ago."""
    at = time.time() - ago
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f".{int(at * 1000) % 1000:03}Z"


ANSWERS |= {
    ("lambda", "Invoke"): fixed({"StatusCode": 200, "Payload": b"{}"}),
    ("s3", "AbortMultipartUpload"): fixed(None),
    ("s3", "CreateMultipartUpload"): fixed({"UploadId": "u"}),
    ("s3", "UploadPartCopy"): fixed({"CopyPartResult": {"ETag": '"e"'}}),
    ("sqs", "StartMessageMoveTask"): fixed({"TaskHandle": "h"}),
}


class Operated(PaperAccount):
    def __init__(self) -> None:
        super().__init__()
        self.objects: dict[str, dict[str, Any]] = {}
        self.copies: dict[str, dict[str, Any]] = {}
        self.follows = True
        self.as_copied: Callable[[str, dict[str, Any]], dict[str, Any] | None] = lambda _key, found: found
        self.writes = 0  # of the source
        self.versions: dict[tuple[str, str], bool] = {}  # of the source: key, id -> whether it is a delete marker
        self.denied = [another_source]  # the code with which a call is refused
        self.parked = [json.dumps(PARKED)]  # the bodies of messages in the dead-letter queue
        self.taken: list[str] = []  # those that were received
        self.hidden = 0  # messages that somebody else has received
        self.moves = ["COMPLETED"]  # what each look at a move shows
        self.waiting = {"": 0, "NotVisible": 0, "Delayed": 0}  # messages of the queue
        self.log: list[tuple[str, dict[str, Any]]] = []  # group, event
        self.page = 10_000  # events of a group in one answer
        self.queries: dict[str, Given] = {}
        self.query_ends: list[str] = []  # what the next looks at queries show, before their ends
        self.exit_code: int | None = 0  # of a task that is run
        self.status_of_debug = 0  # of a call whose log is looked at
        self.task_log = [[measured()]]
        self.coming: list[list[str]] = []  # what is left of it
        self.figures: list[dict[str, Any]] = []  # of any metric
        self.requests: list[tuple[str, int]] = []  # keys of the destination that somebody has read, and their sizes
        # Of request metrics: their prefix, and the requests before them.
        self.counted_from: dict[str, tuple[str, int]] = {}

    def deny(self, operation: str, code: str = "AccessDenied", **parameters: Any) -> None:
        """Every such call with these parameters."""
        self.denied.append(
            lambda call: code if call.operation == operation and parameters.items() <= call.parameters.items() else None
        )

    def authorize(self, call: Call) -> None:
        for rule in self.denied:
            if code := rule(call):
                raise Interrupted if code == CTRL_C else Refused(code, f"no {call.operation}")

    @property
    def variables(self) -> dict[str, str]:
        """Of the starter."""
        return self.kept[f"function {APP}-starter"]["Environment"]["Variables"]

    # --- logs and metrics -------------------------------------------------------------------------------------------

    def write(self, *lines: str, stream: str = "worker/worker/a", group: str = WORKERS, ago: float = 0) -> None:
        for line in lines:
            at = int((time.time() - ago) * 1000)
            event = {"eventId": str(len(self.log)), "timestamp": at, "logStreamName": stream, "message": f"{line}\n"}
            self.log.append((group, event))

    def decide(self, ago: float = 20, **more: Any) -> None:
        """That was the last run of the starter."""
        self.log = [row for row in self.log if row[0] != STARTER]
        decision = {"visible": 0, "in_flight": 0, "running": 0, "wanted": 0, "started": {}, "failures": []} | more
        self.write(json.dumps(decision), stream="2026/11/29/[$LATEST]0f", group=STARTER, ago=ago)

    def fail(self, error: str) -> None:
        """So did the last run of the starter."""
        self.write(error, stream="2026/11/29/[$LATEST]0f", group=STARTER, ago=9)

    def logs_start_query(self, given: Given) -> Any:
        self.queries[str(len(self.queries))] = given
        return {"queryId": str(len(self.queries) - 1)}

    def logs_get_query_results(self, given: Given) -> Any:
        if self.query_ends:
            return {"status": self.query_ends.pop(0), "results": []}
        asked = self.queries[given["queryId"]]
        groups = asked.get("logGroupNames") or [asked["logGroupName"]]
        rows = [
            {"@timestamp": event["timestamp"], "@logStream": event["logStreamName"], "@message": event["message"]}
            for group, event in self.log
            if group in groups and asked["startTime"] * 1000 <= event["timestamp"] <= asked["endTime"] * 1000
        ]
        found = insights.answer(asked["queryString"].split(" | "), rows)
        for row in found:
            if "@timestamp" in row:
                row["@timestamp"] = insights.stamp(row["@timestamp"])
        return {
            "status": "Complete",
            "results": [[{"field": name, "value": str(value)} for name, value in row.items()] for row in found],
        }

    def logs_filter_log_events(self, given: Given) -> Any:
        streams = given.get("logStreamNames")
        if streams and self.coming:
            self.write(*self.coming.pop(0), stream=streams[0])
        text = given.get("filterPattern", "").strip('"')
        found = [
            event
            for group, event in self.log
            if group == given["logGroupName"]
            and event["timestamp"] >= given.get("startTime", 0)
            and (not streams or event["logStreamName"] in streams)
            and text in event["message"]
        ]
        found.sort(key=lambda event: event["timestamp"])
        first = int(given.get("nextToken", 0))
        more = {"nextToken": str(first + self.page)} if first + self.page < len(found) else {}
        return {"events": found[first : first + self.page]} | more

    def cloudwatch_get_metric_statistics(self, _given: Given) -> Any:
        return {"Datapoints": self.figures}

    def cloudwatch_get_metric_data(self, given: Given) -> Any:
        """What was requested since each metric is on, in two pages of one result, as the AWS CLI joins them."""
        results = []
        for query in given["MetricDataQueries"]:
            metric = query["MetricStat"]["Metric"]
            by_name = {one["Name"]: one["Value"] for one in metric["Dimensions"]}
            assert (metric["Namespace"], by_name["BucketName"]) == ("AWS/S3", MIRROR)
            prefix, since = self.counted_from[by_name["FilterId"]]
            made = [size for key, size in self.requests[since:] if key.startswith(prefix)]
            values = [COUNTED[metric["MetricName"]](size) for size in made]
            results += [{"Id": query["Id"], "Values": part} for part in (values[:1], values[1:])]
        return {"MetricDataResults": results}

    def s3_put_bucket_metrics_configuration(self, given: Given) -> Any:
        super().s3_put_bucket_metrics_configuration(given)
        prefix = given["MetricsConfiguration"]["Filter"]["Prefix"]
        self.counted_from[given["Id"]] = prefix, len(self.requests)

    # --- queues, tasks and the function -----------------------------------------------------------------------------

    def sqs_get_queue_attributes(self, given: Given) -> Any:
        found = super().sqs_get_queue_attributes(given)
        if not found:
            return {"Attributes": {"CreatedTimestamp": "1600000000"}}
        counts = dict(self.waiting)
        if given["QueueUrl"].endswith("-dlq"):
            counts = {"": len(self.parked), "NotVisible": len(self.taken) + self.hidden, "Delayed": 0}
        attributes = found["Attributes"]
        for which, count in counts.items():
            if f"ApproximateNumberOfMessages{which}" in attributes:
                attributes[f"ApproximateNumberOfMessages{which}"] = str(count)
        attributes["CreatedTimestamp"] = "1600000000"
        return found

    def sqs_receive_message(self, _given: Given) -> Any:
        found, self.parked = self.parked[:10], self.parked[10:]
        self.taken += found
        common = {"MessageId": "m", "ReceiptHandle": "r", "Attributes": {"SentTimestamp": "1700000000000"}}
        return {"Messages": [{"Body": one} | common for one in found]}

    def sqs_change_message_visibility_batch(self, given: Given) -> Any:
        self.parked += [self.taken.pop(0) for one in given["Entries"] if one["VisibilityTimeout"] == 0]
        return {"Successful": [{"Id": one["Id"]} for one in given["Entries"]], "Failed": []}

    def sqs_list_message_move_tasks(self, _given: Given) -> Any:
        status = self.moves.pop(0) if self.moves[1:] else self.moves[0]
        return {"Results": [{"Status": status, "ApproximateNumberOfMessagesMoved": 1}]}

    def sqs_purge_queue(self, _given: Given) -> Any:
        """Those in flight, too (SQS API reference, PurgeQueue)."""
        self.parked, self.hidden = [], 0

    def start(self, name: str, started_by: str = f"{APP}-starter", *command: str, **more: Any) -> None:
        """A task that runs; without a command, nothing of it is overridden."""
        changes = [{"name": "worker", "command": list(command)}]
        self.kept[f"running {name}"] = {
            "taskArn": TASK + name,
            "lastStatus": "RUNNING",
            "desiredStatus": "RUNNING",
            "startedBy": started_by,
            "capacityProviderName": "FARGATE_SPOT",
            "createdAt": time.time(),
            "overrides": {"containerOverrides": changes} if command else {},
        } | more

    def running(self) -> set[str]:
        tasks = self.of_kind("running")
        return {task["taskArn"].removeprefix(TASK) for task in tasks if task["lastStatus"] == "RUNNING"}

    def ecs_list_tasks(self, given: Given) -> Any:
        found = super().ecs_list_tasks(given)["taskArns"]
        by = {task["taskArn"]: task.get("startedBy") for task in self.of_kind("running")}
        return {"taskArns": [arn for arn in found if given.get("startedBy") in (None, by[arn])]}

    def ecs_run_task(self, given: Given) -> Any:
        ended = {"name": "worker"} | ({} if self.exit_code is None else {"exitCode": self.exit_code})
        # GuardDuty adds a container of its own.
        containers = [{"name": "aws-guardduty-agent", "exitCode": 0}, ended]
        self.log = [row for row in self.log if row[1]["logStreamName"] != "worker/worker/t2"]
        self.coming = list(self.task_log)
        self.start("t2", given["startedBy"], containers=containers, lastStatus="STOPPED", desiredStatus="STOPPED")
        self.kept["running t2"]["stoppedReason"] = "Essential container in task exited"
        return {"tasks": [self.kept["running t2"]], "failures": []}

    # --- both buckets -----------------------------------------------------------------------------------------------

    def side(self, given: Given) -> dict[str, dict[str, Any]]:
        return self.copies if given["Bucket"] == MIRROR else self.objects

    def written(self, key: str, found: dict[str, Any] | None) -> Any:
        """The source has that now, or nothing; then the destination follows."""
        self.writes += 1
        self.versions[key, f"v{self.writes}"] = found is None
        if found is None:
            self.objects.pop(key, None)
        else:
            etag = hashlib.md5(f"{self.writes}".encode()).hexdigest()
            self.objects[key] = found | {"ETag": f'"{etag}"'}
        if not self.follows:
            return
        if found is None:
            self.copies.pop(key, None)
            return
        # A directory bucket has ETags of its own, one for each write.
        copied = self.as_copied(key, self.objects[key] | {"ETag": f'"c{self.writes}"'})
        if copied is not None:
            etag = self.objects[key]["ETag"].strip('"')
            identity = f"{etag} {MADE_AT[:19]}Z {len(found['Body'])} "
            self.copies[key] = copied | {"Metadata": copied.get("Metadata", {}) | {"sync-source": identity}}

    def s3_put_object(self, given: Given) -> Any:
        carried = {name: value for name, value in given.items() if name.startswith("Content") or name in CARRIED}
        self.written(given["Key"], carried | {"Body": Path(given["Body"]).read_bytes()})
        return {"ETag": self.objects[given["Key"]]["ETag"], "VersionId": f"v{self.writes}"}

    def s3_copy_object(self, given: Given) -> Any:
        if given["Bucket"] == MIRROR:
            self.copies[given["Key"]] = {"Body": b"", "ETag": '"e"'}
            return {"CopyObjectResult": {"ETag": '"e"'}}
        found = self.objects[given["Key"]] | {"ContentType": given["ContentType"], "Metadata": given["Metadata"]}
        self.written(given["Key"], found)
        return {"CopyObjectResult": {"ETag": self.objects[given["Key"]]["ETag"]}}

    def s3_delete_object(self, given: Given) -> Any:
        if given["Bucket"] == MIRROR:
            self.copies.pop(given["Key"], None)
        elif "VersionId" in given:
            self.versions.pop((given["Key"], given["VersionId"]), None)
        else:
            self.written(given["Key"], None)

    def s3_delete_objects(self, given: Given) -> Any:
        """A thousand at most (S3 API reference, DeleteObjects)."""
        if len(given["Delete"]["Objects"]) > 1000:
            raise Refused("MalformedXML")
        for one in given["Delete"]["Objects"]:
            self.s3_delete_object(given | one)

    def listed(self, given: Given) -> list[dict[str, Any]]:
        found = {key: one for key, one in self.side(given).items() if key.startswith(given.get("Prefix", ""))}
        return [
            {"Key": key, "Size": one.get("Size", len(one["Body"])), "ETag": one["ETag"],
             "LastModified": one.get("LastModified", MADE_AT)}
            for key, one in found.items()
        ]  # fmt: skip

    def s3_list_objects_v2(self, given: Given) -> Any:
        self.find_bucket(given)
        found = self.listed(given)[: given.get("MaxKeys")]
        return {"Contents": found} if found else {}

    def s3_list_object_versions(self, given: Given) -> Any:
        """Each kind in a list of its own, which is absent if there is none (S3 API reference, ListObjectVersions)."""
        found: dict[str, list[dict[str, str]]] = {}
        for (key, version), is_marker in self.versions.items():
            if key.startswith(given["Prefix"]):
                kind = found.setdefault("DeleteMarkers" if is_marker else "Versions", [])
                kind.append({"Key": key, "VersionId": version})
        return found

    def s3_head_object(self, given: Given) -> Any:
        if given["Key"] not in self.side(given):
            raise Refused("403" if (given["Bucket"], given["Key"]) == (SOURCE, "models/parked") else "404")
        found = self.side(given)[given["Key"]]
        shown = {name: value for name, value in found.items() if name not in ("Body", "Size")}
        return {"LastModified": MADE_AT, "ContentLength": len(found["Body"])} | shown

    def s3_get_object(self, given: Given) -> Any:
        found = self.side(given)[given["Key"]]
        return {name: value for name, value in found.items() if name not in ("Size", "LastModified")}

    def s3_complete_multipart_upload(self, given: Given) -> Any:
        self.written(given["Key"], {"Body": b"large"})
        return {"ETag": self.objects[given["Key"]]["ETag"]}

    def s3_list_multipart_uploads(self, given: Given) -> Any:
        return {"Uploads": [{"Key": f"{given['Prefix']}large.bin", "UploadId": "u"}]}


def another_source(call: Call) -> str | None:
    """No ETag of verify is a condition that holds."""
    return "PreconditionFailed" if "CopySourceIfMatch" in call.parameters else None


# --- the process ----------------------------------------------------------------------------------------------------

SLEEP = '() { command aws sleep "$1"; SECONDS=$((SECONDS + ${1%%.*})); }'
# As both generations of the CLI write it, without the rest of the lines: a session, and two pages of a listing.
DEBUG = "\n".join(
    f"2026-11-27 01:02:{time} - MainThread - botocore.endpoint - DEBUG - {line}"
    for time, line in [
        ("03,100", "Sending http request: <url=https://b/?session, >"),
        ("03,200", "Response headers: {}"),
        ("03,900", "Sending http request: <url=https://b/?list-type=2, >"),
        ("04,150", "Response headers: {}"),
        ("04,160", "Response body:\nb'<SecretAccessKey>'"),
        ("04,500", "Sending http request: <url=https://b/?list-type=2, >"),
        ("05,000", "Response headers: {}"),
    ]
)


class Verbs(Scripts):
    """Runs ./sync.sh in an account; `process` is the one that runs."""

    account: Operated
    process: subprocess.Popen[bytes]

    def __init__(self, folder: Path) -> None:
        super().__init__(None, folder)  # type: ignore[arg-type]
        self.version = "2.34.21"

    def answer_in(self, words: list[str]) -> tuple[int, int, str]:
        """(exit status, file descriptor, text) of a call of aws."""
        program, *words = words
        if words == ["--version"]:
            return 0, 1, f"aws-cli/{self.version} Python/3.13\n"
        if "--debug" in words:
            return self.account.status_of_debug, 2, DEBUG
        if "cp" in words:
            for file in sorted(Path(words[-2]).iterdir()):
                key = words[-1].removeprefix(f"s3://{SOURCE}/") + file.name
                self.account.s3_put_object({"Key": key, "Body": str(file)})
            return 0, 1, ""
        return self.shown(words if words[0] == "sleep" else [program, *words])

    def interrupt(self, number: int = signal.SIGINT) -> None:
        """Ctrl-C reaches all processes of a terminal."""
        os.killpg(self.process.pid, number)

    def sync(self, words: str, status: int | None = 0, typed: str = "", **settings: Any) -> Ran:
        """A command line, with $'...' as Bash has it."""
        return self.run_words(*split(words), status=status, typed=typed, **settings)

    def run_words(self, *words: str, status: int | None = 0, typed: str = "", shows: str = "", **settings: Any) -> Ran:
        """A terminal has what is typed, and shows the streams that are named."""
        environment = {
            "PATH": f"{self.folder}/programs:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder),
            "LC_ALL": "C.UTF-8",
            "TERM": "xterm",
            "REGION": REGION,
            "RETRY_LIMIT": "3",
            "BASH_FUNC_sleep%%": SLEEP,
        }
        if (PROJECT / f"operate/verbs/{words[0]}.py").exists():
            environment["FOLLOW_PAUSE"] = "0.01"  # which in Bash moves the clock
        screen, terminal = pty.openpty()
        output, errors = ((self.folder / name).open("w+b") for name in ("output", "errors"))
        with output, errors, contextlib.ExitStack() as stack:
            stack.callback(os.close, screen)
            files = {
                "stdin": terminal if typed else subprocess.DEVNULL,
                "stdout": terminal if "stdout" in shows else output,
                "stderr": terminal if "stderr" in shows else errors,
            }
            if typed:
                os.write(screen, typed.encode())
            self.calls, self.wrong = [], []
            # In a process group of its own, which Ctrl-C ends even if the tests run in the background.
            self.process = subprocess.Popen(
                [PROJECT / "sync.sh", *words],
                env=environment | {name: str(value) for name, value in settings.items()},
                start_new_session=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
                **files,
            )
            os.close(terminal)
            shown = b""
            with contextlib.suppress(OSError):  # all of it was read
                while (typed or shows) and (part := os.read(screen, 65536)):
                    shown += part
            code = self.process.wait(timeout=300)
            output.seek(0)
            errors.seek(0)
            texts = [file.read().decode() for file in (output, errors)]
        seen = shown.decode().replace("\r\n", "\n")
        texts = [seen if name in shows else text for name, text in zip(("stdout", "stderr"), texts, strict=True)]
        assert self.wrong == [], "\n".join(self.wrong)
        code = 128 - code if code < 0 else code  # Bash may end itself by the signal, which is the same status
        assert status in (None, code), texts
        assert words[0] not in ("status", "redrive", "verify", "cost") or "--json" in words or too_wide(texts[0]) == []
        return Ran(self.calls, *texts, code)


def too_wide(text: str) -> list[str]:
    """The lines of more than 80 columns, but for what is one word after what introduces it: it is to be copied."""
    plain, word = re.sub("\x1b\\[[0-9]+m", "", text).replace(MIRROR, "dst"), r'"[^"]*"|`[^`]*`|\S+'
    one_word = re.compile(rf"(?: *| *[a-z]+ {{2,}}|  Look closer: |- [a-z]+: )(?:{word})[:;,]?")
    return [line for line in plain.splitlines() if len(line) > 80 and not one_word.fullmatch(line)]


def rows_of_report(text: str) -> dict[str, list[str]]:
    """Of verify: what a row is about -> its other cells."""
    found = re.findall(r"^\| `([^`]+)` +\| (.*) \|$", text, re.MULTILINE)
    return {key: [cell.strip() for cell in rest.split(" | ")] for key, rest in found}


def split(words: str) -> list[str]:
    command = ["bash", "-c", f"for word in {words}; do printf '%s\\0' \"$word\"; done"]
    found = subprocess.run(command, capture_output=True, check=True).stdout
    return [os.fsdecode(word) for word in found.split(b"\0")[:-1]]


def deployed(**settings: str) -> Operated:
    """An account with a deployment of these settings, in which nothing is wrong and nothing goes on."""
    found = Operated()
    found.kept, found.parked = ready_scripts().with_deployment(**settings).kept, []
    found.decide()
    return found


@pytest.fixture(scope="module")
def verbs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Verbs]:
    found = Verbs(tmp_path_factory.mktemp("verbs"))
    with programs(found.folder, ["aws"], found.answer_in):
        yield found


@pytest.fixture
def account(verbs: Verbs) -> Operated:
    verbs.account = found = deployed()
    return found
