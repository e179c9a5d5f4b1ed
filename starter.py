"""The Lambda function that decides how many workers to start now: messages, tasks -> decide() -> started.

It keeps nothing between two runs. What it has to know of earlier ones it reads from ECS, which shows a stopped task for
about an hour.
"""

from __future__ import annotations

import functools
import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from time import time
from typing import Any, NamedTuple

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

SUBNET, SECURITY_GROUP = r"subnet-\w+", r"sg-\w+"

# name -> (default or None when required, pattern, what it has to be); the limits are those of the ECS API reference.
TEXT_SETTINGS: dict[str, tuple[str | None, str, str]] = {
    "QUEUE_URL": (None, r"https?://\S+", "the URL of the SQS queue"),
    "CLUSTER": (None, r"[\w:/-]+", "the name or ARN of the ECS cluster"),
    "TASK_DEFINITION": (None, r"[\w-]{1,255}", "the family of the worker's task definition"),
    "SUBNETS": (None, rf"{SUBNET}(,{SUBNET}){{0,15}}", "1 to 16 subnet ids with commas between them"),
    "SECURITY_GROUPS": ("", rf"({SECURITY_GROUP}(,{SECURITY_GROUP}){{0,4}})?", "at most 5 security group ids"),
    "ASSIGN_PUBLIC_IP": ("ENABLED", r"ENABLED|DISABLED", "ENABLED or DISABLED"),
    "STARTED_BY": ("s3-to-s3express-sync-starter", r"[\w/-]{1,128}", "at most 128 letters, digits, hyphens, _ and /"),
}

# name -> (default, lowest, highest)
NUMBER_SETTINGS: dict[str, tuple[int, int, int]] = {
    "MAX_WORKERS": (2, 1, 1000),
    "MESSAGES_PER_WORKER": (10, 1, 1_000_000),
}

TASKS_PER_CALL = 10  # ECS API reference, RunTask: count
TASKS_PER_DESCRIBE = 100  # ECS API reference, DescribeTasks: tasks
MOST_STOPPED = 500  # stopped tasks that are looked at: ten calls, and the function has 60 seconds
MOST_STOPS = 100  # StopTask takes one task; the others count as running and are stopped by the next run

# The weights split the tasks of one call. Neither is a fallback for the other: "Fargate doesn't replace Spot capacity
# with on-demand capacity" (ECS developer guide, Fargate capacity providers), so a shortage is answered by ON_DEMAND.
# Which of the two gets the task of a call for one is not documented, so the report says what ECS says.
SPOT_FIRST = [{"capacityProvider": "FARGATE_SPOT", "weight": 4}, {"capacityProvider": "FARGATE", "weight": 1}]
ON_DEMAND = [{"capacityProvider": "FARGATE", "weight": 1}]

FAILURE_FIELDS = ("arn", "reason", "detail")
SHORTAGE = "Capacity is unavailable at this time"  # re:Post, "Fargate RunTask: capacity is unavailable"
INTERRUPTED = ("SpotInterruption", "TerminationNotice")  # stopCode of Spot, and its older name
GAVE_UP = "the starter found no Spot capacity in time"  # what StopTask tells, and what stoppedReason says from then on

SPOT_SECONDS = 300  # a shortage of Spot that lasts so long is answered with on-demand capacity
SHORTAGE_SECONDS = 900  # so long after its last sign, Spot is tried again

AT_ONCE_SECONDS = 60  # a worker that fails sooner after its start counts as one that never worked
PAUSE_SECONDS = (60, 900)  # shortest and longest pause between two attempts while workers do not get to work
OUTAGE_STATUS = 3  # exit status of a worker that could sync no key, whichever it tried (mirror/worker.py)
OUTAGE_SECONDS = 660  # one that runs for longer is in no outage: it would have ended after ten minutes

# What a process of the worker holds for sure before it receives no more: twice MAX_CONCURRENT_KEYS of 256 (has_room()
# in mirror/jobs.py). It may hold many more: long copies, keys that pause and more messages on one key take no slot.
HELD_BY_FULL_WORKER = 500

# Three attempts of the slowest kind end before the function's 60 seconds do, so that a failure is still reported.
CLIENT_CONFIG = Config(connect_timeout=3, read_timeout=12, retries={"mode": "standard", "total_max_attempts": 3})


def load_settings(environment: Mapping[str, str]) -> dict[str, Any]:
    """Settings under the names of their environment variables. Raises ValueError that names every wrong one."""
    settings: dict[str, Any] = {}
    problems = []
    for name, (default, pattern, meaning) in TEXT_SETTINGS.items():
        text = settings[name] = environment.get(name) or default
        if text is None:
            problems.append(f"{name} is not set, it has to be {meaning}")
        elif not re.fullmatch(pattern, text, re.ASCII):
            problems.append(f"{name}={text!r} has to be {meaning}")
    for name, (number, lowest, highest) in NUMBER_SETTINGS.items():
        text = environment.get(name) or str(number)
        settings[name] = int(text) if re.fullmatch(r"[0-9]+", text) else -1
        if not lowest <= settings[name] <= highest:
            problems.append(f"{name}={text!r} has to be a whole number from {lowest} to {highest}")
    if problems:
        raise ValueError("wrong settings: " + "; ".join(problems))
    return settings


@functools.cache
def clients() -> tuple[Any, Any]:
    """(SQS, ECS), made once for each environment that Lambda keeps; the Region is that of the function."""
    region = os.environ["AWS_REGION"]
    sqs = boto3.client("sqs", region_name=region, config=CLIENT_CONFIG)
    return sqs, boto3.client("ecs", region_name=region, config=CLIENT_CONFIG)


def count_messages(queue_url: str) -> tuple[int, int]:
    """(visible, in flight): approximate numbers of messages."""
    sqs, _ = clients()
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    found = sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=names)["Attributes"]
    return int(found[names[0]]), int(found[names[1]])


class Task(NamedTuple):
    """What counts of a task that the starter started. Times are Unix seconds."""

    arn: str
    created: float
    started: float | None = None
    ended: float | None = None
    wanted: bool = True  # ECS means to keep it running
    spot: bool = True
    pulling: bool = False  # it has a machine: the image is being pulled, or was
    stop_code: str = ""
    reason: str = ""
    exit_code: int | None = None

    @property
    def never_worked(self) -> bool:
        """It stopped without having started, failed at once (no such image; a wrong setting), or ended in an outage.

        Neither a shortage of capacity nor a stop by somebody is such a failure. A task that starts and ends again has
        startedAt and, beside a stop code, an exit code (ECS developer guide, "Stopped tasks error codes").
        """
        if self.exit_code == OUTAGE_STATUS:
            return True
        if self.wanted or self.stop_code in ("", "UserInitiated", *INTERRUPTED) or SHORTAGE in self.reason:
            return False
        if self.started is None:
            return True
        return self.exit_code not in (None, 0) and (self.ended or self.started) - self.started < AT_ONCE_SECONDS

    def worked(self, now: float, seconds: float) -> bool:
        """It started, and did not fail: it ran for so long, or ended by itself, as nothing was left to do."""
        if self.started is None or self.never_worked:
            return False
        done = self.stop_code == "EssentialContainerExited" and self.exit_code == 0
        return done or (self.ended or now) - self.started >= seconds

    def waits_for_spot(self, now: float) -> bool:
        """It is PROVISIONING or PENDING for too long. One that pulls its image has its capacity."""
        unstarted = self.wanted and self.started is None and not self.pulling
        return unstarted and self.spot and now - self.created >= SPOT_SECONDS

    def lacked_spot(self, now: float) -> bool:
        """It is a sign of a shortage of Spot (ECS developer guide, "Amazon ECS Fargate Spot": the three forms)."""
        if self.started is not None or not self.spot:
            return False
        stopped = self.stop_code in INTERRUPTED or GAVE_UP in self.reason or SHORTAGE in self.reason
        return stopped or self.waits_for_spot(now)


class Decision(NamedTuple):
    """What to do now."""

    running: int  # workers that run or start; not those that wait for Spot for too long
    wanted: int
    start: int = 0
    on_demand: bool = False  # start them without asking for Spot first
    stop: tuple[str, ...] = ()  # ARNs of the tasks that wait for Spot for too long
    failing: str = ""  # why workers do not get to work
    trial: str = ""  # why the others have to wait for one that runs


def wanted_workers(visible: int, in_flight: int, started: int, live: int, settings: Mapping[str, Any]) -> int:
    """The running ones, and what the visible messages need beyond them: one for each MESSAGES_PER_WORKER.

    Messages in flight start nobody: nobody could receive them. They are in work, or wait for their visibility timeout
    after their worker was killed. A worker that is starting, or runs and has room, stands for MESSAGES_PER_WORKER
    visible messages: it takes them within the second, but the count may be a minute old, and a worker started for each
    message seen in passing would never be idle long enough to end. A full worker stands for none, or what it has no
    room for would wait for hours behind long copies. Which one is full is not known, so it is reckoned from the
    messages in flight; nobody is full below MESSAGES_PER_WORKER. tests/scripts/starter_simulation.py compares this
    with simpler rules.
    """
    share, most = int(settings["MESSAGES_PER_WORKER"]), int(settings["MAX_WORKERS"])
    full = min(started, in_flight // max(HELD_BY_FULL_WORKER, share))
    return min(most, full + max(live - full, math.ceil(visible / share)))


def is_spot_short(tasks: Sequence[Task], now: float) -> bool:
    """Whether Spot has had no room for five minutes: there are signs of it, and no Spot task started since.

    A quarter of an hour after the last sign, and after an on-demand task, Spot is asked again. If that goes wrong the
    first sign is an old one, and on demand follows at once.
    """
    spot = [task for task in tasks if task.spot]
    last_start = max((task.started for task in spot if task.started is not None), default=0.0)
    signs = [(task.created, task.ended or now) for task in spot if task.lacked_spot(now)]
    signs = [(begin, end) for begin, end in signs if end > last_start]
    if not signs:
        return False
    begin, end = min(begin for begin, _ in signs), max(end for _, end in signs)
    helped = any(not task.spot and task.created >= end for task in tasks)
    return now - begin >= SPOT_SECONDS and not (helped and now - end >= SHORTAGE_SECONDS)


def failed_tasks(tasks: Sequence[Task], now: float) -> list[Task]:
    """Those that never worked since one did, the oldest first. After an outage, to have started is not to work."""
    failed = sorted((task for task in tasks if task.never_worked), key=lambda task: task.created)
    proof = OUTAGE_SECONDS if any(task.exit_code == OUTAGE_STATUS for task in failed) else 0
    last_good = max((task.created for task in tasks if task.worked(now, proof)), default=0.0)
    return [task for task in failed if task.created > last_good]


def next_attempt(failed: Sequence[Task]) -> float:
    """When to try again: the pause is as long as it has been going wrong, which doubles it each time."""
    shortest, longest = PAUSE_SECONDS
    times = [task.ended if task.ended and task.exit_code == OUTAGE_STATUS else task.created for task in failed]
    return max(times) + min(longest, max(shortest, max(times) - min(times)))


def describe_failure(failed: Sequence[Task], outlook: str) -> str:
    last = failed[-1]
    code = "" if last.exit_code is None else f" (exit code {last.exit_code})"
    number = "task" if len(failed) == 1 else f"{len(failed)} tasks"
    how = "ended in an outage" if last.exit_code == OUTAGE_STATUS else "stopped before working"
    return f"the last {number} {how}: {last.stop_code}: {last.reason}{code}; {outlook}"


def decide(visible: int, in_flight: int, tasks: Sequence[Task], now: float, settings: Mapping[str, Any]) -> Decision:
    """What to start and stop, from the numbers of messages and the tasks of the last hour; nothing else decides.

    A task that waits for Spot for too long is stopped, and not only left out of the count: when Spot returned it would
    run beside its successor, above MAX_WORKERS. If it starts in this very moment it hands its messages back.
    """
    stuck = [task for task in tasks if task.waits_for_spot(now)][:MOST_STOPS]
    live = [task for task in tasks if task.wanted and task not in stuck]
    started = sum(task.started is not None for task in live)
    wanted = wanted_workers(visible, in_flight, started, len(live), settings)
    start, failing, trial = max(0, wanted - len(live)), "", ""
    failed, starting = failed_tasks(tasks, now), started < len(live)
    if failed and start and not starting and any(task.created > failed[-1].created for task in live):
        start, trial = 0, describe_failure(failed, f"one is tried alone, until it has run for {OUTAGE_SECONDS} s")
    elif failed and (start or starting):
        pause = next_attempt(failed) - now
        start = 0 if starting or pause > 0 else 1
        waits = f"the next one is started in {pause:.0f} s"
        failing = describe_failure(failed, "the next one is starting" if start or starting else waits)
    short = is_spot_short(tasks, now)
    return Decision(len(live), wanted, start, short, tuple(task.arn for task in stuck), failing, trial)


def list_tasks(**selection: str) -> list[str]:
    """ARNs of at most MOST_STOPPED tasks that are to be stopped or stopped, or of all that are to run."""
    _, ecs = clients()
    limit = {"MaxItems": MOST_STOPPED} if selection.get("desiredStatus") == "STOPPED" else {}
    pages = ecs.get_paginator("list_tasks").paginate(**selection, PaginationConfig=limit)
    return [arn for page in pages for arn in page["taskArns"]]


def list_running(settings: Mapping[str, Any]) -> list[str]:
    """Workers of ours that are starting or running.

    startedBy "must be the only filter" (ECS API reference, ListTasks), and the default then is what we want: tasks that
    ECS means to keep running. A worker that drains after a Spot interruption is not among them: it receives no more and
    hands its messages back, so its successor has to start now and not when it is gone.
    """
    return list_tasks(cluster=settings["CLUSTER"], startedBy=settings["STARTED_BY"])


def list_stopped(settings: Mapping[str, Any]) -> list[str]:
    """Tasks of the last hour that are stopped or about to; others' too, as startedBy cannot be asked for here."""
    return list_tasks(cluster=settings["CLUSTER"], family=settings["TASK_DEFINITION"], desiredStatus="STOPPED")


def describe_tasks(settings: Mapping[str, Any], arns: Sequence[str], now: float) -> list[Task]:
    """The tasks among them that the starter started. One that ECS does not know any more is left out."""
    _, ecs = clients()
    found: list[Mapping[str, Any]] = []
    for first in range(0, len(arns), TASKS_PER_DESCRIBE):
        answer = ecs.describe_tasks(cluster=settings["CLUSTER"], tasks=list(arns[first : first + TASKS_PER_DESCRIBE]))
        found += answer["tasks"]
    return [read_task(task, now) for task in found if task.get("startedBy") == settings["STARTED_BY"]]


def read_task(found: Mapping[str, Any], now: float) -> Task:
    """A task as DescribeTasks tells it. Before it is PENDING it may have no createdAt (ECS API reference, Task)."""
    times = {name: value.timestamp() for name, value in found.items() if isinstance(value, datetime)}
    ends = [times[name] for name in ("executionStoppedAt", "stoppingAt", "stoppedAt") if name in times]
    containers = [container for container in found.get("containers", []) if container.get("name") == "worker"]
    return Task(
        arn=found["taskArn"],
        created=times.get("createdAt", now),
        started=times.get("startedAt"),
        ended=ends[0] if ends else None,
        wanted=found.get("desiredStatus") == "RUNNING",
        spot=found.get("capacityProviderName") == "FARGATE_SPOT",
        pulling="pullStartedAt" in times,
        stop_code=found.get("stopCode", ""),
        reason=found.get("stoppedReason", ""),
        exit_code=next((container.get("exitCode") for container in containers), None),
    )


def run_tasks(settings: Mapping[str, Any], count: int, strategy: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """(capacity provider of each started worker, reasons of the failures): a shortage is an answer with status 200.

    botocore makes a client token for each call, which its retries share and the next call does not: the answer to a
    used token would be the old one (ECS API reference, "Ensuring idempotency").
    """
    _, ecs = clients()
    network = {
        "subnets": settings["SUBNETS"].split(","),
        "securityGroups": [group for group in settings["SECURITY_GROUPS"].split(",") if group],
        "assignPublicIp": settings["ASSIGN_PUBLIC_IP"],
    }
    answer = ecs.run_task(
        cluster=settings["CLUSTER"],
        taskDefinition=settings["TASK_DEFINITION"],
        count=count,
        capacityProviderStrategy=strategy,
        networkConfiguration={"awsvpcConfiguration": network},
        startedBy=settings["STARTED_BY"],
    )
    providers = [task.get("capacityProviderName", "unknown") for task in answer["tasks"]]
    reasons = [" ".join(filter(None, map(failure.get, FAILURE_FIELDS))) for failure in answer["failures"]]
    return providers, reasons


def stop_tasks(settings: Mapping[str, Any], arns: Iterable[str]) -> list[str]:
    """Failures."""
    _, ecs = clients()
    try:
        for arn in arns:
            ecs.stop_task(cluster=settings["CLUSTER"], task=arn, reason=GAVE_UP)
    except (BotoCoreError, ClientError) as error:
        return [str(error)]
    return []


def start_workers(settings: Mapping[str, Any], count: int, on_demand: bool = False) -> tuple[list[str], list[str]]:
    """(capacity provider of each started worker, failures): Spot first, then on demand, or the other way round."""
    started: list[str] = []
    failures: list[str] = []
    try:
        for first in range(0, count, TASKS_PER_CALL):
            missing = min(TASKS_PER_CALL, count - first)
            for strategy in (ON_DEMAND, SPOT_FIRST) if on_demand else (SPOT_FIRST, ON_DEMAND):
                if missing > 0:
                    providers, reasons = run_tasks(settings, missing, strategy)
                    started += providers
                    failures += reasons
                    missing -= len(providers)
    except (BotoCoreError, ClientError) as error:
        failures.append(str(error))  # not the end: what was started before this call has to be in the report
    return started, failures


def look(settings: Mapping[str, Any], visible: int, in_flight: int) -> Decision:
    """Reads from ECS what the decision needs: if nothing waits, only how many workers run."""
    arns = list_running(settings)
    if not visible:  # an empty queue wants nobody; work under way wants those that do it
        return Decision(len(arns), min(len(arns), settings["MAX_WORKERS"]) if in_flight else 0)
    now = time()
    arns += [arn for arn in list_stopped(settings) if arn not in arns]
    return decide(visible, in_flight, describe_tasks(settings, arns, now), now, settings)


def handler(_event: object, _context: object) -> dict[str, Any]:
    """Starts the workers that are missing; returns and logs the numbers it decided on.

    Raises ValueError for wrong settings, botocore's error if the queue or the cluster cannot be read, and RuntimeError
    if ECS failed for another reason than a shortage of capacity, which the next run tries again, or if workers stop
    before they work: in every run until one works, so that the metric Errors tells.
    """
    settings = load_settings(os.environ)
    visible, in_flight = count_messages(settings["QUEUE_URL"])
    decision = look(settings, visible, in_flight)
    failures = stop_tasks(settings, decision.stop)
    started: list[str] = []
    if not failures:  # what could not be stopped is to have no successor beside it
        started, failures = start_workers(settings, decision.start, decision.on_demand)
    report = {
        "visible": visible,
        "in_flight": in_flight,
        "running": decision.running,
        "wanted": decision.wanted,
        "started": dict(Counter(started)),
        "stopped": len(decision.stop),
        "failures": failures,
        "failing": decision.failing,
        "trial": decision.trial,
    }
    print(json.dumps(report))
    errors = [failure for failure in failures if SHORTAGE not in failure]
    problems = [f"workers of {settings['TASK_DEFINITION']} were not started: {'; '.join(errors)}"] if errors else []
    if decision.failing:
        problems.append(f"workers of {settings['TASK_DEFINITION']} do not get to work: {decision.failing}")
    if problems:
        raise RuntimeError("; ".join(problems))
    return report
