"""The starter's settings: the environment variables of the function. Those that people set are in settings.table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mirror.model.checks import Setting, check, problems_together, settings_of

SUBNET, SECURITY_GROUP = r"subnet-\w+", r"sg-\w+"
STARTED_BY, STARTED_BY_MEANING = r"[\w/-]{1,128}", "at most 128 letters, digits, hyphens, _ and /"

# What deploy.sh makes: name, default, values, meaning. The limits are those of the ECS API reference.
MADE = (
    ("CLUSTER", "", r"[\w:/-]+", "the name or ARN of the ECS cluster"),
    ("TASK_DEFINITION", "", r"[\w-]{1,255}", "the family of the worker's task definition"),
    ("SUBNETS", "", rf"{SUBNET}(,{SUBNET}){{0,15}}", "1 to 16 subnet IDs, separated by commas"),
    ("SECURITY_GROUPS", "", rf"{SECURITY_GROUP}(,{SECURITY_GROUP}){{0,4}}", "at most 5 security group IDs"),
    ("SRC_BUCKET", "", r"[a-z0-9.-]+", "the name of the source bucket"),  # which the guard looks at
    ("TAG_TASKS", "false", r"true|false", "true or false"),
    # As in_words() of launch/wanted.py makes it.
    ("GUARD", "", r"\d+( [0-9a-f]{6,8}){4}( \d+,\d+)?", "what deploy.sh makes of it"),
    ("LAMBDA_POLL_RATE", "0", "0..1440", "minutes"),  # 0: not known yet, in the middle of an upgrade
    ("ALARMS_TO", "", r"[0-9a-f]{6}", "what deploy.sh makes of ALARM_EMAIL"),
    ("METRICS", "false", r"true|false", "true or false"),  # by which there is an alarm more
    ("PAUSED_SINCE", "", "*", "when ./sync.sh pause was run"),  # anything but nothing pauses
    ("STARTED_BY", "s3-to-s3express-sync-starter", STARTED_BY, STARTED_BY_MEANING),
    ("AUDIT_STARTED_BY", "s3-to-s3express-sync-audit", STARTED_BY, STARTED_BY_MEANING),
)
REQUIRED = ("QUEUE_URL", "CLUSTER", "TASK_DEFINITION", "SUBNETS")
NAMES = {name for name, *_ in MADE}
SETTINGS = [setting for setting in settings_of("starter") if setting.name not in NAMES]
SETTINGS += [Setting(name, "made", "starter", *row) for name, *row in MADE]


def load_settings(environment: Mapping[str, str]) -> dict[str, Any]:
    """Settings under the names of their environment variables. Raises ValueError that names every wrong one."""
    settings, problems = check(SETTINGS, environment, REQUIRED)
    problems = problems or problems_together(settings)
    if problems:
        raise ValueError("wrong settings: " + "; ".join(problems))
    return settings
