"""usage: ./sync.sh wait [--prefix P] [--timeout 1h] [--exact] [--deep]
                      [--allow-empty] [--examples N] [--json]

Wait until everything now in the source is in the destination.

Each key is waited for in the version that the source has now, or a newer one,
by a task of its own, which needs about a minute to start and costs what a
worker does. The image's own command "wait" begins at once: a job runs it as
its first step. Several can wait at once. Ctrl-C also stops the task.

  --prefix P     only keys that begin with P (default: PREFIX_FILTER)
  --timeout 1h   the longest wait from the moment when the task runs: a number
                 and s, m, h or d
  --exact        also wait until objects that the source no longer has are gone
                 from the destination
  --deep         look at every object on both sides, not only at sizes and
                 times, and compare their checksums ("checked", "unchecked")
  --allow-empty  end with 0 even if the source has no key under --prefix;
                 --exact implies it
  --examples N   keys to name at the timeout (default 100)
  --json         the numbers and the missing keys ("missing_keys") as JSON on
                 stdout, the log on stderr

If the source has no key under --prefix, it ends at once ("end":"empty").
At the timeout the missing keys are listed, and why: waiting; archived; corrupt;
failing, with the reason from the log, and whether a message on them is in the
dead-letter queue; trouble, if the key could not be looked at.

Exit status: 0 complete; 1 keys are missing at the timeout, or there is none
under --prefix; 2 wrong usage; 3 it could not be determined, or the task did not
end by itself; 130 interrupted.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from operate import logs, text
from operate.cloud import Cloud, Denied, NoAnswer
from operate.dead_letters import MOST_LINES, NOT_IN_LOG, look_at_messages, unseen
from operate.deployment import Deployment
from operate.failure import Failure, wrong_usage
from operate.options import check_number, check_prefix, duration_of, value_of
from operate.parts import need_function, pause_of, read_function, variables_of
from operate.tasks import Followed, start_own
from operate.text import quoted

UNKNOWN = 3  # exit status
SECONDS_OF_FAILURES = 10_800  # how far back the log is read, or as far as a message in the dead-letter queue is old
ARCHIVED = "archived"
Row = Mapping[str, str]


class Options(NamedTuple):
    arguments: tuple[str, ...] = ()  # of the image's command
    prefix: str = ""
    as_json: bool = False


def parse(words: Sequence[str]) -> Options:
    arguments, prefix, as_json, left = list[str](), "", False, list(words)
    while left:
        word = left.pop(0)
        if word == "--json":
            as_json = True
        elif word in ("--exact", "--deep", "--allow-empty"):
            arguments.append(word)
        elif word in ("--prefix", "--timeout", "--examples"):
            value = value_of(word, left)
            arguments += [word, value]
            if word == "--prefix":
                check_prefix("wait: --prefix", value)
                prefix = value
            elif word == "--timeout":
                duration_of("wait: --timeout", value, "1h")
            else:
                check_number("wait: --examples", value)
        else:
            raise wrong_usage(f"wait: unknown option {text.visible(word)}")
    return Options(tuple(arguments), prefix, as_json)


def run(options: Options, deployment: Deployment, cloud: Cloud) -> int:
    """Only the task itself ends with 1, which means that keys are missing."""
    try:
        return wait(options, deployment, cloud)
    except Failure as failure:
        raise Failure(str(failure), UNKNOWN) from None


def wait(options: Options, deployment: Deployment, cloud: Cloud) -> int:
    function = need_function(read_function(cloud, deployment), deployment)
    variables = variables_of(function)
    paused = pause_of(variables, deployment, "nothing would arrive before")
    if paused:
        raise Failure(paused)

    task = start_own(cloud, deployment, variables, "wait", "wait", *options.arguments)
    text.say(
        f"task {task.id} waits until {what_is_awaited(deployment, options.prefix)}; it starts in about a minute"
        " (the image's own command wait starts at once); its log:"
    )
    followed = Followed(cloud, deployment, task, sys.stderr if options.as_json else sys.stdout)
    summary = followed.to_its_end()
    task.has_ended()
    if summary["status"]:
        look_again(followed)

    keys = with_reasons(cloud, deployment, variables, followed.lacking)
    if options.as_json:
        text.print_json({**summary, "missing_keys": keys}, on_one_line=True)
    else:
        text.print_lines(rows(keys, summary.get("lacking", 0)), 4)
    return int(summary["status"])


def look_again(followed: Followed) -> None:
    """Without it, keys may not be named, but the numbers are those of the task."""
    try:
        followed.look_again()
    except Failure as failure:
        text.say(f"wait: whether the log names more keys is not known: {failure}")


def what_is_awaited(deployment: Deployment, prefix: str) -> str:
    source, destination = (f"s3://{deployment.settings[name]}" for name in ("SRC_BUCKET", "DST_BUCKET"))
    under = f" under {quoted(prefix)}" if prefix else ""
    return f"{destination} has everything{under} that {source} has"


def rows(keys: Sequence[Row], missing: int) -> Iterator[str]:
    if not keys:
        return
    yield ""
    yield "missing:"
    for one in keys:
        yield f"  {quoted(one['key'])}  {one['why']}"
    if missing > len(keys):
        yield f"  and {missing - len(keys)} more: --examples names more of them"


# --- why keys are missing --------------------------------------------------------------------------------------------


def with_reasons(
    cloud: Cloud, deployment: Deployment, variables: Mapping[str, str], keys: Sequence[Row]
) -> Sequence[Row]:
    """Of keys that failed in the last three hours, or since a message on them is in the dead-letter queue, the worker's
    reason. Without it, the keys are still listed, and the exit status does not change."""
    if all(is_archived(one) for one in keys):
        return keys

    looked = look_at_messages(cloud, deployment)
    if isinstance(looked, (Denied, NoAnswer)):
        text.say(f"wait: the reasons why keys fail could not be read: {looked.error}")
        return keys
    if unseen(looked):
        text.say(unseen(looked))
    named = {one["key"] for one in keys}
    messages = [message for message in looked.messages if named.intersection(message["keys"])]
    parked = {key for message in messages for key in message["keys"]}

    now = int(time.time())
    since = min([now - SECONDS_OF_FAILURES, *(message["sent"] for message in messages)])
    groups = logs.groups_of(deployment, variables.get("STARTER_COPIES") == "true")
    found = logs.query(cloud, groups, now - since + 60, logs.newest(logs.FAILED_LINE, MOST_LINES))
    if isinstance(found, (Denied, NoAnswer)):
        text.say(f"wait: the reasons why keys fail could not be read: {found.error}")
        return keys

    newest: dict[str, str] = {}
    for failure in logs.failures(logs.messages(found)):
        newest.setdefault(failure["key"], failure["reason"])
    return [explained(one, newest.get(one["key"]), one["key"] in parked, deployment.via) for one in keys]


def explained(one: Row, reason: str | None, is_parked: bool, via: str) -> Row:
    """Of an archived key there is no more to say."""
    if is_archived(one) or not (reason or is_parked):
        return one
    where = f"; it is in the dead-letter queue: ./sync.sh{via} redrive" if is_parked else ""
    return {**one, "why": f"failing: {reason or NOT_IN_LOG}{where}"}


def is_archived(one: Row) -> bool:
    return one["why"].startswith(ARCHIVED)
