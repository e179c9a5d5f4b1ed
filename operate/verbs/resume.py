"""usage: ./sync.sh resume

End a pause: the sync continues with the waiting messages.

The next run of the starter, within LAMBDA_POLL_RATE minutes, starts workers for
the waiting messages. If the sync is not paused, this says so and changes
nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from launch.queues import SECONDS
from operate import text
from operate.cloud import Cloud, Denied, NoAnswer
from operate.deployment import Deployment
from operate.failure import Failure, wrong_usage
from operate.parts import Part, need_function, numbers_of, read_function, read_queue
from operate.pausing import end_pause, paused_since, say_by_rule
from operate.times import epoch_or_none

NO_DRY_RUN = "it lets workers start and has no dry run"
COUNTS = "that the sync is paused, which counts if the function is gone; run this again"


def parse(words: Sequence[str]) -> None:
    for word in words:
        raise wrong_usage(f"resume: unknown option {text.visible(word)}")


def run(_options: None, deployment: Deployment, cloud: Cloud) -> int:
    since = paused_since(need_function(read_function(cloud, deployment), deployment))
    if not since:
        text.say("the sync is not paused")
        say_by_rule(deployment, "", f"the rule may still say {COUNTS}")
        return 0

    end_pause(deployment)
    queue = read_queue(cloud, deployment.queue_name)
    text.say(f"the sync continues, after a pause since {since}{waiting(queue)}")
    for hint in hints(since, time.time(), deployment):
        text.say(hint)
    say_by_rule(deployment, "", f"the sync continues, but the rule still says {COUNTS}")
    if isinstance(queue, (Denied, NoAnswer)):
        raise Failure(f"how many messages are waiting is not known: {queue.error}")
    if queue is None:
        cure = f"run ./deploy.sh{deployment.via}, or set REGION and APP_NAME"
        raise Failure(f"there is no queue {deployment.queue_name} in {deployment.region}: {cure}")
    return 0


def waiting(queue: Part) -> str:
    if not isinstance(queue, dict):
        return ""
    number = sum(numbers_of(queue).values())
    return f", with {text.amount(number, 'message')} in the queue for the next run of the starter"


def hints(since: str, now: float, deployment: Deployment) -> Iterator[str]:
    """What to do if events may have been lost in the pause."""
    reconcile = f"run ./sync.sh{deployment.via} reconcile, too"
    began = epoch_or_none(since)
    if began is None:
        unknown = "when the pause began is not known, because PAUSED_SINCE was not a time"
        yield f"{unknown}: if it lasted longer than the 14 days for which the queue keeps a message, {reconcile}"
    elif now - began >= SECONDS:
        yield f"that is longer than the 14 days for which the queue keeps a message: {reconcile}"
