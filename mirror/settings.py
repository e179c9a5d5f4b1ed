"""The worker's settings: environment variables, which mirror/model/settings.table has with defaults and values."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from mirror.model.checks import check, problems_together, settings_of
from mirror.model.delta import problems_of_tables
from mirror.model.selection import Wanted, items_of, wanted_of

HELD_PER_SLOT = 4  # a worker that holds this many messages, or keys, for each of MAX_CONCURRENT_KEYS receives no more

# Of the worker in the function. The end of an invocation has to have time for the events; the pause after one that was
# slow is short, because the events of a pause are lost, and an invocation has few seconds.
FUNCTION_KEYS = 16  # at a time
FUNCTION_PATIENCE = 5  # seconds that a key waits for others without progress
FUNCTION_MAX_SIZE = 64 * 1024**2  # default of STARTER_MAX_SIZE, which the starter has checked
FUNCTION_EVENT_SECONDS, FUNCTION_EVENT_PAUSE = 1.5, 0.1


@dataclass(frozen=True)
class Settings:
    """The worker's settings, one field for each environment variable of the same name in upper case, and those that
    only load_function_settings() sets."""

    region: str
    src_bucket: str
    dst_bucket: str
    queue_url: str
    prefix_filter: str
    src_bucket_owner: str
    dst_bucket_owner: str
    log_level: str
    copy_last: str
    tables: str
    announce: str
    exclude: str
    rollbacks: str
    s3_client: str
    visibility_timeout: int
    visibility_extend_interval: int
    wait_time_seconds: int
    empty_polls_before_exit: int
    max_receives: int
    retry_base_seconds: int
    copy_timeout: int
    multipart_threshold: int
    part_size: int
    max_concurrent_parts: int
    max_concurrent_keys: int
    processes: int
    task_memory: int
    keep_days: int
    metrics: str
    app_name: str
    alarm_lag_seconds: int
    in_function: bool = False  # and not in a task
    largest: int = 0  # bytes; larger objects are handed back, with 0 none are
    patience: int = 20  # seconds that a key waits here while nothing of what it needs arrives
    event_seconds: float = 6  # for all events of a batch of messages
    event_pause: float = 30  # after a failure to send events, in which none is sent

    @property
    def calls_at_once(self) -> int:
        """The threads that calls may need: one for each part, and one for each key that is held."""
        return self.max_concurrent_parts + HELD_PER_SLOT * self.max_concurrent_keys

    @property
    def announces(self) -> bool:
        return self.announce != "none"

    @property
    def may_roll_back(self) -> bool:
        """Whether an older version in a versioned source may be current again because a newer one was deleted."""
        return self.rollbacks == "true"

    @functools.cached_property
    def wanted(self) -> Wanted:
        return wanted_of(self.prefix_filter, self.exclude, self.keep_days)

    @functools.cached_property
    def shortest_visibility(self) -> int:
        """Seconds. A message of a worker that died must not come back while a copy of that worker may still be running
        in S3: one that began when the message was to be extended next."""
        return self.visibility_extend_interval + self.copy_timeout


REQUIRED = ("QUEUE_URL", "REGION", "SRC_BUCKET", "DST_BUCKET")
# What deploy.sh checks in another way: with the account, or as lists.
PATTERNS = {
    "SRC_BUCKET": r"(?!.*--x-s3$)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]",
    "DST_BUCKET": r"[a-z0-9][a-z0-9-]*--[a-z0-9-]+--x-s3",
    "PREFIX_FILTER": r"[^\ud800-\udfff]*",
    "COPY_LAST": r"[^\x00-\x1f\x7f]*",
    "EXCLUDE": r"[^\x00-\x1f\x7f\ud800-\udfff]{0,500}",
}
SETTINGS = [setting._replace(values=PATTERNS.get(setting.name, setting.values)) for setting in settings_of("worker")]


def load_settings(environment: dict[str, str], unused: tuple[str, ...] = ()) -> Settings:
    """Reads the settings from environment variables; those that are `unused` are not checked. Raises a ValueError that
    names every wrong one and what it has to be."""
    used = [setting for setting in SETTINGS if setting.name not in unused]
    # A worker that somebody runs elsewhere does not know the memory of its task.
    values, problems = check(used, {"TASK_MEMORY": "0"} | environment, REQUIRED)
    problems = problems or problems_together(values) + problems_of_lists(values) + problems_of_tables(values)
    if problems:
        raise ValueError("; ".join(problems))
    values |= {name: environment.get(name) for name in unused}
    return Settings(**{name.lower(): value for name, value in values.items()})


def load_function_settings(environment: dict[str, str]) -> Settings:
    """Reads the settings of the worker in the function: those of a task, except for what a short life and little memory
    change. Nothing is copied in parts. Raises ValueError as load_settings() does.

    The visibility timeout of a message is that of a task: VISIBILITY_EXTEND_INTERVAL + COPY_TIMEOUT, from the receive
    or the latest heartbeat on. So if this process is killed in the middle of a copy, its message comes back only after
    S3 must have ended that copy, as with a task that is killed. With the default interval an invocation is over before
    its first heartbeat is due.
    """
    settings = load_settings(environment)
    return replace(
        settings,
        s3_client="boto3",
        wait_time_seconds=1,
        empty_polls_before_exit=1,
        max_concurrent_parts=1,
        max_concurrent_keys=min(FUNCTION_KEYS, settings.max_concurrent_keys),
        processes=1,
        in_function=True,
        largest=min(int(environment.get("STARTER_MAX_SIZE") or FUNCTION_MAX_SIZE), settings.multipart_threshold),
        patience=min(FUNCTION_PATIENCE, settings.patience),
        event_seconds=FUNCTION_EVENT_SECONDS,
        event_pause=FUNCTION_EVENT_PAUSE,
    )


def problems_of_lists(values: Mapping[str, str]) -> list[str]:
    problems = []
    for name in ("PREFIX_FILTER", "EXCLUDE"):
        text = values[name]
        if "" in items_of(text):
            problems.append(f"{name}={text!r} has an empty item")
        if re.search(r" ,|(?<!\\), ", text):
            problems.append(f"{name}={text!r} has a space next to a comma: remove it, or it becomes part of a key")
    return problems
