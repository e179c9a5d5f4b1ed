"""The table of settings, and what is wrong with a value of one.

deploy.sh reads the same table (lib/record.sh). The starter has this file, too, so it imports nothing else of mirror/.
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
        if limits := self.limits:
            lowest, highest = limits
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
    rows = [line.split(" ", 5) for line in lines if not line.startswith("#")]
    return [Setting(*row)._replace(default="" if row[3] == "-" else row[3].strip("()")) for row in rows]


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
