"""What the options of several verbs have in common. Each function raises Failure for wrong usage."""

from __future__ import annotations

import re

from operate import text
from operate.failure import wrong_usage
from operate.times import seconds_of


def value_of(option: str, left: list[str]) -> str:
    """Takes it from the words that follow the option."""
    if not left:
        raise wrong_usage(f"{option} needs a value")
    return left.pop(0)


def duration_of(option: str, value: str, example: str) -> int:
    """Seconds."""
    seconds = seconds_of(value)
    if seconds is None:
        raise wrong_usage(f"{option} {text.visible(value)} is not a duration such as {example}")
    return seconds


def check_number(option: str, value: str) -> None:
    """A whole number that the worker takes."""
    if not re.fullmatch("[0-9]{1,12}", value):
        raise wrong_usage(f"{option} {text.visible(value)} is not a whole number")


def check_prefix(option: str, value: str) -> None:
    if re.search("[\ud800-\udfff]", value):
        raise wrong_usage(f"{option} {text.visible(value)} is not UTF-8, as all keys are")
