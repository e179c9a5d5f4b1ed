"""The worker's settings: environment variables, their defaults and their valid values."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Any

from mirror.model.delta import LOG_EXAMPLES, may_be_in_log
from mirror.model.limits import MAX_COPY_SIZE, MAX_SQS_DELAY, MAX_SQS_VISIBILITY, MIB, MIN_PART_SIZE
from mirror.model.selection import Wanted, items_of, wanted_of

EXCLUDE_MEANING = "at most 500 characters of patterns, separated by commas, such as *.tmp,*/_temporary/*"
HELD_PER_SLOT = 4  # a worker that holds this many messages, or keys, for each of MAX_CONCURRENT_KEYS receives no more


@dataclass(frozen=True)
class Settings:
    """The worker's settings, one field for each environment variable of the same name in upper case, and two that
    mirror/function.py sets."""

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

    @property
    def calls_at_once(self) -> int:
        """The threads that calls may need: one for each part, and one for each key that is held."""
        return self.max_concurrent_parts + HELD_PER_SLOT * self.max_concurrent_keys

    @property
    def announces(self) -> bool:
        return self.announce != "none"

    @property
    def has_metrics(self) -> bool:
        return self.metrics == "true"

    @property
    def may_roll_back(self) -> bool:
        """Whether an older version in a versioned source may be current again because a newer one was deleted."""
        return self.rollbacks == "true"

    @property
    def announces_synced(self) -> bool:
        return self.announce.startswith(("markers", "all"))

    @property
    def announces_failures(self) -> bool:
        return self.announce.endswith("failures")

    @functools.cached_property
    def wanted(self) -> Wanted:
        return wanted_of(self.prefix_filter, self.exclude, self.keep_days)

    @functools.cached_property
    def shortest_visibility(self) -> int:
        """Seconds. A message of a worker that died must not come back while a copy of that worker may still be running
        in S3: one that began when the message was to be extended next."""
        return self.visibility_extend_interval + self.copy_timeout


ANNOUNCE_MEANING = "none, markers, all or failures, or markers,failures or all,failures"

# name -> (default or None when required, pattern, what it has to be)
TEXT_SETTINGS: dict[str, tuple[str | None, str, str]] = {
    "REGION": (None, r"[a-z]{2}(-[a-z]+)+-\d+", "a Region such as eu-north-1"),
    "SRC_BUCKET": (None, r"(?!.*--x-s3$)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", "the name of a general purpose bucket"),
    "DST_BUCKET": (None, r"[a-z0-9][a-z0-9-]*--[a-z0-9-]+--x-s3", "a directory bucket: NAME--ZONE_ID--x-s3"),
    "QUEUE_URL": (None, r"https?://\S+", "the URL of the SQS queue"),
    "PREFIX_FILTER": ("", r"[^\ud800-\udfff]*", "beginnings of keys, in UTF-8, separated by commas"),
    "SRC_BUCKET_OWNER": ("", r"(\d{12})?", "a 12-digit account ID"),
    "DST_BUCKET_OWNER": ("", r"(\d{12})?", "a 12-digit account ID"),
    "COPY_LAST": ("", r"[^\x00-\x1f\x7f]*", "patterns of keys, separated by commas, such as _SUCCESS,*.done"),
    "TABLES": ("", r"(delta)?", "delta, or nothing"),
    "ANNOUNCE": ("none", r"(none|markers|all|failures)(,failures)?", ANNOUNCE_MEANING),
    "EXCLUDE": ("", r"[^\x00-\x1f\x7f\ud800-\udfff]{0,500}", EXCLUDE_MEANING),
    "ROLLBACKS": ("true", r"true|false", "true, or false if versions are never permanently deleted"),
    "S3_CLIENT": ("crt", r"crt|boto3", "crt or boto3"),
    "METRICS": ("false", r"true|false", "true or false"),
    "APP_NAME": ("s3-to-s3express-sync", r"[a-z][a-z0-9-]{1,49}", "2 to 50 lower-case letters, digits and hyphens"),
    "LOG_LEVEL": ("INFO", r"DEBUG|INFO|WARNING|ERROR", "DEBUG, INFO, WARNING or ERROR"),
}

# name -> (default, lowest, highest)
NUMBER_SETTINGS: dict[str, tuple[int, int, int]] = {
    "VISIBILITY_TIMEOUT": (7200, 2, MAX_SQS_VISIBILITY),
    "VISIBILITY_EXTEND_INTERVAL": (300, 1, MAX_SQS_VISIBILITY),
    "WAIT_TIME_SECONDS": (20, 1, 20),
    "EMPTY_POLLS_BEFORE_EXIT": (3, 0, 1000),  # 0: it never ends by itself
    "MAX_RECEIVES": (3, 1, 1000),
    "RETRY_BASE_SECONDS": (30, 1, 3600),
    "COPY_TIMEOUT": (900, 1, MAX_SQS_DELAY),
    "MULTIPART_THRESHOLD": (MAX_COPY_SIZE, MIN_PART_SIZE, MAX_COPY_SIZE),
    "PART_SIZE": (64 * MIB, MIN_PART_SIZE, MAX_COPY_SIZE),
    "MAX_CONCURRENT_PARTS": (256, 1, 1024),
    "MAX_CONCURRENT_KEYS": (256, 1, 1024),
    "PROCESSES": (1, 1, 64),
    "TASK_MEMORY": (0, 0, 249_856),  # MiB; 0: not known
    "KEEP_DAYS": (0, 0, 3650),  # 0: forever
    "ALARM_LAG_SECONDS": (900, 60, 1_209_600),
}


def load_settings(environment: dict[str, str], unused: tuple[str, ...] = ()) -> Settings:
    """Reads the settings from environment variables; the texts that are `unused` are not checked. Raises a ValueError
    that names every wrong one and what it has to be."""
    values: dict[str, Any] = {}
    problems = []
    for name, (default, pattern, meaning) in TEXT_SETTINGS.items():
        text = environment.get(name) or default
        values[name.lower()] = text
        if name in unused:
            continue
        if text is None:
            problems.append(f"{name} is not set, it has to be {meaning}")
        elif not re.fullmatch(pattern, text, re.DOTALL):
            problems.append(f"{name}={text!r} has to be {meaning}")
    for name, (number, lowest, highest) in NUMBER_SETTINGS.items():
        text = environment.get(name) or str(number)
        values[name.lower()] = int(text) if re.fullmatch(r"[0-9]+", text) else -1
        if not lowest <= values[name.lower()] <= highest:
            problems.append(f"{name}={text!r} has to be a whole number from {lowest} to {highest}")
    problems = problems or problems_together(Settings(**values))
    if problems:
        raise ValueError("; ".join(problems))
    return Settings(**values)


def problems_together(settings: Settings) -> list[str]:
    """Returns what is wrong between settings that are right by themselves; see shortest_visibility."""
    problems, lowest = [], settings.shortest_visibility
    if settings.visibility_timeout < lowest:
        problems.append(
            f"VISIBILITY_TIMEOUT={settings.visibility_timeout} has to be at least {lowest}: "
            "VISIBILITY_EXTEND_INTERVAL plus COPY_TIMEOUT"
        )
    for name, text in (("PREFIX_FILTER", settings.prefix_filter), ("EXCLUDE", settings.exclude)):
        if "" in items_of(text):
            problems.append(f"{name}={text!r} has an empty item")
        if re.search(r" ,|(?<!\\), ", text):
            problems.append(f"{name}={text!r} has a space next to a comma: remove it, or it becomes part of a key")
    if settings.announce.startswith("markers") and not settings.copy_last:
        problems.append("ANNOUNCE=markers needs COPY_LAST, which says what a marker is")
    return problems + (problems_of_tables(settings) if settings.tables else [])


def problems_of_tables(settings: Settings) -> list[str]:
    """Returns what cuts through a table."""
    problems = []
    if settings.keep_days:
        problems.append(f"KEEP_DAYS={settings.keep_days} has to be 0 with TABLES: a table needs its files at any age")
    if any(map(settings.wanted.excludes, LOG_EXAMPLES)):
        problems.append(f"EXCLUDE={settings.exclude!r} may not leave out files of a table's log with TABLES")
    if cut := next((item for item in items_of(settings.copy_last) if may_be_in_log(item.strip())), None):
        problems.append(f"COPY_LAST has {cut!r}, which may not be for files of a table's log with TABLES: take it out")
    return problems
