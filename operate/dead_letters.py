"""Reads the dead-letter queue without changing it, and finds out why and when its keys failed."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mirror.model.message_keys import keys_of
from operate import logs
from operate.cloud import Cloud, Denied, Missing, NoAnswer, Unread
from operate.deployment import Deployment
from operate.parts import numbers_of, read_queue
from operate.times import iso

SHOWN = 100  # messages
BATCH = 10  # that SQS gives out or takes back at once
HIDDEN_SECONDS = 30  # for which a message that is looked at is invisible, unless it is given back
MOST_LINES = 10_000
MOST_OF_BODY = 200  # characters of a message that is no event
NOT_IN_LOG = "not in the log any more"


class Looked(NamedTuple):
    """The first messages, and how many the queue held before, as SQS counts them: approximately."""

    messages: list[dict[str, Any]]
    all: int


def look_at_messages(cloud: Cloud, deployment: Deployment) -> Looked | Unread:
    """None is seen twice, because those already seen stay invisible meanwhile, as do those that somebody else is
    looking at."""
    queue = read_queue(cloud, deployment.dlq_name)
    if isinstance(queue, (Denied, NoAnswer)):
        return queue
    if queue is None:
        cure = f"run ./deploy.sh{deployment.via}, or set REGION and APP_NAME"
        return NoAnswer(f"there is no queue {deployment.dlq_name} in {deployment.region}: {cure}")

    found: list[dict[str, Any]] = []
    url = ("--queue-url", queue["QueueUrl"])
    failure: Any = None
    while len(found) < SHOWN:
        ten = receive(cloud, url)
        if isinstance(ten, (Missing, Denied, NoAnswer)):
            failure = ten
            break
        if not ten:
            break
        found += ten

    given_back = give_back(cloud, url, found)
    failure = failure or given_back
    if failure:
        return NoAnswer(failure.error, failure.code)
    return Looked(found, sum(numbers_of(queue).values()))


def receive(cloud: Cloud, url: Sequence[str]) -> Any:
    """Up to ten messages."""
    wait = ("--wait-time-seconds", "1", "--visibility-timeout", str(HIDDEN_SECONDS))
    answer = cloud.ask(
        "sqs", "receive-message", *url, "--max-number-of-messages", str(BATCH), *wait, "--attribute-names", "All"
    )
    return [in_short(message) for message in answer.get("Messages", [])] if isinstance(answer, dict) else answer


def in_short(message: Mapping[str, Any]) -> dict[str, Any]:
    sent = int(message["Attributes"]["SentTimestamp"]) // 1000
    body = message["Body"]
    return {
        "id": message["MessageId"],
        "handle": message["ReceiptHandle"],
        "body": body,
        "sent": sent,
        "keys": keys_in(body),
    }


def keys_in(body: str) -> list[str]:
    """None of a message that is no event."""
    try:
        return keys_of(json.loads(body))
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        return []


def give_back(cloud: Cloud, url: Sequence[str], messages: Sequence[Mapping[str, Any]]) -> Any:
    """Makes them visible again. Returns the first answer that is none; they are visible after HIDDEN_SECONDS anyway."""
    for start in range(0, len(messages), BATCH):
        entries = [
            {"Id": str(number), "ReceiptHandle": message["handle"], "VisibilityTimeout": 0}
            for number, message in enumerate(messages[start : start + BATCH])
        ]
        answer = cloud.ask("sqs", "change-message-visibility-batch", *url, "--entries", json.dumps(entries))
        if not isinstance(answer, dict):
            return answer
    return None


def unseen(looked: Looked) -> str:
    """How many messages were not seen, and why; nothing if all were."""
    seen = len(looked.messages)
    if looked.all <= seen:
        return ""
    if seen >= SHOWN:
        return f"these are the first {seen} of about {looked.all} messages in the dead-letter queue"
    more = looked.all - seen
    what = "1 message" if more == 1 else f"{more} messages"
    return (
        f"{what} cannot be seen, because somebody else is looking at the dead-letter queue, for example in the console"
        " of SQS: try again in a minute"
    )


def with_reasons(cloud: Cloud, groups: Sequence[str], messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The messages, with why and when each of their keys failed last, from the log since the oldest of them was sent.
    Without the log, which may be slow or denied, they are still worth seeing and moving."""
    if not messages:
        return []
    oldest = min(message["sent"] for message in messages)
    query = logs.newest(logs.FAILED_LINE, MOST_LINES)
    rows = logs.query(cloud, groups, int(time.time()) - oldest + 60, query)
    unknown = NOT_IN_LOG if isinstance(rows, list) else f"not known: {rows.error}"

    last: dict[str, dict[str, Any]] = {}
    for failure in logs.failures(logs.messages(rows)) if isinstance(rows, list) else []:
        last.setdefault(failure["key"], {"at": failure["at"], "reason": failure["reason"]})
    return [with_reason(message, last, unknown) for message in messages]


def with_reason(message: Mapping[str, Any], last: Mapping[str, Mapping[str, Any]], unknown: str) -> dict[str, Any]:
    """`last`: when each key failed last, and why. `unknown`: the reason of others."""
    never = {"at": None, "reason": unknown}
    keys = [{**last.get(key, never), "key": key} for key in message["keys"]]
    shown = {"id": message["id"], "sent": iso(message["sent"]), "keys": keys}
    if not keys:
        shown["body"] = message["body"][:MOST_OF_BODY]
    return shown
