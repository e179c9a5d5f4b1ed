"""Runs one command of the image in a task of its own, and follows its log until its summary.

    task = start_own(cloud, deployment, variables, "cost", "measure")
    followed = Followed(cloud, deployment, task, sys.stderr)
    summary = followed.to_its_end()
    task.has_ended()

A task of start_own() is stopped when the run ends before has_ended(), because nobody would learn what it finds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TextIO

from operate import ending, following, logs, text
from operate.cloud import Cloud, Denied, NoAnswer
from operate.deployment import Deployment
from operate.failure import Failure

LAST_LINES_TRIES = 10  # looks at the log of a task that has ended, until its last line is there
SHOWN = ("listed", "here", "keys/s", "folders", "far", "left")  # of a line of progress, on a terminal
EXIT_STATUSES = (0, 1, 2, 3)  # of the image's commands


# --- its start and its stop -------------------------------------------------------------------------------------------


class Task(NamedTuple):
    id: str
    at_end: Callable[[], None]

    def has_ended(self) -> None:
        """By itself, so there is nothing to do at the end of the run."""
        ending.forget(self.at_end)


def start_own(cloud: Cloud, deployment: Deployment, variables: Mapping[str, str], verb: str, *command: str) -> Task:
    """`variables`: of the function. `command`: one of the image, with its arguments."""

    def stop(task: str) -> None:
        words = ("--cluster", deployment.cluster_name, "--task", task)
        reason = ("--reason", f"./sync.sh {verb} of {deployment.app_name} ended")
        answer = cloud.ask("ecs", "stop-task", *words, *reason)
        if isinstance(answer, dict):
            text.say(f"task {task} is being stopped")
            return
        text.say(answer.error)
        cure = f"To stop it: {command_that_stops(deployment, task)}"
        text.say(f"task {task} may still be running, and costs money. {cure}")

    return start(cloud, deployment, variables, verb, *command, at_end=stop)


def start(
    cloud: Cloud,
    deployment: Deployment,
    variables: Mapping[str, str],
    verb: str,
    *command: str,
    at_end: Callable[[str], None],
) -> Task:
    """`at_end`: what to do with the task, by its id, if the run ends before it; that holds from the moment in which it
    is started. It runs on demand, because after an interruption it would have to start again. It is not the starter
    that has started it, so the starter does not count it."""
    with ending.signals_held():
        name = run_task(cloud, deployment, variables, f"{deployment.app_name}-{verb}", command)
        task = Task(name, lambda: at_end(name))
        ending.at_end(task.at_end)
    return task


def command_that_stops(deployment: Deployment, task: str) -> str:
    return f"aws ecs stop-task --region {deployment.region} --cluster {deployment.cluster_name} --task {task}"


def run_task(
    cloud: Cloud, deployment: Deployment, variables: Mapping[str, str], started_by: str, command: Sequence[str]
) -> str:
    """Its id. It has the tags of its task definition, or none if the caller may not tag."""
    network = {
        "assignPublicIp": variables.get("ASSIGN_PUBLIC_IP", ""),
        "subnets": items(variables.get("SUBNETS", "")),
        "securityGroups": items(variables.get("SECURITY_GROUPS", "")),
    }
    words = [
        *("--cluster", deployment.cluster_name, "--task-definition", variables.get("TASK_DEFINITION", "")),
        *("--capacity-provider-strategy", "capacityProvider=FARGATE,weight=1", "--started-by", started_by),
        *("--network-configuration", json.dumps({"awsvpcConfiguration": network})),
        *("--overrides", json.dumps({"containerOverrides": [{"name": "worker", "command": list(command)}]})),
    ]
    answer = None
    if variables.get("TAG_TASKS") == "true":
        answer = cloud.ask("ecs", "run-task", *words, "--propagate-tags", "TASK_DEFINITION")
        if isinstance(answer, Denied):
            if "ecs:TagResource" in answer.error:
                text.say(f"the task is started without tags: {answer.error}")
            answer = None
    if answer is None:
        answer = cloud.ask("ecs", "run-task", *words)
    if not isinstance(answer, dict):
        raise not_started(deployment, started_by, answer)

    for task in answer.get("tasks") or []:
        return str(task["taskArn"]).rpartition("/")[2]
    failures = json.dumps(answer.get("failures"))
    raise Failure(f"the task was not started: {failures}; try again in a few minutes")


def not_started(deployment: Deployment, started_by: str, answer: Any) -> Failure:
    """Without an answer of AWS, the task may run."""
    said = f"{deployment.cluster_name}: {answer.error}"
    if not isinstance(answer, NoAnswer) or answer.code:
        return Failure(said)
    lists = f"aws ecs list-tasks --region {deployment.region} --cluster {deployment.cluster_name}"
    return Failure(f"{said}; a task may have been started by that: {lists} --started-by {started_by}")


def items(value: str) -> list[str]:
    return value.split(",") if value else []


# --- its log and its end ----------------------------------------------------------------------------------------------


class Followed:
    """The task's log, which is written to a stream as it comes, but for the differences of a report: they are many, and
    for a file."""

    def __init__(self, cloud: Cloud, deployment: Deployment, task: Task, stream: TextIO) -> None:
        self.cloud, self.deployment, self.task, self.stream = cloud, deployment, task.id, stream
        source = following.Source(deployment.worker_log_group, (f"worker/worker/{task.id}",))
        self.log = following.Log(cloud, [source], since=0)
        self.differences: dict[int, dict[str, str]] = {}  # by their numbers: what and key
        self.lacking: list[dict[str, str]] = []  # key and why
        self.summary: dict[str, Any] | None = None

    def to_its_end(self) -> dict[str, Any]:
        """The summary; its `status` is the exit status of the command. The last lines of a task that has ended reach
        CloudWatch some seconds later; a task that something else has ended has no summary, and a log may drop lines."""
        tries = 0
        while True:
            has_stopped = described(self.cloud, self.deployment, self.task)["lastStatus"] == "STOPPED"
            if has_stopped:
                tries += 1
            self.look()
            if self.summary or tries >= LAST_LINES_TRIES:
                break
            following.pause()
        text.end_progress()
        return self.summary or self._end_without_summary()

    def look_again(self) -> None:
        """A log may show its last line before those above it."""
        following.pause()
        self.look()
        text.end_progress()

    def look(self) -> None:
        for page in self.log.look():
            for event in page:
                self._read(event.line)

    def _read(self, line: str) -> None:
        difference = logs.DIFFERENCE_FIELDS.fullmatch(line)
        if difference:
            found = {"what": difference["what"], "key": json.loads(difference["key"])}
            self.differences[int(difference["number"])] = found
            return

        progress = logs.PROGRESS_FIELDS.fullmatch(line)
        if progress and text.is_terminal(self.stream):
            text.show_progress(in_short(progress["rest"]), self.stream)
            return
        text.write_log(line, self.stream)

        lacking = logs.LACKING_FIELDS.fullmatch(line)
        if lacking:
            self.lacking.append({"key": json.loads(lacking["key"]), "why": lacking["why"]})
        self.summary = self.summary or logs.summary(line)

    def _end_without_summary(self) -> dict[str, Any]:
        """ECS knows how the worker ended. Any other exit status means that something else ended the task. GuardDuty may
        add a container of its own beside the worker."""
        task = described(self.cloud, self.deployment, self.task)
        codes = [one.get("exitCode") for one in task.get("containers") or [] if one["name"] == "worker"]
        status = next(iter(codes), None)
        if status in EXIT_STATUSES:
            text.say(f"the summary did not reach the log; the task itself ended with exit status {status}")
        else:
            reason = task.get("stoppedReason") or "no reason is known"
            text.say(f"the task ended without a summary: {reason}")
            status = 3
        return {"end": "without summary", "status": status}


def described(cloud: Cloud, deployment: Deployment, task: str) -> dict[str, Any]:
    """What ECS says of the task; after an hour it does not know one that has ended any more."""
    answer = cloud.need("ecs", "describe-tasks", "--cluster", deployment.cluster_name, "--tasks", task)
    return dict(next(iter(answer.get("tasks") or []), {"lastStatus": "STOPPED"}))


def in_short(progress: str) -> str:
    shown = [word for word in progress.split() if word.partition("=")[0] in SHOWN and "=" in word]
    return " ".join(["progress:", *shown])
