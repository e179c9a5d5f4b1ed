"""usage: ./sync.sh redrive [--list] [--purge [--yes]] [--json]

Show what is in the dead-letter queue, and retry it.

Shows the first 100 messages: the key, when it failed last, and why. Then moves
all messages back to the queue.

  --list   only show, also with --purge
  --purge  delete all instead; asks first
  --yes    do not ask
  --json   what is shown as JSON on stdout, everything else on stderr
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from operate import logs, text
from operate.cloud import Cloud, Denied, NoAnswer, Once
from operate.dead_letters import MOST_LINES, NOT_IN_LOG, Looked, look_at_messages, unseen, with_reasons
from operate.deployment import Deployment
from operate.failure import Failure, wrong_usage
from operate.parts import Part, is_unread, pause_of, read_function, variables_of
from operate.text import quoted

DRY_RUN = "--list"
LIST, MOVE, PURGE = "list", "move", "purge"
POLL_SECONDS = 1
Messages = Sequence[Mapping[str, Any]]


class Options(NamedTuple):
    action: str = MOVE
    assume_yes: bool = False
    as_json: bool = False


def parse(words: Sequence[str]) -> Options:
    for word in words:
        if word not in ("--list", "--purge", "--yes", "--json"):
            raise wrong_usage(f"redrive: unknown option {text.visible(word)}")
    action = MOVE
    if "--purge" in words:
        action = PURGE
    if "--list" in words:
        action = LIST
    return Options(action, "--yes" in words, "--json" in words)


def run(options: Options, deployment: Deployment, cloud: Cloud) -> int:
    function = Once[Part](lambda: read_function(cloud, deployment))
    with text.progress("redrive: reading messages and the log"):
        looked, messages = read(cloud, deployment, function)

    if options.as_json:
        text.print_json(messages, on_one_line=True)
    else:
        text.print_lines(rows(messages), 4)
    for hint in hints(looked, messages, options.action, deployment.via):
        text.say(hint)

    if not (looked.messages or looked.all):
        text.say("the dead-letter queue is empty")
    elif options.action == LIST:
        text.say(f"nothing was moved; when the reasons are fixed: ./sync.sh{deployment.via} redrive")
    elif options.action == PURGE:
        purge(cloud, deployment, options.assume_yes)
    elif looked.messages:
        move(cloud, deployment, function)
    else:
        raise Failure("nothing was moved")
    return 0


def read(cloud: Cloud, deployment: Deployment, function: Once[Part]) -> tuple[Looked, list[dict[str, Any]]]:
    looked = look_at_messages(cloud, deployment)
    if isinstance(looked, (Denied, NoAnswer)):
        raise Failure(looked.error)
    if not looked.messages:
        return looked, []
    copies = is_unread(function()) or variables_of(function()).get("STARTER_COPIES") == "true"
    return looked, with_reasons(cloud, logs.groups_of(deployment, copies), looked.messages)


# --- what is shown ---------------------------------------------------------------------------------------------------


def rows(messages: Messages) -> Iterator[str]:
    """Each key once, in the order of keys, and then what is no event."""
    named = [one for message in messages for one in message["keys"]]
    times = Counter(one["key"] for one in named)
    first: dict[str, Mapping[str, Any]] = {}
    for one in named:
        first.setdefault(one["key"], one)

    for key, one in sorted(first.items()):
        count = f" ({times[key]} messages)" if times[key] > 1 else ""
        yield f"{quoted(key)}{count}"
        failed = f"failed {one['at']}" if one["at"] else "the failure is"
        yield f"  {failed} {one['reason']}"
    yield from (f"no S3 event, sent {one['sent']}: {one['body']}" for one in messages if "body" in one)


def hints(looked: Looked, messages: Messages, action: str, via: str) -> Iterator[str]:
    """What was not seen, what a reason that is missing may mean, and what to do with those that no retry turns into
    events. A worker cannot know which key they name."""
    if unseen(looked):
        yield unseen(looked)

    missing = {one["key"] for message in messages for one in message["keys"] if one["reason"] == NOT_IN_LOG}
    if missing:
        expire = "its lines expire (LOG_RETENTION_DAYS), may be dropped"
        retries = f"./sync.sh{via} redrive retries {'it' if len(missing) == 1 else 'them'} as well"
        only = f"only the newest {MOST_LINES} are read"
        yield f"the log has no failure of {text.amount(len(missing), 'key')}: {expire}, and {only}; {retries}"

    unreadable = sum(not message["keys"] for message in messages)
    purges = "" if action == PURGE else f" When nothing else is left: ./sync.sh{via} redrive --purge"
    if unreadable == 1:
        said = "1 of these is not an S3 event: if you move it back, it fails again and returns here. Find out"
        yield f"{said} who sent it.{purges}"
    elif unreadable:
        said = (
            f"{unreadable} of these are not S3 events: if you move them back, they fail again and return here. Find out"
        )
        yield f"{said} who sent them.{purges}"


# --- what is done ----------------------------------------------------------------------------------------------------


def move(cloud: Cloud, deployment: Deployment, function: Once[Part]) -> None:
    """All messages, also those that were not seen."""
    found = function()
    if isinstance(found, (Denied, NoAnswer)):
        raise Failure(f"nothing was moved, because whether the sync is paused is not known: {found.error}")
    paused = pause_of(variables_of(found), deployment, "no worker runs before")
    if paused:
        text.say(paused)

    ends = ("--source-arn", deployment.dlq_arn)
    cloud.need("sqs", "start-message-move-task", *ends, "--destination-arn", deployment.queue_arn)
    while True:
        found = cloud.need("sqs", "list-message-move-tasks", *ends, "--max-results", "1")
        task = (found.get("Results") or [{}])[0]
        if task.get("Status") != "RUNNING":
            break
        time.sleep(POLL_SECONDS)
    if task.get("Status") != "COMPLETED":
        raise Failure(f"not all messages could be moved back: {json.dumps(task, indent=2)}")
    moved = text.amount(task["ApproximateNumberOfMessagesMoved"], "message")
    text.say(f"{moved} moved back to the queue, for the next worker to retry")


def purge(cloud: Cloud, deployment: Deployment, assume_yes: bool) -> None:
    name, via = deployment.dlq_name, deployment.via
    if not assume_yes:
        kept = "Their keys stay as they are until they change again."
        text.need_yes(f"Delete all messages of {name}? {kept}", "nothing was deleted")
    found = cloud.need("sqs", "get-queue-url", "--queue-name", name)
    cloud.need("sqs", "purge-queue", "--queue-url", found["QueueUrl"])
    text.say(f"all messages of {name} are deleted; ./sync.sh{via} reconcile finds the keys that they named")
