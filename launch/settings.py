"""The starter's settings: the environment variables of the function, their defaults and their valid values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

SUBNET, SECURITY_GROUP = r"subnet-\w+", r"sg-\w+"
SWITCH, SWITCH_MEANING = r"true|false", "true or false"
STARTED_BY, STARTED_BY_MEANING = r"[\w/-]{1,128}", "at most 128 letters, digits, hyphens, _ and /"

# name -> (default or None when required, pattern, what it has to be); the limits are those of the ECS API reference.
TEXT_SETTINGS: dict[str, tuple[str | None, str, str]] = {
    "QUEUE_URL": (None, r"https?://\S+", "the URL of the SQS queue"),
    "CLUSTER": (None, r"[\w:/-]+", "the name or ARN of the ECS cluster"),
    "TASK_DEFINITION": (None, r"[\w-]{1,255}", "the family of the worker's task definition"),
    "SUBNETS": (None, rf"{SUBNET}(,{SUBNET}){{0,15}}", "1 to 16 subnet IDs, separated by commas"),
    "SECURITY_GROUPS": ("", rf"({SECURITY_GROUP}(,{SECURITY_GROUP}){{0,4}})?", "at most 5 security group IDs"),
    "ASSIGN_PUBLIC_IP": ("ENABLED", r"ENABLED|DISABLED", "ENABLED or DISABLED"),
    "STARTER_COPIES": ("false", SWITCH, SWITCH_MEANING),
    "TAG_TASKS": ("false", SWITCH, SWITCH_MEANING),
    "SRC_BUCKET": ("", r"[\w.-]*", "the name of the source bucket"),
    "SRC_BUCKET_OWNER": ("", r"(\d{12})?", "an account ID"),
    # As launch/path.py makes it, in_words().
    "GUARD": ("", r"(\d+( [0-9a-f]{6,8}){4}( \d+,\d+)?)?", "what deploy.sh makes of it"),
    "PAUSED_SINCE": ("", r"(?s).*", "when ./sync.sh pause was run"),  # anything but nothing pauses
    "STARTED_BY": ("s3-to-s3express-sync-starter", STARTED_BY, STARTED_BY_MEANING),
    "AUDIT_STARTED_BY": ("s3-to-s3express-sync-audit", STARTED_BY, STARTED_BY_MEANING),
}

# name -> (default, lowest, highest)
NUMBER_SETTINGS: dict[str, tuple[int, int, int]] = {
    "MAX_WORKERS": (2, 1, 1000),
    "MIN_WORKERS": (0, 0, 1000),
    "MESSAGES_PER_WORKER": (10, 1, 1_000_000),
    # Of a worker, to know when it is full. deploy.sh passes the PROCESSES that its tasks get.
    "MAX_CONCURRENT_KEYS": (256, 1, 1024),
    "PROCESSES": (1, 1, 64),
    "STARTER_MAX_SIZE": (67_108_864, 1, 5_368_709_120),
    "AUDIT_DAYS": (0, 0, 90),  # 0: no audits
}


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
    if not problems and settings["MIN_WORKERS"] > settings["MAX_WORKERS"]:
        problems.append(
            f"MIN_WORKERS={settings['MIN_WORKERS']} is more than MAX_WORKERS={settings['MAX_WORKERS']}: "
            "lower the one or raise the other"
        )
    if problems:
        raise ValueError("wrong settings: " + "; ".join(problems))
    return settings
