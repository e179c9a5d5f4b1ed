"""usage: ./sync.sh logs [worker|starter] [--since 15m] [--follow] [--json]

The log of the workers or of the starter.

  without a name: what the workers did, and the starter if it copies
  (STARTER_COPIES); worker: only the workers; starter: all that the starter
  wrote: its decisions, its failures, and each of its runs

  --since   how far back: a number and s, m, h or d (default 15m)
  --follow  continue until Ctrl-C
  --json    one JSON object per line: timestamp (ms), logStreamName, message
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import NamedTuple

from operate import following, text
from operate.cloud import Cloud
from operate.deployment import Deployment
from operate.failure import wrong_usage
from operate.following import Event, Log, Source
from operate.options import duration_of, value_of
from operate.parts import is_unread, read_function, variables_of


class Options(NamedTuple):
    name: str = ""  # "worker", "starter", or nothing
    seconds: int = 900
    follow: bool = False
    as_json: bool = False


def parse(words: Sequence[str]) -> Options:
    found, left = Options(), list(words)
    while left:
        word = left.pop(0)
        if word in ("worker", "starter"):
            found = found._replace(name=word)
        elif word == "--since":
            seconds = duration_of("logs: --since", value_of(word, left), "15m")
            found = found._replace(seconds=seconds)
        elif word == "--follow":
            found = found._replace(follow=True)
        elif word == "--json":
            found = found._replace(as_json=True)
        else:
            raise wrong_usage(f"logs: unknown option {text.visible(word)}")
    return found


def run(options: Options, deployment: Deployment, cloud: Cloud) -> int:
    line = as_json if options.as_json else as_text
    log = Log(cloud, sources(options.name, deployment, cloud), time.time() - options.seconds)
    while True:
        for page in log.look():
            text.write_lines(map(line, page))
        if not options.follow:
            return 0
        following.pause()


def sources(name: str, deployment: Deployment, cloud: Cloud) -> list[Source]:
    if name == "worker":
        return following.logs_of(deployment, copies=False)
    if name == "starter":
        return [Source(deployment.starter_log_group)]
    function = read_function(cloud, deployment)
    copies = is_unread(function) or variables_of(function).get("STARTER_COPIES") == "true"
    return following.logs_of(deployment, copies)


def as_text(event: Event) -> str:
    return event.line


def as_json(event: Event) -> str:
    found = {"timestamp": event.timestamp, "logStreamName": event.stream, "message": event.message}
    return text.visible(json.dumps(found, separators=(",", ":"), ensure_ascii=False))
