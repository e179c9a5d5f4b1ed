"""usage: ./sync.sh pause

Copy nothing until ./sync.sh resume, and lose no event.

No worker is started. Running workers, including those of MIN_WORKERS, return
their messages to the queue and end, and the function copies nothing. A
reconcile that removes objects (--remove-unwanted or --remove-foreign) is
ended, too; others go on, because they only put keys on the queue. This
command returns when all of them have ended, usually within two minutes. From
then on the sync writes nothing to the destination. Rules and alarms continue,
and ./deploy.sh keeps the pause, even if somebody deletes the function.

Events wait in the queue, for 14 days at most. The alarm for the oldest message
goes off after a pause of an hour (ALARM_AGE_SECONDS).

A second pause keeps the time of the first. After Ctrl-C the sync is paused,
too; the next run of the starter stops the workers.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from operate import ending, text
from operate.cloud import Cloud, Denied, NoAnswer
from operate.deployment import Deployment
from operate.failure import wrong_usage
from operate.parts import need_function, read_function, read_oldest
from operate.pausing import begin_pause, end_work, events_until, need_pausable, paused_since, say_by_rule
from operate.times import epoch, epoch_or_none, iso

NO_DRY_RUN = "it stops workers and has no dry run"
UPDATE_SECONDS = 30  # after a change of the function's variables, no run begins with the old ones


def parse(words: Sequence[str]) -> None:
    for word in words:
        raise wrong_usage(f"pause: unknown option {text.visible(word)}")


def run(_options: None, deployment: Deployment, cloud: Cloud) -> int:
    function = need_function(read_function(cloud, deployment), deployment)
    need_pausable(function, deployment)
    since = paused_since(function)
    known = [since] if epoch_or_none(since) is not None else []  # since when it is paused, as soon as it is

    def say_interrupted() -> None:
        text.say(words_of_interruption(known, deployment.via))

    ending.at_end(say_interrupted)
    try:
        began = begin(known, deployment)
        end_work(deployment, began, "writers")
    finally:
        ending.forget(say_interrupted)  # of an error, something else is said
    say_end(known[0], deployment, cloud)
    return 0


def begin(known: list[str], deployment: Deployment) -> float:
    """Returns from when on each run of the starter knows of the pause. A pause that has begun keeps its time."""
    if known:
        text.say(f"the sync has been paused since {known[0]}")
        say_by_rule(deployment, known[0], "the sync stays paused; to write it there, too, run this again")
        return epoch(known[0]) + UPDATE_SECONDS

    now = time.time()
    say_by_rule(deployment, iso(now), "the sync is not paused; run this again")
    known.append(begin_pause(deployment, now))
    text.say("pause: nothing new is started; the workers return their messages to the queue")
    return time.time()


def say_end(since: str, deployment: Deployment, cloud: Cloud) -> None:
    now = time.time()
    oldest = read_oldest(cloud, deployment, now)
    unknown = oldest.error if isinstance(oldest, (Denied, NoAnswer)) else ""
    seconds = oldest if isinstance(oldest, int) else None
    until = events_until(epoch(since), seconds, now)
    text.say(
        f"paused since {since}: no worker runs, and nothing is copied. Events wait in the queue until {until}. To"
        f" continue: ./sync.sh{deployment.via} resume"
    )
    if unknown:
        text.say(f"messages that were waiting before may expire earlier, because their age is not known: {unknown}")


def words_of_interruption(known: Sequence[str], via: str) -> str:
    if not known:
        return f"pause: interrupted while the sync was being paused: ./sync.sh{via} status shows whether it is"
    return (
        f"pause: interrupted: the sync stays paused since {known[0]}. What still runs may write until it ends: the next"
        f" run of the starter stops workers, but no reconcile --remove-... To end both and wait: ./sync.sh{via} pause."
        f" To continue: ./sync.sh{via} resume"
    )
