"""What PREFIX_FILTER, EXCLUDE and COPY_LAST select, and what is wrong between settings: for lib/wanted.sh.

It goes by the rules of those that read the settings. Reads them from the environment, and prints a JSON object: what
they come to, what deploy.sh says about it, and what is wrong with it. This runs on what users have: Python 3.7 or
newer.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote_plus

from mirror.model.checks import TABLE, check, problems_together
from mirror.model.delta import problems_of_tables
from mirror.model.selection import items_of, pattern_for, wanted_of, without_covered, written_items

MOST_PREFIXES = 20  # each has a notification of S3 and a line in two policies of IAM
# Bytes: all variables of a function have 4 KB, and COPY_LAST is one of them.
MOST_OF_PREFIX_FILTER, MOST_OF_EXCLUDE, MOST_OF_ALL_PATTERNS = 1024, 500, 2024
MOST_OF_A_FILTER = 1024  # characters (S3 API reference, FilterRule)
MOST_OF_A_PATTERN = 2048  # characters (EventBridge User Guide, "Quotas")
# Of how many beginnings of wildcards one key may be at the same time. EventBridge refuses more as too complex; it does
# not say how many that are, but its matcher is public (aws/event-ruler), and reports from the field agree.
MOST_WILDCARD_BEGINNINGS = 10


def main() -> None:
    given = {name.decode(errors="replace"): value for name, value in os.environb.items()}
    settings = {name: value.decode(errors="replace") for name, value in given.items()}
    not_text = [name for name in ("PREFIX_FILTER", "EXCLUDE") if settings[name].encode() != given[name]]
    values, _ = check(TABLE, settings, ())
    found = selection(settings, not_text)
    found["problems"] += problems_together(values) + problems_of_tables(values)
    text = json.dumps(found, ensure_ascii=False) + "\n"
    sys.stdout.buffer.write(text.encode())


def selection(settings: Mapping[str, str], not_text: Sequence[str]) -> dict[str, Any]:
    """`not_text`: those of both lists that are not UTF-8, for which they are refused."""
    prefixes = wanted_of(settings["PREFIX_FILTER"], "", 0).prefixes
    patterns = items_of(settings["EXCLUDE"])
    of_all_below = [one for one in patterns if one.endswith("*")]
    prefixes_left_out = {prefix: pattern_for(prefix, of_all_below) for prefix in prefixes}
    pattern = event_pattern(settings["SRC_BUCKET"], prefixes, by_rule(patterns))
    problems = []
    if "PREFIX_FILTER" not in not_text:
        problems += problems_of_prefixes(settings, pattern)
    if "EXCLUDE" not in not_text:
        problems += problems_of_exclude(settings, patterns, prefixes_left_out)
    return {
        "first": ([*items_of(settings["PREFIX_FILTER"]), ""])[0],
        "prefixes": prefixes,
        "readable": without_covered(re.split("[^\x00-\xff]", prefix)[0] for prefix in prefixes),
        "filters": [as_event(prefix) for prefix in prefixes],
        "excluded": patterns,
        "event_pattern": pattern,
        "told": told_of_prefixes(settings, prefixes)
        + [
            f"EXCLUDE: {pattern} leaves out everything under the prefix {prefix}"
            for prefix, pattern in prefixes_left_out.items()
            if pattern is not None
        ],
        "not_text": not_text,
        "problems": problems + problems_of_size(settings),
    }


def as_event(prefix: str) -> str:
    """As S3's events write keys, and with them its filters: a space is +, other special characters are encoded (S3 User
    Guide, "Configuring event notifications using object key name filtering", and reports from the field)."""
    return quote_plus(prefix, safe="/")


def event_pattern(bucket: str, prefixes: Sequence[str], excluded: Sequence[str]) -> dict[str, Any]:
    """Of the rule of EVENT_SOURCE=eventbridge. In these events a key is as it is, and so is a prefix. A rule takes one
    of several prefixes, but not prefixes and exclusions of the same key: then the latter are left to the workers, which
    look at each key anyway."""
    detail: dict[str, Any] = {"bucket": {"name": [bucket]}}
    if prefixes != ("",):
        detail["object"] = {"key": [{"prefix": prefix} for prefix in prefixes]}
    elif excluded:
        detail["object"] = {"key": [{"anything-but": {"wildcard": excluded}}]}
    types = ["Object Created", "Object Deleted", "Object Restore Completed"]
    return {"source": ["aws.s3"], "detail-type": types, "detail": detail}


def by_rule(patterns: Iterable[str]) -> list[str]:
    """The patterns of EXCLUDE that a rule may hold, as far as they go: those with "*" alone, which means the same."""
    held, beginnings = [], 0
    for pattern in patterns:
        if not re.search(r"[?\[\\]|\*\*", pattern) and beginnings + beginnings_of(pattern) <= MOST_WILDCARD_BEGINNINGS:
            held.append(pattern)
            beginnings += beginnings_of(pattern)
    return held


def beginnings_of(pattern: str) -> int:
    """A key may be within a part as often as the part's first letter is in it."""
    first, *parts = pattern.split("*")
    number = bool(first) + len(parts)
    for part in filter(None, parts):
        is_ascii = part[0] <= "~"
        number += part.count(part[0]) if is_ascii else len(re.findall("[^ -~]", part))
    return number


def told_of_prefixes(settings: Mapping[str, str], prefixes: Sequence[str]) -> list[str]:
    """A single prefix, which is the usual case, needs no explanation."""
    told = []
    if len(prefixes) > 1:
        told.append(f"{len(prefixes)} prefixes are synced: {', '.join(prefixes)}")
    written = written_items(settings["PREFIX_FILTER"])
    for one in sorted(set(written)):
        cover = next(prefix for prefix in prefixes if one.startswith(prefix))
        if cover != one:
            told.append(f"{one} is covered by {cover}")
        elif written.count(one) > 1:
            told.append(f"{one} is listed {written.count(one)} times")
    return [f"PREFIX_FILTER: {text}" for text in told]


# --- what is wrong ----------------------------------------------------------------------------------------------------


def problems_of_items(name: str, text: str) -> list[str]:
    """An empty item would stand for all keys, and a space beside a comma is a slip rather than meant."""
    items = written_items(text)
    last = len(items) - 1
    clean = [item.lstrip(" ") if number else item for number, item in enumerate(items)]
    clean = [item.rstrip(" ") if number < last else item for number, item in enumerate(clean)]
    instead = ",".join(item.replace(",", "\\,") for item in clean if item) or "nothing"
    unclean = [number for number in range(len(items)) if not items[number] or items[number] != clean[number]]
    return [
        f"{name}={text}: item {number + 1}, {json.dumps(items[number], ensure_ascii=False)}, is empty or has a space"
        f" next to a comma: set {instead}"
        for number in unclean[:1]
    ]


def problems_of_prefixes(settings: Mapping[str, str], pattern: Mapping[str, Any]) -> list[str]:
    """S3 limits a filter in its encoded form, which is never shorter than the prefix, so one prefix alone has no other
    limit. It compares prefixes as its events write them, and IAM reads some characters as wildcards."""
    text = settings["PREFIX_FILTER"]
    name, items, size = f"PREFIX_FILTER={text}", items_of(text), len(text.encode())
    problems = []
    for item in filter(None, items):
        of = "" if item == text else f' instead of "{item}"'
        length = len(as_event(item))
        if re.search(r"[*?$]", item):
            problems.append(f"{name}: set a prefix without * ? and ${of}, which IAM would read as wildcards")
        if length > MOST_OF_A_FILTER:
            problems.append(
                f"{name}: set a shorter prefix{of}, because it has {length} characters in the encoded form of S3's"
                f" events, and S3 takes {MOST_OF_A_FILTER}"
            )
    problems += problems_of_items("PREFIX_FILTER", text)
    if len(items) < 2:
        return problems
    if len(items) > MOST_PREFIXES:
        problems.append(
            f"{name}: set at most {MOST_PREFIXES} prefixes, not {len(items)}; a common beginning can replace several"
            " of them"
        )
    if size > MOST_OF_PREFIX_FILTER:
        problems.append(
            f"{name}: set fewer or shorter prefixes, of at most {MOST_OF_PREFIX_FILTER} bytes in all, not {size}"
        )
    length = len(json.dumps(pattern, ensure_ascii=False, separators=(",", ":")).encode())
    if settings["EVENT_SOURCE"] == "eventbridge" and length > MOST_OF_A_PATTERN:
        problems.append(
            f"{name}: set fewer or shorter prefixes, because EventBridge takes a pattern of {MOST_OF_A_PATTERN}"
            f" characters, and this one would have {length}"
        )
    return problems


def problems_of_exclude(
    settings: Mapping[str, str], patterns: Sequence[str], prefixes_left_out: Mapping[str, str | None]
) -> list[str]:
    text = settings["EXCLUDE"]
    name, size = f"EXCLUDE={text}", len(text.encode())
    problems = []
    if size > MOST_OF_EXCLUDE:
        problems.append(f"{name}: set fewer or shorter patterns, of at most {MOST_OF_EXCLUDE} bytes in all, not {size}")
    problems += problems_of_items("EXCLUDE", text)
    # Each key has a character.
    everything = [one for one in patterns if "*" in one and one.replace("*", "") in ("", "?")]
    if everything:
        problems.append(f"{name}: {everything[0]} leaves out every key, so that nothing would be synced: remove it")
    elif None not in prefixes_left_out.values():
        problems.append(
            f"{name} leaves out every key of PREFIX_FILTER={settings['PREFIX_FILTER']}, so that nothing would be"
            " synced: remove patterns, or add prefixes"
        )
    return problems


def problems_of_size(settings: Mapping[str, str]) -> list[str]:
    size = len("".join(settings[name] for name in ("PREFIX_FILTER", "EXCLUDE", "COPY_LAST")).encode())
    if size <= MOST_OF_ALL_PATTERNS:
        return []
    return [
        f"PREFIX_FILTER, EXCLUDE and COPY_LAST together have {size} bytes: set fewer or shorter ones, of at most"
        f" {MOST_OF_ALL_PATTERNS} bytes, because all variables of a Lambda function together have 4 KB"
    ]


if __name__ == "__main__":
    main()
