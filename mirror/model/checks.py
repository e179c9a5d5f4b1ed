"""The table of settings, what is wrong with a value, and what is wrong between values that are right by themselves.

deploy.sh reads the same table (lib/settings.sh), and asks what is wrong between values (operate/wanted.py): this runs
on Python 3.7. The starter has this file, too, so it imports nothing else of mirror/.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple


class Setting(NamedTuple):
    """A line of settings.table, whose head says what the columns mean."""

    name: str
    kept: str
    reader: str
    default: str
    values: str
    meaning: str

    @property
    def limits(self) -> tuple[int, int] | None:
        """The lowest and the highest value that a reader takes; None if it is no number."""
        found = re.fullmatch(r"(?:(\d+)/)?(\d+)\.\.(\d+)", self.values)
        return (int(found[1] or found[2]), int(found[3])) if found else None

    def problem(self, text: str) -> str:
        """What is wrong with this value of a reader, and what it has to be; nothing if it is right."""
        meaning = self.meaning
        if self.limits:
            lowest, highest = self.limits
            meaning = f"a whole number from {lowest} to {highest}"
            is_right = bool(re.fullmatch(r"[0-9]+", text)) and lowest <= int(text) <= highest
        else:
            is_right = self.values == "*" or text == self.default or bool(re.fullmatch(self.values, text, re.ASCII))
        return "" if is_right else f"{self.name}={text!r} has to be {meaning}"


# Not a setting: deploy.sh makes it.
QUEUE_URL = Setting("QUEUE_URL", "made", "both", "", r"https?://\S+", "the URL of the SQS queue")


def read_table() -> list[Setting]:
    # Not by pathlib, which takes longer to load than all of this file; each verb of sync.sh begins here.
    folder = __file__.rpartition("/")[0]
    with open(f"{folder}/settings.table", encoding="utf-8") as file:  # noqa: PTH123
        lines = file.read().splitlines()
    return [read_row(line) for line in lines if not line.startswith("#")]


def read_row(line: str) -> Setting:
    setting = Setting(*line.split(" ", 5))
    if setting.default == "-":
        return setting._replace(default="")
    return setting._replace(default=setting.default.strip("()"))


TABLE = read_table()


def settings_of(reader: str) -> list[Setting]:
    """`reader`: worker or starter."""
    return [QUEUE_URL, *(setting for setting in TABLE if setting.reader in (reader, "both"))]


def check(
    settings: Iterable[Setting], environment: Mapping[str, str], required: Iterable[str]
) -> tuple[dict[str, Any], list[str]]:
    """(the values by name, numbers as such; what is wrong with them). Those that are `required` have no default."""
    values: dict[str, Any] = {}
    problems = []
    for setting in settings:
        text = environment.get(setting.name) or ("" if setting.name in required else setting.default)
        if not text and setting.name in required:
            problem = f"{setting.name} is not set, it has to be {setting.meaning}"
        else:
            problem = setting.problem(text)
        problems += [problem] if problem else []
        values[setting.name] = int(text) if setting.limits and not problem else text
    return values, problems


def problems_together(values: Mapping[str, Any]) -> list[str]:
    """Goes by the values that check() returns. A rule is left out unless the reader is given all of its settings, and
    each is right by itself. What cuts through a table is in delta.py."""
    numbers = {name: value for name, value in values.items() if isinstance(value, int)}
    problems = []

    if {"MIN_WORKERS", "MAX_WORKERS"} <= numbers.keys():
        lowest, highest = numbers["MIN_WORKERS"], numbers["MAX_WORKERS"]
        if lowest > highest:
            problems.append(
                f"MIN_WORKERS={lowest} is more than MAX_WORKERS={highest}: lower the one or raise the other"
            )

    # A message of a worker that died must not come back while its copy may still be running in S3.
    if {"VISIBILITY_TIMEOUT", "VISIBILITY_EXTEND_INTERVAL", "COPY_TIMEOUT"} <= numbers.keys():
        timeout = numbers["VISIBILITY_TIMEOUT"]
        lowest = numbers["VISIBILITY_EXTEND_INTERVAL"] + numbers["COPY_TIMEOUT"]
        if timeout < lowest:
            problems.append(
                f"VISIBILITY_TIMEOUT={timeout}: set at least {lowest}, VISIBILITY_EXTEND_INTERVAL plus COPY_TIMEOUT, or"
                " messages come back while their copies are still running"
            )

    if values.get("ANNOUNCE", "").startswith("markers") and not values["COPY_LAST"]:
        problems.append("ANNOUNCE=markers: set COPY_LAST, which says what a marker is")
    return problems
